//! A binding `mqtt-kafka` of Zilla as a `[broker]`. What has another meaning without a part that cannot be
//! converted is an error; what has none is left out with a note.

use std::cell::RefCell;
use std::path::PathBuf;

use forebay_config::yaml::{self, Node, Value};
use forebay_mqtt::route::filter::overlap;
use toml_edit::Array;

use super::draft::{Block, Draft};
use super::notes::Notes;
use super::{BOOTSTRAP_UNKNOWN, Imported};

/// Notes that hold for every configuration.
const EVERYWHERE: [&str; 3] = [
    "listeners, TLS, guards and vaults are not read: without a [[listener]] only this machine can connect",
    "records of Zilla's have headers of its own (zilla:qos, zilla:reply-to): in its place are mqtt-qos, mqtt-response-topic, mqtt-correlation-data",
    "kept sessions are in a topic of their own: see CLUSTER.md",
];
/// The name of the cluster.
const CLUSTER: &str = "main";
/// The address of the link to other instances: to this machine alone.
const LINK: &str = "127.0.0.1:1885";
/// The beginning of an expression, which Zilla evaluates at its start.
const EXPRESSION: &str = "${{";

/// What an import of Zilla's is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whether parts that cannot be converted are left out with a note, and not refused.
    pub is_partial: bool,
    /// The directory of the password file that the configuration names.
    pub password_dir: PathBuf,
}

/// The bindings of a file.
struct Bindings<'y>(&'y [(String, Node)]);

/// A binding by its name.
type Named<'y> = (&'y str, &'y Node);

impl<'y> Bindings<'y> {
    /// The bindings of a whole configuration; or the file itself, if it is a single binding.
    fn of(root: &'y Node) -> Self {
        match (&root.get("bindings").unwrap_or(root).value, &root.value) {
            (Value::Map(entries), _) => Self(entries),
            _ => Self(&[]),
        }
    }

    fn all(&self) -> impl Iterator<Item = Named<'y>> {
        self.0.iter().map(|(name, node)| (name.as_str(), node))
    }

    /// The bindings that a binding leads to, by whichever way, and names of exits that are not in the file.
    fn behind(&self, from: &'y Node) -> (Vec<Named<'y>>, Vec<&'y str>) {
        let (mut reached, mut missing): (Vec<Named<'y>>, Vec<&str>) = (Vec::new(), Vec::new());
        let mut open = vec![from];
        while let Some(node) = open.pop() {
            let of_routes = node.get("routes").map(Node::items).unwrap_or_default().iter();
            for exit in of_routes.filter_map(|route| route.text("exit")).chain(node.text("exit")) {
                if reached.iter().any(|(known, _)| *known == exit) || missing.contains(&exit) {
                    continue;
                }
                match self.all().find(|(name, _)| *name == exit) {
                    Some(found) => {
                        reached.push(found);
                        open.push(found.1);
                    }
                    None => missing.push(exit),
                }
            }
        }
        (reached, missing)
    }
}

fn is_client(node: &Node) -> bool {
    node.text("type") == Some("kafka") && node.text("kind") == Some("client")
}

/// The texts of a list, or a single text.
fn texts(node: &Node) -> Vec<String> {
    let text = |node: &Node| if let Value::Text(text) = &node.value { Some(text.clone()) } else { None };
    text(node).map_or_else(|| node.items().iter().filter_map(text).collect(), |one| vec![one])
}

/// The conversion of a file.
struct Import<'i> {
    file: &'i str,
    notes: Notes,
    /// Parts that cannot be converted and would change the meaning of the rest.
    refused: RefCell<Vec<String>>,
    options: &'i Options,
}

