//! What is refused: each kind with its words.

use super::told;
use crate::compose::convert::refusal::REFUSAL_KINDS;
use crate::diagnostic::Code;

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
      = hint: put the file beside the Compose file, or correct its path
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
