//! Volumes as the server sees them: which are declared, and whether one may be deleted.

use std::sync::Arc;

use lith_api::error::{Code, Failure};
use lith_api::volume::Volume;
use lith_core::job::JobSpec;
use lith_core::job::volume::MountSource;
use lith_core::name::VolumeId;
use lith_store::World;

use super::{Server, database};
use crate::agent::AgentHandle;
use crate::volumes::{self, Found};

impl Server {
    /// Every volume that has a disk.
    ///
    /// # Errors
    /// When the database fails or the data folder cannot be read.
    pub async fn volumes(self: &Arc<Self>, agent: AgentHandle) -> Result<Vec<Volume>, Failure> {
        self.blocking(move |server| {
            let world = server.store().world().map_err(|error| database(&error))?;
            let found = volumes::list(agent.layout()).map_err(|error| unreadable(&agent, &error))?;
            Ok(found.iter().map(|found| server.volume(&world, found)).collect())
        })
        .await
    }

    /// Deletes the disk of a volume that nothing declares and nothing uses.
    ///
    /// # Errors
    /// When there is none, or it is declared or used.
    pub async fn remove_volume(
        self: &Arc<Self>,
        id: VolumeId,
        agent: AgentHandle,
    ) -> Result<Volume, Failure> {
        self.blocking(move |server| {
            // Held to the end: a deployment that declares the volume comes before, and keeps it, or after, and makes a
            // new one.
            let mut store = server.store();
            let world = store.world().map_err(|error| database(&error))?;
            let found = volumes::list(agent.layout()).map_err(|error| unreadable(&agent, &error))?;
            let found = found.into_iter().find(|found| found.id == id).ok_or_else(|| {
                Failure::new(Code::NotFound, format!("there is no volume \"{id}\""))
                    .hint("`lith volume ls` lists what is there")
            })?;
            let volume = server.volume(&world, &found);
            if volume.is_declared {
                let message = format!("volume \"{id}\" belongs to job \"{}\"", id.job);
                let hint = format!("`lith rm --volumes {}` removes the job with its volumes", id.job);
                return Err(Failure::new(Code::Conflict, message).hint(hint));
            }
            if let Some(task) = agent.user_of(&id) {
                let message = format!("volume \"{id}\" may still be in use: task {task} is being removed");
                return Err(
                    Failure::new(Code::Conflict, message).hint("try again when `lith ps` does not show it")
                );
            }
            volumes::delete(agent.layout(), &id).map_err(|error| {
                Failure::new(Code::Machine, format!("volume \"{id}\" cannot be deleted: {error}"))
            })?;
            tracing::info!(volume = %id, "deleted a volume, as a person asked");
            Ok(volume)
        })
        .await
    }

    fn volume(&self, world: &World, found: &Found) -> Volume {
        let Found { id, size_bytes, used_bytes } = found;
        let job = world.jobs.get(&id.job).map(|stored| &stored.job.spec);
        Volume {
            id: id.to_string(),
            job: id.job.to_string(),
            volume: id.volume.to_string(),
            index: id.index,
            node: self.node.to_string(),
            size_bytes: *size_bytes,
            used_bytes: *used_bytes,
            is_declared: job.is_some_and(|job| declares(job, id)),
        }
    }
}

/// Whether the job has an instance that mounts this disk, or declares a volume that no task mounts now: taking a mount out
/// of a file and putting it back must not cost what it held.
fn declares(job: &JobSpec, id: &VolumeId) -> bool {
    let source = MountSource::Volume(id.volume.clone());
    let mounts = |group: &&lith_core::job::GroupSpec| {
        group.tasks.values().flat_map(|task| &task.volumes).any(|mount| mount.source == source)
    };
    match job.groups.values().find(mounts) {
        Some(group) => id.index < group.count,
        None => job.volumes.contains_key(&id.volume),
    }
}

fn unreadable(agent: &AgentHandle, error: &std::io::Error) -> Failure {
    let folder = agent.layout().volumes();
    Failure::new(Code::Machine, format!("{} cannot be read: {error}", folder.display()))
}

#[cfg(test)]
mod tests {
    use lith_core::job::volume::{Mount, VolumeSpec};
    use lith_core::job::{GroupSpec, TaskSpec};

    use super::*;

    #[test]
    fn what_an_instance_may_mount_is_declared() {
        let mount = Mount {
            source: MountSource::Volume("data".parse().unwrap()),
            target: "/data".to_owned(),
            is_read_only: false,
        };
        let task = TaskSpec { volumes: vec![mount], ..TaskSpec::new("db:1") };
        let group = GroupSpec { count: 2, ..GroupSpec::new([("db".parse().unwrap(), task)].into()) };
        let mut job = JobSpec::new("shop".parse().unwrap(), [("main".parse().unwrap(), group)].into());
        for name in ["data", "spare"] {
            job.volumes.insert(name.parse().unwrap(), VolumeSpec::default());
        }
        for (id, expected) in [
            ("shop.data.0", true),
            ("shop.data.1", true),
            ("shop.data.2", false),
            ("shop.spare.0", true),
            ("shop.old.0", false),
        ] {
            assert_eq!(declares(&job, &id.parse().unwrap()), expected, "{id}");
        }
    }
}
