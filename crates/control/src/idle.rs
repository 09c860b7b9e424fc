//! An empty view, for tests.

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Map, Value};
use tokio::sync::Semaphore;

use super::{AuthAnswer, AuthAsk};
use super::{
    BridgeTrial, ClusterTrial, MessageTrial, PastAsk, PastRun, RuleAsk, RuleTrial, SampleMessage, SourceTrial,
    TrialAnswer, Trials,
};
use super::{Described, FileAnswer, KeysAnswer, LogControl, Part, ReloadAnswer, Reloads, STREAMS_MAX, View, Wanted};
use super::{LettersAsk, LettersFound, LettersSent, LettersToSend};
use forebay_metrics::collector::Boards;
use forebay_metrics::inspect::{Answer, Ask, SeekTo, Shards};
use forebay_service::telemetry::{TraceContext, Tracer};

struct Nothing;

impl Shards for Nothing {
    fn count(&self) -> usize {
        1
    }

    fn shared_subscriptions(&self) -> usize {
        0
    }

    fn owner(&self, _client_id: &str) -> usize {
        0
    }

    fn place(&self, text: &str) -> Result<SeekTo, String> {
        Err(format!("no {text}"))
    }

    fn ask(&self, _shard: usize, _ask: Ask, _answer: Answer) -> bool {
        false
    }
}

impl LogControl for Nothing {
    fn level(&self) -> String {
        "info".to_owned()
    }

    fn set_level(&self, level: &str) -> Result<(), String> {
        Err(format!("no {level}"))
    }
}

impl Reloads for Nothing {
    fn reload(&self, _wanted: Wanted, _dry_run: bool, _under: Option<TraceContext>, _answer: ReloadAnswer) -> bool {
        false
    }

    fn file(&self, _answer: FileAnswer) -> bool {
        false
    }

    fn written(&self, _of: Part, _name: String, _answer: KeysAnswer) -> bool {
        false
    }

    fn auth_files(&self, _name: String, _ask: AuthAsk, _answer: AuthAnswer) -> bool {
        false
    }

    fn schema(&self) -> Value {
        Value::Null
    }
}

impl Trials for Nothing {
    fn cluster(&self, _: String, _: Map<String, Value>, _: Option<String>, _: TrialAnswer<ClusterTrial>) -> bool {
        false
    }

    fn message(&self, _: String, _: Map<String, Value>, _: SampleMessage, _: TrialAnswer<MessageTrial>) -> bool {
        false
    }

    fn rule(&self, _: RuleAsk, _: TrialAnswer<RuleTrial>) -> bool {
        false
    }

    fn past(&self, _: PastAsk, _: Arc<PastRun>, _: TrialAnswer<()>) -> bool {
        false
    }

    fn source(&self, _: String, _: Map<String, Value>, _: TrialAnswer<SourceTrial>) -> bool {
        false
    }

    fn bridge(&self, _: String, _: Map<String, Value>, _: TrialAnswer<BridgeTrial>) -> bool {
        false
    }

    fn letters(&self, _: LettersAsk, _: TrialAnswer<Result<LettersFound, String>>) -> bool {
        false
    }

    fn send_letters(&self, _: (String, String), _: LettersToSend, _: TrialAnswer<Result<LettersSent, String>>) -> bool {
        false
    }
}

impl View {
    /// A view of these boards. Shards answer nothing; the service is healthy and not ready.
    pub fn idle(boards: Boards, described: Described) -> Self {
        Self {
            boards: Arc::new(boards),
            extra: Vec::new(),
            ready: Arc::default(),
            obstacles: Arc::default(),
            health: Arc::new(|| None),
            journal: Arc::default(),
            lag: Arc::default(),
            source_lag: Arc::default(),
            samples: Arc::default(),
            described: Arc::new(described),
            shards: Arc::new(Nothing),
            log: Arc::new(Nothing),
            reloads: Arc::new(Nothing),
            trials: Arc::new(Nothing),
            tokens: None,
            own_token: None,
            tls: None,
            tracer: Tracer::off(),
            started: SystemTime::now(),
            io: "ring",
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            logins: Arc::default(),
            live: Arc::default(),
            traces: Arc::default(),
            bans: Arc::default(),
        }
    }
}
