//! What an operator should know of a spool that is taken up. The start makes its event and its counters of this, and `forebay check` and
//! `forebay spool inspect` what they say beforehand.

use std::fmt;

use super::kinds::{Counts, RecordKind};
use crate::spool::{Damage, Recovered};

/// Damaged places that are named in words; others are counted.
const NAMED_MAX: usize = 4;

/// A record of a session, or of what is kept like one, that cannot be read or comes to nothing because another cannot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// The record's number.
    pub number: u64,
    /// What it is, as far as that can be seen.
    pub kind: RecordKind,
    /// How many are lost with it.
    pub count: u64,
    /// Segment and position; `None`: it is not damaged itself.
    pub place: Option<(u64, u64)>,
    /// Why, in words.
    pub why: &'static str,
}

/// The report of a spool that is taken up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Live rows found: they go to Kafka.
    pub rows: u64,
    /// Cuts that may or may not be in Kafka.
    pub cuts: u64,
    /// Rows that were given up because their sink's buffer was not to outlive the process that wrote them.
    pub given_up: u64,
    /// All that is damaged in the segments that a start reads.
    pub damage: Vec<Damage>,
    /// Live rows without a segment or a known sink.
    pub missing: u64,
    /// Rows in segments without a readable header, about.
    pub unreadable: u64,
    /// Cuts that are void because some of their rows are gone.
    pub voided: u64,
    /// Damage may have hit what became of rows: some may be in Kafka already.
    pub fate_open: bool,
    /// Bytes of groups that were never whole: they were answered to nobody.
    pub torn_bytes: u64,
    /// Records that are taken up, by kind.
    pub kept: Counts,
    /// Those that are lost, each with its place.
    pub unread: Vec<Unread>,
    /// How many these are, by kind.
    pub lost: Counts,
}

impl Report {
    /// What recovery says, without the records.
    #[must_use]
    pub fn of(recovered: &Recovered) -> Self {
        Self {
            damage: recovered.damage.clone(),
            missing: recovered.missing.iter().map(|(_, run)| run.count).sum(),
            unreadable: recovered.rows_unreadable,
            voided: recovered.voided.len() as u64,
            fate_open: recovered.fate_open,
            torn_bytes: recovered.torn_bytes,
            ..Self::default()
        }
    }

    /// With what was made of the records.
    pub fn add_records(&mut self, kept: Counts, unread: Vec<Unread>) {
        self.kept = kept;
        for one in &unread {
            self.lost.add(one.kind, one.count);
        }
        self.unread = unread;
    }

    /// Whether something that was durable is damaged, or not there any more.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        !self.damage.is_empty() || self.fate_open || self.lost_rows() + self.voided + self.unread.len() as u64 > 0
    }

    /// Rows that are lost. Those that only their drain finds damaged are not among them.
    #[must_use]
    pub const fn lost_rows(&self) -> u64 {
        self.missing + self.unreadable
    }

    /// The segment of the first damaged place.
    #[must_use]
    pub fn first_segment(&self) -> Option<u64> {
        let unread = || self.unread.iter().find_map(|one| one.place).map(|(segment, _)| segment);
        self.damage.first().map(|damage| damage.segment).or_else(unread)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let records = self.unread.iter().filter_map(|one| {
            let (segment, position) = one.place?;
            Some(format!("record {} in segment {segment} at {position}: {}", one.number, one.why))
        });
        let places: Vec<String> = self.damage.iter().map(Damage::to_string).chain(records).collect();
        let named = places.iter().take(NAMED_MAX).map(String::as_str).collect::<Vec<_>>();
        f.write_str(&named.join("; "))?;
        if places.len() > NAMED_MAX {
            write!(f, "; and {} more places", places.len() - NAMED_MAX)?;
        }
        let mut before = if places.is_empty() { "" } else { "; " };
        if self.lost_rows() + self.lost.total() > 0 {
            let about = if self.unreadable > 0 { "about " } else { "" };
            write!(f, "{before}lost: {about}{} records", self.lost_rows())?;
            if self.lost.total() > 0 {
                write!(f, ", {}", self.lost)?;
            }
            before = "; ";
        }
        if self.fate_open || self.voided > 0 {
            write!(
                f,
                "{before}some records that Kafka already has may be sent again, and sessions or messages that had ended may be back"
            )?;
        }
        Ok(())
    }
}
