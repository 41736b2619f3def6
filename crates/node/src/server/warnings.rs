//! What a person should know before a deployment. Pure.

use std::collections::BTreeMap;

use lith_api::task::{Change, ChangeKind, Phase, TaskStatus};

/// Running tasks whose image's name leads to another image by now, in sentences. `resolve` says to which digest a name
/// leads in the local store.
pub(crate) fn moved_images(
    changes: &[Change],
    tasks: &[TaskStatus],
    resolve: impl Fn(&str) -> Option<String>,
) -> Vec<String> {
    let mut moved = BTreeMap::new();
    for task in tasks.iter().filter(|task| task.phase == Phase::Running) {
        let is_its = |change: &&Change| change.group == task.group && change.task == task.task;
        let Some(change) = changes.iter().find(is_its) else { continue };
        let Some(running) = &task.image_digest else { continue };
        if resolve(&task.image).is_some_and(|stored| stored != *running) {
            moved.insert((&task.group, &task.task), (task, change.kind));
        }
    }
    moved.into_values().filter_map(|(task, kind)| Some(sentence(task, outcome(task, kind)?))).collect()
}

fn sentence(TaskStatus { image, task, .. }: &TaskStatus, outcome: String) -> String {
    format!("image {image} has moved here since task \"{task}\" was started: {outcome}")
}

/// What the deployment makes of it; nothing for a task that it ends anyway.
fn outcome(TaskStatus { job, task, .. }: &TaskStatus, kind: ChangeKind) -> Option<String> {
    match kind {
        ChangeKind::Keep => Some(format!("`lith restart {job}/{task}` takes the new one")),
        ChangeKind::Scale | ChangeKind::Adjust => {
            Some(format!("only new instances take it, until `lith restart {job}/{task}`"))
        }
        ChangeKind::Restart => Some("it restarts with what its name leads to now".to_owned()),
        ChangeKind::Create | ChangeKind::Start | ChangeKind::Remove => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_image_is_told_once_per_task() {
        let task = |index, phase, digest: &str| TaskStatus {
            index,
            phase,
            image_digest: Some(digest.to_owned()),
            ..crate::server::status::tests::status("shop", "web")
        };
        let check = |kind, tasks: &[TaskStatus], expected: &[&str]| {
            let (group, task) = ("main".to_owned(), "web".to_owned());
            let changes = [Change { group, task, kind, text: String::new() }];
            let resolve = |image: &str| (image == "nginx:1").then(|| "sha256:b".to_owned());
            assert_eq!(moved_images(&changes, tasks, resolve), expected);
        };
        let told = "image nginx:1 has moved here since task \"web\" was started: `lith restart shop/web` takes the new one";
        let former = task(0, Phase::Running, "sha256:a");
        check(ChangeKind::Keep, &[former.clone(), task(1, Phase::Running, "sha256:a")], &[told]);
        check(ChangeKind::Keep, &[task(0, Phase::Running, "sha256:b")], &[]);
        check(ChangeKind::Keep, &[task(0, Phase::Waiting, "sha256:a")], &[]);
        check(ChangeKind::Remove, std::slice::from_ref(&former), &[]);
        let told = "image nginx:1 has moved here since task \"web\" was started: it restarts with what its name leads to \
                    now";
        check(ChangeKind::Restart, std::slice::from_ref(&former), &[told]);
        check(ChangeKind::Keep, &[TaskStatus { image: "other:1".to_owned(), ..former }], &[]);
    }
}
