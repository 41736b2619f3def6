//! What a value may look like, and what to say when it does not.
//!
//! Owns the small language in which `schema` writes down the form of a Compose file, and its check. Must not know any key.

use std::collections::HashSet;

use lith_core::value::quoted;

use super::tree::{Class, Data, Member, Scalar, Value};
use crate::diagnostic::{Code, Reporter};
use crate::document::Span;

/// Longest word compared with known ones: twice the longest key.
const WORD_BYTES_MAX: usize = 48;
/// Most keys listed in a hint: what a person takes in at a glance.
const LISTED_KEYS_MAX: usize = 14;

/// Most names that one is compared with: a project that a person oversees has fewer.
const COMPARED_MAX: usize = 200;

/// Types of scalars, as bits of [`Shape::scalars`].
pub(super) const TEXT: u8 = 1;
pub(super) const TRUTH: u8 = 2;
pub(super) const WHOLE: u8 = 4;
pub(super) const FRACTION: u8 = 8;
pub(super) const NUMBER: u8 = WHOLE | FRACTION;
/// Nothing at all.
pub(super) const NULL: u8 = 16;

/// The forms that a value may have: any of these that are not empty.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) scalars: u8,
    /// The only texts allowed; any when empty.
    pub(super) words: &'static [&'static str],
    pub(super) list: Option<&'static Shape>,
    /// Whether a list holds nothing twice.
    pub(super) is_unique: bool,
    pub(super) map: Option<&'static MapShape>,
    /// Whether anything goes.
    pub(super) is_free: bool,
}

/// The form of a mapping.
#[derive(Debug)]
pub(super) struct MapShape {
    /// What it is, with its article.
    pub(super) noun: &'static str,
    pub(super) fields: &'static [(&'static str, Shape)],
    /// The form of what stands under names that a person chooses, and what these names are.
    pub(super) others: Option<(Names, &'static Shape)>,
    pub(super) required: &'static [&'static str],
    /// Whether keys that start with `x-` are let through.
    pub(super) has_extensions: bool,
}

/// Which names a person may choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// Any.
    Any,
    /// ASCII letters, digits, `.`, `_` and `-`.
    Plain,
    /// Small letters.
    Small,
}

impl Shape {
    const NONE: Self =
        Self { scalars: 0, words: &[], list: None, is_unique: false, map: None, is_free: false };
    pub(super) const FREE: Self = Self { is_free: true, ..Self::NONE };

    pub(super) const fn scalar(scalars: u8) -> Self {
        Self { scalars, ..Self::NONE }
    }

    pub(super) const fn words(words: &'static [&'static str]) -> Self {
        Self { scalars: TEXT, words, ..Self::NONE }
    }

    pub(super) const fn list(items: &'static Shape) -> Self {
        Self { list: Some(items), ..Self::NONE }
    }

    pub(super) const fn unique(items: &'static Shape) -> Self {
        Self { list: Some(items), is_unique: true, ..Self::NONE }
    }

    pub(super) const fn map(map: &'static MapShape) -> Self {
        Self { map: Some(map), ..Self::NONE }
    }

    /// The same, or such a scalar.
    pub(super) const fn or(self, scalars: u8) -> Self {
        Self { scalars: self.scalars | scalars, ..self }
    }

    /// The same, or such a mapping.
    pub(super) const fn or_map(self, map: &'static MapShape) -> Self {
        Self { map: Some(map), ..self }
    }

    /// What it takes, in words.
    fn wanted(&self) -> String {
        let mut forms: Vec<&str> = Vec::new();
        let all = [(TEXT, "text"), (NUMBER, "a number"), (TRUTH, "`true` or `false`")];
        // Where both text and something else are let through, text is what stands for it: `"5"`, `"true"`.
        let named =
            |bit: u8| self.scalars & bit != 0 && (bit != TEXT || self.scalars & (NUMBER | TRUTH) == 0);
        forms.extend(all.iter().filter(|(bit, _)| named(*bit)).map(|(_, noun)| *noun));
        if self.scalars & (NUMBER | TRUTH | TEXT) == (NUMBER | TRUTH | TEXT) {
            forms = vec!["a single value"];
        }
        if self.list.is_some() {
            forms.push("a list");
        }
        if self.map.is_some() {
            forms.push("a mapping");
        }
        let (last, rest) = forms.split_last().expect("each shape lets something through");
        if rest.is_empty() { (*last).to_owned() } else { format!("{} or {last}", rest.join(", ")) }
    }
}

/// Checks a value, which a message calls by this name.
pub(super) fn check(value: &Value, shape: &Shape, name: &str, reporter: &mut Reporter) {
    if shape.is_free {
        return;
    }
    match &value.data {
        Data::Null if shape.scalars & NULL != 0 => {}
        Data::Scalar(scalar) if allows(shape, scalar.class) => {
            check_words(value.span, scalar, shape, name, reporter)
        }
        Data::List(items) if shape.list.is_some() => {
            let item_shape = shape.list.unwrap_or(&Shape::FREE);
            let item_name = item_name(name);
            for item in items {
                check(item, item_shape, &item_name, reporter);
            }
            if shape.is_unique {
                check_unique(items, reporter);
            }
        }
        Data::Map(members) => match shape.map {
            Some(map) => check_map(value.span, members, map, reporter),
            None => refuse(value, shape, name, reporter),
        },
        Data::Null | Data::Scalar(_) | Data::List(_) => refuse(value, shape, name, reporter),
    }
}

fn item_name(name: &str) -> String {
    if name.starts_with("an item of ") { name.to_owned() } else { format!("an item of {name}") }
}

