//! `[broker]`: its sinks and its source, and the configurations that it refuses.

use super::*;

const KAFKA: &str = "[kafka.main]\nbootstrap = 'k:1'\n";

fn broker(more: &str) -> String {
    format!(
        "{KAFKA}[broker]\n[[broker.route]]\nfilters = ['a/+', 'b']\ntopic = 'one'\n[[broker.route]]\nfilters = 'a/#'\ntopic = 'two'\npartition_by = 'client'\n\
         mqtt_topic = 'from/${{key}}'\n{more}"
    )
}

/// Z7 to Z10, Z28, Z30, Z32: a sink for each topic, each of which takes the messages that earlier ones do not, one for retained
/// messages, and one source for all.
#[test]
fn each_topic_is_a_sink_and_one_source_reads_them() {
    let config = good(&broker(""));
    let sinks: Vec<_> =
        config.sinks.iter().map(|sink| (&*sink.name, sink.filters.join(" "), sink.exclude.join(" "))).collect();
    let all = [
        ("broker.one", "a/+ b", ""),
        ("broker.two", "a/#", "a/+"),
        ("broker.mqtt-messages", "#", "a/+ b a/#"),
        ("broker.mqtt-retained", "", ""),
    ];
    let log = config.kept_log().expect("sessions have a log");
    assert_eq!((log.bytes_max, log.segments_max * log.segment_bytes * 64), (1 << 30, 1 << 30));
    assert!(config.delivery.waits_for_disk);
    assert_eq!(sinks, all.map(|(name, filters, exclude)| (name, filters.to_owned(), exclude.to_owned())));
    assert_eq!(config.sinks[1].partitioner, Partitioner::Client);
    assert!(
        config.sinks.iter().all(|sink| sink.acknowledge == Acknowledge::Replicated && sink.buffer == Buffer::Memory)
    );
    assert!(config.sinks[3].empty_is_null && !config.sinks[0].empty_is_null);
    let [source] = &config.sources[..] else { panic!("one source") };
    let read: Vec<_> = source.routes().map(|(topic, mqtt)| (topic, mqtt.map(ToString::to_string))).collect();
    let template = |text: &str| Some(text.to_owned());
    assert_eq!(
        read,
        [("one", template("${key}")), ("two", template("from/${key}")), ("mqtt-messages", template("${key}"))]
    );
    assert_eq!((&*source.group, source.group_instance.as_deref()), ("forebay-broker-forebay", Some("forebay")));
    // The group of another broker on the same Kafka is another one, and has its topic of sessions in its name.
    let other = good(&format!("{KAFKA}[broker]\nsessions = 'mine'\n"));
    assert_eq!(other.sources[0].group, "forebay-broker-forebay@mine");
    assert_eq!(config.warnings, Problems::default());
    let shadowed = good(&broker("[[broker.route]]\nfilters = 'a/b'\ntopic = 'three'\n")).warnings.to_string();
    assert!(shadowed.contains("broker.route[2].filters: no message goes to this route"), "{shadowed}");
}

