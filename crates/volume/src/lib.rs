//! Persistent disks: the image file of a volume, served to a virtual machine, cut into checkpoints while it runs, with a
//! history from which any of them can be read and restored. Owns the format on disk and everything that reads or writes it.
//! It must not know why a volume is written: it is told a folder and a size.

pub mod blk;
pub mod block;
pub mod chain;
pub mod disk;
pub mod error;
pub mod history;
pub mod inspect;
pub mod intents;
pub mod manifest;
pub mod names;
pub mod pieces;
pub mod reader;
pub mod segment;
pub mod service;
pub mod storage;
pub mod tracker;
pub mod volume;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a lock, also after somebody has panicked with it: who does so ends the process, where it is not a test.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
