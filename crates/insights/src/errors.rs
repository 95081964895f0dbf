//! Error groups: a fingerprint of what stays the same when an error happens again, and each group's history by release.

use std::collections::BTreeMap;

/// Frames of a stack trace that tell groups apart.
const FRAMES: usize = 8;

/// An error as an application reported it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report<'a> {
    /// The application's own grouping, where it has one.
    pub fingerprint: &'a str,
    /// Such as "NullPointerException".
    pub exception: &'a str,
    /// For people.
    pub message: &'a str,
    /// A frame on each line.
    pub stack_trace: &'a str,
    /// Service or application.
    pub service: &'a str,
    /// Its version.
    pub release: &'a str,
    /// Of the error.
    pub time: i64,
}

/// Reports of the same cause.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Number of reports.
    pub count: u64,
    /// Time of the first report.
    pub first_seen: i64,
    /// Time of the last report.
    pub last_seen: i64,
    /// Release of the first report.
    pub first_release: String,
    /// Time of the first report from each release.
    pub releases: BTreeMap<String, i64>,
}

/// The text that names a report's group: the application's own, else service, exception, and the frames of the stack trace; without
/// one, the message. Numbers, addresses, ids and quoted texts are left out.
pub fn fingerprint(report: &Report<'_>) -> String {
    if !report.fingerprint.is_empty() {
        return format!("{}\n{}", report.service, report.fingerprint);
    }
    let frames: Vec<_> = report
        .stack_trace
        .lines()
        .map(str::trim)
        .filter(|line| is_frame(line))
        .take(FRAMES)
        .map(without_variables)
        .collect();
    let detail = if frames.is_empty() { without_variables(report.message) } else { frames.join("\n") };
    format!("{}\n{}\n{detail}", report.service, report.exception)
}

/// Groups by fingerprint. The order of the reports doesn't matter.
pub fn groups(reports: &[Report<'_>]) -> BTreeMap<String, Group> {
    let mut groups = BTreeMap::<String, Group>::new();
    for report in reports {
        groups.entry(fingerprint(report)).or_default().add(1, report.time, report.time, report.release);
    }
    groups
}

impl Group {
    /// Adds reports of a release, seen between two times. The order of calls doesn't matter.
    pub fn add(&mut self, count: u64, first: i64, last: i64, release: &str) {
        let is_first = self.count == 0 || (first, release) < (self.first_seen, self.first_release.as_str());
        if is_first {
            self.first_seen = first;
            self.first_release = release.to_owned();
        }
        self.last_seen = if self.count == 0 { last } else { self.last_seen.max(last) };
        self.count += count;
        let seen = self.releases.entry(release.to_owned()).or_insert(first);
        *seen = first.min(*seen);
    }

    /// Releases in which it was seen, by the time of the first report.
    pub fn releases_by_time(&self) -> Vec<&str> {
        let named = self.releases.iter().filter(|(release, _)| !release.is_empty());
        let mut releases: Vec<_> = named.map(|(release, time)| (*time, release.as_str())).collect();
        releases.sort_unstable();
        releases.into_iter().map(|(_, release)| release).collect()
    }

    /// The release in which it came back after a release without it: a regression that nobody has to have resolved by hand.
    /// `deployed` has each release of the service with the time at which it was first heard of.
    pub fn came_back<'a>(&self, deployed: &'a [(String, i64)]) -> Option<&'a str> {
        let began = deployed.iter().filter(|(release, _)| self.releases.contains_key(release));
        let began = began.map(|(_, time)| *time).min()?;
        let is_free =
            |(release, time): &&(String, i64)| *time > began && !self.releases.contains_key(release);
        let free = deployed.iter().filter(is_free).map(|(_, time)| *time).min()?;
        self.regression(free, deployed)
    }

    /// The release in which a resolved error came back: of those deployed after `resolved`, the first in which it was seen.
    /// `deployed` has each release with the time of its deployment; reports of older releases are no regression.
    pub fn regression<'a>(&self, resolved: i64, deployed: &'a [(String, i64)]) -> Option<&'a str> {
        let is_back = |(release, time): &&(String, i64)| {
            *time >= resolved && self.releases.get(release).is_some_and(|seen| *seen >= resolved)
        };
        deployed.iter().filter(is_back).min_by_key(|(_, time)| *time).map(|(release, _)| release.as_str())
    }
}

/// A title for people, without what differs from report to report.
pub fn title(report: &Report<'_>) -> String {
    let message = without_variables(report.message);
    match (report.exception, message.as_str()) {
        ("", "") => "(no message)".to_owned(),
        ("", message) => message.to_owned(),
        (exception, "") => exception.to_owned(),
        (exception, message) => format!("{exception}: {message}"),
    }
}

