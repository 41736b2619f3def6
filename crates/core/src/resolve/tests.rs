//! Tables of questions with what becomes of them, and what holds for every answer, however hostile.

use proptest::prelude::*;

use super::*;
use crate::job::Transport;
use crate::value;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn policy(egress: &[&str]) -> NamePolicy {
    let names = [
        ("db", vec!["10.83.128.1", "fd6c:690a:5301:1::1"]),
        ("cache.shop", vec!["10.83.128.2", "fd6c:690a:5301:1::2"]),
        ("gone", vec![]),
    ];
    NamePolicy {
        slot: Slot::new(7).unwrap(),
        job: "web".parse().unwrap(),
        own: vec!["front".to_owned(), "Host1".to_owned()],
        addresses: vec![address("10.83.0.7"), address("fd6c:690a:5301::7")],
        names: names
            .into_iter()
            .map(|(name, list)| (name.to_owned(), list.into_iter().map(address).collect()))
            .collect(),
        egress: egress.iter().map(|text| value::access::egress(text).unwrap()).collect(),
    }
}

fn local(addresses: &[&str]) -> Decision {
    Decision::Local(Local::Addresses(addresses.iter().map(|text| address(text)).collect()))
}

fn name(text: &str) -> Decision {
    Decision::Local(Local::Name(text.to_owned()))
}

#[test]
fn names_of_the_cluster() {
    let policy = policy(&["internet", "*.lith.internal", "db.example.org"]);
    let check = |question: &str, kind, expected: Decision| {
        assert_eq!(policy.decide(question, kind), expected, "{question} {kind:?}");
    };
    for question in ["db", "DB", "db.web.lith.internal", "dB.WEB.lith.Internal"] {
        check(question, Kind::A, local(&["10.83.128.1"]));
        check(question, Kind::AAAA, local(&["fd6c:690a:5301:1::1"]));
        check(question, Kind(15), local(&[]));
        check(question, Kind(255), Decision::Refuse(Refusal::Kind));
    }
    for question in ["cache.shop", "cache.shop.web.lith.internal", "cache.shop.lith.internal"] {
        check(question, Kind::A, local(&["10.83.128.2"]));
    }
    check("gone", Kind::A, local(&[]));
    check("front", Kind::A, local(&["10.83.0.7"]));
    check("host1.web.lith.internal", Kind::AAAA, local(&["fd6c:690a:5301::7"]));
    check("localhost", Kind::A, local(&["127.0.0.1"]));
    check("x.localhost", Kind::AAAA, local(&["::1"]));
    check("web.lith.internal", Kind::A, Decision::Local(Local::Nothing));
    check("lith.internal", Kind(6), Decision::Local(Local::Nothing));
    check("cache", Kind::A, Decision::Refuse(Refusal::NotPublic));
    check("db.lith.internal", Kind::A, Decision::Refuse(Refusal::NotDeclared));
    check("other.web.lith.internal", Kind::A, Decision::Refuse(Refusal::NotDeclared));
    check("example..org", Kind::A, Decision::Refuse(Refusal::NotPublic));
    check("example.org.", Kind::A, Decision::Refuse(Refusal::NotPublic));
}

#[test]
fn addresses_lead_back_to_names() {
    let check = |egress: &[&str], question: &str, expected: Decision| {
        assert_eq!(policy(egress).decide(question, Kind::PTR), expected, "{question}");
    };
    check(&[], "7.0.83.10.in-addr.arpa", name("front.web.lith.internal"));
    check(&[], "1.128.83.10.IN-ADDR.arpa", name("db.web.lith.internal"));
    let six = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.1.0.3.5.a.0.9.6.c.6.d.f.ip6.arpa";
    check(&[], six, name("db.web.lith.internal"));
    check(&[], "1.0.0.127.in-addr.arpa", name("localhost"));
    // Another guest, or a service that it has no right to.
    let refused = |refusal| Decision::Refuse(refusal);
    check(&["internet"], "8.0.83.10.in-addr.arpa", refused(Refusal::NotPublic));
    check(&[], "8.0.83.10.in-addr.arpa", refused(Refusal::NotDeclared));
    check(&["internet"], "8.8.8.8.in-addr.arpa", Decision::Ask);
    check(&["dns.google"], "8.8.8.8.in-addr.arpa", refused(Refusal::NotDeclared));
    check(&["internet"], "168.192.in-addr.arpa", refused(Refusal::NotPublic));
    check(&["internet"], "08.8.8.8.in-addr.arpa", refused(Refusal::NotPublic));
    check(&["8.8.8.8.in-addr.arpa"], "8.8.8.8.in-addr.arpa", Decision::Ask);
    assert_eq!(policy(&[]).decide("1.128.83.10.in-addr.arpa", Kind::A), Decision::Local(Local::Nothing));
}

