//! The table: each key of the job file with what it takes, its meaning in a sentence, and an example.
//!
//! Owns the words. In the order of the reference page, which is also that of a written file.

use lith_core::job::health::RETRIES_MAX;
use lith_core::job::{COUNT_MAX, LOG_FILES_MAX};

use super::{Force, Form, Key, Level, Takes};

const PATH: Takes = Takes::Form(Form::Path);
const DURATION: Takes = Takes::Form(Form::Duration);
const SIZE: Takes = Takes::Form(Form::Size);
const FILE_USES: Takes =
    Takes::Any(&[Takes::List(&Takes::Any(&[Takes::Text, Takes::Section(Level::FileUse)])), Takes::Text]);
const RESTARTS: &str =
    "What happens when the process ends by itself: always, on-failure, on-failure:N or no.";

const fn key(name: &'static str, takes: Takes, doc: &'static str, example: &'static str) -> Key {
    Key { name, is_required: false, takes, doc, example, force: Force::Now }
}

const fn required(name: &'static str, takes: Takes, doc: &'static str, example: &'static str) -> Key {
    Key { name, is_required: true, takes, doc, example, force: Force::Now }
}

const fn later(name: &'static str, takes: Takes, doc: &'static str, example: &'static str) -> Key {
    Key { name, is_required: false, takes, doc, example, force: Force::Later }
}

pub(super) const JOB: &[Key] = &[
    required("job", Takes::Name, "The job's name.", "hello"),
    key(
        "volumes",
        Takes::Members(Level::Volume),
        "The job's disks, by name; without this key, each name that a task mounts is one.",
        "{ data: { size: 20G } }",
    ),
    key(
        "secrets",
        Takes::Any(&[Takes::Members(Level::Secret), Takes::List(&Takes::Text)]),
        "The job's secrets: a list of names in the cluster's store, or a mapping that says where each comes from.",
        "[ db-password ]",
    ),
    key(
        "configs",
        Takes::Members(Level::Config),
        "The job's small files, by name.",
        "{ app.conf: { content: \"debug = false\" } }",
    ),
    key(
        "groups",
        Takes::Members(Level::Group),
        "The job's groups, by name; each is placed on one node as a unit.",
        "{ front: { tasks: { web: { image: nginx } } } }",
    ),
    key(
        "tasks",
        Takes::Members(Level::Task),
        "The tasks of the job's only group, by name.",
        "{ web: { image: nginx } }",
    ),
];

pub(super) const JOB_SYNONYMS: &[(&str, &str)] = &[
    ("name", "job"),
    ("group", "groups"),
    ("task", "tasks"),
    ("containers", "tasks"),
    ("volume", "volumes"),
];

pub(super) const VOLUME: &[Key] = &[
    key("pool", Takes::Name, "The pool of the node that holds it; the node's first one by default.", "fast"),
    key("size", SIZE, "Ceiling of what it holds; it takes what is written.", "20G"),
    later("max_lag", DURATION, "How much of the last changes a crash of the node may cost.", "30s"),
    key(
        "import",
        Takes::Text,
        "A folder beside the job file, whose content a new volume starts with.",
        "./site",
    ),
    later("shared", Takes::Switch, "Whether several tasks write to it at once.", "true"),
];

pub(super) const SECRET: &[Key] = &[
    key("file", Takes::Text, "A file of whoever deploys, read then.", "./password"),
    key("variable", Takes::Text, "A variable of --set or --env-file, read at deploy.", "DB_PASSWORD"),
    key("content", Takes::Text, "What it holds, written here.", "secret"),
];

pub(super) const CONFIG: &[Key] = SECRET;

pub(super) const FILE_SYNONYMS: &[(&str, &str)] = &[
    ("environment", "variable"),
    ("env", "variable"),
    ("path", "file"),
    ("value", "content"),
    ("data", "content"),
];

pub(super) const GROUP: &[Key] = &[
    key(
        "count",
        Takes::Number(0, COUNT_MAX),
        "Instances of the group; with 0 it is kept and does not run.",
        "2",
    ),
    later(
        "place",
        Takes::OneOrList(&Takes::Name),
        "The only nodes that it may run on.",
        "[ node-1, node-2 ]",
    ),
    later(
        "failover_after",
        DURATION,
        "How long its node may be silent before the group moves to another one.",
        "2m",
    ),
    key("restart", Takes::Text, "The default of `restart` for its tasks.", "on-failure"),
    later(
        "update",
        Takes::Section(Level::Update),
        "The default of `update` for its tasks.",
        "{ parallel: 2 }",
    ),
    required(
        "tasks",
        Takes::Members(Level::Task),
        "The group's tasks, by name.",
        "{ web: { image: nginx } }",
    ),
];

