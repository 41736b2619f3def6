//! `lith volume …` and `lith pool …` against a server that has three volumes.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use super::{World, answer, answer_text, check, finish};

const PLAN: &str = "Volume shop.data.0 becomes what it was at checkpoint 117. Task shop/db is stopped meanwhile and \
    started again. What it holds now is kept as a snapshot.";

fn checkpoint(seq: u64) -> Value {
    json!({
        "seq": seq, "epoch": 1, "time_ms": seq * 1000, "bytes": 4096, "is_at_rest": false, "is_recovered": false,
        "is_merged": false, "snapshots": []
    })
}

fn volume(id: &str) -> Value {
    let parts: Vec<&str> = id.split('.').collect();
    json!({
        "id": id, "job": parts[0], "volume": parts[1], "index": 0, "node": "oak", "pool": "main",
        "size_bytes": 20_u64 << 30, "used_bytes": 1 << 20, "history_bytes": 0, "dirty_bytes": 0,
        "last_checkpoint": null, "oldest_checkpoint": null,
        "holders": if id == "shop.data.0" { json!(["shop.main.0.db"]) } else { json!([]) },
        "has_disk": true, "is_declared": true, "problem": null
    })
}

fn removed(id: &str) -> Value {
    json!({ "id": id, "pool": "main", "used_bytes": 1, "removed_ms": 0, "gone_ms": 604_800_000 })
}

fn restored(id: &str) -> Value {
    let before = json!({ "volume": id, "name": "replaced-120", "seq": 120, "time_ms": 120_000 });
    json!({ "restored": { "volume": id, "to": checkpoint(117), "replaced": before } })
}

fn failure(code: &str, message: &str) -> Value {
    json!({ "code": code, "message": message, "hint": "think of it" })
}

fn lines(stream: &mut UnixStream, lines: &[Value]) {
    answer_text(stream, 200, &lines.iter().map(|line| format!("{line}\n")).collect::<String>());
}

/// What the server says beside the list of volumes.
fn world(respond: impl Fn(&str, &mut UnixStream) + Send + Sync + 'static) -> World {
    World::new(move |request, stream| match request {
        "GET /v1/volumes" => {
            answer(
                stream,
                200,
                &json!([volume("shop.data.0"), volume("shop.uploads.0"), volume("wiki.data.0")]),
            );
        }
        "GET /v1/volumes/removed" => answer(stream, 200, &json!([removed("old.files.0")])),
        other => respond(other, stream),
    })
}

