//! What a person reads when something fails: whole, with the hint, and the exit code. The words are product: a change to
//! them is seen here.

use std::net::TcpListener;
use std::path::Path;

use lith_testkit::{Output, World, assets, eventually};

/// Compares what was said on standard error, with the world's paths named, and the exit code.
#[track_caller]
fn check(world: &World, output: &Output, code: i32, stderr: &str) {
    assert_eq!(world.plain(&output.stderr), stderr, "{output}");
    assert_eq!(output.code, code, "{output}");
}

fn job(name: &str, task: &str) -> String {
    format!("\njob: {name}\ntasks:\n  it: {{ {task} }}\n")
}

#[test]
fn before_anything_runs() {
    let world = World::prepare();
    check(
        &world,
        &world.lith(&["ps"]),
        1,
        "error: no server listens on RUN/lith.sock [E0006]\nhint: start one with `lith up`\n",
    );
    let typo = b"job: shop\ntasks:\n  web:\n    imag: nginx:1\n    memory: 64X\n";
    check(
        &world,
        &world.lith_with_input(&["deploy", "-"], typo),
        1,
        "error: the task `web` has no image
 --> standard input:3:3
  |
3 |   web:
  |   ^^^
  |
  = hint: add a line such as `image: nginx:1.27`

error: a task has no key `imag`
 --> standard input:4:5
  |
4 |     imag: nginx:1
  |     ^^^^
  |
  = hint: did you mean `image`?

error: `64X` is not a size
 --> standard input:5:13
  |
5 |     memory: 64X
  |             ^^^
  |
  = hint: write a number and a unit, such as `64M`, `1.5G` or `512MiB`
",
    );
    check(
        &world,
        &world.lith(&["deploy", "nowhere.yaml"]),
        1,
        "error: cannot read the job file `nowhere.yaml`: No such file or directory (os error 2) [E0002]\n\
         hint: `nowhere.yaml` is looked for on this machine: check the path\n",
    );
    let usage = world.lith(&["deploi", "x"]);
    assert_eq!(usage.code, 2, "{usage}");
    assert!(
        usage.stderr.contains("unrecognized subcommand 'deploi'") && usage.stderr.contains("'deploy'"),
        "{usage}"
    );
    not_root(&world);
}

/// As a user who may nothing: `nobody`.
fn not_root(world: &World) {
    check(
        world,
        &as_nobody(world, &["up", "--data-dir", &world.data_dir.to_string_lossy()]),
        1,
        "error: lith must run as root: it makes network devices and jails [E0007]\n\
         hint: run it with sudo, or as a system service\n",
    );
}

/// Runs a command as a user who may nothing.
fn as_nobody(world: &World, arguments: &[&str]) -> Output {
    // The build folder may be closed to others.
    let program = world.path("lith");
    if !program.exists() {
        std::fs::copy(assets::lith(), &program).unwrap();
    }
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program).args(arguments);
    command.arg("--run-dir").arg(world.path("run")).current_dir("/");
    world.host.finish(command, b"")
}

#[test]
fn what_a_server_refuses() {
    let mut world = World::start(&["busybox"]);
    check(
        &world,
        &as_nobody(&world, &["ps"]),
        1,
        "error: not allowed to talk to the server on RUN/lith.sock [E0006]\nhint: run this command as root\n",
    );
    unknown(&world);
    ports(&world);
    archives(&world);
    registries(&world);
    let second = world.host.finish(world.up_command(), b"");
    let pid = world.daemon().unwrap();
    check(
        &world,
        &second,
        1,
        &format!(
            "error: lith runs here already (process {pid}) [E0003]\nhint: stop it first with `lith down`\n"
        ),
    );
    world.down_purge();
}

