//! Frames: eight bytes, and after those of [`Frame::Data`] its bytes. The first four bytes are the kind (8 bits) and a value (24 bits), the others the number of
//! the stream; big-endian.

use std::fmt;
use std::time::Duration;

use forebay_base::limits::TRUNK_FRAME_BYTES_MAX;
use forebay_runtime::seam::Monotonic;

/// The length of a frame without bytes.
pub(super) const HEAD: usize = 8;

const OPEN: u8 = 1;
const DATA: u8 = 2;
const CREDIT: u8 = 3;
const CLOSE: u8 = 4;
const RESET: u8 = 5;

/// Reasons of [`Frame::Reset`]: the upper 8 bits of the value.
const ABORTED: u32 = 1;
const OTHER_SHARD: u32 = 2;
const OTHER_TRUNK: u32 = 3;
const OTHER_INSTANCE: u32 = 4;

const VALUE_MAX: u32 = (1 << 24) - 1;

/// The number of no stream. [`Frame::Credit`] of this number is a stamp ([`stamp_at`]). A version without stamps ignores it, like all credit of streams that it
/// does not have.
pub(super) const STAMPS: u32 = u32::MAX;

/// The stamp of a time: milliseconds of the clock of the side that sends it, modulo 2^24.
pub(super) fn stamp_at(now: Monotonic) -> u32 {
    ((now.0 / 1_000_000) as u32 & VALUE_MAX).max(1)
}

/// The time since this process made a stamp, modulo 2^24 ms.
#[must_use]
pub fn since_stamp(stamp: u32, now: Monotonic) -> Duration {
    Duration::from_millis(u64::from(stamp_at(now).wrapping_sub(stamp) & VALUE_MAX))
}

/// The reason why a stream ends before all its bytes have been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The other side wants none of it any more.
    Aborted,
    /// Another shard of the instance serves the client: this one.
    OtherShard(u16),
    /// The trunk is too old for another stream: its certificates have been replaced.
    OtherTrunk,
    /// This instance is another one than that which the header of the stream names.
    OtherInstance,
}

/// The reason why bytes are no frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "trunk: {}", self.0)
    }
}

/// A frame without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A new stream. Only the side that has made the trunk opens streams; no number is used twice.
    Open,
    /// A part of the stream, of this number of bytes, which follow: 1 to [`TRUNK_FRAME_BYTES_MAX`].
    Data(u32),
    /// Room for this number of further bytes.
    Credit(u32),
    /// The end, after all bytes.
    Close,
    /// The end at once.
    Reset(Reason),
}

impl Frame {
    /// Appends the frame.
    pub(super) fn put(self, stream: u32, out: &mut Vec<u8>) {
        let (kind, value) = match self {
            Self::Open => (OPEN, 0),
            Self::Data(bytes) => (DATA, bytes),
            Self::Credit(bytes) => (CREDIT, bytes),
            Self::Close => (CLOSE, 0),
            Self::Reset(Reason::Aborted) => (RESET, ABORTED << 16),
            Self::Reset(Reason::OtherShard(shard)) => (RESET, OTHER_SHARD << 16 | u32::from(shard)),
            Self::Reset(Reason::OtherTrunk) => (RESET, OTHER_TRUNK << 16),
            Self::Reset(Reason::OtherInstance) => (RESET, OTHER_INSTANCE << 16),
        };
        debug_assert!(value <= VALUE_MAX);
        out.extend_from_slice(&(u32::from(kind) << 24 | value & VALUE_MAX).to_be_bytes());
        out.extend_from_slice(&stream.to_be_bytes());
    }

    fn of(word: u32) -> Result<Self, Malformed> {
        let [kind, _, high, low] = word.to_be_bytes();
        let value = word & VALUE_MAX;
        match (kind, value) {
            (OPEN, 0) => Ok(Self::Open),
            (DATA, 1..) if value as usize <= TRUNK_FRAME_BYTES_MAX => Ok(Self::Data(value)),
            (DATA, _) => Err(Malformed("a frame of a length that none may have")),
            (CREDIT, 1..) => Ok(Self::Credit(value)),
            (CLOSE, 0) => Ok(Self::Close),
            (RESET, _) => match value >> 16 {
                ABORTED => Ok(Self::Reset(Reason::Aborted)),
                OTHER_SHARD => Ok(Self::Reset(Reason::OtherShard(u16::from_be_bytes([high, low])))),
                OTHER_TRUNK => Ok(Self::Reset(Reason::OtherTrunk)),
                OTHER_INSTANCE => Ok(Self::Reset(Reason::OtherInstance)),
                _ => Err(Malformed("a stream that ends for a reason that this version does not know")),
            },
            _ => Err(Malformed("a frame that this version does not know")),
        }
    }
}

/// A piece of what a trunk has received: a frame, or bytes of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// Bytes of a stream, as far as they have been received.
    Bytes(&'a [u8]),
    /// A frame; never [`Frame::Data`].
    Frame(Frame),
}

/// The state between two receives: frames are cut anywhere.
#[derive(Debug, Default)]
pub(super) struct Reader {
    head: [u8; HEAD],
    /// Bytes of `head` that are here.
    have: usize,
    /// The stream of the current frame, and the bytes that are still to come.
    data: (u32, u32),
}

