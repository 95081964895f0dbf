//! Admission of SQL: one statement that reads, and nothing else.
//!
//! The statement is parsed and checked before it is planned, and its plan is checked again. No DDL, DML, COPY, SET or
//! external table; no function that reads files or takes memory that no pool counts.

use datafusion::common::DataFusionError;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SQLOptions;
use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::sqlparser::ast::{self, SetExpr, Statement as SqlStatement};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::growth;
use super::refused::OPERATORS_MAX;

pub use super::refused::{Refused, SQL_BYTES_MAX};

/// Functions that aren't offered: one small call of them takes memory without bound.
pub const REMOVED_FUNCTIONS: [&str; 8] =
    ["repeat", "lpad", "rpad", "array_repeat", "array_resize", "list_repeat", "range", "generate_series"];

/// Parses SQL, and admits it if it only reads.
///
/// # Errors
/// [`Refused`] says why it isn't admitted.
pub fn admit(sql: &str) -> Result<Statement, Refused> {
    check_text(sql)?;
    let parsed = DFParser::parse_sql_with_dialect(sql, &PostgreSqlDialect {});
    let mut statements = parsed.map_err(|source| Refused::Syntax(Box::new(source)))?;
    match (statements.pop_front(), statements.len()) {
        (Some(statement), 0) => check(&statement).map(|()| statement),
        (first, more) => Err(Refused::Count { found: more + usize::from(first.is_some()) }),
    }
}

/// Checks the length of SQL, before it is parsed.
///
/// # Errors
/// [`Refused::TooLong`] and [`Refused::TooComplex`].
pub fn check_text(sql: &str) -> Result<(), Refused> {
    if sql.len() > SQL_BYTES_MAX {
        return Err(Refused::TooLong { bytes: sql.len() });
    }
    // Text that is no SQL has no tokens; the parser says why.
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize().unwrap_or_default();
    if tokens.iter().filter(|token| is_operator(token)).count() > OPERATORS_MAX {
        return Err(Refused::TooComplex);
    }
    Ok(())
}

fn is_operator(token: &Token) -> bool {
    match token {
        Token::Word(word) => {
            !matches!(word.keyword, Keyword::NoKeyword | Keyword::NULL | Keyword::TRUE | Keyword::FALSE)
        }
        Token::Comma
        | Token::Whitespace(_)
        | Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::LParen
        | Token::RParen
        | Token::EOF => false,
        _ => true,
    }
}

/// Checks that a statement only reads, and can be planned.
///
/// # Errors
/// [`Refused::NotRead`] and [`Refused::Grows`].
pub fn check(statement: &Statement) -> Result<(), Refused> {
    match statement {
        statement if !reads(statement) => Err(Refused::NotRead),
        Statement::Statement(statement) => growth::check_statement(statement),
        Statement::Explain(explain) => check(&explain.statement),
        _ => Ok(()),
    }
}

/// Checks a plan that was made of an admitted statement.
///
/// # Errors
/// If it does more than read.
pub fn check_plan(plan: &LogicalPlan) -> Result<(), DataFusionError> {
    SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false)
        .verify_plan(plan)
}

fn reads(statement: &Statement) -> bool {
    match statement {
        Statement::Statement(statement) => sql_reads(statement),
        Statement::Explain(explain) => reads(&explain.statement),
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => false,
    }
}

fn sql_reads(statement: &SqlStatement) -> bool {
    match statement {
        SqlStatement::Query(query) => query_reads(query),
        SqlStatement::Explain { statement, .. } => sql_reads(statement),
        SqlStatement::ExplainTable { .. }
        | SqlStatement::ShowTables { .. }
        | SqlStatement::ShowColumns { .. }
        | SqlStatement::ShowVariable { .. }
        | SqlStatement::ShowFunctions { .. } => true,
        _ => false,
    }
}

fn query_reads(query: &ast::Query) -> bool {
    let common = query.with.iter().flat_map(|with| &with.cte_tables);
    query.locks.is_empty()
        && common.map(|table| &table.query).all(|query| query_reads(query))
        && set_reads(&query.body)
}

