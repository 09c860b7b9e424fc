//! Disks that fail, fill up, or are slow.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};

use super::client::{Batch, Client, produce_request};
use super::support::{log_on, settings};
use crate::EmbeddedLog;
use crate::disk::{Disk, KernelDisk};

/// A disk on which syncs of segments wait while it is shut, and fail when requested. Syncs of the small files pass.
#[derive(Default)]
pub(super) struct TestDisk {
    shut: Mutex<bool>,
    opened: Condvar,
    pub(super) syncs: AtomicUsize,
    fail_sync: AtomicBool,
    full: AtomicBool,
    is_serving: AtomicBool,
}

impl TestDisk {
    pub(super) fn shut(&self) {
        self.is_serving.store(true, SeqCst);
        *self.shut.lock().unwrap() = true;
    }

    pub(super) fn open(&self) {
        *self.shut.lock().unwrap() = false;
        self.opened.notify_all();
    }

    pub(super) fn wait_for_syncs(&self, count: usize) {
        while self.syncs.load(SeqCst) < count {
            std::thread::yield_now();
        }
    }
}

impl Disk for TestDisk {
    fn write(&self, file: &File, bytes: &[u8], position: u64) -> io::Result<()> {
        if self.full.load(SeqCst) {
            KernelDisk.write(file, &bytes[..bytes.len() / 2], position)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        KernelDisk.write(file, bytes, position)
    }

    fn sync_file(&self, file: &File) -> io::Result<()> {
        if self.is_serving.load(SeqCst) {
            self.syncs.fetch_add(1, SeqCst);
            let mut shut = self.shut.lock().unwrap();
            while *shut {
                shut = self.opened.wait(shut).unwrap();
            }
        }
        if self.fail_sync.load(SeqCst) {
            return Err(io::Error::other("the disk is gone"));
        }
        KernelDisk.sync_file(file)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        KernelDisk.sync_dir(dir)
    }
}

#[test]
fn nothing_is_answered_or_shown_before_its_sync() {
    let disk = Arc::new(TestDisk::default());
    let (log, _dir) = log_on(disk.clone());
    let mut producer = Client::connect(log.local_addr());
    let mut reader = Client::connect(log.local_addr());
    producer.metadata(&["t"]);
    disk.shut();
    producer.send(&produce_request(-1, &[("t", 0, &Batch::counted(3).bytes())]), 9);
    disk.wait_for_syncs(1);
    let data = reader.fetch("t", 0, 0);
    assert_eq!((data.error_code, data.high_watermark, data.records.unwrap().len()), (0, 0, 0));
    assert_eq!(reader.list_offset("t", 0, -1), (0, -1, 0));
    disk.open();
    let answer = producer.receive::<kafka_protocol::messages::ProduceRequest>(9);
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    assert_eq!(reader.read_all("t", 0, 0).len(), 3);
}

#[test]
fn one_sync_covers_all_that_came_since_the_last_one() {
    let disk = Arc::new(TestDisk::default());
    let (log, _dir) = log_on(disk.clone());
    let mut first = Client::connect(log.local_addr());
    first.metadata(&["t"]);
    disk.shut();
    let batch = Batch::counted(1).bytes();
    first.send(&produce_request(-1, &[("t", 0, &batch)]), 9);
    disk.wait_for_syncs(1);
    let mut others: Vec<_> = (0..20).map(|_| Client::connect(log.local_addr())).collect();
    for other in &mut others {
        other.send(&produce_request(-1, &[("t", 0, &batch)]), 9);
    }
    // All twenty are appended before the first sync returns.
    let counters = log.counters();
    while counters.batches_appended.load(SeqCst) < 21 {
        std::thread::yield_now();
    }
    disk.open();
    for client in others.iter_mut().chain([&mut first]) {
        let answer = client.receive::<kafka_protocol::messages::ProduceRequest>(9);
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    }
    assert_eq!(disk.syncs.load(SeqCst), 2);
    assert_eq!(counters.sync_groups.load(SeqCst), 2);
}

#[test]
fn a_duplicate_of_what_is_not_synced_waits_for_the_same_sync() {
    let disk = Arc::new(TestDisk::default());
    let (log, _dir) = log_on(disk.clone());
    let mut first = Client::connect(log.local_addr());
    first.metadata(&["t"]);
    disk.shut();
    let request = produce_request(-1, &[("t", 0, &Batch::counted(2).by(1, 0, 0).bytes())]);
    first.send(&request, 9);
    disk.wait_for_syncs(1);
    let mut second = Client::connect(log.local_addr());
    second.send(&request, 9);
    let counters = log.counters();
    while counters.batches_duplicate.load(SeqCst) < 1 {
        std::thread::yield_now();
    }
    // The second request must not be answered yet: otherwise this metadata request after it would be answered too.
    second.stream.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
    assert!(second.receive_frame().is_err());
    second.stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    disk.open();
    for client in [&mut first, &mut second] {
        let answer = client.receive::<kafka_protocol::messages::ProduceRequest>(9);
        let answer = &answer.responses[0].partition_responses[0];
        assert_eq!((answer.error_code, answer.base_offset), (0, 0));
    }
}

#[test]
fn a_failed_sync_is_final_for_its_partition() {
    let disk = Arc::new(TestDisk::default());
    let (log, dir) = log_on(disk.clone());
    let mut client = Client::connect(log.local_addr());
    client.metadata(&["good", "bad"]);
    let batch = Batch::counted(2).bytes();
    assert_eq!(client.produce("bad", 0, &batch).error_code, 0);
    disk.fail_sync.store(true, SeqCst);
    assert_eq!(client.produce("bad", 0, &batch).error_code, 56);
    disk.fail_sync.store(false, SeqCst);
    // The disk works again, but its pages are not to be trusted any more.
    assert_eq!(client.produce("bad", 0, &batch).error_code, 56);
    assert_eq!(client.produce("good", 0, &batch).error_code, 0);
    assert_eq!(client.read_all("bad", 0, 0).len(), 2, "what was answered is still served");
    assert_eq!(log.counters().sync_failures.load(SeqCst), 1);
    log.stop();
    let log = EmbeddedLog::start(settings(dir.path())).unwrap();
    let mut client = Client::connect(log.local_addr());
    assert!(client.read_all("bad", 0, 0).len() >= 2);
    assert_eq!(client.produce("bad", 0, &batch).error_code, 0);
}

#[test]
fn a_full_disk_refuses_and_goes_on_when_there_is_room() {
    let disk = Arc::new(TestDisk::default());
    let (log, dir) = log_on(disk.clone());
    let mut client = Client::connect(log.local_addr());
    client.metadata(&["t"]);
    let batch = |sequence| Batch::counted(2).by(1, 0, sequence).bytes();
    assert_eq!(client.produce("t", 0, &batch(0)).error_code, 0);
    let path = dir.path().join("partitions/t-0/00000000000000000000.segment");
    let before = std::fs::read(&path).unwrap();
    disk.full.store(true, SeqCst);
    assert_eq!(client.produce("t", 0, &batch(2)).error_code, 56);
    assert_eq!(std::fs::read(&path).unwrap(), before, "no half batch stays behind");
    disk.full.store(false, SeqCst);
    let answer = client.produce("t", 0, &batch(2));
    assert_eq!((answer.error_code, answer.base_offset), (0, 2), "the producer's next try is in order");
}
