//! Trials of the control plane: the main thread computes the configuration with the edit, and other threads do the rest.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::super::admin::{Admin, Stage};
use super::super::check::Verdict;
use super::super::log_reader::Unusable;
use super::super::past::Past;
use super::super::reload::several;
use super::super::{check_bridges, letter_sending, letter_topics, rule, source_trial};
use super::{ByMainThread, Event};
use crate::config::{self, Cluster, Config, Edit, Part, To};
use crate::control::{
    BridgeTrial, BrokerTrial, ClusterTrial, Content, Finding, Header, LettersAsk, LettersFound, LettersSent,
    LettersToSend, MessageTrial, PastAsk, PastRun, RecordTrial, ReloadRefused, RuleAsk, RuleTrial, SampleMessage,
    SourceTrial, TopicTrial, TrialAnswer, Trials,
};
use crate::metrics::time::now_ms;
use crate::mqtt::property::{Property, PropertyBuf};
use crate::rule::template::MessageContext;
use crate::shard::sources;
use crate::shard::trial::{Trial, try_message};

/// A question to the main thread: the configuration with an edit.
pub(super) struct WouldBe {
    pub(super) edit: Edit,
    pub(super) answer: Box<dyn FnOnce(Result<Config, ReloadRefused>) + Send>,
}

impl ByMainThread {
    pub(super) fn would_be(
        &self,
        part: config::Part,
        name: String,
        keys: Map<String, Value>,
        answer: impl FnOnce(Result<Config, ReloadRefused>) + Send + 'static,
    ) -> bool {
        let edit = Edit { part, name, to: To::Keys(keys) };
        self.0.send(Event::WouldBe(WouldBe { edit, answer: Box::new(answer) })).is_ok()
    }
}

impl Trials for ByMainThread {
    fn cluster(
        &self,
        name: String,
        keys: Map<String, Value>,
        topic: Option<String>,
        answer: TrialAnswer<ClusterTrial>,
    ) -> bool {
        let wanted = name.clone();
        self.would_be(config::Part::Cluster, name, keys, move |config| match config {
            Err(why) => answer(Err(why)),
            Ok(config) => {
                let cluster = config.clusters.into_iter().find(|cluster| cluster.name == wanted);
                let Some(cluster) = cluster else { return answer(Err(unknown(Part::Cluster, &wanted))) };
                beside(move || answer(Ok(try_cluster(&cluster, topic))));
            }
        })
    }

    fn rule(&self, ask: RuleAsk, answer: TrialAnswer<RuleTrial>) -> bool {
        // A rule has a bounded cost; no shard's thread is held up by it.
        if ask.rule.is_none() && ask.sinks.is_empty() {
            beside(move || answer(rule::try_sql(&ask, None).map_err(|why| several(vec![why]))));
            return true;
        }
        // A mistake in the statement is reported here with its place; the configuration would only name the rule.
        if let Err(why) = rule::compiles(&ask.sql) {
            answer(Err(several(vec![why])));
            return true;
        }
        let name = ask.rule.clone().unwrap_or_else(|| rule::TRIED.to_owned());
        let mut keys = Map::from_iter([("sql".to_owned(), Value::from(ask.sql.as_str()))]);
        if !ask.sinks.is_empty() {
            keys.insert("sinks".to_owned(), ask.sinks.clone().into());
        }
        self.would_be(Part::Rule, name.clone(), keys, move |config| match config {
            Err(why) => answer(Err(why)),
            Ok(config) => beside(move || {
                let made = config.rules.iter().find(|rule| rule.name == name);
                answer(rule::try_sql(&ask, made.map(|made| (&config, made))).map_err(|why| several(vec![why])));
            }),
        })
    }

    fn past(&self, ask: PastAsk, run: Arc<PastRun>, begun: TrialAnswer<()>) -> bool {
        // Without keys the trial is of the configuration in force.
        self.would_be(Part::Cluster, String::new(), Map::new(), move |config| match config {
            Err(why) => begun(Err(why)),
            Ok(config) => beside(move || match Past::new(&config, &ask) {
                Err(why) => begun(Err(several(vec![why]))),
                Ok(past) => {
                    begun(Ok(()));
                    run.end(past.answer(|records| run.goes_on(records)));
                }
            }),
        })
    }

