//! The small files beside the segments: the cluster ID, the topics, and the assigned producer ids.
//!
//! ```text
//! <dir>/LOCK                       held (flock) while the log runs
//! <dir>/node.json                  format and cluster id
//! <dir>/producer-ids.json          the first producer id that was never reserved
//! <dir>/topics/<topic>.json        id, partition count, settings; a topic exists if this file does
//! <dir>/topics/<topic>.deleted     a topic that was deleted and still has segments to remove
//! <dir>/partitions/<topic>-<n>/    segments
//! ```
//!
//! Each file is replaced as a whole (`disk::replace_file`). A topic's directories are created before its file, so a crash in
//! between leaves empty directories, which the next creation takes over. Deletion renames the topic's file first: from then
//! on the topic is gone, and its directories are removed before the name can be used again, after a crash too.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};
use uuid::Uuid;

use super::aside;
use super::clock;
use super::disk::{Disk, replace_file};
use super::topic_config::TopicConfig;
use forebay_base::files;
use forebay_base::in_use;
use forebay_base::limits::PARTITIONS_OF_TOPIC_MAX;
use forebay_kafka::topic_name;

/// The format. 1 had batches end to end, without headers; 2 had segments of version 1. No release wrote them.
const FORMAT: u64 = 3;
/// The largest size of these files, which have some hundred bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;
const NODE_FILE: &str = "node.json";
const PRODUCER_IDS_FILE: &str = "producer-ids.json";
const TOPICS_DIR: &str = "topics";
const PARTITIONS_DIR: &str = "partitions";
/// The longest topic name. Its file, its mark of deletion and the directory of its partition 999 have names of at most 255
/// bytes. Kafka allows 249.
pub(crate) const TOPIC_BYTES_MAX: usize = 246;
const RETENTION_MS: &str = "retention_ms";
const RETENTION_BYTES: &str = "retention_bytes";
/// Producer ids are reserved on disk in blocks of this size; a crash skips the unused rest of one.
const PRODUCER_ID_BLOCK: i64 = 1_000;
/// The end of the assigned ids; a client that makes up its own may use higher ones.
pub(crate) const PRODUCER_ID_END: i64 = 1 << 62;

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MetaError {
    /// Another process (or another log of this one) uses the directory.
    #[error(
        "the directory {} is in use by another process: stop that process, or set another `service.data_dir`",
        .0.display()
    )]
    Locked(PathBuf),
    /// An operation on a file failed.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// A file is not as this version writes it.
    #[error("{}: {reason}. It was not written by this version, or was changed since; nothing was changed", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
        /// Whether the file is whole, and of another version.
        is_other_version: bool,
    },
}

