//! The encoding of protobuf, as far as events need it: fields of a message, in any order.

/// Value of one field as it stands in the bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2: text, bytes, a message, packed numbers.
    Bytes(&'a [u8]),
    /// Wire type 5.
    Fixed32(u32),
}

/// One field with its number and all of its bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry<'a> {
    /// Number of the field.
    pub number: u32,
    /// Its value.
    pub value: Value<'a>,
    /// Tag and value, as they stand in the message.
    pub whole: &'a [u8],
}

/// Bytes that are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a protobuf message: invalid from its byte {at} on")]
pub struct Invalid {
    /// Offset in the message.
    pub at: usize,
}

/// Fields of a message, one after another.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    /// Starts at the message's first byte.
    pub fn of(message: &'a [u8]) -> Self {
        Self { message, at: 0 }
    }

    fn read(&mut self) -> Option<Entry<'a>> {
        let start = self.at;
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| *number != 0)?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            _ => return None,
        };
        Some(Entry { number, value, whole: &self.message[start..self.at] })
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let byte = *self.message.get(self.at)?;
            self.at += 1;
            value |= u64::from(byte & 0x7F) << shift.min(63);
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.message.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Entry<'a>, Invalid>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at == self.message.len() {
            return None;
        }
        let start = self.at;
        match self.read() {
            Some(entry) => Some(Ok(entry)),
            None => {
                self.at = self.message.len();
                Some(Err(Invalid { at: start }))
            }
        }
    }
}

/// Varints one after another, as packed repeated fields have them.
pub fn packed_varints(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    let mut fields = Fields::of(bytes);
    std::iter::from_fn(move || if fields.at < fields.message.len() { fields.varint() } else { None })
}

/// Number of a zigzag varint.
pub fn zigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_with_their_bytes_and_a_cut_is_an_error() {
        let bytes =
            [0x08, 0x96, 0x01, 0x12, 0x03, b'a', b'b', b'c', 0x1D, 1, 0, 0, 0, 0x21, 2, 0, 0, 0, 0, 0, 0, 0];
        let found: Vec<_> = Fields::of(&bytes).map(Result::unwrap).collect();
        let values: Vec<_> = found.iter().map(|entry| (entry.number, entry.value)).collect();
        assert_eq!(
            values,
            [
                (1, Value::Varint(150)),
                (2, Value::Bytes(b"abc")),
                (3, Value::Fixed32(1)),
                (4, Value::Fixed64(2))
            ]
        );
        assert_eq!(found[1].whole, &bytes[3..8]);
        for cut in [1, 2, 4, 7, 10, 20] {
            assert!(Fields::of(&bytes[..cut]).any(|entry| entry.is_err()), "{cut}");
        }
    }

    #[test]
    fn a_length_beyond_the_message_and_a_varint_without_end_are_errors() {
        let endless = [0x08, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01];
        assert_eq!(Fields::of(&endless).next(), Some(Err(Invalid { at: 0 })));
        let long = [0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F, 0];
        assert_eq!(Fields::of(&long).next(), Some(Err(Invalid { at: 0 })));
    }
}
