//! Enhanced authentication (section 4.12): the server's packets, and the AUTH of a connected client that authenticates again. The
//! exchange before CONNACK is not part of a session.

use super::end::Violation;
use super::peer::Peer;
use super::state::Session;
use forebay_guard::auth::Refusal;
use forebay_mqtt::packet::{Disconnect, Packet};
use forebay_mqtt::property::{Property, PropertyBuf};
use forebay_mqtt::reason::ReasonCode;
use forebay_runtime::seam::Monotonic;

/// The result of an AUTH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authenticated {
    /// The exchange continues.
    Goes,
    /// The client has authenticated again.
    Done,
    /// The authentication has failed: the connection ends [MQTT-4.12.1-2].
    Refused(Violation),
    /// The client may not send this AUTH now: the connection ends.
    Violation(Violation),
}

/// Appends an AUTH, without Reason String and User Property [MQTT-3.15.2-2] [MQTT-3.15.2-3]. False, and nothing appended, if the
/// client could not take it.
pub fn write_auth(peer: Peer, reason: ReasonCode, method: &str, data: &[u8], out: &mut Vec<u8>) -> bool {
    let mut properties = PropertyBuf::new();
    properties.push(Property::AuthenticationMethod(method)); // [MQTT-4.12.0-5]
    properties.push(Property::AuthenticationData(data));
    peer.send(&Packet::Auth(Disconnect { reason, properties: properties.as_properties() }), out)
}

impl Session {
    /// Handles an AUTH of the client, which may publish in the meantime. An exchange that has begun must end before `until`.
    pub fn authenticate(
        &mut self,
        auth: &Disconnect<'_>,
        now: Monotonic,
        until: Monotonic,
        out: &mut Vec<u8>,
    ) -> Authenticated {
        let peer = self.peer();
        let Some(access) = &mut self.access else { return Authenticated::Violation(Violation::AUTH_UNASKED) };
        let Some(method) = access.by().authentication_method() else {
            return Authenticated::Violation(Violation::AUTH_UNASKED);
        };
        if auth.properties.authentication_method() != Some(method) {
            return Authenticated::Violation(Violation::AUTH_OTHER_METHOD);
        }
        let data = auth.properties.authentication_data();
        let answer: Result<(_, Box<[u8]>), _> = if auth.reason == ReasonCode::RE_AUTHENTICATE {
            match access.begin(data, until.0) {
                None => return Authenticated::Violation(Violation::AUTH_TWICE),
                // [MQTT-4.12.0-2]
                Some(begun) => begun.map(|data| (ReasonCode::CONTINUE_AUTHENTICATION, data.into())),
            }
        } else {
            match access.finish(data, now.0, self.username.as_deref()) {
                None => return Authenticated::Violation(Violation::AUTH_UNASKED),
                Some(finished) => finished.map(|data| (ReasonCode::SUCCESS, data)),
            }
        };
        match answer {
            Ok((reason, data)) if !write_auth(peer, reason, method, &data, out) => {
                Authenticated::Violation(Violation::PACKET_SIZE_TINY)
            }
            Ok((ReasonCode::SUCCESS, _)) => Authenticated::Done,
            Ok(_) => Authenticated::Goes,
            Err(Refusal::Exchange(what)) => Authenticated::Refused(Violation { what, ..Violation::AUTH_REFUSED }),
            Err(_) => Authenticated::Refused(Violation::AUTH_REFUSED),
        }
    }

    /// Whether AUTH is for [`Session::authenticate`]; from another client it is an error.
    #[must_use]
    pub fn may_authenticate(&self) -> bool {
        self.access().is_some_and(|access| access.by().authentication_method().is_some())
    }
}