impl Import<'_> {
    fn wrong(&self, node: &Node, about: &str, what: &str) -> String {
        format!("{}:{}: {about}: {what}", self.file, node.line)
    }

    /// Refuses something, or notes that it is left out.
    fn refuse(&self, node: &Node, about: &str, what: &str) {
        if self.options.is_partial {
            self.notes.add(about, format_args!("left out: {what}"));
        } else {
            let what = format!("{what}; --partial leaves it out");
            self.refused.borrow_mut().push(self.wrong(node, about, &what));
        }
    }

    /// The text of a key, which is no expression.
    fn text<'n>(&self, node: &'n Node, about: &str, key: &str) -> Result<Option<&'n str>, String> {
        let text = node.text(key);
        if text.is_some_and(|text| text.contains(EXPRESSION)) {
            let what = format!("{key} is an expression: write its value in its place");
            return Err(self.wrong(node.get(key).unwrap_or(node), about, &what));
        }
        Ok(text)
    }
}

/// Makes a configuration of YAML of Zilla. `file`: the name of the text.
///
/// # Errors
/// The text is not YAML, has no such binding or several, lacks what the binding requires, or has something that would have another meaning here.
pub fn zilla(file: &str, text: &str, options: &Options) -> Result<Imported, String> {
    let import = Import { file, notes: Notes::default(), refused: RefCell::default(), options };
    let blocks = import.blocks(text)?;
    let refused = import.refused.into_inner();
    if !refused.is_empty() {
        return Err(refused.join("\n"));
    }
    let text = Draft { blocks }.whole().map_err(|why| format!("{file}: {why}"))?;
    EVERYWHERE.iter().for_each(|note| import.notes.add("everywhere", note));
    Ok(Imported { text, notes: import.notes.into_text() })
}

