//! `lith up`: server and agent in one process, a cluster of one without configuration.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lith_api::agent::{Desired, Observed};
use lith_api::error::{Code, Failure};
use lith_api::node::Down;
use lith_cli::UpArgs;
use lith_core::name::{NodeName, nearest_label};
use lith_net::GuestNetwork;
use lith_store::Store;
use lith_vmm::durable;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use crate::agent::{Agent, AgentConfig, DrainError, Ends, Waker};
use crate::alone::Alone;
use crate::doctor::Doctor;
use crate::http::{self, Context};
use crate::images::Images;
use crate::layout::Layout;
use crate::lock::Lock;
use crate::server::Server;
use crate::server::restore::Unended;
use crate::{clock, down, look, pools, purge, volumes};
use lith_core::chain::chain;

/// Threads that serve requests. Nothing in them computes: two are enough for one slow answer not to hold up others.
const WORKERS: usize = 2;
/// Threads for blocking work at most: followed logs take one each.
const BLOCKING_THREADS_MAX: usize = 64;
/// An idle blocking thread ends after this, so that an idle daemon is small.
const THREAD_KEEP_ALIVE: Duration = Duration::from_secs(2);
/// What is logged when nobody says.
const LOG_DEFAULT: &str = "info";
/// Between two looks for removed volumes whose time is over.
const REMOVED_INTERVAL: Duration = Duration::from_secs(3600);
/// How long clients may take to read the last word of a daemon that was asked to end.
const GOODBYE_DEADLINE: Duration = Duration::from_secs(1);

/// Runs the daemon until it is told to end.
///
/// # Errors
/// When it cannot start.
pub fn up(args: &UpArgs) -> Result<(), Failure> {
    require_root()?;
    let filter = log_filter(args.log.as_deref())?;
    let layout = prepare(&args.data_dir, &args.run_dir)?.with_pools(pools::parse(&args.pools)?);
    let lock = Lock::take(&layout.lock())?;
    let alone = Alone::take()?;
    start_log(filter);
    raise_open_files();
    let config = config(args, layout)?;
    keep_name(&config)?;
    let layout = config.layout.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_keep_alive(THREAD_KEEP_ALIVE)
        .enable_all()
        .build()
        .map_err(|error| machine("cannot start threads", &error))?;
    let ended = runtime.block_on(serve(config));
    runtime.shutdown_background();
    if ended? == Ended::Down {
        purge::run_folder(&layout)?;
    }
    drop((lock, alone));
    tracing::info!("lith is down");
    Ok(())
}

/// Why the daemon ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// A signal: tasks go on, and the next `lith up` finds them.
    Signal,
    /// `lith down`: nothing runs any more.
    Down,
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
    let node = node_name(&layout, args.node.as_deref())?;
    Ok(AgentConfig { node, layout, network, kernels, trusts_database: args.trust_database })
}

