//! Names of volumes as people type them, resolved against the volumes that are there. Pure.
//!
//! A name is `JOB.VOLUME.INDEX`, or less of that where it leaves no doubt: `JOB.VOLUME` when the job has one instance, or
//! `VOLUME` when no other volume is called so.

use std::collections::BTreeSet;

use lith_api::error::{Code, Failure};
use lith_api::volume::{RemovedVolume, Volume};

use crate::error::Error;
use crate::name::closest;

/// What has the name of a volume.
pub(super) trait Named {
    /// `job.volume.index`.
    fn id(&self) -> &str;
}

impl Named for Volume {
    fn id(&self) -> &str {
        &self.id
    }
}

impl Named for RemovedVolume {
    fn id(&self) -> &str {
        &self.id
    }
}

/// The one volume that is meant.
pub(super) fn resolve<'a, V: Named>(text: &str, volumes: &'a [V]) -> Result<&'a V, Error> {
    if let Some(volume) = volumes.iter().find(|volume| volume.id() == text) {
        return Ok(volume);
    }
    let fitting: Vec<&V> = volumes.iter().filter(|volume| fits(text, volume.id())).collect();
    match fitting[..] {
        [] => Err(unknown(text, volumes).into()),
        [volume] => Ok(volume),
        [first, ..] => {
            let ids: Vec<&str> = fitting.iter().map(|volume| volume.id()).collect();
            let message = format!("`{text}` may be {} volumes: {}", ids.len(), ids.join(", "));
            Err(Error::usage(message, format!("name one in full, such as `{}`", first.id())))
        }
    }
}

/// The same for several, each once.
pub(super) fn resolve_all<'a, V: Named>(texts: &[String], volumes: &'a [V]) -> Result<Vec<&'a V>, Error> {
    let mut seen = BTreeSet::new();
    let mut resolved = Vec::new();
    for text in texts {
        let volume = resolve(text, volumes)?;
        if seen.insert(volume.id()) {
            resolved.push(volume);
        }
    }
    Ok(resolved)
}

/// All volumes of one instance of a job that have a disk; what the job does not declare any more only when it declares
/// nothing, as after its removal.
pub(super) fn of_instance<'a>(
    job: &str,
    index: Option<u32>,
    volumes: &'a [Volume],
) -> Result<Vec<&'a Volume>, Error> {
    let disks: Vec<&Volume> = volumes.iter().filter(|volume| volume.job == job && volume.has_disk).collect();
    let is_any_declared = disks.iter().any(|volume| volume.is_declared);
    let disks = disks.into_iter().filter(|volume| volume.is_declared || !is_any_declared);
    let disks: Vec<&Volume> = disks.collect();
    let indexes: BTreeSet<u32> = disks.iter().map(|volume| volume.index).collect();
    let index = match (index, indexes.first()) {
        (_, None) => {
            let failure = Failure::new(Code::NotFound, format!("job \"{job}\" has no volume with a disk"));
            let jobs = volumes.iter().map(|volume| volume.job.as_str()).filter(|other| *other != job);
            return Err(failure.hint(suggestion(closest(job, jobs))).into());
        }
        (Some(index), Some(_)) => index,
        (None, Some(first)) if indexes.len() == 1 => *first,
        (None, Some(first)) => {
            let message = format!("job \"{job}\" has volumes of {} instances", indexes.len());
            return Err(Error::usage(message, format!("name one of them, such as `--index {first}`")));
        }
    };
    let chosen: Vec<&Volume> = disks.into_iter().filter(|volume| volume.index == index).collect();
    if chosen.is_empty() {
        let indexes: Vec<String> = indexes.iter().map(ToString::to_string).collect();
        let message = format!("job \"{job}\" has no volumes of an instance {index}");
        return Err(Error::new(Code::NotFound, message, format!("it has those of {}", indexes.join(", "))));
    }
    Ok(chosen)
}

/// The identifier of a volume that need not be there yet. `JOB.VOLUME` is that of the first instance.
pub(super) fn new_id(text: &str) -> Result<String, Error> {
    let is_word = |part: &&str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let parts: Vec<&str> = text.split('.').collect();
    let is_sound = parts.iter().all(is_word);
    match parts[..] {
        [_, _] if is_sound => Ok(format!("{text}.0")),
        [_, _, index] if is_sound && index.parse::<u32>().is_ok() => Ok(text.to_owned()),
        _ => Err(Error::usage(
            format!("`{text}` is not the name of a volume"),
            "a volume that a job will declare is named JOB.VOLUME.INDEX, such as `shop.data.0`",
        )),
    }
}

fn fits(text: &str, id: &str) -> bool {
    let mut parts = id.split('.');
    let (Some(job), Some(volume)) = (parts.next(), parts.next()) else { return false };
    match text.split_once('.') {
        Some((of, name)) => of == job && name == volume,
        None => text == volume,
    }
}

