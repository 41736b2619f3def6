//! `lith up`: server and agent in one process, a cluster of one without configuration.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lith_api::error::{Code, Failure};
use lith_cli::UpArgs;
use lith_core::name::{NodeName, nearest_label};
use lith_net::GuestNetwork;
use lith_store::Store;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::agent::{Agent, AgentConfig, Ends};
use crate::chain::chain;
use crate::doctor::Doctor;
use crate::http::{self, Context};
use crate::images::Images;
use crate::layout::Layout;
use crate::lock::Lock;
use crate::server::Server;

/// Threads that serve requests. Nothing in them computes: two are enough for one slow answer not to hold up others.
const WORKERS: usize = 2;
/// Threads for blocking work at most: followed logs take one each.
const BLOCKING_THREADS_MAX: usize = 64;
/// An idle blocking thread ends after this, so that an idle daemon is small.
const THREAD_KEEP_ALIVE: Duration = Duration::from_secs(2);
/// What is logged when nobody says.
const LOG_DEFAULT: &str = "info";

/// Runs the daemon until it is told to end.
///
/// # Errors
/// When it cannot start.
pub fn up(args: &UpArgs) -> Result<(), Failure> {
    require_root()?;
    let layout = prepare(&args.data_dir, &args.run_dir)?;
    let _lock = Lock::take(&layout.lock())?;
    start_log(args.log.as_deref());
    let config = config(args, layout)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_keep_alive(THREAD_KEEP_ALIVE)
        .enable_all()
        .build()
        .map_err(|error| machine("cannot start threads", &error))?;
    let result = runtime.block_on(serve(config));
    runtime.shutdown_background();
    result
}

/// Refuses to go on without root, which TAPs, mounts and other users' processes need.
///
/// # Errors
/// When the caller is not root.
pub fn require_root() -> Result<(), Failure> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let failure = Failure::new(Code::Machine, "lith must run as root: it makes network devices and jails");
    Err(failure.hint("run it with sudo, or as a system service"))
}

/// Makes the folders, readable by root alone: they hold what apps keep and what environments say.
///
/// # Errors
/// When one cannot be made.
pub fn prepare(data: &Path, run: &Path) -> Result<Layout, Failure> {
    let layout = Layout::new(&absolute(data)?, &absolute(run)?);
    for folder in
        [&layout.data, &layout.run, &layout.server(), &layout.node(), &layout.boot(), &layout.images()]
    {
        make_folder(folder).map_err(|error| machine(&format!("cannot make {}", folder.display()), &error))?;
    }
    Ok(layout)
}

/// The path from the root, for a daemon whose working directory is another one.
///
/// # Errors
/// When the working directory is gone.
pub fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| machine(&format!("cannot find {}", path.display()), &error))
}

fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The agent's configuration from what was said on the command line and what the machine says.
///
/// # Errors
/// When a value is not allowed.
pub fn config(args: &UpArgs, layout: Layout) -> Result<AgentConfig, Failure> {
    let network = GuestNetwork::new(args.guest_network).ok_or_else(|| {
        let message = format!("{} cannot be the base of the guests' network", args.guest_network);
        Failure::new(Code::Invalid, message)
            .hint("give the first address of a private /16, such as 10.83.0.0")
    })?;
    let kernels = match &args.kernel {
        // Absolute, for the daemon's own working directory is another one.
        Some(kernel) => vec![absolute(kernel)?],
        None => vec![layout.kernel(), PathBuf::from("/")],
    };
    Ok(AgentConfig { node: node_name(args.node.as_deref())?, layout, network, kernels })
}

fn node_name(given: Option<&str>) -> Result<NodeName, Failure> {
    if let Some(name) = given {
        return name.parse().map_err(|error| {
            Failure::new(Code::Invalid, format!("the node cannot be called \"{name}\": {}", chain(&error)))
        });
    }
    let uname = rustix::system::uname();
    let host = uname.nodename().to_string_lossy();
    let first = host.split('.').next().unwrap_or_default();
    let label = nearest_label(first).unwrap_or_else(|| "node".to_owned());
    Ok(label.parse().expect("the nearest label is one"))
}

