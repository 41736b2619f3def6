//! What a person does with the first task: deploy, look, log, exec, copy, stop, start, restart, remove.

use std::net::SocketAddr;
use std::path::Path;

use lith_testkit::{HOST, NEIGHBOUR, World, eventually};
use serde_json::Value;

use crate::client::{await_page, page};

const JOB: &str = include_str!("../../../examples/hello/job.yaml");
const TITLE: &str = "<title>Hello from lith</title>";

#[test]
fn an_image_serves_its_page_and_is_looked_after() {
    let mut world = World::start(&["hello"]);
    deploy(&world);
    jail(&world);
    pages(&world);
    logs(&world);
    exec(&world);
    terminal(&world);
    stats(&world);
    copies(&world);
    stop_and_start(&world);
    removal(&world);
    world.down_purge();
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

fn deploy(world: &World) {
    let plan = world.lith_with_input(&["plan", "-"], JOB.as_bytes()).ok();
    assert!(plan.stdout.contains("is created"), "{plan}");
    let output = world.deploy(JOB).ok();
    assert!(output.stdout.contains("http://127.0.0.1:8080"), "{output}");
    assert!(output.stderr.contains("job hello is ready"), "{output}");
    let task = world.task("hello");
    assert_eq!(task["phase"], "running", "{task}");
    assert_eq!(task["is_ready"], true, "{task}");
    assert_eq!(task["publish"], serde_json::json!(["8080:80"]), "{task}");
    // Deploying the same again changes nothing: the same machine goes on.
    let vmm = world.vmm("hello.main.0.web");
    let again = world.deploy(JOB).ok();
    assert!(again.stdout.contains("stays as it is"), "{again}");
    assert_eq!(world.vmm("hello.main.0.web"), vmm);
}

/// What its machine is on this host. How the jail is made is tested with the machine itself; here, that it is the one of
/// this task, and sees neither the network nor the data of the node.
fn jail(world: &World) {
    let vmm = world.vmm("hello.main.0.web").unwrap();
    // Slot 1 of a new node, above every user ID that a system gives away.
    let uid = 2_000_000_001;
    assert_eq!(vmm.status("Uid").unwrap(), format!("{uid}\t{uid}\t{uid}\t{uid}"));
    let daemon = world.daemon().unwrap();
    for kind in ["mnt", "net", "pid", "ipc", "uts"] {
        assert_ne!(vmm.namespace(kind).unwrap(), daemon.namespace(kind).unwrap(), "{kind}");
    }
    // Disks are handed over open; of the data folder it sees the kernel that it boots, under another name.
    let mounts = vmm.read("mountinfo").unwrap();
    let mut points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    assert!(points.all(|point| !Path::new(point).starts_with(&world.data_dir)), "{mounts}");
    let groups = vmm.read("cgroup").unwrap();
    assert!(groups.contains("/lith/hello.main.0.web"), "{groups}");
    // Nor are the sockets at which its questions are read root's, to which the packet filter leaves more.
    let sockets = world.host.shell("ss -lntuHe src 169.254.83.1");
    let is_jailed = |line: &str| line.contains("uid:2000065000");
    assert!(sockets.lines().count() == 2 && sockets.lines().all(is_jailed), "{sockets}");
}

fn pages(world: &World) {
    for (from, url, client) in [
        (&*world.lan, format!("http://{HOST}:8080/"), NEIGHBOUR.to_string()),
        (&world.host, format!("http://{HOST}:8080/"), HOST.to_string()),
        // A guest could not answer to its own loopback: it sees its gateway.
        (&world.host, "http://127.0.0.1:8080/".to_owned(), "169.254.83.1".to_owned()),
    ] {
        assert!(page(from, &url).contains(TITLE), "{url}");
        eventually(&format!("the log to name client {client}"), || {
            let log = world.lith(&["logs", "hello"]).ok();
            if log.stderr.contains(&client) { Ok(()) } else { Err(log) }
        });
    }
}

fn logs(world: &World) {
    let all = world.lith(&["logs", "hello", "--json"]).ok().stdout;
    let lines: Vec<Value> = all.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() >= 3, "{all}");
    assert!(lines.iter().all(|line| line["stream"] == "stderr"), "httpd logs there: {all}");
    let last = world.lith(&["logs", "hello", "--tail", "1"]).ok();
    // What a task wrote to standard error comes out there.
    assert_eq!(
        (last.stdout.as_str(), last.stderr.trim_end()),
        ("", lines.last().unwrap()["text"].as_str().unwrap())
    );
    let stamped = world.lith(&["logs", "hello", "-t", "-n", "1"]).ok().stderr;
    assert!(stamped.contains(lines.last().unwrap()["time"].as_str().unwrap()), "{stamped}");
    assert!(stamped.contains("stderr"), "{stamped}");
    assert_eq!(world.lith(&["logs", "hello", "--since", "1h"]).ok().stderr.lines().count(), lines.len());
    assert_eq!(world.lith(&["logs", "hello", "--since", "2100-01-01T00:00:00Z"]).ok().stderr, "");
    let since = lines[1]["time"].as_str().unwrap();
    let some = world.lith(&["logs", "hello", "--json", "--since", since]).ok().stdout;
    assert!(some.lines().count() < lines.len(), "since {since}: {some}");
    assert!(some.contains(since), "the moment itself belongs to it: {some}");

    let mut follow = world.lith_running(&["logs", "-f", "-n", "0", "--json", "hello"]);
    // It may not follow yet when the page is asked for: so it is asked for until it shows.
    eventually("a line to be followed", || {
        page(&world.lan, &format!("http://{HOST}:8080/"));
        let seen = follow.stdout();
        if seen.contains(&NEIGHBOUR.to_string()) { Ok(()) } else { Err(seen) }
    });
    follow.interrupt();
    follow.end_input();
    let followed = follow.finish();
    assert_eq!(followed.code, 130, "{followed}");
}

