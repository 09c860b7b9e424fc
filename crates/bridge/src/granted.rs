//! The capabilities of a remote according to its CONNACK.

use super::login::{Form, Login};
use forebay_mqtt::packet::{ConnAck, QoS, Version};
use forebay_mqtt::property::{Properties, VIA};

/// The most messages of QoS 1 and 2 in flight to a remote, whatever it accepts.
const IN_FLIGHT_MAX: u16 = 1024;
/// Like [`IN_FLIGHT_MAX`], for a remote before 5.0, which cannot set a maximum: the number that mosquitto takes, and that Paho sends.
const IN_FLIGHT_3X: u16 = 20;

/// The number of hexadecimal digits by which an instance is known.
pub(super) const DIGITS: usize = 8;

/// The instance that a peer says it is.
#[must_use]
pub fn told(properties: Properties<'_>) -> Option<&str> {
    let (_, told) = properties.user_properties().find(|(name, _)| *name == VIA)?;
    (told.len() == DIGITS && told.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(told)
}

/// `Granted` is what a remote has promised to accept, and the parameters of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The version of the connection.
    pub version: Version,
    /// The remote takes the client for another broker, before 5.0.
    pub is_bridge: bool,
    /// The remote has kept the client's session.
    pub session_present: bool,
    /// Keep-alive in force, in seconds; 0: off.
    pub keep_alive_s: u16,
    /// Messages of QoS 1 and 2 that may be in flight to the remote; at least 1.
    pub in_flight_max: u16,
    /// The highest QoS that the remote takes.
    pub maximum_qos: QoS,
    /// Whether the remote takes RETAIN.
    pub retain_available: bool,
    /// The largest packet that the remote takes, in bytes.
    pub packet_size_max: u32,
    /// Topic aliases that the remote takes.
    pub topic_alias_maximum: u16,
    /// Session expiry at the remote, in seconds; `u32::MAX`: never, or unknown.
    pub session_expiry_s: u32,
    /// Whether filters may have wildcards.
    pub wildcards_available: bool,
    /// Whether the remote has shared subscriptions.
    pub shared_available: bool,
    /// The digits of the remote, if it is another instance of Forebay that tells them.
    pub instance: Option<Box<str>>,
}

impl Granted {
    pub(super) fn of(connack: &ConnAck<'_>, login: &Login, form: Form) -> Self {
        let properties = connack.properties;
        let in_flight_max = match form.version {
            Version::V5 => {
                properties.receive_maximum().unwrap_or(u16::MAX).min(login.in_flight_max.unwrap_or(u16::MAX))
            }
            Version::V31 | Version::V311 => login.in_flight_max.unwrap_or(IN_FLIGHT_3X),
        };
        let kept_s = if form.version == Version::V5 { login.session_expiry_s } else { u32::MAX };
        Self {
            version: form.version,
            is_bridge: form.is_bridge,
            session_present: connack.session_present,
            keep_alive_s: properties.server_keep_alive_s().unwrap_or(login.keep_alive_s),
            in_flight_max: in_flight_max.clamp(1, IN_FLIGHT_MAX),
            maximum_qos: properties.maximum_qos().and_then(QoS::from_bits).unwrap_or(QoS::ExactlyOnce),
            retain_available: properties.retain_available().unwrap_or(true),
            packet_size_max: properties.maximum_packet_size().unwrap_or(u32::MAX),
            topic_alias_maximum: properties.topic_alias_maximum().unwrap_or(0),
            session_expiry_s: properties.session_expiry_interval_s().unwrap_or(kept_s),
            wildcards_available: properties.wildcard_subscription_available().unwrap_or(true),
            shared_available: properties.shared_subscription_available().unwrap_or(true),
            instance: told(properties).map(Into::into),
        }
    }
}
