//! Which module files a guest needs, and in which order they load. Owns the reading of a modules folder:
//! `modules.dep` and `modules.builtin` where `depmod` has run, the modules' own `.modinfo` section where a package was
//! merely unpacked (Debian's package has no `modules.dep`; it is made at installation). It writes nothing.

use super::KernelError;
use super::expand::Compression;
use std::collections::{BTreeMap, BTreeSet};

use std::path::{Path, PathBuf};

/// Decompressed modules larger than this are refused: the largest real ones (GPU drivers) stay below it, and it bounds
/// what a damaged archive can make us allocate.
const MODULE_BYTES_MAX: u64 = 64 << 20;
/// Folders deeper than this below `kernel/` are not searched; real trees have seven levels.
const FOLDER_DEPTH_MAX: usize = 16;

/// A module to load, decompressed.
#[derive(Debug)]
pub(super) struct Module {
    /// Name with underscores, as `lsmod` shows it.
    pub(super) name: String,
    /// The ELF object.
    pub(super) content: Vec<u8>,
}

/// What the modules folder says.
struct Index<'a> {
    folder: &'a Path,
    paths: BTreeMap<String, PathBuf>,
    /// Direct or transitive dependencies, when `modules.dep` lists them.
    listed: Option<BTreeMap<String, Vec<String>>>,
}

/// The modules named in `required` and those of `optional` that exist, with all they depend on, each after what it
/// depends on. Modules built into the kernel are skipped.
///
/// # Errors
/// A required module is missing, or a file cannot be read or decompressed.
pub(super) fn load_order(
    version: &str,
    folder: &Path,
    required: &[&str],
    optional: &[&str],
) -> Result<Vec<Module>, KernelError> {
    let builtin = builtin(folder)?;
    let index = Index::read(folder)?;
    let mut order = Vec::new();
    let mut seen = builtin;
    for name in required.iter().chain(optional) {
        let name = canonical(name);
        let missing_is_fine = !required.iter().any(|other| canonical(other) == name);
        if missing_is_fine && !index.paths.contains_key(&name) {
            continue;
        }
        index.visit(version, &name, &mut seen, &mut order)?;
    }
    Ok(order)
}

impl Index<'_> {
    fn read(folder: &Path) -> Result<Index<'_>, KernelError> {
        let path = folder.join("modules.dep");
        if path.exists() {
            let text = std::fs::read_to_string(&path).map_err(KernelError::file("read", &path))?;
            let (paths, listed) = parse_dep(&text);
            return Ok(Index { folder, paths, listed: Some(listed) });
        }
        let mut paths = BTreeMap::new();
        walk(folder, Path::new("kernel"), 0, &mut paths)?;
        Ok(Index { folder, paths, listed: None })
    }

    /// Depth first: dependencies enter `order` before the module. Marking before descending ends cycles.
    fn visit(
        &self,
        version: &str,
        name: &str,
        seen: &mut BTreeSet<String>,
        order: &mut Vec<Module>,
    ) -> Result<(), KernelError> {
        if !seen.insert(name.to_owned()) {
            return Ok(());
        }
        let relative = self.paths.get(name).ok_or_else(|| KernelError::ModuleMissing {
            version: version.to_owned(),
            module: name.to_owned(),
        })?;
        let path = self.folder.join(relative);
        let content = read_module(&path)?;
        let dependencies = match &self.listed {
            Some(listed) => listed.get(name).cloned().unwrap_or_default(),
            None => modinfo_depends(&content).ok_or_else(|| KernelError::ModuleBroken {
                path,
                problem: "it has no .modinfo section".to_owned(),
            })?,
        };
        // `modules.dep` lists the deepest dependency last.
        for dependency in dependencies.iter().rev() {
            self.visit(version, dependency, seen, order)?;
        }
        order.push(Module { name: name.to_owned(), content });
        Ok(())
    }
}

/// Module names are compared with underscores: file names and `depends=` differ in this.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// `kernel/fs/ext4/ext4.ko.xz` → `ext4`.
fn name_of(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let stem = ["", ".xz", ".zst", ".gz"]
        .iter()
        .find_map(|suffix| file.strip_suffix(suffix)?.strip_suffix(".ko"))?;
    Some(canonical(stem))
}

fn builtin(folder: &Path) -> Result<BTreeSet<String>, KernelError> {
    let path = folder.join("modules.builtin");
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(text.lines().filter_map(name_of).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(KernelError::file("read", &path)(error)),
    }
}

