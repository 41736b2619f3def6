//! The automation of the project: `cargo xtask <command>`. It owns what `make test` and `make bench` run, and builds
//! what the tests need. It must not depend on any crate of the product: it has to build in seconds, and it
//! judges them from outside.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for a person at a terminal")]

mod assets;
mod bench;
mod ci;
mod images;
mod process;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

const USAGE: &str = "\
cargo xtask <command>

  ci [--only STEP,...] [--skip STEP,...] [--list]
                       what `make test` runs, step by step, with timings; stops at the first failing step
  tidy                 the rules that no compiler checks (STYLE.md)
  assets               the guest kernel, into target/test-assets/kernel
  images [NAME...]     the test images, as OCI layout archives, into target/test-assets/images
  simulate [SEEDS [FROM]]
                       volumes on a simulated disk that loses, tears and fails; 1,000,000 seeds if nothing is said
  bench [NAME...]      the figures, into target/bench.json
  advisories           known vulnerabilities among the dependencies (needs the network)
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let root = workspace_root()?;
    let Some((command, rest)) = arguments.split_first() else {
        bail!("no command\n\n{USAGE}");
    };
    match command.as_str() {
        "ci" => ci::run(&root, rest),
        "tidy" => tidy::run(&root),
        "assets" => assets::kernel(&root).map(drop),
        "images" => images::run(&root, rest),
        "simulate" => ci::simulate(&root, rest),
        "bench" => bench::run(&root, rest),
        "advisories" => ci::advisories(&root),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        unknown => bail!("unknown command {unknown:?}\n\n{USAGE}"),
    }
}

/// The folder of the workspace that cargo runs this program for; where it was compiled may have been moved since.
fn workspace_root() -> Result<PathBuf> {
    let own = std::env::var_os("CARGO_MANIFEST_DIR").context("start it as `cargo xtask`")?;
    let root = Path::new(&own).parent().context("xtask is not inside a workspace")?;
    Ok(root.to_path_buf())
}

/// Where cargo puts what it builds: tests, assets and figures live beside it.
fn target_dir(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}
