//! The canonical layout of a job file: for `lith fmt`.
//!
//! Owns what is made uniform: indentation, spaces, quotes, the order of keys. Comments, variables, anchors, the order of
//! tasks, and whether a list or mapping stands on one line, are the person's own. What comes out is read again and
//! compared: a file that could not be laid out without a loss stays as it is.

use std::rc::Rc;

use crate::diagnostic::{Diagnostics, Reporter};
use crate::document::load::load;
use crate::document::{Dialect, Entry, Kind, Node};
use crate::read::add_text;

mod layout;
mod outline;

use outline::Outline;

/// The file in its canonical layout; `None` when that would lose something of it, or make it hard to read, such as text in
/// quotes over several lines. `file_name` is only repeated in diagnostics.
///
/// # Errors
/// What keeps it from being YAML that a job file may be; whether it is a job is not looked at.
pub fn format(file_name: &str, bytes: &[u8]) -> Result<Option<String>, Diagnostics> {
    let mut reporter = Reporter::default();
    let Some(id) = add_text(file_name, bytes, &mut reporter) else { return Err(reporter.finish()) };
    let text = &*reporter.text(id);
    let root = load(id, Dialect::Job, &mut reporter);
    if reporter.has_errors() {
        return Err(reporter.finish());
    }
    Ok(match root {
        Some(root) => laid_out(text, &root),
        None => Some(text.to_owned()),
    })
}

/// The text in its layout; `None` when something of it would be lost.
fn laid_out(text: &str, root: &Rc<Node>) -> Option<String> {
    let outline = Outline::of(text)?;
    let written = layout::write(&outline);
    let mut reporter = Reporter::default();
    let file = reporter.add_file("written", &written);
    let again = load(file, Dialect::Job, &mut reporter)?;
    let outline_again = Outline::of(&written)?;
    let is_kept = !reporter.has_errors()
        && is_same(root, &again)
        && outline_again.sorted_comments() == outline.sorted_comments()
        // What is laid out is laid out.
        && layout::write(&outline_again) == written;
    is_kept.then_some(written)
}

/// Whether both mean the same; the order of keys means nothing.
fn is_same(one: &Node, other: &Node) -> bool {
    match (&one.kind, &other.kind) {
        (Kind::Null, Kind::Null) => true,
        (Kind::Text(one), Kind::Text(other)) => one == other,
        (Kind::List(one), Kind::List(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Kind::Map(one), Kind::Map(other)) => {
            let (one, other) = (by_key(one), by_key(other));
            one.len() == other.len()
                && one
                    .iter()
                    .zip(&other)
                    .all(|(one, other)| one.key.text == other.key.text && is_same(&one.value, &other.value))
        }
        (Kind::Null | Kind::Text(_) | Kind::List(_) | Kind::Map(_), _) => false,
    }
}

fn by_key(entries: &[Entry]) -> Vec<&Entry> {
    let mut entries: Vec<&Entry> = entries.iter().collect();
    entries.sort_by(|a, b| a.key.text.cmp(&b.key.text));
    entries
}
