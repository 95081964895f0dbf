//! Explore: trends, funnels, retention, paths and SQL of one's own. The address has the whole question.

use std::sync::Arc;

use maud::{Markup, html};

use super::behind::Found;
use super::chart::{Axis, chart, lines};
use super::layout::{filter_form_with, period, sql as sql_details, table};
use super::points::{Points, conditions};
use super::visit::{Content, Problem, Visit};
use crate::filters::{CLIENT, Columns, DAY, Filters, Parameters, literal};
use crate::journeys::{Named, Selection};
use crate::paths::Direction;
use crate::table::{Table, Value};
use crate::teams::{
    Chart, FLOWS_SQL, Gaps, PATHS, RETAINED, RETAINED_BEHIND, SESSIONS_BEHIND, Way, flows, funnel_of, weekly,
};

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
    let names = match kind {
        "sql" => Arc::default(),
        _ => visit.names.get(visit.engine, visit.now).await?,
    };
    let body = html! {
        h1 { "Explore" }
        nav.tabs aria-label="Kinds of questions" {
            @for (name, title) in KINDS {
                a href=(format!("/explore?{}", visit.parameters.with(&[("kind", name)]))) aria-current=[(name == kind).then_some("true")] { (title) }
            }
        }
        (filter_form_with("/explore", CLIENT, &visit.parameters, &fields(kind, &visit.parameters)))
        datalist id="events" { @for name in names.column("event_name") { option value=(name.text()) {} } }
        (period(&filters, CLIENT))
        @match answer {
            Ok(Some(answer)) => section.card {
                @if answer.table.rows.is_empty() { p.empty { "No rows. The events of the tracking plan are: product_viewed, added_to_cart, purchased." } }
                @let points = points(kind, &visit.parameters, &filters);
                @if answer.is_trend { (lines(&answer.table, &axis(kind, &visit.parameters, &answer.table, &filters), points.as_ref())) }
                @else { (chart(answer.chart, &answer.table, points.as_ref())) }
                (table(&answer.table, "Answer", answer.chart == Chart::Grid, points.as_ref().filter(|_| !answer.is_trend)))
                p { a href=(format!("/explore.csv?{}", visit.parameters.with(&[]))) { "CSV" } }
                (sql_details(&answer.sql, true))
            },
            Ok(None) => section.card { p.empty { "Fill in the question, and press Show." } },
            Err(Problem::Failed(error)) => (super::layout::problem("No answer", &tickstream_warehouse_core::loader::with_sources(&*error))),
            Err(_) => {}
        }
    };
    Ok(Content::Html { title: "Explore".to_owned(), current: "explore", body })
}

/// Frame of a trend. The step of rows of one's own SQL is the smallest one between them.
fn axis(kind: &str, parameters: &Parameters, table: &Table, filters: &Filters) -> Axis<'static> {
    let title = match parameters.get("measure") {
        Some("persons") => "Persons",
        Some("revenue") => "Revenue",
        _ if kind == "trend" => "Events",
        _ => "Value",
    };
    let period = (filters.from, filters.to);
    if kind == "trend" {
        return Axis { title, period, step: filters.step("{bucket}"), gaps: Gaps::Zero };
    }
    let mut times: Vec<_> =
        table.column("bucket").filter_map(Value::number).map(|time| time as i64).collect();
    times.sort_unstable();
    let step = times.windows(2).map(|pair| pair[1] - pair[0]).filter(|step| *step > 0).min();
    Axis { title, period, step: step.unwrap_or(DAY), gaps: Gaps::Open }
}

/// Columns that name a point of a kind of question; none where it has no points.
fn named(kind: &str) -> Columns {
    match kind {
        "trend" => &[("series", "")],
        "funnel" => &[("step", "")],
        "retention" => &[("week", "week"), ("cell", "cell")],
        "paths" => PATHS,
        _ => &[],
    }
}

fn points(kind: &str, parameters: &Parameters, filters: &Filters) -> Option<Points> {
    let named = named(kind);
    (!named.is_empty()).then(|| Points::new("/explore/behind", named, parameters, filters))
}

/// Events behind a point.
pub async fn behind(visit: &Visit<'_>) -> Result<Content, Problem> {
    let parameters = &visit.parameters;
    let filters = Filters::read(parameters, 30.0, visit.now);
    let kind = kind(parameters);
    let (point, of_point) = conditions(named(kind), parameters);
    let Some((_, value)) = point.first() else { return Err(Problem::Missing) };
    let (what, rows) = match kind {
        "trend" => {
            let condition = format!(
                "{} = {} AND {}",
                series_of(parameters),
                literal(value),
                is_event(parameters, "event")
            );
            let rows = "{clients} WHERE {where} AND {condition}";
            ("all of this line", with_conditions(rows, &filters, &[("{condition}", &condition)]))
        }
        "funnel" => {
            ("the first event of each person who reached this step", reached(parameters, value, &filters))
        }
        "retention" => {
            let is_size = point.contains(&("cell", "persons".to_owned()));
            let start = is_event(parameters, "event");
            let shown = if is_size { start.clone() } else { is_event(parameters, "return") };
            let rows = with_conditions(RETAINED, &filters, &[("{start}", &start), ("{shown}", &shown)]);
            (RETAINED_BEHIND, format!("{rows}{of_point}"))
        }
        _ => (SESSIONS_BEHIND, String::new()),
    };
    let found = Found {
        title: "Explore",
        path: "/explore",
        what,
        point: &point,
        rows,
        filters: &filters,
        columns: CLIENT,
        current: "explore",
    };
    if kind == "paths" { found.sessions(visit, &way(parameters)).await } else { found.page(visit).await }
}

