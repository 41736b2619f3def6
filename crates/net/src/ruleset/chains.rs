//! The chains of the table `inet lith`, which are the same whatever guests there are, and the sets that they fill or that
//! hold constants.
//!
//! Pure. What is about single guests is in `elements`.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lith_core::egress::{GLOBAL_6, NOT_PUBLIC_4, NOT_PUBLIC_6, Range};
use lith_core::slot::SLOT_MAX;

use super::{LOG_GROUP, LOG_NODE, LOG_OUT, LOG_TASK, STAMP_SET, words};
use crate::address::{Family, GATEWAY, GATEWAY_6, TAP_PREFIX};
use crate::state::{NetworkState, Resolver};

/// Most connections that a guest may have open of those that it opened itself: more than a busy proxy has to its targets,
/// and few enough for the kernel to walk their list at each new one.
const OPENED_MAX: u32 = 4096;
/// Most connections that a guest may begin in a second, refused ones among them, and how many at once after a rest: what a
/// busy crawler or proxy does, and few enough that a flood costs the node little.
const NEW_PER_SECOND_MAX: u32 = 500;
const NEW_AT_ONCE_MAX: u32 = 1000;
/// The same of questions for names, which are connections for half a minute each.
const QUESTIONS_PER_SECOND_MAX: u32 = 1000;
const QUESTIONS_AT_ONCE_MAX: u32 = 2000;
/// How many refused connections of a guest are told of: who reads them counts kinds, not packets.
const LOGS_PER_SECOND_MAX: u32 = 10;
const LOGS_AT_ONCE_MAX: u32 = 50;
/// How much of a packet is told: headers of both families with options.
const LOG_BYTES: u32 = 128;

/// Addresses at which a cloud tells a machine its secrets, or the machine speaks to its host: never a guest's business, even
/// where a network that is written out holds them.
const METADATA_4: [Ipv4Addr; 7] = [
    // Nearly every cloud; the next two are Amazon's for containers.
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    // Scaleway, Oracle, Alibaba, Azure.
    Ipv4Addr::new(169, 254, 42, 42),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
];
/// The same of IPv6: Amazon's two, Google, Scaleway.
const METADATA_6: [Ipv6Addr; 4] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),
];

