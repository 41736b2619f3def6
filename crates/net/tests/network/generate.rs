//! States of the network at random: few guests, addresses and ports, so that they meet.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lith_core::connect::{Grant, Reach};
use lith_core::job::access::{Bandwidth, Egress};
use lith_core::job::{Port, Transport};
use lith_core::service::ServiceNumber;
use lith_net::{Guest, NetworkState, Redirect, Service};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use crate::world::{RESOLVER, slot};

pub(crate) fn transport() -> impl Strategy<Value = Transport> {
    prop_oneof![Just(Transport::Tcp), Just(Transport::Udp)]
}

fn port() -> impl Strategy<Value = Port> {
    (70u16..90, prop_oneof![2 => Just(0u16), 1 => 0u16..10], transport())
        .prop_map(|(number, more, transport)| Port { number, last: number + more, transport })
}

fn address() -> impl Strategy<Value = IpAddr> {
    let texts = ["192.0.2.1", "192.0.2.9", "9.9.9.9", "10.9.0.1", "2a01::1", "2a01::9", "2a02::7", "fd77::1"];
    proptest::sample::select(texts.to_vec()).prop_map(|text| text.parse().unwrap())
}

fn publish() -> impl Strategy<Value = Redirect> {
    let ports = prop_oneof![
        2 => (1000u16..1010, 70u16..90).prop_map(|(host_port, guest_port)| (host_port, guest_port, 1)),
        1 => (70u16..90, 2u16..10).prop_map(|(port, count)| (port, port, count)),
        1 => (1u16..60_000, 2u16..5000).prop_map(|(port, count)| (port, port, count)),
    ];
    (option::of(address()), ports, transport()).prop_map(
        |(address, (host_port, guest_port, count), transport)| Redirect {
            address,
            host_port,
            guest_port,
            count,
            transport,
        },
    )
}

fn egress() -> impl Strategy<Value = Egress> {
    let network = (address(), prop_oneof![Just(255u8), 0u8..=128], option::of(port()))
        .prop_map(|(address, prefix, port)| Egress::Network { address, prefix, port });
    let name = option::of(port()).prop_map(|port| Egress::Name { name: "example.org".into(), port });
    prop_oneof![1 => Just(Egress::Internet), 1 => name, 3 => network]
}

fn guest(slots: u16) -> impl Strategy<Value = Guest> {
    let reach = prop_oneof![1 => Just(Reach::Any), 3 => port().prop_map(Reach::Ports)];
    // Some lead to nobody.
    let grant = (1..=slots + 2, reach).prop_map(|(target, reach)| Grant { target: slot(target), reach });
    let services = vec((1u16..5).prop_map(|number| ServiceNumber::new(number).unwrap()), 0..3);
    let bandwidth = option::weighted(0.2, (64_000u64..200_000_000_000).prop_map(Bandwidth));
    (vec(publish(), 0..3), vec(grant, 0..5), services, vec(egress(), 0..4), bandwidth).prop_map(
        |(publishes, connects, services, egress, bandwidth)| Guest {
            publishes,
            connects,
            services,
            egress,
            bandwidth,
            ..Guest::closed(slot(1))
        },
    )
}

/// States of guests in the first slots.
pub(crate) fn states(slots: u16) -> impl Strategy<Value = NetworkState> {
    let guests = btree_map(1..=slots, guest(slots), 0..=usize::from(slots));
    let services: BoxedStrategy<BTreeMap<u16, Vec<u16>>> =
        btree_map(1u16..5, vec(1..=slots, 0..5), 0..5).boxed();
    (guests, services, option::weighted(0.8, Just(RESOLVER))).prop_map(|(guests, services, resolver)| {
        let guests = guests.into_iter().map(|(number, guest)| Guest { slot: slot(number), ..guest });
        let service = |(number, instances): (u16, Vec<u16>)| Service {
            number: ServiceNumber::new(number).unwrap(),
            instances: instances.into_iter().map(slot).collect(),
        };
        let mut state = NetworkState {
            guests: guests.collect(),
            services: services.into_iter().map(service).collect(),
            resolver,
            ..NetworkState::default()
        };
        // Publishes of which one has the other's port are refused; the last one gives way.
        while state.validate().is_err() {
            let with = state.guests.iter_mut().rev().find(|guest| !guest.publishes.is_empty());
            with.unwrap().publishes.pop();
        }
        state
    })
}
