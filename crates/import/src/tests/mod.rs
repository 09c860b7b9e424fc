mod property;

use std::path::Path;

use serde_json::{Value, json};

use super::*;
use forebay_config::{self as config, Config};

fn import(values: &[Value]) -> Imported {
    let named: Vec<_> = values.iter().map(|value| ("emqx.json".to_owned(), value.clone())).collect();
    convert(&named, Path::new("/etc/forebay")).unwrap()
}

/// The configuration, as `forebay check --offline` accepts it.
fn valid(imported: &Imported) -> Config {
    config::parse(&imported.text, "imported").unwrap_or_else(|problems| panic!("{problems}\n{}", imported.text))
}

fn connector() -> Value {
    json!({ "type": "kafka_producer", "name": "my-kafka", "bootstrap_hosts": "127.0.0.1:9092" })
}

/// An action with these parameters beside its topic.
fn action(parameters: Value) -> Value {
    let mut all = json!({ "topic": "testtopic-in" });
    all.as_object_mut().unwrap().extend(parameters.as_object().unwrap().clone());
    json!({ "type": "kafka_producer", "name": "my_sink", "connector": "my-kafka", "parameters": all })
}

fn rule(sql: &str) -> Value {
    json!({ "id": "my_rule", "sql": sql, "actions": ["kafka_producer:my_sink"] })
}

/// The sink of an action with these parameters that a rule feeds, and the notes.
fn sink(sql: &str, parameters: Value) -> (config::Sink, Imported) {
    let imported = import(&[connector(), action(parameters), rule(sql)]);
    let sink = valid(&imported).sinks.remove(0);
    (sink, imported)
}

/// Rows E25 and E32 to E39: the set-up of EMQX's guide, with its defaults.
#[test]
fn the_guide_is_imported_with_emqxs_defaults() {
    let imported = import(&[connector(), action(json!({})), rule("SELECT * FROM \"t/#\"")]);
    let wanted = r#"# connector kafka_producer:my-kafka
[kafka.my-kafka]
bootstrap = "127.0.0.1:9092"
metadata_min_age = "3s"
socket_send_buffer = "1MiB"
socket_receive_buffer = "1MiB"
tcp_keepalive = "none"

# rule my_rule
[[rule]]
name = "my_rule"
sql = 'SELECT * FROM "t/#"'
sinks = ["my_sink"]

# action kafka_producer:my_sink
[[sink]]
name = "my_sink"
kafka = "my-kafka"
topic = "testtopic-in"
key = "${clientid}"
properties = false
partitioner = "random"
batch_bytes = "896KiB"
linger = "0s"
acknowledge = "received"
"#;
    assert_eq!(imported.text, wanted);
    valid(&imported);
    for note in ["message.key: the client ID, as with EMQX", "a device is answered before Kafka has its message"] {
        assert!(imported.notes.contains(note), "{note}\n{}", imported.notes);
    }
}

/// A page, a list, one object, an object of lists, and the keyed form of an export give the same result.
#[test]
fn every_form_of_the_input_is_read() {
    let sql = "SELECT * FROM \"t/#\"";
    let wanted = import(&[connector(), action(json!({})), rule(sql)]).text;
    let page = |value: Value| json!({ "data": [value], "meta": { "count": 1, "page": 1, "limit": 100 } });
    let keyed = |mut value: Value| {
        let members = value.as_object_mut().unwrap();
        let (family, name) = (members.remove("type").unwrap(), members.remove("name").unwrap());
        json!({ family.as_str().unwrap(): { name.as_str().unwrap(): value } })
    };
    let mut bare = rule(sql);
    bare.as_object_mut().unwrap().remove("id");
    for (form, values) in [
        ("pages and lists", vec![page(rule(sql)), json!([action(json!({}))]), json!([connector()])]),
        (
            "lists together",
            vec![json!({ "rules": [rule(sql)], "actions": [action(json!({}))], "connectors": [connector()] })],
        ),
        (
            "pages together",
            vec![json!({ "rules": page(rule(sql)), "actions": [action(json!({}))], "connectors": page(connector()) })],
        ),
        (
            "an export",
            vec![json!({
                "rule_engine": { "rules": { "my_rule": bare } }, "actions": keyed(action(json!({}))), "connectors": keyed(connector()),
            })],
        ),
    ] {
        assert_eq!(import(&values).text, wanted, "{form}");
    }
}

