//! `lith down`: stops every task and the daemon, and removes what they had on the machine.
//!
//! With a daemon, it asks. Without one (it was killed, and the supervisors go on) it does the daemon's part itself, by
//! the same agent with nothing wanted.

use std::path::Path;
use std::time::Duration;

use lith_api::client::Client;
use lith_api::error::{Code, Failure};
use lith_api::node::Version;
use lith_cli::DownArgs;

use crate::agent::{Agent, AgentConfig};
use crate::chain::chain;
use crate::images::Images;
use crate::layout::Layout;
use crate::lock::Lock;
use crate::up;

/// How often the daemon's end is looked for.
const INTERVAL: Duration = Duration::from_millis(50);

/// Stops everything; with `purge`, deletes the data too.
///
/// # Errors
/// When something stays.
pub async fn down(
    args: &DownArgs,
    agent: impl FnOnce(Layout) -> Result<AgentConfig, Failure>,
) -> Result<(), Failure> {
    up::require_root()?;
    let layout = Layout::new(&args.data_dir, &args.run_dir);
    if !layout.data.exists() {
        return Ok(());
    }
    match Client::new(&layout.socket()).post::<Version>("/v1/down", &()).await {
        Ok(version) => wait_for_end(version.pid).await,
        Err(failure) if failure.code == Code::Unreachable => drain(agent(layout.clone())?).await?,
        Err(failure) => return Err(failure),
    }
    remove(&layout.run)?;
    if args.purge {
        remove(&layout.data)?;
    }
    Ok(())
}

/// Waits until the process is gone. Tasks have their grace, so that there is no deadline here: the daemon enforces
/// theirs.
async fn wait_for_end(pid: u32) {
    let process = format!("/proc/{pid}/stat");
    // A zombie has ended too; its parent only has not looked yet.
    let is_alive = || std::fs::read_to_string(&process).is_ok_and(|stat| !stat.contains(") Z "));
    while is_alive() {
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn drain(config: AgentConfig) -> Result<(), Failure> {
    let _lock = Lock::take(&config.layout.lock())?;
    let internal = |error: &dyn std::error::Error| Failure::new(Code::Internal, chain(error));
    let images = Images::open(&config.layout.images()).map_err(|error| internal(&error))?;
    let runtime = tokio::runtime::Handle::current();
    let (agent, ends) = Agent::new(config, images, runtime).map_err(|error| internal(&error))?;
    ends.waker.drain();
    tokio::task::spawn_blocking(move || agent.run()).await.map_err(|error| internal(&error))
}

fn remove(folder: &Path) -> Result<(), Failure> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            let message = format!("cannot remove {}: {error}", folder.display());
            Err(Failure::new(Code::Machine, message))
        }
        _ => Ok(()),
    }
}
