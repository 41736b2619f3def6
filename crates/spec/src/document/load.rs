//! From text to the tree, within bounds.
//!
//! Owns the limits on a document, aliases, merges (`<<`), duplicate keys and the wording of syntax errors. Reports every
//! duplicate key; stops at the first syntax error or broken limit, since what follows cannot be trusted.

use std::collections::HashMap;
use std::rc::Rc;

use granit_parser::{ErrorKind, Event, Options, Parser, ScalarStyle, ScanError, StructureStyle, Tag};

use lith_core::value::quoted;

use super::{Dialect, Entry, FileId, Key, Kind, Lines, MergeTag, Node, Span, Weight};
use crate::diagnostic::{Code, Reporter};

/// Longest file: far above any job written by hand, and parsed in a fraction of a second.
pub(crate) const FILE_BYTES_MAX: usize = 1 << 20;
/// Deepest nesting, aliases followed. The job file needs seven; the bound also keeps recursion off the stack's end.
pub(crate) const NESTING_MAX: usize = 32;
/// Most nodes, aliases followed: about what a file of the greatest length can write out by itself.
pub(crate) const NODES_MAX: usize = 200_000;
/// Most bytes of values, aliases followed: four times what a file can hold by itself.
pub(crate) const TEXT_BYTES_MAX: usize = 4 * FILE_BYTES_MAX;

/// Reads the one document of a text that the reporter was given; `None` when it could not be read to its end, which the
/// reporter then knows.
pub(crate) fn load(file: FileId, dialect: Dialect, reporter: &mut Reporter) -> Option<Rc<Node>> {
    load_all(file, dialect, reporter)?.pop()
}

/// Reads every document of a text, of which only Compose may have several; `None` when it could not be read to its end.
pub(crate) fn load_all(file: FileId, dialect: Dialect, reporter: &mut Reporter) -> Option<Vec<Rc<Node>>> {
    let text = &*reporter.text(file);
    if text.len() > FILE_BYTES_MAX {
        reporter.error(
            Code::TooLarge,
            Span { file, ..Span::default() },
            format!("the file holds {} bytes; the limit is {FILE_BYTES_MAX}", text.len()),
            "a job file describes a job; keep data out of it",
        );
        return None;
    }
    let mut options = Options::default();
    options.emit_comments = false;
    options.flow_nesting_limit = NESTING_MAX;
    options.block_nesting_limit = NESTING_MAX;
    let lines = Lines::of(text);
    let mut loader = Loader {
        file,
        dialect,
        text,
        lines,
        reporter,
        stack: Vec::new(),
        anchors: HashMap::new(),
        roots: Vec::new(),
        spent: Weight::default(),
    };
    for item in Parser::new_from_str_with_options(text, options) {
        let outcome = match item {
            Ok((event, span)) => {
                let tag = span.tag_span().map(|span| in_bytes(file, span));
                loader.accept(event, in_bytes(file, span), tag)
            }
            Err(error) => {
                loader.syntax_error(&error);
                Err(Stop)
            }
        };
        if outcome.is_err() {
            return None;
        }
    }
    Some(loader.roots)
}

/// The parser gives byte offsets whenever it reads from a string.
fn in_bytes(file: FileId, span: granit_parser::Span) -> Span {
    let range = span.byte_range().expect("a parser of a string knows its byte offsets");
    Span { file, start: range.start, end: range.end }
}

/// The document cannot be read further; the reporter knows why.
struct Stop;

/// A collection that is still open.
struct Frame {
    span: Span,
    tag: Option<MergeTag>,
    is_flow: bool,
    anchor: usize,
    weight: Weight,
    items: Items,
}

enum Items {
    List(Vec<Rc<Node>>),
    Map(MapItems),
}

#[derive(Default)]
struct MapItems {
    entries: Vec<Entry>,
    seen: HashMap<Rc<str>, Span>,
    merges: Vec<Entry>,
    pending: Pending,
}

/// What the next node of a mapping is.
#[derive(Default)]
enum Pending {
    /// A key.
    #[default]
    Key,
    /// The value of this key.
    Value(Key),
    /// The value of a key that was refused.
    Refused,
}

