//! Rules: their counters, the last failure of each, the functions of SQL, and trials of statements.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::{Named, Problem, Sent};
use super::{Shown, View};
use forebay_metrics::event::{Field, Kind};
use forebay_metrics::journal::Filter;
use forebay_metrics::samples::{Span, WINDOW};
use forebay_metrics::spec::RuleMetric as M;
use forebay_metrics::time::rfc3339;
use forebay_rule::functions;

pub(super) fn routes() -> OpenApiRouter<Shown> {
    OpenApiRouter::new()
        .routes(routes!(rules))
        .routes(routes!(rule))
        .routes(routes!(rule_functions))
        .routes(routes!(try_rule))
}

/// A rule, as configured.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The rule's name.
    pub name: String,
    /// Description from the configuration.
    pub description: Option<String>,
    /// The statement.
    pub sql: String,
    /// Topic filters of FROM.
    pub from: Vec<String>,
    /// Names of the rule's sinks.
    pub sinks: Vec<String>,
    /// The rule's republished messages, with keys as in the configuration.
    pub republish: Vec<Value>,
    /// Handling of a message for which the rule fails.
    pub on_error: &'static str,
    /// Whether the rule is evaluated.
    pub is_enabled: bool,
    /// Whether it is no longer in the configuration.
    pub is_removed: bool,
}

impl Rule {
    /// The state in a word.
    pub(super) const fn state(&self) -> &'static str {
        if self.is_enabled { "running" } else { "disabled" }
    }
}

/// A rule and its counters since the process began, all shards together.
#[derive(Debug, Serialize, ToSchema)]
struct RuleStatus {
    /// Name in the configuration.
    name: String,
    /// Description from the configuration.
    description: Option<String>,
    /// The statement.
    sql: String,
    /// Topic filters of FROM.
    from: Vec<String>,
    /// Names of the sinks that the rule feeds.
    sinks: Vec<String>,
    /// The messages published for each output, with keys as in the configuration file.
    #[schema(value_type = Vec<Object>)]
    republish: Vec<Value>,
    /// Handling of a message for which the rule fails: `skip`, `dead-letter`, `reject`.
    #[schema(example = "skip")]
    on_error: &'static str,
    /// `running`, or `disabled`: the rule's key `enabled` is false.
    #[schema(example = "running")]
    state: &'static str,
    #[serde(flatten)]
    numbers: RuleNumbers,
    /// The newest failure that is still among the events; null: none.
    last_failure: Option<RuleFailure>,
    /// Rates per second.
    rate: RuleRate,
}

/// Counters of a rule. Each message for which it was evaluated is passed, filtered or failed.
#[derive(Debug, Serialize, ToSchema)]
struct RuleNumbers {
    /// Messages for which the rule has made an output.
    passed: u64,
    /// Messages without an output because of WHERE, INCASE or FOREACH.
    filtered: u64,
    /// Messages for which the rule has failed.
    failed: u64,
    /// Outputs: each is a record for each sink, and a message for each `republish`.
    outputs: u64,
    /// Messages that the rule has published, by outcome.
    publications: RulePublications,
    /// Failures by reason.
    failures: RuleFailures,
    /// Comparisons of values of different types.
    mixed_comparisons: u64,
}

/// Messages that a rule has published, by outcome.
#[derive(Debug, Serialize, ToSchema)]
struct RulePublications {
    /// Messages that a sink, a rule or a subscriber has taken, or that are retained.
    taken: u64,
    /// Messages that matched nothing.
    unmatched: u64,
    /// Messages that a sink or another rule refuses for all destinations.
    refused: u64,
    /// Messages dropped because they had already passed through eight rules, one after the other.
    r#loop: u64,
}

/// Failures by reason.
#[derive(Debug, Serialize, ToSchema)]
struct RuleFailures {
    /// A value of a type that the operation does not take.
    r#type: u64,
    /// A text that is not the required JSON, number or date.
    decode: u64,
    /// A value outside the operation's domain.
    domain: u64,
    /// A message that costs more than the limit.
    limit: u64,
}

