//! Looking into a volume: `volume ls VOLUME:PATH`, `volume cat`.

use bytes::Bytes;
use futures_util::StreamExt;
use hyper::Method;
use jiff::tz::TimeZone;
use lith_api::client::{Answers, escape};
use lith_api::error::Failure;
use lith_api::volume::{FileEvent, FileKind, Point, VolumeFile};

use super::{one, path, point_here};
use crate::args::{PointArgs, VolumeLsArgs};
use crate::context::{Context, write_out};
use crate::error::Error;
use crate::exit;
use crate::size::size;
use crate::terminal::{harmless, printable};
use crate::time;

/// Longest line of a file that is held back to be cleaned for a terminal; more than any screen has.
const LINE_BYTES_MAX: usize = 64 << 10;

/// A volume as it was typed, and a path in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) volume: String,
    pub(super) path: String,
}

/// `VOLUME:PATH`; without a path it is the root.
pub(super) fn place(text: &str) -> Place {
    let (volume, path) = text.split_once(':').unwrap_or((text, "/"));
    let slash = if path.starts_with('/') { "" } else { "/" };
    Place { volume: volume.to_owned(), path: format!("{slash}{path}") }
}

/// The same where a path is needed.
pub(super) fn place_of_file(text: &str) -> Result<Place, Error> {
    match text.split_once(':') {
        Some((volume, path)) if !volume.is_empty() && !path.is_empty() => Ok(place(text)),
        _ => Err(Error::usage(
            format!("`{text}` names no path in a volume"),
            "a path in a volume is VOLUME:PATH, such as `shop.data:/pgdata/postgresql.conf`",
        )),
    }
}

/// What is asked of a volume at a path, as of a point in its history.
pub(super) fn query(kind: &str, path: &str, at: &Point) -> String {
    format!("/{kind}?path={}&at={}", escape(path), escape(&at.to_string()))
}

/// `lith volume ls VOLUME[:PATH]`.
pub(super) async fn list(context: &Context, text: &str, args: &VolumeLsArgs) -> Result<u8, Error> {
    let at = point_here(&args.point)?.unwrap_or_default();
    let place = place(text);
    let volume = one(context, &place.volume).await?;
    let mut rest = query("files", &place.path, &at);
    if args.recursive {
        rest.push_str("&recursive=true");
    }
    let zone = TimeZone::system();
    let nothing: Option<&()> = None;
    let mut answers = context.client.lines(Method::GET, &path(&volume.id, &rest), nothing).await?;
    let mut code = exit::DONE;
    while let Some(event) = answers.next().await.transpose()? {
        match event {
            FileEvent::File(file) if context.json => context.print_json_line(&file)?,
            FileEvent::File(file) => {
                let Some(name) = name(&file, &place.path) else { continue };
                let line = if args.long { long_line(&file, &name, &zone) } else { short_line(&file, &name) };
                context.print(&format!("{line}\n"))?;
            }
            // As `ls` does of what it cannot read: the others are shown, and the end says that it was not all.
            FileEvent::Skipped(why) => {
                code = exit::FAILED;
                crate::context::say(&format!("left out: {}", printable(&why)));
            }
            FileEvent::Failed(failure) => return Err(failure.into()),
        }
    }
    Ok(code)
}

/// `lith volume cat`.
pub(super) async fn cat(context: &Context, text: &str, point: &PointArgs) -> Result<u8, Error> {
    let at = point_here(point)?.unwrap_or_default();
    let place = place_of_file(text)?;
    let volume = one(context, &place.volume).await?;
    let path = path(&volume.id, &query("file", &place.path, &at));
    let mut parts = download(context, &path).await?;
    let mut clean = Clean::default();
    while let Some(part) = parts.next().await.transpose()? {
        if context.terminal.is_stdout {
            context.print(&clean.take(&part))?;
        } else {
            write_out(&part)?;
        }
    }
    context.print(&clean.rest())?;
    Ok(exit::DONE)
}

