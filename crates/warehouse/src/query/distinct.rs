//! Counts of distinct values beside other aggregates, as groups.
//!
//! `count(*), count(DISTINCT a)` becomes a count of the groups of `a`. DataFusion does so for `count(DISTINCT a)` alone;
//! beside `count(*)` it keeps a set of all values in memory, which can't go to disk. Groups can.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{DataFusionError, Result};
use datafusion::functions_aggregate::expr_fn::{count, max, min, sum};
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams};
use datafusion::logical_expr::{
    Aggregate, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, col, lit, when,
};
use datafusion::optimizer::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

const VALUE: &str = "__distinct_value";

/// Rewrites aggregates with distinct counts of one expression beside counts, sums, least and largest values.
#[derive(Debug)]
pub struct DistinctAsGroups;

impl OptimizerRule for DistinctAsGroups {
    fn name(&self) -> &str {
        "distinct counts as groups"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>, DataFusionError> {
        let LogicalPlan::Aggregate(aggregate) = &plan else { return Ok(Transformed::no(plan)) };
        Ok(match in_two_steps(aggregate)? {
            Some(rewritten) => Transformed::yes(rewritten),
            None => Transformed::no(plan),
        })
    }
}

/// An aggregate over the groups of one distinct value.
enum Part {
    Distinct,
    /// Name of the aggregate within a group, and how those of all groups are put together.
    Whole(String, fn(Expr) -> Expr),
}

/// The same answer from an aggregate over an aggregate, if there is one.
fn in_two_steps(aggregate: &Aggregate) -> Result<Option<LogicalPlan>> {
    let grouping_sets = aggregate.group_expr.iter().any(|group| matches!(group, Expr::GroupingSet(_)));
    let Some(value) = distinct_value(&aggregate.aggr_expr).filter(|_| !grouping_sets) else {
        return Ok(None);
    };
    let mut within = Vec::new();
    let mut parts = Vec::with_capacity(aggregate.aggr_expr.len());
    for expression in &aggregate.aggr_expr {
        let Expr::AggregateFunction(AggregateFunction { func, params }) = expression else { return Ok(None) };
        if params.distinct {
            parts.push(Part::Distinct);
            continue;
        }
        let together: fn(Expr) -> Expr = match func.name() {
            "count" | "sum" => sum,
            "min" => min,
            "max" => max,
            _ => return Ok(None),
        };
        let name = format!("__part_{}", parts.len());
        within.push(expression.clone().alias(&name));
        parts.push(Part::Whole(name, together));
    }
    let group_names: Vec<_> =
        (0..aggregate.group_expr.len()).map(|place| format!("__group_{place}")).collect();
    let groups = aggregate.group_expr.iter().zip(&group_names).map(|(group, name)| group.clone().alias(name));
    let inner = Aggregate::try_new(
        aggregate.input.clone(),
        groups.chain([value.clone().alias(VALUE)]).collect(),
        within,
    )?;
    let over = parts.iter().map(|part| match part {
        Part::Distinct => count(col(VALUE)),
        Part::Whole(name, together) => together(col(name)),
    });
    // Equal aggregates need one column.
    let mut wanted: Vec<Expr> = Vec::new();
    let places: Vec<_> = over
        .map(|expression| {
            wanted.iter().position(|known| *known == expression).unwrap_or_else(|| {
                wanted.push(expression);
                wanted.len() - 1
            })
        })
        .collect();
    let outer = LogicalPlan::Aggregate(Aggregate::try_new(
        Arc::new(LogicalPlan::Aggregate(inner)),
        group_names.iter().map(col).collect(),
        wanted,
    )?);
    named_as_before(aggregate, outer, &places)
}

/// The one expression whose distinct values are counted; none if there is none, or another aggregate that isn't known.
fn distinct_value(aggregates: &[Expr]) -> Option<&Expr> {
    let mut value = None;
    for expression in aggregates {
        let Expr::AggregateFunction(AggregateFunction { func, params }) = expression else { return None };
        let AggregateFunctionParams { args, distinct, filter, order_by, null_treatment } = params;
        if filter.is_some() || !order_by.is_empty() || null_treatment.is_some() {
            return None;
        }
        match (distinct, func.name(), args.as_slice()) {
            (true, "count", [argument]) if value.is_none_or(|known| known == argument) => {
                value = Some(argument);
            }
            (false, "count" | "sum" | "min" | "max", [_]) => {}
            _ => return None,
        }
    }
    value
}

/// Columns of `outer` with the names of `aggregate`'s; nothing if a type isn't the same.
fn named_as_before(
    aggregate: &Aggregate,
    outer: LogicalPlan,
    places: &[usize],
) -> Result<Option<LogicalPlan>> {
    let schema = outer.schema().clone();
    let groups = aggregate.group_expr.len();
    let column = |place| Expr::Column(schema.qualified_field(place).into());
    let mut columns = Vec::with_capacity(groups + places.len());
    for place in 0..aggregate.schema.fields().len() {
        let (qualifier, field) = aggregate.schema.qualified_field(place);
        let mut expression = column(if place < groups { place } else { groups + places[place - groups] });
        if place >= groups && !field.is_nullable() {
            // A count of no rows is 0, a sum of no counts isn't there.
            expression = when(expression.clone().is_not_null(), expression).otherwise(lit(0_i64))?;
        }
        if expression.get_type(&schema)? != *field.data_type() {
            return Ok(None);
        }
        columns.push(expression.alias_qualified(qualifier.cloned(), field.name()));
    }
    LogicalPlanBuilder::from(outer).project(columns)?.build().map(Some)
}
