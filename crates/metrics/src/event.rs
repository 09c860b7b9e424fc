//! Every event: its name, its severity, its fields. The log, `/api/v1/events` and `docs/API.md` are made from this one list.

use std::borrow::Cow;
use std::fmt;
use std::io::Write as _;

use serde_json::Value;

use forebay_base::limits::{EVENTS_KEPT_MAX, EVENTS_OF_CLIENTS_KEPT_MAX};

/// The severity of an event; the log's levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Information for an operator.
    Info,
    /// Something is wrong, and the service copes with it.
    Warn,
    /// Something is lost or stops.
    Error,
}

impl Severity {
    /// All severities, the least severe first.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warn, Self::Error];

    /// The word in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// The class of an event. Each class has a ring of its own, so that frequent events do not push out rare ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Class {
    /// An administrator has changed something, or tried to.
    Administration,
    /// The service, or a system that it is connected to, has come or gone.
    Lifecycle,
    /// Something has failed.
    Error,
    /// A client has done something that is refused, or has lost something: any client can cause many.
    Client,
    /// A client has come or gone. Not in the log, unless it is asked for.
    Connection,
    /// Numbers, now and then.
    Statistics,
}

impl Class {
    /// The number of classes.
    pub const COUNT: usize = Self::ALL.len();
    /// All classes.
    pub const ALL: [Self; 6] =
        [Self::Administration, Self::Lifecycle, Self::Error, Self::Client, Self::Connection, Self::Statistics];

    /// The word in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Administration => "administration",
            Self::Lifecycle => "lifecycle",
            Self::Error => "error",
            Self::Client => "client",
            Self::Connection => "connection",
            Self::Statistics => "statistics",
        }
    }

    /// The most events of the class that `/api/v1/events` can show; the oldest makes room.
    #[must_use]
    pub const fn kept_max(self) -> usize {
        match self {
            Self::Client | Self::Connection => EVENTS_OF_CLIENTS_KEPT_MAX,
            _ => EVENTS_KEPT_MAX,
        }
    }
}

/// One row of the list.
#[derive(Clone, Copy, Debug)]
pub struct EventSpec {
    /// Its name: `kind` in JSON, `event` in the log.
    pub name: &'static str,
    /// The severity.
    pub severity: Severity,
    /// The class.
    pub class: Class,
    /// The fields beside `shard`.
    pub fields: &'static [Field],
    /// One sentence: the log line's message.
    pub help: &'static str,
}

macro_rules! events {
    ($($variant:ident, $severity:ident, $class:ident, $name:literal, [$($field:ident),*], $help:literal;)*) => {
        /// The kinds of events.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Kind {
            $(#[doc = $help] $variant,)*
        }

        impl Kind {
            /// The number of kinds.
            pub const COUNT: usize = [$(Kind::$variant),*].len();
            /// All kinds.
            pub const ALL: [Self; Self::COUNT] = [$(Kind::$variant),*];
        }

        /// The list, in the order of [`Kind`].
        pub const EVENTS: [EventSpec; Kind::COUNT] = [
            $(EventSpec {
                name: $name,
                severity: Severity::$severity,
                class: Class::$class,
                fields: &[$(Field::$field),*],
                help: $help,
            },)*
        ];
    };
}

