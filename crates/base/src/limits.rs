//! Every bound in one place, each with its reason. `const` assertions check the relations between them.
//!
//! The memory of one shard is bounded by the sum of: the producers' buffers (`kafka.*.buffer_bytes`, a share each), half-received
//! packets ([`PARTIAL_BYTES_MAX`]), the runtime's receive buffers (1,024 of 4 KiB), out-buffers (the runtime's cap for each
//! connection that does not read), idle connections (a slot in two tables and a session each), and at listeners with receipts one
//! receipt for each sink of a message with a pending answer or an open QoS 2 id (`mqtt.receive_maximum`).

/// The largest CONNECT that is read. The peer is unknown at that point, so the bound is far below `mqtt.packet_bytes_max`; it holds
/// the largest client id, will topic, will payload, user name and password that 3.1.1 can express, together.
pub const CONNECT_BYTES_MAX: u32 = 384 << 10;

/// The largest CONNACK that is read: the longest of its strings, one of each. A remote may add user properties up to that, which
/// are ignored.
pub const CONNACK_BYTES_MAX: u32 = 384 << 10;

/// The bytes of a `whole` with `rest` free that one of many users may hold: its share of the free part (decision 0013).
#[must_use]
pub const fn part_of(rest: usize, whole: usize) -> usize {
    let whole = if whole == 0 { 1 } else { whole };
    let part = rest as u128 * rest as u128 / whole as u128;
    if part > usize::MAX as u128 { rest } else { part as usize }
}

/// The largest PROXY header of version 2, addresses and the fields after them. The fields that proxies write by themselves take
/// tens of bytes; a client's certificate is not forwarded in them. The size is known before anything beyond the first 16 bytes is
/// kept.
pub const PROXY_V2_BYTES_MAX: usize = 4 << 10;

/// The largest header of a link. The grants of a token of [`TOKEN_BYTES_MAX`] take at most half of it.
pub const LINK_HEADER_BYTES_MAX: usize = 48 << 10;

/// Bytes of a stream that another instance may send before it has further credit, and so the most that waits here for a relayed client that does not read.
pub const STREAM_WINDOW_BYTES: usize = 64 << 10;

/// The largest credit of a stream that is taken from another instance.
pub const STREAM_CREDIT_MAX: usize = 16 << 20;

/// Unsent bytes of a stream above which a client of another instance is left unread, as one of this instance is that does not take its answers.
pub const STREAM_OUT_BYTES_MAX: usize = 1 << 20;

/// The most bytes of one stream in a row: then the next stream of the trunk has its turn.
pub const TRUNK_FRAME_BYTES_MAX: usize = 16 << 10;

/// Streams of a trunk at which its front makes another one.
pub const TRUNK_STREAMS_OPENED: usize = 1 << 16;

/// Streams of a trunk that another instance may open. One more ends the trunk. Twice [`TRUNK_STREAMS_OPENED`], as the ends of streams are on their way.
pub const TRUNK_STREAMS_MAX: usize = 2 * TRUNK_STREAMS_OPENED;

/// Unsent bytes of a trunk above which its streams wait.
pub const TRUNK_AHEAD_BYTES_MAX: usize = 256 << 10;

const _: () = assert!(LINK_HEADER_BYTES_MAX < STREAM_WINDOW_BYTES && STREAM_WINDOW_BYTES <= STREAM_CREDIT_MAX);

/// Redirected clients that an instance remembers. A further one is relayed.
pub const REDIRECTED_MAX: usize = 65_536;

/// Bytes of half-received packets on a shard, of all connections together, if [`PARTIAL_PACKETS`] of the largest need no more. Past
/// the limit the connection that holds most is closed (0x97): a thousand devices that each announce a megabyte and never finish
/// must harm only themselves.
pub const PARTIAL_BYTES_MAX: usize = 64 << 20;

/// Packets of `mqtt.packet_bytes_max` that may be half received on a shard at a time, however large they are.
pub const PARTIAL_PACKETS: usize = 8;

