//! Whether a running task answers: a connection to each TCP port that it publishes or declares, but to none of ranges.
//!
//! A guest has nothing between its port and the caller, so that a connection that opens was accepted by the app. A task
//! without such a port counts as ready when it has run for a moment: one that fails at once must not look well.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// How long a task without ports must run to count as ready: longer than a program takes to find its configuration
/// missing, also under emulation.
const SETTLED_AFTER: Duration = Duration::from_secs(2);
/// A guest on the same machine answers in microseconds; under emulation and load in milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Between attempts at first: what a person does not notice.
const INTERVAL_FIRST: Duration = Duration::from_millis(50);
/// Between attempts at last: a database that recovers for an hour is not hammered.
const INTERVAL_MAX: Duration = Duration::from_secs(2);

/// Returns when the task answers. `progress` is told which port does not answer yet.
pub(crate) async fn wait(address: Ipv4Addr, ports: Vec<u16>, progress: impl Fn(String)) {
    if ports.is_empty() {
        sleep(SETTLED_AFTER).await;
        return;
    }
    for port in ports {
        let mut interval = INTERVAL_FIRST;
        let mut attempts = 0u32;
        while !answers(SocketAddrV4::new(address, port)).await {
            attempts += 1;
            if attempts == 5 {
                progress(format!("runs, but nothing answers on its port {port} yet"));
            }
            sleep(interval).await;
            interval = (interval * 2).min(INTERVAL_MAX);
        }
    }
}

async fn answers(address: SocketAddrV4) -> bool {
    matches!(timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await, Ok(Ok(_)))
}
