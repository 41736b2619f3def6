//! The form of a Compose file: which key stands where, and what it may hold.
//!
//! Owns the vocabulary, as the Compose specification has it in its JSON schema. Fields are sorted by name. Must not say what
//! any of it means.

use super::shape::{MapShape, NULL, NUMBER, Names, Shape, TEXT, TRUTH, WHOLE};
use deploy::DEPLOY;
use resources::{CONFIG_SHAPE, MODEL_SHAPE, NETWORK_SHAPE, SECRET_SHAPE, VOLUME_SHAPE};

mod deploy;
mod resources;

const TEXT_ONLY: Shape = Shape::scalar(TEXT);
const SWITCH: Shape = Shape::scalar(TRUTH | TEXT);
const NUMBER_OR_TEXT: Shape = Shape::scalar(NUMBER | TEXT);
const WHOLE_OR_TEXT: Shape = Shape::scalar(WHOLE | TEXT);
const TEXTS: Shape = Shape::list(&TEXT_ONLY);
const TEXTS_UNIQUE: Shape = Shape::unique(&TEXT_ONLY);
const NUMBERS_UNIQUE: Shape = Shape::unique(&NUMBER_OR_TEXT);
const TEXT_OR_TEXTS: Shape = Shape::unique(&TEXT_ONLY).or(TEXT);
const COMMAND: Shape = Shape::list(&TEXT_ONLY).or(TEXT | NULL);
const PAIRS: Shape = Shape::unique(&TEXT_ONLY).or_map(&PAIR_MAP);
const PAIR_MAP: MapShape = table("a list of variables", Names::Any, &PAIR_VALUE);
const PAIR_VALUE: Shape = Shape::scalar(TEXT | NUMBER | TRUTH | NULL);
const OPTIONS: Shape = Shape::map(&OPTION_MAP);
const OPTION_MAP: MapShape = table("a list of options", Names::Any, &NUMBER_OR_TEXT);

/// A mapping whose keys are names that a person chooses.
const fn table(noun: &'static str, names: Names, values: &'static Shape) -> MapShape {
    MapShape { noun, fields: &[], others: Some((names, values)), required: &[], has_extensions: false }
}

static ROOT: MapShape = MapShape {
    noun: "a Compose file",
    fields: &[
        ("configs", Shape::map(&CONFIGS)),
        ("include", Shape::list(&INCLUDE)),
        ("models", Shape::map(&MODELS)),
        ("name", TEXT_ONLY),
        ("networks", Shape::map(&NETWORKS)),
        ("secrets", Shape::map(&SECRETS)),
        ("services", Shape::map(&SERVICES)),
        ("version", TEXT_ONLY),
        ("volumes", Shape::map(&VOLUMES)),
    ],
    others: None,
    required: &[],
    has_extensions: true,
};

/// A whole file.
pub(super) static FILE: Shape = Shape::map(&ROOT);

/// What may be included.
pub(super) static INCLUDES: Shape = Shape::list(&INCLUDE);

static SERVICES: MapShape = table("`services`", Names::Plain, &SERVICE_SHAPE);

static MODELS: MapShape = table("`models`", Names::Plain, &MODEL_SHAPE);

static NETWORKS: MapShape = table("`networks`", Names::Plain, &NETWORK_SHAPE);

static VOLUMES: MapShape = table("`volumes`", Names::Plain, &VOLUME_SHAPE);

static SECRETS: MapShape = table("`secrets`", Names::Plain, &SECRET_SHAPE);

static CONFIGS: MapShape = table("`configs`", Names::Plain, &CONFIG_SHAPE);

static INCLUDE: Shape = Shape::map(&INCLUDE_MAP).or(TEXT);

static INCLUDE_MAP: MapShape = MapShape {
    noun: "an include",
    fields: &[("env_file", TEXT_OR_TEXTS), ("path", TEXT_OR_TEXTS), ("project_directory", TEXT_ONLY)],
    others: None,
    required: &[],
    has_extensions: false,
};