/// The largest packet that MQTT can express, as clients know the bound: the Remaining Length ends at this, its header not counted.
pub const PACKET_BYTES_MAX: u32 = 268_435_455;

/// See [`PARTIAL_BYTES_MAX`], with this `mqtt.packet_bytes_max`.
#[must_use]
pub const fn partial_bytes_max(packet_bytes_max: u32) -> usize {
    let largest = packet_bytes_max as usize * PARTIAL_PACKETS;
    if largest > PARTIAL_BYTES_MAX { largest } else { PARTIAL_BYTES_MAX }
}

/// Bytes of client identifiers, user names and wills that the sessions of a shard hold. Each of these may have 64 KiB, so the
/// number of sessions alone bounds nothing. Past the limit a CONNECT that would add to them is refused (0x97).
pub const SESSION_BYTES_MAX: usize = 256 << 20;

/// Bytes of client identifier, user name and will of one session that is kept without a connection. They have to fit into an entry
/// of the spool, which takes an eighth of a segment at most, even of the smallest segment.
pub const SESSION_BYTES_EACH_MAX: usize = 96 << 10;

const _: () =
    assert!(SESSION_BYTES_EACH_MAX + (16 << 10) <= (1 << 20) / 8, "smaller than an eighth of the smallest segment");

/// Slots of `[broker]`: partitions of the topic of sessions. The slot of a client is for life, so their number is, too. The first byte of a session's number
/// in a log is its slot.
pub const SLOTS: u16 = 64;

/// Shards of a process: each has a bit in a word, and one bit is spare.
pub const SHARDS_MAX: usize = 63;

/// Time that a turn of a shard may take while there is work for the next one: answers, timers, Kafka and copies come at the end of
/// a turn. Connections that were not served by then come first in the next turn.
pub const TURN_TIME: std::time::Duration = std::time::Duration::from_millis(2);

/// Time up to which a turn goes on with further rounds once each connection has had its quantum: a connection that becomes ready
/// during the turn waits no longer than this.
pub const ROUNDS_TIME: std::time::Duration = std::time::Duration::from_micros(500);

/// Packets of a connection in one round; the next connection is served after that. A packet that costs more counts as several.
pub const QUANTUM_PACKETS: u32 = 256;

/// Bytes of a connection in one round.
pub const QUANTUM_BYTES: usize = 64 << 10;

/// Receive buffers with bytes of one connection that the shard has not looked at. Past the limit the connection is not read until
/// it has.
pub const READS_WAITING_MAX: usize = 64;

/// Subscriptions of one session. One more is refused (0x97).
pub const SUBSCRIPTIONS_OF_SESSION_MAX: usize = 1_000;

/// Subscriptions of one session to filters that begin with a wildcard and have more than four levels. One more is
/// refused (0x97): each may have to be compared with every message.
pub const WILD_FILTERS_OF_SESSION_MAX: usize = 32;

/// Filters of a shard with the same literal levels at the front, or with none, that have no place of their own: each is compared
/// with every message below these levels, 4 ns for each. Past the limit new ones are refused (0x97).
pub const COMPARED_MAX: usize = 1_024;

/// Filters of this kind without a shape, as they have more than 32 levels: their texts are compared, 104 ns for each.
pub const COMPARED_TEXTS_MAX: usize = 64;

/// Subscriptions of one session to filters of more than 32 levels. One more is refused (0x97).
pub const DEEP_FILTERS_OF_SESSION_MAX: usize = 32;

/// Shapes of more than four levels that one session may add: the 64 places are shared by all sessions.
pub const SHAPES_OF_SESSION_MAX: usize = 8;

/// Shared subscriptions of a process: share names with their filters. One more is refused (0x97).
pub const SHARES_MAX: usize = 10_000;

/// Shared subscriptions with members at one of several instances: each has a consumer group in Kafka, with connections of its own.
/// One more is refused (0x97).
pub const SHARES_OF_INSTANCE_MAX: usize = 64;

/// Bytes of Kafka's answers and decompressed records that the consumer of such a shared subscription holds.
pub const SHARE_FETCH_BYTES: usize = 8 << 20;

