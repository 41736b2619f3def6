//! What a guest gets for what it sends: tables, and messages that are nearly right. Nobody is asked outside here: whatever
//! would be is seen to be.

use hickory_proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::rdata::svcb::{IpHint, SVCB, SvcParamKey, SvcParamValue};
use hickory_proto::rr::rdata::{A, CNAME, HTTPS, TXT};
use hickory_proto::rr::{Name, Record, RecordType};
use proptest::prelude::*;

use super::*;
use crate::form::{Guest as Form, Reason};

const GUEST: &str = "10.83.0.7";

fn form(slot: u16, egress: &[&str]) -> Form {
    Form {
        slot,
        task: format!("web.{slot}"),
        job: "web".to_owned(),
        own: vec!["front".to_owned()],
        addresses: vec![IpAddr::from([10, 83, 0, u8::try_from(slot).unwrap()])],
        names: [(
            "db".to_owned(),
            vec!["10.83.128.1".parse().unwrap(), "fd6c:690a:5301:1::1".parse().unwrap()],
        )]
        .into(),
        egress: egress.iter().map(|text| (*text).to_owned()).collect(),
    }
}

fn answering(egress: &[&str]) -> (Answering, Arc<Guest>) {
    let answering = Answering::new(Link::new().0);
    let policy = Policy { node: vec![], guests: vec![form(7, egress), form(8, &[])] };
    answering.set_policy(&policy).unwrap();
    let guest = answering.guest(GUEST.parse().unwrap()).unwrap();
    (answering, guest)
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(format!("{name}.")).unwrap(), kind));
    message
}

fn bytes(message: &Message) -> Vec<u8> {
    message.to_vec().unwrap()
}

fn reply(begun: Begun) -> Message {
    match begun {
        Begun::Reply(bytes) => Message::from_vec(&bytes).unwrap(),
        Begun::Ask(_) | Begun::Nothing => panic!("{begun:?}"),
    }
}

#[test]
fn answers_of_ones_own() {
    let (answering, guest) = answering(&[]);
    let check = |name: &str, kind, code, answers: &[&str]| {
        let asked = question(name, kind);
        let answer = reply(answering.begin(&guest, &bytes(&asked), Transport::Udp));
        assert_eq!(answer.metadata.id, asked.metadata.id);
        assert_eq!(answer.metadata.message_type, MessageType::Response);
        assert_eq!(answer.queries, asked.queries, "{name}");
        assert!(answer.metadata.recursion_available && answer.metadata.recursion_desired);
        assert_eq!(answer.metadata.response_code, code, "{name} {kind}");
        let found: Vec<String> = answer.answers.iter().map(|record| record.data.to_string()).collect();
        assert_eq!(found, answers, "{name} {kind}");
    };
    check("db", RecordType::A, ResponseCode::NoError, &["10.83.128.1"]);
    check("Db.Web.lith.internal", RecordType::AAAA, ResponseCode::NoError, &["fd6c:690a:5301:1::1"]);
    check("db", RecordType::MX, ResponseCode::NoError, &[]);
    check("front", RecordType::A, ResponseCode::NoError, &["10.83.0.7"]);
    check("1.128.83.10.in-addr.arpa", RecordType::PTR, ResponseCode::NoError, &["db.web.lith.internal."]);
    check("8.0.83.10.in-addr.arpa", RecordType::PTR, ResponseCode::NXDomain, &[]);
    check("example.org", RecordType::A, ResponseCode::NXDomain, &[]);
    check("db", RecordType::ANY, ResponseCode::Refused, &[]);
    check("example.org", RecordType::AXFR, ResponseCode::Refused, &[]);
    let told: Vec<(String, Reason)> =
        answering.drain_refused().into_iter().map(|one| (one.name, one.reason)).collect();
    assert_eq!(
        told,
        [
            ("8.0.83.10.in-addr.arpa".to_owned(), Reason::NotDeclared),
            ("db".to_owned(), Reason::Kind),
            ("example.org".to_owned(), Reason::NotDeclared),
            ("example.org".to_owned(), Reason::Kind),
        ]
    );
}

