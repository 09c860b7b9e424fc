//! The sessions, their queued messages and the exchanges of publishers in a segment, as needed for judging damage to it
//! for subscribers. The formats are those of `session/saved.rs` and `shard/queues/saved.rs`.

use std::collections::BTreeMap;

use forebay::spool::{Entry, HEADER_BYTES, Header, entry_at, scan};

use crate::damage::messages_in;
use crate::disk::Disk;

/// An entry of a segment.
#[derive(Debug)]
pub(crate) enum Said {
    /// The newest form of the record with this number.
    Is(u64, Vec<u8>),
    /// The end of the record with this number.
    Ended(u64),
}

/// The kind of record that a number names.
#[derive(Debug)]
pub(crate) enum Record {
    /// A session; the payload says of which client.
    Session,
    /// A message for the sessions of these numbers.
    Message(Vec<u64>),
    /// The state of its messages in the session of this number.
    Queue(u64),
    /// A publisher's exchange, by its packet identifier.
    Exchange(u16),
    /// A retained message, or another record that only its payload identifies.
    Other,
}

impl Record {
    pub(crate) fn of(payload: &[u8]) -> Self {
        let number = |at: usize| payload.get(at..)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
        match payload.first() {
            Some(1..=3) => Self::Session,
            Some(0x81) => Self::Message(recipients(payload).unwrap_or_default()),
            Some(0x82) => number(1).map_or(Self::Other, Self::Queue),
            Some(0x83 | 0x85) => {
                let id = payload.get(11..).and_then(|rest| rest.first_chunk());
                id.map_or(Self::Other, |id| Self::Exchange(u16::from_be_bytes(*id)))
            }
            _ => Self::Other,
        }
    }
}

/// The numbers of the sessions that get a message.
fn recipients(payload: &[u8]) -> Option<Vec<u64>> {
    let (count, mut rest) = payload.get(17..)?.split_first_chunk()?;
    let mut all = Vec::new();
    for _ in 0..u32::from_be_bytes(*count) {
        let (session, behind) = rest.split_first_chunk()?;
        all.push(u64::from_be_bytes(*session));
        let flags = *behind.get(8)?;
        rest = behind.get(9 + 4 * usize::from(flags >> 3)..)?;
    }
    Some(all)
}

/// The entries of a segment, in order.
pub(crate) fn said(disk: &Disk, segment: u64) -> Vec<Said> {
    let length = disk.lengths().into_iter().find(|(of, _)| *of == segment).map_or(0, |(_, length)| length as usize);
    let mut bytes = disk.bytes(segment);
    bytes.resize(length, 0);
    let ends = [bytes.first_chunk(), bytes.last_chunk::<HEADER_BYTES>()];
    let header = ends.into_iter().flatten().find_map(|bytes| Header::decode(bytes).ok());
    let Some(Header { salt, .. }) = header else { return Vec::new() };
    let end = length.saturating_sub(HEADER_BYTES);
    let found = scan(&bytes[..end], segment, salt, Some(end as u64));
    let said = found.entries.iter().filter_map(|position| match entry_at(&bytes, salt, *position)?.0 {
        Entry::Session { session, payload } => Some(Said::Is(session, payload.to_vec())),
        Entry::SessionEnded { session } => Some(Said::Ended(session)),
        _ => None,
    });
    said.collect()
}

/// The newest form of each record on a disk, by number.
pub(crate) fn all(disk: &Disk) -> BTreeMap<u64, Vec<u8>> {
    let said = disk.segments().into_iter().flat_map(|segment| said(disk, segment));
    let is = said.filter_map(|said| match said {
        Said::Is(number, payload) => Some((number, payload)),
        Said::Ended(_) => None,
    });
    is.collect()
}

/// Messages that are queued for a session, according to a disk.
pub(crate) fn waiting(all: &BTreeMap<u64, Vec<u8>>, session: u64) -> impl Iterator<Item = u32> {
    let of = |payload: &&Vec<u8>| matches!(Record::of(payload), Record::Message(to) if to.contains(&session));
    all.values().filter(of).flat_map(|payload| messages_in(payload)).collect::<Vec<_>>().into_iter()
}

/// Messages that are queued for the session of a client, according to a disk.
pub(crate) fn waiting_for(all: &BTreeMap<u64, Vec<u8>>, client: &str) -> Vec<u32> {
    let sessions = all.iter().filter(|(_, payload)| is_of(payload, client)).map(|(number, _)| *number);
    sessions.collect::<Vec<_>>().into_iter().flat_map(|session| waiting(all, session)).collect()
}

/// Whether a record is a session of that client.
pub(crate) fn is_of(payload: &[u8], client: &str) -> bool {
    let text = [&(client.len() as u16).to_be_bytes(), client.as_bytes()].concat();
    matches!(Record::of(payload), Record::Session) && payload.windows(text.len()).any(|bytes| bytes == text)
}
