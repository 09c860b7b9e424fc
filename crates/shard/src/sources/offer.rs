//! The offer of a record's message to its receivers, and what becomes of it and of the messages that rules make of it. Rules and sinks have their turn when
//! the record is read; a message that has waited is offered to subscribers alone.

use forebay_broker::delivery::put_packet;
use forebay_broker::given::Retains;
use forebay_broker::numbers::Numbers;
use forebay_broker::words::{Feeds, Stall, ticket_of};

use super::window::{Parked, Window};
use crate::publishing::Publishing;
use crate::publishing::admit::{Admitted, Publication, Publisher, SourceRecord};
use crate::reservation::Beside;
use crate::ring::Ring;
use forebay_config::{Feed, Source};
use forebay_metrics::spec::SourceMetric as M;
use forebay_mqtt::packet::Publish;
use forebay_runtime::seam::WallMs;
use forebay_session::{Claimed, ClientKey};

/// The outcome of offering a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offered {
    /// The message has receivers, or something made of it has, and this many answers are pending. `is_routed`: subscribers are among them.
    Taken { answers: u32, is_routed: bool },
    /// A sink has refused the message for all, and this many answers are pending for its dead letter.
    Refused(u32),
    /// The message has no receiver.
    Nobody,
    /// The record is no message, and nobody has what rules have made of it.
    Made,
}

/// The cases in which a message is parked.
#[derive(Clone, Copy)]
pub(super) struct Parks {
    /// The message has no subscriber.
    pub(super) if_nobody: bool,
    /// The message had receivers, and none of them has it in the end.
    pub(super) if_unmet: bool,
}

impl Offered {
    /// A message for which no answer is pending.
    pub(super) const NOTHING: Self = Self::Taken { answers: 0, is_routed: false };

    /// Counts the outcome of a message, and has it wait for the pending answers, or parks it.
    pub(super) fn enter(
        self,
        (numbers, source): (&mut Numbers, usize),
        (window, number): (&mut Window, u32),
        parks: Parks,
        parked: impl FnOnce() -> Box<Parked>,
    ) {
        let (metric, answers, message) = match self {
            Self::Nobody if parks.if_nobody => return window.park(number, parked()),
            Self::Made => return window.owes(number, 0, None),
            Self::Nobody => (M::NoSubscriber, 0, None),
            Self::Refused(answers) => (M::Refused, answers, None),
            Self::Taken { answers, is_routed } => (M::Published, answers, (parks.if_unmet && is_routed).then(parked)),
        };
        numbers.count_source(source, metric, 1);
        window.owes(number, answers, message);
    }
}

/// `Made` is a message that a rule has made of a record.
#[derive(Debug)]
pub(super) struct Made {
    /// The number of the message that it was made of: 0 is the record's own.
    of: u8,
    /// The number of pending answers, without those that its record waits for.
    answers: u32,
    /// Whether it has no receiver, and nothing that was made of it has one.
    is_nobodys: bool,
    /// The message, if it waits for a receiver, or may have to.
    parked: Option<Box<Parked>>,
}

impl Made {
    /// The memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.parked.as_ref().map_or(0, |parked| parked.packet.len())
    }
}

/// Has the messages that rules have made of a record wait, each by itself, and counts those that nobody has.
pub(super) fn enter_made(
    all: Vec<Made>,
    (numbers, source): (&mut Numbers, usize),
    (window, record): (&mut Window, u32),
) {
    window.makes(all.iter().map(|made| made.of));
    for (message, Made { answers, is_nobodys, parked, .. }) in (1..).zip(all) {
        let number = Claimed::number_of(record, message);
        match parked {
            Some(parked) if is_nobodys => window.park(number, parked),
            None if is_nobodys => numbers.count_source(source, M::NoSubscriber, 1),
            parked if answers > 0 => window.owes(number, answers, parked),
            _ => {}
        }
    }
}

impl Parked {
    /// A message that waits for a receiver. `grown`: the count of subscriptions when it was offered.
    pub(super) fn of(publish: &Publish<'_>, (time, hops): (WallMs, u8), grown: u64) -> Box<Self> {
        let mut packet = Vec::new();
        put_packet(publish, &mut packet);
        Box::new(Self { packet, time_ms: time.0, hops, grown })
    }
}

/// `Offer` is a record's message at hand.
pub(super) struct Offer<'a> {
    pub(super) source: &'a Source,
    pub(super) publish: &'a Publish<'a>,
    /// The record's time, as sinks write it.
    pub(super) time: WallMs,
    /// The number of times that the message has been a record before.
    pub(super) hops: u8,
    /// When what rules make of the record is parked.
    pub(super) parks: Parks,
}

