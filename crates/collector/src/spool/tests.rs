use tickstream_client::events::{Event, EventBatch, Message};

use super::*;

fn batch(name: &str) -> EncodedBatch {
    let mut batch = EncodedBatch::default();
    batch.push(&Event { event_name: name.into(), ..Event::default() });
    batch
}

#[test]
fn frames_are_read_as_they_were_written_and_broken_ones_end_it() {
    let both = [frame::encoded(&batch("a")), frame::encoded(&batch("b"))].concat();
    let (first, len) = frame::decoded(&both).unwrap();
    assert_eq!((first.len(), first.as_bytes()), (1, batch("a").as_bytes()));
    assert_eq!(EventBatch::decode(first.as_bytes()).unwrap().events[0].event_name, "a");
    assert_eq!(frame::whole(&both), both.len());
    for cut in 0..both.len() {
        assert_eq!(frame::whole(&both[..cut]), if cut < len { 0 } else { len }, "{cut}");
    }
    for at in 0..len {
        let mut broken = both.clone();
        broken[at] ^= 1;
        assert_eq!(frame::whole(&broken), 0, "{at}");
    }
}

#[test]
fn fault_63_a_torn_end_is_left_out_and_segments_keep_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let whole = frame::encoded(&batch("a"));
    fs::write(path(dir.path(), 12), [&whole[..], &whole[..5]].concat()).unwrap();
    fs::write(path(dir.path(), 9), &whole).unwrap();
    fs::write(dir.path().join("other"), "x").unwrap();
    let length = whole.len() as u64;
    assert_eq!(found(dir.path()).unwrap(), [Segment { number: 9, length }, Segment { number: 12, length }]);
}

#[test]
fn damage_costs_the_damaged_batch_alone() {
    let frames: Vec<_> = ["a", "b", "c", "d"].map(|name| frame::encoded(&batch(name))).into();
    let (whole, each) = (frames.concat(), frames[0].len());
    for at in each..3 * each {
        let dir = tempfile::tempdir().unwrap();
        let mut broken = whole.clone();
        broken[at] ^= 0x10;
        fs::write(path(dir.path(), 1), &broken).unwrap();
        fs::write(dir.path().join("sent"), "1 40\n").unwrap();
        let length = 3 * each as u64;
        assert_eq!(found(dir.path()).unwrap(), [Segment { number: 1, length }], "{at}");
        let kept: Vec<_> =
            (0..4).filter(|frame| *frame != at / each).flat_map(|frame| frames[frame].clone()).collect();
        assert_eq!(fs::read(path(dir.path(), 1)).unwrap(), kept, "{at}");
        assert_eq!(fs::read(dir.path().join(DAMAGED)).unwrap(), broken);
        assert!(!dir.path().join("sent").exists(), "it goes from its beginning");
    }
    // Two of them, or a crash besides.
    let length_of = |bytes: &[u8]| {
        let dir = tempfile::tempdir().unwrap();
        fs::write(path(dir.path(), 1), bytes).unwrap();
        found(dir.path()).unwrap()[0].length
    };
    let mut broken = whole.clone();
    broken[each - 1] ^= 1;
    broken[3 * each - 1] ^= 1;
    assert_eq!(length_of(&broken), 2 * each as u64);
    let mut torn = [&whole[..], &whole[..5]].concat();
    torn[each + 3] ^= 1;
    assert_eq!(length_of(&torn), 3 * each as u64);
}
