//! A restore that was cut off, on real volumes: what is held, how it is ended, and what must not be done meanwhile.

use lith_api::volume::Point;
use lith_net::GuestNetwork;
use lith_store::Store;
use lith_volume::disk::Disk;
use lith_volume::names;
use lith_volume::pieces::Pieces;
use lith_volume::segment::VolumeUuid;
use lith_volume::volume::Volume;

use super::super::history::Unfinished;
use super::*;
use crate::agent::{Agent, AgentConfig, Ends};
use crate::images::Images;

/// A node with the volumes `db` and `files` of one instance, each with a checkpoint that says `old` and one that says
/// `new`. Nothing runs.
struct World {
    _folder: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    handle: AgentHandle,
    server: Arc<Server>,
    _agent: Agent,
}

const VOLUMES: [&str; 2] = ["shop.db.0", "shop.files.0"];

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let layout = crate::up::prepare(&folder.path().join("data"), &folder.path().join("run")).unwrap();
        for id in VOLUMES {
            let folder = layout.volumes().join(id);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::File::create(folder.join(names::DISK)).unwrap().set_len(1 << 20).unwrap();
            let volume = Volume::open_or_begin(Folder::new(&folder), VolumeUuid([1; 16]), 1).unwrap();
            for (text, now_ns) in [(b"old", 1), (b"new", 2)] {
                volume.write(0, &Pieces::of(text)).unwrap();
                volume.cut_at_rest(now_ns).unwrap();
            }
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let config = AgentConfig {
            layout: layout.clone(),
            node: "odin".parse().unwrap(),
            network: GuestNetwork::default(),
            kernels: vec![],
            trusts_database: false,
        };
        let images = Images::open(&layout.images()).unwrap();
        let node = config.node.clone();
        let (agent, ends) = Agent::new(config, images, runtime.handle().clone()).unwrap();
        let Ends { desired, observed, handle, .. } = ends;
        let store = Store::open(&layout.database()).unwrap();
        let server = Arc::new(Server::new(store, node, desired, observed).unwrap());
        Self { _folder: folder, runtime, handle, server, _agent: agent }
    }

    /// What the disks say.
    fn says(&self) -> [String; 2] {
        VOLUMES.map(|id| {
            let disk = std::fs::read(self.handle.layout().volumes().join(id).join(names::DISK)).unwrap();
            String::from_utf8(disk[..3].to_vec()).unwrap()
        })
    }

    fn note(&self, json: &str) {
        std::fs::write(self.handle.layout().restore(), json).unwrap();
    }

    /// As a crash leaves it when the first volume is being restored, and the other one was not begun.
    fn begin_first(&self) {
        let folder = self.handle.layout().volumes().join(VOLUMES[0]);
        let storage = Folder::new(&folder);
        let mut manifest = Manifest::load(&storage).unwrap().unwrap();
        manifest.snapshots.push(lith_volume::manifest::Snapshot {
            name: "kept".to_owned(),
            seq: 2,
            time_ns: 2,
        });
        manifest.restore = Some(lith_volume::manifest::Restore { target: 1, replaced: 2 });
        manifest.save(&storage).unwrap();
    }

    fn is_held(&self) -> bool {
        self.handle.is_held(&"shop".parse().unwrap(), 0)
    }

    fn problems(&self) -> Vec<Option<String>> {
        let volumes = self.runtime.block_on(self.server.volumes(self.handle.clone())).unwrap();
        volumes.into_iter().map(|volume| volume.problem).collect()
    }

    fn end(&self, unended: Unended) {
        self.runtime.block_on(unended.end(self.handle.clone(), Some(Arc::clone(&self.server))));
    }
}

const NOTE: &str = r#"{"keep_as":"kept","volumes":[["shop.db.0",1],["shop.files.0",1]]}"#;

#[test]
fn what_a_crash_cut_off_is_held_and_then_ended() {
    let world = World::new();
    assert!(Unended::find(&world.handle).is_none());
    world.begin_first();
    world.note(NOTE);
    let unended = Unended::find(&world.handle).unwrap();
    assert!(world.is_held(), "before anything starts");
    assert_eq!(world.says(), ["new", "new"], "nothing is done yet");
    world.end(unended);
    assert_eq!(world.says(), ["old", "old"]);
    assert!(!world.is_held() && !world.handle.layout().restore().exists());
    assert_eq!(world.problems(), [None, None]);
    let events = world.server.store().events_after(0).unwrap();
    assert_eq!(events.last().unwrap().kind, "restored", "{events:?}");
}

#[test]
fn of_a_note_that_cannot_be_read_everything_that_was_begun_is_held() {
    let world = World::new();
    world.note("{");
    let unended = Unended::find(&world.handle).unwrap();
    assert!(!world.is_held(), "no volume says that a restore of it was begun");
    drop(unended);
    world.begin_first();
    let unended = Unended::find(&world.handle).unwrap();
    assert!(world.is_held());
    let failure = end_noted(&world.handle).unwrap_err();
    assert!(failure.message.contains("restore.json is damaged") && failure.hint.is_some(), "{failure:?}");
    world.server.note_unended(Some((unended.instances.clone(), Some(failure.message))));
    let problems = world.problems();
    assert!(problems.iter().all(|why| why.as_ref().unwrap().contains("is damaged")), "{problems:?}");
    // A person has removed it.
    std::fs::remove_file(world.handle.layout().restore()).unwrap();
    world.end(unended);
    assert_eq!((world.is_held(), world.problems()), (false, vec![None, None]));
}

#[test]
fn no_history_is_put_aside_that_a_restore_needs() {
    let world = World::new();
    let forget = |id: &str, unfinished| {
        let id = id.parse().unwrap();
        world.runtime.block_on(world.server.forget_history(id, unfinished, world.handle.clone()))
    };
    world.begin_first();
    world.note(NOTE);
    for id in VOLUMES {
        let failure = forget(id, Unfinished::Refuse).unwrap_err();
        assert!(failure.message.contains("has not ended") && failure.hint.is_some(), "{failure:?}");
    }
    forget(VOLUMES[0], Unfinished::GiveUp).unwrap();
    // The other one is still restored.
    world.end(Unended::find(&world.handle).unwrap());
    assert_eq!(world.says(), ["new", "old"]);
    let manifest = Manifest::load(&Folder::read_only(&world.handle.layout().volumes().join(VOLUMES[0])));
    assert_eq!(manifest.unwrap().unwrap().restore, None);
}

#[test]
fn a_name_that_a_snapshot_has_is_not_taken_for_a_restore_that_was_begun() {
    let world = World::new();
    let folders: Vec<(VolumeId, PathBuf)> =
        VOLUMES.map(|id| (id.parse().unwrap(), world.handle.layout().volumes().join(id))).into();
    let request = RestoreRequest { volumes: VOLUMES.map(str::to_owned).into(), to: Point::Time(0) };
    let restore = || {
        let mut events = vec![];
        world.server.restore(&request, &world.handle, &mut |event| events.push(event));
        assert!(!events.iter().any(|event| matches!(event, RestoreEvent::Failed(_))), "{events:?}");
    };
    // Quicker than the seconds of a name go by.
    for _ in 0..3 {
        restore();
    }
    let manifest = Manifest::load(&Folder::read_only(&folders[0].1)).unwrap().unwrap();
    let names: BTreeSet<&String> = manifest.snapshots.iter().map(|snapshot| &snapshot.name).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(!names.contains(&unused_name(&folders).unwrap()));
}
