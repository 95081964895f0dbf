//! Statements of the PostgreSQL wire: one that reads, or one of those that clients send around it.
//!
//! Transactions and settings are answered and change nothing: there is nothing to write, and each query has a version
//! of its own.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement as EngineStatement;
use datafusion::sql::sqlparser::ast::{Set, Statement};
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use pgwire::error::{PgWireError, PgWireResult};

use super::errors::{error, of_query};
use crate::query::guard::{self, Refused};
use crate::query::session::{POSTGRES_VERSION, SCHEMA};

/// A statement that was taken.
#[derive(Clone, Debug)]
pub enum Prepared {
    /// A query for the engine.
    Query {
        /// The query.
        statement: Box<EngineStatement>,
        /// Its plan over tables without rows, once a client prepares it.
        plan: Option<Arc<LogicalPlan>>,
    },
    /// BEGIN, by any of its names.
    Begin,
    /// COMMIT or END.
    Commit,
    /// ROLLBACK or ABORT.
    Rollback,
    /// SET, RESET, DISCARD, DEALLOCATE, SAVEPOINT, RELEASE: answered with this tag.
    Ignored(&'static str),
    /// SHOW of a setting: its name and value.
    Show {
        /// Name of the setting.
        name: String,
        /// Its value.
        value: String,
    },
}

/// Takes statements.
#[derive(Debug, Default)]
pub struct Parser(PostgresCompatibilityParser);

impl Parser {
    /// Parses SQL, and takes it if it only reads; `None` if there is none.
    ///
    /// # Errors
    /// With the SQLSTATE of what isn't taken.
    pub fn parse(&self, sql: &str, startup: &HashMap<String, String>) -> PgWireResult<Option<Prepared>> {
        let refused = |refused: Refused| of_query(&refused.into());
        guard::check_text(sql).map_err(refused)?;
        let mut statements = self.0.parse(sql).map_err(|failure| error("42601", failure.to_string()))?;
        let Some(statement) = statements.pop() else { return Ok(None) };
        if !statements.is_empty() {
            return Err(refused(Refused::Count { found: statements.len() + 1 }));
        }
        prepared(statement, startup).map(Some)
    }
}

fn prepared(statement: Statement, startup: &HashMap<String, String>) -> PgWireResult<Prepared> {
    Ok(match statement {
        Statement::StartTransaction { .. } => Prepared::Begin,
        Statement::Commit { .. } => Prepared::Commit,
        Statement::Rollback { savepoint: None, .. } => Prepared::Rollback,
        Statement::Rollback { .. } => Prepared::Ignored("ROLLBACK"),
        Statement::Savepoint { .. } => Prepared::Ignored("SAVEPOINT"),
        Statement::ReleaseSavepoint { .. } => Prepared::Ignored("RELEASE"),
        Statement::Set(set) => set_of(&set)?,
        Statement::Reset(_) => Prepared::Ignored("RESET"),
        Statement::Discard { .. } => Prepared::Ignored("DISCARD ALL"),
        Statement::Deallocate { .. } => Prepared::Ignored("DEALLOCATE"),
        Statement::ShowVariable { variable } => {
            let words: Vec<String> = variable.iter().map(|part| part.value.to_lowercase()).collect();
            let name = match words.join(" ").as_str() {
                "transaction isolation level" => "transaction_isolation".to_owned(),
                "time zone" => "timezone".to_owned(),
                name => name.to_owned(),
            };
            let value = setting(&name, startup)
                .ok_or_else(|| error("42704", format!("there is no setting {name:?}")))?;
            Prepared::Show { name, value }
        }
        statement => {
            let statement = EngineStatement::Statement(Box::new(statement));
            guard::check(&statement).map_err(|refused| -> PgWireError { of_query(&refused.into()) })?;
            Prepared::Query { statement: Box::new(statement), plan: None }
        }
    })
}

/// Settings have no effect, but one that asks for more than reading is refused.
fn set_of(set: &Set) -> PgWireResult<Prepared> {
    let text = set.to_string().to_lowercase();
    let is_write = text.contains("read write")
        || (text.contains("read_only")
            && ["off", "false", "0", "no"].iter().any(|off| text.trim_end().ends_with(off)))
        || matches!(set, Set::SetRole { .. } | Set::SetSessionAuthorization(_));
    if is_write { Err(of_query(&Refused::NotRead.into())) } else { Ok(Prepared::Ignored("SET")) }
}

/// Value of a setting that clients ask for.
fn setting(name: &str, startup: &HashMap<String, String>) -> Option<String> {
    let given = |name: &str, default: &str| startup.get(name).map_or(default, String::as_str).to_owned();
    Some(match name {
        "transaction_isolation" | "default_transaction_isolation" => "repeatable read".to_owned(),
        "transaction_read_only" | "default_transaction_read_only" => "on".to_owned(),
        "server_version" => POSTGRES_VERSION.to_owned(),
        "server_version_num" => "160006".to_owned(),
        "server_encoding" | "client_encoding" => "UTF8".to_owned(),
        "standard_conforming_strings" | "integer_datetimes" => "on".to_owned(),
        "is_superuser" | "in_hot_standby" => "off".to_owned(),
        "search_path" => SCHEMA.to_owned(),
        "timezone" => "Etc/UTC".to_owned(),
        "datestyle" => "ISO, YMD".to_owned(),
        "intervalstyle" => "postgres".to_owned(),
        "bytea_output" => "hex".to_owned(),
        "max_identifier_length" => "63".to_owned(),
        "lc_collate" | "lc_ctype" => "C.UTF-8".to_owned(),
        "statement_timeout" | "lock_timeout" | "idle_in_transaction_session_timeout" => "0".to_owned(),
        "application_name" => given("application_name", ""),
        "session_authorization" => given("user", ""),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sql: &str, expected: &str) {
        let found = match Parser::default().parse(sql, &HashMap::new()) {
            Ok(None) => "nothing".to_owned(),
            Ok(Some(Prepared::Query { .. })) => "query".to_owned(),
            Ok(Some(Prepared::Show { value, .. })) => format!("show {value}"),
            Ok(Some(Prepared::Ignored(tag))) => format!("ignored {tag}"),
            Ok(Some(other)) => format!("{other:?}"),
            Err(PgWireError::UserError(info)) => info.code.clone(),
            Err(other) => other.to_string(),
        };
        assert_eq!(found, expected, "{sql}");
    }

    #[test]
    fn what_clients_send_around_queries_is_answered() {
        check("SELECT 1", "query");
        check("select pg_catalog.version()", "query");
        check("BEGIN", "Begin");
        check("BEGIN TRANSACTION ISOLATION LEVEL READ COMMITTED", "Begin");
        check("COMMIT", "Commit");
        check("ROLLBACK", "Rollback");
        check("SET extra_float_digits = 3", "ignored SET");
        check("SET application_name = 'x'", "ignored SET");
        check("SHOW standard_conforming_strings", "show on");
        check("show transaction isolation level", "show repeatable read");
        check("SHOW TIME ZONE", "show Etc/UTC");
        check("DISCARD ALL", "ignored DISCARD ALL");
    }

    #[test]
    fn what_writes_is_refused() {
        for sql in [
            "DROP TABLE events",
            "DELETE FROM events",
            "CREATE TABLE x AS SELECT 1",
            "COPY events TO '/tmp/x'",
            "COPY events FROM '/etc/passwd'",
            "COPY events TO PROGRAM 'id'",
            "COPY (SELECT 1) TO STDOUT",
            "SELECT * INTO x FROM events",
            "SELECT * FROM events FOR UPDATE",
            "INSERT INTO events VALUES (1)",
            "GRANT ALL ON events TO x",
            "SET default_transaction_read_only = off",
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
            "SET ROLE admin",
            "PREPARE x AS SELECT 1",
            "VACUUM",
        ] {
            check(sql, "25006");
        }
        check("SELECT 1; SELECT 2", "42601");
        check("SELECT 1; DROP TABLE events", "42601");
        check("SHOW secret", "42704");
        check("SELEC 1", "42601");
    }
}
