//! A job as it travels and as it is stored, and its conversions.
//!
//! The wire form is canonical: quantities are numbers with their unit in the name, ports are the short text of the job
//! file. Adding an optional field keeps version 1 readable; anything else needs a new version.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use lith_core::job as core;
use lith_core::name::NameError;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What one file declares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobSpec {
    /// Its name: a DNS label.
    pub name: String,
    /// Its groups by name.
    pub groups: BTreeMap<String, GroupSpec>,
}

/// What is placed on one node as a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupSpec {
    /// Instances.
    pub count: u32,
    /// Its tasks by name.
    pub tasks: BTreeMap<String, TaskSpec>,
}

/// One image in one microVM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskSpec {
    /// Reference of the image.
    pub image: String,
    /// Replaces the image's entrypoint and discards its command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Added to the image's environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Replaces the image's user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Replaces the image's working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Ceiling of memory in bytes.
    pub memory_bytes: u64,
    /// Ceiling of processor time, in thousandths of a processor.
    pub cpu_millis: u32,
    /// Ports that it listens on: `80`, `53/udp`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
    /// Ports offered on the node: `8080:80`, `127.0.0.1:53:53/udp`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<String>,
    /// `always`, `on-failure`, `on-failure:3`, `no`.
    pub restart: String,
    /// Replaces the image's stop signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Time to stop by itself, in milliseconds.
    pub stop_grace_ms: u64,
}

/// Why a job that travelled is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// A name is not a DNS label.
    #[error("{what} has a name that is not allowed")]
    Name {
        /// Job, group or task, with the name.
        what: String,
        /// Why.
        #[source]
        source: NameError,
    },
    /// A field has a value that is not allowed.
    #[error("{field} of task \"{task}\": {why}")]
    Field {
        /// The task.
        task: String,
        /// The field.
        field: &'static str,
        /// The value and the rule.
        why: String,
    },
    /// A number of members is out of range.
    #[error("{what}: {why}")]
    Members {
        /// Of what.
        what: String,
        /// The rule.
        why: String,
    },
}

/// Longest text of a single field of a request: an environment value may hold a certificate chain, not a disk.
pub const TEXT_BYTES_MAX: usize = 128 << 10;

impl From<&core::JobSpec> for JobSpec {
    fn from(spec: &core::JobSpec) -> Self {
        let groups = spec.groups.iter().map(|(name, group)| {
            let tasks = group.tasks.iter().map(|(name, task)| (name.to_string(), task.into()));
            (name.to_string(), GroupSpec { count: group.count, tasks: tasks.collect() })
        });
        Self { name: spec.name.to_string(), groups: groups.collect() }
    }
}

