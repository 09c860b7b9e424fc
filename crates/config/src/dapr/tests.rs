//! Documents of Dapr: the examples of its documentation verbatim, and other possible contents.

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use super::super::{Change, Config, Identity, Overrides, parse_with};
use super::Bridge;
use crate::Feed;
use forebay_bridge::{Retained, Versions};
use forebay_dapr::{Binding, Gives, OnFailure, Takes};
use forebay_guard::secure::{Authorities, OwnCertificate, Secret};
use forebay_mqtt::packet::QoS;

/// The first document of Dapr's page on `bindings.mqtt`, verbatim.
pub(crate) const FIRST: &str = r#"apiVersion: dapr.io/v1alpha1
kind: Component
metadata:
  name: <NAME>
  namespace: <NAMESPACE>
spec:
  type: bindings.mqtt
  version: v1
  metadata:
  - name: url
    value: "tcp://[username][:password]@host.domain[:port]"
  - name: topic
    value: "mytopic"
  - name: qos
    value: 1
  - name: retain
    value: "false"
  - name: cleanSession
    value: "true"
  - name: backOffMaxRetries
    value: "0"
"#;

/// The second one, with TLS.
const SECOND: &str = r#"apiVersion: dapr.io/v1alpha1
kind: Component
metadata:
  name: mqtt-binding
  namespace: default
spec:
  type: bindings.mqtt
  version: v1
  metadata:
  - name: url
    value: "ssl://host.domain[:port]"
  - name: topic
    value: "topic1"
  - name: qos
    value: 1
  - name: retain
    value: "false"
  - name: cleanSession
    value: "false"
  - name: backoffMaxRetries
    value: "0"
  - name: caCert
    value: ${{ myLoadedCACert }}
  - name: clientCert
    value: ${{ myLoadedClientCert }}
  - name: clientKey
    secretKeyRef:
      name: myMqttClientKey
      key: myMqttClientKey
auth:
  secretStore: <SECRET_STORE_NAME>
"#;

/// The third one, with an ID of its own for each instance.
const THIRD: &str = r#"apiVersion: dapr.io/v1alpha1
kind: Component
metadata:
  name: mqtt-binding
  namespace: default
spec:
  type: bindings.mqtt
  version: v1
  metadata:
  - name: consumerID
    value: "{uuid}"
  - name: url
    value: "tcp://admin:public@localhost:1883"
  - name: topic
    value: "topic1"
  - name: qos
    value: 1
  - name: retain
    value: "false"
  - name: cleanSession
    value: "false"
  - name: backoffMaxRetries
    value: "0"
"#;

/// A configuration with these documents, and these keys of `[dapr]`.
fn read_with(dir: &Path, documents: &str, keys: &str, variables: [Option<&str>; 3]) -> Result<Config, String> {
    fs::write(dir.join("components.yaml"), documents).expect("written");
    let text = format!(
        "[dapr]\napp_id = 'myapp'\napp = 'http://127.0.0.1:8000'\ncomponents = '{}'\n{keys}",
        dir.join("components.yaml").display()
    );
    let identity = Identity { seed: 7, variables: variables.map(|of| of.map(str::to_owned)) };
    let overrides = Overrides { identity, ..Overrides::default() };
    parse_with(&text, "t", &overrides, 2).map_err(|problems| problems.to_string())
}

fn read(documents: &str) -> Result<Config, String> {
    read_with(tempfile::tempdir().expect("a folder").path(), documents, "", [None; 3])
}

/// The bridges of a component of this type with this metadata, each line `name: value`.
fn component(kind: &str, metadata: &str) -> String {
    let mut text = format!("kind: Component\nmetadata: {{name: b}}\nspec:\n  type: {kind}\n  metadata:\n");
    for line in metadata.lines() {
        let (name, value) = line.split_once(": ").expect("a name and a value");
        text += &format!("  - {{name: {name}, value: {value}}}\n");
    }
    text
}

fn bridges(kind: &str, metadata: &str) -> Vec<Bridge> {
    let text = component(kind, &format!("url: 'tcp://b'\ntopic: t/#\n{metadata}"));
    read(&text).unwrap_or_else(|why| panic!("{text}\n{why}")).bridges
}