/// Interval at which a shard looks at messages that wait for members of shared subscriptions there.
pub const SHARES_LOOK: std::time::Duration = std::time::Duration::from_millis(500);

/// Time that the first message of a shared subscription waits on a shard before members of other shards serve the subscription, if
/// any are online.
pub const SHARE_WAIT: std::time::Duration = std::time::Duration::from_secs(1);

/// Members of shared subscriptions that are checked in one turn for late acknowledgements of their clients.
pub const SHARE_LATE_LOOKS: usize = 256;

/// Messages that are looked at when a member has room, as the oldest may be too large for it; and members among which the least
/// busy one gets a message.
pub const SHARE_LOOKS_MAX: usize = 32;

/// Messages that are looked at to hand some of them over, where each message has a shard of its own to go to.
pub const SHARE_HANDED_LOOKS_MAX: usize = 4_096;

/// Bytes of messages that a shard hands over at a time to another one with members online. A larger message goes alone.
pub const SHARE_BATCH_BYTES: usize = 64 << 10;

/// Topic aliases towards a client, if the client takes that many: each costs its topic in memory.
pub const SENT_ALIASES_MAX: u8 = 32;

/// The shortest topic that is sent under an alias: an alias takes three bytes.
pub const SENT_ALIAS_TOPIC_BYTES_MIN: usize = 4;

/// The longest topic that gets an alias: 32 of these are 8 KiB of a connection.
pub const SENT_ALIAS_TOPIC_BYTES_MAX: usize = 256;

/// Copies of messages that a shard makes for subscribers in one turn. The rest is made in the next turn: a message to 100,000
/// subscribers delays other clients by no more than a turn.
pub const COPIES_PER_TURN: usize = 32_768;

/// A copy for a client without anything else to send counts as this many of [`COPIES_PER_TURN`]: it needs a write of
/// its own, which takes sixteen times as long as the copy.
pub const COPIES_PER_WRITE: usize = 16;

/// Bytes of a packet that count as another copy. So a client has some 16 KiB pending before its connection is written to, and no
/// copy is dropped for that ([`crate::config::Delivery::unread_bytes_max`]).
pub const COPY_BYTES: usize = 256;

/// Sessions that get a copy of a message of QoS 2 from a publisher with a kept session in one turn, whatever remains of
/// [`COPIES_PER_TURN`]: the log has their copies together with its exchange, or none of them.
pub const EXCHANGE_COPIES_MAX: usize = COPIES_PER_TURN / COPIES_PER_WRITE;

/// The counterpart of [`COPIES_PER_TURN`] for such sessions: 32 MiB of a large message.
pub const EXCHANGE_COPIES_PER_TURN: usize = 4 * COPIES_PER_TURN;

/// Connections that a shard writes to in one turn, about a millisecond of the kernel's time. The others wait for the next.
pub const WRITES_PER_TURN: usize = 128;

/// Recipients on a shard above which the copies of a message are made and sent after those of other messages, which overtake it
/// ([`WIDE_COPIES_PER_TURN`], [`LATE_WRITES_PER_TURN`]): a message to thousands of subscribers delays others by no more than a
/// fraction of a millisecond.
pub const RECIPIENTS_MANY: usize = 64;

/// Copies that a shard makes in one turn of messages with more recipients than [`RECIPIENTS_MANY`], beside [`COPIES_PER_TURN`].
pub const WIDE_COPIES_PER_TURN: usize = 256;

/// Like [`WIDE_COPIES_PER_TURN`], while the shard's clients publish nothing else: longer turns are cheaper, and delay nobody.
pub const WIDE_COPIES_ALONE: usize = 8_192;

/// Bytes of such messages of one publisher and topic that a subscriber gets in one copy and one write. Messages that arrive while
/// this many bytes are pending form the next run.
pub const RUN_BYTES_MAX: usize = 16 << 10;

/// Connections that a shard writes such copies to in one turn, beside [`WRITES_PER_TURN`].
pub const LATE_WRITES_PER_TURN: usize = 16;