impl From<&core::TaskSpec> for TaskSpec {
    fn from(task: &core::TaskSpec) -> Self {
        Self {
            image: task.image.clone(),
            entrypoint: task.entrypoint.clone(),
            command: task.command.clone(),
            env: task.env.clone(),
            user: task.user.clone(),
            working_dir: task.working_dir.clone(),
            memory_bytes: task.memory.0,
            cpu_millis: task.cpus.0,
            ports: task.ports.iter().map(ToString::to_string).collect(),
            publish: task.publish.iter().map(ToString::to_string).collect(),
            restart: task.restart.to_string(),
            stop_signal: task.stop_signal.clone(),
            stop_grace_ms: u64::try_from(task.stop_grace.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl TryFrom<&JobSpec> for core::JobSpec {
    type Error = JobError;

    fn try_from(spec: &JobSpec) -> Result<Self, JobError> {
        let name = parse_name("the job", &spec.name)?;
        check_members("groups of the job", spec.groups.len(), core::MEMBERS_MAX)?;
        let mut groups = BTreeMap::new();
        for (name, group) in &spec.groups {
            let what = format!("tasks of group \"{name}\"");
            check_members(&what, group.tasks.len(), core::MEMBERS_MAX)?;
            check_members(
                &format!("count of group \"{name}\""),
                group.count as usize,
                core::COUNT_MAX as usize,
            )?;
            let mut tasks = BTreeMap::new();
            for (name, task) in &group.tasks {
                tasks.insert(parse_name("a task", name)?, parse_task(name, task)?);
            }
            groups.insert(parse_name("a group", name)?, core::GroupSpec { count: group.count, tasks });
        }
        Ok(Self { name, groups })
    }
}

impl TaskSpec {
    /// The task as core knows it.
    ///
    /// # Errors
    /// Says which field of the task called `name` is not valid.
    pub fn parse(&self, name: &str) -> Result<core::TaskSpec, JobError> {
        parse_task(name, self)
    }
}

fn parse_name<T: std::str::FromStr<Err = NameError>>(what: &str, name: &str) -> Result<T, JobError> {
    name.parse().map_err(|source| JobError::Name { what: what.to_owned(), source })
}

fn check_members(what: &str, count: usize, most: usize) -> Result<(), JobError> {
    if (1..=most).contains(&count) {
        return Ok(());
    }
    Err(JobError::Members { what: what.to_owned(), why: format!("{count} is not between 1 and {most}") })
}

fn parse_task(name: &str, task: &TaskSpec) -> Result<core::TaskSpec, JobError> {
    let field =
        |field: &'static str| move |why: String| JobError::Field { task: name.to_owned(), field, why };
    check_texts(task).map_err(|(name, why)| field(name)(why))?;
    let memory = in_range(core::Bytes(task.memory_bytes), core::MEMORY_MIN, core::MEMORY_MAX);
    let cpus = in_range(core::CpuMillis(task.cpu_millis), core::CpuMillis(1), core::CPUS_MAX);
    let grace = Duration::from_millis(task.stop_grace_ms);
    if grace > core::STOP_GRACE_MAX {
        return Err(field("stop_grace")(format!("{grace:?} is longer than {:?}", core::STOP_GRACE_MAX)));
    }
    Ok(core::TaskSpec {
        image: task.image.clone(),
        entrypoint: task.entrypoint.clone(),
        command: task.command.clone(),
        env: task.env.clone(),
        user: task.user.clone(),
        working_dir: task.working_dir.clone(),
        memory: memory.map_err(field("memory"))?,
        cpus: cpus.map_err(field("cpus"))?,
        ports: task
            .ports
            .iter()
            .map(|port| parse_port(port))
            .collect::<Result<_, _>>()
            .map_err(field("ports"))?,
        publish: task
            .publish
            .iter()
            .map(|publish| parse_publish(publish))
            .collect::<Result<_, _>>()
            .map_err(field("publish"))?,
        restart: parse_restart(&task.restart).map_err(field("restart"))?,
        stop_signal: task.stop_signal.clone(),
        stop_grace: grace,
    })
}

/// Everything that a guest or a program will be handed as text: bounded, and free of the byte that ends a C string.
fn check_texts(task: &TaskSpec) -> Result<(), (&'static str, String)> {
    let lists = [("entrypoint", &task.entrypoint), ("command", &task.command)];
    let options =
        [("user", &task.user), ("working_dir", &task.working_dir), ("stop_signal", &task.stop_signal)];
    let texts = std::iter::once(("image", &task.image))
        .chain(lists.into_iter().flat_map(|(name, list)| list.iter().flatten().map(move |text| (name, text))))
        .chain(options.into_iter().filter_map(|(name, text)| text.as_ref().map(|text| (name, text))))
        .chain(task.env.iter().flat_map(|(key, value)| [("env", key), ("env", value)]));
    for (name, text) in texts {
        if text.len() > TEXT_BYTES_MAX {
            return Err((name, format!("{} bytes are more than {TEXT_BYTES_MAX}", text.len())));
        }
        if text.contains('\0') {
            return Err((name, "a text cannot contain a zero byte".to_owned()));
        }
    }
    if let Some(key) = task.env.keys().find(|key| key.is_empty() || key.contains('=')) {
        return Err(("env", format!("\"{key}\" cannot be the name of a variable")));
    }
    Ok(())
}

fn in_range<T: PartialOrd + std::fmt::Display>(value: T, least: T, most: T) -> Result<T, String> {
    if value < least || value > most {
        return Err(format!("{value} is not between {least} and {most}"));
    }
    Ok(value)
}

fn split_transport(text: &str) -> Result<(&str, core::Transport), String> {
    match text.rsplit_once('/') {
        None | Some((_, "tcp")) => Ok((text.strip_suffix("/tcp").unwrap_or(text), core::Transport::Tcp)),
        Some((rest, "udp")) => Ok((rest, core::Transport::Udp)),
        Some((_, other)) => Err(format!("\"{other}\" is neither tcp nor udp")),
    }
}

fn parse_number(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(number) if number > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(number),
        _ => Err(format!("\"{text}\" is not a port between 1 and 65535")),
    }
}

fn parse_port(text: &str) -> Result<core::Port, String> {
    let (number, transport) = split_transport(text)?;
    Ok(core::Port { number: parse_number(number)?, transport })
}

/// Reads a published port as it is written in job files and on the wire: `[address:]port:port[/udp]`.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn parse_publish(text: &str) -> Result<core::Publish, String> {
    let (rest, transport) = split_transport(text)?;
    let parts: Vec<&str> = rest.split(':').collect();
    let (address, host, guest) = match parts[..] {
        [host, guest] => (None, host, guest),
        [address, host, guest] => (Some(address), host, guest),
        _ => return Err(format!("\"{text}\" is not of the form [address:]port:port[/udp]")),
    };
    let address = address
        .map(|address| {
            address.parse::<Ipv4Addr>().map_err(|_| format!("\"{address}\" is not an IPv4 address"))
        })
        .transpose()?;
    let (host_port, guest_port) = (parse_number(host)?, parse_number(guest)?);
    Ok(core::Publish { address, host_port, guest_port, transport })
}

fn parse_restart(text: &str) -> Result<core::RestartPolicy, String> {
    match text {
        "always" => Ok(core::RestartPolicy::Always),
        "no" => Ok(core::RestartPolicy::Never),
        "on-failure" => Ok(core::RestartPolicy::OnFailure { retries_max: None }),
        _ => match text.strip_prefix("on-failure:").and_then(|retries| retries.parse().ok()) {
            Some(retries) => Ok(core::RestartPolicy::OnFailure { retries_max: Some(retries) }),
            None => Err(format!("\"{text}\" is none of always, on-failure, on-failure:N, no")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn task() -> TaskSpec {
        TaskSpec {
            image: "nginx:1".to_owned(),
            entrypoint: None,
            command: None,
            env: BTreeMap::new(),
            user: None,
            working_dir: None,
            memory_bytes: 256 << 20,
            cpu_millis: 1000,
            ports: vec![],
            publish: vec![],
            restart: "always".to_owned(),
            stop_signal: None,
            stop_grace_ms: 10_000,
        }
    }

    fn job(task: TaskSpec) -> JobSpec {
        let tasks = BTreeMap::from([("web".to_owned(), task)]);
        let groups = BTreeMap::from([("main".to_owned(), GroupSpec { count: 1, tasks })]);
        JobSpec { name: "shop".to_owned(), groups }
    }

    #[test]
    fn refusals_name_the_field() {
        let text = |text: &str| vec![text.to_owned()];
        let cases = [
            (TaskSpec { memory_bytes: 1, ..task() }, "memory of task \"web\": 1B is not between 64M and 4T"),
            (TaskSpec { cpu_millis: 0, ..task() }, "cpus of task \"web\": 0 is not between 0.001 and 64"),
            (
                TaskSpec { ports: text("0"), ..task() },
                "ports of task \"web\": \"0\" is not a port between 1 and 65535",
            ),
            (
                TaskSpec { ports: text("80/sctp"), ..task() },
                "ports of task \"web\": \"sctp\" is neither tcp nor udp",
            ),
            (
                TaskSpec { publish: text("80"), ..task() },
                "publish of task \"web\": \"80\" is not of the form [address:]port:port[/udp]",
            ),
            (
                TaskSpec { publish: text("::1:80:80"), ..task() },
                "publish of task \"web\": \"::1:80:80\" is not of the form [address:]port:port[/udp]",
            ),
            (
                TaskSpec { restart: "maybe".to_owned(), ..task() },
                "restart of task \"web\": \"maybe\" is none of always, on-failure, on-failure:N, no",
            ),
            (
                TaskSpec { command: Some(text("a\0b")), ..task() },
                "command of task \"web\": a text cannot contain a zero byte",
            ),
            (
                TaskSpec { env: BTreeMap::from([("A=B".to_owned(), String::new())]), ..task() },
                "env of task \"web\": \"A=B\" cannot be the name of a variable",
            ),
        ];
        for (task, expected) in cases {
            assert_eq!(core::JobSpec::try_from(&job(task)).unwrap_err().to_string(), expected);
        }
        let empty = JobSpec { groups: BTreeMap::new(), ..job(task()) };
        let error = core::JobSpec::try_from(&empty).unwrap_err().to_string();
        assert_eq!(error, "groups of the job: 0 is not between 1 and 100");
    }

    proptest! {
        #[test]
        fn round_trips(
            memory in core::MEMORY_MIN.0..core::MEMORY_MAX.0,
            cpus in 1..core::CPUS_MAX.0,
            port in 1u16..,
            udp in any::<bool>(),
            address in proptest::option::of(any::<[u8; 4]>()),
            restart in prop_oneof![Just("always"), Just("no"), Just("on-failure"), Just("on-failure:7")],
            command in proptest::option::of(proptest::collection::vec("[^\0]{0,9}", 0..3)),
        ) {
            let end = if udp { "/udp" } else { "" };
            let address = address.map_or(String::new(), |bytes| format!("{}:", Ipv4Addr::from(bytes)));
            let spec = job(TaskSpec {
                memory_bytes: memory,
                cpu_millis: cpus,
                ports: vec![format!("{port}{end}")],
                publish: vec![format!("{address}{port}:80{end}")],
                restart: restart.to_owned(),
                command,
                ..task()
            });
            let parsed = core::JobSpec::try_from(&spec).unwrap();
            prop_assert_eq!(JobSpec::from(&parsed), spec);
        }
    }
}
