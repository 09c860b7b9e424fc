//! The payload of each kind of entry, written and read. `docs/SPOOL.md` has the fields.

use super::codec::{In, Out};
use super::entry::{Cut, Deadline, Entry, Kind, Origin, Reason, Rows, Span, rows_in};

impl Entry<'_> {
    /// Appends it; mark and checksum are given when its group is written.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        super::format::put(out, self.kind(), |out| self.payload(&mut Out(out)));
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Rows(_) => Kind::Rows,
            Self::Cut(_) => Kind::Cut,
            Self::Done { .. } => Kind::Done,
            Self::EndRows { .. } => Kind::EndRows,
            Self::EndCut { .. } => Kind::EndCut,
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
            Self::CheckpointEnd => Kind::CheckpointEnd,
            Self::Batch { .. } => Kind::Batch,
        }
    }

    fn payload(&self, out: &mut Out<'_>) {
        match self {
            Self::Rows(rows) => put_rows(out, rows),
            Self::Cut(cut) => {
                out.u64(cut.cut).u32(cut.lane).bytes(&cut.topic_id).u32(cut.partition as u32);
                out.u64(cut.producer_id as u64).u16(cut.epoch as u16).u32(cut.sequence as u32).runs(&cut.rows);
            }
            Self::Done { cut, lane, base_offset, rows } => {
                out.u64(*cut).u32(*lane).u64(*base_offset as u64).runs(rows);
            }
            Self::EndRows { lane, reason, rows } => {
                out.u32(*lane).u8(*reason as u8).runs(rows);
            }
            Self::EndCut { cut, lane, reason, rows } => {
                out.u64(*cut).u32(*lane).u8(*reason as u8).runs(rows);
            }
            Self::Session { session, payload } => {
                out.u64(*session).bytes(payload);
            }
            Self::SessionEnded { session } => {
                out.u64(*session);
            }
            Self::Opened { session, packet_id, lanes } => {
                out.u64(*session).u16(*packet_id).u32(lanes.len() as u32);
                for lane in lanes {
                    out.u32(*lane);
                }
            }
            Self::Released { session, packet_id } => {
                out.u64(*session).u16(*packet_id);
            }
            Self::Commit { group, start, count, checksum } => {
                out.u64(*group).u64(*start).u32(*count).u32(*checksum);
            }
            Self::Checkpoint { next_lane, next_cut, next_session } => {
                out.u32(*next_lane).u64(*next_cut).u64(*next_session);
            }
            Self::Lane { lane, partition, next, sink, topic } => {
                out.u32(*lane).u32(*partition as u32).u64(*next).text(sink).text(topic);
            }
            Self::Spans { lane, spans } => {
                out.u32(*lane).u32(spans.len() as u32);
                for span in spans {
                    out.runs_one(span.run).u64(span.segment).u64(span.position).u64(span.bytes);
                }
            }
            Self::Segment { segment, salt, end } => {
                out.u64(*segment).u64(*salt).u64(*end);
            }
            Self::SessionAt { session, segment, position } => {
                out.u64(*session).u64(*segment).u64(*position);
            }
            Self::CheckpointEnd => {}
            Self::Batch { batch } => {
                out.bytes(batch);
            }
        }
    }
}

fn put_rows(out: &mut Out<'_>, rows: &Rows<'_>) {
    out.u32(rows.lane).runs_one(rows.run).u32(rows.origins.len() as u32).u32(rows.deadlines.len() as u32);
    for origin in &rows.origins {
        out.u32(origin.index).u64(origin.session).u16(origin.packet_id);
    }
    for deadline in &rows.deadlines {
        out.u32(deadline.index).u64(deadline.wall_ms as u64).u64(deadline.left_ms);
    }
    out.bytes(rows.batch);
}

/// Reads a payload. `None`: it is not of that kind, or not whole.
pub(super) fn parse(kind: Kind, payload: &[u8]) -> Option<Entry<'_>> {
    let mut input = In(payload);
    let entry = match kind {
        Kind::Rows => Entry::Rows(parse_rows(&mut input)?),
        Kind::Cut => Entry::Cut(Cut {
            cut: input.u64()?,
            lane: input.u32()?,
            topic_id: input.array()?,
            partition: input.u32()? as i32,
            producer_id: input.u64()? as i64,
            epoch: input.u16()? as i16,
            sequence: input.u32()? as i32,
            rows: input.runs()?,
        }),
        Kind::Done => {
            Entry::Done { cut: input.u64()?, lane: input.u32()?, base_offset: input.u64()? as i64, rows: input.runs()? }
        }
        Kind::EndRows => {
            Entry::EndRows { lane: input.u32()?, reason: Reason::from_number(input.u8()?)?, rows: input.runs()? }
        }
        Kind::EndCut => Entry::EndCut {
            cut: input.u64()?,
            lane: input.u32()?,
            reason: Reason::from_number(input.u8()?)?,
            rows: input.runs()?,
        },
        Kind::Session => Entry::Session { session: input.u64()?, payload: input.rest() },
        Kind::SessionEnded => Entry::SessionEnded { session: input.u64()? },
        Kind::Opened => {
            let (session, packet_id) = (input.u64()?, input.u16()?);
            Entry::Opened { session, packet_id, lanes: input.list(4, In::u32)? }
        }
        Kind::Released => Entry::Released { session: input.u64()?, packet_id: input.u16()? },
        Kind::Commit => {
            Entry::Commit { group: input.u64()?, start: input.u64()?, count: input.u32()?, checksum: input.u32()? }
        }
        Kind::Checkpoint => {
            Entry::Checkpoint { next_lane: input.u32()?, next_cut: input.u64()?, next_session: input.u64()? }
        }
        Kind::Lane => Entry::Lane {
            lane: input.u32()?,
            partition: input.u32()? as i32,
            next: input.u64()?,
            sink: input.text()?,
            topic: input.text()?,
        },
        Kind::Spans => Entry::Spans { lane: input.u32()?, spans: input.list(40, parse_span)? },
        Kind::Segment => Entry::Segment { segment: input.u64()?, salt: input.u64()?, end: input.u64()? },
        Kind::SessionAt => Entry::SessionAt { session: input.u64()?, segment: input.u64()?, position: input.u64()? },
        Kind::CheckpointEnd => Entry::CheckpointEnd,
        Kind::Batch => Entry::Batch { batch: input.rest() },
    };
    input.0.is_empty().then_some(entry)
}

fn parse_span(input: &mut In<'_>) -> Option<Span> {
    Some(Span { run: input.run()?, segment: input.u64()?, position: input.u64()?, bytes: input.u64()? })
}

fn parse_rows<'a>(input: &mut In<'a>) -> Option<Rows<'a>> {
    let (lane, run) = (input.u32()?, input.run()?);
    let (origins, deadlines) = (input.u32()?, input.u32()?);
    let origin =
        |input: &mut In<'a>| Some(Origin { index: input.u32()?, session: input.u64()?, packet_id: input.u16()? });
    let deadline = |input: &mut In<'a>| {
        Some(Deadline { index: input.u32()?, wall_ms: input.u64()? as i64, left_ms: input.u64()? })
    };
    let origins = input.many(origins, 14, origin)?;
    let deadlines = input.many(deadlines, 20, deadline)?;
    let batch = input.rest();
    (rows_in(batch)? == run.count).then_some(Rows { lane, run, origins, deadlines, batch })
}
