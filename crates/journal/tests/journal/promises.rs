//! Promises of a journal while its disk works, fills up or fails.

use std::time::Duration;

use tickstream_journal::{
    Action, AppendError, Completion, Config, Directory, Failure, FileName, Journal, JournalId, NewId, Now,
    OperationId, Position, Reader, Recovered, Restore, Retention, SimulatedDisk, recover,
};

use crate::config;

const SECOND: u64 = 1_000_000_000;
const PRODUCER: [u8; 16] = [1; 16];

/// A journal on a disk, at a time.
struct World {
    journal: Journal,
    disk: SimulatedDisk,
    now: Now,
}

impl World {
    /// An empty journal whose first segment is ready.
    fn new(config: Config) -> Self {
        Self::with_disk(config, SimulatedDisk::new(1))
    }

    fn with_disk(config: Config, mut disk: SimulatedDisk) -> Self {
        let now = Now { mono_ns: SECOND, unix_ns: 1_700_000_000 * SECOND };
        let (journal, _) = open(&mut disk, config, now, Restore::All);
        let mut world = Self { journal, disk, now };
        world.settle();
        assert!(world.journal.is_ready());
        world
    }

    fn append(&mut self, length: usize) -> Result<u64, AppendError> {
        self.journal.append(PRODUCER, 0, 1, &vec![0xE7; length])
    }

    /// Drives until nothing is on the way.
    fn settle(&mut self) {
        loop {
            self.drive();
            let Some(completion) = self.disk.complete_one() else { return };
            self.journal.completed(self.now, completion).unwrap();
        }
    }

    fn drive(&mut self) {
        self.journal.drive(self.now, &mut self.disk).unwrap();
    }

    fn pass(&mut self, duration: Duration) {
        self.now.mono_ns += duration.as_nanos() as u64;
        self.now.unix_ns += duration.as_nanos() as u64;
    }

    /// Appends `count` records of a block each, as soon as there is room for each.
    fn append_all(&mut self, count: usize) {
        for _ in 0..count {
            while self.append(3000).is_err() {
                self.settle();
            }
            self.settle();
        }
    }

    /// Appends records of a block each until one is refused; why, and how many were taken.
    fn fill(&mut self) -> (AppendError, u64) {
        let mut taken = 0;
        loop {
            match self.append(3000) {
                Ok(_) => taken += 1,
                Err(error) => return (error, taken),
            }
            self.settle();
        }
    }

    fn segments(&mut self) -> usize {
        self.disk.list().unwrap().into_iter().filter(|file| matches!(file, FileName::Segment(_))).count()
    }
}

fn open(disk: &mut SimulatedDisk, config: Config, now: Now, restore: Restore) -> (Journal, Recovered) {
    recover(disk, config, JournalId([2; 16]), now, restore, |_| {}).unwrap()
}

#[test]
fn what_comes_while_a_group_is_written_is_the_next_group() {
    let mut world = World::new(config());
    world.append(100).unwrap();
    world.drive();
    for _ in 0..5 {
        world.append(100).unwrap();
        world.drive();
    }
    assert_eq!(world.journal.synced(), 0);
    world.settle();
    let stats = world.journal.stats();
    assert_eq!((stats.progress.synced(), stats.groups), (6, 2));
    assert_eq!(stats.record_bytes, 6 * 148);
}

#[test]
fn nothing_is_synced_before_its_file_has_a_durable_name() {
    let mut world = World::new(config());
    let complete = |world: &mut World, id, written, synced| {
        world.drive();
        let completion = world.disk.complete(id).expect("it was started");
        world.journal.completed(world.now, completion).unwrap();
        let progress = world.journal.stats().progress;
        assert_eq!((progress.written(), progress.synced()), (written, synced), "after {id:?}");
    };
    world.journal.append(PRODUCER, 0, 1, b"first").unwrap();
    // Renamed, then written and synced.
    complete(&mut world, OperationId::Commit, 0, 0);
    complete(&mut world, OperationId::Commit, 1, 0);
    complete(&mut world, OperationId::Directory, 1, 0);
    // That there are records is on stable storage in the file "synced", too.
    complete(&mut world, OperationId::Directory, 1, 1);
}

