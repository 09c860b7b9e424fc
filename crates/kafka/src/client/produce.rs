//! Produce, encoded and decoded by hand. The request is on the hot path: its batches go to the socket in place, so only the bytes around
//! them are built here. The answer is read in place.

use std::rc::Rc;

use super::api::{BY_ID, Call};
use super::request::Head;
use super::wire::{Malformed, Read, Reader, put_uvarint};
use crate::types::{ProduceBatch, ProduceRequest, ProduceResult};
use forebay_runtime::seam::Chunk;

/// The `base_offset` of a result until the answer names its partition.
const UNANSWERED: i64 = i64::MIN;

/// The longest topic name on the wire: i16 in the classic encoding (Kafka itself takes 249 bytes).
const NAME_BYTES_MAX: usize = i16::MAX as usize;

/// A Produce request as chunks: `[length, header, first partition's head][batch][next head][batch]…[tail]`, and the
/// number of bytes. `None` if it is too large for the protocol (2 GiB, or a topic name of 32 KiB).
pub(super) fn request(head: Head<'_>, version: i16, request: &ProduceRequest) -> Option<(Vec<Chunk>, usize)> {
    let (flexible, by_id) = (Call::Produce.is_flexible(version), version >= BY_ID);
    let mut body = Body { flexible, by_id, chunks: Vec::new(), open: Vec::new(), bytes: 0 };
    body.chunks.reserve_exact(2 * request.batches.len() + 1);
    body.open.reserve_exact(96 + head.client_id.len());
    body.open.extend_from_slice(&[0; 4]);
    body.open.extend_from_slice(&Call::Produce.key().to_be_bytes());
    body.open.extend_from_slice(&version.to_be_bytes());
    body.open.extend_from_slice(&head.correlation.to_be_bytes());
    // The client id is in the classic encoding in every header version.
    body.open.extend_from_slice(&i16::try_from(head.client_id.len()).ok()?.to_be_bytes());
    body.open.extend_from_slice(head.client_id.as_bytes());
    body.tags();
    body.null_string();
    body.open.extend_from_slice(&request.acks.to_be_bytes());
    body.open.extend_from_slice(&request.timeout_ms.to_be_bytes());
    body.count(request.batches.chunk_by(same_topic).count())?;
    for topic in request.batches.chunk_by(same_topic) {
        body.topic(topic)?;
    }
    body.tags();
    body.finish()
}

/// The version of a request: a topic without a known id has only its name.
pub(super) fn version_for(settled: i16, batches: &[ProduceBatch]) -> i16 {
    if batches.iter().all(|batch| batch.topic_id != 0) { settled } else { settled.min(BY_ID - 1) }
}

fn same_topic(a: &ProduceBatch, b: &ProduceBatch) -> bool {
    Rc::ptr_eq(&a.topic, &b.topic) || a.topic == b.topic
}

/// The chunks so far, and the one being written.
struct Body {
    flexible: bool,
    by_id: bool,
    chunks: Vec<Chunk>,
    open: Vec<u8>,
    /// Bytes in `chunks`.
    bytes: usize,
}

impl Body {
    fn topic(&mut self, batches: &[ProduceBatch]) -> Option<()> {
        let ProduceBatch { topic: name, topic_id, .. } = batches.first()?;
        if name.len() > NAME_BYTES_MAX {
            return None;
        }
        if self.by_id {
            self.open.extend_from_slice(&topic_id.to_be_bytes());
        } else if self.flexible {
            put_uvarint(&mut self.open, name.len() as u32 + 1);
        } else {
            self.open.extend_from_slice(&(name.len() as i16).to_be_bytes());
        }
        if !self.by_id {
            self.open.extend_from_slice(name.as_bytes());
        }
        self.count(batches.len())?;
        for batch in batches {
            self.open.extend_from_slice(&batch.partition.to_be_bytes());
            // The length of records is encoded as that of a byte array: i32, or uvarint of length + 1.
            self.count(batch.bytes.len())?;
            self.close_chunk();
            self.bytes += batch.bytes.len();
            self.chunks.push(Chunk::Shared(Rc::clone(&batch.bytes)));
            self.tags();
        }
        self.tags();
        Some(())
    }

