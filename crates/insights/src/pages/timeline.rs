//! Time lines: all events of a session, a user or a trace, of every kind, with the hosts and costs behind them.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::layout::{filter_form, kind, moment, period, time_line};
use super::number::{number, time};
use super::visit::{Content, Problem, Visit};
use crate::filters::{DAY, Filters, NONE, SECOND, SUBJECT, TEXT, TRACE, literal};
use crate::table::{Table, Value};

/// Subject of a time line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A session.
    Session,
    /// A user.
    User,
    /// A trace.
    Trace,
    /// All that happened around a time, which is the identifier.
    Moment,
}

/// Events of one time line.
const EVENTS_MAX: usize = 1_000;
/// Usual period of a user's time line, days; of a session's and a trace's it is all time.
const USER_DAYS: f64 = 30.0;
/// Time before and after a moment that its page shows.
const MOMENT: i64 = 120 * SECOND;
/// Time around the events in which their hosts' metrics are shown.
const AROUND: i64 = 3_600 * SECOND;

/// The page.
pub async fn page(visit: &Visit<'_>, subject: Subject, id: &str) -> Result<Content, Problem> {
    let days = if subject == Subject::User { USER_DAYS } else { 3_660.0 };
    let mut filters = Filters::read(&visit.parameters, days, visit.now + DAY);
    if subject == Subject::Moment {
        let time = Filters::until(id).ok_or(Problem::Missing)?;
        (filters.from, filters.to) = (time.saturating_sub(MOMENT), time.saturating_add(MOMENT));
    }
    let mut events = events(visit, subject, id, &filters).await?;
    if let Some(sql) = hosts_sql(&events).filter(|_| subject != Subject::Moment) {
        events.rows.extend(visit.asker.page(&sql).await?.rows);
        events.rows.sort_by_key(|row| start_of(row));
    }
    let (name, path) = match subject {
        Subject::Session => ("Session", "session"),
        Subject::User => ("User", "user"),
        Subject::Trace => ("Trace", "trace"),
        Subject::Moment => ("Around", "moment"),
    };
    let services = match subject {
        Subject::Trace => super::services::of_trace(visit, id).await?,
        _ => Markup::default(),
    };
    let body = html! {
        h1 { (name) " " code { (id) } }
        @if subject == Subject::User {
            (filter_form(&format!("/{path}/{}", crate::filters::encoded(id)), NONE, &visit.parameters))
        }
        @if matches!(subject, Subject::User | Subject::Moment) { (period(&filters, NONE)) }
        section.card {
            @if events.rows.is_empty() {
                p.empty { "No event names this " (path) " in this period. Events that were erased are gone for good; a masked user has other \
                           identifiers than the application." }
            } @else { (rows(&events)) }
        }
        (services)
    };
    Ok(Content::Html { title: format!("{name} {id}"), current: "", body })
}

/// Traces that a time line follows.
const TRACES_MAX: usize = 500;
/// Events of the subject, and of the traces that these name. Each condition is one that the filters of the files decide: with OR
/// between them, all rows would be read.
async fn events(visit: &Visit<'_>, subject: Subject, id: &str, filters: &Filters) -> Result<Table, Problem> {
    let mut conditions = own_conditions(visit, subject, id).await?;
    let own = format!("({})", conditions.join(" OR "));
    if matches!(subject, Subject::Session | Subject::User) {
        let named = |condition: &String| {
            format!("SELECT {TRACE} AS trace FROM events WHERE {condition} AND {}", period_sql(filters))
        };
        let named: Vec<_> = conditions.iter().map(named).collect();
        let sql = format!(
            "SELECT DISTINCT trace FROM ({}) WHERE trace IS NOT NULL ORDER BY trace LIMIT {TRACES_MAX}",
            named.join(" UNION ALL ")
        );
        let traces = visit.asker.page(&sql).await?;
        let traces: Vec<_> = traces.column("trace").map(|trace| literal(trace.text())).collect();
        if !traces.is_empty() {
            conditions.push(format!("trace_id IN ({}) AND {own} IS NOT TRUE", traces.join(", ")));
        }
    }
    let of = |condition: &String| {
        format!(
            "SELECT timestamp_ns, event_type, event_name, platform, service, {SUBJECT} AS subject, \
             coalesce(status, level, action, video_event) AS state, duration_ms, session_id, user_id, trace_id, \
             json_text(raw_data, 'trace_span.resource.host_name') AS host, raw_data FROM events WHERE {condition} AND {}",
            period_sql(filters)
        )
    };
    let parts: Vec<_> = conditions.iter().map(of).collect();
    let all = parts.join(" UNION ALL ");
    let sql = format!(
        "SELECT timestamp_ns, event_type, event_name, platform, service, coalesce(subject, {TEXT}) AS subject, state, duration_ms, \
         session_id, user_id, trace_id, host, raw_data FROM (SELECT * FROM ({all}) ORDER BY timestamp_ns DESC LIMIT {EVENTS_MAX}) \
         ORDER BY timestamp_ns"
    );
    Ok(visit.asker.page(&sql).await?)
}

fn period_sql(filters: &Filters) -> String {
    format!("timestamp_ns >= {} AND timestamp_ns < {}", filters.from, filters.to)
}

