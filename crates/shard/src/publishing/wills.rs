//! Wills that are due, published to sinks and subscribers like any message. No answer is pending for a will, and it has no socket to be left in: a will that
//! finds no room waits in [`forebay_session::Sessions`], within the bytes that all sessions may hold.

use forebay_broker::delivery::packet_bytes;
use forebay_broker::here::Here;
use forebay_broker::retained::Publisher as RetainedBy;
use forebay_broker::words::{denied, second};
use forebay_guard::auth::Owner;
use forebay_guard::auth::acl::{Action, Client, Wanted};
use forebay_metrics::spec::ShardMetric as M;
use forebay_mqtt::topic::is_of_service_alone;
use forebay_runtime::seam::Monotonic;
use forebay_session::{DueWill, SessionKey};

use super::admit::{Publication, Publisher};
use super::{Publishing, sys_topics};
use crate::ring::Ring;

/// The most wills admitted again each time that room has become free. The others have their turn the next time.
const OFFERED_AGAIN_MAX: usize = 64;

impl Publishing<'_> {
    /// Publishes due wills, and those that waited if there may be room for them now. In a new process wills wait until each shard has reported what it knows:
    /// all have their sessions and retained messages by then. False: some are left for the next turn.
    pub(crate) fn publish_wills(&mut self, io: &mut Ring<'_>) -> bool {
        if !self.broker.queues.have_all_told() {
            return true;
        }
        if self.broker.sessions.wills_waiting() > 0 {
            let freed = self.freed();
            if std::mem::replace(&mut self.broker.keeping.wills_offered_at, freed) != freed {
                self.broker.sessions.offer_wills_again(OFFERED_AGAIN_MAX);
            }
        }
        // The client of a due will is no longer a subscriber or a member of a share.
        if self.broker.sessions.has_due_wills() && !self.are_gone(io) {
            return false;
        }
        io.next_quantum();
        for published in 1.. {
            let Some(due) = self.broker.sessions.next_will() else { break };
            self.publish_will(io, due);
            if io.is_over_after(published) {
                break;
            }
        }
        self.here.numbers.set(M::WillsWaiting, self.broker.sessions.wills_waiting() as u64);
        let are_all_published = !self.broker.sessions.has_due_wills();
        if !are_all_published {
            io.go_on();
        }
        are_all_published
    }

    /// Publishes the wills that earlier connections of a client have left.
    pub(crate) fn publish_wills_of(&mut self, io: &mut Ring<'_>, key: SessionKey) {
        if !self.broker.queues.have_all_told() || !self.broker.sessions.has_due_wills() {
            return;
        }
        while !self.are_gone(io) {}
        while let Some(due) = self.broker.sessions.next_will_of(key) {
            self.publish_will(io, due);
        }
    }

    /// Ends the subscriptions of sessions that have ended, and passes over members without a connection. False: the turn is too short for all.
    fn are_gone(&mut self, io: &mut Ring<'_>) -> bool {
        let are_forgotten = self.broker.forget_subscriptions(io);
        self.broker.members_gone(self.here, io.now());
        are_forgotten
    }

    /// Ends a will that was published or refused: the log drops it in this turn.
    fn will_is_over(&mut self, (session, record): (Option<SessionKey>, Option<u64>)) {
        if (session.is_some() || record.is_some()) && self.here.rules.ends_will() {
            self.broker.sessions.will_is_over(session, record);
            self.broker.write_notes(self.here);
        }
    }

    fn publish_will(&mut self, io: &mut Ring<'_>, due: DueWill) {
        let (now, wall) = (io.now(), io.wall());
        let publish = due.publish();
        let username = due.username.as_deref();
        if let Some(why) = why_denied(self.here, &due) {
            self.here.numbers.count(M::WillsDenied);
            denied(&mut self.here.teller, second(now), "will", due.client(), username, publish.topic, || Some(why));
            return self.will_is_over((due.session, due.record));
        }
        let client = due.client();
        let (time, hops, of) = (wall, 0, &publish);
        let feeds = self.outlets.feeds;
        let by = Publisher::Will(RetainedBy::of_will(&due));
        let of = Publication { publish: of, client, username, time, feeds, hops, beside: None, by };
        let Ok(admitted) = self.admit(io, &of, None) else { return self.broker.sessions.keep_will(due) };
        self.here.numbers.count(M::Wills);
        self.here.numbers.count_routed(None, admitted.routed, 1);
        charge_will(self.here, &due, packet_bytes(publish.topic, &publish), now);
        // The end is in one group with this shard's records of the will.
        self.will_is_over((due.session, due.record));
        let _nobody_waits = self.hand_on(io, &of, admitted);
    }
}

/// The reason why the client of a will may not publish it now, as the event names it. `None`: the client would be admitted, and the rules allow the
/// publish.
fn why_denied(here: &Here, due: &DueWill) -> Option<String> {
    let (publish, username) = (due.publish(), due.username.as_deref());
    if is_of_service_alone(publish.topic) {
        return Some(sys_topics::RULE.to_owned());
    }
    let (auth, edge) = (due.auth.as_deref()?, &here.edge);
    let Some(policy) = edge.policy(auth).filter(|_| edge.still_admits(auth, username, due.by.as_ref())) else {
        return Some(format!("auth {auth} would not admit the client any more"));
    };
    let client = Client { identity: username, client_id: &due.client_id };
    let wanted = Wanted { action: Action::Publish, topic: publish.topic, qos: publish.qos, retain: publish.retain };
    let grants = due.grants.as_deref();
    if policy.allows(grants, client, wanted) { None } else { Some(policy.decides(grants, client, wanted)) }
}

/// Charges a will to the messages of its user.
fn charge_will(here: &Here, due: &DueWill, bytes: usize, now: Monotonic) {
    let Some((auth, policy)) = due.auth.as_ref().and_then(|auth| Some((auth, here.edge.policy(auth)?))) else {
        return;
    };
    let limits = &policy.settings().limits;
    if limits.has_rates() {
        let owner = Owner::new(auth, due.username.as_deref(), &due.client_id);
        here.shares.charge(&owner, limits, bytes, now);
    }
}