#[test]
fn what_is_declared_is_not_told_as_refused_in_the_search_domain() {
    let (answering, guest) = answering(&["api.example.org:443"]);
    for name in ["api.example.org.web.lith.internal", "example.org.web.lith.internal"] {
        let asked = question(name, RecordType::A);
        let answer = reply(answering.begin(&guest, &bytes(&asked), Transport::Udp));
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain, "{name}");
    }
    let told: Vec<String> = answering.drain_refused().into_iter().map(|one| one.name).collect();
    assert_eq!(told, ["example.org"]);
}

#[test]
fn what_is_no_question_gets_no_answer_or_a_short_one() {
    let (answering, guest) = answering(&["internet"]);
    let send = |bytes: &[u8]| answering.begin(&guest, bytes, Transport::Udp);
    let mut answer = question("db", RecordType::A);
    answer.metadata.message_type = MessageType::Response;
    for silent in [&[][..], &[0; 11], &bytes(&answer), &[0; 5000]] {
        assert!(matches!(send(silent), Begun::Nothing), "{silent:?}");
    }
    let check = |bytes: &[u8], code| assert_eq!(reply(send(bytes)).metadata.response_code, code);
    // Many questions, for which there must be no room made.
    check(&[0, 1, 1, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0], ResponseCode::FormErr);
    check(&[0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1], ResponseCode::FormErr);
    check(&[0, 1, 0x28, 0, 0, 1, 0, 0, 0, 0, 0, 0], ResponseCode::NotImp);
    let mut chaos = question("version.bind", RecordType::TXT);
    chaos.queries[0].query_class = hickory_proto::rr::DNSClass::CH;
    check(&bytes(&chaos), ResponseCode::Refused);
    let mut newer = question("db", RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(1);
    newer.set_edns(edns);
    // Which shares its number with another one.
    check(&bytes(&newer), ResponseCode::BADSIG);
    // A name with a dot within a label is not the name that it looks like.
    let mut odd = question("x", RecordType::A);
    odd.queries[0].name = Name::from_labels(["db.example".as_bytes(), b"org"]).unwrap();
    check(&bytes(&odd), ResponseCode::NXDomain);
}

fn record(name: &str, ttl: u32, data: RData) -> Record {
    Record::from_rdata(Name::from_ascii(format!("{name}.")).unwrap(), ttl, data)
}

fn found(records: Vec<Record>) -> Found {
    let (records, is_changed) = message::without_hints(records);
    let is_authentic = !is_changed;
    Found { code: Code::Found, is_authentic, records, negative_s: 0, bytes: 100, at: Instant::now() }
}

/// The question as this crate sees it.
fn parsed(message: &Message) -> Box<Question> {
    match message::parse(&bytes(message)) {
        Parsed::Question(question) => question,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_of_an_answer_passes() {
    let (answering, guest) = answering(&["a.example.org:443"]);
    let asked = parsed(&question("a.example.org", RecordType::A));
    let answer = found(vec![
        record("a.example.org", 1, RData::CNAME(CNAME(Name::from_ascii("cdn.example.").unwrap()))),
        record("cdn.example", 100_000, RData::A(A::new(198, 41, 0, 4))),
        record("cdn.example", 60, RData::A(A::new(192, 168, 1, 1))),
        record("other.example", 60, RData::A(A::new(198, 41, 0, 5))),
    ]);
    let concluded = answering.conclude(&guest, &asked, &answer, Instant::now());
    let passed: Vec<String> =
        concluded.reply.records.iter().map(|record| format!("{} {}", record.ttl, record.data)).collect();
    assert_eq!(passed, ["5 cdn.example.", "3600 198.41.0.4"]);
    assert_eq!(concluded.addresses, [("198.41.0.4".parse().unwrap(), 3_600)]);
    assert_eq!(concluded.missing.len(), 1);
    assert!(!concluded.reply.is_authentic);
    let told = answering.drain_refused();
    assert_eq!((told.len(), told[0].reason, told[0].count), (1, Reason::PrivateAddress, 1));
    assert_eq!(told[0].address, Some("192.168.1.1".parse().unwrap()));
    // Once it is open, the next answer need not wait, unless it is for much longer.
    guest.remember(&concluded.missing, Instant::now());
    assert!(answering.conclude(&guest, &asked, &answer, Instant::now()).missing.is_empty());
    let later = Instant::now() + std::time::Duration::from_secs(1_000);
    assert_eq!(answering.conclude(&guest, &asked, &answer, later).missing.len(), 1);
}

#[test]
fn a_name_that_leads_to_private_addresses_alone_leads_nowhere() {
    let (answering, guest) = answering(&["internet"]);
    let asked = parsed(&question("a.example.org", RecordType::A));
    let answer = found(vec![
        record("a.example.org", 60, RData::CNAME(CNAME(Name::from_ascii("nas.example.").unwrap()))),
        record("nas.example", 60, RData::A(A::new(10, 0, 0, 1))),
    ]);
    let concluded = answering.conclude(&guest, &asked, &answer, Instant::now());
    assert!(concluded.reply.records.is_empty() && concluded.missing.is_empty());
}

#[test]
fn hints_at_addresses_are_taken_out() {
    let (answering, guest) = answering(&["internet"]);
    let asked = parsed(&question("a.example.org", RecordType::HTTPS));
    let hint = (SvcParamKey::Ipv4Hint, SvcParamValue::Ipv4Hint(IpHint(vec![A::new(10, 0, 0, 1)])));
    let port = (SvcParamKey::Port, SvcParamValue::Port(8443));
    let service = SVCB::new(1, Name::root(), vec![port.clone(), hint]);
    let answer = found(vec![record("a.example.org", 60, RData::HTTPS(HTTPS(service)))]);
    let concluded = answering.conclude(&guest, &asked, &answer, Instant::now());
    let RData::HTTPS(HTTPS(service)) = &concluded.reply.records[0].data else { panic!() };
    assert_eq!(service.svc_params, [port]);
    assert!(!concluded.reply.is_authentic);
}

#[test]
fn long_answers_come_over_tcp() {
    let (answering, guest) = answering(&["internet"]);
    let mut message = question("a.example.org", RecordType::TXT);
    let text = "x".repeat(200);
    let records: Vec<Record> = (0..20)
        .map(|number| record("a.example.org", 60, RData::TXT(TXT::new(vec![format!("{number}{text}")]))))
        .collect();
    let check = |message: &Message, transport, bytes_max: usize, is_cut: bool| {
        let asked = parsed(message);
        let concluded = answering.conclude(&guest, &asked, &found(records.clone()), Instant::now());
        let packed = asked.pack(&concluded.reply, transport);
        assert!(packed.len() <= bytes_max, "{}", packed.len());
        let answer = Message::from_vec(&packed).unwrap();
        assert_eq!((answer.metadata.truncation, answer.answers.is_empty()), (is_cut, is_cut));
        assert_eq!(answer.edns.is_some(), message.edns.is_some());
    };
    check(&message, Transport::Udp, 512, true);
    check(&message, Transport::Tcp, 65_535, false);
    let mut edns = Edns::new();
    edns.set_max_payload(65_000);
    message.set_edns(edns);
    check(&message, Transport::Udp, 1_232, true);
}

#[test]
fn a_flood_of_one_is_not_one_of_all() {
    let (answering, guest) = answering(&[]);
    let other = answering.guest("10.83.0.8".parse().unwrap()).unwrap();
    let asked = bytes(&question("db", RecordType::A));
    let answered =
        (0..100_000).filter(|_| matches!(answering.begin(&guest, &asked, Transport::Udp), Begun::Reply(_)));
    assert!(answered.count() < 50_000);
    assert!(matches!(answering.begin(&other, &asked, Transport::Udp), Begun::Reply(_)));
    let told = answering.drain_refused();
    assert_eq!(
        told.iter().map(|one| (one.slot, one.reason)).collect::<Vec<_>>(),
        [(7, Reason::TooManyQuestions)]
    );
}

#[tokio::test]
async fn only_so_much_is_asked_at_a_time() {
    let (answering, guest) = answering(&["internet"]);
    let mut asking = Vec::new();
    for number in 0..GUEST_ASKING_MAX {
        match answering.begin(
            &guest,
            &bytes(&question(&format!("a{number}.example.org"), RecordType::A)),
            Transport::Udp,
        ) {
            Begun::Ask(one) => asking.push(one),
            other => panic!("{other:?}"),
        }
    }
    let more = bytes(&question("more.example.org", RecordType::A));
    let answer = reply(answering.begin(&guest, &more, Transport::Udp));
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    // Without anybody to ask, there is an answer at once.
    let answer = Message::from_vec(&answering.finish(*asking.pop().unwrap()).await).unwrap();
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    assert!(matches!(answering.begin(&guest, &more, Transport::Udp), Begun::Ask(_)));
}

#[test]
fn who_is_new_in_a_slot_has_nothing_of_who_was_there() {
    let (answering, guest) = answering(&["a.example.org"]);
    let opening = Opening {
        slot: guest.policy.slot,
        address: IpAddr::from([11, 0, 0, 1]),
        port: None,
        lifetime: std::time::Duration::from_secs(600),
    };
    guest.remember(&[opening], Instant::now());
    let now = |answering: &Answering| answering.guest(GUEST.parse().unwrap()).unwrap();
    let policy = |guests| Policy { node: vec![], guests };
    answering.set_policy(&policy(vec![form(7, &["a.example.org"])])).unwrap();
    assert!(now(&answering).missing(vec![opening], Instant::now()).is_empty());
    assert!(answering.guest("10.83.0.8".parse().unwrap()).is_none());
    let other = Form { task: "web.new".to_owned(), ..form(7, &["a.example.org"]) };
    answering.set_policy(&policy(vec![other])).unwrap();
    assert_eq!(now(&answering).missing(vec![opening], Instant::now()), [opening]);
    let twice = policy(vec![form(7, &[]), form(7, &[])]);
    assert!(answering.set_policy(&twice).is_err());
    assert!(answering.guest(GUEST.parse().unwrap()).is_some());
}

/// Messages of which some are good.
fn nearly_messages() -> impl Strategy<Value = Vec<u8>> {
    let names =
        proptest::sample::select(vec!["db", "example.org", "a.b.example.org", "7.0.83.10.in-addr.arpa", "x"]);
    let change = (any::<prop::sample::Index>(), any::<u8>());
    (
        names,
        any::<u16>(),
        any::<bool>(),
        proptest::collection::vec(change, 0..8),
        any::<prop::sample::Index>(),
        any::<bool>(),
    )
        .prop_map(|(name, kind, has_edns, changes, end, is_cut)| {
            let mut message = question(name, RecordType::from(kind));
            if has_edns {
                message.set_edns(Edns::new());
            }
            let mut bytes = bytes(&message);
            for (place, value) in changes {
                let place = place.index(bytes.len());
                bytes[place] = value;
            }
            if is_cut {
                bytes.truncate(end.index(bytes.len() + 1));
            }
            bytes
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// No message is too strange: what comes back can be read, answers it, and without egress nothing is asked.
    #[test]
    fn nothing_a_guest_sends_is_too_strange(sent in nearly_messages()) {
        let (answering, guest) = answering(&[]);
        match answering.begin(&guest, &sent, Transport::Udp) {
            Begun::Reply(bytes) => {
                let answer = Message::from_vec(&bytes).unwrap();
                prop_assert_eq!(&bytes[..2], &sent[..2]);
                prop_assert_eq!(answer.metadata.message_type, MessageType::Response);
                prop_assert!(bytes.len() <= 1_232);
            }
            Begun::Nothing => {}
            Begun::Ask(asking) => prop_assert!(false, "{:?}", asking),
        }
    }

    /// Nor is what other resolvers say.
    #[test]
    fn nothing_a_resolver_sends_is_too_strange(sent in nearly_messages(), noise in proptest::collection::vec(any::<u8>(), 0..80)) {
        let asked = question("a.example.org", RecordType::A);
        for bytes in [&sent, &noise, &[sent.as_slice(), &noise].concat()] {
            if let Some(answer) = message::parse_answer(bytes) {
                let _ = message::answers(&asked, &answer);
                let (answering, guest) = answering(&["a.example.org"]);
                answering.conclude(&guest, &parsed(&asked), &found(answer.answers), Instant::now());
            }
        }
    }
}