/// Conditions of the subject's own events; no event meets two.
async fn own_conditions(visit: &Visit<'_>, subject: Subject, id: &str) -> Result<Vec<String>, Problem> {
    let id = literal(id);
    Ok(match subject {
        Subject::Session => vec![format!("session_id = {id}")],
        Subject::Moment => vec!["TRUE".to_owned()],
        Subject::Trace => vec![
            format!("trace_id = {id}"),
            format!("trace_id IS NULL AND json_text(context, 'trace_id') = {id}"),
        ],
        Subject::User => {
            let sql = format!(
                "SELECT DISTINCT anonymous_id FROM events WHERE event_type = 'identify' AND user_id = {id} \
                 AND anonymous_id IS NOT NULL ORDER BY 1 LIMIT {TRACES_MAX}"
            );
            let devices = visit.asker.page(&sql).await?;
            let devices: Vec<_> =
                devices.column("anonymous_id").map(|device| literal(device.text())).collect();
            let mut conditions = vec![
                format!("user_id = {id}"),
                format!("anonymous_id = {id} AND (user_id IS NULL OR user_id <> {id})"),
            ];
            if !devices.is_empty() {
                let devices = devices.join(", ");
                conditions.push(format!(
                    "anonymous_id IN ({devices}) AND anonymous_id <> {id} AND user_id IS NULL"
                ));
            }
            conditions
        }
    })
}

/// Metrics and costs of the hosts of spans, around the time of the events.
fn hosts_sql(events: &Table) -> Option<String> {
    let hosts: BTreeSet<_> = events.column("host").map(Value::text).filter(|host| !host.is_empty()).collect();
    let first = start_of(events.rows.first()?) - AROUND;
    let last = start_of(events.rows.last()?) + AROUND;
    let list: Vec<_> = hosts.into_iter().map(literal).collect();
    if list.is_empty() {
        return None;
    }
    let hosts = list.join(", ");
    let rest = "CAST(NULL AS DOUBLE) AS duration_ms, CAST(NULL AS VARCHAR) AS session_id, CAST(NULL AS VARCHAR) AS user_id, \
                CAST(NULL AS VARCHAR) AS trace_id, resource_id AS host, CAST(NULL AS VARCHAR) AS raw_data";
    Some(format!(
        "SELECT * FROM (SELECT timestamp_ns, event_type, 'host' AS event_name, platform, resource_id AS service, \
         concat('CPU ', round(100 * cpu_usage), ' %, memory ', round(100 * memory_usage), ' %') AS subject, CAST(NULL AS VARCHAR) AS state, {rest} \
         FROM infrastructure WHERE resource_id IN ({hosts}) AND timestamp_ns BETWEEN {first} AND {last} \
         UNION ALL SELECT timestamp_ns, event_type, 'cost' AS event_name, platform, resource_id AS service, \
         concat(round(coalesce(effective_cost, billed_cost), 4), ' ', currency, ', ', service_name) AS subject, \
         CAST(NULL AS VARCHAR) AS state, {rest} FROM costs WHERE resource_id IN ({hosts}) \
         AND timestamp_ns BETWEEN {first} - 86400000000000 AND {last}) ORDER BY timestamp_ns LIMIT 200"
    ))
}

fn start_of(row: &[Value]) -> i64 {
    match row.first() {
        Some(Value::Integer(time)) => *time,
        _ => 0,
    }
}

fn rows(events: &Table) -> Markup {
    let first = events.rows.first().map_or(0, |row| start_of(row));
    let end = |row: &Vec<Value>| start_of(row) + (row[7].number().unwrap_or(0.0) * 1e6) as i64;
    let whole = events.rows.iter().map(end).max().unwrap_or(first).saturating_sub(first).max(1) as f64;
    // Of minutes, the time from the begin says more than the time of day.
    let when = |at: i64| if whole > AROUND as f64 { time(at) } else { offset(at - first) };
    let share = |time: f64| format!("{:.2}", time / whole * 1_000.0);
    // Short events are seen, too, also at the end.
    let least = whole / 250.0;
    html! {
        p.note {
            (events.rows.len()) " events from " (time(first)) " UTC"
            @if events.rows.len() >= EVENTS_MAX { "; older ones are left out: choose a period" }
        }
        div.scroll tabindex="0" role="region" aria-label="Time line" {
            table.timeline {
                thead { tr { th scope="col" { "Time" } th scope="col" { "Kind" } th scope="col" { "Event" } th scope="col" { "Subject" }
                    th scope="col" { "State" } th.n scope="col" { "ms" } th scope="col" { "When" } th scope="col" { "More" } } }
                tbody {
                    @for row in &events.rows {
                        @let state = row[6].text();
                        tr.bad[matches!(state, "error" | "fatal")] {
                            td { (moment(start_of(row), &when(start_of(row)))) }
                            td { (kind(row[1].text())) }
                            td { (row[2].text()) }
                            td { @if !row[4].text().is_empty() { (row[4].text()) ": " } (row[5].text()) }
                            td { (state) }
                            td.n { (row[7].number().map_or(String::new(), number)) }
                            td.when {
                                svg viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true" {
                                    rect.track width="1000" height="10" {}
                                    rect.fill x=(share(((start_of(row) - first) as f64).min(whole - least))) height="10"
                                        width=(share((row[7].number().unwrap_or(0.0) * 1e6).max(least))) {}
                                }
                            }
                            td { (more(row)) }
                        }
                    }
                }
            }
        }
    }
}

fn more(row: &[Value]) -> Markup {
    html! {
        @for (column, place) in [("session_id", 8), ("user_id", 9), ("trace_id", 10)] {
            (time_line(column, &row[place])) " "
        }
        @if let Value::Text(raw) = &row[12] { details { summary { "JSON" } pre { code { (raw) } } } }
    }
}

fn offset(ns: i64) -> String {
    let seconds = ns as f64 / SECOND as f64;
    match seconds {
        seconds if seconds.abs() >= 86_400.0 => format!("{} d", number((seconds / 864.0).round() / 100.0)),
        seconds if seconds.abs() >= 60.0 => format!("{} min", number((seconds / 0.6).round() / 100.0)),
        seconds => format!("{seconds:.3} s"),
    }
}