fn said(documents: &str) -> String {
    match read(documents) {
        Ok(config) => config.warnings.to_string(),
        Err(problems) => problems,
    }
}

/// D1, D2, D3, D5, D6, D7, D8, D9, D10, D14, D18, D28: the first and the third block, verbatim except for their placeholders.
#[test]
fn the_seeds_documents_mean_what_they_say() {
    let url = "tcp://[username][:password]@host.domain[:port]";
    for (filled, username, password, endpoint) in [
        ("tcp://edge:hunter2@host.domain:1884", Some("edge"), Some("hunter2"), "host.domain:1884"),
        ("tcp://edge@host.domain", Some("edge"), None, "host.domain:1883"),
        ("tcp://host.domain", None, None, "host.domain:1883"),
    ] {
        let text = FIRST.replace("<NAME>", "mine").replace("<NAMESPACE>", "default").replace(url, filled);
        let config = read(&text).expect("good");
        let [bridge] = &config.bridges[..] else { panic!("one connection for both ways") };
        assert_eq!((&*bridge.name, bridge.url.endpoint().to_string()), ("mine", endpoint.to_owned()));
        assert!(!bridge.url.transport.is_tls && bridge.tls.is_none(), "D3");
        assert_eq!(bridge.username.as_deref(), username);
        assert_eq!(bridge.password, password.map(|of| Secret::new(of.into())));
        assert_eq!(bridge.client_id, "myapp", "D7");
        assert!(bridge.clean_start && bridge.session_expiry.is_zero(), "D10");
        let takes = &bridge.ins[0];
        assert_eq!((&*takes.takes.filters[0], takes.qos), ("mytopic", QoS::AtLeastOnce));
        assert!(takes.feeds.is_empty() && takes.takes.retained == Retained::All);
        let binding = Binding {
            component: "mine".to_owned(),
            kind: "bindings.mqtt",
            is_brought: false,
            gives: Some(Gives { topic: Some("mytopic".to_owned()), qos: 1, retain: false }),
            takes: Some(Takes {
                route: "mine".to_owned(),
                is_asked: true,
                retries: Some(0),
                concurrency: NonZeroUsize::new(16).expect("more than none"),
                on_failure: OnFailure::File,
            }),
        };
        assert_eq!(bridge.binding, Some(Arc::new(binding)));
        let warned = config.warnings.to_string();
        assert_eq!(warned.contains("mine: url"), password.is_some(), "D20: {warned}");
        assert!(!warned.contains("hunter2") && !format!("{config:?}").contains("hunter2"));
    }
    // The placeholder itself is no URL, and is reported.
    let said = said(&FIRST.replace("<NAME>", "mine"));
    assert!(said.contains("mine: url"), "{said}");
    let [bridge] = &read(THIRD).expect("good").bridges[..] else { panic!("one") };
    assert_eq!(
        (bridge.username.as_deref(), bridge.url.endpoint().to_string()),
        (Some("admin"), "localhost:1883".into())
    );
    assert_eq!(bridge.password, Some(Secret::new(b"public".to_vec())), "D28");
    assert!(!bridge.clean_start && bridge.version == Versions::V311 && !bridge.try_private);
}

