//! The node's pools: folders for volumes, often other disks. Owns what tells a pool from the empty folder where its disk
//! should be mounted, and how much of it may be used.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lith_api::error::{Code, Failure};
use lith_core::chain::chain;
use lith_core::job::Bytes;
use lith_core::name::PoolName;
use lith_core::value::{duration, size};
use lith_vmm::durable;
use serde::{Deserialize, Serialize};

use crate::identity;
use crate::layout::{Layout, PoolPath};

/// The file in a pool that says which one it is.
const MARKER: &str = ".lith-pool";
/// Longest marker.
const MARKER_BYTES_MAX: u64 = 4096;
/// The part of a pool that is never used: file systems get slow, and then unusable, when they are full.
const RESERVE_DIVISOR: u64 = 20;
/// At most so much of a large one.
const RESERVE_BYTES_MAX: u64 = 20 << 30;
/// How long history is kept unless a pool says otherwise: a day.
const WINDOW_DEFAULT: Duration = Duration::from_secs(24 * 3600);
/// Shorter ones would be folded all the time, longer ones are no window.
const WINDOWS: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(10 * 366 * 24 * 3600);
/// The part of a pool that the history of its volumes may take unless it says otherwise, percent.
const PERCENT_DEFAULT: u8 = 20;
/// More leaves no room for the volumes.
const PERCENT_MAX: u8 = 90;
/// Less does not hold what a busy minute changes.
const SIZE_MIN: u64 = 64 << 20;

/// How much history the volumes of a pool keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeps {
    /// Checkpoints of this last stretch of time.
    pub window: Duration,
    /// As long as all of them take no more.
    pub most: Most,
}

/// Most of a pool that history takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Most {
    /// So many hundredths of it.
    Percent(u8),
    /// So many bytes.
    Bytes(u64),
}

impl Default for Keeps {
    fn default() -> Self {
        Self { window: WINDOW_DEFAULT, most: Most::Percent(PERCENT_DEFAULT) }
    }
}

impl Keeps {
    /// Takes one setting, such as `history=72h`; what is wrong with it.
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "history" => {
                let window = duration::parse(value).map_err(|refusal| refusal.message)?;
                if !WINDOWS.contains(&window) {
                    return Err(format!("`{value}` is not between a minute and ten years"));
                }
                self.window = window;
            }
            "history-size" => self.most = most(value)?,
            _ => return Err(format!("\"{key}\" is no setting of a pool: history, history-size")),
        }
        Ok(())
    }
}

fn most(value: &str) -> Result<Most, String> {
    if let Some(percent) = value.strip_suffix('%') {
        let percent = percent.parse().ok().filter(|percent| (1..=PERCENT_MAX).contains(percent));
        let bad = || format!("`{value}` is not between 1% and {PERCENT_MAX}%");
        return percent.map(Most::Percent).ok_or_else(bad);
    }
    let bytes = size::parse(value).map_err(|refusal| refusal.message)?.0;
    if bytes < SIZE_MIN {
        return Err(format!("`{value}` is less than {}", Bytes(SIZE_MIN)));
    }
    Ok(Most::Bytes(bytes))
}

/// The pools that were named on the command line, as `NAME=FOLDER`, with settings behind colons.
///
/// # Errors
/// One is not of this form, or has the name or the folder of another.
pub fn parse(texts: &[String]) -> Result<Vec<PoolPath>, Failure> {
    let mut pools: Vec<PoolPath> = Vec::new();
    for text in texts.iter().filter(|text| !text.is_empty()) {
        let invalid = |message: String| {
            Failure::new(Code::Invalid, message)
                .hint("write it like `--pool fast=/mnt/ssd/lith` or `--pool bulk=/tank/lith:history=72h:history-size=30%`")
        };
        let (name, rest) =
            text.split_once('=').ok_or_else(|| invalid(format!("\"{text}\" is no pool: NAME=FOLDER")))?;
        let name: PoolName = name.parse().map_err(|error| invalid(chain(&error)))?;
        let (path, keeps) = settings(rest).map_err(|why| invalid(format!("pool \"{name}\": {why}")))?;
        if !path.is_absolute() {
            return Err(invalid(format!("the folder of pool \"{name}\" must be absolute")));
        }
        if pools.iter().any(|pool| pool.name == name || pool.path == path) {
            return Err(invalid(format!("pool \"{name}\" or its folder is named twice")));
        }
        pools.push(PoolPath { name, path, keeps });
    }
    Ok(pools)
}