#[test]
fn what_is_nothing_of_emqx_is_refused() {
    for value in [json!(1), json!("x"), json!({}), json!({ "a": 1 }), json!([1, 2])] {
        let refused = convert(&[("f.json".to_owned(), value.clone())], Path::new("/"));
        assert!(refused.as_ref().is_err_and(|why| why.starts_with("f.json: ")), "{value}: {refused:?}");
    }
    for empty in [json!([]), json!({ "data": [], "meta": {} }), json!({ "rules": [] })] {
        assert!(convert(&[("f.json".to_owned(), empty.clone())], Path::new("/")).is_ok(), "{empty}");
    }
}

/// Unknown keys are reported wherever they are.
#[test]
fn unknown_keys_are_named_by_their_paths() {
    let mut values = [
        connector(),
        action(json!({ "message": { "odd1": 1 }, "buffer": { "odd2": 1 }, "odd3": 1 })),
        rule("SELECT 1 FROM \"a\""),
    ];
    values[0]["socket_opts"] = json!({ "odd4": 1 });
    values[0]["ssl"] = json!({ "enable": true, "odd5": 1 });
    values[0]["authentication"] = json!({ "mechanism": "plain", "username": "u", "password": "******", "odd6": 1 });
    values[0]["resource_opts"] = json!({ "odd7": 1 });
    values[1]["odd8"] = json!(1);
    values[2]["odd9"] = json!(1);
    values[2]["actions"] =
        json!([{ "function": "republish", "args": { "topic": "a", "mqtt_properties": {}, "odd10": 1 } }]);
    let source = json!({
        "type": "kafka_consumer", "name": "s", "connector": "my-kafka", "odd11": 1, "parameters": { "topic": "t", "odd12": 1 },
    });
    let mut all = values.to_vec();
    all.extend([source, json!({ "rules": [], "odd13": 1, "rule_engine": { "odd14": 1 } })]);
    let imported = import(&all);
    for path in [
        "my_sink: parameters.message.odd1:",
        "my_sink: parameters.buffer.odd2:",
        "my_sink: parameters.odd3:",
        "my-kafka: socket_opts.odd4:",
        "my-kafka: ssl.odd5:",
        "my-kafka: authentication.odd6:",
        "my-kafka: resource_opts.odd7:",
        "my_sink: odd8:",
        "my_rule: odd9:",
        "my_rule: actions[0]: odd10:",
        "source kafka_consumer:s: odd11:",
        "source kafka_consumer:s: parameters.odd12:",
        "emqx.json.odd13:",
        "emqx.json.rule_engine.odd14:",
    ] {
        assert!(
            imported.notes.lines().any(|line| line.contains(&format!("{path} left out"))),
            "{path}\n{}",
            imported.notes
        );
    }
}

#[test]
fn secrets_are_not_taken_over() {
    let mut hosted = connector();
    hosted["ssl"] =
        json!({ "enable": true, "verify": "verify_none", "password": "hunter2", "cacertfile": "/emqx/ca.pem" });
    hosted["authentication"] = json!({ "mechanism": "scram_sha_512", "username": "u", "password": "hunter2" });
    let dir = tempfile::tempdir().unwrap();
    let values = [("f".to_owned(), hosted), ("f".to_owned(), action(json!({})))];
    let imported = convert(&values, dir.path()).unwrap();
    assert!(!imported.text.contains("hunter2") && !imported.notes.contains("hunter2"));
    let file = dir.path().join("kafka-my-kafka.password");
    assert!(imported.notes.contains(&format!("write it into {}", file.display())), "{}", imported.notes);
    std::fs::write(&file, "secret").unwrap();
    let config = valid(&imported);
    let sasl = config.clusters[0].sasl.as_ref().unwrap();
    assert_eq!((sasl.credentials.mechanism.name(), sasl.credentials.user.as_str()), ("SCRAM-SHA-512", "u"));
    assert!(config.clusters[0].tls.is_some());
    assert!(imported.notes.contains("ssl.verify: EMQX accepts any certificate"), "{}", imported.notes);
}

