//! Wrong bodies of the rules (`rules.rs`): each replaces one method, or two that are one rule, and must be found by the
//! runs it names. A rule that has no wrong body here, or one that no seed finds, fails a test.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use super::plan::Scope;
use super::run;
use crate::kafka::producer::{Producer, Row, Settings, SinkSettings};
use crate::kafka::types::{NodeId, ProduceBatch, ProduceRequest, ProduceResult, SinkId, TopicMetadata};
use crate::rules::{AfterRound, Round, Rules, SentBefore};
use crate::runtime::seam::{Monotonic, WallMs};

/// The runs that find a wrong rule.
#[derive(Clone, Copy)]
enum FoundBy {
    /// Runs without a disk, with a disk, or with lasting faults.
    Plain,
    Disk,
    Lasting,
    /// Only the shape of requests depends on the rule, and no promise: a producer driven by hand, which must behave
    /// differently.
    Hand,
    /// Not found here, without subscribers: `tests/shard/queue_rules.rs`, and `scripts/faults broken`.
    Subscribers,
    /// Not found here, without sources: `sim/src/wrong.rs`.
    Sources,
    /// Not found here, without logs in Kafka: `sim/src/wrong.rs`.
    Broker,
    /// Not found here, without rules in SQL: `tests/shard/sql_rules.rs`.
    Outputs,
    /// Not found here, without bridges: `tests/shard/remotes_hops.rs`, and `scripts/faults broken`.
    Bridges,
}

/// A set of rules with a wrong one among them.
struct Wrong {
    name: &'static str,
    rules: &'static dyn Rules,
    methods: &'static [&'static str],
    found_by: FoundBy,
}

macro_rules! wrong {
    ($($name:ident, $found_by:ident { $(fn $method:ident(&$self:ident $($args:tt)*) -> $type:ty $body:block)+ })+) => {
        $(
            #[derive(Debug)]
            struct $name;
            impl Rules for $name {
                $(fn $method(&$self $($args)*) -> $type $body)+
            }
        )+
        const ALL: &[Wrong] = &[$(Wrong {
            name: stringify!($name),
            rules: &$name,
            methods: &[$(stringify!($method)),+],
            found_by: FoundBy::$found_by,
        }),+];
    };
}

