//! The logs of an instance's sessions with `[broker]`, before its shards have them: each slot has one, a partition of one topic.
//! A lone process takes over all of them when it starts ([`take_over`]), an instance among others those of its assigned slots
//! ([`Takers`]).

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::{Broker, Cluster, Config};
use crate::limits::SLOTS;
use crate::metrics::event::{Event, Field, Kind};
use crate::metrics::journal::Journal;
use crate::shard::kafka_disk::Parts;
use crate::shard::mail::TakenLog;

use super::admin::Admin;
use super::check::{UNKNOWN_TOPIC, Verdict};
use super::session_log::{self, NotTaken, Wanted};

/// The most logs that are taken over at a time: each takes some ten requests, one after the other.
const AT_A_TIME: u16 = 16;

/// Creates the topic if it is missing, and checks its settings.
///
/// # Errors
/// The obstacle, in words. It may pass: the topic is being created.
pub(super) fn prepare(cluster: &Cluster, broker: &Broker) -> Result<(), String> {
    let Broker { sessions, replicas, create_topics, .. } = broker;
    let told = session_log::prepare_topic(cluster, sessions, SLOTS, *replicas, *create_topics)?;
    told.iter().for_each(|told| tracing::warn!("{told}"));
    Ok(())
}

/// Creates the topic if it is missing. Returns whether it was, for `forebay topics create`.
///
/// # Errors
/// The obstacle, in words.
pub(super) fn make(cluster: &Cluster, broker: &Broker) -> Result<bool, String> {
    let Broker { sessions, replicas, .. } = broker;
    let (is_missing, brokers) = missing(cluster, sessions)?;
    if is_missing {
        session_log::make(cluster, sessions, SLOTS, *replicas, brokers)?;
    }
    Ok(is_missing)
}

/// Whether a topic is missing, and the number of brokers.
fn missing(cluster: &Cluster, topic: &str) -> Result<(bool, usize), String> {
    let mut admin = Admin::connect(cluster).map_err(|why| why.join("; "))?;
    let metadata = admin.metadata(&[topic]).map_err(|why| admin.sasl_missing(cluster, why))?;
    Ok((metadata.topics.iter().any(|topic| topic.error_code == UNKNOWN_TOPIC), metadata.brokers.len()))
}

/// Checks the topic as a process does when it starts. Returns its description in words, and whether it needs a look.
///
/// # Errors
/// The obstacle, in words.
pub(super) fn look(cluster: &Cluster, broker: &Broker) -> Result<(Verdict, String), String> {
    let Broker { sessions, replicas, create_topics, .. } = broker;
    let (is_missing, _) = missing(cluster, sessions)?;
    if *create_topics && is_missing {
        return Ok((Verdict::Ok, format!("topic {sessions} is missing; the start creates it")));
    }
    let told = session_log::prepare_topic(cluster, sessions, SLOTS, *replicas, false)?;
    let is_as_needed = || format!("topic {sessions} has the partitions and settings that logs of sessions need");
    Ok(if told.is_empty() { (Verdict::Ok, is_as_needed()) } else { (Verdict::Warning, told.join("; ")) })
}

/// The logs of slots, in the order of the slots.
#[derive(Default)]
pub(super) struct Logs {
    /// Logs that this process has taken over.
    pub(super) taken: Vec<TakenLog>,
    /// Slots with a log that it cannot read, each with the reason.
    pub(super) unreadable: Vec<(u16, String)>,
}

/// The log of a slot, or the slot and why its log cannot be read.
type Taken = Result<TakenLog, (u16, String)>;

/// Takes over the logs of all slots, several at a time.
///
/// # Errors
/// The obstacle, in words. It may pass.
pub(super) fn take_over(config: &Config, broker: &Broker, journal: &Journal) -> Result<Logs, String> {
    let cluster = &config.clusters[broker.cluster];
    let next = AtomicU16::new(0);
    let take_some = || {
        let slots = std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)).filter(|slot| *slot < SLOTS));
        let one = |slot| match take(cluster, broker, slot) {
            Ok(log) => Ok(Ok(log)),
            Err(NotTaken::Unreadable(why)) => Ok(Err((slot, why))),
            Err(NotTaken::ForNow(why)) => Err(why),
        };
        let taken: Result<Vec<Taken>, String> = slots.map(one).collect();
        // The other threads take no further log.
        taken.inspect_err(|_| next.store(SLOTS, Ordering::Relaxed))
    };
    let taken: Result<Vec<Vec<_>>, String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(take_some)).collect();
        threads.into_iter().map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let mut all = Logs::default();
    for log in taken?.into_iter().flatten() {
        match log {
            Ok(log) => all.taken.push(log),
            Err(unreadable) => all.unreadable.push(unreadable),
        }
    }
    all.taken.sort_by_key(|log| log.slot);
    all.unreadable.sort_unstable();
    let logs = &all.taken;
    let sum = |of: fn(&TakenLog) -> u64| logs.iter().map(of).sum::<u64>();
    let event = Event::now(Kind::SessionLogTaken).with(Field::Topic, broker.sessions.as_str());
    let event =
        event.with(Field::Partitions, logs.len() as u64).with(Field::Records, sum(|log| log.taken.read.records));
    journal.say(event.with(Field::Bytes, sum(|log| log.taken.read.bytes)));
    for (slot, why) in &all.unreadable {
        let event = Event::now(Kind::SlotUnreadable).with(Field::Partition, u64::from(*slot));
        journal.say(event.with(Field::Reason, why.as_str()));
    }
    Ok(all)
}

