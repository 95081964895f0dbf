//! Joins that let go of their thread after each batch, so that a query's time limit and its cancellation reach them.
//!
//! DataFusion makes leaves of a plan yield. A join by comparison makes millions of batches of one that a leaf gave; an
//! aggregate over it takes them all before it looks up.

use std::sync::Arc;

use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec};

use super::plan_rule::PlanRule;

/// Puts a yield behind each join that may multiply rows.
pub const YIELDING: PlanRule = PlanRule {
    name: "yielding joins",
    exchange: |plan| {
        let multiplies = plan.downcast_ref::<NestedLoopJoinExec>().is_some()
            || plan.downcast_ref::<CrossJoinExec>().is_some()
            || plan.downcast_ref::<HashJoinExec>().is_some();
        Ok(multiplies.then(|| Arc::new(CooperativeExec::new(plan.clone())) as _))
    },
};
