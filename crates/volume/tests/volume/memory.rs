//! A folder in memory, which is copied in a moment: for tests that need very many.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use lith_volume::disk::Patience;
use lith_volume::pieces::Pieces;
use lith_volume::storage::{Mark, Storage, StoredFile};

#[derive(Debug, Clone, Default)]
pub(crate) struct Memory {
    files: Arc<Mutex<BTreeMap<String, MemoryFile>>>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryFile(Arc<Mutex<Vec<u8>>>);

impl Memory {
    /// All files with their content.
    pub(crate) fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let files = self.files.lock().unwrap();
        files.iter().map(|(name, file)| (name.clone(), file.0.lock().unwrap().clone())).collect()
    }

    pub(crate) fn of(contents: &BTreeMap<String, Vec<u8>>) -> Self {
        let file = |content: &Vec<u8>| MemoryFile(Arc::new(Mutex::new(content.clone())));
        let files = contents.iter().map(|(name, content)| (name.clone(), file(content))).collect();
        Self { files: Arc::new(Mutex::new(files)) }
    }
}

impl Storage for Memory {
    type File = MemoryFile;
    type Hold = ();
    const TABLE_BYTES: usize = 100;

    fn open(&self, name: &str) -> io::Result<Option<MemoryFile>> {
        Ok(self.files.lock().unwrap().get(name).cloned())
    }

    fn create(&self, name: &str) -> io::Result<MemoryFile> {
        let file = MemoryFile::default();
        self.files.lock().unwrap().insert(name.to_owned(), file.clone());
        Ok(file)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files.lock().unwrap().remove(name);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files.lock().unwrap();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let files = self.files.lock().unwrap();
        let names = files.keys().filter_map(|name| name.strip_prefix(folder)?.strip_prefix('/'));
        Ok(names.map(str::to_owned).collect())
    }

    fn share(&self) -> io::Result<()> {
        Ok(())
    }

    fn try_own(&self) -> io::Result<Option<()>> {
        Ok(Some(()))
    }

    fn pin(&self, _seq: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn pinned(&self) -> io::Result<BTreeSet<u64>> {
        Ok(BTreeSet::new())
    }

    fn mark(&self, _name: &str) -> io::Result<Option<Mark>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_folder(&self, _folder: &str) -> io::Result<()> {
        Ok(())
    }
}

impl StoredFile for MemoryFile {
    fn read(&self, offset: u64, into: &Pieces<'_>, _patience: Patience) -> io::Result<()> {
        let content = self.0.lock().unwrap();
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let end = content.len().min(start.saturating_add(into.bytes()));
        into.copy_in(&content[start..end]);
        let rest = into.bytes() - (end - start);
        into.part(end - start, rest).copy_in(&vec![0; rest]);
        Ok(())
    }

    fn write(&self, offset: u64, from: &Pieces<'_>) -> io::Result<()> {
        let mut content = self.0.lock().unwrap();
        let start = usize::try_from(offset).unwrap();
        let end = start + from.bytes();
        if end > content.len() {
            content.resize(end, 0);
        }
        from.copy_out(&mut content[start..end]);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn punch(&self, range: Range<u64>) -> io::Result<()> {
        self.write(range.start, &Pieces::of(&vec![0; usize::try_from(range.end - range.start).unwrap()]))
    }

    fn next_content(&self, from: u64) -> io::Result<u64> {
        Ok(from.min(self.bytes()?))
    }

    fn next_hole(&self, _from: u64) -> io::Result<u64> {
        self.bytes()
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().len() as u64)
    }

    fn resize(&self, bytes: u64) -> io::Result<()> {
        self.0.lock().unwrap().resize(usize::try_from(bytes).unwrap(), 0);
        Ok(())
    }
}
