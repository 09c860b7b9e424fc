//! SIGHUP: sinks come, change and go while devices stay connected, and nothing that was taken is lost.

use std::fs;

use forebay::mqtt::packet::{Packet, Publish, QoS, Version};

use crate::device::{Device, puback, publish};
use crate::process::{metric, until, until_metric};
use crate::records::{read_when, texts};
use crate::support::service::{Service, config, config_with, program};
use crate::support::temp_dir;

/// Reloads with this configuration and waits until the log says so.
fn reload(service: &Service, config: &str, says: &str) {
    let text = config.replace("$DIR", &service.dir().display().to_string());
    let lines = |log: &str| log.lines().filter(|line| line.contains(says)).count();
    let before = lines(&service.log());
    fs::write(service.dir().join("forebay.toml"), text).expect("the configuration can be written");
    service.signal("HUP");
    until(says, || lines(&service.log()) > before);
}

fn sink(name: &str, filter: &str, more: &str) -> String {
    format!("[[sink]]\nname = \"{name}\"\nfilters = [\"{filter}\"]\ntopic = \"{name}\"\n{more}\n")
}

#[test]
fn sinks_come_change_and_go_under_open_connections() {
    let one = sink("one", "1/#", "");
    let with = |sinks: &[&str]| {
        config_with(
            "shards = 2",
            &format!("{}[spool]\nbytes_max = \"512MiB\"\nsegment_bytes = \"16MiB\"\n", sinks.concat()),
        )
    };
    let mut service = Service::start(&with(&[&one]));
    // On both shards.
    let mut devices: Vec<_> =
        (0..6).map(|n| Device::connect(service.mqtt(), Version::V311, &format!("device-{n}"))).collect();
    let mut id = 0;
    let mut all_deliver = |topic: &str, payload: &str| {
        id += 1;
        devices.iter_mut().for_each(|device| device.deliver(id, topic, payload.as_bytes()));
    };
    let routed = |result: &str| metric(&service, &format!("publishes_routed_total{{result=\"{result}\"}}"));
    all_deliver("1/x", "first");

    // One more, in front of the first.
    let two = sink("two", "2/#", "headers = { site = \"berlin\" }\nlinger = \"0ms\"\nacknowledge = \"stored\"");
    reload(&service, &with(&[&two, &one]), "applied=\"spool.spool_share, sink two (added)");
    all_deliver("2/x", "second");
    all_deliver("1/x", "third");
    assert_eq!(routed("unmatched"), 0);
    let records = read_when(service.embedded(), "two", 6);
    assert!(records.iter().all(|record| record.headers == [("site".to_owned(), "berlin".to_owned())]), "{records:?}");
    assert_eq!(metric(&service, "sink_records_in_total{sink=\"two\"}"), 6);
    assert_eq!(metric(&service, "sink_records_in_total{sink=\"one\"}"), 12, "what was counted before still counts");

    // Another filter, topic and linger for the second.
    let two = sink("two", "two/#", "linger = \"1ms\"\nacknowledge = \"stored\"")
        .replace("topic = \"two\"", "topic = \"more\"");
    let changed = "applied=\"sink two (changed: filters, topic, headers, linger)";
    reload(&service, &with(&[&one, &two]), changed);
    all_deliver("two/x", "fourth");
    let records = read_when(service.embedded(), "more", 6);
    assert!(records.iter().all(|record| record.headers.is_empty()), "{records:?}");
    assert_eq!(routed("unmatched"), 0);
    all_deliver("2/x", "nowhere");
    assert_eq!(routed("unmatched"), 6);

    // The first goes.
    reload(&service, &with(&[&two]), "sink one (removed)");
    all_deliver("1/x", "nowhere");
    assert_eq!(routed("unmatched"), 12);

    // What is not a configuration changes nothing, nor does the same once more.
    reload(&service, &with(&["[[sink]]\nname = 7\n"]), "reload failed");
    reload(&service, &with(&[&two]), "applied=\"none\"");
    all_deliver("two/x", "fifth");
    read_when(service.embedded(), "more", 12);

    // It comes back as what it was, and the next start has both.
    reload(&service, &with(&[&two, &one]), "sink one (added)");
    all_deliver("1/x", "sixth");
    read_when(service.embedded(), "one", 18);
    assert!(service.terminate().success(), "{}", service.log());
    service.start_again();
    let mut device = Device::connect(service.mqtt(), Version::V311, "after");
    device.deliver(1, "two/x", b"seventh");
    read_when(service.embedded(), "more", 13);
}

