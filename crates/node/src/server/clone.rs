//! Clones: a volume of its own that starts with what another one held. Owns the draft that becomes it: until it is whole it
//! has no volume's name, so that nobody finds half of one.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use lith_api::error::{Code, Failure};
use lith_api::volume::{CloneRequest, RestoreEvent};
use lith_core::name::VolumeId;
use lith_volume::error::VolumeError;
use lith_volume::history::{History, View};
use lith_volume::storage::{Folder, Storage};
use lith_volume::volume::clone_into;
use rustix::fs::{CWD, RenameFlags};

use super::Server;
use super::history::{choose, failed, now_ns, parse};
use super::volumes::find;
use crate::agent::{AgentHandle, serving};
use crate::identity;
use crate::volumes;
use crate::volumes::made::{missing, missing_hint};

/// The clones under way, by what they become.
#[derive(Debug, Default)]
pub(super) struct Clones(Mutex<BTreeSet<VolumeId>>);

/// One of them, while it lives.
struct UnderWay<'clones> {
    clones: &'clones Clones,
    target: VolumeId,
}

impl Clones {
    fn begin(&self, target: &VolumeId) -> Result<UnderWay<'_>, Failure> {
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(target.clone()) {
            return Ok(UnderWay { clones: self, target: target.clone() });
        }
        let message = format!("volume \"{target}\" is being made already, as a clone");
        Err(Failure::new(Code::Conflict, message).hint("wait until it is there, or choose another name"))
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.clones.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.target);
    }
}

impl Server {
    /// Makes a volume of another one's checkpoint.
    pub fn clone_volume(
        &self,
        id: &VolumeId,
        request: &CloneRequest,
        agent: &AgentHandle,
        tell: &mut dyn FnMut(RestoreEvent),
    ) {
        let result = self.try_clone(id, request, agent, tell).and_then(|made| self.one_volume(&made, agent));
        tell(result.map_or_else(RestoreEvent::Failed, |volume| RestoreEvent::Cloned(Box::new(volume))));
    }

    fn try_clone(
        &self,
        id: &VolumeId,
        request: &CloneRequest,
        agent: &AgentHandle,
        tell: &mut dyn FnMut(RestoreEvent),
    ) -> Result<VolumeId, Failure> {
        let layout = agent.layout();
        let found = find(layout, id)?;
        let target = parse(&request.to)?;
        let _under_way = self.clones.begin(&target)?;
        if layout.pool_of(&target).is_some() {
            return Err(exists(&target));
        }
        let made = volumes::made::load(layout).map_err(|why| Failure::new(Code::Machine, why))?;
        if let Some(pool) = made.get(&target) {
            return Err(Failure::new(Code::Conflict, missing(&target, pool)).hint(missing_hint(&target)));
        }
        let chosen = choose(&[(id.clone(), found.folder.clone())], &request.at)?;
        let seq = chosen[0].id.seq;
        // From here on what is read stays, whatever is folded meanwhile.
        let view = History::open(Folder::read_only(&found.folder)).and_then(|history| history.view(seq));
        let view = view.map_err(|error| failed(id, &error))?;
        tell(RestoreEvent::Step(format!("copying {id} as of checkpoint {seq}")));
        let pool = found.folder.parent().unwrap_or(Path::new("/"));
        make(pool, &target, &view).map_err(|error| match error {
            VolumeError::File { source, .. } if source.kind() == std::io::ErrorKind::AlreadyExists => {
                exists(&target)
            }
            error => failed(id, &error),
        })?;
        volumes::made::note(layout, &target, &found.pool).map_err(|why| Failure::new(Code::Machine, why))?;
        Ok(target)
    }
}

fn exists(target: &VolumeId) -> Failure {
    let message = format!("there is a volume \"{target}\" already");
    Failure::new(Code::Conflict, message).hint("choose another name")
}

/// Makes a volume of a view. Of one that fails nothing is left; what a crash leaves is swept at the next start.
fn make(pool: &Path, target: &VolumeId, view: &View<Folder>) -> Result<(), VolumeError> {
    let cannot = |error| VolumeError::File { operation: "make", name: target.to_string(), source: error };
    // Root's alone, as the folder of a volume is.
    let draft = tempfile::Builder::new().prefix(volumes::CLONE_PREFIX).tempdir_in(pool).map_err(cannot)?;
    let uuid = identity::new().map_err(cannot)?;
    let storage = Folder::new(draft.path());
    clone_into(view, &storage, uuid, now_ns(), &|_| {})?;
    storage.sync_folder("").map_err(cannot)?;
    serving::owner::give_to_user(draft.path()).map_err(cannot)?;
    // A task may have made one of this name meanwhile.
    let place = pool.join(target.to_string());
    rustix::fs::renameat_with(CWD, draft.path(), CWD, &place, RenameFlags::NOREPLACE)
        .map_err(|error| cannot(error.into()))?;
    // What it names is gone.
    let _ = draft.keep();
    lith_vmm::durable::sync_folder(pool).map_err(cannot)
}

#[cfg(test)]
mod tests {
    use lith_volume::disk::Disk;
    use lith_volume::names;
    use lith_volume::pieces::Pieces;
    use lith_volume::segment::VolumeUuid;
    use lith_volume::volume::Volume;

    use super::*;

    #[test]
    fn one_target_is_made_once_at_a_time() {
        let clones = Clones::default();
        let [first, second] = ["shop.data.0", "shop.data.1"].map(|id| id.parse::<VolumeId>().unwrap());
        let under_way = clones.begin(&first).unwrap();
        let failure = clones.begin(&first).map(|_| ()).unwrap_err();
        assert_eq!(failure.message, "volume \"shop.data.0\" is being made already, as a clone");
        clones.begin(&second).unwrap();
        drop(under_way);
        clones.begin(&first).unwrap();
    }

    #[test]
    fn a_clone_takes_no_place_that_is_taken_and_leaves_no_draft() {
        let pool = tempfile::tempdir().unwrap();
        let source = pool.path().join("shop.data.0");
        std::fs::create_dir(&source).unwrap();
        std::fs::File::create(source.join(names::DISK)).unwrap().set_len(1 << 20).unwrap();
        let volume = Volume::open_or_begin(Folder::new(&source), VolumeUuid([1; 16]), now_ns()).unwrap();
        volume.write(4096, &Pieces::of(b"kept")).unwrap();
        let seq = volume.cut_at_rest(now_ns()).unwrap().id.seq;
        let view = || History::open(Folder::read_only(&source)).unwrap().view(seq).unwrap();
        let names = || {
            let entries = std::fs::read_dir(pool.path()).unwrap();
            let mut names: Vec<String> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        let target: VolumeId = "trial.data.0".parse().unwrap();
        std::fs::create_dir(pool.path().join("trial.data.0")).unwrap();
        let error = make(pool.path(), &target, &view()).unwrap_err();
        assert!(
            matches!(error, VolumeError::File { source, .. } if source.kind() == std::io::ErrorKind::AlreadyExists)
        );
        assert_eq!(names(), ["shop.data.0", "trial.data.0"]);
        std::fs::remove_dir(pool.path().join("trial.data.0")).unwrap();
        make(pool.path(), &target, &view()).unwrap();
        let disk = std::fs::read(pool.path().join("trial.data.0/disk.img")).unwrap();
        assert_eq!((disk.len(), &disk[4096..4100]), (1 << 20, b"kept".as_slice()));
        assert_eq!(names(), ["shop.data.0", "trial.data.0"]);
    }
}
