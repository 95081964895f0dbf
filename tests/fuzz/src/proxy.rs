//! The header of the PROXY protocol (fault 14), as a shard reads it from a trusted proxy.

use tickstream_engine::{Now, ProxyProtocol, Shard, Standing};

use crate::memory::allocated;
use crate::session::settings;

/// The first byte says how the rest is cut; who the client is must not depend on it.
///
/// # Panics
/// If it does, or if more than a header is held.
pub fn proxy(input: &[u8]) {
    let Some((&seed, stream)) = input.split_first() else { return };
    let stream = &stream[..stream.len().min(4_096)];
    let length = usize::from(seed % 31) + 1;
    for mode in [ProxyProtocol::Required, ProxyProtocol::Optional] {
        let whole = read(mode, std::iter::once(stream));
        let cut = read(mode, stream.chunks(length));
        assert_eq!(whole, cut, "{mode:?}, cut into pieces of {length}");
    }
}

/// The client's address by the shard, the progress of the connection, and the reason of its close.
fn read<'a>(mode: ProxyProtocol, pieces: impl Iterator<Item = &'a [u8]>) -> (String, Standing, String) {
    let mut shard = Shard::new(settings(mode), Now { mono_ns: 1, unix_ns: 1_790_000_000_000_000_000 });
    let conn = shard.accept(([10, 0, 0, 1], 5_000).into(), true).expect("room for one");
    let mut read = 0;
    for piece in pieces {
        if !shard.awaits_proxy_header(conn) {
            break;
        }
        read += piece.len();
        let (rest, bytes) = allocated(|| shard.received(conn, piece).len());
        assert!(rest <= piece.len());
        // A line of version 1 is taken apart into as many fields as it has spaces: 107 at most.
        assert!(
            bytes <= 4 * (read.min(2_048) + piece.len()) + 8_192,
            "{bytes} bytes allocated behind {read}"
        );
    }
    let seen = shard.connection(conn.slot).expect("it is there");
    let reason = shard.poll_report().map_or(String::new(), |report| report.reason.as_str().to_owned());
    (seen.peer.to_string(), seen.standing, reason)
}
