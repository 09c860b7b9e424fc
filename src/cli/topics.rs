//! `forebay topics create`: creates the missing topics of the sinks and sources, one line each.

use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::{CreateTopicsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::admin::Admin;
use super::check::address;
use super::out::say;
use super::session_logs;
use crate::config::{Cluster, Config};

/// The setting with the treatment of a topic's old records, and its value that keeps the newest of each key.
pub(super) const CLEANUP_POLICY: &str = "cleanup.policy";
pub(super) const COMPACT: &str = "compact";
const TOPIC_ALREADY_EXISTS: i16 = 36;
/// Errors that do not depend on the request's form: INVALID_TOPIC_EXCEPTION, INVALID_PARTITIONS, INVALID_REPLICATION_FACTOR,
/// INVALID_REPLICA_ASSIGNMENT, INVALID_CONFIG, POLICY_VIOLATION.
const WOULD_FAIL: [i16; 6] = [17, 37, 38, 39, 40, 44];
/// The first version in which -1 stands for the cluster's own number of partitions and replication factor.
const VERSION_WITH_DEFAULTS: i16 = 4;

/// The shape of new topics. `None`: the cluster's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Partitions.
    pub partitions: Option<i32>,
    /// Replicas of each partition.
    pub replication_factor: Option<i16>,
}

/// Creates the topics, each named by a sink or source. Returns whether all exist now.
#[must_use]
pub fn create(config: &Config, shape: Shape) -> bool {
    let mut done = true;
    for (index, cluster) in config.clusters.iter().enumerate() {
        let mut topics = Vec::new();
        for sink in config.sinks.iter().filter(|sink| sink.cluster == index) {
            match sink.topic.as_literal() {
                Some(topic) if !topics.contains(&topic) => topics.push(topic),
                Some(_) => {}
                None => say(format_args!("sink {}: its topic depends on the message: nothing to create", sink.name)),
            }
        }
        let dead_letters =
            config.sinks.iter().filter(|sink| sink.cluster == index).filter_map(|sink| sink.dead_letters.as_ref());
        let sources = config.sources.iter().filter(|source| source.cluster == index);
        let of_source = sources
            .flat_map(|source| source.routes().map(|(kafka, _)| kafka).chain(source.dead_letters_topic.as_deref()));
        let bridges = config.bridges.iter().filter(|bridge| bridge.cluster == index);
        let of_bridge = bridges.filter_map(|bridge| bridge.dead_letters.as_ref()?.topic.as_deref());
        for topic in dead_letters.filter_map(|dead| dead.topic.as_deref()).chain(of_source).chain(of_bridge) {
            if !topics.contains(&topic) {
                topics.push(topic);
            }
        }
        if topics.is_empty() {
            continue;
        }
        if let Some(broker) = config.broker.as_ref().filter(|broker| broker.cluster == index) {
            let named = format!("topic {} in kafka.{}", broker.sessions, cluster.name);
            match session_logs::make(cluster, broker) {
                Ok(true) => say(format_args!("created  {named}")),
                Ok(false) => say(format_args!("there    {named}")),
                Err(why) => {
                    say(format_args!("FAILED   {named}: {why}"));
                    done = false;
                }
            }
        }
        let compacted = config.broker.as_ref().filter(|broker| broker.cluster == index).map(|broker| &*broker.retained);
        match create_in(cluster, (&topics, compacted), shape) {
            Ok(all) => done &= all,
            Err(why) => {
                say(format_args!("FAILED   kafka.{}: {why}", cluster.name));
                done = false;
            }
        }
    }
    done
}

/// Creates topics in one cluster. `compacted`: a topic that keeps the newest record of each key.
fn create_in(cluster: &Cluster, (topics, compacted): (&[&str], Option<&str>), shape: Shape) -> Result<bool, String> {
    let mut all = true;
    let topic = |name: &&str| new_topic(name, shape, Some(*name) == compacted);
    for Created { topic, shape, failed } in request(cluster, topics.iter().map(topic).collect(), false)? {
        let named = format!("topic {topic} in kafka.{}", cluster.name);
        match failed {
            None => say(format_args!("created  {named}{}", made(shape))),
            Some((TOPIC_ALREADY_EXISTS, _)) => say(format_args!("there    {named}")),
            Some((_, why)) => {
                all = false;
                say(format_args!("FAILED   {named}: {why}"));
            }
        }
    }
    Ok(all)
}

