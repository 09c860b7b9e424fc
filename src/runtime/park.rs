//! Where a shard sleeps.
//!
//! While there is work, in our own ring: one system call submits the turn's sends and waits for the next answers.
//! glommio gets a pass at every tick. After a tick without work, in glommio: it reads an eventfd, which the kernel
//! writes when our ring has something, and a peer when the mailbox has; nothing of ours runs until then.

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd};
use std::time::Duration;

use glommio::io::BufferedFile;
use glommio::timer;

use super::mailbox::Place;
use super::ring::Ring;
use super::seam::{Monotonic, Shard};
use super::turn::Turn;

/// How often glommio gets a pass while we are busy, and how long a silence makes us idle. Less than 5 ms costs, more
/// than 20 ms makes glommio's tasks late.
const TICK: Duration = Duration::from_millis(10);
/// glommio's own hang (a wake-up missed while parked) ends here.
const GUARD: Duration = Duration::from_millis(100);
/// The shortest sleep that makes glommio do a full round; zero returns at once.
const PASS: Duration = Duration::from_micros(1);

/// The places to sleep in, and what decides between them.
pub(super) struct Parking {
    /// The eventfd, as glommio reads it.
    doorbell: BufferedFile,
    idle: bool,
    worked: bool,
    tick_at: Monotonic,
}

impl Parking {
    /// To be called inside the executor.
    pub(super) async fn new(ring: &mut Ring, bell: BorrowedFd<'_>) -> io::Result<Self> {
        ring.register_eventfd(bell)?;
        // SAFETY: an open descriptor that is ours to give away.
        let doorbell = unsafe { BufferedFile::from_raw_fd(bell.try_clone_to_owned()?.into_raw_fd()) };
        glommio::spawn_local(async {
            loop {
                timer::sleep(GUARD).await;
            }
        })
        .detach();
        // glommio 0.9 is tens of milliseconds late with the first timer of an executor: have that behind us.
        timer::sleep(PASS).await;
        Ok(Self { doorbell, idle: false, worked: false, tick_at: Monotonic::default() })
    }

    /// Hands over what the turn asked for, and sleeps until there is more to do. `worked`: the turn had work.
    pub(super) async fn park<S: Shard>(&mut self, turn: &mut Turn<S>, worked: bool) -> io::Result<()> {
        let now = turn.core.now;
        self.worked |= worked;
        if self.idle && self.worked {
            (self.idle, self.tick_at) = (false, now.after(TICK));
        }
        let tick = !self.idle && now >= self.tick_at;
        if tick {
            self.idle = !std::mem::take(&mut self.worked);
            self.tick_at = now.after(TICK);
        }
        if turn.has_left_over() {
            turn.core.ring.submit(0)?;
        } else if self.idle {
            return self.sleep_in_glommio(turn).await;
        } else {
            self.sleep_in_ring(turn)?;
        }
        if tick {
            timer::sleep(PASS).await;
        }
        Ok(())
    }

    fn sleep_in_ring<S: Shard>(&mut self, turn: &mut Turn<S>) -> io::Result<()> {
        let deadline = turn.core.deadline().map_or(self.tick_at, |at| at.min(self.tick_at));
        turn.core.ring.wake_by(deadline);
        if !turn.core.ring.bell_armed() {
            turn.mailbox.hush();
            turn.core.ring.poll_bell(turn.mailbox.bell(Place::Ring));
        }
        turn.heartbeat.park();
        let may_sleep = turn.mailbox.park(Place::Ring) && !turn.core.has_segment_news();
        let wait = usize::from(may_sleep);
        let result = turn.core.ring.submit(wait);
        turn.mailbox.unpark();
        result
    }

    async fn sleep_in_glommio<S: Shard>(&mut self, turn: &mut Turn<S>) -> io::Result<()> {
        // A late ring of the other bell must not reach our ring in there: see `mailbox`.
        if !turn.core.ring.cancel_bell() {
            return turn.core.ring.submit(1);
        }
        if let Some(deadline) = turn.core.deadline() {
            turn.core.ring.wake_by(deadline);
        }
        turn.heartbeat.park();
        let may_sleep = turn.mailbox.park(Place::Executor) && !turn.core.has_segment_news();
        turn.core.ring.eventfd(true);
        turn.core.ring.submit(0)?;
        if may_sleep && turn.core.ring.is_silent() {
            self.doorbell.read_at(0, 8).await.map_err(io::Error::from)?;
        }
        turn.core.ring.eventfd(false);
        turn.mailbox.unpark();
        Ok(())
    }

    /// Gives the eventfd back to the system.
    pub(super) async fn close(self) {
        // The descriptor is gone either way.
        let _ = self.doorbell.close().await;
    }
}
