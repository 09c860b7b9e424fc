//! All topics of the log, and the state shared by the tasks on its thread: the directory, the syncer, the counters.

mod admin;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::batch::{BatchHeader, Refusal};
use super::code;
use super::counters::{Counters, add};
use super::damage::{Damage, Teller};
use super::disk::Disk;
use super::groups::Groups;
use super::groups::offsets::{self, OffsetFile, Offsets};
use super::meta::{self, MetaDir, MetaError, TopicMeta};
use super::partition::{Appended, Bounds, Findings, Partition, PartitionRef};
use super::recover;
use super::segment::Source;
use super::settings::Settings;
use super::sync::Syncer;
use super::topic_config::TopicConfig;
use forebay_base::files;
use forebay_kafka::topic_name;

/// A topic at one time: a change makes a new value, with the same partitions.
#[derive(Debug)]
pub(crate) struct Topic {
    /// The topic's name.
    pub(crate) name: String,
    /// The topic's id.
    pub(crate) id: Uuid,
    /// The topic's partitions, by index.
    pub(crate) partitions: Vec<PartitionRef>,
    /// The settings of this topic alone.
    pub(crate) config: TopicConfig,
}

impl Topic {
    /// The partition with an index from the wire.
    pub(crate) fn partition(&self, index: i32) -> Option<&PartitionRef> {
        usize::try_from(index).ok().and_then(|index| self.partitions.get(index))
    }
}

#[derive(Default)]
struct Topics {
    by_name: BTreeMap<String, Rc<Topic>>,
    by_id: HashMap<Uuid, Rc<Topic>>,
    partitions: usize,
}

/// The state of the log.
pub(crate) struct Store {
    /// The settings at startup.
    pub(crate) settings: Settings,
    /// Counters for `/metrics`.
    pub(crate) counters: Arc<Counters>,
    /// Group commit.
    pub(crate) syncer: Syncer,
    /// Consumer groups.
    pub(crate) groups: Groups,
    disk: Arc<dyn Disk>,
    meta: MetaDir,
    topics: RefCell<Topics>,
    /// Serializes changes of the directory: each checks the state that earlier ones left.
    changing: Mutex<()>,
    producer_ids: Mutex<Range<i64>>,
    /// The highest producer id in any partition at startup.
    found_producer_id: Option<i64>,
    /// Partitions with an open file, in the order of opening.
    open_files: RefCell<VecDeque<PartitionRef>>,
    scratch: Cell<Vec<u8>>,
    /// Memory budgets for requests and for answers, separate because a request waits for its answer's memory while it
    /// holds its own.
    request_memory: Budget,
    answer_memory: Budget,
}

/// A number of bytes that all connections share.
struct Budget {
    semaphore: Arc<Semaphore>,
    bytes_max: u32,
}

/// Requests and answers up to this size need no budget.
const SMALL_BYTES: usize = 16 << 10;

impl Budget {
    fn new(bytes_max: usize) -> Budget {
        let bytes_max = u32::try_from(bytes_max).unwrap_or(u32::MAX).max(1);
        Budget { semaphore: Arc::new(Semaphore::new(bytes_max as usize)), bytes_max }
    }

    async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        if bytes <= SMALL_BYTES {
            return None;
        }
        // A larger count than the whole budget waits for the whole budget.
        let count = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.bytes_max);
        Arc::clone(&self.semaphore).acquire_many_owned(count).await.ok()
    }
}

/// The directory, and the topics found in it.
pub(crate) struct Loaded {
    meta: MetaDir,
    topics: Vec<(TopicMeta, Vec<Partition>)>,
    /// The highest producer id in any batch.
    producer_id: Option<i64>,
    offsets: (OffsetFile, Offsets),
}

