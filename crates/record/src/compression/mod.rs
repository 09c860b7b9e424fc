//! Compression of record batches: none, gzip, Snappy, LZ4 and Zstandard, each in the form that Kafka's Java client reads.
//!
//! | codec | form | source |
//! |---|---|---|
//! | gzip | one member, RFC 1952 | `GzipCompression` |
//! | Snappy | Xerial's stream: a head, then blocks with their lengths | `SnappyCompression`, `SnappyInputStream` |
//! | LZ4 | a frame of independent blocks of 64 KiB without checksums | `Lz4BlockInputStream` refuses dependent ones |
//! | Zstandard | one frame, RFC 8878 | `ZstdCompression` |
//!
//! An encoder keeps its tables and its output buffer from batch to batch. Decoders are made when needed: of Forebay's own batches
//! only one that is split is ever read back; batches of others are unpacked piece by piece ([`Stream`]).

mod snappy;
mod stream;
#[cfg(test)]
mod tests;

use std::io::{Read, Write};

use flate2::{Compress, FlushCompress, Status};
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use zstd::zstd_safe::{CCtx, CParameter, DCtx};

use self::snappy::Snappy;
pub use self::stream::Stream;

/// A codec by its number in a batch's attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum Codec {
    /// No compression.
    #[default]
    None = 0,
    /// gzip.
    Gzip = 1,
    /// Snappy, Xerial's framing.
    Snappy = 2,
    /// LZ4 frame.
    Lz4 = 3,
    /// Zstandard.
    Zstd = 4,
}

impl Codec {
    /// The codec with this number; `None`: there is no such codec.
    #[must_use]
    pub const fn from_number(number: i16) -> Option<Self> {
        Some(match number {
            0 => Self::None,
            1 => Self::Gzip,
            2 => Self::Snappy,
            3 => Self::Lz4,
            4 => Self::Zstd,
            _ => return None,
        })
    }

    /// Least, greatest and default level of a codec that has levels. Zstandard's levels 20 to 22, which need hundreds of megabytes,
    /// are left out.
    #[must_use]
    pub const fn levels(self) -> Option<(i32, i32, i32)> {
        match self {
            Self::Gzip => Some((1, 9, 6)),
            Self::Zstd => Some((1, 19, 3)),
            Self::None | Self::Snappy | Self::Lz4 => None,
        }
    }
}

/// Block buffers and hash table inside the LZ4 encoder: two blocks of 64 KiB and 16 KiB.
const LZ4_BYTES: usize = 2 * 64 * 1024 + 16 * 1024 + 1024;
/// Window, chains, hash heads and pending output of a deflate stream (zlib: 256 KiB and a little), with room to spare.
const GZIP_BYTES: usize = 384 * 1024;
/// The memory of the largest decoder: Zstandard's tables and blocks.
const DECODER_BYTES: usize = 256 * 1024;

enum Engine {
    Gzip(Compress),
    Snappy(Box<Snappy>),
    Lz4(FrameEncoder<Vec<u8>>),
    Zstd(CCtx<'static>),
}

/// One codec at one level, with its tables and its output buffer, used again for every batch.
pub struct Encoder {
    codec: Codec,
    level: Option<i32>,
    engine: Engine,
    engine_bytes: usize,
    /// The output; LZ4's is inside its engine.
    out: Vec<u8>,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("codec", &self.codec).field("memory", &self.memory()).finish()
    }
}

impl Encoder {
    /// An encoder for inputs up to about `input_max` bytes: for larger ones its buffer grows. Without a level it uses the codec's
    /// default; a level outside the codec's bounds becomes the nearest one inside. `None` for [`Codec::None`].
    #[must_use]
    pub fn new(codec: Codec, level: Option<i32>, input_max: usize) -> Option<Self> {
        let given = level;
        let level = codec.levels().map_or(0, |(min, max, usual)| level.unwrap_or(usual).clamp(min, max));
        let (engine, engine_bytes) = match codec {
            Codec::None => return None,
            Codec::Gzip => {
                let level = flate2::Compression::new(level.unsigned_abs());
                (Engine::Gzip(Compress::new_gzip(level, 15)), GZIP_BYTES)
            }
            Codec::Snappy => (Engine::Snappy(Box::new(Snappy::new())), snappy::ENCODER_BYTES),
            Codec::Lz4 => {
                let info = FrameInfo::new()
                    .block_mode(BlockMode::Independent)
                    .block_size(BlockSize::Max64KB)
                    .block_checksums(false)
                    .content_checksum(false);
                let out = Vec::with_capacity(out_len_max(codec, input_max));
                (Engine::Lz4(FrameEncoder::with_frame_info(info, out)), LZ4_BYTES)
            }
            Codec::Zstd => zstd_engine(level, input_max)?,
        };
        let out = match codec {
            Codec::Lz4 => Vec::new(),
            _ => Vec::with_capacity(out_len_max(codec, input_max)),
        };
        Some(Self { codec, level: given, engine, engine_bytes, out })
    }

    /// The encoder's codec.
    #[must_use]
    pub const fn codec(&self) -> Codec {
        self.codec
    }

    /// Bytes that the encoder holds.
    #[must_use]
    pub fn memory(&self) -> usize {
        let out = match &self.engine {
            Engine::Lz4(encoder) => encoder.get_ref().capacity(),
            _ => self.out.capacity(),
        };
        self.engine_bytes + out
    }

