//! What guests reach outside the cluster, and through the node.

use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use lith_core::job::{Port, Transport};
use lith_net::{NetworkState, OpenError, Opened, opened};

use crate::world::{Machine, NEVER, RESOLVER, SOON, World, ask_socket, ask_stream, refusal, slot, state};

/// A guest's egress, as a job file writes it.
fn letting_out(mut state: NetworkState, egress: &[(u16, &str)]) -> NetworkState {
    for (number, text) in egress {
        let entry = lith_core::value::access::egress(text).unwrap();
        let guest = state.guests.iter_mut().find(|guest| guest.slot == slot(*number)).unwrap();
        guest.egress.push(entry);
    }
    state
}

/// A world in which the neighbour serves, also at addresses that nobody may reach.
fn world() -> World {
    let world = World::new();
    world.lan.shell(
        "for address in 10.9.0.1/32 169.254.169.254/32 100.64.0.1/32 fd00:ec2::254/128 fd77::1/128; do \
         ip addr add $address dev lo; done",
    );
    // One socket for each address, or answers would come from another one.
    for to in PUBLIC.into_iter().chain(PRIVATE.into_iter().take(7)) {
        let (address, _) = to.rsplit_once(':').unwrap();
        let address = address.trim_matches(['[', ']']);
        [443, 7000].into_iter().for_each(|port| world.lan.serve_at("lan", address, port));
    }
    world.host.serve("host", 7000);
    world
}

const PUBLIC: [&str; 2] = ["9.9.9.9:7000", "[2a02::7]:7000"];
const PRIVATE: [&str; 9] = [
    "192.0.2.9:7000",
    "10.9.0.1:7000",
    "169.254.169.254:7000",
    "100.64.0.1:7000",
    "[2a01::9]:7000",
    "[fd77::1]:7000",
    "[fd00:ec2::254]:7000",
    // The node.
    "192.0.2.1:7000",
    "[2a01::1]:7000",
];

#[test]
fn internet_is_public_addresses_alone() {
    let world = world();
    world.apply(&letting_out(state(&[(1, &[]), (2, &[])]), &[(1, "internet")]));
    let [one, two] = [1, 2].map(|number| Machine::plug(&world, number));
    for (to, node) in PUBLIC.into_iter().zip(["192.0.2.1", "2a01::1"]) {
        // What leaves has the node's address.
        let expected = format!("lan {node} hello");
        assert_eq!(one.inside.ask_tcp(to, SOON).as_ref(), Some(&expected));
        assert_eq!(one.inside.ask_udp(to, SOON).as_ref(), Some(&expected));
        assert_eq!(two.inside.ask_udp(to, NEVER), None);
        refusal(&two, to);
    }
    for to in PRIVATE {
        assert_eq!(one.inside.ask_udp(to, NEVER), None, "{to}");
        let kind = refusal(&one, to);
        let expected = if to.starts_with('[') {
            io::ErrorKind::PermissionDenied
        } else {
            io::ErrorKind::HostUnreachable
        };
        assert_eq!(kind, expected, "{to}");
    }
    // The twin.
    world.unprotect();
    world.host.shell("nft add table ip leave; nft add chain ip leave post '{ type nat hook postrouting priority 100; }'; nft add rule ip leave post oifname lan0 masquerade");
    for to in PRIVATE.into_iter().filter(|to| !to.starts_with('[')) {
        assert!(one.inside.ask_tcp(to, SOON).is_some(), "{to}");
    }
}

