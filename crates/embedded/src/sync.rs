//! Group commit. One `fdatasync` of a file covers everything appended since the previous one, across partitions: while
//! a group is in flight to the disk, appends gather in the next. The calls happen on a thread of their own.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::{Notify, mpsc as async_mpsc};

use super::counters::{Counters, add};
use super::disk::Disk;
use super::note;
use super::partition::{PartitionRef, Unsynced};

struct Job {
    items: Vec<Unsynced>,
}

/// A group that returned from the disk.
pub(crate) struct Done {
    items: Vec<(Unsynced, io::Result<()>)>,
}

/// The loop's side: collects dirty partitions, and sends one group at a time.
pub(crate) struct Syncer {
    dirty: RefCell<Vec<PartitionRef>>,
    /// The partitions of the group in flight, in its order.
    away: RefCell<Vec<PartitionRef>>,
    is_away: Cell<bool>,
    jobs: mpsc::Sender<Job>,
    settled: Notify,
}

/// The sync thread; ends when the [`Syncer`] is dropped.
pub(crate) struct SyncThread {
    thread: JoinHandle<()>,
}

impl SyncThread {
    /// Waits for the thread's end.
    pub(crate) fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("the sync thread of the embedded log panicked");
        }
    }
}

/// Starts the thread. The receiver returns finished groups; give each to [`Syncer::finish`].
pub(crate) fn start(
    disk: Arc<dyn Disk>,
    counters: Arc<Counters>,
) -> io::Result<(Syncer, async_mpsc::UnboundedReceiver<Done>, SyncThread)> {
    let (jobs, inbox) = mpsc::channel::<Job>();
    let (outbox, done) = async_mpsc::unbounded_channel();
    let work = move || {
        while let Ok(job) = inbox.recv() {
            add(&counters.sync_groups, 1);
            let run = |item: Unsynced| {
                let result = sync(disk.as_ref(), &counters, &item);
                (item, result)
            };
            if outbox.send(Done { items: job.items.into_iter().map(run).collect() }).is_err() {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("embedded-sync".into()).spawn(work)?;
    let syncer = Syncer {
        dirty: RefCell::default(),
        away: RefCell::default(),
        is_away: Cell::new(false),
        jobs,
        settled: Notify::new(),
    };
    Ok((syncer, done, SyncThread { thread }))
}

fn sync(disk: &dyn Disk, counters: &Counters, item: &Unsynced) -> io::Result<()> {
    let start = Instant::now();
    let files = item.files.iter().try_for_each(|(_, _, file)| {
        add(&counters.syncs, 1);
        disk.sync_file(file)
    });
    let result = files.and_then(|()| item.dir.as_ref().map_or(Ok(()), |dir| disk.sync_dir(dir)));
    add(&counters.sync_us, start.elapsed().as_micros() as u64);
    match result {
        // Without the note a start notices less.
        Ok(()) => drop(note::write(&item.noted_in, item.next_offset)),
        Err(_) => add(&counters.sync_failures, 1),
    }
    result
}

impl Syncer {
    /// Notes that something was appended to this partition.
    pub(crate) fn mark(&self, partition: &PartitionRef) {
        if partition.borrow_mut().enter_sync_queue() {
            self.dirty.borrow_mut().push(Rc::clone(partition));
        }
    }

    /// Sends the next group, unless one is in flight or nothing is dirty.
    pub(crate) fn kick(&self) {
        if self.is_away.get() {
            return;
        }
        let mut away = self.away.borrow_mut();
        let mut items = Vec::new();
        for partition in self.dirty.borrow_mut().drain(..) {
            let unsynced = partition.borrow_mut().leave_sync_queue();
            if let Some(unsynced) = unsynced {
                items.push(unsynced);
                away.push(partition);
            }
        }
        if items.is_empty() {
            self.settled.notify_waiters();
            return;
        }
        self.is_away.set(true);
        if self.jobs.send(Job { items }).is_err() {
            let error = io::Error::other("the sync thread is gone");
            away.drain(..).for_each(|partition| partition.borrow_mut().fail(&error));
            self.is_away.set(false);
        }
    }

    /// Handles a group that has returned: its data becomes visible, or its partitions fail. Then sends the next one.
    pub(crate) fn finish(&self, done: Done) {
        let partitions = std::mem::take(&mut *self.away.borrow_mut());
        for (partition, (item, result)) in partitions.into_iter().zip(done.items) {
            match result {
                Ok(()) => partition.borrow_mut().synced(&item),
                Err(error) => partition.borrow_mut().fail(&error),
            }
        }
        self.is_away.set(false);
        self.kick();
    }

    /// Waits until nothing is dirty and no group is in flight.
    pub(crate) async fn settle(&self) {
        loop {
            let settled = self.settled.notified();
            self.kick();
            if !self.is_away.get() && self.dirty.borrow().is_empty() {
                return;
            }
            settled.await;
        }
    }
}

/// Waits until each partition is synced up to its offset. `false` for a partition if its disk fails first.
pub(crate) async fn wait(targets: &[(PartitionRef, i64)]) -> Vec<bool> {
    let reached = |(partition, offset): &(PartitionRef, i64)| partition.borrow().high_watermark() >= *offset;
    for target in targets {
        while !reached(target) && !target.0.borrow().is_failed() {
            let progress = Rc::new(Notify::new());
            target.0.borrow_mut().on_progress(&progress);
            progress.notified().await;
        }
    }
    targets.iter().map(reached).collect()
}
