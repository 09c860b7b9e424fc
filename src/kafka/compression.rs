//! Compression of record batches: none, and LZ4 in the frame that Kafka's Java client reads.
//!
//! Kafka wants independent blocks and no content checksum (`Lz4BlockInputStream` refuses dependent ones). Blocks of
//! 64 KiB, as the Java producer writes them: a reader reserves one block.

use std::io::{Read, Write};

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

/// A codec by its number in a batch's attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(i16)]
pub enum Codec {
    /// As it is.
    #[default]
    None = 0,
    /// LZ4 frame.
    Lz4 = 3,
}

/// An LZ4 encoder with its hash table and buffers, used again for every batch.
pub struct Lz4 {
    encoder: FrameEncoder<Vec<u8>>,
    plain: Vec<u8>,
}

impl std::fmt::Debug for Lz4 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lz4").field("memory", &self.memory()).finish()
    }
}

/// Block buffers and hash table inside the encoder: two blocks of 64 KiB and 16 KiB.
const ENCODER_BYTES: usize = 2 * 64 * 1024 + 16 * 1024 + 1024;

impl Lz4 {
    /// An encoder for inputs up to about `input_max` bytes: more is taken, and then the buffer grows.
    #[must_use]
    pub fn new(input_max: usize) -> Self {
        let info = FrameInfo::new()
            .block_mode(BlockMode::Independent)
            .block_size(BlockSize::Max64KB)
            .block_checksums(false)
            .content_checksum(false);
        let encoder = FrameEncoder::with_frame_info(info, Vec::with_capacity(frame_len_max(input_max)));
        Self { encoder, plain: Vec::new() }
    }

    /// Bytes that it holds.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.encoder.get_ref().capacity() + self.plain.capacity() + ENCODER_BYTES
    }

    /// Compresses `input` into one frame, valid until the next call. `None` stands for a failure that writing to a
    /// `Vec` cannot have.
    pub fn compress(&mut self, input: &[u8]) -> Option<&[u8]> {
        self.encoder.get_mut().clear();
        self.encoder.write_all(input).ok()?;
        self.encoder.try_finish().ok()?;
        Some(self.encoder.get_ref())
    }

    /// Decompresses a frame of at most `len_max` plain bytes, valid until the next call. `None`: it is not a frame, or
    /// holds more.
    pub fn decompress(&mut self, frame: &[u8], len_max: usize) -> Option<&[u8]> {
        self.plain.clear();
        let limit = u64::try_from(len_max).unwrap_or(u64::MAX).saturating_add(1);
        FrameDecoder::new(frame).take(limit).read_to_end(&mut self.plain).ok()?;
        (self.plain.len() <= len_max).then_some(&self.plain)
    }

    /// Gives back what [`Self::decompress`] needed.
    pub fn forget_plain(&mut self) {
        self.plain = Vec::new();
    }
}

/// Bound of a frame: blocks that do not shrink are stored, with four bytes each; header and end mark.
const fn frame_len_max(input: usize) -> usize {
    input + 4 * (input / (64 * 1024) + 1) + 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(len: usize, seed: u64) -> Vec<u8> {
        let mut rng = fastrand::Rng::with_seed(seed);
        (0..len).map(|i| if i % 7 == 0 { rng.u8(..) } else { (i / 50) as u8 }).collect()
    }

    #[test]
    fn the_same_encoder_makes_frame_after_frame() {
        let mut lz4 = Lz4::new(300_000);
        for (i, len) in [1usize, 100, 65_535, 65_536, 65_537, 300_000, 3].into_iter().enumerate() {
            let plain = sample(len, i as u64);
            let frame = lz4.compress(&plain).expect("a frame").to_vec();
            assert_eq!(lz4.decompress(&frame, len), Some(&plain[..]), "{len}");
            assert_eq!(lz4.decompress(&frame, len - 1), None, "{len}: bound");
        }
    }

    #[test]
    fn the_frame_is_one_that_java_reads() {
        let mut lz4 = Lz4::new(1000);
        lz4.compress(b"warm").expect("a frame");
        let frame = lz4.compress(&sample(1000, 1)).expect("a frame");
        assert_eq!(&frame[..4], &0x184D_2204u32.to_le_bytes());
        // FLG: version 01, blocks independent, no block checksum, no content size, no content checksum, no dictionary.
        assert_eq!(frame[4], 0b0110_0000);
        // BD: 64 KiB.
        assert_eq!(frame[5], 0x40);
        assert_eq!(&frame[frame.len() - 4..], &[0; 4], "end mark");
    }

    #[test]
    fn noise_stays_within_the_bound() {
        let mut rng = fastrand::Rng::with_seed(7);
        let noise: Vec<u8> = (0..200_000).map(|_| rng.u8(..)).collect();
        let mut lz4 = Lz4::new(noise.len());
        let before = lz4.memory();
        assert!(lz4.compress(&noise).expect("a frame").len() <= frame_len_max(noise.len()));
        assert_eq!(lz4.memory(), before, "no growth");
    }

    #[test]
    fn garbage_is_refused() {
        let mut lz4 = Lz4::new(10);
        assert_eq!(lz4.decompress(b"", 100), Some(&b""[..]));
        assert_eq!(lz4.decompress(b"not a frame at all", 100), None);
        let mut frame = lz4.compress(&sample(500, 2)).expect("a frame").to_vec();
        frame.truncate(frame.len() / 2);
        assert_eq!(lz4.decompress(&frame, 500), None);
    }
}
