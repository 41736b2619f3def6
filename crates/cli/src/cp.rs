//! `cp`: files into and out of a task, with the meaning of `docker cp`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use hyper::Method;
use indicatif::{ProgressBar, ProgressStyle};
use lith_api::client::{Answers, escape};
use lith_api::error::{Code, Failure};
use serde::Deserialize;

use crate::args::CpArgs;
use crate::context::{Context, write_out};
use crate::error::Error;
use crate::name::{self, Name};
use crate::pack::{Owners, Parts};
use crate::size::size;
use crate::unpack::{Copied, Existing, Unpack};
use crate::{exit, list, pack, spinner, unpack};

/// One side of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Task { name: Name, path: String },
    Here(PathBuf),
    Stream,
}

/// A line of the answer to what was sent.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Answer {
    Failed(Failure),
    Done {},
}

/// `lith cp`.
pub(crate) async fn copy(context: &Context, args: &CpArgs) -> Result<u8, Error> {
    let hint = "one side is TASK:PATH, such as `lith cp hello/web:/etc/hosts .`";
    match (place(&args.source)?, place(&args.target)?) {
        (Place::Task { name, path }, target @ (Place::Here(_) | Place::Stream)) => {
            let existing = if args.force { Existing::Replace } else { Existing::Keep };
            copy_out(context, &name, &path, &target, existing).await
        }
        (source @ (Place::Here(_) | Place::Stream), Place::Task { name, path }) => {
            copy_in(context, &source, &name, &path).await
        }
        (Place::Task { .. }, Place::Task { .. }) => {
            Err(Error::usage("files are not copied from task to task", "copy them here first, then on"))
        }
        _ => Err(Error::usage("neither side is in a task", hint)),
    }
}

/// As with `docker cp`, what begins with `.` or `/` is a path here, whatever colons it has.
fn place(text: &str) -> Result<Place, Error> {
    if text == "-" {
        return Ok(Place::Stream);
    }
    if text.is_empty() {
        return Err(Error::usage("a path is empty", "`.` is the current folder"));
    }
    match text.split_once(':') {
        Some((name, path)) if !name.is_empty() && !text.starts_with(['.', '/']) => {
            if path.is_empty() {
                return Err(Error::usage(
                    format!("`{text}` names a task, but no path in it"),
                    format!("`{name}:/` is its root"),
                ));
            }
            let slash = if path.starts_with('/') { "" } else { "/" };
            Ok(Place::Task { name: Name::parse(name)?, path: format!("{slash}{path}") })
        }
        _ => Ok(Place::Here(PathBuf::from(text))),
    }
}

async fn archive_path(context: &Context, name: &Name, path: &str) -> Result<String, Error> {
    let tasks = list::of_job(context, &name.job).await?;
    let status = name::one(name, &tasks, "lith cp")?;
    Ok(format!("/v1/tasks/{}/archive?path={}", escape(&status.id), escape(path)))
}

async fn copy_out(
    context: &Context,
    name: &Name,
    path: &str,
    target: &Place,
    existing: Existing,
) -> Result<u8, Error> {
    if *target == Place::Stream && context.terminal.is_stdout {
        return Err(Error::usage(
            "an archive is not written to a terminal",
            "send it on: `lith cp TASK:PATH - | tar x`",
        ));
    }
    let frames = context.client.frames(&archive_path(context, name, path).await?).await?;
    let mut parts = unpack::parts(frames);
    let Place::Here(target) = target else {
        while let Some(part) = parts.next().await.transpose()? {
            write_out(&part)?;
        }
        return Ok(exit::DONE);
    };
    let unpack = Unpack::prepare(path, target, existing)?;
    context.say(&words(take_apart(context, unpack, parts).await?));
    Ok(exit::DONE)
}

/// Unpacks an archive as it comes.
pub(crate) async fn take_apart(
    context: &Context,
    unpack: Unpack,
    parts: Answers<Bytes>,
) -> Result<Copied, Error> {
    let bar = bar(context);
    let copied = unpack.run(parts, &bar).await;
    bar.finish_and_clear();
    copied
}

async fn copy_in(context: &Context, source: &Place, name: &Name, path: &str) -> Result<u8, Error> {
    let parts = match source {
        Place::Here(source) => {
            std::fs::symlink_metadata(source).map_err(|error| Error::local("copy", source, &error))?;
            pack::archive(source.clone(), entry_name(source)?, Owners::Root)
        }
        Place::Stream => pack::stdin(),
        Place::Task { .. } => unreachable!("the caller tells the sides apart"),
    };
    let path = archive_path(context, name, path).await?;
    let copied = send_parts(context, &path, parts).await?;
    context.say(&words(copied));
    Ok(exit::DONE)
}

/// Sends the folder, by its name in the file and its path, that a new volume starts with, to the pool that the file names.
pub(crate) async fn send_folder(
    context: &Context,
    (name, folder): (&str, &Path),
    volume: &str,
    pool: Option<&str>,
) -> Result<(), Error> {
    // A link to a folder is that folder, as for Docker.
    let whole = std::fs::canonicalize(folder).and_then(|whole| std::fs::read_dir(&whole).map(|_| whole));
    let whole = whole.map_err(|error| Error::local("send the folder", folder, &error))?;
    let copied =
        send_content(context, pack::archive(whole, PathBuf::from("."), Owners::Kept), volume, pool).await?;
    if !context.json {
        context.say(&format!("volume {volume} starts with {name}: {}", words(copied)));
    }
    Ok(())
}