events! {
    Started, Info, Lifecycle, "started", [Version, Shards], "Forebay started";
    Sandboxed, Info, Lifecycle, "sandboxed", [Files, Calls], "the service has given up what it does not need while it serves";
    SandboxIncomplete, Warn, Lifecycle, "sandbox_incomplete", [Files, Calls], "the service is not restricted as `service.sandbox` asks: the kernel lacks Landlock or seccomp, or a container's seccomp profile or the unit's SystemCallFilter= forbids setting them up";
    Listening, Info, Lifecycle, "listening", [Listener], "listening for clients";
    Draining, Info, Lifecycle, "draining", [Signal, GraceMs], "stopping: no new clients, finishing what is in flight";
    ShardDrained, Info, Lifecycle, "shard_drained", [RowsLeft, RowsKept, ConnectionsLeft], "shard stopped";
    Drained, Info, Lifecycle, "drained", [RowsKept], "stopped: every record is in Kafka or in the spool";
    ShardBlocked, Error, Error, "shard_blocked", [SilentMs], "a shard's event loop is blocked";
    KafkaReachable, Info, Lifecycle, "kafka_reachable", [Kafka, OutageMs], "connected to the Kafka cluster";
    KafkaUnreachable, Warn, Error, "kafka_unreachable", [Kafka], "cannot connect to any broker of the Kafka cluster; retrying, records are buffered; `forebay check` says why";
    BrokerUnreachable, Warn, Error, "kafka_broker_unreachable", [Kafka, Broker, Node, Reason], "a Kafka broker cannot be used; retrying, records for it are buffered; `forebay check` tests every address";
    BrokerReachable, Info, Lifecycle, "kafka_broker_reachable", [Kafka, Broker], "a Kafka broker that could not be used is of use again, or no longer part of the cluster";
    RequestTooLarge, Warn, Error, "kafka_request_too_large", [Sink, Source, Topic, Bytes, Reason], "a Kafka broker closes the connection on requests of this size, again and again; they are probably larger than its `socket.request.max.bytes`: raise that, or lower `batch_bytes`";
    LoginRefused, Error, Error, "kafka_login_refused", [Kafka, Broker, User, Mechanism, Code, Reason], "a Kafka broker refuses the login; retrying up to 30 s apart, records are buffered; correct [kafka.NAME.sasl] and reload";
    KafkaTokenFailed, Error, Error, "kafka_token_failed", [Reason], "no token for logins to Kafka from its `token_url`; retrying up to 30 s apart, the last one is used until it expires";
    KafkaTlsFailed, Error, Error, "kafka_tls_failed", [Kafka, Broker, Reason], "no TLS connection to a Kafka broker; retrying up to 30 s apart, records are buffered; correct [kafka.NAME.tls] and reload";
    TopicUnknown, Warn, Error, "topic_unknown", [Sink, Source, Topic, Code, Error], "the Kafka topic does not exist or has no leader; its records wait; `forebay topics create` creates it";
    TopicKnown, Info, Lifecycle, "topic_available", [Sink, Source, Topic], "the Kafka topic is available now";
    TopicForbidden, Warn, Error, "topic_forbidden", [Sink, Source, Topic, Code, Error], "not authorized to write to the Kafka topic; its records are refused for a while; `forebay check` names the missing ACL";
    TopicRefused, Warn, Error, "topic_refused", [Sink, Source, Topic, Code, Error], "Kafka rejects the topic; its records are refused for a while";
    TopicMadeAnew, Warn, Error, "topic_recreated", [Sink, Source, Topic, From, To], "the Kafka topic was deleted and recreated; its old records are gone";
    TopicGrown, Info, Lifecycle, "topic_partitions_added", [Sink, Source, Topic, From, To], "the Kafka topic has more partitions; they are used once earlier records are finished";
    ClusterChanged, Warn, Error, "kafka_cluster_changed", [Sink, Source, Topic, From, To], "the sink writes to another Kafka cluster than before, or than the run that left these records: it was rebuilt, or its addresses lead elsewhere. Batches that were in flight to the old one are sent to the new one under new producer IDs";
    AcknowledgedLost, Error, Error, "kafka_data_loss", [Sink, Source, Topic, Partition, Records], "Kafka has lost records that it had acknowledged";
    OutcomeUnknown, Warn, Error, "possible_duplicates", [Sink, Source, Topic, Partition, Records], "records were sent again although Kafka may already have them";
    SpoolRecovered, Info, Lifecycle, "spool_recovered", [Records, Cuts, Sessions, Retained, Queued], "found records, sessions, queued or retained messages of an earlier run in the spool; resuming them";
    ClockNotSet, Warn, Error, "clock_not_set", [Reason], "the clock of this machine is not set: records have no timestamp until it is; if it is right and was wrong before, restart once more";
    ShardsKept, Warn, Lifecycle, "shards_kept", [Shards, Configured, Records], "the spool holds records of a run with another number of shards; using that number until the service starts with an empty spool";
    SessionsMoved, Info, Lifecycle, "sessions_moved", [Shards, Sessions, Retained, Queued], "the number of shards has changed; stored sessions, their messages and retained messages were moved to their new shards";
    SessionLogTaken, Info, Lifecycle, "session_log_taken", [Topic, Partitions, Records, Bytes], "took over the log of sessions in Kafka; a process that had it before ends";
    SlotTaken, Info, Lifecycle, "slot_taken", [Partition, Sessions], "a slot has come to this instance: its clients are served here";
    SlotReleased, Info, Lifecycle, "slot_released", [Partition], "a slot was given up for another instance: its clients were disconnected, and their sessions are in Kafka";
    SlotGone, Warn, Error, "slot_gone", [Slots, Partition, Reason], "another instance has slots that this one has served, as the group has not heard of this one: connections of its clients are closed, and they find their sessions there";
    InstanceSilent, Warn, Error, "instance_silent", [Group], "nothing was heard of the group of instances for almost `session_timeout`, or since this process stood still for a second: until it is, no client is welcomed and nothing is written to the topics of `[broker]`, as another instance may serve the clients by now";
    InstanceHeard, Info, Lifecycle, "instance_heard", [Group], "the group of instances has answered: this one takes part";
    InstanceGone, Info, Lifecycle, "instance_gone", [Instance], "connections to another instance are refused: the group is asked to give its slots to others at once";
    DrainOver, Warn, Lifecycle, "drain_over", [Group], "all other instances have left the group: this one, which was drained, serves clients again";
    GroupTrouble, Warn, Error, "instances_trouble", [Group, Reason], "this instance cannot take part in the group of instances for now; retrying";
    GroupTroubleOver, Info, Lifecycle, "instances_trouble_over", [Group], "this instance takes part in the group of instances again";
    ShareTrouble, Warn, Error, "share_trouble", [Share, Group, Topic, Partition, Reason], "this instance cannot take part in the group of a shared subscription for now, or not read a partition for it: its members here get less, or nothing; retrying. With a right that is missing SUBSCRIBE is refused";
    ShareTroubleOver, Info, Lifecycle, "share_trouble_over", [Share, Group, Topic, Partition], "this instance takes part in the group of a shared subscription again, or reads a partition on for it";
    SlotFull, Warn, Error, "slot_full", [Partition], "the log of a slot has had no room for a second for messages of clients that are away, or of QoS 2: their records wait in Kafka until it has, and the longest queue of the slot makes room if its client is away";
    SlotTrouble, Warn, Error, "slot_trouble", [Partition, Reason], "the log of sessions of a slot cannot be taken over for now; retrying, its clients wait";
    TopicLeft, Warn, Error, "topic_left", [Topic, Records], "no route of `[broker]` names a topic any more of which this instance has not had all records: nobody gets the rest. A route for it, with filters that no client publishes to, has them read";
    SlotUnreadable, Error, Error, "slot_unreadable", [Partition, Reason], "the log of a slot is in a form that this version of Forebay does not read, or is damaged: nobody serves its clients while this instance has the slot, and all others are served";
    SessionLogLost, Error, Error, "session_log_lost", [Partition, Reason], "another process has taken a log of sessions over, or Kafka has lost part of it: nothing more is sent to its clients. Without `[broker.link]` the process ends, and the next start takes up what Kafka has";
    SessionLogTrouble, Warn, Error, "session_log_trouble", [Partition, Reason], "Kafka has not taken what belongs into logs of sessions for 10 s, or has had no leader for them: what clients of these slots are told waits for it, and the instance is not ready; retrying";
    SessionLogTroubleOver, Info, Lifecycle, "session_log_trouble_over", [Topic], "Kafka takes the logs of sessions again";
    SpoolFull, Warn, Error, "spool_full", [Sink, Reason], "the spool is full; `when_full` applies";
    SpoolRoom, Info, Lifecycle, "spool_not_full", [Sink], "the spool is no longer full";
    SpoolFailed, Error, Error, "spool_failed", [Reason], "a disk operation of the spool failed; nothing it should have covered is acknowledged, the records are written again to a new segment";
    SpoolDamaged, Error, Error, "spool_damaged", [File, Records, Sessions, Retained, Queued, Shared, Reason], "found damaged data in the spool; it is set aside as `N.damaged`, the rest continues; `forebay spool inspect` shows where, and the disk may have to be replaced";
    EmbeddedLogDamaged, Error, Error, "embedded_log_damaged", [File, Offset, NextOffset, Reason], "found damaged data in the embedded log, or records are missing at its end; the rest continues, and readers skip the offsets from `offset` up to `next_offset`; the disk may have to be replaced";
    RowsDropped, Warn, Error, "records_dropped", [Sink, Records, Reason], "records in the spool, messages of QoS 0 for a sink without room, or messages of clients that another instance serves now, were dropped";
    ConnectRefused, Info, Client, "connect_refused", [Listener, Peer, Clause, Reason], "a connection was refused: its CONNECT is not acceptable, or it sent something else";
    KeySetUnreachable, Warn, Error, "key_set_unreachable", [Auth, Reason], "a key set for tokens cannot be fetched; retrying, the last one is used until `stale_max`";
    KeySetDropped, Error, Error, "key_set_dropped", [Auth], "a key set for tokens could not be fetched for `stale_max`; every token is refused until it can";
    AuthRefused, Info, Client, "auth_refused", [Listener, Peer, Client, Auth, User, Reason], "a client was not admitted";
    AddressClosed, Warn, Client, "address_closed", [Peer, Listener], "too many failures to log in from the address: further connections from it are closed until a minute is over";
    ConnectRate, Warn, Error, "connect_rate_reached", [Listener], "clients connect faster than `connect_rate`: further ones wait in the kernel's queue; told once a minute";
    AclDenied, Info, Client, "acl_denied", [Client, Auth, User, MqttTopic, Reason, Rule], "the access control list denied a publish, a will, a subscription or a retained message: `reason` says which";
    AccessRevoked, Info, Client, "access_revoked", [Client, Auth, User], "a client was disconnected: its user was removed or has another password, its certificate was revoked, or the key of its token was withdrawn; or the session of a client that was away has ended, as its user was removed";
    AccessExpired, Info, Client, "access_expired", [Client, Auth, User], "a client was disconnected: its token has expired";
    TlsFailed, Info, Client, "tls_failed", [Listener, Peer, Reason], "a TLS connection failed";
    WebSocketFailed, Info, Client, "websocket_failed", [Listener, Peer, Reason], "a WebSocket connection failed";
    SessionEvicted, Warn, Client, "session_evicted", [Client, Auth], "a session without a connection was ended to make room for another (`mqtt.evict_sessions`)";
    ProtocolError, Info, Client, "protocol_error", [Listener, Client, Auth, Peer, Clause, Reason], "a client was disconnected for a protocol error";
    PublishRefused, Warn, Client, "publish_refused", [Sink, Client, Auth, MqttTopic, Reason, Fate], "a sink will never take a publish; an MQTT 3.x client whose publish is rejected is disconnected, since the protocol has no refusal";
    SubscribeRefused, Info, Client, "subscribe_refused", [Client, Auth, Peer, Reason], "a SUBSCRIBE was refused";
    ReplayGap, Warn, Client, "replay_gap", [Client, Auth, MqttTopic, Topic, Partition, Offset, NextOffset], "Kafka has deleted records of a partition before they were replayed: the replay goes on after them";
    ReplayAborted, Warn, Client, "replay_aborted", [Client, Auth, MqttTopic, Topic, Partition, Reason], "a replay could not go on: the subscription gets live messages from now on";
    SubscriptionEnded, Warn, Client, "subscription_ended", [Client, Auth, MqttTopic, Reason], "a subscription was ended: its client may not read the topic any more, or there is no room for the filter";
    RetainedRefused, Warn, Client, "retained_refused", [MqttTopic, Reason], "a message was delivered but not retained";
    MessageDropped, Warn, Client, "message_dropped", [Client, Auth, Share, MqttTopic, Reason], "a message for a subscriber was dropped";
    ShareAckTimeout, Warn, Client, "share_ack_timeout", [Client, Auth, Share], "a client has not acknowledged messages of a shared subscription within `share_ack_timeout` of `[delivery]`: other members get those of QoS 1, and it gets no more until it has, if there are others; with several instances, those of QoS 2 hold up no partition any more";
    DeadLetters, Warn, Client, "dead_letters", [Sink, LettersTopic, File, Reason, Topic, MqttTopic, Total], "records of the sink became dead letters; reason and topics are those of one of them, and each has its own";
    SinkStalled, Warn, Error, "sink_stalled", [Sink, Kafka, Buffered, Reason], "records are waiting and none has been finished for a while";
    SinkRunning, Info, Lifecycle, "sink_running", [Sink, Kafka], "the sink is running again";
    RuleFailed, Warn, Client, "rule_failed", [SqlRule, Client, Auth, MqttTopic, Reason, Fate], "a rule has failed for a message: `on_error` applies";
    RepublishDropped, Warn, Client, "republish_dropped", [SqlRule, Client, Auth, MqttTopic, Reason], "a message that a rule publishes is dropped";
    LinkFailed, Warn, Error, "link_failed", [Instance, Remote, Reason], "another instance, which serves clients that have connected here, cannot be reached, or its address leads to another one: their CONNECTs wait, and it is tried again";
    LinkRefused, Warn, Error, "link_refused", [Peer, Reason], "a connection to the port for other instances was refused, or its client, which may be for another instance";
    BridgeConnected, Info, Lifecycle, "bridge_connected", [Bridge, Remote, Protocol, SessionPresent], "the remote of a bridge has accepted it";
    BridgeLost, Warn, Error, "bridge_lost", [Bridge, Remote, Reason], "the connection of a bridge to its remote has ended; connecting again";
    BridgeUnreachable, Warn, Error, "bridge_unreachable", [Bridge, Remote, Reason], "the remote of a bridge cannot be connected to; retrying";
    BridgeRefused, Error, Error, "bridge_refused", [Bridge, Remote, Reason], "the remote refuses a bridge, or TLS fails: somebody has to change something; retrying now and then";
    BridgeFilterRefused, Warn, Error, "bridge_filter_refused", [Bridge, Remote, MqttTopic, Reason], "a topic filter of a bridge is refused: messages of these topics do not pass";
    BridgeSessionLost, Warn, Error, "bridge_session_lost", [Bridge, Remote, Records], "the remote has forgotten the session of a bridge: what was on its way is sent again, this many messages of QoS 2 may come there twice, and what it kept for the bridge is lost there";
    BridgeTakenOver, Warn, Error, "bridge_taken_over", [Bridge, Remote, Reason, MqttTopic, Bytes], "the remote has ended the connection of a bridge twice within a minute, as it does when another client comes with the same client ID: give each instance its own, as with {uuid}; or, before 5.0, when it does not take the oldest message on its way (`mqtt_topic`, `bytes`)";
    BridgeOverrun, Warn, Error, "bridge_overrun", [Bridge, Remote, Open, InflightMax], "a remote before 5.0 has closed the connection with several messages of QoS 2 on their way: it probably takes fewer at a time; half as many are sent from now on. Set inflight_max to what it takes";
    BridgeRefusedMessage, Warn, Client, "bridge_message_refused", [Bridge, Remote, MqttTopic, Reason, LettersTopic, File], "the remote refuses a message for good: it becomes a dead letter, or is dropped where there are none";
    BridgeDropped, Warn, Client, "bridge_message_dropped", [Bridge, Remote, MqttTopic, Reason, Bytes, Via], "a message of the remote, or for it, is dropped: no filter of the bridge matches, no valid topic is made of it, it is too long, or it goes round (`loop`; before 5.0 `repeated`)";
    BindingWanted, Info, Lifecycle, "binding_wanted", [Bridge], "the application wants the messages of a binding: its remote is asked for them";
    BindingUnwanted, Warn, Error, "binding_unwanted", [Bridge, Reason], "the application does not want the messages of a binding: its answer to OPTIONS is neither 2xx nor 405, or ListInputBindings does not name it; it is asked again after a change, or a restart";
    BindingAppUnreachable, Warn, Error, "binding_app_unreachable", [Reason], "the application of the bindings cannot be reached, or its sidecar reads no more messages: they wait; trying again every 2 s";
    BindingInitMissing, Error, Error, "binding_init_missing", [Reason], "a sidecar of Dapr asks for a component that it has not brought since the service started: it brings components only when it starts itself, so restart it; its application gets no messages until then";
    BindingFailed, Warn, Client, "binding_failed", [Bridge, MqttTopic, Reason, Fate], "the application has refused a message of a binding after all retries";
    BindingKeeps, Warn, Error, "binding_keeps", [Bridge, Remote, Total], "this many messages of a binding are kept at the remote (onFailure: keep): the binding stands still once they fill what the remote sends without an acknowledgement";
    SourceAssigned, Info, Lifecycle, "source_assigned", [Source, Group, Partitions], "the group has given the source this many partitions of its topics";
    SourceStopped, Error, Error, "source_stopped", [Source, Topic, Partition, Offset, Reason], "a partition of the source is not read any more: nothing after this offset reaches subscribers; `forebay sources NAME seek` goes on elsewhere. Where the topic is gone, reading goes on when it is back";
    SourceReset, Warn, Error, "source_reset", [Source, Topic, Partition, Offset, NextOffset, Reason], "reading goes on at another offset";
    SourceDropped, Warn, Error, "source_messages_dropped", [Source, Records, Reason], "records of a source have no receiver, since the last such event: nobody has subscribed to them, they had expired, or what became of them was lost; at most one a minute for each source";
    SourceSkipped, Warn, Error, "source_batch_skipped", [Source, Topic, Partition, Offset, NextOffset, Reason], "a batch that cannot be read was passed over";
    SourceTrouble, Warn, Error, "source_trouble", [Source, Group, Topic, Partition, Reason], "the source cannot read or commit for now; retrying";
    SourceRunning, Info, Lifecycle, "source_running", [Source, Group, Topic, Partition], "the source reads or commits again";
    SourceGroupLost, Warn, Error, "source_group_lost", [Source, Group, Reason], "the group has gone on without the source: messages that were not committed come again, here or at another member";
    SourceBadRecord, Warn, Client, "source_bad_record", [Source, Topic, Partition, Offset, Reason, LettersTopic], "a record cannot be a message; `on_bad_record` applies";
    SourceWaiting, Warn, Error, "source_waiting", [Source, Topic, Partition, Offset], "the window of a partition is full of messages that wait for a subscriber (`no_subscriber = \"wait\"`): it is not read until somebody subscribes to the first of them";
    SinkStatistics, Info, Statistics, "sink_statistics", [Sink, Matched, Delivered, Failed, Buffered, PerMinute], "statistics of a sink for the last minute";
    Reloaded, Info, Administration, "reloaded", [Applied], "configuration reloaded";
    ReloadedInPart, Warn, Administration, "reloaded_in_part", [Applied, Waiting], "configuration reloaded; some changes need a restart";
    ReloadFailed, Error, Administration, "reload_failed", [Reason], "reload failed; nothing changed, what was in force stays in force";
    ChangeRefused, Info, Administration, "change_refused", [Reason], "a change that was asked of the admin API was refused; nothing changed";
    CertificateExpiring, Warn, Error, "certificate_expiring", [File, Days], "a certificate expires soon; a new one is taken within a minute once it is in the file's place";
    CertificateExpired, Error, Error, "certificate_expired", [File], "a certificate has expired";
    ClientConnected, Info, Connection, "client_connected", [Client, Auth, User, Peer, Listener, Protocol, SessionPresent, UnknownRoles], "a client has connected";
    ClientDisconnected, Info, Connection, "client_disconnected", [Client, Auth, User, Peer, Listener, Reason, Detail, ConnectedMs, NewPeer], "a client's connection has ended";
    RequestRefused, Warn, Client, "request_refused", [Peer, Action, Reason], "a request to the admin API was refused: a wrong token, one that may not do this, or a page of another site";
    AdminAction, Info, Administration, "admin_action", [Action, Client, Auth, User, Peer, MqttTopic, Sink, Source, SqlRule, Bridge, Kafka, LettersTopic, Records, Listener, Level, Token], "an administrator changed something";
}

