//! What dies, and what goes on: the daemon, a supervisor, a machine, the whole node.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use lith_testkit::{HOST, World, eventually};

use crate::client::{await_page, request};

/// Serves, and counts aloud.
const JOB: &str = r#"
job: steady
tasks:
  web:
    image: hello:1
    memory: 96M
    entrypoint: []
    command: [sh, -c, "httpd -p 80 -h /www; i=0; while true; do i=$((i+1)); echo line $i; sleep 0.05; done"]
    publish: ["8080:80"]
"#;
const TASK: &str = "steady.main.0.web";

#[test]
fn what_dies_is_replaced_and_what_lives_is_left_alone() {
    let mut world = World::start(&["hello"]);
    let _ = world.deploy(JOB).ok();
    daemon_dies(&mut world);
    supervisor_dies(&world);
    machine_dies(&world);
    power_is_cut(&mut world);
    server_is_damaged(&mut world);
}

fn daemon_dies(world: &mut World) {
    let (shim, vmm) = (world.shim(TASK), world.vmm(TASK));
    assert!(vmm.is_some());
    let is_over = AtomicBool::new(false);
    let address = SocketAddr::from((HOST, 8080));
    let lan = Arc::clone(&world.lan);
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut answers = 0;
            // Enough while it is dead, and all along while it starts.
            while answers < 50 || !is_over.load(Ordering::Relaxed) {
                let answer = request(&lan, address);
                assert!(answer.as_ref().is_ok_and(|page| page.contains("Hello from lith")), "{answer:?}");
                answers += 1;
            }
        });
        let ending = End(&is_over);
        world.kill_daemon();
        let refused = world.lith(&["ps"]);
        assert_eq!(refused.code, 1, "{refused}");
        let refused = world.lith(&["up", "--node", "thor"]);
        assert_eq!(refused.code, 1, "a task of a node with another name would be removed: {refused}");
        let before = log_bytes(world);
        eventually("the task to go on writing", || {
            let now = log_bytes(world);
            if now > before { Ok(()) } else { Err(now) }
        });
        world.up();
        world.await_task("steady", "adopted and ready", |task| task["is_ready"] == true);
        drop(ending);
        client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    assert_eq!((world.shim(TASK), world.vmm(TASK)), (shim, vmm), "the same machine goes on");
    assert_eq!(world.task("steady")["restarts"], 0);
    let numbers: Vec<u64> = eventually("lines from before, from meanwhile and from after", || {
        let log = world.lith(&["logs", "steady"]).ok().stdout;
        let numbers: Vec<u64> =
            log.lines().filter_map(|line| line.strip_prefix("line ")?.parse().ok()).collect();
        if numbers.len() > 50 { Ok(numbers) } else { Err(log) }
    });
    let expected: Vec<u64> = (1..=numbers.len() as u64).collect();
    assert_eq!(numbers, expected, "the log has no gap");
}

/// Lets the client end when this is dropped, also by a failing assertion.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Bytes of the task's log on disk, which grow without the daemon.
fn log_bytes(world: &World) -> u64 {
    let folder = world.data_dir.join("node/tasks").join(TASK);
    let files = std::fs::read_dir(folder).unwrap().flatten();
    let logs = files.filter(|file| file.file_name().to_string_lossy().starts_with("log"));
    logs.map(|file| file.metadata().map_or(0, |metadata| metadata.len())).sum()
}

fn supervisor_dies(world: &World) {
    let (shim, vmm) = (world.shim(TASK).unwrap(), world.vmm(TASK).unwrap());
    shim.kill();
    eventually("the machine to end with its supervisor", || if vmm.is_alive() { Err(vmm) } else { Ok(()) });
    world.await_task("steady", "restarted", |task| task["restarts"] == 1 && task["is_ready"] == true);
    assert_eq!(world.task("steady")["last_exit"], "lost its supervisor");
    assert_ne!(world.vmm(TASK), Some(vmm));
    assert!(await_page(&world.lan, &format!("http://{HOST}:8080/")).contains("Hello"));
}

fn machine_dies(world: &World) {
    let (shim, vmm) = (world.shim(TASK).unwrap(), world.vmm(TASK).unwrap());
    vmm.kill();
    eventually("the supervisor to end with its machine", || if shim.is_alive() { Err(shim) } else { Ok(()) });
    let task =
        world.await_task("steady", "restarted", |task| task["restarts"] == 2 && task["is_ready"] == true);
    let exit = task["last_exit"].as_str().unwrap();
    assert!(exit.starts_with("lost its virtual machine: "), "{exit}");
    assert!(await_page(&world.lan, &format!("http://{HOST}:8080/")).contains("Hello"));
}

fn power_is_cut(world: &mut World) {
    deploy_stopped(world);
    world.cut_power();
    world.up();
    world.await_task("steady", "running again", |task| task["is_ready"] == true);
    assert!(await_page(&world.lan, &format!("http://{HOST}:8080/")).contains("Hello"));
    let quiet = world.task("quiet");
    assert_eq!(quiet["phase"], "stopped", "what was stopped stays so: {quiet}");
}

/// A second job, stopped by a person.
fn deploy_stopped(world: &World) {
    let _ = world.deploy("\njob: quiet\ntasks:\n  web: { image: \"hello:1\", memory: 96M }\n").ok();
    let _ = world.lith(&["stop", "quiet"]).ok();
}

/// A machine that went down, whose database did not survive it: everything runs again from the agent's own disk.
fn server_is_damaged(world: &mut World) {
    let (server, backup) = (world.data_dir.join("server"), world.path("backup"));
    world.cut_power();
    std::fs::rename(&server, &backup).unwrap();
    std::fs::create_dir(&server).unwrap();
    std::fs::write(server.join("lith.db"), "garbage").unwrap();
    // Another boot of the host, as the kernel names it.
    let note = world.data_dir.join("node/tasks").join(TASK).join("boot.json");
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let begun = std::fs::read_to_string(&note).unwrap();
    assert!(begun.contains(boot_id.trim()), "{begun}");
    std::fs::write(&note, begun.replace(boot_id.trim(), "another-boot")).unwrap();
    world.up();
    assert!(await_page(&world.lan, &format!("http://{HOST}:8080/")).contains("Hello"));
    let refused = world.lith(&["ps"]);
    let words = "error: the server cannot start: cannot open the database DATA/server/lith.db: \
                 file is not a database: Error code 26: file is not a database [E0007]\n\
                 hint: tasks go on without it; restore the file from a backup, then start lith again\n";
    assert_eq!((refused.code, world.plain(&refused.stderr).as_str()), (1, words));
    let shim = world.shim(TASK);
    world.kill_daemon();
    std::fs::remove_dir_all(&server).unwrap();
    std::fs::rename(&backup, &server).unwrap();
    world.up();
    let task = world.await_task("steady", "ready as before", |task| task["is_ready"] == true);
    assert_eq!(task["last_exit"], "went down with the node");
    assert_eq!(world.shim(TASK), shim, "it went on all the time");
}
