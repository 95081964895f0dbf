//! `events verify`: checks every byte of every journal.

use std::path::Path;
use std::thread;
use std::time::Duration;

use tickstream_journal::{self as journal, FileDirectory, Report, Tail};

use super::feed::Feed;
use super::journals::Place;
use super::{EventsError, Output, journals, lines};
use crate::cli::StopFlag;
use tickstream_service::text::{counted, one_line};

/// Looks at what seems to be damaged: it may have been written just then.
const LOOKS: usize = 3;
const LOOK_INTERVAL: Duration = Duration::from_millis(300);

pub fn run(directory: &Path, (stop, out): (&StopFlag, &mut Output)) -> Result<(), EventsError> {
    let places = journals::find(directory)?;
    let (mut damaged, checked) = (0, places.len());
    for place in places {
        if stop.is_set() {
            return Err(EventsError::Interrupted);
        }
        let text = match checked_again(&place) {
            Ok(report) => {
                damaged += usize::from(report.damage.is_some());
                let first_ns = if report.records > 0 { first_time_ns(&place) } else { None };
                text(&place, &report, first_ns)
            }
            Err(error) => {
                damaged += 1;
                format!("{}\n  UNREADABLE: {}\n", place.path.display(), one_line(&error.to_string()))
            }
        };
        out.write(text.as_bytes())?;
        out.flush()?;
    }
    if damaged > 0 { Err(EventsError::Damaged { damaged, checked }) } else { Ok(()) }
}

/// The report of a journal; damage is believed if it stays.
fn checked_again(place: &Place) -> Result<Report, EventsError> {
    let check = || {
        journal::verify(&mut FileDirectory::open(&place.path))
            .map_err(|source| EventsError::Journal { path: place.path.clone(), source })
    };
    let mut report = check()?;
    for _ in 1..LOOKS {
        if report.damage.is_none() {
            break;
        }
        thread::sleep(LOOK_INTERVAL);
        report = check()?;
    }
    Ok(report)
}

/// When the first record was received; `None` where it can't be read.
fn first_time_ns(place: &Place) -> Option<u64> {
    Some(Feed::new(place.clone(), 0).next().ok()??.stored.receive_time_ns)
}

fn text(place: &Place, report: &Report, first_ns: Option<u64>) -> String {
    let mut text = format!("{}\n", place.path.display());
    let mut say = |line: String| text.push_str(&format!("  {line}\n"));
    if let Some(journal) = report.journal {
        say(format!("journal {journal}"));
    }
    say([
        counted(report.segments, "segment"),
        counted(report.records, "record"),
        counted(report.events, "event"),
        counted(report.bytes, "byte"),
    ]
    .join(", "));
    if report.records > 0 {
        say(format!("records {} to {}", report.first_sequence, report.last_sequence));
        let first = first_ns.map_or_else(|| "?".to_owned(), lines::time);
        say(format!("from {first} to {}", lines::time(report.last_time_ns)));
    }
    match (&report.damage, report.tail) {
        (Some(damage), _) => say(format!(
            "DAMAGED: {damage}. What comes behind it wasn't counted. docs/journal.md has more on damage"
        )),
        (None, Tail::Clean) => say("sound, to its end".to_owned()),
        (None, Tail::Torn { file, offset }) => say(format!(
            "sound; at the end, from offset {offset} of {file} on, is a write that isn't complete: it is under way, or \
             a crash cut it off. It was never acknowledged, and the next start removes it"
        )),
    }
    text
}
