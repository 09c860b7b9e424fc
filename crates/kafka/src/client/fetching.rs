//! The consumer's channels: one for each broker and purpose. A broker may hold a Fetch until it has records, so a Fetch delays neither
//! metadata nor Produce. Every call gets one answer; the consumer retries. A channel without calls keeps its connection for [`KEPT`]; the
//! one for offsets closes it at once.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use super::connection::Asked;
use super::frame::Frame;
use super::upkeep::due;
use super::{Channel, Client, Owner};
use crate::fetch::{FetchAnswer, FetchAsk, FetchCall, FetchFailure, Fetched, Purpose, ReadWay};
use crate::types::ClientEvent;
use forebay_runtime::seam::Monotonic;

/// Maximum number of calls in flight on a way.
const IN_FLIGHT_MAX: usize = 4;
/// How long an unused connection is kept.
const KEPT: Duration = Duration::from_secs(60);

/// A way, and the calls that wait for it.
#[derive(Debug)]
pub(super) struct FetchChannel {
    pub(super) channel: Channel,
    queue: VecDeque<FetchCall>,
    /// Time of the last use.
    used_at: Monotonic,
}

impl FetchChannel {
    /// The time at which the connection counts as unused.
    fn unused_at(&self, purpose: Purpose) -> Monotonic {
        match self.queue.is_empty() {
            true if self.channel.is_idle() && purpose == Purpose::Offsets => self.used_at,
            true if self.channel.is_idle() || self.channel.dial_at() < Monotonic::NEVER => self.used_at.after(KEPT),
            _ => Monotonic::NEVER,
        }
    }
}

impl Client {
    /// Sends a request of the consumer to a broker. [`ClientEvent::Fetch`] is sent once for each; [`FetchFailure::Lost`] at once if the
    /// broker is not in the metadata (which is requested again), or if the queue is full.
    pub fn fetch(&mut self, call: FetchCall, now: Monotonic) {
        let (id, way) = (call.id, call.way);
        let Some(endpoint) = self.brokers.get(&way.node) else {
            self.fetch_failed(id, FetchFailure::Lost);
            self.topics.refresh(now);
            return self.pump_metadata(now);
        };
        let fetching = self.fetch_channels.entry(way).or_insert_with(|| FetchChannel {
            channel: Channel::new(Owner::Fetch(way), endpoint.clone()),
            queue: VecDeque::new(),
            used_at: now,
        });
        fetching.channel.endpoint.clone_from(endpoint);
        fetching.used_at = now;
        if fetching.queue.len() >= self.shared.settings.queued_max {
            return self.fetch_failed(id, FetchFailure::Lost);
        }
        if call.is_fresh && fetching.channel.is_idle() {
            fetching.channel.down(now, &mut self.shared);
        }
        fetching.queue.push_back(call);
        self.pump_fetch(way, now);
    }

    fn fetch_failed(&mut self, id: u64, failure: FetchFailure) {
        self.shared.event(ClientEvent::Fetch { id, result: Err(failure) });
    }

    /// Takes the answer to a call, and its frame.
    pub(super) fn on_fetch(
        &mut self,
        way: ReadWay,
        id: u64,
        mut answer: FetchAnswer,
        frame: Frame<'_>,
        now: Monotonic,
    ) {
        if let Some(fetching) = self.fetch_channels.get_mut(&way) {
            fetching.used_at = now;
            fetching.channel.works(&mut self.shared);
        }
        if let FetchAnswer::Fetched(fetched) = &mut answer {
            fetched.give(frame.into_owned());
        }
        self.shared.event(ClientEvent::Fetch { id, result: Ok(answer) });
    }

    /// Ends the oldest call of a way, after an unusable answer.
    pub(super) fn fetch_unusable(&mut self, way: ReadWay, failure: FetchFailure) {
        let connection = self.fetch_channels.get_mut(&way).and_then(|fetching| fetching.channel.connection());
        if let Some(connection) = connection
            && connection.is_asked_to_fetch()
            && let Some(Asked::Fetch(call)) = connection.give_up()
        {
            self.fetch_failed(call.id, failure);
        }
    }

