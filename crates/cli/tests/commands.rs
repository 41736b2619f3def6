//! Commands as a person sees them: real processes that speak real HTTP over a real socket, with a responder that says
//! what a server would. Asserts words, streams and exit codes; what a server does is tested elsewhere.
//!
//! Without the harness of `cargo test`: started with `lith` as its first argument, this program is the command itself.
// Without the harness clippy does not see that all of this is a test.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "commands/blocked.rs"]
mod blocked;
#[path = "commands/guide.rs"]
mod guide;
#[path = "commands/volumes.rs"]
mod volumes;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use lith_api::stream::{ExecExit, Frame};
use lith_cli::Invocation;
use serde_json::{Value, json};

/// What no command here needs even on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

const JOB: &str = "job: hello\ntasks:\n  web:\n    image: hello:1\n    publish: [\"8080:80\"]\n";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "lith") {
        return match lith_cli::parse_from(arguments) {
            Ok(Invocation::Client(command)) => lith_cli::run(command),
            Ok(other) => panic!("not for this program: {other:?}"),
            Err(error) => error.exit(),
        };
    }
    if arguments.first().is_some_and(|first| first == "fault") {
        lith_cli::end_on_panic();
        panic!("the world is upside down");
    }
    if arguments.iter().any(|argument| argument == "--list") {
        // A runner that asks first, as cargo-nextest does: this is one test, and none is ignored.
        let list =
            if arguments.iter().any(|argument| argument == "--ignored") { "" } else { "commands: test\n" };
        std::io::stdout().write_all(list.as_bytes()).unwrap();
        return ExitCode::SUCCESS;
    }
    let cases: [(&str, fn()); 27] = [
        ("deploy says what it does and where the job is", deploy_succeeds),
        ("deploy plans again when the job has changed meanwhile", deploy_is_outrun),
        ("deploy says why a task fails, with its last lines", deploy_fails),
        ("interrupting deploy ends the waiting only", deploy_is_interrupted),
        ("mistakes in the job file are shown in their place", job_file_is_wrong),
        ("a folder's own files are found", folders_are_looked_through),
        ("fmt lays files out in their place", files_are_laid_out),
        ("without a server the hint says how to start one", no_server),
        ("failures of the server are passed on", server_refuses),
        ("rm goes on after a name that is unknown", remove_goes_on),
        ("waiting turns on a terminal, and is silent without", waiting_is_shown),
        ("bash completes names that only the server knows", names_are_completed),
        ("a fault of lith itself has its own exit code", fault_is_said),
        ("what has done its work is not called ready", deploy_of_work),
        ("a reader that goes away is no failure", reader_goes_away),
        ("exec hands over streams and the exit code", exec_passes_all),
        ("cp takes an archive apart", copy_out),
        ("check prints what the guide says", guide::check_is_as_told),
        ("volumes are restored when a person agrees", volumes::restore),
        ("what fails in the middle of a restore or check is a failure", volumes::restore_fails),
        ("volumes are removed and brought back", volumes::remove),
        ("files of a volume are listed and read", volumes::look_inside),
        ("files of a volume come out whole or not at all", volumes::copy_and_export),
        ("a new volume starts with a folder or an archive", volumes::import),
        ("the history of volumes is shown and kept", volumes::history),
        ("what tasks were refused is listed", blocked::list),
        ("what tasks lack is learned", blocked::learn),
    ];
    for (name, case) in cases {
        case();
        std::io::stdout().write_all(format!("test {name} ... ok\n").as_bytes()).unwrap();
    }
    ExitCode::SUCCESS
}

