//! Decompression of what a kernel package holds, with a limit on the result: modules and kernel images come in many
//! formats, and a damaged file must not fill the memory.

use std::io::{self, Write};

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Zstd,
    /// Without filters: the library knows none.
    Xz,
    /// The frame of the `lz4` program's `-l`, which the kernel's build uses.
    Lz4,
}

impl Compression {
    /// Judges by the first bytes.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        const MAGICS: [(&[u8], Compression); 4] = [
            (b"\x1f\x8b\x08", Compression::Gzip),
            (b"\x28\xb5\x2f\xfd", Compression::Zstd),
            (b"\xfd7zXZ\0", Compression::Xz),
            (b"\x02\x21\x4c\x18", Compression::Lz4),
        ];
        MAGICS.into_iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, found)| found)
    }

    /// What was compressed, if it has at most `limit` bytes.
    ///
    /// # Errors
    /// A sentence: it is damaged, or larger.
    pub(super) fn expand(self, bytes: &[u8], limit: u64) -> Result<Vec<u8>, String> {
        let mut sink = Bounded { content: Vec::new(), limit };
        let copied = match self {
            Self::Gzip => io::copy(&mut flate2::read::GzDecoder::new(bytes), &mut sink).map(drop),
            Self::Zstd => zstd::stream::copy_decode(bytes, &mut sink),
            Self::Xz => lzma_rs::xz_decompress(&mut { bytes }, &mut sink).map_err(io::Error::other),
            Self::Lz4 => io::copy(&mut lz4_flex::frame::FrameDecoder::new(bytes), &mut sink).map(drop),
        };
        copied.map_err(|error| error.to_string())?;
        Ok(sink.content)
    }
}

/// A sink that refuses to grow beyond the limit, for decoders that write instead of being read.
struct Bounded {
    content: Vec<u8>,
    limit: u64,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if (self.content.len() + bytes.len()) as u64 > self.limit {
            let message = format!("it is larger than {} bytes", self.limit);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        self.content.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
