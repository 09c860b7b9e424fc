//! `header` reads what a front says of a client, which may be any bytes. The fuzz target `link_header` uses it.

use super::Header;

/// Reads what a front says of a client. What it has said is written as that, and read as the same.
pub fn header(bytes: &[u8]) {
    let Ok(read) = Header::read(bytes) else {
        assert!(Header::read(&[bytes, b"x"].concat()).is_err());
        return;
    };
    let Some((header, len)) = read else { return };
    assert!(matches!(Header::read(&bytes[..len - 1]), Ok(None)));
    let mut again = Vec::new();
    if header.write(&mut again) {
        let (same, len) = Header::read(&again).expect("well-formed").expect("whole");
        assert_eq!((format!("{same:?}"), len), (format!("{header:?}"), again.len()));
    }
}
