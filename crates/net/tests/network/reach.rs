//! Who reaches whom with ordinary sockets.

use lith_net::NetworkState;

use crate::world::{FAR, HOST, HOST_6, Machine, NEIGHBOUR, NEVER, Namespace, RESOLVER, SOON, World, state};

#[test]
fn published_ports_work_and_show_the_client() {
    let world = World::new();
    world.apply(&state(&[
        (1, &["8080:80", "8080:80/udp", "127.0.0.1:8081:80", "127.0.0.1:8081:80/udp"]),
        (
            2,
            &[
                "192.0.2.1:8082:80",
                "8083:80",
                "192.0.2.1:8082:80/udp",
                "[2a01::1]:8084:80",
                "[2a01::1]:8084:80/udp",
            ],
        ),
    ]));
    let (one, two) = (Machine::plug(&world, 1), Machine::plug(&world, 2));
    one.inside.serve("one", 80);
    two.inside.serve("two", 80);
    let check = |from: &Namespace, to: &str, expected: Option<&str>| {
        let patience = if expected.is_some() { SOON } else { NEVER };
        assert_eq!(from.ask_tcp(to, patience).as_deref(), expected, "tcp {to}");
        if !to.ends_with(":8083") {
            assert_eq!(from.ask_udp(to, patience).as_deref(), expected, "udp {to}");
        }
    };
    check(&world.lan, "192.0.2.1:8080", Some("one 192.0.2.9 hello"));
    check(&world.lan, "192.0.2.1:8082", Some("two 192.0.2.9 hello"));
    check(&world.lan, "192.0.2.1:8083", Some("two 192.0.2.9 hello"));
    check(&world.host, "192.0.2.1:8080", Some("one 192.0.2.1 hello"));
    check(&world.host, "127.0.0.1:8080", Some("one 169.254.83.1 hello"));
    check(&world.host, "127.0.0.1:8081", Some("one 169.254.83.1 hello"));
    check(&world.host, "192.0.2.1:8082", Some("two 192.0.2.1 hello"));
    // The host's own processes reach their guests directly.
    check(&world.host, "10.83.0.1:80", Some("one 169.254.83.1 hello"));

    check(&world.lan, "[2a01::1]:8080", Some("one 2a01::9 hello"));
    check(&world.lan, "[2a01::1]:8083", Some("two 2a01::9 hello"));
    check(&world.lan, "[2a01::1]:8084", Some("two 2a01::9 hello"));
    check(&world.host, "[2a01::1]:8084", Some("two 2a01::1 hello"));
    check(&world.host, "[fd6c:690a:5301::1]:80", Some("one fd6c:6974:6800::53:1 hello"));

    check(&world.lan, "[2a01::1]:8081", None);
    check(&world.lan, "[2a01::1]:8082", None);
    check(&world.lan, "192.0.2.1:8084", None);
    check(&world.lan, "[fd6c:690a:5301::1]:80", None);
    check(&world.lan, "192.0.2.1:8081", None);
    check(&world.host, "192.0.2.1:8081", None);
    check(&world.host, "127.0.0.1:8082", None);
    check(&world.lan, "192.0.2.1:80", None);
    check(&world.lan, "10.83.0.1:80", None);
}

#[test]
fn a_range_leads_to_the_same_ports() {
    let world = World::new();
    let publishes = [
        "8000-8099:8000-8099",
        "8000-8099:8000-8099/udp",
        "192.0.2.1:9000-9001:9000-9001",
        "9100-9101:80-81",
    ];
    // The same port is open to several publishes, and single ones lie beside ranges.
    let others: &[&str] = &["8100:80", "127.0.0.1:9001-9002:9001-9002"];
    world.apply(&state(&[(1, &publishes), (2, others)]));
    let (one, two) = (Machine::plug(&world, 1), Machine::plug(&world, 2));
    for port in [80, 8000, 8099, 9001, 9002] {
        one.inside.serve("one", port);
        two.inside.serve("two", port);
    }
    let check = |from: &Namespace, to: &str, expected: Option<&str>| {
        let patience = if expected.is_some() { SOON } else { NEVER };
        assert_eq!(from.ask_tcp(to, patience).as_deref(), expected, "tcp {to}");
    };
    for port in [8000, 8099, 9001] {
        check(&world.lan, &format!("192.0.2.1:{port}"), Some("one 192.0.2.9 hello"));
    }
    check(&world.lan, "192.0.2.1:9100", Some("one 192.0.2.9 hello"));
    check(&world.lan, "192.0.2.1:8100", Some("two 192.0.2.9 hello"));
    check(&world.host, "127.0.0.1:8099", Some("one 169.254.83.1 hello"));
    check(&world.host, "127.0.0.1:9001", Some("two 169.254.83.1 hello"));
    assert_eq!(world.lan.ask_udp("192.0.2.1:8099", SOON).as_deref(), Some("one 192.0.2.9 hello"));
    check(&world.lan, "192.0.2.1:9002", None);
    check(&world.lan, "192.0.2.1:7999", None);
}