/// D4, D11, D12, D13, D19, D20: the second block, with its secrets in each of the stores.
#[test]
fn secrets_come_from_the_store_that_the_document_names() {
    let ca = rcgen::KeyPair::generate().expect("a key");
    let pem = rcgen::CertificateParams::new(["forebay".to_owned()])
        .expect("parameters")
        .self_signed(&ca)
        .expect("signed")
        .pem();
    let key = ca.serialize_pem();
    let text = SECOND.replace("[:port]", ":8884").replace("<SECRET_STORE_NAME>", "mine");
    let dir = tempfile::tempdir().expect("a folder");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let secrets = serde_json::json!({
        "myLoadedCACert": pem, "myLoadedClientCert": pem, "myMqttClientKey": { "x": 1 }, "a": { "b": "nested" },
    });
    let mut secrets = secrets;
    secrets["myMqttClientKey"] = key.clone().into();
    fs::write(path("secrets.json"), secrets.to_string()).expect("written");
    let local = format!(
        "kind: Component\nmetadata: {{name: mine}}\nspec:\n  type: secretstores.local.file\n  metadata:\n  - name: secretsFile\n    value: {}\n  - name: nestedSeparator\n    value: '/'\n",
        path("secrets.json")
    );
    fs::create_dir(path("secrets")).expect("a folder");
    // Files as Kubernetes mounts a secret, and as systemd passes credentials.
    fs::create_dir(path("secrets/myMqttClientKey")).expect("a folder");
    fs::write(path("secrets/myMqttClientKey/myMqttClientKey"), &key).expect("written");
    fs::write(path("secrets/myLoadedCACert"), &pem).expect("written");
    fs::write(path("secrets/myLoadedClientCert"), &pem).expect("written");
    let by_dir = format!("secrets_dir = '{}'\n", path("secrets"));
    for (documents, keys) in [
        (format!("{local}---\n{text}"), ""),
        (text.clone(), &*by_dir),
        (text.replace("secretStore: mine", "secretStore: kubernetes"), &*by_dir),
        (text.replace("auth:\n  secretStore: mine\n", ""), &*by_dir),
    ] {
        let config = read_with(dir.path(), &documents, keys, [None; 3]).expect("good");
        let tls = config.bridges[0].tls.as_ref().expect("D4: TLS");
        let own =
            OwnCertificate::Text { certificate: pem.trim_end().to_owned(), key: Secret::new(key.trim_end().into()) };
        let is_same = |a: &str, b: &str| a.trim_end() == b.trim_end();
        assert!(matches!(&tls.ca, Authorities::Text(text) if is_same(text, &pem)), "D11");
        let (OwnCertificate::Text { certificate, .. }, Some(OwnCertificate::Text { certificate: found, key: secret })) =
            (&own, &tls.identity)
        else {
            panic!("D12, D13: a text")
        };
        assert!(is_same(certificate, found) && is_same(std::str::from_utf8(secret.expose()).expect("PEM"), &key));
        assert_eq!(config.bridges[0].url.endpoint().to_string(), "host.domain:8884");
        assert!(config.warnings.0.is_empty(), "nothing is plain: {}", config.warnings);
        let body = key.lines().nth(1).expect("a line");
        assert!(!format!("{config:?}").contains(body), "a key is never shown");
    }
    // A nested name, an environment variable, and a missing one.
    let with = |value: &str| {
        let metadata = format!(
            "  - {{name: url, value: tcp://b}}\n  - {{name: topic, value: t}}\n  - name: consumerID\n{value}\n"
        );
        let document = "kind: Component\nmetadata: {name: b}\nspec:\n  type: bindings.mqtt\n  metadata:\n";
        read_with(dir.path(), &format!("{local}---\n{document}{metadata}auth: {{secretStore: mine}}\n"), "", [None; 3])
    };
    let id = |value: &str| with(value).expect(value).bridges[0].client_id.clone();
    assert_eq!(id("    secretKeyRef: {name: a, key: b}"), "nested");
    assert_eq!(id("    value: x-${{ a/b }}-y"), "x-nested-y");
    assert_eq!(id("    envRef: CARGO_PKG_NAME"), env!("CARGO_PKG_NAME"));
    let said = with("    secretKeyRef: {name: a, key: c}").expect_err("it is not there");
    assert!(said.contains("components.yaml") && said.contains("b: consumerID"), "{said}");
    assert!(said.contains("\"a/c\" is not in") && said.contains("secrets.json"), "{said}");
    let said = with("    envRef: FOREBAY_NO_SUCH_VARIABLE").expect_err("it is not there");
    assert!(said.contains("FOREBAY_NO_SUCH_VARIABLE is not set"), "{said}");
    let said = read_with(dir.path(), &text, "", [None; 3]).expect_err("no store");
    assert!(
        said.contains("secret store \"mine\" is not among the documents") && said.contains("secrets_dir"),
        "{said}"
    );
    let said = read_with(dir.path(), &text, "secrets_dir = '/nowhere'\n", [None; 3]).expect_err("no file");
    assert!(said.contains("mqtt-binding: clientKey") && said.contains("/nowhere/myMqttClientKey"), "{said}");
    let traversal = text.replace("name: myMqttClientKey", "name: ..");
    let said = read_with(dir.path(), &traversal, &by_dir, [None; 3]).expect_err("no name");
    assert!(said.contains("cannot be the name of a file"), "{said}");
}

