//! A pool that is full: nothing new is made, what runs is told, and nothing that was acknowledged is lost.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use lith_testkit::{World, eventually};

use super::{does_not_start, job};
use crate::load::{FILES, nothing_is_missing};

/// Size of the pool; a twentieth of it is never used.
const POOL: &str = "160m";
/// What is left of it when it is full: less than that.
const LEFT_BYTES: u64 = 4 << 20;

/// A file system that is gone with its world's folder.
fn mount(world: &World) -> PathBuf {
    let path = world.path("bulk");
    std::fs::create_dir(&path).unwrap();
    let options = format!("size={POOL},mode=700");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "pool"]).arg(&path).status();
    assert!(mounted.unwrap().success());
    path
}

/// Takes all space of a file system but so many bytes.
fn fill(pool: &Path, left_bytes: u64) -> PathBuf {
    let path = pool.join("ballast");
    let mut file = File::create(&path).unwrap();
    let block = vec![1; 64 << 10];
    while file.write_all(&block).is_ok() {}
    let bytes = file.metadata().unwrap().len();
    file.set_len(bytes.saturating_sub(left_bytes)).unwrap();
    path
}

#[test]
fn a_full_pool_refuses_what_is_new_and_loses_nothing() {
    let mut world = World::prepare();
    let pool = mount(&world);
    world.up_with(&["--pool", &format!("bulk={}", pool.display())]);
    world.load(FILES.image);
    world.load("hello");
    world.put(&FILES.spec());
    let _ = FILES.await_commits(&world, 5);
    is_refused_until_there_is_space(&world, &pool, LEFT_BYTES, || {
        world.put(&job("other", "exec sleep 1000000"));
        does_not_start(&world, "other", "pool \"bulk\" is full");
        assert!(!pool.join("other.data.0").exists(), "nothing of it is made");
        let pools = world.lith(&["pool", "ls", "--json"]).ok().stdout;
        assert!(pools.contains("it is full"), "{pools}");
    });
    let _ = world.lith(&["restart", "other"]).ok();
    world.await_task("other", "running", |task| task["phase"] == "running");
    // As when others have taken what is never used: not even the history can be written.
    is_refused_until_there_is_space(&world, &pool, 0, || {
        eventually("a person to be told that no history is kept", || {
            let shown = world.lith(&["volume", "ls", "--json"]).ok();
            if shown.stdout.contains("No space left on device") { Ok(()) } else { Err(shown) }
        });
    });
    let _ = world.lith(&["volume", "check", "files.data"]).ok();
    assert_eq!(nothing_is_missing(&FILES.said(&world)), 3);
}

/// Takes the space of a pool but so many bytes, until a write is refused; nothing that was acknowledged is missing afterwards.
fn is_refused_until_there_is_space(world: &World, pool: &Path, left_bytes: u64, meanwhile: impl FnOnce()) {
    let refusals = || world.lith(&["logs", FILES.job]).stdout.matches("refused").count();
    let (before, times) = (refusals(), FILES.openings(world) + 1);
    let ballast = fill(pool, left_bytes);
    eventually("a write to be refused", || {
        if refusals() > before { Ok(()) } else { Err(world.lith(&["logs", "-n", "20", FILES.job])) }
    });
    meanwhile();
    std::fs::remove_file(ballast).unwrap();
    // Its file system has seen errors, and may have become read-only.
    FILES.start_now(world);
    let _ = FILES.await_found(world, times);
    let _ = nothing_is_missing(&FILES.said(world));
}
