//! Events behind a point of a drawing: one click from a number to what it was made of, and one more to a time line.

use maud::{Markup, html};

use super::layout::{kind, moment, period, sql as sql_details, time_line};
use super::number::{number, time};
use super::points::conditions;
use super::visit::{Content, Problem, Visit};
use crate::filters::{CLIENT, Columns, Filters, LINE, SUBJECT, TEXT, TRACE, literal};
use crate::journeys::Selection;
use crate::table::{Table, Value};
use crate::teams::{Behind, Chart, FIRST_EVENTS, Item, Team, Way, sessions_on};

/// Events that are listed; the newest.
const EVENTS_MAX: usize = 200;

/// Events behind a point of an item.
pub async fn of_item(
    visit: &Visit<'_>,
    team: &'static Team,
    item: &'static Item,
) -> Result<Content, Problem> {
    let is_line = visit.parameters.get(LINE).is_some();
    let of_line = item.trend.and_then(|trend| trend.behind).filter(|_| is_line);
    let Behind { what, rows, named } = of_line.unwrap_or(item.behind);
    let filters = Filters::read(&visit.parameters, item.days, visit.now);
    let (point, conditions) = conditions(named, &visit.parameters);
    let path = format!("/{}/{}", team.name, item.name);
    let mut found = Found {
        title: item.title,
        path: &path,
        what,
        point: &point,
        rows: String::new(),
        filters: &filters,
        columns: item.filters,
        current: team.name,
    };
    if let Chart::Flows(..) = item.chart {
        return found.sessions(visit, &FIRST_EVENTS).await;
    }
    found.rows = format!("{}{conditions}", filters.sql(rows, item.filters));
    found.page(visit).await
}

/// Events that were found behind a point.
pub struct Found<'a> {
    /// Title of the drawing.
    pub title: &'a str,
    /// Its path.
    pub path: &'a str,
    /// Meaning of the rows, for people.
    pub what: &'a str,
    /// Columns and values of the point.
    pub point: &'a [(&'static str, String)],
    /// SQL after FROM, which ends with a condition.
    pub rows: String,
    /// Period and filters.
    pub filters: &'a Filters,
    /// Filters that apply to the rows.
    pub columns: Columns,
    /// Name in the menu.
    pub current: &'static str,
}

impl Found<'_> {
    /// The page of sessions whose path is the point: sessions are no rows of SQL, so those that are listed are its values.
    pub async fn sessions(mut self, visit: &Visit<'_>, way: &Way<'_>) -> Result<Content, Problem> {
        let events = visit.asker.selected(vec![Selection::steps(self.filters)]).await?;
        let found = sessions_on(&events, way, self.point);
        let keys = found.iter().take(EVENTS_MAX).map(|(person, begin)| literal(&format!("{person} {begin}")));
        let keys: Vec<_> = std::iter::once("''".to_owned()).chain(keys).collect();
        let events = "(SELECT min(event_id) AS event_id, timestamp_ns FROM {clients} WHERE {where} \
                      AND event_type IN ('user_interaction', 'custom') AND concat(person, ' ', timestamp_ns) IN (";
        let events = self.filters.sql(events, CLIENT);
        self.rows = format!("{events}{}) GROUP BY person, timestamp_ns) WHERE TRUE", keys.join(", "));
        self.counted(visit, Some(found.len() as f64)).await
    }

    /// The page: how many there are, and the newest.
    pub async fn page(self, visit: &Visit<'_>) -> Result<Content, Problem> {
        self.counted(visit, None).await
    }

    async fn counted(&self, visit: &Visit<'_>, known: Option<f64>) -> Result<Content, Problem> {
        let sql = format!(
            "SELECT count(*) AS n, min(timestamp_ns) AS first, max(timestamp_ns) AS last FROM {}",
            self.rows
        );
        let found = visit.asker.page(&sql).await?;
        let number_of = |column: &str| found.column(column).next().and_then(Value::number).unwrap_or(0.0);
        let count = known.unwrap_or_else(|| number_of("n"));
        let time_of = |column: &str| found.column(column).next().map_or("0".to_owned(), Value::plain);
        let sql = list_sql(&self.rows, &time_of("first"), &time_of("last"));
        let has_none = number_of("n") < 1.0;
        let events = if has_none { Table::default() } else { visit.asker.page(&sql).await? };
        let names: Vec<_> = self.point.iter().map(|(column, value)| named(column, value)).collect();
        let body = html! {
            p.crumbs { a href=(self.path) { (self.title) } " / Events behind it" }
            h1 { (self.title) @if !names.is_empty() { ": " (names.join(", ")) } }
            (period(self.filters, self.columns))
            section.card {
                p.figure { strong { (number(count)) } " " span.unit { "events: " (self.what) } }
                @if events.rows.is_empty() {
                    p.empty { "No event is behind this point. A share of nothing has none, and erased events are gone for good." }
                } @else {
                    (rows(&events))
                    @if count > events.rows.len() as f64 { p.note { "The newest " (events.rows.len()) "." } }
                }
                (sql_details(&sql, true))
            }
        };
        Ok(Content::Html { title: format!("Behind {}", self.title), current: self.current, body })
    }
}

/// Name of a point: of a line it is its own.
fn named(column: &str, value: &str) -> String {
    if column == "series" { value.to_owned() } else { format!("{column} {value}") }
}

/// SQL of the newest rows' events, which lie between two times: files of other times aren't read.
fn list_sql(rows: &str, first: &str, last: &str) -> String {
    format!(
        "SELECT timestamp, timestamp_ns, event_type, event_name, coalesce(service, platform) AS source, \
         coalesce({SUBJECT}, {TEXT}) AS subject, \
         coalesce(status, level, action, video_event) AS state, duration_ms AS \"duration, ms\", \
         coalesce(user_id, anonymous_id) AS user_id, session_id, {TRACE} AS trace_id FROM events \
         WHERE timestamp_ns BETWEEN {first} AND {last} AND event_id IN (SELECT event_id FROM {rows} ORDER BY timestamp_ns DESC \
         LIMIT {EVENTS_MAX}) ORDER BY timestamp_ns DESC"
    )
}

fn rows(events: &Table) -> Markup {
    let heads = ["Time", "Time lines", "Kind", "Event", "Subject", "State"];
    html! {
        div.scroll tabindex="0" role="region" aria-label="Events" {
            table.timeline {
                thead { tr {
                    @for head in heads { th scope="col" { (head) } }
                    th.n scope="col" { "ms" }
                } }
                tbody {
                    @for row in &events.rows {
                        tr.bad[matches!(row[6].text(), "error" | "fatal")] {
                            td { @if let Value::Integer(ns) = row[1] { (moment(ns, &time(ns))) } }
                            td {
                                @for (place, column) in [(8, "user_id"), (9, "session_id"), (10, "trace_id")] {
                                    (time_line(column, &row[place])) " "
                                }
                            }
                            td { (kind(row[2].text())) }
                            td { (row[3].text()) }
                            td { (row[4].text()) @if !row[5].text().is_empty() { ": " (row[5].text()) } }
                            td { (row[6].text()) }
                            td.n { (row[7].number().map_or(String::new(), number)) }
                        }
                    }
                }
            }
        }
    }
}