fn told(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn restore() {
    let world = world(|request, stream| match request {
        "POST /v1/volumes/restore" => {
            lines(stream, &[json!({ "step": "stopping shop.main.0.db" }), restored("shop.data.0")]);
        }
        other => panic!("{other}"),
    });
    let done = "volume shop.data.0 is what it was at 1970-01-01 00:01:57 (checkpoint 117)\n";
    let before = "what it was before is snapshot replaced-120: \
        `lith volume restore shop.data.0 --snapshot replaced-120` brings it back\n";
    let line = ["volume", "restore", "shop.data", "--checkpoint", "117"];
    check(&world.lith(&[&line[..], &["--yes"]].concat()), 0, done, &format!("{PLAN}\n{before}"));
    assert_eq!(world.take_bodies(), [json!({ "volumes": ["shop.data.0"], "to": "checkpoint:117" })]);
    let output = world.lith(&[&line[..], &["--yes", "--json"]].concat());
    assert_eq!((told(&output), said(&output).as_str()), (json!([restored("shop.data.0")["restored"]]), ""));
    world.take_bodies();
    // Nobody can say yes here, and nothing is asked of the server.
    let refused = format!(
        "error: nobody is there to be asked: {} [E0001]\nhint: say `--yes` if that is meant\n",
        PLAN.trim_end_matches('.')
    );
    check(&world.lith(&line), 1, "", &refused);
    assert_eq!(world.take_bodies(), Vec::<Value>::new());
    let output = world.lith(&["volume", "restore", "--job", "shop", "--at", "1970-01-01T00:02", "-y", "-q"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let both = json!(["shop.data.0", "shop.uploads.0"]);
    assert_eq!(world.take_bodies(), [json!({ "volumes": both, "to": "time:120000" })]);
    let two = "error: `data` may be 2 volumes: shop.data.0, wiki.data.0\nhint: name one in full, such as `shop.data.0`\n";
    check(&world.lith(&["volume", "restore", "data", "--checkpoint", "1"]), 2, "", two);
    let which = "error: restore to which time?\nhint: say `--at TIME`, `--checkpoint NUMBER` or `--snapshot NAME`; \
        `lith volume checkpoints VOLUME` lists them\n";
    check(&world.lith(&["volume", "restore", "shop.data"]), 2, "", which);
}

pub(crate) fn restore_fails() {
    let failing = |events: Vec<Value>| {
        world(move |request, stream| match request {
            "POST /v1/volumes/restore" | "POST /v1/volumes/shop.data.0/check" => lines(stream, &events),
            other => panic!("{other}"),
        })
    };
    let step = json!({ "step": "reading" });
    let failed = json!({ "failed": failure("E0003", "the checkpoint is gone") });
    let line = ["volume", "restore", "shop.data", "--checkpoint", "117", "-qy"];
    let gone = "error: the checkpoint is gone [E0003]\nhint: think of it\n";
    check(&failing(vec![step.clone(), failed]).lith(&line), 1, "", gone);
    let ended = "error: the server ended before it was done [E0006]\nhint: `lith volume ls` shows what became of it\n";
    check(&failing(vec![step.clone()]).lith(&line), 1, "", ended);

    let verify = ["volume", "check", "shop.data"];
    check(&failing(vec![step.clone()]).lith(&verify), 0, "shop.data.0: as it should be\n", "");
    let damaged = json!({ "failed": failure("E0007", "segment 4 is damaged") });
    let words = "error: segment 4 is damaged [E0007]\nhint: think of it\n";
    check(&failing(vec![step, damaged]).lith(&verify), 1, "", words);
}

pub(crate) fn remove() {
    let world = world(|request, stream| match request {
        "DELETE /v1/volumes/shop.data.0" => answer(stream, 409, &failure("E0003", "still in use")),
        "DELETE /v1/volumes/wiki.data.0" | "DELETE /v1/volumes/wiki.data.0?now=true" => {
            answer(stream, 200, &removed("wiki.data.0"));
        }
        "DELETE /v1/volumes/old.files.0?now=true" => answer(stream, 200, &removed("old.files.0")),
        "POST /v1/volumes/old.files.0/unremove" => answer(stream, 200, &volume("old.files.0")),
        other => panic!("{other}"),
    });
    let gone = "volume wiki.data.0 is removed; until 1970-01-08 00:00:00, `lith volume unrm wiki.data.0` brings it back\n";
    check(
        &world.lith(&["volume", "rm", "zzz", "shop.data", "wiki.data", "wiki.data.0", "--yes"]),
        1,
        "",
        &format!(
            "error: there is no volume \"zzz\" [E0002]\nhint: `lith volume ls` lists what is there\n\
             Volumes shop.data.0 wiki.data.0 are removed. For 7 days, `lith volume unrm` brings each of them back.\n\
             error: still in use [E0003]\nhint: think of it\n{gone}"
        ),
    );
    let refused = said(&world.lith(&["volume", "rm", "wiki.data"]));
    assert!(refused.contains("[E0001]\nhint: say `--yes` if that is meant\n"), "{refused}");
    let forever = "Volume old.files.0 is deleted for good, with its history and its snapshots.\n";
    let output = world.lith(&["volume", "rm", "old.files", "--now", "--yes"]);
    check(&output, 0, "", &format!("{forever}volume old.files.0 is deleted\n"));
    check(&world.lith(&["volume", "unrm", "files"]), 0, "", "volume old.files.0 is back\n");
    let none = "error: there is no removed volume \"zzz\" [E0002]\n\
        hint: `lith volume ls --removed` lists those that can be brought back\n";
    check(&world.lith(&["volume", "unrm", "zzz"]), 1, "", none);
    // On a terminal a person is asked.
    for (typed, code, words) in [("y\n", 0, gone.trim_end()), ("\n", 1, "nothing was done")] {
        let line =
            format!("{} lith volume rm wiki.data --no-color", std::env::current_exe().unwrap().display());
        let mut command = Command::new("script");
        command.args(["-qec", &line, "/dev/null"]).current_dir(world.path(""));
        command.env("LITH_RUN_DIR", world.path("")).env("TERM", "xterm").env("TZ", "UTC");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(typed.as_bytes()).unwrap();
        let output = finish(child);
        drop(stdin);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains("brings it back.") && said.contains("Go on? [y/N] "), "{said}");
        assert!(said.contains(words), "{said}");
    }
}

pub(crate) fn look_inside() {
    let world = world(|request, stream| match request {
        "GET /v1/volumes/shop.data.0/files?path=%2Fpg&at=newest"
        | "GET /v1/volumes/shop.data.0/files?path=%2Fpg&at=snapshot%3Av1&recursive=true" => {
            let file = |path: &str, kind: &str| {
                json!({ "file": {
                    "path": path, "kind": kind, "mode": 0o750, "uid": 9, "gid": 9, "size_bytes": 5, "modified_ms": 0,
                    "target": null
                } })
            };
            let mut events = vec![file("/pg/base", "folder"), file("/pg/conf", "file")];
            if request.ends_with("recursive=true") {
                events.push(json!({ "skipped": "/pg/x: its folder is damaged" }));
            }
            lines(stream, &events);
        }
        "GET /v1/volumes/shop.data.0/file?path=%2Fconf&at=checkpoint%3A3" => answer_text(stream, 200, "a\nb"),
        "GET /v1/volumes/shop.data.0/file?path=%2Fgone&at=newest" => {
            answer(stream, 404, &failure("E0002", "there is no /gone"));
        }
        "GET /v1/volumes/shop.data.0/file?path=%2Fbroken&at=newest" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").unwrap();
        }
        "GET /v1/volumes/shop.data.0/file?path=%2Fparts&at=newest"
        | "GET /v1/volumes/shop.data.0/file?path=%2Fpart&at=newest" => {
            let end = if request.contains("parts") { "0\r\n\r\n" } else { "" };
            let text = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n{end}");
            stream.write_all(text.as_bytes()).unwrap();
        }
        "GET /v1/volumes/shop.data.0/file?path=%2Fendless&at=newest" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhalf").unwrap();
        }
        other => panic!("{other}"),
    });
    check(&world.lith(&["volume", "ls", "shop.data:/pg"]), 0, "base/\nconf\n", "");
    check(
        &world.lith(&["volume", "ls", "-lR", "shop.data:pg", "--snapshot", "v1"]),
        1,
        "drwxr-x---     9     9       5 B 1970-01-01 00:00:00 base\n\
         -rwxr-x---     9     9       5 B 1970-01-01 00:00:00 conf\n",
        "left out: /pg/x: its folder is damaged\n",
    );
    let output = world.lith(&["volume", "ls", "shop.data:/pg", "--json"]);
    let first: Value =
        serde_json::from_slice(output.stdout.split(|byte| *byte == b'\n').next().unwrap()).unwrap();
    assert_eq!(first["path"], "/pg/base");
    check(&world.lith(&["volume", "cat", "shop.data:/conf", "--checkpoint", "3"]), 0, "a\nb", "");
    let gone = "error: there is no /gone [E0002]\nhint: think of it\n";
    check(&world.lith(&["volume", "cat", "shop.data:/gone"]), 1, "", gone);
    check(&world.lith(&["volume", "cat", "shop.data:/parts"]), 0, "half", "");
    for broken in ["shop.data:/broken", "shop.data:/part"] {
        let output = world.lith(&["volume", "cat", broken]);
        assert_eq!((output.status.code(), &*output.stdout), (Some(1), b"half".as_slice()));
        assert!(said(&output).starts_with("error: not all of it came: the connection to the server broke"));
    }
    let output = world.lith(&["volume", "cat", "shop.data:/endless"]);
    assert_eq!((output.status.code(), &*output.stdout), (Some(3), b"".as_slice()));
    assert!(said(&output).starts_with("error: the server's answer does not say where it ends"));
    let which =
        "error: a point in the history of which volume?\nhint: name it: `lith volume ls VOLUME --at TIME`\n";
    check(&world.lith(&["volume", "ls", "--at", "10m"]), 2, "", which);
}

