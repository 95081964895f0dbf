//! Access logs of web servers and load balancers: a log each, with the numbers as numbers.

use tickstream_client::events::{Body, Event, Kind, Value};

use super::text_event;
use crate::sources::json::{days_since_1970, rfc3339};

/// The words of a line: split by spaces, but for those in quotes, brackets and braces.
struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let text = self.0.trim_start_matches(' ');
        let close = match text.chars().next()? {
            '"' => Some('"'),
            '[' => Some(']'),
            '{' => Some('}'),
            _ => None,
        };
        let Some(close) = close else {
            let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
            self.0 = rest;
            return Some(word);
        };
        let mut is_escaped = false;
        for (at, c) in text.char_indices().skip(1) {
            if c == close && !is_escaped {
                self.0 = &text[at + 1..];
                return Some(&text[1..at]);
            }
            is_escaped = c == '\\' && !is_escaped;
        }
        None
    }
}

/// A log whose metadata says all that the line does.
struct Access(Event);

impl Access {
    fn new(line: &str, timestamp: u64, service: &str) -> Self {
        Self(text_event(line, timestamp, service))
    }

    /// A text, unless it is the format's word for none.
    fn text(mut self, key: &str, text: &str) -> Self {
        if let Some(Body::Log(log)) = &mut self.0.body
            && !matches!(text, "" | "-")
        {
            let value = Value { kind: Some(Kind::Text(text.to_owned())) };
            if text.len() <= 1024 {
                log.metadata.insert(key.to_owned(), text.to_owned());
            } else {
                log.typed_metadata.insert(key.to_owned(), value);
            }
        }
        self
    }

    /// A number; a text, where it is none.
    fn number(mut self, key: &str, text: &str) -> Self {
        let kind = text.parse().map(Kind::Integer).or_else(|_| text.parse().map(Kind::Number));
        match (kind, &mut self.0.body) {
            (Ok(Kind::Number(number)), _) if !number.is_finite() => self.text(key, text),
            (Ok(kind), Some(Body::Log(log))) => {
                log.typed_metadata.insert(key.to_owned(), Value { kind: Some(kind) });
                self
            }
            _ => self.text(key, text),
        }
    }

    /// `GET /path HTTP/1.1`
    fn request(self, request: &str) -> Self {
        let parts: Vec<&str> = request.splitn(3, ' ').collect();
        match parts[..] {
            [method, target, version] => self
                .text("http.request.method", method)
                .text("url.original", target)
                .text("network.protocol.version", version.trim_start_matches("HTTP/")),
            _ => self.text("http.request", request),
        }
    }
}

/// `$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"`, the
/// last two of which may be missing.
pub(super) fn nginx(line: &str, service: &str) -> Option<Event> {
    let mut words = Words(line);
    let (address, _, user) = (words.next()?, words.next()?, words.next()?);
    let timestamp = clf_time(words.next()?)?;
    let (request, status, bytes) = (words.next()?, words.next()?, words.next()?);
    status.parse::<u16>().ok()?;
    let access = Access::new(line, timestamp, service)
        .text("client.address", address)
        .text("user.name", user)
        .request(request)
        .number("http.response.status_code", status)
        .number("http.response.body.size", bytes)
        .text("http.request.header.referer", words.next().unwrap_or_default())
        .text("user_agent.original", words.next().unwrap_or_default());
    Some(access.0)
}

