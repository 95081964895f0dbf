//! Explore: trends, funnels, retention, paths and SQL of one's own. The address has the whole question.

use maud::{Markup, html};

use super::chart::{chart, lines};
use super::layout::{filter_form_with, period, sql as sql_details, table};
use super::visit::{Content, Problem, Visit};
use crate::filters::{CLIENT, DAY, Filters, Parameters, literal};
use crate::paths::Direction;
use crate::table::Table;
use crate::teams::{Chart, flows, funnel_of, weekly};

const KINDS: [(&str, &str); 5] = [
    ("trend", "Trend"),
    ("funnel", "Funnel"),
    ("retention", "Retention"),
    ("paths", "Paths"),
    ("sql", "SQL"),
];
const STEPS_MAX: usize = 6;
/// Columns by which a trend can be parted.
const BY: [&str; 9] = [
    "event_name",
    "platform",
    "channel",
    "country",
    "app_version",
    "device_type",
    "campaign",
    "screen_name",
    "variant",
];

/// A question and its answer.
struct Answer {
    sql: String,
    table: Table,
    chart: Chart,
    is_trend: bool,
}

/// The page.
pub async fn page(visit: &Visit<'_>) -> Result<Content, Problem> {
    let filters = Filters::read(&visit.parameters, 30.0, visit.now);
    let kind = kind(&visit.parameters);
    let answer = ask(visit, kind, &filters).await;
    let body = html! {
        h1 { "Explore" }
        nav.tabs aria-label="Kinds of questions" {
            @for (name, title) in KINDS {
                a href=(format!("/explore?{}", visit.parameters.with(&[("kind", name)]))) aria-current=[(name == kind).then_some("true")] { (title) }
            }
        }
        (filter_form_with("/explore", CLIENT, &visit.parameters, &fields(kind, &visit.parameters)))
        (period(&filters, CLIENT))
        @match answer {
            Ok(Some(answer)) => section.card {
                @if answer.table.rows.is_empty() { p.empty { "No rows. The events of the tracking plan are: product_viewed, added_to_cart, purchased." } }
                @if answer.is_trend { (lines(&answer.table, "Trend", (filters.from, filters.to))) } @else { (chart(answer.chart, &answer.table)) }
                (table(&answer.table, "Answer", answer.chart == Chart::Grid))
                p { a href=(format!("/explore.csv?{}", visit.parameters.with(&[]))) { "CSV" } }
                (sql_details(&answer.sql, true))
            },
            Ok(None) => section.card { p.empty { "Fill in the question, and press Show." } },
            Err(Problem::Failed(error)) => (super::layout::problem("No answer", &tickstream_warehouse_core::loader::with_sources(&error))),
            Err(_) => {}
        }
    };
    Ok(Content::Html { title: "Explore".to_owned(), current: "explore", body })
}

/// The answer as CSV.
pub async fn csv(visit: &Visit<'_>) -> Result<Content, Problem> {
    let filters = Filters::read(&visit.parameters, 30.0, visit.now);
    match ask(visit, kind(&visit.parameters), &filters).await? {
        Some(answer) => Ok(Content::Csv(answer.table.csv())),
        None => Err(Problem::Missing),
    }
}

fn kind(parameters: &Parameters) -> &'static str {
    let asked = parameters.get("kind").unwrap_or_default();
    KINDS.iter().find(|(name, _)| *name == asked).map_or("trend", |(name, _)| name)
}

/// Fields of the form beside period and filters.
fn fields(kind: &str, parameters: &Parameters) -> Markup {
    let value = |name: &str| parameters.get(name).unwrap_or_default().to_owned();
    let text = |name: &str, title: &str| html! { label { (title) input type="text" name=(name) value=(value(name)) size="16"; } };
    let choice = |name: &str, title: &str, values: &[&str]| {
        html! { label { (title) select name=(name) {
            @for option in values { option value=(option) selected[value(name) == *option] { (if option.is_empty() { "–" } else { option }) } }
        } } }
    };
    html! {
        input type="hidden" name="kind" value=(kind);
        @match kind {
            "trend" => {
                (text("event", "Event (empty: all)"))
                (choice("measure", "Measure", &["events", "persons", "revenue"]))
                (choice("by", "By", &["", BY[0], BY[1], BY[2], BY[3], BY[4], BY[5], BY[6], BY[7], BY[8]]))
            }
            "funnel" => {
                @let steps: Vec<_> = parameters.all("step").collect();
                @for place in 0..STEPS_MAX {
                    label { "Step " (place + 1) input type="text" name="step" value=(steps.get(place).unwrap_or(&"")) size="16"; }
                }
                label { "Window, days" input type="number" name="window" min="0.01" max="366" step="any" value=(window(parameters)); }
            }
            "retention" => { (text("event", "First event (empty: any)")) (text("return", "Return event (empty: any)")) }
            "paths" => {
                (text("anchor", "Event (empty: the session's begin)"))
                (choice("direction", "Direction", &["from", "to", "around"]))
            }
            _ => label.whole { "SQL" textarea name="sql" rows="8" cols="80" spellcheck="false" { (value("sql")) } },
        }
    }
}

