//! Programs that load a directory's journals: only what is on stable storage, nothing twice, nothing left out unsaid.

use std::fs;
use std::path::{Path, PathBuf};

use tickstream_journal::{
    FileDirectory, FileStorage, Follower, Journal, JournalId, NewId, Now, Position, Problem, Restore, Step,
    journals, recover,
};

use crate::config;

const NOW: Now = Now { mono_ns: 1, unix_ns: 1_700_000_000_000_000_000 };
const BLOCK: usize = 4096;

/// A process that writes a journal.
struct Process {
    _directory: FileDirectory,
    storage: FileStorage,
    journal: Journal,
    new_id: Option<NewId>,
}

impl Process {
    /// With `id` if the journal needs a new one.
    fn start(path: &Path, id: u8) -> Self {
        let mut directory = FileDirectory::open_exclusive(path).unwrap();
        let (journal, recovered) =
            recover(&mut directory, config(), JournalId([id; 16]), NOW, Restore::All, |_| {}).unwrap();
        let storage = FileStorage::new(&directory);
        let mut process = Self { _directory: directory, storage, journal, new_id: recovered.new_id };
        process.settle();
        process
    }

    /// Appends records of a block each, each in a group of its own.
    fn append(&mut self, count: usize) -> &mut Self {
        for _ in 0..count {
            while self.journal.append([3; 16], 1, 1, &[7; 3000]).is_err() {
                self.settle();
            }
            self.settle();
        }
        self
    }

    fn settle(&mut self) {
        loop {
            self.journal.drive(NOW, &mut self.storage).unwrap();
            let Some(completion) = self.storage.next_completion() else { return };
            self.journal.completed(NOW, completion).unwrap();
        }
    }
}

/// All that a follower gives until it is idle: the ranges of its batches, and its problems.
fn follow(follower: &mut Follower, bytes_max: usize) -> (Vec<Position>, Vec<(u64, u64)>, Vec<Problem>) {
    let (mut positions, mut ranges, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        match follower.poll(bytes_max) {
            Step::Batch(batch) => {
                let sequences: Vec<_> = batch.records().map(|record| record.sequence).collect();
                let range = (batch.first_sequence, batch.position.sequence);
                assert!(sequences.into_iter().eq(range.0..=range.1));
                positions.push(batch.position);
                ranges.push(range);
            }
            Step::Problem(problem) => problems.push(problem),
            Step::Idle => return (positions, ranges, problems),
        }
    }
}

fn ranges(follower: &mut Follower) -> Vec<(u64, u64)> {
    let (_, ranges, problems) = follow(follower, usize::MAX);
    assert!(problems.is_empty(), "{problems:?}");
    ranges
}

fn segments(path: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.retain(|path| path.extension().is_some_and(|extension| extension == "journal"));
    all.sort_unstable();
    all
}

#[test]
fn all_journals_are_followed_from_where_each_was_loaded_and_new_ones_are_noticed() {
    let root = tempfile::tempdir().unwrap();
    let mut first = Process::start(&root.path().join("000"), 1);
    let mut second = Process::start(&root.path().join("001"), 2);
    first.append(12);
    second.append(3);
    let mut follower = Follower::new(root.path(), []).unwrap();
    let (positions, ranges_found, problems) = follow(&mut follower, 2 * 3048);
    assert!(problems.is_empty(), "{problems:?}");
    // In turn, and no more bytes than were asked for.
    assert_eq!(ranges_found[..4], [(1, 2), (1, 2), (3, 3), (3, 4)]);
    assert_eq!(ranges_found.last(), Some(&(11, 12)));
    first.append(1);
    assert_eq!(ranges(&mut follower), [(13, 13)]);
    let mut third = Process::start(&root.path().join("002"), 3);
    third.append(1);
    assert_eq!(ranges(&mut follower), []);
    follower.rescan().unwrap();
    assert_eq!(ranges(&mut follower), [(1, 1)]);
    assert_eq!(journals(root.path()).unwrap().len(), 3);
    // A program that starts again goes on behind what it has loaded.
    let last_of =
        |id: u8| positions.iter().rfind(|position| position.journal == JournalId([id; 16])).copied();
    let mut follower = Follower::new(root.path(), [last_of(1).unwrap(), last_of(2).unwrap()]).unwrap();
    assert_eq!(ranges(&mut follower), [(1, 1), (13, 13)]);
}

