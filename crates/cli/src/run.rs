//! From a parsed command to its exit code: one runtime, one dispatch, one place where errors are said.

use std::process::ExitCode;

use lith_api::error::{Code, Failure};
use lith_api::node::Version;
use lith_api::task::Ask;

use crate::args::{ClientCommand, Command, JobCommand, Manner, PoolCommand};
use crate::context::{Context, say};
use crate::error::{Error, failure_text};
use crate::terminal::Terminal;
use crate::{
    ask, blocked, complete, convert, cp, deploy, events, exec, exit, explain, format, image, learn, list,
    logs, pool, registry, stats, volume,
};

/// Carries out a command for the server, with everything that it prints.
#[must_use]
pub fn run(command: ClientCommand) -> ExitCode {
    let ClientCommand { globals, command } = command;
    let context = Context::new(&globals);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let failure = Failure::new(Code::Machine, format!("cannot start: {error}"));
            let failure = failure.hint("see whether the machine is out of memory or file descriptors");
            return report(&failure, globals.manner());
        }
    };
    let outcome = runtime.block_on(execute(&context, command));
    // Not dropped: that would wait for a thread that reads standard input, which nobody may ever end.
    runtime.shutdown_background();
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let text = error.text(context.terminal.stderr);
            if !text.is_empty() {
                say(text.trim_end());
            }
            ExitCode::from(error.exit_code())
        }
    }
}

/// Says a failure as every command does, and returns what to exit with.
#[must_use]
pub fn report(failure: &Failure, manner: Manner) -> ExitCode {
    say(failure_text(failure, &[], Terminal::ask(manner.no_color).stderr).trim_end());
    ExitCode::from(Error::from(failure.clone()).exit_code())
}

/// Says something that is neither data nor a failure.
pub fn note(text: &str) {
    say(text);
}

/// From now on a panic, which is a fault of lith by definition, is said as one and ends the process with its exit code.
/// For commands of a person; the daemon aborts, and what supervises it starts another.
pub fn end_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.payload_as_str().unwrap_or("without a word");
        let place = panic.location().map_or(String::new(), |place| format!(" at {place}"));
        let hint = format!("report it with these words; `lith explain {}` says more", Code::Internal);
        let failure = Failure::new(Code::Internal, format!("lith has failed{place}: {text}")).hint(hint);
        say(failure_text(&failure, &[], Terminal::ask(false).stderr).trim_end());
        end(exit::FAULT);
    }));
}

/// Ends the process at once.
#[expect(
    clippy::disallowed_methods,
    reason = "after a panic there is no way back to main, and abort has no exit code"
)]
fn end(code: u8) -> ! {
    std::process::exit(i32::from(code))
}

async fn execute(context: &Context, command: Command) -> Result<u8, Error> {
    match command {
        Command::Deploy(args) => deploy::deploy(context, &args).await,
        Command::Plan(args) => deploy::plan(context, &args).await,
        Command::Check(args) => convert::check(context, &args),
        Command::Convert(args) => convert::convert(context, &args),
        Command::Fmt(args) => format::format(context, &args),
        Command::Schema => convert::schema(context),
        Command::Ps(args) => list::ps(context, &args).await,
        Command::Stats(args) => stats::stats(context, &args).await,
        Command::Job(JobCommand::Ls) => list::jobs(context).await,
        Command::Job(JobCommand::Show { job }) => list::show(context, &job).await,
        Command::Job(JobCommand::Blocked(args)) => blocked::blocked(context, &args).await,
        Command::Job(JobCommand::Learn(args)) => learn::learn(context, &args).await,
        Command::Logs(args) => logs::logs(context, &args).await,
        Command::Exec(args) => exec::exec(context, &args).await,
        Command::Cp(args) => cp::copy(context, &args).await,
        Command::Stop(args) => ask::ask(context, Ask::Stop, &args).await,
        Command::Start(args) => ask::ask(context, Ask::Start, &args).await,
        Command::Restart(args) => ask::ask(context, Ask::Restart, &args).await,
        Command::Rm(args) => ask::remove(context, &args).await,
        Command::Image(command) => image::image(context, &command).await,
        Command::Volume(command) => volume::volume(context, &command).await,
        Command::Pool(PoolCommand::Ls) => pool::list(context).await,
        Command::Registry(command) => registry::registry(context, &command).await,
        Command::Events(args) => events::events(context, &args).await,
        Command::Version => version(context).await,
        Command::Explain { code } => explain::explain(context, &code),
        Command::Completion { shell } => complete::script(shell),
        Command::Names { kind } => complete::names(context, kind).await,
    }
}

/// The version of both; a server that does not run is no failure here.
async fn version(context: &Context) -> Result<u8, Error> {
    let client = env!("CARGO_PKG_VERSION");
    let server: Option<Version> = context.client.get("/v1/version").await.ok();
    if context.json {
        context.print_json(&serde_json::json!({ "client": client, "server": server }))?;
        return Ok(exit::DONE);
    }
    let server = match server {
        Some(server) => format!("{} (node {}, process {})", server.version, server.node, server.pid),
        None => "not running, or not for this user".to_owned(),
    };
    context.print(&format!("client  {client}\nserver  {server}\n"))?;
    Ok(exit::DONE)
}
