//! Fields: a kind (one byte), a length (two bytes) and a value.

/// Appends a field. False, and nothing appended: the value is longer than 65,535 bytes.
pub(super) fn put(kind: u8, value: &[u8], out: &mut Vec<u8>) -> bool {
    let Ok(len) = u16::try_from(value.len()) else { return false };
    out.push(kind);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(value);
    true
}

/// The fields in some bytes. `None` as an item, which is then the last: a field is cut off.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u8, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = std::mem::take(&mut self.0);
        let (kind, rest) = bytes.split_first()?;
        let field = rest.split_first_chunk().and_then(|(len, rest)| {
            let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
            self.0 = rest;
            Some((*kind, value))
        });
        Some(field)
    }
}
