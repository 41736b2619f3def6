//! What a job says about the machine around a task's process, in the form in which the guest is told. Pure.

use lith_api::agent::Alloc;
use lith_api::job::FileSpec;
use lith_core::job::TaskSpec;
use lith_core::job::file::{CONTENTS_BYTES_MAX, Content, FILE_MODE_DEFAULT, FileMount};
use lith_core::job::process::Logging;
use lith_guest::messages::settings::{
    Content as GuestContent, Device, Disk, Limit, Settings, SmallFile, Tmpfs,
};
use lith_vmm::log::Rotation;
use std::collections::BTreeMap;

use lith_core::chain::chain;

/// Permissions of a file system in memory that does not say: Docker's.
const TMPFS_MODE_DEFAULT: u32 = 0o1777;

/// The settings, but for the health check, of a task whose job brings along what `alloc` holds, and whose volumes are `disks`.
///
/// # Errors
/// A sentence about a secret or config that is not there or too large.
pub(super) fn of(spec: &TaskSpec, alloc: &Alloc, disks: Vec<Disk>) -> Result<Settings, String> {
    let limits = spec.ulimits.iter();
    Ok(Settings {
        groups: spec.groups.clone(),
        timezone: spec.timezone.clone(),
        tmpfs: spec
            .tmpfs
            .iter()
            .map(|tmpfs| Tmpfs {
                target: tmpfs.target.clone(),
                size_bytes: tmpfs.size.map(|size| size.0),
                mode: tmpfs.mode.unwrap_or(TMPFS_MODE_DEFAULT),
            })
            .collect(),
        shm_bytes: spec.shm_size.map(|size| size.0),
        is_read_only: spec.is_read_only,
        files: files(spec, alloc)?,
        disks,
        health: None,
        limits: limits
            .map(|(name, limit)| (name.clone(), Limit { soft: limit.soft, hard: limit.hard }))
            .collect(),
        sysctls: spec.sysctls.clone(),
        devices: devices(spec),
    })
}

/// The task's time zone as a variable, for programs that look there; what the job's own environment says wins.
pub(super) fn timezone_variable(spec: &TaskSpec) -> Option<String> {
    let zone = spec.timezone.as_ref().filter(|_| !spec.env.contains_key("TZ"))?;
    Some(format!("TZ={zone}"))
}

/// How much of a task's output is kept.
pub(super) fn rotation(logging: &Logging) -> Rotation {
    let usual = Rotation::default();
    Rotation {
        file_bytes_max: logging.max_size.map_or(usual.file_bytes_max, |size| size.0),
        files_max: logging.max_files.unwrap_or(usual.files_max),
    }
}

fn devices(spec: &TaskSpec) -> Vec<Device> {
    let is_wanted = |device: &Device| {
        spec.devices.iter().any(|asked| asked.is_of_the_guest() && asked.host == device.path())
    };
    Device::ALL.into_iter().filter(is_wanted).collect()
}

/// Secrets first, then configs: at one place, the later one is seen.
fn files(spec: &TaskSpec, alloc: &Alloc) -> Result<Vec<SmallFile>, String> {
    let secrets = spec.secrets.iter().map(|mount| ("secret", &alloc.secrets, mount));
    let configs = spec.configs.iter().map(|mount| ("config", &alloc.configs, mount));
    let files: Vec<SmallFile> = secrets
        .chain(configs)
        .map(|(noun, known, mount)| Ok(small_file(mount, content(noun, known, mount)?)))
        .collect::<Result<_, String>>()?;
    // One that is seen at several places is sent once for each of them.
    let bytes: usize = files.iter().map(|file| file.content.0.len()).sum();
    if bytes > CONTENTS_BYTES_MAX {
        return Err(format!(
            "its secrets and configs hold {bytes} bytes at all their places, more than {CONTENTS_BYTES_MAX}"
        ));
    }
    Ok(files)
}

fn content(noun: &str, known: &BTreeMap<String, FileSpec>, mount: &FileMount) -> Result<Content, String> {
    let name = mount.source.as_str();
    let file = known.get(name).ok_or_else(|| format!("its {noun} \"{name}\" did not come with it"))?;
    let source = file.parse(noun, name).map_err(|error| chain(&error))?;
    source.content().cloned().ok_or_else(|| format!("its {noun} \"{name}\" is not in the cluster's store"))
}

fn small_file(mount: &FileMount, Content(bytes): Content) -> SmallFile {
    SmallFile {
        target: mount.target.clone(),
        uid: mount.uid.unwrap_or(0),
        gid: mount.gid.unwrap_or(0),
        mode: mount.mode.unwrap_or(FILE_MODE_DEFAULT),
        is_writable: mount.is_writable,
        content: GuestContent(bytes.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use lith_api::job::FileOrigin;

    use super::*;

    fn alloc(secrets: &[(&str, Option<&str>)]) -> Alloc {
        let file = |content: &Option<&str>| FileSpec {
            from: if content.is_some() { FileOrigin::Inline } else { FileOrigin::Store },
            content: content.map(str::to_owned),
        };
        Alloc {
            id: "shop.main.0".to_owned(),
            born: 1,
            volumes: BTreeMap::new(),
            secrets: secrets.iter().map(|(name, content)| ((*name).to_owned(), file(content))).collect(),
            configs: BTreeMap::new(),
            tasks: vec![],
        }
    }

    fn with_secret(name: &str) -> TaskSpec {
        let mount = FileMount {
            source: name.parse().unwrap(),
            target: format!("/run/secrets/{name}"),
            uid: Some(7),
            gid: None,
            mode: None,
            is_writable: false,
        };
        TaskSpec { secrets: vec![mount], ..TaskSpec::new("app:1") }
    }

    #[test]
    fn a_secret_reaches_the_guest_or_is_named() {
        let check = |secrets: &[(&str, Option<&str>)], expected: Result<&[u8], &str>| {
            let settings = of(&with_secret("key"), &alloc(secrets), vec![]);
            let found = settings.as_ref().map(|settings| settings.files[0].content.0.as_slice());
            assert_eq!(found, expected.map_err(str::to_owned).as_ref().copied());
        };
        check(&[("key", Some("aGVsbG8="))], Ok(b"hello"));
        check(&[], Err("its secret \"key\" did not come with it"));
        check(&[("key", None)], Err("its secret \"key\" is not in the cluster's store"));
        check(
            &[("key", Some("?"))],
            Err("secret \"key\": its content is no base64: Invalid symbol 63, offset 0."),
        );
        let settings = of(&with_secret("key"), &alloc(&[("key", Some(""))]), vec![]).unwrap();
        let file = &settings.files[0];
        assert_eq!((file.uid, file.gid, file.mode, file.is_writable), (7, 0, 0o444, false));
    }

    #[test]
    fn a_time_zone_yields_to_the_environment() {
        let spec = TaskSpec { timezone: Some("Europe/Berlin".to_owned()), ..TaskSpec::new("app:1") };
        assert_eq!(timezone_variable(&spec).as_deref(), Some("TZ=Europe/Berlin"));
        let env = [("TZ".to_owned(), "UTC".to_owned())].into();
        assert_eq!(timezone_variable(&TaskSpec { env, ..spec }), None);
        assert_eq!(timezone_variable(&TaskSpec::new("app:1")), None);
    }
}