fn deploy_succeeds() {
    let world = World::new(|request, stream| match request {
        "PUT /v1/jobs/hello?dry_run=true" | "PUT /v1/jobs/hello?if_version=0" => answer(stream, 200, &plan()),
        "GET /v1/jobs/hello" => answer(stream, 200, &detail("running", true, &Value::Null)),
        other => panic!("{other}"),
    });
    let mut output = world.lith(&["deploy", "hello.yaml"]);
    let said = String::from_utf8(std::mem::take(&mut output.stderr)).unwrap();
    let links = "job hello, version 1\n  + web  is created\n  web  http://127.0.0.1:8080\n";
    check(&output, 0, links, "");
    // How long it took depends on the machine.
    assert!(said.starts_with("job hello is ready (") && said.ends_with("s)\n"), "{said}");
}

fn deploy_is_outrun() {
    let plans = std::sync::atomic::AtomicU32::new(0);
    let world = World::new(move |request, stream| match request {
        "PUT /v1/jobs/hello?dry_run=true" => {
            let count = plans.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let mut plan = plan();
            plan["from_version"] = count.into();
            plan["version"] = (count + 1).into();
            answer(stream, 200, &plan);
        }
        "PUT /v1/jobs/hello?if_version=0" | "PUT /v1/jobs/hello?if_version=2" => answer(
            stream,
            409,
            &json!({ "code": "E0003", "message": "job \"hello\" has changed", "hint": "plan it again" }),
        ),
        "PUT /v1/jobs/hello?if_version=1" => answer(stream, 200, &plan()),
        other => panic!("{other}"),
    });
    let shown = |version| format!("job hello, version {version}\n  + web  is created\n");
    let again = "the job has changed meanwhile: planned again\n";
    check(
        &world.lith(&["deploy", "--no-wait", "hello.yaml"]),
        0,
        &format!("{}{}", shown(1), shown(2)),
        &format!("{again}deployed; `lith ps hello` shows how it goes\n"),
    );
    // From here on somebody is always faster.
    let world = World::new(move |request, stream| match request {
        "PUT /v1/jobs/hello?dry_run=true" => answer(stream, 200, &crate::plan()),
        _ => answer(
            stream,
            409,
            &json!({ "code": "E0003", "message": "job \"hello\" has changed", "hint": "plan it again" }),
        ),
    });
    check(
        &world.lith(&["deploy", "--no-wait", "hello.yaml"]),
        1,
        &shown(1).repeat(3),
        &format!("{again}{again}error: job \"hello\" has changed [E0003]\nhint: plan it again\n"),
    );
}

fn deploy_fails() {
    let world = World::new(|request, stream| match request {
        "GET /v1/jobs/hello" => answer(stream, 200, &detail("finished", false, &json!("exited with code 1"))),
        "GET /v1/tasks/hello.main.0.web/logs?tail=10&since_ms=70" => {
            let line =
                |text: &str| json!({ "time": "2026-01-01T00:00:00Z", "stream": "stderr", "text": text });
            let lines = format!("{}\n{}\n", line("reading config"), line("no such variable: DB"));
            answer_text(stream, 200, &lines);
        }
        _ => answer(stream, 200, &plan()),
    });
    let output = world.lith(&["deploy", "hello.yaml", "-q"]);
    check(
        &output,
        1,
        "",
        "error: task \"hello/web\" is not ready: it exited with code 1 [E0008]\n\
         its last lines:\n  reading config\n  no such variable: DB\n\
         hint: by its restart policy it stays ended: change the job file and deploy it again, or take it back with \
         `lith rm hello`\n",
    );
}

fn deploy_is_interrupted() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let world = World::new(move |request, stream| {
        if request == "GET /v1/jobs/hello" {
            answer(stream, 200, &detail("starting", false, &Value::Null));
            // The test may be over already.
            let _ = sender.send(());
        } else {
            answer(stream, 200, &plan());
        }
    });
    let child = world.start(&["deploy", "hello.yaml", "-q"]);
    // The first is asked before the waiting begins, the third certainly after the signal is handled.
    for _ in 0..3 {
        receiver.recv_timeout(PATIENCE).unwrap();
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = finish(child);
    check(&output, 130, "", "stopped waiting; the deployment goes on: `lith ps hello` shows it\n");
}

