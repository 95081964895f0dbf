//! Lines of the screen: all of them as plain text, or those that a terminal has room for.

use std::collections::BTreeMap;
use std::time::Duration;

use super::controls::{Controls, View};
use super::history::{Change, EventTotals, History, STREAMS, Sample, of_stream, quantile};
use super::parts;
use super::text::{Cell, Line, Style, numbers, printable, table, words};
use super::units::{age, byte_rate, bytes, count, decade, duration, latency, percent, rate};
use super::views;
use tickstream_server::admin::report::{ConnectionsReport, Report, ShardReport};
use tickstream_service::text::noun_for;

/// Rows above everything else: the server, its state, and an empty one.
pub const HEAD_ROWS: usize = 3;
/// Columns from which on tables have bars and long titles.
const WIDE: usize = 112;
/// Rows of the longest lists in plain text.
const PLAIN_ROWS: usize = 12;
/// Characters of a bar.
const BAR: usize = 16;
/// Columns at which a figure, the words about it, and the line of its last values begin.
const COLUMNS: [usize; 3] = [18, 32, 62];
/// Blocks of a higher rank are lists, of which some lines say enough.
const LISTS_RANK: usize = 3;
/// Lines that any other block gets before lists grow.
const FAIR_LINES: usize = 13;
/// Characters before a row of the heat map.
const SCALE: usize = 9;
/// Column of limits, beside closes.
const LIMITS_AT: usize = 52;
const LIMITS_AT_NARROW: usize = 41;

/// Content to show.
#[derive(Clone, Copy)]
pub struct Content<'a> {
    /// At least one answer.
    pub history: &'a History,
    /// The slowest connections, once they are known.
    pub slowest: Option<&'a ConnectionsReport>,
    /// Absence of an answer.
    pub silence: Option<Silence<'a>>,
}

/// Absence of an answer.
#[derive(Clone, Copy)]
pub struct Silence<'a> {
    /// For how long.
    pub lasts: Duration,
    /// Why.
    pub why: &'a str,
}

/// Lines that belong together.
struct Block {
    lines: Vec<Line>,
    /// Lines without which it isn't shown.
    least: usize,
    /// The lowest gets room first.
    rank: usize,
}

/// All of it, without colours, lines and bars.
pub fn plain(content: &Content<'_>) -> String {
    let mut lines = head(content, None);
    for block in blocks(content, None) {
        lines.push(Line::default());
        lines.extend(block.lines.into_iter().take(PLAIN_ROWS + 1));
    }
    lines.iter().map(|line| line.plain() + "\n").collect()
}

/// As much of it as fits on a terminal, at most as many lines as it has rows.
pub fn drawn(
    content: &Content<'_>,
    controls: &mut Controls,
    (width, height): (usize, usize),
    colour: bool,
) -> Vec<String> {
    let mut lines = head(content, Some(width));
    let scrolled = match controls.view {
        _ if controls.has_help => None,
        View::Overview => None,
        View::Shards => Some(views::shards(content.history, controls)),
        View::Connections => Some(views::connections(content.slowest, controls, is_narrow(Some(width)))),
    };
    if controls.has_help || scrolled.is_some() {
        lines.truncate(HEAD_ROWS);
    }
    match scrolled {
        _ if controls.has_help => lines.extend(views::help(controls)),
        Some(scrolled) => lines.extend(scrolled.fitted(controls, height.saturating_sub(HEAD_ROWS))),
        None => {
            for block in fitted(blocks(content, Some(width)), height.saturating_sub(lines.len())) {
                lines.push(Line::default());
                lines.extend(block);
            }
        }
    }
    lines.iter().take(height).map(|line| line.painted(width, colour)).collect()
}

