//! What changes a volume: `restore`, `clone`, `grow`, `forget-history`; and `check`, which answers in the same way.

use futures_util::StreamExt;
use hyper::Method;
use jiff::tz::TimeZone;
use lith_api::client::Answers;
use lith_api::error::Code;
use lith_api::volume::{CloneRequest, GrowRequest, Point, RestoreEvent, RestoreRequest, Restored, Volume};
use serde::Serialize;

use super::name::new_id;
use super::{chosen, one, path, point_here, point_words, short_task};
use crate::args::{CloneArgs, RestoreArgs};
use crate::confirm::{Yes, confirm};
use crate::context::Context;
use crate::error::Error;
use crate::size::{Growth, size};
use crate::spinner::Spinner;
use crate::{exit, time};

/// `lith volume restore`.
pub(super) async fn restore(context: &Context, args: &RestoreArgs) -> Result<u8, Error> {
    let Some(to) = point_here(&args.point)? else {
        return Err(Error::usage(
            "restore to which time?",
            "say `--at TIME`, `--checkpoint NUMBER` or `--snapshot NAME`; `lith volume checkpoints VOLUME` lists them",
        ));
    };
    let volumes = chosen(context, &args.chosen).await?;
    let what = warning(&volumes, &point_words(&to, time::now_ms(), &TimeZone::system()));
    if !confirm(context, &what, Yes::from_flag(args.yes))? {
        return Ok(exit::FAILED);
    }
    let ids: Vec<String> = volumes.into_iter().map(|volume| volume.id).collect();
    let spinner_text = format!("restoring {}", ids.join(" "));
    let request = RestoreRequest { volumes: ids, to };
    let answers = context.client.lines(Method::POST, "/v1/volumes/restore", Some(&request)).await?;
    let (events, ended) = follow(context, &spinner_text, answers).await;
    let restored: Vec<Restored> = events.into_iter().filter_map(into_restored).collect();
    for one in restored.iter().filter(|_| !context.json) {
        context.print(&format!("{}\n", restored_words(one, &TimeZone::system())))?;
        context.say(&replaced_words(one));
    }
    finish(context, ended, &restored)
}

/// `lith volume clone`.
pub(super) async fn clone(context: &Context, args: &CloneArgs) -> Result<u8, Error> {
    let at = point_here(&args.point)?.unwrap_or(Point::Newest);
    let to = new_id(&args.new)?;
    let volume = one(context, &args.volume).await?;
    let spinner_text = format!("cloning {} as {to}", volume.id);
    let request = CloneRequest { to, at };
    let answers = context.client.lines(Method::POST, &path(&volume.id, "/clone"), Some(&request)).await?;
    let (events, ended) = follow(context, &spinner_text, answers).await;
    let cloned: Vec<Volume> = events.into_iter().filter_map(into_cloned).collect();
    for one in cloned.iter().filter(|_| !context.json) {
        context.print(&format!("volume {} has what {} held\n", one.id, volume.id))?;
    }
    finish(context, ended, &cloned)
}

/// `lith volume check`.
pub(super) async fn check(context: &Context, text: &str) -> Result<u8, Error> {
    let volume = one(context, text).await?;
    let nothing = serde_json::json!({});
    let answers = context.client.lines(Method::POST, &path(&volume.id, "/check"), Some(&nothing)).await?;
    follow(context, &format!("reading {}", volume.id), answers).await.1?;
    if context.json {
        context.print_json(&serde_json::json!({ "volume": volume.id, "is_damaged": false }))?;
    } else {
        context.print(&format!("{}: as it should be\n", volume.id))?;
    }
    Ok(exit::DONE)
}

/// `lith volume grow`.
pub(super) async fn grow(context: &Context, text: &str, growth: Growth) -> Result<u8, Error> {
    let volume = one(context, text).await?;
    let request = GrowRequest { size_bytes: growth.apply(volume.size_bytes) };
    let volume: Volume = context.client.put(&path(&volume.id, "/size"), &request).await?;
    if context.json {
        context.print_json(&volume)?;
    } else {
        context.say(&format!("volume {} holds up to {} now", volume.id, size(volume.size_bytes)));
    }
    Ok(exit::DONE)
}

/// What becomes of a restore that needs the history and has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfinished {
    /// The history stays.
    Refuse,
    /// The disk stays as far as the restore came.
    GiveUp,
}

/// `lith volume forget-history`.
pub(super) async fn forget_history(
    context: &Context,
    text: &str,
    unfinished: Unfinished,
    yes: bool,
) -> Result<u8, Error> {
    let volume = one(context, text).await?;
    let what = format!(
        "Volume {} goes on with what it holds now. It cannot be restored to an earlier time any more, and its snapshots are \
         gone; the files of its history are put aside, and deleted after a week.",
        volume.id
    );
    if !confirm(context, &what, Yes::from_flag(yes))? {
        return Ok(exit::FAILED);
    }
    let nothing = serde_json::json!({});
    let route = match unfinished {
        Unfinished::Refuse => "/forget-history",
        Unfinished::GiveUp => "/forget-history?half_restored=true",
    };
    let volume: Volume = context.client.post(&path(&volume.id, route), &nothing).await?;
    if context.json {
        context.print_json(&volume)?;
    } else {
        context.say(&format!("volume {} begins a new history", volume.id));
    }
    Ok(exit::DONE)
}

