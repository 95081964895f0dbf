//! Sessions of queries: the functions, types and catalogs that all wires share.
//!
//! Functions and the tables of `pg_catalog` are made once. A query's session takes them over, with its own memory and
//! its own version of the tables. So the object ids of `pg_catalog` stay the same between two queries of a client.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::DataType;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList, SchemaProvider,
};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::datasource::MemTable;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::pg_catalog::setup_pg_catalog;

use super::catalog::{Catalog, Privacy};
use super::distinct::DistinctAsGroups;
use super::guard::REMOVED_FUNCTIONS;
use super::lag_lead::LAG_LEAD;
use super::read_once::READ_ONCE;
use super::scan_filters::SCAN_FILTERS;
use super::yielding::YIELDING;
use crate::events::schema;
use crate::{aggregates, functions};

/// Name of the catalog that queries see.
pub const CATALOG: &str = "tickstream";
/// Name of the schema with the tables.
pub const SCHEMA: &str = "public";
/// Name of the schema with the tables of jobs.
pub const JOBS: &str = "jobs";
const PG_CATALOG: &str = "pg_catalog";

/// Version that `version()` and the PostgreSQL wire name: clients choose their queries by it.
pub const POSTGRES_VERSION: &str = "16.6";

/// The common part of all sessions.
pub struct Sessions {
    state: SessionState,
    pg_catalog: Arc<dyn SchemaProvider>,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

impl Sessions {
    /// Functions and catalogs for sessions of `threads` threads.
    ///
    /// # Errors
    /// If the tables of `pg_catalog` can't be made.
    pub fn new(threads: usize) -> Result<Self> {
        let context = SessionContext::new_with_config(config(threads));
        let catalog = MemoryCatalogProvider::new();
        catalog.register_schema(SCHEMA, Arc::new(empty_catalog()?))?;
        context.register_catalog(CATALOG, Arc::new(catalog));
        setup_pg_catalog(&context, CATALOG, EmptyContextProvider).map_err(|error| *error)?;
        REMOVED_FUNCTIONS.iter().for_each(|name| context.deregister_udf(name));
        functions::register(&context);
        let version =
            format!("PostgreSQL {POSTGRES_VERSION} (tickstream-warehouse {})", env!("CARGO_PKG_VERSION"));
        context.register_udf(constant("version", version));
        compatible_functions().into_iter().for_each(|function| context.register_udf(function));
        let pg_catalog = context
            .catalog(CATALOG)
            .and_then(|catalog| catalog.schema(PG_CATALOG))
            .ok_or_else(|| DataFusionError::Internal("pg_catalog wasn't registered".to_owned()))?;
        Ok(Self { state: context.state(), pg_catalog })
    }

    /// A session of `user` over `catalog`.
    ///
    /// # Errors
    /// If the catalog can't be registered.
    pub fn over(&self, catalog: Catalog, user: &str, runtime: Arc<RuntimeEnv>) -> Result<SessionContext> {
        let provider = MemoryCatalogProvider::new();
        provider.register_schema(SCHEMA, Arc::new(catalog))?;
        provider.register_schema(PG_CATALOG, self.pg_catalog.clone())?;
        let list = MemoryCatalogProviderList::new();
        list.register_catalog(CATALOG.to_owned(), Arc::new(provider));
        let state = SessionStateBuilder::new_from_existing(self.state.clone())
            .with_runtime_env(runtime)
            .with_catalog_list(Arc::new(list))
            .with_optimizer_rule(Arc::new(DistinctAsGroups))
            .with_physical_optimizer_rule(Arc::new(SCAN_FILTERS))
            .with_physical_optimizer_rule(Arc::new(YIELDING))
            .with_physical_optimizer_rule(Arc::new(READ_ONCE))
            .with_physical_optimizer_rule(Arc::new(LAG_LEAD))
            .build();
        let context = SessionContext::new_with_state(state);
        context.register_udf(constant("session_user", user.to_owned()));
        Ok(context)
    }

    /// A session with all tables and no rows: for the columns of an answer.
    ///
    /// # Errors
    /// If the catalog can't be registered.
    pub fn without_rows(&self) -> Result<SessionContext> {
        self.over(empty_catalog()?, "", self.state.runtime_env().clone())
    }
}

fn config(threads: usize) -> SessionConfig {
    SessionConfig::new()
        .with_target_partitions(threads)
        .with_information_schema(true)
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        // A side of a join with up to so many rows is copied to all threads: the other one, with millions, needn't be exchanged between
        // them, and spilled while it waits.
        .set_u64("datafusion.optimizer.hash_join_single_partition_threshold", 64 << 20)
        .set_u64("datafusion.optimizer.hash_join_single_partition_threshold_rows", 1_000_000)
        // Heavy columns are read only for the rows that pass the filters.
        .set_bool("datafusion.execution.parquet.pushdown_filters", true)
        .set_bool("datafusion.execution.parquet.reorder_filters", true)
        .set_str("datafusion.sql_parser.dialect", "postgres")
}

fn empty_catalog() -> Result<Catalog> {
    let table = MemTable::try_new(schema(), vec![vec![RecordBatch::new_empty(schema())]])?;
    let aggregates = MemTable::try_new(aggregates::schema(), vec![vec![]])?;
    Ok(Catalog::new(Arc::new(table), &[], Privacy::Clear)?.with_aggregates(Some(Arc::new(aggregates))))
}

/// Functions of PostgreSQL that drivers and tools call when they connect, and `pg_catalog` lacks.
fn compatible_functions() -> [ScalarUDF; 3] {
    let text = |answer: fn(&str) -> Option<String>| {
        move |args: &[ColumnarValue]| -> Result<ColumnarValue> {
            let ScalarValue::Utf8(given) = ScalarValue::try_from_array(args[0].to_array(1)?.as_ref(), 0)?
            else {
                return Ok(ColumnarValue::Scalar(ScalarValue::Utf8(None)));
            };
            Ok(ColumnarValue::Scalar(ScalarValue::Utf8(given.as_deref().and_then(answer))))
        }
    };
    let setting = text(|name| match name.to_ascii_lowercase().as_str() {
        "server_version_num" => {
            let (major, minor) = POSTGRES_VERSION.split_once('.')?;
            Some(format!("{major}{minor:0>4}"))
        }
        "server_version" => Some(POSTGRES_VERSION.to_owned()),
        "search_path" => Some(SCHEMA.to_owned()),
        "timezone" => Some("UTC".to_owned()),
        "standard_conforming_strings" => Some("on".to_owned()),
        _ => None,
    });
    // Of types by name, such as hstore, there are none beyond those that every driver knows.
    let no_type = |_: &[ColumnarValue]| Ok(ColumnarValue::Scalar(ScalarValue::Int32(None)));
    let visible = |_: &[ColumnarValue]| Ok(ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))));
    let (texts, stable) = (vec![DataType::Utf8], Volatility::Stable);
    [
        create_udf("current_setting", texts.clone(), DataType::Utf8, stable, Arc::new(setting)),
        create_udf("to_regtype", texts, DataType::Int32, stable, Arc::new(no_type)),
        create_udf(
            "pg_function_is_visible",
            vec![DataType::Int32],
            DataType::Boolean,
            stable,
            Arc::new(visible),
        ),
    ]
}

/// A function without arguments that answers a text.
fn constant(name: &str, text: String) -> ScalarUDF {
    let answer = move |_: &[ColumnarValue]| Ok(ColumnarValue::Scalar(ScalarValue::Utf8(Some(text.clone()))));
    create_udf(name, vec![], DataType::Utf8, Volatility::Stable, Arc::new(answer))
}