/// `address:port [accept_date] frontend backend/server TR/Tw/Tc/Tr/Ta status bytes cookie cookie state connections queues
/// {headers} "request"`, perhaps behind syslog's header.
pub(super) fn haproxy(line: &str, service: &str) -> Option<Event> {
    // Syslog's header, as HAProxy writes it to a file or a log daemon does, ends with "haproxy[7]: ".
    let own =
        line.split_once("]: ").map_or(line, |(header, own)| if header.contains(" [") { line } else { own });
    let mut words = Words(own);
    let client = words.next()?;
    let timestamp = clf_time(words.next()?)?;
    let (frontend, backend) = (words.next()?, words.next()?);
    let (timers, status, bytes) = (words.next()?, words.next()?, words.next()?);
    let (request_cookie, response_cookie, state) = (words.next()?, words.next()?, words.next()?);
    let (connections, queues) = (words.next()?, words.next()?);
    let (address, port) = client.rsplit_once(':')?;
    let (backend, server) = backend.split_once('/')?;
    let timers: Vec<&str> = timers.split('/').collect();
    let [receive, queue, connect, response, all] = timers[..] else { return None };
    status.trim_start_matches('-').parse::<u16>().ok()?;
    let mut access = Access::new(line, timestamp, service)
        .text("client.address", address)
        .number("client.port", port)
        .text("haproxy.frontend", frontend)
        .text("haproxy.backend", backend)
        .text("haproxy.server", server)
        .number("haproxy.time_request_ms", receive)
        .number("haproxy.time_queue_ms", queue)
        .number("haproxy.time_connect_ms", connect)
        .number("haproxy.time_response_ms", response)
        .number("haproxy.time_active_ms", all.trim_start_matches('+'))
        .number("http.response.status_code", status)
        .number("haproxy.bytes_read", bytes.trim_start_matches('+'))
        .text("haproxy.request_cookie", request_cookie)
        .text("haproxy.response_cookie", response_cookie)
        .text("haproxy.termination_state", state)
        .text("haproxy.connections", connections)
        .text("haproxy.queues", queues);
    // Captured headers, and the request in quotes as the last.
    let mut last = None;
    while let Some(word) = words.next() {
        if let Some(headers) = last.replace(word) {
            access = access.text("haproxy.captured_headers", headers);
        }
    }
    Some(access.request(last?).0)
}

