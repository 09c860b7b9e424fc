//! Regular expressions. They take time in proportion to the text, whatever the pattern; patterns stand in the rule.

use regex::bytes::Regex;

use super::{Called, Context, argument, functions};
use crate::rule::failure::Reason;
use crate::rule::value::Value;

functions! {
    "regex_extract" "(text, pattern)" 2 2 Pattern(extract), "The groups of the first match; an empty list without a match.", "regex_extract('a1b2', '([a-z])([0-9])')" => "[\"a\",\"1\"]";
    "regex_match" "(text, pattern)" 2 2 Pattern(|c, p, a| Ok(Value::Bool(p.is_match(looked_at(c, a)?)))), "Whether the pattern matches somewhere.", "regex_match('abc', '^a')" => "true";
    "regex_replace" "(text, pattern, new)" 3 3 Pattern(replace), "The text with all matches replaced; in the new text `&` is the match and `\\1` its first group.", "regex_replace('ab', 'b', '[&]')" => "\"a[b]\"";
}

fn looked_at<'a>(context: &Context<'a>, arguments: &[Value<'a>]) -> Result<&'a [u8], Reason> {
    let text = argument(arguments, 0).as_bytes()?;
    context.arena.spend(20 + text.len() as u64 / 8)?;
    Ok(text)
}

fn extract<'a>(context: &Context<'a>, pattern: &Regex, arguments: &[Value<'a>]) -> Called<'a> {
    let text = looked_at(context, arguments)?;
    let mut list = context.arena.list();
    if let Some(found) = pattern.captures(text) {
        for group in found.iter().skip(1) {
            list.push(Value::Text(group.map_or(&[], |group| group.as_bytes())))?;
        }
    }
    Ok(Value::Array(list.finish()))
}

fn replace<'a>(context: &Context<'a>, pattern: &Regex, arguments: &[Value<'a>]) -> Called<'a> {
    let text = looked_at(context, arguments)?;
    let new = argument(arguments, 2).as_bytes()?;
    let mut out = context.arena.writer();
    let mut from = 0;
    for found in pattern.captures_iter(text) {
        context.arena.spend(10)?;
        let Some(all) = found.get(0) else { continue };
        out.extend(text.get(from..all.start()).unwrap_or_default())?;
        from = all.end();
        let mut rest = new.iter().copied();
        while let Some(byte) = rest.next() {
            match byte {
                b'&' => out.extend(all.as_bytes())?,
                b'\\' => match rest.next() {
                    Some(digit @ b'0'..=b'9') => {
                        out.extend(found.get(usize::from(digit - b'0')).map_or(&[], |group| group.as_bytes()))?
                    }
                    Some(other) => out.push(other)?,
                    None => out.push(b'\\')?,
                },
                other => out.push(other)?,
            }
        }
    }
    out.extend(text.get(from..).unwrap_or_default())?;
    Ok(Value::Text(out.finish()))
}
