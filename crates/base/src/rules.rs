//! The rules that Forebay's promises stand on, each as a method: the comment defines it, the default body *is* it. The
//! machines that must keep a rule ask for it where they decide: once a batch, a group, a session record or a record of a source, never for
//! each row that is published. The product has one value, [`KEPT`]. Tests replace single methods by wrong ones, to see that a producer
//! or a shard without the rule is noticed (`docs/internals/SIMULATION.md`, `docs/internals/FAULTS.md`).
//!
//! `docs/RULES.md` is made from this file. The codes (P: what Kafka's idempotent producer demands, KIP-98; S: the spool;
//! B: subscribers, F: sources, K: logs of sessions in Kafka, copies of retained messages and several instances, Q: rules in SQL, G: bridges) are those used in comments elsewhere.

use std::fmt::Debug;
use std::ops::Range;

/// The answers for the undone batches of a partition in a finished round, with 45 (out of order) for the oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// Some batches got a retriable error, or no answer.
    pub again: bool,
    /// Some batches were not sent in this round.
    pub unsent: bool,
    /// All batches that were sent got 45.
    pub only_out_of_order: bool,
}

/// The step after a [`Round`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterRound {
    /// All undone batches are sent again, in order, under the same identity.
    SendAgain,
    /// The unsent batches are sent first: their answers may settle the others.
    SendRest,
    /// Kafka's log is looked at, as nothing else can settle the batches.
    AskLog,
}

/// The facts about a batch that is about to be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentBefore {
    /// An earlier attempt may have been appended without an answer to us.
    pub maybe_there: bool,
    /// The batch's rows were counted as sent with an unknown outcome before.
    pub counted: bool,
    /// Kafka may have forgotten the batch's producer ([`Rules::is_forgettable`]).
    pub forgettable: bool,
}

/// Time for which Kafka surely remembers a producer, in milliseconds: from a batch's newest timestamp, and from an answer.
/// (`transactional.id.expiration.ms` is 7 days and `producer.id.expiration.ms` 1 day by default; clocks differ.)
pub const REMEMBERED_MS: u64 = 3_600_000;

/// Batches that Kafka remembers of a producer and partition (`ProducerStateEntry.NumBatchesToRetain`).
pub const REMEMBERED_BATCHES: usize = 5;

/// See the module. Times are nanoseconds on the monotonic clock unless they say otherwise.
pub trait Rules: Debug + Sync {
    /// P1: Rows are collected in a batch until it is full or its linger time is over, and the window has a free
    /// place. So batches grow while Kafka is slow.
    fn is_ripe(&self, full: bool, ripe_at: u64, now: u64) -> bool {
        full || ripe_at <= now
    }

    /// P2: A partition has at most five batches that are cut and not done: Kafka remembers the last five batches of
    /// a producer, and recognizes only those as duplicates.
    fn window(&self, max_inflight: usize) -> usize {
        max_inflight.clamp(1, REMEMBERED_BATCHES)
    }

    /// P2: Batches are sent one at a time until a batch of the identity is acknowledged, and again from an hour
    /// after the last acknowledgement: a partition accepts any first sequence number from a producer that it does
    /// not know.
    fn is_proven(&self, now: u64, proven_until: u64) -> bool {
        now < proven_until
    }

    /// P2: A batch is sent alone if it has no timestamp, or if its newest timestamp is more than an hour from now:
    /// Kafka forgets producers by record time. Both in milliseconds of the wall clock.
    fn is_forgettable(&self, newest_ms: i64, wall_ms: i64) -> bool {
        newest_ms < 0 || wall_ms.abs_diff(newest_ms) > REMEMBERED_MS
    }

    /// P3: After batches were voided, the partition continues under the next epoch with sequence 0; after the last
    /// epoch under a new producer ID (`None`). Epoch and sequence before, epoch and sequence after.
    fn after_take_back(&self, epoch: i16, _sequence: i32) -> Option<(i16, i32)> {
        epoch.checked_add(1).map(|epoch| (epoch, 0))
    }

