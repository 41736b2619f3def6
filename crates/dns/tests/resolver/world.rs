//! A node with two guests, as namespaces make one.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use lith_core::resolve::Opening;
use lith_dns::control;
use lith_dns::form::{Guest, Hello, Policy};
use lith_dns::parent::{self, Config, Outside, ParentError};
use lith_testkit::Namespace;
use rustix::process::{Pid, PidfdFlags};

pub(crate) const GATEWAY: &str = "169.254.83.1";
pub(crate) const GATEWAY_6: &str = "fd6c:6974:6800::53:1";
/// The guest that has rights.
pub(crate) const WEB: &str = "10.83.0.7";
pub(crate) const WEB_6: &str = "fd6c:690a:5301::7";
/// The guest that has none.
pub(crate) const ALONE: &str = "10.83.0.8";
/// Nobody's.
const STRANGER: &str = "10.83.0.9";
const DEADLINE: Duration = Duration::from_secs(10);

/// What the node's resolver knows, and what it was asked.
#[derive(Debug)]
pub(crate) struct Zone {
    pub(crate) names: Mutex<BTreeMap<String, Vec<RData>>>,
    pub(crate) asked: Mutex<Vec<String>>,
    pub(crate) is_silent: AtomicBool,
    pub(crate) ttl_s: AtomicU32,
}

pub(crate) struct World {
    pub(crate) namespace: Namespace,
    folder: tempfile::TempDir,
    pub(crate) zone: Arc<Zone>,
    pub(crate) opened: Arc<Mutex<Vec<Opening>>>,
    pub(crate) cannot_open: Arc<AtomicBool>,
    resolvers: Vec<JoinHandle<Result<(), ParentError>>>,
    pub(crate) hello: Hello,
}

/// The half without rights, as a process without a jail.
pub(crate) struct Process {
    child: Child,
    pidfd: OwnedFd,
}

impl parent::Child for Process {
    fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn ending(&mut self) -> String {
        format!("{:?}", self.child.try_wait())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn start_process(descriptors: Vec<OwnedFd>) -> Result<Process, String> {
    for descriptor in &descriptors {
        rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::empty()).unwrap();
    }
    let numbers = descriptors.iter().map(|descriptor| descriptor.as_raw_fd().to_string());
    let child = Command::new(env!("CARGO_BIN_EXE_lith-dns-child")).args(numbers).spawn().unwrap();
    let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).unwrap();
    Ok(Process { child, pidfd })
}

impl World {
    /// A node whose resolver runs, and knows these guests.
    pub(crate) fn new(egress: &[&str]) -> Self {
        let world = Self::without_policy();
        world.set_policy(egress);
        world
    }

    pub(crate) fn without_policy() -> Self {
        let mut world = Self::idle();
        let hello = world.start(start_process);
        world.hello = hello;
        world
    }

    /// A node without a resolver.
    pub(crate) fn idle() -> Self {
        let namespace = Namespace::new();
        let all = [GATEWAY, WEB, ALONE, STRANGER].map(|address| format!("ip addr add {address}/32 dev lo"));
        let six = [GATEWAY_6, WEB_6].map(|address| format!("ip -6 addr add {address}/128 dev lo nodad"));
        namespace.shell(&[&all[..], &six].concat().join("\n"));
        let ttl_s = AtomicU32::new(60);
        let zone = Zone {
            names: Mutex::default(),
            asked: Mutex::default(),
            is_silent: AtomicBool::new(false),
            ttl_s,
        };
        let zone = Arc::new(zone);
        namespace.run(|| serve_zone(&zone));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
        let hello = Hello { version: 0, port: 0, program: (0, 0), pid: 0, child: None };
        let (opened, cannot_open, resolvers) = (Arc::default(), Arc::default(), Vec::new());
        Self { namespace, folder, zone, opened, cannot_open, resolvers, hello }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("resolver.sock")
    }