    /// The longest answer accepted on a connection now.
    pub(super) fn answer_bytes_max(&mut self, owner: Owner) -> usize {
        let most = self.shared.settings.answer_bytes_max;
        let connection = self
            .channel(owner)
            .and_then(|(channel, _)| channel.connection().map(|connection| connection.fetch_bytes_max()));
        connection.flatten().unwrap_or(most)
    }

    /// Dials, or sends waiting calls; closes a connection that no call needs.
    pub(super) fn pump_fetch(&mut self, way: ReadWay, now: Monotonic) {
        let Some(fetching) = self.fetch_channels.get_mut(&way) else { return };
        if fetching.channel.dial_at() <= now && !fetching.queue.is_empty() {
            return fetching.channel.dial(&mut self.shared, now);
        }
        let mut not_spoken = Vec::new();
        if let Some(connection) = fetching.channel.ready() {
            while connection.send_at(IN_FLIGHT_MAX) <= now {
                let Some(call) = fetching.queue.pop_front() else { break };
                if let Err(call) = connection.ask_fetch(call, &mut self.shared, now) {
                    not_spoken.push(call.id);
                }
            }
        }
        if fetching.unused_at(way.purpose) <= now {
            fetching.channel.down(now, &mut self.shared);
            self.fetch_channels.remove(&way);
        }
        not_spoken.into_iter().for_each(|id| self.fetch_failed(id, FetchFailure::NotSpoken));
    }

    /// Ends all calls of a failed connection.
    pub(super) fn lose_fetch(&mut self, way: ReadWay, is_idle: bool, now: Monotonic) {
        let Some(fetching) = self.fetch_channels.get_mut(&way) else { return };
        if is_idle && fetching.queue.is_empty() {
            // A broker closes connections that were idle for a while.
            fetching.channel.pause(&mut self.shared, now);
            return;
        }
        self.shared.stats.failures += 1;
        let connection = fetching.channel.fail(&mut self.shared, now);
        let waiting = std::mem::take(&mut fetching.queue);
        if !self.brokers.contains_key(&way.node) {
            self.fetch_channels.remove(&way);
        }
        for unanswered in connection.into_iter().flat_map(|connection| connection.into_unanswered()) {
            if let Asked::Fetch(call) = unanswered {
                self.fetch_failed(call.id, FetchFailure::Lost);
            }
        }
        waiting.into_iter().for_each(|call| self.fetch_failed(call.id, FetchFailure::Lost));
        self.topics.refresh(now);
        self.pump_metadata(now);
    }

    /// The next deadline of the ways.
    pub(super) fn fetch_deadline(&self) -> Monotonic {
        let deadline = |(way, fetching): (&ReadWay, &FetchChannel)| {
            let mut at = due(&fetching.channel).min(fetching.unused_at(way.purpose));
            if !fetching.queue.is_empty() {
                at = at.min(fetching.channel.dial_at());
                if let Some(connection) = fetching.channel.ready_ref() {
                    at = at.min(connection.send_at(IN_FLIGHT_MAX));
                }
            }
            at
        };
        self.fetch_channels.iter().map(deadline).min().unwrap_or(Monotonic::NEVER)
    }

    /// Keeps a topic's metadata fresh as [`Client::want_metadata`] does, without creating it.
    pub fn watch_metadata(&mut self, topic: &Rc<str>, now: Monotonic) {
        self.topics.watch(topic, now);
        self.pump_metadata(now);
    }

    /// Stops keeping a topic's metadata fresh, unless a sink wants it ([`Client::want_metadata`]).
    pub fn unwatch_topic(&mut self, topic: &str) {
        self.topics.unwatch(topic);
    }
}

impl FetchAsk {
    /// How long the broker may wait before it answers.
    pub(super) fn wait(&self) -> Duration {
        match self {
            Self::Fetch(fetch) => Duration::from_millis(u64::try_from(fetch.max_wait_ms).unwrap_or(0)),
            Self::Offsets(..) | Self::EpochEnds(_) => Duration::ZERO,
        }
    }
}

impl Fetched {
    /// Takes the frame, with the number of bytes before it.
    fn give(&mut self, (frame, before): (Vec<u8>, usize)) {
        for partition in &mut self.partitions {
            for range in [&mut partition.topic, &mut partition.records] {
                *range = range.start + before..range.end + before;
            }
        }
        self.frame = frame;
    }
}
