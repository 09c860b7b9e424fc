//! `frames` and `preface` read what the other end of a trunk sends, which may be any bytes. The fuzz target `trunk` uses them.

use super::frame::{Frame, Malformed, Piece, Reader};
use super::preface::Preface;

/// The longest preface, bytes.
const PREFACE_BYTES_MAX: usize = 14 + 1 + 2 + 2 + 1024;

/// A stream, and a frame of it or bytes.
type Found = (u32, Result<Frame, Vec<u8>>);

/// Reads frames, and judges that it does not matter how their bytes are cut. What is read is put again, and read as the same.
pub fn frames(cuts: &[u8], bytes: &[u8]) {
    let (mut rest, mut pieces) = (bytes, Vec::new());
    for cut in cuts {
        let (piece, after) = rest.split_at(usize::from(*cut).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    let found = read(&[bytes]);
    assert_eq!(read(&pieces), found);
    let Ok(found) = found else { return };
    let mut again = Vec::new();
    for (stream, what) in &found {
        match what {
            Ok(frame) => frame.put(*stream, &mut again),
            Err(data) => {
                Frame::Data(data.len() as u32).put(*stream, &mut again);
                again.extend_from_slice(data);
            }
        }
    }
    assert_eq!(read(&[&again]), Ok(found));
}

/// The frames in these pieces; bytes of one stream that follow one another are put together.
fn read(pieces: &[&[u8]]) -> Result<Vec<Found>, Malformed> {
    let (mut reader, mut found) = (Reader::default(), Vec::<Found>::new());
    for mut bytes in pieces.iter().copied() {
        while let Some((stream, piece)) = reader.next(&mut bytes)? {
            match (piece, found.last_mut()) {
                (Piece::Bytes(more), Some((of, Err(before)))) if *of == stream => before.extend_from_slice(more),
                (Piece::Bytes(more), _) => found.push((stream, Err(more.to_vec()))),
                (Piece::Frame(frame), _) => found.push((stream, Ok(frame))),
            }
        }
        assert!(bytes.is_empty());
    }
    Ok(found)
}

/// Reads the first bytes of a trunk.
pub fn preface(bytes: &[u8]) {
    match Preface::read(bytes) {
        Ok(Some((preface, len))) => {
            let mut again = Vec::new();
            preface.write(&mut again);
            assert_eq!(again, bytes[..len]);
            assert_eq!(Preface::read(&bytes[..len - 1]), Ok(None));
        }
        Ok(None) => assert!(bytes.len() < PREFACE_BYTES_MAX),
        error => assert_eq!(Preface::read(&[bytes, b"x"].concat()), error),
    }
}