/// D7, D22, D23, D25: the client ID, and a different one for each instance.
#[test]
fn tags_are_filled_in_and_an_id_may_be_random() {
    let dir = tempfile::tempdir().expect("a folder");
    let id = |value: &str, variables| {
        let text = component("bindings.mqtt", &format!("url: 'tcp://b'\ntopic: t\nconsumerID: '{value}'"));
        read_with(dir.path(), &text, "", variables).map(|config| config.bridges[0].client_id.clone())
    };
    let own = [Some("pod-0"), Some("plant"), None];
    assert_eq!(id("{appID}", own).as_deref(), Ok("myapp"));
    assert_eq!(id("{namespace}", own).as_deref(), Ok("plant.myapp"));
    assert_eq!(id("{namespace}", [None; 3]).as_deref(), Ok("myapp"));
    assert_eq!(id("a{podName}{x}", own).as_deref(), Ok("apod-0{x}"));
    let said = id("{podName}", [None; 3]).expect_err("no pod");
    assert!(said.contains("b: consumerID: `{podName}` is POD_NAME, which is not set"), "{said}");
    let uuid = id("{uuid}", own).expect("good");
    assert_eq!((uuid.len(), uuid.as_bytes()[14]), (36, b'4'), "a random one: {uuid}");
    assert_eq!(id("{uuid}", own), Ok(uuid.clone()), "a reload changes nothing");
    let text = component("bindings.mqtt", "url: 'tcp://b'\ntopic: t\nconsumerID: '{uuid}'");
    fs::write(dir.path().join("components.yaml"), text).expect("written");
    let other = Identity { seed: 8, variables: [None, None, None] };
    let overrides = Overrides { identity: other, ..Overrides::default() };
    let file = format!("[dapr]\ncomponents = '{}'\n", dir.path().display());
    let config = parse_with(&file, "t", &overrides, 2).expect("good");
    assert_ne!(config.bridges[0].client_id, uuid, "another instance");
    let [consumer, producer] = &bridges("bindings.mqtt3", "consumerID: '{uuid}'")[..] else { panic!("two") };
    assert_ne!(consumer.client_id[..36], producer.client_id[..36], "each connection has one");
    let none = component("bindings.mqtt", "url: 'tcp://b'\ntopic: t");
    fs::write(dir.path().join("components.yaml"), none).expect("written");
    let said = parse_with(&file, "t", &Overrides::default(), 2).expect_err("no ID").to_string();
    assert!(said.contains("b: consumerID: is required, as there is no app_id"), "{said}");
}

