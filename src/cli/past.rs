//! Rules on past records: the outputs of a rule for the records of a Kafka topic, and their differences from another rule's.
//! Nothing is published, written or committed.

use std::sync::Arc;

use super::log_reader::{Since, Taker, Wanted, read};
use super::rule::machine;
use crate::config::{self, Cluster, Config, OffsetReset};
use crate::control::{PastAgainst, PastAsk, PastCounts, PastExample, PastFate, PastResult};
use crate::kafka::consumer::Record;
use crate::metrics::time::now_ms;
use crate::mqtt::topic;
use crate::rule::arena::Arena;
use crate::rule::around::{Around, Machine};
use crate::rule::facts::Subject;
use crate::rule::failure::Failure;
use crate::rule::message::{Given, Id, Message};
use crate::rule::program::{Input, Outcome, Program, from_text};
use crate::rule::record::{Encoding, RecordTemplate};
use crate::rule::record_fields::Around as FactsAround;
use crate::rule::template::MessageContext;
use crate::shard::sources::PastMessages;

/// The default number of records that are read.
const LIMIT: u32 = 1_000;
/// The most messages that are shown; of each the most outputs, and of each of these the most bytes.
const EXAMPLES_MAX: usize = 5;
const OUTPUTS_MAX: usize = 5;
const OUTPUT_BYTES_MAX: usize = 2 << 10;

/// A rule, the records that it is tried on, and another rule to compare with.
#[derive(Debug)]
pub(super) struct Past {
    cluster: Cluster,
    topic: String,
    since: Since,
    limit: u64,
    messages: PastMessages,
    client: Client,
    here: Side,
    there: Option<Side>,
}

/// The client fields of all messages, as records do not have them.
#[derive(Debug)]
struct Client {
    id: String,
    username: Option<String>,
    qos: u8,
    retain: bool,
}

impl Past {
    /// The trial that is asked for, by the names of this configuration.
    ///
    /// # Errors
    /// Why a rule, topic or option cannot be used, in words.
    pub(super) fn new(config: &Config, ask: &PastAsk) -> Result<Self, String> {
        let here = program(config, (ask.sql.as_deref(), ask.rule.as_deref()), ("sql", "rule"))?;
        let against = (ask.against_sql.as_deref(), ask.against.as_deref());
        let there = program(config, against, ("against_sql", "against"))?;
        let mqtt_topic = topic_from(ask.topic_from.as_deref().unwrap_or("key"))?;
        if ask.topic.is_empty() {
            return Err("topic: it is empty".to_owned());
        }
        if ask.qos.is_some_and(|qos| qos > 2) {
            return Err("qos: 0, 1 or 2".to_owned());
        }
        Ok(Self {
            cluster: cluster(config, ask.kafka.as_deref(), ask.rule.as_deref())?.clone(),
            topic: ask.topic.clone(),
            since: ask.since.as_deref().map_or(Ok(Since::Newest), since)?,
            limit: ask.limit.unwrap_or(LIMIT).into(),
            messages: PastMessages::new(config, &ask.topic, mqtt_topic),
            client: Client {
                id: ask.clientid.clone().unwrap_or_else(|| "test".to_owned()),
                username: ask.username.clone(),
                qos: ask.qos.unwrap_or(0),
                retain: ask.retain,
            },
            here: Side::new(config, here.ok_or("there is no rule: give `sql` or `rule`")?),
            there: there.map(|program| Side::new(config, program)),
        })
    }

    /// Reads the records. `goes_on` gets the number of records so far, and returns whether the answer is still wanted; `None`: it is not.
    ///
    /// # Errors
    /// Why they cannot be read, in words.
    pub(super) fn answer(self, goes_on: impl Fn(u64) -> bool) -> Result<Option<PastResult>, String> {
        let Self { cluster, topic, since, limit, messages, client, here, there } = self;
        let wanted = Wanted { cluster: &cluster, topic: &topic, since, limit };
        let mut run = Run {
            messages,
            client,
            here,
            there: there.map(|side| (side, PastAgainst::default())),
            machine: machine()?,
            began_ms: now_ms(),
            arena: Arena::new(),
            result: PastResult::default(),
            goes_on,
        };
        run.result.partitions = read(&wanted, &mut run)?;
        if !run.goes_on() {
            return Ok(None);
        }
        let Run { here, there, mut result, .. } = run;
        result.here = here.counts;
        result.against = there.map(|(side, against)| PastAgainst { counts: side.counts, ..against });
        Ok(Some(result))
    }
}