/// Like [`LATE_WRITES_PER_TURN`], for a turn in which more connections have got such copies: each write then carries more copies,
/// which is cheaper.
pub const LATE_WRITES_WHILE_MORE_COMES: usize = 8;

/// Bytes of messages that wait on a shard to be copied; likewise for messages with more recipients than [`RECIPIENTS_MANY`]. Past
/// the limit publishers of topics with subscribers there, or with that many, are not read; a message that is larger goes alone.
pub const DELIVERY_LINE_BYTES_MAX: usize = 16 << 20;

/// Messages of one shard for the subscribers of another, those under way aside. Past the limit publishers of topics with
/// subscribers there are not read; a message that is larger goes alone.
pub const PEER_BYTES_MAX: usize = 1 << 20;

/// Parcels of messages under way from one shard to another.
pub const PARCELS_UNDER_WAY_MAX: usize = 2;

/// Retained messages of a shard's publishers that their shard, another one or the same, has not confirmed to be durable. Past the
/// limit publishers of retained messages for that shard are not read.
pub const RETAINED_UNCONFIRMED_MAX: usize = 16_384;

/// Retained messages that a shard ends in one turn because they have expired.
pub const RETAINED_EXPIRED_AT_ONCE_MAX: usize = 1_024;

/// Sessions of a shard that are sent retained messages at a time, each with a batch in memory. The others wait in line.
pub const REPLAYS_AT_ONCE_MAX: usize = 64;

/// Bytes of a batch of retained messages; a larger message goes alone.
pub const REPLAY_BATCH_BYTES: usize = 64 << 10;

/// Topics that are looked at for a batch.
pub const REPLAY_LOOKS_MAX: usize = 256;

/// Batches that a shard takes in one turn from its own retained messages.
pub const REPLAY_LOOKS_PER_TURN: usize = 4;

/// Retained messages that a shard sends in one turn, beside [`COPIES_PER_TURN`]; large ones count as several ([`COPY_BYTES`]).
pub const REPLAY_COPIES_PER_TURN: usize = 256;

/// Replays of records of `[broker]` that run on a shard at a time, each with a consumer of its own. Further ones wait.
pub const RECORD_REPLAYS_AT_ONCE_MAX: usize = 4;

/// Replays of records of a shard, waiting ones included. Past the limit a subscription that asks for one is refused (0x97).
pub const RECORD_REPLAYS_MAX: usize = 256;

/// Replays of one session.
pub const RECORD_REPLAYS_OF_SESSION_MAX: usize = 16;

/// Bytes that the consumer of a replay holds, of answers of Kafka and decompressed records.
pub const RECORD_REPLAY_FETCH_BYTES: usize = 8 << 20;

/// Subscriptions of a shard with the offset up to which a finished replay has delivered a partition's records, in case the live
/// ones are not as far. The oldest are forgotten first.
pub const RECORD_REPLAYS_OVER_MAX: usize = 1_024;

/// Topics with live messages that are noted while retained messages are sent to a session. Past the limit the rest of the retained
/// messages is requested again.
pub const REPLAY_NOTES_MAX: usize = 4_096;

/// Messages of QoS 1 and 2 that a client of 5.0 may have been sent and not acknowledged; its Receive Maximum may be less.
pub const SENT_MAX: u16 = 1_024;

/// Like [`SENT_MAX`], for clients before 5.0, which cannot set a maximum.
pub const SENT_MAX_3X: u16 = 64;

/// Messages of QoS 1 and 2 that a shard got from another one, or from itself, and has not confirmed to be durable for its kept
/// sessions. Past the limit publishers of topics with subscribers there are not read.
pub const COPIES_UNCONFIRMED_MAX: usize = 16_384;

/// Bytes of all messages of a shard that some session remembers, each counted once, and of messages of QoS 0 that clients leave
/// unread; with a disk buffer at most half of its room. Past fifteen sixteenths of the limit the longest queues lose their oldest
/// messages; past the limit copies for sessions that would have to queue them are dropped. Both are counted.
pub const REMEMBERED_BYTES_MAX: usize = 256 << 20;

