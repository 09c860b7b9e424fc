//! Members that do not acknowledge. After `share_ack_timeout` the copies of QoS 1 that such a client was sent go to other members, and the client is sent
//! nothing of the share until it has acknowledged. Its packet identifiers stay in use, so it may still acknowledge, and is sent no more than its Receive
//! Maximum. Copies of QoS 2 stay with it: no other client may get them [MQTT-4.8.2-4]. If those end with its connection, no record waits for it any longer. A
//! client that has left its shares is checked until it has answered every copy that it was sent of them.

use std::collections::BTreeSet;
use std::time::Duration;

use forebay_base::limits::{SHARE_LATE_LOOKS, SHARES_LOOK};
use forebay_metrics::event::{Field, Kind as EventKind};
use forebay_metrics::spec::ShardMetric as M;
use forebay_runtime::seam::Monotonic;
use forebay_session::SessionKey;

use super::super::Broker;
use crate::here::Here;
use crate::out::Due;
use crate::out::Out;
use crate::words::{clipped, of_client, second};

/// The order in which members are checked.
#[derive(Debug, Default)]
pub(super) struct Late {
    /// Members that are left in this round.
    line: Vec<SessionKey>,
    /// Sessions that have left a share with messages that their clients have not answered.
    leavers: BTreeSet<SessionKey>,
    has_timer: bool,
}

impl Broker {
    /// Sets the timer for the next look, if there are members.
    pub(super) fn set_late_timer(&mut self, io: &mut dyn Out, here: &Here) {
        let (late, has_members) = (&mut self.delivery.shares.late, !self.delivery.shares.of.is_empty());
        if (has_members || !late.leavers.is_empty()) && !late.has_timer {
            late.has_timer = true;
            // A timer covers one round; each takes at least a sixteenth of the time that members have.
            let rest = here.config.delivery.share_ack_timeout / 16;
            let wait =
                if late.line.is_empty() { rest.clamp(SHARES_LOOK, Duration::from_secs(15)) } else { SHARES_LOOK / 50 };
            io.set_timer(io.now().after(wait), Due::LateMembers);
        }
    }

    /// Checks the next members when the timer has expired.
    pub(crate) fn late_members_time(&mut self, io: &mut dyn Out, here: &mut Here) {
        let shares = &mut self.delivery.shares;
        shares.late.has_timer = false;
        if shares.late.line.is_empty() {
            shares.late.line = shares.of.keys().chain(&shares.late.leavers).copied().collect();
            // The order is the same in each run of a simulation.
            shares.late.line.sort_unstable();
            shares.late.line.dedup();
        }
        let from = shares.late.line.len().saturating_sub(SHARE_LATE_LOOKS);
        for key in self.delivery.shares.late.line.split_off(from) {
            self.give_up_late(here, io.now(), key);
        }
        self.set_late_timer(io, here);
    }

    /// Notes a session that has left a share, if it has messages that its client has not answered.
    pub(super) fn note_leaver(&mut self, key: SessionKey) {
        if self.sessions.get(key).is_some_and(|session| session.has_shared()) {
            self.delivery.shares.late.leavers.insert(key);
        }
    }

    fn give_up_late(&mut self, here: &mut Here, now: Monotonic, key: SessionKey) {
        let (before, shares) = (late_before(here, now), &mut self.delivery.shares);
        let session = self.sessions.get_mut(key).filter(|session| session.conn().is_some());
        let Some(session) = session.filter(|session| session.has_shared()) else {
            shares.late.leavers.remove(&key);
            return;
        };
        if !session.is_late(before) {
            return;
        }
        let given = session.give_up_late(before, |number| shares.has_others(number, key));
        let mut released = if shares.are_by_groups() { session.release_late(before) } else { Vec::new() };
        here.numbers.raise(M::ShareReleased, released.len() as u64);
        released.dedup();
        for share in released.into_iter().filter_map(|number| shares.text(number)) {
            let client = session.client();
            here.teller.tell_of(EventKind::ShareAckTimeout, second(now), client, |event| {
                of_client(event, client).with(Field::Share, clipped(&share))
            });
        }
        for number in shares.of.get(&key).cloned().unwrap_or_default() {
            let Some(part) = shares.parts.get_mut(&number).filter(|part| part.has_others(key)) else { continue };
            if part.set_aside(key) {
                let client = session.client();
                here.teller.tell_of(EventKind::ShareAckTimeout, second(now), client, |event| {
                    of_client(event, client).with(Field::Share, clipped(part.share.text()))
                });
            }
            shares.to_serve.ripe.insert(number);
        }
        here.numbers.raise(M::ShareGivenUp, given.len() as u64);
        self.give_back_to_shares(here, now, given);
    }

    /// Notes that a client has acknowledged something. If the client is no longer late, it is a member like the others again.
    pub(super) fn is_late_no_more(&mut self, here: &Here, now: Monotonic, key: SessionKey) {
        let (before, shares) = (late_before(here, now), &mut self.delivery.shares);
        let of = shares.of.get(&key).into_iter().flatten();
        let mut aside = of.filter(|number| shares.parts.get(number).is_some_and(|part| part.is_aside(key))).peekable();
        if aside.peek().is_none() || self.sessions.get(key).is_none_or(|session| session.is_late(before)) {
            return;
        }
        for number in aside.copied().collect::<Vec<_>>() {
            if let Some(part) = shares.parts.get_mut(&number) {
                part.take_back(key);
                shares.settle(number);
            }
            shares.to_serve.ripe.insert(number);
        }
    }
}

/// The time such that unacknowledged messages sent before it are late now.
fn late_before(here: &Here, now: Monotonic) -> Monotonic {
    let timeout = u64::try_from(here.config.delivery.share_ack_timeout.as_nanos()).unwrap_or(u64::MAX);
    Monotonic(now.0.saturating_sub(timeout))
}
