//! Errors as PostgreSQL's clients know them: SQLSTATE and message.

use pgwire::error::{ErrorInfo, PgWireError};

use crate::loader::with_sources;
use crate::query::QueryError;

/// An error with its SQLSTATE.
pub fn error(state: &str, message: impl Into<String>) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("ERROR".to_owned(), state.to_owned(), message.into())))
}

/// Failure of a query on the PostgreSQL wire.
pub enum Failure {
    /// The query failed.
    Query(QueryError),
    /// Its parameters can't be read.
    Wire(PgWireError),
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        Self::Query(error)
    }
}

impl From<PgWireError> for Failure {
    fn from(error: PgWireError) -> Self {
        Self::Wire(error)
    }
}

impl From<Failure> for PgWireError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Query(error) => of_query(&error),
            Failure::Wire(error) => error,
        }
    }
}

/// The error of a query.
pub fn of_query(failure: &QueryError) -> PgWireError {
    use crate::query::guard::Refused;
    let state = match failure {
        // syntax_error, read_only_sql_transaction, program_limit_exceeded.
        QueryError::Refused(Refused::Syntax(_) | Refused::Count { .. }) => "42601",
        QueryError::Refused(Refused::NotRead) => "25006",
        QueryError::Refused(Refused::Pages) => "42501",
        QueryError::Refused(Refused::TooLong { .. } | Refused::TooComplex | Refused::Grows) => "54001",
        // too_many_connections, query_canceled, configuration_limit_exceeded.
        QueryError::Busy { .. } => "53300",
        QueryError::Time(_) => "57014",
        QueryError::Rows(_) => "53400",
        QueryError::Run(error) => of_engine(error),
        QueryError::Store(_) | QueryError::Tail(_) | QueryError::Damaged(_) => "58000",
    };
    error(state, with_sources(failure))
}

fn of_engine(error: &datafusion::common::DataFusionError) -> &'static str {
    use datafusion::common::{DataFusionError, SchemaError};
    match error.find_root() {
        DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
            SchemaError::FieldNotFound { .. } => "42703",
            SchemaError::AmbiguousReference { .. } => "42702",
            _ => "42P10",
        },
        DataFusionError::Plan(message) if message.contains("table") && message.contains("not found") => {
            "42P01"
        }
        DataFusionError::Plan(_) => "42601",
        DataFusionError::ResourcesExhausted(_) => "53200",
        _ => "XX000",
    }
}