/// Messages that a shard drops in one turn from the longest queues to make room, about a millisecond.
pub const ROOM_DROPS_PER_TURN: usize = 8_192;

/// Copies of QoS 2 in memory alone that one record of a queue notes before they are sent: the client gets further ones after the
/// next record. After a crash each of them costs a PUBREL.
pub const UNLOGGED_NOTED_MAX: usize = 256;

/// Copies of records of sources that clients have left in memory alone, and that a shard writes to its log in one turn.
pub const LEFT_WRITES_PER_TURN: usize = 256;

/// Messages that one queue loses before the next queue does.
pub const ROOM_DROPS_AT_ONCE: usize = 64;

/// Unsent bytes of a subscriber's connection up to which it is sent another message of QoS 1 or 2. Past the limit messages wait
/// until half of the bytes have been sent ([`crate::runtime::seam::Io::tell_writable`]), so a slow client fills its queue, and no
/// other buffer.
pub const SENT_AHEAD_BYTES_MAX: usize = 64 << 10;

/// The largest buffer for half-received packets that is kept for the next one; larger ones are returned to the allocator.
pub const POOLED_TAIL_BYTES_MAX: usize = 16 << 10;

/// The number of such buffers that a shard keeps: one for each connection with a packet that may straddle two reads
/// in one turn.
pub const POOLED_TAILS_MAX: usize = 256;

/// Letters of a shard's mailbox. Past the limit connections wait on the shard that accepted them, as below.
pub const MAILBOX_LETTERS_MAX: usize = 4_096;

/// Connections of a shard that wait for room in the mailboxes of others. Past the limit a connection is closed, and the device
/// connects again.
pub const MOVES_WAITING_MAX: usize = 4_096;

/// Bytes that have been read of such connections.
pub const MOVES_WAITING_BYTES_MAX: usize = 16 << 20;

/// Dead letters of a shard that wait for one sink's file. Past the limit refused records stay in the sink's memory, and a message
/// that would become a dead letter on receipt stays unread.
pub const DEAD_LETTERS_QUEUED_MAX: usize = 1_024;

/// Bytes of such dead letters. A larger letter goes alone.
pub const DEAD_LETTERS_QUEUED_BYTES_MAX: usize = 4 << 20;

/// Dead letters of one sink and shard that are not durable yet, in its topic or file. Past the limit the others wait as above.
pub const DEAD_LETTERS_IN_FLIGHT_MAX: usize = 4_096;

/// Bytes held for one device until the disk has confirmed, past which it is not read: thousands of answers.
pub const HELD_BYTES_OF_ONE_MAX: usize = 32 << 10;

/// The counterpart of [`HELD_BYTES_OF_ONE_MAX`] for all devices of a shard together.
pub const HELD_BYTES_MAX: usize = 16 << 20;

/// A CONNECT must fit into the bound of half-received packets many times over.
const _: () = assert!(CONNECT_BYTES_MAX as usize * 64 <= PARTIAL_BYTES_MAX);
/// The pool of buffers is small compared with the half-received packets that it serves.
const _: () = assert!(POOLED_TAIL_BYTES_MAX * POOLED_TAILS_MAX <= PARTIAL_BYTES_MAX / 8);

/// Events under way from the shards to the log and the ring. Past the limit they are dropped, and counted as `events_dropped`.
pub const EVENTS_QUEUED_MAX: usize = 1_024;

/// Events of clients that connect and disconnect, under way to the ring: the oldest makes room, counted as `events_dropped`. The
/// collector takes some hundred thousand a second.
pub const CONNECTION_EVENTS_QUEUED_MAX: usize = 2_048;

/// Events of a class that `/api/v1/events` can show; the oldest of the class makes room.
pub const EVENTS_KEPT_MAX: usize = 1_024;

/// Events of a class that clients can cause in any number that are kept. Some 1 MB for each class.
pub const EVENTS_OF_CLIENTS_KEPT_MAX: usize = 4_096;

/// Events of one kind that leave a shard within a second, and all shards together: a port scan must not fill the log. Further ones
/// are counted as `events_suppressed`, and `events_left_out`.
pub const EVENTS_PER_KIND_PER_S: u8 = 10;

