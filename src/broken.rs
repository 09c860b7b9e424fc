//! Promises that a build with the feature `broken` breaks on purpose, one at a time, as FOREBAY_BROKEN names it:
//! `scripts/faults broken` shows that each would be noticed from outside. A build without the feature, as any that is
//! shipped, asks nothing, and refuses the variable (`config`).
//! (Rules of the producer alone are taken out in the simulator: `kafka::producer::broken`.)

#[cfg(all(feature = "broken", not(debug_assertions)))]
compile_error!("the feature `broken` is for tests of the tests: it is built in the dev profile only");

/// What can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// `answer-before-sync`: a message is answered `stored` when it was put in, not when it is on the disk.
    /// Asked where the answers that a group makes due wait for it, and where answers wait for a session's records.
    AnswerBeforeSync,
    /// `cut-not-synced`: a batch is sent when its cut was put in, not when it is on the disk.
    /// Asked where a batch waits for the group of its cut.
    CutNotSynced,
    /// `forget-producer-id`: batches of an earlier start are sent under this start's producer id.
    /// Asked where uncertain cuts are loaded: their rows become rows without a cut.
    ForgetProducerId,
    /// `session-present`: CONNACK says that there is no session, and the session is begun anew.
    /// Asked where a CONNECT looks for its session.
    SessionPresent,
}

#[cfg(not(feature = "broken"))]
mod which {
    use super::Promise;

    #[inline]
    pub(crate) const fn breaks(_: Promise) -> bool {
        false
    }

    /// What this process breaks by name, for its log.
    pub(crate) fn read() -> Result<Option<String>, String> {
        Ok(None)
    }
}

#[cfg(feature = "broken")]
mod which {
    use std::sync::OnceLock;

    use super::Promise;

    static BROKEN: OnceLock<Promise> = OnceLock::new();
    const ALL: [(&str, Promise); 4] = [
        ("answer-before-sync", Promise::AnswerBeforeSync),
        ("cut-not-synced", Promise::CutNotSynced),
        ("forget-producer-id", Promise::ForgetProducerId),
        ("session-present", Promise::SessionPresent),
    ];

    pub(crate) fn breaks(promise: Promise) -> bool {
        BROKEN.get() == Some(&promise)
    }

    /// What this process breaks by name, for its log. From now on it is broken.
    pub(crate) fn read() -> Result<Option<String>, String> {
        let Ok(name) = std::env::var("FOREBAY_BROKEN") else { return Ok(None) };
        let found = ALL.iter().find(|(known, _)| *known == name);
        let (_, promise) = found.ok_or_else(|| format!("FOREBAY_BROKEN: there is no promise {name:?} to break"))?;
        let _ = BROKEN.set(*promise);
        Ok(Some(name))
    }
}

pub(crate) use which::{breaks, read};
