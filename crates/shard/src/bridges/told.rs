//! Metrics and events of bridges.

use std::time::Duration;

use forebay_bridge::{Granted, Unfit, way};
use forebay_broker::here::Here;
use forebay_broker::words::{clipped, second};
use forebay_guard::outward::News;
use forebay_metrics::event::{Event, Field, Kind};
use forebay_metrics::spec::BridgeMetric as M;
use forebay_mqtt::packet::{Publish, QoS};
use forebay_runtime::seam::Monotonic;
use forebay_session::Session;

use super::super::Core;
use super::inspect::refused;
use super::messages::Flood;

/// The counters of a bridge in this process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Connections that the remote has accepted.
    pub(super) connects: u64,
    /// Bytes of packets of the remote.
    pub(super) received_bytes: u64,
    /// Messages of the remote that were taken.
    pub(super) received: u64,
    /// Messages of the remote at QoS 0, with any outcome.
    pub(super) received_qos_0: u64,
    /// The number of the next message of QoS 1 or 2.
    pub(super) numbered: u32,
    /// The number of the oldest unanswered message at the last check.
    pub(super) owed: u32,
    /// Messages of QoS 1 and 2 that are over: answered, or their connection is gone.
    pub(super) settled: u64,
    /// Messages of the remote that no filter of the bridge matches.
    pub(super) unasked: u64,
    /// The recent ones among those.
    pub(super) flood: Flood,
    /// Messages of the remote that have come through this instance before.
    pub(super) looped: u64,
    /// Messages of the remote that the bridge cannot convert.
    pub(super) unfit: u64,
    /// Messages sent again that the remote had no room for.
    pub(super) sent_again: u64,
    /// Messages that the remote has refused and that are dead letters.
    pub(super) dead_lettered: u64,
    /// Retained messages of the remote that are not wanted.
    pub(super) retained: u64,
    /// The time at which the remote last seems to have given the session to another client.
    pub(super) taken_over: Option<Monotonic>,
}

/// The time after a takeover within which an end that looks like another one is reported.
const TAKEOVERS_WITHIN: Duration = Duration::from_secs(60);

impl Counts {
    /// Notes a message of the remote that is answered or will be. False: it is a repeat of one that is.
    pub(super) fn takes(&mut self, qos: QoS, next: u32) -> bool {
        if qos == QoS::AtMostOnce {
            self.received_qos_0 += 1;
            return true;
        }
        std::mem::replace(&mut self.numbered, next) != next
    }
}

/// Reports an event of a bridge.
pub(super) fn tell(here: &mut Here, kind: Kind, now: Monotonic, index: usize, with: impl FnOnce(Event) -> Event) {
    let bridge = &here.config.bridges[index];
    here.teller.tell(kind, second(now), |event| {
        let event = event.with(Field::Bridge, bridge.name.as_str());
        with(event.with(Field::Remote, bridge.url.endpoint().to_string()))
    });
}

fn tell_filter_refused(here: &mut Here, now: Monotonic, index: usize, (filter, why): (&str, &str)) {
    tell(here, Kind::BridgeFilterRefused, now, index, |event| {
        event.with(Field::MqttTopic, clipped(filter)).with(Field::Reason, why)
    });
}

impl Core {
    pub(super) fn tell_bridge_connected(&mut self, now: Monotonic, index: usize, granted: &Granted) {
        if let Some(running) = self.bridges.all.get_mut(&index) {
            running.counts.connects += 1;
        }
        tell(&mut self.here, Kind::BridgeConnected, now, index, |event| {
            event.with(Field::Protocol, granted.version.as_str()).with(Field::SessionPresent, granted.session_present)
        });
    }

    pub(super) fn tell_bridge_lost(&mut self, now: Monotonic, index: usize, why: &str) {
        tell(&mut self.here, Kind::BridgeLost, now, index, |event| event.with(Field::Reason, why));
    }

    /// Reports that the remote ends the connection again and again, as it does when another client has the session. `why`: its reason, if it could report
    /// one; otherwise it may also be a message that it does not take.
    pub(super) fn note_taken_over(&mut self, now: Monotonic, index: usize, why: Option<&str>) {
        let Some(running) = self.bridges.all.get_mut(&index) else { return };
        let last = running.counts.taken_over.replace(now);
        if last.is_none_or(|last| now.since(last) >= TAKEOVERS_WITHIN) {
            return;
        }
        let session = self.broker.sessions.get(running.session).filter(|_| why.is_none());
        let sent = session.and_then(Session::oldest_sent);
        let publish = sent.as_ref().and_then(|body| body.publish());
        tell(&mut self.here, Kind::BridgeTakenOver, now, index, |event| {
            let event = event.with(Field::Reason, why.unwrap_or("closed without a word"));
            match &publish {
                Some(publish) => {
                    let bytes = (publish.topic.len() + publish.payload.len()) as u64;
                    event.with(Field::MqttTopic, clipped(publish.topic)).with(Field::Bytes, bytes)
                }
                None => event,
            }
        });
    }

