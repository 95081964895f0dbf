//! Tables that a query sees: `events`, the tables by kind over it, aggregates, and what is derived.
//!
//! They are views over one pinned version and the journals' tail, built when a query names them. Nothing else has a name:
//! masking can't be gone around.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::{Column, Result, ScalarValue, plan_err};
use datafusion::datasource::{MemTable, ViewTable, provider_as_source};
use datafusion::functions::expr_fn::{coalesce, date_trunc};
use datafusion::functions_aggregate::expr_fn::sum;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, ScalarUDF, lit};
use datafusion::prelude::cast as cast_expr;

use super::facts::{self, FACTS};
use super::views::{COMMON, PERSONAL, PLACE, Source, VIEWS, View, is_personal};
use crate::derived::{DERIVED, Derived, Kind};
use crate::events::{DEAD_LETTER, schema};
use crate::functions::json_functions as json;

/// Name of the table of all events.
pub const EVENTS: &str = "events";
/// Columns of the aggregates by which they are grouped.
const AGGREGATE_KEYS: [&str; 6] =
    ["event_type", "event_name", "platform", "service", "app_version", "country"];
/// Name of the item of a list while a view makes rows of it.
const ITEM: &str = "_item";

/// Columns of a person's data that a query sees.
#[derive(Clone, Debug)]
pub enum Privacy {
    /// All of them.
    Clear,
    /// Identifiers as pseudonyms, by this function; contents as null.
    Masked(Arc<ScalarUDF>),
}

/// Version and tail of one query.
#[derive(Debug)]
pub struct Catalog {
    table: Arc<dyn TableProvider>,
    tail: Option<Arc<dyn TableProvider>>,
    functions: HashMap<String, Arc<ScalarUDF>>,
    privacy: Privacy,
    aggregates: Option<Arc<dyn TableProvider>>,
    derived: HashMap<&'static str, Arc<dyn TableProvider>>,
}

/// Views over the aggregates, and the length of their buckets.
const BUCKETS: [(&str, &str); 3] =
    [("counts_by_minute", "minute"), ("counts_by_hour", "hour"), ("counts_by_day", "day")];

impl Catalog {
    /// Rows of `table` and of `tail`, which has all columns of the schema.
    ///
    /// # Errors
    /// If the tail has other columns than the table.
    pub fn new(table: Arc<dyn TableProvider>, tail: &[RecordBatch], privacy: Privacy) -> Result<Self> {
        let functions =
            json::all().into_iter().map(|function| (function.name().to_owned(), Arc::new(function)));
        let tail = if tail.is_empty() { None } else { Some(tail_table(&table.schema(), tail)?) };
        Ok(Self {
            table,
            tail,
            functions: functions.collect(),
            privacy,
            aggregates: None,
            derived: HashMap::new(),
        })
    }

    /// With the table of aggregates, which hold no personal data.
    #[must_use]
    pub fn with_aggregates(self, aggregates: Option<Arc<dyn TableProvider>>) -> Self {
        Self { aggregates, ..self }
    }

    /// With the rows of a derived table; one without rows has none.
    #[must_use]
    pub fn with_derived(mut self, derived: &'static Derived, rows: Arc<dyn TableProvider>) -> Self {
        self.derived.insert(derived.name, rows);
        self
    }

    /// A derived table, masked.
    fn derived(&self, derived: &Derived) -> Result<ViewTable> {
        let rows = match self.derived.get(derived.name) {
            Some(rows) => rows.clone(),
            // It wasn't computed yet.
            None => Arc::new(MemTable::try_new(derived.schema(), vec![vec![]])?) as _,
        };
        let columns: Vec<Expr> =
            derived.columns.iter().map(|(name, kind)| self.masked_kind(name, *kind)).collect();
        let rows = LogicalPlanBuilder::scan(derived.name, provider_as_source(rows), None)?;
        Ok(ViewTable::new(rows.project(columns)?.build()?, None))
    }

    fn masked_kind(&self, name: &str, kind: Kind) -> Expr {
        match (&self.privacy, kind) {
            (Privacy::Masked(pseudonym), Kind::Identifier) => {
                pseudonym.call(vec![cast_expr(column(name), DataType::Utf8)]).alias(name)
            }
            (Privacy::Masked(_), Kind::Content) => lit(ScalarValue::Utf8(None)).alias(name),
            _ => column(name),
        }
    }

