//! Tests of what is remembered, told, and would be allowed.

use proptest::prelude::*;

use super::allow::{Allow, View, allow, bare};
use super::*;
use crate::egress;
use crate::job::access::{ConnectPorts, Egress};
use crate::value;

fn id(text: &str) -> TaskId {
    text.parse().unwrap()
}

fn flow(text: &str) -> Attempt {
    let (address, transport) = match text.strip_suffix("/udp") {
        Some(address) => (address, Transport::Udp),
        None => (text, Transport::Tcp),
    };
    let socket: SocketAddr = address.parse().unwrap();
    Attempt::Flow { address: socket.ip(), port: Some(socket.port()), protocol: Protocol::Ported(transport) }
}

fn seconds(seconds: u64) -> Time {
    Time(seconds * 1000)
}

#[test]
fn what_is_tried_again_is_counted_and_told_once() {
    let (mut blocked, task) = (Blocked::default(), id("shop.main.0.web"));
    let first = blocked.note(&task, flow("1.1.1.1:443"), 1, seconds(1));
    assert_eq!(first, Some(Notice::First { task: task.clone(), attempt: flow("1.1.1.1:443") }));
    assert_eq!(blocked.note(&task, flow("1.1.1.1:443"), 4, seconds(5)), None);
    let shop = "shop".parse().unwrap();
    let found = blocked.of_job(&shop, Time(0));
    assert_eq!(found.len(), 1);
    assert_eq!(*found[0].2, Record { first: seconds(1), last: seconds(5), count: 5 });
    assert_eq!(blocked.of_job(&shop, seconds(6)), []);
    assert_eq!(blocked.of_job(&"other".parse().unwrap(), Time(0)), []);
    assert_eq!(blocked.end_windows(seconds(600)), []);
    assert_eq!(blocked.end_windows(seconds(601)), [Notice::More { task: task.clone(), attempts: 4 }]);
    assert_eq!(blocked.end_windows(seconds(602)), [], "nothing new");
    // The record is there, so that it is not told as the first again.
    assert_eq!(blocked.note(&task, flow("1.1.1.1:443"), 1, seconds(700)), None);
    let day = 24 * 3600;
    assert_eq!(blocked.end_windows(seconds(1300)), [Notice::More { task: task.clone(), attempts: 1 }]);
    assert_eq!(blocked.end_windows(seconds(700 + day)), []);
    assert_eq!(blocked.of_job(&shop, Time(0)), []);
    assert!(blocked.note(&task, flow("1.1.1.1:443"), 1, seconds(701 + day)).is_some());
    blocked.keep(&BTreeSet::new());
    assert_eq!(blocked.of_job(&shop, Time(0)), []);
}

#[test]
fn a_scan_is_told_in_a_few_lines_and_bounded() {
    let (mut blocked, task) = (Blocked::default(), id("shop.main.0.web"));
    let address = |number: usize| flow(&format!("10.0.{}.{}:22", number / 256, number % 256));
    let told = (0..1000).filter_map(|number| blocked.note(&task, address(number), 1, seconds(1))).count();
    assert_eq!(told, FIRST_MAX as usize);
    let shop = "shop".parse().unwrap();
    assert_eq!(blocked.of_job(&shop, Time(0)).len(), TASK_RECORDS_MAX);
    assert_eq!(blocked.omitted(&shop), 800);
    assert_eq!(blocked.end_windows(seconds(700)), [Notice::More { task: task.clone(), attempts: 995 }]);
    // What is new makes room for itself when the rest is some time ago.
    assert!(blocked.note(&task, flow("1.1.1.1:443"), 1, seconds(701)).is_some());
    assert_eq!(blocked.of_job(&shop, Time(0)).len(), TASK_RECORDS_MAX);
    let other = id("shop.main.1.web");
    for number in 0..2 * NODE_RECORDS_MAX {
        let task = id(&format!("j{}.main.0.web", number / TASK_RECORDS_MAX));
        blocked.note(&task, address(number), 1, seconds(701));
    }
    assert_eq!(blocked.records, NODE_RECORDS_MAX);
    assert_eq!(blocked.note(&other, address(1), 1, seconds(701)), None);
    assert_eq!(blocked.tasks.values().map(|tried| tried.records.len()).sum::<usize>(), NODE_RECORDS_MAX);
}

