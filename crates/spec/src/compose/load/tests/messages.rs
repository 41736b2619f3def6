//! Every message that loading can give, with its place.

use super::{Case, Memory};
use crate::diagnostic::Severity;

/// What is said of these files: place, code, message and hint, a line each. Files that start with `compose` are laid over
/// one another.
fn told(files: &[(&str, &str)], profiles: &[&str]) -> String {
    let mut case = Case::of(&[]);
    for (path, text) in files.iter().filter(|(path, _)| path.starts_with("compose")) {
        case.named.push(crate::source::Named { path: (*path).to_owned(), bytes: text.as_bytes().to_vec() });
    }
    case.files = Memory::of(files);
    case.profiles = profiles.iter().map(|profile| (*profile).to_owned()).collect();
    let (_, diagnostics) = case.load();
    let lines = diagnostics.list.iter().map(|found| {
        let kind = if found.severity == Severity::Error { "" } else { "(warning) " };
        let hint = found.hint.as_ref().map(|hint| format!(" => {hint}")).unwrap_or_default();
        format!(
            "{kind}{}:{}:{} {}: {}{hint}",
            found.file, found.line, found.column, found.code, found.message
        )
    });
    lines.collect::<Vec<String>>().join("\n")
}

fn check(name: &str, text: &str, expect: &str, wrong: &mut Vec<String>) {
    let found = told(&[("compose.yaml", text)], &[]);
    let found = found.replace("compose.yaml:", "");
    if found != expect {
        wrong.push(format!("{name}\n{found}"));
    }
}

