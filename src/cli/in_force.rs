//! The configuration in force as JSON, keys as in the file: the result of the file, the environment and the options, with every default in
//! place.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::auth::jwt::{Field, Source};
use crate::config::Shown as _;
use crate::config::{Buffer, Config, Part, Sink, ValueFormat, environment};
use crate::listener::ws;
use crate::rule::members::Encode;
use crate::rule::template::{Template, Variable};
use crate::secure::sasl::TokenFrom;
use crate::secure::{self, Authorities, OutgoingSettings, OwnCertificate};

/// The whole configuration. Values that templates took from the environment may be secret: the variable's name is shown in their place.
pub(super) fn of(config: &Config) -> Value {
    let mut all = Map::new();
    all.insert("service".into(), config.service.shown().into());
    let mut control = config.control.shown();
    control.insert("tls".into(), config.control.tls.as_ref().map_or(Value::Null, control_tls));
    all.insert("control".into(), control.into());
    all.insert("log".into(), config.log.shown().into());
    all.insert("telemetry".into(), config.telemetry.as_ref().map_or(Value::Null, telemetry));
    all.insert("mqtt".into(), config.mqtt.shown().into());
    all.insert("listener".into(), config.listeners.iter().filter(|of| !of.is_removed).map(listener).collect());
    all.insert("auth".into(), config.auth.iter().map(|of| (of.name.clone(), auth(of))).collect());
    let clusters = config
        .clusters
        .iter()
        .filter(|cluster| !cluster.is_removed)
        .map(|cluster| (cluster.name.clone(), kafka(cluster)));
    all.insert("kafka".into(), Value::Object(clusters.collect()));
    all.insert("embedded".into(), config.embedded.as_ref().map_or(Value::Null, |of| of.shown().into()));
    all.insert("spool".into(), config.spool.map_or(Value::Null, |spool| spool.shown().into()));
    all.insert("delivery".into(), config.delivery.shown().into());
    all.insert("retained".into(), config.retained.shown().into());
    let environment = environment();
    // The broker's sinks are not in the file.
    let sinks = config.sinks.iter().filter(|sink| !sink.is_removed && sink.of_broker.is_none());
    all.insert("sink".into(), sinks.map(|of| sink(config, of, &environment)).collect());
    let sources = config.sources.iter().filter(|source| !source.is_removed && !source.is_of_broker);
    let rules = config.rules.iter().filter(|rule| !rule.is_removed);
    all.insert("rule".into(), rules.map(|of| rule(of, &environment)).collect());
    // The bridges of components are not in the file.
    let bridges = config.bridges.iter().filter(|bridge| !bridge.is_removed && bridge.binding.is_none());
    let bridges = bridges.map(|of| (of.name.clone(), bridge(config, of, &environment)));
    all.insert("bridge".into(), Value::Object(bridges.collect()));
    all.insert("dapr".into(), config.dapr.as_ref().map_or(Value::Null, |of| of.shown().into()));
    all.insert("broker".into(), config.broker.as_ref().map_or(Value::Null, |of| broker(config, of, &environment)));
    all.insert("source".into(), sources.map(|of| source(config, of, &environment)).collect());
    Value::Object(all)
}

/// The keys of one part; `None`: there is no part of that name.
pub(super) fn part(config: &Config, part: Part, name: &str) -> Option<Map<String, Value>> {
    let environment = environment();
    let keys = match part {
        Part::Sink => sink(config, config.sinks.iter().find(|of| !of.is_removed && of.name == name)?, &environment),
        Part::Cluster => kafka(config.clusters.iter().find(|of| !of.is_removed && of.name == name)?),
        Part::Listener => listener(config.listeners.iter().find(|of| !of.is_removed && of.bind.to_string() == name)?),
        Part::Source => {
            source(config, config.sources.iter().find(|of| !of.is_removed && of.name == name)?, &environment)
        }
        Part::Rule => rule(config.rules.iter().find(|of| !of.is_removed && of.name == name)?, &environment),
        Part::Bridge => {
            bridge(config, config.bridges.iter().find(|of| !of.is_removed && of.name == name)?, &environment)
        }
    };
    match keys {
        Value::Object(keys) => Some(keys),
        _ => None,
    }
}

