//! What a job puts into the task's root: file systems in memory, volumes, secrets and configs.
//!
//! Each is made where the task cannot see it, opened as a tree without a place, and moved to its place by a thread in the
//! task's root: so a symlink in the image leads to where it leads for the task, and never out of the image.
//!
//! ```text
//! /volumes/N      the whole file system of a disk: data, and beside it what lith notes
//! /files/N        secrets and configs, in memory
//! ```

use std::ffi::CString;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use lith_guest::messages::BootStep;
use lith_guest::messages::settings::{Disk, Settings, SmallFile, Start, Tmpfs};
use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_bind, mount_remount, move_mount,
    open_tree, unmount,
};

use crate::failure::{During, Failure, reason};
use crate::root::find_disk;
use crate::seed;
use crate::volumes::Volume;

/// The file systems of volumes, by number.
const VOLUMES: &str = "/volumes";
/// Secrets and configs, by number.
const FILES: &str = "/files";
/// What the file system of a volume shows to the task.
const SHOWN: &str = "data";

/// Trees without a place yet, in the order of the settings.
pub(crate) struct Trees {
    disks: Vec<OwnedFd>,
    files: Vec<OwnedFd>,
    /// The volumes that were mounted for them, each disk once.
    pub(crate) volumes: Vec<Volume>,
}

/// Mounts disks and writes files where the task does not see them. `image` is the image's own root.
pub(crate) fn prepare(settings: &Settings, image: &Path) -> Result<Trees, Failure> {
    let (mut disks, mut volumes) = (Vec::new(), Vec::<Volume>::new());
    for (number, disk) in settings.disks.iter().enumerate() {
        // One volume may have several places.
        let its = settings.disks.iter().filter(|other| other.serial == disk.serial);
        let targets: Vec<&str> = its.map(|disk| disk.target.as_str()).collect();
        let top = PathBuf::from(format!("{VOLUMES}/{number}"));
        fs::create_dir_all(&top).during(BootStep::Volumes, doing(disk))?;
        let device = find_disk(&disk.serial)?;
        if is_read_only(&device) {
            disks.push(prepare_checkpoint(disk, &device, &top)?);
            continue;
        }
        let (volume, tree) = prepare_disk((number, disk), (device, top), &targets, image)?;
        disks.push(tree);
        if volumes.iter().all(|other| other.device != volume.device) {
            volumes.push(volume);
        }
    }
    let files = prepare_files(&settings.files)?;
    Ok(Trees { disks, files, volumes })
}

fn doing(disk: &Disk) -> String {
    format!("mount the volume at {}", disk.target)
}

/// Whether the disk takes no writes.
fn is_read_only(device: &str) -> bool {
    let name = device.trim_start_matches("/dev/");
    fs::read_to_string(format!("/sys/block/{name}/ro")).is_ok_and(|text| text.trim_end() == "1")
}

/// A checkpoint of a volume that another task writes. Its journal has been replayed for us, though its superblock says that
/// this is to be done: without `noload`, the kernel would want to write.
fn prepare_checkpoint(disk: &Disk, device: &str, top: &Path) -> Result<OwnedFd, Failure> {
    let step = BootStep::Volumes;
    mount(device, top, "ext4", MountFlags::RDONLY, Some(c"noload")).during(step, doing(disk))?;
    clone_tree(&top.join(SHOWN)).during(step, doing(disk))
}

fn prepare_disk(
    (number, disk): (usize, &Disk),
    (device, top): (String, PathBuf),
    targets: &[&str],
    image: &Path,
) -> Result<(Volume, OwnedFd), Failure> {
    let step = BootStep::Volumes;
    let doing = doing(disk);
    // What is deleted goes back to the node at once.
    mount(&device, &top, "ext4", MountFlags::empty(), Some(c"discard")).during(step, &doing)?;
    let shown = top.join(SHOWN);
    let opened = File::open(&device).during(step, &doing)?;
    let volume = Volume { device, disk: opened, top, target: disk.target.clone() };
    // First, so that what a new volume starts with finds all of its room.
    volume.grow();
    if !fs::exists(&shown).during(step, &doing)? {
        match &disk.start {
            Start::Image => seed::fill(image, targets, &shown)?,
            Start::Content(serial) => import(serial, &disk.target, number, &shown)?,
            Start::Nothing => {
                let sentence = format!(
                    "the volume at {} was made and never filled, and the folder that it is to start with is not here: \
                     remove `import`, or the job with its volumes",
                    disk.target
                );
                return Err(Failure::new(step, sentence));
            }
        }
    }
    let tree = clone_tree(&shown).during(step, &doing)?;
    Ok((volume, tree))
}

