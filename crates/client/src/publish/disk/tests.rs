use super::*;

const MAX: u64 = 4 << 20;

fn open(dir: &Path) -> (DiskQueue, Restored) {
    DiskQueue::open(dir, MAX).unwrap()
}

fn content(events: &[(u64, &str)], batches: &[(u64, &[u64])]) -> Content {
    Content {
        events: events.iter().map(|(number, event)| (*number, event.as_bytes().into())).collect(),
        batches: batches.iter().map(|(sequence, numbers)| (*sequence, numbers.to_vec())).collect(),
    }
}

#[test]
fn what_has_no_answer_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (mut queue, restored) = open(dir.path());
    let producer = restored.producer;
    assert_eq!((producer.next_sequence, restored.content), (1, Content::default()));
    for (number, event) in [(1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "e")] {
        queue.event(number, event.as_bytes()).unwrap();
    }
    queue.batch(1, &[1, 2]);
    queue.batch(2, &[3, 4]);
    // The second event may come again.
    queue.answered(1, &[1], [1].into_iter());
    drop(queue);

    let (mut queue, restored) = open(dir.path());
    let next_sequence = 3 + LEAP;
    assert_eq!(restored.producer, Producer { next_sequence, ..producer });
    assert_eq!(restored.content, content(&[(2, "b"), (3, "c"), (4, "d"), (5, "e")], &[(2, &[3, 4])]));
    queue.batch(next_sequence, &[2]);
    queue.answered(2, &[3, 4], [1, 1].into_iter());
    drop(queue);
    let (_, restored) = open(dir.path());
    assert_eq!(restored.producer.next_sequence, next_sequence + 1 + LEAP);
    assert_eq!(restored.content, content(&[(2, "b"), (5, "e")], &[(next_sequence, &[2])]));
}

#[test]
fn a_batch_whose_events_are_gone_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let (mut queue, _) = open(dir.path());
    queue.event(1, b"a").unwrap();
    queue.batch(1, &[2, 3]);
    drop(queue);
    let (_, restored) = open(dir.path());
    assert_eq!(restored.content, content(&[(1, "a")], &[]));
}

#[test]
fn a_file_that_was_cut_anywhere_gives_what_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (mut queue, _) = open(dir.path());
    queue.event(1, b"a").unwrap();
    queue.event(2, b"b").unwrap();
    queue.batch(1, &[1, 2]);
    drop(queue);
    let path = dir.path().join(NAME);
    let whole = fs::read(&path).unwrap();
    let head = encoded_len(MAGIC.len());
    let event = encoded_len(1);
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let (queue, restored) = open(dir.path());
        let events = cut.saturating_sub(head) / event;
        assert_eq!(restored.content.events.len(), events.min(2), "{cut}");
        assert!(restored.content.batches.is_empty());
        drop(queue);
    }
}

#[test]
fn damage_costs_the_damaged_record_alone_and_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (mut queue, _) = open(dir.path());
    for number in 1..=4 {
        queue.event(number, b"an event").unwrap();
    }
    queue.batch(1, &[3, 4]);
    drop(queue);
    let path = dir.path().join(NAME);
    let whole = fs::read(&path).unwrap();
    let (head, event) = (encoded_len(MAGIC.len()), encoded_len(8));
    // Every bit of the second event's record: its length and the producer's id, too.
    for bit in 0..8 * event {
        let mut damaged = whole.clone();
        damaged[head + event + bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &damaged).unwrap();
        let (queue, restored) = open(dir.path());
        let expected = content(&[(1, "an event"), (3, "an event"), (4, "an event")], &[(1, &[3, 4])]);
        assert_eq!(restored.content, expected, "bit {bit}");
        let Some(Damage { bytes, kept }) = restored.damage else { panic!("bit {bit} is passed over") };
        assert_eq!((bytes, fs::read(&kept).unwrap()), (event as u64, damaged));
        drop(queue);
        assert_eq!(open(dir.path()).1.damage, None, "it is written anew");
    }
    // The last record, whole but wrong.
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(&path, &damaged).unwrap();
    let (_, restored) = open(dir.path());
    assert_eq!((restored.content.events.len(), restored.damage.is_some()), (4, true));
    // An end that a power cut left empty, or cut off.
    fs::write(&path, [&whole[..], &[0; 100]].concat()).unwrap();
    assert_eq!(open(dir.path()).1.damage.unwrap().bytes, 100);
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert!(open(dir.path()).1.damage.is_some());
}

#[test]
fn something_else_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(NAME);
    fs::write(&path, "x".repeat(100)).unwrap();
    assert_eq!(DiskQueue::open(dir.path(), MAX).err().unwrap().kind(), ErrorKind::InvalidData);
    assert_eq!(fs::read(&path).unwrap().len(), 100);
}

#[test]
fn a_queue_is_one_process_s() {
    let dir = tempfile::tempdir().unwrap();
    let _queue = open(dir.path());
    assert_eq!(DiskQueue::open(dir.path(), MAX).err().unwrap().kind(), ErrorKind::WouldBlock);
}

#[test]
fn it_grows_no_further_than_it_may() {
    let dir = tempfile::tempdir().unwrap();
    let (mut queue, _) = DiskQueue::open(dir.path(), 10_000).unwrap();
    let event = [7; 1000 - encoded_len(0)];
    let fill = |queue: &mut DiskQueue, first| -> Vec<u64> {
        (first..100).take_while(|number| queue.event(*number, &event).is_ok()).collect()
    };
    assert_eq!(fill(&mut queue, 1), [1, 2, 3, 4, 5]);
    assert!(matches!(queue.event(6, &event), Err(Refusal::Full)), "half of it is for events");
    queue.answered(0, &[1, 2, 3, 4], [event.len(); 4].into_iter());
    assert_eq!(fill(&mut queue, 6), [6, 7, 8, 9]);
    queue.answered(0, &[5, 6, 7], [event.len(); 3].into_iter());
    assert!(matches!(queue.event(10, &event), Err(Refusal::Rewrite)));
    queue.rewrite(1, (8..10).map(|number| (number, &event[..])), std::iter::empty()).unwrap();
    queue.event(10, &event).unwrap();
    assert!(fs::metadata(dir.path().join(NAME)).unwrap().len() < 5000);
    drop(queue);
    assert_eq!(open(dir.path()).1.content.events.into_keys().collect::<Vec<_>>(), [8, 9, 10]);
}

#[test]
fn a_file_that_took_the_old_one_s_place_is_the_one_that_is_written_to() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let (mut queue, _) = open(dir.path());
    queue.event(1, b"a").unwrap();
    let allow = |mode| fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
    // Files can be made and renamed in it, it can't be opened to be synced. Root can do that, too.
    allow(0o300);
    let is_synced = File::open(dir.path()).is_ok();
    let events = [(1, &b"a"[..])].into_iter();
    assert_eq!(queue.rewrite(1, events, std::iter::empty()).is_ok(), is_synced);
    allow(0o700);
    queue.event(2, b"b").unwrap();
    drop(queue);
    assert_eq!(open(dir.path()).1.content.events.into_keys().collect::<Vec<_>>(), [1, 2]);
}