/// D8, D9, D10, D14, D15: the defaults of both types, and values of any type under names in any case.
#[test]
fn both_types_have_their_defaults() {
    let [one] = &bridges("bindings.mqtt", "")[..] else { panic!("one") };
    let binding = |bridge: &Bridge| Binding::clone(bridge.binding.as_ref().expect("a binding"));
    let Binding { gives: Some(gives), takes: Some(takes), .. } = binding(one) else { panic!("both ways") };
    assert_eq!((gives.qos, gives.retain, gives.topic), (0, false, None), "no message has the topic of a filter");
    assert_eq!((one.clean_start, one.ins[0].qos, takes.retries), (true, QoS::AtMostOnce, Some(0)));
    let [consumer, producer] = &bridges("bindings.mqtt3", "")[..] else { panic!("two") };
    assert_eq!((&*consumer.name, &*consumer.client_id), ("b-consumer", "myapp-consumer"));
    assert_eq!((&*producer.name, &*producer.client_id), ("b-producer", "myapp-producer"));
    assert!(binding(consumer).gives.is_none() && binding(producer).takes.is_none());
    assert_eq!((binding(producer).gives.expect("output").qos, consumer.ins[0].qos), (1, QoS::AtLeastOnce));
    assert!(!consumer.clean_start && !producer.clean_start && producer.ins.is_empty() && consumer.outs.is_empty());
    let all = "QOS: 2\nRetain: yes\nCLEANSESSION: 'False'\nbackoffmaxretries: -1\nroute: '/orders'\nversion: auto\nmaxConcurrency: 3\ndeadLetterTopic: letters";
    let [one] = &bridges("bindings.mqtt", all)[..] else { panic!("one") };
    let Binding { gives: Some(gives), takes: Some(takes), .. } = binding(one) else { panic!("both ways") };
    assert_eq!((gives.qos, gives.retain, one.clean_start, one.version), (2, true, false, Versions::Any));
    assert_eq!((&*takes.route, takes.retries, takes.concurrency.get()), ("orders", None, 3));
    assert_eq!(takes.on_failure, OnFailure::Topic("letters".to_owned()));
    let of = |metadata: &str| binding(&bridges("bindings.mqtt", metadata)[0]);
    assert_eq!(of("backOffMaxRetries: '3'").takes.expect("input").retries, Some(3));
    assert_eq!(of("onFailure: drop").takes.expect("input").on_failure, OnFailure::Drop);
    let feeds = |metadata: &str| bridges("bindings.mqtt", metadata)[0].ins[0].feeds.clone();
    assert!(feeds("").is_empty(), "the application alone gets the messages");
    assert_eq!(feeds("feeds: sinks"), [Feed::Sinks]);
    assert_eq!(feeds("Feeds: 'rules, sinks,subscribers'"), [Feed::Rules, Feed::Sinks, Feed::Subscribers]);
    assert!(of("direction: output").takes.is_none() && of("direction: input").gives.is_none());
    assert!(!of("direction: 'input, output'").takes.expect("input").is_asked);
    let shared = component("bindings.mqtt", "url: 'tcp://b'\ntopic: $share/g/a/+\nconsumerID: c");
    let shared = read(&shared).expect("good").bridges.remove(0);
    assert_eq!(shared.ins[0].asked().collect::<Vec<_>>(), ["$share/g/a/+"]);
}