    /// P3: An identity of an earlier process is used until its last undone batch is done, and only then this
    /// process's. So the window never has two identities.
    fn may_change_identity(&self, undone: usize) -> bool {
        undone == 0
    }

    /// P4: Error 45 is not final as long as another undone batch may explain it: one that got a retriable error is
    /// sent again together with all others, one that was not sent yet is sent. Only if a full round gets 45, the
    /// log is asked.
    fn after_out_of_order(&self, round: Round) -> AfterRound {
        match round {
            Round { again: true, .. } => AfterRound::SendAgain,
            Round { unsent: true, only_out_of_order: true, .. } => AfterRound::SendRest,
            _ => AfterRound::AskLog,
        }
    }

    /// P4: A success settles the batch and every older one in the window, since the log accepts them in sequence.
    /// Places in the window, oldest first.
    fn settled_by(&self, place: usize) -> Range<usize> {
        0..place + 1
    }

    /// P5: If the responses leave open whether batches are in the log, the log is asked (not with acks = 0).
    fn asks_log(&self, acks: i16) -> bool {
        acks != 0
    }

    /// P5: The log is also asked before a batch that may be in it is sent again, if Kafka may have forgotten its
    /// producer: otherwise Kafka would store it twice.
    fn asks_before_resend(&self, batch: SentBefore) -> bool {
        batch.maybe_there && !batch.counted && batch.forgettable
    }

    /// P6: A refusal is final only if no attempt of any undone batch may have been appended: a batch that is in the
    /// log can be refused when it is sent again.
    fn is_refusal_final(&self, any_maybe_there: bool) -> bool {
        !any_maybe_there
    }

    /// P7: A request has at most one batch per partition; a broker refuses two (87).
    fn takes_one_batch_per_partition(&self) -> bool {
        true
    }

    /// P8: Batches for all partitions of a broker that are due at the same time share a request, up to its maximum
    /// size. Bytes.
    fn shares_request(&self, in_request: usize, batch: usize, request_bytes_max: usize) -> bool {
        in_request + batch <= request_bytes_max
    }

    /// Rows keep the hash that determines their partition for as long as they may need another partition.
    fn keeps_hash(&self) -> bool {
        true
    }

    /// A record that is sent without its timestamp, because Kafka rejects it, has the time in a header.
    fn keeps_time(&self) -> bool {
        true
    }

    /// S1: A message is acknowledged at `stored` when the group of its row is durable.
    fn may_answer_stored(&self, group: u64, durable: u64) -> bool {
        group <= durable
    }

    /// S2: A batch is sent when the group of its cut is durable. So after a crash at most five batches per
    /// partition are uncertain, and the log names them.
    fn may_send(&self, cut_group: u64, durable: u64) -> bool {
        cut_group <= durable
    }

    /// S2: Ends of rows are written to the log before anything more is cut.
    fn writes_ends_first(&self) -> bool {
        true
    }

    /// S2: A start sends batches that may be in Kafka again, under the identity with which they were cut.
    fn keeps_identity(&self) -> bool {
        true
    }

    /// S2: It sends them before anything else of their partition. Number of cuts that are not loaded yet.
    fn waits_for_restored(&self, cuts: usize) -> bool {
        cuts > 0
    }

    /// S2: Rows that got a partition in an earlier process and rows that get one now take turns, by their numbers.
    fn takes_turns(&self) -> bool {
        true
    }

    /// S3: A kept session exists after a crash.
    fn restores_sessions(&self) -> bool {
        true
    }

    /// S3: So do its open packet identifiers (QoS 2).
    fn restores_packet_ids(&self) -> bool {
        true
    }

    /// S3: A client is told nothing before the session's earlier records are durable: a packet identifier is free
    /// on disk before its PUBCOMP is sent.
    fn may_tell(&self, group: u64, durable: u64) -> bool {
        group <= durable
    }