macro_rules! fields {
    ($($variant:ident, $type:ident, $name:ident, $help:literal;)*) => {
        /// A field of an event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Field {
            $(#[doc = $help] $variant,)*
        }

        impl Field {
            /// All fields.
            pub const ALL: &[Self] = &[$(Field::$variant),*];

            /// The field's name in JSON and in the log.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => stringify!($name),)* }
            }

            /// The field's meaning.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)* }
            }
        }

        impl Event {
            /// Writes the event as a line of the log, with its fields; at debug connections, under a name of their own, and statistics.
            pub(super) fn log(&self) {
                let is_connection = self.kind.spec().class == Class::Connection;
                if is_connection && !are_connections_logged() {
                    return;
                }
                $(let $name = self.$type(Field::$variant);)*
                let (kind, shard) = (self.kind.spec().name, self.shard);
                let message = self.kind.spec().help;
                match self.kind.log_severity() {
                    _ if is_connection => tracing::debug!(target: CONNECTIONS, event = kind, shard, $($name,)* "{message}"),
                    None => tracing::debug!(event = kind, shard, $($name,)* "{message}"),
                    Some(Severity::Info) => tracing::info!(event = kind, shard, $($name,)* "{message}"),
                    Some(Severity::Warn) => tracing::warn!(event = kind, shard, $($name,)* "{message}"),
                    Some(Severity::Error) => tracing::error!(event = kind, shard, $($name,)* "{message}"),
                }
            }
        }
    };
}

