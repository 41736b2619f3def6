//! Files into and out of the task, as tar archives, by the rules of `docker cp`.
//!
//! Runs in the task's view, so paths and symlinks mean what they mean there and cannot lead out of it.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use lith_guest::messages::{BootStep, Outcome};
use lith_guest::wire::Stream;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tar::{Archive, Builder, Entry, EntryType, Header};

use crate::failure::{During, Failure};
use crate::inbox::InboxReader;
use crate::port::Port;
use crate::server::{Request, Server};
use crate::view::inside_task;

/// Code of a copy that failed.
const CODE: u8 = 1;

/// Sends `path` to the host.
pub(crate) fn serve_out(server: &Server, channel: u32, path: &str) -> Outcome {
    let port = Arc::clone(server.port());
    in_task(server, || {
        let mut archive = Builder::new(ChannelWriter { port: &port, channel });
        send(&mut archive, path)?;
        archive.finish().during(BootStep::Root, "send the archive")?;
        port.eof(channel, Stream::Out);
        Ok(())
    })
}

/// Takes an archive from the host to `path`.
pub(crate) fn serve_in(server: &Server, channel: u32, request: &Request, path: &str) -> Outcome {
    let reader = InboxReader::new(Arc::clone(server.port()), channel, Arc::clone(request.inbox()));
    in_task(server, || receive(reader, path))
}

fn in_task(server: &Server, work: impl FnOnce() -> Result<(), Failure> + Send) -> Outcome {
    let result = server.running_task().and_then(|(_, namespaces)| {
        inside_task(&namespaces, work).during(BootStep::Root, "enter the task's root")?
    });
    match result {
        Ok(()) => Outcome::Done,
        Err(failure) => Outcome::Failed { code: CODE, message: failure.sentence().to_owned() },
    }
}

struct ChannelWriter<'a> {
    port: &'a Port,
    channel: u32,
}

impl Write for ChannelWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.port.send(self.channel, Stream::Out, bytes).map_err(gone)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn send(archive: &mut Builder<ChannelWriter<'_>>, path: &str) -> Result<(), Failure> {
    // `folder/.` and `link/` mean what is behind; a plain name means the entry itself, a symlink too.
    let follows = path.ends_with('/') || path.ends_with("/.");
    let start = Path::new("/").join(path);
    let start = if follows { fs::canonicalize(&start) } else { Ok(start) };
    let start = start.during(BootStep::Root, format_args!("copy {path:?}"))?;
    let name = if path.ends_with("/.") { None } else { start.file_name() };
    let name = PathBuf::from(name.unwrap_or(OsStr::new(".")));
    // A stack instead of recursion: how deep the tree is, the task decides.
    let mut pending = vec![(start, name)];
    while let Some((path, name)) = pending.pop() {
        let is_folder = send_entry(archive, &path, &name)
            .during(BootStep::Root, format_args!("copy {:?}", path.display()))?;
        if is_folder {
            let reading = format_args!("read the folder {:?}", path.display()).to_string();
            let entries = fs::read_dir(&path).during(BootStep::Root, &reading)?;
            for entry in entries {
                let entry = entry.during(BootStep::Root, &reading)?;
                pending.push((entry.path(), name.join(entry.file_name())));
            }
        }
    }
    Ok(())
}

/// Sends one entry; says whether it is a folder.
fn send_entry(archive: &mut Builder<ChannelWriter<'_>>, path: &Path, name: &Path) -> io::Result<bool> {
    let metadata = fs::symlink_metadata(path)?;
    let kind = metadata.file_type();
    if kind.is_socket() {
        // An archive cannot hold one, and it means nothing elsewhere.
        return Ok(false);
    }
    let mut header = Header::new_gnu();
    header.set_metadata(&metadata);
    if kind.is_symlink() {
        header.set_size(0);
        archive.append_link(&mut header, name, fs::read_link(path)?)?;
    } else if kind.is_file() {
        // As long as announced, whatever becomes of the file meanwhile.
        let size = metadata.len();
        header.set_size(size);
        let content = File::open(path)?.chain(io::repeat(0)).take(size);
        archive.append_data(&mut header, name, content)?;
    } else {
        header.set_size(0);
        archive.append_data(&mut header, name, io::empty())?;
    }
    Ok(kind.is_dir())
}

/// Where an archive goes.
struct Destination {
    /// An existing folder.
    folder: PathBuf,
    /// What the archive's top entry is called there instead.
    renamed: Option<PathBuf>,
}