fn job_file_is_wrong() {
    let world = World::new(|request, _| panic!("{request}"));
    std::fs::write(world.path("hello.yaml"), JOB.replace("image", "imgae")).unwrap();
    for command in ["deploy", "plan", "check"] {
        let output = world.lith(&[command, "hello.yaml"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{command}");
        for part in ["hello.yaml:4:5", "imgae: hello:1", "`image`"] {
            assert!(said.contains(part), "{command} does not say {part}:\n{said}");
        }
    }
}

fn folders_are_looked_through() {
    let world = World::new(|request, _| panic!("{request}"));
    let output = world.lith(&["convert"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("neither compose.yaml"), "{said}");
    // The shell has made the file before `lith convert > job.yaml` looks.
    std::fs::write(world.path("job.yaml"), "").unwrap();
    let services = "services:\n  web:\n    image: nginx\n    labels: [ a=b ]\n    cap_add: [ NET_ADMIN ]\n";
    std::fs::write(world.path("compose.yaml"), services).unwrap();
    std::fs::write(world.path("compose.override.yaml"), "services: { web: { read_only: true } }\n").unwrap();
    let output = world.lith(&["convert", "-p", "shop"]);
    let (job, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(job.contains("job: shop\n") && job.contains("read_only: true"), "{job}{said}");
    assert_eq!(
        said,
        "note: compose.yaml:4:5: these keys have no effect here: labels\n\
         note: compose.yaml:5:16: granted inside the task's own machine, where it reaches nothing else: cap_add \
         NET_ADMIN\n\
         note: compose.override.yaml:1:13: Compose implies it, so these may reach the internet: web\n"
    );
}

fn files_are_laid_out() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let world = World::new(|request, _| panic!("{request}"));
    let usual = JOB.replace("[\"8080:80\"]", "[ \"8080:80\" ]");
    std::fs::write(world.path("job.yaml"), JOB).unwrap();
    std::fs::set_permissions(world.path("job.yaml"), PermissionsExt::from_mode(0o640)).unwrap();
    symlink("job.yaml", world.path("link.yaml")).unwrap();
    std::fs::write(world.path("usual.yaml"), &usual).unwrap();
    std::fs::write(world.path("broken.yaml"), "job: [\n").unwrap();
    std::fs::write(world.path("compose.yaml"), "services: { web: { image: nginx } }\n").unwrap();
    check(&world.lith(&["fmt", "--check"]), 1, "job.yaml\n", "");
    assert_eq!(std::fs::read_to_string(world.path("job.yaml")).unwrap(), JOB);
    // The others are laid out all the same.
    let output = world.lith(&["fmt", "broken.yaml", "missing.yaml", "usual.yaml", "link.yaml"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), &*output.stdout), (Some(1), b"link.yaml\n".as_slice()), "{said}");
    assert!(said.contains("broken.yaml:1:6") && said.contains("missing.yaml"), "{said}");
    assert_eq!(std::fs::read_to_string(world.path("job.yaml")).unwrap(), usual);
    assert_eq!(std::fs::metadata(world.path("job.yaml")).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(world.path("link.yaml").is_symlink());
    check(&world.lith(&["fmt", "--check", "job.yaml"]), 0, "", "");
    let report = "[\n  {\n    \"file\": \"job.yaml\",\n    \"is_changed\": false\n  }\n]\n";
    check(&world.lith(&["fmt", "--json"]), 0, report, "");
    let refused = "error: `compose.yaml` is a Compose file: only job files are laid out\n\
        hint: `lith convert compose.yaml` prints it as a job file\n";
    check(&world.lith(&["fmt", "compose.yaml"]), 2, "", refused);
}

fn no_server() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("lith.sock");
    let child = start(folder.path(), &["ps"]);
    let expected =
        format!("error: no server listens on {} [E0006]\nhint: start one with `lith up`\n", socket.display());
    check(&finish(child), 1, "", &expected);
    let output = finish(start(folder.path(), &["version", "--json"]));
    assert_eq!(output.status.code(), Some(0));
    check(
        &finish(start(folder.path(), &["explain", "E0099"])),
        2,
        "",
        "error: `E0099` is not an error code\nhint: \
         the codes are E0001, E0002, E0003, E0004, E0005, E0006, E0007, E0008, E0009\n",
    );
}

fn server_refuses() {
    let world = World::new(|request, stream| match request {
        "GET /v1/jobs" => answer(stream, 200, &json!([])),
        "DELETE /v1/jobs/shop" => answer(
            stream,
            404,
            &json!({ "code": "E0002", "message": "there is no job \"shop\"", "hint": "`lith job ls` lists what is there" }),
        ),
        _ => answer(
            stream,
            500,
            &json!({ "code": "E0009", "message": "the database is gone", "request": "r1" }),
        ),
    });
    check(
        &world.lith(&["rm", "shop"]),
        1,
        "",
        "error: there is no job \"shop\" [E0002]\nhint: `lith job ls` lists what is there\n",
    );
    check(
        &world.lith(&["image", "ls"]),
        3,
        "",
        "error: the database is gone [E0009]\nhint: `lith explain E0009` says more\n\
         the server's log has the cause under request r1\n",
    );
}

/// A server that removes the job `hello` after some looks, and has never heard of another.
fn removing(looks: u32) -> World {
    let asked = std::sync::atomic::AtomicU32::new(0);
    World::new(move |request, stream| match request {
        "GET /v1/jobs" => answer(
            stream,
            200,
            &json!([{
                "name": "hello", "version": 1, "wanted": 1, "ready": 1, "created_ms": 0, "updated_ms": 0
            }]),
        ),
        "DELETE /v1/jobs/hello" => answer(stream, 200, &detail("running", true, &Value::Null)["summary"]),
        "GET /v1/tasks?job=hello" => {
            let count = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let left = if count < looks { json!([task("stopping", false, &Value::Null)]) } else { json!([]) };
            answer(stream, 200, &left);
        }
        "GET /v1/volumes" => {
            let volume = |job: &str| {
                json!({
                    "id": format!("{job}.data.0"), "job": job, "volume": "data", "index": 0, "node": "oak",
                    "pool": "main", "size_bytes": 1, "used_bytes": 1, "history_bytes": 0, "dirty_bytes": 0,
                    "holders": [], "has_disk": true, "is_declared": false
                })
            };
            answer(stream, 200, &json!([volume("hello"), volume("other")]));
        }
        "DELETE /v1/volumes/hello.data.0" => {
            answer(stream, 409, &json!({ "code": "E0003", "message": "still in use" }))
        }
        _ => answer(stream, 404, &json!({ "code": "E0002", "message": "there is no such job" })),
    })
}

fn remove_goes_on() {
    check(
        &removing(0).lith(&["rm", "helo", "hello", "zzz"]),
        1,
        "",
        "error: there is no such job [E0002]\nhint: did you mean `hello`?\n\
         error: there is no such job [E0002]\nhint: `lith job ls` lists what is there\n\
         job hello is removed\n\
         volume hello.data.0 is kept; `lith volume rm hello.data.0` removes it\n",
    );
    check(
        &removing(0).lith(&["rm", "--volumes", "hello"]),
        1,
        "",
        "job hello is removed\nerror: still in use [E0003]\nhint: `lith explain E0003` says more\n",
    );
}

fn waiting_is_shown() {
    // So many looks that the line is drawn in between.
    const LOOKS: u32 = 10;
    let turning = "removing job hello: task web is stopping";
    for (option, is_shown) in [("--no-color", true), ("--quiet", false), ("--json", false)] {
        let world = removing(LOOKS);
        let line = format!("{} lith rm hello {option}", std::env::current_exe().unwrap().display());
        let mut command = Command::new("script");
        command.args(["-qec", &line, "/dev/null"]).current_dir(world.path(""));
        command.env("LITH_RUN_DIR", world.path("")).env("TERM", "xterm");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = finish(command.spawn().unwrap());
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0), "{option}: {said}");
        assert_eq!(said.contains(turning), is_shown, "{option}: {said}");
    }
    let kept = "volume hello.data.0 is kept; `lith volume rm hello.data.0` removes it";
    check(&removing(LOOKS).lith(&["rm", "hello"]), 0, "", &format!("job hello is removed\n{kept}\n"));
}