#[test]
fn what_is_written_out_is_reached_and_nothing_beside_it() {
    let world = world();
    let written = [
        (1, "10.9.0.0/24:7000"),
        (1, "[fd77::1]:7000/udp"),
        (1, "192.0.2.9"),
        (1, "2a01::/64"),
        // What never is, whatever is written.
        (2, "0.0.0.0/0"),
        (2, "::/0"),
    ];
    world.apply(&letting_out(state(&[(1, &[]), (2, &[]), (3, &[])]), &written));
    let [one, two, three] = [1, 2, 3].map(|number| Machine::plug(&world, number));
    three.inside.serve("three", 7000);
    let tcp = |to: &str, expected: bool| {
        let patience = if expected { SOON } else { NEVER };
        assert_eq!(one.inside.ask_tcp(to, patience).is_some(), expected, "tcp {to}");
    };
    let udp = |to: &str, expected: bool| {
        let patience = if expected { SOON } else { NEVER };
        assert_eq!(one.inside.ask_udp(to, patience).is_some(), expected, "udp {to}");
    };
    tcp("10.9.0.1:7000", true);
    udp("10.9.0.1:7000", false);
    tcp("10.9.0.1:443", false);
    udp("[fd77::1]:7000", true);
    tcp("[fd77::1]:7000", false);
    for to in ["192.0.2.9:443", "192.0.2.9:7000", "[2a01::9]:443", "[2a01::9]:7000"] {
        tcp(to, true);
        udp(to, true);
    }
    tcp("9.9.9.9:7000", false);
    tcp("[2a02::7]:7000", false);
    for to in [
        "169.254.169.254:7000",
        "[fd00:ec2::254]:7000",
        "10.83.0.3:7000",
        "[fd6c:690a:5301::3]:7000",
        "192.0.2.1:7000",
        "169.254.83.1:7000",
        "[2a01::1]:7000",
        "[fd6c:6974:6800::53:1]:7000",
        "127.0.0.1:7000",
    ] {
        assert_eq!(two.inside.ask_tcp(to, NEVER), None, "{to}");
        assert_eq!(two.inside.ask_udp(to, NEVER), None, "{to}");
    }
    assert!(two.inside.ask_tcp("10.9.0.1:443", SOON).is_some());
    assert!(two.inside.ask_tcp("9.9.9.9:443", SOON).is_some());
}

#[test]
fn names_open_addresses_for_a_while() {
    let world = world();
    let wanted = letting_out(
        state(&[(1, &[]), (2, &[]), (3, &[])]),
        &[(1, "example.org"), (1, "*.example.net:7000"), (2, "example.org")],
    );
    world.apply(&wanted);
    let [one, two] = [1, 2].map(|number| Machine::plug(&world, number));
    let open = |number, address: &str, port: Option<u16>, seconds| Opened {
        slot: slot(number),
        address: address.parse().unwrap(),
        port: port.map(|port| Port::one(port, Transport::Tcp)),
        lifetime: Duration::from_secs(seconds),
    };
    let put = |entries: &[Opened]| world.host.run(|| opened::open(entries));
    assert_eq!(one.inside.ask_tcp("9.9.9.9:7000", NEVER), None);
    put(&[open(1, "9.9.9.9", Some(7000), 600), open(1, "2a02::7", None, 600)]).unwrap();
    assert!(one.inside.ask_tcp("9.9.9.9:7000", SOON).is_some());
    assert!(one.inside.ask_udp("[2a02::7]:443", SOON).is_some());
    assert_eq!(one.inside.ask_udp("9.9.9.9:7000", NEVER), None);
    assert_eq!(one.inside.ask_tcp("9.9.9.9:443", NEVER), None);
    assert_eq!(two.inside.ask_tcp("9.9.9.9:7000", NEVER), None);
    // What leads into the owner's own network is not opened by a name.
    put(&[
        open(1, "10.9.0.1", None, 600),
        open(1, "192.0.2.9", None, 600),
        open(1, "169.254.169.254", None, 600),
    ])
    .unwrap();
    for to in ["10.9.0.1:7000", "192.0.2.9:7000", "169.254.169.254:7000"] {
        assert_eq!(one.inside.ask_tcp(to, NEVER), None, "{to}");
    }
    // Those that have no names, or are no more, hold up nobody.
    let error =
        put(&[open(3, "9.9.9.9", None, 600), open(2, "9.9.9.9", None, 600), open(9, "9.9.9.9", None, 9)]);
    let Err(OpenError::Refused(refused)) = error else { panic!("{error:?}") };
    assert_eq!(refused.keys().copied().collect::<Vec<_>>(), [slot(3), slot(9)]);
    let stream = two.inside.run(|| TcpStream::connect("9.9.9.9:7000")).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    assert!(ask_stream(&stream).is_some());
    // A change of others leaves them alone, and a replacement takes them along.
    let more = NetworkState { resolver: None, ..wanted.clone() };
    world.apply(&NetworkState { guests: wanted.guests[..2].to_vec(), ..more });
    assert!(one.inside.ask_tcp("9.9.9.9:7000", SOON).is_some());
    world.repair(&wanted, &[open(1, "9.9.9.9", Some(7000), 600), open(3, "9.9.9.9", None, 9)]);
    assert!(one.inside.ask_tcp("9.9.9.9:7000", SOON).is_some());
    // What was not taken along is closed, and a connection there may have come about while the rules were gone.
    assert_eq!(two.inside.ask_tcp("9.9.9.9:7000", NEVER), None);
    stream.set_read_timeout(Some(NEVER)).unwrap();
    assert_eq!(ask_stream(&stream).filter(|answer| !answer.is_empty()), None);
    // Asking again prolongs, and shortens.
    put(&[open(2, "9.9.9.9", None, 1)]).unwrap();
    put(&[open(2, "9.9.9.9", None, 600)]).unwrap();
    put(&[open(1, "9.9.9.9", Some(7000), 1)]).unwrap();
    lith_testkit::eventually("the address to be closed", || {
        one.inside.ask_tcp("9.9.9.9:7000", NEVER).map_or(Ok(()), Err)
    });
    assert!(two.inside.ask_tcp("9.9.9.9:7000", SOON).is_some());
    put(&[open(1, "9.9.9.9", Some(7000), 600)]).unwrap();
    assert!(one.inside.ask_tcp("9.9.9.9:7000", SOON).is_some());
    // Who comes after it in its slot has none of it.
    drop(one);
    world.apply(&NetworkState { guests: wanted.guests[1..].to_vec(), ..wanted.clone() });
    world.apply(&wanted);
    let one = Machine::plug(&world, 1);
    assert_eq!(one.inside.ask_tcp("9.9.9.9:7000", NEVER), None);
}

