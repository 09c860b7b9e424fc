//! The will of a connection: its compact form, and its due time (section 3.1.2.5).

use super::client_key::ClientKey;
use super::store::SessionKey;
use forebay_guard::auth::By;
use forebay_guard::auth::acl::Grants;
use forebay_mqtt::packet::{self, Publish, QoS};
use forebay_mqtt::property::{Property, PropertyBuf};
use forebay_runtime::seam::Monotonic;
use std::sync::Arc;
use std::time::Duration;

/// A will that is stored [MQTT-3.1.2-7]. Boxed in its session: most sessions have none.
#[derive(Debug)]
pub(super) struct Will {
    qos: QoS,
    retain: bool,
    topic: Box<str>,
    payload: Box<[u8]>,
    /// The properties that a PUBLISH may carry, in order [MQTT-3.1.3-10]; the Will Delay Interval is a field of its own.
    properties: PropertyBuf,
    pub(super) delay_s: u32,
    /// The time at which the will is sent; [`Monotonic::NEVER`] while the client is connected.
    pub(super) due: Monotonic,
}

impl Will {
    pub(super) fn store(will: &packet::Will<'_>) -> Box<Self> {
        let mut properties = PropertyBuf::new();
        properties
            .extend(will.properties.iter().filter(|property| !matches!(property, Property::WillDelayInterval(_))));
        Box::new(Self {
            qos: will.qos,
            retain: will.retain,
            topic: will.topic.into(),
            payload: will.payload.into(),
            properties,
            delay_s: will.properties.will_delay_interval_s().unwrap_or(0),
            due: Monotonic::NEVER,
        })
    }

    /// The will as in its CONNECT, without its delay.
    pub(super) fn as_sent(&self) -> packet::Will<'_> {
        packet::Will {
            qos: self.qos,
            retain: self.retain,
            topic: &self.topic,
            payload: &self.payload,
            properties: self.properties.as_properties(),
        }
    }

    /// Bytes of the fields that the client chose.
    pub(super) fn bytes(&self) -> usize {
        self.topic.len() + self.payload.len() + self.properties.as_properties().raw().len()
    }

    /// Whether the will is sent as soon as its connection is gone.
    pub(super) fn is_immediate(&self) -> bool {
        self.delay_s == 0
    }

    /// The time at which the will is due if the connection closed this long before now: after its delay, or when the session ends, whichever is
    /// first [MQTT-3.1.2-8]. `ends` is the session's end.
    pub(super) fn due_after(&self, now: Monotonic, before: Duration, ends: Monotonic) -> Monotonic {
        now.after(Duration::from_secs(u64::from(self.delay_s)).saturating_sub(before)).min(ends)
    }
}

/// A will that is due, with the facts about its sender that a sink's templates may need. It is routed like a PUBLISH, but no answer
/// is pending.
#[derive(Debug)]
pub struct DueWill {
    /// The client that left the will.
    pub client_id: Box<str>,
    /// The user name of its last connection.
    pub username: Option<Box<str>>,
    /// The auth of that connection, if it had one, which still has to grant the will.
    pub auth: Option<Box<str>>,
    /// The credentials that admitted the client; `None`: unknown, for a client of an earlier process.
    pub by: Option<By>,
    /// The permissions from the client's token.
    pub grants: Option<Arc<Grants>>,
    /// The client's session, if that survives a crash: the log has the will with it until [`super::Sessions::will_is_over`].
    pub session: Option<SessionKey>,
    /// The will's own record in the log, of a session that has ended with its connection: likewise.
    pub record: Option<u64>,
    pub(super) will: Box<Will>,
}

impl DueWill {
    /// The owner of the will.
    #[must_use]
    pub fn client(&self) -> ClientKey<'_> {
        ClientKey { auth: self.auth.as_deref(), client_id: &self.client_id }
    }

    /// The bytes that its client chose the number of.
    pub(super) fn bytes(&self) -> usize {
        let of = |text: &Option<Box<str>>| text.as_deref().map_or(0, str::len);
        let grants = self.grants.as_ref().map_or(0, |grants| grants.bytes());
        self.client_id.len() + of(&self.username) + of(&self.auth) + grants + self.will.bytes()
    }

    /// The message as in a PUBLISH. The packet id is 0 and meaningless.
    #[must_use]
    pub fn publish(&self) -> Publish<'_> {
        let will = &self.will;
        Publish {
            dup: false,
            qos: will.qos,
            retain: will.retain, // [MQTT-3.1.2-14] [MQTT-3.1.2-15]
            topic: &will.topic,
            packet_id: 0,
            properties: will.properties.as_properties(),
            payload: &will.payload,
        }
    }
}
