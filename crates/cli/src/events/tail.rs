//! `events tail`: the last events of all journals together, and those that come.

use std::collections::VecDeque;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::feed::{Damage, Feed, segments};
use super::journals::{self, Place};
use super::lines::View;
use super::unknown::Unknown;
use super::{EventsError, Output, lines};
use crate::cli::StopFlag;
use tickstream_server::stored::Filter;

/// Interval at which journals are looked at for more.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Interval at which the directory is looked at for new journals: a new process may have others.
const SEARCH_INTERVAL: Duration = Duration::from_secs(2);

/// A line, and where it belongs: by the time of receipt, then by place.
type Placed = ((u64, usize, u64, usize), Vec<u8>);

pub fn run(
    directory: &Path,
    (count, follow): (usize, bool),
    (filter, view): (&Filter, View),
    (stop, out): (&StopFlag, &mut Output),
) -> Result<(), EventsError> {
    let places = journals::find(directory)?;
    let mut tail = Tail {
        feeds: Vec::new(),
        damage: Damage::among(places.len()),
        printing: Printing { filter, view, unknown: Unknown::default() },
    };
    let mut last = Vec::new();
    for (number, place) in places.into_iter().enumerate() {
        if stop.is_set() {
            return Err(EventsError::Interrupted);
        }
        last.extend(tail.begin(&place, number, count)?);
    }
    last.sort_unstable();
    for (_, line) in last.iter().skip(last.len().saturating_sub(count)) {
        out.write(line)?;
    }
    drop(last);
    if follow {
        tail.go_on(directory, stop, out)?;
    }
    tail.printing.unknown.sum_up();
    tail.damage.outcome()
}

/// The journals that are read.
struct Tail<'a> {
    feeds: Vec<Followed>,
    damage: Damage,
    printing: Printing<'a>,
}

/// The events that are printed, and their form.
struct Printing<'a> {
    filter: &'a Filter,
    view: View,
    unknown: Unknown,
}

struct Followed {
    feed: Feed,
    /// Not damaged where it is read next.
    is_sound: bool,
}

impl Tail<'_> {
    /// The last lines of a journal, as far as it can be read. It is followed from the place behind them.
    fn begin(&mut self, place: &Place, number: usize, count: usize) -> Result<VecDeque<Placed>, EventsError> {
        let Ending { feed, lines, is_sound, error } = ending(place, number, count, &mut self.printing)?;
        if let Some(error) = error {
            self.damage.found(error);
        }
        self.feeds.push(Followed { feed, is_sound });
        Ok(lines)
    }

    /// Prints what comes, until a signal does.
    fn go_on(&mut self, directory: &Path, stop: &StopFlag, out: &mut Output) -> Result<(), EventsError> {
        let mut searched = Instant::now();
        while !stop.is_set() && self.feeds.iter().any(|followed| followed.is_sound) {
            for (number, followed) in
                self.feeds.iter_mut().enumerate().filter(|(_, followed)| followed.is_sound)
            {
                let mut lines = VecDeque::new();
                while !stop.is_set() {
                    match read(&mut followed.feed, number, usize::MAX, &mut self.printing, &mut lines) {
                        Ok(true) => lines.drain(..).try_for_each(|(_, line)| out.write(&line))?,
                        Ok(false) => break,
                        Err(error) => {
                            followed.is_sound = false;
                            self.damage.found(error);
                            break;
                        }
                    }
                }
            }
            // Also where nothing came: whoever has gone is noticed at the next line.
            out.flush()?;
            thread::sleep(LOOK_INTERVAL);
            if searched.elapsed() >= SEARCH_INTERVAL {
                searched = Instant::now();
                self.search(directory)?;
            }
        }
        Ok(())
    }

    /// Follows journals that weren't there.
    fn search(&mut self, directory: &Path) -> Result<(), EventsError> {
        for place in journals::find(directory)? {
            if self.feeds.iter().all(|followed| followed.feed.place != place) {
                self.damage.checks_another();
                self.feeds.push(Followed { feed: Feed::new(place, 0), is_sound: true });
            }
        }
        Ok(())
    }
}

/// The end of a journal.
struct Ending {
    /// Behind the lines.
    feed: Feed,
    lines: VecDeque<Placed>,
    /// The feed can be read on.
    is_sound: bool,
    /// Damage on the way.
    error: Option<EventsError>,
}

/// The last lines of a journal, and the place behind them. Reads as few of its last segments as have so many, twice as
/// many each time. Damage in an older segment ends that, and leaves what newer ones have.
fn ending(
    place: &Place,
    number: usize,
    count: usize,
    printing: &mut Printing<'_>,
) -> Result<Ending, EventsError> {
    let segments = match segments(place) {
        Ok(segments) => segments,
        Err(error) => {
            let (feed, lines) = (Feed::new(place.clone(), 0), VecDeque::new());
            return Ok(Ending { feed, lines, is_sound: false, error: Some(error) });
        }
    };
    let mut newer: Option<Ending> = None;
    let mut back = 1;
    loop {
        let from = segments.len().saturating_sub(back);
        let mut feed = Feed::new(place.clone(), segments.get(from).copied().unwrap_or(0));
        let mut lines = VecDeque::new();
        let read = loop {
            match read(&mut feed, number, count, printing, &mut lines) {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        match (read, newer.take()) {
            (Err(error), Some(newer)) => return Ok(Ending { error: Some(error), ..newer }),
            (Err(error), None) => return Ok(Ending { feed, lines, is_sound: false, error: Some(error) }),
            (Ok(()), _) if from == 0 || lines.len() >= count => {
                return Ok(Ending { feed, lines, is_sound: true, error: None });
            }
            (Ok(()), _) => newer = Some(Ending { feed, lines, is_sound: true, error: None }),
        }
        back *= 2;
    }
}

/// Adds the lines of the next batch, and keeps the last `most`. Whether there was one.
fn read(
    feed: &mut Feed,
    number: usize,
    most: usize,
    printing: &mut Printing<'_>,
    lines: &mut VecDeque<Placed>,
) -> Result<bool, EventsError> {
    let Some(batch) = feed.next()? else { return Ok(false) };
    if batch.is_meant(printing.filter) {
        for (index, event) in batch.stored.events.iter().enumerate() {
            if printing.filter.takes(event) {
                let mut line = Vec::new();
                lines::event(&mut line, &feed.place.name, &batch, index, printing.view);
                printing.unknown.look_at(&feed.place.name, &batch, index);
                lines.push_back(((batch.stored.receive_time_ns, number, batch.record, index), line));
            }
            if lines.len() > most {
                lines.pop_front();
            }
        }
    }
    Ok(true)
}
