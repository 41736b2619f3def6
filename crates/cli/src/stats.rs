//! `stats`: what the machines of running tasks use.

use std::time::Duration;

use lith_api::client::escape;
use lith_api::error::Code;
use lith_api::task::{Phase, TaskStats, TaskStatus};
use serde::Serialize;

use crate::args::StatsArgs;
use crate::context::Context;
use crate::error::Error;
use crate::name::{self, Name, label};
use crate::size::size;
use crate::table::Table;
use crate::{exit, list, time};

/// A task of the output of `--json`.
#[derive(Debug, Serialize)]
struct Record<'a> {
    task: &'a str,
    #[serde(flatten)]
    stats: TaskStats,
}

/// `lith stats`.
pub(crate) async fn stats(context: &Context, args: &StatsArgs) -> Result<u8, Error> {
    let tasks: Vec<TaskStatus> = match &args.name {
        Some(text) => list::of_job(context, &Name::parse(text)?.job).await?,
        None => context.client.get("/v1/tasks").await?,
    };
    let chosen: Vec<&TaskStatus> = match &args.name {
        Some(text) => name::all(&Name::parse(text)?, &tasks)?,
        None => tasks.iter().collect(),
    };
    let mut found = Vec::new();
    for status in chosen.into_iter().filter(|status| status.phase == Phase::Running) {
        match context.client.get(&format!("/v1/tasks/{}/stats", escape(&status.id))).await {
            Ok(stats) => found.push((status, stats)),
            // It has ended since.
            Err(failure) if failure.code == Code::NotRunning => {}
            Err(failure) => return Err(failure.into()),
        }
    }
    if context.json {
        let records = found.into_iter().map(|(status, stats)| Record { task: &status.id, stats });
        context.print_json(&records.collect::<Vec<_>>())?;
    } else if found.is_empty() {
        context.say("no task runs; `lith ps --all` shows them all");
    } else {
        context.print_table(&table(&found, &tasks))?;
    }
    Ok(exit::DONE)
}

fn table(found: &[(&TaskStatus, TaskStats)], tasks: &[TaskStatus]) -> Table {
    let mut table = Table::new(&["TASK", "MEMORY", "AVAILABLE", "CPU TIME", "DISK", "PROCESSES", "UP"]);
    let of = |used: u64, total: u64| format!("{} of {}", size(used), size(total));
    for (status, stats) in found {
        table.row(vec![
            label(status, tasks),
            of(stats.memory_task_bytes, stats.memory_total_bytes),
            size(stats.memory_available_bytes),
            seconds(stats.cpu_task_us),
            of(stats.disk_used_bytes, stats.disk_total_bytes),
            stats.processes.to_string(),
            time::short(Duration::from_millis(stats.uptime_ms)),
        ]);
    }
    table
}

/// CPU time with a tenth of a second, for most tasks use little.
fn seconds(microseconds: u64) -> String {
    let tenths = microseconds / 100_000;
    format!("{}.{} s", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::task;
    use crate::terminal::Paint;

    #[test]
    fn figures_read_without_colour() {
        let tasks = [task("hello.main.0.web")];
        let stats = TaskStats {
            memory_total_bytes: 96 << 20,
            memory_available_bytes: 60 << 20,
            memory_task_bytes: 3 << 19,
            cpu_task_us: 12_345_678,
            disk_total_bytes: 1 << 30,
            disk_used_bytes: 5 << 20,
            processes: 3,
            uptime_ms: 90_000_000,
            ..TaskStats::default()
        };
        insta::assert_snapshot!(table(&[(&tasks[0], stats)], &tasks).render(None, Paint::PLAIN), @r"
        TASK       MEMORY               AVAILABLE  CPU TIME  DISK                PROCESSES  UP
        hello/web  1.5 MiB of 96.0 MiB  60.0 MiB   12.3 s    5.0 MiB of 1.0 GiB  3          25h
        ");
    }
}
