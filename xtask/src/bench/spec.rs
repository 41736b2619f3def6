//! Figures of reading Compose files: real ones, which are other people's and stand beside the project. The measured
//! program is a process of its own; what reads one file for its peak memory is another.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Figure, Outcome, build_release};
use crate::{process, target_dir};

/// Names the corpus's folder; without it, it is looked for beside the project.
const CORPUS: &str = "LITH_COMPOSE_CORPUS";
const BESIDE: &str = "../shared/compose-corpus";
const KIBIBYTE: f64 = 1024.0;
const MEGABYTE: f64 = 1_000_000.0;

/// Builds the measured program.
pub(super) fn prepare(root: &Path) -> Result<()> {
    build_release(root, &["--package", "lith-spec", "--example", "corpus"])
}

/// The folder of real Compose files, or that there is none.
pub(crate) fn corpus(root: &Path) -> std::result::Result<PathBuf, String> {
    let folder = std::env::var_os(CORPUS).map_or_else(|| root.join(BESIDE), PathBuf::from);
    if folder.join("manifest.tsv").is_file() {
        return Ok(folder);
    }
    Err(format!("there is no corpus of Compose files at {}: set {CORPUS}", folder.display()))
}

pub(super) fn measure(root: &Path) -> Result<Outcome> {
    let folder = match corpus(root) {
        Ok(folder) => folder,
        Err(why) => return Ok(Outcome::Skipped(why)),
    };
    let program = target_dir(root).join("release/examples/corpus");
    let all = run(Command::new(&program).arg(&folder))?;
    let largest = all["largest"].as_str().context("the measured program names no largest file")?;
    println!(
        "{} files, {:.3} ms each; slowest {} with {:.2} ms; largest {largest} with {} bytes",
        all["files"],
        number(&all, "check_ms")?,
        all["slowest"].as_str().unwrap_or("?"),
        number(&all, "slowest_ms")?,
        all["largest_bytes"],
    );
    let one = run(Command::new(&program).arg(&folder).arg(largest))?;
    Ok(Outcome::Measured(vec![
        Figure { name: "spec.check_ms", value: number(&all, "check_ms")? },
        Figure { name: "spec.slowest_ms", value: number(&all, "slowest_ms")? },
        Figure { name: "spec.corpus_converted_percent", value: number(&all, "converted_percent")? },
        Figure { name: "spec.corpus_all_converted_percent", value: number(&all, "all_converted_percent")? },
        Figure { name: "spec.rss_mb", value: number(&one, "peak_rss_kib")? * KIBIBYTE / MEGABYTE },
    ]))
}

/// What the measured program prints.
fn run(command: &mut Command) -> Result<Value> {
    let printed = process::output(command)?;
    serde_json::from_slice(&printed).context("the measured program prints no JSON")
}

fn number(found: &Value, name: &str) -> Result<f64> {
    found[name].as_f64().with_context(|| format!("the measured program prints no {name}"))
}
