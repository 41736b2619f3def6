//! An archive from the host becomes files of the task, with their owners, modes and times.
//!
//! The host is trusted, the person's archive is whatever other programs made: all common forms are read.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, FileTimes, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, lchown};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use lith_guest::messages::BootStep;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tar::{Archive, Entry, EntryType, Header};

use crate::failure::{During, Failure};

/// Unpacks what `reader` gives to `path`.
pub(super) fn receive(reader: impl Read, path: &str) -> Result<(), Failure> {
    const READING: &str = "read the archive";
    let mut archive = Archive::new(reader);
    archive.set_preserve_permissions(true);
    archive.set_preserve_mtime(true);
    let mut destination = None;
    let mut folders = Vec::new();
    for entry in archive.entries().during(BootStep::Root, READING)? {
        let mut entry = entry.during(BootStep::Root, READING)?;
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            continue;
        }
        let name = entry.path().during(BootStep::Root, READING)?.into_owned();
        let destination = match &mut destination {
            Some(destination) => destination,
            none => none.insert(Destination::choose(path, &name, kind)?),
        };
        let target = destination.target(&name)?;
        let is_new_folder = unpack(&mut entry, &target, destination)
            .during(BootStep::Root, format_args!("write {:?}", target.display()))?;
        if is_new_folder {
            folders.push((target, entry.header().mtime().unwrap_or(0)));
        }
    }
    if destination.is_none() {
        return Err(Failure::new(BootStep::Root, "the archive is empty"));
    }
    for (folder, modified) in folders {
        // Only now: what was written into a folder has changed its time.
        set_modified(&folder, modified)
            .during(BootStep::Root, format_args!("write {:?}", folder.display()))?;
    }
    // What follows the archive's end is padding; the sender must not wait for credit.
    io::copy(&mut archive.into_inner(), &mut io::sink()).during(BootStep::Root, READING)?;
    Ok(())
}

/// Where an archive goes.
#[derive(Debug, PartialEq, Eq)]
struct Destination {
    base: PathBuf,
    /// The archive's one entry on top, which becomes the base itself; none when everything goes into the base.
    top: Option<OsString>,
}

impl Destination {
    /// Decides as `docker cp` does, once, from the archive's first entry: what follows a `.` has plain names.
    fn choose(path: &str, first: &Path, kind: EntryType) -> Result<Destination, Failure> {
        let base = Path::new("/").join(path);
        let is_folder = |path: &Path| fs::metadata(path).is_ok_and(|found| found.is_dir());
        if is_folder(&base) {
            return Ok(Destination { base, top: None });
        }
        let missing =
            |what: &Path| Failure::new(BootStep::Root, format!("no such folder: {:?}", what.display()));
        let parent = base.parent().filter(|_| base.file_name().is_some()).ok_or_else(|| missing(&base))?;
        if !is_folder(parent) {
            return Err(missing(parent));
        }
        // `new/` means a folder: a folder becomes it, a file cannot.
        if path.ends_with('/') && kind != EntryType::Directory {
            return Err(missing(&base));
        }
        let top = parts(first)?.first().map(|part| (*part).to_owned());
        Ok(Destination { base, top })
    }

    /// Where an entry of this name goes. Names that climb are refused: the host has no business above.
    fn target(&self, name: &Path) -> Result<PathBuf, Failure> {
        let mut parts = parts(name)?.into_iter();
        if let Some(top) = &self.top
            && parts.next() != Some(top)
        {
            let sentence =
                format!("the archive holds {:?} beside {top:?}, and there is no folder for both", name);
            return Err(Failure::new(BootStep::Root, sentence));
        }
        Ok(parts.fold(self.base.clone(), |path, part| path.join(part)))
    }
}

fn parts(name: &Path) -> Result<Vec<&std::ffi::OsStr>, Failure> {
    let part = |component| match component {
        Component::Normal(part) => Some(Ok(part)),
        Component::CurDir | Component::RootDir => None,
        Component::ParentDir | Component::Prefix(_) => {
            let sentence = format!("the archive holds the path {:?}", name.display());
            Some(Err(Failure::new(BootStep::Root, sentence)))
        }
    };
    name.components().filter_map(part).collect()
}

/// Writes an entry; says whether it is a folder that was not there.
fn unpack(entry: &mut Entry<'_, impl Read>, target: &Path, destination: &Destination) -> io::Result<bool> {
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    match entry.header().entry_type() {
        // One that is there keeps what it has: `/tmp` stays what it is, whatever is copied into it.
        EntryType::Directory if target.is_dir() => Ok(false),
        EntryType::Directory => {
            DirBuilder::new().mode(0o700).create(target)?;
            own(target, entry.header())?;
            Ok(true)
        }
        EntryType::Link => {
            let link = entry.link_name()?.ok_or(io::ErrorKind::InvalidData)?.into_owned();
            let original =
                destination.target(&link).map_err(|failure| io::Error::other(failure.to_string()))?;
            remove_file(target)?;
            fs::hard_link(original, target)?;
            Ok(false)
        }
        EntryType::Fifo | EntryType::Char | EntryType::Block => {
            make_node(entry.header(), target)?;
            own(target, entry.header())?;
            Ok(false)
        }
        _ => {
            entry.unpack(target)?;
            own(target, entry.header())?;
            Ok(false)
        }
    }
}

