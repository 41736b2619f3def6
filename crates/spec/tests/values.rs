//! Accepted files and the jobs they mean, as tables.

use std::time::Duration;

use lith_core::job::{Bytes, JobSpec, RestartPolicy, TaskSpec};
use lith_spec::{Code, Colour, Severity, check, read, to_yaml};

/// The job of an accepted file.
fn job(text: &str) -> JobSpec {
    let job = read("job.yaml", text).map_err(|diagnostics| diagnostics.render(Colour::None));
    job.expect("the file is accepted")
}

/// The only task of a job, with these lines in it.
fn task(lines: &str) -> TaskSpec {
    let text = format!("job: j\ntasks:\n  t:\n    image: nginx\n{lines}");
    job(&text).tasks().next().expect("one task is written").2.clone()
}

#[test]
fn tasks_alone_make_one_group() {
    let job = job(
        "job: shop\ntasks:\n  web: { image: nginx:1.27, publish: [ 8080 ] }\n  db:\n    image: postgres\n",
    );
    assert_eq!(job.name.as_str(), "shop");
    let ids: Vec<String> =
        job.tasks().map(|(group, task, spec)| format!("{group}.{task} {}", spec.image)).collect();
    assert_eq!(ids, ["main.db postgres", "main.web nginx:1.27"]);
}

#[test]
fn a_group_gives_its_restart_to_its_tasks() {
    let job = job(
        "job: j\ngroups:\n  g:\n    count: 3\n    restart: no\n    tasks:\n      a: { image: x }\n      b: { image: x, restart: on-failure:2 }\n",
    );
    let restarts: Vec<RestartPolicy> = job.tasks().map(|(_, _, spec)| spec.restart).collect();
    assert_eq!(restarts, [RestartPolicy::Never, RestartPolicy::OnFailure { retries_max: Some(2) }]);
    assert_eq!(job.groups.values().map(|group| group.count).collect::<Vec<_>>(), [3]);
}

#[test]
fn defaults() {
    let task = task("");
    assert_eq!(task.memory, Bytes(256 << 20));
    assert_eq!(task.stop_grace, Duration::from_secs(10));
    assert_eq!(task.restart, RestartPolicy::Always);
    assert_eq!(task.command, None);
}

