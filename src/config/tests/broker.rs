//! `[broker]`: what it is made of, and which configurations it refuses.

use super::*;

const KAFKA: &str = "[kafka.main]\nbootstrap = 'k:1'\n";

fn broker(more: &str) -> String {
    format!(
        "{KAFKA}[broker]\n[[broker.route]]\nfilters = ['a/+', 'b']\ntopic = 'one'\n[[broker.route]]\nfilters = 'a/#'\ntopic = 'two'\npartition_by = 'client'\n\
         mqtt_topic = 'from/${{key}}'\n{more}"
    )
}

/// Z7 to Z10, Z28, Z30, Z32: a sink for each topic, of which each takes what those before it do not, one for retained messages, and a source of all.
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
    assert_eq!((log.bytes_max, log.segments_max * log.segment_bytes <= 256 << 20), (256 << 20, true));
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
        (
            format!("[service]\nshards = 8\n{KAFKA}[broker]\nsessions_bytes_max = '16MiB'\n"),
            "broker.sessions_bytes_max: is too little for 8 shards",
        ),
        (format!("{KAFKA}[broker]\nserver = 'a:1'\n"), "is not supported yet"),
    ] {
        let said = read(&text).expect_err(wanted).to_string();
        assert!(said.contains(wanted), "{wanted}\n{said}");
    }
}

/// Its sinks and its source stay as they are until the restart.
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
