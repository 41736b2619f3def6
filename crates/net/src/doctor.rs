//! What this machine offers guest networking, and what would break it, in sentences for a person.
//!
//! Looks only; the trial of the packet filter happens in a network namespace that ends with it.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::net::IpAddr;
use std::time::Duration;

use lith_core::chain::chain;
use lith_core::connect::{Grant, Reach};
use lith_core::job::access::{BANDWIDTH_MAX, Egress};
use lith_core::job::{Port, Transport};
use lith_core::service::ServiceNumber;
use lith_core::slot::Slot;

use crate::address::{self, GuestNetwork};
use crate::command::{CommandError, run};
use crate::firewalls::{self, Closed, State};
use crate::interface::{self, Route};
use crate::opened::{self, Opened};
use crate::ruleset::{self, Surroundings};
use crate::state::{Guest, NetworkState, Redirect, Resolver, Service};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Good,
    /// Guests run, but something may not be reached.
    Warning,
    /// Guests cannot be started.
    Failure,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What was found, one sentence, lower case, no full stop.
    pub text: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Finding {
    fn good(text: String) -> Self {
        Self { severity: Severity::Good, text, hint: None }
    }

    fn warning(text: String, hint: String) -> Self {
        Self { severity: Severity::Warning, text, hint: Some(hint) }
    }

    fn failure(text: String, hint: Option<String>) -> Self {
        Self { severity: Severity::Failure, text, hint }
    }
}

/// Looks at everything. Needs root. Takes some tens of milliseconds.
#[must_use]
pub fn examine(network: GuestNetwork) -> Vec<Finding> {
    let mut findings = vec![version("nft", "--version"), version("ip", "-V"), tun(), trial(network)];
    match interface::routes() {
        Ok(routes) => findings.extend(conflicts(network, &routes)),
        Err(error) => {
            findings.push(Finding::failure(format!("the routes cannot be read: {error}"), error.hint()))
        }
    }
    findings.extend(firewalls());
    findings
}

/// What keeps clients from reaching published ports, though guests run.
#[must_use]
pub fn hindrances() -> Vec<Finding> {
    firewalls().into_iter().filter(|finding| finding.severity > Severity::Good).collect()
}

/// Firewalls of others that drop by default.
fn firewalls() -> Vec<Finding> {
    match firewalls::closed() {
        Ok(closed) => closed.iter().map(firewall).collect(),
        Err(error) => vec![Finding::warning(
            chain(&error),
            error.hint().unwrap_or_else(|| "see that nothing drops what interfaces `lith*` forward".into()),
        )],
    }
}

fn version(program: &'static str, argument: &str) -> Finding {
    match run(program, &[argument], "") {
        Ok(output) => Finding::good(output.trim().to_owned()),
        Err(error) => Finding::failure(format!("{program} does not run: {error}"), error.hint()),
    }
}

fn tun() -> Finding {
    match OpenOptions::new().read(true).write(true).open("/dev/net/tun") {
        Ok(_) => Finding::good("/dev/net/tun opens".into()),
        Err(error) => Finding::failure(
            format!("/dev/net/tun does not open: {error}"),
            Some("run as root, with the kernel module: modprobe tun".into()),
        ),
    }
}

/// Puts a state with everything in it in force in a network namespace of its own.
fn trial(network: GuestNetwork) -> Finding {
    let tried = trial_script(network).map(|(taps, script)| {
        let create = |tap: &String| format!("ip tuntap add dev {tap} mode tap vnet_hdr && ");
        let commands = format!("{}exec nft -f -", taps.iter().map(create).collect::<String>());
        run("unshare", &["--net", "sh", "-c", &commands], &script)
    });
    match tried {
        Some(Ok(_)) => Finding::good("the kernel takes the packet filter".into()),
        Some(Err(error)) => {
            let hint = match &error {
                CommandError::Failed { .. } => Some(
                    "the kernel needs tun, nf_tables with nat, masq, numgen, fib, reject, limit, connlimit, log and netdev ingress, and nft 1.0.6 or newer".into(),
                ),
                _ => error.hint(),
            };
            Finding::failure(format!("the kernel does not take the packet filter: {error}"), hint)
        }
        None => Finding::failure("the packet filter cannot be tried".into(), None),
    }
}

