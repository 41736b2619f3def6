//! From a document to the tree: scalars get their types, and variables are put in.
//!
//! Owns this step, and the rule that keys are text and are not filled in. Must not know any key of Compose.

use std::rc::Rc;

use lith_core::value::quoted;

use super::loader::Loader;
use super::scalar;
use super::tree::{Class, Data, Member, Scalar, Value};
use super::variables::Scope;
use crate::diagnostic::Code;
use crate::document::{Entry, Kind, Node, Span};

/// The tree of a document, with the variables of a scope.
pub(super) fn decode(node: &Node, scope: &Scope, loader: &mut Loader<'_>) -> Value {
    let data = match &node.kind {
        Kind::Null => Data::Null,
        Kind::Text(text) => Data::Scalar(scalar_of(node, text, scope, loader)),
        Kind::List(items) => Data::List(items.iter().map(|item| decode(item, scope, loader)).collect()),
        Kind::Map(entries) => {
            let mut members = Vec::with_capacity(entries.len());
            for entry in entries {
                check_key(entry, loader);
                let value = decode(&entry.value, scope, loader);
                members.push(Member { key: entry.key.clone(), value });
            }
            Data::Map(members)
        }
    };
    Value { span: node.span, data, tag: node.tag }
}

fn scalar_of(node: &Node, text: &Rc<str>, scope: &Scope, loader: &mut Loader<'_>) -> Scalar {
    if node.is_plain {
        let (class, canonical) = scalar::decode(text);
        if class != Class::Text {
            let text = canonical.map_or_else(|| Rc::clone(text), Rc::from);
            return Scalar { text, class };
        }
    }
    let text = if text.contains('$') {
        let start = text_start(node.span, text, loader);
        // What cannot be filled in is reported; the value stays, so that the rest of the file is looked at.
        loader.expand(text, node.span, start, &[scope]).map_or_else(|| Rc::clone(text), Rc::from)
    } else {
        Rc::clone(text)
    };
    Scalar { text, class: Class::Text }
}

/// Where the text itself starts in its file, if it is written there byte for byte.
fn text_start(span: Span, text: &str, loader: &Loader<'_>) -> Option<usize> {
    let source = loader.reporter.text(span.file);
    let is_at = |start: usize| source.get(start..start + text.len()) == Some(text);
    [span.start, span.start + 1].into_iter().find(|start| is_at(*start))
}

/// Refuses a key that YAML takes for something else than text.
fn check_key(entry: &Entry, loader: &mut Loader<'_>) {
    let key = &entry.key;
    let source = loader.reporter.text(key.span.file);
    let is_plain = source.get(key.span.start..key.span.start + key.text.len()) == Some(&*key.text);
    let (class, _) = scalar::decode(&key.text);
    if is_plain && class != Class::Text {
        let message = format!("the key {} is not text to YAML", quoted(&key.text));
        let hint = format!("put it in quotes: `\"{}\"`", key.text);
        loader.reporter.error(Code::BadKey, key.span, message, hint);
    }
}
