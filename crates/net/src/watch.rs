//! Noticing that somebody else changed the packet filter: a reload of the host's firewall takes lith's rules away, and
//! every guest is open until they are back.
//!
//! Listens to the kernel's own notices (`linux/netfilter/nf_tables.h`). Must not repair: it only says when to look.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, netlink, recv, socket_with};

use crate::message::{self, Message};

/// `NFNLGRP_NFTABLES`, as a bit.
const GROUP: u32 = 1 << (7 - 1);
/// Upper byte of every message's type (`NFNL_SUBSYS_NFTABLES`).
const SUBSYSTEM: u16 = 10 << 8;
const NEW_TABLE: u16 = SUBSYSTEM;
const DELETE_TABLE: u16 = SUBSYSTEM + 2;
const NEW_CHAIN: u16 = SUBSYSTEM + 3;
const DELETE_CHAIN: u16 = SUBSYSTEM + 5;
/// Ends what one transaction changed.
const NEW_GENERATION: u16 = SUBSYSTEM + 15;
/// After the header: family, version, resource.
const FAMILY_BYTES: usize = 4;
/// Name of the table, in messages about tables and about chains.
const TABLE: u16 = 1;
/// The kernel joins notices up to a page or so; what is longer is cut, and counts as a change.
const DATAGRAM_BYTES: usize = 64 << 10;

/// How much somebody changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Disturbance {
    /// Tables or chains of others: what the host forwards may have changed.
    Others,
    /// A table of lith is gone.
    Ours,
}

/// Notices of changes in the network namespace that it was opened in.
#[derive(Debug)]
pub struct Watch(OwnedFd);

impl Watch {
    /// Begins to listen.
    ///
    /// # Errors
    /// The kernel has no nftables.
    pub fn open() -> io::Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(netlink::NETFILTER),
        )?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUP))?;
        Ok(Self(socket))
    }

    /// Waits until somebody has changed something. What [`Network::apply`](crate::Network::apply) does with guests is
    /// no disturbance.
    ///
    /// # Errors
    /// The socket broke.
    pub fn wait(&self) -> io::Result<Disturbance> {
        let mut buffer = vec![0; DATAGRAM_BYTES];
        let mut transaction = Transaction::default();
        loop {
            let length = match recv(&self.0, &mut *buffer, RecvFlags::empty()) {
                Ok((length, _)) => length,
                Err(Errno::INTR) => continue,
                // More came than fits: what was lost may have been about us.
                Err(Errno::NOBUFS) => return Ok(Disturbance::Ours),
                Err(error) => return Err(error.into()),
            };
            for notice in message::messages(buffer.get(..length).unwrap_or_default()) {
                if let Some(disturbance) = transaction.take(&notice) {
                    return Ok(disturbance);
                }
            }
        }
    }
}

/// What one transaction has changed so far.
#[derive(Debug, Default)]
struct Transaction {
    /// Families in which a table of ours was deleted and not made again.
    lost: Vec<u8>,
    others: bool,
}

impl Transaction {
    /// The verdict, at the end of a transaction that calls for one.
    fn take(&mut self, notice: &Message<'_>) -> Option<Disturbance> {
        if notice.kind == NEW_GENERATION {
            let done = std::mem::take(self);
            let ours = (!done.lost.is_empty()).then_some(Disturbance::Ours);
            return ours.or(done.others.then_some(Disturbance::Others));
        }
        if ![NEW_TABLE, DELETE_TABLE, NEW_CHAIN, DELETE_CHAIN].contains(&notice.kind) {
            return None;
        }
        let family = *notice.body.first()?;
        let attributes = notice.body.get(FAMILY_BYTES..)?;
        let table = message::attributes(attributes).find(|attribute| attribute.kind == TABLE)?;
        if table.value != b"lith\0" {
            self.others = true;
        } else if notice.kind == DELETE_TABLE {
            self.lost.push(family);
        } else if notice.kind == NEW_TABLE {
            self.lost.retain(|lost| *lost != family);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_disturbance() {
        const INET: u8 = 1;
        const NETDEV: u8 = 5;
        let check = |notices: &[(u16, u8, &str)], expected: Option<Disturbance>| {
            let mut transaction = Transaction::default();
            for (kind, family, table) in notices {
                let name = [table.as_bytes(), &[0]].concat();
                let body = [&[*family, 0, 0, 0][..], &message::attribute(TABLE, &name)].concat();
                assert_eq!(transaction.take(&Message { kind: *kind, body: &body }), None);
            }
            let end = Message { kind: NEW_GENERATION, body: &[] };
            assert_eq!(transaction.take(&end), expected, "{notices:?}");
        };
        check(&[(DELETE_TABLE, INET, "lith")], Some(Disturbance::Ours));
        check(&[(DELETE_TABLE, INET, "lith"), (NEW_TABLE, INET, "lith")], None);
        check(&[(DELETE_TABLE, NETDEV, "lith"), (NEW_TABLE, INET, "lith")], Some(Disturbance::Ours));
        check(&[(NEW_TABLE, INET, "filter")], Some(Disturbance::Others));
        check(&[(DELETE_CHAIN, INET, "filter"), (DELETE_TABLE, INET, "lith")], Some(Disturbance::Ours));
        check(&[(NEW_CHAIN, INET, "lith")], None);
        check(&[], None);
    }
}
