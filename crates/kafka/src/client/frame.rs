//! Answers out of a stream: four bytes of length, then that number of bytes. A frame that is complete in the bytes just read is passed on in
//! place; only a torn one is gathered. An idle connection holds no buffer.

use std::borrow::Cow;
use std::ops::Deref;

use super::wire::Malformed;

/// The smallest answer: a correlation id.
const ANSWER_BYTES_MIN: usize = 4;
/// A gathering buffer above this size is freed once it is empty.
const KEPT_BYTES_MAX: usize = 16 * 1024;

/// A complete frame, without its length: borrowed, or owned, with `before` bytes before it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    bytes: Cow<'a, [u8]>,
    before: usize,
}

impl Deref for Frame<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(self.before..).unwrap_or_default()
    }
}

impl Frame<'_> {
    /// The bytes, and the number of them before the frame.
    pub(super) fn into_owned(self) -> (Vec<u8>, usize) {
        (self.bytes.into_owned(), self.before)
    }
}

/// The place of a complete frame.
enum Whole<'input> {
    InPlace(&'input [u8]),
    Torn,
}

/// Gathers one connection's frames.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// A torn frame, length field included; complete only until the next call of [`Frames::next`].
    torn: Vec<u8>,
    /// Whether the frame in `torn` has been handed out.
    done: bool,
}

impl Frames {
    /// Returns the next complete frame out of the gathered bytes and `input`, which advances past the bytes used. `None`: more bytes are
    /// needed, and `input` is empty.
    ///
    /// # Errors
    /// A length below four or above `answer_bytes_max`. It is detected with the fourth byte, before anything is gathered.
    pub(super) fn next<'a, 'input: 'a>(
        &'a mut self,
        input: &mut &'input [u8],
        answer_bytes_max: usize,
    ) -> Result<Option<Frame<'a>>, Malformed> {
        let bytes = match self.find(input, answer_bytes_max)? {
            None => return Ok(None),
            Some(Whole::InPlace(frame)) => return Ok(Some(Frame { bytes: Cow::Borrowed(frame), before: 0 })),
            Some(Whole::Torn) => &self.torn,
        };
        Ok(Some(Frame { bytes: Cow::Borrowed(bytes), before: 4 }))
    }

    /// Like [`Frames::next`], but returns a gathered frame as owned: a large one is not copied.
    ///
    /// # Errors
    /// As [`Frames::next`].
    pub(super) fn next_owned<'input>(
        &mut self,
        input: &mut &'input [u8],
        answer_bytes_max: usize,
    ) -> Result<Option<Frame<'input>>, Malformed> {
        Ok(match self.find(input, answer_bytes_max)? {
            None => None,
            Some(Whole::InPlace(frame)) => Some(Frame { bytes: Cow::Borrowed(frame), before: 0 }),
            Some(Whole::Torn) => {
                self.done = false;
                Some(Frame { bytes: Cow::Owned(std::mem::take(&mut self.torn)), before: 4 })
            }
        })
    }

    /// The length of the next frame, if its length field has arrived.
    pub(super) fn announced(&self, input: &[u8]) -> Option<usize> {
        let torn = if self.done { &[][..] } else { &self.torn };
        let mut length = torn.iter().chain(input).copied();
        let mut byte = || length.next();
        usize::try_from(i32::from_be_bytes([byte()?, byte()?, byte()?, byte()?])).ok()
    }

    fn find<'input>(
        &mut self,
        input: &mut &'input [u8],
        answer_bytes_max: usize,
    ) -> Result<Option<Whole<'input>>, Malformed> {
        if self.done {
            self.done = false;
            self.torn.clear();
            if self.torn.capacity() > KEPT_BYTES_MAX {
                self.torn = Vec::new();
            }
        }
        if self.torn.is_empty()
            && let Some((length, rest)) = input.split_first_chunk::<4>()
        {
            let length = checked_length(*length, answer_bytes_max)?;
            if let Some((frame, rest)) = rest.split_at_checked(length) {
                *input = rest;
                return Ok(Some(Whole::InPlace(frame)));
            }
        }
        self.gather(input, 4);
        let Some((length, _)) = self.torn.split_first_chunk::<4>() else { return Ok(None) };
        let whole = 4 + checked_length(*length, answer_bytes_max)?;
        self.gather(input, whole);
        if self.torn.len() < whole {
            return Ok(None);
        }
        self.done = true;
        Ok(Some(Whole::Torn))
    }

    /// Takes bytes from `input` until `torn` has `wanted` of them. The buffer grows with the bytes received, not with the announced
    /// length.
    fn gather(&mut self, input: &mut &[u8], wanted: usize) {
        let missing = wanted.saturating_sub(self.torn.len()).min(input.len());
        let (taken, rest) = input.split_at(missing);
        // From half of the frame on, room is reserved for exactly the rest.
        if 2 * (self.torn.len() + missing) >= wanted {
            self.torn.reserve_exact(wanted.saturating_sub(self.torn.len()));
        }
        self.torn.extend_from_slice(taken);
        *input = rest;
    }
}

