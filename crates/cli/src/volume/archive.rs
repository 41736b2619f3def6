//! Files into and out of a volume as archives: `volume cp`, `export`, `import`.

use std::io::Write;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::StreamExt;
use lith_api::client::Answers;
use lith_api::error::Code;

use super::files::{download, place_of_file, query};
use super::name::{new_id, resolve};
use super::{all, one, path, point_here};
use crate::args::{PointArgs, VolumeCpArgs};
use crate::context::{Context, write_out};
use crate::error::Error;
use crate::pack::Owners;
use crate::size::size;
use crate::unpack::{Existing, Unpack};
use crate::{cp, exit, pack};

/// `lith volume cp`.
pub(super) async fn copy(context: &Context, args: &VolumeCpArgs) -> Result<u8, Error> {
    let at = point_here(&args.point)?.unwrap_or_default();
    let place = place_of_file(&args.source)?;
    let is_stream = args.target == Path::new("-");
    if is_stream {
        refuse_terminal(context, "lith volume cp VOLUME:PATH - | tar x")?;
    }
    let volume = one(context, &place.volume).await?;
    let path = path(&volume.id, &query("archive", &place.path, &at));
    let parts = download(context, &path).await?;
    if is_stream {
        return pass_on(parts).await;
    }
    let existing = if args.force { Existing::Replace } else { Existing::Keep };
    let unpack = Unpack::prepare(&place.path, &args.target, existing)?;
    let copied = cp::take_apart(context, unpack, parts).await?;
    if context.json {
        let (files, bytes) = (copied.files, copied.bytes);
        context.print_json(&serde_json::json!({ "volume": volume.id, "files": files, "bytes": bytes }))?;
    } else {
        context.say(&cp::words(copied));
    }
    Ok(exit::DONE)
}

/// `lith volume export`.
pub(super) async fn export(
    context: &Context,
    text: &str,
    file: &Path,
    point: &PointArgs,
) -> Result<u8, Error> {
    let at = point_here(point)?.unwrap_or_default();
    let is_stream = file == Path::new("-");
    if is_stream {
        refuse_terminal(context, "lith volume export VOLUME | zstd > FILE")?;
    } else if std::fs::metadata(file).is_ok_and(|found| !found.is_file()) {
        let message = format!("`{}` is there already, and is no file", file.display());
        return Err(Error::new(Code::Conflict, message, "export to a new name, or to `-`"));
    }
    let volume = one(context, text).await?;
    let path = path(&volume.id, &query("archive", "/", &at));
    let parts = download(context, &path).await?;
    if is_stream {
        return pass_on(parts).await;
    }
    let bytes = store(context, parts, file).await?;
    if context.json {
        context.print_json(&serde_json::json!({ "volume": volume.id, "file": file, "bytes": bytes }))?;
    } else {
        context.say(&format!("volume {} is in {}: {}", volume.id, file.display(), size(bytes)));
    }
    Ok(exit::DONE)
}

/// `lith volume import`.
pub(super) async fn import(context: &Context, text: &str, source: &Path) -> Result<u8, Error> {
    // Before its job is deployed, the server knows nothing of it.
    let volumes = all(context).await?;
    let id = match resolve(text, &volumes) {
        Ok(volume) => volume.id.clone(),
        Err(Error::Failure(failure)) => new_id(text).map_err(|_| failure)?,
        Err(error) => return Err(error),
    };
    let parts = if source == Path::new("-") {
        pack::stdin()
    } else {
        let failed = |error: std::io::Error| Error::local("import", source, &error);
        // A link to a folder is that folder, as for Docker.
        let whole = std::fs::canonicalize(source).map_err(failed)?;
        if whole.is_dir() {
            std::fs::read_dir(&whole).map_err(failed)?;
            pack::archive(whole, PathBuf::from("."), Owners::Kept)
        } else {
            pack::file(source)?
        }
    };
    let copied = cp::send_content(context, parts, &id, None).await?;
    if context.json {
        let (files, bytes) = (copied.files, copied.bytes);
        context.print_json(&serde_json::json!({ "volume": id, "files": files, "bytes": bytes }))?;
    } else {
        context.say(&format!("volume {id} starts with {}: {}", source.display(), cp::words(copied)));
    }
    Ok(exit::DONE)
}

fn refuse_terminal(context: &Context, instead: &str) -> Result<(), Error> {
    if !context.terminal.is_stdout {
        return Ok(());
    }
    let message = "an archive is not written to a terminal";
    Err(Error::usage(message, format!("send it on: `{instead}`")))
}

async fn pass_on(mut parts: Answers<Bytes>) -> Result<u8, Error> {
    while let Some(part) = parts.next().await.transpose()? {
        write_out(&part)?;
    }
    Ok(exit::DONE)
}

/// Writes a file that appears when it is whole; how many bytes it has. It is for its owner alone, as what a volume holds is
/// nobody else's business.
async fn store(context: &Context, mut parts: Answers<Bytes>, target: &Path) -> Result<u64, Error> {
    let failed = |error: &std::io::Error| Error::local("write", target, error);
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut file = tempfile::Builder::new()
        .prefix(&format!("{name}."))
        .suffix(".part")
        .tempfile_in(folder)
        .map_err(|error| failed(&error))?;
    let bar = cp::bar(context);
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    let mut bytes = 0;
    loop {
        let part = tokio::select! {
            part = parts.next() => part.transpose()?,
            _ = &mut interrupt => {
                return Err(Error::Interrupted("interrupted; nothing was written".to_owned()));
            }
        };
        let Some(part) = part else { break };
        file.write_all(&part).map_err(|error| failed(&error))?;
        bytes += part.len() as u64;
        bar.set_position(bytes);
    }
    bar.finish_and_clear();
    file.as_file().sync_all().map_err(|error| failed(&error))?;
    file.persist(target).map_err(|error| failed(&error.error))?;
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| failed(&error))?;
    Ok(bytes)
}
