//! The verdict on a run: passed or not, and why.

use super::Summary;
use crate::{
    distrust::{Circumstances, distrust},
    options::Options,
    verify::Faults,
};

impl Summary {
    /// Fills in failures and warnings.
    pub(super) fn validate(&mut self, options: &Options) {
        let mut failures = Vec::new();
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
            for (count, what) in faults.into_iter().filter(|&(count, _)| count > 0) {
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
        let faults = self.classes.first().map_or(0, |class| class.faults.wrong_label);
        if faults > self.ticks / 2 && faults > 0 {
            self.warnings
                .push("most labels are wrong: is the server's tick rate the one that was given?".into());
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
