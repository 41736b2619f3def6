//! Notices that somebody else changed the machine's packet filter or its addresses, and makes the agent look: until lith's
//! rules are back, every guest is open, and until they know a new network, it counts as a part of the internet.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lith_net::watch::{Disturbance, Watch};

use super::wake::Waker;

/// After a change of others, or of addresses: engines that start make dozens at once.
const PAUSE_OTHERS: Duration = Duration::from_secs(1);
/// After rules of lith were taken away: quick, but not without end when two programs fight.
const PAUSE_OURS: Duration = Duration::from_millis(100);

/// How much the network was disturbed since it was last looked at.
#[derive(Debug, Default)]
pub(crate) struct NetworkWatch {
    noticed: Arc<Mutex<Noticed>>,
}

#[derive(Debug, Default)]
struct Noticed {
    disturbance: Option<Disturbance>,
    /// Nothing is noticed any more, so anything may have happened.
    is_deaf: bool,
}

impl NetworkWatch {
    /// Begins to listen, on a thread of its own that ends with the process. Without it, the agent still looks by itself.
    pub(crate) fn start(&self, waker: Waker) {
        let mut watch = match Watch::open() {
            Ok(watch) => watch,
            Err(error) => {
                tracing::warn!(%error, "changes of the packet filter are noticed late");
                super::lock(&self.noticed).is_deaf = true;
                return;
            }
        };
        let noticed = Arc::clone(&self.noticed);
        let listen = move || {
            loop {
                let disturbance = match watch.wait() {
                    Ok(disturbance) => disturbance,
                    Err(error) => {
                        super::lock(&noticed).is_deaf = true;
                        return tracing::warn!(%error, "changes of the packet filter are noticed late");
                    }
                };
                let pause = match disturbance {
                    Disturbance::Ours => PAUSE_OURS,
                    Disturbance::Others | Disturbance::Addresses => PAUSE_OTHERS,
                };
                let mut noticed = super::lock(&noticed);
                noticed.disturbance = noticed.disturbance.max(Some(disturbance));
                drop(noticed);
                waker.wake();
                std::thread::sleep(pause);
            }
        };
        if let Err(error) = std::thread::Builder::new().name("network".to_owned()).spawn(listen) {
            tracing::warn!(%error, "changes of the packet filter are noticed late");
        }
    }

    /// How much it was; asking clears it.
    pub(crate) fn take_disturbance(&self) -> Option<Disturbance> {
        super::lock(&self.noticed).disturbance.take()
    }

    /// Whether changes of others are not noticed, so that only looking tells.
    pub(crate) fn is_deaf(&self) -> bool {
        super::lock(&self.noticed).is_deaf
    }
}