/// Lines of the usual formats: "at f (file:1)" of JVM, Node and browsers; 'File "f", line 1' of Python; "#0 0x… f" of native
/// code; "0: f" of Rust.
fn is_frame(line: &str) -> bool {
    let is_numbered = || {
        line.split_once(|c: char| !c.is_ascii_digit()).is_some_and(|(number, rest)| {
            !number.is_empty() && line[number.len()..].starts_with(':') && rest.starts_with(' ')
        })
    };
    line.starts_with("at ")
        || line.starts_with("File \"")
        || line.starts_with('#')
        || (line.contains('@') && !line.contains(' '))
        || is_numbered()
}

/// The text with each word that has a digit, and each quoted part without a path, as a star.
fn without_variables(text: &str) -> String {
    let mut found = String::new();
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let quoted = quoted(rest, first);
        let end = match quoted {
            Some(end) => end,
            None if is_part(first) => rest.find(|c| !is_part(c)).unwrap_or(rest.len()),
            None => first.len_utf8(),
        };
        let (word, after) = rest.split_at(end);
        let is_variable = quoted.is_some() || word.bytes().any(|byte| byte.is_ascii_digit());
        found.push_str(if is_variable { "*" } else { word });
        rest = after;
    }
    found
}

/// End of a quoted part that begins here; file names of frames stay.
fn quoted(text: &str, quote: char) -> Option<usize> {
    if !matches!(quote, '"' | '\'' | '`') {
        return None;
    }
    let end = text[1..].find(quote)? + 2;
    (!text[..end].contains('/')).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(without_variables(text), expected);
    }

    #[test]
    fn variables_are_left_out() {
        check("user 17 not found", "user * not found");
        check("no key 'Ä b' in cart-9f3a", "no key * in *");
        check("timeout after 3.5s at 0x7f3a", "timeout after *.* at *");
        check("File \"/app/main.py\", line 12", "File \"/app/main.py\", line *");
        check("it's open \"", "it's open \"");
        check("", "");
    }

    fn report<'a>(stack_trace: &'a str, message: &'a str, release: &'a str, time: i64) -> Report<'a> {
        Report { exception: "E", service: "shop", message, stack_trace, release, time, ..Report::default() }
    }

    #[test]
    fn the_same_frames_are_one_group() {
        let one = report("E: no 1\n  at pay (shop.js:10:3)\n  at run (shop.js:9)", "no 1", "1", 5);
        let moved = report("E: no 2\n  at pay (shop.js:12:7)\n  at run (shop.js:9)", "no 2", "2", 3);
        let other = report("E: no 1\n  at ship (shop.js:10:3)", "no 1", "1", 4);
        let found = groups(&[one, moved, other]);
        let counts: Vec<_> =
            found.values().map(|group| (group.count, group.first_seen, group.last_seen)).collect();
        assert_eq!(counts, [(2, 3, 5), (1, 4, 4)]);
        assert_eq!(found.values().next().map(|group| group.first_release.as_str()), Some("2"));
        let own = Report { fingerprint: "payment", ..one };
        assert_eq!(fingerprint(&own), fingerprint(&Report { fingerprint: "payment", ..other }));
        // Without a trace, by message.
        assert_eq!(fingerprint(&report("", "no 1", "1", 0)), fingerprint(&report("", "no 2", "1", 0)));
    }

    #[test]
    fn regressions_are_of_later_releases() {
        let reports = [("1", 10), ("1", 60), ("3", 80)].map(|(release, time)| report("", "m", release, time));
        let found = groups(&reports);
        let group = found.values().next().expect("a group");
        let deployed = [("1", 0), ("2", 50), ("3", 70)].map(|(release, time)| (release.to_owned(), time));
        assert_eq!(group.regression(40, &deployed), Some("3"));
        assert_eq!(group.regression(75, &deployed), None);
        // It wasn't seen in 2; without a release in which it wasn't seen, it never went.
        assert_eq!(group.came_back(&deployed), Some("3"));
        assert_eq!(group.came_back(&[deployed[0].clone(), deployed[2].clone()]), None);
        assert_eq!(group.releases_by_time(), ["1", "3"]);
    }

    #[test]
    fn a_title_has_no_variables() {
        let named = |exception, message| title(&Report { exception, ..report("", message, "1", 0) });
        assert_eq!(named("E", "no 17"), "E: no *");
        assert_eq!(named("", "no \"ada\""), "no *");
        assert_eq!(named("E", ""), "E");
        assert_eq!(named("", ""), "(no message)");
    }
}
