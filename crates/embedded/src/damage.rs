//! Damage of the log's files: an event of the service, or a line in the log of a program that has no events.

use std::path::Path;
use std::sync::Arc;

use forebay_metrics::event::{Event, Field, Kind};
use forebay_metrics::journal::Journal;

/// Damage of one file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Damage<'a> {
    /// The file, or the directory of a partition.
    pub(crate) file: &'a Path,
    /// The first offset that cannot be read, and the next one that can.
    pub(crate) offsets: Option<(i64, i64)>,
    /// The damage and its outcome, in words.
    pub(crate) reason: &'a str,
}

/// Where damage is told.
#[derive(Clone, Debug, Default)]
pub struct Teller(pub Option<Arc<Journal>>);

impl Teller {
    /// Tells of damage.
    pub(crate) fn tell(&self, damage: &Damage<'_>) {
        let Damage { file, offsets, reason } = damage;
        let Some(journal) = &self.0 else {
            let (offset, next_offset) = offsets.unzip();
            tracing::error!(file = %file.display(), offset, next_offset, "{reason}");
            return;
        };
        let number = |offset: i64| u64::try_from(offset).unwrap_or(0);
        let event = Event::now(Kind::EmbeddedLogDamaged).with(Field::File, file.display().to_string());
        let event = event.maybe(Field::Offset, offsets.map(|(offset, _)| number(offset)));
        let event = event.maybe(Field::NextOffset, offsets.map(|(_, next)| number(next)));
        journal.say(event.with(Field::Reason, *reason));
    }
}
