//! What the agent keeps on its own disk, so that it needs nobody to go on: the wanted allocs and, per task, its slot
//! and history.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lith_api::agent::Desired;
use lith_core::name::TaskId;
use lith_core::slot::Slot;
use lith_core::task::{Exit, History, Incarnation};
use lith_core::time::Time;
use lith_vmm::durable;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::layout::Layout;

/// The form that is written; see [`lith_store`] for the same rule: older ones stay readable.
const FORM: u32 = 1;

/// What is remembered of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// Its number on this node.
    pub(crate) slot: Slot,
    /// Which alloc of its name it belongs to.
    pub(crate) born: u64,
    /// Its life so far.
    pub(crate) history: History,
    /// The image that its incarnation runs: a restart must not bring another one.
    pub(crate) image: Option<PinnedImage>,
}

/// An image, for as long as an incarnation lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PinnedImage {
    /// The incarnation.
    pub(crate) incarnation: u64,
    /// Digest of the image's manifest.
    pub(crate) digest: String,
}

/// All that the agent remembers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Records {
    /// Per task.
    pub(crate) tasks: BTreeMap<TaskId, Record>,
    /// The slot that was given out last.
    pub(crate) last_slot: Option<Slot>,
}

/// Why the agent's own files cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A file was written by a newer lith.
    #[error("{path} has form {form}, which is newer than this version of lith knows")]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its form.
        form: u32,
    },
    /// A file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

#[derive(Serialize, Deserialize)]
struct Form1 {
    form: u32,
    last_slot: Option<u16>,
    tasks: BTreeMap<String, Record1>,
}

#[derive(Serialize, Deserialize)]
struct Record1 {
    slot: u16,
    born: u64,
    image: Option<PinnedImage>,
    incarnation: Option<u64>,
    boot: u64,
    noted_boot: u64,
    failures: u32,
    restarts: u32,
    last_exit: Option<Exit1>,
    not_before_ms: Option<u64>,
    is_finished: bool,
    stopping_since_ms: Option<u64>,
    stop_grace_ms: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Exit1 {
    Code(i32),
    Signal(i32),
    OutOfMemory,
    Failed(String),
    MachineDied(String),
    SupervisorDied(Option<String>),
    NodeRestarted,
    NotStarted(String),
}

#[derive(Deserialize)]
struct AnyForm {
    form: u32,
}

impl Records {
    /// Reads what is remembered; nothing if there is no file yet.
    pub(crate) fn load(layout: &Layout) -> Result<Self, StateError> {
        let path = layout.records();
        let Some(AnyForm { form }) = read_json(&path)? else { return Ok(Self::default()) };
        if form > FORM {
            return Err(StateError::TooNew { path, form });
        }
        let stored: Form1 =
            read_json(&path)?.expect("it was there a moment ago, and only this process deletes it");
        let mut records = Self { last_slot: stored.last_slot.and_then(Slot::new), ..Self::default() };
        for (id, record) in stored.tasks {
            let (Ok(id), Some(slot)) = (id.parse(), Slot::new(record.slot)) else {
                tracing::error!(task = %id, "a remembered task has no valid name or slot; it is ignored");
                continue;
            };
            let history = record.history();
            records.tasks.insert(id, Record { slot, born: record.born, history, image: record.image });
        }
        Ok(records)
    }

    /// Writes what is remembered, durably.
    pub(crate) fn save(&self, layout: &Layout) -> Result<(), StateError> {
        let tasks = self.tasks.iter().map(|(id, record)| (id.to_string(), Record1::from(record)));
        let last_slot = self.last_slot.map(Slot::number);
        write_json(&layout.records(), &Form1 { form: FORM, last_slot, tasks: tasks.collect() })
    }

    /// The record of a task, made if it is new; `None` when every slot is taken. `preferred` is the slot that the task
    /// is known to have though nothing of it is remembered.
    pub(crate) fn entry(&mut self, id: &TaskId, born: u64, preferred: Option<Slot>) -> Option<&mut Record> {
        if !self.tasks.contains_key(id) {
            let taken: BTreeSet<Slot> = self.tasks.values().map(|record| record.slot).collect();
            let slot = match preferred.filter(|slot| !taken.contains(slot)) {
                Some(slot) => slot,
                None => *self.last_slot.insert(Slot::next_free(&taken, self.last_slot)?),
            };
            self.tasks.insert(id.clone(), Record { slot, born, history: History::default(), image: None });
        }
        self.tasks.get_mut(id)
    }
}

/// Reads what the server last said; nothing if it never did.
pub(crate) fn load_desired(layout: &Layout) -> Result<Desired, StateError> {
    Ok(read_json(&layout.desired())?.unwrap_or_default())
}

/// Keeps what the server says, durably.
pub(crate) fn save_desired(layout: &Layout, desired: &Desired) -> Result<(), StateError> {
    write_json(&layout.desired(), desired)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StateError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StateError::Read { path: path.to_owned(), source }),
    };
    let value = serde_json::from_slice(&bytes);
    value.map(Some).map_err(|source| StateError::Damaged { path: path.to_owned(), source })
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), StateError> {
    let bytes = serde_json::to_vec_pretty(value).expect("maps with text keys always encode");
    durable::write(path, &bytes, 0o600).map_err(|source| StateError::Write { path: path.to_owned(), source })
}

