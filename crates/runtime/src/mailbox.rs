//! Letters between shards, and from ordinary threads to a shard.
//!
//! One bounded queue per shard, many writers, one reader; no lock and no allocation per letter. A bell is an eventfd,
//! and ringing it costs a system call, so it is rung only for a shard that sleeps:
//!
//! - the reader publishes that it sleeps, fences, looks into the queue once more, and only then enters the kernel;
//! - a writer pushes, fences, and rings if it sees a sleeper (taking the flag, so one of many writers rings).
//!
//! One of the two fences comes first, so either the reader sees the letter or the writer sees the flag.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::{fmt, io};

use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;
use rustix::event::{EventfdFlags, eventfd};

struct Mailbox<M> {
    queue: ArrayQueue<M>,
    parked: CachePadded<AtomicBool>,
    /// Set when the reader is gone: letters are returned to their writers.
    closed: AtomicBool,
    /// An eventfd, which the reader's ring polls.
    bell: OwnedFd,
}

impl<M> Mailbox<M> {
    /// Rings if the reader sleeps; one of many writers does.
    fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.parked.load(Ordering::Relaxed) && self.parked.swap(false, Ordering::Relaxed) {
            self.ring();
        }
    }

    fn ring(&self) {
        // This fails only if the count is full, after 2^64 rings; the descriptor is readable then all the same.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }
}

/// The writing end of every shard's mailbox.
pub struct Post<M> {
    boxes: Arc<[Mailbox<M>]>,
}

impl<M> Clone for Post<M> {
    fn clone(&self) -> Self {
        Self { boxes: Arc::clone(&self.boxes) }
    }
}

impl<M> fmt::Debug for Post<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Post").field("shards", &self.boxes.len()).finish()
    }
}

impl<M: Send> Post<M> {
    /// The number of shards.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.boxes.len()
    }

    /// Puts a letter into the mailbox of shard `to` and wakes the shard if it sleeps. Never blocks.
    ///
    /// # Errors
    /// The letter itself, if that mailbox is full, its shard has ended, or there is no such shard.
    pub fn send(&self, to: usize, letter: M) -> Result<(), M> {
        let Some(mailbox) = self.boxes.get(to) else { return Err(letter) };
        if mailbox.closed.load(Ordering::Relaxed) {
            return Err(letter);
        }
        mailbox.queue.push(letter)?;
        mailbox.wake();
        Ok(())
    }

    /// Wakes shard `to` if it sleeps: for data outside of its mailbox that was put there before.
    pub(super) fn wake(&self, to: usize) {
        if let Some(mailbox) = self.boxes.get(to) {
            mailbox.wake();
        }
    }

    /// Whether a shard takes no letters any more: it has ended, or does not exist.
    #[must_use]
    pub fn has_ended(&self, shard: usize) -> bool {
        self.boxes.get(shard).is_none_or(|mailbox| mailbox.closed.load(Ordering::Relaxed))
    }

    /// Whether letters wait for a shard.
    pub(super) fn has_letters(&self, shard: usize) -> bool {
        self.boxes.get(shard).is_some_and(|mailbox| !mailbox.queue.is_empty())
    }

    /// Rings a shard's bell without a letter, asleep or not (the watchdog's knock).
    pub(super) fn ring(&self, shard: usize) {
        if let Some(mailbox) = self.boxes.get(shard) {
            mailbox.ring();
        }
    }
}

/// The reading end of one mailbox; moves into its shard's thread.
pub struct MailboxReceiver<M: Send> {
    post: Post<M>,
    index: usize,
}

impl<M: Send> fmt::Debug for MailboxReceiver<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailboxReceiver").field("index", &self.index).finish()
    }
}

impl<M: Send> MailboxReceiver<M> {
    fn mailbox(&self) -> &Mailbox<M> {
        &self.post.boxes[self.index]
    }