static SERVICE_SHAPE: Shape = Shape::map(&SERVICE);

static SERVICE: MapShape = MapShape {
    noun: "a service",
    fields: &[
        ("annotations", PAIRS),
        ("attach", SWITCH),
        ("blkio_config", Shape::map(&BLKIO)),
        ("build", Shape::map(&BUILD).or(TEXT)),
        ("cap_add", TEXTS_UNIQUE),
        ("cap_drop", TEXTS_UNIQUE),
        ("cgroup", Shape::words(&["host", "private"])),
        ("cgroup_parent", TEXT_ONLY),
        ("command", COMMAND),
        ("configs", FILE_USES),
        ("container_name", TEXT_ONLY),
        ("cpu_count", WHOLE_OR_TEXT),
        ("cpu_percent", WHOLE_OR_TEXT),
        ("cpu_period", NUMBER_OR_TEXT),
        ("cpu_quota", NUMBER_OR_TEXT),
        ("cpu_rt_period", NUMBER_OR_TEXT),
        ("cpu_rt_runtime", NUMBER_OR_TEXT),
        ("cpu_shares", NUMBER_OR_TEXT),
        ("cpus", NUMBER_OR_TEXT),
        ("cpuset", TEXT_ONLY),
        ("credential_spec", Shape::map(&CREDENTIAL_SPEC)),
        ("depends_on", Shape::unique(&TEXT_ONLY).or_map(&DEPENDENCIES)),
        ("deploy", Shape::map(&DEPLOY).or(NULL)),
        ("develop", Shape::map(&DEVELOP).or(NULL)),
        ("device_cgroup_rules", TEXTS_UNIQUE),
        ("devices", Shape::list(&DEVICE)),
        ("dns", TEXT_OR_TEXTS),
        ("dns_opt", TEXTS_UNIQUE),
        ("dns_search", TEXT_OR_TEXTS),
        ("domainname", TEXT_ONLY),
        ("entrypoint", COMMAND),
        ("env_file", Shape::list(&ENV_FILE).or(TEXT)),
        ("environment", PAIRS),
        ("expose", NUMBERS_UNIQUE),
        ("extends", Shape::map(&EXTENDS).or(TEXT)),
        ("external_links", TEXTS_UNIQUE),
        ("extra_hosts", HOSTS),
        ("gpus", GPUS),
        ("group_add", NUMBERS_UNIQUE),
        ("healthcheck", Shape::map(&HEALTH_CHECK)),
        ("hostname", TEXT_ONLY),
        ("image", TEXT_ONLY),
        ("init", SWITCH),
        ("ipc", TEXT_ONLY),
        ("isolation", TEXT_ONLY),
        ("label_file", TEXTS.or(TEXT)),
        ("labels", PAIRS),
        ("links", TEXTS_UNIQUE),
        ("logging", Shape::map(&LOGGING)),
        ("mac_address", TEXT_ONLY),
        ("mem_limit", NUMBER_OR_TEXT),
        ("mem_reservation", WHOLE_OR_TEXT),
        ("mem_swappiness", WHOLE_OR_TEXT),
        ("memswap_limit", NUMBER_OR_TEXT),
        ("models", Shape::unique(&TEXT_ONLY).or_map(&SERVICE_MODELS)),
        ("network_mode", TEXT_ONLY),
        ("networks", Shape::unique(&TEXT_ONLY).or_map(&ATTACHMENTS)),
        ("oom_kill_disable", SWITCH),
        ("oom_score_adj", WHOLE_OR_TEXT),
        ("pid", Shape::scalar(TEXT | NULL)),
        ("pids_limit", NUMBER_OR_TEXT),
        ("platform", TEXT_ONLY),
        ("ports", Shape::list(&PORT)),
        ("post_start", Shape::list(&HOOK)),
        ("pre_start", Shape::list(&PRE_START_HOOK)),
        ("pre_stop", Shape::list(&HOOK)),
        ("privileged", SWITCH),
        ("profiles", TEXTS_UNIQUE),
        ("provider", Shape::map(&PROVIDER)),
        ("pull_policy", TEXT_ONLY),
        ("pull_refresh_after", TEXT_ONLY),
        ("read_only", SWITCH),
        ("restart", TEXT_ONLY),
        ("runtime", TEXT_ONLY),
        ("scale", WHOLE_OR_TEXT),
        ("secrets", FILE_USES),
        ("security_opt", TEXTS_UNIQUE),
        ("shm_size", NUMBER_OR_TEXT),
        ("stdin_open", SWITCH),
        ("stop_grace_period", TEXT_ONLY),
        ("stop_signal", TEXT_ONLY),
        ("storage_opt", Shape::map(&FREE_MAP)),
        ("sysctls", PAIRS),
        ("tmpfs", TEXT_OR_TEXTS),
        ("tty", SWITCH),
        ("ulimits", Shape::map(&ULIMITS)),
        ("use_api_socket", Shape::scalar(TRUTH)),
        ("user", TEXT_ONLY),
        ("userns_mode", TEXT_ONLY),
        ("uts", TEXT_ONLY),
        ("volumes", Shape::list(&MOUNT)),
        ("volumes_from", TEXTS_UNIQUE),
        ("working_dir", TEXT_ONLY),
    ],
    others: None,
    required: &[],
    has_extensions: true,
};

