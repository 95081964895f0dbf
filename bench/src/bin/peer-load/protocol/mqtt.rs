//! MQTT 3.1.1, QoS 0: <https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/os/mqtt-v3.1.1-os.html>

use super::{Event, PAYLOAD_MAX, Parsed, Stop};

// The first byte of a packet: type, and flags that are fixed for all of these (section 2.2).
const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;

/// Bytes of a remaining length at most (section 2.2.3).
const LENGTH_BYTES_MAX: usize = 4;
/// SUBACK for a topic that may not be subscribed to (section 3.9.3).
const SUBACK_FAILURE: u8 = 0x80;

/// CONNECT with a clean session and no keep-alive. More may follow before it is answered (section 3.1.4).
pub fn connect(id: &str) -> Vec<u8> {
    const LEVEL: u8 = 4;
    const CLEAN_SESSION: u8 = 2;
    let mut body = string("MQTT");
    body.extend_from_slice(&[LEVEL, CLEAN_SESSION, 0, 0]);
    body.extend(string(id));
    packet(CONNECT, &body)
}

/// SUBSCRIBE with QoS 0.
pub fn subscribe(topic: &str) -> Vec<u8> {
    const PACKET_ID: [u8; 2] = [0, 1];
    packet(SUBSCRIBE, &[&PACKET_ID[..], &string(topic), &[0]].concat())
}

/// PUBLISH with QoS 0.
pub fn publish(topic: &str, payload: &[u8]) -> Vec<u8> {
    packet(PUBLISH, &[&string(topic), payload].concat())
}

/// The first event of `bytes`.
pub fn next(bytes: &[u8]) -> Parsed<'_> {
    let &first = bytes.first().ok_or(Stop::Incomplete)?;
    let (len, head) = remaining_length(&bytes[1..])?;
    let start = 1 + head;
    let body = bytes.get(start..start + len).ok_or(Stop::Incomplete)?;
    let event = match (first & 0xF0, body) {
        (CONNACK, [_, 0]) => Event::Other,
        (CONNACK, [_, code]) => return Err(Stop::Refused(format!("CONNACK {code}"))),
        (SUBACK, [_, _, SUBACK_FAILURE]) => return Err(Stop::Refused("SUBACK".into())),
        (SUBACK, [_, _, _]) => Event::Subscribed,
        (PUBLISH, [high, low, rest @ ..]) => {
            // QoS 0 has no packet identifier between topic and payload.
            let topic_len = usize::from(u16::from_be_bytes([*high, *low]));
            Event::Message(rest.get(topic_len..).ok_or(Stop::Violation("MQTT: topic"))?)
        }
        _ => return Err(Stop::Violation("MQTT: unexpected packet")),
    };
    Ok((event, start + len))
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut rest = body.len();
    loop {
        let digit = (rest % 128) as u8;
        rest /= 128;
        bytes.push(if rest > 0 { digit | 0x80 } else { digit });
        if rest == 0 {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

fn string(text: &str) -> Vec<u8> {
    let len = u16::try_from(text.len()).expect("channels and identifiers are short");
    [&len.to_be_bytes()[..], text.as_bytes()].concat()
}

/// The length that `bytes` begin with, and how many bytes it took.
fn remaining_length(bytes: &[u8]) -> Result<(usize, usize), Stop> {
    let mut len = 0;
    for (at, byte) in bytes.iter().take(LENGTH_BYTES_MAX).enumerate() {
        len |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            let fits = len as u64 <= PAYLOAD_MAX;
            return if fits { Ok((len, at + 1)) } else { Err(Stop::Violation("MQTT: a packet above 1 MiB")) };
        }
    }
    let whole = bytes.len() >= LENGTH_BYTES_MAX;
    Err(if whole { Stop::Violation("MQTT: length") } else { Stop::Incomplete })
}

#[cfg(test)]
pub(super) const SAID: &[u8] =
    b"\x20\x02\x00\x00\x90\x03\x00\x01\x00\x30\x0c\x00\x05ticksfirst\x30\x07\x00\x05ticks";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_those_of_the_specification() {
        assert_eq!(connect("s1"), b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x00\x00\x02s1");
        assert_eq!(subscribe("ticks"), b"\x82\x0a\x00\x01\x00\x05ticks\x00");
        assert_eq!(publish("ticks", b"abc"), b"\x30\x0a\x00\x05ticksabc");
    }

    #[test]
    fn a_long_packet_is_read_as_it_was_written() {
        let payload = [b'x'; 20_000];
        let bytes = publish("ticks", &payload);
        assert_eq!(next(&bytes), Ok((Event::Message(&payload), bytes.len())));
    }

    #[test]
    fn refusals_are_reported() {
        for bytes in [&b"\x20\x02\x00\x05"[..], b"\x90\x03\x00\x01\x80"] {
            assert!(matches!(next(bytes), Err(Stop::Refused(_))));
        }
    }

    #[test]
    fn what_is_no_mqtt_is_refused() {
        for bytes in
            [&b"\x00\x00"[..], b"\x30\xff\xff\xff\xff", b"\x30\xff\xff\x7f", b"\x30\x02\x00\x05", b"\x20\x00"]
        {
            assert!(matches!(next(bytes), Err(Stop::Violation(_))), "{bytes:?}");
        }
    }
}
