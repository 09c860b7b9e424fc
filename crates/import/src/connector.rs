//! Connectors: `[kafka.NAME]`.

use std::path::Path;

use serde_json::Value as Json;
use toml_edit::{InlineTable, Value};

use super::collect::Thing;
use super::draft::Block;
use super::given::Given;
use super::notes::Notes;

/// The port of a host without one.
const PORT: u16 = 9092;
/// EMQX's defaults that differ from ours.
const METADATA_AGE_MIN: &str = "3s";
const SOCKET_BUFFER: &str = "1MiB";
const KEEP_ALIVE: &str = "none";
/// The user of Azure Event Hubs.
const AZURE_USER: &str = "$ConnectionString";

/// A family of connectors that speak Kafka's protocol.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    /// Whether TLS and a login by PLAIN are in force by default.
    is_hosted: bool,
}

/// The families.
const FAMILIES: [Family; 4] = [
    Family { name: super::collect::PRODUCER, is_hosted: false },
    Family { name: super::collect::CONSUMER, is_hosted: false },
    Family { name: "confluent_producer", is_hosted: true },
    Family { name: "azure_event_hub_producer", is_hosted: true },
];

/// The family of this name, if it speaks Kafka's protocol.
pub(super) fn family(name: &str) -> Option<Family> {
    FAMILIES.into_iter().find(|family| family.name == name)
}

/// A cluster: its blocks without a header, and whether the connector is enabled.
pub(super) struct Cluster {
    pub(super) blocks: Vec<Block>,
    pub(super) is_enabled: bool,
}

/// Makes the blocks of a connector.
pub(super) fn cluster(thing: &Thing<'_>, name: &str, family: Family, passwords: &Path, notes: &Notes) -> Cluster {
    let about = thing.about();
    let given = Given::new(about.clone(), thing.members, notes);
    given.pass_over(&["type", "name", "status", "status_reason", "node_status", "actions", "sources", "rules"]);
    given.pass_over(&["created_at", "last_modified_at"]);
    let mut block = Block::named(&["kafka", name], &about);
    block.set_some("description", given.text("description"));
    block.set("bootstrap", bootstrap(&given));
    block.set_some("connect_timeout", given.duration("connect_timeout", "ms").filter(|time| time != "5s"));
    let age = given.duration("min_metadata_refresh_interval", "ms");
    block.set("metadata_min_age", age.as_deref().unwrap_or(METADATA_AGE_MIN));
    block.set_some("request_timeout", given.duration("request_timeout", "ms"));
    given.leave_out("metadata_request_timeout", "request_timeout is for all requests, those for metadata among them");
    socket(&mut block, given.part("socket_opts"));
    let resource = given.part("resource_opts");
    let interval = resource.duration("health_check_interval", "ms");
    block.set_some("health_check_interval", interval.filter(|time| time != "15s"));
    resource.finish();
    given.leave_out("health_check_topic", "forebay check looks at the topics");
    given.leave_out("allow_auto_topic_creation", "the cluster's auto.create.topics.enable decides");
    given.leave_out("tags", "there are none here");
    let is_enabled = given.flag("enable").unwrap_or(true);
    if !is_enabled {
        given.note("enable", "it is disabled: no rule names its sinks, and its sources are paused");
    }
    let tls = tls(name, &about, family, given.part("ssl"));
    let sasl = sasl(name, family, tls.is_some(), passwords, &given);
    given.finish();
    Cluster { blocks: [Some(block), tls, sasl].into_iter().flatten().collect(), is_enabled }
}

fn bootstrap(given: &Given<'_>) -> String {
    let listed = |value: &Json| match value {
        Json::Array(list) => list.iter().filter_map(|host| host.as_str().map(str::to_owned)).collect(),
        value => value.as_str().unwrap_or_default().split(',').map(str::to_owned).collect::<Vec<_>>(),
    };
    let hosts = given.get("bootstrap_hosts").map(listed).unwrap_or_default();
    let with_port = |host: &String| {
        let host = host.trim();
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if has_port { host.to_owned() } else { format!("{host}:{PORT}") }
    };
    hosts.iter().filter(|host| !host.trim().is_empty()).map(with_port).collect::<Vec<_>>().join(",")
}

fn socket(block: &mut Block, given: Given<'_>) {
    for (theirs, ours) in [("sndbuf", "socket_send_buffer"), ("recbuf", "socket_receive_buffer")] {
        block.set(ours, given.size(theirs).as_deref().unwrap_or(SOCKET_BUFFER));
    }
    block.set("tcp_keepalive", given.text("tcp_keepalive").unwrap_or(KEEP_ALIVE));
    if given.flag("nodelay") == Some(false) {
        given.left_out("nodelay", "TCP_NODELAY is always set");
    }
    given.finish();
}

