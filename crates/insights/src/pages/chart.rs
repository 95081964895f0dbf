//! Charts: SVG that scales from a phone to a wall screen. Texts stay HTML, so that they keep their size. Each chart stands
//! above a table with the same numbers; so its drawing is hidden from screen readers.

use maud::{Markup, html};

use super::flows;
use super::number::{self, minute, number, short};
use super::points::Points;
use crate::filters::{DAY, Filters, SECOND};
use crate::table::{Table, Value};
use crate::teams::{Chart, Gaps, Trend};

/// Bars of a chart; more rows are in the table alone.
const BARS_MAX: usize = 12;
/// Lines of a chart; the largest are shown.
const LINES_MAX: usize = 8;
/// Values of a line that are filled up where there are none.
const TIMES_MAX: i64 = 2_000;
/// Size of the drawing of lines, in units of its own.
const WIDTH: f64 = 1_000.0;
const HEIGHT: f64 = 240.0;

/// The drawing of a table; nothing where it has none. Its parts lead to the events behind them.
pub fn chart(chart: Chart, table: &Table, points: Option<&Points>) -> Markup {
    let bars =
        |labels, values, beside, are_steps| bars(table, &Bars { labels, values, beside, are_steps, points });
    match chart {
        Chart::Bars(labels, values) => bars(labels, values, None, false),
        Chart::BarsBeside(labels, values, beside) => bars(labels, values, Some(beside), false),
        Chart::Steps(labels, values) => bars(labels, values, None, true),
        Chart::Flows(paths, values) => flows::flows(table, paths, values, points),
        // Their cells are coloured.
        Chart::Grid | Chart::Table => html! {},
    }
}

/// Columns of bars.
struct Bars<'a> {
    labels: &'a str,
    values: &'a str,
    beside: Option<&'a str>,
    are_steps: bool,
    points: Option<&'a Points>,
}

fn bars(table: &Table, columns: &Bars<'_>) -> Markup {
    let cell_of = |row: &[Value], name: &str| table.place(name).map(|place| number::cell(&row[place]));
    let rows: Vec<_> = table
        .rows
        .iter()
        .filter_map(|row| {
            let value = row[table.place(columns.values)?].number()?;
            Some((row, cell_of(row, columns.labels)?, value))
        })
        .take(BARS_MAX)
        .collect();
    let most = rows.iter().map(|(.., value)| value.abs()).fold(0.0, f64::max);
    if most == 0.0 {
        return html! {};
    }
    html! {
        p.axis { (with_currency(columns.values, table)) @if let Some(beside) = columns.beside { " · " (with_currency(beside, table)) } }
        div.bars.steps[columns.are_steps] {
            @for (place, (row, label, value)) in rows.iter().enumerate() {
                @match columns.points.and_then(|points| points.of_row(table, row)) {
                    Some(address) => a.label title=(label) href=(address) { (label) },
                    None => span.label title=(label) { (label) },
                }
                svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true" {
                    rect.track width="100" height="10" {}
                    rect.fill.minus[*value < 0.0] width=(format!("{:.2}", value.abs() / most * 100.0)) height="10" {}
                }
                span.value {
                    (number(*value))
                    @if columns.are_steps && place > 0 {
                        small { " −" (number(lost(rows[place - 1].2, *value))) " %" }
                    }
                    @if let Some(beside) = columns.beside.and_then(|name| cell_of(row, name)) { span.beside { " · " (beside) } }
                }
            }
        }
        @if rows.len() == BARS_MAX && table.rows.len() > BARS_MAX {
            p.note { "The first " (BARS_MAX) " of " (table.rows.len()) "; the table has all." }
        }
    }
}

