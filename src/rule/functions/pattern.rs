//! Regular expressions. Their time is proportional to the text, whatever the pattern; patterns are constants of the rule.

use regex::bytes::{Regex, RegexBuilder};

use super::{Called, Context, argument, functions};
use crate::rule::failure::Reason;
use crate::rule::value::Value;

functions! {
    "regex_extract" "(text, pattern)" 2 2 Pattern(extract), "The groups of the first match; an empty list without a match.", "regex_extract('a1b2', '([a-z])([0-9])')" => "[\"a\",\"1\"]";
    "regex_match" "(text, pattern)" 2 2 Pattern(|c, p, a| Ok(Value::Bool(p.regex.is_match(looked_at(c, a, p.looks)?)))), "Whether the pattern matches somewhere.", "regex_match('abc', '^a')" => "true";
    "regex_replace" "(text, pattern, new)" 3 3 Pattern(replace), "The text with all matches replaced; in the new text `&` is the match and `\\1` its first group.", "regex_replace('ab', 'b', '[&]')" => "\"a[b]\"";
}

/// The largest automaton of a pattern, in KiB.
const KIB_MAX: usize = 64;

/// A pattern, compiled, and how much may happen at each byte of a text.
#[derive(Debug)]
pub(in crate::rule) struct Pattern {
    regex: Regex,
    /// Eighths of a step for each byte where only a match is looked for, and where its groups are.
    looks: u64,
    groups: u64,
}

impl Pattern {
    /// # Errors
    /// The text is no pattern, or too large.
    pub(in crate::rule) fn compile(text: &str) -> Result<Self, regex::Error> {
        let built = |kib: usize, unicode| RegexBuilder::new(text).unicode(unicode).size_limit(kib << 10).build();
        let regex = built(KIB_MAX, true)?;
        // The states of the pattern, as far as many may be active at a byte: those of a Unicode class count as one.
        let kib =
            [1, 2, 4, 8, 16, 32].into_iter().find(|kib| built(*kib, false).is_ok() || built(kib * 8, true).is_ok());
        let kib = kib.unwrap_or(KIB_MAX) as u64;
        // Beyond a KiB the automaton may become too large to be kept as one without choices.
        Ok(Self { regex, looks: if kib == 1 { 1 } else { 8 * kib }, groups: 16 * kib })
    }
}

fn looked_at<'a>(context: &Context<'a>, arguments: &[Value<'a>], eighths: u64) -> Result<&'a [u8], Reason> {
    let text = argument(arguments, 0).as_bytes()?;
    context.arena.spend(20 + (text.len() as u64).saturating_mul(eighths) / 8)?;
    Ok(text)
}

fn extract<'a>(context: &Context<'a>, pattern: &Pattern, arguments: &[Value<'a>]) -> Called<'a> {
    let text = looked_at(context, arguments, pattern.groups)?;
    let mut list = context.arena.list();
    if let Some(found) = pattern.regex.captures(text) {
        for group in found.iter().skip(1) {
            list.push(Value::Text(group.map_or(&[], |group| group.as_bytes())))?;
        }
    }
    Ok(Value::Array(list.finish()))
}

fn replace<'a>(context: &Context<'a>, pattern: &Pattern, arguments: &[Value<'a>]) -> Called<'a> {
    let text = looked_at(context, arguments, pattern.groups)?;
    let new = argument(arguments, 2).as_bytes()?;
    let mut out = context.arena.writer();
    let mut from = 0;
    for found in pattern.regex.captures_iter(text) {
        let Some(all) = found.get(0) else { continue };
        // Each match may have looked at all of the rest.
        context.arena.spend(10 + text.len().saturating_sub(from) as u64 / 16)?;
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