fn names_are_completed() {
    let world = World::new(|request, stream| match request {
        "GET /v1/jobs" => answer(
            stream,
            200,
            &json!([{
                "name": "hello", "version": 1, "wanted": 1, "ready": 1, "created_ms": 0, "updated_ms": 0
            }]),
        ),
        "GET /v1/tasks" => answer(stream, 200, &json!([task("running", true, &Value::Null)])),
        "GET /v1/volumes" => answer(
            stream,
            200,
            &json!([{
                "id": "hello.data.0", "job": "hello", "volume": "data", "index": 0, "node": "oak", "pool": "main",
                "size_bytes": 1, "used_bytes": 1, "history_bytes": 0, "dirty_bytes": 0, "holders": [],
                "has_disk": true, "is_declared": true
            }]),
        ),
        "GET /v1/images" => answer(
            stream,
            200,
            &json!([{
                "digest": "sha256:00", "names": ["nginx:1", "hello:1"], "size_bytes": 1, "platform": "linux/amd64",
                "is_used": false
            }]),
        ),
        other => panic!("{other}"),
    });
    let complete = |words: &str| {
        let program = std::env::current_exe().unwrap();
        let script = format!(
            "lith() {{ '{}' lith \"$@\"; }}; source <(lith completion bash); COMP_WORDS=({words}); \
             COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _lith_names lith \"${{COMP_WORDS[COMP_CWORD]}}\" \
             \"${{COMP_WORDS[COMP_CWORD - 1]}}\"; echo \"${{COMPREPLY[*]}}\"",
            program.display()
        );
        let mut command = Command::new("bash");
        command.args(["--norc", "-c", &script]).env("LITH_RUN_DIR", world.path(""));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = finish(command.spawn().unwrap());
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{words}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    };
    assert_eq!(complete("lith rm ''"), "hello");
    assert_eq!(complete("lith job show h"), "hello");
    assert_eq!(complete("lith logs -f ''"), "hello hello/web");
    assert_eq!(complete("lith restart hello hello/"), "hello/web");
    assert_eq!(complete("lith stats hello/"), "hello/web");
    assert_eq!(complete("lith image rm ngi"), "nginx:1");
    assert_eq!(complete("lith volume rm ''"), "hello.data.0");
    assert_eq!(complete("lith volume cp hello"), "hello.data.0");
    assert_eq!(complete("lith volume restore a.b hel"), "hello.data.0");
    assert!(complete("lith volume re").contains("restore"));
    assert_eq!(complete("lith compl"), "completion");
    assert!(complete("lith logs --ti").contains("--timestamps"));
    assert_eq!(complete("lith __"), "", "what is hidden is not offered");
}

