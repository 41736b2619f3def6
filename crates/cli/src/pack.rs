//! Tar archives made and sent on the fly, on a thread of their own: reading files must not hold up the connection.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use lith_api::error::{Code, Failure};
use rustix::fs::OFlags;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::error::Error;
use crate::unpack::Copied;

/// Bytes on their way to the server, and why they ended early.
#[derive(Debug)]
pub(crate) struct Parts {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    trouble: Trouble,
    tally: Tally,
}

impl Parts {
    /// The bytes, and where to look when sending them fails.
    pub(crate) fn split(self) -> (ReceiverStream<io::Result<Bytes>>, Trouble) {
        (ReceiverStream::new(self.receiver), self.trouble)
    }

    /// What is packed, as it goes on.
    pub(crate) fn tally(&self) -> Tally {
        self.tally.clone()
    }
}

/// What has been packed so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    files: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
}

impl Tally {
    /// Files and bytes; no files when an archive was passed on as it is.
    pub(crate) fn copied(&self) -> Copied {
        Copied { files: self.files.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }

    fn add(&self, files: u64, bytes: u64) {
        self.files.fetch_add(files, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// What went wrong on this side. The connection only sees that the bytes ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trouble(Arc<OnceLock<String>>);

impl Trouble {
    /// The reason of this side if there is one, else what the connection said.
    pub(crate) fn or(&self, failure: Failure) -> Error {
        match self.0.get() {
            Some(why) => {
                let message = format!("cannot read what is to be sent: {why}");
                Error::new(Code::Machine, message, "correct that, then repeat the command")
            }
            None => failure.into(),
        }
    }
}

/// Parts that wait to be sent.
const PARTS_MAX: usize = 4;
/// Size of a part: large enough that handing it over costs nothing.
const PART_BYTES: usize = 256 << 10;
/// Deepest folder that is packed: a bound for the stack, far above what a path can be long.
const DEPTH_MAX: usize = 2048;

/// Standard input as it is.
pub(crate) fn stdin() -> Parts {
    spawn(|sink, tally| copy(&mut io::stdin().lock(), sink, tally))
}

/// A file as it is.
pub(crate) fn file(path: &Path) -> Result<Parts, Error> {
    let mut file = File::open(path).map_err(|error| Error::local("read", path, &error))?;
    Ok(spawn(move |sink, tally| copy(&mut file, sink, tally)))
}

/// What is in a folder, as an archive.
pub(crate) fn folder_contents(path: &Path) -> Parts {
    archive(path.to_owned(), PathBuf::from("."), Owners::Root)
}

/// To whom the files of an archive belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owners {
    /// To root, as with `docker cp`: the users of this machine mean nothing in a task.
    Root,
    /// To the same numbers as here, as a folder that Docker mounts into a container.
    Kept,
}

/// A file or folder as an archive in which it has this name.
pub(crate) fn archive(path: PathBuf, name: PathBuf, owners: Owners) -> Parts {
    spawn(move |sink, tally| {
        let mut builder = tar::Builder::new(sink);
        builder.mode(tar::HeaderMode::Complete);
        add(&mut builder, &mut Packing { tally, owners, links: BTreeMap::new() }, &path, &name, 0)?;
        builder.into_inner()?.flush()
    })
}

/// What one archive needs to know.
struct Packing<'a> {
    tally: &'a Tally,
    owners: Owners,
    /// The first name of each file that has several.
    links: BTreeMap<(u64, u64), PathBuf>,
}

fn add(
    builder: &mut tar::Builder<&mut Sink>,
    packing: &mut Packing<'_>,
    path: &Path,
    name: &Path,
    depth: usize,
) -> io::Result<()> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let found = std::fs::symlink_metadata(path).map_err(named)?;
    if depth > DEPTH_MAX {
        return Err(named(io::Error::other("folders are nested too deep")));
    }
    let kind = found.file_type();
    if kind.is_socket() {
        // A socket is a running program's, not a file: archives have no form for it.
        return Ok(());
    }
    let mut header = header(&found, packing.owners);
    if kind.is_symlink() {
        let target = std::fs::read_link(path).map_err(named)?;
        packing.tally.add(1, 0);
        return builder.append_link(&mut header, name, target);
    }
    if kind.is_file() {
        if let Some(first) = packing.first_name(&found, name) {
            header.set_entry_type(tar::EntryType::Link);
            header.set_size(0);
            packing.tally.add(1, 0);
            return builder.append_link(&mut header, name, first);
        }
        // What was a file a moment ago may be a link or a pipe by now, in a folder that others write to.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file =
            File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path).map_err(named)?;
        packing.tally.add(1, found.len());
        let content = Exactly { source: file, left: found.len() };
        return builder.append_data(&mut header, name, content).map_err(named);
    }
    builder.append_data(&mut header, name, io::empty())?;
    if !kind.is_dir() {
        return Ok(());
    }
    let entries = std::fs::read_dir(path).map_err(named)?;
    let mut names =
        entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>()?;
    names.sort();
    for child in names {
        add(builder, packing, &path.join(&child), &name.join(&child), depth + 1)?;
    }
    Ok(())
}

impl Packing<'_> {
    /// Under which name a file with several is in the archive already. As with `docker cp`, each is a file of its own where
    /// owners are not kept either.
    fn first_name(&mut self, found: &Metadata, name: &Path) -> Option<PathBuf> {
        if found.nlink() < 2 || self.owners == Owners::Root {
            return None;
        }
        let file = (found.dev(), found.ino());
        let first = self.links.get(&file).cloned();
        if first.is_none() {
            self.links.insert(file, name.to_owned());
        }
        first
    }
}

