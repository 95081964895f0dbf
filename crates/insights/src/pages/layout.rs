//! Frame of each page: menu, filters, tables.

use chrono::{DateTime, SecondsFormat};
use maud::{DOCTYPE, Markup, html};

use super::number;
use super::points::Points;
use crate::filters::{Columns, Filters, NAMES, Parameters, encoded};
use crate::table::{Table, Value};
use crate::teams::{TEAMS, Team};

/// Rows of a table on a page; CSV has all.
pub const ROWS_MAX: usize = 200;

/// Parts of the frame beside the content.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    /// Title of the page.
    pub title: &'a str,
    /// Name of the team in the menu that is current, or "explore".
    pub current: &'a str,
    /// True if the team is in the menu.
    pub sees: &'a dyn Fn(&Team) -> bool,
    /// True if Explore is in the menu.
    pub sees_all: bool,
    /// Parameters that the menu keeps.
    pub parameters: &'a Parameters,
}

/// A whole page.
pub fn page(frame: &Frame<'_>, content: &Markup) -> String {
    let kept = frame.parameters.of_menu();
    let with = |path: &str| if kept.is_empty() { path.to_owned() } else { format!("{path}?{kept}") };
    let current = |name: &str| (name == frame.current).then_some("page");
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (frame.title) " – tickstream" }
                link rel="icon" href="data:,";
                link rel="stylesheet" href="/static/pages.css";
                script src="/static/pages.js" defer {}
            }
            body {
                a.skip href="#content" { "To the content" }
                header {
                    a.home href=(with("/")) { "tickstream" }
                    nav aria-label="Teams" {
                        @for team in TEAMS.iter().filter(|team| (frame.sees)(team)) {
                            a href=(with(&format!("/{}", team.name))) aria-current=[current(team.name)] { (team.title) }
                        }
                        @if frame.sees_all {
                            a href="/explore" aria-current=[current("explore")] { "Explore" }
                        }
                    }
                }
                main id="content" tabindex="-1" {
                    @for fault in Filters::faults(frame.parameters) {
                        p.problem role="alert" { (fault) " The page shows another period." }
                    }
                    (content)
                }
                footer { p { "Times are UTC. Pages only read: nothing here can change the data." } }
            }
        }
    };
    page.into_string()
}

/// The form that chooses period and filters. `columns` are the filters that the content obeys.
pub fn filter_form(action: &str, columns: &[(&str, &str)], parameters: &Parameters) -> Markup {
    filter_form_with(action, columns, parameters, &html! {})
}

/// The same form with fields of the page's own.
pub fn filter_form_with(
    action: &str,
    columns: &[(&str, &str)],
    parameters: &Parameters,
    own: &Markup,
) -> Markup {
    const PERIODS: [(&str, &str); 6] = [
        ("0.0416667", "1 hour"),
        ("1", "24 hours"),
        ("7", "7 days"),
        ("30", "30 days"),
        ("90", "90 days"),
        ("365", "1 year"),
    ];
    let days = parameters.get("days").unwrap_or_default();
    html! {
        form.filters action=(action) method="get" {
            (own)
            label { "Period"
                select name="days" {
                    option value="" { "default" }
                    @for (value, title) in PERIODS {
                        option value=(value) selected[days == value] { (title) }
                    }
                }
            }
            label { "From" input type="text" name="from" value=(parameters.get("from").unwrap_or_default()) placeholder="2026-11-01" size="12"; }
            label { "To" input type="text" name="to" value=(parameters.get("to").unwrap_or_default()) placeholder="now" size="12"; }
            @for name in NAMES.iter().filter(|name| columns.iter().any(|(other, _)| other == *name)) {
                label { (capital(name)) input type="text" name=(name) value=(parameters.get(name).unwrap_or_default()) placeholder="all" size="10"; }
            }
            button type="submit" { "Show" }
            label.live { input type="checkbox" name="live" value="1" checked[parameters.get("live").is_some()]; "Live" }
        }
    }
}

/// The period, and the filters of the address that the content obeys.
pub fn period(filters: &Filters, columns: Columns) -> Markup {
    html! {
        p.note {
            (number::minute(filters.from)) " to " (number::minute(filters.to)) " UTC"
            @for (name, value) in &filters.values {
                @let applies = columns.iter().any(|(other, _)| other == name);
                " · " (name) " = " (value) @if !applies { " (not known here)" }
            }
        }
    }
}

fn capital(name: &str) -> String {
    let mut rest = name.chars();
    rest.next().into_iter().flat_map(char::to_uppercase).chain(rest.as_str().chars()).collect()
}

