//! A job as it travels and as it is stored, and its conversions.
//!
//! The wire form is canonical: quantities are numbers with their unit in the name, ports are the short text of the job
//! file. Adding an optional field keeps version 1 readable; anything else needs a new version.

use std::collections::BTreeMap;
use std::time::Duration;

use lith_core::job as core;
use lith_core::name::{NameError, TaskName};
use lith_core::value;
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
        let job = Self { name, groups };
        check_published(&job)?;
        Ok(job)
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
    let cpus = in_range(core::CpuMillis(task.cpu_millis), core::CPUS_MIN, core::CPUS_MAX);
    let grace = Duration::from_millis(task.stop_grace_ms);
    if grace > core::STOP_GRACE_MAX {
        return Err(field("stop_grace")(format!("{grace:?} is longer than {:?}", core::STOP_GRACE_MAX)));
    }
    for (name, text) in &task.env {
        value::env::name(name).and_then(|()| value::env::value(name, text)).map_err(refused(field("env")))?;
    }
    let user = task.user.as_deref().map(value::user::parse).transpose();
    let working_dir = task.working_dir.as_deref().map(value::path::absolute).transpose();
    let stop_signal = task.stop_signal.as_deref().map(value::signal::parse).transpose();
    Ok(core::TaskSpec {
        image: value::image::parse(&task.image).map_err(refused(field("image")))?,
        entrypoint: task.entrypoint.clone(),
        command: task.command.clone(),
        env: task.env.clone(),
        user: user.map_err(refused(field("user")))?,
        working_dir: working_dir.map_err(refused(field("working_dir")))?,
        memory: memory.map_err(field("memory"))?,
        cpus: cpus.map_err(field("cpus"))?,
        ports: parse_ports(&task.ports, value::port::port).map_err(field("ports"))?,
        publish: parse_ports(&task.publish, value::port::publish).map_err(field("publish"))?,
        restart: value::restart::parse(&task.restart).map_err(refused(field("restart")))?,
        stop_signal: stop_signal.map_err(refused(field("stop_signal")))?,
        stop_grace: grace,
    })
}

/// A refused value as the refusal of its field.
fn refused(field: impl Fn(String) -> JobError) -> impl Fn(value::Refusal) -> JobError {
    move |refusal| field(sentence(refusal))
}

fn sentence(value::Refusal { message, hint }: value::Refusal) -> String {
    match hint {
        Some(hint) => format!("{message}: {hint}"),
        None => message,
    }
}

/// A list of ports in order and each once: as it is written must not make for a difference.
fn parse_ports<T: Ord>(
    texts: &[String],
    parse: impl Fn(&str) -> Result<T, value::Refusal>,
) -> Result<Vec<T>, String> {
    if texts.len() > core::PORTS_MAX {
        return Err(format!("{} ports are more than {}", texts.len(), core::PORTS_MAX));
    }
    let mut ports = texts.iter().map(|text| parse(text)).collect::<Result<Vec<T>, _>>().map_err(sentence)?;
    ports.sort();
    ports.dedup();
    Ok(ports)
}

/// What holds across tasks: a port of the node leads to one place.
fn check_published(job: &core::JobSpec) -> Result<(), JobError> {
    let mut held: Vec<(&core::Publish, &TaskName)> = Vec::new();
    for (group, task, spec) in job.tasks() {
        let refused = |why: String| JobError::Field { task: task.to_string(), field: "publish", why };
        let count = job.groups[group].count;
        if let (Some(publish), 2..) = (spec.publish.first(), count) {
            let port = publish.host_port;
            return Err(refused(format!("port {port} of the node is wanted by each of {count} instances")));
        }
        for publish in &spec.publish {
            if let Some((_, holder)) = held.iter().find(|(other, _)| other.collides_with(publish)) {
                let (port, transport) = (publish.host_port, publish.transport);
                let why =
                    format!("port {port}/{transport} of the node is already published by task \"{holder}\"");
                return Err(refused(why));
            }
            held.push((publish, task));
        }
    }
    Ok(())
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
    Ok(())
}

