//! The parts of the file.

/// A part of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Service,
    Control,
    ControlTls,
    Log,
    Telemetry,
    Mqtt,
    Listener,
    ListenerTls,
    ListenerWs,
    Auth,
    AuthJwt,
    AuthRole,
    AuthLimits,
    Kafka,
    KafkaTls,
    KafkaSasl,
    Embedded,
    Spool,
    Delivery,
    Retained,
    Sink,
    Source,
    Rule,
    RuleRepublish,
    Bridge,
    BridgeTls,
    BridgeIn,
    BridgeOut,
    Dapr,
    Broker,
    BrokerRoute,
    BrokerLink,
}

impl Section {
    pub(crate) const ALL: [Self; 32] = [
        Self::Service,
        Self::Control,
        Self::ControlTls,
        Self::Log,
        Self::Telemetry,
        Self::Mqtt,
        Self::Listener,
        Self::ListenerTls,
        Self::ListenerWs,
        Self::Auth,
        Self::AuthJwt,
        Self::AuthRole,
        Self::AuthLimits,
        Self::Kafka,
        Self::KafkaTls,
        Self::KafkaSasl,
        Self::Embedded,
        Self::Spool,
        Self::Delivery,
        Self::Retained,
        Self::Sink,
        Self::Source,
        Self::Rule,
        Self::RuleRepublish,
        Self::Bridge,
        Self::BridgeTls,
        Self::BridgeIn,
        Self::BridgeOut,
        Self::Dapr,
        Self::Broker,
        Self::BrokerRoute,
        Self::BrokerLink,
    ];

    /// The key at the top of the file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Control => "control",
            Self::ControlTls => "control.tls",
            Self::Log => "log",
            Self::Telemetry => "telemetry",
            Self::Mqtt => "mqtt",
            Self::Listener => "listener",
            Self::ListenerTls => "listener.tls",
            Self::ListenerWs => "listener.ws",
            Self::Auth => "auth",
            Self::AuthJwt => "auth.jwt",
            Self::AuthRole => "auth.role",
            Self::AuthLimits => "auth.limits",
            Self::Kafka => "kafka",
            Self::KafkaTls => "kafka.tls",
            Self::KafkaSasl => "kafka.sasl",
            Self::Embedded => "embedded",
            Self::Spool => "spool",
            Self::Delivery => "delivery",
            Self::Retained => "retained",
            Self::Sink => "sink",
            Self::Source => "source",
            Self::Rule => "rule",
            Self::RuleRepublish => "rule.republish",
            Self::Bridge => "bridge",
            Self::BridgeTls => "bridge.tls",
            Self::BridgeIn => "bridge.in",
            Self::BridgeOut => "bridge.out",
            Self::Dapr => "dapr",
            Self::Broker => "broker",
            Self::BrokerRoute => "broker.route",
            Self::BrokerLink => "broker.link",
        }
    }

    /// The header in the file.
    pub(crate) fn header(self) -> String {
        match self {
            Self::Listener | Self::Sink | Self::Source | Self::Rule | Self::RuleRepublish | Self::BrokerRoute => {
                format!("[[{}]]", self.name())
            }
            Self::Auth => "[auth.NAME]".to_owned(),
            Self::AuthJwt => "[auth.NAME.jwt]".to_owned(),
            Self::AuthRole => "[auth.NAME.role.ROLE]".to_owned(),
            Self::AuthLimits => "[auth.NAME.limits]".to_owned(),
            Self::Kafka => "[kafka.NAME]".to_owned(),
            Self::KafkaTls => "[kafka.NAME.tls]".to_owned(),
            Self::KafkaSasl => "[kafka.NAME.sasl]".to_owned(),
            Self::Bridge => "[bridge.NAME]".to_owned(),
            Self::BridgeTls => "[bridge.NAME.tls]".to_owned(),
            Self::BridgeIn => "[[bridge.NAME.in]]".to_owned(),
            Self::BridgeOut => "[[bridge.NAME.out]]".to_owned(),
            _ => format!("[{}]", self.name()),
        }
    }
}

