//! Every bound in one place, each with its reason. Relations between them are held by `const` assertions.
//!
//! What one shard may hold, as a sum: the producers' buffers (`kafka.*.buffer_bytes`, a share each), half-received
//! packets ([`PARTIAL_BYTES_MAX`]), the runtime's receive buffers (1,024 of 4 KiB), out-buffers (the runtime's cap
//! for each connection that does not read), what an idle connection costs (a slot in two tables and a session), and
//! at listeners with receipts one for each sink of a message with an owed answer or an open QoS 2 id
//! (`mqtt.receive_maximum`).

/// Largest CONNECT that is read. Nothing is known of the peer yet, so it is far below `mqtt.packet_bytes_max`; it holds
/// the largest client id, will topic, will payload, user name and password that 3.1.1 can express, together.
pub const CONNECT_BYTES_MAX: u32 = 384 << 10;

/// Largest CONNACK that is read: the longest of its strings, one of each. A remote may add user properties up to that, which nobody reads.
pub const CONNACK_BYTES_MAX: u32 = 384 << 10;

/// The part that one of many may hold of the `rest` of a whole: the free share of it (decision 0013).
#[must_use]
pub const fn part_of(rest: usize, whole: usize) -> usize {
    let whole = if whole == 0 { 1 } else { whole };
    let part = rest as u128 * rest as u128 / whole as u128;
    if part > usize::MAX as u128 { rest } else { part as usize }
}

/// Largest PROXY header of version 2, addresses and the fields after them. Those that proxies write by themselves
/// take tens of bytes; a client's certificate is not forwarded in them. Known before anything beyond its first 16
/// bytes is kept.
pub const PROXY_V2_BYTES_MAX: usize = 4 << 10;

/// Largest header of a link. What a token of [`TOKEN_BYTES_MAX`] can grant takes half of it.
pub const LINK_HEADER_BYTES_MAX: usize = 48 << 10;

/// Clients that an instance remembers to have redirected. A further one is relayed.
pub const REDIRECTED_MAX: usize = 65_536;

/// Bytes of half-received packets on a shard, of all connections together, if [`PARTIAL_PACKETS`] of the largest need no more. Past it the
/// connection that holds most is closed (0x97): a thousand devices that each announce a megabyte and never finish must cost themselves and
/// nobody else.
pub const PARTIAL_BYTES_MAX: usize = 64 << 20;

/// So many packets of `mqtt.packet_bytes_max` may be half received on a shard at a time, however large they are.
pub const PARTIAL_PACKETS: usize = 8;

/// The largest packet that MQTT can express, as clients know the bound: the Remaining Length ends at this, its header not counted.
pub const PACKET_BYTES_MAX: u32 = 268_435_455;

/// See [`PARTIAL_BYTES_MAX`], with this `mqtt.packet_bytes_max`.
#[must_use]
pub const fn partial_bytes_max(packet_bytes_max: u32) -> usize {
    let largest = packet_bytes_max as usize * PARTIAL_PACKETS;
    if largest > PARTIAL_BYTES_MAX { largest } else { PARTIAL_BYTES_MAX }
}

/// Bytes of client identifiers, user names and wills that the sessions of a shard hold. Each may have 64 KiB, so their
/// number alone bounds nothing; past it a CONNECT that would add to them is refused (0x97).
pub const SESSION_BYTES_MAX: usize = 256 << 20;

/// The same for one session that is kept without a connection. It has to fit into an entry of the spool, which takes an eighth of a segment at most, also
/// where segments are as small as they may be.
pub const SESSION_BYTES_EACH_MAX: usize = 96 << 10;

const _: () =
    assert!(SESSION_BYTES_EACH_MAX + (16 << 10) <= (1 << 20) / 8, "smaller than an eighth of the smallest segment");

/// Slots of `[broker]`: partitions of the topic of sessions. The slot of a client is for life, so their number is, too. The first byte of a session's number
/// in a log is its slot.
pub const SLOTS: u16 = 64;

/// Shards of a process: each has a bit in a word, and one is left over.
pub const SHARDS_MAX: usize = 63;

