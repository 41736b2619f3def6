//! Databases under write load, and what is known of them outside: which commits they were told of, and what they found when
//! they were opened.

use std::collections::BTreeMap;
use std::fmt;

use lith_testkit::{World, eventually};
use serde_json::{Value, json};

/// A task that commits numbers one after the other and says so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// The job that runs it.
    pub(crate) job: &'static str,
    /// Its task, by the name of its folder.
    pub(crate) task: &'static str,
    /// The test image that it uses.
    pub(crate) image: &'static str,
    entrypoint: [&'static str; 3],
    /// Tells the newest number that is committed, inside the task.
    newest: &'static [&'static str],
    user: &'static str,
    volumes: &'static [&'static str],
    volume_bytes: u64,
    memory_bytes: u64,
}

pub(crate) const SQLITE: Load = Load {
    job: "sqlite",
    task: "sqlite.main.0.app",
    image: "python",
    entrypoint: ["python3", "-c", include_str!("load/sqlite.py")],
    newest: &[
        "python3",
        "-c",
        "import sqlite3; print(sqlite3.connect('/data/db.sqlite').execute('select max(n) from t').fetchone()[0])",
    ],
    user: "root",
    volumes: &["data:/data"],
    volume_bytes: 256 << 20,
    memory_bytes: 192 << 20,
};

pub(crate) const POSTGRES: Load = Load {
    job: "postgres",
    task: "postgres.main.0.app",
    image: "postgres",
    entrypoint: ["bash", "-c", include_str!("load/postgres.sh")],
    newest: &["psql", "-XAtU", "postgres", "-c", "select max(n) from t"],
    user: "postgres",
    volumes: &["data:/var/lib/postgresql/data"],
    volume_bytes: 1 << 30,
    memory_bytes: 256 << 20,
};

/// No database: files, one after the other.
pub(crate) const FILES: Load = Load {
    job: "files",
    task: "files.main.0.app",
    image: "python",
    entrypoint: ["python3", "-c", include_str!("load/files.py")],
    newest: &["sh", "-c", "ls /srv | sed -n 's/[.].*//p' | sort -n | tail -n 1"],
    user: "root",
    volumes: &["data:/srv"],
    volume_bytes: 64 << 20,
    memory_bytes: 192 << 20,
};

/// No database: two volumes that are written to by turns.
pub(crate) const PAIR: Load = Load {
    job: "pair",
    task: "pair.main.0.app",
    image: "python",
    entrypoint: ["python3", "-c", include_str!("load/pair.py")],
    newest: &["cat", "/second/number"],
    user: "root",
    volumes: &["first:/first", "second:/second"],
    volume_bytes: 256 << 20,
    memory_bytes: 192 << 20,
};

/// One word of such a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// It starts, and opens its database.
    Opening,
    /// What it found: the result of all checks, the newest number, how many there are.
    Found { check: String, newest: u64, count: u64 },
    /// The database has answered that this number is committed.
    Committed(u64),
}

impl Said {
    fn parse(line: &str) -> Option<Self> {
        // A line that was cut off in the middle says nothing.
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["opening"] => Some(Self::Opening),
            ["found", check, newest, count] => {
                let (newest, count) = (newest.parse().ok()?, count.parse().ok()?);
                Some(Self::Found { check: check.to_owned(), newest, count })
            }
            ["committed", number] => number.parse().ok().map(Self::Committed),
            _ => None,
        }
    }
}

impl Load {
    /// The same as another job, whose task has its folder under the other name.
    pub(crate) fn named(self, job: &'static str, task: &'static str) -> Self {
        Self { job, task, ..self }
    }

    /// Its job, in the form of the API.
    pub(crate) fn spec(&self) -> Value {
        let names = self.volumes.iter().map(|volume| volume.split(':').next().unwrap());
        let declared: BTreeMap<&str, Value> =
            names.map(|name| (name, json!({ "size_bytes": self.volume_bytes }))).collect();
        let task = json!({
            "image": format!("{}:1", self.image),
            "entrypoint": self.entrypoint,
            "user": self.user,
            "volumes": self.volumes,
            "memory_bytes": self.memory_bytes,
            "cpu_millis": 1000,
            "restart": "always",
            "stop_grace_ms": 1000,
        });
        json!({
            "name": self.job,
            "volumes": declared,
            "groups": { "main": { "count": 1, "tasks": { "app": task } } },
        })
    }

    /// All that it has said.
    pub(crate) fn said(&self, world: &World) -> Vec<Said> {
        // The node may not know the task yet, and the daemon may be starting: then nothing has been said.
        let log = world.lith(&["logs", self.job]).stdout;
        log.lines().filter_map(Said::parse).collect()
    }

