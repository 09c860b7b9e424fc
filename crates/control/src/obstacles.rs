//! Obstacles: why an instance wants no new clients, as `/readyz` says.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The obstacles of an instance, in words: that of its start, and those of its shards.
#[derive(Debug, Default)]
pub struct Obstacles(Mutex<BTreeMap<Option<usize>, String>>);

impl Obstacles {
    /// Notes the obstacle of a shard, or of the start (`None`), or that there is none.
    pub fn set(&self, of: Option<usize>, why: Option<String>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match why {
            Some(why) => all.insert(of, why),
            None => all.remove(&of),
        };
    }

    /// The first obstacle, if there is one.
    #[must_use]
    pub fn first(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().next().cloned()
    }
}
