//! The watchdog's thread: looks at the shards every two seconds and keeps what `/healthz` says.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::control::Health;
use crate::metrics::event::{Event, Field, Kind};
use crate::metrics::journal::Journal;
use crate::runtime::{Heartbeat, Post, Watchdog};
use crate::shard::mail::Mail;

/// Longer than any turn may take, the slowest disk included.
const STALL_LIMIT: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Starts the thread; the answer is what it saw last.
pub(super) fn watch(post: Post<Mail>, hearts: Vec<Arc<Heartbeat>>, journal: Arc<Journal>) -> io::Result<Box<Health>> {
    let verdict: Arc<Mutex<Option<String>>> = Arc::default();
    let told = Arc::clone(&verdict);
    std::thread::Builder::new().name("watchdog".into()).spawn(move || {
        let mut watchdog = Watchdog::new(post, hearts, STALL_LIMIT, Instant::now());
        // Ends when nobody is left to tell: the control plane is gone.
        while Arc::strong_count(&told) > 1 {
            std::thread::sleep(LOOK_EVERY);
            let stalled = watchdog.stalled(Instant::now());
            let text = stalled.first().map(|(shard, silent)| format!("shard {shard} has not turned for {silent:.0?}"));
            let before = std::mem::replace(&mut *told.lock().unwrap_or_else(PoisonError::into_inner), text);
            if let (None, Some((shard, silent))) = (before, stalled.first()) {
                let silent_ms = u64::try_from(silent.as_millis()).unwrap_or(u64::MAX);
                let event = Event::now(Kind::ShardStandsStill).on(*shard);
                journal.say(event.with(Field::SilentMs, silent_ms));
            }
        }
    })?;
    Ok(Box::new(move || verdict.lock().unwrap_or_else(PoisonError::into_inner).clone()))
}
