//! Bound on failed AUTHs of an address: a table of fixed size under a clock that is passed in.

use crate::clock::{ActiveTime, MS, SECOND};
use crate::network::AddressKey;

/// Addresses that are remembered. At 24 bytes each, 384 KiB a shard, from the first failure on.
const ENTRIES: usize = 1 << 14;
/// Places that an address may have in the table.
const WAYS: usize = 8;

/// Counts failures by address. Each address has a bucket of its own, which holds a minute's failures and refills
/// evenly (GCRA); so an address without failures is never refused, whatever others do.
///
/// If more addresses fail than there are places, those with the fewest recent failures are forgotten.
#[derive(Debug)]
pub(crate) struct AuthLimiter {
    entries: Vec<Entry>,
    /// Nanoseconds that one failure costs; 0: there is no limit.
    cost_ns: u64,
    /// Nanoseconds that a bucket holds.
    burst_ns: u64,
    seed: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    address: Option<AddressKey>,
    /// Until when the failures so far are paid for.
    paid: ActiveTime,
}

impl AuthLimiter {
    /// Bytes of its table.
    pub const TABLE_BYTES: u64 = (ENTRIES * size_of::<Entry>()) as u64;

    /// A limiter of `per_minute` failures; 0 for none. `seed` keeps others from choosing addresses that share places.
    pub fn new(per_minute: u32, seed: u64) -> Self {
        let cost_ns = if per_minute == 0 { 0 } else { 60 * SECOND / u64::from(per_minute) };
        Self { entries: Vec::new(), cost_ns, burst_ns: cost_ns * u64::from(per_minute), seed }
    }

    /// Checks whether an attempt from `address` is allowed.
    ///
    /// # Errors
    /// If not: milliseconds until the next one may.
    pub fn check(&self, address: AddressKey, now: ActiveTime) -> Result<(), u32> {
        let Some(entry) = self.places(address).find(|entry| entry.address == Some(address)) else {
            return Ok(());
        };
        // One more failure must fit into the bucket.
        let over_ns = (entry.paid + self.cost_ns).saturating_sub(now + self.burst_ns);
        if over_ns == 0 { Ok(()) } else { Err(over_ns.div_ceil(MS) as u32) }
    }

    /// An attempt from `address` failed.
    pub fn failed(&mut self, address: AddressKey, now: ActiveTime) {
        if self.cost_ns == 0 {
            return;
        }
        if self.entries.is_empty() {
            self.entries = vec![Entry::default(); ENTRIES];
        }
        let first = self.first_place(address);
        let places = &mut self.entries[first..first + WAYS];
        let known = places.iter().position(|entry| entry.address == Some(address));
        let place = known.unwrap_or_else(|| {
            let least = (0..WAYS).min_by_key(|&place| places[place].paid);
            least.expect("there are places")
        });
        let entry = &mut places[place];
        if known.is_none() {
            *entry = Entry { address: Some(address), paid: 0 };
        }
        entry.paid = entry.paid.max(now) + self.cost_ns;
    }

    fn places(&self, address: AddressKey) -> impl Iterator<Item = &Entry> {
        let first = self.first_place(address);
        self.entries.iter().skip(first).take(WAYS)
    }

    /// Index of the first place of an address: the finaliser of splitmix64, keyed.
    fn first_place(&self, address: AddressKey) -> usize {
        let mut hash = address.bits().wrapping_add(self.seed);
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        hash = (hash ^ (hash >> 27) ^ self.seed.rotate_left(32)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (hash ^ (hash >> 31)) as usize % (ENTRIES / WAYS) * WAYS
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::*;

    const PER_MINUTE: u32 = 10;

    fn v4(number: u32) -> AddressKey {
        IpAddr::V4(Ipv4Addr::from_bits(number)).into()
    }

    fn limiter() -> AuthLimiter {
        AuthLimiter::new(PER_MINUTE, 0x5EED)
    }

    #[test]
    fn a_minute_s_failures_are_taken_at_once_and_then_one_every_six_seconds() {
        let mut limiter = limiter();
        let now = 1_000 * SECOND;
        for failure in 0..PER_MINUTE {
            assert_eq!(limiter.check(v4(1), now), Ok(()), "{failure}");
            limiter.failed(v4(1), now);
        }
        assert_eq!(limiter.check(v4(1), now), Err(6_000));
        assert_eq!(limiter.check(v4(1), now + 5 * SECOND), Err(1_000));
        assert_eq!(limiter.check(v4(1), now + 6 * SECOND), Ok(()));
        limiter.failed(v4(1), now + 6 * SECOND);
        assert_eq!(limiter.check(v4(1), now + 6 * SECOND), Err(6_000));
        assert_eq!(limiter.check(v4(1), now + 120 * SECOND), Ok(()));
    }

    #[test]
    fn a_bystander_s_failures_are_its_own() {
        let mut limiter = limiter();
        let v6 = |text: &str| AddressKey::from(text.parse::<Ipv6Addr>().map(IpAddr::V6).unwrap());
        for _ in 0..1_000 {
            limiter.failed(v4(1), SECOND);
            limiter.failed(v6("2001:db8:0:1::1"), SECOND);
        }
        assert_eq!(limiter.check(v4(2), SECOND), Ok(()));
        assert_eq!(limiter.check(v6("2001:db8:0:2::1"), SECOND), Ok(()));
        assert!(limiter.check(v6("2001:db8:0:1::2"), SECOND).is_err(), "one /64 is one address");
    }

    #[test]
    fn a_flood_of_addresses_neither_grows_the_table_nor_blocks_others() {
        let mut limiter = limiter();
        for _ in 0..PER_MINUTE {
            limiter.failed(v4(7), SECOND);
        }
        let capacity = limiter.entries.capacity();
        for number in 1_000..1_001_000 {
            limiter.failed(v4(number), SECOND);
        }
        assert_eq!(limiter.entries.capacity(), capacity);
        assert!(limiter.check(v4(7), SECOND).is_err(), "who failed most is remembered");
        let innocent = (2_000_000..2_100_000).filter(|&number| limiter.check(v4(number), SECOND).is_err());
        assert_eq!(innocent.count(), 0);
    }

    #[test]
    fn zero_means_no_limit() {
        let mut limiter = AuthLimiter::new(0, 1);
        for _ in 0..1_000 {
            limiter.failed(v4(1), SECOND);
        }
        assert_eq!(limiter.check(v4(1), SECOND), Ok(()));
    }
}
