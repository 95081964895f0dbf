//! `events export`: every event, journal by journal.

use std::path::Path;

use super::feed::each_batch;
use super::lines::View;
use super::unknown::Unknown;
use super::{EventsError, Output, lines};
use crate::cli::StopFlag;
use tickstream_server::stored::Filter;

pub fn run(
    directory: &Path,
    filter: &Filter,
    view: View,
    (stop, out): (&StopFlag, &mut Output),
) -> Result<(), EventsError> {
    let (mut line, mut unknown) = (Vec::new(), Unknown::default());
    let read = each_batch(directory, filter, stop, |journal, batch| {
        for (index, _) in batch.stored.events.iter().enumerate().filter(|(_, event)| filter.takes(event)) {
            line.clear();
            lines::event(&mut line, journal, batch, index, view);
            out.write(&line)?;
            unknown.look_at(journal, batch, index);
        }
        Ok(())
    });
    unknown.sum_up();
    read
}