/// A topic to be created.
pub(super) fn new_topic(name: &str, shape: Shape, is_compacted: bool) -> CreatableTopic {
    let policy = CreatableTopicConfig::default()
        .with_name(StrBytes::from_static_str(CLEANUP_POLICY))
        .with_value(Some(StrBytes::from_static_str(COMPACT)));
    CreatableTopic::default()
        .with_name(TopicName(StrBytes::from(name.to_owned())))
        .with_num_partitions(shape.partitions.unwrap_or(-1))
        .with_replication_factor(shape.replication_factor.unwrap_or(-1))
        .with_configs(is_compacted.then_some(policy).into_iter().collect())
}

/// The outcome for a topic.
pub(super) struct Created {
    pub(super) topic: String,
    shape: (i32, i16),
    /// The error: Kafka's code, and words.
    failed: Option<(i16, String)>,
}

impl Created {
    /// Why the topic does not exist.
    pub(super) fn refused(&self) -> Option<&str> {
        self.failed.as_ref().filter(|(error, _)| *error != TOPIC_ALREADY_EXISTS).map(|(_, why)| why.as_str())
    }
}

/// Why the cluster would not create such a topic on demand, found by a request with validation only. `None`: it would,
/// or does not say, or this client may not ask.
pub(super) fn cannot_create(cluster: &Cluster, topic: &str) -> Option<String> {
    let created = request(cluster, vec![new_topic(topic, Shape::default(), false)], true).ok()?.into_iter().next()?;
    let (_, why) = created.failed.filter(|(error, _)| WOULD_FAIL.contains(error))?;
    Some(why)
}

/// Asks the controller to create topics. `only_validate`: nothing is created.
pub(super) fn request(
    cluster: &Cluster,
    topics: Vec<CreatableTopic>,
    only_validate: bool,
) -> Result<Vec<Created>, String> {
    let mut admin = Admin::connect(cluster).map_err(|why| {
        let embedded =
            if cluster.name == crate::config::EMBEDDED { "; the embedded log runs with the service" } else { "" };
        format!("cannot be reached: {}{embedded}", why.join("; "))
    })?;
    // The controller creates topics. Other brokers forward the request, from Kafka 3.3 on.
    let metadata = admin.metadata(&[])?;
    let controller = metadata.brokers.iter().find(|broker| broker.node_id == metadata.controller_id);
    if let Some(controller) = controller {
        let address = address(controller);
        if address != admin.broker {
            admin = Admin::connect_to(cluster, &address)?;
        }
    }
    let version = admin.version::<CreateTopicsRequest>(i16::MAX).filter(|version| *version >= VERSION_WITH_DEFAULTS);
    let version = version.ok_or("it is older than Kafka 2.4: create the topics with Kafka's own tools")?;
    let request = CreateTopicsRequest::default()
        .with_topics(topics)
        .with_validate_only(only_validate)
        .with_timeout_ms(i32::try_from(cluster.times.request_timeout.as_millis()).unwrap_or(i32::MAX));
    let created = admin.ask_at(&request, version)?.topics.into_iter().map(|result| {
        let error = result.error_code;
        let why = || result.error_message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
        Created {
            topic: result.name.0.to_string(),
            shape: (result.num_partitions, result.replication_factor),
            failed: (error != 0).then(|| (error, format!("error {error}{}", why()))),
        }
    });
    Ok(created.collect())
}

/// The shape of a new topic, as the cluster returned it.
fn made((partitions, replication_factor): (i32, i16)) -> String {
    if partitions < 1 {
        return String::new();
    }
    format!(": partitions {partitions}, replication factor {replication_factor}")
}
