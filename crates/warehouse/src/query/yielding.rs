//! Joins that let go of their thread after each batch, so that a query's time limit and its cancellation reach them.
//!
//! DataFusion makes leaves of a plan yield. A join by comparison makes millions of batches of one that a leaf gave; an
//! aggregate over it takes them all before it looks up.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec};

/// Puts a yield behind each join that may multiply rows.
#[derive(Debug)]
pub struct Yielding;

impl PhysicalOptimizerRule for Yielding {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|plan| {
            let multiplies = plan.downcast_ref::<NestedLoopJoinExec>().is_some()
                || plan.downcast_ref::<CrossJoinExec>().is_some()
                || plan.downcast_ref::<HashJoinExec>().is_some();
            Ok(if multiplies {
                Transformed::yes(Arc::new(CooperativeExec::new(plan)) as Arc<dyn ExecutionPlan>)
            } else {
                Transformed::no(plan)
            })
        })
        .map(|transformed| transformed.data)
    }

    fn name(&self) -> &str {
        "yielding joins"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