impl MetaError {
    /// Whether the file is whole, and of another version.
    fn is_other_version(&self) -> bool {
        matches!(self, Self::Content { is_other_version: true, .. })
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> MetaError {
    let path = path.to_owned();
    move |error| MetaError::Io { path, error }
}

/// A topic's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicMeta {
    /// The topic's name.
    pub(crate) name: String,
    /// The topic's id (KIP-516).
    pub(crate) id: Uuid,
    /// The number of partitions.
    pub(crate) partitions: i32,
    /// The settings of this topic alone.
    pub(crate) config: TopicConfig,
}

/// The data directory, locked.
#[derive(Debug)]
pub(crate) struct MetaDir {
    dir: PathBuf,
    cluster_id: String,
    /// The file that holds the lock; the kernel releases it when the process ends, however it ends.
    _lock: File,
}

impl MetaDir {
    /// Creates or opens a data directory and locks it.
    pub(crate) fn open(disk: &dyn Disk, dir: &Path) -> Result<MetaDir, MetaError> {
        let is_new = !dir.exists();
        files::make_dirs(dir).map_err(at(dir))?;
        let lock_path = dir.join("LOCK");
        let options = OpenOptions::new().create(true).truncate(false).write(true).clone();
        let lock = files::open(&lock_path, &options).map_err(at(&lock_path))?;
        let take = || flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(io::Error::from);
        in_use::wait(io::ErrorKind::WouldBlock, in_use::ATTEMPTS, take).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => MetaError::Locked(dir.to_owned()),
            _ => at(&lock_path)(error),
        })?;
        for sub in [TOPICS_DIR, PARTITIONS_DIR] {
            files::make_dirs(&dir.join(sub)).map_err(at(&dir.join(sub)))?;
        }
        disk.sync_dir(dir).map_err(at(dir))?;
        if let Some(parent) = dir.parent().filter(|parent| is_new && !parent.as_os_str().is_empty()) {
            disk.sync_dir(parent).map_err(at(parent))?;
        }
        let cluster_id = node_file(disk, dir)?;
        Ok(MetaDir { dir: dir.to_owned(), cluster_id, _lock: lock })
    }

    /// The cluster ID, assigned once, when the directory was created.
    pub(crate) fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// The directory of a partition's segments.
    pub(crate) fn partition_dir(&self, topic: &str, index: i32) -> PathBuf {
        self.dir.join(PARTITIONS_DIR).join(format!("{topic}-{index}"))
    }

    /// Topics with a deletion that an earlier process did not finish.
    pub(crate) fn deleted(&self) -> Result<Vec<String>, MetaError> {
        let dir = self.dir.join(TOPICS_DIR);
        let mut deleted = Vec::new();
        for entry in fs::read_dir(&dir).map_err(at(&dir))? {
            let name = entry.map_err(at(&dir))?.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(".deleted"));
            deleted.extend(name.filter(|name| topic_name::is_valid(name)).map(str::to_owned));
        }
        Ok(deleted)
    }

    /// Removes the remaining files of these topics.
    pub(crate) fn finish_deletions(&self, disk: &dyn Disk, deleted: &[String]) -> Result<(), MetaError> {
        for name in deleted {
            tracing::info!(topic = name, "removing the rest of a deleted topic");
            finish_deletion(disk, &self.dir, name).map_err(at(&deleted_file(&self.dir, name)))?;
        }
        Ok(())
    }

    /// All topics, by name, and the number of their files that were damaged or missing. Such a topic is restored from the
    /// directories of its partitions, at most `partitions_max` of them, with another ID and without settings of its own.
    pub(crate) fn topics(&self, disk: &dyn Disk, partitions_max: i32) -> Result<(Vec<TopicMeta>, u64), MetaError> {
        let dir = self.dir.join(TOPICS_DIR);
        let (mut topics, mut damaged) = (Vec::new(), 0);
        for entry in fs::read_dir(&dir).map_err(at(&dir))? {
            let path = entry.map_err(at(&dir))?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match read_topic(&path) {
                Ok(topic) => topics.push(topic),
                Err(error @ MetaError::Content { .. }) if !error.is_other_version() => {
                    let to = aside::set_aside(&path, "damaged").map_err(at(&path))?;
                    damaged += 1;
                    tracing::error!(%error, kept = %to.display(), "the file of a topic is damaged");
                }
                Err(error) => return Err(error),
            }
        }
        for (name, partitions) in self.orphans(&topics)? {
            let partitions = partitions.min(partitions_max);
            let topic = TopicMeta { name, id: random_id(), partitions, config: TopicConfig::default() };
            write_topic(disk, &self.dir, &topic).map_err(at(&dir))?;
            damaged += 1;
            tracing::error!(topic = topic.name, partitions, id = %topic.id, "a topic has segments and no file; made again, \
                with another ID and the default settings");
            topics.push(topic);
        }
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((topics, damaged))
    }

    /// Topics that have segments and are not in `known`, and their numbers of partitions.
    fn orphans(&self, known: &[TopicMeta]) -> Result<BTreeMap<String, i32>, MetaError> {
        let dir = self.dir.join(PARTITIONS_DIR);
        let mut found: BTreeMap<String, (i32, bool)> = BTreeMap::new();
        for entry in fs::read_dir(&dir).map_err(at(&dir))? {
            let entry = entry.map_err(at(&dir))?;
            let name = entry.file_name();
            let parts = name.to_str().and_then(|name| name.rsplit_once('-'));
            let Some((topic, count)) = parts.and_then(|(topic, at)| Some((topic, at.parse::<u16>().ok()?))) else {
                continue;
            };
            if known.iter().any(|known| known.name == topic) || !topic_name::is_valid(topic) || !entry.path().is_dir() {
                continue;
            }
            let mut segments = fs::read_dir(entry.path()).map_err(at(&entry.path()))?;
            let (partitions, any) = found.entry(topic.to_owned()).or_default();
            *partitions = (*partitions).max(i32::from(count) + 1);
            *any |= segments.next().is_some();
        }
        // Empty directories are left over from a topic that was being created during a crash.
        Ok(found.into_iter().filter(|(_, (_, any))| *any).map(|(name, (count, _))| (name, count)).collect())
    }

    /// The argument for [`write_topic`], which may be called on another thread.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.clone()
    }
}