/// A folder, and what is said behind it.
fn settings(text: &str) -> Result<(PathBuf, Keeps), String> {
    let (mut path, mut keeps) = (text, Keeps::default());
    // From the end: the folder may have a colon in its name.
    while let Some((before, setting)) = path.rsplit_once(':') {
        let Some((key, value)) = setting.split_once('=').filter(|(key, _)| !key.contains('/')) else { break };
        keeps.set(key, value)?;
        path = before;
    }
    Ok((PathBuf::from(path), keeps))
}

#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    form: u32,
    name: String,
    identity: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Identities {
    form: u32,
    pools: BTreeMap<String, String>,
}

/// How much of a pool there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Space {
    /// Its size, bytes.
    pub bytes: u64,
    /// What is free, bytes.
    pub free_bytes: u64,
}

impl Space {
    /// Of the file system of a folder.
    ///
    /// # Errors
    /// What the system says.
    pub fn of(path: &Path) -> io::Result<Self> {
        let space = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
        Ok(Self { bytes: bytes(space.f_blocks), free_bytes: bytes(space.f_bavail) })
    }

    /// What is never used, bytes.
    #[must_use]
    pub fn reserve_bytes(&self) -> u64 {
        (self.bytes / RESERVE_DIVISOR).min(RESERVE_BYTES_MAX)
    }

    /// What the history of all volumes may take, bytes.
    #[must_use]
    pub fn history_bytes(&self, most: Most) -> u64 {
        match most {
            Most::Percent(percent) => self.bytes / 100 * u64::from(percent),
            Most::Bytes(bytes) => bytes,
        }
    }

    /// Whether nothing is left but the reserve.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.free_bytes <= self.reserve_bytes()
    }
}

/// Held by who makes a pool of a folder: two who find a new one at once must not each make another one of it. Who looks at
/// one that is known does not wait for it: the disk of another may not answer.
static MAKING: Mutex<()> = Mutex::new(());

/// Sees to it that a folder is the pool that it was. One that this node has never seen becomes a pool.
///
/// # Errors
/// A sentence: it is not there, or it is not what it was.
pub fn check(layout: &Layout, pool: &PoolPath) -> Result<(), String> {
    if let Seen::Known = see(layout, pool)? {
        return Ok(());
    }
    let _turn = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let PoolPath { name, path, .. } = pool;
    match see(layout, pool)? {
        Seen::Known => Ok(()),
        Seen::New { known, identity: Some(identity) } => remember(layout, known, name, identity),
        Seen::New { known, identity: None } => {
            let identity = mark(path, name).map_err(|error| format!("pool \"{name}\": {error}"))?;
            remember(layout, known, name, identity)
        }
    }
}

/// What a folder is that should be a pool.
enum Seen {
    /// The pool that it was.
    Known,
    /// One that this node has never seen, with its identity if another one has.
    New { known: Identities, identity: Option<String> },
}

fn see(layout: &Layout, pool: &PoolPath) -> Result<Seen, String> {
    let PoolPath { name, path, .. } = pool;
    let known = known(layout).map_err(|why| format!("the identities of the pools cannot be read: {why}"))?;
    let expected = known.pools.get(name.as_str());
    let is_ours = path.starts_with(&layout.data);
    if !path.is_dir() {
        if expected.is_some() || !is_ours {
            return Err(format!("pool \"{name}\" is missing: {} is no folder", path.display()));
        }
        let made = fs::create_dir_all(path)
            .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o700)));
        made.map_err(|error| format!("pool \"{name}\" cannot be made: {error}"))?;
    }
    let found = marker_of(path).map_err(|why| format!("pool \"{name}\": its marker {MARKER} {why}"))?;
    match (found, expected) {
        (Some(found), Some(expected)) if found.identity == *expected => Ok(Seen::Known),
        (Some(found), Some(_)) => Err(format!(
            "{} is another pool (\"{}\") than the one that \"{name}\" was: is the right disk mounted there?",
            path.display(),
            found.name.escape_debug()
        )),
        (None, Some(_)) => Err(format!(
            "pool \"{name}\" is missing: {} has no {MARKER}: is its disk mounted?",
            path.display()
        )),
        (found, None) => Ok(Seen::New { known, identity: found.map(|found| found.identity) }),
    }
}

