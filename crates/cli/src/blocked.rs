//! `job blocked`: what tasks tried to reach and were refused, with the line that would allow it.

use lith_api::blocked::Blocked;
use lith_api::client::escape;
use lith_api::task::TaskStatus;

use crate::args::BlockedArgs;
use crate::context::Context;
use crate::error::Error;
use crate::list::with_suggestion;
use crate::name::label;
use crate::table::Table;
use crate::terminal::printable;
use crate::{exit, time};

/// `lith job blocked`.
pub(crate) async fn blocked(context: &Context, args: &BlockedArgs) -> Result<u8, Error> {
    let since_ms = args.since.map_or(0, |since| since.to_ms(time::now_ms()));
    let found = look(context, &args.job, since_ms).await?;
    if context.json {
        context.print_json(&found)?;
        return Ok(exit::DONE);
    }
    // The labels are shorter with them; a job without tasks has none.
    let path = format!("/v1/tasks?job={}", escape(&args.job));
    let tasks: Vec<TaskStatus> = context.client.get(&path).await?;
    if found.attempts.is_empty() {
        context.say(&format!("nothing that the tasks of \"{}\" tried was refused", args.job));
    } else {
        context.print_table(&table(&found, &tasks))?;
    }
    for remark in remarks(&found) {
        context.say(&remark);
    }
    Ok(exit::DONE)
}

/// What the tasks of a job tried since a moment.
pub(crate) async fn look(context: &Context, job: &str, since_ms: u64) -> Result<Blocked, Error> {
    let path = format!("/v1/jobs/{}/blocked?since_ms={since_ms}", escape(job));
    match context.client.get(&path).await {
        Ok(found) => Ok(found),
        Err(failure) => Err(with_suggestion(context, failure, job).await.into()),
    }
}

/// What else there is to know about a list.
pub(crate) fn remarks(found: &Blocked) -> Vec<String> {
    let omitted = (found.omitted > 0).then(|| {
        let noun = if found.omitted == 1 { "attempt is" } else { "attempts are" };
        format!("{} more {noun} not listed: too many different things were tried", found.omitted)
    });
    omitted.into_iter().chain(found.blind.as_deref().map(printable)).collect()
}

fn table(found: &Blocked, tasks: &[TaskStatus]) -> Table {
    let mut table = Table::new(&["TASK", "WHAT", "TIMES", "LAST", "ALLOW WITH"]);
    for attempt in &found.attempts {
        let status = tasks.iter().find(|status| status.id == attempt.task);
        table.row(vec![
            status.map_or_else(|| attempt.task.clone(), |status| label(status, tasks)),
            attempt.what.clone(),
            attempt.times.to_string(),
            time::ago(found.now_ms, attempt.last_ms),
            attempt.allow_with.clone(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{attempt, task};
    use crate::terminal::Paint;

    #[test]
    fn what_was_refused_reads_without_colour() {
        let tasks = [task("shop.main.0.web"), task("shop.main.1.web"), task("shop.main.0.worker")];
        let attempts = vec![
            attempt("shop.main.0.web", "db", "connects: [ pg/db ]"),
            attempt("shop.main.0.worker", "140.82.112.5:22", "egress: [ api.github.com:22 ]"),
            attempt("shop.old.0.x", "239.1.2.3:5353/udp", "nothing: multicast does not leave a task"),
        ];
        let found =
            Blocked { now_ms: 301_000, attempts, omitted: 7, blind: Some("only\u{1b}names".to_owned()) };
        insta::assert_snapshot!(table(&found, &tasks).render(None, Paint::PLAIN), @r"
        TASK          WHAT                TIMES  LAST     ALLOW WITH
        shop/web.0    db                  5      60s ago  connects: [ pg/db ]
        shop/worker   140.82.112.5:22     5      60s ago  egress: [ api.github.com:22 ]
        shop.old.0.x  239.1.2.3:5353/udp  5      60s ago  nothing: multicast does not leave a task
        ");
        insta::assert_snapshot!(remarks(&found).join("\n"), @"
        7 more attempts are not listed: too many different things were tried
        only�names
        ");
    }
}