/// Compiles a statement, or that of a rule of the configuration; `names`: the names of both keys.
fn program(
    config: &Config,
    (sql, rule): (Option<&str>, Option<&str>),
    names: (&str, &str),
) -> Result<Option<Arc<Program>>, String> {
    match (sql, rule) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(format!("give `{}` or `{}`, not both", names.0, names.1)),
        (Some(sql), None) => {
            Program::compile(sql, "test").map(|made| Some(Arc::new(made))).map_err(|why| why.show(sql))
        }
        (None, Some(name)) => Ok(named(config, name)?.program.clone()),
    }
}

/// The rule with a name.
///
/// # Errors
/// There is no such rule.
pub(super) fn named<'c>(config: &'c Config, name: &str) -> Result<&'c config::Rule, String> {
    let rules = || config.rules.iter().filter(|rule| !rule.is_removed);
    rules().find(|rule| rule.name == name).ok_or_else(|| {
        let names: Vec<_> = rules().map(|rule| rule.name.as_str()).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        format!("there is no rule {name:?} in the configuration; it has {names}")
    })
}

/// The cluster with a name; without a name the only one, or the one of all sinks of the rule.
fn cluster<'c>(config: &'c Config, name: Option<&str>, rule: Option<&str>) -> Result<&'c Cluster, String> {
    let names = || config.clusters.iter().map(|cluster| cluster.name.as_str()).collect::<Vec<_>>().join(", ");
    match (name, &config.clusters[..]) {
        (None, [only]) => Ok(only),
        (None, _) => of_sinks(config, rule).ok_or_else(|| format!("kafka: say which cluster: {}", names())),
        (Some(name), all) => all
            .iter()
            .find(|cluster| cluster.name == name)
            .ok_or_else(|| format!("there is no Kafka cluster {name:?} in the configuration; it has {}", names())),
    }
}

/// The one cluster of all sinks of a rule.
fn of_sinks<'c>(config: &'c Config, rule: Option<&str>) -> Option<&'c Cluster> {
    let rule = config.rules.iter().find(|of| rule == Some(&of.name) && !of.is_removed)?;
    let of_rule = config.sinks.iter().filter(|sink| !sink.is_removed && rule.sinks.contains(&sink.name));
    let mut clusters = of_rule.map(|sink| sink.cluster);
    let first = clusters.next()?;
    clusters.all(|other| other == first).then(|| &config.clusters[first])
}

/// Parses a place.
///
/// # Errors
/// Why the text is not a place, in words.
pub(super) fn since(text: &str) -> Result<Since, String> {
    const FORM: &str = "write earliest, a time as in 2026-11-26T10:00:00Z, or an age as in -1h";
    match config::place_in_log(text) {
        Ok(OffsetReset::Earliest) => Ok(Since::Earliest),
        Ok(OffsetReset::At(ms)) => Ok(Since::Time(ms)),
        Ok(OffsetReset::Ago(age)) => {
            let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
            Ok(Since::Time(now_ms().saturating_sub(age).max(0)))
        }
        Ok(OffsetReset::Latest) => Err(format!("since: there is nothing after the latest record; {FORM}")),
        Err(why) => Err(format!("since: {why}; {FORM}")),
    }
}

/// The template of MQTT topics.
fn topic_from(text: &str) -> Result<RecordTemplate, String> {
    let template = match text.split_once(':') {
        None if text == "key" => "${key}".to_owned(),
        Some(("header", name)) => format!("${{headers.{name}}}"),
        Some(("json", path)) if path.starts_with('[') => format!("${{value{path}}}"),
        Some(("json", path)) => format!("${{value.{path}}}"),
        _ if text.contains("${") => text.to_owned(),
        _ => {
            let form = "write key, header:NAME, json:PATH, or a template as in devices/${key}";
            return Err(format!("topic_from: {text:?} names nothing of a record; {form}"));
        }
    };
    RecordTemplate::parse(&template).map_err(|error| {
        let hint = error.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
        format!("topic_from: {}{hint}", error.what)
    })
}

/// A rule, with counts of its results.
#[derive(Debug)]
struct Side {
    program: Arc<Program>,
    /// The source that the rule names: the rule is then tried on records, and not on messages.
    source: Option<Arc<OfSource>>,
    counts: PastCounts,
    /// The fate of the current message, and each output as a line.
    fate: Fate,
    outputs: Vec<u8>,
}

/// A source that a rule names, with the settings that its records show.
#[derive(Debug)]
struct OfSource {
    event: String,
    key: Encoding,
    value: Encoding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Passed,
    Filtered,
    Failed(Failure),
    NotMatching,
}

