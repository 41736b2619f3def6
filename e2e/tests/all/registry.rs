//! Images from a registry and in the store: pull, login, list, inspect, verify, remove, collect.

use lith_testkit::{Running, World, assets, eventually};
use serde_json::Value;

const PLAIN: &str = "127.0.0.1:5000";
const GUARDED: &str = "127.0.0.1:5001";
const SECURE: &str = "127.0.0.1:5002";

#[test]
fn images_come_from_registries_and_go() {
    let world = World::start(&[]);
    let _plain = registry(&world, PLAIN, "");
    std::fs::write(world.path("htpasswd"), htpasswd(&world)).unwrap();
    let guard =
        format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", world.path("htpasswd").display());
    let _guarded = registry(&world, GUARDED, &guard);
    push(&world, &format!("{PLAIN}/team/busybox:1"), &[]);
    push(&world, &format!("{GUARDED}/team/hello:1"), &["--dest-creds", "me:secret"]);

    let name = format!("{PLAIN}/team/busybox:1");
    let pulled = world.lith(&["image", "pull", "--plain-http", &name, "--json"]).json();
    assert_eq!(pulled[0]["names"], serde_json::json!([name]), "{pulled}");
    logins(&world);
    store(&world, &name);
    deployed_by_name(&world);
}

fn logins(world: &World) {
    let name = format!("{GUARDED}/team/hello:1");
    let pull = || world.lith(&["image", "pull", "--plain-http", &name]);
    let refused = pull();
    assert_eq!(refused.code, 1, "{refused}");
    assert!(refused.stderr.contains("wants a login for \"team/hello\" [E0004]\nhint: "), "{refused}");
    assert!(refused.stderr.contains("lith registry login 127.0.0.1:5001"), "{refused}");
    let login = |password: &[u8]| {
        let line = ["registry", "login", GUARDED, "--plain-http", "-u", "me", "--password-stdin"];
        world.lith_with_input(&line, password)
    };
    let wrong = login(b"wrong\n");
    assert_eq!(wrong.code, 1, "{wrong}");
    let words =
        "error: registry 127.0.0.1:5001 does not accept this name and password [E0004]\nhint: check both";
    assert!(wrong.stderr.starts_with(words), "{wrong}");
    assert_eq!(world.lith(&["registry", "ls", "--json"]).json(), serde_json::json!([]), "nothing is kept");
    let _ = login(b"secret\n").ok();
    let _ = pull().ok();
    let _ = world.lith(&["image", "rm", &name]).ok();
    let _ = world.lith(&["registry", "logout", GUARDED]).ok();
    let after = pull();
    assert!(after.code == 1 && after.stderr.contains("wants a login"), "{after}");
}

fn store(world: &World, name: &str) {
    let list = world.lith(&["image", "ls", "--json"]).json();
    assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
    let image = &list[0];
    assert_eq!(image["is_used"], false);
    assert!(image["platform"].as_str().unwrap().starts_with("linux/"), "{image}");
    let digest = image["digest"].as_str().unwrap().to_owned();
    let detail = world.lith(&["image", "inspect", name]).json();
    assert_eq!(detail["image"]["digest"], Value::from(digest.as_str()));
    assert!(detail["config"].to_string().contains("\"sh\""), "{detail}");
    let table = world.lith(&["image", "ls"]).ok().stdout;
    assert!(table.contains(name) && table.contains(&digest["sha256:".len()..][..12]), "{table}");

    assert!(world.lith(&["image", "verify"]).ok().stdout.contains("as it should be"));
    let root = largest(&world.data_dir.join("images"));
    let mut bytes = std::fs::read(&root).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&root, &bytes).unwrap();
    let damaged = world.lith(&["image", "verify", name]);
    assert!(damaged.code == 1 && damaged.stderr.contains("is damaged"), "{damaged}");
    assert!(damaged.stderr.contains("[E0004]\nhint: remove the image with `lith image rm`"), "{damaged}");
    let _ = world.lith(&["image", "rm", name]).ok();
    assert_eq!(world.lith(&["image", "ls", "--json"]).json(), serde_json::json!([]));

    // A damaged image stays in the list, and goes.
    let _ = world.lith(&["image", "pull", "--plain-http", name]).ok();
    let record = root.with_file_name("image.json");
    std::fs::write(&record, "{").unwrap();
    let table = world.lith(&["image", "ls"]).ok().stdout;
    assert!(table.contains(name) && table.contains("damaged"), "{table}");
    let _ = world.lith(&["image", "rm", name]).ok();

    // Unused images are collected, used ones are neither collected nor removed.
    world.load("hello");
    world.load("busybox");
    let _ = world.deploy("\njob: user\ntasks:\n  web: { image: \"hello:1\", memory: 96M }\n").ok();
    let careful = world.lith(&["image", "gc"]).ok();
    assert!(careful.stderr.starts_with("no unused image without a name; `--all`"), "{careful}");
    let collected = world.lith(&["image", "gc", "--all", "--json"]).json();
    assert_eq!(collected["removed"].as_array().unwrap().len(), 1, "{collected}");
    assert_eq!(collected["removed"][0]["names"][0], "docker.io/library/busybox:1");
    assert!(collected["freed_bytes"].as_u64().unwrap() > 0, "{collected}");
    world.load("busybox");
    let used = world.lith(&["image", "rm", "hello:1", "nothing:1", "busybox:1"]);
    assert_eq!(used.code, 1, "{used}");
    for words in ["image hello:1 is in use", "no image \"nothing:1\"", "removed docker.io/library/busybox:1"]
    {
        assert!(used.stderr.contains(words), "{used}");
    }
    let _ = world.lith(&["rm", "user"]).ok();
}