/// Owner and mode as the archive says, whatever this program's own mask is. An archive that was made by hand often has no
/// owner, which is root then.
fn own(path: &Path, header: &Header) -> io::Result<()> {
    let id = |number: io::Result<u64>| u32::try_from(number.unwrap_or(0)).map_err(io::Error::other);
    lchown(path, Some(id(header.uid())?), Some(id(header.gid())?))?;
    if header.entry_type() == EntryType::Symlink {
        return Ok(());
    }
    // After the owner, for that takes special bits away.
    fs::set_permissions(path, Permissions::from_mode(header.mode()? & 0o7777))
}

fn set_modified(folder: &Path, seconds: u64) -> io::Result<()> {
    // A time that has no form here is left as it is.
    let Some(time) = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)) else { return Ok(()) };
    File::open(folder)?.set_times(FileTimes::new().set_modified(time))
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn make_node(header: &Header, target: &Path) -> io::Result<()> {
    let numbers = || -> io::Result<u64> {
        let (major, minor) = (header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0));
        Ok(rustix::fs::makedev(major, minor))
    };
    let (kind, device) = match header.entry_type() {
        EntryType::Char => (FileType::CharacterDevice, numbers()?),
        EntryType::Block => (FileType::BlockDevice, numbers()?),
        // The fields are often empty then, which is no number.
        _ => (FileType::Fifo, 0),
    };
    remove_file(target)?;
    Ok(mknodat(CWD, target, kind, Mode::from_raw_mode(0o600), device)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use tar::Builder;

    use super::*;

    /// An archive as another program's builder makes it: `./a` is `a` on the wire, `.` stays.
    fn archive(entries: &[(&str, EntryType, u32)]) -> Vec<u8> {
        let me = tempfile::tempdir().unwrap();
        let me = fs::metadata(me.path()).unwrap();
        let mut builder = Builder::new(Vec::new());
        for (path, kind, mode) in entries {
            let mut header = Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(*mode);
            header.set_uid(me.uid().into());
            header.set_gid(me.gid().into());
            header.set_mtime(1_000_000);
            let content = if *kind == EntryType::Regular { path.as_bytes() } else { &[] };
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, path, content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    const FILE: EntryType = EntryType::Regular;
    const FOLDER: EntryType = EntryType::Directory;

    fn check(target: &str, entries: &[(&str, EntryType)], expect: Result<&[&str], &str>) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("there")).unwrap();
        let root = folder.path().to_str().unwrap();
        let entries: Vec<_> = entries.iter().map(|(path, kind)| (*path, *kind, 0o755)).collect();
        let result = receive(&archive(&entries)[..], &format!("{root}/{target}"));
        let result = result.map_err(|failure| failure.sentence().replace(root, "ROOT"));
        assert_eq!(result.err(), expect.err().map(str::to_owned), "{target} {entries:?}");
        for path in expect.into_iter().flatten() {
            assert!(folder.path().join(path).exists(), "{target} {entries:?}: {path}");
        }
    }

    #[test]
    fn where_archives_go() {
        let tree = [("d", FOLDER), ("d/f", FILE)];
        let contents = [(".", FOLDER), ("./f", FILE), ("s", FOLDER), ("s/g", FILE)];
        check("there", &tree, Ok(&["there/d/f"]));
        check("there/", &tree, Ok(&["there/d/f"]));
        check("new", &tree, Ok(&["new/f"]));
        check("new/", &tree, Ok(&["new/f"]));
        check("there", &contents, Ok(&["there/f", "there/s/g"]));
        check("new", &contents, Ok(&["new/f", "new/s/g"]));
        check("new", &[("f", FILE)], Ok(&["new"]));
        check("there", &[("f", FILE), ("g", FILE)], Ok(&["there/f", "there/g"]));
        check("new/", &[("f", FILE)], Err("no such folder: \"ROOT/new/\""));
        check("no/new", &tree, Err("no such folder: \"ROOT/no\""));
        check(
            "new",
            &[("f", FILE), ("g", FILE)],
            Err("the archive holds \"g\" beside \"f\", and there is no folder for both"),
        );
        check("there", &[], Err("the archive is empty"));
    }

    #[test]
    fn names_that_climb_are_refused() {
        let destination = Destination { base: PathBuf::from("/dir"), top: None };
        assert_eq!(destination.target(Path::new("/etc/f")).unwrap(), Path::new("/dir/etc/f"));
        for name in ["../f", "d/../../f"] {
            assert!(destination.target(Path::new(name)).is_err(), "{name}");
        }
    }

    #[test]
    fn modes_and_times_are_those_of_the_archive() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::set_permissions(root, Permissions::from_mode(0o711)).unwrap();
        let entries = [
            (".", FOLDER, 0o777),
            ("d", FOLDER, 0o2777),
            ("d/f", FILE, 0o666),
            ("d/p", EntryType::Fifo, 0o622),
        ];
        receive(&archive(&entries)[..], root.to_str().unwrap()).unwrap();
        // The folder that was there stays what it was.
        for (path, mode, is_dated) in
            [("", 0o711, false), ("d", 0o2777, true), ("d/f", 0o666, true), ("d/p", 0o622, false)]
        {
            let found = fs::symlink_metadata(root.join(path)).unwrap();
            assert_eq!(found.mode() & 0o7777, mode, "{path}");
            assert_eq!(found.mtime() == 1_000_000, is_dated, "{path}");
        }
    }
}