fn checked_length(bytes: [u8; 4], answer_bytes_max: usize) -> Result<usize, Malformed> {
    /// The beginning of a TLS alert: its type, and the first byte of every version.
    const ALERT: [u8; 2] = [0x15, 3];
    if bytes.starts_with(&ALERT) && usize::from(ALERT[0]) << 24 > answer_bytes_max {
        return Err(Malformed("it answers with a TLS alert; if its listener wants TLS, add [kafka.NAME.tls]"));
    }
    match usize::try_from(i32::from_be_bytes(bytes)) {
        Ok(length) if length < ANSWER_BYTES_MIN => Err(Malformed("frame shorter than its header")),
        Ok(length) if length > answer_bytes_max => Err(Malformed("frame longer than answer_bytes_max")),
        Ok(length) => Ok(length),
        Err(_) => Err(Malformed("negative frame length")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: usize, fill: u8) -> Vec<u8> {
        let mut bytes = (length as u32).to_be_bytes().to_vec();
        bytes.resize(4 + length, fill);
        bytes
    }

    fn feed(frames: &mut Frames, mut input: &[u8], got: &mut Vec<(usize, u8)>) {
        while let Some(frame) = frames.next(&mut input, 100_000).unwrap() {
            got.push((frame.len(), frame[0]));
        }
        assert!(input.is_empty());
    }

    #[test]
    fn cut_at_every_byte() {
        let lengths = [4, 5, 40, 4];
        let stream: Vec<u8> = lengths.iter().enumerate().flat_map(|(i, n)| frame(*n, i as u8)).collect();
        let expected: Vec<(usize, u8)> = lengths.iter().enumerate().map(|(i, n)| (*n, i as u8)).collect();
        for cut in 0..=stream.len() {
            for second in cut..=stream.len() {
                let (mut frames, mut got) = (Frames::default(), Vec::new());
                feed(&mut frames, &stream[..cut], &mut got);
                feed(&mut frames, &stream[cut..second], &mut got);
                feed(&mut frames, &stream[second..], &mut got);
                assert_eq!(got, expected, "cut at {cut}, {second}");
            }
        }
    }

    #[test]
    fn length_is_judged_with_its_fourth_byte() {
        for bad in [[0, 0, 0, 3], [0xff, 0xff, 0xff, 0xff], [0x80, 0, 0, 0], [0x7f, 0xff, 0xff, 0xff]] {
            assert!(Frames::default().next(&mut &bad[..], 100_000).is_err());
            let mut frames = Frames::default();
            assert_eq!(frames.next(&mut &bad[..3], 100_000), Ok(None));
            assert!(frames.next(&mut &bad[3..], 100_000).is_err());
        }
    }

    #[test]
    fn a_large_frame_leaves_no_buffer_behind() {
        let stream = frame(90_000, 1);
        let (mut frames, mut got) = (Frames::default(), Vec::new());
        feed(&mut frames, &stream[..50_000], &mut got);
        assert!(frames.torn.capacity() >= 50_000);
        feed(&mut frames, &stream[50_000..], &mut got);
        assert_eq!(got, [(90_000, 1)]);
        assert_eq!(frames.torn.capacity(), 0);
    }

    #[test]
    fn a_claimed_length_reserves_nothing() {
        let mut frames = Frames::default();
        assert_eq!(frames.next(&mut &[0, 1, 0, 0, 9][..], 100_000), Ok(None));
        assert!(frames.torn.capacity() < 100);
    }
}
