//! Salvage of bytes that the disk cannot read in one piece: they are read block by block and sector by sector. Ranges
//! that the disk reports as damaged become zeroes, which no checksum passes. If all reads fail, the disk may be
//! unavailable, and nothing is concluded.

use super::disk::{Disk, ReadError};

const BLOCK: usize = 4096;
const SECTOR: usize = 512;

/// A read that continues where it was answered "later".
#[derive(Debug)]
pub(super) struct Salvage {
    pub(super) segment: u64,
    pub(super) at: u64,
    bytes: Vec<u8>,
    filled: usize,
    sectors: bool,
    /// Ranges that the disk cannot read: position and bytes.
    bad: Vec<(u64, u64)>,
}

/// The bytes read, and the unreadable ranges, which are zeroes in them.
pub(super) type Salvaged = (Vec<u8>, Vec<(u64, u64)>);

impl Salvage {
    pub(super) fn new(segment: u64, at: u64, len: usize) -> Self {
        let (bytes, bad) = (vec![0; len], Vec::new());
        Self { segment, at, bytes, filled: 0, sectors: false, bad }
    }

    /// Continues the read.
    ///
    /// # Errors
    /// [`ReadError::Later`]: call again. [`ReadError::Failed`]: the disk may be unavailable.
    pub(super) fn read(&mut self, disk: &impl Disk) -> Result<Salvaged, ReadError> {
        while self.filled < self.bytes.len() {
            let position = self.at + self.filled as u64;
            let step = if self.sectors { SECTOR } else { BLOCK };
            let to = (self.filled + step - (position % step as u64) as usize).min(self.bytes.len());
            let here = &mut self.bytes[self.filled..to];
            let count = here.len() as u64;
            match disk.read(self.segment, position, here) {
                Ok(()) => {}
                Err(ReadError::Damaged | ReadError::Failed) if !self.sectors => {
                    self.sectors = true;
                    continue;
                }
                Err(ReadError::Damaged) => {
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
        Ok((std::mem::take(&mut self.bytes), std::mem::take(&mut self.bad)))
    }
}

/// Reads bytes of a segment during recovery, which waits.
///
/// # Errors
/// Like [`Salvage::read`].
pub(super) fn read(disk: &impl Disk, segment: u64, at: u64, len: usize) -> Result<Salvaged, ReadError> {
    let mut bytes = vec![0; len];
    match disk.read(segment, at, &mut bytes) {
        Ok(()) => Ok((bytes, Vec::new())),
        Err(ReadError::Damaged | ReadError::Failed) => Salvage::new(segment, at, len).read(disk),
        Err(error) => Err(error),
    }
}
