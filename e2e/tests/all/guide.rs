//! The guide of the network, carried out as it stands there: its examples are deployed, and do what it says of them.

use std::net::Ipv4Addr;

use lith_testkit::{HOST, NEIGHBOUR, World, eventually};
use serde_json::json;

use crate::client::await_page;
use crate::peers;

const GUIDE: &str = include_str!("../../../docs/guide/network.md");
/// What the guide's outside service has.
const API: Ipv4Addr = Ipv4Addr::new(20, 0, 0, 8);
const PORT: u16 = 7000;

/// The example of the guide that begins with this job.
fn example(job: &str) -> &'static str {
    let (_, rest) = GUIDE.split_once(&format!("```yaml\njob: {job}\n")).expect("the guide has it");
    let start = GUIDE.len() - rest.len() - format!("job: {job}\n").len();
    let (text, _) = GUIDE[start..].split_once("```").expect("it ends");
    assert_eq!(text.lines().count(), 3, "three lines:\n{text}");
    text
}

#[test]
fn a_new_app_uses_a_database_that_is_there() {
    let world = World::start(&["postgres"]);
    world.load_as("postgres", "postgres:15");
    world.load_as("python", "notes:1");
    let _ = world
        .deploy(
            "job: postgres\ntasks:\n  db:\n    image: postgres:15\n    memory: 256M\n    ports: [ 5432 ]\n    \
             env: { POSTGRES_PASSWORD: secret }\n",
        )
        .ok();
    let vmm = world.vmm("postgres.main.0.db");
    let _ = world.deploy(example("notes")).ok();
    eventually("the app to reach the database", || {
        let ask = "import socket; socket.create_connection(('db', 5432), 5); \
                   socket.create_connection(('db.postgres', 5432), 5)";
        let output = world.lith(&["exec", "notes/app", "--", "python3", "-c", ask]);
        if output.code == 0 { Ok(()) } else { Err(output) }
    });
    assert_eq!(world.vmm("postgres.main.0.db"), vmm, "the database was not touched");
    // A task that does not say so does not find it.
    let _ = world.deploy("job: other\ntasks:\n  app: { image: \"notes:1\" }\n").ok();
    let ask = "import socket; socket.getaddrinfo('db.postgres', 5432)";
    let output = world.lith(&["exec", "other/app", "--", "python3", "-c", ask]);
    assert!(output.code != 0 && output.stderr.contains("gaierror"), "{output}");
}

#[test]
fn publishing_to_the_lan() {
    let world = World::start(&[]);
    world.load_as("nginx", "nginx:1.22");
    let _ = world.deploy(example("site")).ok();
    let page = await_page(&world.lan, &format!("http://{HOST}:8010/"));
    assert!(page.contains("nginx"), "{page}");
    assert_eq!(await_page(&world.host, "http://127.0.0.1:8010/"), page);
    let log = world.lith(&["logs", "site/web"]).ok();
    assert!(log.stdout.contains(&NEIGHBOUR.to_string()), "the task sees its client: {log}");
}

#[test]
fn one_outside_service_and_why_another_one_is_blocked() {
    let mut world = World::prepare();
    world.lan.shell(&format!("ip addr add {API}/32 dev lo"));
    peers::resolve_at_the_neighbour(&mut world);
    let zone = json!({ "api.example.com": [API], "other.example.com": [API] });
    let _names = peers::start(&world.lan, &["names", &zone.to_string()]);
    let _api = peers::start(&world.lan, &["serve", "7000", "443"]);
    world.up();
    world.load("python");
    let _ = world.deploy(example("watch")).ok();
    // Without a limit of time. With one, Linux 6.1 takes the answer "No route to host" for a connection now and then, where the
    // machine is busy: it wakes who waits before it has noted the error (`ip_icmp_error` in `tcp_v4_err`).
    let connect = |name: &str, port: u16| {
        let ask = format!("import socket; print(socket.create_connection(({name:?}, {port})))");
        world.lith(&["exec", "watch/bot", "--", "python3", "-c", &ask])
    };
    eventually("the service to be reached", || {
        let output = connect("api.example.com", PORT);
        if output.code == 0 { Ok(()) } else { Err(output) }
    });
    let output = connect("other.example.com", PORT);
    assert!(output.stderr.contains("gaierror"), "{output}");
    let output = connect(&NEIGHBOUR.to_string(), PORT);
    assert!(output.stderr.contains("No route to host"), "{output}");
    assert!(GUIDE.contains("# lith job blocked watch\n"));
    eventually("both to be told, with what would allow them", || {
        let output = world.lith(&["job", "blocked", "watch"]);
        let has = |text: &str| output.stdout.contains(text);
        let is_told = has("other.example.com") && has(&format!("{NEIGHBOUR}:{PORT}")) && has("egress");
        if is_told { Ok(()) } else { Err(output) }
    });
    // What learning prints is deployed as it stands, and what was refused works.
    let other = || connect("other.example.com", 443);
    let neighbour = || connect(&NEIGHBOUR.to_string(), PORT);
    let learned = std::thread::scope(|scope| {
        let learning = scope.spawn(|| world.lith(&["job", "learn", "watch", "--for", "10s"]).ok().stdout);
        while !learning.is_finished() {
            let (first, second) = (other(), neighbour());
            assert!(first.code != 0 && second.code != 0, "it opens nothing: {first}{second}");
        }
        learning.join().unwrap()
    });
    let job = learned.replacen("  bot:\n", "  bot:\n    image: \"python:1\"\n", 1);
    let _ = world.deploy(&format!("job: watch\n{job}")).ok();
    for reach in [&other as &dyn Fn() -> _, &neighbour, &|| connect("api.example.com", PORT)] {
        eventually("what was learned to be open", || {
            let output = reach();
            if output.code == 0 { Ok(()) } else { Err(format!("{learned}{output}")) }
        });
    }
}