/// Gives room to blocks by rank: first what each needs at least, at last what is left, line by line. They stay in order;
/// each has an empty line before it.
fn fitted(mut blocks: Vec<Block>, mut room: usize) -> Vec<Vec<Line>> {
    let mut given = vec![0; blocks.len()];
    let mut by_rank: Vec<usize> = (0..blocks.len()).collect();
    by_rank.sort_unstable_by_key(|&at| blocks[at].rank);
    for &at in &by_rank {
        let least = blocks[at].least.min(blocks[at].lines.len());
        if room > least {
            given[at] = least;
            room -= least + 1;
        }
    }
    // Then the short ones, whole: shards, streams and totals say most.
    for &at in by_rank.iter().filter(|&&at| blocks[at].rank < LISTS_RANK) {
        if given[at] > 0 {
            let more = blocks[at].lines.len().min(FAIR_LINES).saturating_sub(given[at]).min(room);
            given[at] += more;
            room -= more;
        }
    }
    let mut is_used = true;
    while room > 0 && std::mem::take(&mut is_used) {
        for &at in &by_rank {
            if room > 0 && given[at] > 0 && given[at] < blocks[at].lines.len() {
                given[at] += 1;
                room -= 1;
                is_used = true;
            }
        }
    }
    let shown = blocks.iter_mut().zip(given).filter(|(_, given)| *given > 0);
    shown.map(|(block, given)| block.lines.drain(..given).collect()).collect()
}

/// The server, its state, and six figures; `width` is the terminal's, if there is one.
fn head(content: &Content<'_>, width: Option<usize>) -> Vec<Line> {
    let (report, history) = (content.history.report(), content.history);
    let lately = history.lately();
    let (mood, state, said) = state(content);
    let cpu = lately.rate(|sample| sample.cpu_ms).map(|ms| ms / 1e3);
    let up = report.now_unix_ms.saturating_sub(report.started_unix_ms) / 1_000 * 1_000;
    let mut first = Line::default()
        .with(Style::Bold, format!("tickstream {}", printable(&report.version)))
        .with(Style::Plain, format!("  {}  ", printable(&report.address)))
        .with(mood, state)
        .with(Style::Plain, format!("  up {}", duration(up)))
        .with(Style::Plain, if is_narrow(width) { String::new() } else { format!("  pid {}", report.pid) })
        .with(
            Style::Plain,
            format!("  {}  CPU {}", bytes(report.process.resident_bytes as f64), percent(cpu)),
        );
    if report.process.log_lines_lost > 0 {
        first = first.with(Style::Warn, format!("  {} log lines lost", count(report.process.log_lines_lost)));
    }
    let mut second = Line::default().with(mood, said);
    if let Some(width) = width {
        const KEYS: &str = "? help  q quits";
        second = second.then_at(width.saturating_sub(KEYS.len()), Line::default().with(Style::Dim, KEYS));
    }
    let mut lines = vec![first, second, Line::default()];
    lines.extend(figures(history, width));
    lines
}

/// True for a terminal that has no room for all columns.
fn is_narrow(width: Option<usize>) -> bool {
    width.is_some_and(|width| width < WIDE)
}

/// The server's state: a style, a word and a sentence.
fn state(content: &Content<'_>) -> (Style, String, String) {
    let report = content.history.report();
    let numbers = |is_meant: fn(&ShardReport) -> bool| {
        let shards: Vec<_> = report
            .shards
            .iter()
            .filter(|shard| is_meant(shard))
            .map(|shard| shard.shard.to_string())
            .collect();
        (!shards.is_empty()).then(|| shards.join(", "))
    };
    let word = printable(&report.state);
    if let Some(Silence { lasts, why }) = content.silence {
        let was = if word == "serving" { String::new() } else { format!(" It was {word}.") };
        let said = format!("No answer for {} s: {why}. The figures are its last ones.{was}", lasts.as_secs());
        return (Style::Bad, "no answer".to_owned(), said);
    }
    if let Some(shards) = numbers(|shard| shard.hung_ms > 0) {
        return (Style::Bad, "unhealthy".to_owned(), format!("The loop of shard {shards} doesn't turn."));
    }
    if word != "serving" {
        return (
            Style::Warn,
            word,
            "It takes no new connections, and says goodbye to those it has.".to_owned(),
        );
    }
    if let Some(shards) = numbers(disk_is_full) {
        let said = format!(
            "The disk of shard {shards} is full: events are refused until there is room. Ticks go on."
        );
        return (Style::Bad, "disk full".to_owned(), said);
    }
    if let Some(shards) = numbers(|shard| !shard.answered && !shard.retired) {
        return (
            Style::Warn,
            word,
            format!("No answer in time from shard {shards}, whose figures are its last ones."),
        );
    }
    (Style::Good, word, "Every shard responds.".to_owned())
}

