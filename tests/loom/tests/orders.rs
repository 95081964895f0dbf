//! Each test under every order of its threads' steps.

use std::sync::Arc;

use loom::thread;
use tickstream_loom::Loom;

type Versioned = tickstream_server::versioned::Versioned<u32, Loom>;
type Reader = tickstream_server::versioned::Reader<u32, Loom>;
type Mailbox = tickstream_server::shard::Mailbox<u64, Loom>;

#[test]
fn a_value_that_was_replaced_is_seen_at_the_next_look_and_never_an_older_one_again() {
    loom::model(|| {
        let versioned = Arc::new(Versioned::new(1));
        let (mut reader, first) = Reader::new(Arc::clone(&versioned));
        let writer = thread::spawn(move || {
            versioned.replace(2);
            versioned.replace(3);
        });
        let mut last = *first;
        for _ in 0..2 {
            if let Some(value) = reader.replaced() {
                assert!(*value >= last, "an older one behind {last}");
                last = *value;
            }
        }
        writer.join().expect("it doesn't panic");
        if let Some(value) = reader.replaced() {
            last = *value;
        }
        assert_eq!(last, 3, "the last value is never missed");
        assert!(reader.replaced().is_none());
    });
}

#[test]
fn a_look_that_begins_while_a_value_is_replaced_misses_none() {
    loom::model(|| {
        let versioned = Arc::new(Versioned::new(1));
        let writer = {
            let versioned = Arc::clone(&versioned);
            thread::spawn(move || versioned.replace(2))
        };
        let (mut reader, first) = Reader::new(versioned);
        writer.join().expect("it doesn't panic");
        let last = reader.replaced().map_or(*first, |value| *value);
        assert_eq!(last, 2);
    });
}

#[test]
fn what_two_threads_ask_is_taken_once_each_and_not_forgotten() {
    loom::model(|| {
        let mailbox = Arc::new(Mailbox::default());
        let askers: Vec<_> = [7, 8]
            .into_iter()
            .map(|number| {
                let mailbox = Arc::clone(&mailbox);
                thread::spawn(move || {
                    mailbox.ask(number).expect("room for two");
                })
            })
            .collect();
        let mut taken = mailbox.take();
        for asker in askers {
            asker.join().expect("it doesn't panic");
        }
        // Joining has made what was asked visible, as the next pass of a shard would find it.
        taken.extend(mailbox.take());
        taken.sort_unstable();
        assert_eq!(taken, [7, 8]);
        assert!(mailbox.take().is_empty());
    });
}
