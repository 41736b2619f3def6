//! What is refused is read as the kernel tells it.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use lith_net::blocked::{LOG_GROUP, LOG_PREFIX, Reader};
use lith_net::own_addresses;
use lith_testkit::eventually;

use crate::world::{Namespace, SOON};

/// A host with a cable that is called like a TAP, and a program at its other end; what comes in is logged and refused.
fn refusing() -> (Namespace, Namespace) {
    let (host, guest) = (Namespace::new(), Namespace::new());
    host.shell(&format!(
        "ip link add lith7 type veth peer name eth0 netns {}; \
         ip addr add 10.83.9.1/24 dev lith7; ip -6 addr add fd00::1/64 dev lith7 nodad; ip link set lith7 up; \
         nft add table inet t; nft add chain inet t input '{{ type filter hook input priority 0; policy accept; }}'; \
         nft add rule inet t input 'udp dport 1000-2000 log prefix \"{LOG_PREFIX} out\" group {LOG_GROUP} snaplen 128 drop'; \
         nft add rule inet t input 'udp dport 3000 log prefix \"mine\" group {LOG_GROUP} drop'",
        guest.process()
    ));
    guest.shell(
        "ip addr add 10.83.9.2/24 dev eth0; ip -6 addr add fd00::2/64 dev eth0 nodad; ip link set eth0 up",
    );
    for (namespace, device) in [(&host, "lith7"), (&guest, "eth0")] {
        eventually(&format!("{device} to be up"), || {
            let link = namespace.shell(&format!("ip -br link show {device}"));
            if link.contains(" UP ") { Ok(()) } else { Err(link) }
        });
    }
    (host, guest)
}

/// Says something to each address.
fn send(from: &Namespace, to: &[&str]) {
    from.run(|| {
        let (four, six) = (UdpSocket::bind("0.0.0.0:0").unwrap(), UdpSocket::bind("[::]:0").unwrap());
        for to in to {
            let socket = if to.starts_with('[') { &six } else { &four };
            socket.send_to(b"hello", to).unwrap();
        }
    });
}

#[test]
fn what_a_guest_sent_is_told() {
    let (host, guest) = refusing();
    let own = host.run(own_addresses).unwrap();
    for address in ["10.83.9.1", "fd00::1", "127.0.0.1", "::1"] {
        assert!(own.contains(&address.parse().unwrap()), "{address}");
    }
    let reader = host.run(Reader::open).unwrap();
    assert!(host.run(Reader::open).is_err(), "one reads");
    assert_eq!(reader.read(Duration::from_millis(1)).unwrap(), []);
    // What others log, and what comes by another device, is passed over.
    send(&guest, &["10.83.9.1:3000", "10.83.9.1:1000", "[fd00::1]:2000", "10.83.9.1:1000"]);
    send(&host, &["127.0.0.1:1000", "[::1]:1000"]);
    let (mut told, deadline) = (Vec::new(), Instant::now() + SOON);
    while told.len() < 3 {
        assert!(Instant::now() < deadline, "{told:?}");
        let refused = reader.read(Duration::from_millis(100)).unwrap();
        told.extend(refused.into_iter().map(|refused| format!("{} {}", refused.slot, refused.attempt)));
    }
    told.sort();
    assert_eq!(told, ["7 10.83.9.1:1000/udp", "7 10.83.9.1:1000/udp", "7 [fd00::1]:2000/udp"]);
    assert_eq!(reader.read(Duration::from_millis(300)).unwrap(), [], "nothing else");
    // A reader that is gone leaves the group to the next one.
    drop(reader);
    host.run(Reader::open).unwrap();
}
