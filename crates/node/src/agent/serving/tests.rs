//! Who is served, who waits, and who is told what, without any process: where one would be, its lock is held.

use std::sync::mpsc::channel;
use std::time::Duration;

use super::super::wake::{self, Wake};
use super::*;

/// Longer than any thread takes to begin on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

struct World {
    folder: tempfile::TempDir,
    serving: Serving,
    wake: Wake,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(&folder.path().join("data"), &folder.path().join("run"));
        let (waker, wake) = wake::pair();
        Self { serving: Serving::new(layout, waker), folder, wake }
    }

    /// A process that serves a volume, as far as can be seen from outside, while what is returned lives.
    fn serve(&mut self, alloc: &str, volumes: &[&str]) -> File {
        let folder = self.folder.path().join("run/disks").join(alloc);
        fs::create_dir_all(&folder).unwrap();
        let lock = File::create(folder.join(LOCK)).unwrap();
        flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
        let volumes = volumes.iter().map(|id| id.parse().unwrap()).collect();
        let whose = For::Alloc(alloc.parse().unwrap());
        self.serving.processes.push(Process {
            folder,
            whose,
            volumes,
            memory_bytes: u64::MAX,
            state: State::Serves,
        });
        lock
    }

    fn ensure(&mut self, demand: &Demand) -> Outcome {
        self.serving.ensure(demand, || Err(Outcome::Failed("no disk can be made".to_owned())))
    }

    /// What comes of a start.
    fn outcome(&mut self, demand: &Demand) -> Outcome {
        let begun = std::time::Instant::now();
        loop {
            match self.ensure(demand) {
                Outcome::Opening if begun.elapsed() < PATIENCE => self.wake.wait(PATIENCE),
                outcome => return outcome,
            }
        }
    }
}

fn demand(task: &str, own: &[&str]) -> Demand {
    let own: Vec<VolumeId> = own.iter().map(|id| id.parse().unwrap()).collect();
    let task: TaskId = task.parse().unwrap();
    let whose = For::Alloc(task.alloc.clone());
    Demand { task, whose, of_alloc: own.clone(), own, has_guests: false, memory_bytes: 1 }
}

#[test]
fn a_slow_disk_keeps_nobody_waiting_and_its_trouble_is_told_to_who_asked() {
    let mut world = World::new();
    let slow = demand("shop.main.0.db", &["shop.data.0"]);
    let (release, released) = channel::<()>();
    let make = move || {
        // As a disk that does not answer.
        let _ = released.recv();
        Err(Outcome::Failed("the disk is gone".to_owned()))
    };
    assert_eq!(world.serving.ensure(&slow, make), Outcome::Opening);
    let volume = "shop.data.0".parse().unwrap();
    assert!(control_of(&world.serving.layout, &volume).is_some(), "who needs it for itself waits");
    let beside = demand("shop.main.0.web", &["shop.pages.0"]);
    assert_eq!(world.ensure(&beside), Outcome::Opening);
    let other = demand("wiki.main.0.db", &["wiki.data.0"]);
    assert_eq!(world.outcome(&other), Outcome::Failed("no disk can be made".to_owned()));
    assert_eq!(world.ensure(&slow), Outcome::Opening, "still");
    drop(release);
    assert_eq!(world.outcome(&slow), Outcome::Failed("the disk is gone".to_owned()));
    assert_eq!(world.outcome(&beside), Outcome::Failed("no disk can be made".to_owned()));
    assert!(world.serving.is_empty() && control_of(&world.serving.layout, &volume).is_none());
}

#[test]
fn a_volume_that_another_alloc_still_has_is_waited_for() {
    let mut world = World::new();
    let lock = world.serve("shop.old.0", &["shop.data.0", "shop.pages.0"]);
    let moved = demand("shop.new.0.db", &["shop.data.0"]);
    let [old, new]: [AllocId; 2] = ["shop.old.0", "shop.new.0"].map(|id| id.parse().unwrap());
    let volume: VolumeId = "shop.data.0".parse().unwrap();
    assert!(world.serving.place(&For::Alloc(old.clone()), &volume).is_some());
    assert_eq!(
        world.serving.place(&For::Alloc(new), &volume),
        None,
        "what ends with another alloc is no place"
    );
    assert_eq!(world.ensure(&moved), Outcome::Elsewhere(volume, old));
    drop(lock);
    assert_eq!(world.outcome(&moved), Outcome::Failed("no disk can be made".to_owned()));
}

#[test]
fn what_an_alloc_has_no_more_is_let_go_when_its_guests_are_gone() {
    let mut world = World::new();
    let _lock = world.serve("shop.old.0", &["shop.data.0", "shop.pages.0"]);
    let stays = Demand { has_guests: true, ..demand("shop.old.0.web", &["shop.pages.0"]) };
    assert_eq!(world.ensure(&stays), Outcome::Serves, "another guest has its process");
    let alone = Demand { has_guests: false, ..stays };
    assert_eq!(world.ensure(&alone), Outcome::Opening);
    assert!(matches!(world.serving.processes[0].state, State::Ending(_)));
}

#[test]
fn who_reads_is_served_beside_who_writes() {
    let mut world = World::new();
    let _lock = world.serve("shop.main.0", &["shop.data.0"]);
    let task: TaskId = "shop.main.0.web".parse().unwrap();
    let reader = Demand { whose: For::Reader(task.clone()), ..demand("shop.main.0.web", &["shop.data.0"]) };
    let nothing = || Err(Outcome::Waits("it holds nothing yet".to_owned()));
    assert_eq!(world.serving.ensure(&reader, nothing), Outcome::Opening);
    assert_eq!(world.outcome(&reader), Outcome::Waits("it holds nothing yet".to_owned()));
    // Each end of a process is a round for all: it is not tried again in each.
    assert_eq!(world.ensure(&reader), Outcome::Waits("it holds nothing yet".to_owned()));
    let volume = "shop.data.0".parse().unwrap();
    assert_eq!(world.serving.place(&reader.whose, &volume), None);
    assert!(control_of(&world.serving.layout, &volume).is_none(), "nothing was written down");
    assert_eq!(world.ensure(&demand("shop.main.0.db", &["shop.data.0"])), Outcome::Serves);
    // What is written down of one that reads is told as that.
    let folder = world.folder.path().join("run/disks/9");
    fs::create_dir_all(&folder).unwrap();
    let _held = launch::announce(&folder, &reader.whose, std::slice::from_ref(&volume)).unwrap();
    assert_eq!(readers_of(&world.serving.layout, &volume), [task]);
    assert!(control_of(&world.serving.layout, &volume).is_none());
}
