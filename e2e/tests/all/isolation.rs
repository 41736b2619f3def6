//! From inside a guest, as root, towards everything that is not its own. Each attempt has a twin that succeeds, so that
//! silence means a wall and not a broken probe.

use std::net::SocketAddr;

use lith_testkit::{FAR, HOST, METADATA, NEIGHBOUR, World, eventually};

use crate::client::{Listener, ask_udp, await_page, request};

const JOB: &str = r#"
job: walls
tasks:
  hostile:
    image: python:1
    memory: 192M
    user: root
    working_dir: /
    entrypoint: [python3, -m, http.server, "9000"]
    publish: ["9000:9000"]
  victim:
    image: hello:1
    memory: 96M
    publish: ["8080:80"]
"#;
const PROBES: &str = include_str!("isolation.py");
const GATEWAY: &str = "169.254.83.1";
/// Where those listen who must never hear of the guest.
const PORT: u16 = 7000;

#[test]
fn a_guest_reaches_nothing() {
    let world = World::start(&["hello", "python"]);
    let (host, lan) = (Listener::new(&world.host, PORT), Listener::new(&world.lan, PORT));
    let _ = world.deploy(JOB).ok();
    let tasks = world.tasks("walls");
    let address = |name: &str| {
        let task = tasks.iter().find(|task| task["task"] == name).unwrap();
        task["address"].as_str().unwrap().to_owned()
    };
    let (hostile, victim) = (address("hostile"), address("victim"));
    twins(&world, &host, &lan, &victim);

    let before = received(&world, &hostile);
    let arguments = [
        &HOST.to_string(),
        &NEIGHBOUR.to_string(),
        &FAR.to_string(),
        &METADATA.to_string(),
        GATEWAY,
        &victim,
        &hostile,
    ];
    let mut line = vec!["exec", "-i", "walls/hostile", "--", "python3", "-"];
    line.extend(arguments);
    let output = world.lith_with_input(&line, PROBES.as_bytes()).ok();
    let (frames, answered) = output.stdout.split_once('\n').unwrap();
    assert_eq!(answered, "", "these were answered");
    assert_eq!((host.take(), lan.take()), (vec![], vec![]), "these heard the guest");
    let frames: u64 = frames.strip_prefix("frames ").unwrap().parse().unwrap();
    assert!(frames > 100, "{output}");
    eventually("the frames to have left the guest", || {
        let arrived = received(&world, &hostile) - before;
        if arrived > frames { Ok(()) } else { Err(format!("{arrived} of {frames}")) }
    });
    // And afterwards the allowed still works: nothing was merely down.
    twins(&world, &host, &lan, &victim);
    await_page(&world.lan, &format!("http://{HOST}:9000/"));
}

/// What is allowed, between the same places.
fn twins(world: &World, host: &Listener, lan: &Listener, victim: &str) {
    for to in [NEIGHBOUR, FAR, METADATA] {
        assert_eq!(request(&world.host, SocketAddr::from((to, PORT))).unwrap(), "hello\n");
        assert_eq!(ask_udp(&world.host, SocketAddr::from((to, PORT)), "x"), "hello\n");
    }
    assert_eq!(request(&world.lan, SocketAddr::from((HOST, PORT))).unwrap(), "hello\n");
    assert_eq!(ask_udp(&world.lan, SocketAddr::from((HOST, PORT)), "x"), "hello\n");
    assert!(await_page(&world.host, &format!("http://{victim}/")).contains("Hello"));
    assert!(await_page(&world.lan, &format!("http://{HOST}:8080/")).contains("Hello"));
    // A neighbour that knows a way does not get around the published port.
    let direct = world.lan.command("curl", &["-sS", "--max-time", "2", &format!("http://{victim}/")]);
    assert_ne!(direct.code, 0, "{direct}");
    let seen = [host.take(), lan.take()].concat();
    assert!(
        seen.iter().any(|line| line.starts_with("tcp")) && seen.iter().any(|line| line.starts_with("udp"))
    );
}

/// Frames that the host got from a guest.
fn received(world: &World, address: &str) -> u64 {
    let slot: u32 = address.rsplit('.').next().unwrap().parse().unwrap();
    let links = world.host.command("ip", &["-s", "-j", "link", "show", &format!("lith{slot}")]).json();
    links[0]["stats64"]["rx"]["packets"].as_u64().unwrap()
}
