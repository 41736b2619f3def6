//! One task: process, limits, health, order, ports, groups, and what is said once for the file.

use lith_core::job::RestartPolicy;
use lith_core::job::health::{Condition, Health};
use lith_core::job::process::TaskKind;

use super::{Folder, attempt, converted, decisions, options, task, told, with, words};
use crate::compose::convert::ConvertOptions;
use crate::write::to_yaml;

#[test]
fn the_job_is_named_by_the_file_or_its_folder() {
    let named = converted("name: my_shop\nservices: { a: { image: a } }");
    assert_eq!(named.job.name.as_str(), "my-shop");
    insta::assert_snapshot!(decisions(&named), @"
    job: `my_shop` in Compose; names are DNS labels here
    job: Compose implies `egress: [ internet ]`; remove it where a task needs none
    ");
    assert_eq!(converted("services: { a: { image: a } }").job.name.as_str(), "shop");
    let other = ConvertOptions { name: Some(String::from("other")), ..options() };
    let renamed = with("name: x\nservices: { a: { image: a } }", &other, &Folder::default());
    assert_eq!(renamed.job.name.as_str(), "other");
}

#[test]
fn names_that_are_no_labels() {
    let text = "services: { my_app: { image: a }, my-app: { image: b }, My.App: { image: c } }";
    let converted = converted(text);
    let image = |name: &str| task(&converted.job, name).image.clone();
    assert_eq!([image("my-app"), image("my-app-2"), image("my-app-3")], ["b", "a", "c"]);
    insta::assert_snapshot!(decisions(&converted), @"
    my-app-2.image: `my_app` in Compose; names are DNS labels here
    my-app-3.image: `My.App` in Compose; names are DNS labels here
    job: Compose allows these 6 connections; something speaks for 0 of them (`--narrow` keeps only those)
    job: Compose implies `egress: [ internet ]`; remove it where a task needs none
    ");
}

#[test]
fn numbers_of_instances() {
    let text = "
services:
  web: { image: a }
  worker: { image: a, deploy: { replicas: 3 } }
  main: { image: a, scale: 0 }
";
    let job = converted(text).job;
    let groups: Vec<_> = job
        .groups
        .iter()
        .map(|(name, group)| {
            format!("{name} {} {}", group.count, words(&group.tasks.keys().collect::<Vec<_>>()))
        })
        .collect();
    insta::assert_snapshot!(groups.join("\n"), @"
    main 1 web
    main-2 0 main
    worker 3 worker
    ");
}

#[test]
fn ports() {
    let text = "
services:
  a:
    image: a
    ports: [ \"127.0.0.1:8080:80\", \"0.0.0.0:53:53/udp\", \"9000-9002:9000-9002\", \"3000\", \"443\", \"7000-7005:70\", \"[::1]:81:81\" ]
    expose: [ 5000-5001, \"6000/udp\" ]
  b: { image: b, ports: [ \"8081:80\", \"8081:80\" ] }
";
    let job = converted(text).job;
    insta::assert_snapshot!(words(&task(&job, "a").publish), @"53:53/udp, 3000:3000, 7000:70, 9000-9002:9000-9002, 127.0.0.1:81:81, 127.0.0.1:8080:80");
    insta::assert_snapshot!(words(&task(&job, "a").ports), @"53/udp, 70, 80, 81, 443, 3000, 5000-5001, 6000/udp, 9000-9002");
    assert_eq!(words(&task(&job, "b").publish), "8081:80");
    insta::assert_snapshot!(told(text), @r#"
    note: Compose implies it, so these may reach the internet: a, b
     --> compose.yaml:3:3
      |
    3 |   a:
      |   ^
      |
      = hint: to take it away, put a service on networks with `internal: true` alone

    note: Docker chooses a port of the node for 3000; here it has the same number
     --> compose.yaml:5:79
      |
    5 |     ports: [ "127.0.0.1:8080:80", "0.0.0.0:53:53/udp", "9000-9002:9000-9002", "3000", "443", "7000-7005...
      |                                                                               ^^^^^^
      |
      = hint: write the port of the node in front, such as "3000:3000"

    warning: port 443 is not published, for no port of the node is named
     --> compose.yaml:5:87
      |
    5 |     ports: [ "127.0.0.1:8080:80", "0.0.0.0:53:53/udp", "9000-9002:9000-9002", "3000", "443", "7000-7005...
      |                                                                                       ^^^^^
      |
      = hint: write the port of the node in front, such as "8443:443"
    "#);
}

#[test]
fn the_network_of_the_node_with_its_ports() {
    let text = "services: { a: { image: a, network_mode: host, ports: [ \"80:80\" ] }, b: { image: b } }";
    let converted = converted(text);
    assert_eq!(words(&task(&converted.job, "a").publish), "80:80");
    assert_eq!(words(&task(&converted.job, "a").connects), "b:*");
    insta::assert_snapshot!(told(text), @r#"
    note: Compose implies it, so these may reach the internet: a, b
     --> compose.yaml:1:13
      |
    1 | services: { a: { image: a, network_mode: host, ports: [ "80:80" ] }, b: { image: b } }
      |             ^
      |
      = hint: to take it away, put a service on networks with `internal: true` alone

    note: the task has a network of its own; the ports that it lists are published
     --> compose.yaml:1:42
      |
    1 | services: { a: { image: a, network_mode: host, ports: [ "80:80" ] }, b: { image: b } }
      |                                          ^^^^
      |
      = hint: what it reaches as `localhost` in Compose, it reaches by the name of the service here
    "#);
}

#[test]
fn the_process() {
    let text = "
services:
  a:
    image: a
    entrypoint: [ /entry ]
    command: serve --port 80
    environment: { A: \"1\", B: \"\" }
    user: \"1000:1000\"
    group_add: [ video, 44 ]
    working_dir: /srv
    hostname: a
    domainname: example.org
    extra_hosts: [ \"db.example.org:192.0.2.7\", \"host.docker.internal:host-gateway\" ]
    stop_signal: SIGINT
    stop_grace_period: 1m30s
    read_only: true
    logging: { driver: json-file, options: { max-size: 10m, max-file: \"3\" } }
    sysctls: { net.core.somaxconn: 1024 }
    ulimits: { nofile: { soft: 1024, hard: 65536 }, memlock: -1 }
    shm_size: 256m
";
    let converted = converted(text);
    insta::assert_snapshot!(to_yaml(&converted.job), @r#"
    job: shop
    tasks:
      a:
        image: a
        entrypoint: [ /entry ]
        command: [ serve, "--port", "80" ]
        env:
          A: "1"
          B: ""
        user: "1000:1000"
        groups: [ "44", video ]
        working_dir: /srv
        hostname: a.example.org
        shm_size: 256M
        read_only: true
        egress: [ internet ]
        hosts:
          db.example.org: "192.0.2.7"
        restart: "no"
        stop_signal: SIGINT
        stop_grace: 1m30s
        logging: { max_size: 10M, max_files: 3 }
        ulimits: { memlock: unlimited, nofile: "1024:65536" }
        sysctls:
          net.core.somaxconn: "1024"
    "#);
    insta::assert_snapshot!(told(text), @r#"
    note: Compose implies it, so these may reach the internet: a
     --> compose.yaml:3:3
      |
    3 |   a:
      |   ^
      |
      = hint: to take it away, put a service on networks with `internal: true` alone

    warning: left out, for the node cannot be reached from a task: host.docker.internal of a
      --> compose.yaml:13:48
       |
    13 |     extra_hosts: [ "db.example.org:192.0.2.7", "host.docker.internal:host-gateway" ]
       |                                                ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = hint: let the other side be a task, or a machine with an address of its own
    "#);
}

#[test]
fn limits_that_no_machine_has() {
    let text = "
services:
  a: { image: a, mem_limit: 16m, cpus: 0.001 }
  b: { image: b, deploy: { resources: { limits: { memory: 1G, cpus: \"1.5\" } } } }
";
    let converted = converted(text);
    assert_eq!(task(&converted.job, "a").memory.to_string(), "64M");
    assert_eq!(task(&converted.job, "b").memory.to_string(), "1G");
    assert_eq!(task(&converted.job, "b").cpus.to_string(), "1.5");
    insta::assert_snapshot!(told(text), @"
    note: Compose implies it, so these may reach the internet: a, b
     --> compose.yaml:3:3
      |
    3 |   a: { image: a, mem_limit: 16m, cpus: 0.001 }
      |   ^
      |
      = hint: to take it away, put a service on networks with `internal: true` alone

    note: 16M of memory are less than a machine of its own needs: it gets 64M
     --> compose.yaml:3:29
      |
    3 |   a: { image: a, mem_limit: 16m, cpus: 0.001 }
      |                             ^^^

    note: 0.001 processors are not between 0.01 and 64: it gets 0.01
     --> compose.yaml:3:40
      |
    3 |   a: { image: a, mem_limit: 16m, cpus: 0.001 }
      |                                        ^^^^^
    ");
}

#[test]
fn health() {
    let text = "
services:
  a: { image: a, healthcheck: { test: curl -f http://localhost, interval: 10s, retries: 0 } }
  b: { image: b, healthcheck: { test: [ CMD, pg_isready ], start_period: 1m } }
  c: { image: c, healthcheck: { disable: true } }
  d: { image: d, healthcheck: { interval: 5s } }
  e: { image: e }
";
    let job = converted(text).job;
    insta::assert_debug_snapshot!(task(&job, "a").health, @r#"
    Some(
        Check(
            HealthCheck {
                probe: Shell(
                    "curl -f http://localhost",
                ),
                every: 10s,
                timeout: 30s,
                retries: 3,
                start: 0ns,
                start_every: 5s,
            },
        ),
    )
    "#);
    insta::assert_debug_snapshot!(task(&job, "b").health, @r#"
    Some(
        Check(
            HealthCheck {
                probe: Command(
                    [
                        "pg_isready",
                    ],
                ),
                every: 30s,
                timeout: 30s,
                retries: 3,
                start: 60s,
                start_every: 5s,
            },
        ),
    )
    "#);
    assert_eq!(task(&job, "c").health, Some(Health::Off));
    insta::assert_debug_snapshot!(task(&job, "d").health, @"
    Some(
        Image(
            HealthTimes {
                every: Some(
                    5s,
                ),
                timeout: None,
                retries: None,
                start: None,
                start_every: None,
            },
        ),
    )
    ");
    assert_eq!(task(&job, "e").health, None);
}

#[test]
fn order_and_restart() {
    let text = "
services:
  web:
    image: web
    restart: unless-stopped
    depends_on:
      db: { condition: service_healthy }
      migrate: { condition: service_completed_successfully }
      cache: { condition: service_started, required: false }
  db: { image: db, deploy: { restart_policy: { condition: on-failure, max_attempts: 3 } } }
  migrate: { image: web, restart: always }
  seed: { image: web, links: [ db ] }
  cache: { image: cache, profiles: [ fast ] }
";
    let converted = converted(text);
    let job = &converted.job;
    let waits = |name: &str| {
        let waits =
            task(job, name).depends_on.iter().map(|(name, condition)| (name.as_str().to_owned(), *condition));
        waits.collect::<Vec<_>>()
    };
    assert_eq!(
        waits("web"),
        [(String::from("db"), Condition::Healthy), (String::from("migrate"), Condition::Completed)]
    );
    assert_eq!(waits("seed"), [(String::from("db"), Condition::Started)]);
    assert_eq!(task(job, "web").restart, RestartPolicy::Always);
    assert_eq!(task(job, "db").restart, RestartPolicy::OnFailure { retries_max: Some(3) });
    assert_eq!(task(job, "seed").restart, RestartPolicy::Never);
    assert_eq!(task(job, "migrate").kind, TaskKind::Once);
    assert_eq!(task(job, "migrate").restart, RestartPolicy::OnFailure { retries_max: None });
    insta::assert_snapshot!(decisions(&converted), @"
    migrate.kind: others wait until it has completed
    migrate.restart: `always` in Compose: what has completed is not started again
    web.connects: db: depends_on
    web.connects: migrate: depends_on
    seed.connects: db: depends_on, links
    job: Compose allows these 12 connections; something speaks for 3 of them (`--narrow` keeps only those)
    job: Compose implies `egress: [ internet ]`; remove it where a task needs none
    ");
}

#[test]
fn what_waits_for_nothing() {
    let text = "
services:
  a: { image: a, depends_on: [ off ] }
  off: { image: b, scale: 0 }
";
    assert!(task(&converted(text).job, "a").depends_on.is_empty());
    insta::assert_snapshot!(told(text), @"
    note: Compose implies it, so these may reach the internet: a, off
     --> compose.yaml:3:3
      |
    3 |   a: { image: a, depends_on: [ off ] }
      |   ^
      |
      = hint: to take it away, put a service on networks with `internal: true` alone

    note: `off` has no instance, so it is not waited for
     --> compose.yaml:3:32
      |
    3 |   a: { image: a, depends_on: [ off ] }
      |                                ^^^
    ");
}

#[test]
fn what_is_said_once() {
    let text = "
services:
  a:
    image: registry.example/a:1
    build: .
    privileged: true
    cap_add: [ NET_ADMIN ]
    devices: [ /dev/net/tun ]
    labels: { traefik.enable: \"true\" }
    tty: true
    volumes: [ \"/lib/modules:/lib/modules:ro\" ]
  b:
    image: b
    labels: [ x=y ]
    pull_policy: always
    deploy: { placement: { constraints: [ node.role == manager ] } }
";
    let converted = converted(text);
    assert_eq!(words(&task(&converted.job, "a").devices), "/dev/net/tun");
    insta::assert_snapshot!(told(text), @r#"
    note: Compose implies it, so these may reach the internet: a, b
     --> compose.yaml:3:3
      |
    3 |   a:
      |   ^
      |
      = hint: to take it away, put a service on networks with `internal: true` alone

    note: these images are fetched, not built here: registry.example/a:1
     --> compose.yaml:5:12
      |
    5 |     build: .
      |            ^
      |
      = hint: build them where you do, and push them to a registry that the node reaches

    note: granted inside the task's own machine, where it reaches nothing else: /dev/net/tun, cap_add NET_ADMIN, privileged
     --> compose.yaml:6:17
      |
    6 |     privileged: true
      |                 ^^^^

    note: these keys have no effect here: deploy.placement, labels, pull_policy, tty
     --> compose.yaml:9:5
      |
    9 |     labels: { traefik.enable: "true" }
      |     ^^^^^^

    note: not mounted, for each task has a kernel of its own: /lib/modules
      --> compose.yaml:11:16
       |
    11 |     volumes: [ "/lib/modules:/lib/modules:ro" ]
       |                ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    "#);
    insta::assert_snapshot!(decisions(&converted), @"
    a.image: built in Compose, fetched here
    job: Compose allows these 2 connections; something speaks for 0 of them (`--narrow` keeps only those)
    job: no effect here, left out: deploy.placement, labels, pull_policy, tty
    job: a task has these rights in its own machine anyway: /dev/net/tun, cap_add NET_ADMIN, privileged
    job: not mounted, for each task has a kernel of its own: /lib/modules
    job: Compose implies `egress: [ internet ]`; remove it where a task needs none
    ");
}

#[test]
fn graphics_processors() {
    let text = "
services:
  a: { image: a, gpus: all }
  b: { image: b, deploy: { resources: { reservations: { devices: [ { driver: nvidia, count: 2, capabilities: [ gpu ] } ] } } } }
  c: { image: c, runtime: nvidia }
";
    let job = converted(text).job;
    let gpu = |name: &str| task(&job, name).gpu.map(|gpu| gpu.to_string());
    assert_eq!([gpu("a"), gpu("b"), gpu("c")].map(Option::unwrap), ["all", "2", "all"]);
}

#[test]
fn updates() {
    let text = "
services:
  a:
    image: a
    deploy: { update_config: { parallelism: 2, delay: 10s, order: start-first, failure_action: rollback } }
";
    insta::assert_debug_snapshot!(task(&converted(text).job, "a").update, @"
    Some(
        Update {
            parallel: 2,
            delay: 10s,
            watch: 5s,
            order: StartFirst,
            on_failure: Rollback,
        },
    )
    ");
}

#[test]
fn instances_with_disks_of_their_own() {
    let text = "
services: { a: { image: a, volumes: [ \"data:/d\" ], scale: 2 } }
volumes: { data: }
";
    insta::assert_snapshot!(told(text), @r#"
    note: Compose implies it, so these may reach the internet: a
     --> compose.yaml:2:13
      |
    2 | services: { a: { image: a, volumes: [ "data:/d" ], scale: 2 } }
      |             ^
      |
      = hint: to take it away, put a service on networks with `internal: true` alone

    warning: each of the 2 instances has its own disk `data`
     --> compose.yaml:2:39
      |
    2 | services: { a: { image: a, volumes: [ "data:/d" ], scale: 2 } }
      |                                       ^^^^^^^^^
      |
      = hint: Docker gives them one; if they need that, let one instance serve the others
    "#);
}

#[test]
fn secrets_of_the_cluster_and_services_elsewhere() {
    let text = "
services: { a: { image: a, secrets: [ key ], platform: linux/amd64, network_mode: lan } }
secrets: { key: { external: true } }
";
    insta::assert_snapshot!(told(text), @"
    note: Compose implies it, so these may reach the internet: a
     --> compose.yaml:2:13
      |
    2 | services: { a: { image: a, secrets: [ key ], platform: linux/amd64, network_mode: lan } }
      |             ^
      |
      = hint: to take it away, put a service on networks with `internal: true` alone

    warning: on `lan` only services of this file reach each other, nothing of other projects
     --> compose.yaml:2:83
      |
    2 | services: { a: { image: a, secrets: [ key ], platform: linux/amd64, network_mode: lan } }
      |                                                                                   ^^^
      |
      = hint: to reach a task of another job, add `connects: [ JOB/TASK ]` to the job file that `lith convert` prints

    note: the secret `key` is taken from the cluster's store
     --> compose.yaml:3:12
      |
    3 | secrets: { key: { external: true } }
      |            ^^^
    ");
}

#[test]
fn jobs_run_once() {
    let text = "services: { a: { image: a, deploy: { mode: replicated-job } } }";
    assert_eq!(task(&converted(text).job, "a").kind, TaskKind::Once);
}

#[test]
fn variables_that_nothing_gives() {
    insta::assert_snapshot!(
        told("services:\n  web:\n    image: nginx\n    environment: [ LANG, B=1, ADMIN ]\n"),
        @"
    note: Compose implies it, so these may reach the internet: web
     --> compose.yaml:2:3
      |
    2 |   web:
      |   ^^^
      |
      = hint: to take it away, put a service on networks with `internal: true` alone

    note: no task gets these variables, for they have no value: ADMIN, LANG
     --> compose.yaml:4:20
      |
    4 |     environment: [ LANG, B=1, ADMIN ]
      |                    ^^^^
      |
      = hint: give them with `--set NAME=value`, or in a `.env` file
    "
    );
}

/// What a person reads above the keys of a job file.
#[test]
#[expect(clippy::too_many_lines, reason = "a test is as long as what is said in it")]
fn what_was_decided_is_written_above() {
    let text = "
services:
  a:
    image: a
    mem_limit: 8m
    logging: { driver: syslog, options: { max-size: 1k } }
    ports: [ \"3000-3005:80\", 4000 ]
    extra_hosts: [ \"node:host-gateway\" ]
    volumes: [ \"/etc/localtime:/etc/localtime:ro\", \"kept:/srv\" ]
    environment: { TZ: Europe/Berlin }
    networks: { default: { ipv4_address: 10.0.0.2 }, proxy: }
  b: { image: b, network_mode: host, ports: [ \"8080:80\" ] }
  c: { image: c, scale: 3 }
volumes: { kept: { external: true } }
networks: { proxy: { external: true } }
";
    let made = ConvertOptions { create_missing_volumes: true, ..options() };
    insta::assert_snapshot!(decisions(&with(text, &made, &Folder::default())), @"
    job: network `proxy`: tasks of other jobs are reached by `connects: [ JOB/TASK ]`
    a.logging: a log file holds 64K to 1G, and there are 1 to 100
    a.memory: 8M in Compose; a guest needs 64M
    a.publish: the first of 3000-3005
    a.publish: Docker chooses a port for 4000
    a.timezone: in place of /etc/localtime
    volume kept: external in Compose; it begins empty
    b.publish: `network_mode: host` in Compose; what is not listed is not reached
    job: Compose allows these 6 connections; something speaks for 0 of them (`--narrow` keeps only those)
    c.image: in a group of its own for its number of instances
    job: no effect here, left out: fixed addresses, logging (syslog)
    job: Compose implies `egress: [ internet ]`; remove it where a task needs none
    job: `host-gateway` left out: node of a
    ");
    insta::assert_snapshot!(attempt(text, &made, &Folder::default()).1, @r#"
    note: Compose implies it, so these may reach the internet: a, b, c
     --> compose.yaml:3:3
      |
    3 |   a:
      |   ^
      |
      = hint: to take it away, put a service on networks with `internal: true` alone

    note: 8M of memory are less than a machine of its own needs: it gets 64M
     --> compose.yaml:5:16
      |
    5 |     mem_limit: 8m
      |                ^^

    note: these keys have no effect here: fixed addresses, logging (syslog)
     --> compose.yaml:6:14
      |
    6 |     logging: { driver: syslog, options: { max-size: 1k } }
      |              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

    note: Docker chooses a port of the node for 4000; here it has the same number
     --> compose.yaml:7:30
      |
    7 |     ports: [ "3000-3005:80", 4000 ]
      |                              ^^^^
      |
      = hint: write the port of the node in front, such as "4000:4000"

    warning: left out, for the node cannot be reached from a task: node of a
     --> compose.yaml:8:20
      |
    8 |     extra_hosts: [ "node:host-gateway" ]
      |                    ^^^^^^^^^^^^^^^^^^^
      |
      = hint: let the other side be a task, or a machine with an address of its own

    note: the time zone is a setting of the task, so this is not mounted: /etc/localtime
     --> compose.yaml:9:16
      |
    9 |     volumes: [ "/etc/localtime:/etc/localtime:ro", "kept:/srv" ]
      |                ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: set `TZ` to have another one

    note: the task has a network of its own; the ports that it lists are published
      --> compose.yaml:12:32
       |
    12 |   b: { image: b, network_mode: host, ports: [ "8080:80" ] }
       |                                ^^^^
       |
       = hint: what it reaches as `localhost` in Compose, it reaches by the name of the service here

    warning: on `proxy` only services of this file reach each other, nothing of other projects
      --> compose.yaml:15:13
       |
    15 | networks: { proxy: { external: true } }
       |             ^^^^^
       |
       = hint: to reach a task of another job, add `connects: [ JOB/TASK ]` to the job file that `lith convert` prints
    "#);
}

#[test]
fn a_list_is_cut_where_nobody_reads_on() {
    let services: String = (0..15).map(|at| format!("  s{at:02}: {{ image: x }}\n")).collect();
    let report = told(&format!("services:\n{services}"));
    insta::assert_snapshot!(report.lines().next().unwrap_or_default(), @"note: Compose implies it, so these may reach the internet: s00, s01, s02, s03, s04, s05, s06, s07, s08, s09, s10, s11 and 3 more");
}