/// A login that is not supported turns the whole cluster into comments, or is left out with a note; it never becomes another login.
#[test]
fn logins_are_translated() {
    let login = |authentication: Value, family: &str| {
        let mut value = connector();
        value["type"] = json!(family);
        value["authentication"] = authentication;
        import(&[value])
    };
    for (given, wanted) in [
        (
            json!({ "mechanism": "plain", "username": "u", "password": "x" }),
            "mechanism = \"PLAIN\"\n# username = \"u\"\n# insecure = true\n",
        ),
        (json!({ "mechanism": "scram_sha_256", "username": "u", "password": "x" }), "mechanism = \"SCRAM-SHA-256\"\n"),
        (
            json!({ "mechanism": "oauth", "endpoint_uri": "https://id.example/token", "client_id": "c", "client_secret": "x", "scope": "k" }),
            "mechanism = \"OAUTHBEARER\"\n# token_url = \"https://id.example/token\"\n# client_id = \"c\"\n",
        ),
    ] {
        let imported = login(given, "kafka_producer");
        assert!(imported.text.contains(wanted), "{wanted}\n{}", imported.text);
    }
    for given in [json!("msk_iam"), json!({ "kerberos_principal": "p", "kerberos_keytab_file": "f" })] {
        let imported = login(given, "kafka_producer");
        assert!(
            !imported.text.contains("sasl") && imported.notes.contains("there is no login by"),
            "{}",
            imported.notes
        );
    }
    let hosted = login(json!({ "password": "******" }), "azure_event_hub_producer");
    assert!(
        hosted.text.contains("username = \"$ConnectionString\"") && hosted.text.contains(".tls]"),
        "{}",
        hosted.text
    );
}

#[test]
fn a_wrong_statement_is_a_comment_with_its_place() {
    let good = json!({ "id": "good", "sql": "SELECT * FROM \"a\"", "actions": ["kafka_producer:my_sink"] });
    let imported = import(&[connector(), action(json!({})), rule("SELECT nosuch(1)\nFROM \"t/#\""), good]);
    let config = valid(&imported);
    assert_eq!(config.rules.iter().map(|rule| rule.name.as_str()).collect::<Vec<_>>(), ["good"]);
    assert!(
        imported.text.contains("# [[rule]]\n# name = \"my_rule\"\n") && imported.text.contains("# enabled = false\n"),
        "{}",
        imported.text
    );
    assert!(
        imported.notes.contains("rule my_rule: the rule is a comment: line 1, column 8: there is no function"),
        "{}",
        imported.notes
    );
}

/// R3: EMQX renders variables that no rule yields as empty text, here they are a mistake.
#[test]
fn columns_that_no_rule_yields_are_left_out_of_templates() {
    let sql = "SELECT payload.t AS t FROM \"t/#\"";
    let (made, imported) = sink(sql, json!({ "message": { "value": "${.t} ${.u}" } }));
    let fed = made.fed.as_ref().unwrap();
    assert_eq!((fed.key.is_none(), fed.value.to_string().as_str()), (true, "${t} "));
    for which in ["message.key: ${.clientid} is empty", "message.value: ${.u} is empty"] {
        assert!(imported.notes.contains(which), "{which}\n{}", imported.notes);
    }
    // A topic cannot be empty: the sink would refuse everything.
    let imported = import(&[connector(), action(json!({ "topic": "${.u}" })), rule(sql)]);
    assert!(valid(&imported).sinks.iter().all(|sink| sink.name != "my_sink"), "{}", imported.text);
    assert!(imported.notes.contains("[[sink]] is a comment: sink[0].topic: asks for `u`"), "{}", imported.notes);
}