/// Lines `path: dependency dependency…`, all relative to the modules folder.
fn parse_dep(text: &str) -> (BTreeMap<String, PathBuf>, BTreeMap<String, Vec<String>>) {
    let mut paths = BTreeMap::new();
    let mut listed = BTreeMap::new();
    for (path, dependencies) in text.lines().filter_map(|line| line.split_once(':')) {
        if let Some(name) = name_of(path) {
            listed.insert(name.clone(), dependencies.split_whitespace().filter_map(name_of).collect());
            paths.insert(name, PathBuf::from(path));
        }
    }
    (paths, listed)
}

fn walk(
    folder: &Path,
    relative: &Path,
    depth: usize,
    paths: &mut BTreeMap<String, PathBuf>,
) -> Result<(), KernelError> {
    let here = folder.join(relative);
    let entries = std::fs::read_dir(&here).map_err(KernelError::file("read", &here))?;
    for entry in entries {
        let entry = entry.map_err(KernelError::file("read", &here))?;
        let file_type = entry.file_type().map_err(KernelError::file("read", &here))?;
        let path = relative.join(entry.file_name());
        if file_type.is_dir() && depth < FOLDER_DEPTH_MAX {
            walk(folder, &path, depth + 1, paths)?;
        } else if let Some(name) = path.to_str().and_then(name_of) {
            paths.insert(name, path);
        }
    }
    Ok(())
}

fn read_module(path: &Path) -> Result<Vec<u8>, KernelError> {
    let read_error = || KernelError::file("read", path);
    let raw = std::fs::read(path).map_err(read_error())?;
    let broken = |problem: String| KernelError::ModuleBroken { path: path.to_owned(), problem };
    let compression = match path.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => Compression::Gzip,
        Some("zst") => Compression::Zstd,
        Some("xz") => Compression::Xz,
        _ if raw.len() as u64 > MODULE_BYTES_MAX => {
            return Err(broken(format!("it is larger than {MODULE_BYTES_MAX} bytes")));
        }
        _ => return Ok(raw),
    };
    compression.expand(&raw, MODULE_BYTES_MAX).map_err(broken)
}

/// The names in `depends=` of a module's `.modinfo` section (64-bit little-endian ELF, as every machine lith runs on
/// has it), or nothing when the file is no such object.
fn modinfo_depends(elf: &[u8]) -> Option<Vec<String>> {
    let section = modinfo_section(elf)?;
    let depends = section.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(b"depends="))?;
    let depends = std::str::from_utf8(depends).ok()?;
    // Reversed as in `modules.dep`, so that both are walked alike.
    Some(depends.split(',').filter(|name| !name.is_empty()).map(canonical).rev().collect())
}

fn modinfo_section(elf: &[u8]) -> Option<&[u8]> {
    const SECTION_HEADER_BYTES: usize = 64;
    if elf.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let table = usize::try_from(number(elf, 0x28, 8)?).ok()?;
    let count = usize::try_from(number(elf, 0x3c, 2)?).ok()?;
    let names_index = usize::try_from(number(elf, 0x3e, 2)?).ok()?;
    let header = |index: usize| {
        let start = table.checked_add(index.checked_mul(SECTION_HEADER_BYTES)?)?;
        elf.get(start..start.checked_add(SECTION_HEADER_BYTES)?)
    };
    let body = |header: &[u8]| {
        let start = usize::try_from(number(header, 0x18, 8)?).ok()?;
        let length = usize::try_from(number(header, 0x20, 8)?).ok()?;
        elf.get(start..start.checked_add(length)?)
    };
    let names = body(header(names_index)?)?;
    (0..count).find_map(|index| {
        let header = header(index)?;
        let name = names.get(usize::try_from(number(header, 0, 4)?).ok()?..)?;
        name.starts_with(b".modinfo\0").then(|| body(header))?
    })
}