fn disk_is_full(shard: &ShardReport) -> bool {
    shard.events.as_ref().is_some_and(|events| events.journal.full_since_unix_ms.is_some())
}

fn figures(history: &History, width: Option<usize>) -> Vec<Line> {
    let (report, newest, lately) = (history.report(), history.newest(), history.lately());
    let bounds = &report.latency_bounds_ms;
    let frames = Some(lately.frames()).filter(|frames| frames.iter().any(|frames| *frames > 0));
    // Where only minutes are streamed, most stretches of ten seconds have nothing to tell.
    let frames = frames.unwrap_or_else(|| history.recently().frames());
    let at = |q: f64| quantile(&frames, bounds, q);
    let busy = lately.busy();
    let mean = busy.as_ref().map(|busy| busy.iter().sum::<f64>() / busy.len().max(1) as f64);
    let unsent = if newest.unsent_ms > 0 {
        format!("oldest unsent {}", duration(newest.unsent_ms))
    } else {
        "nothing unsent".to_owned()
    };
    let length = width.map_or(0, |width| width.saturating_sub(COLUMNS[2]));
    let line =
        |label: &str, figure: String, words: String, least: f64, of: &dyn Fn(Change<'_>) -> Option<f64>| {
            let drawn =
                if length > 0 { parts::line(&history.series(length, of), least) } else { String::new() };
            Line::default()
                .with(Style::Dim, label)
                .then_at(COLUMNS[0], Line::default().with(Style::Bold, figure))
                .then_at(COLUMNS[1], Line::default().with(Style::Plain, words))
                .then_at(COLUMNS[2], Line::default().with(Style::Accent, drawn))
        };
    let gauge = |of: fn(&Sample) -> u64| move |change: Change<'_>| Some(of(change.to) as f64);
    let risen = |of: fn(&Sample) -> u64| move |change: Change<'_>| change.rate(of);
    let peak = |write: fn(Option<f64>) -> String, of: &dyn Fn(Change<'_>) -> Option<f64>| {
        let highest = history.series(usize::MAX, of).into_iter().flatten().reduce(f64::max);
        highest.map_or_else(String::new, |highest| format!("peak {}", write(Some(highest))))
    };
    let (accepted, ended) = (rate(lately.rate(|s| s.accepted)), rate(lately.rate(|s| s.ended)));
    let p99 = |change: Change<'_>| quantile(&change.frames(), bounds, 0.99);
    let busiest = |change: Change<'_>| change.busy()?.into_iter().reduce(f64::max);
    let mut lines = vec![
        line(
            "Connections",
            count(newest.connections),
            format!("+{accepted}  -{ended}"),
            1.0,
            &gauge(|s| s.connections),
        ),
        line(
            "Ticks delivered",
            rate(lately.rate(|s| s.ticks)),
            peak(rate, &risen(|s| s.ticks)),
            1.0,
            &risen(|s| s.ticks),
        ),
        line(
            "Bytes sent",
            byte_rate(lately.rate(|s| s.bytes)),
            peak(byte_rate, &risen(|s| s.bytes)),
            1.0,
            &risen(|s| s.bytes),
        ),
        line(
            "Latency, p99",
            latency(at(0.99)),
            format!("p50 {}  p95 {}", latency(at(0.5)), latency(at(0.95))),
            0.1,
            &p99,
        ),
        line(
            "Busiest loop",
            percent(busy.and_then(|busy| busy.into_iter().reduce(f64::max))),
            format!("mean {} of {}", percent(mean), report.shards.len()),
            0.1,
            &busiest,
        ),
        line("Lagging", count(newest.lagging), unsent, 1.0, &gauge(|s| s.lagging)),
    ];
    if let Some(events) = newest.events {
        let of = |of: fn(&EventTotals) -> u64| move |s: &Sample| s.events.as_ref().map_or(0, of);
        let (accepted, rejected, waiting, stored) =
            (of(|e| e.accepted), of(|e| e.rejected), of(|e| e.unacknowledged), of(|e| e.disk_bytes));
        let accepted = |change: Change<'_>| change.rate(accepted);
        let rejected = |change: Change<'_>| change.rate(rejected);
        let duplicates = format!("{} known already", rate(lately.rate(of(|e| e.duplicates))));
        lines.push(line("Events stored", rate(accepted(lately)), peak(rate, &accepted), 1.0, &accepted));
        lines.push(line("Events rejected", rate(rejected(lately)), duplicates, 1.0, &rejected));
        let waiting = |change: Change<'_>| Some(waiting(change.to) as f64);
        let batches = "batches under way".to_owned();
        lines.push(line("Not acknowledged", count(events.unacknowledged), batches, 1.0, &waiting));
        let stored = |change: Change<'_>| Some(stored(change.to) as f64);
        let segments = format!("{} {}", count(events.segments), noun_for(events.segments, "segment"));
        lines.push(line("Journal", bytes(events.disk_bytes as f64), segments, 1.0, &stored));
    }
    lines
}

