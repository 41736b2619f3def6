//! File systems of images, as folders: the bases through `apt-get download` and `mmdebstrap`, the apps through the
//! base's own package manager. Needs root. All mounts are made in a mount namespace of their own, so that none can be
//! left behind.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use super::recipe::{Base, DEBIAN_PACKAGES, Recipe};
use crate::process;

/// The release that images are made of: what lith itself is tested on.
const SUITE: &str = "bookworm";

/// The date of files that come from a recipe: 2026-01-01, as in the image's configuration.
const FILES_AGE: Duration = Duration::from_secs(1_767_225_600);

/// Where Debian's installer leaves the archives of this machine; used so that a mirror set there is used here.
const SOURCES: &[&str] = &["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"];

/// What no server needs at run time, as in Debian's own container images.
const DPKG_EXCLUDES: &[&str] = &[
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/lintian/*",
];

/// Unpacks one static program and gives it its names.
const BUSYBOX: &str = r#"
set -eu
cd "$1"
apt-get -qq -o APT::Sandbox::User=root download busybox-static || {
    apt-get -qq update
    apt-get -qq -o APT::Sandbox::User=root download busybox-static
}
mkdir tree
dpkg-deb -x busybox-static_*.deb tree.deb
mkdir -p tree/bin tree/sbin tree/usr/bin tree/usr/sbin tree/etc tree/home tree/root tree/var/log tree/tmp
chmod 1777 tree/tmp
chmod 700 tree/root
cp tree.deb/bin/busybox tree/bin/busybox
for path in $(tree/bin/busybox --list-full); do
    [ "$path" = bin/busybox ] || ln tree/bin/busybox "tree/$path"
done
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n' >tree/etc/passwd
printf 'root:x:0:\ntty:x:5:\nnogroup:x:65534:\n' >tree/etc/group
"#;

/// Runs in a fresh mount namespace. $1: the tree, $2: the folder of downloaded packages, $3: packages, $4: script.
const APP: &str = r#"
set -eu
mount --make-rprivate /
mkdir -p "$1/var/cache/apt/archives"
mount --bind "$2" "$1/var/cache/apt/archives"
mount -t proc proc "$1/proc"
mount --bind /dev "$1/dev"
mount --bind /etc/resolv.conf "$1/etc/resolv.conf" 2>/dev/null || true
run() { env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 \
    ${http_proxy:+http_proxy=$http_proxy} ${https_proxy:+https_proxy=$https_proxy} chroot "$1" /bin/sh -euc "$2"; }
if [ -n "$3" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$1/usr/sbin/policy-rc.d"
    chmod 755 "$1/usr/sbin/policy-rc.d"
    apt="apt-get -qq -o Dpkg::Use-Pty=0 -o APT::Keep-Downloaded-Packages=true -o APT::Sandbox::User=root \
        -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o Dpkg::Options::=--force-unsafe-io"
    install="$apt install -y --no-install-recommends $3 >/dev/null"
    # The lists are as old as the base, and may name files that the archive no longer has.
    run "$1" "$install" || { run "$1" "$apt update" && run "$1" "$install"; }
    rm "$1/usr/sbin/policy-rc.d"
fi
if [ -n "$4" ]; then
    run "$1" "$(cat "$4")"
fi
rm -rf "$1"/var/lib/apt/lists/* "$1"/var/log/apt "$1"/var/log/dpkg.log "$1"/var/log/alternatives.log "$1"/tmp/* \
    "$1"/var/cache/debconf/*-old "$1"/var/lib/dpkg/*-old "$1"/var/cache/ldconfig/aux-cache
"#;

/// Makes a base file system at `tree`, which does not exist yet.
pub(crate) fn make_base(base: Base, tree: &Path, cache: &Path) -> Result<()> {
    let scratch = cache.join("base-scratch");
    super::remove_tree(&scratch)?;
    std::fs::create_dir_all(&scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
    let fresh = scratch.join("tree");
    match base {
        Base::Busybox => {
            process::output(Command::new("sh").args(["-c", BUSYBOX, "busybox"]).arg(&scratch))?;
        }
        Base::Debian => {
            let mut command = Command::new("mmdebstrap");
            command.args(["--quiet", "--mode=root", "--variant=minbase", "--format=directory"]);
            command.arg(format!("--include={}", DEBIAN_PACKAGES.join(",")));
            command.arg("--aptopt=APT::Install-Recommends \"false\"");
            command.args(DPKG_EXCLUDES.iter().map(|line| format!("--dpkgopt={line}")));
            // The lists of packages stay: every app is installed with them, and leaves without them.
            command.arg("--skip=cleanup/apt/lists").arg(SUITE).arg(&fresh).args(sources());
            process::output(&mut command)?;
            // This machine's name and resolver, which the building needed, are not the image's.
            std::fs::remove_file(fresh.join("etc/hostname")).context("cannot remove etc/hostname")?;
            std::fs::write(fresh.join("etc/resolv.conf"), "").context("cannot empty etc/resolv.conf")?;
        }
    }
    std::fs::rename(&fresh, tree).with_context(|| format!("cannot move {}", fresh.display()))?;
    super::remove_tree(&scratch)
}

/// Makes the file system of an app at `tree`: the base, its packages, its files, its script.
pub(crate) fn make_app(recipe: &Recipe, base: &Path, tree: &Path, cache: &Path) -> Result<()> {
    let copy = |from: &Path, to: &Path, options: &[&str]| {
        process::output(Command::new("cp").args(options).arg(from).arg(to)).map(drop)
    };
    copy(base, tree, &["-a", "--reflink=auto"])?;
    if let Some(rootfs) = &recipe.rootfs {
        install_files(rootfs, tree)?;
    }
    if recipe.packages.is_empty() && recipe.setup.is_none() {
        return Ok(());
    }
    if recipe.base != Base::Debian {
        bail!("a setup script needs the base debian");
    }
    let downloads = cache.join("downloads");
    std::fs::create_dir_all(downloads.join("partial")).context("cannot create the folder of downloads")?;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", APP, "app"]).arg(tree).arg(downloads);
    command.arg(recipe.packages.join(" ")).arg(recipe.setup.as_deref().unwrap_or(Path::new("")));
    process::output(&mut command).map(drop)
}

/// Copies the files of a recipe. Owner, times and modes are ours, not those that a checkout happens to have: git knows
/// only whether a file is executable.
fn install_files(from: &Path, to: &Path) -> Result<()> {
    for entry in std::fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let source = entry.with_context(|| format!("cannot list {}", from.display()))?.path();
        let target = to.join(source.file_name().context("an entry without a name")?);
        let metadata = source.metadata().with_context(|| format!("cannot look at {}", source.display()))?;
        let set_mode = |mode| std::fs::set_permissions(&target, std::fs::Permissions::from_mode(mode));
        if metadata.is_dir() {
            if !target.exists() {
                std::fs::create_dir(&target)
                    .and_then(|()| set_mode(0o755))
                    .with_context(|| created(&target))?;
            }
            install_files(&source, &target)?;
            continue;
        }
        let mode = if metadata.mode() & 0o111 == 0 { 0o644 } else { 0o755 };
        std::fs::copy(&source, &target).and_then(|_| set_mode(mode)).with_context(|| created(&target))?;
        let file = std::fs::File::options().write(true).open(&target).with_context(|| created(&target))?;
        file.set_modified(UNIX_EPOCH + FILES_AGE).with_context(|| created(&target))?;
    }
    Ok(())
}

fn created(path: &Path) -> String {
    format!("cannot create {}", path.display())
}

/// This machine's own archives when they are of the right release, else the default ones.
fn sources() -> Vec<&'static str> {
    let is_ours = |path: &&&str| std::fs::read_to_string(path).is_ok_and(|text| text.contains(SUITE));
    SOURCES.iter().find(is_ours).copied().into_iter().collect()
}
