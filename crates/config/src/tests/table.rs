//! Every key of the table has an effect: another value makes another configuration, and a change that a reload names.

use std::fmt::Write as _;

use super::keys::{Absent, Key, Kind, Section};
use super::*;

/// A configuration with clusters needs a sink.
const SINK: &str = "[[sink]]\nname='s'\nkafka='main'\nfilters='s'\ntopic='t'";

/// A section with its requirements: text before it, its header, and its required keys.
fn frame(section: Section) -> (&'static str, &'static str, &'static str) {
    const TLS: &str = "[[listener]]\nbind='127.0.0.1:1'\ntransport='tls'";
    const WS: &str = "[[listener]]\nbind='127.0.0.1:1'\ntransport='ws'";
    const JWT: &str = "[auth.a]\nchain='jwt'";
    const ROLES: &str = "[auth.a]\nchain='jwt'\n[auth.a.jwt]\njwks_file='/j'\nroles_claim='r'";
    const CLUSTER: &str = "[[sink]]\nname='s'\nfilters='#'\ntopic='t'\n[kafka.main]\nbootstrap='k:1'";
    match section {
        Section::Control => ("", "[control]", ""),
        Section::ControlTls => ("", "[control.tls]", "cert_file='/c'\nkey_file='/k'"),
        Section::Telemetry => ("", "[telemetry]", "otlp='http://c'"),
        Section::Listener => ("[auth.devices]\nchain='anonymous'", "[[listener]]", "bind='127.0.0.1:1'"),
        Section::ListenerTls => (TLS, "[listener.tls]", "cert_file='/c'\nkey_file='/k'"),
        Section::ListenerWs => (WS, "[listener.ws]", ""),
        Section::Auth => ("", "[auth.a]", "chain='anonymous'"),
        Section::AuthJwt => (JWT, "[auth.a.jwt]", "jwks_file='/j'"),
        Section::AuthRole => (ROLES, "[auth.a.role.r]", ""),
        Section::AuthLimits => ("[auth.a]\nchain='anonymous'", "[auth.a.limits]", ""),
        Section::Kafka => ("[[sink]]\nname='s'\nfilters='#'\ntopic='t'", "[kafka.main]", "bootstrap='k:1'"),
        Section::KafkaTls => (CLUSTER, "[kafka.main.tls]", ""),
        Section::KafkaSasl => (CLUSTER, "[kafka.main.sasl]", ""),
        Section::Delivery => ("[spool]", "[delivery]", ""),
        Section::Rule => (
            "[[sink]]\nname='telemetry'\nfilters='#'\ntopic='t'\nvalue='${payload}'\nkey=''",
            "[[rule]]",
            "name='r'\nsql='SELECT payload FROM t'",
        ),
        Section::RuleRepublish => {
            ("[[rule]]\nname='r'\nsql='SELECT *, payload.room AS room FROM t'", "[[rule.republish]]", "topic='a'")
        }
        Section::Source => ("", "[[source]]", "name='s'\ntopic='t'\nmqtt_topic='m'"),
        Section::Bridge => (SINK, "[bridge.plant]", "url='mqtt://a'"),
        Section::BridgeTls => ("[bridge.plant]\nurl='mqtts://a'", "[bridge.plant.tls]", ""),
        Section::BridgeIn => ("[bridge.plant]\nurl='mqtt://a'", "[[bridge.plant.in]]", "filters='a'"),
        Section::BridgeOut => ("[bridge.plant]\nurl='mqtt://a'", "[[bridge.plant.out]]", "filters='a'"),
        Section::Broker => ("[kafka.second]\nbootstrap='k:2'", "[broker]", ""),
        Section::BrokerLink => {
            ("[kafka.main]\nbootstrap='k:1'\n[broker]\nname='a'", "[broker.link]", "bind='127.0.0.1:1'")
        }
        Section::BrokerRoute => {
            ("[kafka.main]\nbootstrap='k:1'\n[broker]", "[[broker.route]]", "filters='a'\ntopic='t'")
        }
        Section::Sink => {
            ("[spool]", "[[sink]]", "name='s'\nfilters='#'\ntopic='t'\nbuffer='memory'\nacknowledge='replicated'")
        }
        of => ("", header(of), ""),
    }
}