fn allows(shape: &Shape, class: Class) -> bool {
    let bit = match class {
        Class::Text => TEXT,
        Class::Truth => TRUTH,
        Class::Whole => WHOLE,
        Class::Fraction => FRACTION,
        Class::Date => 0,
    };
    shape.scalars & bit != 0
}

fn check_words(span: Span, scalar: &Scalar, shape: &Shape, name: &str, reporter: &mut Reporter) {
    if shape.words.is_empty() || shape.words.contains(&&*scalar.text) {
        return;
    }
    let message = format!("{name} cannot be {}", quoted(&scalar.text));
    let hint = match nearest(&scalar.text, shape.words) {
        Some(word) => format!("did you mean `{word}`?"),
        None => format!("write one of {}", shape.words.join(", ")),
    };
    reporter.error(Code::WrongType, span, message, hint);
}

fn refuse(value: &Value, shape: &Shape, name: &str, reporter: &mut Reporter) {
    let is_date = matches!(&value.data, Data::Scalar(scalar) if scalar.class == Class::Date);
    let message = if is_date {
        format!("{name} is a date to YAML")
    } else {
        format!("{name} must be {}, not {}", shape.wanted(), value.noun())
    };
    let hint = match &value.data {
        Data::Scalar(scalar) if shape.scalars & TEXT != 0 => {
            Some(format!("put it in quotes: `\"{}\"`", scalar.text.chars().take(40).collect::<String>()))
        }
        Data::Null => Some(String::from("give it a value, or remove it")),
        Data::Scalar(_) if shape.list.is_some() => Some(String::from("write a list, each item after `- `")),
        Data::Scalar(_) if shape.map.is_some() => {
            Some(String::from("write a mapping: lines of `key: value` below it"))
        }
        Data::List(items) if shape.map.is_some() && items.iter().all(|item| !item.members().is_empty()) => {
            Some(String::from("remove the `-` before each key"))
        }
        Data::Scalar(_) | Data::List(_) | Data::Map(_) => None,
    };
    reporter.error(Code::WrongType, value.span, message, hint);
    // Whoever reads it all the same has nothing to add.
    reporter.mute(value.span);
}

fn check_unique(items: &[Value], reporter: &mut Reporter) {
    let mut seen = HashSet::new();
    for item in items {
        let Some(text) = item.text() else { continue };
        if !seen.insert(text) {
            let message = format!("{} stands twice in this list", quoted(text));
            reporter.error(Code::Repeated, item.span, message, "keep one of them");
        }
    }
}

fn check_map(span: Span, members: &[Member], shape: &MapShape, reporter: &mut Reporter) {
    for member in members {
        let name = &*member.key.text;
        let known = shape.fields.binary_search_by(|(key, _)| (*key).cmp(name)).ok();
        if let Some(at) = known {
            check(&member.value, &shape.fields[at].1, &quoted(name), reporter);
        } else if shape.has_extensions && name.starts_with("x-") {
            // Compose leaves these to whoever wrote them.
        } else if let Some((names, other)) = shape.others {
            check_name(member, names, shape.noun, reporter);
            check(&member.value, other, &quoted(name), reporter);
        } else {
            refuse_key(member, shape, reporter);
        }
    }
    for key in shape.required {
        if !members.iter().any(|member| &*member.key.text == *key) {
            let message = format!("{} needs `{key}`", shape.noun);
            let hint = format!("add `{key}:` here");
            reporter.error(Code::MissingKey, span, message, hint);
        }
    }
}

fn check_name(member: &Member, names: Names, noun: &str, reporter: &mut Reporter) {
    let name = &*member.key.text;
    let (is_fit, letters) = match names {
        Names::Any => (true, ""),
        Names::Plain => {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            (name.chars().all(is_plain), "letters, digits, `.`, `_` and `-`")
        }
        Names::Small => (name.bytes().all(|byte| byte.is_ascii_lowercase()), "small letters"),
    };
    let (message, hint) = if name.is_empty() {
        (format!("a name in {noun} is empty"), String::from("write a name before the `:`"))
    } else if is_fit {
        return;
    } else {
        (format!("{} is not a name in {noun}", quoted(name)), format!("names are made of {letters}"))
    };
    reporter.error(Code::BadName, member.key.span, message, hint);
    // Whoever reads it all the same has nothing to add.
    reporter.mute(member.key.span);
}

fn refuse_key(member: &Member, shape: &MapShape, reporter: &mut Reporter) {
    let name = &*member.key.text;
    let known: Vec<&'static str> = shape.fields.iter().map(|(key, _)| *key).collect();
    let folded = name.to_ascii_lowercase().replace('-', "_");
    let message = format!("{} has no key {}", shape.noun, quoted(name));
    // Once nobody will read what more is said, the nearest word is not looked for.
    let near = if reporter.is_full() { None } else { nearest(&folded, &known) };
    let hint = match near {
        Some(key) => format!("did you mean `{key}`?"),
        None if known.len() <= LISTED_KEYS_MAX => format!("its keys are {}", known.join(", ")),
        None => String::from("remove it; a key of your own starts with `x-`"),
    };
    reporter.error(Code::UnknownKey, member.key.span, message, hint);
}

/// The word of `known` that is at most a third of its letters away, if any.
fn nearest<'w>(word: &str, known: &[&'w str]) -> Option<&'w str> {
    // The distance costs the product of both lengths; no slip of the finger makes a word this long.
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(word, known), *known))
        .filter(|(distance, known)| *distance < known.len() && *distance <= known.len().max(3) / 3)
        .min()
        .map(|(_, known)| known)
}

/// The name that was probably meant, among the first of those known.
pub(super) fn meant<'w>(word: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    nearest(word, &known.take(COMPARED_MAX).collect::<Vec<&str>>())
}
