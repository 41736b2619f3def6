//! What the kernel tells of its devices, on a netlink socket. Owns the form of these messages; what follows from one is
//! for whoever listens.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recvfrom, socket_with};

/// The group in which the kernel speaks; udev has another one.
const GROUP: u32 = 1;
/// Longest message that is read: the kernel's variables have 2 KiB (`UEVENT_BUFFER_SIZE`), beside the device's path.
const MESSAGE_BYTES_MAX: usize = 8192;

/// What one message comes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// The disk of this name has another size.
    Resized(String),
    /// There were more messages than room for them.
    Lost,
    /// Nothing that anybody here wants to know.
    Other,
}

/// An open ear.
pub(crate) struct Uevents(OwnedFd);

impl Uevents {
    /// Listens from now on. The kernel keeps what is not taken, up to its bound for sockets.
    pub(crate) fn listen() -> io::Result<Uevents> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(KOBJECT_UEVENT))?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUP))?;
        Ok(Uevents(socket))
    }

    /// Takes a message, without waiting for one.
    pub(crate) fn take(&self) -> io::Result<Told> {
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        let (length, sender) = match recvfrom(&self.0, &mut buffer[..], flags) {
            Ok((_, length, sender)) => (length, sender),
            Err(Errno::NOBUFS) => return Ok(Told::Lost),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Told::Other),
            Err(error) => return Err(error.into()),
        };
        let sender = sender.and_then(|sender| SocketAddrNetlink::try_from(sender).ok());
        // Of one that is longer than the buffer, half would be parsed.
        Ok(buffer.get(..length).map_or(Told::Other, |message| understand(sender, message)))
    }
}

impl AsFd for Uevents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Only the kernel is believed; whoever is root here may send messages too.
fn understand(sender: Option<SocketAddrNetlink>, message: &[u8]) -> Told {
    let is_kernel = sender.is_some_and(|sender| sender.pid() == 0);
    let disk = resized_disk(message).filter(|_| is_kernel);
    disk.map_or(Told::Other, |name| Told::Resized(name.to_owned()))
}

/// The disk that has another size, if this is what the message says: `change@/devices/…` and variables, a zero byte
/// after each.
fn resized_disk(message: &[u8]) -> Option<&str> {
    let value = |name: &str| {
        let mut variables = message.split(|byte| *byte == 0).skip(1);
        variables.find_map(|variable| variable.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
    };
    let expected: [(&str, &[u8]); 4] =
        [("ACTION", b"change"), ("SUBSYSTEM", b"block"), ("DEVTYPE", b"disk"), ("RESIZE", b"1")];
    if expected.iter().any(|(name, expected)| value(name) != Some(expected)) {
        return None;
    }
    std::str::from_utf8(value("DEVNAME")?).ok().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    /// What virtio-blk sends for a capacity that changed.
    const RESIZED: &str = "change@/devices/platform/virtio-mmio.3/virtio3/block/vdc\0ACTION=change\0\
        DEVPATH=/devices/platform/virtio-mmio.3/virtio3/block/vdc\0SUBSYSTEM=block\0RESIZE=1\0MAJOR=254\0MINOR=32\0\
        DEVNAME=vdc\0DEVTYPE=disk\0DISKSEQ=5\0SEQNUM=901\0";

    #[test]
    fn only_a_disk_of_another_size_counts() {
        assert_eq!(resized_disk(RESIZED.as_bytes()), Some("vdc"));
        for (old, new) in [
            ("ACTION=change", "ACTION=add"),
            ("SUBSYSTEM=block", "SUBSYSTEM=net"),
            ("DEVTYPE=disk", "DEVTYPE=partition"),
            ("RESIZE=1", "RESIZE=0"),
            ("RESIZE=1", "RESIZE=11"),
            ("RESIZE=1\0", ""),
            // What a process writes into the disk's `uevent` comes back with a prefix.
            ("RESIZE=1", "SYNTH_ARG_RESIZE=1"),
            ("DEVNAME=vdc", "DEVNAME="),
            ("DEVNAME=vdc\0", ""),
            ("\0", "\n"),
        ] {
            assert_eq!(resized_disk(RESIZED.replace(old, new).as_bytes()), None, "{new}");
        }
        let mut odd = RESIZED.as_bytes().to_vec();
        let name = RESIZED.find("vdc\0DEVTYPE").unwrap();
        odd[name] = 0xFF;
        assert_eq!(resized_disk(&odd), None);
        for odd in ["", "\0", "\0\0\0", "=", "\0=\0=1", "\0ACTION", "\0ACTION=change"] {
            assert_eq!(resized_disk(odd.as_bytes()), None, "{odd:?}");
        }
    }

    proptest! {
        #[test]
        fn no_message_is_too_strange(bytes: Vec<u8>, cut in any::<proptest::sample::Index>()) {
            resized_disk(&bytes);
            let message = RESIZED.as_bytes();
            resized_disk(&[&message[..cut.index(message.len())], bytes.as_slice()].concat());
        }
    }

    #[test]
    fn what_no_kernel_sent_is_not_believed() {
        let understood = |pid: Option<u32>| {
            understand(pid.map(|pid| SocketAddrNetlink::new(pid, GROUP)), RESIZED.as_bytes())
        };
        assert_eq!(understood(Some(0)), Told::Resized("vdc".to_owned()));
        assert_eq!(understood(Some(1)), Told::Other);
        assert_eq!(understood(None), Told::Other);
    }
}
