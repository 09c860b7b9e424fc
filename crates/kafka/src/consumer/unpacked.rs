//! The records of a compressed batch as its decoder returns them: in pieces of some records each, which records refer to as to an answer.

use std::ops::Range;
use std::rc::Rc;

use super::buffer::{Account, Buffer, Charge, Slice};
use super::decode::Bad;
use forebay_record::compression::{Codec, Stream};
use forebay_record::{BatchError, varint};

/// Plain bytes of a piece, unless one record has more.
const PIECE: usize = 64 * 1024;

/// `Unpacked` is a batch being decompressed.
#[derive(Debug)]
pub(super) struct Unpacked {
    stream: Stream<Slice>,
    /// The current piece.
    piece: Rc<Buffer>,
    /// The beginning of the next record in the piece.
    at: usize,
    /// Plain bytes so far.
    unpacked: usize,
    bytes_max: usize,
    is_done: bool,
    /// The memory of the decoder.
    charge: Charge,
}

impl Unpacked {
    pub(super) fn new(codec: Codec, body: Slice, bytes_max: usize, account: &Account) -> Result<Self, Bad> {
        let stream = Stream::new(codec, body, bytes_max).ok_or(BatchError::Compression)?;
        let charge = Charge::new(account, stream.memory());
        let piece = Rc::new(Buffer::new(Vec::new(), 0, account));
        Ok(Self { stream, piece, at: 0, unpacked: 0, bytes_max, is_done: false, charge })
    }

    /// The piece that contains the last record.
    pub(super) const fn buffer(&self) -> &Rc<Buffer> {
        &self.piece
    }

    /// The range of the next record in [`Unpacked::buffer`], its length field included. `None`: none are `left`.
    pub(super) fn next(&mut self, left: i32) -> Result<Option<Range<usize>>, Bad> {
        if left <= 0 {
            return if self.is_at_end() { Ok(None) } else { Err(BatchError::Record.into()) };
        }
        loop {
            let rest = self.piece.bytes().get(self.at..).unwrap_or_default();
            let have = rest.len();
            let len = record_len(rest)?;
            if let Some(len) = len.filter(|len| *len <= have) {
                let at = self.at;
                self.at += len;
                return Ok(Some(at..self.at));
            }
            let len = len.unwrap_or(have + 1);
            if len - have > self.bytes_max.saturating_sub(self.unpacked) {
                return Err(Bad::TooLarge(self.bytes_max));
            }
            if self.is_done {
                return Err(BatchError::Record.into());
            }
            self.refill(len)?;
        }
    }

    /// Whether all plain bytes were read.
    pub(super) fn is_at_end(&mut self) -> bool {
        if self.at == self.piece.bytes().len() && !self.is_done {
            self.is_done = self.stream.read(&mut [0]) == Some(0);
        }
        self.is_done && self.at == self.piece.bytes().len()
    }

    /// Begins another piece with the rest of the current one, and fills it up to `len` bytes or more. The piece grows with the bytes that
    /// the decoder returns, not with the length that a record claims.
    fn refill(&mut self, len: usize) -> Result<(), Bad> {
        let mut bytes = match Rc::get_mut(&mut self.piece) {
            // The piece has no other reference and is reused.
            Some(piece) => {
                let mut bytes = piece.take();
                bytes.drain(..self.at);
                bytes
            }
            None => self.piece.bytes().get(self.at..).unwrap_or_default().to_vec(),
        };
        let mut filled = bytes.len();
        let mut room = PIECE.max(filled);
        while filled < len && !self.is_done {
            if filled == room {
                room = room.saturating_mul(2).min(len.max(PIECE));
            }
            bytes.resize(room, 0);
            let count = bytes.get_mut(filled..).and_then(|out| self.stream.read(out)).ok_or(BatchError::Compression)?;
            self.is_done = count == 0;
            filled += count;
            self.unpacked += count;
            if self.unpacked > self.bytes_max {
                return Err(Bad::TooLarge(self.bytes_max));
            }
        }
        bytes.truncate(filled);
        let account = self.charge.account().clone();
        self.piece = Rc::new(Buffer::new(bytes, 0, &account));
        self.at = 0;
        self.charge.set(self.stream.memory());
        Ok(())
    }
}

/// The length of the record at the front of `rest`, the field itself included; `None`: the field is incomplete.
fn record_len(rest: &[u8]) -> Result<Option<usize>, Bad> {
    /// Bytes that a record's length field may take.
    const FIELD_MAX: usize = 5;
    let mut after = rest;
    let Some(len) = varint::get_i32(&mut after) else {
        return if rest.len() < FIELD_MAX { Ok(None) } else { Err(BatchError::Record.into()) };
    };
    let len = usize::try_from(len).map_err(|_| BatchError::Record)?;
    Ok(Some(rest.len() - after.len() + len))
}
