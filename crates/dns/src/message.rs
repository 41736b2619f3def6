//! Messages of DNS (RFC 1035, RFC 6891): a guest's question read, an answer written. Owns everything that knows how they
//! are packed, but for the library that does it. Pure; what it reads is hostile.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::svcb::{SVCB, SvcParamKey, SvcParamValue};
use hickory_proto::rr::rdata::{A, AAAA, HTTPS, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use lith_core::resolve::{Content, Kind, LOCAL_TTL_S, Local, Record as Seen};

use std::net::IpAddr;

/// Largest message over UDP: what passes everywhere without being split (DNS flag day 2020).
pub(crate) const UDP_BYTES_MAX: u16 = 1232;
/// Largest message over UDP to one who says nothing of it.
const UDP_BYTES_PLAIN: u16 = 512;
/// Largest message over TCP.
pub(crate) const TCP_BYTES_MAX: usize = 65_535;
/// Largest question: a name, and options such as cookies and padding.
pub(crate) const QUESTION_BYTES_MAX: usize = 4_096;
/// Length of the part that every message has.
const HEADER_BYTES: usize = 12;

/// Over what a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// Answers have a size, and longer ones come over TCP.
    Udp,
    /// They do not.
    Tcp,
}

/// A question that can be answered.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    /// Its number, and what it wants.
    id: u16,
    recursion_desired: bool,
    /// Whether it understands that an answer was verified.
    pub(crate) authentic_data: bool,
    /// Whether answers need not be verified.
    pub(crate) checking_disabled: bool,
    /// Size of answers, and whether signatures are wanted, from one who says so.
    edns: Option<(u16, bool)>,
    query: Query,
    /// The name without its final dot, in lower case; `None` for one that no right can be about.
    pub(crate) name: Option<String>,
    /// The type of record.
    pub(crate) kind: Kind,
}

/// What a message is.
#[derive(Debug)]
pub(crate) enum Parsed {
    /// A question.
    Question(Box<Question>),
    /// Something that gets this answer.
    Reply(Vec<u8>),
    /// Something that gets none.
    Nothing,
}

/// An answer before it is packed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    /// What has become of the question.
    pub(crate) code: Code,
    /// Whether it is known here and not from elsewhere.
    pub(crate) is_local: bool,
    /// Whether it was verified.
    pub(crate) is_authentic: bool,
    /// The records.
    pub(crate) records: Vec<Record>,
}

/// What has become of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Code {
    /// The name is there.
    #[default]
    Found,
    /// It is not.
    NoSuchName,
    /// Nobody could be asked, or nothing be done about it.
    Failed,
    /// It is none that is answered.
    Refused,
}

impl Code {
    fn response_code(self) -> ResponseCode {
        match self {
            Self::Found => ResponseCode::NoError,
            Self::NoSuchName => ResponseCode::NXDomain,
            Self::Failed => ResponseCode::ServFail,
            Self::Refused => ResponseCode::Refused,
        }
    }
}

impl Question {
    /// Whether signatures are wanted.
    pub(crate) fn wants_signatures(&self) -> bool {
        self.edns.is_some_and(|(_, dnssec_ok)| dnssec_ok)
    }

    /// The name as it was asked.
    pub(crate) fn query(&self) -> &Query {
        &self.query
    }

    /// Packs an answer. One that is too long for its transport says so and is empty.
    pub(crate) fn pack(&self, reply: &Reply, transport: Transport) -> Vec<u8> {
        let mut message = Message::new(self.id, MessageType::Response, OpCode::Query);
        message.metadata.recursion_desired = self.recursion_desired;
        message.metadata.recursion_available = true;
        message.metadata.checking_disabled = self.checking_disabled;
        message.metadata.authoritative = reply.is_local;
        let wants_to_know = self.authentic_data || self.wants_signatures();
        message.metadata.authentic_data = reply.is_authentic && wants_to_know;
        message.metadata.response_code = reply.code.response_code();
        message.add_query(self.query.clone());
        if let Some((_, dnssec_ok)) = self.edns {
            message.set_edns(edns(dnssec_ok));
        }
        let bytes_max = match (transport, self.edns) {
            (Transport::Tcp, _) => TCP_BYTES_MAX,
            (Transport::Udp, None) => UDP_BYTES_PLAIN.into(),
            (Transport::Udp, Some((bytes, _))) => bytes.clamp(UDP_BYTES_PLAIN, UDP_BYTES_MAX).into(),
        };
        let mut whole = message.clone();
        whole.add_answers(reply.records.iter().cloned());
        match whole.to_vec() {
            Ok(bytes) if bytes.len() <= bytes_max => bytes,
            // One that cannot be packed cannot be truncated into something true.
            Ok(_) if transport == Transport::Udp => to_bytes(&message.truncate()),
            Ok(_) | Err(_) => {
                message.metadata.response_code = ResponseCode::ServFail;
                to_bytes(&message)
            }
        }
    }
}