    fn source(&self, name: String, keys: Map<String, Value>, answer: TrialAnswer<SourceTrial>) -> bool {
        let wanted = name.clone();
        self.would_be(config::Part::Source, name, keys, move |config| match config {
            Err(why) => answer(Err(why)),
            Ok(config) => {
                let place = config.sources.iter().position(|source| source.name == wanted);
                let Some(place) = place else { return answer(Err(unknown(Part::Source, &wanted))) };
                beside(move || answer(Ok(try_source(&config, &config.sources[place]))));
            }
        })
    }

    fn bridge(&self, name: String, keys: Map<String, Value>, answer: TrialAnswer<BridgeTrial>) -> bool {
        let wanted = name.clone();
        self.would_be(config::Part::Bridge, name, keys, move |config| match config {
            Err(why) => answer(Err(why)),
            Ok(mut config) => {
                config.name_instances();
                let place = config.bridges.iter().position(|bridge| bridge.name == wanted);
                let Some(place) = place else { return answer(Err(unknown(Part::Bridge, &wanted))) };
                beside(move || {
                    let (works, findings) = shown_findings(check_bridges::try_bridge(&config, &config.bridges[place]));
                    answer(Ok(BridgeTrial { works, findings }));
                });
            }
        })
    }

    fn letters(&self, ask: LettersAsk, answer: TrialAnswer<Result<LettersFound, String>>) -> bool {
        self.would_be(Part::Cluster, String::new(), Map::new(), move |config| match config {
            Err(why) => answer(Err(why)),
            Ok(config) => beside(move || match letter_topics::cluster_of(&config, &ask.kafka, &ask.topic) {
                Some(cluster) => match letter_topics::since_of(&ask) {
                    Ok(since) => answer(of_letters(letter_topics::found(&config, cluster, (&ask, since)))),
                    Err(why) => answer(Err(several(vec![why]))),
                },
                None => answer(Err(no_letters(&ask.topic))),
            }),
        })
    }

    fn send_letters(
        &self,
        (kafka, topic): (String, String),
        wanted: LettersToSend,
        answer: TrialAnswer<Result<LettersSent, String>>,
    ) -> bool {
        self.would_be(Part::Cluster, String::new(), Map::new(), move |config| match config {
            Err(why) => answer(Err(why)),
            Ok(config) => beside(move || match letter_topics::cluster_of(&config, &kafka, &topic) {
                Some(cluster) => answer(of_letters(letter_sending::send(&config, cluster, &topic, &wanted))),
                None => answer(Err(no_letters(&topic))),
            }),
        })
    }

    fn message(
        &self,
        sink: String,
        keys: Map<String, Value>,
        message: SampleMessage,
        answer: TrialAnswer<MessageTrial>,
    ) -> bool {
        let wanted = sink.clone();
        self.would_be(config::Part::Sink, sink, keys, move |config| {
            answer(config.and_then(|config| {
                let place = config.sinks.iter().position(|sink| sink.name == wanted);
                let place = place.ok_or_else(|| unknown(Part::Sink, &wanted))?;
                let payload = message.payload().map_err(|why| several(vec![why]))?;
                let mut properties = PropertyBuf::default();
                properties.extend(message.content_type.as_deref().map(Property::ContentType));
                properties
                    .extend(message.user_properties.iter().map(|(name, value)| Property::UserProperty(name, value)));
                let context = MessageContext {
                    topic: &message.topic,
                    client_id: &message.client_id,
                    username: message.username.as_deref(),
                    qos: message.qos,
                    retain: message.retain,
                    dup: false,
                    packet_id: u16::from(message.qos > 0),
                    payload: &payload,
                    timestamp_ms: now_ms(),
                    properties: properties.as_properties(),
                    hops: 0,
                    copy_of: None,
                    output: None,
                };
                let machine = rule::machine().map_err(|why| several(vec![why]))?;
                Ok(shown(try_message(&config, place, &context, &machine)))
            }));
        })
    }
}

