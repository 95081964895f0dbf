//! Functions that events need, beyond those of DataFusion.
//!
//! The algorithms are plain functions over slices (`funnel`, `sequence`, `sketch`, `hyperloglog`, `json_path`); the rest makes SQL
//! functions of them.

pub mod aggregates;
mod date_trunc;
pub mod funnel;
pub mod hyperloglog;
pub mod json_functions;
pub mod json_path;
mod one_group;
pub mod sequence;
pub mod sketch;
pub mod sketches;
mod time_bucket;

use datafusion::prelude::SessionContext;

/// Adds the functions to a session.
pub fn register(context: &SessionContext) {
    for function in json_functions::all() {
        context.register_udf(function);
    }
    context.register_udf(time_bucket::function());
    context.register_udf(date_trunc::function());
    for function in aggregates::all().into_iter().chain(sketches::all()) {
        context.register_udaf(function);
    }
}
