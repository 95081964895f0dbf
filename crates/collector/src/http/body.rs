//! Reading a body, within bounds of size, time and memory.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time;

use super::Refusal;
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

async fn collect(
    mut body: Incoming,
    bytes_max: usize,
    reservation: &mut Reservation,
) -> Result<Bytes, Refusal> {
    let expected = body.size_hint().exact().unwrap_or_default() as usize;
    let mut first: Option<Bytes> = None;
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Refusal::Incomplete)?.into_data() else { continue };
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