/// What a turn of a shard may take while something waits for the next one: answers, timers, Kafka and copies come at its end. What has not
/// been looked at by then comes first in the next turn.
pub const TURN_TIME: std::time::Duration = std::time::Duration::from_millis(2);

/// Once each connection has had its quantum, a turn goes on with further rounds up to this time: a connection that comes meanwhile waits no longer.
pub const ROUNDS_TIME: std::time::Duration = std::time::Duration::from_micros(500);

/// Packets of a connection in one round, then it is the next one's turn. What costs more counts as several.
pub const QUANTUM_PACKETS: u32 = 256;

/// Bytes of a connection in one round.
pub const QUANTUM_BYTES: usize = 64 << 10;

/// Receive buffers with bytes of one connection that the shard has not looked at. Past it the connection is not read until it has.
pub const READS_WAITING_MAX: usize = 64;

/// Subscriptions of one session. One more is refused (0x97).
pub const SUBSCRIPTIONS_OF_SESSION_MAX: usize = 1_000;

/// Subscriptions of one session to filters that begin with a wildcard and have more than four levels. One more is
/// refused (0x97): each may have to be compared with every message.
pub const WILD_FILTERS_OF_SESSION_MAX: usize = 32;

/// Filters of a shard with the same literal levels in front, or with none, that have no place of their own: each is compared with every message
/// below these levels, 4 ns for each. New ones are refused past that (0x97).
pub const COMPARED_MAX: usize = 1_024;

/// The same of filters that have no shape, as they have more than 32 levels: their texts are compared, 104 ns for each.
pub const COMPARED_TEXTS_MAX: usize = 64;

/// Subscriptions of one session to filters of more than 32 levels. One more is refused (0x97).
pub const DEEP_FILTERS_OF_SESSION_MAX: usize = 32;

/// Shapes of more than four levels that one session brings in: the 64 places are for all.
pub const SHAPES_OF_SESSION_MAX: usize = 8;

/// Shared subscriptions of a process: share names with their filters. One more is refused (0x97).
pub const SHARES_MAX: usize = 10_000;

/// Shared subscriptions with members at an instance of several: each has a group of Kafka, with connections of its own. One more is refused (0x97).
pub const SHARES_OF_INSTANCE_MAX: usize = 64;

/// Bytes that the consumer of such a shared subscription holds, of answers of Kafka and decompressed records.
pub const SHARE_FETCH_BYTES: usize = 8 << 20;

/// How often a shard looks at the messages that wait for members of shared subscriptions there.
pub const SHARES_LOOK: std::time::Duration = std::time::Duration::from_millis(500);

/// A shared subscription that has had its first message wait this long on a shard is served by the members of other
/// shards, if any are online.
pub const SHARE_WAIT: std::time::Duration = std::time::Duration::from_secs(1);

/// Members of shared subscriptions that are asked in one turn whether their clients are late with acknowledging.
pub const SHARE_LATE_LOOKS: usize = 256;

/// Messages that are looked at when a member has room: those in front may be too large for it. And members of which the least busy one
/// gets a message.
pub const SHARE_LOOKS_MAX: usize = 32;

/// Messages that are looked at to hand some of them over, where each has its own shard to go to.
pub const SHARE_HANDED_LOOKS_MAX: usize = 4_096;

/// Bytes of messages that a shard hands over to another one at a time, as that has members online; one that is larger goes alone.
pub const SHARE_BATCH_BYTES: usize = 64 << 10;

/// Topic aliases towards a client, if it takes as many: each costs its topic in memory.
pub const SENT_ALIASES_MAX: u8 = 32;

/// A topic is sent under an alias if it is longer than what an alias takes, three bytes.
pub const SENT_ALIAS_TOPIC_BYTES_MIN: usize = 4;

/// A topic that is longer has no alias: 32 of them are 8 KiB of a connection.
pub const SENT_ALIAS_TOPIC_BYTES_MAX: usize = 256;

/// Copies of messages that a shard makes for subscribers in one turn. What is left comes in the next: a message to 100,000
/// subscribers delays other clients by no more than a turn.
pub const COPIES_PER_TURN: usize = 32_768;

/// A copy for a client without anything else to send counts as this many of [`COPIES_PER_TURN`]: it needs a write of
/// its own, which takes sixteen times as long as the copy.
pub const COPIES_PER_WRITE: usize = 16;

