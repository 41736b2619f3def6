//! The figures: `cargo xtask bench`, written to target/bench.json (name to value) and shown as a table beside what is
//! wanted. Owns the list of groups and the report; the world in which they are measured is `world`, measuring is in the
//! modules below. It never fails because a figure is bad, only because one could not be measured: timed tests fail on
//! busy machines and teach nobody.

mod disk;
mod docker;
mod idle;
mod image;
mod instance;
mod net;
mod processes;
mod serve;
mod spec;
mod sqlite;
mod sys;
mod world;

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

pub(crate) use spec::corpus;

use crate::{images, process, target_dir};

/// One measured value.
pub(crate) struct Figure {
    name: &'static str,
    value: f64,
}

/// Figures that one function measures together.
struct Group {
    name: &'static str,
    /// What it measures, and what follows from it.
    figures: &'static [&'static str],
    /// Builds what it needs, while there is a network.
    prepare: fn(&Path) -> Result<()>,
    measure: fn(&Path) -> Result<Outcome>,
}

/// What came of a group.
pub(crate) enum Outcome {
    /// Values.
    Measured(Vec<Figure>),
    /// A peer is not installed: which, and how to get it.
    Skipped(String),
}

/// What the product promises about a figure.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    AtLeast(f64),
    AtMost(f64),
    Reported,
}

const GROUPS: &[Group] = &[
    Group {
        name: "image",
        figures: &[
            "image.load_s",
            "image.ratio_umoci",
            "image.size_mb",
            "image.peak_rss_mb",
            "image.large_size_mb",
            "image.large_peak_rss_mb",
            "image.large_rss_ratio",
            "image.many_size_mb",
            "image.many_peak_rss_mb",
        ],
        prepare: image::prepare,
        measure: image::measure,
    },
    Group {
        name: "serve",
        figures: &[
            EMULATED,
            "boot.to_init_s",
            "boot.to_process_s",
            "deploy.to_serving_s",
            "deploy.ratio_docker",
            "deploy.ratio_swarm",
        ],
        prepare: instance::prepare,
        measure: serve::measure,
    },
    Group {
        name: "docker",
        figures: &["deploy.docker_s", "deploy.swarm_s", "deploy.ratio_docker", "deploy.ratio_swarm"],
        prepare: docker::prepare,
        measure: docker::measure,
    },
    Group {
        name: "idle",
        figures: &["idle.up_rss_mb", "idle.cpu_percent", "idle.per_task_rss_mb", "idle.vm_rss_mb"],
        prepare: instance::prepare,
        measure: idle::measure,
    },
    Group {
        name: "disk",
        figures: &[
            "disk.flush8k_ratio",
            "disk.rand4k_ratio",
            "disk.seq1m_ratio",
            "disk.read4k_ratio",
            "disk.cold_flush8k_ratio",
            "disk.cut_pause_ms_p99",
            "disk.rss_mb",
            "disk.write_amplification",
            "disk.cold_write_amplification",
            "disk.sqlite_ratio",
        ],
        prepare: disk::prepare,
        measure: disk::measure,
    },
    Group {
        name: "net",
        figures: &[
            "net.same_node_ratio",
            "net.same_node_direct_ratio",
            "net.connect_added_us",
            "net.rules_apply_ms",
            "net.rules_again_ms",
            "net.apply_ms",
            "net.rules_one_more_ms",
            "net.one_more_ms",
            "net.dns_us_p99",
        ],
        prepare: net::prepare,
        measure: net::measure,
    },
    Group {
        name: "spec",
        figures: &[
            "spec.check_ms",
            "spec.slowest_ms",
            "spec.corpus_converted_percent",
            "spec.corpus_all_converted_percent",
            "spec.rss_mb",
        ],
        prepare: spec::prepare,
        measure: spec::measure,
    },
];

/// Whether the machines were emulated: no other figure of time means anything without it.
const EMULATED: &str = "machine.emulated";

