//! Every metric: its name, its labels, its meaning, and its place on the board. The one table from which `/metrics` is made.

/// The kind of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number that only grows.
    Counter,
    /// A number that only grows, counted in milliseconds and shown in seconds.
    CounterMillis,
    /// Goes up and down.
    Gauge,
    /// The time since when something is so, in milliseconds since 1970; 0: it is not. Shown as a gauge of the seconds since then,
    /// which grow while an idle shard writes nothing.
    Age,
    /// A number on the board only: a histogram shows it.
    Internal,
}

/// One metric of a table. Consecutive rows with the same name are one family, and their labels differ.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Name without the `forebay_` prefix (and without `_total`, which is added to counters).
    pub name: &'static str,
    /// One label with its value, where the family has several rows.
    pub label: Option<(&'static str, &'static str)>,
    /// One sentence; that of a family's first row is shown.
    pub help: &'static str,
    /// Counter or gauge.
    pub kind: Kind,
}

impl Spec {
    /// The name on `/metrics`, without `_total`. Numbers of the process have the names that every client library uses.
    #[must_use]
    pub fn full_name(&self) -> String {
        if self.name.starts_with("process_") { self.name.to_owned() } else { format!("forebay_{}", self.name) }
    }
}

macro_rules! table {
    ($(#[$doc:meta])* $enum:ident, $table:ident,
     [$($variant:ident, $kind:ident, $name:literal $({$key:ident = $value:literal})?, $help:literal;)*]) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum $enum {
            $(#[doc = $help] $variant,)*
        }

        impl $enum {
            /// The number of rows.
            pub const COUNT: usize = [$($enum::$variant),*].len();
        }

        $(#[$doc])*
        pub const $table: [Spec; $enum::COUNT] = [
            $(Spec {
                name: $name,
                label: table!(@label $($key, $value)?),
                help: $help,
                kind: Kind::$kind,
            },)*
        ];
    };
    (@label) => { None };
    (@label $key:ident, $value:literal) => { Some((stringify!($key), $value)) };
}

table!(
    /// Numbers of a shard.
    ShardMetric, SHARD, [
    ConnectionsOpen, Gauge, "connections", "Open client connections.";
    ConnectionsAccepted, Counter, "connections_accepted", "Connections accepted.";
    AcceptPauses, Counter, "accept_pauses", "Pauses before a listener accepted its next connection, because of `connect_rate`.";
    ConnectionsMoved, Counter, "connections_handed_over", "Connections handed over to the shard that owns their client id.";
    ConnectTimeouts, Counter, "connections_closed"{reason = "connect_timeout"}, "Connections closed by the server, by reason.";
    ProxyHeadersRefused, Counter, "connections_closed"{reason = "proxy_header"}, "The first bytes were not a PROXY header that the listener accepts.";
    ProxyUnknown, Counter, "connections_closed"{reason = "proxy_from"}, "The connection did not come from a proxy of the listener's `proxy_from`.";
    ConnectionsMoveRefused, Counter, "connections_closed"{reason = "handover_failed"}, "The mailbox of the owning shard stayed full for `connect_timeout`, or too many connections waited for it.";
    RelaysTimedOut, Counter, "connections_closed"{reason = "no_owner"}, "No instance has answered the CONNECT within `connect_timeout`.";
    KeepAliveTimeouts, Counter, "connections_closed"{reason = "keep_alive_timeout"}, "No packet within 1.5 times the keep-alive.";
    AnswerTimeouts, Counter, "connections_closed"{reason = "answer_timeout"}, "A PUBACK or PUBREC was held longer than `answer_timeout`.";
    ListenerRemovals, Counter, "connections_closed"{reason = "listener_removed"}, "The listener was removed from the configuration.";
    Takeovers, Counter, "connections_closed"{reason = "session_taken_over"}, "The same client id connected again.";
    DoorFull, Counter, "connections_closed"{reason = "unauthenticated_max"}, "Too many connections had not completed CONNECT.";
    ListenerFull, Counter, "connections_closed"{reason = "connections_max"}, "Too many connections at the listener.";
    AddressFull, Counter, "connections_closed"{reason = "connections_per_address"}, "Too many connections from the address.";
    FailuresFull, Counter, "connections_closed"{reason = "failures_per_address"}, "Too many failures to log in from the address within a minute.";
    MalformedPackets, Counter, "connections_closed"{reason = "protocol_error"}, "A packet violated the MQTT standard.";
    PartialQuotaCloses, Counter, "connections_closed"{reason = "partial_packets"}, "Half-received packets filled their memory limit.";
    PublishNotExpressible, Counter, "connections_closed"{reason = "publish_refused"}, "A PUBLISH was refused, and MQTT 3.x has no reason code to say so.";
    ConnectsAccepted, Counter, "connects"{result = "accepted"}, "CONNECT packets answered, by result.";
    ConnectsRefused, Counter, "connects"{result = "refused"}, "Refused, or what came first was not a CONNECT.";
    AuthAccepted, Counter, "authentications"{result = "accepted"}, "CONNECT packets at listeners with `auth`, by result: admitted.";
    AuthRefused, Counter, "authentications"{result = "refused"}, "Wrong or missing credentials.";
    AuthBusy, Counter, "authentications"{result = "busy"}, "Too many passwords were waiting to be checked.";
    AuthWaiting, Gauge, "authentications_waiting", "CONNECT packets whose password or token is being checked.";
    AccessRevoked, Counter, "access_revoked", "Clients disconnected because their user was removed or has another password, their certificate was revoked, or the key of their token was withdrawn; sessions of clients that were away, ended because their user was removed.";
    AccessExpired, Counter, "access_expired", "Clients disconnected because their token had expired.";
    PublishesDenied, Counter, "acl_denied"{operation = "publish"}, "What the access control list denied, by operation: PUBLISH.";
    WillsDenied, Counter, "acl_denied"{operation = "will"}, "Will messages that were not published.";
    RetainedDenied, Counter, "acl_denied"{operation = "retained"}, "Retained messages that were not sent for a new subscription, because their publisher may not publish them any more.";
    SubscriptionsDenied, Counter, "acl_denied"{operation = "subscribe"}, "Topic filters of SUBSCRIBE packets, and subscriptions that a reload has ended.";
    TlsFull13, Counter, "tls_handshakes"{kind = "full_1.3"}, "TLS handshakes of clients completed, by kind and version: full, TLS 1.3.";
    TlsResumed13, Counter, "tls_handshakes"{kind = "resumed_1.3"}, "Resumed with a ticket, TLS 1.3.";
    TlsFull12, Counter, "tls_handshakes"{kind = "full_1.2"}, "Full, TLS 1.2.";
    TlsResumed12, Counter, "tls_handshakes"{kind = "resumed_1.2"}, "Resumed with a ticket, TLS 1.2.";
    TlsOtherProtocol, Counter, "tls_failures"{reason = "not_tls"}, "TLS connections of clients that failed, by reason: the first bytes were not TLS.";
    TlsNothingInCommon, Counter, "tls_failures"{reason = "nothing_in_common"}, "No version, cipher suite or application protocol (ALPN) that both sides have.";
    TlsCertificateMissing, Counter, "tls_failures"{reason = "certificate_missing"}, "No client certificate, and the listener requires one.";
    TlsCertificateExpired, Counter, "tls_failures"{reason = "certificate_expired"}, "The client certificate has expired, or is not valid yet.";
    TlsCertificateRevoked, Counter, "tls_failures"{reason = "certificate_revoked"}, "The client certificate was revoked, or no CRL says whether it was.";
    TlsCertificateInvalid, Counter, "tls_failures"{reason = "certificate_invalid"}, "The client certificate was refused for another reason, such as an unknown CA.";
    TlsAlert, Counter, "tls_failures"{reason = "alert"}, "The client refused to continue, mostly because of the server's certificate.";
    TlsProtocol, Counter, "tls_failures"{reason = "protocol"}, "The client violated the TLS protocol.";
    TlsMemory, Counter, "tls_failures"{reason = "memory"}, "Records that had not arrived completely filled their memory limit.";
    WsUpgraded, Counter, "websocket_requests"{result = "accepted"}, "Requests for a WebSocket, by result.";
    WsRefused, Counter, "websocket_requests"{result = "refused"}, "Answered with 4xx.";
    WsClosedProtocol, Counter, "websocket_violations"{code = "1002"}, "WebSocket connections closed for what the client sent, by close code: a violation of the protocol.";
    WsClosedText, Counter, "websocket_violations"{code = "1003"}, "A text frame.";
    MovesWaiting, Gauge, "handovers_waiting", "Connections that wait to be handed over, because the mailbox of the owning shard is full.";
    Unauthenticated, Gauge, "connections_unauthenticated", "Connections that have not completed CONNECT.";
    Sessions, Gauge, "sessions", "Sessions held, connected or not.";
    SessionsKept, Gauge, "sessions_stored", "Sessions on disk; they survive a restart.";
    KeptRecords, Gauge, "spool_kept_records", "Records of sessions, their queues, queued and retained messages on disk.";
    SessionsEvicted, Counter, "sessions_evicted", "Sessions without a connection that were ended to make room for others.";
    SessionsExpired, Counter, "sessions_expired", "Sessions that ended because their client had been away for longer than their Session Expiry Interval.";
    BytesReceived, Counter, "mqtt_received_bytes", "Bytes received from clients.";
    BytesSent, Counter, "mqtt_sent_bytes", "Bytes sent to clients.";
    PubAcksReceived, Counter, "control_packets_received"{type = "puback"}, "Packets of connected clients by type; PUBLISH is in `publishes_received`, CONNECT in `connects`.";
    PubRecsReceived, Counter, "control_packets_received"{type = "pubrec"}, "PUBREC.";
    PubRelsReceived, Counter, "control_packets_received"{type = "pubrel"}, "PUBREL.";
    PubCompsReceived, Counter, "control_packets_received"{type = "pubcomp"}, "PUBCOMP.";
    SubscribesReceived, Counter, "control_packets_received"{type = "subscribe"}, "SUBSCRIBE.";
    UnsubscribesReceived, Counter, "control_packets_received"{type = "unsubscribe"}, "UNSUBSCRIBE.";
    PingsReceived, Counter, "control_packets_received"{type = "pingreq"}, "PINGREQ.";
    DisconnectsReceived, Counter, "control_packets_received"{type = "disconnect"}, "DISCONNECT.";
    AuthsReceived, Counter, "control_packets_received"{type = "auth"}, "AUTH.";
    RuleEventsConnected, Counter, "rule_events_dropped"{event = "client_connected"}, "Events for rules that were dropped, as there was no room for what the rules make of them, or more than 1,024 came at a time.";
    RuleEventsDisconnected, Counter, "rule_events_dropped"{event = "client_disconnected"}, "A connection has ended.";
    RuleEventsConnack, Counter, "rule_events_dropped"{event = "client_connack"}, "A CONNECT was answered.";
    RuleEventsAuthn, Counter, "rule_events_dropped"{event = "client_check_authn_complete"}, "A client was admitted or refused.";
    RuleEventsSubscribed, Counter, "rule_events_dropped"{event = "session_subscribed"}, "A client has subscribed.";
    RuleEventsUnsubscribed, Counter, "rule_events_dropped"{event = "session_unsubscribed"}, "A client has ended a subscription.";
    RuleEventsMessageDropped, Counter, "rule_events_dropped"{event = "message_dropped"}, "Nobody wanted a message.";
    RuleEventsDeliveryDropped, Counter, "rule_events_dropped"{event = "delivery_dropped"}, "A copy of a message was dropped.";
    RuleEventsPing, Counter, "rule_events_dropped"{event = "client_ping"}, "A client has sent PINGREQ.";
    PublishesQos0, Counter, "publishes_received"{qos = "0"}, "PUBLISH packets received, by QoS; duplicates of QoS 2 are not counted.";
    PublishesQos1, Counter, "publishes_received"{qos = "1"}, "At QoS 1.";
    PublishesQos2, Counter, "publishes_received"{qos = "2"}, "At QoS 2.";
    PublishBytes, Counter, "publish_payload_received_bytes", "Bytes of the payloads of PUBLISH packets received, repeats of QoS 2 not counted.";
    Wills, Counter, "wills_published", "Will messages published because a client disconnected without DISCONNECT.";
    WillsWaiting, Gauge, "wills_waiting", "Will messages that are due and wait for room.";
    WillsNotStored, Counter, "wills_not_stored", "Wills of sessions that end with their connection for which the log had no room: they are lost if the process dies.";
    PublishesRepeated, Counter, "publishes_duplicate", "QoS 2 PUBLISH packets recognized as duplicates and not taken again.";
    PublishesMatched, Counter, "publishes_routed"{result = "matched"}, "Publishes, those of the admin API and wills by what became of them: matched by at least one sink or subscription.";
    PublishesUnmatched, Counter, "publishes_routed"{result = "unmatched"}, "No filter of a sink or subscription matched.";
    PublishesRefused, Counter, "publishes_routed"{result = "refused"}, "Refused before any sink took them.";
    Subscriptions, Gauge, "subscriptions", "Subscriptions of sessions, connected or not.";
    SubscriptionFilters, Gauge, "subscription_filters", "Different topic filters among them.";
    FiltersCompared, Gauge, "subscription_filters_compared", "Topic filters that are compared with every message: they begin with a wildcard, have more than four levels, and found no place for their form. At 1,024 on a shard, new ones are refused.";
    FiltersWithoutRoom, Gauge, "subscription_filters_without_room", "Topic filters that found no room in the table that all shards look in; a shard with one gets every message.";
    CopiesRouted, Counter, "deliveries_begun"{source = "routed"}, "Messages for subscribers, each counted once for each session or shared subscription that gets it, by where they come from: a publish, a will, or a retained message for a new subscription.";
    CopiesRecovered, Counter, "deliveries_begun"{source = "recovery"}, "Found in the spool at start, left by an earlier run.";
    CopiesTaken, Counter, "deliveries_begun"{source = "handed_over"}, "Handed over by another shard, for members of a shared subscription.";
    CopiesSent, Counter, "deliveries"{result = "sent"}, "Messages for subscribers, each counted once for each session, by what became of them: sent. At QoS 1 and 2 this is not the end of them: each is counted below as well.";
    CopiesSentQos0, Counter, "deliveries"{result = "sent_qos_0"}, "Of those, sent at QoS 0, which is not acknowledged.";
    CopiesAcknowledged, Counter, "deliveries"{result = "acknowledged"}, "Acknowledged by the client: PUBACK, or PUBREC.";
    CopiesHandedOver, Counter, "deliveries"{result = "handed_over"}, "Of a shared subscription: handed over to another shard.";
    CopiesMoved, Counter, "deliveries"{result = "moved"}, "Gone to another instance: with a slot of `[broker]`, from the topic of sessions; with a partition of a shared subscription, from the topic of its messages.";
    CopiesQueueFull, Counter, "deliveries"{result = "queue_full"}, "Dropped, because as many messages waited for the session as may (the oldest goes), or the memory for all of them was full.";
    CopiesAway, Counter, "deliveries"{result = "disconnected"}, "Not sent at QoS 0, because the client of the session was not connected.";
    CopiesSlow, Counter, "deliveries"{result = "slow"}, "Dropped at QoS 0, because the client had not read `unread_bytes_max` of `[delivery]`, or there was no room for what clients do not read (`forebay_deliveries_unread_bytes`).";
    CopiesTooLarge, Counter, "deliveries"{result = "too_large"}, "Dropped, because the packet would have been larger than the client's Maximum Packet Size.";
    CopiesDenied, Counter, "deliveries"{result = "denied"}, "Not sent, because the access control list does not allow this topic of the subscription.";
    CopiesExpired, Counter, "deliveries"{result = "expired"}, "Dropped, because the Message Expiry Interval ended before they could be sent.";
    CopiesUnfit, Counter, "deliveries"{result = "unfit"}, "Not sent to the remote of a bridge: its `out` makes nothing of the message that MQTT takes.";
    CopiesDeadLettered, Counter, "deliveries"{result = "dead_lettered"}, "Of a bridge: the remote has refused it, and its dead letter is safe.";
    CopiesRefused, Counter, "deliveries"{result = "refused_by_client"}, "Refused by the client: PUBACK or PUBREC with a reason code of 0x80 or above.";
    CopiesEnded, Counter, "deliveries"{result = "unsubscribed"}, "Dropped, because the subscription had ended.";
    CopiesSessionEnded, Counter, "deliveries"{result = "session_ended"}, "Dropped, because the session had ended before they were acknowledged.";
    CopiesShareGone, Counter, "deliveries"{result = "share_gone"}, "Dropped, because the shared subscription had no members left.";
    CopiesSentBytes, Counter, "publish_payload_sent_bytes", "Bytes of the payloads that subscribers were sent, of each message once for each session.";
    CopiesQueued, Gauge, "deliveries_queued", "Messages of QoS 1 and 2 that wait to be sent, each counted once for each session or shared subscription.";
    CopiesInFlight, Gauge, "deliveries_in_flight", "Messages of QoS 1 and 2 that were sent and are not acknowledged, each counted once for each session.";
    CopiesInFlightBytes, Gauge, "deliveries_in_flight_bytes", "Bytes of these, each counted once for each session. Where they, and all that sessions have to remember, exceed half of `forebay_delivery_remembered_bytes_max`, a client is sent at most 16 messages and 64 KiB until it acknowledges.";
    CopiesUnstored, Counter, "deliveries_not_stored", "Messages for kept sessions and shared subscriptions that were sent, or began to wait, without being in the spool, or with `[broker]` in the log of the client's slot: there was no room, or the message is larger than an eighth of a segment. A crash may lose them; with `[broker]` those that wait have their record in Kafka.";
    Shares, Gauge, "shares", "Shared subscriptions with members on a shard, counted for each of its shards; at most 10,000 different ones.";
    ShareQueuedMessages, Gauge, "share_queued_messages", "Messages waiting for a member of a shared subscription; on a shard at most `queue_messages_max` of `[delivery]` for each, with a hash strategy for each member.";
    ShareQueuedBytes, Gauge, "share_queued_bytes", "Their bytes; likewise `queue_bytes_max`.";
    ShareStoredMessages, Gauge, "share_stored_messages", "Messages of QoS 1 and 2 in the spool for shared subscriptions: those that wait, and those of QoS 1 that a member has not acknowledged. They count in `forebay_stored_messages`, too.";
    ShareReleased, Counter, "share_released_messages", "Messages of shared subscriptions of several instances that a client was sent at QoS 2 and has not answered within `share_ack_timeout`, and with a session that ends with its connection: they stay with it, and hold up no partition any more.";
    ShareGivenUp, Counter, "share_ack_timeouts", "Messages of shared subscriptions that other members were given, because the one that had been sent them did not acknowledge them within `share_ack_timeout`.";
    CopiesOldest, Age, "delivery_oldest_seconds", "Age of the oldest message of QoS 1 or 2 that waits for a client or for a member of a shared subscription, or that a client with a kept session has not acknowledged; at most since the start. 0: there is none.";
    CopiesUnreadBytes, Gauge, "deliveries_unread_bytes", "Bytes beyond 64 KiB for each client that it was sent and has not read, where messages of QoS 0 are among them; at most a quarter of `forebay_delivery_remembered_bytes_max`, of which they take room.";
    RememberedBytes, Gauge, "delivery_remembered_bytes", "Bytes of messages of QoS 1 and 2 that sessions have to remember until they are acknowledged, each message counted once; on a shard at most 256 MiB, and with a spool half of its room.";
    RememberedBytesMax, Gauge, "delivery_remembered_bytes_max", "Limit of `forebay_delivery_remembered_bytes` and `forebay_deliveries_unread_bytes` together: past fifteen sixteenths of it the longest queues lose their oldest messages (`queue_full`).";
    DeliveryLineBytes, Gauge, "delivery_queue_bytes", "Bytes of messages waiting to be copied to subscribers; past 16 MiB on a shard, publishers of topics with subscribers there are paused.";
    DeliveryLineBytesMax, Gauge, "delivery_queue_bytes_max", "Limit of `forebay_delivery_queue_bytes`: half of it for messages with at most 64 subscribers on the shard, half for the others. While a half is full, publishers are paused.";
    Exchanges, Gauge, "exchanges", "Exchanges of QoS 2 of publishers with kept sessions, from the message's way into the spool for kept sessions to PUBREL, each counted on every shard that knows it.";
    StoredMessages, Gauge, "stored_messages", "Messages of QoS 1 and 2 in the spool that kept sessions have not all acknowledged, each counted once on a shard, and those for shared subscriptions; at most half of what the spool can keep track of.";
    StoredMessagesMax, Gauge, "stored_messages_max", "Limit of `forebay_stored_messages`: past fifteen sixteenths of it the longest queues lose their oldest messages (`queue_full`). 0: there is no spool.";
    CopiesUnconfirmed, Gauge, "deliveries_unwritten", "Messages of QoS 1 and 2 that are not known to be on the disk yet where kept sessions may get them; past 16,384 between two shards, publishers of topics with subscribers there are paused.";
    RetainedMessages, Gauge, "retained_messages", "Retained messages; at most `messages_max` of `[retained]`, in even parts for all shards.";
    RetainedMessagesMax, Gauge, "retained_messages_max", "Limit of `forebay_retained_messages`: past it messages for other topics are not retained.";
    RetainedBytes, Gauge, "retained_bytes", "Bytes of retained messages, with their topics; at most `bytes_max` of `[retained]`, and a quarter of the spool, in even parts for all shards.";
    RetainedBytesMax, Gauge, "retained_bytes_max", "Limit of `forebay_retained_bytes`; likewise.";
    RetainedUnconfirmed, Gauge, "retained_unwritten", "Messages with RETAIN that are not known to be on the disk yet; past 16,384 between two shards, publishers of retained messages are paused.";
    RetainedRefused, Counter, "retained_refused", "Messages with RETAIN that were delivered but not retained, because a bound was reached.";
    ReplaysRunning, Gauge, "replays_open"{state = "running"}, "Replays of records of the past, by state: they read from Kafka; at most 4 on a shard at a time.";
    ReplaysWaiting, Gauge, "replays_open"{state = "waiting"}, "They wait for others; with those that run at most 256 on a shard.";
    ReplaysSettling, Gauge, "replays_open"{state = "settling"}, "They are over, and it is remembered up to where they came, in case live messages are not as far; at most 1,024 on a shard.";
    ReplayFetchBytes, Gauge, "replay_fetch_bytes", "Bytes of what replays have fetched from Kafka; at most 8 MiB for each that runs.";
    ReplaysLive, Counter, "replays"{result = "live"}, "Replays, by result: they have reached the live messages.";
    ReplaysEnded, Counter, "replays"{result = "ended"}, "The connection, session or subscription has ended before.";
    ReplaysAborted, Counter, "replays"{result = "aborted"}, "They could not go on, event `replay_aborted`.";
    ReplayRecords, Counter, "replay_records", "Records that replays have read.";
    ReplayMessages, Counter, "replay_messages", "Messages of the past that were sent for replays; `forebay_deliveries_total` has them, too.";
    PeerBytes, Gauge, "delivery_forward_bytes", "Bytes of messages waiting to be sent to subscribers on other shards; past 1 MiB for a shard, publishers of topics with subscribers there are paused.";
    Answers, Counter, "acknowledgements_sent", "PUBACK and PUBREC packets sent.";
    StalledConnections, Gauge, "connections_paused", "Connections that are not being read because a memory or disk limit is reached (backpressure).";
    RatePauses, Counter, "rate_pauses", "Times that a connection was paused because its user had used up `messages_s` or `bytes_s`.";
    Stalls, Counter, "connection_pauses", "Times that a connection was paused for backpressure.";
    QuantaExceeded, Counter, "connection_quanta_exceeded", "Times that a connection had sent more than its part of an iteration of the event loop (256 packets, 64 KiB): the rest waited until others were served.";
    PartialBytes, Gauge, "partial_packet_bytes", "Bytes of packets that have not arrived completely.";
    HeldBytes, Gauge, "held_answer_bytes", "Bytes of answers held back until the session records they depend on are on disk.";
    DeadLettersInFlight, Gauge, "dead_letters_in_flight", "Dead letters that are not yet acknowledged by the dead-letter topic or synced to the file.";
    DeadLettersQueued, Gauge, "dead_letter_queue_records", "Dead letters waiting to be written to files.";
    DeadLettersQueuedBytes, Gauge, "dead_letter_queue_bytes", "Bytes of dead letters waiting to be written to files.";
    DeadLettersQueuedBytesMax, Gauge, "dead_letter_queue_bytes_max", "Limit of `forebay_dead_letter_queue_bytes`, for all files; a single dead letter may exceed it.";
    SpoolBytes, Gauge, "spool_bytes", "Bytes of the spool's segments on disk.";
    SpoolBytesMax, Gauge, "spool_bytes_max", "Limit of `forebay_spool_bytes`.";
    SpoolLiveBytes, Gauge, "spool_live_bytes", "Bytes of records in the spool that Kafka does not have yet.";
    SpoolSegments, Gauge, "spool_segments", "Segments on disk.";
    SpoolRowsWritten, Counter, "spool_records_written", "Records written to the spool.";
    SpoolGroupBytes, Counter, "spool_written_bytes", "Bytes written to the spool.";
    SpoolMovedBytes, Counter, "spool_relocated_bytes", "Of these, bytes moved out of old segments.";
    SpoolGroups, Internal, "spool_groups", "Groups that are durable.";
    SpoolSyncs, Internal, "spool_syncs", "Syncs that have ended.";
    SpoolSyncUs, Internal, "spool_sync_us", "Microseconds that they took, added up.";
    SpoolFailures, Counter, "spool_io_errors", "Writes and syncs that failed.";
    SpoolStuck, Gauge, "spool_write_failing", "1 while the spool cannot write: nothing is acknowledged at `stored`.";
    SpoolFull, Gauge, "spool_full", "1 while the spool has no room for another record.";
    SpoolRot, Counter, "spool_corruptions", "Damaged places found in segments, at start and when records are read back.";
    SpoolDamaged, Counter, "spool_segments_damaged", "Segments in which something could not be read; up to 8 files are kept as `N.damaged`.";
    SpoolTornBytes, Counter, "spool_truncated_bytes", "Bytes behind the last complete group at start; none of them had been acknowledged.";
    SessionLogBytes, Gauge, "session_log_bytes", "Bytes of the segments of the log of sessions, with `[broker]`. Its topic holds what was written of them.";
    SessionLogBytesMax, Gauge, "session_log_bytes_max", "Limit of `forebay_session_log_bytes` (`sessions_bytes_max`).";
    SessionLogWaiting, Gauge, "session_log_waiting_records", "Records of the log of sessions that Kafka has not acknowledged. Answers to clients that rest on them wait.";
    SessionLogWaits, Gauge, "session_log_waiting_seconds", "Age of the oldest batch of the log of sessions that Kafka has not acknowledged.";
    SessionLogWritten, Counter, "session_log_written_bytes", "Bytes of batches of the log of sessions that Kafka has acknowledged.";
    SessionLogBatches, Counter, "session_log_batches", "Batches of the log of sessions that Kafka has acknowledged.";
    SessionLogRetries, Counter, "session_log_retries", "Times that a batch of the log of sessions was sent again.";
    SessionLogPassedOver, Gauge, "session_log_passed_over", "Batches of others in the log of sessions that this process has passed over at its start.";
    SessionLogPutTogether, Counter, "session_log_put_together", "Times that what lives in the log of a slot was put together, and the rest of it ended in Kafka.";
    Relayed, Gauge, "broker_relayed_connections"{side = "front"}, "Connections of clients that are relayed, by side: from here to the instance that serves the client.";
    RelayedHere, Gauge, "broker_relayed_connections"{side = "owner"}, "From other instances to this one, which serves the client. They are no connections of a listener.";
    Trunks, Gauge, "broker_trunks", "Connections between this instance and others, which many relayed clients share.";
    TrunkStreams, Gauge, "broker_trunk_streams", "Relayed clients on these connections, of both sides: at most 65,536 on each, then there is another one.";
    TrunkHeldBytes, Gauge, "broker_trunk_held_bytes", "Bytes that other instances have sent for relayed connections that are not read for now: at most 64 KiB of each.";
    RelaysWaiting, Gauge, "broker_connects_waiting", "CONNECT packets that wait for the instance that serves their client, or for one that does.";
    RelaysMade, Counter, "broker_relays"{result = "made"}, "Connections to the instance that serves a client, by result: it has answered the CONNECT.";
    RelaysFailed, Counter, "broker_relays"{result = "failed"}, "It could not be reached, or has ended the connection without an answer, as it does where it does not serve the client: another attempt follows.";
    RelaysMoved, Counter, "broker_relays"{result = "moved"}, "Relayed connections that were closed, as another instance serves the client by now.";
    Redirected, Counter, "broker_redirected", "Clients that were told to connect to the instance that serves them (0x9C).";
    SlotsHere, Gauge, "broker_slots"{state = "here"}, "Slots of `[broker]`, by who serves them: this shard does.";
    SlotsElsewhere, Gauge, "broker_slots"{state = "elsewhere"}, "Another instance does, as the first shard of this one knows.";
    SlotsNobody, Gauge, "broker_slots"{state = "nobody"}, "Nobody does for now, as the first shard of this one knows: CONNECT packets of their clients wait.";
    SlotsFull, Gauge, "broker_slots_full", "Slots of `[broker]` with a full log: records for clients that are away, or at QoS 2, wait in Kafka and hold back later records of their partitions.";
    Evictions, Counter, "broker_evictions", "Other instances that were removed from the group, as connections to them were refused.";
    LinksRefused, Counter, "broker_links_refused", "Connections to the port for other instances that were refused, and clients that this instance does not admit as the other one has.";
    LinksMisrouted, Counter, "broker_links_misrouted", "Connections of other instances for clients that this one does not serve. They look again.";
    ShareGroups, Gauge, "broker_share_groups", "Shared subscriptions of which this instance is in the group of Kafka, with several instances; at most 64 with those that clients may add.";
    SharePartitions, Gauge, "broker_share_partitions", "Partitions that groups of shared subscriptions have given to this instance.";
    SharePartitionsHeld, Gauge, "broker_share_partitions_held", "Partitions of these that have not been read on for longer than `share_ack_timeout`, as members have not acknowledged what they have of them.";
    ShareOpen, Gauge, "broker_share_open_messages", "Records of shared subscriptions that were read of Kafka, and that members are not done with, or that come after such; at most `window_messages` of a source, and its part of `fetch_memory`, for each partition.";
    ShareFetchBytes, Gauge, "broker_share_fetch_bytes", "Bytes of what was fetched from Kafka for shared subscriptions; at most 8 MiB for each.";
    ShareRecords, Counter, "broker_share_records", "Records that were handed to members of shared subscriptions of several instances.";
    ShareRebalances, Counter, "broker_share_rebalances", "Times that the group of a shared subscription has given this instance partitions, or none.";
    LostSessions, Counter, "spool_lost"{kind = "session"}, "What could not be read back from the spool at start, by kind: kept sessions. Their clients start with new ones.";
    LostRetained, Counter, "spool_lost"{kind = "retained"}, "Retained messages.";
    LostQueued, Counter, "spool_lost"{kind = "queued"}, "Messages that waited for kept sessions, each counted for each of these, or once where its bytes no longer say for which.";
    LostShared, Counter, "spool_lost"{kind = "shared"}, "Messages that waited for shared subscriptions.";
    LostQueues, Counter, "spool_lost"{kind = "queue"}, "What of a session's queue was over: its client may get some messages again.";
    LostExchanges, Counter, "spool_lost"{kind = "exchange"}, "Open exchanges of QoS 2: subscribers may get a repeat as a second message.";
    LostUnknown, Counter, "spool_lost"{kind = "unknown"}, "Records of sessions or messages of which not even the kind could be read.";
    LostRows, Counter, "spool_lost"{kind = "record"}, "Records for Kafka in segments that are missing or unreadable as a whole, about; where their sink is known they count in `forebay_sink_records_out_total{result=\"dropped_corrupt\"}`, too.";
    EventsSuppressed, Counter, "events_suppressed", "Events left out because a shard told of too many of their kind within a second, or of one client, address or sink within a minute.";
    ConnectsBanned, Counter, "connects_banned", "CONNECTs that a ban has kept out. They are among those refused.";
    PublishesOrdered, Counter, "api_publishes", "Messages published by the admin API. They are in `forebay_publishes_routed_total`, and not among those received.";
    TracedPacketsLost, Counter, "trace_packets_left_out", "Packets that a trace does not show, because more came than it may note in one turn, or than may wait to be taken.";
    Turns, Counter, "event_loop_iterations", "Iterations of the shard's event loop.";
]);

table!(
    /// Numbers of a listener on a shard. `received = matched + unmatched + refused` at every snapshot; wills arrive with their
    /// CONNECT and are in none of them.
    ListenerMetric, LISTENER, [
    Open, Gauge, "listener_connections", "Open client connections.";
    Received, Counter, "listener_publishes_received", "PUBLISH packets received; duplicates of QoS 2 are not counted.";
    Matched, Counter, "listener_publishes_routed"{result = "matched"}, "Received publishes by what became of them: matched by at least one sink or subscription.";
    Unmatched, Counter, "listener_publishes_routed"{result = "unmatched"}, "No filter of a sink or subscription matched.";
    Refused, Counter, "listener_publishes_routed"{result = "refused"}, "Refused before any sink took them.";
]);

table!(
    /// Numbers of a source on a shard.
    SourceMetric, SOURCE, [
    Records, Counter, "source_records", "Records read.";
    Bytes, Counter, "source_record_bytes", "Bytes of keys and values read.";
    Published, Counter, "source_messages"{result = "published"}, "What became of records, and of what rules published of them and had to wait, by result: published to subscribers or sinks. One that was published, and that nobody has after all, is published again with `no_subscriber = \"wait\"`.";
    NoSubscriber, Counter, "source_messages"{result = "no_subscriber"}, "Dropped, as nobody had subscribed and `no_subscriber` is `drop`.";
    Refused, Counter, "source_messages"{result = "refused"}, "Refused by a sink for all destinations (`on_refuse`): nobody has them.";
    Skipped, Counter, "source_messages"{result = "bad"}, "Records that cannot be a message, by `on_bad_record`.";
    Expired, Counter, "source_messages"{result = "expired"}, "Their Message Expiry Interval was over.";
    BadUnmapped, Counter, "source_bad_records"{reason = "unmapped"}, "Records that cannot be a message, by reason: their topic is not one of the source any more.";
    BadTopicAbsent, Counter, "source_bad_records"{reason = "topic_absent"}, "The record does not have what `mqtt_topic` is made of.";
    BadTopicInvalid, Counter, "source_bad_records"{reason = "topic_invalid"}, "What `mqtt_topic` makes of it is no MQTT topic.";
    BadQos, Counter, "source_bad_records"{reason = "qos_invalid"}, "What `qos` makes of it is no QoS.";
    BadRetain, Counter, "source_bad_records"{reason = "retain_invalid"}, "What `retain` makes of it is neither true nor false.";
    BadTooLarge, Counter, "source_bad_records"{reason = "too_large"}, "The message is larger than `packet_bytes_max`.";
    BadHeaders, Counter, "source_bad_records"{reason = "headers"}, "The record has too many headers.";
    BadLoop, Counter, "source_bad_records"{reason = "loop"}, "The record has been through Kafka and back too often.";
    DeadLettered, Counter, "source_dead_letters"{result = "written"}, "Bad records that were to become dead letters, by result: in the dead-letter topic, on all in-sync replicas.";
    DeadLettersRefused, Counter, "source_dead_letters"{result = "refused"}, "Kafka takes them never: their partition stops.";
    Lost, Counter, "source_messages_lost", "Published messages that nobody has after all: the sessions that they were for ended, or had no room.";
    Released, Counter, "source_messages_released", "Messages that nobody had acknowledged within `release_after`: the group moved on.";
    HeadersLeftOut, Counter, "source_headers_left_out", "Headers of records that MQTT cannot carry.";
    Open, Gauge, "source_open_messages", "Messages that subscribers have not acknowledged, and those after them.";
    OpenBytes, Gauge, "source_open_bytes", "Memory that they take.";
    Parked, Gauge, "source_parked_messages", "Messages that wait for a subscriber.";
    Partitions, Gauge, "source_partitions", "Partitions that are read.";
    PartitionsStopped, Gauge, "source_partitions_stopped", "Partitions that are assigned and not read, after a bad record or batch.";
    Lag, Gauge, "source_lag_records", "Records that are in Kafka and were not read, as far as is known.";
    Assigned, Gauge, "source_assigned_partitions", "Partitions that the group has given.";
    GroupTrouble, Gauge, "source_group_trouble", "1: the group cannot be joined, or takes no commits; `forebay sources` has the reason.";
    Rebalances, Counter, "source_rebalances", "Assignments of the group.";
    MembershipsLost, Counter, "source_memberships_lost", "Times that the group went on without the source.";
    Commits, Counter, "source_commits"{result = "committed"}, "Offsets committed, by result: Kafka has them.";
    CommitsFailed, Counter, "source_commits"{result = "failed"}, "Kafka refused them; the next commit tries again.";
    Resets, Counter, "source_resets", "Times that reading went on elsewhere: the offset was not there, the log was truncated, or the topic was recreated.";
    BadBatches, Counter, "source_bad_batches", "Batches that cannot be read.";
]);

table!(
    /// Numbers of a sink on a shard. At every snapshot the sums of [`SinkMetric::IN`] and [`SinkMetric::OUT`] are equal.
    SinkMetric, SINK, [
    Matched, Counter, "sink_records_in"{source = "publish"}, "Records that the sink took, by source: from a publish or will.";
    Recovered, Counter, "sink_records_in"{source = "recovery"}, "Found in the spool at start, left by an earlier run.";
    Delivered, Counter, "sink_records_out"{result = "delivered"}, "Records that the sink has finished, by result: written to Kafka at the sink's acknowledgement level.";
    Refused, Counter, "sink_records_out"{result = "refused"}, "Kafka rejected them permanently, and the sink has no dead letters.";
    DeadLettered, Counter, "sink_records_out"{result = "dead_lettered"}, "In the sink's dead letters, topic and file together.";
    Expired, Counter, "sink_records_out"{result = "expired"}, "Their Message Expiry Interval, or the sink's `expire_after`, ended before they could be sent.";
    DroppedOldest, Counter, "sink_records_out"{result = "dropped_oldest"}, "Dropped for younger ones: the spool was full and `when_full` is `drop-oldest`, the machine was short of memory and the sink has `memory_overload_protection`, or another instance of `[broker]` serves their publisher by now, who publishes them again there.";
    DroppedCorrupt, Counter, "sink_records_out"{result = "dropped_corrupt"}, "Their bytes on disk could no longer be read.";
    Moved, Counter, "sink_records_out"{result = "moved"}, "In the log of a slot that this instance has given up or lost: its next owner sends them.";
    BufferedRows, Gauge, "sink_buffered_records", "Records taken and not yet finished.";
    BufferedBytes, Gauge, "sink_buffered_bytes", "Memory used by records taken and not yet finished.";
    SpooledRows, Gauge, "sink_spooled_records", "Records in the spool.";
    SpilledRows, Gauge, "sink_disk_only_records", "Records in the spool that are not in memory as well.";
    SpoolBytes, Gauge, "sink_spool_bytes", "Bytes of the spool used by the sink's records.";
    SpoolBytesMax, Gauge, "sink_spool_bytes_max", "Limit of `forebay_sink_spool_bytes` (`spool_share`).";
    DeadLetteredInFile, Counter, "sink_dead_letter_file_records", "Dead letters written to the sink's file.";
    Batches, Counter, "sink_batches", "Record batches built.";
    BatchRecords, Counter, "sink_batched_records", "Records in the batches built.";
    BatchBytes, Counter, "sink_batched_bytes", "Bytes of the batches built, after compression.";
    Retries, Counter, "sink_batch_retries", "Batches sent again.";
    KafkaErrors, Counter, "sink_batches_failed"{reason = "kafka_error"}, "Attempts to send a batch that failed, by reason: Kafka answered with an error (`kafka_batch_errors` has the codes).";
    BatchesUnanswered, Counter, "sink_batches_failed"{reason = "no_response"}, "Connection lost, timed out, or never sent.";
    Paced, Counter, "sink_paced_intervals", "Intervals of 100 ms in which the sink took at most half of what it had drained lately, because a backlog was on disk.";
    Splits, Counter, "sink_batch_splits", "Batches split in two because Kafka rejected them as a whole.";
    ProduceRequests, Counter, "sink_produce_requests", "Produce requests, each counted for the sink of its first batch.";
    WithoutTimestamp, Counter, "sink_records_without_timestamp", "Records written without a timestamp because Kafka rejected theirs.";
    TopicsRecreated, Counter, "sink_topics_recreated", "Times that a Kafka topic was found deleted and recreated.";
    Repartitioned, Counter, "sink_records_repartitioned", "Records moved to another partition because the recreated topic does not have theirs.";
    Asked, Counter, "sink_log_queries", "Times that Kafka was asked what a partition's log holds.";
    OutcomeUnknown, Counter, "sink_possible_duplicates", "Records sent again although Kafka may already have them.";
    AcknowledgedLost, Counter, "sink_kafka_data_losses", "Times that a partition was found to lack records it had acknowledged.";
    AcknowledgedLostRecords, Counter, "sink_kafka_lost_records", "Records among those whose offset is known to be missing; a lower bound where brokers report no leader epochs, where offsets were no longer remembered, or at acks=all.";
    EpochsRaised, Counter, "sink_producer_epoch_bumps", "Times that a partition continued under a new producer epoch.";
    HeadersLeftOut, Counter, "sink_headers_left_out", "Values of `headers_from` that are no text, and so became no header at `headers_encode = \"none\"`.";
    Topics, Gauge, "sink_topics", "Kafka topics held in memory for the sink.";
]);

table!(
    /// Numbers of a bridge, all on the shard that has its session.
    BridgeMetric, BRIDGE, [
    State, Internal, "bridge_state", "How it stands.";
    Connected, Gauge, "bridge_connected", "1: the remote has accepted the bridge.";
    Connects, Counter, "bridge_connects", "Connections that the remote has accepted.";
    Failures, Counter, "bridge_failures"{reason = "lost"}, "Failures, by reason: no connection was made, or it was lost.";
    Refused, Counter, "bridge_failures"{reason = "refused"}, "The remote has refused the login, or TLS has failed.";
    Malformed, Counter, "bridge_failures"{reason = "protocol_error"}, "The remote has violated the MQTT standard.";
    ReceivedBytes, Counter, "bridge_received_bytes", "Bytes of packets of the remote, once it has accepted the bridge.";
    Received, Counter, "bridge_messages"{result = "taken"}, "Messages of the remote, by what became of them: taken.";
    Unasked, Counter, "bridge_messages"{result = "unasked"}, "Acknowledged and dropped: no filter of the bridge matches.";
    Looped, Counter, "bridge_messages"{result = "loop"}, "Acknowledged and dropped: it goes round, or has come through eight brokers.";
    Unfit, Counter, "bridge_messages"{result = "unfit"}, "Acknowledged and dropped: no valid topic is made of it, or it is longer than `packet_bytes_max` of `[mqtt]`.";
    RetainedLeftOut, Counter, "bridge_messages"{result = "retained"}, "Acknowledged and dropped: a retained message that `retained` leaves out, and the remote speaks 3.1.1.";
    SentAgain, Counter, "bridge_messages_sent_again", "Messages sent to the remote again, as it had no room for them (0x97, 0x91).";
    Settled, Counter, "bridge_settled_messages", "Messages of the remote that are over: answered, or at QoS 0, or their connection has ended.";
    Unsettled, Gauge, "bridge_unsettled_messages", "Messages of the remote that are not answered yet.";
    Begun, Counter, "bridge_out_messages_begun", "Messages for the remote, each when its copy is made; those that an earlier run has left in the spool, at the start.";
    Delivered, Counter, "bridge_out_messages"{result = "delivered"}, "Messages for the remote by what became of them: acknowledged by it, or sent at QoS 0.";
    DeadLettered, Counter, "bridge_out_messages"{result = "dead_lettered"}, "Refused by the remote, and safe in the dead-letter topic or file.";
    Dropped, Counter, "bridge_out_messages"{result = "dropped"}, "Dropped, for any reason of `forebay_deliveries_total`.";
    Open, Gauge, "bridge_open_messages", "Messages on their way to the remote, not acknowledged.";
    Queued, Gauge, "bridge_queued_messages", "Messages that wait for the remote.";
    QueuedBytes, Gauge, "bridge_queued_bytes", "Bytes of these.";
]);

table!(
    /// Numbers of a rule on a shard. Each message for which it was evaluated is passed, filtered or failed.
    RuleMetric, RULE, [
    Passed, Counter, "rule_messages"{result = "passed"}, "Messages for which the rule was evaluated, by result: it has made at least one output. One that a sink or a rule before it refuses for all destinations does not come to it.";
    Filtered, Counter, "rule_messages"{result = "filtered"}, "WHERE or INCASE was false, or FOREACH had no items.";
    Failed, Counter, "rule_messages"{result = "failed"}, "The rule has failed for the message: `on_error` applies.";
    Outputs, Counter, "rule_outputs", "Outputs: each is a record of each of the rule's sinks, unless the sink refuses it, and a message of each of its `[[rule.republish]]`.";
    FailedType, Counter, "rule_failures"{reason = "type"}, "Failures, by reason: a value of a type that the operation does not take.";
    FailedDecode, Counter, "rule_failures"{reason = "decode"}, "A text that is no JSON, no number, no date, where one is needed.";
    FailedDomain, Counter, "rule_failures"{reason = "domain"}, "Outside of what the operation is defined for, such as a division by zero.";
    FailedLimit, Counter, "rule_failures"{reason = "limit"}, "More steps, data, items or records than a message may cost.";
    Republished, Counter, "rule_publications"{result = "taken"}, "Messages that the rule has published, by result: they have a sink, a rule, a subscriber or a place among the retained ones.";
    RepublishUnmatched, Counter, "rule_publications"{result = "unmatched"}, "Nobody has it.";
    RepublishRefused, Counter, "rule_publications"{result = "refused"}, "A sink or another rule refuses it for all destinations.";
    RepublishLooped, Counter, "rule_publications"{result = "loop"}, "Dropped: it came from eight rules already, one after the other.";
    MixedComparisons, Counter, "rule_mixed_comparisons", "Comparisons of values of different types, which are rarely meant.";
]);

table!(
    /// Publishes that a sink refused permanently, by reason: they are in none of the sink's other numbers. Values of the label
    /// `reason` of [`REFUSALS_NAME`].
    RefusalReason, REFUSALS, [
    UserPropertyMissing, Counter, "user_property_missing", "A template asks for a user property that the message does not have.";
    PayloadFieldMissing, Counter, "payload_field_missing", "A template asks for a field that the payload does not have.";
    TimestampInvalid, Counter, "timestamp_invalid", "What `timestamp` makes of the message is no time, or more than an hour ahead.";
    HeadersInvalid, Counter, "headers_invalid", "`headers_from` yields something that is neither an object nor a list of pairs.";
    ColumnMissing, Counter, "column_missing", "The output of the rule does not have all of what `topic` or `timestamp` is made of.";
    RuleFailed, Counter, "rule_failed", "A rule that feeds the sink has failed for the message, which became a dead letter of the sink (`on_error`).";
    TooLarge, Counter, "too_large", "The record is larger than `record_bytes_max`.";
    TopicInvalid, Counter, "topic_invalid", "The rendered name is not a valid Kafka topic name.";
    TopicUnknown, Counter, "topic_unknown", "Kafka has had no such topic for longer than `unknown_topic_timeout`.";
    TopicForbidden, Counter, "topic_forbidden", "Kafka's ACLs do not allow writing to the topic, or Kafka refused the topic.";
    TooManyTopics, Counter, "too_many_topics", "`topics_max` topics are in use.";
    SpoolFull, Counter, "spool_full", "The spool is full and `when_full` is `refuse`.";
    NoRoom, Counter, "qos0_no_room", "Not refused: of QoS 0, and the sink had no room for it (`qos0_when_full`). All other destinations have it.";
]);

/// The family of [`REFUSALS`], label `reason`.
pub const REFUSALS_NAME: &str = "sink_publishes_refused";
/// The help text of [`REFUSALS_NAME`].
pub const REFUSALS_HELP: &str = "Publishes that the sink refused permanently, by reason.";

table!(
    /// Numbers of a Kafka cluster on a shard.
    ClusterMetric, CLUSTER, [
    Reachable, Gauge, "kafka_reachable", "1 while a broker of the cluster answers.";
    Requests, Counter, "kafka_produce_requests", "Produce requests sent.";
    RequestsInFlight, Gauge, "kafka_requests_in_flight", "Produce requests without a response.";
    RequestsUnanswered, Counter, "kafka_requests_unanswered", "Produce requests that got no response.";
    BufferBytes, Gauge, "kafka_buffer_bytes", "Memory used by records on their way to the cluster.";
    BufferBytesMax, Gauge, "kafka_buffer_bytes_max", "Limit of `forebay_kafka_buffer_bytes`.";
    BufferReserved, Gauge, "kafka_buffer_reserved_bytes", "Part of that limit that new records leave to what frees memory: batches that are split, placed and read back. Publishers wait when `forebay_kafka_buffer_bytes` reaches the rest.";
    BufferUnused, Gauge, "kafka_buffer_unused_bytes", "Memory kept for later records. Past 1 MiB on a shard, what has not been used for 8 s is given back to the system.";
    Links, Gauge, "kafka_connections", "Connections to the cluster's brokers.";
    ConnectionsMade, Counter, "kafka_connections_opened", "Connections to brokers opened.";
    LinkFailures, Counter, "kafka_connection_failures", "Connections to brokers that failed, timed out, or sent something unreadable.";
    LinksReplaced, Counter, "kafka_connections_replaced", "Connections to brokers closed because no response came in time.";
    WithExtra, Counter, "kafka_responses_with_extra_bytes", "Responses of brokers with bytes behind their end, which are ignored.";
    Malformed, Counter, "kafka_malformed_responses", "Responses of brokers that could not be read.";
    Throttles, Counter, "kafka_throttled_responses", "Responses in which a broker's quota throttled us.";
    ThrottleMs, CounterMillis, "kafka_throttle_seconds", "Total time throttled by broker quotas.";
    SentBytes, Counter, "kafka_sent_bytes", "Bytes sent to brokers.";
    ReceivedBytes, Counter, "kafka_received_bytes", "Bytes received from brokers.";
    Logins, Counter, "kafka_logins"{result = "accepted"}, "SASL logins to brokers by result, renewals included.";
    LoginsRefused, Counter, "kafka_logins"{result = "refused"}, "Refused by the broker, or the broker did not prove that it knows the password.";
    TlsHandshakes, Counter, "kafka_tls_handshakes", "TLS connections to brokers made.";
    TlsFailures, Counter, "kafka_tls_failures", "Connections to brokers that came to nothing because of TLS.";
    TopicsUnknown, Counter, "kafka_topics_unknown", "Times that Kafka did not know a topic and its records began to wait.";
    TopicsRefused, Counter, "kafka_topics_refused", "Times that Kafka refused a topic: not authorized, or an invalid name.";
    SlowPartitions, Gauge, "kafka_slow_partitions", "Partitions with slow followers: they use a second connection to their broker.";
]);

table!(
    /// Responses of a Kafka cluster with an error, by code: values of the label `error` of [`ERRORS_NAME`]. Codes without a row
    /// of their own are counted in the last.
    KafkaError, ERRORS, [
    CorruptMessage, Counter, "CORRUPT_MESSAGE", "2: damaged in transit; sent again.";
    UnknownTopic, Counter, "UNKNOWN_TOPIC_OR_PARTITION", "3: does not exist, or not yet; held.";
    LeaderNotAvailable, Counter, "LEADER_NOT_AVAILABLE", "5: no leader at the moment; held.";
    NotLeader, Counter, "NOT_LEADER_OR_FOLLOWER", "6: the leader has moved; sent to the new one.";
    RequestTimedOut, Counter, "REQUEST_TIMED_OUT", "7: followers were slow; sent again over a second connection.";
    MessageTooLarge, Counter, "MESSAGE_TOO_LARGE", "10: split; refused if it is a single record.";
    InvalidTopic, Counter, "INVALID_TOPIC_EXCEPTION", "17: not a valid topic name; refused.";
    RecordListTooLarge, Counter, "RECORD_LIST_TOO_LARGE", "18: as 10.";
    NotEnoughReplicas, Counter, "NOT_ENOUGH_REPLICAS", "19: below `min.insync.replicas`; held.";
    NotEnoughReplicasAfter, Counter, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", "20: the same, after it was written; sent again.";
    TopicForbidden, Counter, "TOPIC_AUTHORIZATION_FAILED", "29: writing is not authorized; refused.";
    InvalidTimestamp, Counter, "INVALID_TIMESTAMP", "32: the topic does not accept this timestamp; rebuilt without timestamps.";
    PolicyViolation, Counter, "POLICY_VIOLATION", "44: refused.";
    OutOfOrderSequence, Counter, "OUT_OF_ORDER_SEQUENCE_NUMBER", "45: not the sequence that the partition expects; sent again in order, and where that does not settle it Kafka is asked.";
    InvalidProducerEpoch, Counter, "INVALID_PRODUCER_EPOCH", "47: Kafka is asked what its log holds; the rest is sent again.";
    StorageError, Counter, "KAFKA_STORAGE_ERROR", "56: the broker's disk; held.";
    UnknownProducerId, Counter, "UNKNOWN_PRODUCER_ID", "59: forgotten by Kafka; as 47.";
    InvalidRecord, Counter, "INVALID_RECORD", "87: split; refused if it is a single record.";
    QuotaExceeded, Counter, "THROTTLING_QUOTA_EXCEEDED", "89: held.";
    ProducerFenced, Counter, "PRODUCER_FENCED", "90: as 47.";
    UnknownTopicId, Counter, "UNKNOWN_TOPIC_ID", "100: as 3.";
    Other, Counter, "other", "Any other code.";
]);

/// The family of [`ERRORS`], label `error`.
pub const ERRORS_NAME: &str = "kafka_batch_errors";
/// The help text of [`ERRORS_NAME`].
pub const ERRORS_HELP: &str = "Batches that the cluster answered with an error, by code.";

impl KafkaError {
    const CODES: [(i16, Self); Self::COUNT - 1] = [
        (2, Self::CorruptMessage),
        (3, Self::UnknownTopic),
        (5, Self::LeaderNotAvailable),
        (6, Self::NotLeader),
        (7, Self::RequestTimedOut),
        (10, Self::MessageTooLarge),
        (17, Self::InvalidTopic),
        (18, Self::RecordListTooLarge),
        (19, Self::NotEnoughReplicas),
        (20, Self::NotEnoughReplicasAfter),
        (29, Self::TopicForbidden),
        (32, Self::InvalidTimestamp),
        (44, Self::PolicyViolation),
        (45, Self::OutOfOrderSequence),
        (47, Self::InvalidProducerEpoch),
        (56, Self::StorageError),
        (59, Self::UnknownProducerId),
        (87, Self::InvalidRecord),
        (89, Self::QuotaExceeded),
        (90, Self::ProducerFenced),
        (100, Self::UnknownTopicId),
    ];

    /// The row of a Kafka error code.
    #[must_use]
    pub fn of(code: i16) -> Self {
        Self::CODES.iter().find(|(known, _)| *known == code).map_or(Self::Other, |(_, row)| *row)
    }

    /// Kafka's name of a code, or `other`.
    #[must_use]
    pub fn name(code: i16) -> &'static str {
        ERRORS[Self::of(code) as usize].name
    }
}

impl ShardMetric {
    /// One side of a shard's ledger of copies: each message is counted once for each session or shared subscription that gets it.
    pub const COPIES_IN: [Self; 3] = [Self::CopiesRouted, Self::CopiesRecovered, Self::CopiesTaken];
    /// The other side: copies that were sent at QoS 0, acknowledged, or handed over, that wait, or that were dropped.
    pub const COPIES_OUT: [Self; 18] = [
        Self::CopiesSentQos0,
        Self::CopiesAcknowledged,
        Self::CopiesHandedOver,
        Self::CopiesMoved,
        Self::CopiesDeadLettered,
        Self::CopiesQueued,
        Self::CopiesInFlight,
        Self::CopiesQueueFull,
        Self::CopiesAway,
        Self::CopiesSlow,
        Self::CopiesTooLarge,
        Self::CopiesDenied,
        Self::CopiesUnfit,
        Self::CopiesExpired,
        Self::CopiesRefused,
        Self::CopiesEnded,
        Self::CopiesSessionEnded,
        Self::CopiesShareGone,
    ];
    /// Copies to clients that were dropped: all outcomes but the first seven.
    pub const COPIES_DROPPED: &'static [Self] = Self::COPIES_OUT.split_at(7).1;
}

impl SinkMetric {
    /// One side of a sink's ledger.
    pub const IN: [Self; 2] = [Self::Matched, Self::Recovered];
    /// The other side: rows that are delivered, have failed, or wait. A new end of a row joins [`Self::FAILED`].
    pub const OUT: [Self; 8] = [
        Self::Delivered,
        Self::Refused,
        Self::Expired,
        Self::DeadLettered,
        Self::DroppedOldest,
        Self::DroppedCorrupt,
        Self::Moved,
        Self::BufferedRows,
    ];
    /// Ends that are not Kafka.
    pub const FAILED: [Self; 5] =
        [Self::Refused, Self::Expired, Self::DeadLettered, Self::DroppedOldest, Self::DroppedCorrupt];
}

/// The places of numbers on a board: the shard's numbers, then each sink's, each cluster's, each listener's, each cluster's
/// errors, and each sink's refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The number of sinks.
    pub sinks: usize,
    /// The number of clusters.
    pub clusters: usize,
    /// The number of listeners.
    pub listeners: usize,
    /// The number of sources.
    pub sources: usize,
    /// The number of rules.
    pub rules: usize,
    /// The number of bridges.
    pub bridges: usize,
}

