//! Formats of exporters: Prometheus' text format 0.0.4 and OpenMetrics 1.0.
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>,
//! <https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md>

use std::collections::HashMap;

use crate::sources::fields::clipped;

/// A format, by the Content-Type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `text/plain`, also where the type says nothing.
    Text,
    /// `application/openmetrics-text`
    OpenMetrics,
}

impl Format {
    /// By the Content-Type of an answer.
    pub fn of(content_type: &str) -> Self {
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if media_type.eq_ignore_ascii_case("application/openmetrics-text") {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }
}

/// Names and values.
pub type Labels = Vec<(String, String)>;

/// One line with a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// With the metric's name as `__name__`, in the order of the line.
    pub labels: Labels,
    /// The value.
    pub value: f64,
    /// Unix time, milliseconds.
    pub timestamp: Option<i64>,
    /// OpenMetrics' exemplar.
    pub exemplar: Option<Exemplar>,
}

/// One observation behind a sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// Such as a trace's id.
    pub labels: Labels,
    /// The value.
    pub value: f64,
    /// Unix time, milliseconds.
    pub timestamp: Option<i64>,
}

/// Comments about a family of metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Family {
    /// In lower case; empty: unknown.
    pub metric_type: String,
    /// A description.
    pub help: String,
    /// OpenMetrics' unit.
    pub unit: String,
}

/// All that an exporter shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exposition {
    /// By the name of the family.
    pub families: HashMap<String, Family>,
    /// In their order.
    pub samples: Vec<Sample>,
}

/// A line that can't be read: nothing of what the exporter shows is taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ParseError {
    /// From 1.
    pub line: usize,
    /// The problem.
    pub problem: &'static str,
}

/// Suffixes of series that belong to a family without them.
const SUFFIXES: [&str; 8] = ["_total", "_bucket", "_count", "_sum", "_created", "_info", "_gcount", "_gsum"];

impl Exposition {
    /// The family of a series with this name.
    pub fn family(&self, name: &str) -> Option<&Family> {
        let base = || SUFFIXES.iter().find_map(|suffix| self.families.get(name.strip_suffix(suffix)?));
        self.families.get(name).or_else(base)
    }
}

/// Reads all lines.
///
/// # Errors
/// [`ParseError`].
pub fn parse(text: &str, format: Format) -> Result<Exposition, ParseError> {
    let mut exposition = Exposition::default();
    let mut has_ended = false;
    for (index, line) in text.split('\n').enumerate() {
        let error = |problem| ParseError { line: index + 1, problem };
        let line = line.trim_matches(|c| matches!(c, ' ' | '\t' | '\r'));
        if line.is_empty() {
            continue;
        }
        if has_ended {
            return Err(error("something follows # EOF"));
        }
        match line.strip_prefix('#') {
            Some(comment) if format == Format::OpenMetrics && comment == " EOF" => has_ended = true,
            Some(comment) => comment_line(comment, &mut exposition.families),
            None => exposition.samples.push(sample(line, format).map_err(error)?),
        }
    }
    if format == Format::OpenMetrics && !has_ended {
        return Err(ParseError { line: text.lines().count(), problem: "it ends without # EOF" });
    }
    Ok(exposition)
}

/// `# TYPE name type`, `# HELP name text`, `# UNIT name unit`; anything else is a comment.
/// The schema's bound on a description, bytes.
const HELP_BYTES_MAX: usize = 4096;

fn comment_line(comment: &str, families: &mut HashMap<String, Family>) {
    let mut words = comment.trim_start().splitn(2, [' ', '\t']);
    let (keyword, rest) = (words.next().unwrap_or_default(), words.next().unwrap_or_default().trim_start());
    if !matches!(keyword, "TYPE" | "HELP" | "UNIT") {
        return;
    }
    let Ok((name, rest)) = family_name(rest) else { return };
    let family = families.entry(name).or_default();
    match keyword {
        "TYPE" => {
            let metric_type = rest.trim().to_ascii_lowercase();
            family.metric_type =
                if matches!(&metric_type[..], "untyped" | "unknown") { String::new() } else { metric_type };
        }
        // Each event of the family has it.
        "HELP" => clipped(&unescaped(rest), HELP_BYTES_MAX).clone_into(&mut family.help),
        _ => rest.trim().clone_into(&mut family.unit),
    }
}

