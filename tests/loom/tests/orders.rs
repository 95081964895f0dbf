//! Each test under every order of its threads' steps.

use loom::thread;
use tickstream_loom::sync::Arc;
use tickstream_loom::{mailbox, numbers, published};

#[test]
fn a_value_that_was_replaced_is_seen_at_the_next_look_and_never_an_older_one_again() {
    loom::model(|| {
        let published = Arc::new(published::Published::new(1));
        let (mut seen, first) = published::Seen::new(Arc::clone(&published));
        let writer = thread::spawn(move || {
            published.replace(2);
            published.replace(3);
        });
        let mut last = *first;
        for _ in 0..2 {
            if let Some(value) = seen.replaced() {
                assert!(*value >= last, "an older one behind {last}");
                last = *value;
            }
        }
        writer.join().expect("it doesn't panic");
        if let Some(value) = seen.replaced() {
            last = *value;
        }
        assert_eq!(last, 3, "the last value is never missed");
        assert!(seen.replaced().is_none());
    });
}

#[test]
fn a_look_that_begins_while_a_value_is_replaced_misses_none() {
    loom::model(|| {
        let published = Arc::new(published::Published::new(1));
        let writer = {
            let published = Arc::clone(&published);
            thread::spawn(move || published.replace(2))
        };
        let (mut seen, first) = published::Seen::new(published);
        writer.join().expect("it doesn't panic");
        let last = seen.replaced().map_or(*first, |value| *value);
        assert_eq!(last, 2);
    });
}

#[test]
fn what_two_threads_ask_is_taken_once_each_and_not_forgotten() {
    loom::model(|| {
        let mailbox = Arc::new(mailbox::Mailbox::default());
        let askers: Vec<_> = [7, 8]
            .into_iter()
            .map(|number| {
                let mailbox = Arc::clone(&mailbox);
                thread::spawn(move || {
                    let (answer, _) = std::sync::mpsc::channel();
                    mailbox.ask(mailbox::Request::Close(number, answer)).expect("room for two");
                })
            })
            .collect();
        let mut taken = numbers(&mailbox);
        for asker in askers {
            asker.join().expect("it doesn't panic");
        }
        // Joining has made what was asked visible, as the next pass of a shard would find it.
        taken.extend(numbers(&mailbox));
        taken.sort_unstable();
        assert_eq!(taken, [7, 8]);
        assert!(numbers(&mailbox).is_empty());
    });
}
