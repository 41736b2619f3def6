//! How long a person waits for a task: from the command to its first answer, and what of it is the machine's boot.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::instance::{self, Instance};
use super::{EMULATED, Figure, Outcome, median, processes};

/// Odd, so that there is a middle one.
const RUNS: usize = 5;

pub(super) fn measure(root: &Path) -> Result<Outcome> {
    let instance = Instance::start(root)?;
    instance.load_hello(root)?;
    let (mut boots, mut deploys) = (Vec::new(), Vec::new());
    let mut is_emulated = true;
    for run in 0..RUNS {
        deploys.push(instance.deploy_hello(instance::free_port()?)?);
        let boot = boot(&instance)?;
        boots.push(boot.seconds);
        is_emulated = boot.is_emulated;
        println!("run {}: boot {:.2} s, serving after {:.2} s", run + 1, boots[run], deploys[run]);
        instance.lith(&["rm", "hello"])?;
    }
    println!("accelerator: {}", if is_emulated { "none, guests are emulated (TCG)" } else { "KVM" });
    Ok(Outcome::Measured(vec![
        Figure { name: EMULATED, value: f64::from(u8::from(is_emulated)) },
        Figure { name: "boot.to_init_s", value: median(boots) },
        Figure { name: "deploy.to_serving_s", value: median(deploys) },
    ]))
}

/// The boot of the running task.
struct Boot {
    /// From the start of the VMM's process to that of the image's: a little more than until PID 1, never less.
    seconds: f64,
    /// Whether the VMM is without an accelerator.
    is_emulated: bool,
}

fn boot(instance: &Instance) -> Result<Boot> {
    let status = instance.lith_json(&["ps"])?;
    let running_ms =
        find_number(&status, "running_since_ms").context("lith ps --json names no running task")?;
    let all = processes::list()?;
    let shims = instance.shims(&all).into_iter();
    let vmm = shims.flat_map(|shim| processes::tree(&all, shim.pid)).find(processes::Process::is_vmm);
    let vmm = vmm.context("the running task has no VMM")?;
    let now_s =
        SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs_f64();
    let vmm_started_s = now_s - (processes::uptime_s()? - vmm.started_s);
    let seconds = running_ms / 1000.0 - vmm_started_s;
    // Another clock than ours, or another process than the first: no figure.
    if seconds <= 0.0 {
        bail!("the image's process is said to have started {seconds:.3} s after its machine");
    }
    Ok(Boot { seconds, is_emulated: !processes::command_line(vmm.pid).contains("-accel kvm") })
}

/// The first number under a key, however deep: the figure must not break when a list gets an envelope.
fn find_number(value: &Value, key: &str) -> Option<f64> {
    match value {
        Value::Object(fields) => {
            let own = fields.get(key).and_then(Value::as_f64);
            own.or_else(|| fields.values().find_map(|field| find_number(field, key)))
        }
        Value::Array(items) => items.iter().find_map(|item| find_number(item, key)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_found_in_depth() {
        let value = json!({ "tasks": [{ "id": "x" }, { "running_since_ms": 12 }] });
        assert_eq!(find_number(&value, "running_since_ms"), Some(12.0));
        assert_eq!(find_number(&value, "absent"), None);
    }
}
