//! The document layer: YAML as a tree in which every node knows its place in the text.
//!
//! Owns the shape of the tree. Scalars are text, as written; no type is guessed from how they look, so `022`, `yes`
//! and `22222:22` stay what the person typed. Must not know any key of the job file.

use std::rc::Rc;

pub(crate) mod load;

/// One of the texts that are read together, in the order in which they were opened; 0 is the one that a person named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct FileId(pub(crate) u16);

/// Where something stands: the text, and byte offsets into it, end exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Span {
    pub(crate) file: FileId,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// One node of the tree. Aliases share the node they stand for.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) kind: Kind,
    /// Whether it is text without quotes, whose look may then mean a type to some reader.
    pub(crate) is_plain: bool,
    /// What a Compose file says about merging it.
    pub(crate) tag: Option<MergeTag>,
    weight: Weight,
}

impl Node {
    /// A node that no text holds: what was put together from several.
    pub(crate) fn new(span: Span, kind: Kind) -> Self {
        Self { span, kind, is_plain: false, tag: None, weight: Weight::default() }
    }

    /// A value that is not there.
    pub(crate) fn null(span: Span) -> Self {
        Self::new(span, Kind::Null)
    }
}

/// A tag of Compose files: how a value meets the one of an earlier file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MergeTag {
    /// `!reset`: there is no value, whatever an earlier file said.
    Reset,
    /// `!override`: this value alone, nothing of an earlier one.
    Override,
}

/// Which language a text is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// lith's job file: no tags.
    Job,
    /// Compose: [`MergeTag`] may stand at any value.
    Compose,
}

/// What a node holds.
#[derive(Debug)]
pub(crate) enum Kind {
    /// Nothing, `~` or `null`, unquoted.
    Null,
    Text(Rc<str>),
    List(Vec<Rc<Node>>),
    /// In the order of the text; no key stands twice.
    Map(Vec<Entry>),
}

impl Kind {
    /// How a message calls this kind of value.
    pub(crate) fn noun(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Text(_) => "a single value",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    pub(crate) value: Rc<Node>,
}

/// A key of a mapping.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) text: Rc<str>,
    pub(crate) span: Span,
}

/// What a node costs once its aliases are followed: the measure that keeps a small text from meaning a huge tree.
#[derive(Debug, Clone, Copy, Default)]
struct Weight {
    nodes: usize,
    bytes: usize,
    height: usize,
}

/// Where each line starts: places are counted often enough that scanning the text each time would add up.
pub(crate) struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    pub(crate) fn of(text: &str) -> Self {
        let after_breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { starts: std::iter::once(0).chain(after_breaks).collect() }
    }

    /// Line that holds the byte at `offset`, from 1, and the offset where it starts.
    pub(crate) fn locate(&self, offset: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|start| *start <= offset);
        (line, self.starts[line - 1])
    }
}