fn in_range<T: PartialOrd + std::fmt::Display>(value: T, least: T, most: T) -> Result<T, String> {
    if value < least || value > most {
        return Err(format!("{value} is not between {least} and {most}"));
    }
    Ok(value)
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
            (TaskSpec { cpu_millis: 0, ..task() }, "cpus of task \"web\": 0 is not between 0.01 and 64"),
            (
                TaskSpec { ports: text("0"), ..task() },
                "ports of task \"web\": `0` is not a port: ports are 1 to 65535",
            ),
            (
                TaskSpec { ports: text("80/sctp"), ..task() },
                "ports of task \"web\": `80/sctp` is not a port: write `/tcp` or `/udp` after the port",
            ),
            (
                TaskSpec { ports: vec!["80".to_owned(); 101], ..task() },
                "ports of task \"web\": 101 ports are more than 100",
            ),
            (
                TaskSpec { publish: text("::1:80:80"), ..task() },
                "publish of task \"web\": `::1:80:80` does not publish a port: addresses are IPv4 in this version",
            ),
            (
                TaskSpec { publish: text("224.0.0.1:80:80"), ..task() },
                "publish of task \"web\": `224.0.0.1` is no address of a node",
            ),
            (
                TaskSpec { publish: vec!["80:81".to_owned(), "127.0.0.1:80:80".to_owned()], ..task() },
                "publish of task \"web\": port 80/tcp of the node is already published by task \"web\"",
            ),
            (
                TaskSpec { restart: "maybe".to_owned(), ..task() },
                "restart of task \"web\": `maybe` is not a restart policy: write `always`, `on-failure`, `on-failure:3` or \
                 `no`",
            ),
            (
                TaskSpec { restart: "on-failure:0".to_owned(), ..task() },
                "restart of task \"web\": `on-failure:0` is not a restart policy: write `no` for no restart, \
                 `on-failure` for no limit",
            ),
            (
                TaskSpec { command: Some(text("a\0b")), ..task() },
                "command of task \"web\": a text cannot contain a zero byte",
            ),
            (
                TaskSpec { env: BTreeMap::from([("A=B".to_owned(), String::new())]), ..task() },
                "env of task \"web\": `A=B` is not the name of a variable: names hold no `=` and no spaces",
            ),
            (
                TaskSpec { image: "Web:1".to_owned(), ..task() },
                "image of task \"web\": `Web:1` is not an image reference: names are in lower case: did you mean `web:1`?",
            ),
            (
                TaskSpec { user: Some("a b".to_owned()), ..task() },
                "user of task \"web\": `a b` is not a user: write a name or number, and a group after a colon: \
                 `www-data`, `1000:1000`",
            ),
            (
                TaskSpec { working_dir: Some("srv".to_owned()), ..task() },
                "working_dir of task \"web\": `srv` is not an absolute path: start it with `/`",
            ),
            (
                TaskSpec { stop_signal: Some("SIGNO".to_owned()), ..task() },
                "stop_signal of task \"web\": `SIGNO` is not a signal: write a name such as `SIGTERM` or `SIGRTMIN+3`, \
                 or a number",
            ),
        ];
        for (task, expected) in cases {
            assert_eq!(core::JobSpec::try_from(&job(task)).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn refusals_name_what_holds_for_the_whole_job() {
        let text = |text: &str| vec![text.to_owned()];
        let empty = JobSpec { groups: BTreeMap::new(), ..job(task()) };
        let error = core::JobSpec::try_from(&empty).unwrap_err().to_string();
        assert_eq!(error, "groups of the job: 0 is not between 1 and 100");
        let mut wide = job(TaskSpec { publish: text("80"), ..task() });
        wide.groups.values_mut().for_each(|group| group.count = 3);
        let error = core::JobSpec::try_from(&wide).unwrap_err().to_string();
        assert_eq!(error, "publish of task \"web\": port 80 of the node is wanted by each of 3 instances");
    }

    #[test]
    fn the_order_of_ports_makes_no_difference() {
        let parse = |ports: [&str; 3], publish: [&str; 3]| {
            let texts = |texts: [&str; 3]| texts.map(str::to_owned).to_vec();
            job_spec(TaskSpec { ports: texts(ports), publish: texts(publish), ..task() })
        };
        assert_eq!(
            parse(["53/udp", "80", "80/tcp"], ["81:80", "0.0.0.0:80:80", "80"]),
            parse(["80", "80", "53/udp"], ["80:80", "81:80", "81:80"])
        );
    }

    fn job_spec(task: TaskSpec) -> core::JobSpec {
        core::JobSpec::try_from(&job(task)).unwrap()
    }

    proptest! {
        #[test]
        fn round_trips(
            memory in core::MEMORY_MIN.0..core::MEMORY_MAX.0,
            cpus in core::CPUS_MIN.0..core::CPUS_MAX.0,
            port in 1u16..,
            udp in any::<bool>(),
            address in proptest::option::of((1u8..200, any::<[u8; 3]>())),
            restart in prop_oneof![Just("always"), Just("no"), Just("on-failure"), Just("on-failure:7")],
            command in proptest::option::of(proptest::collection::vec("[^\0]{0,9}", 0..3)),
        ) {
            let end = if udp { "/udp" } else { "" };
            let address = address.map_or(String::new(), |(a, [b, c, d])| format!("{a}.{b}.{c}.{d}:"));
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
