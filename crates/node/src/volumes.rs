//! The disks of volumes in the data folder, and what new ones start with: listed, taken in, and deleted when a person says
//! so. Whether one may be deleted is the server's to say; nothing else deletes any.

pub(crate) mod aside;
pub(crate) mod made;

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use lith_core::name::{PoolName, VolumeId};
use lith_image::{Limits, UnpackError, folder_from_archive};
use lith_vmm::durable;
use lith_volume::names;

use crate::layout::{Layout, PoolPath};

/// What a volume starts with, in its folder.
const CONTENT: &str = "content.erofs";
/// Where it is on its way from a person, in its pool.
const INCOMING: &str = "incoming";
/// What the names of clones begin with that are not whole yet, in their pool.
pub(crate) const CLONE_PREFIX: &str = ".clone-";
/// Where removed ones are kept, in their pool.
const REMOVED: &str = "removed";
/// How long: a week, in which a mistake is noticed.
pub(crate) const GRACE_MS: u64 = 7 * 24 * 3600 * 1000;

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
    /// The pool in which it lies.
    pub(crate) pool: PoolName,
    /// Its folder.
    pub(crate) folder: PathBuf,
}

/// Every volume of every pool, in order. A pool that is not there has none.
pub(crate) fn list(layout: &Layout) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for pool in layout.pools() {
        list_pool(pool, &mut found)?;
    }
    found.sort_by(|a, b| a.id.cmp(&b.id));
    // Of two with one name, which only a person can make, the one that is used.
    found.dedup_by(|a, b| a.id == b.id);
    Ok(found)
}

/// Every volume of every pool that can be read.
pub(crate) fn list_readable(layout: &Layout) -> Vec<Found> {
    let mut found = Vec::new();
    for pool in layout.pools() {
        if let Err(error) = list_pool(pool, &mut found) {
            tracing::error!(pool = %pool.name, %error, "the volumes of a pool cannot be listed");
        }
    }
    found
}

fn list_pool(pool: &PoolPath, found: &mut Vec<Found>) -> io::Result<()> {
    let entries = match fs::read_dir(&pool.path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        // What is named otherwise is not lith's.
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<VolumeId>().ok()) else {
            continue;
        };
        let folder = entry.path();
        let disk = look(&folder.join(names::DISK))?;
        let content = look(&folder.join(CONTENT))?;
        let is_begun = is_there(&folder.join(names::MANIFEST));
        // None of them: it is being made or deleted.
        if disk.is_some() || content.is_some() || is_begun {
            let used = |file: &Option<fs::Metadata>| {
                file.as_ref().map_or(0, |file| file.blocks().saturating_mul(BLOCK_BYTES))
            };
            let used_bytes = used(&disk).saturating_add(used(&content));
            let [size_bytes, content_bytes] = [disk, content].map(|file| file.map(|file| file.len()));
            let pool = pool.name.clone();
            found.push(Found { id, size_bytes, content_bytes, used_bytes, pool, folder });
        }
    }
    Ok(())
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

/// Keeps an archive of a folder as what a volume without a disk starts with, in a pool that is there, in place of what was
/// kept before.
pub(crate) fn take_in(
    layout: &Layout,
    id: &VolumeId,
    pool: &PoolPath,
    archive: impl Read + Send,
) -> Result<TakenIn, UnpackError> {
    let (incoming, folder) = (pool.path.join(INCOMING), pool.path.join(id.to_string()));
    let write = UnpackError::Write;
    fs::create_dir_all(&incoming).map_err(write)?;
    let draft = tempfile::tempdir_in(&incoming).map_err(write)?;
    let path = draft.path().join(CONTENT);
    folder_from_archive(archive, &path, limits())?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(write)?;
    // To send it may have taken an hour.
    if is_there(&layout.volume_disk(id)) {
        return Ok(TakenIn::TooLate);
    }
    keep_content(&path, &folder).map_err(write)?;
    for other in layout.pools().iter().filter(|other| other.path != pool.path) {
        drop_content(&other.path.join(id.to_string()), &other.path).map_err(write)?;
    }
    Ok(TakenIn::Kept)
}

fn keep_content(path: &Path, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    fs::rename(path, folder.join(CONTENT))?;
    durable::sync_folder(folder)?;
    folder.parent().map_or(Ok(()), durable::sync_folder)
}

