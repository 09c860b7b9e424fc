//! What an operator types before and beside the service: `forebay check`, `forebay topics create`, `forebay config`, and
//! variables of the environment. Each misconfiguration leads to words that name the cure.

mod support;

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Output};
use std::time::{SystemTime, UNIX_EPOCH};

use support::kafka::{self, Kafka};
use support::service::{self, Service, program};

/// Exit status and all that was printed.
fn ended(command: &mut Command) -> (i32, String) {
    let Output { status, stdout, stderr } = command.env("NO_COLOR", "1").output().expect("the program starts");
    let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    (status.code().expect("an exit status"), text)
}

/// Runs `forebay ARGUMENTS --config` with this configuration, and expects this exit status.
fn forebay(arguments: &[&str], config: &str, status: i32) -> String {
    let dir = support::temp_dir();
    let file = dir.path().join("forebay.toml");
    fs::write(&file, config).expect("the configuration can be written");
    let (code, text) = ended(program().args(arguments).arg("--config").arg(&file));
    assert_eq!(code, status, "{arguments:?}\n{config}\n{text}");
    text
}

fn sink(name: &str, topic: &str) -> String {
    format!("[[sink]]\nname = \"{name}\"\nfilters = \"#\"\ntopic = \"{topic}\"\n")
}

fn config(bootstrap: &str, sinks: &[String]) -> String {
    let bootstrap: Vec<String> = bootstrap.split(',').map(|broker| format!("\"{broker}\"")).collect();
    format!(
        "[service]\nshards = 1\npin = false\n[kafka.main]\nbootstrap = [{}]\n{}",
        bootstrap.join(", "),
        sinks.concat()
    )
}

/// One line holds `line` and all of `words`.
fn has(text: &str, line: &str, words: &[&str]) {
    let holds = |found: &str| found.contains(line) && words.iter().all(|word| found.contains(word));
    assert!(text.lines().any(holds), "no line with `{line}` and {words:?} in\n{text}");
}

fn fresh(what: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
    format!("operator-{what}-{}-{}", std::process::id(), now.as_nanos())
}

#[test]
fn a_wrong_port_is_named() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port");
    let text = forebay(&["check"], &config(&free.to_string(), &[sink("a", "t")]), 1);
    has(
        &text,
        "kafka.main",
        &["PROBLEM", &free.to_string(), "nothing listens on that port", "bootstrap of [kafka.main]"],
    );
    has(&text, "sink a", &["PROBLEM", "cannot connect to kafka.main"]);
    let text = forebay(&["topics", "create"], &config(&free.to_string(), &[sink("a", "t")]), 1);
    has(&text, "kafka.main", &["FAILED", "nothing listens on that port"]);
    // One that is wrong beside one that is right is no more than a warning.
    let service = Service::start(&service::config(""));
    let text = forebay(&["check"], &config(&format!("{free},{}", service.embedded()), &[sink("a", "t")]), 0);
    has(&text, "warning  kafka.main", &["a bootstrap broker does not answer", &free.to_string()]);
    has(&text, "ok       kafka.main", &[&service.embedded().to_string()]);
}

#[test]
fn what_is_no_kafka_is_told() {
    let service = Service::start(&service::config(""));
    for other in [service.mqtt(), service.control()] {
        let text = forebay(&["check"], &config(&other.to_string(), &[sink("a", "t")]), 1);
        has(&text, "kafka.main", &["PROBLEM", "this is not a response of a Kafka broker", "if its listener wants TLS"]);
    }
}

#[test]
fn an_unknown_key_and_a_level_without_its_buffer_are_refused() {
    let text = forebay(&["check"], "[service]\nshard = 1\n", 2);
    has(&text, "service.shard", &["unknown key", "did you mean \"shards\"?"]);
    let stored = config("127.0.0.1:1", &[sink("a", "t") + "acknowledge = \"stored\"\n"]);
    for command in [&["check"][..], &["run"], &["topics", "create"]] {
        let text = forebay(command, &stored, 2);
        has(&text, "sink[0].acknowledge", &["stored", "disk buffer", "[spool]", "use \"replicated\""]);
    }
}

