//! Descriptors of a guest: `cargo fuzz run blk_descriptors`. Without that tool and its toolchain, in `fuzz/`:
//!
//! ```text
//! RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
//!     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
//!     -Cllvm-args=-sanitizer-coverage-trace-compares" \
//!     cargo run --release --target x86_64-unknown-linux-gnu -- -max_len=1024
//! ```
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = lith_volume::blk::fuzz_descriptors(input);
});
