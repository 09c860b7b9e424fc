//! Room for a message in all of its sinks, or in none: first it is asked for, then the rows are written. In between the session numbers the message. Nothing
//! is taken before [`Reservation::take`]; a dropped reservation has no effect.

use std::net::SocketAddr;

use smallvec::SmallVec;

use forebay_broker::logs::Logs;
use forebay_broker::numbers::Routed;
use forebay_broker::words::{Feeds, Wait};
use forebay_config::OfBroker;
use forebay_kafka::producer::{Full, Promise, TopicId};
use forebay_metrics::histogram::Level;
use forebay_metrics::spec::RefusalReason;
use forebay_mqtt::packet::{QoS, Version};
use forebay_rule::template::{Absent, Template};
use forebay_runtime::seam::WallMs;
use forebay_session::Peer;

use super::dead_letters::message::Place;
use super::outlets::{Outlets, tombstones};
use super::rules::{Outcomes, RULE};
use super::sinks::{Message, Plan};
use super::words::Objection;

mod ask;
mod beside;
mod made;
mod republished;
mod rows;
mod run;
mod take;

pub(super) use self::beside::Beside;
use self::made::Made;
pub(crate) use self::republished::Republished;
use self::rows::Sum;

/// The most memory for rendered data that is kept for the next message. Bytes.
const RENDERED_KEPT: usize = 1 << 20;

/// Room for one message in all of its sinks.
pub(super) struct Reservation<'a> {
    outlets: &'a mut Outlets,
    /// The logs, of which that of rows is asked.
    logs: &'a mut Logs,
    /// Whether a gate refuses the message: it becomes a dead letter of that sink, and no destination takes it.
    is_refused: bool,
    /// Whether other sinks have had the message since before a crash: a sink that refuses it now does so for itself alone, if it can keep it.
    is_repeat: bool,
    /// The way in which the publisher is notified that there is no room, also for messages that rules have made.
    told: Told,
    /// The message being asked about: 0, or the number of the republished one.
    of: u16,
    /// The number of republished messages when its turn came.
    before: u16,
}

/// The way in which the publisher of a message is notified that a sink refuses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The publisher gets a reason code: 5.0 at QoS 1 and 2.
    Code,
    /// The publisher's connection ends: 3.x at QoS 1 and 2.
    End,
    /// The publisher is not notified: QoS 0, wills, remotes of bridges.
    Not,
}

impl Told {
    pub(super) fn of(peer: Peer, qos: QoS) -> Self {
        match (qos, peer.version) {
            _ if peer.is_remote => Self::Not,
            (QoS::AtMostOnce, _) => Self::Not,
            (_, Version::V5) => Self::Code,
            _ => Self::End,
        }
    }
}

/// The reason why there is no reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreserved {
    /// No filter matches.
    Unmatched,
    /// The client may not publish to the topic.
    Denied,
    /// A memory bound is reached: leave the packet unread.
    Full(Wait),
    /// This sink refuses the message for all destinations.
    Rejected(u16, Objection),
    /// A rule has failed for the message, and refuses it for all destinations.
    RuleFailed,
}

impl Unreserved {
    /// The result that a message without a reservation counts as. `is_taken`: subscribers get it, or all matching sinks have had it since before a crash.
    #[inline]
    pub(super) const fn counts_as(self, is_taken: bool) -> Routed {
        match self {
            Self::Unmatched if is_taken => Routed::Matched,
            Self::Unmatched | Self::Full(_) => Routed::Unmatched,
            Self::Denied | Self::Rejected(..) | Self::RuleFailed => Routed::Refused,
        }
    }
}

/// The circumstances in which room for a message is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking<'a> {
    pub(super) told: Told,
    /// Sinks that have had the message since before a crash, and are not asked.
    pub(super) already_taken_by: &'a [u16],
    pub(super) feeds: Feeds,
    /// The address of its publisher, if there are rules and it has one.
    pub(super) peer: Option<SocketAddr>,
    pub(super) wall: WallMs,
    /// Rules that are not for the message itself.
    pub(super) beside: Option<&'a Beside<'a>>,
}

impl Asking<'_> {
    /// Whether there are sinks or rules to be asked.
    #[inline]
    pub(super) const fn is_for_outlets(&self, outlets: &Outlets) -> bool {
        let Feeds { sinks, rules, route, retained, .. } = self.feeds;
        sinks || route || retained || self.beside.is_some() || rules && outlets.rules.is_some()
    }
}

