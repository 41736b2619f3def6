//! Noticing that somebody else changed the packet filter: a reload of the host's firewall takes lith's rules away, and
//! every guest is open until they are back. A person who deletes or adds a rule of lith's is noticed too; what this process
//! does itself is known by its stamp (`stamp.rs`).
//!
//! So is an address of the host that comes or goes: with it the networks that are no internet, and the ways to published
//! ports.
//!
//! Listens to the kernel's own notices (`linux/netfilter/nf_tables.h`, `linux/rtnetlink.h`). Must not repair: it only says
//! when to look.

use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, netlink, recv, socket_with};

use crate::message::{self, Message};
use crate::opened;
use crate::own;
use crate::ruleset::STAMP_SET;
use crate::stamp;

/// `NFNLGRP_NFTABLES`, as a bit.
const GROUP: u32 = 1 << (7 - 1);
/// Upper byte of every message's type (`NFNL_SUBSYS_NFTABLES`).
const SUBSYSTEM: u16 = 10 << 8;
const NEW_TABLE: u16 = SUBSYSTEM;
const DELETE_TABLE: u16 = SUBSYSTEM + 2;
const NEW_CHAIN: u16 = SUBSYSTEM + 3;
const DELETE_CHAIN: u16 = SUBSYSTEM + 5;
const NEW_RULE: u16 = SUBSYSTEM + 6;
const DELETE_RULE: u16 = SUBSYSTEM + 8;
const NEW_SET: u16 = SUBSYSTEM + 9;
const DELETE_SET: u16 = SUBSYSTEM + 11;
const NEW_ELEMENT: u16 = SUBSYSTEM + 12;
const DELETE_ELEMENT: u16 = SUBSYSTEM + 14;
const NEW_OBJECT: u16 = SUBSYSTEM + 18;
const DELETE_OBJECT: u16 = SUBSYSTEM + 20;
/// Ends what one transaction changed.
const NEW_GENERATION: u16 = SUBSYSTEM + 15;
/// After the header: family, version, resource.
const FAMILY_BYTES: usize = 4;
/// Name of the table, in messages about it and about what is in it.
const TABLE: u16 = 1;
/// In messages about elements: the name of their set, and they.
const ELEMENT_SET: u16 = 2;
const ELEMENTS: u16 = 3;
/// One of a list, its key, and the bytes of that.
const LISTED: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const KEY_BYTES: u16 = 1;
/// The kernel joins notices up to a page or so; what is longer is cut, and counts as a change.
const DATAGRAM_BYTES: usize = 64 << 10;
/// Room for notices that are not read yet: a whole replacement of the rules of a full node is one for each of some hundred
/// thousand elements. Only what waits takes memory.
const WAITING_BYTES: usize = 64 << 20;

/// How much somebody changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Disturbance {
    /// Addresses of the host.
    Addresses,
    /// Tables or chains of others: what the host forwards may have changed.
    Others,
    /// Something of lith's is gone, or there is more of it.
    Ours,
}

/// Notices of changes in the network namespace that it was opened in.
#[derive(Debug)]
pub struct Watch {
    rules: OwnedFd,
    addresses: OwnedFd,
    /// The one whose notices are coming in.
    transaction: Transaction,
    /// The latest change of this process that was seen.
    last: u64,
}

impl Watch {
    /// Begins to listen.
    ///
    /// # Errors
    /// The kernel has no nftables.
    pub fn open() -> io::Result<Self> {
        let listen = |protocol, groups| {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
            set_socket_recv_buffer_size_force(&socket, WAITING_BYTES)?;
            bind(&socket, &SocketAddrNetlink::new(0, groups))?;
            Ok::<_, Errno>(socket)
        };
        // No protocol is that of routes and addresses.
        let (rules, addresses) = (listen(Some(netlink::NETFILTER), GROUP)?, listen(None, own::NOTICES)?);
        Ok(Self { rules, addresses, transaction: Transaction::default(), last: 0 })
    }