fields! {
    Version, text, version, "Forebay's version.";
    Shards, number, shards, "Number of shards.";
    Listener, text, listener, "Address of the listener.";
    Client, text, client, "Client identifier.";
    Peer, text, peer, "Address of the client; behind a proxy, the address in the PROXY header.";
    Kafka, text, kafka, "Name of the Kafka cluster.";
    Broker, text, broker, "Address of the broker.";
    Node, number, node, "Node ID of the broker, where it is known.";
    User, text, user, "User name.";
    Auth, text, auth, "NAME of the `[auth.NAME]`.";
    Mechanism, text, mechanism, "SASL mechanism.";
    Sink, text, sink, "Name of the sink.";
    Source, text, source, "Name of the source.";
    Bridge, text, bridge, "Name of the bridge.";
    Remote, text, remote, "Address of the bridge's remote, or of the other instance.";
    Instance, text, instance, "Name of the other instance.";
    Group, text, group, "Consumer group.";
    Partitions, number, partitions, "Number of partitions.";
    Offset, number, offset, "Offset in the partition.";
    NextOffset, number, next_offset, "Offset at which reading goes on.";
    Share, text, share, "Shared subscription: `$share/NAME/FILTER`.";
    Topic, text, topic, "Kafka topic.";
    LettersTopic, text, dead_letters_topic, "Kafka topic of the dead letters.";
    MqttTopic, text, mqtt_topic, "MQTT topic.";
    Partition, number, partition, "Partition.";
    Slots, text, slots, "Slots: their numbers, and ranges of them.";
    Bytes, number, bytes, "Size in bytes.";
    Records, number, records, "Number of records; for lost records a lower bound.";
    Sessions, number, sessions, "Number of stored sessions.";
    Retained, number, retained, "Number of stored retained messages.";
    Queued, number, queued, "Number of stored messages that wait for kept sessions.";
    Shared, number, shared, "Number of stored messages that wait for shared subscriptions.";
    Configured, number, configured, "Configured number of shards.";
    Cuts, number, batches, "Batches that Kafka may or may not have: they are sent again unchanged.";
    Signal, text, signal, "The signal that stops the service.";
    Clause, text, clause, "Clause of the MQTT standard.";
    Reason, text, reason, "Why, in words.";
    Open, number, open, "Messages of QoS 2 on their way.";
    InflightMax, number, inflight_max, "Messages on their way at most from now on.";
    Via, text, via, "Brokers that the message has come through, in order: the digits of instances, and those that an instance has for a remote.";
    Fate, text, fate, "What became of the message: `rejected` (no destination has it), `dropped` (all other destinations have it) or `dead_letter` (likewise, and a dead letter is kept); of a binding also `kept` (the remote has it still).";
    Code, number, code, "Kafka's error code.";
    Error, text, error, "Kafka's name for it.";
    From, number, from, "Partitions before.";
    To, number, to, "Partitions after.";
    Applied, text, applied, "What has changed, or `none`.";
    Waiting, text, waiting, "What changes with a restart only.";
    File, text, file, "Path of a file.";
    Days, number, days, "Whole days that are left.";
    Files, text, files, "Whether writing outside its own directories and starting programs are denied: `full`, `partial`, `unavailable`.";
    Calls, text, calls, "Whether system calls that it does not need are denied: `full`, or `unavailable` and why.";
    GraceMs, number, grace_ms, "Time limit in milliseconds.";
    OutageMs, number, outage_ms, "For how long no broker could be reached, in milliseconds; missing at the first connection.";
    SilentMs, number, blocked_ms, "For how long, in milliseconds.";
    RowsLeft, number, records_left, "Records that Kafka has not confirmed.";
    RowsKept, number, records_kept, "Records that Kafka has not confirmed and that the spool keeps for the next start.";
    ConnectionsLeft, number, connections_left, "Connections that were still open.";
    Total, number, total, "Number since the start, on this shard.";
    Matched, number, records_in, "Records taken within the minute.";
    Delivered, number, delivered, "Records delivered within the minute.";
    Failed, number, failed, "Records refused or dropped within the minute.";
    Buffered, number, buffered_records, "Records waiting now.";
    PerMinute, number, per_minute, "Records finished within the minute.";
    Protocol, text, protocol, "Version of MQTT.";
    SessionPresent, flag, session_present, "Whether the client goes on with a session that was kept.";
    UnknownRoles, text, unknown_roles, "Roles of its token that the configuration does not have.";
    Detail, text, detail, "What the network or TLS said.";
    ConnectedMs, number, connected_ms, "How long it was connected, in milliseconds, to a tenth of a second.";
    NewPeer, text, new_peer, "Address of the client that has taken the session over.";
    Rule, text, rule, "The rule that denies it, or that there is none that grants it.";
    SqlRule, text, sql_rule, "Name of the `[[rule]]`.";
    Action, text, action, "What was done, or asked for.";
    Level, text, level, "The new log level.";
    Token, text, token, "Name of the token that was used.";
}