impl Layout {
    /// Length of the board.
    #[must_use]
    pub const fn len(self) -> usize {
        self.first_bridge() + self.bridges * BridgeMetric::COUNT
    }

    /// Always false: a shard always has numbers.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        false
    }

    /// Parts of the board, with the numbers of one kind of thing one after the other: where they begin and end.
    const fn parts(self) -> [(usize, usize); 9] {
        [
            (0, self.first_sink()),
            (self.first_sink(), self.first_cluster()),
            (self.first_cluster(), self.first_listener()),
            (self.first_listener(), self.first_error()),
            (self.first_error(), self.first_refusal()),
            (self.first_refusal(), self.first_source()),
            (self.first_source(), self.first_rule()),
            (self.first_rule(), self.first_bridge()),
            (self.first_bridge(), self.len()),
        ]
    }

    /// The values of a board of this layout in a larger one: new numbers are 0.
    ///
    /// # Panics
    /// If `to` is not at least as large, for every kind of thing.
    #[must_use]
    pub fn grown(self, values: &[u64], to: Self) -> Vec<u64> {
        let mut grown = vec![0; to.len()];
        for ((from, end), (place, _)) in self.parts().into_iter().zip(to.parts()) {
            grown[place..place + end - from].copy_from_slice(&values[from..end]);
        }
        grown
    }

    /// Place of the first sink's first number.
    #[must_use]
    pub const fn first_sink(self) -> usize {
        ShardMetric::COUNT
    }

    /// Place of the first cluster's first number.
    #[must_use]
    pub const fn first_cluster(self) -> usize {
        self.first_sink() + self.sinks * SinkMetric::COUNT
    }

    /// Place of the first listener's first number.
    #[must_use]
    pub const fn first_listener(self) -> usize {
        self.first_cluster() + self.clusters * ClusterMetric::COUNT
    }

    /// Place of the first cluster's first error.
    #[must_use]
    pub const fn first_error(self) -> usize {
        self.first_listener() + self.listeners * ListenerMetric::COUNT
    }

    /// Place of the first sink's first refusal.
    #[must_use]
    pub const fn first_refusal(self) -> usize {
        self.first_error() + self.clusters * KafkaError::COUNT
    }

    /// Place of the first source's first number.
    #[must_use]
    pub const fn first_source(self) -> usize {
        self.first_refusal() + self.sinks * RefusalReason::COUNT
    }

    /// Place of the first rule's first number.
    #[must_use]
    pub const fn first_rule(self) -> usize {
        self.first_source() + self.sources * SourceMetric::COUNT
    }

    /// Place of the first bridge's first number.
    #[must_use]
    pub const fn first_bridge(self) -> usize {
        self.first_rule() + self.rules * RuleMetric::COUNT
    }

    /// Place of a bridge's number.
    #[must_use]
    pub const fn bridge(self, bridge: usize, metric: BridgeMetric) -> usize {
        self.first_bridge() + bridge * BridgeMetric::COUNT + metric as usize
    }

    /// Place of a rule's number.
    #[must_use]
    pub const fn rule(self, rule: usize, metric: RuleMetric) -> usize {
        self.first_rule() + rule * RuleMetric::COUNT + metric as usize
    }

    /// Place of a source's number.
    #[must_use]
    pub const fn source(self, source: usize, metric: SourceMetric) -> usize {
        self.first_source() + source * SourceMetric::COUNT + metric as usize
    }

    /// Place of a sink's count of refused publishes.
    #[must_use]
    pub const fn refusal(self, sink: usize, reason: RefusalReason) -> usize {
        self.first_refusal() + sink * RefusalReason::COUNT + reason as usize
    }

    /// Place of a sink's number.
    #[must_use]
    pub const fn sink(self, sink: usize, metric: SinkMetric) -> usize {
        self.first_sink() + sink * SinkMetric::COUNT + metric as usize
    }

    /// Place of a cluster's number.
    #[must_use]
    pub const fn cluster(self, cluster: usize, metric: ClusterMetric) -> usize {
        self.first_cluster() + cluster * ClusterMetric::COUNT + metric as usize
    }

    /// Place of a listener's number.
    #[must_use]
    pub const fn listener(self, listener: usize, metric: ListenerMetric) -> usize {
        self.first_listener() + listener * ListenerMetric::COUNT + metric as usize
    }

    /// Place of a cluster's count of an error.
    #[must_use]
    pub const fn error(self, cluster: usize, error: KafkaError) -> usize {
        self.first_error() + cluster * KafkaError::COUNT + error as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::HISTOGRAMS;

    #[test]
    fn rows_are_unique_families_are_together_and_places_do_not_overlap() {
        let rows: Vec<_> = SHARD.iter().chain(&LISTENER).chain(&SINK).chain(&CLUSTER).collect();
        let histograms = HISTOGRAMS.iter().map(|histogram| histogram.name);
        let mut families: Vec<_> =
            rows.iter().map(|s| s.name).chain([ERRORS_NAME, REFUSALS_NAME]).chain(histograms).collect();
        families.dedup();
        let together = families.len();
        families.sort_unstable();
        families.dedup();
        assert_eq!(families.len(), together, "rows of a family stand together");
        for (index, row) in rows.iter().enumerate() {
            assert!(rows[..index].iter().all(|other| (other.name, other.label) != (row.name, row.label)), "{row:?}");
            let labelled = rows.iter().filter(|other| other.name == row.name).all(|other| {
                other.label.map(|(key, _)| key) == row.label.map(|(key, _)| key) && other.kind == row.kind
            });
            assert!(labelled, "{row:?}");
        }
        let layout = Layout { sinks: 3, clusters: 2, listeners: 2, sources: 2, rules: 2, bridges: 2 };
        let mut places: Vec<usize> = (0..ShardMetric::COUNT).collect();
        for (first, each, count) in [
            (layout.sink(0, SinkMetric::Matched), SinkMetric::COUNT, layout.sinks),
            (layout.cluster(0, ClusterMetric::Reachable), ClusterMetric::COUNT, layout.clusters),
            (layout.listener(0, ListenerMetric::Open), ListenerMetric::COUNT, layout.listeners),
            (layout.error(0, KafkaError::CorruptMessage), KafkaError::COUNT, layout.clusters),
            (layout.refusal(0, RefusalReason::UserPropertyMissing), RefusalReason::COUNT, layout.sinks),
            (layout.source(0, SourceMetric::Records), SourceMetric::COUNT, layout.sources),
            (layout.rule(0, RuleMetric::Passed), RuleMetric::COUNT, layout.rules),
            (layout.bridge(0, BridgeMetric::State), BridgeMetric::COUNT, layout.bridges),
        ] {
            places.extend(first..first + each * count);
        }
        assert_eq!(places, (0..layout.len()).collect::<Vec<_>>());
        assert_eq!(layout.refusal(2, RefusalReason::NoRoom) + 1, layout.first_source());
    }

    #[test]
    fn an_error_code_has_its_row_and_says_its_number() {
        for (code, row) in KafkaError::CODES {
            assert_eq!(KafkaError::of(code), row);
            assert!(ERRORS[row as usize].help.starts_with(&format!("{code}: ")), "{code}");
        }
        assert_eq!([KafkaError::of(-1), KafkaError::of(9_999)], [KafkaError::Other; 2]);
        assert_eq!((KafkaError::name(29), KafkaError::name(-1)), ("TOPIC_AUTHORIZATION_FAILED", "other"));
    }
}
