//! Virtual addresses: who reaches which instance through them.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpStream;

use lith_core::service::ServiceNumber;
use lith_core::slot::Slot;
use lith_net::{GuestNetwork, NetworkState, Service};

use crate::world::{Machine, NEVER, SOON, World, ask_socket, ask_stream, granting, refusal, slot, state};

fn number(number: u16) -> ServiceNumber {
    ServiceNumber::new(number).unwrap()
}

/// Services with their instances, and the guests that may use them.
fn serving(mut state: NetworkState, services: &[(u16, &[u16])], users: &[(u16, &[u16])]) -> NetworkState {
    let slots = |numbers: &[u16]| numbers.iter().map(|number| slot(*number)).collect::<Vec<Slot>>();
    let service = |(service, instances): &(u16, &[u16])| Service {
        number: number(*service),
        instances: slots(instances),
    };
    state.services = services.iter().map(service).collect();
    for (user, services) in users {
        let guest = state.guests.iter_mut().find(|guest| guest.slot == slot(*user)).unwrap();
        guest.services = services.iter().map(|service| number(*service)).collect();
    }
    state
}

/// Both addresses of a service, with a port.
fn addresses(service: u16, port: u16) -> [String; 2] {
    let (network, service) = (GuestNetwork::default(), number(service));
    [
        format!("{}:{port}", network.service_address(service)),
        format!("[{}]:{port}", network.service_address_6(service)),
    ]
}

