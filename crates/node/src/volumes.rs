//! The disks of volumes in the data folder: listed, and deleted when a person says so. Whether one may be deleted is the
//! server's to say; nothing else deletes any.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use lith_core::name::VolumeId;

use crate::layout::Layout;

/// The unit in which a file's blocks are counted (stat(2)), whatever the file system's own is.
const BLOCK_BYTES: u64 = 512;

/// A disk of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Which.
    pub(crate) id: VolumeId,
    /// Ceiling of what it holds, bytes.
    pub(crate) size_bytes: u64,
    /// What it takes, bytes.
    pub(crate) used_bytes: u64,
}

/// Every disk, in order.
pub(crate) fn list(layout: &Layout) -> io::Result<Vec<Found>> {
    let entries = match fs::read_dir(layout.volumes()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        // What is named otherwise is not lith's.
        let Some(id) = name.to_str().and_then(|name| name.parse::<VolumeId>().ok()) else { continue };
        match fs::metadata(layout.volume_disk(&id)) {
            Ok(disk) => {
                let used_bytes = disk.blocks().saturating_mul(BLOCK_BYTES);
                found.push(Found { id, size_bytes: disk.len(), used_bytes });
            }
            // It is being made or deleted.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    found.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(found)
}

/// Deletes a disk; whether there was one.
pub(crate) fn delete(layout: &Layout, id: &VolumeId) -> io::Result<bool> {
    let was_there = match fs::remove_file(layout.volume_disk(id)) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    match fs::remove_dir_all(layout.volume(id)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(was_there),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_deleted_is_gone_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path(), folder.path());
        assert_eq!(list(&layout).unwrap(), []);
        let ids = ["shop.data.0", "shop.data.1"].map(|id| id.parse::<VolumeId>().unwrap());
        for id in &ids {
            fs::create_dir_all(layout.volume(id)).unwrap();
            fs::write(layout.volume_disk(id), "disk").unwrap();
        }
        fs::create_dir(layout.volumes().join("foreign")).unwrap();
        fs::create_dir(layout.volumes().join("shop.half.0")).unwrap();
        let found: Vec<String> = list(&layout).unwrap().iter().map(|found| found.id.to_string()).collect();
        assert_eq!(found, ["shop.data.0", "shop.data.1"]);
        assert!(delete(&layout, &ids[0]).unwrap());
        assert!(!delete(&layout, &ids[0]).unwrap());
        assert_eq!(list(&layout).unwrap()[0].id, ids[1]);
        assert!(layout.volumes().join("foreign").exists());
    }
}