fn header(section: Section) -> &'static str {
    match section {
        Section::Service => "[service]",
        Section::Log => "[log]",
        Section::Mqtt => "[mqtt]",
        Section::Embedded => "[embedded]",
        Section::Spool => "[spool]",
        Section::Retained => "[retained]",
        Section::Dapr => "[dapr]",
        of => panic!("{} has no frame", of.name()),
    }
}

/// Keys with another value that needs other keys, or their absence (`-key`): `path`, other keys, value; none: the value made from
/// the key's kind. With `!` the other keys are part of the change.
const WITH: [(&str, &str, Option<&str>); 67] = [
    ("dapr.grpc", "", Some("'127.0.0.1:9'")),
    ("dapr.socket_mode", "", Some("'0660'")),
    ("broker.kafka", "", Some("'second'")),
    ("broker.qos", "", Some("2")),
    ("broker.server", "name='a'\nlink={bind='127.0.0.1:9'}", Some("'a:1'")),
    ("broker.redirect", "name='a'\nserver='a:1'\nlink={bind='127.0.0.1:9'}", Some("'never'")),
    ("broker.session_timeout", "name='a'\nlink={bind='127.0.0.1:9'}", None),
    ("broker.link.cert_file", "!key_file='/k'\nca_file='/a'", None),
    ("broker.link.key_file", "!cert_file='/c'\nca_file='/a'", None),
    ("broker.link.ca_file", "!cert_file='/c'\nkey_file='/k'", None),
    ("bridge.url", "", Some("'mqtt://b'")),
    ("bridge.kafka", "dead_letters_topic='d'", Some("'embedded'")),
    ("bridge.dead_letters_file_bytes_max", "dead_letters_file='/d'", None),
    ("bridge.dead_letters_files_max", "dead_letters_file='/d'", None),
    ("bridge.tls.cert_file", "!key_file='/k'", None),
    ("bridge.tls.key_file", "!cert_file='/k'", None),
    ("bridge.in.qos", "", Some("2")),
    ("bridge.out.qos", "", Some("1")),
    ("bridge.out.payload", "", Some("'other'")),
    ("rule.on_error", "sinks='telemetry'", Some("'reject'")),
    ("rule.republish.qos", "", Some("1")),
    ("sink.on_refuse", "", Some("'drop'")),
    ("control.file_dirs", "", Some("'/d'")),
    ("control.origins", "tokens_file='/t'", Some("'https://a'")),
    ("control.base_path", "", Some("'/a'")),
    ("control.grafana_url", "", Some("'https://a/b'")),
    ("auth.chain", "", Some("'certificate'")),
    ("embedded.dir", "", Some("'/d'")),
    ("service.data_dir_id", "", Some("'019c2f00-0000-7000-8000-000000000001'")),
    ("service.shards", "pin=false", None),
    ("listener.transport", "", Some("'ws'")),
    ("listener.proxy_from", "proxy_protocol='v1'", Some("'10.0.0.0/8'")),
    ("listener.socket_mode", "", Some("'0600'")),
    ("listener.tls.client_certificate", "client_ca_file='/a'", None),
    ("listener.tls.crl_file", "client_ca_file='/a'", None),
    ("listener.tls.crl_expired", "client_ca_file='/a'", None),
    ("listener.ws.path", "", Some("'/ws'")),
    ("auth.password_file", "!chain=['password']", None),
    ("auth.jwt.jwks_url", "!-jwks_file", None),
    ("auth.jwt.jwks_ca_file", "-jwks_file\njwks_url='https://a'", None),
    ("auth.jwt.refresh", "-jwks_file\njwks_url='https://a'", None),
    ("auth.jwt.stale_max", "-jwks_file\njwks_url='https://a'", None),
    ("auth.jwt.secret_file", "!-jwks_file", None),
    ("auth.jwt.algorithms", "", Some("'RS256'")),
    ("kafka.reconnect_backoff_min", "", Some("'2ms'")),
    ("kafka.buffer_bytes", "", Some("'300MiB'")),
    ("kafka.tcp_keepalive", "", Some("'1,2,3'")),
    ("kafka.tls.cert_file", "!key_file='/k'", None),
    ("kafka.tls.key_file", "!cert_file='/k'", None),
    ("embedded.buffer_bytes", "", Some("'300MiB'")),
    ("embedded.message_bytes_max", "", Some("'2MiB'")),
    ("spool.bytes_max", "", Some("'16GiB'")),
    ("spool.segment_bytes", "", Some("'32MiB'")),
    ("delivery.acknowledge", "", Some("'received'")),
    ("sink.kafka", "", Some("'embedded'")),
    ("sink.buffer", "", Some("'hybrid'")),
    ("sink.acknowledge", "", Some("'leader'")),
    ("sink.spill_after", "buffer='hybrid'", Some("'32MiB'")),
    ("sink.acks", "acknowledge='received'", Some("'1'")),
    ("sink.compression_level", "compression='zstd'", None),
    ("sink.timestamp_unit", "timestamp='${payload.t}'", None),
    ("sink.headers_encode", "headers_from='${payload.h}'", None),
    ("sink.memory_overload_protection", "acknowledge='received'", None),
    ("sink.dead_letters_file_bytes_max", "dead_letters_file='/d'", None),
    ("source.kafka", "", Some("'embedded'")),
    ("source.on_bad_record", "", Some("'stop'")),
    ("sink.dead_letters_files_max", "dead_letters_file='/d'", None),
];

