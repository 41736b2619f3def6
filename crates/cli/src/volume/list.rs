//! `volume ls` without a volume: all of them, or those that were removed.

use jiff::tz::TimeZone;
use lith_api::volume::{RemovedVolume, Volume};

use super::{all, files, short_task};
use crate::args::VolumeLsArgs;
use crate::context::Context;
use crate::error::Error;
use crate::size::size;
use crate::table::Table;
use crate::{exit, time};

/// `lith volume ls`.
pub(super) async fn ls(context: &Context, args: &VolumeLsArgs) -> Result<u8, Error> {
    if let Some(place) = &args.place {
        return files::list(context, place, args).await;
    }
    if args.point.at.is_some() || args.point.checkpoint.is_some() || args.point.snapshot.is_some() {
        return Err(Error::usage(
            "a point in the history of which volume?",
            "name it: `lith volume ls VOLUME --at TIME`",
        ));
    }
    if args.removed {
        return removed(context).await;
    }
    let volumes = all(context).await?;
    if context.json {
        context.print_json(&volumes)?;
    } else if volumes.is_empty() {
        context.say("no volumes; a job declares them under `volumes:`");
    } else {
        context.print_table(&table(&volumes, time::now_ms()))?;
    }
    Ok(exit::DONE)
}

async fn removed(context: &Context) -> Result<u8, Error> {
    let volumes: Vec<RemovedVolume> = context.client.get("/v1/volumes/removed").await?;
    if context.json {
        context.print_json(&volumes)?;
    } else if volumes.is_empty() {
        context.say("no removed volumes that could be brought back");
    } else {
        context.print_table(&removed_table(&volumes, time::now_ms(), &TimeZone::system()))?;
    }
    Ok(exit::DONE)
}

fn table(volumes: &[Volume], now_ms: u64) -> Table {
    let mut table = Table::new(&[
        "VOLUME",
        "SIZE",
        "USED",
        "HISTORY",
        "DIRTY",
        "CHECKPOINT",
        "WINDOW",
        "HOLDER",
        "READERS",
        "POOL",
        "STATE",
    ]);
    let tasks = |list: &[String]| list.iter().map(|task| short_task(task)).collect::<Vec<_>>().join(", ");
    let some = |bytes: u64| if bytes > 0 { size(bytes) } else { String::new() };
    for volume in volumes {
        let newest = volume.last_checkpoint.as_ref().map(|checkpoint| time::ago(now_ms, checkpoint.time_ms));
        let oldest = volume.oldest_checkpoint.as_ref();
        table.row(vec![
            volume.id.clone(),
            if volume.has_disk { size(volume.size_bytes) } else { "-".to_owned() },
            size(volume.used_bytes),
            some(volume.history_bytes),
            some(volume.dirty_bytes),
            newest.unwrap_or_default(),
            oldest.map_or_else(String::new, |checkpoint| time::age(now_ms, checkpoint.time_ms)),
            tasks(&volume.holders),
            tasks(&volume.readers),
            volume.pool.clone(),
            state(volume).to_owned(),
        ]);
    }
    table
}

fn state(volume: &Volume) -> &str {
    match (&volume.problem, volume.has_disk, volume.is_declared) {
        (Some(problem), _, _) => problem,
        (None, true, true) => "declared",
        (None, true, false) => "kept",
        // Its task has not started yet, or its job was never deployed.
        (None, false, _) => "waits for its task",
    }
}

fn removed_table(volumes: &[RemovedVolume], now_ms: u64, zone: &TimeZone) -> Table {
    let mut table = Table::new(&["VOLUME", "USED", "POOL", "REMOVED", "KEPT UNTIL"]);
    for volume in volumes {
        table.row(vec![
            volume.id.clone(),
            size(volume.used_bytes),
            volume.pool.clone(),
            time::ago(now_ms, volume.removed_ms),
            time::local(volume.gone_ms, zone),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::super::fixture::volume;
    use super::*;
    use crate::terminal::Paint;

    const NOW_MS: u64 = 3_000_003_000;

    #[test]
    fn volumes_read_without_colour() {
        let new = Volume {
            has_disk: false,
            size_bytes: 0,
            history_bytes: 0,
            last_checkpoint: None,
            oldest_checkpoint: None,
            ..volume("shop.site.0")
        };
        let kept = Volume { is_declared: false, ..volume("old.files.0") };
        let broken = Volume { problem: Some("its history is damaged".to_owned()), ..volume("wiki.pages.0") };
        let held = Volume {
            holders: vec!["shop.main.0.db".to_owned()],
            readers: vec!["shop.main.0.web".to_owned(), "shop.main.0.backup".to_owned()],
            dirty_bytes: 2 << 20,
            ..volume("shop.data.0")
        };
        let volumes = [held, kept.clone(), new, broken];
        insta::assert_snapshot!(table(&volumes, NOW_MS).render(None, Paint::PLAIN), @"
        VOLUME        SIZE      USED     HISTORY   DIRTY    CHECKPOINT  WINDOW  HOLDER   READERS                POOL  STATE
        shop.data.0   64.0 GiB  5.0 MiB  12.0 MiB  2.0 MiB  3s ago      22h     shop/db  shop/web, shop/backup  main  declared
        old.files.0   64.0 GiB  5.0 MiB  12.0 MiB           3s ago      22h                                     main  kept
        shop.site.0   -         5.0 MiB                                                                         main  waits for its task
        wiki.pages.0  64.0 GiB  5.0 MiB  12.0 MiB           3s ago      22h                                     main  its history is damaged
        ");
        insta::assert_snapshot!(table(&[kept], NOW_MS).render(None, Paint::PLAIN), @"
        VOLUME       SIZE      USED     HISTORY   CHECKPOINT  WINDOW  POOL  STATE
        old.files.0  64.0 GiB  5.0 MiB  12.0 MiB  3s ago      22h     main  kept
        ");
    }

    #[test]
    fn removed_volumes_read_without_colour() {
        let removed = RemovedVolume {
            id: "shop.data.0".to_owned(),
            pool: "main".to_owned(),
            used_bytes: 5 << 20,
            removed_ms: NOW_MS - 86_400_000,
            gone_ms: NOW_MS + 6 * 86_400_000,
        };
        insta::assert_snapshot!(removed_table(&[removed], NOW_MS, &TimeZone::UTC).render(None, Paint::PLAIN), @"
        VOLUME       USED     POOL  REMOVED  KEPT UNTIL
        shop.data.0  5.0 MiB  main  24h ago  1970-02-10 17:20:03
        ");
    }
}
