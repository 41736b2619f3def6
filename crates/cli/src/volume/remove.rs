//! `volume rm`, `volume unrm`, and what becomes of the volumes of a removed job.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;
use lith_api::volume::{RemovedVolume, Volume};

use super::name::{Named, resolve};
use super::{all, path};
use crate::args::VolumeRmArgs;
use crate::confirm::{Yes, confirm};
use crate::context::Context;
use crate::error::Error;
use crate::{exit, time};

/// `lith volume rm`.
pub(super) async fn remove(context: &Context, args: &VolumeRmArgs) -> Result<u8, Error> {
    let mut known: Vec<String> = all(context).await?.iter().map(|volume| volume.id().to_owned()).collect();
    if args.now {
        let removed: Vec<RemovedVolume> = context.client.get("/v1/volumes/removed").await?;
        known.extend(removed.into_iter().map(|volume| volume.id));
    }
    // One that cannot be removed is no reason to keep the others.
    let mut code = exit::DONE;
    let mut ids = Vec::new();
    let mut seen = BTreeSet::new();
    for text in &args.volumes {
        match resolve(text, &known) {
            Ok(id) if seen.insert(id) => ids.push(id.clone()),
            Ok(_) => {}
            Err(error) => code = code.max(context.report(&error)),
        }
    }
    let mut removed = Vec::new();
    if !ids.is_empty() {
        if !confirm(context, &warning(&ids, args.now), Yes::from_flag(args.yes))? {
            return Ok(exit::FAILED);
        }
        let query = if args.now { "?now=true" } else { "" };
        for id in &ids {
            match context.client.delete::<RemovedVolume>(&path(id, query)).await {
                Ok(volume) => {
                    if !context.json {
                        context.say(&words(&volume, args.now, &TimeZone::system()));
                    }
                    removed.push(volume);
                }
                Err(failure) => code = code.max(context.report(&failure.into())),
            }
        }
    }
    if context.json {
        context.print_json(&removed)?;
    }
    Ok(code)
}

/// `lith volume unrm`.
pub(super) async fn bring_back(context: &Context, text: &str) -> Result<u8, Error> {
    let removed: Vec<RemovedVolume> = context.client.get("/v1/volumes/removed").await?;
    let id = match resolve(text, &removed) {
        Ok(volume) => volume.id.clone(),
        Err(Error::Failure(mut failure)) => {
            failure.message = format!("there is no removed volume \"{text}\"");
            let is_list = failure.hint.as_ref().is_some_and(|hint| hint.contains("lith volume ls"));
            let failure = if is_list {
                failure.hint("`lith volume ls --removed` lists those that can be brought back")
            } else {
                failure
            };
            return Err(failure.into());
        }
        Err(error) => return Err(error),
    };
    let nothing = serde_json::json!({});
    let volume: Volume = context.client.post(&path(&id, "/unremove"), &nothing).await?;
    if context.json {
        context.print_json(&volume)?;
    } else {
        context.say(&format!("volume {id} is back"));
    }
    Ok(exit::DONE)
}

/// Removes the volumes of a job that is gone, or says that they are kept.
pub(crate) async fn of_removed_job(context: &Context, job: &str, is_removed: bool) -> Result<u8, Error> {
    let volumes = all(context).await?;
    let ids: Vec<String> =
        volumes.into_iter().filter(|volume| volume.job == job).map(|volume| volume.id).collect();
    let mut code = exit::DONE;
    if is_removed {
        for id in &ids {
            let deleted = context.client.delete::<RemovedVolume>(&path(id, "")).await;
            match deleted {
                Ok(_) if context.json => {}
                Ok(volume) => context.say(&words(&volume, false, &TimeZone::system())),
                Err(failure) => code = code.max(context.report(&failure.into())),
            }
        }
    } else if !ids.is_empty() && !context.json {
        context.say(&kept(&ids));
    }
    Ok(code)
}

impl Named for String {
    fn id(&self) -> &str {
        self
    }
}

fn warning(ids: &[String], is_now: bool) -> String {
    let list = ids.join(" ");
    match (ids.len(), is_now) {
        (1, false) => {
            format!("Volume {list} is removed. For 7 days, `lith volume unrm {list}` brings it back.")
        }
        (_, false) => {
            format!("Volumes {list} are removed. For 7 days, `lith volume unrm` brings each of them back.")
        }
        (1, true) => format!("Volume {list} is deleted for good, with its history and its snapshots."),
        (_, true) => format!("Volumes {list} are deleted for good, with their history and their snapshots."),
    }
}

fn words(volume: &RemovedVolume, is_now: bool, zone: &TimeZone) -> String {
    let id = &volume.id;
    if is_now {
        return format!("volume {id} is deleted");
    }
    let until = time::local(volume.gone_ms, zone);
    format!("volume {id} is removed; until {until}, `lith volume unrm {id}` brings it back")
}

fn kept(ids: &[String]) -> String {
    let list = ids.join(" ");
    if ids.len() == 1 {
        return format!("volume {list} is kept; `lith volume rm {list}` removes it");
    }
    format!("volumes {list} are kept; `lith volume rm {list}` removes them")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_of_volumes_is_said() {
        let one = ["shop.data.0".to_owned()];
        let two = ["shop.a.0".to_owned(), "shop.b.0".to_owned()];
        let texts = [
            kept(&one),
            kept(&two),
            warning(&one, false),
            warning(&two, false),
            warning(&one, true),
            warning(&two, true),
        ];
        insta::assert_snapshot!(texts.join("\n"), @"
        volume shop.data.0 is kept; `lith volume rm shop.data.0` removes it
        volumes shop.a.0 shop.b.0 are kept; `lith volume rm shop.a.0 shop.b.0` removes them
        Volume shop.data.0 is removed. For 7 days, `lith volume unrm shop.data.0` brings it back.
        Volumes shop.a.0 shop.b.0 are removed. For 7 days, `lith volume unrm` brings each of them back.
        Volume shop.data.0 is deleted for good, with its history and its snapshots.
        Volumes shop.a.0 shop.b.0 are deleted for good, with their history and their snapshots.
        ");
        let removed = RemovedVolume {
            id: "shop.data.0".to_owned(),
            pool: "main".to_owned(),
            used_bytes: 1,
            removed_ms: 0,
            gone_ms: 7 * 86_400_000,
        };
        insta::assert_snapshot!(words(&removed, false, &TimeZone::UTC), @"volume shop.data.0 is removed; until 1970-01-08 00:00:00, `lith volume unrm shop.data.0` brings it back");
        insta::assert_snapshot!(words(&removed, true, &TimeZone::UTC), @"volume shop.data.0 is deleted");
    }
}
