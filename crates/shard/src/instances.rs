//! This instance among the others of its broker: the first shard is a member of their group ([`forebay_fleet::membership`]). The group's news go to the thread that
//! started the shards, which has slots taken over and given up. State that all shards read is set here: the table, the owner of each slot, and the time until
//! which this process may speak (C4).

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use forebay_broker::router::Place;
use forebay_broker::words::second;
use forebay_config::{Broker, Config};
use forebay_fleet::link::Peers;
use forebay_fleet::membership::{Instance, Membership, News, Settings, Table, Terms};
use forebay_kafka::client::Client;
use forebay_kafka::coordination::Answer;
use forebay_metrics::event::{Field, Kind};
use forebay_metrics::spec::ShardMetric as M;
use forebay_runtime::seam::Monotonic;

use super::Core;
use super::mail::{Mail, Notice, ToGroup, ToSlots};
use super::ring::Ring;

/// The member's number at the client of its cluster. Members of sources have their indexes, which never reach it.
const NUMBER: u32 = u32::MAX - 1;

/// The time after which a drained instance that is alone in its group takes part again. If the group was lost, others reconnect earlier.
const ALONE_FOR: Duration = Duration::from_secs(5);

/// Bound on the time between two turns of the first shard, also while its group answers nothing: a process without a turn for longer has stood still
/// ([`Peers::ran`]).
const TURN_WITHIN: Duration = Duration::from_millis(500);

/// The part of this instance in its group.
pub(super) struct Instances {
    membership: Membership,
    /// The cluster, by its place in the configuration.
    cluster: usize,
    /// The nanoseconds by which the membership's clock, which runs while the machine sleeps, was ahead of the shard's when last read.
    ahead: u64,
    /// The time on the shard's clock when both were last read.
    looked_at: Monotonic,
    /// The time until which the process may speak although the membership is over.
    over: Option<Monotonic>,
    /// Whether the instance was drained, and is not about to end.
    is_drained: bool,
    /// The time at which the drain ends, as no other instance is there.
    serves_at: Monotonic,
}

impl Instances {
    /// Passes the requests to the group to the client of a cluster. True: there were some.
    pub(super) fn ask(&mut self, cluster: usize, client: &mut Client, now: Monotonic) -> bool {
        if self.cluster != cluster {
            return false;
        }
        let (mut any, now) = (false, Monotonic(now.0.saturating_add(self.ahead)));
        while let Some(request) = self.membership.take_request(now) {
            any = true;
            client.ask_coordinator(request, now);
        }
        any
    }

    /// The time of the next request to the group, or of the next turn that is due without one, on the shard's clock.
    pub(super) fn next_deadline(&self, cluster: usize) -> Monotonic {
        if self.cluster != cluster {
            return Monotonic::NEVER;
        }
        let of_group = self.membership.next_deadline().min(self.drain_ends());
        Monotonic(of_group.0.saturating_sub(self.ahead)).min(self.looked_at.after(TURN_WITHIN))
    }

    /// Takes part again, if this instance was drained. An instance that is about to end was not.
    fn end_drain(&mut self, (peers, config): (&Peers, &Config), now: Monotonic) {
        if std::mem::take(&mut self.is_drained) {
            peers.leaves(false);
            self.membership.take_part(shards(config), now);
        }
    }

    /// The time at which a drain ends by itself.
    const fn drain_ends(&self) -> Monotonic {
        if self.is_drained { self.serves_at } else { Monotonic::NEVER }
    }

    /// Reads the clocks.
    fn look_at(&mut self, io: &Ring<'_>) -> Monotonic {
        let now = io.boottime();
        self.looked_at = io.now();
        self.ahead = now.0.saturating_sub(self.looked_at.0);
        now
    }
}

/// The number of the instance's shards, and so its weight in the distribution of slots.
fn shards(config: &Config) -> u16 {
    u16::try_from(config.service.shards).unwrap_or(u16::MAX)
}

/// The owner of a slot in this process's table, if this process does not serve it itself.
pub(super) fn place_of(slot: u16, table: &Table, peers: &Peers) -> Place {
    let owner = table.owners.get(usize::from(slot)).copied().flatten();
    let other = owner.filter(|of| table.instance(*of).is_some_and(|of| *of.name != *peers.name()));
    other.map_or(Place::Nobody, Place::Elsewhere)
}

