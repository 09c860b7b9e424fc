//! `Logs` are what a shard writes down: rows of sinks with a disk buffer, and what sessions keep. It is one log, in the spool; with
//! `[broker]` sessions have a log of their own, in Kafka.

use crate::buffer::Buffer;

/// See the module.
#[derive(Default)]
pub(super) struct Logs {
    /// The log of what sessions keep, and of rows if these have none of their own.
    pub(super) kept: Option<Buffer>,
    /// The log of rows beside `[broker]`.
    pub(super) rows: Option<Box<Buffer>>,
}

impl Logs {
    /// The log of rows. One that keeps sessions alone [keeps](Buffer::keeps) no sink's rows.
    #[inline]
    pub(super) fn rows(&self) -> Option<&Buffer> {
        let kept = self.kept.as_ref()?;
        Some(self.rows.as_deref().unwrap_or(kept))
    }

    /// As [`Logs::rows`].
    #[inline]
    pub(super) fn rows_mut(&mut self) -> Option<&mut Buffer> {
        let kept = self.kept.as_mut()?;
        Some(self.rows.as_deref_mut().unwrap_or(kept))
    }

    /// Each log that there is.
    pub(super) fn each(&self) -> impl Iterator<Item = &Buffer> {
        self.kept.iter().chain(self.rows.as_deref())
    }
}
