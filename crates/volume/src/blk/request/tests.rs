//! What the reader of chains promises: tables of good and bad chains, and properties on any.

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};

use super::{
    Descriptor, Direction, GuestBytes, Limits, Parsed, Refusal, Request, Segment, Table, ZeroRange, parse,
    walk,
};
use crate::blk::fuzz_descriptors;

const LIMITS: Limits = Limits { disk_bytes: 1 << 20, is_read_only: false };
const OUTSIDE: u64 = 1 << 40;

/// What the guest has in memory: headers are put at 0, data anywhere.
struct Memory(Vec<u8>);

impl GuestBytes for Memory {
    fn read(&self, address: u64, into: &mut [u8]) -> Option<()> {
        let start = usize::try_from(address).ok()?;
        into.copy_from_slice(self.0.get(start..start.checked_add(into.len())?)?);
        Some(())
    }
}

fn header(kind: u32, sector: u64) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat()
}

fn zero_range(sector: u64, sectors: u32, flags: u32) -> Vec<u8> {
    [&sector.to_le_bytes()[..], &sectors.to_le_bytes(), &flags.to_le_bytes()].concat()
}

fn said(address: u64, bytes: u32) -> Descriptor {
    Descriptor { segment: Segment { address, bytes }, direction: Direction::FromGuest }
}

fn answer(address: u64, bytes: u32) -> Descriptor {
    Descriptor { segment: Segment { address, bytes }, direction: Direction::ToGuest }
}

fn check(memory: Vec<u8>, chain: &[Descriptor], expect: Result<Request, Refusal>) {
    let parsed = parse(chain, &Memory(memory), LIMITS).unwrap();
    assert_eq!(parsed.request, expect);
}

#[test]
fn a_header_and_a_status_may_be_in_pieces_or_with_the_data() {
    let data = Segment { address: 0x1000, bytes: 512 };
    let read = Ok(Request::Read { offset: 1024, into: vec![data] });
    let memory = || header(0, 2);
    check(memory(), &[said(0, 16), answer(0x1000, 512), answer(0x2000, 1)], read.clone());
    check(memory(), &[said(0, 7), said(7, 9), answer(0x1000, 513)], read.clone());
    check(memory(), &[said(0, 16), answer(0x1000, 512), answer(0, 0), answer(0x2000, 1)], read);
    let memory = [header(1, 0), vec![0; 512]].concat();
    let from = vec![Segment { address: 16, bytes: 512 }];
    check(memory, &[said(0, 528), answer(0x2000, 1)], Ok(Request::Write { range: 0..512, from }));
}

#[test]
fn the_answer_goes_to_the_last_byte() {
    let chain = [said(0, 16), answer(0x1000, 500), answer(0x3000, 13)];
    let parsed = parse(&chain, &Memory(header(0, 0)), LIMITS).unwrap();
    let into = vec![Segment { address: 0x1000, bytes: 500 }, Segment { address: 0x3000, bytes: 12 }];
    let request = Ok(Request::Read { offset: 0, into });
    assert_eq!(parsed, Parsed { request, status: 0x300c, answer_bytes: 512 });
}

#[test]
fn what_breaks_a_rule_is_refused() {
    let invalid = || Err(Refusal::Invalid);
    let last = 1 << 11;
    // Beyond the end, an overflow, parts of sectors, nothing, too much, in the wrong direction.
    check(header(0, last), &[said(0, 16), answer(0, 513)], invalid());
    check(header(0, u64::MAX), &[said(0, 16), answer(0, 513)], invalid());
    check(header(0, 0), &[said(0, 16), answer(0, 512)], invalid());
    check(header(0, 0), &[said(0, 16), answer(0, 1)], invalid());
    check(header(0, 0), &[said(0, 16), answer(0, u32::MAX), answer(0, u32::MAX)], invalid());
    check(header(0, 0), &[said(0, 16), answer(0, 512), said(0, 1), answer(0, 1)], invalid());
    check(header(0, 0), &[said(0, 16), said(0, 512), answer(0, 1)], invalid());
    check(header(1, 0), &[said(0, 16), answer(0, 513)], invalid());
    check(header(1, 0), &[said(0, 16), said(0, 512), answer(0, 513)], invalid());
    // No whole header, or none in memory.
    check(header(0, 0), &[said(0, 15), answer(0, 513)], invalid());
    check(header(0, 0), &[said(OUTSIDE, 16), answer(0, 513)], invalid());
    check(header(0, 0), &[said(u64::MAX - 4, 16), answer(0, 513)], invalid());
    check(header(0, 0), &[answer(0, 513)], invalid());
    // Too many pieces.
    let many: Vec<_> = (0..200).map(|_| answer(0, 512)).collect();
    check(header(0, 0), &[&[said(0, 16)][..], &many, &[answer(0, 1)]].concat(), invalid());
    check(header(99, 0), &[said(0, 16), answer(0, 1)], Err(Refusal::Unsupported));
}