/// A text, and what is said of it.
const ONE_FILE: &[(&str, &str, &str)] = &[
    (
        "nothing",
        "",
        "1:1 empty: the file holds nothing => the smallest Compose file is `services: { web: { image: nginx } }`",
    ),
    (
        "comment",
        "# only\n",
        "1:1 empty: the file holds nothing => the smallest Compose file is `services: { web: { image: nginx } }`",
    ),
    (
        "null",
        "~\n",
        "1:1 empty: the file holds nothing => the smallest Compose file is `services: { web: { image: nginx } }`",
    ),
    (
        "list",
        "- a\n",
        "1:1 wrong-type: a Compose file is a mapping, not a list => the smallest Compose file is `services: { web: { image: nginx } }`",
    ),
    (
        "unknown keys",
        "servces: {}\nservices: { a: { image: x, imge: y, comand: z, zzz: 1 } }\nnetworks: { n: { internl: true } }\n",
        "1:1 unknown-key: a Compose file has no key `servces` => did you mean `services`?\n\
         2:28 unknown-key: a service has no key `imge` => did you mean `image`?\n\
         2:37 unknown-key: a service has no key `comand` => did you mean `command`?\n\
         2:48 unknown-key: a service has no key `zzz` => remove it; a key of your own starts with `x-`\n\
         3:18 unknown-key: a network has no key `internl` => did you mean `internal`?",
    ),
    (
        "types",
        "version: 3.8\nservices:\n  a: { image: 5, hostname: true, ports: 80, environment: [ 5 ], labels: [ a, { b: c } ], command: { a: b }, healthcheck: [ a ], deploy: x, user: 2024-01-31 }\n  b:\n  c: { image: x, command: [ 5 ], volumes: [ { type: bnd, target: /a } ], depends_on: { a: { condition: healthy } } }\n",
        "1:10 wrong-type: `version` must be text, not a number => put it in quotes: `\"3.8\"`\n\
         3:15 wrong-type: `image` must be text, not a number => put it in quotes: `\"5\"`\n\
         3:28 wrong-type: `hostname` must be text, not `true` or `false` => put it in quotes: `\"true\"`\n\
         3:41 wrong-type: `ports` must be a list, not a number => write a list, each item after `- `\n\
         3:60 wrong-type: an item of `environment` must be text, not a number => put it in quotes: `\"5\"`\n\
         3:78 wrong-type: an item of `labels` must be text, not a mapping\n\
         3:99 wrong-type: `command` must be text or a list, not a mapping\n\
         3:122 wrong-type: `healthcheck` must be a mapping, not a list\n\
         3:137 wrong-type: `deploy` must be a mapping, not text => write a mapping: lines of `key: value` below it\n\
         3:146 wrong-type: `user` is a date to YAML => put it in quotes: `\"2024-01-31\"`\n\
         4:4 wrong-type: `b` must be a mapping, not nothing => give it a value, or remove it\n\
         5:29 wrong-type: an item of `command` must be text, not a number => put it in quotes: `\"5\"`\n\
         5:53 wrong-type: `type` cannot be `bnd` => did you mean `bind`?\n\
         5:104 wrong-type: `condition` cannot be `healthy` => write one of service_completed_successfully, service_healthy, service_started",
    ),
    (
        "required",
        "services: { a: { image: x, volumes: [ { source: a } ], depends_on: { b: {} }, extends: { file: x }, ulimits: { nofile: { soft: 1 } } }, b: { image: x } }\n",
        "1:39 missing-key: a mount needs `type` => add `type:` here\n\
         1:73 missing-key: a dependency needs `condition` => add `condition:` here\n\
         1:88 missing-key: `extends` needs `service` => add `service:` here\n\
         1:120 missing-key: a limit of `ulimits` needs `hard` => add `hard:` here",
    ),
    (
        "names",
        "services: { 'a b': { image: x }, c: { image: x, ulimits: { NOFILE: 1 } } }\nvolumes: { 5: }\n",
        "1:13 bad-name: `a b` is not a name in `services` => names are made of letters, digits, `.`, `_` and `-`\n\
         1:60 bad-name: `NOFILE` is not a name in `ulimits` => names are made of small letters\n\
         2:12 bad-key: the key `5` is not text to YAML => put it in quotes: `\"5\"`",
    ),
    (
        "twice",
        "services: { a: { image: x, security_opt: [ a, b, a ], depends_on: [ b, b ] }, b: { image: x } }\n",
        "1:50 repeated: `a` stands twice in this list => keep one of them\n\
         1:72 repeated: `b` stands twice in this list => keep one of them",
    ),
    (
        "references",
        "services: { a: { image: x, networks: [ fron ], secrets: [ s ], configs: [ c ], depends_on: [ bb ], network_mode: \"service:q\" }, b: { image: x } }\nnetworks: { front: }\n",
        "1:40 conflicting-keys: `networks` and `network_mode` exclude each other => keep `networks`, or `network_mode: service:q`\n\
         1:40 unknown-reference: the file has no network `fron` => did you mean `front`?\n\
         1:59 unknown-reference: the file has no secret `s` => declare it: `s:` below `secrets:` at the top of the file\n\
         1:75 unknown-reference: the file has no config `c` => declare it: `c:` below `configs:` at the top of the file\n\
         1:94 unknown-reference: the file has no service `bb` => name a service of the project\n\
         1:114 unknown-reference: the file has no service `q` => name a service of the project",
    ),
    (
        "circles",
        "services: { a: { image: x, depends_on: [ b ] }, b: { image: x, depends_on: [ c ] }, c: { image: x, depends_on: [ b ] }, d: { image: x, depends_on: [ d ] } }\n",
        "1:114 circle: services wait for each other: `b → c → b` => remove one of these dependencies\n\
         1:150 circle: services wait for each other: `d → d` => remove one of these dependencies",
    ),
    (
        "no source",
        "services: { a: { restart: always }, b: { provider: { type: model } } }\n",
        "1:13 missing-key: the service `a` has neither `image` nor `build` => name an image, or the file that this one is to be read over before it\n\
         1:42 unsupported-key: the service `b` is made by a program beside Compose => lith runs images; name one with `image`",
    ),
    (
        "conflicts",
        "services:\n  a: { image: x, network_mode: host, networks: [ n ], scale: 2, deploy: { replicas: 3, resources: { limits: { cpus: 1, memory: 1G } } }, cpus: 2, mem_limit: 2G, container_name: c, volumes: [ \"/t\" ], tmpfs: [ \"/t:size=1m\" ] }\n  b: { image: x, gpus: [ { count: 1, device_ids: [ a ] } ] }\nnetworks: { n: }\nvolumes: { v: { external: true, driver: local }, w: { external: { name: a }, name: b } }\n",
        "2:50 conflicting-keys: `networks` and `network_mode` exclude each other => keep `networks`, or `network_mode: host`\n\
         2:62 conflicting-keys: `scale` and `deploy.replicas` say different things => keep one of them\n\
         2:144 conflicting-keys: `cpus` and `deploy.resources.limits.cpus` say different things => keep one of them\n\
         2:158 conflicting-keys: `mem_limit` and `deploy.resources.limits.memory` say different things => keep one of them\n\
         2:178 conflicting-keys: 2 containers cannot all be called `c` => remove `container_name`; the service's own name reaches them\n\
         2:192 repeated: something is already mounted at `/t` => keep one of the mounts\n\
         3:50 conflicting-keys: `count` and `device_ids` exclude each other => keep one of them\n\
         5:33 conflicting-keys: a volume from outside cannot have `driver` => remove it, or remove `external`\n\
         5:73 conflicting-keys: this is `a` outside, and `name` says `b` => keep `name` alone, and write `external: true`",
    ),
    (
        "files",
        "services: { a: { image: x, env_file: [ none.env, \"http://h/x\" ], label_file: none.label } }\nsecrets: { a: {}, b: { file: x, environment: y } }\nconfigs: { c: { file: x, content: y }, d: {} }\ninclude: [ none.yaml ]\n",
        "1:40 bad-file: the file `none.env` cannot be read: there is no such file => paths are relative to the folder of the file that names them\n\
         1:50 bad-file: `http://h/x` is not a file of this machine => fetch it, and name the copy by its path\n\
         1:78 bad-file: the file `none.label` cannot be read: there is no such file => paths are relative to the folder of the file that names them\n\
         2:12 missing-key: the secret `a` has no content => say where it is, with one of `file`, `environment`\n\
         2:33 conflicting-keys: `file` and `environment` of a secret exclude each other => keep one of them\n\
         3:26 conflicting-keys: `file` and `content` of a config exclude each other => keep one of them\n\
         3:40 missing-key: the config `d` has no content => say where it is, with one of `file`, `environment`, `content`\n\
         4:12 bad-file: the file `none.yaml` cannot be read: there is no such file => paths are relative to the folder of the file that names them",
    ),
    (
        "formats",
        "services: { a: { image: x, env_file: [ { path: a.env, format: json, required: maybe } ] } }\n",
        "1:48 bad-file: the file `a.env` cannot be read: there is no such file => paths are relative to the folder of the file that names them\n\
         1:63 bad-env-file: `json` is not a format of `env_file` => remove it for the usual format, or write `raw`\n\
         1:79 wrong-type: `maybe` is neither `true` nor `false` => write `true` or `false`",
    ),
    (
        "values",
        "services:\n  a: { image: x, stop_grace_period: \"90\", mem_limit: lots, cpus: many, scale: few, privileged: maybe, shm_size: 1x, healthcheck: { interval: -5s, retries: 99999999999 }, ulimits: { nofile: a }, secrets: [ { source: s, mode: \"999\" }, { target: t } ] }\nsecrets: { s: { environment: S } }\n",
        "2:37 bad-duration: `90` is not a duration => give the unit: did you mean `90s`?\n\
         2:54 bad-size: `lots` is not a size => write a number and a unit, such as `64M`, `1.5G` or `512MiB`\n\
         2:66 bad-number: `many` is not a number of processors => write a number such as `2` or `0.5`\n\
         2:79 bad-number: `few` is not a whole number => write a number such as `3`\n\
         2:96 wrong-type: `maybe` is neither `true` nor `false` => write `true` or `false`\n\
         2:113 bad-size: `1x` is not a size => write a number and a unit, such as `64M`, `1.5G` or `512MiB`\n\
         2:142 bad-duration: `-5s` is not a duration => a time to wait cannot be less than nothing\n\
         2:156 out-of-range: `99999999999` is too large\n\
         2:190 bad-number: `a` is not a whole number => write a number such as `65536`, or `-1` for no limit\n\
         2:225 bad-number: `999` are not permissions => write them in octal with a leading zero, such as `0440`\n\
         2:234 missing-key: a secret or config of a service needs `source` => add `source:` with its name",
    ),
    (
        "ports",
        "services:\n  a: { image: x, ports: [ \"70000:80\", \"a\", \"80:\", \"9-8\", \"1-3:4-5\", \"h:80:80\", \"80/sctp\", \"80/icmp\", { target: 80, published: x }, { published: 80 } ], expose: [ x ] }\n",
        "2:27 bad-port: `70000` is not a port or a range of them => ports are numbers up to 65535; a range is written `8000-8010`\n\
         2:39 bad-port: `a` is not a port or a range of them => ports are numbers up to 65535; a range is written `8000-8010`\n\
         2:44 bad-publish: `80:` publishes no port => write it as in `8080:80`, `127.0.0.1:8080:80` or `53:53/udp`\n\
         2:51 bad-port: `9-8` is not a port or a range of them => ports are numbers up to 65535; a range is written `8000-8010`\n\
         2:58 bad-publish: the two ranges of `1-3:4-5` are not of the same length => write it as in `8080:80`, `127.0.0.1:8080:80` or `53:53/udp`\n\
         2:69 bad-publish: `h` is not an address of a host => write it as in `8080:80`, `127.0.0.1:8080:80` or `53:53/udp`\n\
         2:80 bad-publish: lith publishes no SCTP => publish TCP or UDP\n\
         2:91 bad-publish: `icmp` is not a protocol of ports => write `tcp` or `udp`\n\
         2:102 bad-port: `x` is not a port or a range of them => ports are numbers up to 65535; a range is written `8000-8010`\n\
         2:132 missing-key: a port needs `target` => add `target:` here\n\
         2:163 bad-port: `x` is not a port or a range of them => ports are numbers up to 65535; a range is written `8000-8010`",
    ),
    (
        "mounts",
        "services:\n  a: { image: x, volumes: [ \"a::/b\", \"\", \"aa:bb:cc:dd\", { type: bind, target: /x }, { type: volume } ], devices: [ \"a:b:c:d\" ] }\n",
        "2:38 bad-path: `\"\"` is no mount: it is empty => write it as in `data:/var/lib/app` or `./config:/etc/app:ro`\n\
         2:42 bad-path: `aa:bb:cc:dd` is no mount: it has too many colons => write it as in `data:/var/lib/app` or `./config:/etc/app:ro`\n\
         2:57 missing-key: a mount needs `source` => add `source:` here\n\
         2:85 missing-key: a mount needs `target` => add `target:` here\n\
         2:116 bad-path: `a:b:c:d` is no device: it has too many colons => write `source:target:rwm`",
    ),
    (
        "commands",
        "services: { a: { image: x, command: \"sh -c 'a\", entrypoint: \"(a)\" }, b: { image: x, command: \"a && b\", entrypoint: 'a\\' } }\n",
        "1:37 bad-command: the command cannot be split into words: a quote or a bracket is never closed => write it as a list of words, such as `[\"sh\", \"-c\", \"…\"]`\n\
         1:61 bad-command: the command cannot be split into words: a `(` stands outside quotes, which only a shell understands => write it as a list of words, such as `[\"sh\", \"-c\", \"…\"]`\n\
         (warning) 1:94 shell-syntax: the command ends before `&`, which only a shell understands => write `[\"sh\", \"-c\", \"…\"]` to run a shell, or put it in quotes\n\
         1:116 bad-command: the command cannot be split into words: a backslash at the end escapes nothing => write it as a list of words, such as `[\"sh\", \"-c\", \"…\"]`",
    ),
    (
        "health checks",
        "services: { a: { image: x, healthcheck: { test: [ curl ] } }, b: { image: x, healthcheck: { test: [ CMD ] } }, c: { image: x, healthcheck: { test: [ CMD-SHELL ] } } }\n",
        "1:49 bad-health: a list as a health check starts with `CMD`, `CMD-SHELL` or `NONE` => write `[\"CMD\", \"curl\", \"-f\", \"http://localhost/\"]`, or the command as one text\n\
         1:99 bad-health: the health check names no command after `CMD` => write `[\"CMD\", \"curl\", \"-f\", \"http://localhost/\"]`, or the command as one text\n\
         1:148 bad-health: the health check names no command after `CMD-SHELL` => write `[\"CMD\", \"curl\", \"-f\", \"http://localhost/\"]`, or the command as one text",
    ),
    (
        "hosts",
        "services: { a: { image: x, extra_hosts: [ alone, \"=1\" ] }, b: { image: x, environment: [ \"A B=1\" ] } }\n",
        "1:43 bad-host: `alone` gives a host no address => write `host=address`\n\
         1:50 bad-host: `\"\"` is not the name of a host => write `host=address`\n\
         1:90 bad-env: `A B` is not the name of a variable => names hold no `=` and no spaces",
    ),
    (
        "variables",
        "services:\n  a:\n    image: \"x:$TAG\"\n    command: [ \"$TAG\", \"${NONE:?set it, ${TAG} too}\", \"${E?}\", \"${}\", \"${A.b}\", \"${A:=b}\", \"a ${A:-b\", \"${A:-\n      b}\" ]\n    labels:\n      - a=${1}\n",
        "(warning) 3:15 unset-variable: the variable `TAG` has no value; nothing is put in => give it with `--set TAG=value`, or in a `.env` file\n\
         4:25 missing-variable: the variable `NONE` has no value: `set it,  too` => give it with `--set NONE=value`, or in a `.env` file\n\
         4:56 missing-variable: the variable `E` has no value => give it with `--set E=value`, or in a `.env` file\n\
         4:65 bad-template: this is no variable: no name of a variable follows `${` => write `$$` for a `$` that starts no variable\n\
         4:72 bad-template: this is no variable: a variable in braces ends with `}`, or goes on with `:-`, `:?` or `:+` => write `$$` for a `$` that starts no variable\n\
         4:82 bad-template: this is no variable: a variable in braces ends with `}`, or goes on with `:-`, `:?` or `:+` => write `$$` for a `$` that starts no variable\n\
         4:95 bad-template: this is no variable: the `{` is not closed in this line => write `$$` for a `$` that starts no variable, and keep a default in one line\n\
         7:11 bad-template: this is no variable: no name of a variable follows `${` => write `$$` for a `$` that starts no variable",
    ),
    (
        "extends",
        "services: { a: { extends: nobody }, b: { extends: c }, c: { extends: b }, d: { extends: { service: x, file: none.yaml } }, e: { image: x, extends: { service: aa } }, aaa: { image: x } }\n",
        "1:27 unknown-reference: no service `nobody` is there to be extended => name a service of the same file, or say which `file` it is in\n\
         1:70 circle: the service `c` extends itself in the end => let one of them stand by itself\n\
         1:109 bad-file: the file `none.yaml` cannot be read: there is no such file => paths are relative to the folder of the file that names them\n\
         1:159 unknown-reference: no service `aa` is there to be extended => did you mean `aaa`?",
    ),
    (
        "tags",
        "services: { a: { image: !secret x } }\n",
        "1:25 tag: the tag `!secret` means nothing in a Compose file => remove the tag",
    ),
    (
        "no name",
        "services: { a: { image: x, labels: { '': x }, environment: { '': 1 }, extra_hosts: { '': 1.1.1.1 }, logging: { options: { '': 1 } } }, '': { image: x } }\n",
        "1:38 bad-name: a name in a list of variables is empty => write a name before the `:`\n\
         1:62 bad-name: a name in a list of variables is empty => write a name before the `:`\n\
         1:86 bad-name: a name in `extra_hosts` is empty => write a name before the `:`\n\
         1:123 bad-name: a name in a list of options is empty => write a name before the `:`\n\
         1:136 bad-name: a name in `services` is empty => write a name before the `:`",
    ),
    (
        "undeclared network and one letter",
        "services: { a: { image: x, networks: [ zzzzz ], deploy: [ mode: a ], healthcheck: [ { test: a } ] } }\n",
        "1:40 unknown-reference: the file has no network `zzzzz` => declare it: `zzzzz:` below `networks:` at the top of the file\n\
         1:57 wrong-type: `deploy` must be a mapping, not a list => remove the `-` before each key\n\
         1:83 wrong-type: `healthcheck` must be a mapping, not a list => remove the `-` before each key",
    ),
    (
        "mounts and ports that are none",
        "services: { a: { image: x, volumes: [ \"data::/srv\", ~, [ a ], {} ], ports: [ { target: '' } ] } }\n",
        "1:39 bad-path: `data::/srv` is no mount: nothing stands between two colons => write it as in `data:/var/lib/app` or `./config:/etc/app:ro`\n\
         1:53 wrong-type: an item of `volumes` must be text or a mapping, not nothing => give it a value, or remove it\n\
         1:56 wrong-type: an item of `volumes` must be text or a mapping, not a list\n\
         1:63 missing-key: a mount needs `type` => add `type:` here\n\
         1:78 bad-publish: a port has no `target` => write it as in `8080:80`, `127.0.0.1:8080:80` or `53:53/udp`",
    ),
    (
        "keys of a service",
        "services:\n  b: { image: x }\n  a:\n    image: x\n    build: { z: 1 }\n    blkio_config: { z: 1, device_read_bps: [ { z: 1 } ], weight_device: [ { z: 1 } ] }\n    credential_spec: { z: 1 }\n    depends_on: { b: { condition: service_started, z: 1 } }\n    devices: [ { source: /dev/fuse, z: 1 } ]\n    develop: { z: 1, watch: [ { action: sync, path: a, z: 1 } ] }\n    env_file: [ { path: e, required: false, z: 1 } ]\n    gpus: [ { '': 1 } ]\n    healthcheck: { z: 1 }\n    logging: { z: 1 }\n    models: { m: { z: 1 } }\n    networks: { default: { z: 1 } }\n    ports: [ { target: 80, z: 1 } ]\n    post_start: [ { command: a, z: 1 } ]\n    pre_start: [ { command: a, z: 1 } ]\n    provider: { type: a, z: 1 }\n    secrets: [ { source: s, z: 1 } ]\n    ulimits: { nofile: { soft: 1, hard: 1, z: 1 } }\n    volumes: [ { type: tmpfs, target: /a, z: 1, bind: { z: 1 }, volume: { z: 1 }, tmpfs: { z: 1 }, image: { z: 1 } } ]\nsecrets: { s: { content: x } }\n",
        "5:14 unknown-key: `build` has no key `z` => remove it; a key of your own starts with `x-`\n\
         6:21 unknown-key: `blkio_config` has no key `z` => its keys are device_read_bps, device_read_iops, device_write_bps, device_write_iops, weight, weight_device\n\
         6:48 unknown-key: a limit of `blkio_config` has no key `z` => its keys are path, rate\n\
         6:77 unknown-key: a weight of `blkio_config` has no key `z` => its keys are path, weight\n\
         7:24 unknown-key: `credential_spec` has no key `z` => its keys are config, file, registry\n\
         8:52 unknown-key: a dependency has no key `z` => its keys are condition, required, restart\n\
         9:37 unknown-key: a device has no key `z` => its keys are permissions, source, target\n\
         10:16 unknown-key: `develop` has no key `z` => its keys are watch\n\
         10:56 unknown-key: an item of `watch` has no key `z` => its keys are action, exec, ignore, include, initial_sync, path, target\n\
         11:45 unknown-key: an item of `env_file` has no key `z` => its keys are format, path, required\n\
         12:15 bad-name: a name in an item of `gpus` is empty => write a name before the `:`\n\
         13:20 unknown-key: a health check has no key `z` => its keys are disable, interval, retries, start_interval, start_period, test, timeout\n\
         14:16 unknown-key: `logging` has no key `z` => its keys are driver, options\n\
         15:20 unknown-key: a model of a service has no key `z` => its keys are endpoint_var, model_var\n\
         16:28 unknown-key: a network of a service has no key `z` => its keys are aliases, driver_opts, gw_priority, interface_name, ipv4_address, ipv6_address, link_local_ips, mac_address, priority\n\
         17:28 unknown-key: a port has no key `z` => its keys are app_protocol, host_ip, mode, name, protocol, published, target\n\
         18:33 unknown-key: a hook has no key `z` => its keys are command, environment, privileged, user, working_dir\n\
         19:32 unknown-key: a hook has no key `z` => its keys are command, environment, image, per_replica, privileged, user, working_dir\n\
         20:26 unknown-key: `provider` has no key `z` => its keys are options, type\n\
         21:16 unknown-reference: the file has no secret `s` => declare it: `s:` below `secrets:` at the top of the file\n\
         21:29 unknown-key: a secret or config of a service has no key `z` => its keys are gid, mode, source, target, uid\n\
         22:44 unknown-key: a limit of `ulimits` has no key `z` => its keys are hard, soft\n\
         23:43 unknown-key: a mount has no key `z` => its keys are bind, consistency, image, read_only, source, target, tmpfs, type, volume\n\
         23:57 unknown-key: `bind` has no key `z` => its keys are create_host_path, propagation, recursive, selinux\n\
         23:75 unknown-key: `volume` has no key `z` => its keys are labels, nocopy, subpath\n\
         23:92 unknown-key: `tmpfs` has no key `z` => its keys are mode, size\n\
         23:109 unknown-key: `image` has no key `z` => its keys are subpath\n\
         24:12 missing-key: the secret `s` has no content => say where it is, with one of `file`, `environment`\n\
         24:17 unknown-key: a secret has no key `content` => its keys are driver, driver_opts, environment, external, file, labels, name, template_driver",
    ),
    (
        "keys of deploy and of what is shared",
        "services:\n  b: { image: x }\n  a:\n    extends: { service: b, z: 1 }\n    deploy:\n      z: 1\n      update_config: { z: 1 }\n      resources: { z: 1, limits: { z: 1 }, reservations: { z: 1, devices: [ { capabilities: [ a ], z: 1 }, {} ], generic_resources: [ { z: 1, discrete_resource_spec: { z: 1 } } ] } }\n      restart_policy: { z: 1 }\n      placement: { z: 1, preferences: [ { z: 1 } ] }\ninclude: [ { z: 1 } ]\nnetworks: { n: { external: { z: 1 }, driver_opts: { '': 1 }, ipam: { z: 1, config: [ { z: 1 } ], options: { '': x } } } }\nvolumes: { v: { z: 1 } }\nconfigs: { c: { z: 1, content: x } }\nmodels: { m: { z: 1 } }\n",
        "6:7 unknown-key: `deploy` has no key `z` => its keys are endpoint_mode, labels, mode, placement, replicas, resources, restart_policy, rollback_config, update_config\n\
         7:24 unknown-key: an update policy has no key `z` => its keys are delay, failure_action, max_failure_ratio, monitor, order, parallelism\n\
         8:20 unknown-key: `resources` has no key `z` => its keys are limits, reservations\n\
         8:36 unknown-key: `limits` has no key `z` => its keys are cpus, memory, pids\n\
         8:60 unknown-key: `reservations` has no key `z` => its keys are cpus, devices, generic_resources, memory\n\
         8:100 unknown-key: a device request has no key `z` => its keys are capabilities, count, device_ids, driver, options\n\
         8:108 missing-key: a device request needs `capabilities` => add `capabilities:` here\n\
         8:137 unknown-key: a generic resource has no key `z` => its keys are discrete_resource_spec\n\
         8:169 unknown-key: `discrete_resource_spec` has no key `z` => its keys are kind, value\n\
         9:25 unknown-key: `restart_policy` has no key `z` => its keys are condition, delay, max_attempts, window\n\
         10:20 unknown-key: `placement` has no key `z` => its keys are constraints, max_replicas_per_node, preferences\n\
         10:43 unknown-key: a placement preference has no key `z` => its keys are spread\n\
         11:14 unknown-key: an include has no key `z` => its keys are env_file, path, project_directory\n\
         12:30 unknown-key: `external` has no key `z` => its keys are name\n\
         12:53 bad-name: a name in a list of options is empty => write a name before the `:`\n\
         12:70 unknown-key: `ipam` has no key `z` => its keys are config, driver, options\n\
         12:88 unknown-key: an item of `config` has no key `z` => its keys are aux_addresses, gateway, ip_range, subnet\n\
         12:109 bad-name: a name in a list of options is empty => write a name before the `:`\n\
         13:17 unknown-key: a volume has no key `z` => its keys are driver, driver_opts, external, labels, name\n\
         14:17 unknown-key: a config has no key `z` => its keys are content, environment, external, file, labels, name, template_driver\n\
         15:14 missing-key: a model needs `model` => add `model:` here\n\
         15:16 unknown-key: a model has no key `z` => its keys are context_size, model, name, runtime_flags",
    ),
    (
        "variables that nest",
        "services: { a: { image: \"${A:-${A:-${A:-${A:-${A:-${A:-${A:-${A:-${A:-${A:-${A:-${A:-${A:-${A:-${A:-${A:-${A:-x}}}}}}}}}}}}}}}}}\" } }\n",
        "1:106 bad-template: this is no variable: variables are nested too deep here => give the inner ones values of their own",
    ),
    (
        "a project of a variable",
        "name: shop-${NAME?say which}\nservices: { a: { image: x } }\n",
        "1:12 missing-variable: the variable `NAME` has no value: `say which` => give it with `--set NAME=value`, or in a `.env` file",
    ),
    (
        "durations",
        "services: { a: { image: x, stop_grace_period: 99999999999999999999s, healthcheck: { interval: 200000w200000w, timeout: 5x } } }\n",
        "1:47 bad-duration: `99999999999999999999s` is not a duration => write numbers with units, such as `10s`, `1m30s` or `500ms`\n\
         1:95 bad-duration: `200000w200000w` is not a duration => write numbers with units, such as `10s`, `1m30s` or `500ms`\n\
         1:120 bad-duration: `5x` is not a duration => write numbers with units, such as `10s`, `1m30s` or `500ms`",
    ),
    (
        "forms",
        "services:\n  a:\n    image: x\n    labels: { a: [ x ] }\n    environment: x\n    networks: { default: { gw_priority: x } }\n    init: [ x ]\n    scale: [ x ]\n    tmpfs: { a: b }\n    ports: [ true ]\n    depends_on: { b: { condition: service_started, required: x } }\n  b: { image: x, pids_limit: 1.5 }\nnetworks: { n: { external: 5 } }\ninclude: x\n",
        "4:18 wrong-type: `a` must be a single value, not a list\n\
         5:18 wrong-type: `environment` must be a list or a mapping, not text => write a list, each item after `- `\n\
         6:41 wrong-type: `gw_priority` must be a number, not text\n\
         7:11 wrong-type: `init` must be `true` or `false`, not a list\n\
         8:12 wrong-type: `scale` must be a number, not a list\n\
         9:12 wrong-type: `tmpfs` must be text or a list, not a mapping\n\
         10:14 wrong-type: an item of `ports` must be a number or a mapping, not `true` or `false` => put it in quotes: `\"true\"`\n\
         11:62 wrong-type: `required` must be `true` or `false`, not text\n\
         13:28 wrong-type: `external` must be `true` or `false` or a mapping, not a number => put it in quotes: `\"5\"`\n\
         14:10 wrong-type: `include` must be a list, not text => write a list, each item after `- `",
    ),
];

