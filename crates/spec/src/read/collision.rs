//! Published ports that exclude each other within one job.
//!
//! Owns the record of what the job publishes so far. Ports of other jobs are the server's matter.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use lith_core::job::{Publish, Transport};
use lith_core::value::quoted;

use crate::diagnostic::{Code, Reporter};
use crate::document::Span;

/// What the job publishes so far.
#[derive(Default)]
pub(crate) struct Published {
    ports: HashMap<Transport, Holders>,
}

/// Tasks that hold ports of the node, by address.
#[derive(Default)]
struct Holders {
    all_addresses: Ranges,
    by_address: BTreeMap<IpAddr, Ranges>,
}

/// Ranges of ports that do not overlap, by their first port: the last one, and the task that holds them.
#[derive(Default)]
struct Ranges(BTreeMap<u16, (u16, String)>);

impl Ranges {
    fn holder(&self, publish: &Publish) -> Option<&str> {
        // As none overlap, only the last one that begins before the end can reach into it.
        let (_, (last, task)) = self.0.range(..=publish.host_last()).next_back()?;
        (*last >= publish.host_port).then_some(task)
    }
}

impl Holders {
    /// The task that already holds one of the ports on an address that `publish` wants.
    fn holder(&self, publish: &Publish) -> Option<&str> {
        let same = match publish.address {
            Some(address) => self.by_address.get(&address).and_then(|ranges| ranges.holder(publish)),
            None => self.by_address.values().find_map(|ranges| ranges.holder(publish)),
        };
        self.all_addresses.holder(publish).or(same)
    }

    fn ranges(&mut self, address: Option<IpAddr>) -> &mut Ranges {
        match address {
            Some(address) => self.by_address.entry(address).or_default(),
            None => &mut self.all_addresses,
        }
    }
}

impl Published {
    /// Adds one published port of a task whose group has `count` instances; reports a collision.
    pub(crate) fn add(
        &mut self,
        task: &str,
        count: u32,
        publish: Publish,
        span: Span,
        reporter: &mut Reporter,
    ) {
        let port = publish.host_port;
        if count > 1 {
            let message =
                format!("port {port} of the node is wanted by each of the {count} instances of this group");
            let hint =
                "an instance that publishes a port is alone with it: set `count: 1`, or remove `publish`";
            reporter.error(Code::PortCollision, span, message, hint);
        }
        let holders = self.ports.entry(publish.transport).or_default();
        if let Some(holder) = holders.holder(&publish) {
            let holder =
                if holder == task { String::from("this task") } else { format!("task {}", quoted(holder)) };
            let message =
                format!("port {port}/{} of the node is already published by {holder}", publish.transport);
            let hint = format!("choose another port before the colon, as in \"{}\"", free(publish));
            return reporter.error(Code::PortCollision, span, message, hint);
        }
        let held = (publish.host_last(), task.to_owned());
        holders.ranges(publish.address).0.insert(publish.host_port, held);
    }
}

/// The same with the next port.
fn free(publish: Publish) -> Publish {
    let next = publish.host_last().checked_add(1);
    let fits = next.filter(|next| next.checked_add(publish.count - 1).is_some());
    Publish { host_port: fits.unwrap_or(1024), ..publish }
}
