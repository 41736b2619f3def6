//! A job file as its author laid it out: values as they are written, each with the comments that belong to it.
//!
//! Owns to which value a comment belongs: one on a line of its own to what follows, or to the end of the collection in
//! whose column it stands; one behind a value to that value. Must not judge: it is given text that was read before.

use std::collections::HashMap;

use granit_parser::{Event, Options, Parser, ScalarStyle, StructureStyle};

use crate::document::Lines;
use crate::document::load::NESTING_MAX;

/// The whole file.
pub(super) struct Outline {
    /// Comments before everything: those that an empty line or `---` parts from the first key.
    pub(super) head: Vec<String>,
    pub(super) root: Value,
    /// Comments after everything.
    pub(super) foot: Vec<String>,
    pub(super) has_anchors: bool,
    comments: Vec<String>,
}

/// A value with its anchor.
pub(super) struct Value {
    pub(super) anchor: Option<String>,
    pub(super) shape: Shape,
}

/// What a value is, as written.
pub(super) enum Shape {
    Null,
    /// `*name`.
    Alias(String),
    Text(Text),
    List(Body),
    Map(Body),
}

/// A single value.
pub(super) struct Text {
    /// What it means.
    pub(super) text: String,
    /// How it is written; of lines below a `|` or `>`, these without their indentation.
    pub(super) source: String,
    pub(super) style: Style,
}

impl Text {
    /// Whether it can stand below a `|` or `>`. Blanks at its start would need a digit in the header, and empty lines at its
    /// end a plus.
    pub(super) fn keeps_lines(&self) -> bool {
        let is_edged = self.text.starts_with([' ', '\n']) || self.text.ends_with("\n\n");
        !self.text.is_empty() && !is_edged
    }

    /// Whether it has lines that would become one, which nobody could read.
    fn would_be_flattened(&self) -> bool {
        let is_block = matches!(self.style, Style::Literal | Style::Folded);
        self.source.contains('\n') && !(is_block && self.keeps_lines())
    }
}

/// How a single value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Quoted,
    /// Lines below a `|`.
    Literal,
    /// Lines below a `>`.
    Folded,
}

/// What a collection holds.
pub(super) struct Body {
    pub(super) is_flow: bool,
    pub(super) slots: Vec<Slot>,
    /// Comments after the last one, with an empty line where one stands.
    pub(super) foot: Vec<String>,
}

/// An entry of a mapping, or an item of a list.
pub(super) struct Slot {
    /// Comments above it, with an empty text for an empty line.
    pub(super) above: Vec<String>,
    /// The comment behind it.
    pub(super) behind: Option<String>,
    /// The key of an entry.
    pub(super) key: Option<Text>,
    pub(super) value: Value,
    last_line: usize,
}

impl Outline {
    /// The outline of a text; `None` when it has something that no outline holds, such as two documents.
    pub(super) fn of(text: &str) -> Option<Self> {
        let mut options = Options::default();
        options.emit_comments = true;
        options.emit_anchor_events = true;
        options.flow_nesting_limit = NESTING_MAX;
        options.block_nesting_limit = NESTING_MAX;
        let mut builder = Builder {
            text,
            lines: Lines::of(text),
            empty_lines: text.split('\n').map(|line| line.trim().is_empty()).collect(),
            stack: Vec::new(),
            pending: Vec::new(),
            names: HashMap::new(),
            head: Vec::new(),
            root: None,
            comments: Vec::new(),
        };
        let mut events = Parser::new_from_str_with_options(text, options).peekable();
        while let Some(item) = events.next() {
            let (event, span) = item.ok()?;
            let range = span.byte_range()?;
            let mut name = None;
            if let Some(Ok((Event::Anchor(_, _), _))) = events.peek()
                && let Some(Ok((Event::Anchor(id, anchor), _))) = events.next()
            {
                builder.names.insert(id, anchor.to_string());
                name = Some(anchor.to_string());
            }
            builder.accept(event, range.start, range.end, name)?;
        }
        let foot = builder.taken(None);
        let has_anchors = !builder.names.is_empty();
        let mut root = builder.root?;
        let mut head = builder.head;
        if let Shape::Map(body) | Shape::List(body) = &mut root.shape
            && let Some(first) = body.slots.first_mut()
            && let Some(last) = first.above.iter().rposition(String::is_empty)
        {
            head.extend(first.above.drain(..=last));
        }
        Some(Self { head, root, foot, has_anchors, comments: builder.comments })
    }