#[test]
fn the_environment_goes_before_the_file() {
    let (code, text) = ended(program().arg("check").env("FOREBAY_SINK_0_LINGR", "2ms"));
    assert_eq!(code, 2, "{text}");
    has(&text, "environment: FOREBAY_SINK_0_LINGR", &["did you mean FOREBAY_SINK_0_LINGER?"]);
    let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port");
    let alone = [("KAFKA_SITE_BOOTSTRAP", &*free.to_string()), ("SINK_0_NAME", "a"), ("SINK_0_FILTERS", "#")]
        .map(|(name, value)| (format!("FOREBAY_{name}"), value.to_owned()));
    let (code, text) = ended(program().arg("check").envs(alone).env("FOREBAY_SINK_0_TOPIC", "t"));
    assert_eq!(code, 1, "{text}");
    has(&text, "kafka.site", &[&free.to_string()]);
}

#[test]
fn topics_are_made_in_the_embedded_log_by_asking_for_it_alone() {
    let service = Service::start(&service::config(""));
    let sinks = [sink("a", "alarms"), sink("b", "alarms"), sink("c", "by-${clientid}")];
    let config = config(&service.embedded().to_string(), &sinks);
    for _ in 0..2 {
        let text = forebay(&["check"], &config, 0);
        has(&text, "kafka.main", &["ok", "1 broker: 1 at"]);
        has(&text, "sink a: topic", &["topic alarms is missing"]);
        has(&text, "sink c", &["depends on the message"]);
    }
    let text = forebay(&["topics", "create", "--partitions", "3"], &config, 0);
    assert_eq!(text.matches("topic alarms").count(), 1, "{text}");
    has(&text, "topic alarms", &["created", "kafka.main"]);
    has(&text, "sink c", &["nothing to create"]);
    has(&forebay(&["topics", "create"], &config, 0), "topic alarms", &["there"]);
    has(&forebay(&["check"], &config, 0), "sink a: topic", &["ok", "topic alarms: partitions 3"]);
}

/// With no cluster there is nothing to reach before the service runs, and nothing wrong with that.
#[test]
fn the_embedded_log_need_not_run() {
    let dir = support::temp_dir();
    let file = dir.path().join("forebay.toml");
    let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port");
    fs::write(&file, format!("[service]\npin = false\n[embedded]\nbind = \"{free}\"\n")).expect("it can be written");
    let (code, text) = ended(program().args(["check", "--config"]).arg(&file));
    assert_eq!(code, 0, "{text}");
    has(&text, "kafka.embedded", &["ok", "part of the service"]);
}

#[test]
fn a_missing_topic_in_kafka_is_left_missing_by_a_check() {
    let topic = fresh("missing");
    let config = config(&kafka::shared(), &[sink("a", &topic)]);
    for _ in 0..2 {
        let text = forebay(&["check"], &config, 0);
        has(&text, "sink a", &["ok", "is missing; the cluster creates it with its first message", "partitions 4"]);
    }
    let text = forebay(&["topics", "create", "--partitions", "3", "--replication-factor", "1"], &config, 0);
    has(&text, &topic, &["created", "partitions 3, replication factor 1"]);
    has(&forebay(&["topics", "create"], &config, 0), &topic, &["there"]);
    has(&forebay(&["check"], &config, 0), "sink a", &["ok", "partitions 3, replication factor 1, writable"]);
    let text = forebay(
        &["topics", "create", "--replication-factor", "9"],
        &self::config(&kafka::shared(), &[sink("a", &fresh("nine"))]),
        1,
    );
    has(&text, "FAILED", &["error 38"]);
}

#[test]
fn addresses_that_cannot_be_listened_on_are_told() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = taken.local_addr().map(|address| (taken, address)).expect("its address");
    let listeners = format!("[[listener]]\nbind = \"{}\"\n[control]\nbind = \"127.0.0.1:0\"\n", taken.1);
    let text = forebay(&["check"], &listeners, 0);
    has(&text, &format!("warning  listener {}", taken.1), &["in use", "`bind`"]);
    assert!(!text.contains("control"), "{text}");
    // TEST-NET-1 (RFC 5737): no machine's own.
    let text = forebay(&["check"], "[control]\nbind = \"192.0.2.1:8080\"\ntokens_file = \"none\"\n", 1);
    has(&text, "PROBLEM  control 192.0.2.1:8080", &["cannot listen", "an address of this machine"]);
}

