//! The host and its control groups: `[source.host]`.
//!
//! `proc` and `cgroups` read texts of the kernel, without I/O; names are OpenTelemetry's where it has some.

mod cgroups;
mod proc;
mod read;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use serde::Deserialize;
use tickstream_client::events::{Body, Event, EventType, MetricPoint, MetricSeries, SeriesType, Temporality};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{self, Instant, MissedTickBehavior},
};

use crate::{
    clock::now_ns,
    delivery::Delivery,
    drain,
    durations::duration,
    intake::{Intake, SharedIntake},
    keys::Key,
    writer::{Ids, Origin},
};

/// Name of the source, and of the key under which its events are stored.
pub const NAME: &str = "host";

/// The table, as the configuration has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostConfig {
    interval: Option<String>,
    root: Option<PathBuf>,
    cgroup_depth: Option<usize>,
    cgroups_max: Option<usize>,
}

/// Metrics of the host that are read again and again.
#[derive(Clone, Debug)]
pub struct HostMetrics {
    /// Time between readings.
    pub interval: Duration,
    /// Directory under which `proc` and `sys` are: another one in a container that sees the host's there.
    pub root: PathBuf,
    /// Levels of control groups below the root; 0: none are read.
    pub cgroup_depth: usize,
    /// Most control groups.
    pub cgroups_max: usize,
}

impl HostConfig {
    /// The metrics.
    ///
    /// # Errors
    /// The fault, for people.
    pub fn metrics(&self) -> Result<HostMetrics, String> {
        let interval = duration("interval", self.interval.as_deref(), Duration::from_secs(15));
        Ok(HostMetrics {
            interval: interval.map_err(|problem| format!("[source.host] {problem}"))?,
            root: self.root.clone().unwrap_or_else(|| PathBuf::from("/")),
            cgroup_depth: self.cgroup_depth.unwrap_or(4),
            cgroups_max: self.cgroups_max.unwrap_or(1000),
        })
    }
}

/// One number that was read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Measurement {
    pub name: &'static str,
    pub unit: &'static str,
    /// True if it counts since the start of its owner: the machine, a process, a container.
    pub is_counter: bool,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Measurement {
    fn new(name: &'static str, unit: &'static str, value: f64, labels: &[(&str, &str)]) -> Self {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Self { name, unit, is_counter: false, labels, value }
    }

    fn counter(name: &'static str, unit: &'static str, value: f64, labels: &[(&str, &str)]) -> Self {
        Self { is_counter: true, ..Self::new(name, unit, value, labels) }
    }

    fn event(self, time: u64, host: &str) -> Event {
        let Self { name, unit, is_counter, mut labels, value } = self;
        labels.insert("host.name".to_owned(), host.to_owned());
        let (series_type, temporality) = match is_counter {
            true => (SeriesType::Sum, Temporality::Cumulative),
            false => (SeriesType::Gauge, Temporality::Unspecified),
        };
        let series = MetricSeries {
            name: name.to_owned(),
            unit: unit.to_owned(),
            r#type: series_type.into(),
            temporality: temporality.into(),
            is_monotonic: is_counter,
            service: NAME.to_owned(),
            labels,
            points: vec![MetricPoint { time, value: Some(value), ..MetricPoint::default() }],
            ..MetricSeries::default()
        };
        Event {
            timestamp: time,
            platform: "linux".to_owned(),
            event_type: EventType::MetricSeries.into(),
            event_name: name.to_owned(),
            body: Some(Body::MetricSeries(series)),
            ..Event::default()
        }
    }
}

/// The task that reads.
#[derive(Debug)]
pub struct HostTask {
    drain: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl HostTask {
    /// Starts it.
    pub fn start(metrics: HostMetrics, intake: SharedIntake) -> Self {
        let (drain, drained) = watch::channel(false);
        Self { drain, task: tokio::spawn(run(metrics, intake, drained)) }
    }

    /// Reads no more; what was read is stored, for `patience` at the most.
    pub async fn drain(self, patience: Duration) {
        self.drain.send_replace(true);
        _ = time::timeout(patience, self.task).await;
    }
}

async fn run(metrics: HostMetrics, intake: SharedIntake, mut drained: watch::Receiver<bool>) {
    let key = Arc::new(Key::unrestricted(NAME));
    let mut ticks = time::interval(metrics.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = drain::begins(&mut drained) => return,
        }
        let until = Instant::now() + metrics.interval;
        let now = now_ns();
        let (host, measurements) = read::all(&metrics);
        let origin = Origin {
            key: key.clone(),
            source: NAME,
            address: None,
            user_agent: String::new(),
            headers: Vec::new(),
            receive_time: now,
            send_time: 0,
        };
        let mut writer = intake.writer(&origin, Ids::New, measurements.len() as u32);
        measurements.into_iter().for_each(|measurement| writer.event(measurement.event(now, &host)));
        let request = writer.finish().unwrap_or_default();
        let intake: &Intake = &intake;
        let delivery = Delivery { intake, origin: &origin, until: Some(until), drain: None };
        if delivery.deliver(&request).await.is_err() {
            intake.metrics.drop_events(request.events() as u64);
        }
    }
}
