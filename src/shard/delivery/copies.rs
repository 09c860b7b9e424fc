//! What a subscriber gets of a message: encoded once for all that get the same bytes.

use std::ops::Range;

use smallvec::SmallVec;

use crate::limits::SUBSCRIBER_UNSENT_BYTES_MAX;
use crate::metrics::event::{Field, Kind as EventKind};
use crate::metrics::spec::ShardMetric as M;
use crate::mqtt::encode;
use crate::mqtt::packet::{Publish, QoS, Version};
use crate::mqtt::property::{Property, PropertyBuf};
use crate::route::filter;
use crate::route::subscriptions::Subscriber;
use crate::session::{SessionKey, Subscription};

use super::super::events::{clipped, second};
use super::super::{Core, Ring};

/// Subscription Identifiers of a copy.
type Identifiers = SmallVec<[u32; 2]>;

/// The forms in which copies of the message at hand have been encoded.
#[derive(Debug, Default)]
pub(super) struct Copies {
    bytes: Vec<u8>,
    /// By version (before 5.0, 5.0) and RETAIN.
    forms: [Option<Range<usize>>; 4],
    /// The last with identifiers.
    identified: Option<(Identifiers, bool, Range<usize>)>,
}

impl Copies {
    /// Another message is at hand.
    pub(super) fn begin(&mut self) {
        self.bytes.clear();
        self.forms = Default::default();
        self.identified = None;
    }

    fn form(
        &mut self,
        publish: &Publish<'_>,
        version: Version,
        retain: bool,
        identifiers: &Identifiers,
        waited_s: u32,
    ) -> &[u8] {
        let is_v5 = version == Version::V5;
        let known = if is_v5 && !identifiers.is_empty() {
            let same =
                |(of, retained, _): &&(Identifiers, bool, Range<usize>)| of == identifiers && *retained == retain;
            self.identified.as_ref().filter(same).map(|(_, _, range)| range.clone())
        } else {
            self.forms[usize::from(is_v5) << 1 | usize::from(retain)].clone()
        };
        let range = known.unwrap_or_else(|| {
            let mut properties = if is_v5 { forwarded(publish, waited_s) } else { PropertyBuf::new() };
            if is_v5 {
                properties.extend(identifiers.iter().map(|id| Property::SubscriptionIdentifier(*id)));
            }
            let copy = Publish {
                dup: false,
                qos: QoS::AtMostOnce,
                retain,
                packet_id: 0,
                properties: properties.as_properties(),
                ..publish.clone()
            };
            let from = self.bytes.len();
            if encode::publish(version, &copy, &mut self.bytes).is_err() {
                // With identifiers it is longer than any packet may be: nobody can be sent it.
                self.bytes.truncate(from);
            }
            let range = from..self.bytes.len();
            if is_v5 && !identifiers.is_empty() {
                self.identified = Some((identifiers.clone(), retain, range.clone()));
            } else {
                self.forms[usize::from(is_v5) << 1 | usize::from(retain)] = Some(range.clone());
            }
            range
        });
        &self.bytes[range]
    }
}

/// The properties of a message that go on to its subscribers [MQTT-3.3.2-4] to [MQTT-3.3.2-20]: all but its topic alias, and its
/// expiry less what it has waited.
pub(super) fn forwarded(publish: &Publish<'_>, waited_s: u32) -> PropertyBuf {
    let forwarded = publish.properties.iter().filter_map(|property| match property {
        Property::TopicAlias(_) | Property::SubscriptionIdentifier(_) => None,
        // [MQTT-3.3.2-6]
        Property::MessageExpiryInterval(s) => Some(Property::MessageExpiryInterval(s.saturating_sub(waited_s))),
        property => Some(property),
    });
    let mut properties = PropertyBuf::new();
    properties.extend(forwarded);
    properties
}

impl Core {
    /// One copy, for the matching subscriptions of one session. `is_stale`: some may have ended since they were found.
    pub(super) fn copy(
        &mut self,
        io: &mut Ring<'_>,
        publish: &Publish<'_>,
        of: &[Subscriber<SessionKey>],
        waited_s: u32,
        is_stale: bool,
    ) {
        let dropped = match self.try_copy(io, publish, of, waited_s, is_stale) {
            Ok(()) => return self.numbers.count(M::CopiesSent),
            Err(dropped) => dropped,
        };
        self.numbers.count(dropped);
        let what = match dropped {
            M::CopiesSlow => "the client does not read fast enough",
            M::CopiesTooLarge => "larger than the client's Maximum Packet Size",
            _ => return,
        };
        let client = self.sessions.get(of[0].session).map(|session| clipped(session.client_id()));
        self.teller.tell(EventKind::MessageDropped, second(io.now()), |event| {
            let event = event.maybe(Field::Client, client).with(Field::MqttTopic, clipped(publish.topic));
            event.with(Field::Reason, what)
        });
    }

    /// # Errors
    /// Why there is none.
    fn try_copy(
        &mut self,
        io: &mut Ring<'_>,
        publish: &Publish<'_>,
        of: &[Subscriber<SessionKey>],
        waited_s: u32,
        is_stale: bool,
    ) -> Result<(), M> {
        let session = self.sessions.get(of[0].session).ok_or(M::CopiesEnded)?;
        let has_it = |of: &Subscription| filter::matches(&of.filter, publish.topic);
        if is_stale && !session.subscriptions().iter().any(has_it) {
            return Err(M::CopiesEnded);
        }
        let conn = session.conn().ok_or(M::CopiesAway)?;
        let retain = publish.retain && of.iter().any(|of| of.options.retain_as_published); // [MQTT-3.3.1-12]
        if of.iter().all(|of| of.is_checked) && !session.may_receive(publish.topic, publish.qos, publish.retain) {
            return Err(M::CopiesDenied);
        }
        let is_expired = publish.properties.message_expiry_interval_s().is_some_and(|s| s <= waited_s) && waited_s > 0;
        if is_expired {
            return Err(M::CopiesExpired);
        }
        let peer = session.peer();
        let identifiers: Identifiers = of.iter().map(|of| of.identifier).filter(|id| *id != 0).collect();
        let copy = self.delivery.copies.form(publish, peer.version, retain, &identifiers, waited_s);
        if copy.is_empty() || copy.len() > peer.packet_size_max as usize {
            return Err(M::CopiesTooLarge); // [MQTT-3.1.2-25]
        }
        if self.keeping.holds.unsent(io, conn) > SUBSCRIBER_UNSENT_BYTES_MAX {
            return Err(M::CopiesSlow);
        }
        let holds = &mut self.keeping.holds;
        let out = holds.out(io, conn);
        let from = out.len();
        out.extend_from_slice(copy);
        holds.wrote(conn, from);
        Ok(())
    }
}