#[test]
fn a_configuration_may_come_by_standard_input() {
    let bad = "[service]\nshard = 1\n";
    for (text, status, words) in [(bad, 2, "standard input:2:1: service.shard"), ("", 0, "kafka.embedded")] {
        let dir = support::temp_dir();
        let file = dir.path().join("forebay.toml");
        fs::write(&file, text).expect("written");
        let input = fs::File::open(&file).expect("a file");
        let (code, said) = ended(program().args(["check", "--config", "-"]).stdin(input));
        assert_eq!((code, said.contains(words)), (status, true), "{said}");
    }
}

/// A cluster that makes no topics, hides one and lets one not be written.
#[test]
fn a_cluster_that_forbids() {
    let cluster = Kafka::start(&[
        "--auto-create",
        "false",
        "--config",
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "--config",
        "allow.everyone.if.no.acl.found=true",
    ]);
    let bootstrap = cluster.bootstrap();
    for topic in ["hidden", "read-only"] {
        cluster.create_topic(topic, 2);
    }
    for (topic, bytes) in [("narrow", 20_000), ("less", 500_000)] {
        let size = format!("max.message.bytes={bytes}");
        cluster.command(&["topics", "create", topic, "--partitions", "1", "--config", &size]);
    }
    cluster.add_acl("--deny-principal", "All", "hidden");
    cluster.add_acl("--deny-principal", "Write", "read-only");
    cluster.add_acl("--allow-principal", "Read", "read-only");
    let sinks = [sink("a", "hidden"), sink("b", "read-only"), sink("c", "nowhere"), sink("d", "t-${clientid}")];
    let text = forebay(&["check"], &config(bootstrap, &sinks), 1);
    has(
        &text,
        "sink a",
        &["PROBLEM", "topic hidden: this client is not authorized to describe it", "kafka-acls.sh", "--topic hidden"],
    );
    has(&text, "sink b", &["PROBLEM", "topic read-only: this client is not authorized to write it", "kafka-acls.sh"]);
    has(&text, "sink c", &["PROBLEM", "topic nowhere is missing", "forebay topics create"]);
    has(&text, "sink d", &["warning", "does not create topics"]);

    let compressed = sink("z", "narrow") + "compression = \"lz4\"\n";
    let sinks = [sink("n", "narrow"), sink("l", "less"), compressed];
    let text = forebay(&["check"], &config(bootstrap, &sinks), 0);
    let beyond = "(max.message.bytes), less than record_bytes_max 1024000";
    has(&text, "warning  sink n", &["at most 20000 bytes", beyond, "batch_bytes 262144"]);
    has(&text, "warning  sink l", &["at most 500000 bytes", &format!("{beyond}: Kafka refuses")]);
    assert!(!text.contains("warning  sink z"), "{text}");
}

/// Finding K8: what the cluster would refuse when the first message comes is a problem before; finding K3: what its brokers would not
/// read is warned of.
#[test]
fn finding_k8_topics_that_cannot_be_created_or_written_are_problems() {
    let options = ["default.replication.factor=3", "socket.request.max.bytes=200000"];
    let cluster = Kafka::start(&options.map(|option| ["--config", option]).concat());
    let bootstrap = cluster.bootstrap();
    let topic = ["topics", "create", "low", "--partitions", "2", "--replication-factor", "1"];
    cluster.command(&[&topic[..], &["--config", "min.insync.replicas=2"]].concat());
    let letters = sink("c", "made") + "dead_letters_topic = \"low\"\n";
    cluster.command(&["topics", "create", "made", "--partitions", "2", "--replication-factor", "1"]);
    let received = sink("d", "low") + "acknowledge = \"received\"\nacks = \"1\"\n";
    let sinks = [sink("a", "missing"), sink("b", "low"), letters, received, sink("e", "t-${clientid}")];
    let text = forebay(&["check"], &config(bootstrap, &sinks), 1);
    has(&text, "sink a: ", &["PROBLEM", "topic missing is missing, and the cluster cannot create it", "factor"]);
    has(&text, "PROBLEM  sink b: ", &["replication factor 1 and min.insync.replicas 2", "no record is accepted"]);
    has(&text, "PROBLEM  dead letters of sink c: ", &["replication factor 1 and min.insync.replicas 2"]);
    has(&text, "sink e: ", &["PROBLEM", "the cluster cannot create missing topics"]);
    assert!(!text.contains("PROBLEM  sink c") && !text.contains("PROBLEM  sink d"), "{text}");
    has(
        &text,
        "warning  sink c: ",
        &["requests of at most 200000 bytes (socket.request.max.bytes)", "batch_bytes 262144"],
    );
}