/// Removes what a volume was to start with, with its folder, which has nothing else.
fn drop_content(folder: &Path, pool: &Path) -> io::Result<()> {
    let gone = |result: io::Result<()>| match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    };
    if !is_there(folder) {
        return Ok(());
    }
    gone(fs::remove_file(folder.join(CONTENT)))?;
    gone(fs::remove_dir(folder))?;
    durable::sync_folder(pool)
}

/// Takes what a volume without a disk is to start with to another pool: that of its job's file, where it was sent before
/// anybody knew of that.
pub(crate) fn move_content(id: &VolumeId, from: &PoolPath, to: &PoolPath) -> io::Result<()> {
    let (folder, incoming) = (from.path.join(id.to_string()), to.path.join(INCOMING));
    let content = folder.join(CONTENT);
    if is_there(&content) {
        fs::create_dir_all(&incoming)?;
        let draft = tempfile::Builder::new().tempfile_in(&incoming)?;
        io::copy(&mut fs::File::open(&content)?, &mut draft.as_file())?;
        draft.as_file().sync_all()?;
        keep_content(draft.path(), &to.path.join(id.to_string()))?;
        // It has another name by now.
        let _ = draft.keep();
    }
    drop_content(&folder, &from.path)
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

/// Removes what a crash left on its way, in every pool. One that does not let itself be swept is no reason not to start.
pub(crate) fn sweep(layout: &Layout) {
    for pool in layout.pools() {
        if let Err(error) = sweep_pool(&pool.path) {
            tracing::warn!(pool = %pool.name, %error, "what a crash left in a pool is still there");
        }
    }
}

fn sweep_pool(pool: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(pool) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name == INCOMING || name.starts_with(CLONE_PREFIX)) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
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

/// Takes a volume away; it is kept for a while.
pub(crate) fn remove(found: &Found, now_ms: u64) -> io::Result<Removed> {
    let pool = found.folder.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let kept = pool.join(REMOVED);
    fs::create_dir_all(&kept)?;
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o700))?;
    let folder = kept.join(format!("{}.{now_ms}", found.id));
    fs::rename(&found.folder, &folder)?;
    durable::sync_folder(&kept).and_then(|()| durable::sync_folder(pool))?;
    let used_bytes = taken(&folder);
    Ok(Removed { id: found.id.clone(), removed_ms: now_ms, used_bytes, pool: found.pool.clone(), folder })
}

/// A volume that was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Removed {
    /// Which.
    pub(crate) id: VolumeId,
    /// When, milliseconds since 1970 UTC.
    pub(crate) removed_ms: u64,
    /// What it takes, bytes.
    pub(crate) used_bytes: u64,
    /// The pool in which it lies.
    pub(crate) pool: PoolName,
    /// Its folder.
    pub(crate) folder: PathBuf,
}

/// Those that were removed and are still there, in order.
pub(crate) fn removed(layout: &Layout) -> io::Result<Vec<Removed>> {
    let mut list = Vec::new();
    for pool in layout.pools() {
        let entries = match fs::read_dir(pool.path.join(REMOVED)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let parsed = name.to_str().and_then(|name| {
                let (id, time) = name.rsplit_once('.')?;
                Some((id.parse::<VolumeId>().ok()?, time.parse::<u64>().ok()?))
            });
            let Some((id, removed_ms)) = parsed else { continue };
            let folder = entry.path();
            let used_bytes = taken(&folder);
            list.push(Removed { id, removed_ms, used_bytes, pool: pool.name.clone(), folder });
        }
    }
    list.sort_by(|a, b| (&a.id, a.removed_ms).cmp(&(&b.id, b.removed_ms)));
    Ok(list)
}

/// Deletes those whose time is over, and what was put aside of those that are still there.
pub(crate) fn sweep_removed(layout: &Layout, now_ms: u64) -> io::Result<()> {
    for removed in removed(layout)? {
        if removed.removed_ms.saturating_add(GRACE_MS) <= now_ms {
            fs::remove_dir_all(&removed.folder)?;
            tracing::info!(volume = %removed.id, "deleted a volume that was removed a while ago");
        }
    }
    list(layout)?.iter().try_for_each(|found| aside::sweep(&found.folder, now_ms))
}

