//! `events export`: every event, journal by journal.

use std::path::Path;

use super::feed::Feed;
use super::filter::Filter;
use super::{EventsError, Output, journals, lines};

pub fn run(directory: &Path, filter: &Filter, bare: bool, out: &mut Output) -> Result<(), EventsError> {
    let mut line = Vec::new();
    let mut first_error = None;
    for place in journals::find(directory)? {
        let mut feed = Feed::new(place, 0);
        loop {
            let batch = match feed.next() {
                Ok(Some(batch)) => batch,
                Ok(None) => break,
                // The others may be sound.
                Err(error) => {
                    first_error.get_or_insert(error);
                    break;
                }
            };
            if !filter.takes_batch(&batch) {
                continue;
            }
            for (index, _) in batch.stored.events.iter().enumerate().filter(|(_, event)| filter.takes(event))
            {
                line.clear();
                lines::event(&mut line, &feed.place.name, &batch, index, bare);
                out.write(&line)?;
            }
        }
    }
    first_error.map_or(Ok(()), Err)
}