fn receive(reader: InboxReader, path: &str) -> Result<(), Failure> {
    let destination = destination(path)?;
    let mut archive = Archive::new(reader);
    let entries = archive.entries().during(BootStep::Root, "read the archive")?;
    for entry in entries {
        let mut entry = entry.during(BootStep::Root, "read the archive")?;
        let name = entry.path().during(BootStep::Root, "read the archive")?.into_owned();
        let target = destination.target(&name)?;
        unpack(&mut entry, &target, &destination)
            .during(BootStep::Root, format_args!("write {:?}", target.display()))?;
    }
    // What follows the archive's end is padding; the sender must not wait for credit.
    io::copy(&mut archive.into_inner(), &mut io::sink()).during(BootStep::Root, "read the archive")?;
    Ok(())
}

fn destination(path: &str) -> Result<Destination, Failure> {
    let wanted = Path::new("/").join(path);
    if fs::metadata(&wanted).is_ok_and(|found| found.is_dir()) {
        return Ok(Destination { folder: wanted, renamed: None });
    }
    let missing = |what: &Path| Failure::new(BootStep::Root, format!("no such folder: {:?}", what.display()));
    let (Some(parent), Some(name)) = (wanted.parent(), wanted.file_name()) else {
        return Err(missing(&wanted));
    };
    if path.ends_with('/') || !fs::metadata(parent).is_ok_and(|found| found.is_dir()) {
        return Err(missing(if path.ends_with('/') { &wanted } else { parent }));
    }
    Ok(Destination { folder: parent.to_owned(), renamed: Some(PathBuf::from(name)) })
}

impl Destination {
    /// Where an entry of this name goes. Names that climb are refused: the host has no business above.
    fn target(&self, name: &Path) -> Result<PathBuf, Failure> {
        let mut parts = Vec::new();
        for component in name.components() {
            match component {
                Component::Normal(part) => parts.push(part),
                Component::CurDir | Component::RootDir => {}
                Component::ParentDir | Component::Prefix(_) => {
                    let sentence = format!("the archive holds the path {:?}", name.display());
                    return Err(Failure::new(BootStep::Root, sentence));
                }
            }
        }
        // An archive of `folder/.` has a top entry called `.`; nothing of its names is to be replaced then.
        let is_contents = matches!(name.components().next(), Some(Component::CurDir));
        let skipped = usize::from(self.renamed.is_some() && !is_contents);
        let base = self.folder.join(self.renamed.as_deref().unwrap_or(Path::new("")));
        Ok(parts.into_iter().skip(skipped).fold(base, |path, part| path.join(part)))
    }
}

fn unpack(entry: &mut Entry<'_, InboxReader>, target: &Path, destination: &Destination) -> io::Result<()> {
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    let kind = entry.header().entry_type();
    match kind {
        EntryType::Directory => {
            if !target.is_dir() {
                DirBuilder::new().mode(entry.header().mode()? & 0o7777).create(target)?;
            }
            Ok(())
        }
        EntryType::Link => {
            let link = entry.link_name()?.ok_or(io::ErrorKind::InvalidData)?.into_owned();
            let original =
                destination.target(&link).map_err(|failure| io::Error::other(failure.to_string()))?;
            remove_file(target)?;
            fs::hard_link(original, target)
        }
        EntryType::Fifo | EntryType::Char | EntryType::Block => make_node(entry.header(), target),
        _ => {
            entry.set_preserve_permissions(true);
            entry.set_preserve_mtime(true);
            entry.unpack(target).map(drop)
        }
    }
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
    let mode = Mode::from_raw_mode(header.mode()? & 0o7777);
    Ok(mknodat(CWD, target, kind, mode, device)?)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::Destination;

    #[test]
    fn where_entries_go() {
        let check = |renamed: Option<&str>, name: &str, expect: Option<&str>| {
            let destination =
                Destination { folder: PathBuf::from("/dir"), renamed: renamed.map(PathBuf::from) };
            let target = destination.target(Path::new(name)).ok();
            assert_eq!(target.as_deref(), expect.map(Path::new), "{renamed:?} {name:?}");
        };
        check(None, "d/f", Some("/dir/d/f"));
        check(None, ".", Some("/dir"));
        check(None, "./f", Some("/dir/f"));
        check(None, "/etc/f", Some("/dir/etc/f"));
        check(Some("new"), "d", Some("/dir/new"));
        check(Some("new"), "d/f", Some("/dir/new/f"));
        check(Some("new"), ".", Some("/dir/new"));
        check(Some("new"), "./f", Some("/dir/new/f"));
        check(None, "../f", None);
        check(Some("new"), "d/../../f", None);
    }
}