/// A time as the file writes it; `null`: none.
fn time(of: impl Into<Option<Duration>>) -> Value {
    let Some(of) = of.into() else { return Value::Null };
    let us = of.as_micros();
    match (us % 1_000_000, us % 1_000) {
        (0, _) => format!("{}s", us / 1_000_000),
        (_, 0) => format!("{}ms", us / 1_000),
        _ => format!("{us}us"),
    }
    .into()
}

fn control_tls(tls: &secure::Settings) -> Value {
    let pair = tls.certificates.first();
    json!({
        "cert_file": pair.map(|pair| &pair.certificate),
        "key_file": pair.map(|pair| &pair.key),
        "client_ca_file": tls.clients.as_ref().map(|clients| &clients.ca),
    })
}

/// The keys of `[telemetry]`. Headers may be secret: only their names are shown.
fn telemetry(of: &crate::telemetry::Settings) -> Value {
    let headers = of.headers.iter().map(|(name, _)| (name.clone(), "(redacted)".into()));
    json!({
        "otlp": of.endpoint.to_string(),
        "interval": time(of.interval),
        "headers": headers.collect::<Map<_, _>>(),
        "service_name": of.service_name,
    })
}

fn listener(of: &crate::config::Listener) -> Value {
    let mut shown = of.shown();
    if of.proxy_from.is_empty() {
        shown.insert("proxy_from".into(), Value::Null);
    }
    shown.insert("tls".into(), of.tls.as_ref().map_or(Value::Null, tls));
    let ws = |ws: &ws::Settings| json!({ "path": ws.path, "origins": ws.origins, "forwarded": ws.is_forwarded });
    shown.insert("ws".into(), of.ws.as_deref().map_or(Value::Null, ws));
    shown.into()
}

fn auth(of: &crate::auth::Settings) -> Value {
    let mut shown = of.shown();
    shown.insert("jwt".into(), of.jwt.as_ref().map_or(Value::Null, jwt));
    shown.insert("role".into(), of.roles.iter().map(|role| (role.name.clone(), self::role(role))).collect());
    shown.insert("limits".into(), of.limits.shown().into());
    shown.into()
}

fn role(of: &crate::auth::Role) -> Value {
    json!({ "publish": of.publish, "subscribe": of.subscribe, "replay": of.replay })
}

fn jwt(of: &crate::auth::jwt::Settings) -> Value {
    let file = |is_it: bool| is_it.then(|| of.keys.file().display().to_string());
    let remote = match &of.keys {
        Source::JwksUrl(remote) => Some(remote),
        _ => None,
    };
    json!({
        "jwks_file": file(matches!(of.keys, Source::JwksFile(_))),
        "jwks_url": remote.map(|remote| remote.url.to_string()),
        "jwks_ca_file": remote.and_then(|remote| remote.ca_file.as_ref()),
        "refresh": remote.map(|remote| time(remote.refresh)),
        "stale_max": remote.map(|remote| time(remote.stale_max)),
        "secret_file": file(matches!(of.keys, Source::SecretFile(_))),
        "issuer": of.issuer,
        "audience": of.audience,
        "algorithms": of.algorithms.iter().map(|algorithm| algorithm.name()).collect::<Vec<_>>(),
        "leeway": time(of.leeway),
        "token_from": match of.from {
            Field::Password => "password",
            Field::Username => "username",
        },
        "identity_claim": of.identity_claim,
        "client_id_claim": of.client_id_claim,
        "acl_claim": of.acl_claim,
        "roles_claim": of.roles_claim,
    })
}

fn tls(of: &crate::secure::Settings) -> Value {
    let path = |path: &std::path::PathBuf| path.display().to_string();
    let (first, others) = of.certificates.split_first().unzip();
    let others = others.into_iter().flatten().map(|pair| (path(&pair.certificate), path(&pair.key).into()));
    let clients = of.clients.as_ref();
    let mut shown = json!({
        "cert_file": first.map(|pair| path(&pair.certificate)),
        "key_file": first.map(|pair| path(&pair.key)),
        "certificates": others.collect::<Map<_, _>>(),
        "min_version": if of.is_1_2_allowed { "1.2" } else { "1.3" },
        "alpn": Some(&of.alpn).filter(|alpn| !alpn.is_empty()),
        "client_ca_file": clients.map(|clients| path(&clients.ca)),
        "client_certificate": clients.map(|clients| if clients.is_required { "required" } else { "optional" }),
        "crl_file": clients.and_then(|clients| clients.crl.as_ref().map(path)),
        "crl_expired": clients.map(|clients| if clients.is_expired_crl_refused { "refuse" } else { "use" }),
        "tickets": of.tickets,
    });
    // TOML has no null.
    if let Value::Object(keys) = &mut shown {
        keys.retain(|_, value| !value.is_null());
    }
    shown
}

