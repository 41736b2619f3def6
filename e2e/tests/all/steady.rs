//! What must not disturb a task that serves: a firewall that is reloaded, a mistake in a new version, a new name, a stop
//! while a client is being answered.

use std::net::SocketAddr;
use std::process::Command;

use lith_testkit::{HOST, World, eventually};

use crate::client::{await_page, page, request};

const TASK: &str = "steady.main.0.web";

fn job(task: &str, image: &str, more: &str) -> String {
    format!(
        "\njob: steady\ntasks:\n  {task}: {{ image: \"{image}\", memory: 96M, publish: [\"8080:80\"]{more} }}\n"
    )
}

#[test]
fn a_task_that_serves_is_not_disturbed() {
    let world = World::start(&["hello"]);
    let _ = world.deploy(&job("web", "hello:1", "")).ok();
    another_lith_is_started(&world);
    a_firewall_is_reloaded(&world);
    a_new_version_cannot_be_fetched(&world);
    it_gets_another_name(&world);
}

fn another_lith_is_started(world: &World) {
    let (data, run) = (world.path("other-data"), world.path("other-run"));
    let folders = [data.as_path(), &run].map(|path| path.to_string_lossy().into_owned());
    let [data_dir, run_dir] = &folders;
    let refused = world.lith(&["up", "--data-dir", data_dir, "--run-dir", run_dir]);
    let pid = world.daemon().unwrap();
    assert_eq!(
        refused.stderr,
        format!(
            "error: another lith runs on this machine (process {pid}), with other folders [E0003]\nhint: two of them would \
             take each other's network: deploy there, or stop it with `lith down` and its `--run-dir` and `--data-dir`\n"
        )
    );
    assert_eq!(refused.code, 1);
    std::fs::remove_dir_all(data).and_then(|()| std::fs::remove_dir_all(run)).unwrap();
    assert!(page(&world.lan, &format!("http://{HOST}:8080/")).contains("Hello"));
}

fn a_firewall_is_reloaded(world: &World) {
    // But for the mark of each transaction.
    let rules = || world.host.shell("nft list ruleset | sed '/set stamp/,/^\t}/d'");
    let before = rules();
    assert!(before.contains("10.83.0.1"), "{before}");
    world.host.shell("nft flush ruleset; nft add table ip mine");
    let expected = format!("table ip mine {{\n}}\n{before}");
    let sorted = |rules: &str| {
        let mut lines: Vec<&str> = rules.lines().collect();
        lines.sort_unstable();
        lines.join("\n")
    };
    eventually("the rules to be back", || {
        let now = rules();
        if sorted(&now) == sorted(&expected) { Ok(()) } else { Err(now) }
    });
    assert!(page(&world.lan, &format!("http://{HOST}:8080/")).contains("Hello"));
    // A single rule, and a single element, taken away by hand.
    for change in ["nft flush chain inet lith forward", "nft flush set inet lith guests_4"] {
        world.host.shell(change);
        eventually(&format!("the rules to be back after `{change}`"), || {
            let now = rules();
            if sorted(&now) == sorted(&expected) { Ok(()) } else { Err(now) }
        });
    }
}

fn a_new_version_cannot_be_fetched(world: &World) {
    let vmm = world.vmm(TASK);
    let refused = world.deploy(&job("web", "127.0.0.1:1/team/app:2", ""));
    assert_eq!(refused.code, 1, "{refused}");
    assert!(refused.stderr.contains("still runs its former version: "), "{refused}");
    assert!(page(&world.lan, &format!("http://{HOST}:8080/")).contains("Hello"));
    // Taken back, as if nothing had been.
    let _ = world.deploy(&job("web", "hello:1", "")).ok();
    let web = world.task("steady");
    assert_eq!((&web["phase"], &web["is_ready"]), (&"running".into(), &true.into()), "{web}");
    assert!(vmm.is_some());
}

/// The task of the former name keeps its port until it has ended, and does not end when it is asked to.
fn it_gets_another_name(world: &World) {
    let stubborn =
        ", entrypoint: [], stop_grace: 3s, command: [sh, -c, \"trap '' TERM; httpd -f -p 80 -h /www\"]";
    let _ = world.deploy(&job("web", "hello:1", stubborn)).ok();
    let _ = world.deploy(&job("app", "hello:1", "")).ok();
    assert!(await_page(&world.lan, &format!("http://{HOST}:8080/")).contains("Hello"));
    let app = world.await_task("steady", "alone", |task| task["task"] == "app");
    assert_eq!((&app["is_ready"], &app["restarts"]), (&true.into(), &0.into()), "{app}");
}

/// Answers a request only when it is told to stop.
const PATIENT: &str = "import signal, socket, sys; s = socket.create_server((\"0.0.0.0\", 80))\n\
                       def end(number, frame): c.sendall(b\"and goodbye\\n\"); c.close(); sys.exit(0)\n\
                       while True:\n c, _ = s.accept(); signal.signal(signal.SIGTERM, end)\n if c.recv(99): c.sendall(b\"hello \")";

#[test]
fn a_client_is_answered_to_the_end_while_its_task_stops() {
    let world = World::start(&["python"]);
    let program = serde_json::to_string(PATIENT).unwrap();
    let job = format!(
        "\njob: patient\ntasks:\n  web:\n    image: \"python:1\"\n    memory: 128M\n    user: root\n    \
         entrypoint: [python3, -u, -c, {program}]\n    publish: [\"8080:80\"]\n    stop_grace: 60s\n"
    );
    let _ = world.deploy(&job).ok();
    let mut curl = Command::new("curl");
    curl.args(["-sN", "--http0.9", "--max-time", "100", &format!("http://{HOST}:8080/")]);
    let mut client = world.lan.start(curl);
    client.wait_for("hello");
    let _ = world.lith(&["stop", "patient"]).ok();
    assert_eq!(client.finish().stdout, "hello and goodbye\n");
    let refused = request(&world.lan, SocketAddr::from((HOST, 8080))).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "nobody waits in vain: {refused}");
}

#[test]
fn a_lost_database_takes_no_task_along() {
    let mut world = World::start(&["hello"]);
    let _ = world.deploy(&job("web", "hello:1", "")).ok();
    let vmm = world.vmm(TASK);
    world.kill_daemon();
    std::fs::remove_dir_all(world.data_dir.join("server")).unwrap();
    world.up();
    let refused = world.lith(&["ps"]);
    assert_eq!(refused.code, 1, "{refused}");
    assert_eq!(
        world.plain(&refused.stderr),
        "error: the server cannot start: its database is new, or an older copy, and does not know this node's tasks [E0007]\n\
         hint: tasks go on without it; put the right DATA/server/lith.db back, or start once with `lith up \
         --trust-database`: what that database does not declare is then stopped and removed, with its disks\n"
    );
    assert!(page(&world.lan, &format!("http://{HOST}:8080/")).contains("Hello"));
    assert_eq!(world.vmm(TASK), vmm, "the same machine goes on");
    // Deployed anew, it is another one: what the former left is removed first.
    world.kill_daemon();
    world.up_with(&["--trust-database"]);
    let _ = world.deploy(&job("web", "hello:1", "")).ok();
    assert_ne!(world.vmm(TASK), vmm);
    assert!(await_page(&world.lan, &format!("http://{HOST}:8080/")).contains("Hello"));
}
