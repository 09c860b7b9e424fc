//! Tests of the meaning of a right configuration.

use std::time::Duration;

use super::*;
use forebay_rule::template::Variable;

#[test]
fn no_file_is_what_the_product_promises() {
    let config = Config::default_no_file();
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].bind.to_string(), "127.0.0.1:1883");
    assert_eq!(config.control.bind.unwrap().to_string(), "127.0.0.1:8080");
    let embedded = config.embedded.as_ref().unwrap();
    assert_eq!(embedded.bind.to_string(), "127.0.0.1:9092");
    assert_eq!(embedded.dir, Path::new("./forebay-data/log"));
    assert_eq!(config.service.data_dir, Path::new("./forebay-data"));
    assert!(config.service.shards >= 1 && config.service.pin);
    assert_eq!((config.clusters.len(), config.clusters[0].name.as_str()), (1, EMBEDDED));
    assert_eq!(config.clusters[0].bootstrap, ["127.0.0.1:9092"]);
    let [sink] = &config.sinks[..] else { panic!("{:?}", config.sinks) };
    assert_eq!((sink.cluster, &sink.filters[..]), (0, &["#".to_owned()][..]));
    assert_eq!(sink.topic.as_literal(), Some("mqtt-messages"));
    assert_eq!(sink.key.as_ref().unwrap().as_single(), Some(&Variable::Topic));
    assert_eq!(sink.value.as_single(), Some(&Variable::Payload));
    assert_eq!(sink.acknowledge, Acknowledge::Replicated);
    assert_eq!((sink.linger, sink.batch_bytes), (Duration::from_millis(2), 256 << 10));
}

/// The defaults fit each other on every machine, which `default_no_file` relies on.
#[test]
fn defaults_go_together_on_any_number_of_cores() {
    for cores in [1, 2, 64, 255, 256, 1_024, 4_096] {
        let config = parse_with("", "defaults", &Overrides::default(), cores).unwrap();
        assert_eq!(config.service.shards, cores.min(forebay_base::limits::SHARDS_MAX));
        assert!(config.clusters[0].buffer_bytes / config.service.shards as u64 >= 4 << 20 || cores < 64);
    }
}

/// Every default in the table can be read and is within its own bounds.
#[test]
fn the_table_reads_its_own_defaults() {
    let everything = "[kafka.main]\nbootstrap = 'a:1'\n[kafka.main.tls]\n[embedded]\n[spool]\n[telemetry]\notlp = 'http://c'\n\
                      [auth.main]\nchain = ['jwt', 'anonymous']\n[auth.main.jwt]\njwks_url = 'https://id.example/'\naudience = 'a'\n[[listener]]\nbind = '127.0.0.1:1'\nauth = 'main'\n\
                      [[listener]]\nbind = '127.0.0.1:2'\ntransport = 'wss'\n\
                      [listener.tls]\ncert_file = 'c'\nkey_file = 'k'\nclient_ca_file = 'a'\n[listener.ws]\n[[sink]]\nkafka = 'main'\nname = 'a'\nfilters = '#'\ntopic = 'a'\n\
                      [[source]]\nkafka = 'main'\nname = 'b'\ntopic = 'b'\nmqtt_topic = 'b'\n[[rule]]\nname = 'r'\nsql = 'SELECT payload FROM t'\n\
                      [[rule.republish]]\ntopic = 'u'\n[bridge.main]\nurl = 'mqtts://a'\n[bridge.main.tls]\n[[bridge.main.in]]\nfilters = 'a'\n\
                      [[bridge.main.out]]\nfilters = 'a'\n[dapr]\napp_id = 'x'\n[broker]\nkafka = 'main'\n[[broker.route]]\nfilters = 'a'\ntopic = 'c'";
    let config = good(everything);
    for key in super::keys::all() {
        let super::keys::Absent::Is(default) = key.default else { continue };
        let header = key.section.header().replace("NAME", "main");
        let line = format!("{} = {default}\n", key.name);
        // The default is added to the existing section, or with a header of its own.
        let text = match everything.split_once(&format!("{header}\n")) {
            Some((before, after)) => format!("{before}{header}\n{line}{after}"),
            None => format!("{everything}\n{header}\n{line}"),
        };
        let mut written = good(&text);
        // The only differences of writing the default down are the origin of an address, and the line of a warning.
        written.warnings.clone_from(&config.warnings);
        written.control.moved_by.clone_from(&config.control.moved_by);
        written.embedded.as_mut().unwrap().moved_by.clone_from(&config.embedded.as_ref().unwrap().moved_by);
        assert_eq!(written, config, "{header} {line}");
    }
}

