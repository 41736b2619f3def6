//! `exec`: a command in a task's machine, with our terminal as its own or with our streams.

use std::io::{IsTerminal, Read, Write};

use bytes::{Bytes, BytesMut};
use lith_api::client::{Upgraded, escape};
use lith_api::error::{Code, Failure};
use lith_api::stream::{ExecRequest, Frame, PAYLOAD_BYTES_MAX, Size};
use rustix::termios::tcgetwinsize;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::args::ExecArgs;
use crate::context::{Context, write_out};
use crate::error::Error;
use crate::name::{self, Name};
use crate::raw::Guard;
use crate::{exit, list};

/// Reads of standard input that wait to be sent: enough to keep the line busy, little enough to feel backpressure.
const INPUTS_MAX: usize = 4;
/// Size of a terminal that does not tell its own.
const SIZE_DEFAULT: Size = Size { rows: 24, columns: 80 };

/// How the command is connected to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mode {
    has_input: bool,
    has_terminal: bool,
}

/// `lith exec`.
pub(crate) async fn exec(context: &Context, args: &ExecArgs) -> Result<u8, Error> {
    let mode = mode(args, std::io::stdin().is_terminal(), context.terminal.is_stdout)?;
    let name = Name::parse(&args.name)?;
    let tasks = list::of_job(context, &name.job).await?;
    let status = name::one(&name, &tasks, "lith exec")?;
    let request = ExecRequest {
        command: args.command.clone(),
        env: args.env.clone(),
        user: args.user.clone(),
        working_dir: args.workdir.clone(),
        terminal: mode.has_terminal.then(size),
        term: std::env::var("TERM").ok().filter(|_| mode.has_terminal),
    };
    let path = format!("/v1/tasks/{}/exec", escape(&status.id));
    let (reader, writer) = tokio::io::split(context.client.upgrade(&path, &request).await?);
    // Only now: until here an error is better read in a terminal that is as it was.
    let guard = mode.has_terminal.then(Guard::raw).transpose().map_err(|error| terminal(&error))?;
    let resized = signal(SignalKind::window_change()).map_err(|error| terminal(&error))?;
    tokio::spawn(send(writer, input(mode), resized, mode));
    let ended = tokio::select! {
        ended = receive(reader) => ended,
        signal = ending_signal() => Err(signal),
    };
    drop(guard);
    ended
}

/// What is connected. Without any flag: everything when a person sits there, output alone otherwise.
fn mode(args: &ExecArgs, is_stdin_terminal: bool, is_stdout_terminal: bool) -> Result<Mode, Error> {
    let is_person = is_stdin_terminal && is_stdout_terminal;
    if args.tty && !is_stdin_terminal {
        return Err(Error::usage(
            "a terminal was asked for with `-t`, but standard input is not one",
            "leave out `-t`; `-i` alone hands over standard input",
        ));
    }
    let is_asked = args.interactive || args.tty || args.no_tty;
    Ok(Mode {
        has_input: args.interactive || args.tty || is_person,
        has_terminal: args.tty || (is_person && !args.no_tty && (!is_asked || args.interactive)),
    })
}

fn size() -> Size {
    let size = tcgetwinsize(std::io::stdin()).ok().filter(|size| size.ws_row > 0 && size.ws_col > 0);
    size.map_or(SIZE_DEFAULT, |size| Size { rows: size.ws_row, columns: size.ws_col })
}

/// Standard input as it comes; the end of the channel is its end. On a thread of its own: a read of a terminal cannot
/// be called off, and must not keep the process from ending.
fn input(mode: Mode) -> mpsc::Receiver<Bytes> {
    let (sender, receiver) = mpsc::channel(INPUTS_MAX);
    if mode.has_input {
        std::thread::spawn(move || {
            let mut stdin = std::io::stdin().lock();
            let mut buffer = vec![0; PAYLOAD_BYTES_MAX];
            loop {
                match stdin.read(&mut buffer) {
                    Ok(count) if count > 0 => {
                        if sender.blocking_send(Bytes::copy_from_slice(&buffer[..count])).is_err() {
                            return;
                        }
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    // A terminal that is gone is the end of input, too.
                    Ok(_) | Err(_) => return,
                }
            }
        });
    }
    receiver
}

/// Sends input and sizes until the connection ends. Its errors are seen by the receiving side.
async fn send(
    mut writer: WriteHalf<Upgraded>,
    mut input: mpsc::Receiver<Bytes>,
    mut resized: Signal,
    mode: Mode,
) {
    let mut has_input = true;
    loop {
        let frame = tokio::select! {
            bytes = input.recv(), if has_input => match bytes {
                Some(bytes) => Frame::Input(bytes),
                None => {
                    has_input = false;
                    Frame::InputEnd
                }
            },
            Some(()) = resized.recv(), if mode.has_terminal => Frame::Resize(size()),
            else => {
                // Nothing more to say; the other half goes on listening.
                return;
            }
        };
        let mut bytes = BytesMut::new();
        frame.encode(&mut bytes);
        if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
            return;
        }
    }
}

