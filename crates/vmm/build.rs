//! Builds `lith-init`, PID 1 of the guest, as a static program and leaves it in `OUT_DIR` for embedding. It is built by
//! its own cargo run into its own target folder: another profile and other flags than the host program, no shared lock.

use std::error::Error;
use std::path::PathBuf;
use std::process::Command;

/// Set by the outer cargo (or by clippy) for the outer build; in the inner one they would change what is built.
const ENVIRONMENT_OF_THE_OUTER_BUILD: [&str; 10] = [
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_TARGET_DIR",
    "CLIPPY_ARGS",
    "LLVM_PROFILE_FILE",
    "RUSTC",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOC",
    "RUSTFLAGS",
];

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let here = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let workspace =
        here.ancestors().nth(2).ok_or("this crate lives two folders below the workspace")?.to_owned();
    let target = std::env::var("TARGET")?;
    let target_dir = out.join("guest-target");
    // Relative to this crate: checkouts that share a target folder must not look at each other's files.
    for path in ["../guest/src", "../guest/Cargo.toml", "../../Cargo.toml", "../../Cargo.lock"] {
        println!("cargo:rerun-if-changed={path}");
    }
    println!("cargo:rerun-if-changed=build.rs");
    let mut cargo = Command::new(std::env::var("CARGO")?);
    cargo.args([
        "build",
        "--quiet",
        "--locked",
        "-p",
        "lith-guest",
        "--bin",
        "lith-init",
        "--profile",
        "guest",
        "--target",
    ]);
    cargo.arg(&target).arg("--target-dir").arg(&target_dir).current_dir(&workspace);
    for name in ENVIRONMENT_OF_THE_OUTER_BUILD {
        cargo.env_remove(name);
    }
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PROFILE_") {
            cargo.env_remove(name);
        }
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    let status = cargo.status()?;
    if !status.success() {
        return Err(format!("building lith-init failed: {status}").into());
    }
    std::fs::copy(target_dir.join(&target).join("guest/lith-init"), out.join("lith-init"))?;
    Ok(())
}
