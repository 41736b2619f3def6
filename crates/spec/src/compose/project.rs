//! A Compose project after loading: every file merged, every variable put in, every short form written long, and each
//! value still knowing its place.
//!
//! Owns the shape that the loader makes and the converter reads. Values are typed as the Compose specification has them;
//! nothing here is judged: what lith can honour is the converter's matter.

use std::collections::BTreeMap;
use std::time::Duration;

use lith_core::job::file::Content;
use lith_core::job::{Bytes, CpuMillis, Transport};

use crate::document::Span;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) span: Span,
}

impl<T> At<T> {
    pub(crate) fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

/// All of it. Only services whose profiles are on are in it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Project {
    /// `name:`; what the caller was told, or the folder's name, is its matter.
    pub(crate) name: Option<At<String>>,
    /// In order of the files.
    pub(crate) services: Vec<Service>,
    pub(crate) networks: BTreeMap<String, Network>,
    pub(crate) volumes: BTreeMap<String, Volume>,
    pub(crate) secrets: BTreeMap<String, FileObject>,
    pub(crate) configs: BTreeMap<String, FileObject>,
    /// Services that are left out for their profiles, with these.
    pub(crate) inactive: Vec<(String, Vec<String>)>,
    /// Variables that services only name, and that nothing gives a value.
    pub(crate) unset: Vec<At<String>>,
}

/// One service. Keys that lith cannot make use of are in `ignored`; the converter says so.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) name: At<String>,
    pub(crate) image: Option<At<String>>,
    /// `build:`, whatever it says.
    pub(crate) build: Option<Span>,
    pub(crate) entrypoint: Option<At<Vec<String>>>,
    pub(crate) command: Option<At<Vec<String>>>,
    /// With those of `env_file`, in the end; a variable without a value that nothing gives is absent.
    pub(crate) environment: BTreeMap<String, At<String>>,
    pub(crate) user: Option<At<String>>,
    pub(crate) group_add: Vec<At<String>>,
    pub(crate) working_dir: Option<At<String>>,
    pub(crate) hostname: Option<At<String>>,
    pub(crate) domainname: Option<At<String>>,
    pub(crate) container_name: Option<At<String>>,
    pub(crate) platform: Option<At<String>>,
    pub(crate) ports: Vec<At<PublishedPort>>,
    pub(crate) expose: Vec<At<ExposedPort>>,
    pub(crate) volumes: Vec<At<ServiceVolume>>,
    pub(crate) volumes_from: Vec<At<String>>,
    pub(crate) tmpfs: Vec<At<String>>,
    pub(crate) secrets: Vec<At<FileUse>>,
    pub(crate) configs: Vec<At<FileUse>>,
    pub(crate) devices: Vec<At<String>>,
    pub(crate) depends_on: Vec<At<Dependency>>,
    /// Service, and the name by which it is known here.
    pub(crate) links: Vec<At<(String, String)>>,
    pub(crate) external_links: Vec<At<String>>,
    /// Attached networks by name; `default` when the file says none and `network_mode` is absent.
    pub(crate) networks: BTreeMap<String, At<Attachment>>,
    pub(crate) network_mode: Option<At<String>>,
    pub(crate) extra_hosts: Vec<At<(String, String)>>,
    pub(crate) healthcheck: Option<At<HealthCheck>>,
    pub(crate) restart: Option<At<String>>,
    pub(crate) stop_signal: Option<At<String>>,
    pub(crate) stop_grace_period: Option<At<Duration>>,
    pub(crate) deploy: Deploy,
    pub(crate) scale: Option<At<u32>>,
    pub(crate) mem_limit: Option<At<Bytes>>,
    pub(crate) mem_reservation: Option<At<Bytes>>,
    pub(crate) cpus: Option<At<CpuMillis>>,
    pub(crate) shm_size: Option<At<Bytes>>,
    pub(crate) read_only: Option<At<bool>>,
    pub(crate) privileged: Option<At<bool>>,
    pub(crate) cap_add: Vec<At<String>>,
    pub(crate) sysctls: BTreeMap<String, At<String>>,
    pub(crate) ulimits: BTreeMap<String, At<(i64, i64)>>,
    /// `pid`, `ipc`, `uts`, `userns_mode`, `cgroup`: key and value.
    pub(crate) namespaces: Vec<(&'static str, At<String>)>,
    /// `gpus`, `runtime: nvidia`, or reserved devices with the capability `gpu`: how many, none for all.
    pub(crate) gpus: Option<At<Option<u32>>>,
    pub(crate) logging: Option<At<Logging>>,
    /// Keys that have no meaning in a machine of its own, or none yet: `labels`, `tty`, `pull_policy`, `security_opt` …
    pub(crate) ignored: Vec<(String, Span)>,
}

/// A port of `ports`, its range cut up only where the file cuts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublishedPort {
    /// Address of the host, as written.
    pub(crate) address: Option<String>,
    /// First and last port on the host; `None` lets Docker choose one.
    pub(crate) published: Option<(u16, u16)>,
    /// First and last port of the container.
    pub(crate) target: (u16, u16),
    pub(crate) transport: Transport,
}

