//! Lines about the topics of `[broker]` for `forebay check`: their settings, and the rights that `docs/CLUSTER.md` lists, each tried by doing what needs it.
//! Rights on the topics of routes are those of their sinks and of the source.

use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::protocol::StrBytes;

use super::admin::Admin;
use super::broker::{self, Coordinates, coordinator};
use super::check::{Line, NOT_TOLD, TOPIC_FORBIDDEN, UNKNOWN_TOPIC, Verdict, WRITE};
use super::log_reader::{EARLIEST, Log, fetch, offset_at};
use super::session_log::{TRANSACTIONS_FORBIDDEN, identity};
use super::session_logs;
use super::topics::CLEANUP_POLICY;
use crate::config::{Broker, Cluster, Config};

/// Checks the topics of `[broker]`, if this cluster has them.
pub(super) fn of_broker(config: &Config, cluster: usize, lines: &mut Vec<Line>) {
    let Some(broker) = config.broker.as_ref().filter(|broker| broker.cluster == cluster) else { return };
    let cluster = &config.clusters[cluster];
    let mut push = |about: &str, (verdict, text)| lines.push(Line { verdict, about: about.to_owned(), text });
    let look = session_logs::look(cluster, broker);
    push("broker.sessions", look.unwrap_or_else(|why| (Verdict::Problem, why)));
    match of_topics(cluster, broker) {
        Ok(found) => found.into_iter().for_each(|(about, said)| push(about, said)),
        Err(why) => push("broker", (Verdict::Problem, format!("its topics cannot be checked: {why}"))),
    }
    push("broker.sessions", of_transactions(cluster, &broker.sessions));
}

type Said = (Verdict, String);

/// # Errors
/// The cluster cannot be asked, in words.
fn of_topics(cluster: &Cluster, broker: &Broker) -> Result<Vec<(&'static str, Said)>, String> {
    let mut said = Vec::new();
    let mut admin = Admin::reach(cluster)?;
    let own = [("broker.retained", &*broker.retained), ("broker.sessions", &*broker.sessions)];
    let metadata = admin.metadata(&own.map(|(_, topic)| topic))?;
    for (about, topic) in own {
        let is_it = |found: &&MetadataResponseTopic| found.name.as_ref().is_some_and(|name| name.0.as_str() == topic);
        let Some(found) = metadata.topics.iter().find(is_it).filter(|found| found.error_code != UNKNOWN_TOPIC) else {
            continue;
        };
        if found.error_code == TOPIC_FORBIDDEN {
            said.push((about, forbidden(topic, "describe", "--operation Describe --operation Read --operation Write")));
            continue;
        }
        let operations = found.topic_authorized_operations;
        if operations != NOT_TOLD && operations & WRITE == 0 {
            said.push((about, forbidden(topic, "write", "--operation Write")));
        }
        if may_not_read(cluster, topic)? {
            said.push((about, forbidden(topic, "read", "--operation Read")));
        }
        let policy = admin.topic_text(topic, CLEANUP_POLICY);
        if policy.is_none() {
            let (_, text) = forbidden(topic, "see the settings of", "--operation DescribeConfigs");
            said.push((about, (Verdict::Warning, text)));
        } else if let Some(why) = broker::not_compacted(topic, policy.as_deref()).filter(|_| topic == broker.retained) {
            said.push((about, (Verdict::Problem, why)));
        }
    }
    said.extend(broker::risks(&mut admin, broker).into_iter().map(|risk| ("broker", (Verdict::Warning, risk))));
    Ok(said)
}

fn forbidden(topic: &str, what: &str, operations: &str) -> Said {
    let text = format!(
        "topic {topic}: this client is not authorized to {what} it; grant it that, as in kafka-acls.sh --add --allow-principal User:… {operations} --topic {topic}"
    );
    (Verdict::Problem, text)
}

/// Whether a fetch is refused, as the right to read is missing.
///
/// # Errors
/// The leader cannot be asked, in words.
fn may_not_read(cluster: &Cluster, topic: &str) -> Result<bool, String> {
    let mut log = Log::open(cluster, topic)?;
    let Some(partition) = log.partitions().next() else { return Ok(false) };
    let (leader, _) = log.leader(partition)?;
    let name = TopicName(StrBytes::from(topic.to_owned()));
    let from = offset_at(leader, &name, partition, EARLIEST)?;
    Ok(fetch(leader, (&name, partition), from, false)?.error_code == TOPIC_FORBIDDEN)
}

/// Asks for a producer ID under a transactional id of the prefix that the logs of sessions use; no log has this one.
fn of_transactions(cluster: &Cluster, topic: &str) -> Said {
    let id = format!("forebay-{topic}-check");
    let asked = Admin::reach(cluster).and_then(|mut admin| {
        let mut coordinator = coordinator(cluster, &id, Coordinates::Transactions, &mut admin)?;
        identity(&mut coordinator, &id)
    });
    match asked {
        Ok(_) => (Verdict::Ok, "this client may write under transactional ids that begin with forebay-".to_owned()),
        Err(why) if why.contains(TRANSACTIONS_FORBIDDEN) || why.ends_with("error 53") => {
            let text = format!(
                "{why}: no log of sessions can be taken over; grant it that, as in kafka-acls.sh --add --allow-principal User:… --operation Write \
                 --operation Describe --transactional-id forebay- --resource-pattern-type prefixed"
            );
            (Verdict::Problem, text)
        }
        Err(why) => (Verdict::Warning, format!("transactional ids cannot be checked: {why}")),
    }
}