#[test]
fn the_default_configuration_is_one_and_the_schema_holds() {
    let (code, example) = ended(program().args(["config", "default"]));
    assert_eq!(code, 0, "{example}");
    let (code, schema) = ended(program().args(["config", "schema"]));
    assert_eq!(code, 0, "{schema}");
    let dir = support::temp_dir();
    fs::write(dir.path().join("schema.json"), schema).expect("the schema can be written");
    support::run(
        support::python("schema.py")
            .arg(dir.path().join("schema.json"))
            .arg(support::root().join("docs/CONFIGURATION.md")),
    );
}

/// `forebay check FILE` with this configuration; `$DIR` is a directory of its own. Exit status and text.
fn check(options: &[&str], config: &str, environment: &[(&str, &str)]) -> (i32, String) {
    let dir = support::temp_dir();
    let file = dir.path().join("forebay.toml");
    fs::write(&file, config.replace("$DIR", &dir.path().display().to_string())).expect("it can be written");
    ended(program().arg("check").arg(&file).args(options).envs(environment.iter().copied()))
}

const SMALL: &str = "[service]\nshards = 1\npin = false\ndata_dir = \"$DIR/data\"\n[control]\nbind = \"off\"\n\
                     [[listener]]\nbind = \"127.0.0.1:0\"\n[embedded]\nbind = \"127.0.0.1:0\"\n";

#[test]
fn a_check_finds_what_would_stop_a_start() {
    let (code, text) = check(&[], SMALL, &[]);
    assert_eq!(code, 0, "{text}");
    has(&text, "ok       host", &["io_uring"]);
    has(&text, "ok       data directory", &["does not exist; the service creates it"]);
    has(&text, "sink default", &["topic mqtt-messages is missing; the embedded log creates it"]);

    let (code, text) = check(&[], &SMALL.replace("$DIR/data", "/proc/x"), &[]);
    assert_eq!(code, 1, "{text}");
    has(&text, "PROBLEM  data directory", &["/proc/x cannot be written", "service.data_dir"]);

    let (code, text) = check(&[], &format!("{SMALL}auto_create_topics = false\n"), &[]);
    assert_eq!(code, 1, "{text}");
    has(
        &text,
        "PROBLEM  sink default",
        &["topic mqtt-messages is missing", "auto_create_topics = false", "topics create"],
    );

    let (code, text) = check(&[], SMALL, &[("FOREBAY_LOG", "loud")]);
    assert_eq!(code, 1, "{text}");
    has(&text, "PROBLEM  log", &["\"loud\" is not a log filter", "FOREBAY_LOG"]);

    let limited = "ulimit -l 64; exec \"$0\" check -";
    let small = |io: &str| {
        let mut shell = Command::new("sh");
        let shell = shell.env("FOREBAY_SERVICE_IO", io).args(["-c", limited]).arg(program().get_program());
        ended(shell.stdin(std::process::Stdio::null()))
    };
    let (code, text) = small("ring");
    assert_eq!(code, 1, "{text}");
    has(&text, "PROBLEM  host", &["64 KiB", "LimitMEMLOCK"]);
    let (code, text) = small("auto");
    assert_eq!(code, 0, "{text}");
    has(&text, "warning  host", &["64 KiB", "LimitMEMLOCK", "epoll"]);
}