/// What an event of a thing that all shards see reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeenBy {
    /// A state, which lasts until another event reports a new one.
    State,
    /// A change, which may happen again.
    Change,
}

impl Kind {
    /// The severity of the line in the log; `None`: debug. Statistics come each minute for each sink.
    fn log_severity(self) -> Option<Severity> {
        let EventSpec { severity, class, .. } = self.spec();
        if *class == Class::Statistics { None } else { Some(*severity) }
    }

    /// Whether all shards see the event's subject.
    #[must_use]
    pub const fn seen_by_all(self) -> Option<SeenBy> {
        match self {
            Self::KafkaReachable
            | Self::KafkaUnreachable
            | Self::BrokerUnreachable
            | Self::BrokerReachable
            | Self::LoginRefused
            | Self::KafkaTlsFailed
            | Self::TopicUnknown
            | Self::TopicKnown
            | Self::TopicForbidden
            | Self::TopicRefused => Some(SeenBy::State),
            Self::TopicMadeAnew | Self::TopicGrown => Some(SeenBy::Change),
            _ => None,
        }
    }

    /// The kind's row of the list.
    #[must_use]
    pub fn spec(self) -> &'static EventSpec {
        &EVENTS[self as usize]
    }
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said<'a> {
    /// A number.
    Number(u64),
    /// Yes or no.
    Flag(bool),
    /// Text.
    Text(Cow<'a, str>),
}

