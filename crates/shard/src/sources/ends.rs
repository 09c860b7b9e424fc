//! Retained messages that expire: the topic of `[broker]` with their copies gets a tombstone for each. The shard that reads the partition of the record
//! writes it, as it does the copies: after those of earlier records of the MQTT topic, and before those of later ones.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use forebay_broker::mail::Expiring;
use forebay_broker::words::Feeds;

use super::Sources;
use crate::publishing::Publishing;
use crate::publishing::admit::{Publication, Publisher};
use crate::ring::Ring;
use forebay_base::limits::RETAINED_EXPIRED_AT_ONCE_MAX;
use forebay_config::{self as config, Config};
use forebay_mqtt::packet::{Publish, QoS};
use forebay_mqtt::property::Properties;
use forebay_runtime::seam::Monotonic;
use forebay_session::{ClientKey, RecordPlace};

/// The newest records that have a copy which expires, by MQTT topic.
#[derive(Debug, Default)]
pub(super) struct Ends {
    of: HashMap<Arc<str>, (Monotonic, RecordPlace)>,
    /// Orders copies by the time of expiry.
    due: BTreeSet<(Monotonic, Arc<str>)>,
}

impl Ends {
    /// Notes the copy of a record, which replaces that of an earlier one. `until`: when it expires, if it does. At most `most` are noted; the others are
    /// found expired when the topic is read the next time.
    pub(super) fn note(&mut self, topic: &str, place: RecordPlace, until: Option<Monotonic>, most: usize) {
        if let Some((topic, (before, _))) = self.of.remove_entry(topic) {
            self.due.remove(&(before, topic));
        }
        if let Some(until) = until.filter(|_| self.of.len() < most) {
            let topic: Arc<str> = Arc::from(topic);
            self.of.insert(Arc::clone(&topic), (until, place));
            self.due.insert((until, topic));
        }
    }

    /// The time of the next expiry.
    pub(super) fn due(&self) -> Monotonic {
        self.due.first().map_or(Monotonic::NEVER, |(until, _)| *until)
    }

    /// The first expired one.
    fn expired(&self, now: Monotonic) -> Option<(Arc<str>, RecordPlace)> {
        let (_, topic) = self.due.first().filter(|(until, _)| *until <= now)?;
        self.of.get(topic).map(|(_, place)| (Arc::clone(topic), *place))
    }
}

/// The time at which a message expires, by its own interval or that of the configuration.
pub(super) fn until(publish: &Publish<'_>, config: &Config, now: Monotonic) -> Option<Monotonic> {
    if publish.payload.is_empty() {
        return None;
    }
    let own = publish.properties.message_expiry_interval_s();
    let seconds = own.into_iter().chain(config.retained.expire_after_s).min()?;
    Some(now.after(Duration::from_secs(seconds.into())))
}

impl Sources {
    /// Takes the copies that expire from what the process has read of their topic at its beginning.
    pub(super) fn take_expiring(&mut self, expiring: Vec<Expiring>, config: &Config, now: Monotonic) {
        for Expiring { topic, place, left } in expiring {
            self.ends.note(&topic, place, Some(now.after(left)), config.retained.messages_max);
        }
    }

    /// Writes tombstones for copies that have expired, as far as there is room.
    pub(super) fn end_expired(&mut self, io: &mut Ring<'_>, to: &mut Publishing<'_>, config: &Config) -> bool {
        let now = io.now();
        let mut any = false;
        for _ in 0..RETAINED_EXPIRED_AT_ONCE_MAX {
            let Some((topic, place)) = self.ends.expired(now) else { break };
            let publish = Publish {
                dup: false,
                qos: QoS::AtMostOnce,
                retain: true,
                topic: &topic,
                packet_id: 0,
                properties: Properties::EMPTY,
                payload: &[],
            };
            let client = ClientKey { auth: None, client_id: config::BROKER };
            let feeds = Feeds { retained: true, ..Feeds::NONE };
            let (time, username, hops, beside, by) = (io.wall(), None, 0, None, Publisher::Expired(place));
            let publication = Publication { publish: &publish, client, username, time, feeds, hops, beside, by };
            if to.admit(io, &publication, None).is_err() {
                break;
            }
            any = true;
            self.ends.note(&topic, place, None, config.retained.messages_max);
        }
        any
    }
}
