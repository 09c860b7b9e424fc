//! A sink's ledger and counters. Plain numbers of one core; at every instant
//! `appended + recovered = delivered + refused + expired + dropped + rotten + handed_over + buffered_rows`.

/// One sink's counters; of rows unless stated otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SinkStats {
    /// Rows taken.
    pub appended: u64,
    /// Rows that an earlier process left in the log.
    pub recovered: u64,
    /// Rows in Kafka.
    pub delivered: u64,
    /// Rows that Kafka refused permanently.
    pub refused: u64,
    /// Rows dropped because they expired before they were cut.
    pub expired: u64,
    /// Rows in the log alone that made room for younger ones.
    pub dropped: u64,
    /// Rows that can no longer be read from the log.
    pub rotten: u64,
    /// Rows of rejected batches that are stored elsewhere.
    pub handed_over: u64,
    /// Rows held now, in memory or in the log.
    pub buffered_rows: u64,
    /// Bytes of the records held in memory now, uncompressed.
    pub buffered_bytes: u64,
    /// Batches cut (a batch that is cut again counts again).
    pub batches: u64,
    /// Rows in the batches cut.
    pub batch_records: u64,
    /// Bytes of the batches cut, after compression.
    pub batch_bytes: u64,
    /// Requests that carried a batch of this sink (counted once, for the sink of its first batch).
    pub requests: u64,
    /// Batches sent again with the same identity.
    pub retries: u64,
    /// Answers with a Kafka error.
    pub errors: u64,
    /// Batches in unanswered requests.
    pub batches_unanswered: u64,
    /// Batches split because Kafka refused them whole.
    pub splits: u64,
    /// Rows written without a timestamp, since Kafka did not take theirs.
    pub without_timestamp: u64,
    /// Topics found to have been recreated.
    pub topics_recreated: u64,
    /// Rows of partitions that were lost by that, placed again.
    pub repartitioned: u64,
    /// Samples (ten per second) at which the sink took half of what drained, since it had a backlog.
    pub paced: u64,
    /// Epochs raised on a partition.
    pub epochs_raised: u64,
    /// Questions to Kafka about a partition's log.
    pub asked: u64,
    /// Rows sent again although an earlier attempt may have been appended and Kafka can no longer tell: they may be
    /// in the log twice.
    pub outcome_unknown: u64,
    /// Times that Kafka's log turned out to lack acknowledged records (a lost leader at `acks` other than all).
    pub acknowledged_lost: u64,
    /// Rows lost in this way, as far as offsets show it: the true number may be higher.
    pub acknowledged_lost_records: u64,
}

impl SinkStats {
    /// Adds another producer's counters.
    pub const fn add(&mut self, other: &Self) {
        let Self {
            appended,
            recovered,
            delivered,
            refused,
            expired,
            dropped,
            rotten,
            handed_over,
            buffered_rows,
            buffered_bytes,
            batches,
            batch_records,
            batch_bytes,
            requests,
            retries,
            errors,
            batches_unanswered,
            splits,
            without_timestamp,
            topics_recreated,
            repartitioned,
            paced,
            epochs_raised,
            asked,
            outcome_unknown,
            acknowledged_lost,
            acknowledged_lost_records,
        } = other;
        self.appended += *appended;
        self.recovered += *recovered;
        self.delivered += *delivered;
        self.refused += *refused;
        self.expired += *expired;
        self.dropped += *dropped;
        self.rotten += *rotten;
        self.handed_over += *handed_over;
        self.buffered_rows += *buffered_rows;
        self.buffered_bytes += *buffered_bytes;
        self.batches += *batches;
        self.batch_records += *batch_records;
        self.batch_bytes += *batch_bytes;
        self.requests += *requests;
        self.retries += *retries;
        self.errors += *errors;
        self.batches_unanswered += *batches_unanswered;
        self.splits += *splits;
        self.without_timestamp += *without_timestamp;
        self.topics_recreated += *topics_recreated;
        self.repartitioned += *repartitioned;
        self.paced += *paced;
        self.epochs_raised += *epochs_raised;
        self.asked += *asked;
        self.outcome_unknown += *outcome_unknown;
        self.acknowledged_lost += *acknowledged_lost;
        self.acknowledged_lost_records += *acknowledged_lost_records;
    }
}