pub(super) const GROUP_SYNONYMS: &[(&str, &str)] = &[
    ("replicas", "count"),
    ("scale", "count"),
    ("instances", "count"),
    ("services", "tasks"),
    ("nodes", "place"),
    ("node", "place"),
    ("constraint", "place"),
];

pub(super) const TASK: &[Key] = &[
    required("image", Takes::Text, "Reference of the image: [registry/]name[:tag][@digest].", "nginx:1.27"),
    key(
        "kind",
        Takes::Word(&["service", "once", "periodic"]),
        "When it runs: all the time, once until it ends with code 0, or by a schedule.",
        "once",
    ),
    later(
        "schedule",
        Takes::Text,
        "When a periodic task runs: minute, hour, day, month, day of the week.",
        "30 3 * * *",
    ),
    key(
        "entrypoint",
        Takes::Words,
        "Replaces the image's entrypoint, and discards its command.",
        "[ /bin/app ]",
    ),
    key("command", Takes::Words, "Replaces the image's command.", "serve --port 80"),
    key(
        "env",
        Takes::Any(&[Takes::Mapping(&Takes::Text), Takes::List(&Takes::Text)]),
        "Environment variables, added to the image's and winning over them.",
        "{ MODE: production }",
    ),
    key(
        "env_file",
        Takes::OneOrList(&Takes::Text),
        "Files of environment variables; later ones win, and `env` wins over all.",
        "./app.env",
    ),
    key("user", Takes::Text, "The user that the process runs as, and after a colon its group.", "1000:1000"),
    key("groups", Takes::List(&Takes::Text), "Further groups of the process.", "[ video ]"),
    key("working_dir", PATH, "The process's working directory.", "/srv/app"),
    key("hostname", Takes::Text, "The host name that the process sees.", "web-1"),
    key("timezone", Takes::Text, "The time zone that the process sees.", "Europe/Berlin"),
    key("memory", SIZE, "Ceiling of the virtual machine's memory.", "512M"),
    key("cpus", Takes::Form(Form::Cpus), "Ceiling of processor time.", "0.5"),
    later("gpu", Takes::Any(&[Takes::Word(&["all"]), Takes::Number(1, 16)]), "Graphics processors.", "1"),
    later("devices", Takes::List(&Takes::Text), "Devices in the task's machine.", "[ /dev/ttyUSB0 ]"),
    key(
        "volumes",
        Takes::List(&Takes::Form(Form::Mount)),
        "What is mounted where.",
        "[ \"data:/var/lib/app\" ]",
    ),
    key("tmpfs", Takes::OneOrList(&Takes::Text), "File systems in memory.", "[ /tmp ]"),
    key("shm_size", SIZE, "Size of /dev/shm.", "128M"),
    key("read_only", Takes::Switch, "Whether the image's own files cannot be changed.", "true"),
    key("secrets", FILE_USES, "Secrets that the task finds as files.", "[ db-password ]"),
    key("configs", FILE_USES, "Configs that the task finds as files.", "[ \"app.conf:/etc/app.conf\" ]"),
    key(
        "ports",
        Takes::List(&Takes::Form(Form::Port)),
        "Ports that the task listens on.",
        "[ 8080, 53/udp ]",
    ),
    key(
        "publish",
        Takes::List(&Takes::Form(Form::Publish)),
        "Ports of the task offered on the node: NODE:TASK or ADDRESS:NODE:TASK.",
        "[ \"8080:80\" ]",
    ),
    later(
        "expose",
        Takes::List(&Takes::Text),
        "Names under which browsers find a port of the task.",
        "[ \"photos.example.org:8080\" ]",
    ),
    key(
        "connects",
        Takes::List(&Takes::Text),
        "Tasks that it may reach, of this job or another one.",
        "[ \"postgres/db:5432\" ]",
    ),
    key("egress", Takes::OneOrList(&Takes::Text), "What it may reach outside the cluster.", "internet"),
    key(
        "bandwidth",
        Takes::Form(Form::Bandwidth),
        "Most that it sends, and that it receives, in bits per second.",
        "50M",
    ),
    key(
        "hosts",
        Takes::Mapping(&Takes::Text),
        "Further lines of its /etc/hosts.",
        "{ printer: 192.168.1.20 }",
    ),
    key(
        "health",
        Takes::Any(&[Takes::Word(&["none"]), Takes::Section(Level::Health)]),
        "How its health is asked for; as the image says by default.",
        "{ http: \":8080/\", every: 10s }",
    ),
    key(
        "depends_on",
        Takes::Any(&[
            Takes::List(&Takes::Name),
            Takes::Mapping(&Takes::Word(&["started", "healthy", "completed"])),
        ]),
        "Tasks of the job that must be there before it starts.",
        "{ db: healthy }",
    ),
    key("restart", Takes::Text, RESTARTS, "on-failure:3"),
    key("stop_signal", Takes::Text, "The signal that asks the process to stop.", "SIGQUIT"),
    key("stop_grace", DURATION, "The time between that signal and the end by force.", "30s"),
    later(
        "update",
        Takes::Section(Level::Update),
        "How instances go over to a new version.",
        "{ order: start-first }",
    ),
    key("logging", Takes::Section(Level::Logging), "How much of its output is kept.", "{ max_size: 10M }"),
    key(
        "ulimits",
        Takes::Mapping(&Takes::Any(&[Takes::Text, Takes::Section(Level::Ulimit)])),
        "Limits of the process.",
        "{ nofile: 65536 }",
    ),
    key(
        "sysctls",
        Takes::Mapping(&Takes::Text),
        "Settings of the guest's kernel.",
        "{ net.core.somaxconn: 1024 }",
    ),
];

