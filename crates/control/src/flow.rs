//! The flow: the ways that messages take from clients, Kafka and other brokers, through rules, to Kafka, other brokers and subscribers. The flow is derived
//! from the lists of the API, with their states and rates.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::{Asked, Problem};
use super::{Shown, View, bridges, overview, rules, sources};

pub(super) fn routes() -> OpenApiRouter<Shown> {
    OpenApiRouter::new().routes(routes!(flow))
}

/// Ways in an answer, at most, and by default.
const WAYS_MAX: usize = 10_000;
const WAYS: usize = 1_000;

/// A place on a way of messages.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
struct Step {
    /// `topic`: an MQTT topic or filter; `event`: the topic of events; `kafka`: a Kafka topic; `remote`: another broker; or a part of the configuration:
    /// `source`, `rule`, `sink`, and a bridge's `in` and `out`.
    #[schema(example = "sink")]
    kind: &'static str,
    /// Name of the place; for topics the topic, filter or template.
    name: String,
    /// Cluster of a Kafka topic; otherwise null.
    cluster: Option<String>,
    /// State as in the list of sinks, sources, rules or bridges; otherwise null.
    state: Option<String>,
    /// Why the place is not running.
    reason: Option<String>,
    /// Messages or records that arrive per second; null: not counted.
    in_per_second: Option<f64>,
    /// Messages or records that leave per second; null: not counted.
    out_per_second: Option<f64>,
}

/// A way that messages take.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
struct Way {
    /// The Kafka topic of a source, or the remote of a bridge; null: clients publish the messages, or they are events.
    origin: Option<Step>,
    /// A topic filter, the topic of an event, a source, or the `in` of a bridge.
    from: Step,
    /// The rule that messages pass through; null: none.
    rule: Option<Step>,
    /// A sink, the `out` of a bridge, or the topic of the republished messages; null: the rule's outputs are not used.
    to: Option<Step>,
    /// The Kafka topic, or the remote; null: messages go to subscribers.
    at: Option<Step>,
}

/// The ways of messages.
#[derive(Debug, Serialize, ToSchema)]
struct Flow {
    ways: Vec<Way>,
    /// Total number of matching ways, including those beyond the limit.
    total: usize,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct FlowQuery {
    /// Only ways with this text in one of their names, ignoring case.
    search: Option<String>,
    /// The most entries to return.
    #[param(minimum = 1, maximum = 10000, default = 1000)]
    limit: Option<usize>,
}

/// The ways that messages take: origin, rule and destination, with the state and rate of each place.
#[utoipa::path(get, path = "/api/v1/flow", tag = "service", params(FlowQuery), responses(
    (status = 200, body = Flow),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "A shard did not answer")))]
async fn flow(
    State(view): State<Arc<View>>,
    Asked(FlowQuery { search, limit }): Asked<FlowQuery>,
) -> Result<Json<Flow>, Problem> {
    let limit = limit.unwrap_or(WAYS);
    if !(1..=WAYS_MAX).contains(&limit) {
        return Err(Problem::bad_request(format!("limit must be 1 to {WAYS_MAX}")));
    }
    let of = || State(Arc::clone(&view));
    let lists = Lists {
        sinks: list(&overview::sinks(of()).await.0, "sinks"),
        rules: list(&rules::rules(of()).await.0, "rules"),
        sources: list(&sources::sources(of()).await?.0, "sources"),
        bridges: list(&bridges::bridges(of()).await?.0, "bridges"),
        keys: &view.described.config["bridge"],
    };
    let mut ways = lists.ways();
    if let Some(search) = search.map(|search| search.to_lowercase()) {
        ways.retain(|way| way.has(&search));
    }
    let total = ways.len();
    ways.truncate(limit);
    Ok(Json(Flow { ways, total }))
}

/// The items of a list of the API.
fn list(of: &impl Serialize, name: &str) -> Vec<Value> {
    match serde_json::to_value(of).map(|mut all| all[name].take()) {
        Ok(Value::Array(all)) => all,
        _ => Vec::new(),
    }
}

/// The lists of the API that the flow is derived from.
struct Lists<'a> {
    sinks: Vec<Value>,
    rules: Vec<Value>,
    sources: Vec<Value>,
    bridges: Vec<Value>,
    /// Keys of the bridges by name, as in the configuration.
    keys: &'a Value,
}

/// Names of a place's rates in the lists of the API: messages in, and messages out.
fn rates(kind: &str) -> (&'static [&'static str], &'static [&'static str]) {
    match kind {
        "rule" => (&["passed_per_second", "filtered_per_second", "failed_per_second"], &["passed_per_second"]),
        "sink" => (&["records_in_per_second"], &["delivered_per_second"]),
        "source" => (&["records_per_second"], &["published_per_second"]),
        // Each direction of a bridge is a place of its own.
        "in" => (&["received_per_second"], &["received_per_second"]),
        _ => (&["delivered_per_second"], &["delivered_per_second"]),
    }
}

