//! Functions of texts. Lengths and places count characters as people see them (grapheme clusters).

use unicode_segmentation::UnicodeSegmentation as _;

use super::convert::to_text;
use super::{Called, Context, argument, arithmetic, format, functions};
use crate::arena::Arena;
use crate::failure::Reason;
use crate::json::write::write;
use crate::value::Value;

functions! {
    "ascii" "(text)" 1 1 Pure(|_, a| argument(a, 0).as_str()?.chars().next().map(|c| Value::Int(i64::from(u32::from(c)))).ok_or(Reason::domain("an empty text"))), "The number of the first character.", "ascii('A')" => "65";
    "concat" "(a[, b …])" 1 8 Pure(concat), "Values as one text, each as by str; a list alone is joined.", "concat('a', 1, true)" => "\"a1true\"";
    "find" "(text, part[, 'leading' | 'trailing'])" 2 3 Pure(find), "The text from the first (or last) place of a part on, or an empty text.", "find('a.b.c', '.')" => "\".b.c\"";
    "join_to_sql_values_string" "(list)" 1 1 Pure(sql_values), "Values as a list for SQL: texts in quotes, absent and null as NULL.", "join_to_sql_values_string(['a', 1, null()])" => "\"'a', 1, NULL\"";
    "join_to_string" "([separator, ]list)" 1 2 Pure(join), "The items as one text, each as by str, with `, ` or another text between them.", "join_to_string('-', [1, 'a', 2.5])" => "\"1-a-2.5\"";
    "lower" "(text)" 1 1 Pure(|c, a| cased(c.arena, a, |c| c.to_lowercase())), "The text in small letters.", "lower('ÄB')" => "\"äb\"";
    "ltrim" "(text[, chars])" 1 2 Pure(|c, a| trimmed(c.arena, a, (true, false))), "The text without blanks (or those characters) at its front.", "ltrim('  a ')" => "\"a \"";
    "pad" "(text, length[, 'leading' | 'both' | 'trailing'[, char]])" 2 4 Pure(pad), "The text with blanks (or a character) up to a length.", "pad('7', 3, 'leading', '0')" => "\"007\"";
    "replace" "(text, part, new[, 'all' | 'leading' | 'trailing'])" 3 4 Pure(replace), "The text with parts of it replaced: all, the first or the last.", "replace('a.b.c', '.', '-')" => "\"a-b-c\"";
    "reverse" "(text)" 1 1 Pure(reverse), "The text from its end to its front.", "reverse('abc')" => "\"cba\"";
    "rm_prefix" "(text, prefix)" 2 2 Pure(|_, a| { let (text, prefix) = (argument(a, 0).as_bytes()?, argument(a, 1).as_bytes()?); Ok(Value::Text(text.strip_prefix(prefix).unwrap_or(text))) }), "The text without a prefix, if it has it.", "rm_prefix('foo/bar', 'foo/')" => "\"bar\"";
    "rtrim" "(text[, chars])" 1 2 Pure(|c, a| trimmed(c.arena, a, (false, true))), "The text without blanks (or those characters) at its end.", "rtrim('axx', 'x')" => "\"a\"";
    "split" "(text[, separator[, 'notrim' | 'leading' | 'leading_notrim' | 'trailing' | 'trailing_notrim']])" 1 3 Pure(split), "The parts between a separator (a blank): all that are not empty, or with empty ones; or split once, at the first or the last.", "split('a,b,,c', ',')" => "[\"a\",\"b\",\"c\"]";
    "sprintf" "(format[, value …])" 1 8 Format(|c, a| { let (format, values) = a.split_first().unwrap_or((&Value::Absent, &[])); format::write(c.arena, *format, values) }), "Values in a format: `~s` text, `~p` JSON, `~b` integer, `~.2f` and `~e` float, `~c` character, `~n` line, `~~`.", "sprintf('~s: ~.2f', 't', 21.456)" => "\"t: 21.46\"";
    "sprintf_s" "(format, list)" 2 2 Format(|c, a| format::write(c.arena, argument(a, 0), argument(a, 1).as_array(c.arena)?)), "The same with the values in a list.", "sprintf_s('~s-~p', ['a', 1])" => "\"a-1\"";
    "strlen" "(text)" 1 1 Pure(|c, a| Ok(Value::Int(characters(seen_by_character(c.arena, argument(a, 0))?) as i64))), "How many characters it has.", "strlen('né')" => "2";
    "substr" "(text, from[, length])" 2 3 Pure(substr), "A part of the text, from 0; behind the end an empty text.", "substr('abcdef', 1, 3)" => "\"bcd\"";
    "tokens" "(text, chars[, 'nocrlf'])" 2 3 Pure(tokens), "The parts between any of these characters, empty ones left out; `'nocrlf'`: between ends of lines as well.", "tokens('a b;c', ' ;')" => "[\"a\",\"b\",\"c\"]";
    "trim" "(text[, chars])" 1 2 Pure(|c, a| trimmed(c.arena, a, (true, true))), "The text without blanks (or those characters) at both ends.", "trim('  a ')" => "\"a\"";
    "unescape" "(text)" 1 1 Pure(unescape), "The text with `\\n`, `\\t`, `\\\\`, `\\xHH` and the like turned into what they stand for; others are an error.", "unescape('a\\x41')" => "\"aA\"";
    "upper" "(text)" 1 1 Pure(|c, a| cased(c.arena, a, |c| c.to_uppercase())), "The text in capital letters.", "upper('straße')" => "\"STRASSE\"";
}

