//! Service map: services that call others, from the spans of both sides.

use maud::{Markup, html};

use super::behind::Found;
use super::flows::flows;
use super::layout::{filter_form, period, sql as sql_details, table};
use super::points::{Points, conditions};
use super::visit::{Content, Problem, Visit};
use crate::filters::{Columns, Filters, literal};
use crate::table::Table;

/// Usual period, days.
const DAYS: f64 = 1.0;
/// Pairs of services that are shown.
const PAIRS_MAX: usize = 100;
/// Filters that the calls know.
const FILTERS: Columns = &[("platform", "platform")];

/// Conditions of a pair of services, and of either of them.
const PATHS: Columns = &[
    ("calls", "calls"),
    ("step 1", "split_part(calls, ' → ', 1)"),
    ("step 2", "split_part(calls, ' → ', 2)"),
];

/// The page.
pub async fn page(visit: &Visit<'_>) -> Result<Content, Problem> {
    let filters = Filters::read(&visit.parameters, DAYS, visit.now);
    let sql = filters.sql(&calls_sql("{where}"), FILTERS);
    let calls = visit.asker.page(&sql).await?;
    let points =
        visit.asker.sees_all().then(|| Points::new("/services/behind", PATHS, &visit.parameters, &filters));
    let body = html! {
        p.crumbs { a href="/engineering" { "Engineering" } " / Service map" }
        h1 { "Service map" }
        (filter_form("/services", FILTERS, &visit.parameters))
        (period(&filters, FILTERS))
        section.card {
            @if calls.rows.is_empty() {
                p.empty { "No span has its parent in another service. Services must pass on the trace context (traceparent)." }
            } @else { (map(&calls, points.as_ref())) }
            p.note { "Calls: spans whose parent is a span of another service in the same trace; failed ones and p95 as the called service reports them." }
            (sql_details(&sql, visit.asker.sees_all()))
        }
    };
    Ok(Content::Html { title: "Service map".to_owned(), current: "engineering", body })
}

/// The services of one trace, if they are several.
pub async fn of_trace(visit: &Visit<'_>, id: &str) -> Result<Markup, Problem> {
    let calls = visit.asker.page(&calls_sql(&format!("trace_id = {}", literal(id)))).await?;
    Ok(html! {
        @if !calls.rows.is_empty() { section.card { h2 { "Services" } (map(&calls, None)) } }
    })
}

/// Calls behind a band or a service of the map.
pub async fn behind(visit: &Visit<'_>) -> Result<Content, Problem> {
    let filters = Filters::read(&visit.parameters, DAYS, visit.now);
    let (point, conditions) = conditions(PATHS, &visit.parameters);
    let rows = "(SELECT c.event_id, c.timestamp_ns, concat(p.service, ' → ', c.service) AS calls FROM (SELECT * FROM spans \
                WHERE parent_span_id IS NOT NULL AND {where}) c JOIN (SELECT trace_id, span_id, service FROM spans WHERE {where}) p \
                ON c.trace_id = p.trace_id AND c.parent_span_id = p.span_id WHERE c.service <> p.service) WHERE TRUE";
    let found = Found {
        title: "Service map",
        path: "/services",
        what: "calls of another service",
        point: &point,
        rows: format!("{}{conditions}", filters.sql(rows, FILTERS)),
        filters: &filters,
        columns: FILTERS,
        current: "engineering",
    };
    found.page(visit).await
}

fn calls_sql(condition: &str) -> String {
    format!(
        "SELECT concat(p.service, ' → ', c.service) AS calls, count(*) AS spans, 100.0 * count(*) FILTER (WHERE c.status = 'error') / count(*) AS \
         \"failed, %\", quantile_sketch(c.duration_ms, 0.95) AS \"p95, ms\" FROM (SELECT trace_id, parent_span_id, service, status, duration_ms \
         FROM spans WHERE parent_span_id IS NOT NULL AND {condition}) c JOIN (SELECT trace_id, span_id, service FROM spans WHERE {condition}) p \
         ON c.trace_id = p.trace_id AND c.parent_span_id = p.span_id WHERE c.service <> p.service GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {PAIRS_MAX}"
    )
}

fn map(calls: &Table, points: Option<&Points>) -> Markup {
    html! {
        (flows(calls, "calls", "spans", points))
        (table(calls, "Calls between services", false, points))
    }
}
