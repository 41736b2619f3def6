//! Network namespaces that stand for a host, its neighbours and its guests, and what tests do in them.
//!
//! A guest is the process at the other end of a TAP: here a pump that carries frames between lith's TAP in the host's
//! namespace and a second TAP in the guest's. Namespaces have no names, so they vanish with the test's process however
//! it ends.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use lith_core::connect::{Grant, Reach};
use lith_core::job::access::ConnectPorts;
use lith_core::slot::Slot;
use lith_net::Redirect;
use lith_net::{Guest, Network, NetworkState, Opened, Resolver, address, tap};
use lith_testkit::eventually;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, SocketType};
use tempfile::TempDir;

/// Who answers questions for names, as far as the rules know.
pub(crate) const RESOLVER: Resolver = Resolver { port: 5353, user: 65_000 };
/// How long what should happen may take.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// How long to wait for an answer that must not come. Each such case has a twin that is answered.
pub(crate) const NEVER: Duration = Duration::from_millis(400);

pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
/// An address that stands for the internet.
pub(crate) const FAR: Ipv4Addr = Ipv4Addr::new(9, 9, 9, 9);

pub(crate) const HOST_6: Ipv6Addr = Ipv6Addr::new(0x2a01, 0, 0, 0, 0, 0, 0, 1);
pub(crate) const NEIGHBOUR_6: Ipv6Addr = Ipv6Addr::new(0x2a01, 0, 0, 0, 0, 0, 0, 9);
/// The same of IPv6.
pub(crate) const FAR_6: Ipv6Addr = Ipv6Addr::new(0x2a02, 0, 0, 0, 0, 0, 0, 7);

/// Whose network it is.
const OWNER: &str = "/var/lib/lith";

/// A network namespace, and who speaks in it.
pub(crate) struct Namespace(lith_testkit::Namespace);

impl Deref for Namespace {
    type Target = lith_testkit::Namespace;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Namespace {
    pub(crate) fn new() -> Self {
        Self(lith_testkit::Namespace::new())
    }

    fn await_link(&self, device: &str) {
        eventually(&format!("{device} to be up"), || {
            let link = self.shell(&format!("ip -br link show {device}"));
            if link.contains(" UP ") { Ok(()) } else { Err(link) }
        });
    }

    pub(crate) fn udp(&self, at: &str) -> UdpSocket {
        let socket = self.run(|| UdpSocket::bind(at)).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket
    }

    /// Asks an echo server over TCP; `None` when it does not answer within `patience`.
    pub(crate) fn ask_tcp(&self, to: &str, patience: Duration) -> Option<String> {
        let to: SocketAddr = to.parse().unwrap();
        let stream = self.run(|| TcpStream::connect_timeout(&to, patience)).ok()?;
        stream.set_read_timeout(Some(patience)).unwrap();
        ask_stream(&stream)
    }

    /// Asks an echo server over UDP; `None` when it does not answer within `patience`.
    pub(crate) fn ask_udp(&self, to: &str, patience: Duration) -> Option<String> {
        let socket = self.udp(if to.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" });
        socket.set_read_timeout(Some(patience)).unwrap();
        ask_socket(&socket, to)
    }

    /// Serves on a port of both transports: says `name`, the client's address and what was asked.
    pub(crate) fn serve(&self, name: &'static str, port: u16) {
        for any in ["0.0.0.0", "::"] {
            self.serve_at(name, any, port);
        }
    }

    /// The same on one address. `::` is IPv6 alone.
    pub(crate) fn serve_at(&self, name: &'static str, address: &str, port: u16) {
        let at = (address, port);
        // The standard library has no way to say that a socket is for IPv6 alone, so the namespace does.
        self.shell("sysctl -qw net.ipv6.bindv6only=1");
        let listener = self.run(|| TcpListener::bind(at)).unwrap();
        thread::spawn(move || listener.incoming().for_each(|stream| drop(stream.map(|it| echo(name, it)))));
        let socket = self.run(|| UdpSocket::bind(at)).unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((length, client)) = socket.recv_from(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                _ = socket.send_to(format!("{name} {} {text}", client.ip()).as_bytes(), client);
            }
        });
    }
}

