//! What a run with several instances draws: how many there are, when they give a dead one up, who publishes and who subscribes.

use super::{Delivery, Plan};
use crate::faults::Fault;
use crate::plan::broker::BrokerPlan;
use crate::sources::plan::Reading;
use crate::time::{MS, S};

/// The most instances.
pub const MOST: usize = 4;

/// Several instances of one broker.
#[derive(Clone, Copy, Debug)]
pub struct InstancesPlan {
    /// How many there may be at a time.
    pub most: usize,
    /// How many of them start first.
    pub first: usize,
    /// Shards of each.
    pub shards: [usize; MOST],
    /// Clients of 5.0 are told where to connect.
    pub redirects: bool,
    /// `session_timeout`, in seconds.
    pub session_timeout_s: u64,
}

/// One of them, as its configuration has it.
#[derive(Clone, Copy, Debug)]
pub struct InstancePlan {
    /// Its number.
    pub index: usize,
    /// See [`InstancesPlan`].
    pub redirects: bool,
    /// See [`InstancesPlan`].
    pub session_timeout_s: u64,
}

/// The name of an instance.
#[must_use]
pub fn name_of(index: usize) -> String {
    format!("i{index}")
}

/// `LEFT_OUT` are the faults that these runs leave out beside those of `[broker]`: a machine has no disk, a topic that cannot be read is tried again half
/// a minute later, and after a log was cut nothing holds.
const LEFT_OUT: [Fault; 4] = [Fault::PowerCut, Fault::LoseMachine, Fault::ForbidReading, Fault::CutLog];

impl Plan {
    /// Several instances in place of one process.
    pub(super) fn with_instances(self, rng: &mut fastrand::Rng) -> Self {
        let mut plan = self.with_broker(&mut rng.clone());
        plan.faults.retain(|(fault, _)| !LEFT_OUT.contains(fault));
        let most = [2, 2, 3, 3, 4][rng.usize(..5)];
        let instances = InstancesPlan {
            most,
            first: rng.usize(1..=most),
            shards: std::array::from_fn(|_| rng.usize(1..3)),
            redirects: rng.bool(),
            session_timeout_s: [6, 6, 6, 9, 12][rng.usize(..5)],
        };
        plan.storm = rng.u64(12..50) * S;
        plan.devices = rng.usize(2..6);
        plan.subscribers = rng.usize(1..5);
        plan.messages = rng.usize(20..100);
        // Messages come as long as faults do.
        plan.pace = plan.storm / plan.messages as u64;
        plan.mail = [0, 0, MS][rng.usize(..3)];
        // In nearly all runs something happens to instances.
        let ends = [Fault::Kill, Fault::FreezeProcess, Fault::Stop];
        if rng.u8(..8) > 0 && !plan.faults.iter().any(|(fault, _)| ends.contains(fault)) {
            let fault = ends[rng.usize(..3)];
            plan.faults.push((fault, fault.mean_time() * 4 / rng.u64(1..=4)));
        }
        // More often than once in a session time-out nothing comes to rest.
        for (fault, mean) in &mut plan.faults {
            if fault.is_of_the_machine() {
                *mean *= 2;
            }
        }
        plan.settings.delivery = plan.settings.delivery.map(|delivery| Delivery { messages_max: 10_000, ..delivery });
        let reading = plan.reading.map(|reading| Reading { records: 0, pace: S, ..reading });
        plan.reading = reading;
        plan.settings.sources.clear();
        plan.instances = Some(instances);
        plan
    }
}

impl BrokerPlan {
    /// The name of the instance that is configured.
    #[must_use]
    pub fn name(&self) -> String {
        self.instance.map_or_else(|| super::broker::INSTANCE.to_owned(), |instance| name_of(instance.index))
    }
}
