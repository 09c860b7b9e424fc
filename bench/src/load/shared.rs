//! State that the threads of a run share: settings, the phase, and counters for the watcher.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Instant;

use super::endpoint::{Endpoint, Endpoints};
use super::scenario::{Group, Role, Scenario};
use super::schedule::Schedule;
use super::verify::Publishers;
use crate::flow::plan::Weights;

/// Stages of a run, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    Connecting,
    Running,
    /// Publishers have ended; deliveries may still come.
    Stopped,
}

/// One generator thread's counters, on cache lines of their own; written once a turn.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    pub(crate) connected: AtomicU64,
    pub(crate) connects: AtomicU64,
    pub(crate) sent: AtomicU64,
    pub(crate) answered: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) failures: AtomicU64,
    /// Publishers (and connecting clients) that have more to do.
    pub(crate) unfinished: AtomicU64,
    /// Messages that are due and not sent.
    pub(crate) behind: AtomicU64,
}

/// A group, with derived values.
pub(crate) struct Prepared {
    pub(crate) group: Group,
    /// The QoS of all its messages, if it is the same.
    pub(crate) qos: Option<u8>,
    pub(crate) weights: Weights,
    /// The schedule of its writes, or connects; `None`: closed loop.
    pub(crate) schedule: Option<Schedule>,
    pub(crate) run: u32,
    /// The endpoint of its clients.
    pub(crate) endpoint: Endpoint,
}

/// See the module.
pub(crate) struct Shared {
    pub(crate) scenario: Scenario,
    pub(crate) groups: Vec<Prepared>,
    pub(crate) publishers: Publishers,
    pub(crate) threads: usize,
    pub(crate) epoch: Instant,
    /// Marks client ids and payloads.
    pub(crate) run: u32,
    /// Whether each message's fate is stored, for the judge of Kafka.
    pub(crate) told: bool,
    /// The most deliveries of one message.
    pub(crate) fan: u64,
    phase: AtomicU8,
    start_ns: AtomicU64,
    pub(crate) counters: Vec<Counters>,
}

impl Shared {
    pub(crate) fn new(
        scenario: Scenario,
        endpoints: &Endpoints,
        threads: usize,
        run: u32,
        told: bool,
    ) -> anyhow::Result<Self> {
        let publishers = Publishers::new(&scenario, run);
        let mut groups = Vec::new();
        for (index, group) in scenario.groups.iter().enumerate() {
            let weights = group.qos.weights().map_err(anyhow::Error::msg)?;
            let per = if group.role == Role::Publish { f64::from(group.per_write) } else { 1.0 };
            let open = group.rate > 0.0 && matches!(group.role, Role::Publish | Role::Connect);
            let schedule = open.then(|| Schedule::new(group.rate / per, group.ramp.0.as_secs_f64()));
            let qos = weights.sole().map(|qos| qos as u8);
            let (endpoint, run) = (endpoints.of(group)?, publishers.run_of(index));
            groups.push(Prepared { group: group.clone(), qos, weights, schedule, run, endpoint });
        }
        Ok(Self {
            fan: super::verdict::fan(&groups),
            scenario,
            groups,
            publishers,
            threads,
            epoch: Instant::now(),
            run,
            told,
            phase: AtomicU8::new(Phase::Connecting as u8),
            start_ns: AtomicU64::new(u64::MAX),
            counters: (0..threads).map(|_| Counters::default()).collect(),
        })
    }

    /// The addresses of its groups, for people.
    pub(crate) fn addresses(&self) -> String {
        let mut addresses: Vec<String> = self.groups.iter().map(|p| p.endpoint.address.to_string()).collect();
        addresses.dedup();
        addresses.join(", ")
    }

    pub(crate) fn now_ns(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Connecting,
            1 => Phase::Running,
            _ => Phase::Stopped,
        }
    }

    /// Begins the load at `start_ns`.
    pub(crate) fn start(&self, start_ns: u64) {
        self.start_ns.store(start_ns, Ordering::Release);
        self.phase.store(Phase::Running as u8, Ordering::Release);
    }

    pub(crate) fn stop(&self) {
        self.phase.store(Phase::Stopped as u8, Ordering::Release);
    }

    pub(crate) fn start_ns(&self) -> u64 {
        self.start_ns.load(Ordering::Acquire)
    }

    /// The time from which on latencies count, in ns.
    pub(crate) fn measure_ns(&self) -> u64 {
        self.start_ns().saturating_add(self.scenario.warmup.ns())
    }

    /// The time from which on nothing new becomes due, in ns.
    pub(crate) fn end_ns(&self) -> u64 {
        self.measure_ns().saturating_add(self.scenario.duration.ns())
    }

    pub(crate) fn sum(&self, counter: fn(&Counters) -> &AtomicU64) -> u64 {
        self.counters.iter().map(|counters| counter(counters).load(Ordering::Relaxed)).sum()
    }
}

impl Prepared {
    /// QoS of a message.
    #[inline]
    pub(crate) fn qos_of(&self, client: u32, number: u64) -> u8 {
        match self.qos {
            Some(qos) => qos,
            None => crate::flow::plan::qos(&self.weights, crate::flow::plan::SEED, client, number),
        }
    }
}
