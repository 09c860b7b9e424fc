//! Every packet of a connected client but CONNECT and PUBLISH, which have their own ways in.

use super::end::{End, Violation};
use super::qos2::Release;
use super::state::{Session, Terms};
use crate::mqtt::encode;
use crate::mqtt::packet::{Disconnect, Packet, PacketType, SubAck, Subscribe, Unsubscribe, Version};
use crate::mqtt::property::{Properties, Property, PropertyBuf};
use crate::mqtt::reason::ReasonCode;
use crate::mqtt::topic;
use smallvec::SmallVec;

/// What becomes of the connection after a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It goes on.
    Go,
    /// It ends: [`End::write`], close, [`super::Sessions::disconnected`].
    End(End),
}

impl From<Violation> for Next {
    fn from(violation: Violation) -> Self {
        Self::End(End::Violation(violation))
    }
}

impl Session {
    /// Handles a packet of the connection that has this session; answers are appended to `out`. A PUBLISH belongs to
    /// [`super::Sessions::publish`], and a CONNECT here is the second one [MQTT-3.1.0-2].
    pub fn packet(&mut self, packet: &Packet<'_>, out: &mut Vec<u8>) -> Next {
        match packet {
            Packet::PubRel(ack) => return self.pubrel(ack.packet_id, out),
            Packet::PingReq => {
                self.peer().send(&Packet::PingResp, out); // [MQTT-3.12.4-1]
            }
            // Nothing was ever sent to be acknowledged. A stray PUBACK or PUBCOMP ends an exchange, so silence does too;
            // a PUBREC begins one, and the answer lets the client finish it (section 3.6.2.1).
            Packet::PubAck(_) | Packet::PubComp(_) => {}
            Packet::PubRec(ack) if ack.reason.is_error() => {}
            Packet::PubRec(ack) => {
                let code = ReasonCode::PACKET_IDENTIFIER_NOT_FOUND;
                encode::ack(self.terms.version, PacketType::PubRel, ack.packet_id, code, out);
            }
            Packet::Subscribe(subscribe) => return self.subscribe(subscribe, out),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(unsubscribe, out),
            Packet::Disconnect(disconnect) => return self.disconnect(disconnect),
            Packet::Connect(_) => return Violation::SECOND_CONNECT.into(),
            // One that is asked for goes to `Session::authenticate`.
            Packet::Auth(_) => return Violation::AUTH_UNASKED.into(),
            Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                return Violation::SERVER_PACKET.into();
            }
            Packet::Publish(_) => {
                debug_assert!(false, "PUBLISH goes to Sessions::publish");
                return Next::End(End::Administrative);
            }
        }
        Next::Go
    }

    /// PUBREL is answered with PUBCOMP whether its id is known or not [MQTT-4.3.3-11]: after a lost PUBCOMP the client
    /// repeats it.
    fn pubrel(&mut self, packet_id: u16, out: &mut Vec<u8>) -> Next {
        let receipts = self.inflight.receipts_of(packet_id);
        let code = match self.inflight.release(packet_id) {
            Release::Freed { .. } => ReasonCode::SUCCESS,
            Release::Unknown => ReasonCode::PACKET_IDENTIFIER_NOT_FOUND,
            // To free the id would let its next PUBLISH become a second row of the same message.
            Release::TooEarly => return Violation::PUBREL_EARLY.into(),
        };
        let peer = self.terms.peer();
        self.inflight.pubcomp(&peer, packet_id, code, &receipts, out);
        Next::Go
    }

    /// Subscriptions do not exist yet: each filter gets a failure code [MQTT-3.8.4-6].
    fn subscribe(&mut self, subscribe: &Subscribe<'_>, out: &mut Vec<u8>) -> Next {
        let code = match self.terms.version {
            Version::V31 => return Next::End(End::NotExpressible),
            Version::V311 => ReasonCode::UNSPECIFIED_ERROR,
            Version::V5 => ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR,
        };
        if self.terms.version == Version::V5
            && let Err(violation) = announced(subscribe, &self.terms)
        {
            return violation.into();
        }
        let codes: SmallVec<[u8; 32]> = subscribe.filters.iter().map(|_| code.0).collect();
        self.answer(&codes, "subscriptions are not available", out, |codes, properties| {
            Packet::SubAck(SubAck { packet_id: subscribe.packet_id, properties, codes })
        });
        Next::Go
    }

    fn unsubscribe(&mut self, unsubscribe: &Unsubscribe<'_>, out: &mut Vec<u8>) {
        let codes: SmallVec<[u8; 32]> = match self.terms.version {
            Version::V5 => unsubscribe.filters.iter().map(|_| ReasonCode::NO_SUBSCRIPTION_EXISTED.0).collect(),
            Version::V31 | Version::V311 => SmallVec::new(),
        };
        self.answer(&codes, "", out, |codes, properties| {
            Packet::UnsubAck(SubAck { packet_id: unsubscribe.packet_id, properties, codes })
        });
    }

    /// Sends SUBACK or UNSUBACK, with a Reason String if there is one, it is wanted [MQTT-3.1.2-29] and it fits
    /// [MQTT-3.9.2-1]; not at all if even the codes do not fit [MQTT-3.1.2-25].
    fn answer<'a>(
        &self,
        codes: &'a [u8],
        reason_string: &str,
        out: &mut Vec<u8>,
        packet: impl for<'b> Fn(&'b [u8], Properties<'b>) -> Packet<'b>,
    ) {
        let peer = self.peer();
        let mut properties = PropertyBuf::new();
        if !reason_string.is_empty() && peer.wants_reasons() {
            properties.push(Property::ReasonString(reason_string));
        }
        if !peer.send(&packet(codes, properties.as_properties()), out) {
            peer.send(&packet(codes, Properties::EMPTY), out);
        }
    }

    fn disconnect(&mut self, disconnect: &Disconnect<'_>) -> Next {
        if let Some(expiry_s) = disconnect.properties.session_expiry_interval_s() {
            if self.expiry_s == 0 && expiry_s != 0 {
                return Violation::EXPIRY_RAISED.into();
            }
            let expiry_s = expiry_s.min(self.terms.session_expiry_max_s);
            if let Some(kept) = &mut self.kept {
                kept.changed |= self.expiry_s != expiry_s;
            }
            self.expiry_s = expiry_s;
        }
        Next::End(if disconnect.reason == ReasonCode::NORMAL_DISCONNECTION { End::Left } else { End::LeftWithWill })
    }
}

/// A kind of subscription that CONNACK said is not available may not be asked for.
fn announced(subscribe: &Subscribe<'_>, terms: &Terms) -> Result<(), Violation> {
    if !terms.subscription_identifiers && subscribe.properties.subscription_identifier().is_some() {
        return Err(Violation::SUBSCRIBE_IDENTIFIER);
    }
    for (filter, _) in subscribe.filters.iter() {
        if !terms.shared_subscriptions && topic::is_shared(filter) {
            return Err(Violation::SUBSCRIBE_SHARED);
        }
        if !terms.wildcard_subscriptions && filter.contains(['+', '#']) {
            return Err(Violation::SUBSCRIBE_WILDCARD);
        }
    }
    Ok(())
}