/// Bytes as they come. That they ended in the middle is an error, for which the connection has no reason to give.
pub(super) async fn download(context: &Context, path: &str) -> Result<Answers<Bytes>, Error> {
    let parts = context.client.download_whole(path).await?;
    let broken_off = |failure: Failure| {
        let message = format!("not all of it came: {}", failure.message);
        let hint = "repeat it; `lith volume check VOLUME` tells whether the volume is damaged";
        Failure { message, ..failure }.hint(hint)
    };
    Ok(parts.map(move |part| part.map_err(broken_off)).boxed())
}

/// A file on a terminal, which it must not command. Works line by line, for a sequence may be in two parts.
#[derive(Debug, Default)]
struct Clean {
    line: Vec<u8>,
}

impl Clean {
    fn take(&mut self, part: &[u8]) -> String {
        self.line.extend_from_slice(part);
        let mut text = String::new();
        let end = self.line.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let whole: Vec<u8> = self.line.drain(..end).collect();
        for line in whole.split_inclusive(|byte| *byte == b'\n') {
            text.push_str(&shown_line(line));
        }
        if self.line.len() > LINE_BYTES_MAX {
            text.push_str(&self.rest());
        }
        text
    }

    fn rest(&mut self) -> String {
        shown_line(&std::mem::take(&mut self.line))
    }
}

fn shown_line(line: &[u8]) -> String {
    let (line, end) = line.strip_suffix(b"\n").map_or((line, ""), |line| (line, "\n"));
    format!("{}{end}", harmless(&String::from_utf8_lossy(line)))
}

/// What a file is called within the folder that was asked for; none for that folder itself.
fn name(file: &VolumeFile, asked: &str) -> Option<String> {
    let whole = file.path.trim_start_matches('/');
    let asked = asked.trim_matches('/').trim_end_matches("/.");
    let asked = if asked == "." { "" } else { asked };
    let within = match whole.strip_prefix(asked) {
        Some("") => "",
        Some(rest) if asked.is_empty() => rest,
        Some(rest) => rest.strip_prefix('/').unwrap_or(whole),
        None => whole,
    };
    match (within, file.kind) {
        ("", FileKind::Folder) => None,
        ("", _) => Some(whole.rsplit('/').next().unwrap_or(whole).to_owned()),
        (within, _) => Some(within.to_owned()),
    }
}

fn short_line(file: &VolumeFile, name: &str) -> String {
    let slash = if file.kind == FileKind::Folder { "/" } else { "" };
    format!("{}{slash}", printable(name))
}

/// As `ls -l` shows it.
fn long_line(file: &VolumeFile, name: &str, zone: &TimeZone) -> String {
    let modified =
        u64::try_from(file.modified_ms).map_or_else(|_| "-".to_owned(), |ms| time::local(ms, zone));
    let target = file.target.as_ref().map(|target| format!(" -> {}", printable(target))).unwrap_or_default();
    format!(
        "{} {:>5} {:>5} {:>9} {modified:>19} {}{target}",
        rights(file.kind, file.mode),
        file.uid,
        file.gid,
        size(file.size_bytes),
        printable(name),
    )
}

