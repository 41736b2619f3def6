//! The sockets at which guests are answered: UDP and TCP at each address, all at one port. Owns how they are made.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// How often another port is tried when somebody has the one that the kernel chose for another transport or address.
const ATTEMPTS_MAX: u32 = 32;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 256;
/// Room for questions that wait, bytes: some thousand, so that one guest's flood does not push out others' at once.
const RECEIVE_BYTES: usize = 4 << 20;

/// The sockets at one address.
#[derive(Debug)]
pub struct Pair {
    /// For messages.
    pub udp: OwnedFd,
    /// Listens for connections.
    pub tcp: OwnedFd,
}

/// Sockets at those of the addresses whose family the machine has, and the port of all of them: `wanted`, unless that is
/// not to be had, or 0. Whoever has the same rights may share it, as a successor does. An address need not be there yet.
///
/// # Errors
/// What the system says of the last attempt.
pub fn bind(addresses: &[IpAddr], wanted: u16) -> io::Result<(u16, Vec<Pair>)> {
    if wanted != 0
        && let Ok(pairs) = bind_all(addresses, wanted)
    {
        return Ok((wanted, pairs));
    }
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for _ in 0..ATTEMPTS_MAX {
        let chosen = addresses.first().map(|address| udp(*address, 0)).transpose();
        let attempt = chosen.and_then(|socket| {
            let socket = socket.ok_or(io::ErrorKind::InvalidInput)?;
            let port = port(&socket)?;
            // It must be free for the others; this one is made anew with them.
            drop(socket);
            bind_all(addresses, port).map(|pairs| (port, pairs))
        });
        match attempt {
            Ok(bound) => return Ok(bound),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn bind_all(addresses: &[IpAddr], port: u16) -> io::Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    for address in addresses {
        let pair = udp(*address, port).and_then(|udp| Ok(Pair { udp, tcp: tcp(*address, port)? }));
        match pair {
            Ok(pair) => pairs.push(pair),
            // A machine without IPv6 has guests without it.
            Err(error) if address.is_ipv6() && is_without_family(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(pairs)
}

fn is_without_family(error: &io::Error) -> bool {
    let errno = rustix::io::Errno::from_io_error(error);
    matches!(errno, Some(rustix::io::Errno::AFNOSUPPORT | rustix::io::Errno::ADDRNOTAVAIL))
}

fn udp(address: IpAddr, port: u16) -> io::Result<OwnedFd> {
    let socket = socket(address, SocketType::DGRAM)?;
    // Root may have more than the machine's limit, and without that there is less room.
    let _ = sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BYTES);
    rustix::net::bind(&socket, &SocketAddr::new(address, port))?;
    Ok(socket)
}

fn tcp(address: IpAddr, port: u16) -> io::Result<OwnedFd> {
    let socket = socket(address, SocketType::STREAM)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &SocketAddr::new(address, port))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn socket(address: IpAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, kind, flags, None)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    match address {
        IpAddr::V4(_) => sockopt::set_ip_freebind(&socket, true)?,
        IpAddr::V6(_) => {
            sockopt::set_ipv6_v6only(&socket, true)?;
            sockopt::set_ipv6_freebind(&socket, true)?;
        }
    }
    Ok(socket)
}

fn port(socket: &OwnedFd) -> io::Result<u16> {
    let address = rustix::net::getsockname(socket)?;
    let address = SocketAddr::try_from(address).map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_have_one_port_and_a_successor_shares_it() {
        let addresses = ["127.83.0.1".parse().unwrap(), "127.83.0.2".parse().unwrap()];
        let (first, pairs) = bind(&addresses, 0).unwrap();
        assert!(first != 0 && pairs.len() == 2);
        for pair in &pairs {
            assert_eq!((port(&pair.udp).unwrap(), port(&pair.tcp).unwrap()), (first, first));
        }
        let (second, _pairs) = bind(&addresses, first).unwrap();
        assert_eq!(second, first);
    }

    #[test]
    fn a_port_of_others_is_left_to_them() {
        let others = std::net::UdpSocket::bind("127.83.0.3:0").unwrap();
        let taken = others.local_addr().unwrap().port();
        let (port, _pairs) = bind(&["127.83.0.3".parse().unwrap()], taken).unwrap();
        assert_ne!(port, taken);
    }

    #[test]
    fn addresses_need_not_be_there() {
        bind(&["169.254.83.1".parse().unwrap()], 0).unwrap();
    }
}
