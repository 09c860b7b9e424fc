//! The plan of a run with several instances: their number, the time until a dead one is given up, publishers and subscribers.

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
    /// Bound on the number of instances at a time.
    pub most: usize,
    /// Number of instances that start first.
    pub first: usize,
    /// Number of shards of each instance.
    pub shards: [usize; MOST],
    /// Whether 5.0 clients are redirected to the right instance.
    pub redirects: bool,
    /// `session_timeout`, in seconds.
    pub session_timeout_s: u64,
}

/// One of several instances, as its configuration has it.
#[derive(Clone, Copy, Debug)]
pub struct InstancePlan {
    /// Number of the instance.
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

/// The faults that these runs leave out in addition to those of `[broker]`: a machine has no disk, a topic that cannot be read is tried again half a
/// minute later, and after a log was cut no promise holds.
const LEFT_OUT: [Fault; 4] = [Fault::PowerCut, Fault::LoseMachine, Fault::ForbidReading, Fault::CutLog];

impl Plan {
    /// Replaces the one process by several instances.
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
        plan.mail = [0, MS, 300 * MS][rng.usize(..3)];
        // In nearly all runs something happens to instances.
        let ends = [Fault::Kill, Fault::FreezeProcess, Fault::Stop];
        if rng.u8(..8) > 0 && !plan.faults.iter().any(|(fault, _)| ends.contains(fault)) {
            let fault = ends[rng.usize(..3)];
            plan.faults.push((fault, fault.mean_time() * 4 / rng.u64(1..=4)));
        }
        // Faults that come more often than once in a session time-out never let the run come to rest.
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