    /// The words of every comment, in order.
    pub(super) fn sorted_comments(&self) -> Vec<&str> {
        let mut comments: Vec<&str> = self.comments.iter().map(String::as_str).collect();
        comments.sort_unstable();
        comments
    }
}

/// A comment that waits for what it belongs to.
struct Comment {
    line: usize,
    column: usize,
    text: String,
}

/// A collection that is still open.
struct Frame {
    is_map: bool,
    is_flow: bool,
    column: usize,
    anchor: Option<String>,
    /// Comments above the item that it is, in a list.
    above: Vec<String>,
    slots: Vec<Slot>,
    /// A key whose value has not come, with its line.
    key: Option<(Slot, usize)>,
}

struct Builder<'a> {
    text: &'a str,
    lines: Lines,
    /// For each line whether nothing stands in it.
    empty_lines: Vec<bool>,
    stack: Vec<Frame>,
    pending: Vec<Comment>,
    names: HashMap<usize, String>,
    head: Vec<String>,
    root: Option<Value>,
    comments: Vec<String>,
}

impl Builder<'_> {
    fn accept(&mut self, event: Event<'_>, start: usize, end: usize, anchor: Option<String>) -> Option<()> {
        match event {
            Event::Comment(..) => self.comment(start, end),
            Event::Alias(_) => {
                let name = self.text.get(start..end)?.to_owned();
                self.single(Value { anchor: None, shape: Shape::Alias(name) }, start, end)
            }
            Event::Scalar(text, style, _, tag) => {
                let written = self.text.get(start..end)?.trim_end();
                let end = start + written.len();
                let style = match style {
                    ScalarStyle::Plain if tag.is_none() => Style::Plain,
                    ScalarStyle::Literal => Style::Literal,
                    ScalarStyle::Folded => Style::Folded,
                    _ => Style::Quoted,
                };
                let source = match style {
                    Style::Literal | Style::Folded => self.moved_left(start, written),
                    Style::Plain | Style::Quoted => written.to_owned(),
                };
                let is_null = style == Style::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let text = Text { text: text.to_string(), source, style };
                if text.would_be_flattened() {
                    return None;
                }
                let shape = if is_null { Shape::Null } else { Shape::Text(text) };
                self.single(Value { anchor, shape }, start, end)
            }
            Event::SequenceStart(style, ..) => self.open(false, style, start, anchor),
            Event::MappingStart(style, ..) => self.open(true, style, start, anchor),
            Event::SequenceEnd | Event::MappingEnd => self.close(end),
            Event::DocumentStart(..) if self.root.is_some() => None,
            Event::DocumentStart(true, _) => {
                self.head = self.taken(None);
                Some(())
            }
            // The parser's enum is open. What is left carries no value.
            _ => Some(()),
        }
    }

    fn line_and_column(&self, at: usize) -> (usize, usize) {
        let (line, start) = self.lines.locate(at);
        (line, at - start)
    }

    /// Lines that start in the column of the first one, without what stands before it.
    fn moved_left(&self, start: usize, written: &str) -> String {
        let (_, column) = self.line_and_column(start);
        let unindented = |line: &str| {
            let blanks = line.bytes().take(column).take_while(|byte| *byte == b' ').count();
            line.get(blanks..).unwrap_or_default().trim_end_matches('\r').to_owned()
        };
        let mut lines = written.split('\n');
        let first = lines.next().unwrap_or_default().trim_end_matches('\r').to_owned();
        let lines: Vec<String> = std::iter::once(first).chain(lines.map(unindented)).collect();
        lines.join("\n")
    }

    fn comment(&mut self, start: usize, end: usize) -> Option<()> {
        let text = self.text.get(start..end)?.trim_end().to_owned();
        let (line, column) = self.line_and_column(start);
        self.comments.push(text.clone());
        let is_alone = self.text.get(start - column..start)?.trim().is_empty();
        if !is_alone && let Some(frame) = self.stack.last_mut() {
            let before = match &mut frame.key {
                Some((slot, key_line)) if *key_line == line => Some(slot),
                Some(_) => None,
                None => frame.slots.last_mut().filter(|slot| slot.last_line == line),
            };
            if let Some(slot) = before.filter(|slot| slot.behind.is_none()) {
                slot.behind = Some(text);
                return Some(());
            }
        }
        self.pending.push(Comment { line, column, text });
        Some(())
    }

    /// Whether the line before this one is empty.
    fn follows_empty(&self, line: usize) -> bool {
        line.checked_sub(2).and_then(|before| self.empty_lines.get(before)).is_some_and(|is_empty| *is_empty)
    }

    /// The line in which something starts; `None` when something else, but for a dash, stands before it in the line.
    fn own_line(&self, start: usize) -> Option<usize> {
        let (line, column) = self.line_and_column(start);
        let before = self.text.get(start - column..start)?;
        before.chars().all(|character| matches!(character, ' ' | '-')).then_some(line)
    }

    /// The comments that wait, for what starts in a line.
    fn taken(&mut self, next_line: Option<usize>) -> Vec<String> {
        let pending = std::mem::take(&mut self.pending);
        self.spaced(pending, next_line)
    }

    /// Comments with an empty text for each empty line before one, and before what follows.
    fn spaced(&self, comments: Vec<Comment>, next_line: Option<usize>) -> Vec<String> {
        let mut spaced = Vec::new();
        for comment in comments {
            if self.follows_empty(comment.line) {
                spaced.push(String::new());
            }
            spaced.push(comment.text);
        }
        if next_line.is_some_and(|line| self.follows_empty(line)) {
            spaced.push(String::new());
        }
        spaced
    }

    fn single(&mut self, value: Value, start: usize, end: usize) -> Option<()> {
        let (last_line, _) = self.line_and_column(end.max(start + 1) - 1);
        let is_key = self.stack.last().is_some_and(|frame| frame.is_map && frame.key.is_none());
        if is_key {
            let Shape::Text(key) = value.shape else { return None };
            if value.anchor.is_some() {
                return None;
            }
            let above = self.taken(self.own_line(start));
            let value = Value { anchor: None, shape: Shape::Null };
            let slot = Slot { above, behind: None, key: Some(key), value, last_line };
            self.stack.last_mut()?.key = Some((slot, last_line));
            return Some(());
        }
        let is_item = self.stack.last().is_some_and(|frame| !frame.is_map);
        let above = if is_item { self.taken(self.own_line(start)) } else { Vec::new() };
        self.attach(value, above, last_line);
        Some(())
    }

    fn open(
        &mut self,
        is_map: bool,
        style: StructureStyle,
        start: usize,
        anchor: Option<String>,
    ) -> Option<()> {
        let (_, column) = self.line_and_column(start);
        let is_key = self.stack.last().is_some_and(|frame| frame.is_map && frame.key.is_none());
        if is_key {
            return None;
        }
        let is_item = self.stack.last().is_some_and(|frame| !frame.is_map);
        let above = if is_item { self.taken(self.own_line(start)) } else { Vec::new() };
        let is_flow = style == StructureStyle::Flow;
        self.stack.push(Frame { is_map, is_flow, column, anchor, above, slots: Vec::new(), key: None });
        Some(())
    }

    fn close(&mut self, end: usize) -> Option<()> {
        let frame = self.stack.pop()?;
        // What stands further left belongs to a collection around this one.
        let first_left =
            self.pending.iter().position(|comment| !frame.is_flow && comment.column < frame.column);
        let left = self.pending.split_off(first_left.unwrap_or(self.pending.len()));
        let inside = std::mem::replace(&mut self.pending, left);
        let foot = self.spaced(inside, None);
        let body = Body { is_flow: frame.is_flow, slots: frame.slots, foot };
        let shape = if frame.is_map { Shape::Map(body) } else { Shape::List(body) };
        let (last_line, _) = self.line_and_column(end.max(1) - 1);
        self.attach(Value { anchor: frame.anchor, shape }, frame.above, last_line);
        Some(())
    }

    fn attach(&mut self, value: Value, above: Vec<String>, last_line: usize) {
        let Some(frame) = self.stack.last_mut() else {
            self.root = Some(value);
            return;
        };
        let slot = match frame.key.take() {
            Some((slot, _)) => Slot { value, last_line, ..slot },
            None => Slot { above, behind: None, key: None, value, last_line },
        };
        frame.slots.push(slot);
    }
}
