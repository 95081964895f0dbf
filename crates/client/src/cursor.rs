//! Position of a subscription in its stream.

/// The last sequence that was delivered, or stepped over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    last: Option<u64>,
}

/// New part of a run of sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Advance {
    /// So many at the front were delivered before.
    pub known: usize,
    /// The sequence that should have come, where a later one did.
    pub missing_from: Option<u64>,
}

/// The run goes past the last sequence there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overflow;

impl Cursor {
    /// A cursor behind `last`; with `None` anything is new.
    pub fn after(last: Option<u64>) -> Self {
        Self { last }
    }

    /// Sequence to resume after.
    pub fn last(self) -> Option<u64> {
        self.last
    }

    /// Goes over `len` sequences from `first`. The cursor never moves back.
    pub fn advance(&mut self, first: u64, len: usize) -> Result<Advance, Overflow> {
        let steps = u64::try_from(len).map_err(|_| Overflow)?.saturating_sub(1);
        let end = first.checked_add(steps).ok_or(Overflow)?;
        let Some(last) = self.last else {
            self.last = Some(end);
            return Ok(Advance { known: 0, missing_from: None });
        };
        if end <= last {
            return Ok(Advance { known: len, missing_from: None });
        }
        self.last = Some(end);
        // last < end, so last + 1 is a sequence; and first <= last bounds the cast by len.
        let expected = last + 1;
        let known = expected.saturating_sub(first) as usize;
        Ok(Advance { known, missing_from: (first > expected).then_some(expected) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advance_tells_known_from_new_from_missing() {
        let check = |last, first, len, known, missing_from, last_after| {
            let mut cursor = Cursor::after(last);
            assert_eq!(
                cursor.advance(first, len),
                Ok(Advance { known, missing_from }),
                "{last:?} {first} {len}"
            );
            assert_eq!(cursor.last(), last_after);
        };
        check(None, 7, 3, 0, None, Some(9));
        check(Some(6), 7, 3, 0, None, Some(9));
        check(Some(7), 7, 3, 1, None, Some(9));
        check(Some(9), 7, 3, 3, None, Some(9));
        check(Some(20), 7, 3, 3, None, Some(20));
        check(Some(4), 7, 3, 0, Some(5), Some(9));
        check(Some(u64::MAX), u64::MAX, 1, 1, None, Some(u64::MAX));
        check(Some(0), u64::MAX, 1, 0, Some(1), Some(u64::MAX));
    }

    #[test]
    fn a_run_past_the_end_is_refused() {
        assert_eq!(Cursor::after(None).advance(u64::MAX, 2), Err(Overflow));
    }
}
