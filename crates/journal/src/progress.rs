//! Progress of records. The order of the four is the journal's promise, so it is asserted in every build.

use crate::record::Sequence;

/// Invariant: acknowledged ≤ synced ≤ written ≤ appended, and none ever goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    appended: Sequence,
    written: Sequence,
    synced: Sequence,
    acknowledged: Sequence,
}

impl Progress {
    /// All up to `last` was recovered from stable storage.
    pub(crate) fn recovered(last: Sequence) -> Self {
        Self { appended: last, written: last, synced: last, acknowledged: last }
    }

    /// The last record that was taken into memory.
    pub fn appended(&self) -> Sequence {
        self.appended
    }

    /// The last record that the storage says it has written.
    pub fn written(&self) -> Sequence {
        self.written
    }

    /// The last record that is on stable storage, under a name that is.
    pub fn synced(&self) -> Sequence {
        self.synced
    }

    /// The last record that the caller has acknowledged.
    pub fn acknowledged(&self) -> Sequence {
        self.acknowledged
    }

    pub(crate) fn append(&mut self, to: Sequence) {
        *self = self.checked(Self { appended: to, ..*self });
    }

    pub(crate) fn write(&mut self, to: Sequence) {
        *self = self.checked(Self { written: to, ..*self });
    }

    pub(crate) fn sync(&mut self, to: Sequence) {
        *self = self.checked(Self { synced: to, ..*self });
    }

    pub(crate) fn acknowledge(&mut self, to: Sequence) {
        *self = self.checked(Self { acknowledged: to, ..*self });
    }

    fn checked(&self, next: Self) -> Self {
        assert!(
            next.acknowledged <= next.synced && next.synced <= next.written && next.written <= next.appended,
            "acknowledged ≤ synced ≤ written ≤ appended is broken: {next:?}"
        );
        assert!(
            self.acknowledged <= next.acknowledged
                && self.synced <= next.synced
                && self.written <= next.written
                && self.appended <= next.appended,
            "progress goes back: {self:?} to {next:?}"
        );
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_overtakes_what_it_depends_on() {
        let check = |change: fn(&mut Progress), fine: bool| {
            let result = std::panic::catch_unwind(|| {
                let mut progress = Progress { appended: 9, written: 7, synced: 5, acknowledged: 3 };
                change(&mut progress);
            });
            assert_eq!(result.is_ok(), fine);
        };
        check(|progress| progress.append(10), true);
        check(|progress| progress.write(9), true);
        check(|progress| progress.write(10), false);
        check(|progress| progress.sync(7), true);
        check(|progress| progress.sync(8), false);
        check(|progress| progress.acknowledge(5), true);
        check(|progress| progress.acknowledge(6), false);
        check(|progress| progress.acknowledge(2), false);
        check(|progress| progress.append(8), false);
    }
}
