//! The form of segments: round trips, damage, forgeries.

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::*;

fn header() -> Header {
    Header {
        kind: Kind::Checkpoint,
        volume: VolumeUuid([7; 16]),
        id: CheckpointId { epoch: 2, seq: 9 },
        parent: CheckpointId { epoch: 1, seq: 8 },
        parent_hash: SegmentHash([3; 32]),
        time_ns: 1_764_230_400_000_000_000,
        disk_blocks: 1 << 20,
        marks: Marks { is_at_rest: true, is_recovered: false, is_merged: true, is_part: true },
        stands_for: SegmentHash([5; 32]),
        table_offset: 1 << 30,
        table_bytes: 0,
        table_hash: [0; 32],
    }
}

fn extents() -> impl Strategy<Value = Vec<Extent>> {
    let kinds = prop_oneof![Just(Stored::Zeroes), Just(Stored::Raw), Just(Stored::Zstd)];
    let extent = (0_u64..1000, 1_u32..20, 512_u64..5000, kinds, any::<u32>());
    vec(extent, 0..20).prop_map(|list| {
        let made = list.into_iter().map(|(start, count, offset, stored, checksum)| match stored {
            Stored::Zeroes => Extent { start, count, stored, offset: 0, bytes: 0, checksums: vec![] },
            Stored::Raw | Stored::Zstd => {
                let bytes = count * 4096 - u32::from(stored == Stored::Zstd);
                Extent { start, count, stored, offset, bytes, checksums: vec![checksum; count as usize] }
            }
        });
        made.collect()
    })
}

fn encoded(extents: Vec<Extent>, companions: usize) -> (Header, Vec<u8>, Table) {
    let companions = (0..companions).map(|seq| Companion { volume: VolumeUuid([1; 16]), seq: seq as u64 });
    let table = Table { extents, companions: companions.collect() };
    let mut writer = TableWriter::default();
    table.extents.iter().for_each(|extent| writer.push(extent));
    let (bytes, table_hash) = writer.finish(&table.companions);
    let table_bytes = u32::try_from(bytes.len()).unwrap();
    (Header { table_bytes, table_hash, ..header() }, bytes, table)
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(extents in extents(), companions in 0_usize..3) {
        let (header, bytes, table) = encoded(extents, companions);
        prop_assert_eq!(Table::decode(&header, &bytes).unwrap(), table);
        let (bytes, hash) = header.encode();
        prop_assert_eq!(Header::decode(&bytes).unwrap(), (header, hash));
    }

    #[test]
    fn a_changed_byte_is_found(extents in extents(), position in any::<usize>(), flip in 1_u8..) {
        let (header, mut bytes, _) = encoded(extents, 1);
        let at = position % bytes.len();
        bytes[at] ^= flip;
        prop_assert_eq!(Table::decode(&header, &bytes).unwrap_err(), Damage::Table);
        let (mut bytes, _) = header.encode();
        bytes[position % HEADER_BYTES] ^= flip;
        prop_assert!(Header::decode(&bytes).is_err());
    }

    /// As a forger writes who can compute checksums.
    #[test]
    fn forged_tables_are_bounded(bytes in vec(any::<u8>(), 0..400), count in 0_u32..8) {
        let mut bytes = bytes;
        if bytes.len() >= 8 {
            bytes[..4].copy_from_slice(&count.to_le_bytes());
            bytes[4..8].copy_from_slice(&0_u32.to_le_bytes());
        }
        let header = Header { table_hash: Sha256::digest(&bytes).into(), ..header() };
        if let Ok(table) = Table::decode(&header, &bytes) {
            for extent in table.extents {
                prop_assert!(extent.blocks().end <= header.disk_blocks);
                let _ = unpack(&extent, &bytes);
            }
        }
    }

    #[test]
    fn zeroes_are_known(length in 0_usize..5000, at in any::<usize>(), byte in any::<u8>()) {
        let mut content = vec![0; length];
        prop_assert!(is_zeroes(&content));
        if length > 0 {
            content[at % length] = byte;
            prop_assert_eq!(is_zeroes(&content), byte == 0);
        }
    }
}

#[test]
fn content_is_verified() {
    let content: Vec<u8> = (0..8192_u32).map(|index| (index / 100) as u8).collect();
    let checksums: Vec<u32> = content.chunks(4096).map(crc32c::crc32c).collect();
    let packed = zstd::bulk::compress(&content, 1).unwrap();
    let bytes = u32::try_from(packed.len()).unwrap();
    let extent = Extent { start: 5, count: 2, stored: Stored::Zstd, offset: 512, bytes, checksums };
    assert_eq!(unpack(&extent, &packed).unwrap(), content);
    assert_eq!(unpack(&extent, &packed[1..]).unwrap_err(), Damage::Packed { block: 5 });
    let raw = Extent { stored: Stored::Raw, ..extent.clone() };
    let mut damaged = content.clone();
    damaged[4096] ^= 1;
    assert_eq!(unpack(&raw, &damaged).unwrap_err(), Damage::Block { block: 6 });
    // A frame that claims to be much larger takes no more memory than its extent.
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
    assert_eq!(unpack(&extent, &bomb).unwrap_err(), Damage::Packed { block: 5 });
}