fn kafka(of: &crate::config::Cluster) -> Value {
    let mut shown = of.shown();
    shown.insert("tls".into(), of.tls.as_ref().map_or(Value::Null, outgoing_tls));
    shown.insert("sasl".into(), of.sasl.as_ref().map_or(Value::Null, sasl));
    shown.into()
}

fn outgoing_tls(of: &OutgoingSettings) -> Value {
    let path = |path: &std::path::PathBuf| path.display().to_string();
    let (file, text) = match &of.ca {
        Authorities::System => (None, None),
        Authorities::File(file) => (Some(path(file)), None),
        Authorities::Text(text) => (None, Some(text)),
    };
    let own = of.identity.as_ref().and_then(OwnCertificate::files);
    json!({
        "ca_file": file,
        "ca_certificates": text,
        "cert_file": own.map(|pair| path(&pair.certificate)),
        "key_file": own.map(|pair| path(&pair.key)),
        "server_name": of.server_name,
        "verify": if of.is_name_checked { "full" } else { "chain" },
    })
}

/// The keys of a login, without passwords and tokens.
fn sasl(of: &crate::config::Sasl) -> Value {
    let credentials = &of.credentials;
    let is_token = credentials.token.is_some();
    let (token_file, endpoint) = match &credentials.token {
        None => (None, None),
        Some(TokenFrom::File(file)) => (Some(file.clone()), None),
        Some(TokenFrom::Endpoint(endpoint)) => (None, Some(endpoint)),
    };
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
    json!({
        "mechanism": credentials.mechanism.name(),
        "username": (!is_token).then_some(&credentials.user),
        "password_file": path(&of.password_file),
        // The password is never in the file.
        "password": null,
        "token_url": endpoint.map(|endpoint| endpoint.url.to_string()),
        "client_id": endpoint.map(|endpoint| &endpoint.client_id),
        "client_secret_file": path(&endpoint.map(|endpoint| endpoint.secret_file.clone())),
        "scope": endpoint.and_then(|endpoint| endpoint.scope.as_ref()),
        "token_ca_file": path(&endpoint.and_then(|endpoint| endpoint.ca_file.clone())),
        "token_file": path(&token_file),
        "extensions": is_token.then(|| credentials.extensions.iter().cloned().collect::<BTreeMap<_, _>>()),
        "insecure": of.insecure,
    })
}

fn sink(config: &Config, of: &Sink, environment: &BTreeMap<String, String>) -> Value {
    let mut shown = of.shown();
    crate::config::rewrite_templates(Part::Sink, &mut shown, |text| hidden(text, environment));
    let dead = of.dead_letters.as_ref();
    // The shared file does not belong to one sink.
    let shared = config.shared_dead_letters_file();
    let file = dead.and_then(|dead| dead.file.as_ref()).filter(|file| **file != shared);
    let mut more = json!({
        "kafka": config.clusters[of.cluster].name,
        "filters": (!of.filters.is_empty()).then_some(&of.filters),
        "timestamp_unit": of.timestamp.as_ref().map(|time| time.unit.as_str()),
        "headers_encode": match of.headers_from.as_ref().map(|from| from.encode) {
            Some(Encode::Json) => "json",
            _ => "none",
        },
        "dead_letters_topic": dead.and_then(|dead| dead.topic.clone()),
        "dead_letters_file": if of.no_dead_letters { Some("none".to_owned()) } else { file.map(|file| file.path.display().to_string()) },
        "dead_letters_file_bytes_max": file.map(|file| file.bytes_max),
        "dead_letters_files_max": file.map(|file| file.files),
    });
    // Without the key in the file, the default is the MQTT topic of the message, for rows of rules as well.
    let is_topic = |key: &Option<Template>| key.as_ref().is_some_and(|key| key.as_single() == Some(&Variable::Topic));
    if of.fed.as_ref().is_some_and(|fed| is_topic(&fed.key)) {
        more["key"] = Value::Null;
    }
    // The template is replaced by the JSON object.
    if of.value_format == ValueFormat::Json {
        more["value"] = Value::Null;
    }
    if of.buffer == Buffer::Memory {
        more["spill_after"] = Value::Null;
    }
    if let Value::Object(more) = more {
        shown.extend(more);
    }
    shown.into()
}