/// A reservation's own memory, used again from message to message. While there is no reservation, the needs of a message are empty, and the
/// rest is of the last message.
#[derive(Default)]
pub(super) struct Workspace {
    matched: SmallVec<[u16; 4]>,
    /// The first of these that are the sink of retained messages: more than one for a tombstone of each partition.
    copies: usize,
    sinks: Vec<Reserved>,
    /// Whether `sinks` holds for another message of the same client, topic, QoS and flags.
    is_settled: bool,
    /// Memory of each cluster: the bytes needed, then those set aside.
    needs: Vec<usize>,
    promises: Vec<Promise>,
    /// Topics and keys that had to be rendered, and rows of rules.
    rendered: Vec<u8>,
    rows: Vec<Made>,
    /// Headers of these rows: where a name begins, where its value does, and where that ends.
    made_headers: Vec<(u32, u32, u32)>,
    /// The room that these rows take of each sink.
    sums: SmallVec<[Sum; 4]>,
    /// The cost of its rules, in packets.
    cost: u32,
    /// Whether rules were evaluated for it: rows may be theirs.
    is_ruled: bool,
    /// The outcomes of the rules for the message.
    pub(crate) outcomes: Outcomes,
    /// Messages that rules have made of it, and of one another. The number of each is its index plus one.
    pub(crate) republished: Vec<Republished>,
    /// Rules of which one was dropped, as too many rules had come before.
    pub(crate) looped: SmallVec<[u16; 2]>,
    pub(crate) value: Vec<u8>,
    pub(crate) headers: Vec<u8>,
}

/// A row of a rule for which room is asked.
struct Fed<'a> {
    /// The sink's plan for such rows.
    plan: &'a Plan,
    /// The row's memory, its topic, and its index in [`Workspace::rows`]; or the reason why the sink never takes it.
    row: Result<(usize, Text, u32), Objection>,
}

/// A sink's part.
#[derive(Clone, Copy)]
struct Reserved {
    /// The sink's number in the configuration.
    sink: u16,
    /// The message: 0, or the number of the republished one.
    of: u16,
    to: To,
    /// Its part of the needs of its cluster.
    bytes: usize,
}

#[derive(Clone, Copy)]
enum To {
    Topic {
        asked: Asked,
        key: Text,
        hash: Option<u32>,
        is_spooled: bool,
        /// The row in [`Workspace::rows`], if a rule has made it.
        made: Option<u32>,
    },
    /// The sink will never take the message; it becomes a dead letter there.
    DeadLetters(Objection, Place),
    /// The sink goes without the message.
    Nowhere(RefusalReason),
}

/// A sink's answer for a message that it can take.
#[derive(Clone, Copy)]
struct Asked {
    /// A bound of the row's bytes.
    bytes: usize,
    topic: Text,
    /// The topic as the producer knows it.
    known: Option<TopicId>,
}

/// A text that a template makes of a message.
#[derive(Clone, Copy)]
enum Text {
    Absent,
    /// The text is in the message.
    AtHand,
    /// The text is in [`Workspace::rendered`].
    Rendered(u32, u32),
}

impl Text {
    fn of(template: &Template, message: &Message<'_>, rendered: &mut Vec<u8>) -> Result<Self, Absent> {
        if template.at_hand(message).is_some() {
            return Ok(Self::AtHand);
        }
        let from = rendered.len();
        template.render(message, rendered)?;
        // The rendered data are a few names of at most 64 KiB each.
        Ok(Self::Rendered(from as u32, rendered.len() as u32))
    }

    fn bytes<'a>(self, template: &'a Template, message: &Message<'a>, rendered: &'a [u8]) -> Option<&'a [u8]> {
        match self {
            Self::Absent => None,
            Self::AtHand => template.at_hand(message),
            Self::Rendered(from, to) => rendered.get(from as usize..to as usize),
        }
    }
}

impl Outlets {
    /// Matches the message and finds room in every matching sink. A message that a sink will never take affects that sink alone, except with
    /// [`OnRefuse::Reject`]: then no sink has a row, and [`Reservation::is_refused`] reports whether it becomes a dead letter.
    ///
    /// # Errors
    /// The reason why nothing was reserved.
    pub(super) fn reserve<'a>(
        &'a mut self,
        logs: &'a mut Logs,
        message: &Message<'_>,
        asking: &Asking<'_>,
    ) -> Result<Reservation<'a>, Unreserved> {
        let already_taken_by = asking.already_taken_by;
        let work = &mut self.workspace;
        work.sinks.clear();
        work.rendered.clear();
        if std::mem::take(&mut work.is_ruled) {
            work.forget_rows();
            if let Some(rules) = &mut self.rules {
                rules.console.forget();
            }
        }
        work.is_settled = false;
        self.router.matches(message.topic, &mut work.matched);
        if !already_taken_by.is_empty() {
            // The number of rows of a sink that rules feed is known only when the rules are evaluated.
            let is_fed = |sink: u16| self.rules.as_ref().is_some_and(|rules| rules.republish || rules.feed(sink));
            work.matched.retain(|of| *of & RULE != 0 || is_fed(*of) || !already_taken_by.contains(of));
        }
        work.copies = 0;
        if !asking.feeds.takes_all_matching() {
            let (feeds, is_end) = (&asking.feeds, message.payload.is_empty());
            work.copies = leave_out(feeds, &self.plans, &mut work.matched, |plan| match is_end {
                true => tombstones(self.copies, &self.upstreams[plan.cluster].producer, plan),
                false => 1,
            });
        }
        if let Some(beside) = asking.beside {
            work.matched.extend_from_slice(beside.rules);
        }
        let is_matched = !work.matched.is_empty();
        let is_repeat = !already_taken_by.is_empty();
        let told = asking.told;
        let mut reservation = Reservation { outlets: self, logs, is_refused: false, is_repeat, told, of: 0, before: 0 };
        if !is_matched {
            return Err(Unreserved::Unmatched);
        }
        let asked = reservation.ask_all(message, asking).and_then(|()| {
            if !already_taken_by.is_empty() {
                reservation.leave_out(already_taken_by);
            }
            reservation.set_aside(message)
        });
        match asked {
            Ok(()) => Ok(reservation),
            Err(why) => {
                if matches!(why, Unreserved::Full(_)) {
                    // The message is asked about again, and the rules are evaluated again.
                    reservation.outlets.forget_outcomes();
                }
                reservation.outlets.workspace.republished.clear();
                Err(why)
            }
        }
    }
}

