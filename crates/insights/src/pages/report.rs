//! Reports: a team's page as one file.

use std::str::FromStr;

use maud::{DOCTYPE, PreEscaped, html};
use serde_json::json;

use super::chart::{Axis, chart, lines, with_currency};
use super::layout::{figure, table};
use super::visit::STYLE;
use crate::ask::{AskError, Asker};
use crate::filters::{Filters, Parameters, now, time_text};
use crate::teams::{Chart, Team};

/// Form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One HTML file, with its style.
    Html,
    /// CSV, items parted by an empty line.
    Csv,
    /// JSON.
    Json,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "html" => Ok(Self::Html),
            "csv" => Ok(Self::Csv),
            "json" => Ok(Self::Json),
            _ => Err(format!("no format {text:?}; there are html, csv and json")),
        }
    }
}

/// A team's items as a file. `query` has filters as an address has them: "days=7&platform=web".
///
/// # Errors
/// [`AskError`] of the first item that has no answer.
pub async fn report(asker: Asker<'_>, team: &Team, query: &str, format: Format) -> Result<String, AskError> {
    let parameters = Parameters::parse(query);
    let faults = Filters::faults(&parameters);
    if !faults.is_empty() {
        return Err(AskError::Period(faults.join(" ")));
    }
    let mut answers = Vec::with_capacity(team.items.len());
    for item in &team.items {
        let filters = Filters::read(&parameters, item.days, now());
        answers.push((item, asker.item(item, &filters).await?, filters));
    }
    let period = |filters: &Filters| format!("{} to {}", time_text(filters.from), time_text(filters.to));
    Ok(match format {
        Format::Csv => {
            let parts = answers.iter().map(|(item, answer, filters)| {
                format!("{},{}\r\n{}", item.title, period(filters), answer.table.csv())
            });
            parts.collect::<Vec<_>>().join("\r\n")
        }
        Format::Json => {
            let items: Vec<_> = answers
                .iter()
                .map(|(item, answer, filters)| {
                    json!({"item": item.name, "title": item.title, "definition": item.definition, "from": time_text(filters.from),
                        "to": time_text(filters.to), "figure": {"name": item.headline.title(), "now": answer.figures[0],
                        "before": answer.figures[1]}, "sql": answer.sql, "rows": answer.table.json()})
                })
                .collect();
            json!({"team": team.name, "items": items}).to_string()
        }
        Format::Html => {
            let page = html! {
                (DOCTYPE)
                html lang="en" {
                    head { meta charset="utf-8"; meta name="viewport" content="width=device-width, initial-scale=1";
                        title { (team.title) " – tickstream" } style { (PreEscaped(STYLE)) } }
                    body { main { h1 { (team.title) } @for (item, answer, filters) in &answers {
                        section.card {
                            h2 { (item.title) }
                            p.note { (period(filters)) ". " (item.definition) }
                            @if answer.table.rows.is_empty() { p.empty { (item.empty) } } @else {
                                (figure(&with_currency(&item.headline.title(), &answer.table), answer.figures))
                                (chart(item.chart, &answer.table, None))
                                @if let (Some(trend), Some(rows)) = (item.trend, &answer.trend) {
                                    (lines(rows, &Axis::of(&trend, filters), None))
                                }
                                (table(&answer.table, item.title, item.chart == Chart::Grid, None))
                            }
                        }
                    } } }
                }
            };
            page.into_string()
        }
    })
}
