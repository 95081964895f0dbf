//! Reasons why SQL isn't admitted.

use datafusion::common::DataFusionError;

/// Longest SQL text, bytes.
pub const SQL_BYTES_MAX: usize = 256 * 1024;

/// Operators of one statement. The parser makes of `1 + 1 + …` a tree as deep as it is long, and what walks through
/// trees needs stack.
pub(super) const OPERATORS_MAX: usize = 4_000;

/// SQL that isn't admitted.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The text is too long.
    #[error("the query has {bytes} bytes, at most {SQL_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The statement has too many operators.
    #[error(
        "the query has more than {OPERATORS_MAX} operators, or hundreds in a row; write long lists as IN (…) or VALUES"
    )]
    TooComplex,
    /// The statement repeats parts of itself, or joins texts, without bound.
    #[error(
        "the query stands for too much: common tables that name each other again and again, or texts that are joined of very many others"
    )]
    Grows,
    /// No SQL.
    #[error("the query isn't SQL")]
    Syntax(#[source] Box<DataFusionError>),
    /// Nothing, or several statements.
    #[error("one statement is expected, {found} are there")]
    Count {
        /// Statements that were found.
        found: usize,
    },
    /// The statement does more than read.
    #[error("only SELECT, EXPLAIN and SHOW are allowed: the warehouse is read-only here")]
    NotRead,
    /// The user has pages of teams alone.
    #[error(
        "this user sees the pages of some teams, and may not ask SQL; `teams` in the file of users says so"
    )]
    Pages,
}
