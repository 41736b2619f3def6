//! A task as lines of a job file.
//!
//! Owns which of its keys are written: those that say something else than the default.

use std::collections::BTreeSet;
use std::time::Duration;

use lith_core::job::file::{FileMount, SECRETS_FOLDER};
use lith_core::job::health::{Condition, Health, HealthCheck, HealthTimes, Probe};
use lith_core::job::process::{Logging, TaskKind, Update};
use lith_core::job::{CPUS_DEFAULT, GroupSpec, MEMORY_DEFAULT, RestartPolicy, STOP_GRACE_DEFAULT, TaskSpec};
use lith_core::name::TaskName;

use super::page::{Page, flow_list, flow_map};
use super::{Comments, scalar, value};
use crate::read::{FAILURES, ORDERS};
use crate::value::duration;

/// The tasks of a group.
pub(super) fn tasks(page: &mut Page, depth: usize, group: &GroupSpec, comments: &Comments) {
    for (name, spec) in &group.tasks {
        let mut writer =
            Writer { page: Page::default(), depth: depth + 1, name, comments, written: BTreeSet::new() };
        writer.task(spec);
        let Writer { page: body, written, .. } = writer;
        page.comments(depth, comments.tasks.get(name).map(Vec::as_slice).unwrap_or_default());
        for ((task, key), lines) in &comments.keys {
            if task == name && !written.contains(key.as_str()) {
                page.comments(depth, lines);
            }
        }
        page.key(depth, &scalar(name.as_str()));
        page.text.push_str(&body.text);
    }
}

struct Writer<'a> {
    page: Page,
    depth: usize,
    name: &'a TaskName,
    comments: &'a Comments,
    /// Keys that are written, each with its comments above it.
    written: BTreeSet<&'static str>,
}

