//! Processes that end and are replaced.

use std::io::Read;
use std::time::Duration;

use hickory_proto::rr::RecordType;
use lith_dns::control;
use lith_dns::form::Reason;
use rustix::process::{Pid, Signal, kill_process};

use crate::world::{ALONE, WEB, World, a, question, start_process};

fn child(world: &World) -> Option<u32> {
    control::hello(&world.socket()).unwrap().child
}

#[test]
fn a_child_that_is_killed_is_started_again() {
    let world = World::new(&[]);
    let first = child(&world).unwrap();
    kill_process(Pid::from_raw(first.cast_signed()).unwrap(), Signal::KILL).unwrap();
    world.until("another one is there", || child(&world).is_some_and(|child| child != first));
    assert_eq!(world.words(WEB, "db", RecordType::A), ["10.83.128.1"]);
    assert_eq!(control::hello(&world.socket()).unwrap().port, world.hello.port);
}

#[test]
fn a_successor_knows_all_and_answers_at_the_same_port() {
    let mut world = World::new(&["api.example.org"]);
    world.name("api.example.org", vec![a("198.41.0.4")]);
    assert_eq!(world.words(WEB, "api.example.org", RecordType::A), ["198.41.0.4"]);
    assert_eq!(world.words(ALONE, "secret.example", RecordType::A), ["NXDomain"]);
    world.until("what was refused is known", || !control::state(&world.socket()).unwrap().refused.is_empty());
    let mut watch = control::watch(&world.socket()).unwrap();
    let open = control::openings(&world.socket()).unwrap();
    let first = child(&world);
    // Somebody asks all the while, and is answered each time but for those few that the first one took with it.
    let (answered, lost) = std::thread::scope(|scope| {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let (begun, is_begun) = std::sync::mpsc::channel();
        let asking = scope.spawn({
            let socket = world.udp(WEB);
            socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            move || {
                let (mut answered, mut lost) = (0_u32, 0_u32);
                while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                    socket.send(&question("db", RecordType::A).to_vec().unwrap()).unwrap();
                    let is_answered = socket.recv(&mut [0; 512]).is_ok();
                    (answered, lost) = if is_answered { (answered + 1, lost) } else { (answered, lost + 1) };
                    // Nobody listens any more after the first.
                    let _ = begun.send(());
                }
                (answered, lost)
            }
        });
        is_begun.recv().unwrap();
        let hello = world.start(start_process);
        assert_eq!(hello.port, world.hello.port);
        assert_ne!(hello.child, first);
        drop(stop);
        asking.join().unwrap()
    });
    assert!(answered > 0 && lost <= 2, "{answered} {lost}");
    world.join_first();
    // Which is seen by whoever watches.
    watch.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(world.words(WEB, "db", RecordType::A), ["10.83.128.1"]);
    let still: Vec<_> = control::openings(&world.socket()).unwrap().iter().map(|one| one.address).collect();
    assert_eq!(still, open.iter().map(|one| one.address).collect::<Vec<_>>());
    world.until("what was refused is told", || {
        let told = control::refused(&world.socket()).unwrap();
        told.iter().any(|one| one.name == "secret.example" && one.reason == Reason::NotDeclared)
    });
}

#[test]
fn whoever_watches_is_told_that_something_was_refused() {
    let world = World::new(&[]);
    let mut watch = control::watch(&world.socket()).unwrap();
    watch.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(world.words(ALONE, "secret.example", RecordType::A), ["NXDomain"]);
    watch.read_exact(&mut [0; 1]).unwrap();
}

#[test]
fn rights_end_with_the_policy() {
    let world = World::new(&["api.example.org"]);
    world.name("api.example.org", vec![a("198.41.0.4")]);
    assert_eq!(world.words(WEB, "api.example.org", RecordType::A), ["198.41.0.4"]);
    assert_eq!(control::openings(&world.socket()).unwrap().len(), 1);
    world.set_policy(&["other.example.org"]);
    world.until("the name is not known any more", || {
        world.words(WEB, "api.example.org", RecordType::A) == ["NXDomain"]
    });
    assert!(control::openings(&world.socket()).unwrap().is_empty());
}

/// What `make bench` wants to know, with a bound that a busy machine keeps, too.
#[test]
fn answers_come_fast() {
    let world = World::new(&[]);
    let server = format!("169.254.83.1:{}", world.hello.port).parse().unwrap();
    let from = format!("{WEB}:0").parse().unwrap();
    let took = world.namespace.run(|| lith_dns::probe::measure(from, server, "db", (1_000, 3_000)).unwrap());
    println!("50 %: {:?}, 99 %: {:?}, lost {}", took.within(500), took.within(990), took.lost);
    assert_eq!(took.lost, 0);
    assert!(took.within(990).unwrap() < Duration::from_millis(100), "{:?}", took.within(990));
}