/// What a message from a guest is.
pub(crate) fn parse(bytes: &[u8]) -> Parsed {
    let (Some(header), true) = (bytes.get(..HEADER_BYTES), bytes.len() <= QUESTION_BYTES_MAX) else {
        return Parsed::Nothing;
    };
    let id = u16::from_be_bytes([header[0], header[1]]);
    let is_answer = header[2] & 0x80 != 0;
    if is_answer {
        // Two resolvers must not talk to each other for ever.
        return Parsed::Nothing;
    }
    let refuse = |code| {
        let op_code = OpCode::from_u8((header[2] >> 3) & 0x0f);
        Parsed::Reply(to_bytes(&Message::error_msg(id, op_code, code)))
    };
    if OpCode::from_u8((header[2] >> 3) & 0x0f) != OpCode::Query {
        return refuse(ResponseCode::NotImp);
    }
    if !has_one_question(header) || header[6..10] != [0; 4] {
        return refuse(ResponseCode::FormErr);
    }
    let Ok(message) = Message::from_vec(bytes) else {
        return refuse(ResponseCode::FormErr);
    };
    let [query] = message.queries.as_slice() else {
        return refuse(ResponseCode::FormErr);
    };
    if message.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return bad_version(id, query);
    }
    if query.query_class != DNSClass::IN {
        return refuse(ResponseCode::Refused);
    }
    Parsed::Question(Box::new(Question {
        id,
        recursion_desired: message.metadata.recursion_desired,
        authentic_data: message.metadata.authentic_data,
        checking_disabled: message.metadata.checking_disabled,
        edns: message.edns.as_ref().map(|edns| (edns.max_payload(), edns.flags().dnssec_ok)),
        query: query.clone(),
        name: text(&query.name),
        kind: Kind(query.query_type.into()),
    }))
}

/// Whether a message says that it has one question. To be asked before it is read: room is taken for as many as it says.
fn has_one_question(header: &[u8]) -> bool {
    header.get(4..6) == Some(&[0, 1])
}

/// An answer of another resolver; `None` for what is none.
pub(crate) fn parse_answer(bytes: &[u8]) -> Option<Message> {
    if !has_one_question(bytes) {
        return None;
    }
    Message::from_vec(bytes).ok()
}

fn bad_version(id: u16, query: &Query) -> Parsed {
    let mut message = Message::new(id, MessageType::Response, OpCode::Query);
    message.add_query(query.clone());
    message.set_edns(edns(false));
    message.metadata.response_code = ResponseCode::BADVERS;
    Parsed::Reply(to_bytes(&message))
}

fn edns(dnssec_ok: bool) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_BYTES_MAX).set_dnssec_ok(dnssec_ok);
    edns
}

/// Messages of ours always fit; were one not to, no answer is one that the guest repeats its question for.
fn to_bytes(message: &Message) -> Vec<u8> {
    message.to_vec().unwrap_or_default()
}

/// A name as rights are written: without its final dot, in lower case. `None` for one with bytes that would mean something
/// else in writing, or nothing.
pub(crate) fn text(name: &Name) -> Option<String> {
    let mut text = String::with_capacity(name.len());
    for label in name.iter() {
        if !text.is_empty() {
            text.push('.');
        }
        for byte in label {
            if !byte.is_ascii_graphic() || matches!(byte, b'.' | b'\\') {
                return None;
            }
            text.push(char::from(byte.to_ascii_lowercase()));
        }
    }
    Some(text)
}

