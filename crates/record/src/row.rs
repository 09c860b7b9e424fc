//! A row: the borrowed contents of one future record.

use super::varint;
use forebay_runtime::seam::WallMs;

/// The borrowed contents of one future record. Headers keep their order and their duplicates; keys and values are any
/// bytes.
#[derive(Clone, Debug)]
pub struct Row<'a, H> {
    /// Record key; `None` is Kafka's null.
    pub key: Option<&'a [u8]>,
    /// Record value; `None` is Kafka's null (a tombstone in a compacted topic).
    pub value: Option<&'a [u8]>,
    /// Headers. The iterator is walked twice: once for the length, once for the bytes.
    pub headers: H,
    /// Record timestamp; −1: none.
    pub timestamp: WallMs,
}

/// The measure of a row's tail: the part of the record that depends only on the row. See [`Row::measure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Encoded bytes.
    pub len: usize,
    /// Number of headers.
    pub headers: usize,
}

impl<'a, H: Iterator<Item = (&'a [u8], &'a [u8])> + Clone> Row<'a, H> {
    /// Measures the tail exactly.
    #[must_use]
    pub fn measure(&self) -> Tail {
        let mut len = field_len(self.key) + field_len(self.value);
        let mut headers = 0;
        // Internal iteration is faster for a chain of iterators.
        self.headers.clone().for_each(|(key, value)| {
            len += field_len(Some(key)) + field_len(Some(value));
            headers += 1;
        });
        Tail { len: len + varint::len(headers as i64), headers }
    }

    /// Appends the tail.
    pub(super) fn put(&self, headers: usize, out: &mut Vec<u8>) {
        put_field(out, self.key);
        put_field(out, self.value);
        varint::put(out, headers as i64);
        // Most rows have no headers.
        if headers > 0 {
            self.headers.clone().for_each(|(key, value)| {
                put_field(out, Some(key));
                put_field(out, Some(value));
            });
        }
    }
}

#[inline]
fn field_len(field: Option<&[u8]>) -> usize {
    field.map_or(1, |bytes| varint::len(bytes.len() as i64) + bytes.len())
}

#[inline]
fn put_field(out: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        None => varint::put(out, -1),
        Some(bytes) => {
            varint::put(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}