#[test]
fn without_a_status_byte_there_is_no_answer() {
    for chain in [&[][..], &[said(0, 16)], &[said(0, 16), answer(7, 0)], &[answer(u64::MAX, 2)]] {
        assert_eq!(parse(chain, &Memory(header(0, 0)), LIMITS), None);
    }
}

#[test]
fn ranges_are_checked_one_by_one() {
    let parts = |kind, ranges: &[Vec<u8>]| [header(kind, 0), ranges.concat()].concat();
    let chain = |count: u32| [said(0, 16 + 16 * count), answer(0, 1)];
    let (discard, zeroes) = (11, 13);
    let ranges = vec![0..1024, 4096..8192];
    let memory = parts(discard, &[zero_range(0, 2, 0), zero_range(5, 0, 0), zero_range(8, 8, 0)]);
    check(memory, &chain(3), Ok(Request::Discard { ranges }));
    let ranges = vec![ZeroRange { range: 0..512, may_unmap: true }];
    check(parts(zeroes, &[zero_range(0, 1, 1)]), &chain(1), Ok(Request::WriteZeroes { ranges }));
    check(parts(discard, &[zero_range(0, 1, 1)]), &chain(1), Err(Refusal::Unsupported));
    check(parts(zeroes, &[zero_range(0, 1, 2)]), &chain(1), Err(Refusal::Unsupported));
    check(parts(zeroes, &[zero_range(2047, 2, 0)]), &chain(1), Err(Refusal::Invalid));
    check(parts(zeroes, &[zero_range(u64::MAX, 2, 0)]), &chain(1), Err(Refusal::Invalid));
    check(parts(zeroes, &[zero_range(0, u32::MAX, 0)]), &chain(1), Err(Refusal::Invalid));
    check(parts(zeroes, &vec![zero_range(0, 1, 0); 17]), &chain(17), Err(Refusal::Invalid));
    check(parts(zeroes, &[]), &chain(0), Err(Refusal::Invalid));
    check(parts(zeroes, &[zero_range(0, 1, 0)]), &[said(0, 31), answer(0, 1)], Err(Refusal::Invalid));
}

#[test]
fn nothing_is_changed_where_only_reading_is_allowed() {
    let limits = Limits { is_read_only: true, ..LIMITS };
    for kind in [1, 11, 13] {
        let memory = Memory([header(kind, 0), zero_range(0, 1, 0), vec![0; 496]].concat());
        let parsed = parse(&[said(0, 528), answer(0, 1)], &memory, limits).unwrap();
        assert_eq!(parsed.request, Err(Refusal::Invalid));
    }
}

/// An entry of a table as it is in memory.
fn entry(address: u64, bytes: u32, flags: u16, next: u16) -> Vec<u8> {
    [&address.to_le_bytes()[..], &bytes.to_le_bytes(), &flags.to_le_bytes(), &next.to_le_bytes()].concat()
}

fn check_walk(entries: &[Vec<u8>], head: u16, expect: Option<&[Descriptor]>) {
    let mut chain = vec![said(9, 9)];
    let table = Table { address: 0, entries: 4 };
    let walked = walk(&Memory(entries.concat()), table, head, &mut chain);
    assert_eq!(walked.map(|()| &chain[..]), expect);
}

