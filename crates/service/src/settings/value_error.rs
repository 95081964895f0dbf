//! Errors of one value, whatever setting has it.

use std::{error::Error, io, net::Ipv6Addr};

/// An address for people.
pub(crate) const ADDRESS: &str = "an IP address and a port, such as 127.0.0.1:7400 or [::1]:7400";
/// A log filter for people.
pub(crate) const LOG_FILTER: &str =
    "off, error, warn, info, debug or trace, also by module, such as info,tickstream=debug";

/// A value that isn't accepted. Each message continues the sentence that begins with key, value and origin.
#[derive(Debug, thiserror::Error)]
pub enum ValueError {
    /// A value is needed.
    #[error("is empty; accepted: {0}")]
    Empty(String),
    /// Bytes that are no text.
    #[error("is not valid UTF-8")]
    NotUtf8,
    /// Other characters than digits.
    #[error("is not a whole number; accepted: {0}")]
    NotAnInteger(String),
    /// Too small or too large.
    #[error("is out of range; accepted: {0}")]
    OutOfRange(String),
    /// A duration that is a bare number.
    #[error("is a bare number; a duration needs a unit, such as \"{0}s\" or \"{0}ms\"")]
    NoUnit(String),
    /// No duration.
    #[error("is not a duration ({reason}); accepted: {accepts}")]
    Duration {
        /// The parser's reason.
        reason: humantime::DurationError,
        /// Accepted values.
        accepts: String,
    },
    /// No number of bytes.
    #[error("is not a size; accepted: {0}")]
    Size(String),
    /// No address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// None of the words.
    #[error("is not known; accepted: {0}")]
    Choice(String),
    /// No filter of tracing-subscriber.
    #[error("is not a log filter ({reason}); accepted: {LOG_FILTER}")]
    LogFilter {
        /// The part that is wrong, and how.
        reason: String,
    },
    /// Text of the wrong length. The length is all that is shown.
    #[error("must be 1 to {max} bytes long, it has {bytes}")]
    Length {
        /// Its length; for a file, no more than is read of it.
        bytes: usize,
        /// The most.
        max: usize,
    },
    /// A file that can't be read.
    #[error("can't be read: {0}")]
    File(io::Error),
    /// A cross-field rule: this must be above another setting.
    #[error("must be longer than {other} ({value})")]
    NotLongerThan {
        /// The other setting.
        other: &'static str,
        /// Its value.
        value: String,
    },
    /// A cross-field rule: this means nothing without another setting.
    #[error("needs {other}, which isn't set")]
    Needs {
        /// The other setting.
        other: &'static str,
    },
    /// A cross-field rule: one of two settings only.
    #[error("excludes {other}, which is set too (from {origin}); set one of them")]
    Excludes {
        /// The other setting.
        other: &'static str,
        /// The origin of that one.
        origin: String,
    },
    /// A rule of the program's own.
    #[error(transparent)]
    Program(Box<dyn Error + Send + Sync>),
}

impl ValueError {
    /// A rule of the program's own.
    pub fn program(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Program(error.into())
    }
}

/// Why a text is no address to listen on, with what to write instead.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// `7400`
    #[error("is only a port; write 0.0.0.0:{0} for all IPv4 interfaces, or [::]:{0}")]
    OnlyPort(String),
    /// `10.0.0.1`
    #[error("has no port; write {0}:7400")]
    NoPort(String),
    /// `::1` or `::1:7400`, which is an address, too
    #[error("is an IPv6 address without brackets; write [{0}]:7400, with the port behind the bracket")]
    NoBrackets(Ipv6Addr),
    /// `localhost:7400`
    #[error("names a host; an IP address is needed, such as 127.0.0.1:{0}")]
    Host(String),
    /// `10.0.0.1:99999`
    #[error("has no valid port: \"{0}\" is no number from 0 to 65535")]
    Port(String),
    /// Anything else.
    #[error("is not an address; accepted: {ADDRESS}")]
    Other,
}
