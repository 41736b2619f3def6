//! The disks of a task's volumes: which it mounts, and that they are there. A disk outlives its task, its versions and its
//! job; nothing in here deletes one.

use std::collections::BTreeMap;

use lith_api::agent::Alloc;
use lith_core::chain::chain;
use lith_core::job::TaskSpec;
use lith_core::job::volume::MountSource;
use lith_core::name::{TaskId, VolumeId, VolumeName};
use lith_guest::messages::settings::{Disk, Start};
use lith_vmm::durable;
use lith_vmm::scratch::{self, Purpose};
use lith_vmm::shim::VolumeDisk;

use super::machine::with_hint;
use crate::layout::Layout;
use crate::volumes;

/// What a task's machine is told of its volumes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Disks {
    /// For the VMM, each disk once.
    pub(super) volumes: Vec<VolumeDisk>,
    /// For the guest, each place.
    pub(super) mounts: Vec<Disk>,
    /// Size of what new volumes start with.
    pub(super) content_bytes: u64,
}

/// The volumes that a task mounts, each once.
pub(super) fn mounted(id: &TaskId, spec: &TaskSpec) -> Vec<VolumeId> {
    let (job, index) = (&id.alloc.job, id.alloc.index);
    let volumes = spec.volumes.iter().filter_map(|mount| match &mount.source {
        MountSource::Volume(volume) => Some(VolumeId { job: job.clone(), volume: volume.clone(), index }),
        MountSource::Host(_) => None,
    });
    let mut volumes: Vec<VolumeId> = volumes.collect();
    volumes.sort();
    volumes.dedup();
    volumes
}

/// Makes the disks of a task's volumes that are not there yet.
///
/// # Errors
/// A sentence that says which cannot be made.
pub(super) fn prepare(layout: &Layout, id: &TaskId, spec: &TaskSpec, alloc: &Alloc) -> Result<Disks, String> {
    let mut disks = Disks::default();
    let mut attached: BTreeMap<VolumeName, (String, Start)> = BTreeMap::new();
    for (position, volume) in mounted(id, spec).into_iter().enumerate() {
        let name = volume.volume.as_str();
        let declared =
            alloc.volumes.get(name).ok_or_else(|| format!("its volume \"{name}\" is not declared"))?;
        let declared = declared.parse(name).map_err(|error| chain(&error))?;
        let folder = layout.volume(&volume);
        std::fs::create_dir_all(&folder)
            .map_err(|error| format!("the folder {} cannot be made: {error}", folder.display()))?;
        durable::sync_folder(&layout.volumes())
            .map_err(|error| format!("{} cannot be synced: {error}", layout.volumes().display()))?;
        let start = start(layout, &volume, declared.import.as_deref(), position)?;
        let path = layout.volume_disk(&volume);
        scratch::create(&path, Purpose::Volume, declared.size.0)
            .map_err(|error| with_hint(chain(&error), error.hint()))?;
        let serial = format!("volume-{position}");
        disks.volumes.push(VolumeDisk { path, serial: serial.clone(), is_read_only: false });
        if let Start::Content(serial) = &start {
            let path = layout.volume_content(&volume);
            disks.content_bytes += std::fs::metadata(&path).map_or(0, |found| found.len());
            disks.volumes.push(VolumeDisk { path, serial: serial.clone(), is_read_only: true });
        }
        attached.insert(volume.volume, (serial, start));
    }
    for mount in &spec.volumes {
        let found = match &mount.source {
            MountSource::Volume(volume) => attached.get(volume).cloned(),
            MountSource::Host(_) => None,
        };
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
    let Some(folder) = folder else { return Ok(Start::Image) };
    if volumes::is_there(&layout.volume_content(volume)) {
        return Ok(Start::Content(format!("content-{position}")));
    }
    if volumes::is_there(&layout.volume_disk(volume)) {
        return Ok(Start::Nothing);
    }
    Err(format!(
        "volume \"{volume}\" starts with the content of {folder}, which is not here: deploy the job again"
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use lith_api::job::VolumeSpec;
    use lith_core::job::volume::{self, Mount};

    use super::*;

    fn mount(volume: &str, target: &str, is_read_only: bool) -> Mount {
        let source = MountSource::Volume(volume.parse().unwrap());
        Mount { source, target: target.to_owned(), is_read_only }
    }

    #[test]
    fn each_volume_is_one_disk_that_stays() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path(), folder.path());
        let id: TaskId = "shop.main.2.db".parse().unwrap();
        let volumes = vec![mount("b", "/b", false), mount("a", "/a", true), mount("b", "/b/deep", true)];
        let spec = TaskSpec { volumes, ..TaskSpec::new("db:1") };
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
        let disks = prepare(&layout, &id, &spec, &alloc(32 << 20)).unwrap();
        let serials: Vec<(&str, &str)> =
            disks.mounts.iter().map(|disk| (disk.serial.as_str(), disk.target.as_str())).collect();
        assert_eq!(serials, [("volume-1", "/b"), ("volume-0", "/a"), ("volume-1", "/b/deep")]);
        let path = folder.path().join("volumes/shop.b.2/disk.img");
        assert_eq!(disks.volumes[1].path, path);
        let found = std::fs::metadata(&path).unwrap();
        assert_eq!((found.len(), found.permissions().mode() & 0o777), (32 << 20, 0o600));
        assert!(found.blocks() * 512 < 8 << 20, "sparse");
        // Another size, as after a deployment: what is there stays as it is.
        assert_eq!(prepare(&layout, &id, &spec, &alloc(64 << 20)).unwrap(), disks);
        assert_eq!(std::fs::metadata(&path).unwrap().ino(), found.ino());
        let missing = Alloc { volumes: BTreeMap::new(), ..alloc(1) };
        assert_eq!(prepare(&layout, &id, &spec, &missing).unwrap_err(), "its volume \"a\" is not declared");
    }

    #[test]
    fn what_a_volume_starts_with_is_attached_until_it_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path(), folder.path());
        let id: TaskId = "shop.main.0.web".parse().unwrap();
        let spec = TaskSpec {
            volumes: vec![mount("a", "/a", false), mount("b", "/b", false)],
            ..TaskSpec::new("web:1")
        };
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
            prepare(&layout, &id, &spec, &alloc).unwrap_err(),
            "volume \"shop.b.0\" starts with the content of ./site, which is not here: deploy the job again"
        );
        let volume: VolumeId = "shop.b.0".parse().unwrap();
        assert!(!layout.volume_disk(&volume).exists());
        std::fs::write(layout.volume_content(&volume), "pages").unwrap();
        let disks = prepare(&layout, &id, &spec, &alloc).unwrap();
        assert_eq!(disks.content_bytes, 5);
        let serials: Vec<(&str, bool)> =
            disks.volumes.iter().map(|disk| (disk.serial.as_str(), disk.is_read_only)).collect();
        assert_eq!(serials, [("volume-0", false), ("volume-1", false), ("content-1", true)]);
        let starts =
            |disks: &Disks| -> Vec<Start> { disks.mounts.iter().map(|disk| disk.start.clone()).collect() };
        assert_eq!(starts(&disks), [Start::Image, Start::Content("content-1".to_owned())]);
        volumes::forget_content(&layout, &volume);
        let disks = prepare(&layout, &id, &spec, &alloc).unwrap();
        assert_eq!((disks.volumes.len(), starts(&disks)), (2, vec![Start::Image, Start::Nothing]));
    }
}