fn exec(world: &World) {
    let output = world.lith(&["exec", "hello", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(
        (output.code, output.stdout.as_str(), output.stderr.as_str()),
        (7, "out\n", "err\n"),
        "{output}"
    );
    let killed = world.lith(&["exec", "hello", "--", "sh", "-c", "kill -9 $$"]);
    assert_eq!(killed.code, 137, "{killed}");
    let environment =
        world.lith(&["exec", "-e", "WHO=me", "-w", "/www", "hello", "--", "sh", "-c", "echo $WHO $PWD"]).ok();
    assert_eq!(environment.stdout, "me /www\n");
    // As many as a task has when its file says nothing; an emulated guest starts the second one late.
    let processors = world.lith(&["exec", "hello", "--", "nproc"]).ok();
    assert_eq!(processors.stdout, "2\n");
    // More than any window holds, so that flow control is at work both ways.
    let input = "0123456789abcde\n".repeat(200_000);
    let echoed = world.lith_with_input(&["exec", "-i", "hello", "cat"], input.as_bytes()).ok();
    assert!(echoed.stdout == input, "{} bytes came back", echoed.stdout.len());
}

/// With a terminal, as `script` gives one.
fn terminal(world: &World) {
    let lith = lith_testkit::assets::lith();
    let line = format!(
        "stty rows 33 cols 77; exec {} exec -t hello -- sh -c 'tty; stty size; exit 3'",
        lith.display()
    );
    let mut command = world.lith_command::<&str>(&[]);
    let environment: Vec<_> =
        command.get_envs().map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned))).collect();
    command = std::process::Command::new("script");
    for (name, value) in environment {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.args(["-qec", &line, "/dev/null"]);
    let output = world.host.finish(command, b"");
    assert!(output.stdout.contains("/dev/pts/"), "{output}");
    assert!(output.stdout.contains("33 77"), "{output}");
    assert_eq!(output.code, 3, "{output}");
}

