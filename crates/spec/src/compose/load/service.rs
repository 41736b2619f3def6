//! One service: from the merged tree to its type.
//!
//! Owns which key becomes which field, and the list of those that have none. Must not judge what lith can honour.

use std::collections::{BTreeMap, HashSet};

use lith_core::value::quoted;

use super::reader::{Reader, pairs, text, texts};
use super::tree::{Data, Member, Value};
use super::{mounts, ports, units, words};
use crate::compose::project::{
    At, Attachment, Dependency, DependencyCondition, ExposedPort, FileUse, Logging, PublishedPort, Service,
    ServiceVolume,
};
use crate::diagnostic::Code;
use crate::document::Span;
use crate::value::Refusal;

/// Keys that become fields, or that loading itself has made use of.
const READ_KEYS: &[&str] = &[
    "build",
    "cap_add",
    "cgroup",
    "command",
    "configs",
    "container_name",
    "cpus",
    "depends_on",
    "deploy",
    "devices",
    "domainname",
    "entrypoint",
    "env_file",
    "environment",
    "expose",
    "external_links",
    "extra_hosts",
    "gpus",
    "group_add",
    "healthcheck",
    "hostname",
    "image",
    "ipc",
    "links",
    "logging",
    "mem_limit",
    "mem_reservation",
    "network_mode",
    "networks",
    "pid",
    "platform",
    "ports",
    "privileged",
    "profiles",
    "read_only",
    "restart",
    "runtime",
    "scale",
    "secrets",
    "shm_size",
    "stop_grace_period",
    "stop_signal",
    "sysctls",
    "tmpfs",
    "ulimits",
    "user",
    "userns_mode",
    "uts",
    "volumes",
    "volumes_from",
    "working_dir",
];
/// Keys of `deploy` that are read.
const READ_DEPLOY_KEYS: &[&str] =
    &["mode", "placement", "replicas", "resources", "restart_policy", "update_config"];
/// Keys that put a service into a namespace of something else.
const NAMESPACES: [&str; 5] = ["pid", "ipc", "uts", "userns_mode", "cgroup"];

impl Reader<'_, '_> {
    /// Reads one service.
    pub(super) fn service(&mut self, member: &Member) -> Service {
        let value = &member.value;
        let given = |key: &str| value.given(key);
        let deploy = self.deploy(value);
        self.check_label_files(value);
        Service {
            name: At::new(member.key.text.to_string(), member.key.span),
            image: text(given("image")),
            build: given("build").map(|build| build.span),
            entrypoint: self.command(given("entrypoint")),
            command: self.command(given("command")),
            environment: self.environment(value),
            user: text(given("user")),
            group_add: texts(given("group_add")),
            working_dir: text(given("working_dir")),
            hostname: text(given("hostname")),
            domainname: text(given("domainname")),
            container_name: text(given("container_name")),
            platform: text(given("platform")),
            ports: self.ports(value),
            expose: self.expose(value),
            volumes: self.volumes(value),
            volumes_from: texts(given("volumes_from")),
            tmpfs: texts(given("tmpfs")),
            secrets: self.file_uses(given("secrets")),
            configs: self.file_uses(given("configs")),
            devices: self.devices(value),
            depends_on: dependencies(value),
            links: links(value),
            external_links: texts(given("external_links")),
            networks: networks(value),
            network_mode: text(given("network_mode")),
            extra_hosts: self.extra_hosts(value),
            healthcheck: self.health_check(value),
            restart: text(given("restart")),
            stop_signal: text(given("stop_signal")),
            stop_grace_period: self.duration(given("stop_grace_period")),
            scale: self.count(given("scale")),
            mem_limit: self.limit(given("mem_limit")),
            mem_reservation: self.limit(given("mem_reservation").or_else(|| reserved_memory(value))),
            cpus: self.cpus(given("cpus")),
            shm_size: self.limit(given("shm_size")),
            read_only: self.switch(given("read_only")),
            privileged: self.switch(given("privileged")),
            cap_add: texts(given("cap_add")),
            sysctls: sysctls(value),
            ulimits: self.ulimits(value),
            namespaces: NAMESPACES.iter().filter_map(|key| Some((*key, text(given(key))?))).collect(),
            gpus: self.gpus(value),
            logging: self.logging(value),
            ignored: ignored(value),
            deploy,
        }
    }

