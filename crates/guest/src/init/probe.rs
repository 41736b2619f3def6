//! One question about the task's health, from inside its machine. Owns the few words of HTTP that it takes: what is no
//! plain answer within its time and length is a failure. What follows from the answers is decided in `lith_guest::health`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lith_guest::health::{Answer, Health};
use lith_guest::messages::health::{Check, OUTPUT_CHARS_MAX, Probe, Report, clean};
use lith_guest::messages::{BootStep, Exit, GuestMessage};
use lith_guest::signal::Signal;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::exec;
use crate::failure::{During, Failure, reason};
use crate::pump::wait_readable;
use crate::server::Server;
use crate::spawn::{Wanted, resolve};
use crate::sys::{self, Receiver};
use crate::task::{Task, owned_pipe};
use crate::view::{Namespaces, inside_task};

/// Longest first line of an HTTP answer: `HTTP/1.1 200 OK`, and a reason of whatever length nobody reads.
const STATUS_LINE_BYTES_MAX: usize = 1024;
/// Answers that mean health.
const HEALTHY: std::ops::RangeInclusive<u16> = 200..=399;

/// Asks again and again, on a thread of its own, until the main process has ended, and tells the host what changes.
pub(crate) fn watch(server: &Arc<Server>, check: Check) {
    let server = Arc::clone(server);
    std::thread::spawn(move || {
        let started = Instant::now();
        let mut health = Health::new(&check);
        let mut told = Report { state: health.state(), output: None };
        // First, so that the host knows that there is a check.
        server.port().message(&GuestMessage::Health(told.clone()));
        loop {
            let now = started.elapsed();
            std::thread::sleep(health.due(now).saturating_sub(now));
            // A task that has ended has no health.
            let Ok((task, namespaces)) = server.running_task() else { return };
            let began = started.elapsed();
            let timeout = Duration::from_millis(check.timeout_ms);
            let answer = ask(&server, &task, &namespaces, &check.probe, timeout);
            health.answered(Answer { began, is_success: answer.is_ok() });
            let report = Report { state: health.state(), output: answer.err().map(|text| clean(&text)) };
            if report != told && server.running_task().is_ok() {
                told = report;
                server.port().message(&GuestMessage::Health(told.clone()));
            }
        }
    });
}

/// The error is what the check said, or why it could not be made.
fn ask(
    server: &Arc<Server>,
    task: &Task,
    namespaces: &Namespaces,
    probe: &Probe,
    timeout: Duration,
) -> Result<(), String> {
    let run = |argv: &[String]| {
        run(server, task, namespaces, argv, timeout)
            .unwrap_or_else(|failure| Err(failure.sentence().to_owned()))
    };
    match probe {
        Probe::Tcp { port } => connect(*port, timeout).map(drop),
        Probe::Http { port, path } => get(*port, path, timeout),
        Probe::Command(argv) => run(argv),
        Probe::Shell(line) => run(&["/bin/sh".to_owned(), "-c".to_owned(), line.clone()]),
    }
}

fn connect(port: u16, timeout: Duration) -> Result<TcpStream, String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&address, timeout).map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => late(timeout),
        _ => format!("cannot connect to port {port}: {}", reason(&error)),
    })
}

fn late(timeout: Duration) -> String {
    format!("no answer within {timeout:?}")
}

fn get(port: u16, path: &str, timeout: Duration) -> Result<(), String> {
    let deadline = Instant::now() + timeout;
    let mut stream = connect(port, timeout)?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nUser-Agent: lith\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    let mut line = Vec::new();
    exchange(&mut stream, request.as_bytes(), &mut line, deadline).map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => late(timeout),
        _ => format!("port {port} broke the connection: {}", reason(&error)),
    })?;
    match status(&line) {
        Some(code) if HEALTHY.contains(&code) => Ok(()),
        Some(code) => Err(format!("GET {path} at port {port} was answered with {code}")),
        None => Err(format!("port {port} does not speak HTTP")),
    }
}

/// Sends the request and reads the answer's first line, without the rest.
fn exchange(stream: &mut TcpStream, request: &[u8], line: &mut Vec<u8>, deadline: Instant) -> io::Result<()> {
    let left = || {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::Error::from(io::ErrorKind::TimedOut)) } else { Ok(Some(left)) }
    };
    stream.set_write_timeout(left()?)?;
    stream.write_all(request)?;
    let mut buffer = [0; STATUS_LINE_BYTES_MAX];
    while !line.contains(&b'\n') && line.len() < STATUS_LINE_BYTES_MAX {
        stream.set_read_timeout(left()?)?;
        let room = STATUS_LINE_BYTES_MAX - line.len();
        let count = stream.read(&mut buffer[..room])?;
        if count == 0 {
            break;
        }
        line.extend_from_slice(&buffer[..count]);
    }
    Ok(())
}