fn rights(kind: FileKind, mode: u32) -> String {
    let mut text = String::from(match kind {
        FileKind::File => "-",
        FileKind::Folder => "d",
        FileKind::Symlink => "l",
        FileKind::CharacterDevice => "c",
        FileKind::BlockDevice => "b",
        FileKind::Fifo => "p",
        FileKind::Socket => "s",
    });
    // Owner, group, others; with the bit that shows in the place of the right to execute.
    for (shift, special, both, alone) in [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')]
    {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, mode & special != 0) {
            (true, true) => both,
            (false, true) => alone,
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::Paint;

    fn file(path: &str, kind: FileKind, mode: u32) -> VolumeFile {
        VolumeFile {
            path: path.to_owned(),
            kind,
            mode,
            uid: 999,
            gid: 999,
            size_bytes: 4096,
            modified_ms: 3_000_000_000,
            target: None,
        }
    }

    #[test]
    fn places() {
        let check = |text: &str, volume: &str, path: &str| {
            assert_eq!(place(text), Place { volume: volume.to_owned(), path: path.to_owned() });
        };
        check("shop.data", "shop.data", "/");
        check("shop.data:", "shop.data", "/");
        check("shop.data:/", "shop.data", "/");
        check("shop.data.0:etc/a:b", "shop.data.0", "/etc/a:b");
        assert_eq!(place_of_file("data:x").unwrap().path, "/x");
        assert_eq!(
            place_of_file("data").unwrap_err().text(Paint::PLAIN),
            "error: `data` names no path in a volume\n\
             hint: a path in a volume is VOLUME:PATH, such as `shop.data:/pgdata/postgresql.conf`\n"
        );
        assert!(place_of_file("data:").is_err() && place_of_file(":/x").is_err());
        let at = Point::Snapshot("a b".to_owned());
        assert_eq!(query("files", "/a b", &at), "/files?path=%2Fa%20b&at=snapshot%3Aa%20b");
    }

    #[test]
    fn names_within_what_was_asked_for() {
        let check = |path: &str, asked: &str, expect: Option<&str>| {
            let file = file(path, FileKind::File, 0o644);
            assert_eq!(name(&file, asked).as_deref(), expect, "{path} of {asked}");
        };
        check("/a", "/", Some("a"));
        check("a/b", "/", Some("a/b"));
        check("/pg/base/1", "/pg", Some("base/1"));
        check("/pg/base/1", "/pg/", Some("base/1"));
        check("/pg/base", "/pg/.", Some("base"));
        check("/pg/conf", "/pg/conf", Some("conf"));
        // The path led there through a link.
        check("/pgdata/conf", "/pg", Some("pgdata/conf"));
        assert_eq!(name(&file("/pg", FileKind::Folder, 0o755), "/pg"), None);
        assert_eq!(name(&file("/", FileKind::Folder, 0o755), "/"), None);
    }

    #[test]
    fn files_read_without_colour() {
        let link = VolumeFile {
            target: Some("/run/\x1b[2Jx".to_owned()),
            size_bytes: 9,
            ..file("", FileKind::Symlink, 0o777)
        };
        let old = VolumeFile { modified_ms: -1, uid: 0, gid: 0, ..file("", FileKind::File, 0o4755) };
        let lines = [
            long_line(&file("", FileKind::Folder, 0o1700), "base", &TimeZone::UTC),
            long_line(&file("", FileKind::File, 0o640), "postgresql.conf", &TimeZone::UTC),
            long_line(&link, "link", &TimeZone::UTC),
            long_line(&old, "old", &TimeZone::UTC),
            short_line(&file("", FileKind::Folder, 0o755), "base"),
            short_line(&file("", FileKind::File, 0o755), "a\nb"),
        ];
        insta::assert_snapshot!(lines.join("\n"), @"
        drwx-----T   999   999   4.0 KiB 1970-02-04 17:20:00 base
        -rw-r-----   999   999   4.0 KiB 1970-02-04 17:20:00 postgresql.conf
        lrwxrwxrwx   999   999       9 B 1970-02-04 17:20:00 link -> /run/�[2Jx
        -rwsr-xr-x     0     0   4.0 KiB                   - old
        base/
        a�b
        ");
        let kinds = [
            (FileKind::CharacterDevice, 0o666, "crw-rw-rw-"),
            (FileKind::BlockDevice, 0o660, "brw-rw----"),
            (FileKind::Fifo, 0o2644, "prw-r-Sr--"),
            (FileKind::Socket, 0o7777, "srwsrwsrwt"),
            (FileKind::Folder, 0o1644, "drw-r--r-T"),
        ];
        for (kind, mode, expect) in kinds {
            assert_eq!(rights(kind, mode), expect);
        }
    }

    #[test]
    fn a_file_does_not_command_the_terminal() {
        let mut clean = Clean::default();
        assert_eq!(clean.take(b"plain\nred \x1b["), "plain\n");
        assert_eq!(clean.take(b"2Jnot\nr\xffest\r"), "red not\n");
        assert_eq!(clean.rest(), "r\u{fffd}est");
        let long = vec![b'x'; LINE_BYTES_MAX + 1];
        assert_eq!(clean.take(&long).len(), long.len());
        assert_eq!(clean.rest(), "");
    }
}
