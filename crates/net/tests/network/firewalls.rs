//! Firewalls that people have: what guests are granted passes them, what they forbid stays forbidden, and they are as
//! before when lith goes.

use crate::world::{HOST, Machine, NEVER, SOON, World, granting, state};

/// What Docker makes of the packet filter: it drops what is forwarded, but for its own.
const DOCKER: &str = "iptables -P FORWARD DROP; iptables -N DOCKER; iptables -N DOCKER-USER; iptables -N DOCKER-FORWARD; \
     iptables -A FORWARD -j DOCKER-USER; iptables -A FORWARD -j DOCKER-FORWARD; \
     iptables -A DOCKER-FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; \
     iptables -A DOCKER-FORWARD -i docker0 -j ACCEPT; iptables -t nat -N DOCKER; \
     iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER; \
     iptables -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE; \
     iptables -t nat -A DOCKER ! -i docker0 -p tcp --dport 8081 -j DNAT --to-destination 172.17.0.2:80";

/// Enables ufw as it is after its installation, with one open port, in a copy of its files.
const UFW: &str = "set -e; copy=$(mktemp -d); cp -a /etc/ufw \"$copy/\"; mount --bind \"$copy/ufw\" /etc/ufw; \
     cp -a /etc/default/ufw \"$copy/default\"; mount --bind \"$copy/default\" /etc/default/ufw; \
     ufw allow 22/tcp; ufw --force enable; ufw status verbose; \
     umount /etc/ufw /etc/default/ufw; rm -r \"$copy\"";

fn enable_ufw(world: &World) {
    let output = world.host.command("unshare", &["--mount", "sh", "-c", UFW]);
    assert!(output.stdout.contains("Status: active"), "{output:?}");
}

/// Two guests of which one may reach the other, and the other's published port.
fn served(world: &World) -> [Machine; 2] {
    world.apply(&granting(state(&[(1, &["8080:80"]), (2, &[])]), &[(2, "1:80")]));
    let machines = [1, 2].map(|number| Machine::plug(world, number));
    machines[0].inside.serve("one", 80);
    machines
}

fn rules(world: &World) -> String {
    world.host.shell("nft --stateless list ruleset")
}

fn check_granted(world: &World, machines: &[Machine; 2]) {
    let published = format!("{HOST}:8080");
    assert_eq!(world.lan.ask_tcp(&published, SOON).as_deref(), Some("one 192.0.2.9 hello"));
    assert_eq!(machines[1].inside.ask_tcp("10.83.0.1:80", SOON).as_deref(), Some("one 10.83.0.2 hello"));
    assert_eq!(machines[1].inside.ask_tcp("10.83.0.1:81", NEVER), None);
    assert_eq!(world.lan.ask_tcp("10.83.0.1:80", NEVER), None);
}

#[test]
fn dockers_rules_and_ours_go_together() {
    let world = World::new();
    world.host.shell(DOCKER);
    let before = rules(&world);
    let machines = served(&world);
    check_granted(&world, &machines);
    assert!(world.host.shell("iptables -S FORWARD").contains("-i lith+"), "the older tools read it");
    // The engine is started again: what it makes anew is opened anew.
    world.host.shell(
        "iptables -F FORWARD; iptables -A FORWARD -j DOCKER-USER; iptables -A FORWARD -j DOCKER-FORWARD",
    );
    assert_eq!(machines[1].inside.ask_tcp("10.83.0.1:80", NEVER), None);
    world.pass_firewalls();
    check_granted(&world, &machines);
    // What a person forbids comes first.
    world.host.shell("iptables -I DOCKER-USER -s 192.0.2.9 -j DROP");
    assert_eq!(world.lan.ask_tcp(&format!("{HOST}:8080"), NEVER), None);
    world.host.shell("iptables -D DOCKER-USER -s 192.0.2.9 -j DROP");
    drop(machines);
    world.remove_all();
    assert_eq!(rules(&world), before);
}

#[test]
fn ufw_and_ours_go_together() {
    let world = World::new();
    enable_ufw(&world);
    let before = rules(&world);
    assert!(before.contains("policy drop"), "{before}");
    let machines = served(&world);
    check_granted(&world, &machines);
    world.host.serve("host", 22);
    world.host.serve("host", 23);
    assert_eq!(world.lan.ask_tcp(&format!("{HOST}:22"), SOON).as_deref(), Some("host 192.0.2.9 hello"));
    assert_eq!(world.lan.ask_tcp(&format!("{HOST}:23"), NEVER), None, "its own rules hold");
    drop(machines);
    world.remove_all();
    assert_eq!(rules(&world), before);
}

#[test]
fn the_older_filter_is_passed_as_well() {
    let world = World::new();
    world.host.shell("iptables-legacy -P FORWARD DROP; iptables-legacy -A FORWARD -s 203.0.113.0/24 -j DROP");
    let legacy = || world.host.shell("iptables-legacy -S");
    let before = legacy();
    let machines = served(&world);
    check_granted(&world, &machines);
    drop(machines);
    world.remove_all();
    assert_eq!(legacy(), before);
}
