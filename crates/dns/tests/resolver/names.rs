//! Who may learn what, and what that opens.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use lith_core::resolve::GRACE;
use lith_dns::control;
use lith_dns::form::Reason;

use crate::world::{ALONE, WEB, WEB_6, World, a, cname, question, read_message, txt, words, write_message};

const NXDOMAIN: &str = "NXDomain";

#[test]
fn each_guest_learns_what_it_connects_to_and_nobody_else_is_asked() {
    let world = World::new(&[]);
    let check =
        |from, name, kind, expected: &[&str]| assert_eq!(world.words(from, name, kind), expected, "{name}");
    for from in [WEB, WEB_6] {
        check(from, "db", RecordType::A, &["10.83.128.1"]);
        check(from, "DB.shop.lith.internal", RecordType::AAAA, &["fd6c:690a:5301:1::1"]);
        check(from, "db", RecordType::TXT, &[]);
        check(from, "1.128.83.10.in-addr.arpa", RecordType::PTR, &["db.shop.lith.internal."]);
        check(from, "web", RecordType::A, &[WEB]);
    }
    check(ALONE, "db", RecordType::A, &[NXDOMAIN]);
    check(ALONE, "1.128.83.10.in-addr.arpa", RecordType::PTR, &[NXDOMAIN]);
    check(ALONE, "web", RecordType::A, &[NXDOMAIN]);
    check(ALONE, "localhost", RecordType::A, &["127.0.0.1"]);
    check(WEB, "c2VjcmV0.tunnel.example", RecordType::TXT, &[NXDOMAIN]);
    check(WEB, "db", RecordType::ANY, &["Refused"]);
    assert_eq!(world.asked(), [] as [String; 0]);
    world.until("what was refused is told", || {
        control::refused(&world.socket()).unwrap().iter().any(|one| {
            one.slot == 7
                && one.name == "c2VjcmV0.tunnel.example".to_lowercase()
                && one.reason == Reason::NotDeclared
        })
    });
}

#[test]
fn a_stranger_is_not_answered() {
    let world = World::new(&[]);
    assert!(world.ask_within("10.83.0.9", "localhost", RecordType::A, Duration::from_millis(300)).is_none());
    let mut stream = world.tcp("10.83.0.9");
    write_message(&mut stream, &question("localhost", RecordType::A));
    assert!(read_message(&mut stream).is_err());
}

#[test]
fn a_name_of_the_egress_opens_what_it_leads_to_before_it_is_answered() {
    let world = World::new(&["api.example.org:443", "*.ntfy.sh"]);
    world.name("api.example.org", vec![cname("edge.example.net")]);
    world.name("edge.example.net", vec![a("198.41.0.4"), a("2606:4700::1")]);
    world.name("a.ntfy.sh", vec![a("199.9.14.201")]);
    let check = |name, kind, expected: &[&str], opened: &[(&str, Option<u16>)]| {
        assert_eq!(world.words(WEB, name, kind), expected, "{name}");
        let now = std::mem::take(&mut *world.opened.lock().unwrap());
        let now: Vec<(String, Option<u16>)> =
            now.iter().map(|one| (one.address.to_string(), one.port.map(|port| port.number))).collect();
        let opened: Vec<(String, Option<u16>)> =
            opened.iter().map(|(address, port)| ((*address).to_owned(), *port)).collect();
        assert_eq!(now, opened, "{name} {kind}");
    };
    let chain = ["edge.example.net.", "198.41.0.4"];
    check("api.example.org", RecordType::A, &chain, &[("198.41.0.4", Some(443))]);
    // What is open is not opened again.
    check("API.example.org", RecordType::A, &chain, &[]);
    let chain = ["edge.example.net.", "2606:4700::1"];
    check("api.example.org", RecordType::AAAA, &chain, &[("2606:4700::1", Some(443))]);
    check("a.ntfy.sh", RecordType::A, &["199.9.14.201"], &[("199.9.14.201", None)]);
    // Where the alias leads is none of its names.
    check("edge.example.net", RecordType::A, &[NXDOMAIN], &[]);
    check("x.api.example.org", RecordType::A, &[NXDOMAIN], &[]);
    let open = control::openings(&world.socket()).unwrap();
    assert_eq!(open.len(), 3);
    assert!(open.iter().all(|one| {
        let lifetime = Duration::from_millis(one.lifetime_ms);
        one.slot == 7 && lifetime <= GRACE + Duration::from_secs(60) && lifetime > GRACE
    }));
    assert_eq!(world.words(ALONE, "api.example.org", RecordType::A), [NXDOMAIN]);
    let asked = world.asked();
    assert!(asked.iter().all(|one| !one.starts_with("x.") && !one.starts_with("edge.")), "{asked:?}");
}

