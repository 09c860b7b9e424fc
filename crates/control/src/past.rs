//! Trials of rules on past records: a run in the background, one at a time, that its caller polls until it is over.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{Who, token_needed};
use super::problem::{Named, Problem, Sent};
use super::trial::told;
use super::{Shown, View};

/// Records that a run of the API reads, at most.
const RECORDS_MAX: u32 = 10_000;
/// Time after which a run that is not polled is cancelled.
const LOOKED_AT_WITHIN: Duration = Duration::from_secs(60);

pub(super) fn routes() -> OpenApiRouter<Shown> {
    OpenApiRouter::new()
        .routes(routes!(try_past))
        .routes(routes!(past_run, cancel_past))
        .layer(Extension(Arc::new(Runs::default())))
}

/// A rule, and the past records to try it on.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PastAsk {
    /// The statement.
    pub sql: Option<String>,
    /// Name of a rule, instead of `sql`.
    pub rule: Option<String>,
    /// Another statement to compare with.
    pub against_sql: Option<String>,
    /// Name of a rule, instead of `against_sql`.
    pub against: Option<String>,
    /// Kafka topic.
    pub topic: String,
    /// Name of the topic's Kafka cluster. Optional if there is only one.
    pub kafka: Option<String>,
    /// `earliest`, a time (RFC 3339), or an age as in `-1h`: the oldest records since then are read. Left out: the newest records.
    pub since: Option<String>,
    /// Records to read, at most.
    #[schema(minimum = 1, maximum = 10000, default = 1000)]
    pub limit: Option<u32>,
    /// Origin of the MQTT topic: `key`, `header:NAME`, `json:PATH` in the value, or a template as `mqtt_topic` of a source.
    #[schema(default = "key")]
    pub topic_from: Option<String>,
    /// Client ID of all messages.
    #[schema(default = "test")]
    pub clientid: Option<String>,
    /// User name of all messages.
    pub username: Option<String>,
    /// QoS of all messages.
    #[schema(minimum = 0, maximum = 2, default = 0)]
    pub qos: Option<u8>,
    /// RETAIN flag of all messages.
    #[serde(default)]
    pub retain: bool,
}

/// Result of a rule on past records.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct PastResult {
    /// Partitions of the topic.
    pub partitions: usize,
    /// Records that were read.
    pub records: u64,
    /// Records that cannot be a message, by reason as for sources.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub no_message: BTreeMap<&'static str, u64>,
    /// Result of the rule.
    #[serde(flatten)]
    pub here: PastCounts,
    /// Result of the other rule, and the comparison; null: there is no other rule.
    pub against: Option<PastAgainst>,
    /// The first messages for which the rules differ; without another rule the first that pass or fail.
    pub examples: Vec<PastExample>,
}

/// Result of a rule. Each message is passed, filtered, failed or not matching.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct PastCounts {
    /// Messages for which the rule makes an output.
    pub passed: u64,
    /// Messages without an output because of WHERE, INCASE or FOREACH.
    pub filtered: u64,
    /// Messages for which the rule fails.
    pub failed: u64,
    /// Messages with a topic that FROM does not match.
    pub not_matching: u64,
    /// Outputs.
    pub outputs: u64,
    /// Failures by reason.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub failures: BTreeMap<&'static str, u64>,
    /// Why the rule fails for the first failed message; null: none failed.
    pub first_failure: Option<String>,
    /// Comparisons of values of different types.
    pub mixed_comparisons: u64,
}

/// The other rule, and the comparison.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct PastAgainst {
    /// Result of the other rule.
    #[serde(flatten)]
    pub counts: PastCounts,
    /// Messages with equal results: the same outputs, no output, or a failure with the same reason.
    pub equal: u64,
    /// Messages with different outputs of both rules.
    pub different: u64,
    /// Messages with outputs of the rule only.
    pub only_here: u64,
    /// Messages with outputs of the other rule only.
    pub only_there: u64,
}

/// A message with the results of the rules.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PastExample {
    /// The record's partition.
    pub partition: i32,
    /// The record's offset.
    pub offset: i64,
    /// MQTT topic; if no rule gets the record as a message, the source as the rule names it.
    pub mqtt_topic: String,
    /// Result of the rule.
    pub here: PastFate,
    /// Result of the other rule; null: there is no other rule.
    pub there: Option<PastFate>,
}