/// A file in a folder, as the server packs it.
fn packed() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(5);
    header.set_mode(0o4640);
    builder.append_pax_extensions([("mtime", b"7.5".as_slice()), ("uid", b"3000000".as_slice())]).unwrap();
    builder.append_data(&mut header, "conf", &b"hello"[..]).unwrap();
    builder.into_inner().unwrap()
}

pub(crate) fn copy_and_export() {
    let world = world(|request, stream| {
        let bytes = packed();
        let send = |stream: &mut UnixStream, length: usize, bytes: &[u8]| {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(bytes)).unwrap();
        };
        match request {
            "GET /v1/volumes/shop.data.0/archive?path=%2Fpg%2Fconf&at=time%3A60000"
            | "GET /v1/volumes/shop.data.0/archive?path=%2F&at=newest" => send(stream, bytes.len(), &bytes),
            "GET /v1/volumes/shop.uploads.0/archive?path=%2F&at=newest"
            | "GET /v1/volumes/shop.uploads.0/archive?path=%2Fconf&at=newest" => {
                send(stream, bytes.len(), &bytes[..bytes.len() - 1]);
            }
            other => panic!("{other}"),
        }
    });
    let line = ["volume", "cp", "shop.data:/pg/conf", "copied", "--at", "1970-01-01T00:01:00Z"];
    check(&world.lith(&line), 0, "", "copied 1 file, 5 B\n");
    assert_eq!(std::fs::read_to_string(world.path("copied")).unwrap(), "hello");
    assert_eq!(std::fs::metadata(world.path("copied")).unwrap().permissions().mode() & 0o7777, 0o640);
    let output = world.lith(&[&line[..], &["--json"]].concat());
    assert_eq!(
        (told(&output), said(&output).as_str()),
        (json!({ "volume": "shop.data.0", "files": 1, "bytes": 5 }), "")
    );
    let output = world.lith(&["volume", "cp", "shop.data:/", "-"]);
    assert_eq!((output.status.code(), output.stdout), (Some(0), packed()));
    let output = world.lith(&["volume", "export", "shop.data"]);
    assert_eq!((output.status.code(), output.stdout), (Some(0), packed()));
    check(
        &world.lith(&["volume", "export", "shop.data", "a.tar"]),
        0,
        "",
        &format!("volume shop.data.0 is in a.tar: {}.0 KiB\n", packed().len() / 1024),
    );
    assert_eq!(std::fs::read(world.path("a.tar")).unwrap(), packed());
    assert_eq!(std::fs::metadata(world.path("a.tar")).unwrap().permissions().mode() & 0o777, 0o600);
    // What did not come whole is not there at all, and what was there before still is.
    for line in [["export", "uploads", "a.tar"], ["cp", "uploads:/conf", "b"]] {
        let output = world.lith(&[&["volume"], &line[..]].concat());
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(
            said(&output).contains("not all of it came: the connection to the server broke"),
            "{}",
            said(&output)
        );
    }
    assert_eq!(std::fs::read(world.path("a.tar")).unwrap(), packed());
    let mut names: Vec<_> =
        std::fs::read_dir(world.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a.tar", "copied", "hello.yaml", "lith.sock"]);
    let folder =
        "error: `.` is there already, and is no file [E0003]\nhint: export to a new name, or to `-`\n";
    check(&world.lith(&["volume", "export", "shop.data", "."]), 1, "", folder);
}

