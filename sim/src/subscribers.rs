//! The subscribers of a run: when they connect, subscribe, acknowledge and leave.

use forebay::runtime::seam::Closed;

use crate::judge::shares::Share;
use crate::process::End;
use crate::sources::FIRST_RECORD;
use crate::sources::plan::DEVICES;
use crate::subscriber::{Subscriber, filter};
use crate::time::{MS, S, stream};
use crate::world::{Client, Event, World};

/// Number of shared subscriptions, where there are members.
const SHARES: usize = 2;

impl World {
    /// Creates the subscribers of the plan.
    pub(crate) fn subscribers_begin(&mut self) {
        let devices = if self.plan.reading.is_some() { DEVICES } else { self.devices.len() };
        let seed = self.plan.seed;
        for index in 0..self.plan.subscribers {
            let rng = stream(seed, &format!("subscriber {index}"));
            self.subscribers.push(Subscriber::new(index, devices, rng));
        }
        let rng = &mut stream(seed, "shares");
        let shares = if self.plan.members > 0 { SHARES } else { 0 };
        self.shares = (0..shares).map(|_| Share::new(filter(devices, rng))).collect();
        for index in self.subscribers.len()..self.subscribers.len() + self.plan.members {
            let share = index % SHARES;
            let rng = stream(seed, &format!("member {index}"));
            self.subscribers.push(Subscriber::member(index, (share, &self.shares[share].filter), rng));
        }
        (0..self.subscribers.len()).for_each(|index| self.schedule(0, Event::Subscriber(index)));
    }

    /// Lets a subscriber act.
    pub(crate) fn subscriber_acts(&mut self, index: usize) {
        if self.subscribers[index].socket.is_none() {
            if self.storm_over || self.time >= self.subscribers[index].back_at {
                self.connect_subscriber(index);
            }
        } else if self.subscribers[index].is_greeted() {
            self.subscriber_says(index);
        }
        self.note_unkept(index);
        self.note_reader(index);
        self.send_bytes(Client::Subscriber(index));
        let next = self.subscribers[index].rng.u64(..self.plan.pace * 2).max(1);
        self.schedule(self.time + next, Event::Subscriber(index));
    }

    fn connect_subscriber(&mut self, index: usize) {
        if let Some((socket, _)) = self.reach(Client::Subscriber(index)) {
            self.subscribers[index].connect(socket);
        }
    }

    fn subscriber_says(&mut self, index: usize) {
        let (is_over, is_steady, holds_back) = (self.storm_over, self.is_steady(index), self.holds_back(index));
        let subscriber = &mut self.subscribers[index];
        let most = if is_over { usize::MAX } else { subscriber.draws_answers() };
        let answered = subscriber.answer(if holds_back { 0 } else { most });
        self.note_answers(index, &answered);
        if is_over {
            return;
        }
        let subscriber = &mut self.subscribers[index];
        match subscriber.rng.u8(..120) {
            0..8 if is_steady => {}
            0..4 => {
                let which = subscriber.rng.usize(..subscriber.wishes.len());
                subscriber.toggle(which);
                let (name, wish) = (subscriber.name.clone(), subscriber.wishes[which].clone());
                self.note(|| format!("{name} asks: {wish:?}"));
            }
            4..8 => self.subscriber_leaves(index),
            _ => {}
        }
    }

    /// Ends a subscriber's connection, noticed by the shard or not. The subscriber stays away for a while, and may want
    /// a new session then.
    fn subscriber_leaves(&mut self, index: usize) {
        let Some(socket) = self.subscribers[index].socket else { return };
        let subscriber = &mut self.subscribers[index];
        let (is_noticed, is_long, is_over) =
            (subscriber.rng.u8(..3) > 0, subscriber.rng.u8(..3) == 0, subscriber.rng.u8(..8) == 0);
        subscriber.back_at = self.time + subscriber.rng.u64(..if is_long { 4 * S } else { 300 * MS });
        subscriber.lost();
        if is_over {
            subscriber.forget();
        }
        let name = subscriber.name.clone();
        self.note(|| format!("{name} leaves socket {socket}, noticed {is_noticed}, for good {is_over}"));
        if is_noticed {
            self.close_socket(socket, Closed::Error(std::io::ErrorKind::ConnectionReset.into()));
        }
    }

    /// Checks that no more copies come, and that finished messages stay finished when the process ends once more.
    pub(crate) fn subscribers_come_to_rest(&mut self) {
        self.hear_nothing_more();
        self.judge_queues();
        if self.settings.keeps_sessions() && self.judge.is_well() {
            self.judge.is_at_rest = true;
            let mut rng = stream(self.plan.seed, "last crash");
            let how = if rng.bool() { End::Kill } else { End::PowerCut };
            self.crash(how, &mut rng);
            self.run_until_over();
            self.hear_nothing_more();
            self.judge_queues();
        }
        if self.plan.retains && self.judge.is_well() {
            self.judge.is_at_rest = false;
            self.subscribers.iter_mut().for_each(Subscriber::ask_again);
            self.run_until_over();
            self.hear_nothing_more();
            self.judge_queues();
        }
    }

    /// Waits for two seconds in which no copy comes, neither a repeated one, nor, where messages were dropped, a missing one, and until each client is
    /// connected and has acknowledged everything.
    pub(crate) fn hear_nothing_more(&mut self) {
        let copies = |world: &Self| world.subscribers.iter().map(|one| one.ledger.copies).sum::<u64>();
        for _ in 0..60 {
            let before = copies(self);
            self.run_until(self.time + 2 * S);
            if copies(self) == before && self.subscribers.iter().all(Subscriber::is_at_rest) {
                break;
            }
        }
    }

    /// Handles bytes for a subscriber.
    pub(crate) fn subscriber_reads(&mut self, index: usize, bytes: &[u8]) {
        self.note_unkept(index);
        for heard in self.subscribers[index].read(bytes, self.time, self.life) {
            match heard {
                Ok(copy) if copy.message >= FIRST_RECORD => self.judge_record_copy(index, &copy),
                Ok(copy) => self.judge_copy(index, &copy),
                Err(what) => {
                    let what = format!("{}: {what}", self.subscribers[index].name);
                    self.judge.fails("subscriber", what);
                }
            }
        }
    }
}
