//! A team's page, and the page of one item.

use std::time::Duration;

use futures::future::join_all;
use maud::{Markup, html};
use tickstream_warehouse_core::loader::with_sources;

use super::chart::{chart, lines};
use super::layout::{figure, filter_form, period, sql, table};
use super::visit::{Content, Problem, Visit};
use crate::answers::Kept;
use crate::ask::Answer;
use crate::filters::{Columns, Filters};
use crate::table::Table;
use crate::teams::{Chart, Item, Team};

/// All filters: a team's items follow those that they know.
const ALL: Columns = &[("platform", ""), ("version", ""), ("country", ""), ("service", "")];
/// Unusual hours that an item's page lists.
const UNUSUAL_MAX: usize = 10;
/// Rows of an item on its team's page.
const ROWS_BRIEF: usize = 8;

/// The page of a team: its items as cards.
pub async fn page(visit: &Visit<'_>, team: &'static Team) -> Result<Content, Problem> {
    let asked = team.items.iter().map(|item| visit.answers.ask(team, item, &visit.parameters, visit.role));
    let contents = join_all(asked).await;
    let cards = team.items.iter().zip(contents).map(|(item, answer)| match answer {
        Ok(kept) => (item, html! { (period(&kept.filters, item.filters)) (brief(item, &kept.answer, &kept.filters)) (below(&kept)) }),
        Err(error) => (item, html! { p.problem { (with_sources(&error)) } }),
    });
    let body = html! {
        h1 { (team.title) }
        @if team.name == "engineering" { p { a href="/services" { "Service map" } } }
        (filter_form(&format!("/{}", team.name), ALL, &visit.parameters))
        div.cards {
            @for (item, content) in cards {
                section.card {
                    h2 { a href=(item_address(visit, team, item, "")) { (item.title) } }
                    (content)
                }
            }
        }
    };
    Ok(Content::Html { title: team.title.to_owned(), current: team.name, body })
}

/// The newest unusual hour, if there is one; time and version of the answer, if it was kept.
fn below(kept: &Kept) -> Markup {
    html! {
        @if let Some(unusual) = kept.unusual.last() {
            p.note { strong { "Unusual" } ": " (unusual.series) " " (unusual.summary()) }
        }
        (as_of(kept))
    }
}

/// Time and version of an answer that was kept.
fn as_of(kept: &Kept) -> Markup {
    let age = kept.at.elapsed();
    html! {
        @if age >= Duration::from_secs(2) {
            p.note { "As of " (age.as_secs()) " s ago, version " (kept.version) " of the tables." }
        }
    }
}

fn item_address(visit: &Visit<'_>, team: &Team, item: &Item, form: &str) -> String {
    let query = visit.parameters.with(&[]);
    let mark = if query.is_empty() { "" } else { "?" };
    format!("/{}/{}{form}{mark}{query}", team.name, item.name)
}

fn brief(item: &Item, answer: &Answer, filters: &Filters) -> Markup {
    if answer.table.rows.is_empty() {
        return html! { p.empty { (item.empty) } };
    }
    let drawing = drawing(item, answer, filters);
    let is_drawn = !drawing.clone().into_string().is_empty();
    let mut few = answer.table.clone();
    few.rows.truncate(ROWS_BRIEF);
    html! {
        (figure(&item.headline.title(), answer.figures))
        (drawing)
        @if is_drawn && item.chart != Chart::Table {
            details { summary { "Table" } (table(&few, item.title, item.chart == Chart::Grid)) }
        } @else {
            (table(&few, item.title, item.chart == Chart::Grid))
        }
        @if few.rows.len() < answer.table.rows.len() { p.note { "The first " (ROWS_BRIEF) " of " (answer.table.rows.len()) " rows." } }
    }
}

fn drawing(item: &Item, answer: &Answer, filters: &Filters) -> Markup {
    html! {
        (chart(item.chart, &answer.table))
        @if let (Some(trend), Some(rows)) = (item.trend, &answer.trend) {
            (lines(rows, trend.title, (filters.from, filters.to)))
        }
    }
}

/// The page of an item: figure, drawing, table, definition, SQL, CSV.
pub async fn item_page(
    visit: &Visit<'_>,
    team: &'static Team,
    item: &'static Item,
) -> Result<Content, Problem> {
    let kept = visit.answers.ask(team, item, &visit.parameters, visit.role).await?;
    let Kept { answer, filters, unusual, .. } = &kept;
    let path = format!("/{}/{}", team.name, item.name);
    let body = html! {
        p.crumbs { a href=(format!("/{}", team.name)) { (team.title) } " / " (item.title) }
        h1 { (item.title) }
        (filter_form(&path, item.filters, &visit.parameters))
        (period(filters, item.filters))
        section.card {
            @if answer.table.rows.is_empty() {
                p.empty { (item.empty) }
            } @else {
                (figure(&item.headline.title(), answer.figures))
                (drawing(item, answer, filters))
                (table(&answer.table, item.title, item.chart == Chart::Grid))
            }
            (as_of(&kept))
        }
        @if !unusual.is_empty() {
            section.card {
                h2 { "Unusual in the last four weeks" }
                ul { @for unusual in unusual.iter().rev().take(UNUSUAL_MAX) { li { strong { (unusual.series) } " " (unusual.summary()) } } }
                p.note { "By the streaming detector, over the item's line by hours." }
            }
        }
        section.card {
            h2 { "Definition" }
            p { (item.definition) }
            p {
                a href=(item_address(visit, team, item, ".csv")) { "CSV" } " · "
                a href=(item_address(visit, team, item, ".json")) { "JSON" }
            }
            (sql(&answer.sql, visit.asker.sees_all()))
        }
    };
    Ok(Content::Html { title: item.title.to_owned(), current: team.name, body })
}

/// Rows of an item, for CSV and JSON.
pub async fn rows(visit: &Visit<'_>, team: &'static Team, item: &'static Item) -> Result<Table, Problem> {
    Ok(visit.answers.ask(team, item, &visit.parameters, visit.role).await?.answer.table.clone())
}
