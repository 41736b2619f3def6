//! `logs`: what tasks wrote, of one task or of a job's tasks together.

use std::collections::BTreeMap;
use std::io::Write;

use futures_util::stream::{BoxStream, select_all};
use futures_util::{FutureExt, StreamExt};
use hyper::Method;
use lith_api::client::escape;
use lith_api::error::Failure;
use lith_api::log::{LogLine, LogRecord, LogStream};
use lith_api::task::TaskStatus;
use serde::Serialize;

use crate::args::LogsArgs;
use crate::context::{Context, write_out};
use crate::error::Error;
use crate::name::{self, Name};
use crate::terminal::{Paint, Terminal, harmless};
use crate::{exit, list, time};

/// A line that goes on for longer than this is printed in pieces: what a task writes must not fill our memory.
const LINE_BYTES_MAX: usize = 1 << 20;
/// What is collected before it is printed, when lines come faster than they can be shown.
const PAGE_BYTES: usize = 64 << 10;

/// A line of the output of `--json`.
#[derive(Debug, Serialize)]
struct Record<'a> {
    task: &'a str,
    #[serde(flatten)]
    line: &'a LogLine,
}

type Lines = BoxStream<'static, (usize, Result<LogLine, Failure>)>;

/// `lith logs`.
pub(crate) async fn logs(context: &Context, args: &LogsArgs) -> Result<u8, Error> {
    let name = Name::parse(&args.name)?;
    let tasks = list::of_job(context, &name.job).await?;
    let chosen = name::all(&name, &tasks)?;
    let mut streams = Vec::new();
    for (index, status) in chosen.iter().enumerate() {
        let path = path(status, args, time::now_ms());
        let records = context.client.lines::<LogRecord>(Method::GET, &path, None::<&()>).await?;
        streams.push(records.map(move |record| (index, record.and_then(line_of))).boxed());
    }
    let lines = if args.follow { select_all(streams).boxed() } else { merge(streams) };
    let writer = Writer {
        ids: chosen.iter().map(|status| status.id.clone()).collect(),
        labels: labels(&chosen, &tasks),
        has_timestamps: args.timestamps,
        is_json: context.json,
        terminal: context.terminal,
        begun: BTreeMap::new(),
        open: None,
    };
    print(writer, lines, args.follow).await
}

fn line_of(record: LogRecord) -> Result<LogLine, Failure> {
    match record {
        LogRecord::Line(line) => Ok(line),
        LogRecord::Failed(failure) => Err(failure),
    }
}

/// Text on its way, each piece for its stream, in their order.
#[derive(Debug, Default)]
struct Page(Vec<(bool, String)>);

impl Page {
    fn push(&mut self, is_err: bool, text: &str) {
        match self.0.last_mut() {
            Some((last, piece)) if *last == is_err => piece.push_str(text),
            Some(_) | None => self.0.push((is_err, text.to_owned())),
        }
    }

    fn is_full(&self) -> bool {
        self.0.iter().map(|(_, piece)| piece.len()).sum::<usize>() >= PAGE_BYTES
    }

    fn print(&mut self) -> Result<(), Error> {
        for (is_err, piece) in std::mem::take(&mut self.0) {
            if is_err {
                // Whoever closed our standard error does not want to read it.
                let _ = std::io::stderr().lock().write_all(piece.as_bytes());
            } else {
                write_out(piece.as_bytes())?;
            }
        }
        Ok(())
    }
}

async fn print(mut writer: Writer, mut lines: Lines, is_following: bool) -> Result<u8, Error> {
    let mut page = Page::default();
    loop {
        // As long as lines are at hand they are collected; before waiting for more, all is printed.
        let next = match lines.next().now_or_never() {
            Some(next) => {
                if page.is_full() {
                    page.print()?;
                }
                next
            }
            None => {
                if is_following {
                    writer.show_begun(&mut page);
                }
                page.print()?;
                lines.next().await
            }
        };
        match next {
            Some((task, Ok(line))) => writer.write(task, &line, &mut page),
            Some((_, Err(failure))) => {
                writer.finish(&mut page);
                page.print()?;
                return Err(failure.into());
            }
            None => break,
        }
    }
    writer.finish(&mut page);
    page.print()?;
    Ok(exit::DONE)
}

fn path(status: &TaskStatus, args: &LogsArgs, now_ms: u64) -> String {
    let mut path = format!("/v1/tasks/{}/logs?follow={}", escape(&status.id), args.follow);
    if let Some(since) = args.since {
        path.push_str(&format!("&since_ms={}", since.to_ms(now_ms)));
    }
    if let Some(tail) = args.tail {
        path.push_str(&format!("&tail={tail}"));
    }
    path
}

