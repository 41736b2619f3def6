//! What a volume is, as one small file: its identity, the oldest checkpoint that can be read, its snapshots, and a restore
//! that is under way. Replaced whole, so that each of its changes is one step: this is where folding, snapshots and
//! restores become true.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::VolumeError;
use crate::names::MANIFEST;
use crate::segment::{CheckpointId, SegmentHash, VolumeUuid};
use crate::storage::{Storage, StoredFile, replace};

/// The form that is written. Older ones stay readable.
const FORM: u32 = 1;
/// Larger ones are not lith's.
const BYTES_MAX: u64 = 16 << 20;

/// A place in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Point {
    /// The checkpoint.
    pub id: CheckpointId,
    /// The identity of the segment that leads there.
    pub hash: SegmentHash,
    /// When it was cut, nanoseconds since 1970 UTC.
    pub time_ns: i64,
}

/// A checkpoint with a name, which folding does not pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its name, unique in the volume.
    pub name: String,
    /// The checkpoint.
    pub seq: u64,
    /// When it was cut, nanoseconds since 1970 UTC.
    pub time_ns: i64,
}

/// A restore that must be carried to its end before anybody writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restore {
    /// The checkpoint that the disk is to be as.
    pub target: u64,
    /// The checkpoint of what it replaces.
    pub replaced: u64,
}

/// What a volume is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its identity.
    pub uuid: VolumeUuid,
    /// The epoch of its writer.
    pub epoch: u64,
    /// The oldest checkpoint that can be read.
    pub base: Point,
    /// The file of base blocks that a fold has put together, which comes before the others, by its number.
    pub folded: Option<u64>,
    /// The first file of base blocks that counts.
    pub base_file: u64,
    /// The file of merged segments that comes before the others, by its number.
    pub merged: Option<u64>,
    /// The first file of segments that counts.
    pub log_file: u64,
    /// In the order of their checkpoints.
    pub snapshots: Vec<Snapshot>,
    /// A restore that has not ended.
    pub restore: Option<Restore>,
}

#[derive(Serialize, Deserialize)]
struct Form1 {
    form: u32,
    uuid: String,
    epoch: u64,
    base_epoch: u64,
    base_seq: u64,
    base_hash: String,
    base_time_ns: i64,
    folded: Option<u64>,
    base_file: u64,
    merged: Option<u64>,
    log_file: u64,
    snapshots: Vec<Snapshot>,
    restore: Option<Restore>,
}

#[derive(Deserialize)]
struct AnyForm {
    form: u32,
}

impl Manifest {
    /// A volume whose history begins now.
    #[must_use]
    pub fn new(uuid: VolumeUuid, time_ns: i64) -> Self {
        let base = Point { time_ns, ..Point::default() };
        Self {
            uuid,
            epoch: 1,
            base,
            folded: None,
            base_file: 0,
            merged: None,
            log_file: 0,
            snapshots: vec![],
            restore: None,
        }
    }

    /// Reads it; none if there is none.
    ///
    /// # Errors
    /// It cannot be read, is damaged, or was written by a newer lith.
    pub fn load<S: Storage>(storage: &S) -> Result<Option<Self>, VolumeError> {
        let read = VolumeError::file("read", MANIFEST);
        let Some(file) = storage.open(MANIFEST).map_err(VolumeError::file("open", MANIFEST))? else {
            return Ok(None);
        };
        let bytes = file.bytes().map_err(VolumeError::file("read", MANIFEST))?;
        let damaged = |problem: String| VolumeError::Manifest { name: MANIFEST, problem };
        if bytes > BYTES_MAX {
            return Err(damaged(format!("it has {bytes} bytes")));
        }
        let mut json = vec![0; usize::try_from(bytes).unwrap_or_default()];
        file.read_into(0, &mut json).map_err(read)?;
        let AnyForm { form } = serde_json::from_slice(&json).map_err(|error| damaged(error.to_string()))?;
        if form > FORM {
            return Err(damaged(format!("form {form} is newer than this version of lith knows")));
        }
        let stored: Form1 = serde_json::from_slice(&json).map_err(|error| damaged(error.to_string()))?;
        let uuid = from_hex(&stored.uuid).ok_or_else(|| damaged("uuid".to_owned()))?;
        let hash = from_hex(&stored.base_hash).ok_or_else(|| damaged("base_hash".to_owned()))?;
        let id = CheckpointId { epoch: stored.base_epoch, seq: stored.base_seq };
        Ok(Some(Self {
            uuid: VolumeUuid(uuid),
            epoch: stored.epoch,
            base: Point { id, hash: SegmentHash(hash), time_ns: stored.base_time_ns },
            folded: stored.folded,
            base_file: stored.base_file,
            merged: stored.merged,
            log_file: stored.log_file,
            snapshots: stored.snapshots,
            restore: stored.restore,
        }))
    }

    /// Writes it, durably and at once.
    ///
    /// # Errors
    /// It cannot be written; the former one counts then.
    pub fn save<S: Storage>(&self, storage: &S) -> Result<(), VolumeError> {
        let form = Form1 {
            form: FORM,
            uuid: to_hex(&self.uuid.0),
            epoch: self.epoch,
            base_epoch: self.base.id.epoch,
            base_seq: self.base.id.seq,
            base_hash: to_hex(&self.base.hash.0),
            base_time_ns: self.base.time_ns,
            folded: self.folded,
            base_file: self.base_file,
            merged: self.merged,
            log_file: self.log_file,
            snapshots: self.snapshots.clone(),
            restore: self.restore.clone(),
        };
        let json = serde_json::to_vec_pretty(&form).expect("texts and numbers always encode");
        replace(storage, MANIFEST, &json).map_err(VolumeError::file("write", MANIFEST))
    }
}

/// The manifest of an open volume, and whether it is the one on disk.
#[derive(Debug)]
pub(crate) struct Keeper {
    current: Manifest,
    /// A change failed, and may be on disk all the same: what either refers to must stay.
    is_in_doubt: bool,
}

impl Keeper {
    pub(crate) fn new(current: Manifest) -> Self {
        Self { current, is_in_doubt: false }
    }

    pub(crate) fn get(&self) -> &Manifest {
        &self.current
    }

    pub(crate) fn is_in_doubt(&self) -> bool {
        self.is_in_doubt
    }

    /// Sees to it that the current one is on disk and no other, before files are written that another may refer to.
    /// Whether there was a doubt.
    pub(crate) fn settle<S: Storage>(&mut self, storage: &S) -> Result<bool, VolumeError> {
        if self.is_in_doubt {
            self.current.save(storage)?;
            self.is_in_doubt = false;
            return Ok(true);
        }
        Ok(false)
    }

    /// Replaces it, on disk and here.
    pub(crate) fn change<S: Storage>(
        &mut self,
        storage: &S,
        changed: Manifest,
    ) -> Result<Manifest, VolumeError> {
        self.settle(storage)?;
        if let Err(error) = changed.save(storage) {
            self.is_in_doubt = true;
            return Err(error);
        }
        Ok(std::mem::replace(&mut self.current, changed))
    }
}

impl fmt::Display for VolumeUuid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&to_hex(&self.0))
    }
}

fn to_hex(bytes: &[u8]) -> String {
    hex::encode(bytes)
}

fn from_hex<const LENGTH: usize>(text: &str) -> Option<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}
