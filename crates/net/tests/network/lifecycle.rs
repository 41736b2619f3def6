//! TAPs and tables come, go, and leave nothing.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::time::Instant;

use lith_core::connect::{Grant, Reach};
use lith_core::job::{Port, Transport};
use lith_net::Redirect;
use lith_net::doctor::{Severity, examine};
use lith_net::ruleset::{Model, Surroundings, removal_script, script};
use lith_net::watch::{Disturbance, Watch};
use lith_net::{Guest, GuestNetwork, Network, NetworkError, NetworkState, TapError, tap};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::generate::states;
use crate::world::{Machine, Namespace, World, slot, state};

/// Everything of a namespace that lith could leave something in, but for what the kernel notices about cables in its own
/// time.
pub(crate) fn traces(host: &Namespace) -> String {
    let shown = host.shell(
        "nft list ruleset | sed '/set stamp/,/^\t}/d'; ip -o link | sed 's/ state .*//'; ip -o addr; ip route show table all; \
         ip neigh show nud permanent; sysctl net.ipv4.ip_forward net.ipv4.conf.all net.ipv4.conf.default net.ipv4.conf.lan0; \
         cd /proc/sys/net/ipv6/conf; grep -s . all/* default/* lan0/* || true",
    );
    ["NO-CARRIER,", ",LOWER_UP", " linkdown"].iter().fold(shown, |shown, word| shown.replace(word, ""))
}

