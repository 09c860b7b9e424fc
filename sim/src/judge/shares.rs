//! Shared subscriptions (J9): a message of QoS 2 goes to one member, a message of QoS 1 to another one only once the first cannot have
//! it any more, and an answered message reaches one of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::device::Message;
use crate::subscriber::{Asked, Copy, Subscriber};
use crate::world::World;

/// A member that got a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Holder {
    /// Index of the subscriber.
    member: usize,
    session: u32,
    connection: u32,
    /// The process that sent it.
    life: u32,
    qos: u8,
}

impl Holder {
    fn is_same_session(self, other: Self) -> bool {
        (self.member, self.session) == (other.member, other.session)
    }
}

/// A shared subscription.
#[derive(Debug)]
pub struct Share {
    /// Topic filter, without the share name.
    pub filter: String,
    /// The members that got each message, each member's session once.
    got: BTreeMap<u32, Vec<Holder>>,
    /// Messages that were in memory alone, because a log had no room, when the process ended.
    unstored: BTreeSet<u32>,
    /// By process: the last time without a member with a kept session, when messages were queued in memory alone.
    unkept: BTreeMap<u32, u64>,
}

impl Share {
    /// A shared subscription without any copy.
    pub(crate) const fn new(filter: String) -> Self {
        Self { filter, got: BTreeMap::new(), unstored: BTreeSet::new(), unkept: BTreeMap::new() }
    }
}

impl World {
    /// Checks a copy for a member, with the right topic and payload.
    pub(crate) fn check_share_copy(
        &mut self,
        (index, share): (usize, usize),
        copy: &Copy,
    ) -> Result<(), (&'static str, String)> {
        let number = copy.message;
        let member = &self.subscribers[index];
        let message = &self.messages[number as usize];
        let wish = &member.wishes[0];
        let is_doubtful = self.is_doubtful(member.doubted_until, number);
        let asks = match copy.asked {
            Asked::Never => false,
            // A message that the client has not acknowledged may be sent again.
            Asked::Gone(_) => copy.dup,
            _ => true,
        };
        if member.matching(&message.topic).next().is_none() || !(asks || is_doubtful) {
            return Err(("J5", format!("{} for a member with {:?}, {:?}", message.topic, wish.filter, copy.asked)));
        }
        let identifiers: &[u32] = if member.has_identifiers { &[1] } else { &[] };
        if copy.retain || copy.qos != message.qos.min(wish.qos) || copy.identifiers != identifiers {
            return Err(("J7", format!("QoS {}, RETAIN {}, {:?}", copy.qos, copy.retain, copy.identifiers)));
        }
        // A message that was queued in memory alone is taken for a new one when its publisher repeats it to the next
        // process.
        let in_memory = || {
            let unkept = |life| self.shares[share].unkept.get(life).is_some_and(|until| *until >= message.sent_at);
            let mut lives = message.attempts.iter().map(|(_, life)| life);
            lives.any(|life| *life < self.life && (self.judge.unstored_in.contains(life) || unkept(life)))
        };
        let most = if is_doubtful || in_memory() { u64::MAX } else { self.copies_at_most(number) };
        let is_sent_once = message.sends == 1 && !message.is_will && !is_doubtful;
        let holder = Holder {
            member: index,
            session: member.sessions,
            connection: member.connections,
            life: self.life,
            qos: copy.qos,
        };
        let holders = self.shares[share].got.get(&number).map_or(&[][..], Vec::as_slice);
        let others = || holders.iter().filter(|other| !other.is_same_session(holder));
        let with_qos_2 = others().filter(|other| other.qos == 2).count() as u64;
        if copy.qos == 2 && copy.is_handed_on && with_qos_2 >= most {
            return Err(("J9", format!("QoS 2, which another one has: {:?}", others().collect::<Vec<_>>())));
        }
        // The other holder still has the message, on the connection on which it came.
        let has_it = |other: &&Holder| {
            let of = &self.subscribers[other.member];
            let stays = of.socket.is_some() && of.connections == other.connection && other.life == self.life;
            stays && of.wishes[0].had(message.sent_at)
        };
        if let Some(other) = others().find(has_it).filter(|_| is_sent_once) {
            return Err(("J9", format!("QoS {}, which another one has: {other:?}", copy.qos)));
        }
        if holders.contains(&holder) && is_sent_once && others().next().is_none() {
            return Err(("J4", "it comes again on the same connection".into()));
        }
        let ledger = &mut self.subscribers[index].ledger;
        ledger.copies += 1;
        ledger.note(number);
        let holders = self.shares[share].got.entry(number).or_default();
        holders.retain(|other| !other.is_same_session(holder));
        holders.push(holder);
        Ok(())
    }

    /// Messages that a member of a shared subscription must have, and none has (J1).
    fn missing_of_share(&self, number: usize) -> Vec<u32> {
        let share = &self.shares[number];
        let members = || self.subscribers.iter().filter(|member| member.share == Some(number));
        let is_due = |message: &Message| {
            let had = |member: &Subscriber| member.matching(&message.topic).any(|(_, wish)| wish.had(message.sent_at));
            // A member that has lost its session since then may have had the message [MQTT-4.8.2-5].
            let may_have_ended = |member: &Subscriber| member.wishes[0].qos == 2 && member.ended_at >= message.sent_at;
            message.is_promised()
                && members().any(|member| member.kept && had(member))
                && !(message.qos == 2 && members().any(may_have_ended))
        };
        let is_excused = |number: &u32| self.judge.excused.contains(number) || share.unstored.contains(number);
        let missing =
            (0..).zip(&self.messages).filter(|(number, message)| is_due(message) && !share.got.contains_key(number));
        missing.map(|(number, _)| number).filter(|number| !is_excused(number)).collect()
    }

    /// Messages that shared subscriptions lack, each with the number of the shared subscription.
    pub(crate) fn missing_of_shares(&self) -> impl Iterator<Item = (usize, Vec<u32>)> + '_ {
        (0..self.shares.len()).map(|share| (share, self.missing_of_share(share)))
    }

    /// Notes whether a shared subscription has no member with a kept session, after an action or a packet of a member.
    pub(crate) fn note_unkept(&mut self, index: usize) {
        let Some(share) = self.subscribers[index].share else { return };
        let mut members = self.subscribers.iter().filter(|member| member.share == Some(share));
        if !members.any(|member| member.kept && member.wishes[0].had(self.time)) {
            self.shares[share].unkept.insert(self.life, self.time);
        }
    }

    /// Notes the end of the process: messages that were queued in memory alone, because a log had no room, may be lost.
    pub(crate) fn note_unstored_of_shares(&mut self) {
        for share in 0..self.shares.len() {
            let missing = self.missing_of_share(share);
            self.shares[share].unstored.extend(missing.into_iter().filter(|number| self.judge.tight.contains(number)));
        }
    }
}
