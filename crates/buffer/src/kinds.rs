//! Kinds of records that a log keeps besides rows, and counts by kind.

use std::fmt;

/// A kind of record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordKind {
    /// A kept session.
    Session,
    /// A retained message.
    Retained,
    /// A message queued for a kept session; a message for several sessions counts for each.
    Queued,
    /// A message queued for a member of a shared subscription.
    Shared,
    /// The progress of a session's queue: without it the client gets some messages again.
    Queue,
    /// A publisher's exchange: without it subscribers may get a repeat as a second message.
    Exchange,
    /// A record of which not even the first byte can be read.
    Unknown,
}

impl RecordKind {
    /// All kinds.
    pub const ALL: [Self; 7] =
        [Self::Session, Self::Retained, Self::Queued, Self::Shared, Self::Queue, Self::Exchange, Self::Unknown];

    /// The kind's name in metrics and in machine-readable reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Retained => "retained",
            Self::Queued => "queued",
            Self::Shared => "shared",
            Self::Queue => "queue",
            Self::Exchange => "exchange",
            Self::Unknown => "unknown",
        }
    }

    /// Singular and plural of the kind, in words.
    const fn words(self) -> [&'static str; 2] {
        match self {
            Self::Session => ["session", "sessions"],
            Self::Retained => ["retained message", "retained messages"],
            Self::Queued => ["message for kept sessions", "messages for kept sessions"],
            Self::Shared => ["message for shared subscriptions", "messages for shared subscriptions"],
            Self::Queue => ["position in a session's queue", "positions in sessions' queues"],
            Self::Exchange => ["open exchange of QoS 2", "open exchanges of QoS 2"],
            Self::Unknown => ["record of a session or of a message", "records of sessions or of messages"],
        }
    }
}

/// Numbers of records by kind. Displayed in words, without kinds of which there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u64; RecordKind::ALL.len()]);

impl Counts {
    /// The number of records of a kind.
    #[must_use]
    pub const fn of(&self, kind: RecordKind) -> u64 {
        self.0[kind as usize]
    }

    /// Adds `count` records of a kind.
    pub const fn add(&mut self, kind: RecordKind, count: u64) {
        self.0[kind as usize] += count;
    }

    /// Adds all counts of `other`.
    pub fn add_all(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(count, more)| *count += more);
    }

    /// The number of records of all kinds.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Each kind with its count.
    pub fn iter(&self) -> impl Iterator<Item = (RecordKind, u64)> {
        RecordKind::ALL.into_iter().zip(self.0)
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = "";
        for (kind, count) in self.iter().filter(|(_, count)| *count > 0) {
            let [one, several] = kind.words();
            write!(f, "{before}{count} {}", if count == 1 { one } else { several })?;
            before = ", ";
        }
        if before.is_empty() { f.write_str("nothing") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_shown_in_words() {
        let mut counts = Counts::default();
        assert_eq!(counts.to_string(), "nothing");
        counts.add(RecordKind::Retained, 2);
        counts.add(RecordKind::Session, 1);
        let both = counts;
        counts.add_all(&both);
        assert_eq!(counts.to_string(), "2 sessions, 4 retained messages");
        assert_eq!((counts.total(), counts.of(RecordKind::Queue)), (6, 0));
        for (place, kind) in RecordKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place);
        }
    }
}
