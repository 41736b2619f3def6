//! `lith shim`: the supervisor of one boot of one task, as a process of its own.
//!
//! Comes before everything else in `main`: it must stay small, without a runtime, and on the main thread, with which
//! its machine ends.

use std::process::ExitCode;

use lith_vmm::shim::{ShimError, inherited, run};

use crate::chain::chain;

/// The name of the subcommand.
pub const SUBCOMMAND: &str = "shim";

/// Runs the supervisor. `arguments` are what [`lith_vmm::shim::launch`] added.
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
    let (config, inherited) = inherited(arguments)?;
    run(config, inherited).map(drop)
}