/// Events of one kind about one client, address or sink within a minute: a misconfigured one does not hide the others, nor take
/// their place in the ring.
pub const EVENTS_PER_SUBJECT_PER_MIN: u8 = 6;

/// Events about dropped messages of QoS 0 that a shard reports within a minute. All are counted.
pub const QOS0_DROPS_TOLD_PER_MIN: u8 = 6;

/// Subjects that are counted within a minute; past it all counts are reset.
pub const EVENT_SUBJECTS_MAX: usize = 4_096;

/// Threads of a shard that write, sync and read its files where there is no ring.
pub const FILE_THREADS: usize = 4;

/// Bytes of a segment that one read fetches. The kernel copies cached data on the shard's thread: 256 KiB are some 30 us. A disk
/// that seeks for each read loses less than half of its speed.
pub const SEGMENT_WINDOW_BYTES: usize = 256 << 10;

/// Windows of segments that a shard keeps, 8 MiB. Each place that is read in turn needs two, the current one and the one ahead, so
/// sixteen places fit. More places work, but windows are read again. A request that needs more windows gets them until it has been
/// served.
pub const SEGMENT_WINDOWS_MAX: usize = 32;

/// Time after which a failed read of the disk is retried, if a reader still asks for the bytes: a bad sector may take the disk
/// seconds for each attempt.
pub const UNREADABLE_AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// Time before which a wall clock counts as not set (2026-01-01): there was no Forebay then. Milliseconds since 1970.
pub const CLOCK_SET_AFTER_MS: i64 = 1_767_225_600_000;

/// A clock this far behind the newest group of the spool, when the process starts, counts as not set either.
pub const CLOCK_BEHIND_MS: i64 = 3_600_000;

/// A reader of one place needs the current window, the next one, and the one ahead.
const _: () = assert!(SEGMENT_WINDOWS_MAX >= 4);

/// Bytes of rows without a partition that one poll of a producer assigns to partitions: a turn must stay short when the partitions
/// of a backlog become known.
pub const PLACED_BYTES_PER_POLL: usize = 512 << 10;

/// Bytes that one poll of a producer reads back from the spool.
pub const LOADED_BYTES_PER_POLL: usize = 1 << 20;

/// Memory for later batches that a producer may keep for good; memory beyond that is returned to the system when it has not been
/// used for [`UNUSED_BUFFERS_LOOK`].
pub const UNUSED_BUFFERS_KEPT_BYTES: usize = 1 << 20;

/// Interval of that check: memory that nothing has used from one check to the next is released.
pub const UNUSED_BUFFERS_LOOK: std::time::Duration = std::time::Duration::from_secs(8);

/// Bytes of such memory that one poll of a producer releases: returning their pages takes half a millisecond.
pub const UNUSED_BUFFERS_RELEASED_BYTES: usize = 4 << 20;

/// Time until the next poll that releases memory: 256 MiB a second, and little of the time.
pub const UNUSED_BUFFERS_PAUSE: std::time::Duration = std::time::Duration::from_millis(16);

/// Growth of the allocator's free memory after which it is returned to the system.
pub const TRIMMED_BYTES_MIN: u64 = 8 << 20;

/// Idle topics that one poll of a producer forgets. Further ones wait for the next poll.
pub const FORGOTTEN_MAX: usize = 1_024;

/// News of a producer that wait to be read, which is once a turn. News beyond them are left out, and counted.
pub const NEWS_MAX: usize = 64;

/// Questions of a producer about the ends of logs at one time (`acks = "leader"`, after a leader has moved). Beyond that a
/// loss shows with the partition's next batch, or not at all.
pub const LOG_END_QUESTIONS_MAX: usize = 1_024;

/// A poll reads back no more than two polls place.
const _: () = assert!(LOADED_BYTES_PER_POLL <= 2 * PLACED_BYTES_PER_POLL);
/// A poll reads a few windows of segments, not all there are.
const _: () = assert!(LOADED_BYTES_PER_POLL <= SEGMENT_WINDOWS_MAX / 4 * SEGMENT_WINDOW_BYTES);
/// All news of a turn fit into the queue of events.
const _: () = assert!(NEWS_MAX * 8 <= EVENTS_QUEUED_MAX);

