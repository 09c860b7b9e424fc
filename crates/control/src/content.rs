//! Bytes in JSON: text if they are UTF-8, otherwise Base64. Everything that the API shows and accepts follows this rule.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use utoipa::ToSchema;

/// Bytes: as text if they are UTF-8, otherwise in base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// UTF-8.
    Text(String),
    /// Base64 of other bytes.
    Base64(String),
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        String::from_utf8(bytes).map_or_else(|error| Self::Base64(STANDARD.encode(error.as_bytes())), Self::Text)
    }
}

impl Content {
    /// The beginning of a value of `whole` bytes. A character that is cut at the end is left out.
    #[must_use]
    pub fn beginning(bytes: &[u8], whole: usize) -> Self {
        match std::str::from_utf8(bytes) {
            Err(error) if error.error_len().is_none() && whole > bytes.len() => {
                Self::from(bytes[..error.valid_up_to()].to_vec())
            }
            _ => Self::from(bytes.to_vec()),
        }
    }

    /// The content as two fields, of which one is present: text, and Base64.
    pub(super) fn fields(self) -> (Option<String>, Option<String>) {
        match self {
            Self::Text(text) => (Some(text), None),
            Self::Base64(text) => (None, Some(text)),
        }
    }
}

/// The bytes of a payload that was sent as text or in Base64.
///
/// # Errors
/// The Base64 is invalid, or both are given.
pub(super) fn payload(text: &str, base64: Option<&str>) -> Result<Vec<u8>, String> {
    match base64 {
        None => Ok(text.as_bytes().to_vec()),
        Some(_) if !text.is_empty() => Err("payload or payload_base64: one of them".to_owned()),
        Some(base64) => STANDARD.decode(base64).map_err(|error| format!("payload_base64: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::SampleMessage;
    use super::*;

    #[test]
    fn bytes_are_text_where_they_can_be() {
        assert_eq!(Content::from("ä".as_bytes().to_vec()), Content::Text("ä".to_owned()));
        assert_eq!(Content::from(vec![0, 255]), Content::Base64("AP8=".to_owned()));
        assert_eq!(Content::from(vec![]).fields(), (Some(String::new()), None));
        // The last character of a beginning may be cut; the last character of a whole value may not.
        let cut = &"aä".as_bytes()[..2];
        assert_eq!(Content::beginning(cut, 3), Content::Text("a".to_owned()));
        assert_eq!(Content::beginning(cut, 2), Content::Base64("YcM=".to_owned()));
        assert_eq!(Content::beginning(&[255, 195], 9), Content::Base64("/8M=".to_owned()));
    }

    /// Payloads of trials are texts, and so is what trials and traces show: JSON in them is passed on as it was written.
    #[test]
    fn finding_q43_json_goes_in_and_comes_out_as_it_was_written() {
        let json = r#"{"t": 2.50, "n": 12345678901234567890123, "o": {"z": 1.0, "a": [1e3]}}"#;
        let sample = serde_json::json!({ "topic": "t", "payload": json }).to_string();
        let sample: SampleMessage = serde_json::from_str(&sample).expect("a message");
        let bytes = sample.payload().expect("a payload");
        assert_eq!(bytes, json.as_bytes());
        assert_eq!(Content::beginning(&bytes, bytes.len()).fields(), (Some(json.to_owned()), None));
        assert_eq!(serde_json::to_value(Content::from(bytes)).ok(), Some(serde_json::json!({ "text": json })));
        // A tree would be written anew.
        let tree = format!(r#"{{"topic": "t", "payload": {json}}}"#);
        assert!(serde_json::from_str::<SampleMessage>(&tree).is_err());
    }

    #[test]
    fn a_payload_comes_in_one_way() {
        assert_eq!(payload("a", None), Ok(b"a".to_vec()));
        assert_eq!(payload("", Some("AP8=")), Ok(vec![0, 255]));
        assert!(payload("a", Some("AP8=")).is_err() && payload("", Some("?")).is_err());
    }
}
