//! What is read from a listing, and what follows.

use serde_json::json;

use super::*;

/// A base chain at a hook.
fn base(family: &str, table: &str, name: &str, hook: &str, policy: &str) -> Value {
    json!({"chain": {
        "family": family, "table": table, "name": name, "handle": 1, "type": "filter", "hook": hook, "prio": 0,
        "policy": policy,
    }})
}

fn rule(table: &str, chain: &str, handle: u64, expressions: &Value) -> Value {
    json!({"rule": {"family": "ip", "table": table, "chain": chain, "handle": handle, "expr": expressions}})
}

fn own(chain: &str, handle: u64, key: &str) -> Value {
    json!({"rule": {
        "family": "ip", "table": "filter", "chain": chain, "handle": handle, "comment": "lith",
        "expr": [{"match": {"op": "==", "left": {"meta": {"key": key}}, "right": "lith*"}}, {"accept": null}],
    }})
}

fn script(entries: &[Value]) -> String {
    opening(&read(&json!({"nftables": entries})))
}

#[test]
fn what_drops_by_default_is_opened_behind_its_rules() {
    let docker = base("ip", "filter", "FORWARD", "forward", "drop");
    let jump = rule("filter", "FORWARD", 4, &json!([{"counter": {}}, {"jump": {"target": "DOCKER-USER"}}]));
    let both = "add rule ip filter FORWARD iifname \"lith*\" counter accept comment \"lith\"\n\
                add rule ip filter FORWARD oifname \"lith*\" counter accept comment \"lith\"\n";
    assert_eq!(script(&[docker.clone(), jump.clone()]), both);
    let first = own("FORWARD", 7, "iifname");
    assert_eq!(
        script(&[docker.clone(), jump.clone(), first.clone()]),
        both.split_inclusive('\n').nth(1).unwrap()
    );
    let second = own("FORWARD", 8, "oifname");
    assert_eq!(script(&[docker.clone(), jump.clone(), first.clone(), second.clone()]), "");
    // One too many, and all of them when nothing is dropped any more.
    let third = own("FORWARD", 9, "oifname");
    assert_eq!(
        script(&[docker, first.clone(), second.clone(), third]),
        "delete rule ip filter FORWARD handle 9\n"
    );
    let open = base("ip", "filter", "FORWARD", "forward", "accept");
    assert_eq!(
        script(&[open, jump, first, second]),
        "delete rule ip filter FORWARD handle 7\ndelete rule ip filter FORWARD handle 8\n"
    );
}

#[test]
fn a_last_rule_that_refuses_everything_is_a_default() {
    let open = || base("ip", "filter", "INPUT", "input", "accept");
    let check = |last: Value, expected: &str| {
        assert_eq!(script(&[open(), rule("filter", "INPUT", 9, &last)]), expected, "{last}");
    };
    let before = "insert rule ip filter INPUT handle 9 iifname \"lith*\" counter accept comment \"lith\"\n";
    check(json!([{"counter": {}}, {"xt": {"type": "target", "name": "REJECT"}}]), before);
    check(json!([{"reject": {"type": "icmpx", "expr": "admin-prohibited"}}]), before);
    check(json!([{"log": {}}, {"counter": {}}, {"drop": null}]), before);
    check(json!([{"match": {}}, {"drop": null}]), "");
    check(json!([{"xt": {"type": "match", "name": "conntrack"}}, {"drop": null}]), "");
    check(json!([{"counter": {}}, {"accept": null}]), "");
    check(json!([]), "");
}

#[test]
fn whose_chains_are_opened() {
    let check = |family: &str, table: &str, name: &str, hook: &str, rules: usize| {
        let script = script(&[base(family, table, name, hook, "drop")]);
        assert_eq!(script.lines().count(), rules, "{script}");
    };
    check("ip6", "filter", "FORWARD", "forward", 2);
    check("inet", "mine", "out", "output", 1);
    check("inet", "mine", "pre", "prerouting", 0);
    check("bridge", "filter", "FORWARD", "forward", 0);
    check("inet", "lith", "forward", "forward", 0);
    check("inet", "lithuania", "forward", "forward", 2);
    check("inet", "a table; flush ruleset", "forward", "forward", 0);
    // Where it rejects is not seen in its chain, so its last rule does not matter.
    let firewalld = base("inet", "firewalld", "filter_FORWARD", "forward", "accept");
    assert!(script(&[firewalld]).starts_with("insert rule inet firewalld filter_FORWARD iifname"));
}

#[test]
fn odd_listings_say_nothing() {
    for listing in
        [json!(null), json!({}), json!({"nftables": 7}), json!({"nftables": [{"chain": 1}, {"rule": []}]})]
    {
        assert_eq!(read(&listing), Others::default(), "{listing}");
    }
}
