//! The supervisor as a program of its own: `lith-shim <configuration> [<TAP descriptor>]`. Owns the exit code and the
//! one complaint; everything else is the library's.

use lith_vmm::shim::{ShimConfig, ShimError, inherited_tap, run};
use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
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
    let mut arguments = std::env::args_os().skip(1);
    let usage =
        || ShimError::Config { problem: "usage: lith-shim <configuration> [<TAP descriptor>]".to_owned() };
    let path = PathBuf::from(arguments.next().ok_or_else(usage)?);
    let tap = arguments.next().map(|text| text.to_str().and_then(|text| text.parse().ok()).ok_or_else(usage));
    let tap = tap.transpose()?.map(inherited_tap).transpose()?;
    run(ShimConfig::read(&path)?, tap).map(drop)
}