#[test]
fn what_stands_against_it_is_refused() {
    let sink = "[[sink]]\nname = 's'\nfilters = '#'\ntopic = 'two'\n";
    let source = "[[source]]\nname = 'broker'\ntopic = 'mqtt-retained'\nmqtt_topic = 'm'\n";
    let rule = "[[rule]]\nname = 'r'\nsql = 'SELECT * FROM t'\n[[rule.republish]]\ntopic = 'x'\ndirect = true\n";
    for (text, wanted) in [
        ("[broker]\n".to_owned(), "broker.kafka: needs a Kafka cluster"),
        (
            format!("{KAFKA}[broker]\nretained = 'mqtt-messages'\n"),
            "\"mqtt-messages\" is the topic of broker.messages, too",
        ),
        (
            broker("[[broker.route]]\nfilters = 'c'\ntopic = 'one'\n"),
            "\"one\" is the topic of broker.route[0].topic, too",
        ),
        (broker("[[broker.route]]\nfilters = '$share/a/c'\ntopic = 'three'\n"), "is a shared subscription"),
        (broker(sink), "\"two\" is a topic of [broker], which writes it"),
        (broker(source), "\"mqtt-retained\" is a topic of [broker], which reads it"),
        (broker(source), "\"broker\" is a name of [broker]'s own"),
        (broker(rule), "goes past sinks"),
        (format!("{KAFKA}[broker]\nsessions_bytes_max = '16MiB'\n"), "broker.sessions_bytes_max"),
        (format!("{KAFKA}[broker]\nserver = 'a:1'\n"), "broker.server: has no effect without [broker.link]"),
        (instance("bind = '10.0.0.1:1885'\n").replace("name = 'a'", ""), "broker.name: is required with [broker.link]"),
        (instance("bind = '0.0.0.0:1885'\n"), "broker.link.address: is required"),
        (instance("bind = '0.0.0.0:1885'\naddress = 'a.example:1885'\n"), "broker.link.address: is no IP address"),
        (instance("bind = '10.0.0.1:1885'\nca_file = '/a'\n"), "has some of cert_file, key_file and ca_file"),
        (
            instance("bind = '10.0.0.1:1885'\n").replace("name = 'a'", "name = 'a'\nredirect = 'v5'"),
            "broker.redirect: is \"v5\", and there is no `server`",
        ),
    ] {
        let said = read(&text).expect_err(wanted).to_string();
        assert!(said.contains(wanted), "{wanted}\n{said}");
    }
}

/// One of several instances, with these keys of `[broker.link]`.
fn instance(link: &str) -> String {
    format!("{KAFKA}[broker]\nname = 'a'\n[broker.link]\n{link}")
}

#[test]
fn an_instance_has_a_link() {
    let of = |text: &str| good(text).broker.expect("a broker");
    let alone = of(&broker(""));
    assert_eq!((&alone.link, alone.redirects), (&None, false));
    let plain = of(&instance("bind = '10.0.0.1:1885'\n"));
    let link = plain.link.as_ref().expect("a link");
    assert_eq!((link.address(), &link.tls, plain.redirects), ("10.0.0.1:1885".to_owned(), &None, false));
    assert_eq!(plain.group_of_instances(), "forebay-mqtt-sessions");
    let tls = "cert_file = '/c'\nkey_file = '/k'\nca_file = '/a'\n";
    let text = instance(&format!("bind = '0.0.0.0:1885'\naddress = 'a.example:1885'\n{tls}"));
    let with = of(&text.replace("name = 'a'", "name = 'a'\nserver = 'a.example:1883'"));
    let link = with.link.as_ref().expect("a link");
    assert_eq!((link.address(), link.tls.is_some(), with.redirects), ("a.example:1885".to_owned(), true, true));
    // Names and addresses are each instance's own; routes are those of all.
    assert_eq!(plain.digest(), with.digest());
    let routed = instance("bind = '10.0.0.1:1885'\n[[broker.route]]\nfilters = 'a'\ntopic = 't'\n");
    assert_ne!(plain.digest(), of(&routed).digest());
}

/// The sinks and the source of `[broker]` are unchanged until the restart.
#[test]
fn a_change_waits_for_a_restart() {
    let running = good(&broker(""));
    for text in [
        KAFKA.to_owned() + "[[sink]]\nname = 's'\nfilters = '#'\ntopic = 't'\n",
        broker("[[broker.route]]\nfilters = 'c'\ntopic = 'three'\n"),
    ] {
        let change = Change::between(&running, &good(&text));
        assert_eq!(change.waiting, ["broker"], "{text}");
        assert_eq!((&change.config.broker, &change.config.sources), (&running.broker, &running.sources), "{text}");
        assert_eq!(change.config.sinks[..4], running.sinks, "{text}");
    }
    let change =
        Change::between(&good(&(KAFKA.to_owned() + "[[sink]]\nname = 's'\nfilters = '#'\ntopic = 't'\n")), &running);
    assert_eq!((change.waiting, change.config.sources.len()), (vec!["broker".to_owned()], 0));
}
