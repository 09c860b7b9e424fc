//! DER (X.690), as far as fields of a certificate need it that rustls does not show.

pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;
pub(super) const OID: u8 = 0x06;

/// The contents of a value with this tag, and the bytes after it.
pub(super) fn enter(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, contents, rest) = any(der)?;
    (found == tag).then_some((contents, rest))
}

/// Splits off a value: its tag, its contents, and the bytes after it.
pub(super) fn any(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&len, rest) = rest.split_first()?;
    let (len, rest) = match usize::from(len) {
        short @ 0..0x80 => (short, rest),
        bytes => {
            let (bytes, rest) =
                rest.split_at_checked(bytes - 0x80).filter(|(bytes, _)| (1..=4).contains(&bytes.len()))?;
            (bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), rest)
        }
    };
    let (contents, rest) = rest.split_at_checked(len)?;
    Some((tag, contents, rest))
}

/// The bytes after a value.
pub(super) fn skip(der: &[u8]) -> Option<&[u8]> {
    any(der).map(|(.., rest)| rest)
}
