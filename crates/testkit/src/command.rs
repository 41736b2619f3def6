//! Programs that tests run: to their end, or beside the test. Owns that none runs longer than the deadline.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

use crate::wait::{DEADLINE, eventually_within};

/// What a program left.
#[derive(Debug, Clone)]
pub struct Output {
    /// The words it was started with.
    pub command: String,
    /// Its exit code; 128 and the signal when it was ended by one.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// Asserts that it succeeded.
    #[must_use]
    pub fn ok(self) -> Self {
        assert!(self.code == 0, "{self}");
        self
    }

    /// Its output as JSON; it must have succeeded.
    #[must_use]
    pub fn json(self) -> Value {
        let output = self.ok();
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output}"))
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { command, code, stdout, stderr } = self;
        write!(f, "`{command}` ended with {code}\n--- stdout\n{stdout}--- stderr\n{stderr}---")
    }
}

/// A program that runs beside the test, ended when this is dropped.
#[derive(Debug)]
pub struct Running {
    words: String,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Collected,
    stderr: Collected,
}

impl Running {
    /// Starts it on the calling thread.
    pub(crate) fn start(mut command: Command) -> Self {
        let words = words(&command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {words}: {error}"));
        let stdin = child.stdin.take();
        let stdout = Collected::from(child.stdout.take().expect("it was asked for"));
        let stderr = Collected::from(child.stderr.take().expect("it was asked for"));
        Self { words, child, stdin, stdout, stderr }
    }

    /// Its standard output up to now.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Waits until a text stands in its standard output.
    pub fn wait_for(&mut self, text: &str) {
        let what = format!("{text:?} from `{}`", self.words);
        eventually_within(DEADLINE, &what, || {
            let stdout = self.stdout.text();
            if stdout.contains(text) { Ok(()) } else { Err(format!("{stdout}\n{}", self.stderr.text())) }
        });
    }

    /// Writes to its standard input.
    pub fn send(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("its input was not ended");
        stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush()).expect("it reads its input");
    }

    /// Ends its standard input.
    pub fn end_input(&mut self) {
        self.stdin = None;
    }

    /// Sends it a signal that a person would.
    pub fn interrupt(&self) {
        crate::processes::Pid(self.child.id()).signal(rustix::process::Signal::INT);
    }

    /// Waits for its end.
    #[must_use]
    pub fn finish(mut self) -> Output {
        let status = wait(&mut self.child, &self.words);
        Output {
            command: self.words.clone(),
            code: code(status),
            stdout: self.stdout.end(),
            stderr: self.stderr.end(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end on the calling thread.
pub(crate) fn run(command: Command, stdin: &[u8]) -> Output {
    let mut running = Running::start(command);
    let mut input = running.stdin.take().expect("it was asked for");
    let bytes = stdin.to_vec();
    // On a thread of its own, for a program that does not read must not block us. Nor is that its failure.
    let writer = thread::spawn(move || drop(input.write_all(&bytes)));
    let output = running.finish();
    writer.join().expect("writing does not panic");
    output
}

fn wait(child: &mut Child, words: &str) -> ExitStatus {
    // Longer than what the program itself waits for.
    eventually_within(DEADLINE + Duration::from_secs(30), &format!("the end of `{words}`"), || {
        child.try_wait().expect("it is our child").ok_or("it runs")
    })
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

fn words(command: &Command) -> String {
    let mut words = vec![command.get_program()];
    words.extend(command.get_args());
    words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// What a thread has read up to now.
#[derive(Debug)]
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Collected {
    fn from(mut source: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let mut buffer = [0; 16 << 10];
            while let Ok(count) = source.read(&mut buffer) {
                if count == 0 {
                    break;
                }
                into.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..count]);
            }
        });
        Self { bytes, reader: Some(reader) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// All of it. A grandchild may hold the pipe open for ever: then what came up to now.
    fn end(&mut self) -> String {
        let reader = self.reader.take();
        if let Some(reader) = reader {
            eventually_within(DEADLINE, "the end of a program's output", || {
                if reader.is_finished() { Ok(()) } else { Err(self.text()) }
            });
        }
        self.text()
    }
}
