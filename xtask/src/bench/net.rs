//! What the network policy costs: measured by programs of `lith-net` and `lith-dns` in namespaces of their own.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Figure, Outcome, build_release};
use crate::{process, target_dir};

pub(super) fn prepare(root: &Path) -> Result<()> {
    build_release(root, &["-p", "lith-node", "--bin", "lith"])?;
    build_release(root, &["-p", "lith-net", "--example", "figures"])?;
    build_release(root, &["-p", "lith-dns", "--example", "resolver_figures"])
}

pub(super) fn measure(root: &Path) -> Result<Outcome> {
    if process::find("iperf3").is_none() {
        return Ok(Outcome::Skipped("iperf3 (Debian: iperf3)".to_owned()));
    }
    let names = run(root, "resolver_figures")?;
    let lost = names.get("lost").and_then(Value::as_u64);
    anyhow::ensure!(lost == Some(0), "the resolver left questions without an answer: {names}");
    let net = run(root, "figures")?;
    let value = |pointer: &str| {
        let value = net.pointer(pointer).or_else(|| names.pointer(pointer)).and_then(Value::as_f64);
        value.with_context(|| format!("{pointer} was not measured"))
    };
    println!("one connection between two tasks, without rules: {:.1} Gbit/s", value("/paths/bare_gbit")?);
    Ok(Outcome::Measured(vec![
        Figure { name: "net.same_node_ratio", value: value("/paths/ratio")? },
        Figure { name: "net.same_node_direct_ratio", value: value("/paths/direct_ratio")? },
        Figure { name: "net.connect_added_us", value: value("/paths/connect_added_us")? },
        Figure { name: "net.rules_apply_ms", value: value("/rules/rules_ms")? },
        Figure { name: "net.rules_again_ms", value: value("/rules/rules_again_ms")? },
        Figure { name: "net.apply_ms", value: value("/rules/apply_ms")? },
        Figure { name: "net.rules_one_more_ms", value: value("/rules/rules_one_more_ms")? },
        Figure { name: "net.one_more_ms", value: value("/rules/one_more_ms")? },
        Figure { name: "net.dns_us_p99", value: value("/p99_us")? },
    ]))
}

fn run(root: &Path, example: &str) -> Result<Value> {
    let program = target_dir(root).join("release/examples").join(example);
    // One of them starts the product, the other one takes no argument.
    let lith = target_dir(root).join("release/lith");
    let output = Command::new(&program)
        .arg(lith)
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    anyhow::ensure!(output.status.success(), "{example}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).with_context(|| format!("{example} prints no JSON"))
}
