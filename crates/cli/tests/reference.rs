//! The reference page of the command line is made from the grammar: this test fails when they differ.

use std::fmt::Write;
use std::path::Path;

use clap::error::ErrorKind;

/// Set to write the page instead of comparing it.
const WRITE: &str = "LITH_WRITE_REFERENCE";
/// Width of the page's blocks.
const WIDTH: usize = 100;

#[test]
fn the_reference_page_is_current() {
    // Where cargo runs the test, not where it was compiled: the checkout may have been moved.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let path = Path::new(&package).join("../../docs/reference/cli.md");
    let page = page();
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == page,
        "docs/reference/cli.md is not what the grammar says: run `{WRITE}=1 cargo test -p lith-cli --test reference`"
    );
}

#[test]
fn completions_are_made_for_every_common_shell() {
    for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut lith_cli::command(), "lith", &mut script);
        let script = String::from_utf8(script).unwrap();
        assert!(script.contains("deploy") && script.contains("registry"), "{shell}");
    }
}

#[test]
fn every_command_line_of_the_documentation_is_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut pages = vec![root.join("README.md")];
    for folder in ["docs/guide", "docs/operate", "docs/errors", "docs/reference"] {
        let entries = std::fs::read_dir(root.join(folder)).unwrap();
        pages.extend(entries.map(|entry| entry.unwrap().path()));
    }
    let mut count = 0;
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        for line in command_lines(&text) {
            let words: Vec<&str> = line.split_whitespace().collect();
            count += 1;
            if let Err(error) = lith_cli::parse_from(&words) {
                // A sentence may name a command without what it takes.
                let is_named = matches!(
                    error.kind(),
                    ErrorKind::MissingRequiredArgument
                        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
                        | ErrorKind::MissingSubcommand
                );
                assert!(is_named && words.len() <= 3, "{}: `{line}`: {error}", page.display());
            }
        }
    }
    assert!(count > 80, "only {count} were found");
}

/// What a page tells to type: lines of its blocks, and what stands in backquotes.
fn command_lines(text: &str) -> Vec<String> {
    let is_command = |line: &&str| line.starts_with("lith ");
    let (mut found, mut paragraph, mut is_block) = (Vec::new(), String::new(), false);
    for line in text.lines().chain([""]) {
        if line.starts_with("```") {
            is_block = !is_block;
        } else if is_block {
            let parts = line.split('|').map(|part| part.trim().trim_start_matches("# "));
            found.extend(parts.filter(is_command).map(plain));
        } else if line.trim().is_empty() {
            // What stands in backquotes may go on in the next line, but not beyond its paragraph.
            let spans = paragraph.split('`').skip(1).step_by(2);
            found.extend(spans.flat_map(|span| span.split('|')).map(str::trim).filter(is_command).map(plain));
            paragraph.clear();
        } else {
            paragraph.push_str(line);
            paragraph.push(' ');
        }
    }
    found
}

/// Without what belongs to the shell.
fn plain(line: &str) -> String {
    let end = line.find(['>', '#', '…']).unwrap_or(line.len());
    line[..end].trim().to_owned()
}

fn page() -> String {
    let mut page = String::from(
        "# The command line\n\nMade from the program itself by a test; every command also says this with `--help`.\n",
    );
    let mut root = lith_cli::command().term_width(WIDTH);
    root.build();
    write_command(&mut page, &mut root, "lith");
    page
}

fn write_command(page: &mut String, command: &mut clap::Command, path: &str) {
    let help = command.render_help().to_string();
    let lines: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
    write!(page, "\n## {path}\n\n```text\n{}\n```\n", lines.join("\n")).expect("a String takes everything");
    for child in command.get_subcommands_mut().filter(|child| !child.is_hide_set()) {
        let path = format!("{path} {}", child.get_name());
        write_command(page, child, &path);
    }
}
