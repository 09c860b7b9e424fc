//! Text of bytes, and back.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

use super::hash::hex;
use super::{Called, Context, argument, functions};
use crate::arena::NOT_JSON;
use crate::failure::Reason;
use crate::json::write::write;
use crate::value::Value;

functions! {
    "base64_decode" "(text[, 'no_padding'][, 'urlsafe'])" 1 3 Pure(decode), "The bytes of a text in base64.", "base64_decode('YQ==')" => "\"a\"";
    "base64_encode" "(x[, 'no_padding'][, 'urlsafe'])" 1 3 Pure(encode), "The bytes in base64.", "base64_encode('a?>')" => "\"YT8+\"";
    "bin2hexstr" "(x[, prefix])" 1 2 Pure(|c, a| hex(c, argument(a, 0).as_bytes()?, prefix(a)?, true)), "The bytes in capital hexadecimal digits, behind a prefix.", "bin2hexstr('AZ', '0x')" => "\"0x415A\"";
    "hexstr2bin" "(text[, prefix])" 1 2 Pure(unhex), "The bytes of hexadecimal digits; another prefix is an error.", "hexstr2bin('4142')" => "\"AB\"";
    "json_decode" "(text)" 1 1 Pure(|c, a| c.arena.find(argument(a, 0).as_bytes()?, [], NOT_JSON).map(|(value, _)| value)), "The value of a JSON text; of other texts an error.", "json_decode('{\"a\":1}')" => "{\"a\":1}";
    "json_encode" "(x)" 1 1 Pure(json), "The value as JSON text.", "json_encode([1, 'a', 1.0])" => "\"[1,\\\"a\\\",1.0]\"";
    "sqlserver_bin2hexstr" "(x)" 1 1 Pure(|c, a| hex(c, argument(a, 0).as_bytes()?, "0x", true)), "The bytes as a number of SQL Server.", "sqlserver_bin2hexstr('A')" => "\"0x41\"";
}

fn prefix<'a>(arguments: &[Value<'a>]) -> Result<&'a str, Reason> {
    arguments.get(1).map_or(Ok(""), |prefix| prefix.as_str())
}

fn engine(options: &[Value<'_>]) -> Result<base64::engine::GeneralPurpose, Reason> {
    let (mut is_padded, mut is_urlsafe) = (true, false);
    for option in options {
        match option.as_bytes()? {
            b"no_padding" => is_padded = false,
            b"urlsafe" => is_urlsafe = true,
            _ => return Err(Reason::domain("an option that is neither 'no_padding' nor 'urlsafe'")),
        }
    }
    Ok(match (is_padded, is_urlsafe) {
        (true, false) => STANDARD,
        (false, false) => STANDARD_NO_PAD,
        (true, true) => URL_SAFE,
        (false, true) => URL_SAFE_NO_PAD,
    })
}

fn encode<'a>(context: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    let engine = engine(arguments.get(1..).unwrap_or_default())?;
    let mut out = context.arena.writer();
    // Chunks of three bytes join without padding between them.
    for chunk in argument(arguments, 0).as_bytes()?.chunks(768) {
        let mut text = [0; 1024];
        let len = engine.encode_slice(chunk, &mut text).map_err(|_| Reason::limit("too long for base64"))?;
        out.extend(text.get(..len).unwrap_or_default())?;
    }
    Ok(Value::Text(out.finish()))
}

fn decode<'a>(context: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    let engine = engine(arguments.get(1..).unwrap_or_default())?;
    let text = argument(arguments, 0).as_bytes()?;
    let wrong = |_| Reason::decode("the text is not base64");
    let chunks = text.chunks(1024);
    let last = chunks.len().saturating_sub(1);
    let mut out = context.arena.writer();
    for (n, chunk) in chunks.enumerate() {
        let mut bytes = [0; 770];
        let len = engine.decode_slice(chunk, &mut bytes).map_err(wrong)?;
        // Padding is at the end alone.
        if n != last && len != 768 {
            return Err(Reason::decode("the text is not base64"));
        }
        out.extend(bytes.get(..len).unwrap_or_default())?;
    }
    Ok(Value::Text(out.finish()))
}

fn unhex<'a>(context: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    let text = argument(arguments, 0).as_str()?;
    let digits = text.strip_prefix(prefix(arguments)?).ok_or(Reason::decode("the text has another prefix"))?.as_bytes();
    let digit =
        |byte: u8| char::from(byte).to_digit(16).ok_or(Reason::decode("the text has more than hexadecimal digits"));
    let mut out = context.arena.list_of(digits.len().div_ceil(2))?;
    context.arena.work(digits.len())?;
    let (first, pairs) = digits.split_at_checked(digits.len() % 2).unwrap_or_default();
    if let [byte] = first {
        out.push(digit(*byte)? as u8)?;
    }
    for pair in pairs.chunks_exact(2) {
        if let [high, low] = pair {
            out.push((digit(*high)? << 4 | digit(*low)?) as u8)?;
        }
    }
    Ok(Value::Text(out.finish()))
}

fn json<'a>(context: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    let mut out = context.arena.writer();
    write(argument(arguments, 0), &mut out, context.arena)?;
    Ok(Value::Text(out.finish()))
}