/// Result of a rule for a message.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PastFate {
    /// `passed`, `filtered`, `failed` or `not_matching`.
    #[schema(example = "passed")]
    pub result: &'static str,
    /// The first outputs, as the JSON that would be written, long ones cut.
    pub outputs: Vec<String>,
    /// Why the rule fails; null: it does not fail.
    pub failure: Option<String>,
}

/// State of a run.
#[derive(Debug, Serialize, ToSchema)]
struct PastState {
    /// ID of the run.
    id: String,
    /// `running`, `done`, `failed` or `cancelled`.
    #[schema(example = "done")]
    state: &'static str,
    /// Records read so far.
    records: u64,
    /// Why the run failed or was cancelled; null: neither.
    reason: Option<String>,
    /// Result of a run that is done; otherwise null.
    result: Option<PastResult>,
}

/// Outcome of a run: its result, `None` if it was cancelled, or why it failed.
type Outcome = Result<Option<PastResult>, String>;

/// A run, shared by the thread that executes it and the callers that poll it.
#[derive(Debug)]
pub struct PastRun {
    id: String,
    is_cancelled: AtomicBool,
    records: AtomicU64,
    looked_at: Mutex<Instant>,
    /// The outcome; `None` until the run ends.
    outcome: Mutex<Option<Outcome>>,
}

impl PastRun {
    fn new(now: Instant) -> Self {
        Self {
            id: format!("{:016x}", fastrand::u64(..)),
            is_cancelled: AtomicBool::new(false),
            records: AtomicU64::new(0),
            looked_at: Mutex::new(now),
            outcome: Mutex::default(),
        }
    }

    /// Whether the run should continue. `records`: number of records read so far.
    #[must_use]
    pub fn goes_on(&self, records: u64) -> bool {
        self.records.store(records, Ordering::Relaxed);
        self.is_wanted(Instant::now())
    }

    /// Ends the run. `Ok(None)`: it was cancelled.
    pub fn end(&self, outcome: Result<Option<PastResult>, String>) {
        *held(&self.outcome) = Some(outcome);
    }

    fn is_wanted(&self, now: Instant) -> bool {
        !self.is_cancelled.load(Ordering::Relaxed)
            && now.saturating_duration_since(*held(&self.looked_at)) < LOOKED_AT_WITHIN
    }

    fn is_over(&self) -> bool {
        held(&self.outcome).is_some()
    }

    fn state(&self, now: Instant) -> PastState {
        let is_cancelled = self.is_cancelled.load(Ordering::Relaxed);
        let outcome = held(&self.outcome);
        let (state, reason, result) = match &*outcome {
            Some(Ok(Some(result))) => ("done", None, Some(result.clone())),
            Some(Err(why)) if !is_cancelled => ("failed", Some(why.clone()), None),
            None if self.is_wanted(now) => ("running", None, None),
            _ if is_cancelled => ("cancelled", Some("by request".to_owned()), None),
            _ => ("cancelled", Some(unseen()), None),
        };
        PastState { id: self.id.clone(), state, records: self.records.load(Ordering::Relaxed), reason, result }
    }
}

/// Why a run ended that was not polled.
fn unseen() -> String {
    format!("nobody has asked for it for {} s", LOOKED_AT_WITHIN.as_secs())
}

fn held<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The newest run.
#[derive(Debug, Default)]
struct Runs(Mutex<Option<Arc<PastRun>>>);

impl Runs {
    /// Begins a run, unless one is under way.
    fn begin(&self) -> Result<Arc<PastRun>, Problem> {
        let mut newest = held(&self.0);
        if newest.as_ref().is_some_and(|run| !run.is_over()) {
            let detail = "another run is under way, or not over yet after it was cancelled; there is one at a time";
            return Err(Problem::new(StatusCode::CONFLICT, detail));
        }
        let run = Arc::new(PastRun::new(Instant::now()));
        *newest = Some(Arc::clone(&run));
        Ok(run)
    }

    /// Removes a run that did not begin.
    fn forget(&self, run: &Arc<PastRun>) {
        let mut newest = held(&self.0);
        newest.take_if(|newest| Arc::ptr_eq(newest, run));
    }

    fn named(&self, id: &str) -> Result<Arc<PastRun>, Problem> {
        let found = held(&self.0).as_ref().filter(|run| run.id == id).cloned();
        found.ok_or_else(|| Problem::not_found(format!("no run {id:?}: only the newest is kept")))
    }
}

