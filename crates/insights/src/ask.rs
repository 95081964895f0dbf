//! Answers: an item's SQL through the warehouse, within the user's rights and limits.

use datafusion::arrow::error::ArrowError;
use tickstream_warehouse_core::query::{Engine, QueryError, Role};

use crate::filters::Filters;
use crate::table::Table;
use crate::teams::{Item, Team};

/// A question that has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// SQL failed.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A column of the answer can't be shown.
    #[error("a column of the answer can't be shown")]
    Column(#[from] ArrowError),
}

/// Asks SQL in the name of users.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    engine: &'a Engine,
    role: &'a Role,
}

/// An item's answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// SQL of the answer, as it was asked.
    pub sql: String,
    /// Rows.
    pub table: Table,
    /// The headline's figure of this period and of the one before.
    pub figures: [Option<f64>; 2],
    /// Line over time: bucket, series, value.
    pub trend: Option<Table>,
}

impl<'a> Asker<'a> {
    /// Questions of a user with this role.
    pub fn new(engine: &'a Engine, role: &'a Role) -> Self {
        Self { engine, role }
    }

    /// True if the user may see a team's page.
    pub fn sees(&self, team: &Team) -> bool {
        self.role.teams.is_empty() || self.role.teams.iter().any(|name| name == team.name)
    }

    /// True if the user may see what isn't a team's page: Explore and time lines.
    pub fn sees_all(&self) -> bool {
        self.role.teams.is_empty()
    }

    /// Rows of SQL that the user wrote.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn sql(&self, sql: &str) -> Result<Table, AskError> {
        self.rows(sql, self.role).await
    }

    /// Rows of SQL of a page that the user may see.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn page(&self, sql: &str) -> Result<Table, AskError> {
        self.rows(sql, &self.role.of_pages()).await
    }

    /// The answer to an item's question, and the figure of the period before.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn item(&self, item: &Item, filters: &Filters) -> Result<Answer, AskError> {
        let sql = filters.sql(item.sql, item.filters);
        let table = (item.compute)(self.page(&sql).await?, filters);
        let before = filters.before();
        let earlier = (item.compute)(self.page(&before.sql(item.sql, item.filters)).await?, &before);
        let trend = match item.trend {
            Some(trend) => Some(self.page(&filters.sql(trend.sql, item.filters)).await?),
            None => None,
        };
        let figures = [item.headline.of(&table), item.headline.of(&earlier)];
        Ok(Answer { sql, table, figures, trend })
    }

    async fn rows(&self, sql: &str, role: &Role) -> Result<Table, AskError> {
        let answer = self.engine.query(sql, role).await?;
        let columns = answer.schema.fields().iter().map(|field| field.name().clone()).collect();
        Ok(Table::read(columns, &answer.collect().await?)?)
    }
}
