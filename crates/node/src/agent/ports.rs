//! The node's ports that tasks publish, held so that no other program takes them meanwhile.
//!
//! Traffic to them never reaches these sockets: the packet filter leads it to the guest. They are bound for the sake of
//! a clear refusal, in both directions: lith learns that a port is taken, and other programs learn it of lith's. They
//! do not listen, so that a client who comes when no guest is behind them is refused at once.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use lith_core::job::{Publish, Transport};
use lith_core::name::TaskId;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};

/// Longest range of which each port is held. Of a longer one it is only looked whether all are free when its task starts: the
/// calls of a telephone exchange have ten thousand, and each port is two sockets.
const HELD_MAX: u16 = 256;

/// The ports held for tasks.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    held: BTreeMap<TaskId, Vec<Held>>,
}

#[derive(Debug)]
struct Held {
    publish: Publish,
    /// Closed when dropped, which is all that they are for.
    _sockets: Vec<OwnedFd>,
}

impl Ports {
    /// Holds `publishes` for the task, and nothing else.
    ///
    /// # Errors
    /// A sentence naming a port that another program has; the others are held. Who is not to have any then lets go of all.
    pub(crate) fn hold(&mut self, id: &TaskId, publishes: &[Publish]) -> Result<(), String> {
        let mut before = self.held.remove(id).unwrap_or_default();
        let mut held = Vec::new();
        let mut result = Ok(());
        for publish in publishes {
            if let Some(index) = before.iter().position(|held| held.publish == *publish) {
                held.push(before.swap_remove(index));
                continue;
            }
            match take(publish) {
                Ok(sockets) => held.push(Held { publish: *publish, _sockets: sockets }),
                Err(why) => {
                    // What is not held is looked at once.
                    if publish.count > HELD_MAX {
                        held.push(Held { publish: *publish, _sockets: vec![] });
                    }
                    result = Err(why);
                }
            }
        }
        self.held.insert(id.clone(), held);
        result
    }

    /// Another task that holds one of `publishes`, and which.
    pub(crate) fn holder(&self, id: &TaskId, publishes: &[Publish]) -> Option<(Publish, &TaskId)> {
        let others = self.held.iter().filter(|(holder, _)| *holder != id);
        let mut theirs =
            others.flat_map(|(holder, held)| held.iter().map(move |held| (held.publish, holder)));
        theirs.find(|(publish, _)| publishes.iter().any(|wanted| wanted.collides_with(publish)))
    }

    /// Lets go of all that is held for the task.
    pub(crate) fn release(&mut self, id: &TaskId) {
        self.held.remove(id);
    }
}

/// Whether lith could hold a published port now. Held already by lith itself, it could not.
pub(crate) fn is_free(publish: &Publish) -> bool {
    publish.singly().all(|single| bind(&single).is_ok())
}

/// Takes all ports, and gives those that are to be held.
fn take(publish: &Publish) -> Result<Vec<OwnedFd>, String> {
    let mut held = Vec::new();
    for single in publish.singly() {
        let sockets = bind(&single).map_err(|error| sentence(&single, &error))?;
        if publish.count <= HELD_MAX {
            held.extend(sockets);
        }
    }
    Ok(held)
}

/// Takes one port: on its address, or on all of both kinds.
fn bind(publish: &Publish) -> io::Result<Vec<OwnedFd>> {
    if let Some(address) = publish.address {
        return Ok(vec![bind_at(address, publish)?]);
    }
    let first = bind_at(Ipv4Addr::UNSPECIFIED.into(), publish)?;
    match bind_at(Ipv6Addr::UNSPECIFIED.into(), publish) {
        Ok(second) => Ok(vec![first, second]),
        // A machine without IPv6.
        Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => Ok(vec![first]),
        Err(error) => Err(error.into()),
    }
}