/// A sink whose cluster is away holds rows. It is removed, comes back, and its rows are still there.
#[test]
fn a_removed_sink_still_delivers_what_it_holds() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let away = nobody.local_addr().expect("its address");
    drop(nobody);
    let cluster = format!("[kafka.away]\nbootstrap = \"{away}\"\nreconnect_backoff_max = \"100ms\"\n");
    let held = sink("held", "held/#", "kafka = \"away\"\nacknowledge = \"received\"\nbuffer = \"memory\"");
    let other = sink("other", "#", "kafka = \"away\"\nacknowledge = \"received\"\nbuffer = \"memory\"");
    let service = Service::start(&config(&format!("{cluster}{held}")));
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    (1..=10).for_each(|n| device.deliver(n, "held/x", n.to_string().as_bytes()));
    reload(&service, &config(&format!("{cluster}{other}")), "applied=\"sink held (removed), sink other (added)");
    device.deliver(11, "held/x", b"11");
    let series = |sink: &str| service.metric(&format!("forebay_sink_buffered_records{{sink=\"{sink}\"}}"));
    // What was removed has series while it holds something (finding U1).
    let buffered = |sink: &str| series(sink).unwrap_or_default() as u64;
    assert_eq!((buffered("held"), buffered("other")), (10, 1));
    // Kafka comes: all of it goes out.
    let log = Service::start(
        &config("").replace("[embedded]\nbind = \"127.0.0.1:0\"", &format!("[embedded]\nbind = \"{away}\"")),
    );
    until("the rows of both to be delivered", || buffered("held") + buffered("other") == 0);
    assert_eq!((series("held"), series("other")), (None, Some(0.0)));
    let numbers: Vec<String> = (1..=10).map(|n: u32| n.to_string()).collect();
    let mut found = texts(log.embedded(), "held");
    found.sort_by_key(|text| text.parse::<u32>().expect("a number"));
    assert_eq!(found, numbers);
    assert_eq!(texts(log.embedded(), "other"), ["11"]);
}

/// A wrong address is corrected while the service runs: what was held for it goes to Kafka, and nothing else is disturbed.
#[test]
fn a_cluster_changes_while_records_wait_for_it() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let away = nobody.local_addr().expect("its address");
    drop(nobody);
    let log = Service::start(&config(&sink("own", "own/#", "")));
    let all = sink("all", "#", "kafka = \"main\"\nacknowledge = \"received\"\nbuffer = \"memory\"");
    let with = |cluster: &str| {
        // A minute between attempts: the change itself must lead to the next one.
        let patient = "reconnect_backoff_min = \"1m\"\nreconnect_backoff_max = \"10m\"";
        config(&format!("[kafka.main]\n{cluster}\n{patient}\n{all}"))
    };
    let service = Service::start(&with(&format!("bootstrap = \"{away}\"\nbuffer_bytes = \"64MiB\"")));
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    (1..=10).for_each(|n| device.deliver(n, "x", n.to_string().as_bytes()));
    let buffered = || metric(&service, "sink_buffered_records{sink=\"all\"}");
    assert_eq!(buffered(), 10);

    let right = format!("bootstrap = \"{}\"\nclient_id = \"edge\"\nbuffer_bytes = \"65MiB\"", log.embedded());
    reload(&service, &with(&right), "applied=\"kafka main (changed: bootstrap, client_id, buffer_bytes)");
    until("what was held to be delivered", || buffered() == 0);
    assert_eq!(metric(&service, "kafka_buffer_bytes_max{kafka=\"main\"}"), 65 << 20);
    device.deliver(11, "x", b"11");
    until("the last one", || buffered() == 0);
    let mut found = texts(log.embedded(), "all");
    found.sort_by_key(|text| text.parse::<u32>().expect("a number"));
    assert_eq!(found, (1..=11).map(|n: u32| n.to_string()).collect::<Vec<_>>());

    // Less memory needs a restart, and is said so.
    let less = right.replace("65MiB", "64MiB");
    reload(&service, &with(&less), "waiting=\"kafka main (changed: buffer_bytes, which is lowered)");
}

/// A device that waits for room in a sink goes on when that sink is gone.
#[test]
fn who_waits_for_a_removed_sink_goes_on() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let away = nobody.local_addr().expect("its address");
    drop(nobody);
    let cluster = format!("[kafka.away]\nbootstrap = \"{away}\"\nbuffer_bytes = \"4MiB\"\n");
    let memory = "kafka = \"away\"\nbuffer = \"memory\"\nacknowledge = \"received\"\nbatch_bytes = \"64KiB\"\nrecord_bytes_max = \"64KiB\"";
    let (full, spare) = (sink("full", "#", memory), sink("spare", "spare/#", memory));
    let service = Service::start(&config(&format!("{cluster}{full}{spare}")));
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    let payload = vec![b'x'; 32 << 10];
    let mut sent = 0;
    while metric(&service, "connections_paused") == 0 {
        sent += 1;
        device.publish(QoS::AtLeastOnce, sent, "x", &payload);
        assert!(sent < 1_000, "nothing is ever full");
    }
    reload(&service, &config(&format!("{cluster}{spare}")), "applied=\"sink full (removed)");
    (1..=sent).for_each(|id| match device.hear() {
        answer if answer == puback(id) => {}
        // 0x10: no matching subscribers, of those that came after the sink had gone.
        crate::device::Heard::Answer(_, of, 0x10) if of == id => {}
        other => panic!("{other:?} for {id}"),
    });
    assert_eq!(metric(&service, "connections_paused"), 0);
}

