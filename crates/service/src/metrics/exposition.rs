//! Prometheus' text format, for metrics that the exporter can't hold: histograms that were counted elsewhere, and counters
//! that aren't whole numbers (docs/decisions/0011-admin-endpoint.md).

use std::fmt::{Display, Write};

/// Text in the format 0.0.4.
#[derive(Debug, Default)]
pub struct Text(String);

/// Labels of one sample.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

impl Text {
    /// Begins a family; its samples follow.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    /// One sample. Values of labels must not hold quotes, backslashes or newlines.
    pub fn sample(&mut self, name: &str, labels: Labels<'_>, value: impl Display) {
        let labels = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect::<Vec<_>>();
        match &labels[..] {
            [] => self.line(format_args!("{name} {value}")),
            labels => self.line(format_args!("{name}{{{}}} {value}", labels.join(","))),
        }
    }

    /// The samples of one histogram: its buckets, each up to a bound and not cumulated, the last without one; and the
    /// sum of what was observed.
    pub fn histogram(
        &mut self,
        name: &str,
        labels: Labels<'_>,
        buckets: impl IntoIterator<Item = (Option<f64>, u64)>,
        sum: f64,
    ) {
        let (bucket, mut count) = (format!("{name}_bucket"), 0);
        for (bound, observed) in buckets {
            count += observed;
            let bound = bound.map_or_else(|| "+Inf".to_owned(), |bound| bound.to_string());
            self.sample(&bucket, &[labels, &[("le", &bound)]].concat(), count);
        }
        self.sample(&format!("{name}_sum"), labels, sum);
        self.sample(&format!("{name}_count"), labels, count);
    }

    /// Adds families that somebody else has written. All are then in the order of their names, and so are the samples of
    /// these.
    pub fn merged_with(self, other: &str) -> String {
        let ours = self.0.split("# HELP ").filter(|family| !family.is_empty()).map(ToOwned::to_owned);
        let theirs = other.split("# HELP ").filter(|family| !family.trim().is_empty()).map(sorted);
        let mut families: Vec<String> = ours.chain(theirs).collect();
        families.sort_unstable();
        families.iter().map(|family| format!("# HELP {family}")).collect()
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{line}").expect("writing to a String can't fail");
    }
}

/// A family with its samples in order, behind the lines that describe it.
fn sorted(family: &str) -> String {
    let lines = family.lines().filter(|line| !line.is_empty());
    let mut described: Vec<&str> = Vec::new();
    let mut samples: Vec<&str> = Vec::new();
    for (index, line) in lines.enumerate() {
        let is_sample = index > 0 && !line.starts_with('#');
        (if is_sample { &mut samples } else { &mut described }).push(line);
    }
    samples.sort_unstable();
    described.into_iter().chain(samples).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulated_and_families_are_in_order() {
        let mut text = Text::default();
        text.family("m", "histogram", "Middle.");
        text.histogram("m", &[("shard", "0")], [(Some(0.05), 2), (Some(1.0), 0), (None, 3)], 7.5);
        let other = "# HELP z Last.\n# TYPE z counter\nz{b=\"2\"} 2\nz{a=\"1\"} 1\n\n# HELP a First.\n# TYPE a gauge\na 1\n\n";
        let expected = "# HELP a First.\n# TYPE a gauge\na 1\n\
             # HELP m Middle.\n# TYPE m histogram\n\
             m_bucket{shard=\"0\",le=\"0.05\"} 2\nm_bucket{shard=\"0\",le=\"1\"} 2\nm_bucket{shard=\"0\",le=\"+Inf\"} 5\n\
             m_sum{shard=\"0\"} 7.5\nm_count{shard=\"0\"} 5\n\
             # HELP z Last.\n# TYPE z counter\nz{a=\"1\"} 1\nz{b=\"2\"} 2\n";
        assert_eq!(text.merged_with(other), expected);
    }
}
