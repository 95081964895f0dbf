//! Filters of scans: each condition is evaluated once, and where all columns are light, on whole batches.
//!
//! The Delta scan and the operator above it push the same conditions down, so a scan has them twice. And a Parquet reader that
//! filters while it decodes pays for each change between rows that pass and rows that don't. That is worth it where it spares
//! heavy columns, or where a condition names an identifier and few rows pass; otherwise it costs twice of a filter behind the
//! scan. Row groups and pages are pruned by the conditions in both cases.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::physical_plan::{
    FileScanConfig, FileScanConfigBuilder, FileSource, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, InListExpr};
use datafusion::physical_expr::projection::{ProjectionExpr, ProjectionExprs};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{DynamicFilterTracking, PhysicalExpr, conjunction, split_conjunction};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExecBuilder;

use super::plan_rule::PlanRule;

/// Columns whose values are long: an event's JSON.
const HEAVY: [&str; 3] = ["raw_data", "properties", "context"];
/// Columns with a value for few rows each.
const IDENTIFIERS: [&str; 6] = ["event_id", "session_id", "user_id", "anonymous_id", "trace_id", "span_id"];

/// Evaluates each condition of a scan once, and behind the scan where its columns are light.
pub const SCAN_FILTERS: PlanRule = PlanRule {
    name: "filters of scans",
    exchange: |plan| {
        let Some(scan) = plan.downcast_ref::<DataSourceExec>() else { return Ok(None) };
        let Some((config, source)) = scan.downcast_to_file_source::<ParquetSource>() else { return Ok(None) };
        let Some(predicate) = source.filter() else { return Ok(None) };
        let conditions = without_repetitions(&predicate);
        let once = conjunction(conditions.iter().cloned());
        let is_light = |column: &Column| !HEAVY.contains(&column.name());
        let columns = source.projection().into_iter().flat_map(ProjectionExprs::iter);
        let mut read = collect_columns(&once);
        read.extend(columns.flat_map(|column| collect_columns(&column.expr)));
        let is_behind = config.limit.is_none()
            && read.iter().all(is_light)
            && !conditions.iter().any(|condition| {
                DynamicFilterTracking::classify(condition).contains_dynamic_filter() || is_look_up(condition)
            });
        match is_behind {
            true => filtered_behind(config, source, &once),
            false => Ok(Some(scan_of(config, Arc::new(source.with_predicate(once))))),
        }
    },
};

fn without_repetitions(predicate: &Arc<dyn PhysicalExpr>) -> Vec<Arc<dyn PhysicalExpr>> {
    let mut conditions: Vec<Arc<dyn PhysicalExpr>> = Vec::new();
    for condition in split_conjunction(predicate) {
        if !conditions.contains(condition) {
            conditions.push(condition.clone());
        }
    }
    conditions
}

/// True for a condition that an identifier has one of some values.
fn is_look_up(condition: &Arc<dyn PhysicalExpr>) -> bool {
    let is_equality = condition
        .downcast_ref::<BinaryExpr>()
        .is_some_and(|binary| matches!(binary.op(), Operator::Eq | Operator::Or));
    let is_list = condition.downcast_ref::<InListExpr>().is_some_and(|list| !list.negated());
    (is_equality || is_list)
        && collect_columns(condition).iter().any(|column| IDENTIFIERS.contains(&column.name()))
}

fn scan_of(config: &FileScanConfig, source: Arc<dyn FileSource>) -> Arc<dyn ExecutionPlan> {
    let config = FileScanConfigBuilder::from(config.clone()).with_source(source).build();
    DataSourceExec::from_data_source(config)
}

/// The scan with the columns of its conditions, then a filter that gives the scan's own columns.
fn filtered_behind(
    config: &FileScanConfig,
    source: &ParquetSource,
    predicate: &Arc<dyn PhysicalExpr>,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(projection) = source.projection() else { return Ok(None) };
    let mut columns: Vec<ProjectionExpr> = projection.iter().cloned().collect();
    let width = columns.len();
    let mut places: HashMap<usize, usize> = HashMap::new();
    for column in collect_columns(predicate) {
        let is_same = |known: &ProjectionExpr| known.expr.downcast_ref::<Column>() == Some(&column);
        let place = columns.iter().position(is_same).unwrap_or_else(|| {
            columns.push(ProjectionExpr::new(Arc::new(column.clone()), column.name()));
            columns.len() - 1
        });
        places.insert(column.index(), place);
    }
    let of_scan = |expression: Arc<dyn PhysicalExpr>| {
        let Some(column) = expression.downcast_ref::<Column>() else {
            return Ok(Transformed::no(expression));
        };
        let place = places[&column.index()];
        Ok(Transformed::yes(Arc::new(Column::new(&columns[place].alias, place)) as _))
    };
    let above = predicate.clone().transform_up(of_scan)?.data;
    let mut wider = ParquetSource::new(source.table_schema().clone())
        .with_table_parquet_options(source.table_parquet_options().clone())
        .with_predicate(predicate.clone())
        .with_pushdown_filters(false);
    if let Some(factory) = source.parquet_file_reader_factory() {
        wider = wider.with_parquet_file_reader_factory(factory.clone());
    }
    let Some(wider) = wider.try_pushdown_projection(&ProjectionExprs::from(columns.clone()))? else {
        return Ok(None);
    };
    let filter = FilterExecBuilder::new(above, scan_of(config, wider))
        .apply_projection(Some((0..width).collect()))?
        .build()?;
    Ok(Some(Arc::new(filter)))
}