/// Fills a new volume with what the disk `serial` holds.
fn import(serial: &str, target: &str, number: usize, shown: &Path) -> Result<(), Failure> {
    let step = BootStep::Volumes;
    let doing = format_args!("mount what the volume at {target} starts with").to_string();
    let top = PathBuf::from(format!("{VOLUMES}/{number}.content"));
    fs::create_dir_all(&top).during(step, &doing)?;
    mount(find_disk(serial)?, &top, "erofs", MountFlags::RDONLY, None).during(step, &doing)?;
    let imported = seed::import(&top, target, shown);
    unmount(&top, UnmountFlags::empty()).during(step, &doing)?;
    fs::remove_dir(&top).during(step, &doing)?;
    imported
}

fn prepare_files(files: &[SmallFile]) -> Result<Vec<OwnedFd>, Failure> {
    let step = BootStep::SmallFiles;
    if files.is_empty() {
        return Ok(Vec::new());
    }
    fs::create_dir_all(FILES).during(step, "make a folder")?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", FILES, "tmpfs", flags, Some(c"mode=0700")).during(step, "make a file system in memory")?;
    let mut trees = Vec::new();
    for (number, file) in files.iter().enumerate() {
        let path = PathBuf::from(format!("{FILES}/{number}"));
        let tree = write_file(&path, file).and_then(|()| clone_tree(&path));
        trees.push(tree.during(step, format_args!("write {}", file.target))?);
    }
    Ok(trees)
}

fn clone_tree(path: &Path) -> io::Result<OwnedFd> {
    Ok(open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?)
}

/// A new file with its content, owner and mode.
fn write_file(path: &Path, file: &SmallFile) -> io::Result<()> {
    let mut new = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    new.write_all(&file.content.0)?;
    chown(path, Some(file.uid), Some(file.gid))?;
    // After the owner, for that takes special bits away.
    new.set_permissions(Permissions::from_mode(file.mode & 0o7777))
}

/// Puts volumes and file systems in memory in place, outer ones first. To be run in the task's root.
pub(crate) fn attach_volumes(settings: &Settings, trees: &Trees) -> Result<(), Failure> {
    let tmpfs = settings.tmpfs.iter().map(|tmpfs| (tmpfs.target.as_str(), Source::Memory(tmpfs)));
    let disks = settings.disks.iter().zip(&trees.disks);
    let disks = disks.map(|(disk, tree)| (disk.target.as_str(), Source::Disk(disk, tree)));
    let mut all: Vec<(&str, Source<'_>)> = tmpfs.chain(disks).collect();
    // A path comes before all that lie below it.
    all.sort_by_key(|(target, _)| *target);
    for (target, source) in all {
        let doing = format_args!("mount over {target}").to_string();
        make_folder(target).during(BootStep::Volumes, &doing)?;
        let mounted = match source {
            Source::Memory(tmpfs) => mount_tmpfs(tmpfs),
            Source::Disk(disk, tree) => attach(tree, target, Access::of(disk.is_read_only)),
        };
        mounted.during(BootStep::Volumes, &doing)?;
    }
    Ok(())
}

enum Source<'a> {
    Memory(&'a Tmpfs),
    Disk(&'a Disk, &'a OwnedFd),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    ReadOnly,
    ReadWrite,
}

impl Access {
    fn of(is_read_only: bool) -> Access {
        if is_read_only { Access::ReadOnly } else { Access::ReadWrite }
    }
}

fn attach(tree: &OwnedFd, target: &str, access: Access) -> io::Result<()> {
    move_mount(tree, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    if access == Access::ReadOnly {
        mount_remount(target, MountFlags::BIND | MountFlags::RDONLY, c"")?;
    }
    Ok(())
}

/// What a folder is mounted over must be one.
fn make_folder(target: &str) -> io::Result<()> {
    match fs::metadata(target) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(io::Error::other("the image has a file there")),
        Err(_) => DirBuilder::new().recursive(true).mode(0o755).create(target),
    }
}

fn mount_tmpfs(tmpfs: &Tmpfs) -> io::Result<()> {
    let size = tmpfs.size_bytes.map(|bytes| format!(",size={bytes}")).unwrap_or_default();
    let options = CString::new(format!("mode={:o}{size}", tmpfs.mode))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    Ok(mount("tmpfs", &*tmpfs.target, "tmpfs", flags, Some(options.as_c_str()))?)
}

/// Puts secrets and configs in place. One that may be changed is a plain file, for programs replace files by renaming,
/// which a mounted one refuses. To be run in the task's root.
pub(crate) fn attach_files(settings: &Settings, trees: &Trees) -> Result<(), Failure> {
    for (file, tree) in settings.files.iter().zip(&trees.files) {
        let attached = if file.is_writable {
            place(file)
        } else {
            make_place(&file.target).and_then(|()| cover(file, tree))
        };
        attached.during(BootStep::SmallFiles, format_args!("write {}", file.target))?;
    }
    Ok(())
}

fn cover(file: &SmallFile, tree: &OwnedFd) -> io::Result<()> {
    attach(tree, &file.target, Access::ReadOnly)
}

/// A file to be mounted over; made with its folders when there is none.
fn make_place(target: &str) -> io::Result<()> {
    match fs::metadata(target) {
        Ok(found) if found.is_dir() => Err(is_folder()),
        Ok(_) => Ok(()),
        Err(_) => {
            make_parent(target)?;
            File::create(target).map(drop)
        }
    }
}

/// A plain file in the place of what was there.
fn place(file: &SmallFile) -> io::Result<()> {
    match fs::symlink_metadata(&file.target) {
        Ok(found) if found.is_dir() => return Err(is_folder()),
        Ok(_) => fs::remove_file(&file.target)?,
        Err(_) => make_parent(&file.target)?,
    }
    write_file(Path::new(&file.target), file)
}

fn is_folder() -> io::Error {
    io::Error::other("the image has a folder there")
}

fn make_parent(target: &str) -> io::Result<()> {
    match Path::new(target).parent() {
        Some(parent) => DirBuilder::new().recursive(true).mode(0o755).create(parent),
        None => Ok(()),
    }
}

/// Gives paths of a root that is about to become read-only a mount of their own, which stays writable. To be run in the
/// task's root.
pub(crate) fn keep_writable<'a>(paths: impl Iterator<Item = &'a str>) -> Result<(), Failure> {
    for path in paths {
        mount_bind(path, path).during(BootStep::Volumes, format_args!("keep {path} writable"))?;
    }
    Ok(())
}