fn text(of: &Value) -> String {
    of.as_str().unwrap_or_default().to_owned()
}

/// One text, or several in a list.
fn texts(of: &Value) -> Vec<String> {
    match of {
        Value::Array(all) => all.iter().map(text).collect(),
        Value::String(one) => vec![one.clone()],
        _ => Vec::new(),
    }
}

fn items(of: &Value) -> &[Value] {
    of.as_array().map(Vec::as_slice).unwrap_or_default()
}

impl Step {
    fn new(kind: &'static str, name: impl Into<String>) -> Self {
        let name = name.into();
        Self { kind, name, cluster: None, state: None, reason: None, in_per_second: None, out_per_second: None }
    }

    /// The place of a sink, source, rule or bridge, from its entry in a list.
    fn part(kind: &'static str, of: &Value) -> Self {
        let sum = |names: &[&str]| names.iter().map(|name| of["rate"][*name].as_f64()).sum::<Option<f64>>();
        let (comes, leaves) = rates(kind);
        Self {
            state: of["state"].as_str().map(str::to_owned),
            reason: of["reason"].as_str().map(str::to_owned),
            in_per_second: sum(comes),
            out_per_second: sum(leaves),
            ..Self::new(kind, text(&of["name"]))
        }
    }

    fn kafka(topic: impl Into<String>, of: &Value) -> Self {
        Self { cluster: of["kafka"].as_str().map(str::to_owned), ..Self::new("kafka", topic) }
    }
}

impl Way {
    fn has(&self, text: &str) -> bool {
        let Self { origin, from, rule, to, at } = self;
        let is_in = |of: &str| of.to_lowercase().contains(text);
        [origin, rule, to, at]
            .into_iter()
            .flatten()
            .chain([from])
            .any(|step| is_in(&step.name) || step.cluster.as_deref().is_some_and(is_in))
    }
}

impl Lists<'_> {
    fn ways(&self) -> Vec<Way> {
        let mut all = Vec::new();
        for sink in &self.sinks {
            for filter in texts(&sink["filters"]) {
                let (to, at) = into_sink(sink);
                all.push(Way { origin: None, from: Step::new("topic", filter), rule: None, to, at });
            }
        }
        self.rules.iter().for_each(|rule| self.of_rule(rule, &mut all));
        for source in &self.sources {
            for (topic, mqtt) in source["topics"].as_object().into_iter().flatten() {
                if let Some(mqtt) = mqtt.as_str().filter(|topic| !topic.is_empty()) {
                    let to = Some(Step::new("topic", mqtt));
                    let origin = Some(Step::kafka(topic, source));
                    all.push(Way { origin, from: Step::part("source", source), rule: None, to, at: None });
                }
            }
        }
        self.bridges.iter().for_each(|bridge| self.of_bridge(bridge, &mut all));
        all
    }

    fn of_rule(&self, of: &Value, all: &mut Vec<Way>) {
        let rule = Step::part("rule", of);
        let named = |name: &Value| self.sinks.iter().find(|sink| sink["name"] == *name);
        let mut ends: Vec<_> = items(&of["sinks"]).iter().filter_map(named).map(into_sink).collect();
        let published = items(&of["republish"]).iter().map(|of| (Some(Step::new("topic", text(&of["topic"]))), None));
        ends.extend(published);
        if ends.is_empty() {
            ends.push((None, None));
        }
        for from in texts(&of["from"]) {
            for (origin, from) in self.begins(&from) {
                let way = |(to, at): &(Option<Step>, Option<Step>)| Way {
                    origin: origin.clone(),
                    from: from.clone(),
                    rule: Some(rule.clone()),
                    to: to.clone(),
                    at: at.clone(),
                };
                all.extend(ends.iter().map(way));
            }
        }
    }

    /// The places where a topic of FROM begins, each with its origin.
    fn begins(&self, from: &str) -> Vec<(Option<Step>, Step)> {
        let records = ["$bridges/", "$sources/"].into_iter().find_map(|kind| from.strip_prefix(kind));
        let source = records.and_then(|rest| rest.strip_prefix("kafka_consumer:"));
        let source = source.and_then(|name| self.sources.iter().find(|source| source["name"] == name));
        let Some(source) = source else {
            let kind = if from.starts_with("$events/") { "event" } else { "topic" };
            return vec![(None, Step::new(kind, from))];
        };
        let topics = source["topics"].as_object().into_iter().flatten();
        topics.map(|(topic, _)| (Some(Step::kafka(topic, source)), Step::part("source", source))).collect()
    }

    fn of_bridge(&self, of: &Value, all: &mut Vec<Way>) {
        let keys = &self.keys[of["name"].as_str().unwrap_or_default()];
        let remote = || Some(Step::new("remote", text(&of["remote"])));
        for one in items(&keys["in"]) {
            let topic = one["topic"].as_str().filter(|topic| !topic.is_empty() && *topic != "${topic}");
            let topic = topic.map_or_else(|| texts(&one["filters"]).join(", "), str::to_owned);
            let to = Some(Step::new("topic", topic));
            all.push(Way { origin: remote(), from: Step::part("in", of), rule: None, to, at: None });
        }
        for filter in items(&keys["out"]).iter().flat_map(|one| texts(&one["filters"])) {
            let to = Some(Step::part("out", of));
            all.push(Way { origin: None, from: Step::new("topic", filter), rule: None, to, at: remote() });
        }
    }
}

