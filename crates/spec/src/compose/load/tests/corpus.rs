//! Real files: what the reference accepts loads, and what it refuses is refused with a place.
//!
//! The files are other people's and lie beside the project; where they are absent, the test says so and passes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::{Case, Memory};
use crate::diagnostic::{Code, Severity};
use crate::source::Named;

/// A value for a variable that a file needs and gives no default: a path where it is called one, else a number.
fn neutral(name: &str) -> String {
    let is_path = ["DIR", "PATH", "LOCATION", "FOLDER", "CONFIG"]
        .iter()
        .any(|part| name.trim_end_matches(|c: char| c.is_ascii_digit()).ends_with(part));
    String::from(if is_path { "/neutral" } else { "1" })
}

/// Files beside a Compose file of the corpus; what is not there is an empty file of variables.
pub(super) fn folder() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/compose-corpus");
    let named = std::env::var_os("LITH_COMPOSE_CORPUS").map(PathBuf::from);
    named.or(Some(beside)).filter(|folder| folder.join("manifest.tsv").is_file())
}

/// The files of the corpus with what the reference says of them.
pub(super) fn manifest(folder: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(folder.join("manifest.tsv")).expect("the manifest can be read");
    let lines = text.lines().skip(1).map(|line| {
        let fields: Vec<&str> = line.split('\t').collect();
        (fields[0].to_owned(), fields[5].to_owned())
    });
    lines.collect()
}

/// A file of the corpus with the variables that it needs, and every file that it asks for.
pub(super) fn case(folder: &Path, path: &str) -> Case {
    let own = folder.join(path);
    let named = Named { path: path.to_owned(), bytes: fs::read(&own).expect("a file of the manifest") };
    let beside = own.parent().expect("a file is in a folder").to_owned();
    let mut case = Case { named: vec![named], ..Case::default() };
    case.variables.set.insert(String::from("HOSTNAME"), String::from("dns"));
    let mut files = BTreeMap::new();
    collect(&beside, &beside, &mut files);
    case.files = Memory { files, is_lenient: true };
    // A report is bounded, and so is what one round tells of.
    for _ in 0..20 {
        let (loaded, diagnostics) = case.load();
        let needed = loaded.iter().flat_map(|loaded| &loaded.needed);
        let needed = needed.filter(|needed| needed.is_required && !needed.is_given);
        let mut missing: BTreeSet<String> = needed.map(|needed| needed.name.clone()).collect();
        let told = [Code::MissingVariable, Code::UnsetVariable];
        let told = diagnostics.list.iter().filter(|found| told.contains(&found.code));
        missing.extend(told.filter_map(|found| Some(found.message.split('`').nth(1)?.to_owned())));
        // What has a default elsewhere in the file means that one: another value would contradict it.
        let defaults = loaded.iter().flat_map(|loaded| &loaded.needed).filter(|used| used.default.is_some());
        for used in defaults {
            missing.remove(&used.name);
        }
        if missing.is_empty() {
            break;
        }
        case.variables.set.extend(missing.into_iter().map(|name| (name.clone(), neutral(&name))));
    }
    case
}

fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).expect("a folder of the corpus") {
        let path = entry.expect("an entry of the corpus").path();
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            let name = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
            files.insert(name, fs::read(&path).expect("a file of the corpus"));
        }
    }
}

#[test]
fn verdicts() {
    let Some(folder) = folder() else {
        println!("skipped: no corpus lies beside the project");
        return;
    };
    let mut wrong = Vec::new();
    for (path, verdict) in manifest(&folder) {
        if verdict.starts_with("fragment") {
            continue;
        }
        let (loaded, diagnostics) = case(&folder, &path).load();
        let is_wanted = verdict.starts_with("accepted")
            || verdict.starts_with("needs")
            || verdict.contains("undefined volume");
        let errors = diagnostics.list.iter().filter(|found| found.severity == Severity::Error);
        let errors: Vec<String> = errors.map(ToString::to_string).collect();
        if is_wanted != loaded.is_some() {
            wrong.push(format!("{path}: {verdict}: {errors:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