fn set_reads(set: &SetExpr) -> bool {
    match set {
        SetExpr::Select(select) => select.into.is_none(),
        SetExpr::Query(query) => query_reads(query),
        SetExpr::SetOperation { left, right, .. } => set_reads(left) && set_reads(right),
        SetExpr::Values(_) | SetExpr::Table(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_is_admitted() {
        for sql in [
            "SELECT 1",
            "select count(*) from events where user_id = 'x';",
            "WITH a AS (SELECT 1) SELECT * FROM a UNION ALL SELECT 2",
            "EXPLAIN SELECT 1",
            "EXPLAIN ANALYZE SELECT * FROM events",
            "SHOW TABLES",
            "SHOW COLUMNS FROM events",
            "VALUES (1), (2)",
            "(SELECT 1) ORDER BY 1 LIMIT 1",
        ] {
            admit(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for sql in [
            "",
            "SELECT 1; SELECT 2",
            "SELECT 1; DROP TABLE events",
            "DROP TABLE events",
            "DELETE FROM events",
            "INSERT INTO events SELECT * FROM events",
            "UPDATE events SET user_id = NULL",
            "CREATE TABLE x AS SELECT * FROM events",
            "CREATE VIEW x AS SELECT 1",
            "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
            "COPY events TO '/tmp/x.csv'",
            "COPY (SELECT 1) TO '/tmp/x.csv' STORED AS CSV",
            "COPY events FROM '/etc/passwd'",
            "EXPLAIN INSERT INTO events SELECT * FROM events",
            "EXPLAIN COPY events TO '/tmp/x.csv'",
            "EXPLAIN ANALYZE DELETE FROM events",
            "WITH a AS (DELETE FROM events RETURNING *) SELECT * FROM a",
            "SELECT * INTO x FROM events",
            "SELECT * FROM events FOR UPDATE",
            "SET datafusion.execution.batch_size = 1",
            "RESET datafusion.execution.batch_size",
            "BEGIN",
            "PREPARE x AS SELECT 1",
            "EXECUTE x",
            "CREATE FUNCTION f() RETURNS INT RETURN 1",
            "GRANT ALL ON events TO x",
            "TRUNCATE events",
            "not sql",
        ] {
            assert!(admit(sql).is_err(), "{sql}");
        }
        let long = format!("SELECT '{}'", "x".repeat(SQL_BYTES_MAX));
        assert!(matches!(admit(&long), Err(Refused::TooLong { .. })));
    }

    #[test]
    fn long_chains_of_operators_are_refused_and_long_lists_are_not() {
        for chain in [" + 1", " || 'x'", "::int", " OR TRUE", " UNION SELECT 1"] {
            let sql = format!("SELECT 1{}", chain.repeat(15_000));
            assert!(matches!(admit(&sql), Err(Refused::TooComplex)), "{chain}");
        }
        // So are some hundreds in a row, which the planner takes minutes for.
        assert!(matches!(admit(&format!("SELECT 1{}", " + 1".repeat(700))), Err(Refused::TooComplex)));
        admit(&format!("SELECT 1{}", " + 1".repeat(500))).unwrap();
        let list = format!("SELECT 1 IN (1{})", ", -12, 'x'".repeat(1_000));
        admit(&list).unwrap();
    }

    #[test]
    fn common_tables_that_double_are_refused_and_others_are_not() {
        let chain = |body: &str| {
            let tables = (1..40)
                .map(|level| format!(", c{level} AS ({})", body.replace('?', &format!("c{}", level - 1))));
            format!("WITH c0 AS (SELECT 1 AS x){} SELECT * FROM C39", tables.collect::<String>())
        };
        for doubled in [
            "SELECT * FROM ? UNION ALL SELECT * FROM \"?\"",
            "SELECT (SELECT max(x) FROM ?) + (SELECT 1 FROM ?) AS x",
        ] {
            assert!(matches!(admit(&chain(doubled)), Err(Refused::Grows)), "{doubled}");
            let explained = format!("EXPLAIN {}", chain(doubled));
            assert!(matches!(admit(&explained), Err(Refused::Grows)), "{doubled}");
        }
        let inner = chain("SELECT * FROM ? a JOIN ? b ON true");
        assert!(matches!(admit(&format!("SELECT * FROM ({inner}) AS t")), Err(Refused::Grows)));
        admit(&chain("SELECT x + 1 AS x FROM ?")).unwrap();
        admit("WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT * FROM r a JOIN r b ON true").unwrap();
    }

    #[test]
    fn nested_brackets_end_in_an_error_and_not_in_a_crash() {
        let deep = format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000));
        assert!(admit(&deep).is_err());
    }
}
