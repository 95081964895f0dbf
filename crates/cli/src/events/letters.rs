//! `events dead-letters`: what was rejected for good, and why.

use std::io::{self, Write};
use std::path::Path;

use tickstream_schema::events::DeadLetter;

use super::feed::{Batch, each_batch};
use super::filter::Filter;
use super::{EventsError, Output, lines};
use tickstream_client::json::write_event;

pub fn run(directory: &Path, filter: &Filter, replay: bool, out: &mut Output) -> Result<(), EventsError> {
    let (mut line, mut left_out) = (Vec::new(), 0_u64);
    let damage = each_batch(directory, filter, |journal, batch| {
        for letter in &batch.stored.dead_letters {
            line.clear();
            if write(&mut line, filter, replay, (journal, batch), letter) {
                out.write(&line)?;
            } else if replay && filter.kinds.is_empty() {
                left_out += 1;
            }
        }
        Ok(())
    })?;
    if left_out > 0 {
        out.flush()?;
        // Nobody to tell is no reason to fail.
        let _ = writeln!(io::stderr(), "left out {left_out} dead letters whose events can't be read as such");
    }
    damage.map_or(Ok(()), Err)
}

/// Whether there is a line for this letter.
fn write(
    line: &mut Vec<u8>,
    filter: &Filter,
    replay: bool,
    (journal, batch): (&str, &Batch),
    letter: &DeadLetter,
) -> bool {
    let event = lines::event_of(letter);
    // Of what can't be read the kind isn't known.
    let is_meant = filter.kinds.is_empty() || event.as_ref().is_some_and(|event| filter.takes(event));
    match event {
        _ if !is_meant => return false,
        Some(event) if replay => {
            write_event(&event, line);
            line.push(b'\n');
        }
        None if replay => return false,
        _ => lines::letter(line, journal, batch, letter),
    }
    true
}
