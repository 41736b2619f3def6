//! Tasks that reach each other by name: what their connects say, and nothing else, whatever starts, stops or dies
//! meanwhile.

use std::collections::BTreeSet;

use lith_testkit::{Output, World, eventually};
use serde_json::{Value, json};

/// What a server answers at its declared port, and at one that it keeps for itself.
const SERVE: &str = "mkdir /tmp/www /tmp/own; echo $NAME > /tmp/www/index.html; echo own > /tmp/own/index.html; \
                     python3 -m http.server 81 -d /tmp/own & exec python3 -m http.server 80 -d /tmp/www";
/// The same in an image that has no Python.
const SERVE_SMALL: &str = "mkdir /tmp/www; echo $NAME > /tmp/www/index.html; exec httpd -f -p 80 -h /tmp/www";
/// How long a client waits for what it must not get, which is refused at once.
const PATIENCE_SECONDS: &str = "20";

#[test]
fn tasks_reach_what_they_connect_to_and_nothing_else() {
    let mut world = World::start(&["busybox", "python"]);
    let _ = put(&world, "store", &json!({ "cache": cache() }));
    let mut client = server("client", &["db as Main", "store/cache"]);
    client["hostname"] = json!("front");
    client["hosts"] = json!({ "printer": "192.0.2.77" });
    let _ = put(
        &world,
        "shop",
        &json!({ "client": client, "db": server("db", &[]), "other": server("other", &[]) }),
    );
    await_ready(&world, "store", 1);
    await_ready(&world, "shop", 3);
    names(&world);
    granted(&world);
    refused(&world);
    // What is granted outlives the agent.
    let vmm = world.vmm("shop.main.0.client");
    world.kill_daemon();
    world.up();
    await_ready(&world, "shop", 3);
    granted(&world);
    assert_eq!(world.vmm("shop.main.0.client"), vmm);
}

#[test]
fn targets_come_and_go() {
    let world = World::start(&["busybox", "python"]);
    let _ = put(&world, "store", &json!({ "cache": cache() }));
    let _ = put(&world, "shop", &json!({ "client": server("client", &["store/cache"]) }));
    await_ready(&world, "store", 1);
    await_ready(&world, "shop", 1);
    stopped_and_started(&world);
    removed(&world);
}

#[test]
fn rights_change_while_a_task_runs() {
    let mut world = World::start(&["busybox", "python"]);
    let _ = put(&world, "store", &json!({ "cache": cache() }));
    let client = |connects: &[&str]| json!({ "client": server("client", connects) });
    let _ = put(&world, "shop", &client(&[]));
    await_ready(&world, "store", 1);
    await_ready(&world, "shop", 1);
    let vmm = world.vmm("shop.main.0.client");
    let page = |world: &World, url: &str| fetch(world, "shop/client", url, PATIENCE_SECONDS);
    let cache = format!("http://{}/", address(&world, "store", "cache"));
    for round in 0..2 {
        let output = page(&world, "http://cache/");
        assert_eq!(output.stderr.trim(), "gaierror", "{output}");
        let output = page(&world, &cache);
        assert_eq!(output.stderr.trim(), "OSError", "{output}");
        let plan = put(&world, "shop", &client(&["store/cache"]));
        assert_eq!(plan["changes"][0]["kind"], "adjust", "{plan}");
        // At once, for the answer comes when it is in force.
        for url in ["http://cache/", &cache] {
            assert_eq!(page(&world, url).ok().stdout, "cache\n");
        }
        if round == 0 {
            world.kill_daemon();
            world.up();
            await_ready(&world, "shop", 1);
            assert_eq!(page(&world, "http://cache/").ok().stdout, "cache\n");
        }
        assert_eq!(put(&world, "shop", &client(&[]))["changes"][0]["kind"], "adjust");
    }
    let _ = put(&world, "shop", &client(&["store/cache"]));
    let standing = |change: &mut dyn FnMut()| {
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| world.lith(&["exec", "shop/client", "--", "python3", "-c", HOLD]));
            let has_begun = || world.lith(&["exec", "shop/client", "--", "rm", "/tmp/stands"]);
            eventually("the connection to stand", || {
                let output = has_begun();
                if output.code == 0 { Ok(()) } else { Err(output) }
            });
            change();
            let _ = world.lith(&["exec", "shop/client", "--", "touch", "/tmp/go"]).ok();
            asking.join().unwrap()
        })
    };
    // What stays granted goes on.
    let mut changed = client(&["store/cache"]);
    let adjust = |changed: &Value| {
        await_ready(&world, "shop", 1);
        let plan = put(&world, "shop", changed);
        assert_eq!(plan["changes"][0]["kind"], "adjust", "{plan}");
    };
    let changes = [
        ("bandwidth_bits", json!(50_000_000)),
        ("egress", json!(["internet"])),
        ("ports", json!(["80", "81"])),
    ];
    let output = standing(&mut || {
        for (key, value) in &changes {
            changed["client"][key] = value.clone();
            adjust(&changed);
        }
    });
    assert!(output.stdout.ends_with("cache\n"), "{output}");
    changed["client"]["connects"] = json!([]);
    let output = standing(&mut || adjust(&changed));
    assert!(output.code != 0 && !output.stdout.contains("cache"), "{output}");
    assert_eq!(world.vmm("shop.main.0.client"), vmm);
    assert_eq!(world.tasks("shop")[0]["restarts"], 0);
}

