//! Regular expressions. Their time is proportional to the text, whatever the pattern; patterns are constants of the rule.

use regex::bytes::{Regex, RegexBuilder};

use super::{Called, Context, argument, functions};
use crate::failure::Reason;
use crate::value::Value;

functions! {
    "regex_extract" "(text, pattern)" 2 2 Pattern(extract), "The groups of the first match; an empty list without a match.", "regex_extract('a1b2', '([a-z])([0-9])')" => "[\"a\",\"1\"]";
    "regex_match" "(text, pattern)" 2 2 Pattern(|c, p, a| Ok(Value::Bool(p.regex.is_match(looked_at(c, a, p.looks)?)))), "Whether the pattern matches somewhere.", "regex_match('abc', '^a')" => "true";
    "regex_replace" "(text, pattern, new)" 3 3 Pattern(replace), "The text with all matches replaced; in the new text `&` is the match and `\\1` its first group.", "regex_replace('ab', 'b', '[&]')" => "\"a[b]\"";
}

/// The largest automaton of a pattern, in KiB.
const KIB_MAX: usize = 256;

/// A pattern, compiled, and how much may happen at each byte of a text.
#[derive(Debug)]
pub(crate) struct Pattern {
    regex: Regex,
    /// Eighths of a step for each byte where only a match is looked for, and where its groups are.
    looks: u64,
    groups: u64,
}