fn known(layout: &Layout) -> Result<Identities, String> {
    match fs::read(layout.pool_identities()) {
        Ok(json) => serde_json::from_slice(&json).map_err(|error| error.to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Identities::default()),
        Err(error) => Err(error.to_string()),
    }
}

fn remember(layout: &Layout, mut known: Identities, name: &PoolName, identity: String) -> Result<(), String> {
    known.form = 1;
    known.pools.insert(name.to_string(), identity);
    let json = serde_json::to_vec_pretty(&known).expect("maps with text keys always encode");
    let written = durable::write(&layout.pool_identities(), &json, 0o600);
    written.map_err(|error| format!("pool \"{name}\" cannot be remembered: {error}"))
}

fn marker_of(path: &Path) -> Result<Option<Marker>, String> {
    let file = match fs::File::open(path.join(MARKER)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot be read: {error}")),
    };
    let mut json = String::new();
    file.take(MARKER_BYTES_MAX)
        .read_to_string(&mut json)
        .map_err(|error| format!("cannot be read: {error}"))?;
    serde_json::from_str(&json).map(Some).map_err(|error| format!("is damaged: {error}"))
}

/// Makes a folder a pool; the identity that it has then. Another lith of this machine may do the same at this moment: the
/// marker appears whole, and who comes second takes the first one's.
fn mark(path: &Path, name: &PoolName) -> Result<String, String> {
    let cannot = |error: io::Error| format!("its marker {MARKER} cannot be written: {error}");
    let identity = identity::new().map_err(cannot)?.to_string();
    let marker = Marker { form: 1, name: name.to_string(), identity: identity.clone() };
    let json = serde_json::to_vec_pretty(&marker).expect("texts always encode");
    // Root's alone, as any temporary file is.
    let mut draft = tempfile::Builder::new().prefix(MARKER).tempfile_in(path).map_err(cannot)?;
    draft.write_all(&json).and_then(|()| draft.as_file().sync_all()).map_err(cannot)?;
    match draft.persist_noclobber(path.join(MARKER)) {
        Ok(_) => durable::sync_folder(path).map(|()| identity).map_err(cannot),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            let found = marker_of(path).map_err(|why| format!("its marker {MARKER} {why}"))?;
            found.map(|found| found.identity).ok_or_else(|| "its marker has vanished".to_owned())
        }
        Err(error) => Err(cannot(error.error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(folder: &Path) -> Layout {
        let layout = Layout::new(&folder.join("data"), &folder.join("run"));
        fs::create_dir_all(layout.node()).unwrap();
        layout
    }

    #[test]
    fn an_empty_mount_point_is_not_taken_for_the_pool() {
        let folder = tempfile::tempdir().unwrap();
        let (layout, path) = (layout(folder.path()), folder.path().join("bulk"));
        let pool = PoolPath { name: "bulk".parse().unwrap(), path: path.clone(), keeps: Keeps::default() };
        let why = check(&layout, &pool).unwrap_err();
        assert_eq!(why, format!("pool \"bulk\" is missing: {} is no folder", path.display()));
        fs::create_dir(&path).unwrap();
        check(&layout, &pool).unwrap();
        check(&layout, &pool).unwrap();
        fs::rename(&path, folder.path().join("unmounted")).unwrap();
        fs::create_dir(&path).unwrap();
        let why = check(&layout, &pool).unwrap_err();
        assert!(why.ends_with("has no .lith-pool: is its disk mounted?"), "{why}");
        // Another disk in its place.
        mark(&path, &"other".parse().unwrap()).unwrap();
        let why = check(&layout, &pool).unwrap_err();
        assert!(why.contains("is another pool (\"other\")"), "{why}");
        fs::remove_dir_all(&path).unwrap();
        fs::rename(folder.path().join("unmounted"), &path).unwrap();
        check(&layout, &pool).unwrap();
        fs::write(path.join(MARKER), "{").unwrap();
        assert!(check(&layout, &pool).unwrap_err().contains("is damaged"));
    }

    #[test]
    fn who_finds_a_new_pool_at_once_finds_the_same() {
        const FINDERS: usize = 8;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bulk");
        fs::create_dir(&path).unwrap();
        // Each with its own data, as liths of one machine; and several of one.
        let layouts = ["a", "b"].map(|name| layout(&folder.path().join(name)));
        let pool = PoolPath { name: "bulk".parse().unwrap(), path: path.clone(), keeps: Keeps::default() };
        let begin = std::sync::Barrier::new(FINDERS);
        std::thread::scope(|scope| {
            for finder in 0..FINDERS {
                let (begin, pool, layout) = (&begin, &pool, &layouts[finder % layouts.len()]);
                scope.spawn(move || {
                    begin.wait();
                    check(layout, pool).unwrap();
                });
            }
        });
        let name = "bulk".parse().unwrap();
        let identity = marker_of(&path).unwrap().unwrap().identity;
        assert_eq!(mark(&path, &name).unwrap(), identity, "what is there stays");
        for layout in &layouts {
            assert_eq!(known(layout).unwrap().pools["bulk"], identity);
            check(layout, &pool).unwrap();
        }
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
    }

    #[test]
    fn who_makes_a_pool_keeps_nobody_from_those_that_are_known() {
        let folder = tempfile::tempdir().unwrap();
        let layout = layout(folder.path());
        let pool = layout.pools()[0].clone();
        check(&layout, &pool).unwrap();
        // As one whose disk does not answer.
        let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        let (told, heard) = std::sync::mpsc::channel();
        let looking = std::thread::spawn(move || told.send(check(&layout, &pool)));
        heard.recv_timeout(std::time::Duration::from_secs(60)).unwrap().unwrap();
        looking.join().unwrap().unwrap();
    }

    #[test]
    fn the_pool_of_the_data_folder_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let layout = layout(folder.path());
        check(&layout, &layout.pools()[0].clone()).unwrap();
        assert!(layout.data.join("volumes/.lith-pool").exists());
        fs::remove_dir_all(layout.data.join("volumes")).unwrap();
        assert!(check(&layout, &layout.pools()[0].clone()).is_err(), "it was there");
    }

    #[test]
    fn names_and_folders() {
        let check = |texts: &[&str]| parse(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert_eq!(check(&["fast=/a", "bulk=/b"]).unwrap().len(), 2);
        for bad in [&["fast"][..], &["fast=a"], &["=/a"], &["fast=/a", "fast=/b"], &["a=/x", "b=/x"]] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn how_much_history_a_pool_keeps() {
        let check =
            |text: &str| parse(&[text.to_owned()]).map(|pools| (pools[0].path.clone(), pools[0].keeps));
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        let day = Keeps::default();
        assert_eq!(check("a=/x").unwrap(), ("/x".into(), day));
        assert_eq!(check("a=/x:y").unwrap(), ("/x:y".into(), day), "a colon of the folder's own");
        assert_eq!(check("a=/x:y:history=72h").unwrap(), ("/x:y".into(), Keeps { window: hours(72), ..day }));
        let both = Keeps { window: hours(1), most: Most::Bytes(200 << 30) };
        for text in ["a=/x:history=1h:history-size=200G", "a=/x:history-size=200G:history=60m"] {
            assert_eq!(check(text).unwrap(), ("/x".into(), both));
        }
        assert_eq!(check("a=/x:history-size=30%").unwrap().1.most, Most::Percent(30));
        for (text, why) in [
            ("a=/x:history=1s", "pool \"a\": `1s` is not between a minute and ten years"),
            ("a=/x:history=7", "pool \"a\": `7` is not a duration"),
            ("a=/x:history-size=91%", "pool \"a\": `91%` is not between 1% and 90%"),
            ("a=/x:history-size=x%", "pool \"a\": `x%` is not between 1% and 90%"),
            ("a=/x:history-size=1M", "pool \"a\": `1M` is less than 64M"),
            ("a=/x:histroy=1h", "pool \"a\": \"histroy\" is no setting of a pool: history, history-size"),
        ] {
            assert_eq!(check(text).unwrap_err().message, why);
        }
        let space = Space { bytes: 1000 << 30, free_bytes: 0 };
        assert_eq!(space.history_bytes(Most::Percent(20)), 200 << 30);
        assert_eq!(space.history_bytes(Most::Bytes(7)), 7);
    }

    #[test]
    fn a_part_is_never_used() {
        let space = |bytes, free_bytes| Space { bytes, free_bytes };
        assert_eq!(space(100 << 30, 0).reserve_bytes(), 5 << 30);
        assert_eq!(space(10 << 40, 0).reserve_bytes(), RESERVE_BYTES_MAX);
        assert!(space(100 << 30, 5 << 30).is_full());
        assert!(!space(100 << 30, 6 << 30).is_full());
    }
}