/// Connects, and asks for the page when it is told to.
const HOLD: &str = "
import os, socket, time
s = socket.create_connection(('cache', 80), 10)
open('/tmp/stands', 'w').close()
while not os.path.exists('/tmp/go'):
    time.sleep(0.05)
os.remove('/tmp/go')
s.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')
page = b''
while part := s.recv(4096):
    page += part
print(page.decode(), end='')
";

/// A server as a task of the API, with what it may reach.
fn server(name: &str, connects: &[&str]) -> Value {
    json!({
        "image": "python:1",
        "entrypoint": ["sh", "-c", SERVE],
        "user": "root",
        "working_dir": "/",
        "env": { "NAME": name },
        "ports": ["80"],
        "connects": connects,
        "memory_bytes": 160 << 20,
        "cpu_millis": 1000,
        "restart": "always",
        "stop_grace_ms": 500,
    })
}

/// The only task of the other job.
fn cache() -> Value {
    let mut cache = server("cache", &[]);
    cache["image"] = json!("busybox:1");
    cache["entrypoint"] = json!(["sh", "-c", SERVE_SMALL]);
    cache["memory_bytes"] = json!(96 << 20);
    cache
}

/// Deploys a job of one group through the API, and gives its plan.
fn put(world: &World, job: &str, tasks: &Value) -> Value {
    let spec = json!({ "name": job, "groups": { "main": { "count": 1, "tasks": tasks } } }).to_string();
    let socket = world.path("run").join("lith.sock");
    let socket = socket.to_str().unwrap();
    let url = format!("http://lith/v1/jobs/{job}");
    let arguments = [
        "-sS",
        "--fail-with-body",
        "--unix-socket",
        socket,
        "-X",
        "PUT",
        "-H",
        "content-type: application/json",
    ];
    world.host.command("curl", &[&arguments[..], &["-d", &spec, &url]].concat()).ok().json()
}

fn await_ready(world: &World, job: &str, count: usize) {
    eventually(&format!("{count} tasks of {job} to be ready"), || {
        let tasks = world.tasks(job);
        let is_ready = tasks.len() == count && tasks.iter().all(|task| task["is_ready"] == true);
        if is_ready { Ok(()) } else { Err(format!("{tasks:?}")) }
    });
}

/// Gets a page, or says in a word why not.
const FETCH: &str = "
import sys, urllib.request
try:
    sys.stdout.write(urllib.request.urlopen(sys.argv[1], timeout=int(sys.argv[2])).read().decode())
