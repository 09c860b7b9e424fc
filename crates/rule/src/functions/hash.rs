//! Hashes, in small hexadecimal digits.

use md5::Digest as _;
use ring::digest;

use super::{Called, Context, argument, functions};
use crate::failure::Reason;
use crate::value::{TOO_BIG, Value};

functions! {
    "hash" "(kind, x)" 2 2 Pure(hash), "The hash of a text; kinds are md5, sha1 (sha), sha256, sha384, sha512.", "hash('sha1', 'abc')" => "\"a9993e364706816aba3e25717850c26c9cd0d89d\"";
    "hash_to_range" "(text, min, max)" 3 3 Pure(hash_to_range), "A number from min to max that is always the same for a text, by its SHA-256.", "hash_to_range('dev-1', 0, 9) < 10" => "true";
    "map_to_range" "(x, min, max)" 3 3 Pure(map_to_range), "A number from min to max by the remainder of an integer, or of the bytes of a text as one.", "map_to_range(13, 0, 9)" => "3";
    "md5" "(x)" 1 1 Pure(|c, a| md5(c, argument(a, 0))), "MD5.", "md5('abc')" => "\"900150983cd24fb0d6963f7d28e17f72\"";
    "sha" "(x)" 1 1 Pure(|c, a| of(c, &digest::SHA1_FOR_LEGACY_USE_ONLY, argument(a, 0))), "SHA-1.", "sha('abc')" => "\"a9993e364706816aba3e25717850c26c9cd0d89d\"";
    "sha256" "(x)" 1 1 Pure(|c, a| of(c, &digest::SHA256, argument(a, 0))), "SHA-256.", "sha256('abc')" => "\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"";
}

fn hash<'a>(context: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    let kind = match argument(arguments, 0).as_bytes()? {
        b"md5" => return md5(context, argument(arguments, 1)),
        b"sha" | b"sha1" => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        b"sha256" => &digest::SHA256,
        b"sha384" => &digest::SHA384,
        b"sha512" => &digest::SHA512,
        _ => return Err(Reason::domain("a hash that is not md5, sha1, sha256, sha384 or sha512")),
    };
    of(context, kind, argument(arguments, 1))
}

fn of<'a>(context: &Context<'a>, kind: &'static digest::Algorithm, value: Value<'a>) -> Called<'a> {
    let bytes = value.as_bytes()?;
    context.arena.spend(bytes.len() as u64 / 16)?;
    hex(context, digest::digest(kind, bytes).as_ref(), "", false)
}

fn md5<'a>(context: &Context<'a>, value: Value<'a>) -> Called<'a> {
    let bytes = value.as_bytes()?;
    context.arena.spend(bytes.len() as u64 / 16)?;
    hex(context, &md5::Md5::digest(bytes), "", false)
}

/// The remainder of a number of any length within a range of two arguments.
fn in_range<'a>(bytes: &[u8], arguments: &[Value<'a>]) -> Called<'a> {
    let (min, count) = range(arguments)?;
    let rest = bytes.iter().fold(0, |rest, byte| (rest * 256 + i128::from(*byte)) % count);
    // The number is not above the end of the range.
    Ok(Value::Int((min + rest) as i64))
}

/// The beginning of a range, and how many numbers it has.
fn range(arguments: &[Value<'_>]) -> Result<(i128, i128), Reason> {
    let (min, max) = (argument(arguments, 1).as_int()?, argument(arguments, 2).as_int()?);
    let count = i128::from(max) - i128::from(min) + 1;
    if count > 0 { Ok((min.into(), count)) } else { Err(Reason::domain("a range that ends before it begins")) }
}

fn hash_to_range<'a>(context: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    let bytes = argument(arguments, 0).as_bytes()?;
    context.arena.spend(bytes.len() as u64 / 16)?;
    in_range(digest::digest(&digest::SHA256, bytes).as_ref(), arguments)
}

fn map_to_range<'a>(context: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    match argument(arguments, 0) {
        Value::Int(number) => {
            let (min, count) = range(arguments)?;
            i64::try_from(min + i128::from(number) % count).map(Value::Int).map_err(|_| TOO_BIG)
        }
        text => {
            let bytes = text.as_bytes()?;
            context.arena.spend(bytes.len() as u64 / 16)?;
            in_range(bytes, arguments)
        }
    }
}

/// Bytes as hexadecimal digits, after a prefix.
pub(super) fn hex<'a>(context: &Context<'a>, bytes: &[u8], prefix: &str, is_upper: bool) -> Called<'a> {
    let digits: &[u8; 16] = if is_upper { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
    let digit = |at: u8| digits.get(usize::from(at & 15)).copied().unwrap_or(b'0');
    let mut out = context.arena.list_of(bytes.len().saturating_mul(2).saturating_add(prefix.len()))?;
    out.extend(prefix.as_bytes())?;
    context.arena.work(bytes.len())?;
    for byte in bytes {
        out.extend(&[digit(byte >> 4), digit(*byte)])?;
    }
    Ok(Value::Text(out.finish()))
}
