//! Frames that an honest guest would never send.

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};

use lith_net::address::{self, MacAddress};

use crate::world::{
    FAR, FAR_6, HOST, HOST_6, Machine, NEIGHBOUR, NEIGHBOUR_6, World, granting, receive, slot, state,
};

const TYPE_IPV4: [u8; 2] = [0x08, 0x00];
const TYPE_ARP: [u8; 2] = [0x08, 0x06];
const TYPE_IPV6: [u8; 2] = [0x86, 0xdd];

fn ethernet(source: MacAddress, destination: MacAddress, tagged_type: &[u8], payload: &[u8]) -> Vec<u8> {
    [&destination.0[..], &source.0, tagged_type, payload].concat()
}

/// The internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    (!u16::try_from(sum).unwrap()).to_be_bytes()
}

fn ipv4(protocol: u8, source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let mut header = vec![0x45, 0, high, low, 0, 0, 0x40, 0, 64, protocol, 0, 0];
    header.extend(source.octets());
    header.extend(destination.octets());
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum);
    [&header, payload].concat()
}

fn udp(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), text: &str) -> Vec<u8> {
    let length = u16::try_from(8 + text.len()).unwrap().to_be_bytes();
    let ports = [source.1.to_be_bytes(), destination.1.to_be_bytes()].concat();
    // A checksum of zero means that there is none.
    ipv4(17, source.0, destination.0, &[&ports[..], &length, &[0, 0], text.as_bytes()].concat())
}

fn echo_request(source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
    let mut message = vec![8, 0, 0, 0, 0, 1, 0, 1];
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum);
    ipv4(1, source, destination, &message)
}

fn arp_request(mac: MacAddress, source: Ipv4Addr, wanted: Ipv4Addr) -> Vec<u8> {
    let heading = [0, 1, 8, 0, 6, 4, 0, 1];
    [&heading[..], &mac.0, &source.octets(), &[0; 6], &wanted.octets()].concat()
}

/// An ICMPv6 echo request to all nodes of the link, from fe80::1234.
fn ipv6_echo_request() -> Vec<u8> {
    let source = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x34];
    let everyone = [0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let mut message = vec![128, 0, 0, 0, 0, 1, 0, 1];
    let sum = checksum(&[&source[..], &everyone, &[0, 0, 0, 8, 0, 0, 0, 58], &message].concat());
    message[2..4].copy_from_slice(&sum);
    [&[0x60, 0, 0, 0, 0, 8, 58, 255][..], &source, &everyone, &message].concat()
}

/// A packet of IPv6 with the checksum that ICMP and UDP have at this place in their header.
fn ipv6(next: u8, source: Ipv6Addr, destination: Ipv6Addr, payload: &[u8], checksum_at: usize) -> Vec<u8> {
    let mut payload = payload.to_vec();
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let pseudo = [&source.octets()[..], &destination.octets(), &[0, 0], &length, &[0, 0, 0, next]].concat();
    let sum = checksum(&[pseudo, payload.clone()].concat());
    payload[checksum_at..checksum_at + 2].copy_from_slice(&sum);
    let heading = [&[0x60, 0, 0, 0][..], &length, &[next, 255]].concat();
    [&heading, &source.octets()[..], &destination.octets(), &payload].concat()
}

fn udp_6(source: (Ipv6Addr, u16), destination: (Ipv6Addr, u16), text: &str) -> Vec<u8> {
    let length = u16::try_from(8 + text.len()).unwrap().to_be_bytes();
    let ports = [source.1.to_be_bytes(), destination.1.to_be_bytes()].concat();
    let payload = [&ports[..], &length, &[0, 0], text.as_bytes()].concat();
    ipv6(17, source.0, destination.0, &payload, 6)
}

/// A claim to be a router, and to be the only one.
fn router_advertisement(source: Ipv6Addr) -> Vec<u8> {
    let everyone = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let lifetime = [134, 0, 0, 0, 64, 0, 0x70, 0x80, 0, 0, 0, 0, 0, 0, 0, 0];
    let prefix =
        [&[3, 4, 64, 0xc0][..], &[0, 0, 0x70, 0x80, 0, 0, 0x70, 0x80, 0, 0, 0, 0], &FAR_6.octets()].concat();
    ipv6(58, source, everyone, &[&lifetime[..], &prefix].concat(), 2)
}