    /// Compresses `input`; the result is valid until the next call. `None`: the output would not be smaller.
    pub fn compress(&mut self, input: &[u8]) -> Option<&[u8]> {
        self.out.clear();
        if !matches!(self.engine, Engine::Lz4(_)) {
            self.out.reserve(out_len_max(self.codec, input.len()));
        }
        match &mut self.engine {
            Engine::Gzip(gzip) => {
                gzip.reset();
                let status = gzip.compress_vec(input, &mut self.out, FlushCompress::Finish).ok()?;
                // The output does not fit into a buffer as large as the input.
                if status != Status::StreamEnd {
                    return None;
                }
            }
            Engine::Snappy(snappy) => snappy.compress(input, &mut self.out)?,
            Engine::Lz4(lz4) => {
                lz4.get_mut().clear();
                lz4.write_all(input).ok()?;
                lz4.try_finish().ok()?;
            }
            Engine::Zstd(zstd) => {
                zstd.compress2(&mut self.out, input).ok()?;
            }
        }
        let packed = match &self.engine {
            Engine::Lz4(lz4) => lz4.get_ref(),
            _ => &self.out,
        };
        (packed.len() < input.len()).then_some(packed)
    }
}

/// A context with all the memory that it will ever need, for Zstandard's parameters for any input length up to `input_max`; they
/// change at 16, 128 and 256 KiB. Returns it with its size in bytes.
fn zstd_engine(level: i32, input_max: usize) -> Option<(Engine, usize)> {
    let mut context = CCtx::try_create()?;
    context.set_parameter(CParameter::CompressionLevel(level)).ok()?;
    let zeros = vec![0; input_max];
    let mut out = Vec::with_capacity(zstd::zstd_safe::compress_bound(input_max));
    let mut bytes = 0;
    for len in [16 << 10, 128 << 10, 256 << 10, input_max] {
        context.compress2(&mut out, zeros.get(..len).unwrap_or(&zeros)).ok()?;
        bytes = bytes.max(context.sizeof());
    }
    Some((Engine::Zstd(context), bytes))
}

/// Upper bound of an encoder's output. An encoder that can tell early that nothing is gained stops there.
const fn out_len_max(codec: Codec, input: usize) -> usize {
    match codec {
        // Blocks that do not shrink are stored, with four bytes each, plus header and end mark.
        Codec::Lz4 => input + 4 * (input / (64 * 1024) + 1) + 32,
        Codec::Snappy => input + snappy::BLOCK_OUT_MAX,
        Codec::None | Codec::Gzip | Codec::Zstd => input,
    }
}

/// Decompresses a batch's body of at most `len_max` plain bytes into `plain`, replacing its contents. `None`: the body is not of
/// this codec, or holds more; nothing larger than `len_max` is ever allocated for it.
pub fn decompress(codec: Codec, body: &[u8], len_max: usize, plain: &mut Vec<u8>) -> Option<()> {
    plain.clear();
    // In the extra byte a reader finds that there is no more.
    plain.reserve_exact(len_max + 1);
    let limit = u64::try_from(len_max).unwrap_or(u64::MAX).saturating_add(1);
    match codec {
        Codec::None => plain.extend_from_slice(body.get(..len_max + 1).unwrap_or(body)),
        Codec::Gzip => {
            flate2::bufread::GzDecoder::new(body).take(limit).read_to_end(plain).ok()?;
        }
        Codec::Snappy => snappy::decompress(body, len_max, plain)?,
        Codec::Lz4 => {
            FrameDecoder::new(body).take(limit).read_to_end(plain).ok()?;
        }
        Codec::Zstd => {
            DCtx::try_create()?.decompress(plain, body).ok()?;
        }
    }
    (plain.len() <= len_max).then_some(())
}

/// The encoders of one core, one for each codec and level in use, and the buffer for reading their output back.
#[derive(Debug, Default)]
pub struct Codecs {
    encoders: Vec<Encoder>,
    plain: Vec<u8>,
}

impl Codecs {
    /// Encoders for these codecs and levels, one each, for inputs up to about `input_max` bytes.
    pub fn new(wanted: impl Iterator<Item = (Codec, Option<i32>)>, input_max: usize) -> Self {
        let mut encoders: Vec<Encoder> = Vec::new();
        for (codec, level) in wanted {
            if !encoders.iter().any(|encoder| (encoder.codec, encoder.level) == (codec, level)) {
                encoders.extend(Encoder::new(codec, level, input_max));
            }
        }
        Self { encoders, plain: Vec::new() }
    }

    /// Whether nothing is ever compressed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.encoders.is_empty()
    }

    /// Bytes of the encoders and of a decoder, without the result of [`Self::decompress`].
    #[must_use]
    pub fn memory(&self) -> usize {
        let decoder = if self.is_empty() { 0 } else { DECODER_BYTES };
        self.encoders.iter().map(Encoder::memory).sum::<usize>() + decoder
    }

    /// The encoder of a codec and level, if there is one.
    pub fn encoder(&mut self, codec: Codec, level: Option<i32>) -> Option<&mut Encoder> {
        self.encoders.iter_mut().find(|encoder| (encoder.codec, encoder.level) == (codec, level))
    }

    /// [`decompress`] into a buffer of its own.
    pub fn decompress(&mut self, codec: Codec, body: &[u8], len_max: usize) -> Option<&[u8]> {
        decompress(codec, body, len_max, &mut self.plain)?;
        Some(&self.plain)
    }

    /// Frees the buffer of [`Self::decompress`].
    pub fn forget_plain(&mut self) {
        self.plain = Vec::new();
    }
}
