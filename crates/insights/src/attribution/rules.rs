//! Rules that look at one conversion.

/// Contact with a channel before a conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch {
    /// Number of the channel.
    pub channel: usize,
    /// Of the contact.
    pub time: i64,
}

/// A rule for sharing out a conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// All to the first touch.
    First,
    /// All to the last touch.
    Last,
    /// The same to each touch.
    Linear,
    /// 40 % each to the first and the last, 20 % to those between; half and half where there are two.
    Position,
    /// Half as much for each quarter of the window before the conversion.
    Decay,
}

/// Credit of each channel for one conversion. Touches are sorted by time; those after the conversion, or more than the window
/// before it, don't count. None where no touch counts: the conversion is "direct".
pub fn credits(
    touches: &[Touch],
    conversion: i64,
    window: i64,
    rule: Rule,
    channels: usize,
) -> Option<Vec<f64>> {
    let begin = touches.partition_point(|touch| conversion.saturating_sub(touch.time) > window);
    let end = touches.partition_point(|touch| touch.time <= conversion);
    let touches = touches.get(begin..end).filter(|touches| !touches.is_empty())?;
    let last = touches.len() - 1;
    let half_life = (window as f64 / 4.0).max(f64::MIN_POSITIVE);
    let weight = |(place, touch): (usize, &Touch)| match rule {
        Rule::First => f64::from(place == 0),
        Rule::Last => f64::from(place == last),
        Rule::Linear => 1.0,
        Rule::Position if last < 2 => 1.0,
        Rule::Position if place == 0 || place == last => 0.4,
        Rule::Position => 0.2 / (last - 1) as f64,
        Rule::Decay => (-((conversion - touch.time) as f64) / half_life).exp2(),
    };
    let weights: Vec<_> = touches.iter().enumerate().map(weight).collect();
    let total: f64 = weights.iter().sum();
    let mut credits = vec![0.0; channels];
    for (touch, weight) in touches.iter().zip(weights) {
        *credits.get_mut(touch.channel)? += weight / total;
    }
    Some(credits)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Channels 0 to 2; the window is 8, the conversion at 10.
    #[track_caller]
    fn check(touches: &[(usize, i64)], rule: Rule, expected: Option<[f64; 3]>) {
        let touches: Vec<_> =
            touches.iter().map(|(channel, time)| Touch { channel: *channel, time: *time }).collect();
        let found = credits(&touches, 10, 8, rule, 3);
        assert_eq!(found.is_some(), expected.is_some(), "{rule:?}");
        for (found, expected) in found.into_iter().flatten().zip(expected.into_iter().flatten()) {
            assert!((found - expected).abs() < 1e-12, "{rule:?}: {found}, not {expected}");
        }
    }

    #[test]
    fn each_rule_shares_out_one() {
        let touches = [(0, 2), (1, 4), (2, 6), (1, 10)];
        check(&touches, Rule::First, Some([1.0, 0.0, 0.0]));
        check(&touches, Rule::Last, Some([0.0, 1.0, 0.0]));
        check(&touches, Rule::Linear, Some([0.25, 0.5, 0.25]));
        check(&touches, Rule::Position, Some([0.4, 0.5, 0.1]));
        check(&touches[..2], Rule::Position, Some([0.5, 0.5, 0.0]));
        // Weights 1/16, 1/8, 1/4 and 1.
        check(&touches, Rule::Decay, Some([1.0 / 23.0, 18.0 / 23.0, 4.0 / 23.0]));
    }

    #[test]
    fn touches_outside_of_the_window_do_not_count() {
        check(&[(0, 1), (1, 11)], Rule::Linear, None);
        check(&[], Rule::First, None);
        check(&[(0, 1), (2, 2), (1, 11)], Rule::First, Some([0.0, 0.0, 1.0]));
    }
}