fn echo(name: &'static str, stream: TcpStream) {
    thread::spawn(move || {
        let client = stream.peer_addr().unwrap().ip();
        for line in BufReader::new(&stream).lines().map_while(Result::ok) {
            _ = writeln!(&stream, "{name} {client} {line}");
        }
    });
}

/// Says "hello" on a stream and gives the answer.
pub(crate) fn ask_stream(mut stream: &TcpStream) -> Option<String> {
    stream.write_all(b"hello\n").ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    Some(line.trim_end().to_owned())
}

/// Says "hello" from a socket and gives the answer.
pub(crate) fn ask_socket(socket: &UdpSocket, to: &str) -> Option<String> {
    socket.send_to(b"hello", to).ok()?;
    receive(socket)
}

pub(crate) fn receive(socket: &UdpSocket) -> Option<String> {
    let mut buffer = [0; 2048];
    let (length, _) = socket.recv_from(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// A host with lith on it, and a neighbour on its network that also stands for the internet.
pub(crate) struct World {
    pub(crate) host: Namespace,
    pub(crate) lan: Namespace,
    pub(crate) folder: TempDir,
    network: Network,
}

impl World {
    pub(crate) fn new() -> Self {
        let (host, lan) = (Namespace::new(), Namespace::new());
        host.shell(&format!("ip link add lan0 type veth peer name lan0 netns {}", lan.process()));
        // Without addresses that the kernel gives in its own time, amid the comparing of traces.
        let quiet = "sysctl -qw net.ipv6.conf.lan0.addr_gen_mode=1 net.ipv6.conf.lan0.accept_dad=0 net.ipv6.conf.lan0.accept_ra=0";
        host.shell(&format!(
            "{quiet}; ip addr add {HOST}/24 dev lan0; ip addr add {HOST_6}/64 dev lan0 nodad; ip link set lan0 up; \
             ip route add default via {NEIGHBOUR}; ip route add default via {NEIGHBOUR_6}"
        ));
        lan.shell(&format!(
            "{quiet}; ip addr add {NEIGHBOUR}/24 dev lan0; ip addr add {NEIGHBOUR_6}/64 dev lan0 nodad; \
             ip addr add {FAR}/32 dev lo; ip addr add {FAR_6}/128 dev lo nodad; ip link set lan0 up; \
             ip route add 10.83.0.0/16 via {HOST}; ip route add fd6c:690a:5301::/48 via {HOST_6}"
        ));
        let folder = TempDir::new().unwrap();
        let network = Network::new(folder.path().join("network"), OWNER);
        Self { host, lan, folder, network }
    }

    /// Joins another network to the host, through its interface `device`.
    pub(crate) fn join(&self, other: &Namespace, device: &str, host_address: &str, other_address: &str) {
        self.host.shell(&format!("ip link add {device} type veth peer name lan0 netns {}", other.process()));
        self.host.shell(&format!("ip addr add {host_address}/24 dev {device}; ip link set {device} up"));
        other.shell(&format!(
            "ip addr add {other_address}/24 dev lan0; ip link set lan0 up; ip route add default via {host_address}"
        ));
    }

    pub(crate) fn apply(&self, state: &NetworkState) {
        self.host.run(|| self.network.apply(state, &Vec::new)).unwrap();
    }

    /// Applies a state as after a disturbance, with what names have opened.
    pub(crate) fn repair(&self, state: &NetworkState, still_open: &[Opened]) {
        self.network.distrust();
        self.host.run(|| self.network.apply(state, &|| still_open.to_vec())).unwrap();
    }

    /// Somebody may have changed the rules.
    pub(crate) fn distrust(&self) {
        self.network.distrust();
    }

    pub(crate) fn pass_firewalls(&self) {
        self.host.run(|| self.network.pass_firewalls());
    }

    pub(crate) fn remove_all(&self) {
        self.host.run(|| self.network.remove_all(lith_net::GuestNetwork::default())).unwrap();
    }

    /// The agent is started anew.
    pub(crate) fn restart(&mut self) {
        self.network = Network::new(self.folder.path().join("network"), OWNER);
    }

    /// The kernel is one before 6.17.
    pub(crate) fn on_older_kernel(mut self) -> Self {
        self.network = Network::new(self.folder.path().join("network"), OWNER).on_older_kernel();
        self
    }

    /// Takes the protection away, to show that a probe does reach what it aims at.
    pub(crate) fn unprotect(&self) {
        self.host.shell("nft delete table netdev lith");
        self.unprotect_rest();
    }

    /// The same when the protection of the TAPs alone is gone already.
    pub(crate) fn unprotect_rest(&self) {
        self.host.shell(
            "nft delete table inet lith; sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1",
        );
    }
}

/// A state from slots and, for each, publishes like `8080:80`, `53:53/udp`, `127.0.0.1:80:80`,
/// `9000-9010:9000-9010`.
pub(crate) fn state(guests: &[(u16, &[&str])]) -> NetworkState {
    let guest = |(number, publishes): &(u16, &[&str])| Guest {
        publishes: publishes.iter().flat_map(|text| redirects(text)).collect(),
        ..Guest::closed(slot(*number))
    };
    NetworkState { guests: guests.iter().map(guest).collect(), ..NetworkState::default() }
}

/// The same state with grants: a client, and like `2:80`, `2:53/udp`, `2:9000-9010`, `2:*` what it may reach.
pub(crate) fn granting(mut state: NetworkState, grants: &[(u16, &str)]) -> NetworkState {
    for (client, text) in grants {
        let connect = lith_core::value::access::connect(text).unwrap();
        let reach = match connect.ports {
            ConnectPorts::One(port) => Reach::Ports(port),
            ConnectPorts::Any => Reach::Any,
            ConnectPorts::Declared => panic!("{text} names no port"),
        };
        let target = slot(connect.task.as_str().parse().unwrap());
        let guest = state.guests.iter_mut().find(|guest| guest.slot == slot(*client)).unwrap();
        guest.connects.push(Grant { target, reach });
    }
    state
}

pub(crate) fn slot(number: u16) -> Slot {
    Slot::new(number).unwrap()
}

fn redirects(text: &str) -> impl Iterator<Item = Redirect> {
    Redirect::of(lith_core::value::port::publish(text).unwrap())
}

/// How a connection fails, and that it does so sooner than by waiting.
///
/// The call itself waits. Who is told by `poll`, as `connect_timeout` is, may find no error yet: Linux wakes before it has
/// noted what an ICMP error says (`ip_icmp_error` in `tcp_v4_err`).
pub(crate) fn refusal(from: &Machine, to: &str) -> io::ErrorKind {
    let to: SocketAddr = to.parse().unwrap();
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = from.inside.run(|| rustix::net::socket(family, SocketType::STREAM, None)).unwrap();
    sockopt::set_socket_timeout(&socket, Timeout::Send, Some(SOON)).unwrap();
    let start = Instant::now();
    let error = io::Error::from(rustix::net::connect(&socket, &to).unwrap_err());
    assert!(start.elapsed() < SOON, "{error}");
    error.kind()
}

/// Bytes of the `virtio_net_hdr` before each frame; all zero means "nothing special".
const FRAME_HEADER_BYTES: usize = 10;

#[derive(Default)]
struct Capture {
    frames: Mutex<Vec<Vec<u8>>>,
    changed: Condvar,
}

/// A guest's machine, plugged into its TAP.
pub(crate) struct Machine {
    pub(crate) inside: Namespace,
    /// Its slot's.
    pub(crate) number: u16,
    host_end: Arc<OwnedFd>,
    seen: Arc<Capture>,
    /// Closed to stop the pumps.
    _stop: OwnedFd,
}

impl Machine {
    pub(crate) fn plug(world: &World, number: u16) -> Self {
        let slot = slot(number);
        let inside = Namespace::new();
        let (guest_mac, host_mac) = (address::guest_mac(slot), address::host_mac(slot));
        let (guest, gateway) = (lith_net::GuestNetwork::default().guest_address(slot), address::GATEWAY);
        let (guest_6, gateway_6) =
            (lith_net::GuestNetwork::default().guest_address_6(slot), address::GATEWAY_LINK_6);
        inside.shell(&format!(
            "ip tuntap add dev eth0 mode tap vnet_hdr; sysctl -qw net.ipv6.conf.eth0.addr_gen_mode=1; \
             ip link set eth0 address {guest_mac} arp off up; ip addr add {guest}/32 dev eth0; \
             ip neigh replace {gateway} lladdr {host_mac} dev eth0 nud permanent; \
             ip route add {gateway} dev eth0 scope link; ip route add default via {gateway}; \
             ip addr add {guest_6}/128 dev eth0 nodad; ip neigh replace {gateway_6} lladdr {host_mac} dev eth0 nud permanent; \
             ip route add {gateway_6} dev eth0; ip route add default via {gateway_6} dev eth0 src {guest_6}"
        ));
        let guest_end = Arc::new(inside.run(|| tap::open_named("eth0")).unwrap());
        let host_end = Arc::new(world.host.run(|| world.network.open_tap(slot)).unwrap());
        let seen = Arc::new(Capture::default());
        let (stopped, stop) = rustix::pipe::pipe().unwrap();
        let stopped = Arc::new(stopped);
        pump(host_end.clone(), guest_end.clone(), stopped.clone(), Some(seen.clone()));
        pump(guest_end, host_end.clone(), stopped, None);
        // The kernel drops what is sent in the moments between a cable's plugging and its noticing.
        world.host.await_link(&address::tap_name(slot));
        inside.await_link("eth0");
        Self { inside, number, host_end, seen, _stop: stop }
    }

    /// Sends a frame as a guest that obeys nobody.
    pub(crate) fn inject(&self, frame: &[u8]) {
        let framed = [&[0; FRAME_HEADER_BYTES], frame].concat();
        assert_eq!(rustix::io::write(&*self.host_end, &framed), Ok(framed.len()));
    }

    /// Waits until a frame that fits has come from the host.
    pub(crate) fn await_frame(&self, what: &str, fits: impl Fn(&[u8]) -> bool) {
        let frames = self.seen.frames.lock().unwrap();
        let missing = |frames: &mut Vec<Vec<u8>>| !frames.iter().any(|frame| fits(frame));
        let (_frames, result) = self.seen.changed.wait_timeout_while(frames, SOON, missing).unwrap();
        assert!(!result.timed_out(), "no {what} came");
    }

    /// Whether a frame that fits has come from the host.
    pub(crate) fn has_seen(&self, fits: impl Fn(&[u8]) -> bool) -> bool {
        self.seen.frames.lock().unwrap().iter().any(|frame| fits(frame))
    }
}

/// Carries frames until `stopped` is closed or a device is gone.
fn pump(from: Arc<OwnedFd>, to: Arc<OwnedFd>, stopped: Arc<OwnedFd>, seen: Option<Arc<Capture>>) {
    thread::spawn(move || {
        let mut buffer = vec![0; 70_000];
        loop {
            let mut ready = [PollFd::new(&*from, PollFlags::IN), PollFd::new(&*stopped, PollFlags::IN)];
            if poll(&mut ready, None).is_err() || !ready[1].revents().is_empty() {
                return;
            }
            let Ok(length) = rustix::io::read(&*from, &mut buffer) else { return };
            if let Some(seen) = &seen {
                seen.frames.lock().unwrap().push(buffer[FRAME_HEADER_BYTES..length].to_vec());
                seen.changed.notify_all();
            }
            if rustix::io::write(&*to, &buffer[..length]).is_err() {
                return;
            }
        }
    });
}
