//! Values of the file read as values of the program, by the table of keys.

use std::net::SocketAddr;
use std::time::Duration;

use toml::de::DeValue;

use super::data_dir_id::DataDirId;
use super::keys::{Key, Kind};
use super::problem::{Fault, did_you_mean};
use super::resolved::{Choice, OffsetReset};
use super::units::{self, ShowDuration, ShowSize};
use forebay_guard::secure::Url;
use forebay_metrics::time::from_rfc3339;
use forebay_rule::column::IfAbsent;
use forebay_rule::template::{Fixed, Template, TemplateError, TemplateOf, Vocabulary};
use forebay_runtime::seam::KeepAlive;
use forebay_runtime::{Bind, UNIX};

/// The fault "expected … , found …".
pub(super) fn wrong_type(expected: &str, found: &DeValue<'_>) -> Fault {
    let found = match found {
        DeValue::String(text) if text.len() <= 40 => format!("the string \"{text}\""),
        DeValue::String(_) => "a string".to_owned(),
        DeValue::Integer(number) => format!("the integer {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(flag) => format!("{flag}"),
        DeValue::Datetime(_) => "a date or time".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    };
    Fault::new(format!("expected {expected}, found {found}"))
}

fn mismatch(key: &Key, found: &DeValue<'_>) -> Fault {
    wrong_type(&key.kind.to_string(), found)
}

fn beyond(key: &Key, given: &str) -> Fault {
    let (min, max) = key.kind.bounds().unwrap_or_default();
    Fault::new(format!("{given} is out of range")).hint(format!("must be from {min} to {max}"))
}

pub(super) fn flag(key: &Key, value: &DeValue<'_>) -> Result<bool, Fault> {
    value.as_bool().ok_or_else(|| mismatch(key, value))
}

pub(super) fn integer(key: &Key, value: &DeValue<'_>) -> Result<u64, Fault> {
    let Kind::Integer { min, max } = key.kind else { unreachable!("{} is not an integer", key.name) };
    let DeValue::Integer(number) = value else { return Err(mismatch(key, value)) };
    match u64::from_str_radix(number.as_str(), number.radix()) {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(beyond(key, &number.to_string())),
    }
}

pub(super) fn duration(key: &Key, value: &DeValue<'_>) -> Result<Duration, Fault> {
    let Kind::Duration { min, max } = key.kind else { unreachable!("{} is not a duration", key.name) };
    let text = match value {
        DeValue::String(text) => text,
        DeValue::Integer(number) => {
            return Err(mismatch(key, value).hint(format!("add a unit, as in \"{number}ms\" or \"{number}s\"")));
        }
        _ => return Err(mismatch(key, value)),
    };
    let given = units::duration(text)?;
    let shown = ShowDuration(given);
    if (min..=max).contains(&given) { Ok(given) } else { Err(beyond(key, &format!("\"{shown}\""))) }
}

/// A duration in whole seconds.
pub(super) fn whole_seconds(key: &Key, value: &DeValue<'_>) -> Result<u64, Fault> {
    let time = duration(key, value)?;
    if time.subsec_nanos() == 0 {
        return Ok(time.as_secs());
    }
    Err(Fault::new("must be in whole seconds").hint("write it in s, m, h or d"))
}

/// A share, in millionths.
pub(super) fn share(key: &Key, value: &DeValue<'_>) -> Result<u64, Fault> {
    let given = match value {
        DeValue::Float(number) => number.as_str().replace('_', "").parse::<f64>().unwrap_or(f64::NAN),
        DeValue::Integer(number) => number.as_str().parse::<f64>().unwrap_or(f64::NAN),
        _ => return Err(mismatch(key, value).hint("must be from 0.01 to 1, as in 0.5")),
    };
    if (0.01..=1.0).contains(&given) { Ok((given * 1e6).round() as u64) } else { Err(beyond(key, &given.to_string())) }
}

/// A size in bytes. A bare integer is taken, too: its unit is never in doubt.
pub(super) fn size(key: &Key, value: &DeValue<'_>) -> Result<u64, Fault> {
    let Kind::Size { min, max } = key.kind else { unreachable!("{} is not a size", key.name) };
    let given = match value {
        DeValue::String(text) => units::size(text)?,
        DeValue::Integer(number) => {
            let bytes = u64::from_str_radix(number.as_str(), number.radix());
            bytes.map_err(|_| beyond(key, &number.to_string()))?
        }
        _ => return Err(mismatch(key, value)),
    };
    let shown = ShowSize(given);
    if (min..=max).contains(&given) { Ok(given) } else { Err(beyond(key, &format!("\"{shown}\""))) }
}

/// Reads one of the key's words.
pub(super) fn word(key: &Key, value: &DeValue<'_>) -> Result<&'static str, Fault> {
    let Kind::Word(words) = key.kind else { unreachable!("{} is not a string", key.name) };
    let DeValue::String(text) = value else { return Err(mismatch(key, value).hint(one_of(key))) };
    match words.iter().find(|word| word.name == text) {
        Some(word) => Ok(word.name),
        None => {
            let names = words.iter().map(|word| word.name);
            let hint = did_you_mean(text, names).unwrap_or_else(|| one_of(key));
            Err(Fault::new(format!("\"{text}\" is not a valid value")).hint(hint))
        }
    }
}

/// The value of `acks`. Kafka's own spellings are taken, too: `-1` is `all`, and numbers need no quotes.
pub(super) fn acks(key: &Key, value: &DeValue<'_>) -> Result<&'static str, Fault> {
    let given = match value {
        DeValue::Integer(number) => number.to_string(),
        DeValue::String(text) => text.clone().into_owned(),
        _ => return word(key, value),
    };
    match given.as_str() {
        "-1" => Ok("all"),
        _ => word(key, &DeValue::String(given.into())),
    }
}

fn one_of(key: &Key) -> String {
    let Kind::Word(words) = key.kind else { return String::new() };
    let names: Vec<_> = words.iter().map(|word| format!("\"{}\"", word.name)).collect();
    format!("must be one of {}", names.join(", "))
}

pub(super) fn text(key: &Key, value: &DeValue<'_>) -> Result<String, Fault> {
    value.as_str().map(str::to_owned).ok_or_else(|| mismatch(key, value))
}

/// Reads a path of URLs: it begins with a slash and ends without one.
pub(super) fn base_path(key: &Key, value: &DeValue<'_>) -> Result<String, Fault> {
    let path = non_empty(key, value)?;
    let is_plain = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
    };
    let is_path =
        path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(|part| is_plain(part) && !part.starts_with('.')));
    let fault = || {
        Fault::new(format!("{path:?} is no such path")).hint("it is of letters, digits and - . _ ~, as in \"/forebay\"")
    };
    if is_path { Ok(path) } else { Err(fault()) }
}

/// Reads an address that a browser is sent to.
pub(super) fn web_address(key: &Key, value: &DeValue<'_>) -> Result<String, Fault> {
    let address = text(key, value)?;
    let rest = address.strip_prefix("https://").or_else(|| address.strip_prefix("http://"));
    let is_plain =
        |rest: &str| !rest.is_empty() && !rest.starts_with('/') && rest.bytes().all(|byte| byte.is_ascii_graphic());
    if rest.is_some_and(is_plain) {
        return Ok(address);
    }
    Err(Fault::new(format!("{address:?} is no address of a page"))
        .hint("it begins with https:// or http://, as in \"https://grafana.example/d/forebay\""))
}

/// A non-empty string.
pub(super) fn non_empty(key: &Key, value: &DeValue<'_>) -> Result<String, Fault> {
    match text(key, value)? {
        text if text.is_empty() => Err(Fault::new("must not be empty")),
        text => Ok(text),
    }
}

/// The id of a data directory.
pub(super) fn data_dir_id(key: &Key, value: &DeValue<'_>) -> Result<DataDirId, Fault> {
    let hint = "the first start with [spool] logs it, and `forebay check` shows it";
    text(key, value)?.parse().map_err(|_| Fault::new("is not the ID of a data directory").hint(hint))
}

/// A sink's name.
pub(super) fn name(key: &Key, value: &DeValue<'_>) -> Result<String, Fault> {
    let text = text(key, value)?;
    check_name(&text).map(|()| text)
}

/// Checks a name of a sink or cluster, which becomes a label of metrics.
pub(super) fn check_name(text: &str) -> Result<(), Fault> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if (1..=100).contains(&text.len()) && text.chars().all(legal) {
        return Ok(());
    }
    Err(Fault::new(format!("\"{text}\" is not a valid name"))
        .hint("use letters, digits, `.`, `_` and `-`, at most 100"))
}

