//! The half without rights: reads what guests and other resolvers send. It ends with its parent.

use std::collections::VecDeque;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::answer::Answering;
use crate::form::ToChild;
use crate::frame::{self, POLICY_BYTES_MAX};
use crate::link::Link;
use crate::{serve, sys};

/// How often it is told what was refused.
const TELL_INTERVAL: Duration = Duration::from_millis(250);
/// Read at once from the parent.
const READ_BYTES: usize = 64 << 10;

/// The whole of the process. Its arguments are the numbers of the descriptors that it inherits: the channel to the parent,
/// then UDP and TCP for each address. To be called once, before anything else opens files.
#[must_use]
pub fn main(arguments: &[String]) -> ExitCode {
    match inherited(arguments).and_then(|(channel, pairs)| run(channel, pairs)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "questions of guests are not answered any more");
            ExitCode::FAILURE
        }
    }
}

fn inherited(arguments: &[String]) -> io::Result<(UnixStream, Vec<(UdpSocket, TcpListener)>)> {
    let adopt = |text: &String| {
        let descriptor = text.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
        sys::adopt(descriptor)
    };
    let mut descriptors = arguments.iter().map(adopt).collect::<io::Result<VecDeque<OwnedFd>>>()?;
    let channel = descriptors.pop_front().ok_or(io::ErrorKind::InvalidInput)?;
    let mut pairs = Vec::new();
    while let (Some(udp), Some(tcp)) = (descriptors.pop_front(), descriptors.pop_front()) {
        pairs.push((udp.into(), tcp.into()));
    }
    Ok((channel.into(), pairs))
}

/// The descriptors that the process must inherit, in order.
pub(crate) fn descriptors(channel: UnixStream, pairs: &[crate::sockets::Pair]) -> io::Result<Vec<OwnedFd>> {
    let mut descriptors = vec![channel.into()];
    for pair in pairs {
        descriptors.extend([pair.udp.try_clone()?, pair.tcp.try_clone()?]);
    }
    Ok(descriptors)
}

fn run(channel: UnixStream, pairs: Vec<(UdpSocket, TcpListener)>) -> io::Result<()> {
    channel.set_nonblocking(true)?;
    // One thread: it is fast enough for every guest's limit, and what is in the hands of a guest has no more.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(answer(channel, pairs))
}

/// Each part goes on for ever; the first that ends, ends the process.
async fn answer(channel: UnixStream, pairs: Vec<(UdpSocket, TcpListener)>) -> io::Result<()> {
    let (reader, writer) = tokio::net::UnixStream::from_std(channel)?.into_split();
    let (link, frames) = Link::new();
    let answering = Arc::new(Answering::new(link));
    let mut parts: JoinSet<io::Result<()>> = JoinSet::new();
    let (told, is_told) = oneshot::channel();
    parts.spawn(write(writer, frames));
    parts.spawn(read(reader, Arc::clone(&answering), told));
    // Before it is known who is who, nobody's question can be answered.
    if is_told.await.is_err() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    for (udp, tcp) in pairs {
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        parts.spawn(serve::udp(tokio::net::UdpSocket::from_std(udp)?, Arc::clone(&answering)));
        let (tcp, answering) = (tokio::net::TcpListener::from_std(tcp)?, Arc::clone(&answering));
        parts.spawn(async move {
            serve::tcp(tcp, answering).await;
            Ok(())
        });
    }
    parts.spawn(tell(Arc::clone(&answering)));
    answering.link().ready().await?;
    match parts.join_next().await {
        Some(Ok(result)) => result,
        Some(Err(error)) => Err(io::Error::other(error)),
        None => Ok(()),
    }
}

async fn write(mut writer: OwnedWriteHalf, mut frames: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    while let Some(frame) = frames.recv().await {
        writer.write_all(&frame).await?;
    }
    Ok(())
}

/// Hears the parent, and tells when the first policy has come.
async fn read(
    mut reader: OwnedReadHalf,
    answering: Arc<Answering>,
    told: oneshot::Sender<()>,
) -> io::Result<()> {
    let mut told = Some(told);
    let mut received = Vec::new();
    let mut bytes = vec![0; READ_BYTES];
    loop {
        let length = reader.read(&mut bytes).await?;
        if length == 0 {
            // The parent has ended.
            return Ok(());
        }
        received.extend_from_slice(bytes.get(..length).unwrap_or_default());
        while let Some(message) = frame::take(&mut received, POLICY_BYTES_MAX).map_err(io::Error::other)? {
            match message {
                ToChild::Policy { number, policy } => {
                    answering.set_policy(&policy).map_err(io::Error::other)?;
                    answering.link().applied(number).await?;
                    // Only the first is waited for.
                    let _ = told.take().map(|told| told.send(()));
                }
                ToChild::Upstreams(servers) => answering.set_upstreams(servers),
                ToChild::Opened { number, outcome } => answering.link().opened(number, outcome),
            }
        }
    }
}

/// Tells the parent what was refused, at a pace that no guest sets.
async fn tell(answering: Arc<Answering>) -> io::Result<()> {
    let mut ticks = tokio::time::interval(TELL_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let refused = answering.drain_refused();
        // Parts, so that none is longer than the parent reads.
        for part in refused.chunks(TOLD_AT_ONCE) {
            answering.link().refused(part.to_vec()).await?;
        }
    }
}

/// Names in one message: with the longest names and tasks still far below the limit.
const TOLD_AT_ONCE: usize = 256;