fn view() -> View {
    let port = |text| value::port::port(text).unwrap();
    let key = |text: &str| {
        let (job, task) = text.split_once('/').unwrap();
        (job.parse().unwrap(), task.parse().unwrap())
    };
    let tasks = [
        ("shop/web", vec![]),
        ("shop/db", vec![port("5432")]),
        ("pg/db", vec![port("5432")]),
        ("cache/redis", vec![port("6379")]),
        ("a/api", vec![]),
        ("b/api", vec![]),
    ];
    let addresses = [
        ("10.83.0.1", "shop/web"),
        ("10.83.0.2", "shop/db"),
        ("10.83.0.3", "pg/db"),
        ("10.83.128.3", "pg/db"),
        ("fd6c:690a:5301:1::3", "pg/db"),
    ];
    View {
        tasks: tasks.into_iter().map(|(name, ports)| (key(name), ports)).collect(),
        addresses: addresses.map(|(address, name)| (address.parse().unwrap(), key(name))).into(),
        ranges: vec![("10.83.0.0".parse().unwrap(), 16), ("fd6c:690a:5301::".parse().unwrap(), 48)],
        own: ["192.168.1.2", "169.254.83.1"].map(|address| address.parse().unwrap()).into(),
        published: vec![
            value::port::publish("8080:80").unwrap(),
            value::port::publish("127.0.0.1:22:22").unwrap(),
        ],
    }
}

#[test]
fn the_line_that_would_allow_it() {
    let mut names = Names::default();
    names.note("API.github.com.", "140.82.112.5".parse().unwrap(), seconds(1));
    names.note("nas.example.org", "192.168.1.20".parse().unwrap(), seconds(1));
    let check = |attempt: Attempt, expected: &str| {
        let allowed = allow(&id("shop.main.0.web"), &attempt, &view(), &names, seconds(2));
        assert_eq!(allowed.to_string(), expected, "{attempt}");
    };
    check(flow("10.83.0.2:5432"), "connects: [ db:5432 ]");
    check(flow("10.83.0.2:80/udp"), "connects: [ db:80/udp ], and ports: [ 80/udp ] of \"db\"");
    check(flow("10.83.0.3:5432"), "connects: [ pg/db:5432 ]");
    check(flow("10.83.128.3:1"), "connects: [ pg/db:1 ]");
    check(flow("[fd6c:690a:5301:1::3]:5432"), "connects: [ pg/db:5432 ]");
    check(flow("10.83.0.9:5432"), "nothing: no task has this address");
    check(flow("[fd6c:690a:5301::9]:1"), "nothing: no task has this address");
    check(flow("1.1.1.1:443"), "egress: [ \"1.1.1.1:443\" ]");
    check(flow("1.1.1.1:123/udp"), "egress: [ \"1.1.1.1:123/udp\" ]");
    check(flow("[2606:4700::1111]:443"), "egress: [ \"[2606:4700::1111]:443\" ]");
    check(flow("140.82.112.5:22"), "egress: [ api.github.com:22 ]");
    check(flow("192.168.1.20:631"), "egress: [ \"192.168.1.20:631\" ]");
    check(flow("192.168.1.2:8080"), "egress: [ \"192.168.1.2:8080\" ]");
    let own = "nothing: the node's own ports are closed to tasks, but those that tasks publish";
    check(flow("192.168.1.2:8080/udp"), own);
    check(flow("192.168.1.2:22"), own);
    check(flow("169.254.83.1:53"), own);
    check(flow("169.254.169.254:80"), "nothing: metadata of a cloud's machine is closed to every task");
    check(flow("239.1.2.3:80/udp"), "nothing: multicast does not leave a task");
    check(flow("[ff02::fb]:5353/udp"), "nothing: multicast does not leave a task");
    check(flow("255.255.255.255:67/udp"), "nothing: broadcasts do not leave a task");
    let ping = |address: &str| Attempt::Flow {
        address: address.parse().unwrap(),
        port: None,
        protocol: Protocol::of_number(1),
    };
    check(ping("10.83.0.3"), "nothing: tasks reach each other by TCP and UDP alone");
    check(
        ping("1.1.1.1"),
        "nothing: outside, TCP and UDP are passed alone, and ping where `egress` has the address without a port",
    );
}

