//! The volumes of a job.
//!
//! Owns the keys of a volume and their defaults. Must not know who mounts it.

use std::collections::BTreeMap;

use lith_core::job::volume::{
    MAX_LAG_MAX, VOLUME_SIZE_DEFAULT, VOLUME_SIZE_MAX, VOLUME_SIZE_MIN, VOLUMES_MAX, VolumeSpec,
};
use lith_core::name::VolumeName;

use super::fields::{self, Fields, accepted};
use super::outside::Outside;
use super::{mapping, members, name};
use crate::diagnostic::Reporter;
use crate::document::Entry;
use crate::keys::Level;
use crate::value::{duration, size};

/// The declared volumes, by name; those that are wrong in themselves are left out.
pub(super) fn volumes(
    entry: &Entry,
    outside: &Outside<'_>,
    reporter: &mut Reporter,
) -> BTreeMap<VolumeName, VolumeSpec> {
    let mut volumes = BTreeMap::new();
    for entry in members(entry, "volume", VOLUMES_MAX, reporter).unwrap_or(&[]) {
        let name = name(&entry.key.text, entry.key.span, reporter);
        let volume = volume(entry, outside, reporter);
        volumes.extend(name.zip(volume));
    }
    volumes
}

fn volume(entry: &Entry, outside: &Outside<'_>, reporter: &mut Reporter) -> Option<VolumeSpec> {
    let entries = mapping(&entry.key, &entry.value, "a volume is a mapping, or nothing", reporter)?;
    let mut fields = Fields::new(Level::Volume, entries, reporter);
    let pool = fields.take("pool").and_then(|entry| {
        let text = fields::text(entry, reporter)?;
        name(text, entry.value.span, reporter)
    });
    let size =
        fields.parse("size", reporter, |text| size::within("disk", text, VOLUME_SIZE_MIN, VOLUME_SIZE_MAX));
    let max_lag = fields.parse("max_lag", reporter, |text| duration::up_to(text, MAX_LAG_MAX));
    let import = fields.take("import").and_then(|entry| {
        let path = fields::text(entry, reporter)?;
        accepted(outside.folder(path), &entry.value, reporter)
    });
    let is_shared = fields.switch("shared", reporter);
    Some(VolumeSpec { pool, size: size.unwrap_or(VOLUME_SIZE_DEFAULT), max_lag, import, is_shared })
}
