//! Time. `local` is the machine's zone.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

use super::{Called, Context, argument, functions};
use crate::failure::Reason;
use crate::value::Value;

functions! {
    "date_to_unix_ts" "(unit[, zone], format, text)" 3 4 Pure(to_unix), "The time that a text in a format is, in that unit.", "date_to_unix_ts('second', '%Y-%m-%d %H:%M:%S', '2022-06-09 10:20:00')" => "1654770000";
    "format_date" "(unit, zone, format[, time])" 3 4 Around(format_date), "A time (now) in a format: `%Y %m %d %H %M %S`, `%N %3N %6N` for parts of the second, `%z %:z %::z` for the zone.", "format_date('second', '+08:00', '%Y-%m-%d %H:%M:%S%:z', 1654770000)" => "\"2022-06-09 18:20:00+08:00\"";
    "now_rfc3339" "([unit])" 0 1 Around(|c, a| rfc3339(c, i128::from(c.around.now_ns), unit(a.first())?)), "Now, as a text by RFC 3339 in the machine's zone.", "substr(now_rfc3339(), 4, 1)" => "\"-\"";
    "now_timestamp" "([unit])" 0 1 Around(|c, a| { let unit = unit(a.first())?; int(i128::from(c.around.now_ns).div_euclid(unit.nanos())) }), "Now, in seconds or another unit since 1970-01-01 UTC.", "now_timestamp() > 0" => "true";
    "rfc3339_to_unix_ts" "(text[, unit])" 1 2 Pure(from_rfc3339), "The time that a text by RFC 3339 is, in seconds or another unit.", "rfc3339_to_unix_ts('2022-06-09T10:20:00Z')" => "1654770000";
    "timezone_to_offset_seconds" "(zone)" 1 1 Around(|c, a| zone(c, argument(a, 0), 0).map(|offset| Value::Int(i64::from(offset.seconds())))), "How far a zone is ahead of UTC, in seconds: `Z`, `local`, `+08:00`, `+0800`, `+08:00:30`.", "timezone_to_offset_seconds('+08:00')" => "28800";
    "timezone_to_second" "(zone)" 1 1 Around(|c, a| zone(c, argument(a, 0), 0).map(|offset| Value::Int(i64::from(offset.seconds())))), "The same as timezone_to_offset_seconds.", "timezone_to_second('-0330')" => "-12600";
    "unix_ts_to_rfc3339" "(time[, unit])" 1 2 Around(to_rfc3339), "A time in seconds or another unit as a text by RFC 3339, in the machine's zone.", "rfc3339_to_unix_ts(unix_ts_to_rfc3339(1654770000))" => "1654770000";
}

const OUT_OF_RANGE: Reason = Reason::domain("a time before the year -9999 or after 9999");
const NO_DATE: Reason = Reason::decode("the text is no date in this format");
const NO_ZONE: Reason = Reason::decode("the zone is none of Z, local, +08:00, +0800, +08:00:30");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Seconds,
    Millis,
    Micros,
    Nanos,
}

impl Unit {
    const fn nanos(self) -> i128 {
        match self {
            Self::Seconds => 1_000_000_000,
            Self::Millis => 1_000_000,
            Self::Micros => 1_000,
            Self::Nanos => 1,
        }
    }

    const fn decimals(self) -> usize {
        match self {
            Self::Seconds => 0,
            Self::Millis => 3,
            Self::Micros => 6,
            Self::Nanos => 9,
        }
    }
}

fn unit(value: Option<&Value<'_>>) -> Result<Unit, Reason> {
    Ok(match value.map_or(Ok(&b"second"[..]), |value| value.as_bytes())? {
        b"second" => Unit::Seconds,
        b"millisecond" => Unit::Millis,
        b"microsecond" => Unit::Micros,
        b"nanosecond" => Unit::Nanos,
        _ => return Err(Reason::domain("a unit that is not 'second', 'millisecond', 'microsecond' or 'nanosecond'")),
    })
}

fn int<'a>(number: i128) -> Called<'a> {
    i64::try_from(number).map(Value::Int).map_err(|_| OUT_OF_RANGE)
}

fn timestamp(nanos: i128) -> Result<Timestamp, Reason> {
    Timestamp::from_nanosecond(nanos).map_err(|_| OUT_OF_RANGE)
}

fn nanos(value: Value<'_>, unit: Unit) -> Result<i128, Reason> {
    Ok(i128::from(value.as_int()?) * unit.nanos())
}

