//! The watchdog's thread: checks the shards every two seconds, stores the answer of `/healthz`, and tells systemd that the
//! service works while all shards do.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::control::Health;
use crate::metrics::event::{Event, Field, Kind};
use crate::metrics::journal::Journal;
use crate::runtime::{Heartbeat, Post, Watchdog};
use crate::service::notify;
use crate::shard::mail::Mail;

/// A time longer than any turn may take, the slowest disk included.
const STALL_LIMIT: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The thread's last verdict; the thread runs until this and every [`Health`] made of it are dropped.
pub(super) struct Watch(Arc<Mutex<Option<String>>>);

impl Watch {
    /// The health at the thread's last check: the shard that is stalled.
    pub(super) fn health(&self) -> Box<Health> {
        let verdict = Arc::clone(&self.0);
        Box::new(move || verdict.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// Starts the thread.
pub(super) fn watch(post: Post<Mail>, hearts: Vec<Arc<Heartbeat>>, journal: Arc<Journal>) -> io::Result<Watch> {
    let verdict: Arc<Mutex<Option<String>>> = Arc::default();
    let told = Arc::downgrade(&verdict);
    let to_systemd = notify::watchdog_is_on();
    std::thread::Builder::new().name("watchdog".into()).spawn(move || {
        let mut watchdog = Watchdog::new(post, hearts, STALL_LIMIT, Instant::now());
        while let Some(verdict) = told.upgrade() {
            let stalled = watchdog.stalled(Instant::now());
            let text =
                stalled.first().map(|(shard, silent)| format!("shard {shard} has been blocked for {silent:.0?}"));
            let before = std::mem::replace(&mut *verdict.lock().unwrap_or_else(PoisonError::into_inner), text);
            drop(verdict);
            if let (None, Some((shard, silent))) = (before, stalled.first()) {
                let silent_ms = u64::try_from(silent.as_millis()).unwrap_or(u64::MAX);
                let event = Event::now(Kind::ShardBlocked).on(*shard);
                journal.say(event.with(Field::SilentMs, silent_ms));
            }
            if to_systemd && stalled.is_empty() {
                notify::alive();
            }
            std::thread::sleep(LOOK_EVERY);
        }
    })?;
    Ok(Watch(verdict))
}
