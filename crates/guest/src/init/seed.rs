//! What a new volume holds at first: what the image has at its place, as Docker does it, or what was sent for it; with
//! owners, modes, times and attributes. Owns the copy and the note that it was made: the folder has its name only when all of it is there.

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use lith_guest::messages::BootStep;
use rustix::fs::{CWD, FileType, Mode, XattrFlags, lgetxattr, llistxattr, lsetxattr, mknodat, syncfs};

use crate::failure::{During, Failure, reason};
use crate::view::inside_root;

/// Mode of a volume's root where the image has nothing.
const MODE_DEFAULT: u32 = 0o755;
/// Longest list of attributes' names, and longest attribute: the kernel's own bounds (`XATTR_LIST_MAX`,
/// `XATTR_SIZE_MAX`).
const ATTRIBUTE_BYTES_MAX: usize = 65_536;

/// Makes the folder `shown` of a new volume with what the image, whose root is `image`, has at the first of `targets`
/// where it has anything. After a crash it begins again.
pub(crate) fn fill(image: &Path, targets: &[&str], shown: &Path) -> Result<(), Failure> {
    let target = targets.join(" or ");
    let doing = format_args!("copy the image's {target} into its new volume").to_string();
    let source = inside_root(image, || open_first(targets)).and_then(|opened| opened);
    let source = source.during(BootStep::Volumes, &doing)?;
    make(source.as_ref(), shown).map_err(|error| {
        failed(
            &error,
            &doing,
            format_args!("the volume at {target} is smaller than what the image has there"),
        )
    })
}

/// The same with what the folder `content` holds, for the volume at `target`.
pub(crate) fn import(content: &Path, target: &str, shown: &Path) -> Result<(), Failure> {
    let doing = format_args!("fill the volume at {target} with what was sent for it").to_string();
    let source: OwnedFd = File::open(content).during(BootStep::Volumes, &doing)?.into();
    make(Some(&source), shown).map_err(|error| {
        failed(&error, &doing, format_args!("the volume at {target} is smaller than what was sent for it"))
    })
}

fn failed(error: &io::Error, doing: &str, too_small: std::fmt::Arguments<'_>) -> Failure {
    let sentence = match error.kind() {
        io::ErrorKind::StorageFull => too_small.to_string(),
        _ => format!("cannot {doing}: {}", reason(error)),
    };
    Failure::new(BootStep::Volumes, sentence)
}

/// The first folder that holds something, else the first one.
fn open_first(targets: &[&str]) -> io::Result<Option<OwnedFd>> {
    let mut empty = None;
    for target in targets {
        let Some(folder) = open_folder(target)? else { continue };
        if fs::read_dir(target)?.next().is_some() {
            return Ok(Some(folder));
        }
        empty.get_or_insert(folder);
    }
    Ok(empty)
}

/// The image's folder, if it has one there.
fn open_folder(target: &str) -> io::Result<Option<OwnedFd>> {
    match fs::metadata(target) {
        Ok(found) if found.is_dir() => File::open(target).map(|folder| Some(folder.into())),
        Ok(_) => Err(io::Error::other("it is a file")),
        Err(_) => Ok(None),
    }
}

fn make(source: Option<&OwnedFd>, shown: &Path) -> io::Result<()> {
    let building = shown.with_extension("new");
    match fs::remove_dir_all(&building) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    match source {
        // By its descriptor, for its path means something else out here.
        Some(source) => copy(Path::new(&format!("/proc/self/fd/{}", source.as_raw_fd())), &building)?,
        None => {
            fs::create_dir(&building)?;
            fs::set_permissions(&building, Permissions::from_mode(MODE_DEFAULT))?;
        }
    }
    // All of it before its name, and its name before anything that the task does.
    syncfs(File::open(&building)?)?;
    fs::rename(&building, shown)?;
    Ok(syncfs(File::open(shown)?)?)
}

/// Copies the folder `from`, which may be a link to one, to the new folder `to`.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let top = fs::metadata(from)?;
    fs::create_dir(to)?;
    let mut folders = vec![(from.to_owned(), to.to_owned(), top)];
    let mut links = BTreeMap::new();
    let mut next = 0;
    // A list instead of recursion: how deep the tree is, the image decides.
    while let Some((from, to, _)) = folders.get(next) {
        let (from, to) = (from.clone(), to.clone());
        next += 1;
        for entry in fs::read_dir(&from)? {
            let entry = entry?;
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            let metadata = fs::symlink_metadata(&from)?;
            if metadata.is_dir() {
                fs::create_dir(&to)?;
                folders.push((from, to, metadata));
            } else {
                copy_entry(&from, &to, &metadata, &mut links)?;
            }
        }
    }
    // Inner ones first: what is written into a folder changes its time.
    for (from, to, metadata) in folders.iter().rev() {
        adorn(from, to, metadata)?;
    }
    Ok(())
}

