//! The data types of section 1.5: integers, UTF-8 strings, binary data. [`Reader`] takes them off the front of a
//! slice, the `put_*` functions append them.

use super::malformed::Malformed;

/// The largest value of a Variable Byte Integer: four bytes of seven bits.
pub const VARIABLE_MAX: u32 = 268_435_455;

/// The longest UTF-8 string or binary value, in bytes: its length is a Two Byte Integer.
pub const STRING_MAX: usize = 65_535;

/// The unread rest of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The bytes that have not been read.
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `n` bytes.
    #[inline]
    pub(super) fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(head)
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        let (&byte, rest) = self.rest.split_first().ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(byte)
    }

    #[inline]
    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        let (&bytes, rest) = self.rest.split_first_chunk().ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(u16::from_be_bytes(bytes))
    }

    #[inline]
    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        let (&bytes, rest) = self.rest.split_first_chunk().ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(bytes))
    }

    /// A Variable Byte Integer that is wholly there.
    #[inline]
    pub(super) fn variable(&mut self) -> Result<u32, Malformed> {
        let (value, len) = variable(self.rest)?.ok_or(TRUNCATED)?;
        check_shortest(value, len)?;
        self.rest = &self.rest[len..];
        Ok(value)
    }

    /// Binary Data: a Two Byte Integer and that many bytes.
    #[inline]
    pub(super) fn binary(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    /// A UTF-8 Encoded String.
    #[inline]
    pub(super) fn string(&mut self) -> Result<&'a str, Malformed> {
        let text = self.text()?;
        if text.as_bytes().contains(&0) { Err(HOLDS_ZERO) } else { Ok(text) }
    }

    /// Reads a string like the method above, but leaves the check for U+0000 to the caller.
    #[inline]
    pub(super) fn text(&mut self) -> Result<&'a str, Malformed> {
        // Surrogates U+D800 to U+DFFF and overlong forms are ill-formed to `from_utf8` as well; U+FEFF stays as it is
        // [MQTT-1.5.4-3].
        std::str::from_utf8(self.binary()?)
            .map_err(|_| Malformed::packet("MQTT-1.5.4-1", "a string is not well-formed UTF-8"))
    }
}

pub(super) const HOLDS_ZERO: Malformed = Malformed::packet("MQTT-1.5.4-2", "a string holds U+0000");

const TRUNCATED: Malformed = Malformed::packet("section 1.2", "a field reaches beyond the end of the packet");

/// Reads a Variable Byte Integer (section 1.5.5) of any length up to four bytes: the value and its number of bytes; `None` if more
/// bytes are needed.
///
/// # Errors
/// A fourth byte that announces a fifth.
#[inline]
pub(super) fn variable(bytes: &[u8]) -> Result<Option<(u32, usize)>, Malformed> {
    let mut value = 0;
    for (at, &byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((value, at + 1)));
        }
    }
    if bytes.len() >= 4 {
        return Err(Malformed::packet("section 1.5.5", "a Variable Byte Integer goes on after its fourth byte"));
    }
    Ok(None)
}

/// Checks that a length has the shortest form, which 5.0 requires [MQTT-1.5.5-1]. Before 5.0 only the Remaining Length has this
/// type, and any form of it is valid.
#[inline]
pub(super) const fn check_shortest(value: u32, len: usize) -> Result<(), Malformed> {
    if len == variable_len(value) {
        Ok(())
    } else {
        Err(Malformed::packet("MQTT-1.5.5-1", "a Variable Byte Integer is longer than its value needs"))
    }
}

/// Bytes that `value` takes as a Variable Byte Integer.
pub(super) const fn variable_len(value: u32) -> usize {
    match value {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    }
}

/// Appends `value`, at most [`VARIABLE_MAX`], in its shortest form.
pub(super) fn put_variable(mut value: u32, out: &mut Vec<u8>) {
    debug_assert!(value <= VARIABLE_MAX);
    while value > 0x7F {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends Binary Data, or a string's bytes. `false`, and nothing appended, if they are longer than [`STRING_MAX`].
#[must_use]
pub(super) fn put_binary(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    let Ok(len) = u16::try_from(bytes.len()) else { return false };
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(bytes);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_byte_integers_at_their_edges() {
        // Table 1-1 of the standard.
        for (value, len) in
            [(0, 1), (127, 1), (128, 2), (16_383, 2), (16_384, 3), (2_097_151, 3), (2_097_152, 4), (VARIABLE_MAX, 4)]
        {
            let mut out = Vec::new();
            put_variable(value, &mut out);
            assert_eq!((out.len(), variable_len(value)), (len, len));
            assert_eq!(variable(&out), Ok(Some((value, len))));
            for cut in 0..len {
                assert_eq!(variable(&out[..cut]), Ok(None), "{value} cut at {cut}");
            }
        }
    }

    #[test]
    fn variable_byte_integers_that_are_none() {
        for bytes in [&[0x80, 0x00][..], &[0x80, 0x80, 0x00], &[0xFF, 0x80, 0x80, 0x00]] {
            assert!(variable(bytes).is_ok(), "before 5.0");
            assert_eq!(Reader::new(bytes).variable().unwrap_err().clause, "MQTT-1.5.5-1");
        }
        assert!(variable(&[0x80, 0x80, 0x80, 0x80]).is_err(), "known at the fourth byte");
        assert!(variable(&[0xFF, 0xFF, 0xFF, 0xFF, 0x7F]).is_err());
    }

    /// [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-1.5.4-3] [3.1.1 MQTT-1.5.3-1] [3.1.1 MQTT-1.5.3-2] [3.1.1 MQTT-1.5.3-3]
    #[test]
    fn strings() {
        let string = |bytes: &[u8]| Reader::new(bytes).string().map(str::len).map_err(|e| e.clause);
        assert_eq!(string(&[0, 2, 0xC3, 0xA4, 0xFF]), Ok(2));
        assert_eq!(string(&[0, 3, 0xEF, 0xBB, 0xBF]), Ok(3), "a byte order mark is kept");
        assert_eq!(string(&[0, 1, 0x00]), Err("MQTT-1.5.4-2"));
        assert_eq!(string(&[0, 3, 0xED, 0xA0, 0x80]), Err("MQTT-1.5.4-1"), "a surrogate");
        assert_eq!(string(&[0, 2, 0xC0, 0x80]), Err("MQTT-1.5.4-1"), "an overlong NUL");
        assert_eq!(string(&[0, 4, 0xF4, 0x90, 0x80, 0x80]), Err("MQTT-1.5.4-1"), "above U+10FFFF");
        assert_eq!(string(&[0, 2, b'a']), Err("section 1.2"));
        assert_eq!(string(&[0]), Err("section 1.2"));
    }
}
