//! Snappy as in Kafka's Java client: the stream of Xerial's `SnappyOutputStream`. It has a head of 16 bytes, then
//! blocks, each a length (big-endian) and a raw Snappy block of at most 32 KiB plain.

use snap::raw::{Decoder, Encoder, decompress_len, max_compress_len};

/// `SnappyCodec.MAGIC_HEADER`, version 1, readable from version 1 on.
const HEAD: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
/// `SnappyOutputStream.DEFAULT_BLOCK_SIZE`.
const BLOCK_LEN: usize = 32 * 1024;
/// The most bytes after the point at which compression is known to gain nothing: a block that does not shrink (Snappy's
/// bound for 32 KiB), with its length, and the head.
pub(super) const BLOCK_OUT_MAX: usize = 32 + BLOCK_LEN + BLOCK_LEN / 6 + 4 + 16;
/// Bytes of the encoder's hash tables.
pub(super) const ENCODER_BYTES: usize = 36 * 1024;

/// The encoder's tables.
pub(super) struct Snappy {
    encoder: Encoder,
}

impl Snappy {
    pub(super) fn new() -> Self {
        Self { encoder: Encoder::new() }
    }

    /// Appends the stream of `input` to `out`. `None`: nothing would be gained.
    pub(super) fn compress(&mut self, input: &[u8], out: &mut Vec<u8>) -> Option<()> {
        out.extend_from_slice(&HEAD);
        for block in input.chunks(BLOCK_LEN) {
            if out.len() >= input.len() {
                return None;
            }
            let at = out.len();
            out.resize(at + 4 + max_compress_len(block.len()), 0);
            let len = self.encoder.compress(block, &mut out[at + 4..]).ok()?;
            out[at..at + 4].copy_from_slice(&u32::try_from(len).ok()?.to_be_bytes());
            out.truncate(at + 4 + len);
        }
        Some(())
    }
}

/// Appends the plain bytes of a stream to `plain`, no more than `len_max`.
pub(super) fn decompress(stream: &[u8], len_max: usize, plain: &mut Vec<u8>) -> Option<()> {
    let (head, mut rest) = stream.split_at_checked(HEAD.len())?;
    // The version in the head may increase.
    if head[..8] != HEAD[..8] {
        return None;
    }
    let mut decoder = Decoder::new();
    while !rest.is_empty() {
        let (len, after) = rest.split_first_chunk::<4>()?;
        let (block, after) = after.split_at_checked(usize::try_from(u32::from_be_bytes(*len)).ok()?)?;
        let at = plain.len();
        let block_len = decompress_len(block).ok()?;
        if block_len > len_max.checked_sub(at)? {
            return None;
        }
        plain.resize(at + block_len, 0);
        decoder.decompress(block, &mut plain[at..]).ok()?;
        rest = after;
    }
    Some(())
}

/// The most plain bytes that a byte of a block can stand for: a copy of 64 bytes takes three.
const RATIO_MAX: usize = 22;

/// `Unpacker` unpacks a stream block by block, or a body that is one raw block, which librdkafka writes.
pub(super) struct Unpacker<I> {
    input: I,
    at: usize,
    /// Whether the stream has Xerial's framing.
    is_framed: bool,
    len_max: usize,
    decoder: Decoder,
    /// The plain bytes of the current block, and how many of them were read.
    block: Vec<u8>,
    read: usize,
}

impl<I: AsRef<[u8]>> Unpacker<I> {
    pub(super) fn new(input: I, len_max: usize) -> Self {
        // The version in the head may increase.
        let is_framed = input.as_ref().len() >= HEAD.len() && input.as_ref()[..8] == HEAD[..8];
        let at = if is_framed { HEAD.len() } else { 0 };
        Self { input, at, is_framed, len_max, decoder: Decoder::new(), block: Vec::new(), read: 0 }
    }

    pub(super) fn memory(&self) -> usize {
        self.block.capacity()
    }

    /// Like [`super::stream::Stream::read`].
    pub(super) fn read(&mut self, out: &mut [u8]) -> Option<usize> {
        while self.read == self.block.len() {
            let rest = self.input.as_ref().get(self.at..)?;
            if rest.is_empty() {
                return Some(0);
            }
            let packed = if self.is_framed {
                let (len, after) = rest.split_first_chunk::<4>()?;
                let packed = after.get(..usize::try_from(u32::from_be_bytes(*len)).ok()?)?;
                self.at += 4;
                packed
            } else {
                rest
            };
            self.at += packed.len();
            let plain_len = decompress_len(packed).ok()?;
            if plain_len > self.len_max || plain_len > packed.len().saturating_mul(RATIO_MAX) {
                return None;
            }
            self.block.resize(plain_len, 0);
            self.decoder.decompress(packed, &mut self.block).ok()?;
            self.read = 0;
        }
        let piece = self.block.get(self.read..)?;
        let count = piece.len().min(out.len());
        out[..count].copy_from_slice(&piece[..count]);
        self.read += count;
        Some(count)
    }
}
