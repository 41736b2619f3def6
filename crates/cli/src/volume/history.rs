//! The history of volumes: `checkpoints`, `snapshot`, `snapshots`, `snapshot-rm`.

use jiff::tz::TimeZone;
use lith_api::client::escape;
use lith_api::volume::{Checkpoint, Snapshot, SnapshotRequest};

use super::{chosen, one, path};
use crate::args::{CheckpointsArgs, SnapshotArgs};
use crate::context::Context;
use crate::error::Error;
use crate::size::size;
use crate::table::Table;
use crate::{exit, time};

/// Checkpoints that are shown to a person who does not say how many: a screen of them.
const LIMIT_DEFAULT: usize = 20;

/// `lith volume checkpoints`.
pub(super) async fn checkpoints(context: &Context, args: &CheckpointsArgs) -> Result<u8, Error> {
    let volume = one(context, &args.volume).await?;
    let mut checkpoints: Vec<Checkpoint> = context.client.get(&path(&volume.id, "/checkpoints")).await?;
    let now_ms = time::now_ms();
    checkpoints.reverse();
    let all = checkpoints.len();
    if let Some(since) = args.since {
        checkpoints.retain(|checkpoint| checkpoint.time_ms >= since.to_ms(now_ms));
    }
    let fitting = checkpoints.len();
    let limit = args.limit.unwrap_or(if context.json { usize::MAX } else { LIMIT_DEFAULT });
    checkpoints.truncate(limit);
    if context.json {
        context.print_json(&checkpoints)?;
    } else if fitting == 0 {
        let none = if all == 0 { "has no checkpoints yet" } else { "has no checkpoint since then" };
        context.say(&format!("volume {} {none}", volume.id));
    } else {
        context.print_table(&checkpoint_table(&checkpoints, now_ms, &TimeZone::system()))?;
        let more = fitting - checkpoints.len();
        if more > 0 {
            context.say(&format!("{more} older ones; `--limit {fitting}` shows them, too"));
        }
    }
    Ok(exit::DONE)
}

/// `lith volume snapshot`.
pub(super) async fn snapshot(context: &Context, args: &SnapshotArgs) -> Result<u8, Error> {
    let volumes = chosen(context, &args.chosen).await?;
    let request = SnapshotRequest {
        volumes: volumes.into_iter().map(|volume| volume.id).collect(),
        name: args.name.clone(),
    };
    let snapshots: Vec<Snapshot> = context.client.post("/v1/volumes/snapshots", &request).await?;
    if context.json {
        context.print_json(&snapshots)?;
    } else {
        for Snapshot { volume, name, seq, .. } in &snapshots {
            context.say(&format!("volume {volume} has snapshot {name} (checkpoint {seq})"));
        }
    }
    Ok(exit::DONE)
}

/// `lith volume snapshots`.
pub(super) async fn snapshots(context: &Context, volume: Option<&str>) -> Result<u8, Error> {
    let volume = match volume {
        Some(text) => Some(one(context, text).await?.id),
        None => None,
    };
    let mut snapshots: Vec<Snapshot> = context.client.get("/v1/volumes/snapshots").await?;
    if let Some(id) = &volume {
        snapshots.retain(|snapshot| snapshot.volume == *id);
    }
    if context.json {
        context.print_json(&snapshots)?;
    } else if snapshots.is_empty() {
        context.say("no snapshots; `lith volume snapshot VOLUME --name NAME` makes one");
    } else {
        context.print_table(&snapshot_table(&snapshots, time::now_ms(), &TimeZone::system()))?;
    }
    Ok(exit::DONE)
}

/// `lith volume snapshot-rm`.
pub(super) async fn remove_snapshot(context: &Context, volume: &str, name: &str) -> Result<u8, Error> {
    let volume = one(context, volume).await?;
    let rest = format!("/snapshots/{}", escape(name));
    let answer: serde_json::Value = context.client.delete(&path(&volume.id, &rest)).await?;
    if context.json {
        context.print_json(&answer)?;
    } else {
        context.say(&format!("snapshot {name} of volume {} is removed", volume.id));
    }
    Ok(exit::DONE)
}