fn fault_is_said() {
    let output = Command::new(std::env::current_exe().unwrap()).arg("fault").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(
        said.starts_with("error: lith has failed at ")
            && said.contains(": the world is upside down [E0009]\n"),
        "{said}"
    );
    assert!(said.ends_with("hint: report it with these words; `lith explain E0009` says more\n"), "{said}");
}

fn deploy_of_work() {
    let world = World::new(|request, stream| match request {
        "GET /v1/jobs/hello" => {
            let mut detail = detail("finished", false, &json!("exited with code 0"));
            detail["tasks"][0]["publish"] = json!([]);
            answer(stream, 200, &detail);
        }
        _ => answer(stream, 200, &plan()),
    });
    let output = world.lith(&["deploy", "hello.yaml"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.starts_with("job hello has done its work ("), "{said}");
}

fn reader_goes_away() {
    let world = World::new(|request, stream| match request {
        "GET /v1/tasks?job=hello" => answer(stream, 200, &json!([task("running", true, &Value::Null)])),
        _ => {
            let line = json!({ "time": "2026-01-01T00:00:00Z", "stream": "stdout", "text": "again" });
            stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").unwrap();
            // Ends when the command has gone away.
            while stream.write_all(format!("{line}\n").as_bytes()).is_ok() {}
        }
    });
    let mut child = world.start(&["logs", "-f", "hello"]);
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "again\n");
    check(&finish(child), 0, "", "");
}

