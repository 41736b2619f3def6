//! The process: its image, command, environment, user, names, and what happens when it ends.
//!
//! Owns the keys whose value is one of the task's own; each is checked by the same grammar that job files have.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lith_core::job::access::ENTRIES_MAX;
use lith_core::job::health::HEALTH_TIME_MAX;
use lith_core::job::process::{Logging, OnFailure, Update, UpdateOrder};
use lith_core::job::{
    COUNT_MAX, LOG_FILES_MAX, LOG_SIZE_MAX, LOG_SIZE_MIN, MEMBERS_MAX, RestartPolicy, STOP_GRACE_DEFAULT,
    STOP_GRACE_MAX, TaskSpec,
};
use lith_core::name::TaskName;
use lith_core::value::{self as shared, quoted};

use super::Work;
use crate::compose::project::{At, Service, UpdateConfig};
use crate::diagnostic::Code;
use crate::value;

/// Drivers whose log stays where the container runs, as lith's does.
const LOCAL_LOGGING: [&str; 2] = ["json-file", "local"];
/// Platforms that lith has guests for.
const PLATFORMS: [&str; 6] =
    ["linux", "linux/amd64", "linux/x86_64", "linux/arm64", "linux/arm64/v8", "linux/aarch64"];

/// The image of a service; `None` when it has none that could be fetched.
pub(super) fn image(service: &Service, name: &TaskName, work: &mut Work<'_>) -> Option<String> {
    match (&service.image, service.build) {
        (Some(image), build) => {
            if let Some(build) = build {
                work.notes.fetched.add(image.value.clone(), build);
                work.decide(name, "image", "built in Compose, fetched here");
            }
            work.accept(Code::BadImage, image.span, shared::image::parse(&image.value))
        }
        (None, build) => {
            let build = build.expect("loading refuses a service with neither of them");
            let message = format!("{} is built, and names no image to fetch", quoted(&service.name.value));
            let hint = format!(
                "build and push it, then add its name beside `build`, such as `image: registry.example/{name}:1`"
            );
            work.reporter.error(Code::BuildWithoutImage, build, message, hint);
            None
        }
    }
}

/// Reads everything else of the process.
pub(super) fn process(service: &Service, name: &TaskName, task: &mut TaskSpec, work: &mut Work<'_>) {
    task.entrypoint = words(service.entrypoint.as_ref(), work);
    task.command = words(service.command.as_ref(), work);
    task.env = env(service, work);
    let given = |text: &&At<String>| !text.value.is_empty();
    if let Some(user) = service.user.as_ref().filter(given) {
        task.user = work.accept(Code::BadUser, user.span, shared::user::parse(&user.value));
    }
    for group in &service.group_add {
        let parsed = work.accept(Code::BadUser, group.span, shared::process::group(&group.value));
        task.groups.extend(parsed);
    }
    task.groups.sort();
    task.groups.dedup();
    if let Some(folder) = service.working_dir.as_ref().filter(given) {
        task.working_dir = work.accept(Code::BadPath, folder.span, shared::path::absolute(&folder.value));
    }
    task.hostname = hostname(service, work);
    task.hosts = hosts(service, work);
    task.restart = restart(service, work);
    if let Some(signal) = service.stop_signal.as_ref().filter(given) {
        match value::signal(&signal.value) {
            Ok(signal) => task.stop_signal = Some(signal),
            Err(refusal) => {
                work.reporter.error(refusal.code, signal.span, refusal.message, refusal.hint);
            }
        }
    }
    task.stop_grace = stop_grace(service, work);
    task.logging = logging(service, name, work);
    task.update = service.deploy.update.as_ref().and_then(|update| self::update(update, work));
    platform(service, work);
}

/// A command; an empty one says nothing.
fn words(words: Option<&At<Vec<String>>>, work: &mut Work<'_>) -> Option<Vec<String>> {
    let words = words?;
    for word in &words.value {
        if let Err(refusal) = value::words::word(word) {
            work.reporter.error(refusal.code, words.span, refusal.message, refusal.hint);
        }
    }
    Some(words.value.clone())
}

