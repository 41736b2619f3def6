//! What a caller learns while an image is on its way.
//!
//! Must not draw anything: a program may draw bars from it, a server may send it on.

use crate::digest::Digest;

/// What happens to a layer at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Its bytes come in; done and total count compressed bytes.
    Fetching,
    /// It is merged into the root file system; done and total count compressed bytes.
    Unpacking,
    /// It is part of the root file system.
    Done,
}

/// One step of progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProgressEvent {
    /// An archive is taken in, before anything in it is looked at.
    Archive {
        /// Bytes that are here.
        done: u64,
        /// Bytes in all, if they were announced.
        total: Option<u64>,
    },
    /// The layers are known, bottom one first: digest and compressed bytes of each.
    Layers(Vec<(Digest, u64)>),
    /// One layer moved on.
    Layer {
        /// Position in the list of layers.
        index: usize,
        /// What happens to it.
        phase: Phase,
        /// Bytes behind it in this phase.
        done: u64,
        /// Bytes of this phase.
        total: u64,
    },
    /// All layers are merged; the result is written out and checked.
    Finishing,
}

/// Receives progress; called from several threads, so it must be quick and must not block.
pub trait Progress: Send + Sync {
    /// Takes one step of progress.
    fn event(&self, event: ProgressEvent);
}

/// Ignores all progress.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn event(&self, _event: ProgressEvent) {}
}

/// Reports the bytes of one layer that pass through a reader.
pub(crate) struct ProgressReader<'a, R> {
    pub(crate) inner: R,
    pub(crate) progress: &'a dyn Progress,
    pub(crate) index: usize,
    pub(crate) done: u64,
    pub(crate) total: u64,
}

impl<R: std::io::Read> std::io::Read for ProgressReader<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.done += n as u64;
        let (index, done, total) = (self.index, self.done, self.total);
        self.progress.event(ProgressEvent::Layer { index, phase: Phase::Unpacking, done, total });
        Ok(n)
    }
}
