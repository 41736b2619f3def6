//! An archive out of a task or a volume becomes files here. The archive is hostile: it is unpacked in a folder of its own, nothing
//! is written outside of that, no owner, device or special mode bit is taken over, no link of its own is followed, and
//! every entry must belong to what was asked for. Only a whole archive gets to where the person wants it.

use std::ffi::OsString;
use std::fs::{self, File, FileTimes, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use indicatif::ProgressBar;
use lith_api::client::Answers;
use lith_api::error::{Code, Failure};
use lith_api::stream::{ExecExit, Frame};
use tokio::sync::mpsc;

use crate::archive::{Archive, Entry, Kind};
use crate::error::Error;
use crate::terminal::printable;

/// Parts that wait to be written.
const PARTS_MAX: usize = 4;

/// What was copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Copied {
    /// Files, links included; folders are not counted.
    pub(crate) files: u64,
    /// Bytes of their content.
    pub(crate) bytes: u64,
}

/// Whether files that are there already, and were not named themselves, are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    /// They are left, and the copy is refused.
    Keep,
    /// They are replaced.
    Replace,
}

/// What the archive may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    /// One file or folder of this name.
    Named(OsString),
    /// What is in a folder.
    Contents,
}

/// Where and how the archive becomes files.
#[derive(Debug)]
pub(crate) struct Unpack {
    asked: Asked,
    target: PathBuf,
    /// The target is a folder that is there: what comes is put into it.
    is_into: bool,
    existing: Existing,
    /// On the target's file system; gone when dropped.
    scratch: tempfile::TempDir,
}

impl Unpack {
    /// Decides as `docker cp` does: into a folder that exists, else under the new name. `source` is the path in the
    /// task or volume.
    pub(crate) fn prepare(source: &str, target: &Path, existing: Existing) -> Result<Self, Error> {
        let is_into = target.is_dir();
        let folder = if is_into { target } else { parent(target) };
        let scratch = tempfile::Builder::new()
            .prefix(".lith-cp-")
            .tempdir_in(folder)
            .map_err(|error| Error::local("copy into the folder", folder, &error))?;
        // A link to a folder means the folder.
        let target = if is_into { target.canonicalize() } else { Ok(target.to_owned()) };
        let target = target.map_err(|error| Error::local("copy into the folder", folder, &error))?;
        Ok(Self { asked: asked(source), target, is_into, existing, scratch })
    }

    /// Writes what comes; that the parts end without an error says that all came. When this returns, all is where it was
    /// wanted, or nothing is there.
    pub(crate) async fn run(self, parts: Answers<Bytes>, bar: &ProgressBar) -> Result<Copied, Error> {
        let (sender, receiver) = mpsc::channel(PARTS_MAX);
        let work = tokio::task::spawn_blocking(move || self.write(Source { receiver, part: Bytes::new() }));
        let fed = feed(parts, sender, bar).await;
        // Waited for in every case: its scratch folder must be gone before this process is.
        let written = work.await.map_err(|error| {
            Failure::new(Code::Internal, format!("the thread that writes the files ended: {error}"))
        })?;
        fed.and(written)
    }

    fn write(self, source: Source) -> Result<Copied, Error> {
        let root = self.scratch.path().join("root");
        make_folder(&root).map_err(|error| cannot(&error))?;
        let mut archive = Archive::new(source);
        let mut copied = Copied::default();
        let mut folders = Vec::new();
        while let Some(entry) = archive.next_entry().map_err(|error| broken(&error))? {
            let path = place(&self.asked, &entry.path)?;
            let original = match &entry.kind {
                Kind::Link(original) => Some(place(&self.asked, original)?),
                Kind::File | Kind::Folder | Kind::Symlink(_) | Kind::Special => None,
            };
            write_entry(
                &mut archive,
                &entry,
                &Target { root: &root, path: &path, original: original.as_deref() },
            )
            .map_err(|error| {
                cannot(&io::Error::new(error.kind(), format!("`{}`: {error}", shown(&entry.path))))
            })?;
            copied.bytes += entry.size;
            match entry.kind {
                Kind::Folder => folders.push((root.join(path), entry)),
                Kind::File | Kind::Symlink(_) | Kind::Link(_) => copied.files += 1,
                Kind::Special => {}
            }
        }
        // Only now, and the innermost first: what is written into a folder changes its time, and may need its mode.
        for (path, entry) in folders.into_iter().rev() {
            finish_folder(&path, &entry).map_err(|error| cannot(&error))?;
        }
        self.publish(&root)?;
        Ok(copied)
    }

