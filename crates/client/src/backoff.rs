//! The wait before the next attempt.

use std::time::Duration;

/// Exponential backoff with full jitter: each wait is uniform between zero and a ceiling that doubles. Clients
/// that lost their server at the same moment thus spread over the whole ceiling.
#[derive(Debug)]
pub(crate) struct Backoff {
    first_ceiling: Duration,
    max: Duration,
    ceiling: Duration,
    random: fastrand::Rng,
}

impl Backoff {
    pub fn new(first_ceiling: Duration, max: Duration, random: fastrand::Rng) -> Self {
        Self { first_ceiling, max, ceiling: first_ceiling, random }
    }

    /// The next wait.
    pub fn wait(&mut self) -> Duration {
        let wait = self.ceiling.mul_f64(self.random.f64());
        self.ceiling = self.ceiling.saturating_mul(2).min(self.max);
        wait
    }

    /// Tells how long the last connection lasted. Only one that outlasted the longest wait starts the backoff
    /// over: a server that accepts and then fails, again and again, is not a server that works.
    pub fn connection_lasted(&mut self, lifetime: Duration) {
        if lifetime >= self.max {
            self.start_over();
        }
    }

    /// The next wait is as short as the first.
    pub fn start_over(&mut self) {
        self.ceiling = self.first_ceiling;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(1);

    fn backoff(seed: u64) -> Backoff {
        Backoff::new(FIRST, MAX, fastrand::Rng::with_seed(seed))
    }

    #[test]
    fn waits_spread_over_a_ceiling_that_doubles_up_to_the_maximum() {
        for (step, ceiling_ms) in [100, 200, 400, 800, 1000, 1000].into_iter().enumerate() {
            let waits: Vec<_> = (0..1000)
                .map(|seed| {
                    let mut backoff = backoff(seed);
                    (0..step).fold(backoff.wait(), |_, _| backoff.wait())
                })
                .collect();
            let ceiling = Duration::from_millis(ceiling_ms);
            assert!(waits.iter().all(|wait| *wait <= ceiling));
            assert!(waits.iter().any(|wait| *wait > ceiling.mul_f64(0.95)));
            assert!(waits.iter().any(|wait| *wait < ceiling.mul_f64(0.05)));
        }
    }

    #[test]
    fn only_a_lasting_connection_starts_it_over() {
        let mut backoff = backoff(1);
        backoff.wait();
        backoff.connection_lasted(MAX - Duration::from_millis(1));
        assert_eq!(backoff.ceiling, FIRST * 2);
        backoff.connection_lasted(MAX);
        assert_eq!(backoff.ceiling, FIRST);
    }
}
