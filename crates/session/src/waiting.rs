//! The waiting messages of a queue, and the part of them that counts for the queue's bounds.

use std::rc::Rc;

use super::body::Body;
use super::settings::QueueBounds;

/// Counts of messages that wait in a queue. Messages of records that stay open for them are bounded by the windows of their
/// partitions, and not by the queue: a slow client holds back its partitions, and loses nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Number and bytes of all messages.
    all: (usize, usize),
    /// Number and bytes of messages in windows.
    windowed: (usize, usize),
}

impl Waiting {
    /// Adds a message.
    pub fn add(&mut self, body: &Body) {
        let of = |sum: &mut (usize, usize)| *sum = (sum.0 + 1, sum.1 + body.packet().len());
        of(&mut self.all);
        if body.is_windowed() {
            of(&mut self.windowed);
        }
    }

    /// Removes a message.
    pub fn remove(&mut self, body: &Body) {
        let of = |sum: &mut (usize, usize)| *sum = (sum.0 - 1, sum.1 - body.packet().len());
        of(&mut self.all);
        if body.is_windowed() {
            of(&mut self.windowed);
        }
    }

    /// Number and bytes of the waiting messages.
    #[must_use]
    pub fn all(&self) -> (usize, usize) {
        self.all
    }

    /// Number and bytes of the messages that the bounds apply to.
    #[must_use]
    pub fn bounded(&self) -> (usize, usize) {
        (self.all.0 - self.windowed.0, self.all.1 - self.windowed.1)
    }

    /// Whether any of them is in a window: its record stays open for it.
    #[must_use]
    pub fn has_windowed(&self) -> bool {
        self.windowed.0 > 0
    }

    /// Whether the bounds leave no room for a message of this size, with `more` exchanges that have no message any more. A message that is larger
    /// than the bound waits alone.
    #[must_use]
    pub fn is_full(&self, message_bytes: usize, more: usize, bounds: QueueBounds) -> bool {
        let (messages, bytes) = self.bounded();
        messages + more >= bounds.messages || bytes > 0 && bytes + message_bytes > bounds.bytes
    }
}

impl<'a> FromIterator<&'a Rc<Body>> for Waiting {
    fn from_iter<T: IntoIterator<Item = &'a Rc<Body>>>(bodies: T) -> Self {
        let mut waiting = Self::default();
        bodies.into_iter().for_each(|body| waiting.add(body));
        waiting
    }
}
