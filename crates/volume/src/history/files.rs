//! The files of a history for those who read it: opened when they are needed, and a few at a time. A long history has more
//! files than a process may have open.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use crate::disk::Patience;
use crate::lock;
use crate::pieces::Pieces;
use crate::storage::{Storage, StoredFile};

/// Files that stay open: a reader goes through a history from file to file, and back and forth between few.
const OPEN_MAX: usize = 32;

/// The files of a volume's folder, of which some are open.
#[derive(Debug)]
pub(crate) struct Files<S: Storage> {
    pub(super) storage: S,
    /// Those used last, the last one at the end.
    open: Mutex<Vec<(String, Arc<S::File>)>>,
}

/// A file by its name, which is opened for each use unless it still is.
#[derive(Debug)]
pub(crate) struct NamedFile<S: Storage> {
    name: String,
    files: Arc<Files<S>>,
}

impl<S: Storage> Files<S> {
    pub(super) fn new(storage: S) -> Arc<Self> {
        Arc::new(Self { storage, open: Mutex::default() })
    }

    pub(super) fn named(self: &Arc<Self>, name: &str) -> NamedFile<S> {
        NamedFile { name: name.to_owned(), files: Arc::clone(self) }
    }

    fn get(&self, name: &str) -> io::Result<Arc<S::File>> {
        let mut open = lock(&self.open);
        let known = match open.iter().position(|(known, _)| known == name) {
            Some(position) => open.remove(position),
            None => {
                let file = self.storage.open(name)?.ok_or(io::ErrorKind::NotFound)?;
                if open.len() >= OPEN_MAX {
                    open.remove(0);
                }
                (name.to_owned(), Arc::new(file))
            }
        };
        let file = Arc::clone(&known.1);
        open.push(known);
        Ok(file)
    }
}

impl<S: Storage> NamedFile<S> {
    fn file(&self) -> io::Result<Arc<S::File>> {
        self.files.get(&self.name)
    }
}

impl<S: Storage> StoredFile for NamedFile<S> {
    fn read(&self, offset: u64, into: &Pieces<'_>, patience: Patience) -> io::Result<()> {
        self.file()?.read(offset, into, patience)
    }

    fn write(&self, offset: u64, from: &Pieces<'_>) -> io::Result<()> {
        self.file()?.write(offset, from)
    }

    fn sync(&self) -> io::Result<()> {
        self.file()?.sync()
    }

    fn punch(&self, range: Range<u64>) -> io::Result<()> {
        self.file()?.punch(range)
    }

    fn next_content(&self, from: u64) -> io::Result<u64> {
        self.file()?.next_content(from)
    }

    fn next_hole(&self, from: u64) -> io::Result<u64> {
        self.file()?.next_hole(from)
    }

    fn bytes(&self) -> io::Result<u64> {
        self.file()?.bytes()
    }

    fn resize(&self, bytes: u64) -> io::Result<()> {
        self.file()?.resize(bytes)
    }
}
