//! The reference page of the command line is made from the grammar: this test fails when they differ.

use std::fmt::Write;
use std::path::Path;

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
