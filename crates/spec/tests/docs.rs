//! The documentation tells the truth: each of its examples is executed, each code and each quoted report is checked.
//!
//! What stands behind the fence of a block says what it is:
//!
//! - `yaml`: a whole job file when it has `job:`, else lines of a task. Nothing is said about it.
//! - `yaml wrong`: the same, refused with the report in the `text` block that follows.
//! - `yaml compose OPTIONS`: a Compose file. `yaml overlay` may follow, which is laid over it; then `text`, what is said
//!   about it. `yaml converted` below it is the job file that it becomes. One of the last two there must be.
//! - `yaml compose wrong OPTIONS`: a Compose file that is refused with the report in the `text` block that follows.
//! - `text NAME`: a file that stands beside the next Compose file.
//! - `console`, `sh`: not YAML. The command lines in them are parsed by a test of `lith-cli`.
//!
//! Every other mark fails, as does a `text` that belongs to nothing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "docs/example.rs"]
mod example;
#[path = "docs/page.rs"]
mod page;

use std::fmt::Write;

use example::{Beside, Project, told_of_job};
use lith_spec::{Code, REFUSAL_KINDS};
use page::{Block, Page, pages_of};

const REFERENCE: &str = "docs/reference/job.md";
const FROM_COMPOSE: &str = "docs/guide/from-compose.md";
/// First line of the table of refusals.
const REFUSALS: &str = "| what | why | instead | code |";

/// How many examples of each kind a page has.
#[derive(Default)]
struct Counts {
    jobs: usize,
    projects: usize,
    refused: usize,
}

/// What a Compose file becomes, for the block that shows it further below.
struct Becomes {
    compose: String,
    text: String,
    /// Whether something of it was compared already.
    is_compared: bool,
}

/// Every Compose file is followed by something that is compared.
fn settle(becomes: Option<Becomes>) {
    if let Some(becomes) = becomes {
        assert!(becomes.is_compared, "nothing is told of:\n{}", becomes.compose);
    }
}

/// Executes every block of a page.
fn check_page(page: &mut Page) -> Counts {
    let mut counts = Counts::default();
    let mut beside = Beside::default();
    let mut becomes = None;
    let is_yaml = |block: &Block| !["console", "sh"].contains(&block.mark.as_str());
    let mut blocks = page.blocks().into_iter().filter(is_yaml).peekable();
    while let Some(block) = blocks.next() {
        let mut next = |mark: &str| blocks.next_if(|block| block.mark == mark);
        let words: Vec<&str> = block.mark.split(' ').collect();
        match words.as_slice() {
            ["text", name] => {
                beside.0.insert((*name).to_owned(), block.text);
            }
            ["yaml"] => {
                assert_eq!(told_of_job(&block.text), "", "{}:\n{}", page.name, block.text);
                counts.jobs += 1;
            }
            ["yaml", "wrong"] => {
                page.expect(&report_of(&block, next("text")), &told_of_job(&block.text));
                counts.refused += 1;
            }
            ["yaml", "compose", "wrong", options @ ..] => {
                let project = Project::new(&block.text, options, std::mem::take(&mut beside));
                page.expect(&report_of(&block, next("text")), &project.refused());
                counts.refused += 1;
            }
            ["yaml", "compose", options @ ..] => {
                let mut project = Project::new(&block.text, options, std::mem::take(&mut beside));
                project.overlay = next("yaml overlay").map(|overlay| overlay.text);
                let (report, text) = project.converted();
                let told = next("text");
                told.iter().for_each(|block| page.expect(block, &report));
                let new = Becomes { compose: block.text, text, is_compared: told.is_some() };
                settle(becomes.replace(new));
                counts.projects += 1;
            }
            ["yaml", "converted"] => {
                let becomes = becomes.take().expect("a Compose file comes before what it becomes");
                page.expect(&block, &becomes.text);
            }
            _ => panic!("{}: nothing executes a block `{}`:\n{}", page.name, block.mark, block.text),
        }
    }
    settle(becomes);
    assert!(beside.0.is_empty(), "{}: no Compose file follows {:?}", page.name, beside.0.keys());
    counts
}

fn report_of(block: &Block, text: Option<Block>) -> Block {
    text.unwrap_or_else(|| panic!("a block `text` must follow:\n{}", block.text))
}

#[test]
fn guide() {
    let pages = pages_of("docs/guide");
    assert!(pages.iter().any(|page| page == FROM_COMPOSE), "{pages:?}");
    for name in pages.iter().map(String::as_str).chain(["README.md"]) {
        let mut page = Page::open(name);
        let counts = check_page(&mut page);
        assert!(counts.jobs + counts.projects > 0, "{name} has no example");
        if name == FROM_COMPOSE {
            assert!(counts.projects >= 6 && counts.refused >= 2, "{name} has fewer examples than it had");
            page.expect_table(REFUSALS, &refusals());
        }
        page.finish();
    }
}

/// Every kind of refusal, as the guide shows it.
fn refusals() -> String {
    let mut table = format!("{REFUSALS}\n| --- | --- | --- | --- |\n");
    for kind in REFUSAL_KINDS {
        writeln!(table, "| {} | {} | {} | `{}` |", kind.what, kind.why, kind.instead, kind.code)
            .expect("a String takes everything");
    }
    table
}

#[test]
fn reference() {
    let mut page = Page::open(REFERENCE);
    let counts = check_page(&mut page);
    assert!(counts.jobs >= 40, "{} examples were found", counts.jobs);
    page.finish();
}

#[test]
fn every_code_is_in_the_reference_once() {
    let reference = Page::open(REFERENCE).text;
    let (_, codes) = reference.split_once("\n## Codes\n").expect("the page has this section");
    let rows = codes.lines().filter_map(|line| line.strip_prefix("| `")?.split('|').next());
    let mut told: Vec<&str> =
        rows.flat_map(|row| row.split(['`', ',', ' '])).filter(|code| !code.is_empty()).collect();
    told.sort_unstable();
    let mut known: Vec<String> = Code::ALL.iter().map(ToString::to_string).collect();
    known.sort_unstable();
    assert_eq!(told, known);
}
