//! Charts: SVG that scales from a phone to a wall screen. Texts stay HTML, so that they keep their size. Each chart stands
//! above a table with the same numbers; so it is hidden from screen readers.

use maud::{Markup, html};

use super::flows;
use super::number::{number, short, time};
use crate::table::{Table, Value};
use crate::teams::Chart;

/// Bars of a chart; more rows are in the table alone.
const BARS_MAX: usize = 12;
/// Lines of a chart; the largest are shown.
const LINES_MAX: usize = 8;
/// Size of the drawing of lines, in units of its own.
const WIDTH: f64 = 1_000.0;
const HEIGHT: f64 = 240.0;

/// The drawing of a table; nothing where it has none.
pub fn chart(chart: Chart, table: &Table) -> Markup {
    match chart {
        Chart::Bars(labels, values) => bars(table, labels, values, false),
        Chart::Steps(labels, values) => bars(table, labels, values, true),
        Chart::Flows(paths, values) => flows::flows(table, paths, values),
        // Their cells are coloured.
        Chart::Grid | Chart::Table => html! {},
    }
}

fn bars(table: &Table, labels: &str, values: &str, are_steps: bool) -> Markup {
    let rows: Vec<_> = table
        .column(labels)
        .zip(table.column(values))
        .filter_map(|(label, value)| Some((super::number::cell(label), value.number()?)))
        .take(BARS_MAX)
        .collect();
    let most = rows.iter().map(|(_, value)| value.abs()).fold(0.0, f64::max);
    if most == 0.0 {
        return html! {};
    }
    html! {
        div.bars.steps[are_steps] aria-hidden="true" {
            @for (place, (label, value)) in rows.iter().enumerate() {
                span.label title=(label) { (label) }
                svg viewBox="0 0 100 10" preserveAspectRatio="none" {
                    rect.track width="100" height="10" {}
                    rect.fill.minus[*value < 0.0] width=(format!("{:.2}", value.abs() / most * 100.0)) height="10" {}
                }
                span.value {
                    (number(*value))
                    @if are_steps && place > 0 {
                        small { " −" (number(lost(rows[place - 1].1, *value))) " %" }
                    }
                }
            }
        }
        @if table.rows.len() > BARS_MAX {
            p.note { "The first " (BARS_MAX) " of " (table.rows.len()) "; the table has all." }
        }
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

/// Lines of a table with bucket, series and value.
pub fn lines(table: &Table, title: &str, period: (i64, i64)) -> Markup {
    let (times, mut lines) = read_lines(table);
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
    let (from, to) = (period.0.min(times[0]), period.1.max(times[times.len() - 1]));
    let x = |time: i64| (time - from) as f64 / (to - from).max(1) as f64 * WIDTH;
    let y = |value: f64| HEIGHT - (value - low) / (high - low) * HEIGHT;
    let joined = |list: Vec<String>| list.join(",");
    html! {
        figure.lines data-times=(joined(times.iter().map(|time| (time / 1_000_000).to_string()).collect()))
            data-from=(from / 1_000_000) data-to=(to / 1_000_000) {
            figcaption { (title) }
            div.plot aria-hidden="true" {
                div.scale { span { (short(high)) } span { (short((high + low) / 2.0)) } span { (short(low)) } }
                svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" {
                    @for part in 0..=4 {
                        line.rule x1="0" x2=(WIDTH) y1=(f64::from(part) * HEIGHT / 4.0) y2=(f64::from(part) * HEIGHT / 4.0) {}
                    }
                    @for (place, line) in lines.iter().enumerate() {
                        path class=(format!("line s{place}")) d=(path(&times, &line.values, x, y)) data-name=(line.name)
                            data-values=(joined(line.values.iter().map(|value| value.map_or(String::new(), |value| value.to_string())).collect())) {}
                    }
                }
                div.times { span { (time(from)) } span.wide { (time(from + (to - from) / 2)) } span { (time(to)) } }
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

fn read_lines(table: &Table) -> (Vec<i64>, Vec<Line>) {
    let mut times: Vec<i64> = table
        .rows
        .iter()
        .filter_map(|row| if let Value::Time(time) = row.first()? { Some(*time) } else { None })
        .collect();
    times.sort_unstable();
    times.dedup();
    let mut lines: Vec<Line> = Vec::new();
    for row in &table.rows {
        let [Value::Time(time), name, value] = row.as_slice() else { continue };
        let name = super::number::cell(name);
        let place = match lines.iter().position(|line| line.name == name) {
            Some(place) => place,
            None => {
                lines.push(Line { name, values: vec![None; times.len()] });
                lines.len() - 1
            }
        };
        if let Ok(at) = times.binary_search(time) {
            lines[place].values[at] = value.number();
        }
    }
    (times, lines)
}

/// Path of a line: a gap where a value is missing, a short stroke for a value alone.
fn path(times: &[i64], values: &[Option<f64>], x: impl Fn(i64) -> f64, y: impl Fn(f64) -> f64) -> String {
    let mut out = String::new();
    let mut is_open = false;
    for (place, value) in values.iter().enumerate() {
        let Some(value) = value else {
            is_open = false;
            continue;
        };
        let (at, height) = (x(times[place]), y(*value));
        out.push_str(&format!("{}{at:.1} {height:.1}", if is_open { 'L' } else { 'M' }));
        if !is_open && values.get(place + 1).is_none_or(Option::is_none) {
            out.push_str("h3");
        }
        is_open = true;
    }
    out
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

    #[test]
    fn scales_are_nice_and_gaps_stay_gaps() {
        assert_eq!(nice(7.2), 7.5);
        assert_eq!(nice(100.0), 100.0);
        assert_eq!(nice(0.0021), 0.003);
        let values = [Some(1.0), None, Some(2.0), Some(3.0)];
        assert_eq!(
            path(&[0, 1, 2, 3], &values, |time| time as f64, |value| value),
            "M0.0 1.0h3M2.0 2.0L3.0 3.0"
        );
    }

    #[test]
    fn names_of_data_are_escaped() {
        let mut table = Table::new(&["bucket", "series", "value"]);
        let attack = "\"><script>alert(1)</script>";
        for time in [0, 1_000_000_000] {
            table.rows.push(vec![Value::Time(time), attack.into(), 1.0.into()]);
        }
        let html = lines(&table, attack, (0, 1)).into_string();
        assert!(!html.contains("<script"), "{html}");
        let mut table = Table::new(&["label", "n"]);
        table.rows.push(vec![attack.into(), 1.0.into()]);
        let html = chart(Chart::Bars("label", "n"), &table).into_string();
        assert!(html.contains("&lt;script") && !html.contains("<script"), "{html}");
    }
}
