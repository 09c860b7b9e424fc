//! Deadlines of the producer other than linger: backoff, throttling, unanswered requests to the owner. There are few, so a heap.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Key, Producer, Want};
use crate::types::NodeId;
use forebay_base::limits::{UNUSED_BUFFERS_LOOK, UNUSED_BUFFERS_PAUSE};
use forebay_runtime::seam::Monotonic;

/// The subject of a timer. A timer only causes a check, which compares with the state at that time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A partition's backoff.
    Partition(Key),
    /// A topic's metadata, or the end of its refusal.
    Topic(u32),
    /// A sink's producer id.
    Sink(usize),
    /// A sink's waiting rows, some of which may be too old.
    Sweep(usize),
    /// A broker's throttling.
    Node(NodeId),
    /// Ends of logs that could not be reported.
    Ends,
    /// Unused buffers.
    Unused,
}

/// The heap.
#[derive(Debug, Default)]
pub(super) struct Timers(BinaryHeap<Reverse<(Monotonic, Timer)>>);

impl Timers {
    pub(super) fn set(&mut self, at: Monotonic, timer: Timer) {
        self.0.push(Reverse((at, timer)));
    }

    pub(super) fn next(&self) -> Monotonic {
        self.0.peek().map_or(Monotonic::NEVER, |Reverse((at, _))| *at)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn pop(&mut self, now: Monotonic) -> Option<Timer> {
        if self.next() > now {
            return None;
        }
        self.0.pop().map(|Reverse((_, timer))| timer)
    }
}

impl Producer {
    pub(super) fn fire_timers(&mut self, now: Monotonic) {
        while let Some(timer) = self.agenda.timers.pop(now) {
            match timer {
                Timer::Partition(key) => self.make_ready(key),
                Timer::Topic(index) => self.topic_due(index, now),
                Timer::Sink(index) => {
                    let sink = &mut self.sinks[index];
                    if sink.asked_until.is_some_and(|until| until <= now) {
                        sink.asked_until = None;
                        if sink.identity.is_none() && sink.stats.buffered_rows > 0 {
                            self.ask_producer_id(index, now);
                        }
                    }
                }
                Timer::Sweep(index) => self.sweep(index, now),
                Timer::Node(id) => self.wake_node(id),
                Timer::Ends => self.ask_for_ends_again(now),
                Timer::Unused => self.release_unused(now),
            }
        }
    }

    /// Sets a timer to check the unused buffers, if they are many and none is set.
    pub(super) fn watch_unused(&mut self, now: Monotonic) {
        if !self.memory.watched && self.memory.pool.keeps_much() {
            self.memory.watched = true;
            self.agenda.timers.set(now.after(UNUSED_BUFFERS_LOOK), Timer::Unused);
        }
    }

    /// Frees all but a few unused buffers, when no more rows are expected.
    pub fn release_all_unused(&mut self) {
        // First the buffers that nothing has used since the last check, then the others.
        for _ in 0..2 {
            while !self.memory.pool.release() {}
        }
    }

    fn release_unused(&mut self, now: Monotonic) {
        self.memory.watched = false;
        if self.memory.pool.release() {
            self.watch_unused(now);
        } else {
            self.memory.watched = true;
            self.agenda.timers.set(now.after(UNUSED_BUFFERS_PAUSE), Timer::Unused);
        }
    }

    fn topic_due(&mut self, index: u32, now: Monotonic) {
        self.topics[index].view.end_refusal(now);
        self.wait_for_refusal(index, now);
        let topic = &mut self.topics[index];
        if topic.view.may_ask_again(now) && topic.wants_metadata() {
            self.ask_metadata(index, now);
        }
    }

    /// Sets a timer for the end of a topic's refusal, unless one is set.
    pub(super) fn wait_for_refusal(&mut self, index: u32, now: Monotonic) {
        if let Some(at) = self.topics[index].view.refusal_timer(now) {
            self.agenda.timers.set(at, Timer::Topic(index));
        }
    }

    /// Requests a topic's metadata, unless that was done recently.
    pub(super) fn ask_metadata(&mut self, index: u32, now: Monotonic) {
        let topic = &mut self.topics[index];
        let until = now.after(self.settings.ask_again);
        if topic.view.ask(until) {
            self.agenda.timers.set(until, Timer::Topic(index));
            self.outbox.wants.push(Want::Metadata(topic.name.clone()));
        }
    }

    /// Requests a sink's producer id, unless that was done recently.
    pub(super) fn ask_producer_id(&mut self, index: usize, now: Monotonic) {
        let sink = &mut self.sinks[index];
        if sink.asked_until.is_none() {
            let until = now.after(self.settings.ask_again);
            sink.asked_until = Some(until);
            self.agenda.timers.set(until, Timer::Sink(index));
            self.outbox.wants.push(Want::ProducerId(index as u64));
        }
    }

    /// Puts a partition on the list for the next poll.
    pub(super) fn make_ready(&mut self, key: Key) {
        if self.topics[key].is_now_queued() {
            self.agenda.ready.push(key);
        }
    }

    /// Puts the partitions that waited for a broker on the list again.
    pub(super) fn wake_node(&mut self, id: NodeId) {
        // The partitions are still marked as queued.
        self.dispatcher.wake(id, &mut self.agenda.ready);
    }

    /// The latest time for the next [`Producer::poll`]; [`Monotonic::NEVER`] if nothing waits for a time.
    #[must_use]
    pub fn next_deadline(&self) -> Monotonic {
        if self.agenda.behind {
            return Monotonic(0);
        }
        let linger = self.sinks.next_linger();
        self.agenda.timers.next().min(linger.unwrap_or(Monotonic::NEVER))
    }
}