/// Everything below the figures.
fn blocks(content: &Content<'_>, width: Option<usize>) -> Vec<Block> {
    let (history, report) = (content.history, content.history.report());
    let mut blocks = Vec::new();
    if let Some(width) = width {
        let lines = heat(history, width.saturating_sub(SCALE));
        blocks.push(Block { least: lines.len(), lines, rank: LISTS_RANK + 2 });
    }
    let block = |lines: Vec<Line>, least, rank| Block { lines, least, rank };
    let is_narrow = is_narrow(width);
    blocks.push(block(shards(history, width.is_some() && !is_narrow), 3, 0));
    blocks.push(block(streams(history, is_narrow), 3, 1));
    blocks.push(block(totals(history, is_narrow), 3, 2));
    if let Some(slowest) = content.slowest {
        blocks.push(block(connections(slowest, is_narrow), 4, LISTS_RANK + 1));
    }
    blocks.push(block(events(report), 4, LISTS_RANK));
    blocks
}

fn heat(history: &History, columns: usize) -> Vec<Line> {
    let rows = parts::heat(&history.frames(columns), &history.report().latency_bounds_ms);
    let title = Line::default().with(Style::Dim, "Publish latency, from few (░) to many (█) frames");
    let row = |(lower, shades): (Option<f64>, String)| {
        let label = lower.map_or_else(String::new, |ms| format!("{:>w$}", decade(ms), w = SCALE - 2));
        Line::default().with(Style::Dim, label).then_at(SCALE, Line::default().with(Style::Accent, shades))
    };
    std::iter::once(title).chain(rows.into_iter().map(row)).collect()
}

fn shards(history: &History, has_bars: bool) -> Vec<Line> {
    let (shards, lately) = (&history.report().shards, history.lately());
    let most = shards.iter().map(|shard| shard.connections).max().unwrap_or(0).max(1);
    let busy = lately.busy();
    let bar = |part: f64| (Style::Accent, if has_bars { parts::bar(part, BAR) } else { String::new() });
    let row = |(at, shard): (usize, &ShardReport)| {
        let busy = busy.as_ref().and_then(|busy| busy.get(at).copied());
        let ticks = lately.rate(|sample| sample.shard_ticks.get(at).copied().unwrap_or(0));
        let name = match shard {
            ShardReport { retired: true, .. } => (Style::Dim, format!("{} ended", shard.shard)),
            ShardReport { hung_ms: 1.., .. } => (Style::Bad, format!("{} hangs", shard.shard)),
            ShardReport { answered: false, .. } => (Style::Warn, format!("{} ?", shard.shard)),
            _ => (Style::Plain, shard.shard.to_string()),
        };
        vec![
            name,
            number(shard.cpu as u64),
            number(shard.connections.into()),
            bar(f64::from(shard.connections) / f64::from(most)),
            warned(shard.lagging.into()),
            number(shard.unauthenticated.into()),
            (Style::Plain, rate(ticks)),
            (Style::Plain, percent(busy)),
            bar(busy.unwrap_or(0.0)),
        ]
    };
    let bar_width = if has_bars { BAR } else { 0 };
    let columns = [
        words("Shard", 7),
        numbers("CPU", 3),
        numbers("connections", 11),
        words("", bar_width),
        numbers("lagging", 7),
        numbers("not authenticated", 7),
        numbers("ticks", 11),
        numbers("busy", 6),
        words("", bar_width),
    ];
    table(&columns, &shards.iter().enumerate().map(row).collect::<Vec<_>>())
}

