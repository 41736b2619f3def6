//! From a pipe or a terminal of a process to its channel, as fast as the host takes it.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use lith_guest::wire::{DATA_BYTES_MAX, Stream};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::port::Port;

/// Copies until the end of `source`. When the other end of `ended` is closed, because the process is gone, what is in
/// the pipe is still copied, but processes that it left behind are not waited for.
pub(crate) fn run(port: &Port, channel: u32, stream: Stream, source: OwnedFd, ended: Option<OwnedFd>) {
    let mut source = File::from(source);
    let mut buffer = vec![0; DATA_BYTES_MAX];
    while wait_readable(&source, ended.as_ref()) {
        // Read no more than may be sent: the pipe keeps the rest, and its writer waits.
        let Ok(room) = port.room(channel) else { return };
        let count = match source.read(&mut buffer[..room.min(DATA_BYTES_MAX)]) {
            // A terminal without a user gives an error instead of an end.
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        if port.send(channel, stream, &buffer[..count]).is_err() {
            return;
        }
    }
    port.eof(channel, stream);
}

/// Waits for bytes or the end of them; false when there are none and the process is gone.
pub(crate) fn wait_readable(source: &File, ended: Option<&OwnedFd>) -> bool {
    let Some(ended) = ended else { return true };
    loop {
        let mut waiting =
            [PollFd::new(source, PollFlags::IN), PollFd::from_borrowed_fd(ended.as_fd(), PollFlags::IN)];
        if poll(&mut waiting, None).is_err() {
            continue;
        }
        if !waiting[0].revents().is_empty() {
            return true;
        }
        // The process ended; look once more, for it may have written between the two looks.
        let mut last = [PollFd::new(source, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        return poll(&mut last, Some(&now)).is_ok_and(|ready| ready > 0);
    }
}
