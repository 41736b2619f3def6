//! Applies layers one after the other: decompress and check on one thread, read tar and write on another.
//!
//! Must not parse tar nor write EROFS structures: it joins the modules that do.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::area::{Area, BLOCK, punch};
use super::erofs::{self, body_blocks};
use super::error::{UnpackError, shown};
use super::pax::Xattr;
use super::tar::{Entry, EntryKind, Piece, TarReader};
use super::tree::{Body, Kind, Meta, Node, Tree, WHITEOUT_PREFIX};
use crate::digest::{Digest, Hasher, HashingReader};
use crate::limits::{LAYERS_MAX, Limits, SYMLINK_BYTES_MAX};

/// Bytes handed from the decompressor to the reader at once.
const CHUNK_BYTES: usize = 128 * 1024;
/// Chunks under way: bounds memory, and lets the two threads run unevenly.
const CHUNKS_MAX: usize = 16;
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// One layer to apply.
pub(crate) struct LayerSource<R> {
    /// The blob, compressed or not: its first bytes tell.
    pub(crate) blob: R,
    /// What the blob must hash to, unless that was checked already.
    pub(crate) digest: Option<Digest>,
    /// What the uncompressed stream must hash to; `None` where the source does not say.
    pub(crate) diff_id: Option<Digest>,
}

/// The finished root file system.
pub(crate) struct Unpacked {
    /// The complete EROFS file, not yet synced.
    pub(crate) file: File,
    /// Inodes in it.
    pub(crate) inodes: u64,
}

/// Builds one root file system from layers, bottom one first.
pub(crate) struct Unpacker {
    tree: Tree,
    area: Area,
    tails: Area,
    limits: Limits,
    layers: usize,
    entries: u64,
    content_bytes: u64,
    stream_bytes: u64,
    packed_bytes: u64,
    identity: Hasher,
    has_whiteouts: bool,
}

impl Unpacker {
    /// Starts a root file system at `output`, which must not exist, with a spool beside it.
    pub(crate) fn create(output: &Path, limits: Limits) -> Result<Unpacker, UnpackError> {
        let open = |path: &Path| File::options().read(true).write(true).create_new(true).open(path);
        let file = open(output).map_err(UnpackError::Write)?;
        let spool_path = output.with_extension("tails");
        let spool = open(&spool_path).map_err(UnpackError::Write)?;
        std::fs::remove_file(&spool_path).map_err(UnpackError::Write)?;
        Ok(Unpacker {
            tree: Tree::new(&limits),
            area: Area::new(file, BLOCK as u64),
            tails: Area::new(spool, 0),
            limits,
            layers: 0,
            entries: 0,
            content_bytes: 0,
            stream_bytes: 0,
            packed_bytes: 0,
            identity: Hasher::default(),
            has_whiteouts: true,
        })
    }

    /// Takes names that hide files of lower layers as any others.
    pub(crate) fn without_whiteouts(self) -> Unpacker {
        Unpacker { has_whiteouts: false, ..self }
    }

    /// Applies the next layer up; gives its diff_id.
    pub(crate) fn apply<R: Read + Send>(&mut self, source: LayerSource<R>) -> Result<Digest, UnpackError> {
        self.layers += 1;
        if self.layers > LAYERS_MAX {
            return Err(UnpackError::TooMuch { what: "too many layers", limit: LAYERS_MAX as u64 });
        }
        self.tree.begin_layer();
        let (chunks, receiver) = sync_channel(CHUNKS_MAX);
        let (recycle, empties) = sync_channel(CHUNKS_MAX + 2);
        let limits = self.limits.clone();
        let gauge =
            Gauge { limits, stream_bytes: self.stream_bytes, packed: AtomicU64::new(self.packed_bytes) };
        let expected = source.diff_id;
        let diff_id = std::thread::scope(|scope| {
            let gauge = &gauge;
            let pump = scope.spawn(move || pump(source, gauge, &chunks, &empties));
            let mut input = ChunkReader {
                receiver,
                recycle,
                chunk: Vec::new(),
                used: 0,
                hasher: Hasher::default(),
                bytes: 0,
            };
            let applied = self.entries(&mut input).and_then(|()| input.drain());
            let (hasher, bytes) = (std::mem::take(&mut input.hasher), input.bytes);
            drop(input);
            // The decompressor's own error explains the reader's "truncated".
            pump.join().map_err(|_| UnpackError::Read(io::Error::other("the decompressor panicked")))??;
            self.stream_bytes += bytes;
            self.packed_bytes = gauge.packed.load(Ordering::Relaxed);
            applied.map(|()| hasher.finish())
        })?;
        if let Some(expected) = expected.filter(|&expected| expected != diff_id) {
            return Err(UnpackError::WrongDiffId { expected, actual: diff_id });
        }
        self.identity.update(diff_id.bytes());
        Ok(diff_id)
    }