#[test]
fn the_products_example_reads() {
    let config = good(
        r##"
        [service]
        shards = 0
        data_dir = "/var/lib/forebay"
        [control]
        bind = "off"
        [[listener]]
        bind = "0.0.0.0:1883"
        open = true
        transport = "tcp"
        [kafka.zulu]
        bootstrap = "127.0.0.1:9092, [::1]:9093"
        [kafka.alpha]
        bootstrap = ["kafka-1.example:9092", "b:1,c:2"]
        [[sink]]
        name = "telemetry"
        kafka = "alpha"
        filters = ["telemetry/#", "dev/+/telemetry"]
        topic = "telemetry-${topic[0]}"
        key = ""
        value = "${payload}"
        headers = { site = "berlin", client = "${clientid}", "a.b" = "$$" }
        acknowledge = "received"
        compression = "lz4"
        linger = "500us"
        batch_bytes = 1_000_000
        "##,
    );
    assert_eq!((config.service.shards, config.control.bind, config.embedded), (2, None, None));
    let clusters: Vec<_> = config.clusters.iter().map(|c| (c.name.as_str(), c.bootstrap.join(" "))).collect();
    let (zulu, alpha) = ("127.0.0.1:9092 [::1]:9093".to_owned(), "kafka-1.example:9092 b:1 c:2".to_owned());
    assert_eq!(clusters, [("zulu", zulu), ("alpha", alpha)]);
    let sink = &config.sinks[0];
    assert_eq!(sink.compression_level, None);
    assert_eq!((sink.cluster, sink.key.as_ref(), sink.compression), (1, None, Compression::Lz4));
    assert_eq!(sink.acknowledge, Acknowledge::Received);
    assert_eq!((sink.linger, sink.batch_bytes), (Duration::from_micros(500), 1_000_000));
    assert_eq!(sink.headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["site", "client", "a.b"]);
    assert_eq!(sink.headers[2].1.as_literal(), Some("$"));
    assert_eq!(config.listeners[0].moved_by, "listener[0].bind in forebay.toml");
}

#[test]
fn codecs_levels_acks_and_partitioners() {
    let sink = |rest: &str| {
        let text = format!("[[sink]]\nname = 's'\nfilters = '#'\ntopic = 't'\n{rest}");
        good(&text).sinks.remove(0)
    };
    let zstd = sink("compression = 'zstd'\ncompression_level = 19");
    assert_eq!((zstd.compression, zstd.compression_level), (Compression::Zstd, Some(19)));
    assert_eq!(sink("compression = 'snappy'").compression, Compression::Snappy);
    assert_eq!(sink("compression = 'gzip'").compression_level, None);
    assert_eq!((sink("").acks, sink("acknowledge = 'leader'").acks), (-1, 1));
    assert_eq!(sink("acknowledge = 'leader'").acknowledge, Acknowledge::Leader);
    for (word, acks) in [("0", 0), ("1", 1), ("all", -1)] {
        assert_eq!(sink(&format!("acknowledge = 'received'\nacks = '{word}'")).acks, acks);
    }
    assert_eq!(sink("acks = 'all'").acks, -1, "said twice, and the same");
    assert_eq!(
        (sink("").partitioner, sink("partitioner = 'random'").partitioner),
        (Partitioner::Key, Partitioner::Random)
    );
}

#[test]
fn when_the_embedded_log_runs() {
    let sink = "\n[[sink]]\nname = 's'\nfilters = '#'\ntopic = 't'\n";
    let kafka = "\n[kafka.main]\nbootstrap = 'k:9092'\n";
    assert!(good("").embedded.is_some());
    assert!(good(sink).embedded.is_some());
    assert!(good(&format!("{sink}{kafka}")).embedded.is_none());
    let both = good(&format!("{sink}kafka = 'embedded'{kafka}[embedded]\nbind = '0.0.0.0:0'\ndir = '/e'"));
    assert_eq!(both.clusters[1].bootstrap, ["127.0.0.1:0"], "what the process itself can connect to");
    assert_eq!((both.sinks[0].cluster, both.embedded.unwrap().dir), (1, PathBuf::from("/e")));
    let advertised = good("[embedded]\nadvertised = '[fd00::1]:29092'").embedded.unwrap().advertised;
    assert_eq!(advertised, Some(("fd00::1".to_owned(), 29_092)));
}