/// Tries a rule on past records of a Kafka topic, separately from live messages: nothing is published, written or committed. The answer has the ID of the
/// run, which has to be polled at least once a minute until it is over.
#[utoipa::path(post, path = "/api/v1/sql/past", tag = "rules", request_body = PastAsk, responses(
    (status = 202, body = PastState, description = "The run has begun"),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "Another run is under way, or the service is still starting"),
    (status = 422, body = Problem, content_type = "application/problem+json", description = "A statement, a name, the time or the limit cannot be used: `detail` says why"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "The service is stopping")))]
async fn try_past(
    State(view): State<Arc<View>>,
    Extension(runs): Extension<Arc<Runs>>,
    Sent(ask): Sent<PastAsk>,
) -> Result<(StatusCode, Json<PastState>), Problem> {
    if ask.limit.is_some_and(|limit| !(1..=RECORDS_MAX).contains(&limit)) {
        let detail = format!("limit: at least 1 and at most {RECORDS_MAX} records");
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    let run = runs.begin()?;
    match told(|answer| view.trials.past(ask, Arc::clone(&run), answer)).await {
        Ok(Json(())) => Ok((StatusCode::ACCEPTED, Json(run.state(Instant::now())))),
        Err(problem) => {
            runs.forget(&run);
            Err(problem)
        }
    }
}

/// State of a run over past records, and its result.
#[utoipa::path(get, path = "/api/v1/sql/past/{id}", tag = "rules", security(("token" = [])),
    params(("id" = String, Path, description = "The run's id")), responses(
    (status = 200, body = PastState),
    (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn past_run(
    State(view): State<Arc<View>>,
    Extension(Who(token)): Extension<Who>,
    Extension(runs): Extension<Arc<Runs>>,
    Named(id): Named,
) -> Result<Json<PastState>, Problem> {
    // The result shows contents of messages.
    if token.is_none() {
        return Err(token_needed(&view));
    }
    let (run, now) = (runs.named(&id)?, Instant::now());
    if run.is_wanted(now) {
        *held(&run.looked_at) = now;
    }
    Ok(Json(run.state(now)))
}

/// Cancels a run over past records. The run ends at the next record, or at Kafka's next answer.
#[utoipa::path(delete, path = "/api/v1/sql/past/{id}", tag = "rules",
    params(("id" = String, Path, description = "The run's id")), responses(
    (status = 204, description = "It is cancelled, or was over"),
    (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn cancel_past(Extension(runs): Extension<Arc<Runs>>, Named(id): Named) -> Result<StatusCode, Problem> {
    runs.named(&id)?.is_cancelled.store(true, Ordering::Relaxed);
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_nobody_looks_at_ends() {
        let begin = Instant::now();
        let run = PastRun::new(begin);
        assert_eq!(run.state(begin + LOOKED_AT_WITHIN - Duration::from_millis(1)).state, "running");
        let late = begin + LOOKED_AT_WITHIN;
        assert!(!run.is_wanted(late) && !run.is_over());
        let state = run.state(late);
        assert!(state.state == "cancelled" && state.reason.is_some_and(|why| why.contains("60 s")));
        *held(&run.looked_at) = late;
        assert!(run.is_wanted(late));
        // A run that is over has a result each time it is polled.
        run.end(Ok(Some(PastResult { records: 7, ..PastResult::default() })));
        let state = run.state(late + 2 * LOOKED_AT_WITHIN);
        assert_eq!((state.state, state.result.map(|result| result.records)), ("done", Some(7)));
        run.end(Ok(None));
        assert_eq!(run.state(begin).state, "cancelled");
        run.end(Err("no Kafka".to_owned()));
        assert_eq!(run.state(begin).state, "failed");
    }

    #[test]
    fn one_run_at_a_time_and_the_newest_is_kept() {
        let runs = Runs::default();
        let first = runs.begin().expect("a run");
        assert!(runs.begin().is_err());
        // A cancelled run may still wait for Kafka.
        first.is_cancelled.store(true, Ordering::Relaxed);
        assert!(!first.goes_on(1) && runs.begin().is_err());
        first.end(Ok(None));
        assert_eq!(runs.named(&first.id).expect("the first").state(Instant::now()).state, "cancelled");
        let second = runs.begin().expect("another");
        assert!(runs.named(&first.id).is_err() && runs.named(&second.id).is_ok());
        runs.forget(&second);
        assert!(runs.named(&second.id).is_err() && runs.begin().is_ok());
    }
}