/// A claim that an address is at this hardware address, to one that did not ask.
fn neighbour_advertisement(source: Ipv6Addr, to: Ipv6Addr, claimed: Ipv6Addr, mac: MacAddress) -> Vec<u8> {
    let message = [&[136, 0, 0, 0, 0x60, 0, 0, 0][..], &claimed.octets(), &[2, 1], &mac.0].concat();
    ipv6(58, source, to, &message, 2)
}

fn neighbour_solicitation(source: Ipv6Addr, wanted: Ipv6Addr, mac: MacAddress) -> Vec<u8> {
    let message = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &wanted.octets(), &[1, 1], &mac.0].concat();
    ipv6(58, source, wanted, &message, 2)
}

fn is_type(frame: &[u8], kind: [u8; 2]) -> bool {
    frame.get(12..14) == Some(&kind)
}

fn is_arp_reply(frame: &[u8]) -> bool {
    is_type(frame, TYPE_ARP) && frame.get(20..22) == Some(&[0, 2])
}

fn is_echo_reply(frame: &[u8]) -> bool {
    is_type(frame, TYPE_IPV4) && frame.get(23) == Some(&1) && frame.get(34) == Some(&0)
}

fn contains(frame: &[u8], text: &str) -> bool {
    frame.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Two guests, each with a UDP flow from the neighbour that it may answer.
struct Talk {
    world: World,
    one: Machine,
    two: Machine,
    /// The neighbour's end, at port 5000.
    client: UdpSocket,
    /// Sockets in the guests that take all and say nothing, so that their kernels report no closed port.
    _ears: [UdpSocket; 2],
}

const CLIENT: (Ipv4Addr, u16) = (NEIGHBOUR, 5000);

impl Talk {
    fn new() -> Self {
        let world = World::new();
        world.apply(&state(&[(1, &["5301:53/udp"]), (2, &["5302:53/udp"])]));
        let (one, two) = (Machine::plug(&world, 1), Machine::plug(&world, 2));
        let client = world.lan.udp("0.0.0.0:5000");
        let ears = [&one, &two].map(|machine| machine.inside.udp("0.0.0.0:53"));
        let talk = Self { world, one, two, client, _ears: ears };
        talk.ask("first");
        talk
    }

    /// Sends to both guests and waits until they have it.
    fn ask(&self, text: &str) {
        self.client.send_to(text.as_bytes(), "192.0.2.1:5301").unwrap();
        self.client.send_to(text.as_bytes(), "192.0.2.1:5302").unwrap();
        self.one.await_frame(text, |frame| contains(frame, text));
        self.two.await_frame(text, |frame| contains(frame, text));
    }

    /// What guest one answers, as it should be.
    fn answer(&self, text: &str) {
        self.one.inject(&ethernet(guest_mac(1), host_mac(1), &TYPE_IPV4, &udp((guest(1), 53), CLIENT, text)));
    }
}

fn guest(number: u16) -> Ipv4Addr {
    lith_net::GuestNetwork::default().guest_address(slot(number))
}

fn guest_6(number: u16) -> Ipv6Addr {
    lith_net::GuestNetwork::default().guest_address_6(slot(number))
}

fn guest_mac(number: u16) -> MacAddress {
    address::guest_mac(slot(number))
}

fn host_mac(number: u16) -> MacAddress {
    address::host_mac(slot(number))
}

#[test]
fn only_true_sources_pass() {
    let talk = Talk::new();
    let reply = |from: u16, text| udp((guest(from), 53), CLIENT, text);
    let spoofed_mac = ethernet(guest_mac(2), host_mac(1), &TYPE_IPV4, &reply(1, "spoofed mac"));
    let tagged = [&[0x81, 0, 0, 0][..], &TYPE_IPV4].concat();
    let tagged = ethernet(guest_mac(1), host_mac(1), &tagged, &reply(1, "tagged"));
    let spoofed_address = ethernet(guest_mac(1), host_mac(1), &TYPE_IPV4, &reply(2, "spoofed address"));
    for frame in [&spoofed_mac, &tagged, &spoofed_address] {
        talk.one.inject(frame);
    }
    talk.answer("true");
    assert_eq!(receive(&talk.client).as_deref(), Some("true"));

    // The twins. From its own guest, the same answer passes; so does what only the frame's own rule stops, without it.
    talk.two.inject(&ethernet(guest_mac(2), host_mac(2), &TYPE_IPV4, &reply(2, "from two")));
    assert_eq!(receive(&talk.client).as_deref(), Some("from two"));
    talk.world.host.shell("nft delete table netdev lith; sysctl -qw net.ipv4.conf.lith1.rp_filter=0 net.ipv4.conf.all.rp_filter=0");
    talk.one.inject(&spoofed_mac);
    assert_eq!(receive(&talk.client).as_deref(), Some("spoofed mac"));
    talk.one.inject(&tagged);
    assert_eq!(receive(&talk.client).as_deref(), Some("tagged"));
    // A false address is stopped by the second line of defence too: the flow is not this guest's.
    talk.one.inject(&spoofed_address);
    talk.answer("true again");
    assert_eq!(receive(&talk.client).as_deref(), Some("true again"));
}

#[test]
fn only_true_sources_of_ipv6_pass() {
    let world = World::new();
    world.apply(&state(&[(1, &["5301:53/udp"]), (2, &["5302:53/udp"])]));
    let [one, two] = [1, 2].map(|number| Machine::plug(&world, number));
    let ears = [&one, &two].map(|machine| machine.inside.udp("[::]:53"));
    let client = world.lan.udp("[::]:5000");
    let ask = |text: &str| {
        client.send_to(text.as_bytes(), "[2a01::1]:5301").unwrap();
        client.send_to(text.as_bytes(), "[2a01::1]:5302").unwrap();
        for ear in &ears {
            assert_eq!(receive(ear).as_deref(), Some(text));
        }
    };
    ask("first");
    let to = (NEIGHBOUR_6, 5000);
    let frame = |mac: u16, tag: &[u8], packet: &[u8]| {
        let kind = [tag, &TYPE_IPV6].concat();
        ethernet(guest_mac(mac), host_mac(1), &kind, packet)
    };
    let reply = |from: u16, text: &str| udp_6((guest_6(from), 53), to, text);
    let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x6c, 0x69ff, 0xfe74, 1);
    let gateway = address::GATEWAY_LINK_6;
    let spoofed_mac = frame(2, &[], &reply(1, "spoofed mac"));
    let probes = [
        frame(1, &[0x81, 0, 0, 0], &reply(1, "tagged")),
        frame(1, &[], &reply(2, "spoofed address")),
        frame(1, &[], &udp_6((link_local, 53), to, "link-local")),
        frame(1, &[], &udp_6((gateway, 53), to, "the gateway's")),
        frame(1, &[], &udp_6((HOST_6, 53), to, "the host's")),
        frame(1, &[], &router_advertisement(link_local)),
        frame(1, &[], &router_advertisement(guest_6(1))),
        frame(1, &[], &neighbour_advertisement(link_local, gateway, guest_6(2), guest_mac(1))),
        frame(1, &[], &neighbour_advertisement(guest_6(1), HOST_6, NEIGHBOUR_6, guest_mac(1))),
        frame(1, &[], &neighbour_solicitation(guest_6(1), gateway, guest_mac(1))),
        frame(1, &[], &neighbour_solicitation(link_local, HOST_6, guest_mac(1))),
    ];
    let before = world.host.shell("ip -6 route; ip -6 neigh show dev lith1; ip -6 neigh show dev lith2");
    one.inject(&spoofed_mac);
    probes.iter().for_each(|probe| one.inject(probe));
    one.inject(&frame(1, &[], &reply(1, "true")));
    assert_eq!(receive(&client).as_deref(), Some("true"));
    let after = world.host.shell("ip -6 route; ip -6 neigh show dev lith1; ip -6 neigh show dev lith2");
    assert_eq!(before, after);
    let is_advertisement = |frame: &[u8]| is_type(frame, TYPE_IPV6) && frame.get(54) == Some(&136);
    assert!(!one.has_seen(is_advertisement));

    // The twin, and the second line of defence, which takes no false address either.
    world.host.shell("nft delete table netdev lith");
    one.inject(&spoofed_mac);
    assert_eq!(receive(&client).as_deref(), Some("spoofed mac"));
    probes.iter().skip(1).for_each(|probe| one.inject(probe));
    one.inject(&frame(1, &[], &reply(1, "true again")));
    assert_eq!(receive(&client).as_deref(), Some("true again"));
    ask("second");
}