    /// Moves what was unpacked to where it belongs.
    fn publish(&self, root: &Path) -> Result<(), Error> {
        let (from, to) = match &self.asked {
            Asked::Named(name) if self.is_into => (root.join(name), self.target.join(name)),
            Asked::Named(name) => (root.join(name), self.target.clone()),
            Asked::Contents => (root.to_owned(), self.target.clone()),
        };
        let Ok(found) = fs::symlink_metadata(&from) else {
            return Err(refused("the archive is empty".to_owned()));
        };
        let is_meant_as_folder = self.target.as_os_str().as_encoded_bytes().ends_with(b"/");
        if is_meant_as_folder && !self.is_into && !found.is_dir() {
            let missing = io::Error::from(io::ErrorKind::NotFound);
            return Err(Error::local("copy into the folder", &self.target, &missing));
        }
        // A file that was named itself is meant to be replaced.
        let existing = if found.is_dir() { self.existing } else { Existing::Replace };
        check_merge(&from, &to, existing)?;
        merge(&from, &to).map_err(|error| cannot(&error))
    }
}

/// The folder that holds `path`; of a plain name the current one.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The guest names what it sends by the same rule: after the path as it was asked for.
fn asked(source: &str) -> Asked {
    let name = Path::new(source).file_name().filter(|_| !source.ends_with("/."));
    name.map_or(Asked::Contents, |name| Asked::Named(name.to_owned()))
}

/// Passes the archive on to who writes it.
async fn feed(mut parts: Answers<Bytes>, sender: mpsc::Sender<Part>, bar: &ProgressBar) -> Result<(), Error> {
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    loop {
        let part = tokio::select! {
            part = parts.next() => part.transpose()?,
            _ = &mut interrupt => {
                return Err(Error::Interrupted("interrupted; nothing was written".to_owned()));
            }
        };
        let is_last = part.is_none();
        bar.inc(part.as_ref().map_or(0, |bytes| bytes.len() as u64));
        // When the writing side has ended, its result says why.
        if sender.send(part.map_or(Part::End, Part::Bytes)).await.is_err() || is_last {
            return Ok(());
        }
    }
}

/// The parts of an archive in frames, which is complete when the server says so in so many words.
pub(crate) fn parts(frames: Answers<Frame>) -> Answers<Bytes> {
    let parts = futures_util::stream::unfold(Some(frames), |frames| async move {
        let mut frames = frames?;
        let failure = match frames.next().await {
            Some(Ok(Frame::Output(bytes))) => return Some((Ok(bytes), Some(frames))),
            Some(Ok(Frame::Exit(ExecExit { code: 0 }))) => return None,
            Some(Ok(Frame::Failure(failure)) | Err(failure)) => failure,
            Some(Ok(
                Frame::Input(_) | Frame::InputEnd | Frame::Resize(_) | Frame::Error(_) | Frame::Exit(_),
            )) => {
                let failure = Failure::new(Code::Internal, "the server sent what does not belong to a copy");
                failure.hint("compare `lith version` of the command and the server")
            }
            None => {
                let failure = Failure::new(Code::Unreachable, "the connection ended before all was copied");
                failure.hint("see whether `lith up` still runs, then repeat")
            }
        };
        Some((Err(failure), None))
    });
    parts.boxed()
}

/// Where an entry is unpacked, below the root. One that does not belong to what was asked for is refused.
fn place(asked: &Asked, path: &Path) -> Result<PathBuf, Error> {
    let foreign = || refused(format!("the archive holds `{}`, which was not asked for", shown(path)));
    let mut place = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(part) => place.push(part),
            Component::RootDir | Component::ParentDir | Component::Prefix(_) => return Err(foreign()),
        }
    }
    match asked {
        Asked::Contents => Ok(place),
        Asked::Named(name) if place.starts_with(name) => Ok(place),
        Asked::Named(_) => Err(foreign()),
    }
}

/// Where an entry goes, all below `root`.
struct Target<'a> {
    root: &'a Path,
    path: &'a Path,
    /// Of a link: the entry that it is another name of.
    original: Option<&'a Path>,
}

fn write_entry(archive: &mut Archive<Source>, entry: &Entry, target: &Target<'_>) -> io::Result<()> {
    require_folders(target.root, target.path)?;
    let path = target.root.join(target.path);
    match &entry.kind {
        Kind::Special => Ok(()),
        Kind::Folder => make_folder(&path),
        Kind::Symlink(leads_to) => {
            remove_file(&path)?;
            std::os::unix::fs::symlink(leads_to, path)
        }
        Kind::Link(_) => {
            let original = target.original.expect("given for every link");
            require_folders(target.root, original)?;
            remove_file(&path)?;
            fs::hard_link(target.root.join(original), path)
        }
        Kind::File => {
            // A name can come twice when a task renames files while they are copied; the later one is the newer.
            remove_file(&path)?;
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            archive.content(&mut file)?;
            set_modified(&file, entry.modified)?;
            file.set_permissions(Permissions::from_mode(entry.mode & MODE_BITS))
        }
    }
}

