//! The service with one wrong rule, for tests of the tests: `scripts/faults broken` must notice each (docs/FAULTS.md).
//! `FOREBAY_TEST_WRONG_RULE` names it; arguments are those of `forebay run`. Built by hand only:
//! `cargo build --features faults --example forebay-broken`.

use std::process::ExitCode;

use forebay::cli::{self, Command};
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

const WRONG: [(&str, &dyn Rules); 4] = [
    ("answer-before-sync", &AnswerBeforeSync),
    ("cut-not-synced", &CutNotSynced),
    ("forget-producer-id", &ForgetProducerId),
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