fn links(host: &Namespace) -> Vec<String> {
    let shown = host.shell("ip -br link show type tun");
    shown.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

fn surroundings() -> Surroundings {
    Surroundings { switched: ["eth0".to_owned()].into(), ..Surroundings::default() }
}

#[test]
fn nothing_is_left_and_nobody_else_is_touched() {
    let mut world = World::new();
    world.host.shell(
        "nft add table inet mine; nft add chain inet mine forward '{ type filter hook forward priority 5; policy accept; }'; \
         nft add rule inet mine forward counter; nft add table ip lithuania; ip tuntap add dev tap7 mode tap; \
         ip link add lith9 type bridge; ip tuntap add dev lithuania mode tap; \
         sysctl -qw net.ipv4.conf.all.accept_redirects=0",
    );
    let before = traces(&world.host);
    world.apply(&state(&[(1, &["8080:80"]), (2, &["127.0.0.1:53:53/udp"])]));
    let guest = Machine::plug(&world, 1);
    world.host.shell("nft list table inet mine; nft list table ip lithuania; ip link show tap7");
    // A new agent that finds what the former one left.
    world.restart();
    world.apply(&state(&[(2, &["127.0.0.1:53:53/udp"]), (3, &[])]));
    assert_eq!(links(&world.host), ["tap7", "lithuania", "lith2", "lith3"]);
    world.restart();
    drop(guest);
    for _ in 0..2 {
        world.remove_all();
        assert_eq!(traces(&world.host), before);
    }
    assert_eq!(std::fs::read_dir(world.folder.path()).unwrap().count(), 0);
    // No guests is as good as nothing, but for two tables that do nothing.
    world.apply(&state(&[(1, &[])]));
    world.apply(&state(&[]));
    world.host.shell("nft delete table inet lith; nft delete table netdev lith");
    assert_eq!(traces(&world.host), before);
}

#[test]
fn what_others_broke_is_repaired() {
    let world = World::new();
    let wanted = state(&[(1, &["8080:80"])]);
    world.apply(&wanted);
    let good = traces(&world.host);
    let check = |damage: &str| {
        world.host.shell(damage);
        assert_ne!(traces(&world.host), good, "{damage}");
        world.repair(&wanted, &[]);
        let now = traces(&world.host);
        let odd: Vec<&str> = now.lines().filter(|line| !good.lines().any(|other| other == *line)).collect();
        assert!(odd.is_empty() && now.len() == good.len(), "{damage}: {odd:?}");
    };
    check("nft flush ruleset");
    check("ip addr flush dev lith1");
    check("ip route del 10.83.0.1/32 dev lith1");
    check("ip neigh del 10.83.0.1 dev lith1");
    check("ip addr del fd6c:6974:6800::53:1/128 dev lith1");
    check("ip addr del fe80::53:1/64 dev lith1");
    check("ip route del fd6c:690a:5301::1 dev lith1");
    check("ip neigh del fd6c:690a:5301::1 dev lith1");
    check("sysctl -qw net.ipv6.conf.lan0.force_forwarding=0");
    check("ip link set lith1 down");
    check("ip link set lith1 arp on");
    check("sysctl -qw net.ipv4.conf.lan0.forwarding=0");
    // What others do on their way to becoming a router switches every interface.
    check("sysctl -qw net.ipv4.ip_forward=1; sysctl -qw net.ipv4.ip_forward=0");
}

#[test]
fn changes_of_others_are_noticed_and_own_ones_are_not() {
    let world = World::new();
    let wanted = state(&[(1, &["8080:80"])]);
    world.apply(&wanted);
    let mut watch = world.host.run(Watch::open).unwrap();
    // Own changes come first, so that they would be what is noticed.
    world.apply(&wanted);
    world.apply(&state(&[(1, &["8080:80"]), (2, &[])]));
    world.host.shell("nft add table ip mine");
    assert_eq!(watch.wait().unwrap(), Disturbance::Others);
    world.host.shell("nft add chain ip mine forward '{ type filter hook forward priority 0; policy drop; }'");
    assert_eq!(watch.wait().unwrap(), Disturbance::Others);
    for change in ["ip addr add 203.0.113.9/24 dev lan0", "ip addr del 203.0.113.9/24 dev lan0"] {
        world.host.shell(change);
        assert_eq!(watch.wait().unwrap(), Disturbance::Addresses, "{change}");
    }
    for change in [
        "nft delete table netdev lith",
        "nft delete element inet lith guest_addresses_4 '{ 10.83.0.1 }'",
        "nft add element inet lith internet '{ lith2 }'",
        "nft insert rule inet lith egress accept",
        "nft flush chain inet lith to_guest",
        // What somebody saved of ours, when it was ours.
        "nft list ruleset > $$; nft flush ruleset; nft -f $$; rm $$",
    ] {
        // Own changes, whole and not, lie before each, and are not what is noticed.
        world.repair(&wanted, &[]);
        world.apply(&state(&[(1, &["8080:80"]), (3, &[])]));
        world.apply(&wanted);
        world.host.shell(&format!("cd {}; {change}", world.folder.path().display()));
        assert_eq!(watch.wait().unwrap(), Disturbance::Ours, "{change}");
        if change.contains("flush ruleset") {
            // Read from a file, it is a change of its own.
            assert_eq!(watch.wait().unwrap(), Disturbance::Ours, "{change}");
        }
    }
    world.repair(&wanted, &[]);
    world.host.shell("nft flush ruleset");
    assert_eq!(watch.wait().unwrap(), Disturbance::Ours);
}

#[test]
fn another_liths_guests_are_left_alone() {
    let world = World::new();
    let wanted = state(&[(1, &["8080:80"])]);
    world.apply(&wanted);
    let other = Network::new(world.folder.path().join("other"), "/srv/other");
    let held = world.host.run(|| tap::open(slot(1))).unwrap();
    let before = traces(&world.host);
    let check = |result: Result<(), NetworkError>| {
        let error = result.unwrap_err();
        assert_eq!(
            error.to_string(),
            "another lith runs tasks on this machine, with its data in /var/lib/lith"
        );
        assert_eq!(error.hint().unwrap(), "stop them with `lith down --data-dir /var/lib/lith`");
    };
    check(world.host.run(|| other.apply(&state(&[(2, &[])]), &Vec::new)));
    check(world.host.run(|| other.remove_all(GuestNetwork::default())));
    assert_eq!(traces(&world.host), before);
    // What nobody holds is left over, and whoever comes next clears it away.
    drop(held);
    world.host.run(|| other.apply(&state(&[(2, &[])]), &Vec::new)).unwrap();
    assert_eq!(links(&world.host), ["lith2"]);
}

#[test]
fn a_tap_has_one_holder() {
    let world = World::new();
    world.apply(&state(&[(1, &[])]));
    let open = |number| world.host.run(|| tap::open(slot(number)));
    let held = open(1).unwrap();
    assert!(rustix::io::fcntl_getfd(held.as_fd()).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    let busy = open(1).unwrap_err();
    assert_eq!(busy.to_string(), "open the tap lith1");
    assert_eq!(busy.hint().as_deref(), Some("another process holds lith1; stop it first"));
    // Applying again does not mind that it is held.
    world.apply(&state(&[(1, &[])]));
    drop(held);
    open(1).unwrap();
    assert!(matches!(open(2), Err(TapError::Missing { .. })));
    assert_eq!(links(&world.host), ["lith1"]);
    // Pulled from under its holder.
    let held = open(1).unwrap();
    world.apply(&state(&[]));
    assert!(rustix::io::write(&held, &[0; 64]).is_err());
}

#[test]
fn nft_takes_every_script() {
    const SLOTS: u16 = 12;
    let namespace = Namespace::new();
    for number in 1..=SLOTS {
        namespace.shell(&format!("ip tuntap add dev lith{number} mode tap"));
    }
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(40) });
    let check = |state: NetworkState| {
        let script = script(&state, "test", &surroundings()).unwrap();
        namespace.shell(&format!("nft -c -f - <<'END'\n{script}\nEND"));
        Ok(())
    };
    runner.run(&states(SLOTS), check).unwrap();
}

