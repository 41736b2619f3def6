//! The disks of a task's volumes: which it mounts, and that they are there. A disk outlives its task, its versions and its
//! job; nothing in here deletes one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use lith_api::agent::Alloc;
use lith_core::chain::chain;
use lith_core::job::TaskSpec;
use lith_core::job::volume::{Mount, VolumeSpec};
use lith_core::name::{PoolName, TaskId, VolumeId, VolumeName};
use lith_guest::messages::settings::{Disk, Start};
use lith_vmm::durable;
use lith_vmm::machine::DriveSource;
use lith_vmm::scratch::{self, Purpose};
use lith_vmm::shim::VolumeDisk;
use lith_volume::block::BLOCK_BYTES;
use lith_volume::names;

use super::machine::with_hint;
use super::serving::{self, For, Place, Wanted};
use crate::layout::{Layout, PoolPath};
use crate::pools::{self, Keeps, Space};
use crate::volumes;
use crate::volumes::made::{missing, missing_hint};

/// What a task's machine is told of its volumes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Disks {
    /// For the VMM, each disk once.
    pub(super) volumes: Vec<VolumeDisk>,
    /// For the guest, each place.
    pub(super) mounts: Vec<Disk>,
    /// Size of what new volumes start with.
    pub(super) content_bytes: u64,
    /// The control sockets of the processes that serve them.
    pub(super) control: BTreeSet<PathBuf>,
}

impl Disks {
    /// A disk more; the serial by which the guest finds it.
    fn attach(&mut self, place: Place) -> String {
        let source = DriveSource::Served { socket: place.device, queues: serving::QUEUES };
        self.volumes.push(VolumeDisk { source, serial: place.serial.clone() });
        self.control.insert(place.control);
        place.serial
    }
}

/// A task, as far as its volumes are concerned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mounting<'a> {
    /// Which.
    pub(super) id: &'a TaskId,
    /// What it mounts.
    pub(super) spec: &'a TaskSpec,
    /// Of which of these it sees checkpoints.
    pub(super) reads: &'a BTreeSet<VolumeName>,
}

impl Mounting<'_> {
    /// The volumes that it holds, each once.
    pub(super) fn held(&self) -> Vec<VolumeId> {
        self.volumes(|name| !self.reads.contains(name))
    }

    /// Those of which it sees checkpoints.
    pub(super) fn read(&self) -> Vec<VolumeId> {
        self.volumes(|name| self.reads.contains(name))
    }

    fn volumes(&self, wanted: impl Fn(&VolumeName) -> bool) -> Vec<VolumeId> {
        let (job, index) = (&self.id.alloc.job, self.id.alloc.index);
        let names = self.spec.volumes.iter().filter_map(Mount::volume).filter(|name| wanted(name));
        let volumes = names.map(|volume| VolumeId { job: job.clone(), volume: volume.clone(), index });
        let mut volumes: Vec<VolumeId> = volumes.collect();
        volumes.sort();
        volumes.dedup();
        volumes
    }
}

/// Where the volumes are that a task reads, which others make.
///
/// # Errors
/// A sentence that says which is not there yet.
pub(super) fn find_read(layout: &Layout, task: Mounting<'_>) -> Result<Vec<Wanted>, String> {
    let find = |id: VolumeId| {
        let folder = layout.volume(&id);
        match volumes::is_there(&folder.join(names::DISK)) {
            true => Ok(Wanted { id, folder, keeps: Keeps::default() }),
            false => Err(format!("waits for volume {}, which no task has made yet", id.volume)),
        }
    };
    task.read().into_iter().map(find).collect()
}

/// The volumes of a task's alloc.
pub(super) fn of_alloc(id: &TaskId, alloc: &Alloc) -> Vec<VolumeId> {
    let (job, index) = (&id.alloc.job, id.alloc.index);
    let volumes = alloc.volumes.keys().filter_map(|name| {
        let volume = name.parse().ok()?;
        Some(VolumeId { job: job.clone(), volume, index })
    });
    volumes.collect()
}

/// Makes the disks of an alloc's volumes that are not there yet, and returns where they are: all that are to be served
/// together. Blocks, for as long as the pool's disk takes.
///
/// # Errors
/// A sentence that says which of the task's own cannot be made. One of another task's is that one's trouble.
pub(super) fn make(layout: &Layout, task: Mounting<'_>, alloc: &Alloc) -> Result<Vec<Wanted>, String> {
    let (id, own) = (task.id, task.held());
    let mut wanted =
        own.iter().map(|volume| make_one(layout, volume, alloc)).collect::<Result<Vec<_>, _>>()?;
    for volume in of_alloc(id, alloc).into_iter().filter(|volume| !own.contains(volume)) {
        wanted.extend(make_one(layout, &volume, alloc).ok());
    }
    Ok(wanted)
}

