//! The three protocols: what is said, and what the answers mean. Without I/O.

mod mqtt;
mod nats;
mod resp;

use clap::ValueEnum;

/// A server that tickstream is compared with, by its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// RESP, pub/sub
    Redis,
    /// NATS core
    Nats,
    /// MQTT 3.1.1, QoS 0
    Mosquitto,
}

/// Something that a server said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The subscription holds.
    Subscribed,
    /// A message of the channel.
    Message(&'a [u8]),
    /// Wants [`Peer::pong`].
    Ping,
    /// Nothing that matters here.
    Other,
}

/// Why there is no event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// More bytes are needed.
    #[error("cut short")]
    Incomplete,
    /// Bytes that the protocol doesn't know.
    #[error("not the protocol: {0}")]
    Violation(&'static str),
    /// The server says no.
    #[error("refused: {0}")]
    Refused(String),
}

/// An event, and how many bytes it took.
type Parsed<'a> = Result<(Event<'a>, usize), Stop>;

impl Peer {
    /// As on the command line and in the summary.
    pub fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Nats => "nats",
            Self::Mosquitto => "mosquitto",
        }
    }

    /// First bytes of a connection; `id` is its own.
    pub fn hello(self, id: &str) -> Vec<u8> {
        match self {
            Self::Redis => Vec::new(),
            Self::Nats => nats::connect(),
            Self::Mosquitto => mqtt::connect(id),
        }
    }

    /// Subscribes to `channel`; the answer is [`Event::Subscribed`].
    pub fn subscribe(self, channel: &str) -> Vec<u8> {
        match self {
            Self::Redis => resp::command(&[b"SUBSCRIBE", channel.as_bytes()]),
            Self::Nats => nats::subscribe(channel),
            Self::Mosquitto => mqtt::subscribe(channel),
        }
    }

    /// Publishes `payload` in `channel`.
    pub fn publish(self, channel: &str, payload: &[u8]) -> Vec<u8> {
        match self {
            Self::Redis => resp::command(&[b"PUBLISH", channel.as_bytes(), payload]),
            Self::Nats => nats::publish(channel, payload),
            Self::Mosquitto => mqtt::publish(channel, payload),
        }
    }

    /// The answer to [`Event::Ping`].
    pub fn pong(self) -> &'static [u8] {
        match self {
            // Neither server asks.
            Self::Redis | Self::Mosquitto => b"",
            Self::Nats => nats::PONG,
        }
    }

    /// The first event of `bytes`.
    fn next(self, bytes: &[u8]) -> Parsed<'_> {
        match self {
            Self::Redis => resp::next(bytes),
            Self::Nats => nats::next(bytes),
            Self::Mosquitto => mqtt::next(bytes),
        }
    }
}

/// Puts together what TCP took apart, for one connection.
#[derive(Debug, Default)]
pub struct Inbox {
    /// The beginning of an event whose end hasn't come.
    left: Vec<u8>,
}

impl Inbox {
    /// Hands every event that `bytes` complete to `take`.
    ///
    /// # Errors
    /// [`Stop::Violation`] or [`Stop::Refused`]; the connection is of no use then.
    pub fn feed(&mut self, peer: Peer, bytes: &[u8], mut take: impl FnMut(Event<'_>)) -> Result<(), Stop> {
        if self.left.is_empty() {
            let used = drain(peer, bytes, &mut take)?;
            self.left.extend_from_slice(&bytes[used..]);
        } else {
            self.left.extend_from_slice(bytes);
            let used = drain(peer, &self.left, &mut take)?;
            self.left.drain(..used);
        }
        Ok(())
    }
}

/// Takes every whole event of `bytes`, and answers how many bytes they were.
fn drain(peer: Peer, bytes: &[u8], take: &mut impl FnMut(Event<'_>)) -> Result<usize, Stop> {
    let mut used = 0;
    loop {
        match peer.next(&bytes[used..]) {
            Ok((event, len)) => {
                take(event);
                used += len;
            }
            Err(Stop::Incomplete) => return Ok(used),
            Err(stop) => return Err(stop),
        }
    }
}

/// Longest line of the text protocols; NATS's INFO has some hundred bytes.
const LINE_MAX: usize = 64 << 10;
/// Longest payload.
const PAYLOAD_MAX: u64 = 1 << 20;

/// The line that `bytes` begin with, without its end, and the length with it.
fn line(bytes: &[u8]) -> Result<(&[u8], usize), Stop> {
    match bytes.windows(2).position(|pair| pair == b"\r\n") {
        Some(len) => Ok((&bytes[..len], len + 2)),
        None if bytes.len() > LINE_MAX => Err(Stop::Violation("a line without end")),
        None => Err(Stop::Incomplete),
    }
}

/// The `len` bytes and the end of line that `bytes` begin with.
fn block(bytes: &[u8], len: u64) -> Result<&[u8], Stop> {
    if len > PAYLOAD_MAX {
        return Err(Stop::Violation("a payload above 1 MiB"));
    }
    let len = len as usize;
    match bytes.get(len..len + 2) {
        Some(b"\r\n") => Ok(&bytes[..len]),
        Some(_) => Err(Stop::Violation("a payload without its end of line")),
        None => Err(Stop::Incomplete),
    }
}

/// Tests of each protocol's parser.
#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Events as text, fed in pieces of the lengths in `cuts`, in turn.
    pub(super) fn events_of(peer: Peer, bytes: &[u8], cuts: &[usize]) -> (Vec<String>, Result<(), Stop>) {
        let (mut inbox, mut events, mut at) = (Inbox::default(), Vec::new(), 0);
        for cut in cuts.iter().cycle() {
            let end = (at + cut).min(bytes.len());
            let fed = inbox.feed(peer, &bytes[at..end], |event| {
                events.push(match event {
                    Event::Message(payload) => String::from_utf8_lossy(payload).into_owned(),
                    other => format!("{other:?}"),
                });
            });
            if fed.is_err() || end == bytes.len() {
                return (events, fed);
            }
            at = end;
        }
        (events, Ok(()))
    }

    /// Bytes of each server to a subscriber, with two messages; and their meaning.
    const SAID: [(Peer, &[u8], &[&str]); 3] = [
        (Peer::Redis, resp::SAID, &["Subscribed", "first", "", "Other"]),
        (Peer::Nats, nats::SAID, &["Other", "Subscribed", "first", "Ping", ""]),
        (Peer::Mosquitto, mqtt::SAID, &["Other", "Subscribed", "first", ""]),
    ];

    #[test]
    fn a_subscriber_is_told_what_was_said() {
        for (peer, said, expected) in SAID {
            let (events, end) = events_of(peer, said, &[said.len()]);
            assert_eq!((events, end), (expected.iter().map(|&event| event.to_owned()).collect(), Ok(())));
        }
    }

    proptest! {
        #[test]
        fn however_it_was_cut(cuts in prop::collection::vec(1..20_usize, 1..40)) {
            for (peer, said, expected) in SAID {
                let (events, end) = events_of(peer, said, &cuts);
                prop_assert_eq!(end, Ok(()));
                prop_assert_eq!(events, expected);
            }
        }

        #[test]
        fn no_bytes_make_a_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for (peer, _, _) in SAID {
                let _ = events_of(peer, &bytes, &[7, 1, 30]);
            }
        }
    }
}