#[test]
fn a_guest_does_not_open_more_than_fits() {
    let world = World::new();
    world.apply(&letting_out(state(&[(1, &[])]), &[(1, "example.org")]));
    let open = |number: u32| Opened {
        slot: slot(1),
        address: Ipv4Addr::from(0x0909_0000 + number).into(),
        port: None,
        lifetime: Duration::from_secs(600),
    };
    let all: Vec<Opened> = (0..u32::try_from(opened::OPENED_MAX).unwrap()).map(open).collect();
    let start = Instant::now();
    world.host.run(|| opened::open(&all)).unwrap();
    println!("open {} addresses: {:?}", all.len(), start.elapsed());
    let start = Instant::now();
    world.host.run(|| opened::open(&all[..1])).unwrap();
    println!("prolong one: {:?}", start.elapsed());
    let error = world.host.run(|| opened::open(&[open(1 << 16)])).unwrap_err();
    assert_eq!(error.to_string(), "open addresses to 1 guests");
}

#[test]
fn flows_out_end_with_their_right() {
    let world = world();
    let plain = || state(&[(1, &[]), (2, &[])]);
    let wanted = letting_out(plain(), &[(1, "internet"), (1, "10.9.0.1"), (2, "internet")]);
    world.apply(&wanted);
    let [one, two] = [1, 2].map(|number| Machine::plug(&world, number));
    let connect = |machine: &Machine, to: &str| {
        let stream = machine.inside.run(|| TcpStream::connect(to)).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        assert!(ask_stream(&stream).is_some());
        stream
    };
    let cut = [connect(&one, "9.9.9.9:7000"), connect(&one, "[2a02::7]:7000")];
    let kept = [connect(&one, "10.9.0.1:7000"), connect(&two, "9.9.9.9:7000")];
    let socket = one.inside.udp("[::]:0");
    assert!(ask_socket(&socket, "[2a02::7]:7000").is_some());
    for _ in 0..2 {
        world.repair(&wanted, &[]);
        assert!(cut.iter().chain(&kept).all(|stream| ask_stream(stream).is_some()));
    }
    world.apply(&letting_out(plain(), &[(1, "10.9.0.1"), (2, "internet")]));
    assert!(kept.iter().all(|stream| ask_stream(stream).is_some()));
    for stream in &cut {
        stream.set_read_timeout(Some(NEVER)).unwrap();
        assert_eq!(ask_stream(stream).filter(|answer| !answer.is_empty()), None, "{stream:?}");
    }
    socket.set_read_timeout(Some(NEVER)).unwrap();
    assert_eq!(ask_socket(&socket, "[2a02::7]:7000"), None);
    // Nothing of it is left in the end.
    world.remove_all();
    assert_eq!(world.host.shell("cat /proc/sys/net/netfilter/nf_conntrack_count"), "0\n");
}

