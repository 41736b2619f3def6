//! What is refused: each kind with its words.

use super::{Folder, attempt, attempt_with, options, told};
use crate::compose::convert::refusal::REFUSAL_KINDS;
use crate::compose::convert::{Binds, ConvertOptions};
use crate::diagnostic::{Code, Severity};
use crate::source::{Files, PathKind};

/// Lines of one service with what they need beside it.
fn service(lines: &str) -> String {
    told(&format!("services:\n  a:\n    image: a\n    {lines}\n"))
}

#[test]
fn build_without_an_image() {
    let text = r#"services:
  a:
    build: ./a
"#;
    insta::assert_snapshot!(told(text), @"
    error: `a` is built, and names no image to fetch
     --> compose.yaml:3:12
      |
    3 |     build: ./a
      |            ^^^
      |
      = hint: build and push it, then add its name beside `build`, such as `image: registry.example/a:1`
    ");
}

#[test]
fn the_network_of_the_node() {
    insta::assert_snapshot!(service("network_mode: host"), @r#"
    error: nothing says which ports of it are to be reached: a task has a network of its own
     --> compose.yaml:4:19
      |
    4 |     network_mode: host
      |                   ^^^^
      |
      = hint: list them, such as `ports: [ "8080:8080" ]`; one that is not to be reached has `network_mode: bridge`
    "#);
}

#[test]
fn the_network_of_another_container() {
    let text = "services:\n  a: { image: a, network_mode: \"service:b\" }\n  b: { image: b }\n";
    insta::assert_snapshot!(told(text), @r#"
    error: `service:b`: each task is a machine with a network of its own
     --> compose.yaml:2:32
      |
    2 |   a: { image: a, network_mode: "service:b" }
      |                                ^^^^^^^^^^^
      |
      = hint: put both programs into one image, or let them speak over the network by name
    "#);
}

#[test]
fn files_of_which_nothing_is_on() {
    insta::assert_snapshot!(told("services: { a: { image: a, profiles: [ extra ] } }"), @"
    error: the file has no service to run
     --> compose.yaml:1:1
      |
    1 | services: { a: { image: a, profiles: [ extra ] } }
      | ^
      |
      = hint: `a` belongs to a profile: choose it with `--profile extra`
    ");
}

#[test]
fn a_health_that_is_never_asked_for() {
    let text = r#"services:
  a: { image: a, depends_on: { b: { condition: service_healthy } } }
  b: { image: b, healthcheck: { disable: true } }
"#;
    insta::assert_snapshot!(told(text), @"
    error: `b` is never healthy, for its check is disabled
     --> compose.yaml:2:32
      |
    2 |   a: { image: a, depends_on: { b: { condition: service_healthy } } }
      |                                ^
      |
      = hint: wait for `service_started`, or give it a check
    ");
}

#[test]
fn two_things_at_one_place() {
    let text = r#"services:
  a: { image: a, volumes: [ "data:/srv/data" ], tmpfs: [ /srv/data ] }
volumes: { data: }
"#;
    insta::assert_snapshot!(told(text), @r#"
    error: something is already mounted at `/srv/data`
     --> compose.yaml:2:29
      |
    2 |   a: { image: a, volumes: [ "data:/srv/data" ], tmpfs: [ /srv/data ] }
      |                             ^^^^^^^^^^^^^^^^
      |
      = hint: keep one of the mounts
    "#);
}

/// Every kind is one that a test above shows, or that only comes with a file of another machine.
#[test]
fn the_list_of_kinds_is_complete() {
    let mut codes: Vec<Code> = REFUSAL_KINDS.iter().map(|kind| kind.code).collect();
    let all = codes.len();
    codes.sort();
    codes.dedup();
    assert_eq!(codes.len(), all, "each kind stands once");
    for kind in REFUSAL_KINDS {
        let texts = [kind.what, kind.why, kind.instead];
        assert!(texts.iter().all(|text| !text.is_empty() && !text.ends_with('.')), "{}", kind.code);
    }
}

/// What is more than a job holds ends the conversion early, whatever there is of it.
#[test]
fn more_than_a_job_holds() {
    let mounts: String = (0..20_000)
        .map(|index| format!("      - /x/{}\n", "_".repeat(index % 40) + &index.to_string()))
        .collect();
    let text = format!("services:\n  a:\n    image: a\n    volumes:\n{mounts}");
    assert!(told(&text).contains("20000 mounts are more than 100"));
    let aliases: String = (0..4_000).map(|index| format!("n{index}, ")).collect();
    let services: String =
        (0..20).map(|index| format!("  s{index}: {{ image: a, networks: *n }}\n")).collect();
    let text = format!("x-n: &n {{ default: {{ aliases: [ {aliases} ] }} }}\nservices:\n{services}");
    let report = told(&text);
    assert!(report.contains("the limit is 200"), "{report}");
    let services: String = (0..101).map(|index| format!("  s_{index}: {{ image: a }}\n")).collect();
    assert!(told(&format!("services:\n{services}")).contains("there are 101 services; the limit is 100"));
}

#[test]
fn processes_of_the_node() {
    insta::assert_snapshot!(service("pid: host"), @"
    error: `pid: host`: a task sees neither processes nor memory of the node or of another task
     --> compose.yaml:4:10
      |
    4 |     pid: host
      |          ^^^^
      |
      = hint: remove the key; for more shared memory inside the task set `shm_size`
    ");
}

#[test]
fn memory_of_the_node() {
    insta::assert_snapshot!(service("ipc: host"), @"
    error: `ipc: host`: a task sees neither processes nor memory of the node or of another task
     --> compose.yaml:4:10
      |
    4 |     ipc: host
      |          ^^^^
      |
      = hint: remove the key; for more shared memory inside the task set `shm_size`
    ");
}

#[test]
fn propagation() {
    insta::assert_snapshot!(service(r#"volumes: [ "/srv/x:/x:rshared" ]"#), @r#"
    error: propagation `rshared`: mounts made in a task stay in its machine
     --> compose.yaml:4:16
      |
    4 |     volumes: [ "/srv/x:/x:rshared" ]
      |                ^^^^^^^^^^^^^^^^^^^
      |
      = hint: remove it
    "#);
}

#[test]
fn the_socket_of_an_engine() {
    insta::assert_snapshot!(service(r#"volumes: [ "/var/run/docker.sock:/var/run/docker.sock:ro" ]"#), @r#"
    error: `/var/run/docker.sock`: there is no container engine here, and its socket would be the right to everything
     --> compose.yaml:4:16
      |
    4 |     volumes: [ "/var/run/docker.sock:/var/run/docker.sock:ro" ]
      |                ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: configure the program without it, or leave the service out
    "#);
}

#[test]
fn the_root_of_the_node() {
    insta::assert_snapshot!(service(r#"volumes: [ "/:/host:ro" ]"#), @r#"
    error: `/`: such a folder describes the node or controls it, and a task has its own
     --> compose.yaml:4:16
      |
    4 |     volumes: [ "/:/host:ro" ]
      |                ^^^^^^^^^^^^
      |
      = hint: mount the folder below that holds the data, or leave the service out
    "#);
}

#[test]
fn the_system_of_the_node() {
    insta::assert_snapshot!(service(r#"volumes: [ "/proc:/host/proc:ro" ]"#), @r#"
    error: `/proc`: such a folder describes the node or controls it, and a task has its own
     --> compose.yaml:4:16
      |
    4 |     volumes: [ "/proc:/host/proc:ro" ]
      |                ^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: mount the folder below that holds the data, or leave the service out
    "#);
}

#[test]
fn a_device() {
    insta::assert_snapshot!(service(r#"devices: [ "/dev/ttyUSB0:/dev/ttyACM0", /dev/net/tun ]"#), @r#"
    error: `/dev/ttyUSB0`: a device of the node is granted by the node's owner, not by a file
     --> compose.yaml:4:16
      |
    4 |     devices: [ "/dev/ttyUSB0:/dev/ttyACM0", /dev/net/tun ]
      |                ^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: remove it here, convert the file, and add `devices` to the job file
    "#);
}

#[test]
fn a_device_as_a_mount() {
    insta::assert_snapshot!(service(r#"volumes: [ "/dev/dri:/dev/dri" ]"#), @r#"
    error: `/dev/dri`: a device of the node is granted by the node's owner, not by a file
     --> compose.yaml:4:16
      |
    4 |     volumes: [ "/dev/dri:/dev/dri" ]
      |                ^^^^^^^^^^^^^^^^^^^
      |
      = hint: remove it here, convert the file, and add `devices` to the job file
    "#);
}

#[test]
fn all_volumes_of_another() {
    let text = r#"services:
  a: { image: a, volumes_from: [ "b:ro" ] }
  b: { image: b, volumes: [ "data:/data" ] }
volumes: { data: }
"#;
    insta::assert_snapshot!(told(text), @r#"
    error: all volumes of `b:ro` cannot be taken over at once
     --> compose.yaml:2:34
      |
    2 |   a: { image: a, volumes_from: [ "b:ro" ] }
      |                                  ^^^^^^
      |
      = hint: list them under `volumes` of this service: data:/data
    "#);
}

#[test]
fn a_part_of_a_volume() {
    let text = r#"services:
  a:
    image: a
    volumes: [ { type: volume, source: data, target: /d, volume: { subpath: x } } ]
volumes: { data: }
"#;
    insta::assert_snapshot!(told(text), @"
    error: the folder `x` of a volume: a task mounts whole volumes, and folders that its node's owner allows
     --> compose.yaml:4:16
      |
    4 |     volumes: [ { type: volume, source: data, target: /d, volume: { subpath: x } } ]
      |                ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: mount the whole volume, or a volume of its own
    ");
}

#[test]
fn a_volume_made_elsewhere() {
    let text = r#"services: { a: { image: a, volumes: [ "data:/d" ] } }
volumes: { data: { external: true } }
"#;
    insta::assert_snapshot!(told(text), @"
    error: the volume `data` was made elsewhere: an empty disk would take its place
     --> compose.yaml:2:12
      |
    2 | volumes: { data: { external: true } }
      |            ^^^^
      |
      = hint: remove `external` to begin with an empty disk, or pass `--create-missing-volumes`
    ");
}

#[test]
fn a_config_made_elsewhere() {
    let text = r#"services: { a: { image: a, configs: [ site ] } }
configs: { site: { external: true } }
"#;
    insta::assert_snapshot!(told(text), @"
    error: the config `site`: the cluster keeps secrets, not configs
     --> compose.yaml:2:12
      |
    2 | configs: { site: { external: true } }
      |            ^^^^
      |
      = hint: give it a `file` or its `content`
    ");
}

#[test]
fn a_network_file_system() {
    let text = r#"services: { a: { image: a, volumes: [ "data:/d" ] } }
volumes: { data: { driver_opts: { type: nfs, o: addr=10.0.0.1, device: ":/x" } } }
"#;
    insta::assert_snapshot!(told(text), @r#"
    error: a file system of the type `nfs`: volumes are disks of the cluster
     --> compose.yaml:2:41
      |
    2 | volumes: { data: { driver_opts: { type: nfs, o: addr=10.0.0.1, device: ":/x" } } }
      |                                         ^^^
      |
      = hint: remove `driver` and `driver_opts`, or mount the share on the node and name its folder
    "#);
}

#[test]
fn a_driver_of_volumes() {
    let text = r#"services: { a: { image: a, volumes: [ "data:/d" ] } }
volumes: { data: { driver: rclone } }
"#;
    insta::assert_snapshot!(told(text), @"
    error: the driver `rclone`: volumes are disks of the cluster
     --> compose.yaml:2:28
      |
    2 | volumes: { data: { driver: rclone } }
      |                            ^^^^^^
      |
      = hint: remove `driver` and `driver_opts`, or mount the share on the node and name its folder
    ");
}

#[test]
fn a_driver_of_networks() {
    let text = r#"services: { a: { image: a, networks: [ lan ] } }
networks: { lan: { driver: macvlan } }
"#;
    insta::assert_snapshot!(told(text), @"
    error: the driver `macvlan`: tasks have no address in the node's network
     --> compose.yaml:2:28
      |
    2 | networks: { lan: { driver: macvlan } }
      |                            ^^^^^^^
      |
      = hint: remove `driver` and list what is to be reached under `ports`
    ");
}

#[test]
fn a_shared_volume_of_several_instances() {
    let text = r#"services:
  a: { image: a, volumes: [ "data:/d" ], scale: 2 }
  b: { image: b, volumes: [ "data:/d" ] }
volumes: { data: }
"#;
    insta::assert_snapshot!(told(text), @r#"
    error: the volume `data` belongs to 2 services, and `a` has 2 instances: tasks that share a disk are placed together, with one instance each
     --> compose.yaml:2:29
      |
    2 |   a: { image: a, volumes: [ "data:/d" ], scale: 2 }
      |                             ^^^^^^^^^
      |
      = hint: remove `replicas`, or give each service a volume of its own
    "#);
}

#[test]
fn a_secret_without_its_file() {
    let text = r#"services: { a: { image: a, secrets: [ key ] } }
secrets: { key: { file: ./key } }
"#;
    insta::assert_snapshot!(told(text), @"
    error: the secret `key` cannot be read from `key`: there is no such file
     --> compose.yaml:2:12
      |
    2 | secrets: { key: { file: ./key } }
      |            ^^^
      |
      = hint: put the file beside the Compose file, correct its path, or mount the folder that holds large ones
    ");
}

#[test]
fn a_secret_without_its_variable() {
    let text = r#"services: { a: { image: a, secrets: [ key ] } }
secrets: { key: { environment: KEY } }
"#;
    insta::assert_snapshot!(told(text), @"
    error: the secret `key` needs the variable `KEY`
     --> compose.yaml:2:12
      |
    2 | secrets: { key: { environment: KEY } }
      |            ^^^
      |
      = hint: pass `--set KEY=…` or `--env-file FILE`
    ");
}

#[test]
fn a_file_without_services() {
    insta::assert_snapshot!(told("networks: { a: }\n"), @"
    error: the file has no service to run
     --> compose.yaml:1:1
      |
    1 | networks: { a: }
      | ^
      |
      = hint: add `services:` with a name and an `image` for each
    ");
}

#[test]
fn all_volumes_of_another_that_has_none() {
    let text = "services: { a: { image: a, volumes_from: [ b ] }, b: { image: b } }";
    insta::assert_snapshot!(told(text), @"
    error: all volumes of `b` cannot be taken over at once
     --> compose.yaml:1:44
      |
    1 | services: { a: { image: a, volumes_from: [ b ] }, b: { image: b } }
      |                                            ^
      |
      = hint: list the volumes under `volumes` of this service
    ");
}

#[test]
fn a_home_that_is_to_be_shared() {
    let folder = "/srv/shop".to_owned();
    let shared = ConvertOptions { binds: Binds::Host { folder }, ..options() };
    let files = Folder::of([("~/media/", "")]);
    let text = "services: { a: { image: a, volumes: [ \"~/media:/media\" ] } }";
    insta::assert_snapshot!(attempt(text, &shared, &files).1, @r#"
    error: `~/media` is the home of whoever types, and no folder of the node
     --> compose.yaml:1:39
      |
    1 | services: { a: { image: a, volumes: [ "~/media:/media" ] } }
      |                                       ^^^^^^^^^^^^^^^^
      |
      = hint: write the whole path, or one beside the file in `/srv/shop`
    "#);
}

#[test]
fn a_link_to_what_is_off() {
    let text = "services:
  a: { image: a, links: [ b ], depends_on: { b: { condition: service_started, required: false } } }
  b: { image: b, profiles: [ extra ] }
";
    insta::assert_snapshot!(told(text), @"
    error: `b` is left out since its profile is off
     --> compose.yaml:2:27
      |
    2 |   a: { image: a, links: [ b ], depends_on: { b: { condition: service_started, required: false } } }
      |                           ^
      |
      = hint: choose it with `--profile extra`, or remove the link
    ");
}

#[test]
fn names_of_files_that_are_none() {
    let text = "services: { a: { image: a, secrets: [ .key ] } }\nsecrets: { .key: { file: key } }\n";
    insta::assert_snapshot!(attempt(text, &options(), &Folder::of([("key", "x")])).1, @"
    error: `.key` is not a name: use letters, digits, `_`, `.` and `-`, starting with a letter, a digit or `_`
     --> compose.yaml:1:39
      |
    1 | services: { a: { image: a, secrets: [ .key ] } }
      |                                       ^^^^
    ");
}

/// Message, place and hint: the file is too large to stand here.
fn words(text: &str, files: &dyn Files) -> String {
    let (_, diagnostics) = attempt_with(text, None, &options(), files);
    let line = |found: &crate::diagnostic::Diagnostic| {
        let hint = found.hint.as_ref().map(|hint| format!(" => {hint}")).unwrap_or_default();
        format!("{found}{hint}")
    };
    let errors = diagnostics.list.iter().filter(|found| found.severity == Severity::Error);
    errors.map(line).collect::<Vec<String>>().join("\n")
}

/// Every path is a file of this text.
struct Each(String);

impl Files for Each {
    fn kind(&self, path: &str) -> PathKind {
        if path == ".env" { PathKind::Absent } else { PathKind::File }
    }

    fn read(&self, _: &str, _: usize) -> Result<Vec<u8>, String> {
        Ok(self.0.clone().into_bytes())
    }
}

#[test]
fn more_than_a_list_holds() {
    let list = |count: usize, item: fn(usize) -> String| (0..count).map(item).collect::<String>();
    let none = Folder::default();
    let services = list(101, |at| format!("  s{at}: {{ image: x }}\n"));
    insta::assert_snapshot!(words(&format!("services:\n{services}"), &none), @"compose.yaml:102:3: there are 101 services; the limit is 100 => split them into several files");

    let service = |key: &str, items: String| format!("services:\n  a:\n    image: x\n    {key}:\n{items}");
    let hosts = service("extra_hosts", list(201, |at| format!("      - \"h{at}:10.0.0.1\"\n")));
    insta::assert_snapshot!(words(&hosts, &none), @"compose.yaml:2:3: `extra_hosts` holds 201 names; the limit is 200");
    let expose = service("expose", list(101, |at| format!("      - \"{}\"\n", 1000 + at)));
    insta::assert_snapshot!(words(&expose, &none), @"compose.yaml:2:3: `expose` holds 101 ports; the limit is 100 => write ports that follow one another as a range");
    let ports = service("ports", list(101, |at| format!("      - \"{}:80\"\n", 1000 + at)));
    insta::assert_snapshot!(words(&ports, &none), @"compose.yaml:2:3: `ports` holds 101 ports; the limit is 100 => write ports that follow one another as a range");
    let groups = service("group_add", list(101, |at| format!("      - g{at}\n")));
    insta::assert_snapshot!(words(&groups, &none), @"compose.yaml:2:3: `group_add` holds 101 entries; the limit is 100");

    let two = |item: fn(usize) -> String| {
        let volumes = |from: usize| (from..from + 60).map(item).collect::<String>();
        let (one, other) = (volumes(0), volumes(60));
        format!("services:\n  a:\n    image: x\n    volumes:\n{one}  b:\n    image: x\n    volumes:\n{other}")
    };
    insta::assert_snapshot!(words(&two(|at| format!("      - /d{at}\n")), &none), @"compose.yaml:2:3: the services mount more than 100 volumes => split the file into several");
    insta::assert_snapshot!(words(&two(|at| format!("      - ./f{at}:/f{at}\n")), &Each(String::new())), @"compose.yaml:108:9: there are more than 100 configs => mount the folder that holds them");

    let names = list(201, |at| format!("          - n{at}\n"));
    let text = format!(
        "services:\n  a: {{ image: x }}\n  b:\n    image: x\n    networks:\n      default:\n        aliases:\n{names}"
    );
    insta::assert_snapshot!(words(&text, &none), @"compose.yaml:2:3: `a` may reach others by 201 names; the limit is 200 => `--narrow` keeps only what something speaks for; or put services on networks of their own");
}

#[test]
fn contents_that_are_too_large() {
    let list = |count: usize, item: fn(usize) -> String| (0..count).map(item).collect::<String>();
    let uses = |count: usize| {
        let uses = list(count, |at| format!("      - c{at}\n"));
        format!("services:\n  a:\n    image: x\n    configs:\n{uses}configs:\n")
    };
    let inline = format!("{}  c0: {{ content: {} }}\n", uses(1), "x".repeat(600_000));
    insta::assert_snapshot!(words(&inline, &Folder::default()), @"compose.yaml:7:3: the config `c0` holds 600000 bytes; the limit is 524288 => put large files into a volume");
    let nine = format!("{}{}", uses(9), list(9, |at| format!("  c{at}: {{ file: f{at} }}\n")));
    let large = Each("x".repeat(500_000));
    insta::assert_snapshot!(words(&nine, &large), @"compose.yaml:23:3: secrets and configs hold 4500000 bytes; the limit is 4194304 => put large files into a volume");
    let mounted = list(9, |at| format!("      - ./f{at}:/f{at}\n"));
    let mounted = format!("services:\n  a:\n    image: x\n    volumes:\n{mounted}");
    insta::assert_snapshot!(words(&mounted, &large), @"compose.yaml:13:9: secrets and configs hold 4500000 bytes; the limit is 4194304 => put large files into a volume");
    let many = list(201, |at| format!("  c{at}: {{ file: f{at} }}\n"));
    let many = format!("services: {{ a: {{ image: x, configs: [ c200 ] }} }}\nconfigs:\n{many}");
    insta::assert_snapshot!(words(&many, &Each(String::new())), @"compose.yaml:203:3: the config `c200` cannot be read from `f200`: more than 200 such files are read together => put the file beside the Compose file, correct its path, or mount the folder that holds large ones");
    let last = list(10, |at| format!("  c{at}: {{ file: f{at} }}\n"));
    let last = format!("services: {{ a: {{ image: x, configs: [ c9 ] }} }}\nconfigs:\n{last}");
    insta::assert_snapshot!(words(&last, &Each("x".repeat(512 << 10))), @"compose.yaml:12:3: the config `c9` cannot be read from `f9`: secrets and configs hold more than 4194304 bytes together => put the file beside the Compose file, correct its path, or mount the folder that holds large ones");
}
