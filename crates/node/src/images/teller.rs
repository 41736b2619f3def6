//! The store's progress as lines for whoever asked for an image.

use std::sync::{Mutex, PoisonError};

use lith_api::image::Progress;
use lith_image::{Digest, Phase, ProgressEvent};
use tokio::sync::mpsc::Sender;

/// Digits of a digest that tell layers apart for a person.
const SHORT_DIGITS: usize = 12;

/// Turns the store's progress into lines. Drops a line rather than wait: the next one says more.
pub(super) struct Teller {
    lines: Sender<Progress>,
    parts: Mutex<Vec<String>>,
}

impl Teller {
    pub(super) fn new(lines: Sender<Progress>) -> Self {
        Self { lines, parts: Mutex::default() }
    }

    fn line(&self, event: ProgressEvent) -> Option<Progress> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let part = |part: &str, phase: &str, done_bytes, total_bytes| {
            Some(Progress::Part { part: part.to_owned(), phase: phase.to_owned(), done_bytes, total_bytes })
        };
        match event {
            ProgressEvent::Archive { done, total } => part("archive", "uploading", done, total),
            ProgressEvent::Layers(layers) => {
                let short = |digest: &Digest| digest.hex().chars().take(SHORT_DIGITS).collect();
                *parts = layers.iter().map(|(digest, _)| short(digest)).collect();
                None
            }
            ProgressEvent::Layer { index, phase, done, total } => {
                let phase = match phase {
                    Phase::Fetching => "fetching",
                    Phase::Unpacking => "unpacking",
                    Phase::Done => "done",
                };
                part(parts.get(index)?, phase, done, Some(total))
            }
            ProgressEvent::Finishing => part("image", "finishing", 0, None),
        }
    }
}

impl lith_image::Progress for Teller {
    fn event(&self, event: ProgressEvent) {
        if let Some(line) = self.line(event) {
            let _ = self.lines.try_send(line);
        }
    }
}
