//! Settings of mosquitto, and of rules and bridges of EMQX and TBMQ, under their names there, and the files that have them.

use super::kafka_names::{find, plain};
use super::keys::Section;

/// A setting by its name in mosquitto, EMQX or TBMQ, in the form of [`plain`], and its hint.
type Names = [(&'static str, &'static str)];

/// Keys of a bridge.
const OF_BRIDGE: &Names = &[
    ("address", URL),
    ("addresses", URL),
    ("server", URL),
    ("host", URL),
    ("port", URL),
    ("topic", TOPIC),
    ("topics", TOPIC),
    ("topic_filter", TOPIC),
    ("topic_filters", TOPIC),
    ("ingress", "it is [[bridge.NAME.in]]"),
    ("egress", "it is [[bridge.NAME.out]]"),
    ("forwards", "it is filters in [[bridge.NAME.out]]"),
    ("subscriptions", "it is filters in [[bridge.NAME.in]]"),
    ("remote_clientid", CLIENT_ID),
    ("clientid", CLIENT_ID),
    ("clientid_prefix", CLIENT_ID),
    ("client_id_prefix", CLIENT_ID),
    ("static_clientids", CLIENT_ID),
    ("remote_username", "it is username in [bridge.NAME]"),
    ("remote_password", PASSWORD),
    ("credentials", "they are username and password_file in [bridge.NAME]"),
    ("cleansession", CLEAN_START),
    ("clean_session", CLEAN_START),
    ("keepalive", KEEP_ALIVE),
    ("keepalive_interval", KEEP_ALIVE),
    ("keep_alive_sec", KEEP_ALIVE),
    ("bridge_protocol_version", VERSION),
    ("proto_ver", VERSION),
    ("mqtt_version", VERSION),
    ("protocol_version", VERSION),
    ("bridge_mode", "it is try_private in [bridge.NAME]"),
    ("restart_timeout", "it is reconnect_backoff and reconnect_backoff_max in [bridge.NAME]"),
    ("reconnect_interval", "it is reconnect_backoff and reconnect_backoff_max in [bridge.NAME]"),
    ("connect_timeout_sec", "it is connect_timeout in [bridge.NAME], as in connect_timeout = \"10s\""),
    ("max_inflight", "it is inflight_max in [bridge.NAME]"),
    ("max_inflight_messages", "it is inflight_max in [bridge.NAME]"),
    ("max_queued_messages", "it is queue_messages_max in [bridge.NAME]"),
    ("max_queued_bytes", "it is queue_bytes_max in [bridge.NAME]"),
    ("max_buffer_bytes", "it is queue_bytes_max in [bridge.NAME]"),
    ("resource_opts", "see queue_messages_max, queue_bytes_max and inflight_max in [bridge.NAME]"),
    ("bridge_cafile", "it is ca_file in [bridge.NAME.tls]"),
    ("bridge_capath", "it is ca_file in [bridge.NAME.tls], one file"),
    ("bridge_certfile", "it is cert_file in [bridge.NAME.tls]"),
    ("bridge_keyfile", "it is key_file in [bridge.NAME.tls]"),
    ("bridge_insecure", "it is verify = \"chain\" in [bridge.NAME.tls]: the CA is always checked"),
    ("ssl", "see [bridge.NAME.tls]: ca_file, cert_file, key_file, server_name, verify"),
    ("bridge_outgoing_retain", "it is retain in [[bridge.NAME.out]]"),
    ("retain", "it is retain in [[bridge.NAME.out]]"),
    ("retained", "it is retained and keep_retain in [[bridge.NAME.in]], or retain in [[bridge.NAME.out]]"),
    ("qos", "it is qos in [[bridge.NAME.in]] and [[bridge.NAME.out]]"),
    ("notifications", "leave it out: metrics and events tell of the connection"),
    ("notification_topic", "leave it out: metrics and events tell of the connection"),
    ("start_type", "leave it out: a bridge connects at the start, and stays"),
    ("idle_timeout", "leave it out: a bridge connects at the start, and stays"),
    ("retry_interval", "leave it out: what is not acknowledged is sent again on the next connection"),
    ("pool_size", "leave it out: a bridge has one connection; see share in [[bridge.NAME.in]]"),
    ("local_clientid", LOCAL),
    ("local_username", LOCAL),
    ("local_password", LOCAL),
    ("local_cleansession", LOCAL),
];
const URL: &str = "it is url in [bridge.NAME], as in url = \"mqtt://broker.example:1883\"";
const TOPIC: &str = "it is filters in [[bridge.NAME.in]] for what comes in and in [[bridge.NAME.out]] for what goes out; one of each for mosquitto's `both`";
const CLIENT_ID: &str = "it is client_id in [bridge.NAME]";
const PASSWORD: &str = "write the password into a file and name it as password_file in [bridge.NAME]";
const CLEAN_START: &str = "it is clean_start in [bridge.NAME]";
const KEEP_ALIVE: &str = "it is keep_alive in [bridge.NAME], as in keep_alive = \"60s\"";
const VERSION: &str = "it is version in [bridge.NAME]: \"5.0\", \"3.1.1\" or \"auto\"";
const LOCAL: &str = "leave it out: a bridge is no client of its own broker";