    /// A command in either form; an empty one is there, and empty.
    fn command(&mut self, value: Option<&Value>) -> Option<At<Vec<String>>> {
        let value = value?;
        let words = match &value.data {
            Data::List(items) => items.iter().filter_map(|item| item.text().map(str::to_owned)).collect(),
            Data::Scalar(scalar) => match words::split(&scalar.text) {
                Ok(split) => {
                    if let Some(cut_at) = split.cut_at {
                        let message =
                            format!("the command ends before `{cut_at}`, which only a shell understands");
                        let hint = "write `[\"sh\", \"-c\", \"…\"]` to run a shell, or put it in quotes";
                        self.loader.reporter.warning(Code::ShellSyntax, value.span, message, hint);
                    }
                    split.words
                }
                Err(reason) => {
                    let message = format!("the command cannot be split into words: {reason}");
                    let hint = "write it as a list of words, such as `[\"sh\", \"-c\", \"…\"]`";
                    self.loader.reporter.error(Code::BadCommand, value.span, message, hint);
                    return None;
                }
            },
            Data::Null | Data::Map(_) => return None,
        };
        Some(At::new(words, value.span))
    }

    fn ports(&mut self, service: &Value) -> Vec<At<PublishedPort>> {
        let mut found: Vec<At<PublishedPort>> = Vec::new();
        for item in service.given("ports").map(Value::items).unwrap_or_default() {
            let port = match item.text() {
                Some(text) => ports::short(text),
                None if item.given("target").is_none() => continue,
                None => ports::long(item),
            };
            match port {
                Ok(port) => found.push(At::new(port, item.span)),
                Err(refusal) => self.refuse(refusal, item.span),
            }
        }
        distinct(found)
    }

    fn expose(&mut self, service: &Value) -> Vec<At<ExposedPort>> {
        let items = texts(service.given("expose"));
        let mut found = Vec::with_capacity(items.len());
        for item in items {
            match ports::exposed(&item.value) {
                Ok(port) => found.push(At::new(port, item.span)),
                Err(refusal) => self.refuse(refusal, item.span),
            }
        }
        found
    }

    fn volumes(&mut self, service: &Value) -> Vec<At<ServiceVolume>> {
        let mut found = Vec::new();
        for item in service.given("volumes").map(Value::items).unwrap_or_default() {
            match mounts::read(item, self.loader) {
                Ok(volume) => found.push(At::new(volume, item.span)),
                Err(refusal) => self.refuse(refusal, item.span),
            }
        }
        found
    }

    fn devices(&mut self, service: &Value) -> Vec<At<String>> {
        let items = service.given("devices").map(Value::items).unwrap_or_default();
        let mut found = Vec::with_capacity(items.len());
        for item in items {
            let Some(device) = mounts::device(item) else { continue };
            if device.split(':').count() > 3 {
                let message = format!("{} is no device: it has too many colons", quoted(&device));
                self.refuse(
                    Refusal::new(Code::BadPath, message).hint("write `source:target:rwm`"),
                    item.span,
                );
            }
            found.push(At::new(device, item.span));
        }
        found
    }

    fn file_uses(&mut self, value: Option<&Value>) -> Vec<At<FileUse>> {
        let mut found = Vec::new();
        for item in value.map(Value::items).unwrap_or_default() {
            let field = |key: &str| text(item.given(key)).map(|text| text.value);
            let source = item.text().map(str::to_owned).or_else(|| field("source"));
            let Some(source) = source else {
                if !item.members().is_empty() {
                    let refusal =
                        Refusal::new(Code::MissingKey, "a secret or config of a service needs `source`");
                    self.refuse(refusal.hint("add `source:` with its name"), item.span);
                }
                continue;
            };
            let mode = item.given("mode").and_then(|mode| {
                let Data::Scalar(scalar) = &mode.data else { return None };
                self.parsed(Some(mode), |text| units::mode(text, scalar.class)).map(|mode| mode.value)
            });
            let file_use =
                FileUse { source, target: field("target"), uid: field("uid"), gid: field("gid"), mode };
            found.push(At::new(file_use, item.span));
        }
        found
    }

