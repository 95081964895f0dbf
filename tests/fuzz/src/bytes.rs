//! Operations are read off a fuzzer's input.

/// Rest of an input.
pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    /// The next byte.
    pub fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// The next two bytes, little-endian; 0 if there is none.
    pub fn next_u16(&mut self) -> u16 {
        u16::from_le_bytes([self.next().unwrap_or(0), self.next().unwrap_or(0)])
    }

    /// The next `length` bytes, or those that are left.
    pub fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }
}