#[test]
fn the_command_line_takes_the_place_of_the_file() {
    let text = "[service]\ndata_dir = '/a'\n[[listener]]\nbind = '127.0.0.1:1883'\n";
    let overrides = Overrides {
        data_dir: Some(PathBuf::from("/b")),
        listen: vec!["127.0.0.1:0".parse().unwrap(), "127.0.0.1:0".parse().unwrap()],
        control: Some(None),
        kafka: Some("k1:1,k2:2".to_owned()),
        ..Overrides::default()
    };
    let config = parse_with(text, "forebay.toml", &overrides, 2).unwrap();
    assert_eq!(config.service.data_dir, Path::new("/b"));
    assert_eq!((config.listeners.len(), config.listeners[0].moved_by.as_str()), (2, "--listen"));
    assert_eq!((config.control.bind, config.embedded), (None, None));
    assert_eq!((config.clusters[0].name.as_str(), config.clusters[0].bootstrap.len()), ("main", 2));
    assert_eq!(config.sinks[0].topic.as_literal(), Some("mqtt-messages"));

    // The option names the brokers of the only cluster, whatever its name, also where the file leaves them to the command line.
    let text = "[kafka.prod]\nclient_id = 'x'\n[[sink]]\nname = 's'\nfilters = '#'\ntopic = 't'";
    let config = parse_with(text, "forebay.toml", &overrides, 2).unwrap();
    assert_eq!((config.clusters[0].name.as_str(), config.clusters[0].bootstrap.len()), ("prod", 2));
}

#[test]
fn bounds_hold_at_both_ends() {
    for (section, key, at, beyond) in [
        ("service", "shards", "0", "1025"),
        ("mqtt", "receive_maximum", "1", "0"),
        ("mqtt", "receive_maximum", "65535", "65536"),
        ("mqtt", "receive_maximum", "0xffff", "-1"),
        ("mqtt", "packet_bytes_max", "'256MiB'", "268435457"),
        ("mqtt", "keep_alive_max", "'65535s'", "'65536s'"),
        ("mqtt", "connect_timeout", "'100ms'", "'99ms'"),
        ("embedded", "partitions", "1000", "99999999999999999999"),
    ] {
        good(&format!("[{section}]\n{key} = {at}"));
        let problems = read(&format!("[{section}]\n{key} = {beyond}")).expect_err(beyond);
        let [problem] = &problems.0[..] else { panic!("{problems}") };
        assert!(problem.what.ends_with("is out of range") && problem.hint.is_some(), "{problem}");
    }
}

#[test]
fn files_that_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("forebay.toml");
    let said = |path: &Path| load(path).unwrap_err().to_string();
    assert!(said(&path).contains("cannot be read: No such file"), "{}", said(&path));
    std::fs::write(&path, b"# fine\nx = \"\xff\"").unwrap();
    assert!(said(&path).ends_with("is not UTF-8, from line 2 on"), "{}", said(&path));
    std::fs::write(&path, "[log]\nlevel = 'debug'").unwrap();
    assert_eq!(load(&path).unwrap().log.level, LogLevel::Debug);
}

#[test]
fn the_value_is_a_template_or_the_object() {
    let sink = "[[sink]]\nname = 's'\nfilters = '#'\ntopic = 't'\n";
    assert_eq!(good(sink).sinks[0].value_format, ValueFormat::Raw);
    assert_eq!(good(&format!("{sink}value_format = 'json'")).sinks[0].value_format, ValueFormat::Json);
    good(&format!("{sink}value_format = 'raw'\nvalue = '${{qos}}'"));
    let both = read(&format!("{sink}value = 'x'\nvalue_format = 'json'")).unwrap_err().to_string();
    assert!(both.contains("5:9: sink[0].value: cannot be combined with value_format = \"json\""), "{both}");
}

#[test]
fn what_is_fixed_at_the_start() {
    let text = "[[sink]]\nname = 's'\nfilters = '#'\ntopic = 'plant-${env.SITE}'\nkey = '${metadata.line}'\n\
                headers = { a = '${metadata.line}${env.FOREBAY_VAR_SITE}${topic}' }\nmetadata = { line = '3' }\n";
    let environment = [("SITE".to_owned(), "berlin".to_owned())].into();
    let overrides = Overrides { environment, ..Overrides::default() };
    let config = parse_with(text, "forebay.toml", &overrides, 2).unwrap();
    let sink = &config.sinks[0];
    assert_eq!((sink.topic.as_literal(), sink.properties), (Some("plant-berlin"), true));
    assert_eq!(sink.key.as_ref().unwrap().as_literal(), Some("3"));
    assert_eq!(sink.headers[0].1.texts().collect::<Vec<_>>(), ["3berlin"]);
    assert_eq!(sink.metadata, [("line".to_owned(), "3".to_owned())]);

    let problems = read(text).expect_err("nothing of it is set");
    let whats: Vec<_> = problems.0.iter().map(|problem| problem.what.as_str()).collect();
    assert_eq!(whats, ["the environment has no FOREBAY_VAR_SITE"; 2], "{problems}");
    let problems = read(&text.replace("'3'", "3").replace("berlin", "x")).unwrap_err().to_string();
    assert!(problems.contains("sink[0].metadata.line: expected a string, found the integer 3"), "{problems}");
}

