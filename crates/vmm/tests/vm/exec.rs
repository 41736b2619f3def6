//! Commands and copies beside the main process.

use crate::world::{DEADLINE, World, script};
use lith_guest::messages::{Exec, Exit, Outcome, Tty, TtySize};
use lith_guest::process::Environment;
use lith_vmm::shim::{Client, Piece, Session};

/// What one supervisor may take, also after it has carried megabytes.
const RESIDENT_KIB_MAX: u64 = 8 << 10;
pub(crate) const SERVE: &str = "echo ready; while :; do sleep 1 & wait $!; done";

pub(crate) fn exec(script: &str) -> Exec {
    Exec {
        argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        env: Environment::default(),
        user: None,
        working_dir: None,
        tty: None,
    }
}

pub(crate) struct Result {
    pub(crate) out: Vec<u8>,
    err: Vec<u8>,
    pub(crate) outcome: Outcome,
}

pub(crate) async fn collect(session: Session) -> Result {
    let Session { mut reader, writer } = session;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let read = async {
        loop {
            match reader.next().await.unwrap() {
                Piece::Out(bytes) => out.extend(bytes),
                Piece::Err(bytes) => err.extend(bytes),
                Piece::End(outcome) => return outcome,
            }
        }
    };
    let outcome = tokio::time::timeout(DEADLINE, read).await.expect("in time");
    drop(writer);
    Result { out, err, outcome }
}

pub(crate) async fn run(client: &Client, exec: Exec, input: &[u8]) -> Result {
    let Session { reader, mut writer } = client.exec(exec).await.unwrap();
    let input = input.to_vec();
    let feed = tokio::spawn(async move {
        writer.send(&input).await.unwrap();
        writer.end_input().await.unwrap();
        writer
    });
    // Reading and writing at the same time, as a person's terminal does.
    let mut reader = reader;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let outcome = loop {
        match tokio::time::timeout(DEADLINE, reader.next()).await.expect("in time").unwrap() {
            Piece::Out(bytes) => out.extend(bytes),
            Piece::Err(bytes) => err.extend(bytes),
            Piece::End(outcome) => break outcome,
        }
    };
    drop(feed.await.unwrap());
    Result { out, err, outcome }
}

#[tokio::test]
async fn commands_have_streams_and_codes() {
    let mut world = World::start(script(SERVE));
    let _watch = world.running().await;
    world.logged("ready").await;
    let client = world.client();

    let result = run(&client, exec("cat; echo oops >&2; exit 7"), b"hello").await;
    assert_eq!(result.outcome, Outcome::Exited(Exit::Code(7)));
    assert_eq!((result.out.as_slice(), result.err.as_slice()), (b"hello".as_slice(), b"oops\n".as_slice()));

    let missing = Exec { argv: vec!["nonsense".to_owned()], ..exec("") };
    let result = run(&client, missing, b"").await;
    assert!(
        matches!(&result.outcome, Outcome::Failed { code: 127, message } if message.contains("nonsense")),
        "{:?}",
        result.outcome
    );

    // More than every window and buffer together, both ways at once.
    let large: Vec<u8> = (0..3_000_000u32).map(|number| number.to_le_bytes()[1]).collect();
    let result = run(&client, exec("cat"), &large).await;
    assert!(result.out == large);
    let resident = world.supervisor_resident_kib();
    assert!(resident < RESIDENT_KIB_MAX, "{resident} KiB");

    let tty = Tty { size: TtySize { rows: 33, cols: 99 }, term: "xterm".to_owned() };
    let session =
        client.exec(Exec { tty: Some(tty), ..exec("busybox stty size; echo $TERM") }).await.unwrap();
    let result = collect(session).await;
    assert_eq!(String::from_utf8(result.out).unwrap(), "33 99\r\nxterm\r\n");
}

#[tokio::test]
async fn copies_go_both_ways_and_an_abandoned_command_holds_nothing_up() {
    let mut world = World::start(script(SERVE));
    let _watch = world.running().await;
    world.logged("ready").await;
    let client = world.client();

    let content: Vec<u8> = (0..2_000_000u32).map(|number| (number % 251) as u8).collect();
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o640);
    archive.append_data(&mut header, "file", content.as_slice()).unwrap();
    let mut session = client.copy_in("/tmp".to_owned()).await.unwrap();
    session.writer.send(&archive.into_inner().unwrap()).await.unwrap();
    session.writer.end_input().await.unwrap();
    assert_eq!(collect(session).await.outcome, Outcome::Done);

    // A command whose output nobody reads, left behind.
    let mut abandoned = client.exec(exec("cat /tmp/file /tmp/file /tmp/file")).await.unwrap();
    assert!(matches!(abandoned.reader.next().await.unwrap(), Piece::Out(_)));

    let result = collect(client.copy_out("/tmp/file".to_owned()).await.unwrap()).await;
    assert_eq!(result.outcome, Outcome::Done);
    let mut archive = tar::Archive::new(result.out.as_slice());
    let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
    assert_eq!(entry.path().unwrap().to_str(), Some("file"));
    let mut copied = Vec::new();
    std::io::Read::read_to_end(&mut entry, &mut copied).unwrap();
    assert!(copied == content);
    drop(abandoned);

    let result = collect(client.copy_out("/nothing".to_owned()).await.unwrap()).await;
    assert!(
        matches!(&result.outcome, Outcome::Failed { message, .. } if message.contains("/nothing")),
        "{:?}",
        result.outcome
    );
}
