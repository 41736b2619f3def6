//! What a person is told: the wanted world joined with what the agent sees. Pure.

use std::collections::{BTreeMap, BTreeSet};

use lith_api::agent::Observed;
use lith_api::error::{Code, Failure};
use lith_api::event::Event;
use lith_api::task::{Ask, AskRequest, Health, JobSummary, Phase, TaskStatus};
use lith_core::deploy::{self, Desire, Job, TaskKey};
use lith_core::job::TaskSpec;
use lith_core::name::{AllocId, NodeName, TaskId, TaskName};
use lith_core::task::{HEALTHY_AFTER, Incarnation};
use lith_core::time::Time;
use lith_store::{StoredJob, World};

/// Every task that is wanted or still there, in order of id.
pub(crate) fn tasks(world: &World, observed: &Observed) -> Vec<TaskStatus> {
    let mut seen: BTreeMap<&str, &TaskStatus> =
        observed.tasks.iter().map(|task| (task.id.as_str(), task)).collect();
    let mut tasks = Vec::new();
    for (alloc, node) in &world.allocs {
        let Some(job) = world.jobs.get(&alloc.job).map(|stored| &stored.job) else { continue };
        let Some(group) = job.spec.groups.get(&alloc.group) else { continue };
        for (name, spec) in &group.tasks {
            let Some(desire) = job.desires.get(&(alloc.group.clone(), name.clone())) else { continue };
            let id = TaskId { alloc: alloc.clone(), task: name.clone() }.to_string();
            tasks.push(match seen.remove(id.as_str()) {
                Some(status) => joined(status, *desire),
                None => unseen(id, alloc, name, node, spec, *desire),
            });
        }
    }
    let leaving = seen.into_values().map(|task| TaskStatus {
        is_ready: false,
        phase: if task.phase == Phase::Gone { Phase::Gone } else { Phase::Stopping },
        ..task.clone()
    });
    tasks.extend(leaving);
    tasks.sort_by(|a, b| a.id.cmp(&b.id));
    tasks
}

/// The agent's word, unless it is about another version than the wanted one: what runs then is on its way out.
fn joined(status: &TaskStatus, desire: Desire) -> TaskStatus {
    if status.incarnation == desire.incarnation.0 {
        return status.clone();
    }
    let phase = match status.phase {
        Phase::Running | Phase::Starting => Phase::Stopping,
        Phase::Finished | Phase::Stopped | Phase::Gone => Phase::Waiting,
        Phase::Waiting | Phase::Fetching | Phase::Stopping => status.phase,
    };
    TaskStatus {
        phase,
        is_ready: false,
        why: None,
        hint: None,
        health: None,
        health_output: None,
        incarnation: desire.incarnation.0,
        ..status.clone()
    }
}

fn unseen(
    id: String,
    alloc: &AllocId,
    name: &TaskName,
    node: &NodeName,
    spec: &TaskSpec,
    desire: Desire,
) -> TaskStatus {
    TaskStatus {
        id,
        job: alloc.job.to_string(),
        group: alloc.group.to_string(),
        index: alloc.index,
        task: name.to_string(),
        node: node.to_string(),
        phase: if desire.run { Phase::Waiting } else { Phase::Stopped },
        is_ready: false,
        why: None,
        hint: None,
        incarnation: desire.incarnation.0,
        image: spec.image.clone(),
        image_digest: None,
        running_since_ms: None,
        health: None,
        health_output: None,
        restarts: 0,
        last_exit: None,
        is_held_up: false,
        address: None,
        publish: spec.publish.iter().map(ToString::to_string).collect(),
    }
}

/// A job's line in the list.
pub(crate) fn summary(stored: &StoredJob, observed: &Observed) -> JobSummary {
    let job = &stored.job;
    let wanted: u32 = job
        .desires
        .iter()
        .filter(|(_, desire)| desire.run)
        .filter_map(|(key, _)| job.spec.groups.get(&key.0))
        .map(|group| group.count)
        .sum();
    let name = job.spec.name.as_str();
    let ready = observed.tasks.iter().filter(|task| task.job == name && task.is_ready).count();
    JobSummary {
        name: name.to_owned(),
        version: job.version,
        wanted,
        ready: u32::try_from(ready).unwrap_or(u32::MAX),
        created_ms: stored.created.0,
        updated_ms: stored.updated.0,
    }
}

/// The job after what a person asked of it.
pub(crate) fn ask(
    job: &Job,
    request: &AskRequest,
    observed: &Observed,
    next: Incarnation,
) -> Result<Job, Failure> {
    let keys: BTreeSet<TaskKey> = super::keys(job)
        .filter(|(_, task)| request.task.as_ref().is_none_or(|wanted| task.as_str() == wanted))
        .cloned()
        .collect();
    if keys.is_empty() {
        let wanted = request.task.as_deref().unwrap_or_default();
        let names: BTreeSet<&str> = super::keys(job).map(|(_, task)| task.as_str()).collect();
        let names: Vec<&str> = names.into_iter().collect();
        let message = format!("job \"{}\" has no task \"{wanted}\"", job.spec.name);
        return Err(Failure::new(Code::NotFound, message).hint(format!("it has: {}", names.join(", "))));
    }
    Ok(match request.ask {
        Ask::Stop => deploy::ask(job, deploy::Ask::Stop, &keys, next),
        Ask::Restart => deploy::ask(job, deploy::Ask::Restart, &keys, next),
        Ask::Start => {
            let mut finished = BTreeSet::new();
            for key in &keys {
                if has_finished(job, key, observed)? {
                    finished.insert(key.clone());
                }
            }
            let others = keys.difference(&finished).cloned().collect();
            let others = deploy::ask(job, deploy::Ask::Start, &others, next);
            deploy::ask(&others, deploy::Ask::Restart, &finished, next)
        }
    })
}

