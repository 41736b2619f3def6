//! The node's ports that tasks publish, held so that no other program takes them meanwhile.
//!
//! Traffic to them never reaches these sockets: the packet filter leads it to the guest. They are bound for the sake of
//! a clear refusal, in both directions: lith learns that a port is taken, and other programs learn it of lith's.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use lith_core::job::{Publish, Transport};
use lith_core::name::TaskId;

/// The ports held for tasks.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    held: BTreeMap<TaskId, Vec<Held>>,
}

#[derive(Debug)]
struct Held {
    publish: Publish,
    /// Closed when dropped, which is all that it is for.
    _socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Tcp { _listener: TcpListener },
    Udp { _socket: UdpSocket },
}

impl Ports {
    /// Holds exactly `publishes` for the task.
    ///
    /// # Errors
    /// A sentence naming the port that another program has. Nothing is held for the task then.
    pub(crate) fn hold(&mut self, id: &TaskId, publishes: &[Publish]) -> Result<(), String> {
        let mut before = self.held.remove(id).unwrap_or_default();
        let mut held = Vec::new();
        for publish in publishes {
            if let Some(index) = before.iter().position(|held| held.publish == *publish) {
                held.push(before.swap_remove(index));
                continue;
            }
            let socket = bind(publish).map_err(|error| sentence(publish, &error))?;
            held.push(Held { publish: *publish, _socket: socket });
        }
        self.held.insert(id.clone(), held);
        Ok(())
    }

    /// Lets go of all that is held for the task.
    pub(crate) fn release(&mut self, id: &TaskId) {
        self.held.remove(id);
    }
}

fn bind(publish: &Publish) -> io::Result<Socket> {
    let address = (publish.address.unwrap_or(Ipv4Addr::UNSPECIFIED), publish.host_port);
    Ok(match publish.transport {
        Transport::Tcp => Socket::Tcp { _listener: TcpListener::bind(address)? },
        Transport::Udp => Socket::Udp { _socket: UdpSocket::bind(address)? },
    })
}

fn sentence(publish: &Publish, error: &io::Error) -> String {
    let port = format!("port {}/{}", publish.host_port, publish.transport);
    match error.kind() {
        io::ErrorKind::AddrInUse => format!("{port} of this machine is taken by another program"),
        io::ErrorKind::AddrNotAvailable => {
            let address = publish.address.unwrap_or(Ipv4Addr::UNSPECIFIED);
            format!("{port} cannot be published on {address}, which is no address of this machine")
        }
        _ => format!("{port} of this machine cannot be had: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_and_a_held_one_is_refused_to_others() {
        let id: TaskId = "shop.main.0.web".parse().unwrap();
        // An address of its own, so that no other program takes the port while it is free.
        let [.., high, low] = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, 83, high, low);
        let other = TcpListener::bind((address, 0)).unwrap();
        let port = other.local_addr().unwrap().port();
        let publish =
            Publish { address: Some(address), host_port: port, guest_port: 80, transport: Transport::Tcp };
        let mut ports = Ports::default();
        let error = ports.hold(&id, &[publish]).unwrap_err();
        assert_eq!(error, format!("port {port}/tcp of this machine is taken by another program"));
        drop(other);
        ports.hold(&id, &[publish]).unwrap();
        ports.hold(&id, &[publish]).unwrap();
        assert!(TcpListener::bind((address, port)).is_err());
        ports.release(&id);
        TcpListener::bind((address, port)).unwrap();
        let elsewhere = Publish { address: Some(Ipv4Addr::new(192, 0, 2, 77)), ..publish };
        let error = ports.hold(&id, &[elsewhere]).unwrap_err();
        assert!(error.contains("which is no address of this machine"), "{error}");
    }
}
