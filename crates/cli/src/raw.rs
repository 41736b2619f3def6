//! The terminal's mode while it belongs to someone else, and its way back on every path: drop, panic, signal.

use std::io::Stdin;
use std::sync::{Mutex, Once};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// The mode to go back to, for the panic hook: in release builds a panic runs no destructors.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);
static HOOK: Once = Once::new();

/// While it lives, the terminal of standard input is in another mode.
#[derive(Debug)]
pub(crate) struct Guard {
    _private: (),
}

impl Guard {
    /// Every byte as it is typed, uninterpreted.
    pub(crate) fn raw() -> std::io::Result<Self> {
        Self::enter(Termios::make_raw)
    }

    /// As it was, but without showing what is typed.
    pub(crate) fn silent() -> std::io::Result<Self> {
        Self::enter(|mode| mode.local_modes.remove(LocalModes::ECHO))
    }

    fn enter(change: impl FnOnce(&mut Termios)) -> std::io::Result<Self> {
        HOOK.call_once(|| {
            let hook = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore();
                hook(panic);
            }));
        });
        let before = tcgetattr(stdin())?;
        let mut mode = before.clone();
        change(&mut mode);
        if let Ok(mut slot) = BEFORE.lock() {
            *slot = Some(before);
        }
        let guard = Self { _private: () };
        tcsetattr(stdin(), OptionalActions::Now, &mode)?;
        Ok(guard)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    let before = BEFORE.lock().ok().and_then(|mut slot| slot.take());
    if let Some(before) = before {
        // A terminal that is gone needs no restoring.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &before);
    }
}

fn stdin() -> Stdin {
    std::io::stdin()
}