/// Makes a topic durable: its directories, then its file. For an existing topic, adds partitions and changes settings.
pub(crate) fn write_topic(disk: &dyn Disk, root: &Path, topic: &TopicMeta) -> io::Result<()> {
    if deleted_file(root, &topic.name).exists() {
        finish_deletion(disk, root, &topic.name)?;
    }
    let partitions = root.join(PARTITIONS_DIR);
    for index in 0..topic.partitions {
        files::make_dirs(&partitions.join(format!("{}-{index}", topic.name)))?;
    }
    disk.sync_dir(&partitions)?;
    let mut text = json!({
        "format": FORMAT, "name": topic.name, "id": topic.id.to_string(), "partitions": topic.partitions,
    });
    for (key, value) in [(RETENTION_MS, topic.config.retention_ms), (RETENTION_BYTES, topic.config.retention_bytes)] {
        if let Some(value) = value {
            text[key] = value.into();
        }
    }
    replace_file(disk, &root.join(TOPICS_DIR), &format!("{}.json", topic.name), text.to_string().as_bytes())
}

fn deleted_file(root: &Path, topic: &str) -> PathBuf {
    root.join(TOPICS_DIR).join(format!("{topic}.deleted"))
}

/// Deletes a topic: after this it is gone, whatever happens. On an error it still exists.
pub(crate) fn begin_deletion(disk: &dyn Disk, root: &Path, topic: &str) -> io::Result<()> {
    let topics = root.join(TOPICS_DIR);
    let (file, deleted) = (topics.join(format!("{topic}.json")), deleted_file(root, topic));
    fs::rename(&file, &deleted)?;
    disk.sync_dir(&topics).inspect_err(|_| {
        if let Err(error) = fs::rename(&deleted, &file) {
            tracing::error!(topic, %error, "a topic is only partly deleted; the next start removes the rest");
        }
    })
}