/// The code in `HTTP/1.1 200 OK`.
fn status(line: &[u8]) -> Option<u16> {
    let line = line.split(|byte| *byte == b'\n').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    let is_code = |code: &&str| code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit());
    words.next().filter(is_code)?.parse().ok()
}

/// Runs a program as the main process runs; the inner error is what it wrote.
fn run(
    server: &Arc<Server>,
    task: &Task,
    namespaces: &Namespaces,
    argv: &[String],
    timeout: Duration,
) -> Result<Result<(), String>, Failure> {
    let step = BootStep::Start;
    let spec = &task.spec;
    let wanted = Wanted {
        argv,
        env: spec.env.clone(),
        user: &spec.user,
        groups: &task.groups,
        working_dir: &spec.working_dir,
    };
    let resolved = inside_task(namespaces, || resolve(wanted)).during(step, "enter the task's root")??;
    let input = File::open("/dev/null").during(step, "open /dev/null")?;
    let (output, write) = owned_pipe(&resolved).during(step, "make a pipe")?;
    let errors = write.try_clone().during(step, "make a pipe")?;
    let (ended_read, ended) = pipe_with(PipeFlags::CLOEXEC).during(step, "make a pipe")?;
    let pid = exec::start(server, task, &resolved, namespaces, [input.into(), write, errors], false)?;
    Ok(std::thread::scope(|scope| {
        let reader = scope.spawn(move || read_some(output, &ended_read));
        let exit = server.children().wait_until(pid, Instant::now() + timeout);
        if exit.is_none() {
            // Its whole session: a shell that is gone alone leaves what it waits for.
            let kill = || drop(sys::kill(Receiver::Group(pid), Signal::KILL.0));
            server.children().if_running(pid, kill);
            server.children().wait(pid);
        }
        drop(ended);
        let said = reader.join().unwrap_or_default();
        match exit {
            Some(Exit::Code(0)) => Ok(()),
            None => Err(format!("{} {said}", late(timeout))),
            Some(_) if !said.trim().is_empty() => Err(said),
            Some(Exit::Code(code)) => Err(format!("ended with code {code} and said nothing")),
            Some(Exit::Signal(signal)) => Err(format!("was ended by signal {} and said nothing", signal.0)),
        }
    }))
}

/// The first of what a program writes. The rest is read too, lest the program wait for room.
fn read_some(output: OwnedFd, ended: &OwnedFd) -> String {
    let mut output = File::from(output);
    let (mut kept, mut buffer) = (Vec::new(), [0; OUTPUT_CHARS_MAX]);
    while wait_readable(&output, Some(ended)) {
        match output.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => {
                let room = OUTPUT_CHARS_MAX - kept.len();
                kept.extend_from_slice(&buffer[..count.min(room)]);
            }
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Duration;

    use super::{connect, get, status};

    /// Asks a server that answers with these bytes and then waits.
    fn answered(answer: &'static [u8], timeout: Duration) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let count = stream.read(&mut request).unwrap();
            assert!(request[..count].starts_with(b"GET /up?a=b HTTP/1.1\r\nHost: localhost:"));
            stream.write_all(answer).unwrap();
            // Until the other end has gone.
            let _ = stream.read(&mut request);
        });
        let result = get(port, "/up?a=b", timeout).map_err(|text| text.replace(&port.to_string(), "PORT"));
        server.join().unwrap();
        result
    }

    #[test]
    fn pages() {
        let long = Duration::from_secs(20);
        assert_eq!(answered(b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\nx", long), Ok(()));
        assert_eq!(answered(b"HTTP/1.0 302 Found\r\n", long), Ok(()));
        let check = |answer, expected: &str| assert_eq!(answered(answer, long).unwrap_err(), expected);
        check(b"HTTP/1.1 503 Busy\r\n\r\n", "GET /up?a=b at port PORT was answered with 503");
        check(b"SSH-2.0-OpenSSH\r\n", "port PORT does not speak HTTP");
        check(&[b'x'; 3000], "port PORT does not speak HTTP");
        let late = answered(b"HTTP/1.1 2", Duration::from_millis(50));
        assert_eq!(late.unwrap_err(), "no answer within 50ms");
    }

    #[test]
    fn ports() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(connect(port, Duration::from_secs(20)).is_ok());
        drop(listener);
        let error = connect(port, Duration::from_secs(20)).unwrap_err();
        assert_eq!(error, format!("cannot connect to port {port}: connection refused"));
    }

    #[test]
    fn first_lines() {
        assert_eq!(status(b"HTTP/1.1 204\r\n"), Some(204));
        for bad in [&b""[..], b"HTTP/2 200", b"HTTP/1.1", b"HTTP/1.1 +20", b"HTTP/1.1 20000", b"\xff\xfe 200"]
        {
            assert_eq!(status(bad), None, "{bad:?}");
        }
    }
}
