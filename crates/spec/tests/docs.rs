//! The documentation tells the truth: each of its examples is read, each code and each quoted report is checked.
//!
//! A block marked `yaml` is a whole file when it starts with `job:`, else lines of a task. One marked `yaml wrong` is
//! refused with the report in the `text` block that follows.

use lith_spec::{Code, Colour, Files, Named, PathKind, Variables, check_job};

const GUIDE: &str = include_str!("../../../docs/guide/job-file.md");
const REFERENCE: &str = include_str!("../../../docs/reference/job.md");

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

/// A machine on which every file and folder that an example names is there.
struct Everything;

impl Files for Everything {
    fn kind(&self, path: &str) -> PathKind {
        if path == ".env" { PathKind::Absent } else { PathKind::File }
    }

    fn read(&self, _path: &str, _bytes_max: usize) -> Result<Vec<u8>, String> {
        Ok(b"NAME=value\n".to_vec())
    }
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
        let file = Named { path: String::from("hello.yaml"), bytes: whole(block).into_bytes() };
        let reading = check_job(&[file], &Variables::default(), &Everything);
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
    check_page(GUIDE, 7);
}

#[test]
fn reference() {
    check_page(REFERENCE, 40);
}

#[test]
fn every_code_is_in_the_reference() {
    for code in Code::ALL {
        assert!(REFERENCE.contains(&format!("`{code}`")), "{code}");
    }
}
