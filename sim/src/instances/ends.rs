//! Ends and faults of instances: they are killed, freeze, stop in order, start and end; and the way in which a run comes to rest.

use std::io::ErrorKind;
use std::time::Duration;

use forebay::membership::Leaving;
use forebay::metrics::spec::ShardMetric;
use forebay::runtime::seam::Closed;
use forebay::shard::mail::{Mail, ToGroup, ToShard};

use super::{Ending, Happening, Part};
use crate::faults::Fault;
use crate::judge::instances::serves;
use crate::plan::instances::name_of;
use crate::process::{End, In};
use crate::time::{MS, S, stream};
use crate::world::{Client, Event, World};

/// Bound on the time in which shards complete the records that are open.
const READ_WITHIN: u64 = 12 * S;

impl World {
    /// Processes that are neither frozen nor about to end.
    fn able(&self) -> Vec<u32> {
        let is_able = |(life, part): &(&u32, &Part)| part.ending.is_none() && !self.broker.frozen.contains(life);
        self.instances.parts.iter().filter(is_able).map(|(life, _)| *life).collect()
    }

    /// Applies a fault of instances. `false`: the fault is another one.
    pub(crate) fn fault_of_instances(&mut self, fault: Fault, rng: &mut fastrand::Rng) -> bool {
        let able = self.able();
        let one = rng.choice(able.iter().copied());
        match (fault, one) {
            (Fault::Kill, Some(life)) => {
                // One kill in six ends all able processes.
                let all = if rng.u8(..6) == 0 { able } else { vec![life] };
                for life in all {
                    self.within(life, |world| world.instance_ends(End::Kill));
                }
            }
            (Fault::Stop, Some(life)) => {
                let grace = Duration::from_millis(rng.u64(1_000..30_000));
                self.within(life, |world| world.stop_instance(grace));
            }
            (Fault::FreezeProcess, Some(life)) => self.freeze_instance(life, rng),
            (Fault::JoinInstance, _) => {
                let starts = &self.instances.starts;
                let is_out = |index: &usize| starts[*index].is_none() && self.instances.newest(*index).is_none();
                let out: Vec<usize> = (0..starts.len()).filter(is_out).collect();
                if let Some(index) = rng.choice(out) {
                    self.start_later(index, 0);
                }
            }
            (Fault::CutInstances, _) => self.cut_instances(rng),
            (Fault::Kill | Fault::Stop | Fault::FreezeProcess, None) => {}
            _ => return false,
        }
        true
    }

    /// Freezes a process for a while. Half of the clients that notice connect elsewhere at once, the others later: their packets until then reach the
    /// process when it goes on. In one case of four another process of its name starts.
    fn freeze_instance(&mut self, life: u32, rng: &mut fastrand::Rng) {
        let still = rng.u64(50 * MS..5 * self.session_timeout() / 2);
        self.note(|| format!("process {life} stands still for {} ms", still / MS));
        self.broker.frozen.push(life);
        self.instances.disturbed.push((life, self.time, self.time + still));
        let of_it: Vec<(u64, Client)> = self
            .sockets
            .iter()
            .filter(|(_, one)| one.life == life)
            .map(|(socket, one)| (*socket, one.client))
            .collect();
        for (socket, client) in of_it {
            let is_clients = !matches!(client, Client::Relay(_)) && self.socket_of(client) == Some(socket);
            match rng.u8(..4) {
                0 if is_clients => self.client_leaves(client, socket),
                1 if is_clients => {
                    let at = self.time + rng.u64(..still);
                    self.schedule(at, Event::Instance(Happening::Leaves(client, socket)));
                }
                _ => {}
            }
        }
        let forgets = self.plan.faults.iter().any(|(fault, _)| *fault == Fault::ForgetIdentities);
        if forgets && rng.bool() {
            self.forget_identities();
        }
        if rng.u8(..4) == 0
            && let Some(part) = self.instances.parts.get(&life)
        {
            let (index, wait) = (part.index, rng.u64(..2 * S));
            self.start_later(index, wait);
        }
        self.schedule(self.time + still, Event::Thaw(life));
    }