/// The tasks of which every instance is ready, of the version that is wanted, and not in bad health. One that was restarted
/// must have lasted: what fails again and again may be ready in between.
pub(crate) fn well(job: &Job, observed: &Observed, now: Time) -> BTreeSet<TaskKey> {
    let lasts = |status: &&TaskStatus| {
        status.restarts == 0
            || status.running_since_ms.is_some_and(|since| Time(since).after(HEALTHY_AFTER) <= now)
    };
    let is_fit =
        |status: &&TaskStatus| status.is_ready && matches!(status.health, None | Some(Health::Healthy));
    let is_well = |key: &TaskKey| {
        let count = job.spec.groups.get(&key.0).map_or(0, |group| group.count);
        let well = instances(job, key, observed).filter(is_fit).filter(lasts).count();
        u32::try_from(well) == Ok(count)
    };
    super::keys(job).filter(|key| is_well(key)).cloned().collect()
}

/// What is seen of the instances of a task. The end of a former version says nothing about this one.
fn instances<'a>(
    job: &'a Job,
    key: &'a TaskKey,
    observed: &'a Observed,
) -> impl Iterator<Item = &'a TaskStatus> {
    let (group, task) = key;
    let count = job.spec.groups.get(group).map_or(0, |group| group.count);
    observed.tasks.iter().filter(move |status| {
        status.job == job.spec.name.as_str()
            && status.group == group.as_str()
            && status.task == task.as_str()
            && status.index < count
            && job.desires.get(key).is_some_and(|desire| status.incarnation == desire.incarnation.0)
    })
}

/// Whether what is wanted of a task has been done, so that starting it takes a new incarnation. All instances share one:
/// when some have finished and others run, starting the former would restart the latter, which nobody asked for.
fn has_finished(job: &Job, key: &TaskKey, observed: &Observed) -> Result<bool, Failure> {
    let (_, task) = key;
    if job.desires.get(key).is_none_or(|desire| !desire.run) {
        return Ok(false);
    }
    let (mut finished, mut running) = (Vec::new(), Vec::new());
    for status in instances(job, key, observed) {
        match status.phase {
            Phase::Finished => finished.push(status.index.to_string()),
            Phase::Starting | Phase::Running | Phase::Stopping => running.push(status.index.to_string()),
            Phase::Waiting | Phase::Fetching | Phase::Stopped | Phase::Gone => {}
        }
    }
    if finished.is_empty() || running.is_empty() {
        return Ok(!finished.is_empty());
    }
    let message = format!(
        "task \"{task}\" of job \"{}\" has finished in instance {} and runs in instance {}; instances start together",
        job.spec.name,
        finished.join(", "),
        running.join(", ")
    );
    let hint = format!("`lith restart {}/{task}` restarts all of them", job.spec.name);
    Err(Failure::new(Code::Conflict, message).hint(hint))
}

/// What an event tells of.
fn told(task: &TaskStatus) -> (Phase, bool, Option<Health>) {
    (task.phase, task.is_ready, task.health)
}

/// An event for each task whose phase, readiness or health differs.
pub(crate) fn phase_events(before: &Observed, now: &Observed) -> Vec<Event> {
    let earlier: BTreeMap<&str, &TaskStatus> =
        before.tasks.iter().map(|task| (task.id.as_str(), task)).collect();
    let changed =
        |task: &&TaskStatus| earlier.get(task.id.as_str()).is_none_or(|earlier| told(earlier) != told(task));
    let there = now.tasks.iter().filter(changed).map(|task| {
        let state = if task.is_ready { "ready".to_owned() } else { task.phase.to_string() };
        let state = task.health.map_or_else(|| state.clone(), |health| format!("{state} ({health})"));
        let message = match &task.why {
            Some(why) => format!("{state}: it {why}"),
            None => state,
        };
        event(task, message)
    });
    let present: BTreeSet<&str> = now.tasks.iter().map(|task| task.id.as_str()).collect();
    let gone = before
        .tasks
        .iter()
        .filter(|task| !present.contains(task.id.as_str()))
        .map(|task| event(task, "removed".to_owned()));
    there.chain(gone).collect()
}

fn event(task: &TaskStatus, message: String) -> Event {
    Event {
        id: 0,
        time_ms: 0,
        job: Some(task.job.clone()),
        task: Some(task.id.clone()),
        kind: "phase".to_owned(),
        message,
    }
}

#[cfg(test)]
pub(super) mod tests;
