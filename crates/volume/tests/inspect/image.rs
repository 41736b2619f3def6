//! Makes images for the tests, and reads what comes out.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use lith_volume::inspect::View;
use lith_volume::inspect::entry::{Entry, Summary};
use lith_volume::inspect::limits::Limits;
use lith_volume::inspect::source::Source;
use lith_volume::inspect::walk::Depth;
use tempfile::TempDir;

pub(crate) const LIMITS: Limits = Limits { entries_max: 1 << 20, bytes_max: 1 << 30 };

/// A folder with what becomes `/data`, and the image made from it.
pub(crate) struct Image {
    pub(crate) folder: TempDir,
}

/// Bytes in memory as a disk.
#[derive(Clone)]
pub(crate) struct Memory(pub(crate) Arc<Vec<u8>>);

impl Source for Memory {
    fn bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        into.copy_from_slice(&self.0[start..start + into.len()]);
        Ok(())
    }
}

pub(crate) fn run(program: &str, arguments: &[&str]) -> Output {
    // For one who is not root, the folder is often not searched.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    Command::new(program).args(arguments).env("PATH", path).output().unwrap()
}

impl Image {
    pub(crate) fn new() -> Image {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("tree/data")).unwrap();
        Image { folder }
    }

    /// A path within what becomes `/data`.
    pub(crate) fn data(&self, path: &str) -> PathBuf {
        self.folder.path().join("tree/data").join(path)
    }

    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.data(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    pub(crate) fn path_text(&self) -> String {
        self.path().to_str().unwrap().to_owned()
    }

    pub(crate) fn make(&self, mebibytes: u64, options: &[&str]) {
        File::create(self.path()).unwrap().set_len(mebibytes << 20).unwrap();
        let tree = self.folder.path().join("tree");
        let path = self.path_text();
        let arguments = [&["-q", "-F", "-d", tree.to_str().unwrap()], options, &[&path]].concat();
        let output = run("mkfs.ext4", &arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Runs commands of `debugfs` that write.
    pub(crate) fn debugfs(&self, commands: &[&str]) -> String {
        let script = self.folder.path().join("commands");
        std::fs::write(&script, commands.join("\n") + "\n").unwrap();
        let output = run("debugfs", &["-w", "-f", script.to_str().unwrap(), &self.path_text()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What `debugfs` says to a question, as numbers.
    pub(crate) fn blocks(&self, path: &str) -> Vec<u64> {
        let output = run("debugfs", &["-R", &format!("blocks {path}"), &self.path_text()]);
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_whitespace().map(|number| number.parse().unwrap()).collect()
    }

    pub(crate) fn view(&self) -> View {
        View::open(Box::new(File::open(self.path()).unwrap()), "/data", LIMITS).unwrap()
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.path()).unwrap()
    }
}

pub(crate) fn list(view: &View, path: &str, depth: Depth) -> (Vec<Entry>, Summary) {
    let mut entries = Vec::new();
    let summary = view.list(path.as_bytes(), depth, &mut |entry| {
        entries.push(entry.clone());
        Ok(())
    });
    (entries, summary.unwrap())
}

pub(crate) fn paths(view: &View, path: &str, depth: Depth) -> Vec<String> {
    let (entries, _) = list(view, path, depth);
    entries.iter().map(|entry| String::from_utf8_lossy(&entry.path).into_owned()).collect()
}

pub(crate) fn read(view: &View, path: &str) -> Vec<u8> {
    let mut content = Vec::new();
    let length = view.read(path.as_bytes(), &mut content).unwrap();
    assert_eq!(length, content.len() as u64);
    content
}

/// What another reader of archives makes of an entry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Archived {
    pub(crate) kind: tar::EntryType,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) device: (u32, u32),
    pub(crate) link: Option<PathBuf>,
    pub(crate) content: Vec<u8>,
    pub(crate) records: Vec<(String, Vec<u8>)>,
}

pub(crate) fn export(view: &View, path: &str) -> (Vec<u8>, Summary) {
    let mut bytes = Vec::new();
    let summary = view.export(path.as_bytes(), &mut bytes).unwrap();
    (bytes, summary)
}

pub(crate) fn archived(bytes: &[u8]) -> BTreeMap<PathBuf, Archived> {
    let mut archive = tar::Archive::new(bytes);
    let mut entries = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let records = entry.pax_extensions().unwrap().into_iter().flatten().map(Result::unwrap);
        let records = records.map(|record| (record.key().unwrap().to_owned(), record.value_bytes().to_vec()));
        let records = records.collect();
        let header = entry.header();
        let number = |found: io::Result<Option<u32>>| found.unwrap().unwrap_or(0);
        let archived = Archived {
            kind: header.entry_type(),
            mode: header.mode().unwrap(),
            uid: header.uid().unwrap(),
            gid: header.gid().unwrap(),
            device: (number(header.device_major()), number(header.device_minor())),
            link: entry.link_name().unwrap().map(Into::into),
            content,
            records,
        };
        let before = entries.insert(entry.path().unwrap().into_owned(), archived);
        assert!(before.is_none());
    }
    entries
}

/// Unpacks with the system's own program.
pub(crate) fn unpack(bytes: &[u8], into: &Path) {
    let file = into.with_extension("tar");
    std::fs::write(&file, bytes).unwrap();
    std::fs::create_dir(into).unwrap();
    let (file, into) = (file.to_str().unwrap(), into.to_str().unwrap());
    let output = run("tar", &["--xattrs", "--xattrs-include=*", "-xpf", file, "-C", into]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
