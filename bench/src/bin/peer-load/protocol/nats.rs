//! NATS core: <https://docs.nats.io/reference/reference-protocols/nats-protocol>

use super::{Event, Parsed, Stop, block, line};
use crate::message::number;

/// The answer to PING.
pub const PONG: &[u8] = b"PONG\r\n";

/// CONNECT; without `verbose` nothing is answered but errors.
pub fn connect() -> Vec<u8> {
    b"CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"rust\",\"version\":\"1\",\"protocol\":1}\r\n"
        .to_vec()
}

/// SUB, and PING: its PONG says that the subscription was read.
pub fn subscribe(subject: &str) -> Vec<u8> {
    format!("SUB {subject} 1\r\nPING\r\n").into_bytes()
}

/// PUB.
pub fn publish(subject: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("PUB {subject} {}\r\n", payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// The first event of `bytes`.
pub fn next(bytes: &[u8]) -> Parsed<'_> {
    let (head, used) = line(bytes)?;
    let (verb, rest) = match head.iter().position(|&byte| byte == b' ') {
        Some(at) => (&head[..at], &head[at + 1..]),
        None => (head, &b""[..]),
    };
    match verb {
        b"MSG" => {
            // subject, subscription, perhaps a subject for replies, length
            let len = rest.rsplit(|&byte| byte == b' ').next().and_then(number);
            let payload = block(&bytes[used..], len.ok_or(Stop::Violation("NATS: length"))?)?;
            Ok((Event::Message(payload), used + payload.len() + 2))
        }
        b"PING" => Ok((Event::Ping, used)),
        b"PONG" => Ok((Event::Subscribed, used)),
        b"INFO" | b"+OK" => Ok((Event::Other, used)),
        b"-ERR" => Err(Stop::Refused(String::from_utf8_lossy(rest).into_owned())),
        _ => Err(Stop::Violation("NATS: unexpected verb")),
    }
}

#[cfg(test)]
pub(super) const SAID: &[u8] = b"INFO {\"server_id\":\"x y\",\"max_payload\":1048576}\r\nPONG\r\n\
    MSG ticks 1 5\r\nfirst\r\nPING\r\nMSG ticks 1 reply.to 0\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_published_with_its_length() {
        assert_eq!(publish("ticks", b"abc"), b"PUB ticks 3\r\nabc\r\n");
    }

    #[test]
    fn a_full_server_says_so() {
        let refused = Stop::Refused("'maximum connections exceeded'".into());
        assert_eq!(next(b"-ERR 'maximum connections exceeded'\r\n"), Err(refused));
    }

    #[test]
    fn what_is_no_nats_is_refused() {
        for bytes in [
            "HTTP/1.1 200 OK\r\n",
            "MSG ticks 1 x\r\n",
            "MSG\r\n",
            "MSG a 1 1\r\nabcd",
            "MSG a 1 9999999\r\n",
        ] {
            assert!(matches!(next(bytes.as_bytes()), Err(Stop::Violation(_))), "{bytes}");
        }
    }
}