/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-access-logs.html>
pub(super) fn aws_alb(line: &str, service: &str) -> Option<Event> {
    const NUMBERS: [&str; 7] = [
        "aws.alb.request_processing_time",
        "aws.alb.target_processing_time",
        "aws.alb.response_processing_time",
        "http.response.status_code",
        "aws.alb.target_status_code",
        "aws.alb.received_bytes",
        "aws.alb.sent_bytes",
    ];
    const TEXTS: [&str; 8] = [
        "user_agent.original",
        "tls.cipher",
        "tls.protocol.version",
        "aws.alb.target_group_arn",
        "aws.alb.trace_id",
        "server.address",
        "aws.alb.chosen_cert_arn",
        "aws.alb.matched_rule_priority",
    ];
    let mut words = Words(line);
    let (kind, time, balancer) = (words.next()?, words.next()?, words.next()?);
    let (client, target) = (words.next()?, words.next()?);
    let (address, port) = client.rsplit_once(':')?;
    let mut access = Access::new(line, rfc3339(time)?, service)
        .text("aws.alb.type", kind)
        .text("aws.alb.name", balancer)
        .text("client.address", address)
        .number("client.port", port)
        .text("aws.alb.target", target);
    for key in NUMBERS {
        access = access.number(key, words.next()?);
    }
    access = access.request(words.next()?);
    for key in TEXTS {
        access = access.text(key, words.next().unwrap_or_default());
    }
    Some(access.0)
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `10/Oct/2000:13:55:36 -0700`, or HAProxy's with milliseconds and without an offset, which is UTC here.
fn clf_time(text: &str) -> Option<u64> {
    let (date, rest) = text.split_once(':')?;
    let mut date = date.split('/');
    let day: u64 = date.next()?.parse().ok()?;
    let name = date.next()?;
    let month = MONTHS.iter().position(|month| *month == name)? + 1;
    let year: u64 = date.next()?.parse().ok()?;
    days_since_1970(year, month as u64, day)?;
    let (time, offset) = rest.split_once(' ').unwrap_or((rest, "+0000"));
    rfc3339(&format!("{year:04}-{month:02}-{day:02}T{time}{offset}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn metadata(event: &Event, key: &str) -> String {
        let Some(Body::Log(log)) = &event.body else { panic!() };
        let typed = || match &log.typed_metadata.get(key)?.kind {
            Some(Kind::Integer(number)) => Some(number.to_string()),
            Some(Kind::Number(number)) => Some(number.to_string()),
            _ => None,
        };
        log.metadata.get(key).cloned().or_else(typed).unwrap_or_default()
    }

    fn check(event: &Event, expected: &[(&str, &str)]) {
        for (key, value) in expected {
            assert_eq!(metadata(event, key), *value, "{key}");
        }
    }

    #[test]
    fn nginx_combined_is_read() {
        let line = r#"203.0.113.7 - frank [14/Oct/2026:19:46:40 +0200] "GET /a?b=\"c\" HTTP/1.1" 200 2326 "http://e.example/" "Mozilla/5.0 (X11)""#;
        let event = nginx(line, "web").unwrap();
        assert_eq!(event.timestamp, 1_792_000_000_000_000_000);
        check(
            &event,
            &[
                ("client.address", "203.0.113.7"),
                ("user.name", "frank"),
                ("http.request.method", "GET"),
                ("url.original", r#"/a?b=\"c\""#),
                ("http.response.status_code", "200"),
                ("http.response.body.size", "2326"),
                ("user_agent.original", "Mozilla/5.0 (X11)"),
            ],
        );
        let common = nginx(r#"h - - [14/Oct/2026:17:46:40 +0000] "-" 400 0"#, "web").unwrap();
        check(&common, &[("http.response.status_code", "400"), ("user.name", "")]);
    }

    #[test]
    fn haproxy_httplog_is_read_with_and_without_syslogs_header() {
        let own = r#"10.0.1.2:33317 [14/Oct/2026:17:46:40.655] http-in static/srv1 10/0/30/69/109 200 2750 - - ---- 1/1/1/1/0 0/0 {1wt.eu} {} "GET /index.html HTTP/1.1""#;
        for line in [own.to_owned(), format!("Oct 14 17:46:40 localhost haproxy[14389]: {own}")] {
            let event = haproxy(&line, "lb").unwrap();
            assert_eq!(event.timestamp, 1_792_000_000_655_000_000);
            check(
                &event,
                &[
                    ("client.address", "10.0.1.2"),
                    ("client.port", "33317"),
                    ("haproxy.frontend", "http-in"),
                    ("haproxy.backend", "static"),
                    ("haproxy.server", "srv1"),
                    ("haproxy.time_response_ms", "69"),
                    ("http.response.status_code", "200"),
                    ("haproxy.bytes_read", "2750"),
                    ("haproxy.captured_headers", "1wt.eu"),
                    ("url.original", "/index.html"),
                    ("haproxy.termination_state", "----"),
                ],
            );
        }
    }

    #[test]
    fn aws_load_balancers_lines_are_read() {
        let line = r#"https 2026-10-14T17:46:40.186641Z app/my-lb/50dc6c495c0c9188 192.168.131.39:2817 10.0.0.1:80 0.086 0.048 0.037 200 200 0 57 "GET https://www.example.com:443/ HTTP/1.1" "curl/7.46.0" ECDHE-RSA-AES128-GCM-SHA256 TLSv1.2 arn:aws:tg "Root=1-58337281" "www.example.com" "arn:aws:acm" 1 2026-10-14T17:46:40.100000Z "forward" "-" "-""#;
        let event = aws_alb(line, "lb").unwrap();
        check(
            &event,
            &[
                ("client.port", "2817"),
                ("aws.alb.target_processing_time", "0.048"),
                ("http.response.status_code", "200"),
                ("aws.alb.sent_bytes", "57"),
                ("user_agent.original", "curl/7.46.0"),
                ("server.address", "www.example.com"),
            ],
        );
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in "[a-z0-9 \"\\\\\\[\\]{}:/é.-]{0,80}") {
            _ = (nginx(&line, "s"), haproxy(&line, "s"), aws_alb(&line, "s"));
        }
    }
}
