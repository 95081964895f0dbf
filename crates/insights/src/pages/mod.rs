//! Pages, made on the server: teams and their items, time lines, Explore.
//!
//! Pages only read, and every state stands in the address: a forged request changes nothing, so there are no tokens against it.
//! Every value of an event is escaped by the templates; the content security policy allows no script but the one static file.

mod behind;
mod chart;
mod explore;
mod flows;
mod layout;
mod names;
mod number;
mod points;
mod report;
mod services;
mod team;
mod timeline;
mod visit;

use std::sync::Arc;

use maud::{Markup, html};
use percent_encoding::percent_decode_str;
use tickstream_warehouse_core::loader::with_sources;
use tickstream_warehouse_core::query::{Engine, Role};
use tickstream_warehouse_core::serve::{Making, Page, Pages};

use crate::answers::Answers;
use crate::ask::{AskError, Asker};
use crate::filters::{Parameters, encoded, now};
use crate::teams::{self, TEAMS, Team};
use layout::Frame;
use names::Names;
pub use report::{Format, report};
use visit::{Content, Problem, STYLE, Visit};

const HTML: &str = "text/html; charset=utf-8";
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
const SCRIPT: &str = include_str!("pages.js");

/// The pages of a warehouse.
#[derive(Debug)]
pub struct Site {
    engine: Arc<Engine>,
    answers: Arc<Answers>,
    names: Names,
}

impl Site {
    /// Pages over an engine, with answers that are kept.
    pub fn new(engine: Arc<Engine>, answers: Arc<Answers>) -> Self {
        Self { engine, answers, names: Names::default() }
    }

    async fn answer(&self, path: &str, query: &str, role: &Role) -> Page {
        match path {
            "/static/pages.css" => return file("text/css; charset=utf-8", STYLE),
            "/static/pages.js" => return file("text/javascript; charset=utf-8", SCRIPT),
            _ => {}
        }
        let visit = Visit {
            asker: Asker::new(&self.engine, role),
            role,
            engine: &self.engine,
            answers: &self.answers,
            names: &self.names,
            parameters: Parameters::parse(query),
            now: now(),
        };
        match visit.content(path).await {
            Ok(Content::Html { title, current, body }) => {
                page(200, HTML, visit.framed(&title, current, &body).into_bytes())
            }
            Ok(Content::Csv(csv)) => {
                let mut page = page(200, "text/csv; charset=utf-8", csv.into_bytes());
                page.headers
                    .push(("content-disposition", "attachment; filename=\"tickstream.csv\"".to_owned()));
                page
            }
            Ok(Content::Json(json)) => page(200, "application/json", json.to_string().into_bytes()),
            Ok(Content::Redirect(to)) => {
                let mut page = page(303, HTML, Vec::new());
                page.headers.push(("location", to));
                page
            }
            Err(problem) => visit.problem(&problem),
        }
    }
}

impl Pages for Site {
    fn page<'a>(&'a self, path: &'a str, query: &'a str, role: &'a Role) -> Making<'a> {
        Box::pin(self.answer(path, query, role))
    }
}

