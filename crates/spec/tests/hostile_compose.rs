//! Compose files of any kind: none makes the converter panic, every report is bounded, and what converts is a job file that
//! is accepted again and means the same.

use std::collections::BTreeMap;

use lith_core::job::file::FileSource;
use lith_spec::{
    Binds, Colour, ComposeOptions, ComposeReading, DIAGNOSTICS_MAX, Files, Named, PathKind, Variables,
    check_compose, check_job, to_yaml_with,
};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

/// What stands beside the Compose files.
const FILES: [(&str, &str); 6] = [
    (".env", "A=one\nB=\n"),
    ("x.env", "X=1\nY=${A}\n"),
    ("pw", "s3cret"),
    ("run.sh", "#!/bin/sh\n"),
    ("inc.yaml", "services: { d: { image: d, networks: [ n ] } }\nnetworks: { n: }\n"),
    ("base.yaml", "services: { base: { image: base, environment: { FROM: base } } }\n"),
];

struct Beside;

impl Files for Beside {
    fn kind(&self, path: &str) -> PathKind {
        match path {
            "data" | "data/inner" => PathKind::Folder,
            _ if FILES.iter().any(|(name, _)| *name == path) => PathKind::File,
            _ => PathKind::Absent,
        }
    }

    fn read(&self, path: &str, bytes_max: usize) -> Result<Vec<u8>, String> {
        let found = FILES.iter().find(|(name, _)| *name == path).map(|(_, text)| text.as_bytes().to_vec());
        found.filter(|bytes| bytes.len() <= bytes_max).ok_or_else(|| String::from("there is no such file"))
    }
}

/// Lines of a service: each key with values of it, some of which mean nothing.
const LINES: &[(&str, &[&str])] = &[
    ("image", &["a", "registry.example/a:1", "${A}:${TAG:-1}", "A B"]),
    ("command", &["run it", "[ run, \"$$HOME\" ]", "'sh -c \"a b\"'", "a && b", "wait-for b:80"]),
    ("entrypoint", &["[]", "/bin/a", "''"]),
    ("environment", &["{ B_URL: 'http://b:80/', C_HOST: c, C_PORT: 9 }", "[ A, N=1, GONE ]", "{ X: $A }"]),
    ("env_file", &["x.env", "[ { path: gone.env, required: false } ]", "gone.env"]),
    (
        "ports",
        &["[ '80:80' ]", "[ 3000, '127.0.0.1:81:80/udp' ]", "[ '9000-9002:9000-9002' ]", "[ '0' ]", "80"],
    ),
    ("expose", &["[ 80 ]", "[ '81-83/udp' ]", "[ x ]"]),
    (
        "volumes",
        &[
            "[ 'data:/srv' ]",
            "[ ./data:/a, ./data/inner:/b ]",
            "[ ./run.sh:/run.sh:ro, /anon ]",
            "[ /etc/localtime:/etc/localtime ]",
            "[ /srv/x:/x ]",
            "[ { type: tmpfs, target: /t } ]",
            "[ v:/v ]",
        ],
    ),
    ("tmpfs", &["/tmp", "[ '/run:size=1m,mode=1777' ]", "[ x ]"]),
    ("secrets", &["[ pw ]", "[ { source: pw, target: /p, uid: '1', mode: 0400 } ]", "[ var ]", "[ outer ]"]),
    ("configs", &["[ conf ]", "[ { source: conf, target: /etc/conf } ]", "[ gone ]"]),
    (
        "depends_on",
        &[
            "[ b ]",
            "{ b: { condition: service_healthy } }",
            "{ c: { condition: service_completed_successfully, required: false } }",
            "[ nobody ]",
        ],
    ),
    ("links", &["[ c ]", "[ 'b:store' ]"]),
    ("networks", &["[ front ]", "{ back: { aliases: [ b, store ] }, front: }", "[ gone ]"]),
    ("network_mode", &["none", "host", "'service:b'"]),
    (
        "healthcheck",
        &[
            "{ test: [ CMD, a ], interval: 5s }",
            "{ test: curl b, retries: 3 }",
            "{ disable: true }",
            "{ interval: 99d }",
        ],
    ),
    ("restart", &["always", "unless-stopped", "'on-failure:3'", "'no'", "maybe"]),
    ("scale", &["0", "2", "1", "1000"]),
    (
        "deploy",
        &[
            "{ replicas: 3 }",
            "{ mode: replicated-job }",
            "{ resources: { limits: { cpus: '0.5', memory: 1G } } }",
            "{ update_config: { order: start-first, failure_action: rollback } }",
            "{ mode: global }",
        ],
    ),
    ("mem_limit", &["64m", "1k", "9t", "'0'"]),
    ("cpus", &["1.5", "0.001", "900"]),
    ("user", &["'1000:1000'", "a b"]),
    ("hostname", &["box", "b", "-x"]),
    ("container_name", &["shop_a", "c"]),
    ("extra_hosts", &["[ 'db:10.0.0.1', 'node:host-gateway' ]", "{ h: '::1' }"]),
    ("devices", &["[ /dev/fuse ]", "[ /dev/ttyUSB0 ]"]),
    ("privileged", &["true"]),
    ("cap_add", &["[ NET_ADMIN ]"]),
    ("sysctls", &["{ net.core.somaxconn: 1 }", "[ 'a.b=c' ]"]),
    ("ulimits", &["{ nofile: 10 }", "{ nofile: { soft: 20, hard: 10 } }", "{ core: -1 }"]),
    ("logging", &["{ driver: json-file, options: { max-size: 10m, max-file: '3' } }", "{ driver: syslog }"]),
    ("profiles", &["[ extra ]"]),
    ("extends", &["{ file: base.yaml, service: base }", "b"]),
    ("stop_grace_period", &["10s", "9h"]),
    ("stop_signal", &["SIGINT", "x"]),
    ("gpus", &["all", "[ { count: 2 } ]"]),
    ("labels", &["[ a=b ]"]),
    ("pid", &["host", "private"]),
    ("working_dir", &["/srv", "srv"]),
    ("init", &["true"]),
];

