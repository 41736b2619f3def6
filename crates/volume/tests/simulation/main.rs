//! A volume on a disk that loses power, tears and fails, step by step from a seed, beside a model that knows what every
//! sector may hold. A failing seed prints the command that replays it.
//!
//! How many seeds are tried is in `LITH_SIMULATION_SEEDS`, the first one in `LITH_SIMULATION_FROM`.

#![allow(missing_docs)]

#[cfg(test)]
mod disk;
#[cfg(test)]
mod random;
#[cfg(test)]
mod world;

#[cfg(test)]
mod seeds {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicU64, Ordering};

    use crate::world::World;

    /// Seeds that every run of the tests tries.
    const SEEDS: u64 = 10_000;
    /// Steps of a seed.
    const STEPS: u64 = 60;

    fn number(variable: &str) -> Option<u64> {
        std::env::var(variable).ok()?.parse().ok()
    }

    /// Seeds after which everything that is to be tried must have been.
    const SEEDS_MIN: u64 = 500;

    /// How many parts of checkpoints there were at the end.
    fn run(seed: u64) -> u64 {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        world.finish();
        world.parts()
    }

    #[test]
    fn no_seed_loses_anything() {
        let from = number("LITH_SIMULATION_FROM").unwrap_or(0);
        let until = from + number("LITH_SIMULATION_SEEDS").unwrap_or(SEEDS);
        let next = AtomicU64::new(from);
        let parts = AtomicU64::new(0);
        let failed = std::sync::Mutex::new(None);
        let work = || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= until || failed.lock().unwrap().is_some() {
                    return;
                }
                match catch_unwind(AssertUnwindSafe(|| run(seed))) {
                    Ok(more) => drop(parts.fetch_add(more, Ordering::Relaxed)),
                    Err(_) => drop(failed.lock().unwrap().get_or_insert(seed)),
                }
            }
        };
        std::thread::scope(|scope| {
            let threads = std::thread::available_parallelism().map_or(1, usize::from);
            (0..threads).for_each(|_| drop(scope.spawn(work)));
        });
        if let Some(seed) = *failed.lock().unwrap() {
            panic!(
                "seed {seed} fails; replay it with: LITH_SIMULATION_FROM={seed} LITH_SIMULATION_SEEDS=1 \
                 cargo test -p lith-volume --test simulation"
            );
        }
        assert!(until - from < SEEDS_MIN || parts.into_inner() > 0, "no checkpoint had parts");
    }
}
