//! A borrowed, bounded reader of v2 batches. It trusts nothing: lengths are checked against the bytes available, counts
//! are only upper bounds, and neither reserves memory.

use super::{BatchHeader, HEADER_LEN, varint};
use crate::compression::Codec;

/// Why bytes are not a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The input has fewer bytes than the header or the batch's own length requires.
    #[error("the batch is cut short")]
    Short,
    /// The batch states an impossible length.
    #[error("the batch length is impossible")]
    Length,
    /// The batch is not of format v2.
    #[error("magic {0} is not 2")]
    Magic(i8),
    /// The checksum differs.
    #[error("the checksum differs")]
    Crc,
    /// The codec is unknown, or not built in.
    #[error("codec {0} is not known here")]
    Codec(i16),
    /// A record is malformed.
    #[error("a record is malformed")]
    Record,
    /// The records do not decompress, or decompress to more than allowed.
    #[error("the records do not decompress")]
    Compression,
}

/// A borrowed batch. The header's fields are as stated in the bytes, and not verified.
#[derive(Clone, Copy, Debug)]
pub struct BatchView<'a> {
    bytes: &'a [u8],
    header: BatchHeader,
}

impl<'a> BatchView<'a> {
    /// Parses one batch at the front of `input`; returns it with the rest. Checks length and magic, not the checksum
    /// (see [`Self::check_crc`]).
    ///
    /// # Errors
    /// [`BatchError::Short`], [`BatchError::Length`], [`BatchError::Magic`].
    pub fn parse(input: &'a [u8]) -> Result<(Self, &'a [u8]), BatchError> {
        let header = BatchHeader::read(input)?;
        if header.magic != 2 {
            return Err(BatchError::Magic(header.magic));
        }
        let (bytes, rest) = input.split_at_checked(header.size).ok_or(BatchError::Short)?;
        Ok((Self { bytes, header }, rest))
    }

    /// The header of the batch.
    #[must_use]
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// All bytes of the batch.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Codec of the records.
    ///
    /// # Errors
    /// [`BatchError::Codec`].
    pub fn codec(&self) -> Result<Codec, BatchError> {
        let number = self.header.codec();
        Codec::from_number(number).ok_or(BatchError::Codec(number))
    }

    /// Verifies the checksum.
    ///
    /// # Errors
    /// [`BatchError::Crc`].
    pub fn check_crc(&self) -> Result<(), BatchError> {
        if self.header.crc_matches(self.bytes) { Ok(()) } else { Err(BatchError::Crc) }
    }

    /// The bytes after the header: the records, or their compressed form.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        &self.bytes[HEADER_LEN..]
    }

    /// The records of an uncompressed batch.
    ///
    /// # Errors
    /// [`BatchError::Codec`] if it is compressed: decompress [`Self::body`] and use [`Records::new`].
    pub fn records(&self) -> Result<Records<'a>, BatchError> {
        match self.codec()? {
            Codec::None => Ok(Records::new(self.body(), self.header.records_count, self.header.base_timestamp)),
            codec => Err(BatchError::Codec(codec as i16)),
        }
    }
}

/// The records of a batch, one by one. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
    left: i32,
    base_timestamp: i64,
}

impl<'a> Records<'a> {
    /// Reads uncompressed records: at most `count` of them, and bytes after the last are an error.
    #[must_use]
    pub const fn new(body: &'a [u8], count: i32, base_timestamp: i64) -> Self {
        Self { rest: body, left: count, base_timestamp }
    }

    /// The bytes of the records that have not been read.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The timestamp that the records' deltas count from.
    #[must_use]
    pub const fn base_timestamp(&self) -> i64 {
        self.base_timestamp
    }

    /// Number of bytes that have not been read.
    #[must_use]
    pub const fn rest_len(&self) -> usize {
        self.rest.len()
    }

    fn read(&mut self) -> Option<Record<'a>> {
        let length = usize::try_from(varint::get_i32(&mut self.rest)?).ok()?;
        let (mut body, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        let (_attributes, after) = body.split_first()?;
        body = after;
        let timestamp = self.base_timestamp.wrapping_add(varint::get(&mut body)?);
        let offset_delta = varint::get_i32(&mut body)?;
        let tail = body;
        let key = field(&mut body)?;
        let value = field(&mut body)?;
        let headers = Headers { count: u32::try_from(varint::get_i32(&mut body)?).ok()?, rest: body };
        // Every header is walked once here, so that [`Headers`] cannot fail later.
        let mut walk = headers.clone();
        for _ in 0..headers.count {
            walk.read()?;
        }
        walk.rest.is_empty().then_some(Record { timestamp, offset_delta, key, value, headers, tail })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left <= 0 {
            let odd = !std::mem::take(&mut self.rest).is_empty();
            return odd.then_some(Err(BatchError::Record));
        }
        self.left -= 1;
        let record = self.read().ok_or(BatchError::Record);
        if record.is_err() {
            (self.left, self.rest) = (0, &[]);
        }
        Some(record)
    }
}

fn field<'a>(input: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    match varint::get_i32(input)? {
        -1 => Some(None),
        length => {
            let (bytes, rest) = input.split_at_checked(usize::try_from(length).ok()?)?;
            *input = rest;
            Some(Some(bytes))
        }
    }
}

/// A borrowed record.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// Timestamp in milliseconds since the epoch; −1: none.
    pub timestamp: i64,
    /// Offset from the batch's base offset.
    pub offset_delta: i32,
    /// Key.
    pub key: Option<&'a [u8]>,
    /// Value.
    pub value: Option<&'a [u8]>,
    /// Headers, in order.
    pub headers: Headers<'a>,
    /// Key, value and headers as encoded, for [`super::Builder::append_tail`].
    pub tail: &'a [u8],
}

/// A record's headers: keys and values, in order, with duplicates.
#[derive(Clone, Debug, Default)]
pub struct Headers<'a> {
    count: u32,
    rest: &'a [u8],
}

impl<'a> Headers<'a> {
    /// The encoded headers that were not read, and their number, for [`Headers::from_encoded`].
    #[must_use]
    pub const fn encoded(&self) -> (&'a [u8], u32) {
        (self.rest, self.count)
    }

    /// The headers that [`Headers::encoded`] returned. Ends early at an invalid header.
    #[must_use]
    pub const fn from_encoded((rest, count): (&'a [u8], u32)) -> Self {
        Self { count, rest }
    }

    /// The value of the last header of a name that was not read, empty for null.
    #[must_use]
    pub fn last_of(&self, name: &[u8]) -> Option<&'a [u8]> {
        let named = self.clone().filter(|(key, _)| *key == name);
        named.last().map(|(_, value)| value.unwrap_or_default())
    }

    fn read(&mut self) -> Option<(&'a [u8], Option<&'a [u8]>)> {
        // A header's key is never null.
        let key = field(&mut self.rest)??;
        Some((key, field(&mut self.rest)?))
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1)?;
        self.read()
    }
}
