//! Promises that a build breaks on purpose, each by a cargo feature of its name: `scripts/faults broken` shows that each
//! would be noticed from outside. A build without them, as any that is shipped, asks nothing: these are constants.
//! (Rules of the producer alone are taken out in the simulator: `kafka::producer::broken`.)

/// `broken-answer-before-sync`: a message is answered `stored` when it was put in, not when it is on the disk.
/// Asked where the answers that a group makes due wait for it.
pub(crate) const ANSWER_BEFORE_SYNC: bool = cfg!(feature = "broken-answer-before-sync");

/// `broken-cut-not-synced`: a batch is sent when its cut was put in, not when it is on the disk.
/// Asked where a batch waits for the group of its cut.
pub(crate) const CUT_NOT_SYNCED: bool = cfg!(feature = "broken-cut-not-synced");

/// `broken-forget-producer-id`: batches of an earlier start are sent under this start's producer id.
/// Asked where uncertain cuts are loaded: their rows become rows without a cut.
pub(crate) const FORGET_PRODUCER_ID: bool = cfg!(feature = "broken-forget-producer-id");

/// `broken-session-present`: CONNACK says that there is no session, and the session is begun anew.
/// Asked where a CONNECT looks for its session.
pub(crate) const SESSION_PRESENT: bool = cfg!(feature = "broken-session-present");

#[cfg(all(
    not(debug_assertions),
    any(
        feature = "broken-answer-before-sync",
        feature = "broken-cut-not-synced",
        feature = "broken-forget-producer-id",
        feature = "broken-session-present"
    )
))]
compile_error!("the features named broken- are for tests of the tests: they are built in the dev profile only");

/// What this build breaks, for its log.
#[must_use]
pub fn promises() -> Vec<&'static str> {
    let all = [
        (ANSWER_BEFORE_SYNC, "answer-before-sync"),
        (CUT_NOT_SYNCED, "cut-not-synced"),
        (FORGET_PRODUCER_ID, "forget-producer-id"),
        (SESSION_PRESENT, "session-present"),
    ];
    all.into_iter().filter(|(broken, _)| *broken).map(|(_, name)| name).collect()
}