/// The name, quoted or not, and what follows.
fn family_name(text: &str) -> Result<(String, &str), &'static str> {
    if text.starts_with('"') {
        let (name, rest) = quoted(text)?;
        return Ok((name, rest.trim_start()));
    }
    let (name, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    if name.is_empty() { Err("a name is missing") } else { Ok((name.to_owned(), rest)) }
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, chars.clone().next()) {
            ('\\', Some(escaped @ ('\\' | 'n' | '"'))) => {
                out.push(if escaped == 'n' { '\n' } else { escaped });
                chars.next();
            }
            _ => out.push(c),
        }
    }
    out
}

fn sample(line: &str, format: Format) -> Result<Sample, &'static str> {
    let end = line.find(['{', ' ', '\t']).ok_or("a value is missing")?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Labels::new();
    if !name.is_empty() {
        check_name(name)?;
        labels.push(("__name__".to_owned(), name.to_owned()));
    }
    rest = rest.trim_start();
    if rest.starts_with('{') {
        rest = take_labels(rest, &mut labels)?;
    }
    if !labels.iter().any(|(name, _)| name == "__name__") {
        return Err("a name is missing");
    }
    let (rest, exemplar) = match rest.split_once(" # ") {
        Some((rest, exemplar)) if format == Format::OpenMetrics => (rest, Some(self::exemplar(exemplar)?)),
        _ => (rest, None),
    };
    let (value, timestamp) = value_and_time(rest, format)?;
    Ok(Sample { labels, value, timestamp, exemplar })
}

fn check_name(name: &str) -> Result<(), &'static str> {
    let is_name = |(at, byte): (usize, u8)| {
        byte.is_ascii_alphabetic() || matches!(byte, b'_' | b':') || (at > 0 && byte.is_ascii_digit())
    };
    if name.bytes().enumerate().all(is_name) {
        Ok(())
    } else {
        Err("a name has a character that names can't have")
    }
}

/// `{name="value",…}` at the front, with the metric's name alone in quotes where it isn't in front. What follows.
fn take_labels<'a>(text: &'a str, labels: &mut Labels) -> Result<&'a str, &'static str> {
    let mut rest = text.strip_prefix('{').ok_or("labels are missing")?.trim_start();
    loop {
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok(rest);
        }
        let (name, after) = if rest.starts_with('"') {
            quoted(rest)?
        } else {
            let end = rest.find(['=', ' ', '\t', ',', '}']).ok_or("labels don't end")?;
            check_name(&rest[..end])?;
            (rest[..end].to_owned(), &rest[end..])
        };
        let was_quoted = rest.starts_with('"');
        rest = after.trim_start();
        match rest.strip_prefix('=') {
            Some(after) => {
                let (value, after) = quoted(after.trim_start())?;
                if labels.iter().any(|(known, _)| *known == name) {
                    return Err("a label is there twice");
                }
                labels.push((name, value));
                rest = after.trim_start();
            }
            None if was_quoted => labels.push(("__name__".to_owned(), name)),
            None => return Err("a label has no value"),
        }
        rest = match rest.strip_prefix(',') {
            Some(after) => after.trim_start(),
            None if rest.starts_with('}') => rest,
            None => return Err("labels don't end"),
        };
    }
}

/// The text in quotes at the front, and what follows.
fn quoted(text: &str) -> Result<(String, &str), &'static str> {
    let inner = text.strip_prefix('"').ok_or("a value isn't in quotes")?;
    let mut is_escaped = false;
    for (at, c) in inner.char_indices() {
        match c {
            '"' if !is_escaped => return Ok((unescaped(&inner[..at]), &inner[at + 1..])),
            _ => is_escaped = c == '\\' && !is_escaped,
        }
    }
    Err("a quote doesn't end")
}

fn value_and_time(text: &str, format: Format) -> Result<(f64, Option<i64>), &'static str> {
    let mut words = text.split([' ', '\t']).filter(|word| !word.is_empty());
    let value = number(words.next().ok_or("a value is missing")?)?;
    let timestamp = words.next().map(|word| time(word, format)).transpose()?;
    if words.next().is_some() { Err("something follows the timestamp") } else { Ok((value, timestamp)) }
}

fn number(text: &str) -> Result<f64, &'static str> {
    text.parse().map_err(|_| "a value is no number")
}

/// Milliseconds; OpenMetrics has seconds, with a fraction.
fn time(text: &str, format: Format) -> Result<i64, &'static str> {
    const PROBLEM: &str = "a timestamp is no number";
    match format {
        Format::Text => text.parse().map_err(|_| PROBLEM),
        Format::OpenMetrics => {
            let seconds: f64 = text.parse().map_err(|_| PROBLEM)?;
            if seconds.abs() < 1e13 { Ok((seconds * 1000.0).round() as i64) } else { Err(PROBLEM) }
        }
    }
}

