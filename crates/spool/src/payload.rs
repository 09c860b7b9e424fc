//! Writes and reads the payload of each kind of entry. `docs/internals/SPOOL.md` has the fields.

use super::codec::{In, Out};
use super::entry::{CutHead, Entry, Kind, Reason, Rows};
use super::format::Framed;
use super::lists::{Listed, Runs, Spans};
use forebay_record::stored::RowRun;

impl Entry<'_> {
    /// Appends the entry; its mark and checksum are added when its group is written.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        super::format::put(out, self.kind(), |out| self.payload(&mut Out(out)));
    }

    /// The kind of the entry.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Rows(_) => Kind::Rows,
            Self::Cut { .. } => Kind::Cut,
            Self::Done { .. } => Kind::Done,
            Self::EndRows { .. } => Kind::EndRows,
            Self::EndCut { .. } => Kind::EndCut,
            Self::Incarnation { .. } => Kind::Incarnation,
            Self::Session { .. } => Kind::Session,
            Self::SessionEnded { .. } => Kind::SessionEnded,
            Self::Opened { .. } => Kind::Opened,
            Self::Released { .. } => Kind::Released,
            Self::Commit { .. } => Kind::Commit,
            Self::Checkpoint { .. } => Kind::Checkpoint,
            Self::Lane { .. } => Kind::Lane,
            Self::Spans { .. } => Kind::Spans,
            Self::Segment { .. } => Kind::Segment,
            Self::SessionAt { .. } => Kind::SessionAt,
            Self::CheckpointEnd { .. } => Kind::CheckpointEnd,
            Self::LanesForgotten { .. } => Kind::LanesForgotten,
            Self::IncarnationsForgotten { .. } => Kind::IncarnationsForgotten,
            Self::SinkEnded { .. } => Kind::SinkEnded,
            Self::VolatileEnded => Kind::VolatileEnded,
            Self::FateOpen => Kind::FateOpen,
            Self::Batch { .. } => Kind::Batch,
        }
    }

    fn payload(&self, out: &mut Out<'_>) {
        match self {
            Self::Rows(rows) => put_rows(out, rows),
            Self::Cut { cut, rows } => {
                // Partition numbers are not negative, so the highest bit is free.
                let partition = cut.partition as u32 | if cut.timeless { TIMELESS } else { 0 };
                out.u64(cut.cut).u64(cut.lane).u64(cut.incarnation).u32(partition);
                out.u64(cut.producer_id as u64).u16(cut.epoch as u16).u32(cut.sequence as u32);
                rows.put(out);
            }
            Self::Done { cut, lane, base_offset, rows } => {
                rows.put(out.u64(*cut).u64(*lane).u64(*base_offset as u64));
            }
            Self::EndRows { lane, reason, rows } => rows.put(out.u64(*lane).u8(*reason as u8)),
            Self::EndCut { cut, lane, reason, rows } => rows.put(out.u64(*cut).u64(*lane).u8(*reason as u8)),
            Self::Incarnation { number, topic_id, partitions, sink, topic, cluster } => {
                out.u64(*number).bytes(&topic_id.to_be_bytes()).u32(*partitions);
                out.text(sink).text(topic).text(cluster);
            }
            Self::Session { session, payload } => _ = out.u64(*session).bytes(payload),
            Self::SessionEnded { session } => _ = out.u64(*session),
            Self::Opened { session, packet_id, rows } => rows.put(out.u64(*session).u16(*packet_id)),
            Self::Released { session, packet_id } => _ = out.u64(*session).u16(*packet_id),
            Self::Commit { group, start, wall_ms, count, checksum } => {
                out.u64(*group).u64(*start).u64(*wall_ms as u64).u32(*count).u32(*checksum);
            }
            Self::Checkpoint { begun, part, next_incarnation, next_lane, next_cut, next_session } => {
                out.u64(*begun).u32(*part);
                out.u64(*next_incarnation).u64(*next_lane).u64(*next_cut).u64(*next_session);
            }
            Self::Lane { lane, partition, next, open_below, landed, volatile, sink, topic } => {
                out.u64(*lane).u32(*partition as u32).u64(*next).u64(*open_below).u64(*landed as u64);
                out.u16(u16::from(*volatile)).text(sink).text(topic);
            }
            Self::Spans { lane, spans } => spans.put(out.u64(*lane)),
            Self::Segment { segment, salt, end } => {
                out.u64(*segment).u64(*salt).u64(*end);
            }
            Self::SessionAt { session, segment, position, bytes } => {
                out.u64(*session).u64(*segment).u64(*position).u64(*bytes);
            }
            Self::CheckpointEnd { last } => _ = out.u8(u8::from(*last)),
            Self::LanesForgotten { lanes: numbers } | Self::IncarnationsForgotten { numbers } => numbers.put(out),
            Self::VolatileEnded | Self::FateOpen => {}
            Self::SinkEnded { sink } => _ = out.bytes(sink.as_bytes()),
            Self::Batch { batch } => {
                out.bytes(batch);
            }
        }
    }
}

impl<'a> Framed<'a> {
    /// The entry; `None`: its kind is not known, or its payload cannot be parsed.
    pub(super) fn parsed(&self) -> Option<Entry<'a>> {
        parse(self.kind?, self.payload)
    }
}

fn put_rows(out: &mut Out<'_>, rows: &Rows<'_>) {
    out.u64(rows.lane).u64(rows.run.first).u32(rows.run.count as u32).u64(rows.base_timestamp as u64);
    out.u32(rows.origins.len() as u32).u32(rows.deadlines.len() as u32).u32(rows.hashes.len() as u32);
    rows.origins.put(out);
    rows.deadlines.put(out);
    rows.hashes.put(out);
    out.bytes(rows.records);
}