/// A failure of a rule.
#[derive(Debug, Serialize, ToSchema)]
struct RuleFailure {
    /// Time of the failure.
    time: String,
    /// The failure, and the part of the statement.
    reason: String,
    /// MQTT topic of the message.
    mqtt_topic: Option<String>,
    /// Client ID of the message's publisher.
    client: Option<String>,
}

/// Rates per second over the last seconds.
#[derive(Debug, Serialize, ToSchema)]
struct RuleRate {
    /// Seconds that the rates cover, at most.
    window_seconds: u64,
    passed_per_second: f64,
    filtered_per_second: f64,
    failed_per_second: f64,
}

/// All rules.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Rules {
    rules: Vec<RuleStatus>,
}

impl View {
    /// Indexes of the rules of the configuration.
    pub(super) fn shown_rules(&self) -> impl Iterator<Item = usize> {
        let all = self.described.rules.iter().enumerate();
        all.filter(|(_, rule)| !rule.is_removed).map(|(index, _)| index)
    }

    fn rule_named(&self, name: &str) -> Result<usize, Problem> {
        let found = self.shown_rules().find(|index| self.described.rules[*index].name == name);
        found.ok_or_else(|| Problem::not_found(format!("no rule {name:?}; /api/v1/rules lists them")))
    }

    fn rule_status(&self, span: &Span, index: usize) -> RuleStatus {
        let rule = &self.described.rules[index];
        let of = |metric| span.now.rule(index, metric);
        let rate = |metric| span.per_s(|sample| sample.rule(index, metric));
        RuleStatus {
            name: rule.name.clone(),
            description: rule.description.clone(),
            sql: rule.sql.clone(),
            from: rule.from.clone(),
            sinks: rule.sinks.clone(),
            republish: rule.republish.clone(),
            on_error: rule.on_error,
            state: rule.state(),
            numbers: RuleNumbers {
                passed: of(M::Passed),
                filtered: of(M::Filtered),
                failed: of(M::Failed),
                outputs: of(M::Outputs),
                publications: RulePublications {
                    taken: of(M::Republished),
                    unmatched: of(M::RepublishUnmatched),
                    refused: of(M::RepublishRefused),
                    r#loop: of(M::RepublishLooped),
                },
                failures: RuleFailures {
                    r#type: of(M::FailedType),
                    decode: of(M::FailedDecode),
                    domain: of(M::FailedDomain),
                    limit: of(M::FailedLimit),
                },
                mixed_comparisons: of(M::MixedComparisons),
            },
            last_failure: self.last_failure(&rule.name),
            rate: RuleRate {
                window_seconds: WINDOW.as_secs(),
                passed_per_second: rate(M::Passed),
                filtered_per_second: rate(M::Filtered),
                failed_per_second: rate(M::Failed),
            },
        }
    }

    fn last_failure(&self, rule: &str) -> Option<RuleFailure> {
        let filter = Filter { kind: Some(Kind::RuleFailed), newest_first: true, ..Filter::default() };
        let page = self.journal.page(&filter);
        let (_, event) = page.events.into_iter().find(|(_, event)| event.text(Field::SqlRule) == Some(rule))?;
        let of = |field| event.text(field).map(str::to_owned);
        Some(RuleFailure {
            time: rfc3339(i64::try_from(event.at_ms).unwrap_or(i64::MAX)),
            reason: of(Field::Reason).unwrap_or_default(),
            mqtt_topic: of(Field::MqttTopic),
            client: of(Field::Client),
        })
    }
}

/// All rules.
#[utoipa::path(get, path = "/api/v1/rules", tag = "rules", responses((status = 200, body = Rules)))]
pub(super) async fn rules(State(view): State<Arc<View>>) -> Json<Rules> {
    let span = view.samples.span(&view.boards);
    Json(Rules { rules: view.shown_rules().map(|index| view.rule_status(&span, index)).collect() })
}