/// Every figure, what it should be, and what it says.
const FIGURES: &[(&str, Wanted, &str)] = &[
    ("image.load_s", Wanted::Reported, "nginx image, two gzip layers, to EROFS"),
    ("image.ratio_umoci", Wanted::AtLeast(5.0), "times faster than umoci unpack + mkfs.erofs"),
    ("image.size_mb", Wanted::Reported, "its archive"),
    ("image.peak_rss_mb", Wanted::AtMost(150.0), "peak memory of the same"),
    ("image.large_size_mb", Wanted::Reported, "the archive of an image ten times as big"),
    ("image.large_peak_rss_mb", Wanted::AtMost(150.0), "peak memory for that"),
    // Buffers do not grow with an image's bytes.
    ("image.large_rss_ratio", Wanted::AtMost(1.5), "peak memory for the big one against the other"),
    // The list of its entries grows with their number.
    ("image.many_size_mb", Wanted::Reported, "the archive of an image with ten times the files, too"),
    ("image.many_peak_rss_mb", Wanted::AtMost(150.0), "peak memory for that"),
    (EMULATED, Wanted::Reported, "1: guests under emulation (TCG), 0: virtualized (KVM)"),
    ("boot.to_init_s", Wanted::AtMost(2.0), "start of the VMM to PID 1 of its guest"),
    ("boot.to_process_s", Wanted::Reported, "the same to the image's process"),
    ("deploy.to_serving_s", Wanted::AtMost(4.0), "`lith deploy` of a stored image to its first answer"),
    ("deploy.docker_s", Wanted::Reported, "`docker run` to the first answer"),
    ("deploy.ratio_docker", Wanted::Reported, "deploy.to_serving_s against it"),
    ("deploy.swarm_s", Wanted::Reported, "`docker stack deploy` to the first answer"),
    ("deploy.ratio_swarm", Wanted::Reported, "deploy.to_serving_s against it"),
    ("idle.up_rss_mb", Wanted::AtMost(40.0), "`lith up` with no task, after a minute"),
    ("idle.cpu_percent", Wanted::AtMost(0.2), "the same, of one processor"),
    ("idle.per_task_rss_mb", Wanted::AtMost(8.0), "all host processes of one task but the VMM"),
    ("idle.vm_rss_mb", Wanted::Reported, "the VMM with the tiny HTTP task, 128M"),
    (
        "disk.flush8k_ratio",
        Wanted::AtLeast(1.0),
        "8 KiB write + flush against qemu-storage-daemon, checkpoints on",
    ),
    ("disk.rand4k_ratio", Wanted::AtLeast(1.0), "random 4 KiB writes, 32 at a time, the same"),
    ("disk.seq1m_ratio", Wanted::AtLeast(1.0), "1 MiB writes in order, 4 at a time, the same"),
    ("disk.read4k_ratio", Wanted::AtLeast(1.0), "random 4 KiB reads, 32 at a time, the same"),
    (
        "disk.cold_flush8k_ratio",
        Wanted::Reported,
        "the first, on blocks that have not changed since the base",
    ),
    (
        "disk.cut_pause_ms_p99",
        Wanted::AtMost(2.0),
        "how long a cut holds requests back (the longest), 10 GiB volume",
    ),
    ("disk.rss_mb", Wanted::AtMost(12.0), "the process that serves a volume of 100 GiB, written to all over"),
    (
        "disk.write_amplification",
        Wanted::AtMost(2.5),
        "bytes written for each of the guest's, random 4 KiB over 1 GiB",
    ),
    (
        "disk.cold_write_amplification",
        Wanted::Reported,
        "the same on blocks that have not changed since the base",
    ),
    (
        "disk.sqlite_ratio",
        Wanted::AtLeast(0.95),
        "SQLite WAL commits on a volume against a plain virtio-blk disk of the same guest",
    ),
    (
        "net.same_node_ratio",
        Wanted::AtLeast(0.9),
        "one connection from task to task through the policy against the same cables without it",
    ),
    (
        "net.same_node_direct_ratio",
        Wanted::Reported,
        "the same to the address of the task, not to the virtual one",
    ),
    (
        "net.connect_added_us",
        Wanted::AtMost(100.0),
        "what a virtual address and the policy add to a connection",
    ),
    (
        "net.rules_apply_ms",
        Wanted::AtMost(50.0),
        "200 tasks, 1,000 connects: the rules, from the state to the kernel",
    ),
    ("net.rules_again_ms", Wanted::Reported, "the same in the place of rules that are in force"),
    ("net.apply_ms", Wanted::Reported, "the same with a look at all devices, addresses, routes and flows"),
    ("net.rules_one_more_ms", Wanted::AtMost(15.0), "the rules of one task more"),
    ("net.one_more_ms", Wanted::Reported, "one task more, all of it: device, addresses, rules, flows"),
    ("net.dns_us_p99", Wanted::AtMost(1_000.0), "answer of a declared name under 1,000 questions a second"),
    ("spec.check_ms", Wanted::AtMost(3.0), "reading, checking, converting a real Compose file, on average"),
    ("spec.slowest_ms", Wanted::Reported, "the same for the slowest one"),
    ("spec.corpus_converted_percent", Wanted::AtLeast(85.0), "files that convert, of those drawn at random"),
    // The others were picked for what is hard in them; many are built from sources, which is refused.
    ("spec.corpus_all_converted_percent", Wanted::Reported, "the same of all that Docker Compose accepts"),
    ("spec.rss_mb", Wanted::AtMost(30.0), "peak memory for the largest one"),
];

/// Measures the groups that are named, or all, and reports. Figures of other groups stay in the file.
pub(crate) fn run(root: &Path, names: &[String]) -> Result<()> {
    if let Some(unknown) = names.iter().find(|name| !GROUPS.iter().any(|group| group.name == name.as_str())) {
        let known: Vec<&str> = GROUPS.iter().map(|group| group.name).collect();
        bail!("no group of figures is called {unknown:?}: {}", known.join(", "));
    }
    let is_chosen = |group: &&Group| names.is_empty() || names.iter().any(|name| name == group.name);
    let groups: Vec<&Group> = GROUPS.iter().filter(is_chosen).collect();
    if world::is_entered() {
        return measure(root, &groups);
    }
    for group in &groups {
        (group.prepare)(root).with_context(|| format!("cannot build what {} needs", group.name))?;
    }
    world::enter(names)
}