fn unknown(world: &World) {
    let missing = "error: there is no job \"shop\" [E0002]\nhint: `lith job ls` lists what is there\n";
    for line in [
        &["ps", "shop"][..],
        &["logs", "shop"],
        &["exec", "shop", "--", "true"],
        &["job", "show", "shop"],
        &["stop", "shop"],
        &["start", "shop"],
        &["restart", "shop"],
        &["rm", "shop"],
    ] {
        check(world, &world.lith(line), 1, missing);
    }
    world.deploy_unwaited(&job("quiet", "image: \"busybox:1\", memory: 96M, command: [sleep, \"1000\"]"));
    check(
        world,
        &world.lith(&["logs", "quiet/web"]),
        1,
        "error: job \"quiet\" has no task \"web\" [E0002]\nhint: it has: it\n",
    );
    let _ = world.lith(&["stop", "quiet"]).ok();
    check(
        world,
        &world.lith(&["exec", "quiet", "--", "true"]),
        1,
        "error: task \"quiet.main.0.it\" is not running [E0005]\nhint: see `lith ps`, and `lith logs` for why\n",
    );
    let _ = world.lith(&["rm", "quiet"]).ok();
    check(
        world,
        &world.lith(&["image", "rm", "nothing:1"]),
        1,
        "error: no image \"nothing:1\" is stored here [E0002]\n\
         hint: `lith image ls` shows what is stored, `lith image pull` fetches more\n",
    );
}

fn ports(world: &World) {
    let publishing = |name: &str, port: &str| {
        job(
            name,
            &format!("image: \"busybox:1\", memory: 96M, command: [sleep, \"1000\"], publish: [\"{port}\"]"),
        )
    };
    world.deploy_unwaited(&publishing("first", "8080:80"));
    check(
        world,
        &world.deploy(&publishing("second", "8080:81")),
        1,
        "error: task \"it\" publishes port 8080/tcp, which task \"it\" of job \"first\" already has [E0003]\n\
         hint: publish another port, or remove it from \"first\"\n",
    );
    let _ = world.lith(&["rm", "first"]).ok();
    let taken = || world.host.run(|| TcpListener::bind("0.0.0.0:9090")).unwrap();
    let before = taken();
    let program = std::fs::read_to_string("/proc/self/comm").unwrap();
    check(
        world,
        &world.deploy(&publishing("third", "9090:80")),
        1,
        &format!(
            "error: port 9090/tcp of this machine, which task \"it\" publishes with \"9090:80\", is held by {} (pid {}) [E0003]\n\
             hint: publish another port, such as \"8090:80\", or stop that program\n",
            program.trim(),
            std::process::id()
        ),
    );
    drop(before);
    // A task that has the port already, and is stopped while another program takes it.
    world.deploy_unwaited(&publishing("third", "9090:80"));
    let _ = world.lith(&["stop", "third"]).ok();
    let taken = taken();
    check(
        world,
        &world.lith(&["start", "third"]),
        1,
        "error: task \"third/it\" is not ready: it could not start: port 9090/tcp of this machine is taken by another \
         program: `ss -ltnup 'sport = :9090'` shows which [E0008]\n\
         hint: lith goes on trying: watch it with `lith logs -f third/it`, or take it back with `lith rm third`\n",
    );
    drop(taken);
    // It goes on trying, as it said.
    eventually("the task to run once the port is free", || {
        let task = world.task("third");
        if task["phase"] == "running" { Ok(()) } else { Err(task) }
    });
    let _ = world.lith(&["rm", "third"]).ok();
}

/// A job that is deployed while one of its name is being removed begins when that is gone, with nothing of it.
#[test]
fn a_job_follows_another_of_its_name() {
    let world = World::start(&["busybox"]);
    let writing =
        "command: [sh, -c, \"echo old > /left; echo wrote; trap : TERM; sleep 1000 & wait; sleep 2\"]";
    world.deploy_unwaited(&job("heir", &format!("image: \"busybox:1\", memory: 96M, {writing}")));
    eventually("the first to write", || {
        let log = world.lith(&["logs", "heir"]);
        if log.stdout == "wrote\n" { Ok(()) } else { Err(log) }
    });
    let _ = world.lith(&["rm", "--no-wait", "heir"]).ok();
    let looking = "command: [sh, -c, \"ls /left 2>&1; sleep 1000\"]";
    let output = world.deploy(&job("heir", &format!("image: \"busybox:1\", memory: 96M, {looking}"))).ok();
    assert!(output.stdout.contains("is created"), "{output}");
    let log = world.lith(&["logs", "heir"]).ok();
    assert_eq!(log.stdout, "ls: /left: No such file or directory\n", "{log}");
    // The whole story is still there to read.
    let mut events = world.lith_running(&["events", "--all", "heir"]);
    for part in ["version 1 was deployed", "the job was removed", "removed"] {
        events.wait_for(part);
    }
}

