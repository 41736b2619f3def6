//! Files of the task as an archive.
//!
//! The task goes on meanwhile: what vanishes below the top is left out, what changes its length is never filled up.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use lith_guest::messages::BootStep;
use tar::{Builder, Header};

use crate::failure::{During, Failure};

/// Sends `path`. The entry on top is named after the path as it was asked for, not after what a link leads to: the
/// host takes nothing else.
pub(super) fn send(archive: &mut Builder<impl Write>, path: &str) -> Result<(), Failure> {
    // `folder/.` and `link/` mean what is behind; a plain name means the entry itself, a symlink too.
    let follows = path.ends_with('/') || path.ends_with("/.");
    let start = Path::new("/").join(path);
    let start = if follows { fs::canonicalize(&start) } else { Ok(start) };
    let start = start.during(BootStep::Root, format_args!("copy {path:?}"))?;
    let name = if path.ends_with("/.") { None } else { Path::new(path).file_name() };
    let name = PathBuf::from(name.unwrap_or(OsStr::new(".")));
    let device = send_entry(archive, &start, &name).during(BootStep::Root, format_args!("copy {path:?}"))?;
    // A stack instead of recursion: how deep the tree is, the task decides.
    let mut pending = vec![(start, name, device)];
    while let Some((path, name, own)) = pending.pop() {
        // What is mounted below the start is no part of it: the kernel's file systems have no end.
        if own.is_none() || own != device {
            continue;
        }
        let reading = format_args!("read the folder {:?}", path.display()).to_string();
        let Some(entries) = unless_gone(fs::read_dir(&path)).during(BootStep::Root, &reading)? else {
            continue;
        };
        for entry in entries {
            let Some(entry) = unless_gone(entry).during(BootStep::Root, &reading)? else { continue };
            let (path, name) = (entry.path(), name.join(entry.file_name()));
            let sent = unless_gone(send_entry(archive, &path, &name));
            let own = sent.during(BootStep::Root, format_args!("copy {:?}", path.display()))?.flatten();
            pending.push((path, name, own));
        }
    }
    Ok(())
}

/// None for what was there a moment ago.
fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

/// Sends one entry; gives the device of a folder. Nothing is sent when the entry is gone.
fn send_entry(archive: &mut Builder<impl Write>, path: &Path, name: &Path) -> io::Result<Option<u64>> {
    let metadata = fs::symlink_metadata(path)?;
    let kind = metadata.file_type();
    if kind.is_socket() {
        // An archive cannot hold one, and it means nothing elsewhere.
        return Ok(None);
    }
    let mut header = Header::new_gnu();
    header.set_metadata(&metadata);
    if kind.is_symlink() {
        header.set_size(0);
        archive.append_link(&mut header, name, fs::read_link(path)?)?;
    } else if kind.is_file() {
        let size = metadata.len();
        header.set_size(size);
        let content = Exactly { source: File::open(path)?, left: size };
        archive.append_data(&mut header, name, content)?;
    } else {
        header.set_size(0);
        archive.append_data(&mut header, name, io::empty())?;
    }
    Ok(kind.is_dir().then(|| metadata.dev()))
}

/// As many bytes as were announced: a file that grows is cut, one that shrinks is an error, for made-up bytes would be
/// taken for the file's own.
struct Exactly<R> {
    source: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let room = into.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.source.read(&mut into[..room])?;
        if count == 0 && room > 0 {
            return Err(io::Error::other("it became shorter while it was copied"));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(path: &Path) -> Result<Vec<String>, String> {
        let mut builder = Builder::new(Vec::new());
        send(&mut builder, path.to_str().unwrap()).map_err(|failure| failure.sentence().to_owned())?;
        let bytes = builder.into_inner().unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let names =
            archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string());
        let mut names: Vec<_> = names.map(|name| name.trim_end_matches('/').to_owned()).collect();
        names[1..].sort();
        Ok(names)
    }

    #[test]
    fn the_top_is_named_as_it_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("real")).unwrap();
        fs::write(path("real/a"), "a").unwrap();
        symlink("real", path("link")).unwrap();
        let check = |name: &str, expect: &[&str]| assert_eq!(names(&path(name)).unwrap(), expect, "{name}");
        check("real", &["real", "real/a"]);
        check("real/a", &["a"]);
        check("link", &["link"]);
        check("link/", &["link", "link/a"]);
        check("link/.", &[".", "a"]);
        check("real/..", &[".", "link", "real", "real/a"]);
        assert!(names(&path("none")).unwrap_err().ends_with("no such file or directory"));
    }

    #[test]
    fn other_file_systems_stay_out() {
        // As the folder of a mount: sent, but not entered. `/proc` is one on every machine.
        let mut builder = Builder::new(Vec::new());
        let device = fs::metadata("/proc").unwrap().dev();
        assert_ne!(device, fs::metadata("/").unwrap().dev());
        assert_eq!(send_entry(&mut builder, Path::new("/proc"), Path::new("proc")).unwrap(), Some(device));
    }

    #[test]
    fn made_up_bytes_are_never_sent() {
        let read = |text: &str, left: u64| {
            let mut read = String::new();
            Exactly { source: text.as_bytes(), left }.read_to_string(&mut read).map(|_| read)
        };
        assert_eq!(read("abcdef", 3).unwrap(), "abc");
        assert_eq!(read("", 0).unwrap(), "");
        assert_eq!(read("ab", 3).unwrap_err().to_string(), "it became shorter while it was copied");
    }
}
