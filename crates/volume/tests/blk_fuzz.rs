//! A fuzzer for where there is none: mutations of good chains by a fixed seed, through the same door as the target in
//! `fuzz/`. What fails is printed, so that it can be made a test of its own.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use lith_volume::blk::fuzz_descriptors;

const CASES: u32 = 1_000_000;
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// An xorshift generator: the same numbers everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % bound
    }
}

fn entry(address: u64, bytes: u32, flags: u16, next: u16) -> Vec<u8> {
    [&address.to_le_bytes()[..], &bytes.to_le_bytes(), &flags.to_le_bytes(), &next.to_le_bytes()].concat()
}

/// A ring of eight entries, an indirect table behind it, then header and payload.
fn good(kind: u32, is_indirect: bool) -> Vec<u8> {
    let parameters = [&[0, 3, 0, 0][..], &4096_u32.to_le_bytes()].concat();
    let payload = match kind {
        0 | 8 => entry(0x1000, 1024, NEXT | WRITE, 2),
        1 => entry(0x1000, 1024, NEXT, 2),
        11 | 13 => entry(272, 32, NEXT, 2),
        _ => entry(0, 0, NEXT, 2),
    };
    let chain = [entry(256, 16, NEXT, 1), payload, entry(0x2000, 1, WRITE, 0)].concat();
    let mut table = if is_indirect { [entry(128, 48, INDIRECT, 0), vec![0; 112]].concat() } else { vec![] };
    table.extend(chain);
    table.resize(256, 0);
    let header = [&kind.to_le_bytes()[..], &[0; 4], &7_u64.to_le_bytes()].concat();
    let ranges = [9_u64, 8, 100, 8 | 1 << 32].map(u64::to_le_bytes).concat();
    [parameters, table, header, ranges].concat()
}

fn mutate(case: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(case.len());
        match random.below(6) {
            0 => case[at] ^= 1 << random.below(8),
            1 => case[at] = u8::try_from(random.below(256)).unwrap(),
            2 => {
                let end = (at + [1, 2, 4, 8][random.below(4)]).min(case.len());
                case[at..end].fill([0, 0xff][random.below(2)]);
            }
            3 => {
                let (entry, other) = (random.below(16), random.below(16));
                case.copy_within(8 + entry * 16..24 + entry * 16, 8 + other * 16);
            }
            4 => case[8 + random.below(16) * 16 + 12] ^= [1, 2, 4, 7][random.below(4)],
            _ => case[8 + random.below(16) * 16 + 14] = u8::try_from(random.below(10)).unwrap(),
        }
    }
    if random.below(20) == 0 {
        let keep = random.below(case.len());
        case.truncate(keep);
    }
}

#[test]
fn no_mutation_of_a_good_chain_makes_it_fall_over() {
    let kinds = [0, 1, 4, 8, 11, 13, 14];
    let bases: Vec<_> =
        kinds.iter().flat_map(|kind| [false, true].map(|is_indirect| good(*kind, is_indirect))).collect();
    // Discards and zeroes of the second range are refused for its flag, and 14 is no request.
    assert_eq!(bases.iter().filter(|base| fuzz_descriptors(base)).count(), 10, "good chains are read");
    let mut random = Random(SEED);
    let mut requests = 0;
    for number in 0..CASES {
        let mut case = bases[random.below(bases.len())].clone();
        mutate(&mut case, &mut random);
        match std::panic::catch_unwind(|| fuzz_descriptors(&case)) {
            Ok(is_request) => requests += u32::from(is_request),
            Err(_) => panic!("case {number} falls over: {case:?}"),
        }
    }
    // Too gentle or too wild, and it would find nothing.
    assert!((CASES / 10..CASES / 2).contains(&requests), "{requests} requests");
}