    /// Ends a client's connection, and tells the shard.
    pub(super) fn client_leaves(&mut self, client: Client, socket: u64) {
        self.client_lost(client);
        let back_at = self.time + self.instances.rng.u64(..300 * MS);
        match client {
            Client::Device(index) => self.devices[index].reconnect_at = back_at,
            Client::Subscriber(index) => self.subscribers[index].back_at = back_at,
            Client::Relay(_) => {}
        }
        self.close_socket(socket, Closed::Error(ErrorKind::ConnectionReset.into()));
    }

    /// Stops an instance with SIGTERM.
    fn stop_instance(&mut self, grace: Duration) {
        let (life, now) = (self.life, self.clocks().1);
        let Some(process) = self.process.as_mut().filter(|process| !process.stopping) else { return };
        process.stopping = true;
        // A stop is an event of its own: others take the slots over while it lasts.
        self.instances.calm_at = self.instances.calm_at.max(self.time);
        let has_others = process.peers.table().instances.len() > 1;
        self.note(|| format!("process {life} stops, within {grace:?}, others {has_others}"));
        let Some(part) = self.instances.parts.get_mut(&life) else { return };
        if has_others {
            part.ending = Some(Ending::Leaving(Leaving::new(grace, now)));
            self.put(0, In::Mail(Mail::Group(ToGroup::GiveUp)));
        } else {
            self.reads_to_the_end();
        }
    }

    pub(super) fn reads_to_the_end(&mut self) {
        let (shards, time) = (self.shards(), self.time);
        if let Some(part) = self.instances.parts.get_mut(&self.life) {
            part.ending = Some(Ending::Reading(shards, time + READ_WITHIN));
        }
        (0..shards).for_each(|shard| self.put(shard, In::Mail(Mail::Shard(ToShard::EndSources))));
    }

    /// Draws the grace of a drain.
    pub(super) fn grace(&mut self) -> Duration {
        Duration::from_millis(self.instances.rng.u64(1_000..10_000))
    }

    /// Ends this process, as the program does, because another process has its name: possibly an older one that was frozen and has joined again.
    pub(super) fn is_fenced(&mut self) {
        let life = self.life;
        let since = self.process.as_ref().map_or(0, |process| process.started_at);
        let has_rivals = self.instances.has_rivals(life, since);
        self.note(|| format!("process {life} is fenced, there is another one of its name: {has_rivals}"));
        if !has_rivals {
            return self.judge.fails("fenced", format!("process {life} was fenced, and no other one had its name"));
        }
        self.instance_ends(End::Kill);
    }

    /// Ends a process. The instance starts again soon, or much later; one that stopped may stay away.
    pub(crate) fn instance_ends(&mut self, how: End) {
        let Some(process) = self.process.take() else { return };
        let life = self.life;
        self.note(|| format!("process {life} ends: {how:?}\n{}", process.describe()));
        self.judge.process_ended(&process, how, life);
        let is_of_it = |name: &str| process.slots.slot(name).is_some_and(|slot| serves(&process, slot));
        self.note_too_large(how == End::Stopped, is_of_it);
        // Kafka has not taken the logs of its slots within the grace.
        let is_unwritten = process.number(ShardMetric::SessionLogWaiting) > 0;
        drop(process);
        self.clients_of_it_are_lost();
        self.fronts_are_gone();
        self.links_are_orphans();
        self.broker.frozen.retain(|frozen| *frozen != life);
        let Some(part) = self.instances.parts.remove(&life) else { return };
        let index = part.index;
        self.instances.ended.push((life, index, self.time));
        self.instances.note_unheard(index, self.time);
        if how != End::Stopped || is_unwritten {
            self.instances.disturbed.push((life, self.time, self.time));
        }
        let timeout = self.session_timeout();
        let rng = &mut self.instances.rng;
        let wait = match rng.u8(..4) {
            0 | 1 => rng.u64(..500 * MS),
            2 => rng.u64(..3 * S),
            _ => rng.u64(..2 * timeout),
        };
        let stays_away = how == End::Stopped && rng.bool();
        let is_last = self.instances.parts.is_empty() && self.instances.starts.iter().all(Option::is_none);
        if self.instances.newest(index).is_none()
            && self.instances.starts[index].is_none()
            && (!stays_away || is_last || self.judge.is_at_rest)
        {
            self.start_later(index, wait);
        }
        self.instances.calm_at = self.instances.calm_at.max(self.time);
    }

    // ---- rest ----

