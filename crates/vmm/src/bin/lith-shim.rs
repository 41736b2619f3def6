//! The supervisor as a program of its own: what tests of this crate launch. Owns the exit code and the one
//! complaint; everything else is the library's.

use lith_vmm::shim::{ShimError, inherited, run};
use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Err(error) = supervise() else { return ExitCode::SUCCESS };
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    // Nobody is left to tell when this fails.
    let _ = writeln!(std::io::stderr(), "{text}");
    ExitCode::FAILURE
}

fn supervise() -> Result<(), ShimError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (config, inherited) = inherited(&arguments)?;
    run(config, inherited).map(drop)
}