/// A listing without what differs between two that mean the same: handles, what was counted, and the order of all but rules.
fn meaning(namespace: &Namespace) -> BTreeMap<String, Vec<String>> {
    let listing = namespace.shell("nft -j list ruleset");
    let mut parts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut listed: serde_json::Value = serde_json::from_str(&listing).unwrap();
    for entry in listed["nftables"].as_array_mut().unwrap() {
        let (kind, object) = entry.as_object_mut().unwrap().iter_mut().next().unwrap();
        let Some(object) = object.as_object_mut() else { continue };
        object.remove("handle");
        if object.get("name").is_some_and(|name| name == "stamp") || kind == "metainfo" {
            continue;
        }
        if let Some(elements) = object.get_mut("elem").and_then(|elements| elements.as_array_mut()) {
            elements.sort_by_key(ToString::to_string);
        }
        let field = |name: &str| object.get(name).map(ToString::to_string).unwrap_or_default();
        let name = if kind == "rule" { field("chain") } else { field("name") };
        let key = format!("{kind} {} {} {name}", field("family"), field("table"));
        parts.entry(key).or_default().push(serde_json::to_string(object).unwrap());
    }
    parts
}

#[test]
fn a_difference_is_what_a_replacement_is() {
    const SLOTS: u16 = 6;
    let (changed, replaced) = (Namespace::new(), Namespace::new());
    for namespace in [&changed, &replaced] {
        for number in 1..=SLOTS {
            namespace.shell(&format!("ip tuntap add dev lith{number} mode tap"));
        }
    }
    let nft = |namespace: &Namespace, script: &str| {
        let mut command = std::process::Command::new("nft");
        command.args(["-f", "-"]);
        namespace.finish(command, script.as_bytes())
    };
    let run = |namespace: &Namespace, script: &str| drop(nft(namespace, script).ok());
    let near = |attached: &[&str]| Surroundings {
        attached: attached.iter().map(|text| (text.parse().unwrap(), 24)).collect(),
        ..surroundings()
    };
    let near = proptest::sample::select(vec![
        near(&[]),
        near(&["192.0.2.1", "2a01::1"]),
        near(&["10.9.0.1", "10.0.0.0"]),
    ]);
    let steps = proptest::collection::vec((states(SLOTS), near), 2..5);
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(25) });
    let check = |steps: Vec<(NetworkState, Surroundings)>| {
        let mut before: Option<Model> = None;
        run(&changed, &removal_script());
        for (state, surroundings) in steps {
            let wanted = Model::new(&state, "test", &surroundings).unwrap();
            let script = match &before {
                None => wanted.first(),
                Some(before) => before.difference(&wanted).unwrap_or_else(|| wanted.whole()),
            };
            run(&changed, &script);
            run(&replaced, &wanted.whole());
            prop_assert_eq!(meaning(&changed), meaning(&replaced), "{}", script);
            before = Some(wanted);
        }
        Ok(())
    };
    runner.run(&steps, check).unwrap();
    let refused = nft(&changed, &Model::new(&state(&[]), "other", &surroundings()).unwrap().first());
    assert!(refused.code != 0 && refused.stderr.contains("File exists"), "{refused}");
    assert_eq!(meaning(&changed), meaning(&replaced));
}