impl Visit<'_> {
    async fn content(&self, path: &str) -> Result<Content, Problem> {
        let parts: Vec<_> = path.split('/').skip(1).filter(|part| !part.is_empty()).collect();
        match parts.as_slice() {
            [] => Ok(Content::Html { title: "Overview".to_owned(), current: "", body: self.overview() }),
            ["find"] => self.find(),
            ["explore"] => self.all(explore::page(self)).await,
            ["explore.csv"] => self.all(explore::csv(self)).await,
            ["explore", "behind"] => self.all(explore::behind(self)).await,
            ["services"] => {
                self.team("engineering")?;
                services::page(self).await
            }
            ["services", "behind"] => self.all(services::behind(self)).await,
            ["moment", time] => {
                self.all(timeline::page(self, timeline::Subject::Moment, &decoded(time))).await
            }
            ["session", id] => self.all(timeline::page(self, timeline::Subject::Session, &decoded(id))).await,
            ["user", id] => self.all(timeline::page(self, timeline::Subject::User, &decoded(id))).await,
            ["trace", id] => self.all(timeline::page(self, timeline::Subject::Trace, &decoded(id))).await,
            [name] => team::page(self, self.team(name)?).await,
            [name, item] => {
                let (item, form) = item.split_once('.').unwrap_or((item, ""));
                let team = self.team(name)?;
                let item = team.item(item).ok_or(Problem::Missing)?;
                match form {
                    "" => team::item_page(self, team, item).await,
                    "csv" => Ok(Content::Csv(team::rows(self, team, item).await?.csv())),
                    "json" => Ok(Content::Json(team::rows(self, team, item).await?.json())),
                    _ => Err(Problem::Missing),
                }
            }
            [name, item, "behind"] => {
                let team = self.team(name)?;
                let item = team.item(item).ok_or(Problem::Missing)?;
                self.all(behind::of_item(self, team, item)).await
            }
            _ => Err(Problem::Missing),
        }
    }

    /// A page that isn't one team's.
    async fn all(&self, content: impl Future<Output = Result<Content, Problem>>) -> Result<Content, Problem> {
        if self.asker.sees_all() { content.await } else { Err(Problem::Forbidden) }
    }

    fn team(&self, name: &str) -> Result<&'static Team, Problem> {
        let team = teams::team(name).ok_or(Problem::Missing)?;
        if self.asker.sees(team) { Ok(team) } else { Err(Problem::Forbidden) }
    }

    fn framed(&self, title: &str, current: &str, body: &Markup) -> String {
        let sees = |team: &Team| self.asker.sees(team);
        let frame = Frame {
            title,
            current,
            sees: &sees,
            sees_all: self.asker.sees_all(),
            parameters: &self.parameters,
        };
        layout::page(&frame, body)
    }

    /// Leads to a time line by an identifier as the application knows it.
    fn find(&self) -> Result<Content, Problem> {
        let id = self.parameters.get("id").unwrap_or_default().trim();
        let kind = match self.parameters.get("in") {
            Some("session") => "session",
            Some("trace") => "trace",
            _ => "user",
        };
        let is_stored = kind == "trace" || !self.role.sees_personal;
        let id = if is_stored { id.to_owned() } else { self.engine.identifier(id) };
        Ok(Content::Redirect(format!("/{kind}/{}", encoded(&id))))
    }

    fn overview(&self) -> Markup {
        html! {
            h1 { "Insights" }
            div.cards {
                @for team in TEAMS.iter().filter(|team| self.asker.sees(team)) {
                    section.card {
                        h2 { a href=(format!("/{}", team.name)) { (team.title) } }
                        ul { @for item in &team.items { li {
                            a href=(format!("/{}/{}", team.name, item.name)) { (item.title) } span.question { (item.question) }
                        } } }
                    }
                }
                @if self.asker.sees_all() {
                    section.card {
                        h2 { "One user, session or trace" }
                        p { "All of its events on one time line." }
                        form.filters action="/find" method="get" {
                            label { "Of" select name="in" {
                                option value="user" { "user" } option value="session" { "session" } option value="trace" { "trace" }
                            } }
                            label { "Identifier" input type="text" name="id" required; }
                            button type="submit" { "Open" }
                        }
                        h2 { a href="/explore" { "Explore" } }
                        p { "Trends, funnels, retention, paths and SQL of your own." }
                    }
                }
            }
        }
    }

    fn problem(&self, problem: &Problem) -> Page {
        let (status, title, message) = match problem {
            Problem::Missing => (404, "Not found", "There is no page at this address.".to_owned()),
            Problem::Forbidden => {
                (403, "Not for this user", "The file of users gives you other teams' pages.".to_owned())
            }
            Problem::Failed(error) if matches!(**error, AskError::Period(_)) => {
                (400, "No answer", with_sources(&**error))
            }
            Problem::Failed(error) => (422, "No answer", with_sources(&**error)),
        };
        page(status, HTML, self.framed(title, "", &layout::problem(title, &message)).into_bytes())
    }
}

fn decoded(part: &str) -> String {
    percent_decode_str(part).decode_utf8_lossy().into_owned()
}

fn file(kind: &'static str, content: &str) -> Page {
    page(200, kind, content.as_bytes().to_vec())
}

fn page(status: u16, kind: &'static str, body: Vec<u8>) -> Page {
    let headers = [
        ("content-security-policy", POLICY),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
    ];
    Page { status, kind, headers: headers.map(|(name, value)| (name, value.to_owned())).to_vec(), body }
}
