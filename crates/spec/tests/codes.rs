//! One small file for each code, with what is said about it: a new code does not compile without an example here.

use std::fmt::Write;

use lith_spec::{
    Code, ComposeOptions, Diagnostics, Files, Named, NoFiles, PathKind, Variables, check_bytes,
    check_compose, check_job,
};

/// A file that is looked at.
enum Example {
    Job(String),
    Bytes(&'static [u8]),
    Compose(String),
}

/// A task of a job that has one.
fn task(line: &str) -> Example {
    Example::Job(format!("job: j\ntasks:\n  t:\n    image: x\n    {line}\n"))
}

fn job(text: &str) -> Example {
    Example::Job(text.to_owned())
}

/// A service of a project that has one.
fn service(line: &str) -> Example {
    Example::Compose(format!("services:\n  a:\n    image: x\n    {line}\n"))
}

fn compose(text: &str) -> Example {
    Example::Compose(text.to_owned())
}

/// A file about which this code is said.
#[expect(clippy::too_many_lines, reason = "a list")]
fn example(code: Code) -> Example {
    match code {
        Code::Encoding => Example::Bytes(b"job: caf\xe9\n"),
        Code::Syntax => job("job: 'j\n"),
        Code::TooLarge => job(&"#".repeat(2 << 20)),
        Code::TooDeep => job(&"[".repeat(100)),
        Code::Empty => job(""),
        Code::SeveralDocuments => job("job: j\n---\njob: k\n"),
        Code::Tag => job("job: !x j\n"),
        Code::BadKey => job("[ a ]: j\n"),
        Code::DuplicateKey => job("job: j\njob: k\n"),
        Code::UnknownKey => task("imagee: x"),
        Code::UnsupportedKey => job("services: {}\n"),
        Code::MisplacedKey => job("image: x\n"),
        Code::MissingKey => job("job: j\n"),
        Code::ConflictingKeys => job("job: j\ntasks: { t: { image: x } }\ngroups: {}\n"),
        Code::WrongType => task("memory: [ 1G ]"),
        Code::BadName => job("job: My Job\n"),
        Code::TooMany => task(&format!("ports: [ {} ]", "1, ".repeat(101))),
        Code::OutOfRange => task("memory: 1K"),
        Code::BadNumber => task("cpus: two"),
        Code::BadSize => task("memory: lots"),
        Code::BadBandwidth => task("bandwidth: fast"),
        Code::BadDuration => task("stop_grace: soon"),
        Code::BadPort => task("ports: [ http ]"),
        Code::BadPublish => task("publish: [ http ]"),
        Code::PortCollision => task("publish: [ \"80:80\", \"80:81\" ]"),
        Code::BadCommand => task("command: \"echo 'a\""),
        Code::BadEnv => task("env: [ A ]"),
        Code::BadUser => task("user: a b"),
        Code::BadPath => task("working_dir: srv"),
        Code::BadSignal => task("stop_signal: SIGSTOPP"),
        Code::BadRestart => task("restart: maybe"),
        Code::BadImage => job("job: j\ntasks: { t: { image: Nginx } }\n"),
        Code::BadWord => task("read_only: maybe"),
        Code::BadText => task("sysctls: { a.b: \"\\0\" }"),
        Code::BadMount => task("volumes: [ data ]"),
        Code::BadDevice => task("devices: [ ttyUSB0 ]"),
        Code::BadAccess => task("egress: [ \"http://a.example\" ]"),
        Code::BadHealth => task("health: { http: \"/x\" }"),
        Code::BadLimit => task("ulimits: { nofile: many }"),
        Code::BadSchedule => task("schedule: daily\n    kind: periodic"),
        Code::BadTimezone => task("timezone: \"Europe / Berlin\""),
        Code::BadMode => task("configs: [ { source: c, mode: 999 } ]"),
        Code::BadVariable => task("hostname: \"${}\""),
        Code::BadEnvFile => task("env_file: bad.env"),
        Code::BadFile => task("env_file: gone.env"),
        Code::UnknownReference => task("depends_on: [ db ]"),
        Code::MountCollision => task("volumes: [ \"a:/x\", \"b:/x\" ]"),
        Code::SharedDisk => job(
            "job: j\ntasks:\n  a: { image: x, volumes: [ \"v:/x\" ] }\n  b: { image: x, volumes: [ \"v:/x\" ] }\n",
        ),
        Code::Circle => task("depends_on: [ t ]"),
        Code::Repeated => task("ports: [ 80, 80 ]"),
        Code::ShellSyntax => task("command: a && b"),
        Code::BuildWithoutImage => compose("services: { a: { build: . } }\n"),
        Code::HostNetwork => service("network_mode: host"),
        Code::SharedNetwork => service("network_mode: \"container:b\""),
        Code::SharedNamespace => service("pid: host"),
        Code::MountPropagation => service("volumes: [ \"/srv:/srv:shared\" ]"),
        Code::EngineSocket => service("volumes: [ \"/var/run/docker.sock:/s\" ]"),
        Code::HostSystem => service("volumes: [ \"/proc:/host\" ]"),
        Code::HostDevice => service("devices: [ /dev/ttyUSB0 ]"),
        Code::VolumesFrom => service("volumes_from: [ \"container:b\" ]"),
        Code::MountKind => service("volumes: [ { type: npipe, source: a, target: /a } ]"),
        Code::UndeclaredVolume => service("volumes: [ \"data:/srv\" ]"),
        Code::ExternalVolume => compose(
            "services: { a: { image: x, volumes: [ \"data:/srv\" ] } }\nvolumes: { data: { external: true } }\n",
        ),
        Code::ExternalConfig => {
            compose("services: { a: { image: x, configs: [ c ] } }\nconfigs: { c: { external: true } }\n")
        }
        Code::VolumeDriver => compose(
            "services: { a: { image: x, volumes: [ \"data:/srv\" ] } }\nvolumes: { data: { driver: nfs } }\n",
        ),
        Code::NetworkDriver => {
            compose("services: { a: { image: x, networks: [ n ] } }\nnetworks: { n: { driver: macvlan } }\n")
        }
        Code::SharedVolume => compose(
            "services:\n  a: { image: x, scale: 2, volumes: [ \"data:/srv\" ] }\n  b: { image: x, volumes: [ \"data:/srv\" ] }\nvolumes: { data: }\n",
        ),
        Code::MissingVariable => service("hostname: \"${A?}\""),
        Code::BadHost => service("extra_hosts: [ alone ]"),
        Code::BadTemplate => service("hostname: \"${}\""),
        Code::UnsetVariable => service("hostname: $A"),
        Code::Decided => service("cpus: 100"),
        Code::NoEffect => service("labels: [ a=b ]"),
    }
}

/// One file of variables that is none.
struct Beside;

impl Files for Beside {
    fn kind(&self, path: &str) -> PathKind {
        if path == "bad.env" { PathKind::File } else { PathKind::Absent }
    }

