//! Measures what reading Compose files costs: `corpus <folder>` checks and converts every file of the corpus and prints
//! times and counts, `corpus <folder> <file>` does that with one file and prints its peak memory.
//!
//! A process of its own, so that a benchmark sees its own peak. Must not be used for anything else.
#![allow(clippy::print_stdout)]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use lith_spec::{
    Code, ComposeOptions, ComposeReading, Files, Named, PathKind, Variables, check_compose, to_yaml_with,
};
use serde_json::json;

#[path = "../corpus/neutral.rs"]
mod neutral;
use neutral::neutral;

/// Odd, so that there is a middle one.
const ROUNDS: usize = 9;
/// Most rounds in which variables are found: a report is bounded, and so is what one round tells of.
const VARIABLE_ROUNDS_MAX: usize = 20;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let found = match arguments.as_slice() {
        [folder] => measure_all(Path::new(folder))?,
        [folder, file] => measure_one(Path::new(folder), file)?,
        _ => return Err("usage: corpus <folder> [<file>]".into()),
    };
    println!("{found}");
    Ok(())
}

/// A file of the corpus with all that it needs, in memory.
struct Subject {
    named: [Named; 1],
    variables: Variables,
    beside: Beside,
}

/// What stands beside a file. What the files mount and read is not in the corpus: what is absent reads as empty, as it was
/// for the reference.
struct Beside(BTreeMap<String, Vec<u8>>);

impl Files for Beside {
    fn kind(&self, path: &str) -> PathKind {
        if self.0.contains_key(path) { PathKind::File } else { PathKind::Absent }
    }

    fn read(&self, path: &str, bytes_max: usize) -> Result<Vec<u8>, String> {
        let bytes = self.0.get(path).cloned().unwrap_or_default();
        if bytes.len() > bytes_max { Err(String::from("it is too long")) } else { Ok(bytes) }
    }
}

impl Subject {
    fn load(folder: &Path, file: &str) -> Result<Self, Box<dyn Error>> {
        let own = folder.join(file);
        let named = [Named { path: file.to_owned(), bytes: std::fs::read(&own)? }];
        let mut beside = BTreeMap::new();
        let parent = own.parent().ok_or("a file is in a folder")?;
        collect(parent, parent, &mut beside)?;
        let mut subject = Self { named, variables: Variables::default(), beside: Beside(beside) };
        subject.find_variables();
        Ok(subject)
    }

    /// Gives a value to every variable that the file needs and has no default for.
    fn find_variables(&mut self) {
        for _ in 0..VARIABLE_ROUNDS_MAX {
            let reading = self.check();
            let needed =
                reading.variables.iter().filter(|needed| !needed.is_given && needed.default.is_none());
            let mut missing: BTreeSet<String> = needed.map(|needed| needed.name.clone()).collect();
            let told = [Code::MissingVariable, Code::UnsetVariable];
            let told = reading.diagnostics.list.iter().filter(|found| told.contains(&found.code));
            missing.extend(told.filter_map(|found| Some(found.message.split('`').nth(1)?.to_owned())));
            missing.retain(|name| !self.variables.set.contains_key(name));
            if missing.is_empty() {
                break;
            }
            self.variables.set.extend(missing.into_iter().map(|name| (name.clone(), neutral(&name))));
        }
    }

    fn check(&self) -> ComposeReading {
        let options = ComposeOptions { folder: String::from("/srv/shop"), ..ComposeOptions::default() };
        check_compose(&self.named, &options, &self.variables, &self.beside)
    }

    /// What `lith convert` does, and whether there is a job in the end.
    fn convert(&self) -> bool {
        let reading = self.check();
        if let Some(job) = &reading.job {
            black_box(to_yaml_with(job, &reading.comments));
        }
        reading.job.is_some()
    }
}

fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<String, Vec<u8>>) -> Result<(), Box<dyn Error>> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, files)?;
        } else {
            let name = path.strip_prefix(root)?.to_string_lossy().into_owned();
            files.insert(name, std::fs::read(&path)?);
        }
    }
    Ok(())
}

/// A line of the manifest: the file, how it was picked, and whether the reference accepts it.
struct Row {
    file: String,
    is_random: bool,
    is_accepted: bool,
}

fn manifest(folder: &Path) -> Result<Vec<Row>, Box<dyn Error>> {
    let text = std::fs::read_to_string(folder.join("manifest.tsv"))?;
    let row = |line: &str| -> Result<Row, Box<dyn Error>> {
        let cells: Vec<&str> = line.split('\t').collect();
        let [file, _, _, pick, _, verdict] = cells.as_slice() else {
            return Err(format!("not a line of the manifest: {line}").into());
        };
        let is_accepted = verdict.starts_with("accepted");
        Ok(Row { file: (*file).to_owned(), is_random: *pick == "random", is_accepted })
    };
    text.lines().skip(1).map(row).collect()
}

fn measure_all(folder: &Path) -> Result<serde_json::Value, Box<dyn Error>> {
    let rows = manifest(folder)?;
    let subjects: Vec<Subject> =
        rows.iter().map(|row| Subject::load(folder, &row.file)).collect::<Result<_, _>>()?;
    let mut own: Vec<Vec<f64>> = vec![Vec::new(); subjects.len()];
    let mut means = Vec::new();
    for _ in 0..ROUNDS {
        let mut sum_ms = 0.0;
        for (subject, times_ms) in subjects.iter().zip(&mut own) {
            let start = Instant::now();
            black_box(subject.convert());
            let spent_ms = start.elapsed().as_secs_f64() * 1000.0;
            sum_ms += spent_ms;
            times_ms.push(spent_ms);
        }
        means.push(sum_ms / subjects.len() as f64);
    }
    let slowest = rows.iter().zip(own.into_iter().map(median)).max_by(|a, b| a.1.total_cmp(&b.1));
    let (slowest, slowest_ms) = slowest.ok_or("the manifest names no file")?;
    let largest = rows.iter().zip(&subjects).max_by_key(|(_, subject)| subject.named[0].bytes.len());
    let (largest, subject) = largest.ok_or("the manifest names no file")?;
    let accepted: Vec<(&Row, bool)> = rows
        .iter()
        .zip(&subjects)
        .filter(|(row, _)| row.is_accepted)
        .map(|(row, subject)| (row, subject.convert()))
        .collect();
    let percent = |is_counted: fn(&Row) -> bool| {
        let counted = accepted.iter().filter(|(row, _)| is_counted(row));
        let converted = counted.clone().filter(|(_, is_converted)| *is_converted).count();
        converted as f64 * 100.0 / counted.count() as f64
    };
    Ok(json!({
        "files": rows.len(),
        "check_ms": median(means),
        "slowest": slowest.file,
        "slowest_ms": slowest_ms,
        "largest": largest.file,
        "largest_bytes": subject.named[0].bytes.len(),
        "converted_percent": percent(|row| row.is_random),
        "all_converted_percent": percent(|_| true),
    }))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn measure_one(folder: &Path, file: &str) -> Result<serde_json::Value, Box<dyn Error>> {
    let is_converted = Subject::load(folder, file)?.convert();
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("the kernel tells no peak")?;
    let peak_kib: u64 = peak.trim().trim_end_matches("kB").trim().parse()?;
    Ok(json!({ "is_converted": is_converted, "peak_rss_kib": peak_kib }))
}