#[test]
fn a_check_offline_looks_at_the_configuration_alone() {
    let config = "[service]\ndata_dir = \"/proc/x\"\n[kafka.main]\nbootstrap = \"127.0.0.1:1\"\n[[sink]]\nname = \"a\"\n\
                  filters = \"#\"\ntopic = \"${topic}\"\n";
    let (code, text) = check(&["--offline"], config, &[]);
    assert_eq!(code, 0, "{text}");
    has(&text, "ok       configuration", &["1 listener, 1 Kafka cluster, 1 sink", "--offline"]);
    has(&text, "warning", &["forebay.toml:8:9: sink[0].topic", "cannot contain `/`"]);
    let (code, text) = check(&["--offline", "--json"], config, &[]);
    let said: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((code, &said["works"]), (0, &true.into()), "{text}");
    assert_eq!((&said["warnings"][0]["line"], &said["checks"][0]["verdict"]), (&8.into(), &"ok".into()), "{text}");
    let (code, text) = check(&["--offline", "--json"], "[log]\nlevel = info\n", &[]);
    let said: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((code, &said["works"], &said["problems"][0]["line"]), (2, &false.into(), &2.into()), "{text}");
}

#[test]
fn habits_of_the_command_line_work() {
    let (code, text) = ended(program().arg("help"));
    assert!(code == 0 && text.contains("Usage:") && text.contains("FOREBAY_CONFIG"), "{text}");
    let (code, text) = ended(program().arg("-V"));
    assert!(code == 0 && text.starts_with("forebay 0.") && text.contains('('), "{text}");
    let (code, text) = ended(program().args(["completions", "bash"]));
    assert!(code == 0 && text.contains("--offline"), "{text}");
    let dir = support::temp_dir();
    let file = dir.path().join("forebay.toml");
    fs::write(&file, "[log]\nlevl = \"info\"\n").expect("it can be written");
    for mut command in [program(), program()] {
        let (code, text) = ended(command.args(["check", "--offline"]).env("FOREBAY_CONFIG", &file));
        assert_eq!(code, 2, "{text}");
        has(&text, "log.levl", &["did you mean \"level\"?"]);
    }
    let (code, text) = ended(program().args(["check", "--offline"]).env("FOREBAY_VERSION", "1"));
    assert_eq!(code, 0, "{text}");
    has(&text, "FOREBAY_VERSION", &["warning", "has no effect"]);
}