#[test]
fn what_one_name_has_opened_for_long_another_does_not_close() {
    let world = World::new(&["long.example.org:443", "short.example.org:443"]);
    world.name("long.example.org", vec![a("198.41.0.4")]);
    world.zone.ttl_s.store(3_000, Ordering::SeqCst);
    assert_eq!(world.words(WEB, "long.example.org", RecordType::A), ["198.41.0.4"]);
    world.zone.ttl_s.store(5, Ordering::SeqCst);
    // With one that is new, so that something has to be done.
    world.name("short.example.org", vec![a("198.41.0.4"), a("198.41.0.5")]);
    assert_eq!(world.words(WEB, "short.example.org", RecordType::A), ["198.41.0.4", "198.41.0.5"]);
    let opened = world.opened.lock().unwrap().clone();
    let left: Vec<bool> = opened.iter().map(|one| one.lifetime > Duration::from_secs(3_000)).collect();
    assert_eq!(left, [true, true, false], "{opened:?}");
}

#[test]
fn private_addresses_need_to_be_written_out() {
    let world = World::new(&["internet", "nas.home.arpa"]);
    world.name("rebind.example", vec![a("192.168.1.1"), a("198.41.0.4"), a("10.83.0.8")]);
    world.name("private.example", vec![a("169.254.169.254")]);
    world.name("nas.home.arpa", vec![a("192.168.1.20")]);
    world.name("4.0.41.198.in-addr.arpa", vec![cname("x.example")]);
    assert_eq!(world.words(WEB, "rebind.example", RecordType::A), ["198.41.0.4"]);
    assert_eq!(world.words(WEB, "private.example", RecordType::A), [] as [String; 0]);
    assert_eq!(world.words(WEB, "nas.home.arpa", RecordType::A), [] as [String; 0]);
    assert_eq!(world.words(WEB, "tv.home.arpa", RecordType::A), [NXDOMAIN]);
    assert_eq!(world.words(WEB, "1.1.168.192.in-addr.arpa", RecordType::PTR), [NXDOMAIN]);
    assert_eq!(world.words(WEB, "4.0.41.198.in-addr.arpa", RecordType::PTR), ["x.example."]);
    assert!(world.opened.lock().unwrap().is_empty());
    world.set_policy(&["internet", "nas.home.arpa", "192.168.1.20:631"]);
    assert_eq!(world.words(WEB, "nas.home.arpa", RecordType::A), ["192.168.1.20"]);
    assert!(world.opened.lock().unwrap().is_empty(), "it is open as it is");
    let asked = world.asked();
    assert!(!asked.iter().any(|one| one.starts_with("tv.") || one.contains("168.192")), "{asked:?}");
}

#[test]
fn an_address_that_cannot_be_opened_is_not_told() {
    let world = World::new(&["api.example.org"]);
    world.name("api.example.org", vec![a("198.41.0.4")]);
    world.cannot_open.store(true, Ordering::SeqCst);
    assert_eq!(world.words(WEB, "api.example.org", RecordType::A), ["ServFail"]);
    world.cannot_open.store(false, Ordering::SeqCst);
    assert_eq!(world.words(WEB, "api.example.org", RecordType::A), ["198.41.0.4"]);
}

#[test]
fn long_answers_and_many_questions_on_one_connection() {
    let world = World::new(&["internet"]);
    let text = "x".repeat(200);
    world.name("long.example", (0..40).map(|number| txt(&format!("{number}{text}"))).collect());
    let cut = world.ask(WEB, "long.example", RecordType::TXT);
    assert!(cut.metadata.truncation && cut.answers.is_empty());
    let mut stream = world.tcp(WEB);
    for name in ["long.example", "db", "localhost"] {
        write_message(&mut stream, &question(name, RecordType::TXT));
    }
    let mut lengths: Vec<usize> = (0..3).map(|_| read_message(&mut stream).unwrap().answers.len()).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, [0, 0, 40]);
}

#[test]
fn without_an_answer_from_outside_there_is_one_in_time() {
    let world = World::new(&["internet"]);
    world.zone.is_silent.store(true, Ordering::SeqCst);
    let start = Instant::now();
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| world.ask(WEB, "slow.example", RecordType::A));
        world.until("it is asked", || !world.zone.asked.lock().unwrap().is_empty());
        assert_eq!(world.words(WEB, "db", RecordType::A), ["10.83.128.1"]);
        waiting.join().unwrap()
    });
    assert_eq!(waiting.metadata.response_code, ResponseCode::ServFail);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn the_nodes_list_of_resolvers_may_change() {
    let world = World::new(&["internet"]);
    world.name("www.example", vec![a("198.41.0.4")]);
    std::fs::write(world.path("resolv.conf"), "# nobody\n").unwrap();
    world.until("nobody is asked any more", || {
        words(&world.ask(WEB, "www.example", RecordType::A)) == ["ServFail"]
    });
    std::fs::write(world.path("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
    world.until("somebody is asked again", || {
        words(&world.ask(WEB, "www.example", RecordType::A)) == ["198.41.0.4"]
    });
}