/// Bytes of a packet that count as another copy. So a client has some 16 KiB waiting for its turn to be written to,
/// and no copy is dropped for that ([`crate::config::Delivery::unread_bytes_max`]).
pub const COPY_BYTES: usize = 256;

/// Sessions that get a copy of a message of QoS 2 of a publisher with a kept session in one turn, whatever remains of
/// [`COPIES_PER_TURN`]: they have it in the log together with its exchange, or not at all.
pub const EXCHANGE_COPIES_MAX: usize = COPIES_PER_TURN / COPIES_PER_WRITE;

/// The same as copies of a turn: 32 MiB of a large message.
pub const EXCHANGE_COPIES_PER_TURN: usize = 4 * COPIES_PER_TURN;

/// Connections that a shard writes to in one turn, about a millisecond of the kernel's time. The others wait for the next.
pub const WRITES_PER_TURN: usize = 128;

/// A message with more recipients on a shard is copied and sent behind what others are sent, and they pass it ([`WIDE_COPIES_PER_TURN`],
/// [`LATE_WRITES_PER_TURN`]): a message to thousands of subscribers delays others by no more than a fraction of a millisecond.
pub const RECIPIENTS_MANY: usize = 64;

/// Copies that a shard makes in one turn of messages with more recipients than [`RECIPIENTS_MANY`], beside [`COPIES_PER_TURN`].
pub const WIDE_COPIES_PER_TURN: usize = 256;

/// The same while the shard's clients publish nothing else: longer turns are cheaper, and delay nobody.
pub const WIDE_COPIES_ALONE: usize = 8_192;

/// Bytes of such messages of one publisher and topic that a subscriber gets at once, in one copy and one write. What comes while as many wait for their copies is the
/// next run.
pub const RUN_BYTES_MAX: usize = 16 << 10;

/// Connections that a shard writes such copies to in one turn, beside [`WRITES_PER_TURN`].
pub const LATE_WRITES_PER_TURN: usize = 16;

/// The same in a turn in which more connections have got such copies: each write then has more of them, which is cheaper.
pub const LATE_WRITES_WHILE_MORE_COMES: usize = 8;

/// Messages that wait on a shard for their turn to be copied, in bytes; as many with more recipients than
/// [`RECIPIENTS_MANY`] beside them. Past it publishers of topics with subscribers there, or with that many, are not
/// read; a message that is larger goes alone.
pub const DELIVERY_LINE_BYTES_MAX: usize = 16 << 20;

/// Messages of one shard on their way to the subscribers of another, those under way aside. Past it publishers of topics with
/// subscribers there are not read; a message that is larger goes alone.
pub const PEER_BYTES_MAX: usize = 1 << 20;

/// Parcels of messages under way from one shard to another.
pub const PARCELS_UNDER_WAY_MAX: usize = 2;

/// Retained messages of a shard's publishers that another one, or it, has not told to be on the disk. Past it publishers of retained
/// messages for that shard are not read.
pub const RETAINED_UNCONFIRMED_MAX: usize = 16_384;

/// Retained messages that a shard ends in one turn because they have expired.
pub const RETAINED_EXPIRED_AT_ONCE_MAX: usize = 1_024;

/// Sessions of a shard that are sent retained messages at a time, each with a batch in memory. The others wait in line.
pub const REPLAYS_AT_ONCE_MAX: usize = 64;

/// Bytes of a batch of retained messages; one that is larger goes alone.
pub const REPLAY_BATCH_BYTES: usize = 64 << 10;

/// Topics that are looked at for a batch.
pub const REPLAY_LOOKS_MAX: usize = 256;

/// Batches that a shard takes in one turn from what it retains itself.
pub const REPLAY_LOOKS_PER_TURN: usize = 4;

/// Retained messages that a shard sends in one turn, beside [`COPIES_PER_TURN`]; large ones count as several ([`COPY_BYTES`]).
pub const REPLAY_COPIES_PER_TURN: usize = 256;

/// Replays of records of `[broker]` that run on a shard at a time, each with a consumer of its own. Further ones wait.
pub const RECORD_REPLAYS_AT_ONCE_MAX: usize = 4;