impl Side {
    fn new(config: &Config, program: Arc<Program>) -> Self {
        // A source that does not exist yet shows its records as they are.
        let source = program.sources().first().map(|named| {
            let known = config.sources.iter().find(|source| !source.is_removed && *source.name == *named.name);
            let encodings = known.map(|source| (source.key_encoding, source.value_encoding));
            let (key, value) = encodings.unwrap_or_default();
            Arc::new(OfSource { event: from_text(&named.name), key, value })
        });
        Self { program, source, counts: PastCounts::default(), fate: Fate::NotMatching, outputs: Vec::new() }
    }

    fn evaluate(&mut self, subject: Subject<'_>, around: &Around<'_>, arena: &mut Arena) {
        let (program, outputs) = (&self.program, &mut self.outputs);
        outputs.clear();
        if let Subject::Message(message) = subject
            && !program.filters().any(|filter| topic::matches(filter, message.context.topic))
        {
            self.fate = Fate::NotMatching;
            self.counts.not_matching += 1;
            return;
        }
        let mut input = Input::of(subject, around, arena);
        let outcome = program.evaluate(&mut input, |output| {
            output.write(outputs)?;
            outputs.push(b'\n');
            Ok(())
        });
        self.counts.mixed_comparisons += u64::from(input.mixed_comparisons());
        self.fate = match outcome {
            Ok(Outcome::Passed(count)) => {
                self.counts.passed += 1;
                self.counts.outputs += u64::from(count);
                Fate::Passed
            }
            Ok(Outcome::Filtered) => {
                self.counts.filtered += 1;
                Fate::Filtered
            }
            Err(failure) => {
                outputs.clear();
                self.counts.failed += 1;
                *self.counts.failures.entry(failure.reason.code.as_str()).or_default() += 1;
                self.counts.first_failure.get_or_insert_with(|| failure.describe(program.sql()));
                Fate::Failed(failure)
            }
        };
    }

    fn shown(&self) -> PastFate {
        let (result, failure) = match &self.fate {
            Fate::Passed => ("passed", None),
            Fate::Filtered => ("filtered", None),
            Fate::NotMatching => ("not_matching", None),
            Fate::Failed(failure) => ("failed", Some(failure.describe(self.program.sql()))),
        };
        let text = String::from_utf8_lossy(&self.outputs);
        PastFate { result, outputs: text.lines().take(OUTPUTS_MAX).map(cut).collect(), failure }
    }
}

fn cut(output: &str) -> String {
    match output.len() {
        ..=OUTPUT_BYTES_MAX => output.to_owned(),
        _ => format!("{}…", &output[..output.floor_char_boundary(OUTPUT_BYTES_MAX)]),
    }
}

/// A run of the rules.
struct Run<G> {
    messages: PastMessages,
    client: Client,
    here: Side,
    there: Option<(Side, PastAgainst)>,
    machine: Machine,
    /// The time of records without one.
    began_ms: i64,
    arena: Arena,
    result: PastResult,
    goes_on: G,
}

impl<G: Fn(u64) -> bool> Taker for Run<G> {
    fn goes_on(&mut self) -> bool {
        (self.goes_on)(self.result.records)
    }

    fn take(&mut self, partition: i32, record: &Record<'_>) {
        let Self { messages, client, here, there, machine, began_ms, arena, result, .. } = self;
        result.records += 1;
        let now_ms = if record.timestamp < 0 { *began_ms } else { record.timestamp };
        // Both rules get the same time and the same random number.
        let around = machine.around(now_ms, fastrand::u64(..));
        let mut from = String::new();
        for side in std::iter::once(&mut *here).chain(there.iter_mut().map(|(there, _)| there)) {
            if let Some(source) = side.source.clone() {
                let OfSource { event, key, value } = &*source;
                let (encodings, of) = ((*key, *value), FactsAround { event, node: &machine.node, now_ms });
                if from.is_empty() {
                    from.clone_from(event);
                }
                messages.with_facts((partition, record), encodings, of, |facts| {
                    side.evaluate(Subject::Facts(facts), &around, arena)
                });
                continue;
            }
            let context = match messages.message(partition, record) {
                Ok(context) => context,
                Err(reason) => {
                    *result.no_message.entry(reason.label()).or_default() += 1;
                    return;
                }
            };
            context.topic.clone_into(&mut from);
            let context = MessageContext {
                client_id: &client.id,
                username: client.username.as_deref(),
                qos: client.qos,
                retain: client.retain,
                timestamp_ms: now_ms,
                ..context
            };
            let (id, given) = (Id::Number(u128::from(around.seed)), Given::default());
            let message = Message { context, id, peerhost: None, peername: None, node: &machine.node, given };
            side.evaluate(Subject::Message(&message), &around, arena);
        }
        let is_example = match there {
            None => matches!(here.fate, Fate::Passed | Fate::Failed(_)),
            Some((there, against)) => !compare(here, there, against),
        };
        if is_example && self.result.examples.len() < EXAMPLES_MAX {
            self.result.examples.push(PastExample {
                partition,
                offset: record.offset,
                mqtt_topic: from,
                here: self.here.shown(),
                there: self.there.as_ref().map(|(there, _)| there.shown()),
            });
        }
    }
}