/// Files, profiles, and what is said.
type Several = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str], &'static str);

const SEVERAL_FILES: &[Several] = &[
    (
        "forms that do not meet",
        &[
            (
                "compose.yaml",
                "services: { a: { image: x, ports: [ \"80:80\" ], healthcheck: { test: a } } }\n",
            ),
            ("compose.b.yaml", "services: { a: { ports: { a: b }, healthcheck: [ a ] } }\n"),
        ],
        &[],
        "compose.b.yaml:1:25 wrong-type: `ports` is a list in an earlier file, and a mapping here => write it in the same form, or `!override` before it to replace the earlier one\n\
         compose.b.yaml:1:48 wrong-type: `healthcheck` is a mapping in an earlier file, and a list here => write it in the same form, or `!override` before it to replace the earlier one",
    ),
    (
        "circle of includes",
        &[
            ("compose.yaml", "include: [ b.yaml ]\nservices: { a: { image: x } }\n"),
            ("b.yaml", "include: [ compose.yaml ]\n"),
        ],
        &[],
        "b.yaml:1:12 circle: the file `compose.yaml` includes itself in the end => remove one of the includes",
    ),
    (
        "mistake in an include",
        &[
            ("compose.yaml", "include: [ b.yaml ]\nservices: { a: { image: x } }\n"),
            ("b.yaml", "services: { b: { image: x, zzz: 1 } }\n"),
        ],
        &[],
        "b.yaml:1:28 unknown-key: a service has no key `zzz` => remove it; a key of your own starts with `x-`",
    ),
    (
        "circle across files",
        &[
            ("compose.yaml", "services: { a: { extends: { file: b.yaml, service: b } } }\n"),
            ("b.yaml", "services: { b: { extends: { file: b.yaml, service: b } } }\n"),
        ],
        &[],
        "b.yaml:1:27 circle: the service `b` extends itself in the end => let one of them stand by itself",
    ),
    (
        "no services to extend",
        &[
            ("compose.yaml", "services: { a: { image: x, extends: { file: b.yaml, service: b } } }\n"),
            ("b.yaml", "volumes: {}\n"),
        ],
        &[],
        "compose.yaml:1:45 unknown-reference: the file `b.yaml` has no services",
    ),
    (
        "a file of variables",
        &[
            ("compose.yaml", "services: { a: { image: x, env_file: [ a.env, b.env, c.env ] } }\n"),
            ("a.env", "A=1\nB C=2\n"),
            ("b.env", "OK=1\nQ=\"never\nends\n"),
            ("c.env", "A!=1\n"),
        ],
        &[],
        "a.env:2:1 bad-env-file: the name of a variable holds a space here => write each variable in a line of its own, as in `NAME=value`\n\
         b.env:2:3 bad-env-file: a quoted value starts here and never ends => close the quote; one inside the value is written with a backslash before it\n\
         c.env:1:2 bad-env-file: this character cannot stand in the name of a variable => write each variable in a line of its own, as in `NAME=value`",
    ),
    (
        "names in files of variables",
        &[
            ("compose.yaml", "services: { a: { image: x, env_file: [ a.env, b.env ] } }\n"),
            ("a.env", "=1\n"),
            ("b.env", "A=${B:?no}\nC=$D\n"),
        ],
        &[],
        "a.env:1:1 bad-env-file: a variable has no name here => write each variable in a line of its own, as in `NAME=value`\n\
         b.env:1:1 missing-variable: the variable `B` has no value: `no` => give it with `--set B=value`, or in a `.env` file\n\
         (warning) b.env:2:1 unset-variable: the variable `D` has no value; nothing is put in => give it with `--set D=value`, or in a `.env` file",
    ),
    (
        "profiles",
        &[(
            "compose.yaml",
            "services: { a: { image: x, depends_on: [ b ] }, b: { image: x, profiles: [ p ] } }\n",
        )],
        &["q"],
        "compose.yaml:1:42 unknown-reference: `a` needs `b`, which is left out since its profile is off => switch it on with `--profile p`, or write `required: false`",
    ),
];

