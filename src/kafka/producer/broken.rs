//! Rules that the simulator takes out one at a time, to show that it would find a producer without them, or a shard. In the program none is ever out,
//! and asking costs nothing.

/// A rule at the place where it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// P2: five batches of a partition undone at the most.
    Window,
    /// P2: the first batch of an id or epoch goes alone.
    FirstAlone,
    /// P2: a batch whose timestamps Kafka does not remember a producer by goes alone.
    OldAlone,
    /// P3: what is cut anew has a higher epoch.
    EpochRaised,
    /// P3: and begins with sequence 0.
    SequenceRestarted,
    /// P3: not before all earlier cuts are done or ended.
    OneIdentity,
    /// P4: 45 while an older batch is undone is no final word.
    OutOfOrderWaits,
    /// P4: an answer 0 settles all older batches.
    OlderSettled,
    /// P5, P6: where only the log can tell, it is asked.
    Asked,
    /// P5: and before something old is sent again.
    OldAsked,
    /// P6: a refusal is final only if no earlier attempt may be there.
    RefusalAsked,
    /// A row keeps the hash that says its partition for as long as it may need another.
    HashKept,
    /// A row that loses its time keeps it in a header.
    TimeKept,
    /// S1: `stored` is answered when the row is on the disk.
    StoredSynced,
    /// S2: a batch is sent when its cut is on the disk.
    CutSynced,
    /// S2: what has ended stands in the log before anything more is cut.
    EndedFirst,
    /// After a crash what may be in Kafka goes there under the identity that it was cut with.
    IdentityKept,
    /// And before anything else of its partition.
    RestoredFirst,
    /// Rows that had a partition in an earlier start and rows that get one now take turns.
    InTurn,
    /// `drop-oldest`: what is in a batch stays.
    CutStays,
    /// S8: what a failed sync was to cover is not on the disk.
    #[cfg(test)]
    FailureBelieved,
    /// A disk that failed is asked again.
    #[cfg(test)]
    TriedAgain,
    /// S5: no sink holds more than its share.
    #[cfg(test)]
    ShareKept,
    /// A stop in order writes down what memory has of sinks that are saved.
    #[cfg(test)]
    SavedAtStop,
    /// S3: a kept session is there after a crash.
    #[cfg(test)]
    SessionKept,
    /// S3: so are its open packet ids.
    #[cfg(test)]
    IdsKept,
    /// S3: an id is free on the disk before its PUBCOMP.
    #[cfg(test)]
    ReleaseSynced,
}

#[cfg(test)]
impl Rule {
    pub(crate) const ALL: [Self; 13] = [
        Self::Window,
        Self::FirstAlone,
        Self::OldAlone,
        Self::EpochRaised,
        Self::SequenceRestarted,
        Self::OneIdentity,
        Self::OutOfOrderWaits,
        Self::OlderSettled,
        Self::Asked,
        Self::OldAsked,
        Self::RefusalAsked,
        Self::HashKept,
        Self::TimeKept,
    ];

    /// Those that take a disk and crashes to be missed.
    pub(crate) const OF_DISK: [Self; 9] = [
        Self::StoredSynced,
        Self::CutSynced,
        Self::EndedFirst,
        Self::IdentityKept,
        Self::RestoredFirst,
        Self::InTurn,
        Self::SessionKept,
        Self::IdsKept,
        Self::ReleaseSynced,
    ];

    /// Those that take what lasts to be missed.
    pub(crate) const OF_LASTING: [Self; 5] =
        [Self::CutStays, Self::FailureBelieved, Self::TriedAgain, Self::ShareKept, Self::SavedAtStop];
}

#[cfg(test)]
thread_local! {
    static OUT: std::cell::Cell<Option<Rule>> = const { std::cell::Cell::new(None) };
}

/// Takes a rule out, on this thread.
#[cfg(test)]
pub(crate) fn set(rule: Option<Rule>) {
    OUT.set(rule);
}

/// Whether a rule is out.
#[cfg(test)]
pub(crate) fn is_out(rule: Rule) -> bool {
    OUT.get() == Some(rule)
}

/// Whether a rule is out: never.
#[cfg(not(test))]
pub(crate) const fn is_out(_: Rule) -> bool {
    false
}
