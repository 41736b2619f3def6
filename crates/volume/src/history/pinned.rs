//! A checkpoint that somebody reads for long, as a task does that mounts a volume read-only. It stays readable, and nobody
//! who folds the history has to wait for it.
//!
//! A plain [`View`] holds the history still. This one looks after each read whether the description is another one: files
//! that a fold has replaced stay what they were while they are open, so what was read before the description changed is
//! right, and what was read later is read again.

use std::io;
use std::sync::Mutex;

use super::{History, View};
use crate::error::VolumeError;
use crate::inspect::source::Source;
use crate::lock;
use crate::names;
use crate::storage::{Mark, Storage};

/// How often a history that changes all the time is looked at again before that counts as a failure.
const TRIES: u32 = 100;

/// The disk as it was at a checkpoint, which stays as long as this lives.
#[derive(Debug)]
pub struct Pinned<S: Storage> {
    storage: S,
    seq: u64,
    /// Folds leave this checkpoint alone.
    _pin: S::Hold,
    seen: Mutex<Seen<S>>,
}

#[derive(Debug)]
struct Seen<S: Storage> {
    view: View<S>,
    mark: Option<Mark>,
}

impl<S: Storage + Clone> Pinned<S> {
    /// Takes the newest checkpoint.
    ///
    /// # Errors
    /// A file cannot be read or is damaged.
    pub fn newest(storage: &S) -> Result<Self, VolumeError> {
        let mut tries = 0;
        loop {
            let seq = History::open(storage.clone())?.newest()?;
            match Self::open(storage, seq) {
                // It was folded between the two looks.
                Err(VolumeError::NoCheckpoint { .. }) if tries < TRIES => tries += 1,
                result => return result,
            }
        }
    }

    /// Takes a checkpoint.
    ///
    /// # Errors
    /// There is no such checkpoint, or a file cannot be read or is damaged.
    pub fn open(storage: &S, seq: u64) -> Result<Self, VolumeError> {
        // The pin comes first: who folds looks for pins when nobody can look at the history any more.
        let pin = storage.pin(seq).map_err(VolumeError::file("pin a checkpoint in", names::READERS))?;
        let seen = Mutex::new(look(storage, seq)?);
        Ok(Self { storage: storage.clone(), seq, _pin: pin, seen })
    }

    /// Which checkpoint it is.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Size of the disk then, bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        lock(&self.seen).view.bytes()
    }

    /// Fills a buffer from any place; what lies behind the end is zeroes.
    ///
    /// # Errors
    /// A file cannot be read or is damaged: which, and where, is said.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), VolumeError> {
        let mut seen = lock(&self.seen);
        let mut tries = 0;
        loop {
            let result = seen.view.read_at(offset, into);
            if mark(&self.storage)? == seen.mark || tries == TRIES {
                return result;
            }
            *seen = look(&self.storage, self.seq)?;
            tries += 1;
        }
    }
}

fn mark<S: Storage>(storage: &S) -> Result<Option<Mark>, VolumeError> {
    storage.mark(names::MANIFEST).map_err(VolumeError::file("look at", names::MANIFEST))
}

fn look<S: Storage + Clone>(storage: &S, seq: u64) -> Result<Seen<S>, VolumeError> {
    // First: when the description changes between the two, the next read finds out.
    let mark = mark(storage)?;
    let mut view = History::open(storage.clone())?.view(seq)?;
    view.let_go();
    Ok(Seen { view, mark })
}

impl<S: Storage + Clone> Source for Pinned<S> {
    fn bytes(&self) -> u64 {
        Pinned::bytes(self)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        Pinned::read_at(self, offset, into).map_err(io::Error::from)
    }
}