    /// Waits until somebody has changed something. What [`Network::apply`](crate::Network::apply) does with guests is
    /// no disturbance.
    ///
    /// # Errors
    /// The socket broke.
    pub fn wait(&mut self) -> io::Result<Disturbance> {
        let mut buffer = vec![0; DATAGRAM_BYTES];
        loop {
            await_notice(&[&self.rules, &self.addresses])?;
            let found = match read(&self.rules, &mut buffer)? {
                Read::Nothing => None,
                // What was lost may have been about us.
                Read::Lost => Some(Disturbance::Ours),
                Read::Notices(notices) => {
                    notices.iter().find_map(|notice| self.transaction.take(notice, &mut self.last))
                }
            };
            if let Some(disturbance) = found {
                return Ok(disturbance);
            }
            let is_changed = match read(&self.addresses, &mut buffer)? {
                Read::Nothing => false,
                Read::Lost => true,
                Read::Notices(notices) => notices.iter().any(own::is_change),
            };
            if is_changed {
                return Ok(Disturbance::Addresses);
            }
        }
    }
}

fn await_notice(sockets: &[&OwnedFd]) -> io::Result<()> {
    let mut sockets: Vec<PollFd<'_>> =
        sockets.iter().map(|socket| PollFd::new(*socket, PollFlags::IN)).collect();
    match poll(&mut sockets, None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What came over a socket.
enum Read<'a> {
    Nothing,
    /// More than fits waited.
    Lost,
    Notices(Vec<Message<'a>>),
}

fn read<'a>(socket: &OwnedFd, buffer: &'a mut [u8]) -> io::Result<Read<'a>> {
    match recv(socket, &mut *buffer, RecvFlags::empty()) {
        Ok((length, _)) => Ok(Read::Notices(message::messages(buffer.get(..length).unwrap_or_default()))),
        Err(Errno::INTR | Errno::AGAIN) => Ok(Read::Nothing),
        Err(Errno::NOBUFS) => Ok(Read::Lost),
        Err(error) => Err(error.into()),
    }
}

/// What one transaction has changed so far.
#[derive(Debug, Default)]
struct Transaction {
    /// Something of lith's but what names open, which the resolver's process does.
    is_ours: bool,
    /// It says that this process made it.
    is_own: bool,
    /// Tables or chains of others.
    is_others: bool,
}

impl Transaction {
    /// The verdict, at the end of a transaction that calls for one. `last` is the latest own change that was seen.
    fn take(&mut self, notice: &Message<'_>, last: &mut u64) -> Option<Disturbance> {
        if notice.kind == NEW_GENERATION {
            let done = std::mem::take(self);
            let ours = (done.is_ours && !done.is_own).then_some(Disturbance::Ours);
            return ours.or(done.is_others.then_some(Disturbance::Others));
        }
        let is_frame = [NEW_TABLE, DELETE_TABLE, NEW_CHAIN, DELETE_CHAIN].contains(&notice.kind);
        let is_element = [NEW_ELEMENT, DELETE_ELEMENT].contains(&notice.kind);
        let is_other =
            [NEW_RULE, DELETE_RULE, NEW_SET, DELETE_SET, NEW_OBJECT, DELETE_OBJECT].contains(&notice.kind);
        if !(is_frame || is_element || is_other) {
            return None;
        }
        let attributes = notice.body.get(FAMILY_BYTES..)?;
        if value(attributes, TABLE)? != b"lith\0" {
            self.is_others |= is_frame;
            return None;
        }
        let set = if is_element { value(attributes, ELEMENT_SET).unwrap_or_default() } else { &[] };
        if set.strip_suffix(b"\0") == Some(STAMP_SET.as_bytes()) {
            let position = key(attributes).and_then(stamp::position).filter(|_| notice.kind == NEW_ELEMENT);
            if let Some(position) = position.filter(|position| position > last) {
                *last = position;
                self.is_own = true;
            }
        } else {
            self.is_ours |= !set.starts_with(opened::SET_PREFIX.as_bytes());
        }
        None
    }
}

