//! `job learn`: watches what tasks are refused, and prints what they lack. Opens nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use lith_api::blocked::{Attempt, Blocked};
use lith_api::client::escape;
use lith_api::task::JobDetail;
use lith_spec::Access;
use serde::Serialize;

use crate::args::LearnArgs;
use crate::blocked::{look, remarks};
use crate::context::Context;
use crate::error::Error;
use crate::spinner::Spinner;
use crate::terminal::printable;
use crate::{exit, time};

/// Between two looks: what tasks try, they try for seconds.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What was learned, by task and what it tried.
type Learned = BTreeMap<(String, String), Attempt>;

/// The output of `--json`.
#[derive(Debug, Serialize)]
struct Output<'a> {
    job: &'a str,
    /// The keys that each task should have, with what it has already.
    tasks: BTreeMap<&'a str, Keys<'a>>,
    /// What was tried.
    attempts: Vec<&'a Attempt>,
}

#[derive(Debug, Serialize)]
struct Keys<'a> {
    ports: Vec<&'a str>,
    connects: Vec<&'a str>,
    egress: Vec<&'a str>,
}

/// `lith job learn`.
pub(crate) async fn learn(context: &Context, args: &LearnArgs) -> Result<u8, Error> {
    let begin = Instant::now();
    let first = look(context, &args.job, u64::MAX).await?;
    let (mut learned, mut last) = (Learned::new(), first);
    let since_ms = last.now_ms;
    let spinner = Spinner::new(context.talk(), "");
    let watching = async {
        while begin.elapsed() < args.duration {
            let left = args.duration.saturating_sub(begin.elapsed());
            spinner.say(&progress(&args.job, learned.len(), left));
            tokio::time::sleep(left.min(LOOK_INTERVAL)).await;
            last = look(context, &args.job, since_ms).await?;
            take(&mut learned, &last);
        }
        Ok::<(), Error>(())
    };
    let is_whole = tokio::select! {
        watched = watching => watched.map(|()| true)?,
        // What is known by then is what was asked for.
        _ = tokio::signal::ctrl_c() => false,
    };
    drop(spinner);
    let detail: JobDetail = context.client.get(&format!("/v1/jobs/{}", escape(&args.job))).await?;
    let tasks = lacking(&detail, &learned);
    if context.json {
        context.print_json(&output(&args.job, &tasks, &learned))?;
        return Ok(exit::DONE);
    }
    if learned.is_empty() {
        let watched = time::short(if is_whole { args.duration } else { begin.elapsed() });
        context.say(&format!("nothing that the tasks of \"{}\" tried in {watched} was refused", args.job));
    } else {
        context.print(&text(&tasks, &learned))?;
        context.say(
            "nothing was opened: put what you agree with into the job file and deploy it; then learn again, for what \
             works now leads further",
        );
    }
    for remark in remarks(&last) {
        context.say(&remark);
    }
    Ok(exit::DONE)
}

fn progress(job: &str, count: usize, left: Duration) -> String {
    let what = match count {
        0 => "nothing was refused so far".to_owned(),
        1 => "1 thing was refused so far".to_owned(),
        count => format!("{count} things were refused so far"),
    };
    format!("watching {job}: {what}; {} left, Ctrl-C ends it", time::short(left))
}

/// Keeps what was seen, for the server may forget it.
fn take(learned: &mut Learned, found: &Blocked) {
    for attempt in &found.attempts {
        learned.insert((task_of(attempt).to_owned(), attempt.what.clone()), attempt.clone());
    }
}

/// The name of the task in its job, whichever of its instances.
fn task_of(attempt: &Attempt) -> &str {
    attempt.task.rsplit('.').next().unwrap_or(&attempt.task)
}

/// The keys of each task that lacks something, with what it has already, so that they take the place of its own.
fn lacking(detail: &JobDetail, learned: &Learned) -> BTreeMap<String, Access> {
    let (mut connects, mut egress, mut ports) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for ((task, _), attempt) in learned {
        if let Some(entry) = &attempt.connects {
            connects.entry(task.as_str()).or_insert_with(Vec::new).push(entry.clone());
            let target = entry.split(':').next().unwrap_or(entry);
            ports.entry(target).or_insert_with(Vec::new).extend(attempt.target_ports.clone());
        }
        if let Some(entry) = &attempt.egress {
            egress.entry(task.as_str()).or_insert_with(Vec::new).push(entry.clone());
        }
    }
    ports.retain(|_, ports| !ports.is_empty());
    connects.values_mut().for_each(narrow);
    let specs = detail.spec.groups.values().flat_map(|group| &group.tasks);
    let declared: BTreeMap<&str, _> = specs.map(|(name, spec)| (name.as_str(), spec)).collect();
    let mut tasks: BTreeMap<String, Access> = BTreeMap::new();
    let mut add = |new: BTreeMap<&str, Vec<String>>,
                   key: fn(&mut Access) -> &mut BTreeSet<String>,
                   own: fn(&lith_api::job::TaskSpec) -> &Vec<String>| {
        for (task, entries) in new {
            let has = declared.get(task).map(|spec| own(spec).clone()).unwrap_or_default();
            key(tasks.entry(task.to_owned()).or_default()).extend(has.into_iter().chain(entries));
        }
    };
    add(ports, |access| &mut access.ports, |spec| &spec.ports);
    add(connects, |access| &mut access.connects, |spec| &spec.connects);
    add(egress, |access| &mut access.egress, |spec| &spec.egress);
    tasks
}

