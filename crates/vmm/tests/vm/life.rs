//! How a task starts, ends, is stopped and is lost.

use crate::world::{World, gone, script, signal, until};
use lith_guest::process::ImageConfig;
use lith_guest::signal::Signal;
use lith_vmm::shim::{self, ClientError, Ending, Found, TaskState};
use std::path::Path;
use std::time::Duration;

/// A process that says when it is ready and then waits, answering to its signals.
const SERVE: &str = "echo ready; while :; do sleep 1 & wait $!; done";

#[tokio::test]
async fn a_task_runs_logs_and_exits() {
    let mut world = World::start(script("echo to out; echo to err >&2; printf rest; exit 3"));
    assert_eq!(world.run_to_end().await, Ending::Code { code: 3 }, "{}", world.console());
    let log = world.log();
    let lines = |stream: &str| {
        log.iter().filter(|(one, _)| one == stream).map(|(_, text)| text.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(lines("stdout"), ["to out", "rest"]);
    assert_eq!(lines("stderr"), ["to err"]);
}

#[tokio::test]
async fn a_stop_lets_the_process_end_by_itself() {
    let mut world = World::start(script(&format!("trap 'echo bye; exit 5' TERM; {SERVE}")));
    let mut watch = world.running().await;
    world.logged("ready").await;
    world.client().stop(None, Duration::from_secs(30)).await.unwrap();
    assert_eq!(
        until(&mut watch, |state| !matches!(state, TaskState::Running { .. })).await,
        TaskState::Stopping
    );
    assert_eq!(world.ending(&mut watch).await, Ending::Code { code: 5 });
    world.logged("bye").await;
}

#[tokio::test]
async fn a_stop_kills_what_does_not_end() {
    let mut world = World::start(script(&format!("trap '' TERM; {SERVE}")));
    let mut watch = world.running().await;
    world.logged("ready").await;
    world.client().stop(Some(Signal::TERM), Duration::from_millis(300)).await.unwrap();
    assert_eq!(world.ending(&mut watch).await, Ending::Signal { signal: Signal::KILL });
}

#[tokio::test]
async fn a_killed_vmm_is_told_and_the_disk_survives_the_restart() {
    let mut world = World::start(script(&format!("cat /kept; echo kept > /kept; sync; {SERVE}")));
    let mut watch = world.running().await;
    world.logged("ready").await;
    signal(world.vmm(), 9);
    let ending = world.ending(&mut watch).await;
    assert!(
        matches!(&ending, Ending::VmmDied { message } if message.starts_with("QEMU ended with signal: 9")),
        "{ending:?}"
    );

    world.restart();
    let mut watch = world.running().await;
    world.logged("kept").await;
    world.client().kill().await.unwrap();
    assert_eq!(world.ending(&mut watch).await, Ending::Signal { signal: Signal::KILL });
}

#[tokio::test]
async fn a_killed_supervisor_takes_its_machine_along() {
    let mut world = World::start(script(SERVE));
    let mut watch = world.running().await;
    let vmm = world.vmm();
    world.shim.kill().unwrap();
    world.shim.wait().unwrap();
    gone(vmm);
    assert!(matches!(watch.next().await, Err(ClientError::Lost { .. })));
    assert!(matches!(shim::find(&world.config.task_dir, &world.config.run_dir).unwrap(), Found::Nothing));
    let error = world.client().stats().await.unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }) && error.hint().is_some());
}

#[tokio::test]
async fn a_new_agent_finds_the_supervisor_and_a_second_one_refuses() {
    let mut world = World::start(script(SERVE));
    drop(world.running().await);
    let Found::Running(client) = shim::find(&world.config.task_dir, &world.config.run_dir).unwrap() else {
        panic!("not found");
    };
    let mut watch = client.watch().await.unwrap();
    assert!(matches!(watch.next().await.unwrap(), Some(TaskState::Running { .. })));
    let program = Path::new(env!("CARGO_BIN_EXE_lith-shim"));
    let second = shim::launch(program, &[], &world.config, None).unwrap_err();
    assert_eq!(second.to_string(), format!("task {} has a supervisor already", world.config.name));
    // The second one has left the first alone.
    assert!(client.stats().await.unwrap().memory_total_bytes > 0);
    client.signal(Signal::KILL).await.unwrap();
    assert_eq!(world.ending(&mut watch).await, Ending::Signal { signal: Signal::KILL });
}

#[tokio::test]
async fn a_supervisor_that_does_not_answer_is_ended_by_force_with_its_machine() {
    let mut world = World::start(script(SERVE));
    drop(world.running().await);
    let vmm = world.vmm();
    signal(i32::try_from(world.shim.id()).unwrap(), libc::SIGSTOP);
    assert!(shim::kill(&world.config.task_dir).unwrap());
    world.shim.wait().unwrap();
    while Path::new(&format!("/proc/{vmm}/exe")).exists() {
        std::thread::yield_now();
    }
    assert!(!shim::kill(&world.config.task_dir).unwrap(), "nobody is left");
    assert!(matches!(shim::find(&world.config.task_dir, &world.config.run_dir).unwrap(), Found::Nothing));
}

#[tokio::test]
async fn a_host_that_goes_down_lets_the_task_stop_in_peace() {
    let mut world = World::start(script(&format!("trap 'echo bye; sync; exit 0' TERM; {SERVE}")));
    let mut watch = world.running().await;
    world.logged("ready").await;
    // As at a shutdown, where every process gets the signal: a VMM that obeyed would be a power cut.
    signal(world.vmm(), libc::SIGTERM);
    signal(i32::try_from(world.shim.id()).unwrap(), libc::SIGTERM);
    assert_eq!(world.ending(&mut watch).await, Ending::Code { code: 0 });
    world.logged("bye").await;
    let Found::Exited(record) = shim::find(&world.config.task_dir, &world.config.run_dir).unwrap() else {
        panic!("no record");
    };
    assert!(record.went_down_with_host, "nobody wanted it to stop");
}

#[tokio::test]
async fn a_guest_kernel_that_panics_ends_the_machine() {
    let mut world =
        World::start(script("echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger; sleep 60"));
    let ending = world.run_to_end().await;
    assert!(matches!(&ending, Ending::VmmDied { message } if message.contains("Kernel panic")), "{ending:?}");
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let check = async |change: fn(&mut lith_vmm::shim::ShimConfig), wanted: &[&str]| {
        let mut world = World::start_with(script("exit 0"), change);
        let ending = world.run_to_end().await;
        let Ending::BootFailed { message } = ending else { panic!("{ending:?}") };
        for part in wanted {
            assert!(message.contains(part), "{message}");
        }
    };
    check(
        |config| {
            config.boot.image = ImageConfig { cmd: vec!["nonsense".to_owned()], ..ImageConfig::default() }
        },
        &["cannot start the process", "nonsense"],
    )
    .await;
    check(
        |config| config.root_image = "/nowhere/root.erofs".into(),
        &["cannot open disk /nowhere/root.erofs"],
    )
    .await;
    check(|config| config.boot_deadline_ms = 1, &["the machine did not boot within"]).await;
}

#[tokio::test]
async fn a_flood_of_output_arrives_whole() {
    let mut world = World::start(script("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done"));
    assert_eq!(world.run_to_end().await, Ending::Code { code: 0 });
    let log = world.log();
    assert_eq!(log.len(), 20_000);
    assert!(log.iter().enumerate().all(|(number, (_, text))| *text == format!("line {number}")));
}