/// Partitions of a topic that a log or a broker may name. Kafka never had a partition beyond that: a higher number is damage or a
/// lie. Each takes some hundred bytes as soon as a higher one has rows.
pub const PARTITIONS_OF_TOPIC_MAX: usize = 100_000;

/// Partitions of all topics of a cluster that a shard keeps, as brokers report them. A further topic past the limit is refused with
/// INVALID_PARTITIONS (37). Kafka's own advice for a cluster is 200,000; each takes some 450 bytes.
pub const PARTITIONS_OF_CLUSTER_MAX: usize = 200_000;

/// Rows on the disk alone from which on a sink's intake follows its output: a second or so of Kafka's work.
pub const PACED_BACKLOG_ROWS: u64 = 10_000;

/// Interval of that check, and the number of checks that count: Kafka's answers come in bursts.
pub const PACE_LOOK: std::time::Duration = std::time::Duration::from_millis(100);
/// See [`PACE_LOOK`].
pub const PACE_LOOKS: usize = 10;

/// Rows that such a sink takes in any case between two checks, so that a slow Kafka stops no publisher.
pub const PACE_FLOOR_ROWS: u64 = 100;

/// Passwords and tokens of a process that wait for verification. One more replaces the newest of the address that has most.
pub const VERIFIED_MAX: usize = 4_096;

/// Like [`VERIFIED_MAX`], for one address. One more is refused (0x89).
pub const VERIFIED_OF_ADDRESS_MAX: usize = 64;

/// Bytes of these passwords and tokens: the most that 64 of one address can have, for sixteen addresses. Passwords of devices have
/// some tens of bytes.
pub const VERIFIED_BYTES_MAX: usize = 8 << 20;

/// The longest token that a client may send, in bytes.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;

const _: () = assert!(VERIFIED_OF_ADDRESS_MAX * TOKEN_BYTES_MAX * 16 <= VERIFIED_BYTES_MAX);

/// The highest value of `password_bytes_max`: the longest password that a client may send, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 4 << 10;

/// The most headers of a record that a source makes a message of. Headers are compared with each other, so their number is bounded;
/// a record with more is a bad record, counted as `headers`.
pub const RECORD_HEADERS_MAX: usize = 256;

/// Times that a message may be a record and come back, through sources that feed sinks. A record that would exceed this is a bad
/// record, counted as `loop`.
pub const RECORD_HOPS_MAX: u8 = 8;

/// Logins of browsers to the control plane, and those by one token: one more ends the one that has been idle longest.
pub const LOGINS_MAX: usize = 64;
/// See [`LOGINS_MAX`].
pub const LOGINS_OF_TOKEN_MAX: usize = 8;

/// Lifetime of a login.
pub const LOGIN_LASTS: std::time::Duration = std::time::Duration::from_secs(12 * 60 * 60);

/// Time after which an idle login ends.
pub const LOGIN_IDLE_MAX: std::time::Duration = std::time::Duration::from_secs(60 * 60);

/// Addresses that have sent wrong tokens to the control plane: one more replaces the one with the oldest wrong token.
pub const GUESSING_ADDRESSES_MAX: usize = 1_024;

/// The longest delay before another token of such an address is checked.
pub const GUESS_WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(30);

/// Time after its last wrong token at which an address is forgotten.
pub const GUESS_FORGOTTEN_AFTER: std::time::Duration = std::time::Duration::from_secs(10 * 60);

/// Live streams at a time, and those of one login, token or address.
pub const LIVE_STREAMS_MAX: usize = 32;
/// See [`LIVE_STREAMS_MAX`].
pub const LIVE_STREAMS_OF_ONE_MAX: usize = 8;

/// Sinks in the live stream and in the history, the first ones of the configuration; likewise sources, rules and clusters.
pub const LIVE_OBJECTS_MAX: usize = 100;

