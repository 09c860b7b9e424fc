//! Bytes that the disk does not give in one piece, read block by block and sector by sector. Where it gives any of them, or
//! any close before them, it can be read, and those that it does not give are damaged: zeroes hold their place, which no
//! checksum passes. Where it gives none it may be away, and nothing follows from that.

use super::disk::{Disk, ReadError};

const BLOCK: usize = 4096;
const SECTOR: usize = 512;

/// How far before the bytes it is tried whether the disk can be read at all.
const NEAR: [u64; 3] = [SECTOR as u64, BLOCK as u64, 16 * BLOCK as u64];

/// A read that goes on where it was answered "later".
#[derive(Debug)]
pub(super) struct Salvage {
    pub(super) segment: u64,
    pub(super) at: u64,
    bytes: Vec<u8>,
    filled: usize,
    sectors: bool,
    any: bool,
    /// Places of `NEAR` that were tried.
    near: usize,
    /// Parts that the disk does not give: position and bytes.
    bad: Vec<(u64, u64)>,
}

/// What there is: the bytes, and where zeroes stand for what cannot be read.
pub(super) type Salvaged = (Vec<u8>, Vec<(u64, u64)>);

impl Salvage {
    pub(super) fn new(segment: u64, at: u64, len: usize) -> Self {
        let (bytes, bad) = (vec![0; len], Vec::new());
        Self { segment, at, bytes, filled: 0, sectors: false, any: false, near: 0, bad }
    }

    /// Reads on.
    ///
    /// # Errors
    /// [`ReadError::Later`]: again. [`ReadError::Failed`]: nothing around can be read.
    pub(super) fn read(&mut self, disk: &impl Disk) -> Result<Salvaged, ReadError> {
        while self.filled < self.bytes.len() {
            let position = self.at + self.filled as u64;
            let step = if self.sectors { SECTOR } else { BLOCK };
            let to = (self.filled + step - (position % step as u64) as usize).min(self.bytes.len());
            let here = &mut self.bytes[self.filled..to];
            let count = here.len() as u64;
            match disk.read(self.segment, position, here) {
                Ok(()) => self.any = true,
                Err(ReadError::Failed) if !self.sectors => {
                    self.sectors = true;
                    continue;
                }
                Err(ReadError::Failed) => {
                    here.fill(0);
                    match self.bad.last_mut() {
                        Some((first, bytes)) if *first + *bytes == position => *bytes += count,
                        _ => self.bad.push((position, count)),
                    }
                }
                Err(error) => return Err(error),
            }
            self.filled = to;
            self.sectors &= !(self.at + to as u64).is_multiple_of(BLOCK as u64);
        }
        while let Some(before) = NEAR.get(self.near).filter(|_| !self.any) {
            if let Some(position) = self.at.checked_sub(*before) {
                match disk.read(self.segment, position / SECTOR as u64 * SECTOR as u64, &mut [0; SECTOR]) {
                    Ok(()) => self.any = true,
                    Err(ReadError::Failed) => {}
                    Err(error) => return Err(error),
                }
            }
            self.near += 1;
        }
        let read = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.bad));
        if self.any { Ok(read) } else { Err(ReadError::Failed) }
    }
}

/// Reads bytes of a segment at a start, which waits.
///
/// # Errors
/// As [`Salvage::read`].
pub(super) fn read(disk: &impl Disk, segment: u64, at: u64, len: usize) -> Result<Salvaged, ReadError> {
    let mut bytes = vec![0; len];
    match disk.read(segment, at, &mut bytes) {
        Ok(()) => Ok((bytes, Vec::new())),
        Err(ReadError::Failed) => Salvage::new(segment, at, len).read(disk),
        Err(error) => Err(error),
    }
}