/// A text, for work on its bytes or code points.
fn seen<'a>(arena: &Arena, value: Value<'a>) -> Result<&'a str, Reason> {
    let text = value.as_str()?;
    arena.spend(text.len() as u64 / 16)?;
    Ok(text)
}

/// A text for work on its characters, and whether each of them is a byte: the search for character boundaries, which costs most, is
/// skipped then.
fn seen_by_character<'a>(arena: &Arena, value: Value<'a>) -> Result<(&'a str, bool), Reason> {
    let text = seen(arena, value)?;
    let is_plain = text.bytes().all(|byte| byte.is_ascii() && byte != b'\r');
    if !is_plain {
        arena.spend(text.len() as u64 / 4)?;
    }
    Ok((text, is_plain))
}

/// The number of characters.
fn characters((text, is_plain): (&str, bool)) -> usize {
    if is_plain { text.len() } else { text.graphemes(true).count() }
}

fn concat<'a>(context: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    match arguments {
        [list @ (Value::Array(_) | Value::Raw(_))] => arithmetic::join(list.as_array(context.arena)?, context.arena),
        _ => arithmetic::join(arguments, context.arena),
    }
}

fn find<'a>(context: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    let (text, part) = (seen(context.arena, argument(arguments, 0))?, argument(arguments, 1).as_str()?);
    let at = match arguments.get(2).map(|side| side.as_bytes()).transpose()? {
        None | Some(b"leading") => text.find(part),
        Some(b"trailing") => text.rfind(part),
        _ => return Err(Reason::domain("a side that is neither 'leading' nor 'trailing'")),
    };
    Ok(Value::text(at.and_then(|at| text.get(at..)).unwrap_or_default()))
}

fn join<'a>(context: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    let (separator, list) = match arguments {
        [separator, list] => (separator.as_bytes()?, *list),
        _ => (&b", "[..], argument(arguments, 0)),
    };
    let mut out = context.arena.writer();
    for (n, item) in list.as_array(context.arena)?.iter().enumerate() {
        if n > 0 {
            out.extend(separator)?;
        }
        out.extend(to_text(*item, context.arena)?)?;
    }
    Ok(Value::Text(out.finish()))
}

fn sql_values<'a>(context: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    let quoted = |out: &mut crate::arena::List<'a, u8>, text: &[u8]| {
        out.push(b'\'')?;
        for (n, part) in text.split(|byte| *byte == b'\'').enumerate() {
            if n > 0 {
                out.extend(b"''")?;
            }
            out.extend(part)?;
        }
        out.push(b'\'')
    };
    let mut out = context.arena.writer();
    for (n, item) in argument(arguments, 0).as_array(context.arena)?.iter().enumerate() {
        if n > 0 {
            out.extend(b", ")?;
        }
        match item {
            Value::Absent | Value::Null => out.extend(b"NULL")?,
            Value::Text(text) => quoted(&mut out, text)?,
            Value::Array(_) | Value::Object(_) | Value::Raw(_) => {
                let mut text = context.arena.writer();
                write(*item, &mut text, context.arena)?;
                quoted(&mut out, text.finish())?;
            }
            other => out.extend(to_text(*other, context.arena)?)?,
        }
    }
    Ok(Value::Text(out.finish()))
}