/// Also where the name's time is over.
#[test]
fn what_is_added_ends_no_flow() {
    let world = world();
    let with = |entries: &[&str]| {
        let entries: Vec<(u16, &str)> = entries.iter().map(|entry| (1, *entry)).collect();
        letting_out(state(&[(1, &[])]), &entries)
    };
    world.apply(&with(&["example.org"]));
    let one = Machine::plug(&world, 1);
    let lifetime = Duration::from_secs(1);
    let open = Opened { slot: slot(1), address: "9.9.9.9".parse().unwrap(), port: None, lifetime };
    world.host.run(|| opened::open(&[open])).unwrap();
    let stream = one.inside.run(|| TcpStream::connect("9.9.9.9:7000")).unwrap();
    lith_testkit::eventually("the address to be closed", || {
        one.inside.ask_tcp("9.9.9.9:7000", NEVER).map_or(Ok(()), Err)
    });
    stream.set_read_timeout(Some(SOON)).unwrap();
    for entries in [&["example.org", "10.9.0.1"][..], &["example.org", "10.9.0.1", "example.net"]] {
        world.apply(&with(entries));
        assert!(ask_stream(&stream).is_some(), "{entries:?}");
    }
    assert!(one.inside.ask_tcp("10.9.0.1:7000", SOON).is_some());
    world.apply(&with(&["10.9.0.1", "example.net"]));
    stream.set_read_timeout(Some(NEVER)).unwrap();
    assert_eq!(ask_stream(&stream).filter(|answer| !answer.is_empty()), None);
}

#[test]
fn the_node_leads_back_to_what_is_published() {
    let world = world();
    let publishes: &[&str] = &["8080:80", "8080:80/udp", "9000-9001:9000-9001"];
    let written = [
        (1, "192.0.2.1"),
        (1, "2a01::1"),
        (2, "192.0.2.1:8080"),
        (2, "[2a01::/64]:9000"),
        (2, "169.254.83.1"),
        (3, "internet"),
    ];
    world.apply(&letting_out(state(&[(1, publishes), (2, &[]), (3, &[])]), &written));
    let [one, two, three] = [1, 2, 3].map(|number| Machine::plug(&world, number));
    for port in [80, 81, 9000, 9001] {
        one.inside.serve("one", port);
    }
    world.host.serve("host", 8081);
    let check = |machine: &Machine, to: &str, expected: Option<&str>| {
        let patience = if expected.is_some() { SOON } else { NEVER };
        assert_eq!(machine.inside.ask_tcp(to, patience).as_deref(), expected, "tcp {to}");
    };
    check(&two, "192.0.2.1:8080", Some("one 10.83.0.2 hello"));
    check(&two, "[2a01::1]:9000", Some("one fd6c:690a:5301::2 hello"));
    // Itself, which it could not answer were it not for the gateway.
    check(&one, "192.0.2.1:8080", Some("one 169.254.83.1 hello"));
    check(&one, "[2a01::1]:9001", Some("one fd6c:6974:6800::53:1 hello"));
    assert!(one.inside.ask_udp("192.0.2.1:8080", SOON).is_some());
    // Nothing that is not written out, none of the node's own sockets, no way around.
    for to in ["192.0.2.1:9000", "[2a01::1]:8080", "[2a01::1]:9001", "169.254.83.1:8080", "10.83.0.1:80"] {
        check(&two, to, None);
    }
    for to in ["192.0.2.1:8081", "192.0.2.1:7000", "[2a01::1]:7000", "192.0.2.1:81"] {
        check(&one, to, None);
    }
    for to in ["192.0.2.1:8080", "[2a01::1]:9000"] {
        check(&three, to, None);
    }
    // The neighbour is seen as what it is.
    assert_eq!(world.lan.ask_tcp("[2a01::1]:9000", SOON).as_deref(), Some("one 2a01::9 hello"));
    assert_eq!(world.lan.ask_udp("192.0.2.1:8080", SOON).as_deref(), Some("one 192.0.2.9 hello"));
}

