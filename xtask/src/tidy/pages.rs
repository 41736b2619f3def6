//! Checks between code and documentation: a page per error code, a code per page, a size for ARCHITECTURE.md.

use std::collections::BTreeSet;

use super::Finding;
use super::tree::Tree;

/// Where the codes are declared.
const CODES: &str = "crates/api";
/// Where their pages are.
const PAGES: &str = "docs/errors/";
/// More than a newcomer reads in one go.
const ARCHITECTURE_LINES_MAX: usize = 300;

/// All checks of pages.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let declared: BTreeSet<String> = tree.rust_files(CODES).flat_map(|file| codes(&file.text)).collect();
    let mut findings = Vec::new();
    for code in &declared {
        let path = format!("{PAGES}{code}.md");
        let starts_well = |text: &str| text.starts_with(&format!("# {code}"));
        match tree.text(&path) {
            None => findings.push(Finding::failure(path, "missing: an error code has a page")),
            Some(text) if !starts_well(text) => {
                findings.push(Finding::failure(path, format!("must start with `# {code}: <what happened>`")));
            }
            Some(_) => {}
        }
    }
    findings.extend(orphans(tree, &declared));
    let lines = tree.text("ARCHITECTURE.md").map_or(0, |text| text.lines().count());
    if lines > ARCHITECTURE_LINES_MAX {
        findings.push(Finding::failure(
            "ARCHITECTURE.md",
            format!("{lines} lines; {ARCHITECTURE_LINES_MAX} is the most"),
        ));
    }
    findings
}

fn orphans(tree: &Tree, declared: &BTreeSet<String>) -> Vec<Finding> {
    let pages = tree.files.iter().filter_map(|file| {
        let code = file.path.strip_prefix(PAGES)?.strip_suffix(".md")?;
        (code.starts_with('E') && !declared.contains(code)).then_some(&file.path)
    });
    pages.map(|path| Finding::failure(path, "a page for a code that does not exist")).collect()
}

/// Every `"E0123"` in a text.
fn codes(text: &str) -> Vec<String> {
    let is_code = |word: &&str| {
        word.len() == 5 && word.starts_with('E') && word[1..].chars().all(|digit| digit.is_ascii_digit())
    };
    text.split('"').filter(is_code).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tree::File;
    use super::*;

    fn check_pages(files: &[(&str, &str)], expected: &[(&str, &str)]) {
        let files = files
            .iter()
            .map(|(path, text)| File { path: (*path).to_owned(), text: (*text).to_owned() })
            .collect();
        let found = check(&Tree { files, packages: Vec::new() });
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (finding, (place, part)) in found.iter().zip(expected) {
            assert_eq!(&finding.place, place);
            assert!(finding.message.contains(part), "{finding:?}");
        }
    }

    #[test]
    fn codes_and_pages_match() {
        let code = ("crates/api/src/error.rs", "Self::Full => \"E0007\",");
        check_pages(&[code, ("docs/errors/E0007.md", "# E0007: the disk is full\n")], &[]);
        check_pages(&[code], &[("docs/errors/E0007.md", "missing")]);
        check_pages(&[code, ("docs/errors/E0007.md", "hello")], &[("docs/errors/E0007.md", "must start")]);
        check_pages(&[("docs/errors/E0008.md", "# E0008")], &[("docs/errors/E0008.md", "does not exist")]);
    }
}
