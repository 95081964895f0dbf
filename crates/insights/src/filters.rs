//! Filters of a page: period and breakdowns from an address, and the SQL that they become.

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, NaiveDate, SecondsFormat};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Nanoseconds of a second.
pub const SECOND: i64 = 1_000_000_000;
/// Nanoseconds of a day.
pub const DAY: i64 = 86_400 * SECOND;
/// Longest value of a parameter, bytes.
const VALUE_BYTES_MAX: usize = 16_384;
/// Longest period, days.
const DAYS_MAX: f64 = 3_660.0;

/// Parameters of an address, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Parameters of a query string. Those that are too long or no UTF-8 are left out.
    pub fn parse(query: &str) -> Self {
        let decode = |text: &str| -> Option<String> {
            let spaced = text.replace('+', " ");
            let decoded = percent_decode_str(&spaced).decode_utf8().ok()?;
            (decoded.len() <= VALUE_BYTES_MAX && !decoded.contains('\0')).then(|| decoded.into_owned())
        };
        let pairs = query.split('&').filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            Some((decode(name)?, decode(value)?))
        });
        Self(pairs.collect())
    }

    /// The first value of this name that isn't empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All values of this name that aren't empty.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let named = self.0.iter().filter(move |(other, value)| other == name && !value.is_empty());
        named.map(|(_, value)| value.as_str())
    }

    /// The query string with some parameters set, or removed where the value is empty.
    pub fn with(&self, changes: &[(&str, &str)]) -> String {
        let kept = self.0.iter().filter(|(name, _)| !changes.iter().any(|(other, _)| other == name));
        let kept = kept.map(|(name, value)| (name.as_str(), value.as_str()));
        let all = kept.chain(changes.iter().copied()).filter(|(_, value)| !value.is_empty());
        let pairs: Vec<_> =
            all.map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
        pairs.join("&")
    }
}

/// A text as a part of an address.
pub fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// A text as a literal of SQL: the only way of a value into SQL.
pub fn literal(text: &str) -> String {
    // Standard strings have no other escape than the doubled quote.
    format!("'{}'", text.replace('\0', "").replace('\'', "''"))
}

/// Breakdowns that an address can choose, and their columns in an item's tables.
pub type Columns = &'static [(&'static str, &'static str)];

/// Filters of client events.
pub const CLIENT: Columns = &[("platform", "platform"), ("version", "app_version"), ("country", "country")];
/// Filters of spans.
pub const SPANS: Columns =
    &[("platform", "platform"), ("version", "service_version"), ("service", "service")];
/// Filters of what names a service.
pub const SERVICES: Columns = &[("platform", "platform"), ("service", "service")];
/// Filters of what a service's users do.
pub const ACCESSES: Columns = &[("platform", "platform"), ("country", "country"), ("service", "service")];
/// No filters but the period.
pub const NONE: Columns = &[];
/// Names of all filters.
pub const NAMES: [&str; 4] = ["platform", "version", "country", "service"];

/// A period and the values that rows must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filters {
    /// Begin, nanoseconds since 1970, inclusive.
    pub from: i64,
    /// End, exclusive.
    pub to: i64,
    /// Name of a filter and its value.
    pub values: Vec<(&'static str, String)>,
}

impl Filters {
    /// Filters of an address, with `days` before `now` as the usual period. Times are dates or RFC 3339; `days` is a number.
    pub fn read(parameters: &Parameters, days: f64, now: i64) -> Self {
        let to = parameters.get("to").and_then(time).unwrap_or(now).max(DAY);
        let asked = parameters.get("days").and_then(|days| days.parse::<f64>().ok());
        let days = asked.filter(|days| *days > 0.0).unwrap_or(days).min(DAYS_MAX);
        let usual = to - (days * DAY as f64) as i64;
        let earliest = to - (DAYS_MAX * DAY as f64) as i64;
        let from = parameters.get("from").and_then(time).filter(|from| *from < to).unwrap_or(usual);
        let values = NAMES
            .iter()
            .filter_map(|name| parameters.get(name).map(|value| (*name, value.to_owned())))
            .collect();
        Self { from: from.max(earliest).max(0), to, values }
    }

    /// A time: a date, or RFC 3339; nanoseconds since 1970.
    pub fn until(text: &str) -> Option<i64> {
        time(text)
    }

    /// The same filters for the period before, of the same length.
    #[must_use]
    pub fn before(&self) -> Self {
        Self { from: (self.from - self.length()).max(0), to: self.from, values: self.values.clone() }
    }

    /// Length of the period, nanoseconds.
    pub fn length(&self) -> i64 {
        self.to - self.from
    }

    /// SQL of a template: its marks are replaced. A filter that the tables have no column for is left out.
    ///
    /// - `{where}`: the period and the filters; `{period}`: the period alone; `{until}`: filters, and the time up to its end;
    /// - `{from}`, `{to}`: nanoseconds since 1970; `{bucket}`: minute, hour or day of `timestamp`, by the period's length;
    /// - `{clients}`: events of people with the column `person`; `{views}`: one row for each view of a video.
    pub fn sql(&self, template: &str, columns: Columns) -> String {
        self.sql_by(template, columns, self.bucket())
    }