#[test]
fn the_line_that_would_allow_a_name() {
    let check = |name: &str, refusal, expected: &str| {
        let attempt = Attempt::name(name, refusal);
        let allowed = allow(&id("shop.main.0.web"), &attempt, &view(), &Names::default(), Time(0));
        assert_eq!(allowed.to_string(), expected, "{attempt}");
    };
    let (declared, public) = (NameRefusal::NotDeclared, NameRefusal::NotPublic);
    check("db", public, "connects: [ db ]");
    check("web", declared, "`ports` of that task, and `connects` with it");
    check("DB.", declared, "connects: [ db ]");
    check("db.pg", declared, "connects: [ pg/db ]");
    check("db.pg.shop.lith.internal", declared, "connects: [ pg/db ]");
    check("redis", declared, "connects: [ cache/redis ]");
    check("cache", declared, "connects: [ cache/redis ]");
    check("api", public, "nothing: no task has this name");
    check("nobody", public, "nothing: no task has this name");
    check("x.other.lith.internal", declared, "nothing: no task has this name");
    check("lith.internal", declared, "nothing: no task has this name");
    check("api.github.com", declared, "egress: [ api.github.com:443 ]");
    check("api.github.com.shop.lith.internal", declared, "egress: [ api.github.com:443 ]");
    check("nas.home.arpa", public, "egress: [ nas.home.arpa:443 ]");
    check("a b.example", declared, "nothing: no host has such a name");
    check("1.1.1.1.in-addr.arpa", public, "nothing: whose address it is is told of what the task may reach");
    check("a.example", NameRefusal::Kind, "nothing: questions for everything at once are not answered");
    check(
        "nas.example.org",
        NameRefusal::PrivateAddress,
        "egress with the private address that it leads to, and its port",
    );
    check("db.pg.lith.internal", declared, "connects: [ pg/db ]");
    for (name, expected) in [("a.b.shop.lith.internal", "a.b"), ("a.pg.lith.internal", "a.pg.lith.internal")]
    {
        assert_eq!(bare(&id("shop.main.0.web"), name), expected);
    }
}

#[test]
fn names_are_bounded_and_clean() {
    let long = "é".repeat(300);
    let Attempt::Name { name, .. } = Attempt::name(&format!("{long}\u{1b}\n"), NameRefusal::NotDeclared)
    else {
        panic!("a name")
    };
    assert_eq!(name.len(), 252);
    let mut names = Names::default();
    let address = |number: u32| IpAddr::from(number.to_be_bytes());
    for number in 0..30_000 {
        names.note("a.example", address(number), seconds(1));
    }
    assert_eq!(names.of.len(), NAMED_ADDRESSES_MAX);
    names.note("b.example", address(30_000), seconds(700));
    assert_eq!(names.of(address(30_000), seconds(700)), Some("b.example"));
    assert_eq!(names.of.len(), 1);
}

proptest! {
    /// Whatever is tried, the line opens that and nothing else.
    #[test]
    fn no_more_is_opened_than_was_tried(
        bytes in proptest::array::uniform4(any::<u8>()), inside in 0u8..4, number in 1u16.., is_udp: bool,
    ) {
        let address = if inside == 0 { [10, 83, bytes[2] % 2, bytes[3] % 4] } else { bytes };
        let transport = if is_udp { Transport::Udp } else { Transport::Tcp };
        let address = IpAddr::from(address);
        let attempt = Attempt::Flow { address, port: Some(number), protocol: Protocol::Ported(transport) };
        let view = view();
        match allow(&id("shop.main.0.web"), &attempt, &view, &Names::default(), Time(0)) {
            Allow::Connect { connect, .. } => {
                let ConnectPorts::One(port) = connect.ports else { panic!("{connect}") };
                prop_assert!(port.holds(number, transport) && port.number == port.last);
                let job = connect.job.clone().unwrap_or("shop".parse().unwrap());
                prop_assert_eq!(&view.addresses[&address], &(job, connect.task.clone()));
                prop_assert_eq!(value::access::connect(&connect.to_string()), Ok(connect));
            }
            Allow::Egress(entry) => {
                let Egress::Network { prefix: 32, port: Some(port), .. } = entry else { panic!("{entry}") };
                prop_assert!(port.number == port.last);
                prop_assert!(egress::is_written_out(std::slice::from_ref(&entry), address, (number, transport)));
                prop_assert_eq!(value::access::egress(&entry.to_string()), Ok(entry));
            }
            Allow::Never(_) | Allow::ByHand(_) => {}
        }
    }
}