impl From<u64> for Said<'_> {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Said<'_> {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl<'a> From<&'a str> for Said<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Said<'_> {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

/// A field's value within an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept<'a> {
    Number(u64),
    Flag(bool),
    Text(&'a str),
}

/// Kinds of a field's value, as one byte: a number has 8 bytes more, a text its length in 4 and its bytes.
const NUMBER: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const TEXT: u8 = 3;

/// Room for the fields of a connection event: thousands of these are stored.
const FIELDS_BYTES: usize = 96;

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The kind.
    pub kind: Kind,
    /// The time, in milliseconds since 1970.
    pub at_ms: u64,
    /// The shard, if the event is of one.
    pub shard: Option<u64>,
    /// A hash of the event's kind and subject, for kinds with many subjects: few events of each are reported.
    pub(super) subject: Option<u64>,
    /// The second of the teller's clock, for bounds.
    pub(super) second: u64,
    /// The fields one after the other: name, kind of the value, value.
    fields: Vec<u8>,
}

/// The fields of an event.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (Field, Kept<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[field, kind], rest) = self.0.split_first_chunk()?;
        let (kept, rest) = match kind {
            NUMBER => {
                let (number, rest) = rest.split_first_chunk()?;
                (Kept::Number(u64::from_le_bytes(*number)), rest)
            }
            TEXT => {
                let (length, rest) = rest.split_first_chunk()?;
                let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
                (Kept::Text(std::str::from_utf8(text).unwrap_or_default()), rest)
            }
            flag => (Kept::Flag(flag == TRUE), rest),
        };
        self.0 = rest;
        Some((*Field::ALL.get(usize::from(field))?, kept))
    }
}