fn measure(root: &Path, groups: &[&Group]) -> Result<()> {
    let path = target_dir(root).join("bench.json");
    let mut kept = read(&path);
    // An old value beside new ones would be taken for a new one.
    kept.retain(|name, _| !groups.iter().any(|group| group.figures.contains(&name.as_str())));
    let mut values = Map::new();
    let mut failures = Vec::new();
    for group in groups {
        println!("==> {}", group.name);
        match (group.measure)(root) {
            Ok(Outcome::Measured(figures)) => {
                values.extend(
                    figures.iter().map(|figure| (figure.name.to_owned(), json!(rounded(figure.value)))),
                );
            }
            Ok(Outcome::Skipped(why)) => println!("SKIPPED {}: {why}", group.name),
            Err(error) => {
                println!("FAILED {}: {error:#}", group.name);
                failures.push(group.name);
            }
        }
        derive_ratios(&mut values);
        let all: Map<String, Value> = kept.clone().into_iter().chain(values.clone()).collect();
        let text = serde_json::to_string_pretty(&Value::Object(all)).context("cannot format the figures")?;
        std::fs::write(&path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    print_table(&values);
    println!("written to {}", path.display());
    if failures.is_empty() { Ok(()) } else { bail!("could not measure: {}", failures.join(", ")) }
}

/// Ratios of figures that two groups measured in this run, hence on the same machine in the same state.
fn derive_ratios(values: &mut Map<String, Value>) {
    for (ours, theirs, ratio) in [
        ("deploy.to_serving_s", "deploy.docker_s", "deploy.ratio_docker"),
        ("deploy.to_serving_s", "deploy.swarm_s", "deploy.ratio_swarm"),
    ] {
        let value = |name: &str| values.get(name).and_then(Value::as_f64);
        if let (Some(ours), Some(theirs)) = (value(ours), value(theirs))
            && theirs > 0.0
        {
            values.insert(ratio.to_owned(), json!(rounded(ours / theirs)));
        }
    }
}

fn read(path: &Path) -> Map<String, Value> {
    let bytes = std::fs::read(path).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn print_table(values: &Map<String, Value>) {
    println!("\n{:<34} {:>10}  {:<10} {:<7} what", "figure", "value", "wanted", "");
    for (name, wanted, what) in FIGURES {
        let Some(value) = values.get(*name).and_then(Value::as_f64) else {
            println!("{name:<34} {:>10}  {:<10} {:<7} {what}", "-", bound(*wanted), "");
            continue;
        };
        println!("{name:<34} {value:>10.3}  {:<10} {:<7} {what}", bound(*wanted), verdict(*wanted, value));
    }
}

fn bound(wanted: Wanted) -> String {
    match wanted {
        Wanted::AtLeast(limit) => format!(">= {limit}"),
        Wanted::AtMost(limit) => format!("<= {limit}"),
        Wanted::Reported => "reported".to_owned(),
    }
}

fn verdict(wanted: Wanted, value: f64) -> &'static str {
    let is_met = match wanted {
        Wanted::AtLeast(limit) => value >= limit,
        Wanted::AtMost(limit) => value <= limit,
        Wanted::Reported => return "",
    };
    if is_met { "ok" } else { "MISSED" }
}

/// The middle of several runs, which one slow run does not move.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Builds a program of the product in release, as people run it.
fn build_release(root: &Path, what: &[&str]) -> Result<()> {
    process::run(
        process::cargo().args(["build", "--release", "--locked", "--quiet"]).args(what).current_dir(root),
    )
}

/// An archive of a test image, built if need be.
fn image_archive(root: &Path, name: &str) -> Result<std::path::PathBuf> {
    images::run(root, &[name.to_owned()])?;
    Ok(images::archive(root, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_judged() {
        assert_eq!(verdict(Wanted::AtMost(2.0), 2.0), "ok");
        assert_eq!(verdict(Wanted::AtMost(2.0), 2.1), "MISSED");
        assert_eq!(verdict(Wanted::AtLeast(5.0), 4.9), "MISSED");
        assert_eq!(verdict(Wanted::Reported, 4.9), "");
    }

    #[test]
    fn the_middle_run_counts() {
        assert_eq!(median(vec![9.0, 1.0, 2.0]).total_cmp(&2.0), std::cmp::Ordering::Equal);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn every_figure_belongs_to_a_group() {
        for (name, ..) in FIGURES {
            assert!(GROUPS.iter().any(|group| group.figures.contains(name)), "{name}");
        }
    }

    #[test]
    fn ratios_follow_their_figures() {
        let mut values = Map::new();
        values.insert("deploy.to_serving_s".to_owned(), json!(3.0));
        values.insert("deploy.docker_s".to_owned(), json!(0.5));
        derive_ratios(&mut values);
        assert_eq!(values.get("deploy.ratio_docker"), Some(&json!(6.0)));
        assert_eq!(values.get("deploy.ratio_swarm"), None);
    }
}