impl Core {
    /// Joins the group of instances, if this is the first shard of one among others.
    pub(super) fn join_instances(&mut self, io: &mut Ring<'_>) {
        let Some(broker) = self.here.config.broker.as_ref().filter(|_| self.here.index == 0) else { return };
        let Some(link) = &broker.link else { return };
        let instance = Instance {
            name: Arc::from(broker.name.as_str()),
            incarnation: u128::from(self.random.u64(..)) << 64 | u128::from(self.random.u64(..)),
            link: Arc::from(link.address()),
            server: Arc::from(broker.server.as_deref().unwrap_or_default()),
            member_id: Arc::from(""),
        };
        self.around.peers.set_incarnation(instance.incarnation);
        let settings = Settings {
            number: NUMBER,
            group: Rc::from(broker.group_of_instances()),
            instance,
            shards: shards(&self.here.config),
            terms: Terms { slots: u16::try_from(self.here.slots.count()).unwrap_or(u16::MAX), routes: broker.digest() },
            session_timeout: broker.session_timeout,
        };
        let membership = Membership::new(settings, self.random.u64(..), io.boottime());
        let cluster = broker.cluster;
        self.log.instances = Some(Box::new(Instances {
            membership,
            cluster,
            ahead: 0,
            looked_at: Monotonic(0),
            over: None,
            is_drained: false,
            serves_at: Monotonic::NEVER,
        }));
        self.outlets.upstreams[cluster].busy = true;
        io.go_on();
    }

    /// Does the group's work that is due, if the group is on this cluster.
    pub(super) fn instances_time(&mut self, io: &mut Ring<'_>, cluster: usize) {
        if let Some(instances) = self.log.instances.as_mut().filter(|instances| instances.cluster == cluster) {
            let now = instances.look_at(io);
            instances.membership.on_time(now);
            let is_over = instances.drain_ends() <= now;
            self.hear_group(io);
            if is_over {
                self.serve_alone(io);
            }
        }
    }

    /// Takes an answer of the group's coordinator. False: it is another member's.
    pub(super) fn answers_instances(&mut self, io: &mut Ring<'_>, answer: &Answer) -> bool {
        let Some(instances) = self.log.instances.as_mut().filter(|_| answer.member == NUMBER) else { return false };
        let now = instances.look_at(io);
        instances.membership.on_answer(answer, now);
        self.hear_group(io);
        true
    }

    /// Takes a letter to the group.
    pub(super) fn ask_group(&mut self, io: &mut Ring<'_>, letter: ToGroup) {
        let Some(instances) = &mut self.log.instances else { return };
        let now = instances.look_at(io);
        let membership = &mut instances.membership;
        match letter {
            ToGroup::Released(slots) if self.here.rules.reports_released() => membership.released(&slots, now),
            ToGroup::Released(_) => {}
            ToGroup::GiveUp => {
                self.around.peers.leaves(true);
                instances.is_drained = false;
                membership.give_up(now);
            }
            ToGroup::Drain(true) => {
                instances.is_drained = true;
                membership.give_up(now);
            }
            ToGroup::Drain(false) => instances.end_drain((&self.around.peers, &self.here.config), now),
            ToGroup::Leave => membership.leave(now),
            ToGroup::PeerIsGone { name, incarnation } => {
                if membership.peer_is_gone(&name, incarnation, now) {
                    self.here.numbers.count(M::Evictions);
                    self.here
                        .teller
                        .tell(Kind::InstanceGone, second(io.now()), |event| event.with(Field::Instance, &*name));
                }
            }
        }
        self.outlets.upstreams[instances.cluster].busy = true;
        self.hear_group(io);
        io.go_on();
    }

    /// Notes that the first shard has a turn. After a stop the process is silent until its group has answered.
    pub(super) fn look_if_stood_still(&mut self, io: &Ring<'_>) {
        let Some(instances) = &mut self.log.instances else { return };
        let peers = &self.around.peers;
        if peers.stands_still(io.now()) {
            instances.membership.stood_still(io.boottime());
            peers.speak_until(instances.over.unwrap_or(instances.membership.speaks_until()));
        }
        peers.ran(io.now());
    }

    /// Takes the news of the group: sets what all shards read, and passes them on.
    fn hear_group(&mut self, io: &mut Ring<'_>) {
        let Some(instances) = &mut self.log.instances else { return };
        let membership = &mut instances.membership;
        let all: Vec<News> = std::iter::from_fn(|| membership.take_news()).collect();
        let mut loss = self.around.peers.losses();
        for news in &all {
            match news {
                // Before the process may speak again.
                News::Lost(_) => _ = self.around.peers.has_lost(),
                // Other instances have all slots: the drain continues like that of an instance that is alone.
                News::Left => instances.over = Some(Monotonic::NEVER),
                // Another process has this name: this one sends no more, and ends.
                News::Fenced => instances.over = Some(Monotonic(0)),
                _ => {}
            }
        }
        self.around.peers.speak_until(instances.over.unwrap_or(membership.speaks_until()));
        for news in all {
            self.tell_of_group(io, &news);
            match &news {
                News::Table(table) => {
                    self.take_table(table);
                    self.note_whether_alone(io, table);
                }
                News::Lost(slots) => {
                    let (shards, at) = (0..self.here.config.service.shards, io.now());
                    loss += 1;
                    let letters = shards.map(|shard| (shard, Mail::Slots(ToSlots::Lost { slots: *slots, at, loss })));
                    self.around.letters(&mut self.broker).extend(letters);
                    io.go_on();
                }
                _ => {}
            }
            // The receiver is gone only when the process ends.
            let _ = self.around.notices.send(Notice::Group(news));
        }
    }