/// Leaves out sinks and rules that the message does not feed, and adds the sink of retained messages, which no filter matches, as often as it gets a row.
/// Returns how often that is.
#[cold]
fn leave_out(feeds: &Feeds, plans: &[Plan], matched: &mut SmallVec<[u16; 4]>, rows: impl Fn(&Plan) -> usize) -> usize {
    let of_broker = |sink: u16| plans.get(usize::from(sink)).and_then(|plan| plan.of_broker);
    matched.retain(|number| match *number {
        rule if rule & RULE != 0 => feeds.rules,
        sink if of_broker(sink).is_some() => feeds.route,
        _ => feeds.sinks,
    });
    if feeds.retained
        && let Some(sink) = plans.iter().rposition(|plan| plan.of_broker == Some(OfBroker::Retained))
    {
        // There are fewer sinks than numbers. Rules come after all sinks.
        let rows = rows(&plans[sink]);
        matched.insert_many(0, std::iter::repeat_n(sink as u16, rows));
        return rows;
    }
    0
}

impl Reservation<'_> {
    /// Sets memory aside in each cluster that has a part.
    fn set_aside(&mut self, message: &Message<'_>) -> Result<(), Unreserved> {
        for cluster in 0..self.outlets.workspace.needs.len() {
            let mut promise = self.promise(cluster);
            while promise.is_none() && self.pass_over(cluster, message) {
                promise = self.promise(cluster);
            }
            let wait = Wait { cluster, full: Full::Memory, bytes: self.outlets.workspace.needs[cluster] };
            self.outlets.workspace.promises.push(promise.ok_or(Unreserved::Full(wait))?);
        }
        Ok(())
    }

    fn promise(&self, cluster: usize) -> Option<Promise> {
        let bytes = self.outlets.workspace.needs[cluster];
        if bytes == 0 { Some(Promise::default()) } else { self.outlets.upstreams[cluster].producer.promise(bytes) }
    }

    /// Has one of a cluster's sinks go without the message, as the cluster's memory has no room. `false`: none may.
    #[cold]
    fn pass_over(&mut self, cluster: usize, message: &Message<'_>) -> bool {
        let outlets = &mut *self.outlets;
        let work = &mut outlets.workspace;
        for Reserved { sink, of, to, bytes } in &mut work.sinks {
            let plan = &outlets.plans[usize::from(*sink)];
            if matches!(to, To::Nowhere(_)) {
                continue;
            }
            let qos = usize::from(*of).checked_sub(1).and_then(|at| work.republished.get(at));
            let qos = qos.map_or(message.qos, |made| made.qos as u8);
            if plan.cluster == cluster && plan.goes_without(qos) {
                let why = match to {
                    To::DeadLetters(objection, _) if self.is_refused => objection.reason(),
                    _ => RefusalReason::NoRoom,
                };
                *to = To::Nowhere(why);
                work.needs[cluster] -= std::mem::take(bytes);
                work.is_settled = false;
                return true;
            }
        }
        false
    }

    /// Whether a sink matches, or gets rows or messages of a rule: rules may filter everything.
    pub(super) fn is_any(&self) -> bool {
        !self.outlets.workspace.sinks.is_empty()
    }

    /// Whether a gate refuses the message: subscribers do not get it, and it is not retained.
    pub(super) const fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// Whether [`Outlets::take_again`] may take another message with the same inputs for the places of the rows.
    pub(super) const fn is_settled(&self) -> bool {
        !self.is_refused && self.outlets.workspace.is_settled
    }

    /// The level that the answer to the message waits for.
    pub(super) fn level(&self) -> Level {
        let sinks = self.outlets.workspace.sinks.iter().filter(|reserved| !matches!(reserved.to, To::Nowhere(_)));
        sinks.map(|reserved| self.outlets.plans[usize::from(reserved.sink)].level).max().unwrap_or(Level::Received)
    }

    /// Whether a sink that takes the message keeps its rows in the spool, and with them the packet id of a QoS 2 message.
    pub(super) fn keeps_packet_id(&self) -> bool {
        let mut sinks = self.outlets.workspace.sinks.iter();
        sinks.any(|reserved| {
            let plan = &self.outlets.plans[usize::from(reserved.sink)];
            plan.keeps_packet_ids && matches!(reserved.to, To::Topic { is_spooled: true, .. })
        })
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let work = &mut self.outlets.workspace;
        work.needs.clear();
        work.promises.clear();
    }
}
