//! Changes of something valid, by the input: what is made of it is nearly right, which chance alone never finds.

/// Changes at most.
const EDITS_MAX: usize = 32;

/// The bytes with the changes that `edits` tells: four bytes each say where (two), how, and by what. `words` are put in whole.
pub fn edited(valid: &[u8], edits: &[u8], words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = valid.to_vec();
    for edit in edits.chunks_exact(4).take(EDITS_MAX) {
        let at = usize::from(u16::from_be_bytes([edit[0], edit[1]])) % (bytes.len() + 1);
        let (how, by) = (edit[2] % 6, edit[3]);
        let until = (at + usize::from(by)).min(bytes.len());
        match how {
            0 if at < bytes.len() => bytes[at] = by,
            1 if at < bytes.len() => bytes[at] ^= 1 << (by % 8),
            2 => drop(bytes.drain(at..until)),
            3 => bytes.extend_from_within(at..until),
            4 => bytes.truncate(at),
            _ => {
                let word = words.get(usize::from(by) % words.len().max(1)).copied().unwrap_or_default();
                bytes.splice(at..at, word.iter().copied());
            }
        }
    }
    bytes
}