fn exec_passes_all() {
    let world = World::new(|request, stream| match request {
        "GET /v1/tasks?job=hello" => answer(stream, 200, &json!([task("running", true, &Value::Null)])),
        "POST /v1/tasks/hello.main.0.web/exec" => echo(stream),
        other => panic!("{other}"),
    });
    let mut child = world.start(&["exec", "-i", "hello", "--", "cat"]);
    let input = vec![b'x'; 300_000];
    let mut stdin = child.stdin.take().unwrap();
    let sent = std::thread::spawn(move || stdin.write_all(&input).unwrap());
    let output = finish(child);
    sent.join().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(7), 300_000));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "done");
}

/// Sends input back as output until it ends, then a word on standard error, then the exit code.
fn echo(stream: &mut UnixStream) {
    stream
        .write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: lith-stream/1\r\n\r\n",
        )
        .unwrap();
    let (mut bytes, mut part) = (BytesMut::new(), [0; 4096]);
    let send = |stream: &mut UnixStream, frame: Frame| {
        let mut bytes = BytesMut::new();
        frame.encode(&mut bytes);
        stream.write_all(&bytes).unwrap();
    };
    loop {
        match Frame::decode(&mut bytes).unwrap() {
            Some(Frame::Input(input)) => send(stream, Frame::Output(input)),
            Some(Frame::InputEnd) => break,
            Some(other) => panic!("{other:?}"),
            None => {
                let count = stream.read(&mut part).unwrap();
                assert!(count > 0, "the command left");
                bytes.extend_from_slice(&part[..count]);
            }
        }
    }
    send(stream, Frame::Error(Bytes::from_static(b"done")));
    send(stream, Frame::Exit(ExecExit { code: 7 }));
}

fn copy_out() {
    let world = World::new(|request, stream| match request {
        "GET /v1/tasks?job=hello" => answer(stream, 200, &json!([task("running", true, &Value::Null)])),
        "GET /v1/tasks/hello.main.0.web/archive?path=%2Fetc%2Fmotd" => {
            let mut builder = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.set_size(5);
            header.set_mode(0o644);
            builder.append_data(&mut header, "motd", &b"hello"[..]).unwrap();
            let mut bytes = BytesMut::new();
            Frame::Output(Bytes::from(builder.into_inner().unwrap())).encode(&mut bytes);
            Frame::Exit(ExecExit { code: 0 }).encode(&mut bytes);
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", bytes.len());
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&bytes)).unwrap();
        }
        other => panic!("{other}"),
    });
    check(&world.lith(&["cp", "hello:/etc/motd", "copied"]), 0, "", "copied 1 file, 5 B\n");
    check(&world.lith(&["cp", "-q", "hello:/etc/motd", "copied"]), 0, "", "");
    assert_eq!(std::fs::read_to_string(world.path("copied")).unwrap(), "hello");
}

fn plan() -> Value {
    let change = json!({ "group": "main", "task": "web", "kind": "create", "text": "is created" });
    json!({ "job": "hello", "version": 1, "changes": [change] })
}