#[test]
fn the_whole_task_survives_writing() {
    let text = "job: j\ntasks:\n  t:\n    image: nginx\n    command: sh -c \"echo 'a b'\"\n    entrypoint: [ /x ]\n    env: { A: 022, B: yes }\n    user: 1000:1000\n    working_dir: /srv\n    memory: 1.5G\n    cpus: 0.5\n    ports: [ 80, 53/udp ]\n    publish: [ 8080, \"127.0.0.1:53:53/udp\" ]\n    restart: on-failure:3\n    stop_signal: term\n    stop_grace: 1m30s\n";
    let first = job(text);
    insta::assert_snapshot!(to_yaml(&first), @r#"
    job: j
    tasks:
      t:
        image: nginx
        entrypoint: [ /x ]
        command: [ sh, "-c", "echo 'a b'" ]
        env:
          A: "022"
          B: "yes"
        user: "1000:1000"
        working_dir: /srv
        memory: 1536M
        cpus: 0.5
        ports: [ 53/udp, 80 ]
        publish: [ "8080:8080", "127.0.0.1:53:53/udp" ]
        restart: on-failure:3
        stop_signal: SIGTERM
        stop_grace: 1m30s
    "#);
    assert_eq!(job(&to_yaml(&first)), first);
}

/// Each text is accepted for the key and means the same as the other.
fn check_same(key: &str, pairs: &[(&str, &str)]) {
    for (one, other) in pairs {
        assert_eq!(
            task(&format!("    {key}: {one}\n")),
            task(&format!("    {key}: {other}\n")),
            "{key}: {one}"
        );
    }
}

#[test]
fn quantities() {
    for (text, bytes) in [
        ("64M", 64 << 20),
        ("1.5G", 1536 << 20),
        ("512MiB", 512 << 20),
        ("1gb", 1 << 30),
        ("\"1 GB\"", 1 << 30),
        ("67108864", 64 << 20),
        ("67108864b", 64 << 20),
        ("1048576k", 1 << 30),
        ("4T", 4 << 40),
        ("0.0625g", 64 << 20),
    ] {
        assert_eq!(task(&format!("    memory: {text}\n")).memory, Bytes(bytes), "{text}");
    }
    for (text, millis) in [("1", 1000), ("0.5", 500), ("1.250", 1250), ("0.01", 10), ("64", 64_000)] {
        assert_eq!(task(&format!("    cpus: {text}\n")).cpus.0, millis, "{text}");
    }
    for (text, millis) in [
        ("10s", 10_000),
        ("1m30s", 90_000),
        ("500ms", 500),
        ("0", 0),
        ("0s", 0),
        ("1.5s", 1500),
        ("1h", 3_600_000),
    ] {
        assert_eq!(
            task(&format!("    stop_grace: {text}\n")).stop_grace,
            Duration::from_millis(millis),
            "{text}"
        );
    }
}

#[test]
fn forms_that_mean_the_same() {
    check_same(
        "publish",
        &[
            ("[ 8080 ]", "[ \"8080:8080\" ]"),
            ("[ \"8080:80/tcp\" ]", "[ 8080:80 ]"),
            ("[ \"0.0.0.0:8080:80\" ]", "[ 8080:80 ]"),
            ("[ 22222:22 ]", "[ \"22222:22\" ]"),
        ],
    );
    check_same(
        "env",
        &[("{ A: 1, B: x=y }", "[ A=1, B=x=y ]"), ("[ A= ]", "{ A: \"\" }"), ("{ A: 022 }", "[ A=022 ]")],
    );
    check_same("restart", &[("unless-stopped", "always"), ("never", "no")]);
    check_same(
        "stop_signal",
        &[("TERM", "SIGTERM"), ("sigterm", "SIGTERM"), ("rtmin+3", "SIGRTMIN+3"), ("015", "15")],
    );
    check_same(
        "command",
        &[
            ("sh -c \"echo 'a b'\"", "[ sh, -c, \"echo 'a b'\" ]"),
            ("'a \"b\\\"c\" \\d'", "[ a, 'b\"c', d ]"),
            ("\"a '' b\"", "[ a, \"\", b ]"),
            ("\"a #b\"", "[ a, \"#b\" ]"),
            ("\"\"", "[]"),
            ("|\n      a\n      b\n", "[ a, b ]"),
        ],
    );
    check_same("memory", &[("", "256M"), ("~", "256M"), ("null", "256M")]);
}

#[test]
fn images() {
    let digest = format!("app@sha256:{}", "0".repeat(64));
    for image in [
        "nginx",
        "nginx:1.27-alpine",
        "library/nginx",
        "registry.example:5000/team/my_app.web--x:V1.2_rc",
        "localhost/app",
        "127.0.0.1:5000/app:1",
        &digest,
        &format!("registry.example/{digest}"),
    ] {
        assert_eq!(
            job(&format!("job: j\ntasks: {{ t: {{ image: \"{image}\" }} }}\n"))
                .tasks()
                .next()
                .unwrap()
                .2
                .image,
            image
        );
    }
}

#[test]
fn users_and_paths() {
    for user in ["www-data", "1000", "1000:1000", "root:adm", "0"] {
        assert_eq!(task(&format!("    user: {user}\n")).user.as_deref(), Some(user));
    }
    assert_eq!(task("    working_dir: /var/lib/app\n").working_dir.as_deref(), Some("/var/lib/app"));
}

#[test]
fn anchors_and_merges() {
    let job = job(
        "job: j\ntasks:\n  a: &a { image: x, memory: 1G, env: { A: b } }\n  b: *a\n  c: { <<: *a, memory: 2G }\n  d: { <<: [ { cpus: 1 }, *a ] }\n",
    );
    let shown: Vec<String> =
        job.tasks().map(|(_, _, task)| format!("{} {} {}", task.image, task.memory, task.cpus)).collect();
    assert_eq!(shown, ["x 1G 2", "x 1G 2", "x 2G 2", "x 1G 1"]);
}

#[test]
fn warnings_do_not_refuse() {
    let reading =
        check("job.yaml", "job: j\ntasks:\n  t: { image: x, ports: [ 80, 80 ], command: a && b }\n");
    let found: Vec<(Severity, Code)> =
        reading.diagnostics.list.iter().map(|diagnostic| (diagnostic.severity, diagnostic.code)).collect();
    assert_eq!(found, [(Severity::Warning, Code::Repeated), (Severity::Warning, Code::ShellSyntax)]);
    let job = reading.job.expect("warnings do not refuse");
    let task = job.tasks().next().unwrap().2;
    assert_eq!(task.ports.len(), 1);
    assert_eq!(task.command.as_deref(), Some(["a", "&&", "b"].map(String::from).as_slice()));
    // A quoted operator is meant.
    let quoted = check("job.yaml", "job: j\ntasks:\n  t: { image: x, command: \"a '&&' b\" }\n");
    assert!(quoted.diagnostics.list.is_empty());
}