/// An offset by its text or number; `local` is the local offset at that time.
fn zone<'a>(context: &Context<'a>, value: Value<'a>, at_nanos: i128) -> Result<Offset, Reason> {
    let seconds = match value {
        Value::Int(seconds) => i32::try_from(seconds).map_err(|_| NO_ZONE)?,
        Value::Text(b"Z" | b"z") => 0,
        Value::Text(b"local") => return local(context.around.zone, at_nanos),
        other => offset_seconds(other.as_str()?).filter(|(_, rest)| rest.is_empty()).ok_or(NO_ZONE)?.0,
    };
    Offset::from_seconds(seconds).map_err(|_| NO_ZONE)
}

fn local(zone: &TimeZone, at_nanos: i128) -> Result<Offset, Reason> {
    Ok(zone.to_offset(timestamp(at_nanos)?))
}

/// `+08:00`, `+0800` or `+08:00:30` that a text begins with, and the rest.
fn offset_seconds(text: &str) -> Option<(i32, &str)> {
    let sign = match text.bytes().next()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, rest) = digits(text.get(1..)?, 2)?;
    let (minutes, rest) = digits(rest.strip_prefix(':').unwrap_or(rest), 2)?;
    let (seconds, rest) = rest.strip_prefix(':').and_then(|rest| digits(rest, 2)).unwrap_or((0, rest));
    let is_time = hours < 26 && minutes < 60 && seconds < 60;
    let total = i32::try_from(hours * 3_600 + minutes * 60 + seconds).ok()?;
    is_time.then_some((sign * total, rest))
}

/// A number of `count` digits.
fn digits(text: &str, count: usize) -> Option<(i64, &str)> {
    let (number, rest) = text.split_at_checked(count)?;
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| number.parse().ok()).flatten().map(|number| (number, rest))
}

/// `%z` and the other specifiers, and their lengths.
fn specifier(text: &str) -> Option<(&'static str, usize)> {
    const ALL: [&str; 12] = ["%Y", "%m", "%d", "%H", "%M", "%S", "%3N", "%6N", "%N", "%z", "%:z", "%::z"];
    ALL.into_iter().find(|specifier| text.starts_with(specifier)).map(|specifier| (specifier, specifier.len()))
}

fn format_date<'a>(context: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    let unit = unit(arguments.first())?;
    let nanos = arguments.get(3).map_or(Ok(i128::from(context.around.now_ns)), |time| nanos(*time, unit))?;
    // Digits finer than the unit are not shown.
    let nanos = nanos.div_euclid(unit.nanos()) * unit.nanos();
    let offset = zone(context, argument(arguments, 1), nanos)?;
    let time = timestamp(nanos)?;
    let civil = offset.to_datetime(time);
    let part = civil.subsec_nanosecond();
    let mut rest = argument(arguments, 2).as_str()?;
    let mut out = context.arena.writer();
    while !rest.is_empty() {
        context.arena.spend(1)?;
        let Some((specifier, len)) = specifier(rest) else {
            let plain = rest.char_indices().skip(1).find(|(_, c)| *c == '%').map_or(rest.len(), |(at, _)| at);
            out.extend(rest.get(..plain).unwrap_or_default().as_bytes())?;
            rest = rest.get(plain..).unwrap_or_default();
            continue;
        };
        let written = match specifier {
            "%Y" => write!(out, "{:04}", civil.year()),
            "%m" => write!(out, "{:02}", civil.month()),
            "%d" => write!(out, "{:02}", civil.day()),
            "%H" => write!(out, "{:02}", civil.hour()),
            "%M" => write!(out, "{:02}", civil.minute()),
            "%S" => write!(out, "{:02}", civil.second()),
            "%3N" => write!(out, "{:03}", part / 1_000_000),
            "%6N" => write!(out, "{:06}", part / 1_000),
            "%N" => write!(out, "{part:09}"),
            "%z" => write_offset(&mut out, offset, "", false),
            "%:z" => write_offset(&mut out, offset, ":", false),
            _ => write_offset(&mut out, offset, ":", true),
        };
        written.map_err(|_| Reason::limit("the text is longer than a rule may make it"))?;
        rest = rest.get(len..).unwrap_or_default();
    }
    Ok(Value::Text(out.finish()))
}

fn write_offset(out: &mut impl std::fmt::Write, offset: Offset, colon: &str, with_seconds: bool) -> std::fmt::Result {
    let seconds = offset.seconds();
    let sign = if seconds < 0 { '-' } else { '+' };
    let size = seconds.unsigned_abs();
    write!(out, "{sign}{:02}{colon}{:02}", size / 3_600, size / 60 % 60)?;
    if with_seconds { write!(out, ":{:02}", size % 60) } else { Ok(()) }
}