fn cased<'a, I: Iterator<Item = char>>(arena: &'a Arena, arguments: &[Value<'a>], case: fn(char) -> I) -> Called<'a> {
    let text = seen(arena, argument(arguments, 0))?;
    arena.spend(text.len() as u64 / 8)?;
    let mut out = arena.list_of(text.len())?;
    for c in text.chars().flat_map(case) {
        out.extend(c.encode_utf8(&mut [0; 4]).as_bytes())?;
    }
    Ok(Value::Text(out.finish()))
}

fn trimmed<'a>(arena: &Arena, arguments: &[Value<'a>], (at_front, at_end): (bool, bool)) -> Called<'a> {
    let mut text = seen(arena, argument(arguments, 0))?;
    let chars = arguments.get(1).map(|chars| chars.as_str()).transpose()?;
    // All of the text may have to be removed, and each character compared with each.
    arena.spend((text.len() as u64).saturating_mul(chars.map_or(0, str::len) as u64) / 64)?;
    let is_gone = |c: char| chars.map_or(c.is_whitespace(), |chars| chars.contains(c));
    if at_front {
        text = text.trim_start_matches(is_gone);
    }
    if at_end {
        text = text.trim_end_matches(is_gone);
    }
    Ok(Value::text(text))
}

fn pad<'a>(context: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    let (text, is_plain) = seen_by_character(context.arena, argument(arguments, 0))?;
    let length = usize::try_from(argument(arguments, 1).as_int()?).map_err(|_| Reason::domain("a length below 0"))?;
    let fill = arguments.get(3).map_or(Ok(" "), |fill| fill.as_str())?;
    let missing = length.saturating_sub(characters((text, is_plain)));
    // The bound is checked before anything is written.
    if missing.saturating_mul(fill.len()) > context.arena.bytes_left() {
        return Err(Reason::limit("the text would be longer than a rule may make it"));
    }
    let before = match arguments.get(2).map(|side| side.as_bytes()).transpose()? {
        None | Some(b"trailing") => 0,
        Some(b"leading") => missing,
        Some(b"both") => missing / 2,
        _ => return Err(Reason::domain("a side that is neither 'leading', 'both' nor 'trailing'")),
    };
    let mut out = context.arena.writer();
    context.arena.spend(missing as u64 / 8)?;
    for _ in 0..before {
        out.extend(fill.as_bytes())?;
    }
    out.extend(text.as_bytes())?;
    for _ in before..missing {
        out.extend(fill.as_bytes())?;
    }
    Ok(Value::Text(out.finish()))
}

fn replace<'a>(context: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    let text = seen(context.arena, argument(arguments, 0))?;
    let (part, new) = (argument(arguments, 1).as_str()?, argument(arguments, 2).as_bytes()?);
    let mut out = context.arena.writer();
    let once = match arguments.get(3).map(|which| which.as_bytes()).transpose()? {
        None | Some(b"all") if part.is_empty() => None,
        None | Some(b"all") => {
            for (n, kept) in text.split(part).enumerate() {
                if n > 0 {
                    context.arena.spend(1)?;
                    out.extend(new)?;
                }
                out.extend(kept.as_bytes())?;
            }
            return Ok(Value::Text(out.finish()));
        }
        Some(b"leading") => text.split_once(part),
        Some(b"trailing") => text.rsplit_once(part),
        _ => return Err(Reason::domain("a choice that is neither 'all', 'leading' nor 'trailing'")),
    };
    let Some((before, after)) = once.filter(|_| !part.is_empty()) else { return Ok(Value::text(text)) };
    out.extend(before.as_bytes())?;
    out.extend(new)?;
    out.extend(after.as_bytes())?;
    Ok(Value::Text(out.finish()))
}