/// The time of a record is that of receipt, but if a rule names something else `timestamp`.
#[test]
fn timestamps_follow_the_rules() {
    for (sql, template, ours) in [
        ("SELECT * FROM \"t\"", "${.timestamp}", None),
        ("SELECT payload FROM \"t\"", "${.timestamp}", None),
        ("SELECT payload.ts AS timestamp FROM \"t\"", "${.timestamp}", Some("${timestamp}")),
        ("SELECT payload.ts as\n\"timestamp\", 1 FROM \"t\"", "${.timestamp}", Some("${timestamp}")),
        ("SELECT payload.ts AS ts FROM \"t\"", "${.ts}", Some("${ts}")),
        ("SELECT payload FROM \"t\"", "${.ts}", None),
    ] {
        let (made, _) = sink(sql, json!({ "message": { "timestamp": template } }));
        let time = made.fed.unwrap().timestamp.map(|time| time.template.to_string());
        assert_eq!(time.as_deref(), ours, "{sql}: {template}");
    }
}

#[test]
fn acknowledgements_are_those_of_emqx() {
    use config::{Acknowledge as A, Buffer as B};
    for (query, acks, buffer, wanted) in [
        ("async", "all_isr", "memory", (B::Memory, A::Received, -1)),
        ("async", "leader_only", "memory", (B::Memory, A::Received, 1)),
        ("sync", "none", "memory", (B::Memory, A::Received, 0)),
        ("sync", "all_isr", "memory", (B::Memory, A::Replicated, -1)),
        ("sync", "leader_only", "memory", (B::Memory, A::Leader, 1)),
        ("async", "all_isr", "disk", (B::Disk, A::Stored, -1)),
        ("async", "leader_only", "disk", (B::Disk, A::Stored, -1)),
        ("async", "all_isr", "hybrid", (B::Hybrid, A::Received, -1)),
        ("sync", "all_isr", "hybrid", (B::Hybrid, A::Replicated, -1)),
    ] {
        let parameters = json!({ "query_mode": query, "required_acks": acks, "buffer": { "mode": buffer } });
        let (made, _) = sink("SELECT * FROM \"t\"", parameters);
        assert_eq!((made.buffer, made.acknowledge, made.acks), wanted, "{query} {acks} {buffer}");
    }
}

#[test]
fn settings_of_an_action_are_translated() {
    let parameters = json!({
        "message": { "key": "", "value": "${.payload}" }, "compression": "gzip", "partition_strategy": "key_dispatch",
        "max_batch_bytes": "1MB", "max_linger_time": "5ms", "max_inflight": 3, "max_retries": 7, "max_batch_age": "1h",
        "kafka_headers": "${.pub_props}", "kafka_header_value_encode_mode": "json",
        "kafka_ext_headers": [
            { "kafka_ext_header_key": "site", "kafka_ext_header_value": "berlin" },
            { "kafka_ext_header_key": "${topic}", "kafka_ext_header_value": "x" },
        ],
        "buffer": { "mode": "memory", "memory_overload_protection": true },
    });
    let (_, imported) = sink("SELECT * FROM \"t\"", parameters);
    let wanted = "key = \"\"\nvalue = \"${payload}\"\nheaders = { site = \"berlin\" }\nheaders_from = \"${pub_props}\"\nheaders_encode = \"json\"\n\
         properties = false\npartitioner = \"key\"\ncompression = \"gzip\"\nbatch_bytes = \"1MiB\"\nlinger = \"5ms\"\nmax_inflight = 3\nretries = 7\n\
         expire_after = \"1h\"\nacknowledge = \"received\"\nmemory_overload_protection = true\n";
    assert!(imported.text.contains(wanted), "{}", imported.text);
    assert!(
        imported.notes.contains("kafka_ext_headers[1].kafka_ext_header_key: left out: \"${topic}\": names"),
        "{}",
        imported.notes
    );
}

/// With a disk buffer for one sink, the others stay in memory.
#[test]
fn a_disk_buffer_is_for_those_that_have_one() {
    let mut other = action(json!({ "buffer": { "mode": "disk" } }));
    other["name"] = json!("other");
    let imported = import(&[connector(), action(json!({})), other]);
    let buffers: Vec<_> = valid(&imported).sinks.iter().map(|sink| sink.buffer).collect();
    assert_eq!(buffers, [config::Buffer::Memory, config::Buffer::Disk], "{}", imported.text);
}