    /// Starts a resolver, which takes over from one that runs, and returns when it answers.
    pub(crate) fn start<C: parent::Child + 'static>(
        &mut self,
        start: impl FnMut(Vec<OwnedFd>) -> Result<C, String> + Send + 'static,
    ) -> Hello {
        let config = Config {
            socket: self.socket(),
            lock: self.path("lock"),
            addresses: [GATEWAY, GATEWAY_6].map(|text| text.parse().unwrap()).to_vec(),
            resolv_conf: self.path("resolv.conf"),
            user: rustix::process::geteuid().as_raw(),
        };
        let (opened, cannot_open) = (Arc::clone(&self.opened), Arc::clone(&self.cannot_open));
        let (sender, receiver) = mpsc::channel();
        let run = move || {
            let open = move |openings: &[Opening]| {
                if cannot_open.load(Ordering::SeqCst) {
                    return openings.iter().map(|one| (one.slot, "the test says so".to_owned())).collect();
                }
                opened.lock().unwrap().extend(openings);
                BTreeMap::new()
            };
            let outside = Outside { start: Box::new(start), open: Box::new(open) };
            parent::run(config, outside, |hello| sender.send(hello.clone()).unwrap())
        };
        let thread = self.namespace.run(|| std::thread::spawn(run));
        self.resolvers.push(thread);
        receiver.recv_timeout(DEADLINE).expect("it answers")
    }

    /// Waits for the end of the first that was started.
    pub(crate) fn join_first(&mut self) {
        self.resolvers.remove(0).join().unwrap().unwrap();
    }

    pub(crate) fn set_policy(&self, egress: &[&str]) {
        let policy = Policy { node: vec![], guests: guests(egress) };
        control::set_policy(&self.socket(), &policy).unwrap();
    }

    fn server(&self, from: &str) -> SocketAddr {
        let gateway = if from.contains(':') { GATEWAY_6 } else { GATEWAY };
        SocketAddr::new(gateway.parse().unwrap(), self.hello.port)
    }

    pub(crate) fn udp(&self, from: &str) -> UdpSocket {
        let from = SocketAddr::new(from.parse().unwrap(), 0);
        let socket = self.namespace.run(|| UdpSocket::bind(from).unwrap());
        socket.connect(self.server(&from.ip().to_string())).unwrap();
        socket
    }

    /// Asks over UDP; nothing when there is no answer within this time.
    pub(crate) fn ask_within(
        &self,
        from: &str,
        name: &str,
        kind: RecordType,
        time: Duration,
    ) -> Option<Message> {
        let (socket, question) = (self.udp(from), question(name, kind));
        socket.set_read_timeout(Some(time)).unwrap();
        socket.send(&question.to_vec().unwrap()).unwrap();
        let mut bytes = [0; 4096];
        let length = socket.recv(&mut bytes).ok()?;
        let answer = Message::from_vec(&bytes[..length]).unwrap();
        assert_eq!((answer.metadata.id, &answer.queries), (question.metadata.id, &question.queries));
        Some(answer)
    }

    pub(crate) fn ask(&self, from: &str, name: &str, kind: RecordType) -> Message {
        self.ask_within(from, name, kind, DEADLINE).expect("there is an answer")
    }

    /// The answer in words: its code if that is not good, and the records.
    pub(crate) fn words(&self, from: &str, name: &str, kind: RecordType) -> Vec<String> {
        words(&self.ask(from, name, kind))
    }

    /// Waits for something.
    pub(crate) fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        lith_testkit::eventually(what, || is_so().then_some(()).ok_or("not yet"));
    }

    pub(crate) fn tcp(&self, from: &str) -> TcpStream {
        let server = self.server(from);
        let from: IpAddr = from.parse().unwrap();
        let stream = self.namespace.run(|| {
            let family = rustix::net::AddressFamily::INET;
            let socket = rustix::net::socket(family, rustix::net::SocketType::STREAM, None).unwrap();
            rustix::net::bind(&socket, &SocketAddr::new(from, 0)).unwrap();
            rustix::net::connect(&socket, &server).unwrap();
            TcpStream::from(socket)
        });
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.zone.asked.lock().unwrap())
    }

    pub(crate) fn name(&self, name: &str, records: Vec<RData>) {
        self.zone.names.lock().unwrap().insert(name.to_owned(), records);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = control::end(&self.socket());
        for resolver in self.resolvers.drain(..) {
            let _ = resolver.join();
        }
    }
}

