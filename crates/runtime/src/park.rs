//! A shard sleeps in its driver, and nowhere else. With the ring one system call submits the turn's operations and waits for the
//! next answer of the kernel. Answers, the bell that letters ring and the next timer all come through the driver, so an idle shard
//! needs no tick and makes no system call until something happens.
//!
//! glommio never parks this thread: version 0.9 can then sleep for good despite work. glommio gives the thread its executor and its
//! core; no task of it runs beside the shard's loop.

use std::io;

use super::driver::Driver;
use super::seam::Shard;
use super::turn::Turn;

/// Submits the turn's operations, and sleeps until there is more to do.
pub(super) fn park<S: Shard, D: Driver>(turn: &mut Turn<S, D>) -> io::Result<()> {
    if turn.has_left_over() {
        return turn.core.driver.submit(0);
    }
    if let Some(deadline) = turn.core.deadline() {
        turn.core.driver.wake_by(deadline);
    }
    if !turn.core.driver.bell_armed() {
        turn.mailbox.hush();
        turn.core.driver.poll_bell(turn.mailbox.bell());
    }
    turn.heartbeat.park();
    // The mailbox is checked again once the sleep is published: any later letter rings the bell.
    let may_sleep = turn.mailbox.park() && !turn.core.has_segment_news();
    let result = turn.core.driver.submit(usize::from(may_sleep));
    turn.mailbox.unpark();
    result
}