/// The figures of a full node, as a person reads them in the test's output.
#[test]
fn a_full_node() {
    const GUESTS: u16 = 200;
    let world = World::new();
    let guest = |number: u16| Guest {
        connects: (1..=5)
            .map(|step| Grant {
                target: slot((number + step * 7) % GUESTS + 1),
                reach: Reach::Ports(Port::one(5000 + step, Transport::Tcp)),
            })
            .collect(),
        ..Guest::closed(slot(number))
    };
    let with =
        |guests: u16| NetworkState { guests: (1..=guests).map(guest).collect(), ..NetworkState::default() };
    world.apply(&with(GUESTS));
    for what in ["as after a disturbance", "again"] {
        let start = Instant::now();
        world.repair(&with(GUESTS), &[]);
        println!("apply {GUESTS} guests {what}: {:?}", start.elapsed());
    }
    let start = Instant::now();
    let script = script(&with(GUESTS), "test", &surroundings()).unwrap();
    println!("generate: {:?}", start.elapsed());
    let mut command = std::process::Command::new("nft");
    command.args(["-f", "-"]);
    let start = Instant::now();
    _ = world.host.finish(command, script.as_bytes()).ok();
    println!("rules alone, whole: {:?}", start.elapsed());
    for guests in [GUESTS + 1, GUESTS, GUESTS + 1, GUESTS + 1] {
        let start = Instant::now();
        world.apply(&with(guests));
        println!("then {guests}: {:?}", start.elapsed());
    }
}

#[test]
fn hundreds_of_guests() {
    const GUESTS: u16 = 230;
    let world = World::new();
    let guest = |number: u16| Guest {
        publishes: [Transport::Tcp, Transport::Udp]
            .map(|transport| Redirect {
                address: None,
                host_port: 10_000 + number,
                guest_port: 80,
                count: 1,
                transport,
            })
            .to_vec(),
        connects: (1..=40)
            .map(|target| Grant { target: slot(target), reach: Reach::Ports(Port::one(80, Transport::Tcp)) })
            .collect(),
        ..Guest::closed(slot(number))
    };
    let state = NetworkState { guests: (1..=GUESTS).map(guest).collect(), ..NetworkState::default() };
    for what in ["from nothing", "again"] {
        let start = Instant::now();
        world.apply(&state);
        println!("apply {GUESTS} guests {what}: {:?}", start.elapsed());
    }
    let start = Instant::now();
    let length = script(&state, "test", &surroundings()).unwrap().len();
    println!("generate for {GUESTS} guests: {:?}, {length} bytes", start.elapsed());
    let last = Machine::plug(&world, GUESTS);
    last.inside.serve("last", 80);
    let answer = world.lan.ask_tcp(&format!("192.0.2.1:{}", 10_000 + GUESTS), crate::world::SOON);
    assert_eq!(answer.as_deref(), Some("last 192.0.2.9 hello"));
    let first = Machine::plug(&world, 1);
    first.inside.serve("first", 80);
    let answer = last.inside.ask_tcp("10.83.0.1:80", crate::world::SOON);
    assert_eq!(answer.as_deref(), Some("first 10.83.0.230 hello"));
    let start = Instant::now();
    world.remove_all();
    println!("remove {GUESTS} guests: {:?}", start.elapsed());
}

#[test]
fn this_machine_is_fit() {
    for finding in examine(GuestNetwork::default()) {
        assert_ne!(finding.severity, Severity::Failure, "{finding:?}");
    }
}