fn unknown<V: Named>(text: &str, volumes: &[V]) -> Failure {
    // In the form that was typed, so that what is suggested leaves no more doubt than what was meant.
    let names = volumes.iter().map(|volume| {
        let id = volume.id();
        let short = id.rsplit_once('.').map_or(id, |(short, _)| short);
        match text.matches('.').count() {
            0 => short.split_once('.').map_or(short, |(_, name)| name),
            1 => short,
            _ => id,
        }
    });
    Failure::new(Code::NotFound, format!("there is no volume \"{text}\""))
        .hint(suggestion(closest(text, names)))
}

fn suggestion(closest: Option<&str>) -> String {
    closest.map_or_else(
        || "`lith volume ls` lists what is there".to_owned(),
        |name| format!("did you mean `{name}`?"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::fixture::volume;
    use super::*;
    use crate::terminal::Paint;

    fn world() -> Vec<Volume> {
        let kept = Volume { is_declared: false, ..volume("shop.old.0") };
        let new = Volume { has_disk: false, ..volume("shop.new.0") };
        let gone = Volume { is_declared: false, ..volume("gone.files.0") };
        let others = ["shop.data.0", "shop.uploads.0", "wiki.data.0", "wide.cache.0", "wide.cache.1"];
        others.into_iter().map(volume).chain([kept, new, gone]).collect()
    }

    fn text(error: Error) -> String {
        error.text(Paint::PLAIN)
    }

    #[test]
    fn names_resolve() {
        let world = world();
        let check = |text: &str, id: &str| assert_eq!(resolve(text, &world).unwrap().id, id, "{text}");
        check("shop.data.0", "shop.data.0");
        check("shop.data", "shop.data.0");
        check("uploads", "shop.uploads.0");
        check("wide.cache.1", "wide.cache.1");
        check("files", "gone.files.0");
        let both = ["uploads".to_owned(), "shop.data".to_owned(), "shop.uploads.0".to_owned()];
        let ids = resolve_all(&both, &world).unwrap().into_iter().map(|volume| volume.id.as_str());
        assert_eq!(ids.collect::<Vec<_>>(), ["shop.uploads.0", "shop.data.0"]);
    }

    #[test]
    fn doubts_are_explained() {
        let world = world();
        let check = |name: &str, words: &str| {
            assert_eq!(resolve(name, &world).map_err(text).unwrap_err(), words, "{name}");
        };
        check(
            "data",
            "error: `data` may be 2 volumes: shop.data.0, wiki.data.0\nhint: name one in full, such as `shop.data.0`\n",
        );
        check(
            "wide.cache",
            "error: `wide.cache` may be 2 volumes: wide.cache.0, wide.cache.1\n\
             hint: name one in full, such as `wide.cache.0`\n",
        );
        check(
            "shop.dta",
            "error: there is no volume \"shop.dta\" [E0002]\nhint: did you mean `shop.data`?\n",
        );
        check("upload", "error: there is no volume \"upload\" [E0002]\nhint: did you mean `uploads`?\n");
        check(
            "zzz",
            "error: there is no volume \"zzz\" [E0002]\nhint: `lith volume ls` lists what is there\n",
        );
        check(
            "wide.cache.7",
            "error: there is no volume \"wide.cache.7\" [E0002]\nhint: did you mean `wide.cache.1`?\n",
        );
    }

    #[test]
    fn the_volumes_of_an_instance() {
        let world = world();
        let ids = |job: &str, index: Option<u32>| {
            let chosen = of_instance(job, index, &world).map_err(text)?;
            Ok::<_, String>(chosen.into_iter().map(|volume| volume.id.as_str()).collect::<Vec<_>>())
        };
        assert_eq!(ids("shop", None).unwrap(), ["shop.data.0", "shop.uploads.0"]);
        assert_eq!(ids("gone", None).unwrap(), ["gone.files.0"]);
        assert_eq!(ids("wide", Some(1)).unwrap(), ["wide.cache.1"]);
        let refused = |job: &str, index, words: &str| assert_eq!(ids(job, index).unwrap_err(), words);
        refused(
            "wide",
            None,
            "error: job \"wide\" has volumes of 2 instances\nhint: name one of them, such as `--index 0`\n",
        );
        refused(
            "wide",
            Some(2),
            "error: job \"wide\" has no volumes of an instance 2 [E0002]\nhint: it has those of 0, 1\n",
        );
        refused(
            "shap",
            None,
            "error: job \"shap\" has no volume with a disk [E0002]\nhint: did you mean `shop`?\n",
        );
    }

    #[test]
    fn names_of_new_volumes() {
        assert_eq!(new_id("shop.data").unwrap(), "shop.data.0");
        assert_eq!(new_id("shop.data.2").unwrap(), "shop.data.2");
        for bad in ["data", "shop.", ".data", "shop.data.x", "shop.data.-1", "a.b.0.0", "a/b.c", ""] {
            assert!(new_id(bad).map_err(text).unwrap_err().contains("is not the name of a volume"), "{bad}");
        }
    }
}
