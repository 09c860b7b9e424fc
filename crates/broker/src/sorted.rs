//! Records other than rows that a process finds in its log: which are taken up, which are over, and which are lost, because they are damaged or because the
//! record they belong to is lost. The shard sorts them before it takes up anything, and so does every reader of a spool: `forebay check`, `forebay spool
//! inspect`, a process with another number of shards.

use std::collections::{HashMap, HashSet};

use smallvec::SmallVec;

use super::queues::{self, Kept};
use super::retained;
use forebay_buffer::{Counts, RecordKind, Unread};
use forebay_session::{self as session, NotASession, SavedQueue};
use forebay_spool::LostRecord;

const DAMAGED: &str = "its bytes are damaged";
const OLDER: &str = "its bytes are damaged; an older one counts";
const SENSELESS: &str = "it makes no sense";
const UNKNOWN: &str = "it is of a kind that this version of Forebay does not know";
const OF_LOST: &str = "the session that it waits for is lost";

/// A record as it is found: its bytes, or what is known of it without them.
pub(crate) type Found<'a> = Result<&'a [u8], LostRecord>;

/// A message for kept sessions: its number, and the sessions that get it, each with the number of its copy.
type Message = (u64, SmallVec<[(u64, u64); 2]>);

/// Gathers records, in any order.
#[derive(Debug, Default)]
pub struct Sorter {
    sessions: HashSet<u64>,
    /// Records that are lost, some of which may be sessions.
    lost: HashSet<u64>,
    queues: HashMap<u64, SavedQueue>,
    messages: Vec<Message>,
    sorted: Sorted,
}

/// The records that are taken up, lost, or ended.
#[derive(Debug, Default)]
pub struct Sorted {
    /// Records that are taken up, by kind.
    pub kept: Counts,
    /// Records that are lost.
    pub unread: Vec<Unread>,
    /// Records that end: whether each is damaged.
    ends: HashMap<u64, bool>,
}

impl Sorted {
    /// Whether a record is taken up.
    pub fn takes_up(&self, number: u64) -> bool {
        !self.ends.contains_key(&number)
    }

    /// Records that are not taken up, and whether each is damaged.
    pub(crate) fn ends(&self) -> impl Iterator<Item = (u64, bool)> {
        let mut ends: Vec<_> = self.ends.iter().map(|(number, is_damaged)| (*number, *is_damaged)).collect();
        ends.sort_unstable();
        ends.into_iter()
    }
}

impl Sorter {
    /// Adds a record, with its place, if that is known.
    pub fn add(&mut self, number: u64, found: Found<'_>, place: Option<(u64, u64)>) {
        let payload = match found {
            Ok(payload) => payload,
            Err(LostRecord { segment, position, format, has_older, .. }) => {
                let (kind, place) = (kind_of(format), Some((segment, position)));
                let why = if has_older { OLDER } else { DAMAGED };
                self.sorted.unread.push(Unread { number, kind, count: 1, place, why });
                if !has_older {
                    self.lost.insert(number);
                    self.sorted.ends.insert(number, true);
                }
                return;
            }
        };
        let format = payload.first().copied();
        let taken = if retained::is_retained(payload) {
            retained::topic(payload).map(|_| RecordKind::Retained).ok_or(SENSELESS)
        } else {
            match Kept::decode(payload) {
                Some(kept) => kept.map(|kept| self.add_kept(number, kept)).map_err(|_| SENSELESS),
                None => self.add_session(number, payload),
            }
        };
        match taken {
            // Waiting messages are counted when all records are there.
            Ok(RecordKind::Queued) => {}
            Ok(kind) => self.sorted.kept.add(kind, u64::from(self.sorted.takes_up(number))),
            Err(why) => {
                let kind = kind_of(format);
                self.sorted.unread.push(Unread { number, kind, count: 1, place, why });
                self.lost.insert(number);
                self.sorted.ends.insert(number, true);
            }
        }
    }

    fn add_kept(&mut self, number: u64, kept: Kept<'_>) -> RecordKind {
        match kept {
            Kept::Message { to, .. } => {
                self.messages.push((number, to.iter().map(|of| (of.session, of.number)).collect()));
                RecordKind::Queued
            }
            Kept::Queue(queue) => {
                self.queues.insert(queue.session, queue);
                RecordKind::Queue
            }
            Kept::Positions(_) => RecordKind::Queue,
            Kept::Exchange(..) => RecordKind::Exchange,
            Kept::ForShare(_) => RecordKind::Shared,
        }
    }

    fn add_session(&mut self, number: u64, payload: &[u8]) -> Result<RecordKind, &'static str> {
        match session::client_id(payload) {
            Ok(_) => _ = self.sessions.insert(number),
            // The session ended with its connection; earlier versions wrote such sessions.
            Err(NotASession::Over) => _ = self.sorted.ends.insert(number, false),
            Err(NotASession::Format(_)) => return Err(UNKNOWN),
            Err(NotASession::Damaged) => return Err(SENSELESS),
        }
        Ok(RecordKind::Session)
    }

    /// Sorts the records when all were added. `may_lack`: damage may have taken some without a trace.
    pub fn sorted(mut self, may_lack: bool) -> Sorted {
        for (number, to) in std::mem::take(&mut self.messages) {
            let is_over =
                |(session, copy): &(u64, u64)| self.queues.get(session).is_some_and(|queue| queue.is_over(*copy));
            let (mut waits, mut lost) = (0, 0);
            for (session, _) in to.into_iter().filter(|of| !is_over(of)) {
                if self.sessions.contains(&session) {
                    waits += 1;
                } else if may_lack || self.lost.contains(&session) {
                    lost += 1;
                }
            }
            self.sorted.kept.add(RecordKind::Queued, waits);
            if lost > 0 {
                let (kind, place, why) = (RecordKind::Queued, None, OF_LOST);
                self.sorted.unread.push(Unread { number, kind, count: lost, place, why });
            }
            if waits == 0 {
                self.sorted.ends.insert(number, false);
            }
        }
        self.sorted
    }
}

/// The kind of a record, by its first byte.
fn kind_of(format: Option<u8>) -> RecordKind {
    let Some(format) = format else { return RecordKind::Unknown };
    if retained::is_retained(&[format]) {
        return RecordKind::Retained;
    }
    let of_session = session::is_format(format).then_some(RecordKind::Session);
    queues::kind_of(format).or(of_session).unwrap_or(RecordKind::Unknown)
}

#[cfg(test)]
#[path = "sorted_tests.rs"]
mod tests;
