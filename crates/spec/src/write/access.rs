//! What tasks may reach, as a part of a job file to be put into another one.
//!
//! Owns its layout, which is that of a whole file. Must not know why somebody wants it.

use std::collections::{BTreeMap, BTreeSet};

use super::page::Page;
use super::task::number;
use super::{scalar, value};

/// Keys of a task that say what it may reach, and what it listens on for others: entries as the job file writes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Entries of `ports`.
    pub ports: BTreeSet<String>,
    /// Entries of `connects`.
    pub connects: BTreeSet<String>,
    /// Entries of `egress`.
    pub egress: BTreeSet<String>,
}

/// Those keys of each task, by its name, below `tasks`. What is empty is left out.
#[must_use]
pub fn access_to_yaml(tasks: &BTreeMap<String, Access>) -> String {
    let mut page = Page::default();
    page.key(0, "tasks");
    for (name, access) in tasks {
        page.key(1, &scalar(name));
        let values = |entries: &BTreeSet<String>| entries.iter().map(|entry| value(entry)).collect();
        let keys: [(&str, Vec<String>); 3] = [
            ("ports", access.ports.iter().map(|port| number(port)).collect()),
            ("connects", values(&access.connects)),
            ("egress", values(&access.egress)),
        ];
        for (key, items) in keys.into_iter().filter(|(_, items)| !items.is_empty()) {
            page.list(2, key, items);
        }
    }
    page.text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_in_a_file() {
        let set = |entries: &[&str]| entries.iter().map(|entry| (*entry).to_owned()).collect();
        let web = Access {
            connects: set(&["db:5432", "pg/db", "cache"]),
            egress: set(&[
                "internet",
                "*.ntfy.sh:443",
                "[2001:db8::1]:443",
                "192.168.1.20:631",
                "10.0.0.0/24",
            ]),
            ..Access::default()
        };
        let db = Access { ports: set(&["5432", "53/udp"]), ..Access::default() };
        let tasks = [("web", web), ("db", db)].map(|(name, access)| (name.to_owned(), access));
        let text = access_to_yaml(&tasks.into());
        insta::assert_snapshot!(text, @r#"
        tasks:
          db:
            ports: [ 53/udp, 5432 ]
          web:
            connects: [ cache, db:5432, pg/db ]
            egress: [ "*.ntfy.sh:443", "10.0.0.0/24", "192.168.1.20:631", "[2001:db8::1]:443", internet ]
        "#);
        let file = text.replace("  web:\n", "  cache: { image: x, ports: [ 6379 ] }\n  web:\n    image: x\n");
        let file = format!("job: j\n{}", file.replace("  db:\n", "  db:\n    image: x\n"));
        let reading = crate::check("job.yaml", &file);
        assert!(!reading.diagnostics.has_errors(), "{file}\n{}", reading.diagnostics);
        assert_eq!(reading.job.unwrap().tasks().count(), 3);
    }
}