    /// Counts, uniques and quantiles of buckets of this length.
    fn counts(&self, length: &str) -> Result<ViewTable> {
        let Some(table) = &self.aggregates else { return plan_err!("there are no aggregates yet") };
        let keys = AGGREGATE_KEYS.iter().map(|name| column(name));
        let bucket = date_trunc(lit(length), column("minute")).alias("bucket");
        let merged = |function: &str, args: Vec<Expr>| -> Result<Expr> {
            let functions = crate::functions::sketches::all();
            match functions.into_iter().find(|other| other.name() == function) {
                Some(function) => Ok(function.call(args)),
                None => plan_err!("there is no function {function}"),
            }
        };
        let quantile = |of: f64| merged("quantile_merge", vec![column("numbers"), lit(of)]);
        let rows = LogicalPlanBuilder::scan("aggregates", provider_as_source(table.clone()), None)?
            .aggregate(
                std::iter::once(bucket).chain(keys),
                vec![
                    sum(column("events")).alias("events"),
                    merged("uniques_merge", vec![column("users")])?.alias("users"),
                    quantile(0.5)?.alias("p50"),
                    quantile(0.95)?.alias("p95"),
                    quantile(0.99)?.alias("p99"),
                ],
            )?;
        Ok(ViewTable::new(rows.build()?, None))
    }

    /// All rows, dead letters too, nothing masked.
    fn rows(&self) -> Result<LogicalPlanBuilder> {
        let columns =
            || -> Vec<Expr> { schema().fields().iter().map(|field| column(field.name())).collect() };
        let scan = |name: &str, table: &Arc<dyn TableProvider>| {
            LogicalPlanBuilder::scan(name, provider_as_source(table.clone()), None)?.project(columns())
        };
        let stored = scan("stored", &self.table)?;
        match &self.tail {
            None => Ok(stored),
            Some(tail) => stored.union(scan("tail", tail)?.build()?),
        }
    }

    fn events(&self) -> Result<ViewTable> {
        let columns: Vec<Expr> =
            schema().fields().iter().map(|field| self.masked_column(field.name())).collect();
        let rows = self.rows()?.filter(column("event_type").not_eq(lit(DEAD_LETTER)))?;
        Ok(ViewTable::new(rows.project(columns)?.build()?, None))
    }

    fn view(&self, view: &View) -> Result<ViewTable> {
        let kinds = view.kinds.iter().map(|kind| lit(*kind)).collect();
        let mut rows = self.rows()?.filter(column("event_type").in_list(kinds, false))?;
        if let Some(path) = view.items {
            let mut columns: Vec<Expr> = schema().fields().iter().map(|field| column(field.name())).collect();
            columns.push(self.call(json::ELEMENTS, column("raw_data"), path)?.alias(ITEM));
            rows = rows.project(columns)?.unnest_column(Column::new_unqualified(ITEM))?;
        }
        let mut columns: Vec<Expr> = COMMON.iter().map(|name| self.masked_column(name)).collect();
        for (name, source) in view.columns {
            columns.push(self.masked_source(*source)?.alias(*name));
        }
        let is_there = |name: &str| view.columns.iter().any(|(other, _)| *other == name);
        columns.extend(PLACE.iter().filter(|name| !is_there(name)).map(|name| column(name)));
        Ok(ViewTable::new(rows.project(columns)?.build()?, None))
    }

    fn masked_source(&self, source: Source) -> Result<Expr> {
        match (&self.privacy, source) {
            (_, Source::Column(name)) => Ok(self.masked_column(name)),
            (Privacy::Masked(_), source) if is_personal(source) && !facts::is_impersonal(source) => {
                Ok(lit(ScalarValue::Utf8(None)))
            }
            (_, source) => self.source(source),
        }
    }