fn tls(name: &str, about: &str, family: Family, given: Given<'_>) -> Option<Block> {
    let is_on = given.flag("enable").unwrap_or(family.is_hosted);
    if !is_on {
        given.pass_over_all();
        return None;
    }
    let mut block = Block::named(&["kafka", name, "tls"], about).part();
    for (theirs, ours) in [("cacertfile", "ca_file"), ("certfile", "cert_file"), ("keyfile", "key_file")] {
        match given.text(theirs) {
            Some(pem) if pem.contains("-----BEGIN") && ours == "ca_file" => block.set("ca_certificates", pem),
            Some(pem) if pem.contains("-----BEGIN") => {
                given.left_out(theirs, format_args!("write it into a file, and name that as {ours}"));
            }
            Some(path) => {
                block.set(ours, path);
                given.note(theirs, format_args!("\"{path}\" is a file of EMQX's machine"));
            }
            None => {}
        }
    }
    if given.text("verify").unwrap_or("verify_none") == "verify_none" {
        given.note(
            "verify",
            "EMQX accepts any certificate; here it is always checked: set ca_file if no known CA has signed it",
        );
    }
    match given.text("server_name_indication") {
        None | Some("auto") => {}
        Some("disable") => given.left_out("server_name_indication", "the name is always sent"),
        Some(server) => block.set("server_name", server),
    }
    given.leave_out("password", "the key must have no passphrase here");
    given.leave_out("depth", "chains have the depth that the CA allows");
    given.leave_out("versions", "TLS 1.2 and 1.3 are used");
    given.leave_out("ciphers", "they are fixed");
    given.finish();
    Some(block)
}

/// The login. `has_tls`: whether the connection is encrypted.
fn sasl(name: &str, family: Family, has_tls: bool, passwords: &Path, given: &Given<'_>) -> Option<Block> {
    match given.get("authentication") {
        None if !family.is_hosted => return None,
        Some(Json::String(none)) if none == "none" => return None,
        Some(Json::String(other)) => {
            given.left_out("authentication", format_args!("there is no login by {other} here"));
            return None;
        }
        _ => {}
    }
    let login = given.part("authentication");
    let mut block = Block::named(&["kafka", name, "sasl"], given.about()).part();
    let file = passwords.join(format!("kafka-{name}.password")).display().to_string();
    match login.text("mechanism").or(family.is_hosted.then_some("plain")) {
        Some("oauth") => {
            by_token(&mut block, &login);
            block.set("client_secret_file", file.as_str());
            login.get("client_secret");
            login.note("client_secret", format_args!("no secret is taken over: write it into {file}"));
        }
        Some(mechanism @ ("plain" | "scram_sha_256" | "scram_sha_512")) => {
            block.set("mechanism", mechanism.to_ascii_uppercase().replace('_', "-"));
            block.set("username", login.text("username").unwrap_or(AZURE_USER));
            if mechanism == "plain" && !has_tls {
                block.set("insecure", true);
                login.note("mechanism", "insecure = true: the password travels without encryption, as with EMQX");
            }
            block.set("password_file", file.as_str());
            let variable = name.to_ascii_uppercase().replace(['-', '.'], "_");
            login.get("password");
            login.note(
                "password",
                format_args!(
                    "no secret is taken over: write it into {file}; or leave password_file out and set FOREBAY_KAFKA_{variable}_SASL_PASSWORD in \
                     the environment"
                ),
            );
        }
        other => {
            login.left_out(
                "mechanism",
                format_args!("there is no login by {} here", other.unwrap_or("Kerberos or IAM")),
            );
            login.pass_over_all();
            return None;
        }
    }
    login.finish();
    Some(block)
}

fn by_token(block: &mut Block, login: &Given<'_>) {
    block.set("mechanism", "OAUTHBEARER");
    block.set_some("token_url", login.text("endpoint_uri"));
    block.set_some("client_id", login.text("client_id"));
    block.set_some("scope", login.text("scope"));
    block.set_some("extensions", extensions(&login.part("extensions")));
    login.pass_over(&["grant_type", "timeout", "connect_timeout"]);
}

fn extensions(given: &Given<'_>) -> Option<Value> {
    let mut table = InlineTable::new();
    for key in given.keys() {
        if let Some(text) = given.text(key) {
            table.insert(key, text.into());
        }
    }
    (!table.is_empty()).then(|| table.into())
}