impl Writer<'_> {
    fn task(&mut self, task: &TaskSpec) {
        self.pair("image", &value(&task.image));
        self.process(task);
        self.machine(task);
        self.access(task);
        self.health(task);
        if !task.depends_on.is_empty() {
            self.depends_on(task);
        }
        if task.restart != RestartPolicy::default() {
            self.pair("restart", &scalar(&task.restart.to_string()));
        }
        self.optional("stop_signal", task.stop_signal.as_deref());
        if task.stop_grace != STOP_GRACE_DEFAULT {
            self.pair("stop_grace", &duration::display(task.stop_grace));
        }
        if let Some(update) = &task.update {
            self.update(update);
        }
        self.limits(task);
    }

    /// Notes the key as written, after its comments.
    fn start(&mut self, key: &'static str) {
        self.written.insert(key);
        let comments = self.comments.keys.get(&(self.name.clone(), key.to_owned()));
        self.page.comments(self.depth, comments.map(Vec::as_slice).unwrap_or_default());
    }

    fn pair(&mut self, key: &'static str, yaml: &str) {
        self.start(key);
        self.page.pair(self.depth, key, yaml);
    }

    fn optional(&mut self, key: &'static str, text: Option<&str>) {
        if let Some(text) = text {
            self.pair(key, &value(text));
        }
    }

    fn list(&mut self, key: &'static str, items: Vec<String>) {
        self.start(key);
        self.page.list(self.depth, key, items);
    }

    /// A list that is not written when it is empty.
    fn some(&mut self, key: &'static str, items: impl Iterator<Item = String>) {
        let items: Vec<String> = items.collect();
        if !items.is_empty() {
            self.list(key, items);
        }
    }

    fn map(&mut self, key: &'static str, pairs: &[(&str, String)]) {
        self.start(key);
        self.page.map(self.depth, key, pairs);
    }

    fn process(&mut self, task: &TaskSpec) {
        if task.kind != TaskKind::Service {
            self.pair("kind", task.kind.as_str());
        }
        if let TaskKind::Periodic { schedule } = &task.kind {
            self.pair("schedule", &value(schedule));
        }
        for (key, words) in [("entrypoint", &task.entrypoint), ("command", &task.command)] {
            if let Some(words) = words {
                self.start(key);
                self.page.words(self.depth, key, words);
            }
        }
        if !task.env.is_empty() {
            self.start("env");
            self.page.key(self.depth, "env");
            for (name, text) in &task.env {
                self.page.text_pair(self.depth + 1, &scalar(name), text);
            }
        }
        self.optional("user", task.user.as_deref());
        self.some("groups", task.groups.iter().map(|group| value(group)));
        self.optional("working_dir", task.working_dir.as_deref());
        self.optional("hostname", task.hostname.as_deref());
        self.optional("timezone", task.timezone.as_deref());
    }

    fn machine(&mut self, task: &TaskSpec) {
        if task.memory != MEMORY_DEFAULT {
            self.pair("memory", &task.memory.to_string());
        }
        if task.cpus != CPUS_DEFAULT {
            self.pair("cpus", &task.cpus.to_string());
        }
        if let Some(gpu) = &task.gpu {
            self.pair("gpu", &gpu.to_string());
        }
        self.some("devices", task.devices.iter().map(|device| value(&device.to_string())));
        self.some("volumes", task.volumes.iter().map(|mount| value(&mount.to_string())));
        self.some("tmpfs", task.tmpfs.iter().map(|tmpfs| value(&tmpfs.to_string())));
        if let Some(size) = task.shm_size {
            self.pair("shm_size", &size.to_string());
        }
        if task.is_read_only {
            self.pair("read_only", "true");
        }
        self.some("secrets", task.secrets.iter().map(|used| file_use(used, SECRETS_FOLDER)));
        self.some("configs", task.configs.iter().map(|used| file_use(used, "")));
    }

    fn access(&mut self, task: &TaskSpec) {
        self.some("ports", task.ports.iter().map(|port| number(&port.to_string())));
        self.some("publish", task.publish.iter().map(|publish| format!("\"{publish}\"")));
        self.some("expose", task.expose.iter().map(|expose| value(&expose.to_string())));
        self.some("connects", task.connects.iter().map(|connect| value(&connect.to_string())));
        self.some("egress", task.egress.iter().map(|egress| value(&egress.to_string())));
        if let Some(bandwidth) = task.bandwidth {
            self.pair("bandwidth", &bandwidth.to_string());
        }
        if !task.hosts.is_empty() {
            self.start("hosts");
            self.page.key(self.depth, "hosts");
            for (name, address) in &task.hosts {
                self.page.pair(self.depth + 1, &scalar(name), &value(&address.to_string()));
            }
        }
    }

    fn depends_on(&mut self, task: &TaskSpec) {
        if task.depends_on.values().all(|condition| *condition == Condition::Started) {
            return self.some("depends_on", task.depends_on.keys().map(|name| scalar(name.as_str())));
        }
        let names: Vec<String> = task.depends_on.keys().map(|name| scalar(name.as_str())).collect();
        let conditions = task.depends_on.values().map(|condition| condition.as_str().to_owned());
        let pairs: Vec<(&str, String)> = names.iter().map(String::as_str).zip(conditions).collect();
        self.map("depends_on", &pairs);
    }

    fn health(&mut self, task: &TaskSpec) {
        let pairs = match &task.health {
            None => return,
            Some(Health::Off) => return self.pair("health", "none"),
            Some(Health::Image(times)) => health_times(times),
            Some(Health::Check(check)) => health_check(check),
        };
        // Times that change nothing are what the image says anyway.
        if !pairs.is_empty() {
            self.map("health", &pairs);
        }
    }

    fn update(&mut self, update: &Update) {
        let default = Update::default();
        let mut pairs = Vec::new();
        if update.parallel != default.parallel {
            pairs.push(("parallel", update.parallel.to_string()));
        }
        if update.delay != default.delay {
            pairs.push(("delay", duration::display(update.delay)));
        }
        if update.watch != default.watch {
            pairs.push(("watch", duration::display(update.watch)));
        }
        if update.order != default.order {
            pairs.push(("order", word(&ORDERS, update.order)));
        }
        if update.on_failure != default.on_failure {
            pairs.push(("on_failure", word(&FAILURES, update.on_failure)));
        }
        self.map("update", &pairs);
    }

    fn limits(&mut self, task: &TaskSpec) {
        let Logging { max_size, max_files } = task.logging;
        let size = max_size.map(|size| ("max_size", size.to_string()));
        let files = max_files.map(|files| ("max_files", files.to_string()));
        let logging: Vec<(&str, String)> = size.into_iter().chain(files).collect();
        if !logging.is_empty() {
            self.map("logging", &logging);
        }
        let ulimits = task.ulimits.iter().map(|(name, limit)| (name.as_str(), number(&limit.to_string())));
        let ulimits: Vec<(&str, String)> = ulimits.collect();
        if !ulimits.is_empty() {
            self.map("ulimits", &ulimits);
        }
        if !task.sysctls.is_empty() {
            self.start("sysctls");
            self.page.key(self.depth, "sysctls");
            for (name, setting) in &task.sysctls {
                self.page.pair(self.depth + 1, &scalar(name), &value(setting));
            }
        }
    }
}