impl Section {
    /// The section that contains this one, and its key there; `None`: the section is at the top of the file.
    pub(crate) fn parent(self) -> Option<(Self, &'static str)> {
        match self {
            Self::ControlTls => Some((Self::Control, "tls")),
            Self::ListenerTls => Some((Self::Listener, "tls")),
            Self::ListenerWs => Some((Self::Listener, "ws")),
            Self::AuthJwt => Some((Self::Auth, "jwt")),
            Self::AuthRole => Some((Self::Auth, "role")),
            Self::AuthLimits => Some((Self::Auth, "limits")),
            Self::KafkaTls => Some((Self::Kafka, "tls")),
            Self::KafkaSasl => Some((Self::Kafka, "sasl")),
            Self::RuleRepublish => Some((Self::Rule, "republish")),
            Self::BridgeTls => Some((Self::Bridge, "tls")),
            Self::BridgeIn => Some((Self::Bridge, "in")),
            Self::BridgeOut => Some((Self::Bridge, "out")),
            Self::BrokerRoute => Some((Self::Broker, "route")),
            Self::BrokerLink => Some((Self::Broker, "link")),
            _ => None,
        }
    }

    /// The section at the top of the file that contains this one, or itself.
    pub(crate) fn root(self) -> Self {
        self.parent().map_or(self, |(parent, _)| parent)
    }

