//! Runs of another kind: connections that come and go, hardly say anything, or publish, instead of subscriptions that
//! are held. Each kind has its own file; `threads` starts threads and measures the server meanwhile.

mod attempts;
mod brute_force;
mod dribble;
mod handshakes;
mod outcome;
mod publish;
mod threads;

use std::sync::Arc;

use self::outcome::Outcome;
use crate::{output, plan::Plan};

/// Makes the run and prints its outcome. Answers true if that is as it should be.
///
/// # Errors
/// If a thread can't be started or fails, or a file can't be written.
pub fn run(plan: Plan) -> anyhow::Result<bool> {
    let plan = Arc::new(plan);
    let modes = &plan.options.modes;
    if let Some(count) = modes.handshakes {
        tell(&plan, &handshakes::run(&plan, count)?)
    } else if let Some(rate) = modes.brute_force {
        tell(&plan, &brute_force::run(&plan, rate)?)
    } else if modes.publish.publish {
        tell(&plan, &publish::run(&plan)?)
    } else {
        tell(&plan, &dribble::run(&plan)?)
    }
}

fn tell(plan: &Plan, outcome: &impl Outcome) -> anyhow::Result<bool> {
    output::print(outcome, plan.options.json.as_deref())?;
    Ok(outcome.passed())
}
