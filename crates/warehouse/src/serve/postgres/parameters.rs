//! Parameters of a prepared statement: their types as PostgreSQL names them, and their values.

use std::collections::HashMap;

use arrow_pg::datatypes::{PG_OID_ALIAS_KEY, df, into_pg_type, pg_type_for_alias_kind};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{ParamValues, Result};
use datafusion::logical_expr::{Expr, LogicalPlan};
use pgwire::api::Type;
use pgwire::api::portal::Portal;
use pgwire::error::PgWireResult;

use super::errors::of_query;
use super::statement::Prepared;

/// A parameter of a plan.
#[derive(Clone, Debug, Default)]
struct Parameter {
    engine: Option<DataType>,
    wire: Option<Type>,
}

/// Types of the parameters `$1`, `$2` and so on.
///
/// # Errors
/// If a type has no name in PostgreSQL.
pub fn types(plan: &LogicalPlan) -> PgWireResult<Vec<Type>> {
    let parameters = parameters(plan).map_err(|error| of_query(&error.into()))?;
    parameters.iter().map(wire_type).collect()
}

/// Values of the parameters of a portal; `None` if it has none.
///
/// # Errors
/// If a value can't be read.
pub fn values(plan: &LogicalPlan, portal: &Portal<Prepared>) -> PgWireResult<Option<ParamValues>> {
    let parameters = parameters(plan).map_err(|error| of_query(&error.into()))?;
    if parameters.is_empty() {
        return Ok(None);
    }
    let wire: Vec<Type> = parameters.iter().map(wire_type).collect::<PgWireResult<_>>()?;
    let engine: Vec<Option<&DataType>> =
        parameters.iter().map(|parameter| parameter.engine.as_ref()).collect();
    let wire: Vec<Option<&Type>> = wire.iter().map(Some).collect();
    df::deserialize_parameters_with_server_types(portal, &engine, &wire).map(Some)
}

fn wire_type(parameter: &Parameter) -> PgWireResult<Type> {
    match parameter {
        Parameter { wire: Some(wire), .. } => Ok(wire.clone()),
        Parameter { engine: Some(engine), .. } => into_pg_type(engine),
        // A text can be anything.
        Parameter { engine: None, wire: None } => Ok(Type::UNKNOWN),
    }
}

/// Parameters by their number.
fn parameters(plan: &LogicalPlan) -> Result<Vec<Parameter>> {
    let mut found: HashMap<String, Parameter> = HashMap::new();
    for (name, engine) in plan.get_parameter_types()? {
        found.entry(name).or_default().engine = engine;
    }
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                if let Expr::Cast(cast) = part
                    && let Expr::Placeholder(placeholder) = cast.expr.as_ref()
                {
                    let parameter = found.entry(placeholder.id.clone()).or_default();
                    parameter.engine.get_or_insert_with(|| cast.field.data_type().clone());
                }
                if let Expr::Placeholder(placeholder) = part {
                    let parameter = found.entry(placeholder.id.clone()).or_default();
                    // Columns of pg_catalog hold object ids as numbers; clients bind them as such.
                    if let Some(field) = &placeholder.field
                        && field.data_type() == &DataType::Int32
                        && let Some(kind) = field.metadata().get(PG_OID_ALIAS_KEY)
                    {
                        parameter.wire = pg_type_for_alias_kind(kind);
                    }
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    let number = |name: &str| name.trim_start_matches('$').parse::<u16>().unwrap_or_default();
    let count = found.keys().map(|name| usize::from(number(name))).max().unwrap_or_default();
    let mut parameters = vec![Parameter::default(); count];
    for (name, parameter) in found {
        if let Some(place) = usize::from(number(&name)).checked_sub(1) {
            parameters[place] = parameter;
        }
    }
    Ok(parameters)
}
