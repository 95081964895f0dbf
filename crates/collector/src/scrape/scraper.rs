//! The scrapes of one target, without I/O: an answer in, events out; series that are gone end.

use std::{collections::BTreeSet, time::Duration};

use super::{
    config::Job,
    relabel::{self, LabelMap},
    targets::Target,
};
use crate::{
    sources::prometheus::{
        exposition::{self, Exemplar, Exposition, Family, Format},
        series::{Scraped, stale, take_scraped},
    },
    writer::EventWriter,
};

/// Most labels of a series, and bytes of a name or value.
const LABELS_MAX: usize = 128;
const LABEL_BYTES_MAX: usize = 16 * 1024;

/// State of a target between its scrapes.
#[derive(Debug, Default)]
pub struct Scraper {
    /// Series of the last scrape without timestamps of their own.
    alive: BTreeSet<LabelMap>,
}

/// A series and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    labels: LabelMap,
    value: f64,
    timestamp: i64,
    exemplar: Option<Exemplar>,
    family: Option<Family>,
}

impl Point {
    /// Writes its event.
    pub fn write(&self, writer: &mut EventWriter<'_>) {
        let Self { labels, value, timestamp, exemplar, family } = self;
        let (value, timestamp) = (*value, *timestamp);
        let scraped =
            Scraped { labels, value, timestamp, exemplar: exemplar.as_ref(), family: family.as_ref() };
        take_scraped(&scraped, writer);
    }
}

/// A scrape, as far as it came.
pub struct Scrape<'a> {
    /// Its beginning, Unix time, milliseconds.
    pub at_ms: i64,
    /// Its time.
    pub took: Duration,
    /// Content-Type and body, or why there is none.
    pub answer: Result<(&'a str, &'a [u8]), String>,
}

impl Scraper {
    /// The points of a scrape, those of series that ended since the last one, and `up` and its like. And what is wrong,
    /// if nothing could be taken.
    pub fn take(&mut self, job: &Job, target: &Target, scrape: Scrape<'_>) -> (Vec<Point>, Option<String>) {
        let Scrape { at_ms, took, answer } = scrape;
        let read = answer.and_then(|(content_type, body)| read(job, target, at_ms, content_type, body));
        let (mut points, scraped, problem) = match read {
            Ok((points, scraped)) => (points, scraped, None),
            Err(problem) => (Vec::new(), 0, Some(problem)),
        };
        let alive: BTreeSet<_> = points
            .iter()
            .filter(|(_, has_own_time)| !has_own_time)
            .map(|(point, _)| point.labels.clone())
            .collect();
        let added = alive.iter().filter(|labels| !self.alive.contains(*labels)).count();
        let ended = self.alive.iter().filter(|labels| !alive.contains(*labels));
        let ended: Vec<_> = ended.map(|labels| plain(labels.clone(), stale(), at_ms)).collect();
        let kept = points.len();
        let mut all: Vec<Point> = points.drain(..).map(|(point, _)| point).chain(ended).collect();
        self.alive = alive;
        let own = [
            ("up", f64::from(u8::from(problem.is_none()))),
            ("scrape_duration_seconds", took.as_secs_f64()),
            ("scrape_samples_scraped", scraped as f64),
            ("scrape_samples_post_metric_relabeling", kept as f64),
            ("scrape_series_added", added as f64),
        ];
        all.extend(own.map(|(name, value)| plain(named(target, name), value, at_ms)));
        (all, problem)
    }

    /// The ends of all series: the target is gone.
    pub fn end(&mut self, target: &Target, at_ms: i64) -> Vec<Point> {
        let alive = std::mem::take(&mut self.alive).into_iter();
        alive.chain([named(target, "up")]).map(|labels| plain(labels, stale(), at_ms)).collect()
    }
}

fn plain(labels: LabelMap, value: f64, timestamp: i64) -> Point {
    Point { labels, value, timestamp, exemplar: None, family: None }
}

fn named(target: &Target, name: &str) -> LabelMap {
    let mut labels = target.labels.clone();
    labels.insert("__name__".to_owned(), name.to_owned());
    labels
}

/// Points, and whether they have a time of their own; and the number of samples before the rules.
type Read = (Vec<(Point, bool)>, usize);

fn read(job: &Job, target: &Target, at_ms: i64, content_type: &str, body: &[u8]) -> Result<Read, String> {
    let text = std::str::from_utf8(body).map_err(|_| "the answer isn't UTF-8".to_owned())?;
    let exposition = exposition::parse(text, Format::of(content_type)).map_err(|error| error.to_string())?;
    let mut points = Vec::new();
    for sample in &exposition.samples {
        let mut labels = with_target(job, target, sample);
        let family = family(&exposition, &labels);
        if !relabel::apply(&job.series_rules, &mut labels) || !labels.contains_key("__name__") {
            continue;
        }
        let is_long = |(name, value): (&String, &String)| name.len().max(value.len()) > LABEL_BYTES_MAX;
        if labels.len() > LABELS_MAX || labels.iter().any(is_long) {
            return Err(format!(
                "a series has more than {LABELS_MAX} labels, or one of more than {LABEL_BYTES_MAX} bytes"
            ));
        }
        let own_time = sample.timestamp.filter(|_| job.honor_timestamps);
        let point = Point {
            labels,
            value: sample.value,
            timestamp: own_time.unwrap_or(at_ms),
            exemplar: sample.exemplar.clone(),
            family,
        };
        points.push((point, own_time.is_some()));
        if points.len() > job.samples_max {
            return Err(format!("it has more than {} samples: sample_limit", job.samples_max));
        }
    }
    Ok((points, exposition.samples.len()))
}