    /// Bytes of uncompressed layers applied so far.
    pub(crate) fn stream_bytes(&self) -> u64 {
        self.stream_bytes
    }

    /// Writes what belongs after the bodies. The file's name and its durability are the caller's.
    pub(crate) fn finish(mut self) -> Result<Unpacked, UnpackError> {
        // Zeros at the spool's end were skipped, not written: the length makes them readable.
        let tails_bytes = self.tails.position();
        self.tails
            .flush()
            .and_then(|()| self.tails.file().set_len(tails_bytes))
            .map_err(UnpackError::Write)?;
        self.area.flush().map_err(UnpackError::Write)?;
        self.drop_hidden()?;
        let mut uuid = [0u8; 16];
        uuid.copy_from_slice(&self.identity.finish().bytes()[..16]);
        let (file, inodes) = erofs::finish(&self.tree, self.area, self.tails.file(), uuid)?;
        Ok(Unpacked { file, inodes })
    }

    fn entries(&mut self, input: &mut ChunkReader) -> Result<(), UnpackError> {
        let mut tar = TarReader::new(input);
        while let Some(entry) = tar.next_entry()? {
            self.entries += 1;
            if self.entries > self.limits.entries_max {
                return Err(UnpackError::TooMuch {
                    what: "too many entries",
                    limit: self.limits.entries_max,
                });
            }
            self.entry(&mut tar, entry)?;
        }
        Ok(())
    }

    fn entry<R: BufRead>(&mut self, tar: &mut TarReader<R>, entry: Entry) -> Result<(), UnpackError> {
        if self.has_whiteouts && last_name(&entry.path).starts_with(WHITEOUT_PREFIX) {
            return self.tree.whiteout(&entry.path);
        }
        let Entry { path, kind, link, mode, uid, gid, mtime, mtime_nanos, device, size, xattrs } = entry;
        let xattrs = kept_xattrs(xattrs);
        let kind = match kind {
            EntryKind::HardLink => return self.tree.link(&path, &link),
            EntryKind::File => Kind::File(self.body(tar, size, &xattrs)?),
            EntryKind::Folder => Kind::Folder(Default::default()),
            EntryKind::Symlink => {
                check_target(&path, &link)?;
                Kind::Symlink(link.into())
            }
            EntryKind::CharDevice | EntryKind::BlockDevice => {
                erofs::check_device(&path, device)?;
                let (major, minor) = device;
                if kind == EntryKind::CharDevice {
                    Kind::CharDevice(major, minor)
                } else {
                    Kind::BlockDevice(major, minor)
                }
            }
            EntryKind::Fifo => Kind::Fifo,
        };
        // Linux gives every symbolic link these permissions.
        let mode = if matches!(kind, Kind::Symlink(_)) { 0o777 } else { mode };
        self.tree.insert(&path, Node { meta: Meta { mode, uid, gid, mtime, mtime_nanos }, kind, xattrs })
    }

    /// Streams one file's body to its place.
    fn body<R: BufRead>(
        &mut self,
        tar: &mut TarReader<R>,
        size: u64,
        xattrs: &[Xattr],
    ) -> Result<Body, UnpackError> {
        self.content_bytes = self.content_bytes.saturating_add(size);
        if self.content_bytes > self.limits.content_bytes_max {
            let limit = self.limits.content_bytes_max;
            return Err(UnpackError::TooMuch { what: "too many bytes of file contents", limit });
        }
        let tail_bytes = (size % BLOCK as u64) as usize;
        let tail = (tail_bytes > 0 && erofs::can_inline(tail_bytes, xattrs)).then(|| self.tails.position());
        let block = u32::try_from(self.area.position() / BLOCK as u64)
            .map_err(|_| UnpackError::TooMuch { what: "too many blocks", limit: u64::from(u32::MAX) })?;
        let mut plain = if tail.is_some() { size - tail_bytes as u64 } else { size };
        let (area, tails) = (&mut self.area, &mut self.tails);
        tar.body(&mut |piece| {
            let result = match piece {
                Piece::Bytes(bytes) => {
                    let n = bytes.len().min(usize::try_from(plain).unwrap_or(usize::MAX));
                    plain -= n as u64;
                    area.append(&bytes[..n]).and_then(|()| tails.append(&bytes[n..]))
                }
                Piece::Zeros(count) => {
                    let n = count.min(plain);
                    plain -= n;
                    area.append_zeros(n).and_then(|()| tails.append_zeros(count - n))
                }
            };
            result.map_err(UnpackError::Write)
        })?;
        self.area.pad().map_err(UnpackError::Write)?;
        Ok(Body { size, block, tail })
    }