/// Brings a removed volume back.
pub(crate) fn bring_back(removed: &Removed) -> io::Result<()> {
    let kept = removed.folder.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let pool = kept.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let folder = pool.join(removed.id.to_string());
    if is_there(&folder) {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    fs::rename(&removed.folder, &folder)?;
    durable::sync_folder(kept).and_then(|()| durable::sync_folder(pool))
}

/// What a folder's files take, bytes.
pub(crate) fn taken(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => taken(&entry.path()),
        Ok(found) => found.blocks().saturating_mul(BLOCK_BYTES),
        Err(_) => 0,
    });
    sizes.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pools::Keeps;

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
        let first = list(&layout).unwrap().remove(0);
        let gone = remove(&first, 1000).unwrap();
        assert_eq!(list(&layout).unwrap()[0].id, ids[1]);
        assert!(layout.volumes().join("foreign").exists());
        assert_eq!(removed(&layout).unwrap(), std::slice::from_ref(&gone));
        bring_back(&gone).unwrap();
        assert_eq!(list(&layout).unwrap()[0], first);
        let gone = remove(&first, 2000).unwrap();
        fs::create_dir(layout.volume(&ids[0])).unwrap();
        assert_eq!(bring_back(&gone).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        sweep_removed(&layout, 2000 + GRACE_MS - 1).unwrap();
        assert!(gone.folder.exists());
        sweep_removed(&layout, 2000 + GRACE_MS).unwrap();
        assert_eq!((removed(&layout).unwrap(), gone.folder.exists()), (vec![], false));
    }

    #[test]
    fn what_a_volume_starts_with_is_kept_until_it_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path(), folder.path());
        let id: VolumeId = "shop.site.0".parse().unwrap();
        let pool = layout.pools()[0].clone();
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(2);
        builder.append_data(&mut header, "./page", b"hi".as_slice()).unwrap();
        let archive = builder.into_inner().unwrap();
        take_in(&layout, &id, &pool, &archive[..100]).unwrap_err();
        assert_eq!(list(&layout).unwrap(), []);
        take_in(&layout, &id, &pool, archive.as_slice()).unwrap();
        take_in(&layout, &id, &pool, archive.as_slice()).unwrap();
        let found = list(&layout).unwrap();
        assert_eq!((found.len(), found[0].size_bytes), (1, None));
        assert!(found[0].used_bytes > 0);
        assert_eq!(fs::read_dir(layout.volumes().join(INCOMING)).unwrap().count(), 0);
        fs::create_dir(layout.volumes().join(format!("{CLONE_PREFIX}left"))).unwrap();
        // A pool that is none does not keep the others from being swept.
        let broken = PoolPath {
            name: "broken".parse().unwrap(),
            path: layout.volume_content(&id),
            keeps: Keeps::default(),
        };
        sweep(&layout.clone().with_pools(vec![broken]));
        sweep(&layout);
        let left = fs::read_dir(layout.volumes()).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(left.collect::<Vec<_>>(), ["shop.site.0"]);
        // Sent again for another pool, and the other way round.
        let bulk = PoolPath {
            name: "bulk".parse().unwrap(),
            path: folder.path().join("bulk"),
            keeps: Keeps::default(),
        };
        fs::create_dir(&bulk.path).unwrap();
        let layout = layout.with_pools(vec![bulk.clone(), pool.clone()]);
        let lies_in =
            || list(&layout).unwrap().into_iter().map(|found| found.pool.to_string()).collect::<Vec<_>>();
        take_in(&layout, &id, &bulk, archive.as_slice()).unwrap();
        assert_eq!((lies_in(), pool.path.join("shop.site.0").exists()), (vec!["bulk".to_owned()], false));
        let bytes = fs::read(layout.volume_content(&id)).unwrap();
        move_content(&id, &bulk, &pool).unwrap();
        assert_eq!((lies_in(), bulk.path.join("shop.site.0").exists()), (vec!["default".to_owned()], false));
        assert_eq!(fs::read(layout.volume_content(&id)).unwrap(), bytes);
        fs::write(layout.volume_disk(&id), "disk").unwrap();
        forget_content(&layout, &id);
        forget_content(&layout, &id);
        assert_eq!(list(&layout).unwrap()[0].size_bytes, Some(4));
        assert_eq!(take_in(&layout, &id, &pool, archive.as_slice()).unwrap(), TakenIn::TooLate);
    }
}
