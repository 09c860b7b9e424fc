//! Tests of changes of the configuration that apply while the service runs.

use super::*;

fn config(text: &str) -> Config {
    parse(text, "test").unwrap_or_else(|problems| panic!("{problems}"))
}

fn sink(name: &str, more: &str) -> String {
    format!(
        "[[sink]]\nname='{name}'\nfilters='#'\ntopic='t'\nkafka='b'\nbuffer='memory'\nacknowledge='replicated'\n{more}\n"
    )
}

const B: &str = "[kafka.b]\nbootstrap='b:1'\n";

#[test]
fn the_same_configuration_is_no_change() {
    let one = config(&format!("{B}{}{}", sink("one", ""), sink("two", "")));
    let change = Change::between(&one, &one);
    assert!(change.is_empty(), "{change:?}");
    assert_eq!(change.config, one);
}

/// The change is the same in any order of the file.
#[test]
fn what_there_is_keeps_its_place() {
    let old = config(&format!("{B}{}{}", sink("one", ""), sink("two", "")));
    let a = "[kafka.a]\nbootstrap='a:1'\n";
    let new = config(&format!("{a}{B}{}{}", sink("three", ""), sink("two", "linger='9ms'\nkey='x'")));
    let change = Change::between(&old, &new);
    assert_eq!(
        change.applied,
        ["kafka a (added)", "sink one (removed)", "sink three (added)", "sink two (changed: key, linger)"]
    );
    assert!(change.waiting.is_empty(), "{:?}", change.waiting);
    let names: Vec<_> = change.config.sinks.iter().map(|sink| (sink.name.as_str(), sink.is_removed)).collect();
    assert_eq!(names, [("one", true), ("two", false), ("three", false)]);
    assert!(change.config.sinks[0].filters.is_empty());
    let clusters: Vec<_> = change.config.clusters.iter().map(|cluster| cluster.name.as_str()).collect();
    assert_eq!(clusters, ["b", "a"]);
    assert!(change.config.sinks.iter().all(|sink| sink.cluster == 0), "all of them use b");
    // The way back leads to the first configuration.
    let back = Change::between(&change.config, &old);
    assert_eq!(
        back.applied,
        ["kafka a (removed)", "sink three (removed)", "sink one (added)", "sink two (changed: key, linger)"]
    );
    assert!(back.waiting.is_empty(), "{:?}", back.waiting);
    assert_eq!(back.config.sinks[0], old.sinks[0]);
    assert!(back.config.clusters[1].is_removed);
    // The cluster returns as well, if it is the same.
    let again = Change::between(&back.config, &new);
    assert!(again.applied.contains(&"kafka a (added)".to_owned()), "{:?}", again.applied);
    assert!(!again.config.clusters[1].is_removed);
    let other = config(&format!("{}{B}{}", a.replace("a:1", "a:2"), sink("one", "")));
    let moved = Change::between(&back.config, &other);
    assert!(moved.waiting.is_empty(), "{:?}", moved.waiting);
    assert_eq!(moved.config.clusters[1].bootstrap, ["a:2"]);
}

#[test]
fn keys_of_a_cluster_change_while_it_runs() {
    let old = config(&format!("{B}{}", sink("one", "")));
    let keys = "description='d'\nmetadata_min_age='1s'\nhealth_check_interval='1s'\nsocket_send_buffer='8KiB'\n\
                socket_receive_buffer='8KiB'\ntcp_keepalive='none'\nother_properties={ 'client.id'='c' }\n";
    let new = config(&format!("{B}{keys}{}", sink("one", "description='s'\nretries=1\nheaders_from='${payload.h}'")));
    let change = Change::between(&old, &new);
    assert_eq!(
        change.applied,
        [
            "kafka b (changed: description, client_id, other_properties, metadata_min_age, health_check_interval, \
             socket_send_buffer, socket_receive_buffer, tcp_keepalive)",
            "sink one (changed: description, headers_from, retries)"
        ]
    );
    assert!(change.waiting.is_empty());
    assert_eq!((&change.config.clusters, &change.config.sinks), (&new.clusters, &new.sinks));
}

#[test]
fn what_subscribers_get_changes_while_it_runs() {
    let old = config(&format!("{B}{}[spool]\n", sink("one", "")));
    let new = config(&format!(
        "{B}{}[spool]\n[delivery]\nacknowledge='received'\nqueue_messages_max=7\nqueue_bytes_max='7KiB'\nwhen_full='drop-newest'\n\
         unread_bytes_max='77KiB'\nshare_strategy='hash-topic'\nshare_ack_timeout='7s'\n\
         [retained]\nmessages_max=7\nbytes_max='7MiB'\nexpire_after='7s'\n",
        sink("one", "")
    ));
    let change = Change::between(&old, &new);
    assert_eq!(
        change.applied,
        [
            "delivery.queue_messages_max",
            "delivery.queue_bytes_max",
            "delivery.when_full",
            "delivery.unread_bytes_max",
            "delivery.share_strategy",
            "delivery.share_ack_timeout",
            "retained.messages_max",
            "retained.bytes_max",
            "retained.expire_after"
        ]
    );
    assert_eq!(change.waiting, ["delivery.acknowledge"]);
    assert_eq!(change.config.retained, new.retained);
}