fn number(bytes: &[u8], start: usize, length: usize) -> Option<u64> {
    let field = bytes.get(start..start.checked_add(length)?)?;
    Some(field.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::io::Write;

    /// A minimal relocatable object with the sections `.shstrtab` and `.modinfo`.
    pub(crate) fn module(depends: &str) -> Vec<u8> {
        let names = b"\0.modinfo\0";
        let modinfo = format!("license=GPL\0depends={depends}\0");
        let names_at = 64;
        let modinfo_at = names_at + names.len();
        let table_at = modinfo_at + modinfo.len();
        let mut elf = vec![0; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[0x28..0x30].copy_from_slice(&(table_at as u64).to_le_bytes());
        elf[0x3c] = 2;
        elf.extend_from_slice(names);
        elf.extend_from_slice(modinfo.as_bytes());
        for (name, start, length) in [(0u8, names_at, names.len()), (1, modinfo_at, modinfo.len())] {
            let mut header = [0; 64];
            header[0] = name;
            header[0x18..0x20].copy_from_slice(&(start as u64).to_le_bytes());
            header[0x20..0x28].copy_from_slice(&(length as u64).to_le_bytes());
            elf.extend_from_slice(&header);
        }
        elf
    }

    fn compressed(name: &str, content: &[u8]) -> Vec<u8> {
        match name.rsplit('.').next().unwrap() {
            "gz" => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            }
            "zst" => zstd::encode_all(content, 1).unwrap(),
            "xz" => xz(content, &["--check=crc32", "--lzma2=dict=1MiB"]),
            _ => content.to_vec(),
        }
    }

    /// By the real program: its streams are what distributions ship.
    fn xz(content: &[u8], options: &[&str]) -> Vec<u8> {
        let mut command = std::process::Command::new("xz");
        command.arg("--stdout").args(options);
        let mut child =
            command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let content = content.to_vec();
        let writer = std::thread::spawn(move || input.write_all(&content).unwrap());
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        assert!(output.status.success());
        output.stdout
    }

    #[test]
    fn compressed_streams_of_the_real_program_are_read() {
        // Half of it repeats, half does not, so that matches and literals are both met.
        let noise = (0..200_000u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8);
        let content: Vec<u8> = noise.chain(b"relocation ".iter().copied().cycle().take(200_000)).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.ko.xz");
        for options in [&["--check=crc32", "--lzma2=dict=1MiB"][..], &["-9"], &["-0", "--block-size=65536"]] {
            let packed = xz(&content, options);
            assert!(packed.len() < content.len(), "it is compressed");
            std::fs::write(&path, packed).unwrap();
            assert_eq!(read_module(&path).unwrap(), content, "{options:?}");
        }
    }

    fn check(
        files: &[(&str, &str)],
        texts: &[(&str, &str)],
        required: &[&str],
        optional: &[&str],
        expect: &str,
    ) {
        let folder = tempfile::tempdir().unwrap();
        for (name, depends) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, compressed(name, &module(depends))).unwrap();
        }
        for (name, text) in texts {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let order = match load_order("6.1", folder.path(), required, optional) {
            Ok(modules) => modules.iter().map(|module| module.name.as_str()).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        };
        assert_eq!(order, expect);
    }

    #[test]
    fn dependencies_come_first_whatever_the_compression() {
        let files = [
            ("kernel/a/net.ko.xz", "failover,virtio-ring"),
            ("kernel/b/failover.ko.zst", ""),
            ("kernel/virtio-ring.ko.gz", "virtio"),
            ("kernel/virtio.ko", ""),
            ("kernel/unused.ko", "nothing_has_this"),
        ];
        check(&files, &[], &["net"], &[], "failover virtio virtio_ring net");
        check(&files, &[], &["virtio", "net"], &["absent"], "virtio failover virtio_ring net");
    }

    #[test]
    fn modules_dep_is_believed_where_it_exists() {
        let files = [("kernel/a.ko", "lies"), ("kernel/b.ko", "lies"), ("kernel/c.ko", "lies")];
        let dep =
            ("modules.dep", "kernel/a.ko: kernel/b.ko kernel/c.ko\nkernel/b.ko: kernel/c.ko\nkernel/c.ko:\n");
        check(&files, &[dep], &["a"], &[], "c b a");
    }

    #[test]
    fn built_in_modules_are_skipped_also_as_dependencies() {
        let builtin = ("modules.builtin", "kernel/fs/ext4.ko\nkernel/lib/crc-t.ko\n");
        check(&[("kernel/a.ko", "crc_t")], &[builtin], &["ext4", "a"], &[], "a");
    }

    #[test]
    fn what_is_missing_or_broken_is_named() {
        check(&[("kernel/a.ko", "b")], &[], &["a"], &[], "kernel 6.1 has no module b");
        check(&[("kernel/a.ko", "")], &[], &["c"], &[], "kernel 6.1 has no module c");
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("kernel")).unwrap();
        for name in ["a.ko", "b.ko.xz", "c.ko.gz", "d.ko.zst"] {
            std::fs::write(folder.path().join("kernel").join(name), b"garbage").unwrap();
        }
        for name in ["a", "b", "c", "d"] {
            let error = load_order("6.1", folder.path(), &[name], &[]).unwrap_err();
            assert!(matches!(error, KernelError::ModuleBroken { .. }), "{error}");
        }
    }

    #[test]
    fn no_damaged_object_makes_the_parser_panic() {
        let good = module("a,b");
        assert_eq!(modinfo_depends(&good).unwrap(), ["b", "a"]);
        for end in 0..good.len() {
            let _ = modinfo_depends(&good[..end]);
        }
        for position in 0..good.len() {
            let mut bad = good.clone();
            bad[position] = 0xff;
            let _ = modinfo_depends(&bad);
        }
    }
}
