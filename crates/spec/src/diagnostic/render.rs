//! Diagnostics as text for a terminal, in the form that compilers have made familiar.
//!
//! Owns the look. It comes from `annotate-snippets`, which draws what rustc draws with two small dependencies; text of
//! the file is shown with its control characters made visible, so a file cannot play with the terminal.

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::{Colour, Diagnostic, Diagnostics, Excerpt, Severity};

/// Longest line shown, in columns; the part around the mark is kept.
const WIDTH: usize = 110;

/// How much of a note is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notes {
    /// As much as of an error.
    Whole,
    /// One line, without its place in the file's text.
    Brief,
}

pub(super) fn render(diagnostics: &Diagnostics, colour: Colour, notes: Notes) -> String {
    let renderer = match colour {
        Colour::Ansi => Renderer::styled(),
        Colour::None => Renderer::plain(),
    }
    .term_width(WIDTH);
    let (mut text, mut brief) = (String::new(), String::new());
    for (diagnostic, excerpt) in diagnostics.list.iter().zip(&diagnostics.excerpts) {
        if notes == Notes::Brief && diagnostic.severity == Severity::Note {
            brief.push_str(&renderer.render(&[line(diagnostic)]));
            brief.push('\n');
        } else {
            text.push_str(&renderer.render(&[group(diagnostic, excerpt)]));
            text.push_str("\n\n");
        }
    }
    text.push_str(&brief);
    if diagnostics.omitted > 0 {
        let summary =
            Level::NOTE.secondary_title(format!("{} more of this file are not shown", diagnostics.omitted));
        text.push_str(&renderer.render(&[Group::with_title(summary)]));
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

fn line(diagnostic: &Diagnostic) -> Group<'_> {
    Group::with_title(Level::NOTE.primary_title(diagnostic.to_string()))
}

fn group<'a>(diagnostic: &'a Diagnostic, excerpt: &'a Excerpt) -> Group<'a> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    };
    let start = byte_offset(&excerpt.text, excerpt.mark);
    let end = byte_offset(&excerpt.text, excerpt.mark.saturating_add(diagnostic.length));
    let snippet = Snippet::source(excerpt.text.as_str())
        .line_start(diagnostic.line)
        .annotation(AnnotationKind::Primary.span(start..end));
    let group = level.primary_title(diagnostic.message.as_str());
    let group = if diagnostic.column == excerpt.mark + 1 {
        group.element(snippet.path(diagnostic.file.as_str()))
    } else {
        // The renderer counts columns in what it is given, which here is not the whole line.
        let place = Origin::path(diagnostic.file.as_str()).line(diagnostic.line);
        group.element(place.char_column(diagnostic.column)).element(snippet)
    };
    match &diagnostic.hint {
        Some(hint) => group.element(Level::HELP.with_name("hint").message(hint.as_str())),
        None => group,
    }
}

/// Offset of the character at `index`, or the end.
fn byte_offset(line: &str, index: usize) -> usize {
    line.char_indices().nth(index).map_or(line.len(), |(offset, _)| offset)
}