#[test]
fn the_spool_changes_but_for_its_sizes() {
    let old = config(&format!("{B}{}[spool]\n", sink("one", "")));
    let new = "[spool]\nsync_interval='7ms'\nwhen_full='refuse'\nspool_share=0.3\n";
    let change = Change::between(&old, &config(&format!("{B}{}{new}", sink("one", ""))));
    assert_eq!(change.applied, ["spool.spool_share", "spool.sync_interval", "spool.when_full"]);
    assert!(change.waiting.is_empty());
    let change = Change::between(&old, &config(&format!("{B}{}{new}bytes_max='1GiB'\n", sink("one", ""))));
    assert_eq!((change.applied.len(), &change.waiting[..]), (3, &["spool".to_owned()][..]));
    assert_eq!(change.config.spool.map(|spool| spool.bytes_max), old.spool.map(|spool| spool.bytes_max));
}

#[test]
fn what_held_rows_depend_on_waits_for_a_restart() {
    let old = config(&format!("[service]\nshards=1\npin=false\n{B}{}", sink("one", "")));
    let new = config(&format!(
        "[service]\nshards=2\npin=false\ndrain_grace='1s'\n[log]\nlevel='debug'\n[mqtt]\nreceive_maximum=7\n\
         {B}client_id='x'\nbuffer_bytes='64MiB'\n{}[spool]\n",
        sink("one", "partitioner='random'\nexpire_after='1h'").replace("replicated", "leader")
    ));
    let change = Change::between(&old, &new);
    assert_eq!(
        change.applied,
        [
            "service.drain_grace",
            "log.level",
            "mqtt.receive_maximum",
            "kafka b (changed: client_id)",
            "sink one (changed: expire_after)"
        ]
    );
    assert_eq!(
        change.waiting,
        [
            "service.shards",
            "spool",
            "kafka b (changed: buffer_bytes, which is lowered)",
            "sink one (changed: acknowledge, acks, partitioner)"
        ]
    );
    let (was, is) = (&old.sinks[0], &change.config.sinks[0]);
    assert_eq!((is.acknowledge, is.acks, is.partitioner), (was.acknowledge, was.acks, was.partitioner));
    assert_eq!(change.config.service.shards, 1);
    assert_eq!(change.config.clusters[0].buffer_bytes, old.clusters[0].buffer_bytes);
}

/// The handling of a message that a sink will never take follows from its dead letters, and these wait.
#[test]
fn what_follows_from_dead_letters_waits_with_them() {
    let of = |more: &str| config(&format!("{B}{}", sink("one", more)));
    let with = of("dead_letters_topic='dead'");
    let without = of("dead_letters_file='none'\non_refuse='drop'");
    for (old, new) in [(&with, &without), (&without, &with)] {
        let change = Change::between(old, new);
        assert_eq!(change.config.sinks[0].on_refuse, old.sinks[0].on_refuse);
        let [waiting] = &change.waiting[..] else { panic!("{:?}", change.waiting) };
        assert!(waiting.contains("on_refuse") && waiting.contains("dead_letters"), "{waiting}");
    }
    let change = Change::between(&with, &of("dead_letters_topic='dead'\non_refuse='reject'"));
    assert_eq!(change.applied, ["sink one (changed: on_refuse)"]);
    assert_eq!(change.config.sinks[0].on_refuse, OnRefuse::Reject);
}

#[test]
fn finding_f14_names_are_those_of_the_file() {
    let of = |number: u32, time: &str| {
        let text = format!(
            "[mqtt]\nreceive_maximum={number}\nqos2_inflight_3x={number}\ntopic_alias_maximum={number}\nconnect_timeout='{time}'\n\
             keep_alive_max='{time}'\nsession_expiry_max='{time}'\nsession_expiry_3x='{time}'\nunauthenticated_max={number}\n\
             takeovers_max={number}\nconnections_per_address={number}\nfailures_per_address={number}\nsessions_max={number}\n\
             evict_sessions={}\n",
            number == 20
        );
        config(&text)
    };
    let mut applied = Change::between(&of(20, "20s"), &of(30, "30s")).applied;
    applied.sort_unstable();
    let keys = keys::of(keys::Section::Mqtt).map(|key| key.name);
    let mut named: Vec<_> = keys.filter(|key| *key != "packet_bytes_max").map(|key| format!("mqtt.{key}")).collect();
    named.sort_unstable();
    assert_eq!(applied, named);
}

