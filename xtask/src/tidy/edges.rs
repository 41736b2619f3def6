//! Checks of the manifests: which crate may know which, that each takes the workspace's lints, that no dependency is
//! declared and unused. The list of allowed arrows is here and nowhere else; a new arrow needs an RFD.

use super::Finding;
use super::tree::{Dependency, Package, Tree};
use super::words::contains_word;

/// What each crate may depend on among ours, outside its tests. See the picture in ARCHITECTURE.md.
const ALLOWED: &[(&str, &[&str])] = &[
    ("lith-core", &[]),
    ("lith-guest", &[]),
    ("lith-api", &["lith-core"]),
    ("lith-spec", &["lith-api", "lith-core"]),
    ("lith-store", &["lith-api", "lith-core"]),
    ("lith-image", &["lith-core"]),
    ("lith-dns", &["lith-core"]),
    ("lith-net", &["lith-core"]),
    ("lith-vmm", &["lith-core", "lith-guest"]),
    ("lith-volume", &["lith-core"]),
    // lith-spec: a mistake in a job file is shown where the file is, without a server (`lith check`).
    ("lith-cli", &["lith-api", "lith-spec"]),
    (
        "lith-node",
        // lith-cli: there is one executable and its main is here (docs/rfd/0003-one-executable.md).
        &[
            "lith-api",
            "lith-cli",
            "lith-core",
            "lith-dns",
            "lith-guest",
            "lith-image",
            "lith-net",
            "lith-spec",
            "lith-store",
            "lith-vmm",
            "lith-volume",
        ],
    ),
    ("xtask", &[]),
];

/// Crates that are tests themselves: they may see all.
const TESTS: &[&str] = &["lith-testkit", "lith-e2e"];

/// Only tests may depend on these.
const TESTS_ONLY: &[&str] = &["lith-testkit", "lith-e2e"];

/// All checks of manifests.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &tree.packages {
        let manifest = format!("{}/Cargo.toml", package.folder);
        findings.extend(arrows(&manifest, package));
        findings.extend(lints(&manifest, tree.text(&manifest).unwrap_or_default()));
        findings.extend(unused(tree, &manifest, package));
    }
    findings.extend(versions_unused(tree));
    findings
}

fn arrows(manifest: &str, package: &Package) -> Vec<Finding> {
    let name = package.name.as_str();
    if TESTS.contains(&name) {
        return Vec::new();
    }
    let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
        let message =
            format!("`{name}` is a new crate: it needs an RFD and a line in xtask/src/tidy/edges.rs");
        return vec![Finding::failure(manifest, message)];
    };
    let ours = package.dependencies.iter().filter(|dependency| dependency.name.starts_with("lith-"));
    let is_allowed = |dependency: &&Dependency| {
        let other = dependency.name.as_str();
        let is_for_tests = dependency.dev && TESTS_ONLY.contains(&other);
        // A crate may name itself to switch its features on for its tests.
        allowed.contains(&other) || is_for_tests || other == name
    };
    let refused = ours.filter(|dependency| !is_allowed(dependency));
    refused
        .map(|dependency| {
            let message =
                format!("`{name}` must not know `{}`: see the picture in ARCHITECTURE.md", dependency.name);
            Finding::failure(manifest, message)
        })
        .collect()
}

fn lints(manifest: &str, text: &str) -> Option<Finding> {
    let mut lines = text.lines().map(str::trim);
    let inherits = lines.any(|line| line == "[lints]") && lines.next() == Some("workspace = true");
    (!inherits).then(|| Finding::failure(manifest, "lacks `[lints] workspace = true`"))
}

/// A name that no Rust file of the package says is a dependency nobody needs. Textual, as cargo-machete is, without
/// the minutes that building it takes.
fn unused(tree: &Tree, manifest: &str, package: &Package) -> Vec<Finding> {
    let is_unused =
        |ident: &str| !tree.rust_files(&package.folder).any(|file| contains_word(&file.text, ident));
    let findings = package.dependencies.iter().filter(|dependency| is_unused(&dependency.ident));
    findings
        .map(|dependency| {
            Finding::failure(manifest, format!("`{}` is declared and never used", dependency.name))
        })
        .collect()
}

/// Versions in the root manifest that no package takes.
fn versions_unused(tree: &Tree) -> Vec<Finding> {
    let text = tree.text("Cargo.toml").unwrap_or_default();
    let section = text.lines().skip_while(|line| line.trim() != "[workspace.dependencies]").skip(1);
    let names = section
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once(" = ").map(|(name, _)| name.trim()));
    let is_taken = |name: &str| {
        tree.packages
            .iter()
            .any(|package| package.dependencies.iter().any(|dependency| dependency.name == name))
    };
    let findings = names.filter(|name| !name.starts_with("lith-") && !is_taken(name));
    findings.map(|name| Finding::warning("Cargo.toml", format!("no package takes `{name}`"))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tree::File;
    use super::*;

    fn package(name: &str, dependencies: &[(&str, bool)]) -> Package {
        let dependencies = dependencies.iter().map(|(name, dev)| Dependency {
            name: (*name).to_owned(),
            ident: name.replace('-', "_"),
            dev: *dev,
        });
        Package { name: name.to_owned(), folder: "crates/x".to_owned(), dependencies: dependencies.collect() }
    }

    fn check_arrows(name: &str, dependencies: &[(&str, bool)], refused: &[&str]) {
        let found = arrows("m", &package(name, dependencies));
        assert_eq!(found.len(), refused.len(), "{found:?}");
        for (finding, part) in found.iter().zip(refused) {
            assert!(finding.message.contains(part), "{finding:?}");
        }
    }

    #[test]
    fn arrows_point_down() {
        check_arrows("lith-node", &[("lith-vmm", false), ("lith-cli", false), ("tokio", false)], &[]);
        check_arrows("lith-core", &[("lith-api", false)], &["must not know `lith-api`"]);
        check_arrows("lith-net", &[("lith-vmm", false)], &["must not know `lith-vmm`"]);
        check_arrows("lith-net", &[("lith-testkit", true)], &[]);
        check_arrows("lith-net", &[("lith-testkit", false)], &["must not know `lith-testkit`"]);
        check_arrows("lith-utils", &[], &["needs an RFD"]);
        check_arrows("lith-e2e", &[("lith-node", false)], &[]);
    }

    #[test]
    fn lints_are_inherited() {
        assert_eq!(lints("m", "[package]\n\n[lints]\nworkspace = true\n"), None);
        assert!(lints("m", "[package]\nworkspace = true\n").is_some());
    }

    #[test]
    fn unused_dependencies_are_found() {
        let file =
            File { path: "crates/x/src/lib.rs".to_owned(), text: "//! x\nuse serde_json::Value;".to_owned() };
        let tree = Tree { files: vec![file], packages: Vec::new() };
        let found = unused(&tree, "m", &package("lith-net", &[("serde-json", false), ("hex", false)]));
        assert_eq!(found, [Finding::failure("m", "`hex` is declared and never used")]);
    }
}
