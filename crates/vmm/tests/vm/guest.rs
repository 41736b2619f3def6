//! What a process finds in its machine, compared with what `docker run` gives it.

use crate::exec::{SERVE, collect, exec, run};
use crate::world::{DEADLINE, World, script};
use jiff::Timestamp;
use lith_guest::messages::{Exec, Exit, Outcome, Tty, TtySize};
use lith_guest::process::ImageConfig;
use lith_vmm::shim::{Client, Ending, Piece, Session};
use std::time::{Duration, Instant};

/// Seconds that an emulated guest's clock may be behind, when others use the processors.
const CLOCK_LATE_MAX: i64 = 60;

/// Prints one fact a line, then waits for its stop signal.
const FACTS: &str = r#"
echo "home $HOME"
echo "hostname $HOSTNAME"
echo "term ${TERM-unset}"
echo "folder $PWD"
echo "ids $(id -u) $(id -g) $(id -G)"
echo "process $$ $(cat /proc/1/comm)"
echo "volume $([ -d /declared/deep ] && echo made)"
echo "limits $(ulimit -n) $(ulimit -Hn) $(ulimit -u) $(ulimit -c)"
while read -r device place kind rest; do
    case $place in /|/proc|/sys|/dev|/dev/pts|/dev/shm|/dev/mqueue|/sys/fs/cgroup) echo "mount $place $kind";; esac
done < /proc/mounts
echo "modes $(busybox stat -c %a /run /tmp /dev/shm | busybox tr '\n' ' ')"
echo "hostname file $(cat /etc/hostname)"
echo "hosts $(busybox grep -c localhost /etc/hosts) $(busybox head -n 1 /etc/hosts)"
echo "resolvers $(busybox grep -c . /etc/resolv.conf)"
echo "entropy $(cat /proc/sys/kernel/random/entropy_avail)"
"#;

const EXPECTED: &str = "\
home /var/app
hostname test
term unset
folder /made/deep
ids 1000 50 50
process 1 sh
volume made
limits 65536 1048576 unlimited 0
mount / overlay
mount /sys sysfs
mount /dev devtmpfs
mount /dev/pts devpts
mount /dev/mqueue mqueue
mount /dev/shm tmpfs
mount /proc proc
mount /sys/fs/cgroup cgroup2
modes 755 1777 1777 
hostname file test
hosts 2 127.0.0.1\tlocalhost
resolvers 0
entropy 256
ready";

#[tokio::test]
async fn a_process_finds_what_docker_would_give_it() {
    let accounts = "echo app:x:1000:1000::/var/app:/bin/sh >> /etc/passwd
        echo staff:x:50: >> /etc/group; echo app:x:1000: >> /etc/group; echo disk:x:6:app >> /etc/group; sync";
    let mut world = World::start(script(accounts));
    assert_eq!(world.run_to_end().await, Ending::Code { code: 0 }, "{}", world.console());
    world.config.boot.image = ImageConfig {
        user: "app:staff".to_owned(),
        working_dir: "/made/deep".to_owned(),
        volumes: vec!["/declared/deep".to_owned()],
        stop_signal: Some("QUIT".to_owned()),
        ..script(&format!("{FACTS}\ntrap 'exit 9' QUIT; trap 'exit 8' TERM; {SERVE}"))
    };
    world.restart();
    let mut watch = world.running().await;
    world.logged("ready").await;
    let facts: Vec<_> = world.log().into_iter().map(|(_, text)| text).collect();
    assert_eq!(facts, EXPECTED.lines().collect::<Vec<_>>());

    let client = world.client();
    let before = Timestamp::now().as_second();
    let result = run(&client, exec("busybox date +%s"), b"").await;
    let told: i64 = String::from_utf8(result.out).unwrap().trim().parse().unwrap();
    let after = Timestamp::now().as_second();
    // The guest set its clock when it got round to it: on a busy machine that is seconds after it was told the time.
    assert!((before - CLOCK_LATE_MAX..=after + 2).contains(&told), "{before} <= {told} <= {after}");

    // A user without a group has those that list it, and its own first.
    let as_app = Exec { user: Some("app".to_owned()), ..exec("id -u; id -g; id -G; echo $HOME; pwd") };
    assert_eq!(text(&client, as_app).await, "1000\n1000\n1000 6\n/var/app\n/made/deep\n");

    // Commands that have ended are collected, though the main process collects nothing that is not its own.
    let zombies =
        "for process in /proc/[0-9]*; do read -r line < $process/stat && echo \"$line\"; done 2>&- |
        busybox grep -c ') Z 0 '";
    assert_eq!(text(&client, exec(zombies)).await, "0\n");

    client.stop(None, Duration::from_secs(30)).await.unwrap();
    assert_eq!(world.ending(&mut watch).await, Ending::Code { code: 9 });
}

async fn text(client: &Client, exec: Exec) -> String {
    String::from_utf8(run(client, exec, b"").await.out).unwrap()
}