#[test]
fn what_is_wrong_is_said_with_document_and_field() {
    let of = |metadata: &str| said(&component("bindings.mqtt", metadata));
    let good = "url: 'tcp://b'\ntopic: t\n";
    for (metadata, what) in [
        ("topic: t".to_owned(), "b: url: is required"),
        ("url: 'tcp://b'".to_owned(), "b: topic: is required"),
        (format!("{good}qos: 3"), "b: qos: \"3\" is not 0, 1 or 2"),
        (format!("{good}retain: maybe"), "b: retain: \"maybe\" is not true or false"),
        (format!("{good}backOffMaxRetries: -2"), "b: backOffMaxRetries: \"-2\" is not a number of retries"),
        (format!("{good}onFailure: retry"), "b: onFailure: \"retry\" is not"),
        (format!("{good}feeds: sink"), "b: feeds: \"sink\" is not \"sinks\", \"rules\", \"subscribers\""),
        (format!("{good}direction: in"), "b: direction: \"in\" is no direction"),
        (format!("{good}route: 'a b'"), "b: route: is no path"),
        (format!("{good}QoS: 1\nqos: 1"), "b: qos: is given twice"),
        (
            format!("{good}backOffMaxRetrys: 1"),
            "b: backOffMaxRetrys: is unknown, and has no effect; did you mean \"backOffMaxRetries\"?",
        ),
        (format!("{good}ttlInSeconds: 1"), "b: ttlInSeconds: has no effect"),
        (format!("{good}caCert: x"), "b: caCert: has no effect: `url` is one without TLS"),
        ("url: 'ssl://b'\ntopic: t\nclientCert: x".to_owned(), "b: clientCert: has no effect without clientKey"),
        ("url: 'ssl://b'\ntopic: t\nclientKey: x".to_owned(), "b: clientKey: has no effect without clientCert"),
        ("url: 'ssl://b'\ntopic: t\ncaCert: x".to_owned(), "b: caCert: "),
        ("url: 'http://b'\ntopic: t".to_owned(), "b: url: "),
        ("url: 'tcp://b'\ntopic: a/#/b".to_owned(), "b: topic: \"a/#/b\" is no topic"),
    ] {
        let said = of(&metadata);
        assert!(said.contains(what) && said.contains("components.yaml"), "{metadata}: {said}");
    }
    let plain = component("bindings.mqtt", good);
    for (documents, what) in [
        (plain.replace("bindings.mqtt", "bindings.mqtt4"), "did you mean \"bindings.mqtt"),
        (plain.replace("bindings.mqtt", "state.redis"), "is passed over: its type is \"state.redis\""),
        (plain.replace("Component", "Subscription"), "is passed over: its kind is \"Subscription\""),
        (format!("{plain}scopes: [other]\n"), "is passed over: its scopes do not have"),
        (format!("{plain}---\n{plain}"), "is the name of another component"),
        (
            format!("{plain}---\n{}", plain.replace("name: b}", "name: c}")),
            "bridge \"b\" has the same client ID at the same remote",
        ),
        (plain.replace("  metadata:", "  version: v2\n  metadata:"), "\"v2\" is no version"),
        (plain.replace("name: b}", "name: 'b c'}"), "metadata.name"),
        ("a: [".to_owned(), "is not YAML"),
    ] {
        let said = said(&documents);
        assert!(said.contains(what), "{documents}: {said}");
    }
    assert!(read(&format!("{plain}scopes: [other, myapp]\n")).expect("good").bridges.len() == 1);
    let dir = tempfile::tempdir().expect("a folder");
    let other = plain.replace("{name: b}", "{name: b, namespace: other}");
    let config = read_with(dir.path(), &other, "", [None, Some("mine"), None]).expect("good");
    assert!(config.bridges.is_empty() && config.warnings.to_string().contains("its namespace is \"other\""));
    let taken = "[bridge.b]\nurl = 'mqtt://b'\n[[bridge.b.out]]\nfilters = 'a'\n";
    let said = read_with(dir.path(), &plain, taken, [None; 3]).expect_err("twice");
    assert!(said.contains("there is a bridge \"b\" already"), "{said}");
    for (keys, what) in [
        ("http = '0.0.0.0:3500'", "dapr.http: 0.0.0.0:3500 can be reached from other machines"),
        ("http = '127.0.0.1:1883'", "is already used by"),
        ("grpc = '0.0.0.0:50001'", "dapr.grpc: 0.0.0.0:50001 can be reached from other machines"),
        ("grpc = '127.0.0.1:3500'", "is already used by"),
        ("app = 'grpc://a'", "is not like"),
        ("app = 'grpcs://a:1'", "dapr.app: grpcs is not supported"),
        ("app = 'https://a'", "dapr.app: https is not supported"),
        ("app = 'a:1'", "is not like"),
        ("components = '/nowhere'", "dapr.components: /nowhere cannot be read"),
        ("api_token_file = '/nowhere'", "dapr.api_token_file: /nowhere cannot be read"),
    ] {
        let said = parse_with(&format!("[dapr]\n{keys}\n"), "t", &Overrides::default(), 2).expect_err(keys).to_string();
        assert!(said.contains(what), "{keys}: {said}");
    }
}

/// Documents apply from the reload on; the settings of the thread of bindings wait for a restart.
#[test]
fn a_reload_names_what_has_changed() {
    let dir = tempfile::tempdir().expect("a folder");
    let with = |metadata: &str, keys: &str| {
        let text = component("bindings.mqtt", &format!("url: 'tcp://b'\ntopic: t\n{metadata}"));
        read_with(dir.path(), &text, keys, [None; 3]).expect("good")
    };
    let before = with("", "");
    let change = |of: &Config| Change::between(&before, of);
    assert!(change(&with("", "")).is_empty());
    assert_eq!(change(&with("backOffMaxRetries: 2", "")).applied, ["bridge b (changed: binding)"]);
    assert_eq!(change(&with("", "http = 'off'\n")).waiting, ["dapr.http"]);
    let without = parse_with("", "t", &Overrides::default(), 2).expect("good");
    let change = Change::between(&without, &before);
    assert_eq!(change.waiting, ["dapr", "bridge b (added: dapr)"]);
}
