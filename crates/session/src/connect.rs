//! CONNECT to CONNACK: the client's request, the terms it gets, and the answer.

use super::end::Violation;
use super::peer::Peer;
use super::settings::Settings;
use super::state::{Role, Terms};
use forebay_base::limits::{SENT_ALIASES_MAX, SENT_MAX, SENT_MAX_3X};
use forebay_guard::auth::acl::{Action, Client, Wanted};
use forebay_guard::auth::{Admission, Limits};
use forebay_mqtt::packet::{ConnAck, Connect, Packet, QoS, Version, Will};
use forebay_mqtt::property::{Properties, Property, PropertyBuf, VIA};
use forebay_mqtt::reason::ReasonCode;

/// A refused CONNECT. Its CONNACK, if the client's version has one for the case, is in `out`: close [MQTT-3.2.2-7].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The reason for the refusal.
    pub violation: Violation,
}

/// The terms of a CONNECT if there is room.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan<'a> {
    pub(super) client_id: &'a str,
    /// The identity from the admission; without an auth, the user name of the CONNECT.
    pub(super) username: Option<&'a str>,
    /// The name of the `auth` that admitted the client.
    pub(super) auth: Option<&'a str>,
    /// Bytes of the grants of the client's token.
    grants_bytes: usize,
    pub(super) terms: Terms,
    /// Session Expiry Interval in force.
    pub(super) expiry_s: u32,
    /// Keep Alive in force.
    pub(super) keep_alive_s: u16,
    /// Authentication Method and Data of CONNACK, if an exchange has admitted the client.
    exchanged: Option<(&'a str, &'a [u8])>,
}

impl Plan<'_> {
    /// Whether its session counts among those that its user may keep.
    pub(super) fn needs_place(&self, admission: &Admission) -> bool {
        self.expiry_s > 0 && admission.limits().sessions > 0
    }
}

/// Refuses a CONNECT, even one that could not be decoded (then with [`Peer::new`] of the version that it named): appends the
/// CONNACK for the violation, if the version has one. Close after it.
pub fn refuse(peer: Peer, violation: &Violation, out: &mut Vec<u8>) {
    let reason_string = violation.reason_string();
    let mut properties = PropertyBuf::new();
    if peer.wants_reasons() {
        properties.push(Property::ReasonString(&reason_string));
    }
    let connack =
        |properties| Packet::ConnAck(ConnAck { session_present: false, reason: violation.reason, properties });
    // A Reason String must not make the packet too large [MQTT-3.2.2-19]; there are no User Properties [MQTT-3.2.2-20].
    if !peer.send(&connack(properties.as_properties()), out) {
        peer.send(&connack(Properties::EMPTY), out);
    }
}

/// Appends the CONNACK that sends a client of 5.0 to the server `server` (0x9C). False, and nothing appended: the client's version
/// has none for that, or it could not take one of that size. Close after it.
pub fn redirect(peer: Peer, server: &str, out: &mut Vec<u8>) -> bool {
    let mut properties = PropertyBuf::new();
    properties.push(Property::ServerReference(server));
    let properties = properties.as_properties();
    let connack = ConnAck { session_present: false, reason: ReasonCode::USE_ANOTHER_SERVER, properties };
    peer.version == Version::V5 && peer.send(&Packet::ConnAck(connack), out)
}

/// Checks a CONNECT by itself and settles its terms.
pub(super) fn plan<'a>(
    connect: &Connect<'a>,
    assigned_id: Option<&'a str>,
    admission: Option<&'a Admission>,
    settings: &Settings,
) -> Result<Plan<'a>, Violation> {
    let exchanged = admission.and_then(|by| Some((by.by.authentication_method()?, by.data.as_deref()?)));
    if connect.properties.authentication_method() != exchanged.map(|(method, _)| method) {
        return Err(Violation::AUTHENTICATION_METHOD);
    }
    if let Some(will) = &connect.will {
        if will.qos > settings.maximum_qos {
            return Err(Violation::WILL_QOS);
        }
        if will.retain && !settings.retain_available {
            return Err(Violation::WILL_RETAIN);
        }
    }
    // [MQTT-3.1.3-6] [MQTT-3.1.3-7]
    let client_id = match connect.client_id {
        "" => assigned_id.filter(|id| !id.is_empty()).ok_or(Violation::CLIENT_ID_EMPTY)?,
        id => id,
    };
    let (username, auth) = match admission {
        Some(admission) => {
            may_connect(connect, client_id, admission)?;
            (admission.identity.as_deref(), Some(admission.policy.name()))
        }
        None => (connect.username, None),
    };
    let grants_bytes = admission.and_then(|admission| admission.grants.as_ref()).map_or(0, |grants| grants.bytes());
    let (send_maximum, sent_alias_maximum) = (send_maximum(connect), sent_alias_maximum(connect));
    let asks_to_be_kept = connect.properties.session_expiry_interval_s().is_some_and(|s| s > 0);
    let role = if connect.is_bridge { Role::Bridge } else { Role::Client };
    let by_default = terms(Peer::of(connect), settings);
    let terms = Terms { send_maximum, sent_alias_maximum, asks_to_be_kept, role, ..by_default };
    let (expiry_s, keep_alive_s) = (expiry_s(connect, settings), keep_alive_s(connect, settings));
    Ok(Plan { client_id, username, auth, terms, expiry_s, keep_alive_s, exchanged, grants_bytes })
}

