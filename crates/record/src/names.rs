//! Names of the record headers that Forebay's sinks write and its sources read.

/// MQTT 5: Content Type.
pub const CONTENT_TYPE: &str = "mqtt-content-type";
/// MQTT 5: Response Topic.
pub const RESPONSE_TOPIC: &str = "mqtt-response-topic";
/// MQTT 5: Correlation Data.
pub const CORRELATION_DATA: &str = "mqtt-correlation-data";
/// MQTT 5: Message Expiry Interval, in digits.
pub const EXPIRY: &str = "mqtt-message-expiry-s";
/// MQTT 5: Payload Format Indicator, `0` or `1`.
pub const FORMAT: &str = "mqtt-payload-format";
/// QoS of the message, `0`, `1` or `2`; in topics of `[broker]`.
pub const QOS: &str = "mqtt-qos";
/// RETAIN of the message, `true` or `false`; in topics of `[broker]`.
pub const RETAIN: &str = "mqtt-retain";
/// Client identifier of the message's publisher; in topics of `[broker]`.
pub const CLIENT_ID: &str = "mqtt-client-id";
/// The record from which a copy of a retained message was made; in the topic of `[broker]` for retained messages.
pub const COPY_OF: &str = "mqtt-copy-of";
/// How often the message has been a record: a source skips messages that go in a circle.
pub const HOPS: &str = "mqtt-hops";
/// The beginning of the names of Forebay's own headers.
pub const OUR_PREFIX: &str = "mqtt-";
/// The prefix of a user property with a name that begins like Forebay's own headers.
pub const USER_PREFIX: &str = "mqtt-user-";
