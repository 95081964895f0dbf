//! The model of who is let in: caps, and buckets that refill with time.

use std::collections::BTreeMap;
use std::net::IpAddr;

use tickstream_engine::Limit;

use crate::rules::Rules;
use crate::ticks::{MS, SECOND};

/// Unit that counts as one client: an IPv4 address, or the first 64 bits of an IPv6 one.
pub type Address = (bool, u64);

pub fn address(ip: IpAddr) -> Address {
    match ip {
        IpAddr::V4(ip) => (false, u64::from(ip.to_bits())),
        IpAddr::V6(ip) => (true, (ip.to_bits() >> 64) as u64),
    }
}

/// Time that may be spent; it comes back as time passes.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    pub left_ns: u64,
    pub at: u64,
}

impl Bucket {
    pub fn refill(&mut self, most_ns: u64, active_ns: u64) {
        self.left_ns = (self.left_ns + active_ns - self.at).min(most_ns);
        self.at = active_ns;
    }
}

#[derive(Debug)]
pub struct Gate {
    arrivals: Bucket,
    failures: BTreeMap<Address, Bucket>,
    /// Connections, and those that haven't authenticated.
    pub held: BTreeMap<Address, (u32, u32)>,
    pub open: u32,
    pub unauthenticated: u32,
    pub memory_is_short: bool,
    /// Until when ticks may have been late, and until when they certainly were.
    pub maybe_late_until: u64,
    pub late_until: u64,
}

const ARRIVALS_NS: u64 = 2 * SECOND;

impl Gate {
    pub fn new() -> Self {
        Self {
            arrivals: Bucket { left_ns: ARRIVALS_NS, at: 0 },
            failures: BTreeMap::new(),
            held: BTreeMap::new(),
            open: 0,
            unauthenticated: 0,
            memory_is_short: false,
            maybe_late_until: 0,
            late_until: 0,
        }
    }

    /// The limits that must, or may, keep a new connection out; `known`: its address is known, too.
    pub fn refusals(
        &mut self,
        rules: &Rules,
        from: Option<Address>,
        tls: bool,
        active_ns: u64,
    ) -> (Vec<Limit>, Vec<Limit>) {
        let mut must = Vec::new();
        let mut say = |holds: bool, limit| {
            if holds {
                must.push(limit);
            }
        };
        say(self.open >= rules.connections, Limit::Connections);
        say(self.memory_is_short, Limit::Memory);
        say(active_ns < self.late_until, Limit::Lag);
        say(self.unauthenticated >= rules.unauthenticated, Limit::Unauthenticated);
        if rules.connections_per_second > 0 {
            self.arrivals.refill(ARRIVALS_NS, active_ns);
            say(
                self.arrivals.left_ns < SECOND / u64::from(rules.connections_per_second),
                Limit::ConnectionRate,
            );
        }
        if let Some(from) = from {
            must.extend(self.address_refusals(rules, from, tls, active_ns));
        }
        let may = if active_ns < self.maybe_late_until { vec![Limit::Lag] } else { Vec::new() };
        (must, may)
    }

    /// The same, of the limits by address.
    pub fn address_refusals(
        &mut self,
        rules: &Rules,
        from: Address,
        tls: bool,
        active_ns: u64,
    ) -> Vec<Limit> {
        let (open, unauthenticated) = self.held.get(&from).copied().unwrap_or_default();
        let reached = |most: u32, held: u32| most > 0 && held >= most;
        let mut must = Vec::new();
        if tls && self.auth_wait_ms(rules, from, active_ns) > 0 {
            must.push(Limit::AuthFailures);
        }
        if reached(rules.connections_per_address, open) {
            must.push(Limit::ConnectionsPerAddress);
        }
        if reached(rules.unauthenticated_per_address, unauthenticated) {
            must.push(Limit::UnauthenticatedPerAddress);
        }
        must
    }

    pub fn let_in(&mut self, rules: &Rules) {
        self.open += 1;
        self.unauthenticated += 1;
        if rules.connections_per_second > 0 {
            self.arrivals.left_ns -= SECOND / u64::from(rules.connections_per_second);
        }
    }

    pub fn hold(&mut self, from: Address) {
        let held = self.held.entry(from).or_default();
        *held = (held.0 + 1, held.1 + 1);
    }

    /// Milliseconds until the next AUTH from there is handled.
    pub fn auth_wait_ms(&mut self, rules: &Rules, from: Address, active_ns: u64) -> u32 {
        let (cost_ns, most_ns) = costs(rules);
        match self.failures.get_mut(&from) {
            Some(bucket) if cost_ns > 0 => {
                bucket.refill(most_ns, active_ns);
                cost_ns.saturating_sub(bucket.left_ns).div_ceil(MS) as u32
            }
            _ => 0,
        }
    }

    pub fn failed(&mut self, rules: &Rules, from: Address, active_ns: u64) {
        let (cost_ns, most_ns) = costs(rules);
        if cost_ns > 0 {
            let bucket = self.failures.entry(from).or_insert(Bucket { left_ns: most_ns, at: active_ns });
            bucket.refill(most_ns, active_ns);
            bucket.left_ns -= cost_ns;
        }
    }

    pub fn forget_failures(&mut self) {
        self.failures.clear();
    }
}

fn costs(rules: &Rules) -> (u64, u64) {
    let per_minute = u64::from(rules.auth_failures_per_minute);
    let cost_ns = (60 * SECOND).checked_div(per_minute).unwrap_or(0);
    (cost_ns, cost_ns * per_minute)
}