#[test]
fn names_are_made_legal_and_unique() {
    let mut spaced = action(json!({}));
    spaced["name"] = json!("my sink");
    let mut same = spaced.clone();
    same["name"] = json!("my/sink");
    let rule = json!({ "id": "r", "sql": "SELECT * FROM \"t\"", "actions": ["kafka:my sink", "kafka_producer:my/sink", "kafka_producer:gone", "http:x"] });
    let imported = import(&[connector(), spaced, same, rule]);
    let config = valid(&imported);
    assert_eq!(config.rules[0].sinks, ["my_sink", "my_sink-2"]);
    for note in [
        "action kafka_producer:my sink: is named \"my_sink\" here",
        "actions[2]: left out: kafka_producer:gone: that action is not in what was read",
        "actions[3]: left out: http:x: rules write to Kafka and republish",
    ] {
        assert!(imported.notes.contains(note), "{note}\n{}", imported.notes);
    }
}

/// Parts that are disabled in EMQX get no records here.
#[test]
fn what_is_disabled_stays_so() {
    let mut off = action(json!({}));
    off["enable"] = json!(false);
    let config = valid(&import(&[connector(), off, rule("SELECT * FROM \"t\"")]));
    assert_eq!((config.rules[0].sinks.len(), config.rules[0].enabled), (0, true));
    let mut off = connector();
    off["enable"] = json!(false);
    let config = valid(&import(&[off, action(json!({})), rule("SELECT * FROM \"t\"")]));
    assert!(config.rules[0].sinks.is_empty());
    let mut off = rule("SELECT * FROM \"t\"");
    off["enable"] = json!(false);
    assert!(!valid(&import(&[connector(), action(json!({})), off])).rules[0].enabled);
}

/// Before EMQX 5.9 an action could have a topic filter of its own.
#[test]
fn a_local_topic_is_a_rule() {
    let mut value = action(json!({}));
    value["local_topic"] = json!("t/#");
    let config = valid(&import(&[connector(), value]));
    let [rule] = &config.rules[..] else { panic!("one rule") };
    assert_eq!((rule.sql.as_str(), &rule.sinks[..]), ("SELECT * FROM \"t/#\"", &["my_sink".to_owned()][..]));
}

/// A consumer goes on at EMQX's committed offsets, by its group; mappings of topics that differ become separate sources.
#[test]
fn sources_keep_their_group() {
    let mapping = |kafka: &str, qos: u8| json!({ "kafka_topic": kafka, "mqtt_topic": "t/${.offset}", "qos": qos, "payload_template": "${.value}" });
    let source = json!({
        "type": "kafka_consumer", "name": "s", "connector": "c",
        "parameters": {
            "topic": "unused", "topic_mapping": [mapping("a.b", 1), mapping("c", 1), mapping("d", 2)], "offset_commit_interval_seconds": 7,
            "offset_reset_policy": "earliest", "value_encoding_mode": "base64",
        },
    });
    let connector = json!({ "type": "kafka_consumer", "name": "c", "bootstrap_hosts": ["k1", "k2:9093"], "authentication": "none" });
    let imported = import(&[connector, source]);
    let config = valid(&imported);
    assert_eq!(config.clusters[0].bootstrap, ["k1:9092", "k2:9093"]);
    let names: Vec<_> = config.sources.iter().map(|source| (source.name.as_str(), source.group.as_str())).collect();
    assert_eq!(names, [("s", "emqx-kafka-consumer-s"), ("s-2", "forebay-s-2")], "{}", imported.text);
    for line in [
        "topic = { \"a.b\" = \"t/${offset}\", c = \"t/${offset}\" }",
        "payload = \"${value}\"",
        "offset_reset = \"earliest\"",
        "value_encoding = \"base64\"",
        "commit_interval = \"7s\"",
        "fetch_bytes = \"896KiB\"",
    ] {
        assert!(imported.text.lines().any(|other| other == line), "{line}\n{}", imported.text);
    }
}