/// What services share.
const SHARED: &[(&str, &[&str])] = &[
    ("name", &["shop", "My_Shop", "${A}-x"]),
    (
        "volumes",
        &["{ data: }", "{ data: { external: true } }", "{ data: { driver: nfs } }", "{ v: , data: }"],
    ),
    ("networks", &["{ front: , back: { internal: true } }", "{ front: { driver: macvlan }, back: }"]),
    (
        "secrets",
        &[
            "{ pw: { file: pw }, var: { environment: A }, outer: { external: true } }",
            "{ pw: { file: gone } }",
        ],
    ),
    ("configs", &["{ conf: { content: 'a $A' } }", "{ conf: { file: ./run.sh } }"]),
    ("include", &["[ inc.yaml ]", "[ gone.yaml ]"]),
];

/// What services may name.
const DECLARED: &str = "volumes: { data: }
networks: { front: , back: }
configs: { conf: { content: x } }
secrets: { pw: { file: pw }, var: { environment: A }, outer: { external: true } }
";

/// Lines of some of these keys, each with one of its values.
fn lines(
    keys: &'static [(&'static str, &'static [&'static str])],
    most: usize,
) -> impl Strategy<Value = Vec<String>> {
    subsequence(keys, 0..=most).prop_flat_map(|chosen| {
        let line = |(key, values): (&'static str, &'static [&'static str])| {
            // The first of them is right, and more frequent for it.
            prop_oneof![5 => Just(values[0]), 2 => select(values)]
                .prop_map(move |value| format!("{key}: {value}"))
        };
        chosen.into_iter().map(line).collect::<Vec<_>>()
    })
}

/// A Compose file, or one that is laid over it.
fn file(is_first: bool) -> impl Strategy<Value = String> {
    let services = proptest::collection::vec((select(vec!["a", "b", "c", "My_App"]), lines(LINES, 6)), 1..4);
    (services, lines(SHARED, 4)).prop_map(move |(services, shared)| {
        let mut text: String = if is_first {
            String::from(DECLARED)
        } else {
            shared.iter().map(|line| format!("{line}\n")).collect()
        };
        let mut services: BTreeMap<&str, Vec<String>> = services.into_iter().collect();
        if is_first {
            for name in ["a", "b", "c"] {
                services.entry(name).or_default();
            }
        }
        for (name, lines) in &mut services {
            // What the others wait for waits for nothing: most files would be circles.
            let waits = |line: &str| line.starts_with("depends_on") || line.starts_with("links");
            lines.retain(|line| !(["b", "c"].contains(name) && waits(line)));
            if !lines.iter().any(|line| line.starts_with("image:")) {
                lines.push(format!("image: {}", name.to_lowercase()));
            }
        }
        text.push_str("services:\n");
        for (name, lines) in services {
            text.push_str(&format!("  {name}:\n    x-any: 1\n"));
            lines.iter().for_each(|line| text.push_str(&format!("    {line}\n")));
        }
        text
    })
}

fn named(texts: &[String]) -> Vec<Named> {
    let name = |(at, text): (usize, &String)| Named {
        path: format!("compose.{at}.yaml"),
        bytes: text.as_bytes().to_vec(),
    };
    texts.iter().enumerate().map(name).collect()
}

fn options() -> impl Strategy<Value = ComposeOptions> {
    (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(narrow, make, is_host, is_all)| ComposeOptions {
            folder: String::from("/srv/shop"),
            narrow,
            create_missing_volumes: make,
            binds: if is_host { Binds::Host } else { Binds::Import },
            profiles: if is_all { vec![String::from("*")] } else { Vec::new() },
            ..ComposeOptions::default()
        },
    )
}

/// What is said is bounded, and stands where it says; what converts is accepted again, and is the same job.
fn check_survives(texts: &[String], options: &ComposeOptions) -> ComposeReading {
    let named = named(texts);
    let reading = check_compose(&named, options, &Variables::default(), &Beside);
    let shown = || texts.join("---\n");
    assert_eq!(reading.job.is_none(), reading.diagnostics.has_errors(), "{}", shown());
    assert!(reading.diagnostics.list.len() <= DIAGNOSTICS_MAX);
    assert!(reading.diagnostics.render(Colour::Ansi).len() < 200_000, "{}", shown());
    for found in &reading.diagnostics.list {
        let files = named.iter().map(|file| (file.path.as_str(), file.bytes.as_slice()));
        let beside = FILES.iter().map(|(name, text)| (*name, text.as_bytes()));
        let (_, bytes) = files.chain(beside).find(|(name, _)| *name == found.file).expect("a file of these");
        let lines = bytes.split(|byte| *byte == b'\n').count();
        assert!((1..=lines).contains(&found.line) && found.column >= 1 && found.length >= 1, "{found}");
        assert!(!found.message.contains('\n') && !found.message.ends_with('.'), "{found}");
    }
    let Some(job) = &reading.job else { return reading };
    let text = to_yaml_with(job, &reading.comments);
    let set = job.secrets.values().chain(job.configs.values()).filter_map(|source| match source {
        FileSource::Variable { name, content } => {
            Some((name.clone(), String::from_utf8_lossy(&content.0).into_owned()))
        }
        FileSource::Store | FileSource::File { .. } | FileSource::Inline(_) => None,
    });
    let variables = Variables { set: set.collect(), ..Variables::default() };
    let written = Named { path: String::from("job.yaml"), bytes: text.clone().into_bytes() };
    let again = check_job(&[written], &variables, &Beside);
    let report = again.diagnostics.render(Colour::None);
    assert_eq!(again.job.as_ref(), Some(job), "{}\n{text}\n{report}", shown());
    reading
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn what_converts_means_the_same(first in file(true), over in proptest::option::of(file(false)), options in options()) {
        let texts: Vec<String> = std::iter::once(first).chain(over).collect();
        check_survives(&texts, &options);
    }

    /// Lines in any order, with others lost among them.
    #[test]
    fn no_lines_panic(
        texts in proptest::collection::vec((file(true), file(false), any::<u64>()), 1..4),
        options in options(),
    ) {
        let torn = |(one, other, seed): (String, String, u64)| {
            let kept = |(at, _): &(usize, &str)| seed.rotate_left(u32::try_from(at % 64).unwrap_or(0)) & 3 != 0;
            let lines = one.lines().chain(other.lines()).enumerate().filter(kept);
            lines.map(|(_, line)| format!("{line}\n")).collect::<String>()
        };
        let texts: Vec<String> = texts.into_iter().map(torn).collect();
        check_survives(&texts, &options);
    }

    /// A value of any key, as text, as an item and as a key.
    #[test]
    fn no_value_panics(
        key in select(LINES.iter().map(|(key, _)| *key).collect::<Vec<_>>()),
        value in "[0-9a-zA-Z:./+\\-_@=' \\\\*,$\\{\\}\\[\\]]{0,30}|\\PC{0,12}",
    ) {
        let quoted = value.replace('\'', "''");
        for form in [format!("'{quoted}'"), format!("[ '{quoted}' ]"), format!("{{ '{quoted}': '{quoted}' }}"), value] {
            check_survives(&[format!("services:\n  a:\n    image: x\n    {key}: {form}\n")], &ComposeOptions::default());
        }
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        check_survives(&[text.clone(), text], &ComposeOptions::default());
    }
}
