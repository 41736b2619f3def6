//! Files into and out of the task, as tar archives, by the rules of `docker cp`.
//!
//! Runs in the task's view, so paths and symlinks mean what they mean there and cannot lead out of it.

mod pack;
mod unpack;

use std::io::{self, Write};
use std::sync::Arc;

use lith_guest::messages::{BootStep, Outcome};
use lith_guest::wire::Stream;
use tar::Builder;

use crate::failure::{During, Failure};
use crate::inbox::InboxReader;
use crate::port::Port;
use crate::server::{Request, Server};
use crate::view::inside_task;

/// Code of a copy that failed.
const CODE: u8 = 1;

/// Sends `path` to the host.
pub(crate) fn serve_out(server: &Server, channel: u32, path: &str) -> Outcome {
    let port = Arc::clone(server.port());
    in_task(server, || {
        let mut archive = Builder::new(ChannelWriter { port: &port, channel });
        pack::send(&mut archive, path)?;
        archive.finish().during(BootStep::Root, "send the archive")?;
        port.eof(channel, Stream::Out);
        Ok(())
    })
}

/// Takes an archive from the host to `path`.
pub(crate) fn serve_in(server: &Server, channel: u32, request: &Request, path: &str) -> Outcome {
    let reader = InboxReader::new(Arc::clone(server.port()), channel, Arc::clone(request.inbox()));
    in_task(server, || unpack::receive(reader, path))
}

fn in_task(server: &Server, work: impl FnOnce() -> Result<(), Failure> + Send) -> Outcome {
    let result = server.running_task().and_then(|(_, namespaces)| {
        inside_task(&namespaces, work).during(BootStep::Root, "enter the task's root")?
    });
    match result {
        Ok(()) => Outcome::Done,
        Err(failure) => Outcome::Failed { code: CODE, message: failure.sentence().to_owned() },
    }
}

struct ChannelWriter<'a> {
    port: &'a Port,
    channel: u32,
}

impl Write for ChannelWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.port.send(self.channel, Stream::Out, bytes).map_err(gone)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