pub(crate) fn import() {
    let world = world(|request, stream| match request {
        "PUT /v1/volumes/new.site.0/content" | "PUT /v1/volumes/shop.data.0/content" => {
            answer_text(stream, 200, "{}\n");
        }
        other => panic!("{other}"),
    });
    std::fs::create_dir(world.path("site")).unwrap();
    std::fs::write(world.path("site/index.html"), "hello").unwrap();
    std::fs::write(world.path("site.tar"), packed()).unwrap();
    let output = world.lith(&["volume", "import", "new.site", "site"]);
    check(&output, 0, "", "volume new.site.0 starts with site: copied 1 file, 5 B\n");
    let output = world.lith(&["volume", "import", "shop.data", "site.tar", "--json"]);
    assert_eq!(told(&output), json!({ "volume": "shop.data.0", "files": 0, "bytes": packed().len() }));
    let none = "error: there is no volume \"site\" [E0002]\nhint: `lith volume ls` lists what is there\n";
    check(&world.lith(&["volume", "import", "site", "site"]), 1, "", none);
}

pub(crate) fn history() {
    let world = world(|request, stream| match request {
        "GET /v1/volumes/shop.data.0/checkpoints" => {
            answer(stream, 200, &(1..=25).map(checkpoint).collect::<Vec<_>>().into());
        }
        "POST /v1/volumes/snapshots" | "GET /v1/volumes/snapshots" => {
            let snapshot = |id: &str| json!({ "volume": id, "name": "v1", "seq": 7, "time_ms": 7000 });
            answer(stream, 200, &json!([snapshot("shop.data.0"), snapshot("shop.uploads.0")]));
        }
        "DELETE /v1/volumes/shop.uploads.0/snapshots/v1" => answer(stream, 200, &json!({})),
        "POST /v1/volumes/wiki.data.0/clone" => {
            lines(stream, &[json!({ "step": "copying" }), json!({ "cloned": volume("test.data.0") })]);
        }
        "PUT /v1/volumes/wiki.data.0/size" | "POST /v1/volumes/wiki.data.0/forget-history" => {
            answer(stream, 200, &volume("wiki.data.0"));
        }
        "GET /v1/pools" => answer(
            stream,
            200,
            &json!([{
                "name": "main", "node": "oak", "path": "/srv", "bytes": 1024, "free_bytes": 512, "reserve_bytes": 1,
                "volumes": 3, "history_bytes": 0, "problem": null
            }]),
        ),
        other => panic!("{other}"),
    });
    let output = world.lith(&["volume", "checkpoints", "shop.data"]);
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(said(&output), "5 older ones; `--limit 25` shows them, too\n");
    assert!(shown.starts_with("CHECKPOINT  TIME                 AGE"), "{shown}");
    assert!(shown.lines().nth(1).unwrap().starts_with("25          1970-01-01 00:00:25"), "{shown}");
    assert_eq!(shown.lines().count(), 21);
    let output =
        world.lith(&["volume", "checkpoints", "shop.data", "--json", "--since", "1970-01-01T00:00:24Z"]);
    assert_eq!(told(&output), json!([checkpoint(25), checkpoint(24)]));

    let made = "volume shop.data.0 has snapshot v1 (checkpoint 7)\nvolume shop.uploads.0 has snapshot v1 (checkpoint 7)\n";
    check(&world.lith(&["volume", "snapshot", "--job", "shop", "--name", "v1"]), 0, "", made);
    let both = json!(["shop.data.0", "shop.uploads.0"]);
    assert_eq!(world.take_bodies(), [json!({ "volumes": both, "name": "v1" })]);
    let output = world.lith(&["volume", "snapshots", "uploads", "--json"]);
    let told = told(&output);
    assert_eq!((told.as_array().unwrap().len(), &told[0]["volume"]), (1, &json!("shop.uploads.0")));
    let gone = "snapshot v1 of volume shop.uploads.0 is removed\n";
    check(&world.lith(&["volume", "snapshot-rm", "uploads", "v1"]), 0, "", gone);

    let output = world.lith(&["volume", "clone", "wiki.data", "test.data"]);
    check(&output, 0, "volume test.data.0 has what wiki.data.0 held\n", "");
    assert_eq!(world.take_bodies(), [json!({ "to": "test.data.0", "at": "newest" })]);
    let output = world.lith(&["volume", "grow", "wiki.data", "+5G"]);
    check(&output, 0, "", "volume wiki.data.0 holds up to 20.0 GiB now\n");
    assert_eq!(world.take_bodies(), [json!({ "size_bytes": 25_u64 << 30 })]);
    let output = world.lith(&["volume", "forget-history", "wiki.data", "-qy"]);
    check(&output, 0, "", "");
    let pools = "POOL  NODE  PATH  SIZE     FREE   RESERVE  VOLUMES  HISTORY  STATE\n\
        main  oak   /srv  1.0 KiB  512 B  1 B      3        0 B      usable\n";
    check(&world.lith(&["pool", "ls"]), 0, pools, "");
}