/// The node's name: the one of its first start, for its allocs are placed by it, whatever the host is called now.
fn node_name(layout: &Layout, given: Option<&str>) -> Result<NodeName, Failure> {
    let path = layout.name();
    let kept = match std::fs::read_to_string(&path) {
        Ok(text) => Some(text.trim().parse::<NodeName>().map_err(|error| {
            Failure::new(Code::Machine, format!("{} is damaged: {}", path.display(), chain(&error)))
                .hint("write the node's name into it, as `lith ps --json` showed it")
        })?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(machine(&format!("cannot read {}", path.display()), &error)),
    };
    let given = given.map(|name| {
        name.parse::<NodeName>().map_err(|error| {
            Failure::new(Code::Invalid, format!("the node cannot be called \"{name}\": {}", chain(&error)))
        })
    });
    match (kept, given.transpose()?) {
        (Some(kept), Some(given)) if kept != given => {
            let message = format!("this node is called \"{kept}\" and cannot be called \"{given}\"");
            Err(Failure::new(Code::Conflict, message)
                .hint("leave out `--node` (LITH_NODE): a node keeps the name of its first start"))
        }
        (Some(name), _) | (None, Some(name)) => Ok(name),
        (None, None) => Ok(host_name()),
    }
}

fn host_name() -> NodeName {
    let uname = rustix::system::uname();
    let host = uname.nodename().to_string_lossy();
    let first = host.split('.').next().unwrap_or_default();
    let label = nearest_label(first).unwrap_or_else(|| "node".to_owned());
    label.parse().expect("the nearest label is one")
}

fn keep_name(config: &AgentConfig) -> Result<(), Failure> {
    let path = config.layout.name();
    durable::write(&path, format!("{}\n", config.node).as_bytes(), 0o600)
        .map_err(|error| machine(&format!("cannot write {}", path.display()), &error))
}

/// What is to be logged.
///
/// # Errors
/// When the filter cannot be read.
pub fn log_filter(given: Option<&str>) -> Result<EnvFilter, Failure> {
    let text = given.unwrap_or(LOG_DEFAULT);
    EnvFilter::try_new(text).map_err(|error| {
        Failure::new(Code::Invalid, format!("the log filter \"{text}\" cannot be read: {}", chain(&error)))
            .hint("give `--log` (LITH_LOG) a level such as `info`, or `warn,lith_net=debug`")
    })
}

fn start_log(filter: EnvFilter) {
    let is_terminal = io::IsTerminal::is_terminal(&io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(is_terminal).init();
}

/// Lets this process open as many files as it may: a shell gives 1,024 at first, which is few for a hundred tasks.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    if let Err(error) = raised {
        tracing::warn!(%error, "no more than {:?} files can be open", limit.current);
    }
}

/// Deletes volumes whose time after their removal is over.
async fn sweep_removed(layout: Layout) {
    let mut interval = tokio::time::interval(REMOVED_INTERVAL);
    loop {
        interval.tick().await;
        let layout = layout.clone();
        let swept =
            tokio::task::spawn_blocking(move || volumes::sweep_removed(&layout, clock::now().0)).await;
        if let Ok(Err(error)) = swept {
            tracing::warn!(%error, "removed volumes cannot be deleted");
        }
    }
}

/// Remembers the volumes that are there: those of a lith that did not, and those that a person has put there.
fn remember_volumes(layout: &Layout) {
    let found = volumes::list_readable(layout);
    let with_disks = found.iter().filter(|found| found.size_bytes.is_some());
    let noted = volumes::made::note_all(layout, with_disks.map(|found| (&found.id, &found.pool)));
    if let Err(error) = noted {
        // None is made anew meanwhile.
        tracing::error!(error, "the volumes that are there are not remembered");
    }
}