fn archives(world: &World) {
    let load = |path: &Path| world.lith(&["image".as_ref(), "load".as_ref(), path.as_os_str()]);
    check(
        world,
        &load(&world.path("nowhere.tar")),
        1,
        "error: cannot load the image from `WORLD/nowhere.tar`: No such file or directory (os error 2) [E0002]\n\
         hint: `WORLD/nowhere.tar` is looked for on this machine: check the path\n",
    );
    let whole = std::fs::read(assets::image("busybox")).unwrap();
    std::fs::write(world.path("half.tar"), &whole[..whole.len() / 2]).unwrap();
    let truncated = load(&world.path("half.tar"));
    let (start, hint) =
        truncated.stderr.split_once("within \"blobs/sha256/").unwrap_or_else(|| panic!("{truncated}"));
    assert_eq!(
        world.plain(start),
        "error: cannot read the archive `WORLD/half.tar`: the archive is truncated "
    );
    let damaged = " [E0004]\nhint: the image was cut short or damaged on its way: fetch or save it again\n";
    assert!(hint.ends_with(damaged), "{truncated}");
    assert_eq!(truncated.code, 1);
    std::fs::write(world.path("text.tar"), "this is no archive").unwrap();
    check(
        world,
        &load(&world.path("text.tar")),
        1,
        &format!(
            "error: cannot read the archive `WORLD/text.tar`: the archive is truncated within a header{damaged}"
        ),
    );
    let folder = foreign_image(world);
    check(
        world,
        &load(&folder),
        1,
        "error: cannot use the archive `WORLD/foreign`: the image is for linux/s390x, not for linux/amd64 [E0004]\n\
         hint: choose a tag that is built for this machine's architecture, or ask the image's author for one\n",
    );
    assert_eq!(world.lith(&["image", "ls", "--json"]).json().as_array().unwrap().len(), 1);
}

/// The test image as it would be for a processor that no machine here has.
fn foreign_image(world: &World) -> std::path::PathBuf {
    let folder = world.path("foreign");
    std::fs::create_dir(&folder).unwrap();
    let script = format!(
        "tar -xf '{}' && umoci config --image .:busybox:1 --architecture s390x",
        assets::image("busybox").display()
    );
    let mut command = std::process::Command::new("sh");
    command.args(["-ec", &script]).current_dir(&folder);
    let _ = world.host.finish(command, b"").ok();
    folder
}

fn registries(world: &World) {
    let reachable = "check that 127.0.0.1:1 is right and reachable; one without TLS must be allowed once with \
                     `lith registry allow-http 127.0.0.1:1`, one with its own certificate authority needs that \
                     authority's certificate in /etc/docker/certs.d/127.0.0.1:1/ca.crt";
    let refused = "client error (Connect): tcp connect error: Connection refused (os error 111)";
    check(
        world,
        &world.lith(&["image", "pull", "127.0.0.1:1/team/app:1", "--plain-http"]),
        1,
        &format!(
            "error: cannot fetch image 127.0.0.1:1/team/app:1: cannot talk to registry 127.0.0.1:1: error sending \
             request for url (http://127.0.0.1:1/v2/team/app/manifests/1): {refused} [E0004]\n\
             hint: {reachable}\n"
        ),
    );
    check(
        world,
        &world.deploy(&job("absent", "image: \"127.0.0.1:1/team/app:1\"")),
        1,
        &format!(
            "error: task \"absent/it\" is not ready: it could not start: cannot fetch image 127.0.0.1:1/team/app:1: \
             cannot talk to registry 127.0.0.1:1: error sending request for url \
             (https://127.0.0.1:1/v2/team/app/manifests/1): {refused} [E0008]\n\
             hint: {reachable}; lith goes on trying, `lith rm absent` takes the job back\n"
        ),
    );
    let _ = world.lith(&["rm", "absent"]).ok();
    no_registries(world);
    check(
        world,
        &world.lith(&["image", "pull", "UPPER CASE"]),
        1,
        "error: cannot read the image name: \"UPPER CASE\" is not an image name: repository names are lower case \
         [E0001]\nhint: write it like nginx:1.27, or registry.example/team/app:1.0\n",
    );
}

