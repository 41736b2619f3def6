//! `volume …`, and what becomes of the volumes of a removed job.

use jiff::tz::TimeZone;
use lith_api::client::escape;
use lith_api::volume::{Point, Volume};

use crate::args::{ChosenArgs, PointArgs, VolumeCommand};
use crate::context::Context;
use crate::error::Error;
use crate::time;

mod archive;
mod files;
#[cfg(test)]
mod fixture;
mod history;
mod list;
mod name;
mod remove;
mod restore;

pub(crate) use remove::of_removed_job;
use restore::Unfinished;

/// `lith volume …`.
pub(crate) async fn volume(context: &Context, command: &VolumeCommand) -> Result<u8, Error> {
    match command {
        VolumeCommand::Ls(args) => list::ls(context, args).await,
        VolumeCommand::Checkpoints(args) => history::checkpoints(context, args).await,
        VolumeCommand::Snapshot(args) => history::snapshot(context, args).await,
        VolumeCommand::Snapshots { volume } => history::snapshots(context, volume.as_deref()).await,
        VolumeCommand::SnapshotRm { volume, name } => history::remove_snapshot(context, volume, name).await,
        VolumeCommand::Restore(args) => restore::restore(context, args).await,
        VolumeCommand::Clone(args) => restore::clone(context, args).await,
        VolumeCommand::Grow { volume, size } => restore::grow(context, volume, *size).await,
        VolumeCommand::Rm(args) => remove::remove(context, args).await,
        VolumeCommand::Unrm { volume } => remove::bring_back(context, volume).await,
        VolumeCommand::Cat { file, point } => files::cat(context, file, point).await,
        VolumeCommand::Cp(args) => archive::copy(context, args).await,
        VolumeCommand::Export { volume, file, point } => archive::export(context, volume, file, point).await,
        VolumeCommand::Import { volume, source } => archive::import(context, volume, source).await,
        VolumeCommand::Check { volume } => restore::check(context, volume).await,
        VolumeCommand::ForgetHistory { volume, half_restored, yes } => {
            let unfinished = if *half_restored { Unfinished::GiveUp } else { Unfinished::Refuse };
            restore::forget_history(context, volume, unfinished, *yes).await
        }
    }
}

/// Every volume that the server knows.
async fn all(context: &Context) -> Result<Vec<Volume>, Error> {
    Ok(context.client.get("/v1/volumes").await?)
}

/// The volume that a person means.
async fn one(context: &Context, text: &str) -> Result<Volume, Error> {
    let volumes = all(context).await?;
    Ok(name::resolve(text, &volumes)?.clone())
}

/// The volumes that a person means, each once, at least one.
async fn chosen(context: &Context, args: &ChosenArgs) -> Result<Vec<Volume>, Error> {
    let volumes = all(context).await?;
    let chosen = match &args.job {
        Some(job) => name::of_instance(job, args.index, &volumes)?,
        None => name::resolve_all(&args.volumes, &volumes)?,
    };
    Ok(chosen.into_iter().cloned().collect())
}

/// A task as people name it; which instance it is, the volume's own name says.
fn short_task(id: &str) -> String {
    match id.split('.').collect::<Vec<_>>()[..] {
        [job, _, _, task] => format!("{job}/{task}"),
        _ => id.to_owned(),
    }
}

/// Path of a volume in the API, with what follows.
fn path(id: &str, rest: &str) -> String {
    format!("/v1/volumes/{}{rest}", escape(id))
}

/// The point that the flags name, if they do.
fn point(args: &PointArgs, now_ms: u64, zone: &TimeZone) -> Result<Option<Point>, Error> {
    Ok(match (args.at, args.checkpoint, &args.snapshot) {
        (Some(when), _, _) => {
            let time_ms = when.to_ms(now_ms, zone).map_err(|why| {
                Error::usage(format!("`--at` does not name a time in the past: {why}"), "now is the default")
            })?;
            Some(Point::Time(time_ms))
        }
        (None, Some(seq), _) => Some(Point::Checkpoint(seq)),
        (None, None, Some(name)) => Some(Point::Snapshot(name.clone())),
        (None, None, None) => None,
    })
}

/// The same, on this machine, now.
fn point_here(args: &PointArgs) -> Result<Option<Point>, Error> {
    point(args, time::now_ms(), &TimeZone::system())
}

/// A point in words that follow "what it was".
fn point_words(point: &Point, now_ms: u64, zone: &TimeZone) -> String {
    match point {
        Point::Newest => "at its newest checkpoint".to_owned(),
        Point::Checkpoint(seq) => format!("at checkpoint {seq}"),
        Point::Snapshot(name) => format!("at snapshot {name}"),
        Point::Time(time_ms) => {
            format!("at {} ({})", time::local(*time_ms, zone), time::ago(now_ms, *time_ms))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::Paint;

    #[test]
    fn points() {
        let now_ms = 1_795_260_600_000;
        let words = |args: PointArgs| {
            let point = point(&args, now_ms, &TimeZone::UTC)?;
            Ok::<_, Error>(point.map(|point| point_words(&point, now_ms, &TimeZone::UTC)))
        };
        let check = |args: PointArgs, expect: Option<&str>| {
            assert_eq!(words(args).unwrap().as_deref(), expect);
        };
        check(PointArgs::default(), None);
        check(PointArgs { checkpoint: Some(12), ..PointArgs::default() }, Some("at checkpoint 12"));
        let snapshot = Some("before-upgrade".to_owned());
        check(PointArgs { snapshot, ..PointArgs::default() }, Some("at snapshot before-upgrade"));
        let at = |text: &str| PointArgs { at: Some(time::parse_when(text).unwrap()), ..PointArgs::default() };
        check(at("03:00"), Some("at 2026-11-21 03:00:00 (8h ago)"));
        assert_eq!(
            words(at("2030-01-01")).unwrap_err().text(Paint::PLAIN),
            "error: `--at` does not name a time in the past: 2030-01-01 00:00:00 has not come yet\n\
             hint: now is the default\n"
        );
    }
}