async fn serve(config: AgentConfig) -> Result<Ended, Failure> {
    let layout = config.layout.clone();
    let images =
        Images::open(&layout.images()).map_err(|error| machine("cannot open the image store", &error))?;
    look::sweep(&layout);
    volumes::sweep(&layout);
    remember_volumes(&layout);
    let node = config.node.clone();
    let doctor = Arc::new(Doctor::new(&config));
    let runtime = tokio::runtime::Handle::current();
    let trusts_database = config.trusts_database;
    let (agent, ends) = Agent::new(config, images.clone(), runtime).map_err(|error| damaged(&error))?;
    let Ends { desired, observed, handle, waker, blocked } = ends;
    // Held before anything starts, and ended when the API can tell of it.
    let unended = Unended::find(&handle);
    tokio::spawn(sweep_removed(layout.clone()));
    // The agent first, from its own disk: what should run runs, whatever becomes of the server.
    let mut agent_ended = start_agent(agent)?;
    let server = start_server(&layout, node.clone(), desired, observed.clone(), &waker, trusts_database);
    if let Ok(server) = &server {
        tokio::spawn(Arc::clone(server).narrate_blocked(blocked));
    }
    if let Some(unended) = unended {
        tokio::spawn(unended.end(handle.clone(), server.as_ref().ok().cloned()));
    }
    let (ask, mut asked) = tokio::sync::mpsc::channel(1);
    let (outcome, outcome_watch) = tokio::sync::watch::channel(None);
    let down = http::Down { ask, observed, outcome: outcome_watch };
    let images = images.waking(waker.clone());
    let data_dir = layout.data.display().to_string();
    let context = Context { server, agent: handle, images, node: node.to_string(), data_dir, down, doctor };
    let socket = layout.socket();
    let listener = http::listen(&socket)
        .map_err(|error| machine(&format!("cannot listen on {}", socket.display()), &error))?;
    tracing::info!(socket = %socket.display(), %node, "lith is up");
    let (close, closing) = tokio::sync::oneshot::channel::<()>();
    let serving = axum::serve(listener, http::router(context)).with_graceful_shutdown(async move {
        // That its sender is gone means the same.
        let _ = closing.await;
    });
    let mut api = tokio::spawn(serving.into_future());
    let result = tokio::select! {
        ended = &mut api => return Err(Failure::new(Code::Internal, format!("the API ended: {ended:?}"))),
        ended = &mut agent_ended => return Err(agent_lost(ended)),
        result = ended_by_signal() => {
            result?;
            tracing::info!("ending; tasks go on running, `lith down` stops them");
            return Ok(Ended::Signal);
        }
        _ = asked.recv() => drain(&waker, &mut agent_ended).await,
    };
    outcome.send_replace(Some(match &result {
        Ok(()) => Down::Stopped,
        Err(failure) => Down::Failed { failure: failure.clone() },
    }));
    drop(close);
    // Those who follow events or logs would keep it open for ever.
    let _ = tokio::time::timeout(GOODBYE_DEADLINE, api).await;
    result.map(|()| Ended::Down)
}

type AgentEnded = tokio::sync::oneshot::Receiver<Result<(), DrainError>>;

fn start_agent(agent: Agent) -> Result<AgentEnded, Failure> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("agent".to_owned())
        .spawn(move || {
            // Nobody listens any more when the daemon has ended.
            let _ = sender.send(agent.run());
        })
        .map_err(|error| machine("cannot start the agent", &error))?;
    Ok(receiver)
}

fn agent_lost(ended: Result<Result<(), DrainError>, tokio::sync::oneshot::error::RecvError>) -> Failure {
    match ended {
        Ok(Err(error)) => down::gave_up(&error),
        Ok(Ok(())) | Err(_) => Failure::new(Code::Internal, "the agent ended"),
    }
}

/// The server, or why there is none: then the agent goes on with what it was told last, and whoever asks the server gets
/// this answer.
fn start_server(
    layout: &Layout,
    node: NodeName,
    desired: watch::Sender<Arc<Desired>>,
    observed: watch::Receiver<Arc<Observed>>,
    waker: &Waker,
    trusts_database: bool,
) -> Result<Arc<Server>, Failure> {
    let wake = waker.clone();
    let mut wanted = desired.subscribe();
    tokio::spawn(async move {
        while wanted.changed().await.is_ok() {
            wake.wake();
        }
    });
    let kept = Arc::clone(&desired.borrow());
    let opened = Store::open(&layout.database()).and_then(|mut store| {
        let world = store.world()?;
        let is_followed = kept.is_followed_by(&world.cluster, world.version);
        if trusts_database && !is_followed {
            tracing::warn!(
                "the database is followed, though this node's tasks came from another or a later one"
            );
            store.raise_version(kept.version)?;
        }
        Ok((store, is_followed || trusts_database))
    });
    let server = match opened {
        Ok((_, false)) => return Err(unknown_database(layout)),
        Ok((store, true)) => Server::new(store, node, desired, observed),
        Err(error) => Err(error),
    };
    match server {
        Ok(server) => {
            let server = Arc::new(server);
            tokio::spawn(Arc::clone(&server).narrate());
            Ok(server)
        }
        Err(error) => {
            tracing::error!(error = %chain(&error), "the server cannot start; tasks go on without it");
            let message = format!("the server cannot start: {}", chain(&error));
            Err(Failure::new(Code::Machine, message)
                .hint(format!("tasks go on without it; {}", error.hint())))
        }
    }
}