    fn read(&self, path: &str, bytes_max: usize) -> Result<Vec<u8>, String> {
        if path == "bad.env" { Ok(b"A B=1\n".to_vec()) } else { NoFiles.read(path, bytes_max) }
    }
}

fn said(example: &Example) -> Diagnostics {
    let named = |path: &str, text: &str| Named { path: path.to_owned(), bytes: text.as_bytes().to_vec() };
    let variables = Variables::default();
    match example {
        Example::Bytes(bytes) => check_bytes("job.yaml", bytes).diagnostics,
        Example::Job(text) => check_job(&[named("job.yaml", text)], &variables, &Beside).diagnostics,
        Example::Compose(text) => {
            let options = ComposeOptions { folder: String::from("/shop"), ..ComposeOptions::default() };
            check_compose(&[named("compose.yaml", text)], &options, &variables, &Beside).diagnostics
        }
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a line for each code")]
fn each_code_has_an_example() {
    let mut table = String::new();
    for code in Code::ALL {
        let diagnostics = said(&example(*code));
        let found = diagnostics.list.iter().find(|found| found.code == *code);
        let found = found.unwrap_or_else(|| panic!("{code}: {diagnostics:?}"));
        let hint =
            found.hint.as_ref().map(|hint| format!(" => {}", hint.replace('\n', " | "))).unwrap_or_default();
        writeln!(table, "{} {code}: {}{hint}", found.severity.as_str(), found.message)
            .expect("a String takes what is written");
    }
    insta::assert_snapshot!(table, @r#"
    error encoding: the file is not UTF-8 text: byte 0xe9 cannot stand here => save the file as UTF-8; an editor shows its encoding when it is opened
    error syntax: a quoted text starts here and never ends
    error too-large: the file holds 2097152 bytes; the limit is 1048576 => a job file describes a job; keep data out of it
    error too-deep: values are nested more than 32 deep here
    error empty: the file declares nothing => the smallest job file is `{ job: hello, tasks: { web: { image: nginx } } }`
    error several-documents: a second document starts here; a file declares one job => put the other job into its own file
    error tag: the tag `!x` means nothing in a job file => remove the tag
    error bad-key: a key must be text; this is a list => quote text that starts with `{` or `[`
    error duplicate-key: the key `job` stands twice in this mapping => the first is in line 1; keep one of them
    error unknown-key: a task has no key `imagee` => did you mean `image`?
    error unsupported-key: `services` is a key of a Compose file, not of a job => call it `tasks` in a job file; a Compose file has neither `job` nor `tasks` nor `groups`
    error misplaced-key: `image` is a key of a task, not of a job => write `tasks:`, a name for the task, and below it `image`
    error missing-key: the job has no tasks => add `tasks:` with a name and an `image` for each, such as `tasks: { web: { image: nginx } }`
    error conflicting-keys: a job has either `groups` or `tasks` => `tasks` is short for one group: move these tasks into a group of their own
    error wrong-type: `memory` takes a single value; this is a list
    error bad-name: `My Job` is not a name: use a-z, 0-9 and `-`, starting and ending with a letter or digit => `my-job` would do
    error too-many: `ports` holds 101 entries; the limit is 100
    error out-of-range: `1K` of memory is not between 64M and 4T
    error bad-number: `two` is not a number of processors => write a number such as `2` or `0.5`
    error bad-size: `lots` is not a size => write a number and a unit, such as `64M`, `1.5G` or `512MiB`
    error bad-bandwidth: `fast` is not a bandwidth => write bits per second with a unit, such as `50M`, `1.5G` or `512k`
    error bad-duration: `soon` is not a duration => write numbers with units, such as `10s`, `1m30s` or `500ms`
    error bad-port: `http` is not a port => ports are 1 to 65535; a range is written `9000-9010`
    error bad-publish: `http` does not publish a port => write "NODE:TASK", such as "8080:80", "127.0.0.1:8080:80" or "5353:53/udp"
    error port-collision: port 80/tcp of the node is already published by this task => choose another port before the colon, as in "81:81"
    error bad-command: the command cannot be split into words: a `'` is never closed => write it as a list of words, such as `[ echo, "it's" ]`
    error bad-env: the variable `A` has no value => a job does not depend on your shell: give the value, or `A=` for an empty one
    error bad-user: `a b` is not a user => write a name or number, and a group after a colon: `www-data`, `1000:1000`
    error bad-path: `srv` is not an absolute path => start it with `/`
    error bad-signal: `SIGSTOPP` is not a signal => did you mean `SIGSTOP`?
    error bad-restart: `maybe` is not a restart policy => write `always`, `on-failure`, `on-failure:3` or `no`
    error bad-image: `Nginx` is not an image reference: names are in lower case => did you mean `nginx`?
    error bad-word: `maybe` is neither `true` nor `false`
    error bad-text: `\0` holds a NUL character, which no process can be given
    error bad-mount: `data` mounts nothing => write VOLUME:PATH, such as `data:/var/lib/app`, with `:ro` behind it for reading alone
    error bad-device: `ttyUSB0` is not a device => write its path, such as `/dev/fuse` or `/dev/ttyUSB0`
    error bad-access: `http://a.example` names nothing that a task could reach => write `a.example:80`
    error bad-health: `/x` is not a port and a path => write the port and the path, such as `":8080/health"`
    error bad-limit: `many` is not a limit => write a number, `unlimited`, or both limits as SOFT:HARD such as `1024:65536`
    error bad-schedule: `daily` is not a schedule: it has 1 field, not 5 => write minute, hour, day, month and day of the week, such as `30 3 * * *` for each night at 3:30
    error bad-timezone: `Europe / Berlin` is not a time zone => write a name such as `Europe/Berlin` or `UTC`
    error bad-mode: `999` are not permissions => write three or four digits from 0 to 7, such as `0400`
    error bad-variable: `${}` names no variable => write `$${` for a `${` that starts no variable
    error bad-env-file: the name of a variable holds a space here => write each variable in a line of its own, as in `NAME=value`
    error bad-file: the file `gone.env` cannot be read: there is no such file => the path starts at the folder of the job file
    error unknown-reference: the job has no task `db` => add a task of this name to the job
    error mount-collision: `/x` is mounted over twice => the first is in line 5; give one of them another path
    error shared-disk: the disk `v` is written by `a` already => write `volumes: { v: { shared: true } }` in the job, or use two disks
    error circle: `t` waits for itself => remove it from `depends_on`
    warning repeated: this stands in `ports` already
    warning shell-syntax: `&&` means nothing here: no shell reads `command` => write `command: [ sh, -c, "…" ]` if the image has a shell
    error build-without-image: `a` is built, and names no image to fetch => build and push it, then add its name beside `build`, such as `image: registry.example/a:1`
    error host-network: nothing says which ports of it are to be reached: a task has a network of its own => list them, such as `ports: [ "8080:8080" ]`; one that is not to be reached has `network_mode: bridge`
    error shared-network: `container:b`: each task is a machine with a network of its own => put both programs into one image, or let them speak over the network by name
    error shared-namespace: `pid: host`: a task sees neither processes nor memory of the node or of another task => remove the key; for more shared memory inside the task set `shm_size`
    error mount-propagation: propagation `shared`: mounts made in a task stay in its machine => remove it
    error engine-socket: `/var/run/docker.sock`: there is no container engine here, and its socket would be the right to everything => configure the program without it, or leave the service out
    error host-system: `/proc`: such a folder describes the node or controls it, and a task has its own => mount the folder below that holds the data, or leave the service out
    error host-device: `/dev/ttyUSB0`: a device of the node is granted by the node's owner, not by a file => remove it here, convert the file, and add `devices` to the job file
    error volumes-from: all volumes of `container:b` cannot be taken over at once => list the volumes under `volumes` of this service
    error mount-kind: a mount of the type `npipe`: a task mounts whole volumes, and folders that its node's owner allows => mount the whole volume, or a volume of its own
    error undeclared-volume: the file does not declare the volume `data` => add at the end of the file | volumes: |   data: | or pass `--create-missing-volumes`
    error external-volume: the volume `data` was made elsewhere: an empty disk would take its place => remove `external` to begin with an empty disk, or pass `--create-missing-volumes`
    error external-config: the config `c`: the cluster keeps secrets, not configs => give it a `file` or its `content`
    error volume-driver: the driver `nfs`: volumes are disks of the cluster => remove `driver` and `driver_opts`, or mount the share on the node and name its folder
    error network-driver: the driver `macvlan`: tasks have no address in the node's network => remove `driver` and list what is to be reached under `ports`
    error shared-volume: the volume `data` belongs to 2 services, and `a` has 2 instances: tasks that share a disk are placed together, with one instance each => remove `replicas`, or give each service a volume of its own
    error missing-variable: the variable `A` has no value => give it with `--set A=value`, or in a `.env` file
    error bad-host: `alone` gives a host no address => write `host=address`
    error bad-template: this is no variable: no name of a variable follows `${` => write `$$` for a `$` that starts no variable
    warning unset-variable: the variable `A` has no value; nothing is put in => give it with `--set A=value`, or in a `.env` file
    note decided: Compose implies it, so these may reach the internet: a => to take it away, put a service on networks with `internal: true` alone
    note no-effect: these keys have no effect here: labels
    "#);
}