pub(super) fn address(key: &Key, value: &DeValue<'_>) -> Result<SocketAddr, Fault> {
    let hint = "write an IP address and a port, as in \"127.0.0.1:1883\"";
    let DeValue::String(text) = value else { return Err(mismatch(key, value).hint(hint)) };
    parse_address(text).map_err(|what| Fault::new(what).hint(hint))
}

/// An address, or the path of a Unix socket.
pub(super) fn bind(key: &Key, value: &DeValue<'_>) -> Result<Bind, Fault> {
    let Some(path) = value.as_str().and_then(|text| text.strip_prefix(UNIX)) else {
        return address(key, value).map(Bind::Tcp).map_err(|fault| {
            fault.hint("write an IP address and a port, as in \"127.0.0.1:1883\", or \"unix:/PATH\"")
        });
    };
    // The kernel's bound, with the zero at the end.
    const PATH_BYTES_MAX: usize = 107;
    if !path.starts_with('/') || path.len() > PATH_BYTES_MAX || path.contains('\0') {
        let what = format!("{path:?} is not an absolute path of at most {PATH_BYTES_MAX} bytes");
        return Err(Fault::new(what).hint("write \"unix:/run/forebay/mqtt.sock\""));
    }
    Ok(Bind::Unix(path.into()))
}

