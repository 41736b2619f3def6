//! Values for the tests of these commands.

use lith_api::volume::{Checkpoint, Volume};

/// A volume with a disk and a history.
pub(super) fn volume(id: &str) -> Volume {
    let parts: Vec<&str> = id.split('.').collect();
    Volume {
        id: id.to_owned(),
        job: parts[0].to_owned(),
        volume: parts[1].to_owned(),
        index: parts[2].parse().unwrap(),
        node: "oak".to_owned(),
        pool: "main".to_owned(),
        size_bytes: 64 << 30,
        used_bytes: 5 << 20,
        history_bytes: 12 << 20,
        dirty_bytes: 0,
        last_checkpoint: Some(checkpoint(118, 3_000_000_000)),
        oldest_checkpoint: Some(checkpoint(1, 3_000_000_000 - 80_000_000)),
        holders: vec![],
        readers: vec![],
        has_disk: true,
        is_declared: true,
        problem: None,
    }
}

/// A checkpoint of no special kind.
pub(super) fn checkpoint(seq: u64, time_ms: u64) -> Checkpoint {
    Checkpoint {
        seq,
        epoch: 4,
        time_ms,
        bytes: 3 << 19,
        is_at_rest: false,
        is_recovered: false,
        is_merged: false,
        snapshots: vec![],
    }
}