/// Counts how two rules differ for a message. Returns whether they agree.
fn compare(here: &Side, there: &Side, against: &mut PastAgainst) -> bool {
    // An unmatched message has no output, like a filtered one.
    let kind = |side: &Side| match side.fate {
        Fate::Passed => Ok(true),
        Fate::Filtered | Fate::NotMatching => Ok(false),
        Fate::Failed(failure) => Err(failure.reason.code),
    };
    let is_equal = kind(here) == kind(there) && here.outputs == there.outputs;
    let count = match (here.fate, there.fate) {
        _ if is_equal => &mut against.equal,
        (Fate::Passed, Fate::Passed) => &mut against.different,
        (Fate::Passed, _) => &mut against.only_here,
        (_, Fate::Passed) => &mut against.only_there,
        _ => &mut against.different,
    };
    *count += 1;
    is_equal
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const FILE: &str = "[kafka.main]\nbootstrap='k:1'\n[[rule]]\nname='r'\nsql='SELECT payload FROM \"t/#\"'\nsinks=['s']\n\
        [[sink]]\nname='s'\nkafka='main'\ntopic='t'\n";

    fn config(more: &str) -> Config {
        config::parse(&format!("{FILE}{more}"), "f").unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn ask(of: serde_json::Value) -> PastAsk {
        serde_json::from_value(of).expect("an ask")
    }

    #[test]
    fn since_is_a_word_a_time_or_an_age() {
        assert_eq!(since("earliest"), Ok(Since::Earliest));
        assert_eq!(since("2026-11-26T10:00:00Z"), Ok(Since::Time(1_795_687_200_000)));
        let Ok(Since::Time(ms)) = since("-1h") else { panic!("no time") };
        assert!((now_ms() - 3_600_000 - ms).abs() < 60_000, "{ms}");
        for (text, why) in [("latest", "nothing after"), ("yesterday", "write earliest"), ("1h", "-1h"), ("-x", "-1h")]
        {
            let refused = since(text).expect_err(text);
            assert!(refused.starts_with("since: ") && refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn topics_come_from_the_key_a_header_the_value_or_a_template() {
        for (text, template) in [
            ("key", "${key}"),
            ("header:mqtt-topic", "${headers.mqtt-topic}"),
            ("json:meta.topic", "${value.meta.topic}"),
            ("json:[0].topic", "${value[0].topic}"),
            ("json:'a.b'", "${value.'a.b'}"),
            ("devices/${key}/up", "devices/${key}/up"),
        ] {
            assert_eq!(topic_from(text).map(|made| made.to_string()), Ok(template.to_owned()), "{text}");
        }
        for text in ["", "topic", "value:x", "json:", "json:a..b", "header:", "${payload}"] {
            assert!(topic_from(text).is_err_and(|why| why.starts_with("topic_from: ")), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_said_before_kafka_is_asked() {
        let (one, two) = (config(""), config("[kafka.other]\nbootstrap='k:2'\n"));
        assert!(Past::new(&one, &ask(json!({ "rule": "r", "topic": "t" }))).is_ok());
        assert!(Past::new(&two, &ask(json!({ "rule": "r", "topic": "t", "kafka": "other" }))).is_ok());
        // Finding Q37: without a name it is that of the rule's sinks.
        let of_rule = Past::new(&two, &ask(json!({ "rule": "r", "topic": "t" }))).expect("the sink has one");
        assert_eq!(of_rule.cluster.name, "main");
        for (config, of, why) in [
            (&one, json!({ "topic": "t" }), "give `sql` or `rule`"),
            (&one, json!({ "topic": "t", "rule": "x" }), "no rule \"x\" in the configuration; it has r"),
            (&one, json!({ "topic": "t", "sql": "SELEC" }), "line 1"),
            (&one, json!({ "topic": "t", "sql": "SELECT 1 FROM t", "rule": "r" }), "not both"),
            (&one, json!({ "topic": "t", "rule": "r", "against": "r", "against_sql": "" }), "not both"),
            (&one, json!({ "topic": "t", "rule": "r", "against": "x" }), "no rule \"x\""),
            (&one, json!({ "topic": "t", "rule": "r", "kafka": "x" }), "no Kafka cluster \"x\""),
            (&two, json!({ "topic": "t", "sql": "SELECT 1 FROM t" }), "which cluster: main, other"),
            (&one, json!({ "topic": "t", "rule": "r", "since": "latest" }), "since"),
            (&one, json!({ "topic": "", "rule": "r" }), "topic"),
            (&one, json!({ "topic": "t", "rule": "r", "qos": 3 }), "qos"),
        ] {
            let refused = Past::new(config, &ask(of)).expect_err(why);
            assert!(refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn differences_are_counted_by_who_makes_outputs() {
        let context = |payload: &'static [u8]| MessageContext { topic: "t", payload, ..MessageContext::default() };
        let machine = Machine::bare();
        let mut arena = Arena::new();
        let mut against = PastAgainst::default();
        let mut compared = |here: &str, there: &str, payload| {
            let mut sides = [here, there]
                .map(|sql| Side::new(&config(""), Arc::new(Program::compile(sql, "test").expect("a rule"))));
            let message = Message {
                context: context(payload),
                id: Id::Number(0),
                peerhost: None,
                peername: None,
                node: "n",
                given: Given::default(),
            };
            sides
                .iter_mut()
                .for_each(|side| side.evaluate(Subject::Message(&message), &machine.around(0, 0), &mut arena));
            let is_equal = compare(&sides[0], &sides[1], &mut against);
            let PastAgainst { equal, different, only_here, only_there, .. } = std::mem::take(&mut against);
            assert_eq!(is_equal, equal == 1);
            [equal, different, only_here, only_there]
        };
        let (all, some, wrong, other) = (
            "SELECT payload.v AS v FROM t",
            "SELECT payload.v AS v FROM t WHERE v > 1",
            "SELECT payload.v - 1 AS v FROM t",
            "SELECT payload.v AS v FROM u",
        );
        assert_eq!(compared(all, some, b"{\"v\":2}"), [1, 0, 0, 0]);
        assert_eq!(compared(all, some, b"{\"v\":1}"), [0, 0, 1, 0]);
        assert_eq!(compared(some, all, b"{\"v\":1}"), [0, 0, 0, 1]);
        assert_eq!(compared(some, other, b"{\"v\":1}"), [1, 0, 0, 0]);
        assert_eq!(compared(all, wrong, b"{\"v\":2}"), [0, 1, 0, 0]);
        assert_eq!(compared(all, wrong, b"{\"v\":\"x\"}"), [0, 0, 1, 0]);
        assert_eq!(compared(other, wrong, b"{\"v\":\"x\"}"), [0, 1, 0, 0]);
        assert_eq!(compared(wrong, wrong, b"{\"v\":\"x\"}"), [1, 0, 0, 0]);
    }

    /// A trial on past records shows what the rule makes: numbers keep their digits, and objects the order of their members.
    #[test]
    fn finding_q43_json_passes_through_a_rule_on_past_records_as_it_is() {
        let payload = br#"{"t": 2.50, "n": 12345678901234567890123, "o": {"z": 1.0, "a": [1e3]}}"#;
        let sql = "SELECT payload.t AS t, payload.n AS n, payload.o AS o FROM t";
        let mut side = Side::new(&config(""), Arc::new(Program::compile(sql, "test").expect("a rule")));
        let message = Message {
            context: MessageContext { topic: "t", payload, ..MessageContext::default() },
            id: Id::Number(0),
            peerhost: None,
            peername: None,
            node: "n",
            given: Given::default(),
        };
        let machine = Machine::bare();
        side.evaluate(Subject::Message(&message), &machine.around(0, 0), &mut Arena::new());
        let shown = side.shown();
        let want = "{\"t\":2.50,\"o\":{\"z\": 1.0, \"a\": [1e3]},\"n\":12345678901234567890123}";
        assert_eq!((shown.result, shown.outputs), ("passed", vec![want.to_owned()]));
    }

    #[test]
    fn long_outputs_are_cut() {
        assert_eq!(cut("{}"), "{}");
        let long = "ä".repeat(OUTPUT_BYTES_MAX);
        assert_eq!(cut(&long).chars().count(), OUTPUT_BYTES_MAX / 2 + 1);
    }
}