fn env(service: &Service, work: &mut Work<'_>) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for (name, text) in &service.environment {
        let checked = shared::env::name(name).and_then(|()| shared::env::value(name, &text.value));
        if let Some(text) = work.accept(Code::BadEnv, text.span, checked) {
            env.insert(name.clone(), text);
        }
    }
    env
}

/// Host name and domain as one name.
fn hostname(service: &Service, work: &mut Work<'_>) -> Option<String> {
    let given = |text: &&At<String>| !text.value.is_empty();
    let host = service.hostname.as_ref().filter(given);
    let domain = service.domainname.as_ref().filter(given);
    let (host, span) = match (host, domain) {
        (Some(host), Some(domain)) => (format!("{}.{}", host.value, domain.value), host.span),
        (Some(host), None) => (host.value.clone(), host.span),
        (None, Some(domain)) => {
            let name = work.names.task(&service.name.value)?;
            (format!("{name}.{}", domain.value), domain.span)
        }
        (None, None) => return None,
    };
    work.accept(Code::BadHost, span, shared::access::host_name(&host))
}

/// `extra_hosts`, without those that stand for the node.
fn hosts(service: &Service, work: &mut Work<'_>) -> BTreeMap<String, IpAddr> {
    let mut hosts = BTreeMap::new();
    for entry in &service.extra_hosts {
        let (name, address) = &entry.value;
        if address == "host-gateway" {
            work.notes.host_gateway.add(format!("{name} of {}", service.name.value), entry.span);
            continue;
        }
        let name = work.accept(Code::BadHost, entry.span, shared::access::host_name(name));
        let Ok(address) = address.trim_matches(['[', ']']).parse::<IpAddr>() else {
            let message = format!("{} is not an address", quoted(address));
            let hint = "write an address behind the name, such as `db.example.org:192.0.2.7`";
            work.reporter.error(Code::BadHost, entry.span, message, hint);
            continue;
        };
        let Some(name) = name else { continue };
        let first = *hosts.entry(name.clone()).or_insert(address);
        if first != address {
            let message = format!("{} has several addresses; the first, {first}, is kept", quoted(&name));
            work.reporter.warning(Code::Decided, entry.span, message, None);
        }
    }
    if hosts.len() > ENTRIES_MAX {
        let message = format!("`extra_hosts` holds {} names; the limit is {ENTRIES_MAX}", hosts.len());
        work.reporter.error(Code::TooMany, service.name.span, message, None);
    }
    hosts
}

/// `deploy.restart_policy` wins over `restart`, as Compose has it; without either, a container that ends stays ended.
fn restart(service: &Service, work: &mut Work<'_>) -> RestartPolicy {
    if let Some(policy) = &service.deploy.restart {
        let (condition, attempts) = &policy.value;
        return match condition.as_str() {
            "" | "any" => RestartPolicy::Always,
            "on-failure" => RestartPolicy::OnFailure { retries_max: attempts.filter(|count| *count > 0) },
            "none" => RestartPolicy::Never,
            // Docker takes the words of `restart` here, too.
            other => {
                work.accept(Code::BadRestart, policy.span, shared::restart::parse(other)).unwrap_or_default()
            }
        };
    }
    let Some(restart) = service.restart.as_ref().filter(|restart| !restart.value.is_empty()) else {
        return RestartPolicy::Never;
    };
    // Docker reads `on-failure:0` as no limit.
    let text = restart.value.strip_suffix(":0").unwrap_or(&restart.value);
    work.accept(Code::BadRestart, restart.span, shared::restart::parse(text)).unwrap_or_default()
}

