//! The views of one thing: every shard, connections, the keys.

use std::cmp::Reverse;

use super::controls::{Controls, ShardSort, View};
use super::history::History;
use super::text::{Cell, Line, Style, numbers, printable, table, words};
use super::units::{NONE, age, bytes, count, duration, percent, rate};
use tickstream_server::admin::report::{ConnectionReport, ConnectionsReport, ShardReport};

/// The title and the rows of a view; the first row stays while the others scroll.
pub struct Scrolled {
    /// Words above.
    pub title: Line,
    /// The names of the columns, then the rows.
    pub rows: Vec<Line>,
}

impl Scrolled {
    /// Lines that fit into the room, from the chosen place on.
    pub fn fitted(mut self, controls: &mut Controls, room: usize) -> Vec<Line> {
        let shown = room.saturating_sub(2);
        let rows = self.rows.len().saturating_sub(1);
        controls.bound_scroll(rows, shown);
        let from = controls.scroll;
        if rows > shown {
            let to = (from + shown).min(rows);
            self.title = self.title.with(Style::Dim, format!("  rows {} to {to} of {rows}", from + 1));
        }
        let body: Vec<_> = self.rows.iter().skip(1 + from).take(shown).cloned().collect();
        std::iter::once(self.title).chain(self.rows.into_iter().take(1)).chain(body).take(room).collect()
    }
}

/// Every shard.
pub fn shards(history: &History, controls: &Controls) -> Scrolled {
    let (report, lately) = (history.report(), history.lately());
    let busy = lately.busy();
    let mut all: Vec<_> = report
        .shards
        .iter()
        .enumerate()
        .map(|(at, shard)| {
            let ticks = lately.rate(|sample| sample.shard_ticks.get(at).copied().unwrap_or(0));
            (shard, ticks, busy.as_ref().and_then(|busy| busy.get(at).copied()))
        })
        .collect();
    let thousandths = |number: Option<f64>| Reverse((number.unwrap_or(0.0) * 1e3) as u64);
    match controls.shards {
        ShardSort::Number => {}
        ShardSort::Connections => all.sort_by_key(|(shard, ..)| Reverse(shard.connections)),
        ShardSort::Lagging => all.sort_by_key(|(shard, ..)| Reverse(shard.lagging)),
        ShardSort::Ticks => all.sort_by_key(|(_, ticks, _)| thousandths(*ticks)),
        ShardSort::Busy => all.sort_by_key(|(_, _, busy)| thousandths(*busy)),
    }
    if controls.is_reversed {
        all.reverse();
    }
    let row = |(shard, ticks, busy): &(&ShardReport, Option<f64>, Option<f64>)| -> Vec<Cell> {
        let lag = if shard.lagging > 0 { Style::Warn } else { Style::Plain };
        let (style, name) = match shard {
            ShardReport { retired: true, .. } => (Style::Dim, format!("{} ended", shard.shard)),
            ShardReport { hung_ms: 1.., .. } => (Style::Bad, format!("{} hangs", shard.shard)),
            ShardReport { answered: false, .. } => (Style::Warn, format!("{} ?", shard.shard)),
            _ => (Style::Plain, shard.shard.to_string()),
        };
        vec![
            (style, name),
            plain(shard.cpu.to_string()),
            plain(count(shard.connections.into())),
            (lag, count(shard.lagging.into())),
            plain(count(shard.unauthenticated.into())),
            plain(rate(*ticks)),
            plain(bytes(shard.bytes_sent as f64)),
            plain(percent(*busy)),
        ]
    };
    let columns = [
        words("Shard", 8),
        numbers("CPU", 3),
        numbers("connections", 11),
        numbers("lagging", 7),
        numbers("new", 6),
        numbers("ticks", 11),
        numbers("sent", 9),
        numbers("busy", 6),
    ];
    let title = title("Shards", controls.shards.as_str(), controls);
    Scrolled { title, rows: table(&columns, &all.iter().map(row).collect::<Vec<_>>()) }
}

/// Connections, as the server has ordered them.
pub fn connections(list: Option<&ConnectionsReport>, controls: &Controls, is_narrow: bool) -> Scrolled {
    let title = title("Connections", controls.connections(), controls);
    let Some(list) = list else {
        return Scrolled { title: title.with(Style::Dim, "  asking"), rows: Vec::new() };
    };
    let title = title
        .with(Style::Dim, format!("  {} of {}", count(list.connections.len() as u64), count(list.total)));
    // What else there is stands in `tickstream connection`.
    let shown = if is_narrow { 8 } else { 11 };
    let or_none = |number: u64, write: &dyn Fn(u64) -> String| {
        plain(if number == 0 { NONE.to_owned() } else { write(number) })
    };
    let row = |one: &ConnectionReport| -> Vec<Cell> {
        let lag = if one.lagging { Style::Warn } else { Style::Plain };
        let (_, unsent) = or_none(one.unsent_ms, &duration);
        let mut cells = vec![
            plain(printable(&one.id)),
            plain(one.user.as_deref().map_or(NONE.to_owned(), printable)),
            plain(printable(&one.peer)),
            plain(printable(one.mode.as_deref().unwrap_or("")).to_lowercase()),
            (lag, unsent),
            or_none(one.ticks_behind, &count),
            plain(bytes(one.bytes_sent as f64)),
            plain(age(one.open_ms)),
            plain(bytes(one.bytes_received as f64)),
            or_none(one.events_accepted, &count),
            plain(one.client.as_deref().map_or(NONE.to_owned(), printable)),
        ];
        cells.truncate(shown);
        cells
    };
    let columns = [
        words("ID", 6),
        words("user", 9),
        words("peer", 15),
        words("stream", 6),
        numbers("unsent", 6),
        numbers("behind", 6),
        numbers("sent", 7),
        numbers("open", 6),
        numbers("received", 8),
        numbers("events", 6),
        words("client", 0),
    ];
    Scrolled { title, rows: table(&columns[..shown], &list.connections.iter().map(row).collect::<Vec<_>>()) }
}

/// The keys.
pub fn help(controls: &Controls) -> Vec<Line> {
    const KEYS: [(&str, &str); 9] = [
        ("1, 2, 3", "overview, shards, connections"),
        ("Tab", "the next view"),
        ("s, S", "the next order, the one before (shards, connections)"),
        ("r", "the order the other way round"),
        ("up, down, j, k", "a row"),
        ("PgUp, PgDn, space", "a page"),
        ("Home, g", "to the top"),
        ("?, h", "these keys; any key goes back"),
        ("q, Ctrl-C", "quit"),
    ];
    let now = match controls.view {
        View::Overview => "overview".to_owned(),
        View::Shards => format!("shards, ordered by {}", controls.shards.as_str()),
        View::Connections => format!("connections, ordered by {}", controls.connections()),
    };
    let key = |(key, about): (&'static str, &'static str)| {
        Line::default().with(Style::Bold, key).then_at(20, Line::default().with(Style::Plain, about))
    };
    let heading = Line::default().with(Style::Bold, "Keys").with(Style::Dim, format!("   now: {now}"));
    [heading, Line::default()].into_iter().chain(KEYS.map(key)).collect()
}

fn title(what: &'static str, order: &str, controls: &Controls) -> Line {
    let turned = if controls.is_reversed { ", reversed" } else { "" };
    Line::default().with(Style::Bold, what).with(Style::Dim, format!("  by {order}{turned} (s, r)"))
}

fn plain(text: String) -> Cell {
    (Style::Plain, text)
}