/// The places of a sink and of the Kafka topic that it writes to.
fn into_sink(sink: &Value) -> (Option<Step>, Option<Step>) {
    let topic = sink["topic"].as_str().unwrap_or("a template");
    (Some(Step::part("sink", sink)), Some(Step::kafka(topic, sink)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn named(way: &Way) -> String {
        let Way { origin, from, rule, to, at } = way;
        let steps = [origin.as_ref(), Some(from), rule.as_ref(), to.as_ref(), at.as_ref()];
        let steps: Vec<_> = steps.into_iter().flatten().map(|step| format!("{} {}", step.kind, step.name)).collect();
        steps.join(" > ")
    }

    #[test]
    fn each_way_is_there_once() {
        let keys = json!({ "plant": {
            "in": [{ "filters": ["p/#"], "topic": "${topic}" }],
            "out": [{ "filters": ["alarm/#", "state"] }],
        } });
        let republish = [json!({ "topic": "made/${x}" })];
        let from = ["z/#", "$bridges/kafka_consumer:s", "$events/client/connected", "$sources/kafka_consumer:none"];
        let lists = Lists {
            sinks: vec![
                json!({ "name": "a", "filters": ["x/#", "y"], "topic": "A", "kafka": "main", "state": "running", "reason": null,
                    "rate": { "records_in_per_second": 3.0, "delivered_per_second": 2.0 } }),
                json!({ "name": "b", "filters": [], "topic": null, "kafka": "main" }),
            ],
            rules: vec![
                json!({ "name": "r", "from": from, "sinks": ["b", "gone"], "republish": republish,
                    "rate": { "passed_per_second": 1.0, "filtered_per_second": 2.0, "failed_per_second": 4.0 } }),
                json!({ "name": "prints", "from": ["q"], "sinks": [], "republish": [] }),
            ],
            sources: vec![json!({ "name": "s", "kafka": "other", "topics": { "in": "m/1", "only": "" } })],
            bridges: vec![json!({ "name": "plant", "remote": "mqtt://far" })],
            keys: &keys,
        };
        let ways = lists.ways();
        let shown: Vec<_> = ways.iter().map(named).collect();
        assert_eq!(
            shown,
            [
                "topic x/# > sink a > kafka A",
                "topic y > sink a > kafka A",
                "topic z/# > rule r > sink b > kafka a template",
                "topic z/# > rule r > topic made/${x}",
                "kafka in > source s > rule r > sink b > kafka a template",
                "kafka in > source s > rule r > topic made/${x}",
                "kafka only > source s > rule r > sink b > kafka a template",
                "kafka only > source s > rule r > topic made/${x}",
                "event $events/client/connected > rule r > sink b > kafka a template",
                "event $events/client/connected > rule r > topic made/${x}",
                "topic $sources/kafka_consumer:none > rule r > sink b > kafka a template",
                "topic $sources/kafka_consumer:none > rule r > topic made/${x}",
                "topic q > rule prints",
                "kafka in > source s > topic m/1",
                "remote mqtt://far > in plant > topic p/#",
                "topic alarm/# > out plant > remote mqtt://far",
                "topic state > out plant > remote mqtt://far",
            ]
        );
        let (sink, rule) = (ways[0].to.as_ref().expect("a sink"), ways[2].rule.as_ref().expect("a rule"));
        assert_eq!((sink.in_per_second, sink.out_per_second), (Some(3.0), Some(2.0)));
        assert_eq!((rule.in_per_second, rule.out_per_second), (Some(7.0), Some(1.0)));
        assert_eq!((ways[2].from.in_per_second, sink.state.as_deref()), (None, Some("running")));
        assert_eq!(ways.iter().filter(|way| way.has("alarm")).count(), 1);
        assert_eq!(ways.iter().filter(|way| way.has("other")).count(), 5, "a cluster is a name, too");
    }
}
