//! Names of tasks as people type them, resolved against the tasks that are there. Pure.
//!
//! A name is `JOB`, `JOB/TASK` or `JOB/GROUP/TASK`, each optionally with `.INDEX` at the end; the full identifier
//! `job.group.index.task` that `--json` prints is understood too.

use std::collections::BTreeSet;

use lith_api::error::{Code, Failure};
use lith_api::task::TaskStatus;

use crate::error::Error;

const FORMS: &str =
    "a task is named JOB, JOB/TASK or JOB/GROUP/TASK, with .N at the end for one instance of several";

/// What was typed, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    /// The job.
    pub(crate) job: String,
    /// The group, if given.
    pub(crate) group: Option<String>,
    /// The task, if given.
    pub(crate) task: Option<String>,
    /// The instance, if given.
    pub(crate) index: Option<u32>,
}

impl Name {
    /// Takes a name apart.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let bad = || Error::usage(format!("`{text}` is not the name of a job or task"), FORMS);
        if let Some(name) = identifier(text) {
            return Ok(name);
        }
        let (path, index) = match text.rsplit_once('.') {
            Some((path, index)) => (path, Some(index.parse().map_err(|_| bad())?)),
            None => (text, None),
        };
        let parts: Vec<&str> = path.split('/').collect();
        let is_word = |part: &&str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        if !parts.iter().all(is_word) {
            return Err(bad());
        }
        let own = |part: &str| Some(part.to_owned());
        let (job, group, task) = match parts[..] {
            [job] => (job, None, None),
            [job, task] => (job, None, own(task)),
            [job, group, task] => (job, own(group), own(task)),
            _ => return Err(bad()),
        };
        Ok(Self { job: job.to_owned(), group, task, index })
    }

    fn fits(&self, status: &TaskStatus) -> bool {
        let is = |wanted: &Option<String>, name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
        status.job == self.job
            && is(&self.group, &status.group)
            && is(&self.task, &status.task)
            && self.index.is_none_or(|index| index == status.index)
    }
}

fn identifier(text: &str) -> Option<Name> {
    let parts: Vec<&str> = text.split('.').collect();
    let [job, group, index, task] = parts[..] else { return None };
    let is_word = |part: &str| !part.is_empty() && !part.contains('/');
    let index = index.parse().ok().filter(|_| is_word(job) && is_word(group) && is_word(task))?;
    Some(Name {
        job: job.to_owned(),
        group: Some(group.to_owned()),
        task: Some(task.to_owned()),
        index: Some(index),
    })
}

/// Every task that fits, at least one.
pub(crate) fn all<'a>(name: &Name, tasks: &'a [TaskStatus]) -> Result<Vec<&'a TaskStatus>, Error> {
    let fitting: Vec<&TaskStatus> = tasks.iter().filter(|status| name.fits(status)).collect();
    if fitting.is_empty() {
        return Err(unknown(name, tasks).into());
    }
    Ok(fitting)
}

/// The one task that fits; `command` is what the hint tells to type, such as `lith logs`.
pub(crate) fn one<'a>(name: &Name, tasks: &'a [TaskStatus], command: &str) -> Result<&'a TaskStatus, Error> {
    let fitting = all(name, tasks)?;
    let [first, ..] = fitting[..] else { return Err(unknown(name, tasks).into()) };
    if fitting.len() == 1 {
        return Ok(first);
    }
    let shown: Vec<String> = fitting.iter().map(|status| within_job(status, tasks)).collect();
    let is_one_task =
        fitting.iter().all(|status| (&status.group, &status.task) == (&first.group, &first.task));
    let (what, noun) = if is_one_task {
        (format!("task \"{}/{}\"", first.job, first.task), "instances")
    } else {
        (format!("job \"{}\"", name.job), "tasks")
    };
    Err(Error::usage(
        format!("{what} has {} {noun}: {}", fitting.len(), shown.join(", ")),
        format!("name one: `{command} {}/{}`", name.job, shown[0]),
    ))
}

fn unknown(name: &Name, tasks: &[TaskStatus]) -> Failure {
    let names: BTreeSet<String> = tasks
        .iter()
        .filter(|status| status.job == name.job)
        .map(|status| within_job(status, tasks))
        .collect();
    let missing = match (&name.group, &name.task, name.index) {
        (Some(group), Some(task), Some(index)) => format!("task \"{group}/{task}.{index}\""),
        (Some(group), Some(task), None) => format!("task \"{group}/{task}\""),
        (_, Some(task), Some(index)) => format!("task \"{task}.{index}\""),
        (_, Some(task), None) => format!("task \"{task}\""),
        (_, None, Some(index)) => format!("instance {index}"),
        (_, None, None) => "tasks".to_owned(),
    };
    let message = format!("job \"{}\" has no {missing}", name.job);
    let names: Vec<String> = names.into_iter().collect();
    let hint = if names.is_empty() {
        "`lith ps --all` lists what is there".to_owned()
    } else {
        format!("it has: {}", names.join(", "))
    };
    Failure::new(Code::NotFound, message).hint(hint)
}

