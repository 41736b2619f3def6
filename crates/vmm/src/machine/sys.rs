//! Reads the processor's time stamp counter and its announced frequency. Owns nothing but these instructions.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

/// Long enough that the microsecond by which a look may be wrong is 10 parts in a million.
#[cfg(target_arch = "x86_64")]
const MEASURE: Duration = Duration::from_millis(200);
/// Of so many looks at both clocks one is not torn apart by the scheduler, also on a busy machine.
#[cfg(target_arch = "x86_64")]
const LOOKS: usize = 16;

/// Frequency of the time stamp counter in kHz, or nothing where the processor has none. Takes 0.2 s where the
/// processor does not say it.
#[cfg(target_arch = "x86_64")]
pub(super) fn tsc_khz() -> Option<u64> {
    use std::arch::x86_64::__cpuid;
    /// Leaf with the ratio of counter and crystal, and the crystal's frequency (Intel SDM, CPUID).
    const LEAF_TSC: u32 = 0x15;
    let announced = (__cpuid(0).eax >= LEAF_TSC).then(|| __cpuid(LEAF_TSC)).and_then(|leaf| {
        let ticks = u64::from(leaf.ecx).checked_mul(u64::from(leaf.ebx))?;
        ticks.checked_div(u64::from(leaf.eax)).filter(|hertz| *hertz > 0)
    });
    if let Some(hertz) = announced {
        return Some(hertz / 1000);
    }
    let (start, first) = look();
    std::thread::sleep(MEASURE);
    let (end, last) = look();
    let nanoseconds = u64::try_from((end - start).as_nanos()).ok()?;
    let ticks = last.checked_sub(first)?;
    u64::try_from(u128::from(ticks) * 1_000_000 / u128::from(nanoseconds)).ok().filter(|khz| *khz > 0)
}

/// The time and the counter at the same moment: of several looks the one that took the fewest ticks.
#[cfg(target_arch = "x86_64")]
fn look() -> (Instant, u64) {
    let counter = || {
        // SAFETY: every x86-64 processor has this instruction, and Linux leaves it to user space.
        unsafe { std::arch::x86_64::_rdtsc() }
    };
    let looks = (0..LOOKS).map(|_| {
        let before = counter();
        let time = Instant::now();
        let ticks = counter().saturating_sub(before);
        (ticks, time, before + ticks / 2)
    });
    let (_, time, count) = looks.min_by_key(|(ticks, ..)| *ticks).expect("there are looks");
    (time, count)
}

/// Other processors have a counter of known frequency that guests read by themselves.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn tsc_khz() -> Option<u64> {
    None
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    #[test]
    fn the_counter_runs_at_a_plausible_and_steady_rate() {
        let (first, second) = (super::tsc_khz().unwrap(), super::tsc_khz().unwrap());
        assert!((500_000..10_000_000).contains(&first), "{first} kHz");
        assert!(first.abs_diff(second) < first / 1000, "{first} and {second} kHz");
    }
}