    fn extra_hosts(&mut self, service: &Value) -> Vec<At<(String, String)>> {
        let Some(value) = service.given("extra_hosts") else { return Vec::new() };
        let mut found = Vec::new();
        let bare = |address: &str| {
            let inner = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
            inner.filter(|inner| !inner.is_empty()).unwrap_or(address).to_owned()
        };
        for member in value.members() {
            for address in member.value.items_or_self() {
                let address_text = bare(address.text().unwrap_or_default());
                found.push(At::new((member.key.text.to_string(), address_text), member.key.span));
            }
        }
        for item in texts(Some(value)).iter().filter(|_| value.members().is_empty()) {
            let Some((host, addresses)) = item.value.split_once('=').or_else(|| item.value.split_once(':'))
            else {
                let message = format!("{} gives a host no address", quoted(&item.value));
                self.refuse(Refusal::new(Code::BadHost, message).hint("write `host=address`"), item.span);
                continue;
            };
            for address in addresses.split(',') {
                found.push(At::new((host.to_owned(), bare(address)), item.span));
            }
        }
        for host in &found {
            if host.value.0.is_empty() || host.value.0.contains([':', '=']) {
                let message = format!("{} is not the name of a host", quoted(&host.value.0));
                self.refuse(Refusal::new(Code::BadHost, message).hint("write `host=address`"), host.span);
            }
        }
        found
    }

    fn ulimits(&mut self, service: &Value) -> BTreeMap<String, At<(i64, i64)>> {
        let mut found = BTreeMap::new();
        for member in service.given("ulimits").map(Value::members).unwrap_or_default() {
            let value = &member.value;
            let (soft, hard) = match &value.data {
                Data::Map(_) => (value.given("soft"), value.given("hard")),
                Data::Null | Data::Scalar(_) | Data::List(_) => (Some(value), Some(value)),
            };
            let soft = self.parsed(soft, units::ulimit);
            let hard = self.parsed(hard, units::ulimit);
            if let Some((soft, hard)) = soft.zip(hard) {
                found.insert(member.key.text.to_string(), At::new((soft.value, hard.value), value.span));
            }
        }
        found
    }

    fn logging(&mut self, service: &Value) -> Option<At<Logging>> {
        let value = service.given("logging")?;
        let option = |key: &str| value.given("options").and_then(|options| options.given(key));
        let logging = Logging {
            driver: text(value.given("driver")).map(|driver| driver.value),
            max_size: self.limit(option("max-size")).map(|size| size.value),
            max_file: self.count(option("max-file")).map(|count| count.value),
        };
        Some(At::new(logging, value.span))
    }
}

/// Ports without those that are said twice; of two that differ only in their place the first stays.
fn distinct(ports: Vec<At<PublishedPort>>) -> Vec<At<PublishedPort>> {
    let mut kept: Vec<At<PublishedPort>> = Vec::with_capacity(ports.len());
    let mut seen = HashSet::new();
    for port in ports {
        let PublishedPort { address, published, target, transport } = &port.value;
        if seen.insert((address.clone(), *published, *target, *transport)) {
            kept.push(port);
        }
    }
    kept
}

fn reserved_memory(service: &Value) -> Option<&Value> {
    service.given("deploy")?.given("resources")?.given("reservations")?.given("memory")
}

fn sysctls(service: &Value) -> BTreeMap<String, At<String>> {
    let all = service.given("sysctls").map(pairs).unwrap_or_default();
    all.into_iter().map(|(name, span, value)| (name, value.unwrap_or(At::new(String::new(), span)))).collect()
}