/// What no egress opens: this host, loopback, multicast, broadcast, the gateway, and the above.
pub(super) fn never(family: Family) -> Vec<Range<IpAddr>> {
    match family {
        Family::V4 => {
            let ranges = [
                (Ipv4Addr::UNSPECIFIED, 8),
                (Ipv4Addr::LOCALHOST, 8),
                (Ipv4Addr::new(224, 0, 0, 0), 4),
                (Ipv4Addr::BROADCAST, 32),
                (GATEWAY, 32),
            ];
            let metadata = METADATA_4.map(|address| (address, 32));
            ranges
                .into_iter()
                .chain(metadata)
                .map(|(address, prefix)| super::egress::canonical((address.into(), prefix)))
                .collect()
        }
        Family::V6 => {
            // Neither what stands for addresses of IPv4 (RFC 4291, section 2.5.5), nor what has a meaning on one link alone.
            let ranges = [
                (Ipv6Addr::UNSPECIFIED, 96),
                (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96),
                (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
                (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
                (GATEWAY_6, 128),
            ];
            let metadata = METADATA_6.map(|address| (address, 128));
            ranges.into_iter().chain(metadata).map(|(address, prefix)| (address.into(), prefix)).collect()
        }
    }
}

/// Sets and chains.
pub(super) fn text(state: &NetworkState) -> String {
    let mut text = sets();
    for part in [redirection(state), leaving(), passing(), host(state), guests(), outside(), refusal()] {
        text.push_str(&filled(&part, state));
    }
    text
}

/// Puts numbers and names in. A line that names a family is followed by its twin for the other one.
fn filled(part: &str, state: &NetworkState) -> String {
    let mut text = String::new();
    for line in part.lines() {
        let families = if line.contains("{family}") || line.contains("{ip}") {
            &Family::BOTH[..]
        } else {
            &Family::BOTH[..1]
        };
        for family in families {
            let (ip, _, version) = words(*family);
            let (first, prefix) = state.network.range(*family);
            let gateway = match family {
                Family::V4 => GATEWAY.to_string(),
                Family::V6 => format!("[{GATEWAY_6}]"),
            };
            let line = line
                .replace("{taps}", &format!("\"{TAP_PREFIX}*\""))
                .replace("{ip}", ip)
                .replace("{family}", version)
                .replace("{cluster}", &format!("{first}/{prefix}"))
                .replace("{gateway}", &gateway);
            _ = writeln!(text, "  {line}");
        }
    }
    text
}

/// Sets of constants, and sets that the rules fill.
fn sets() -> String {
    let mut text = String::new();
    let constants = [
        ("never", Family::V4, never(Family::V4)),
        ("never", Family::V6, never(Family::V6)),
        ("not_public", Family::V4, NOT_PUBLIC_4.map(|(address, prefix)| (address.into(), prefix)).to_vec()),
        ("not_public", Family::V6, NOT_PUBLIC_6.map(|(address, prefix)| (address.into(), prefix)).to_vec()),
    ];
    for (name, family, ranges) in constants {
        let (_, kind, end) = words(family);
        let ranges: Vec<String> =
            ranges.iter().map(|(address, prefix)| format!("{address}/{prefix}")).collect();
        _ = writeln!(
            text,
            "  set {name}_{end} {{\n    type {kind}\n    flags interval\n    elements = {{ {} }}\n  }}",
            ranges.join(", ")
        );
    }
    _ = writeln!(text, "  set {STAMP_SET} {{\n    type mark\n  }}");
    // What is counted while it is open, and what is measured by the second; the latter is forgotten after a while.
    _ = writeln!(text, "  set openers {{\n    type ifname\n    size {SLOT_MAX}\n    flags dynamic\n  }}");
    for name in ["beginners", "askers", "refused"] {
        _ = writeln!(
            text,
            "  set {name} {{\n    type ifname\n    size {SLOT_MAX}\n    flags dynamic,timeout\n    timeout 5m\n  }}"
        );
    }
    text
}

/// Where packets to the host's own addresses and to virtual ones go.
///
/// In `redirect_arriving`: a packet to 127.0.0.1 that arrives on a wire would be redirected before the kernel sees that it is
/// absurd; the host's own were redirected on their way out. Link-local addresses of IPv6 are not forwarded from. In
/// `redirect_guest`: from TAPs the kernel takes such packets for true, as clients on 127.0.0.1 must reach guests.
fn redirection(state: &NetworkState) -> String {
    let resolver = match state.resolver {
        Some(Resolver { port, .. }) => format!(
            "meta nfproto ipv{{family}} meta l4proto {{ tcp, udp }} dnat {{ip}} to {{gateway}}:{port}"
        ),
        None => "return".to_owned(),
    };
    format!(
        r#"chain redirect_arriving {{
  type nat hook prerouting priority dstnat; policy accept;
  iifname {{taps}} goto redirect_guest
  ip daddr 127.0.0.0/8 return
  ip6 saddr fe80::/10 return
  fib daddr type local jump to_published
}}
chain redirect_local {{
  type nat hook output priority -100; policy accept;
  fib daddr type local jump to_published
}}
chain to_published {{
  dnat {{ip}} to {{ip}} daddr . meta l4proto . th dport map @published_at_{{family}}
  dnat {{ip}} to meta l4proto . th dport map @published_{{family}}
  dnat {{ip}} to {{ip}} daddr . meta l4proto . th dport map @published_ranges_at_{{family}}
  dnat {{ip}} to meta l4proto . th dport map @published_ranges_{{family}}
}}
chain redirect_guest {{
  ip daddr 127.0.0.0/8 drop
  ip6 daddr ::1 drop
  meta l4proto != {{ tcp, udp }} return
  {{ip}} daddr {{cluster}} goto to_service
  th dport 53 iifname . {{ip}} daddr . meta l4proto . th dport != @egress_{{family}} goto to_resolver
  {{ip}} daddr @never_{{family}} return
  fib daddr type local jump to_written_out
}}
chain to_service {{
  dnat {{ip}} to iifname . {{ip}} daddr map @service_{{family}}
  iifname . {{ip}} daddr vmap @spread_{{family}}
}}
chain to_resolver {{
  {resolver}
}}
chain to_written_out {{
  iifname . {{ip}} daddr @egress_whole_{{family}} goto to_published
  iifname . {{ip}} daddr . meta l4proto . th dport @egress_{{family}} goto to_published
}}
"#
    )
}

