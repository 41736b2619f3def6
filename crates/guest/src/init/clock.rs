//! Clock and random pool: what a machine without a battery and without noise gets from its host.

use lith_guest::messages::{BootStep, SEED_BYTES_MIN, Seed, UnixTime};
use rustix::time::{ClockId, Timespec, clock_settime};

use crate::failure::{During, Failure};
use crate::sys;

/// Sets the clock.
pub(crate) fn set(time: UnixTime) -> Result<(), Failure> {
    let time = Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() };
    clock_settime(ClockId::Realtime, time).during(BootStep::Clock, "set the clock")
}

/// Adds `seed` to the random pool and counts every bit of it as random: the host took it from its own pool.
pub(crate) fn seed(seed: &Seed) -> Result<(), Failure> {
    if seed.0.len() < SEED_BYTES_MIN {
        return Err(Failure::new(BootStep::Clock, "the host sent too little entropy"));
    }
    let random = std::fs::File::options().write(true).open("/dev/random");
    let random = random.during(BootStep::Clock, "open /dev/random")?;
    sys::add_entropy(&random, &seed.0).during(BootStep::Clock, "seed the random pool")
}
