//! `forebay publish`: a message by the API of a running service.

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::args::PublishArgs;
use super::ask::post;

/// Publishes a message.
///
/// # Errors
/// Why no subscriber has it, or why there is no answer.
pub fn publish(options: &PublishArgs) -> Result<String, String> {
    let payload = match (&options.payload, &options.file) {
        (Some(text), _) => text.clone().into_bytes(),
        (None, Some(path)) if path.as_os_str() == "-" => {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes).map_err(|error| format!("standard input: {error}"))?;
            bytes
        }
        (None, Some(path)) => std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?,
        (None, None) => Vec::new(),
    };
    let message = json!({
        "topic": options.topic,
        "payload_base64": STANDARD.encode(payload),
        "qos": options.qos,
        "retain": options.retain,
        "message_expiry_seconds": options.expiry,
        "content_type": options.content_type,
        "user_properties": options.property,
    });
    let answer = post(&options.from, "/api/v1/publish", &message)?;
    Ok(match &answer["matched"] {
        _ if options.from.json => format!("{answer:#}\n"),
        matched if *matched == true => "published\n".to_owned(),
        _ => "published; no sink, rule or subscription matches the topic\n".to_owned(),
    })
}
