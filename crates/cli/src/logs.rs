//! `logs`: what tasks wrote, of one task or of a job's tasks together.

use std::collections::BTreeMap;

use futures_util::stream::{BoxStream, select_all};
use futures_util::{FutureExt, StreamExt};
use hyper::Method;
use lith_api::client::escape;
use lith_api::error::Failure;
use lith_api::log::{LogLine, LogStream};
use lith_api::task::TaskStatus;
use serde::Serialize;

use crate::args::LogsArgs;
use crate::context::{Context, write_out};
use crate::error::Error;
use crate::name::{self, Name};
use crate::terminal::Paint;
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
        let lines = context.client.lines::<LogLine>(Method::GET, &path, None::<&()>).await?;
        streams.push(lines.map(move |line| (index, line)).boxed());
    }
    let lines = if args.follow { select_all(streams).boxed() } else { merge(streams) };
    let writer = Writer {
        ids: chosen.iter().map(|status| status.id.clone()).collect(),
        labels: labels(&chosen, &tasks),
        has_timestamps: args.timestamps,
        is_json: context.json,
        paint: context.terminal.stdout,
        begun: BTreeMap::new(),
    };
    print(writer, lines).await
}

async fn print(mut writer: Writer, mut lines: Lines) -> Result<u8, Error> {
    let mut page = String::new();
    loop {
        // As long as lines are at hand they are collected; before waiting for more, all is printed.
        let next = match lines.next().now_or_never() {
            Some(next) if page.len() < PAGE_BYTES => next,
            Some(next) => {
                write_out(std::mem::take(&mut page).as_bytes())?;
                next
            }
            None => {
                write_out(std::mem::take(&mut page).as_bytes())?;
                lines.next().await
            }
        };
        match next {
            Some((task, Ok(line))) => writer.write(task, &line, &mut page),
            Some((_, Err(failure))) => {
                write_out(page.as_bytes())?;
                return Err(failure.into());
            }
            None => break,
        }
    }
    writer.finish(&mut page);
    write_out(page.as_bytes())?;
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

/// Turns records into text. Records that are pieces of one line are put together again.
struct Writer {
    ids: Vec<String>,
    labels: Vec<String>,
    has_timestamps: bool,
    is_json: bool,
    paint: Paint,
    begun: BTreeMap<(usize, bool), LogLine>,
}

impl Writer {
    fn write(&mut self, task: usize, line: &LogLine, page: &mut String) {
        if self.is_json {
            let record = Record { task: &self.ids[task], line };
            page.push_str(&serde_json::to_string(&record).expect("wire types always encode"));
            page.push('\n');
            return;
        }
        let key = (task, line.stream == LogStream::Stderr);
        let mut whole = match self.begun.remove(&key) {
            Some(begun) => LogLine { text: begun.text + &line.text, ..begun },
            None => line.clone(),
        };
        if line.is_partial && whole.text.len() < LINE_BYTES_MAX {
            self.begun.insert(key, whole);
            return;
        }
        whole.is_partial = false;
        page.push_str(&self.text(task, &whole));
    }

    /// What was begun and never ended.
    fn finish(&mut self, page: &mut String) {
        for ((task, _), line) in std::mem::take(&mut self.begun) {
            page.push_str(&self.text(task, &line));
        }
    }

    fn text(&self, task: usize, line: &LogLine) -> String {
        let label = self.paint.cyan(&self.labels[task]);
        let label = if self.labels[task].is_empty() { "" } else { &label };
        if !self.has_timestamps {
            return format!("{label}{}\n", line.text);
        }
        let stream = match line.stream {
            LogStream::Stdout => "stdout",
            LogStream::Stderr => "stderr",
        };
        format!("{label}{} {}\n", self.paint.dim(&format!("{} {stream}", line.time)), line.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::task;

    fn line(second: u32, stream: LogStream, text: &str, is_partial: bool) -> LogLine {
        LogLine { time: format!("2026-01-01T00:00:{second:02}Z"), stream, text: text.to_owned(), is_partial }
    }

    fn check(names: &[&str], has_timestamps: bool, lines: &[(usize, LogLine)], expected: &str) {
        let tasks: Vec<TaskStatus> = names.iter().map(|name| task(name)).collect();
        let chosen: Vec<&TaskStatus> = tasks.iter().collect();
        let ids = names.iter().map(|name| (*name).to_owned()).collect();
        let (labels, paint) = (labels(&chosen, &tasks), Paint::PLAIN);
        let mut writer =
            Writer { ids, labels, has_timestamps, is_json: false, paint, begun: BTreeMap::new() };
        let mut page = String::new();
        for (task, line) in lines {
            writer.write(*task, line, &mut page);
        }
        writer.finish(&mut page);
        assert_eq!(page, expected);
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
