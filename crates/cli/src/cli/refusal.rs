//! Refusals of a server, as exit codes and advice.

use std::time::Duration;

use tickstream_client::{Error, ErrorCode};

use crate::exit;

/// A server's refusal of a client, and its duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No refusal.
    None,
    /// Trying again is of no use.
    ForGood,
    /// The same client may be accepted later, at best after this time, where the server named one.
    ForNow(Option<Duration>),
}

impl Refusal {
    /// The refusal in an error of the client library.
    pub fn of(error: &Error) -> Self {
        match error {
            Error::Refused { code, retry_after, .. } => match code {
                ErrorCode::RateLimited | ErrorCode::ServerBusy | ErrorCode::ShuttingDown => {
                    Self::ForNow(*retry_after)
                }
                _ if error.is_retryable() => Self::None,
                _ => Self::ForGood,
            },
            Error::GoAway { .. } => Self::ForNow(None),
            Error::CollectionOff { .. } => Self::ForGood,
            Error::Tls { problem, .. } if problem.is_refusal() => Self::ForGood,
            _ => Self::None,
        }
    }

    /// The process's exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::None => exit::FAILURE,
            Self::ForGood => exit::REFUSED,
            Self::ForNow(_) => exit::TRY_LATER,
        }
    }

    /// The end of an error's sentence: when to try again. Rounded up, so that it is never too early.
    pub fn advice(self) -> String {
        match self {
            Self::None | Self::ForGood => String::new(),
            Self::ForNow(None) => "; try again later".to_owned(),
            Self::ForNow(Some(after)) if after < Duration::from_secs(1) => {
                format!("; try again in {} ms", after.as_nanos().div_ceil(1_000_000))
            }
            Self::ForNow(Some(after)) => {
                format!("; try again in {} s", after.as_millis().div_ceil(1_000))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_the_protocol_has_an_exit_code() {
        let check = |code, retry_after: Option<u64>, expected: (u8, &str)| {
            let retry_after = retry_after.map(Duration::from_millis);
            let refusal = Refusal::of(&Error::Refused { code, message: String::new(), retry_after });
            assert_eq!((refusal.exit_code(), &*refusal.advice()), expected, "{code}");
        };
        check(ErrorCode::RateLimited, Some(4_100), (5, "; try again in 5 s"));
        check(ErrorCode::ServerBusy, Some(250), (5, "; try again in 250 ms"));
        check(ErrorCode::ServerBusy, None, (5, "; try again later"));
        check(ErrorCode::ShuttingDown, None, (5, "; try again later"));
        check(ErrorCode::AuthFailed, Some(1_000), (3, ""));
        check(ErrorCode::PermissionDenied, None, (3, ""));
        check(ErrorCode::UnsupportedVersion, None, (3, ""));
        check(ErrorCode::Internal, None, (1, ""));
        let off = Refusal::of(&Error::CollectionOff { server: String::new() });
        assert_eq!((off.exit_code(), &*off.advice()), (3, ""));
    }
}