impl Offer<'_> {
    /// Offers the message to sinks and subscribers, with the source's name as its publisher, and its record to the rules that name the source.
    ///
    /// # Errors
    /// The stall that the record waits for.
    pub(super) fn make(
        self,
        io: &mut Ring<'_>,
        to: &mut Publishing<'_>,
        beside: Option<&Beside<'_>>,
        of: SourceRecord<'_>,
    ) -> Result<(Offered, Vec<Made>), Stall> {
        let Self { source, publish, time, hops, .. } = self;
        let [sinks, rules, subscribers] = [Feed::Sinks, Feed::Rules, Feed::Subscribers].map(|to| source.feeds(to));
        let is_message = source.has_mqtt_topic();
        let feeds = Feeds { sinks, rules, subscribers, ..Feeds::NONE };
        let feeds = match is_message {
            false => Feeds::NONE,
            true if source.is_of_broker => {
                let rules = feeds.rules && !of.of_route.is_some_and(|of| of.is_again);
                let retained = publish.retain && of.of_route.is_none_or(|of| of.retains != Retains::Nothing);
                Feeds { retained, rules, ..feeds }
            }
            true => to.broker.feeds(feeds),
        };
        // A record of `[broker]` keeps its publisher. The publisher of any other record is the source.
        let client = ClientKey { auth: None, client_id: of.client.unwrap_or(&source.name) };
        let (username, hops, by) = (None, hops + 1, Publisher::Source(of));
        let publication = Publication { publish, client, username, time, feeds, hops, beside, by };
        let grown = to.broker.delivery.grown();
        let admitted = to.admit(io, &publication, Some(ticket_of(of.claimed)))?;
        let made = if admitted.has_republished() { self.made(to, grown) } else { Vec::new() };
        if !admitted.is_any() {
            let offered = match is_message {
                true => Offered::Nobody,
                // Rules have filtered records that are for them alone.
                false if made.is_empty() => Offered::NOTHING,
                false => Offered::Made,
            };
            return Ok((offered, made));
        }
        Ok((hand_on(io, to, &publication, admitted), made))
    }

    /// The messages that rules have made of the record.
    #[cold]
    fn made(&self, to: &mut Publishing<'_>, grown: u64) -> Vec<Made> {
        let fates = to.republished_fates();
        let mut are_had: Vec<bool> = fates.iter().map(|fate| fate.is_routed || fate.is_in_sinks).collect();
        // A message comes after the one that it was made of.
        for at in (0..fates.len()).rev() {
            let of = usize::from(fates[at].of).checked_sub(1).filter(|_| are_had[at]);
            if let Some(of) = of {
                are_had[of] = true;
            }
        }
        let all = to.outlets.republished().iter().zip(fates).zip(are_had);
        all.map(|((made, fate), is_had)| {
            let (of, publish) = (fate.of, made.publish());
            // One that sinks have, too, is answered with its record.
            let is_apart = fate.is_routed && !fate.is_in_sinks;
            let is_nobodys = !is_had && !fate.is_refused;
            let Parks { if_nobody, if_unmet } = self.parks;
            // Later subscribers get a retained message anyway.
            let may_park = is_nobodys && if_nobody || is_apart && if_unmet && !publish.retain;
            let parks = may_park && to.here.rules.parks_made(may_park);
            let parked = parks.then(|| Parked::of(&publish, (self.time, self.hops), grown));
            Made { of, answers: if is_apart { fate.awaited } else { 0 }, is_nobodys, parked }
        })
        .collect()
    }
}

fn hand_on(io: &mut Ring<'_>, to: &mut Publishing<'_>, of: &Publication<'_>, admitted: Admitted) -> Offered {
    let answers = to.hand_on(io, of, admitted);
    match admitted.is_refused {
        true => Offered::Refused(answers),
        false => Offered::Taken { answers, is_routed: admitted.is_routed() },
    }
}

/// `Again` is a message that has waited for subscribers.
pub(super) struct Again<'a> {
    pub(super) source: &'a Source,
    pub(super) publish: &'a Publish<'a>,
    pub(super) parked: &'a Parked,
    pub(super) claimed: Claimed,
}

/// Offers a message to subscribers that has waited for them.
///
/// # Errors
/// The stall that it waits for.
pub(super) fn offer_again(io: &mut Ring<'_>, to: &mut Publishing<'_>, of: &Again<'_>) -> Result<Offered, Stall> {
    let Again { source, publish, parked, claimed } = *of;
    // A rule publishes for all.
    let subscribers = Claimed::message_of(claimed.number) > 0 || source.feeds(Feed::Subscribers);
    let feeds = to.broker.feeds(Feeds { subscribers, ..Feeds::NONE });
    let client = ClientKey { auth: None, client_id: &source.name };
    let (time, hops) = (WallMs(parked.time_ms), parked.hops + 1);
    let by = Publisher::Source(SourceRecord { claimed, client: None, of_route: None });
    let publication = Publication { publish, client, username: None, time, feeds, hops, beside: None, by };
    let admitted = to.admit(io, &publication, Some(ticket_of(claimed)))?;
    if admitted.is_any() { Ok(hand_on(io, to, &publication, admitted)) } else { Ok(Offered::Nobody) }
}
