//! Changes of topics, one at a time and each durable before it is answered, and retention.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use super::{Store, Topic, bounds};
use crate::batch::Refusal;
use crate::clock;
use crate::code;
use crate::counters::{add, subtract};
use crate::meta::{self, TopicMeta};
use crate::partition::{Expired, Partition, PartitionRef};
use crate::sync;
use crate::topic_config::TopicConfig;

const NO_TOPIC: Refusal = Refusal { code: code::UNKNOWN_TOPIC_OR_PARTITION, reason: "no such topic" };

fn disk_refused(topic: &str, error: &io::Error) -> Refusal {
    tracing::error!(topic, %error, "cannot change the topic's files");
    Refusal { code: code::STORAGE_ERROR, reason: "the disk refused the change of the topic's files" }
}

impl Topic {
    fn meta(&self) -> TopicMeta {
        let partitions = i32::try_from(self.partitions.len()).unwrap_or(i32::MAX);
        TopicMeta { name: self.name.clone(), id: self.id, partitions, config: self.config }
    }
}

impl Store {
    /// Deletes a topic. The topic is gone when this returns, and its files too unless the disk refused (then they are
    /// removed at the next startup, or when the name is used again).
    pub(crate) async fn delete_topic(&self, name: &str) -> Result<(), Refusal> {
        let _turn = self.changing.lock().await;
        let topic = self.topic(name).ok_or(NO_TOPIC)?;
        let gone = name.to_owned();
        let begun = self.on_disk(move |disk, root| meta::begin_deletion(disk, root, &gone)).await;
        begun.map_err(|error| disk_refused(name, &error))?;
        self.leave(&topic);
        tracing::info!(topic = name, id = %topic.id, "topic deleted");
        // Pending syncs complete first: a sync of removed files would look like a failure.
        self.syncer.kick();
        let ends = |partition: &PartitionRef| (Rc::clone(partition), partition.borrow().next_offset());
        sync::wait(&topic.partitions.iter().map(ends).collect::<Vec<_>>()).await;
        self.groups.forget_topic(name).await;
        let gone = name.to_owned();
        if let Err(error) = self.on_disk(move |disk, root| meta::finish_deletion(disk, root, &gone)).await {
            tracing::error!(topic = name, %error, "some files of a deleted topic remain; the next start removes them");
        }
        Ok(())
    }

    fn leave(&self, topic: &Topic) {
        let count = topic.partitions.len();
        let mut topics = self.topics.borrow_mut();
        topics.by_name.remove(&topic.name);
        topics.by_id.remove(&topic.id);
        topics.partitions -= count;
        subtract(&self.counters.topics, 1);
        subtract(&self.counters.partitions, count as u64);
        topic.partitions.iter().for_each(|partition| partition.borrow_mut().remove());
        self.open_files.borrow_mut().retain(|open| !open.borrow().is_removed());
    }

    /// Whether a topic may have `count` partitions.
    pub(crate) fn check_new_count(&self, name: &str, count: i32) -> Result<Rc<Topic>, Refusal> {
        let refuse = |code, reason| Err(Refusal { code, reason });
        let topic = self.topic(name).ok_or(NO_TOPIC)?;
        let wanted = usize::try_from(count).unwrap_or(0);
        if wanted <= topic.partitions.len() {
            return refuse(code::INVALID_PARTITIONS, "the number of partitions can only be increased");
        }
        if count > self.settings.partitions_per_topic_max {
            return refuse(code::INVALID_PARTITIONS, "too many partitions for one topic");
        }
        if self.topics.borrow().partitions + wanted - topic.partitions.len() > self.settings.partitions_max {
            return refuse(code::POLICY_VIOLATION, "the limit on partitions (partitions_max) is reached");
        }
        Ok(topic)
    }

    /// Gives a topic more partitions.
    pub(crate) async fn add_partitions(&self, name: &str, count: i32) -> Result<(), Refusal> {
        let _turn = self.changing.lock().await;
        let topic = self.check_new_count(name, count)?;
        let changed = TopicMeta { partitions: count, ..topic.meta() };
        let written = self.on_disk(move |disk, root| meta::write_topic(disk, root, &changed)).await;
        written.map_err(|error| disk_refused(name, &error))?;
        let mut partitions = topic.partitions.clone();
        for index in topic.meta().partitions..count {
            let dir = self.meta.partition_dir(name, index);
            let partition = Partition::new(format!("{name}-{index}"), dir, bounds(&self.settings));
            partitions.push(Rc::new(RefCell::new(partition)));
        }
        let added = partitions.len() - topic.partitions.len();
        add(&self.counters.partitions, added as u64);
        self.topics.borrow_mut().partitions += added;
        self.replace(Topic { partitions, name: topic.name.clone(), id: topic.id, config: topic.config });
        tracing::info!(topic = name, partitions = count, "partitions added");
        Ok(())
    }

    /// Changes a topic's settings. `change` gets the current ones.
    pub(crate) async fn configure(
        &self,
        name: &str,
        change: impl FnOnce(TopicConfig) -> Result<TopicConfig, Refusal>,
        validate_only: bool,
    ) -> Result<(), Refusal> {
        let _turn = self.changing.lock().await;
        let topic = self.topic(name).ok_or(NO_TOPIC)?;
        let config = change(topic.config)?;
        if validate_only || config == topic.config {
            return Ok(());
        }
        let changed = TopicMeta { config, ..topic.meta() };
        let written = self.on_disk(move |disk, root| meta::write_topic(disk, root, &changed)).await;
        written.map_err(|error| disk_refused(name, &error))?;
        self.replace(Topic { config, name: topic.name.clone(), id: topic.id, partitions: topic.partitions.clone() });
        tracing::info!(topic = name, ?config, "topic settings changed");
        Ok(())
    }

    fn replace(&self, topic: Topic) {
        let topic = Rc::new(topic);
        let mut topics = self.topics.borrow_mut();
        topics.by_name.insert(topic.name.clone(), Rc::clone(&topic));
        topics.by_id.insert(topic.id, topic);
    }

    /// Applies retention while the log runs.
    pub(crate) async fn keep_expiring(&self) {
        loop {
            tokio::time::sleep(self.settings.retention_interval).await;
            for topic in self.all_topics() {
                self.expire(&topic).await;
            }
        }
    }

    async fn expire(&self, topic: &Topic) {
        let limits = topic.config.limits(&self.settings);
        if limits == Default::default() {
            return;
        }
        for partition in &topic.partitions {
            // No topic of the same name may be created while files are removed by name.
            let _turn = self.changing.lock().await;
            let expired = partition.borrow_mut().expire(self.disk.as_ref(), limits, clock::wall_ms());
            let removed = match expired {
                Ok(None) => continue,
                Ok(Some(expired)) => self.remove_segments(expired).await,
                Err(error) => Err(error),
            };
            if let Err(error) = removed {
                tracing::error!(topic = %topic.name, %error, "retention: cannot remove segments");
            }
        }
    }

    async fn remove_segments(&self, expired: Expired) -> io::Result<()> {
        add(&self.counters.segments_expired, expired.files.len() as u64);
        add(&self.counters.bytes_expired, expired.bytes);
        self.on_disk(move |disk, _| {
            disk.sync_dir(&expired.dir)?;
            expired.files.iter().try_for_each(std::fs::remove_file)?;
            disk.sync_dir(&expired.dir)
        })
        .await
    }
}
