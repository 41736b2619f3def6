//! What a job asks of the guest's kernel: its settings, devices, limits of processes; and the task's time zone.
//!
//! What the kernel refuses ends the boot with a sentence: a task that runs without what it was promised fails later, and
//! nobody knows why.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use lith_guest::messages::BootStep;
use lith_guest::messages::settings::{Device, Limit};
use rustix::process::{Resource, Rlimit};

use crate::boot;
use crate::failure::{During, Failure, reason};

/// Where the kernel shows its settings.
const SYSCTLS: &str = "/proc/sys";
/// Where images keep time zones.
const ZONES: &str = "/usr/share/zoneinfo";
/// Open files that the kernel lets a limit name, until told otherwise (`fs.nr_open`).
const OPEN_FILES_USUAL: u64 = 1 << 20;
/// Most that it can be told: its own bound (`sysctl_nr_open_max` in `fs/file.c`) on 64-bit machines, rounded down.
const OPEN_FILES_MAX: u64 = 1 << 30;
/// Where that is told.
const OPEN_FILES_SETTING: &str = "/proc/sys/fs/nr_open";
/// Who may use a device of the guest: everybody, as with Docker's.
const DEVICE_MODE: u32 = 0o666;

/// Writes kernel settings.
pub(crate) fn apply_sysctls(sysctls: &BTreeMap<String, String>) -> Result<(), Failure> {
    for (name, value) in sysctls {
        let path = Path::new(SYSCTLS).join(name.replace('.', "/"));
        fs::write(path, value).map_err(|error| {
            let sentence = match error.kind() {
                io::ErrorKind::NotFound => format!("the guest's kernel has no setting {name}"),
                io::ErrorKind::InvalidInput => {
                    format!("the guest's kernel does not take {value:?} for {name}")
                }
                _ => format!("the guest's kernel does not take {name}: {}", reason(&error)),
            };
            Failure::new(BootStep::Settings, sentence)
        })?;
    }
    Ok(())
}

/// Loads the modules of the devices that are wanted, and gives the memory of the others back.
pub(crate) fn load_devices(wanted: &[Device]) -> Result<(), Failure> {
    for device in Device::ALL {
        let folder = Path::new("/").join(device.folder());
        if !wanted.contains(&device) {
            // A kernel without it has no folder.
            let _ = fs::remove_dir_all(&folder);
            continue;
        }
        boot::load_modules(&folder)?;
        let mode = Permissions::from_mode(DEVICE_MODE);
        fs::set_permissions(device.path(), mode).map_err(|_| {
            let sentence =
                format!("the guest's kernel has no {} (module {})", device.path(), device.module());
            Failure::new(BootStep::Settings, sentence)
        })?;
    }
    Ok(())
}

/// Lays what the job says over the limits that every process has. Lets the kernel take as many open files as are asked
/// for.
pub(crate) fn limits(
    mut limits: Vec<(Resource, Rlimit)>,
    asked: &BTreeMap<String, Limit>,
) -> Result<Vec<(Resource, Rlimit)>, Failure> {
    for (name, limit) in asked {
        let resource = resource(name).ok_or_else(|| {
            Failure::new(BootStep::Settings, format!("a process of the guest has no limit {name:?}"))
        })?;
        let limit = if resource == Resource::Nofile { open_files(*limit)? } else { *limit };
        limits.retain(|(other, _)| *other != resource);
        limits.push((resource, Rlimit { current: limit.soft, maximum: limit.hard }));
    }
    Ok(limits)
}

fn open_files(limit: Limit) -> Result<Limit, Failure> {
    let within = |limit: Option<u64>| limit.map_or(OPEN_FILES_MAX, |limit| limit.min(OPEN_FILES_MAX));
    let (soft, hard) = (within(limit.soft), within(limit.hard));
    if hard > OPEN_FILES_USUAL {
        fs::write(OPEN_FILES_SETTING, hard.to_string())
            .during(BootStep::Settings, format_args!("allow {hard} open files"))?;
    }
    Ok(Limit { soft: Some(soft), hard: Some(hard) })
}

fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "as" => Resource::As,
        "core" => Resource::Core,
        "cpu" => Resource::Cpu,
        "data" => Resource::Data,
        "fsize" => Resource::Fsize,
        "locks" => Resource::Locks,
        "memlock" => Resource::Memlock,
        "msgqueue" => Resource::Msgqueue,
        "nice" => Resource::Nice,
        "nofile" => Resource::Nofile,
        "nproc" => Resource::Nproc,
        "rss" => Resource::Rss,
        "rtprio" => Resource::Rtprio,
        "rttime" => Resource::Rttime,
        "sigpending" => Resource::Sigpending,
        "stack" => Resource::Stack,
        _ => return None,
    })
}

/// Sets the time zone for programs that do not look at TZ. An image without time zones keeps what it has. To be run in
/// the task's root.
pub(crate) fn set_timezone(zone: &str) -> Result<(), Failure> {
    let path = format!("{ZONES}/{zone}");
    if !fs::exists(&path).unwrap_or(false) {
        return Ok(());
    }
    let doing = format_args!("set the time zone {zone}").to_string();
    replace_link(&path, Path::new("/etc/localtime")).during(BootStep::Files, &doing)?;
    // What Debian's programs read.
    crate::files::replace("/etc/timezone", &format!("{zone}\n")).during(BootStep::Files, &doing)
}

fn replace_link(original: &str, link: &Path) -> io::Result<()> {
    let temporary = link.with_extension("lith");
    // Not followed, should the image have one of that name.
    let _ = fs::remove_file(&temporary);
    symlink(original, &temporary)?;
    fs::rename(&temporary, link)
}

#[cfg(test)]
mod tests {
    use super::{limits, resource, set_timezone};
    use lith_guest::messages::settings::Limit;
    use rustix::process::{Resource, Rlimit};

    #[test]
    fn what_the_job_says_replaces_what_every_process_has() {
        let usual = vec![
            (Resource::Nofile, Rlimit { current: Some(10), maximum: Some(20) }),
            (Resource::Core, Rlimit { current: Some(0), maximum: None }),
        ];
        let asked = [
            ("nofile".to_owned(), Limit { soft: Some(7), hard: Some(9) }),
            ("memlock".to_owned(), Limit { soft: None, hard: None }),
        ];
        let found = limits(usual, &asked.into()).unwrap();
        let find = |wanted| found.iter().find(|(one, _)| *one == wanted).map(|(_, limit)| *limit);
        assert_eq!(found.len(), 3);
        assert_eq!(find(Resource::Nofile), Some(Rlimit { current: Some(7), maximum: Some(9) }));
        assert_eq!(find(Resource::Memlock), Some(Rlimit { current: None, maximum: None }));
        assert_eq!(find(Resource::Core), Some(Rlimit { current: Some(0), maximum: None }));
        let unknown = [("files".to_owned(), Limit { soft: None, hard: None })];
        assert!(limits(vec![], &unknown.into()).unwrap_err().sentence().contains("\"files\""));
        assert_eq!(resource("nofil"), None);
    }

    #[test]
    fn a_zone_that_is_not_there_changes_nothing() {
        set_timezone("No/Such_Zone").unwrap();
    }
}