fn start_log(filter: Option<&str>) {
    let filter =
        EnvFilter::try_new(filter.unwrap_or(LOG_DEFAULT)).unwrap_or_else(|_| EnvFilter::new(LOG_DEFAULT));
    let is_terminal = io::IsTerminal::is_terminal(&io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(is_terminal).init();
}

async fn serve(config: AgentConfig) -> Result<(), Failure> {
    let layout = config.layout.clone();
    let images =
        Images::open(&layout.images()).map_err(|error| machine("cannot open the image store", &error))?;
    let node = config.node.clone();
    let doctor = Arc::new(Doctor::new(&config));
    let runtime = tokio::runtime::Handle::current();
    let (agent, ends) = Agent::new(config, images.clone(), runtime).map_err(|error| damaged(&error))?;
    let Ends { desired, observed, handle, waker } = ends;
    let store = Store::open(&layout.database()).map_err(|error| damaged(&error))?;
    let wake = waker.clone();
    let mut wanted = desired.subscribe();
    tokio::spawn(async move {
        while wanted.changed().await.is_ok() {
            wake.wake();
        }
    });
    let server = Server::new(store, node.clone(), desired, observed).map_err(|error| damaged(&error))?;
    let server = Arc::new(server);
    let agent = std::thread::Builder::new()
        .name("agent".to_owned())
        .spawn(move || agent.run())
        .map_err(|error| machine("cannot start the agent", &error))?;
    tokio::spawn(Arc::clone(&server).narrate());
    let (down, mut asked_down) = tokio::sync::mpsc::channel(1);
    let images = images.waking(waker.clone());
    let context = Context { server, agent: handle, images, node: node.to_string(), down, doctor };
    let socket = layout.socket();
    let listener = http::listen(&socket)
        .map_err(|error| machine(&format!("cannot listen on {}", socket.display()), &error))?;
    tracing::info!(socket = %socket.display(), %node, "lith is up");
    let router = http::router(context);
    let api = tokio::spawn(async move { axum::serve(listener, router).await });
    let result = tokio::select! {
        ended = api => Err(Failure::new(Code::Internal, format!("the API ended: {ended:?}"))),
        result = ended_by_signal() => result,
        _ = asked_down.recv() => {
            tracing::info!("stopping every task");
            waker.drain();
            let ended = tokio::task::spawn_blocking(move || agent.join()).await;
            // Folders of a tmpfs; the next start makes them anew.
            let _ = std::fs::remove_dir_all(&layout.run);
            match ended {
                Ok(Ok(())) => Ok(()),
                _ => Err(Failure::new(Code::Internal, "the agent did not end well")),
            }
        }
    };
    if result.is_ok() {
        tracing::info!("lith is down");
    }
    result
}

/// Waits for a signal to end. Tasks go on: their supervisors are other processes, and the next `lith up` finds them.
async fn ended_by_signal() -> Result<(), Failure> {
    let failed = |error| machine("cannot listen for signals", &error);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    tracing::info!("ending; tasks go on running, `lith down` stops them");
    Ok(())
}

fn machine(what: &str, error: &dyn std::error::Error) -> Failure {
    Failure::new(Code::Machine, format!("{what}: {}", chain(error))).hint("see `lith doctor`")
}

fn damaged(error: &dyn std::error::Error) -> Failure {
    Failure::new(Code::Internal, chain(error))
        .hint("nothing was changed; restore the file from a backup, or move it away to start without it")
}

/// The arguments of a daemon of which only the folders are known.
#[must_use]
pub fn defaults(data_dir: &Path, run_dir: &Path) -> UpArgs {
    UpArgs {
        data_dir: data_dir.to_owned(),
        run_dir: run_dir.to_owned(),
        node: None,
        guest_network: GuestNetwork::default().base(),
        kernel: None,
        detach: false,
        manner: lith_cli::Manner::default(),
        log: None,
    }
}
