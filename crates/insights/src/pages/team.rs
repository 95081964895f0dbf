//! A team's page, and the page of one item.

use maud::{Markup, html};
use tickstream_warehouse_core::loader::with_sources;

use super::chart::{chart, lines};
use super::layout::{figure, filter_form, period, sql, table};
use super::visit::{Content, Problem, Visit};
use crate::ask::Answer;
use crate::filters::{Columns, Filters};
use crate::table::Table;
use crate::teams::{Chart, Item, Team};

/// All filters: a team's items obey those that they know.
const ALL: Columns = &[("platform", ""), ("version", ""), ("country", ""), ("service", "")];
/// Rows of an item on its team's page.
const ROWS_BRIEF: usize = 8;

/// The page of a team: its items as cards.
pub async fn page(visit: &Visit<'_>, team: &'static Team) -> Result<Content, Problem> {
    let mut cards = Vec::with_capacity(team.items.len());
    for item in &team.items {
        let filters = Filters::read(&visit.parameters, item.days, visit.now);
        let content = match visit.asker.item(item, &filters).await {
            Ok(answer) => brief(item, &answer, &filters),
            Err(error) => html! { p.problem { (with_sources(&error)) } },
        };
        cards.push((item, content));
    }
    let body = html! {
        h1 { (team.title) }
        (filter_form(&format!("/{}", team.name), ALL, &visit.parameters))
        div.cards {
            @for (item, content) in cards {
                section.card {
                    h2 { a href=(item_address(visit, team, item, "")) { (item.title) } }
                    (period(&Filters::read(&visit.parameters, item.days, visit.now), item.filters))
                    (content)
                }
            }
        }
    };
    Ok(Content::Html { title: team.title.to_owned(), current: team.name, body })
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
        @if is_drawn {
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
pub async fn item_page(visit: &Visit<'_>, team: &'static Team, item: &Item) -> Result<Content, Problem> {
    let filters = Filters::read(&visit.parameters, item.days, visit.now);
    let answer = visit.asker.item(item, &filters).await?;
    let path = format!("/{}/{}", team.name, item.name);
    let body = html! {
        p.crumbs { a href=(format!("/{}", team.name)) { (team.title) } " / " (item.title) }
        h1 { (item.title) }
        (filter_form(&path, item.filters, &visit.parameters))
        (period(&filters, item.filters))
        section.card {
            @if answer.table.rows.is_empty() {
                p.empty { (item.empty) }
            } @else {
                (figure(&item.headline.title(), answer.figures))
                (drawing(item, &answer, &filters))
                (table(&answer.table, item.title, item.chart == Chart::Grid))
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
pub async fn rows(visit: &Visit<'_>, item: &Item) -> Result<Table, Problem> {
    let filters = Filters::read(&visit.parameters, item.days, visit.now);
    Ok(visit.asker.item(item, &filters).await?.table)
}