/// A number stands as it is, also with `/udp` behind it; anything else as a text.
pub(super) fn number(text: &str) -> String {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let digits = text.strip_suffix("/udp").unwrap_or(text);
    let is_range = digits.split_once('-').is_some_and(|(first, last)| is_number(first) && is_number(last));
    if is_number(digits) || is_range { text.to_owned() } else { value(text) }
}

fn word<T: PartialEq>(words: &[(&str, T)], meaning: T) -> String {
    let known = words.iter().find(|(_, known)| *known == meaning);
    known.map(|(word, _)| (*word).to_owned()).expect("each meaning has its word")
}

/// A secret or config of a task, as short as it can be said.
fn file_use(used: &FileMount, folder: &str) -> String {
    let FileMount { source, target, uid, gid, mode, is_writable } = used;
    let is_default = *target == format!("{folder}/{source}");
    if uid.is_none() && gid.is_none() && mode.is_none() && !is_writable {
        return if is_default { value(source.as_str()) } else { value(&format!("{source}:{target}")) };
    }
    let mut pairs = vec![("source", value(source.as_str()))];
    if !is_default {
        pairs.push(("target", value(target)));
    }
    pairs.extend(uid.map(|uid| ("uid", uid.to_string())));
    pairs.extend(gid.map(|gid| ("gid", gid.to_string())));
    pairs.extend(mode.map(|mode| ("mode", format!("\"{mode:04o}\""))));
    if *is_writable {
        pairs.push(("writable", String::from("true")));
    }
    flow_map(&pairs)
}

fn health_times(times: &HealthTimes) -> Vec<(&'static str, String)> {
    let time = |key, time: Option<Duration>| time.map(|time| (key, duration::display(time)));
    let retries = times.retries.map(|retries| ("retries", retries.to_string()));
    [
        time("every", times.every),
        time("timeout", times.timeout),
        retries,
        time("start", times.start),
        time("start_every", times.start_every),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn health_check(check: &HealthCheck) -> Vec<(&'static str, String)> {
    let asked = match &check.probe {
        Probe::Http { port, path } => ("http", value(&format!(":{port}{path}"))),
        Probe::Tcp { port } => ("tcp", port.to_string()),
        Probe::Command(words) => {
            let words: Vec<String> = words.iter().map(|word| value(word)).collect();
            ("command", flow_list(&words))
        }
        Probe::Shell(line) => ("shell", value(line)),
    };
    let default = HealthCheck::new(check.probe.clone());
    let other = |time: Duration, default: Duration| (time != default).then_some(time);
    let times = HealthTimes {
        every: other(check.every, default.every),
        timeout: other(check.timeout, default.timeout),
        retries: (check.retries != default.retries).then_some(check.retries),
        start: other(check.start, default.start),
        start_every: other(check.start_every, default.start_every),
    };
    std::iter::once(asked).chain(health_times(&times)).collect()
}