fn stats(world: &World) {
    let stats = world.lith(&["stats", "hello", "--json"]).ok().json();
    assert_eq!(stats[0]["task"], "hello.main.0.web", "{stats}");
    let figure = |name: &str| stats[0][name].as_u64().unwrap();
    assert!((48 << 20..=96 << 20).contains(&figure("memory_total_bytes")), "{stats}");
    assert!(figure("memory_available_bytes") < figure("memory_total_bytes"), "{stats}");
    assert!(figure("processes") >= 1 && figure("uptime_ms") > 0, "{stats}");
    assert!(world.lith(&["stats"]).ok().stdout.contains("hello/web"));
}

fn copies(world: &World) {
    let text = "copied in\n".repeat(30_000);
    std::fs::create_dir_all(world.path("site/deep")).unwrap();
    std::fs::write(world.path("site/deep/page.html"), &text).unwrap();
    let _ = world.lith(&["cp", "site", "hello:/www/"]).ok();
    assert_eq!(page(&world.lan, &format!("http://{HOST}:8080/site/deep/page.html")), text);
    let _ = world.lith(&["cp", "hello:/www/site/deep/page.html", "back.html"]).ok();
    assert_eq!(std::fs::read_to_string(world.path("back.html")).unwrap(), text);
    let copied = world.lith(&["cp", "hello:/www", "all"]).ok();
    assert!(copied.stderr.starts_with("copied ") && copied.stderr.contains(" files, "), "{copied}");
    assert!(std::fs::read_to_string(world.path("all/index.html")).unwrap().contains(TITLE));
    assert_eq!(std::fs::read_to_string(world.path("all/site/deep/page.html")).unwrap(), text);
}

fn stop_and_start(world: &World) {
    let address = SocketAddr::from((HOST, 8080));
    let _ = world.lith(&["stop", "hello"]).ok();
    assert_eq!(world.vmm("hello.main.0.web"), None);
    assert_eq!(world.lith(&["ps", "--json"]).json(), serde_json::json!([]));
    assert_eq!(world.task("hello")["phase"], "stopped");
    let answer = crate::client::request(&world.lan, address);
    assert!(answer.is_err(), "a stopped task answers: {answer:?}");
    let _ = world.lith(&["start", "hello"]).ok();
    // What was written is still there: scratch lives as long as the alloc.
    let url = format!("http://{HOST}:8080/site/deep/page.html");
    assert!(page(&world.lan, &url).starts_with("copied in"));
    let before = world.vmm("hello.main.0.web");
    let _ = world.lith(&["restart", "hello/web"]).ok();
    assert_ne!(world.vmm("hello.main.0.web"), before);
    assert!(await_page(&world.lan, &url).starts_with("copied in"));
}

fn removal(world: &World) {
    let _ = world.lith(&["rm", "hello"]).ok();
    // What is of lith itself stays: the daemon, its folders, its resolver, and a table without a word about any guest.
    let folders =
        [format!("folder {}", world.data_dir.display()), format!("folder {}", world.path("run").display())];
    let is_expected = |line: &String| {
        let is_resolver =
            [" resolve ", " resolve-child ", "/lith/resolver-"].iter().any(|part| line.contains(part));
        folders.contains(line)
            || line.contains(" up --data-dir ")
            || line == "nft table inet lith"
            || is_resolver
    };
    // The process that served its volume ends after its machine.
    eventually("nothing else to be left", || {
        let left: Vec<String> = world.leftovers();
        if left.iter().all(is_expected) { Ok(()) } else { Err(left.join("\n")) }
    });
    let rules = world.host.shell("nft list ruleset");
    assert!(!rules.contains("8080") && !rules.contains("10.83."), "{rules}");
    assert_eq!(std::fs::read_dir(world.data_dir.join("node/tasks")).unwrap().count(), 0);
    let gone = world.lith(&["ps", "hello"]);
    assert_eq!(
        gone.stderr,
        "error: there is no job \"hello\" [E0002]\nhint: `lith job ls` lists what is there\n"
    );
    assert_eq!(gone.code, 1);
}
