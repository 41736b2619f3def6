//! `lith`, the one executable: a person's commands, the daemon, and the supervisor of each task.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use lith_api::client::Client;
use lith_api::error::{Code, Failure};
use lith_cli::{DoctorArgs, DownArgs, Format, Invocation, Manner, Spinner};
use lith_node::doctor::Doctor;
use lith_node::layout::Layout;
use lith_node::{detach, disks, down, look, resolver, shim, up};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    // Before the grammar of all commands is built: a supervisor must stay small.
    if arguments.nth(1).is_some_and(|first| first == shim::SUBCOMMAND) {
        set_umask();
        let words = arguments.map(|word| word.to_string_lossy().into_owned());
        return lith_vmm::shim::main(&words.collect::<Vec<_>>());
    }
    let mut arguments = std::env::args_os();
    if arguments.nth(1).is_some_and(|first| first == disks::SUBCOMMAND) {
        set_umask();
        if disks::start_log().is_err() {
            return ExitCode::FAILURE;
        }
        let words = arguments.map(|word| word.to_string_lossy().into_owned());
        return lith_volume::service::main(&words.collect::<Vec<_>>());
    }
    let mut arguments = std::env::args_os();
    if arguments.nth(1).is_some_and(|first| first == look::SUBCOMMAND) {
        let words = arguments.map(|word| word.to_string_lossy().into_owned());
        return look::main(&words.collect::<Vec<_>>());
    }
    let mut arguments = std::env::args_os();
    if let Some(half) = arguments.nth(1).and_then(|first| resolver::Half::of(&first)) {
        set_umask();
        if disks::start_log().is_err() {
            return ExitCode::FAILURE;
        }
        let words = arguments.map(|word| word.to_string_lossy().into_owned());
        return resolver::main(half, &words.collect::<Vec<_>>());
    }
    let invocation = lith_cli::parse();
    if !matches!(&invocation, Invocation::Up(args) if !args.detach) {
        lith_cli::end_on_panic();
    }
    // The files that a person copies out of a task are made by that person's rules.
    if !matches!(invocation, Invocation::Client(_)) {
        set_umask();
    }
    match invocation {
        Invocation::Client(command) => lith_cli::run(command),
        Invocation::Up(args) if args.detach => finish(detach::up(&args), args.manner),
        Invocation::Up(args) => finish(up::up(&args), args.manner),
        Invocation::Down(args) => finish(run_down(&args), args.manner),
        Invocation::Doctor(args) => run_doctor(&args),
    }
}

/// What lith makes has the rights that it says, whoever's shell started it: a jailed VMM is another user, and must be
/// able to read what is meant for it.
fn set_umask() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
}

fn finish(result: Result<(), Failure>, manner: Manner) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => lith_cli::report(&failure, manner),
    }
}

fn run_doctor(args: &DoctorArgs) -> ExitCode {
    let examine = || {
        up::require_root()?;
        let layout = Layout::new(&up::absolute(&args.data_dir)?, &up::absolute(&args.run_dir)?);
        let _spinner = Spinner::new(args.manner.talk, "looking at this machine");
        // A daemon that runs knows best with which kernel and network it does.
        let runtime = runtime()?;
        match runtime.block_on(Client::new(&layout.socket()).get("/v1/doctor")) {
            Err(failure) if failure.code == Code::Unreachable => {}
            answer => return answer,
        }
        let config =
            up::config(&up::defaults(&args.data_dir, &args.run_dir, args.kernel.as_deref()), layout)?;
        Ok(Doctor::new(&config).examine_blocking())
    };
    let format = if args.json { Format::Json } else { Format::Text };
    match examine() {
        Ok(checks) => lith_cli::print_checks(&checks, format, args.manner),
        Err(failure) => lith_cli::report(&failure, args.manner),
    }
}

fn run_down(args: &DownArgs) -> Result<(), Failure> {
    if args.purge && !args.yes && !confirm(args)? {
        return Ok(());
    }
    let defaults = up::defaults(&args.data_dir, &args.run_dir, None);
    runtime()?.block_on(down::down(args, |layout| up::config(&defaults, layout)))
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.map_err(|error| Failure::new(Code::Machine, format!("cannot start threads: {error}")))
}

/// Asks whether the data may be deleted; without a terminal, nobody can say yes.
fn confirm(args: &DownArgs) -> Result<bool, Failure> {
    let mut terminal = std::io::stderr();
    if !std::io::stdin().is_terminal() || !terminal.is_terminal() {
        let message = format!("--purge deletes everything in {}", args.data_dir.display());
        return Err(Failure::new(Code::Invalid, message).hint("say `--yes` if that is meant"));
    }
    let question =
        format!("Delete everything in {}, with all jobs, disks and images? [y/N] ", args.data_dir.display());
    let mut answer = String::new();
    let asked =
        terminal.write_all(question.as_bytes()).and_then(|()| std::io::stdin().read_line(&mut answer));
    asked.map_err(|error| Failure::new(Code::Machine, format!("cannot ask: {error}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