/// Name of a column, with the currency of the table's amounts where it is one of them.
pub fn with_currency(name: &str, table: &Table) -> String {
    const AMOUNTS: [&str; 5] = ["cost", "revenue", "saving", "spent", "expected"];
    let is_amount = AMOUNTS.iter().any(|amount| name.starts_with(amount)) && !name.contains(" per cost");
    let mut currencies = table.column("currency").filter(|cell| !cell.text().is_empty());
    match currencies.next() {
        Some(first) if is_amount && currencies.all(|other| other == first) => {
            format!("{name}, {}", first.text())
        }
        Some(_) if is_amount => format!("{name}, several currencies"),
        _ => name.to_owned(),
    }
}

/// Percent that a step lost of the one before.
fn lost(before: f64, now: f64) -> f64 {
    if before > 0.0 { ((before - now) / before * 1_000.0).round() / 10.0 } else { 0.0 }
}

/// One line, with a value for each time where there is one.
struct Line {
    name: String,
    values: Vec<Option<f64>>,
}

/// Frame of lines over time.
#[derive(Clone, Copy, Debug)]
pub struct Axis<'a> {
    /// Title with the unit.
    pub title: &'a str,
    /// Begin and end.
    pub period: (i64, i64),
    /// Time between two values.
    pub step: i64,
    /// Meaning of a time without a value.
    pub gaps: Gaps,
}

impl Axis<'_> {
    /// Frame of an item's line.
    pub fn of(trend: &Trend, filters: &Filters) -> Self {
        let period = (filters.from, filters.to);
        Self { title: trend.title, period, step: filters.step(trend.sql), gaps: trend.gaps }
    }
}

/// Lines of a table with bucket, series and value. A script leads from a point of them to the events behind it.
pub fn lines(table: &Table, axis: &Axis<'_>, points: Option<&Points>) -> Markup {
    let (times, mut lines) = read_lines(table, axis);
    let size = |line: &Line| line.values.iter().flatten().map(|value| value.abs()).sum::<f64>();
    lines.sort_by(|a, b| size(b).total_cmp(&size(a)));
    let hidden = lines.len().saturating_sub(LINES_MAX);
    lines.truncate(LINES_MAX);
    let all = lines.iter().flat_map(|line| line.values.iter().flatten());
    let (low, high) = all.fold((0.0_f64, 0.0_f64), |(low, high), value| (low.min(*value), high.max(*value)));
    if times.is_empty() || high == low {
        return html! {};
    }
    let high = low + nice(high - low);
    let (from, to) = (axis.period.0.min(times[0]), axis.period.1.max(times[times.len() - 1]));
    let scale = Scale { times: &times, from, to, low, high };
    let joined = |list: Vec<String>| list.join(",");
    let is_whole = |time: &i64| *time >= axis.period.0 && time + axis.step <= axis.period.1;
    // Counts of a part of a day or an hour fall for no other reason.
    let parts: Vec<bool> = times.iter().map(|time| axis.gaps == Gaps::Zero && !is_whole(time)).collect();
    html! {
        figure.lines data-times=(joined(times.iter().map(|time| (time / 1_000_000).to_string()).collect()))
            data-from=(from / 1_000_000) data-to=(to / 1_000_000) data-step=(axis.step / 1_000_000) data-low=(low) data-high=(high)
            data-behind=[points.map(Points::of_line)] {
            figcaption { (axis.title) @if parts.contains(&true) { span.unit { " (dashed: not the whole " (unit_of(axis.step)) ")" } } }
            div.plot data-title=(axis.title) {
                div.scale aria-hidden="true" { span { (short(high)) } span { (short(f64::midpoint(high, low))) } span { (short(low)) } }
                svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" aria-hidden="true" {
                    @for part in 0..=4 {
                        line.rule x1="0" x2=(WIDTH) y1=(f64::from(part) * HEIGHT / 4.0) y2=(f64::from(part) * HEIGHT / 4.0) {}
                    }
                    @for (place, line) in lines.iter().enumerate() {
                        @let paths = scale.paths(&line.values, &parts);
                        path class=(format!("line s{place}")) d=(paths.whole) data-name=(line.name)
                            data-values=(joined(line.values.iter().map(|value| value.map_or(String::new(), |value| value.to_string())).collect())) {}
                        @if !paths.partial.is_empty() { path class=(format!("line part s{place}")) d=(paths.partial) {} }
                        @if !paths.alone.is_empty() { path class=(format!("line dot s{place}")) d=(paths.alone) {} }
                    }
                }
                div.times aria-hidden="true" { span { (minute(from)) } span.wide { (minute(from + (to - from) / 2)) } span { (minute(to)) } }
            }
            p.legend {
                @for (place, line) in lines.iter().enumerate() {
                    span { i class=(format!("key s{place}")) {} (line.name) }
                }
                @if hidden > 0 { span { (hidden) " smaller ones aren't drawn" } }
            }
            output.at aria-live="off" {}
        }
    }
}

