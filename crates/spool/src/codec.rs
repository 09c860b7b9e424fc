//! Numbers, texts and lists of a payload. The reader trusts no count: it reserves nothing beyond the bytes available.

/// An upper bound of all numbers of a log.
pub(super) const NUMBER_MAX: u64 = 1 << 60;

/// Appends fields.
pub(super) struct Out<'a>(pub(super) &'a mut Vec<u8>);

impl Out<'_> {
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes(&[value])
    }

    pub(super) fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(super) fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(super) fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.u32(text.len() as u32).bytes(text.as_bytes())
    }

    /// Appends a varint: seven bits a byte, low bits first.
    pub(super) fn varint(&mut self, value: u64) -> &mut Self {
        let mut rest = value;
        while rest >= 0x80 {
            self.0.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.0.push(rest as u8);
        self
    }

    /// Appends the signed distance of `value` from `from`.
    pub(super) fn delta(&mut self, value: u64, from: u64) -> &mut Self {
        let delta = value.wrapping_sub(from) as i64;
        self.varint(((delta << 1) ^ (delta >> 63)) as u64)
    }
}

/// Reads fields.
#[derive(Clone, Copy)]
pub(super) struct In<'a>(pub(super) &'a [u8]);

impl<'a> In<'a> {
    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// A number that a log has assigned, or a position in it: no log reaches larger ones, and their sums cannot
    /// overflow.
    pub(super) fn number(&mut self) -> Option<u64> {
        self.u64().filter(|number| *number < NUMBER_MAX)
    }

    pub(super) fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_be_bytes)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        let len = self.u32()?;
        std::str::from_utf8(self.take(len as usize)?).ok()
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                // The tenth byte holds one bit: higher bits would be lost silently.
                return (shift < 63 || byte <= 1).then_some(value);
            }
        }
        None
    }

    pub(super) fn delta(&mut self, from: u64) -> Option<u64> {
        let coded = self.varint()?;
        Some(from.wrapping_add((coded >> 1) ^ (coded & 1).wrapping_neg()))
    }
}