/// The records of an answer that is known here.
pub(crate) fn local_records(query: &Query, local: &Local) -> Vec<Record> {
    let record = |data| Record::from_rdata(query.name.clone(), LOCAL_TTL_S, data);
    match local {
        Local::Nothing => Vec::new(),
        Local::Addresses(addresses) => {
            let data = |address: &IpAddr| match address {
                IpAddr::V4(address) => RData::A(A(*address)),
                IpAddr::V6(address) => RData::AAAA(AAAA(*address)),
            };
            addresses.iter().map(data).map(record).collect()
        }
        // It was made from names that are valid.
        Local::Name(name) => Name::from_ascii(format!("{name}."))
            .map(|name| record(RData::PTR(PTR(name))))
            .into_iter()
            .collect(),
    }
}

/// The question to another resolver.
pub(crate) fn ask(query: &Query, want: Want) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.metadata.authentic_data = true;
    message.metadata.checking_disabled = want.checking_disabled;
    message.add_query(query.clone());
    message.set_edns(edns(want.signatures));
    message
}

/// How an answer is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Want {
    /// With signatures.
    pub(crate) signatures: bool,
    /// Also if it cannot be verified.
    pub(crate) checking_disabled: bool,
}

/// Whether a message is the answer to a question.
pub(crate) fn answers(question: &Message, answer: &Message) -> bool {
    let is_same = |(ours, theirs): (&Query, &Query)| {
        ours.name == theirs.name
            && ours.query_type == theirs.query_type
            && ours.query_class == theirs.query_class
    };
    answer.metadata.id == question.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && answer.queries.len() == question.queries.len()
        && question.queries.iter().zip(&answer.queries).all(is_same)
}

/// The records of an answer from outside that may be looked at further: none that hints at addresses beside those that
/// were asked for. Whether something was changed, so that no signature holds any more.
pub(crate) fn without_hints(records: Vec<Record>) -> (Vec<Record>, bool) {
    let mut is_changed = false;
    let clean = |mut record: Record| {
        let parameters = match &mut record.data {
            RData::SVCB(service) | RData::HTTPS(HTTPS(service)) => service,
            _ => return Some(record),
        };
        is_changed |= strip(parameters)?;
        Some(record)
    };
    let mut records: Vec<Record> = records.into_iter().filter_map(clean).collect();
    if is_changed {
        records.retain(|record| record.record_type() != RecordType::RRSIG);
    }
    (records, is_changed)
}

/// Takes the hints out; `None` when the record is nothing without them.
fn strip(service: &mut SVCB) -> Option<bool> {
    let is_hint = |key: &SvcParamKey| matches!(key, SvcParamKey::Ipv4Hint | SvcParamKey::Ipv6Hint);
    let needs_hints = service.svc_params.iter().any(|(_, value)| match value {
        SvcParamValue::Mandatory(keys) => keys.0.iter().any(is_hint),
        _ => false,
    });
    if needs_hints {
        return None;
    }
    let before = service.svc_params.len();
    service.svc_params.retain(|(key, _)| !is_hint(key));
    Some(service.svc_params.len() != before)
}

/// A record with its names in writing.
pub(crate) struct Written {
    owner: String,
    target: Option<String>,
}

impl Written {
    /// Of an owner that cannot be written the name is empty, which is nobody's.
    pub(crate) fn new(record: &Record) -> Self {
        let target = match &record.data {
            RData::CNAME(target) => text(&target.0),
            _ => None,
        };
        Self { owner: text(&record.name).unwrap_or_default(), target }
    }

    /// The record as rights are decided on it.
    pub(crate) fn seen(&self, record: &Record) -> Seen<'_> {
        let content = match (&record.data, &self.target) {
            (RData::A(address), _) => Content::Address(IpAddr::V4(address.0)),
            (RData::AAAA(address), _) => Content::Address(IpAddr::V6(address.0)),
            (RData::CNAME(_), Some(target)) => Content::Alias(target),
            _ => Content::Other,
        };
        let kind = Kind(record.record_type().into());
        Seen { owner: &self.owner, kind, ttl_s: record.ttl, content }
    }
}
