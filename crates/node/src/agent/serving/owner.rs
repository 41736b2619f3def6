//! Whose a volume's files are: they are given to the user of the processes that serve and read volumes. Such a process owns
//! the folder, and may be in the hands of whoever writes the disk: nothing in it is followed by name, and nothing else than
//! files and folders of this volume alone is given away.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Stat, Uid};

use super::USER;

/// Folders within folders: those of a volume are three deep, with a history that was put aside.
const DEPTH_MAX: usize = 8;

/// Gives a volume's folder and files to the user of these processes.
///
/// # Errors
/// What the system says; a file of another user has a second name, perhaps outside; or folders lie too deep.
pub(crate) fn give_to_user(folder: &Path) -> io::Result<()> {
    // The pool is root's: what has this name there is what root has put there.
    let opened = rustix::fs::openat(CWD, folder, FOLDER, Mode::empty())?;
    give_folder(&opened, DEPTH_MAX)
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// Only to be looked at and given away: nothing waits for the other end of a pipe, or wakes a device.
const ANY: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn give_folder(folder: &OwnedFd, depth: usize) -> io::Result<()> {
    if depth == 0 {
        return Err(io::Error::other("its folders lie too deep"));
    }
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let found = match rustix::fs::openat(folder, name, ANY, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => continue,
            found => found?,
        };
        let stat = rustix::fs::fstat(&found)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let inside = rustix::fs::openat(&found, c".", FOLDER, Mode::empty())?;
                give_folder(&inside, depth - 1)?;
            }
            FileType::RegularFile if is_users(&stat) => {}
            // A hard link shares its owner with what it is a link to.
            FileType::RegularFile if stat.st_nlink > 1 => {
                let name = name.to_string_lossy();
                return Err(io::Error::other(format!("{} has a second name", name.escape_debug())));
            }
            FileType::RegularFile => give(found.as_fd())?,
            // Not lith's, and of no use to anybody.
            _ => {}
        }
    }
    if is_users(&rustix::fs::fstat(folder)?) { Ok(()) } else { give(folder.as_fd()) }
}

fn is_users(stat: &Stat) -> bool {
    stat.st_uid == USER && stat.st_gid == USER
}

/// Gives away what was opened, whatever has its name by now.
fn give(opened: BorrowedFd<'_>) -> io::Result<()> {
    let (user, group) = (Uid::from_raw(USER), Gid::from_raw(USER));
    Ok(rustix::fs::chownat(opened, c"", Some(user), Some(group), AtFlags::EMPTY_PATH)?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn owner(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().uid()
    }

    #[test]
    fn files_and_folders_of_the_volume_are_given_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (volume, other) = (folder.path().join("volume"), folder.path().join("other"));
        fs::create_dir_all(volume.join("aside.1/log")).unwrap();
        fs::create_dir(&other).unwrap();
        let files = [volume.join("disk.img"), volume.join("aside.1/log/1.log")];
        for path in files.iter().chain([&other.join("passwd")]) {
            fs::write(path, "x").unwrap();
        }
        symlink(&other, volume.join("log")).unwrap();
        symlink(other.join("passwd"), volume.join("volume.json")).unwrap();
        give_to_user(&volume).unwrap();
        give_to_user(&volume).unwrap();
        for path in files.iter().chain([&volume, &volume.join("aside.1"), &volume.join("aside.1/log")]) {
            assert_eq!(owner(path), USER, "{}", path.display());
        }
        for path in [&other, &other.join("passwd"), &volume.join("log")] {
            assert_eq!(owner(path), 0, "{}", path.display());
        }
        // One that is a file elsewhere, too.
        fs::hard_link(other.join("passwd"), volume.join("intents")).unwrap();
        let why = give_to_user(&volume).unwrap_err().to_string();
        assert_eq!((why.as_str(), owner(&other.join("passwd"))), ("intents has a second name", 0));
        fs::remove_file(volume.join("intents")).unwrap();
        // Copies that share a name with what is the user's already do no harm.
        fs::hard_link(&files[0], volume.join("copy")).unwrap();
        give_to_user(&volume).unwrap();
        fs::create_dir_all(volume.join(["deep"; DEPTH_MAX].join("/"))).unwrap();
        assert!(give_to_user(&volume).is_err());
    }

    /// What is a file when it is looked at, and a link to root's when it is given away.
    #[test]
    fn what_changes_meanwhile_leads_nowhere() {
        const ROUNDS: usize = 400;
        let folder = tempfile::tempdir().unwrap();
        let (volume, other) = (folder.path().join("volume"), folder.path().join("other"));
        fs::create_dir(&volume).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(other.join("1.log"), "x").unwrap();
        let [log, link] = ["log", "link"].map(|name| volume.join(name));
        fs::create_dir(&log).unwrap();
        fs::write(log.join("1.log"), "x").unwrap();
        symlink(&other, &link).unwrap();
        let has_ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !has_ended.load(Ordering::Relaxed) {
                    let flags = rustix::fs::RenameFlags::EXCHANGE;
                    rustix::fs::renameat_with(CWD, &log, CWD, &link, flags).unwrap();
                }
            });
            let given = (0..ROUNDS).try_for_each(|_| give_to_user(&volume));
            has_ended.store(true, Ordering::Relaxed);
            given.unwrap();
        });
        assert_eq!([owner(&other), owner(&other.join("1.log"))], [0, 0]);
    }
}