/// Whose address packets leave with.
fn leaving() -> String {
    r#"chain leaving {
  type nat hook postrouting priority srcnat; policy accept;
  oifname {taps} goto leaving_to_guest
  {ip} saddr @guest_addresses_{family} masquerade
}
chain leaving_to_guest {
  ip saddr 127.0.0.0/8 snat ip to 169.254.83.1
  oifname . {ip} saddr @guests_{family} snat {ip} to {gateway}
}
"#
    .replace("169.254.83.1", &GATEWAY.to_string())
}

/// What may leave a TAP, and what may enter one. A connection that stands between two TAPs, or comes in, was judged at its
/// first packet; what is granted no longer is taken out of connection tracking, so that its next packet is a first one again. What a guest sends to another one passes `from_guest` undecided, and is
/// judged in `to_guest`, where everything ends that nothing accepts.
fn passing() -> String {
    r#"chain forward {
  type filter hook forward priority filter; policy accept;
  oifname {taps} ct state established accept
  iifname {taps} jump from_guest
  oifname {taps} goto to_guest
  meta nfproto ipv{family} iifname @switched_{family} drop
}
chain from_guest {
  ct state invalid,untracked drop
  ct direction reply goto answering
  meta nfproto ipv{family} iifname . ct original {ip} saddr != @guests_{family} drop
  ct status & confirmed != confirmed jump beginning
  oifname {taps} return
  goto egress
}
chain answering {
  ct state established,related iifname . ct reply {ip} saddr @guests_{family} return
  drop
}
chain beginning {
  add @beginners { iifname limit rate over %new/second burst %burst packets } drop
}
chain to_guest {
  meta nfproto ipv{family} oifname . {ip} daddr != @guests_{family} drop
  iifname {taps} goto between_guests
  ct direction original ct status dnat jump to_reachable
  ct state established,related ct direction reply oifname . ct original {ip} saddr @guests_{family} accept
  ct state related oifname . ct reply {ip} saddr @guests_{family} accept
  drop
}
chain to_reachable {
  oifname . meta l4proto . th dport @reachable accept
  oifname . meta l4proto . th dport @reachable_ranges accept
}
"#
    .replace("%new", &NEW_PER_SECOND_MAX.to_string())
    .replace("%burst", &NEW_AT_ONCE_MAX.to_string())
}

/// What guests and the host say to each other. The refusals are the host's own, and so are errors about packets that it
/// forwards.
///
/// In `from_resolver`, questions of guests and to other resolvers are alike: both began as one to the port of name servers.
fn host(state: &NetworkState) -> String {
    let addresses = [("ip", GATEWAY.to_string()), ("ip6", GATEWAY_6.to_string())];
    let resolver = state.resolver.map_or_else(String::new, |Resolver { port, .. }| {
        let rule = |(ip, address): (&str, String)| {
            format!("\n  {ip} daddr {address} meta l4proto {{ tcp, udp }} th dport {port} ct original proto-dst 53 goto asking")
        };
        addresses.map(rule).concat()
    });
    let from_resolver = state.resolver.map_or_else(String::new, |Resolver { user, .. }| {
        format!("\n  meta skuid {user} goto from_resolver")
    });
    r#"chain input {
  type filter hook input priority filter; policy accept;
  iifname {taps} goto to_host
}
chain output {
  type filter hook output priority filter; policy accept;%from_resolver
  oifname {taps} goto from_host
}
chain to_host {
  ct state invalid,untracked drop
  ct direction reply goto answering_host
  meta nfproto ipv{family} iifname . ct original {ip} saddr != @guests_{family} drop
  ct state related drop%resolver
  fib daddr type { multicast, broadcast, anycast } drop
  ct status & confirmed != confirmed jump beginning
  goto refuse_node
}
chain answering_host {
  ct state established,related iifname . ct reply {ip} saddr @guests_{family} accept
  drop
}
chain asking {
  ct status & confirmed != confirmed add @askers { iifname limit rate over %questions/second burst %burst packets } drop
  accept
}
chain from_host {
  meta nfproto ipv{family} oifname . {ip} daddr != @guests_{family} drop
  meta skuid 0 accept
  ct direction original ct status dnat jump to_reachable
  ct direction reply ct state established,related oifname . ct original {ip} saddr @guests_{family} accept
  ct state established,related ct status & dnat != dnat accept
  icmp type { destination-unreachable, time-exceeded, parameter-problem } accept
  icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept
  drop
}
chain from_resolver {
  meta l4proto != { tcp, udp } drop
  meta l4proto tcp ct original proto-dst != 53 drop
  meta l4proto udp ct original proto-dst != 53 drop
  ct state invalid,untracked th dport != 53 drop
  oifname {taps} goto from_host
}
"#
    .replace("%from_resolver", &from_resolver)
    .replace("%resolver", &resolver)
    .replace("%questions", &QUESTIONS_PER_SECOND_MAX.to_string())
    .replace("%burst", &QUESTIONS_AT_ONCE_MAX.to_string())
}