#[test]
fn pings_pass_where_everything_does() {
    let world = World::new();
    let mut wanted = state(&[(1, &[])]);
    wanted.guests[0].egress = vec![lith_core::job::access::Egress::Internet];
    world.apply(&wanted);
    let one = Machine::plug(&world, 1);
    let ask = |to| one.inject(&ethernet(guest_mac(1), host_mac(1), &TYPE_IPV4, &echo_request(guest(1), to)));
    ask(HOST);
    ask(NEIGHBOUR);
    ask(FAR);
    one.await_frame("echo reply", |frame| is_echo_reply(frame) && frame.get(26..30) == Some(&FAR.octets()));
    assert!(!one.has_seen(|frame| is_echo_reply(frame) && frame.get(26..30) != Some(&FAR.octets())));
    let ping = ipv6(58, guest_6(1), FAR_6, &[128, 0, 0, 0, 0, 1, 0, 1], 2);
    one.inject(&ethernet(guest_mac(1), host_mac(1), &TYPE_IPV6, &ping));
    one.await_frame("echo reply", |frame| is_type(frame, TYPE_IPV6) && frame.get(54) == Some(&129));
}

#[test]
fn a_guest_may_report_errors_of_its_own_flows_only() {
    let talk = Talk::new();
    let report = |sender: &Machine, number: u16, about: u16| {
        let question = udp(CLIENT, (guest(about), 53), "first");
        let unreachable = [&[3, 3, 0, 0, 0, 0, 0, 0][..], &question].concat();
        let sum = checksum(&unreachable);
        let message = [&[3, 3][..], &sum, &unreachable[4..]].concat();
        let packet = ipv4(1, guest(number), NEIGHBOUR, &message);
        sender.inject(&ethernet(guest_mac(number), host_mac(number), &TYPE_IPV4, &packet));
    };
    // Only a connected socket is told of errors.
    talk.client.connect("192.0.2.1:5302").unwrap();
    report(&talk.one, 1, 2);
    // What guest one sent has been judged when an answer it sent later is here, at a socket of its own.
    let other = talk.world.lan.udp("0.0.0.0:5001");
    other.send_to(b"aside", "192.0.2.1:5301").unwrap();
    talk.one.await_frame("aside", |frame| contains(frame, "aside"));
    let aside = udp((guest(1), 53), (NEIGHBOUR, 5001), "judged");
    talk.one.inject(&ethernet(guest_mac(1), host_mac(1), &TYPE_IPV4, &aside));
    assert_eq!(receive(&other).as_deref(), Some("judged"));
    talk.two.inject(&ethernet(guest_mac(2), host_mac(2), &TYPE_IPV4, &udp((guest(2), 53), CLIENT, "marker")));
    assert_eq!(receive(&talk.client).as_deref(), Some("marker"));
    report(&talk.two, 2, 2);
    let error = talk.client.recv(&mut [0; 16]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn a_grant_is_for_its_own_guest_and_carries_no_ping() {
    let world = World::new();
    let wanted = granting(state(&[(1, &[]), (2, &[]), (3, &[])]), &[(1, "3:*")]);
    world.apply(&wanted);
    let [one, two, three] = [1, 2, 3].map(|number| Machine::plug(&world, number));
    let ear = three.inside.udp("0.0.0.0:7001");
    let send = |machine: &Machine, number: u16, packet: &[u8]| {
        machine.inject(&ethernet(guest_mac(number), host_mac(number), &TYPE_IPV4, packet));
    };
    let from = |number: u16, text: &str| udp((guest(number), 4000), (guest(3), 7001), text);
    let probes = || {
        send(&two, 2, &from(2, "from two"));
        send(&two, 2, &from(1, "as one"));
        send(&one, 1, &echo_request(guest(1), guest(3)));
    };
    probes();
    send(&one, 1, &from(1, "granted"));
    assert_eq!(receive(&ear).as_deref(), Some("granted"));
    assert!(!one.has_seen(is_echo_reply));

    // Without its first line of defence, a false sender is stopped by the second.
    world.host.shell("nft delete table netdev lith");
    world.host.shell("sysctl -qw net.ipv4.conf.lith2.rp_filter=0 net.ipv4.conf.all.rp_filter=0");
    probes();
    send(&one, 1, &from(1, "granted again"));
    assert_eq!(receive(&ear).as_deref(), Some("granted again"));

    // The twin: unprotected, all arrive.
    world.unprotect_rest();
    probes();
    let heard: std::collections::BTreeSet<_> = [receive(&ear), receive(&ear)].into();
    assert_eq!(heard, ["as one", "from two"].map(|text| Some(text.to_owned())).into());
    one.await_frame("echo reply", is_echo_reply);
}

#[test]
fn nothing_is_said_to_a_guest_that_asks() {
    let talk = Talk::new();
    let everyone = MacAddress([0xff; 6]);
    let probes = [
        ethernet(guest_mac(1), everyone, &TYPE_ARP, &arp_request(guest_mac(1), guest(1), address::GATEWAY)),
        ethernet(guest_mac(1), everyone, &TYPE_ARP, &arp_request(guest_mac(1), guest(1), HOST)),
        ethernet(guest_mac(1), host_mac(1), &TYPE_IPV4, &echo_request(guest(1), HOST)),
        ethernet(guest_mac(1), host_mac(1), &TYPE_IPV4, &echo_request(guest(1), address::GATEWAY)),
        ethernet(guest_mac(1), host_mac(1), &TYPE_IPV4, &echo_request(guest(1), NEIGHBOUR)),
        ethernet(guest_mac(1), host_mac(1), &TYPE_IPV4, &echo_request(guest(1), FAR)),
        ethernet(guest_mac(1), host_mac(1), &TYPE_IPV6, &ipv6_echo_request()),
    ];
    let send = || probes.iter().for_each(|probe| talk.one.inject(probe));
    send();
    talk.answer("sent");
    assert_eq!(receive(&talk.client).as_deref(), Some("sent"));
    talk.ask("second");
    assert!(!talk.one.has_seen(|frame| is_type(frame, TYPE_ARP)));
    assert!(!talk.one.has_seen(|frame| is_type(frame, TYPE_IPV6)));
    assert!(!talk.one.has_seen(is_echo_reply));

    // The twin: unprotected, every kind is answered.
    talk.world.unprotect();
    talk.world.host.shell(
        "ip link set lith1 arp on multicast on; ip route add fe80::/64 dev lith1; sysctl -qw net.ipv4.conf.lith1.arp_ignore=0 \
         net.ipv6.conf.lith1.disable_ipv6=0; ip neigh replace 10.83.0.1 lladdr 02:6c:69:74:00:01 dev lith1 nud permanent",
    );
    for (what, fits) in [("arp reply", is_arp_reply as fn(&[u8]) -> bool), ("echo reply", is_echo_reply)] {
        send();
        talk.one.await_frame(what, fits);
    }
    // The host asks who has fe80::1234, or it could not answer.
    let link_local = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x34];
    let is_about_us =
        |frame: &[u8]| is_type(frame, TYPE_IPV6) && frame.windows(16).any(|part| part == link_local);
    let deadline = std::time::Instant::now() + crate::world::SOON;
    // The host's own link-local address may not be usable at first, so ask again.
    while !talk.one.has_seen(is_about_us) {
        assert!(std::time::Instant::now() < deadline, "no neighbour solicitation came");
        talk.one.inject(&probes[6]);
        std::thread::yield_now();
    }
}

#[test]
fn the_host_does_not_hear_a_guest() {
    let world = World::new();
    let wanted = state(&[(1, &["5301:53/udp"])]);
    world.apply(&wanted);
    let one = Machine::plug(&world, 1);
    let ear = world.host.udp("0.0.0.0:7001");
    ear.join_multicast_v4(&Ipv4Addr::new(224, 0, 0, 251), &address::GATEWAY).unwrap();
    let client = world.lan.udp("0.0.0.0:5000");
    let targets = [
        ("gateway", address::GATEWAY, host_mac(1)),
        ("host", HOST, host_mac(1)),
        ("loopback", Ipv4Addr::LOCALHOST, host_mac(1)),
        ("broadcast", Ipv4Addr::BROADCAST, MacAddress([0xff; 6])),
        ("network broadcast", Ipv4Addr::new(192, 0, 2, 255), host_mac(1)),
        ("multicast", Ipv4Addr::new(224, 0, 0, 251), MacAddress([0x01, 0x00, 0x5e, 0, 0, 0xfb])),
    ];
    let send = |(text, target, mac): (&str, Ipv4Addr, MacAddress)| {
        one.inject(&ethernet(guest_mac(1), mac, &TYPE_IPV4, &udp((guest(1), 53), (target, 7001), text)));
    };
    targets.into_iter().for_each(send);
    // What was injected before the answer has been judged when the answer is here.
    client.send_to(b"first", "192.0.2.1:5301").unwrap();
    one.await_frame("question", |frame| contains(frame, "first"));
    one.inject(&ethernet(guest_mac(1), host_mac(1), &TYPE_IPV4, &udp((guest(1), 53), CLIENT, "sent")));
    assert_eq!(receive(&client).as_deref(), Some("sent"));
    let marker = world.host.udp("127.0.0.1:0");
    marker.send_to(b"marker", "127.0.0.1:7001").unwrap();
    assert_eq!(receive(&ear).as_deref(), Some("marker"));

    world.unprotect();
    for target in targets {
        send(target);
        assert_eq!(receive(&ear).as_deref(), Some(target.0));
    }
}
