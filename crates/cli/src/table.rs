//! Tables that read well without colour: aligned columns, no lines drawn, cut to the terminal's width.

use crate::terminal::{Paint, printable};

/// Blanks between two columns.
const GAP: usize = 2;
/// The last column is not cut below this; the line wraps instead.
const LAST_CHARS_MIN: usize = 12;

/// A table.
#[derive(Debug)]
pub(crate) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns; the longest texts belong in the last.
    pub(crate) fn new(head: &[&'static str]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new() }
    }

    /// Adds a row. Control characters in it are replaced.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.head.len(), "a row has a cell for each column");
        self.rows.push(cells.iter().map(|cell| printable(cell)).collect());
    }

    /// As text. Columns without any content are left out.
    pub(crate) fn render(&self, width: Option<usize>, paint: Paint) -> String {
        let shown: Vec<usize> = (0..self.head.len())
            .filter(|&column| self.rows.is_empty() || self.rows.iter().any(|row| !row[column].is_empty()))
            .collect();
        let widths: Vec<usize> = shown.iter().map(|&column| self.width(column)).collect();
        let head = shown.iter().map(|&column| self.head[column]).collect::<Vec<_>>();
        let mut text = format!("{}\n", paint.dim(&line(&head, &widths, width)));
        for row in &self.rows {
            let cells = shown.iter().map(|&column| row[column].as_str()).collect::<Vec<_>>();
            text.push_str(&line(&cells, &widths, width));
            text.push('\n');
        }
        text
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().map(|row| row[column].chars().count());
        cells.chain([self.head[column].chars().count()]).max().unwrap_or(0)
    }
}

fn line(cells: &[&str], widths: &[usize], width: Option<usize>) -> String {
    let mut text = String::new();
    let Some((last, before)) = cells.split_last() else { return text };
    for (cell, width) in before.iter().zip(widths) {
        text.push_str(&format!("{cell:width$}{:GAP$}", ""));
    }
    let room = width.map(|width| width.saturating_sub(text.chars().count()).max(LAST_CHARS_MIN));
    text.push_str(&cut(last, room));
    text.trim_end().to_owned()
}

/// The text, cut to so many characters.
pub(crate) fn cut(text: &str, room: Option<usize>) -> String {
    match room {
        Some(room) if text.chars().count() > room => {
            text.chars().take(room.saturating_sub(1)).chain(['…']).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rows: &[[&str; 3]], width: Option<usize>, expected: &str) {
        let mut table = Table::new(&["TASK", "PORTS", "WHY"]);
        for row in rows {
            table.row(row.iter().map(|cell| (*cell).to_owned()).collect());
        }
        assert_eq!(table.render(width, Paint::PLAIN), expected);
    }

    #[test]
    fn columns_are_aligned_cut_and_left_out() {
        let rows = [["shop/web", "8080:80", "exited with code 1"], ["a", "", ""]];
        check(&rows, None, "TASK      PORTS    WHY\nshop/web  8080:80  exited with code 1\na\n");
        check(&rows, Some(32), "TASK      PORTS    WHY\nshop/web  8080:80  exited with …\na\n");
        check(&[["a", "", "x\ty"]], None, "TASK  WHY\na     x\u{fffd}y\n");
        check(&[], None, "TASK  PORTS  WHY\n");
    }
}
