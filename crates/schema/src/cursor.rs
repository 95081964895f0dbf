//! Reading protobuf where it lies: a cursor that can't leave its bytes, copies nothing and allocates nothing.

/// Groups nested deeper than this are refused. prost refuses them at 100, messages around them counted.
const GROUP_DEPTH_MAX: u32 = 64;

/// Bytes that no protobuf reader takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The layout of a field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// A varint.
    Varint,
    /// Eight bytes.
    Fixed64,
    /// Bytes behind their length.
    Bytes,
    /// The begin of a group.
    GroupStart,
    /// The end of a group.
    GroupEnd,
    /// Four bytes.
    Fixed32,
}

/// A place in the fields of one message.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The first field of a message.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes that were read.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Number and layout of the next field; `None` at the end.
    #[inline]
    pub fn key(&mut self) -> Result<Option<(u32, Wire)>, Malformed> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let key = u32::try_from(self.varint()?).map_err(|_| Malformed)?;
        let wire = match key & 7 {
            0 => Wire::Varint,
            1 => Wire::Fixed64,
            2 => Wire::Bytes,
            3 => Wire::GroupStart,
            4 => Wire::GroupEnd,
            5 => Wire::Fixed32,
            _ => return Err(Malformed),
        };
        if key < 8 { Err(Malformed) } else { Ok(Some((key >> 3, wire))) }
    }

    /// A number of 1 to 10 bytes.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for index in 0..10 {
            let &byte = self.bytes.get(self.at + index).ok_or(Malformed)?;
            value |= u64::from(byte & 0x7F) << (7 * index);
            if byte < 0x80 {
                // The tenth byte has room for the 64th bit alone.
                if index == 9 && byte > 1 {
                    return Err(Malformed);
                }
                self.at += index + 1;
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    /// Bytes behind their length.
    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.varint()?;
        let rest = &self.bytes[self.at..];
        if length > rest.len() as u64 {
            return Err(Malformed);
        }
        self.at += length as usize;
        Ok(&rest[..length as usize])
    }

    /// Eight bytes, little-endian.
    #[inline]
    pub fn fixed64(&mut self) -> Result<u64, Malformed> {
        let &bytes = self.bytes[self.at..].first_chunk::<8>().ok_or(Malformed)?;
        self.at += 8;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Four bytes, little-endian.
    #[inline]
    pub fn fixed32(&mut self) -> Result<u32, Malformed> {
        let &bytes = self.bytes[self.at..].first_chunk::<4>().ok_or(Malformed)?;
        self.at += 4;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Passes over the value of a field that isn't known.
    pub fn skip(&mut self, number: u32, wire: Wire) -> Result<(), Malformed> {
        match wire {
            Wire::Varint => self.varint().map(drop),
            Wire::Fixed64 => self.fixed64().map(drop),
            Wire::Bytes => self.bytes().map(drop),
            Wire::Fixed32 => self.fixed32().map(drop),
            Wire::GroupStart => self.skip_group(number, GROUP_DEPTH_MAX),
            Wire::GroupEnd => Err(Malformed),
        }
    }

    fn skip_group(&mut self, number: u32, depth: u32) -> Result<(), Malformed> {
        if depth == 0 {
            return Err(Malformed);
        }
        loop {
            match self.key()?.ok_or(Malformed)? {
                (end, Wire::GroupEnd) if end == number => return Ok(()),
                (inner, Wire::GroupStart) => self.skip_group(inner, depth - 1)?,
                (inner, wire) => self.skip(inner, wire)?,
            }
        }
    }
}

/// Appends a varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes that [`put_varint`] appends.
pub const fn varint_len(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// Appends key, length and value of a field of bytes.
pub fn put_bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    put_varint(out, u64::from(number << 3 | 2));
    put_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Appends key and value of a varint field, unless it is 0.
pub fn put_number(out: &mut Vec<u8>, number: u32, value: u64) {
    if value != 0 {
        put_varint(out, u64::from(number << 3));
        put_varint(out, value);
    }
}

#[cfg(test)]
mod tests {
    use crate::events::{Message, Rejected};
    use proptest::prelude::*;

    use super::*;

    /// True if all fields can be passed over.
    fn walks(bytes: &[u8]) -> bool {
        let mut cursor = Cursor::new(bytes);
        loop {
            match cursor.key() {
                Ok(None) => return true,
                Ok(Some((number, wire))) if cursor.skip(number, wire).is_ok() => {}
                _ => return false,
            }
        }
    }

    #[test]
    fn varints_end_where_they_should() {
        let check = |bytes: &[u8], expected| assert_eq!(Cursor::new(bytes).varint(), expected, "{bytes:x?}");
        check(&[], Err(Malformed));
        check(&[0x80], Err(Malformed));
        check(&[0x80, 0], Ok(0));
        check(&[0xff, 0x01], Ok(255));
        check(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], Ok(u64::MAX));
        check(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], Err(Malformed));
        check(&[0x80; 11], Err(Malformed));
    }

    #[test]
    fn groups_are_passed_over_to_a_depth() {
        assert!(walks(b"\x7b\x08\x01\x7c"), "field 15 as a group");
        assert!(!walks(b"\x7b\x08\x01"));
        assert!(!walks(b"\x7b\x74"), "another's end");
        assert!(!walks(b"\x7c"));
        let nested = |depth| [vec![0x7b; depth], vec![0x7c; depth]].concat();
        assert!(walks(&nested(64)));
        assert!(!walks(&nested(65)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_as_long_as_told(value: u64) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            prop_assert_eq!(out.len(), varint_len(value));
            prop_assert_eq!(Cursor::new(&out).varint(), Ok(value));
        }

        #[test]
        fn noise_is_passed_over_where_prost_passes_over_it(noise in prop::collection::vec(any::<u8>(), 0..40)) {
            // Fields of Rejected (1 to 4) have layouts that prost checks: all others are unknown to it.
            let mut cursor = Cursor::new(&noise);
            let mut known = false;
            while let Ok(Some((number, wire))) = cursor.key() {
                known |= number <= 4;
                if cursor.skip(number, wire).is_err() {
                    break;
                }
            }
            if !known {
                prop_assert_eq!(walks(&noise), Rejected::decode(&noise[..]).is_ok());
            }
        }
    }
}