/// Events of one second in the live stream. Further events are sent in the next second.
pub const LIVE_EVENTS_MAX: usize = 50;

/// Seconds that a live stream may be late before it starts over.
pub const LIVE_FRAMES_MAX: usize = 16;

/// The history: values of each second, and of each minute.
pub const HISTORY_SECONDS: usize = 15 * 60;
/// See [`HISTORY_SECONDS`].
pub const HISTORY_MINUTES: usize = 24 * 60;

/// Memory for the values of the history. Once it is used up, further clusters, sources and rules have no history: 100 sinks take
/// two thirds of it.
pub const HISTORY_BYTES_MAX: usize = 16 << 20;

/// Series that one request for the history may ask for. The 19 buckets of a histogram are one.
pub const HISTORY_SERIES_ASKED_MAX: usize = 32;

/// Bytes of messages of one binding that its application is being called with, or will be. Past the limit the connection to its
/// remote is not read.
pub const CALL_BYTES_MAX: usize = 8 << 20;

/// Names in each list of the topics and clients with the most publishes, on each shard. A further name replaces the one with the
/// fewest and takes over its number, which the API shows as the error.
pub const TOP_ENTRIES_MAX: usize = 256;

/// Bytes to which a name in these lists is cut: all of them together are at most 3 MiB on a shard.
pub const TOP_NAME_BYTES_MAX: usize = 1024;

/// Reads of clients, or publishes without subscribers, per one that is counted in these lists, on average: under load more and more
/// are left out.
pub const TOP_SAMPLES_EVERY_MAX: u32 = 4_096;

/// Interval at which the numbers in these lists are halved, so that old activity fades.
pub const TOP_HALVED_EVERY: std::time::Duration = std::time::Duration::from_secs(60);

/// Traces of clients and topics at a time.
pub const TRACES_MAX: usize = 4;

/// The longest duration of a trace.
pub const TRACE_LASTS_MAX: std::time::Duration = std::time::Duration::from_secs(60 * 60);

/// Packets of a trace that wait on a shard until the control plane has taken them, and their bytes. Further packets are counted,
/// and left out.
pub const TRACE_WAITING_MAX: usize = 1_024;
/// See [`TRACE_WAITING_MAX`].
pub const TRACE_WAITING_BYTES_MAX: usize = 1 << 20;

/// Packets that a shard notes for traces in one turn. Further packets are counted, and left out.
pub const TRACE_PACKETS_PER_TURN: usize = 256;

/// Packets of a trace that the control plane keeps: the newest.
pub const TRACE_PACKETS_MAX: usize = 4_096;

/// Bytes of a payload in a trace.
pub const TRACE_PAYLOAD_BYTES_MAX: usize = 1_024;

/// Bytes of a packet's text in a trace besides its payload: longer text is cut.
pub const TRACE_TEXT_BYTES_MAX: usize = 1_024;

/// Bytes sent to traced connections that the shard has not looked at. Further bytes are left out, and counted as one packet.
pub const TRACED_SENDS_BYTES_MAX: usize = 1 << 20;

/// Bans at a time, and those of addresses, which are compared one by one. A further ban is refused until one has been removed or
/// has expired.
pub const BANS_MAX: usize = 10_000;
/// See [`BANS_MAX`].
pub const BANNED_NETWORKS_MAX: usize = 1_000;

/// The reason of a ban, in bytes.
pub const BAN_TEXT_BYTES_MAX: usize = 1_024;

/// Dead letters of a topic in one answer, in records; and those that one request sends again.
pub const LETTERS_SHOWN_MAX: usize = 200;
/// See [`LETTERS_SHOWN_MAX`].
pub const LETTERS_SENT_MAX: usize = 1_000;

/// The most partitions of a dead-letter topic that is shown. A topic with more is refused.
pub const LETTER_PARTITIONS_MAX: usize = 128;

/// Ranges of offsets in the note of dead letters that were sent again. Past the limit no more are sent until letters have gone from
/// their topic.
pub const SENT_RANGES_MAX: usize = 10_000;
