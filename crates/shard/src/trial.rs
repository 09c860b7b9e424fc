//! Trials: the record that a sink would make of a message, for the control plane, by the code that writes records.

use smallvec::SmallVec;

use forebay_config::{Config, Republish, Rule, Sink};
use forebay_kafka::topic_name::kafka_topic;
use forebay_kafka::types::SinkId;
use forebay_mqtt::packet::Publish;
use forebay_mqtt::topic;
use forebay_rule::arena::Arena;
use forebay_rule::around::Machine;
use forebay_rule::column::{Defaults, Row};
use forebay_rule::failure::Failure;
use forebay_rule::message::{Given, Id, Message as RuleMessage};
use forebay_rule::program::{Input, Outcome, Output};
use forebay_rule::template::{Absent, MessageContext};

use super::reservation::Republished;
use super::router;
use super::sinks::Plan;

/// A record that was not written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trial {
    /// Whether the sink takes the topic.
    pub matches: bool,
    /// The rule that makes the record. `None`: it is made of the message itself.
    pub rule: Option<String>,
    /// The reason why the sink would refuse the message, if it would.
    pub refused: Option<String>,
    /// Kafka topic.
    pub topic: Option<String>,
    /// Record key.
    pub key: Option<Vec<u8>>,
    /// Record value.
    pub value: Option<Vec<u8>>,
    /// Record timestamp, milliseconds since 1970-01-01 UTC.
    pub timestamp: Option<i64>,
    /// Record headers, in order.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Tries a message on a sink, by its place in the configuration: as the sink takes it itself, else by the first output of a rule that feeds the
/// sink.
#[must_use]
pub fn try_message(config: &Config, place: usize, message: &MessageContext<'_>, machine: &Machine) -> Trial {
    let sink = &config.sinks[place];
    let mut takers = SmallVec::new();
    router(config).matches(message.topic, &mut takers);
    let matches = takers.iter().any(|taker| usize::from(*taker) == place);
    let own = || record(sink, &Plan::new(sink, SinkId(0), None), message);
    let Some(fed) = sink.fed.as_deref().filter(|_| !matches) else { return Trial { matches, ..own() } };
    let plan = Plan::new(sink, SinkId(0), None).fed(sink, fed);
    let names_it = |rule: &&Rule| rule.enabled && !rule.is_removed && rule.sinks.contains(&sink.name);
    let mut last = None;
    for rule in config.rules.iter().filter(names_it) {
        let Some(program) = rule.program.as_deref() else { continue };
        if !program.filters().any(|filter| topic::matches(filter, message.topic)) {
            continue;
        }
        let of = RuleMessage {
            context: *message,
            id: Id::Number(0),
            peerhost: None,
            peername: None,
            node: &machine.node,
            given: Given::default(),
        };
        let (around, mut arena) = (machine.around(message.timestamp_ms, 0), Arena::new());
        let mut first = None;
        let outcome = program.evaluate(&mut Input::new(&of, &around, &mut arena), |output| {
            if first.is_none() {
                first = Some(fed_record(sink, &plan, output, message)?);
            }
            Ok(())
        });
        let rule = Some(rule.name.clone());
        let refused = match outcome {
            Ok(Outcome::Passed(_)) => match first {
                Some(first) => return Trial { matches: true, rule, ..first },
                None => continue,
            },
            Ok(Outcome::Filtered) => "the rule filters the message".to_owned(),
            Err(failure) => format!("the rule fails: {}", failure.describe(program.sql())),
        };
        last = Some(Trial { matches: true, rule, refused: Some(refused), ..Trial::default() });
    }
    last.unwrap_or_else(|| {
        let refused = "no filter of the sink and no rule that feeds it matches the topic".to_owned();
        Trial { refused: Some(refused), ..Trial::default() }
    })
}

/// The sinks of a rule, which show the records that they would write for its outputs, and the messages that it publishes itself.
#[derive(Debug)]
pub struct RuleSinks<'c> {
    sinks: Vec<(&'c Sink, Plan)>,
    republish: &'c [Republish],
}

/// A message that a rule would publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// MQTT topic.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// QoS.
    pub qos: u8,
    /// Whether it is retained.
    pub retain: bool,
    /// User properties, in order.
    pub user_properties: Vec<(String, String)>,
}

impl<'c> RuleSinks<'c> {
    /// The sinks of a configured rule.
    #[must_use]
    pub fn of(config: &'c Config, rule: &'c Rule) -> Self {
        let named = |name: &String| config.sinks.iter().find(|sink| sink.name == *name && !sink.is_removed);
        let plan = |sink: &'c Sink| Some((sink, Plan::new(sink, SinkId(0), None).fed(sink, sink.fed.as_deref()?)));
        let sinks = rule.sinks.iter().filter_map(named).filter_map(plan).collect();
        Self { sinks, republish: &rule.republish }
    }

