//! `lith down`: stops every task and the daemon, and removes what they had on the machine.
//!
//! With a daemon, it asks. Without one (it was killed, and the supervisors go on) it does the daemon's part itself, by
//! the same agent with nothing wanted. Data is deleted only with its lock held, and only in a folder that a daemon made.

use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use hyper::Method;
use lith_api::agent::Observed;
use lith_api::client::Client;
use lith_api::error::{Code, Failure};
use lith_api::node::{Down, Version};
use lith_api::task::Phase;
use lith_cli::{DownArgs, Spinner};
use tokio::sync::watch;

use crate::agent::{Agent, AgentConfig, DrainError};
use crate::alone::Alone;
use crate::images::Images;
use crate::layout::Layout;
use crate::lock::Lock;
use crate::{purge, up};
use lith_core::chain::chain;

/// How often the daemon's end is looked for.
const INTERVAL: Duration = Duration::from_millis(50);
/// Between the daemon's last word and its end it has nothing to do but to close its database.
const END_DEADLINE: Duration = Duration::from_secs(30);

/// Stops everything; with `purge`, deletes the data too.
///
/// # Errors
/// When something stays.
pub async fn down(
    args: &DownArgs,
    agent: impl FnOnce(Layout) -> Result<AgentConfig, Failure>,
) -> Result<(), Failure> {
    up::require_root()?;
    let layout = Layout::new(&up::absolute(&args.data_dir)?, &up::absolute(&args.run_dir)?);
    let spinner = Spinner::new(args.manner.talk, "stopping lith");
    ask(&layout, &spinner).await?;
    let has_data = layout.data.try_exists().map_err(|error| {
        Failure::new(Code::Machine, format!("cannot look at {}: {error}", layout.data.display()))
    })?;
    if !has_data {
        return Ok(());
    }
    if !purge::is_data_folder(&layout) {
        let message =
            format!("{} is no data folder of lith: `lith up` never ran there", layout.data.display());
        return Err(Failure::new(Code::Invalid, message)
            .hint("give `lith down` the same `--data-dir` (LITH_DATA_DIR) as `lith up`"));
    }
    let lock = Lock::take(&layout.lock()).map_err(elsewhere)?;
    let _alone = Alone::take()?;
    drain(agent(layout.clone())?, &spinner).await?;
    crate::agent::resolver::end(&layout)
        .map_err(|why| Failure::new(Code::Machine, format!("the resolver does not end: {why}")))?;
    purge::run_folder(&layout)?;
    if args.purge {
        spinner.say(&format!("deleting {}", layout.data.display()));
        let rest = purge::data_folder(&layout, lock)?;
        drop(spinner);
        if let Some(first) = rest.first() {
            let path = first.display();
            lith_cli::note(&format!("{} stays: {path} in it is not lith's", layout.data.display()));
        }
    }
    Ok(())
}

/// The folder's lock is held, but nobody answered at the socket.
fn elsewhere(failure: Failure) -> Failure {
    match failure.code {
        Code::Conflict => failure.hint("give `lith down` the same `--run-dir` (LITH_RUN_DIR) as `lith up`"),
        Code::Invalid
        | Code::NotFound
        | Code::Image
        | Code::NotRunning
        | Code::Unreachable
        | Code::Machine
        | Code::NotReady
        | Code::Internal => failure,
    }
}

/// Asks the daemon, if one answers, and returns when it has ended.
async fn ask(layout: &Layout, spinner: &Spinner) -> Result<(), Failure> {
    let client = Client::new(&layout.socket());
    let version = match client.get::<Version>("/v1/version").await {
        Err(failure) if failure.code == Code::Unreachable => return Ok(()),
        version => version?,
    };
    if Path::new(&version.data_dir) != layout.data {
        let message = format!(
            "the daemon at {} has its data in {}, not in {}",
            layout.socket().display(),
            version.data_dir,
            layout.data.display()
        );
        let hint = format!("stop that one with `lith down --data-dir {}`", version.data_dir);
        return Err(Failure::new(Code::Conflict, message).hint(hint));
    }
    // A daemon that goes away in the middle, killed or interrupted, leaves the rest to us.
    if let Ok(mut lines) = client.lines::<Down>(Method::POST, "/v1/down", None::<&()>).await {
        while let Some(Ok(line)) = lines.next().await {
            match line {
                Down::Stopping { tasks } => spinner.say(&stopping_words(&tasks)),
                Down::Stopped => break,
                Down::Failed { failure } => return Err(failure),
            }
        }
    }
    wait_for_end(version.pid).await
}

/// Waits until the process is gone.
async fn wait_for_end(pid: u32) -> Result<(), Failure> {
    let process = format!("/proc/{pid}/stat");
    // A zombie has ended too; its parent only has not looked yet.
    let is_alive = || std::fs::read_to_string(&process).is_ok_and(|stat| !stat.contains(") Z "));
    let end = async {
        while is_alive() {
            tokio::time::sleep(INTERVAL).await;
        }
    };
    tokio::time::timeout(END_DEADLINE, end).await.map_err(|_| {
        Failure::new(Code::Machine, format!("the daemon (process {pid}) does not end"))
            .hint("end it with `kill`, then run `lith down` again")
    })
}

/// Does the daemon's part. After a daemon that did it nothing is left to do, which is quick.
async fn drain(config: AgentConfig, spinner: &Spinner) -> Result<(), Failure> {
    let internal = |error: &dyn std::error::Error| Failure::new(Code::Internal, chain(error));
    let images = Images::open(&config.layout.images()).map_err(|error| internal(&error))?;
    let runtime = tokio::runtime::Handle::current();
    let (agent, ends) = Agent::new(config, images, runtime).map_err(|error| internal(&error))?;
    ends.waker.drain();
    let mut observed = ends.observed;
    let agent = tokio::task::spawn_blocking(move || agent.run());
    let show = async {
        while observed.changed().await.is_ok() {
            spinner.say(&stopping_words(&stopping(&observed)));
        }
        std::future::pending().await
    };
    let ended = tokio::select! { ended = agent => ended, () = show => unreachable!("it never ends") };
    ended.map_err(|error| internal(&error))?.map_err(|error| gave_up(&error))
}

/// Tasks that have not stopped yet, as the agent last saw them.
pub(crate) fn stopping(observed: &watch::Receiver<std::sync::Arc<Observed>>) -> Vec<String> {
    let is_alive = |phase: Phase| match phase {
        Phase::Starting | Phase::Running | Phase::Stopping => true,
        Phase::Waiting | Phase::Fetching | Phase::Stopped | Phase::Finished | Phase::Gone => false,
    };
    let observed = observed.borrow();
    observed.tasks.iter().filter(|task| is_alive(task.phase)).map(|task| task.id.clone()).collect()
}

fn stopping_words(tasks: &[String]) -> String {
    match tasks {
        [] => "removing the network".to_owned(),
        [task] => format!("waiting for task {task} to stop"),
        tasks => format!("waiting for {} tasks to stop: {}", tasks.len(), tasks.join(", ")),
    }
}

/// Why not everything was stopped, for a person.
pub(crate) fn gave_up(error: &DrainError) -> Failure {
    let failure = Failure::new(Code::Machine, format!("not everything was stopped: {}", chain(error)));
    failure.hint(error.hint().unwrap_or_else(|| "repair that, then run `lith down` again".to_owned()))
}
