//! `events dead-letters`: events that were rejected for good, and why.

use std::path::Path;

use super::feed::each_batch;
use super::lines::View;
use super::unknown::Unknown;
use super::{EventsError, Output, lines, say};
use crate::cli::StopFlag;
use tickstream_server::stored::Filter;
use tickstream_service::text::counted;

pub fn run(
    directory: &Path,
    filter: &Filter,
    view: View,
    (stop, out): (&StopFlag, &mut Output),
) -> Result<(), EventsError> {
    let (mut line, mut left_out, mut unknown) = (Vec::new(), 0, Unknown::default());
    let read = each_batch(directory, filter, stop, |journal, batch| {
        let letters = batch.stored.dead_letters.iter().enumerate();
        for (place, letter) in letters.filter(|(_, letter)| filter.takes_letter(letter)) {
            line.clear();
            if lines::dead_letter(&mut line, journal, batch, place, view) {
                out.write(&line)?;
                unknown.look_at_letter(journal, batch, letter);
            } else {
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
