//! The folder of a test's world. Owns its name, by which the processes and control groups of that world are found, and
//! the removal of all of it: also of worlds whose test was killed, by the next test that makes one.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::leftovers;

/// Below this lies the folder of each world; short, for paths of sockets are.
const FOLDERS: &str = "/tmp";

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A new folder. Dropping it ends the processes that were started with a path in it, and removes it with their control
/// groups and mounts.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes one.
    #[must_use]
    pub fn new() -> Self {
        leftovers::sweep(Path::new(FOLDERS));
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}{}-{count}", leftovers::FOLDER_PREFIX, std::process::id());
        let path = Path::new(FOLDERS).join(name);
        std::fs::create_dir(&path).unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()));
        Self { path }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A name for the control group of something in this world, by which it is found when the test was killed.
    #[must_use]
    pub fn group_name(&self, of: &str) -> String {
        format!("test{}{of}", leftovers::group_part(&self.path))
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let is_failed = std::thread::panicking();
        let removed = catch_unwind(AssertUnwindSafe(|| leftovers::remove(&self.path)));
        match removed {
            Ok(()) => {}
            // A second panic would end the program, and with it the other tests; the first is what counts.
            Err(_) if is_failed => {
                let _ = writeln!(std::io::stderr(), "{} could not be removed", self.path.display());
            }
            Err(panic) => resume_unwind(panic),
        }
    }
}
