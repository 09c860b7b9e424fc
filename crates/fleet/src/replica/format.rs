//! Keys and values of the records of a log. `docs/internals/SPOOL.md` has the table.
//!
//! ```text
//! key    "FB" · kind u8 · by kind, integers big-endian
//! d      term u64 · segment u64 · position u64          value: the bytes; null: the segment is freed
//! n                                                     value: the note beside the segments
//! b                                                     value: empty; a record that says nothing
//! t      producer id i64                                value: version u8 = 1 · closed u8 · epoch i16 · term u64 · instance, UTF-8
//! ```

/// The version of the format, in each term record.
pub(super) const VERSION: u8 = 1;

const MAGIC: [u8; 2] = *b"FB";

/// The longest key, bytes.
pub(super) const KEY_BYTES_MAX: usize = 27;

/// The kind of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// Bytes of a segment.
    Data {
        /// The term that made the segment. Two owners never write the same key, whatever one of them knows.
        term: u64,
        segment: u64,
        at: u64,
    },
    /// The note beside the segments.
    Note,
    /// No content: the record exists for its batch, which fences earlier epochs and keeps this one known.
    Beat,
    /// An ownership under this producer ID, or the end of all of them.
    Term { producer_id: i64 },
}

impl Key {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(KEY_BYTES_MAX);
        out.extend_from_slice(&MAGIC);
        match self {
            Self::Data { term, segment, at } => {
                out.push(b'd');
                [term, segment, at].iter().for_each(|number| out.extend_from_slice(&number.to_be_bytes()));
            }
            Self::Note => out.push(b'n'),
            Self::Beat => out.push(b'b'),
            Self::Term { producer_id } => {
                out.push(b't');
                out.extend_from_slice(&producer_id.to_be_bytes());
            }
        }
        out
    }

    /// Reads a key. `None`: Forebay did not write the key.
    pub(super) fn decode(key: &[u8]) -> Option<Self> {
        let (kind, rest) = key.strip_prefix(&MAGIC)?.split_first()?;
        match kind {
            b'd' => {
                let numbers: &[u8; 24] = rest.try_into().ok()?;
                let mut numbers = numbers.as_chunks::<8>().0.iter().map(|number| u64::from_be_bytes(*number));
                Some(Self::Data { term: numbers.next()?, segment: numbers.next()?, at: numbers.next()? })
            }
            b'n' if rest.is_empty() => Some(Self::Note),
            b'b' if rest.is_empty() => Some(Self::Beat),
            b't' => Some(Self::Term { producer_id: i64::from_be_bytes(rest.try_into().ok()?) }),
            _ => None,
        }
    }
}

/// The value of a term record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Term {
    /// Whether no epoch of the producer ID writes any more: the record's own batch has the last one.
    pub(super) closed: bool,
    pub(super) epoch: i16,
    /// The number of the ownership of the log, from 1.
    pub(super) term: u64,
    /// The instance's name, for people.
    pub(super) instance: String,
}

impl Term {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION, u8::from(self.closed)];
        out.extend_from_slice(&self.epoch.to_be_bytes());
        out.extend_from_slice(&self.term.to_be_bytes());
        out.extend_from_slice(self.instance.as_bytes());
        out
    }

    /// # Errors
    /// The version, if it is another one. 0: the bytes are no such value.
    pub(super) fn decode(value: &[u8]) -> Result<Self, u8> {
        let (version, rest) = value.split_first().ok_or(0)?;
        if *version != VERSION {
            return Err(*version);
        }
        let (closed, rest) = rest.split_first().ok_or(0)?;
        let (epoch, rest) = rest.split_first_chunk().ok_or(0)?;
        let (term, rest) = rest.split_first_chunk().ok_or(0)?;
        let instance = String::from_utf8_lossy(rest).into_owned();
        let (epoch, term) = (i16::from_be_bytes(*epoch), u64::from_be_bytes(*term));
        Ok(Self { closed: *closed != 0, epoch, term, instance })
    }
}
