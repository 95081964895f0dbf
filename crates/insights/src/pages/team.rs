//! A team's page, and the page of one item.

use std::time::Duration;

use futures::future::join_all;
use maud::{Markup, html};
use tickstream_warehouse_core::loader::with_sources;

use super::chart::{Axis, chart, lines, with_currency};
use super::layout::{ROWS_MAX, figure, filter_form, period, sql, table};
use super::number::{self, minute, number};
use super::points::Points;
use super::visit::{Content, Problem, Visit};
use crate::answers::Kept;
use crate::ask::Unusual;
use crate::filters::{Filters, SECOND};
use crate::table::{Table, Value};
use crate::teams::{Chart, Item, Team, Trend};

/// Unusual hours that an item's page lists.
const UNUSUAL_MAX: usize = 10;
/// Rows of an item on its team's page.
const ROWS_BRIEF: usize = 8;

/// The page of a team: its items as cards.
pub async fn page(visit: &Visit<'_>, team: &'static Team) -> Result<Content, Problem> {
    let asked =
        team.items.iter().map(|item| visit.answers.ask_soon(team, item, &visit.parameters, visit.role));
    let contents = join_all(asked).await;
    let cards = team.items.iter().zip(contents).map(|(item, answer)| match answer {
        Ok(Some(kept)) => (
            item,
            false,
            html! { (period(&kept.filters, item.filters)) (brief(visit, team, item, &kept)) (below(visit, team, item, &kept)) },
        ),
        Ok(None) => (item, true, computing()),
        Err(error) => (item, false, html! { p.problem { (with_sources(&*error)) } }),
    });
    let known = team.items.iter().flat_map(|item| item.filters.iter().copied());
    let mut filters: Vec<_> = known.collect();
    filters.sort_unstable();
    filters.dedup_by_key(|(name, _)| *name);
    let body = html! {
        h1 { (team.title) }
        @if team.name == "engineering" { p { a href="/services" { "Service map" } } }
        (filter_form(&format!("/{}", team.name), &filters, &visit.parameters))
        div.cards {
            @for (item, is_pending, content) in cards {
                section.card.pending[is_pending] id=(item.name) {
                    h2 { a href=(item_address(visit, team, item, "")) { (item.title) } }
                    p.question { (item.question) }
                    (content)
                }
            }
        }
    };
    Ok(Content::Html { title: team.title.to_owned(), current: team.name, body })
}

/// State of an answer that takes longer than visitors wait. A script asks for it until it is there.
fn computing() -> Markup {
    html! {
        p.empty role="status" {
            "This answer is being computed: it is shown here when it is ready." noscript { " Load the page again in some seconds." }
        }
    }
}

/// The newest unusual hour, if there is one; time and version of the answer, if it was kept.
fn below(visit: &Visit<'_>, team: &Team, item: &Item, kept: &Kept) -> Markup {
    html! {
        @if let Some(newest) = kept.unusual.last() {
            p.note { strong { "Unusual" } ": " (unusual(visit, team, item, newest)) }
        }
        (as_of(kept))
    }
}

/// A sentence about an unusual hour, which leads to its events.
fn unusual(visit: &Visit<'_>, team: &Team, item: &Item, unusual: &Unusual) -> Markup {
    let hour = Filters { from: unusual.time, to: unusual.time + 3_600 * SECOND, values: Vec::new() };
    let behind = points_of(visit, team, item, true, &hour).map(|points| points.of_value(&unusual.series));
    html! {
        (unusual.series) " " (number(unusual.value)) " in the hour from "
        @match behind {
            Some(address) => a href=(address) { (minute(unusual.time)) },
            None => (minute(unusual.time)),
        }
        ": " (unusual.cause.text())
    }
}

/// Points of an item's drawing, or of its line; none for who may not see the events behind them.
fn points_of(
    visit: &Visit<'_>,
    team: &Team,
    item: &Item,
    is_line: bool,
    filters: &Filters,
) -> Option<Points> {
    let of_line = item.trend.and_then(|trend| trend.behind).filter(|_| is_line);
    let path = format!("/{}/{}/behind", team.name, item.name);
    let named = of_line.unwrap_or(item.behind).named;
    visit.asker.sees_all().then(|| Points::new(&path, named, &visit.parameters, filters))
}

/// Time and version of an answer that was kept.
fn as_of(kept: &Kept) -> Markup {
    let age = kept.at.elapsed();
    html! {
        @if age >= Duration::from_secs(2) {
            p.note { "As of " (number::age(age)) " ago, version " (kept.version) " of the tables." }
        }
    }
}

fn item_address(visit: &Visit<'_>, team: &Team, item: &Item, form: &str) -> String {
    let query = visit.parameters.with(&[]);
    let mark = if query.is_empty() { "" } else { "?" };
    format!("/{}/{}{form}{mark}{query}", team.name, item.name)
}