fn exemplar(text: &str) -> Result<Exemplar, &'static str> {
    let mut labels = Labels::new();
    let rest = take_labels(text.trim_start(), &mut labels)?;
    let (value, timestamp) = value_and_time(rest, Format::OpenMetrics)?;
    Ok(Exemplar { labels, value, timestamp })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_text_format_is_read() {
        let text = "# HELP http_requests_total The total\\nof \\\\ requests.\n# TYPE http_requests_total counter\n\
            http_requests_total{method=\"post\",code=\"200\",} 1027 1395066363000\n\
            http_requests_total { path = \"C:\\\\DIR\\n\\\"x\\\" # {y\" }\t3e2\r\n\n# just a comment\n\
            up 1\nnan NaN\ninf{le=\"+Inf\"} +Inf -5\n{\"my.metric\", a=\"b\"} -0.5\n# TYPE lat histogram\nlat_bucket{le=\"1\"} 4\n";
        let exposition = parse(text, Format::Text).unwrap();
        let family = exposition.family("http_requests_total").unwrap();
        assert_eq!((&family.metric_type[..], &family.help[..]), ("counter", "The total\nof \\ requests."));
        assert_eq!(exposition.family("lat_bucket").unwrap().metric_type, "histogram");
        let samples = &exposition.samples;
        assert_eq!(
            samples[0].labels,
            labels(&[("__name__", "http_requests_total"), ("method", "post"), ("code", "200")])
        );
        assert_eq!((samples[0].value, samples[0].timestamp), (1027.0, Some(1_395_066_363_000)));
        assert_eq!((samples[1].labels[1].1.as_str(), samples[1].value), ("C:\\DIR\n\"x\" # {y", 300.0));
        assert!(samples[3].value.is_nan() && samples[4].value == f64::INFINITY);
        assert_eq!(samples[4].timestamp, Some(-5));
        assert_eq!(samples[5].labels, labels(&[("__name__", "my.metric"), ("a", "b")]));
    }

    #[test]
    fn openmetrics_has_units_exemplars_and_an_end() {
        let text = "# TYPE foo_seconds counter\n# UNIT foo_seconds seconds\n# HELP foo_seconds How long\n\
            foo_seconds_total{a=\"b\"} 17.0 1520879607.789 # {trace_id=\"KOO5S4vxi0o\"} 0.67 1520879606.5\n\
            foo_seconds_created{a=\"b\"} 1.5\n# EOF\n";
        let exposition = parse(text, Format::OpenMetrics).unwrap();
        let family = exposition.family("foo_seconds_total").unwrap();
        assert_eq!((&family.unit[..], &family.help[..]), ("seconds", "How long"));
        let sample = &exposition.samples[0];
        assert_eq!((sample.value, sample.timestamp), (17.0, Some(1_520_879_607_789)));
        let exemplar = sample.exemplar.as_ref().unwrap();
        assert_eq!(exemplar.labels, labels(&[("trace_id", "KOO5S4vxi0o")]));
        assert_eq!((exemplar.value, exemplar.timestamp), (0.67, Some(1_520_879_606_500)));
        assert!(parse("a 1\n", Format::OpenMetrics).is_err(), "without its end it may be cut");
        assert!(parse("# EOF\na 1\n", Format::OpenMetrics).is_err());
        assert_eq!(Format::of("application/openmetrics-text; version=1.0.0"), Format::OpenMetrics);
        assert_eq!(Format::of("text/plain; version=0.0.4"), Format::Text);
    }

    #[test]
    fn lines_that_are_none_are_told_by_number() {
        for line in [
            "a",
            "a{b=\"c} 1",
            "a{b=\"c\" 1",
            "a{b} 1",
            "a{b=c} 1",
            "a x",
            "a 1 2 3",
            "1a 1",
            "{} 1",
            "a{b=\"1\",b=\"2\"} 1",
            "a 1 x",
        ] {
            let error = parse(&format!("up 1\n{line}\n"), Format::Text).unwrap_err();
            assert_eq!(error.line, 2, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-z0-9{}=\"\\\\ #,.\n_é+-]{0,80}", om in any::<bool>()) {
            _ = parse(&text, if om { Format::OpenMetrics } else { Format::Text });
        }
    }
}
