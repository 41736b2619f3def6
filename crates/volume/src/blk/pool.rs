//! The few threads that do what would hold up a queue: reads that are not in memory, flushes beside other requests, and
//! whole ranges. Owns when threads come and go: the first job makes one, and who had nothing to do for a while ends, so that
//! an idle disk has none.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::STACK_BYTES;
use super::worker::Job;
use crate::lock;

/// Threads of one connection: as many reads as a medium needs to be kept busy; more would only queue there.
const THREADS_MAX: usize = 16;

/// How long a thread waits for a job: longer than the pauses in a burst, and its few pages are worth no more.
const IDLE: Duration = Duration::from_secs(2);

/// The pool. Its jobs are bounded by the rings they come from.
#[derive(Clone)]
pub(super) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    idle: usize,
    threads: usize,
    /// Joined when another comes, or at the end.
    handles: Vec<JoinHandle<()>>,
    has_ended: bool,
}

impl Pool {
    /// A pool without threads.
    pub(super) fn new() -> Self {
        let shared = Shared { state: Mutex::default(), changed: Condvar::new() };
        Self { shared: Arc::new(shared) }
    }

    /// Has a job done; it is done at once if there can be no thread.
    pub(super) fn submit(&self, job: Job) {
        let mut state = self.shared.lock();
        if state.idle <= state.jobs.len() && state.threads < THREADS_MAX {
            state.handles.retain(|handle| !handle.is_finished());
            let shared = Arc::clone(&self.shared);
            let thread = thread::Builder::new().name("blk-pool".to_owned()).stack_size(STACK_BYTES);
            match thread.spawn(move || shared.work()) {
                Ok(handle) => {
                    state.handles.push(handle);
                    state.threads += 1;
                }
                Err(error) if state.threads == 0 => {
                    drop(state);
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "no thread: request done inline"
                    );
                    return job.run();
                }
                // The others will come to it.
                Err(_) => {}
            }
        }
        state.jobs.push_back(job);
        drop(state);
        self.shared.changed.notify_one();
    }

    /// Ends all threads, after all jobs.
    pub(super) fn end(&self) {
        let mut state = self.shared.lock();
        state.has_ended = true;
        let handles = std::mem::take(&mut state.handles);
        drop(state);
        self.shared.changed.notify_all();
        for handle in handles {
            // A panic has been reported where it was.
            let _ = handle.join();
        }
    }
}

impl Shared {
    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                job.run();
                state = self.lock();
                continue;
            }
            if state.has_ended {
                break;
            }
            state.idle += 1;
            let waited = self.changed.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = waited.0;
            state.idle -= 1;
            if waited.1.timed_out() && state.jobs.is_empty() {
                break;
            }
        }
        state.threads -= 1;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}