/// A URL to fetch something from.
pub(super) fn url(key: &Key, value: &DeValue<'_>) -> Result<Url, Fault> {
    let DeValue::String(text) = value else { return Err(mismatch(key, value)) };
    Url::parse(text).map_err(|what| Fault::new(format!("\"{text}\" {what}")))
}

/// Permissions of a file, in octal.
pub(super) fn mode(key: &Key, value: &DeValue<'_>) -> Result<u32, Fault> {
    let DeValue::String(text) = value else { return Err(mismatch(key, value)) };
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| Fault::new(format!("\"{text}\" is not a mode")).hint("write it in octal, as in \"0660\""))
}

/// A keep-alive as in `"60,15,4"`, or `None` for `"none"`.
pub(super) fn keep_alive(key: &Key, value: &DeValue<'_>) -> Result<Option<KeepAlive>, Fault> {
    let text = text(key, value)?;
    if text == "none" {
        return Ok(None);
    }
    let fault =
        |what: String| Fault::new(what).hint("write seconds, seconds and a number, as in \"240,30,5\", or \"none\"");
    let numbers: Vec<Option<u32>> = text.split(',').map(|number| number.trim().parse().ok()).collect();
    let [Some(idle), Some(interval), Some(probes)] = numbers[..] else {
        return Err(fault(format!("\"{text}\" is not IDLE,INTERVAL,PROBES")));
    };
    // Linux has these bounds.
    if !(1..=32_767).contains(&idle) || !(1..=32_767).contains(&interval) || !(1..=127).contains(&probes) {
        return Err(fault(format!("\"{text}\" is out of range: seconds are from 1 to 32767, probes from 1 to 127")));
    }
    let s = |seconds: u32| Duration::from_secs(u64::from(seconds));
    Ok(Some(KeepAlive { idle: s(idle), interval: s(interval), probes }))
}