fn trial_script(network: GuestNetwork) -> Option<(Vec<String>, String)> {
    let slot = Slot::new(1)?;
    let (other, third) = (Slot::new(2)?, Slot::new(3)?);
    let publish =
        |address, count, transport| Redirect { address, host_port: 1, guest_port: 1, count, transport };
    let gateways = [None, Some(address::GATEWAY.into()), Some(address::GATEWAY_6.into())];
    let publishes = gateways
        .into_iter()
        .zip([Transport::Tcp, Transport::Udp, Transport::Udp])
        .flat_map(|(address, transport)| {
            let range = Redirect { host_port: 2, guest_port: 2, ..publish(address, 2, transport) };
            [publish(address, 1, transport), range]
        })
        .collect();
    let port = |number, last| Port { number, last, transport: Transport::Tcp };
    let grant = |target, number, last| Grant { target, reach: Reach::Ports(port(number, last)) };
    let gone = Slot::new(4)?;
    let connects = vec![
        grant(other, 1, 1),
        grant(other, 3, 4),
        grant(third, 1, 1),
        grant(gone, 1, 1),
        grant(gone, 3, 4),
    ];
    let services: Vec<ServiceNumber> = (1..=3).filter_map(ServiceNumber::new).collect();
    let instances = [vec![other], vec![other, third], vec![]];
    let network_of = |address: IpAddr, port| Egress::Network { address, prefix: 16, port };
    let egress = vec![
        Egress::Internet,
        Egress::Name { name: "example.org".to_owned(), port: None },
        network_of(address::GATEWAY.into(), None),
        network_of(address::GATEWAY_6.into(), Some(port(1, 2))),
    ];
    let state = NetworkState {
        network,
        guests: vec![
            Guest {
                publishes,
                connects,
                services: services.clone(),
                egress,
                bandwidth: Some(BANDWIDTH_MAX),
                slot,
            },
            Guest::closed(other),
            Guest::closed(third),
        ],
        services: services
            .into_iter()
            .zip(instances)
            .map(|(number, instances)| Service { number, instances })
            .collect(),
        resolver: Some(Resolver { port: 5353, user: 65_000 }),
    };
    let eth0 = BTreeSet::from(["eth0".to_owned()]);
    let surroundings = Surroundings {
        switched: eth0.clone(),
        switched_6: eth0,
        attached: [(address::GATEWAY.into(), 24), (address::GATEWAY_6.into(), 64)].into(),
    };
    let mut script = ruleset::script(&state, "doctor", &surroundings).ok()?;
    let lifetime = Duration::from_secs(1);
    let opened = |address| Opened { slot, address, port: Some(port(1, 1)), lifetime };
    script.push_str(&opened::script(
        &[opened(address::GATEWAY.into()), opened(address::GATEWAY_6.into())],
        |_| true,
    ));
    let taps = [slot, other, third].map(address::tap_name).to_vec();
    Some((taps, script))
}

/// Routes of others into the guests' range.
fn conflicts(network: GuestNetwork, routes: &[Route]) -> Vec<Finding> {
    let is_foreign = |route: &&Route| address::slot_of_tap(&route.device).is_none();
    let overlapping =
        routes.iter().filter(is_foreign).filter(|route| network.overlaps(route.address, route.bits));
    let found: Vec<Finding> = overlapping
        .map(|Route { address, bits, device }| {
            let through = if device.is_empty() { String::new() } else { format!(" through {device}") };
            Finding::warning(
                format!("the route to {address}/{bits}{through} overlaps the guests' range {network}"),
                "give lith another private /16 that nobody here uses".into(),
            )
        })
        .collect();
    if found.is_empty() { vec![Finding::good(format!("nobody else uses {network}"))] } else { found }
}

/// A chain of others that packets of guests have to pass too: accepting in one table does not overrule a drop in another.
fn firewall(closed: &Closed) -> Finding {
    let (what, table) = (closed.to_string(), closed.table());
    match closed.state() {
        State::Passed => Finding::good(format!("{what} drops by default, and lets tasks pass by rules of lith")),
        State::Idle => Finding::good(format!("{what} drops by default; lith will let tasks pass while they run")),
        State::Shut if table == firewalls::FIREWALLD => Finding::warning(
            format!("{what} drops what tasks send and get"),
            "let firewalld trust their interfaces: firewall-cmd --permanent --zone=trusted --add-interface=lith+ && \
             firewall-cmd --reload"
                .into(),
        ),
        State::Shut => Finding::warning(
            format!("{what} drops what tasks send and get"),
            "lith could not add its rules there: accept interfaces \"lith*\" in it, and see the log of `lith up`".into(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_conflicts() {
        let check = |route: (&str, u32, &str), severity: Severity, text: &str| {
            let route = Route { address: route.0.parse().unwrap(), bits: route.1, device: route.2.into() };
            let found = conflicts(GuestNetwork::default(), &[route]);
            assert_eq!((found[0].severity, found[0].text.as_str()), (severity, text));
        };
        check(
            ("10.83.7.0", 24, "eth0"),
            Severity::Warning,
            "the route to 10.83.7.0/24 through eth0 overlaps the guests' range 10.83.0.0/16",
        );
        check(("10.83.0.7", 32, "lith7"), Severity::Good, "nobody else uses 10.83.0.0/16");
        check(("192.168.1.0", 24, "eth0"), Severity::Good, "nobody else uses 10.83.0.0/16");
    }
}
