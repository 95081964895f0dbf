//! Protobuf payloads (faults 7, 9): bounded in time and memory, whatever they say.

use tickstream_wire::messages::{Ack, Auth, DataBatch, ErrorMsg, GoAway, Message, Subscribe};

use crate::memory::allocated;

/// The first byte names the message.
///
/// # Panics
/// If decoding takes more memory than its bytes explain, or what was decoded isn't the same once more.
pub fn payloads(input: &[u8]) {
    let Some((&kind, payload)) = input.split_first() else { return };
    match kind % 6 {
        0 => check::<Auth>(payload),
        1 => check::<Subscribe>(payload),
        2 => check::<DataBatch>(payload),
        3 => check::<ErrorMsg>(payload),
        4 => check::<Ack>(payload),
        _ => check::<GoAway>(payload),
    }
}

fn check<M: Message + Default + PartialEq + std::fmt::Debug>(payload: &[u8]) {
    let (decoded, bytes) = allocated(|| M::decode(payload));
    // A tick takes two bytes at least, and sixteen in memory, in a vector that doubles.
    let most = 32 * payload.len() + 1_024;
    assert!(bytes <= most, "{bytes} bytes allocated for {} that came", payload.len());
    if let Ok(message) = decoded {
        let again = M::decode(&message.encode_to_vec()[..]);
        assert!(again.as_ref() == Ok(&message), "{message:?} reads back as {again:?}");
    }
}
