//! Chunks that wait for sending on a connection, such as the batches of a Produce request. A device's connection never has any, so
//! they are one pointer there.

use std::collections::VecDeque;

use super::seam::Chunk;
use super::send::Gather;

/// The chunks that wait to be sent on one connection; one pointer where there are none.
#[derive(Default)]
pub(super) struct Chunks(Option<Box<Waiting>>);

#[derive(Default)]
struct Waiting {
    /// Oldest first; the first ones are with the kernel while `gather` is there.
    chunks: VecDeque<Chunk>,
    /// Bytes of the chunks, without those that were sent.
    bytes: usize,
    /// The pieces of the send under way.
    gather: Option<Box<Gather>>,
}

impl Chunks {
    pub(super) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|waiting| waiting.chunks.is_empty())
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |waiting| waiting.bytes)
    }

    /// Oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Chunk> {
        self.0.iter().flat_map(|waiting| &waiting.chunks)
    }

    pub(super) fn front(&self) -> Option<&Chunk> {
        self.0.as_ref()?.chunks.front()
    }

    pub(super) fn push(&mut self, chunk: Chunk) {
        let waiting = self.0.get_or_insert_default();
        waiting.bytes += chunk.bytes().len();
        waiting.chunks.push_back(chunk);
    }

    /// Counts this many bytes at the front as sent.
    pub(super) fn gone(&mut self, bytes: usize) {
        if let Some(waiting) = &mut self.0 {
            waiting.bytes -= bytes;
        }
    }

    /// Takes out the chunk at the front once all of its bytes have been sent.
    pub(super) fn pop(&mut self) -> Option<Chunk> {
        self.0.as_mut()?.chunks.pop_front()
    }

    /// Takes out all chunks, sent or not.
    pub(super) fn take_all(&mut self) -> VecDeque<Chunk> {
        let Some(waiting) = &mut self.0 else { return VecDeque::new() };
        waiting.bytes = 0;
        std::mem::take(&mut waiting.chunks)
    }

    /// Notes the pieces of the first chunks that are with the kernel.
    pub(super) fn under_way(&mut self, gather: Box<Gather>) {
        self.0.get_or_insert_default().gather = Some(gather);
    }

    /// The kernel has answered.
    pub(super) fn take_gather(&mut self) -> Option<Box<Gather>> {
        self.0.as_mut()?.gather.take()
    }
}
