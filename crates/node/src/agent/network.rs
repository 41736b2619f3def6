//! Notices that somebody else changed the machine's packet filter, and makes the agent look: until lith's rules are back,
//! every guest is open.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lith_net::watch::{Disturbance, Watch};

use super::wake::Waker;

/// After a change of others: engines that start make dozens at once.
const PAUSE_OTHERS: Duration = Duration::from_secs(1);
/// After rules of lith were taken away: quick, but not without end when two programs fight.
const PAUSE_OURS: Duration = Duration::from_millis(100);

/// Whether the network was disturbed since it was last looked at.
#[derive(Debug, Default)]
pub(crate) struct NetworkWatch {
    is_disturbed: Arc<AtomicBool>,
}

impl NetworkWatch {
    /// Begins to listen, on a thread of its own that ends with the process. Without it, the agent still looks by itself.
    pub(crate) fn start(&self, waker: Waker) {
        let mut watch = match Watch::open() {
            Ok(watch) => watch,
            Err(error) => {
                tracing::warn!(%error, "changes of the packet filter are noticed late");
                return;
            }
        };
        let is_disturbed = Arc::clone(&self.is_disturbed);
        let listen = move || {
            loop {
                let pause = match watch.wait() {
                    Ok(Disturbance::Ours) => PAUSE_OURS,
                    Ok(Disturbance::Others) => PAUSE_OTHERS,
                    Err(error) => {
                        return tracing::warn!(%error, "changes of the packet filter are noticed late");
                    }
                };
                is_disturbed.store(true, Ordering::SeqCst);
                waker.wake();
                std::thread::sleep(pause);
            }
        };
        if let Err(error) = std::thread::Builder::new().name("network".to_owned()).spawn(listen) {
            tracing::warn!(%error, "changes of the packet filter are noticed late");
        }
    }

    /// Whether it was; asking clears it.
    pub(crate) fn take_disturbance(&self) -> bool {
        self.is_disturbed.swap(false, Ordering::SeqCst)
    }
}
