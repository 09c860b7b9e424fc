//! A message's payload: the identity of the message, and bytes that show any alteration. One format for every job, and one judge.
//!
//! | bytes | what (integers little-endian) |
//! |---|---|
//! | 0–3 | `FLOW` |
//! | 4–7 | run |
//! | 8–11 | client |
//! | 12–15 | QoS |
//! | 16–23 | number of the message within its client, from 0 |
//! | 24–31 | time of its first sending, in nanoseconds since the start of the run |
//! | 32–39 | check over the five fields before and the length |
//! | 40– | fill, computed from the check: every byte is known in advance |

use super::plan::mix;

/// The shortest payload.
pub(crate) const BYTES_MIN: usize = 40;
const MAGIC: &[u8; 4] = b"FLOW";
/// The difference of the fill's words before they are mixed with the check (the golden ratio, as in SplitMix64).
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The header of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) run: u32,
    pub(crate) client: u32,
    pub(crate) qos: u8,
    pub(crate) number: u64,
    pub(crate) sent_ns: u64,
}

/// Why bytes are not a payload of this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// The bytes are not a payload, or one of another run.
    Foreign,
    /// The payload begins like one of this run and is not what was sent.
    Altered,
}

/// The common part of the checks of all messages of one client and QoS, so that a generator computes it once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed(u64);

impl Seed {
    /// The seed for payloads of `bytes` bytes.
    pub(crate) fn new(run: u32, client: u32, qos: u8, bytes: usize) -> Self {
        let fields = [u64::from(run) << 32 | u64::from(client), u64::from(qos) << 32 | bytes as u64];
        Self(fields.into_iter().fold(0, |sum, field| mix(sum ^ field)))
    }

    fn check(self, number: u64, sent_ns: u64) -> u64 {
        mix(mix(self.0 ^ number) ^ sent_ns)
    }
}

/// Appends a payload of `bytes` bytes.
pub(crate) fn write(out: &mut Vec<u8>, header: &Header, bytes: usize) {
    let at = out.len();
    out.resize(at + bytes.max(BYTES_MIN), 0);
    let payload = &mut out[at..];
    payload[..4].copy_from_slice(MAGIC);
    payload[4..8].copy_from_slice(&header.run.to_le_bytes());
    payload[8..12].copy_from_slice(&header.client.to_le_bytes());
    payload[12..16].copy_from_slice(&u32::from(header.qos).to_le_bytes());
    stamp(payload, Seed::new(header.run, header.client, header.qos, bytes), header.number, header.sent_ns);
}

/// Turns a payload of the same client and QoS into that of another message.
///
/// # Panics
/// A payload of less than [`BYTES_MIN`] bytes.
#[inline]
pub(crate) fn stamp(payload: &mut [u8], seed: Seed, number: u64, sent_ns: u64) {
    let check = seed.check(number, sent_ns);
    let (header, fill) = payload.split_at_mut(BYTES_MIN);
    header[16..24].copy_from_slice(&number.to_le_bytes());
    header[24..32].copy_from_slice(&sent_ns.to_le_bytes());
    header[32..40].copy_from_slice(&check.to_le_bytes());
    let mut word = check;
    let mut chunks = fill.chunks_exact_mut(8);
    for chunk in &mut chunks {
        word = word.wrapping_add(STEP);
        chunk.copy_from_slice(&(word ^ check).to_le_bytes());
    }
    let rest = chunks.into_remainder();
    let count = rest.len();
    rest.copy_from_slice(&(word.wrapping_add(STEP) ^ check).to_le_bytes()[..count]);
}

/// Reads a payload of `run`, which must have `bytes` bytes. `scratch` is used for the comparison.
pub(crate) fn read(payload: &[u8], run: u32, bytes: usize, scratch: &mut Vec<u8>) -> Result<Header, Wrong> {
    let word = |at: usize| payload.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
    let long = |at: usize| payload.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
    if !payload.starts_with(MAGIC) || word(4) != Some(run) {
        return Err(Wrong::Foreign);
    }
    let (Some(client), Some(qos), Some(number), Some(sent_ns)) = (word(8), word(12), long(16), long(24)) else {
        return Err(Wrong::Altered);
    };
    let header = Header { run, client, qos: u8::try_from(qos).map_err(|_| Wrong::Altered)?, number, sent_ns };
    scratch.clear();
    write(scratch, &header, bytes);
    if payload == scratch.as_slice() { Ok(header) } else { Err(Wrong::Altered) }
}

/// When a payload of `run` was sent; the rest of the payload is not checked. `None`: it is of another run.
pub(crate) fn sent_ns(payload: &[u8], run: u32) -> Option<u64> {
    let ours = payload.starts_with(MAGIC) && payload.get(4..8)? == run.to_le_bytes();
    ours.then_some(u64::from_le_bytes(payload.get(24..32)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_altered_byte_is_seen() {
        let header = Header { run: 9, client: 3, qos: 2, number: 77, sent_ns: 123_456 };
        for bytes in [40, 41, 47, 100] {
            let (mut payload, mut scratch) = (Vec::new(), Vec::new());
            write(&mut payload, &header, bytes);
            assert_eq!(payload.len(), bytes);
            assert_eq!(read(&payload, 9, bytes, &mut scratch), Ok(header));
            for at in 0..bytes {
                payload[at] ^= 1;
                let wrong = if at < 8 { Wrong::Foreign } else { Wrong::Altered };
                assert_eq!(read(&payload, 9, bytes, &mut scratch), Err(wrong), "byte {at}");
                payload[at] ^= 1;
            }
            assert_eq!(read(&payload[..bytes - 1], 9, bytes, &mut scratch), Err(Wrong::Altered));
            assert_eq!(read(&payload, 8, bytes, &mut scratch), Err(Wrong::Foreign));
        }
    }
}