fn machines(world: &World, guests: &[(u16, &'static str)]) -> Vec<Machine> {
    let plug = |(number, name): &(u16, &'static str)| {
        let machine = Machine::plug(world, *number);
        [80, 90].into_iter().for_each(|port| machine.inside.serve(name, port));
        machine
    };
    guests.iter().map(plug).collect()
}

#[test]
fn a_virtual_address_leads_to_what_is_granted() {
    let world = World::new();
    // What is published must not be reached around the grants.
    let guests = state(&[(1, &[]), (2, &["8090:90", "8090:90/udp"]), (3, &[])]);
    let granted = granting(guests, &[(1, "2:80"), (1, "2:80/udp"), (3, "2:*")]);
    world.apply(&serving(granted, &[(7, &[2]), (8, &[2])], &[(1, &[7])]));
    let machines = machines(&world, &[(1, "one"), (2, "two"), (3, "three")]);
    let (one, three) = (&machines[0], &machines[2]);
    let own = ["10.83.0.1", "fd6c:690a:5301::1"];
    for ((to, closed), own) in addresses(7, 80).into_iter().zip(addresses(7, 90)).zip(own) {
        let expected = format!("two {own} hello");
        assert_eq!(one.inside.ask_tcp(&to, SOON).as_ref(), Some(&expected), "{to}");
        assert_eq!(one.inside.ask_udp(&to, SOON).as_ref(), Some(&expected), "{to}");
        assert_eq!(one.inside.ask_udp(&closed, NEVER), None, "{closed}");
        refusal(one, &closed);
    }
    // Who may reach the instance may not use every address of it, and nobody else's either.
    for to in addresses(7, 80).into_iter().chain(addresses(9, 80)) {
        refusal(three, &to);
    }
    for to in addresses(8, 80) {
        refusal(one, &to);
    }
    assert!(three.inside.ask_tcp("10.83.0.2:80", SOON).is_some());
    for to in addresses(7, 80) {
        assert_eq!(world.lan.ask_tcp(&to, NEVER), None, "{to}");
    }
}

#[test]
fn connections_are_spread_and_stay() {
    let world = World::new();
    let granted = |guests: &[u16]| {
        let guests: Vec<(u16, &[&str])> = guests.iter().map(|number| (*number, &[][..])).collect();
        let grants = ["1:80", "2:80", "3:80", "4:80", "2:80/udp", "3:80/udp", "4:80/udp"];
        let own: Vec<(u16, &str)> = grants.iter().map(|grant| (1, *grant)).collect();
        granting(state(&guests), &own)
    };
    let with = |guests: &[u16], instances: &[u16]| serving(granted(guests), &[(7, instances)], &[(1, &[7])]);
    // Itself is among the instances, and never chosen; five is nobody's business.
    world.apply(&with(&[1, 2, 3, 4, 5], &[1, 2, 3, 4, 5]));
    let mut machines = machines(&world, &[(1, "one"), (2, "two"), (3, "three"), (4, "four"), (5, "five")]);
    let count = |machine: &Machine| {
        let mut counts = BTreeMap::new();
        for to in (0..12).flat_map(|_| addresses(7, 80)) {
            let answer = machine.inside.ask_tcp(&to, SOON).unwrap();
            *counts.entry(answer.split(' ').next().unwrap().to_owned()).or_insert(0) += 1;
        }
        counts
    };
    let even = |names: &[&str], each| names.iter().map(|name| ((*name).to_owned(), each)).collect();
    assert_eq!(count(&machines[0]), even(&["two", "three", "four"], 8));
    let streams: Vec<TcpStream> = (0..6)
        .map(|_| {
            let stream = machines[0].inside.run(|| TcpStream::connect(&addresses(7, 80)[0])).unwrap();
            stream.set_read_timeout(Some(SOON)).unwrap();
            stream
        })
        .collect();
    let answers: Vec<String> = streams.iter().map(|stream| ask_stream(stream).unwrap()).collect();
    let socket = machines[0].inside.udp("0.0.0.0:0");
    let first = ask_socket(&socket, &addresses(7, 80)[0]).unwrap();
    // An instance goes, another one is no longer well.
    world.apply(&with(&[1, 2, 3, 4, 5], &[2, 3]));
    assert_eq!(count(&machines[0]), even(&["two", "three"], 12));
    for (stream, answer) in streams.iter().zip(&answers) {
        let now = ask_stream(stream).filter(|answer| !answer.is_empty());
        assert_eq!(now.as_ref(), Some(answer).filter(|answer| !answer.starts_with("four")));
    }
    // One that talks on is led to another one when its own is gone.
    machines.truncate(3);
    world.apply(&with(&[1, 2, 3], &[2]));
    assert_eq!(count(&machines[0]), even(&["two"], 24));
    let answer = ask_socket(&socket, &addresses(7, 80)[0]).unwrap();
    assert!(answer.starts_with("two"), "{first} {answer}");
}

#[test]
fn a_service_that_nobody_answers_refuses() {
    let world = World::new();
    let with = |guests: &[(u16, &[&str])], instances: &[u16]| {
        let granted = granting(state(guests), &[(1, "2:80"), (1, "2:80/udp")]);
        serving(granted, &[(7, instances)], &[(1, &[7])])
    };
    world.apply(&with(&[(1, &[]), (2, &[])], &[]));
    let one = Machine::plug(&world, 1);
    let refused = || {
        for to in addresses(7, 80).into_iter().chain(addresses(7, 81)) {
            assert_eq!(refusal(&one, &to), io::ErrorKind::ConnectionRefused, "{to}");
            let socket = one.inside.udp(if to.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" });
            socket.connect(&to).unwrap();
            socket.send(b"hello").unwrap();
            assert_eq!(
                socket.recv(&mut [0; 16]).unwrap_err().kind(),
                io::ErrorKind::ConnectionRefused,
                "{to}"
            );
        }
    };
    refused();
    world.apply(&with(&[(1, &[]), (2, &[])], &[2]));
    let two = machines(&world, &[(2, "two")]);
    for to in addresses(7, 80) {
        assert!(one.inside.ask_tcp(&to, SOON).is_some());
    }
    drop(two);
    world.apply(&with(&[(1, &[])], &[2]));
    refused();
    // One that is not even listed.
    world.apply(&NetworkState { services: vec![], ..with(&[(1, &[])], &[2]) });
    refused();
}