/// The database is new, or older than what this node has been told: its word would remove tasks and their disks.
fn unknown_database(layout: &Layout) -> Failure {
    tracing::error!(
        "the database is not the one that this node's tasks came from; they go on without a server"
    );
    let message =
        "the server cannot start: its database is new, or an older copy, and does not know this node's tasks";
    Failure::new(Code::Machine, message).hint(format!(
        "tasks go on without it; put the right {} back, or start once with `lith up --trust-database`: what that \
         database does not declare is then stopped and removed, with its disks",
        layout.database().display()
    ))
}

/// Stops every task. A signal meanwhile ends the daemon at once: what still stops is found by the next command.
async fn drain(waker: &Waker, agent_ended: &mut AgentEnded) -> Result<(), Failure> {
    tracing::info!("stopping every task");
    waker.drain();
    tokio::select! {
        ended = agent_ended => match ended {
            Ok(Ok(())) => Ok(()),
            ended => {
                let failure = agent_lost(ended);
                tracing::error!(error = %failure.message, "giving up");
                Err(failure)
            }
        },
        result = ended_by_signal() => {
            result?;
            let failure = Failure::new(Code::Conflict, "the daemon was ended before every task had stopped");
            Err(failure.hint("run `lith down` again: it goes on where this one stopped"))
        }
    }
}

/// Waits for a signal to end.
async fn ended_by_signal() -> Result<(), Failure> {
    let failed = |error| machine("cannot listen for signals", &error);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    Ok(())
}

fn machine(what: &str, error: &dyn std::error::Error) -> Failure {
    Failure::new(Code::Machine, format!("{what}: {}", chain(error))).hint("see `lith doctor`")
}

fn damaged(error: &dyn std::error::Error) -> Failure {
    Failure::new(Code::Internal, chain(error))
        .hint("nothing was changed; restore the file from a backup, or move it away to start without it")
}

/// The arguments of a daemon of which only folders are known.
#[must_use]
pub fn defaults(data_dir: &Path, run_dir: &Path, kernel: Option<&Path>) -> UpArgs {
    UpArgs {
        data_dir: data_dir.to_owned(),
        run_dir: run_dir.to_owned(),
        node: None,
        guest_network: GuestNetwork::default().base(),
        kernel: kernel.map(Path::to_owned),
        pools: vec![],
        trust_database: false,
        detach: false,
        manner: lith_cli::Manner::default(),
        log: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_keeps_the_name_of_its_first_start() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path(), folder.path());
        std::fs::create_dir(layout.node()).unwrap();
        assert_eq!(node_name(&layout, None).unwrap(), host_name());
        let args = UpArgs { node: Some("odin".to_owned()), ..defaults(folder.path(), folder.path(), None) };
        keep_name(&config(&args, layout.clone()).unwrap()).unwrap();
        assert_eq!(
            node_name(&layout, None).unwrap().as_str(),
            "odin",
            "the host may be called otherwise now"
        );
        assert_eq!(node_name(&layout, Some("odin")).unwrap().as_str(), "odin");
        let failure = node_name(&layout, Some("thor")).unwrap_err();
        assert_eq!(failure.message, "this node is called \"odin\" and cannot be called \"thor\"");
        assert!(failure.hint.unwrap().contains("leave out `--node`"));
        std::fs::write(layout.name(), "no name").unwrap();
        assert!(node_name(&layout, None).unwrap_err().message.contains("is damaged"));
    }

    #[test]
    fn a_log_filter_that_cannot_be_read_is_refused() {
        assert!(log_filter(None).is_ok() && log_filter(Some("warn,lith_net=debug")).is_ok());
        let failure = log_filter(Some("lith=nonsense")).unwrap_err();
        assert!(failure.message.contains("lith=nonsense") && failure.hint.is_some(), "{failure:?}");
    }
}
