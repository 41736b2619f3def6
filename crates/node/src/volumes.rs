//! The disks of volumes in the data folder, and what new ones start with: listed, taken in, and deleted when a person says
//! so. Whether one may be deleted is the server's to say; nothing else deletes any.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use lith_core::name::VolumeId;
use lith_image::{Limits, UnpackError, folder_from_archive};
use lith_vmm::durable;

use crate::layout::Layout;

/// The unit in which a file's blocks are counted (stat(2)), whatever the file system's own is.
const BLOCK_BYTES: u64 = 512;

/// A disk of a volume, or what one is to start with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Which.
    pub(crate) id: VolumeId,
    /// Ceiling of what it holds, bytes; none before it has a disk.
    pub(crate) size_bytes: Option<u64>,
    /// Size of what it is to start with, while that is kept.
    pub(crate) content_bytes: Option<u64>,
    /// What it takes, bytes.
    pub(crate) used_bytes: u64,
}

/// Every volume, in order.
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
        let disk = look(&layout.volume_disk(&id))?;
        let content = look(&layout.volume_content(&id))?;
        // Neither: it is being made or deleted.
        if disk.is_some() || content.is_some() {
            let used = |file: &Option<fs::Metadata>| {
                file.as_ref().map_or(0, |file| file.blocks().saturating_mul(BLOCK_BYTES))
            };
            let used_bytes = used(&disk).saturating_add(used(&content));
            let [size_bytes, content_bytes] = [disk, content].map(|file| file.map(|file| file.len()));
            found.push(Found { id, size_bytes, content_bytes, used_bytes });
        }
    }
    found.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(found)
}

fn look(path: &Path) -> io::Result<Option<fs::Metadata>> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a file is there; one that cannot be looked at is.
pub(crate) fn is_there(path: &Path) -> bool {
    !matches!(look(path), Ok(None))
}

/// What became of what was sent for a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TakenIn {
    /// The volume will start with it.
    Kept,
    /// It has got a disk meanwhile.
    TooLate,
}

/// Keeps an archive of a folder as what a volume without a disk starts with, in place of what was kept before.
pub(crate) fn take_in(
    layout: &Layout,
    id: &VolumeId,
    archive: impl Read + Send,
) -> Result<TakenIn, UnpackError> {
    let (incoming, folder) = (layout.incoming(), layout.volume(id));
    let write = UnpackError::Write;
    fs::create_dir_all(&incoming).map_err(write)?;
    let draft = tempfile::tempdir_in(&incoming).map_err(write)?;
    let path = draft.path().join("content.erofs");
    folder_from_archive(archive, &path, limits())?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(write)?;
    // To send it may have taken an hour.
    if is_there(&layout.volume_disk(id)) {
        return Ok(TakenIn::TooLate);
    }
    fs::create_dir_all(&folder).map_err(write)?;
    fs::rename(&path, layout.volume_content(id)).map_err(write)?;
    durable::sync_folder(&folder).and_then(|()| durable::sync_folder(&layout.volumes())).map_err(write)?;
    Ok(TakenIn::Kept)
}

/// Bounds on what a person brings in. It is no stranger's image: a library of photos may be larger than any.
fn limits() -> Limits {
    Limits {
        entries_max: 8_000_000,
        metadata_bytes_max: 1 << 30,
        content_bytes_max: 16 << 40,
        stream_bytes_max: 17 << 40,
        ..Limits::default()
    }
}

/// Removes what a crash left on its way.
pub(crate) fn sweep(layout: &Layout) -> io::Result<()> {
    match fs::remove_dir_all(layout.incoming()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Forgets what a volume started with, which it has by now.
pub(crate) fn forget_content(layout: &Layout, id: &VolumeId) {
    let path = layout.volume_content(id);
    if is_there(&path)
        && let Err(error) = fs::remove_file(&path)
    {
        tracing::warn!(path = %path.display(), %error, "what a volume started with cannot be removed");
    }
}

/// Deletes a volume; whether there was one.
pub(crate) fn delete(layout: &Layout, id: &VolumeId) -> io::Result<bool> {
    let mut was_there = false;
    // The disk last: what is left of a volume after a crash can be deleted again.
    for path in [layout.volume_content(id), layout.volume_disk(id)] {
        match fs::remove_file(path) {
            Ok(()) => was_there = true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
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

    #[test]
    fn what_a_volume_starts_with_is_kept_until_it_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path(), folder.path());
        let id: VolumeId = "shop.site.0".parse().unwrap();
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(2);
        builder.append_data(&mut header, "./page", b"hi".as_slice()).unwrap();
        let archive = builder.into_inner().unwrap();
        take_in(&layout, &id, &archive[..100]).unwrap_err();
        assert_eq!(list(&layout).unwrap(), []);
        take_in(&layout, &id, archive.as_slice()).unwrap();
        take_in(&layout, &id, archive.as_slice()).unwrap();
        let found = list(&layout).unwrap();
        assert_eq!((found.len(), found[0].size_bytes), (1, None));
        assert!(found[0].used_bytes > 0);
        assert_eq!(fs::read_dir(layout.incoming()).unwrap().count(), 0);
        sweep(&layout).unwrap();
        sweep(&layout).unwrap();
        fs::write(layout.volume_disk(&id), "disk").unwrap();
        forget_content(&layout, &id);
        forget_content(&layout, &id);
        assert_eq!(list(&layout).unwrap()[0].size_bytes, Some(4));
        assert_eq!(take_in(&layout, &id, archive.as_slice()).unwrap(), TakenIn::TooLate);
        fs::write(layout.volume_content(&id), "").unwrap();
        assert!(delete(&layout, &id).unwrap());
        assert!(!layout.volume(&id).exists());
    }
}