/// Opens the directory and recovers all partitions.
pub(crate) fn load(disk: &dyn Disk, settings: &Settings, counters: &Counters) -> Result<Loaded, MetaError> {
    let meta = MetaDir::open(disk, &settings.dir)?;
    let deleted = meta.deleted()?;
    let offsets = load_offsets(disk, &meta, (counters, &settings.teller), &deleted)?;
    meta.finish_deletions(disk, &deleted)?;
    let (found, damaged) = meta.topics(disk, settings.partitions_per_topic_max)?;
    add(&counters.recovery_files_damaged, damaged);
    let (mut topics, mut producer_id) = (Vec::new(), None);
    for topic in found {
        let mut partitions = Vec::new();
        for index in 0..topic.partitions {
            let dir = meta.partition_dir(&topic.name, index);
            let name = format!("{}-{index}", topic.name);
            if !dir.exists() {
                add(&counters.recovery_files_damaged, 1);
                let reason = "the directory of a partition is missing; the partition begins anew";
                settings.teller.tell(&Damage { file: &dir, offsets: None, reason });
                files::make_dirs(&dir).map_err(|error| MetaError::Io { path: dir.clone(), error })?;
            }
            let opened = Partition::open(disk, name, dir.clone(), bounds(settings), &settings.teller);
            let (partition, findings) = opened.map_err(|error| MetaError::Io { path: dir, error })?;
            count_findings(counters, findings);
            producer_id = producer_id.max(findings.producer_id);
            partitions.push(partition);
        }
        topics.push((topic, partitions));
    }
    Ok(Loaded { meta, topics, producer_id, offsets })
}

/// The committed offsets, without those of topics that an earlier process began to delete and did not finish. Offsets
/// of other topics stay even if the topic is missing, because its file may be lost.
fn load_offsets(
    disk: &dyn Disk,
    meta: &MetaDir,
    (counters, teller): (&Counters, &Teller),
    deleted: &[String],
) -> Result<(OffsetFile, Offsets), MetaError> {
    let at = |error| MetaError::Io { path: meta.root(), error };
    let (mut file, mut offsets, findings) = offsets::open(disk, &meta.root()).map_err(at)?;
    count_findings(counters, findings);
    if findings.files > 0 {
        let reason = "the committed offsets of consumer groups are gone: the file is missing or has none; groups begin where their clients' \
                      auto.offset.reset says";
        teller.tell(&Damage { file: &meta.root().join(offsets::FILE), offsets: None, reason });
    }
    let stale: Vec<_> = offsets.keys().filter(|place| deleted.contains(&place.topic)).cloned().collect();
    if !stale.is_empty() {
        let changes: Vec<_> = stale.into_iter().map(|place| (place, None)).collect();
        file.append(disk, &changes).map_err(at)?;
        offsets::apply(&mut offsets, changes);
    }
    Ok((file, offsets))
}

fn count_findings(counters: &Counters, findings: Findings) {
    add(&counters.recovery_bytes_cut, findings.bytes_cut);
    add(&counters.recovery_holes, findings.holes);
    add(&counters.recovery_files_damaged, findings.files);
}

fn bounds(settings: &Settings) -> Bounds {
    Bounds { segment_bytes: settings.segment_bytes, producers_max: settings.producers_per_partition_max }
}

impl Store {
    /// A log with the loaded state.
    pub(crate) fn new(
        settings: Settings,
        counters: Arc<Counters>,
        disk: Arc<dyn Disk>,
        syncer: Syncer,
        loaded: Loaded,
    ) -> Store {
        let half = settings.memory_bytes_max / 2;
        let groups = Groups::new(&settings, Arc::clone(&disk), loaded.offsets);
        let store = Store {
            settings,
            groups,
            counters,
            syncer,
            disk,
            meta: loaded.meta,
            topics: RefCell::default(),
            changing: Mutex::new(()),
            producer_ids: Mutex::new(0..0),
            found_producer_id: loaded.producer_id,
            open_files: RefCell::default(),
            scratch: Cell::default(),
            request_memory: Budget::new(half),
            answer_memory: Budget::new(half),
        };
        for (topic, partitions) in loaded.topics {
            store.enter(topic, partitions);
        }
        store
    }