#[test]
fn loopback_is_not_reached_from_a_wire() {
    let world = World::new();
    world.apply(&state(&[(1, &["8053:53/udp"])]));
    let guest = Machine::plug(&world, 1);
    let server = guest.inside.udp("0.0.0.0:53");
    // A neighbour that has no loopback of its own sends to the host's.
    world.lan.shell(&format!(
        "ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.1/32 via {HOST} src {NEIGHBOUR}"
    ));
    world.host.shell(
        "nft add table inet count; nft add chain inet count arrived \
         '{ type filter hook prerouting priority -350; }'; \
         nft add rule inet count arrived iifname lan0 ip daddr 127.0.0.1 udp dport 8053 counter",
    );
    let client = world.lan.udp("0.0.0.0:0");
    client.send_to(b"through loopback", "127.0.0.1:8053").unwrap();
    client.send_to(b"as it should be", "192.0.2.1:8053").unwrap();
    assert_eq!(crate::world::receive(&server).as_deref(), Some("as it should be"));
    let counted = world.host.shell("nft list chain inet count arrived");
    assert!(counted.contains("packets 1 "), "the probe did not arrive: {counted}");
}

#[test]
fn a_guest_reaches_nothing() {
    let world = World::new();
    let wanted = state(&[(1, &["8080:80", "8080:80/udp"]), (2, &["8082:80", "8082:80/udp"])]);
    world.apply(&wanted);
    let (one, two) = (Machine::plug(&world, 1), Machine::plug(&world, 2));
    one.inside.serve("one", 80);
    two.inside.serve("two", 80);
    world.host.serve("host", 7000);
    world.lan.serve("lan", 7000);
    let targets = [
        format!("{HOST}:7000"),
        "169.254.83.1:7000".into(),
        format!("{NEIGHBOUR}:7000"),
        format!("{FAR}:7000"),
        "10.83.0.2:80".into(),
    ];
    // First without protection, to show that the probes do reach their targets.
    world.unprotect();
    for target in &targets {
        assert!(one.inside.ask_tcp(target, SOON).is_some(), "tcp {target}");
        assert!(one.inside.ask_udp(target, SOON).is_some(), "udp {target}");
    }
    world.host.shell("sysctl -qw net.ipv4.conf.lith1.rp_filter=0");
    world.apply(&wanted);
    let published = ["8080", "8082"].map(|port| format!("{HOST}:{port}"));
    let gateways = ["8080", "8082"].map(|port| format!("169.254.83.1:{port}"));
    for target in targets.iter().chain(&published).chain(&gateways) {
        assert_eq!(one.inside.ask_tcp(target, NEVER), None, "tcp {target}");
        assert_eq!(one.inside.ask_udp(target, NEVER), None, "udp {target}");
    }
    // And it still serves.
    assert!(world.lan.ask_tcp("192.0.2.1:8080", SOON).is_some());
    assert!(world.lan.ask_tcp("192.0.2.1:8082", SOON).is_some());
}

#[test]
fn without_ipv6_everything_else_works() {
    let world = World::new();
    world.host.shell("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1");
    world.apply(&state(&[(1, &["8080:80"])]));
    let guest = Machine::plug(&world, 1);
    guest.inside.serve("one", 80);
    assert!(world.lan.ask_tcp("192.0.2.1:8080", SOON).is_some());
    assert_eq!(world.host.shell("ip -6 address; ip -6 route"), "");
    // It comes, and is given to guests that run.
    world.host.shell("sysctl -qw net.ipv6.conf.all.disable_ipv6=0; ip addr add 2a01::1/64 dev lan0 nodad");
    world.repair(&state(&[(1, &["8080:80"])]), &[]);
    assert!(world.lan.ask_tcp("[2a01::1]:8080", SOON).is_some());
    world.remove_all();
    assert_eq!(world.host.shell("sysctl -n net.ipv6.conf.lan0.force_forwarding"), "0\n");
}

