//! Flows through changes of the state.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::world::{Machine, NEVER, SOON, World, ask_socket, ask_stream, state};

#[test]
fn flows_survive_that_the_state_is_applied_again_and_again() {
    let world = World::new();
    let small = state(&[(1, &["8080:80", "8080:80/udp"])]);
    let large = state(&[(1, &["8080:80", "8080:80/udp", "9000:90"]), (2, &["8082:80"]), (3, &[])]);
    world.apply(&small);
    let guest = Machine::plug(&world, 1);
    guest.inside.serve("one", 80);
    let stream = world.lan.run(|| TcpStream::connect("192.0.2.1:8080")).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let socket = world.lan.udp("0.0.0.0:0");
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..10 {
                world.apply(&large);
                world.apply(&small);
                world.apply(&small);
            }
            is_done.store(true, Ordering::SeqCst);
        });
        while !is_done.load(Ordering::SeqCst) {
            assert_eq!(ask_socket(&socket, "192.0.2.1:8080").as_deref(), Some("one 192.0.2.9 hello"));
            assert_eq!(ask_stream(&stream).as_deref(), Some("one 192.0.2.9 hello"));
        }
    });
}

#[test]
fn a_talking_client_follows_the_state() {
    let world = World::new();
    world.host.serve("host", 8080);
    world.apply(&state(&[(1, &[]), (2, &[])]));
    let (one, two) = (Machine::plug(&world, 1), Machine::plug(&world, 2));
    one.inside.serve("one", 80);
    two.inside.serve("two", 80);
    let socket = world.lan.udp("0.0.0.0:0");
    let check = |guests: &[(u16, &[&str])], expected: &str| {
        world.apply(&state(guests));
        let answer = ask_socket(&socket, "192.0.2.1:8080");
        assert_eq!(
            answer.as_deref().and_then(|answer| answer.split(' ').next()),
            Some(expected),
            "{guests:?}"
        );
    };
    check(&[(1, &[]), (2, &[])], "host");
    check(&[(1, &["8080:80/udp"]), (2, &[])], "one");
    check(&[(1, &[]), (2, &["8080:80/udp"])], "two");
    check(&[(1, &["8080:80/udp"])], "one");
    check(&[(1, &[])], "host");
}

#[test]
fn removing_a_publish_cuts_its_flows() {
    let world = World::new();
    world.apply(&state(&[(1, &["8080:80", "8081:80"])]));
    let guest = Machine::plug(&world, 1);
    guest.inside.serve("one", 80);
    let connect = |to: &str| {
        let stream = world.lan.run(|| TcpStream::connect(to)).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        assert!(ask_stream(&stream).is_some());
        stream
    };
    let (kept, cut) = (connect("192.0.2.1:8080"), connect("192.0.2.1:8081"));
    world.apply(&state(&[(1, &["8080:80"])]));
    assert!(ask_stream(&kept).is_some());
    cut.set_read_timeout(Some(NEVER)).unwrap();
    assert_eq!(ask_stream(&cut).filter(|answer| !answer.is_empty()), None);
}
