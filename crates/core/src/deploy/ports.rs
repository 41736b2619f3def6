//! Ports of the node that a job is to publish and cannot have, found before anything changes.
//!
//! Pure. Must not look at the machine: which programs hold which ports is an argument.

use std::fmt;
use std::net::IpAddr;

use super::Job;
use crate::job::{JobSpec, Publish, Transport};
use crate::name::{JobName, TaskName};

/// Most collisions that are told of at once.
pub const TOLD_MAX: usize = 5;

/// A port that a task is to publish and cannot have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortTaken {
    /// What is to be published.
    pub publish: Publish,
    /// The task that is to.
    pub task: TaskName,
    /// Who has it.
    pub holder: Holder,
}

/// Who has a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// A task of another job.
    Job {
        /// The job.
        job: JobName,
        /// The task.
        task: TaskName,
    },
    /// A program that is no task.
    Program {
        /// The socket by which it has the port.
        socket: Socket,
        /// Its name and process, if they can be found out.
        process: Option<(String, u32)>,
    },
}

/// A socket of the node that keeps others from its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Socket {
    /// Where it is bound; unspecified for everywhere.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// TCP, of those that listen, or UDP.
    pub transport: Transport,
}

impl Socket {
    /// Whether a publish wants what this socket has. One that is bound to every address of IPv6 counts as bound to those of
    /// IPv4 too, as it is unless the program says otherwise.
    #[must_use]
    pub fn is_wanted_by(&self, publish: &Publish) -> bool {
        let is_everywhere =
            |wanted: IpAddr| self.address.is_unspecified() && (self.address.is_ipv6() || wanted.is_ipv4());
        let reaches = |wanted: IpAddr| wanted == self.address || is_everywhere(wanted);
        self.transport == publish.transport
            && (publish.host_port..=publish.host_last()).contains(&self.port)
            && publish.address.is_none_or(reaches)
    }
}

impl PortTaken {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> String {
        let publish = &self.publish;
        match &self.holder {
            Holder::Job { job, .. } => format!("publish another port, or remove it from \"{job}\""),
            Holder::Program { socket, .. } => {
                let elsewhere = if publish.address.is_none() && !socket.address.is_unspecified() {
                    format!("on one of the node's other addresses, as in \"ADDRESS:{publish}\", ")
                } else {
                    String::new()
                };
                let other =
                    another(publish).map_or_else(String::new, |other| format!(", such as \"{other}\""));
                format!("publish another port{other}, {elsewhere}or stop that program")
            }
        }
    }
}

/// The same on a port that is hardly anybody's; none of a range.
fn another(publish: &Publish) -> Option<Publish> {
    let near = 8000 + publish.host_port % 1000;
    let host_port = if near == publish.host_port { near + 1 } else { near };
    (publish.count == 1).then_some(Publish { host_port, ..*publish })
}

impl fmt::Display for PortTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { publish, task, holder } = self;
        let port = format!("port {}/{}", publish.host_port, publish.transport);
        match holder {
            Holder::Job { job, task: held_by } => {
                write!(
                    f,
                    "task \"{task}\" publishes {port}, which task \"{held_by}\" of job \"{job}\" already has"
                )
            }
            Holder::Program { socket, process } => {
                let (port, transport) = (socket.port, socket.transport);
                write!(
                    f,
                    "port {port}/{transport} of this machine, which task \"{task}\" publishes with \"{publish}\", is held by "
                )?;
                match process {
                    Some((name, pid)) => write!(f, "{name} (pid {pid})")?,
                    None => f.write_str("the kernel, or a program that cannot be seen")?,
                }
                if socket.address.is_unspecified() { Ok(()) } else { write!(f, " on {}", socket.address) }
            }
        }
    }
}

/// Ports that `spec` publishes and that another job has.
#[must_use]
pub fn taken<'a>(spec: &JobSpec, jobs: impl IntoIterator<Item = &'a Job>) -> Vec<PortTaken> {
    let others: Vec<&Job> = jobs.into_iter().filter(|job| job.spec.name != spec.name).collect();
    let held = || others.iter().flat_map(|job| job.spec.tasks().map(|(_, task, held)| (*job, task, held)));
    let mut taken = Vec::new();
    for (_, task, declared) in spec.tasks() {
        for publish in &declared.publish {
            let theirs =
                held().filter(|(.., held)| held.publish.iter().any(|held| held.collides_with(publish)));
            taken.extend(theirs.map(|(job, held_by, _)| {
                let holder = Holder::Job { job: job.spec.name.clone(), task: held_by.clone() };
                PortTaken { publish: *publish, task: task.clone(), holder }
            }));
        }
    }
    taken
}