#[test]
fn how_long_things_wait() {
    let text = "[[listener]]\nbind = \"127.0.0.1:0\"\nanswer_timeout = \"30s\"\n[kafka.main]\nbootstrap = \"k:9092\"\n\
                [[sink]]\nname = \"a\"\nfilters = \"#\"\ntopic = \"t\"\npartitioner = \"client\"\nexpire_after = \"5m\"\n\
                max_inflight = 1\n[[sink]]\nname = \"b\"\nfilters = \"#\"\ntopic = \"t\"\n";
    let config = read(text).expect("a right configuration");
    assert_eq!(config.listeners[0].answer_timeout, Some(Duration::from_secs(30)));
    let [a, b] = &config.sinks[..] else { panic!("two sinks") };
    assert_eq!(
        (a.expire_after, a.max_inflight, a.partitioner),
        (Some(Duration::from_secs(300)), 1, Partitioner::Client)
    );
    assert_eq!((b.expire_after, b.max_inflight, b.partitioner), (None, 5, Partitioner::Key));
}

#[test]
fn what_subscribers_get() {
    let config = good("");
    assert_eq!(
        config.delivery,
        Delivery {
            wide: Wide::default(),
            waits_for_disk: false,
            queue_messages_max: 10_000,
            queue_bytes_max: 16 << 20,
            drops_newest: false,
            unread_bytes_max: 1 << 20,
            fetch_memory: 64 << 20,
            share_strategy: ShareStrategy::RoundRobin,
            share_ack_timeout: Duration::from_secs(300),
        }
    );
    assert_eq!(config.retained, Retained { messages_max: 1_000_000, bytes_max: 256 << 20, expire_after_s: None });
    assert!(good("[spool]").delivery.waits_for_disk);
    let config = good(
        "[spool]\n[delivery]\nacknowledge = 'received'\nqueue_messages_max = 1\nqueue_bytes_max = '1KiB'\nwhen_full = 'drop-newest'\n\
         unread_bytes_max = '64KiB'\nfetch_memory = '32MiB'\nshare_strategy = 'least-inflight'\nshare_ack_timeout = '7s'\n\
         [retained]\nmessages_max = 2\nbytes_max = '2MiB'\nexpire_after = '2d'\n",
    );
    assert_eq!(
        config.delivery,
        Delivery {
            wide: Wide::default(),
            waits_for_disk: false,
            queue_messages_max: 1,
            queue_bytes_max: 1_024,
            drops_newest: true,
            unread_bytes_max: 64 << 10,
            fetch_memory: 32 << 20,
            share_strategy: ShareStrategy::LeastInflight,
            share_ack_timeout: Duration::from_secs(7),
        }
    );
    assert_eq!(config.retained, Retained { messages_max: 2, bytes_max: 2 << 20, expire_after_s: Some(172_800) });
}

#[test]
fn which_member_of_a_shared_subscription_gets_a_message() {
    use ShareStrategy::{HashClient, HashTopic, LeastInflight, RoundRobin};
    for (word, meant, is_keyed) in [
        ("round-robin", RoundRobin, false),
        ("least-inflight", LeastInflight, false),
        ("hash-client", HashClient, true),
        ("hash-topic", HashTopic, true),
    ] {
        let strategy = good(&format!("[delivery]\nshare_strategy = '{word}'")).delivery.share_strategy;
        assert_eq!((strategy, strategy.is_keyed()), (meant, is_keyed));
    }
}

#[test]
fn the_field_of_a_certificate_that_says_who_it_is() {
    use forebay_guard::secure::IdentityField::{CommonName, DnsName, Email, Fingerprint, Uri};
    let field = |line: &str| good(&format!("[auth.a]\nchain = 'certificate'\n{line}")).auth[0].certificate_identity;
    assert_eq!(field(""), CommonName);
    for (word, meant) in
        [("cn", CommonName), ("san-dns", DnsName), ("san-uri", Uri), ("san-email", Email), ("fingerprint", Fingerprint)]
    {
        assert_eq!(field(&format!("certificate_identity = '{word}'")), meant);
    }
}

/// Addresses beyond loopback have a bound on guesses; a configured bound stays, and a service of this machine has none.
#[test]
fn finding_w5_failures_have_a_bound_beyond_loopback() {
    let of = |bind: &str, mqtt: &str| {
        let text = format!("[mqtt]\n{mqtt}\n[[listener]]\nbind = '{bind}:1'\n[[listener]]\nbind = '127.0.0.1:2'\n");
        let open = if bind == "0.0.0.0" { text.replace(":1'\n", ":1'\nopen = true\n") } else { text };
        good(&open).mqtt.failures_per_address
    };
    assert_eq!((of("0.0.0.0", ""), of("127.0.0.1", "")), (1_000, 0));
    assert_eq!((of("0.0.0.0", "failures_per_address = 0"), of("127.0.0.1", "failures_per_address = 7")), (0, 7));
}