#[tokio::test]
async fn terminals_copies_figures_and_commands_left_behind() {
    let mut world = World::start(script(SERVE));
    let _watch = world.running().await;
    world.logged("ready").await;
    let client = world.client();
    terminals(&client).await;
    copies(&client).await;

    let stats = client.stats().await.unwrap();
    assert!((64 << 20..=128 << 20).contains(&stats.memory_total_bytes), "{stats:?}");
    assert!((1..=stats.memory_total_bytes).contains(&stats.memory_available_bytes), "{stats:?}");
    assert!((1..=32 << 20).contains(&stats.memory_task_bytes), "{stats:?}");
    assert!((32 << 20..=64 << 20).contains(&stats.disk_total_bytes), "{stats:?}");
    assert!((1..stats.disk_total_bytes).contains(&stats.disk_used_bytes), "{stats:?}");
    assert!((1..=10).contains(&stats.processes), "{stats:?}");
    assert!(stats.cpu_task_us > 0 && stats.cpu_task_us <= stats.cpu_us, "{stats:?}");
    assert!((1..3_600_000).contains(&stats.uptime_ms), "{stats:?}");

    // A command that takes no input, left behind while more waits for it than fits anywhere.
    let words =
        |words: &[&str]| Exec { argv: words.iter().map(|word| (*word).to_owned()).collect(), ..exec("") };
    let mut left = client.exec(words(&["sleep", "4321"])).await.unwrap();
    let large = vec![0; 8 << 20];
    let send = left.writer.send(&large);
    assert!(tokio::time::timeout(Duration::from_millis(500), send).await.is_err(), "nobody reads it");
    drop(left);
    let started = Instant::now();
    while text(&client, exec("busybox ps | busybox grep -c '[s]leep 4321'")).await != "0\n" {
        assert!(started.elapsed() < DEADLINE, "the command goes on");
    }
}

async fn terminals(client: &Client) {
    let tty = Some(Tty { size: TtySize { rows: 24, cols: 80 }, term: "vt100".to_owned() });
    let command = "trap 'busybox stty size; exit 4' WINCH; echo ready; while :; do sleep 1 & wait $!; done";
    let mut session = client.exec(Exec { tty: tty.clone(), ..exec(command) }).await.unwrap();
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("ready\r\n") {
        let Piece::Out(bytes) = session.reader.next().await.unwrap() else { panic!("no output") };
        seen.extend(bytes);
    }
    session.writer.resize(TtySize { rows: 50, cols: 132 }).await.unwrap();
    let Session { reader, writer } = session;
    let result = collect(Session { reader, writer }).await;
    assert_eq!(String::from_utf8(result.out).unwrap(), "50 132\r\n");
    assert_eq!(result.outcome, Outcome::Exited(Exit::Code(4)));

    // The end of input is what a person types for it.
    let result = run(client, Exec { tty, ..exec("cat; exit 5") }, b"hello\n").await;
    assert_eq!(String::from_utf8_lossy(&result.out), "hello\r\nhello\r\n");
    assert_eq!(result.outcome, Outcome::Exited(Exit::Code(5)));
}

async fn copies(client: &Client) {
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |path: &str, kind, mode| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(1234);
        header.set_gid(70_000);
        header.set_mtime(1_000_000);
        header.set_size(0);
        if kind == tar::EntryType::Symlink {
            archive.append_link(&mut header, path, "a").unwrap();
        } else {
            archive.append_data(&mut header, path, std::io::empty()).unwrap();
        }
    };
    add("top", tar::EntryType::Directory, 0o2777);
    add("top/a", tar::EntryType::Regular, 0o4666);
    add("top/link", tar::EntryType::Symlink, 0o777);
    add("top/pipe", tar::EntryType::Fifo, 0o622);
    let mut session = client.copy_in("/new/".to_owned()).await.unwrap();
    session.writer.send(&archive.into_inner().unwrap()).await.unwrap();
    session.writer.end_input().await.unwrap();
    assert_eq!(collect(session).await.outcome, Outcome::Done);
    let found =
        text(client, exec("cd /new; busybox stat -c '%n %u %g %a' . a link pipe; busybox stat -c %Y . a"))
            .await;
    assert_eq!(
        found,
        ". 1234 70000 2777\na 1234 70000 4666\nlink 1234 70000 777\npipe 1234 70000 622\n1000000\n1000000\n"
    );

    let check = async |path: &str, expect: &[&str]| {
        let result = collect(client.copy_out(path.to_owned()).await.unwrap()).await;
        assert_eq!(result.outcome, Outcome::Done, "{path}");
        let mut archive = tar::Archive::new(result.out.as_slice());
        let name = |entry: &tar::Entry<'_, &[u8]>| entry.path().unwrap().display().to_string();
        let names: Vec<_> = archive.entries().unwrap().map(|entry| name(&entry.unwrap())).collect();
        for expected in expect {
            let expected = expected.to_string();
            assert!(
                names.iter().any(|name| name.trim_end_matches('/') == expected),
                "{path}: {expected}: {names:?}"
            );
        }
        names
    };
    let names = check("/new/.", &[".", "a", "link", "pipe"]).await;
    assert_eq!((names.len(), names[0].as_str()), (4, "."));
    assert_eq!(check("/new/link", &["link"]).await.len(), 1);
    assert_eq!(check("/new", &["new", "new/a"]).await.len(), 4);
    // The kernel's file systems have no end; their folders come empty.
    let names = check("/", &[".", "proc", "sys", "dev", "new/a", "bin/busybox"]).await;
    assert!(names.iter().all(|name| !name.starts_with("proc/") || name == "proc/"), "{names:?}");
}