/// An address, or `None` for `"off"`.
pub(super) fn address_or_off(key: &Key, value: &DeValue<'_>) -> Result<Option<SocketAddr>, Fault> {
    if value.as_str() == Some("off") { Ok(None) } else { address(key, value).map(Some) }
}

/// Reads an IP address with a port; `localhost` is 127.0.0.1.
///
/// # Errors
/// A description of the text as it is.
pub fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    numeric.as_deref().unwrap_or(text).parse().map_err(|_| match text.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() && !host.is_empty() && !host.contains([':', '.']) => {
            format!("\"{text}\" has a host name; an IP address is needed")
        }
        _ => format!("\"{text}\" is not an address"),
    })
}

pub(super) fn template(value: &DeValue<'_>, fixed: &Fixed<'_>) -> Result<Template, Fault> {
    template_of(value, fixed)
}

/// A template over the output of a rule.
pub(super) fn template_of_output(value: &DeValue<'_>, fixed: &Fixed<'_>, absent: IfAbsent) -> Result<Template, Fault> {
    let DeValue::String(text) = value else { return Err(wrong_type("a template", value)) };
    Template::over_output(text, fixed, absent).map_err(of_template)
}

/// A template over any variables.
pub(super) fn template_of<V: Vocabulary>(value: &DeValue<'_>, fixed: &Fixed<'_>) -> Result<TemplateOf<V>, Fault> {
    let DeValue::String(text) = value else { return Err(wrong_type("a template", value)) };
    TemplateOf::parse_with(text, fixed).map_err(of_template)
}

fn of_template(error: TemplateError) -> Fault {
    Fault { what: error.what, hint: error.hint, at: Some(error.position) }
}