/// User properties become headers of any record: `headers_from` would add them twice.
#[test]
fn user_properties_are_headers_once() {
    let (made, imported) = sink("SELECT * FROM \"t\"", json!({ "kafka_headers": "${.pub_props.'User-Property'}" }));
    assert!(made.fed.unwrap().headers_from.is_none());
    assert!(imported.notes.contains("kafka_headers: left out: user properties become headers"), "{}", imported.notes);
}

/// A login or TLS that is refused turns the cluster into a comment: otherwise connections would go without.
#[test]
fn a_cluster_is_nothing_without_its_login() {
    let mut hosted = connector();
    hosted["authentication"] = json!({ "mechanism": "scram_sha_256", "username": "a\u{0}b", "password": "x" });
    let imported = import(&[hosted, action(json!({})), rule("SELECT * FROM \"t\"")]);
    let config = valid(&imported);
    assert!(config.clusters.iter().all(|cluster| cluster.name == config::EMBEDDED), "{}", imported.text);
    assert!(
        imported.text.contains("# [kafka.my-kafka]\n") && imported.text.contains("# [[sink]]\n"),
        "{}",
        imported.text
    );
}

/// `console` is a comment while there is no such key.
#[test]
fn republish_and_console_are_written() {
    let mut value = rule("SELECT * FROM \"t/#\"");
    let properties = json!({ "Message-Expiry-Interval": "60" });
    value["actions"] = json!([
        "console",
        { "function": "republish", "args": { "topic": "copy/${.topic}", "qos": 1, "mqtt_properties": properties, "direct_dispatch": true } },
        { "function": "my_module:my_function", "args": {} },
    ]);
    let imported = import(&[value]);
    let config = valid(&imported);
    let wanted = "[[rule.republish]]\ntopic = \"copy/${topic}\"\nqos = 1\nproperties = { Message-Expiry-Interval = \"60\" }\ndirect = true\n";
    assert!(imported.text.contains("console = true\n") && imported.text.contains(wanted), "{}", imported.text);
    assert_eq!(config.rules[0].republish.len(), 1);
    assert!(imported.notes.contains("actions[2]: left out: my_module:my_function"), "{}", imported.notes);
}

/// A rule may name a source in FROM, which then needs no MQTT topic (rows E62 to E64).
#[test]
fn records_of_a_source_go_to_rules() {
    let source = json!({ "type": "kafka_consumer", "name": "src", "connector": "c", "parameters": { "topic": "testtopic-out" } });
    let consumer = json!({ "type": "kafka_consumer", "name": "c", "bootstrap_hosts": "k:9092" });
    let republish = json!({ "function": "republish", "args": { "topic": "t/1", "payload": "${value}", "qos": 0 } });
    let rule = json!({ "id": "r", "sql": "SELECT * FROM \"$bridges/kafka_consumer:src\"", "actions": [republish] });
    let imported = import(&[source, consumer, rule]);
    let config = valid(&imported);
    assert_eq!(
        (config.sources.len(), config.rules.len(), config.rules[0].republish.len()),
        (1, 1, 1),
        "{}",
        imported.text
    );
}

/// EMQX's page on its consumer has `lastest`.
#[test]
fn finding_q52_the_latest_record_has_two_spellings() {
    for policy in ["latest", "lastest"] {
        let source = json!({
            "type": "kafka_consumer", "name": "s", "connector": "c", "resource_opts": { "health_check_interval": "30s" },
            "parameters": {
                "topic_mapping": [{ "kafka_topic": "k", "mqtt_topic": "t", "qos": 1, "payload_template": "${.value}" }],
                "offset_reset_policy": policy,
            },
        });
        let connector =
            json!({ "type": "kafka_consumer", "name": "c", "bootstrap_hosts": "k1:9092", "authentication": "none" });
        let imported = import(&[connector, source]);
        assert_eq!(valid(&imported).sources[0].offset_reset, config::OffsetReset::Latest, "{}", imported.text);
        assert!(imported.notes.contains("health_check_interval"), "{}", imported.notes);
        assert!(!imported.notes.contains("lastest") && !imported.text.contains("lastest"), "{}", imported.notes);
    }
}