/// What guests may open to each other, and what of it is refused.
///
/// In `arriving`, what others send as if a guest had sent it ends, also where it would belong to a connection.
///
/// Redirected from an address outside the cluster: a published port, and `redirect_guest` saw that it is written out. In
/// `absent`, before routing: the way to a guest that is gone is the host's default route.
fn guests() -> String {
    r#"chain between_guests {
  ct state established,related ct direction reply oifname . ct original {ip} saddr @guests_{family} accept
  ct direction reply drop
  ct status dnat ct original {ip} daddr != {cluster} jump to_written_out_guest
  iifname . oifname . meta l4proto . th dport @granted goto opened
  meta l4proto { tcp, udp } iifname . oifname @granted_whole goto opened
  iifname . oifname . meta l4proto . th dport @granted_ranges goto opened
  ct state related oifname . ct reply {ip} saddr @guests_{family} accept
  goto refuse_task
}
chain to_written_out_guest {
  oifname . meta l4proto . th dport @reachable goto opened
  oifname . meta l4proto . th dport @reachable_ranges goto opened
}
chain opened {
  ct status & confirmed != confirmed add @openers { iifname ct count over %opened } drop
  accept
}
chain arriving {
  type filter hook prerouting priority filter; policy accept;
  iifname {taps} goto absent
  {ip} saddr @guest_addresses_{family} drop
}
chain absent {
  ct state established accept
  ct direction original {ip} daddr {cluster} {ip} daddr != @guest_addresses_{family} goto refuse_absent
}
chain refuse_absent {
  ct status & confirmed != confirmed jump beginning
  meta l4proto { tcp, udp } iifname . {ip} daddr @absent_whole_{family} goto refuse
  iifname . {ip} daddr . meta l4proto . th dport @absent_{family} goto refuse
  iifname . {ip} daddr . meta l4proto . th dport @absent_ranges_{family} goto refuse
  goto refuse_task
}
chain refuse {
  meta l4proto tcp reject with tcp reset
  reject with icmpx type port-unreachable
}
"#
    .replace("%opened", &OPENED_MAX.to_string())
}

/// What guests may open outside the cluster. What names opened is held against the ranges of `internet` too: whoever answers
/// questions for a name must not lead into the owner's own network.
fn outside() -> String {
    let (first, prefix) = GLOBAL_6;
    r#"chain egress {
  {ip} daddr {cluster} goto refuse_task
  {ip} daddr @never_{family} goto refuse_out
  fib daddr type != unicast goto refuse_out
  ct state established,related accept
  iifname . {ip} daddr . meta l4proto . th dport @egress_{family} goto opened
  meta l4proto { tcp, udp } th dport 53 goto refuse_out
  iifname . {ip} daddr @egress_whole_{family} jump any_port
  ip6 daddr != %global goto refuse_out
  {ip} daddr @not_public_{family} goto refuse_out
  {ip} daddr @attached_{family} goto refuse_out
  iifname @internet jump any_port
  iifname vmap @names
  goto refuse_out
}
chain any_port {
  meta l4proto { tcp, udp } goto opened
  icmp type echo-request goto opened
  icmpv6 type echo-request goto opened
}
"#
    .replace("%global", &format!("{first}/{prefix}"))
}

/// What is refused, and told. What has neither a port nor is ICMP is dropped: there is nobody to whom it would matter.
fn refusal() -> String {
    let chain = |name: &str, prefix: &str| {
        format!(
            r#"chain {name} {{
  meta l4proto != {{ tcp, udp, icmp, ipv6-icmp }} drop
  ct status & confirmed != confirmed add @refused {{ iifname limit rate {LOGS_PER_SECOND_MAX}/second burst {LOGS_AT_ONCE_MAX} packets }} log prefix "{prefix}" group {LOG_GROUP} snaplen {LOG_BYTES}
  reject with icmpx type admin-prohibited
}}
"#
        )
    };
    [chain("refuse_out", LOG_OUT), chain("refuse_task", LOG_TASK), chain("refuse_node", LOG_NODE)].concat()
}