pub(crate) fn guests(egress: &[&str]) -> Vec<Guest> {
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let names =
        BTreeMap::from([("db".to_owned(), vec![address("10.83.128.1"), address("fd6c:690a:5301:1::1")])]);
    let guest = |slot, own: &str, addresses: &[&str]| Guest {
        slot,
        task: format!("shop.1.{own}"),
        job: "shop".to_owned(),
        own: vec![own.to_owned()],
        addresses: addresses.iter().map(|text| address(text)).collect(),
        names: BTreeMap::new(),
        egress: vec![],
    };
    let egress = egress.iter().map(|text| (*text).to_owned()).collect();
    vec![Guest { names, egress, ..guest(7, "web", &[WEB, WEB_6]) }, guest(8, "alone", &[ALONE])]
}

pub(crate) fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(format!("{name}.")).unwrap(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    message.set_edns(edns);
    message
}

pub(crate) fn words(answer: &Message) -> Vec<String> {
    let code = answer.metadata.response_code;
    let code = (code != ResponseCode::NoError).then(|| format!("{code:?}"));
    code.into_iter().chain(answer.answers.iter().map(|record| record.data.to_string())).collect()
}

pub(crate) fn write_message(stream: &mut TcpStream, message: &Message) {
    let bytes = message.to_vec().unwrap();
    let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length[..], &bytes].concat()).unwrap();
}

pub(crate) fn read_message(stream: &mut TcpStream) -> std::io::Result<Message> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut bytes)?;
    Ok(Message::from_vec(&bytes).unwrap())
}

pub(crate) fn a(text: &str) -> RData {
    match text.parse().unwrap() {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}

pub(crate) fn cname(text: &str) -> RData {
    RData::CNAME(CNAME(Name::from_ascii(format!("{text}.")).unwrap()))
}

pub(crate) fn txt(text: &str) -> RData {
    RData::TXT(TXT::new(vec![text.to_owned()]))
}

/// The node's own resolver: knows what the test says, at 127.0.0.1, over UDP and TCP. Its threads end with the process.
fn serve_zone(zone: &Arc<Zone>) {
    let udp = UdpSocket::bind("127.0.0.1:53").unwrap();
    let tcp = TcpListener::bind("127.0.0.1:53").unwrap();
    let for_udp = Arc::clone(zone);
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok((length, from)) = udp.recv_from(&mut bytes) {
            if let Some(answer) = for_udp.answer(&bytes[..length]) {
                let mut packed = answer.to_vec().unwrap();
                if packed.len() > 1232 {
                    packed = answer.truncate().to_vec().unwrap();
                }
                udp.send_to(&packed, from).unwrap();
            }
        }
    });
    let for_tcp = Arc::clone(zone);
    std::thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            if let Ok(question) = read_message(&mut stream)
                && let Some(answer) = for_tcp.answer(&question.to_vec().unwrap())
            {
                write_message(&mut stream, &answer);
            }
        }
    });
}

impl Zone {
    fn answer(&self, bytes: &[u8]) -> Option<Message> {
        let question = Message::from_vec(bytes).unwrap();
        let query = question.queries[0].clone();
        let mut name = query.name.to_ascii().trim_end_matches('.').to_lowercase();
        self.asked.lock().unwrap().push(format!("{name} {}", query.query_type));
        if self.is_silent.load(Ordering::SeqCst) {
            return None;
        }
        let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
        let names = self.names.lock().unwrap();
        if !names.contains_key(&name) {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
        answer.add_query(query.clone());
        while let Some(records) = names.get(&name) {
            let owner = Name::from_ascii(format!("{name}.")).unwrap();
            let mut next = String::new();
            for data in records {
                let record =
                    Record::from_rdata(owner.clone(), self.ttl_s.load(Ordering::SeqCst), data.clone());
                if let RData::CNAME(target) = data {
                    next = target.to_ascii().trim_end_matches('.').to_owned();
                    answer.add_answer(record);
                } else if record.record_type() == query.query_type {
                    answer.add_answer(record);
                }
            }
            name = next;
        }
        answer.set_edns(Edns::new());
        Some(answer)
    }
}