/// Leaves out who was only asked for by name where it is known which of its ports is meant.
fn narrow(connects: &mut Vec<String>) {
    let known: BTreeSet<String> =
        connects.iter().filter_map(|entry| Some(entry.split_once(':')?.0.to_owned())).collect();
    connects.retain(|entry| !known.contains(entry));
}

fn text(tasks: &BTreeMap<String, Access>, learned: &Learned) -> String {
    let mut text = if tasks.is_empty() { String::new() } else { lith_spec::access_to_yaml(tasks) };
    let is_left = |attempt: &&Attempt| attempt.connects.is_none() && attempt.egress.is_none();
    let mut left = learned.values().filter(is_left).peekable();
    if left.peek().is_some() {
        text.push_str("# What no line allows by itself:\n");
    }
    for attempt in left {
        let line = format!("#   {}: {}: {}", task_of(attempt), attempt.what, attempt.allow_with);
        text.push_str(&printable(&line));
        text.push('\n');
    }
    text
}

fn output<'a>(job: &'a str, tasks: &'a BTreeMap<String, Access>, learned: &'a Learned) -> Output<'a> {
    let keys = |access: &'a Access| Keys {
        ports: access.ports.iter().map(String::as_str).collect(),
        connects: access.connects.iter().map(String::as_str).collect(),
        egress: access.egress.iter().map(String::as_str).collect(),
    };
    let tasks = tasks.iter().map(|(name, access)| (name.as_str(), keys(access)));
    Output { job, tasks: tasks.collect(), attempts: learned.values().collect() }
}

#[cfg(test)]
mod tests {
    use lith_api::job::JobSpec;
    use lith_api::task::JobSummary;

    use super::*;
    use crate::fixture::attempt;

    fn detail(file: &str) -> JobDetail {
        let job = lith_spec::check("job.yaml", file).job.unwrap();
        let summary = JobSummary {
            name: "shop".to_owned(),
            version: 1,
            wanted: 1,
            ready: 1,
            created_ms: 0,
            updated_ms: 0,
        };
        JobDetail { summary, spec: JobSpec::from(&job), tasks: vec![] }
    }

    #[test]
    fn what_tasks_lack_is_a_part_of_a_job_file() {
        let detail = detail(
            "job: shop\ntasks:\n  web: { image: x, connects: [ cache ], egress: [ internet ] }\n  \
             cache: { image: x, ports: [ 6379 ] }\n  db: { image: x, ports: [ 5432 ] }\n",
        );
        let mut learned = Learned::new();
        let connect = |what: &str, entry: &str| Attempt {
            connects: Some(entry.to_owned()),
            ..attempt("shop.main.0.web", what, "")
        };
        let outside =
            |task: &str, what: &str| Attempt { egress: Some(what.to_owned()), ..attempt(task, what, "") };
        let attempts = vec![
            connect("db", "db"),
            Attempt { target_ports: Some("9187".to_owned()), ..connect("10.83.0.2:9187", "db:9187") },
            connect("10.83.0.9:5432", "pg/db:5432"),
            outside("shop.main.0.web", "192.168.1.20:631"),
            outside("shop.main.0.db", "1.1.1.1:443"),
            outside("shop.main.1.db", "1.1.1.1:443"),
            attempt("shop.main.0.cache", "239.1.2.3:5353/udp", "nothing: multicast does not leave a task"),
        ];
        take(&mut learned, &Blocked { attempts, ..Blocked::default() });
        let tasks = lacking(&detail, &learned);
        insta::assert_snapshot!(text(&tasks, &learned), @r#"
        tasks:
          db:
            ports: [ 5432, 9187 ]
            egress: [ "1.1.1.1:443" ]
          web:
            connects: [ cache, db:9187, pg/db:5432 ]
            egress: [ "192.168.1.20:631", internet ]
        # What no line allows by itself:
        #   cache: 239.1.2.3:5353/udp: nothing: multicast does not leave a task
        "#);
        let json = serde_json::to_value(output("shop", &tasks, &learned)).unwrap();
        assert_eq!(json["tasks"]["db"]["ports"], serde_json::json!(["5432", "9187"]));
        assert_eq!(json["attempts"].as_array().unwrap().len(), 6);
    }

    #[test]
    fn progress_in_words() {
        let left = Duration::from_secs(540);
        assert_eq!(
            progress("shop", 0, left),
            "watching shop: nothing was refused so far; 9m left, Ctrl-C ends it"
        );
        assert!(progress("shop", 1, left).contains("1 thing was refused"));
        assert!(progress("shop", 2, left).contains("2 things were refused"));
    }
}