/// Prints what comes until the process has ended.
async fn receive(mut reader: ReadHalf<Upgraded>) -> Result<u8, Error> {
    let mut buffer = BytesMut::with_capacity(PAYLOAD_BYTES_MAX);
    loop {
        while let Some(frame) = Frame::decode(&mut buffer).map_err(|error| broken(&error.to_string()))? {
            match frame {
                Frame::Output(bytes) => write_out(&bytes)?,
                // Whoever closed our standard error does not want to read it.
                Frame::Error(bytes) => drop(std::io::stderr().lock().write_all(&bytes)),
                Frame::Exit(exit) => return Ok(exit_code(exit.code)),
                Frame::Failure(failure) => return Err(failure.into()),
                Frame::Input(_) | Frame::InputEnd | Frame::Resize(_) => {
                    return Err(broken("the server sent what only a client sends"));
                }
            }
        }
        let count = reader.read_buf(&mut buffer).await.map_err(|error| lost(&error.to_string()))?;
        if count == 0 {
            return Err(lost("it ended before the command did"));
        }
    }
}

/// What ends us from outside, told as an error so that the terminal is restored.
async fn ending_signal() -> Error {
    let signals =
        (signal(SignalKind::terminate()), signal(SignalKind::hangup()), signal(SignalKind::interrupt()));
    let (Ok(mut terminate), Ok(mut hangup), Ok(mut interrupt)) = signals else {
        // Without handlers the signals act as they always do.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
        _ = interrupt.recv() => {}
    }
    Error::Interrupted("interrupted; the server was told to end the command".to_owned())
}

/// The process's exit code as ours: a shell sees eight bits.
fn exit_code(code: i32) -> u8 {
    u8::try_from(code).unwrap_or(exit::FAILED)
}

fn terminal(error: &std::io::Error) -> Error {
    Error::new(
        Code::Machine,
        format!("cannot take over the terminal: {error}"),
        "`lith exec -T` does without",
    )
}

fn lost(why: &str) -> Error {
    let message = format!("the connection to the command is lost: {why}");
    Error::new(Code::Unreachable, message, "see with `lith ps` whether the task still runs")
}

fn broken(why: &str) -> Error {
    let message = format!("cannot read the server's answer: {why}");
    Failure::new(Code::Internal, message).hint("compare `lith version` of the command and the server").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::Paint;

    fn check(flags: &str, terminals: (bool, bool), expected: (bool, bool)) {
        let (interactive, tty, no_tty) = (flags.contains('i'), flags.contains('t'), flags.contains('T'));
        let args = ExecArgs {
            interactive,
            tty,
            no_tty,
            user: None,
            workdir: None,
            env: vec![],
            name: String::new(),
            command: vec![],
        };
        let mode = mode(&args, terminals.0, terminals.1).unwrap();
        assert_eq!((mode.has_input, mode.has_terminal), expected, "{flags} {terminals:?}");
    }

    #[test]
    fn what_is_connected() {
        check("", (true, true), (true, true));
        check("", (true, false), (false, false));
        check("", (false, true), (false, false));
        check("", (false, false), (false, false));
        check("i", (false, false), (true, false));
        check("i", (true, true), (true, true));
        check("it", (true, true), (true, true));
        check("it", (true, false), (true, true));
        check("T", (true, true), (true, false));
        check("iT", (true, true), (true, false));
    }

    #[test]
    fn a_terminal_cannot_be_made_of_a_pipe() {
        let args = ExecArgs {
            interactive: true,
            tty: true,
            no_tty: false,
            user: None,
            workdir: None,
            env: vec![],
            name: String::new(),
            command: vec![],
        };
        let error = mode(&args, false, true).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert_eq!(
            error.text(Paint::PLAIN),
            "error: a terminal was asked for with `-t`, but standard input is not one\n\
             hint: leave out `-t`; `-i` alone hands over standard input\n"
        );
    }

    #[test]
    fn exit_codes_have_eight_bits() {
        assert_eq!((exit_code(0), exit_code(137), exit_code(-1), exit_code(300)), (0, 137, 1, 1));
    }
}
