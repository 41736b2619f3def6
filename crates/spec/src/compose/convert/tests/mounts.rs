//! Volumes, paths, configs and secrets.

use lith_core::job::file::FileSource;

use super::{Folder, attempt, converted, decisions, options, task, told, with, words};
use crate::compose::convert::{Binds, ConvertOptions};
use crate::write::to_yaml;

#[test]
fn volumes_become_disks() {
    let text = "
services:
  a: { image: a, volumes: [ \"app_data:/data\", \"/var/cache/app\", { type: tmpfs, target: /run, tmpfs: { size: 1m } } ] }
  b: { image: b, volumes: [ \"app_data:/data:ro\", \"both:/both\" ], tmpfs: [ \"/tmp:size=64m,mode=1777\" ] }
  c: { image: c, volumes: [ \"both:/both\" ] }
volumes: { app_data: , both: }
";
    let converted = converted(text);
    insta::assert_snapshot!(words(&task(&converted.job, "a").volumes), @"app-data:/data, a-var-cache-app:/var/cache/app");
    insta::assert_snapshot!(words(&task(&converted.job, "b").volumes), @"both:/both, app-data:/data:ro");
    assert_eq!(words(&task(&converted.job, "a").tmpfs), "/run:size=1M");
    assert_eq!(words(&task(&converted.job, "b").tmpfs), "/tmp:size=64M,mode=1777");
    let shared: Vec<_> =
        converted.job.volumes.iter().map(|(name, spec)| (name.as_str(), spec.is_shared)).collect();
    assert_eq!(shared, [("a-var-cache-app", false), ("app-data", false), ("both", true)]);
    insta::assert_snapshot!(decisions(&converted), @"
    volume a-var-cache-app: without a name in Compose; /var/cache/app of a
    job: Compose allows these 6 connections; something speaks for 0 of them (`--narrow` keeps only those)
    volume app-data: held by a; b sees it as it was at its own start
    volume both: written by b, c
    job: Compose implies `egress: [ internet ]`; remove it where a task needs none
    ");
}

#[test]
fn a_volume_that_is_not_declared() {
    let text = "services:\n  a:\n    image: a\n    volumes: [ \"data:/data\", \"b/c:/d\" ]\n";
    insta::assert_snapshot!(told(text), @r#"
    error: the file does not declare the volume `data`
     --> compose.yaml:4:16
      |
    4 |     volumes: [ "data:/data", "b/c:/d" ]
      |                ^^^^^^^^^^^^
      |
      = hint: add at the end of the file
              volumes:
                data:
              or pass `--create-missing-volumes`

    error: the file does not declare the volume `b/c`
     --> compose.yaml:4:30
      |
    4 |     volumes: [ "data:/data", "b/c:/d" ]
      |                              ^^^^^^^^
      |
      = hint: for a folder beside the file write `./b/c`
    "#);
    let made = ConvertOptions { create_missing_volumes: true, ..options() };
    let converted = with(text, &made, &Folder::default());
    insta::assert_snapshot!(words(&task(&converted.job, "a").volumes), @"b-c:/d, data:/data");
    insta::assert_snapshot!(decisions(&converted), @"
    volume data: not declared in the Compose file
    volume b-c: not declared in the Compose file
    job: Compose implies `egress: [ internet ]`; remove it where a task needs none
    ");
}

const PATHS: &str = "
services:
  web:
    image: web
    volumes:
      - ./nginx.conf:/etc/nginx/nginx.conf:ro
      - ./start.sh:/start.sh
      - ./html:/srv/html
      - ./var/lib/data/:/data
      - ./missing.conf:/etc/missing.conf
      - /srv/media:/media:ro
";

fn folder() -> Folder {
    Folder::of([("nginx.conf", "events {}"), ("start.sh", "#!/bin/sh\n"), ("html/", "")])
}

#[test]
fn paths_beside_the_file() {
    let converted = with(PATHS, &options(), &folder());
    insta::assert_snapshot!(to_yaml(&converted.job), @r#"
    job: shop
    volumes:
      html: { import: ./html }
      missing-conf:
      var-lib-data:
    configs:
      nginx.conf: { file: ./nginx.conf }
      start.sh: { file: ./start.sh }
    tasks:
      web:
        image: web
        volumes:
          - var-lib-data:/data
          - missing-conf:/etc/missing.conf
          - /srv/media:/media:ro
          - html:/srv/html
        configs:
          - nginx.conf:/etc/nginx/nginx.conf
          - { source: start.sh, mode: "0755", writable: true }
        egress: [ internet ]
        restart: "no"
    "#);
    insta::assert_snapshot!(decisions(&converted), @"
    web.configs: ./start.sh: what the task changes is gone with its next start
    volume html: ./html in Compose; imported once
    volume var-lib-data: ./var/lib/data in Compose; nothing was there
    volume missing-conf: ./missing.conf in Compose; nothing was there
    job: Compose implies `egress: [ internet ]`; remove it where a task needs none
    ");
    insta::assert_snapshot!(attempt(PATHS, &options(), &folder()).1, @"
    note: Compose implies it, so these may reach the internet: web
     --> compose.yaml:3:3
      |
    3 |   web:
      |   ^^^
      |
      = hint: to take it away, put a service on networks with `internal: true` alone

    note: disks that start with the content of these folders: ./html
     --> compose.yaml:8:9
      |
    8 |       - ./html:/srv/html
      |         ^^^^^^^^^^^^^^^^
      |
      = hint: later changes of a folder do not reach its disk; `lith cp` brings them there

    warning: `./missing.conf` is not there, so an empty disk is mounted at `/etc/missing.conf`
      --> compose.yaml:10:9
       |
    10 |       - ./missing.conf:/etc/missing.conf
       |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = hint: if it is a file, put it beside the Compose file first

    note: folders of the node, which its owner must have allowed: /srv/media
      --> compose.yaml:11:9
       |
    11 |       - /srv/media:/media:ro
       |         ^^^^^^^^^^^^^^^^^^^^
       |
       = hint: for a disk instead, write the name of a volume in front of the colon
    ");
}

#[test]
fn folders_can_be_shared_instead() {
    let shared = ConvertOptions { binds: Binds::Host { folder: String::from("/srv/me/shop") }, ..options() };
    let text = "services: { web: { image: web, volumes: [ \"./html:/srv/html\", \"../up:/up\" ] } }";
    let files = Folder::of([("html/", ""), ("../up/", "")]);
    let converted = with(text, &shared, &files);
    insta::assert_snapshot!(words(&task(&converted.job, "web").volumes), @"/srv/me/shop/html:/srv/html, /srv/me/up:/up");
}

#[test]
fn a_folder_within_another_one() {
    let text = "services: { a: { image: a, volumes: [ \"./data:/data\", \"./data/db:/db\" ] } }";
    insta::assert_snapshot!(told(text), @r#"
    note: Compose implies it, so these may reach the internet: a
     --> compose.yaml:1:13
      |
    1 | services: { a: { image: a, volumes: [ "./data:/data", "./data/db:/db" ] } }
      |             ^
      |
      = hint: to take it away, put a service on networks with `internal: true` alone

    warning: `./data/db` and `./data` are disks of their own here
     --> compose.yaml:1:55
      |
    1 | services: { a: { image: a, volumes: [ "./data:/data", "./data/db:/db" ] } }
      |                                                       ^^^^^^^^^^^^^^^
      |
      = hint: what is written into one is not seen in the other, as it is in Compose
    "#);
}

#[test]
fn files_that_cannot_travel() {
    struct Large;
    impl crate::source::Files for Large {
        fn kind(&self, path: &str) -> crate::source::PathKind {
            if path == ".env" { crate::source::PathKind::Absent } else { crate::source::PathKind::File }
        }
        fn read(&self, path: &str, bytes_max: usize) -> Result<Vec<u8>, String> {
            match path {
                "dump.sql" => Ok(vec![0; bytes_max + 1]),
                _ => Err(String::from("permission denied")),
            }
        }
    }
    let text = "services: { a: { image: a, volumes: [ \"./dump.sql:/dump.sql\", \"./key:/key\" ] } }";
    insta::assert_snapshot!(attempt(text, &options(), &Large).1, @r#"
    error: `./dump.sql` holds 524289 bytes; the limit is 524288
     --> compose.yaml:1:39
      |
    1 | services: { a: { image: a, volumes: [ "./dump.sql:/dump.sql", "./key:/key" ] } }
      |                                       ^^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: mount the folder that holds it: it becomes a disk

    error: `./key` cannot be read: permission denied
     --> compose.yaml:1:63
      |
    1 | services: { a: { image: a, volumes: [ "./dump.sql:/dump.sql", "./key:/key" ] } }
      |                                                               ^^^^^^^^^^^^
      |
      = hint: correct it, or mount the folder that holds it: it becomes a disk
    "#);
}

#[test]
fn the_time_zone_is_a_setting() {
    let text = "
services:
  a: { image: a, environment: { TZ: Asia/Tokyo }, volumes: [ \"/etc/localtime:/etc/localtime:ro\" ] }
  b: { image: b, volumes: [ \"/etc/timezone:/etc/timezone:ro\" ] }
  c: { image: c, volumes: [ \"/usr/share/zoneinfo/Europe/Rome:/etc/localtime\" ] }
";
    let here = ConvertOptions { timezone: Some(String::from("Europe/Berlin")), ..options() };
    let job = with(text, &here, &Folder::default()).job;
    let zone = |name: &str| task(&job, name).timezone.clone();
    assert_eq!(zone("a").as_deref(), Some("Asia/Tokyo"));
    assert_eq!(zone("b").as_deref(), Some("Europe/Berlin"));
    assert_eq!(zone("c").as_deref(), Some("Europe/Rome"));
    assert!(job.volumes.is_empty());
    insta::assert_snapshot!(told(text), @r#"
    note: Compose implies it, so these may reach the internet: a, b, c
     --> compose.yaml:3:3
      |
    3 |   a: { image: a, environment: { TZ: Asia/Tokyo }, volumes: [ "/etc/localtime:/etc/localtime:ro" ] }
      |   ^
      |
      = hint: to take it away, put a service on networks with `internal: true` alone

    note: the time zone is a setting of the task, so this is not mounted: /etc/localtime, /etc/timezone, /usr/share/zoneinfo/Europe/Rome
     --> compose.yaml:3:62
      |
    3 |   a: { image: a, environment: { TZ: Asia/Tokyo }, volumes: [ "/etc/localtime:/etc/localtime:ro" ] }
      |                                                              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: set `TZ` to have another one
    "#);
}

#[test]
fn drivers_that_are_a_folder_or_memory() {
    let text = "
services: { a: { image: a, volumes: [ \"disk:/disk\", \"here:/here\", \"fast:/fast\" ] } }
volumes:
  disk: { driver: local }
  here: { driver_opts: { type: none, o: bind, device: /srv/here } }
  fast: { driver_opts: { type: tmpfs, device: tmpfs } }
";
    let job = converted(text).job;
    insta::assert_snapshot!(words(&task(&job, "a").volumes), @"disk:/disk, /srv/here:/here");
    assert_eq!(words(&task(&job, "a").tmpfs), "/fast");
}

#[test]
fn secrets_and_configs() {
    let text = "
services:
  a:
    image: a
    secrets: [ password, { source: key, target: /etc/key, uid: \"1000\", mode: 0400 }, outside ]
    configs: [ site, { source: site, target: etc/site.conf } ]
secrets:
  password: { file: ./password.txt }
  key: { file: ./key.pem }
  outside: { external: true, name: shop_outside }
configs: { site: { content: \"a=1\" } }
";
    let files = Folder::of([("password.txt", "secret"), ("key.pem", "key")]);
    let converted = with(text, &options(), &files);
    let a = task(&converted.job, "a");
    let places = |mounts: &[lith_core::job::file::FileMount]| {
        let line = |m: &lith_core::job::file::FileMount| {
            format!("{} {} {:?} {:?}", m.source, m.target, m.uid, m.mode)
        };
        mounts.iter().map(line).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(places(&a.secrets), @"
    key /etc/key Some(1000) Some(256)
    shop_outside /run/secrets/outside None None
    password /run/secrets/password None None
    ");
    insta::assert_snapshot!(places(&a.configs), @"
    site /etc/site.conf None None
    site /site None None
    ");
    let from_store = converted.job.secrets.iter().filter(|(_, source)| **source == FileSource::Store);
    assert_eq!(from_store.map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["shop_outside"]);
}
