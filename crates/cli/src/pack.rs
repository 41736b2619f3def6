//! Tar archives made and sent on the fly, on a thread of their own: reading files must not hold up the connection.

use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use lith_api::error::{Code, Failure};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::error::Error;

/// Bytes on their way to the server, and why they ended early.
#[derive(Debug)]
pub(crate) struct Parts {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    trouble: Trouble,
}

impl Parts {
    /// The bytes, and where to look when sending them fails.
    pub(crate) fn split(self) -> (ReceiverStream<io::Result<Bytes>>, Trouble) {
        (ReceiverStream::new(self.receiver), self.trouble)
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
    spawn(|sink| copy(&mut io::stdin().lock(), sink))
}

/// A file as it is.
pub(crate) fn file(path: &Path) -> Result<Parts, Error> {
    let mut file = File::open(path).map_err(|error| Error::local("read", path, &error))?;
    Ok(spawn(move |sink| copy(&mut file, sink)))
}

/// What is in a folder, as an archive.
pub(crate) fn folder_contents(path: &Path) -> Parts {
    archive(path.to_owned(), PathBuf::from("."))
}

/// A file or folder as an archive in which it has this name. Everything belongs to root there, as with `docker cp`:
/// the users of this machine mean nothing in a task.
pub(crate) fn archive(path: PathBuf, name: PathBuf) -> Parts {
    spawn(move |sink| {
        let mut builder = tar::Builder::new(sink);
        builder.mode(tar::HeaderMode::Complete);
        add(&mut builder, &path, &name, 0)?;
        builder.into_inner()?.flush()
    })
}

fn add(builder: &mut tar::Builder<&mut Sink>, path: &Path, name: &Path, depth: usize) -> io::Result<()> {
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
    let mut header = header(&found);
    if kind.is_symlink() {
        let target = std::fs::read_link(path).map_err(named)?;
        return builder.append_link(&mut header, name, target);
    }
    if kind.is_file() {
        let file = File::open(path).map_err(named)?;
        // A file that grows while it is read must not break the archive; one that shrinks does, and is an error.
        return builder.append_data(&mut header, name, file.take(found.len())).map_err(named);
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
        add(builder, &path.join(&child), &name.join(&child), depth + 1)?;
    }
    Ok(())
}

fn header(found: &Metadata) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_metadata_in_mode(found, tar::HeaderMode::Complete);
    header.set_uid(0);
    header.set_gid(0);
    if !found.is_file() {
        header.set_size(0);
    }
    // Times before 1970 have no form in this header.
    header.set_mtime(u64::try_from(found.mtime()).unwrap_or(0));
    header
}

fn copy(from: &mut impl Read, sink: &mut Sink) -> io::Result<()> {
    io::copy(from, sink)?;
    sink.flush()
}

fn spawn(work: impl FnOnce(&mut Sink) -> io::Result<()> + Send + 'static) -> Parts {
    let (sender, receiver) = mpsc::channel(PARTS_MAX);
    let trouble = Trouble::default();
    let noted = trouble.clone();
    std::thread::spawn(move || {
        let mut sink = Sink { sender, part: BytesMut::new() };
        let Err(error) = work(&mut sink) else { return };
        if error.kind() != io::ErrorKind::BrokenPipe {
            // The first reason is the reason; there is only one anyway.
            let _ = noted.0.set(error.to_string());
        }
        // Nobody to tell means that the request has ended already, with its own reason.
        let _ = sink.sender.blocking_send(Err(error));
    });
    Parts { receiver, trouble }
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
        let mut parts = archive(folder.path().to_owned(), PathBuf::from("top"));
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

    #[tokio::test]
    async fn a_missing_file_is_named() {
        let mut parts = archive(PathBuf::from("/nonexistent/file"), PathBuf::from("x"));
        let error = parts.receiver.recv().await.unwrap().unwrap_err();
        assert!(error.to_string().starts_with("/nonexistent/file: "), "{error}");
        let told = parts.trouble.or(Failure::new(Code::Unreachable, "the connection broke"));
        assert!(
            told.to_string().starts_with("cannot read what is to be sent: /nonexistent/file: "),
            "{told}"
        );
    }
}