fn to_unix<'a>(context: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    let unit = unit(arguments.first())?;
    let (zone_given, format, text) = match arguments {
        [_, zone, format, text] => (Some(*zone), format.as_str()?, text.as_str()?),
        _ => (None, argument(arguments, 1).as_str()?, argument(arguments, 2).as_str()?),
    };
    let (mut year, mut month, mut day, mut hour, mut minute, mut second, mut part) = (1970, 1, 1, 0, 0, 0, 0);
    let mut own_zone = None;
    let (mut format, mut text) = (format, text);
    while let Some(first) = format.chars().next() {
        context.arena.spend(1)?;
        let Some((specifier, len)) = specifier(format) else {
            text = text.strip_prefix(first).ok_or(NO_DATE)?;
            format = format.get(first.len_utf8()..).unwrap_or_default();
            continue;
        };
        format = format.get(len..).unwrap_or_default();
        let mut read = |count: usize| {
            let (number, rest) = digits(text, count).ok_or(NO_DATE)?;
            text = rest;
            Ok::<i64, Reason>(number)
        };
        match specifier {
            "%Y" => year = read(4)?,
            "%m" => month = read(2)?,
            "%d" => day = read(2)?,
            "%H" => hour = read(2)?,
            "%M" => minute = read(2)?,
            "%S" => second = read(2)?,
            "%3N" => part = read(3)? * 1_000_000,
            "%6N" => part = read(6)? * 1_000,
            "%N" => part = read(9)?,
            // A text may end before its zone.
            _ if text.is_empty() => {}
            _ => {
                let (seconds, rest) = match text.strip_prefix(['Z', 'z']) {
                    Some(rest) => (0, rest),
                    None => offset_seconds(text).ok_or(NO_DATE)?,
                };
                own_zone = Some(Offset::from_seconds(seconds).map_err(|_| NO_DATE)?);
                text = rest;
            }
        }
    }
    if !text.is_empty() {
        return Err(NO_DATE);
    }
    let small = |number: i64| i8::try_from(number).map_err(|_| NO_DATE);
    let year = i16::try_from(year).map_err(|_| NO_DATE)?;
    let part = i32::try_from(part).map_err(|_| NO_DATE)?;
    let civil = DateTime::new(year, small(month)?, small(day)?, small(hour)?, small(minute)?, small(second)?, part)
        .map_err(|_| NO_DATE)?;
    let time = match (own_zone, zone_given) {
        (Some(offset), _) => offset.to_timestamp(civil),
        (None, Some(Value::Text(b"local"))) => context.around.zone.to_timestamp(civil),
        (None, Some(given)) => zone(context, given, 0)?.to_timestamp(civil),
        (None, None) => Offset::UTC.to_timestamp(civil),
    };
    int(time.map_err(|_| OUT_OF_RANGE)?.as_nanosecond().div_euclid(unit.nanos()))
}

fn to_rfc3339<'a>(context: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    let unit = unit(arguments.get(1))?;
    rfc3339(context, nanos(argument(arguments, 0), unit)?, unit)
}

fn rfc3339<'a>(context: &Context<'a>, nanos: i128, unit: Unit) -> Called<'a> {
    context.arena.spend(2)?;
    let offset = local(context.around.zone, nanos)?;
    let time = offset.to_datetime(timestamp(nanos)?);
    let mut out = context.arena.writer();
    let (date, clock) = (time.date(), time.time());
    let write = |out: &mut crate::arena::List<'a, u8>| {
        write!(out, "{:04}-{:02}-{:02}T", date.year(), date.month(), date.day())?;
        write!(out, "{:02}:{:02}:{:02}", clock.hour(), clock.minute(), clock.second())?;
        let decimals = unit.decimals();
        if decimals > 0 {
            let part = i64::from(clock.subsec_nanosecond()) / i64::try_from(unit.nanos()).unwrap_or(1);
            write!(out, ".{part:0decimals$}")?;
        }
        write_offset(out, offset, ":", false)
    };
    write(&mut out).map_err(|_| Reason::limit("the text is longer than a rule may make it"))?;
    Ok(Value::Text(out.finish()))
}

fn from_rfc3339<'a>(_: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    let unit = unit(arguments.get(1))?;
    let text = argument(arguments, 0).as_str()?;
    let time: Timestamp = text.parse().map_err(|_| Reason::decode("the text is no time by RFC 3339"))?;
    int(time.as_nanosecond().div_euclid(unit.nanos()))
}