    /// S5: No sink uses more of the log than its share. Bytes.
    fn share_of_sink(&self, share: u64, _whole: u64) -> u64 {
        share
    }

    /// S8: What a failed sync should have covered is not durable.
    fn is_synced(&self, succeeded: bool) -> bool {
        succeeded
    }

    /// S8: A disk that failed is tried again.
    fn tries_again(&self) -> bool {
        true
    }

    /// A clean stop writes the rows in memory of `hybrid-saved` sinks to the log.
    fn saves_at_stop(&self) -> bool {
        true
    }

    /// `when_full = "drop-oldest"` keeps the rows of batches that are cut: Kafka may have them.
    fn drops_cut_rows(&self) -> bool {
        false
    }

    /// B1: A shard confirms a message that its kept sessions get, or that it retains, when its group is durable; the publisher is
    /// acknowledged when all have. The same for a packet identifier that is released there.
    fn may_confirm(&self, group: u64, durable: u64) -> bool {
        group <= durable
    }

    /// B2: Publishes find the subscriptions of all kept sessions before a listener opens after a start.
    fn enters_restored(&self) -> bool {
        true
    }

    /// B5: The packet identifier of a copy follows from its number, and the numbers of a session go on after a crash. The next one,
    /// as it was written down.
    fn next_number(&self, written: u64) -> u64 {
        written
    }

    /// B6: A message of QoS 2 is sent to a kept session when the number of its copy is durable. The group in which it is.
    fn publish_waits_for(&self, group: u64) -> u64 {
        group
    }

    /// B6: PUBREL is sent to a kept session when it is durable that its client has the message. The group in which it is.
    fn pubrel_waits_for(&self, group: u64) -> u64 {
        group
    }

    /// B7: Messages that wait for kept sessions are there after a crash. The number of one in the log.
    fn restores_message(&self, _number: u64) -> bool {
        true
    }

    /// B8: Open QoS 2 exchanges of the publishers of those messages are there after a crash, too.
    fn restores_exchanges(&self) -> bool {
        true
    }

    /// B9: When the last kept session has acknowledged a message, its end is written to the log. The number of the message there.
    fn writes_end(&self, _number: u64) -> bool {
        true
    }

    /// B11: A new subscription is answered from retained messages when every shard has answered a pass: what was published
    /// before is with its home then. Shards that have not, as bits.
    fn may_replay(&self, unanswered: u64) -> bool {
        unanswered == 0
    }

    /// B11: A retained message is skipped if the session was sent a message of that topic live meanwhile.
    fn skips_retained(&self, came_live: bool) -> bool {
        came_live
    }

    /// B11: A retained message that was published after the pass of a subscription is left out, as its live copy comes. How many passes the
    /// publisher's shard had been asked for when it took the message, and with that of the subscription.
    fn comes_live(&self, passes: u64, behind: u64) -> bool {
        passes >= behind
    }

    /// B12: A message of a share is bound to a member when it is sent to it: to one that has room.
    fn may_bind(&self, has_room: bool) -> bool {
        has_room
    }

    /// B14: A new subscription gets a retained message while its publisher may still publish it. Whether it may.
    fn may_send_retained(&self, is_granted: bool) -> bool {
        is_granted
    }

    /// F5: A copy of a source's message at QoS 1 or 2 keeps its record open until its client has answered, unless the log has it. Whether
    /// the log has it.
    fn keeps_open(&self, is_stored: bool) -> bool {
        !is_stored
    }

    /// F5: A record is open until each shard and each sink that its message went to has answered. How many have not.
    fn is_answered(&self, missing: u32) -> bool {
        missing == 0
    }

    /// F6: A group commits the lowest open record of a partition, and where none is open the place at which reading goes on. Offsets.
    fn commits(&self, lowest_open: Option<i64>, next: i64) -> i64 {
        lowest_open.unwrap_or(next)
    }