/// Replays of records of a shard, those that wait among them. Past it a subscription that asks for one is refused (0x97).
pub const RECORD_REPLAYS_MAX: usize = 256;

/// Replays of one session.
pub const RECORD_REPLAYS_OF_SESSION_MAX: usize = 16;

/// Bytes that the consumer of a replay holds, of answers of Kafka and decompressed records.
pub const RECORD_REPLAY_FETCH_BYTES: usize = 8 << 20;

/// Subscriptions of a shard for which is known up to which offset a replay that is over has brought a partition's records, in case the live ones are not as far.
/// The oldest are forgotten first.
pub const RECORD_REPLAYS_OVER_MAX: usize = 1_024;

/// Topics that are noted while retained messages are sent to a session, as they came live meanwhile. Past it the rest
/// is asked for again.
pub const REPLAY_NOTES_MAX: usize = 4_096;

/// Messages of QoS 1 and 2 that a client of 5.0 may have been sent and not acknowledged; its Receive Maximum may be less.
pub const SENT_MAX: u16 = 1_024;

/// The same before 5.0, where a client cannot say.
pub const SENT_MAX_3X: u16 = 64;

/// Messages of QoS 1 and 2 that a shard was sent by another one, or by itself, and has not told to be durable for its kept sessions.
/// Past it publishers of topics with subscribers there are not read.
pub const COPIES_UNCONFIRMED_MAX: usize = 16_384;

/// Bytes of all messages of a shard that some session has to remember, each counted once, and of what clients leave unread at QoS 0; with a disk buffer at most half of what that has
/// room for. Past fifteen sixteenths of it the longest queues lose their oldest messages; past it copies for sessions that would have to wait
/// are dropped. Both are counted.
pub const REMEMBERED_BYTES_MAX: usize = 256 << 20;

/// Messages that a shard drops in one turn from the longest queues to make room, about a millisecond.
pub const ROOM_DROPS_PER_TURN: usize = 8_192;

/// Copies of QoS 2 in memory alone that one record of a queue notes before they are sent: the client gets the next ones when there is another record. After a crash
/// each of them costs a PUBREL.
pub const UNLOGGED_NOTED_MAX: usize = 256;

/// Copies of records of sources that clients have left in memory alone, and that a shard writes to its log in one turn.
pub const LEFT_WRITES_PER_TURN: usize = 256;

/// Messages that one queue loses before it is the next one's turn.
pub const ROOM_DROPS_AT_ONCE: usize = 64;

/// Bytes that a subscriber's connection may have unsent when it is sent another message of QoS 1 or 2. Past it the rest waits until half of
/// them have gone ([`crate::runtime::seam::Io::tell_writable`]), so a slow client costs its queue, and no buffer beside it.
pub const SENT_AHEAD_BYTES_MAX: usize = 64 << 10;

/// A buffer for half-received packets is kept for the next one up to this size; larger ones go back to the allocator.
pub const POOLED_TAIL_BYTES_MAX: usize = 16 << 10;

/// The number of such buffers that a shard keeps: one for each connection with a packet that may straddle two reads
/// in one turn.
pub const POOLED_TAILS_MAX: usize = 256;

/// Letters a shard's mailbox holds. Past it connections wait on the shard that accepted them, as below.
pub const MAILBOX_LETTERS_MAX: usize = 4_096;

/// Connections of a shard that wait for room in the mailboxes of others. Past it the connection is closed, and the device
/// connects again.
pub const MOVES_WAITING_MAX: usize = 4_096;

/// Bytes that have been read of them.
pub const MOVES_WAITING_BYTES_MAX: usize = 16 << 20;

/// Dead letters of a shard on their way to one sink's file. Past it refused records stay in the sink's memory, and a
/// message that would become a dead letter at the door stays unread.
pub const DEAD_LETTERS_QUEUED_MAX: usize = 1_024;

/// Their bytes. A letter that is larger goes alone.
pub const DEAD_LETTERS_QUEUED_BYTES_MAX: usize = 4 << 20;

/// Dead letters of one sink and shard that are not safe yet, in its topic or file. Past it the rest waits as above.
pub const DEAD_LETTERS_IN_FLIGHT_MAX: usize = 4_096;

