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

    /// Number and wire type of the next field; `None` at the end.
    ///
    /// # Errors
    /// [`Invalid`] if the bytes are no message.
    #[inline(always)]
    pub fn tag(&mut self) -> Result<Option<(u32, u8)>, Invalid> {
        let start = self.at;
        if start == self.message.len() {
            return Ok(None);
        }
        let read = self.varint().and_then(|tag| Some((u32::try_from(tag >> 3).ok()?, (tag & 7) as u8)));
        read.filter(|(number, _)| *number != 0).map(Some).ok_or_else(|| self.invalid(start))
    }

    /// Value of the field whose tag was read.
    ///
    /// # Errors
    /// [`Invalid`] if the bytes are no message.
    #[inline(always)]
    pub fn value(&mut self, wire_type: u8) -> Result<Value<'a>, Invalid> {
        let start = self.at;
        let value = match wire_type {
            2 => self.length().and_then(|length| self.take(length)).map(Value::Bytes),
            0 => self.varint().map(Value::Varint),
            1 => self.take_array().map(|bytes| Value::Fixed64(u64::from_le_bytes(bytes))),
            5 => self.take_array().map(|bytes| Value::Fixed32(u32::from_le_bytes(bytes))),
            _ => None,
        };
        value.ok_or_else(|| self.invalid(start))
    }

    /// The next field, if it has this number.
    ///
    /// # Errors
    /// [`Invalid`] if the bytes are no message.
    pub fn next_if(&mut self, number: u32) -> Result<Option<Entry<'a>>, Invalid> {
        let mut ahead = self.clone();
        match ahead.tag()? {
            Some((other, wire_type)) if other == number => {
                let value = ahead.value(wire_type)?;
                let whole = &self.message[self.at..ahead.at];
                *self = ahead;
                Ok(Some(Entry { number, value, whole }))
            }
            _ => Ok(None),
        }
    }

    /// Offset of the next field.
    pub fn offset(&self) -> usize {
        self.at
    }

    /// Bytes from an offset to the next field.
    pub fn since(&self, start: usize) -> &'a [u8] {
        &self.message[start..self.at]
    }

    /// The error at an offset, behind which nothing is read.
    #[cold]
    fn invalid(&mut self, at: usize) -> Invalid {
        self.at = self.message.len();
        Invalid { at }
    }

    #[inline]
    fn length(&mut self) -> Option<usize> {
        usize::try_from(self.varint()?).ok()
    }

    #[inline]
    fn take_array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = *self.message.get(self.at..)?.first_chunk()?;
        self.at += N;
        Some(bytes)
    }

    #[inline]
    fn varint(&mut self) -> Option<u64> {
        // Most tags and lengths have one byte.
        let first = *self.message.get(self.at)?;
        if first < 0x80 {
            self.at += 1;
            return Some(u64::from(first));
        }
        self.long_varint()
    }

    #[cold]
    fn long_varint(&mut self) -> Option<u64> {
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

    #[inline]
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
        let start = self.at;
        let (number, wire_type) = match self.tag() {
            Ok(tag) => tag?,
            Err(invalid) => return Some(Err(invalid)),
        };
        // What is wrong with a value is wrong with its field.
        let value = self.value(wire_type).map_err(|_| Invalid { at: start });
        Some(value.map(|value| Entry { number, value, whole: self.since(start) }))
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
