//! The guest kernel: finds a distribution's kernel image with its modules, and packs the initramfs that boots it.
//! Owns the choice among several kernels and the cache of boot files. It never downloads nor installs anything, and
//! never runs a program: a kernel package that was merely unpacked is enough.

mod cpio;
mod expand;
mod image;
mod initramfs;
mod modules;

use std::cmp::Ordering;
use std::io;
use std::path::{Path, PathBuf};

pub use initramfs::{BootFiles, prepare, sweep};

/// Where kernels of installed packages and modules live below a root, in the order of preference.
const MODULE_FOLDERS: [&str; 2] = ["lib/modules", "usr/lib/modules"];

/// A kernel image and the folder with the modules of exactly that version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// The release, as `uname -r` would print it in the guest.
    pub version: String,
    /// The bootable image (a bzImage on x86-64).
    pub image: PathBuf,
    /// The folder `…/lib/modules/<version>`.
    pub modules: PathBuf,
}

/// Why no guest kernel could be made ready.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// None of the folders holds a kernel image with its modules.
    #[error("no guest kernel in {}", searched.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "))]
    NotFound {
        /// The roots that were searched.
        searched: Vec<PathBuf>,
    },
    /// A file of the kernel or of the cache could not be read or written.
    #[error("cannot {operation} {}", path.display())]
    File {
        /// What was tried: `read`, `write`.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A module that every guest needs is neither built in nor in the modules folder.
    #[error("kernel {version} has no module {module}")]
    ModuleMissing {
        /// The kernel's release.
        version: String,
        /// The module's name.
        module: String,
    },
    /// A module file is damaged, of an unknown format, or larger than any real module.
    #[error("kernel module {} is unusable: {problem}", path.display())]
    ModuleBroken {
        /// The module's file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl KernelError {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            KernelError::NotFound { searched } if searched.first().is_some_and(|path| path.is_file()) => {
                Some("give the folder of an unpacked kernel package: guests need the modules, too".to_owned())
            }
            KernelError::NotFound { searched } => Some(format!(
                "unpack a kernel package (Debian: linux-image-cloud-amd64) into {}",
                searched
                    .first()
                    .map_or_else(|| "the kernel folder".to_owned(), |path| path.display().to_string())
            )),
            KernelError::File { .. } => None,
            KernelError::ModuleMissing { .. } => Some(
                "use a distribution's general or cloud kernel, with its modules unpacked beside it"
                    .to_owned(),
            ),
            KernelError::ModuleBroken { .. } => Some("unpack the kernel package again".to_owned()),
        }
    }

    pub(crate) fn file(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KernelError {
        let path = path.to_owned();
        move |source| KernelError::File { operation, path, source }
    }
}

/// Finds the guest kernel: the first of `roots` that holds any kernel with modules wins, and in it the newest version.
/// A root is laid out like `/`: `boot/vmlinuz-<version>` (or the image beside the modules, as Fedora has it) and
/// `lib/modules/<version>` or `usr/lib/modules/<version>`.
///
/// # Errors
/// [`KernelError::NotFound`] when no root holds one.
pub fn find(roots: &[PathBuf]) -> Result<Kernel, KernelError> {
    roots
        .iter()
        .find_map(|root| newest_in(root))
        .ok_or_else(|| KernelError::NotFound { searched: roots.to_vec() })
}

fn newest_in(root: &Path) -> Option<Kernel> {
    MODULE_FOLDERS
        .iter()
        .flat_map(|folder| std::fs::read_dir(root.join(folder)).into_iter().flatten().flatten())
        .filter_map(|entry| {
            let version = entry.file_name().into_string().ok()?;
            let modules = entry.path();
            let beside = modules.join("vmlinuz");
            let image = [root.join(format!("boot/vmlinuz-{version}")), beside]
                .into_iter()
                .find(|path| path.is_file())?;
            modules.join("kernel").is_dir().then_some(Kernel { version, image, modules })
        })
        .max_by(|a, b| compare_versions(&a.version, &b.version))
}