static FREE_MAP: MapShape = table("a list of options", Names::Any, &Shape::FREE);

static BUILD: MapShape = MapShape {
    noun: "`build`",
    fields: &[
        ("additional_contexts", PAIRS),
        ("args", PAIRS),
        ("cache_from", TEXTS),
        ("cache_to", TEXTS),
        ("context", TEXT_ONLY),
        ("dockerfile", TEXT_ONLY),
        ("dockerfile_inline", TEXT_ONLY),
        ("entitlements", TEXTS),
        ("extra_hosts", HOSTS),
        ("isolation", TEXT_ONLY),
        ("labels", PAIRS),
        ("network", TEXT_ONLY),
        ("no_cache", SWITCH),
        ("no_cache_filter", TEXT_OR_TEXTS),
        ("platforms", TEXTS),
        ("privileged", SWITCH),
        ("provenance", SWITCH),
        ("pull", SWITCH),
        ("sbom", SWITCH),
        ("secrets", FILE_USES),
        ("shm_size", WHOLE_OR_TEXT),
        ("ssh", PAIRS),
        ("tags", TEXTS),
        ("target", TEXT_ONLY),
        ("ulimits", Shape::map(&ULIMITS)),
    ],
    others: None,
    required: &[],
    has_extensions: true,
};

static BLKIO: MapShape = MapShape {
    noun: "`blkio_config`",
    fields: &[
        ("device_read_bps", Shape::list(&BLKIO_LIMIT)),
        ("device_read_iops", Shape::list(&BLKIO_LIMIT)),
        ("device_write_bps", Shape::list(&BLKIO_LIMIT)),
        ("device_write_iops", Shape::list(&BLKIO_LIMIT)),
        ("weight", WHOLE_OR_TEXT),
        ("weight_device", Shape::list(&BLKIO_WEIGHT)),
    ],
    others: None,
    required: &[],
    has_extensions: false,
};

static BLKIO_LIMIT: Shape = Shape::map(&BLKIO_LIMIT_MAP);

static BLKIO_LIMIT_MAP: MapShape = MapShape {
    noun: "a limit of `blkio_config`",
    fields: &[("path", TEXT_ONLY), ("rate", WHOLE_OR_TEXT)],
    others: None,
    required: &[],
    has_extensions: false,
};

static BLKIO_WEIGHT: Shape = Shape::map(&BLKIO_WEIGHT_MAP);

static BLKIO_WEIGHT_MAP: MapShape = MapShape {
    noun: "a weight of `blkio_config`",
    fields: &[("path", TEXT_ONLY), ("weight", WHOLE_OR_TEXT)],
    others: None,
    required: &[],
    has_extensions: false,
};

