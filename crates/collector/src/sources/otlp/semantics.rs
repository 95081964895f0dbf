//! Attributes and levels of OpenTelemetry that events have fields for.

use tickstream_client::events::LogLevel;

/// Longest id of a user or a session, bytes.
pub(super) const ID_BYTES_MAX: usize = 128;
/// Attributes that say the session and the user.
pub(super) const SESSION: [&str; 2] = ["session.id", "session_id"];
pub(super) const USER: [&str; 2] = ["user.id", "enduser.id"];
/// Attributes that have a field of their own: today's key, and the one that it replaced, which many still send.
pub(super) const METHOD: [&str; 2] = ["http.request.method", "http.method"];
pub(super) const URL: [&str; 2] = ["url.full", "http.url"];
pub(super) const STATUS_CODE: [&str; 2] = ["http.response.status_code", "http.status_code"];
pub(super) const STATEMENT: [&str; 2] = ["db.query.text", "db.statement"];
/// Longest of these fields, bytes.
pub(super) const METHOD_BYTES_MAX: usize = 32;
pub(super) const URL_BYTES_MAX: usize = 4096;
pub(super) const STATEMENT_BYTES_MAX: usize = 8192;

/// The levels of the data model's table: "Displaying Severity".
pub(super) fn level(severity_number: i32) -> LogLevel {
    match severity_number {
        1..=4 => LogLevel::Trace,
        5..=8 => LogLevel::Debug,
        13..=16 => LogLevel::Warn,
        17..=20 => LogLevel::Error,
        21.. => LogLevel::Fatal,
        // 9 to 12, and without a number.
        _ => LogLevel::Info,
    }
}