    /// Notes the time since which no other instance is in the group.
    fn note_whether_alone(&mut self, io: &Ring<'_>, table: &Table) {
        let Some(instances) = &mut self.log.instances else { return };
        let at = instances.look_at(io).after(ALONE_FOR);
        instances.serves_at = if table.instances.len() == 1 { instances.serves_at.min(at) } else { Monotonic::NEVER };
    }

    /// Ends the drain of this instance, as all others have left the group: their clients have to be served.
    fn serve_alone(&mut self, io: &mut Ring<'_>) {
        let Some(instances) = &mut self.log.instances else { return };
        let now = instances.look_at(io);
        instances.end_drain((&self.around.peers, &self.here.config), now);
        self.outlets.upstreams[instances.cluster].busy = true;
        let group = self.here.config.broker.as_ref().map(Broker::group_of_instances);
        self.here.teller.tell(Kind::DrainOver, second(io.now()), |event| event.maybe(Field::Group, group));
        io.go_on();
    }

    /// Takes another table. Slots of this instance stay where they are: their shards know when they come and go.
    fn take_table(&mut self, table: &Arc<Table>) {
        let slots = &self.here.slots;
        let count = u16::try_from(slots.count()).unwrap_or(u16::MAX);
        // Instances with another number of slots serve no client of this one.
        let is_ours = table.owners.len() == slots.count();
        let table =
            if is_ours { Arc::clone(table) } else { Arc::new(Table { owners: Vec::new(), ..(**table).clone() }) };
        self.around.peers.set_table(Arc::clone(&table));
        let mut counts = [0; 2];
        for slot in 0..count {
            match place_of(slot, &table, &self.around.peers) {
                place @ Place::Elsewhere(_) => {
                    slots.set(slot, place);
                    counts[0] += 1;
                }
                _ if matches!(slots.at(slot), Place::Elsewhere(_)) => slots.set(slot, Place::Nobody),
                _ => {}
            }
            counts[1] += u64::from(slots.at(slot) == Place::Nobody);
        }
        self.here.numbers.set(M::SlotsElsewhere, counts[0]);
        self.here.numbers.set(M::SlotsNobody, counts[1]);
    }

    fn tell_of_group(&mut self, io: &Ring<'_>, news: &News) {
        let (kind, reason) = match news {
            News::Silent(true) => (Kind::InstanceSilent, None),
            News::Silent(false) => (Kind::InstanceHeard, None),
            News::Trouble(why) => (Kind::GroupTrouble, Some(why.as_str())),
            News::TroubleOver => (Kind::GroupTroubleOver, None),
            _ => return,
        };
        let group = self.here.config.broker.as_ref().map(Broker::group_of_instances);
        self.here
            .teller
            .tell(kind, second(io.now()), |event| event.maybe(Field::Group, group).maybe(Field::Reason, reason));
    }

    /// Whether this process may no longer be an instance of the broker, and sends nothing that another one could contradict (C4).
    pub(super) fn is_silent(&self, io: &Ring<'_>) -> bool {
        // Rows of a slot that this shard has yet to drop must not go out because another shard has heard of the group again.
        let is_unheard = || {
            let peers = &self.around.peers;
            peers.is_silent(io.boottime()) || peers.stands_still(io.now()) || self.log.losses < peers.losses()
        };
        self.here.slots.are_given_out() && self.here.rules.is_silent(is_unheard())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Monotonic = Monotonic(7_000_000_000);

    /// A group that has yet to answer JoinGroup is asked nothing for seconds, and a process without a turn for a second counts as one that stood still.
    #[test]
    fn a_turn_is_due_while_the_group_does_not_answer() {
        let instance = Instance {
            name: Arc::from("a"),
            incarnation: 1,
            link: Arc::from("127.0.0.1:1885"),
            server: Arc::from(""),
            member_id: Arc::from(""),
        };
        let settings = Settings {
            number: NUMBER,
            group: Rc::from("g"),
            instance,
            shards: 1,
            terms: Terms { slots: 64, routes: 7 },
            session_timeout: Duration::from_secs(10),
        };
        let mut membership = Membership::new(settings, 1, NOW);
        assert!(membership.take_request(NOW).is_some() && membership.take_request(NOW).is_none());
        let asked = Instances {
            membership,
            cluster: 1,
            ahead: 3,
            looked_at: NOW,
            over: None,
            is_drained: false,
            serves_at: Monotonic::NEVER,
        };
        assert_eq!((asked.next_deadline(1), asked.next_deadline(0)), (NOW.after(TURN_WITHIN), Monotonic::NEVER));
    }
}