#[test]
fn memory_is_bounded() {
    let mut world = World::new(config());
    let taken = std::iter::from_fn(|| {
        world.drive();
        world.append(3000).ok()
    });
    // Two buffers of two blocks; the first group was begun with what was there.
    assert_eq!(taken.count(), 3);
    assert_eq!(world.append(3000), Err(AppendError::Busy));
    world.settle();
    assert_eq!(world.append(3000), Ok(4));
}

#[test]
fn a_record_that_needs_the_next_segment_gets_it_though_the_current_one_is_almost_empty() {
    // Two of the largest groups don't fit a segment.
    let config = Config { segment_bytes: 5 * 4096, group_bytes: 4 * 4096, ..config() };
    let max = config.payload_max();
    let mut world = World::new(config);
    assert_eq!(world.append(100), Ok(1));
    world.settle();
    assert_eq!(world.append(max), Ok(2));
    world.settle();
    assert_eq!((world.journal.synced(), world.segments()), (2, 2));
}

#[test]
fn a_record_that_no_group_holds_is_refused() {
    let mut world = World::new(config());
    let max = config().payload_max();
    assert_eq!(world.append(max + 1), Err(AppendError::TooLarge { length: max + 1, max }));
    assert_eq!(world.append(max), Ok(1));
    world.settle();
    assert_eq!(world.journal.synced(), 1);
}

#[test]
fn a_failed_fsync_ends_the_journal() {
    let mut world = World::new(config());
    world.append(100).unwrap();
    world.settle();
    world.disk.faults.sync_fails = 1.0;
    world.append(100).unwrap();
    world.drive();
    let failure = loop {
        let completion = world.disk.complete_one().expect("a write is on its way");
        if let Err(failure) = world.journal.completed(world.now, completion) {
            break failure;
        }
    };
    assert_eq!((failure.action, failure.errno), (Action::Sync, 5));
    assert_eq!(
        failure.to_string(),
        "fsync of 00000000000000000001.journal at offset 8192: Input/output error (os error 5); nothing is \
         acknowledged from here on, end the process and look at the disk"
    );
    world.disk.faults.sync_fails = 0.0;
    assert_eq!(world.append(1), Err(AppendError::Ended));
    assert_eq!(world.journal.drive(world.now, &mut world.disk), Err(failure));
    assert_eq!((world.journal.synced(), world.journal.failure()), (1, Some(failure)));
}

#[test]
fn a_cut_that_a_failed_fsync_made_linux_forget_is_made_again() {
    let config = Config { segment_bytes: 16 * 4096, group_bytes: 4 * 4096, ..config() };
    for seed in 0..500 {
        let mut world = World::with_disk(config.clone(), SimulatedDisk::new(seed));
        world.append(100).unwrap();
        world.settle();
        world.append(14_000).unwrap();
        world.drive();
        world.disk.cut_power();
        world.disk.faults.sync_fails = 1.0;
        let failed =
            recover(&mut world.disk, config.clone(), JournalId([2; 16]), world.now, Restore::All, |_| {});
        assert!(failed.is_err());
        // Without a power cut the next process sees zeros that aren't on the disk.
        world.disk.kill();
        world.disk.faults.sync_fails = 0.0;
        let (journal, recovered) = open(&mut world.disk, config.clone(), world.now, Restore::All);
        world.journal = journal;
        let kept = world.append(100).unwrap();
        assert_eq!(kept, recovered.last_sequence + 1);
        world.settle();
        assert_eq!(world.journal.synced(), kept);
        world.disk.cut_power();
        assert_eq!(open(&mut world.disk, config.clone(), world.now, Restore::All).1.last_sequence, kept);
    }
}