/// Part of the sessions that paths show.
fn way(parameters: &Parameters) -> Way<'_> {
    let direction = match parameters.get("direction") {
        Some("to") => Direction::To,
        Some("around") => Direction::Around,
        _ => Direction::From,
    };
    Way { anchor: parameters.get("anchor"), direction, steps: 3 }
}

/// Persons who reached a step of a funnel: "2. purchased".
fn reached(parameters: &Parameters, step: &str, filters: &Filters) -> String {
    let steps: Vec<_> = parameters.all("step").take(STEPS_MAX).collect();
    let conditions: Vec<_> = steps.iter().map(|step| format!("event_name = {}", literal(step))).collect();
    let level = step.split('.').next().and_then(|number| number.parse::<u32>().ok()).unwrap_or(1);
    let window = (window(parameters) * DAY as f64) as i64;
    let head = format!(
        "(SELECT first_value(event_id ORDER BY timestamp_ns) AS event_id, min(timestamp_ns) AS timestamp_ns, \
         window_funnel({window}, timestamp_ns, {}) AS level",
        conditions.join(", ")
    );
    let rows = "FROM {clients} WHERE {where} AND person IS NOT NULL AND {condition} GROUP BY person)";
    let condition = format!("event_name IN ({})", list(&steps));
    let rows = with_conditions(rows, filters, &[("{condition}", &condition)]);
    format!("{head} {rows} WHERE level >= {level}")
}

/// The answer as CSV.
pub async fn csv(visit: &Visit<'_>) -> Result<Content, Problem> {
    visit.check_period()?;
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
    let text = |name: &str, title: &str| html! { label { (title) input type="text" name=(name) value=(value(name)) size="16" list="events"; } };
    let choice = |name: &str, title: &str, values: &[&str]| {
        html! { label { (title) select name=(name) {
            @for option in values { option value=(option) selected[value(name) == *option] { (if option.is_empty() { "–".to_owned() } else { option.replace('_', " ") }) } }
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
                    label { "Step " (place + 1) input type="text" name="step" value=(steps.get(place).unwrap_or(&"")) size="16" list="events"; }
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
            let selection = Selection::events(filters, Named::OneOf(&steps));
            let table = funnel_of(&visit.asker.selected(vec![selection]).await?, &steps, window);
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
            let selection = match names {
                [Some(start), Some(back)] => Selection::days(filters, Named::OneOf(&[start, back])),
                [None, None] => Selection::days(filters, Named::Nameless),
                _ => Selection::days(filters, Named::All),
            };
            let table = weekly(&visit.asker.selected(vec![selection]).await?, filters, names);
            (sql, table, Chart::Grid)
        }
        "paths" => {
            let sql = filters.sql(FLOWS_SQL, CLIENT);
            let table =
                flows(&visit.asker.selected(vec![Selection::steps(filters)]).await?, &way(parameters));
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

/// SQL of a template with marks of its own. Their conditions come between its parts, so that a mark in a value stays a text.
fn with_conditions(template: &str, filters: &Filters, conditions: &[(&str, &str)]) -> String {
    let Some(((mark, condition), others)) = conditions.split_first() else {
        return filters.sql(template, CLIENT);
    };
    let parts: Vec<_> = template.split(mark).map(|part| with_conditions(part, filters, others)).collect();
    parts.join(condition)
}

/// Events of people at a time, in a period.
fn people_sql(time: &str, period: &str, condition: &str, filters: &Filters) -> String {
    let template = format!(
        "SELECT user_id, anonymous_id, {time}, event_name FROM client_events WHERE {period} AND {{condition}}"
    );
    with_conditions(&template, filters, &[("{condition}", condition)])
}

fn is_event(parameters: &Parameters, name: &str) -> String {
    parameters.get(name).map_or("TRUE".to_owned(), |event| format!("event_name = {}", literal(event)))
}

/// SQL of the name of a trend's line.
fn series_of(parameters: &Parameters) -> String {
    let by = BY.iter().find(|by| Some(**by) == parameters.get("by"));
    by.map_or("'all'".to_owned(), |by| format!("coalesce({by}, '(none)')"))
}

fn trend_sql(parameters: &Parameters, filters: &Filters) -> String {
    let series = series_of(parameters);
    let value = match parameters.get("measure") {
        Some("persons") => "count(DISTINCT person)",
        Some("revenue") => "sum(revenue)",
        _ => "count(*)",
    };
    let template = format!(
        "SELECT {{bucket}} AS bucket, {series} AS series, {value} AS value FROM {{clients}} WHERE {{where}} AND {{condition}} \
         GROUP BY 1, 2 ORDER BY 1, 2"
    );
    with_conditions(&template, filters, &[("{condition}", &is_event(parameters, "event"))])
}