/// A port of `expose`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ExposedPort {
    pub(crate) range: (u16, u16),
    pub(crate) transport: Transport,
}

/// A mount of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceVolume {
    pub(crate) source: VolumeSource,
    pub(crate) target: String,
    pub(crate) read_only: bool,
    /// `bind.propagation`, other than the default.
    pub(crate) propagation: Option<String>,
    /// `volume.subpath`.
    pub(crate) subpath: Option<String>,
    /// `volume.nocopy`.
    pub(crate) nocopy: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VolumeSource {
    /// A volume by name, which the project may lack.
    Named(String),
    /// A volume without a name.
    Anonymous,
    /// A path of the host: relative ones begin with `.` and are relative to the folder of the first file; `~` is the home
    /// of whoever types.
    Bind(String),
    /// A file system in memory.
    Tmpfs { size: Option<Bytes>, mode: Option<u32> },
    /// `npipe`, `cluster`, `image`: the type.
    Other(String),
}

/// A secret or config that a service sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileUse {
    pub(crate) source: String,
    pub(crate) target: Option<String>,
    pub(crate) uid: Option<String>,
    pub(crate) gid: Option<String>,
    pub(crate) mode: Option<u32>,
}

/// A service that must be there first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dependency {
    pub(crate) service: String,
    pub(crate) condition: DependencyCondition,
    /// `required: false`: a service that is not there is not waited for.
    pub(crate) required: bool,
}

/// Of `depends_on`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DependencyCondition {
    Started,
    Healthy,
    CompletedSuccessfully,
}

/// A service's place in a network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Attachment {
    pub(crate) aliases: Vec<String>,
    /// `ipv4_address`, `ipv6_address` or `mac_address`.
    pub(crate) fixed_address: Option<String>,
}

/// `healthcheck`. `test: NONE` and `disable: true` are `Off`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HealthCheck {
    pub(crate) test: HealthTest,
    pub(crate) interval: Option<Duration>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retries: Option<u32>,
    pub(crate) start_period: Option<Duration>,
    pub(crate) start_interval: Option<Duration>,
}

/// What a health check runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HealthTest {
    /// Nothing, not even the image's.
    Off,
    /// The image's own; only times are given.
    OfTheImage,
    Command(Vec<String>),
    Shell(String),
}

/// `deploy`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Deploy {
    pub(crate) replicas: Option<At<u32>>,
    /// `mode: global` and the job modes.
    pub(crate) mode: Option<At<String>>,
    pub(crate) memory_limit: Option<At<Bytes>>,
    pub(crate) cpu_limit: Option<At<CpuMillis>>,
    /// `restart_policy.condition` and `max_attempts`.
    pub(crate) restart: Option<At<(String, Option<u32>)>>,
    pub(crate) update: Option<At<UpdateConfig>>,
    /// `placement`, with what it says.
    pub(crate) placement: Option<Span>,
}

/// `deploy.update_config`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct UpdateConfig {
    pub(crate) parallelism: Option<u32>,
    pub(crate) delay: Option<Duration>,
    pub(crate) monitor: Option<Duration>,
    pub(crate) order: Option<String>,
    pub(crate) failure_action: Option<At<String>>,
}

/// `logging`: its driver, and the options that say how much is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Logging {
    pub(crate) driver: Option<String>,
    pub(crate) max_size: Option<Bytes>,
    pub(crate) max_file: Option<u32>,
}

/// A network of the project.
#[derive(Debug, Clone, Default)]
pub(crate) struct Network {
    pub(crate) span: Span,
    pub(crate) is_internal: bool,
    pub(crate) is_external: bool,
    pub(crate) driver: Option<At<String>>,
}

/// A volume of the project.
#[derive(Debug, Clone, Default)]
pub(crate) struct Volume {
    pub(crate) span: Span,
    /// `name:`, or that of `external`.
    pub(crate) name: Option<String>,
    pub(crate) is_external: bool,
    pub(crate) driver: Option<At<String>>,
    pub(crate) driver_opts: BTreeMap<String, At<String>>,
}

/// A secret or config of the project.
#[derive(Debug, Clone)]
pub(crate) struct FileObject {
    pub(crate) span: Span,
    pub(crate) source: FileObjectSource,
}

/// Where its content is.
#[derive(Debug, Clone)]
pub(crate) enum FileObjectSource {
    /// A file: its path as the reading resolves it, and what it held; why not, when it could not be read.
    File { path: String, content: Result<Content, String> },
    /// A variable, with its value if there is one.
    Environment { name: String, content: Option<Content> },
    /// In the file itself.
    Inline(Content),
    /// Made outside of the project.
    External { name: Option<String> },
}

/// A variable that the files need from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Needed {
    pub(crate) name: String,
    /// Where it is first used.
    pub(crate) span: Span,
    /// Whether nothing is put in when it is missing: no default, no alternative.
    pub(crate) is_required: bool,
    /// What is put in when it is missing.
    pub(crate) default: Option<String>,
    /// Whether a value was given.
    pub(crate) is_given: bool,
}