fn brief(visit: &Visit<'_>, team: &Team, item: &Item, kept: &Kept) -> Markup {
    let Kept { answer, filters, .. } = kept;
    if answer.table.rows.is_empty() {
        return html! { p.empty { (item.empty) } };
    }
    let points = points_of(visit, team, item, false, filters);
    let drawing = drawing(visit, team, item, kept);
    let is_drawn = !drawing.clone().into_string().is_empty();
    let mut few = answer.table.clone();
    few.rows.truncate(ROWS_BRIEF);
    html! {
        (figure(&with_currency(&item.headline.title(), &answer.table), answer.figures))
        (drawing)
        @if is_drawn && item.chart != Chart::Table {
            details { summary { "Table" } (table(&few, item.title, item.chart == Chart::Grid, points.as_ref())) }
        } @else {
            (table(&few, item.title, item.chart == Chart::Grid, points.as_ref()))
        }
        @if few.rows.len() < answer.table.rows.len() { p.note { "The first " (ROWS_BRIEF) " of " (answer.table.rows.len()) " rows." } }
    }
}

fn drawing(visit: &Visit<'_>, team: &Team, item: &Item, kept: &Kept) -> Markup {
    let Kept { answer, filters, .. } = kept;
    html! {
        (chart(item.chart, &answer.table, points_of(visit, team, item, false, filters).as_ref()))
        @if let (Some(trend), Some(rows)) = (item.trend, &answer.trend) {
            (lines(rows, &Axis::of(&trend, filters), points_of(visit, team, item, true, filters).as_ref()))
        }
    }
}

/// The page of an item: figure, drawing, table, definition, SQL, CSV.
pub async fn item_page(
    visit: &Visit<'_>,
    team: &'static Team,
    item: &'static Item,
) -> Result<Content, Problem> {
    let kept = visit.answers.ask_soon(team, item, &visit.parameters, visit.role).await?;
    let path = format!("/{}/{}", team.name, item.name);
    let body = html! {
        p.crumbs { a href=(format!("/{}", team.name)) { (team.title) } " / " (item.title) }
        h1 { (item.title) }
        p.question { (item.question) }
        (filter_form(&path, item.filters, &visit.parameters))
        div.pending[kept.is_none()] id="answer" {
            @match &kept {
                Some(kept) => (answered(visit, team, item, kept)),
                None => section.card { (computing()) },
            }
            section.card {
                h2 { "Definition" }
                p { (item.definition) }
                p {
                    a href=(item_address(visit, team, item, ".csv")) { "CSV" } " · "
                    a href=(item_address(visit, team, item, ".json")) { "JSON" }
                }
                @if let Some(kept) = &kept { (sql(&kept.answer.sql, visit.asker.sees_all())) }
            }
        }
    };
    Ok(Content::Html { title: item.title.to_owned(), current: team.name, body })
}

/// The answer of an item, and what is unusual in it.
fn answered(visit: &Visit<'_>, team: &Team, item: &Item, kept: &Kept) -> Markup {
    let Kept { answer, filters, unusual: hours, .. } = kept;
    let points = points_of(visit, team, item, false, filters);
    html! {
        (period(filters, item.filters))
        section.card {
            @if answer.table.rows.is_empty() {
                p.empty { (item.empty) }
            } @else {
                (figure(&with_currency(&item.headline.title(), &answer.table), answer.figures))
                (drawing(visit, team, item, kept))
                (table(&answer.table, item.title, item.chart == Chart::Grid, points.as_ref()))
                @if let (Some(trend), Some(rows)) = (item.trend, &answer.trend) { (line_table(visit, team, item, &trend, rows)) }
            }
            (as_of(kept))
        }
        @if !hours.is_empty() {
            section.card {
                h2 { "Unusual in the last four weeks" }
                ul { @for hour in hours.iter().rev().take(UNUSUAL_MAX) { li { (unusual(visit, team, item, hour)) } } }
                p.note { "By the streaming detector, over the item's line by hours." }
            }
        }
    }
}

/// The values of a line, newest first, for who can't point at it.
fn line_table(visit: &Visit<'_>, team: &Team, item: &Item, trend: &Trend, rows: &Table) -> Markup {
    let step = |filters: &Filters| filters.step(trend.sql);
    html! {
        details {
            summary { (trend.title) ", as a table" }
            div.scroll tabindex="0" role="region" aria-label=(trend.title) {
                table {
                    thead { tr { th scope="col" { "time" } th scope="col" { "series" } th.n scope="col" { "value" } } }
                    tbody { @for row in rows.rows.iter().rev().take(ROWS_MAX) { (line_row(visit, team, item, row, step)) } }
                }
            }
            @if rows.rows.len() > ROWS_MAX { p.note { "The newest " (ROWS_MAX) " of " (rows.rows.len()) "." } }
        }
    }
}

fn line_row(
    visit: &Visit<'_>,
    team: &Team,
    item: &Item,
    row: &[Value],
    step: impl Fn(&Filters) -> i64,
) -> Markup {
    let [Value::Time(time), series, value] = row else { return html! {} };
    let period = Filters::read(&visit.parameters, item.days, visit.now);
    let part = Filters { from: *time, to: time + step(&period), values: Vec::new() };
    let series = number::cell(series);
    let behind = points_of(visit, team, item, true, &part).map(|points| points.of_value(&series));
    html! {
        tr {
            td { @match behind { Some(address) => a href=(address) { (minute(*time)) }, None => (minute(*time)) } }
            td { (series) }
            td.n { (number::cell(value)) }
        }
    }
}

/// Rows of an item, for CSV and JSON.
pub async fn rows(visit: &Visit<'_>, team: &'static Team, item: &'static Item) -> Result<Table, Problem> {
    visit.check_period()?;
    Ok(visit.answers.ask(team, item, &visit.parameters, visit.role).await?.answer.table.clone())
}
