//! The watchdog's thread: looks at the shards every second and keeps what `/healthz` says.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::control::Health;
use crate::runtime::{Heartbeat, Post, Watchdog};
use crate::shard::mail::Mail;

/// Longer than any turn may take, the slowest disk included.
const STALL_LIMIT: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Starts the thread; the answer is what it saw last.
pub(super) fn watch(post: Post<Mail>, hearts: Vec<Arc<Heartbeat>>) -> io::Result<Box<Health>> {
    let verdict: Arc<Mutex<Option<String>>> = Arc::default();
    let told = Arc::clone(&verdict);
    std::thread::Builder::new().name("watchdog".into()).spawn(move || {
        let mut watchdog = Watchdog::new(post, hearts, STALL_LIMIT, Instant::now());
        // Ends when nobody is left to tell: the control plane is gone.
        while Arc::strong_count(&told) > 1 {
            std::thread::sleep(LOOK_EVERY);
            let stalled = watchdog.stalled(Instant::now());
            let text = stalled.first().map(|(shard, silent)| format!("shard {shard} has not turned for {silent:.0?}"));
            if let Some(text) = &text {
                tracing::error!("{text}");
            }
            *told.lock().unwrap_or_else(PoisonError::into_inner) = text;
        }
    })?;
    Ok(Box::new(move || verdict.lock().unwrap_or_else(PoisonError::into_inner).clone()))
}
