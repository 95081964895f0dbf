//! The verdict on a run: passed or not, and why.

use super::Summary;
use crate::{
    distrust::{Circumstances, distrust},
    options::{ModeOption, Options},
    verify::Faults,
};

impl Summary {
    /// Fills in failures and warnings.
    pub(super) fn validate(&mut self, options: &Options) {
        let mut failures = Vec::new();
        if let Some(rate) = self.ticks_per_second_of_server {
            failures.push(other_rate(rate, self.ticks_per_second_due, options));
        }
        for class in &self.classes {
            let counts = match class.class {
                "steady" => true,
                "churned" => options.strict,
                _ => false,
            };
            if !counts {
                continue;
            }
            let Faults { gaps, duplicates, out_of_order, wrong_label, missing } = class.faults;
            let faults = [
                (gaps, "left out"),
                (duplicates, "duplicate"),
                (out_of_order, "out of order"),
                (wrong_label, "wrongly labelled"),
                (missing, "missing at the end"),
            ];
            // With another rate than the server's, all of them come from that.
            let is_verified = self.ticks_per_second_of_server.is_none();
            for (count, what) in faults.into_iter().filter(|&(count, _)| is_verified && count > 0) {
                failures.push(format!("{count} ticks {what} ({} connections)", class.class));
            }
            for (how, count) in class.closes.iter().filter(|_| !options.reconnect) {
                failures.push(format!("{count} {} connections closed: {how}", class.class));
            }
        }
        let wanted = u64::from(self.connections_wanted);
        let subscribed = self.connections_subscribed;
        if subscribed < wanted {
            failures.push(format!("{} of {wanted} connections were never subscribed", wanted - subscribed));
        }
        if let Some(storm) = self.storm.filter(|storm| storm.lost > 0) {
            failures.push(format!("{} connections were not back after the storm", storm.lost));
        }
        for (what, count) in &self.malformed {
            failures.push(format!("{count} × {what}"));
        }
        if self.ticks_early > 0 {
            self.warnings
                .push(format!("{} ticks came before they were due: clocks differ", self.ticks_early));
        }
        self.warnings.extend(distrust(
            options,
            Circumstances {
                generator_threads: &self.generator_threads,
                generator_turn: self.generator_turn,
                others_percent: self.others_percent,
                steal_percent: self.machine_steal_percent,
            },
        ));
        self.passed = failures.is_empty();
        self.failures = failures;
    }
}

/// The failure of a run that reckoned with another rate than the server's.
fn other_rate(server: f64, given: f64, options: &Options) -> String {
    let (option, each) = match options.mode {
        ModeOption::Second => ("--ticks-per-second", 1.0),
        ModeOption::Minute => ("--ticks-per-minute", 60.0),
    };
    let (server, given) = (server * each, given * each);
    format!(
        "the rates differ: by its sequences the server has {server:.0}, and this run was given {option} {given:.0}. \
         Nothing could be verified; run it with {option} {server:.0}"
    )
}
