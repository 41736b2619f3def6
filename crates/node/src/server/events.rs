//! Events for those who watch: always read from the database, page by page, in order. What was stored only wakes them, so
//! that none can be lost or overtaken, however slow the reader.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::Stream;
use lith_api::error::Failure;
use lith_api::event::Event;
use lith_core::time::Time;
use lith_store::{Store, StoreError};
use tokio::sync::watch;

use super::{Server, database};

/// Kind of the event that says that earlier ones are not kept any more.
const MISSED: &str = "missed";

/// Where a stream of events begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// With the next one.
    Now,
    /// With the first at or after a time, of those that are kept.
    Since(Time),
    /// After the event with this id: what was missed is told.
    After(u64),
}

struct Watcher {
    server: Arc<Server>,
    last_event: watch::Receiver<u64>,
    /// The last event that was handed out.
    after: u64,
    /// Whether events between `after` and the next one would be missed, rather than were not asked for.
    is_continued: bool,
    page: VecDeque<Event>,
}

impl Server {
    /// Events from `begin` on, without end.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn events(
        self: &Arc<Self>,
        begin: Begin,
    ) -> Result<impl Stream<Item = Event> + Send + use<>, Failure> {
        let last_event = self.last_event.subscribe();
        let after = self
            .blocking(move |server| first_after(&mut server.store(), begin).map_err(|error| database(&error)))
            .await?;
        let server = Arc::clone(self);
        let is_continued = match begin {
            Begin::Now | Begin::After(_) => true,
            Begin::Since(_) => false,
        };
        let watcher = Watcher { server, last_event, after, is_continued, page: VecDeque::new() };
        Ok(futures_util::stream::unfold(watcher, |mut watcher| async move {
            let event = watcher.next().await?;
            Some((event, watcher))
        }))
    }
}

fn first_after(store: &mut Store, begin: Begin) -> Result<u64, StoreError> {
    let last = store.last_event()?;
    match begin {
        Begin::Now => Ok(last),
        Begin::Since(time) => store.last_event_before(time),
        // A number that was never given comes from another database: all that follows here is new to its owner.
        Begin::After(id) if id > last => Ok(0),
        Begin::After(id) => Ok(id),
    }
}

impl Watcher {
    async fn next(&mut self) -> Option<Event> {
        while self.page.is_empty() {
            // Before the look, so that what is stored meanwhile makes for another one.
            self.last_event.borrow_and_update();
            let after = self.after;
            let page = self
                .server
                .blocking(move |server| server.store().events_after(after).map_err(|error| database(&error)));
            match page.await {
                Ok(page) if page.is_empty() => self.last_event.changed().await.ok()?,
                Ok(page) => self.page = page.into(),
                Err(failure) => {
                    tracing::error!(error = %failure.message, "a stream of events ends");
                    return None;
                }
            }
        }
        let first = self.page.front()?;
        if self.is_continued && first.id > self.after + 1 {
            let missed = missed(self.after, first);
            self.after = missed.id;
            return Some(missed);
        }
        let event = self.page.pop_front()?;
        (self.after, self.is_continued) = (event.id, true);
        Some(event)
    }
}

/// What is said instead of the events between `after` and `next`. Its id is that of the last of them, so that a reader
/// who comes back goes on behind it.
fn missed(after: u64, next: &Event) -> Event {
    let count = next.id - after - 1;
    let (noun, verb) = if count == 1 { ("event", "is") } else { ("events", "are") };
    Event {
        id: next.id - 1,
        time_ms: next.time_ms,
        job: None,
        task: None,
        kind: MISSED.to_owned(),
        message: format!("{count} {noun} before the next one {verb} not kept any more"),
    }
}
