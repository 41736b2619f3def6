//! `fmt`: job files laid out in the usual way, in their place.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use lith_api::error::Code;
use lith_spec::Named;

use crate::args::FmtArgs;
use crate::context::{Context, write_out};
use crate::error::Error;
use crate::exit;
use crate::source;

/// What became of a file.
struct Formatted {
    path: PathBuf,
    is_changed: bool,
}

/// `lith fmt`.
pub(crate) fn format(context: &Context, args: &FmtArgs) -> Result<u8, Error> {
    let paths = if args.files.is_empty() { vec![source::found_job()?] } else { args.files.clone() };
    let mut code = exit::DONE;
    let mut done = Vec::new();
    for path in paths {
        match format_one(context, args, path) {
            Ok(formatted) => done.push(formatted),
            Err(error) => code = code.max(context.report(&error)),
        }
    }
    let changed = done.iter().filter(|file| file.is_changed);
    if args.check && changed.clone().next().is_some() {
        code = code.max(exit::FAILED);
    }
    if context.json {
        let list: Vec<_> = done
            .iter()
            .map(|file| serde_json::json!({ "file": file.path, "is_changed": file.is_changed }))
            .collect();
        context.print_json(&list)?;
    } else {
        for file in changed.filter(|file| file.path != Path::new("-")) {
            context.print(&format!("{}\n", file.path.display()))?;
        }
    }
    Ok(code)
}

fn format_one(context: &Context, args: &FmtArgs, path: PathBuf) -> Result<Formatted, Error> {
    let file = source::named(&path, "read the job file")?;
    if lith_spec::is_compose(&file) {
        let message = format!("`{}` is a Compose file: only job files are laid out", file.path);
        return Err(Error::usage(
            message,
            format!("`lith convert {}` prints it as a job file", path.display()),
        ));
    }
    let text = lith_spec::format(&file.path, &file.bytes)
        .map_err(|diagnostics| Error::File(Box::new(diagnostics)))?;
    let Some(text) = text else {
        let why = "it holds what would be lost or hard to read, such as text in quotes over several lines";
        context.say(&format!("{} is left as it is: {why}", file.path));
        if path == Path::new("-") && !args.check && !context.json {
            write_out(&file.bytes)?;
        }
        return Ok(Formatted { path, is_changed: false });
    };
    let is_changed = text.as_bytes() != file.bytes;
    if path == Path::new("-") {
        if !args.check && !context.json {
            context.print(&text)?;
        }
    } else if is_changed && !args.check {
        replace(&path, &file, &text)?;
    }
    Ok(Formatted { path, is_changed })
}

/// Puts a text in the place of a file: at every moment either of them is there, whole. A link stays one.
fn replace(path: &Path, before: &Named, text: &str) -> Result<(), Error> {
    let failed = |error: &std::io::Error| Error::local("write the job file", path, error);
    let target = std::fs::canonicalize(path).map_err(|error| failed(&error))?;
    let folder = target.parent().unwrap_or(Path::new("/"));
    // Who may not write to it may not put another one in its place either.
    let opened = std::fs::File::options().write(true).open(&target).map_err(|error| failed(&error))?;
    let metadata = opened.metadata().map_err(|error| failed(&error))?;
    if metadata.nlink() > 1 {
        let message = format!("`{}` has several names, of which only one would be laid out", path.display());
        return Err(Error::new(Code::Conflict, message, "lay it out by way of standard input: `lith fmt -`"));
    }
    let mut new = tempfile::NamedTempFile::new_in(folder).map_err(|error| failed(&error))?;
    let written = new
        .write_all(text.as_bytes())
        .and_then(|()| new.as_file().set_permissions(metadata.permissions()))
        .and_then(|()| own_as(&new, &metadata))
        .and_then(|()| new.as_file().sync_all());
    written.map_err(|error| failed(&error))?;
    // An editor may have saved it meanwhile.
    if std::fs::read(&target).map_err(|error| failed(&error))? != before.bytes {
        let message = format!("`{}` was written by somebody else meanwhile: left as it is", path.display());
        return Err(Error::new(Code::Conflict, message, "run `lith fmt` again"));
    }
    new.persist(&target).map_err(|error| failed(&error.error))?;
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| failed(&error))
}

/// Keeps the owner, which matters when root lays out a user's file.
fn own_as(new: &tempfile::NamedTempFile, metadata: &std::fs::Metadata) -> std::io::Result<()> {
    let own = new.as_file().metadata()?;
    if (own.uid(), own.gid()) == (metadata.uid(), metadata.gid()) {
        return Ok(());
    }
    std::os::unix::fs::fchown(new.as_file(), Some(metadata.uid()), Some(metadata.gid()))
}
