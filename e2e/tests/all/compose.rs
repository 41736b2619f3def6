//! Compose projects of several services, as people have them, deployed as they are: `examples/compose`.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use lith_testkit::{HOST, World, eventually};
use serde_json::{Value, json};

use crate::client::await_page;

/// Longest time from `lith deploy` to its end: several machines boot at once, and a database is made.
const DEPLOY_TIME_MAX: Duration = Duration::from_secs(240);

fn world(images: &[(&str, &str)]) -> World {
    let world = World::start(&[]);
    for (image, name) in images {
        world.load_as(image, name);
    }
    world
}

fn path(project: &str) -> String {
    let examples = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/compose").join(project);
    examples.to_str().expect("the path is text").to_owned()
}

fn deploy(world: &World, words: &[&str]) -> String {
    let begin = Instant::now();
    let words = [&["deploy", "--timeout", "4m"], words].concat();
    let output = world.lith(&words).ok();
    assert!(begin.elapsed() < DEPLOY_TIME_MAX, "it took {:?}", begin.elapsed());
    output.stderr
}

fn await_json(world: &World, url: &str) -> Value {
    serde_json::from_str(&await_page(&world.lan, url)).expect("the app answers with JSON")
}

/// Posts until it is taken: an app may be there before its database is.
fn post(world: &World, url: &str, text: &str) -> Value {
    eventually(&format!("{url} to take a note"), || {
        let output = world.lan.command("curl", &["-sS", "--fail", "--max-time", "30", "-d", text, url]);
        if output.code == 0 { Ok(output.json()) } else { Err(output) }
    })
}

fn task(world: &World, job: &str, name: &str) -> Value {
    let tasks = world.tasks(job);
    tasks.into_iter().find(|task| task["task"] == name).unwrap_or_default()
}

const POSTGRES: (&str, &str) = ("postgres", "postgres:15");
const REDIS: (&str, &str) = ("redis", "redis:7");
const NGINX: (&str, &str) = ("nginx", "nginx:1.22");
const NOTES: (&str, &str) = ("python", "notes:1");
const MOSQUITTO: (&str, &str) = ("mosquitto", "eclipse-mosquitto:2");

#[test]
fn an_app_with_a_database_and_a_cache() {
    let world = world(&[POSTGRES, REDIS, NOTES]);
    deploy(&world, &[&path("notes/compose.yaml")]);
    let notes = format!("http://{HOST}:8080");
    assert!(await_json(&world, &format!("{notes}/visits"))["visits"].as_u64() >= Some(1));
    assert!(post(&world, &format!("{notes}/notes"), "buy milk")["id"].is_u64());
    for name in ["db", "cache", "web"] {
        eventually(&format!("{name} to be healthy"), || {
            let task = task(&world, "notes", name);
            if task["health"] == "healthy" { Ok(()) } else { Err(task) }
        });
    }
    // The database's disk outlives its task, and the app finds it again by its name.
    let _ = world.lith(&["restart", "notes/db"]).ok();
    eventually("the note to be there", || {
        let output =
            world.lan.command("curl", &["-sS", "--fail", "--max-time", "10", &format!("{notes}/notes")]);
        if output.stdout.contains("buy milk") { Ok(()) } else { Err(output) }
    });
    // What is shown can be deployed again, and changes nothing.
    let shown = world.lith(&["job", "show", "notes"]).ok().stdout;
    let plan = world.lith_with_input(&["plan", "-"], shown.as_bytes()).ok().stdout;
    assert!(plan.starts_with("job notes: nothing changes"), "{plan}\n{shown}");
}

#[test]
fn a_task_that_runs_once_and_one_that_includes() {
    let world = world(&[POSTGRES, NOTES]);
    deploy(&world, &[&path("migrate/compose.yaml")]);
    let migrate = task(&world, "migrate", "migrate");
    assert_eq!(
        (&migrate["phase"], &migrate["last_exit"]),
        (&"finished".into(), &"exited with code 0".into())
    );
    let notes = await_json(&world, &format!("http://{HOST}:8082/notes"));
    assert_eq!(notes, json!([{ "id": 1, "text": "made by migrate" }]));
    let _ = world.lith(&["rm", "migrate"]).ok();

    deploy(&world, &["--profile", "maintenance", &path("profiles/compose.yaml")]);
    let url = format!("http://{HOST}:8086/notes");
    await_json(&world, &url);
    assert!(task(&world, "profiles", "backup")["phase"].is_string(), "its profile is on");
}

