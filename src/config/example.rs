//! `forebay config default`: a file with every key, what it means, what it takes and its default, all of it commented
//! out. Made from the table of keys.

use std::fmt::Write as _;

use super::keys::{self, Absent, Key, Kind, Section};

/// The set-up of the guide to TBMQ's Kafka integration.
pub const AS_IN_TBMQ: &str = include_str!("../../examples/tbmq.toml");
/// The set-up of the guide to EMQX's Kafka integration.
pub const AS_IN_EMQX: &str = include_str!("../../examples/emqx.toml");

/// Columns that a comment is broken at.
const WIDTH: usize = 100;
/// Values to show for keys that have no default of their own.
const SHOWN: [(&str, &str); 55] = [
    ("kafka.description", "\"The cluster of the plant\""),
    ("kafka.socket_send_buffer", "\"1MiB\""),
    ("kafka.socket_receive_buffer", "\"1MiB\""),
    ("kafka.other_properties", "{ \"max.block.ms\" = \"60000\" }"),
    ("sink.description", "\"Telemetry of all devices\""),
    ("sink.headers_from", "\"${payload.meta}\""),
    ("sink.retries", "10"),
    ("control.tokens_file", "\"/etc/forebay/tokens\""),
    ("control.tls.cert_file", "\"/etc/forebay/control.pem\""),
    ("control.tls.key_file", "\"/etc/forebay/control.key\""),
    ("control.tls.client_ca_file", "\"/etc/forebay/operators.pem\""),
    ("telemetry.otlp", "\"http://127.0.0.1:4318\""),
    ("telemetry.headers", "{ x-api-key = \"secret\" }"),
    ("spool.segment_bytes", "\"64MiB\""),
    ("spool.spool_share", "0.5"),
    ("delivery.acknowledge", "\"stored\""),
    ("retained.expire_after", "\"30d\""),
    ("sink.buffer", "\"disk\""),
    ("sink.spill_after", "\"64MiB\""),
    ("sink.acknowledge", "\"stored\""),
    ("sink.acks", "\"all\""),
    ("sink.compression", "\"zstd\""),
    ("sink.compression_level", "3"),
    ("listener.bind", "\"0.0.0.0:1883\""),
    ("listener.auth", "\"devices\""),
    ("auth.chain", "[\"jwt\", \"password\"]"),
    ("auth.password_file", "\"/etc/forebay/passwords\""),
    ("auth.acl_file", "\"/etc/forebay/acl\""),
    ("auth.jwt.jwks_url", "\"https://id.example/.well-known/jwks.json\""),
    ("auth.jwt.jwks_ca_file", "\"/etc/forebay/id-ca.pem\""),
    ("auth.jwt.roles_claim", "\"roles\""),
    ("auth.role.publish", "[\"plant/%c/#\"]"),
    ("auth.role.subscribe", "[\"commands/%c\"]"),
    ("listener.transport", "\"wss\""),
    ("listener.tls.cert_file", "\"/etc/forebay/server.pem\""),
    ("listener.tls.key_file", "\"/etc/forebay/server.key\""),
    ("listener.tls.certificates", "{ \"/etc/forebay/other.pem\" = \"/etc/forebay/other.key\" }"),
    ("listener.tls.alpn", "[\"x-amzn-mqtt-ca\"]"),
    ("listener.tls.client_ca_file", "\"/etc/forebay/ca.pem\""),
    ("listener.tls.crl_file", "\"/etc/forebay/devices.crl\""),
    ("listener.ws.origins", "[\"https://app.example\"]"),
    ("kafka.bootstrap", "[\"kafka-1.example:9092\", \"kafka-2.example:9092\"]"),
    ("kafka.buffer_bytes", "\"256MiB\""),
    ("embedded.dir", "\"./forebay-data/log\""),
    ("embedded.advertised", "\"gateway.example:9092\""),
    ("embedded.buffer_bytes", "\"256MiB\""),
    ("embedded.retention", "\"7d\""),
    ("embedded.retention_bytes", "\"10GiB\""),
    ("sink.name", "\"telemetry\""),
    ("sink.kafka", "\"main\""),
    ("sink.filters", "[\"telemetry/#\"]"),
    ("sink.topic", "\"telemetry\""),
    ("sink.dead_letters_topic", "\"telemetry-dead\""),
    ("sink.dead_letters_file", "\"./forebay-data/telemetry-dead.jsonl\""),
    ("sink.headers", "{ client = \"${clientid}\" }"),
];

/// The file. As it stands it means the defaults; without the `#` before keys and headers it is a whole configuration.
#[must_use]
pub fn example() -> String {
    let mut out = String::from(
        "# Forebay: every key with its meaning and default. Remove the # from the section headers and keys that you set.\n\
         # An environment variable overrides this file: FOREBAY_SERVICE_SHARDS, FOREBAY_KAFKA_MAIN_BOOTSTRAP,\n\
         # FOREBAY_SINK_0_TOPIC. `forebay check FILE` checks the result.\n",
    );
    for section in Section::ALL {
        out.push('\n');
        comment(&mut out, section.meaning());
        let _ = writeln!(out, "#{}", section.example_header());
        for key in keys::of(section) {
            out.push('\n');
            comment(&mut out, &format!("{} {}", key.meaning, takes(key)));
            let _ = match shown(key) {
                Some(value) => writeln!(out, "#{} = {value}", key.name),
                None => writeln!(out, "# {} = …", key.name),
            };
        }
    }
    out
}

/// What a key takes and what holds without it, as a sentence.
fn takes(key: &Key) -> String {
    let takes = match (key.kind, key.kind.bounds()) {
        (Kind::Word(words), _) => words.iter().map(|word| format!("\"{}\"", word.name)).collect::<Vec<_>>().join(", "),
        (kind, Some((min, max))) => format!("{kind}, {min} to {max}"),
        (kind, None) => kind.to_string(),
    };
    match key.default {
        Absent::Required => format!("({takes}; required)"),
        Absent::Is(value) if shown(key) != Some(value) => format!("({takes}; default: {value})"),
        Absent::Is(_) => format!("({takes})"),
        Absent::From(text) => format!("({takes}; default: {text})"),
    }
}

/// The value to show; `None`: there is none that goes with the defaults of the others.
fn shown(key: &Key) -> Option<&'static str> {
    let path = format!("{}.{}", key.section.name(), key.name);
    let shown = SHOWN.iter().find(|(known, _)| *known == path).map(|(_, value)| *value);
    match key.default {
        Absent::Is(value) => Some(shown.unwrap_or(value)),
        _ => shown,
    }
}

/// Lines of a comment, broken between words.
fn comment(out: &mut String, text: &str) {
    let mut width = 0;
    for word in text.split_whitespace() {
        if width == 0 || width + 1 + word.chars().count() > WIDTH {
            out.push_str(if width == 0 { "#" } else { "\n#" });
            width = 1;
        }
        let _ = write!(out, " {word}");
        width += 1 + word.chars().count();
    }
    out.push('\n');
}