fn make_one(layout: &Layout, volume: &VolumeId, alloc: &Alloc) -> Result<Wanted, String> {
    let name = volume.volume.as_str();
    let declared = alloc.volumes.get(name).ok_or_else(|| format!("its volume \"{name}\" is not declared"))?;
    let declared = declared.parse(name).map_err(|error| chain(&error))?;
    let lies_in = layout.pool_of(volume);
    let has =
        |part| lies_in.is_some_and(|pool| volumes::is_there(&pool.path.join(volume.to_string()).join(part)));
    // Of one that is not made yet there may be what it starts with, sent before its pool was known.
    let pool = match lies_in {
        Some(pool) if has(names::DISK) || has(names::MANIFEST) || declared.pool.is_none() => pool,
        Some(_) | None => pool_of(layout, name, declared.pool.as_ref())?,
    };
    pools::check(layout, pool).map_err(|why| hinted(why, POOL_HINT))?;
    let folder = pool.path.join(volume.to_string());
    let path = folder.join(names::DISK);
    let wanted = Wanted { id: volume.clone(), folder, keeps: pool.keeps };
    if volumes::is_there(&path) {
        volumes::made::note(layout, volume, &pool.name)?;
        return Ok(wanted);
    }
    if volumes::is_there(&wanted.folder.join(names::MANIFEST)) {
        let why = format!(
            "the disk of volume \"{volume}\" is missing: there is no {} (what is left of it stays as it is)",
            path.display()
        );
        return Err(hinted(why, &disk_hint(volume)));
    }
    if let Some(pool) = volumes::made::load(layout)?.get(volume) {
        return Err(hinted(missing(volume, pool), &missing_hint(volume)));
    }
    if let Some(from) = lies_in.filter(|from| from.path != pool.path) {
        volumes::move_content(volume, from, pool).map_err(|error| {
            format!("what volume \"{volume}\" starts with cannot be taken to pool \"{}\": {error}", pool.name)
        })?;
    }
    create(layout, &wanted, pool, &declared)?;
    volumes::made::note(layout, volume, &pool.name)?;
    Ok(wanted)
}

fn pool_of<'a>(layout: &'a Layout, name: &str, pool: Option<&PoolName>) -> Result<&'a PoolPath, String> {
    layout.pool(pool).ok_or_else(|| {
        let wanted = pool.map_or_else(String::new, ToString::to_string);
        let why = format!("its volume \"{name}\" wants pool \"{wanted}\", which this node does not have");
        hinted(why, POOL_HINT)
    })
}

fn hinted(why: String, hint: &str) -> String {
    with_hint(why, Some(hint.to_owned()))
}

/// What to do about a pool.
const POOL_HINT: &str = "`lith pool ls` shows the pools, `lith up --pool NAME=FOLDER` names one";

fn disk_hint(volume: &VolumeId) -> String {
    format!(
        "put the file back, or go on without: stop the job, move the folder {volume} away, `lith volume rm {volume}`"
    )
}

/// Makes the disk of a volume that has none.
fn create(layout: &Layout, wanted: &Wanted, pool: &PoolPath, declared: &VolumeSpec) -> Result<(), String> {
    let Wanted { id, folder, .. } = wanted;
    let space = Space::of(&pool.path).map_err(|error| format!("pool \"{}\": {error}", pool.name))?;
    if space.is_full() {
        let why = format!("volume \"{id}\" cannot be made: pool \"{}\" is full", pool.name);
        return Err(hinted(why, "free space there; `lith volume ls` shows what takes how much"));
    }
    fs::create_dir_all(folder)
        .and_then(|()| fs::set_permissions(folder, fs::Permissions::from_mode(0o700)))
        .map_err(|error| format!("the folder {} cannot be made: {error}", folder.display()))?;
    durable::sync_folder(&pool.path)
        .map_err(|error| format!("{} cannot be synced: {error}", pool.path.display()))?;
    start(layout, id, declared.import.as_deref(), 0)?;
    let bytes = declared.size.0.next_multiple_of(BLOCK_BYTES);
    scratch::create(&folder.join(names::DISK), Purpose::Volume, bytes)
        .map_err(|error| with_hint(chain(&error), error.hint()))
}

