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