impl Event {
    /// An event of the present moment, without fields.
    #[must_use]
    pub fn now(kind: Kind) -> Self {
        let fields = Vec::with_capacity(FIELDS_BYTES);
        Self { kind, at_ms: now_ms(), shard: None, subject: None, second: 0, fields }
    }

    /// Like [`Event::now`], in the memory of an event that is not needed any more.
    #[must_use]
    pub(super) fn again(mut self, kind: Kind) -> Self {
        self.fields.clear();
        Self { kind, at_ms: now_ms(), shard: None, subject: None, second: 0, ..self }
    }

    /// Adds a field.
    #[must_use]
    pub fn with<'a>(mut self, field: Field, said: impl Into<Said<'a>>) -> Self {
        match said.into() {
            Said::Number(number) => {
                self.keep(field, NUMBER);
                self.fields.extend_from_slice(&number.to_le_bytes());
            }
            Said::Flag(flag) => self.keep(field, if flag { TRUE } else { FALSE }),
            Said::Text(text) => self.keep_text(field, |to| to.extend_from_slice(text.as_bytes())),
        }
        self
    }

    /// Adds a field in its displayed form, without memory of its own.
    #[must_use]
    pub fn shown(mut self, field: Field, said: Option<impl fmt::Display>) -> Self {
        if let Some(said) = said {
            self.keep_text(field, |to| {
                let _ = write!(to, "{said}");
            });
        }
        self
    }

    fn keep(&mut self, field: Field, kind: u8) {
        debug_assert!(self.kind.spec().fields.contains(&field), "{:?} has no {field:?}", self.kind);
        self.fields.extend_from_slice(&[field as u8, kind]);
    }

    fn keep_text(&mut self, field: Field, write: impl FnOnce(&mut Vec<u8>)) {
        self.keep(field, TEXT);
        let at = self.fields.len();
        self.fields.extend_from_slice(&[0; 4]);
        write(&mut self.fields);
        let length = u32::try_from(self.fields.len() - at - 4).unwrap_or(u32::MAX);
        self.fields[at..at + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// Adds a field, if it has a value.
    #[must_use]
    pub fn maybe<'a>(self, field: Field, said: Option<impl Into<Said<'a>>>) -> Self {
        match said {
            Some(said) => self.with(field, said),
            None => self,
        }
    }

    /// Sets the subject and the second.
    #[must_use]
    pub(super) fn about(self, subject: Option<u64>, second: u64) -> Self {
        Self { subject, second, ..self }
    }

    /// Marks the event as one of all shards.
    #[must_use]
    pub fn of_all_shards(mut self) -> Self {
        self.shard = None;
        self
    }

    /// Whether the fields are those of another event, but for the duration, which each shard measures by itself.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        let lasts = |(name, _): &(Field, Kept<'_>)| *name != Field::OutageMs;
        self.kept().filter(lasts).eq(other.kept().filter(lasts))
    }

    /// Sets the shard.
    #[must_use]
    pub fn on(mut self, shard: usize) -> Self {
        self.shard = Some(shard as u64);
        self
    }

    /// The text of a field.
    #[must_use]
    pub fn text(&self, field: Field) -> Option<&str> {
        match self.of(field)? {
            Kept::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number of a field.
    #[must_use]
    pub fn number(&self, field: Field) -> Option<u64> {
        match self.of(field)? {
            Kept::Number(number) => Some(number),
            _ => None,
        }
    }

    /// The value of a yes-or-no field; `None`: the event does not have it.
    #[must_use]
    pub fn flag(&self, field: Field) -> Option<bool> {
        match self.of(field)? {
            Kept::Flag(flag) => Some(flag),
            _ => None,
        }
    }

    fn of(&self, field: Field) -> Option<Kept<'_>> {
        self.kept().find_map(|(name, kept)| (name == field).then_some(kept))
    }

    fn kept(&self) -> Fields<'_> {
        Fields(&self.fields)
    }

    /// The fields, as JSON.
    pub fn values(&self) -> impl Iterator<Item = (&'static str, Value)> {
        self.kept().map(|(field, kept)| {
            let value = match kept {
                Kept::Number(number) => number.into(),
                Kept::Flag(flag) => flag.into(),
                Kept::Text(text) => text.into(),
            };
            (field.name(), value)
        })
    }
}