#[test]
fn names_outside() {
    let check = |egress: &[&str], question: &str, expected: Decision| {
        assert_eq!(policy(egress).decide(question, Kind::A), expected, "{question}");
    };
    let refused = |refusal| Decision::Refuse(refusal);
    check(&[], "example.org", refused(Refusal::NotDeclared));
    check(&["10.0.0.0/8"], "example.org", refused(Refusal::NotDeclared));
    check(&["api.example.org:443"], "API.example.org", Decision::Ask);
    check(&["api.example.org:443"], "secret.api.example.org", refused(Refusal::NotDeclared));
    check(&["*.ntfy.sh:443"], "a.b.ntfy.sh", Decision::Ask);
    check(&["*.ntfy.sh:443"], "ntfy.sh", refused(Refusal::NotDeclared));
    check(&["internet"], "anything.example", Decision::Ask);
    for question in
        ["nas", "printer.local", "a.home.arpa", "x.internal", "router.lan", "a.b.onion", "", "arpa"]
    {
        check(&["internet"], question, refused(Refusal::NotPublic));
        check(&["api.example.org"], question, refused(Refusal::NotDeclared));
    }
    check(&["nas.home.arpa", "internet"], "nas.home.arpa", Decision::Ask);
    check(&["nas.home.arpa", "internet"], "tv.home.arpa", refused(Refusal::NotPublic));
    check(&["*.home.arpa"], "tv.home.arpa", Decision::Ask);
}

/// Owner, type, seconds, and an address or an alias.
type Row<'a> = (&'a str, Kind, u32, &'a str);

fn records<'a>(rows: &[Row<'a>]) -> Vec<Record<'a>> {
    let record = |&(owner, kind, ttl_s, text): &Row<'a>| {
        let content = match text.parse() {
            Ok(address) => Content::Address(address),
            Err(_) if kind == Kind::CNAME => Content::Alias(text),
            Err(_) => Content::Other,
        };
        Record { owner, kind, ttl_s, content }
    };
    rows.iter().map(record).collect()
}

#[test]
fn a_chain_passes_and_what_is_beside_it_does_not() {
    let rows = [
        ("edge.cdn.example", Kind::A, 1, "198.41.0.4"),
        ("API.example.org", Kind::CNAME, 7_200, "edge.cdn.example"),
        ("bank.example", Kind::A, 60, "199.9.14.201"),
        ("edge.cdn.example", Kind(16), 60, "text"),
        ("edge.cdn.example", Kind::RRSIG, 60, "signature"),
        ("edge.cdn.example", Kind::A, 60, "10.0.0.1"),
    ];
    let policy = policy(&["api.example.org:443"]);
    let admitted = policy.admit(("api.example.org", Kind::A), &records(&rows), &[]);
    assert_eq!(admitted.kept, [(0, TTL_MIN_S), (1, TTL_MAX_S), (4, 60)]);
    assert_eq!(admitted.private, [address("10.0.0.1")]);
    let opening = Opening {
        slot: policy.slot,
        address: address("198.41.0.4"),
        port: Some(Port::one(443, Transport::Tcp)),
        lifetime: Duration::from_secs(TTL_MIN_S.into()) + GRACE,
    };
    assert_eq!(admitted.openings, [opening]);
    // A question for the alias alone does not follow it.
    let admitted = policy.admit(("api.example.org", Kind::CNAME), &records(&rows), &[]);
    assert_eq!(admitted.kept, [(1, TTL_MAX_S)]);
    assert!(admitted.openings.is_empty());
}

#[test]
fn circles_of_aliases_end() {
    let rows = [
        ("a.example.org", Kind::CNAME, 60, "b.example.org"),
        ("b.example.org", Kind::CNAME, 60, "a.example.org"),
    ];
    let admitted = policy(&["internet"]).admit(("a.example.org", Kind::A), &records(&rows), &[]);
    assert_eq!(admitted.kept.len(), 2);
}