#[test]
fn configs_secrets_and_overlays() {
    let world = world(&[POSTGRES, REDIS, NGINX, NOTES]);
    deploy(&world, &[&path("gateway/compose.yaml")]);
    let gateway = format!("http://{HOST}:8083");
    assert!(post(&world, &format!("{gateway}/notes"), "through the gateway")["id"].is_u64());
    assert_eq!(await_page(&world.lan, &gateway), "notes behind a gateway: GET /notes, POST /notes\n");
    let shown = world.lith(&["job", "show", "gateway", "--json"]).ok().stdout;
    assert!(!shown.contains("Y29ycmVjdCBob3JzZ") && !shown.contains("correct horse"), "a secret is shown");
    let _ = world.lith(&["rm", "gateway"]).ok();

    let files = [path("overlay/compose.yaml"), path("overlay/compose.override.yaml")];
    deploy(&world, &["-f", &files[0], "-f", &files[1]]);
    assert!(await_page(&world.lan, &format!("http://{HOST}:8084")).starts_with("as this house wants it"));
    assert!(await_json(&world, &format!("http://{HOST}:8084/visits"))["visits"].as_u64() >= Some(1));
    let shut = world.lan.command("redis-cli", &["-h", &HOST.to_string(), "ping"]);
    assert_ne!(shut.code, 0, "the override took the port away");
}

#[test]
fn extended_linked_and_old() {
    let world = world(&[REDIS, NGINX, NOTES, MOSQUITTO]);
    deploy(&world, &[&path("replica/compose.yaml")]);
    let redis = |port: &str, words: &[&str]| {
        world.lan.command("redis-cli", &[&["-h", &HOST.to_string(), "-p", port], words].concat())
    };
    let primary = |words: &[&str]| world.host.command("redis-cli", words).ok().stdout;
    assert_eq!(primary(&["set", "colour", "green"]), "OK\n");
    eventually("the replica to follow", || {
        let output = redis("6380", &["get", "colour"]);
        if output.stdout == "green\n" { Ok(()) } else { Err(output) }
    });
    assert_ne!(redis("6379", &["ping"]).code, 0, "the primary is published on 127.0.0.1 alone");
    let limits = world.lith(&[
        "exec",
        "replica/replica",
        "--",
        "sh",
        "-c",
        "ulimit -n; cat /proc/sys/net/core/somaxconn",
    ]);
    assert_eq!(limits.ok().stdout, "4096\n1024\n");
    let _ = world.lith(&["rm", "replica"]).ok();

    deploy(&world, &[&path("legacy/docker-compose.yml")]);
    assert!(post(&world, &format!("http://{HOST}:8087/notes"), "old but well")["id"].is_u64());
    let umask =
        world.lith(&["exec", "legacy/store", "--", "sh", "-c", "echo $UMASK $(hostname)"]).ok().stdout;
    assert_eq!(umask, "2 store.local\n");
    let written = world.lith(&["exec", "legacy/frontend", "--", "touch", "/etc/changed"]);
    assert_ne!(written.code, 0, "its root is read-only");
    let _ = world.lith(&["rm", "legacy"]).ok();

    deploy(&world, &[&path("queue/compose.yaml")]);
    eventually("a message to be heard", || {
        let log = world.lith(&["logs", "queue/listener"]).ok().stdout;
        if log.contains("house/garage 21 degrees") { Ok(()) } else { Err(log) }
    });
}

