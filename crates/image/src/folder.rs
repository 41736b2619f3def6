//! A folder that comes as a tar archive, kept as one EROFS file: what a new volume starts with.

use std::io::Read;
use std::path::Path;

use crate::limits::Limits;
use crate::unpack::{LayerSource, UnpackError, Unpacker};

/// Writes what is in an archive, compressed or not, to the new file `output`, synced. Owners, modes and times are those of
/// the archive, and every name is only a name: what hides a file in a layer of an image means nothing here. Blocks.
///
/// # Errors
/// Why it cannot be read or written; nothing is left then.
pub fn folder_from_archive(
    archive: impl Read + Send,
    output: &Path,
    limits: Limits,
) -> Result<(), UnpackError> {
    let written = write(archive, output, limits);
    if written.is_err() {
        // The first error is the one that matters.
        let _ = std::fs::remove_file(output);
    }
    written
}

fn write(archive: impl Read + Send, output: &Path, limits: Limits) -> Result<(), UnpackError> {
    let mut unpacker = Unpacker::create(output, limits)?.without_whiteouts();
    unpacker.apply(LayerSource { blob: archive, digest: None, diff_id: None })?;
    unpacker.finish()?.file.sync_all().map_err(UnpackError::Write)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in [("./.wh.kept", "a"), ("./sub/.wh..wh..opq", "b"), ("./sub/page", "c")] {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o640);
            builder.append_data(&mut header, name, content.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn every_name_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("content.erofs");
        folder_from_archive(archive().as_slice(), &output, Limits::default()).unwrap();
        let bytes = std::fs::read(&output).unwrap();
        for name in [".wh.kept", ".wh..wh..opq", "page"] {
            assert!(bytes.windows(name.len()).any(|found| found == name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn what_ends_early_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("content.erofs");
        let whole = archive();
        let cut = &whole[..700];
        folder_from_archive(cut, &output, Limits::default()).unwrap_err();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
