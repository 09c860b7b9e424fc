//! A dead letter as a line of JSON. `docs/DEAD_LETTERS.md` has the fields.

pub use forebay_metrics::time::rfc3339;
use std::io::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::header::{
    CLIENT_ID_HEADER, CODE_HEADER, HEADER_PREFIX, MQTT_TOPIC_HEADER, PARTITION_HEADER, QOS_HEADER, REASON_HEADER,
    RECEIVED_HEADER, TOPIC_HEADER, reason,
};
use forebay_kafka::producer::RejectedRow;
use forebay_runtime::seam::WallMs;

/// The fields of a letter; `None` is null.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Line<'a> {
    /// The time at which the message became a letter, in milliseconds since 1970.
    pub(crate) time_ms: i64,
    pub(crate) sink: &'a str,
    /// The bridge, instead of a sink.
    pub(crate) bridge: Option<&'a str>,
    pub(crate) reason: &'a str,
    /// The rule that has failed for the message.
    pub(crate) rule: Option<&'a str>,
    pub(crate) kafka_code: Option<i64>,
    /// The reason why the dead-letter topic did not take the letter.
    pub(crate) topic_refused: Option<&'a str>,
    pub(crate) mqtt_topic: Option<&'a str>,
    pub(crate) client_id: Option<&'a str>,
    pub(crate) qos: Option<i64>,
    pub(crate) kafka_topic: Option<&'a str>,
    pub(crate) partition: Option<i64>,
    pub(crate) received_ms: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
}

impl<'a> Line<'a> {
    /// The line with its line end.
    pub(crate) fn write(&self, headers: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Vec<u8> {
        let mut out = Vec::with_capacity(512 + self.value.map_or(0, <[u8]>::len) * 2);
        out.extend_from_slice(b"{\"time\":");
        text(Some(&rfc3339(self.time_ms)), &mut out);
        let (of, name) = self.bridge.map_or(("sink", self.sink), |bridge| ("bridge", bridge));
        named_text(of, Some(name), &mut out);
        named_text("reason", Some(self.reason), &mut out);
        if self.rule.is_some() {
            named_text("rule", self.rule, &mut out);
        }
        named_number("kafka_code", self.kafka_code, &mut out);
        if self.topic_refused.is_some() {
            named_text("dead_letters_topic_refused", self.topic_refused, &mut out);
        }
        named_text("mqtt_topic", self.mqtt_topic, &mut out);
        named_text("client_id", self.client_id, &mut out);
        named_number("qos", self.qos, &mut out);
        named_text("kafka_topic", self.kafka_topic, &mut out);
        named_number("kafka_partition", self.partition, &mut out);
        named_text("received", Some(&rfc3339(self.received_ms)), &mut out);
        out.extend_from_slice(b",\"key\":");
        bytes("key_encoding", self.key, &mut out);
        out.extend_from_slice(b",\"value\":");
        bytes("value_encoding", self.value, &mut out);
        out.extend_from_slice(b",\"headers\":[");
        for (at, (name, value)) in headers.enumerate() {
            out.extend_from_slice(if at == 0 { b"{\"name\":" } else { b",{\"name\":" });
            text(Some(&String::from_utf8_lossy(name)), &mut out);
            out.extend_from_slice(b",\"value\":");
            bytes("value_encoding", Some(value), &mut out);
            out.push(b'}');
        }
        out.extend_from_slice(b"]}\n");
        out
    }
}

/// The line of a row that Kafka refused. `keyed_by_topic`: its key is the MQTT topic. `is_letter`: it was rejected by the dead-letter
/// topic, and its headers tell what it was before.
pub(super) fn of_row<'a>(
    line: Line<'a>,
    row: &'a RejectedRow<'a>,
    keyed_by_topic: bool,
    is_letter: bool,
    wall: WallMs,
) -> Vec<u8> {
    let headers = || row.headers.clone().map(|(name, value)| (name, value.unwrap_or_default()));
    let mqtt_topic = row.key.filter(|_| keyed_by_topic).and_then(|key| std::str::from_utf8(key).ok());
    let line = Line { time_ms: wall.0, mqtt_topic, key: row.key, value: row.value, ..line };
    if !is_letter {
        let line = Line {
            reason: reason(row.code),
            kafka_code: Some(i64::from(row.code)),
            kafka_topic: Some(row.topic),
            partition: row.partition.map(i64::from),
            received_ms: row.timestamp,
            ..line
        };
        return line.write(headers());
    }
    let said = |wanted: &str| {
        let found = headers().filter(|(name, _)| *name == wanted.as_bytes()).last();
        found.and_then(|(_, value)| std::str::from_utf8(value).ok())
    };
    let number = |wanted: &str| said(wanted)?.parse().ok();
    let line = Line {
        reason: said(REASON_HEADER).unwrap_or_default(),
        kafka_code: number(CODE_HEADER),
        topic_refused: Some(reason(row.code)),
        mqtt_topic: said(MQTT_TOPIC_HEADER).or(line.mqtt_topic),
        client_id: said(CLIENT_ID_HEADER).or(line.client_id),
        qos: number(QOS_HEADER),
        kafka_topic: said(TOPIC_HEADER),
        partition: number(PARTITION_HEADER),
        received_ms: number(RECEIVED_HEADER).unwrap_or(row.timestamp),
        ..line
    };
    line.write(headers().filter(|(name, _)| !name.starts_with(HEADER_PREFIX.as_bytes())))
}