#[test]
fn a_hangup_reloads_and_never_ends_the_service() {
    let mut service = Service::start(&service::config("[log]\nlevel = \"info\"\n"));
    let file = service.dir().join("forebay.toml");
    let config = fs::read_to_string(&file).expect("the configuration");
    let reload = |text: &str, want: &str| {
        fs::write(&file, text).expect("it can be written");
        service.signal("HUP");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !service.log().contains(want) {
            assert!(std::time::Instant::now() < deadline, "no `{want}` in\n{}", service.log());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    };
    reload(&config.replace("\"info\"", "info"), "reload failed");
    reload(&config.replace("\"info\"", "\"debug\""), "applied=\"log.level");
    let sink = sink("more", "t");
    reload(
        &format!("{config}{sink}").replace("\"info\"", "\"warn\""),
        "applied=\"log.level, sink default (removed), sink more (added)",
    );
    // At `warn` this one is silent: what shows that it was read is that the service still ends well.
    service.signal("HUP");
    assert!(service.terminate().success(), "{}", service.log());
}

#[test]
fn the_log_names_what_was_started_and_is_json_to_the_last_line() {
    let service = Service::start(&service::config(""));
    let log = service.log();
    for words in [
        "Forebay is starting",
        "forebay.toml",
        "data_dir=",
        "Kafka cluster",
        "sink=\"default\"",
        "topic=\"mqtt-messages\"",
    ] {
        assert!(log.contains(words), "no `{words}` in\n{log}");
    }
    // The port of the embedded log is taken: this start fails.
    let dir = support::temp_dir();
    let file = dir.path().join("forebay.toml");
    let config =
        SMALL.replace("$DIR", &dir.path().display().to_string()).replace("[embedded]\nbind = \"127.0.0.1:0\"\n", "");
    fs::write(&file, format!("{config}[embedded]\nbind = \"{}\"\n", service.embedded())).expect("it can be written");
    let (code, text) = ended(program().args(["run", "--log-format", "json", "--config"]).arg(&file));
    assert_eq!(code, 1, "{text}");
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"))).collect();
    let last = lines.last().expect("a line");
    assert!(
        last["level"] == "ERROR" && last["message"].as_str().is_some_and(|text| text.contains("embedded.bind")),
        "{last}"
    );
    let (code, text) = ended(program().args(["run", "--log-format", "json", "--config", "/not/there"]));
    assert_eq!(code, 2, "{text}");
    assert!(text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{text}");
}

/// A spool as a service that was never there would have left it: two shards, nothing in it.
#[test]
fn a_spool_is_looked_at_before_anything_runs() {
    let dir = support::temp_dir();
    let data = dir.path().join("data");
    let service = format!(
        "[service]\nshards = 2\npin = false\ndata_dir = \"{}\"\n[kafka.main]\nbootstrap = \"127.0.0.1:1\"\n",
        data.display()
    );
    let kept = format!("{service}[spool]\nbytes_max = \"1024TiB\"\n{}", sink("a", "t"));
    let text = forebay(&["check"], &kept, 1);
    has(&text, "spool: bytes_max", &["warning", "lower bytes_max or free space"]);
    has(&text, "does not exist yet", &["ok       spool"]);
    has(&text, "sink a: records are kept", &["on disk", "acknowledged when synced to disk"]);
    for shard in ["0", "1"] {
        fs::create_dir_all(data.join("spool").join(shard)).expect("a folder");
    }
    let root = data.join("spool").display().to_string();
    let (code, text) = ended(program().args(["spool", "inspect", &root]));
    assert!(code == 1 && text.contains("is not a spool"), "{text}");
    let (code, text) = ended(program().args(["spool", "discard", &root, "--sink", "a", "--yes"]));
    assert_eq!(code, 1, "{text}");
    has(&text, "this is not a spool", &[&root]);
    let (code, text) = ended(program().args(["spool", "discard", &dir.path().display().to_string(), "--sink", "a"]));
    assert_eq!(code, 1, "{text}");
    has(&text, "not part of a spool", &["move it elsewhere"]);
    // A segment in a folder that no manifest tells of.
    fs::write(data.join("spool/1/00000000000000000000.segment"), [0; 4096]).expect("a segment");
    for text in [forebay(&["run"], &kept, 1), forebay(&["run"], &format!("{service}{}", sink("a", "t")), 1)] {
        has(&text, "there is no manifest.json", &["folder 1 has segments", "copy manifest.json too"]);
    }
}

/// Rules know the machine's time zone by its name; one that the machine does not have is an error, and not UTC.
#[test]
fn finding_q46_named_time_zones_are_known() {
    let run = |zone: &str| {
        let sql = "SELECT unix_ts_to_rfc3339(1654770000) AS t FROM \"#\"";
        let mut program = program();
        let Output { status, stdout, stderr } =
            program.args(["rule", "test", "--sql", sql]).env("TZ", zone).output().expect("the program starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (status.success(), text(stdout), text(stderr))
    };
    assert_eq!(run("Europe/Berlin").1, "{\"t\":\"2022-06-09T12:20:00+02:00\"}\n");
    assert_eq!(run("UTC0").1, "{\"t\":\"2022-06-09T10:20:00+00:00\"}\n");
    let (is_good, _, said) = run("Europe/Bielefeld");
    assert!(!is_good && said.contains("the time zone of the variable TZ, Europe/Bielefeld, cannot be read"), "{said}");
}

/// E27, E47, E52: a rule is tried on a message of options, of EMQX's context, or on many out of a file; E46, E50 word for word.
#[test]
fn rules_are_tried_without_a_service() {
    let run = |arguments: &[&str]| {
        let Output { status, stdout, stderr } = program()
            .args(["rule", "test"])
            .args(arguments)
            .env("EMQXVAR_KAFKA_TOPIC", "testtopic-in")
            .output()
            .expect("the program starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (status.code().expect("an exit status"), text(stdout), text(stderr))
    };
    let sql = "SELECT getenv(`EMQXVAR_KAFKA_TOPIC`) as kafka_topic, payload FROM \"t/#\"";
    let (code, out, notes) = run(&["--sql", sql, "--topic", "t/Connection", "--payload", "payload string"]);
    assert_eq!(
        (code, out.as_str(), notes.as_str()),
        (0, "{\"payload\":\"payload string\",\"kafka_topic\":\"testtopic-in\"}\n", "")
    );
    let sql =
        "SELECT topic, clientid, username, qos, flags.retain AS r, pub_props.'User-Property'.site AS site FROM \"#\"";
    let message = [
        "--sql",
        sql,
        "--topic",
        "a/b",
        "--clientid",
        "d1",
        "--username",
        "ada",
        "--qos",
        "2",
        "--retain",
        "--user-property",
        "site=north",
    ];
    let (code, out, _) = run(&message);
    let want = r#"{"username":"ada","topic":"a/b","site":"north","r":true,"qos":2,"clientid":"d1"}"#;
    assert_eq!((code, out.trim_end()), (0, want));
    let dir = support::temp_dir();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).expect("it can be written");
        path.to_str().expect("UTF-8").to_owned()
    };
    // EMQX's body of a test, whose payload is an object.
    let context = file(
        "context.json",
        r#"{"sql": "SELECT payload.device AS device, topic FROM \"t/#\"", "context": {"event_type": "message_publish", "topic": "t/1", "payload": {"device": "1", "temperature": 21, "humidity": 40}}}"#,
    );
    let (code, out, _) = run(&["--context", &context]);
    assert_eq!((code, out.trim_end()), (0, r#"{"topic":"t/1","device":"1"}"#));
    let lines = file(
        "lines",
        "{\"payload\":\"{\\\"t\\\":21}\"}\n\n{\"payload\":{\"t\":1},\"qos\":2}\n{\"payload\":\"hello\"}\n{\"topic\":\"other\"}\n{\"payload\":{\"t\":30}}\n",
    );
    let (code, out, notes) = run(&["--sql", "SELECT payload.t AS t FROM \"t/#\" WHERE t > 20", "--file", &lines]);
    assert_eq!((code, out.as_str()), (1, "{\"t\":21}\n{\"t\":30}\n"));
    has(&notes, "message 2:", &["filtered"]);
    has(&notes, "message 3: failed", &["line 1, column 8", "the payload is not JSON"]);
    has(&notes, "message 4:", &["other", "matches no filter"]);
    let (code, out, notes) = run(&["--sql", "SELECT uper(topic) FROM \"t\""]);
    assert_eq!((code, out.as_str()), (1, ""));
    has(&notes, "line 1, column 8", &["no function `uper`", "did you mean `upper`?"]);
    assert!(notes.ends_with("SELECT uper(topic) FROM \"t\"\n       ^^^^^^^^^^^\n"), "{notes}");
    let (code, _, notes) = run(&["--sql", "SELECT payload.x > 1 AS x FROM \"t\"", "--payload", "{\"x\":null}"]);
    assert_eq!(code, 0);
    has(&notes, "warning: values of different types", &["numbers come before"]);
    let (code, _, notes) = run(&["--sql", "SELECT 1 AS x FROM \"t\"", "--context", &file("wrong", "{\"nosuch\":1}")]);
    assert_eq!(code, 1);
    has(&notes, "no field `nosuch`", &["clientid"]);
}

#[test]
fn rules_are_explained() {
    let sql = "SELECT payload.temp AS temp, clientId FROM \"t/#\" WHERE temp > 20";
    let (code, text) = ended(program().args(["rule", "explain", "--sql", sql]));
    assert_eq!(code, 0, "{text}");
    has(&text, "from", &["t/#"]);
    has(&text, "columns", &["temp, clientId"]);
    has(&text, "fields", &["payload"]);
    has(&text, "payload paths", &["payload.temp"]);
    has(&text, "SELECT can fail", &["payload.temp"]);
    has(&text, "WHERE can fail", &["temp > 20"]);
    has(&text, "warning: line 1, column 30", &["`clientId` is always absent", "did you mean `clientid`?"]);
    let (code, text) = ended(program().args(["rule", "explain", "--sql", "SELECT"]));
    assert!(code == 1 && text.contains("the end where a value is needed"), "{text}");
}