/// What a task's machine is told of its volumes, which are served.
///
/// # Errors
/// A sentence that says which cannot be mounted.
pub(super) fn prepare(
    layout: &Layout,
    task: Mounting<'_>,
    alloc: &Alloc,
    place: impl Fn(&For, &VolumeId) -> Option<Place>,
) -> Result<Disks, String> {
    let mut disks = Disks::default();
    let mut attached: BTreeMap<VolumeName, (String, Start)> = BTreeMap::new();
    let unserved = |volume: &VolumeId| format!("its volume \"{}\" is not served", volume.volume);
    let (reader, holder) = (For::Reader(task.id.clone()), For::Alloc(task.id.alloc.clone()));
    for volume in task.read() {
        let place = place(&reader, &volume).ok_or_else(|| unserved(&volume))?;
        attached.insert(volume.volume, (disks.attach(place), Start::Nothing));
    }
    for (position, volume) in task.held().into_iter().enumerate() {
        let name = volume.volume.as_str();
        let declared =
            alloc.volumes.get(name).ok_or_else(|| format!("its volume \"{name}\" is not declared"))?;
        let declared = declared.parse(name).map_err(|error| chain(&error))?;
        let place = place(&holder, &volume).ok_or_else(|| unserved(&volume))?;
        let start = start(layout, &volume, declared.import.as_deref(), position)?;
        let serial = disks.attach(place);
        if let Start::Content(serial) = &start {
            let path = layout.volume_content(&volume);
            disks.content_bytes += std::fs::metadata(&path).map_or(0, |found| found.len());
            let source = DriveSource::File { path, is_read_only: true };
            disks.volumes.push(VolumeDisk { source, serial: serial.clone() });
        }
        attached.insert(volume.volume, (serial, start));
    }
    for mount in &task.spec.volumes {
        let found = mount.volume().and_then(|volume| attached.get(volume).cloned());
        let (serial, start) =
            found.ok_or_else(|| format!("{} of the node cannot be mounted yet", mount.target))?;
        let (target, is_read_only) = (mount.target.clone(), mount.is_read_only);
        disks.mounts.push(Disk { serial, target, is_read_only, start });
    }
    Ok(disks)
}

