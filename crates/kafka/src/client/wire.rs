//! A reader of answers: a cursor over borrowed bytes that trusts no count. Every length is compared with the rest of the frame before
//! anything is taken or reserved, so an answer never costs more memory than its own bytes.
//!
//! `flexible` is KIP-482: compact strings and arrays (uvarint of length + 1, 0 for null), tagged fields after each struct.

/// An answer that violates its version's format. The connection is closed: nothing after it can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "malformed answer: {}", self.0)
    }
}

/// The result of reading.
pub(crate) type Read<T> = Result<T, Malformed>;

/// A cursor over the bytes of an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    flexible: bool,
    extra: usize,
}

impl<'a> Reader<'a> {
    /// Reads `bytes`, in the flexible encoding or the classic one.
    pub(crate) fn new(bytes: &'a [u8], flexible: bool) -> Self {
        Self { rest: bytes, flexible, extra: 0 }
    }

    fn take<const N: usize>(&mut self) -> Read<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed("ends early"))?;
        self.rest = rest;
        Ok(*head)
    }

    /// Skips `count` bytes.
    pub(crate) fn skip(&mut self, count: usize) -> Read<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or(Malformed("ends early"))?;
        self.rest = rest;
        Ok(head)
    }

    /// Reads one byte.
    pub(crate) fn u8(&mut self) -> Read<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    /// Reads two bytes.
    pub(crate) fn i16(&mut self) -> Read<i16> {
        self.take().map(i16::from_be_bytes)
    }

    /// Reads four bytes.
    pub(crate) fn i32(&mut self) -> Read<i32> {
        self.take().map(i32::from_be_bytes)
    }

    /// Reads eight bytes.
    pub(crate) fn i64(&mut self) -> Read<i64> {
        self.take().map(i64::from_be_bytes)
    }

    /// Reads sixteen bytes, big-endian: a UUID.
    pub(crate) fn u128(&mut self) -> Read<u128> {
        self.take().map(u128::from_be_bytes)
    }

    /// Reads an unsigned varint of at most 32 bits.
    pub(crate) fn uvarint(&mut self) -> Read<u32> {
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| Malformed("varint over 32 bits"));
            }
        }
        Err(Malformed("varint over 32 bits"))
    }

    /// Reads a string's bytes; `None` for null. Not checked to be UTF-8: names are compared, not shown.
    pub(crate) fn nullable_string(&mut self) -> Read<Option<&'a [u8]>> {
        let length = if self.flexible { i64::from(self.uvarint()?) - 1 } else { i64::from(self.i16()?) };
        match length {
            -1 => Ok(None),
            _ => {
                let length = usize::try_from(length).map_err(|_| Malformed("negative length"))?;
                self.skip(length).map(Some)
            }
        }
    }

    /// Reads length-prefixed bytes; `None` for null.
    pub(crate) fn nullable_bytes(&mut self) -> Read<Option<&'a [u8]>> {
        let length = if self.flexible { i64::from(self.uvarint()?) - 1 } else { i64::from(self.i32()?) };
        match length {
            -1 => Ok(None),
            _ => self.skip(usize::try_from(length).map_err(|_| Malformed("negative length"))?).map(Some),
        }
    }

    /// Reads a string that must not be null.
    pub(crate) fn string(&mut self) -> Read<&'a [u8]> {
        self.nullable_string()?.ok_or(Malformed("null where a string must be"))
    }

    /// Reads an array's count, of elements that take at least `element_bytes` each. Null counts as empty.
    pub(crate) fn array(&mut self, element_bytes: usize) -> Read<usize> {
        let count =
            if self.flexible { i64::from(self.uvarint()?.saturating_sub(1)) } else { i64::from(self.i32()?).max(0) };
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        match count.checked_mul(element_bytes.max(1)) {
            Some(bytes) if bytes <= self.rest.len() => Ok(count),
            _ => Err(Malformed("array longer than its frame")),
        }
    }

    /// Reads an array of plain i32.
    pub(crate) fn i32s(&mut self) -> Read<impl Iterator<Item = i32> + use<'a>> {
        let count = self.array(4)?;
        let (numbers, _) = self.skip(count * 4)?.as_chunks();
        Ok(numbers.iter().map(|bytes| i32::from_be_bytes(*bytes)))
    }

    /// Skips the tagged fields that end a struct (nothing in the classic encoding).
    pub(crate) fn tags(&mut self) -> Read<()> {
        if self.flexible {
            let count = self.uvarint()?;
            for _ in 0..count {
                self.uvarint()?;
                let size = self.uvarint()? as usize;
                self.skip(size)?;
            }
        }
        Ok(())
    }

    /// The bytes that have not been read.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Ends the answer. Some services send bytes after it.
    pub(crate) fn end(&mut self) {
        self.extra = self.rest.len();
    }

    /// The number of bytes after the end.
    pub(crate) fn extra(self) -> usize {
        self.extra
    }
}

/// Appends an unsigned varint.
pub(crate) fn put_uvarint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_come_back_and_overlong_ones_do_not() {
        for value in [0, 1, 127, 128, 300, 1 << 20, u32::MAX] {
            let mut bytes = Vec::new();
            put_uvarint(&mut bytes, value);
            let mut reader = Reader::new(&bytes, true);
            assert_eq!(reader.uvarint(), Ok(value));
            reader.end();
            assert_eq!(reader.extra(), 0);
        }
        assert!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x7f], true).uvarint().is_err());
        assert!(Reader::new(&[0x80; 6], true).uvarint().is_err());
        assert!(Reader::new(&[0x80], true).uvarint().is_err());
    }

    #[test]
    fn counts_are_held_against_what_is_left() {
        assert_eq!(Reader::new(&[0, 0, 0, 2, 9, 9], false).array(1), Ok(2));
        assert!(Reader::new(&[0, 0, 0, 3, 9, 9], false).array(1).is_err());
        assert!(Reader::new(&[0, 0, 0, 2, 9, 9, 9], false).array(2).is_err());
        assert!(Reader::new(&[0x7f, 0xff, 0xff, 0xff, 9], false).array(usize::MAX).is_err());
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff], false).array(8), Ok(0), "null");
        assert_eq!(Reader::new(&[0], true).array(8), Ok(0), "null, compact");
        assert!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x0f, 1], true).array(1).is_err());
    }

    #[test]
    fn strings() {
        assert_eq!(Reader::new(&[0, 2, b'a', b'b'], false).string(), Ok(&b"ab"[..]));
        assert_eq!(Reader::new(&[0xff, 0xff], false).nullable_string(), Ok(None));
        assert!(Reader::new(&[0xff, 0xfe], false).nullable_string().is_err());
        assert!(Reader::new(&[0, 3, b'a'], false).string().is_err());
        assert_eq!(Reader::new(&[3, b'a', b'b'], true).string(), Ok(&b"ab"[..]));
        assert!(Reader::new(&[0], true).string().is_err());
    }
}