static CREDENTIAL_SPEC: MapShape = MapShape {
    noun: "`credential_spec`",
    fields: &[("config", TEXT_ONLY), ("file", TEXT_ONLY), ("registry", TEXT_ONLY)],
    others: None,
    required: &[],
    has_extensions: true,
};

static DEPENDENCIES: MapShape = table("`depends_on`", Names::Plain, &DEPENDENCY);

static DEPENDENCY: Shape = Shape::map(&DEPENDENCY_MAP);

static DEPENDENCY_MAP: MapShape = MapShape {
    noun: "a dependency",
    fields: &[
        (
            "condition",
            Shape::words(&["service_completed_successfully", "service_healthy", "service_started"]),
        ),
        ("required", Shape::scalar(TRUTH)),
        ("restart", SWITCH),
    ],
    others: None,
    required: &["condition"],
    has_extensions: true,
};

static DEVICE: Shape = Shape::map(&DEVICE_MAP).or(TEXT);

static DEVICE_MAP: MapShape = MapShape {
    noun: "a device",
    fields: &[("permissions", TEXT_ONLY), ("source", TEXT_ONLY), ("target", TEXT_ONLY)],
    others: None,
    required: &["source"],
    has_extensions: true,
};

static ENV_FILE: Shape = Shape::map(&ENV_FILE_MAP).or(TEXT);

static ENV_FILE_MAP: MapShape = MapShape {
    noun: "an item of `env_file`",
    fields: &[("format", TEXT_ONLY), ("path", TEXT_ONLY), ("required", SWITCH)],
    others: None,
    required: &["path"],
    has_extensions: false,
};

static EXTENDS: MapShape = MapShape {
    noun: "`extends`",
    fields: &[("file", TEXT_ONLY), ("service", TEXT_ONLY)],
    others: None,
    required: &["service"],
    has_extensions: false,
};

static PROVIDER: MapShape = MapShape {
    noun: "`provider`",
    fields: &[("options", Shape::map(&FREE_MAP)), ("type", TEXT_ONLY)],
    others: None,
    required: &["type"],
    has_extensions: true,
};

const HOSTS: Shape = Shape::unique(&TEXT_ONLY).or_map(&HOST_MAP);

static HOST_MAP: MapShape = table("`extra_hosts`", Names::Any, &HOST);

static HOST: Shape = Shape::list(&TEXT_ONLY).or(TEXT);

const GPUS: Shape = Shape { words: &["all"], ..Shape::list(&GPU).or(TEXT) };

static GPU: Shape = Shape::map(&GPU_MAP);

static GPU_MAP: MapShape = MapShape {
    noun: "an item of `gpus`",
    fields: &[
        ("capabilities", TEXTS_UNIQUE),
        ("count", WHOLE_OR_TEXT),
        ("device_ids", TEXTS_UNIQUE),
        ("driver", TEXT_ONLY),
        ("options", PAIRS),
    ],
    others: Some((Names::Any, &Shape::FREE)),
    required: &[],
    has_extensions: true,
};

static HEALTH_CHECK: MapShape = MapShape {
    noun: "a health check",
    fields: &[
        ("disable", SWITCH),
        ("interval", TEXT_ONLY),
        ("retries", NUMBER_OR_TEXT),
        ("start_interval", TEXT_ONLY),
        ("start_period", TEXT_ONLY),
        ("test", TEXTS.or(TEXT)),
        ("timeout", TEXT_ONLY),
    ],
    others: None,
    required: &[],
    has_extensions: true,
};

static LOGGING: MapShape = MapShape {
    noun: "`logging`",
    fields: &[("driver", TEXT_ONLY), ("options", Shape::map(&LOG_OPTIONS))],
    others: None,
    required: &[],
    has_extensions: true,
};

static LOG_OPTIONS: MapShape = table("a list of options", Names::Any, &LOG_OPTION);

static LOG_OPTION: Shape = Shape::scalar(TEXT | NUMBER | NULL);

