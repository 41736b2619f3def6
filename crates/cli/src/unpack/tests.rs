//! Archives, honest and hostile, and what becomes of them in a folder.

use super::*;
use std::os::unix::fs::symlink;
use tar::EntryType::{Block, Directory, Link, Regular, Symlink};

type Given<'a> = (&'a str, tar::EntryType, &'a str);

/// As a guest sends it that holds to no rule: any name, any kind.
fn archive(entries: &[Given<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, kind, text) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(if *kind == Directory { 0o750 } else { 0o4644 });
        header.set_mtime(1_000_000);
        // The builder refuses hostile paths; a hostile task does not use the builder.
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        let is_link = matches!(*kind, Symlink | Link);
        if is_link {
            header.as_gnu_mut().unwrap().linkname[..text.len()].copy_from_slice(text.as_bytes());
        }
        let content = if is_link { "" } else { text };
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn output(bytes: &[u8]) -> Vec<Result<Frame, Failure>> {
    bytes.chunks(100).map(|part| Ok(Frame::Output(Bytes::copy_from_slice(part)))).collect()
}

async fn run(
    source: &str,
    target: &Path,
    existing: Existing,
    frames: Vec<Result<Frame, Failure>>,
) -> Result<Copied, String> {
    let text = |error: Error| error.text(crate::terminal::Paint::PLAIN);
    let prepared = Unpack::prepare(source, target, existing).map_err(text)?;
    prepared
        .run(parts(futures_util::stream::iter(frames).boxed()), &ProgressBar::hidden())
        .await
        .map_err(text)
}

async fn unpack(source: &str, target: &Path, entries: &[Given<'_>]) -> Result<Copied, String> {
    let mut frames = output(&archive(entries));
    frames.push(Ok(Frame::Exit(ExecExit { code: 0 })));
    run(source, target, Existing::Keep, frames).await
}

/// Everything below a folder, with the content of files.
fn listing(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(path) = pending.pop() {
        let name = path.strip_prefix(folder).unwrap().display().to_string();
        let kind = fs::symlink_metadata(&path).unwrap();
        if kind.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            found.push(format!("{name}/"));
        } else if kind.is_symlink() {
            found.push(format!("{name} -> {}", fs::read_link(&path).unwrap().display()));
        } else {
            found.push(format!("{name}={}", fs::read_to_string(&path).unwrap()));
        }
    }
    found.retain(|name| name != "/");
    found.sort();
    found
}

fn world() -> (tempfile::TempDir, impl Fn(&str) -> PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_owned();
    (folder, move |name: &str| root.join(name))
}

#[tokio::test]
async fn targets_are_chosen_as_docker_does() {
    let (folder, path) = world();
    let file = [("hosts", Regular, "local")];
    assert_eq!(unpack("/etc/hosts", folder.path(), &file).await.unwrap(), Copied { files: 1, bytes: 5 });
    // A file that is named itself is replaced.
    for target in [folder.path().to_owned(), path("new"), path("new")] {
        unpack("/etc/hosts", &target, &file).await.unwrap();
    }
    let error = unpack("/etc/hosts", &path("none/"), &file).await.unwrap_err();
    assert!(error.starts_with("error: cannot copy into the folder"), "{error}");
    let tree =
        [("etc", Directory, ""), ("etc/a", Regular, "a"), ("etc/b", Symlink, "a"), ("etc/c", Link, "etc/a")];
    for (source, target) in [("/etc", "moved"), ("/etc/", "slash/")] {
        assert_eq!(unpack(source, &path(target), &tree).await.unwrap(), Copied { files: 3, bytes: 1 });
    }
    // Named as the path was, whatever that leads to in the task.
    unpack("/link/.", &path("sub"), &[(".", Directory, ""), ("a", Regular, "a"), ("./b", Regular, "b")])
        .await
        .unwrap();
    let expected = [
        "hosts=local",
        "moved/",
        "moved/a=a",
        "moved/b -> a",
        "moved/c=a",
        "new=local",
        "slash/",
        "slash/a=a",
        "slash/b -> a",
        "slash/c=a",
        "sub/",
        "sub/a=a",
        "sub/b=b",
    ];
    assert_eq!(listing(folder.path()), expected);
}

#[tokio::test]
async fn a_task_cannot_choose_which_files_are_written() {
    let check = async |source: &str, entries: &[Given<'_>], sent: &str| {
        let (folder, path) = world();
        for target in [folder.path().to_owned(), path("new")] {
            let error = unpack(source, &target, entries).await.unwrap_err();
            let expected = format!("error: the archive holds `{sent}`, which was not asked for [E0001]\n");
            assert!(error.starts_with(&expected), "{error}");
            assert_eq!(listing(folder.path()), Vec::<String>::new(), "{sent}");
        }
    };
    check("/etc/nginx.conf", &[(".ssh/authorized_keys", Regular, "key")], ".ssh/authorized_keys").await;
    check("/x", &[("x", Regular, "x"), (".bashrc", Regular, "x")], ".bashrc").await;
    check("/x", &[("xy", Regular, "x")], "xy").await;
    check("/x", &[(".", Directory, "")], ".").await;
    check("/x", &[("../x", Regular, "x")], "../x").await;
    check("/x", &[("x", Directory, ""), ("x/../../y", Regular, "x")], "x/../../y").await;
    check("/x", &[("/x", Regular, "x")], "/x").await;
    check("/x", &[("x", Directory, ""), ("x/l", Link, "../secret")], "../secret").await;
    check("/x/.", &[(".", Directory, ""), ("../y", Regular, "x")], "../y").await;
    check("/x", &[("\x1b]0;t\x07", Regular, "x")], "\u{fffd}]0;t\u{fffd}").await;
}

#[tokio::test]
async fn links_of_a_task_are_not_followed() {
    let (folder, path) = world();
    fs::create_dir(path("out")).unwrap();
    fs::create_dir_all(path("out/root")).unwrap();
    fs::write(path("out/secret"), "old").unwrap();
    let out = path("out").display().to_string();
    fs::create_dir(path("in")).unwrap();
    for name in ["x/l/secret", "x/l/root/y", "x/l/new"] {
        let entries = [("x", Directory, ""), ("x/l", Symlink, out.as_str()), (name, Regular, "new")];
        let error = unpack("/x", &path("in"), &entries).await.unwrap_err();
        assert!(error.contains("leads through a link"), "{error}");
    }
    let entries = [("x", Directory, ""), ("x/l", Symlink, out.as_str()), ("x/s", Link, "x/l/secret")];
    assert!(unpack("/x", &path("in"), &entries).await.unwrap_err().contains("leads through a link"));
    // Nor those that are here already.
    symlink(path("out"), path("in/x")).unwrap();
    let error =
        unpack("/x", &path("in"), &[("x", Directory, ""), ("x/secret", Regular, "new")]).await.unwrap_err();
    assert!(error.contains("is there already, and is no folder"), "{error}");
    // A file replaces a link, not what it leads to.
    fs::remove_file(path("in/x")).unwrap();
    symlink(path("out/secret"), path("in/x")).unwrap();
    unpack("/x", &path("in"), &[("x", Regular, "new")]).await.unwrap();
    assert_eq!(listing(folder.path()), ["in/", "in/x=new", "out/", "out/root/", "out/secret=old"]);
}

#[tokio::test]
async fn files_that_were_not_named_are_replaced_only_by_force() {
    let (folder, path) = world();
    fs::create_dir_all(path("site/sub")).unwrap();
    fs::write(path("site/a"), "mine").unwrap();
    let contents =
        [(".", Directory, ""), ("sub", Directory, ""), ("sub/b", Regular, "b"), ("a", Regular, "theirs")];
    let named = [
        ("site", Directory, ""),
        ("site/sub", Directory, ""),
        ("site/sub/b", Regular, "b"),
        ("site/a", Regular, "theirs"),
    ];
    for (source, target, entries) in
        [("/site/.", path("site"), &contents), ("/site", folder.path().to_owned(), &named)]
    {
        let error = unpack(source, &target, entries).await.unwrap_err();
        assert!(error.contains("site/a` is there already, and nothing was changed [E0003]"), "{error}");
        assert!(error.contains("--force"), "{error}");
        assert_eq!(listing(folder.path()), ["site/", "site/a=mine", "site/sub/"]);
    }
    let mut frames = output(&archive(&contents));
    frames.push(Ok(Frame::Exit(ExecExit { code: 0 })));
    run("/site/.", &path("site"), Existing::Replace, frames).await.unwrap();
    assert_eq!(listing(folder.path()), ["site/", "site/a=theirs", "site/sub/", "site/sub/b=b"]);
}

#[tokio::test]
async fn what_is_broken_off_leaves_nothing() {
    let (folder, _) = world();
    let bytes = archive(&[("x", Directory, ""), ("x/a", Regular, "a")]);
    let check = async |bytes: &[u8], last: Option<Result<Frame, Failure>>, expected: &str| {
        let mut frames = output(bytes);
        frames.extend(last);
        let error = run("/x", folder.path(), Existing::Keep, frames).await.unwrap_err();
        assert!(error.starts_with(expected), "{error}");
        assert_eq!(listing(folder.path()), Vec::<String>::new());
    };
    let whole = bytes.len();
    // The end of the archive is not the end of the copy: only the server knows whether the task says more.
    check(&bytes, None, "error: the connection ended before all was copied").await;
    let failed = Failure::new(Code::NotRunning, "the disk broke");
    check(&bytes[..700], Some(Ok(Frame::Failure(failed))), "error: the disk broke [E0005]").await;
    let done = || Some(Ok(Frame::Exit(ExecExit { code: 0 })));
    check(&bytes[..whole - 1024], done(), "error: cannot read the archive: the archive ended early").await;
    check(&[], done(), "error: cannot read the archive: the archive ended early").await;
    check(&[0; 1024], done(), "error: the archive is empty").await;
    check(&bytes, Some(Ok(Frame::InputEnd)), "error: the server sent what does not belong to a copy").await;
}

#[tokio::test]
async fn modes_and_times_are_kept_and_special_bits_dropped() {
    let (folder, path) = world();
    let entries = [("x", Directory, ""), ("x/su", Regular, "x"), ("x/disk", Block, "")];
    assert_eq!(unpack("/x", folder.path(), &entries).await.unwrap(), Copied { files: 1, bytes: 1 });
    for (name, mode) in [("x", 0o750), ("x/su", 0o644)] {
        let found = fs::metadata(path(name)).unwrap();
        assert_eq!(found.permissions().mode() & 0o7777, mode, "{name}");
        assert_eq!(
            found.modified().unwrap(),
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000),
            "{name}"
        );
    }
    assert_eq!(listing(folder.path()), ["x/", "x/su=x"]);
}
