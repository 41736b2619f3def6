//! A plan in words. Pure.

use std::collections::BTreeSet;

use lith_api::task::{Change, ChangeKind, Plan, VolumeChange};

use crate::terminal::Paint;

/// The plan, a line per task.
pub(crate) fn text(plan: &Plan, paint: Paint) -> String {
    let groups: BTreeSet<&str> = plan.changes.iter().map(|change| change.group.as_str()).collect();
    let name = |change: &Change| match groups.len() {
        1 => change.task.clone(),
        _ => format!("{}/{}", change.group, change.task),
    };
    let tasks = plan.changes.iter().map(|change| (change.kind, name(change), &change.text));
    let volumes = plan.volumes.iter().map(|change| (change.kind, volume_name(plan, change), &change.text));
    let rows: Vec<(ChangeKind, String, &String)> = tasks.chain(volumes).collect();
    let width = rows.iter().map(|(_, name, _)| name.chars().count()).max().unwrap_or(0);
    let mut text = format!("{}\n", paint.bold(&headline(plan)));
    for (kind, name, words) in rows {
        let line = format!("{} {name:width$}  {words}", symbol(kind));
        text.push_str(&format!("  {}\n", colour(kind, line.trim_end(), paint)));
    }
    for warning in &plan.warnings {
        text.push_str(&format!("{} {warning}\n", paint.yellow("warning:")));
    }
    text
}

/// By its name in the file, unless there are several of that name.
fn volume_name(plan: &Plan, change: &VolumeChange) -> String {
    let is_alone = plan.volumes.iter().filter(|other| other.volume == change.volume).count() == 1;
    format!("volume {}", if is_alone { &change.volume } else { &change.id })
}

/// Whether carrying it out changes nothing, not even what concerns no task.
pub(crate) fn is_empty(plan: &Plan) -> bool {
    plan.version == plan.from_version && plan.changes.iter().all(|change| change.kind == ChangeKind::Keep)
}

fn headline(plan: &Plan) -> String {
    if is_empty(plan) {
        return format!("job {}: nothing changes", plan.job);
    }
    format!("job {}, version {}", plan.job, plan.version)
}

fn symbol(kind: ChangeKind) -> char {
    match kind {
        ChangeKind::Create => '+',
        ChangeKind::Restart | ChangeKind::Adjust | ChangeKind::Scale | ChangeKind::Start => '~',
        ChangeKind::Keep => '=',
        ChangeKind::Remove => '-',
    }
}

fn colour(kind: ChangeKind, line: &str, paint: Paint) -> String {
    match kind {
        ChangeKind::Create => paint.green(line),
        ChangeKind::Restart | ChangeKind::Adjust | ChangeKind::Scale | ChangeKind::Start => {
            paint.yellow(line)
        }
        ChangeKind::Keep => paint.dim(line),
        ChangeKind::Remove => paint.red(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(group: &str, task: &str, kind: ChangeKind, text: &str) -> Change {
        Change { group: group.to_owned(), task: task.to_owned(), kind, text: text.to_owned() }
    }

    fn plan(changes: Vec<Change>) -> Plan {
        Plan {
            job: "shop".to_owned(),
            from_version: 2,
            version: 3,
            changes,
            volumes: vec![],
            warnings: vec![],
        }
    }

    #[test]
    fn a_plan_reads_without_colour() {
        let plan = plan(vec![
            change("main", "cache", ChangeKind::Keep, "stays as it is"),
            change("main", "db", ChangeKind::Restart, "restarts: image, memory changed"),
            change("main", "old", ChangeKind::Remove, "is removed"),
            change("main", "web", ChangeKind::Create, "is created"),
        ]);
        insta::assert_snapshot!(text(&plan, Paint::PLAIN), @r"
        job shop, version 3
          = cache  stays as it is
          ~ db     restarts: image, memory changed
          - old    is removed
          + web    is created
        ");
    }

    #[test]
    fn volumes_are_told_of() {
        let volume = |id: &str, kind, words: &str| VolumeChange {
            id: id.to_owned(),
            volume: id.split('.').nth(1).unwrap().to_owned(),
            kind,
            text: words.to_owned(),
            import: None,
        };
        let plan = Plan {
            volumes: vec![
                volume("shop.data.0", ChangeKind::Create, "is created"),
                volume("shop.data.1", ChangeKind::Create, "is created"),
                volume("shop.site.0", ChangeKind::Create, "is created with the content of ./site"),
            ],
            ..plan(vec![change("main", "web", ChangeKind::Create, "is created")])
        };
        insta::assert_snapshot!(text(&plan, Paint::PLAIN), @"
        job shop, version 3
          + web                 is created
          + volume shop.data.0  is created
          + volume shop.data.1  is created
          + volume site         is created with the content of ./site
        ");
    }

    #[test]
    fn groups_are_named_when_there_are_several() {
        let mut plan = plan(vec![
            change("a", "web", ChangeKind::Keep, "stays as it is"),
            change("b", "web", ChangeKind::Keep, "stays as it is"),
        ]);
        plan.warnings = vec!["task \"web\" publishes no port".to_owned()];
        // A change that concerns no task.
        assert!(text(&plan, Paint::PLAIN).starts_with("job shop, version 3\n"));
        plan.version = plan.from_version;
        insta::assert_snapshot!(text(&plan, Paint::PLAIN), @r#"
        job shop: nothing changes
          = a/web  stays as it is
          = b/web  stays as it is
        warning: task "web" publishes no port
        "#);
    }
}