/// A disk sink's memory follows from the cluster's memory, if nothing else is configured.
#[test]
fn more_memory_for_a_cluster_is_more_for_its_sinks_at_once() {
    let text = |mib: u32| {
        let sink = "[[sink]]\nname='one'\nfilters='#'\ntopic='t'\nkafka='b'\n";
        config(&format!("[kafka.b]\nbootstrap='b:1'\nbuffer_bytes='{mib}MiB'\n{sink}[spool]\n"))
    };
    let (old, new) = (text(64), text(128));
    assert!(old.sinks[0].spill_after < new.sinks[0].spill_after);
    let change = Change::between(&old, &new);
    assert_eq!(change.applied, ["kafka b (changed: buffer_bytes)", "sink one (changed: spill_after)"]);
    assert!(change.waiting.is_empty(), "{:?}", change.waiting);
    assert_eq!(change.config.sinks, new.sinks);
}

#[test]
fn a_cluster_changes_in_place() {
    let old = config(&format!("{B}buffer_bytes='64MiB'\n{}", sink("one", "")));
    let keys = [
        "bootstrap='b:1,c:1'",
        "client_id='x'",
        "connect_timeout='9s'",
        "request_timeout='9s'",
        "metadata_max_age='9s'",
        "topics_max=99",
        "reconnect_backoff_min='99ms'",
        "reconnect_backoff_max='9s'",
        "buffer_bytes='65MiB'",
    ];
    for key in keys {
        let name = key.split('=').next().unwrap_or_default();
        let bootstrap = if name == "bootstrap" { "" } else { "bootstrap='b:1'\n" };
        let buffer = if name == "buffer_bytes" { "" } else { "buffer_bytes='64MiB'\n" };
        let new = config(&format!("[kafka.b]\n{bootstrap}{buffer}{key}\n{}", sink("one", "")));
        let change = Change::between(&old, &new);
        assert_eq!(change.applied, [format!("kafka b (changed: {name})")]);
        assert!(change.waiting.is_empty(), "{:?}", change.waiting);
        assert_eq!(change.config.clusters, new.clusters);
    }
}

#[test]
fn a_sink_for_a_spool_that_is_not_there_waits() {
    let old = config(&format!("{B}{}", sink("one", "")));
    let new = config(&format!("{B}{}{}[spool]\n", sink("one", ""), sink("two", "").replace("'memory'", "'disk'")));
    let change = Change::between(&old, &new);
    assert_eq!(change.waiting, ["spool", "sink two (added: spool)"]);
    assert_eq!(change.config.sinks.len(), 1);
}

#[test]
fn finding_u7_places_of_listeners_are_used_again_when_all_have_been_given() {
    let with = |port: usize| config(&format!("[[listener]]\nbind='127.0.0.1:{port}'\n{B}{}", sink("one", "")));
    let mut known = with(1);
    for port in 2..LISTENER_PLACES_MAX + 100 {
        let change = Change::between(&known, &with(port));
        assert!(change.waiting.is_empty(), "{port}: {:?}", change.waiting);
        known = change.config;
        let live: Vec<_> = known.listeners.iter().filter(|listener| !listener.is_removed).collect();
        assert!(live.len() <= 1 && known.listeners.len() <= LISTENER_PLACES_MAX);
    }
    let last = (LISTENER_PLACES_MAX + 99).to_string();
    assert!(known.listeners.iter().any(|of| !of.is_removed && of.bind.to_string().ends_with(&last)));
}

#[test]
fn listeners_are_named_by_their_address() {
    let listener = |port: u16, more: &str| format!("[[listener]]\nbind='127.0.0.1:{port}'\n{more}\n");
    let old = config(&format!("{}{}{B}{}", listener(1, ""), listener(2, ""), sink("one", "")));
    let new = config(&format!("{}{}{B}{}", listener(2, "receipts=true"), listener(3, ""), sink("one", "")));
    let change = Change::between(&old, &new);
    let expected =
        ["listener 127.0.0.1:1 (removed)", "listener 127.0.0.1:2 (changed: receipts)", "listener 127.0.0.1:3 (added)"];
    assert_eq!(change.applied, expected);
    let ports = |config: &Config| -> Vec<_> {
        config
            .listeners
            .iter()
            .map(|listener| (listener.bind.tcp().map_or(0, |addr| addr.port()), listener.is_removed))
            .collect()
    };
    assert_eq!(ports(&change.config), [(1, true), (2, false), (3, false)]);
    assert!(change.config.listeners[1].receipts);
    let back = Change::between(&change.config, &old);
    let expected =
        ["listener 127.0.0.1:1 (added)", "listener 127.0.0.1:2 (changed: receipts)", "listener 127.0.0.1:3 (removed)"];
    assert_eq!(back.applied, expected);
    assert_eq!(ports(&back.config), [(1, false), (2, false), (3, true)]);
    // Each port 0 is a different port.
    let old = config(&format!("{}{}{B}{}", listener(0, ""), listener(0, "receipts=true"), sink("one", "")));
    assert!(Change::between(&old, &old).is_empty());
    let new = config(&format!("{}{B}{}", listener(0, ""), sink("one", "")));
    assert_eq!(Change::between(&old, &new).applied, ["listener 127.0.0.1:0 (removed)"]);
}

