//! Allocation of a bill. Every row goes to owners directly, by use or in equal shares, what nobody used is "idle", and the parts
//! sum to the bill exactly: amounts are whole numbers of billionths.

use std::collections::BTreeMap;

/// Billionths of a unit of currency.
pub type Nanos = i128;

/// Owner of what nobody used.
pub const IDLE: &str = "(idle)";
/// Owner of what no rule allocates.
pub const UNALLOCATED: &str = "(unallocated)";

/// One row of a bill with the rule for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Charge {
    /// FOCUS' EffectiveCost, in billionths; below 0 for credits.
    pub cost: Nanos,
    /// The rule.
    pub rule: Allocation,
}

/// A rule for one charge.
#[derive(Clone, Debug, PartialEq)]
pub enum Allocation {
    /// All to one owner, such as its tag says.
    Direct(String),
    /// By measured use; what is left of the capacity is idle. Without a capacity, by use alone.
    ByUse {
        /// Use by owner, any unit, not below 0.
        used: BTreeMap<String, f64>,
        /// In the same unit.
        capacity: Option<f64>,
    },
    /// The same to each owner.
    Shared(Vec<String>),
}

/// Cost by owner. The values sum to the charges' cost, to the last billionth.
pub fn allocate(charges: &[Charge]) -> BTreeMap<String, Nanos> {
    let mut by_owner = BTreeMap::new();
    for charge in charges {
        let weights = charge.rule.weights();
        for ((owner, _), part) in weights.iter().zip(split(charge.cost, &weights)) {
            if part != 0 {
                *by_owner.entry(owner.clone()).or_insert(0) += part;
            }
        }
    }
    by_owner
}

impl Allocation {
    /// Owners, each with its share and its part of each amount. The parts of an amount sum to it.
    pub fn parts(&self, amounts: &[Option<Nanos>]) -> Vec<(String, f64, Vec<Option<Nanos>>)> {
        let weights = self.weights();
        let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
        let by_amount: Vec<_> =
            amounts.iter().map(|amount| amount.map(|amount| split(amount, &weights))).collect();
        let part =
            |owner: usize| by_amount.iter().map(|parts| parts.as_ref().map(|parts| parts[owner])).collect();
        let owners = weights.iter().enumerate();
        owners.map(|(place, (owner, weight))| (owner.clone(), weight / total, part(place))).collect()
    }

    /// Owners with their weights; at least one weight is above 0.
    fn weights(&self) -> Vec<(String, f64)> {
        let mut weights: Vec<_> = match self {
            Self::Direct(owner) => vec![(owner.clone(), 1.0)],
            Self::Shared(owners) => owners.iter().map(|owner| (owner.clone(), 1.0)).collect(),
            Self::ByUse { used, capacity } => {
                let usable = used.iter().filter(|(_, amount)| amount.is_finite() && **amount > 0.0);
                let mut weights: Vec<_> = usable.map(|(owner, used)| (owner.clone(), *used)).collect();
                let total: f64 = weights.iter().map(|(_, used)| used).sum();
                let idle = capacity.unwrap_or(0.0) - total;
                if idle.is_finite() && idle > 0.0 {
                    weights.push((IDLE.to_owned(), idle));
                }
                weights
            }
        };
        if weights.is_empty() {
            weights.push((UNALLOCATED.to_owned(), 1.0));
        }
        weights
    }
}

/// Parts of an amount in proportion to weights: rounded down, and the rest a billionth each to those with the largest
/// fractions (largest remainder).
fn split(amount: Nanos, weights: &[(String, f64)]) -> Vec<Nanos> {
    let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
    let exact = |weight: f64| amount.unsigned_abs() as f64 * (weight / total);
    let mut parts: Vec<_> = weights.iter().map(|(_, weight)| exact(*weight).floor() as Nanos).collect();
    let mut order: Vec<_> = (0..parts.len()).collect();
    order.sort_by(|a, b| exact(weights[*b].1).fract().total_cmp(&exact(weights[*a].1).fract()));
    let mut left = amount.unsigned_abs() as Nanos - parts.iter().sum::<Nanos>();
    // Floats may be off by more than one unit for amounts beyond 2^53: the first takes what that leaves.
    if let Some(first) = order.first().filter(|_| left.unsigned_abs() as usize > parts.len() || left < 0) {
        parts[*first] += left;
        left = 0;
    }
    for place in order.into_iter().take(left as usize) {
        parts[place] += 1;
    }
    parts.into_iter().map(|part| part * amount.signum()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_use(used: &[(&str, f64)], capacity: Option<f64>) -> Allocation {
        let used = used.iter().map(|(owner, used)| ((*owner).to_owned(), *used)).collect();
        Allocation::ByUse { used, capacity }
    }

    #[track_caller]
    fn check(cost: Nanos, rule: Allocation, expected: &[(&str, Nanos)]) {
        let found = allocate(&[Charge { cost, rule }]);
        let found: Vec<_> = found.iter().map(|(owner, cost)| (owner.as_str(), *cost)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn each_rule() {
        check(100, Allocation::Direct("shop".into()), &[("shop", 100)]);
        check(100, by_use(&[("a", 1.0), ("b", 2.0)], Some(4.0)), &[(IDLE, 25), ("a", 25), ("b", 50)]);
        check(100, by_use(&[("a", 1.0), ("b", 2.0)], None), &[("a", 33), ("b", 67)]);
        check(100, by_use(&[("a", 3.0), ("b", 3.0)], Some(4.0)), &[("a", 50), ("b", 50)]);
        check(
            -10,
            Allocation::Shared(["a", "b", "c"].map(str::to_owned).to_vec()),
            &[("a", -4), ("b", -3), ("c", -3)],
        );
        check(100, by_use(&[], None), &[(UNALLOCATED, 100)]);
        check(100, by_use(&[("a", f64::NAN), ("b", -1.0)], Some(2.0)), &[(IDLE, 100)]);
        check(100, Allocation::Shared(vec![]), &[(UNALLOCATED, 100)]);
    }

    #[test]
    fn parts_sum_to_the_bill_exactly() {
        let mut random = fastrand::Rng::with_seed(4);
        for _ in 0..2_000 {
            let cost = Nanos::from(random.i64(..)) * Nanos::from(random.u32(..));
            let used: Vec<_> = (0..random.usize(1..9)).map(|_| random.f64() * 10.0).collect();
            let used = used.iter().enumerate().map(|(n, used)| (n.to_string(), *used)).collect();
            let rule = Allocation::ByUse { used, capacity: random.bool().then_some(50.0) };
            let parts = rule.parts(&[Some(cost), None, Some(1)]);
            let sum = |place: usize| parts.iter().filter_map(|(_, _, parts)| parts[place]).sum::<Nanos>();
            assert_eq!((sum(0), sum(1), sum(2)), (cost, 0, 1));
            assert!((parts.iter().map(|(_, share, _)| share).sum::<f64>() - 1.0).abs() < 1e-9);
            let sum: Nanos = allocate(&[Charge { cost, rule }]).values().sum();
            assert_eq!(sum, cost);
        }
    }
}
