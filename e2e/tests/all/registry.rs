//! Images from a registry and in the store: pull, login, list, inspect, verify, remove, collect.

use lith_testkit::{Running, World, assets, eventually};
use serde_json::Value;

const PLAIN: &str = "127.0.0.1:5000";
const GUARDED: &str = "127.0.0.1:5001";

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
    let wrong = if wrong.code == 0 { pull() } else { wrong };
    assert!(wrong.code == 1 && wrong.stderr.contains("refuses the login"), "{wrong}");
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

    // Unused images are collected, used ones are neither collected nor removed.
    world.load("hello");
    world.load("busybox");
    let _ = world.deploy("\njob: user\ntasks:\n  web: { image: \"hello:1\", memory: 96M }\n").ok();
    let collected = world.lith(&["image", "gc", "--json"]).json();
    assert_eq!(collected["removed"].as_array().unwrap().len(), 1, "{collected}");
    assert!(collected["freed_bytes"].as_u64().unwrap() > 0, "{collected}");
    let used = world.lith(&["image", "rm", "hello:1"]);
    assert_eq!(used.code, 1, "{used}");
    assert!(used.stderr.contains("is in use"), "{used}");
    let _ = world.lith(&["rm", "user"]).ok();
}

/// An image is deployed by the name under which it was pulled.
fn deployed_by_name(world: &World) {
    let name = format!("{PLAIN}/team/busybox:1");
    let _ = world.lith(&["image", "pull", "--plain-http", &name]).ok();
    let task = format!("it: {{ image: \"{name}\", memory: 96M, command: [sleep, \"1000\"] }}");
    let _ = world.deploy(&format!("\njob: fetcher\ntasks:\n  {task}\n")).ok();
    assert_eq!(world.task("fetcher")["phase"], "running");
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
    eventually("the registry to answer", || {
        let output =
            world.host.command("curl", &["-sS", "--max-time", "5", &format!("http://{address}/v2/")]);
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