except OSError as error:
    sys.exit(type(getattr(error, 'reason', error)).__name__)
";

/// A page as a task gets it.
fn fetch(world: &World, task: &str, url: &str, seconds: &str) -> Output {
    world.lith(&["exec", task, "--", "python3", "-c", FETCH, url, seconds])
}

fn address(world: &World, job: &str, task: &str) -> String {
    let tasks = world.tasks(job);
    let found = tasks.iter().find(|found| found["task"] == task).unwrap();
    found["address"].as_str().unwrap().to_owned()
}

fn names(world: &World) {
    let hosts = world.lith(&["exec", "shop/client", "--", "cat", "/etc/hosts"]).ok().stdout;
    let own = address(world, "shop", "client");
    for line in [format!("{own}\tfront"), format!("{own}\tclient"), "192.0.2.77\tprinter".to_owned()] {
        assert!(hosts.lines().any(|found| found == line), "{line:?} is not in\n{hosts}");
    }
    assert_eq!(world.lith(&["exec", "shop/client", "--", "hostname"]).ok().stdout, "front\n");
    let db = lookup(world, "shop/client", "db").expect("it is connected");
    for name in ["Main", "db.shop.lith.internal", "DB"] {
        assert_eq!(lookup(world, "shop/client", name).as_ref(), Some(&db), "{name}");
    }
    assert_ne!(db[0], address(world, "shop", "db"), "it is the address of all instances");
    assert_eq!(lookup(world, "shop/client", "cache"), lookup(world, "shop/client", "cache.store"));
    // Nobody else knows them, nor is anything else known.
    for (task, name) in [("shop/client", "other"), ("shop/other", "db"), ("store/cache", "client")] {
        assert_eq!(lookup(world, task, name), None, "{task} {name}");
    }
}

/// The addresses that a name has for a task.
fn lookup(world: &World, task: &str, name: &str) -> Option<Vec<String>> {
    // The image of the cache has no Python.
    if task == "store/cache" {
        let output = world.lith(&["exec", task, "--", "nslookup", name]);
        return (output.code == 0).then(Vec::new);
    }
    let ask = "import socket, sys; print(*sorted({a[4][0] for a in socket.getaddrinfo(sys.argv[1], 80)}, key=lambda a: ':' in a))";
    let output = world.lith(&["exec", task, "--", "python3", "-c", ask, name]);
    (output.code == 0).then(|| output.stdout.split_whitespace().map(str::to_owned).collect())
}

fn granted(world: &World) {
    for (name, page) in [("db", "db\n"), ("main", "db\n"), ("cache", "cache\n"), ("cache.store", "cache\n")] {
        assert_eq!(fetch(world, "shop/client", &format!("http://{name}/"), "20").ok().stdout, page, "{name}");
    }
}

/// What nobody declared, though somebody listens, which root on the host sees.
fn refused(world: &World) {
    let [client, db] = ["client", "db"].map(|task| address(world, "shop", task));
    let cache = address(world, "store", "cache");
    for (task, target) in [
        ("client", format!("http://{db}:81/")),
        ("other", format!("http://{db}/")),
        ("other", format!("http://{cache}/")),
        ("db", format!("http://{client}/")),
    ] {
        let output = fetch(world, &format!("shop/{task}"), &target, PATIENCE_SECONDS);
        // "No route to host", whatever is there.
        assert_eq!((output.code, output.stderr.trim()), (1, "OSError"), "{task} {target}: {output}");
        let _ = world.host.command("curl", &["-sS", "--fail", "--max-time", "20", &target]).ok();
    }
}