/// What the file of another boot says.
const STALE: &str = "lith network 1\nboot 00000000-0000-0000-0000-000000000000\nforwarding far0\n";

#[test]
fn the_host_does_not_become_a_router() {
    let check = |was_router: bool, remembered: Option<&str>| {
        let world = World::new();
        let file = world.folder.path().join("network");
        if let Some(content) = remembered {
            std::fs::write(&file, content).unwrap();
        }
        let other = Namespace::new();
        world.join(&other, "far0", "203.0.113.1", "203.0.113.9");
        world.lan.shell(&format!("ip route add 203.0.113.0/24 via {HOST}"));
        world.host.shell("ip addr add 2a03::1/64 dev far0 nodad");
        other.shell("ip addr add 2a03::9/64 dev lan0 nodad; ip route add default via 2a03::1");
        world.lan.shell(&format!("ip route add 2a03::/64 via {HOST_6}"));
        world.lan.serve("lan", 7000);
        other.serve("other", 7000);
        let before = u8::from(was_router);
        let switches = format!("net.ipv4.ip_forward={before} net.ipv6.conf.all.forwarding={before}");
        world.host.shell(&format!("sysctl -qw {switches}"));
        world.apply(&state(&[(1, &["8080:80"])]));
        // The machine-wide switches are never touched.
        let switches = "sysctl -n net.ipv4.ip_forward net.ipv6.conf.all.forwarding";
        assert_eq!(world.host.shell(switches), format!("{before}\n{before}\n"));
        assert_eq!(file.exists(), !was_router);
        for (from, to) in [(&world.lan, "[2a03::9]:7000"), (&other, "[2a01::9]:7000")] {
            let answer = from.ask_tcp(to, if was_router { SOON } else { NEVER });
            assert_eq!(answer.is_some(), was_router, "{to}");
        }
        let answer = world.lan.ask_tcp("203.0.113.9:7000", if was_router { SOON } else { NEVER });
        assert_eq!(answer.is_some(), was_router);
        let guest = Machine::plug(&world, 1);
        guest.inside.serve("one", 80);
        assert!(world.lan.ask_tcp("192.0.2.1:8080", SOON).is_some());
        assert!(other.ask_tcp("203.0.113.1:8080", SOON).is_some());
        assert!(other.ask_tcp("[2a03::1]:8080", SOON).is_some());
        world.remove_all();
        let forwarding = "sysctl -n net.ipv4.ip_forward net.ipv4.conf.lan0.forwarding net.ipv6.conf.all.forwarding \
                          net.ipv6.conf.lan0.force_forwarding";
        assert_eq!(world.host.shell(forwarding), format!("{before}\n{before}\n{before}\n0\n"));
        assert!(!file.exists());
    };
    check(true, None);
    check(true, Some(STALE));
    check(false, None);
    check(false, Some(STALE));
}

#[test]
fn an_engine_that_makes_the_host_a_router_is_left_alone() {
    let world = World::new();
    let wanted = state(&[(1, &["8080:80"])]);
    world.apply(&wanted);
    let container = Namespace::new();
    world.join(&container, "port0", "203.0.113.1", "203.0.113.9");
    world.host.shell(
        "ip link add engine0 type bridge; ip link set engine0 up; ip addr flush dev port0; ip link set port0 master engine0; \
         ip addr add 203.0.113.1/24 dev engine0",
    );
    world.lan.shell(&format!("ip route add 203.0.113.0/24 via {HOST}"));
    container.serve("container", 7000);
    world.lan.serve("lan", 7000);
    // A bridge that its owner keeps apart stays apart, though lith forwards at its edge.
    world.apply(&wanted);
    assert!(world.lan.ask_tcp("203.0.113.9:7000", NEVER).is_none());
    world.host.shell("sysctl -qw net.ipv4.ip_forward=1");
    world.apply(&wanted);
    assert!(world.lan.ask_tcp("203.0.113.9:7000", SOON).is_some());
    assert!(container.ask_tcp("192.0.2.9:7000", SOON).is_some());
    let guest = Machine::plug(&world, 1);
    guest.inside.serve("one", 80);
    assert!(container.ask_tcp("203.0.113.1:8080", SOON).is_some(), "containers are clients too");
    world.remove_all();
    assert_eq!(world.host.shell("sysctl -n net.ipv4.conf.lan0.forwarding"), "1\n");
    assert!(world.lan.ask_tcp("203.0.113.9:7000", SOON).is_some());
}