#[test]
fn records_are_given_when_they_are_synced_and_not_a_marker_later() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("000");
    let mut process = Process::start(&path, 1);
    process.append(2);
    let mut follower = Follower::new(root.path(), []).unwrap();
    assert_eq!(ranges(&mut follower), [(1, 2)]);
    for sequence in 3..30 {
        process.append(1);
        assert_eq!(ranges(&mut follower), [(sequence, sequence)]);
    }
    // Without the file, the last group isn't proven before something follows.
    fs::remove_file(path.join("synced")).unwrap();
    assert_eq!(ranges(&mut Follower::new(root.path(), []).unwrap()), [(1, 28)]);
    // An invalid one is no better, and takes nothing away.
    fs::write(path.join("synced"), [7; 100]).unwrap();
    assert_eq!(ranges(&mut Follower::new(root.path(), []).unwrap()), [(1, 28)]);
}

#[test]
fn a_follower_knows_when_it_has_given_what_was_there() {
    let root = tempfile::tempdir().unwrap();
    let mut first = Process::start(&root.path().join("000"), 1);
    let mut second = Process::start(&root.path().join("001"), 2);
    first.append(5);
    second.append(1);
    let mut follower = Follower::new(root.path(), []).unwrap();
    let synced = follower.synced().unwrap();
    assert_eq!(synced.values().copied().collect::<Vec<_>>(), [5, 1]);
    // What comes later doesn't count.
    first.append(3);
    let mut given = 0;
    while !follower.has_given(&synced) {
        assert!(matches!(follower.poll(1), Step::Batch(_)));
        given += 1;
    }
    assert!((6..=7).contains(&given), "{given}");
    let now = follower.synced().unwrap();
    assert!(!follower.has_given(&now));
    assert_eq!(ranges(&mut follower).last().unwrap().1, 8);
    assert!(follower.has_given(&now));
    // Without the file it isn't known.
    fs::remove_file(root.path().join("001/synced")).unwrap();
    assert_eq!(Follower::new(root.path(), []).unwrap().synced(), None);
}

#[test]
fn a_damaged_journal_is_named_once_and_the_others_go_on() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("000");
    let mut sound = Process::start(&root.path().join("001"), 2);
    sound.append(1);
    Process::start(&path, 1).append(12);
    let file = &segments(&path)[1];
    let whole = fs::read(file).unwrap();
    let mut damaged = whole.clone();
    damaged[BLOCK + 500] ^= 1;
    fs::write(file, &damaged).unwrap();
    let mut follower = Follower::new(root.path(), []).unwrap();
    let (_, ranges_found, problems) = follow(&mut follower, usize::MAX);
    assert_eq!(ranges_found, [(1, 1), (1, 5)]);
    assert!(matches!(&problems[..], [Problem::Unreadable { after: 5, .. }]), "{problems:?}");
    sound.append(1);
    follower.rescan().unwrap();
    assert_eq!(ranges(&mut follower), [(2, 2)]);
    // Put back from a copy.
    fs::write(file, &whole).unwrap();
    follower.rescan().unwrap();
    assert_eq!(ranges(&mut follower), [(6, 12)]);
}