fn reverse<'a>(context: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    let (text, is_plain) = seen_by_character(context.arena, argument(arguments, 0))?;
    let mut out = context.arena.list_of(text.len())?;
    if is_plain {
        text.bytes().rev().try_for_each(|byte| out.push(byte))?;
    } else {
        text.graphemes(true).rev().try_for_each(|cluster| out.extend(cluster.as_bytes()))?;
    }
    Ok(Value::Text(out.finish()))
}

fn parts<'a>(arena: &'a Arena, parts: impl Iterator<Item = &'a str>, keeps_empty: bool) -> Called<'a> {
    let mut list = arena.list();
    for part in parts {
        arena.spend(1)?;
        if keeps_empty || !part.is_empty() {
            list.push(Value::text(part))?;
        }
    }
    Ok(Value::Array(list.finish()))
}

fn split<'a>(context: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    let arena = context.arena;
    let text = seen(arena, argument(arguments, 0))?;
    let separator = arguments.get(1).map_or(Ok(" "), |separator| separator.as_str())?;
    let how = arguments.get(2).map_or(Ok(&b""[..]), |how| how.as_bytes())?;
    let keeps_empty = how.ends_with(b"notrim");
    if separator.is_empty() {
        return parts(arena, std::iter::once(text), keeps_empty);
    }
    match how {
        b"" | b"notrim" => parts(arena, text.split(separator), keeps_empty),
        b"leading" | b"leading_notrim" => parts(arena, text.splitn(2, separator), keeps_empty),
        b"trailing" | b"trailing_notrim" => match text.rsplit_once(separator) {
            Some((before, after)) => parts(arena, [before, after].into_iter(), keeps_empty),
            None => parts(arena, std::iter::once(text), keeps_empty),
        },
        _ => Err(Reason::domain("a choice that is neither 'notrim', 'leading' nor 'trailing'")),
    }
}

fn tokens<'a>(context: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    let (text, chars) = (seen(context.arena, argument(arguments, 0))?, argument(arguments, 1).as_str()?);
    let no_lines = match arguments.get(2).map(|option| option.as_bytes()).transpose()? {
        None => false,
        Some(b"nocrlf") => true,
        Some(_) => return Err(Reason::domain("an option that is not 'nocrlf'")),
    };
    context.arena.spend((text.len() as u64).saturating_mul(chars.len() as u64) / 64)?;
    let is_between = move |c: char| chars.contains(c) || (no_lines && matches!(c, '\r' | '\n'));
    parts(context.arena, text.split(is_between), false)
}

fn substr<'a>(context: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    let (text, is_plain) = seen_by_character(context.arena, argument(arguments, 0))?;
    let count =
        |value: Value<'_>| usize::try_from(value.as_int()?).map_err(|_| Reason::domain("a place or length below 0"));
    let from = count(argument(arguments, 1))?;
    let length = arguments.get(2).map(|length| count(*length)).transpose()?;
    let offset = |n: usize| {
        if is_plain { n.min(text.len()) } else { text.grapheme_indices(true).nth(n).map_or(text.len(), |(at, _)| at) }
    };
    let end = length.map_or(text.len(), |length| offset(from.saturating_add(length)));
    Ok(Value::text(text.get(offset(from)..end).unwrap_or_default()))
}

fn unescape<'a>(context: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    const WRONG: Reason = Reason::decode("the text has an escape that stands for nothing");
    let text = seen(context.arena, argument(arguments, 0))?;
    let mut out = context.arena.list_of(text.len())?;
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('\\') {
        context.arena.spend(1)?;
        out.extend(plain.as_bytes())?;
        let mut chars = escape.chars();
        let c = match chars.next().ok_or(WRONG)? {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'v' => '\u{b}',
            'a' => '\u{7}',
            c @ ('\\' | '\'' | '"' | '?') => c,
            'x' => {
                let mut digit = || chars.next().and_then(|c| c.to_digit(16)).ok_or(WRONG);
                let (high, low) = (digit()?, digit()?);
                char::from_u32(high << 4 | low).ok_or(WRONG)?
            }
            _ => return Err(WRONG),
        };
        out.extend(c.encode_utf8(&mut [0; 4]).as_bytes())?;
        rest = chars.as_str();
    }
    out.extend(rest.as_bytes())?;
    Ok(Value::Text(out.finish()))
}
