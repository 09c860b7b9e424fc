//! Decompression of others' batches piece by piece: a small batch may hold much, and is never unpacked as a whole. A stream's claims
//! about itself are checked against bounds before anything is reserved.

use std::io::{Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use lz4_flex::frame::FrameDecoder;
use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

use super::snappy::Unpacker;
use super::{Codec, LZ4_BYTES};

/// The largest accepted window of Zstandard, the same as Java's reader. A frame of level 22 asks for it whatever its length.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// Window and tables of an inflate stream.
const INFLATE_BYTES: usize = 48 * 1024;

enum Engine<I: AsRef<[u8]>> {
    Gzip(Box<MultiGzDecoder<Cursor<I>>>),
    Snappy(Unpacker<I>),
    Lz4(Box<FrameDecoder<Cursor<I>>>),
    Zstd { context: DCtx<'static>, input: I, at: usize },
}

/// `Stream` unpacks one batch's body. The stream owns its input, usually a counted reference.
pub struct Stream<I: AsRef<[u8]>> {
    engine: Engine<I>,
}

impl<I: AsRef<[u8]>> std::fmt::Debug for Stream<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let codec = match self.engine {
            Engine::Gzip(_) => Codec::Gzip,
            Engine::Snappy(_) => Codec::Snappy,
            Engine::Lz4(_) => Codec::Lz4,
            Engine::Zstd { .. } => Codec::Zstd,
        };
        f.debug_struct("Stream").field("codec", &codec).finish_non_exhaustive()
    }
}

impl<I: AsRef<[u8]>> Stream<I> {
    /// Begins to unpack `input`. `len_max`: plain bytes that one block of Snappy may have, because a block is unpacked as a whole.
    /// `None`: the input is not compressed, or there is no memory for a decoder.
    #[must_use]
    pub fn new(codec: Codec, input: I, len_max: usize) -> Option<Self> {
        let engine = match codec {
            Codec::None => return None,
            Codec::Gzip => Engine::Gzip(Box::new(MultiGzDecoder::new(Cursor::new(input)))),
            Codec::Snappy => Engine::Snappy(Unpacker::new(input, len_max)),
            Codec::Lz4 => Engine::Lz4(Box::new(FrameDecoder::new(Cursor::new(input)))),
            Codec::Zstd => {
                let mut context = DCtx::try_create()?;
                context.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX)).ok()?;
                Engine::Zstd { context, input, at: 0 }
            }
        };
        Some(Self { engine })
    }

    /// Unpacks some bytes into `out`, which must not be empty. `Some(0)`: there are no more. `None`: the input is not of the codec.
    pub fn read(&mut self, out: &mut [u8]) -> Option<usize> {
        match &mut self.engine {
            Engine::Gzip(gzip) => gzip.read(out).ok(),
            Engine::Snappy(snappy) => snappy.read(out),
            Engine::Lz4(lz4) => lz4.read(out).ok(),
            Engine::Zstd { context, input, at } => {
                let mut to = OutBuffer::around(out);
                let mut from = InBuffer::around(input.as_ref());
                from.set_pos(*at);
                loop {
                    let before = from.pos();
                    context.decompress_stream(&mut to, &mut from).ok()?;
                    *at = from.pos();
                    // No progress means the end, or the middle of a frame that was cut short.
                    if to.pos() > 0 || from.pos() == before {
                        return Some(to.pos());
                    }
                }
            }
        }
    }

    /// Bytes that the decoder holds, without its input.
    #[must_use]
    pub fn memory(&self) -> usize {
        match &self.engine {
            Engine::Gzip(_) => INFLATE_BYTES,
            Engine::Snappy(snappy) => snappy.memory(),
            Engine::Lz4(_) => LZ4_BYTES,
            Engine::Zstd { context, .. } => context.sizeof(),
        }
    }
}
