//! The report for the operator on an opened spool. Startup makes its event and counters of it, `forebay check` and
//! `forebay spool inspect` their output.

use std::fmt;

use super::kinds::{Counts, RecordKind};
use forebay_spool::{Damage, Recovered};

/// The most damaged places that are described in words; further ones are counted.
const NAMED_MAX: usize = 4;

/// A record of a session (or of another kept item) that cannot be read, or is useless because another cannot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// The record's number.
    pub number: u64,
    /// The record's kind, as far as it can be seen.
    pub kind: RecordKind,
    /// Number of records lost with it.
    pub count: u64,
    /// Segment and position; `None`: the record itself is not damaged.
    pub place: Option<(u64, u64)>,
    /// The reason, in words.
    pub why: &'static str,
}

/// The report on an opened spool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Live rows found, which go to Kafka.
    pub rows: u64,
    /// Cuts that may or may not be in Kafka.
    pub cuts: u64,
    /// Rows that were given up because their sink's buffer does not outlive the process that wrote them.
    pub given_up: u64,
    /// All damage in the segments that recovery reads.
    pub damage: Vec<Damage>,
    /// Live rows without a segment or a known sink.
    pub missing: u64,
    /// Approximate number of rows in segments without a readable header.
    pub unreadable: u64,
    /// Cuts that are void because some of their rows are gone.
    pub voided: u64,
    /// Whether damage may have hit the entries that record how rows ended: some may be in Kafka already.
    pub fate_open: bool,
    /// Bytes of groups that were never whole; none of their rows was acknowledged.
    pub torn_bytes: u64,
    /// Records that are kept, by kind.
    pub kept: Counts,
    /// Records that are lost, each with its place.
    pub unread: Vec<Unread>,
    /// Number of lost records, by kind.
    pub lost: Counts,
}

impl Report {
    /// The report on the result of recovery, without the records.
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

    /// Adds the kept and lost records.
    pub fn add_records(&mut self, kept: Counts, unread: Vec<Unread>) {
        self.kept = kept;
        for one in &unread {
            self.lost.add(one.kind, one.count);
        }
        self.unread = unread;
    }

    /// Whether durable data is damaged or missing.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        !self.damage.is_empty() || self.fate_open || self.lost_rows() + self.voided + self.unread.len() as u64 > 0
    }

    /// Number of lost rows, without those that only a drain finds damaged.
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