#[test]
fn a_failed_write_ends_the_journal() {
    let mut world = World::new(config());
    world.append(100).unwrap();
    world.settle();
    world.disk.faults.write_fails = 1.0;
    world.append(100).unwrap();
    world.drive();
    let failed = std::iter::from_fn(|| world.disk.complete_one()).find_map(|completion| {
        let id = completion.id;
        world.journal.completed(world.now, completion).err().filter(|_| id == OperationId::Commit)
    });
    assert!(failed.is_some() || world.journal.failure().is_some());
    assert_eq!(world.journal.failure().unwrap().action, Action::Write);
    assert_eq!(world.journal.synced(), 1);
}

#[test]
fn a_full_disk_refuses_appends_and_nothing_else() {
    let mut world = World::new(config());
    world.disk.faults.capacity = Some(config().segment_bytes + 4096);
    let (error, taken) = world.fill();
    // All of the current segment is used first: five blocks behind its header.
    assert_eq!((error, taken), (AppendError::Full, 5));
    assert_eq!(world.journal.synced(), 5);
    assert!(world.journal.stats().full_since_ns.is_some());
    let on_disk = world.disk.list().unwrap();
    world.pass(Duration::from_secs(5));
    world.settle();
    assert_eq!(world.append(1), Err(AppendError::Full));
    assert_eq!(world.disk.list().unwrap().len(), on_disk.len(), "nothing is deleted");
    let mut reader = Reader::new(&mut world.disk, 1);
    for sequence in 1..=5 {
        assert_eq!(reader.next_record().unwrap().unwrap().sequence, sequence);
    }
    world.disk.faults.capacity = None;
    world.settle();
    assert_eq!(world.append(1), Err(AppendError::Full), "it isn't tried all the time");
    let again = Duration::from_nanos(world.journal.next_timeout().unwrap() - world.now.mono_ns);
    world.pass(again);
    world.settle();
    assert_eq!(world.append(1), Ok(6));
    world.settle();
    assert_eq!((world.journal.synced(), world.journal.stats().full_since_ns), (6, None));
}

#[test]
fn short_writes_are_completed() {
    let mut world = World::new(config());
    world.disk.faults.short_writes = 0.5;
    for sequence in 1..=40 {
        while world.append(5000).is_err() {
            world.pass(Duration::from_secs(1));
            world.settle();
        }
        while world.journal.synced() < sequence {
            world.pass(Duration::from_secs(1));
            world.settle();
        }
    }
}

#[test]
fn the_oldest_segments_go_when_there_are_too_many() {
    let retention = Retention { bytes: Some(4 * config().segment_bytes), ..Retention::default() };
    let mut world = World::new(Config { retention, ..config() });
    for _ in 0..100 {
        world.append_all(1);
        assert!(world.journal.stats().disk_bytes <= 5 * config().segment_bytes);
    }
    assert!(world.segments() <= 4);
    let stats = world.journal.stats();
    assert!(stats.removed > 10 && stats.first_sequence > 50, "{stats:?}");
    world.disk.cut_power();
    let (_, recovered) = open(&mut world.disk, config(), world.now, Restore::All);
    assert_eq!(recovered.first_sequence, stats.first_sequence);
    assert_eq!(recovered.last_sequence, 100);
}

#[test]
fn old_segments_go_except_the_one_being_written() {
    let retention = Retention { age: Some(Duration::from_secs(60)), ..Retention::default() };
    let mut world = World::new(Config { retention, ..config() });
    world.append_all(12);
    assert_eq!(world.segments(), 3);
    world.pass(Duration::from_secs(59));
    world.settle();
    assert_eq!(world.segments(), 3);
    world.pass(Duration::from_secs(2));
    world.settle();
    assert_eq!(world.segments(), 1);
    assert_eq!(world.journal.first_sequence(), 11);
}

