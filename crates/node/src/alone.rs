//! What makes a lith the only one of its machine's network: TAPs, rules and users of two would be the same.
//!
//! An abstract Unix socket is the lock: its name belongs to the network namespace, as the network does, and the kernel
//! drops it with the process, however that ends.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use lith_api::error::{Code, Failure};

const NAME: &str = "lith.network";

/// Held while this lives.
#[derive(Debug)]
pub struct Alone {
    _socket: UnixListener,
}

impl Alone {
    /// Takes it.
    ///
    /// # Errors
    /// When another lith runs on this machine, which is named.
    pub fn take() -> Result<Self, Failure> {
        let failed =
            |error: io::Error| Failure::new(Code::Machine, format!("cannot make the socket {NAME}: {error}"));
        let address = SocketAddr::from_abstract_name(NAME).map_err(failed)?;
        match UnixListener::bind_addr(&address) {
            Ok(socket) => Ok(Self { _socket: socket }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let holder = holder(&address).map_or_else(String::new, |pid| format!(" (process {pid})"));
                let message = format!("another lith runs on this machine{holder}, with other folders");
                Err(Failure::new(Code::Conflict, message).hint(
                    "two of them would take each other's network: deploy there, or stop it with `lith down` and its \
                     `--run-dir` and `--data-dir`",
                ))
            }
            Err(error) => Err(failed(error)),
        }
    }
}

/// The process that listens there.
fn holder(address: &SocketAddr) -> Option<i32> {
    let stream = UnixStream::connect_addr(address).ok()?;
    Some(rustix::net::sockopt::socket_peercred(&stream).ok()?.pid.as_raw_nonzero().get())
}
