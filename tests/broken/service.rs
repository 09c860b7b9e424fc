//! The service with one wrong rule, for tests of the tests: `scripts/faults broken` must notice each (docs/FAULTS.md).
//! `FOREBAY_TEST_WRONG_RULE` names it; arguments are those of `forebay run`. Built by hand only:
//! `cargo build --features faults --example forebay-broken`.

use std::process::ExitCode;

use forebay::cli::{self, Command, RunArgs};
use forebay::rules::{KEPT, Rules};

/// `stored` is answered, and clients are told, when a message or a session's record was put in, not when it is on the
/// disk.
#[derive(Debug)]
struct AnswerBeforeSync;

impl Rules for AnswerBeforeSync {
    fn may_answer_stored(&self, _: u64, _: u64) -> bool {
        true
    }

    fn may_tell(&self, _: u64, _: u64) -> bool {
        true
    }
}

/// A batch is sent when its cut was put in.
#[derive(Debug)]
struct CutNotSynced;

impl Rules for CutNotSynced {
    fn may_send(&self, _: u64, _: u64) -> bool {
        true
    }
}

/// Batches of an earlier start are sent under this start's producer id.
#[derive(Debug)]
struct ForgetProducerId;

impl Rules for ForgetProducerId {
    fn keeps_identity(&self) -> bool {
        false
    }
}

/// CONNACK says after a restart that there is no session.
#[derive(Debug)]
struct SessionPresent;

impl Rules for SessionPresent {
    fn restores_sessions(&self) -> bool {
        false
    }
}

/// Publishers are acknowledged when a message for kept sessions was put in, not when it is on the disk.
#[derive(Debug)]
struct ConfirmBeforeSync;

impl Rules for ConfirmBeforeSync {
    fn may_confirm(&self, _: u64, _: u64) -> bool {
        true
    }
}

/// After a start publishes find the subscriptions of a kept session when its client is back.
#[derive(Debug)]
struct EnterLate;

impl Rules for EnterLate {
    fn enters_restored(&self) -> bool {
        false
    }
}

/// Kept sessions are sent messages of QoS 2 before their numbers are on the disk.
#[derive(Debug)]
struct SendBeforeSync;

impl Rules for SendBeforeSync {
    fn publish_waits_for(&self, _: u64) -> u64 {
        0
    }
}

/// Kept sessions are sent PUBREL before it is on the disk that their clients have the messages.
#[derive(Debug)]
struct ReleaseBeforeSync;

impl Rules for ReleaseBeforeSync {
    fn pubrel_waits_for(&self, _: u64) -> u64 {
        0
    }
}

/// A start forgets one of twenty messages that wait for kept sessions.
#[derive(Debug)]
struct ForgetMessage;

impl Rules for ForgetMessage {
    fn restores_message(&self, number: u64) -> bool {
        !number.is_multiple_of(20)
    }
}

/// A start forgets one of twenty messages that wait for kept sessions, and the next start another one.
#[derive(Debug)]
struct ForgetOnce;

impl Rules for ForgetOnce {
    fn restores_message(&self, number: u64) -> bool {
        !(number + u64::from(std::process::id())).is_multiple_of(20)
    }
}

/// A start forgets the open QoS 2 exchanges of publishers, as far as subscribers are concerned.
#[derive(Debug)]
struct ForgetExchange;

impl Rules for ForgetExchange {
    fn restores_exchanges(&self) -> bool {
        false
    }
}

/// Of every second message that all have acknowledged this is not written down.
#[derive(Debug)]
struct ForgetEnd;

impl Rules for ForgetEnd {
    fn writes_end(&self, number: u64) -> bool {
        !number.is_multiple_of(2)
    }
}

/// A group commits all that was read of a partition, whatever is open.
#[derive(Debug)]
struct CommitPastOpen;

impl Rules for CommitPastOpen {
    fn commits(&self, _: Option<i64>, next: i64) -> i64 {
        next
    }
}

/// A message for which a rule fails is dropped, whatever `on_error` says.
#[derive(Debug)]
struct OnErrorIgnored;

impl Rules for OnErrorIgnored {
    fn may_skip(&self, _: bool) -> bool {
        true
    }
}

/// Answers wait for the records of filters, and not for those of rules.
#[derive(Debug)]
struct OutputsUnanswered;

impl Rules for OutputsUnanswered {
    fn waits_for_outputs(&self) -> bool {
        false
    }
}

/// Messages that have come through this instance before go out by bridges again.
#[derive(Debug)]
struct ComeRound;

impl Rules for ComeRound {
    fn may_come_round(&self) -> bool {
        true
    }
}

const WRONG: [(&str, &dyn Rules); 16] = [
    ("answer-before-sync", &AnswerBeforeSync),
    ("come-round", &ComeRound),
    ("commit-past-open", &CommitPastOpen),
    ("confirm-before-sync", &ConfirmBeforeSync),
    ("cut-not-synced", &CutNotSynced),
    ("enter-late", &EnterLate),
    ("forget-end", &ForgetEnd),
    ("forget-exchange", &ForgetExchange),
    ("forget-message", &ForgetMessage),
    ("forget-once", &ForgetOnce),
    ("forget-producer-id", &ForgetProducerId),
    ("on-error-ignored", &OnErrorIgnored),
    ("outputs-unanswered", &OutputsUnanswered),
    ("release-before-sync", &ReleaseBeforeSync),
    ("send-before-sync", &SendBeforeSync),
    ("session-present", &SessionPresent),
];

fn main() -> ExitCode {
    let rules: &'static dyn Rules = match std::env::var("FOREBAY_TEST_WRONG_RULE") {
        Err(_) => &KEPT,
        Ok(name) => match WRONG.iter().find(|(known, _)| *known == name) {
            Some((_, rules)) => *rules,
            None => return failed(&format!("FOREBAY_TEST_WRONG_RULE: there is no wrong rule {name:?}")),
        },
    };
    let Command::Run(options) = cli::parse() else { return failed("only `run`") };
    let options = RunArgs::from(options);
    match options.load_text() {
        Ok(loaded) => {
            eprintln!("forebay-broken: runs under {rules:?}: for tests only");
            cli::run::run_with(&options, loaded, rules)
        }
        Err(problems) => failed(&problems.to_string()),
    }
}

fn failed(why: &str) -> ExitCode {
    eprintln!("forebay-broken: {why}");
    ExitCode::FAILURE
}