    /// Ends the faults of instances.
    pub(crate) fn instances_calm_down(&mut self) {
        if !self.has_instances() {
            return;
        }
        let time = self.time;
        self.instances.cuts.values_mut().for_each(|until| *until = time);
        // Relays that wait for the end of a cut, or for their connection, would be due at the former end of the cut.
        let all: Vec<u64> = self.instances.relays.keys().copied().collect();
        for number in all {
            self.linked(number);
            for way in [super::links::Way::ToOwner, super::links::Way::ToFront] {
                self.relay_goes_on(number, way);
            }
        }
        if self.instances.parts.is_empty() && self.instances.starts.iter().all(Option::is_none) {
            self.start_later(0, 0);
        }
        self.instances.calm_at = self.instances.calm_at.max(time);
        (self.instances.owned_since, self.instances.is_calm) = (None, true);
    }

    /// Whether everything is done and answered, and nothing is pending.
    pub(crate) fn instances_are_over(&self) -> bool {
        let is_up = |part: &Part| part.accepts && part.ending.is_none();
        !self.instances.parts.is_empty()
            && self.instances.parts.values().all(is_up)
            && self.instances.starts.iter().all(Option::is_none)
            && self.broker.frozen.is_empty()
            && self.instances.owned_since.is_some()
            && self.broker.others.values().all(|process| process.buffered_rows() == 0)
            && self.devices.iter().all(|device| device.is_done(&self.messages))
            && self.has_delivered()
    }

    /// Runs until everything has come to rest, and checks that it stays so when instances end once more.
    pub(crate) fn instances_come_to_rest(&mut self) {
        self.run_until_over();
        if self.judge.is_well() {
            self.hear_nothing_more();
            self.judge_queues_of_instances();
        }
        if self.judge.is_well() {
            self.judge.is_at_rest = true;
            self.end_once_more();
            self.run_until(self.time + S);
            self.run_until_over();
        }
        if self.judge.is_well() {
            self.hear_nothing_more();
            self.judge_queues_of_instances();
        }
        if self.judge.is_well() {
            self.judge_order_in_partitions();
            self.judge_wills();
            self.judge_end();
        }
    }

    fn end_once_more(&mut self) {
        let mut rng = stream(self.plan.seed, "last end");
        let able = self.able();
        let Some(life) = rng.choice(able.iter().copied()) else { return };
        let timeout = self.session_timeout();
        match rng.u8(..4) {
            0 => {
                for life in able {
                    self.within(life, |world| world.instance_ends(End::Kill));
                }
                // All instances are back before the group gives their slots to others.
                let back: Vec<usize> =
                    (0..).zip(&self.instances.starts).filter(|(_, at)| at.is_some()).map(|(of, _)| of).collect();
                back.into_iter().for_each(|index| self.start_later(index, rng.u64(..2 * S)));
                self.instances.all_killed = true;
            }
            1 => _ = self.within(life, |world| world.instance_ends(End::Kill)),
            2 => _ = self.within(life, |world| world.stop_instance(Duration::from_secs(20))),
            _ => {
                let still = rng.u64(timeout / 2..3 * timeout);
                self.note(|| format!("process {life} stands still for {} ms", still / MS));
                self.broker.frozen.push(life);
                self.instances.disturbed.push((life, self.time, self.time + still));
                self.instances.calm_at = self.time + still;
                self.schedule(self.time + still, Event::Thaw(life));
            }
        }
        self.instances.owned_since = None;
    }

    /// The state in words, for a run that does not end.
    pub(crate) fn describe_instances(&self) -> Vec<String> {
        let of = |(life, part): (&u32, &Part)| {
            let is_frozen = self.broker.frozen.contains(life);
            let process = self.broker.others.get(life);
            let slots = process.map(|process| {
                let all = 0..u16::try_from(process.slots.count()).unwrap_or(u16::MAX);
                all.map(|slot| format!("{slot}: {:?}", process.slots.at(slot))).collect::<Vec<_>>()
            });
            let name = name_of(part.index);
            let text = process.map(crate::process::Process::describe).unwrap_or_default();
            format!("process {life} is {name}, stands still {is_frozen}: {part:?}\n{slots:?}\n{text}")
        };
        self.instances.parts.iter().map(of).collect()
    }
}
