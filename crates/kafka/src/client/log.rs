//! The answers about a partition's log (DescribeProducers, ListOffsets, OffsetForLeaderEpoch, Fetch), read in place. Only the headers of
//! a Fetch's batches are read: compression makes no difference.

use super::api::{BY_ID, Call};
use super::ask::Search;
use super::wire::{Malformed, Read, Reader};
use forebay_record::{BatchError, BatchView};

/// The content of one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogAnswer {
    /// An error code.
    Error(i16),
    /// DescribeProducers: epoch and last sequence of the producer id, if the partition knows it.
    Producer(Option<(i32, i32)>),
    /// ListOffsets: the beginning of the log, or its end.
    Start(i64),
    /// OffsetForLeaderEpoch: the beginning of the leader's epoch; `None`: the leader's log does not know it.
    EpochStart(Option<i64>),
    /// Fetch: a summary of the batches.
    Tail(Tail),
}

/// A summary of the batches of a Fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    /// The offset after the last record visible to consumers.
    pub(super) high_watermark: i64,
    /// The offset after the last complete batch; the requested one, if there is none.
    pub(super) next: i64,
    /// The youngest of the question's batches in the Fetch, by its last sequence.
    pub(super) found: Option<i32>,
    /// Whether some offsets are missing, because of compaction.
    pub(super) gap: bool,
    /// Bytes of records.
    pub(super) bytes: usize,
}

/// Reads the answer to a step of a search, header already read; returns the throttle time in ms with it.
///
/// # Errors
/// [`Malformed`].
pub(super) fn read(api: Call, reader: &mut Reader<'_>, version: i16, search: &Search) -> Read<(LogAnswer, i32)> {
    let throttle_ms = if api == Call::ListOffsets && version < 2 { 0 } else { reader.i32()? };
    if api == Call::Fetch && version >= 7 {
        let error = reader.i16()?;
        reader.i32()?; // session id
        if error != 0 {
            return Ok((LogAnswer::Error(error), throttle_ms));
        }
    }
    let mut answer = None;
    for _ in 0..reader.array(2)? {
        let by_id = api == Call::Fetch && version >= BY_ID;
        let (id, name) = if by_id { (reader.u128()?, &[][..]) } else { (0, reader.string()?) };
        let question = &search.question;
        let it = if by_id { question.topic_id == id } else { question.topic.as_bytes() == name };
        for _ in 0..reader.array(6)? {
            let first = if api == Call::OffsetForLeaderEpoch { reader.i16()? } else { 0 };
            let partition = reader.i32()?;
            let read = match api {
                Call::DescribeProducers => producers(reader, search.question.producer_id)?,
                Call::ListOffsets => start(reader, version)?,
                Call::OffsetForLeaderEpoch => epoch_start(reader, first)?,
                _ => tail(reader, version, search)?,
            };
            reader.tags()?;
            if it && partition == question.partition {
                answer.get_or_insert(read);
            }
        }
        reader.tags()?;
    }
    reader.tags()?;
    reader.end();
    answer.map(|answer| (answer, throttle_ms)).ok_or(Malformed("partition without an answer"))
}

fn producers(reader: &mut Reader<'_>, producer_id: i64) -> Read<LogAnswer> {
    let error = reader.i16()?;
    reader.nullable_string()?; // error message
    let mut known = None;
    for _ in 0..reader.array(37)? {
        let (id, epoch, last_sequence) = (reader.i64()?, reader.i32()?, reader.i32()?);
        reader.skip(8 + 4 + 8)?; // last timestamp, coordinator epoch, start of the open transaction
        reader.tags()?;
        if id == producer_id {
            known = Some((epoch, last_sequence));
        }
    }
    Ok(if error == 0 { LogAnswer::Producer(known) } else { LogAnswer::Error(error) })
}

fn start(reader: &mut Reader<'_>, version: i16) -> Read<LogAnswer> {
    let error = reader.i16()?;
    reader.i64()?; // timestamp
    let offset = reader.i64()?;
    if version >= 4 {
        reader.i32()?; // leader epoch
    }
    Ok(if error == 0 { LogAnswer::Start(offset.max(0)) } else { LogAnswer::Error(error) })
}

/// The end of the largest epoch that is not above the requested one; the error code was read before.
fn epoch_start(reader: &mut Reader<'_>, error: i16) -> Read<LogAnswer> {
    reader.i32()?; // that epoch
    let end = reader.i64()?;
    Ok(if error == 0 { LogAnswer::EpochStart((end >= 0).then_some(end)) } else { LogAnswer::Error(error) })
}

fn tail(reader: &mut Reader<'_>, version: i16, search: &Search) -> Read<LogAnswer> {
    let error = reader.i16()?;
    let high_watermark = reader.i64()?;
    reader.i64()?; // last stable offset
    if version >= 5 {
        reader.i64()?; // log start offset
    }
    for _ in 0..reader.array(16)? {
        reader.skip(16)?; // aborted transactions
        reader.tags()?;
    }
    if version >= 11 {
        reader.i32()?; // preferred replica
    }
    let records = reader.nullable_bytes()?.unwrap_or_default();
    Ok(if error == 0 { LogAnswer::Tail(scan(records, high_watermark, search)?) } else { LogAnswer::Error(error) })
}

/// Reads the headers of the batches; the last one may be cut short.
fn scan(records: &[u8], high_watermark: i64, search: &Search) -> Read<Tail> {
    let from = search.at;
    let mut tail = Tail { high_watermark, next: from, found: None, gap: false, bytes: records.len() };
    let mut rest = records;
    while !rest.is_empty() {
        let view = match BatchView::parse(rest) {
            Ok((view, after)) => {
                rest = after;
                view
            }
            Err(BatchError::Short) => break,
            Err(_) => return Err(Malformed("not a batch of format v2")),
        };
        let (base, next) =
            (view.header().base_offset, view.header().base_offset + i64::from(view.header().last_offset_delta) + 1);
        if next <= tail.next {
            // A Fetch begins with the batch that has the offset, and may bring one before it.
            continue;
        }
        if base >= high_watermark {
            break;
        }
        tail.gap |= base > tail.next;
        tail.next = next;
        let (id, epoch) = (view.header().producer_id, view.header().producer_epoch);
        if (id, epoch) == (search.question.producer_id, search.question.epoch) {
            let last = view.header().last_sequence();
            tail.found = search.question.last_sequences.contains(&last).then_some(last).or(tail.found);
        }
    }
    Ok(tail)
}
