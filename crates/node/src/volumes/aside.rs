//! Histories that were put aside: moved out of the way of a new one, and kept for a while. Owns the order of the steps, so
//! that a crash between any two of them leaves what is recognised and gone on with before the volume is opened.
//!
//! ```text
//!  history ── make aside.TIME.moving ──▶ moving ── each file of it, synced ──▶ rename to aside.TIME ──▶ aside
//!                                          │ ▲
//!                                          └─┘ crash: the next who opens the volume goes on
//! ```
//!
//! The folder belongs to the process that serves the volume, which may be in the hands of whoever writes the disk: what is in
//! it is used by descriptors, and no link is followed.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use lith_volume::names;
use rustix::fs::{CWD, Dir, Mode, OFlags};
use rustix::io::Errno;

use super::{GRACE_MS, taken};

/// What the names of such folders begin with; the time follows, milliseconds since 1970 UTC.
const PREFIX: &str = "aside.";
/// How they end until all of the history is in them.
const MOVING: &str = ".moving";

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Puts the history of the volume in a folder aside. Nobody has the volume open.
pub(crate) fn put(folder: &Path, now_ms: u64) -> io::Result<()> {
    let volume = rustix::fs::openat(CWD, folder, FOLDER, Mode::empty())?;
    rustix::fs::mkdirat(&volume, format!("{PREFIX}{now_ms}{MOVING}"), Mode::RWXU)?;
    rustix::fs::fsync(&volume)?;
    finish_in(&volume)
}

/// Whether there is one that a crash has cut short.
pub(crate) fn is_unfinished(folder: &Path) -> bool {
    entries(folder).any(|name| name.starts_with(PREFIX) && name.ends_with(MOVING))
}

/// Carries what a crash has cut short to its end, before the volume is opened.
pub(crate) fn finish(folder: &Path) -> io::Result<()> {
    finish_in(&rustix::fs::openat(CWD, folder, FOLDER, Mode::empty())?)
}

fn finish_in(volume: &OwnedFd) -> io::Result<()> {
    for entry in Dir::read_from(volume)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        let Some(whole) = name.strip_suffix(MOVING).filter(|name| name.starts_with(PREFIX)) else { continue };
        let aside = rustix::fs::openat(volume, name, FOLDER, Mode::empty())?;
        for part in [names::MANIFEST, names::INTENTS, names::LOG, names::BASE] {
            match rustix::fs::renameat(volume, part, &aside, part) {
                // It has been moved before, or was never there.
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        rustix::fs::fsync(&aside)?;
        rustix::fs::fsync(volume)?;
        // From here on a new history may begin.
        rustix::fs::renameat(volume, name, volume, whole)?;
        rustix::fs::fsync(volume)?;
    }
    Ok(())
}

/// What histories that were put aside take, bytes.
pub(crate) fn bytes(folder: &Path) -> u64 {
    let names = entries(folder).filter(|name| name.starts_with(PREFIX));
    names.map(|name| taken(&folder.join(name))).fold(0, u64::saturating_add)
}

/// Deletes those whose time is over.
pub(crate) fn sweep(folder: &Path, now_ms: u64) -> io::Result<()> {
    for name in entries(folder) {
        let time = name.strip_prefix(PREFIX).and_then(|time| time.parse::<u64>().ok());
        if time.is_some_and(|time| time.saturating_add(GRACE_MS) <= now_ms) {
            // It follows no links, either.
            fs::remove_dir_all(folder.join(&name))?;
            tracing::info!(folder = %folder.display(), name, "deleted a history that was put aside a while ago");
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A volume with a history.
    fn volume(folder: &Path) {
        for name in [names::LOG, names::BASE] {
            fs::create_dir(folder.join(name)).unwrap();
            fs::write(folder.join(name).join("1"), "segment").unwrap();
        }
        for name in [names::DISK, names::MANIFEST, names::INTENTS] {
            fs::write(folder.join(name), name).unwrap();
        }
    }

    fn names_in(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = entries(folder).collect();
        names.sort();
        names
    }

    #[test]
    fn wherever_a_crash_comes_all_of_it_is_put_aside() {
        let parts = [names::MANIFEST, names::INTENTS, names::LOG, names::BASE];
        for moved in 0..=parts.len() {
            let folder = tempfile::tempdir().unwrap();
            volume(folder.path());
            let aside = folder.path().join("aside.7.moving");
            fs::create_dir(&aside).unwrap();
            for part in &parts[..moved] {
                fs::rename(folder.path().join(part), aside.join(part)).unwrap();
            }
            assert!(is_unfinished(folder.path()));
            finish(folder.path()).unwrap();
            assert!(!is_unfinished(folder.path()));
            assert_eq!(names_in(folder.path()), ["aside.7", names::DISK], "after {moved}");
            let mut all = parts.map(str::to_owned);
            all.sort();
            assert_eq!(names_in(&folder.path().join("aside.7")), all);
            assert_eq!(fs::read(folder.path().join("aside.7/log/1")).unwrap(), b"segment");
            finish(folder.path()).unwrap();
        }
    }

    #[test]
    fn it_is_kept_for_a_while() {
        let folder = tempfile::tempdir().unwrap();
        volume(folder.path());
        assert_eq!(bytes(folder.path()), 0);
        put(folder.path(), 1000).unwrap();
        assert!(bytes(folder.path()) > 0);
        fs::create_dir(folder.path().join("aside.mine")).unwrap();
        sweep(folder.path(), 1000 + GRACE_MS - 1).unwrap();
        assert_eq!(names_in(folder.path()), ["aside.1000", "aside.mine", names::DISK]);
        sweep(folder.path(), 1000 + GRACE_MS).unwrap();
        assert_eq!(names_in(folder.path()), ["aside.mine", names::DISK]);
    }

    #[test]
    fn no_link_leads_it_out_of_the_volume() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, outside) = (folder.path().join("volume"), folder.path().join("outside"));
        fs::create_dir(&inside).unwrap();
        fs::create_dir(&outside).unwrap();
        volume(&inside);
        symlink(&outside, inside.join("aside.7.moving")).unwrap();
        finish(&inside).unwrap_err();
        assert_eq!(names_in(&outside), [""; 0]);
        fs::remove_file(inside.join("aside.7.moving")).unwrap();
        fs::write(outside.join("1"), "").unwrap();
        symlink(&outside, inside.join("aside.7")).unwrap();
        sweep(&inside, u64::MAX).unwrap();
        assert_eq!(names_in(&outside), ["1"]);
    }
}
