//! A toy layer: records of length, kind, sequence and checksum, a handshake of three flights that costs time, a
//! ticket after it. A byte lost, doubled, sealed twice, out of order, left over or forgotten in a move breaks a
//! sequence or a checksum.
//!
//! The layer is under connections of the runtime's tests, where its cost is real time, and, by `#[path]`, of the shard's tests and
//! of the simulator, where it is only counted.

use std::time::{Duration, Instant};

use super::seam::{Facts, Layer, LayerError, LayerFault};

pub(crate) const HELLO: u8 = 1;
pub(crate) const FLIGHT: u8 = 2;
pub(crate) const FINISHED: u8 = 3;
pub(crate) const TICKET: u8 = 4;
pub(crate) const DATA: u8 = 5;
pub(crate) const END: u8 = 6;
pub(crate) const ALERT: u8 = 7;
/// Length, kind, sequence, checksum.
pub(crate) const HEADER: usize = 4 + 1 + 4 + 4;
pub(crate) const RECORD_MAX: usize = 1_000;

fn sum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(17, |sum: u32, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)))
}

/// Writes records one way.
#[derive(Debug, Default)]
pub(crate) struct Sealer(pub(crate) u32);

impl Sealer {
    pub(crate) fn record(&mut self, kind: u8, bytes: &[u8], wire: &mut Vec<u8>) {
        wire.extend_from_slice(&u32::try_from(bytes.len()).expect("short").to_be_bytes());
        wire.push(kind);
        wire.extend_from_slice(&self.0.to_be_bytes());
        wire.extend_from_slice(&sum(bytes).to_be_bytes());
        wire.extend_from_slice(bytes);
        self.0 += 1;
    }
}

/// Reads them.
#[derive(Debug, Default)]
pub(crate) struct Opener {
    pub(crate) tail: Vec<u8>,
    sequence: u32,
}

impl Opener {
    pub(crate) fn records(&mut self, wire: &[u8]) -> Result<Vec<(u8, Vec<u8>)>, String> {
        self.tail.extend_from_slice(wire);
        let mut records = Vec::new();
        let mut at = 0;
        while let Some(header) = self.tail.get(at..at + HEADER) {
            let word = |from: usize| u32::from_be_bytes(header[from..from + 4].try_into().expect("four bytes"));
            let Some(bytes) = self.tail.get(at + HEADER..at + HEADER + word(0) as usize) else { break };
            if word(5) != self.sequence || word(9) != sum(bytes) {
                return Err(format!("record {} where {} was due", word(5), self.sequence));
            }
            self.sequence += 1;
            records.push((header[4], bytes.to_vec()));
            at += HEADER + bytes.len();
        }
        self.tail.drain(..at);
        Ok(records)
    }
}

/// The server's end, or the client's.
#[derive(Debug, Default)]
pub(crate) struct Toy {
    is_client: bool,
    has_begun: bool,
    open: Opener,
    seal: Sealer,
    is_ready: bool,
    has_ended: bool,
    /// The cost of each flight.
    cost: Duration,
    /// Whether the cost is spent as real time.
    is_slow: bool,
    /// The cost of the flights so far.
    took: Duration,
}

impl Toy {
    pub(crate) fn client() -> Self {
        Self { is_client: true, ..Self::default() }
    }

    /// The layer with flights of this cost; `is_slow`: the cost is spent as real time.
    pub(crate) fn costing(self, cost: Duration, is_slow: bool) -> Self {
        Self { cost, is_slow, ..self }
    }

    fn work(&mut self) {
        let began = Instant::now();
        while self.is_slow && began.elapsed() < self.cost {}
        self.took += self.cost;
    }

    fn ready(&mut self) -> Option<Facts> {
        self.is_ready = true;
        Some(Facts { is_tls: true, is_newest: true, took: self.took, ..Facts::default() })
    }
}

impl Layer for Toy {
    fn open(
        &mut self,
        wire: &mut [u8],
        plain: &mut Vec<u8>,
        answer: &mut Vec<u8>,
    ) -> Result<Option<Facts>, LayerError> {
        if !self.is_ready {
            self.work();
        }
        let mut facts = None;
        if self.is_client && !std::mem::replace(&mut self.has_begun, true) {
            assert!(wire.is_empty(), "a client speaks first");
            self.seal.record(HELLO, &[7; 300], answer);
        }
        let records = self.open.records(wire);
        let bad = |what: String| LayerError { fault: LayerFault::Protocol, what: what.into() };
        let records = records.map_err(|what| {
            self.seal.record(ALERT, what.as_bytes(), answer);
            bad(what)
        })?;
        for (kind, bytes) in records {
            match (kind, self.is_ready) {
                (FLIGHT, false) if self.is_client => {
                    self.seal.record(FINISHED, &[7; 30], answer);
                    facts = self.ready();
                }
                (HELLO, false) => self.seal.record(FLIGHT, &[9; 3_000], answer),
                (FINISHED, false) => {
                    self.seal.record(TICKET, &[8; 200], answer);
                    facts = self.ready();
                }
                (TICKET, true) if self.is_client => {}
                (DATA, true) => plain.extend_from_slice(&bytes),
                (END, _) => self.has_ended = true,
                _ => {
                    self.seal.record(ALERT, b"unexpected", answer);
                    return Err(bad(format!("a record of kind {kind}")));
                }
            }
        }
        Ok(facts)
    }

    fn seal(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> Result<(), LayerError> {
        assert!(self.is_ready, "nothing is sealed before the handshake is over");
        plain.chunks(RECORD_MAX).for_each(|piece| self.seal.record(DATA, piece, wire));
        Ok(())
    }

    fn close(&mut self, wire: &mut Vec<u8>) {
        self.seal.record(END, &[], wire);
    }

    fn has_ended(&self) -> bool {
        self.has_ended
    }
    fn is_costly(&self) -> bool {
        !self.is_ready
    }
    fn held(&self) -> usize {
        self.open.tail.len()
    }
}