/// Bytes for one device that wait for the disk, before it is not read any more: thousands of answers.
pub const HELD_BYTES_OF_ONE_MAX: usize = 32 << 10;

/// The same for all devices of a shard together.
pub const HELD_BYTES_MAX: usize = 16 << 20;

/// A CONNECT must fit into the bound of half-received packets many times over.
const _: () = assert!(CONNECT_BYTES_MAX as usize * 64 <= PARTIAL_BYTES_MAX);
/// The pool of buffers is small beside what it serves.
const _: () = assert!(POOLED_TAIL_BYTES_MAX * POOLED_TAILS_MAX <= PARTIAL_BYTES_MAX / 8);

/// Events on their way from the shards to the log and the ring. Past it they are dropped, and counted as
/// `events_dropped`.
pub const EVENTS_QUEUED_MAX: usize = 1_024;

/// Clients that come and go, on their way to the ring: the oldest makes room, counted as `events_dropped`. The collector takes
/// some hundred thousand a second.
pub const CONNECTION_EVENTS_QUEUED_MAX: usize = 2_048;

/// Events of a class that `/api/v1/events` can show; the oldest of the class makes room.
pub const EVENTS_KEPT_MAX: usize = 1_024;

/// The same for classes of which clients decide how many there are. Some 1 MB each.
pub const EVENTS_OF_CLIENTS_KEPT_MAX: usize = 4_096;

/// Events of one kind that leave a shard within a second, and all shards together: a port scan must not fill the log. The others are counted
/// as `events_suppressed`, and `events_left_out`.
pub const EVENTS_PER_KIND_PER_S: u8 = 10;

/// Events of one kind about one client, address or sink within a minute: one that is misconfigured does not hide the others, nor take their
/// place in the ring.
pub const EVENTS_PER_SUBJECT_PER_MIN: u8 = 6;

/// Subjects that are counted within a minute; past it all counts are reset.
pub const EVENT_SUBJECTS_MAX: usize = 4_096;

/// Threads of a shard that write, sync and read its files where there is no ring.
pub const FILE_THREADS: usize = 4;

/// What is read of a segment in one go. The kernel copies what it has in memory on the shard's thread: 256 KiB are some
/// 30 us; a disk that seeks for each loses less than half of its speed.
pub const SEGMENT_WINDOW_BYTES: usize = 256 << 10;

/// Windows of segments that a shard keeps, 8 MiB: for each place that is read from in turn two, the one it is in and the
/// one ahead, so sixteen places. More places work, and read windows again. A request that needs more gets more for as
/// long as it waits.
pub const SEGMENT_WINDOWS_MAX: usize = 32;

/// What the disk has failed to read is tried again this much later, if somebody still asks for it: a bad sector may take
/// the disk seconds for each try.
pub const UNREADABLE_AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// A wall clock before this (2026-01-01) is not set: there was no Forebay then. Milliseconds since 1970.
pub const CLOCK_SET_AFTER_MS: i64 = 1_767_225_600_000;

/// Nor is one that is this far behind the newest group that a start finds in the spool.
pub const CLOCK_BEHIND_MS: i64 = 3_600_000;

/// A reader of one place needs the window it is in, the next one, and the one ahead.
const _: () = assert!(SEGMENT_WINDOWS_MAX >= 4);

/// Bytes of rows without a partition that one poll of a producer places: a turn must stay short when a backlog finds its
/// partitions.
pub const PLACED_BYTES_PER_POLL: usize = 512 << 10;

/// Bytes that one poll of a producer reads back from the spool.
pub const LOADED_BYTES_PER_POLL: usize = 1 << 20;

/// Memory for later batches that a producer may keep for good; what is more goes back to the system when it has not been used for
/// [`UNUSED_BUFFERS_LOOK`].
pub const UNUSED_BUFFERS_KEPT_BYTES: usize = 1 << 20;

/// How often that is looked at: what nothing has used from one look to the next is let go of.
pub const UNUSED_BUFFERS_LOOK: std::time::Duration = std::time::Duration::from_secs(8);

/// Bytes of it that one poll of a producer lets go of: to give their pages back takes half a millisecond.
pub const UNUSED_BUFFERS_RELEASED_BYTES: usize = 4 << 20;

