//! A message's payload: which message it is, and bytes that tell when they were altered.
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
//! | 40– | fill, made from the check: each byte can be told beforehand |

use super::plan::mix;

/// The shortest payload.
pub(crate) const BYTES_MIN: usize = 40;
const MAGIC: &[u8; 4] = b"FLOW";

/// What a payload says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) run: u32,
    pub(crate) client: u32,
    pub(crate) qos: u8,
    pub(crate) number: u64,
    pub(crate) sent_ns: u64,
}

/// Why bytes are no payload of this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// Not one of ours, or one of another run.
    Foreign,
    /// Begins like one of ours and is not what was sent.
    Altered,
}

/// Appends a payload of `bytes` bytes.
pub(crate) fn write(out: &mut Vec<u8>, header: &Header, bytes: usize) {
    let mut check = check(header, bytes);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&header.run.to_le_bytes());
    out.extend_from_slice(&header.client.to_le_bytes());
    out.extend_from_slice(&u32::from(header.qos).to_le_bytes());
    out.extend_from_slice(&header.number.to_le_bytes());
    out.extend_from_slice(&header.sent_ns.to_le_bytes());
    out.extend_from_slice(&check.to_le_bytes());
    let mut left = bytes.saturating_sub(BYTES_MIN);
    while left > 0 {
        check = mix(check);
        let count = left.min(8);
        out.extend_from_slice(&check.to_le_bytes()[..count]);
        left -= count;
    }
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

fn check(header: &Header, bytes: usize) -> u64 {
    let fields = [
        u64::from(header.run) << 32 | u64::from(header.client),
        u64::from(header.qos) << 32 | bytes as u64,
        header.number,
        header.sent_ns,
    ];
    fields.into_iter().fold(0, |sum, field| mix(sum ^ field))
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