/// Checks the limits of an identity for a CONNECT.
fn may_connect(connect: &Connect<'_>, client_id: &str, admission: &Admission) -> Result<(), Violation> {
    let Admission { policy, identity, .. } = admission;
    let identity = identity.as_deref();
    if !admission.allows_client_id(client_id) {
        return Err(Violation::CLIENT_ID_FOREIGN);
    }
    let client = Client { identity, client_id };
    let is_denied = |will: &Will<'_>| {
        let wanted = Wanted { action: Action::Publish, topic: will.topic, qos: will.qos, retain: will.retain };
        !policy.allows(admission.grants.as_deref(), client, wanted)
    };
    if connect.will.as_ref().is_some_and(is_denied) { Err(Violation::WILL_DENIED) } else { Ok(()) }
}

/// The messages that a client may be sent before it acknowledges, 1 or more [MQTT-3.3.4-9] [MQTT-4.9.0-1].
fn send_maximum(connect: &Connect<'_>) -> u16 {
    match connect.version {
        Version::V5 => connect.properties.receive_maximum().unwrap_or(u16::MAX).min(SENT_MAX),
        Version::V31 | Version::V311 => SENT_MAX_3X,
    }
}

/// The topic aliases that a client may be sent [MQTT-3.1.2-26] [MQTT-3.1.2-27].
fn sent_alias_maximum(connect: &Connect<'_>) -> u8 {
    let taken = connect.properties.topic_alias_maximum().unwrap_or(0);
    u8::try_from(taken).map_or(SENT_ALIASES_MAX, |taken| taken.min(SENT_ALIASES_MAX))
}

/// The terms that a client is promised.
pub(super) fn terms(peer: Peer, settings: &Settings) -> Terms {
    let inflight_max = settings.inflight_max.max(1);
    let receive_maximum = settings.receive_maximum.clamp(1, inflight_max);
    let qos2_max = if peer.version == Version::V5 { receive_maximum } else { settings.qos2_inflight_3x.max(1) };
    Terms {
        receive_maximum,
        inflight_max,
        qos2_max,
        topic_alias_maximum: settings.topic_alias_maximum,
        topic_alias_bytes_max: settings.topic_alias_bytes_max,
        maximum_qos: settings.maximum_qos,
        retain_available: settings.retain_available,
        problem_information: peer.problem_information,
        packet_size_max: peer.packet_size_max,
        send_maximum: SENT_MAX_3X,
        sent_alias_maximum: 0,
        session_expiry_max_s: settings.session_expiry_max_s,
        asks_to_be_kept: false,
        wildcard_subscriptions: settings.wildcard_subscriptions,
        subscription_identifiers: settings.subscription_identifiers,
        shared_subscriptions: settings.shared_subscriptions,
        version: peer.version,
        role: if peer.is_remote { Role::Remote } else { Role::Client },
    }
}

fn will_bytes(connect: &Connect<'_>) -> usize {
    let will = connect.will.as_ref();
    will.map_or(0, |will| will.topic.len() + will.payload.len() + will.properties.raw().len())
}

/// Checks the user's bounds on kept sessions.
pub(super) fn within(connect: &Connect<'_>, bytes: usize, limits: &Limits) -> Result<(), Violation> {
    let is_over = |bytes: usize, max: u64| max > 0 && bytes as u64 > max;
    if is_over(will_bytes(connect), limits.will_bytes) {
        return Err(Violation::WILL_TOO_LARGE);
    }
    if is_over(bytes, limits.session_bytes) {
        return Err(Violation::SESSION_OF_USER_TOO_LARGE);
    }
    Ok(())
}