fn task(phase: &str, is_ready: bool, why: &Value) -> Value {
    json!({
        "id": "hello.main.0.web", "job": "hello", "group": "main", "index": 0, "task": "web", "node": "oak",
        "phase": phase, "is_ready": is_ready, "why": why, "last_exit": why, "incarnation": 1, "image": "hello:1",
        "restarts": 0, "publish": ["8080:80"]
    })
}

fn detail(phase: &str, is_ready: bool, why: &Value) -> Value {
    let spec = json!({
        "image": "hello:1", "memory_bytes": 268_435_456, "cpu_millis": 2000, "publish": ["8080:80"],
        "restart": "always", "stop_grace_ms": 10_000
    });
    json!({
        "summary": { "name": "hello", "version": 1, "wanted": 1, "ready": 0, "created_ms": 0, "updated_ms": 70 },
        "spec": { "name": "hello", "groups": { "main": { "count": 1, "tasks": { "web": spec } } } },
        "tasks": [task(phase, is_ready, why)]
    })
}

fn check(output: &Output, code: i32, stdout: &str, stderr: &str) {
    assert_eq!(String::from_utf8_lossy(&output.stderr), stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), stdout);
    assert_eq!(output.status.code(), Some(code));
}

/// A folder with a socket that answers, and a job file.
struct World {
    folder: tempfile::TempDir,
    bodies: Arc<Mutex<Vec<Value>>>,
}

impl World {
    fn new(respond: impl Fn(&str, &mut UnixStream) + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("hello.yaml"), JOB).unwrap();
        let listener = UnixListener::bind(folder.path().join("lith.sock")).unwrap();
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let noted = bodies.clone();
        // Ends with the process: nobody connects once the folder is gone.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let (request, body) = read_request(&mut stream);
                noted.lock().unwrap().extend(serde_json::from_slice::<Value>(&body));
                respond(&request, &mut stream);
            }
        });
        Self { folder, bodies }
    }

    /// The JSON that was sent since this was asked last.
    fn take_bodies(&self) -> Vec<Value> {
        std::mem::take(&mut *self.bodies.lock().unwrap())
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self, arguments: &[&str]) -> Child {
        start(self.folder.path(), arguments)
    }

    fn lith(&self, arguments: &[&str]) -> Output {
        finish(self.start(arguments))
    }
}

fn start(folder: &Path, arguments: &[&str]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("lith").args(arguments).current_dir(folder).env("LITH_RUN_DIR", folder).env("TZ", "UTC");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// The command's output; a command that hangs fails the test rather than stopping all tests.
fn finish(mut child: Child) -> Output {
    drop(child.stdin.take());
    let pid = rustix::process::Pid::from_child(&child);
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        let begin = Instant::now();
        if receiver.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            panic!("the command still ran after {:?}", begin.elapsed());
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(sender);
    watchdog.join().unwrap();
    output
}

/// Method and path of a request, and its body.
fn read_request(stream: &mut UnixStream) -> (String, Vec<u8>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let request = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    let (mut length, mut is_chunked) = (0, false);
    loop {
        line.clear();
        reader.read_line(&mut line).unwrap();
        let header = line.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
        is_chunked |= header == "transfer-encoding: chunked";
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    while is_chunked {
        line.clear();
        reader.read_line(&mut line).unwrap();
        let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk).unwrap();
        body.extend_from_slice(&chunk[..size]);
        is_chunked = size > 0;
    }
    assert!(reader.buffer().is_empty(), "nothing follows before the answer");
    (request, body)
}

fn answer(stream: &mut UnixStream, status: u16, body: &Value) {
    answer_text(stream, status, &body.to_string());
}

fn answer_text(stream: &mut UnixStream, status: u16, body: &str) {
    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", body.len());
    // The command may have ended, as after an interruption.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
}
