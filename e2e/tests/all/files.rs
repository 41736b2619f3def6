//! What a job puts around a process, as the process sees it: secrets, configs, file systems in memory, limits, kernel
//! settings, devices, names, and a root that cannot be changed.

use lith_testkit::{World, eventually};
use serde_json::{Value, json};

/// `hello`, `user=app` in base64.
const HELLO: &str = "aGVsbG8=";
const USER: &str = "dXNlcj1hcHA=";

/// Prints one fact a line.
const FACTS: &str = r#"
echo "password $(cat /run/secrets/password) $(stat -c '%a %u %g' /run/secrets/password)"
echo "config $(cat /etc/app/site.conf) $(stat -c '%a %u %g' /etc/app/site.conf)"
(echo x > /etc/app/site.conf) 2>/dev/null || echo "config cannot be written"
mv /etc/app/state /etc/app/other && echo more >> /etc/app/other && echo "state $(cat /etc/app/other)"
(dd if=/dev/zero of=/cache/big bs=1M count=2) 2>/dev/null || echo "cache is full $(stat -c %a /cache)"
echo "shm $(df -k /dev/shm | awk 'NR==2 {print $2}')"
echo "limits $(ulimit -n) $(ulimit -Hn)"
echo "somaxconn $(cat /proc/sys/net/core/somaxconn)"
echo "host $(hostname) $HOSTNAME $(grep -c '203.0.113.9.*partner' /etc/hosts)"
echo "groups $(id -G)"
echo "zone $TZ"
echo "devices $(stat -c '%a' /dev/fuse) $(stat -c '%a' /dev/net/tun)"
"#;

const FOUND: &str = "\
password hello 400 1000 50
config user=app 444 0 0
config cannot be written
state user=appmore
cache is full 700
shm 8192
limits 1234 2345
somaxconn 777
host odin odin 1
groups 0 44
zone Europe/Berlin
devices 666 666";

const SEALED: &str = r#"
(echo x > /file) 2>/dev/null || echo "root cannot be written"
(echo x > /etc/passwd) 2>/dev/null || echo "etc cannot be written"
echo x > /tmp/file && echo "tmp can"
echo more >> /etc/app/state && cat /etc/app/state
echo "password $(cat /run/secrets/password)"
"#;

const SEALED_FOUND: &str = "\
root cannot be written
etc cannot be written
tmp can
user=appmore
password hello";

fn task(script: &str, rest: &Value) -> Value {
    let mut task = json!({
        "image": "busybox:1",
        "command": ["sh", "-c", script],
        "memory_bytes": 96 << 20,
        "cpu_millis": 1000,
        "restart": "no",
        "stop_grace_ms": 1000,
    });
    let task_fields = task.as_object_mut().unwrap();
    task_fields.extend(rest.as_object().unwrap().clone());
    task
}

fn job() -> Value {
    let secret = json!([{ "source": "password", "target": "/run/secrets/password", "uid": 1000, "gid": 50, "mode": 0o400 }]);
    let state = json!({ "source": "site.conf", "target": "/etc/app/state", "is_writable": true });
    let open = task(
        FACTS,
        &json!({
            "secrets": secret,
            "configs": [{ "source": "site.conf", "target": "/etc/app/site.conf" }, state],
            "tmpfs": [{ "target": "/cache", "size_bytes": 1 << 20, "mode": 0o700 }],
            "shm_bytes": 8 << 20,
            "ulimits": { "nofile": "1234:2345" },
            "sysctls": { "net.core.somaxconn": "777" },
            "hostname": "odin",
            "hosts": { "partner": "203.0.113.9" },
            "groups": ["44"],
            "timezone": "Europe/Berlin",
            "devices": ["/dev/fuse", "/dev/net/tun"],
        }),
    );
    let sealed = task(
        SEALED,
        &json!({
            "is_read_only": true,
            "tmpfs": [{ "target": "/tmp" }],
            "secrets": [{ "source": "password", "target": "/run/secrets/password" }],
            "configs": [state],
        }),
    );
    let refused = task("true", &json!({ "sysctls": { "kernel.no_such_thing": "1" } }));
    let file = |content: &str| json!({ "from": "inline", "content": content });
    json!({
        "name": "files",
        "secrets": { "password": file(HELLO) },
        "configs": { "site.conf": file(USER) },
        "groups": { "main": { "count": 1, "tasks": { "open": open, "sealed": sealed, "refused": refused } } },
    })
}

#[test]
fn a_process_finds_what_its_job_brings_along() {
    let world = World::start(&["busybox"]);
    world.put(&job());
    for (task, expected) in [("open", FOUND), ("sealed", SEALED_FOUND)] {
        let ended = ended(&world, task);
        let log = world.lith(&["logs", &format!("files/{task}")]).ok();
        assert_eq!(log.stdout.trim_end(), expected, "{ended} {log}");
    }
    let refused = ended(&world, "refused");
    let expected = "could not start: cannot apply the job's settings: the guest's kernel has no setting kernel.no_such_thing";
    assert_eq!(refused["last_exit"], expected);
    // What a secret holds is not told again.
    let (_, detail) = world.ask("GET /v1/jobs/files", &Value::Null);
    let spec = &detail["spec"];
    assert_eq!(
        (&spec["secrets"]["password"]["content"], &spec["configs"]["site.conf"]["content"]),
        (&Value::Null, &USER.into())
    );
    // What is kept of it on the node is root's alone.
    let folder = world.data_dir.join("node");
    for path in ["desired.json", "tasks/files.main.0.open/shim.json"] {
        let metadata = std::fs::metadata(folder.join(path)).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::mode(&metadata) & 0o777, 0o600, "{path}");
    }
}

fn ended(world: &World, name: &str) -> Value {
    eventually(&format!("task {name} to end"), || {
        let task = world.tasks("files").into_iter().find(|task| task["task"] == name).unwrap_or_default();
        if task["phase"] == "finished" { Ok(task) } else { Err(task) }
    })
}
