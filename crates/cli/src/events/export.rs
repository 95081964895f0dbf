//! `events export`: every event, journal by journal.

use std::path::Path;

use super::feed::each_batch;
use super::filter::Filter;
use super::{EventsError, Output, lines};

pub fn run(directory: &Path, filter: &Filter, bare: bool, out: &mut Output) -> Result<(), EventsError> {
    let mut line = Vec::new();
    let damage = each_batch(directory, filter, |journal, batch| {
        for (index, _) in batch.stored.events.iter().enumerate().filter(|(_, event)| filter.takes(event)) {
            line.clear();
            lines::event(&mut line, journal, batch, index, bare);
            out.write(&line)?;
        }
        Ok(())
    })?;
    damage.map_or(Ok(()), Err)
}
