//! How fast the resolver answers a declared name: both its processes, in a network namespace, asked as a busy guest asks.
//! `resolver_figures LITH`, as root, where `LITH` is the executable. Prints one JSON object.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that fails says so by panicking")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use lith_dns::form::{Guest, Policy};
use lith_dns::{control, probe};
use lith_testkit::Namespace;

const GUEST: &str = "10.83.0.7";
const GATEWAY: &str = "169.254.83.1";
const NAME: &str = "db";
/// Questions in a second, and in all.
const PACE: (u32, u16) = (1_000, 10_000);
/// The middle one counts.
const ROUNDS: usize = 5;

/// The resolver, ended with this.
struct Resolver {
    namespace: Namespace,
    folder: tempfile::TempDir,
    parent: Child,
}

impl Resolver {
    fn start(program: &Path) -> Self {
        let namespace = Namespace::new();
        let _ = namespace.shell(&format!("ip addr add {GATEWAY}/32 dev lo; ip addr add {GUEST}/32 dev lo"));
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        command.arg("resolve").arg(folder.path()).arg(format!("figures-resolver-{}", std::process::id()));
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut parent = namespace.run(|| command.spawn()).unwrap();
        let mut line = String::new();
        BufReader::new(parent.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let resolver = Self { namespace, folder, parent };
        control::set_policy(&resolver.socket(), &policy()).unwrap();
        resolver
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("control.sock")
    }

    /// Microseconds within which this part of the answers came, thousandths, and how many did not come.
    fn measure(&self, thousandths: usize) -> (u128, usize) {
        let port = control::hello(&self.socket()).unwrap().port;
        let (from, server) =
            (format!("{GUEST}:0").parse().unwrap(), format!("{GATEWAY}:{port}").parse().unwrap());
        let took = self.namespace.run(|| probe::measure(from, server, NAME, PACE)).unwrap();
        (took.within(thousandths).unwrap().as_micros(), took.lost)
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        let _ = control::end(&self.socket());
        let _ = self.parent.wait();
    }
}

fn policy() -> Policy {
    let guest = Guest {
        slot: 7,
        task: "shop.main.0.web".to_owned(),
        job: "shop".to_owned(),
        own: vec!["web".to_owned()],
        addresses: vec![GUEST.parse().unwrap()],
        names: BTreeMap::from([(NAME.to_owned(), vec!["10.83.128.1".parse().unwrap()])]),
        egress: vec![],
    };
    Policy { node: vec![], guests: vec![guest] }
}

fn main() {
    let program = std::env::args_os().nth(1).unwrap();
    let resolver = Resolver::start(Path::new(&program));
    let mut rounds: Vec<(u128, usize)> = (0..ROUNDS).map(|_| resolver.measure(990)).collect();
    rounds.sort_unstable();
    let lost: usize = rounds.iter().map(|(_, lost)| lost).sum();
    println!(r#"{{"p99_us":{},"lost":{lost}}}"#, rounds[ROUNDS / 2].0);
}
