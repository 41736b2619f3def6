//! What guests may not have too much of, and what is told of those that are refused.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use lith_core::job::access::{Bandwidth, Egress};
use lith_net::ruleset;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, netlink, recv, send, socket_with,
};

use crate::world::{Machine, Namespace, SOON, World, granting, refusal, state};

/// How long it takes to carry so many bytes from one to the other, after as many at first that what has been saved up is used
/// up.
fn carry(
    (first, bytes): (usize, usize),
    from: &Namespace,
    to: &Namespace,
    listen: &str,
    connect: &str,
) -> Duration {
    let listener = to.run(|| TcpListener::bind(listen)).unwrap();
    let receiver = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut buffer = vec![0; 1 << 16];
        let (mut received, mut start) = (0, None);
        while received < first + bytes {
            let length = stream.read(&mut buffer).unwrap();
            assert_ne!(length, 0, "the stream ended after {received} bytes");
            received += length;
            if received >= first {
                start.get_or_insert_with(Instant::now);
            }
        }
        start.unwrap().elapsed()
    });
    let mut stream = from.run(|| TcpStream::connect(connect)).unwrap();
    let block = vec![0x55; 1 << 16];
    let mut left = first + bytes;
    while left > 0 {
        let length = left.min(block.len());
        // The other end is gone when it has all.
        stream.write_all(&block[..length]).unwrap();
        left -= length;
    }
    receiver.join().unwrap()
}

#[test]
fn a_guest_has_its_bandwidth_both_ways() {
    const BITS_PER_SECOND: u64 = 50_000_000;
    const BYTES: usize = 12_500_000;
    // A second's worth is saved up, and a bit.
    const SAVED: usize = 7_000_000;
    let world = World::new();
    let with = |bandwidth| {
        let mut wanted = state(&[(1, &["8080:80"])]);
        wanted.guests[0].bandwidth = bandwidth;
        wanted.guests[0].egress = vec![Egress::Internet];
        wanted
    };
    world.apply(&with(None));
    let guest = Machine::plug(&world, 1);
    let carried = || {
        let out = carry((SAVED, BYTES), &guest.inside, &world.lan, "9.9.9.9:7000", "9.9.9.9:7000");
        let back = carry((SAVED, BYTES), &world.lan, &guest.inside, "0.0.0.0:80", "192.0.2.1:8080");
        [out, back]
    };
    let unlimited = carried();
    world.apply(&with(Some(Bandwidth(BITS_PER_SECOND))));
    for (way, (took, before)) in ["out", "in"].into_iter().zip(carried().into_iter().zip(unlimited)) {
        let speed = |took: Duration| 8.0 * BYTES as f64 / 1e6 / took.as_secs_f64();
        println!("{way}: {:.1} Mbit/s, without a limit {:.1}", speed(took), speed(before));
        let percent = speed(took) * 1e8 / BITS_PER_SECOND as f64;
        // Headers count too.
        assert!((70.0..125.0).contains(&percent), "{way}: {percent} %");
    }
    // And another one, and none again.
    world.apply(&with(Some(Bandwidth(2 * BITS_PER_SECOND))));
    world.apply(&with(None));
}

#[test]
fn one_that_floods_is_held_back_alone() {
    let world = World::new();
    world.apply(&granting(state(&[(1, &[]), (2, &[]), (3, &[])]), &[(1, "2:80/udp"), (3, "2:80")]));
    let [one, two, three] = [1, 2, 3].map(|number| Machine::plug(&world, number));
    two.inside.serve("two", 80);
    // Each with a port of its own is a connection of its own, granted or not.
    let flood = |port: u16| {
        for _ in 0..4000 {
            let socket = one.inside.run(|| std::net::UdpSocket::bind("0.0.0.0:0")).unwrap();
            _ = socket.send_to(b"hello", ("10.83.0.2", port));
        }
    };
    flood(81);
    flood(80);
    let known = world.host.shell("cat /proc/sys/net/netfilter/nf_conntrack_count");
    assert!(known.trim().parse::<u32>().unwrap() < 6000, "{known}");
    assert!(three.inside.ask_tcp("10.83.0.2:80", SOON).is_some());
    // One that says much on one connection is not held back.
    let socket = one.inside.udp("0.0.0.0:0");
    lith_testkit::eventually("one to be let in again", || {
        crate::world::ask_socket(&socket, "10.83.0.2:80").map(drop).ok_or("silence")
    });
    for _ in 0..3000 {
        assert!(crate::world::ask_socket(&socket, "10.83.0.2:80").is_some());
    }
}