/// A table; with `is_heat`, numbers are darker the larger they are. Rows or cells lead to the events behind them.
pub fn table(table: &Table, caption: &str, is_heat: bool, points: Option<&Points>) -> Markup {
    // Where there are shares, they are coloured; else all numbers are.
    let is_share = |name: &String| name.ends_with(", %");
    let has_shares = table.columns.iter().any(is_share);
    let is_hot = |place: usize| is_heat && place > 0 && (!has_shares || is_share(&table.columns[place]));
    let hot = table.rows.iter().flat_map(|row| row.iter().enumerate().filter(|(place, _)| is_hot(*place)));
    let most = hot.filter_map(|(_, value)| value.number()).fold(0.0, f64::max);
    let is_number = |place: usize| {
        let is_one = |row: &Vec<Value>| matches!(row.get(place), Some(Value::Integer(_) | Value::Number(_)));
        is_share(&table.columns[place]) || table.rows.iter().any(is_one)
    };
    let numeric: Vec<_> = (0..table.columns.len()).map(is_number).collect();
    html! {
        div.scroll tabindex="0" role="region" aria-label=(caption) {
            table {
                caption.unseen { (caption) }
                thead { tr { @for (place, name) in table.columns.iter().enumerate() { th.n[numeric[place]] scope="col" { (name) } } } }
                tbody {
                    @for row in table.rows.iter().take(ROWS_MAX) {
                        tr {
                            @for (place, value) in row.iter().enumerate() {
                                td class=(cell_class(numeric[place], value, most, is_hot(place))) {
                                    @match points.and_then(|points| point(points, table, row, place)) {
                                        Some(address) => a href=(address) { (number::cell(value)) },
                                        None => (linked(&table.columns[place], value)),
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
        @if table.rows.len() > ROWS_MAX { p.note { "The first " (ROWS_MAX) " of " (table.rows.len()) " rows; CSV has all." } }
    }
}

/// Address of the events behind a cell: behind its row where it is the first one, or behind itself.
fn point(points: &Points, table: &Table, row: &[Value], place: usize) -> Option<String> {
    match place {
        0 => points.of_row(table, row),
        _ => points.of_cell(table, row, place),
    }
}

fn cell_class(is_number: bool, value: &Value, most: f64, is_heat: bool) -> String {
    let share = value.number().filter(|_| is_heat).map(|number| number / most.max(f64::MIN_POSITIVE));
    let heat = share.map_or(String::new(), |share| format!(" h{}", (share.clamp(0.0, 1.0) * 4.0).round()));
    format!("{}{heat}", if is_number { "n" } else { "t" })
}

/// A cell; identifiers lead to the time line of their session, user or trace.
pub fn linked(column: &str, value: &Value) -> Markup {
    let path = match column {
        "session_id" => "session",
        "user_id" | "person" => "user",
        "trace_id" => "trace",
        _ => return html! { (number::cell(value)) },
    };
    match value {
        Value::Text(id) => html! { a href=(format!("/{path}/{}", encoded(id))) title=(id) { (brief(id)) } },
        _ => html! { "–" },
    }
}

/// Begin and end of an identifier that only programs read; other texts stay whole.
pub fn brief(id: &str) -> String {
    const LEAST: usize = 32;
    let is_machine_made = id.len() >= LEAST && id.chars().all(|sign| sign.is_ascii_hexdigit() || sign == '-');
    if is_machine_made { format!("{}…{}", &id[..6], &id[id.len() - 4..]) } else { id.to_owned() }
}

/// A link to the time line of an identifier, which says what it is.
pub fn time_line(column: &str, id: &Value) -> Markup {
    let path = column.trim_end_matches("_id");
    html! {
        @if let Value::Text(id) = id {
            a title=(id) href=(format!("/{path}/{}", encoded(id))) { (path) @if path == "user" { " " (brief(id)) } }
        }
    }
}

/// A time, which leads to all that happened around it.
pub fn moment(ns: i64, text: &str) -> Markup {
    let exact = DateTime::from_timestamp_nanos(ns).to_rfc3339_opts(SecondsFormat::AutoSi, true);
    html! { a href=(format!("/moment/{}", encoded(&exact))) title="All that happened around it" { (text) } }
}

/// A kind of event. Classes have no texts of events in them.
pub fn kind(kind: &str) -> Markup {
    let class = match kind {
        "trace_span" => "kind k-span",
        "log" => "kind k-log",
        "infrastructure_metric" | "application_metric" | "metric_series" => "kind k-metric",
        "cost" => "kind k-cost",
        "crash" => "kind k-crash",
        _ => "kind k-client",
    };
    html! { span class=(class) { (kind.replace('_', " ")) } }
}

/// A figure with its change from the period before.
pub fn figure(title: &str, figures: [Option<f64>; 2]) -> Markup {
    let [now, before] = figures;
    let change = match (now, before) {
        (Some(now), Some(before)) if before != 0.0 => Some((now - before) / before.abs() * 100.0),
        _ => None,
    };
    html! {
        p.figure {
            strong { (now.map_or("–".to_owned(), number::number)) } " " span.unit { (title) }
            @match (before, change) {
                (Some(_), Some(0.0)) => span.before { "as in the period before" },
                (Some(before), Some(change)) => span.before {
                    (if change > 0.0 { "▲ " } else if change < 0.0 { "▼ " } else { "" })
                    (size_of(change, before)) ", before: " (number::number(before))
                }
                (Some(before), None) => span.before { "before: " (number::number(before)) },
                (None, _) => span.before { "nothing in the period before" },
            }
        }
    }
}

/// A change in percent of the figure before; one to more than the tenfold as a multiple.
fn size_of(change: f64, before: f64) -> String {
    let rounded = |number: f64| number::number((number.abs() * 10.0).round() / 10.0);
    if change > 900.0 && before > 0.0 {
        format!("{} ×", rounded(change / 100.0 + 1.0))
    } else {
        format!("{} %", rounded(change))
    }
}

/// SQL for reading and copying, with a link to Explore.
pub fn sql(sql: &str, sees_all: bool) -> Markup {
    html! {
        details {
            summary { "SQL" }
            pre tabindex="0" { code { (sql) } }
            @if sees_all { p { a href=(format!("/explore?kind=sql&sql={}", encoded(sql))) { "Open in Explore" } } }
        }
    }
}

/// A text with an error, for the content of a page.
pub fn problem(title: &str, message: &str) -> Markup {
    html! { section.card.problem role="alert" { h2 { (title) } p { (message) } } }
}