fn text(value: Option<&str>, out: &mut Vec<u8>) {
    // Neither an Option of a str nor a Vec can make this fail.
    let _ = serde_json::to_writer(out, &value);
}

fn named_text(name: &str, value: Option<&str>, out: &mut Vec<u8>) {
    let _ = write!(out, ",\"{name}\":");
    text(value, out);
}

fn named_number(name: &str, value: Option<i64>, out: &mut Vec<u8>) {
    let _ = match value {
        Some(number) => write!(out, ",\"{name}\":{number}"),
        None => write!(out, ",\"{name}\":null"),
    };
}

/// Writes text where the value is UTF-8, else base64; with a field that says which.
fn bytes(encoding: &str, value: Option<&[u8]>, out: &mut Vec<u8>) {
    let (shown, how) = match value.map(|value| (value, std::str::from_utf8(value))) {
        None => (None, None),
        Some((_, Ok(text))) => (Some(std::borrow::Cow::Borrowed(text)), Some("utf-8")),
        Some((value, Err(_))) => (Some(BASE64_STANDARD.encode(value).into()), Some("base64")),
    };
    text(shown.as_deref(), out);
    named_text(encoding, how, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn times() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_795_176_000_001, "2026-11-20T12:00:00.001Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(ms), text);
        }
    }

    #[test]
    fn a_line_is_json_and_says_how_bytes_are_written() {
        let line =
            Line { sink: "s\"", reason: "R", key: None, value: Some(b"\xff\n"), qos: Some(1), ..Line::default() };
        let headers: [(&[u8], &[u8]); 2] = [(b"a", b"text \"x\"\n"), (b"b", b"\x80")];
        let line = line.write(headers.into_iter());
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        let object: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(
            object,
            json!({
                "time": "1970-01-01T00:00:00.000Z", "sink": "s\"", "reason": "R", "kafka_code": null, "mqtt_topic": null,
                "client_id": null, "qos": 1, "kafka_topic": null, "kafka_partition": null,
                "received": "1970-01-01T00:00:00.000Z", "key": null, "key_encoding": null,
                "value": "/wo=", "value_encoding": "base64",
                "headers": [
                    { "name": "a", "value": "text \"x\"\n", "value_encoding": "utf-8" },
                    { "name": "b", "value": "gA==", "value_encoding": "base64" },
                ],
            })
        );
    }
}
