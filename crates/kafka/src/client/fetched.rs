//! The answers to Fetch, ListOffsets and OffsetForLeaderEpoch, read in place. Of records only the range is noted.

use crate::fetch::{Fetched, FetchedPartition, OffsetAsk, OffsetFound};

use super::wire::{Malformed, Read, Reader};

/// From this version on a Fetch names topics by id (KIP-516).
const BY_ID: i16 = 13;

/// Reads the answer to a Fetch, the last bytes of a frame of `frame_bytes`; returns the throttle time in ms with it.
///
/// # Errors
/// [`Malformed`].
pub(super) fn read_fetch(reader: &mut Reader<'_>, version: i16, frame_bytes: usize) -> Read<(Fetched, i32)> {
    let throttle_ms = reader.i32()?;
    let (error, session_id) = if version >= 7 { (reader.i16()?, reader.i32()?) } else { (0, 0) };
    let mut partitions = Vec::new();
    for _ in 0..reader.array(2)? {
        let (topic_id, topic) = if version >= BY_ID {
            (reader.u128()?, 0..0)
        } else {
            let name = reader.string()?;
            let end = frame_bytes.checked_sub(reader.rest().len()).ok_or(Malformed("ends early"))?;
            (0, end - name.len()..end)
        };
        for _ in 0..reader.array(26)? {
            let partition = reader.i32()?;
            let error = reader.i16()?;
            let (high_watermark, last_stable_offset) = (reader.i64()?, reader.i64()?);
            if version >= 5 {
                reader.i64()?; // log start offset
            }
            let aborted = read_aborted(reader)?;
            if version >= 11 {
                reader.i32()?; // preferred replica, for clients that name their rack
            }
            let records = reader.nullable_bytes()?.unwrap_or_default();
            let end = frame_bytes.checked_sub(reader.rest().len()).ok_or(Malformed("ends early"))?;
            reader.tags()?;
            let records = end - records.len()..end;
            let topic = topic.clone();
            partitions.push(FetchedPartition {
                topic_id,
                topic,
                partition,
                error,
                high_watermark,
                last_stable_offset,
                aborted,
                records,
            });
        }
        reader.tags()?;
    }
    reader.tags()?;
    reader.end();
    Ok((Fetched { frame: Vec::new(), error, session_id, partitions }, throttle_ms))
}

/// Producer id and first offset of each aborted transaction.
fn read_aborted(reader: &mut Reader<'_>) -> Read<Vec<(i64, i64)>> {
    let count = reader.array(16)?;
    let mut aborted = Vec::with_capacity(count);
    for _ in 0..count {
        aborted.push((reader.i64()?, reader.i64()?));
        reader.tags()?;
    }
    Ok(aborted)
}

/// Reads the answer to ListOffsets or OffsetForLeaderEpoch; one offset for each requested partition, in that order, and the throttle
/// time in ms.
///
/// # Errors
/// [`Malformed`].
pub(super) fn read_offsets(
    reader: &mut Reader<'_>,
    version: i16,
    asks: &[OffsetAsk],
    is_epoch: bool,
) -> Read<(Vec<OffsetFound>, i32)> {
    let throttle_ms = if is_epoch || version >= 2 { reader.i32()? } else { 0 };
    let mut found = vec![OffsetFound::MISSING; asks.len()];
    for _ in 0..reader.array(2)? {
        let topic = reader.string()?;
        for _ in 0..reader.array(6)? {
            let (partition, told) = if is_epoch { read_epoch_end(reader)? } else { read_offset(reader, version)? };
            reader.tags()?;
            let at = asks.iter().position(|ask| ask.partition == partition && ask.topic.as_bytes() == topic);
            if let Some(place) = at.and_then(|at| found.get_mut(at)) {
                *place = told;
            }
        }
        reader.tags()?;
    }
    reader.tags()?;
    reader.end();
    Ok((found, throttle_ms))
}

fn read_epoch_end(reader: &mut Reader<'_>) -> Read<(i32, OffsetFound)> {
    let (error, partition) = (reader.i16()?, reader.i32()?);
    let (leader_epoch, offset) = (reader.i32()?, reader.i64()?);
    Ok((partition, OffsetFound { error, offset, leader_epoch }))
}

fn read_offset(reader: &mut Reader<'_>, version: i16) -> Read<(i32, OffsetFound)> {
    let (partition, error) = (reader.i32()?, reader.i16()?);
    reader.i64()?; // timestamp
    let offset = reader.i64()?;
    let leader_epoch = if version >= 4 { reader.i32()? } else { -1 };
    Ok((partition, OffsetFound { error, offset, leader_epoch }))
}