struct Loader<'a> {
    file: FileId,
    dialect: Dialect,
    text: &'a str,
    lines: Lines,
    reporter: &'a mut Reporter,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Rc<Node>>,
    roots: Vec<Rc<Node>>,
    /// Nodes and bytes so far, aliases followed.
    spent: Weight,
}

impl Loader<'_> {
    fn accept(&mut self, event: Event<'_>, span: Span, tag_span: Option<Span>) -> Result<(), Stop> {
        match event {
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd | Event::Anchor(..) => Ok(()),
            Event::DocumentStart(..) => self.start_document(span),
            Event::Scalar(text, style, anchor, tag) => {
                let merge = self.merge_tag(tag.as_deref(), tag_span.unwrap_or(span));
                let is_text =
                    style != ScalarStyle::Plain || tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
                let is_null = !is_text && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let weight = Weight { nodes: 1, bytes: text.len(), height: 1 };
                self.spend(weight, span)?;
                let kind = if is_null { Kind::Null } else { Kind::Text(Rc::from(&*text)) };
                let span = self.trimmed(span);
                self.finish(Node { span, kind, is_plain: !is_text, tag: merge, weight }, anchor)
            }
            Event::SequenceStart(style, anchor, tag) => {
                let tag = self.merge_tag(tag.as_deref(), tag_span.unwrap_or(span));
                self.open(style, anchor, tag, span, Items::List(Vec::new()))
            }
            Event::MappingStart(style, anchor, tag) => {
                let tag = self.merge_tag(tag.as_deref(), tag_span.unwrap_or(span));
                self.open(style, anchor, tag, span, Items::Map(MapItems::default()))
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            Event::Alias(anchor) => self.alias(anchor, span),
            // The parser's enum is open. What is not known here was not asked for and carries no value: comments.
            _ => Ok(()),
        }
    }

    fn start_document(&mut self, span: Span) -> Result<(), Stop> {
        if self.roots.is_empty() || self.dialect == Dialect::Compose {
            return Ok(());
        }
        self.reporter.error(
            Code::SeveralDocuments,
            span,
            "a second document starts here; a file declares one job",
            "put the other job into its own file",
        );
        Err(Stop)
    }

    fn merge_tag(&mut self, tag: Option<&Tag>, span: Span) -> Option<MergeTag> {
        let tag = tag.filter(|tag| !tag.is_yaml_core_schema())?;
        let original = tag.original();
        let place = match (self.dialect, &*original) {
            (Dialect::Compose, "!reset") => return Some(MergeTag::Reset),
            (Dialect::Compose, "!override") => return Some(MergeTag::Override),
            // What some programs write before `<<`, which is what it is without.
            (Dialect::Compose, "!!merge") => return None,
            (Dialect::Compose, _) => "Compose",
            (Dialect::Job, _) => "job",
        };
        let message = format!("the tag {} means nothing in a {place} file", quoted(&original));
        self.reporter.error(Code::Tag, span, message, String::from("remove the tag"));
        None
    }

    fn spend(&mut self, weight: Weight, span: Span) -> Result<(), Stop> {
        self.spent.nodes = self.spent.nodes.saturating_add(weight.nodes);
        self.spent.bytes = self.spent.bytes.saturating_add(weight.bytes);
        let broken = if self.stack.len().saturating_add(weight.height) > NESTING_MAX {
            Some((Code::TooDeep, format!("values are nested more than {NESTING_MAX} deep here")))
        } else if self.spent.nodes > NODES_MAX {
            Some((Code::TooLarge, format!("the file holds more than {NODES_MAX} values, aliases included")))
        } else if self.spent.bytes > TEXT_BYTES_MAX {
            Some((
                Code::TooLarge,
                format!("the values take more than {TEXT_BYTES_MAX} bytes, aliases included"),
            ))
        } else {
            None
        };
        let Some((code, message)) = broken else { return Ok(()) };
        self.reporter.error(code, span, message, None);
        Err(Stop)
    }

    fn open(
        &mut self,
        style: StructureStyle,
        anchor: usize,
        tag: Option<MergeTag>,
        span: Span,
        items: Items,
    ) -> Result<(), Stop> {
        self.spend(Weight { nodes: 1, bytes: 0, height: 1 }, span)?;
        self.stack.push(Frame {
            span,
            tag,
            is_flow: style == StructureStyle::Flow,
            anchor,
            weight: Weight { nodes: 1, bytes: 0, height: 1 },
            items,
        });
        Ok(())
    }

    fn close(&mut self, end: Span) -> Result<(), Stop> {
        let mut frame = self.stack.pop().expect("the parser pairs the start and the end of a collection");
        if frame.is_flow {
            frame.span.end = end.end;
        }
        let kind = match frame.items {
            Items::List(items) => Kind::List(items),
            Items::Map(items) => Kind::Map(self.merged(items)),
        };
        let span = frame.span;
        let node = Node { span, kind, is_plain: false, tag: frame.tag, weight: frame.weight };
        self.finish(node, frame.anchor)
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), Stop> {
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            self.reporter.error(
                Code::Syntax,
                span,
                "this alias stands inside the value that it repeats",
                None,
            );
            return Err(Stop);
        };
        self.spend(node.weight, span)?;
        self.attach(node, span);
        Ok(())
    }

    fn finish(&mut self, node: Node, anchor: usize) -> Result<(), Stop> {
        let span = node.span;
        let node = Rc::new(node);
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        self.attach(node, span);
        Ok(())
    }

    /// Hands a finished node to the collection it stands in; `span` is its place there, which for an alias is not the
    /// node's own.
    fn attach(&mut self, node: Rc<Node>, span: Span) {
        let Some(frame) = self.stack.last_mut() else {
            self.roots.push(node);
            return;
        };
        frame.span.end = frame.span.end.max(span.end);
        frame.weight.nodes = frame.weight.nodes.saturating_add(node.weight.nodes);
        frame.weight.bytes = frame.weight.bytes.saturating_add(node.weight.bytes);
        frame.weight.height = frame.weight.height.max(node.weight.height + 1);
        match &mut frame.items {
            Items::List(items) => items.push(node),
            Items::Map(map) => map.attach(node, span, &self.lines, self.reporter),
        }
    }

    /// The entries of a mapping with those of its `<<` keys; what stands in the mapping itself wins, then the first.
    fn merged(&mut self, mut map: MapItems) -> Vec<Entry> {
        for merge in std::mem::take(&mut map.merges) {
            let mut sources = Vec::new();
            match &merge.value.kind {
                Kind::Map(entries) => sources.push(entries),
                Kind::List(items) => {
                    sources.extend(items.iter().filter_map(|item| match &item.kind {
                        Kind::Map(entries) => Some(entries),
                        Kind::Null | Kind::Text(_) | Kind::List(_) => None,
                    }));
                    if sources.len() != items.len() {
                        sources.clear();
                    }
                }
                Kind::Null | Kind::Text(_) => {}
            }
            if sources.is_empty() {
                self.reporter.error(
                    Code::WrongType,
                    merge.key.span,
                    "`<<` takes a mapping to merge, or a list of mappings",
                    String::from("name an anchored mapping, as in `<<: *defaults`"),
                );
            }
            for entry in sources.into_iter().flatten() {
                if !map.seen.contains_key(&entry.key.text) {
                    map.seen.insert(Rc::clone(&entry.key.text), entry.key.span);
                    map.entries.push(entry.clone());
                }
            }
        }
        map.entries
    }

    /// A plain scalar's span may run on over white space and comments: cut it back to the text.
    fn trimmed(&self, span: Span) -> Span {
        let Some(text) = self.text.get(span.start..span.end) else { return span };
        Span { end: span.start + text.trim_end().len(), ..span }
    }

    fn syntax_error(&mut self, error: &ScanError) {
        let start = error.marker().byte_offset().unwrap_or(self.text.len()).min(self.text.len());
        let span = Span { file: self.file, start, end: start };
        let (code, message, hint) = explain(error.kind());
        let open = self.stack.last().filter(|frame| frame.is_flow && blames_brackets(error.kind()));
        let hint = match open {
            Some(frame) => {
                let bracket =
                    self.text.get(frame.span.start..).and_then(|rest| rest.chars().next()).unwrap_or('[');
                let (line, _) = self.lines.locate(frame.span.start);
                Some(format!("the `{bracket}` of line {line} is still open here"))
            }
            None => hint.map(str::to_owned),
        };
        self.reporter.error(code, span, message, hint);
    }
}