/// A value other than the default and that of the frame.
fn other(key: &Key) -> String {
    match key.kind {
        Kind::Flag => (key.default_text() != Some("true")).to_string(),
        Kind::Integer { min, .. } | Kind::Size { min, .. } => (min + 1).to_string(),
        Kind::Share => "0.3".to_owned(),
        Kind::Duration { min, .. } => format!("'{}ms'", min.as_millis() + 1_000),
        Kind::Word(words) => {
            let names = words.iter().map(|word| format!("\"{}\"", word.name));
            names.into_iter().find(|name| key.default_text() != Some(name)).expect("a key has two words")
        }
        Kind::Address | Kind::Bind => "'127.0.0.1:9'".to_owned(),
        Kind::QosTemplate => "'${headers.q}'".to_owned(),
        Kind::FlagTemplate => "true".to_owned(),
        Kind::OffsetReset => "'earliest'".to_owned(),
        Kind::AddressOrOff => "'off'".to_owned(),
        Kind::TemplateTable | Kind::TextTable => key.shown.unwrap_or("{ a = 'b' }").to_owned(),
        _ => key.shown.unwrap_or("'other'").to_owned(),
    }
}

impl Key {
    fn default_text(&self) -> Option<&'static str> {
        match self.default {
            Absent::Is(text) => Some(text),
            _ => None,
        }
    }
}

/// The file with these keys in their section; later ones replace earlier ones.
fn file(section: Section, lines: &[&str]) -> String {
    let (before, header, needed) = frame(section);
    let mut keys: Vec<(&str, &str)> = Vec::new();
    for line in needed.lines().chain(lines.iter().flat_map(|lines| lines.lines())) {
        let name = line.split('=').next().unwrap_or_default().trim();
        keys.retain(|(known, _)| *known != name.trim_start_matches('-'));
        if !name.starts_with('-') {
            keys.push((name, line));
        }
    }
    let keys: String = keys.iter().map(|(_, line)| format!("{line}\n")).collect();
    let clusters = if matches!(section, Section::Sink | Section::Source | Section::Bridge | Section::Broker) {
        "[kafka.main]\nbootstrap='k:1'\n[embedded]\n"
    } else {
        ""
    };
    let kafka = if clusters.is_empty() || keys.contains("kafka = ") { "" } else { "kafka='main'\n" };
    format!("{before}\n{header}\n{keys}{kafka}{clusters}")
}

/// A login is compared as a whole, and needs files, as tokens and documents do: see `sasl`, `bridges` and `dapr`.
fn is_of_a_login(key: &Key) -> bool {
    let is_file = matches!(key.name, "components" | "api_token_file" | "app_token_file");
    key.section == Section::Dapr && is_file
        || key.section == Section::KafkaSasl
        || key.section == Section::Bridge && key.name.starts_with("password")
}

/// The configurations before and after a change of a key.
fn changed(key: &Key) -> Result<(Config, Config), String> {
    let path = format!("{}.{}", key.section.name(), key.name);
    let (_, with, value) = WITH.iter().find(|(of, ..)| *of == path).copied().unwrap_or_default();
    let value = value.map_or_else(|| other(key), str::to_owned);
    let read = |lines: &[&str]| {
        let text = file(key.section, lines);
        let config = parse_with(&text, "test", &Overrides::default(), 2);
        config.map_err(|problems| format!("{path}: {problems}\n{text}"))
    };
    let (before, with) = with.strip_prefix('!').map_or((with, with), |with| ("", with));
    let (old, new) = (read(&[before])?, read(&[with, &format!("{} = {value}", key.name)])?);
    let plain = |config: &Config| Config { warnings: Problems::default(), ..config.clone() };
    if plain(&old) == plain(&new) {
        return Err(format!("{path} = {value} is not read"));
    }
    if Change::between(&old, &new).is_empty() {
        return Err(format!("a change of {path} to {value} is not named"));
    }
    Ok((old, new))
}

