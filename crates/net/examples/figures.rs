//! Figures of the packet filter, in network namespaces of its own: what the policy costs, and what a change of it takes.
//! Needs root, `iperf3`, `nft` and `ip`. Prints one JSON object.
//!
//! Guests are namespaces behind a pair of `veth` devices whose end on the host has the name of a TAP: the rules know TAPs by
//! their names. So both sides of a comparison have the same cables, and differ in the policy alone; a real TAP with a
//! process behind it that carries frames is measured beside it.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that fails says so by panicking")]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lith_core::connect::{Grant, Reach};
use lith_core::job::{Port, Transport};
use lith_core::service::ServiceNumber;
use lith_core::slot::Slot;
use lith_net::ruleset::{self, Model, Surroundings};
use lith_net::{Guest, GuestNetwork, Network, NetworkState, Service, address};
use lith_testkit::Namespace;
use serde_json::{Value, json};

/// Tasks of the node, and what they are granted together.
const TASKS: u16 = 200;
const CONNECTS: u16 = 1_000;
/// Rounds of each side of a comparison, which take turns; the middle one counts.
const ROUNDS: usize = 11;
/// How long one transfer takes, in seconds.
const SECONDS: &str = "2";
/// Processors of the sender and the receiver of a transfer: where they meet by chance, transfers differ by half.
const PROCESSORS: &str = "0,1";
/// Connections of one round.
const CONNECTIONS: usize = 1_500;
/// Where the server of connections listens.
const PORT: u16 = 9000;
const IPERF_PORT: u16 = 5201;

fn slot(number: u16) -> Slot {
    Slot::new(number).unwrap()
}

fn network() -> GuestNetwork {
    GuestNetwork::default()
}

fn service() -> ServiceNumber {
    ServiceNumber::new(1).unwrap()
}

