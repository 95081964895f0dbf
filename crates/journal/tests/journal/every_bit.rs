//! Every bit of a small journal is flipped, one at a time: `verify` finds each, and recovery either refuses or gives
//! every record as it was.

use std::time::Duration;

use tickstream_journal::{
    Config, Damage, Directory, Error, Fault, FileName, Journal, JournalId, Now, Restore, SimulatedDisk, Tail,
    recover, verify,
};

use crate::settle;

const NOW: Now = Now { mono_ns: 1, unix_ns: 1_700_000_000_000_000_000 };
const PRODUCER: [u8; 16] = [0x5A; 16];

fn config() -> Config {
    Config {
        segment_bytes: 4 * 4096,
        group_bytes: 2 * 4096,
        buffers: 2,
        zero_bytes: 4096,
        marker_after: Duration::from_secs(1),
        ..Config::default()
    }
}

fn open(disk: &mut SimulatedDisk) -> Result<(Journal, Vec<Vec<u8>>), Error> {
    let mut payloads = Vec::new();
    let (journal, _) =
        recover(disk, config(), JournalId(*b"every bit of it!"), NOW, Restore::All, |record| {
            assert_eq!((record.producer, record.producer_sequence), (PRODUCER, record.sequence * 3));
            payloads.push(record.payload.to_vec());
        })?;
    Ok((journal, payloads))
}

/// Some segments with groups of one and two blocks; ended in order or, without a marker at its end, killed.
fn journal_on_disk(ended: bool) -> (SimulatedDisk, Vec<Vec<u8>>) {
    let mut disk = SimulatedDisk::new(1);
    let (mut journal, _) = open(&mut disk).unwrap();
    settle(&mut journal, &mut disk, NOW);
    let payloads: Vec<_> = [10, 3000, 0, 5000, 600, 1, 4200, 700].map(|length| vec![0xC3; length]).to_vec();
    for (sequence, payload) in (1..).zip(&payloads) {
        assert_eq!(journal.append(PRODUCER, sequence * 3, 1, payload), Ok(sequence));
        settle(&mut journal, &mut disk, NOW);
        assert_eq!(journal.synced(), sequence);
    }
    if ended {
        journal.end();
        settle(&mut journal, &mut disk, NOW);
        assert!(journal.has_ended());
    }
    (disk, payloads)
}

fn segments(disk: &mut SimulatedDisk) -> Vec<FileName> {
    let mut files = disk.list().unwrap();
    files.retain(|file| matches!(file, FileName::Segment(_)));
    files.sort_unstable();
    files
}

#[test]
fn every_flipped_bit_is_found_and_none_costs_a_record() {
    flip_every_bit(true);
}

#[test]
fn so_is_every_bit_of_a_journal_that_was_killed_behind_a_group() {
    flip_every_bit(false);
}

fn flip_every_bit(ended: bool) {
    let (mut disk, payloads) = journal_on_disk(ended);
    let clean = verify(&mut disk).unwrap();
    assert!(clean.is_clean(), "{clean:?}");
    assert_eq!((clean.records, clean.last_sequence, clean.markers), (8, 8, u64::from(ended)));
    let files = segments(&mut disk);
    assert!(files.len() >= 3, "{files:?}");
    for file in files.into_iter().chain([FileName::Synced]) {
        for bit in 0..disk.bytes(file).unwrap().len() * 8 {
            disk.flip_bit(file, bit);
            match verify(&mut disk) {
                Ok(report) => assert!(!report.is_clean(), "bit {bit} of {file}"),
                Err(Error::Version { .. }) => {}
                Err(error) => panic!("bit {bit} of {file}: {error}"),
            }
            // Recovery only writes where it changes nothing, or cuts what never was a record: this one is a copy.
            if bit % 7 == 0 {
                match open(&mut disk.clone()) {
                    Ok((_, given)) => assert_eq!(given, payloads, "bit {bit} of {file}"),
                    Err(Error::Damage(damage)) => {
                        assert!(damage.to_string().contains("out of the directory"));
                    }
                    Err(error) => panic!("bit {bit} of {file}: {error}"),
                }
            }
            disk.flip_bit(file, bit);
        }
    }
    assert_eq!(verify(&mut disk).unwrap(), clean);
}

#[test]
fn damage_in_the_last_group_is_told_from_a_torn_one() {
    let (mut whole, payloads) = journal_on_disk(true);
    let last = *segments(&mut whole).last().unwrap();
    // The marker behind the last record, and any group without one: of these nothing says later that they were synced.
    let report = verify(&mut whole).unwrap();
    assert!(report.markers > 0);
    let bytes = whole.bytes(last).unwrap();
    let marker = (0..bytes.len()).step_by(4096).rfind(|&at| bytes[at..].starts_with(b"TSJF")).unwrap();
    let check = |flip: Option<usize>, blank: Option<usize>, records: Option<usize>| {
        let mut disk = whole.clone();
        flip.into_iter().for_each(|byte| disk.flip_bit(last, byte * 8));
        if let Some(at) = blank {
            disk.write_at(last, at as u64, &[0; 512]).unwrap();
        }
        match open(&mut disk) {
            Ok((_, given)) => assert_eq!(Some(given.len()), records, "{flip:?} {blank:?}"),
            Err(error) => assert_eq!(records, None, "{flip:?} {blank:?}: {error}"),
        }
    };
    // A bit of the marker: no power cut changes a bit of a sector.
    check(Some(marker + 30), None, None);
    // The marker's sector isn't there: it was never written.
    check(None, Some(marker), Some(payloads.len()));
    // The group before the marker isn't there: the marker says that it was.
    check(None, Some(marker - 4096), None);
    // Neither is there: both were written by nobody, as far as segments show. The file "synced" says that the record was:
    // the segment that begins with it is damaged.
    let mut disk = whole.clone();
    disk.write_at(last, marker as u64 - 4096, &[0; 8192]).unwrap();
    let report = verify(&mut disk).unwrap();
    assert!(matches!(report.damage, Some(Damage { what: Fault::Lost, .. })), "{report:?}");
    assert!(matches!(open(&mut disk), Err(Error::Damage(Damage { what: Fault::Lost, .. }))));
    // Without that file it is the one loss that can't be seen.
    disk.remove(FileName::Synced).unwrap();
    assert!(open(&mut disk).is_ok());
}

#[test]
fn a_missing_or_shortened_segment_is_damage() {
    let (mut whole, payloads) = journal_on_disk(true);
    let files = segments(&mut whole);
    for (index, &file) in files.iter().enumerate() {
        let mut disk = whole.clone();
        disk.remove(file).unwrap();
        let report = verify(&mut disk).unwrap();
        match open(&mut disk) {
            // The oldest may always go, as retention takes it.
            Ok((_, given)) if index == 0 => assert!(given.len() < payloads.len() && report.is_clean()),
            // So may the last: what is left is a whole journal, and the way out of damage.
            Ok((_, given)) if index == files.len() - 1 => {
                assert_eq!(given, payloads[..given.len()]);
                assert_eq!(report.tail, Tail::Clean);
            }
            Ok(_) => panic!("{file} is missing"),
            Err(error) => {
                assert!(report.damage.is_some());
                assert!(error.to_string().contains("is missing"), "{error}");
            }
        }
    }
}
