//! A fuzzer for where there is none: histories with changed bytes by a fixed seed, some of them forged, as by somebody who can
//! compute checksums. What is read then is what was written, or an error, and never a panic or all memory.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use lith_volume::block::BLOCK_BYTES;
use lith_volume::disk::Disk;
use lith_volume::error::VolumeError;
use lith_volume::history::History;
use lith_volume::names;
use lith_volume::pieces::Pieces;
use lith_volume::segment::{HEADER_BYTES, Header, Kind, Table};
use lith_volume::volume::{Retention, Volume};
use sha2::{Digest, Sha256};

use crate::fixture::{SECOND, UUID, content};
use crate::memory::Memory;

const CASES: u32 = 100_000;
/// One of so many is opened by a writer as well.
const WRITERS: usize = 8;
const BLOCKS: u64 = 4;
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

type Files = BTreeMap<String, Vec<u8>>;

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

/// A volume with all kinds of files, and what its checkpoints hold.
fn good() -> (Files, BTreeMap<u64, Vec<u8>>) {
    let memory = Memory::default();
    let disk = lith_volume::storage::Storage::create(&memory, names::DISK).unwrap();
    lith_volume::storage::StoredFile::resize(&disk, BLOCKS * BLOCK_BYTES).unwrap();
    let volume = Volume::open_or_begin(memory.clone(), UUID, 1).unwrap();
    let mut checkpoints = BTreeMap::new();
    for value in 1..7_u64 {
        for block in (0..BLOCKS).filter(|block| (block + value) % 3 != 0) {
            let bytes = if (block ^ value) % 2 == 0 { vec![7; 4096] } else { content(block, value) };
            volume.write(block * BLOCK_BYTES, &Pieces::of(&bytes)).unwrap();
        }
        let point = volume.cut_at_rest(i64::try_from(value).unwrap() * SECOND).unwrap();
        let mut held = vec![0; (BLOCKS * BLOCK_BYTES) as usize];
        volume.read(0, &Pieces::of_mut(&mut held), lith_volume::disk::Patience::Waits).unwrap();
        checkpoints.insert(point.id.seq, held);
        if value == 2 {
            volume.snapshot("two").unwrap();
        }
        if value == 4 {
            let all = Retention { window_ns: i64::MAX, bytes_max: 0 };
            volume.fold(all, 5 * SECOND, &|_| {}).unwrap();
        }
    }
    (0..2).for_each(|_| volume.unmark().unwrap());
    let files = memory.contents();
    for ending in [".merged", ".log", ".folded", ".base"] {
        assert!(files.keys().any(|name| name.ends_with(ending)), "{ending} in {:?}", files.keys());
    }
    (files, checkpoints)
}

/// Where segments begin in a file.
fn segments(file: &[u8]) -> Vec<usize> {
    let starts = (0..file.len() / HEADER_BYTES).map(|sector| sector * HEADER_BYTES);
    starts.filter(|start| file[*start..].starts_with(b"lithseg\n")).collect()
}

fn scramble(bytes: &mut [u8], random: &mut Random) {
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len());
        match random.below(4) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = u8::try_from(random.below(256)).unwrap(),
            2 => {
                let end = (at + [1, 2, 4, 8][random.below(4)]).min(bytes.len());
                bytes[at..end].fill([0, 0xff][random.below(2)]);
            }
            _ => {
                let from = random.below(bytes.len());
                let count = (1 + random.below(64)).min(bytes.len() - from.max(at));
                bytes.copy_within(from..from + count, at);
            }
        }
    }
}

/// Changes a header or a table, and makes the checksums right again.
fn forge(file: &mut [u8], random: &mut Random) {
    let starts = segments(file);
    let start = starts[random.below(starts.len())];
    let header: &[u8; HEADER_BYTES] = file[start..start + HEADER_BYTES].try_into().unwrap();
    let Ok((header, _)) = Header::decode(header) else { return };
    let table = start + usize::try_from(header.table_offset).unwrap();
    let table = table..table + header.table_bytes as usize;
    if random.below(2) == 0 {
        scramble(&mut file[table.clone()], random);
        let hash: [u8; 32] = Sha256::digest(&file[table]).into();
        file[start + 128..start + 160].copy_from_slice(&hash);
    } else {
        scramble(&mut file[start + 8..start + 192], random);
    }
    let hash: [u8; 32] = Sha256::digest(&file[start..start + HEADER_BYTES - 32]).into();
    file[start + HEADER_BYTES - 32..start + HEADER_BYTES].copy_from_slice(&hash);
}

