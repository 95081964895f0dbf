//! `events dead-letters`: events that were rejected for good, and why.

use std::path::Path;

use super::feed::{Batch, each_batch};
use super::filter::Filter;
use super::unknown::Unknown;
use super::{EventsError, Output, lines, say};
use crate::cli::StopFlag;
use tickstream_server::text::counted;

pub fn run(
    directory: &Path,
    filter: &Filter,
    replay: bool,
    (stop, out): (&StopFlag, &mut Output),
) -> Result<(), EventsError> {
    let (mut line, mut left_out, mut unknown) = (Vec::new(), 0, Unknown::default());
    let read = each_batch(directory, filter, stop, |journal, batch| {
        for (place, letter) in batch.stored.dead_letters.iter().enumerate() {
            line.clear();
            if write(&mut line, filter, replay, (journal, batch, place)) {
                out.write(&line)?;
                unknown.look_at_letter(journal, batch, letter);
            } else if replay && filter.kinds.is_empty() {
                left_out += 1;
            }
        }
        Ok(())
    });
    unknown.sum_up();
    if left_out > 0 {
        out.flush()?;
        let (letters, events) =
            (counted(left_out, "dead letter"), if left_out == 1 { "event" } else { "events" });
        say(&format!("left out {letters} whose {events} can't be read"));
    }
    read
}

/// Whether there is a line for this letter.
fn write(
    line: &mut Vec<u8>,
    filter: &Filter,
    replay: bool,
    (journal, batch, place): (&str, &Batch, usize),
) -> bool {
    let letter = &batch.stored.dead_letters[place];
    let event = lines::event_of(letter);
    // Of what can't be read the kind isn't known.
    let is_meant = filter.kinds.is_empty() || event.as_ref().is_some_and(|event| filter.takes(event));
    match event {
        _ if !is_meant => return false,
        Some(event) if replay => {
            lines::replayed(line, &event);
        }
        None if replay => return false,
        _ => lines::dead_letter(line, journal, batch, place),
    }
    true
}