fn unit_of(step: i64) -> &'static str {
    match step {
        step if step >= DAY => "day",
        step if step >= 3_600 * SECOND => "hour",
        _ => "minute",
    }
}

fn read_lines(table: &Table, axis: &Axis<'_>) -> (Vec<i64>, Vec<Line>) {
    let mut times: Vec<i64> = table
        .rows
        .iter()
        .filter_map(|row| if let Value::Time(time) = row.first()? { Some(*time) } else { None })
        .collect();
    if times.is_empty() {
        return (times, Vec::new());
    }
    let step = axis.step.max(1);
    let first = axis.period.0.div_euclid(step);
    let last = (axis.period.1 - 1).div_euclid(step);
    if last - first < TIMES_MAX {
        times.extend((first..=last).map(|place| place * step));
    }
    times.sort_unstable();
    times.dedup();
    let empty = if axis.gaps == Gaps::Zero { Some(0.0) } else { None };
    let mut lines: Vec<Line> = Vec::new();
    for row in &table.rows {
        let [Value::Time(time), name, value] = row.as_slice() else { continue };
        let name = number::cell(name);
        let place = match lines.iter().position(|line| line.name == name) {
            Some(place) => place,
            None => {
                lines.push(Line { name, values: vec![empty; times.len()] });
                lines.len() - 1
            }
        };
        if let Ok(at) = times.binary_search(time) {
            lines[place].values[at] = value.number();
        }
    }
    (times, lines)
}

/// Places of times and values in the drawing.
struct Scale<'a> {
    times: &'a [i64],
    from: i64,
    to: i64,
    low: f64,
    high: f64,
}

/// Paths of one line.
#[derive(Debug, Default, PartialEq, Eq)]
struct Paths {
    /// Between values of whole times; open where one is missing.
    whole: String,
    /// To and from values of times that lie only in part in the period.
    partial: String,
    /// Values without a neighbour.
    alone: String,
}

impl Scale<'_> {
    fn at(&self, place: usize, value: f64) -> String {
        let x = (self.times[place] - self.from) as f64 / (self.to - self.from).max(1) as f64 * WIDTH;
        format!("{x:.1} {:.1}", HEIGHT - (value - self.low) / (self.high - self.low) * HEIGHT)
    }

    fn paths(&self, values: &[Option<f64>], parts: &[bool]) -> Paths {
        let mut paths = Paths::default();
        let value = |place: usize| values.get(place).copied().flatten();
        let mut is_open = false;
        for place in 0..values.len() {
            let Some(here) = value(place) else {
                is_open = false;
                continue;
            };
            let before = place.checked_sub(1).and_then(value);
            match before {
                None if value(place + 1).is_none() => {
                    paths.alone.push_str(&format!("M{}h0", self.at(place, here)));
                }
                None => {}
                Some(before) if parts[place] || parts[place - 1] => {
                    paths.partial.push_str(&format!(
                        "M{}L{}",
                        self.at(place - 1, before),
                        self.at(place, here)
                    ));
                    is_open = false;
                }
                Some(before) => {
                    if !is_open {
                        paths.whole.push_str(&format!("M{}", self.at(place - 1, before)));
                    }
                    paths.whole.push_str(&format!("L{}", self.at(place, here)));
                    is_open = true;
                }
            }
        }
        paths
    }
}