/// Removes the segments of a topic that [`begin_deletion`] deleted, then its last trace.
pub(crate) fn finish_deletion(disk: &dyn Disk, root: &Path, topic: &str) -> io::Result<()> {
    let partitions = root.join(PARTITIONS_DIR);
    for entry in fs::read_dir(&partitions)? {
        let entry = entry?;
        let name = entry.file_name();
        let parts = name.to_str().and_then(|name| name.rsplit_once('-'));
        if parts.is_some_and(|(of, index)| of == topic && index.bytes().all(|b| b.is_ascii_digit())) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    disk.sync_dir(&partitions)?;
    fs::remove_file(deleted_file(root, topic))?;
    disk.sync_dir(&root.join(TOPICS_DIR))
}

/// Reserves the next block of producer ids, durably, and returns it. An id in it was never assigned before, whatever
/// happened to the file: `above` is the highest id that partitions know ([`PRODUCER_ID_END`] bounds those that count). A
/// file that is missing, damaged or older than those ids does not cover ids that were assigned and not used yet; then ids
/// begin at the time in milliseconds, which no count of blocks reaches.
pub(crate) fn reserve_producer_ids(
    disk: &dyn Disk,
    root: &Path,
    above: Option<i64>,
) -> Result<std::ops::Range<i64>, MetaError> {
    let path = root.join(PRODUCER_IDS_FILE);
    let read = read_json(&path).and_then(|value| value.map(|value| integer(&value, "next", &path)).transpose());
    let next = match read {
        Ok(next) => next.filter(|next| (0..PRODUCER_ID_END).contains(next)),
        Err(error @ MetaError::Content { .. }) if !error.is_other_version() => None,
        Err(error) => return Err(error),
    };
    let after = above.map_or(0, |above| above.saturating_add(1));
    let first = match next {
        Some(next) if next >= after => next,
        _ => {
            let first = after.max(clock::wall_ms());
            tracing::error!(file = %path.display(), ?next, ?above, first, "the file of producer IDs is missing, damaged or \
                older than the log; IDs go on above all that can have been given out");
            first
        }
    };
    let end = first.saturating_add(PRODUCER_ID_BLOCK);
    let text = json!({ "format": FORMAT, "next": end }).to_string();
    replace_file(disk, root, PRODUCER_IDS_FILE, text.as_bytes()).map_err(at(&path))?;
    Ok(first..end)
}

fn node_file(disk: &dyn Disk, dir: &Path) -> Result<String, MetaError> {
    let path = dir.join(NODE_FILE);
    let is_empty = |sub| fs::read_dir(dir.join(sub)).map(|mut entries| entries.next().is_none()).map_err(at(dir));
    let is_new = is_empty(TOPICS_DIR)? && is_empty(PARTITIONS_DIR)?;
    match read_json(&path).and_then(|value| value.map(|value| text(&value, "cluster_id", &path)).transpose()) {
        Ok(Some(cluster_id)) => return Ok(cluster_id),
        Ok(None) if is_new => {}
        Ok(None) => {
            tracing::error!(file = %path.display(), "the file with the cluster ID is missing; the log has another \
            one from now on")
        }
        Err(error @ MetaError::Content { .. }) if !error.is_other_version() => {
            let kept = aside::set_aside(&path, "damaged").map_err(at(&path))?;
            tracing::error!(%error, kept = %kept.display(), "the file with the cluster ID is damaged; the log has another one \
                from now on");
        }
        Err(error) => return Err(error),
    }
    let cluster_id = random_id().simple().to_string();
    let content = json!({ "format": FORMAT, "cluster_id": cluster_id }).to_string();
    let ids = dir.join(PRODUCER_IDS_FILE);
    if is_new && !ids.exists() {
        // Written before the other file: a directory with that one had its producer ids, too.
        let first = json!({ "format": FORMAT, "next": 0 }).to_string();
        replace_file(disk, dir, PRODUCER_IDS_FILE, first.as_bytes()).map_err(at(&ids))?;
    }
    replace_file(disk, dir, NODE_FILE, content.as_bytes()).map_err(at(&path))?;
    Ok(cluster_id)
}

/// A fresh random UUID (version 4).
pub(crate) fn random_id() -> Uuid {
    uuid::Builder::from_random_bytes(fastrand::u128(..).to_be_bytes()).into_uuid()
}

fn read_topic(path: &Path) -> Result<TopicMeta, MetaError> {
    let content = |reason: String| MetaError::Content { path: path.to_owned(), reason, is_other_version: false };
    let value = read_json(path)?.ok_or_else(|| content("it is gone".into()))?;
    let name = text(&value, "name", path)?;
    if !topic_name::is_valid(&name) || path.file_stem().is_none_or(|stem| stem != name.as_str()) {
        return Err(content(format!("`name` is {name:?}")));
    }
    let id = Uuid::parse_str(&text(&value, "id", path)?).map_err(|error| content(format!("`id`: {error}")))?;
    let is_possible =
        |count: &i32| usize::try_from(*count).is_ok_and(|count| (1..=PARTITIONS_OF_TOPIC_MAX).contains(&count));
    let partitions = i32::try_from(integer(&value, "partitions", path)?).ok().filter(is_possible);
    let partitions = partitions.ok_or_else(|| content("`partitions` is not a valid number of partitions".into()))?;
    let optional = |key| value.get(key).map(|_| integer(&value, key, path)).transpose();
    let config = TopicConfig { retention_ms: optional(RETENTION_MS)?, retention_bytes: optional(RETENTION_BYTES)? };
    Ok(TopicMeta { name, id, partitions, config })
}

/// Reads a small file; `None`: it is not a regular file, or longer than such a file can be.
fn read_small(path: &Path) -> io::Result<Option<Vec<u8>>> {
    // Opening a FIFO would block forever.
    if !fs::metadata(path)?.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes).filter(|bytes| bytes.len() as u64 <= FILE_BYTES_MAX))
}