fn take(cluster: &Cluster, broker: &Broker, slot: u16) -> Result<TakenLog, NotTaken> {
    let mut parts = Parts::default();
    let wanted = Wanted { cluster, topic: &broker.sessions, log: slot, instance: &broker.name };
    let taken = session_log::take_over(&wanted, &mut parts)?;
    Ok(TakenLog { taken, parts, slot })
}

/// The wait before a log is tried again: the first, and the longest.
const AGAIN_MIN: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(2);

/// The time between two reports of an obstacle.
const SAID_AGAIN: Duration = Duration::from_secs(10);

/// Takes over logs while the instance serves other slots: on threads of its own, [`AT_A_TIME`] at most, each until it has the log
/// or the log is not wanted any more.
#[derive(Clone)]
pub(super) struct Takers(Arc<Shared>);

struct Shared {
    journal: Arc<Journal>,
    /// Called once for each requested log; `None`: it was not wanted any more.
    done: Box<dyn Fn(u16, Option<TakenLog>) + Send + Sync>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    wanted: BTreeSet<u16>,
    queue: VecDeque<(u16, Arc<Config>)>,
    threads: u16,
    said_at: Option<Instant>,
}

impl fmt::Debug for Takers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Takers").field(&self.0.state().wanted).finish()
    }
}

impl Takers {
    /// Makes takers. `done` is called once for each requested slot, with its log, or with `None` if that was not wanted any more.
    pub(super) fn new(journal: Arc<Journal>, done: impl Fn(u16, Option<TakenLog>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared { journal, done: Box::new(done), state: Mutex::default() }))
    }

    /// Takes over the log of a slot, unless that has begun already.
    pub(super) fn take(&self, slot: u16, config: &Arc<Config>) {
        let mut state = self.0.state();
        state.wanted.insert(slot);
        state.queue.push_back((slot, Arc::clone(config)));
        if state.threads < AT_A_TIME {
            state.threads += 1;
            let shared = Arc::clone(&self.0);
            std::thread::spawn(move || shared.run());
        }
    }

    /// Cancels the takeover of a slot's log, if there is one.
    pub(super) fn want_no_more(&self, slot: u16) {
        self.0.state().wanted.remove(&slot);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes logs over until no more are waiting.
    fn run(&self) {
        loop {
            let mut state = self.state();
            let Some((slot, config)) = state.queue.pop_front() else {
                state.threads -= 1;
                return;
            };
            drop(state);
            let taken = config.broker.as_ref().and_then(|broker| self.take_until_over(&config, broker, slot));
            self.state().wanted.remove(&slot);
            (self.done)(slot, taken);
        }
    }

    /// Takes a log over, trying again and again. `None`: the log is not wanted any more.
    fn take_until_over(&self, config: &Config, broker: &Broker, slot: u16) -> Option<TakenLog> {
        let mut wait = AGAIN_MIN;
        while self.state().wanted.contains(&slot) {
            match take(&config.clusters[broker.cluster], broker, slot) {
                Ok(taken) => return Some(taken),
                Err(why) => self.tell_trouble(slot, &why.words()),
            }
            std::thread::sleep(wait);
            wait = (wait * 2).min(AGAIN_MAX);
        }
        None
    }

    fn tell_trouble(&self, slot: u16, why: &str) {
        let mut state = self.state();
        if state.said_at.is_none_or(|at| at.elapsed() >= SAID_AGAIN) {
            state.said_at = Some(Instant::now());
            let event = Event::now(Kind::SlotTrouble).with(Field::Partition, u64::from(slot));
            self.journal.say(event.with(Field::Reason, why));
        }
    }
}
