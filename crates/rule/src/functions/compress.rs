//! Compression. Decompressed data is allocated in the arena, within the rule's bound of memory.

use std::io::Read;

use flate2::Compression;
use flate2::bufread::{DeflateDecoder, DeflateEncoder, GzDecoder, GzEncoder, ZlibDecoder, ZlibEncoder};

use super::{Called, Context, argument, functions};
use crate::failure::Reason;
use crate::value::Value;

functions! {
    "gunzip" "(x)" 1 1 Pure(|c, a| unpack(c, GzDecoder::new(argument(a, 0).as_bytes()?))), "Unpacks gzip.", "gunzip(gzip('b'))" => "\"b\"";
    "gzip" "(x)" 1 1 Pure(|c, a| pack(c, a, |bytes| GzEncoder::new(bytes, Compression::default()))), "Packs with gzip.", "bytesize(gzip('b'))" => "21";
    "unzip" "(x)" 1 1 Pure(|c, a| unpack(c, DeflateDecoder::new(argument(a, 0).as_bytes()?))), "Unpacks bare deflate.", "unzip(zip('b'))" => "\"b\"";
    "zip" "(x)" 1 1 Pure(|c, a| pack(c, a, |bytes| DeflateEncoder::new(bytes, Compression::default()))), "Packs with deflate, without a header.", "bin2hexstr(zip('aaa'))" => "\"4B4C4C0400\"";
    "zip_compress" "(x)" 1 1 Pure(|c, a| pack(c, a, |bytes| ZlibEncoder::new(bytes, Compression::default()))), "Packs with deflate, with the header of zlib.", "bin2hexstr(zip_compress('aaa'))" => "\"789C4B4C4C040002490124\"";
    "zip_uncompress" "(x)" 1 1 Pure(|c, a| unpack(c, ZlibDecoder::new(argument(a, 0).as_bytes()?))), "Unpacks deflate with the header of zlib.", "zip_uncompress(zip_compress('aaa'))" => "\"aaa\"";
}

fn pack<'a, R: Read>(
    context: &Context<'a>,
    arguments: &[Value<'a>],
    encoder: impl FnOnce(&'a [u8]) -> R,
) -> Called<'a> {
    let bytes = argument(arguments, 0).as_bytes()?;
    // Packing costs far more than copying; its tables as much as some kilobytes.
    context.arena.spend(200 + bytes.len() as u64 / 4)?;
    unpack(context, encoder(bytes))
}

fn unpack<'a>(context: &Context<'a>, mut reader: impl Read) -> Called<'a> {
    let mut out = context.arena.writer();
    let mut buffer = [0; 4096];
    loop {
        context.arena.spend(20)?;
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(Value::Text(out.finish())),
            Ok(len) => {
                context.arena.spend(len as u64 / 16)?;
                out.extend(buffer.get(..len).unwrap_or_default())?;
            }
            Err(_) => return Err(Reason::decode("the data are not compressed in this way")),
        }
    }
}
