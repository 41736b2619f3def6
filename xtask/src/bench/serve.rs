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
    let (mut inits, mut processes, mut deploys) = (Vec::new(), Vec::new(), Vec::new());
    let mut is_emulated = true;
    for run in 0..RUNS {
        deploys.push(instance.deploy_hello(instance::free_port()?)?);
        let boot = boot(&instance)?;
        inits.push(boot.to_init_s);
        processes.push(boot.to_process_s);
        is_emulated = boot.is_emulated;
        println!(
            "run {}: PID 1 after {:.2} s, its process after {:.2} s, serving after {:.2} s",
            run + 1,
            inits[run],
            processes[run],
            deploys[run]
        );
        instance.lith(&["rm", "hello"])?;
    }
    println!("accelerator: {}", if is_emulated { "none, guests are emulated (TCG)" } else { "KVM" });
    Ok(Outcome::Measured(vec![
        Figure { name: EMULATED, value: f64::from(u8::from(is_emulated)) },
        Figure { name: "boot.to_init_s", value: median(inits) },
        Figure { name: "boot.to_process_s", value: median(processes) },
        Figure { name: "deploy.to_serving_s", value: median(deploys) },
    ]))
}

/// The boot of the running task.
struct Boot {
    /// From the start of the VMM's process to that of PID 1 in the guest.
    to_init_s: f64,
    /// The same to that of the image's process.
    to_process_s: f64,
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
    let to_process_s = running_ms / 1000.0 - vmm_started_s;
    let to_init_s = to_process_s - init_to_process_s(instance)?;
    // Another clock than ours, or another process than the first: no figure.
    if to_init_s <= 0.0 {
        bail!("PID 1 is said to have started {to_init_s:.3} s after its machine");
    }
    Ok(Boot {
        to_init_s,
        to_process_s,
        is_emulated: !processes::command_line(vmm.pid).contains("-accel kvm"),
    })
}

/// What the guest needs from PID 1 to the image's process, by its own clock: the kernel's log says when it ran `/init`, the
/// kernel when it made the process.
fn init_to_process_s(instance: &Instance) -> Result<f64> {
    let guest = |command: &[&str]| -> Result<String> {
        let bytes = instance.lith(&[&["exec", "hello", "--"], command].concat())?;
        String::from_utf8(bytes).context("the guest's answer is not UTF-8")
    };
    let log = guest(&["dmesg"])?;
    let init_s =
        log.lines().find_map(init_s).context("the log of the guest's kernel does not tell of /init")?;
    let stat = guest(&["cat", "/proc/1/stat"])?;
    let process_s = started_s(&stat).context("the guest's process has no start")?;
    Ok(process_s - init_s)
}

/// The time of `[    1.433712] Run /init as init process`.
fn init_s(line: &str) -> Option<f64> {
    let (time, text) = line.strip_prefix('[')?.split_once("] ")?;
    time.trim().parse().ok().filter(|_| text.starts_with("Run /init"))
}

/// When a process started, in seconds since the boot: field 22 of `/proc/PID/stat`, counted from behind the name, which
/// may hold anything.
fn started_s(stat: &str) -> Option<f64> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let ticks: f64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    Some(ticks / TICKS_PER_SECOND)
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

    #[test]
    fn the_guest_s_times_are_read() {
        assert_eq!(init_s("[    1.433712] Run /init as init process"), Some(1.433_712));
        assert_eq!(init_s("[    1.433712] Freeing unused kernel image"), None);
        assert_eq!(
            started_s("1 (a ) b) S 0 1 1 0 -1 4194560 52 0 15 0 0 9 0 0 20 0 1 0 193 2314240"),
            Some(1.93)
        );
        assert_eq!(started_s("1 (httpd) S 0"), None);
    }
}
