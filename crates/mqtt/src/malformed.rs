//! The one error of this module: a packet of a peer that the standard forbids, and the sentence that forbids it.

use super::packet::Version;
use super::reason::ReasonCode;
use std::fmt;

/// A packet that must not be acted on. The connection ends with it [MQTT-4.13.1-1].
///
/// Clauses are those of MQTT 5.0 (OASIS, 2019), or of 3.1.1 if it alone has the rule; [`Malformed::clause_in`] returns 3.1.1's
/// number for those that both have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The reason code in CONNACK or DISCONNECT to a 5.0 peer. Older clients see the connection close, or the return code of
    /// [`ReasonCode::connack_return_code_v3`].
    pub reason: ReasonCode,
    /// The sentence that was broken: `MQTT-3.3.1-4`, or a section where the standard gives no number.
    pub clause: &'static str,
    /// The error, in a few words.
    pub what: &'static str,
}

impl Malformed {
    /// A packet that cannot be parsed (0x81).
    pub(super) const fn packet(clause: &'static str, what: &'static str) -> Self {
        Self { reason: ReasonCode::MALFORMED_PACKET, clause, what }
    }

    /// A packet that parses but contains something that the protocol does not allow (0x82).
    pub(super) const fn protocol(clause: &'static str, what: &'static str) -> Self {
        Self { reason: ReasonCode::PROTOCOL_ERROR, clause, what }
    }

    /// An error with any other reason that the standard names for the case.
    pub(super) const fn with(reason: ReasonCode, clause: &'static str, what: &'static str) -> Self {
        Self { reason, clause, what }
    }
}

/// Sentences that 5.0 took over from 3.1.1 under another number, (5.0, 3.1.1). The rest have kept theirs.
const RENUMBERED: &[(&str, &str)] = &[
    ("MQTT-1.5.4-1", "MQTT-1.5.3-1"),
    ("MQTT-1.5.4-2", "MQTT-1.5.3-2"),
    ("MQTT-2.1.3-1", "MQTT-2.2.2-2"),
    ("MQTT-2.2.1-3", "MQTT-2.3.1-1"),
    ("MQTT-3.1.2-11", "MQTT-3.1.2-13"),
    ("MQTT-3.1.2-12", "MQTT-3.1.2-14"),
    ("MQTT-3.1.2-13", "MQTT-3.1.2-15"),
    ("MQTT-3.2.2-1", "section 3.2.2.1"),
    ("MQTT-3.2.2-6", "MQTT-3.2.2-4"),
    ("MQTT-3.2.2-15", "section 2.2.3"),
    ("MQTT-3.8.3-2", "MQTT-3.8.3-3"),
    ("MQTT-3.8.3-5", "MQTT-3.8.3-4"),
    ("MQTT-4.7.0-1", "MQTT-4.7.1-1"),
    ("MQTT-4.7.1-1", "MQTT-4.7.1-2"),
    ("MQTT-4.7.1-2", "MQTT-4.7.1-3"),
    ("section 1.5.5", "section 2.2.3"),
    ("section 2.1.2", "section 2.2.1"),
    ("section 2.1.4", "section 2.2.3"),
    ("section 1.2", "section 4.8"),
];

impl Malformed {
    /// The clause under its number in the standard of `version`. 3.1 has no numbers: 3.1.1's stand for its sentences.
    #[must_use]
    pub fn clause_in(&self, version: Version) -> &'static str {
        if version == Version::V5 {
            return self.clause;
        }
        RENUMBERED.iter().find(|(v5, _)| *v5 == self.clause).map_or(self.clause, |(_, v311)| v311)
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}], answered with 0x{:02X} {}", self.what, self.clause, self.reason.0, self.reason.name())
    }
}

impl std::error::Error for Malformed {}