impl MapItems {
    fn attach(&mut self, node: Rc<Node>, span: Span, lines: &Lines, reporter: &mut Reporter) {
        match std::mem::take(&mut self.pending) {
            Pending::Key => self.pending = self.key(&node, span, lines, reporter),
            Pending::Refused => {}
            Pending::Value(key) if &*key.text == "<<" => self.merges.push(Entry { key, value: node }),
            Pending::Value(key) => {
                self.seen.insert(Rc::clone(&key.text), key.span);
                self.entries.push(Entry { key, value: node });
            }
        }
    }

    fn key(&self, node: &Node, span: Span, lines: &Lines, reporter: &mut Reporter) -> Pending {
        let name = match &node.kind {
            Kind::Text(name) => Rc::clone(name),
            Kind::Null => {
                reporter.error(Code::BadKey, span, "a key is empty here", None);
                return Pending::Refused;
            }
            Kind::List(_) | Kind::Map(_) => {
                let message = format!("a key must be text; this is {}", node.kind.noun());
                let hint = "quote text that starts with `{` or `[`";
                reporter.error(Code::BadKey, span, message, hint);
                return Pending::Refused;
            }
        };
        if let Some(first) = self.seen.get(&name) {
            let (line, _) = lines.locate(first.start);
            let message = format!("the key {} stands twice in this mapping", quoted(&name));
            let hint = format!("the first is in line {line}; keep one of them");
            reporter.error(Code::DuplicateKey, span, message, hint);
            return Pending::Refused;
        }
        Pending::Value(Key { text: name, span })
    }
}

