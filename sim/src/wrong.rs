//! Wrong bodies of the rules (`forebay::rules`): each replaces one method, or two that are one rule, and must be found. A
//! rule without a wrong body here, or with one that nothing finds, fails a test.

use std::ops::Range;

use forebay::rules::{AfterRound, Round, Rules, SentBefore};

use crate::judge::Failure;
use crate::plan::Kind;
use crate::scenarios::rules::{
    a_window_of_two_is_under_way, one_error_explains_the_others, one_sink_keeps_to_its_share,
    stop_saves_what_memory_has, what_is_cut_is_not_dropped, what_is_refused_and_there_is_known,
    what_kafka_forgets_is_asked_for,
};

/// The runs or tests that find a wrong rule.
#[derive(Clone, Copy, Debug)]
pub enum FoundBy {
    /// Runs of this kind: this seed finds it, unless the draws have changed since.
    Seed(Kind, u64),
    /// A script.
    Script(fn(&'static dyn Rules) -> Result<(), Failure>),
    /// So far only the producer's simulator (`src/sim/`).
    Producer,
    /// Only the number of requests depends on the rule, and no promise: quiet runs must take more of them.
    Cost,
    /// Only tests of a shard (`tests/shard/queue_rules.rs`, `tests/shard/sql_rules.rs`, `tests/shard/remotes_hops.rs`, `tests/shard/positions.rs`,
    /// `tests/shard/relay/answers.rs`, `tests/shard/silent.rs`, `tests/shard/sources_ruled.rs`, `crates/broker/src/given/tests.rs`): here no client loses a right, there are no rules in SQL, no bridges and no slots that arrive
    /// while others are served, double disconnections are not checked, and none of 2,300 seeds shows an instance that speaks before it has heard of its group.
    Shards,
}

/// A set of rules with a wrong one among them.
#[derive(Clone, Copy, Debug)]
pub struct Wrong {
    /// The effect of the wrong rule.
    pub name: &'static str,
    /// The rules for the process.
    pub rules: &'static dyn Rules,
    /// The methods with a wrong body.
    pub methods: &'static [&'static str],
    /// The runs or tests that must find it.
    pub found_by: FoundBy,
}

macro_rules! wrong {
    ($($name:ident, $found_by:expr, { $(fn $method:ident(&$self:ident $($args:tt)*) -> $type:ty $body:block)+ })+) => {
        $(
            #[derive(Debug)]
            struct $name;
            impl Rules for $name {
                $(fn $method(&$self $($args)*) -> $type $body)+
            }
        )+
        /// All wrong rules.
        pub const ALL: &[Wrong] = &[$(Wrong {
            name: stringify!($name),
            rules: &$name,
            methods: &[$(stringify!($method)),+],
            found_by: $found_by,
        }),+];
    };
}

use FoundBy::{Cost, Producer, Script, Seed, Shards};
use Kind::{All, Broker, Instances, Memory, Shares, Sources, Subscribers};

wrong! {
    CutsAtOnce, Cost, { fn is_ripe(&self, _: bool, _: u64, _: u64) -> bool { true } }
    WindowOfTen, Script(a_window_of_two_is_under_way), { fn window(&self, max_inflight: usize) -> usize { 2 * max_inflight.clamp(1, 5) } }
    FirstInCompany, Seed(Memory, 71), { fn is_proven(&self, _: u64, _: u64) -> bool { true } }
    OldInCompany, Script(what_kafka_forgets_is_asked_for), { fn is_forgettable(&self, _: i64, _: i64) -> bool { false } }
    SameEpoch, Seed(Memory, 1), {
        fn after_take_back(&self, epoch: i16, sequence: i32) -> Option<(i16, i32)> { Some((epoch, sequence)) }
    }
    SequenceGoesOn, Seed(Memory, 1), {
        fn after_take_back(&self, epoch: i16, sequence: i32) -> Option<(i16, i32)> {
            epoch.checked_add(1).map(|epoch| (epoch, sequence))
        }
    }
    TwoIdentities, Producer, { fn may_change_identity(&self, _: usize) -> bool { true } }
    OutOfOrderIsFinal, Script(one_error_explains_the_others), {
        fn after_out_of_order(&self, _: Round) -> AfterRound { AfterRound::AskLog }
        fn asks_log(&self, _: i16) -> bool { false }
    }
    SettlesItself, Seed(Memory, 895), { fn settled_by(&self, place: usize) -> Range<usize> { place..place + 1 } }
    NeverAsks, Script(what_is_refused_and_there_is_known), { fn asks_log(&self, _: i16) -> bool { false } }
    ResendsUnasked, Script(what_kafka_forgets_is_asked_for), { fn asks_before_resend(&self, _: SentBefore) -> bool { false } }
    RefusalIsFinal, Seed(Memory, 216), { fn is_refusal_final(&self, _: bool) -> bool { true } }
    TwoBatches, Seed(Memory, 196), { fn takes_one_batch_per_partition(&self) -> bool { false } }
    RequestPerBatch, Cost, { fn shares_request(&self, _: usize, _: usize, _: usize) -> bool { false } }
    HashLost, Seed(Memory, 12), { fn keeps_hash(&self) -> bool { false } }
    TimeLost, Seed(Memory, 2), { fn keeps_time(&self) -> bool { false } }
    AnswersBeforeSync, Seed(All, 36), { fn may_answer_stored(&self, _: u64, _: u64) -> bool { true } }
    SendsBeforeSync, Seed(All, 5), { fn may_send(&self, _: u64, _: u64) -> bool { true } }
    EndsLast, Producer, { fn writes_ends_first(&self) -> bool { false } }
    IdentityLost, Seed(All, 0), { fn keeps_identity(&self) -> bool { false } }
    RestoredLast, Producer, { fn waits_for_restored(&self, _: usize) -> bool { false } }
    OutOfTurn, Seed(All, 774), { fn takes_turns(&self) -> bool { false } }
    SessionLost, Seed(All, 0), { fn restores_sessions(&self) -> bool { false } }
    PacketIdsLost, Seed(All, 0), { fn restores_packet_ids(&self) -> bool { false } }
    TellsBeforeSync, Seed(All, 835), { fn may_tell(&self, _: u64, _: u64) -> bool { true } }
    NoShare, Script(one_sink_keeps_to_its_share), { fn share_of_sink(&self, _: u64, whole: u64) -> u64 { whole } }
    ConfirmsBeforeSync, Seed(Subscribers, 155), { fn may_confirm(&self, _: u64, _: u64) -> bool { true } }
    MessageLost, Seed(Subscribers, 4), { fn restores_message(&self, _: u64) -> bool { false } }
    ExchangesLost, Seed(Subscribers, 9), { fn restores_exchanges(&self) -> bool { false } }
    EndLost, Seed(Subscribers, 9), { fn writes_end(&self, _: u64) -> bool { false } }
    RestoredUnseen, Seed(Subscribers, 9), { fn enters_restored(&self) -> bool { false } }
    NumbersBeginAgain, Seed(Subscribers, 197), { fn next_number(&self, _: u64) -> u64 { 0 } }
    PublishesBeforeSync, Seed(Subscribers, 27), { fn publish_waits_for(&self, _: u64) -> u64 { 0 } }
    ReleasesBeforeSync, Seed(Subscribers, 62), { fn pubrel_waits_for(&self, _: u64) -> u64 { 0 } }
    ReplaysAtOnce, Seed(Shares, 419), { fn may_replay(&self, _: u64) -> bool { true } }
    SkipsNothing, Seed(Shares, 44), { fn skips_retained(&self, _: bool) -> bool { false } }
    ReplaysNewer, Seed(Shares, 657), { fn comes_live(&self, _: u64, _: u64) -> bool { false } }
    SendsAnyRetained, Shards, { fn may_send_retained(&self, _: bool) -> bool { true } }
    BindsWithoutRoom, Seed(Shares, 7), { fn may_bind(&self, _: bool) -> bool { true } }
    HandedOnIsHad, Seed(Sources, 4), { fn keeps_open(&self, _: bool) -> bool { false } }
    FirstAnswerEnds, Seed(Sources, 4), { fn is_answered(&self, _: u32) -> bool { true } }
    CommitsNewest, Seed(Sources, 4), { fn commits(&self, _: Option<i64>, next: i64) -> i64 { next } }
    WaitIsDrop, Seed(Sources, 3), { fn parks(&self, _: bool) -> bool { false } }
    MadeIsGone, Shards, { fn parks_made(&self, _: bool) -> bool { false } }
    UnmetIsHad, Seed(Sources, 8), { fn is_had(&self, _: bool) -> bool { true } }
    ReadsOn, Seed(Sources, 3), { fn is_window_full(&self, _: usize, _: usize) -> bool { false } }
    ReleasesAtOnce, Seed(Sources, 4), { fn may_release(&self, _: u64, _: u64) -> bool { true } }
    OthersStayOpen, Seed(Broker, 8), { fn closes_others(&self) -> bool { false } }
    SyncedWhenSent, Seed(Broker, 10), { fn waits_for_kafka(&self) -> bool { false } }
    MovesOnAtOnce, Seed(Broker, 7), { fn commits(&self, _: Option<i64>, next: i64) -> i64 { next } }
    RepeatsUnderOtherIdentity, Seed(Broker, 5), { fn keeps_identity(&self) -> bool { false } }
    ForgetsWhoRepeats, Seed(Broker, 2), { fn restores_packet_ids(&self) -> bool { false } }
    SendsBeforeItsLog, Seed(Broker, 5), { fn may_send(&self, _: u64, _: u64) -> bool { true } }
    EndsCopiesAtOnce, Seed(Broker, 58), { fn may_end_copy(&self, _: bool) -> bool { true } }
    GivesAgain, Seed(Broker, 1), { fn passes_over(&self, _: bool) -> bool { false } }
    ReadsFromCommit, Shards, { fn reads_from(&self, committed: Option<i64>, needed: Option<i64>) -> Option<i64> { committed.or(needed) } }
    LogsWithoutBound, Seed(Broker, 0), { fn segments_of_sessions(&self, most: u64) -> u64 { 8 * most } }
    CopiesUnanswered, Seed(Broker, 129), { fn waits_for_copy(&self) -> bool { false } }
    ClosesWhoAnswered, Shards, { fn stays_with(&self, _: bool) -> bool { false } }
    KeepsReleased, Seed(Instances, 3), { fn reports_released(&self) -> bool { false } }
    SpeaksUnheard, Shards, { fn is_silent(&self, _: bool) -> bool { false } }
    SendsForOthers, Shards, { fn withdraws_rows(&self) -> bool { false } }
    SendsForEnded, Shards, { fn withdraws_ended(&self) -> bool { false } }
    NamesNoneBehind, Shards, { fn names_behind(&self) -> bool { false } }
    KeepsWills, Seed(Instances, 6), { fn ends_will(&self) -> bool { false } }
    InstancesRepeatUnderOtherIdentity, Seed(Instances, 8), { fn keeps_identity(&self) -> bool { false } }
    InstancesMoveOnAtOnce, Seed(Instances, 0), { fn commits(&self, _: Option<i64>, next: i64) -> i64 { next } }
    OutputsUnanswered, Shards, { fn waits_for_outputs(&self) -> bool { false } }
    SomeIsAll, Shards, { fn has_all(&self, had: usize, _: usize) -> bool { had > 0 } }
    OnErrorIgnored, Shards, { fn may_skip(&self, _: bool) -> bool { true } }
    LimitWaits, Shards, { fn is_too_much(&self, _: bool) -> bool { false } }
    ComeRound, Shards, { fn may_come_round(&self) -> bool { true } }
    FailedIsSynced, Seed(All, 216), { fn is_synced(&self, _: bool) -> bool { true } }
    GivesUp, Seed(All, 13), { fn tries_again(&self) -> bool { false } }
    SavesNothing, Script(stop_saves_what_memory_has), { fn saves_at_stop(&self) -> bool { false } }
    DropsCutRows, Script(what_is_cut_is_not_dropped), { fn drops_cut_rows(&self) -> bool { true } }
}