#[test]
fn a_chain_is_followed_and_a_broken_one_ends() {
    let (next, write, indirect) = (1, 2, 4);
    let end = entry(7, 8, write, 0);
    check_walk(&[entry(5, 6, next, 2), vec![0; 16], end.clone()], 0, Some(&[said(5, 6), answer(7, 8)]));
    check_walk(
        &[entry(16, 32, indirect, 0), entry(5, 6, next, 1), end],
        0,
        Some(&[said(5, 6), answer(7, 8)]),
    );
    // Outside of the table, of memory, a loop, a table in a table, a table that goes on, one of no length or a broken one.
    check_walk(&[entry(5, 6, next, 4)], 0, None);
    check_walk(&[], 4, None);
    check_walk(&[], 1, None);
    check_walk(&[entry(5, 6, next, 1), entry(5, 6, next, 0)], 0, None);
    check_walk(&[entry(16, 16, indirect, 0), entry(16, 16, indirect, 0)], 0, None);
    check_walk(&[entry(16, 16, indirect | next, 1), entry(5, 6, 0, 0)], 0, None);
    check_walk(&[entry(0, 0, indirect, 0)], 0, None);
    check_walk(&[entry(16, 17, indirect, 0), entry(5, 6, 0, 0)], 0, None);
    check_walk(&[entry(u64::MAX, 32, indirect, 0)], 0, None);
    check_walk(&[entry(16, u32::MAX - 15, indirect, 0)], 0, None);
}

fn pieces(bytes: u32) -> impl Strategy<Value = Vec<u32>> {
    vec(1..=bytes, 0..6).prop_map(move |mut cuts| {
        cuts.push(bytes);
        cuts.sort_unstable();
        cuts.dedup();
        cuts.iter().scan(0, |done, cut| Some(cut - std::mem::replace(done, *cut))).collect()
    })
}

fn lay(mut address: u64, pieces: &[u32], make: fn(u64, u32) -> Descriptor) -> Vec<Descriptor> {
    let place = |bytes: &u32| {
        let descriptor = make(address, *bytes);
        address += u64::from(*bytes);
        descriptor
    };
    pieces.iter().map(place).collect()
}

proptest! {
    #[test]
    fn a_request_is_read_back_however_it_is_cut(
        sector in 0_u64..2040,
        is_write in any::<bool>(),
        (sectors, said_cut, answer_cut) in (1_u32..8).prop_flat_map(|sectors| {
            (Just(sectors), pieces(16 + sectors * 512), pieces(sectors * 512 + 1))
        }),
        header_cut in pieces(16),
    ) {
        let bytes = sectors * 512;
        let (kind, said_cut, answer_cut) =
            if is_write { (1, said_cut, vec![1]) } else { (0, header_cut, answer_cut) };
        let memory = Memory([header(kind, sector), vec![0; 4096]].concat());
        let chain = [lay(0, &said_cut, said), lay(0x10_0000, &answer_cut, answer)].concat();
        let parsed = parse(&chain, &memory, LIMITS).unwrap();
        let count = |segments: &[Segment]| segments.iter().map(|segment| segment.bytes).sum::<u32>();
        match parsed.request {
            Ok(Request::Read { offset, into }) if !is_write => {
                prop_assert_eq!((offset, count(&into)), (sector * 512, bytes));
                prop_assert_eq!(parsed.status, 0x10_0000 + u64::from(bytes));
            }
            Ok(Request::Write { range, from }) if is_write => {
                prop_assert_eq!(range, sector * 512..sector * 512 + u64::from(bytes));
                prop_assert_eq!((count(&from), from[0].address), (bytes, 16));
            }
            other => panic!("not what was asked for: {other:?}"),
        }
    }

    #[test]
    fn no_chain_makes_it_fall_over(
        memory in vec(any::<u8>(), 0..600),
        chain in vec((
            prop_oneof![0_u64..700, any::<u64>()],
            prop_oneof![0_u32..1100, any::<u32>()],
            any::<bool>(),
        ), 0..20),
        kind in 0_u32..16,
    ) {
        let memory = Memory([kind.to_le_bytes().to_vec(), memory].concat());
        let make = |(address, bytes, is_answer)| if is_answer { answer(address, bytes) } else { said(address, bytes) };
        let chain: Vec<_> = chain.into_iter().map(make).collect();
        let _ = parse(&chain, &memory, LIMITS);
    }

    #[test]
    fn no_bytes_make_it_fall_over(input in vec(any::<u8>(), 0..2000)) {
        let _ = fuzz_descriptors(&input);
    }
}