/// The next of 1, 2, 5 times a power of ten: a scale that people read at once.
fn nice(range: f64) -> f64 {
    let power = 10_f64.powf(range.log10().floor());
    let factor =
        [1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0].into_iter().find(|factor| factor * power >= range * 0.999_999);
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::Parameters;

    #[test]
    fn scales_are_nice_and_gaps_stay_gaps() {
        assert_eq!(nice(7.2), 7.5);
        assert_eq!(nice(100.0), 100.0);
        assert_eq!(nice(0.0021), 0.003);
        let scale = Scale { times: &[0, 250, 500, 750, 1_000], from: 0, to: 1_000, low: 0.0, high: 240.0 };
        let values = [Some(240.0), None, Some(0.0), Some(0.0), Some(240.0)];
        let paths = scale.paths(&values, &[false, false, false, false, true]);
        assert_eq!(paths.alone, "M0.0 0.0h0");
        assert_eq!(paths.whole, "M500.0 240.0L750.0 240.0");
        assert_eq!(paths.partial, "M750.0 240.0L1000.0 0.0");
    }

    #[test]
    fn a_time_without_a_count_is_zero_and_one_without_a_share_is_open() {
        let mut table = Table::new(&["bucket", "series", "value"]);
        for (time, series) in [(0, "a"), (3, "a"), (1, "b")] {
            table.rows.push(vec![Value::Time(time), series.into(), 1.0.into()]);
        }
        let axis = Axis { title: "t", period: (0, 4), step: 1, gaps: Gaps::Zero };
        let (times, lines) = read_lines(&table, &axis);
        assert_eq!(times, [0, 1, 2, 3]);
        assert_eq!(lines[0].values, [Some(1.0), Some(0.0), Some(0.0), Some(1.0)]);
        let (_, lines) = read_lines(&table, &Axis { gaps: Gaps::Open, ..axis });
        assert_eq!(lines[1].values, [None, Some(1.0), None, None]);
    }

    #[test]
    fn amounts_have_their_currency() {
        let mut table = Table::new(&["cost", "currency"]);
        table.rows.push(vec![1.0.into(), "EUR".into()]);
        assert_eq!(with_currency("cost", &table), "cost, EUR");
        assert_eq!(with_currency("share, %", &table), "share, %");
        table.rows.push(vec![1.0.into(), "USD".into()]);
        assert_eq!(with_currency("cost", &table), "cost, several currencies");
    }

    #[test]
    fn names_of_data_are_escaped() {
        let mut table = Table::new(&["bucket", "series", "value"]);
        let attack = "\"><script>alert(1)</script>";
        for time in [0, 1_000_000_000] {
            table.rows.push(vec![Value::Time(time), attack.into(), 1.0.into()]);
        }
        let axis = Axis { title: attack, period: (0, 1), step: 1_000_000_000, gaps: Gaps::Open };
        let filters = Filters::read(&Parameters::parse("platform=%22%3E%3Cscript%3E"), 1.0, 1);
        let parameters = Parameters::parse("x=%22%3E%3Cscript%3E");
        let points = Points::new("/team/item/behind", &[("label", "label")], &parameters, &filters);
        let html = lines(&table, &axis, Some(&points)).into_string();
        assert!(html.contains("data-behind") && !html.contains("<script"), "{html}");
        let mut table = Table::new(&["label", "n"]);
        table.rows.push(vec![attack.into(), 1.0.into()]);
        let html = chart(Chart::Bars("label", "n"), &table, Some(&points)).into_string();
        assert!(html.contains("&lt;script") && html.contains("<a ") && !html.contains("<script"), "{html}");
    }
}
