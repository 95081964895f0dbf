//! Texts of a request of 2.0, which stand in it once and are named by their numbers.

/// A series that an event can't hold: the verdict's code, and words for people.
pub(super) type MappingError = (&'static str, String);

/// More bytes than an event has room for.
const TEXTS_BYTES_MAX: usize = 128 * 1024;

/// Takes the texts of one series: each label is a copy, however many name the same text.
pub(super) struct Texts<'a> {
    symbols: &'a [String],
    room: usize,
}

impl<'a> Texts<'a> {
    /// With room for one series.
    pub fn of(symbols: &'a [String]) -> Self {
        Self { symbols, room: TEXTS_BYTES_MAX }
    }

    /// Names and values of labels.
    pub fn pairs(&mut self, refs: &[u32]) -> Result<Vec<(String, String)>, MappingError> {
        if !refs.len().is_multiple_of(2) {
            return Err(("INVALID_VALUE", "labels_refs: a name without a value".to_owned()));
        }
        refs.chunks_exact(2).map(|pair| Ok((self.take(pair[0])?, self.take(pair[1])?))).collect()
    }

    /// The text with this number.
    pub fn take(&mut self, index: u32) -> Result<String, MappingError> {
        let found = self.symbols.get(index as usize);
        let found = found.ok_or_else(|| ("INVALID_VALUE", format!("there is no symbol {index}")))?;
        let beyond =
            || ("EVENT_TOO_LARGE", format!("a series has more than {TEXTS_BYTES_MAX} bytes of texts"));
        self.room = self.room.checked_sub(found.len()).ok_or_else(beyond)?;
        Ok(found.clone())
    }
}