/// A client does not wait in vain for a target that is stopped, and finds it again when it runs.
fn stopped_and_started(world: &World) {
    let page = |seconds| fetch(world, "shop/client", "http://cache/", seconds);
    assert_eq!(page("20").ok().stdout, "cache\n");
    let vmm = world.vmm("shop.main.0.client");
    let before = address(world, "store", "cache");
    let _ = world.lith(&["stop", "store/cache"]).ok();
    eventually("the stopped target to refuse", || {
        let output = page("20");
        if output.stderr.trim() == "ConnectionRefusedError" { Ok(()) } else { Err(output) }
    });
    let _ = world.lith(&["start", "store/cache"]).ok();
    await_ready(world, "store", 1);
    assert_eq!(address(world, "store", "cache"), before);
    assert_eq!(page("20").ok().stdout, "cache\n");
    assert_eq!(world.vmm("shop.main.0.client"), vmm);
}

/// With its job goes its name, and comes back with it, to who runs as to who boots.
fn removed(world: &World) {
    let client = world.vmm("shop.main.0.client");
    for _ in 0..2 {
        let _ = world.lith(&["rm", "store"]).ok();
        eventually("the job's task to be gone", || {
            let tasks = world.lith(&["ps", "--json"]).json();
            if tasks.to_string().contains("store.main.0.cache") { Err(tasks) } else { Ok(()) }
        });
        let output = fetch(world, "shop/client", "http://cache/", PATIENCE_SECONDS);
        assert_eq!((output.code, output.stderr.trim()), (1, "gaierror"), "{output}");
        put(world, "store", &json!({ "cache": cache() }));
        eventually("the client to find the new target", || {
            let output = fetch(world, "shop/client", "http://cache.store/", "20");
            if output.code == 0 { Ok(()) } else { Err(output) }
        });
    }
    assert_eq!(world.vmm("shop.main.0.client"), client);
}

/// Answers with the address by which its instance is reached in the end.
const SAY_ADDRESS: &str = "
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.connection.getsockname()[0].encode())
http.server.ThreadingHTTPServer(('', 80), Handler).serve_forever()
";

/// New connections go to the instances that are well, and to no other.
#[test]
fn instances_share_what_comes() {
    let world = World::start(&["python"]);
    let mut web = server("web", &[]);
    web["entrypoint"] = json!(["python3", "-c", SAY_ADDRESS]);
    web["health"] = json!({
        "probe": { "shell": "test ! -e /tmp/sick" }, "every_ms": 500, "timeout_ms": 10000, "retries": 1,
        "start_every_ms": 500,
    });
    let groups = json!({
        "web": { "count": 2, "tasks": { "web": web } },
        "main": { "count": 1, "tasks": { "client": server("client", &["web"]) } },
    });
    let _ = world.put(&json!({ "name": "shop", "groups": groups }));
    await_ready(&world, "shop", 3);
    let all = || -> BTreeSet<String> {
        let tasks = world.tasks("shop");
        let web = tasks.iter().filter(|task| task["task"] == "web");
        web.map(|task| task["address"].as_str().unwrap().to_owned()).collect()
    };
    let answers = || -> BTreeSet<String> {
        let fetch = || fetch(&world, "shop/client", "http://web/", "20").ok().stdout;
        (0..12).map(|_| fetch()).collect()
    };
    eventually("both to answer", || if answers() == all() { Ok(()) } else { Err("one alone did") });
    let sick = |id: &str| world.lith(&["exec", id, "--", "touch", "/tmp/sick"]).ok();
    let _ = sick("shop.web.0.web");
    let tasks = world.tasks("shop");
    let other = tasks.iter().find(|task| task["id"] == "shop.web.1.web").unwrap();
    let well = BTreeSet::from([other["address"].as_str().unwrap().to_owned()]);
    eventually("the other one to answer alone", || {
        let answers = answers();
        if answers == well { Ok(()) } else { Err(format!("{answers:?}")) }
    });
    // Better one that is unwell than none.
    let _ = sick("shop.web.1.web");
    eventually("both to answer again", || if answers() == all() { Ok(()) } else { Err("one alone did") });
}
