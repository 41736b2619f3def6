//! An archive out of a task becomes files here. The archive is hostile: nothing is written outside of the target, no
//! owner, device or special mode bit is taken over, and no link of its own is followed.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use lith_api::client::Answers;
use lith_api::error::{Code, Failure};
use tokio::sync::mpsc;

use crate::error::Error;

/// Parts that wait to be written.
const PARTS_MAX: usize = 4;

/// Where and how the archive becomes files.
#[derive(Debug)]
pub(crate) struct Unpack {
    /// Entries are written below this folder.
    folder: PathBuf,
    /// Then the one entry on top is moved here.
    rename_to: Option<PathBuf>,
    /// The folder is ours, and goes away in the end.
    scratch: Option<Scratch>,
}

impl Unpack {
    /// Decides as `docker cp` does: into a folder that exists, else under the new name. `source` is the path in the
    /// task.
    pub(crate) fn prepare(source: &str, target: &Path) -> Result<Self, Error> {
        let into = |folder: &Path| Self { folder: folder.to_owned(), rename_to: None, scratch: None };
        if target.is_dir() {
            return Ok(into(target));
        }
        let is_meant_as_folder = target.as_os_str().as_encoded_bytes().ends_with(b"/");
        if source.ends_with("/.") || source == "/" {
            std::fs::create_dir(target).map_err(|error| Error::local("make the folder", target, &error))?;
            return Ok(into(target));
        }
        if is_meant_as_folder {
            let missing = io::Error::from(io::ErrorKind::NotFound);
            return Err(Error::local("copy into the folder", target, &missing));
        }
        let parent =
            target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let scratch = Scratch::new(parent)?;
        let folder = scratch.0.clone();
        Ok(Self { folder, rename_to: Some(target.to_owned()), scratch: Some(scratch) })
    }

    /// Writes what comes.
    pub(crate) async fn run(self, mut bytes: Answers<Bytes>) -> Result<(), Error> {
        let (sender, receiver) = mpsc::channel(PARTS_MAX);
        let work = tokio::task::spawn_blocking(move || self.write(Source { receiver, part: Bytes::new() }));
        while let Some(part) = bytes.next().await {
            let part = part?;
            if sender.send(part).await.is_err() {
                // The writing side has ended: its result says why.
                break;
            }
        }
        drop(sender);
        let done = work.await.map_err(|error| {
            Failure::new(Code::Internal, format!("the thread that writes the files ended: {error}"))
        })?;
        done.map_err(|error| {
            Error::new(
                Code::Machine,
                format!("cannot write what was copied: {error}"),
                "see whether the place is writable and has space",
            )
        })
    }

    fn write(self, source: Source) -> io::Result<()> {
        let mut archive = tar::Archive::new(source);
        archive.set_preserve_mtime(true);
        let mut top = None;
        for entry in archive.entries()? {
            let mut entry = entry?;
            match entry.header().entry_type() {
                tar::EntryType::Regular
                | tar::EntryType::Continuous
                | tar::EntryType::GNUSparse
                | tar::EntryType::Directory
                | tar::EntryType::Symlink
                | tar::EntryType::Link => {}
                // Devices and pipes of a task mean nothing here.
                _ => continue,
            }
            let path = entry.path()?.into_owned();
            if !entry.unpack_in(&self.folder)? {
                return Err(io::Error::other(format!("`{}` leads out of the folder", path.display())));
            }
            top = top.or_else(|| path.components().next().map(|first| PathBuf::from(first.as_os_str())));
        }
        let Some(target) = &self.rename_to else { return Ok(()) };
        let top = top.ok_or_else(|| io::Error::other("the archive is empty"))?;
        std::fs::rename(self.folder.join(top), target)?;
        drop(self.scratch);
        Ok(())
    }
}