    /// Turns bodies that no name leads to any more into holes, so they neither take space nor leak.
    fn drop_hidden(&self) -> Result<(), UnpackError> {
        let mut is_visible = vec![false; self.tree.nodes.len()];
        let mut pending = vec![super::tree::ROOT];
        while let Some(id) = pending.pop() {
            if !std::mem::replace(&mut is_visible[id as usize], true) {
                pending.extend(self.tree.children(id).into_iter().flat_map(|c| c.values()).map(|c| c.node));
            }
        }
        for (node, is_visible) in self.tree.nodes.iter().zip(is_visible) {
            if let (Kind::File(body), false) = (&node.kind, is_visible) {
                let length = body_blocks(body) * BLOCK as u64;
                if length > 0 {
                    punch(self.area.file(), u64::from(body.block) * BLOCK as u64, length)
                        .map_err(UnpackError::Write)?;
                }
            }
        }
        Ok(())
    }
}

fn last_name(path: &[u8]) -> &[u8] {
    path.split(|&b| b == b'/').rfind(|name| !name.is_empty()).unwrap_or_default()
}

/// Drops what EROFS cannot name, and the overlay's own markers: in a layer they could only mislead the guest's overlay.
fn kept_xattrs(mut xattrs: Vec<Xattr>) -> Box<[Xattr]> {
    xattrs.retain(|x| {
        let is_overlay = x.name.starts_with(b"trusted.overlay.") || x.name.starts_with(b"user.overlay.");
        !is_overlay && erofs::xattr_index(&x.name).is_some() && x.value.len() <= usize::from(u16::MAX)
    });
    // Stable, so that of one name the last stands last; turned round, the first of each is kept.
    xattrs.sort_by(|a, b| a.name.cmp(&b.name));
    xattrs.reverse();
    xattrs.dedup_by(|later, earlier| later.name == earlier.name);
    xattrs.reverse();
    xattrs.into_boxed_slice()
}

fn check_target(path: &[u8], target: &[u8]) -> Result<(), UnpackError> {
    let refused = |why: &str| Err(UnpackError::BadEntry { path: shown(path), why: why.into() });
    match target {
        b"" => refused("a symbolic link that points to nothing"),
        t if t.contains(&0) => refused("its target holds a NUL byte"),
        t if t.len() > SYMLINK_BYTES_MAX => refused("its target is too long"),
        _ => Ok(()),
    }
}

/// How much of an image has gone through, to be held against its bounds.
struct Gauge {
    limits: Limits,
    /// Uncompressed bytes of the layers before this one.
    stream_bytes: u64,
    /// Compressed bytes of all layers so far.
    packed: AtomicU64,
}

impl Gauge {
    /// `layer_bytes` have come out of this layer.
    fn check(&self, layer_bytes: u64) -> Result<(), UnpackError> {
        let total = self.stream_bytes.saturating_add(layer_bytes);
        if total > self.limits.stream_bytes_max {
            let limit = self.limits.stream_bytes_max;
            return Err(UnpackError::TooMuch { what: "the layers unpack to too many bytes", limit });
        }
        // Of the whole image: a bound per layer would let each layer have its share for nothing.
        let packed = self.packed.load(Ordering::Relaxed).max(1);
        if total > self.limits.ratio_free_bytes && total / packed > self.limits.ratio_max {
            let limit = self.limits.ratio_max;
            return Err(UnpackError::TooMuch { what: "the image's compression ratio is too high", limit });
        }
        Ok(())
    }
}

