//! Published ports that exclude each other within one job.
//!
//! Owns the record of what the job publishes so far. Ports of other jobs are the server's matter.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use lith_core::job::{Publish, Transport};
use lith_core::value::quoted;

use crate::diagnostic::{Code, Reporter};
use crate::document::Span;

/// What the job publishes so far.
#[derive(Default)]
pub(super) struct Published {
    ports: HashMap<(u16, Transport), Holders>,
}

/// Tasks that hold one port of the node, by address.
#[derive(Default)]
struct Holders {
    all_addresses: Option<String>,
    by_address: HashMap<Ipv4Addr, String>,
}

impl Holders {
    /// The task that already holds the port on an address that `publish` wants.
    fn holder(&self, publish: Publish) -> Option<&str> {
        let same = match publish.address {
            Some(address) => self.by_address.get(&address),
            None => self.by_address.values().min(),
        };
        self.all_addresses.as_ref().or(same).map(String::as_str)
    }
}

impl Published {
    /// Adds one published port of a task whose group has `count` instances; reports a collision.
    pub(super) fn add(
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
        let holders = self.ports.entry((port, publish.transport)).or_default();
        if let Some(holder) = holders.holder(publish) {
            let holder =
                if holder == task { String::from("this task") } else { format!("task {}", quoted(holder)) };
            let message =
                format!("port {port}/{} of the node is already published by {holder}", publish.transport);
            let hint = format!("choose another port before the colon, as in \"{}\"", free(publish));
            return reporter.error(Code::PortCollision, span, message, hint);
        }
        match publish.address {
            Some(address) => holders.by_address.insert(address, task.to_owned()),
            None => holders.all_addresses.replace(task.to_owned()),
        };
    }
}

/// The same with the next port.
fn free(publish: Publish) -> Publish {
    Publish { host_port: publish.host_port.checked_add(1).unwrap_or(1024), ..publish }
}