/// What a volume is to start with, until it has it. One that would start without is not made: the task would fill it with
/// something else.
fn start(layout: &Layout, volume: &VolumeId, folder: Option<&str>, position: usize) -> Result<Start, String> {
    // Also what a person has sent without a word of it in the job's file: `lith volume import`.
    if volumes::is_there(&layout.volume_content(volume)) {
        return Ok(Start::Content(format!("content-{position}")));
    }
    let Some(folder) = folder else { return Ok(Start::Image) };
    if volumes::is_there(&layout.volume_disk(volume)) {
        return Ok(Start::Nothing);
    }
    Err(format!(
        "volume \"{volume}\" starts with the content of {folder}, which is not here: deploy the job again"
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use lith_api::job::VolumeSpec;
    use lith_core::job::volume::{self, MountSource};

    use super::*;

    fn mount(volume: &str, target: &str, is_read_only: bool) -> Mount {
        let source = MountSource::Volume(volume.parse().unwrap());
        Mount { source, target: target.to_owned(), is_read_only }
    }

    fn place(whose: &For, id: &VolumeId) -> Option<Place> {
        let control = if matches!(whose, For::Reader(_)) { "reader" } else { "control" };
        let serial = id.volume.to_string();
        Some(Place { device: "/run/0.sock".into(), control: format!("/run/{control}.sock").into(), serial })
    }

    #[test]
    fn each_volume_is_one_disk_that_stays() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path(), folder.path());
        std::fs::create_dir_all(layout.node()).unwrap();
        let id: TaskId = "shop.main.2.db".parse().unwrap();
        let volumes = vec![mount("b", "/b", false), mount("a", "/a", true), mount("b", "/b/deep", true)];
        let spec = TaskSpec { volumes, ..TaskSpec::new("db:1") };
        let reads = BTreeSet::new();
        let task = Mounting { id: &id, spec: &spec, reads: &reads };
        let size = |bytes| {
            VolumeSpec::from(&volume::VolumeSpec {
                size: lith_core::job::Bytes(bytes),
                ..volume::VolumeSpec::default()
            })
        };
        let alloc = |bytes| Alloc {
            id: "shop.main.2".to_owned(),
            born: 1,
            volumes: ["a", "b"].map(|name| (name.to_owned(), size(bytes))).into(),
            secrets: BTreeMap::new(),
            configs: BTreeMap::new(),
            tasks: vec![],
        };
        let made = make(&layout, task, &alloc(32 << 20)).unwrap();
        let disks = prepare(&layout, task, &alloc(32 << 20), place).unwrap();
        let serials: Vec<(&str, &str)> =
            disks.mounts.iter().map(|disk| (disk.serial.as_str(), disk.target.as_str())).collect();
        assert_eq!(serials, [("b", "/b"), ("a", "/a"), ("b", "/b/deep")]);
        let path = folder.path().join("volumes/shop.b.2/disk.img");
        assert_eq!(made[1].folder.join("disk.img"), path);
        let found = std::fs::metadata(&path).unwrap();
        assert_eq!((found.len(), found.permissions().mode() & 0o777), (32 << 20, 0o600));
        assert!(found.blocks() * 512 < 8 << 20, "sparse");
        // Another size, as after a deployment: what is there stays as it is.
        assert_eq!(make(&layout, task, &alloc(64 << 20)).unwrap(), made);
        assert_eq!(std::fs::metadata(&path).unwrap().ino(), found.ino());
        let missing = Alloc { volumes: BTreeMap::new(), ..alloc(1) };
        assert_eq!(make(&layout, task, &missing).unwrap_err(), "its volume \"a\" is not declared");
        // One that has lost its disk is not replaced by an empty one.
        std::fs::write(path.with_file_name("volume.json"), "{}").unwrap();
        std::fs::remove_file(&path).unwrap();
        let why = make(&layout, task, &alloc(32 << 20)).unwrap_err();
        assert!(why.starts_with("the disk of volume \"shop.b.2\" is missing"), "{why}");
        assert!(!path.exists());
        // Nor is one whose folder is gone, before a person has given it up.
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
        let why = make(&layout, task, &alloc(32 << 20)).unwrap_err();
        assert!(why.starts_with("volume \"shop.b.2\" is missing") && why.contains("lith volume rm"), "{why}");
        assert!(!path.parent().unwrap().exists());
        volumes::made::forget(&layout, &"shop.b.2".parse().unwrap()).unwrap();
        make(&layout, task, &alloc(32 << 20)).unwrap();
        assert!(path.exists());
    }

    #[test]
    fn a_volume_lies_in_its_pool_with_what_it_starts_with() {
        let folder = tempfile::tempdir().unwrap();
        let bulk = PoolPath {
            name: "bulk".parse().unwrap(),
            path: folder.path().join("bulk"),
            keeps: Keeps::default(),
        };
        let layout = Layout::new(folder.path(), folder.path());
        let default = layout.pools()[0].clone();
        let layout = layout.with_pools(vec![default.clone(), bulk.clone()]);
        std::fs::create_dir_all(layout.node()).unwrap();
        std::fs::create_dir(&bulk.path).unwrap();
        let id: TaskId = "shop.main.0.web".parse().unwrap();
        let spec = TaskSpec { volumes: vec![mount("a", "/a", false)], ..TaskSpec::new("web:1") };
        let reads = BTreeSet::new();
        let task = Mounting { id: &id, spec: &spec, reads: &reads };
        let declared = VolumeSpec::from(&volume::VolumeSpec {
            size: lith_core::job::Bytes(32 << 20),
            pool: Some(bulk.name.clone()),
            ..volume::VolumeSpec::default()
        });
        let alloc = Alloc {
            id: "shop.main.0".to_owned(),
            born: 1,
            volumes: [("a".to_owned(), declared)].into(),
            secrets: BTreeMap::new(),
            configs: BTreeMap::new(),
            tasks: vec![],
        };
        // Sent before the job was deployed: nobody knew of its pool.
        std::fs::create_dir_all(default.path.join("shop.a.0")).unwrap();
        std::fs::write(default.path.join("shop.a.0/content.erofs"), "pages").unwrap();
        pools::check(&layout, &default).unwrap();
        let made = make(&layout, task, &alloc).unwrap();
        assert_eq!(made[0].folder, bulk.path.join("shop.a.0"));
        assert!(made[0].folder.join("disk.img").exists() && !default.path.join("shop.a.0").exists());
        let disks = prepare(&layout, task, &alloc, place).unwrap();
        assert_eq!(
            (disks.content_bytes, &disks.mounts[0].start),
            (5, &Start::Content("content-0".to_owned()))
        );
        assert_eq!(make(&layout, task, &alloc).unwrap(), made);
    }

    #[test]
    fn what_a_volume_starts_with_is_attached_until_it_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path(), folder.path());
        std::fs::create_dir_all(layout.node()).unwrap();
        let id: TaskId = "shop.main.0.web".parse().unwrap();
        let spec = TaskSpec {
            volumes: vec![mount("a", "/a", false), mount("b", "/b", false)],
            ..TaskSpec::new("web:1")
        };
        let reads = BTreeSet::new();
        let task = Mounting { id: &id, spec: &spec, reads: &reads };
        let volume = |import: Option<&str>| {
            VolumeSpec::from(&volume::VolumeSpec {
                size: lith_core::job::Bytes(32 << 20),
                import: import.map(str::to_owned),
                ..volume::VolumeSpec::default()
            })
        };
        let alloc = Alloc {
            id: "shop.main.0".to_owned(),
            born: 1,
            volumes: [("a".to_owned(), volume(None)), ("b".to_owned(), volume(Some("./site")))].into(),
            secrets: BTreeMap::new(),
            configs: BTreeMap::new(),
            tasks: vec![],
        };
        assert_eq!(
            make(&layout, task, &alloc).unwrap_err(),
            "volume \"shop.b.0\" starts with the content of ./site, which is not here: deploy the job again"
        );
        let volume: VolumeId = "shop.b.0".parse().unwrap();
        assert!(!layout.volume_disk(&volume).exists());
        std::fs::write(layout.volume_content(&volume), "pages").unwrap();
        make(&layout, task, &alloc).unwrap();
        let disks = prepare(&layout, task, &alloc, place).unwrap();
        assert_eq!(disks.content_bytes, 5);
        let is_file = |disk: &VolumeDisk| matches!(disk.source, DriveSource::File { .. });
        let serials: Vec<(&str, bool)> =
            disks.volumes.iter().map(|disk| (disk.serial.as_str(), is_file(disk))).collect();
        assert_eq!(serials, [("a", false), ("b", false), ("content-1", true)]);
        let starts =
            |disks: &Disks| -> Vec<Start> { disks.mounts.iter().map(|disk| disk.start.clone()).collect() };
        assert_eq!(starts(&disks), [Start::Image, Start::Content("content-1".to_owned())]);
        volumes::forget_content(&layout, &volume);
        let disks = prepare(&layout, task, &alloc, place).unwrap();
        assert_eq!((disks.volumes.len(), starts(&disks)), (2, vec![Start::Image, Start::Nothing]));
    }

    #[test]
    fn what_others_write_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path(), folder.path());
        std::fs::create_dir_all(layout.node()).unwrap();
        let id: TaskId = "shop.main.0.web".parse().unwrap();
        let volumes = vec![mount("a", "/a", true), mount("a", "/again", true)];
        let spec = TaskSpec { volumes, ..TaskSpec::new("web:1") };
        let reads = BTreeSet::from(["a".parse().unwrap()]);
        let task = Mounting { id: &id, spec: &spec, reads: &reads };
        let alloc = Alloc {
            id: "shop.main.0".to_owned(),
            born: 1,
            volumes: BTreeMap::new(),
            secrets: BTreeMap::new(),
            configs: BTreeMap::new(),
            tasks: vec![],
        };
        assert_eq!(make(&layout, task, &alloc).unwrap(), []);
        let why = find_read(&layout, task).unwrap_err();
        assert_eq!(why, "waits for volume a, which no task has made yet");
        let volume: VolumeId = "shop.a.0".parse().unwrap();
        assert!(!layout.volume(&volume).exists(), "whoever reads makes nothing");
        std::fs::create_dir_all(layout.volume(&volume)).unwrap();
        std::fs::write(layout.volume_disk(&volume), "disk").unwrap();
        assert_eq!(find_read(&layout, task).unwrap().len(), 1);
        let disks = prepare(&layout, task, &alloc, place).unwrap();
        assert_eq!((disks.volumes.len(), disks.mounts.len()), (1, 2));
        assert_eq!(disks.control, BTreeSet::from(["/run/reader.sock".into()]));
        assert!(disks.mounts.iter().all(|disk| disk.start == Start::Nothing && disk.is_read_only));
    }
}