/// Sends the archive that a new volume starts with, to the pool that a job's file names, if one does.
pub(crate) async fn send_content(
    context: &Context,
    parts: Parts,
    volume: &str,
    pool: Option<&str>,
) -> Result<Copied, Error> {
    let query = pool.map_or_else(String::new, |pool| format!("?pool={}", escape(pool)));
    send_parts(context, &format!("/v1/volumes/{}/content{query}", escape(volume)), parts).await
}

async fn send_parts(context: &Context, path: &str, parts: Parts) -> Result<Copied, Error> {
    let tally = parts.tally();
    let (bytes, trouble) = parts.split();
    let bar = bar(context);
    let counted = bar.clone();
    let bytes = bytes.inspect(move |part| counted.inc(part.as_ref().map_or(0, |part| part.len() as u64)));
    let sent = send(context, path, bytes).await;
    bar.finish_and_clear();
    sent.map_err(|failure| trouble.or(failure))?;
    Ok(tally.copied())
}

async fn send(
    context: &Context,
    path: &str,
    bytes: impl Stream<Item = std::io::Result<Bytes>> + Send + Sync + 'static,
) -> Result<(), Failure> {
    let mut answers = context.client.upload::<Answer>(Method::PUT, path, bytes).await?;
    match answers.next().await.transpose()? {
        Some(Answer::Done {}) => Ok(()),
        Some(Answer::Failed(failure)) => Err(failure),
        None => {
            let failure = Failure::new(Code::Unreachable, "the server ended before all was copied");
            Err(failure.hint("see whether `lith up` still runs, then repeat"))
        }
    }
}

/// How much has come or gone, for a person who waits.
pub(crate) fn bar(context: &Context) -> ProgressBar {
    if !context.terminal.is_stderr || context.quiet || context.json {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{spinner} copying: {binary_bytes} ({binary_bytes_per_sec})");
    bar.set_style(style.expect("the template is valid"));
    bar.enable_steady_tick(spinner::TICK);
    bar
}

pub(crate) fn words(copied: Copied) -> String {
    let bytes = size(copied.bytes);
    match copied.files {
        // An archive that was passed on as it is, or folders alone.
        0 => format!("copied {bytes}"),
        1 => format!("copied 1 file, {bytes}"),
        files => format!("copied {files} files, {bytes}"),
    }
}

/// The name that a file or folder gets in the archive; `folder/.` means what is in it.
fn entry_name(source: &Path) -> Result<PathBuf, Error> {
    let text = source.as_os_str().as_encoded_bytes();
    if text.ends_with(b"/.") || text == b"." {
        return Ok(PathBuf::from("."));
    }
    if let Some(name) = source.file_name() {
        return Ok(PathBuf::from(name));
    }
    let whole = source.canonicalize().map_err(|error| Error::local("copy", source, &error))?;
    Ok(PathBuf::from(whole.file_name().unwrap_or(OsStr::new("."))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::Paint;

    #[test]
    fn places() {
        let here = |text: &str| assert_eq!(place(text).unwrap(), Place::Here(PathBuf::from(text)));
        here("file");
        here("./a:b");
        here("/a:b");
        here("../x");
        let task = |text: &str, job: &str, expected: &str| match place(text).unwrap() {
            Place::Task { name, path } => assert_eq!((name.job.as_str(), path.as_str()), (job, expected)),
            other => panic!("{other:?}"),
        };
        task("hello:/etc/hosts", "hello", "/etc/hosts");
        task("hello/web:etc", "hello", "/etc");
        task("hello/web.1:/a:b", "hello", "/a:b");
        assert_eq!(place("-").unwrap(), Place::Stream);
        let error = place("hello:").unwrap_err().text(Paint::PLAIN);
        assert_eq!(error, "error: `hello:` names a task, but no path in it\nhint: `hello:/` is its root\n");
        assert!(place("").is_err());
    }

    #[test]
    fn entry_names() {
        let check = |source: &str, name: &str| {
            assert_eq!(entry_name(Path::new(source)).unwrap(), Path::new(name), "{source}");
        };
        check("a/b", "b");
        check("a/b/", "b");
        check("a/b/.", ".");
        check(".", ".");
        check("/", ".");
    }

    #[test]
    fn last_words() {
        let check = |files, bytes, text: &str| assert_eq!(words(Copied { files, bytes }), text);
        check(1, 5, "copied 1 file, 5 B");
        check(3, 3 << 20, "copied 3 files, 3.0 MiB");
        check(0, 2048, "copied 2.0 KiB");
    }

    #[test]
    fn answers() {
        assert!(matches!(serde_json::from_str("{}"), Ok(Answer::Done {})));
        let failed = r#"{"code":"E0002","message":"no such folder"}"#;
        assert!(matches!(serde_json::from_str(failed), Ok(Answer::Failed(_))));
    }
}
