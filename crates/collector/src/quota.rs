//! Quotas: token buckets by key and by address.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// A rate of events.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Events a second, above 0.
    pub per_second: f64,
    /// Events that may come at once.
    pub burst: f64,
}

/// One bucket. It may be overdrawn by the one request that empties it, so that a request larger than the burst isn't
/// refused for ever.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn refill(&mut self, rate: Rate, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * rate.per_second).min(rate.burst);
        self.at = now;
    }
}

/// Buckets by `K`, a bounded number of them.
#[derive(Debug)]
pub struct Buckets<K> {
    buckets: Mutex<HashMap<K, Bucket>>,
    len_max: usize,
}

impl<K: Hash + Eq + Copy> Buckets<K> {
    /// At most `len_max` buckets. Beyond, those that are full again are forgotten; if none is, an arbitrary one.
    pub fn new(len_max: usize) -> Self {
        Self { buckets: Mutex::default(), len_max }
    }

    /// Checks that events may come now.
    ///
    /// # Errors
    /// The time until they may.
    pub fn check(&self, key: K, rate: Rate, now: Instant) -> Result<(), Duration> {
        self.charge(key, rate, 0, now)
    }

    /// Takes tokens for so many events, if the bucket has any; it may then owe some.
    ///
    /// # Errors
    /// The time until events may come.
    pub fn charge(&self, key: K, rate: Rate, events: u64, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= self.len_max && !buckets.contains_key(&key) {
            make_room(&mut buckets, rate, now);
        }
        let bucket = buckets.entry(key).or_insert(Bucket { tokens: rate.burst, at: now });
        bucket.refill(rate, now);
        if bucket.tokens <= 0.0 {
            let wait = (1.0 - bucket.tokens) / rate.per_second;
            return Err(Duration::from_secs_f64(wait.clamp(0.0, 3600.0)));
        }
        bucket.tokens -= events as f64;
        Ok(())
    }
}

fn make_room<K: Hash + Eq + Copy>(buckets: &mut HashMap<K, Bucket>, rate: Rate, now: Instant) {
    buckets.retain(|_, bucket| {
        bucket.refill(rate, now);
        bucket.tokens < rate.burst
    });
    // A quarter at a time, so that a flood of addresses doesn't walk the whole table for each.
    let extra = buckets.len() / 4;
    let victims: Vec<K> = buckets.keys().take(extra).copied().collect();
    victims.iter().for_each(|key| _ = buckets.remove(key));
}

/// Addresses that share a quota: an IPv4 address, or an IPv6 network of 64 bits, which is what one subscriber has.
pub fn quota_address(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 10.0, burst: 100.0 };

    #[test]
    fn a_burst_passes_then_the_rate_holds() {
        let (buckets, t0) = (Buckets::new(10), Instant::now());
        assert_eq!(buckets.charge(1, RATE, 150, t0), Ok(()), "larger than the burst: taken once");
        let wait = buckets.charge(1, RATE, 1, t0).unwrap_err();
        assert_eq!(wait, Duration::from_millis(5100));
        assert_eq!(buckets.charge(2, RATE, 1, t0), Ok(()), "another key isn't concerned");
        assert!(buckets.check(1, RATE, t0 + Duration::from_secs(5)).is_err());
        assert_eq!(buckets.charge(1, RATE, 1, t0 + wait), Ok(()));
    }

    #[test]
    fn the_number_of_buckets_is_bounded() {
        let (buckets, t0) = (Buckets::new(100), Instant::now());
        for key in 0..10_000 {
            buckets.charge(key, RATE, 1000, t0).unwrap();
            assert!(buckets.buckets.lock().unwrap().len() <= 100);
        }
    }

    #[test]
    fn an_ipv6_subscriber_has_one_quota() {
        let address = |text: &str| quota_address(text.parse().unwrap());
        assert_eq!(address("2001:db8:1:2:3::4"), address("2001:db8:1:2::"));
        assert_ne!(address("2001:db8:1:3::"), address("2001:db8:1:2::"));
        assert_eq!(address("::ffff:192.0.2.1"), address("192.0.2.1"));
    }
}