/// Shows what is done until the server has no more to say: what came of it, and how it ended. Nothing is printed here, for
/// the line that turns would be in the way.
async fn follow(
    context: &Context,
    text: &str,
    mut answers: Answers<RestoreEvent>,
) -> (Vec<RestoreEvent>, Result<(), Error>) {
    let spinner = Spinner::new(context.talk(), text);
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    let mut results = Vec::new();
    loop {
        let event = tokio::select! {
            event = answers.next() => event,
            _ = &mut interrupt => {
                let text = "stopped waiting; `lith volume ls` shows what became of it";
                return (results, Err(Error::Interrupted(text.to_owned())));
            }
        };
        match event {
            Some(Ok(RestoreEvent::Step(step))) => spinner.say(&step),
            Some(Ok(event @ (RestoreEvent::Restored(_) | RestoreEvent::Cloned(_)))) => results.push(event),
            Some(Ok(RestoreEvent::Failed(failure)) | Err(failure)) => return (results, Err(failure.into())),
            None => return (results, Ok(())),
        }
    }
}

fn into_restored(event: RestoreEvent) -> Option<Restored> {
    match event {
        RestoreEvent::Restored(restored) => Some(restored),
        RestoreEvent::Step(_) | RestoreEvent::Cloned(_) | RestoreEvent::Failed(_) => None,
    }
}

fn into_cloned(event: RestoreEvent) -> Option<Volume> {
    match event {
        RestoreEvent::Cloned(volume) => Some(*volume),
        RestoreEvent::Step(_) | RestoreEvent::Restored(_) | RestoreEvent::Failed(_) => None,
    }
}

/// What came is data even when not all came.
fn finish<T: Serialize>(context: &Context, ended: Result<(), Error>, results: &[T]) -> Result<u8, Error> {
    if context.json {
        context.print_json(&results)?;
    }
    ended?;
    if results.is_empty() {
        let message = "the server ended before it was done";
        return Err(Error::new(Code::Unreachable, message, "`lith volume ls` shows what became of it"));
    }
    Ok(exit::DONE)
}

fn warning(volumes: &[Volume], point: &str) -> String {
    let ids = volumes.iter().map(|volume| volume.id.as_str()).collect::<Vec<_>>().join(" ");
    let (one, became, holds) = match volumes.len() {
        1 => ("Volume", "becomes what it was", "What it holds now is kept as a snapshot."),
        _ => ("Volumes", "become what they were", "What they hold now is kept as snapshots."),
    };
    let mut holders: Vec<String> = volumes
        .iter()
        .flat_map(|volume| volume.holders.iter().chain(&volume.readers))
        .map(|task| short_task(task))
        .collect();
    holders.sort_unstable();
    holders.dedup();
    let stopped = match holders.len() {
        0 => "No task uses it now.".to_owned(),
        1 => format!("Task {} is stopped meanwhile and started again.", holders[0]),
        _ => format!("Tasks {} are stopped meanwhile and started again.", holders.join(" ")),
    };
    format!("{one} {ids} {became} {point}. {stopped} {holds}")
}

fn restored_words(restored: &Restored, zone: &TimeZone) -> String {
    let Restored { volume, to, .. } = restored;
    let at = time::local(to.time_ms, zone);
    format!("volume {volume} is what it was at {at} (checkpoint {})", to.seq)
}

fn replaced_words(restored: &Restored) -> String {
    let Restored { volume, replaced, .. } = restored;
    let name = &replaced.name;
    format!(
        "what it was before is snapshot {name}: `lith volume restore {volume} --snapshot {name}` brings it back"
    )
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{checkpoint, volume};
    use super::*;
    use lith_api::volume::Snapshot;

    #[test]
    fn what_will_happen_is_said() {
        let held = Volume { holders: vec!["shop.main.0.db".to_owned()], ..volume("shop.data.0") };
        let shared = Volume {
            holders: vec!["shop.main.0.web".to_owned(), "shop.main.0.db".to_owned()],
            ..volume("shop.uploads.0")
        };
        let texts = [
            warning(&[volume("shop.data.0")], "at checkpoint 12"),
            warning(std::slice::from_ref(&held), "at 2026-11-21 03:00:00 (9h ago)"),
            warning(&[held, shared], "at snapshot before-upgrade"),
        ];
        insta::assert_snapshot!(texts.join("\n"), @"
        Volume shop.data.0 becomes what it was at checkpoint 12. No task uses it now. What it holds now is kept as a snapshot.
        Volume shop.data.0 becomes what it was at 2026-11-21 03:00:00 (9h ago). Task shop/db is stopped meanwhile and started again. What it holds now is kept as a snapshot.
        Volumes shop.data.0 shop.uploads.0 become what they were at snapshot before-upgrade. Tasks shop/db shop/web are stopped meanwhile and started again. What they hold now is kept as snapshots.
        ");
    }

    #[test]
    fn what_has_happened_is_said() {
        let restored = Restored {
            volume: "shop.data.0".to_owned(),
            to: checkpoint(118, 3_000_000_000),
            replaced: Snapshot {
                volume: "shop.data.0".to_owned(),
                name: "replaced-1".to_owned(),
                seq: 120,
                time_ms: 3_000_009_000,
            },
        };
        insta::assert_snapshot!(restored_words(&restored, &TimeZone::UTC), @"volume shop.data.0 is what it was at 1970-02-04 17:20:00 (checkpoint 118)");
        insta::assert_snapshot!(replaced_words(&restored), @"what it was before is snapshot replaced-1: `lith volume restore shop.data.0 --snapshot replaced-1` brings it back");
    }
}
