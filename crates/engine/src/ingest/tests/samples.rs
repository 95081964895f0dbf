//! Events, and batches of them.

#[path = "../../../../../tests/events/samples.rs"]
mod events;

pub(crate) use events::{event, event_id, events, log, publish};
use tickstream_schema::events::{Codec, EventBatch, Message, Publish};

/// The same batch, packed.
pub(crate) fn packed(mut publish: Publish, codec: Codec) -> Publish {
    let batch = EventBatch { events: std::mem::take(&mut publish.events) }.encode_to_vec();
    publish.compressed = match codec {
        Codec::None => panic!("not a packing"),
        Codec::Lz4 => lz4_flex::block::compress_prepend_size(&batch),
        Codec::Zstd => {
            ruzstd::encoding::compress_to_vec(&batch[..], ruzstd::encoding::CompressionLevel::Fastest)
        }
    };
    publish.codec = codec.into();
    publish
}
