//! Filters of a page: period and breakdowns from an address, and the SQL that they become.

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Nanoseconds of a second.
pub const SECOND: i64 = 1_000_000_000;
/// Nanoseconds of an hour.
pub const HOUR: i64 = 3_600 * SECOND;
/// Nanoseconds of a day.
pub const DAY: i64 = 86_400 * SECOND;
/// Longest value of a parameter, bytes.
const VALUE_BYTES_MAX: usize = 16_384;
/// Longest period, days.
const DAYS_MAX: f64 = 3_660.0;
/// Latest end of a period, 2200-01-01: what is added to it can be told, too.
const END_MAX: i64 = 7_258_118_400 * SECOND;

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

    /// Names of those that have a value.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, value)| !value.is_empty()).map(|(name, _)| name.as_str())
    }

    /// The query string that the menu keeps: period and filters. The period of a point is that point's alone.
    pub fn of_menu(&self) -> String {
        let is_of_point = self.0.iter().any(|(name, _)| name == LINE || name.starts_with(IS));
        let is_kept = |name: &str| match name {
            "days" | "live" => true,
            "from" | "to" => !is_of_point,
            name => NAMES.contains(&name),
        };
        let kept: Vec<_> = self.0.iter().filter(|(name, _)| is_kept(name)).cloned().collect();
        Self(kept).with(&[])
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

/// Begin of the names of parameters that name a point of a drawing: "is.channel".
pub const IS: &str = "is.";
/// Parameter that says that the point is one of a line over time.
pub const LINE: &str = "line";

/// Subject of an event of any kind that has a column, for people.
pub const SUBJECT: &str = "coalesce(operation, screen_name, video_id, metric_name, resource_id)";
/// Text of an event of the kinds that have none.
pub const TEXT: &str = "coalesce(json_text(raw_data, 'log.message'), json_text(raw_data, 'crash.message'), json_text(raw_data, 'incident.title'), \
json_text(raw_data, 'finding.title'), json_text(raw_data, 'feedback.text'), json_text(raw_data, 'access.principal'), \
json_text(raw_data, 'cost.service_name'))";
/// Trace that an event belongs to.
pub const TRACE: &str = "coalesce(trace_id, json_text(context, 'trace_id'))";

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
    /// Filters of an address, with `days` before `now` as the usual period. Times are dates or RFC 3339; `days` is a number. What
    /// [`Self::faults`] tells of is left out.
    pub fn read(parameters: &Parameters, days: f64, now: i64) -> Self {
        let to = parameters.get("to").and_then(time).unwrap_or(now).clamp(DAY, END_MAX);
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

    /// Parts of an address' period that can't be read, for people.
    pub fn faults(parameters: &Parameters) -> Vec<String> {
        let mut faults = Vec::new();
        let mut read = |name: &str| {
            let value = parameters.get(name)?;
            let time = time(value);
            if time.is_none() {
                faults.push(format!(
                    "{name} is {value:?}, which is no time; write a date such as 2026-11-01, or 2026-11-01 08:00, UTC."
                ));
            }
            time
        };
        if let (Some(from), Some(to)) = (read("from"), read("to"))
            && from >= to
        {
            faults.push("from isn't before to.".to_owned());
        }
        let is_number = |days: &str| days.parse::<f64>().is_ok_and(|days| days > 0.0 && days <= DAYS_MAX);
        if let Some(days) = parameters.get("days").filter(|days| !is_number(days)) {
            faults.push(format!("days is {days:?}; write a number above 0, and at most {DAYS_MAX}."));
        }
        faults
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

    /// Columns and the value that each must have. A filter that has no column is left out.
    pub fn columns(&self, columns: Columns) -> impl Iterator<Item = (&'static str, &str)> {
        self.values.iter().filter_map(move |(name, value)| {
            let (_, column) = columns.iter().find(|(other, _)| other == name)?;
            Some((*column, value.as_str()))
        })
    }

    /// SQL of a template: its marks are replaced. A filter that the tables have no column for is left out.
    ///
    /// - `{where}`: the period and the filters; `{period}`: the period alone; `{until}`: filters, and the time up to its end;
    /// - `{from}`, `{to}`: nanoseconds since 1970; `{bucket}`: minute, hour or day of `timestamp`, by the period's length;
    /// - `{clients}`: events of people with the column `person`; `{views}`: one row for each view of a video;
    ///   `{viewed}`: events of these views.
    pub fn sql(&self, template: &str, columns: Columns) -> String {
        self.sql_by(template, columns, self.bucket())
    }

    /// The same with another `{bucket}`.
    pub fn sql_by(&self, template: &str, columns: Columns, bucket: &str) -> String {
        let (from, to) = (self.from.to_string(), self.to.to_string());
        let period = format!("timestamp_ns >= {from} AND timestamp_ns < {to}");
        let mut conditions = String::new();
        for (column, value) in self.columns(columns) {
            conditions.push_str(&format!(" AND {column} = {}", literal(value)));
        }
        // The values of filters come last, so that a mark in a value stays a text.
        let marks = [
            ("{clients}", CLIENTS),
            ("{persons}", PERSONS),
            ("{viewed}", VIEWED),
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

    /// Length of the buckets of a template, nanoseconds.
    pub fn step(&self, template: &str) -> i64 {
        match self.bucket() {
            _ if !template.contains("{bucket}") => DAY,
            bucket if bucket.contains("minute") => 60 * SECOND,
            bucket if bucket.contains("hour") => 3_600 * SECOND,
            _ => DAY,
        }
    }

    /// Start of the bucket of a time.
    fn bucket(&self) -> &'static str {
        match self.length() {
            length if length <= DAY / 8 => "date_trunc('minute', timestamp)",
            length if length <= 8 * DAY => "date_trunc('hour', timestamp)",
            _ => "date_trunc('day', timestamp)",
        }
    }
}

/// Persons behind ids that belong to another. `user_identities` knows them, with aliases; of an id that it doesn't know yet, the
/// first `identify` says it.
pub const PERSONS: &str = "SELECT id AS linked_id, first_value(person ORDER BY since) AS linked_person FROM \
(SELECT id, person, 0 AS since FROM user_identities UNION ALL SELECT anonymous_id, user_id, timestamp_ns FROM events \
WHERE event_type = 'identify' AND anonymous_id IS NOT NULL AND user_id IS NOT NULL) GROUP BY id";

/// Events of people, each with its person, before and after ids were linked.
const CLIENTS: &str = "(SELECT e.*, coalesce(l.linked_person, e.user_id, e.anonymous_id) AS person \
FROM client_events e LEFT JOIN ({persons}) l ON coalesce(e.user_id, e.anonymous_id) = l.linked_id)";

/// One row for each view of a video that began in the period. A view of the day before isn't one of it, though it goes on.
const VIEWS: &str = "(SELECT view_id, min(timestamp) AS timestamp, max(title) AS title, max(cdn_provider) AS cdn, \
max(player_type) AS player, max(player_version) AS player_version, max(platform) AS platform, max(country) AS country, \
max(drm_type) AS drm, min(startup_time_ms) AS startup_ms, coalesce(max(watched_time_ms), 0) AS watched_ms, \
coalesce(max(stalled_time_ms), 0) AS stalled_ms, coalesce(max(stall_count), 0) AS stalls, avg(bitrate) AS bitrate, \
coalesce(bool_or(error_is_fatal), FALSE) AS has_failed, min(startup_time_ms) IS NOT NULL AS has_started \
FROM video_analytics WHERE view_id IS NOT NULL AND timestamp_ns >= {from} - 86400000000000 AND {until} GROUP BY view_id \
HAVING min(timestamp_ns) >= {from})";

/// Events of the views in the period, with what is known of each view.
const VIEWED: &str = "(SELECT a.event_id, a.timestamp_ns, v.title, v.cdn, v.player, v.player_version, v.platform \
FROM video_analytics a JOIN {views} v ON a.view_id = v.view_id WHERE a.timestamp_ns >= {from} AND a.timestamp_ns < {to})";

/// A time: a date, as pages show it, or RFC 3339; UTC without a zone.
fn time(text: &str) -> Option<i64> {
    const FORMS: [&str; 4] = ["%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S"];
    if let Ok(date) = text.parse::<NaiveDate>() {
        return date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_nanos_opt();
    }
    let without_zone = FORMS.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    if let Some(time) = without_zone {
        return time.and_utc().timestamp_nanos_opt();
    }
    // The sign of a zone is a space where the address didn't encode it.
    let signed = text.rsplit_once(' ').map(|(time, zone)| format!("{time}+{zone}"));
    let time = DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_rfc3339(signed.as_deref().unwrap_or_default()));
    time.ok()?.timestamp_nanos_opt()
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
        assert_eq!(Parameters::parse("sql=x&from=a&country=DE").of_menu(), "from=a&country=DE");
        assert_eq!(Parameters::parse("is.step=x&from=a&country=DE").of_menu(), "country=DE");
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
    fn times_are_read_as_pages_show_them_and_faults_are_told() {
        let times =
            ["2026-11-01 08:00", "2026-11-01T08:00", "2026-11-01T08:00:00Z", "2026-11-01T09:00:00 01:00"];
        assert!(times.iter().all(|text| time(text) == time("2026-11-01T09:00:00+01:00")), "{times:?}");
        let faults = |query: &str| Filters::faults(&Parameters::parse(query));
        assert!(
            faults("").is_empty() && faults("days=0.04&from=2026-11-01&to=2026-11-02&platform=x").is_empty()
        );
        assert_eq!(faults("from=2026-11-02&to=2026-11-02"), ["from isn't before to."]);
        assert_eq!(faults("from=yesterday&to=31.12.2026").len(), 2);
        assert!(
            ["-1", "0", "NaN", "1e300", "x"].iter().all(|days| faults(&format!("days={days}")).len() == 1)
        );
        // The end of time is no panic.
        let far = Filters::read(&Parameters::parse("to=2262-04-11"), 3_660.0, 0);
        assert_eq!(time_text(far.to), "2200-01-01T00:00:00Z");
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
