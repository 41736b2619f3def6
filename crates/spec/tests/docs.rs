//! The documentation tells the truth: each of its examples is read, each code and each quoted report is checked.
//!
//! A block marked `yaml` is a whole file when it starts with `job:`, else lines of a task. One marked `yaml wrong` is
//! refused with the report in the `text` block that follows.

use lith_spec::{Code, Colour, check};

const GUIDE: &str = include_str!("../../../docs/guide/job-file.md");
const REFERENCE: &str = include_str!("../../../docs/reference/job-file.md");

/// The fenced blocks of a page: their mark and their text.
fn blocks(page: &str) -> Vec<(&str, &str)> {
    let mut blocks = Vec::new();
    let mut rest = page;
    while let Some((_, after)) = rest.split_once("\n```") {
        let (mark, after) = after.split_once('\n').expect("a fence ends its line");
        let end = after.find("```").expect("each block is closed");
        blocks.push((mark, &after[..end]));
        rest = &after[end + 3..];
    }
    blocks
}

/// A whole file, from lines of a task.
fn whole(block: &str) -> String {
    if block.starts_with("job:") {
        return block.to_owned();
    }
    let image = if block.starts_with("image:") { "" } else { "    image: nginx\n" };
    let lines: String = block.lines().map(|line| format!("    {line}\n")).collect();
    format!("job: hello\ntasks:\n  web:\n{image}{lines}")
}

fn check_page(page: &str, examples_min: usize) {
    let blocks = blocks(page);
    let mut examples = 0;
    for (index, (mark, block)) in blocks.iter().enumerate() {
        let reading = check("hello.yaml", &whole(block));
        let report = reading.diagnostics.render(Colour::None);
        match *mark {
            "yaml" => {
                assert!(reading.diagnostics.list.is_empty(), "{block}\n{report}");
                examples += 1;
            }
            "yaml wrong" => assert_eq!(blocks.get(index + 1), Some(&("text", report.as_str()))),
            "text" => {}
            other => assert_eq!(other, "yaml", "a mark that this test does not know"),
        }
    }
    assert!(examples >= examples_min, "{examples} examples were found");
}

#[test]
fn guide() {
    check_page(GUIDE, 4);
}

#[test]
fn reference() {
    check_page(REFERENCE, 16);
}

#[test]
fn every_code_is_in_the_reference() {
    for code in Code::ALL {
        assert!(REFERENCE.contains(&format!("`{code}`")), "{code}");
    }
}