    /// An example of a name, if there may be several such sections, each a table with a name.
    pub(crate) fn example_name(self) -> Option<&'static str> {
        match self {
            Self::Auth => Some("devices"),
            Self::Kafka => Some("main"),
            Self::Bridge => Some("plant"),
            _ => None,
        }
    }

    /// Whether there may be several such parts, each with a name.
    pub(crate) fn is_named_part(self) -> bool {
        self == Self::AuthRole
    }

    /// Whether the part is a list of tables.
    pub(crate) fn is_list_part(self) -> bool {
        matches!(self, Self::RuleRepublish | Self::BridgeIn | Self::BridgeOut | Self::BrokerRoute)
    }

    /// The header with names as examples.
    pub(crate) fn example_header(self) -> String {
        let name = self.root().example_name().unwrap_or_default();
        self.header().replace("NAME", name).replace("ROLE", "sensor")
    }

    /// The section's subject, for the documents.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Service => "The process.",
            Self::Control => "The control plane.",
            Self::ControlTls => {
                "TLS of the control plane: it is then served as `https` only. All files are PEM; changed ones are taken within a minute."
            }
            Self::Log => "The log on standard error.",
            Self::Telemetry => "OpenTelemetry: metrics, and traces of the control plane, by OTLP. Off without `otlp`.",
            Self::Mqtt => "Protocol limits, for all listeners.",
            Self::Listener => {
                "An address that devices connect to; may be repeated. Without any: `bind = \"127.0.0.1:1883\"`."
            }
            Self::ListenerTls => {
                "TLS of the `[[listener]]` above it, which needs `transport = \"tls\"` or `\"wss\"`; all files are PEM. See [TLS.md](TLS.md)."
            }
            Self::ListenerWs => {
                "WebSocket of the `[[listener]]` above it, with `transport = \"ws\"` or `\"wss\"`. See [WEBSOCKET.md](WEBSOCKET.md)."
            }
            Self::Auth => {
                "Who may connect to the listeners with `auth = \"NAME\"`, and what they may touch: see [AUTH.md](AUTH.md). Changed files are \
                 taken within a minute, and with a reload; clients whose user was removed or has another password are disconnected then."
            }
            Self::AuthJwt => {
                "Tokens that admit clients, with `\"jwt\"` in `chain`: see [AUTH.md](AUTH.md). Clients whose token has expired, or was signed with a key \
                 that is not there any more, are disconnected."
            }
            Self::AuthRole => {
                "What clients may touch whose token has ROLE in its `roles_claim`: see [AUTH.md](AUTH.md#roles). Any number of them; you choose ROLE. \
                 A change holds for clients that are connected, too. Not by variables of the environment."
            }
            Self::AuthLimits => {
                "What one user may hold, on all shards together; a client without a user name is counted by its client ID. See [AUTH.md](AUTH.md#limits). \
                 A change holds from the next connection on."
            }
            Self::Kafka => {
                "A Kafka cluster; you choose NAME, and sinks refer to it. Without any, the embedded log takes its place. There may be 1,024, and as \
                 many `[auth.NAME]`."
            }
            Self::KafkaTls => {
                "TLS to the brokers of a cluster; it is enabled by the presence of this section, even without keys. All files are PEM. See \
                 [KAFKA_SECURITY.md](KAFKA_SECURITY.md). A change, of the files as well, holds from the next connection on, and connections that \
                 were made before are replaced within a minute."
            }
            Self::KafkaSasl => {
                "How to log in to the brokers of a cluster by SASL: see [KAFKA_SECURITY.md](KAFKA_SECURITY.md). A change holds from the next \
                 login on, and connections that are logged in by what it replaces are replaced within a minute."
            }
            Self::Embedded => {
                "The embedded log: a single-node log with the Kafka protocol in this process, for a machine without Kafka. It \
                 runs if there is no `[kafka.NAME]`, or if this section is present; sinks refer to it as `\"embedded\"`."
            }
            Self::Spool => {
                "The disk buffer: a log of segments per shard in `spool` below `data_dir`. It is enabled by the presence of this \
                 section, even without keys; sinks then keep their records on disk and acknowledge at `\"stored\"`, unless \
                 configured otherwise: see [SPOOL.md](internals/SPOOL.md)."
            }
            Self::Delivery => "Messages to subscribers: see [SUBSCRIPTIONS.md](SUBSCRIPTIONS.md).",
            Self::Retained => {
                "Retained messages: see [SUBSCRIPTIONS.md](SUBSCRIPTIONS.md). A lower limit ends none of those that there are."
            }
            Self::Sink => {
                "MQTT to Kafka. A message goes to every sink with a matching filter, and is acknowledged when each of them has \
                 met its `acknowledge` level. Without any sink and without `[kafka.NAME]`, one sink writes `#` to the Kafka \
                 topic `mqtt-messages`; with a `[kafka.NAME]`, at least one sink is required."
            }
            Self::Source => {
                "Kafka to MQTT: each record of a topic is published as a message, and the consumer group moves on when subscribers have it. May be \
                 repeated. See [SOURCES.md](SOURCES.md). A change takes effect at once: the source leaves its group and goes on where the group is."
            }
            Self::Rule => {
                "SQL between a message and its sinks: filters, transforms and routes. May be repeated. See [SQL.md](SQL.md). A rule is evaluated once, when \
                 its message is taken; a change holds for the messages that follow."
            }
            Self::RuleRepublish => {
                "A message that the `[[rule]]` above it publishes of each of its outputs; may be repeated. All templates are over the output: see \
                 [SQL.md](SQL.md#republishing). Not by variables of the environment."
            }
            Self::Bridge => {
                "Another MQTT broker, the remote, of which Forebay is a client; you choose NAME. May be repeated. See [BRIDGES.md](BRIDGES.md). A change \
                 connects anew."
            }
            Self::BridgeTls => {
                "TLS to the remote, for a `url` with `mqtts://` or `wss://`; not needed if the CAs of this machine have signed its certificate. All files are \
                 PEM. After a change, also of the files, the bridge connects again."
            }
            Self::BridgeIn => {
                "What the `[bridge.NAME]` above it takes from the remote; may be repeated. Templates are over the remote's message; its `${clientid}` is \
                 `bridge/NAME`. Not by variables of the environment."
            }
            Self::BridgeOut => {
                "What the `[bridge.NAME]` above it sends to the remote; may be repeated. Not by variables of the environment."
            }
            Self::Dapr => {
                "Bindings of Dapr, without Dapr: its component documents, its HTTP API for output, and calls of the application for input; or as pluggable components of a sidecar. See \
                 [DAPR.md](DAPR.md)."
            }
            Self::Broker => {
                "Messages of clients go through topics of Kafka: what a client publishes becomes a record, and every record in the topics, from any producer, goes to subscribers; retained \
                 messages are kept there. See [CLUSTER.md](CLUSTER.md). A change waits for a restart."
            }
            Self::BrokerRoute => {
                "A Kafka topic of its own for messages with some MQTT topics; may be repeated. Not by variables of the environment."
            }
            Self::BrokerLink => {
                "Several instances are one broker, and this is where they reach this one: see [CLUSTER.md](CLUSTER.md#several-instances). Without it this instance serves all clients. With TLS \
                 (`cert_file`, `key_file`, `ca_file`) each proves with its certificate that it is one of them; all files are PEM, and changed ones are taken within a minute."
            }
        }
    }
}