fn stop_grace(service: &Service, work: &mut Work<'_>) -> std::time::Duration {
    let Some(grace) = &service.stop_grace_period else { return STOP_GRACE_DEFAULT };
    if grace.value > STOP_GRACE_MAX {
        let most = value::duration::display(STOP_GRACE_MAX);
        let message = format!("a task is given {most} at most to stop by itself");
        work.reporter.error(Code::OutOfRange, grace.span, message, format!("write `{most}`"));
        return STOP_GRACE_DEFAULT;
    }
    grace.value
}

fn logging(service: &Service, name: &TaskName, work: &mut Work<'_>) -> Logging {
    let Some(logging) = &service.logging else { return Logging::default() };
    if let Some(driver) = &logging.value.driver
        && !LOCAL_LOGGING.contains(&driver.as_str())
    {
        work.notes.without_effect.add(format!("logging ({driver})"), logging.span);
    }
    // A limit of few kilobytes would keep less than a screen; one of many gigabytes is none.
    let max_size = logging.value.max_size.map(|size| size.clamp(LOG_SIZE_MIN, LOG_SIZE_MAX));
    let max_files = logging.value.max_file.map(|files| files.clamp(1, LOG_FILES_MAX));
    if (max_size, max_files) != (logging.value.max_size, logging.value.max_file) {
        let comment =
            format!("a log file holds {LOG_SIZE_MIN} to {LOG_SIZE_MAX}, and there are 1 to {LOG_FILES_MAX}");
        work.decide(name, "logging", comment);
    }
    Logging { max_size, max_files }
}

fn update(update: &At<UpdateConfig>, work: &mut Work<'_>) -> Option<Update> {
    let UpdateConfig { parallelism, delay, monitor, order, failure_action } = &update.value;
    let default = Update::default();
    // Loading lets through no third word.
    let order = match order.as_deref() {
        Some("start-first") => UpdateOrder::StartFirst,
        Some(_) | None => UpdateOrder::StopFirst,
    };
    let on_failure = match failure_action.as_ref().map(|action| (action.value.as_str(), action.span)) {
        None | Some(("pause", _)) => OnFailure::Pause,
        Some(("continue", _)) => OnFailure::Continue,
        Some(("rollback", _)) => OnFailure::Rollback,
        Some((other, span)) => {
            let message = format!("{} is not what can happen after a failure", quoted(other));
            let hint = "write `pause`, `continue` or `rollback`";
            work.reporter.error(Code::BadWord, span, message, hint);
            return None;
        }
    };
    let parallel = match parallelism {
        // All at once.
        Some(0) => COUNT_MAX,
        Some(count) => (*count).min(COUNT_MAX),
        None => default.parallel,
    };
    Some(Update {
        parallel,
        delay: delay.unwrap_or(default.delay).min(HEALTH_TIME_MAX),
        watch: monitor.unwrap_or(default.watch).min(HEALTH_TIME_MAX),
        order,
        on_failure,
    })
}

fn platform(service: &Service, work: &mut Work<'_>) {
    let Some(platform) = &service.platform else { return };
    if platform.value.is_empty() || PLATFORMS.contains(&platform.value.to_ascii_lowercase().as_str()) {
        return;
    }
    let message = format!("a node is linux/amd64 or linux/arm64; {} will not start", quoted(&platform.value));
    let hint = "use an image that is made for the node, and remove `platform`";
    work.reporter.warning(Code::NoEffect, platform.span, message, hint);
}

/// Refuses lists that are longer than a task may have.
pub(super) fn check_counts(service: &Service, task: &TaskSpec, work: &mut Work<'_>) {
    let counts = [
        ("group_add", task.groups.len()),
        ("devices", task.devices.len()),
        ("tmpfs", task.tmpfs.len()),
        ("secrets", task.secrets.len()),
        ("configs", task.configs.len()),
        ("sysctls", task.sysctls.len()),
    ];
    for (key, count) in counts.into_iter().filter(|(_, count)| *count > MEMBERS_MAX) {
        let message = format!("`{key}` holds {count} entries; the limit is {MEMBERS_MAX}");
        work.reporter.error(Code::TooMany, service.name.span, message, None);
    }
}