impl Reader {
    /// Takes the next piece off the bytes, and the number of its stream. `None`: there is no whole one.
    ///
    /// # Errors
    /// The fault of a frame. The trunk ends.
    pub(super) fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<(u32, Piece<'a>)>, Malformed> {
        loop {
            if bytes.is_empty() {
                return Ok(None);
            }
            let (stream, left) = self.data;
            if left > 0 {
                let (now, rest) = bytes.split_at(bytes.len().min(left as usize));
                *bytes = rest;
                self.data.1 -= now.len() as u32;
                return Ok(Some((stream, Piece::Bytes(now))));
            }
            let (now, rest) = bytes.split_at(bytes.len().min(HEAD - self.have));
            *bytes = rest;
            self.head[self.have..][..now.len()].copy_from_slice(now);
            self.have += now.len();
            if self.have < HEAD {
                return Ok(None);
            }
            self.have = 0;
            let [a, b, c, d, e, f, g, h] = self.head;
            let stream = u32::from_be_bytes([e, f, g, h]);
            match Frame::of(u32::from_be_bytes([a, b, c, d]))? {
                Frame::Data(length) => self.data = (stream, length),
                frame => return Ok(Some((stream, Piece::Frame(frame)))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame() -> impl Strategy<Value = (u32, Frame, Vec<u8>)> {
        let plain = prop_oneof![
            Just(Frame::Open),
            (1..=VALUE_MAX).prop_map(Frame::Credit),
            Just(Frame::Close),
            Just(Frame::Reset(Reason::Aborted)),
            Just(Frame::Reset(Reason::OtherTrunk)),
            Just(Frame::Reset(Reason::OtherInstance)),
            any::<u16>().prop_map(|shard| Frame::Reset(Reason::OtherShard(shard))),
        ];
        let plain = (any::<u32>(), plain).prop_map(|(stream, frame)| (stream, frame, Vec::new()));
        let bytes = proptest::collection::vec(any::<u8>(), 1..200);
        let data = (any::<u32>(), bytes).prop_map(|(stream, bytes)| (stream, Frame::Data(bytes.len() as u32), bytes));
        prop_oneof![plain, data]
    }

    /// A stream with a frame, or with its bytes.
    type Found = (u32, Option<Frame>, Vec<u8>);

    /// The frames that a reader finds in these pieces, with the bytes of one frame put together.
    fn read(pieces: &[&[u8]]) -> Result<Vec<Found>, Malformed> {
        let (mut reader, mut found) = (Reader::default(), Vec::<Found>::new());
        let mut is_begun = false;
        for mut bytes in pieces.iter().copied() {
            while let Some((stream, piece)) = reader.next(&mut bytes)? {
                match (piece, found.last_mut()) {
                    (Piece::Bytes(more), Some((_, None, before))) if is_begun => before.extend_from_slice(more),
                    (Piece::Bytes(more), _) => found.push((stream, None, more.to_vec())),
                    (Piece::Frame(frame), _) => found.push((stream, Some(frame), Vec::new())),
                }
                is_begun = reader.data.1 > 0;
            }
            assert!(bytes.is_empty());
        }
        Ok(found)
    }

    proptest! {
        #[test]
        fn what_is_put_is_read_however_it_is_cut(
            frames in proptest::collection::vec(frame(), 0..12), cuts in proptest::collection::vec(1..60usize, 0..60),
        ) {
            let mut bytes = Vec::new();
            for (stream, frame, data) in &frames {
                frame.put(*stream, &mut bytes);
                bytes.extend_from_slice(data);
            }
            let (mut rest, mut pieces) = (&bytes[..], Vec::new());
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            pieces.push(rest);
            let expected: Vec<_> = frames.into_iter().map(|(stream, frame, data)| {
                (stream, Some(frame).filter(|frame| !matches!(frame, Frame::Data(_))), data)
            }).collect();
            prop_assert_eq!(read(&pieces).expect("well formed"), expected);
        }

        /// Any bytes: no panic, and the fault that is found does not depend on how they are cut.
        #[test]
        fn any_bytes_get_the_same_verdict(bytes in proptest::collection::vec(0..7u8, 0..100), at in 0..100usize) {
            let (one, other) = bytes.split_at(at.min(bytes.len()));
            prop_assert_eq!(read(&[one, other]).err(), read(&[&bytes]).err());
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let too_long = TRUNK_FRAME_BYTES_MAX as u32 + 1;
        let words =
            [0, 6 << 24, 1 << 24 | 1, 2 << 24, 2 << 24 | too_long, 3 << 24, 4 << 24 | 9, 5 << 24, 5 << 24 | 5 << 16];
        for word in words {
            let bytes = [u32::to_be_bytes(word), [0, 0, 0, 1]].concat();
            assert!(read(&[&bytes]).is_err(), "{word:#x}");
        }
        let longest = [u32::to_be_bytes(2 << 24 | (too_long - 1)), [0, 0, 0, 1]].concat();
        assert_eq!(read(&[&longest]), Ok(vec![]));
    }
}
