//! A message as one JSON object: `value_format = "json"`. `docs/CONFIGURATION.md` defines its members, their order and types, which
//! do not change from message to message.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::variable::MessageContext;

/// The object, with the parts that are the same for every message already encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The end of the object: the metadata, in braces, and the last brace.
    end: Box<[u8]>,
}

/// Names, braces, commas, quotes, `null`, two flags, the QoS, the longest timestamp and the longest encoding: more than
/// all of the object that is not text of the message.
const FRAME_BYTES_MAX: usize = 256;
/// Bytes around one user property.
const PAIR_BYTES_MAX: usize = r#",{"name":"","value":""}"#.len();

impl Envelope {
    /// The envelope of a sink with this metadata.
    #[must_use]
    pub fn new(metadata: &[(String, String)]) -> Self {
        let mut end = b",\"metadata\":{".to_vec();
        for (at, (name, text)) in metadata.iter().enumerate() {
            end.extend_from_slice(if at == 0 { b"" } else { b"," });
            string(name, &mut end);
            end.push(b':');
            string(text, &mut end);
        }
        end.extend_from_slice(b"}}");
        Self { end: end.into() }
    }

    /// An upper bound of the object's bytes, close to them: its texts are measured as they will be written.
    #[must_use]
    pub fn bytes_max(&self, message: &MessageContext<'_>) -> usize {
        let payload = match std::str::from_utf8(message.payload) {
            Ok(text) => escaped_len(text),
            Err(_) => message.payload.len().div_ceil(3) * 4,
        };
        let pairs = message.properties.user_properties();
        let pairs: usize = pairs.map(|(name, value)| PAIR_BYTES_MAX + escaped_len(name) + escaped_len(value)).sum();
        let sender = escaped_len(message.client_id) + message.username.map_or(0, escaped_len);
        FRAME_BYTES_MAX + escaped_len(message.topic) + sender + payload + pairs + self.end.len()
    }

    /// Appends the object.
    pub fn write(&self, message: &MessageContext<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"topic\":");
        string(message.topic, out);
        out.extend_from_slice(b",\"clientid\":");
        string(message.client_id, out);
        out.extend_from_slice(b",\"username\":");
        match message.username {
            Some(name) => string(name, out),
            None => out.extend_from_slice(b"null"),
        }
        let MessageContext { qos, retain, dup, timestamp_ms, .. } = message;
        // Writing to a Vec does not fail.
        let _ = write!(out, r#","qos":{qos},"retain":{retain},"dup":{dup},"timestamp":{timestamp_ms},"payload":"#);
        if let Ok(text) = std::str::from_utf8(message.payload) {
            string(text, out);
            out.extend_from_slice(b",\"payload_encoding\":\"utf-8\"");
        } else {
            base64_string(message.payload, out);
            out.extend_from_slice(b",\"payload_encoding\":\"base64\"");
        }
        out.extend_from_slice(b",\"user_properties\":[");
        for (at, (name, value)) in message.properties.user_properties().enumerate() {
            out.extend_from_slice(if at == 0 { b"{\"name\":" } else { b",{\"name\":" });
            string(name, out);
            out.extend_from_slice(b",\"value\":");
            string(value, out);
            out.push(b'}');
        }
        out.push(b']');
        out.extend_from_slice(&self.end);
    }
}

/// Appends a JSON string.
pub fn string(text: &str, out: &mut Vec<u8>) {
    // Writing to a Vec does not fail.
    let _ = serde_json::to_writer(out, text);
}

/// Bytes of a text in a JSON string, without its quotes.
fn escaped_len(text: &str) -> usize {
    let more = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 1,
        0..0x20 => 5,
        _ => 0,
    };
    text.len() + text.bytes().map(more).sum::<usize>()
}

/// Appends a JSON string of the bytes in base64, with padding.
pub(super) fn base64_string(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    base64(bytes, out);
    out.push(b'"');
}