fn streams(history: &History, is_narrow: bool) -> Vec<Line> {
    let (shards, lately) = (&history.report().shards, history.lately());
    let row = |(at, name): (usize, &&str)| {
        let all = || of_stream(shards, name);
        let unsent = all().map(|stream| stream.oldest_unsent_ms).max().filter(|ms| *ms > 0);
        vec![
            (Style::Plain, (*name).to_owned()),
            number(all().map(|stream| u64::from(stream.subscribers)).sum()),
            (Style::Plain, rate(lately.rate(|sample| sample.stream_ticks[at]))),
            warned(all().map(|stream| u64::from(stream.lagging)).sum()),
            (Style::Plain, unsent.map_or_else(|| super::units::NONE.to_owned(), duration)),
            number(all().map(|stream| stream.frames_replayed).sum()),
            number(all().map(|stream| stream.ticks_late).sum()),
            number(all().map(|stream| stream.ticks_skipped).sum()),
        ]
    };
    let columns = [
        words("Stream", 7),
        numbers("subscribers", 11),
        numbers("ticks", 11),
        numbers("lagging", 7),
        if is_narrow { numbers("unsent", 8) } else { numbers("oldest unsent", 13) },
        if is_narrow { numbers("replayed", 8) } else { numbers("frames replayed", 15) },
        if is_narrow { numbers("late", 6) } else { numbers("ticks late", 10) },
        if is_narrow { numbers("skipped", 7) } else { numbers("ticks skipped", 13) },
    ];
    table(&columns, &STREAMS.iter().enumerate().map(row).collect::<Vec<_>>())
}

/// Closes by reason, and beside them the limits that fired.
fn totals(history: &History, is_narrow: bool) -> Vec<Line> {
    let Change { from, to } = history.recently();
    let list = |title, newest: &BTreeMap<String, u64>, before: &BTreeMap<String, u64>| {
        let mut all: Vec<_> = newest.iter().collect();
        all.sort_by_key(|(name, total)| (std::cmp::Reverse(**total), (*name).clone()));
        let row = |(name, total): (&String, &u64)| {
            let recent = total.saturating_sub(before.get(name).copied().unwrap_or(0));
            let recent = if recent > 0 { count(recent) } else { String::new() };
            let mut cells = vec![(Style::Plain, printable(name)), (Style::Plain, recent), number(*total)];
            if is_narrow {
                cells.remove(1);
            }
            cells
        };
        let rows: Vec<_> = all.into_iter().map(row).collect();
        match is_narrow {
            true => table(&[words(title, 27), numbers("in all", 9)], &rows),
            false => table(&[words(title, 26), numbers("2 min", 8), numbers("in all", 10)], &rows),
        }
    };
    let closes = list("Closed because", &to.closed, &from.closed);
    let limits = list("Limit that fired", &to.fired, &from.fired);
    let at = |lines: &[Line], row: usize| lines.get(row).cloned().unwrap_or_default();
    (0..closes.len().max(limits.len()))
        .map(|row| {
            at(&closes, row).then_at(if is_narrow { LIMITS_AT_NARROW } else { LIMITS_AT }, at(&limits, row))
        })
        .collect()
}

fn connections(slowest: &ConnectionsReport, is_narrow: bool) -> Vec<Line> {
    let row = |one: &tickstream_server::admin::report::ConnectionReport| {
        let unsent = if one.unsent_ms > 0 { duration(one.unsent_ms) } else { super::units::NONE.to_owned() };
        vec![
            (Style::Plain, printable(&one.id)),
            (Style::Plain, printable(&one.peer)),
            (Style::Plain, printable(one.mode.as_deref().unwrap_or(&one.state))),
            (if one.lagging { Style::Warn } else { Style::Plain }, unsent),
            number(one.ticks_behind),
            (Style::Plain, bytes(one.bytes_sent as f64)),
            (Style::Plain, age(one.open_ms)),
        ]
    };
    let columns = [
        words("Slowest", 10),
        words("peer", 21),
        words("stream", 7),
        numbers("unsent", 8),
        if is_narrow { numbers("behind", 7) } else { numbers("ticks behind", 12) },
        numbers("sent", 8),
        numbers("open", 6),
    ];
    table(&columns, &slowest.connections.iter().map(row).collect::<Vec<_>>())
}