/// A job fetches its image from a registry without TLS once that is allowed, and says what to do before.
fn deployed_by_name(world: &World) {
    let name = format!("{PLAIN}/team/busybox:1");
    let task = format!("it: {{ image: \"{name}\", memory: 96M, command: [sleep, \"1000\"] }}");
    let job = format!("\njob: fetcher\ntasks:\n  {task}\n");
    let refused = world.deploy(&job);
    assert_eq!(refused.code, 1, "{refused}");
    assert!(refused.stderr.contains(&format!("`lith registry allow-http {PLAIN}`")), "{refused}");
    let _ = world.lith(&["registry", "allow-http", PLAIN]).ok();
    let known = world.lith(&["registry", "ls", "--json"]).json();
    assert!(known.to_string().contains(PLAIN), "{known}");
    // Anew, for the next attempt of the one that failed may be some seconds away.
    let _ = world.lith(&["rm", "fetcher"]).ok();
    let _ = world.deploy(&job).ok();
    assert_eq!(world.task("fetcher")["phase"], "running");
    let _ = world.lith(&["registry", "refuse-http", PLAIN]).ok();
}

/// What a person does who has used Docker: a login in Docker's config, the registry's authority where Docker looks.
#[test]
fn a_job_is_fetched_with_dockers_login_and_authority() {
    let mut world = World::prepare();
    certificates(&world);
    std::fs::write(world.path("htpasswd"), htpasswd(&world)).unwrap();
    let path = |name: &str| world.path(name).display().to_string();
    let more = format!(
        "  tls:\n    certificate: {}\n    key: {}\nauth:\n  htpasswd:\n    realm: test\n    path: {}\n",
        path("tls.pem"),
        path("tls.key"),
        path("htpasswd")
    );
    let _registry = registry(&world, SECURE, &more);
    push(&world, &format!("{SECURE}/team/hello:1"), &["--dest-creds", "me:secret"]);
    let authority = world.path("etc/docker/certs.d").join(SECURE);
    std::fs::create_dir_all(&authority).unwrap();
    std::fs::copy(world.path("ca.pem"), authority.join("ca.crt")).unwrap();
    let docker = world.path("home/.docker");
    std::fs::create_dir(&docker).unwrap();
    // "me:secret"
    let login = serde_json::json!({ "auths": { SECURE: { "auth": "bWU6c2VjcmV0" } } });
    world.etc = Some(world.path("etc"));
    world.up();

    let job = format!(
        "\njob: web\ntasks:\n  it: {{ image: \"{SECURE}/team/hello:1\", memory: 96M, publish: [\"8080:80\"] }}\n"
    );
    let refused = world.deploy(&job);
    assert_eq!(refused.code, 1, "{refused}");
    assert!(refused.stderr.contains(&format!("log in with `lith registry login {SECURE}`")), "{refused}");
    let _ = world.lith(&["rm", "web"]).ok();
    std::fs::write(docker.join("config.json"), login.to_string()).unwrap();
    let _ = world.deploy(&job).ok();
    let page = world.host.command("curl", &["-sS", "--max-time", "20", "http://127.0.0.1:8080/"]).ok();
    assert!(!page.stdout.is_empty(), "{page}");
    world.down_purge();
}

