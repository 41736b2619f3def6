//! Removes lith's folders: what lith itself made in them and nothing else, whatever folder somebody named. A folder goes
//! only when it is empty afterwards. It must not be called while tasks or a daemon run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lith_api::error::{Code, Failure};
use lith_core::slot::Slot;

use crate::layout::Layout;
use crate::lock::Lock;

/// What a supervisor has in the folder of its running task.
const OF_RUNNING: [&str; 2] = ["shim.sock", "jail"];

/// Whether `lith up` ever ran with this data folder.
#[must_use]
pub fn is_data_folder(layout: &Layout) -> bool {
    layout.lock().is_file() && layout.node().is_dir()
}

/// Removes the run folder: sockets, and the empty folders of tasks that ran.
///
/// # Errors
/// When something of lith stays.
pub fn run_folder(layout: &Layout) -> Result<(), Failure> {
    let socket = layout.socket();
    ignore_missing(fs::remove_file(&socket)).map_err(|error| cannot_remove(&socket, &error))?;
    let tasks = layout.running_all();
    let entries = fs::read_dir(&tasks).into_iter().flatten().flatten().map(|entry| entry.file_name());
    for slot in entries.filter_map(|name| name.to_str()?.parse().ok().and_then(Slot::new)) {
        let folder = layout.running(slot);
        let inside = OF_RUNNING.iter().map(|name| folder.join(name));
        for path in inside.chain([folder.clone()]) {
            remove_flat(&path).map_err(|error| cannot_remove(&path, &error))?;
        }
    }
    // All of these have ended: they were waited for.
    remove_flat(&layout.run.join("look")).map_err(|error| cannot_remove(&layout.run, &error))?;
    for folder in [&layout.serving_all(), &tasks, &layout.run] {
        remove_if_empty(folder).map_err(|error| cannot_remove(folder, &error))?;
    }
    Ok(())
}

/// Deletes the data folder, and returns what of others stays in it. `lock` is that of the folder: nobody uses it.
///
/// # Errors
/// When something of lith stays.
pub fn data_folder(layout: &Layout, lock: Lock) -> Result<Vec<PathBuf>, Failure> {
    // What says that this is a data folder goes last, so that a removal that was cut off can be begun again.
    let ours = [
        layout.server(),
        layout.images(),
        layout.kernel(),
        layout.boot(),
        layout.log(),
        layout.log_old(),
        layout.data.join("volumes"),
        layout.node(),
        layout.lock(),
    ];
    for path in &ours {
        remove_whole(path).map_err(|error| cannot_remove(path, &error))?;
    }
    drop(lock);
    let failed = |error: io::Error| cannot_remove(&layout.data, &error);
    let rest = fs::read_dir(&layout.data).map_err(failed)?.flatten().map(|entry| entry.path()).collect();
    remove_if_empty(&layout.data).map_err(failed)?;
    Ok(rest)
}

fn remove_whole(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => ignore_missing(Err(error)),
    }
}

/// A file, or a folder in which nothing is.
fn remove_flat(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => remove_if_empty(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => ignore_missing(Err(error)),
    }
}

fn remove_if_empty(folder: &Path) -> io::Result<()> {
    match fs::remove_dir(folder) {
        // Of others, or a mount point: both are not lith's to remove.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::ResourceBusy | io::ErrorKind::NotFound
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn cannot_remove(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Code::Machine, format!("cannot remove {}: {error}", path.display()))
        .hint("repair that, then run `lith down` again: it goes on where it stopped")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_run_folder_may_be_one_that_others_use() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(Path::new("/nowhere"), folder.path());
        for path in ["tasks/7/jail", "tasks/8", "tasks/notes", "other"] {
            fs::create_dir_all(folder.path().join(path)).unwrap();
        }
        for path in ["lith.sock", "tasks/7/shim.sock", "tasks/8/foreign", "other/file"] {
            fs::write(folder.path().join(path), "").unwrap();
        }
        run_folder(&layout).unwrap();
        let left = ["tasks/8/foreign", "tasks/notes", "other/file"];
        assert!(left.iter().all(|path| folder.path().join(path).exists()));
        assert!(["lith.sock", "tasks/7"].iter().all(|path| !folder.path().join(path).exists()));
        for path in ["tasks", "other"] {
            fs::remove_dir_all(folder.path().join(path)).unwrap();
        }
        run_folder(&layout).unwrap();
        assert!(!folder.path().exists(), "empty, it goes");
        run_folder(&layout).unwrap();
    }

    #[test]
    fn of_the_data_folder_only_what_lith_made_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path(), Path::new("/nowhere"));
        assert!(!is_data_folder(&layout));
        fs::create_dir_all(layout.node().join("tasks/shop.main.0.web")).unwrap();
        fs::create_dir(layout.images()).unwrap();
        fs::create_dir_all(layout.volumes().join("shop.data.0")).unwrap();
        fs::write(folder.path().join("photos"), "").unwrap();
        let lock = Lock::take(&layout.lock()).unwrap();
        assert!(is_data_folder(&layout));
        assert_eq!(data_folder(&layout, lock).unwrap(), [folder.path().join("photos")]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        fs::remove_file(folder.path().join("photos")).unwrap();
        let lock = Lock::take(&layout.lock()).unwrap();
        assert_eq!(data_folder(&layout, lock).unwrap(), Vec::<PathBuf>::new());
        assert!(!folder.path().exists());
    }
}
