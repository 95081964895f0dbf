//! Small statistics that several analyses use.

/// Median; of an even number of values the mean of the two in the middle. None of no values.
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// Quantile by linear interpolation (type 7 of Hyndman and Fan). None of no values.
pub fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let place = share.clamp(0.0, 1.0) * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(below + (above - below) * place.fract())
}

/// Arithmetic mean. None of no values.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Median absolute deviation from the median, times 1.4826: the standard deviation where values are normal.
pub fn scaled_mad(values: &[f64]) -> Option<f64> {
    let centre = median(values)?;
    let deviations: Vec<_> = values.iter().map(|value| (value - centre).abs()).collect();
    median(&deviations).map(|mad| 1.4826 * mad)
}

/// Natural logarithm of the gamma function, for x > 0: Lanczos' approximation (g = 7, nine terms), to about 1e-14.
pub fn ln_gamma(x: f64) -> f64 {
    const TERMS: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    let x = x - 1.0;
    let sum: f64 =
        TERMS[0] + TERMS[1..].iter().zip(1..).map(|(term, n)| term / (x + f64::from(n))).sum::<f64>();
    let base = x + 7.5;
    0.5 * (2.0 * std::f64::consts::PI).ln() + (x + 0.5) * base.ln() - base + sum.ln()
}

/// Upper regularised incomplete gamma function Q(a, x), by its series or its continued fraction.
pub fn upper_gamma(a: f64, x: f64) -> f64 {
    const TERMS_MAX: u32 = 10_000;
    if x <= 0.0 {
        return 1.0;
    }
    let front = (a * x.ln() - x - ln_gamma(a)).exp();
    if x < a + 1.0 {
        let (mut term, mut sum) = (1.0 / a, 1.0 / a);
        for n in 1..TERMS_MAX {
            term *= x / (a + f64::from(n));
            sum += term;
            if term.abs() < sum.abs() * f64::EPSILON {
                break;
            }
        }
        return 1.0 - front * sum;
    }
    let mut b = x + 1.0 - a;
    let (mut c, mut d) = (1.0 / f64::MIN_POSITIVE, 1.0 / b);
    let mut fraction = d;
    for n in 1..TERMS_MAX {
        let n = f64::from(n);
        let an = -n * (n - a);
        b += 2.0;
        d = 1.0 / (an * d + b);
        c = b + an / c;
        fraction *= d * c;
        if (d * c - 1.0).abs() < f64::EPSILON {
            break;
        }
    }
    front * fraction
}

/// Probability that a chi-square variable with these degrees of freedom is at least `x`.
pub fn chi_square_tail(x: f64, degrees: f64) -> f64 {
    upper_gamma(degrees / 2.0, x / 2.0)
}

/// Probability that a standard normal variable is at least `x`.
pub fn normal_tail(x: f64) -> f64 {
    let half = 0.5 * upper_gamma(0.5, x * x / 2.0);
    if x >= 0.0 { half } else { 1.0 - half }
}

/// Value that a standard normal variable exceeds with this probability (0 to 1, exclusive), by bisection.
pub fn normal_quantile(tail: f64) -> f64 {
    let (mut low, mut high) = (-40.0, 40.0);
    for _ in 0..200 {
        let middle = f64::midpoint(low, high);
        if normal_tail(middle) > tail { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

/// A number with two digits behind the point, as `round` of SQL gives it.
pub fn hundredths(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(found: f64, expected: f64) {
        assert!((found - expected).abs() <= 1e-12 * expected.abs().max(1.0), "{found}, not {expected}");
    }

    /// Values by scipy 1.17.
    #[test]
    fn functions_agree_with_tables() {
        check(ln_gamma(0.5), 0.572_364_942_924_700_1);
        check(chi_square_tail(3.841_458_820_694_124, 1.0), 0.05);
        check(chi_square_tail(100.0, 90.0), 0.221_040_232_625_444_67);
        check(normal_tail(1.959_963_984_540_054), 0.025);
        check(normal_quantile(0.025), 1.959_963_984_540_054);
        check(normal_tail(-1.0), 0.841_344_746_068_542_9);
    }

    #[test]
    fn quantiles_of_few_values() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0]), Some(2.0));
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], 0.25), Some(1.75));
        assert_eq!(scaled_mad(&[1.0, 1.0, 2.0, 2.0, 4.0, 6.0, 9.0]), Some(1.4826));
        assert_eq!(mean(&[1.0, 2.0]), Some(1.5));
    }
}