    fn enter(&self, topic: TopicMeta, partitions: Vec<Partition>) -> Rc<Topic> {
        let partitions: Vec<_> = partitions.into_iter().map(|partition| Rc::new(RefCell::new(partition))).collect();
        add(&self.counters.topics, 1);
        add(&self.counters.partitions, partitions.len() as u64);
        let mut topics = self.topics.borrow_mut();
        topics.partitions += partitions.len();
        let topic = Rc::new(Topic { name: topic.name, id: topic.id, partitions, config: topic.config });
        topics.by_name.insert(topic.name.clone(), Rc::clone(&topic));
        topics.by_id.insert(topic.id, Rc::clone(&topic));
        topic
    }

    /// Cluster ID of this log, as in Metadata.
    pub(crate) fn cluster_id(&self) -> &str {
        self.meta.cluster_id()
    }

    /// Reads a segment again in which a read has met damage, tells of it, and has later reads step over it. True: it was not known.
    pub(crate) async fn read_again(&self, partition: &PartitionRef, source: Source) -> bool {
        let synced = partition.borrow().synced_part(&source);
        let Some((base, synced_len, next_offset)) = synced else { return false };
        let file = source.path().to_owned();
        let again = spawn_blocking(move || recover::read_again(&source, base, synced_len)).await;
        let Ok(Ok(again)) = again else { return false };
        let holes = partition.borrow_mut().adopt(again, (synced_len, next_offset));
        for hole in &holes {
            add(&self.counters.read_holes, 1);
            let offsets = Some((hole.first_offset, hole.next_offset));
            self.settings.teller.tell(&Damage { file: &file, offsets, reason: &recover::unreadable(hole) });
        }
        !holes.is_empty()
    }

    /// Waits for memory for a request of `bytes`; the permit is held until the request is answered. Small requests need
    /// none.
    pub(crate) async fn request_memory(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        self.request_memory.take(bytes).await
    }

    /// Waits for memory for an answer of `bytes`; the permit is held until the answer is written.
    pub(crate) async fn answer_memory(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        self.answer_memory.take(bytes).await
    }

    /// A topic by name.
    pub(crate) fn topic(&self, name: &str) -> Option<Rc<Topic>> {
        self.topics.borrow().by_name.get(name).cloned()
    }

    /// A topic by id.
    pub(crate) fn topic_by_id(&self, id: Uuid) -> Option<Rc<Topic>> {
        self.topics.borrow().by_id.get(&id).cloned()
    }

    /// All topics, by name.
    pub(crate) fn all_topics(&self) -> Vec<Rc<Topic>> {
        self.topics.borrow().by_name.values().cloned().collect()
    }

    /// Checks whether a topic may be created. `partitions` -1 is the default count; returns the count to create.
    pub(crate) fn check_new_topic(&self, name: &str, partitions: i32) -> Result<i32, Refusal> {
        let refuse = |code, reason| Err(Refusal { code, reason });
        if !topic_name::is_valid(name) || name.len() > meta::TOPIC_BYTES_MAX {
            return refuse(code::INVALID_TOPIC, "a topic name is 1 to 246 of [a-zA-Z0-9._-], and not . or ..");
        }
        if self.topic(name).is_some() {
            return refuse(code::TOPIC_ALREADY_EXISTS, "the topic exists");
        }
        let count = if partitions == -1 { self.settings.partitions_default } else { partitions };
        if count < 1 || count > self.settings.partitions_per_topic_max {
            return refuse(code::INVALID_PARTITIONS, "the partition count is below 1 or above this log's bound");
        }
        if self.topics.borrow().partitions + count as usize > self.settings.partitions_max {
            return refuse(code::POLICY_VIOLATION, "the limit on partitions (partitions_max) is reached");
        }
        Ok(count)
    }