fn rule(of: &crate::config::Rule, environment: &BTreeMap<String, String>) -> Value {
    let mut shown = of.shown();
    shown.insert("republish".into(), of.republish.iter().map(|of| republish(of, environment)).collect());
    shown.into()
}

/// A republished message of a rule, keys as in the file.
pub(super) fn republish(of: &crate::config::Republish, environment: &BTreeMap<String, String>) -> Value {
    let text = |template: &Template| hidden(&template.to_string(), environment);
    let user = of.user_properties.as_ref().map(|from| &from.template);
    let properties = of.properties.iter().map(|(name, template)| (name.as_str().to_owned(), text(template).into()));
    json!({
        "topic": text(&of.topic),
        "payload": text(&of.payload),
        "qos": text(&of.qos),
        "retain": text(&of.retain),
        "user_properties": user.map_or_else(|| crate::config::USER_PROPERTIES_OF_MESSAGE.to_owned(), text),
        "properties": properties.collect::<Map<_, _>>(),
        "direct": of.is_direct,
    })
}

fn source(config: &Config, of: &crate::config::Source, environment: &BTreeMap<String, String>) -> Value {
    let mut shown = of.shown();
    crate::config::rewrite_templates(Part::Source, &mut shown, |text| hidden(text, environment));
    shown.insert("kafka".into(), config.clusters[of.cluster].name.as_str().into());
    shown.into()
}

fn broker(config: &Config, of: &crate::config::Broker, environment: &BTreeMap<String, String>) -> Value {
    let mut shown = of.shown();
    shown.insert("kafka".into(), config.clusters[of.cluster].name.as_str().into());
    let route = |of: &crate::config::BrokerRoute| {
        json!({
            "filters": of.filters,
            "topic": of.topic,
            "partition_by": if of.by_client { "client" } else { "topic" },
            "mqtt_topic": hidden(&of.mqtt_topic.to_string(), environment),
        })
    };
    shown.insert("route".into(), of.routes.iter().map(route).collect());
    let link = |of: &crate::config::BrokerLink| {
        let tls = of.tls.as_ref();
        json!({
            "bind": of.bind.to_string(),
            "address": of.address(),
            "cert_file": tls.map(|tls| &tls.own.certificate),
            "key_file": tls.map(|tls| &tls.own.key),
            "ca_file": tls.map(|tls| &tls.ca),
        })
    };
    shown.insert("link".into(), of.link.as_ref().map_or(Value::Null, link));
    shown.into()
}

/// A bridge. Its password is not shown, nor one in the URL.
fn bridge(config: &Config, of: &crate::config::Bridge, environment: &BTreeMap<String, String>) -> Value {
    let text = |template: &Template| hidden(&template.to_string(), environment);
    let one_in = |of: &crate::config::BridgeIn| {
        json!({
            "name": of.name,
            "filters": of.takes.filters,
            "qos": of.qos as u8,
            "share": of.share,
            "topic": text(&of.takes.topic),
            "retained": of.retained(),
            "keep_retain": of.takes.keeps_retain,
            "feeds": of.feeds.iter().map(|feed| feed.as_str()).collect::<Vec<_>>(),
        })
    };
    let one_out = |of: &crate::config::BridgeOut| {
        json!({
            "name": of.name,
            "filters": of.filters,
            "topic": text(&of.gives.topic),
            "qos": text(&of.gives.qos),
            "retain": text(&of.gives.retain),
            "payload": text(&of.gives.payload),
        })
    };
    let mut shown = of.shown();
    shown.insert("tls".into(), of.tls.as_ref().map_or(Value::Null, outgoing_tls));
    let dead = of.dead_letters.as_ref();
    let topic = dead.and_then(|dead| dead.topic.clone());
    let file = dead.and_then(|dead| dead.file.as_ref());
    shown.insert("kafka".into(), topic.as_ref().map(|_| config.clusters[of.cluster].name.clone()).into());
    shown.insert("dead_letters_topic".into(), topic.into());
    shown.insert("dead_letters_file".into(), file.map(|file| file.path.display().to_string()).into());
    shown.insert("dead_letters_file_bytes_max".into(), file.map(|file| file.bytes_max).into());
    shown.insert("dead_letters_files_max".into(), file.map(|file| file.files).into());
    shown.insert("in".into(), of.ins.iter().map(one_in).collect());
    shown.insert("out".into(), of.outs.iter().map(one_out).collect());
    shown.into()
}

