//! Small projects, one construct each, and what becomes of their services.
//!
//! The same projects are given to the reference where it is at hand.

use std::path::Path;

use super::summary::ours;
use super::{Case, Memory};
use crate::source::Named;

/// A project.
pub(super) struct Own {
    pub(super) name: &'static str,
    /// Every file; those whose names start with `compose` are laid over one another.
    files: &'static [(&'static str, &'static str)],
    set: &'static [(&'static str, &'static str)],
    profiles: &'static [&'static str],
    /// Each service in a line.
    expect: &'static str,
}

const BARE: Own = Own { name: "", files: &[], set: &[], profiles: &[], expect: "" };

impl Own {
    pub(super) fn case(&self) -> Case {
        let named = self.files.iter().filter(|(path, _)| path.starts_with("compose"));
        let named =
            named.map(|(path, text)| Named { path: (*path).to_owned(), bytes: text.as_bytes().to_vec() });
        let mut case = Case { named: named.collect(), files: Memory::of(self.files), ..Case::default() };
        case.profiles = self.profiles.iter().map(|profile| (*profile).to_owned()).collect();
        let set = self.set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        case.variables.set = set.collect();
        case
    }
}

pub(super) const CASES: &[Own] = &[
    Own {
        name: "scalars become the text that YAML makes of them",
        files: &[(
            "compose.yaml",
            "services: { a: { image: x, environment: { A: 002, B: 16.80, C: yes, D: True, E: 1_000, F: 0x1F, G: 0o17, H: 1e3, I: 123456789.0, J: 0.00001, K: .5, L: -0, M: 08, N: 22:22, O: \"002\", P: 1.0, Q: +12, R: .inf, S: 99999999999999999999, T: !!str 7, U: '', V: 1.2.3, W: 1e400 } } }\n",
        )],
        expect: "a: A=2; B=16.8; C=yes; D=true; E=1000; F=31; G=15; H=1000; I=1.23456789e+08; J=1e-05; K=0.5; L=0; M=8; N=22:22; O=002; P=1; Q=12; R=+Inf; S=1e+20; T=7; U=; V=1.2.3; W=1e400",
        ..BARE
    },
    Own {
        name: "every form of a variable",
        files: &[(
            "compose.yaml",
            "services:\n  a:\n    image: x\n    command: [\"$A\", \"${A}\", \"${N:-d}\", \"${E:-d}\", \"${E-d}\", \"${N-d}\", \"${A:+y}\", \"${E:+y}\", \"${E+y}\", \"${N+y}\", \"${A:?no}\", \"${E?no}\", \"$$A\", \"$$$A\", \"${N:-${M:-${A}}}\", \"${N:-{\\\"a\\\":1}}\", \"a$A-b${A}c\", \"$1 $ x$\", \"${N:-a:-b}\", \"${N:-$$A}\", \"${N:-}\"]\n",
        )],
        set: &[("A", "va"), ("E", "")],
        expect: "a: command [\"va\", \"va\", \"d\", \"d\", \"\", \"d\", \"y\", \"\", \"y\", \"\", \"va\", \"\", \"$A\", \"$va\", \"va\", \"{\\\"a\\\":1}\", \"ava-bvac\", \"$1 $ x$\", \"a:-b\", \"$A\", \"\"]",
        ..BARE
    },
    Own {
        name: "variables from `.env`, which what is set wins over",
        files: &[
            (
                "compose.yaml",
                "services:\n  a:\n    image: x\n    environment:\n      - A=$A\n      - B=$B\n      - C\n      - D\n      - E=\n",
            ),
            (".env", "# c\nA=1 # not this\nexport B=\"two ${A} \\n \\$A\"\nC='raw $A'\nA2=$A\n\nF=a#b\n"),
        ],
        set: &[("A", "set")],
        expect: "a: A=set; B=two set \n $A; C=raw $A; E=",
        ..BARE
    },
    Own {
        name: "files of variables below `environment`",
        files: &[
            (
                "compose.yaml",
                "services:\n  a:\n    image: x\n    environment: { A: own, N: }\n    env_file:\n      - one.env\n      - path: two.env\n      - { path: none.env, required: false }\n  b: { image: x, env_file: one.env }\n  c: { image: x, env_file: [ { path: raw.env, format: raw } ] }\n",
            ),
            ("one.env", "A=file\nB=one\nC=${B}-${A}\nQ=\"multi\nline\"\nX=y: z\n1A=skipped\n"),
            ("two.env", "B=two\nD=$C\nE=$$B\n"),
            ("raw.env", "A=\"quoted $B\"\n# c\nB=x # y\n"),
        ],
        set: &[("Z", "z")],
        expect: "a: 1A=skipped; A=own; B=two; C=one-own; D=one-own; E=$B; Q=multi\nline; X=y: z\nb: 1A=skipped; A=file; B=one; C=one-file; Q=multi\nline; X=y: z\nc: A=\"quoted $B\"; B=x # y",
        ..BARE
    },
    Own {
        name: "a later file over an earlier one",
        files: &[
            (
                "compose.yaml",
                "services:\n  a:\n    image: x\n    command: [one, two]\n    entrypoint: e\n    environment: { A: 1, B: 2, C: 3 }\n    ports: [ \"80:80\", \"443:443\" ]\n    volumes: [ \"./d:/d\", \"v:/v\" ]\n    depends_on: { b: { condition: service_healthy }, c: { condition: service_started } }\n  b: { image: y }\n  c: { image: z, environment: [ A=1 ] }\nvolumes: { v: }\n",
            ),
            (
                "compose.second.yaml",
                "services:\n  a:\n    command: three\n    environment: [ B=20, D ]\n    ports: [ \"80:80\", \"8080:80\", \"127.0.0.1:443:443\" ]\n    volumes: [ \"./e:/d:ro\", \"/n\" ]\n    depends_on: { b: { restart: true, condition: service_healthy } }\n  c: { environment: { A: 2, B: ~ } }\n",
            ),
            (
                "compose.third.yaml",
                "services:\n  a: { command: , depends_on: [ b ], volumes: [ { type: volume, source: v, target: /v, read_only: true } ] }\n",
            ),
        ],
        expect: "a: entrypoint [\"e\"]; A=1; B=20; C=3; port 127.0.0.1|443|443|tcp; port |443|443|tcp; port |8080|80|tcp; port |80|80|tcp; mount bind /p/q/e at /d ro; mount volume  at v:/v; mount volume  at /n; mount volume v at /v ro; after b service_started true; after c service_started true\nb: \nc: A=2",
        ..BARE
    },
    Own {
        name: "reset and override",
        files: &[
            (
                "compose.yaml",
                "services:\n  a:\n    image: x\n    ports: [ \"80:80\" ]\n    environment: { A: 1, B: 2 }\n    volumes: [ \"/a\", \"/b\" ]\n    depends_on: [ b ]\n    command: [ one ]\n  b: { image: y, environment: { A: 1 } }\n",
            ),
            (
                "compose.second.yaml",
                "services:\n  a:\n    ports: !reset []\n    environment: { A: !reset null, C: 3 }\n    volumes: !override [ \"/c\" ]\n    depends_on: !reset {}\n    command: !reset null\n  b: !override\n    image: z\n",
            ),
        ],
        expect: "a: B=2; C=3; mount volume  at /c\nb: ",
        ..BARE
    },
    Own {
        name: "extends, in this file and from another folder",
        files: &[
            (
                "compose.yaml",
                "x-e: &e { A: anchor, B: anchor }\nservices:\n  base: { image: x, environment: { <<: *e, B: own }, ports: [ \"80:80\" ], command: base }\n  a: { extends: base, environment: [ C=c ], ports: [ \"81:81\" ] }\n  b: { extends: { service: a }, command: [ b ] }\n  c: { extends: { file: sub/other.yaml, service: two }, environment: { D: d } }\n",
            ),
            (
                "sub/other.yaml",
                "services:\n  one: { image: y, volumes: [ \"./data:/data\" ], env_file: one.env, environment: { V: \"${V:-none}\" } }\n  two: { extends: one, volumes: [ \"../up:/up\", \"~/h:/h\" ] }\n",
            ),
            ("sub/one.env", "ONE=1\n"),
        ],
        set: &[("V", "v")],
        expect: "base: command [\"base\"]; A=anchor; B=own; port |80|80|tcp\na: command [\"base\"]; A=anchor; B=own; C=c; port |80|80|tcp; port |81|81|tcp\nb: command [\"b\"]; A=anchor; B=own; C=c; port |80|80|tcp; port |81|81|tcp\nc: D=d; ONE=1; V=v; mount bind /p/q/sub/data at /data; mount bind /p/q/up at /up; mount bind /nobody-home/h at /h",
        ..BARE
    },
    Own {
        name: "extends with reset, below another file",
        files: &[
            ("compose.yaml", "services:\n  a: { image: x, ports: [ \"1:1\" ], environment: { A: 1 } }\n"),
            (
                "compose.second.yaml",
                "services:\n  base: { image: y, ports: [ \"2:2\" ], environment: { B: 2 } }\n  a: { extends: base, ports: !reset [], environment: !override { C: 3 } }\n",
            ),
        ],
        expect: "a: C=3\nbase: B=2; port |2|2|tcp",
        ..BARE
    },
    Own {
        name: "include, short and long, each with its folder and variables",
        files: &[
            (
                "compose.yaml",
                "include:\n  - sub/inner.yaml\n  - path: [ other/one.yaml, other/two.yaml ]\n    env_file: other.env\n    project_directory: .\nservices:\n  a: { image: \"a:$TAG\", depends_on: [ inner, one ], environment: { T: \"${TAG:-outer}\" } }\n",
            ),
            (
                "sub/inner.yaml",
                "include: [ deeper/leaf.yaml ]\nservices:\n  inner: { image: x, environment: { T: \"${TAG:-none}\", S: \"$SET\" }, volumes: [ \"./i:/i\", \"v:/v\" ] }\nvolumes: { v: }\n",
            ),
            ("sub/.env", "TAG=inner\nSET=lost\n"),
            (
                "sub/deeper/leaf.yaml",
                "services:\n  leaf: { image: x, environment: { T: \"${TAG:-none}\" }, volumes: [ \"../l:/l\" ] }\n",
            ),
            (
                "other/one.yaml",
                "services:\n  one: { image: x, environment: { O: \"${OTHER:-none}\" }, volumes: [ \"./o:/o\" ] }\n",
            ),
            ("other/two.yaml", "services:\n  one: { command: two }\n"),
            ("other.env", "OTHER=given\n"),
        ],
        set: &[("SET", "set")],
        expect: "a: T=outer; after inner service_started true; after one service_started true\ninner: S=set; T=inner; mount bind /p/q/sub/i at /i; mount volume  at v:/v\nleaf: T=inner; mount bind /p/q/sub/l at /l\none: command [\"two\"]; O=given; mount bind /p/q/o at /o",
        ..BARE
    },
    Own {
        name: "profiles",
        files: &[(
            "compose.yaml",
            "services:\n  a: { image: x, depends_on: { b: { condition: service_started, required: false }, c: { condition: service_started } } }\n  b: { image: x, profiles: [ debug ] }\n  c: { image: x, profiles: [ on, other ] }\n",
        )],
        profiles: &["on"],
        expect: "a: after b service_started false; after c service_started true\nc: ",
        ..BARE
    },
    Own {
        name: "commands in one text",
        files: &[(
            "compose.yaml",
            "services:\n  a: { image: x, command: \"sh -c 'a; b' \\\"c d\\\" e\\\\ f # g\" }\n  b: { image: x, command: \"echo a 2>b && c\" }\n  c: { image: x, command: \"\", entrypoint: \"\" }\n  d: { image: x, command: [], entrypoint: [ \"\" ] }\n  e: { image: x, command: \"a `b c` '' d\\\"e f\\\"g x\\\\ty\" }\n  f: { image: x, command: \"echo $$(date +%s) x\" }\n",
        )],
        expect: "a: command [\"sh\", \"-c\", \"a; b\", \"c d\", \"e f\", \"#\", \"g\"]\nb: command [\"echo\", \"a\"]\nc: entrypoint []; command []\nd: entrypoint [\"\"]; command []\ne: command [\"a\", \"`b c`\", \"\", \"de fg\", \"xty\"]\nf: command [\"echo\", \"$(date +%s)\", \"x\"]",
        ..BARE
    },
    Own {
        name: "ports, short and long",
        files: &[(
            "compose.yaml",
            "services:\n  a:\n    image: x\n    ports: [ 80, \"81:8081\", 22222:22, \"127.0.0.1::82\", \"[::1]:83:83/udp\", \"3000-3002:4000-4002\", \"5000-5002:50\", \"6000-6001\", { target: 90, published: 9000-9002, protocol: udp, host_ip: 10.0.0.1 }, { target: \"91\" } ]\n",
        )],
        expect: "a: port 10.0.0.1|9000-9002|90|udp; port 127.0.0.1||82|tcp; port ::1|83|83|udp; port |22222|22|tcp; port |3000|4000|tcp; port |3001|4001|tcp; port |3002|4002|tcp; port |5000-5002|50|tcp; port |81|8081|tcp; port ||6000|tcp; port ||6001|tcp; port ||80|tcp; port ||91|tcp",
        ..BARE
    },
    Own {
        name: "mounts, short and long",
        files: &[(
            "compose.yaml",
            "services:\n  a:\n    image: x\n    volumes:\n      - /anonymous/\n      - data:/data\n      - ./here/../there:/there:ro,z\n      - .:/self\n      - ../up:/up\n      - ~/home:/home\n      - /abs:/abs:rshared\n      - data:/sub/./x:nocopy\n      - { type: bind, source: ./long, target: /long/, read_only: true }\n      - { type: volume, target: /anon2 }\n      - { type: tmpfs, target: /t, tmpfs: { size: 64m, mode: 0700 } }\n      - rel\n      - ./a:/there2\n      - ./b:/there2\nvolumes: { data: }\n",
        )],
        expect: "a: mount volume  at /anonymous; mount volume data at /data; mount bind /p/q/there at /there ro; mount bind /p/q at /self; mount bind /p/up at /up; mount bind /nobody-home/home at /home; mount bind /abs at /abs; mount volume data at /sub/x; mount bind /p/q/long at /long ro; mount volume  at /anon2; mount tmpfs  at /t; mount volume  at rel; mount bind /p/q/b at /there2",
        ..BARE
    },
    Own {
        name: "what makes one service wait for another",
        files: &[(
            "compose.yaml",
            "services:\n  a: { image: x, links: [ b, \"c:d\" ], network_mode: \"service:e\", volumes_from: [ \"f:ro\", \"container:g\" ], ipc: \"service:h\" }\n  b: { image: x }\n  c: { image: x }\n  e: { image: x }\n  f: { image: x }\n  h: { image: x }\n",
        )],
        expect: "a: after b service_started true; after c service_started true; after e service_started true; after f service_started true; after h service_started true\nb: \nc: \ne: \nf: \nh: ",
        ..BARE
    },
    Own {
        name: "several documents in one file",
        files: &[(
            "compose.yaml",
            "services:\n  a: { image: x, environment: { A: 1 } }\n---\nservices:\n  a: { environment: { B: 2 } }\n  b: { image: y }\n",
        )],
        expect: "a: A=1; B=2\nb: ",
        ..BARE
    },
    Own {
        name: "the name of the project",
        files: &[(
            "compose.yaml",
            "name: My_${N:-App}\nservices:\n  a: { image: x, environment: { P: $COMPOSE_PROJECT_NAME } }\n",
        )],
        expect: "a: P=my_app",
        ..BARE
    },
];

#[test]
fn services() {
    let mut wrong = Vec::new();
    for own in CASES {
        let (loaded, diagnostics) = own.case().load();
        let loaded = loaded.unwrap_or_else(|| panic!("{}: {:#?}", own.name, diagnostics.list));
        let lines = loaded
            .project
            .services
            .iter()
            .map(|service| format!("{}: {}", service.name.value, ours(service, Path::new("/p/q"))));
        let found = lines.collect::<Vec<String>>().join("\n");
        if found != own.expect {
            wrong.push(format!("{}\n{found}", own.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n@@\n"));
}