/// What stands before the lines of each task: nothing when there is one only.
fn labels(chosen: &[&TaskStatus], tasks: &[TaskStatus]) -> Vec<String> {
    if chosen.len() == 1 {
        return vec![String::new()];
    }
    let names: Vec<String> = chosen.iter().map(|status| name::within_job(status, tasks)).collect();
    let width = names.iter().map(String::len).max().unwrap_or(0);
    names.iter().map(|name| format!("{name:width$} | ")).collect()
}

/// Streams that end, each ordered by time, as one in order of time.
fn merge(streams: Vec<Lines>) -> Lines {
    let heads: Vec<Option<(usize, Result<LogLine, Failure>)>> = streams.iter().map(|_| None).collect();
    let ended = vec![false; streams.len()];
    let state = (streams, heads, ended);
    futures_util::stream::unfold(state, |(mut streams, mut heads, mut ended)| async move {
        for (index, stream) in streams.iter_mut().enumerate() {
            if heads[index].is_none() && !ended[index] {
                heads[index] = stream.next().await;
                ended[index] = heads[index].is_none();
            }
        }
        let time = |head: &(usize, Result<LogLine, Failure>)| {
            // A failure comes first: nothing after it can be in order.
            head.1.as_ref().map_or(String::new(), |line| line.time.clone())
        };
        let first = heads
            .iter()
            .enumerate()
            .filter_map(|(index, head)| head.as_ref().map(|head| (time(head), index)))
            .min()?
            .1;
        let line = heads[first].take()?;
        Some((line, (streams, heads, ended)))
    })
    .boxed()
}

/// Turns records into text. Records that are pieces of one line are put together again; a line that is still without its
/// end is shown when nothing else comes, and goes on where it was left.
struct Writer {
    ids: Vec<String>,
    labels: Vec<String>,
    has_timestamps: bool,
    is_json: bool,
    terminal: Terminal,
    /// By task, and whether it is standard error.
    begun: BTreeMap<(usize, bool), LogLine>,
    /// The line that was shown without its end, and after which nothing has come.
    open: Option<(usize, bool)>,
}

impl Writer {
    fn write(&mut self, task: usize, line: &LogLine, page: &mut Page) {
        if self.is_json {
            let record = Record { task: &self.ids[task], line };
            page.push(false, &serde_json::to_string(&record).expect("wire types always encode"));
            page.push(false, "\n");
            return;
        }
        let key = (task, line.stream == LogStream::Stderr);
        if self.open == Some(key) {
            page.push(key.1, &self.shown(key.1, &line.text));
            if !line.is_partial {
                self.end_open(page);
            }
            return;
        }
        let whole = match self.begun.remove(&key) {
            Some(begun) => LogLine { text: begun.text + &line.text, ..begun },
            None => line.clone(),
        };
        if line.is_partial && whole.text.len() < LINE_BYTES_MAX {
            self.begun.insert(key, whole);
            return;
        }
        self.show(key, &whole, page);
        self.end_open(page);
    }

    /// Shows what has no end yet.
    fn show_begun(&mut self, page: &mut Page) {
        for (key, line) in std::mem::take(&mut self.begun) {
            self.show(key, &line, page);
        }
    }

    /// What was begun and never ended.
    fn finish(&mut self, page: &mut Page) {
        self.show_begun(page);
        self.end_open(page);
    }

    fn show(&mut self, key: (usize, bool), line: &LogLine, page: &mut Page) {
        self.end_open(page);
        page.push(key.1, &self.prefix(key, line));
        page.push(key.1, &self.shown(key.1, &line.text));
        self.open = Some(key);
    }

    fn end_open(&mut self, page: &mut Page) {
        if let Some((_, is_err)) = self.open.take() {
            page.push(is_err, "\n");
        }
    }

    /// As it is for a program, harmless for a terminal.
    fn shown(&self, is_err: bool, text: &str) -> String {
        let is_terminal = if is_err { self.terminal.is_stderr } else { self.terminal.is_stdout };
        if is_terminal { harmless(text) } else { text.to_owned() }
    }