static SERVICE_MODELS: MapShape = table("`models`", Names::Plain, &SERVICE_MODEL);

static SERVICE_MODEL: Shape = Shape::map(&SERVICE_MODEL_MAP).or(NULL);

static SERVICE_MODEL_MAP: MapShape = MapShape {
    noun: "a model of a service",
    fields: &[("endpoint_var", TEXT_ONLY), ("model_var", TEXT_ONLY)],
    others: None,
    required: &[],
    has_extensions: true,
};

static ATTACHMENTS: MapShape = table("`networks`", Names::Plain, &ATTACHMENT);

static ATTACHMENT: Shape = Shape::map(&ATTACHMENT_MAP).or(NULL);

static ATTACHMENT_MAP: MapShape = MapShape {
    noun: "a network of a service",
    fields: &[
        ("aliases", TEXTS_UNIQUE),
        ("driver_opts", OPTIONS),
        ("gw_priority", Shape::scalar(NUMBER)),
        ("interface_name", TEXT_ONLY),
        ("ipv4_address", TEXT_ONLY),
        ("ipv6_address", TEXT_ONLY),
        ("link_local_ips", TEXTS_UNIQUE),
        ("mac_address", TEXT_ONLY),
        ("priority", Shape::scalar(NUMBER)),
    ],
    others: None,
    required: &[],
    has_extensions: true,
};

static PORT: Shape = Shape::map(&PORT_MAP).or(TEXT | WHOLE);

static PORT_MAP: MapShape = MapShape {
    noun: "a port",
    fields: &[
        ("app_protocol", TEXT_ONLY),
        ("host_ip", TEXT_ONLY),
        ("mode", TEXT_ONLY),
        ("name", TEXT_ONLY),
        ("protocol", TEXT_ONLY),
        ("published", WHOLE_OR_TEXT),
        ("target", WHOLE_OR_TEXT),
    ],
    others: None,
    required: &["target"],
    has_extensions: true,
};

static HOOK: Shape = Shape::map(&HOOK_MAP);

static HOOK_MAP: MapShape = MapShape {
    noun: "a hook",
    fields: &[
        ("command", COMMAND),
        ("environment", PAIRS),
        ("privileged", SWITCH),
        ("user", TEXT_ONLY),
        ("working_dir", TEXT_ONLY),
    ],
    others: None,
    required: &["command"],
    has_extensions: true,
};

static PRE_START_HOOK: Shape = Shape::map(&PRE_START_MAP);

static PRE_START_MAP: MapShape = MapShape {
    noun: "a hook",
    fields: &[
        ("command", COMMAND),
        ("environment", PAIRS),
        ("image", TEXT_ONLY),
        ("per_replica", SWITCH),
        ("privileged", SWITCH),
        ("user", TEXT_ONLY),
        ("working_dir", TEXT_ONLY),
    ],
    others: None,
    required: &[],
    has_extensions: true,
};

const FILE_USES: Shape = Shape::list(&FILE_USE);

static FILE_USE: Shape = Shape::map(&FILE_USE_MAP).or(TEXT);

static FILE_USE_MAP: MapShape = MapShape {
    noun: "a secret or config of a service",
    fields: &[
        ("gid", TEXT_ONLY),
        ("mode", NUMBER_OR_TEXT),
        ("source", TEXT_ONLY),
        ("target", TEXT_ONLY),
        ("uid", TEXT_ONLY),
    ],
    others: None,
    required: &[],
    has_extensions: true,
};

static ULIMITS: MapShape = table("`ulimits`", Names::Small, &ULIMIT);

static ULIMIT: Shape = Shape::map(&ULIMIT_MAP).or(WHOLE | TEXT);

static ULIMIT_MAP: MapShape = MapShape {
    noun: "a limit of `ulimits`",
    fields: &[("hard", WHOLE_OR_TEXT), ("soft", WHOLE_OR_TEXT)],
    others: None,
    required: &["hard", "soft"],
    has_extensions: true,
};

