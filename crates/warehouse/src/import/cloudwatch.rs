//! Metrics of Amazon CloudWatch as events: a TOML file names them, and each point of a statistic is an event.
//!
//! A point's id follows from what it is of and its time, so a file can be imported again and again, each time with what is
//! new. Key, region and endpoint come from the `AWS_` variables of the environment, where the file doesn't say.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::config::http::{HttpRequest, HttpResponse};
use aws_sdk_cloudwatch::config::{Config, Credentials, Region};
use aws_sdk_cloudwatch::error::DisplayErrorContext;
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{Dimension, Metric, MetricDataQuery, MetricDataResult, MetricStat, ScanBy};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use ring::digest;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::events::text;
use crate::rules::duration;

/// Name of these events in the column `journal`.
pub const ORIGIN: &[u8; 16] = b"cloudwatch point";
/// Statistics of one question, as CloudWatch allows.
const QUERIES_MAX: usize = 500;
/// Age from which a point doesn't change any more.
const SETTLED: Duration = Duration::from_secs(300);
/// Days of metrics without `days`.
const DAYS: u32 = 1;
/// Longest time of one request.
const REQUEST_TIME: Duration = Duration::from_secs(60);

/// Metrics that can't be had.
#[derive(Debug, thiserror::Error)]
pub enum CloudWatchError {
    /// The file can't be read.
    #[error("reading {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's error.
        source: std::io::Error,
    },
    /// The file names no metrics.
    #[error("{} doesn't say which metrics", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The problem with it.
        source: Box<toml::de::Error>,
    },
    /// A setting is missing.
    #[error("set {0}, or name it in the file")]
    Missing(&'static str),
    /// The HTTP client can't be made.
    #[error("preparing requests to CloudWatch")]
    Client(#[source] reqwest::Error),
    /// CloudWatch refuses, or can't be reached.
    #[error("{action}: {reason}")]
    Refused {
        /// Question that was asked.
        action: &'static str,
        /// Its answer.
        reason: String,
    },
}

/// Content of a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    region: Option<String>,
    endpoint: Option<String>,
    /// Days before now.
    days: Option<u32>,
    metrics: Vec<WantedMetric>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedMetric {
    namespace: String,
    /// Name of the metric; all of the namespace without it.
    name: Option<String>,
    /// `Average`, `Sum`, `Minimum`, `Maximum`, `SampleCount`, `p99` and so on.
    statistics: Vec<String>,
    #[serde(deserialize_with = "duration")]
    period: Duration,
}

/// Points of all metrics of a file.
#[derive(Debug)]
pub struct Source {
    client: Client,
    region: String,
    from_s: i64,
    to_s: i64,
    wanted: VecDeque<WantedMetric>,
    /// Statistics of the metrics that were listed.
    listed: VecDeque<Statistic>,
    /// Statistics of the question that is being answered, and the place of its next page.
    asked: Option<(Vec<Statistic>, Option<String>)>,
}

/// A statistic of a metric.
#[derive(Clone, Debug)]
struct Statistic {
    metric: Metric,
    name: String,
    period_s: i64,
}

impl Source {
    /// The metrics that the file names, up to `now_ns`.
    ///
    /// # Errors
    /// If the file can't be used, or a setting is missing.
    pub fn open(path: &Path, now_ns: u64) -> Result<Self, CloudWatchError> {
        let content = std::fs::read_to_string(path)
            .map_err(|source| CloudWatchError::Read { path: path.to_owned(), source })?;
        let wanted: Wanted = toml::from_str(&content)
            .map_err(|source| CloudWatchError::Syntax { path: path.to_owned(), source: Box::new(source) })?;
        let variable = |name: &'static str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let needed = |name| variable(name).ok_or(CloudWatchError::Missing(name));
        let region =
            wanted.region.or_else(|| variable("AWS_REGION")).or_else(|| variable("AWS_DEFAULT_REGION"));
        let region = region.ok_or(CloudWatchError::Missing("AWS_REGION"))?;
        let credentials = Credentials::new(
            needed("AWS_ACCESS_KEY_ID")?,
            needed("AWS_SECRET_ACCESS_KEY")?,
            variable("AWS_SESSION_TOKEN"),
            None,
            "environment",
        );
        let http =
            reqwest::Client::builder().timeout(REQUEST_TIME).build().map_err(CloudWatchError::Client)?;
        let connector = SharedHttpConnector::new(Connector(http));
        let mut config = Config::builder()
            .behavior_version_latest()
            .region(Region::new(region.clone()))
            .credentials_provider(credentials)
            .http_client(http_client_fn(move |_, _| connector.clone()));
        if let Some(endpoint) = wanted.endpoint.or_else(|| variable("AWS_ENDPOINT_URL")) {
            config = config.endpoint_url(endpoint);
        }
        let to_s = (now_ns / 1_000_000_000) as i64 - SETTLED.as_secs() as i64;
        Ok(Self {
            client: Client::from_conf(config.build()),
            region,
            from_s: to_s - i64::from(wanted.days.unwrap_or(DAYS)) * 86_400,
            to_s,
            wanted: wanted.metrics.into(),
            listed: VecDeque::new(),
            asked: None,
        })
    }

    /// Events of the next page of points; `None` after the last.
    ///
    /// # Errors
    /// If CloudWatch refuses, or can't be reached.
    pub async fn next_page(&mut self) -> Result<Option<Vec<Value>>, CloudWatchError> {
        while self.listed.is_empty() && self.asked.is_none() {
            let Some(wanted) = self.wanted.pop_front() else { return Ok(None) };
            self.list(&wanted).await?;
        }
        let (asked, place) = self
            .asked
            .take()
            .unwrap_or_else(|| (self.listed.drain(..self.listed.len().min(QUERIES_MAX)).collect(), None));
        let queries = asked.iter().enumerate().map(|(index, statistic)| statistic.query(index)).collect();
        // CloudWatch takes whole periods.
        let answer = self
            .client
            .get_metric_data()
            .start_time(DateTime::from_secs(self.from_s))
            .end_time(DateTime::from_secs(self.to_s))
            .scan_by(ScanBy::TimestampAscending)
            .set_metric_data_queries(Some(queries))
            .set_next_token(place)
            .send()
            .await
            .map_err(|error| refused("asking CloudWatch for points", &error))?;
        let points =
            answer.metric_data_results().iter().flat_map(|result| self.points(&asked, result)).collect();
        if let Some(place) = answer.next_token() {
            self.asked = Some((asked, Some(place.to_owned())));
        }
        Ok(Some(points))
    }

    /// Lists the metrics of a namespace, with their dimensions.
    async fn list(&mut self, wanted: &WantedMetric) -> Result<(), CloudWatchError> {
        let mut place = None;
        loop {
            let answer = self
                .client
                .list_metrics()
                .namespace(&wanted.namespace)
                .set_metric_name(wanted.name.clone())
                .set_next_token(place)
                .send()
                .await
                .map_err(|error| refused("asking CloudWatch for its metrics", &error))?;
            for metric in answer.metrics() {
                self.listed.extend(wanted.statistics.iter().map(|name| Statistic {
                    metric: metric.clone(),
                    name: name.clone(),
                    period_s: wanted.period.as_secs().max(1) as i64,
                }));
            }
            match answer.next_token() {
                Some(next) => place = Some(next.to_owned()),
                None => return Ok(()),
            }
        }
    }

    /// Events of an answer to one of the statistics that were asked. Periods that aren't over are left for later.
    fn points(&self, asked: &[Statistic], result: &MetricDataResult) -> Vec<Value> {
        let index = result.id().and_then(|id| id.strip_prefix('q')?.parse::<usize>().ok());
        let Some(statistic) = index.and_then(|index| asked.get(index)) else { return Vec::new() };
        let points = result.timestamps().iter().zip(result.values());
        points
            .filter(|(time, _)| time.secs() + statistic.period_s <= self.to_s)
            .map(|(time, value)| statistic.event(&self.region, time.secs(), *value))
            .collect()
    }
}

impl Statistic {
    fn query(&self, index: usize) -> MetricDataQuery {
        let statistic = MetricStat::builder()
            .metric(self.metric.clone())
            .period(i32::try_from(self.period_s).unwrap_or(i32::MAX))
            .stat(&self.name)
            .build();
        MetricDataQuery::builder().id(format!("q{index}")).metric_stat(statistic).build()
    }

    /// The event of a point.
    fn event(&self, region: &str, at_s: i64, value: f64) -> Value {
        let (namespace, name) =
            (self.metric.namespace().unwrap_or_default(), self.metric.metric_name().unwrap_or_default());
        let mut labels: Map<String, Value> = self
            .metric
            .dimensions()
            .iter()
            .map(|dimension| (text_of(dimension.name()), text_of(dimension.value()).into()))
            .collect();
        let own = [
            ("statistic", self.name.clone()),
            ("period", self.period_s.to_string()),
            ("region", region.to_owned()),
        ];
        labels.extend(own.map(|(name, value)| (format!("cloudwatch.{name}"), value.into())));
        let time = chrono::DateTime::from_timestamp(at_s, 0).unwrap_or_default();
        json!({
            "event_id": self.id(region, at_s),
            "timestamp": time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            "platform": "cloudwatch",
            "event_type": "application_metric",
            "event_name": name,
            "application_metric": {
                "service": namespace, "metric_type": "gauge", "name": name, "value": value, "labels": labels,
            },
        })
    }

    /// Id of a point: of what it is, and its time.
    fn id(&self, region: &str, at_s: i64) -> String {
        let mut dimensions: Vec<&Dimension> = self.metric.dimensions().iter().collect();
        dimensions.sort_by_key(|dimension| dimension.name().unwrap_or_default().to_owned());
        let mut hash = digest::Context::new(&digest::SHA256);
        let mut part = |text: &str| {
            hash.update(&(text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        };
        part("tickstream cloudwatch");
        part(region);
        part(self.metric.namespace().unwrap_or_default());
        part(self.metric.metric_name().unwrap_or_default());
        for dimension in dimensions {
            part(dimension.name().unwrap_or_default());
            part(dimension.value().unwrap_or_default());
        }
        part(&self.name);
        part(&self.period_s.to_string());
        part(&at_s.to_string());
        let mut id: [u8; 16] = hash.finish().as_ref()[..16].try_into().expect("SHA-256 has 32 bytes");
        // RFC 9562, section 5.8.
        id[6] = id[6] & 0x0F | 0x80;
        id[8] = id[8] & 0x3F | 0x80;
        String::from_utf8_lossy(&text::uuid_text(&id)).into_owned()
    }
}

fn text_of(text: Option<&str>) -> String {
    text.unwrap_or_default().to_owned()
}

fn refused(action: &'static str, error: &impl std::error::Error) -> CloudWatchError {
    CloudWatchError::Refused { action, reason: DisplayErrorContext(error).to_string() }
}

/// Requests of the SDK over the warehouse's own HTTP client, so that no second one is linked.
#[derive(Debug)]
struct Connector(reqwest::Client);

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.0.clone();
        HttpConnectorFuture::new(async move { send(&client, request).await })
    }
}

async fn send(client: &reqwest::Client, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
    let user = |error: &'static str| ConnectorError::user(error.into());
    let method = reqwest::Method::from_bytes(request.method().as_bytes()).map_err(|_| user("no method"))?;
    let body = request.body().bytes().ok_or_else(|| user("a body without an end"))?.to_vec();
    let mut sent = client.request(method, request.uri()).body(body);
    for (name, value) in request.headers() {
        sent = sent.header(name, value);
    }
    let failed = |error: reqwest::Error| match error.is_timeout() {
        true => ConnectorError::timeout(error.into()),
        false => ConnectorError::io(error.into()),
    };
    let answer = sent.send().await.map_err(failed)?;
    let status = StatusCode::try_from(answer.status().as_u16())
        .map_err(|error| ConnectorError::other(error.into(), None))?;
    let headers: Vec<(String, String)> = answer
        .headers()
        .iter()
        .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
        .collect();
    let mut response = HttpResponse::new(status, SdkBody::from(answer.bytes().await.map_err(failed)?));
    for (name, value) in headers {
        response.headers_mut().append(name, value);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tickstream_schema::json::parse_event;

    fn statistic(dimensions: &[(&str, &str)]) -> Statistic {
        let dimensions =
            dimensions.iter().map(|(name, value)| Dimension::builder().name(*name).value(*value).build());
        let metric = Metric::builder()
            .namespace("AWS/EC2")
            .metric_name("CPUUtilization")
            .set_dimensions(Some(dimensions.collect()))
            .build();
        Statistic { metric, name: "Average".into(), period_s: 300 }
    }

    #[test]
    fn a_point_is_an_event_with_an_id_of_its_own() {
        let event =
            statistic(&[("InstanceId", "i-1"), ("Zone", "a")]).event("eu-central-1", 1_795_857_000, 12.5);
        let parsed = parse_event(&event.to_string()).unwrap();
        assert_eq!(parsed.event_name, "CPUUtilization");
        assert_eq!(event["application_metric"]["labels"]["InstanceId"], "i-1");
        assert_eq!(event["timestamp"], "2026-11-28T09:10:00Z");
        let other = |statistic: Statistic, at: i64| statistic.id("eu-central-1", at);
        let id = event["event_id"].as_str().unwrap();
        // The order of dimensions has no meaning.
        assert_eq!(other(statistic(&[("Zone", "a"), ("InstanceId", "i-1")]), 1_795_857_000), id);
        assert_ne!(other(statistic(&[("InstanceId", "i-1"), ("Zone", "a")]), 1_795_857_300), id);
        assert_ne!(other(statistic(&[("InstanceId", "i-2"), ("Zone", "a")]), 1_795_857_000), id);
    }

    #[test]
    fn a_file_that_isnt_right_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics.toml");
        std::fs::write(&path, "[[metrics]]\nnamespace = \"AWS/EC2\"\nstatistics = [\"Average\"]\n").unwrap();
        let error = Source::open(&path, 0).unwrap_err();
        assert!(error.to_string().contains("metrics.toml"), "{error}");
    }
}
