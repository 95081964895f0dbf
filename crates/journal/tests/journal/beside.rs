//! Reading and checking a journal whose writer goes on meanwhile.

use std::io;

use tickstream_journal::{
    Directory, FileName, Journal, JournalId, Now, Reader, Restore, SimulatedDisk, recover, verify,
};

use crate::{config, settle};

fn open(disk: &mut SimulatedDisk) -> (Journal, Vec<u64>) {
    let mut sequences = Vec::new();
    let opened = recover(disk, config(), JournalId([2; 16]), Now::default(), Restore::All, |record| {
        sequences.push(record.sequence);
    });
    (opened.unwrap().0, sequences)
}

/// A journal of `records` records, each in a group of its own, five in a segment.
fn journal_of(records: u64, disk: &mut SimulatedDisk) -> Journal {
    let (mut journal, _) = open(disk);
    settle(&mut journal, disk, Now::default());
    for _ in 0..records {
        journal.append([1; 16], 0, 1, &[0xE7; 100]).unwrap();
        settle(&mut journal, disk, Now::default());
    }
    journal
}

/// A directory from which retention takes segments while the oldest, which is open, is read.
struct Shrinking {
    before: SimulatedDisk,
    after: SimulatedDisk,
    open: FileName,
    lists: u32,
}

impl Shrinking {
    fn holding(&mut self, file: FileName) -> &mut SimulatedDisk {
        if file == self.open { &mut self.before } else { &mut self.after }
    }
}

impl Directory for Shrinking {
    fn list(&mut self) -> io::Result<Vec<FileName>> {
        self.lists += 1;
        if self.lists == 1 { self.before.list() } else { self.after.list() }
    }

    fn length(&mut self, file: FileName) -> io::Result<u64> {
        self.holding(file).length(file)
    }

    fn read_at(&mut self, file: FileName, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        self.holding(file).read_at(file, offset, out)
    }

    fn write_at(&mut self, _: FileName, _: u64, _: &[u8]) -> io::Result<()> {
        unreachable!("it is only read")
    }

    fn sync(&mut self, _: FileName) -> io::Result<()> {
        unreachable!("it is only read")
    }

    fn release(&mut self, _: FileName, _: u64) -> io::Result<()> {
        unreachable!("it is only read")
    }

    fn remove(&mut self, _: FileName) -> io::Result<()> {
        unreachable!("it is only read")
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        unreachable!("it is only read")
    }
}

#[test]
fn segments_that_retention_takes_while_it_verifies_are_no_error() {
    let mut before = SimulatedDisk::new(1);
    journal_of(20, &mut before);
    let segments: Vec<FileName> = {
        let mut names = before.list().unwrap();
        names.retain(|name| matches!(name, FileName::Segment(_)));
        names.sort_unstable();
        names
    };
    assert_eq!(segments.len(), 4);
    let without = |gone: &[FileName]| {
        let mut after = before.clone();
        gone.iter().for_each(|file| after.remove(*file).unwrap());
        Shrinking { before: before.clone(), after, open: segments[0], lists: 0 }
    };
    let report = verify(&mut without(&segments[..2])).unwrap();
    assert_eq!((report.segments, report.damage, report.last_sequence), (3, None, 20));
    // Retention doesn't take one from the middle.
    assert!(verify(&mut without(&segments[1..2])).is_err());
}

#[test]
fn what_a_reader_has_synced_outlives_a_power_cut_whoever_wrote_it() {
    for seed in 0..50 {
        // The second record is written, as a writer that was killed leaves it, and not synced.
        let mut disk = SimulatedDisk::new(seed);
        journal_of(1, &mut disk);
        let file = FileName::Segment(1);
        let mut later = disk.clone();
        let (mut journal, _) = open(&mut later);
        settle(&mut journal, &mut later, Now::default());
        journal.append([1; 16], 0, 1, &[0xE7; 100]).unwrap();
        settle(&mut journal, &mut later, Now::default());
        let group = later.bytes(file).unwrap()[2 * 4096..3 * 4096].to_vec();
        disk.write_at(file, 2 * 4096, &group).unwrap();

        let mut reader = Reader::of_written(&mut disk, 1);
        while reader.next_record().unwrap().is_some() {}
        assert_eq!(reader.position(), 3);
        reader.sync().unwrap();
        disk.cut_power();
        assert_eq!(open(&mut disk).1, [1, 2], "seed {seed}");
    }
}