    /// The sinks, in the order of the rule.
    pub fn sinks(&self) -> impl Iterator<Item = &'c Sink> {
        self.sinks.iter().map(|(sink, _)| *sink)
    }

    /// The messages that the rule publishes, in its order.
    #[must_use]
    pub const fn republish(&self) -> &'c [Republish] {
        self.republish
    }

    /// The messages that the rule would publish for an output of this message.
    ///
    /// # Errors
    /// A message cannot be made: the rule fails for the original message.
    pub fn published(&self, output: &Output<'_>, message: &MessageContext<'_>) -> Result<Vec<Published>, Failure> {
        let row = Row::new(output);
        let of = MessageContext { output: Some(&row), ..*message };
        let published = |made: &Republish| {
            let made = Republished::render(made, &of, &row)?;
            let Publish { topic, payload, qos, retain, properties, .. } = made.publish();
            let text = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
            let user_properties = properties.user_properties().map(text).collect();
            let (topic, payload) = (topic.to_owned(), payload.to_owned());
            Ok(Published { topic, payload, qos: qos as u8, retain, user_properties })
        };
        self.republish.iter().map(published).collect()
    }

    /// The name of each sink, and the record that it would write for an output of this message, or of something else with key and time of its own.
    ///
    /// # Errors
    /// A part of the output cannot be written: the rule fails for the message.
    pub fn records(
        &self,
        output: &Output<'_>,
        message: &MessageContext<'_>,
        defaults: Option<Defaults<'_>>,
    ) -> Result<Vec<(&'c str, Trial)>, Failure> {
        let record = |(sink, plan): &(&'c Sink, Plan)| {
            let mut trial = fed_record(sink, plan, output, message)?;
            if let Some(defaults) = defaults.filter(|_| plan.has_default_key()) {
                trial.key = defaults.key.map(<[u8]>::to_vec);
            }
            Ok((&*sink.name, trial))
        };
        self.sinks.iter().map(record).collect()
    }
}

/// The record that a sink makes of an output.
fn fed_record(sink: &Sink, plan: &Plan, output: &Output<'_>, message: &MessageContext<'_>) -> Result<Trial, Failure> {
    let row = Row::new(output);
    let trial = record(sink, plan, &MessageContext { output: Some(&row), ..*message });
    row.failure().map_or(Ok(trial), Err)
}

/// The record that a plan makes of a message.
fn record(sink: &Sink, plan: &Plan, message: &MessageContext<'_>) -> Trial {
    let mut refused = None;
    let mut absent = |what: &str, why: Absent| {
        let why = match why {
            Absent::UserProperty => "asks for a user property that the message does not have",
            Absent::Column => "asks for a column that the output of the rule does not have, or that is null",
            Absent::Headers => "yields neither an object nor a list of { key, value }",
            Absent::PayloadPath => "asks for a value that the payload does not have, or the payload is not JSON",
            Absent::Time { .. } => "is no number, before 1970, or more than an hour ahead",
        };
        refused.get_or_insert(format!("{what} {why}"));
    };
    let mut scratch = Vec::new();
    let topic = plan.topic.value(message, &mut scratch).map(<[u8]>::to_vec);
    let topic = topic.map_err(|why| absent("topic", why)).ok();
    let timestamp = plan.time(message).map_err(|why| absent("timestamp", why)).ok();
    let timestamp = timestamp.map(|time| time.map_or(message.timestamp_ms, |time| time.0));
    let value = plan.value(message, &mut scratch).map_err(|why| absent("value", why)).ok();
    // An empty value of a rule's row may stand for null.
    let is_null = |value: &&[u8]| message.output.is_some() && sink.empty_is_null && value.is_empty();
    let value = value.flatten().filter(|value| !is_null(value)).map(<[u8]>::to_vec);
    let key = plan.key.as_ref().and_then(|key| key.value(message, &mut scratch).ok().map(<[u8]>::to_vec));
    // The row of a rule has no bound before it is made.
    let bytes = match message.output {
        Some(_) => plan.row_bytes(message, &mut Vec::new()),
        None => plan.row_bytes_max(message),
    };
    if bytes == Err(Absent::Headers) {
        absent("headers_from", Absent::Headers);
    }
    let topic = topic.and_then(|name: Vec<u8>| match kafka_topic(&name) {
        Ok(name) if plan.is_internal(name.as_bytes()) => {
            refused.get_or_insert(format!(
                "\"{name}\" begins with `_`, as topics of Kafka's own do, and the template does not"
            ));
            None
        }
        Ok(name) => Some(name.to_owned()),
        Err(why) => {
            refused.get_or_insert(format!("\"{}\" is not a valid Kafka topic: it {why}", name.escape_ascii()));
            None
        }
    });
    let bytes = bytes.unwrap_or(0);
    if bytes > sink.record_bytes_max {
        refused.get_or_insert(format!(
            "a record of up to {bytes} bytes is more than record_bytes_max, {}",
            sink.record_bytes_max
        ));
    }
    let mut rendered = Vec::new();
    let ranges = plan.render_headers(message, &mut rendered);
    let headers = plan.headers(message, &rendered, &ranges);
    let headers = headers.map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    Trial { matches: true, rule: None, refused, topic, key, value, timestamp, headers }
}
