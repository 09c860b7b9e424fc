//! Trials: whether a cluster or a bridge's remote can be reached, the record that a sink would make of a message, and the messages that a source would make
//! of records. Nothing is changed and nothing is written.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::openapi::{self, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoParams, IntoResponses, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::content::{self, Content};
use super::letter_topics::{LettersAsk, LettersFound, LettersSent, LettersToSend};
use super::past::{PastAsk, PastRun};
use super::problem::{Asked, Named, Problem, Sent, SentIfAny};
use super::reload::{ReloadRefused, asked, refused, stopping};
use super::rules::{RuleAsk, RuleTrial};
use super::{Shown, View};

pub(super) fn routes() -> OpenApiRouter<Shown> {
    OpenApiRouter::new()
        .routes(routes!(try_cluster))
        .routes(routes!(try_message))
        .routes(routes!(try_source))
        .routes(routes!(try_bridge))
}

/// Receives the outcome of a trial.
pub type TrialAnswer<T> = Box<dyn FnOnce(Result<T, ReloadRefused>) + Send>;

/// The way to run trials. `keys`: tried instead of the configured ones, or for a part that does not exist yet. `false`: the service is stopping; `answer`
/// is not called then.
pub trait Trials: Send + Sync {
    /// Connects to a cluster, and looks for a topic.
    fn cluster(
        &self,
        name: String,
        keys: Map<String, Value>,
        topic: Option<String>,
        answer: TrialAnswer<ClusterTrial>,
    ) -> bool;
    /// Makes a record of a message.
    fn message(
        &self,
        sink: String,
        keys: Map<String, Value>,
        message: SampleMessage,
        answer: TrialAnswer<MessageTrial>,
    ) -> bool;
    /// Evaluates a statement for a message, and makes the records that sinks would write of its outputs.
    fn rule(&self, ask: RuleAsk, answer: TrialAnswer<RuleTrial>) -> bool;
    /// Begins a trial of a rule on past records; the run receives the result.
    fn past(&self, ask: PastAsk, run: Arc<PastRun>, begun: TrialAnswer<()>) -> bool;
    /// Checks the requirements of a source, and makes messages of the newest records.
    fn source(&self, name: String, keys: Map<String, Value>, answer: TrialAnswer<SourceTrial>) -> bool;
    /// Connects to the remote of a bridge, and asks it for the filters.
    fn bridge(&self, name: String, keys: Map<String, Value>, answer: TrialAnswer<BridgeTrial>) -> bool;
    /// Reads dead letters of a topic. The inner error: why Kafka cannot be read.
    fn letters(&self, ask: LettersAsk, answer: TrialAnswer<Result<LettersFound, String>>) -> bool;
    /// Sends dead letters of a cluster's topic again. The inner error as for [`Self::letters`].
    fn send_letters(
        &self,
        of: (String, String),
        wanted: LettersToSend,
        answer: TrialAnswer<Result<LettersSent, String>>,
    ) -> bool;
}

/// Result of the trial of a source.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct SourceTrial {
    /// Whether the source would work.
    pub works: bool,
    /// Findings, as `forebay check` reports them.
    pub findings: Vec<Finding>,
    /// The newest records, a few of each partition, with the messages made of them.
    pub records: Vec<RecordTrial>,
}

/// Result of the trial of a bridge.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct BridgeTrial {
    /// Whether the bridge would work.
    pub works: bool,
    /// Findings, as `forebay check` reports them.
    pub findings: Vec<Finding>,
}

/// A finding of a trial.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Finding {
    /// `ok`, `warning` or `problem`.
    pub verdict: &'static str,
    /// The finding, and how to fix a problem.
    pub text: String,
}

/// The message that a source would make of a record.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct RecordTrial {
    /// Kafka topic.
    pub topic: String,
    /// The record's partition.
    pub partition: i32,
    /// The record's offset.
    pub offset: i64,
    /// Why the record cannot be a message; null: it can.
    pub refused: Option<String>,
    /// MQTT topic.
    pub mqtt_topic: Option<String>,
    /// Payload, or its first bytes.
    pub payload: Option<Content>,
    /// Bytes of the whole payload.
    pub payload_bytes: usize,
    /// QoS.
    pub qos: u8,
    /// Whether the message is retained.
    pub retain: bool,
    /// User properties of MQTT 5, in order.
    pub user_properties: Vec<(String, String)>,
}

