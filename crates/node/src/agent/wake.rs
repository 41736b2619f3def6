//! How the agent's thread is woken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

/// Makes the agent look soon. Cheap; many calls before it looks are one.
#[derive(Debug, Clone)]
pub struct Waker {
    sender: SyncSender<()>,
    is_draining: Arc<AtomicBool>,
}

impl Waker {
    /// Makes the agent look.
    pub fn wake(&self) {
        match self.sender.try_send(()) {
            // Full: it will look anyway. Disconnected: it has ended.
            Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
        }
    }

    /// Makes the agent stop every task, remove the network, and end.
    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::SeqCst);
        self.wake();
    }
}

/// The agent's end.
#[derive(Debug)]
pub(crate) struct Wake {
    receiver: Receiver<()>,
    is_draining: Arc<AtomicBool>,
    /// Keeps the channel open, so that waiting never spins.
    sender: SyncSender<()>,
}

impl Wake {
    /// Waits until woken, or for `time`.
    pub(crate) fn wait(&self, time: Duration) {
        let _ = self.receiver.recv_timeout(time);
    }

    /// Another end for waking.
    pub(crate) fn waker(&self) -> Waker {
        Waker { sender: self.sender.clone(), is_draining: Arc::clone(&self.is_draining) }
    }

    /// Whether everything is to be stopped.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::SeqCst)
    }
}

/// Both ends.
pub(crate) fn pair() -> (Waker, Wake) {
    let (sender, receiver) = sync_channel(1);
    let is_draining = Arc::new(AtomicBool::new(false));
    let waker = Waker { sender: sender.clone(), is_draining: Arc::clone(&is_draining) };
    (waker, Wake { receiver, is_draining, sender })
}
