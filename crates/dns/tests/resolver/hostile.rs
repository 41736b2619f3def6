//! Guests that want more than their part, and a half without rights that is in the hands of one.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;
use lith_dns::control;
use lith_dns::form::{Outcome, Reason, Refused, ToChild, ToParent};
use lith_dns::parent;
use rustix::process::PidfdFlags;

use crate::world::{ALONE, WEB, World, a, guests, question, read_message, write_message};

#[test]
fn a_flood_of_one_guest_leaves_the_other_its_answers() {
    let world = World::new(&[]);
    let server = format!("169.254.83.1:{}", world.hello.port).parse().unwrap();
    let from = |text: &str| -> SocketAddr { format!("{text}:0").parse().unwrap() };
    let (stop, stopped) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let socket = world.udp(WEB);
        scope.spawn(move || {
            let bytes = question("flood.example", RecordType::A).to_vec().unwrap();
            // Ten times what is allowed: a pace that this machine keeps beside other tests.
            let (begin, mut sent) = (Instant::now(), 0);
            while stopped.recv_timeout(Duration::from_millis(5)) == Err(mpsc::RecvTimeoutError::Timeout) {
                while sent < begin.elapsed().as_millis() * 20 {
                    let _ = socket.send(&bytes);
                    sent += 1;
                }
            }
        });
        let took = world
            .namespace
            .run(|| lith_dns::probe::measure(from(ALONE), server, "localhost", (100, 200)).unwrap());
        drop(stop);
        assert!(took.lost <= 10, "{took:?}");
    });
    world.until("the flood is told", || {
        control::refused(&world.socket()).unwrap().iter().any(|one| one.reason == Reason::TooManyQuestions)
    });
}

#[test]
fn connections_of_a_guest_are_counted_and_nonsense_ends_them() {
    let world = World::new(&[]);
    let mut streams: Vec<_> = (0..8).map(|_| world.tcp(WEB)).collect();
    for stream in &mut streams {
        write_message(stream, &question("db", RecordType::A));
        assert_eq!(read_message(stream).unwrap().answers.len(), 1);
    }
    let is_closed =
        |stream: &mut std::net::TcpStream| stream.read(&mut [0; 1]).is_ok_and(|length| length == 0);
    let mut ninth = world.tcp(WEB);
    assert!(is_closed(&mut ninth));
    let mut others = world.tcp(ALONE);
    write_message(&mut others, &question("localhost", RecordType::A));
    assert_eq!(read_message(&mut others).unwrap().answers.len(), 1);
    streams[0].write_all(&[0xff, 0xff, 0, 0]).unwrap();
    assert!(read_message(&mut streams[0]).is_err());
    // Its place is free again, as soon as that is noticed.
    world.until("there is a place", || {
        let mut again = world.tcp(WEB);
        write_message(&mut again, &question("db", RecordType::A));
        read_message(&mut again).is_ok()
    });
}

#[test]
fn only_so_much_is_opened_for_a_guest() {
    let world = World::new(&["*.example.org"]);
    for name in 0..80_u8 {
        let addresses = (0..16_u8).map(|last| a(&format!("198.41.{name}.{last}"))).collect();
        world.name(&format!("n{name}.example.org"), addresses);
    }
    let answers = (0..80).map(|name| world.words(WEB, &format!("n{name}.example.org"), RecordType::A));
    let refused = answers.filter(|answer| *answer == ["ServFail"]).count();
    assert_eq!(refused, 80 - 1_024 / 16);
    assert_eq!(control::openings(&world.socket()).unwrap().len(), 1_024);
}

/// A half without rights that says what the test wants.
struct TakenOver {
    pidfd: OwnedFd,
}

impl parent::Child for TakenOver {
    fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    fn pid(&self) -> u32 {
        0
    }

    fn ending(&mut self) -> String {
        "it goes on".to_owned()
    }
}

fn say(stream: &mut UnixStream, message: &ToParent) {
    let json = serde_json::to_vec(message).unwrap();
    let length = u32::try_from(json.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length[..], &json].concat()).unwrap();
}

fn hear(stream: &mut UnixStream) -> ToChild {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut json = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
    stream.read_exact(&mut json).unwrap();
    serde_json::from_slice(&json).unwrap()
}

