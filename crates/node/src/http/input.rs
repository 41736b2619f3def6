//! Bodies of requests that are read on a blocking thread: archives.

use std::io;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use tokio::io::AsyncRead;
use tokio_util::io::{StreamReader, SyncIoBridge};

/// How long a client may go on sending after its request has failed.
const REST_WAIT: Duration = Duration::from_secs(10);

/// A body as it comes.
pub(super) type Input = StreamReader<BoxStream<'static, io::Result<Bytes>>, Bytes>;

/// For reading a body on a blocking thread.
pub(super) fn reader(body: Body) -> SyncIoBridge<Input> {
    SyncIoBridge::new(StreamReader::new(body.into_data_stream().map_err(io::Error::other).boxed()))
}

/// Reads what a client still sends, until it has read our answer and leaves: a connection that is closed on a sender
/// takes the answer along.
pub(super) async fn take_rest(mut rest: impl AsyncRead + Unpin) {
    let _ = tokio::time::timeout(REST_WAIT, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
}
