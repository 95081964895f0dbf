//! Metrics: tables of families, and their text for Prometheus.
//!
//! A program lists its metrics once, as [`Family`] entries that say where each value is, registers one [`Series`] of a
//! table for each set of labels, and sets them when it is scraped. Nothing is counted here: counters are plain integers
//! of the program. [`ProcessMetrics`] are those of every process.

mod exposition;
mod process;

pub use exposition::{Labels, Text};
pub use metrics::{Counter, Gauge, Label};
pub use process::{FAMILIES as PROCESS_FAMILIES, Process, ProcessMetrics, Thread};

use metrics::{Key, KeyName, Level, Metadata, Recorder, SharedString};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// A metric whose samples are whole counters or gauges, read from an `S`.
#[derive(Debug)]
pub struct Family<S> {
    /// Its name.
    pub name: &'static str,
    /// Its meaning.
    pub help: &'static str,
    /// Its type and its value.
    pub value: Value<S>,
}

/// A type, and where the value is.
#[derive(Debug)]
pub enum Value<S> {
    /// Only ever rises.
    Counter(fn(&S) -> u64),
    /// Goes up and down.
    Gauge(fn(&S) -> f64),
}

/// A counter.
pub const fn counter<S>(name: &'static str, read: fn(&S) -> u64, help: &'static str) -> Family<S> {
    Family { name, help, value: Value::Counter(read) }
}

/// A gauge.
pub const fn gauge<S>(name: &'static str, read: fn(&S) -> f64, help: &'static str) -> Family<S> {
    Family { name, help, value: Value::Gauge(read) }
}

/// Name, type and meaning of a metric whose values aren't read from a table.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// Its name.
    pub name: &'static str,
    /// Its type: counter, gauge or histogram.
    pub kind: &'static str,
    /// Its meaning.
    pub help: &'static str,
}

/// The registry of a program's series. It isn't the process's global one: a program that embeds another keeps its own.
pub struct Registry {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

impl Default for Registry {
    fn default() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        Self { handle: recorder.handle(), recorder }
    }
}

impl Registry {
    /// One series of each family of a table, with these labels.
    pub fn series<S>(&self, families: &'static [Family<S>], labels: &[Label]) -> Series<S> {
        let sample = |family: &'static Family<S>| match family.value {
            Value::Counter(read) => {
                let about = About { name: family.name, kind: "counter", help: family.help };
                Sample::Counter(self.counter(&about, labels.to_vec()), read)
            }
            Value::Gauge(read) => {
                let about = About { name: family.name, kind: "gauge", help: family.help };
                Sample::Gauge(self.gauge(&about, labels.to_vec()), read)
            }
        };
        Series(families.iter().map(sample).collect())
    }

    /// A counter that the program sets by itself.
    pub fn counter(&self, about: &About, labels: Vec<Label>) -> Counter {
        let (name, help) = (KeyName::from_const_str(about.name), SharedString::const_str(about.help));
        self.recorder.describe_counter(name, None, help);
        self.recorder.register_counter(&Key::from_parts(about.name, labels), &METADATA)
    }

    /// A gauge that the program sets by itself.
    pub fn gauge(&self, about: &About, labels: Vec<Label>) -> Gauge {
        let (name, help) = (KeyName::from_const_str(about.name), SharedString::const_str(about.help));
        self.recorder.describe_gauge(name, None, help);
        self.recorder.register_gauge(&Key::from_parts(about.name, labels), &METADATA)
    }

    /// All series as text, and the families of `more`, in the order of their names.
    pub fn render(&self, more: Text) -> String {
        more.merged_with(&self.handle.render())
    }
}

/// One series of each family of a table.
pub struct Series<S: 'static>(Vec<Sample<S>>);

enum Sample<S> {
    Counter(Counter, fn(&S) -> u64),
    Gauge(Gauge, fn(&S) -> f64),
}

impl<S> Series<S> {
    /// Sets each to its value in `from`.
    pub fn set(&self, from: &S) {
        for sample in &self.0 {
            match sample {
                Sample::Counter(counter, read) => counter.absolute(read(from)),
                Sample::Gauge(gauge, read) => gauge.set(read(from)),
            }
        }
    }
}

impl<S> std::fmt::Debug for Series<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Series").field("families", &self.0.len()).finish()
    }
}

/// The recorder doesn't look at it.
const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_become_text_in_the_order_of_their_names() {
        const FAMILIES: &[Family<u64>] = &[
            counter("b_total", |value| *value, "Second."),
            gauge("a", |value| *value as f64 / 2.0, "First."),
        ];
        let registry = Registry::default();
        registry.series(FAMILIES, &[Label::new("shard", "0")]).set(&3);
        let mut more = Text::default();
        more.family("c", "gauge", "Third.");
        more.sample("c", &[], 1);
        let expected = "# HELP a First.\n# TYPE a gauge\na{shard=\"0\"} 1.5\n\
             # HELP b_total Second.\n# TYPE b_total counter\nb_total{shard=\"0\"} 3\n\
             # HELP c Third.\n# TYPE c gauge\nc 1\n";
        assert_eq!(registry.render(more), expected);
    }
}
