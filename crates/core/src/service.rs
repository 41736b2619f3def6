//! The number that the cluster gives to each task of each job, from which the task's virtual address follows.
//!
//! An address that belongs to a task and not to one of its instances: whoever connects to it reaches an instance that is
//! well, wherever that is. It stays the same for as long as the job is known, so that what clients remember of it does not
//! go stale.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::job::JobSpec;
use crate::name::{JobName, TaskName};

/// What has a number: a task of a job, whichever of its instances.
pub type ServiceKey = (JobName, TaskName);

/// Highest number. Numbers are the lower 15 bits of the virtual address; the bound leaves the last address unused.
pub const SERVICE_MAX: u16 = 32_766;

/// A task's number in its cluster, in `1..=SERVICE_MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceNumber(u16);

impl ServiceNumber {
    /// The service with this number, if it is in range.
    #[must_use]
    pub fn new(number: u16) -> Option<Self> {
        (1..=SERVICE_MAX).contains(&number).then_some(Self(number))
    }

    /// The number.
    #[must_use]
    pub fn number(self) -> u16 {
        self.0
    }

    /// The number to give out next: the first free one after `last`, wrapping round, so that a number is reused as late as
    /// possible, when nobody remembers its former owner any more.
    #[must_use]
    pub fn next_free(taken: &BTreeSet<Self>, last: Option<Self>) -> Option<Self> {
        let start = u32::from(last.map_or(0, Self::number));
        let max = u32::from(SERVICE_MAX);
        let mut candidates = (0..max).filter_map(|offset| u16::try_from((start + offset) % max + 1).ok());
        candidates.find(|number| !taken.contains(&Self(*number))).map(Self)
    }
}

impl fmt::Display for ServiceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Numbers for the tasks of `jobs` that have none, in order of name. `last` is the one that was given out last. Tasks for
/// which no number is left have no virtual address.
#[must_use]
pub fn numbers_for<'a>(
    jobs: impl IntoIterator<Item = &'a JobSpec>,
    known: &BTreeMap<ServiceKey, ServiceNumber>,
    mut last: Option<ServiceNumber>,
) -> Vec<(ServiceKey, ServiceNumber)> {
    let keys = |job: &'a JobSpec| job.tasks().map(|(_, task, _)| (job.name.clone(), task.clone()));
    let new: BTreeSet<ServiceKey> =
        jobs.into_iter().flat_map(keys).filter(|key| !known.contains_key(key)).collect();
    let mut taken: BTreeSet<ServiceNumber> = known.values().copied().collect();
    let mut given = Vec::new();
    for key in new {
        let Some(number) = ServiceNumber::next_free(&taken, last) else { break };
        taken.insert(number);
        last = Some(number);
        given.push((key, number));
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{GroupSpec, TaskSpec};

    fn job(name: &str, tasks: &[&str]) -> JobSpec {
        let tasks = tasks.iter().map(|task| (task.parse().unwrap(), TaskSpec::new("app:1")));
        let group = GroupSpec::new(tasks.collect());
        JobSpec::new(name.parse().unwrap(), [("main".parse().unwrap(), group)].into())
    }

    #[test]
    fn each_task_has_a_number_and_keeps_it() {
        let told = |given: &[(ServiceKey, ServiceNumber)]| -> Vec<String> {
            given.iter().map(|((job, task), number)| format!("{job}/{task} {number}")).collect()
        };
        let jobs = [job("shop", &["web", "db"]), job("blog", &["web"])];
        let given = numbers_for(&jobs, &BTreeMap::new(), None);
        assert_eq!(told(&given), ["blog/web 1", "shop/db 2", "shop/web 3"]);
        let mut known: BTreeMap<_, _> = given.into_iter().collect();
        assert_eq!(numbers_for(&jobs, &known, ServiceNumber::new(3)), vec![]);
        known.remove(&("blog".parse().unwrap(), "web".parse().unwrap()));
        let jobs = [job("shop", &["web"]), job("news", &["web"])];
        let given = numbers_for(&jobs, &known, ServiceNumber::new(3));
        assert_eq!(told(&given), ["news/web 4"], "the one of what is gone is not given out next");
        let full = (1..=SERVICE_MAX).map(|number| {
            let key = ("shop".parse().unwrap(), format!("t{number}").parse().unwrap());
            (key, ServiceNumber(number))
        });
        assert_eq!(numbers_for(&jobs, &full.collect(), None), vec![]);
    }

    #[test]
    fn next_free_goes_round() {
        let number = |number| ServiceNumber::new(number).unwrap();
        let taken = BTreeSet::from([number(1), number(3)]);
        assert_eq!(ServiceNumber::next_free(&taken, None), Some(number(2)));
        assert_eq!(ServiceNumber::next_free(&taken, Some(number(2))), Some(number(4)));
        assert_eq!(ServiceNumber::next_free(&taken, Some(number(SERVICE_MAX))), Some(number(2)));
        let all = (1..=SERVICE_MAX).map(number).collect();
        assert_eq!(ServiceNumber::next_free(&all, None), None);
        assert_eq!(ServiceNumber::new(0), None);
        assert_eq!(ServiceNumber::new(SERVICE_MAX + 1), None);
    }
}