impl Pattern {
    /// Compiles a pattern over bytes, with classes of ASCII as in EMQX. One with letters in it that are none is over characters, with the classes of Unicode.
    ///
    /// # Errors
    /// The text is no pattern, or too large.
    pub(crate) fn compile(text: &str) -> Result<Self, regex::Error> {
        let built = |kib: usize, unicode| RegexBuilder::new(text).unicode(unicode).size_limit(kib << 10).build();
        let (regex, is_unicode) = match built(KIB_MAX, false) {
            Err(regex::Error::Syntax(_)) => (built(KIB_MAX, true)?, true),
            regex => (regex?, text.contains("(?u")),
        };
        // The states of the pattern, as far as many may be active at a byte: those of a Unicode class count as one.
        let fits = |kib: &usize| if is_unicode { built(kib * 8, true).is_ok() } else { built(*kib, false).is_ok() };
        let kib = [1, 2, 4, 8, 16, 32, 64, 128].into_iter().find(fits).unwrap_or(KIB_MAX) as u64;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Patterns that people have posted: in EMQX's documents and forum, and in collections of expressions for devices and logs. Each with a text that it matches.
    const POSTED: [(&str, &str); 52] = [
        (r"^\d{13}$", "1679665968238"),
        (r"^\d{4}-\d{2}-\d{2}$", "2026-11-30"),
        (r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:?\d{2})$", "2026-11-30T08:00:00.123Z"),
        (r"^(\w+) (\w+)$", "hello world"),
        (r"(\w+)\s+(\w+)\s+(\w+)", "one two three"),
        (r"^.{1,200}$", "text"),
        (r"^[\w.+-]+@[\w-]+\.[\w.-]+$", "ann@example.com"),
        (r"^[a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\.[a-zA-Z]{2,}$", "ann@example.com"),
        (r"^([0-9A-Fa-f]{2}[:-]){5}([0-9A-Fa-f]{2})$", "00:1b:44:11:3a:b7"),
        (
            r"^[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$",
            "123e4567-e89b-12d3-a456-426614174000",
        ),
        (r"^((25[0-5]|2[0-4]\d|1\d{2}|[1-9]?\d)\.){3}(25[0-5]|2[0-4]\d|1\d{2}|[1-9]?\d)$", "192.168.1.10"),
        (r"^(?:(?:25[0-5]|2[0-4][0-9]|[01]?[0-9][0-9]?)(\.|$)){4}", "10.0.0.1"),
        (r"^([0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}$", "2001:0db8:0000:0000:0000:ff00:0042:8329"),
        (r"^https?://[\w.-]+(:\d+)?(/[\w./?%&=-]*)?$", "https://example.com:8443/a/b?c=d"),
        (
            r"https?:\/\/(www\.)?[-a-zA-Z0-9@:%._\+~#=]{1,256}\.[a-zA-Z0-9()]{1,6}\b([-a-zA-Z0-9()@:%_\+.~#?&//=]*)",
            "http://www.example.com/x",
        ),
        (r"^-?\d+(\.\d+)?$", "-12.50"),
        (r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$", "1.5e-3"),
        (r"^\s*$", "  "),
        (r"^\S+$", "word"),
        (r"\bERROR\b", "an ERROR here"),
        (r"(?i)^(on|off|true|false)$", "ON"),
        (r"^(\d+)([a-zA-Z%]+)$", "21C"),
        (r"^([^,]*),([^,]*),([^,]*)$", "a,b,c"),
        (r"^([^/]+)/([^/]+)/(.+)$", "plant/7/temp"),
        (r"sensor/(\w+)/(\w+)", "sensor/a1/temperature"),
        (r"^v(\d+)\.(\d+)\.(\d+)(-[\w.]+)?$", "v1.20.3-rc.1"),
        (r"^(\d{1,2}):(\d{2})(:(\d{2}))?\s?([AaPp][Mm])?$", "08:15:00 AM"),
        (r"^\{.*\}$", r#"{"a":1}"#),
        (r#""temp"\s*:\s*(-?\d+\.?\d*)"#, r#"{"temp": 21.5}"#),
        (r"^[A-Z]{2}\d{2}[A-Z0-9]{4}\d{7}([A-Z0-9]?){0,16}$", "DE89ABCD1234567"),
        (r"^[A-HJ-NPR-Z0-9]{17}$", "1HGCM82633A004352"),
        (r"^\+?\d{1,3}[\s-]?\(?\d{1,4}\)?[\s-]?\d{3,4}[\s-]?\d{3,4}$", "+49 30 1234 5678"),
        (
            r#"^(\S+) (\S+) (\S+) \[([\w:/]+\s[+\-]\d{4})\] "(\S+) (\S+)\s*(\S*)" (\d{3}) (\S+)"#,
            r#"1.2.3.4 - ann [10/Oct/2025:13:55:36 -0700] "GET /a HTTP/1.0" 200 2326"#,
        ),
        (r"^<(\d{1,3})>(\d) (\S+) (\S+) (\S+) (\S+) (\S+) (.*)$", "<34>1 2026-11-30T08:00:00Z host app 1 ID47 text"),
        (r"^\$GPGGA,(\d+\.?\d*),(\d+\.\d+),([NS]),(\d+\.\d+),([EW])", "$GPGGA,123519,4807.038,N,01131.000,E"),
        (
            r"^[-+]?([1-8]?\d(\.\d+)?|90(\.0+)?),\s*[-+]?(180(\.0+)?|((1[0-7]\d)|([1-9]?\d))(\.\d+)?)$",
            "52.5200, 13.4050",
        ),
        (r"^([01]?\d|2[0-3]):[0-5]\d$", "23:59"),
        (r"^(?P<site>\w+)-(?P<line>\d+)$", "berlin-7"),
        (r"^[\w-]{1,64}$", "device_1"),
        (r"^[a-z][a-z0-9-]{1,61}[a-z0-9]$", "my-device-01"),
        (r"^([a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?\.)+[a-zA-Z]{2,6}$", "broker.example.com"),
        (r"^0[xX][0-9a-fA-F]+$", "0x1F"),
        (r"^[0-9a-fA-F]{2,512}$", "0123abcd"),
        (r"^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$", "SGVsbG8="),
        (r"^[A-Za-z0-9-_]+\.[A-Za-z0-9-_]+\.[A-Za-z0-9-_]+$", "a.b-c.d_e"),
        (r"#([0-9a-fA-F]{3}){1,2}\b", "#ff8800"),
        (r"(\d{1,3}(,\d{3})*)(\.\d+)?", "1,234.56"),
        (r"^(.{0,64}),(.{0,64}),(.{0,64})$", "a,b,c"),
        (r"^\w{3,32}:\w{3,32}$", "user:name"),
        (r"[\r\n]+", "a\nb"),
        (r"^(alarm|warning|critical)_\d+$", "alarm_12"),
        (r"^(?:\d{3}-)?\d{2}-\d{4}$", "123-45-6789"),
    ];

    #[test]
    fn finding_q49_posted_patterns_fit() {
        for (pattern, text) in POSTED {
            let compiled = Pattern::compile(pattern).unwrap_or_else(|why| panic!("{pattern}: {why}"));
            assert!(compiled.regex.is_match(text.as_bytes()), "{pattern}");
        }
    }

    /// Classes are those of ASCII, over bytes, as EMQX has them; those of Unicode by choice, or where the pattern has other letters in a class.
    #[test]
    fn finding_q49_classes_are_of_ascii() {
        for (pattern, text, want) in [
            (r"^\w+$", "é", false),
            (r"^..$", "é", true),
            (r"(?u)^\w$", "é", true),
            ("^é$", "é", true),
            ("^[äé]$", "é", true),
            (r"^\p{L}$", "é", true),
            (r"^\d$", "٣", false),
        ] {
            let compiled = Pattern::compile(pattern).unwrap_or_else(|why| panic!("{pattern}: {why}"));
            assert_eq!(compiled.regex.is_match(text.as_bytes()), want, "{pattern}");
        }
        assert!(matches!(Pattern::compile(r"(\w{100}){100}"), Err(regex::Error::CompiledTooBig(_))));
        assert!(matches!(Pattern::compile("("), Err(regex::Error::Syntax(_))));
    }
}