/// The most bytes that the session will hold of this CONNECT.
pub(super) fn bytes(connect: &Connect<'_>, plan: &Plan<'_>) -> usize {
    let (will, grants) = (will_bytes(connect), plan.grants_bytes);
    plan.client_id.len() + plan.username.map_or(0, str::len) + plan.auth.map_or(0, str::len) + grants + will
}

/// The expiry in seconds: 5.0 sets it; before, a session is kept or not [3.1.1 MQTT-3.1.2-4] [3.1.1 MQTT-3.1.2-6].
fn expiry_s(connect: &Connect<'_>, settings: &Settings) -> u32 {
    let asked = match connect.version {
        Version::V5 => connect.properties.session_expiry_interval_s().unwrap_or(0),
        Version::V31 | Version::V311 if connect.clean_start => 0,
        Version::V31 | Version::V311 => settings.session_expiry_3x_s,
    };
    asked.min(settings.session_expiry_max_s)
}

/// The client's, or the Server Keep Alive of CONNACK [MQTT-3.2.2-22] [MQTT-3.2.2-21].
fn keep_alive_s(connect: &Connect<'_>, settings: &Settings) -> u16 {
    match settings.keep_alive_max_s {
        Some(max) if connect.version == Version::V5 => connect.keep_alive_s.min(max),
        _ => connect.keep_alive_s,
    }
}

/// Appends the CONNACK of success [MQTT-3.1.4-5]. False, and nothing appended, if the client could not take it.
pub(super) fn connack(
    connect: &Connect<'_>,
    plan: &Plan<'_>,
    session_present: bool,
    settings: &Settings,
    out: &mut Vec<u8>,
) -> bool {
    let mut properties = PropertyBuf::new();
    if plan.terms.version == Version::V5 {
        describe(connect, plan, settings, &mut properties);
    }
    let properties = properties.as_properties();
    plan.terms.peer().send(&Packet::ConnAck(ConnAck { session_present, reason: ReasonCode::SUCCESS, properties }), out)
}

/// The properties of CONNACK (section 3.2.2.3): each is left out if its absence means the same. There is no Response Information
/// [MQTT-3.1.2-28].
fn describe(connect: &Connect<'_>, plan: &Plan<'_>, settings: &Settings, to: &mut PropertyBuf) {
    let terms = &plan.terms;
    if plan.expiry_s != connect.properties.session_expiry_interval_s().unwrap_or(0) {
        to.push(Property::SessionExpiryInterval(plan.expiry_s));
    }
    if terms.receive_maximum != u16::MAX {
        to.push(Property::ReceiveMaximum(terms.receive_maximum));
    }
    if terms.maximum_qos != QoS::ExactlyOnce {
        to.push(Property::MaximumQoS(terms.maximum_qos as u8)); // [MQTT-3.2.2-9]
    }
    if !terms.retain_available {
        to.push(Property::RetainAvailable(false));
    }
    if let Some(bytes) = settings.packet_size_max {
        to.push(Property::MaximumPacketSize(bytes.max(1)));
    }
    if connect.client_id.is_empty() {
        to.push(Property::AssignedClientIdentifier(plan.client_id)); // [MQTT-3.2.2-16]
    }
    if terms.topic_alias_maximum > 0 {
        to.push(Property::TopicAliasMaximum(terms.topic_alias_maximum));
    }
    if !terms.wildcard_subscriptions {
        to.push(Property::WildcardSubscriptionAvailable(false));
    }
    if !terms.subscription_identifiers {
        to.push(Property::SubscriptionIdentifierAvailable(false));
    }
    if !terms.shared_subscriptions {
        to.push(Property::SharedSubscriptionAvailable(false));
    }
    if plan.keep_alive_s != connect.keep_alive_s {
        to.push(Property::ServerKeepAlive(plan.keep_alive_s)); // [MQTT-3.1.2-21]
    }
    if !settings.instance.is_empty() && connect.properties.user_properties().any(|(name, _)| name == VIA) {
        to.push(Property::UserProperty(VIA, &settings.instance));
    }
    if let Some((method, data)) = plan.exchanged {
        to.push(Property::AuthenticationMethod(method)); // [MQTT-4.12.0-5] [MQTT-4.12.0-6]
        to.push(Property::AuthenticationData(data));
    }
}