fn read_json(path: &Path) -> Result<Option<Value>, MetaError> {
    let content = |reason: String| MetaError::Content { path: path.to_owned(), reason, is_other_version: false };
    let bytes = match read_small(path) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Err(content("it is no regular file, or too long".into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(path)(error)),
    };
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| content(error.to_string()))?;
    match value.get("format").and_then(Value::as_u64) {
        Some(FORMAT) => Ok(Some(value)),
        Some(format) => Err(MetaError::Content {
            path: path.to_owned(),
            reason: format!(
                "`format` is {format}, this version supports {FORMAT}: read the data with the version that wrote it, and set another `service.data_dir` for this one"
            ),
            is_other_version: true,
        }),
        None => Err(content("`format` is missing".into())),
    }
}

fn text(value: &Value, key: &str, path: &Path) -> Result<String, MetaError> {
    let text = value.get(key).and_then(Value::as_str).map(str::to_owned);
    text.ok_or_else(|| MetaError::Content {
        path: path.to_owned(),
        reason: format!("`{key}` is missing"),
        is_other_version: false,
    })
}

fn integer(value: &Value, key: &str, path: &Path) -> Result<i64, MetaError> {
    let number = value.get(key).and_then(Value::as_i64);
    number.ok_or_else(|| MetaError::Content {
        path: path.to_owned(),
        reason: format!("`{key}` is not a number"),
        is_other_version: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::KernelDisk;

    #[test]
    fn topic_names_follow_kafka_and_stay_below_the_directory() {
        for good in ["a", "a.b_c-D9", "...", &"x".repeat(249)] {
            assert!(topic_name::is_valid(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "../x", "a b", "ä", "a\0", &"x".repeat(250)] {
            assert!(!topic_name::is_valid(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_directory_has_one_owner() {
        let dir = tempfile::tempdir().unwrap();
        let first = MetaDir::open(&KernelDisk, dir.path()).unwrap();
        let second = MetaDir::open(&KernelDisk, dir.path());
        assert!(matches!(second, Err(MetaError::Locked(_))), "{second:?}");
        let cluster_id = first.cluster_id().to_owned();
        drop(first);
        assert_eq!(MetaDir::open(&KernelDisk, dir.path()).unwrap().cluster_id(), cluster_id);
    }

    /// Finding S1: a link in place of a created file is not followed.
    #[test]
    fn finding_s1_a_planted_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("target");
        fs::write(&target, "kept").unwrap();
        for name in ["node.json.new", "producer-ids.json.new", "producer-ids.json", "offsets.log.new"] {
            std::os::unix::fs::symlink(&target, dir.path().join(name)).unwrap();
        }
        fs::remove_file(dir.path().join("producer-ids.json")).unwrap();
        let meta = MetaDir::open(&KernelDisk, dir.path()).unwrap();
        reserve_producer_ids(&KernelDisk, dir.path(), None).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "kept");
        drop(meta);
        fs::remove_file(dir.path().join("LOCK")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("nothing"), dir.path().join("LOCK")).unwrap();
        MetaDir::open(&KernelDisk, dir.path()).unwrap_err();
        assert!(!dir.path().join("nothing").exists());
    }

    #[test]
    fn producer_id_blocks_never_overlap() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(PRODUCER_IDS_FILE), b"{\"format\":3,\"next\":0}").unwrap();
        let mut next = 0;
        for _ in 0..5 {
            let block = reserve_producer_ids(&KernelDisk, dir.path(), None).unwrap();
            assert!(block.start == next && block.end > block.start);
            next = block.end;
        }
        fs::write(dir.path().join(PRODUCER_IDS_FILE), b"{\"format\":1,\"next\":\"x\"}").unwrap();
        assert!(matches!(reserve_producer_ids(&KernelDisk, dir.path(), None), Err(MetaError::Content { .. })));
    }

    #[test]
    fn finding_l1_no_producer_id_is_given_out_twice_when_its_file_is_lost() {
        for (content, above) in [
            (None, None),
            (None, Some(4_711)),
            (Some("{\"format\":3,\"next\":1000}"), Some(1_000)),
            (Some("{\"format\":3,\"next\":1000}"), Some(4_711)),
            (Some("{\"format\":3,\"next\":\"x\"}"), Some(5)),
            (Some("{\"format\":3,\"next\":-1}"), Some(5)),
            (Some("{\"for"), None),
        ] {
            let dir = tempfile::tempdir().unwrap();
            if let Some(content) = content {
                fs::write(dir.path().join(PRODUCER_IDS_FILE), content).unwrap();
            }
            let before = clock::wall_ms();
            let block = reserve_producer_ids(&KernelDisk, dir.path(), above).unwrap();
            assert!(block.start > above.unwrap_or(-1) && block.start >= before, "{content:?}: {block:?}");
            assert_eq!(reserve_producer_ids(&KernelDisk, dir.path(), above).unwrap().start, block.end);
        }
        // A file that is ahead of the log is trusted.
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(PRODUCER_IDS_FILE), "{\"format\":3,\"next\":1000}").unwrap();
        assert_eq!(reserve_producer_ids(&KernelDisk, dir.path(), Some(999)).unwrap(), 1_000..2_000);
    }

    #[test]
    fn topics_come_back_and_strange_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let meta = MetaDir::open(&KernelDisk, dir.path()).unwrap();
        let topic = TopicMeta {
            name: "a.b-1".into(),
            id: random_id(),
            partitions: 3,
            config: TopicConfig { retention_ms: Some(5), retention_bytes: None },
        };
        write_topic(&KernelDisk, &meta.root(), &topic).unwrap();
        assert_eq!(meta.topics(&KernelDisk, 10).unwrap(), (vec![topic.clone()], 0));
        assert!(meta.partition_dir("a.b-1", 2).is_dir());
        fs::write(dir.path().join("topics/b.json"), b"{\"format\":9}").unwrap();
        let error = meta.topics(&KernelDisk, 10).unwrap_err().to_string();
        assert!(error.contains("b.json") && error.contains("format"), "{error}");
        // Finding L8: a damaged file is set aside, and the others are used.
        fs::write(dir.path().join("topics/b.json"), b"{}").unwrap();
        assert_eq!(meta.topics(&KernelDisk, 10).unwrap(), (vec![topic], 1));
        assert_eq!(fs::read(dir.path().join("topics/b.json.damaged")).unwrap(), b"{}");
    }
}