#[test]
fn messages() {
    let mut wrong = Vec::new();
    for (name, text, expect) in ONE_FILE {
        check(name, text, expect, &mut wrong);
    }
    for (name, files, profiles, expect) in SEVERAL_FILES {
        let found = told(files, profiles);
        if found != *expect {
            wrong.push(format!("{name}\n{found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n@@\n"));
}

/// What is said of a case whose files are too large, or no text: they are not written here.
fn told_of(case: &Case) -> String {
    let (_, diagnostics) = case.load();
    let line = |found: &crate::diagnostic::Diagnostic| {
        let hint = found.hint.as_ref().map(|hint| format!(" => {hint}")).unwrap_or_default();
        format!("{found}{hint}")
    };
    diagnostics.list.iter().map(line).collect::<Vec<String>>().join("\n")
}

#[test]
fn files_that_are_none() {
    let latin = Case { named: vec![named("compose.yaml", b"name: caf\xe9\n")], ..Case::default() };
    insta::assert_snapshot!(told_of(&latin), @"compose.yaml:1:10: the file is not UTF-8 text: byte 0xe9 cannot stand here => save the file as UTF-8; an editor shows its encoding when it is opened");
    let large = Case { named: vec![named("compose.yaml", &vec![b'#'; 2 << 20])], ..Case::default() };
    insta::assert_snapshot!(told_of(&large), @"compose.yaml:1:1: the file holds 2097152 bytes; the limit is 1048576 => a Compose file describes services; keep data out of it");
    insta::assert_snapshot!(told_of(&Case::default()), @"compose.yaml:1:1: a project is read from 1 to 200 files; these are 0");
    let many = Case { named: vec![named("compose.yaml", b"services: {}"); 201], ..Case::default() };
    insta::assert_snapshot!(told_of(&many), @"compose.yaml:1:1: a project is read from 1 to 200 files; these are 201");
}

fn named(path: &str, bytes: &[u8]) -> crate::source::Named {
    crate::source::Named { path: path.to_owned(), bytes: bytes.to_vec() }
}

#[test]
fn more_than_is_loaded() {
    let list = |count: usize, item: fn(usize) -> String| (0..count).map(item).collect::<String>();
    let chain = list(40, |at| format!("  s{at}: {{ extends: s{} }}\n", at + 1));
    let case = Case::of(&[&format!("services:\n{chain}  s40: {{ image: x }}\n")]);
    insta::assert_snapshot!(told_of(&case), @"compose.yaml:34:19: more than 32 services extend one another here => let one of them stand by itself");

    let mut case = Case::of(&[&format!("include:\n{}", list(201, |at| format!("  - f{at}.yaml\n")))]);
    let texts: Vec<String> = (0..201).map(|at| format!("f{at}.yaml")).collect();
    let files: Vec<(&str, &str)> =
        texts.iter().map(|path| (path.as_str(), "services: { a: { image: x } }")).collect();
    case.files = Memory::of(&files);
    insta::assert_snapshot!(told_of(&case), @"
    compose.yaml:201:5: more than 200 files are read together
    compose.yaml:202:5: more than 200 files are read together
    ");

    let keys = list(10_000, |at| format!("      V{at}: 1\n"));
    let extending = list(201, |at| format!("  s{at}: {{ extends: base }}\n"));
    let text = format!("services:\n  base:\n    image: x\n    environment:\n{keys}{extending}");
    let shown = told_of(&Case::of(&[&text]));
    insta::assert_snapshot!(shown.lines().next().unwrap_or_default(), @"compose.yaml:1:1: the files make more than 2000000 values, counting again what is extended");

    let mut case = Case::of(&["services: { a: { image: x, command: [ \"$A$A\" ] } }\n"]);
    case.variables.set.insert(String::from("A"), "x".repeat(100_000));
    insta::assert_snapshot!(told_of(&case), @"compose.yaml:1:39: the value is longer than 131072 bytes once its variables are put in");
    let commands = list(50, |_| String::from("      - $A\n"));
    let mut case = Case::of(&[&format!("services:\n  a:\n    image: x\n    command:\n{commands}")]);
    case.variables.set.insert(String::from("A"), "x".repeat(100_000));
    insta::assert_snapshot!(told_of(&case), @"compose.yaml:46:9: variables make the values longer than 4194304 bytes in all");
}