/// Whether an open bracket is the likely cause of the error, rather than what stands at its place.
fn blames_brackets(kind: &ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::MappingValueNotAllowed
            | ErrorKind::InvalidColonPlacement
            | ErrorKind::ExpectedFlowMappingSeparator
            | ErrorKind::ExpectedFlowSequenceSeparator
            | ErrorKind::UnexpectedEofFlowMapping
            | ErrorKind::UnexpectedEofFlowSequence
            | ErrorKind::UnexpectedEofImplicitFlowMapping
    )
}

/// What a syntax error means to somebody who does not know the YAML grammar by heart.
fn explain(kind: &ErrorKind) -> (Code, String, Option<&'static str>) {
    let (message, hint) = match kind {
        ErrorKind::RecursionLimitExceeded => {
            return (Code::TooDeep, format!("values are nested more than {NESTING_MAX} deep here"), None);
        }
        ErrorKind::TabNotAllowed | ErrorKind::TabInBlockIndentation | ErrorKind::TabInIndentation => {
            (String::from("a tab indents this line"), Some("YAML is indented with spaces"))
        }
        ErrorKind::UnknownAnchor => (
            String::from("no anchor of this name stands before this alias"),
            Some("quote text that starts with `*`"),
        ),
        ErrorKind::UnclosedQuotedScalar => (String::from("a quoted text starts here and never ends"), None),
        ErrorKind::UnclosedFlowCollection { open } => {
            (format!("a `{open}` stands here and is never closed"), None)
        }
        ErrorKind::MappingValueNotAllowed | ErrorKind::InvalidColonPlacement => (
            String::from("a `:` stands where no key can end"),
            Some("quote a value that holds `: `, and give each key its own line"),
        ),
        ErrorKind::InvalidIndentation | ErrorKind::ExpectedBlockMappingKey => (
            String::from("this line is indented as no line before it"),
            Some("keys of one mapping start in the same column"),
        ),
        ErrorKind::UnexpectedCharacter { character } => (
            format!("text without quotes cannot start with {}", quoted(&character.to_string())),
            Some("put the value in quotes"),
        ),
        other => (format!("this is not YAML: {other}"), None),
    };
    (Code::Syntax, message, hint)
}