fn networks(service: &Value) -> BTreeMap<String, At<Attachment>> {
    let value = service.given("networks");
    let mut found = BTreeMap::new();
    for member in value.map(Value::members).unwrap_or_default() {
        let aliases = texts(member.value.given("aliases")).into_iter().map(|alias| alias.value).collect();
        let fixed = ["ipv4_address", "ipv6_address", "mac_address"];
        let fixed_address = fixed.iter().find_map(|key| text(member.value.given(key))).map(|text| text.value);
        found.insert(
            member.key.text.to_string(),
            At::new(Attachment { aliases, fixed_address }, member.key.span),
        );
    }
    for name in value.map(Value::items).unwrap_or_default() {
        if let Some(text) = name.text() {
            found.insert(text.to_owned(), At::new(Attachment::default(), name.span));
        }
    }
    if found.is_empty() && service.given("network_mode").is_none() {
        found.insert(String::from("default"), At::new(Attachment::default(), service.span));
    }
    found
}

/// `service` or `service:name`.
fn links(service: &Value) -> Vec<At<(String, String)>> {
    let split = |link: At<String>| {
        let (to, name) = link.value.split_once(':').unwrap_or((&link.value, &link.value));
        At::new((to.to_owned(), name.to_owned()), link.span)
    };
    texts(service.given("links")).into_iter().map(split).collect()
}

/// What `depends_on` says, and what else makes one service wait for another.
fn dependencies(service: &Value) -> Vec<At<Dependency>> {
    let mut found: Vec<At<Dependency>> = Vec::new();
    let value = service.given("depends_on");
    for member in value.map(Value::members).unwrap_or_default() {
        let condition = match member.value.given("condition").and_then(Value::text) {
            Some("service_healthy") => DependencyCondition::Healthy,
            Some("service_completed_successfully") => DependencyCondition::CompletedSuccessfully,
            Some(_) | None => DependencyCondition::Started,
        };
        let required = member.value.given("required").and_then(Value::text) != Some("false");
        let dependency = Dependency { service: member.key.text.to_string(), condition, required };
        found.push(At::new(dependency, member.key.span));
    }
    let mut seen: HashSet<String> = found.iter().map(|dependency| dependency.value.service.clone()).collect();
    let implied = |service: String, span: Span| {
        At::new(Dependency { service, condition: DependencyCondition::Started, required: true }, span)
    };
    let listed = texts(value.filter(|value| value.members().is_empty()));
    let of_links = links(service).into_iter().map(|link| At::new(link.value.0, link.span));
    let of_namespaces = std::iter::once("network_mode").chain(NAMESPACES).filter_map(|key| {
        let value = service.given(key)?;
        let other = value.text()?.strip_prefix("service:")?;
        Some(At::new(other.to_owned(), value.span))
    });
    let of_volumes = texts(service.given("volumes_from")).into_iter().filter_map(|from| {
        let name = from.value.split(':').next().unwrap_or_default().to_owned();
        (name != "container").then_some(At::new(name, from.span))
    });
    for other in listed.into_iter().chain(of_links).chain(of_namespaces).chain(of_volumes) {
        if seen.insert(other.value.clone()) {
            found.push(implied(other.value, other.span));
        }
    }
    found
}

/// Keys without a field.
fn ignored(service: &Value) -> Vec<(String, Span)> {
    let has_no_field = |member: &&Member, known: &[&str]| {
        let key = &*member.key.text;
        !known.contains(&key) && !key.starts_with("x-") && !member.value.is_null()
    };
    let of_service = service.members().iter().filter(|member| has_no_field(member, READ_KEYS));
    let mut found: Vec<(String, Span)> =
        of_service.map(|member| (member.key.text.to_string(), member.key.span)).collect();
    let deploy = service.given("deploy").map(Value::members).unwrap_or_default().iter();
    let of_deploy = deploy.filter(|member| has_no_field(member, READ_DEPLOY_KEYS));
    found.extend(of_deploy.map(|member| (format!("deploy.{}", member.key.text), member.key.span)));
    found
}
