//! Lines of waiting messages, oldest first.

use std::collections::VecDeque;
use std::rc::Rc;

use forebay_session::{Body, QueueBounds, Waiting};

/// A line of messages, oldest first, with its bytes.
#[derive(Debug, Default)]
pub(super) struct Line {
    queue: VecDeque<Rc<Body>>,
    waiting: Waiting,
}

impl Line {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn get(&self, at: usize) -> Option<&Rc<Body>> {
        self.queue.get(at)
    }

    /// Whether the oldest message has to be dropped for this one.
    pub(super) fn is_full(&self, body: &Body, bounds: QueueBounds) -> bool {
        !body.is_windowed() && self.waiting.is_full(body.packet().len(), 0, bounds)
    }

    /// The number of messages that the bounds count.
    pub(super) fn bounded(&self) -> usize {
        self.waiting.bounded().0
    }

    /// The place of the oldest message that may be dropped.
    pub(super) fn oldest_to_go(&self) -> Option<usize> {
        if self.waiting.bounded().0 == 0 {
            return None;
        }
        self.queue.iter().position(|body| !body.is_windowed())
    }

    pub(super) fn push_back(&mut self, body: Rc<Body>) {
        self.waiting.add(&body);
        self.queue.push_back(body);
    }

    pub(super) fn push_front(&mut self, body: Rc<Body>) {
        self.waiting.add(&body);
        self.queue.push_front(body);
    }

    pub(super) fn remove(&mut self, at: usize) -> Option<Rc<Body>> {
        let body = self.queue.remove(at)?;
        self.waiting.remove(&body);
        Some(body)
    }

    /// The place of the first message that keeps its record open.
    pub(super) fn first_claiming(&self) -> Option<usize> {
        if self.waiting.bounded() == self.waiting.all() {
            return None;
        }
        self.queue.iter().position(|body| body.is_claiming())
    }

    /// Replaces the body in this place by another one of the same message.
    pub(super) fn replace(&mut self, at: usize, body: Rc<Body>) {
        let Some(place) = self.queue.get_mut(at) else { return };
        self.waiting.add(&body);
        let before = std::mem::replace(place, body);
        self.waiting.remove(&before);
    }

    /// Removes and returns the messages for which `is_it` is true.
    pub(super) fn take_if(&mut self, mut is_it: impl FnMut(&Body) -> bool) -> Self {
        let (mut taken, mut left) = (Self::default(), Self::default());
        for body in self.queue.drain(..) {
            let to = if is_it(&body) { &mut taken } else { &mut left };
            to.push_back(body);
        }
        *self = left;
        taken
    }
}

impl IntoIterator for Line {
    type Item = Rc<Body>;
    type IntoIter = std::collections::vec_deque::IntoIter<Rc<Body>>;

    fn into_iter(self) -> Self::IntoIter {
        self.queue.into_iter()
    }
}
