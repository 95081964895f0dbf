//! Reading a body, within bounds of size, time and memory.

use std::{error::Error, io, time::Duration};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time;

use super::{Refusal, framing::Problem};
use crate::{budget::Reservation, intake::Intake};

/// Bounds of a body.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyLimits {
    /// Most bytes, as it comes.
    pub bytes: usize,
    /// Time for all of it.
    pub timeout: Duration,
}

/// Reads all of a body into memory of the reservation.
pub(super) async fn read(
    body: Incoming,
    limits: BodyLimits,
    reservation: &mut Reservation,
) -> Result<Bytes, Refusal> {
    // What Content-Length says is refused before a byte of it is read.
    if body.size_hint().lower() > limits.bytes as u64 {
        return Err(Refusal::TooLarge { bytes_max: limits.bytes });
    }
    let read = collect(body, limits.bytes, reservation);
    time::timeout(limits.timeout, read).await.unwrap_or(Err(Refusal::Slow(limits.timeout)))
}

/// Most bytes of a body that nobody wants, and the time for them: so that its sender gets the answer, and keeps its connection.
const UNREAD_BYTES_MAX: u64 = 64 * 1024;
const UNREAD_TIMEOUT: Duration = Duration::from_secs(1);

/// Reads a body that nobody wants: true if it is over.
pub(super) async fn pass_over(mut body: Incoming) -> bool {
    let mut left = UNREAD_BYTES_MAX;
    if body.size_hint().lower() > left {
        return false;
    }
    let read = async {
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            left = left.saturating_sub(frame.data_ref().map_or(0, |data| data.len() as u64));
            if left == 0 {
                return false;
            }
        }
        true
    };
    time::timeout(UNREAD_TIMEOUT, read).await.unwrap_or(false)
}

async fn collect(
    mut body: Incoming,
    bytes_max: usize,
    reservation: &mut Reservation,
) -> Result<Bytes, Refusal> {
    let expected = body.size_hint().exact().unwrap_or_default() as usize;
    let mut first: Option<Bytes> = None;
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| broken(&error))?.into_data() else { continue };
        if all.len() + first.as_ref().map_or(0, Bytes::len) + data.len() > bytes_max {
            return Err(Refusal::TooLarge { bytes_max });
        }
        if !reservation.grow(data.len()) {
            return Err(Intake::full().into());
        }
        match (first.take(), all.is_empty()) {
            // Most bodies come in one piece, which needs no copy.
            (None, true) => first = Some(data),
            (before, _) => {
                if let Some(before) = before {
                    all.reserve(expected.max(before.len() + data.len()));
                    all.extend_from_slice(&before);
                }
                all.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| all.freeze()))
}

/// The refusal of a body that can't be read.
fn broken(error: &hyper::Error) -> Refusal {
    let io_error = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    let problem = io_error.and_then(|error| error.get_ref()?.downcast_ref::<Problem>());
    problem.map_or(Refusal::Incomplete, |problem| Refusal::Framing(*problem))
}