/// Result of the trial of a cluster.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ClusterTrial {
    /// Whether a bootstrap broker works and has named the cluster's brokers.
    pub works: bool,
    /// Result for each bootstrap broker.
    pub brokers: Vec<BrokerTrial>,
    /// Brokers of the cluster, `ID at HOST:PORT`, as the first working broker names them.
    pub members: Vec<String>,
    /// The requested topic; null: none was requested, or no broker works.
    pub topic: Option<TopicTrial>,
}

/// A Kafka topic of a trial. The topic is not created.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TopicTrial {
    /// Name of the topic.
    pub name: String,
    /// Number of partitions; 0: the topic cannot be used.
    pub partitions: usize,
    /// Why the topic cannot be used; null: it can.
    pub reason: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ClusterTrialQuery {
    /// A Kafka topic to check as well.
    topic: Option<String>,
}

/// Result of a trial connection to one broker.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BrokerTrial {
    /// `host:port`
    pub broker: String,
    /// The stage that failed: `resolve`, `connect`, `api_versions` or `metadata`; null: none.
    pub failed: Option<&'static str>,
    /// Why the stage failed; null: none failed.
    pub reason: Option<String>,
}

/// A message to try.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SampleMessage {
    /// MQTT topic.
    pub topic: String,
    /// Payload as text.
    #[serde(default)]
    pub payload: String,
    /// Payload in base64, instead of `payload`.
    pub payload_base64: Option<String>,
    /// Client identifier.
    #[serde(default)]
    pub client_id: String,
    /// User name.
    pub username: Option<String>,
    /// QoS: 0, 1 or 2.
    #[serde(default)]
    pub qos: u8,
    /// RETAIN flag.
    #[serde(default)]
    pub retain: bool,
    /// Content Type of MQTT 5.
    pub content_type: Option<String>,
    /// User properties of MQTT 5: pairs of name and value.
    #[serde(default)]
    pub user_properties: Vec<(String, String)>,
}

impl SampleMessage {
    /// The payload's bytes.
    ///
    /// # Errors
    /// The payload is not base64, or is given twice.
    pub fn payload(&self) -> Result<Vec<u8>, String> {
        content::payload(&self.payload, self.payload_base64.as_deref())
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MessageToTry {
    message: SampleMessage,
    /// Keys of `[[sink]]` to try instead of the sink's own; a sink with that name need not exist then.
    #[serde(default)]
    #[schema(value_type = Object)]
    sink: Map<String, Value>,
}

/// The record that a sink would write.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct MessageTrial {
    /// Whether the sink takes the topic: a filter matches, no filter of `exclude` does, and with `fallback` no other sink takes it.
    pub matches: bool,
    /// The rule that makes the record's output of the message; null: the sink takes the message itself.
    pub rule: Option<String>,
    /// Why the sink would refuse the record; null: it would not.
    pub refused: Option<String>,
    /// Kafka topic.
    pub topic: Option<String>,
    /// Record key; null: none.
    pub key: Option<Content>,
    /// Record value; null, if nothing is refused: the value is null (`empty_payload`).
    pub value: Option<Content>,
    /// Record timestamp, milliseconds since 1970-01-01 UTC.
    pub timestamp: Option<i64>,
    /// Record headers, in order.
    pub headers: Vec<Header>,
}

/// A record header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Header {
    /// The header's name.
    pub name: String,
    /// The header's value.
    pub value: Content,
}

/// Responses of refused trials.
struct Untried;

impl IntoResponses for Untried {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let of = |(status, why): (&str, &str)| {
            let problem = openapi::Content::new(Some(Ref::from_schema_name("Problem")));
            let response = ResponseBuilder::new().description(why).content("application/problem+json", problem);
            (status.to_owned(), response.build().into())
        };
        let all = [
            ("400", ""),
            ("404", ""),
            ("409", "The service is still starting"),
            ("422", "The keys have mistakes: `detail` has a line for each"),
            ("503", "The service is stopping"),
        ];
        all.into_iter().map(of).collect()
    }
}

