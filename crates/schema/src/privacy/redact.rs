//! Redaction of an event by privacy rules, before it is stored.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ring::hmac;

use super::PrivacyConfig;
use crate::cursor::{Cursor, Malformed, Wire, put_bytes, put_varint, varint_len};
use crate::plan::{Field, Plan, Privacy, ROOT};
use crate::privacy_rule::PrivacyAction;
use crate::table::Rule;
use crate::validate::entry;
use crate::value;

/// A masked text.
const MASK: &str = "***";
/// Bytes of a hash, of the 32 that HMAC-SHA-256 has.
const HASH_BYTES: usize = 16;

/// The privacy rules of a [`Plan`], with their key.
#[derive(Debug)]
pub struct Redactor {
    key: hmac::Key,
    truncate_peer: bool,
    /// Fields that were hashed since the count began.
    hashed: Cell<u32>,
}

impl Redactor {
    /// The redactor of these rules. The [`Plan`] that it is used with is made of the same.
    pub fn new(config: &PrivacyConfig) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, config.key()),
            truncate_peer: config.truncates_peer(),
            hashed: Cell::new(0),
        }
    }

    /// Counts the fields that are hashed from now on.
    pub fn begin_count(&self) {
        self.hashed.set(0);
    }

    /// Fields that were hashed since the count began.
    pub fn hashed(&self) -> u32 {
        self.hashed.get()
    }

    /// The client's address as it is stored.
    pub fn peer(&self, peer: IpAddr) -> IpAddr {
        if self.truncate_peer { truncate(peer) } else { peer }
    }

    /// Appends the event to `out` as the rules leave it.
    ///
    /// # Errors
    /// If the event can't be read; what was appended is of no use.
    pub fn redact(&self, plan: &Plan, event: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        self.message(plan, ROOT, event, out)
    }

    fn message(&self, plan: &Plan, node: u16, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        let node = plan.node(node);
        let mut cursor = Cursor::new(bytes);
        loop {
            let start = cursor.at();
            let Some((number, wire)) = cursor.key()? else { return Ok(()) };
            let private = plan.lookup(node, number).map(|(_, field)| field).filter(|field| field.is_private);
            let Some(field) = private else {
                cursor.skip(number, wire)?;
                out.extend_from_slice(&bytes[start..cursor.at()]);
                continue;
            };
            if wire != field.wire && !field.is_packed() {
                return Err(Malformed);
            }
            if wire != Wire::Bytes || field.is_packed() {
                // Numbers can only be dropped.
                cursor.skip(number, wire)?;
                continue;
            }
            self.field(plan, field, number, cursor.bytes()?, out)?;
        }
    }

    fn field(
        &self,
        plan: &Plan,
        field: &Field,
        number: u32,
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Malformed> {
        match (field.rule, field.rest.privacy.whole) {
            (Rule::Map, whole) => {
                let (key, value) = entry(value).map_err(|_| Malformed)?;
                let (key, value) = (utf8(key)?, utf8(value)?);
                let named = field.rest.privacy.entries.iter().rev().find(|(named, _)| **named == *key);
                match named.map(|(_, action)| *action).or(whole) {
                    Some(PrivacyAction::Drop) => {}
                    Some(action) => self.put_entry(number, key, &self.text(action, value.as_bytes())?, out),
                    None => self.put_entry(number, key, value, out),
                }
            }
            (Rule::TypedMap, _) => self.value_entry(&field.rest.privacy, "", number, value, out)?,
            (_, Some(PrivacyAction::Drop)) => {}
            (Rule::Value, whole) => {
                let redacted = match whole {
                    Some(action) if field.rest.privacy.entries.is_empty() => self.any(action, value)?,
                    _ => self.value(&field.rest.privacy, "", value)?,
                };
                put_bytes(out, number, &redacted);
            }
            (Rule::Message(_) | Rule::List { .. }, _) => {
                put_varint(out, u64::from(number << 3 | 2));
                let start = out.len();
                // Mostly the length takes as many bytes as before.
                let reserved = varint_len(value.len() as u64);
                out.resize(start + reserved, 0);
                self.message(plan, field.child, value, out)?;
                close(out, start, reserved);
            }
            (Rule::Id { len, .. }, Some(_)) if !value.is_empty() => {
                put_bytes(out, number, &self.hash(value)[..len as usize]);
            }
            (Rule::Blob { .. }, Some(_)) => put_bytes(out, number, &self.hash(value)),
            (_, Some(action)) => put_bytes(out, number, self.text(action, value)?.as_bytes()),
            (_, None) => put_bytes(out, number, value),
        }
        Ok(())
    }

    fn put_entry(&self, number: u32, key: &str, value: &str, out: &mut Vec<u8>) {
        let text_len = |text: &str| 1 + varint_len(text.len() as u64) + text.len();
        put_varint(out, u64::from(number << 3 | 2));
        put_varint(out, (text_len(key) + text_len(value)) as u64);
        put_bytes(out, 1, key.as_bytes());
        put_bytes(out, 2, value.as_bytes());
    }

    /// Appends an entry of a map of Values; `path` is the way to that map from the field, with a dot behind it.
    fn value_entry(
        &self,
        rules: &Privacy,
        path: &str,
        number: u32,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Malformed> {
        let (key, value) = value::entry(bytes).map_err(|_| Malformed)?;
        let path = format!("{path}{key}");
        let named = rules.entries.iter().rev().find(|(named, _)| **named == *path);
        let redacted = match named.map(|(_, action)| *action) {
            Some(PrivacyAction::Drop) => return Ok(()),
            Some(action) => self.any(action, value)?,
            None => {
                let is_deeper = rules
                    .entries
                    .iter()
                    .any(|(named, _)| named.strip_prefix(&*path).is_some_and(|rest| rest.starts_with('.')));
                match rules.whole {
                    _ if is_deeper => self.value(rules, &format!("{path}."), value)?,
                    Some(PrivacyAction::Drop) => return Ok(()),
                    Some(action) => self.any(action, value)?,
                    None => value.to_owned(),
                }
            }
        };
        let mut entry = Vec::with_capacity(key.len() + redacted.len() + 8);
        put_bytes(&mut entry, 1, key.as_bytes());
        put_bytes(&mut entry, 2, &redacted);
        put_bytes(out, number, &entry);
        Ok(())
    }

    /// A Value in whose maps rules may name keys; those in a list count as if they stood in its place.
    fn value(&self, rules: &Privacy, path: &str, bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut out = Vec::with_capacity(bytes.len());
        let mut has_items = false;
        let mut cursor = Cursor::new(bytes);
        loop {
            let start = cursor.at();
            let Some((number, wire)) = cursor.key()? else { break };
            if let (value::LIST | value::MAP, Wire::Bytes) = (number, wire) {
                has_items = true;
                let items = self.items(rules, path, number, cursor.bytes()?)?;
                put_bytes(&mut out, number, &items);
            } else {
                cursor.skip(number, wire)?;
                if rules.whole.is_none() {
                    out.extend_from_slice(&bytes[start..cursor.at()]);
                }
            }
        }
        match rules.whole {
            Some(PrivacyAction::Drop) if !has_items => Ok(Vec::new()),
            Some(action) if !has_items => self.any(action, bytes),
            _ => Ok(out),
        }
    }

    /// A ValueList or a ValueMap.
    fn items(&self, rules: &Privacy, path: &str, kind: u32, bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut out = Vec::with_capacity(bytes.len());
        let mut cursor = Cursor::new(bytes);
        loop {
            let start = cursor.at();
            match cursor.key()? {
                None => return Ok(out),
                Some((1, Wire::Bytes)) if kind == value::LIST => {
                    let item = self.value(rules, path, cursor.bytes()?)?;
                    put_bytes(&mut out, 1, &item);
                }
                Some((1, Wire::Bytes)) => self.value_entry(rules, path, 1, cursor.bytes()?, &mut out)?,
                Some((number, wire)) => {
                    cursor.skip(number, wire)?;
                    out.extend_from_slice(&bytes[start..cursor.at()]);
                }
            }
        }
    }

    /// Treats a Value as a whole. Null tells nothing and stays; all others become texts.
    fn any(&self, action: PrivacyAction, bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let text = match cursor.key()? {
            None => return Ok(Vec::new()),
            Some((value::TEXT, Wire::Bytes)) => Some(cursor.bytes()?),
            Some((value::BYTES, Wire::Bytes)) if action == PrivacyAction::Hash => Some(cursor.bytes()?),
            Some(_) => None,
        };
        let redacted = match (text.filter(|_| cursor.at() == bytes.len()), action) {
            (Some(bytes), PrivacyAction::Hash) if !bytes.is_empty() => hex(&self.hash(bytes)),
            (Some(text), _) => self.text(action, text)?,
            (None, PrivacyAction::Hash) => hex(&self.hash(bytes)),
            (None, _) => MASK.to_owned(),
        };
        let mut out = Vec::with_capacity(redacted.len() + 2);
        put_bytes(&mut out, value::TEXT, redacted.as_bytes());
        Ok(out)
    }

    /// A text as the action leaves it. An empty one tells nothing and stays.
    fn text(&self, action: PrivacyAction, value: &[u8]) -> Result<String, Malformed> {
        let text = utf8(value)?;
        Ok(match action {
            _ if text.is_empty() => String::new(),
            PrivacyAction::Drop | PrivacyAction::Mask => MASK.to_owned(),
            PrivacyAction::Hash => hex(&self.hash(value)),
            PrivacyAction::Truncate => {
                text.parse().map_or_else(|_| MASK.to_owned(), |address| truncate(address).to_string())
            }
        })
    }

    fn hash(&self, value: &[u8]) -> [u8; HASH_BYTES] {
        self.hashed.set(self.hashed.get().saturating_add(1));
        let tag = hmac::sign(&self.key, value);
        *tag.as_ref().first_chunk().expect("HMAC-SHA-256 has 32 bytes")
    }
}

/// Writes the length of what is behind it into the `reserved` bytes at `start`, or into as many as it takes.
fn close(out: &mut Vec<u8>, start: usize, reserved: usize) {
    let body = start + reserved;
    let length = out.len() - body;
    let needed = varint_len(length as u64);
    if needed > reserved {
        out.resize(out.len() + needed - reserved, 0);
        out.copy_within(body..body + length, start + needed);
    } else if needed < reserved {
        out.copy_within(body..body + length, start + needed);
        out.truncate(start + needed + length);
    }
    let mut rest = length;
    for (index, byte) in out[start..start + needed].iter_mut().enumerate() {
        *byte = rest as u8 & 0x7F | if index + 1 < needed { 0x80 } else { 0 };
        rest >>= 7;
    }
}

/// The network of an address: of IPv4 the /24, of IPv6 the /48.
fn truncate(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & !0xFF)),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 80 << 80)),
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn utf8(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lose_what_tells_one_client_from_another() {
        let check = |address: &str, expected: &str| {
            assert_eq!(truncate(address.parse().unwrap()).to_string(), expected, "{address}");
        };
        check("192.0.2.77", "192.0.2.0");
        check("::ffff:192.0.2.77", "192.0.2.0");
        check("2001:db8:1:2:3:4:5:6", "2001:db8:1::");
        check("::1", "::");
    }

    #[test]
    fn a_length_finds_its_room() {
        for (body, reserved) in [(0, 1), (3, 2), (127, 2), (128, 1), (20_000, 1), (20_000, 3), (5, 3)] {
            let mut out = vec![0xAA; 2 + reserved];
            out.extend((0..body).map(|index| index as u8));
            close(&mut out, 2, reserved);
            let mut cursor = Cursor::new(&out[2..]);
            let expected: Vec<u8> = (0..body).map(|index| index as u8).collect();
            assert_eq!(cursor.bytes(), Ok(&expected[..]), "{body} {reserved}");
            assert_eq!(cursor.at(), out.len() - 2);
        }
    }

    #[test]
    fn hashes_are_hmac_sha_256() {
        // RFC 4231, test case 2, whose key "Jefe" is padded with zeros like every short one.
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        let redactor = Redactor::new(&PrivacyConfig::new(Vec::new(), key, false).unwrap());
        assert_eq!(hex(&redactor.hash(b"what do ya want for nothing?")), "5bdcc146bf60754e6a042426089575c7");
    }
}