/// How long until the next poll that does so: 256 MiB a second, and little of the time.
pub const UNUSED_BUFFERS_PAUSE: std::time::Duration = std::time::Duration::from_millis(16);

/// Free memory of the allocator goes back to the system once it has grown by this much.
pub const TRIMMED_BYTES_MIN: u64 = 8 << 20;

/// Idle topics that one poll of a producer forgets. Others wait for the next one.
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
/// All news of a turn become events within the queue.
const _: () = assert!(NEWS_MAX * 8 <= EVENTS_QUEUED_MAX);

/// Partitions of a topic that a log or a broker may name: any beyond that is no partition that Kafka ever had, but
/// damage or a lie. Each takes some hundred bytes as soon as a higher one has rows.
pub const PARTITIONS_OF_TOPIC_MAX: usize = 100_000;

/// Partitions of all topics of a cluster that a shard keeps, by what brokers say of them. One more topic that would be beyond it is
/// refused with INVALID_PARTITIONS (37). Kafka's own advice for a cluster is 200,000; each takes some 450 bytes.
pub const PARTITIONS_OF_CLUSTER_MAX: usize = 200_000;

/// Rows on the disk alone from which on a sink's intake follows what it drains: a second or so of Kafka's work.
pub const PACED_BACKLOG_ROWS: u64 = 10_000;

/// How often that is looked at, and over how many looks: Kafka's answers come in bursts.
pub const PACE_LOOK: std::time::Duration = std::time::Duration::from_millis(100);
/// See [`PACE_LOOK`].
pub const PACE_LOOKS: usize = 10;

/// Rows that such a sink takes in any case for each look, so that a Kafka that crawls stops no publisher.
pub const PACE_FLOOR_ROWS: u64 = 100;

/// Passwords and tokens of a process that wait to be checked. One more takes the place of the newest of the address that has most.
pub const VERIFIED_MAX: usize = 4_096;

/// The same of one address. One more is refused (0x89).
pub const VERIFIED_OF_ADDRESS_MAX: usize = 64;

/// Their bytes: what 64 of one address may have at most, for sixteen addresses. Passwords of devices have some tens of bytes.
pub const VERIFIED_BYTES_MAX: usize = 8 << 20;

/// The longest token that a client may send, in bytes.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;

const _: () = assert!(VERIFIED_OF_ADDRESS_MAX * TOKEN_BYTES_MAX * 16 <= VERIFIED_BYTES_MAX);

/// The longest password that a client may send, as far as `password_bytes_max` can raise it, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 4 << 10;

/// The most headers of a record that a source makes a message of. They are compared with each other, so their number is bounded; a record
/// with more is a bad record, counted as `headers`.
pub const RECORD_HEADERS_MAX: usize = 256;

/// How often a message may be a record and come back, by sources that feed sinks. What would go around once more is a bad record, counted as
/// `loop`.
pub const RECORD_HOPS_MAX: u8 = 8;

/// Logins of browsers to the control plane, and those by one token: one more ends the one that has done nothing for longest.
pub const LOGINS_MAX: usize = 64;
/// See [`LOGINS_MAX`].
pub const LOGINS_OF_TOKEN_MAX: usize = 8;

/// How long a login lasts.
pub const LOGIN_LASTS: std::time::Duration = std::time::Duration::from_secs(12 * 60 * 60);

/// How long a login may do nothing.
pub const LOGIN_IDLE_MAX: std::time::Duration = std::time::Duration::from_secs(60 * 60);

/// Addresses that have sent wrong tokens to the control plane: one more takes the place of the one that has sent none for longest.
pub const GUESSING_ADDRESSES_MAX: usize = 1_024;

/// The longest wait of such an address before another token of it is looked at.
pub const GUESS_WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(30);

/// How long after its last wrong token an address counts as any other.
pub const GUESS_FORGOTTEN_AFTER: std::time::Duration = std::time::Duration::from_secs(10 * 60);

/// Live streams at a time, and those of one login, token or address.
pub const LIVE_STREAMS_MAX: usize = 32;
/// See [`LIVE_STREAMS_MAX`].
pub const LIVE_STREAMS_OF_ONE_MAX: usize = 8;