    /// F7: With `no_subscriber = "wait"` a record that nobody has subscribed to waits, and holds the commit. Whether that is set.
    fn parks(&self, is_wait: bool) -> bool {
        is_wait
    }

    /// F7: What a rule publishes of a record waits for a subscriber as the record's own message does. Whether that would wait.
    fn parks_made(&self, would_wait: bool) -> bool {
        would_wait
    }

    /// F7: A message that went to shards, and that no session of theirs has in the end, is one that nobody had. Whether some session has it.
    fn is_had(&self, is_met: bool) -> bool {
        is_met
    }

    /// F8: A partition with a full window is not read. Records in the window, and `window_messages`.
    fn is_window_full(&self, records: usize, most: usize) -> bool {
        records >= most
    }

    /// F8: `release_after` gives up a record that was taken up at that time or before, and no other. When it was taken up, and that time.
    fn may_release(&self, since: u64, before: u64) -> bool {
        since <= before
    }

    /// Q1: An answer waits for the records that rules have made of a message as for those of filters.
    fn waits_for_outputs(&self) -> bool {
        true
    }

    /// Q2: A sink has taken a message that comes again after a crash if it has all records that rules make of it. How many it has, and how many
    /// there are.
    fn has_all(&self, had: usize, made: usize) -> bool {
        had >= made
    }

    /// Q3: A message for which a rule fails goes where `on_error` says, and is lost to the rule with `"skip"` alone. Whether that is set.
    fn may_skip(&self, is_skip: bool) -> bool {
        is_skip
    }

    /// Q4: What rules make of a message is refused if it is more than there may ever be room for: such a message does not wait. Whether it is
    /// more.
    fn is_too_much(&self, is_more: bool) -> bool {
        is_more
    }

    /// K1: Who takes a log of sessions in Kafka over ends the producer ids of all that have written there before: one of which Kafka
    /// has forgotten the transactional id may come back, and no later epoch of another producer id would stop it.
    fn closes_others(&self) -> bool {
        true
    }

    /// K2: A record is in that log when Kafka has acknowledged it, and not when it was sent.
    fn waits_for_kafka(&self) -> bool {
        true
    }

    /// K3: The log has no more bytes than `sessions_bytes_max` allows: beyond it messages are dropped and counted, and no session begins. The
    /// segments of a shard.
    fn segments_of_sessions(&self, most: u64) -> u64 {
        most
    }

    /// K4: A copy of a record of `[broker]` ends in the log of its slot when the log says by its positions that the copy's sessions have the record.
    /// Whether it does. Otherwise the next process reads the record again, and the client gets it a second time.
    fn may_end_copy(&self, is_named: bool) -> bool {
        is_named
    }

    /// K5: A record of `[broker]` that a session has by the log of its slot, or is to get when its partition is read again, does not come to it now.
    /// Whether that is so.
    fn passes_over(&self, has_it: bool) -> bool {
        has_it
    }

    /// K6: A partition of `[broker]` is read from the lowest of the group's place, or where the shard's last reader was, and the positions of slots that have come.
    fn reads_from(&self, committed: Option<i64>, needed: Option<i64>) -> Option<i64> {
        committed.into_iter().chain(needed).min()
    }

    /// K7: A record of a route that has the retain flag is open until its copy is in the topic of retained messages. The
    /// next process makes copies only of the records from the commit on.
    fn waits_for_copy(&self) -> bool {
        true
    }

    /// K8: An instance that has given slots back reports it to the group, which gives them to others then.
    fn reports_released(&self) -> bool {
        true
    }

    /// K9: A relayed client stays with the process that has answered its front. One that comes back at once has the slots of the process before it, which the
    /// table names for a second more. Whether the process that the table names has answered.
    fn stays_with(&self, has_answered: bool) -> bool {
        has_answered
    }

    /// K10: An instance that has not heard of its group for too long sends no rows of routes and no CONNACK: another one may have its slots by now. Whether it has not.
    fn is_silent(&self, is_unheard: bool) -> bool {
        is_unheard
    }