    fn prefix(&self, (task, is_err): (usize, bool), line: &LogLine) -> String {
        let paint: Paint = if is_err { self.terminal.stderr } else { self.terminal.stdout };
        let label = if self.labels[task].is_empty() { String::new() } else { paint.cyan(&self.labels[task]) };
        if !self.has_timestamps {
            return label;
        }
        let stream = if is_err { "stderr" } else { "stdout" };
        format!("{label}{} ", paint.dim(&format!("{} {stream}", line.time)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::task;

    fn line(second: u32, stream: LogStream, text: &str, is_partial: bool) -> LogLine {
        LogLine { time: format!("2026-01-01T00:00:{second:02}Z"), stream, text: text.to_owned(), is_partial }
    }

    fn writer(names: &[&str], has_timestamps: bool, is_terminal: bool) -> Writer {
        let tasks: Vec<TaskStatus> = names.iter().map(|name| task(name)).collect();
        let chosen: Vec<&TaskStatus> = tasks.iter().collect();
        Writer {
            ids: names.iter().map(|name| (*name).to_owned()).collect(),
            labels: labels(&chosen, &tasks),
            has_timestamps,
            is_json: false,
            terminal: Terminal {
                is_stdout: is_terminal,
                is_stderr: is_terminal,
                stdout: Paint::PLAIN,
                stderr: Paint::PLAIN,
            },
            begun: BTreeMap::new(),
            open: None,
        }
    }

    /// Both streams as a terminal mixes them.
    fn mixed(page: &mut Page) -> String {
        std::mem::take(&mut page.0).into_iter().map(|(_, piece)| piece).collect()
    }

    fn check(names: &[&str], has_timestamps: bool, lines: &[(usize, LogLine)], expected: &str) {
        let (mut writer, mut page) = (writer(names, has_timestamps, false), Page::default());
        for (task, line) in lines {
            writer.write(*task, line, &mut page);
        }
        writer.finish(&mut page);
        assert_eq!(mixed(&mut page), expected);
    }

    #[test]
    fn streams_are_kept_apart() {
        let (mut writer, mut page) = (writer(&["a.main.0.web"], false, false), Page::default());
        for (stream, text) in [(LogStream::Stdout, "a"), (LogStream::Stderr, "b"), (LogStream::Stderr, "c")] {
            writer.write(0, &line(0, stream, text, false), &mut page);
        }
        assert_eq!(page.0, [(false, "a\n".to_owned()), (true, "b\nc\n".to_owned())]);
    }

    #[test]
    fn a_line_without_its_end_is_shown_and_goes_on() {
        let (mut writer, mut page) =
            (writer(&["a.main.0.db", "a.main.0.web"], false, false), Page::default());
        let mut step = |task, text, is_partial| {
            writer.write(task, &line(0, LogStream::Stdout, text, is_partial), &mut page);
            writer.show_begun(&mut page);
            mixed(&mut page)
        };
        assert_eq!(step(1, "name: ", true), "web | name: ");
        assert_eq!(step(1, "x", true), "x");
        assert_eq!(step(1, "", false), "\n");
        assert_eq!(step(1, "pass: ", true), "web | pass: ");
        assert_eq!(step(0, "other", false), "\ndb  | other\n");
        assert_eq!(step(1, "y", false), "web | y\n");
    }

    #[test]
    fn only_a_terminal_is_spared() {
        for (is_terminal, expected) in [(true, "a\tb\n"), (false, "a\t\u{1b}[2Jb\n")] {
            let (mut writer, mut page) = (writer(&["a.main.0.web"], false, is_terminal), Page::default());
            writer.write(0, &line(0, LogStream::Stderr, "a\t\u{1b}[2Jb", false), &mut page);
            assert_eq!(mixed(&mut page), expected);
        }
    }

    #[test]
    fn pieces_become_lines_again() {
        let lines = [
            (0, line(0, LogStream::Stdout, "ab", true)),
            (0, line(1, LogStream::Stderr, "oops", false)),
            (0, line(2, LogStream::Stdout, "cd", false)),
            (0, line(3, LogStream::Stdout, "end", true)),
        ];
        check(&["a.main.0.web"], false, &lines, "oops\nabcd\nend\n");
    }

    #[test]
    fn several_tasks_are_named() {
        let lines =
            [(0, line(0, LogStream::Stdout, "one", false)), (1, line(1, LogStream::Stderr, "two", false))];
        check(&["a.main.0.db", "a.main.0.web"], false, &lines, "db  | one\nweb | two\n");
        check(
            &["a.main.0.db", "a.main.0.web"],
            true,
            &lines,
            "db  | 2026-01-01T00:00:00Z stdout one\nweb | 2026-01-01T00:00:01Z stderr two\n",
        );
    }

    #[tokio::test]
    async fn finished_logs_are_merged_by_time() {
        let stream = |index: usize, seconds: &[u32]| {
            let lines: Vec<_> = seconds
                .iter()
                .map(|second| (index, Ok(line(*second, LogStream::Stdout, "x", false))))
                .collect();
            futures_util::stream::iter(lines).boxed()
        };
        let merged = merge(vec![stream(0, &[1, 4, 5]), stream(1, &[0, 2, 9]), stream(2, &[])]);
        let order: Vec<usize> = merged.map(|(index, _)| index).collect().await;
        assert_eq!(order, [1, 0, 1, 0, 0, 1]);
    }
}
