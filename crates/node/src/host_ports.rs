//! Which ports of this machine programs hold, and which programs those are: what the kernel shows under `/proc`.
//!
//! Must not decide whether that is in anybody's way. lith's own sockets, by which it holds what tasks publish, are left
//! out.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use lith_core::deploy::ports::Socket;
use lith_core::job::Transport;

/// Most of one table that is read: a line for each of some hundred thousand connections.
const TABLE_BYTES_MAX: u64 = 64 << 20;
/// States of a socket in the tables (`include/net/tcp_states.h`): for UDP the second one means that it is connected to
/// nobody.
const LISTENING: &str = "0A";
const UNCONNECTED: &str = "07";

/// Tables of the network namespace of whoever reads them, and the state in which a socket keeps others from its port.
const TABLES: [(&str, Transport, &str); 4] = [
    ("tcp", Transport::Tcp, LISTENING),
    ("tcp6", Transport::Tcp, LISTENING),
    ("udp", Transport::Udp, UNCONNECTED),
    ("udp6", Transport::Udp, UNCONNECTED),
];

/// A socket with the number by which the processes that have it are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Held {
    pub(crate) socket: Socket,
    pub(crate) inode: u64,
}

/// Every socket of other programs that keeps its port from others. A table that is not there, as without IPv6, holds none.
///
/// # Errors
/// A table cannot be read.
pub(crate) fn held() -> io::Result<Vec<Held>> {
    let own = own_inodes()?;
    let mut found = Vec::new();
    for (name, transport, state) in TABLES {
        let file = match fs::File::open(format!("/proc/thread-self/net/{name}")) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for line in BufReader::new(file.take(TABLE_BYTES_MAX)).lines() {
            let held = entry(&line?, transport, state);
            found.extend(held.filter(|held| !own.contains(&held.inode)));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The name and the number of a process that has a socket; `None` when it is the kernel's own, or gone.
pub(crate) fn process_of(inode: u64) -> Option<(String, u32)> {
    let processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let mut numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pid = numbers.find(|pid| {
        let sockets = sockets_of(Path::new(&format!("/proc/{pid}/fd")));
        sockets.is_ok_and(|sockets| sockets.contains(&inode))
    })?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    // A program may call itself anything.
    let name = name.trim().chars().filter(|letter| !letter.is_control()).collect();
    Some((name, pid))
}

fn own_inodes() -> io::Result<BTreeSet<u64>> {
    sockets_of(Path::new("/proc/self/fd"))
}

/// Sockets among the open files of a process.
fn sockets_of(folder: &Path) -> io::Result<BTreeSet<u64>> {
    let links = fs::read_dir(folder)?.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let inode =
        |link: std::path::PathBuf| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok();
    Ok(links.filter_map(inode).collect())
}

/// A line of a table (proc_net_tcp(5)): number, local address, remote one, state, …, and as the tenth field the inode.
fn entry(line: &str, transport: Transport, state: &str) -> Option<Held> {
    let fields: Vec<&str> = line.split_ascii_whitespace().take(10).collect();
    let [_, local, _, in_state, _, _, _, _, _, inode] = fields[..] else { return None };
    if in_state != state {
        return None;
    }
    let (address, port) = local.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok().filter(|port| *port != 0)?;
    let socket = Socket { address: self::address(address)?, port, transport };
    Some(Held { socket, inode: inode.parse().ok()? })
}

/// An address as its 32-bit words, each in the order of this machine.
fn address(text: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let text = text.get(at..at + 8)?;
        Some(u32::from_str_radix(text, 16).ok()?.to_ne_bytes())
    };
    match text.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut bytes = [0; 16];
            for (at, chunk) in bytes.chunks_mut(4).enumerate() {
                chunk.copy_from_slice(&word(at * 8)?);
            }
            Some(IpAddr::from(Ipv6Addr::from(bytes)).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn lines_of_the_tables() {
        let check = |line: &str, transport, state, expected: Option<(&str, u16, u64)>| {
            let found = entry(line, transport, state);
            let found = found.map(|Held { socket, inode }| (socket.address.to_string(), socket.port, inode));
            let expected = expected.map(|(address, port, inode)| (address.to_owned(), port, inode));
            assert_eq!(found, expected, "{line}");
        };
        let udp = "  812: 3500007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 18391 2 0000000000000000 0";
        check(udp, Transport::Udp, UNCONNECTED, Some(("127.0.0.53", 53, 18391)));
        check(udp, Transport::Udp, LISTENING, None);
        let tcp = "   0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1402 1 0000000000000000 100 0 0 10 0";
        check(tcp, Transport::Tcp, LISTENING, Some(("::", 22, 1402)));
        let mapped = tcp.replacen("00000000000000000000000000000000", "0000000000000000FFFF00000100007F", 1);
        check(&mapped, Transport::Tcp, LISTENING, Some(("127.0.0.1", 22, 1402)));
        check(
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
            Transport::Tcp,
            LISTENING,
            None,
        );
        for damaged in [
            "",
            "0: 0100007F 0:0 0A 0 0 0 0 0 1",
            "0: 0100007F:ZZ 0:0 0A 0 0 0 0 0 1",
            "0: é00007F:0035 0:0 0A 0 0 0 0 0 1",
        ] {
            check(damaged, Transport::Tcp, LISTENING, None);
        }
    }

    #[test]
    fn own_sockets_are_left_out_and_those_of_others_have_a_name() {
        let [.., high, low] = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, 84, high, low);
        let (tcp, udp) = (TcpListener::bind((address, 0)).unwrap(), UdpSocket::bind((address, 0)).unwrap());
        let ports = [tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port()];
        let found = || -> Vec<Held> {
            let all = held().unwrap();
            all.into_iter()
                .filter(|held| held.socket.address == address && ports.contains(&held.socket.port))
                .collect()
        };
        assert_eq!(found(), []);
        // Handed to another process, and closed here, they are that one's.
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(std::os::fd::OwnedFd::from(tcp))
            .stderr(std::os::fd::OwnedFd::from(udp))
            .spawn()
            .unwrap();
        let theirs = found();
        let transports: Vec<Transport> = theirs.iter().map(|held| held.socket.transport).collect();
        assert_eq!(transports.len(), 2, "{theirs:?}");
        for held in &theirs {
            assert_eq!(process_of(held.inode), Some(("cat".to_owned(), child.id())));
        }
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(found(), []);
    }
}