/// As many bytes as were announced, whatever becomes of the file meanwhile: one that grows is cut, one that shrinks is an
/// error, for the archive would be broken.
struct Exactly<R> {
    source: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let room = into.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.source.read(&mut into[..room])?;
        if count == 0 && room > 0 {
            return Err(io::Error::other("it became shorter while it was read"));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

fn header(found: &Metadata, owners: Owners) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_metadata_in_mode(found, tar::HeaderMode::Complete);
    if owners == Owners::Root {
        header.set_uid(0);
        header.set_gid(0);
    }
    if !found.is_file() {
        header.set_size(0);
    }
    // Times before 1970 have no form in this header.
    header.set_mtime(u64::try_from(found.mtime()).unwrap_or(0));
    header
}

fn copy(from: &mut impl Read, sink: &mut Sink, tally: &Tally) -> io::Result<()> {
    tally.add(0, io::copy(from, sink)?);
    sink.flush()
}

fn spawn(work: impl FnOnce(&mut Sink, &Tally) -> io::Result<()> + Send + 'static) -> Parts {
    let (sender, receiver) = mpsc::channel(PARTS_MAX);
    let trouble = Trouble::default();
    let (noted, tally) = (trouble.clone(), Tally::default());
    let counted = tally.clone();
    std::thread::spawn(move || {
        let mut sink = Sink { sender, part: BytesMut::new() };
        let Err(error) = work(&mut sink, &counted) else { return };
        if error.kind() != io::ErrorKind::BrokenPipe {
            // The first reason is the reason; there is only one anyway.
            let _ = noted.0.set(error.to_string());
        }
        // Nobody to tell means that the request has ended already, with its own reason.
        let _ = sink.sender.blocking_send(Err(error));
    });
    Parts { receiver, trouble, tally }
}

/// Collects bytes into parts, and waits while nobody takes them.
struct Sink {
    sender: mpsc::Sender<io::Result<Bytes>>,
    part: BytesMut,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.part.extend_from_slice(bytes);
        if self.part.len() >= PART_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.part.is_empty() {
            return Ok(());
        }
        let part = self.part.split().freeze();
        self.sender.blocking_send(Ok(part)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[tokio::test]
    async fn a_folder_becomes_an_archive_of_roots_files() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        let long = "n".repeat(150);
        std::fs::write(folder.path().join("sub").join(&long), vec![7; 300_000]).unwrap();
        std::os::unix::fs::symlink("/nowhere", folder.path().join("link")).unwrap();
        let _socket = UnixListener::bind(folder.path().join("socket")).unwrap();
        let mut parts = archive(folder.path().to_owned(), PathBuf::from("top"), Owners::Root);
        let mut bytes = Vec::new();
        while let Some(part) = parts.receiver.recv().await {
            bytes.extend_from_slice(&part.unwrap());
        }
        let mut archive = tar::Archive::new(&bytes[..]);
        let entries = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            assert_eq!((entry.header().uid().unwrap(), entry.header().gid().unwrap()), (0, 0));
            (entry.path().unwrap().display().to_string(), entry.size(), entry.header().entry_type())
        });
        let expected = [
            ("top".to_owned(), 0, tar::EntryType::Directory),
            ("top/link".to_owned(), 0, tar::EntryType::Symlink),
            ("top/sub".to_owned(), 0, tar::EntryType::Directory),
            (format!("top/sub/{long}"), 300_000, tar::EntryType::Regular),
        ];
        let trimmed = |(path, size, kind): (String, u64, tar::EntryType)| {
            (path.trim_end_matches('/').to_owned(), size, kind)
        };
        assert_eq!(entries.map(trimmed).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_file_that_changes_its_length() {
        let read = |text: &str, left: u64| {
            let mut read = String::new();
            Exactly { source: text.as_bytes(), left }.read_to_string(&mut read).map(|_| read)
        };
        assert_eq!(read("abcdef", 3).unwrap(), "abc");
        assert_eq!(read("", 0).unwrap(), "");
        assert_eq!(read("ab", 3).unwrap_err().to_string(), "it became shorter while it was read");
    }

    #[tokio::test]
    async fn the_contents_of_a_folder_begin_with_a_dot() {
        // The format has no `./a`: what follows the dot has plain names, and who unpacks must know what the first meant.
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "a").unwrap();
        let parts = folder_contents(folder.path());
        let tally = parts.tally();
        let (mut parts, _) = parts.split();
        let mut bytes = Vec::new();
        while let Some(part) = futures_util::StreamExt::next(&mut parts).await {
            bytes.extend_from_slice(&part.unwrap());
        }
        let mut archive = tar::Archive::new(&bytes[..]);
        let paths =
            archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string());
        assert_eq!(paths.collect::<Vec<_>>(), [".", "a"]);
        assert_eq!(tally.copied(), Copied { files: 1, bytes: 1 });
    }

    #[tokio::test]
    async fn a_missing_file_is_named() {
        let mut parts = archive(PathBuf::from("/nonexistent/file"), PathBuf::from("x"), Owners::Root);
        let error = parts.receiver.recv().await.unwrap().unwrap_err();
        assert!(error.to_string().starts_with("/nonexistent/file: "), "{error}");
        let told = parts.trouble.or(Failure::new(Code::Unreachable, "the connection broke"));
        assert!(
            told.to_string().starts_with("cannot read what is to be sent: /nonexistent/file: "),
            "{told}"
        );
    }
}