fn finish_folder(path: &Path, entry: &Entry) -> io::Result<()> {
    set_modified(&File::open(path)?, entry.modified)?;
    fs::set_permissions(path, Permissions::from_mode(entry.mode & MODE_BITS))
}

/// Bits of a mode that mean the same here: no set-user-ID, no set-group-ID, no sticky bit.
const MODE_BITS: u32 = 0o777;

/// Refuses a path that leads through anything but real folders: a link of the archive could lead anywhere. The guest
/// sends each folder before what is in it.
fn require_folders(root: &Path, path: &Path) -> io::Result<()> {
    let mut folder = root.to_owned();
    for part in path.parent().into_iter().flat_map(Path::components) {
        folder.push(part);
        if !fs::symlink_metadata(&folder)?.is_dir() {
            return Err(io::Error::other("its path leads through a link or a file"));
        }
    }
    Ok(())
}

fn make_folder(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error)
            if error.kind() == io::ErrorKind::AlreadyExists && fs::symlink_metadata(path)?.is_dir() =>
        {
            Ok(())
        }
        result => result,
    }
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn set_modified(file: &File, seconds: u64) -> io::Result<()> {
    // A time that this system has no form for is left as it is.
    let Some(time) = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)) else { return Ok(()) };
    file.set_times(FileTimes::new().set_modified(time))
}

/// Refuses a merge that would replace what it must not, before anything is changed.
fn check_merge(from: &Path, to: &Path, existing: Existing) -> Result<(), Error> {
    let Ok(there) = fs::symlink_metadata(to) else { return Ok(()) };
    let is_folder = fs::symlink_metadata(from).map_err(|error| cannot(&error))?.is_dir();
    // The target itself may be reached through a link; what is in it may not.
    let is_folder_there = there.is_dir();
    match (is_folder, is_folder_there) {
        (true, true) => children(from)?
            .into_iter()
            .try_for_each(|name| check_merge(&from.join(&name), &to.join(&name), existing)),
        (false, false) if existing == Existing::Replace => Ok(()),
        (false, false) => Err(Error::new(
            Code::Conflict,
            format!("cannot copy: `{}` is there already, and nothing was changed", to.display()),
            "copy to a new name, or replace what is there with `--force`",
        )),
        (_, is_folder_there) => {
            let what = if is_folder_there { "a folder" } else { "no folder" };
            let message = format!("cannot copy: `{}` is there already, and is {what}", to.display());
            Err(Error::new(Code::Conflict, message, "copy to a new name, or move it away"))
        }
    }
}

fn merge(from: &Path, to: &Path) -> io::Result<()> {
    let is_folder_there = fs::symlink_metadata(to).is_ok_and(|there| there.is_dir());
    if !is_folder_there {
        return fs::rename(from, to);
    }
    for name in fs::read_dir(from)? {
        let name = name?.file_name();
        merge(&from.join(&name), &to.join(&name))?;
    }
    Ok(())
}

fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

fn children(folder: &Path) -> Result<Vec<OsString>, Error> {
    let entries = fs::read_dir(folder).map_err(|error| cannot(&error))?;
    let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
    names.collect::<io::Result<_>>().map_err(|error| cannot(&error))
}

fn cannot(error: &io::Error) -> Error {
    Error::new(
        Code::Machine,
        format!("cannot write what was copied: {error}"),
        "see whether the place is writable and has space",
    )
}

fn broken(error: &io::Error) -> Error {
    Error::new(
        Code::Invalid,
        format!("cannot read the archive: {error}"),
        "nothing was written; if it happens again, do not trust where it comes from",
    )
}

fn refused(message: String) -> Error {
    Error::new(Code::Invalid, message, "nothing was written; do not trust where it comes from")
}

/// What the connection gives to who writes.
#[derive(Debug)]
enum Part {
    Bytes(Bytes),
    /// All of it has come.
    End,
}

/// The parts as a reader.
#[derive(Debug)]
struct Source {
    receiver: mpsc::Receiver<Part>,
    part: Bytes,
}

impl Read for Source {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.part.is_empty() {
            match self.receiver.blocking_recv() {
                Some(Part::Bytes(part)) => self.part = part,
                Some(Part::End) => return Ok(0),
                // Who feeds this has its own reason.
                None => {
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the copy was broken off"));
                }
            }
        }
        let count = into.len().min(self.part.len());
        self.part.copy_to_slice(&mut into[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