impl Import<'_> {
    fn blocks(&self, text: &str) -> Result<Vec<Block>, String> {
        let file = self.file;
        let documents = yaml::documents(text).map_err(|(line, why)| format!("{file}:{line}: {why}"))?;
        let root = match &*documents {
            [] => return Err(format!("{file}: there is nothing in it")),
            [root] => root,
            [_, second, ..] => {
                return Err(format!("{file}:{}: a second document begins: give one in a file", second.line));
            }
        };
        let bindings = Bindings::of(root);
        let of_kind: Vec<_> = bindings.all().filter(|(_, node)| node.text("type") == Some("mqtt-kafka")).collect();
        let (name, binding) = match &*of_kind {
            [] => return Err(format!("{file}: there is no binding with `type: mqtt-kafka` in it")),
            [one] => *one,
            [(one, _), (other, node), ..] => {
                let what = format!("a [broker] is one binding, and there is {one}, too: leave one of them in the file");
                return Err(self.wrong(node, other, &what));
            }
        };
        match binding.text("kind") {
            Some("proxy") => {}
            Some(other) => {
                let what = format!("kind: {other:?} is not supported; it is `proxy`");
                return Err(self.wrong(binding, name, &what));
            }
            None => return Err(self.wrong(binding, name, "kind is required; it is `proxy`")),
        }
        let mut blocks = self.cluster(&bindings, (name, binding))?;
        blocks.extend(self.broker(name, binding)?);
        let about = format!("binding {name}");
        let routes = binding.get("routes").map(Node::items).unwrap_or_default();
        // Filters of routes that are none here: a later route must not get their messages.
        let mut passed = Vec::new();
        for (at, node) in routes.iter().enumerate() {
            let about = format!("{about}: routes[{at}]");
            blocks.extend(self.route(&about, node, &mut passed)?);
        }
        Ok(blocks)
    }

    /// `[broker]`, and its link to other instances.
    fn broker(&self, name: &str, binding: &Node) -> Result<Vec<Block>, String> {
        let (about, notes) = (format!("binding {name}"), &self.notes);
        let wrong = |node: &Node, what: &str| self.wrong(node, name, what);
        let options = binding.get("options").ok_or_else(|| wrong(binding, "options.topics is required"))?;
        let topics = options.get("topics").ok_or_else(|| wrong(options, "options.topics is required"))?;
        let topic = |key: &str| {
            let topic = self.text(topics, name, key)?.map(str::to_owned);
            topic.ok_or_else(|| wrong(topics, &format!("options.topics.{key} is required")))
        };
        let (sessions, messages, retained) = (topic("sessions")?, topic("messages")?, topic("retained")?);
        notes.left_out(
            &about,
            "options.topics.sessions",
            format_args!("Zilla's records in {sessions} are not read; sessions are in {sessions}-forebay"),
        );
        for (key, why) in [
            ("clients", "set partition_by = \"client\" in routes whose messages are to stay in order for each client"),
            ("publish", "a client's right to publish is in [auth.NAME]"),
        ] {
            if options.get(key).is_some() {
                notes.left_out(&about, &format!("options.{key}"), why);
            }
        }
        let none = "it has no counterpart";
        named(topics, &["sessions", "messages", "retained"], |key| {
            notes.left_out(&about, &format!("options.topics.{key}"), none);
        });
        named(options, &["topics", "server", "clients", "publish"], |key| {
            notes.left_out(&about, &format!("options.{key}"), none);
        });
        named(binding, &["type", "kind", "options", "routes", "exit"], |key| notes.left_out(&about, key, none));
        let mut broker = Block::named(&["broker"], &about);
        let server = self.text(options, name, "server")?;
        if let Some(server) = server {
            // Each instance has a host of its own.
            broker.set("name", server.rsplit_once(':').map_or(server, |(host, _)| host));
        }
        broker.set("messages", messages);
        broker.set("retained", retained);
        // Records of another program are none of ours.
        broker.set("sessions", format!("{sessions}-forebay"));
        let Some(server) = server else { return Ok(vec![broker]) };
        broker.set("server", server);
        let mut link = Block::named(&["broker", "link"], "other instances").part();
        link.set("bind", LINK);
        notes.add(
            &about,
            "options.server: each instance has its own `name`, `server`, and an address of `[broker.link]` that the others reach, with TLS: \
             see CLUSTER.md; as it is, only this machine reaches it",
        );
        Ok(vec![broker, link])
    }

    /// `[kafka.NAME]` with TLS and login: the client that the binding leads to.
    fn cluster(&self, bindings: &Bindings<'_>, (name, binding): (&str, &Node)) -> Result<Vec<Block>, String> {
        let notes = &self.notes;
        let (reached, missing) = bindings.behind(binding);
        let clients: Vec<_> = reached.iter().copied().filter(|(_, node)| is_client(node)).collect();
        let in_file: Vec<_> = bindings.all().filter(|(_, node)| is_client(node)).collect();
        let mut cluster = Block::named(&["kafka", CLUSTER], "the way to Kafka");
        let (client, node) = match (&*clients, &*in_file) {
            ([one], _) if missing.is_empty() || bindings.behind(one.1).1 == missing => *one,
            ([], [only]) => {
                let what = format!("{} is not in the file: it is taken to lead to {}", missing.join(", "), only.0);
                notes.add("the way to Kafka", what);
                *only
            }
            ([], []) => {
                let what = format!("no binding names its brokers: set bootstrap of [kafka.{CLUSTER}]");
                notes.add("the way to Kafka", what);
                cluster.set("bootstrap", BOOTSTRAP_UNKNOWN);
                return Ok(vec![cluster]);
            }
            ([(one, _), (other, _), ..], _) => {
                let what = format!("its routes lead to several clusters, {one} and {other}, and a [broker] has one");
                return Err(self.wrong(binding, name, &what));
            }
            _ => {
                let what = format!("which Kafka it leads to is not known: {} is not in the file", missing.join(", "));
                return Err(self.wrong(binding, name, &what));
            }
        };
        let about = format!("binding {client}");
        for (between, node) in reached.iter().filter(|(_, node)| !is_client(node)) {
            if node.get("options").is_some() && node.text("type") != Some("tls") {
                notes.left_out(&format!("binding {between}"), "options", "it has no counterpart");
            }
        }
        named(node, &["type", "kind", "options", "exit"], |key| notes.left_out(&about, key, "it has no counterpart"));
        let Some(options) = node.get("options") else {
            return Err(self.wrong(node, client, "options.servers is required"));
        };
        named(options, &["servers", "sasl"], |key| {
            notes.left_out(&about, &format!("options.{key}"), "it has no counterpart");
        });
        let servers = options.get("servers").map(texts).unwrap_or_default();
        if servers.is_empty() {
            return Err(self.wrong(options, client, "options.servers is required"));
        }
        if let Some(server) = servers.iter().find(|server| server.contains(EXPRESSION)) {
            let what = format!(
                "{server} is an expression: set bootstrap of [kafka.{CLUSTER}], or FOREBAY_KAFKA_{} in the environment",
                "MAIN_BOOTSTRAP"
            );
            notes.add(&format!("{about}: options.servers"), what);
            cluster.set("bootstrap", BOOTSTRAP_UNKNOWN);
        } else {
            cluster.set("bootstrap", servers.into_iter().collect::<Array>());
        }
        let (behind, unknown) = bindings.behind(node);
        let tls = behind.iter().find(|(_, node)| node.text("type") == Some("tls"));
        for exit in unknown {
            let what = format!("{exit} is not in the file: if it leads to TLS, add [kafka.{CLUSTER}.tls]");
            notes.add(&about, what);
        }
        let mut blocks = vec![cluster];
        if let Some((tls, node)) = tls {
            let about = format!("binding {tls}");
            blocks.push(Block::named(&["kafka", CLUSTER, "tls"], &about).part());
            for (key, why) in [
                ("trust", "certificates of a vault: write the CAs into a file, and name that as ca_file"),
                (
                    "keys",
                    "a key of a vault: write it and its certificate into files, and name them as key_file and cert_file",
                ),
                (
                    "signers",
                    "a key of a vault: write it and its certificate into files, and name them as key_file and cert_file",
                ),
                ("sni", "the name is that of the broker, or server_name"),
            ] {
                if node.get("options").is_some_and(|options| options.get(key).is_some()) {
                    notes.left_out(&about, &format!("options.{key}"), why);
                }
            }
        }
        if let Some(sasl) = options.get("sasl") {
            blocks.push(self.sasl(client, sasl, tls.is_some())?);
        }
        Ok(blocks)
    }

    /// The login. No secret is taken over: the configuration refuses to start until its file is written.
    fn sasl(&self, client: &str, sasl: &Node, has_tls: bool) -> Result<Block, String> {
        let about = format!("binding {client}");
        let mechanism = match self.text(sasl, client, "mechanism")? {
            Some(known @ ("plain" | "scram-sha-256" | "scram-sha-512")) => known.to_ascii_uppercase(),
            other => {
                let what = format!("options.sasl: there is no login by {} here", other.unwrap_or("no mechanism"));
                return Err(self.wrong(sasl, client, &what));
            }
        };
        let Some(user) = self.text(sasl, client, "username")? else {
            return Err(self.wrong(sasl, client, "options.sasl.username is required"));
        };
        named(sasl, &["mechanism", "username", "password"], |key| {
            self.notes.left_out(&about, &format!("options.sasl.{key}"), "it has no counterpart");
        });
        let mut block = Block::named(&["kafka", CLUSTER, "sasl"], &about).part();
        if mechanism == "PLAIN" && !has_tls {
            block.set("insecure", true);
            let what = "options.sasl: insecure = true: the password travels without encryption, as with Zilla";
            self.notes.add(&about, what);
        }
        block.set("mechanism", mechanism);
        block.set("username", user);
        let file = self.options.password_dir.join(format!("kafka-{CLUSTER}.password")).display().to_string();
        self.notes.add(&about, format_args!("options.sasl.password: no secret is taken over: write it into {file}"));
        block.set("password_file", file);
        Ok(block)
    }

    /// A route with a topic of its own. `passed`: filters of earlier routes that are none here.
    fn route(&self, about: &str, node: &Node, passed: &mut Vec<String>) -> Result<Option<Block>, String> {
        let notes = &self.notes;
        named(node, &["when", "with", "exit", "guarded"], |key| notes.left_out(about, key, "it has no counterpart"));
        if let Some(guarded) = node.get("guarded") {
            let what = "`guarded`: everyone could use its topics: roles are in [auth.NAME.role.ROLE]";
            self.refuse(guarded, about, what);
        }
        let filters = self.filters(about, node)?;
        if let Some(with) = node.get("with") {
            named(with, &["messages"], |key| {
                notes.left_out(about, &format!("with.{key}"), "it has no counterpart");
            });
        }
        if filters.is_empty() {
            self.refuse(node, about, "it is for no topic");
            return Ok(None);
        }
        let topic = match node.get("with") {
            Some(with) => self.text(with, about, "messages")?,
            None => None,
        };
        let Some(topic) = topic else {
            notes.add(about, "left out: it has no `with.messages`, and goes to the topic of all others");
            passed.extend(filters);
            return Ok(None);
        };
        if topic.contains("${") {
            let what = format!("a topic that is made of the message, as {topic} is, cannot be subscribed to");
            self.refuse(node, about, &what);
            return Ok(None);
        }
        let is_passed = |filter: &&String| passed.iter().any(|earlier| overlap(earlier, filter));
        if let Some(filter) = filters.iter().find(is_passed) {
            let what = format!("{filter}: an earlier route sends some of its messages to the topic of all others");
            self.refuse(node, about, &what);
            return Ok(None);
        }
        let mut block = Block::listed("broker.route", about);
        block.set("filters", filters.into_iter().collect::<Array>());
        block.set("topic", topic);
        Ok(Some(block.part()))
    }

    /// The topic filters of a route.
    fn filters(&self, about: &str, node: &Node) -> Result<Vec<String>, String> {
        let mut filters: Vec<String> = Vec::new();
        for when in node.get("when").map(Node::items).unwrap_or_default() {
            for side in ["publish", "subscribe"] {
                for of in when.get(side).map(Node::items).unwrap_or_default() {
                    let Some(topic) = self.text(of, about, "topic")? else { continue };
                    let filter = without_names(topic);
                    if filter != topic {
                        self.notes
                            .add(about, format_args!("{topic} is {filter}: names of levels have no meaning here"));
                    }
                    if !filters.contains(&filter) {
                        filters.push(filter);
                    }
                }
            }
            named(when, &["publish", "subscribe"], |key| {
                self.notes.left_out(about, &format!("when.{key}"), "it is not of messages");
            });
        }
        Ok(filters)
    }
}

