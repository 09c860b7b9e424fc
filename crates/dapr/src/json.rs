//! The body of a request of the bindings API, and the text of its data in a publish.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

/// The body of a request. Other members are ignored, as in Dapr.
#[derive(Debug, Deserialize)]
pub(super) struct Body<'b> {
    pub(super) operation: Option<String>,
    #[serde(borrow)]
    data: Option<&'b RawValue>,
    pub(super) metadata: Option<BTreeMap<String, String>>,
}

impl Body<'_> {
    /// The payload for the data: `null` where there is none.
    pub(super) fn payload(&self) -> Vec<u8> {
        self.data.map_or_else(|| b"null".to_vec(), |data| compact(data.get()))
    }
}

/// JSON without the white space between its parts. No number loses a digit, and members keep their order.
fn compact(json: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len());
    let (mut is_in_text, mut is_escaped) = (false, false);
    for byte in json.bytes() {
        if is_in_text {
            is_in_text = is_escaped || byte != b'"';
            is_escaped = byte == b'\\' && !is_escaped;
        } else if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            continue;
        } else {
            is_in_text = byte == b'"';
        }
        out.push(byte);
    }
    out
}

/// JSON without white space between its parts. Other data stays unchanged.
#[cfg(feature = "grpc")]
pub(super) fn normal(data: &[u8]) -> Vec<u8> {
    serde_json::from_slice::<&RawValue>(data).map_or_else(|_| data.to_vec(), |data| compact(data.get()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// D27, D29: what is published of the data.
    #[test]
    fn data_is_published_as_it_stands() {
        for (data, want) in [
            (
                " { \"b\" : 1,\n\t\"a\": 12345678901234567890, \"h\": \"<& >\" } ",
                "{\"b\":1,\"a\":12345678901234567890,\"h\":\"<& >\"}",
            ),
            ("\"plain text\"", "\"plain text\""),
            ("\"a \\\\\\\" b\" ", "\"a \\\\\\\" b\""),
            ("[ 1.10, 1e400, -0 ]", "[1.10,1e400,-0]"),
            ("null", "null"),
        ] {
            let text = format!("{{\"operation\":\"create\", \"data\":{data}, \"other\": [1]}}");
            let body: Body<'_> = serde_json::from_str(&text).expect(data);
            assert_eq!(String::from_utf8(body.payload()).expect("UTF-8"), want);
        }
        let body: Body<'_> = serde_json::from_str("{\"metadata\":null}").expect("JSON");
        assert_eq!((body.payload(), body.operation, body.metadata), (b"null".to_vec(), None, None));
        assert!(serde_json::from_str::<Body<'_>>("{\"metadata\":{\"topic\":1}}").is_err());
    }

    proptest! {
        #[test]
        fn what_is_compact_means_the_same(value in any::<(String, f64, Vec<String>)>()) {
            let value = serde_json::json!({ "a": value.0, "b": value.1, "c": value.2 });
            let compacted = compact(&serde_json::to_string_pretty(&value).expect("JSON"));
            prop_assert_eq!(compacted, serde_json::to_vec(&value).expect("JSON"));
        }
    }
}