/// The shortest text that names the task without doubt: `shop/web`.
pub(crate) fn label(status: &TaskStatus, tasks: &[TaskStatus]) -> String {
    format!("{}/{}", status.job, within_job(status, tasks))
}

/// The shortest text that names the task among those of its job: `web`, `front/web`, `web.1`.
pub(crate) fn within_job(status: &TaskStatus, tasks: &[TaskStatus]) -> String {
    let siblings = || tasks.iter().filter(|other| other.job == status.job && other.task == status.task);
    let mut text = status.task.clone();
    if siblings().any(|other| other.group != status.group) {
        text = format!("{}/{text}", status.group);
    }
    if siblings().any(|other| other.group == status.group && other.index != status.index) {
        text = format!("{text}.{}", status.index);
    }
    text
}

/// The closest of some names, for "did you mean".
pub(crate) fn closest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Below this, two names have nothing to do with each other.
    const LIKENESS_MIN: f64 = 0.75;
    let likeness = |name: &str| strsim::jaro_winkler(wanted, name);
    let scored = names.into_iter().map(|name| (likeness(name), name));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= LIKENESS_MIN).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::task;
    use crate::terminal::Paint;

    fn world() -> Vec<TaskStatus> {
        vec![
            task("hello.main.0.web"),
            task("shop.main.0.db"),
            task("shop.main.0.web"),
            task("wide.main.0.web"),
            task("wide.main.1.web"),
            task("twin.a.0.web"),
            task("twin.b.0.web"),
        ]
    }

    fn resolve(text: &str) -> Result<String, String> {
        let world = world();
        let name = Name::parse(text);
        let found = name.and_then(|name| one(&name, &world, "lith exec").map(|status| status.id.clone()));
        found.map_err(|error| error.text(Paint::PLAIN))
    }

    #[test]
    fn names_resolve() {
        let check = |text: &str, id: &str| assert_eq!(resolve(text).as_deref(), Ok(id), "{text}");
        check("hello", "hello.main.0.web");
        check("hello/web", "hello.main.0.web");
        check("hello/main/web", "hello.main.0.web");
        check("hello.0", "hello.main.0.web");
        check("shop/db", "shop.main.0.db");
        check("wide.1", "wide.main.1.web");
        check("wide/web.1", "wide.main.1.web");
        check("twin/b/web", "twin.b.0.web");
        check("twin.b.0.web", "twin.b.0.web");
    }

    #[test]
    fn doubts_are_explained() {
        let check = |text: &str, words: &str| assert_eq!(resolve(text).unwrap_err(), words, "{text}");
        check("shop", "error: job \"shop\" has 2 tasks: db, web\nhint: name one: `lith exec shop/db`\n");
        check(
            "wide",
            "error: task \"wide/web\" has 2 instances: web.0, web.1\nhint: name one: `lith exec wide/web.0`\n",
        );
        check(
            "twin/web",
            "error: job \"twin\" has 2 tasks: a/web, b/web\nhint: name one: `lith exec twin/a/web`\n",
        );
        check("shop/wep", "error: job \"shop\" has no task \"wep\" [E0002]\nhint: it has: db, web\n");
        check("wide.7", "error: job \"wide\" has no instance 7 [E0002]\nhint: it has: web.0, web.1\n");
        check(
            "none",
            "error: job \"none\" has no tasks [E0002]\nhint: `lith ps --all` lists what is there\n",
        );
        for bad in ["", "a/b/c/d", "a//b", "a.x", "../x", "/a", "a b"] {
            assert!(resolve(bad).unwrap_err().contains("is not the name of a job or task"), "{bad}");
        }
    }

    #[test]
    fn labels_are_as_short_as_they_can_be() {
        let world = world();
        let labels: Vec<String> = world.iter().map(|status| label(status, &world)).collect();
        assert_eq!(
            labels,
            ["hello/web", "shop/db", "shop/web", "wide/web.0", "wide/web.1", "twin/a/web", "twin/b/web"]
        );
    }

    #[test]
    fn near_names() {
        assert_eq!(closest("helo", ["shop", "hello"]), Some("hello"));
        assert_eq!(closest("zzz", ["shop", "hello"]), None);
    }
}