/// Copies what is no folder. `links` holds the files with several names that were copied already.
fn copy_entry(
    from: &Path,
    to: &Path,
    metadata: &fs::Metadata,
    links: &mut BTreeMap<(u64, u64), PathBuf>,
) -> io::Result<()> {
    let kind = metadata.file_type();
    if kind.is_socket() {
        // It means nothing without the program that made it.
        return Ok(());
    }
    if metadata.nlink() > 1 {
        let file = (metadata.dev(), metadata.ino());
        if let Some(first) = links.get(&file) {
            return fs::hard_link(first, to);
        }
        links.insert(file, to.to_owned());
    }
    if kind.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
        return lchown(to, Some(metadata.uid()), Some(metadata.gid()));
    }
    if kind.is_file() {
        fs::copy(from, to)?;
    } else {
        let kind = if kind.is_fifo() {
            FileType::Fifo
        } else if kind.is_char_device() {
            FileType::CharacterDevice
        } else {
            FileType::BlockDevice
        };
        mknodat(CWD, to, kind, Mode::from_raw_mode(0o600), metadata.rdev())?;
    }
    adorn(from, to, metadata)
}

/// Owner, mode, attributes and time of change.
fn adorn(from: &Path, to: &Path, metadata: &fs::Metadata) -> io::Result<()> {
    lchown(to, Some(metadata.uid()), Some(metadata.gid()))?;
    // After the owner, for that takes special bits away.
    fs::set_permissions(to, Permissions::from_mode(metadata.mode() & 0o7777))?;
    let kind = metadata.file_type();
    if !kind.is_file() && !kind.is_dir() {
        // To open a device does something, and a pipe waits for its other end.
        return Ok(());
    }
    // Through a link of the kernel's, `from` may be one: attributes are those of what it leads to.
    let from = if fs::symlink_metadata(from)?.is_symlink() { from.join(".") } else { from.to_owned() };
    copy_attributes(&from, to)?;
    File::open(to)?.set_times(FileTimes::new().set_modified(metadata.modified()?))
}

fn copy_attributes(from: &Path, to: &Path) -> io::Result<()> {
    let mut names = vec![0; ATTRIBUTE_BYTES_MAX];
    let length = match llistxattr(from, &mut names) {
        Ok(length) => length,
        // A file system without attributes.
        Err(rustix::io::Errno::NOTSUP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut value = vec![0; ATTRIBUTE_BYTES_MAX];
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let length = lgetxattr(from, name, &mut value)?;
        lsetxattr(to, name, &value[..length], XattrFlags::empty())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_like_the_original() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("data"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::write(from.join("a/file"), "text").unwrap();
        fs::hard_link(from.join("a/file"), from.join("a/b/same")).unwrap();
        symlink("../nowhere", from.join("a/link")).unwrap();
        mknodat(CWD, from.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o622), 0).unwrap();
        fs::set_permissions(from.join("a/file"), Permissions::from_mode(0o4640)).unwrap();
        fs::set_permissions(from.join("a"), Permissions::from_mode(0o2750)).unwrap();
        let has_attributes =
            lsetxattr(from.join("a/file"), "user.note", b"kept", XattrFlags::empty()).is_ok();
        let old = FileTimes::new().set_modified(std::time::UNIX_EPOCH);
        for path in ["a/file", "a"] {
            File::open(from.join(path)).unwrap().set_times(old).unwrap();
        }
        // What an attempt left that was cut off.
        fs::create_dir(to.with_extension("new")).unwrap();
        fs::write(to.with_extension("new").join("half"), "").unwrap();
        let opened: OwnedFd = File::open(&from).unwrap().into();
        make(Some(&opened), &to).unwrap();
        let found = |path: &str| fs::symlink_metadata(to.join(path)).unwrap();
        for (path, mode, is_old) in
            [("a/file", 0o4640, true), ("a", 0o2750, true), ("a/b/same", 0o4640, true), ("a/b", 0o755, false)]
        {
            let of = found(path);
            assert_eq!((of.mode() & 0o7777, of.mtime() == 0), (mode, is_old), "{path}");
        }
        assert_eq!(found("a/file").ino(), found("a/b/same").ino());
        assert_eq!(fs::read_link(to.join("a/link")).unwrap(), Path::new("../nowhere"));
        assert!(found("pipe").file_type().is_fifo());
        assert!(!to.join("half").exists() && !to.with_extension("new").exists());
        let mut value = [0; 8];
        let kept = lgetxattr(to.join("a/file"), "user.note", &mut value[..]).is_ok_and(|length| length == 4);
        assert_eq!(kept, has_attributes);
    }

    #[test]
    fn where_the_image_has_nothing_the_volume_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("data");
        make(None, &to).unwrap();
        assert_eq!(fs::symlink_metadata(&to).unwrap().mode() & 0o7777, MODE_DEFAULT);
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        assert!(open_folder(&path("none")).unwrap().is_none());
        assert!(open_folder(&path("data")).unwrap().is_some());
        fs::write(path("file"), "").unwrap();
        assert!(open_folder(&path("file")).is_err());
        // Of several places, the first one that says something.
        fs::create_dir(path("full")).unwrap();
        fs::write(path("full/file"), "").unwrap();
        let [none, empty, full] = ["none", "data", "full"].map(path);
        let inode = |targets: &[&str]| {
            let opened = open_first(targets).unwrap();
            opened.map(|folder| File::from(folder).metadata().unwrap().ino())
        };
        let of = |path: &str| Some(fs::metadata(path).unwrap().ino());
        assert_eq!(inode(&[&none, &empty, &full]), of(&full));
        assert_eq!(inode(&[&none, &empty]), of(&empty));
        assert_eq!(inode(&[&none]), None);
    }
}
