//! A folder whose disk takes a sync only when it is let.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use lith_volume::disk::{Disk, Patience};
use lith_volume::names;
use lith_volume::pieces::Pieces;
use lith_volume::storage::{Folder, Mark, Storage, StoredFile};
use lith_volume::volume::{CutTime, Volume, begin_cuts};

use crate::fixture::{Fixture, SECOND, UUID};

/// Longer than anything that does not wait takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_closed: bool,
    waiting: usize,
}

impl Gate {
    fn close(&self, is_closed: bool) {
        self.state.lock().unwrap().is_closed = is_closed;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.waiting += 1;
        self.changed.notify_all();
        let mut state = self.changed.wait_while(state, |state| state.is_closed).unwrap();
        state.waiting -= 1;
    }

    fn wait_for_somebody(&self) {
        let state = self.state.lock().unwrap();
        let (state, _) =
            self.changed.wait_timeout_while(state, DEADLINE, |state| state.waiting == 0).unwrap();
        assert!(state.waiting > 0, "nobody syncs the disk");
    }
}

#[derive(Debug, Clone)]
struct Gated {
    folder: Folder,
    gate: Arc<Gate>,
}

#[derive(Debug)]
struct GatedFile {
    file: File,
    gate: Option<Arc<Gate>>,
}

impl Gated {
    fn file(&self, name: &str, file: File) -> GatedFile {
        GatedFile { file, gate: (name == names::DISK).then(|| Arc::clone(&self.gate)) }
    }
}

impl Storage for Gated {
    type File = GatedFile;
    type Hold = File;

    fn open(&self, name: &str) -> io::Result<Option<GatedFile>> {
        Ok(self.folder.open(name)?.map(|file| self.file(name, file)))
    }

    fn create(&self, name: &str) -> io::Result<GatedFile> {
        Ok(self.file(name, self.folder.create(name)?))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.folder.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.folder.rename(from, to)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.folder.list(folder)
    }

    fn share(&self) -> io::Result<File> {
        self.folder.share()
    }

    fn try_own(&self) -> io::Result<Option<File>> {
        self.folder.try_own()
    }

    fn pin(&self, seq: u64) -> io::Result<File> {
        self.folder.pin(seq)
    }

    fn pinned(&self) -> io::Result<BTreeSet<u64>> {
        self.folder.pinned()
    }

    fn mark(&self, name: &str) -> io::Result<Option<Mark>> {
        self.folder.mark(name)
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        self.folder.sync_folder(folder)
    }
}

impl StoredFile for GatedFile {
    fn read(&self, offset: u64, into: &Pieces<'_>, patience: Patience) -> io::Result<()> {
        self.file.read(offset, into, patience)
    }

    fn write(&self, offset: u64, from: &Pieces<'_>) -> io::Result<()> {
        self.file.write(offset, from)
    }

    fn sync(&self) -> io::Result<()> {
        if let Some(gate) = &self.gate {
            gate.pass();
        }
        self.file.sync()
    }

    fn punch(&self, range: Range<u64>) -> io::Result<()> {
        self.file.punch(range)
    }

    fn next_content(&self, from: u64) -> io::Result<u64> {
        self.file.next_content(from)
    }

    fn next_hole(&self, from: u64) -> io::Result<u64> {
        self.file.next_hole(from)
    }

    fn bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }

    fn resize(&self, bytes: u64) -> io::Result<()> {
        self.file.resize(bytes)
    }
}

#[test]
fn neither_a_status_nor_a_cut_waits_for_a_disk_that_grows() {
    let fixture = Fixture::new(16);
    let gate = Arc::<Gate>::default();
    let storage = Gated { folder: fixture.storage(), gate: Arc::clone(&gate) };
    let volume = Arc::new(Volume::open_or_begin(storage, UUID, 1).unwrap());
    volume.write(0, &Pieces::of(&[1; 4096])).unwrap();
    gate.close(true);
    let growing = std::thread::spawn({
        let volume = Arc::clone(&volume);
        move || volume.grow(32 * 4096).unwrap()
    });
    gate.wait_for_somebody();
    let (tell, told) = std::sync::mpsc::channel();
    let beside = std::thread::spawn({
        let volume = Arc::clone(&volume);
        move || {
            let before = volume.status().bytes;
            let cut = begin_cuts(&[&*volume], CutTime { now_ns: SECOND, is_at_rest: false }).remove(0);
            let cut = cut.unwrap().unwrap();
            while cut.copy().unwrap() {}
            cut.finish().unwrap();
            tell.send(before).unwrap();
        }
    });
    let told = told.recv_timeout(DEADLINE);
    gate.close(false);
    growing.join().unwrap();
    beside.join().unwrap();
    assert_eq!(told, Ok(16 * 4096), "it waited, or is larger before that is durable");
    assert_eq!(volume.status().bytes, 32 * 4096);
}