/// Orders releases the way people read them: runs of digits as numbers, everything else as text.
fn compare_versions(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        match (a.first(), b.first()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(x), Some(y)) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let (number_a, rest_a) = split_number(a);
                let (number_b, rest_b) = split_number(b);
                match number_a.len().cmp(&number_b.len()).then_with(|| number_a.cmp(number_b)) {
                    Ordering::Equal => (a, b) = (rest_a, rest_b),
                    different @ (Ordering::Less | Ordering::Greater) => return different,
                }
            }
            (Some(x), Some(y)) if x == y => (a, b) = (&a[1..], &b[1..]),
            (Some(x), Some(y)) => return x.cmp(y),
        }
    }
}

/// The leading number without its leading zeros, so that a longer one is a larger one.
fn split_number(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let start = text[..end].iter().position(|byte| *byte != b'0').unwrap_or(end);
    (&text[start..end], &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lay(root: &Path, files: &[&str]) {
        for file in files {
            let path = root.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        }
    }

    fn check(files: &[&str], expect: Option<(&str, &str)>) {
        let root = tempfile::tempdir().unwrap();
        lay(root.path(), files);
        let found = find(&[root.path().to_owned()]).ok();
        let found = found.map(|kernel| {
            (kernel.version, kernel.image.strip_prefix(root.path()).unwrap().to_str().unwrap().to_owned())
        });
        assert_eq!(found, expect.map(|(version, image)| (version.to_owned(), image.to_owned())));
    }

    #[test]
    fn finds_the_newest_kernel_that_has_its_modules() {
        check(&[], None);
        check(&["boot/vmlinuz-6.1"], None);
        check(&["lib/modules/6.1/kernel/a.ko"], None);
        check(&["boot/vmlinuz-6.1", "lib/modules/6.1/kernel/a.ko"], Some(("6.1", "boot/vmlinuz-6.1")));
        check(&["boot/vmlinuz-6.1", "usr/lib/modules/6.1/kernel/a.ko"], Some(("6.1", "boot/vmlinuz-6.1")));
        check(
            &["usr/lib/modules/6.1/kernel/a.ko", "usr/lib/modules/6.1/vmlinuz"],
            Some(("6.1", "usr/lib/modules/6.1/vmlinuz")),
        );
        check(
            &[
                "boot/vmlinuz-6.1.0-9-cloud",
                "lib/modules/6.1.0-9-cloud/kernel/a.ko",
                "boot/vmlinuz-6.1.0-47-cloud",
                "lib/modules/6.1.0-47-cloud/kernel/a.ko",
                "boot/vmlinuz-6.9.0",
            ],
            Some(("6.1.0-47-cloud", "boot/vmlinuz-6.1.0-47-cloud")),
        );
    }

    #[test]
    fn versions_compare_as_people_read_them() {
        for (smaller, larger) in [
            ("6.1.9", "6.1.10"),
            ("6.1", "6.1.1"),
            ("5.19.0", "6.0.0"),
            ("6.1.0-9-a", "6.1.0-10-a"),
            ("1.a", "1.b"),
        ] {
            assert_eq!(compare_versions(smaller, larger), Ordering::Less, "{smaller} {larger}");
            assert_eq!(compare_versions(larger, smaller), Ordering::Greater, "{smaller} {larger}");
        }
        assert_eq!(compare_versions("6.01", "6.1"), Ordering::Equal);
    }

    #[test]
    fn nothing_found_says_where_and_what_to_do() {
        let error = find(&[PathBuf::from("/nowhere/kernel")]).unwrap_err();
        assert_eq!(error.to_string(), "no guest kernel in /nowhere/kernel");
        assert!(error.hint().unwrap().contains("/nowhere/kernel"));
        let image = tempfile::NamedTempFile::new().unwrap();
        let error = find(&[image.path().to_owned()]).unwrap_err();
        assert!(error.hint().unwrap().starts_with("give the folder of an unpacked kernel package"));
    }
}
