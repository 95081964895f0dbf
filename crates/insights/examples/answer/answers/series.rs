//! Analyses of numbers.

use serde_json::{Value, json};
use tickstream_insights::anomaly::change::change_points;
use tickstream_insights::attribution::{Journey, Rule, Touch, credits, markov, shapley};
use tickstream_insights::experiment::sample_ratio;
use tickstream_insights::forecast::{Smoothing, forecast as find_forecast, forecast_with};
use tickstream_insights::statistics::{chi_square_tail, ln_gamma, normal_quantile, normal_tail};

use super::{integer, integers, list, numbers};

/// Journeys are lists of channels, conversions and losses. Rules see the channels one time unit apart.
pub fn attribution(case: &Value) -> Value {
    let journey = |journey: &Value| Journey {
        channels: integers(&journey[0]).into_iter().map(|channel| channel as usize).collect(),
        conversions: journey[1].as_f64().unwrap_or(0.0),
        lost: journey[2].as_f64().unwrap_or(0.0),
    };
    let journeys: Vec<_> = list(&case["journeys"]).map(journey).collect();
    let channels = integer(&case["channels"]) as usize;
    let by_rule = |rule| {
        let mut total = vec![0.0; channels];
        for journey in &journeys {
            let touches: Vec<_> = journey
                .channels
                .iter()
                .zip(0..)
                .map(|(channel, time)| Touch { channel: *channel, time })
                .collect();
            let shares = credits(&touches, i64::MAX / 2, i64::MAX, rule, channels);
            for (total, share) in total.iter_mut().zip(shares.into_iter().flatten()) {
                *total += share * journey.conversions;
            }
        }
        total
    };
    json!({
        "first": by_rule(Rule::First),
        "last": by_rule(Rule::Last),
        "linear": by_rule(Rule::Linear),
        "markov": markov(&journeys, channels),
        "shapley": shapley(&journeys, channels),
    })
}

pub fn changes(case: &Value) -> Value {
    json!(change_points(&numbers(&case["values"]), case["penalty"].as_f64().unwrap_or(0.0)))
}

/// With constants: their forecast and squared errors; without: the forecast by constants of its own.
pub fn forecast(case: &Value) -> Value {
    let values = numbers(&case["values"]);
    let (season, steps) = (integer(&case["season"]) as usize, integer(&case["steps"]) as usize);
    let coverage = case["coverage"].as_f64().unwrap_or(0.95);
    let found = match numbers(&case["smoothing"])[..] {
        [level, trend, season_share] => {
            forecast_with(&values, season, steps, coverage, Smoothing { level, trend, season: season_share })
        }
        _ => find_forecast(&values, season, steps, coverage).map(|steps| (steps, 0.0)),
    };
    let (steps, errors) = found.unwrap_or_default();
    let steps: Vec<_> = steps.iter().map(|step| [step.value, step.interval.0, step.interval.1]).collect();
    json!({ "steps": steps, "errors": errors })
}

pub fn ratio(case: &Value) -> Value {
    let counts: Vec<_> = integers(&case["counts"]).into_iter().map(i64::unsigned_abs).collect();
    json!(sample_ratio(&counts, &numbers(&case["shares"])))
}

/// Tails and quantiles at `x`, with `degrees` of freedom.
pub fn tails(case: &Value) -> Value {
    let number = |key: &str| case[key].as_f64().unwrap_or(0.0);
    let (x, degrees) = (number("x"), number("degrees"));
    json!([chi_square_tail(x, degrees), normal_tail(x), ln_gamma(degrees), normal_quantile(number("tail"))])
}