    /// Reports that the remote has probably been sent more messages than it takes.
    pub(super) fn tell_bridge_overrun(&mut self, now: Monotonic, index: usize, (open, most): (usize, u16)) {
        tell(&mut self.here, Kind::BridgeOverrun, now, index, |event| {
            event.with(Field::Open, open as u64).with(Field::InflightMax, u64::from(most))
        });
    }

    pub(super) fn tell_bridge_unreachable(&mut self, now: Monotonic, index: usize, why: &str) {
        tell(&mut self.here, Kind::BridgeUnreachable, now, index, |event| event.with(Field::Reason, why));
    }

    pub(super) fn tell_bridge_session_lost(&mut self, now: Monotonic, index: usize, may_double: usize) {
        tell(&mut self.here, Kind::BridgeSessionLost, now, index, |event| {
            event.with(Field::Records, may_double as u64)
        });
    }

    pub(super) fn tell_bridge_news(&mut self, now: Monotonic, index: usize, news: News) {
        let why = match news {
            News::LoginRefused(login) => login.reason,
            News::TlsFailed(_, why) => format!("TLS: {why}"),
            News::BrokerReachable(_) | News::Reachable(_) => return,
        };
        tell(&mut self.here, Kind::BridgeRefused, now, index, |event| event.with(Field::Reason, why));
    }

    /// Reports filters that the remote has refused.
    pub(super) fn tell_bridge_filters(&mut self, now: Monotonic, index: usize) {
        let Some(running) = self.bridges.all.get(&index) else { return };
        for (filter, why) in refused(&running.client) {
            tell_filter_refused(&mut self.here, now, index, (filter, why));
        }
    }

    /// Reports a filter that cannot be subscribed to here.
    pub(super) fn tell_bridge_filter_refused(&mut self, now: Monotonic, index: usize, filter: &str, why: &str) {
        tell_filter_refused(&mut self.here, now, index, (filter, why));
    }

    /// Reports a message of the remote that goes no further.
    pub(super) fn tell_bridge_unfit(&mut self, now: Monotonic, index: usize, publish: &Publish<'_>, why: Unfit) {
        let via = way(publish.properties);
        self.tell_bridge_dropped(now, index, publish.topic, (why, via));
    }

    fn tell_bridge_dropped(&mut self, now: Monotonic, index: usize, topic: &str, (why, via): (Unfit, String)) {
        tell(&mut self.here, Kind::BridgeDropped, now, index, |event| {
            let event = event.with(Field::MqttTopic, clipped(topic)).with(Field::Reason, why.label());
            let event = if let Unfit::TooLong(bytes) = why { event.with(Field::Bytes, bytes as u64) } else { event };
            if via.is_empty() { event } else { event.with(Field::Via, via) }
        });
    }

    /// Reports messages that would have come round to the remote.
    pub(super) fn tell_loops(&mut self, now: Monotonic) {
        for (index, session) in self.bridges.all.iter().map(|(index, of)| (*index, of.session)).collect::<Vec<_>>() {
            if let Some((topic, why, via)) = self.broker.delivery.remotes.take_looped(session) {
                self.tell_bridge_dropped(now, index, &topic, (why, via));
            }
        }
    }

    /// Sets the metrics of the bridges, again once one of them can have changed: pending messages may be answered or sent at any time.
    pub(super) fn set_bridge_numbers(&mut self) {
        self.bridges.is_shown = true;
        for (index, running) in &mut self.bridges.all {
            let session = self.broker.sessions.get(running.session);
            let (oldest, next) = session.map(Session::owed_numbers).unwrap_or_default();
            running.counts.settled += u64::from(oldest.wrapping_sub(running.counts.owed));
            running.counts.owed = oldest;
            let (counts, out) = (running.counts, self.broker.delivery.remotes.counts(running.session));
            let (open, queued) = session.map(Session::undelivered).unwrap_or_default();
            self.bridges.is_shown &= oldest == next && (open + queued == 0 || running.at.is_none());
            let stats = running.client.stats();
            let state = running.state(&self.here.config.bridges[*index]);
            let values = [
                (M::State, state as u64),
                (M::Connected, u64::from(running.at.is_some())),
                (M::Connects, counts.connects),
                (M::Failures, stats.failures),
                (M::Refused, stats.logins_refused + stats.tls_failures),
                (M::Malformed, stats.malformed),
                (M::ReceivedBytes, counts.received_bytes),
                (M::Received, counts.received),
                (M::Unasked, counts.unasked),
                (M::Looped, counts.looped),
                (M::Unfit, counts.unfit),
                (M::RetainedLeftOut, counts.retained),
                (M::SentAgain, counts.sent_again),
                (M::Settled, counts.received_qos_0 + counts.settled),
                (M::Unsettled, u64::from(next.wrapping_sub(oldest))),
                (M::Begun, out.begun),
                (M::Delivered, out.delivered),
                (M::DeadLettered, counts.dead_lettered),
                (M::Dropped, out.dropped),
                (M::Open, open as u64),
                (M::Queued, queued as u64),
                (M::QueuedBytes, session.map_or(0, Session::queued_bytes) as u64),
            ];
            for (metric, value) in values {
                self.here.numbers.set_bridge(*index, metric, value);
            }
        }
    }
}
