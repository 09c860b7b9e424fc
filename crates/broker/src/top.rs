//! The topics and clients with the most publishes, by samples. A sample is one read of a client: all of its publishes are counted, once they were
//! taken, for as many reads as it stands for. So a publish costs nothing, a read costs one subtraction, and samples a bounded part of the time.

use std::time::Duration;

use forebay_base::limits::TOP_HALVED_EVERY;
use forebay_metrics::inspect::{TopBy, TopOf, TopOnShard};
use forebay_metrics::top::{Sampler, Sketch};
use forebay_mqtt::{decode, frame};
use forebay_runtime::seam::Monotonic;
use forebay_session::{Peer, Session};

/// A list by messages, and one by bytes.
#[derive(Default)]
struct Sketches {
    messages: Sketch,
    bytes: Sketch,
}

impl Sketches {
    fn add(&mut self, name: &str, (messages, bytes): (u64, u64), stands_for: u64) {
        self.messages.add(name, messages * stands_for);
        self.bytes.add(name, bytes * stands_for);
    }

    fn halve(&mut self) {
        self.messages.halve();
        self.bytes.halve();
    }

    fn by(&self, by: TopBy) -> &Sketch {
        match by {
            TopBy::Messages => &self.messages,
            TopBy::Bytes => &self.bytes,
        }
    }
}

/// See the module.
#[derive(Default)]
pub struct Top {
    /// Reads of clients.
    pub reads: Sampler,
    /// Publishes without a receiver.
    pub unmatched: Sampler,
    topics: Sketches,
    clients: Sketches,
    topics_unmatched: Sketches,
    /// The time from which weights count in full, and the time for which earlier ones count.
    since: Monotonic,
    before: Duration,
    /// The memory for the name of a client.
    name: String,
}

impl Top {
    /// Notes a sample among the publishes without a receiver.
    pub fn nobody_wants(&mut self, topic: &str, bytes: usize, now: Monotonic) {
        self.halve(now);
        self.topics_unmatched.add(topic, (1, bytes as u64), self.unmatched.stands_for());
        self.unmatched.taken(1, now.0 / 1_000);
    }

    /// Halves the weights for each [`TOP_HALVED_EVERY`] that is over.
    fn halve(&mut self, now: Monotonic) {
        let mut over = now.since(self.since);
        if over < TOP_HALVED_EVERY {
            return;
        }
        while over >= TOP_HALVED_EVERY {
            let mut all = [&mut self.topics, &mut self.clients, &mut self.topics_unmatched];
            all.iter_mut().for_each(|sketches| sketches.halve());
            self.before = (self.before + TOP_HALVED_EVERY) / 2;
            over -= TOP_HALVED_EVERY;
            if all.iter().all(|sketches| sketches.messages.is_empty()) {
                // Later samples count in full.
                (self.before, over) = (Duration::ZERO, Duration::ZERO);
            }
        }
        self.since = Monotonic(now.0 - u64::try_from(over.as_nanos()).unwrap_or(0));
    }

    /// The lists for the control plane.
    pub fn shown(&mut self, of: TopOf, by: TopBy, now: Monotonic) -> TopOnShard {
        self.halve(now);
        let (sketches, sampler) = match of {
            TopOf::Topics => (&self.topics, &self.reads),
            TopOf::Clients => (&self.clients, &self.reads),
            TopOf::Unmatched => (&self.topics_unmatched, &self.unmatched),
        };
        let window = self.before + now.since(self.since);
        let window_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        TopOnShard { names: sketches.by(by).heaviest(), window_ms, every: sampler.every() }
    }

    /// Counts the publishes among the packets of a read, if their sender has a session.
    #[cold]
    #[inline(never)]
    pub fn sample(&mut self, session: Option<&Session>, from: Peer, mut packets: &[u8], now: Monotonic) {
        const PUBLISH: u8 = 3;
        self.halve(now);
        let (stands_for, mut messages, mut bytes) = (self.reads.stands_for(), 0, 0);
        while let (Some(session), Ok(Some(frame))) = (session, frame::next(packets, u32::MAX)) {
            packets = &packets[frame.len..];
            if frame.first >> 4 != PUBLISH {
                continue;
            }
            let publish = decode::publish_from(from.version, from.sender(), frame.first, frame.body);
            let Ok(publish) = publish else { continue };
            let Some(topic) = session.topic_of(&publish) else { continue };
            self.topics.add(topic, (1, frame.len as u64), stands_for);
            (messages, bytes) = (messages + 1, bytes + frame.len as u64);
        }
        if let Some(session) = session.filter(|_| messages > 0) {
            self.name.clear();
            self.name.extend([session.client().auth.unwrap_or_default(), "\0", session.client_id()]);
            self.clients.add(&self.name, (messages, bytes), stands_for);
        }
        self.reads.taken(messages, now.0 / 1_000);
    }
}
