//! Messages that the control plane publishes: to sinks, rules, subscribers and the home of a retained one, like a client's. A message does not wait for room:
//! if there is none, no receiver gets it, and the caller is notified.

use forebay_broker::words::Feeds;
use forebay_metrics::inspect::{Ordered, ToPublish};
use forebay_metrics::spec::ShardMetric as M;
use forebay_mqtt::packet::{Publish, QoS};
use forebay_mqtt::property::{Property, PropertyBuf};
use forebay_mqtt::topic::{is_of_service, valid_name};
use forebay_session::ClientKey;

use super::Core;
use super::publishing::admit::{Publication, Publisher};
use super::ring::Ring;

/// The client identifier of such messages, as sinks and events name it. No client is it: there is none with this user.
const CLIENT: &str = "$api";

impl Core {
    /// Publishes a message.
    pub(super) fn publish_ordered(&mut self, io: &mut Ring<'_>, of: &ToPublish) -> Ordered {
        let Some(qos) = QoS::from_bits(of.qos) else { return Ordered::Invalid("qos: 0, 1 or 2".to_owned()) };
        if !valid_name(&of.topic) {
            return Ordered::Invalid(format!("topic: {:?} is no topic of a message", of.topic));
        }
        if is_of_service(&of.topic) {
            return Ordered::Invalid(format!("topic: {:?} is the service's own", of.topic));
        }
        let Some(properties) = properties(of) else {
            return Ordered::Invalid("a property is longer than MQTT allows, or holds U+0000".to_owned());
        };
        let max = self.here.config.mqtt.packet_bytes_max as usize;
        let bytes = of.topic.len() + properties.as_properties().raw().len() + of.payload.len();
        if bytes > max {
            return Ordered::Invalid(format!("{bytes} bytes: packet_bytes_max of [mqtt] is {max}"));
        }
        let publish = Publish {
            dup: false,
            qos,
            retain: of.retain,
            topic: &of.topic,
            packet_id: u16::from(qos > QoS::AtMostOnce),
            properties: properties.as_properties(),
            payload: &of.payload,
        };
        let publication = Publication {
            publish: &publish,
            client: ClientKey { auth: None, client_id: CLIENT },
            username: of.username.as_deref(),
            time: io.wall(),
            feeds: Feeds::ALL,
            hops: 0,
            beside: None,
            by: Publisher::Service,
        };
        let Ok(admitted) = self.publishing().admit(io, &publication, None) else {
            return Ordered::NoRoom;
        };
        self.here.numbers.count(M::PublishesOrdered);
        self.here.numbers.count_routed(None, admitted.routed, 1);
        let (is_refused, is_any) = (admitted.is_refused, admitted.is_any());
        let _nobody_waits = self.publishing().hand_on(io, &publication, admitted);
        match (is_refused, is_any) {
            (true, _) => Ordered::Refused,
            (false, true) => Ordered::Taken,
            (false, false) => Ordered::Unmatched,
        }
    }
}

/// The properties of a message. `None`: one of them is invalid.
fn properties(of: &ToPublish) -> Option<PropertyBuf> {
    let mut all = PropertyBuf::default();
    let fits = |text: &str| u16::try_from(text.len()).is_ok() && !text.contains('\0');
    let expiry = of.expiry_s.map(Property::MessageExpiryInterval);
    let content_type = of.content_type.as_deref().map(Property::ContentType);
    let of_user = of.user_properties.iter().map(|(name, value)| Property::UserProperty(name, value));
    let texts = of.content_type.iter().chain(of.user_properties.iter().flat_map(|(name, value)| [name, value]));
    let are_fine = texts.into_iter().all(|text| fits(text))
        && expiry.into_iter().chain(content_type).chain(of_user).all(|property| all.push(property));
    are_fine.then_some(all)
}