    /// The index of the shard that owns the mailbox.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    pub(super) fn post(&self) -> &Post<M> {
        &self.post
    }

    pub(super) fn take(&self) -> Option<M> {
        // `pop` has a fence where there is nothing, and most turns find nothing.
        let queue = &self.mailbox().queue;
        if queue.is_empty() { None } else { queue.pop() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.mailbox().queue.is_empty()
    }

    /// Publishes that the shard is about to sleep. True if it may: no letter has arrived.
    pub(super) fn park(&self) -> bool {
        self.mailbox().parked.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.is_empty()
    }

    /// The shard is awake and looks by itself.
    pub(super) fn unpark(&self) {
        self.mailbox().parked.store(false, Ordering::Relaxed);
    }

    /// The eventfd that wakes a sleeper.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.mailbox().bell.as_fd()
    }

    /// Forgets past rings.
    pub(super) fn hush(&self) {
        // An empty eventfd is the aim, so an error is ignored.
        let _ = rustix::io::read(self.bell(), &mut [0; 8]);
    }
}

impl<M: Send> Drop for MailboxReceiver<M> {
    fn drop(&mut self) {
        self.mailbox().closed.store(true, Ordering::SeqCst);
        // Letters may own sockets: do not keep them open until the last `Post` is gone.
        while self.take().is_some() {}
    }
}

/// One mailbox for each shard, `capacity` letters each, and the writing end for all of them.
///
/// # Errors
/// No eventfd is available (open files).
pub fn mailboxes<M: Send>(shards: usize, capacity: usize) -> io::Result<(Post<M>, Vec<MailboxReceiver<M>>)> {
    let boxes: io::Result<Vec<_>> = (0..shards)
        .map(|_| {
            Ok(Mailbox {
                queue: ArrayQueue::new(capacity.max(1)),
                parked: CachePadded::new(AtomicBool::new(false)),
                closed: AtomicBool::new(false),
                bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            })
        })
        .collect();
    let post = Post { boxes: boxes?.into() };
    let receivers = (0..shards).map(|index| MailboxReceiver { post: post.clone(), index }).collect();
    Ok((post, receivers))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rung(receiver: &MailboxReceiver<u32>) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut fds = [PollFd::from_borrowed_fd(receiver.bell(), PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&now)).is_ok_and(|ready| ready == 1)
    }

    #[test]
    fn the_bell_rings_only_for_a_sleeper() {
        let (post, receivers) = mailboxes::<u32>(1, 8).unwrap();
        let receiver = &receivers[0];
        post.send(0, 1).unwrap();
        assert!(!rung(receiver), "awake: it looks by itself");
        assert!(!receiver.park(), "a letter is there: no sleep");
        receiver.unpark();
        assert_eq!(receiver.take(), Some(1));
        assert!(receiver.park());
        post.send(0, 2).unwrap();
        assert!(rung(receiver));
        receiver.hush();
        post.send(0, 3).unwrap();
        assert!(!rung(receiver), "one of many writers rings");
        assert_eq!((receiver.take(), receiver.take()), (Some(2), Some(3)));
    }

    #[test]
    fn full_gone_or_unknown_gives_the_letter_back() {
        let (post, mut receivers) = mailboxes::<u32>(2, 2).unwrap();
        assert_eq!((post.send(0, 1), post.send(0, 2), post.send(0, 3)), (Ok(()), Ok(()), Err(3)));
        assert_eq!(post.send(2, 4), Err(4));
        drop(receivers.remove(0));
        assert_eq!(post.send(0, 5), Err(5));
        assert_eq!(post.send(1, 6), Ok(()));
    }

    #[test]
    fn a_dead_shard_drops_its_letters() {
        let (post, receivers) = mailboxes::<Arc<()>>(1, 8).unwrap();
        let letter = Arc::new(());
        post.send(0, Arc::clone(&letter)).unwrap();
        drop(receivers);
        assert_eq!(Arc::strong_count(&letter), 1);
    }
}