fn bind_at(address: IpAddr, publish: &Publish) -> Result<OwnedFd, Errno> {
    let address = SocketAddr::new(address, publish.host_port);
    let kind = match publish.transport {
        Transport::Tcp => SocketType::STREAM,
        Transport::Udp => SocketType::DGRAM,
    };
    let socket = || {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
        if address.is_ipv6() {
            // The addresses of IPv4 have a socket of their own.
            sockopt::set_ipv6_v6only(&socket, true)?;
        }
        Ok(socket)
    };
    let bound = socket()?;
    match rustix::net::bind(&bound, &address) {
        Ok(()) => Ok(bound),
        // Connections of a former owner linger in the kernel for a minute, which only a listener is let past.
        Err(Errno::ADDRINUSE) if publish.transport == Transport::Tcp => {
            let listening = socket()?;
            sockopt::set_socket_reuseaddr(&listening, true)?;
            rustix::net::bind(&listening, &address)?;
            rustix::net::listen(&listening, 0)?;
            Ok(listening)
        }
        Err(error) => Err(error),
    }
}

fn sentence(publish: &Publish, error: &io::Error) -> String {
    let port = format!("port {}/{}", publish.host_port, publish.transport);
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            let number = publish.host_port;
            format!(
                "{port} of this machine is taken by another program: `ss -ltnup 'sport = :{number}'` shows which"
            )
        }
        io::ErrorKind::AddrNotAvailable => {
            let address = publish.address.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
            format!("{port} cannot be published on {address}, which is no address of this machine")
        }
        _ => format!("{port} of this machine cannot be had: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    #[test]
    fn a_taken_port_is_named_and_a_held_one_is_refused_to_others() {
        let id: TaskId = "shop.main.0.web".parse().unwrap();
        // An address of its own, so that no other program takes the port while it is free.
        let [.., high, low] = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, 83, high, low);
        let other = TcpListener::bind((address, 0)).unwrap();
        let port = other.local_addr().unwrap().port();
        let publish = Publish {
            address: Some(address.into()),
            host_port: port,
            guest_port: 80,
            count: 1,
            transport: Transport::Tcp,
        };
        let mut ports = Ports::default();
        let error = ports.hold(&id, &[publish]).unwrap_err();
        assert!(
            error.starts_with(&format!("port {port}/tcp of this machine is taken by another program: `ss ")),
            "{error}"
        );
        drop(other);
        ports.hold(&id, &[publish]).unwrap();
        ports.hold(&id, &[publish]).unwrap();
        assert!(TcpListener::bind((address, port)).is_err());
        let refused = TcpStream::connect((address, port)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused, "nobody waits in vain");
        let second: TaskId = "shop.main.0.second".parse().unwrap();
        assert_eq!(ports.holder(&second, &[publish]), Some((publish, &id)));
        assert_eq!(ports.holder(&id, &[publish]), None);
        ports.release(&id);
        TcpListener::bind((address, port)).unwrap();
        let elsewhere = Publish { address: Some(Ipv4Addr::new(192, 0, 2, 77).into()), ..publish };
        let error = ports.hold(&id, &[elsewhere]).unwrap_err();
        assert!(error.contains("which is no address of this machine"), "{error}");
    }

    #[test]
    fn a_long_range_is_looked_at_and_uses_up_nothing() {
        let id: TaskId = "exchange.main.0.calls".parse().unwrap();
        let [.., high, low] = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, 85, high, low);
        let range = |count| Publish {
            address: Some(address.into()),
            host_port: 10_000,
            guest_port: 10_000,
            count,
            transport: Transport::Udp,
        };
        let open_files = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let (mut ports, before) = (Ports::default(), open_files());
        ports.hold(&id, &[range(10_000)]).unwrap();
        assert!(open_files() < before + 100, "other tests open some too");
        let other = UdpSocket::bind((address, 15_000)).unwrap();
        ports.hold(&id, &[range(10_000)]).unwrap();
        assert!(!is_free(&range(10_000)), "what runs goes on, and what starts is refused");
        ports.release(&id);
        let error = ports.hold(&id, &[range(10_000)]).unwrap_err();
        assert!(error.starts_with("port 15000/udp of this machine is taken by another program"), "{error}");
        assert_eq!(
            ports.hold(&id, &[range(10_000)]),
            Ok(()),
            "it is told once of a task that runs all the same"
        );
        let second: TaskId = "exchange.main.0.second".parse().unwrap();
        assert_eq!(ports.holder(&second, &[range(1)]), Some((range(10_000), &id)));
        ports.release(&id);
        drop(other);
        ports.hold(&id, &[range(HELD_MAX)]).unwrap();
        assert!(UdpSocket::bind((address, 10_000)).is_err());
    }
}