    fn source(&self, source: Source) -> Result<Expr> {
        let (function, json, path) = match source {
            Source::Column(name) => return Ok(column(name)),
            Source::FirstText(one, other) => return self.first(json::TEXT, one, other),
            Source::FirstJson(one, other) => return self.first(json::JSON, one, other),
            Source::ColumnOrItem(name, one, other) => {
                let item = |path| self.call(json::NUMBER, column(ITEM), path);
                return Ok(coalesce(vec![column(name), item(one)?, item(other)?]));
            }
            Source::ItemTime(path) => (json::TIME, ITEM, path),
            Source::ItemJson(path) => (json::JSON, ITEM, path),
            Source::Text(path) => (json::TEXT, "raw_data", path),
            Source::Number(path) => (json::NUMBER, "raw_data", path),
            Source::Integer(path) => (json::INTEGER, "raw_data", path),
            Source::Boolean(path) => (json::BOOLEAN, "raw_data", path),
            Source::Json(path) => (json::JSON, "raw_data", path),
            Source::Time(path) => (json::TIME, "raw_data", path),
            Source::ItemText(path) => (json::TEXT, ITEM, path),
            Source::ItemNumber(path) => (json::NUMBER, ITEM, path),
        };
        self.call(function, column(json), path)
    }

    fn first(&self, function: &str, one: &str, other: &str) -> Result<Expr> {
        let at = |path| self.call(function, column("raw_data"), path);
        Ok(coalesce(vec![at(one)?, at(other)?]))
    }

    fn call(&self, function: &str, json: Expr, path: &str) -> Result<Expr> {
        match self.functions.get(function) {
            Some(function) => Ok(function.call(vec![json, lit(path)])),
            None => plan_err!("there is no function {function}"),
        }
    }

    fn masked_column(&self, name: &str) -> Expr {
        let Privacy::Masked(pseudonym) = &self.privacy else { return column(name) };
        match name {
            "session_id" | "user_id" | "anonymous_id" => {
                pseudonym.call(vec![cast_expr(column(name), DataType::Utf8)]).alias(name)
            }
            name if PERSONAL.contains(&name) => lit(ScalarValue::Utf8(None)).alias(name),
            name => column(name),
        }
    }
}

fn views() -> impl Iterator<Item = &'static View> {
    VIEWS.iter().chain(&FACTS)
}

fn column(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

/// The tail as a table, with the types that the stored rows are read with.
fn tail_table(stored: &SchemaRef, tail: &[RecordBatch]) -> Result<Arc<dyn TableProvider>> {
    let columns = schema();
    let fields = columns.fields().iter().map(|field| stored.field_with_name(field.name()).cloned());
    let types = Arc::new(Schema::new(fields.collect::<Result<Vec<_>, _>>()?));
    let mut batches = Vec::with_capacity(tail.len());
    for batch in tail {
        let columns =
            types.fields().iter().zip(batch.columns()).map(|(field, column)| cast(column, field.data_type()));
        batches.push(RecordBatch::try_new(types.clone(), columns.collect::<Result<Vec<_>, _>>()?)?);
    }
    Ok(Arc::new(MemTable::try_new(types, vec![batches])?))
}

#[async_trait]
impl SchemaProvider for Catalog {
    fn table_names(&self) -> Vec<String> {
        let names = std::iter::once(EVENTS).chain(views().map(|view| view.name));
        let counts = BUCKETS.iter().map(|(name, _)| *name).filter(|_| self.aggregates.is_some());
        let derived = DERIVED.iter().map(|derived| derived.name);
        names.chain(counts).chain(derived).map(str::to_owned).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if name == EVENTS {
            return Ok(Some(Arc::new(self.events()?)));
        }
        if let Some((_, length)) = BUCKETS.iter().find(|(other, _)| *other == name) {
            return Ok(Some(Arc::new(self.counts(length)?)));
        }
        if let Some(derived) = DERIVED.into_iter().find(|derived| derived.name == name) {
            return Ok(Some(Arc::new(self.derived(derived)?)));
        }
        match views().find(|view| view.name == name) {
            Some(view) => Ok(Some(Arc::new(self.view(view)?))),
            None => Ok(None),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        let is_count = self.aggregates.is_some() && BUCKETS.iter().any(|(other, _)| *other == name);
        is_count
            || name == EVENTS
            || DERIVED.iter().any(|derived| derived.name == name)
            || views().any(|view| view.name == name)
    }
}