wrong! {
    CutsAtOnce, Hand { fn is_ripe(&self, _: bool, _: u64, _: u64) -> bool { true } }
    WindowOfTen, Plain { fn window(&self, max_inflight: usize) -> usize { 2 * max_inflight.clamp(1, 5) } }
    FirstInCompany, Plain { fn is_proven(&self, _: u64, _: u64) -> bool { true } }
    OldInCompany, Plain { fn is_forgettable(&self, _: i64, _: i64) -> bool { false } }
    SameEpoch, Plain { fn after_take_back(&self, epoch: i16, sequence: i32) -> Option<(i16, i32)> { Some((epoch, sequence)) } }
    SequenceGoesOn, Plain {
        fn after_take_back(&self, epoch: i16, sequence: i32) -> Option<(i16, i32)> {
            epoch.checked_add(1).map(|epoch| (epoch, sequence))
        }
    }
    TwoIdentities, Disk { fn may_change_identity(&self, _: usize) -> bool { true } }
    OutOfOrderIsFinal, Plain {
        fn after_out_of_order(&self, _: Round) -> AfterRound { AfterRound::AskLog }
        fn asks_log(&self, _: i16) -> bool { false }
    }
    SettlesItself, Plain { fn settled_by(&self, place: usize) -> Range<usize> { place..place + 1 } }
    NeverAsks, Plain { fn asks_log(&self, _: i16) -> bool { false } }
    ResendsUnasked, Plain { fn asks_before_resend(&self, _: SentBefore) -> bool { false } }
    RefusalIsFinal, Plain { fn is_refusal_final(&self, _: bool) -> bool { true } }
    TwoBatches, Plain { fn takes_one_batch_per_partition(&self) -> bool { false } }
    RequestPerBatch, Hand { fn shares_request(&self, _: usize, _: usize, _: usize) -> bool { false } }
    HashLost, Plain { fn keeps_hash(&self) -> bool { false } }
    TimeLost, Plain { fn keeps_time(&self) -> bool { false } }
    AnswersBeforeSync, Disk { fn may_answer_stored(&self, _: u64, _: u64) -> bool { true } }
    SendsBeforeSync, Disk { fn may_send(&self, _: u64, _: u64) -> bool { true } }
    EndsLast, Disk { fn writes_ends_first(&self) -> bool { false } }
    IdentityLost, Disk { fn keeps_identity(&self) -> bool { false } }
    RestoredLast, Disk { fn waits_for_restored(&self, _: usize) -> bool { false } }
    OutOfTurn, Disk { fn takes_turns(&self) -> bool { false } }
    SessionLost, Disk { fn restores_sessions(&self) -> bool { false } }
    PacketIdsLost, Disk { fn restores_packet_ids(&self) -> bool { false } }
    TellsBeforeSync, Disk { fn may_tell(&self, _: u64, _: u64) -> bool { true } }
    NoShare, Lasting { fn share_of_sink(&self, _: u64, whole: u64) -> u64 { whole } }
    ConfirmsBeforeSync, Subscribers { fn may_confirm(&self, _: u64, _: u64) -> bool { true } }
    MessageLost, Subscribers { fn restores_message(&self, _: u64) -> bool { false } }
    ExchangesLost, Subscribers { fn restores_exchanges(&self) -> bool { false } }
    EndLost, Subscribers { fn writes_end(&self, _: u64) -> bool { false } }
    RestoredUnseen, Subscribers { fn enters_restored(&self) -> bool { false } }
    NumbersBeginAgain, Subscribers { fn next_number(&self, _: u64) -> u64 { 0 } }
    PublishesBeforeSync, Subscribers { fn publish_waits_for(&self, _: u64) -> u64 { 0 } }
    ReleasesBeforeSync, Subscribers { fn pubrel_waits_for(&self, _: u64) -> u64 { 0 } }
    ReplaysAtOnce, Subscribers { fn may_replay(&self, _: u64) -> bool { true } }
    SkipsNothing, Subscribers { fn skips_retained(&self, _: bool) -> bool { false } }
    ReplaysNewer, Subscribers { fn comes_live(&self, _: u64, _: u64) -> bool { false } }
    SendsAnyRetained, Subscribers { fn may_send_retained(&self, _: bool) -> bool { true } }
    BindsWithoutRoom, Subscribers { fn may_bind(&self, _: bool) -> bool { true } }
    HandedOnIsHad, Sources { fn keeps_open(&self, _: bool) -> bool { false } }
    FirstAnswerEnds, Sources { fn is_answered(&self, _: u32) -> bool { true } }
    CommitsNewest, Sources { fn commits(&self, _: Option<i64>, next: i64) -> i64 { next } }
    WaitIsDrop, Sources { fn parks(&self, _: bool) -> bool { false } }
    UnmetIsHad, Sources { fn is_had(&self, _: bool) -> bool { true } }
    MadeIsGone, Sources { fn parks_made(&self, _: bool) -> bool { false } }
    ReadsOn, Sources { fn is_window_full(&self, _: usize, _: usize) -> bool { false } }
    ReleasesAtOnce, Sources { fn may_release(&self, _: u64, _: u64) -> bool { true } }
    OthersStayOpen, Broker { fn closes_others(&self) -> bool { false } }
    SyncedWhenSent, Broker { fn waits_for_kafka(&self) -> bool { false } }
    LogsWithoutBound, Broker { fn segments_of_sessions(&self, most: u64) -> u64 { 8 * most } }
    ClosesWhoAnswered, Broker { fn stays_with(&self, _: bool) -> bool { false } }
    KeepsReleased, Broker { fn reports_released(&self) -> bool { false } }
    SpeaksUnheard, Broker { fn is_silent(&self, _: bool) -> bool { false } }
    SendsForOthers, Broker { fn withdraws_rows(&self) -> bool { false } }
    SendsForEnded, Broker { fn withdraws_ended(&self) -> bool { false } }
    NamesNoneBehind, Broker { fn names_behind(&self) -> bool { false } }
    KeepsWills, Broker { fn ends_will(&self) -> bool { false } }
    CopiesUnanswered, Broker { fn waits_for_copy(&self) -> bool { false } }
    EndsCopiesAtOnce, Broker { fn may_end_copy(&self, _: bool) -> bool { true } }
    GivesAgain, Broker { fn passes_over(&self, _: bool) -> bool { false } }
    ReadsFromCommit, Broker { fn reads_from(&self, committed: Option<i64>, needed: Option<i64>) -> Option<i64> { committed.or(needed) } }
    OutputsUnanswered, Outputs { fn waits_for_outputs(&self) -> bool { false } }
    SomeIsAll, Outputs { fn has_all(&self, had: usize, _: usize) -> bool { had > 0 } }
    OnErrorIgnored, Outputs { fn may_skip(&self, _: bool) -> bool { true } }
    LimitWaits, Outputs { fn is_too_much(&self, _: bool) -> bool { false } }
    ComeRound, Bridges { fn may_come_round(&self) -> bool { true } }
    FailedIsSynced, Lasting { fn is_synced(&self, _: bool) -> bool { true } }
    GivesUp, Lasting { fn tries_again(&self) -> bool { false } }
    SavesNothing, Lasting { fn saves_at_stop(&self) -> bool { false } }
    DropsCutRows, Lasting { fn drops_cut_rows(&self) -> bool { true } }
}

