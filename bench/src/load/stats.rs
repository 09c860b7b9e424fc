//! Counts and times of one generator thread; threads are merged at the end.

use hdrhistogram::Histogram;

/// Latencies, in microseconds.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    /// CONNECT to CONNACK, with the TCP (and TLS, WebSocket) handshake before it.
    pub(crate) connect: Histogram<u64>,
    /// PUBLISH of QoS 1 to PUBACK; in an open loop from the time when it was due.
    pub(crate) puback: Histogram<u64>,
    /// PUBLISH of QoS 2 to PUBCOMP.
    pub(crate) pubcomp: Histogram<u64>,
    /// PUBLISH to its delivery to a subscriber.
    pub(crate) delivery: Histogram<u64>,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Stats {
    pub(crate) sent: [u64; 3],
    pub(crate) answered: u64,
    pub(crate) received: u64,
    pub(crate) connects: u64,
    pub(crate) connects_failed: u64,
    pub(crate) connections_lost: u64,
    /// Messages whose answer carried a code of 0x80 or more.
    pub(crate) refused: u64,
    pub(crate) subscriptions_refused: u64,
    /// Answers without an open message.
    pub(crate) unmatched: u64,
    /// Deliveries that differ from what was sent, and deliveries of another run.
    pub(crate) altered: u64,
    pub(crate) foreign: u64,
    /// QoS 1 and 2 messages that were open when their connection was lost.
    pub(crate) given_up: u64,
    pub(crate) protocol_errors: u64,
    pub(crate) first_error: Option<String>,
    pub(crate) latencies: Latencies,
    /// Answers and deliveries since the last tick of the timeline.
    pub(crate) lately: Histogram<u64>,
}

impl Stats {
    pub(crate) fn new() -> anyhow::Result<Self> {
        // Up to an hour; three significant digits, two for the timeline.
        let histogram = |digits| Histogram::new_with_bounds(1, 3_600_000_000, digits);
        let latencies = Latencies {
            connect: histogram(3)?,
            puback: histogram(3)?,
            pubcomp: histogram(3)?,
            delivery: histogram(3)?,
        };
        Ok(Self {
            sent: [0; 3],
            answered: 0,
            received: 0,
            connects: 0,
            connects_failed: 0,
            connections_lost: 0,
            refused: 0,
            subscriptions_refused: 0,
            unmatched: 0,
            altered: 0,
            foreign: 0,
            given_up: 0,
            protocol_errors: 0,
            first_error: None,
            latencies,
            lately: histogram(2)?,
        })
    }

    /// Adds the statistics of another thread.
    ///
    /// # Errors
    /// Histograms of other bounds.
    pub(crate) fn merge(&mut self, other: &Self) -> anyhow::Result<()> {
        for (mine, theirs) in self.sent.iter_mut().zip(other.sent) {
            *mine += theirs;
        }
        self.answered += other.answered;
        self.received += other.received;
        self.connects += other.connects;
        self.connects_failed += other.connects_failed;
        self.connections_lost += other.connections_lost;
        self.refused += other.refused;
        self.subscriptions_refused += other.subscriptions_refused;
        self.unmatched += other.unmatched;
        self.altered += other.altered;
        self.foreign += other.foreign;
        self.given_up += other.given_up;
        self.protocol_errors += other.protocol_errors;
        self.first_error = self.first_error.take().or_else(|| other.first_error.clone());
        self.latencies.connect.add(&other.latencies.connect)?;
        self.latencies.puback.add(&other.latencies.puback)?;
        self.latencies.pubcomp.add(&other.latencies.pubcomp)?;
        self.latencies.delivery.add(&other.latencies.delivery)?;
        Ok(())
    }

    pub(crate) fn error(&mut self, text: impl FnOnce() -> String) {
        self.protocol_errors += 1;
        self.first_error.get_or_insert_with(text);
    }

    pub(crate) fn sent_all(&self) -> u64 {
        self.sent.iter().sum()
    }
}