/// Appends the bytes in base64, with padding.
pub(super) fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    // The room is exactly the length of the encoding.
    let len = BASE64.encode_slice(bytes, &mut out[start..]).unwrap_or_default();
    out.truncate(start + len);
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_mqtt::property::{Properties, Property, PropertyBuf};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const MESSAGE: MessageContext<'static> = MessageContext {
        topic: "plant/7/temp",
        client_id: "dev-1",
        username: None,
        qos: 1,
        retain: false,
        dup: false,
        packet_id: 1,
        payload: b"{\"t\": 21.5}",
        timestamp_ms: 1_700_000_000_123,
        properties: Properties::EMPTY,
        hops: 0,
        copy_of: None,
        output: None,
    };

    fn write(envelope: &Envelope, message: &MessageContext<'_>) -> String {
        let mut out = b"kept".to_vec();
        envelope.write(message, &mut out);
        let object = String::from_utf8(out.split_off(4)).expect("UTF-8");
        assert!(object.len() <= envelope.bytes_max(message), "{object}");
        object
    }

    /// The document shows this very object.
    #[test]
    fn the_documents_example() {
        let metadata = [("line".to_owned(), "3".to_owned())];
        let mut properties = PropertyBuf::new();
        properties.extend([
            Property::ContentType("application/json"),
            Property::UserProperty("unit", "C"),
            Property::UserProperty("unit", "K"),
        ]);
        let message = MessageContext { properties: properties.as_properties(), ..MESSAGE };
        let object = write(&Envelope::new(&metadata), &message);
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/CONFIGURATION.md");
        let document = std::fs::read_to_string(path).expect("docs/CONFIGURATION.md");
        let example = document.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
        let joined: String = example.lines().map(str::trim_start).collect();
        assert_eq!(joined, object);
    }

    #[test]
    fn bytes_that_are_no_text_are_base64() {
        for (payload, want) in
            [(&b"\xff"[..], "/w=="), (b"\xff\xfe", "//4="), (b"\xff\xfe\xfd", "//79"), (b"\x00\xffraw", "AP9yYXc=")]
        {
            let object = write(&Envelope::new(&[]), &MessageContext { payload, username: Some("a"), ..MESSAGE });
            let object: Value = serde_json::from_str(&object).unwrap();
            assert_eq!((&object["payload"], &object["payload_encoding"]), (&json!(want), &json!("base64")));
            assert_eq!((&object["username"], &object["metadata"]), (&json!("a"), &json!({})));
        }
        let empty = write(&Envelope::new(&[]), &MessageContext { payload: b"", ..MESSAGE });
        assert!(empty.contains(r#""payload":"","payload_encoding":"utf-8""#), "{empty}");
    }

    /// Every character that JSON escapes, and its neighbours.
    #[test]
    fn lengths_are_what_is_written() {
        for c in (0..0x100).filter_map(char::from_u32).chain(['\u{2028}', '\u{ffff}', '\u{10ffff}']) {
            let mut out = Vec::new();
            string(&c.to_string(), &mut out);
            assert_eq!(out.len() - 2, escaped_len(&c.to_string()), "{c:?}");
        }
    }

    proptest! {
           /// The result is JSON with the given texts, and within its bound, whatever the texts.
           #[test]
           fn it_reads_back(topic in any::<String>(), client_id in any::<String>(), name in any::<Option<String>>(),
                            payload in prop_oneof![any::<String>().prop_map(String::into_bytes), any::<Vec<u8>>()],
                            pairs in proptest::collection::vec((any::<String>(), any::<String>()), 0..4),
                            flags in any::<(bool, bool)>(), timestamp_ms in any::<i64>(), qos in 0u8..3) {
               let mut properties = PropertyBuf::new();
               properties.extend(pairs.iter().map(|(name, value)| Property::UserProperty(name, value)));
               let message = MessageContext {
                   topic: &topic, client_id: &client_id, username: name.as_deref(), qos, retain: flags.0, dup: flags.1,
                   packet_id: 0, payload: &payload, timestamp_ms, properties: properties.as_properties(), hops: 0,
    copy_of: None,
    output: None,
               };
               let sent: Vec<_> = message.properties.user_properties().map(|(n, v)| json!({"name": n, "value": v})).collect();
               let metadata: serde_json::Map<_, _> = pairs.iter().map(|(n, v)| (n.clone(), json!(v))).collect();
               let (text, encoding) = match std::str::from_utf8(&payload) {
                   Ok(text) => (text.to_owned(), "utf-8"),
                   Err(_) => (BASE64.encode(&payload), "base64"),
               };
               let object: Value = serde_json::from_str(&write(&Envelope::new(&pairs), &message)).unwrap();
               prop_assert_eq!(object, json!({
                   "topic": topic, "clientid": client_id, "username": name, "qos": qos, "retain": flags.0, "dup": flags.1,
                   "timestamp": timestamp_ms, "payload": text, "payload_encoding": encoding, "user_properties": sent,
                   "metadata": metadata,
               }));
           }
       }
}
