//! What lith costs while nothing happens: the daemon alone, then the processes of one task.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::instance::{self, Instance};
use super::{Figure, Outcome, processes};

/// The daemon settles, and then is watched, for this long.
const WATCH: Duration = Duration::from_secs(60);

pub(super) fn measure(root: &Path) -> Result<Outcome> {
    let instance = Instance::start(root)?;
    println!("watching an idle daemon for {} s", WATCH.as_secs());
    let cpu_s = || -> Result<f64> {
        let own = processes::list()?.into_iter().find(|process| process.pid == instance.pid());
        Ok(own.context("lith up is gone")?.cpu_s)
    };
    // The last half only: what it does at its start is not idling.
    std::thread::sleep(WATCH / 2);
    let before = cpu_s()?;
    std::thread::sleep(WATCH / 2);
    let cpu_percent = (cpu_s()? - before) / (WATCH / 2).as_secs_f64() * 100.0;
    let up_rss = processes::rss_mb(instance.pid())?;

    instance.load_hello(root)?;
    instance.deploy_hello(instance::free_port()?)?;
    // After the burst of starting: free pages go back to the host in the background.
    std::thread::sleep(WATCH / 4);
    let all = processes::list()?;
    let shims = instance.shims(&all);
    let shim = shims.first().context("the running task has no shim")?;
    let (mut vmm_mb, mut others_mb) = (0.0, 0.0);
    for process in processes::tree(&all, shim.pid) {
        let megabytes = processes::rss_mb(process.pid)?;
        if process.is_vmm() { vmm_mb += megabytes } else { others_mb += megabytes }
    }
    Ok(Outcome::Measured(vec![
        Figure { name: "idle.up_rss_mb", value: up_rss },
        Figure { name: "idle.cpu_percent", value: cpu_percent },
        Figure { name: "idle.per_task_rss_mb", value: others_mb },
        Figure { name: "idle.vm_rss_mb", value: vmm_mb },
    ]))
}
