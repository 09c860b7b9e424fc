//! Every packet of a connected client but CONNECT, PUBLISH, SUBSCRIBE and UNSUBSCRIBE, which have their own ways in.

use super::end::{End, Violation};
use super::qos2::Release;
use super::state::Session;
use forebay_mqtt::packet::{Disconnect, Packet};
use forebay_mqtt::reason::ReasonCode;

/// The fate of the connection after a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The connection goes on.
    Go,
    /// The connection ends: [`End::write`], close, [`super::Sessions::disconnected`].
    End(End),
}

impl From<Violation> for Next {
    fn from(violation: Violation) -> Self {
        Self::End(End::Violation(violation))
    }
}

impl Session {
    /// Handles a packet of the connection that has this session; answers are appended to `out`. A PUBLISH belongs to
    /// [`super::Sessions::publish`], SUBSCRIBE and UNSUBSCRIBE to [`super::subscriptions`], and a CONNECT here is the second one [MQTT-3.1.0-2].
    pub fn packet(&mut self, packet: &Packet<'_>, out: &mut Vec<u8>) -> Next {
        match packet {
            Packet::PubRel(ack) => return self.pubrel(ack.packet_id, out),
            Packet::PingReq => {
                self.peer().send(&Packet::PingResp, out); // [MQTT-3.12.4-1]
            }
            Packet::PubAck(ack) => self.puback(ack.packet_id, ack.reason.is_error()),
            Packet::PubRec(ack) => self.pubrec(ack.packet_id, ack.reason.is_error(), out),
            Packet::PubComp(ack) => self.pubcomp(ack.packet_id),
            Packet::Disconnect(disconnect) => return self.disconnect(disconnect),
            Packet::Connect(_) => return Violation::SECOND_CONNECT.into(),
            // A requested AUTH goes to `Session::authenticate`.
            Packet::Auth(_) => return Violation::AUTH_UNASKED.into(),
            Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                return Violation::SERVER_PACKET.into();
            }
            Packet::Publish(_) | Packet::Subscribe(_) | Packet::Unsubscribe(_) => {
                debug_assert!(false, "these have their own ways in");
                return Next::End(End::Administrative);
            }
        }
        Next::Go
    }

    /// Appends PUBCOMP for ids that other shards have released.
    pub(super) fn complete_releases(&mut self, out: &mut Vec<u8>) {
        while let Some(packet_id) = self.inflight.qos2.as_mut().and_then(|qos2| qos2.elsewhere.next_released()) {
            let next = self.pubrel(packet_id, out);
            debug_assert_eq!(next, Next::Go, "it was asked before whether it comes too early");
        }
    }

    /// Handles PUBREL, which is answered with PUBCOMP whether its id is known or not [MQTT-4.3.3-11]: after a lost PUBCOMP the
    /// client repeats it. Also if the message has expired in the meantime [MQTT-4.3.3-13].
    fn pubrel(&mut self, packet_id: u16, out: &mut Vec<u8>) -> Next {
        let receipts = self.inflight.receipts_of(packet_id);
        let code = match self.inflight.release(packet_id) {
            Release::Freed { .. } => ReasonCode::SUCCESS,
            Release::Unknown => ReasonCode::PACKET_IDENTIFIER_NOT_FOUND,
            // If the id were freed, its next PUBLISH would become a second row of the same message.
            Release::TooEarly => return Violation::PUBREL_EARLY.into(),
        };
        let peer = self.terms.peer();
        self.inflight.pubcomp(&peer, packet_id, code, &receipts, out);
        Next::Go
    }

    fn disconnect(&mut self, disconnect: &Disconnect<'_>) -> Next {
        if let Some(expiry_s) = disconnect.properties.session_expiry_interval_s() {
            if !self.terms.asks_to_be_kept && expiry_s != 0 {
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