    fn count(&mut self, count: usize) -> Option<()> {
        let count = i32::try_from(count).ok().filter(|count| *count < i32::MAX)?;
        if self.flexible {
            put_uvarint(&mut self.open, count as u32 + 1);
        } else {
            self.open.extend_from_slice(&count.to_be_bytes());
        }
        Some(())
    }

    fn tags(&mut self) {
        if self.flexible {
            self.open.push(0);
        }
    }

    fn null_string(&mut self) {
        if self.flexible {
            self.open.push(0);
        } else {
            self.open.extend_from_slice(&(-1i16).to_be_bytes());
        }
    }

    fn close_chunk(&mut self) {
        let chunk = std::mem::take(&mut self.open);
        self.bytes += chunk.len();
        self.chunks.push(Chunk::Owned(chunk));
    }

    fn finish(mut self) -> Option<(Vec<Chunk>, usize)> {
        if !self.open.is_empty() {
            self.close_chunk();
        }
        let length = i32::try_from(self.bytes - 4).ok()?;
        if let Some(Chunk::Owned(first)) = self.chunks.first_mut() {
            first.get_mut(..4)?.copy_from_slice(&length.to_be_bytes());
        }
        Some((self.chunks, self.bytes))
    }
}

/// Reads a Produce answer, header already read: one result for each of `batches`, in their order, and the throttle
/// time in ms.
///
/// # Errors
/// [`Malformed`], also if a partition is missing, answered twice, or was not in the request.
pub(super) fn read_answer(
    reader: &mut Reader<'_>,
    version: i16,
    batches: &[ProduceBatch],
) -> Read<(Vec<ProduceResult>, i32)> {
    let mut results: Vec<ProduceResult> = batches
        .iter()
        .map(|batch| ProduceResult {
            topic: Rc::clone(&batch.topic),
            partition: batch.partition,
            error: 0,
            base_offset: UNANSWERED,
        })
        .collect();
    // Brokers may answer in another order, but usually do not: the search starts where the last one ended.
    let (mut missing, mut expected) = (results.len(), 0);
    for _ in 0..reader.array(2)? {
        let (id, name) = if version >= BY_ID { (reader.u128()?, &[][..]) } else { (0, reader.string()?) };
        for _ in 0..reader.array(22)? {
            let (partition, error, base_offset) = read_partition(reader, version)?;
            let found = (expected..results.len()).chain(0..expected).find(|i| {
                let result = &results[*i];
                let it = if version >= BY_ID { batches[*i].topic_id == id } else { result.topic.as_bytes() == name };
                result.partition == partition && result.base_offset == UNANSWERED && it
            });
            let found = found.ok_or(Malformed("partition that was not asked"))?;
            results[found].error = error;
            results[found].base_offset = if error == 0 { base_offset.max(-1) } else { -1 };
            (missing, expected) = (missing - 1, found + 1);
        }
        reader.tags()?;
    }
    let throttle_ms = reader.i32()?;
    reader.tags()?;
    reader.end();
    if missing > 0 {
        return Err(Malformed("partition without an answer"));
    }
    Ok((results, throttle_ms))
}

/// Reads one partition of an answer: index, error code, base offset.
fn read_partition(reader: &mut Reader<'_>, version: i16) -> Read<(i32, i16, i64)> {
    let answer = (reader.i32()?, reader.i16()?, reader.i64()?);
    reader.i64()?; // log append time
    if version >= 5 {
        reader.i64()?; // log start offset
    }
    if version >= 8 {
        for _ in 0..reader.array(5)? {
            reader.i32()?;
            reader.nullable_string()?;
            reader.tags()?;
        }
        reader.nullable_string()?;
    }
    // From v10 the tags name the new leader (KIP-951); metadata has it too.
    reader.tags()?;
    Ok(answer)
}