/// Listens to what is logged, as whoever tells people why something is refused does.
struct Log(OwnedFd);

impl Log {
    fn open(namespace: &Namespace) -> Self {
        namespace.run(|| {
            let socket = socket_with(
                AddressFamily::NETLINK,
                SocketType::RAW,
                SocketFlags::CLOEXEC,
                Some(netlink::NETFILTER),
            )
            .unwrap();
            bind(&socket, &SocketAddrNetlink::new(0, 0)).unwrap();
            set_socket_timeout(&socket, Timeout::Recv, Some(SOON)).unwrap();
            let log = Self(socket);
            // Bind to the group (command 1), and copy packets (mode 2) up to 4 KiB (linux/netfilter/nfnetlink_log.h).
            log.configure(1, &[1, 0, 0, 0]);
            log.configure(2, &[0, 0, 16, 0, 2, 0]);
            log
        })
    }

    fn configure(&self, attribute: u16, value: &[u8]) {
        let mut body = vec![0, 0];
        body.extend(ruleset::LOG_GROUP.to_be_bytes());
        body.extend(u16::try_from(4 + value.len()).unwrap().to_ne_bytes());
        body.extend(attribute.to_ne_bytes());
        body.extend(value);
        body.resize(body.len().next_multiple_of(4), 0);
        let mut message = u32::try_from(16 + body.len()).unwrap().to_ne_bytes().to_vec();
        message.extend(0x0401_u16.to_ne_bytes());
        message.extend(5_u16.to_ne_bytes());
        message.extend([0; 8]);
        message.extend(body);
        send(&self.0, &message, SendFlags::empty()).unwrap();
        let mut buffer = vec![0; 4096];
        let (length, _) = recv(&self.0, &mut *buffer, RecvFlags::empty()).unwrap();
        assert_eq!(buffer[16..20], [0; 4], "{:?}", &buffer[..length]);
    }

    /// The next message, whole.
    fn next(&self) -> Vec<u8> {
        let mut buffer = vec![0; 1 << 16];
        let (length, _) = recv(&self.0, &mut *buffer, RecvFlags::empty()).unwrap();
        buffer[..length].to_vec()
    }
}

#[test]
fn what_is_refused_is_told() {
    let world = World::new();
    let refusing = granting(state(&[(1, &[]), (2, &[])]), &[(2, "1:80"), (1, "4:80")]);
    world.apply(&refusing);
    let one = Machine::plug(&world, 1);
    let log = Log::open(&world.host);
    let contains = |message: &[u8], part: &[u8]| message.windows(part.len()).any(|window| window == part);
    let check = |to: &str, prefix: &str, destination: &[u8]| {
        refusal(&one, to);
        let message = log.next();
        assert!(contains(&message, &[prefix.as_bytes(), &[0]].concat()), "{to}: {message:?}");
        assert!(contains(&message, destination), "{to}: {message:?}");
    };
    // What nobody answers is granted, and so is nothing to tell of.
    refusal(&one, "10.83.0.4:80");
    check("9.9.9.9:443", ruleset::LOG_OUT, &[10, 83, 0, 1, 9, 9, 9, 9]);
    check("10.83.0.2:80", ruleset::LOG_TASK, &[10, 83, 0, 1, 10, 83, 0, 2]);
    check("10.83.0.4:81", ruleset::LOG_TASK, &[10, 83, 0, 1, 10, 83, 0, 4]);
    check("10.83.128.1:81", ruleset::LOG_TASK, &[10, 83, 0, 1, 10, 83, 128, 1]);
    check("192.0.2.1:22", ruleset::LOG_NODE, &[10, 83, 0, 1, 192, 0, 2, 1]);
    check("[2a02::7]:443", ruleset::LOG_OUT, &[0x2a, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
    check("[2a01::1]:443", ruleset::LOG_NODE, &[0x2a, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
}
