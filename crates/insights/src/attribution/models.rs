//! Models that look at all journeys: Markov chains and Shapley values.

use std::collections::BTreeSet;

/// Journeys over the same channels in the same order.
#[derive(Clone, Debug, PartialEq)]
pub struct Journey {
    /// Numbers of the channels, in order of time.
    pub channels: Vec<usize>,
    /// Conversions, or their revenue.
    pub conversions: f64,
    /// Journeys without a conversion; negative numbers count as 0.
    pub lost: f64,
}

/// Conversions by channel after a Markov chain of order 1: in proportion to the share of conversions that would be lost
/// without the channel (its removal effect).
pub fn markov(journeys: &[Journey], channels: usize) -> Vec<f64> {
    let chain = Chain::new(journeys, channels);
    let total: f64 = journeys.iter().map(|journey| journey.conversions).sum();
    let all = chain.conversion_probability(None);
    let effects: Vec<_> = (0..channels)
        .map(|channel| match all > 0.0 {
            true => (1.0 - chain.conversion_probability(Some(channel)) / all).max(0.0),
            false => 0.0,
        })
        .collect();
    let sum: f64 = effects.iter().sum();
    effects.into_iter().map(|effect| if sum > 0.0 { total * effect / sum } else { 0.0 }).collect()
}

/// Conversions by channel after Shapley: the value of a set of channels is the number of conversions whose journeys use
/// no other channel. Then each journey's conversions are shared equally by its different channels (Zhao, Mahboobi and Bagheri,
/// 2018), which needs no sum over all sets.
pub fn shapley(journeys: &[Journey], channels: usize) -> Vec<f64> {
    let mut credits = vec![0.0; channels];
    for journey in journeys {
        let different: BTreeSet<_> = journey.channels.iter().filter(|channel| **channel < channels).collect();
        for channel in &different {
            credits[**channel] += journey.conversions / different.len() as f64;
        }
    }
    credits
}

/// Counts of transitions. States: the channels, then the start; absorbing: conversion, loss.
struct Chain {
    /// From each state to each channel.
    moves: Vec<Vec<f64>>,
    /// From each state to the conversion.
    conversions: Vec<f64>,
    /// From each state to anything.
    totals: Vec<f64>,
}

impl Chain {
    fn new(journeys: &[Journey], channels: usize) -> Self {
        let mut chain = Self {
            moves: vec![vec![0.0; channels]; channels + 1],
            conversions: vec![0.0; channels + 1],
            totals: vec![0.0; channels + 1],
        };
        for journey in journeys {
            let (conversions, lost) = (journey.conversions.max(0.0), journey.lost.max(0.0));
            let mut state = channels;
            for channel in journey.channels.iter().copied().filter(|channel| *channel < channels) {
                chain.moves[state][channel] += conversions + lost;
                chain.totals[state] += conversions + lost;
                state = channel;
            }
            if state < channels {
                chain.conversions[state] += conversions;
                chain.totals[state] += conversions + lost;
            }
        }
        chain
    }

    /// Probability of a conversion from the start, where a removed channel loses all that come to it: the linear
    /// equations of the absorbing chain, by Gauss' elimination with pivots.
    fn conversion_probability(&self, removed: Option<usize>) -> f64 {
        let count = self.totals.len();
        let share =
            |part: f64, state: usize| if self.totals[state] > 0.0 { part / self.totals[state] } else { 0.0 };
        let mut rows: Vec<Vec<f64>> = (0..count)
            .map(|state| {
                let mut row = vec![0.0; count + 1];
                row[state] = 1.0;
                if removed != Some(state) {
                    for (channel, moves) in self.moves[state].iter().enumerate() {
                        row[channel] -= share(*moves, state);
                    }
                    row[count] = share(self.conversions[state], state);
                }
                row
            })
            .collect();
        for column in 0..count {
            let pivot =
                (column..count).max_by(|a, b| rows[*a][column].abs().total_cmp(&rows[*b][column].abs()));
            let Some(pivot) = pivot.filter(|pivot| rows[*pivot][column].abs() > f64::EPSILON) else {
                continue;
            };
            rows.swap(column, pivot);
            let pivot = rows[column].clone();
            for (place, row) in rows.iter_mut().enumerate().filter(|(place, _)| *place != column) {
                let factor = row[column] / pivot[column];
                debug_assert!(factor.is_finite(), "row {place}");
                row.iter_mut().zip(&pivot).for_each(|(value, pivot)| *value -= factor * pivot);
            }
        }
        let last = &rows[count - 1];
        if last[count - 1].abs() > f64::EPSILON { last[count] / last[count - 1] } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journey(channels: &[usize], conversions: f64, lost: f64) -> Journey {
        Journey { channels: channels.to_vec(), conversions, lost }
    }

    #[track_caller]
    fn check(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-9, "{found}, not {expected}");
        }
    }

    /// Start to 0 and 1 with 1/2 each; 0 leads to 1 with 1/2, else to nothing; 1 converts with 2/3.
    #[test]
    fn removal_effects_by_hand() {
        let journeys = [journey(&[0, 1], 1.0, 0.0), journey(&[0], 0.0, 1.0), journey(&[1], 1.0, 1.0)];
        // P = 1/2·1/2·2/3 + 1/2·2/3 = 1/2; without 0: 1/3, effect 1/3; without 1: 0, effect 1.
        check(&markov(&journeys, 2), &[0.5, 1.5]);
        // Repetitions of a channel change nothing.
        let repeated = [journey(&[0, 0, 1, 1], 1.0, 0.0), journey(&[0], 0.0, 1.0), journey(&[1], 1.0, 1.0)];
        check(&markov(&repeated, 2), &[0.5, 1.5]);
    }

    #[test]
    fn nothing_converted() {
        check(&markov(&[journey(&[0], 0.0, 5.0)], 2), &[0.0, 0.0]);
        check(&markov(&[], 1), &[0.0]);
        check(&shapley(&[], 1), &[0.0]);
    }

    /// By the definition: the mean of a channel's contributions over all orders in which channels may join.
    #[test]
    fn shapley_equals_its_definition() {
        let journeys = [
            journey(&[0, 1, 0], 6.0, 0.0),
            journey(&[2], 3.0, 0.0),
            journey(&[0, 1, 2], 9.0, 1.0),
            journey(&[1], 2.0, 4.0),
        ];
        let value = |set: &[usize]| -> f64 {
            let is_inside = |journey: &&Journey| journey.channels.iter().all(|channel| set.contains(channel));
            journeys.iter().filter(is_inside).map(|journey| journey.conversions).sum()
        };
        let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        let mut expected = [0.0; 3];
        for order in orders {
            for n in 0..3 {
                expected[order[n]] += (value(&order[..=n]) - value(&order[..n])) / 6.0;
            }
        }
        check(&shapley(&journeys, 3), &expected);
    }
}
