//! The sockets at which guests ask: messages over UDP, connections over TCP. Owns how many connections and questions of
//! one are there at a time, and how long somebody who says nothing is waited for.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use crate::answer::{Answering, Begun};
use crate::message::{QUESTION_BYTES_MAX, Transport};

/// Connections of all guests at a time: far below the files that the process may have open.
const CONNECTIONS_MAX: usize = 512;
/// Answers of one connection that are being made or sent.
const PIPELINED_MAX: usize = 16;
/// How long a connection may be silent (RFC 7766 asks for seconds).
const IDLE: Duration = Duration::from_secs(10);
/// How long a message may take, once it has begun, and an answer to be taken.
const MESSAGE: Duration = Duration::from_secs(5);
/// After the system had no room for a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers messages over UDP.
///
/// # Errors
/// The socket is none any more.
pub(crate) async fn udp(socket: UdpSocket, answering: Arc<Answering>) -> io::Result<()> {
    let socket = Arc::new(socket);
    // One byte more, so that a longer one is seen to be.
    let mut bytes = vec![0; QUESTION_BYTES_MAX + 1];
    loop {
        let (length, from) = match socket.recv_from(&mut bytes).await {
            Ok(received) => received,
            // What the network says of an answer before.
            Err(error) if is_of_the_other_end(&error) => continue,
            Err(error) => return Err(error),
        };
        let Some(guest) = answering.guest(from.ip()) else {
            continue;
        };
        let message = bytes.get(..length).unwrap_or_default();
        match answering.begin(&guest, message, Transport::Udp) {
            Begun::Nothing => {}
            // What does not fit into the queue of a TAP is lost, as on any network.
            Begun::Reply(reply) => drop(socket.try_send_to(&reply, from)),
            Begun::Ask(asking) => {
                let (socket, answering) = (Arc::clone(&socket), Arc::clone(&answering));
                tokio::spawn(async move {
                    let reply = answering.finish(*asking).await;
                    drop(socket.try_send_to(&reply, from));
                });
            }
        }
    }
}

fn is_of_the_other_end(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, PermissionDenied,
    };
    matches!(
        error.kind(),
        ConnectionRefused | ConnectionReset | HostUnreachable | NetworkUnreachable | PermissionDenied
    )
}

/// Answers connections over TCP, for as long as there is somebody to answer.
pub(crate) async fn tcp(listener: TcpListener, answering: Arc<Answering>) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else {
            return;
        };
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(_) => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Some(own) = answering.guest(from.ip()).and_then(|guest| guest.connection()) else {
            continue;
        };
        let answering = Arc::clone(&answering);
        tokio::spawn(async move {
            // How a connection ends is the guest's business.
            let _ = connection(stream, from, answering).await;
            drop((permit, own));
        });
    }
}

async fn connection(stream: TcpStream, from: SocketAddr, answering: Arc<Answering>) -> io::Result<()> {
    // Answers are small, and somebody waits for each.
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    let (replies, receiver) = mpsc::channel(PIPELINED_MAX);
    // With the last of those who may still answer, the queue ends, and so does whoever writes.
    let (read, written) =
        tokio::join!(read_questions(reader, from, answering, replies), write_answers(writer, receiver));
    read.and(written)
}

async fn read_questions(
    mut reader: OwnedReadHalf,
    from: SocketAddr,
    answering: Arc<Answering>,
    replies: mpsc::Sender<Vec<u8>>,
) -> io::Result<()> {
    let pipelined = Arc::new(Semaphore::new(PIPELINED_MAX));
    loop {
        let Ok(permit) = Arc::clone(&pipelined).acquire_owned().await else {
            return Ok(());
        };
        let mut length = [0; 2];
        timeout(IDLE, reader.read_exact(&mut length)).await??;
        let mut bytes = vec![0; u16::from_be_bytes(length).into()];
        if bytes.len() > QUESTION_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        timeout(MESSAGE, reader.read_exact(&mut bytes)).await??;
        // Its rights are those of now.
        let guest = answering.guest(from.ip()).ok_or(io::ErrorKind::PermissionDenied)?;
        match answering.begin(&guest, &bytes, Transport::Tcp) {
            Begun::Nothing => return Err(io::ErrorKind::InvalidData.into()),
            Begun::Reply(reply) => replies.send(reply).await.map_err(|_| io::ErrorKind::BrokenPipe)?,
            Begun::Ask(asking) => {
                let (replies, answering) = (replies.clone(), Arc::clone(&answering));
                tokio::spawn(async move {
                    let reply = answering.finish(*asking).await;
                    // Whoever asked may have gone.
                    let _ = replies.send(reply).await;
                    drop(permit);
                });
            }
        }
    }
}

async fn write_answers(mut writer: OwnedWriteHalf, mut replies: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    while let Some(reply) = replies.recv().await {
        let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
        let bytes = [&length.to_be_bytes()[..], &reply].concat();
        timeout(MESSAGE, writer.write_all(&bytes)).await??;
    }
    Ok(())
}