/// The log target of connection events.
const CONNECTIONS: &str = "forebay::connections";

/// Whether connection events are logged.
pub(super) fn are_connections_logged() -> bool {
    tracing::enabled!(target: CONNECTIONS, tracing::Level::DEBUG)
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    u64::try_from(super::time::now_ms()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finding_q37_statistics_are_in_the_log_at_debug_only() {
        for kind in Kind::ALL {
            assert_eq!(kind.log_severity().is_none(), kind == Kind::SinkStatistics, "{kind:?}");
        }
    }

    #[test]
    fn names_are_unique_and_every_field_belongs_to_an_event() {
        for (i, spec) in EVENTS.iter().enumerate() {
            assert!(EVENTS[..i].iter().all(|other| other.name != spec.name), "{}", spec.name);
        }
        for field in Field::ALL {
            assert!(EVENTS.iter().any(|spec| spec.fields.contains(field)), "{field:?} is nobody's");
        }
    }

    #[test]
    fn the_fields_of_an_event_are_those_that_were_given() {
        let event = Event::now(Kind::TopicForbidden).on(1).with(Field::Topic, "t").with(Field::Code, 29);
        let values: Vec<_> = event.values().collect();
        assert_eq!(values, [("topic", "t".into()), ("code", 29.into())]);
        assert_eq!((event.shard, event.text(Field::Topic), event.number(Field::Code)), (Some(1), Some("t"), Some(29)));
        let event = Event::now(Kind::ClientConnected).shown(Field::Client, Some("ü")).with(Field::User, String::new());
        let event = event.with(Field::SessionPresent, true).maybe(Field::Peer, None::<String>);
        let values: Vec<_> = event.values().collect();
        assert_eq!(values, [("client", "ü".into()), ("user", "".into()), ("session_present", true.into())]);
        assert_eq!((event.flag(Field::SessionPresent), event.text(Field::Peer)), (Some(true), None));
        let other = event.clone().again(Kind::ClientConnected).with(Field::Client, "ü");
        assert!(event.says_the_same(&event.clone()) && !event.says_the_same(&other));
    }

    /// Thousands of connection events are stored.
    #[test]
    fn a_client_that_comes_is_a_small_event() {
        let event = Event::now(Kind::ClientConnected).with(Field::Client, "a client id of 24 bytes.");
        let event = event.with(Field::Peer, "192.168.123.123:54321").with(Field::Listener, "0.0.0.0:1883");
        let event = event.with(Field::Protocol, "3.1.1").with(Field::SessionPresent, false);
        let bytes = size_of::<(u64, Event)>() + event.fields.capacity();
        assert!(bytes <= 192, "{bytes}");
    }
}