#[test]
fn a_quiet_journal_keeps_nothing_that_is_too_old_and_goes_on_behind_it() {
    let retention = Retention { age: Some(Duration::from_secs(60)), ..Retention::default() };
    let mut world = World::new(Config { retention, ..config() });
    world.append_all(2);
    for _ in 0..64 {
        world.pass(Duration::from_secs(1));
        world.settle();
    }
    assert_eq!((world.segments(), world.journal.first_sequence()), (0, 0));
    world.append_all(2);
    assert_eq!((world.segments(), world.journal.first_sequence(), world.journal.synced()), (1, 3, 4));
    // The file that is gone isn't closed or removed again.
    for _ in 0..64 {
        world.pass(Duration::from_secs(1));
        world.settle();
    }
    assert_eq!(world.segments(), 0);
    world.disk.cut_power();
    let (journal, recovered) = open(&mut world.disk, config(), world.now, Restore::All);
    assert_eq!((recovered.first_sequence, recovered.last_sequence, journal.synced()), (0, 4, 4));
}

#[test]
fn a_segment_that_is_old_is_left_for_the_next_and_gives_its_unused_space_back() {
    let age = Duration::from_secs(3600);
    let mut world = World::new(Config { segment_age: Some(age), ..config() });
    world.append_all(1);
    world.pass(age / 2);
    world.append_all(1);
    assert_eq!(world.segments(), 1);
    world.pass(age / 2);
    world.settle();
    // Without a record there is nothing to begin a segment with.
    assert_eq!(world.segments(), 1);
    world.append_all(2);
    assert_eq!(world.segments(), 2);
    // The first holds its header, two groups and a marker; the second is as long as it was made, and so is the next.
    let blocks = world.journal.stats().disk_bytes / 4096;
    assert!((3 + 6..=4 + 6 + 6).contains(&blocks), "{blocks} blocks");
    world.disk.cut_power();
    let (_, recovered) = open(&mut world.disk, config(), world.now, Restore::All);
    assert_eq!((recovered.records, recovered.segments), (4, 2));
}

#[test]
fn a_segment_that_was_moved_away_is_missed_also_after_a_power_cut() {
    for seed in 0..50 {
        let mut world = World::with_disk(config(), SimulatedDisk::new(seed));
        world.append_all(6);
        world.disk.cut_power();
        world.disk.remove(FileName::Segment(6)).unwrap();
        let id = JournalId([3; 16]);
        let opened = recover(&mut world.disk, config(), id, world.now, Restore::All, |_| {});
        let (journal, recovered) = opened.unwrap();
        assert_eq!(recovered.new_id, Some(NewId::Gone { synced: 6 }), "seed {seed}");
        assert_eq!((journal.id(), recovered.last_sequence, journal.synced()), (id, 5, 6), "seed {seed}");
    }
}

/// A consumer that has loaded up to a record of the journal.
fn loaded(world: &World, sequence: u64) -> Vec<Option<Position>> {
    vec![Some(Position { journal: world.journal.id(), sequence, group_crc: 0 })]
}

#[test]
fn what_a_consumer_has_not_loaded_stays_and_a_journal_that_is_full_of_it_refuses() {
    let retention = Retention { bytes: Some(4 * config().segment_bytes), ..Retention::default() };
    let mut world = World::new(Config { retention, ..config() });
    world.journal.set_consumers(vec![None]);
    let (error, taken) = world.fill();
    assert_eq!(error, AppendError::Full);
    let stats = world.journal.stats();
    assert!(stats.removed == 0 && taken > 10, "{stats:?}");
    assert!(stats.disk_bytes <= 4 * config().segment_bytes && stats.held_since_ns.is_some(), "{stats:?}");
    assert_eq!((stats.loaded, stats.unloaded_bytes > 2 * config().segment_bytes), (Some(0), true));
    // All but the last record of the first segment is no segment.
    world.journal.set_consumers(loaded(&world, 4));
    world.settle();
    assert_eq!(world.append(3000), Err(AppendError::Full));
    world.journal.set_consumers(loaded(&world, 5));
    world.settle();
    assert_eq!((world.journal.first_sequence(), world.journal.stats().held_since_ns), (6, None));
    world.append_all(3);
    // The slowest of two counts.
    let both = [loaded(&world, taken + 3), loaded(&world, 5)].concat();
    world.journal.set_consumers(both);
    assert_eq!(world.fill().0, AppendError::Full);
    assert_eq!(world.journal.first_sequence(), 6);
    // Without a consumer it is as it was: the oldest go.
    world.journal.set_consumers(Vec::new());
    world.append_all(20);
    assert!(world.journal.first_sequence() > 20);
}