#[test]
fn other_users_of_the_host_reach_what_is_published_and_nothing_else() {
    let world = World::new();
    world.apply(&state(&[(1, &["8080:80"])]));
    let guest = Machine::plug(&world, 1);
    for port in [80, 90] {
        guest.inside.serve("one", port);
    }
    let ask = |user: u32, to: &str| ask_as(&world.host, user, "tcp", to);
    assert_eq!(ask(0, "10.83.0.1:90"), "one 169.254.83.1 hello\n");
    assert_eq!(ask(65534, "127.0.0.1:8080"), "one 169.254.83.1 hello\n");
    assert_eq!(ask(65534, "192.0.2.1:8080"), "one 192.0.2.1 hello\n");
    for closed in ["10.83.0.1:90", "10.83.0.1:80"] {
        assert!(!ask(65534, closed).contains("hello"), "{closed}");
    }
}

/// What a program of another user hears from a server.
fn ask_as(host: &Namespace, user: u32, transport: &str, to: &str) -> String {
    let (address, port) = to.rsplit_once(':').unwrap();
    let script = format!(
        "exec 3<>/dev/{transport}/{address}/{port}; echo hello >&3; dd bs=1000 count=1 status=none <&3"
    );
    let command = format!(
        "setpriv --reuid={user} --regid={user} --clear-groups timeout 2 bash -c '{script}' 2>&1 || true"
    );
    host.shell(&command)
}

/// Whoever has got hold of the process that reads guests' questions has not got hold of the host.
#[test]
fn the_half_that_reads_questions_reaches_name_servers_and_nothing_else() {
    let world = World::new();
    world.apply(&NetworkState { resolver: Some(RESOLVER), ..state(&[(1, &["8080:80"])]) });
    let guest = Machine::plug(&world, 1);
    guest.inside.serve("one", 80);
    for port in [53, 7000] {
        world.lan.serve("lan", port);
        world.host.serve("host", port);
    }
    for transport in ["tcp", "udp"] {
        for (to, who) in [("192.0.2.9", "lan"), ("127.0.0.1", "host")] {
            for user in [RESOLVER.user, 65534] {
                let heard = ask_as(&world.host, user, transport, &format!("{to}:53"));
                assert!(heard.starts_with(who), "{user} {transport} {to}: {heard}");
            }
            let heard = ask_as(&world.host, 65534, transport, &format!("{to}:7000"));
            assert!(heard.starts_with(who), "{transport} {to}: {heard}");
        }
        for closed in ["192.0.2.9:7000", "127.0.0.1:7000", "10.83.0.1:80", "127.0.0.1:8080", "192.0.2.1:8080"]
        {
            let heard = ask_as(&world.host, RESOLVER.user, transport, closed);
            assert!(!heard.contains("hello"), "{transport} {closed}: {heard}");
        }
    }
}

#[test]
fn an_older_kernel_forwards_ipv6_and_listens_to_its_routers() {
    let world = World::new().on_older_kernel();
    let other = Namespace::new();
    world.join(&other, "far0", "203.0.113.1", "203.0.113.9");
    let listens = "net.ipv6.conf.far0.accept_ra=1 net.ipv6.conf.lan0.accept_ra=0";
    world.host.shell(&format!("ip addr add 2a03::1/64 dev far0 nodad; sysctl -qw {listens}"));
    other.shell("ip addr add 2a03::9/64 dev lan0 nodad; ip route add default via 2a03::1");
    world.lan.shell(&format!("ip route add 2a03::/64 via {HOST_6}"));
    world.lan.serve("lan", 7000);
    other.serve("other", 7000);
    let look =
        || world.host.shell("cd /proc/sys/net/ipv6/conf; grep -s . */forwarding */accept_ra | grep -v lith");
    let before = look();
    let wanted = state(&[(1, &["8080:80"])]);
    world.apply(&wanted);
    let now = look();
    for setting in ["all/forwarding:1", "far0/accept_ra:2", "lan0/accept_ra:0"] {
        assert!(now.contains(setting), "{now}");
    }
    let guest = Machine::plug(&world, 1);
    guest.inside.serve("one", 80);
    for _ in 0..2 {
        assert!(world.lan.ask_tcp("[2a01::1]:8080", SOON).is_some());
        assert!(other.ask_tcp("[2a03::1]:8080", SOON).is_some());
        assert!(other.ask_tcp("[2a01::9]:7000", NEVER).is_none());
        assert!(world.lan.ask_tcp("[2a03::9]:7000", NEVER).is_none());
        world.repair(&wanted, &[]);
    }
    world.remove_all();
    assert_eq!(look(), before);
}
