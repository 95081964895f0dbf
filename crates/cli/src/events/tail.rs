//! `events tail`: the last events of all journals together, and those that come.

use std::collections::VecDeque;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::feed::{Feed, segments};
use super::filter::Filter;
use super::journals::{self, Place};
use super::{EventsError, Output, lines};

/// How often to look for more.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// How often to look for journals that weren't there: a new process may have others.
const SEARCH_INTERVAL: Duration = Duration::from_secs(2);

/// A line, and where it belongs: by the time of receipt, then by place.
type Placed = ((u64, usize, u64, usize), Vec<u8>);

pub fn run(
    directory: &Path,
    count: usize,
    follow: bool,
    filter: &Filter,
    out: &mut Output,
) -> Result<(), EventsError> {
    let (mut feeds, mut last) = (Vec::new(), Vec::new());
    for (number, place) in journals::find(directory)?.into_iter().enumerate() {
        let (feed, lines) = ending(&place, number, count, filter)?;
        feeds.push(feed);
        last.extend(lines);
    }
    last.sort_unstable();
    for (_, line) in last.iter().skip(last.len().saturating_sub(count)) {
        out.write(line)?;
    }
    drop(last);
    if follow { go_on(directory, feeds, filter, out) } else { Ok(()) }
}

/// Prints what comes, for ever.
fn go_on(
    directory: &Path,
    mut feeds: Vec<Feed>,
    filter: &Filter,
    out: &mut Output,
) -> Result<(), EventsError> {
    let mut searched = Instant::now();
    loop {
        for (number, feed) in feeds.iter_mut().enumerate() {
            let mut lines = VecDeque::new();
            while read(feed, number, filter, usize::MAX, &mut lines)? {
                lines.drain(..).try_for_each(|(_, line)| out.write(&line))?;
            }
        }
        // Also where nothing came: whoever has gone is noticed at the next line.
        out.flush()?;
        thread::sleep(LOOK_INTERVAL);
        if searched.elapsed() >= SEARCH_INTERVAL {
            searched = Instant::now();
            let found = journals::find(directory)?;
            let is_new = |place: &Place| feeds.iter().all(|feed: &Feed| feed.place != *place);
            let new: Vec<_> = found.into_iter().filter(is_new).map(|place| Feed::new(place, 0)).collect();
            feeds.extend(new);
        }
    }
}

/// The last lines of a journal, and the place behind them. Reads as few of its last segments as have so many, twice as
/// many each time.
fn ending(
    place: &Place,
    number: usize,
    count: usize,
    filter: &Filter,
) -> Result<(Feed, VecDeque<Placed>), EventsError> {
    let segments = segments(place)?;
    let mut back = 1;
    loop {
        let from = segments.len().saturating_sub(back);
        let mut feed = Feed::new(place.clone(), segments.get(from).copied().unwrap_or(0));
        let mut lines = VecDeque::new();
        while read(&mut feed, number, filter, count, &mut lines)? {}
        if from == 0 || lines.len() >= count {
            return Ok((feed, lines));
        }
        back *= 2;
    }
}

/// Adds the lines of the next batch, and keeps the last `most`. Whether there was one.
fn read(
    feed: &mut Feed,
    number: usize,
    filter: &Filter,
    most: usize,
    lines: &mut VecDeque<Placed>,
) -> Result<bool, EventsError> {
    let Some(batch) = feed.next()? else { return Ok(false) };
    if filter.takes_batch(&batch) {
        for (index, event) in batch.stored.events.iter().enumerate() {
            if filter.takes(event) {
                let mut line = Vec::new();
                lines::event(&mut line, &feed.place.name, &batch, index, false);
                lines.push_back(((batch.stored.receive_time_ns, number, batch.record, index), line));
            }
            if lines.len() > most {
                lines.pop_front();
            }
        }
    }
    Ok(true)
}
