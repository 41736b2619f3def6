//! Checkpoints with names.

use super::Volume;
use crate::error::VolumeError;
use crate::lock;
use crate::manifest::{Manifest, Snapshot};
use crate::storage::Storage;

impl<S: Storage> Volume<S> {
    /// Gives the newest checkpoint a name. Who calls has cut before, so that it is what the disk holds.
    ///
    /// # Errors
    /// The name is taken, or cannot be stored.
    pub fn snapshot(&self, name: &str) -> Result<Snapshot, VolumeError> {
        let _changing = lock(&self.changing);
        let mut manifest = lock(&self.manifest);
        if manifest.get().snapshots.iter().any(|snapshot| snapshot.name == name) {
            return Err(VolumeError::SnapshotExists { name: name.to_owned() });
        }
        let tip = lock(&self.log).tip;
        let snapshot = Snapshot { name: name.to_owned(), seq: tip.id.seq, time_ns: tip.time_ns };
        let mut changed = manifest.get().clone();
        changed.snapshots.push(snapshot.clone());
        manifest.change(&self.storage, changed)?;
        Ok(snapshot)
    }

    /// Takes a name away; the checkpoint goes with the others of its time.
    ///
    /// # Errors
    /// There is no such name, or that cannot be stored.
    pub fn forget_snapshot(&self, name: &str) -> Result<Snapshot, VolumeError> {
        let _changing = lock(&self.changing);
        let mut manifest = lock(&self.manifest);
        let mut changed = manifest.get().clone();
        let position = changed.snapshots.iter().position(|snapshot| snapshot.name == name);
        let position = position.ok_or_else(|| VolumeError::NoSnapshot { name: name.to_owned() })?;
        let snapshot = changed.snapshots.remove(position);
        manifest.change(&self.storage, changed)?;
        Ok(snapshot)
    }

    /// What the volume is.
    #[must_use]
    pub fn manifest(&self) -> Manifest {
        lock(&self.manifest).get().clone()
    }
}