/// By the API and on the command line: the difference is shown first, a faulty file changes nothing, and tokens are read again.
/// What is said to be applied holds for messages that come after it.
#[test]
fn a_reload_changes_what_is_retained() {
    let with = |most: u32| {
        config_with("shards = 1", &format!("{}[retained]\nmessages_max = {most}\n", sink("one", "one/#", "")))
    };
    let service = Service::start(&with(1));
    let mut device = Device::connect(service.mqtt(), Version::V311, "device");
    let mut retain = |id: u16, topic: &str| {
        let publish = Publish { retain: true, ..publish(QoS::AtLeastOnce, id, topic, b"x") };
        device.say(&Packet::Publish(publish));
        assert_eq!(device.hear(), puback(id));
    };
    retain(1, "one/a");
    retain(2, "one/b");
    assert_eq!(metric(&service, "retained_messages"), 1);
    reload(&service, &with(2), "applied=\"retained.messages_max");
    retain(3, "one/b");
    until_metric(&service, "retained_messages", 2);
}

#[test]
fn a_reload_by_the_api_says_what_it_changes() {
    let dir = temp_dir();
    let tokens = dir.path().join("tokens");
    let made = |name: &str| {
        let output = program().args(["token", name]).output().expect("it runs");
        let text = String::from_utf8(output.stdout).expect("text");
        let token = text.lines().next().and_then(|line| line.strip_prefix("token: ")).expect("a token").to_owned();
        (token, text.lines().last().expect("a line").to_owned())
    };
    let ((first, first_line), (second, second_line)) = (made("first"), made("second"));
    fs::write(&tokens, format!("{first_line}\n")).expect("written");
    let with = |rest: &str| {
        let text = config_with("shards = 2", rest);
        text.replace("[control]\n", &format!("[control]\ntokens_file = \"{}\"\n", tokens.display()))
    };
    let one = sink("one", "1/#", "");
    let service = Service::start(&with(&one));
    let address = service.control().to_string();
    let run = |arguments: &[&str], token: &str| {
        let mut command = program();
        let output = command.arg("reload").args(arguments).args(["--control", &address]).env("FOREBAY_TOKEN", token);
        let output = output.output().expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    let write = |text: &str| {
        let text = text.replace("$DIR", &service.dir().display().to_string());
        fs::write(service.dir().join("forebay.toml"), text).expect("written");
    };
    let unchanged = (Some(0), "the configuration has not changed\n".to_owned());
    assert_eq!(run(&[], &first), unchanged);
    assert_eq!(run(&[], "guess").0, Some(1));

    // Shown, then done.
    let two = format!("{one}{}[mqtt]\npacket_bytes_max = \"2MiB\"\n", sink("two", "2/#", ""));
    write(&with(&two));
    let shown = (Some(0), "would be applied: sink two (added)\nneeds a restart: mqtt.packet_bytes_max\n".to_owned());
    assert_eq!(run(&["--dry-run"], &first), shown);
    assert_eq!(run(&["--dry-run"], &first), shown, "nothing was changed by that");
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    let said = run(&[], &first);
    assert_eq!(said, (Some(0), "applied: sink two (added)\nneeds a restart: mqtt.packet_bytes_max\n".to_owned()));
    // It is in force when the answer comes.
    device.deliver(1, "2/x", b"x");
    assert_eq!(metric(&service, "sink_records_in_total{sink=\"two\"}"), 1);

    // All mistakes are named, and nothing is changed.
    write(&with(&two).replace("filters = [\"2/#\"]", "filters = [\"2/#/x\"]\nlinger = 3"));
    let (code, said) = run(&[], &first);
    assert!(code == Some(1) && said.contains("sink[1].filters[0]") && said.contains("sink[1].linger"), "{said}");
    device.deliver(2, "2/x", b"x");

    // Another token in the file, no change in the configuration.
    write(&with(&two));
    fs::write(&tokens, format!("{second_line}\n")).expect("written");
    let left = (Some(0), "needs a restart: mqtt.packet_bytes_max\n".to_owned());
    assert_eq!(run(&[], &first), left);
    assert_eq!(run(&[], &first).0, Some(1), "the old token is no longer taken");
    assert_eq!(run(&["--dry-run"], &second), left);
    fs::write(&tokens, "no line of a token\n").expect("written");
    let (code, said) = run(&[], &second);
    assert!(code == Some(1) && said.contains("control.tokens_file") && said.contains("line 1"), "{said}");
    assert_eq!(run(&["--dry-run"], &second).0, Some(1), "shown as well");
}
