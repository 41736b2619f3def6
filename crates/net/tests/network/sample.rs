//! The kernel's word: states at random, and datagrams from each guest to everywhere. What arrives where is what the state says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, UdpSocket};

use lith_core::connect::Reach;
use lith_core::egress::{is_public, is_written_out};
use lith_core::job::Transport;
use lith_core::job::access::Egress;
use lith_core::service::ServiceNumber;
use lith_core::slot::Slot;
use lith_net::{Family, Guest, NetworkState, address};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, TestRunner};

use crate::generate::states;
use crate::world::{Machine, Namespace, RESOLVER, World, receive, slot};

const GUESTS: u16 = 3;
/// Some of those that states are about, and that ranges cover.
const PORTS: [u16; 4] = [72, 78, 85, 1003];
/// Where nobody but the host sends to.
const END: u16 = 60;
const OUTSIDE: [&str; 6] = ["9.9.9.9", "2a02::7", "192.0.2.9", "2a01::9", "10.9.0.1", "fd77::1"];
const NODE: [&str; 2] = ["192.0.2.1", "2a01::1"];

/// Who receives: a guest by its number, the neighbour, the node.
type Receiver = String;

/// Everything that listens, by who and port.
struct Ears(Vec<(Receiver, u16, UdpSocket)>);

impl Ears {
    fn new(machines: &[Machine], world: &World) -> Self {
        let mut ears = Vec::new();
        let mut listen = |name: &str, namespace: &Namespace, ports: &[u16]| {
            namespace.shell("sysctl -qw net.ipv6.bindv6only=1");
            for (port, any) in ports.iter().flat_map(|port| [(*port, "0.0.0.0"), (*port, "[::]")]) {
                ears.push((name.to_owned(), port, namespace.udp(&format!("{any}:{port}"))));
            }
        };
        let all: Vec<u16> = [END].into_iter().chain(70..=90).chain(1000..=1010).collect();
        for (machine, number) in machines.iter().zip(1..) {
            listen(&format!("{number}"), &machine.inside, &all);
        }
        listen("lan", &world.lan, &PORTS);
        listen("node", &world.host, &PORTS);
        Self(ears)
    }

    /// What has come: by the text of a datagram, where it came to.
    fn take(&self) -> BTreeMap<String, (Receiver, u16)> {
        let mut heard = BTreeMap::new();
        for (name, port, socket) in &self.0 {
            socket.set_nonblocking(true).unwrap();
            while let Some(text) = receive(socket) {
                heard.insert(text, (name.clone(), *port));
            }
            socket.set_nonblocking(false).unwrap();
        }
        heard
    }
}

fn targets(state: &NetworkState) -> Vec<IpAddr> {
    let network = state.network;
    let guests = (1..=GUESTS + 1)
        .flat_map(|number| Family::BOTH.map(|family| network.guest_address_of(slot(number), family)));
    let services = (1..6).flat_map(|number| {
        Family::BOTH.map(|family| network.service_address_of(ServiceNumber::new(number).unwrap(), family))
    });
    let others = OUTSIDE.into_iter().chain(NODE).map(|text| text.parse().unwrap());
    guests.chain(services).chain(others).collect()
}

fn is_granted(client: &Guest, target: Slot, port: u16) -> bool {
    client.connects.iter().any(|grant| {
        grant.target == target
            && match grant.reach {
                Reach::Any => true,
                Reach::Ports(ports) => ports.holds(port, Transport::Udp),
            }
    })
}

/// To where a state lets this pass: to one of these, and perhaps to nobody where there is `None`.
fn allowed(state: &NetworkState, client: &Guest, to: IpAddr, port: u16) -> BTreeSet<Option<(Receiver, u16)>> {
    let family = Family::of(to);
    let is_there = |slot: &Slot| state.slots().contains(slot);
    let guest = |slot: Slot, port| Some((slot.to_string(), port));
    let only = |place| BTreeSet::from([place]);
    if let Some(target) =
        state.slots().into_iter().find(|slot| state.network.guest_address_of(*slot, family) == to)
    {
        return only(is_granted(client, target, port).then(|| (target.to_string(), port)));
    }
    let own = client.services.iter().find(|number| state.network.service_address_of(**number, family) == to);
    if let Some(number) = own {
        let services = state.services.iter().filter(|service| service.number == *number);
        let eligible = services
            .flat_map(|service| service.instances.iter().copied())
            .filter(|slot| *slot != client.slot && is_there(slot))
            .filter(|slot| client.connects.iter().any(|grant| grant.target == *slot));
        let mut places: BTreeSet<_> =
            eligible.map(|slot| guest(slot, port).filter(|_| is_granted(client, slot, port))).collect();
        if places.is_empty() {
            places.insert(None);
        }
        return places;
    }
    if state.network.holds(to) {
        return only(None);
    }
    let is_written = is_written_out(&client.egress, to, (port, Transport::Udp));
    if NODE.iter().any(|node| *node == to.to_string()) {
        let fits = |publish: &&lith_net::Redirect| {
            publish.transport == Transport::Udp
                && publish.address.is_none_or(|address| address == to)
                && (publish.host_port..=publish.host_port + (publish.count - 1)).contains(&port)
        };
        let publish =
            state.guests.iter().find_map(|guest| Some((guest.slot, guest.publishes.iter().find(fits)?)));
        let through = publish
            .map(|(slot, publish)| (slot.to_string(), publish.guest_port + (port - publish.host_port)));
        return only(through.filter(|_| is_written));
    }
    let is_near = ["192.0.2.9", "2a01::9"].contains(&to.to_string().as_str());
    let is_internet = client.egress.contains(&Egress::Internet) && is_public(to) && !is_near;
    only((is_written || is_internet).then(|| ("lan".to_owned(), port)))
}