/// A template, or one of these words, as text or as a number or flag. `of` reads a template.
pub(super) fn template_or(
    key: &Key,
    value: &DeValue<'_>,
    words: &[&str],
    of: impl Fn(&DeValue<'_>) -> Result<Template, Fault>,
) -> Result<Template, Fault> {
    let text = match value {
        DeValue::Integer(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::String(text) => text.clone().into_owned(),
        _ => return Err(mismatch(key, value)),
    };
    let template = of(&DeValue::String(text.as_str().into()))?;
    match template.as_literal() {
        Some(literal) if !words.contains(&literal) => {
            let (last, others) = words.split_last().unwrap_or((&"", &[]));
            let hint = format!("must be {}, {last} or a template", others.join(", "));
            Err(Fault::new(format!("\"{literal}\" is not {}", key.kind)).hint(hint))
        }
        _ => Ok(template),
    }
}

/// A QoS, or the template of one.
pub(super) fn qos(key: &Key, value: &DeValue<'_>, fixed: &Fixed<'_>) -> Result<Choice<u8>, Fault> {
    let given = match value {
        DeValue::Integer(number) => number.to_string(),
        DeValue::String(_) => match template_of(value, fixed)? {
            template if template.as_literal().is_none() => return Ok(Choice::Of(template)),
            literal => literal.as_literal().unwrap_or_default().to_owned(),
        },
        _ => return Err(mismatch(key, value)),
    };
    match given.as_str() {
        "0" => Ok(Choice::Fixed(0)),
        "1" => Ok(Choice::Fixed(1)),
        "2" => Ok(Choice::Fixed(2)),
        _ => Err(Fault::new(format!("{given} is not a QoS")).hint("must be 0, 1, 2 or a template")),
    }
}

/// `true`, `false`, or the template of one.
pub(super) fn flag_or_template(key: &Key, value: &DeValue<'_>, fixed: &Fixed<'_>) -> Result<Choice<bool>, Fault> {
    match value {
        DeValue::Boolean(flag) => Ok(Choice::Fixed(*flag)),
        DeValue::String(_) => match template_of(value, fixed)? {
            template if template.as_literal().is_none() => Ok(Choice::Of(template)),
            literal => match literal.as_literal() {
                Some("true") => Ok(Choice::Fixed(true)),
                Some("false") => Ok(Choice::Fixed(false)),
                _ => Err(mismatch(key, value)),
            },
        },
        _ => Err(mismatch(key, value)),
    }
}

/// The start of a partition without an offset.
pub(super) fn offset_reset(key: &Key, value: &DeValue<'_>) -> Result<OffsetReset, Fault> {
    let hint = "write \"latest\", \"earliest\", a time as in \"2026-11-26T10:00:00Z\", or an age as in \"-1h\"";
    let text = match value {
        DeValue::String(text) => text,
        // TOML's own time, without quotes.
        DeValue::Datetime(at) if at.offset.is_some() => {
            return time_in_log(&at.to_string()).ok_or_else(|| mismatch(key, value).hint(hint));
        }
        _ => return Err(mismatch(key, value).hint(hint)),
    };
    place(text).map_err(|fault| if fault.hint.is_some() { fault } else { fault.hint(hint) })
}

/// The position in a log that a text denotes, in the syntax of `offset_reset`.
///
/// # Errors
/// The error in the text.
pub fn place_in_log(text: &str) -> Result<OffsetReset, String> {
    place(text).map_err(|fault| fault.what)
}

/// A position in a log: a word, a time or an age.
fn place(text: &str) -> Result<OffsetReset, Fault> {
    match (text, text.strip_prefix('-')) {
        ("latest", _) => Ok(OffsetReset::Latest),
        ("earliest", _) => Ok(OffsetReset::Earliest),
        (_, Some(age)) => units::duration(age).map(OffsetReset::Ago),
        (text, None) => time_in_log(text).ok_or_else(|| {
            let fault = Fault::new(format!("\"{text}\" is not a valid value"));
            match did_you_mean(text, ["latest", "earliest"]) {
                Some(hint) => fault.hint(hint),
                None => fault,
            }
        }),
    }
}

fn time_in_log(text: &str) -> Option<OffsetReset> {
    from_rfc3339(text).filter(|ms| *ms >= 0).map(OffsetReset::At)
}

/// Reads a broker, `host:port`: trimmed and checked.
pub(super) fn broker(text: &str) -> Result<String, Fault> {
    let text = text.trim();
    let form = "write \"host:port\", as in \"127.0.0.1:9092\" or \"[::1]:9092\"";
    if let Some((scheme, rest)) = text.split_once("://") {
        return Err(
            Fault::new(format!("\"{text}\" has a scheme")).hint(format!("write \"{rest}\" without {scheme}://"))
        );
    }
    let (unbracketed, is_v6) = (text.trim_matches(['[', ']']), |text: &str| text.parse::<std::net::Ipv6Addr>().is_ok());
    if is_v6(unbracketed) {
        // `fe80::1:9092` is an address; its last part may have been meant as the port.
        let meant =
            text.rsplit_once(':').filter(|(host, port)| is_v6(host) && port.parse::<u16>().is_ok_and(|p| p > 999));
        let meant = meant.map_or(format!("[{unbracketed}]:9092"), |(host, port)| format!("[{host}]:{port}"));
        let fault = Fault::new(format!("\"{text}\" is an IPv6 address without a port"));
        return Err(fault.hint(format!("write \"{meant}\", in brackets and with the port that it has")));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        let hint = if text.is_empty() { form.to_owned() } else { format!("write \"{text}:9092\" if that is its port") };
        return Err(Fault::new(format!("\"{text}\" has no port")).hint(hint));
    };
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let legal = match inner {
        Some(ip) => ip.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_')),
    };
    if !legal {
        return Err(Fault::new(format!("\"{text}\" has no valid host name")).hint(form));
    }
    match port.parse::<u16>() {
        Ok(port) if port > 0 => Ok(text.to_owned()),
        _ => Err(Fault::new(format!("\"{text}\" has no port from 1 to 65535")).hint(form)),
    }
}
