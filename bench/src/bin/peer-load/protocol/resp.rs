//! RESP2, as far as pub/sub needs it: <https://redis.io/docs/latest/develop/reference/protocol-spec/>

use super::{Event, Parsed, Stop, block, line};
use crate::message::number;

/// A command is an array of bulk strings.
pub fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// The first event of `bytes`.
pub fn next(bytes: &[u8]) -> Parsed<'_> {
    let (head, used) = line(bytes)?;
    match head.split_first() {
        // A subscriber is told kind, channel, and payload or count.
        Some((b'*', b"3")) => push(bytes, used),
        Some((b'+' | b':', _)) => Ok((Event::Other, used)),
        Some((b'-', error)) => Err(Stop::Refused(String::from_utf8_lossy(error).into_owned())),
        _ => Err(Stop::Violation("RESP: unexpected type")),
    }
}

fn push(bytes: &[u8], mut at: usize) -> Parsed<'_> {
    let mut word = || {
        let (word, len) = value(&bytes[at..])?;
        at += len;
        Ok(word)
    };
    let (kind, _channel, last) = (word()?, word()?, word()?);
    let event = match kind {
        b"message" => Event::Message(last),
        b"subscribe" => Event::Subscribed,
        _ => Event::Other,
    };
    Ok((event, at))
}

/// A bulk string, or the digits of an integer.
fn value(bytes: &[u8]) -> Result<(&[u8], usize), Stop> {
    let (head, used) = line(bytes)?;
    match head.split_first() {
        Some((b':', digits)) => Ok((digits, used)),
        Some((b'$', digits)) => {
            let len = number(digits).ok_or(Stop::Violation("RESP: length"))?;
            let word = block(&bytes[used..], len)?;
            Ok((word, used + word.len() + 2))
        }
        _ => Err(Stop::Violation("RESP: unexpected element")),
    }
}

#[cfg(test)]
pub(super) const SAID: &[u8] = b"*3\r\n$9\r\nsubscribe\r\n$5\r\nticks\r\n:1\r\n\
    *3\r\n$7\r\nmessage\r\n$5\r\nticks\r\n$5\r\nfirst\r\n*3\r\n$7\r\nmessage\r\n$5\r\nticks\r\n$0\r\n\r\n:10000\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_an_array_of_bulk_strings() {
        assert_eq!(
            command(&[b"PUBLISH", b"a", b"\r\n"]),
            b"*3\r\n$7\r\nPUBLISH\r\n$1\r\na\r\n$2\r\n\r\n\r\n"
        );
    }

    #[test]
    fn a_full_server_says_so() {
        let refused = Stop::Refused("ERR max number of clients reached".into());
        assert_eq!(next(b"-ERR max number of clients reached\r\n"), Err(refused));
    }

    #[test]
    fn what_is_no_resp_is_refused() {
        for bytes in ["HTTP/1.1 200 OK\r\n", "*3\r\n+x\r\n", "*3\r\n$-1\r\n", "*3\r\n$1\r\nxyz", "\r\n"] {
            assert!(matches!(next(bytes.as_bytes()), Err(Stop::Violation(_))), "{bytes}");
        }
    }
}
