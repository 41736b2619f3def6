//! Pages of the documentation: their fenced blocks, and how expected text is compared or rewritten.

use std::ops::Range;
use std::path::PathBuf;

/// Set to write what is expected into the pages instead of comparing it.
pub(crate) const WRITE: &str = "LITH_WRITE_EXAMPLES";

/// A page of the documentation.
pub(crate) struct Page {
    path: PathBuf,
    /// As a person names it.
    pub(crate) name: String,
    pub(crate) text: String,
    /// What should stand elsewhere than it does: where, and what.
    corrections: Vec<(Range<usize>, String)>,
}

/// A fenced block of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// What stands behind the first fence.
    pub(crate) mark: String,
    pub(crate) text: String,
    range: Range<usize>,
}

/// The folder that holds the project.
fn root() -> PathBuf {
    // Where cargo runs the test, not where it was compiled: the checkout may have been moved.
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../..")
}

/// The names of the pages in a folder.
pub(crate) fn pages_of(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(root().join(folder)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> =
        names.filter(|name| name.ends_with(".md")).map(|name| format!("{folder}/{name}")).collect();
    names.sort();
    names
}

impl Page {
    pub(crate) fn open(name: &str) -> Self {
        let path = root().join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        Self { path, name: name.to_owned(), text, corrections: Vec::new() }
    }

    /// The fenced blocks, all of them: a fence that is not seen would be an example that nothing executes.
    pub(crate) fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut at = 0;
        while let Some(start) = self.text[at..].find("\n```").map(|start| at + start + 1) {
            let first = start + self.text[start..].find('\n').expect("a fence ends its line") + 1;
            let end = first + self.text[first - 1..].find("\n```").expect("each block is closed");
            let mark = self.text[start + 3..first].trim().to_owned();
            blocks.push(Block { mark, text: self.text[first..end].to_owned(), range: first..end });
            at = end + 3;
        }
        let fences = self.text.lines().filter(|line| line.contains("```") && !line.contains("````")).count();
        assert_eq!(fences, 2 * blocks.len(), "{}: a fence is indented or within a line", self.name);
        blocks
    }

    /// The block says this.
    pub(crate) fn expect(&mut self, block: &Block, text: &str) {
        if block.text != text {
            self.corrections.push((block.range.clone(), text.to_owned()));
        }
    }

    /// Below the line, which stands once, stands this table.
    pub(crate) fn expect_table(&mut self, header: &str, table: &str) {
        let found: Vec<usize> =
            self.text.match_indices(&format!("\n{header}\n")).map(|(at, _)| at + 1).collect();
        let [start] = found.as_slice() else { panic!("{}: one line is `{header}`", self.name) };
        let lines = self.text[*start..].split_inclusive('\n').take_while(|line| line.starts_with('|'));
        let end = start + lines.map(str::len).sum::<usize>();
        if self.text[*start..end] != *table {
            self.corrections.push((*start..end, table.to_owned()));
        }
    }

    /// Compares what is expected with what is there, or writes it.
    pub(crate) fn finish(mut self) {
        self.corrections.sort_by_key(|(range, _)| range.start);
        let Some((range, text)) = self.corrections.first() else { return };
        if std::env::var_os(WRITE).is_none() {
            let line = self.text[..range.start].lines().count() + 1;
            panic!(
                "{}:{line}: this stands there:\n{}\nand this should:\n{text}\n`{WRITE}=1 cargo test -p lith-spec --test docs` \
                 writes it",
                self.name,
                &self.text[range.clone()]
            );
        }
        for (range, text) in self.corrections.iter().rev() {
            self.text.replace_range(range.clone(), text);
        }
        std::fs::write(&self.path, &self.text).unwrap();
    }
}
