//! The volumes that were made and that nobody has removed: one whose folder is gone is missing, and must not be made anew,
//! empty, as if it had never been. Owns the file in which they are remembered.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, PoisonError};

use lith_core::name::{PoolName, VolumeId};
use lith_vmm::durable;
use serde::{Deserialize, Serialize};

use crate::layout::Layout;

/// The form that is written.
const FORM: u32 = 1;

/// Held by who changes the file.
static CHANGING: Mutex<()> = Mutex::new(());

#[derive(Debug, Default, Serialize, Deserialize)]
struct Stored {
    form: u32,
    /// The pool in which each lies.
    volumes: BTreeMap<String, String>,
}

/// The volumes that were made, and the pool of each.
///
/// # Errors
/// A sentence: then nobody knows which were made, and none must be.
pub(crate) fn load(layout: &Layout) -> Result<BTreeMap<VolumeId, PoolName>, String> {
    let stored = read(layout)?;
    let parsed = stored.volumes.iter().map(|(id, pool)| Some((id.parse().ok()?, pool.parse().ok()?)));
    parsed.collect::<Option<_>>().ok_or_else(|| damaged(layout, "it names what is no volume"))
}

/// Remembers one that is there now.
///
/// # Errors
/// A sentence.
pub(crate) fn note(layout: &Layout, id: &VolumeId, pool: &PoolName) -> Result<(), String> {
    note_all(layout, [(id, pool)])
}

/// Remembers those that are there, such as those of a lith that did not remember yet.
///
/// # Errors
/// A sentence.
pub(crate) fn note_all<'a>(
    layout: &Layout,
    there: impl IntoIterator<Item = (&'a VolumeId, &'a PoolName)>,
) -> Result<(), String> {
    change(layout, |volumes| {
        for (id, pool) in there {
            volumes.insert(id.to_string(), pool.to_string());
        }
    })
}

/// Forgets one that a person has removed.
///
/// # Errors
/// A sentence.
pub(crate) fn forget(layout: &Layout, id: &VolumeId) -> Result<(), String> {
    change(layout, |volumes| {
        volumes.remove(&id.to_string());
    })
}

fn change(layout: &Layout, change: impl FnOnce(&mut BTreeMap<String, String>)) -> Result<(), String> {
    let _turn = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
    let stored = read(layout)?;
    let mut volumes = stored.volumes.clone();
    change(&mut volumes);
    if volumes == stored.volumes {
        return Ok(());
    }
    let json = serde_json::to_vec_pretty(&Stored { form: FORM, volumes })
        .expect("maps with text keys always encode");
    let path = layout.volumes_made();
    durable::write(&path, &json, 0o600)
        .map_err(|error| format!("{} cannot be written: {error}", path.display()))
}

fn read(layout: &Layout) -> Result<Stored, String> {
    let path = layout.volumes_made();
    let json = match std::fs::read(&path) {
        Ok(json) => json,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Stored::default()),
        Err(error) => return Err(format!("{} cannot be read: {error}", path.display())),
    };
    let stored: Stored =
        serde_json::from_slice(&json).map_err(|error| damaged(layout, &error.to_string()))?;
    if stored.form > FORM {
        return Err(damaged(layout, &format!("form {} is newer than this version of lith", stored.form)));
    }
    Ok(stored)
}

/// What is said of a volume that was made and is not there.
pub(crate) fn missing(id: &VolumeId, pool: &PoolName) -> String {
    format!("volume \"{id}\" is missing: it was made in pool \"{pool}\", and its folder is not there")
}

/// What a person can do about it.
pub(crate) fn missing_hint(id: &VolumeId) -> String {
    format!("put the folder {id} back; or give it up with `lith volume rm {id}`: then it is made anew, empty")
}

fn damaged(layout: &Layout, why: &str) -> String {
    let path = layout.volumes_made();
    format!(
        "{} is damaged: {why} (make sure that all pools are mounted, remove it and start lith again: it remembers what is \
         there)",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_is_remembered_until_a_person_removes_it() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path(), folder.path());
        std::fs::create_dir(layout.node()).unwrap();
        let [first, second]: [VolumeId; 2] = ["shop.data.0", "shop.data.1"].map(|id| id.parse().unwrap());
        let pool: PoolName = "bulk".parse().unwrap();
        assert_eq!(load(&layout).unwrap(), BTreeMap::new());
        note(&layout, &first, &pool).unwrap();
        note_all(&layout, [(&first, &pool), (&second, &pool)]).unwrap();
        assert_eq!(load(&layout).unwrap().len(), 2);
        forget(&layout, &first).unwrap();
        forget(&layout, &first).unwrap();
        assert_eq!(load(&layout).unwrap(), [(second, pool.clone())].into());
        for bad in ["{", r#"{"form":2,"volumes":{}}"#, r#"{"form":1,"volumes":{"x":"y"}}"#] {
            std::fs::write(layout.volumes_made(), bad).unwrap();
            assert!(load(&layout).unwrap_err().contains("volumes.json is damaged"), "{bad}");
        }
        std::fs::write(layout.volumes_made(), "{").unwrap();
        assert!(note(&layout, &first, &pool).is_err(), "it is not replaced");
    }
}