/// Bytes of a rows entry's payload before its lists.
pub(super) const ROWS_HEAD_BYTES: usize = 40;

/// Flag of a lane: its rows belong only to the process that wrote them. The other bits are free.
const VOLATILE: u16 = 1;

/// Flag in a cut's partition: the batch is sent without its records' timestamps.
const TIMELESS: u32 = 1 << 31;

/// Parses a payload. `None`: it is not of that kind, not whole, or has numbers that no log reaches.
pub(super) fn parse(kind: Kind, payload: &[u8]) -> Option<Entry<'_>> {
    let mut input = In(payload);
    let entry = match kind {
        Kind::Rows => Entry::Rows(parse_rows(&mut input)?),
        Kind::Cut => {
            let (cut, lane, incarnation) = (input.number()?, input.number()?, input.number()?);
            let partition = input.u32()?;
            let (producer_id, epoch, sequence) = (input.u64()? as i64, input.u16()? as i16, input.u32()? as i32);
            let (partition, timeless) = ((partition & !TIMELESS) as i32, partition & TIMELESS != 0);
            let cut = CutHead { cut, lane, incarnation, partition, producer_id, epoch, sequence, timeless };
            Entry::Cut { cut, rows: Runs::parse(&mut input)? }
        }
        Kind::Done => {
            let (cut, lane, base_offset) = (input.number()?, input.number()?, input.u64()? as i64);
            Entry::Done { cut, lane, base_offset, rows: Runs::parse(&mut input)? }
        }
        Kind::EndRows => {
            let (lane, reason) = (input.number()?, Reason::from_number(input.u8()?)?);
            Entry::EndRows { lane, reason, rows: Runs::parse(&mut input)? }
        }
        Kind::EndCut => {
            let (cut, lane, reason) = (input.number()?, input.number()?, Reason::from_number(input.u8()?)?);
            Entry::EndCut { cut, lane, reason, rows: Runs::parse(&mut input)? }
        }
        Kind::Incarnation => Entry::Incarnation {
            number: input.number()?,
            topic_id: input.u128()?,
            partitions: input.u32()?,
            sink: input.text()?,
            topic: input.text()?,
            cluster: input.text()?,
        },
        Kind::Session => Entry::Session { session: input.number()?, payload: input.rest() },
        Kind::SessionEnded => Entry::SessionEnded { session: input.number()? },
        Kind::Opened => {
            let (session, packet_id) = (input.number()?, input.u16()?);
            let count = u32::try_from(input.0.len() / 16).ok()?;
            Entry::Opened { session, packet_id, rows: Listed::parse(count, &mut input)? }
        }
        Kind::Released => Entry::Released { session: input.number()?, packet_id: input.u16()? },
        Kind::Commit => {
            let (group, start, wall_ms) = (input.number()?, input.number()?, input.u64()? as i64);
            Entry::Commit { group, start, wall_ms, count: input.u32()?, checksum: input.u32()? }
        }
        Kind::Checkpoint => {
            let (begun, part) = (input.number()?, input.u32()?);
            let (next_incarnation, next_lane) = (input.number()?, input.number()?);
            let (next_cut, next_session) = (input.number()?, input.number()?);
            Entry::Checkpoint { begun, part, next_incarnation, next_lane, next_cut, next_session }
        }
        Kind::Lane => Entry::Lane {
            lane: input.number()?,
            partition: input.u32()? as i32,
            next: input.number()?,
            open_below: input.number()?,
            landed: input.u64()? as i64,
            volatile: input.u16()? & VOLATILE != 0,
            sink: input.text()?,
            topic: input.text()?,
        },
        Kind::Spans => Entry::Spans { lane: input.number()?, spans: Spans::parse(&mut input)? },
        Kind::Segment => Entry::Segment { segment: input.number()?, salt: input.u64()?, end: input.number()? },
        Kind::SessionAt => Entry::SessionAt {
            session: input.number()?,
            segment: input.number()?,
            position: input.number()?,
            bytes: u64::from(u32::try_from(input.u64()?).ok()?),
        },
        Kind::CheckpointEnd => Entry::CheckpointEnd { last: input.u8()? == 1 },
        Kind::LanesForgotten => Entry::LanesForgotten { lanes: Runs::parse(&mut input)? },
        Kind::IncarnationsForgotten => Entry::IncarnationsForgotten { numbers: Runs::parse(&mut input)? },
        Kind::VolatileEnded => Entry::VolatileEnded,
        Kind::FateOpen => Entry::FateOpen,
        Kind::SinkEnded => Entry::SinkEnded { sink: std::str::from_utf8(input.rest()).ok()? },
        Kind::Batch => Entry::Batch { batch: input.rest() },
    };
    input.0.is_empty().then_some(entry)
}

fn parse_rows<'a>(input: &mut In<'a>) -> Option<Rows<'a>> {
    let (lane, run) = rows_head(input)?;
    let base_timestamp = input.u64()? as i64;
    let (origins, deadlines, hashes) = (input.u32()?, input.u32()?, input.u32()?);
    let origins = Listed::parse(origins, input)?;
    let deadlines = Listed::parse(deadlines, input)?;
    let hashes = Listed::parse(hashes, input)?;
    // A record takes at least a byte.
    if run.count > input.0.len() as u64 {
        return None;
    }
    Some(Rows { lane, run, base_timestamp, origins, deadlines, hashes, records: input.rest() })
}

/// Lane and numbers of a block, from the front of its payload.
pub(super) fn rows_head(input: &mut In<'_>) -> Option<(u64, RowRun)> {
    let (lane, first, count) = (input.number()?, input.number()?, input.u32()?);
    let run = RowRun { first, count: u64::from(count) };
    (count > 0 && i32::try_from(count).is_ok()).then_some((lane, run))
}
