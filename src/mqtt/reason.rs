//! MQTT 5.0 reason codes.
/// A reason code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReasonCode(pub u8);