#[test]
fn every_key_is_read_and_a_reload_names_its_change() {
    let without: Vec<_> = keys::all().filter(|key| !is_of_a_login(key)).filter_map(|key| changed(key).err()).collect();
    assert!(without.is_empty(), "{}", without.join("\n"));
}

/// Whether a change of a key waits for a restart.
fn waits(key: &Key) -> bool {
    if is_of_a_login(key) {
        return key.section == Section::Dapr && key.name != "components";
    }
    let (old, new) = changed(key).unwrap_or_else(|why| panic!("{why}"));
    !Change::between(&old, &new).waiting.is_empty()
}

/// For each part of the file the keys that a reload applies, and those that need a restart, in Markdown.
pub(super) fn changes() -> String {
    let mut out = String::from("| part | applied at once | needs a restart |\n|---|---|---|\n");
    for section in Section::ALL {
        let (later, now): (Vec<&Key>, Vec<&Key>) = keys::of(section).partition(|key| waits(key));
        let shown = |these: &[&Key], others: &[&Key]| match (these.len(), others.len()) {
            (0, _) => String::new(),
            (_, 0) => "all keys".to_owned(),
            (these, others) if these > others => "all others".to_owned(),
            _ => these.iter().map(|key| format!("`{}`", key.name)).collect::<Vec<_>>().join(", "),
        };
        let _ = writeln!(out, "| `{}` | {} | {} |", section.header(), shown(&now, &later), shown(&later, &now));
    }
    out
}

/// Parts that appear in the file or go from it: those that a reload adds and removes, and those that need a restart, as the document says.
#[test]
fn parts_come_and_go_as_the_document_says() {
    const BASE: &str = "[kafka.main]\nbootstrap='k:1'\n[[sink]]\nname='s'\nkafka='main'\nfilters='#'\ntopic='t'\nbuffer='memory'\nacknowledge='replicated'\n";
    let parts = [
        (
            "[[sink]]\nname='other'\nkafka='main'\nfilters='a'\ntopic='t'\nbuffer='memory'\nacknowledge='replicated'\n",
            false,
        ),
        ("[[source]]\nname='c'\nkafka='main'\ntopic='c'\nmqtt_topic='m'\n", false),
        ("[[rule]]\nname='r'\nsql='SELECT payload FROM t'\nconsole=true\n", false),
        ("[bridge.b]\nurl='mqtt://b'\n[[bridge.b.in]]\nfilters='a'\n", false),
        ("[kafka.second]\nbootstrap='k:2'\n", false),
        ("[[listener]]\nbind='127.0.0.1:9'\n", false),
        ("[auth.a]\nchain='anonymous'\n", false),
        ("[spool]\n", true),
        ("[broker]\nkafka='main'\n", true),
        ("[telemetry]\notlp='http://c'\n", true),
        ("[control.tls]\ncert_file='/c'\nkey_file='/k'\n", true),
    ];
    for (part, waits) in parts {
        let (without, with) = (good(BASE), good(&format!("{BASE}{part}")));
        for (old, new) in [(&without, &with), (&with, &without)] {
            let change = Change::between(old, new);
            assert_eq!((change.applied.is_empty(), change.waiting.is_empty()), (waits, !waits), "{part}: {change:?}");
        }
    }
}

/// No key takes a date; a date would show a key that is not read.
#[test]
fn every_key_says_what_it_expects() {
    for key in keys::all().filter(|key| !is_of_a_login(key)) {
        let path = format!("{}.{}", key.section.name(), key.name);
        let with = WITH.iter().find(|(of, ..)| *of == path).map_or("", |(_, with, _)| with.trim_start_matches('!'));
        let text = file(key.section, &[with, &format!("{} = 1979-05-27", key.name)]);
        let read = parse_with(&text, "test", &Overrides::default(), 2);
        let said = read.map_or_else(|problems| problems.to_string(), |_| "it is not read".to_owned());
        assert!(said.contains(&format!(".{}: expected ", key.name)), "{path}: {said}");
    }
}
