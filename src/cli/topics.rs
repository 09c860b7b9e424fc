//! `forebay topics create`: makes the topics of the sinks that are not there yet, one line each.

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::{CreateTopicsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::admin::Admin;
use super::check::address;
use super::out::say;
use crate::config::{Cluster, Config};

const TOPIC_ALREADY_EXISTS: i16 = 36;
/// From this version on, -1 stands for the cluster's own number of partitions and replication factor.
const VERSION_WITH_DEFAULTS: i16 = 4;

/// How the topics are to be. `None`: as the cluster makes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Partitions.
    pub partitions: Option<i32>,
    /// Replicas of each.
    pub replication_factor: Option<i16>,
}

/// Makes them, each named by a sink. Whether all are there now.
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
        for topic in dead_letters.filter_map(|dead| dead.topic.as_deref()) {
            if !topics.contains(&topic) {
                topics.push(topic);
            }
        }
        if topics.is_empty() {
            continue;
        }
        match create_in(cluster, &topics, shape) {
            Ok(all) => done &= all,
            Err(why) => {
                say(format_args!("FAILED   kafka.{}: {why}", cluster.name));
                done = false;
            }
        }
    }
    done
}

fn create_in(cluster: &Cluster, topics: &[&str], shape: Shape) -> Result<bool, String> {
    let mut admin = Admin::connect(cluster).map_err(|why| {
        let embedded =
            if cluster.name == crate::config::EMBEDDED { "; the embedded log runs with the service" } else { "" };
        format!("cannot be reached: {}{embedded}", why.join("; "))
    })?;
    // The controller makes topics. A broker that is none hands the request on, from Kafka 3.3 on.
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
    let topic = |topic: &&str| {
        CreatableTopic::default()
            .with_name(TopicName(StrBytes::from((*topic).to_owned())))
            .with_num_partitions(shape.partitions.unwrap_or(-1))
            .with_replication_factor(shape.replication_factor.unwrap_or(-1))
    };
    let request = CreateTopicsRequest::default()
        .with_topics(topics.iter().map(topic).collect())
        .with_timeout_ms(i32::try_from(cluster.times.request_timeout.as_millis()).unwrap_or(i32::MAX));
    let mut all = true;
    for result in admin.ask_at(&request, version)?.topics {
        let named = format!("topic {} in kafka.{}", result.name.0, cluster.name);
        match result.error_code {
            0 => say(format_args!("created  {named}{}", made(result.num_partitions, result.replication_factor))),
            TOPIC_ALREADY_EXISTS => say(format_args!("there    {named}")),
            error => {
                all = false;
                let why = result.error_message.map(|message| format!(": {message}")).unwrap_or_default();
                say(format_args!("FAILED   {named}: error {error}{why}"));
            }
        }
    }
    Ok(all)
}

/// What the cluster tells of a topic that it has made.
fn made(partitions: i32, replication_factor: i16) -> String {
    if partitions < 1 {
        return String::new();
    }
    format!(": partitions {partitions}, replication factor {replication_factor}")
}