#[test]
fn age_removes_what_is_not_loaded_only_if_it_is_told_to() {
    for age_removes_unloaded in [false, true] {
        let retention = Retention { age: Some(Duration::from_secs(60)), bytes: None, age_removes_unloaded };
        let mut world = World::new(Config { retention, ..config() });
        world.journal.set_consumers(vec![None]);
        world.append_all(12);
        for _ in 0..64 {
            world.pass(Duration::from_secs(1));
            world.settle();
        }
        let stats = world.journal.stats();
        let expected = if age_removes_unloaded { (0, 3) } else { (3, 0) };
        assert_eq!((world.segments() as u64, stats.removed_unloaded), expected, "{stats:?}");
        world.journal.set_consumers(loaded(&world, 12));
        world.settle();
        world.settle();
        assert_eq!(world.segments(), 0);
    }
}

/// Its time to be tried again would be in the past for good, and whoever waits for it would never sleep.
#[test]
fn a_failed_removal_that_is_due_no_more_is_not_waited_for() {
    let retention = Retention { age: Some(Duration::from_secs(60)), ..Retention::default() };
    let mut world = World::new(Config { retention, ..config() });
    world.append_all(12);
    world.pass(Duration::from_secs(61));
    world.drive();
    let completion = world.disk.complete(OperationId::Remove).unwrap();
    world
        .journal
        .completed(world.now, Completion { result: Err(Failure::Operation(1)), ..completion })
        .unwrap();
    world.settle();
    world.now.unix_ns -= 61 * SECOND;
    world.now.mono_ns += 60 * SECOND;
    world.settle();
    assert_eq!(world.journal.next_timeout(), None);
}

#[test]
fn a_quiet_journal_ends_with_one_mark() {
    let mut world = World::new(config());
    world.append(100).unwrap();
    world.settle();
    assert_eq!(world.journal.stats().markers, 0);
    assert_eq!(world.journal.next_timeout(), Some(world.now.mono_ns + SECOND));
    for _ in 0..3 {
        world.pass(Duration::from_secs(1));
        world.settle();
        assert_eq!((world.journal.stats().markers, world.journal.next_timeout()), (1, None));
    }
}

#[test]
#[should_panic(expected = "acknowledged ≤ synced")]
fn nothing_is_acknowledged_before_it_is_synced() {
    let mut world = World::new(config());
    let sequence = world.append(100).unwrap();
    world.journal.acknowledge(sequence);
}

#[test]
fn a_window_is_restored_from_the_back_by_whole_segments() {
    let mut world = World::new(config());
    for _ in 0..20 {
        world.pass(Duration::from_secs(1));
        while world.append(3000).is_err() {
            world.settle();
        }
        world.settle();
    }
    let now = world.now;
    let all = |records, bytes, since_ns| Restore::Window { records, bytes, since_ns };
    let check = |restore, expected: u64| {
        let (_, recovered) = open(&mut world.disk.clone(), config(), now, restore);
        assert_eq!(recovered.records, expected, "{restore:?}");
        assert_eq!((recovered.first_sequence, recovered.last_sequence, recovered.segments), (1, 20, 4));
    };
    // Five records a segment; what the last holds isn't known before it is read.
    check(Restore::All, 20);
    check(all(0, 0, u64::MAX), 5);
    check(all(1, 0, u64::MAX), 10);
    check(all(5, 0, u64::MAX), 10);
    check(all(6, 0, u64::MAX), 15);
    check(all(0, 6 * 4096, u64::MAX), 10);
    check(all(0, 0, now.unix_ns - 8 * SECOND), 10);
    check(all(0, 0, 0), 20);
    check(all(1000, 0, u64::MAX), 20);
}