    /// Creates a topic, durably.
    pub(crate) async fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        config: TopicConfig,
    ) -> Result<Rc<Topic>, Refusal> {
        let _turn = self.changing.lock().await;
        let partitions = self.check_new_topic(name, partitions)?;
        let topic = TopicMeta { name: name.to_owned(), id: meta::random_id(), partitions, config };
        let made = topic.clone();
        if let Err(error) = self.on_disk(move |disk, root| meta::write_topic(disk, root, &made)).await {
            tracing::error!(topic = name, %error, "cannot create the topic");
            return Err(Refusal { code: code::STORAGE_ERROR, reason: "the disk refused the topic's files" });
        }
        tracing::info!(topic = name, partitions, id = %topic.id, "topic created");
        let open = |index| {
            let dir = self.meta.partition_dir(name, index);
            Partition::new(format!("{name}-{index}"), dir, bounds(&self.settings))
        };
        let partitions = (0..partitions).map(open).collect();
        Ok(self.enter(topic, partitions))
    }

    /// Runs `work` on the directory, on a thread that may wait for the disk.
    async fn on_disk(&self, work: impl FnOnce(&dyn Disk, &Path) -> io::Result<()> + Send + 'static) -> io::Result<()> {
        let (disk, root) = (Arc::clone(&self.disk), self.meta.root());
        let result = spawn_blocking(move || work(disk.as_ref(), &root)).await;
        result.unwrap_or_else(|panic| Err(io::Error::other(panic)))
    }

    /// Assigns a producer id that was never assigned before, across restarts and crashes.
    pub(crate) async fn producer_id(&self) -> Result<i64, i16> {
        let mut ids = self.producer_ids.lock().await;
        if ids.is_empty() {
            let (disk, root) = (Arc::clone(&self.disk), self.meta.root());
            let above = self.found_producer_id.max(ids.end.checked_sub(1).filter(|last| *last >= 0));
            match spawn_blocking(move || meta::reserve_producer_ids(disk.as_ref(), &root, above)).await {
                Ok(Ok(block)) => *ids = block,
                Ok(Err(error)) => {
                    tracing::error!(%error, "cannot reserve producer IDs");
                    return Err(code::STORAGE_ERROR);
                }
                Err(_) => return Err(code::STORAGE_ERROR),
            }
        }
        ids.next().ok_or(code::STORAGE_ERROR)
    }

    /// Appends a checked batch and queues it for the next sync, which [`Syncer::kick`] starts.
    pub(crate) fn append(&self, partition: &PartitionRef, bytes: &[u8], header: &BatchHeader) -> Result<Appended, i16> {
        let was_open = partition.borrow().is_open();
        let mut scratch = self.scratch.take();
        let bounds = bounds(&self.settings);
        let result = partition.borrow_mut().append(self.disk.as_ref(), bounds, bytes, header, &mut scratch);
        self.scratch.set(scratch);
        if !was_open && partition.borrow().is_open() {
            self.opened(partition);
        }
        match result {
            Ok(appended) if appended.duplicate => add(&self.counters.batches_duplicate, 1),
            Ok(_) => {
                add(&self.counters.batches_appended, 1);
                add(&self.counters.records_appended, header.records_count.max(0) as u64);
                add(&self.counters.bytes_appended, header.size as u64);
                self.syncer.mark(partition);
            }
            Err(_) => {}
        }
        result
    }

    /// Bounds the number of open files: closes the files that have been open longest, unless they wait for a sync.
    fn opened(&self, partition: &PartitionRef) {
        let mut open = self.open_files.borrow_mut();
        open.push_back(Rc::clone(partition));
        for _ in 0..open.len() {
            if open.len() <= self.settings.open_files_max {
                return;
            }
            let Some(oldest) = open.pop_front() else { return };
            if Rc::ptr_eq(&oldest, partition) || !oldest.borrow_mut().close_if_clean() {
                open.push_back(oldest);
            }
        }
    }
}