type Runs = (fn(u64) -> Scope, u64);

impl FoundBy {
    /// The scope of the runs, and how many seeds must be enough to find the wrong rule.
    fn runs(self) -> Option<Runs> {
        match self {
            Self::Plain => Some((Scope::new, super::tests::SEEDS)),
            Self::Disk => Some((Scope::with_disk, super::tests::DISK_SEEDS)),
            Self::Lasting => Some((Scope::with_lasting, super::tests::LASTING_SEEDS)),
            Self::Hand | Self::Subscribers | Self::Sources | Self::Broker | Self::Outputs | Self::Bridges => None,
        }
    }
}

fn all_are_found(wanted: impl Fn(FoundBy) -> bool) {
    let mut not_found = Vec::new();
    for wrong in ALL.iter().filter(|wrong| wanted(wrong.found_by)) {
        let Some((scope, seeds)) = wrong.found_by.runs() else { continue };
        match run::many(0..seeds, |seed| Scope { rules: wrong.rules, ..scope(seed) }).err() {
            Some((scope, failure)) => println!("{}: {:?}, seed {}", wrong.name, failure.what, scope.seed),
            None => not_found.push(wrong.name),
        }
    }
    assert!(not_found.is_empty(), "not found: {not_found:?}");
}

#[test]
fn a_producer_without_one_of_its_rules_is_found() {
    all_are_found(|by| matches!(by, FoundBy::Plain));
}

#[test]
fn a_disk_buffer_without_one_of_its_rules_is_found() {
    all_are_found(|by| matches!(by, FoundBy::Disk));
}

#[test]
fn a_disk_buffer_without_one_of_its_rules_is_found_when_it_lasts() {
    all_are_found(|by| matches!(by, FoundBy::Lasting));
}

/// The names of the methods of `trait Rules`.
fn methods() -> BTreeSet<&'static str> {
    let source = include_str!("../../crates/base/src/rules.rs");
    let (_, from_trait) = source.split_once("pub trait Rules").expect("the trait");
    let (body, _) = from_trait.split_once("\n}\n").expect("its end");
    body.lines().filter_map(|line| line.strip_prefix("    fn ")?.split('(').next()).collect()
}

#[test]
fn every_rule_has_a_wrong_body() {
    let wrong: BTreeSet<&str> = ALL.iter().flat_map(|wrong| wrong.methods.iter().copied()).collect();
    assert!(methods().len() > 20, "this test reads the wrong lines");
    assert_eq!(methods(), wrong);
}

/// Number of requests that the rows of two partitions of one broker make when the topic is learnt, and number that the
/// next rows make while their linger runs and nothing else delays them.
fn by_hand(rules: &'static dyn Rules) -> (usize, usize) {
    let sink = SinkSettings { linger: Duration::from_millis(10), ..SinkSettings::default() };
    let mut producer = Producer::new(Settings { sinks: vec![sink], rules, ..Settings::default() });
    let topic = TopicMetadata { name: "t".into(), leaders: vec![Some(NodeId(0)); 2], ..TopicMetadata::default() };
    let (now, mut requests) = (Monotonic(1), Vec::<ProduceRequest>::new());
    let append = |producer: &mut Producer| {
        for key in b'a'..=b'z' {
            let row = Row { key: Some(&[key]), value: Some(b"v"), headers: std::iter::empty(), timestamp: WallMs(1) };
            producer.append(SinkId(0), "t", row, None, now);
        }
    };
    append(&mut producer);
    producer.on_producer_id(0, 7, 0);
    producer.on_metadata(&[topic], now);
    producer.poll(now, WallMs(1), &mut requests);
    append(&mut producer);
    let first = requests.len();
    for request in requests.drain(..) {
        let taken = |batch: &ProduceBatch| ProduceResult {
            topic: batch.topic.clone(),
            partition: batch.partition,
            error: 0,
            base_offset: 0,
        };
        let results: Vec<_> = request.batches.iter().map(taken).collect();
        producer.on_produced(request.id, &results, 0, now);
    }
    producer.poll(now, WallMs(1), &mut requests);
    (first, requests.len())
}

#[test]
fn what_costs_requests_is_found_by_hand() {
    let kept = by_hand(&crate::rules::KEPT);
    for wrong in ALL.iter().filter(|wrong| matches!(wrong.found_by, FoundBy::Hand)) {
        assert_ne!(by_hand(wrong.rules), kept, "{} is not found", wrong.name);
    }
    assert_eq!(kept, (1, 0));
}
