//! Databases under write load on volumes, while machines, their supervisors, the processes that serve their disks, and the
//! daemon are killed at random moments: nothing that was committed is missing, and checkpoints hold databases that are whole.

use std::path::{Path, PathBuf};

use lith_testkit::World;

use crate::kills::{Random, Target, kill};
use crate::load::{Load, PAIR, POSTGRES, SQLITE, checkpoints, newest_committed, nothing_is_missing, sampled};

/// Commits that are waited for before the first kill, and at most between two.
const COMMITS: u64 = 20;

/// Kills each target some times, in a random order and at random moments; and what recovers from that once more, before it
/// can have recovered.
fn nothing_is_lost(world: &mut World, load: Load, rounds: usize, seed: u64) {
    world.put(&load.spec());
    let mut random = Random(seed);
    let _ = load.await_commits(world, COMMITS);
    let mut kills = 0;
    let targets: Vec<Target> = (0..rounds).flat_map(|_| random.shuffled()).collect();
    for target in targets {
        let openings = load.openings(world);
        let goes_on = kill(world, load.task, target);
        kills += 1;
        if goes_on.is_none() {
            load.start_now(world);
            load.await_opening(world, openings);
            let again = [Target::Machine, Target::Disks, Target::Shim][kills % 3];
            let _ = kill(world, load.task, again);
            kills += 1;
            load.start_now(world);
        }
        // What was committed before it was killed does not count.
        let known = newest_committed(&load.said(world));
        let number = load.await_commits(world, known + random.below(COMMITS));
        if goes_on.is_some() {
            assert_eq!(world.vmm(load.task), goes_on, "a task does not depend on the daemon");
        }
        println!("killed {target:?}, committed {number}, {kills} kills");
    }
    let openings = nothing_is_missing(&load.said(world));
    // The daemon alone ends no machine.
    assert!(openings > rounds * 4, "it was opened {openings} times only");
}

#[test]
fn sqlite_keeps_what_it_has_committed() {
    let mut world = World::start(&[SQLITE.image]);
    nothing_is_lost(&mut world, SQLITE, 4, 0x9e37_79b9_7f4a_7c15);
    checkpoints_are_whole(&world);
}

#[test]
fn postgres_keeps_what_it_has_committed() {
    let mut world = World::start(&[POSTGRES.image]);
    nothing_is_lost(&mut world, POSTGRES, 2, 0x2545_f491_4f6c_dd1d);
    // Its own catalogs, too.
    let words = ["pg_amcheck", "-U", "postgres", "--parent-check", "--heapallindexed", "postgres"];
    let _ = world.lith(&[&["exec", "postgres", "--"], &words[..]].concat()).ok();
}

/// The database as of some checkpoints, looked at on the host.
fn checkpoints_are_whole(world: &World) {
    let all = checkpoints(world, "sqlite.data");
    let (mut newest, mut seen) = (0, 0);
    for checkpoint in sampled(&all, 12) {
        let seq = checkpoint.seq;
        let folder = world.path(&format!("at-{seq}"));
        let at = ["--checkpoint", &seq.to_string()].map(str::to_owned);
        let mut arguments = vec!["volume".to_owned(), "cp".to_owned(), "sqlite.data:/".to_owned()];
        arguments.push(folder.to_str().unwrap().to_owned());
        arguments.extend(at);
        let copied = world.lith(&arguments);
        if copied.code != 0 {
            // Before its task had started for the first time there was no folder of it.
            assert_eq!(seen, 0, "{copied}");
            continue;
        }
        let Some(database) = find(&folder, "db.sqlite") else { continue };
        let last = open(&database);
        assert!(last >= newest, "checkpoint {seq} has {last}, and one before has {newest}");
        (newest, seen) = (last, seen + 1);
    }
    assert!(seen >= 5, "only {seen} of {} checkpoints had a database", all.len());
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    entries
        .map(|entry| entry.path())
        .find_map(|path| if path.is_dir() { find(&path, name) } else { path.ends_with(name).then_some(path) })
}

/// The newest number of a database that is whole.
fn open(path: &Path) -> u64 {
    let database = rusqlite::Connection::open(path).unwrap();
    let check: String = database.query_row("pragma integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    let query = "select coalesce(max(n), 0), count(*) from t";
    let counted = database.query_row(query, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)));
    // Before the first commit there is no table.
    let (newest, count) = counted.unwrap_or((0, 0));
    assert_eq!(newest, count, "one in the middle is missing");
    u64::try_from(newest).unwrap()
}

#[test]
fn volumes_of_one_instance_are_cut_at_one_instant() {
    let world = World::start(&["python"]);
    world.put(&PAIR.spec());
    let _ = PAIR.await_commits(&world, 300);
    let mut compared = 0;
    for checkpoint in checkpoints(&world, "pair.first") {
        let time_ms = checkpoint.time_ms;
        let at = jiff::Timestamp::from_millisecond(i64::try_from(time_ms).unwrap()).unwrap().to_string();
        let number = |volume: &str| {
            let path = format!("pair.{volume}:/number");
            let answer = world.lith(&["volume", "cat", &path, "--at", &at]);
            (answer.code == 0).then(|| answer.stdout.trim().parse::<u64>().unwrap())
        };
        if let (Some(first), Some(second)) = (number("first"), number("second")) {
            assert!(
                second <= first,
                "at {time_ms} the second write ({second}) is there without the first ({first})"
            );
            assert!(first <= second + 1, "at {time_ms}: {first} and {second} were never together");
            compared += 1;
        }
    }
    assert!(compared >= 3, "only {compared} checkpoints were compared");
}
