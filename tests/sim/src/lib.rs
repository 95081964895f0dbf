//! A whole shard of the engine against virtual clients, under virtual time and one seed.
//!
//! `scenario` draws settings and roughness, `client` and `publisher` play clients, `journal` the disk, `world` the driver,
//! its clocks and the network; `model` says after each call what the shard may and must have done. The model is written
//! from docs/protocol.md and shares no code with what it checks: `wire`, `events` and `ticks` are its own.
//!
//! Everything is reproducible: the same seed gives the same trace, on every machine.

#![forbid(unsafe_code)]

mod client;
mod events;
mod journal;
mod model;
mod publisher;
mod rng;
mod rules;
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
    /// One test: a world counts what is allocated, which another thread would disturb.
    #[test]
    fn a_seed_always_gives_the_same_trace_and_another_seed_another() {
        let hashes: Vec<_> = (1..40).map(|seed| super::run(seed, false).hash).collect();
        for (seed, hash) in (1..).zip(&hashes) {
            assert_eq!(super::run(seed, false).hash, *hash, "seed {seed}");
        }
        assert_eq!(hashes.iter().collect::<std::collections::BTreeSet<_>>().len(), hashes.len());
    }
}