    /// Waits until more than a number is committed; the newest one.
    pub(crate) fn await_commits(&self, world: &World, more_than: u64) -> u64 {
        eventually(&format!("{} to commit more than {more_than}", self.job), || {
            let said = self.said(world);
            are_whole(&said);
            let number = newest_committed(&said);
            if number > more_than { Ok(number) } else { Err(Seen { load: self, world }) }
        })
    }

    /// The newest number that is committed by now, as its database says itself.
    pub(crate) fn newest(&self, world: &World) -> u64 {
        let words = [&["exec", self.job, "--"], self.newest].concat();
        world.lith(&words).ok().stdout.trim().parse().expect("it is a number")
    }

    /// Waits until it has committed something after it was opened for the so-manyth time; the newest number that it found
    /// then.
    pub(crate) fn await_found(&self, world: &World, times: usize) -> u64 {
        eventually(&format!("{} to commit after it was opened {times} times", self.job), || {
            let said = self.said(world);
            are_whole(&said);
            let found = said.iter().enumerate().filter_map(|(position, said)| match said {
                Said::Found { newest, .. } => Some((position, *newest)),
                Said::Opening | Said::Committed(_) => None,
            });
            let found: Vec<(usize, u64)> = found.collect();
            let last = found.last().filter(|(position, _)| {
                found.len() >= times && matches!(said[position + 1..].first(), Some(Said::Committed(_)))
            });
            last.map(|(_, newest)| *newest).ok_or(Seen { load: self, world })
        })
    }

    /// How often it has begun to open its database.
    pub(crate) fn openings(&self, world: &World) -> usize {
        self.said(world).iter().filter(|said| **said == Said::Opening).count()
    }

    /// Waits until it has begun to once more, in a machine that lives.
    pub(crate) fn await_opening(&self, world: &World, after: usize) {
        eventually(&format!("{} to be opened again", self.job), || {
            let is_opened = self.openings(world) > after && world.vmm(self.task).is_some();
            if is_opened { Ok(()) } else { Err(Seen { load: self, world }) }
        });
    }

    /// Starts it. What fails again and again is started after longer and longer times; a person who asks has it at once.
    pub(crate) fn start_now(&self, world: &World) {
        let _ = world.lith(&["restart", self.job]).ok();
    }
}

/// What a person should know who looks for the cause of a failed test: asked for when it has failed.
struct Seen<'a> {
    load: &'a Load,
    world: &'a World,
}

impl fmt::Display for Seen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let log = self.world.lith(&["logs", self.load.job]);
        let lines: Vec<&str> = log.stdout.lines().collect();
        let last = lines[lines.len().saturating_sub(30)..].join("\n");
        write!(f, "{:?}\n{last}\n{}", self.world.tasks(self.load.job), log.stderr)
    }
}

/// The number that was committed last.
pub(crate) fn newest_committed(said: &[Said]) -> u64 {
    let mut numbers = said.iter().rev().filter_map(|said| match said {
        Said::Committed(number) => Some(*number),
        Said::Opening | Said::Found { .. } => None,
    });
    numbers.next().unwrap_or(0)
}

/// Whatever was found was whole.
pub(crate) fn are_whole(said: &[Said]) {
    for said in said {
        if let Said::Found { check, newest, count } = said {
            assert_eq!(check, "ok", "the database is damaged: {said:?}");
            assert_eq!(newest, count, "one in the middle is missing: {said:?}");
        }
    }
}

/// Each time a database was opened, all that was committed before was there; how often it was.
pub(crate) fn nothing_is_missing(said: &[Said]) -> usize {
    are_whole(said);
    let (mut last, mut openings) = (0, 0);
    for said in said {
        match said {
            Said::Opening => {}
            Said::Committed(number) => last = *number,
            Said::Found { newest, .. } => {
                assert!(*newest >= last, "{last} was committed, and {newest} is the newest one there");
                openings += 1;
            }
        }
    }
    openings
}

/// A checkpoint, as `lith volume checkpoints --json` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Checkpoint {
    pub(crate) seq: u64,
    pub(crate) time_ms: u64,
}

/// The checkpoints of a volume, the oldest first.
pub(crate) fn checkpoints(world: &World, volume: &str) -> Vec<Checkpoint> {
    let shown = world.lith(&["volume", "checkpoints", volume, "--json"]).json();
    let number = |checkpoint: &Value, field: &str| checkpoint[field].as_u64().expect("it is a number");
    let mut list: Vec<Checkpoint> = shown
        .as_array()
        .expect("it is a list")
        .iter()
        .map(|one| Checkpoint { seq: number(one, "seq"), time_ms: number(one, "time_ms") })
        .collect();
    list.sort();
    list
}

/// At most so many of them, evenly spread.
pub(crate) fn sampled(all: &[Checkpoint], count: usize) -> impl Iterator<Item = &Checkpoint> {
    all.iter().step_by(all.len().div_ceil(count).max(1))
}
