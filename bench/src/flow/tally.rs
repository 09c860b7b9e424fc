//! Counts of all clients' packets and answers.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::events::Events;
use super::marks::Marks;

/// Counters and latencies of a run; times in the histograms are microseconds.
pub(crate) struct Tally {
    /// Messages sent for the first time, by QoS.
    pub(crate) sent: [u64; 3],
    /// PUBLISH packets sent again.
    pub(crate) publishes_again: u64,
    /// PUBREL packets sent again.
    pub(crate) releases_again: u64,
    /// Messages that are complete: written (QoS 0), answered, refused or given up.
    pub(crate) settled: u64,
    /// Successes with "no matching subscribers" (0x10).
    pub(crate) unmatched: u64,
    /// Reason codes of 0x80 and more in PUBACK and PUBREC, with their numbers.
    pub(crate) refused: BTreeMap<u8, u64>,
    /// PUBCOMPs with a code of 0x80 or more.
    pub(crate) releases_unknown: u64,
    /// Messages given up because the server had forgotten the session.
    pub(crate) abandoned: u64,
    /// CONNACKs without success, by code.
    pub(crate) connack_refused: BTreeMap<u8, u64>,
    /// DISCONNECTs by the server, by reason.
    pub(crate) disconnects: BTreeMap<u8, u64>,
    /// Attempts to connect that failed.
    pub(crate) connects_failed: u64,
    /// PINGREQs and PINGRESPs, and the longest wait for one.
    pub(crate) pings: u64,
    pub(crate) pongs: u64,
    pub(crate) pong_us_max: u64,
    /// Violations of the protocol by the server; ten are stored.
    pub(crate) violations: u64,
    pub(crate) violation_texts: Vec<String>,
    /// The time from a message's first sending to its PUBACK, PUBREC, PUBCOMP.
    pub(crate) puback: Histogram<u64>,
    pub(crate) pubrec: Histogram<u64>,
    pub(crate) pubcomp: Histogram<u64>,
    /// Times to PUBACK and PUBREC since the last line of the timeline.
    pub(crate) lately: Histogram<u64>,
    pub(crate) marks: Marks,
    pub(crate) events: Events,
}

impl Tally {
    pub(crate) fn new() -> anyhow::Result<Self> {
        // Up to an hour, three digits.
        let histogram = || Histogram::new_with_bounds(1, 3_600_000_000, 3);
        Ok(Self {
            sent: [0; 3],
            publishes_again: 0,
            releases_again: 0,
            settled: 0,
            unmatched: 0,
            refused: BTreeMap::new(),
            releases_unknown: 0,
            abandoned: 0,
            connack_refused: BTreeMap::new(),
            disconnects: BTreeMap::new(),
            connects_failed: 0,
            pings: 0,
            pongs: 0,
            pong_us_max: 0,
            violations: 0,
            violation_texts: Vec::new(),
            puback: histogram()?,
            pubrec: histogram()?,
            pubcomp: histogram()?,
            lately: histogram()?,
            marks: Marks::default(),
            events: Events::default(),
        })
    }

    /// Notes an answer of one kind (packet type 4, 5 or 7).
    pub(crate) fn answer(&mut self, kind: u8, waited_ns: u64) {
        let waited_us = waited_ns / 1_000;
        match kind {
            4 => self.puback.saturating_record(waited_us),
            5 => self.pubrec.saturating_record(waited_us),
            _ => return self.pubcomp.saturating_record(waited_us),
        }
        self.lately.saturating_record(waited_us);
    }

    pub(crate) fn violation(&mut self, text: String) {
        self.violations += 1;
        if self.violation_texts.len() < 10 {
            self.violation_texts.push(text);
        }
    }

    pub(crate) fn sent_all(&self) -> u64 {
        self.sent.iter().sum()
    }
}