#[test]
fn questions_for_names_go_to_the_resolver() {
    let world = world();
    let egress = [(1, "internet"), (1, "0.0.0.0/0"), (2, "20.0.0.53:53")];
    let guests = || letting_out(state(&[(1, &[]), (2, &[])]), &egress);
    world.apply(&NetworkState { resolver: Some(RESOLVER), ..guests() });
    let [one, two] = [1, 2].map(|number| Machine::plug(&world, number));
    world.lan.serve("lan", 53);
    world.host.serve_at("resolver", "169.254.83.1", 5353);
    world.host.serve_at("resolver", "fd6c:6974:6800::53:1", 5353);
    world.host.serve_at("host", "169.254.83.1", 5354);
    let whom = [
        "9.9.9.9:53",
        "169.254.83.1:53",
        "192.0.2.9:53",
        "192.0.2.1:53",
        "[2a02::7]:53",
        "[fd6c:6974:6800::53:1]:53",
    ];
    for (machine, number) in [(&one, 1), (&two, 2)] {
        for to in whom {
            let own = if to.starts_with('[') {
                format!("fd6c:690a:5301::{number}")
            } else {
                format!("10.83.0.{number}")
            };
            let expected = format!("resolver {own} hello");
            assert_eq!(machine.inside.ask_udp(to, SOON).as_ref(), Some(&expected), "{to}");
            assert_eq!(machine.inside.ask_tcp(to, SOON).as_ref(), Some(&expected), "{to}");
        }
        // Not around the port, and nothing beside it.
        for to in ["169.254.83.1:5353", "[fd6c:6974:6800::53:1]:5353", "169.254.83.1:5354"] {
            assert_eq!(machine.inside.ask_udp(to, NEVER), None, "{to}");
            refusal(machine, to);
        }
    }
    // A name server that is written out with its port is asked itself, by the transport that is written out.
    world.lan.shell("ip addr add 20.0.0.53/32 dev lo");
    assert_eq!(two.inside.ask_tcp("20.0.0.53:53", SOON).as_deref(), Some("lan 192.0.2.1 hello"));
    assert_eq!(two.inside.ask_udp("20.0.0.53:53", SOON).as_deref(), Some("resolver 10.83.0.2 hello"));
    assert_eq!(one.inside.ask_tcp("20.0.0.53:53", SOON).as_deref(), Some("resolver 10.83.0.1 hello"));
    // Nobody else's.
    assert_eq!(world.lan.ask_udp("169.254.83.1:53", NEVER), None);
    // The address is each guest's, and stays when another guest goes.
    drop(two);
    let alone = NetworkState { guests: guests().guests[..1].to_vec(), resolver: Some(RESOLVER), ..guests() };
    world.apply(&alone);
    assert!(
        one.inside.ask_udp("[2a02::7]:53", SOON).is_some()
            && one.inside.ask_udp("9.9.9.9:53", SOON).is_some()
    );
    world.apply(&guests());
    for to in whom {
        assert_eq!(one.inside.ask_udp(to, NEVER), None, "{to}");
        refusal(&one, to);
    }
}

#[test]
fn virtual_addresses_are_not_outside() {
    let world = world();
    world.apply(&letting_out(state(&[(1, &[])]), &[(1, "0.0.0.0/0"), (1, "::/0")]));
    let one = Machine::plug(&world, 1);
    world.lan.shell("ip addr add 10.83.128.1/32 dev lo; ip addr add 10.83.0.77/32 dev lo");
    for to in ["10.83.128.1:7000", "10.83.0.77:7000", "[fd6c:690a:5301:1::1]:7000"] {
        refusal(&one, to);
    }
}
