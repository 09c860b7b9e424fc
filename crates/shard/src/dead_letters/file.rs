//! The queue of one sink or bridge to its dead-letter file: letters passed to the file's thread that are not on the disk yet.

use std::collections::VecDeque;
use std::sync::mpsc::Sender;

use forebay_base::limits::{DEAD_LETTERS_QUEUED_BYTES_MAX, DEAD_LETTERS_QUEUED_MAX};
use forebay_service::service::dead_letters::Letter;

/// The letters of a sink or a bridge that wait for the disk.
#[derive(Debug)]
pub(crate) struct FileQueue {
    shard: usize,
    sink: usize,
    to: Sender<Letter>,
    /// Letters and their bytes, oldest first.
    waiting: VecDeque<(u32, usize)>,
    bytes: usize,
}

impl FileQueue {
    pub(crate) const fn new(shard: usize, sink: usize, to: Sender<Letter>) -> Self {
        Self { shard, sink, to, waiting: VecDeque::new(), bytes: 0 }
    }

    /// Whether the queue takes one more letter, of any size.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.len() < DEAD_LETTERS_QUEUED_MAX && self.bytes < DEAD_LETTERS_QUEUED_BYTES_MAX
    }

    /// Sends a letter, after [`FileQueue::has_room`].
    pub(crate) fn send(&mut self, letter: u32, line: Vec<u8>) {
        let bytes = line.len();
        // The thread ends with the process, when no answer goes out any more.
        if self.to.send(Letter { shard: self.shard, sink: self.sink, line }).is_ok() {
            self.bytes += bytes;
            self.waiting.push_back((letter, bytes));
        }
    }

    /// Takes out the oldest letter, which is on the disk.
    pub(crate) fn written(&mut self) -> Option<u32> {
        let (letter, bytes) = self.waiting.pop_front()?;
        self.bytes -= bytes;
        Some(letter)
    }

    /// Letters and bytes that wait.
    pub(crate) fn queued(&self) -> (usize, usize) {
        (self.waiting.len(), self.bytes)
    }
}
