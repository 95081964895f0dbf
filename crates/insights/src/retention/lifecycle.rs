//! Lifecycle and stickiness, from the periods in which each person was active.

/// Persons of one period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifecycle {
    /// Active for the first time ever.
    pub new: u64,
    /// Active in the period before, too.
    pub returning: u64,
    /// Active before, but not in the period before.
    pub resurrected: u64,
    /// Active in the period before, and not in this.
    pub dormant: u64,
}

/// Lifecycle of the periods 0 to `count` - 1. Each person has its active periods, rising and without repetition; those
/// before 0 are known and make nobody new.
pub fn lifecycle(persons: &[Vec<i64>], count: usize) -> Vec<Lifecycle> {
    let mut found = vec![Lifecycle::default(); count];
    let place = |period: i64| usize::try_from(period).ok().filter(|place| *place < count);
    for active in persons {
        for (n, period) in active.iter().enumerate() {
            if let Some(place) = place(*period) {
                let before = n.checked_sub(1).map(|n| active[n]);
                match before {
                    None => found[place].new += 1,
                    Some(before) if before == period - 1 => found[place].returning += 1,
                    Some(_) => found[place].resurrected += 1,
                }
            }
            let is_active_next = active.get(n + 1) == Some(&(period + 1));
            if let Some(next) = place(period + 1).filter(|_| !is_active_next) {
                found[next].dormant += 1;
            }
        }
    }
    found
}

/// Number of persons who were active in exactly 1, 2, … `count` of the periods 0 to `count` - 1.
pub fn stickiness(persons: &[Vec<i64>], count: usize) -> Vec<u64> {
    let mut found = vec![0; count];
    for active in persons {
        let days = active.iter().filter(|period| (0..count as i64).contains(period)).count();
        if let Some(place) = days.checked_sub(1) {
            found[place] += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn persons_come_stay_go_and_come_back() {
        let found = lifecycle(&[vec![0, 1, 3], vec![1], vec![-2, 0]], 4);
        let expected = [(1, 0, 1, 0), (1, 1, 0, 1), (0, 0, 0, 2), (0, 0, 1, 0)]
            .map(|(new, returning, resurrected, dormant)| Lifecycle { new, returning, resurrected, dormant });
        assert_eq!(found, expected);
    }

    #[test]
    fn active_days_are_counted() {
        assert_eq!(stickiness(&[vec![0, 2], vec![1], vec![-1, 2], vec![9]], 3), [2, 1, 0]);
    }
}