/// Unmounts volumes, so that their disks are clean. The task's processes, its root and the volumes' keeper are
/// gone.
pub(crate) fn take_down() {
    for entry in fs::read_dir(VOLUMES).into_iter().flatten().flatten() {
        let path = entry.path();
        // Somebody may still hold it; then at least nothing is written any more.
        if unmount(&path, UnmountFlags::empty()).is_err()
            && let Err(error) = mount_remount(&path, MountFlags::RDONLY, c"")
        {
            let reason = reason(&error.into());
            crate::boot::complain(&format!("cannot make {} read-only: {reason}", path.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use lith_guest::messages::settings::Content;

    use super::*;

    fn file(target: &Path, mode: u32) -> SmallFile {
        let me = fs::metadata(target.parent().unwrap()).unwrap();
        SmallFile {
            target: target.to_str().unwrap().to_owned(),
            uid: me.uid(),
            gid: me.gid(),
            mode,
            is_writable: true,
            content: Content(b"secret".to_vec()),
        }
    }

    #[test]
    fn a_writable_file_takes_the_place_of_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let (victim, target) = (folder.path().join("victim"), folder.path().join("target"));
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, &target).unwrap();
        place(&file(&target, 0o440)).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        let found = fs::symlink_metadata(&target).unwrap();
        assert_eq!((found.is_file(), found.mode() & 0o7777), (true, 0o440));
        assert_eq!(fs::read_to_string(&target).unwrap(), "secret");
        // A second boot finds what the first one left.
        place(&file(&target, 0o400)).unwrap();
        assert_eq!(fs::symlink_metadata(&target).unwrap().mode() & 0o7777, 0o400);
        assert_eq!(
            place(&file(folder.path(), 0o400)).unwrap_err().to_string(),
            "the image has a folder there"
        );
    }

    #[test]
    fn places_are_made_with_their_folders() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        make_place(&path("a/b/c")).unwrap();
        make_place(&path("a/b/c")).unwrap();
        assert_eq!(fs::read(path("a/b/c")).unwrap(), b"");
        assert!(make_place(&path("a/b")).is_err());
        make_folder(&path("d/e")).unwrap();
        make_folder(&path("d/e")).unwrap();
        assert_eq!(make_folder(&path("a/b/c")).unwrap_err().to_string(), "the image has a file there");
    }
}