pub(super) const TASK_SYNONYMS: &[(&str, &str)] = &[
    ("args", "command"),
    ("bitrate", "bandwidth"),
    ("cmd", "command"),
    ("container_image", "image"),
    ("cpu", "cpus"),
    ("environment", "env"),
    ("extra_hosts", "hosts"),
    ("group_add", "groups"),
    ("healthcheck", "health"),
    ("links", "connects"),
    ("mem", "memory"),
    ("mem_limit", "memory"),
    ("mounts", "volumes"),
    ("networks", "connects"),
    ("ram", "memory"),
    ("rate_limit", "bandwidth"),
    ("restart_policy", "restart"),
    ("stop_grace_period", "stop_grace"),
    ("stop_timeout", "stop_grace"),
    ("tz", "timezone"),
    ("workdir", "working_dir"),
];

pub(super) const FILE_USE: &[Key] = &[
    required("source", Takes::Text, "Its name in the job.", "db-password"),
    key("target", PATH, "Where the task finds it.", "/etc/app/password"),
    key("uid", Takes::Number(0, u32::MAX - 1), "Number of its owner.", "1000"),
    key("gid", Takes::Number(0, u32::MAX - 1), "Number of its group.", "1000"),
    key("mode", Takes::Text, "Its permissions, as in chmod.", "\"0400\""),
    key("writable", Takes::Switch, "Whether the task may change it.", "true"),
];

pub(super) const HEALTH: &[Key] = &[
    key("http", Takes::Text, "GET of a path answers with 200 to 399: \":PORT/PATH\".", "\":8080/health\""),
    key("tcp", Takes::Number(1, 65535), "A port takes a connection.", "5432"),
    key("command", Takes::Words, "A program in the task ends with code 0.", "[ pg_isready, \"-q\" ]"),
    key("shell", Takes::Text, "The same, read by the image's /bin/sh.", "redis-cli ping | grep PONG"),
    key("every", DURATION, "Between the end of one check and the next.", "10s"),
    key("timeout", DURATION, "After which an unanswered check has failed.", "5s"),
    key("retries", Takes::Number(1, RETRIES_MAX), "Failures in a row that make the task unhealthy.", "5"),
    key("start", DURATION, "After the task's start, the time in which failures do not count.", "60s"),
    key("start_every", DURATION, "Between checks in that time.", "2s"),
];

pub(super) const HEALTH_SYNONYMS: &[(&str, &str)] = &[
    ("interval", "every"),
    ("start_period", "start"),
    ("start_interval", "start_every"),
    ("test", "command"),
    ("cmd", "command"),
    ("url", "http"),
    ("port", "tcp"),
];

pub(super) const UPDATE: &[Key] = &[
    later("parallel", Takes::Number(1, COUNT_MAX), "Instances that change at once.", "2"),
    later("delay", DURATION, "Between one batch and the next.", "10s"),
    later("watch", DURATION, "How long a new instance is watched before it counts as good.", "30s"),
    later(
        "order",
        Takes::Word(&["stop-first", "start-first"]),
        "Whether the old instance stops before the new one starts, or after.",
        "start-first",
    ),
    later(
        "on_failure",
        Takes::Word(&["pause", "continue", "rollback"]),
        "What happens when a new instance fails.",
        "rollback",
    ),
];

pub(super) const UPDATE_SYNONYMS: &[(&str, &str)] =
    &[("parallelism", "parallel"), ("monitor", "watch"), ("failure_action", "on_failure")];

pub(super) const LOGGING: &[Key] = &[
    key("max_size", SIZE, "Size at which a new file is begun.", "10M"),
    key("max_files", Takes::Number(1, LOG_FILES_MAX), "Files that are kept.", "3"),
];

pub(super) const LOGGING_SYNONYMS: &[(&str, &str)] = &[("max_file", "max_files"), ("size", "max_size")];

pub(super) const ULIMIT: &[Key] = &[
    required("soft", Takes::Text, "What the process starts with.", "1024"),
    required("hard", Takes::Text, "How far it may raise that.", "65536"),
];