/// Keys of a rule.
const OF_RULE: &Names = &[
    ("actions", "it is sinks in [[rule]] for Kafka, and [[rule.republish]] for messages"),
    ("outputs", "it is sinks in [[rule]] for Kafka, and [[rule.republish]] for messages"),
    ("id", "it is name in [[rule]]"),
    ("rawsql", "it is sql in [[rule]]"),
    ("enable", "it is enabled in [[rule]]"),
];

/// Keys of a listener.
const OF_LISTENER: &Names = &[
    ("protocol", "it is transport in [[listener]]: \"tcp\", \"tls\", \"ws\" or \"wss\""),
    ("port", "it is bind in [[listener]], as in bind = \"0.0.0.0:1883\""),
    ("bind_address", "it is bind in [[listener]], as in bind = \"0.0.0.0:1883\""),
    ("cafile", "it is client_ca_file in [listener.tls]"),
    ("certfile", "it is cert_file in [listener.tls]"),
    ("keyfile", "it is key_file in [listener.tls]"),
    ("require_certificate", "it is client_ca_file in [listener.tls]"),
    ("allow_anonymous", ANONYMOUS),
    ("password_file", PASSWORDS),
    ("acl_file", ACL),
];

/// Sections and keys at the top of the file.
const OF_FILE: &Names = &[
    ("listeners", "it is [[listener]], one for each; see docs/MIGRATING.md"),
    ("connection", "it is [bridge.NAME]; see docs/MIGRATING.md#from-mosquittos-bridges"),
    ("bridges", "it is [bridge.NAME] for MQTT and [[sink]] for Kafka; see docs/MIGRATING.md"),
    ("connectors", EMQX),
    ("actions", EMQX),
    ("rule_engine", EMQX),
    ("authentication", PASSWORDS),
    ("authorization", ACL),
    ("allow_anonymous", ANONYMOUS),
    ("password_file", PASSWORDS),
    ("acl_file", ACL),
    ("persistence", "it is [spool]"),
    ("persistence_location", "it is data_dir in [service]"),
    ("max_queued_messages", "it is queue_messages_max in [delivery]"),
    ("log_dest", "leave it out: the log goes to standard error; see [log]"),
    ("log_type", "it is level in [log]"),
    ("sys_interval", "leave it out: it is 10 s"),
];
const EMQX: &str = "`forebay import emqx` takes over rules, actions, sources and connectors; see docs/MIGRATING.md";
const ANONYMOUS: &str = "it is open in [[listener]], for one without auth";
const PASSWORDS: &str = "it is password_file in [auth.NAME], which auth in [[listener]] names";
const ACL: &str = "it is acl_file in [auth.NAME], which auth in [[listener]] names";

/// The hint for a key of this name in a section, if mosquitto, EMQX or TBMQ have it there.
pub(super) fn cure(section: Section, name: &str) -> Option<&'static str> {
    let names = match section {
        Section::Bridge => OF_BRIDGE,
        Section::Rule => OF_RULE,
        Section::Listener => OF_LISTENER,
        _ => return None,
    };
    find(names, &plain(name))
}

/// The hint for a name at the top of the file, if mosquitto, EMQX or TBMQ have it there.
pub(super) fn cure_at_the_top(name: &str) -> Option<&'static str> {
    find(OF_FILE, &plain(name))
}

