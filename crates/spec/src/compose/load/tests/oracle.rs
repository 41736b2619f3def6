//! Real files again, this time compared with what the reference makes of them, service by service.
//!
//! Needs Docker Compose, whose path `LITH_COMPOSE_ORACLE` holds; without it the test says so and passes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value as Json;

use super::Case;
use super::cases::CASES;
use super::corpus::{case, folder, manifest};
use super::summary::{HOME, ours, theirs};

/// The reference's view, or why it has none.
fn ask(program: &Path, case: &Case, root: &Path) -> Result<Json, String> {
    let _ = fs::remove_dir_all(root);
    for (path, bytes) in &case.files.files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("a folder for a copy");
        fs::write(path, bytes).expect("a copy of a file");
    }
    let mut arguments = Vec::new();
    for (at, named) in case.named.iter().enumerate() {
        let name = if case.named.len() == 1 { "compose.yaml" } else { &named.path };
        fs::write(root.join(name), &case.named[at].bytes).expect("a copy of the file");
        arguments.extend([String::from("-f"), name.to_owned()]);
    }
    for profile in &case.profiles {
        arguments.extend([String::from("--profile"), profile.clone()]);
    }
    for _ in 0..20 {
        let output = Command::new(program)
            .args(&arguments)
            .args(["config", "--format", "json"])
            .current_dir(root)
            .env_clear()
            .env("HOME", HOME)
            .envs(&case.variables.set)
            .output()
            .expect("the reference can be started");
        if output.status.success() && !output.stdout.is_empty() {
            return serde_json::from_slice(&output.stdout).map_err(|error| error.to_string());
        }
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let missing = told.split("env file ").nth(1).and_then(|rest| rest.split(" not found").next());
        let Some(missing) = missing else { return Err(told) };
        fs::create_dir_all(Path::new(missing).parent().expect("a file is in a folder")).expect("a folder");
        fs::write(missing, "").expect("an empty file of variables");
    }
    Err(String::from("more files of variables than expected"))
}

/// How a case differs; how many services were compared is added up.
fn differences(name: &str, case: &Case, program: &Path, root: &Path, compared: &mut usize) -> Vec<String> {
    let (loaded, diagnostics) = case.load();
    let Some(loaded) = loaded else { return vec![format!("{name}: {:?}", diagnostics.list)] };
    let reference = match ask(program, case, root) {
        Ok(reference) => reference,
        Err(reason) => return vec![format!("{name}: the reference: {reason}")],
    };
    let services = reference["services"].as_object().expect("the reference shows services");
    let mut different = Vec::new();
    let own = &loaded.project.services;
    if services.len() != own.len() {
        let names: Vec<&str> = own.iter().map(|service| service.name.value.as_str()).collect();
        different.push(format!("{name}: {:?} and {names:?}", services.keys().collect::<Vec<_>>()));
    }
    for service in own {
        let (ours, theirs) = (ours(service, root), theirs(&services[&service.name.value]));
        *compared += 1;
        if ours != theirs {
            different.push(format!("{name}: {}:\n  {ours}\n  {theirs}", service.name.value));
        }
    }
    different
}

#[test]
fn services_are_what_the_reference_makes_of_them() {
    let program = std::env::var_os("LITH_COMPOSE_ORACLE").map(PathBuf::from);
    let Some(program) = program else {
        println!("skipped: `LITH_COMPOSE_ORACLE` names no Docker Compose");
        return;
    };
    let top = std::env::temp_dir().join(format!("lith-oracle-{}", std::process::id()));
    let root = top.join("a/b/c/d");
    let (mut different, mut compared) = (Vec::new(), 0);
    for own in CASES {
        different.extend(differences(own.name, &own.case(), &program, &root, &mut compared));
    }
    if let Some(folder) = folder() {
        for (path, verdict) in manifest(&folder) {
            if verdict.starts_with("accepted") || verdict.starts_with("needs") {
                different.extend(differences(&path, &case(&folder, &path), &program, &root, &mut compared));
            }
        }
    }
    let _ = fs::remove_dir_all(top);
    println!("{compared} services were compared");
    assert!(different.is_empty(), "{} differ\n{}", different.len(), different.join("\n"));
}