pub(super) async fn told<T: Send + 'static>(ask: impl FnOnce(TrialAnswer<T>) -> bool) -> Result<Json<T>, Problem> {
    let outcome = asked(ask)?.await.map_err(|_| stopping())?;
    outcome.map(Json).map_err(refused)
}

/// Tries whether a Kafka cluster can be reached: each bootstrap broker is resolved, connected to and asked for its versions and the cluster's brokers. The
/// body has keys of `[kafka.NAME]` to try instead of the configured ones, `{}` for none; a cluster with that name need not exist then.
#[utoipa::path(post, path = "/api/v1/clusters/{name}/test", tag = "kafka",
    params(("name" = String, Path, description = "Its name"), ClusterTrialQuery),
    request_body(content = Object, description = "Keys of `[kafka.NAME]`"), responses(
    (status = 200, body = ClusterTrial, description = "It was tried; `works` says how it went"), Untried))]
async fn try_cluster(
    State(view): State<Arc<View>>,
    Named(name): Named,
    Asked(ClusterTrialQuery { topic }): Asked<ClusterTrialQuery>,
    SentIfAny(keys): SentIfAny<Map<String, Value>>,
) -> Result<Json<ClusterTrial>, Problem> {
    told(|answer| view.trials.cluster(name, keys, topic, answer)).await
}

/// Shows the record that a sink would write for a message: topic, key, value and headers. Nothing is written.
#[utoipa::path(post, path = "/api/v1/sinks/{name}/test", tag = "sinks",
    params(("name" = String, Path, description = "Its name")),
    request_body = MessageToTry, responses(
    (status = 200, body = MessageTrial), Untried))]
async fn try_message(
    State(view): State<Arc<View>>,
    Named(name): Named,
    Sent(MessageToTry { message, sink }): Sent<MessageToTry>,
) -> Result<Json<MessageTrial>, Problem> {
    told(|answer| view.trials.message(name, sink, message, answer)).await
}

/// Tries a source: whether its cluster can be reached, its topics exist, and it may read them and use its group; and shows the messages that it would make
/// of the newest records of each partition. Nothing is published, and the group stays as it is. The body has keys of `[[source]]` to try instead of the
/// configured ones, `{}` for none; a source with that name need not exist then.
#[utoipa::path(post, path = "/api/v1/sources/{name}/test", tag = "sources",
    params(("name" = String, Path, description = "Its name")),
    request_body(content = Object, description = "Keys of `[[source]]`"), responses(
    (status = 200, body = SourceTrial, description = "It was tried; `works` says how it went"), Untried))]
async fn try_source(
    State(view): State<Arc<View>>,
    Named(name): Named,
    SentIfAny(keys): SentIfAny<Map<String, Value>>,
) -> Result<Json<SourceTrial>, Problem> {
    told(|answer| view.trials.source(name, keys, answer)).await
}

/// Tries a bridge: connects to its remote, with TLS and login, and requests the filters of its `in`. The client ID ends with `-check` and the session ends
/// with the connection, so that the bridge's own are left alone, and no message is acknowledged. The body has keys of `[bridge.NAME]` to try instead of the
/// configured ones, `{}` for none; a bridge with that name need not exist then.
#[utoipa::path(post, path = "/api/v1/bridges/{name}/test", tag = "bridges",
    params(("name" = String, Path, description = "Its name")),
    request_body(content = Object, description = "Keys of `[bridge.NAME]`"), responses(
    (status = 200, body = BridgeTrial, description = "It was tried; `works` says how it went"), Untried))]
async fn try_bridge(
    State(view): State<Arc<View>>,
    Named(name): Named,
    SentIfAny(keys): SentIfAny<Map<String, Value>>,
) -> Result<Json<BridgeTrial>, Problem> {
    told(|answer| view.trials.bridge(name, keys, answer)).await
}