/// Many tasks, of which the first may reach everything of the second by the virtual address of its service.
fn state(tasks: u16, connects: u16) -> NetworkState {
    let mut guests: Vec<Guest> = (1..=tasks).map(|number| Guest::closed(slot(number))).collect();
    for number in 0..connects {
        let (client, target) = (number % tasks, (number + 1 + number / tasks) % tasks);
        let port = Port::one(8000 + number, Transport::Tcp);
        let grant = Grant { target: slot(target + 1), reach: Reach::Ports(port) };
        guests[usize::from(client)].connects.push(grant);
    }
    if let Some(first) = guests.first_mut() {
        first.connects.retain(|grant| grant.target != slot(2));
        first.connects.push(Grant { target: slot(2), reach: Reach::Any });
        first.services.push(service());
    }
    let services = vec![Service { number: service(), instances: vec![slot(2)] }];
    NetworkState { guests, services, ..NetworkState::default() }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What it takes to put many rights in force, and one task more.
fn rules() -> Value {
    let host = Namespace::new();
    let folder = tempfile::tempdir().unwrap();
    let network = Network::new(folder.path().join("network"), "/figures");
    let apply = |state: &NetworkState| host.run(|| network.apply(state, &Vec::new)).unwrap();
    let full = state(TASKS, CONNECTS);
    let grant = Grant { target: slot(1), reach: Reach::Ports(Port::one(80, Transport::Tcp)) };
    let newcomer = Guest { connects: vec![grant], ..Guest::closed(slot(TASKS + 1)) };
    let more = NetworkState { guests: [full.guests.clone(), vec![newcomer]].concat(), ..full.clone() };
    // All devices are there, also that of one task more: what is measured first are the rules.
    apply(&state(TASKS + 1, 0));
    let model = |state: &NetworkState| Model::new(state, "/figures", &Surroundings::default()).unwrap();
    let (mut first, mut whole, mut one, mut apply_whole, mut apply_one, mut nothing) =
        (vec![], vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        // What the kernel tidies up of former rules takes its time.
        let fresh = Namespace::new();
        taps(&fresh, 1..=TASKS);
        first.push(timed(|| nft(&fresh, &model(&full).first())));
        whole.push(timed(|| nft(&host, &model(&full).whole())));
        let before = model(&full);
        one.push(timed(|| nft(&host, &before.difference(&model(&more)).unwrap())));
    }
    apply(&full);
    for _ in 0..ROUNDS {
        // Somebody else changed the rules, so all of it is looked at and made anew.
        network.distrust();
        apply_whole.push(timed(|| apply(&full)));
        apply_one.push(timed(|| apply(&more)));
        nothing.push(timed(|| apply(&more)));
        apply(&full);
    }
    host.run(|| network.remove_all(self::network())).unwrap();
    json!({
        "rules_ms": median(first), "rules_again_ms": median(whole), "rules_one_more_ms": median(one), "apply_ms": median(apply_whole),
        "one_more_ms": median(apply_one), "nothing_ms": median(nothing),
    })
}

/// How long something takes, milliseconds.
fn timed(action: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    action();
    begin.elapsed().as_secs_f64() * 1000.0
}

/// Devices of guests that say nothing.
fn taps(host: &Namespace, numbers: RangeInclusive<u16>) {
    let add = |number| format!("tuntap add dev {} mode tap\n", address::tap_name(slot(number)));
    let mut command = Command::new("ip");
    command.args(["-batch", "-"]);
    let _ = host.finish(command, numbers.map(add).collect::<String>().as_bytes()).ok();
}

/// Waits for the end of `nft` as [`Network`] does, and not by looking now and then.
fn nft(host: &Namespace, script: &str) {
    host.run(|| {
        let mut child = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    });
}

/// A host with two guests behind cables, whose rules come and go.
struct World {
    host: Namespace,
    guests: [Namespace; 2],
}

impl World {
    fn new() -> Self {
        let world = Self { host: Namespace::new(), guests: [Namespace::new(), Namespace::new()] };
        let _ = world.host.shell("sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0");
        for (number, guest) in (1..).zip(&world.guests) {
            let (slot, gateway) = (slot(number), address::GATEWAY);
            let (tap, own) = (address::tap_name(slot), network().guest_address(slot));
            let (guest_mac, host_mac) = (address::guest_mac(slot), address::host_mac(slot));
            let _ = world.host.shell(&format!(
                "ip link add {tap} address {host_mac} type veth peer name eth0 address {guest_mac} netns {}; \
                 ip addr add {gateway}/32 dev {tap}; ip link set {tap} up; \
                 ip route add {own} dev {tap} src {gateway}; \
                 ip neigh replace {own} lladdr {guest_mac} dev {tap} nud permanent",
                guest.process()
            ));
            let _ = guest.shell(&format!(
                "ip addr add {own}/32 dev eth0; ip link set eth0 up; \
                 ip neigh replace {gateway} lladdr {host_mac} dev eth0 nud permanent; \
                 ip route add {gateway} dev eth0 scope link; ip route add default via {gateway}"
            ));
        }
        taps(&world.host, 3..=TASKS);
        world
    }

    fn protect(&self) {
        let script = ruleset::script(&state(TASKS, CONNECTS), "/figures", &Surroundings::default()).unwrap();
        nft(&self.host, &script);
    }

    fn unprotect(&self) {
        nft(&self.host, &ruleset::removal_script());
    }

    /// Bits per second of one connection.
    fn throughput(&self, to: IpAddr) -> f64 {
        let mut serve = Command::new("iperf3");
        serve.args(["--server", "--one-off", "--forceflush", "--port", &IPERF_PORT.to_string()]);
        let mut server = self.guests[1].start(serve);
        server.wait_for("listening");
        let mut ask = Command::new("iperf3");
        ask.args([
            "--client",
            &to.to_string(),
            "--time",
            SECONDS,
            "--json",
            "--affinity",
            PROCESSORS,
            "--port",
            &IPERF_PORT.to_string(),
        ]);
        let answer = self.guests[0].finish(ask, b"").ok().json();
        answer["end"]["sum_received"]["bits_per_second"].as_f64().unwrap()
    }

    /// Microseconds that a connection takes to be there, the middle one of many.
    fn connection_us(&self, to: SocketAddr) -> f64 {
        self.guests[0].run(|| {
            let one = |_| {
                let begin = Instant::now();
                let mut stream = TcpStream::connect(to).unwrap();
                let spent = begin.elapsed().as_secs_f64() * 1e6;
                // The other end closes first, so that its ports are not used up here.
                _ = stream.read(&mut [0; 1]);
                spent
            };
            median((0..CONNECTIONS).map(one).collect())
        })
    }

    /// Accepts and closes connections until told to stop.
    fn serve(&self, stop: &Arc<AtomicBool>) -> thread::JoinHandle<()> {
        let listener = self.guests[1].run(|| TcpListener::bind(("0.0.0.0", PORT))).unwrap();
        let stop = Arc::clone(stop);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                drop(stream);
                if stop.load(Ordering::Relaxed) {
                    return;
                }
            }
        })
    }
}

/// The policy against none, on the same cables.
fn paths() -> Value {
    let world = World::new();
    let (virtual_address, own) =
        (IpAddr::from(network().service_address(service())), IpAddr::from(network().guest_address(slot(2))));
    let stop = Arc::new(AtomicBool::new(false));
    let server = world.serve(&stop);
    let (mut policy, mut direct, mut bare, mut policy_us, mut bare_us) =
        (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        world.protect();
        policy.push(world.throughput(virtual_address));
        direct.push(world.throughput(own));
        policy_us.push(world.connection_us((virtual_address, PORT).into()));
        world.unprotect();
        bare.push(world.throughput(own));
        bare_us.push(world.connection_us((own, PORT).into()));
    }
    stop.store(true, Ordering::Relaxed);
    world.guests[0].run(|| TcpStream::connect_timeout(&(own, PORT).into(), Duration::from_secs(5))).unwrap();
    server.join().unwrap();
    // Of neighbours in time, as the machine is not the same all the time.
    let ratio = |side: &[f64]| median(side.iter().zip(&bare).map(|(one, other)| one / other).collect());
    json!({
        "ratio": ratio(&policy), "direct_ratio": ratio(&direct), "bare_gbit": median(bare.clone()) / 1e9,
        "connect_added_us": median(policy_us) - median(bare_us),
    })
}

fn main() {
    let figures = json!({ "rules": rules(), "paths": paths() });
    let mut out = std::io::stdout().lock();
    writeln!(out, "{figures}").unwrap();
}