#[test]
fn what_a_name_opens() {
    let node = [(address("11.2.3.4"), 32)];
    let check = |egress: &[&str], to: &str, ports: &[Option<u16>]| {
        let openings = policy(egress).openings("a.example.org", address(to), 60, &node);
        let opened: Vec<Option<u16>> =
            openings.iter().map(|opening| opening.port.map(|port| port.number)).collect();
        assert_eq!(opened, ports, "{egress:?} {to}");
    };
    check(&["a.example.org:443"], "11.1.1.1", &[Some(443)]);
    check(&["a.example.org:443", "*.example.org:80", "b.example.org:22"], "11.1.1.1", &[Some(80), Some(443)]);
    check(&["a.example.org:443", "*.example.org"], "11.1.1.1", &[None]);
    check(&["a.example.org:443", "internet"], "11.1.1.1", &[]);
    check(&["a.example.org:443", "11.0.0.0/8"], "11.1.1.1", &[]);
    check(&["a.example.org:443", "11.0.0.0/8:22"], "11.1.1.1", &[Some(443)]);
    check(&["a.example.org"], "11.2.3.4", &[]);
    check(&["a.example.org"], "192.168.1.1", &[]);
    check(&["a.example.org", "192.168.1.0/24:631"], "192.168.1.1", &[]);
    check(&["b.example.org"], "11.1.1.1", &[]);
    assert!(policy(&["192.168.1.0/24:631"]).admits(address("192.168.1.1")));
    assert!(!policy(&["internet"]).admits(address("192.168.1.1")));
}

#[test]
fn an_answer_opens_only_so_many() {
    let texts: Vec<String> = (0..100).map(|number| format!("11.0.0.{number}")).collect();
    let rows: Vec<Row<'_>> = texts.iter().map(|text| ("a.example.org", Kind::A, 60, text.as_str())).collect();
    let policy = policy(&["a.example.org:80", "a.example.org:443"]);
    let admitted = policy.admit(("a.example.org", Kind::A), &records(&rows), &[]);
    assert_eq!(
        (admitted.openings.len(), admitted.kept.len()),
        (ANSWER_OPENINGS_MAX, ANSWER_OPENINGS_MAX / 2)
    );
    assert!(admitted.is_cut);
}

fn any_name() -> impl Strategy<Value = String> {
    let label = prop_oneof![
        "[a-zA-Z0-9_-]{1,6}",
        proptest::sample::select(vec![
            "db", "cache", "shop", "web", "lith", "internal", "example", "org", "local", "arpa", "in-addr",
            "ip6", "1", "10",
        ])
        .prop_map(ToOwned::to_owned),
    ];
    proptest::collection::vec(label, 0..6).prop_map(|labels| labels.join("."))
}

fn any_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
        any::<u128>().prop_map(|bits| IpAddr::V6(bits.into())),
        Just(address("10.0.0.5")),
        Just(address("::ffff:11.1.1.1")),
    ]
}

proptest! {
    /// The whole promise against tunnels: without egress nothing is asked, and with a name nothing else.
    #[test]
    fn what_was_not_declared_is_never_asked(name in any_name(), kind in any::<u16>()) {
        prop_assert_ne!(policy(&["10.0.0.0/8"]).decide(&name, Kind(kind)), Decision::Ask);
        if policy(&["a.example.org"]).decide(&name, Kind(kind)) == Decision::Ask {
            prop_assert!(name.eq_ignore_ascii_case("a.example.org"));
        }
        if policy(&["internet"]).decide(&name, Kind(kind)) == Decision::Ask {
            prop_assert!(is_public_name(&name) || reversed(&name.to_ascii_lowercase()).is_some_and(egress::is_public));
        }
    }

    /// Whatever an answer says, no private address passes, and what is opened is public, of this guest, and told.
    #[test]
    fn no_answer_opens_what_is_not_public(
        rows in proptest::collection::vec((any_name(), any_address(), any::<u32>(), any_name()), 0..40),
        asked in any_name(),
        has_internet in any::<bool>(),
    ) {
        let egress = if has_internet { &["internet", "*.org"][..] } else { &["*.example.org:443", "a.example.org"] };
        let policy = policy(egress);
        let mut records = Vec::new();
        for (owner, address, ttl_s, target) in &rows {
            let kind = kind_of(*address);
            records.push(Record { owner, kind, ttl_s: *ttl_s, content: Content::Address(*address) });
            records.push(Record { owner, kind: Kind::CNAME, ttl_s: *ttl_s, content: Content::Alias(target) });
        }
        let admitted = policy.admit((&asked, Kind::A), &records, &[]);
        for (position, ttl_s) in &admitted.kept {
            prop_assert!((TTL_MIN_S..=TTL_MAX_S).contains(ttl_s));
            if let Content::Address(address) = records[*position].content {
                prop_assert!(egress::is_public(address) && address.is_ipv4());
            }
        }
        for opening in &admitted.openings {
            prop_assert!(!has_internet && egress::is_public(opening.address) && opening.slot == policy.slot);
            prop_assert!(opening.lifetime >= GRACE);
            prop_assert!(admitted.addresses.iter().any(|(address, _)| *address == opening.address));
        }
    }
}