fn no_registries(world: &World) {
    check(
        world,
        &world.lith(&["registry", "allow-http", "registry.example/team"]),
        1,
        "error: \"registry.example/team\" is no registry [E0001]\n\
         hint: give its host and port as in names of images, such as registry.example:5000\n",
    );
    check(
        world,
        &world.lith(&["registry", "logout", "https://registry.example/"]),
        1,
        "error: there is no login for registry.example [E0002]\nhint: `lith registry ls` shows what is kept\n",
    );
}

#[test]
fn why_a_task_does_not_start() {
    let world = World::start(&["busybox"]);
    let refused = |name: &str, task: &str, why: &str| {
        let output =
            world.deploy(&job(name, &format!("image: \"busybox:1\", memory: 96M, restart: \"no\", {task}")));
        let expected = format!(
            "error: task \"{name}/it\" is not ready: it {why}\n\
             hint: by its restart policy it stays ended: change the job file and deploy it again, or take it back with \
             `lith rm {name}`\n"
        );
        check(&world, &output, 1, &expected);
        let _ = world.lith(&["rm", name]).ok();
    };
    refused(
        "w-nope",
        "command: [nope]",
        "could not start: cannot start the process: cannot find executable \"nope\" in $PATH \
         (/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin) [E0008]",
    );
    refused(
        "w-user",
        "user: nemo",
        "could not start: cannot find the user: the image has no user \"nemo\" [E0008]",
    );
    refused(
        "w-exits",
        "command: [sh, -c, \"echo no database; exit 3\"]",
        "exited with code 3 [E0008]\nits last lines:\n  no database",
    );
    out_of_memory(&world);
}

/// It takes a while to fill, so that the task may count as ready before.
fn out_of_memory(world: &World) {
    let task = "image: \"busybox:1\", memory: 96M, restart: \"no\", command: [sh, -c, \"tail /dev/zero\"]";
    world.deploy_unwaited(&job("w-memory", task));
    let status = world.await_task("w-memory", "finished", |task| task["phase"] == "finished");
    assert_eq!(status["why"], "ran out of memory");
    let table = world.lith(&["ps", "w-memory"]).ok().stdout;
    assert!(table.trim_end().ends_with("ran out of memory"), "{table}");
}

#[test]
fn a_full_disk() {
    let mut world = World::prepare();
    let disk = world.path("disk");
    std::fs::create_dir(&disk).unwrap();
    let mount = format!("mount -t tmpfs -o size=24m tmpfs {}", disk.display());
    let _ = world.host.command("sh", &["-ec", &mount]).ok();
    world.data_dir = disk.join("data");
    world.up();
    let path = assets::image("nginx");
    let output = world.lith(&["image".as_ref(), "load".as_ref(), path.as_os_str()]);
    let room = "error: there is no room for the archive `";
    assert!(output.code == 1 && output.stderr.starts_with(room), "{output}");
    let hint = "hint: free some space on the disk of the data folder, for example with `lith image gc --all`, and try \
                again\n";
    assert!(output.stderr.ends_with(hint), "{output}");
    // Nobody knows beforehand how long what comes through a pipe is.
    let piped = world.lith_with_input(&["image", "load", "-"], &std::fs::read(&path).unwrap());
    let words = format!(
        "error: cannot keep the archive in the data folder: No space left on device (os error 28) [E0004]\n{hint}"
    );
    check(&world, &piped, 1, &words);
    assert_eq!(world.lith(&["image", "ls", "--json"]).json(), serde_json::json!([]));
    let left = std::fs::read_dir(world.data_dir.join("images/tmp")).unwrap().count();
    assert_eq!(left, 0, "what did not fit takes no room");
    world.down_purge();
}
