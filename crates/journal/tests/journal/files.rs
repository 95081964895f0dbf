//! A journal in a real directory: written, followed, checked, and written on by the next process.

use std::fs;
use std::path::Path;

use tickstream_journal::{
    Config, Directory, Error, FileDirectory, FileName, FileStorage, Journal, JournalId, Now, Reader, Restore,
    Tail, recover, verify,
};

const NOW: Now = Now { mono_ns: 1, unix_ns: 1_700_000_000_000_000_000 };

fn config() -> Config {
    Config { segment_bytes: 16 * 4096, group_bytes: 4 * 4096, zero_bytes: 4 * 4096, ..Config::default() }
}

struct Process {
    directory: FileDirectory,
    storage: FileStorage,
    journal: Journal,
    given: Vec<u64>,
}

impl Process {
    fn start(path: &Path) -> Self {
        let mut directory = FileDirectory::open_exclusive(path).unwrap();
        let mut given = Vec::new();
        let (journal, _) =
            recover(&mut directory, config(), JournalId([9; 16]), NOW, Restore::All, |record| {
                given.push(record.sequence);
            })
            .unwrap();
        let storage = FileStorage::new(&directory);
        let mut process = Self { directory, storage, journal, given };
        process.settle();
        process
    }

    fn append(&mut self, payload: &[u8]) -> u64 {
        loop {
            if let Ok(sequence) = self.journal.append([3; 16], 1, 1, payload) {
                return sequence;
            }
            self.settle();
        }
    }

    fn settle(&mut self) {
        loop {
            self.journal.drive(NOW, &mut self.storage).unwrap();
            let Some(completion) = self.storage.next_completion() else { return };
            self.journal.completed(NOW, completion).unwrap();
        }
    }
}

#[test]
fn a_reader_follows_while_records_are_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/b");
    let mut process = Process::start(&path);
    let mut reader = Reader::new(FileDirectory::open(&path), 1);
    assert!(reader.next_record().unwrap().is_none());
    for number in 1..=200_u64 {
        process.append(&number.to_le_bytes().repeat(number as usize * 8));
        if number % 7 == 0 {
            process.settle();
        }
        if number % 3 == 0 {
            while let Some(record) = reader.next_record().unwrap() {
                let expected = record.sequence.to_le_bytes().repeat(record.sequence as usize * 8);
                assert_eq!(record.payload, expected);
            }
            assert_eq!(reader.position() - 1, process.journal.synced());
        }
    }
    process.settle();
    assert!(fs::read_dir(&path).unwrap().count() > 5);
    let mut from = Reader::new(FileDirectory::open(&path), 150);
    for sequence in 150..=200 {
        assert_eq!(from.next_record().unwrap().unwrap().sequence, sequence);
    }
    assert!(from.next_record().unwrap().is_none());
    let mut end = Reader::new(FileDirectory::open(&path), 1);
    end.skip_to_end().unwrap();
    assert_eq!(end.position(), 201);
    assert!(end.next_record().unwrap().is_none());
    process.append(b"new");
    process.settle();
    assert_eq!(end.next_record().unwrap().unwrap().payload, b"new");
}

#[test]
fn a_reader_that_retention_overtakes_goes_on_at_the_oldest_record() {
    let directory = tempfile::tempdir().unwrap();
    let mut process = Process::start(directory.path());
    for _ in 0..100 {
        process.append(&[7; 3000]);
        process.settle();
    }
    let mut reader = Reader::new(FileDirectory::open(directory.path()), 1);
    assert_eq!(reader.next_record().unwrap().unwrap().sequence, 1);
    let segments = FileDirectory::open(directory.path()).list().unwrap();
    let mut segments: Vec<_> =
        segments.into_iter().filter(|file| matches!(file, FileName::Segment(_))).collect();
    segments.sort_unstable();
    // What is in memory of the first is still given.
    for file in &segments[..3] {
        fs::remove_file(directory.path().join(file.to_string())).unwrap();
    }
    let mut last = 1;
    let mut gaps = 0;
    for _ in 0..200 {
        if let Some(record) = reader.next_record().unwrap() {
            gaps += u32::from(record.sequence != last + 1);
            last = record.sequence;
        }
    }
    assert_eq!((gaps, last), (1, 100));
    // A hole that retention doesn't make.
    let mut reader = Reader::new(FileDirectory::open(directory.path()), 1);
    fs::remove_file(directory.path().join(segments[4].to_string())).unwrap();
    let error = loop {
        if let Err(error) = reader.next_record() {
            break error;
        }
    };
    assert!(error.to_string().contains("is missing"), "{error}");
}

#[test]
fn the_next_process_goes_on_where_the_last_one_ended() {
    let directory = tempfile::tempdir().unwrap();
    for life in 0..6 {
        let mut process = Process::start(directory.path());
        assert!(process.given.iter().copied().eq(1..=life * 10));
        for number in 1..=10 {
            assert_eq!(process.append(&[7; 3000]), life * 10 + number);
        }
        process.settle();
        assert_eq!(process.journal.synced(), life * 10 + 10);
    }
    let report = verify(&mut FileDirectory::open(directory.path())).unwrap();
    assert!(report.is_clean());
    assert_eq!((report.records, report.first_sequence, report.last_sequence), (60, 1, 60));
}

#[test]
fn two_processes_do_not_write_one_journal() {
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start(directory.path());
    assert!(matches!(FileDirectory::open_exclusive(directory.path()), Err(Error::Locked)));
    assert_eq!(process.directory.path(), directory.path());
    drop(process);
    assert!(FileDirectory::open_exclusive(directory.path()).is_ok());
}

#[test]
fn a_torn_group_is_cut_and_what_is_damaged_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let mut process = Process::start(directory.path());
    let synced = directory.path().join("synced");
    let mut synced_first = Vec::new();
    for _ in 0..2 {
        synced_first = fs::read(&synced).unwrap();
        process.append(&[7; 3000]);
        process.settle();
    }
    drop(process);
    // The second record was never synced, as far as that file says.
    fs::write(&synced, synced_first).unwrap();
    let file = directory.path().join("00000000000000000001.journal");
    let whole = fs::read(&file).unwrap();
    // Each record is a group of one block, the first behind the header's.
    let mut torn = whole.clone();
    torn[2 * 4096 + 1024..2 * 4096 + 1536].fill(0);
    fs::write(&file, &torn).unwrap();
    let report = verify(&mut FileDirectory::open(directory.path())).unwrap();
    assert_eq!((report.records, report.damage.is_none()), (1, true));
    assert!(matches!(report.tail, Tail::Torn { offset: 8192, .. }));
    assert_eq!(Process::start(directory.path()).given, [1]);
    assert_eq!(fs::read(&file).unwrap()[2 * 4096..], whole[3 * 4096..][..4096].repeat(14)[..]);
    let mut damaged = whole;
    damaged[4096 + 200] ^= 1;
    fs::write(&file, &damaged).unwrap();
    let mut locked = FileDirectory::open_exclusive(directory.path()).unwrap();
    let refused = recover(&mut locked, config(), JournalId([9; 16]), NOW, Restore::All, |_| {});
    let message = refused.unwrap_err().to_string();
    assert!(
        message.starts_with(
            "00000000000000000001.journal is damaged at offset 4096: group 1: record 1 is damaged"
        ),
        "{message}"
    );
}