#[test]
fn a_half_that_was_taken_over_opens_what_its_guests_could_have_and_no_more() {
    let mut world = World::idle();
    let (sender, receiver) = mpsc::channel();
    world.hello = world.start(move |mut descriptors| {
        let mut channel = UnixStream::from(descriptors.remove(0));
        say(&mut channel, &ToParent::Ready);
        sender.send(channel).unwrap();
        let own = rustix::process::getpid();
        let pidfd =
            rustix::process::pidfd_open(own, PidfdFlags::empty()).map_err(|error| error.to_string())?;
        Ok(TakenOver { pidfd })
    });
    let mut channel = receiver.recv().unwrap();
    channel.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| world.set_policy(&["api.example.org:443"]));
        let number = loop {
            match hear(&mut channel) {
                ToChild::Policy { number, policy } if !policy.guests.is_empty() => break number,
                ToChild::Policy { .. } | ToChild::Upstreams(_) | ToChild::Opened { .. } => {}
            }
        };
        say(&mut channel, &ToParent::Applied(number));
    });
    let mut number = 0;
    let mut check = |channel: &mut UnixStream, slot, task: &str, name: &str, address: &str, expected| {
        number += 1;
        let addresses = vec![(address.parse::<IpAddr>().unwrap(), u32::MAX)];
        let (task, name) = (task.to_owned(), name.to_owned());
        say(channel, &ToParent::Open { number, slot, task, name, addresses });
        let outcome = loop {
            if let ToChild::Opened { number: answered, outcome } = hear(channel) {
                assert_eq!(answered, number);
                break outcome;
            }
        };
        assert_eq!(outcome, expected, "{slot} {address}");
    };
    let web = &guests(&[])[0].task.clone();
    check(&mut channel, 7, web, "api.example.org", "192.168.1.1", Outcome::Refused);
    check(&mut channel, 7, web, "api.example.org", "10.83.0.8", Outcome::Refused);
    check(&mut channel, 7, web, "api.example.org", "169.254.169.254", Outcome::Refused);
    check(&mut channel, 7, web, "a\u{7}.example.org", "198.41.0.4", Outcome::Refused);
    check(&mut channel, 7, web, "api.example.org", "::ffff:10.0.0.1", Outcome::Refused);
    check(&mut channel, 7, web, "other.example.org", "198.41.0.4", Outcome::Refused);
    check(&mut channel, 7, "shop.2.web", "api.example.org", "198.41.0.4", Outcome::Refused);
    check(&mut channel, 8, "shop.1.alone", "api.example.org", "198.41.0.4", Outcome::Refused);
    check(&mut channel, 9, web, "api.example.org", "198.41.0.4", Outcome::Refused);
    check(&mut channel, 0, web, "api.example.org", "198.41.0.4", Outcome::Refused);
    assert!(world.opened.lock().unwrap().is_empty());
    check(&mut channel, 7, web, "api.example.org", "198.41.0.4", Outcome::Opened);
    let opened = world.opened.lock().unwrap().clone();
    assert_eq!(opened.len(), 1);
    assert_eq!(opened[0].port.map(|port| port.number), Some(443));
    assert!(opened[0].lifetime <= Duration::from_secs(3_900), "{:?}", opened[0].lifetime);
    // What it says of others, or what cannot be shown, is not told.
    let refused = |slot, task: &str, name: &str| Refused {
        slot,
        task: task.to_owned(),
        name: name.to_owned(),
        reason: Reason::NotDeclared,
        address: None,
        count: 1,
    };
    let names = vec![refused(7, web, "a\u{1b}[0m"), refused(7, "other", "b"), refused(7, web, "c.example")];
    say(&mut channel, &ToParent::Refused(names));
    check(&mut channel, 7, web, "api.example.org", "192.168.1.1", Outcome::Refused);
    let told = control::refused(&world.socket()).unwrap();
    assert_eq!(told, [refused(7, web, "c.example")]);
}

#[test]
fn nonsense_from_the_other_half_ends_it() {
    let mut world = World::idle();
    let (sender, receiver) = mpsc::channel();
    world.hello = world.start(move |mut descriptors| {
        let mut channel = UnixStream::from(descriptors.remove(0));
        say(&mut channel, &ToParent::Ready);
        sender.send(channel).unwrap();
        let own = rustix::process::getpid();
        let pidfd =
            rustix::process::pidfd_open(own, PidfdFlags::empty()).map_err(|error| error.to_string())?;
        Ok(TakenOver { pidfd })
    });
    let mut first = receiver.recv().unwrap();
    first.write_all(&[0xff; 64]).unwrap();
    // Another one is started in its place, and told everything.
    let mut second = receiver.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(matches!(hear(&mut second), ToChild::Upstreams(_)));
    assert!(matches!(hear(&mut second), ToChild::Policy { .. }));
}