fn events(report: &Report) -> Vec<Line> {
    let row = |event: &tickstream_server::admin::report::EventReport| {
        vec![
            (Style::Plain, printable(&event.id)),
            (Style::Plain, printable(&event.peer)),
            (Style::Plain, format!("{} ago", age(report.now_unix_ms.saturating_sub(event.unix_ms)))),
            (Style::Plain, age(event.open_ms)),
            (Style::Plain, printable(&event.reason)),
            (Style::Dim, printable(&event.detail)),
        ]
    };
    let columns = [
        words("Ended", 10),
        words("peer", 21),
        numbers("when", 9),
        numbers("open", 6),
        words("reason", 18),
        words("", 0),
    ];
    table(&columns, &report.events.iter().map(row).collect::<Vec<_>>())
}

fn number(number: u64) -> Cell {
    (Style::Plain, count(number))
}

/// A number that should be 0.
fn warned(number: u64) -> Cell {
    (if number > 0 { Style::Warn } else { Style::Plain }, count(number))
}

#[cfg(test)]
mod tests {
    use super::super::history::tests::report;
    use super::*;
    use tickstream_server::admin::report::{CollectionReport, JournalReport};

    fn history() -> History {
        let mut history = History::new(Duration::from_secs(1));
        (100..=120).for_each(|second| history.take(report(second, 1_000 * second), false));
        history
    }

    /// Of a shard that stored a hundred events in each of so many seconds.
    fn collection(seconds: u64) -> CollectionReport {
        let journal = JournalReport { segments: 3, disk_bytes: 384 << 20, ..JournalReport::default() };
        let rejected = [("TOO_OLD".to_owned(), seconds)].into();
        CollectionReport {
            accepted: 100 * seconds,
            rejected,
            in_flight: 4,
            journal,
            ..CollectionReport::default()
        }
    }

    #[test]
    fn events_are_told_of_where_they_are_collected() {
        let mut history = History::new(Duration::from_secs(1));
        for second in 100..=120 {
            let mut report = report(second, 1_000 * second);
            report.shards.iter_mut().for_each(|shard| shard.events = Some(collection(second)));
            history.take(report, false);
        }
        let text = plain(&Content { history: &history, slowest: None, silence: None });
        let expected = "
Lagging           4             oldest unsent 1.5 s
Events stored     200 /s        peak 200 /s
Events rejected   2.00 /s       0 /s known already
Not acknowledged  8             batches under way
Journal           805 MB        6 segments
";
        assert!(text.contains(expected), "{text}");
    }

    fn slowest() -> ConnectionsReport {
        serde_json::from_value(serde_json::json!({
            "total": 2_001, "offset": 0, "limit": 30, "missing_shards": [],
            "connections": [{"id": "0-12", "shard": 0, "peer": "127.0.0.1:50000", "state": "authenticated", "mode": "SECOND",
                             "open_ms": 65_000, "lagging": true, "unsent_ms": 1_500, "ticks_behind": 2, "bytes_sent": 2_345}],
        }))
        .unwrap()
    }