fn certificates(world: &World) {
    let folder = world.path("");
    let script = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test-ca -keyout ca.key -out ca.pem
        openssl req -newkey rsa:2048 -nodes -subj /CN=127.0.0.1 -keyout tls.key -out tls.csr
        echo subjectAltName=IP:127.0.0.1 > extension
        openssl x509 -req -in tls.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extension -out tls.pem";
    let _ = world.host.shell(&format!("cd {}; {script}", folder.display()));
}

/// What runs, and what waits to run, keeps its image, whatever the agent has said so far.
#[test]
fn collection_spares_what_is_deployed() {
    let mut world = World::start(&["hello", "busybox"]);
    let _ = world.deploy("\njob: runs\ntasks:\n  web: { image: \"hello:1\", memory: 96M }\n").ok();
    let waits =
        "it: { image: \"busybox:1\", memory: 96M, command: [sleep, \"1000\"], publish: [\"9090:80\"] }";
    world.deploy_unwaited(&format!("\njob: waits\ntasks:\n  {waits}\n"));
    let _ = world.lith(&["stop", "waits"]).ok();
    let taken = world.host.run(|| std::net::TcpListener::bind("0.0.0.0:9090")).unwrap();
    let _ = world.lith(&["start", "--no-wait", "waits"]);
    let _ = world.await_task("waits", "refused its port", |task| task["why"].to_string().contains("9090"));
    let spared = |world: &World| {
        let collected = world.lith(&["image", "gc", "--all", "--json"]).json();
        assert_eq!(collected["removed"], serde_json::json!([]), "{collected}");
        for name in ["hello:1", "busybox:1"] {
            let used = world.lith(&["image", "rm", name]);
            assert!(used.code == 1 && used.stderr.contains("is in use"), "{used}");
        }
    };
    spared(&world);
    // Right after a start the agent has not told anything yet.
    world.kill_daemon();
    world.up();
    spared(&world);
    drop(taken);
    let _ = world.await_task("waits", "running", |task| task["phase"] == "running");
    let _ = world.lith(&["rm", "runs", "waits"]).ok();
    let collected = world.lith(&["image", "gc", "--all", "--json"]).json();
    assert_eq!(collected["removed"].as_array().unwrap().len(), 2, "{collected}");
}

fn registry(world: &World, address: &str, more: &str) -> Running {
    let folder = world.path(&format!("registry-{}", address.rsplit(':').next().unwrap()));
    std::fs::create_dir(&folder).unwrap();
    let config = format!(
        "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n{more}",
        folder.display()
    );
    let path = folder.join("config.yml");
    std::fs::write(&path, config).unwrap();
    let mut command = std::process::Command::new("docker-registry");
    command.arg("serve").arg(&path);
    let running = world.host.start(command);
    let scheme = if more.contains("tls:") { "https" } else { "http" };
    eventually("the registry to answer", || {
        let output =
            world.host.command("curl", &["-ksS", "--max-time", "5", &format!("{scheme}://{address}/v2/")]);
        if output.code == 0 { Ok(()) } else { Err(output) }
    });
    running
}

fn htpasswd(world: &World) -> String {
    world.host.command("htpasswd", &["-Bbn", "me", "secret"]).ok().stdout
}

fn push(world: &World, name: &str, more: &[&str]) {
    let image = name.rsplit('/').next().unwrap().split(':').next().unwrap();
    let source = format!("oci-archive:{}", assets::image(image).display());
    let target = format!("docker://{name}");
    let line =
        [&["copy", "--insecure-policy", "--dest-tls-verify=false"], more, &[&source, &target]].concat();
    let _ = world.host.command("skopeo", &line).ok();
}

/// The largest file below a folder: the root file system.
fn largest(folder: &std::path::Path) -> std::path::PathBuf {
    let mut folders = vec![folder.to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path)
            } else {
                files.push((entry.metadata().unwrap().len(), path))
            }
        }
    }
    files.into_iter().max().unwrap().1
}