/// Reads, checks and decompresses a blob into chunks. Ends early, in peace, when nobody listens any more.
fn pump<R: Read + Send>(
    source: LayerSource<R>,
    gauge: &Gauge,
    chunks: &SyncSender<Vec<u8>>,
    empties: &Receiver<Vec<u8>>,
) -> Result<(), UnpackError> {
    let counting = CountingReader { inner: source.blob, count: &gauge.packed };
    match source.digest {
        None => pump_stream(counting, gauge, chunks, empties).map(|_| ()),
        Some(expected) => {
            let mut hashing = HashingReader::new(counting);
            let outcome = pump_stream(&mut hashing, gauge, chunks, empties);
            if !matches!(outcome, Ok(Pumped::Whole) | Err(UnpackError::Decompress(_))) {
                return outcome.map(|_| ());
            }
            io::copy(&mut hashing, &mut io::sink()).map_err(UnpackError::Read)?;
            let actual = hashing.finish();
            if actual != expected {
                return Err(UnpackError::WrongDigest { expected, actual });
            }
            outcome.map(|_| ())
        }
    }
}

/// Whether all of a layer went through.
enum Pumped {
    Whole,
    Abandoned,
}

fn pump_stream(
    blob: impl Read,
    gauge: &Gauge,
    chunks: &SyncSender<Vec<u8>>,
    empties: &Receiver<Vec<u8>>,
) -> Result<Pumped, UnpackError> {
    let mut stream = decompressed(BufReader::with_capacity(CHUNK_BYTES, blob))?;
    let mut total = 0u64;
    loop {
        let mut chunk = empties.try_recv().unwrap_or_default();
        chunk.clear();
        stream.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut chunk).map_err(UnpackError::Decompress)?;
        if chunk.is_empty() {
            return Ok(Pumped::Whole);
        }
        total += chunk.len() as u64;
        gauge.check(total)?;
        if chunks.send(chunk).is_err() {
            return Ok(Pumped::Abandoned);
        }
    }
}

/// Whether a stream starts as one of the known compressed forms.
pub(crate) fn is_compressed(start: &[u8]) -> bool {
    start.starts_with(GZIP_MAGIC) || start.starts_with(ZSTD_MAGIC)
}

/// Decompresses gzip and zstd, passes anything else through; the first bytes tell, as media types are often wrong.
pub(crate) fn decompressed<'a>(mut blob: impl BufRead + 'a) -> Result<Box<dyn Read + 'a>, UnpackError> {
    let start = blob.fill_buf().map_err(UnpackError::Read)?;
    if start.starts_with(GZIP_MAGIC) {
        Ok(Box::new(flate2::bufread::MultiGzDecoder::new(blob)))
    } else if start.starts_with(ZSTD_MAGIC) {
        Ok(Box::new(zstd::stream::read::Decoder::with_buffer(blob).map_err(UnpackError::Decompress)?))
    } else {
        Ok(Box::new(blob))
    }
}

struct CountingReader<'a, R> {
    inner: R,
    count: &'a AtomicU64,
}

impl<R: Read> Read for CountingReader<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.count.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// The receiving side: hashes the uncompressed stream as it is read.
struct ChunkReader {
    receiver: Receiver<Vec<u8>>,
    recycle: SyncSender<Vec<u8>>,
    chunk: Vec<u8>,
    used: usize,
    hasher: Hasher,
    bytes: u64,
}

impl ChunkReader {
    /// Reads to the end: what follows the archive's end marker is part of the diff_id.
    fn drain(&mut self) -> Result<(), UnpackError> {
        loop {
            let n = self.fill_buf().map_err(UnpackError::Read)?.len();
            if n == 0 {
                return Ok(());
            }
            self.consume(n);
        }
    }
}

impl BufRead for ChunkReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.used == self.chunk.len() {
            let next = self.receiver.recv().unwrap_or_default();
            let old = std::mem::replace(&mut self.chunk, next);
            // A full queue of spare buffers only costs an allocation.
            let _ = self.recycle.try_send(old);
            self.used = 0;
            self.hasher.update(&self.chunk);
            self.bytes += self.chunk.len() as u64;
        }
        Ok(&self.chunk[self.used..])
    }

    fn consume(&mut self, n: usize) {
        self.used = (self.used + n).min(self.chunk.len());
    }
}

impl Read for ChunkReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(buf)?;
        self.consume(n);
        Ok(n)
    }
}