/// What came of reading all checkpoints: how many could be.
fn read(
    memory: &Memory,
    checkpoints: &BTreeMap<u64, Vec<u8>>,
    is_forged: bool,
) -> Result<usize, VolumeError> {
    let open = || History::open(memory.clone());
    let listed = open()?.checkpoints()?;
    let mut count = 0;
    for checkpoint in listed.iter().take(8) {
        let seq = checkpoint.id.seq;
        open()?.companions(seq)?;
        let view = open()?.view(seq)?;
        let mut found = vec![0; (BLOCKS * BLOCK_BYTES) as usize];
        view.read_at(0, &mut found)?;
        let held = checkpoints.get(&seq);
        assert!(is_forged || held == Some(&found), "checkpoint {seq} holds what it never held");
        count += 1;
    }
    Ok(count)
}

#[test]
fn no_changed_history_makes_it_fall_over() {
    let (good, checkpoints) = good();
    assert_eq!(read(&Memory::of(&good), &checkpoints, false).unwrap(), 4);
    // There is nothing to change in an empty file.
    let names: Vec<&String> = good
        .iter()
        .filter(|(name, file)| *name != names::DISK && !file.is_empty())
        .map(|(name, _)| name)
        .collect();
    let history: Vec<&String> = names.iter().copied().filter(|name| name.contains('/')).collect();
    let mut random = Random(SEED);
    let (mut whole, mut refused) = (0, 0);
    for number in 0..CASES {
        let mut files = good.clone();
        let is_forged = random.below(2) == 0;
        let name =
            if is_forged { history[random.below(history.len())] } else { names[random.below(names.len())] };
        let file = files.get_mut(name).unwrap();
        if is_forged {
            forge(file, &mut random);
        } else {
            scramble(file, &mut random);
            if random.below(20) == 0 {
                file.truncate(random.below(file.len()));
            }
        }
        // What says what the volume is has no checksum: any words may be believed, as long as nothing falls over.
        let is_told = is_forged || !name.contains('/');
        let result = catch_unwind(AssertUnwindSafe(|| {
            if random.below(WRITERS) == 0
                && let Ok(volume) = Volume::open(Memory::of(&files))
            {
                let _ = volume.write(0, &Pieces::of(&[1; 512]));
                let _ = volume.cut_at_rest(9 * SECOND);
            }
            read(&Memory::of(&files), &checkpoints, is_told)
        }));
        match result {
            Ok(Ok(_)) => whole += 1,
            Ok(Err(_)) => refused += 1,
            Err(_) => panic!("case {number} falls over: {name}"),
        }
    }
    // Too gentle or too wild, and it would find nothing.
    assert!(whole > CASES / 10 && refused > CASES / 4, "{whole} are read, {refused} refused");
}

#[test]
fn no_bytes_make_the_decoder_fall_over() {
    let (good, _) = good();
    let file = good.iter().find(|(name, _)| name.ends_with(".log")).unwrap().1;
    let start = segments(file)[0];
    let mut random = Random(SEED);
    let mut decoded = 0;
    for _ in 0..CASES {
        let mut segment = file[start..].to_vec();
        forge(&mut segment, &mut random);
        let header: &[u8; HEADER_BYTES] = segment[..HEADER_BYTES].try_into().unwrap();
        let Ok((header, _)) = Header::decode(header) else { continue };
        assert!(matches!(header.kind, Kind::Checkpoint | Kind::Base));
        let from = usize::try_from(header.table_offset).unwrap_or(usize::MAX);
        let Some(table) = segment.get(from..from.saturating_add(header.table_bytes as usize)) else {
            continue;
        };
        let Ok(table) = Table::decode(&header, table) else { continue };
        for extent in table.extents {
            assert!(extent.blocks().end <= header.disk_blocks, "an extent outside of the disk");
            assert!(
                extent
                    .offset
                    .checked_add(u64::from(extent.bytes))
                    .is_some_and(|end| end <= header.table_offset)
            );
        }
        decoded += 1;
    }
    assert!(decoded > CASES / 20, "{decoded} are decoded");
}