/// The folder of the node that the volume's disk is in holds what it starts with only until its task runs.
#[test]
fn a_folder_is_brought_in_once() {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    let world = world(&[NGINX]);
    let project = world.path("site");
    let html = project.join("html");
    std::fs::create_dir_all(html.join("notes")).unwrap();
    for file in ["compose.yaml", "html/index.html", "html/notes/today.txt"] {
        std::fs::copy(PathBuf::from(path("site")).join(file), project.join(file)).unwrap();
    }
    // What Docker would show of a folder that it mounts, it has in its volume.
    std::fs::write(html.join("private"), "mine").unwrap();
    std::fs::set_permissions(html.join("private"), PermissionsExt::from_mode(0o600)).unwrap();
    chown(html.join("private"), Some(1234), Some(5678)).unwrap();
    symlink("notes/today.txt", html.join("today")).unwrap();
    std::fs::write(html.join(".wh.odd"), "no whiteout").unwrap();
    std::fs::hard_link(html.join("private"), html.join("same")).unwrap();
    let file = project.join("compose.yaml").to_str().unwrap().to_owned();

    let plan = world.lith(&["plan", &file]).ok().stdout;
    assert!(plan.contains("+ volume html  is created with the content of ./html"), "{plan}");
    let said = deploy(&world, &[&file]);
    assert!(said.contains("volume site.html.0 starts with ./html: copied 6 files"), "{said}");
    let url = format!("http://{HOST}:8088");
    assert_eq!(await_page(&world.lan, &url), "<h1>Pages of this house</h1>\n");
    assert_eq!(await_page(&world.lan, &format!("{url}/today")), "Buy milk.\n");
    let looked = "cd /var/www/html && stat -c '%a %u:%g %h' private && cat .wh.odd";
    let looked = world.lith(&["exec", "site/web", "--", "sh", "-c", looked]).ok().stdout;
    assert_eq!(looked, "600 1234:5678 2\nno whiteout");
    let content = world.path("data/volumes/site.html.0/content.erofs");
    eventually("what the volume started with to be forgotten", || {
        if content.exists() { Err("it is there") } else { Ok(()) }
    });

    // What goes into the volume later, as a project's data that moves here, keeps its owner, too.
    let archive = Command::new("tar").arg("-C").arg(&html).args(["-c", "private"]).output().unwrap();
    let _ = world.lith_with_input(&["cp", "-", "site/web:/var/www/html/notes"], &archive.stdout).ok();
    let moved = ["exec", "site/web", "--", "stat", "-c", "%a %u:%g", "/var/www/html/notes/private"];
    assert_eq!(world.lith(&moved).ok().stdout, "600 1234:5678\n");

    // From now on the pages are the task's.
    let changed = ["exec", "site/web", "--", "sh", "-c", "echo changed >/var/www/html/index.html"];
    let _ = world.lith(&changed).ok();
    std::fs::write(html.join("index.html"), "never seen").unwrap();
    let again = world.lith(&["deploy", &file]).ok();
    assert!(again.stdout.contains("nothing changes"), "{again}");
    let _ = world.lith(&["restart", "site"]).ok();
    assert_eq!(await_page(&world.lan, &url), "changed\n");
    let refused = world.ask("PUT /v1/volumes/site.html.0/content", &json!({}));
    assert_eq!(refused.0, 409, "{}", refused.1);

    // Who does not send it is told so, and nothing starts without.
    let _ = world.lith(&["rm", "--volumes", "site"]).ok();
    let spec = json!({
        "name": "site",
        "volumes": { "html": { "size_bytes": 1 << 30, "import": "./html" } },
        "groups": { "main": { "count": 1, "tasks": { "web": {
            "image": NGINX.1,
            "volumes": ["html:/var/www/html"],
            "memory_bytes": 128 << 20,
            "cpu_millis": 1000,
            "restart": "always",
            "stop_grace_ms": 1000,
        } } } },
    });
    let (status, failure) = world.ask("PUT /v1/jobs/site", &spec);
    let message = failure["message"].to_string();
    assert!(status == 400 && message.contains("has not been sent"), "{status} {failure}");
}

#[test]
fn what_cannot_run_is_said_at_its_place() {
    let world = World::start(&[]);
    let text = "services:\n  web:\n    image: nginx\n    network_mode: service:vpn\n    volumes: [ \"data:/data\" ]\n  \
                vpn:\n    build: .\n";
    let folder = world.path("odd");
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("compose.yaml");
    std::fs::write(&file, text).unwrap();
    let output = world.lith(&["deploy".as_ref(), file.as_os_str()]);
    assert_eq!(output.code, 1, "{output}");
    for place in ["compose.yaml:4:", "compose.yaml:5:", "compose.yaml:7:"] {
        assert!(output.stderr.contains(place), "{place}\n{output}");
    }
    assert_eq!(world.lith(&["job", "ls", "--json"]).json(), json!([]), "nothing of it was deployed");
}