fn checkpoint_table(checkpoints: &[Checkpoint], now_ms: u64, zone: &TimeZone) -> Table {
    let mut table = Table::new(&["CHECKPOINT", "TIME", "AGE", "SIZE", "KIND", "SNAPSHOTS"]);
    for checkpoint in checkpoints {
        table.row(vec![
            checkpoint.seq.to_string(),
            time::local(checkpoint.time_ms, zone),
            time::ago(now_ms, checkpoint.time_ms),
            size(checkpoint.bytes),
            kind(checkpoint),
            checkpoint.snapshots.join(", "),
        ]);
    }
    table
}

/// What is special about a checkpoint.
fn kind(checkpoint: &Checkpoint) -> String {
    let kinds = [
        (checkpoint.is_at_rest, "at rest"),
        (checkpoint.is_recovered, "after a crash"),
        (checkpoint.is_merged, "merged"),
    ];
    kinds.into_iter().filter(|(is, _)| *is).map(|(_, word)| word).collect::<Vec<_>>().join(", ")
}

fn snapshot_table(snapshots: &[Snapshot], now_ms: u64, zone: &TimeZone) -> Table {
    let mut table = Table::new(&["VOLUME", "SNAPSHOT", "CHECKPOINT", "TIME", "AGE"]);
    for snapshot in snapshots {
        table.row(vec![
            snapshot.volume.clone(),
            snapshot.name.clone(),
            snapshot.seq.to_string(),
            time::local(snapshot.time_ms, zone),
            time::ago(now_ms, snapshot.time_ms),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::super::fixture::checkpoint;
    use super::*;
    use crate::terminal::Paint;

    const NOW_MS: u64 = 3_000_003_000;

    #[test]
    fn checkpoints_read_without_colour() {
        let named = Checkpoint {
            is_at_rest: true,
            snapshots: vec!["before-upgrade".to_owned(), "v2".to_owned()],
            ..checkpoint(117, NOW_MS - 600_000)
        };
        let odd = Checkpoint { is_recovered: true, is_merged: true, ..checkpoint(90, NOW_MS - 80_000_000) };
        let plain = checkpoint(118, NOW_MS - 3000);
        let table = checkpoint_table(&[plain.clone(), named, odd], NOW_MS, &TimeZone::UTC);
        insta::assert_snapshot!(table.render(None, Paint::PLAIN), @"
        CHECKPOINT  TIME                 AGE      SIZE     KIND                   SNAPSHOTS
        118         1970-02-04 17:20:00  3s ago   1.5 MiB
        117         1970-02-04 17:10:03  10m ago  1.5 MiB  at rest                before-upgrade, v2
        90          1970-02-03 19:06:43  22h ago  1.5 MiB  after a crash, merged
        ");
        let table = checkpoint_table(&[plain], NOW_MS, &TimeZone::UTC);
        insta::assert_snapshot!(table.render(None, Paint::PLAIN), @"
        CHECKPOINT  TIME                 AGE     SIZE
        118         1970-02-04 17:20:00  3s ago  1.5 MiB
        ");
    }

    #[test]
    fn snapshots_read_without_colour() {
        let snapshot = Snapshot {
            volume: "shop.data.0".to_owned(),
            name: "before-upgrade".to_owned(),
            seq: 117,
            time_ms: NOW_MS - 600_000,
        };
        let table = snapshot_table(&[snapshot], NOW_MS, &TimeZone::UTC);
        insta::assert_snapshot!(table.render(None, Paint::PLAIN), @"
        VOLUME       SNAPSHOT        CHECKPOINT  TIME                 AGE
        shop.data.0  before-upgrade  117         1970-02-04 17:10:03  10m ago
        ");
    }
}
