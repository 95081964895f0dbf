//! A whole shard of the engine against virtual clients, under virtual time and one seed.
//!
//! `scenario` draws settings and roughness, `client` plays clients, `world` the driver, its clocks and the network;
//! `model` says after each call what the shard may and must have done. The model is written from docs/protocol.md and
//! shares no code with what it judges: `wire` and `ticks` are its own.
//!
//! What is reproducible here is everything: the same seed gives the same trace, on every machine.

#![forbid(unsafe_code)]

mod client;
mod model;
mod rng;
mod scenario;
mod ticks;
mod trace;
mod wire;
mod world;

pub use world::{Outcome, World};

/// Runs one seed.
///
/// # Panics
/// At the first thing that is wrong.
pub fn run(seed: u64, is_verbose: bool) -> Outcome {
    World::new(seed, is_verbose).run()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_seed_always_gives_the_same_trace() {
        for seed in 1..40 {
            assert_eq!(super::run(seed, false).hash, super::run(seed, false).hash, "seed {seed}");
        }
    }

    #[test]
    fn two_seeds_give_two_traces() {
        assert_ne!(super::run(1, false).hash, super::run(2, false).hash);
    }
}