#[test]
fn what_arrives_is_what_the_state_says() {
    let world = World::new();
    world.lan.shell("ip addr add 10.9.0.1/32 dev lo; ip addr add fd77::1/128 dev lo");
    let closed = |number| Guest::closed(slot(number));
    let at_first = NetworkState { guests: (1..=GUESTS).map(closed).collect(), ..NetworkState::default() };
    world.apply(&at_first);
    let machines: Vec<Machine> = (1..=GUESTS).map(|number| Machine::plug(&world, number)).collect();
    let ears = Ears::new(&machines, &world);
    let resolver = world.host.udp(&format!("{}:5353", address::GATEWAY));
    // Once the host knows where the neighbour is, nothing waits on its way.
    for (any, to) in [("0.0.0.0:0", "192.0.2.9"), ("[::]:0", "2a01::9")] {
        let to: IpAddr = to.parse().unwrap();
        world.host.udp(any).send_to(b"first", (to, PORTS[0])).unwrap();
        let (_, _, ear) = ears
            .0
            .iter()
            .find(|(name, port, ear)| {
                name == "lan" && *port == PORTS[0] && ear.local_addr().unwrap().is_ipv4() == to.is_ipv4()
            })
            .unwrap();
        assert_eq!(receive(ear).as_deref(), Some("first"));
    }
    let mut runner = TestRunner::new(Config::default());
    let (mut passed, mut refused) = (0, 0);
    for round in 0..40 {
        let mut state = states(GUESTS).new_tree(&mut runner).unwrap().current();
        let missing = (1..=GUESTS).map(slot).filter(|slot| !state.slots().contains(slot));
        let missing: Vec<Slot> = missing.collect();
        state.guests.extend(missing.into_iter().map(Guest::closed));
        state.guests.iter_mut().for_each(|guest| guest.bandwidth = None);
        state.resolver = Some(RESOLVER);
        // Whole now and then, which also forgives those that have begun many connections.
        if round % 5 == 0 {
            world.repair(&state, &[])
        } else {
            world.apply(&state)
        }
        for machine in &machines {
            // Those of one round are not those of another one: each has a port of its own.
            let sockets = ["0.0.0.0:0", "[::]:0"].map(|any| machine.inside.udp(any));
            for (to, port) in targets(&state).iter().flat_map(|to| PORTS.map(|port| (*to, port))) {
                let number = machine.number;
                let text = format!("{round} {number} > {to} {port}");
                _ = sockets[usize::from(to.is_ipv6())].send_to(text.as_bytes(), SocketAddr::new(to, port));
            }
            // What was sent before this has been judged when this is here; and what passed to a guest is there when what the
            // host sends it is.
            sockets[0].send_to(b"end", "9.9.9.9:53").unwrap();
            assert_eq!(receive(&resolver).as_deref(), Some("end"));
        }
        let own = world.host.udp("0.0.0.0:0");
        for number in 1..=GUESTS {
            let end = state.network.guest_address(slot(number));
            own.send_to(b"end", (end, END)).unwrap();
        }
        for (name, port, socket) in &ears.0 {
            if *port == END && socket.local_addr().unwrap().is_ipv4() && name != "lan" && name != "node" {
                assert_eq!(receive(socket).as_deref(), Some("end"), "{name}");
            }
        }
        let heard = ears.take();
        for client in &state.guests {
            for (to, port) in targets(&state).iter().flat_map(|to| PORTS.map(|port| (*to, port))) {
                if to == state.network.guest_address_of(client.slot, Family::of(to)) {
                    // This does not leave the guest.
                    continue;
                }
                let text = format!("{round} {} > {to} {port}", client.slot);
                let came = heard.get(&text).cloned();
                let may = allowed(&state, client, to, port);
                assert!(may.contains(&came), "{text}: came to {came:?}, may to {may:?}: {state:?}");
                *if came.is_some() { &mut passed } else { &mut refused } += 1;
            }
        }
    }
    println!("{passed} passed, {refused} were refused");
    assert!(passed > 50 && refused > 1000, "{passed} {refused}");
}