fn value(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    message::attributes(attributes).find(|attribute| attribute.kind == kind).map(|attribute| attribute.value)
}

/// The first key of a message about elements.
fn key(attributes: &[u8]) -> Option<&[u8]> {
    let element = value(value(attributes, ELEMENTS)?, LISTED)?;
    value(value(element, ELEMENT_KEY)?, KEY_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::attribute;

    const INET: u8 = 1;
    const NETDEV: u8 = 5;

    #[test]
    fn what_is_a_disturbance() {
        let check = |notices: &[(u16, u8, &str, &[u8])], expected: Option<Disturbance>| {
            let (mut transaction, mut last) = (Transaction::default(), 0);
            for (kind, family, table, rest) in notices {
                let name = [table.as_bytes(), &[0]].concat();
                let body = [&[*family, 0, 0, 0][..], &attribute(TABLE, &name), rest].concat();
                assert_eq!(transaction.take(&Message { kind: *kind, body: &body }, &mut last), None);
            }
            let end = Message { kind: NEW_GENERATION, body: &[] };
            assert_eq!(transaction.take(&end, &mut last), expected, "{notices:?}");
        };
        let element = |set: &str, number: u32| {
            let key = attribute(ELEMENT_KEY, &attribute(KEY_BYTES, &number.to_ne_bytes()));
            let name = [set.as_bytes(), &[0]].concat();
            [attribute(ELEMENT_SET, &name), attribute(ELEMENTS, &attribute(LISTED, &key))].concat()
        };
        let commands = stamp::commands();
        let number: u32 = commands.split(['{', '}']).nth(1).unwrap().trim().parse().unwrap();
        let (own, foreign) = (element(STAMP_SET, number), element(STAMP_SET, number ^ 1));
        let (open, other) = (element("opened_7_4", 1), element("granted", 1));
        check(&[(DELETE_TABLE, INET, "lith", &[])], Some(Disturbance::Ours));
        check(&[(DELETE_TABLE, INET, "lith", &[]), (NEW_TABLE, INET, "lith", &[])], Some(Disturbance::Ours));
        let replaced = (NEW_TABLE, NETDEV, "lith", &[][..]);
        check(&[(DELETE_TABLE, INET, "lith", &[]), replaced, (NEW_ELEMENT, INET, "lith", &own)], None);
        check(&[replaced, (NEW_ELEMENT, INET, "lith", &foreign)], Some(Disturbance::Ours));
        check(&[replaced, (DELETE_ELEMENT, INET, "lith", &own)], Some(Disturbance::Ours));
        for kind in [NEW_CHAIN, DELETE_RULE, NEW_RULE, DELETE_SET, DELETE_OBJECT] {
            check(&[(kind, INET, "lith", &[])], Some(Disturbance::Ours));
            check(&[(kind, INET, "lith", &[]), (NEW_ELEMENT, INET, "lith", &own)], None);
        }
        check(&[(DELETE_ELEMENT, INET, "lith", &other)], Some(Disturbance::Ours));
        check(&[(DELETE_ELEMENT, INET, "lith", &open), (NEW_ELEMENT, INET, "lith", &open)], None);
        check(&[(NEW_TABLE, INET, "filter", &[])], Some(Disturbance::Others));
        check(&[(NEW_RULE, INET, "filter", &[]), (NEW_ELEMENT, INET, "filter", &other)], None);
        check(
            &[(DELETE_CHAIN, INET, "filter", &[]), (DELETE_TABLE, INET, "lith", &[])],
            Some(Disturbance::Ours),
        );
        // What is seen again has been restored.
        let twice = [(NEW_ELEMENT, INET, "lith", &own[..]), (NEW_GENERATION, INET, "lith", &[])];
        check(&[&twice[..], &[replaced, twice[0]]].concat(), Some(Disturbance::Ours));
        check(&[], None);
    }
}