/// One rule.
#[utoipa::path(get, path = "/api/v1/rules/{name}", tag = "rules",
    params(("name" = String, Path, description = "Its name in the configuration")), responses(
    (status = 200, body = RuleStatus),
    (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn rule(State(view): State<Arc<View>>, Named(name): Named) -> Result<Json<RuleStatus>, Problem> {
    let index = view.rule_named(&name)?;
    Ok(Json(view.rule_status(&view.samples.span(&view.boards), index)))
}

/// All functions of SQL.
#[derive(Debug, Serialize, ToSchema)]
struct Functions {
    functions: Vec<Function>,
}

/// A function of SQL.
#[derive(Debug, Serialize, ToSchema)]
struct Function {
    /// Name; statements may write it in any case.
    name: &'static str,
    /// The function's group.
    family: &'static str,
    /// Arguments, as in `(text[, chars])`.
    arguments: &'static str,
    /// Result of the function.
    meaning: &'static str,
    /// An example call.
    example: &'static str,
}

/// All functions of SQL.
#[utoipa::path(get, path = "/api/v1/sql/functions", tag = "rules", responses((status = 200, body = Functions)))]
async fn rule_functions() -> Json<Functions> {
    let function = |(family, of): (functions::Family, &'static functions::Function)| Function {
        name: of.name,
        family: family.as_str(),
        arguments: of.arguments,
        meaning: of.sentence,
        example: of.example,
    };
    Json(Functions { functions: functions::all().map(function).collect() })
}

/// Fields of a message by their names, each as JSON as it was written: numbers keep their digits, and objects the order of their members.
pub type RawFields = BTreeMap<String, Box<RawValue>>;

/// A statement, and a message to try it on.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleAsk {
    /// The statement.
    pub sql: String,
    /// Fields of the message, as SQL names them: `topic`, `payload`, `clientid`, … A payload that is not a text is taken as JSON. The default topic is
    /// derived from FROM.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub context: RawFields,
    /// Name of a rule of the configuration: the statement replaces that rule's own, and the rule's sinks and `republish` get the outputs.
    pub rule: Option<String>,
    /// Names of sinks that get the outputs, instead of those of the rule.
    #[serde(default)]
    pub sinks: Vec<String>,
}

/// Result of a statement for a message.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct RuleTrial {
    /// Whether FROM matches the message's topic.
    pub matches: bool,
    /// The outputs, as they would be written; none if the message is filtered or the statement fails.
    #[schema(value_type = Vec<Object>)]
    pub outputs: Vec<Box<RawValue>>,
    /// Why the statement fails for the message; null: it does not fail.
    pub failure: Option<String>,
    /// Parts of the statement that are probably not intended.
    pub warnings: Vec<String>,
    /// The records that sinks would write of the outputs: `sink`, and `refused`, `topic`, `key`, `value`, `timestamp` and `headers` as in the trial of a
    /// sink.
    #[schema(value_type = Vec<Object>)]
    pub records: Vec<Value>,
    /// The messages that the rule would publish: `topic`, `payload`, `qos`, `retain`, `user_properties`.
    #[schema(value_type = Vec<Object>)]
    pub messages: Vec<Value>,
}

/// Tries a statement on a given message. Nothing is published and nothing is written.
#[utoipa::path(post, path = "/api/v1/sql/test", tag = "rules", request_body = RuleAsk, responses(
    (status = 200, body = RuleTrial),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "There is no such rule"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "The service is still starting"),
    (status = 422, body = Problem, content_type = "application/problem+json", description = "The statement, a sink or the message cannot be used: `detail` says why, and where"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "The service is stopping")))]
async fn try_rule(State(view): State<Arc<View>>, Sent(ask): Sent<RuleAsk>) -> Result<Json<RuleTrial>, Problem> {
    if let Some(name) = &ask.rule {
        view.rule_named(name)?;
    }
    super::trial::told(|answer| view.trials.rule(ask, answer)).await
}
