//! What is mounted into a task: volumes, file systems in memory, devices.

use super::path::absolute;
use super::{Refusal, quoted};
use crate::job::Bytes;
use crate::job::process::Device;
use crate::job::volume::{Mount, MountSource, Tmpfs};
use crate::name::nearest_label;

/// `data:/var/lib/app`, `data:/srv:ro`, `/srv/media:/media:ro`.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub fn mount(text: &str) -> Result<Mount, Refusal> {
    let refusal = || Refusal::new(format!("{} mounts nothing", quoted(text)));
    let example = "write VOLUME:PATH, such as `data:/var/lib/app`, with `:ro` behind it for reading alone";
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, is_read_only) = match parts.as_slice() {
        [source, target] => (*source, *target, false),
        [source, target, "ro"] => (*source, *target, true),
        [source, target, "rw"] => (*source, *target, false),
        [_, _, option] => {
            let hint = format!("the only option is `ro`; {} is none", quoted(option));
            return Err(refusal().hint(hint));
        }
        [only] if only.starts_with('/') => {
            return Err(refusal().hint(format!("give the volume a name: `data:{only}`")));
        }
        _ => return Err(refusal().hint(example)),
    };
    let target = place(target)?;
    let source = if source.starts_with('/') {
        MountSource::Host(absolute(source)?)
    } else if source.starts_with(['.', '~']) {
        let hint = "a path of the node is absolute; for a disk of its own, give it a name such as `data`";
        return Err(refusal().hint(hint));
    } else {
        MountSource::Volume(source.parse().map_err(|_| {
            let named = nearest_label(source).map(|label| format!("`{label}` would do as the volume's name"));
            refusal().hint(named.unwrap_or_else(|| example.to_owned()))
        })?)
    };
    Ok(Mount { source, target, is_read_only })
}

/// A place in a task's file system where something can be mounted: absolute, without `..`, and not the root.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub fn place(text: &str) -> Result<String, Refusal> {
    let path = absolute(text)?;
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err(
            Refusal::new(format!("{} leads out of itself", quoted(text))).hint("write the path without `..`")
        );
    }
    if parts.is_empty() {
        return Err(Refusal::new("nothing can be mounted over `/`").hint("name a folder below it"));
    }
    Ok(format!("/{}", parts.join("/")))
}

/// `/tmp`, `/run:size=64M,mode=1777`; `size` is read by the caller's grammar of sizes.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub fn tmpfs(text: &str, size: impl Fn(&str) -> Result<Bytes, Refusal>) -> Result<Tmpfs, Refusal> {
    let refusal = || Refusal::new(format!("{} is not a file system in memory", quoted(text)));
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let mut tmpfs = Tmpfs { target: place(target)?, size: None, mode: None };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", value)) => tmpfs.size = Some(size(value)?),
            Some(("mode", value)) => tmpfs.mode = Some(mode(value)?),
            // What Docker takes and what a guest does anyway, or need not.
            _ if ["rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev"].contains(&option) => {}
            Some(("uid" | "gid", _)) => {}
            _ => {
                return Err(
                    refusal().hint("its options are `size=` and `mode=`, such as `/tmp:size=64M,mode=1777`")
                );
            }
        }
    }
    Ok(tmpfs)
}

/// Permissions as in `chmod`: `644`, `0644`.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub fn mode(text: &str) -> Result<u32, Refusal> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    match u32::from_str_radix(digits, 8) {
        Ok(mode) if mode <= 0o7777 && !digits.starts_with('+') => Ok(mode),
        _ => Err(Refusal::new(format!("{} are not permissions", quoted(text)))
            .hint("write three or four digits from 0 to 7, such as `0400`")),
    }
}

/// `/dev/fuse`, `/dev/ttyUSB0:/dev/ttyACM0`, with `:rwm` behind it as Docker has it.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub fn device(text: &str) -> Result<Device, Refusal> {
    let refusal = || Refusal::new(format!("{} is not a device", quoted(text)));
    let example = "write its path, such as `/dev/fuse` or `/dev/ttyUSB0`";
    let is_access = |part: &str| !part.is_empty() && part.chars().all(|c| "rwm".contains(c));
    let parts: Vec<&str> = text.split(':').collect();
    let (host, guest) = match parts.as_slice() {
        [host] => (*host, *host),
        [host, access] if is_access(access) => (*host, *host),
        [host, guest] => (*host, *guest),
        [host, guest, access] if is_access(access) => (*host, *guest),
        _ => return Err(refusal().hint(example)),
    };
    let path = |path: &str| match absolute(path) {
        Ok(path) if path.starts_with("/dev/") && !path.split('/').any(|part| part == "..") => Ok(path),
        _ => Err(refusal().hint(example)),
    };
    Ok(Device { host: path(host)?, guest: path(guest)? })
}