static MOUNT: Shape = Shape::map(&MOUNT_MAP).or(TEXT);

static MOUNT_MAP: MapShape = MapShape {
    noun: "a mount",
    fields: &[
        ("bind", Shape::map(&MOUNT_BIND)),
        ("consistency", TEXT_ONLY),
        ("image", Shape::map(&MOUNT_IMAGE)),
        ("read_only", SWITCH),
        ("source", TEXT_ONLY),
        ("target", TEXT_ONLY),
        ("tmpfs", Shape::map(&MOUNT_TMPFS)),
        ("type", Shape::words(&["bind", "cluster", "image", "npipe", "tmpfs", "volume"])),
        ("volume", Shape::map(&MOUNT_VOLUME)),
    ],
    others: None,
    required: &["type"],
    has_extensions: true,
};

static MOUNT_BIND: MapShape = MapShape {
    noun: "`bind`",
    fields: &[
        ("create_host_path", SWITCH),
        ("propagation", TEXT_ONLY),
        ("recursive", Shape::words(&["disabled", "enabled", "readonly", "writable"])),
        ("selinux", Shape::words(&["Z", "z"])),
    ],
    others: None,
    required: &[],
    has_extensions: true,
};

static MOUNT_VOLUME: MapShape = MapShape {
    noun: "`volume`",
    fields: &[("labels", PAIRS), ("nocopy", SWITCH), ("subpath", TEXT_ONLY)],
    others: None,
    required: &[],
    has_extensions: true,
};

static MOUNT_TMPFS: MapShape = MapShape {
    noun: "`tmpfs`",
    fields: &[("mode", NUMBER_OR_TEXT), ("size", WHOLE_OR_TEXT)],
    others: None,
    required: &[],
    has_extensions: true,
};

static MOUNT_IMAGE: MapShape = MapShape {
    noun: "`image`",
    fields: &[("subpath", TEXT_ONLY)],
    others: None,
    required: &[],
    has_extensions: true,
};

static DEVELOP: MapShape = MapShape {
    noun: "`develop`",
    fields: &[("watch", Shape::list(&WATCH))],
    others: None,
    required: &[],
    has_extensions: true,
};

static WATCH: Shape = Shape::map(&WATCH_MAP);

static WATCH_MAP: MapShape = MapShape {
    noun: "an item of `watch`",
    fields: &[
        ("action", Shape::words(&["rebuild", "restart", "sync", "sync+exec", "sync+restart"])),
        ("exec", Shape::map(&HOOK_MAP)),
        ("ignore", TEXT_OR_TEXTS),
        ("include", TEXT_OR_TEXTS),
        ("initial_sync", Shape::scalar(TRUTH)),
        ("path", TEXT_ONLY),
        ("target", TEXT_ONLY),
    ],
    others: None,
    required: &["action", "path"],
    has_extensions: true,
};

#[cfg(test)]
mod tests {
    use super::{FILE, MapShape, NULL, Shape};

    fn check_sorted(shape: &Shape, depth: usize) {
        assert!(depth < 12, "no form holds itself");
        let lets_through = shape.scalars & !NULL != 0 || shape.list.is_some() || shape.map.is_some();
        assert!(lets_through || shape.is_free, "a message says what is let through");
        let check_map = |map: &MapShape| {
            assert!(map.fields.is_sorted_by(|one, other| one.0 < other.0), "{}", map.noun);
            assert!(map.required.iter().all(|key| map.fields.iter().any(|(name, _)| name == key)));
            map.fields.iter().for_each(|(_, field)| check_sorted(field, depth + 1));
            if let Some((_, other)) = map.others {
                check_sorted(other, depth + 1);
            }
        };
        shape.map.into_iter().for_each(check_map);
        shape.list.into_iter().for_each(|items| check_sorted(items, depth + 1));
    }

    #[test]
    fn fields_are_sorted_and_required_ones_known() {
        check_sorted(&FILE, 0);
    }
}