    /// The same with another `{bucket}`.
    pub fn sql_by(&self, template: &str, columns: Columns, bucket: &str) -> String {
        let (from, to) = (self.from.to_string(), self.to.to_string());
        let period = format!("timestamp_ns >= {from} AND timestamp_ns < {to}");
        let mut conditions = String::new();
        for (name, value) in &self.values {
            if let Some((_, column)) = columns.iter().find(|(other, _)| other == name) {
                conditions.push_str(&format!(" AND {column} = {}", literal(value)));
            }
        }
        // The values of filters come last, so that a mark in a value stays a text.
        let marks = [
            ("{clients}", CLIENTS),
            ("{views}", VIEWS),
            ("{bucket}", bucket),
            ("{period}", &period),
            ("{from}", &from),
            ("{to}", &to),
            ("{until}", &format!("timestamp_ns < {to}{{filters}}")),
            ("{where}", &format!("{period}{{filters}}")),
            ("{filters}", &conditions),
        ];
        marks.iter().fold(template.to_owned(), |sql, (mark, text)| sql.replace(mark, text))
    }

    /// Start of the bucket of a time.
    fn bucket(&self) -> &'static str {
        match self.length() {
            length if length <= DAY / 8 => "date_trunc('minute', timestamp)",
            length if length <= 3 * DAY => "date_trunc('hour', timestamp)",
            _ => "date_trunc('day', timestamp)",
        }
    }
}

/// Events of people. An anonymous id belongs to the user that its first `identify` names, before and after it.
const CLIENTS: &str = "(SELECT e.*, coalesce(e.user_id, l.linked_user_id, e.anonymous_id) AS person \
FROM client_events e LEFT JOIN (SELECT anonymous_id AS linked_id, first_value(user_id ORDER BY timestamp_ns) AS linked_user_id \
FROM events WHERE event_type = 'identify' AND anonymous_id IS NOT NULL AND user_id IS NOT NULL GROUP BY anonymous_id) l \
ON e.anonymous_id = l.linked_id)";

/// One row for each view of a video in the period.
const VIEWS: &str = "(SELECT view_id, min(timestamp) AS timestamp, max(title) AS title, max(cdn_provider) AS cdn, \
max(player_type) AS player, max(player_version) AS player_version, max(platform) AS platform, max(country) AS country, \
max(drm_type) AS drm, min(startup_time_ms) AS startup_ms, coalesce(max(watched_time_ms), 0) AS watched_ms, \
coalesce(max(stalled_time_ms), 0) AS stalled_ms, coalesce(max(stall_count), 0) AS stalls, avg(bitrate) AS bitrate, \
coalesce(bool_or(error_is_fatal), FALSE) AS has_failed, min(startup_time_ms) IS NOT NULL AS has_started \
FROM video_analytics WHERE view_id IS NOT NULL AND {where} GROUP BY view_id)";

/// A time: a date, or RFC 3339.
fn time(text: &str) -> Option<i64> {
    if let Ok(date) = text.parse::<NaiveDate>() {
        return date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_nanos_opt();
    }
    DateTime::parse_from_rfc3339(text).ok()?.timestamp_nanos_opt()
}

/// The time now, nanoseconds since 1970.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as i64)
}

/// A time as RFC 3339, whole seconds.
pub fn time_text(ns: i64) -> String {
    DateTime::from_timestamp_nanos(ns).to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_written() {
        let parameters = Parameters::parse("days=7&country=a%26b+c&country=&bad&%ff=1");
        assert_eq!(parameters.get("country"), Some("a&b c"));
        assert_eq!(parameters.with(&[("days", "")]), "country=a%26b%20c");
        assert_eq!(parameters.with(&[("days", "1")]), "country=a%26b%20c&days=1");
    }

    #[test]
    fn periods_are_read() {
        let now = 100 * DAY;
        let read = |query: &str| {
            let filters = Filters::read(&Parameters::parse(query), 30.0, now);
            (filters.from / DAY, filters.to / DAY)
        };
        assert_eq!(read(""), (70, 100));
        assert_eq!(read("days=7"), (93, 100));
        assert_eq!(read("from=1970-01-11&to=1970-01-21T00:00:00Z"), (10, 20));
        // Nonsense is left out.
        assert_eq!(read("from=1971-01-01&days=-1&to=x"), (70, 100));
        assert_eq!(read("days=NaN"), (70, 100));
        assert_eq!(read("days=1e300"), (0, 100));
        let before = Filters::read(&Parameters::parse("days=7"), 30.0, now).before();
        assert_eq!((before.from / DAY, before.to / DAY), (86, 93));
    }

    #[test]
    fn a_value_stays_a_literal() {
        let attack = "x' OR 1=1 --{to}";
        let query = format!("platform={}&service=s", encoded(attack));
        let filters = Filters::read(&Parameters::parse(&query), 1.0, DAY);
        let sql = filters.sql("SELECT 1 FROM {clients} WHERE {where}", CLIENT);
        assert!(sql.ends_with("AND platform = 'x'' OR 1=1 --{to}'"), "{sql}");
        assert!(!sql.contains("service ="), "{sql}");
    }
}