/// A folder beside the target, gone when dropped.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn new(parent: &Path) -> Result<Self, Error> {
        let path = parent.join(format!(".lith-cp-{}", std::process::id()));
        std::fs::create_dir(&path).map_err(|error| Error::local("copy into the folder", parent, &error))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is left with a name that says whose it is.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The parts as a reader.
struct Source {
    receiver: mpsc::Receiver<Bytes>,
    part: Bytes,
}

impl Read for Source {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.part.is_empty() {
            match self.receiver.blocking_recv() {
                Some(part) => self.part = part,
                None => return Ok(0),
            }
        }
        let count = into.len().min(self.part.len());
        self.part.copy_to_slice(&mut into[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind, text) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(if *kind == tar::EntryType::Directory { 0o755 } else { 0o4644 });
            // The builder refuses hostile paths; a hostile task does not use the builder.
            header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
            if *kind == tar::EntryType::Symlink {
                header.set_link_name(text).unwrap();
                header.set_size(0);
                header.set_cksum();
                builder.append(&header, &[][..]).unwrap();
            } else {
                header.set_size(text.len() as u64);
                header.set_cksum();
                builder.append(&header, text.as_bytes()).unwrap();
            }
        }
        builder.into_inner().unwrap()
    }

    async fn unpack(source: &str, target: &Path, bytes: Vec<u8>) -> Result<(), String> {
        let parts = bytes.chunks(100).map(|part| Ok(Bytes::copy_from_slice(part))).collect::<Vec<_>>();
        let stream = futures_util::stream::iter(parts).boxed();
        let prepared = Unpack::prepare(source, target).map_err(|error| error.to_string())?;
        prepared.run(stream).await.map_err(|error| error.to_string())
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn targets_are_chosen_as_docker_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let file = || archive(&[("hosts", tar::EntryType::Regular, "127.0.0.1")]);
        unpack("/etc/hosts", folder.path(), file()).await.unwrap();
        unpack("/etc/hosts", &path("new"), file()).await.unwrap();
        unpack("/etc/hosts", &path("new"), file()).await.unwrap();
        assert_eq!(names(folder.path()), ["hosts", "new"]);
        assert_eq!(std::fs::read_to_string(path("new")).unwrap(), "127.0.0.1");
        let error = unpack("/etc/hosts", &path("none/"), file()).await.unwrap_err();
        assert!(error.starts_with("cannot copy into the folder"), "{error}");
        let inside = archive(&[("./", tar::EntryType::Directory, ""), ("./a", tar::EntryType::Regular, "a")]);
        unpack("/etc/.", &path("sub"), inside).await.unwrap();
        assert_eq!(names(&path("sub")), ["a"]);
        let moved =
            archive(&[("etc", tar::EntryType::Directory, ""), ("etc/a", tar::EntryType::Regular, "a")]);
        unpack("/etc", &path("moved"), moved).await.unwrap();
        assert_eq!(names(&path("moved")), ["a"]);
        assert_eq!(names(folder.path()), ["hosts", "moved", "new", "sub"], "nothing else is left");
    }

    #[tokio::test]
    async fn hostile_archives_write_nothing_outside() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, outside) = (folder.path().join("in"), folder.path().join("out"));
        std::fs::create_dir(&inside).unwrap();
        std::fs::create_dir(&outside).unwrap();
        let up = archive(&[("../out/x", tar::EntryType::Regular, "x")]);
        assert!(unpack("/x", &inside, up).await.is_err());
        let link = archive(&[
            ("link", tar::EntryType::Symlink, outside.to_str().unwrap()),
            ("link/x", tar::EntryType::Regular, "x"),
        ]);
        assert!(unpack("/x", &inside, link).await.is_err());
        assert!(names(&outside).is_empty());
    }

    #[tokio::test]
    async fn special_bits_are_dropped() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        unpack("/su", folder.path(), archive(&[("su", tar::EntryType::Regular, "x")])).await.unwrap();
        let mode = std::fs::metadata(folder.path().join("su")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7000, 0);
    }
}