fn window(parameters: &Parameters) -> f64 {
    let days = parameters.get("window").and_then(|days| days.parse::<f64>().ok());
    days.filter(|days| *days > 0.0 && *days <= 366.0).unwrap_or(7.0)
}

async fn ask(visit: &Visit<'_>, kind: &str, filters: &Filters) -> Result<Option<Answer>, Problem> {
    let parameters = &visit.parameters;
    let rows = async |sql: &str| visit.asker.page(sql).await;
    let (sql, table, chart) = match kind {
        "trend" => {
            let sql = trend_sql(parameters, filters);
            let table = rows(&sql).await?;
            (sql, table, Chart::Table)
        }
        "funnel" => {
            let steps: Vec<_> = parameters.all("step").take(STEPS_MAX).collect();
            if steps.is_empty() {
                return Ok(None);
            }
            let sql =
                people_sql("timestamp_ns", "{where}", &format!("event_name IN ({})", list(&steps)), filters);
            let window = (window(parameters) * DAY as f64) as i64;
            let table = funnel_of(&visit.asker.journeys(&sql).await?, &steps, window);
            (sql, table, Chart::Steps("step", "persons"))
        }
        "retention" => {
            let names = [parameters.get("event"), parameters.get("return")];
            let condition = match names {
                [Some(start), Some(back)] => format!("event_name IN ({})", list(&[start, back])),
                _ => "TRUE".to_owned(),
            };
            let sql = people_sql(
                "timestamp_ns / 86400000000000 * 86400000000000 AS day",
                "{until}",
                &condition,
                filters,
            );
            let table = weekly(&visit.asker.journeys(&sql).await?, filters, names);
            (sql, table, Chart::Grid)
        }
        "paths" => {
            let direction = match parameters.get("direction") {
                Some("to") => Direction::To,
                Some("around") => Direction::Around,
                _ => Direction::From,
            };
            let sql = people_sql(
                "timestamp_ns",
                "{where}",
                "event_type IN ('user_interaction', 'custom')",
                filters,
            );
            let table = flows(&visit.asker.journeys(&sql).await?, parameters.get("anchor"), direction, 3);
            (sql, table, Chart::Flows("path", "sessions"))
        }
        _ => {
            let Some(sql) = parameters.get("sql") else { return Ok(None) };
            (sql.to_owned(), visit.asker.sql(sql).await?, Chart::Table)
        }
    };
    let is_trend = kind == "trend" || table.columns == ["bucket", "series", "value"];
    Ok(Some(Answer { sql, table, chart, is_trend }))
}

fn list(values: &[&str]) -> String {
    values.iter().map(|value| literal(value)).collect::<Vec<_>>().join(", ")
}

/// Conditions with values come after the marks of the template were replaced.
fn with_condition(template: &str, filters: &Filters, condition: &str) -> String {
    let (before, after) = template.split_once("{condition}").unwrap_or((template, ""));
    format!("{}{condition}{}", filters.sql(before, CLIENT), filters.sql(after, CLIENT))
}

/// Events of people at a time, in a period.
fn people_sql(time: &str, period: &str, condition: &str, filters: &Filters) -> String {
    let template = format!(
        "SELECT user_id, anonymous_id, {time}, event_name FROM client_events WHERE {period} AND {{condition}}"
    );
    with_condition(&template, filters, condition)
}

fn is_event(parameters: &Parameters, name: &str) -> String {
    parameters.get(name).map_or("TRUE".to_owned(), |event| format!("event_name = {}", literal(event)))
}

fn trend_sql(parameters: &Parameters, filters: &Filters) -> String {
    let by = BY.iter().find(|by| Some(**by) == parameters.get("by"));
    let series = by.map_or("'all'".to_owned(), |by| format!("coalesce({by}, '(none)')"));
    let value = match parameters.get("measure") {
        Some("persons") => "count(DISTINCT person)",
        Some("revenue") => "sum(revenue)",
        _ => "count(*)",
    };
    let template = format!(
        "SELECT {{bucket}} AS bucket, {series} AS series, {value} AS value FROM {{clients}} WHERE {{where}} AND {{condition}} \
         GROUP BY 1, 2 ORDER BY 1, 2"
    );
    with_condition(&template, filters, &is_event(parameters, "event"))
}