fn family(exposition: &Exposition, labels: &LabelMap) -> Option<Family> {
    exposition.family(labels.get("__name__")?).cloned()
}

/// The sample's labels and the target's. Where both have one, that of the exporter gets another name, unless it is to
/// be believed.
fn with_target(job: &Job, target: &Target, sample: &exposition::Sample) -> LabelMap {
    let mut labels: LabelMap = sample.labels.iter().filter(|(_, value)| !value.is_empty()).cloned().collect();
    for (name, value) in &target.labels {
        if job.honor_labels && labels.contains_key(name) {
            continue;
        }
        if let Some(own) = labels.insert(name.clone(), value.clone()) {
            let mut other = format!("exported_{name}");
            while labels.contains_key(&other) {
                other.insert_str(0, "exported_");
            }
            labels.insert(other, own);
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scrape::config::JobConfig;

    fn job(toml: &str) -> Job {
        let text = format!("job_name = \"j\"\n{toml}\n[[static_configs]]\ntargets = [\"unused\"]");
        toml::from_str::<JobConfig>(&text).unwrap().job().unwrap()
    }

    fn target() -> Target {
        let labels = [("job", "j"), ("instance", "a:1")];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Target { url: "http://a:1/metrics".into(), labels: labels.into(), is_static: true }
    }

    fn scrape(text: &str, at_ms: i64) -> Scrape<'_> {
        Scrape { at_ms, took: Duration::from_millis(5), answer: Ok(("text/plain", text.as_bytes())) }
    }

    fn shown(points: &[Point]) -> Vec<(String, String)> {
        let value = |point: &Point| {
            if point.value.to_bits() == stale().to_bits() {
                "stale".to_owned()
            } else {
                point.value.to_string()
            }
        };
        points.iter().map(|point| (point.labels["__name__"].clone(), value(point))).collect()
    }

    #[test]
    fn series_that_are_gone_end_and_a_failed_scrape_ends_all() {
        let (job, target, mut scraper) = (job(""), target(), Scraper::default());
        let (points, problem) = scraper.take(&job, &target, scrape("a 1\nb 2\nc 3 500\n", 1000));
        let values = |points: &[Point]| shown(points)[..points.len() - 5].to_vec();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!((values(&points), problem), (vec![pair("a", "1"), pair("b", "2"), pair("c", "3")], None));
        assert_eq!(points[2].timestamp, 500);
        assert_eq!(shown(&points)[3], pair("up", "1"));
        let (points, _) = scraper.take(&job, &target, scrape("a 1\n", 2000));
        assert_eq!(values(&points), [pair("a", "1"), pair("b", "stale")], "c has a time of its own");
        let failed = Scrape { answer: Err("refused".into()), ..scrape("", 3000) };
        let (points, problem) = scraper.take(&job, &target, failed);
        assert_eq!((values(&points), problem.as_deref()), (vec![pair("a", "stale")], Some("refused")));
        assert_eq!(shown(&points)[1], pair("up", "0"));
        let (points, problem) = scraper.take(&job, &target, scrape("a x\n", 4000));
        assert_eq!((points.len(), problem.as_deref()), (5, Some("line 1: a value is no number")));
        assert_eq!(shown(&scraper.end(&target, 5000)), [pair("up", "stale")]);
    }

    #[test]
    fn labels_of_both_sides_are_told_apart() {
        let text = "a{job=\"own\",empty=\"\"} 1\n";
        let (points, _) = Scraper::default().take(&job(""), &target(), scrape(text, 1));
        let labels = &points[0].labels;
        assert_eq!((&labels["job"][..], &labels["exported_job"][..]), ("j", "own"));
        assert!(!labels.contains_key("empty"));
        let (points, _) = Scraper::default().take(&job("honor_labels = true"), &target(), scrape(text, 1));
        assert_eq!((&points[0].labels["job"][..], points[0].labels.len()), ("own", 3));
    }

    #[test]
    fn fault_94_samples_beyond_the_limit_fail_the_scrape_by_name() {
        let text: String = (0..20).map(|index| format!("a{{i=\"{index}\"}} 1\n")).collect();
        let (points, problem) =
            Scraper::default().take(&job("sample_limit = 10"), &target(), scrape(&text, 1));
        assert_eq!(points.len(), 5);
        assert!(problem.unwrap().contains("sample_limit"));
        let rules = "sample_limit = 10\n[[metric_relabel_configs]]\nsource_labels = [\"i\"]\nregex = \"1.\"\naction = \"drop\"";
        let (points, problem) = Scraper::default().take(&job(rules), &target(), scrape(&text, 1));
        assert_eq!((points.len(), problem), (15, None));
    }
}
