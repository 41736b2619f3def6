//! The rules of STYLE.md that no compiler checks. Owns the list of checks and how findings are shown; each check is
//! a pure function over texts, so that it is tested without a tree. It must not change any file.

mod edges;
mod pages;
mod tree;
mod words;

use std::path::Path;

use anyhow::{Result, bail};

use tree::Tree;

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// Where, from the root of the workspace, with the line if there is one.
    place: String,
    /// What is wrong and what to do about it.
    message: String,
    /// Whether it only asks for attention.
    weight: Weight,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Weight {
    /// Shown.
    Warning,
    /// Fails the run.
    Failure,
}

impl Finding {
    fn failure(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: place.into(), message: message.into(), weight: Weight::Failure }
    }

    fn warning(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: place.into(), message: message.into(), weight: Weight::Warning }
    }
}

/// Checks the whole workspace, prints the findings, fails if one is a failure.
pub(crate) fn run(root: &Path) -> Result<()> {
    let findings = check(root)?;
    for Finding { place, message, weight } in &findings {
        let word = match weight {
            Weight::Warning => "warning",
            Weight::Failure => "error",
        };
        println!("{word}: {place}: {message}");
    }
    let failures = findings.iter().filter(|finding| finding.weight == Weight::Failure).count();
    if failures > 0 {
        bail!("tidy: {failures} rules broken");
    }
    Ok(())
}

fn check(root: &Path) -> Result<Vec<Finding>> {
    let tree = Tree::read(root)?;
    let mut findings = Vec::new();
    for file in &tree.files {
        findings.extend(words::check(&file.path, &file.text));
    }
    findings.extend(edges::check(&tree));
    findings.extend(pages::check(&tree));
    findings.sort();
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_tidy() {
        let root = crate::workspace_root().unwrap();
        let failures: Vec<Finding> =
            check(&root).unwrap().into_iter().filter(|finding| finding.weight == Weight::Failure).collect();
        assert!(failures.is_empty(), "{failures:#?}");
    }
}
