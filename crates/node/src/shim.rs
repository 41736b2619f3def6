//! `lith shim`: the supervisor of one boot of one task, as a process of its own.
//!
//! Comes before everything else in `main`: it must stay small, without a runtime, and on the main thread, with which
//! its machine ends.

use std::path::Path;
use std::process::ExitCode;

use lith_vmm::shim::{ShimConfig, ShimError, inherited_tap, run};

use crate::chain::chain;

/// The name of the subcommand.
pub const SUBCOMMAND: &str = "shim";

/// Runs the supervisor. `arguments` are what [`lith_vmm::shim::launch`] added: the configuration's path, and the number
/// of the TAP's descriptor.
pub fn main(arguments: &[String]) -> ExitCode {
    match supervise(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Its standard error is the file `shim.log` of the task.
            let _ =
                std::io::Write::write_all(&mut std::io::stderr(), format!("{}\n", chain(&error)).as_bytes());
            ExitCode::FAILURE
        }
    }
}

fn supervise(arguments: &[String]) -> Result<(), ShimError> {
    let usage = |problem: &str| ShimError::Config { problem: problem.to_owned() };
    let tap = match arguments.get(1) {
        Some(number) => {
            let descriptor = number.parse().map_err(|_| usage("the second argument is no descriptor"))?;
            Some(inherited_tap(descriptor)?)
        }
        None => None,
    };
    let path = arguments.first().ok_or_else(|| usage("its path is missing"))?;
    run(ShimConfig::read(Path::new(path))?, tap).map(|_| ())
}