    #[test]
    fn plain_text_tells_everything_once() {
        let (history, slowest) = (history(), slowest());
        let text = plain(&Content { history: &history, slowest: Some(&slowest), silence: None });
        let expected = "\
tickstream 1.2.3  127.0.0.1:7400  serving  up 2 min 00 s  pid 4711  22.5 MB  CPU 30 %
Every shard responds.

Connections       2,001         +0 /s  -2.00 /s
Ticks delivered   2,000 /s      peak 2,000 /s
Bytes sent        60.0 kB/s     peak 60.0 kB/s
Latency, p99      991 µs        p50 550 µs  p95 955 µs
Busiest loop      20 %          mean 15 % of 2
Lagging           4             oldest unsent 1.5 s

Shard    CPU  connections    lagging  not authenticated        ticks    busy
0          0        1,000          2                  1     1,000 /s    10 %
1          1        1,001          2                  1     1,000 /s    20 %

Stream   subscribers        ticks  lagging  oldest unsent  frames replayed  ticks late  ticks skipped
SECOND         2,000     2,000 /s        4          1.5 s                6           0              0
MINUTE             0         0 /s        0              -                0           0              0

Closed because                 2 min      in all    Limit that fired               2 min      in all
peer_closed                                  400    auth_failures                                 14
auth_failed                       40         320

Slowest     peer                   stream     unsent  ticks behind      sent    open
0-12        127.0.0.1:50000        SECOND      1.5 s             2   2.35 kB   1 min

Ended       peer                        when    open  reason
1-77        [2001:db8::1]:50000      3 s ago     0 s  auth_failed         user name or ?[31mpassword is wrong
";
        assert_eq!(text, expected, "\n{text}");
    }

    #[test]
    fn a_terminal_gets_as_many_lines_and_columns_as_it_has() {
        let (history, slowest) = (history(), slowest());
        let content = Content { history: &history, slowest: Some(&slowest), silence: None };
        for size in [(80, 24), (20, 5), (200, 60), (1, 1), (100, 12)] {
            let lines = drawn(&content, &mut Controls::default(), size, false);
            assert!(lines.len() <= size.1, "{size:?}: {} lines", lines.len());
            let widest = lines.iter().map(|line| line.chars().count()).max().unwrap();
            assert!(widest <= size.0, "{size:?}: {widest} columns");
        }
        let small = drawn(&content, &mut Controls::default(), (80, 24), false).join("\n");
        assert!(small.contains("Shard") && small.contains("Stream") && small.contains("Closed"), "{small}");
        assert!(!small.contains("Publish latency, from"), "the heat map is the first to go\n{small}");
        let large = drawn(&content, &mut Controls::default(), (120, 50), true).join("\n");
        for part in ["Publish latency, from", "████████████████", "0-12", "1-77", "\x1b[36m", "q quits"]
        {
            assert!(large.contains(part), "{part}\n{large}");
        }
    }

    fn check_state(change: impl Fn(&mut Report), silence: Option<Silence<'_>>, word: &str, said: &str) {
        let mut history = History::new(Duration::from_secs(1));
        let mut report = report(100, 1);
        change(&mut report);
        history.take(report, false);
        let (_, found, sentence) = state(&Content { history: &history, slowest: None, silence });
        assert_eq!(found, word);
        assert!(sentence.contains(said), "{sentence}");
    }

    #[test]
    fn what_is_wrong_is_said_first() {
        let silence = Silence { lasts: Duration::from_secs(7), why: "Connection refused" };
        check_state(|_| {}, None, "serving", "Every shard");
        check_state(|_| {}, Some(silence), "no answer", "No answer for 7 s: Connection refused");
        check_state(
            |report| report.state = "draining".into(),
            Some(silence),
            "no answer",
            "It was draining.",
        );
        check_state(|report| report.state = "draining".into(), None, "draining", "no new connections");
        check_state(|report| report.shards[1].hung_ms = 900, None, "unhealthy", "shard 1 doesn't turn");
        check_state(|report| report.shards[0].answered = false, None, "serving", "from shard 0");
        check_state(|report| report.shards[1].events = Some(collection(1)), None, "serving", "Every");
        check_state(
            |report| {
                let mut events = collection(1);
                events.journal.full_since_unix_ms = Some(1);
                report.shards[1].events = Some(events);
            },
            None,
            "disk full",
            "The disk of shard 1 is full: events are refused",
        );
        check_state(
            |report| (report.shards[0].answered, report.shards[0].retired) = (false, true),
            None,
            "serving",
            "Every",
        );
    }

    #[test]
    fn room_goes_to_what_matters_first() {
        let block = |lines: usize, least, rank| Block { lines: vec![Line::default(); lines], least, rank };
        let check = |room, expected: &[usize]| {
            let blocks = vec![block(14, 14, 2), block(5, 3, 0), block(9, 2, 1)];
            let found: Vec<_> = fitted(blocks, room).iter().map(Vec::len).collect();
            assert_eq!(found, expected, "{room}");
        };
        check(0, &[]);
        check(4, &[3]);
        check(7, &[3, 2]);
        check(12, &[5, 5]);
        check(22, &[14, 3, 2]);
        check(24, &[14, 5, 2]);
        check(26, &[14, 5, 4]);
        check(100, &[14, 5, 9]);
    }
}
