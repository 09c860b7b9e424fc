//! `$SYS/…`: topics that the service publishes about itself. The messages are retained, in memory only. Clients may not publish there.

use forebay_broker::words::Feeds;
use forebay_mqtt::packet::{Publish, QoS};
use forebay_mqtt::property::Properties;
use forebay_session::ClientKey;

use super::Publishing;
use super::admit::{Publication, Publisher};
use crate::ring::Ring;

/// The rule that keeps clients from publishing to these topics, as denial events name it.
pub(super) const RULE: &str = "topics that begin with $SYS/ are the service's own";

impl Publishing<'_> {
    /// Publishes these values to subscribers of all shards, retained. A value that finds no room is published when it has changed.
    pub(crate) fn publish_sys_topics(&mut self, io: &mut Ring<'_>, values: &[(&'static str, String)]) {
        for (topic, value) in values {
            let publish = Publish {
                dup: false,
                qos: QoS::AtMostOnce,
                retain: true,
                topic,
                packet_id: 0,
                properties: Properties::EMPTY,
                payload: value.as_bytes(),
            };
            let client = ClientKey { auth: None, client_id: "" };
            let (username, time, publish) = (None, io.wall(), &publish);
            let feeds = Feeds { sinks: false, route: false, ..Feeds::ALL };
            let of =
                Publication { publish, client, username, time, feeds, hops: 0, beside: None, by: Publisher::Service };
            if let Ok(admitted) = self.admit(io, &of, None) {
                self.hand_on(io, &of, admitted);
            }
        }
    }
}
