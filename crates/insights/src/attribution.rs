//! Attribution: the share that each marketing channel has in conversions. Credits of a conversion sum to 1.

mod models;
mod rules;

pub use models::{Journey, markov, shapley};
pub use rules::{Rule, Touch, credits};
