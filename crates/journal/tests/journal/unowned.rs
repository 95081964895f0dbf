//! Retention of journals that no process writes.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tickstream_journal::{
    Consumer, FileDirectory, FileStorage, Journal, JournalId, Now, Position, Restore, Retention, recover,
    remove_unowned, verify,
};

use crate::config;

const SECOND: u64 = 1_000_000_000;
const NOW_NS: u64 = 1_700_000_000 * SECOND;
const BLOCK: usize = 4096;

/// A journal of `records` records of a block each, five in a segment; whoever keeps what is returned owns it.
fn journal(path: &Path, id: u8, records: usize) -> (FileDirectory, Journal) {
    let now = Now { mono_ns: 1, unix_ns: NOW_NS };
    let mut directory = FileDirectory::open_exclusive(path).unwrap();
    let opened = recover(&mut directory, config(), JournalId([id; 16]), now, Restore::All, |_| {});
    let (mut journal, mut storage) = (opened.unwrap().0, FileStorage::new(&directory));
    let mut appended = 0;
    loop {
        journal.drive(now, &mut storage).unwrap();
        if let Some(completion) = storage.next_completion() {
            journal.completed(now, completion).unwrap();
        } else if appended == records {
            break;
        } else if journal.append([1; 16], 1, 1, &[7; 3000]).is_ok() {
            appended += 1;
        }
    }
    (directory, journal)
}

fn segments(path: &Path) -> usize {
    let names = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".journal")).count()
}

fn set_changed(path: &Path, seconds: u64) {
    for entry in fs::read_dir(path).unwrap() {
        let file = fs::File::options().read(true).open(entry.unwrap().path()).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        file.set_modified(time).unwrap();
    }
}

fn by_age(age_removes_unloaded: bool) -> Retention {
    Retention { age: Some(Duration::from_secs(60)), bytes: None, age_removes_unloaded }
}

#[test]
fn old_journals_without_an_owner_go_whole_and_the_next_process_goes_on_behind_them() {
    let root = tempfile::tempdir().unwrap();
    let [owned, left] = ["000", "001"].map(|name| root.path().join(name));
    let owner = journal(&owned, 1, 12);
    drop(journal(&left, 2, 12));
    assert!(left.join("next").exists());
    let maintain = |after_s: u64| {
        set_changed(&left, NOW_NS / SECOND);
        remove_unowned(root.path(), &by_age(false), NOW_NS + after_s * SECOND).unwrap()
    };
    assert!(maintain(59).is_empty());
    // What was made ready for records that never came goes at once.
    assert_eq!((segments(&left), left.join("next").exists()), (3, false));
    let removed = maintain(61);
    assert!(matches!(&removed[..], [one] if one.path == left && one.segments == 3 && one.error.is_none()));
    assert_eq!((segments(&owned), segments(&left)), (3, 0));
    drop(owner);
    let (_, again) = journal(&left, 3, 1);
    assert_eq!((again.id(), again.first_sequence(), again.synced()), (JournalId([3; 16]), 13, 13));
}

#[test]
fn what_a_consumer_has_not_loaded_stays_unless_age_may_take_it() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("000");
    drop(journal(&path, 1, 12));
    set_changed(&path, NOW_NS / SECOND);
    let mut tables = Consumer::open(&path, "tables").unwrap();
    let later = NOW_NS + 100 * SECOND;
    assert!(remove_unowned(root.path(), &by_age(false), later).unwrap().is_empty());
    let position = |sequence| Position { journal: JournalId([1; 16]), sequence, group_crc: 0 };
    tables.advance(position(11)).unwrap();
    remove_unowned(root.path(), &by_age(false), later).unwrap();
    assert_eq!(segments(&path), 1);
    assert_eq!(verify(&mut FileDirectory::open(&path)).unwrap().damage, None);
    // Its file isn't valid: nothing counts as loaded.
    fs::write(path.join("consumers/tables"), "?").unwrap();
    assert!(remove_unowned(root.path(), &by_age(false), later).unwrap().is_empty());
    assert_eq!(remove_unowned(root.path(), &by_age(true), later).unwrap()[0].segments, 1);
}

#[test]
fn all_journals_together_are_bounded() {
    let root = tempfile::tempdir().unwrap();
    let [owned, left] = ["000", "001"].map(|name| root.path().join(name));
    let _owner = journal(&owned, 1, 12);
    drop(journal(&left, 2, 12));
    // Those of the owner: three segments and the next one.
    let retention =
        |segments: u64| Retention { bytes: Some(segments * config().segment_bytes), ..Retention::default() };
    remove_unowned(root.path(), &retention(5), NOW_NS).unwrap();
    assert_eq!((segments(&owned), segments(&left)), (3, 1));
    Consumer::open(&left, "tables").unwrap();
    assert!(remove_unowned(root.path(), &retention(1), NOW_NS).unwrap().is_empty());
    assert_eq!((segments(&owned), segments(&left)), (3, 1));
}

#[test]
fn a_damaged_journal_is_told_of_and_left() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("000");
    drop(journal(&path, 1, 3));
    set_changed(&path, NOW_NS / SECOND);
    let file = path.join("00000000000000000001.journal");
    let mut bytes = fs::read(&file).unwrap();
    bytes[BLOCK + 300] ^= 1;
    fs::write(&file, bytes).unwrap();
    set_changed(&path, NOW_NS / SECOND);
    let removed = remove_unowned(root.path(), &by_age(false), NOW_NS + 61 * SECOND).unwrap();
    assert!(matches!(&removed[..], [one] if one.segments == 0 && one.error.is_some()), "{removed:?}");
    assert_eq!(segments(&path), 1);
}
