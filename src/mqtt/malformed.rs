//! The one error of this room: what a peer sent that the standard forbids, and the sentence that forbids it.

use super::reason::ReasonCode;
use std::fmt;

/// A packet that must not be acted on. The connection ends with it [MQTT-4.13.1-1].
///
/// Clauses are those of MQTT 5.0 (OASIS, 2019); where 3.1.1 or 3.1 alone has the rule, the text begins with `3.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// What a 5.0 peer is told in CONNACK or DISCONNECT. Older clients see the connection close, or the return code
    /// that [`ReasonCode::connack_return_code_v3`] gives.
    pub reason: ReasonCode,
    /// The sentence that was broken: `MQTT-3.3.1-4`, or a section where the standard gives no number.
    pub clause: &'static str,
    /// What was wrong, in a few words.
    pub what: &'static str,
}

impl Malformed {
    /// A packet that cannot be parsed (0x81).
    pub(super) const fn packet(clause: &'static str, what: &'static str) -> Self {
        Self { reason: ReasonCode::MALFORMED_PACKET, clause, what }
    }

    /// A packet that parses but says what the protocol does not allow (0x82).
    pub(super) const fn protocol(clause: &'static str, what: &'static str) -> Self {
        Self { reason: ReasonCode::PROTOCOL_ERROR, clause, what }
    }

    /// Any other reason that the standard names for the case.
    pub(super) const fn with(reason: ReasonCode, clause: &'static str, what: &'static str) -> Self {
        Self { reason, clause, what }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}], answered with 0x{:02X} {}", self.what, self.clause, self.reason.0, self.reason.name())
    }
}

impl std::error::Error for Malformed {}