/// Replaces values of the environment by references to their variables.
fn hidden(text: &str, environment: &BTreeMap<String, String>) -> String {
    let values = environment.iter().filter(|(_, value)| !value.is_empty());
    values.fold(text.to_owned(), |text, (name, value)| text.replace(value.as_str(), &format!("${{env.{name}}}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Change, Edit, Text, To};

    #[test]
    fn every_key_of_the_file_is_shown_and_no_other() {
        // The example has every key of every section.
        let example: String = crate::config::example();
        let config = Config::default_no_file();
        let shown = of(&config);
        let (mut section, mut keys) = (String::new(), Vec::new());
        for line in example.lines() {
            let line = line.trim_start_matches('#').trim();
            if let Some(header) = line.strip_prefix('[').filter(|rest| rest.ends_with(']')) {
                section = header
                    .trim_matches(['[', ']'])
                    .replace(".main", "")
                    .replace(".devices", "")
                    .replace(".sensor", "")
                    .replace(".plant", "");
            } else if let Some((key, _)) = line.split_once(" = ")
                && key.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
            {
                keys.push((section.clone(), key.to_owned()));
            }
        }
        assert!(keys.len() > 60, "{keys:?}");
        let login = || {
            let cluster = "[kafka.k]\nbootstrap = 'k:1'\n[[sink]]\nname = 's'\nfilters = '#'\ntopic = 't'\n";
            let sasl = "[kafka.k.sasl]\nmechanism = 'OAUTHBEARER'\ntoken_file = '/t'\ninsecure = true";
            let config = crate::config::parse(&format!("{cluster}{sasl}"), "t").expect("good");
            config.clusters[0].sasl.clone().expect("a login")
        };
        let plant = || {
            let file = "[bridge.plant]\nurl = 'mqtts://a'\n[[bridge.plant.in]]\nfilters = 'a'\n[[bridge.plant.out]]\nfilters = 'a'";
            of(&crate::config::parse(file, "t").expect("good"))
        };
        let routed = || {
            let file = "[kafka.k]\nbootstrap = 'k:1'\n[broker]\nname = 'a'\n[broker.link]\nbind = '127.0.0.1:1'\n[[broker.route]]\nfilters = 'a'\ntopic = 't'";
            of(&crate::config::parse(file, "t").expect("good"))
        };
        for (section, key) in keys {
            let of = match section.as_str() {
                "listener" | "sink" => &shown[&section][0],
                "kafka" => &shown["kafka"]["embedded"],
                "rule" => {
                    let file = "[[rule]]\nname = 'r'\nsql = 'SELECT 1 FROM t'";
                    &of(&crate::config::parse(file, "t").expect("good"))["rule"][0]
                }
                "rule.republish" => {
                    let file = "[[rule]]\nname = 'r'\nsql = 'SELECT * FROM t'\n[[rule.republish]]\ntopic = 't'";
                    &of(&crate::config::parse(file, "t").expect("good"))["rule"][0]["republish"][0]
                }
                "source" => {
                    let file = "[[source]]\nname = 's'\ntopic = 't'\nmqtt_topic = 'm'";
                    &of(&crate::config::parse(file, "t").expect("good"))["source"][0]
                }
                "broker" => &routed()["broker"],
                "broker.route" => &routed()["broker"]["route"][0],
                "broker.link" => &routed()["broker"]["link"],
                "bridge" => &plant()["bridge"]["plant"],
                "bridge.tls" => &plant()["bridge"]["plant"]["tls"],
                "bridge.in" => &plant()["bridge"]["plant"]["in"][0],
                "bridge.out" => &plant()["bridge"]["plant"]["out"][0],
                "listener.tls" => {
                    let file = "[[listener]]\nbind = '127.0.0.1:1'\ntransport = 'tls'\n[listener.tls]\ncert_file = 'c'\nkey_file = 'k'\n\
                        alpn = 'a'\nclient_ca_file = 'a'\ncrl_file = 'c'";
                    &of(&crate::config::parse(file, "t").expect("good"))["listener"][0]["tls"]
                }
                "auth" => {
                    let file = "[auth.a]\nchain = 'anonymous'";
                    &of(&crate::config::parse(file, "t").expect("good"))["auth"]["a"]
                }
                "auth.role" => {
                    let file = "[auth.a]\nchain = 'anonymous'\n[auth.a.role.r]";
                    &of(&crate::config::parse(file, "t").expect("good"))["auth"]["a"]["role"]["r"]
                }
                "auth.limits" => {
                    let file = "[auth.a]\nchain = 'anonymous'";
                    &of(&crate::config::parse(file, "t").expect("good"))["auth"]["a"]["limits"]
                }
                "control.tls" => {
                    let file = "[control.tls]\ncert_file = '/c'\nkey_file = '/k'";
                    &of(&crate::config::parse(file, "t").expect("good"))["control"]["tls"]
                }
                "auth.jwt" => {
                    let file = "[auth.a]\nchain = 'jwt'\n[auth.a.jwt]\njwks_file = 'k'";
                    &of(&crate::config::parse(file, "t").expect("good"))["auth"]["a"]["jwt"]
                }
                "listener.ws" => {
                    let file = "[[listener]]\nbind = '127.0.0.1:1'\ntransport = 'ws'";
                    &of(&crate::config::parse(file, "t").expect("good"))["listener"][0]["ws"]
                }
                "kafka.sasl" => &sasl(&login()),
                "kafka.tls" => {
                    let ca = Authorities::System;
                    &outgoing_tls(&OutgoingSettings { ca, identity: None, server_name: None, is_name_checked: true })
                }
                // These sections are absent by default, or shown with the cluster.
                "spool" => &Value::Object(
                    crate::config::parse("[spool]", "t").expect("a spool").spool.expect("a spool").shown(),
                ),
                "telemetry" => {
                    let config = crate::config::parse("[telemetry]\notlp = 'http://collector'", "t").expect("good");
                    &telemetry(&config.telemetry.expect("it is on"))
                }
                "dapr" => &of(&crate::config::parse("[dapr]", "t").expect("good"))["dapr"],
                "embedded" if ["buffer_bytes", "topics_max"].contains(&key.as_str()) => &shown["kafka"]["embedded"],
                _ => &shown[&section],
            };
            assert!(of.get(&key).is_some(), "{section}.{key} in {of:#}");
        }
    }

    /// Keys as shown of a sink or a cluster can be sent back to the API, and are no change.
    #[test]
    fn what_is_shown_is_what_the_file_takes() {
        let file = "[kafka.k]\nbootstrap = 'k:1'\n[spool]\n\
            [kafka.k.sasl]\nmechanism = 'OAUTHBEARER'\ntoken_file = '/t'\ninsecure = true\nextensions = { a = 'b' }\n\
            [[sink]]\nname = 'plain'\nfilters = ['a', 'b/#']\ntopic = 't'\n\
            [[sink]]\nname = 'json'\nfilters = 'c'\ntopic = '${topic[0]}'\nvalue_format = 'json'\nmetadata = { a = 'b' }\n\
            [[sink]]\nname = 'memory'\nfilters = 'd'\ntopic = 't'\nbuffer = 'memory'\nacknowledge = 'leader'\nexpire_after = '90s'\n\
            [[sink]]\nname = 'all'\nfilters = 'e'\ntopic = 't'\nkey = '${clientid}'\nbuffer = 'hybrid'\nacknowledge = 'received'\n\
            acks = '0'\nspill_after = '4MiB'\ncompression = 'zstd'\ncompression_level = 3\nheaders = { 'a.b' = '${topic}' }\n\
            dead_letters_topic = 'dead'\ndead_letters_file = 'dead.jsonl'\n\
            [[sink]]\nname = 'none'\nfilters = 'f'\nvalue = '${payload}'\ntopic = 't'\ndead_letters_file = 'none'\n\
            [[source]]\nname = 'plain'\ntopic = 'a'\nmqtt_topic = 'm'\n\
            [[source]]\nname = 'all'\ntopic = ['b', 'c']\nmqtt_topic = 'm/${key}'\nqos = '${headers.q}'\nretain = true\ngroup = ''\n\
            user_properties = { 'a.b' = '${ts}' }\noffset_reset = '-90s'\nrelease_after = '1h'\n\
            [[source]]\nname = 'table'\ntopic = { e = 'm/${.value.id}' }\noffset_reset = '2026-11-26T10:00:00.5Z'\nfeeds = 'sinks'\n\
            [[rule]]\nname = 'r'\nsql = 'SELECT payload FROM t'\nsinks = ['fed', 'none']\n\
            [[rule.republish]]\ntopic = 't/${payload.x}'\n[[rule.republish]]\ntopic = 'u'\npayload = ''\nqos = 1\nretain = true\n\
            user_properties = \"${pub_props.'User-Property'}\"\nproperties = { Content-Type = '${payload.c}', message_expiry_interval = 60 }\n\
            direct = true\n\
            [bridge.plant]\nurl = 'mqtts://b:1'\nusername = 'edge'\nversion = 'auto'\nreceive_maximum = 7\nwhen_full = 'drop-newest'\n\
            [[bridge.plant.in]]\nfilters = ['a', 'b/#']\nshare = 's'\nretained = 'none'\nfeeds = 'sinks'\n\
            [[bridge.plant.out]]\nname = 'o'\nfilters = 'c'\ntopic = 'x/${topic}'\nqos = 1\nretain = true\n\
            [bridge.plain]\nurl = 'ws://b'\n[[bridge.plain.out]]\nfilters = 'c'\n\
            [[sink]]\nname = 'fed'\ntopic = '${payload.x}'\nheaders = { a = '${.}' }\n";
        let text = Text { name: "t".to_owned(), text: file.to_owned() };
        let mut config = crate::config::parse(file, "t").expect("good");
        config.share_dead_letters_file();
        let shown = of(&config);
        let keys = |shown: &Value| To::Entry(shown.as_object().expect("a table").clone());
        let mut edits = vec![Edit { part: Part::Cluster, name: "k".to_owned(), to: keys(&shown["kafka"]["k"]) }];
        for sink in shown["sink"].as_array().expect("sinks") {
            let name = sink["name"].as_str().expect("a name").to_owned();
            edits.push(Edit { part: Part::Sink, name, to: keys(sink) });
        }
        for source in shown["source"].as_array().expect("sources") {
            let name = source["name"].as_str().expect("a name").to_owned();
            edits.push(Edit { part: Part::Source, name, to: keys(source) });
        }
        for rule in shown["rule"].as_array().expect("rules") {
            let name = rule["name"].as_str().expect("a name").to_owned();
            edits.push(Edit { part: Part::Rule, name, to: keys(rule) });
        }
        for (name, bridge) in shown["bridge"].as_object().expect("bridges") {
            edits.push(Edit { part: Part::Bridge, name: name.clone(), to: keys(bridge) });
        }
        let (edited, _) = text.edited(&edits, &crate::config::Beside::default()).expect("TOML");
        let mut again =
            crate::config::parse(&edited.text, "t").unwrap_or_else(|problems| panic!("{problems}\n{edited:?}"));
        again.share_dead_letters_file();
        let change = Change::between(&config, &again);
        assert!(change.is_empty(), "{:?} {:?}\n{}", change.applied, change.waiting, edited.text);
    }

    #[test]
    fn values_of_the_environment_are_not_shown() {
        let environment = BTreeMap::from([("TOKEN".to_owned(), "s3cret".to_owned())]);
        assert_eq!(hidden("Bearer s3cret!", &environment), "Bearer ${env.TOKEN}!");
    }
}