/// The outcome of a question about letters. A topic that Kafka does not have counts as empty.
fn of_letters<T>(done: Result<T, Unusable>) -> Result<Result<T, String>, ReloadRefused> {
    match done {
        Ok(done) => Ok(Ok(done)),
        Err(Unusable::Failed(why)) => Ok(Err(why)),
        Err(Unusable::Missing(why)) => {
            Err(ReloadRefused::Unknown(format!("{why}: no dead letter was written to it yet, or it was deleted")))
        }
    }
}

fn no_letters(topic: &str) -> ReloadRefused {
    ReloadRefused::Unknown(format!("the configuration has no dead-letter topic {topic:?}"))
}

fn unknown(part: Part, name: &str) -> ReloadRefused {
    ReloadRefused::Unknown(format!("there is no {} {name:?} in the configuration", part.word()))
}

fn shown(trial: Trial) -> MessageTrial {
    let Trial { matches, rule, refused, topic, key, value, timestamp, headers } = trial;
    let header = |(name, value): (Vec<u8>, Vec<u8>)| Header {
        name: String::from_utf8_lossy(&name).into_owned(),
        value: Content::from(value),
    };
    let (key, value) = (key.map(Content::from), value.map(Content::from));
    let headers = headers.into_iter().map(header).collect();
    MessageTrial { matches, rule, refused, topic, key, value, timestamp, headers }
}

/// Runs a trial that waits for the network on a thread of its own. Without a thread there is no answer, which the caller notices.
pub(super) fn beside(trial: impl FnOnce() + Send + 'static) {
    let _ = std::thread::Builder::new().name("trial".into()).spawn(trial);
}

/// Findings of a check, and whether none of them is a problem.
fn shown_findings(lines: Vec<(Verdict, String)>) -> (bool, Vec<Finding>) {
    let works = lines.iter().all(|(verdict, _)| *verdict < Verdict::Problem);
    let finding = |(verdict, text): (Verdict, String)| Finding { verdict: verdict.as_str(), text };
    (works, lines.into_iter().map(finding).collect())
}

/// Examines a source's requirements, and makes messages of the newest records.
fn try_source(config: &Config, source: &config::Source) -> SourceTrial {
    let source_trial::Found { lines, records } = source_trial::try_source(config, source);
    let (works, findings) = shown_findings(lines);
    let records = records.into_iter().map(|(topic, partition, sources::RecordTrial { offset, message })| {
        let (message, refused) = match message {
            Ok(message) => (Some(message), None),
            Err(reason) => (None, Some(reason.to_string())),
        };
        let record = RecordTrial { topic, partition, offset, refused, ..RecordTrial::default() };
        let Some(message) = message else { return record };
        RecordTrial {
            mqtt_topic: Some(message.topic),
            payload: Some(Content::from(message.payload)),
            payload_bytes: message.payload_bytes,
            qos: message.qos,
            retain: message.retain,
            user_properties: message.user_properties,
            ..record
        }
    });
    SourceTrial { works, findings, records: records.collect() }
}

/// Tries each bootstrap broker, one after the other; and looks for a topic.
fn try_cluster(cluster: &Cluster, topic: Option<String>) -> ClusterTrial {
    let mut members = None;
    let broker = |broker: &String| {
        let tried = Admin::try_broker(cluster, broker);
        let (failed, reason) = match tried {
            Ok(named) => {
                members.get_or_insert(named);
                (None, None)
            }
            Err((stage, why)) => (Some(Stage::as_str(stage)), Some(why)),
        };
        BrokerTrial { broker: broker.clone(), failed, reason }
    };
    let brokers: Vec<BrokerTrial> = cluster.bootstrap.iter().map(broker).collect();
    let works = members.is_some();
    let topic = topic.filter(|_| works).map(|name| {
        let found = Admin::connect(cluster).map_err(|why| why.join("; ")).and_then(|mut admin| admin.partitions(&name));
        let (partitions, reason) = match found {
            Ok(partitions) => (partitions, None),
            Err(why) => (0, Some(why)),
        };
        TopicTrial { name, partitions, reason }
    });
    ClusterTrial { works, brokers, members: members.unwrap_or_default(), topic }
}
