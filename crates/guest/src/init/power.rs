//! The end of the machine.

use std::time::Duration;

use rustix::system::{RebootCommand, reboot};

/// How long PID 1 rests between attempts once the machine refused to stop: the host ends it meanwhile.
const REST: Duration = Duration::from_secs(1);

/// Powers off. Where that does not work, waits for the host to end the machine.
pub(crate) fn off() -> ! {
    loop {
        // An error leaves nothing to do but to wait: PID 1 must not return.
        let _ = reboot(RebootCommand::PowerOff);
        std::thread::sleep(REST);
    }
}