#[test]
fn a_gap_and_a_record_that_is_another_stop_a_journal_until_they_are_accepted() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("000");
    Process::start(&path, 1).append(12);
    let (positions, ..) = follow(&mut Follower::new(root.path(), []).unwrap(), 1);
    fs::remove_file(&segments(&path)[0]).unwrap();
    let mut follower = Follower::new(root.path(), [positions[2]]).unwrap();
    let (_, ranges_found, problems) = follow(&mut follower, usize::MAX);
    assert!(matches!(&problems[..], [Problem::Gap { after: 3, next: 6, .. }]), "{problems:?}");
    assert_eq!(ranges_found, []);
    follower.accept(&path);
    assert_eq!(ranges(&mut follower), [(6, 12)]);

    let other = Position { group_crc: 1, ..positions[7] };
    let mut follower = Follower::new(root.path(), [other]).unwrap();
    let (_, ranges_found, problems) = follow(&mut follower, usize::MAX);
    assert!(matches!(&problems[..], [Problem::Mismatch { .. }]), "{problems:?}");
    assert_eq!(ranges_found, []);
    follower.accept(&path);
    assert_eq!(ranges(&mut follower), [(9, 12)]);
}

#[test]
fn after_segments_were_moved_away_a_new_id_begins_and_no_sequence_is_given_again() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("000");
    Process::start(&path, 1).append(12);
    let (positions, ..) = follow(&mut Follower::new(root.path(), []).unwrap(), usize::MAX);
    fs::remove_file(segments(&path).last().unwrap()).unwrap();
    let process = Process::start(&path, 2);
    assert_eq!(process.new_id, Some(NewId::Gone { synced: 12 }));
    drop(process);
    // It took no record and is started again: it doesn't forget.
    let mut process = Process::start(&path, 3);
    assert_eq!(process.new_id, Some(NewId::Other { journal: JournalId([2; 16]) }));
    process.append(8);
    let mut follower = Follower::new(root.path(), positions).unwrap();
    let (_, ranges_found, problems) = follow(&mut follower, usize::MAX);
    let [Problem::NewId { before, last: 12, journal, first: 13, .. }] = problems[..] else {
        panic!("{problems:?}")
    };
    assert_eq!((before, journal), (JournalId([1; 16]), JournalId([3; 16])));
    assert_eq!(ranges_found, [(13, 20)]);
    drop(process);
    let mut directory = FileDirectory::open(&path);
    let report = tickstream_journal::verify(&mut directory).unwrap();
    assert_eq!((report.damage, report.last_sequence, report.records), (None, 20, 18));
    // From then on it is a journal as any other.
    assert_eq!(Process::start(&path, 4).append(1).new_id, None);
    // What was loaded before all of that is given from the oldest on.
    let (_, ranges_found, problems) = follow(&mut Follower::new(root.path(), []).unwrap(), usize::MAX);
    assert_eq!((ranges_found, problems.len()), (vec![(1, 10), (13, 21)], 1));
}

#[test]
fn a_directory_whose_segments_are_all_gone_goes_on_behind_them() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("000");
    Process::start(&path, 1).append(7);
    segments(&path).iter().for_each(|segment| fs::remove_file(segment).unwrap());
    Process::start(&path, 2).append(6);
    assert_eq!(ranges(&mut Follower::new(root.path(), []).unwrap()), [(8, 13)]);
    assert_eq!(Process::start(&path, 3).append(1).journal.id(), JournalId([2; 16]));
}

#[test]
fn what_has_vanished_is_named() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("000");
    Process::start(&path, 1).append(2);
    let unknown = Position { journal: JournalId([9; 16]), sequence: 5, group_crc: 0 };
    let mut follower = Follower::new(root.path(), [unknown]).unwrap();
    let (_, ranges_found, problems) = follow(&mut follower, usize::MAX);
    assert_eq!(ranges_found, [(1, 2)]);
    assert!(matches!(problems[..], [Problem::Unknown(position)] if position == unknown), "{problems:?}");
    fs::remove_dir_all(&path).unwrap();
    follower.rescan().unwrap();
    let (_, _, problems) = follow(&mut follower, usize::MAX);
    assert!(matches!(problems[..], [Problem::Vanished { last: 2, .. }]), "{problems:?}");
}