/// Ports that `spec` publishes, and `before` did not, and that sockets of other programs have; each entry with the first
/// socket in its way.
#[must_use]
pub fn held(spec: &JobSpec, before: Option<&JobSpec>, sockets: &[Socket]) -> Vec<PortTaken> {
    let kept: Vec<&Publish> =
        before.iter().flat_map(|job| job.tasks()).flat_map(|(.., task)| &task.publish).collect();
    let mut taken = Vec::new();
    for (_, task, declared) in spec.tasks() {
        for publish in declared.publish.iter().filter(|publish| !kept.iter().any(|kept| holds(kept, publish)))
        {
            let Some(socket) = sockets.iter().find(|socket| socket.is_wanted_by(publish)) else { continue };
            let holder = Holder::Program { socket: *socket, process: None };
            taken.push(PortTaken { publish: *publish, task: task.clone(), holder });
        }
    }
    taken
}

/// Whether whoever has the one has the other: the same ports, at least as many, on at least the same addresses.
fn holds(kept: &Publish, publish: &Publish) -> bool {
    kept.transport == publish.transport
        && kept.host_port <= publish.host_port
        && publish.host_last() <= kept.host_last()
        && (kept.address.is_none() || kept.address == publish.address)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{job, plan, task};
    use super::*;
    use crate::job::TaskSpec;
    use crate::task::Incarnation;
    use crate::value::port;

    fn publishing(entries: &[&str]) -> TaskSpec {
        TaskSpec {
            publish: entries.iter().map(|entry| port::publish(entry).unwrap()).collect(),
            ..task("nginx")
        }
    }

    fn told(taken: &[PortTaken]) -> Vec<String> {
        taken.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_published_port_has_one_holder() {
        let first = job("first", &[("web", publishing(&["8080:80", "9000-9009:9000-9009"]))]);
        let first = plan(None, first, Incarnation(1)).job;
        let second =
            job("second", &[("proxy", publishing(&["8080:80", "127.0.0.1:9005:90", "9005:90/udp"]))]);
        assert_eq!(
            told(&taken(&second, [&first])),
            [
                "task \"proxy\" publishes port 8080/tcp, which task \"web\" of job \"first\" already has",
                "task \"proxy\" publishes port 9005/tcp, which task \"web\" of job \"first\" already has",
            ]
        );
        assert_eq!(taken(&first.spec, [&first]), vec![], "a job does not collide with what it replaces");
    }

    #[test]
    fn what_programs_hold_is_found() {
        let socket =
            |address: &str, port, transport| Socket { address: address.parse().unwrap(), port, transport };
        let check = |entry: &str, address: &str, expected: bool| {
            let publish = port::publish(entry).unwrap();
            let socket = socket(address, 53, Transport::Udp);
            assert_eq!(socket.is_wanted_by(&publish), expected, "{entry} {address}");
        };
        check("53:53/udp", "127.0.0.53", true);
        check("53:53/udp", "::1", true);
        check("53:53", "127.0.0.53", false);
        check("50-60:50-60/udp", "0.0.0.0", true);
        check("54:53/udp", "0.0.0.0", false);
        check("192.0.2.1:53:53/udp", "127.0.0.53", false);
        check("192.0.2.1:53:53/udp", "192.0.2.1", true);
        check("192.0.2.1:53:53/udp", "0.0.0.0", true);
        check("192.0.2.1:53:53/udp", "::", true);
        check("[fd00::1]:53:53/udp", "0.0.0.0", false);
        check("[fd00::1]:53:53/udp", "::", true);
        let sockets = [socket("127.0.0.53", 53, Transport::Udp), socket("0.0.0.0", 80, Transport::Tcp)];
        let spec =
            job("shop", &[("dns", publishing(&["53:53/udp"])), ("web", publishing(&["80:8080", "443:443"]))]);
        let mut found = held(&spec, None, &sockets);
        if let Holder::Program { process, .. } = &mut found[0].holder {
            *process = Some(("systemd-resolve".to_owned(), 812));
        }
        assert_eq!(
            told(&found),
            [
                "port 53/udp of this machine, which task \"dns\" publishes with \"53:53/udp\", is held by systemd-resolve (pid 812) on 127.0.0.53",
                "port 80/tcp of this machine, which task \"web\" publishes with \"80:8080\", is held by the kernel, or a program that cannot be seen",
            ]
        );
        let hints: Vec<String> = found.iter().map(PortTaken::hint).collect();
        assert_eq!(
            hints,
            [
                "publish another port, such as \"8053:53/udp\", on one of the node's other addresses, as in \"ADDRESS:53:53/udp\", or stop that program",
                "publish another port, such as \"8080:8080\", or stop that program",
            ]
        );
        let before = job("shop", &[("other", publishing(&["40-60:40-60/udp", "127.0.0.1:80:80"]))]);
        let left = held(&spec, Some(&before), &sockets);
        assert_eq!(left.len(), 1, "what the job has is not taken: {left:?}");
    }
}