/// Calls `each` for members that are not in `known`.
fn named(node: &Node, known: &[&str], each: impl Fn(&str)) {
    if let Value::Map(entries) = &node.value {
        entries.iter().filter(|(key, _)| !known.contains(&key.as_str())).for_each(|(key, _)| each(key));
    }
}

/// A filter with `+` for each named level, as in `place/{id}/#`.
fn without_names(topic: &str) -> String {
    let level = |level: &str| if level.starts_with('{') && level.ends_with('}') { "+" } else { level }.to_owned();
    topic.split('/').map(level).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_config as config;

    /// The binding of Zilla's reference, as it is written there.
    const REFERENCE: &str = "mqtt_kafka_proxy:\n  type: mqtt-kafka\n  kind: proxy\n  options:\n    server: mqtt-1.example.com:1883\n    topics:\n      \
                             sessions: mqtt-sessions\n      messages: mqtt-messages\n      retained: mqtt-retained\n  exit: kafka_cache_client\n";

    fn read_with(text: &str, partial: bool) -> Result<Imported, String> {
        let options = Options { is_partial: partial, password_dir: "/etc/forebay".into() };
        zilla("zilla.yaml", text, &options)
    }

    fn read(text: &str) -> Result<Imported, String> {
        read_with(text, false)
    }

    /// Z1 to Z9: the example loads as it is written.
    #[test]
    fn the_binding_of_the_reference_is_a_broker() {
        let imported = read(REFERENCE).expect("it is read");
        let config =
            config::parse(&imported.text, "made").unwrap_or_else(|problems| panic!("{problems}\n{}", imported.text));
        let broker = config.broker.expect("a broker");
        assert_eq!((&*broker.messages, &*broker.retained), ("mqtt-messages", "mqtt-retained"));
        assert_eq!(broker.server.as_deref(), Some("mqtt-1.example.com:1883"));
        assert!(broker.redirects && broker.name == "mqtt-1.example.com" && broker.link.is_some());
        for note in ["each instance has its own `name`", "options.topics.sessions: left out", "set bootstrap"] {
            assert!(imported.notes.contains(note), "{note}\n{}", imported.notes);
        }
    }

    /// Z2, Z6 to Z8, Z11: missing keys are reported by name and line.
    #[test]
    fn what_is_missing_is_named() {
        let with = |from: &str, to: &str| read(&REFERENCE.replace(from, to)).expect_err(from);
        for (line, wanted) in [
            ("  kind: proxy\n", "zilla.yaml:2: mqtt_kafka_proxy: kind is required"),
            ("      sessions: mqtt-sessions\n", "options.topics.sessions is required"),
            ("      messages: mqtt-messages\n", "options.topics.messages is required"),
            ("      retained: mqtt-retained\n", "options.topics.retained is required"),
        ] {
            assert!(with(line, "").contains(wanted), "{}", with(line, ""));
        }
        assert!(with("kind: proxy", "kind: server").contains("\"server\" is not supported"));
        assert!(with("type: mqtt-kafka", "type: mqtt").contains("no binding with `type: mqtt-kafka`"));
        assert!(read("a: [").expect_err("no YAML").starts_with("zilla.yaml:1: "));
    }

    /// Z10, Z30: conditional routes, before the exit, and the brokers of the binding that leads to Kafka.
    #[test]
    fn routes_are_routes() {
        let text = format!(
            "name: example\nbindings:\n  {}\n  routes:\n    - when:\n        - publish:\n            - topic: place/{{id}}/device/#\n        - subscribe:\n            \
             - topic: place/+/device/#\n            - topic: command/one\n      with:\n        messages: mqtt-devices\n      exit: kafka_cache_client\n    \
             - when:\n        - publish:\n            - topic: x/{{y}}\n      with:\n        messages: ${{params.y}}\n  kafka:\n    type: kafka\n    kind: client\n    options:\n      \
             servers:\n        - kafka-1.example:9092\n",
            REFERENCE.trim_end()
        );
        // The former top level of the file is in `bindings` now.
        let mut is_binding = false;
        let text: String = text
            .lines()
            .map(|line| {
                is_binding |= line.starts_with("  mqtt_kafka_proxy");
                is_binding &= line != "  kafka:";
                let indent = if is_binding && !line.starts_with("  mqtt_kafka_proxy") { "  " } else { "" };
                format!("{indent}{line}\n")
            })
            .collect();
        let imported = read_with(&text, true).unwrap_or_else(|why| panic!("{why}\n{text}"));
        let config =
            config::parse(&imported.text, "made").unwrap_or_else(|problems| panic!("{problems}\n{}", imported.text));
        assert_eq!(config.clusters[0].bootstrap, ["kafka-1.example:9092"]);
        let broker = config.broker.expect("a broker");
        let routes: Vec<_> = broker.routes.iter().map(|route| (&*route.topic, route.filters.join(" "))).collect();
        assert_eq!(routes, [("mqtt-devices", "place/+/device/# command/one".to_owned())]);
        assert!(imported.notes.contains("cannot be subscribed to"), "{}", imported.notes);
    }

    /// A whole file: `bindings` with the binding, and clients of Kafka.
    fn whole(routes: &str, others: &str) -> String {
        format!(
            "bindings:\n  proxy:\n    type: mqtt-kafka\n    kind: proxy\n    options:\n      topics: {{ sessions: s, messages: m, retained: r }}\n    \
             exit: cache\n{routes}  cache:\n    type: kafka\n    kind: cache_client\n    exit: one\n{others}"
        )
    }

    /// A client of Kafka.
    fn client(name: &str, more: &str) -> String {
        format!("  {name}:\n    type: kafka\n    kind: client\n    options:\n      servers: [\"{name}:9092\"]\n{more}")
    }

    const TCP: &str = "    exit: tcp\n  tcp:\n    type: tcp\n    kind: client\n";
    const SASL: &str = "      sasl: { mechanism: scram-sha-512, username: me, password: hidden }\n";
    const ROUTES: &str = "    routes:\n      - when: [{ publish: [{ topic: x/# }] }]\n        with: { messages: x }\n        exit: two\n";

    /// Finding Q57: the brokers are those that the binding leads to; two clusters are refused, and a login is kept.
    #[test]
    fn finding_q57_the_brokers_are_those_that_it_leads_to() {
        let two = client("one", TCP) + &client("two", "    exit: tcp\n");
        let made = read(&whole("", &two)).expect("the second is another's");
        assert!(made.text.contains("bootstrap = [\"one:9092\"]"), "{}", made.text);
        let why = read(&whole(ROUTES, &two)).expect_err("two clusters");
        assert!(why.contains("several clusters, ") && why.contains("one") && why.contains("two"), "{why}");
        let others = client("other", TCP) + &client("two", "    exit: tcp\n");
        let why = read(&whole("", &others)).expect_err("it leads to none of them");
        assert!(why.contains("one is not in the file"), "{why}");

        let made = read(&whole("", &client("one", &format!("{SASL}{TCP}")))).expect("it is read");
        for part in [
            "[kafka.main.sasl]",
            "mechanism = \"SCRAM-SHA-512\"",
            "username = \"me\"",
            "/etc/forebay/kafka-main.password",
        ] {
            assert!(made.text.contains(part), "{part}\n{}", made.text);
        }
        assert!(!made.text.contains("hidden") && made.notes.contains("write it into /etc/forebay/kafka-main.password"));
        let why = config::parse(&made.text, "made").expect_err("it does not start without its password").to_string();
        assert!(why.contains("password_file"), "{why}");
        let tls = "    exit: tls\n  tls:\n    type: tls\n    kind: client\n    options: { trust: [ca], sni: [x] }\n    exit: tcp\n";
        let made = read(&whole("", &client("one", tls))).expect("it is read");
        assert!(
            made.text.contains("[kafka.main.tls]") && made.notes.contains("options.trust: left out"),
            "{}",
            made.notes
        );
        let why = read(&whole("", &client("one", &SASL.replace("512", "1")))).expect_err("no such login");
        assert!(why.contains("there is no login by scram-sha-1"), "{why}");
    }

    /// Finding Q53: nothing is dropped without a word, and nothing becomes something else that works.
    #[test]
    fn finding_q53_what_cannot_be_converted_is_refused() {
        let one = client("one", TCP);
        let env = one.replace("\"one:9092\"", "\"${{env.KAFKA}}\"");
        let made = read(&whole("", &env)).expect("it is read");
        assert!(made.notes.contains("${{env.KAFKA}} is an expression"), "{}", made.notes);
        let clusters = config::parse(&made.text, "made").expect("valid").clusters;
        assert_eq!(clusters[0].bootstrap, [BOOTSTRAP_UNKNOWN], "and not the embedded log");

        let second = "  second:\n    type: mqtt-kafka\n    kind: proxy\n";
        let guarded = ROUTES.replace("exit: two", "guarded: { jwt: [role] }");
        let made_of_it = ROUTES.replace("messages: x", "messages: \"${params.x}\"").replace("exit: two", "exit: cache");
        let after = format!(
            "    routes:\n      - when: [{{ publish: [{{ topic: x/1 }}] }}]\n        exit: cache\n{}",
            ROUTES.replace("    routes:\n", "").replace("exit: two", "exit: cache")
        );
        for (text, why) in [
            (whole("", &format!("{one}{second}")), "there is proxy, too"),
            (format!("{}---\nname: other\n", whole("", &one)), "a second document begins"),
            (whole(&guarded, &one), "`guarded`: everyone could use its topics"),
            (whole(&made_of_it, &one), "cannot be subscribed to"),
            (whole(&after, &one), "an earlier route sends some of its messages"),
            (whole("", &one).replace("messages: m", "messages: \"${{env.TOPIC}}\""), "messages is an expression"),
            (whole("", &one).replace("messages: m", "messages: \"a b\""), "is not a valid Kafka topic"),
            (whole("", &one.replace("one:9092", "one:port")), "one:port"),
        ] {
            let said = read(&text).expect_err(why);
            assert!(said.contains(why), "{why}: {said}\n{text}");
        }
        for routes in [&guarded, &made_of_it, &after] {
            let made = read_with(&whole(routes, &one), true).expect("it was asked for");
            assert!(made.notes.contains("routes["), "{}", made.notes);
        }
    }
}