/// Sinks in the live stream and in the history: the first of the configuration. The same number of sources, of rules and of clusters.
pub const LIVE_OBJECTS_MAX: usize = 100;

/// Events of one second in the live stream. Those beyond them come in the next second.
pub const LIVE_EVENTS_MAX: usize = 50;

/// Seconds that a live stream may be late before it begins anew.
pub const LIVE_FRAMES_MAX: usize = 16;

/// The history: values of each second, and of each minute.
pub const HISTORY_SECONDS: usize = 15 * 60;
/// See [`HISTORY_SECONDS`].
pub const HISTORY_MINUTES: usize = 24 * 60;

/// Memory of the values of the history. Where it is used up, further clusters, sources and rules have none: 100 sinks take two thirds of it.
pub const HISTORY_BYTES_MAX: usize = 16 << 20;

/// Series that one request for the history may ask for. The 19 buckets of a histogram are one.
pub const HISTORY_SERIES_ASKED_MAX: usize = 32;

/// Messages of one binding that its application is called with, or will be, in bytes. Beyond them the connection to its remote is not read.
pub const CALL_BYTES_MAX: usize = 8 << 20;

/// Names in each list of the topics and clients with the most publishes, on each shard. One more takes the place of the one with the fewest,
/// and its number, which the API shows as the error.
pub const TOP_ENTRIES_MAX: usize = 256;

/// A name in these lists is cut to this many bytes: all of them together are at most 3 MiB on a shard.
pub const TOP_NAME_BYTES_MAX: usize = 1024;

/// Reads of clients, or publishes that nobody wants, to one that is counted in these lists, on average: under load more and more are left out.
pub const TOP_SAMPLES_EVERY_MAX: u32 = 4_096;

/// How often the numbers in these lists are halved, so that what is over goes.
pub const TOP_HALVED_EVERY: std::time::Duration = std::time::Duration::from_secs(60);

/// Traces of clients and topics at a time.
pub const TRACES_MAX: usize = 4;

/// How long a trace goes on at most.
pub const TRACE_LASTS_MAX: std::time::Duration = std::time::Duration::from_secs(60 * 60);

/// Packets of a trace that wait on a shard until the control plane has taken them, and their bytes. More are counted, and left out.
pub const TRACE_WAITING_MAX: usize = 1_024;
/// See [`TRACE_WAITING_MAX`].
pub const TRACE_WAITING_BYTES_MAX: usize = 1 << 20;

/// Packets that a shard notes for traces in one turn. More are counted, and left out.
pub const TRACE_PACKETS_PER_TURN: usize = 256;

/// Packets of a trace that the control plane keeps: the newest.
pub const TRACE_PACKETS_MAX: usize = 4_096;

/// Bytes of a payload in a trace.
pub const TRACE_PAYLOAD_BYTES_MAX: usize = 1_024;

/// Bytes of all that a trace says of one packet beside its payload: text that is longer is cut.
pub const TRACE_TEXT_BYTES_MAX: usize = 1_024;

/// Bytes that traced connections were sent and the shard has not looked at. More are left out, and counted as one packet.
pub const TRACED_SENDS_BYTES_MAX: usize = 1 << 20;

/// Bans at a time, and those of them that are of addresses, which are looked at one by one. One more is refused until others were removed or are
/// over.
pub const BANS_MAX: usize = 10_000;
/// See [`BANS_MAX`].
pub const BANNED_NETWORKS_MAX: usize = 1_000;

/// The reason of a ban, in bytes.
pub const BAN_TEXT_BYTES_MAX: usize = 1_024;

/// Dead letters of a topic that one answer shows, in records; and those that one request sends again.
pub const LETTERS_SHOWN_MAX: usize = 200;
/// See [`LETTERS_SHOWN_MAX`].
pub const LETTERS_SENT_MAX: usize = 1_000;

/// Partitions of a dead-letter topic that is shown. One with more is refused.
pub const LETTER_PARTITIONS_MAX: usize = 128;

/// Ranges of offsets in the note of what was sent again. Beyond that nothing more is sent until letters have gone from their topic.
pub const SENT_RANGES_MAX: usize = 10_000;
