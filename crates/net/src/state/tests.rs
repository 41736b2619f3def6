//! Possible and impossible states.

use lith_core::job::Port;
use lith_core::value;
use proptest::prelude::*;

use super::*;

/// Slot, then publishes as a job file writes them.
type PlainGuest<'a> = (u16, &'a [&'a str]);

fn slot(number: u16) -> Slot {
    Slot::new(number).unwrap()
}

fn state(guests: &[PlainGuest<'_>]) -> NetworkState {
    let redirects = |text: &&str| Redirect::of(value::port::publish(text).unwrap()).collect::<Vec<_>>();
    let guest = |(number, publishes): &PlainGuest<'_>| Guest {
        publishes: publishes.iter().flat_map(redirects).collect(),
        ..Guest::closed(slot(*number))
    };
    NetworkState { guests: guests.iter().map(guest).collect(), ..NetworkState::default() }
}

#[test]
fn possible_states() {
    let check = |guests: &[PlainGuest<'_>]| assert_eq!(state(guests).validate(), Ok(()));
    check(&[]);
    check(&[(1, &["80:80", "80:80/udp"]), (2, &["81:80"])]);
    check(&[(1, &["127.0.0.1:80:80"]), (2, &["192.0.2.1:80:80"])]);
    check(&[(1, &["192.0.2.1:80:80"]), (2, &["[2001:db8::1]:80:80"])]);
    check(&[(1, &["8000-8010:8000-8010"]), (2, &["8011-8020:8011-8020", "8000-8010:8000-8010/udp"])]);
}

#[test]
fn impossible_states() {
    let check = |guests: &[PlainGuest<'_>], message: &str| {
        assert_eq!(state(guests).validate().unwrap_err().to_string(), message);
    };
    check(&[(1, &[]), (1, &[])], "slot 1 is given to two guests");
    check(
        &[(1, &["80:80"]), (2, &["127.0.0.1:80:8080"])],
        "publish 127.0.0.1:80:8080 of slot 2 collides with 80:80 of slot 1",
    );
    check(
        &[(1, &["0.0.0.0:80:80/udp"]), (2, &["127.0.0.1:80:8080/udp"])],
        "publish 127.0.0.1:80:8080/udp of slot 2 collides with 80:80/udp of slot 1",
    );
    check(
        &[(1, &["8005:80"]), (2, &["8000-8010:8000-8010"])],
        "publish 8000-8010:8000-8010 of slot 2 collides with 8005:80 of slot 1",
    );
}

#[test]
fn impossible_ports() {
    let good = Redirect { address: None, host_port: 80, guest_port: 80, count: 1, transport: Transport::Tcp };
    for publish in [
        Redirect { host_port: 0, ..good },
        Redirect { guest_port: 0, ..good },
        Redirect { count: 0, ..good },
        Redirect { count: 2, guest_port: 81, ..good },
        Redirect { host_port: 65_535, guest_port: 65_535, count: 2, ..good },
    ] {
        let guest = Guest { publishes: vec![publish], ..Guest::closed(slot(1)) };
        let state = NetworkState { guests: vec![guest], ..NetworkState::default() };
        assert_eq!(state.validate(), Err(StateError::BadPublish { publish, slot: slot(1) }));
    }
    for (number, last) in [(0, 5), (6, 5)] {
        let reach = Reach::Ports(Port { number, last, transport: Transport::Tcp });
        let grant = Grant { target: slot(2), reach };
        let guest = Guest { connects: vec![grant], ..Guest::closed(slot(1)) };
        let state = NetworkState { guests: vec![guest], ..NetworkState::default() };
        let error = state.validate().unwrap_err();
        assert_eq!(error.to_string(), "slot 1 may reach impossible ports of slot 2");
    }
    let grant = Grant { target: slot(2), reach: Reach::Any };
    let guest = Guest { connects: vec![grant; NODE_GRANTS_MAX + 1], ..Guest::closed(slot(1)) };
    let state = NetworkState { guests: vec![guest], ..NetworkState::default() };
    assert_eq!(state.validate(), Err(StateError::TooManyGrants(NODE_GRANTS_MAX + 1)));
}

#[test]
fn a_range_that_keeps_its_numbers_stays_one() {
    let check = |text: &str, expected: &[&str]| {
        let redirects = Redirect::of(value::port::publish(text).unwrap());
        assert_eq!(redirects.map(|redirect| redirect.to_string()).collect::<Vec<_>>(), expected);
    };
    check("127.0.0.1:1-65535:1-65535/udp", &["127.0.0.1:1-65535:1-65535/udp"]);
    check("8000-8001:9000-9001", &["8000:9000", "8001:9001"]);
    check("[::1]:80:80", &[]);
    check("[2001:db8::1]:80:80", &["[2001:db8::1]:80:80"]);
}

const ADDRESSES: [Option<&str>; 6] =
    [None, Some("0.0.0.0"), Some("::"), Some("192.0.2.1"), Some("192.0.2.2"), Some("2001:db8::1")];

proptest! {
    /// What is found by looking only at those that reach furthest is what comparing each with each finds.
    #[test]
    fn every_collision_is_found(
        publishes in proptest::collection::vec((0u8..6, 1u16..60, 1u16..6, any::<bool>()), 0..12)
    ) {
        let redirect = |(address, port, count, is_tcp): (u8, u16, u16, bool)| Redirect {
            address: ADDRESSES[usize::from(address)].map(|text| text.parse().unwrap()),
            host_port: port,
            guest_port: port,
            count,
            transport: if is_tcp { Transport::Tcp } else { Transport::Udp },
        };
        let publishes: Vec<Redirect> = publishes.into_iter().map(redirect).collect();
        let meet = |one: Option<IpAddr>, other: Option<IpAddr>| match (one, other) {
            (Some(one), Some(other)) => {
                one.is_ipv4() == other.is_ipv4() && (one == other || one.is_unspecified() || other.is_unspecified())
            }
            _ => true,
        };
        let collide = |one: &Redirect, other: &Redirect| {
            one.transport == other.transport
                && one.host_port <= other.host_last()
                && other.host_port <= one.host_last()
                && meet(one.address, other.address)
        };
        let pairs = publishes.iter().enumerate();
        let any = pairs.flat_map(|(at, one)| publishes[at + 1..].iter().map(move |other| (one, other)))
            .any(|(one, other)| collide(one, other));
        let guest = Guest { publishes: publishes.clone(), ..Guest::closed(slot(1)) };
        let state = NetworkState { guests: vec![guest], ..NetworkState::default() };
        match state.validate() {
            Ok(()) => prop_assert!(!any, "{:?}", publishes),
            Err(StateError::Collision { ours, theirs, .. }) => prop_assert!(collide(&ours, &theirs)),
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}