/// A rule that has to wait for a restart is unchanged, and its sinks are kept: its outputs would be lost otherwise.
#[test]
fn a_rule_that_waits_keeps_its_sinks() {
    let rule = |sinks: &str| format!("[[rule]]\nname='r'\nsql='SELECT payload FROM t'\nsinks={sinks}\n");
    let fed = |name: &str, more: &str| format!("[[sink]]\nname='{name}'\ntopic='t'\nkafka='b'\n{more}\n");
    let old = config(&format!("{B}{}{}", rule("['a']"), fed("a", "")));
    // `b` needs a spool, which needs a restart.
    let new = config(&format!("{B}[spool]\n{}{}{}", rule("['b']"), fed("a", "filters='#'"), fed("b", "")));
    let change = Change::between(&old, &new);
    assert!(change.waiting.iter().any(|line| line == "rule r (changed: sinks)"), "{:?}", change.waiting);
    assert_eq!(change.config.sinks[0], old.sinks[0], "{:?} {:?}", change.applied, change.waiting);
    assert_eq!(change.config.rules, old.rules);
    let gone = config(&format!("{B}[spool]\n{}{}", rule("['b']"), fed("b", "")));
    let change = Change::between(&old, &gone);
    assert_eq!((&change.config.sinks[0], &change.config.rules), (&old.sinks[0], &old.rules), "{:?}", change.applied);
    assert!(!change.applied.iter().any(|line| line.contains("removed")), "{:?}", change.applied);
}

/// The default of `on_error` follows from dead letters, and changes no sooner than they do.
#[test]
fn on_error_changes_with_the_dead_letters_that_it_follows_from() {
    let text = |more: &str| {
        let rule = "[[rule]]\nname='r'\nsql='SELECT payload FROM t'\nsinks=['a']\n";
        config(&format!("{B}{rule}[[sink]]\nname='a'\ntopic='t'\nkafka='b'\n{more}\n"))
    };
    let (with, without) = (text(""), text("dead_letters_file='none'\non_refuse='drop'"));
    let on_error = |config: &Config| config.rules[0].on_error;
    assert_ne!(on_error(&with), on_error(&without));
    let mut shared = [with, without];
    shared.iter_mut().for_each(Config::share_dead_letters_file);
    for (old, new) in [(0, 1), (1, 0)] {
        let change = Change::between(&shared[old], &shared[new]);
        assert_eq!(on_error(&change.config), on_error(&shared[old]), "{:?}", change.applied);
        assert!(change.waiting.contains(&"rule r (changed: on_error)".to_owned()), "{:?}", change.waiting);
    }
}

#[test]
fn connections_that_a_change_closes_are_named() {
    let listener = |port: u16| format!("[[listener]]\nbind='127.0.0.1:{port}'\n");
    let bridge = |host: &str| format!("[bridge.x]\nurl='mqtt://{host}:1883'\n[[bridge.x.out]]\nfilters='a/#'\n");
    let sink = sink("one", "");
    let old = config(&format!("{}{}{B}{}{sink}", listener(1), listener(2), bridge("a")));
    let tls = format!("{B}tls={{}}\n");
    let new = config(&format!("{}{tls}{}{sink}", listener(1), bridge("b")));
    let closes = Change::between(&old, &new).closes;
    assert_eq!(
        closes,
        [
            "clients of listener 127.0.0.1:2",
            "kafka b to its brokers, within a minute",
            "bridge x to its remote, which it connects to anew"
        ]
    );
    assert!(Change::between(&old, &old).closes.is_empty());
    let without = config(&format!("{}{}{B}{sink}", listener(1), listener(2)));
    assert_eq!(Change::between(&old, &without).closes, ["bridge x to its remote"]);
    assert!(Change::between(&without, &old).closes.is_empty(), "a new one closes nothing");
}