/// Words that begin a line of a `mosquitto.conf`.
const MOSQUITTO: &[&str] = &[
    "listener",
    "port",
    "bind_address",
    "protocol",
    "connection",
    "address",
    "addresses",
    "topic",
    "persistence",
    "persistence_location",
    "autosave_interval",
    "allow_anonymous",
    "password_file",
    "acl_file",
    "log_dest",
    "log_type",
    "log_timestamp",
    "cafile",
    "capath",
    "certfile",
    "keyfile",
    "require_certificate",
    "include_dir",
    "max_connections",
    "max_inflight_messages",
    "max_queued_messages",
    "max_keepalive",
    "message_size_limit",
    "max_packet_size",
    "per_listener_settings",
    "use_identity_as_username",
    "connection_messages",
    "user",
    "pid_file",
    "sys_interval",
    "plugin",
    "auth_plugin",
    "clientid",
    "cleansession",
    "keepalive_interval",
    "start_type",
    "try_private",
    "notifications",
    "restart_timeout",
    "retain_available",
    "set_tcp_nodelay",
    "socket_domain",
    "queue_qos0_messages",
    "persistent_client_expiration",
];

/// The name of the form of a text that is no TOML, and what to do with it.
pub(super) fn form(text: &str) -> Option<(&'static str, &'static str)> {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';']));
    // A header of TOML.
    if lines().any(|line| line.starts_with('[') && line.ends_with(']')) {
        return None;
    }
    let is_mosquitto = |line: &&str| {
        let (word, value) = line.split_once(char::is_whitespace).unwrap_or((*line, ""));
        !value.trim_start().starts_with(['=', ':', '{'])
            && (MOSQUITTO.contains(&word)
                || ["bridge_", "remote_", "local_", "auth_opt_", "plugin_opt_"].iter().any(|of| word.starts_with(of)))
    };
    let known = lines().filter(is_mosquitto).count();
    if known > 0 && 2 * known > lines().count() {
        return Some((
            "a mosquitto.conf",
            "write its settings as docs/MIGRATING.md#from-mosquittos-bridges says; password_file and acl_file of mosquitto are read as they are, by [auth.NAME]",
        ));
    }
    // `listeners.tcp.default {`, `server = {`.
    let opens = |line: &str| {
        let Some(name) = line.strip_suffix('{') else { return false };
        let name = name.trim_end().trim_end_matches(['=', ':']).trim_end();
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-\"".contains(c))
    };
    let is_hocon = lines().any(opens) && lines().any(|line| line.starts_with('}'));
    is_hocon.then_some(("HOCON, as emqx.conf", "`forebay import emqx` takes over what EMQX's management API says of rules, actions, sources and connectors; see docs/MIGRATING.md#taking-over-emqxs-settings for that, and the tables there for the rest"))
}

#[cfg(test)]
mod tests {
    use super::super::keys;
    use super::*;

    #[test]
    fn no_name_is_a_key_of_ours_and_each_cure_names_what_is_there() {
        for (section, names) in
            [(Section::Bridge, OF_BRIDGE), (Section::Rule, OF_RULE), (Section::Listener, OF_LISTENER)]
        {
            for (name, cure) in names {
                assert_eq!(plain(name), *name);
                assert!(keys::of(section).all(|key| key.name != *name), "{name}");
                if let Some(key) = cure.strip_prefix("it is ").filter(|rest| !rest.starts_with('[')) {
                    let key = key.split(' ').next().unwrap_or_default();
                    assert!(keys::all().any(|known| known.name == key), "{name}: {cure}");
                }
            }
        }
        for (name, _) in OF_FILE {
            assert!(Section::ALL.iter().all(|section| section.name() != *name), "{name}");
        }
    }

    #[test]
    fn only_other_forms_are_known() {
        assert_eq!(form("listener 1883\nallow_anonymous true\n").map(|(name, _)| name), Some("a mosquitto.conf"));
        let hocon = "node {\n  name = \"emqx@127.0.0.1\"\n}\nlisteners.tcp.default {\n  bind = \"0.0.0.0:1883\"\n}\n";
        assert_eq!(form(hocon).map(|(name, _)| name), Some("HOCON, as emqx.conf"));
        for text in ["", "level = info\n", "[log]\nlevel = info\nsasl = {\n}\n", "port = 1883\ntopic = a\n"] {
            assert_eq!(form(text), None, "{text}");
        }
    }
}
