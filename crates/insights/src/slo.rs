//! Service level objectives: error budgets, and burn-rate alerts over two windows each (The Site Reliability Workbook, chapter 5).

/// Good and valid requests of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Requests that count.
    pub valid: u64,
    /// Of these, those that failed or were too slow.
    pub bad: u64,
}

/// An alert rule: the burn rate must be reached over both windows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BurnRule {
    /// Multiple of the rate that spends the budget exactly within the objective's period.
    pub rate: f64,
    /// The window that shows that it matters, seconds.
    pub long_s: u64,
    /// The window that shows that it goes on, seconds.
    pub short_s: u64,
    /// True if the alert pages a person; else a ticket is enough.
    pub is_page: bool,
}

/// The workbook's rules for 30 days: 2 % of the budget in an hour, 5 % in 6 hours, 10 % in 3 days.
pub const BURN_RULES: [BurnRule; 3] = [
    BurnRule { rate: 14.4, long_s: 3_600, short_s: 300, is_page: true },
    BurnRule { rate: 6.0, long_s: 6 * 3_600, short_s: 1_800, is_page: true },
    BurnRule { rate: 1.0, long_s: 3 * 86_400, short_s: 6 * 3_600, is_page: false },
];

/// Burn rate for a target such as 0.999; none without requests, or with a target that leaves no budget.
pub fn burn_rate(requests: Requests, target: f64) -> Option<f64> {
    let budget = 1.0 - target;
    (requests.valid > 0 && budget > 0.0).then(|| requests.bad as f64 / requests.valid as f64 / budget)
}

/// Share of the period's budget that is left: 1 to below 0. None without requests or without a budget.
pub fn budget_left(requests: Requests, target: f64) -> Option<f64> {
    burn_rate(requests, target).map(|rate| 1.0 - rate)
}

/// Rules that fire. `requests` gives those of the last seconds.
pub fn firing(target: f64, requests: impl Fn(u64) -> Requests) -> Vec<BurnRule> {
    // A rate computed from whole numbers may be a rounding error below the rule's.
    let reaches = |seconds, rate: f64| {
        burn_rate(requests(seconds), target).is_some_and(|found| found >= rate * (1.0 - 1e-9))
    };
    BURN_RULES
        .into_iter()
        .filter(|rule| reaches(rule.long_s, rule.rate) && reaches(rule.short_s, rule.rate))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bad_by_window: &[(u64, u64)], expected: &[f64]) {
        let requests = |seconds| Requests {
            valid: 10_000,
            bad: bad_by_window.iter().find(|(window, _)| *window == seconds).map_or(0, |(_, bad)| *bad),
        };
        let rates: Vec<_> = firing(0.999, requests).iter().map(|rule| rule.rate).collect();
        assert_eq!(rates, expected);
    }

    #[test]
    fn both_windows_must_burn() {
        check(&[(3_600, 144), (300, 144)], &[14.4]);
        check(&[(3_600, 143), (300, 500)], &[]);
        // It is over: the short window is clean.
        check(&[(3_600, 500), (300, 0)], &[]);
        check(&[(21_600, 60), (1_800, 60), (259_200, 10)], &[6.0, 1.0]);
        check(&[(259_200, 10), (21_600, 10)], &[1.0]);
    }

    #[test]
    fn budgets() {
        let left = budget_left(Requests { valid: 1_000_000, bad: 250 }, 0.999).expect("a budget");
        assert!((left - 0.75).abs() < 1e-9);
        assert_eq!(budget_left(Requests::default(), 0.999), None);
        assert_eq!(burn_rate(Requests { valid: 1, bad: 1 }, 1.0), None);
    }
}