    /// K11: A will that was published, or was refused, goes from the log of its session in that turn. The next process does not find it.
    fn ends_will(&self) -> bool {
        true
    }

    /// K12: Rows of a slot that leaves are dropped if they are in no batch yet: its clients may have published later messages at the next owner.
    fn withdraws_rows(&self) -> bool {
        true
    }

    /// K13: The rows that are dropped with a slot are those of its clients, also if their sessions have ended before the slot is lost: a process that stood still
    /// reads the end of a connection before it hears of its group.
    fn withdraws_ended(&self) -> bool {
        true
    }

    /// K14: The log of a slot names the sessions for which it had no room, with the first record of each partition that it has not got for them. The next
    /// process gives them these records, and the others of the slot nothing twice. Whether it names them.
    fn names_behind(&self) -> bool {
        true
    }

    /// G10: A message that has come through this instance before neither comes in nor goes out by a bridge again.
    fn may_come_round(&self) -> bool {
        false
    }
}

/// [`Rules`] with every method as defined.
#[derive(Clone, Copy, Debug)]
pub struct AllKept;

impl Rules for AllKept {}

/// The rules of the product.
pub static KEPT: AllKept = AllKept;

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    const HEAD: &str = "# Guarantees

What [DURABILITY.md](DURABILITY.md) promises depends on these guarantees. Each is a method of `trait Rules` in `crates/base/src/rules.rs`, from
which this page is generated (`FOREBAY_BLESS=1 cargo test -p forebay-base rules`). P1 to P8 are what Kafka requires of an idempotent producer
(KIP-98), S1 to S10 concern the spool, B1 to B14 subscribers, F5 to F8 sources, K1 to K14 logs of sessions in Kafka, copies of retained messages and several instances, Q1 to Q4 rules in SQL, G10 bridges. The simulators replace each with a wrong one and must notice it (`src/sim/wrong.rs`,
[SIMULATION.md](internals/SIMULATION.md)); `scripts/faults broken` does the same to the built service
([FAULTS.md](internals/FAULTS.md)).

| guarantee | what it says | method |
|---|---|---|
";

    const FOOT: &str = "
These guarantees are not methods, since no single decision implements them; tests of `spool` and `data_dir` cover them:

- S4: a reserve of the spool is kept for cuts, ends, releases and moves.
- S6: the memory needed for the spool is about a thousandth of its size.
- S7: damage before what a commit calls durable is set aside and reported; what comes after it is truncated.
- S9: expiry is a wall-clock deadline in the spool; a jump of the clock can only delay it.
- S10: with another number of shards, sessions are moved before a listener opens.
";

    /// The page, from the doc comments of the trait.
    fn page() -> String {
        let (_, from_trait) = include_str!("rules.rs").split_once("pub trait Rules").expect("the trait");
        let (body, _) = from_trait.split_once("\n}\n").expect("its end");
        let (mut page, mut text) = (HEAD.to_owned(), String::new());
        for line in body.lines() {
            if let Some(comment) = line.strip_prefix("    /// ") {
                text = format!("{text} {comment}").trim().to_owned();
            } else if let Some(signature) = line.strip_prefix("    fn ") {
                let method = signature.split('(').next().expect("a name");
                let (code, said) = text.split_once(": ").filter(|(code, _)| code.len() <= 3).unwrap_or(("", &text));
                writeln!(page, "| {code} | {} | `{method}` |", said.replace("[`Rules::", "`").replace("`]", "`"))
                    .expect("a string grows");
                text.clear();
            }
        }
        page + FOOT
    }

    #[test]
    fn the_page_is_made_from_the_rules() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/RULES.md");
        if std::env::var_os("FOREBAY_BLESS").is_some() {
            std::fs::write(path, page()).expect("a page to write");
        }
        assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), page(), "FOREBAY_BLESS=1 writes docs/RULES.md");
    }
}