impl From<&Record> for Record1 {
    fn from(record: &Record) -> Self {
        let History {
            incarnation,
            boot,
            noted_boot,
            failures,
            restarts,
            last_exit,
            not_before,
            is_finished,
            stopping_since,
            stop_grace,
        } = &record.history;
        Self {
            slot: record.slot.number(),
            born: record.born,
            image: record.image.clone(),
            incarnation: incarnation.map(|incarnation| incarnation.0),
            boot: *boot,
            noted_boot: *noted_boot,
            failures: *failures,
            restarts: *restarts,
            last_exit: last_exit.as_ref().map(Exit1::from),
            not_before_ms: not_before.map(|time| time.0),
            is_finished: *is_finished,
            stopping_since_ms: stopping_since.map(|time| time.0),
            stop_grace_ms: stop_grace.map(|grace| u64::try_from(grace.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

impl Record1 {
    fn history(&self) -> History {
        History {
            incarnation: self.incarnation.map(Incarnation),
            boot: self.boot,
            noted_boot: self.noted_boot,
            failures: self.failures,
            restarts: self.restarts,
            last_exit: self.last_exit.as_ref().map(Exit::from),
            not_before: self.not_before_ms.map(Time),
            is_finished: self.is_finished,
            stopping_since: self.stopping_since_ms.map(Time),
            stop_grace: self.stop_grace_ms.map(Duration::from_millis),
        }
    }
}

impl From<&Exit> for Exit1 {
    fn from(exit: &Exit) -> Self {
        match exit {
            Exit::Code(code) => Self::Code(*code),
            Exit::Signal(signal) => Self::Signal(*signal),
            Exit::OutOfMemory => Self::OutOfMemory,
            Exit::Failed(why) => Self::Failed(why.clone()),
            Exit::MachineDied(why) => Self::MachineDied(why.clone()),
            Exit::SupervisorDied(why) => Self::SupervisorDied(why.clone()),
            Exit::NodeRestarted => Self::NodeRestarted,
            Exit::NotStarted(why) => Self::NotStarted(why.clone()),
        }
    }
}

impl From<&Exit1> for Exit {
    fn from(exit: &Exit1) -> Self {
        match exit {
            Exit1::Code(code) => Self::Code(*code),
            Exit1::Signal(signal) => Self::Signal(*signal),
            Exit1::OutOfMemory => Self::OutOfMemory,
            Exit1::Failed(why) => Self::Failed(why.clone()),
            Exit1::MachineDied(why) => Self::MachineDied(why.clone()),
            Exit1::SupervisorDied(why) => Self::SupervisorDied(why.clone()),
            Exit1::NodeRestarted => Self::NodeRestarted,
            Exit1::NotStarted(why) => Self::NotStarted(why.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path(), folder.path());
        std::fs::create_dir(layout.node()).unwrap();
        assert_eq!(Records::load(&layout).unwrap(), Records::default());
        let mut records = Records::default();
        let exits = [
            Exit::Code(3),
            Exit::Signal(9),
            Exit::OutOfMemory,
            Exit::Failed("a".to_owned()),
            Exit::MachineDied("b".to_owned()),
            Exit::SupervisorDied(Some("no room".to_owned())),
            Exit::NodeRestarted,
            Exit::NotStarted("c".to_owned()),
        ];
        for (index, exit) in exits.into_iter().enumerate() {
            let id = format!("shop.main.{index}.web").parse().unwrap();
            let record = records.entry(&id, 7, None).unwrap();
            record.image = Some(PinnedImage { incarnation: 2, digest: "sha256:0".to_owned() });
            record.history = History {
                incarnation: Some(Incarnation(2)),
                boot: 4,
                noted_boot: 3,
                failures: 2,
                restarts: 1,
                last_exit: Some(exit),
                not_before: Some(Time(5)),
                is_finished: true,
                stopping_since: Some(Time(6)),
                stop_grace: Some(Duration::from_secs(7)),
            };
        }
        records.save(&layout).unwrap();
        assert_eq!(Records::load(&layout).unwrap(), records);
        // A task that runs in a slot keeps it, also when what was remembered of it is lost.
        let preferred = Slot::new(77);
        let id = "shop.main.0.cache".parse().unwrap();
        assert_eq!(records.entry(&id, 1, preferred).unwrap().slot.number(), 77);
        let other = "shop.main.0.db".parse().unwrap();
        assert_ne!(records.entry(&other, 1, preferred).unwrap().slot.number(), 77);
    }

    #[test]
    fn damaged_and_newer_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path(), folder.path());
        std::fs::create_dir(layout.node()).unwrap();
        for (text, words) in [("{", "is damaged"), (r#"{"form": 7}"#, "has form 7")] {
            std::fs::write(layout.records(), text).unwrap();
            let error = Records::load(&layout).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
