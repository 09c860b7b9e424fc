//! `[bridge.NAME]`: its meaning, its problems, and changes of it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use super::*;
use forebay_bridge::{Transport, Versions};
use forebay_guard::secure::{Authorities, OutgoingSettings, Secret};
use forebay_mqtt::packet::QoS;

const PASSWORD: &str = "s3cret-of-the-test";
const OUT: &str = "[[bridge.plant.out]]\nfilters='a'\n";

fn with(keys: &str) -> String {
    format!("[bridge.plant]\n{keys}\n{OUT}")
}

fn one(keys: &str) -> Bridge {
    let mut config = good(&with(keys));
    assert_eq!(config.bridges.len(), 1);
    config.bridges.remove(0)
}

/// The problems of a file, or its warnings.
fn said(text: &str) -> String {
    read(text).map_or_else(|problems| problems.to_string(), |config| config.warnings.to_string())
}

fn file(mode: u32) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(&file, format!("{PASSWORD}\n")).expect("written");
    fs::set_permissions(&file, Permissions::from_mode(mode)).expect("mode");
    file
}

fn from_env(text: &str, name: &str, value: &str) -> Result<Config, Problems> {
    parse_all(text, "forebay.toml", &[(name.to_owned(), Some(value.to_owned()))], None, &Overrides::default(), 2)
}

#[test]
fn the_defaults_of_a_bridge() {
    let text = "[bridge.plant]\nurl='mqtt://broker.example'\n[[bridge.plant.in]]\nfilters='plant/#'\n[[bridge.plant.out]]\nfilters=['alarm/#','x']";
    let config = good(text);
    assert_eq!(config.warnings, Problems::default());
    let bridge = &config.bridges[0];
    assert_eq!((bridge.name.as_str(), bridge.client_id.as_str()), ("plant", "forebay-plant-{instance}"));
    assert_eq!((bridge.url.endpoint().to_string().as_str(), bridge.url.path.as_str()), ("broker.example:1883", ""));
    assert_eq!((&bridge.username, &bridge.password, &bridge.password_file, &bridge.tls), (&None, &None, &None, &None));
    assert_eq!((bridge.version, bridge.clean_start, bridge.paused), (Versions::V5, false, false));
    let days = |days: u64| Duration::from_secs(days * 86_400);
    assert_eq!((bridge.session_expiry, bridge.keep_alive), (days(7), Duration::from_secs(60)));
    let seconds = [bridge.connect_timeout, bridge.reconnect_backoff, bridge.reconnect_backoff_max];
    assert_eq!(seconds.map(|time| time.as_secs()), [10, 1, 30]);
    assert_eq!((bridge.receive_maximum, bridge.inflight_max, bridge.try_private), (1_024, None, true));
    assert_eq!((bridge.queue_messages_max, bridge.queue_bytes_max, bridge.drops_newest), (10_000, 64 << 20, false));
    let one = &bridge.ins[0];
    assert_eq!((one.name.as_str(), one.qos, &one.share), ("0", QoS::AtLeastOnce, &None));
    assert_eq!((&*one.takes.filters, one.takes.topic.to_string()), (&["plant/#".into()][..], "${topic}".to_owned()));
    assert_eq!((one.retained(), one.takes.keeps_retain), ("new", false));
    assert_eq!(one.feeds, [Feed::Subscribers, Feed::Rules, Feed::Sinks]);
    let out = &bridge.outs[0];
    assert_eq!((out.name.as_str(), &*out.filters), ("0", &["alarm/#".to_owned(), "x".to_owned()][..]));
    let gives = [&out.gives.topic, &out.gives.qos, &out.gives.retain, &out.gives.payload].map(ToString::to_string);
    assert_eq!(gives, ["${topic}", "${qos}", "${retain}", "${payload}"]);
    assert_eq!(good("").bridges, []);
}

#[test]
fn values_of_keys() {
    let bridge = one(
        "url='WSS://edge@broker/a?token=s3cret'\nversion='auto'\nclean_start=true\nclient_id=''\nwhen_full='drop-newest'\ninflight_max=2",
    );
    assert_eq!(bridge.url.transport, Transport { is_tls: true, is_web_socket: true });
    assert_eq!((bridge.url.path.as_str(), bridge.username.as_deref()), ("/a?token=s3cret", Some("edge")));
    assert_eq!((bridge.url.username, bridge.url.password), (None, None), "they are keys of their own");
    assert_eq!((bridge.version, bridge.client_id.as_str()), (Versions::Any, ""));
    assert_eq!((bridge.drops_newest, bridge.inflight_max), (true, Some(2)));
    let text = "[bridge.plant]\nurl='mqtt://a'\n\
        [[bridge.plant.in]]\nname='x'\nfilters=['a','b/+']\nqos=2\nshare='g'\ntopic='r/${user_properties.unit}/${topic[1]}'\nretained='all'\n\
        keep_retain=true\nfeeds='sinks'\n\
        [[bridge.plant.out]]\nfilters='a'\nqos=0\nretain=false\ntopic='s/${payload.id}'\npayload='<${payload}>'\n[[bridge.plant.out]]\nfilters='#'\n\
        qos='${user_properties.qos}'\nretain='true'";
    let bridge = good(text).bridges.remove(0);
    let one = &bridge.ins[0];
    assert_eq!((one.name.as_str(), one.qos, one.retained()), ("x", QoS::ExactlyOnce, "all"));
    assert_eq!(one.asked().collect::<Vec<_>>(), ["$share/g/a", "$share/g/b/+"]);
    assert!(one.takes.keeps_retain && one.feeds(Feed::Sinks) && !one.feeds(Feed::Rules));
    let outs: Vec<_> = bridge
        .outs
        .iter()
        .map(|out| (out.name.as_str(), out.gives.qos.to_string(), out.gives.retain.to_string()))
        .collect();
    assert_eq!(
        outs,
        [("0", "0".to_owned(), "false".to_owned()), ("1", "${user_properties.qos}".to_owned(), "true".to_owned())]
    );
}

#[test]
fn tls_goes_with_the_url() {
    const SYSTEM: OutgoingSettings =
        OutgoingSettings { ca: Authorities::System, identity: None, server_name: None, is_name_checked: true };
    assert_eq!(one("url='mqtts://a'").tls, Some(SYSTEM));
    assert_eq!(
        one("url='wss://a'\ntls={ server_name='b' }").tls,
        Some(OutgoingSettings { server_name: Some("b".to_owned()), ..SYSTEM })
    );
    for (url, scheme) in [("mqtt://a", "mqtts://"), ("ws://a", "wss://")] {
        let said = said(&with(&format!("url='{url}'\ntls={{}}")));
        assert!(said.contains("bridge.plant.tls: does not go with `url`") && said.contains(scheme), "{said}");
    }
    let said = said(&with("url='mqtts://a'\ntls={ cert_file='c' }"));
    assert!(said.contains("bridge.plant.tls.cert_file: has no effect without key_file"), "{said}");
}

/// X69: the sources of secrets.
#[test]
fn a_password_comes_from_a_file_from_the_environment_or_from_the_url() {
    let file = file(0o600);
    let by_file = good(&with(&format!("url='mqtts://a'\nusername='edge'\npassword_file='{}'", file.path().display())));
    assert_eq!(by_file.warnings, Problems::default());
    let of = |config: &Config| (config.bridges[0].username.clone(), config.bridges[0].password.clone());
    let expected = (Some("edge".to_owned()), Some(Secret::new(PASSWORD.into())));
    assert_eq!(of(&by_file), expected);
    assert_eq!(by_file.bridges[0].password_file.as_deref(), Some(file.path()));
    let by_env = from_env(&with("url='mqtts://edge@a'"), "FOREBAY_BRIDGE_PLANT_PASSWORD", PASSWORD).expect("good");
    assert_eq!(of(&by_env), expected);
    let by_url = good(&with(&format!("url='mqtts://edge:{PASSWORD}@a'")));
    assert_eq!(of(&by_url), expected);
    let warned = by_url.warnings.to_string();
    assert!(warned.contains("bridge.plant.url: has a password, and this file is shown"), "{warned}");
    let url = format!("mqtts://edge:{PASSWORD}@a");
    let by_env_url = from_env(&with("url='mqtt://b'"), "FOREBAY_BRIDGE_PLANT_URL", &url).expect("good");
    assert_eq!((of(&by_env_url), &by_env_url.warnings), (expected, &Problems::default()));
    let shown = format!("{by_file:?} {by_env:?} {by_url:?} {warned} {:?}", by_url.bridges[0].shown());
    assert!(!shown.contains(PASSWORD), "{shown}");
}

#[test]
fn what_is_shown_has_no_secret() {
    let bridge = one(&format!("url='wss://edge:{PASSWORD}@a/b?token={PASSWORD}'"));
    let shown = bridge.shown();
    assert_eq!((&shown["url"], &shown["username"]), (&"wss://a:443/b?(redacted)".into(), &"edge".into()));
    assert_eq!(shown["password"], serde_json::Value::Null);
    assert_eq!((&shown["version"], &shown["when_full"]), (&"5.0".into(), &"drop-oldest".into()));
}

#[test]
fn what_is_wrong_with_a_login_is_said_and_no_password_with_it() {
    let (file, open) = (file(0o600), file(0o644));
    let of_file = format!("password_file='{}'", file.path().display());
    for (keys, want) in [
        (
            format!("url='mqtts://a'\nusername='e'\npassword='{PASSWORD}'"),
            "plant.password: a password does not belong in this file; write it",
        ),
        (format!("url='mqtts://a'\nusername='e'\npassword='{PASSWORD}'"), "FOREBAY_BRIDGE_PLANT_PASSWORD"),
        (format!("url='mqtts://e:{PASSWORD}@a'\n{of_file}"), "plant.password_file: is in the URL, too"),
        ("url='mqtts://e@a'\nusername='f'".to_owned(), "plant.username: is in the URL, too"),
        (format!("url='mqtts://a'\nversion='3.1.1'\n{of_file}"), "plant.username: is missing: before 5.0"),
        (format!("url='mqtts://a'\nversion='auto'\n{of_file}"), "plant.username: is missing: before 5.0"),
        ("url='mqtts://e@a'\npassword_file='/no/such/file'".to_owned(), "/no/such/file cannot be read"),
        (format!("url='mqtt://e:{PASSWORD}@a'"), "plant.url: the password goes to the remote as it is"),
        (format!("url='mqtt://e:{PASSWORD}%4@a'"), "plant.url: the user name and password in it need percent-encoding"),
        (format!("url='http://e:{PASSWORD}@a'"), "plant.url: must begin with one of mqtt, tcp,"),
        (
            format!("url='mqtts://e@a'\npassword_file='{}'", open.path().display()),
            "every user of this machine may read",
        ),
    ] {
        let said = said(&with(&keys));
        assert!(said.contains(want) && !said.contains(PASSWORD), "{keys}\n{said}");
    }
    for quiet in [
        format!("url='mqtts://a'\n{of_file}"),
        format!("url='mqtt://e@localhost'\n{of_file}"),
        format!("url='ws://e@[::1]'\n{of_file}"),
        "url='mqtt://e@a'".to_owned(),
    ] {
        assert_eq!(said(&with(&quiet)), "", "{quiet}");
    }
}

#[test]
fn what_cannot_work_is_said() {
    for (text, want) in [
        ("[bridge.plant]\n".to_owned(), "plant.url: is required; the remote broker"),
        ("[bridge]\nurl='mqtt://a'".to_owned(), "bridge.url: is outside of a [bridge.NAME]"),
        ("[bridge.'a b']\nurl='mqtt://a'".to_owned(), "\"a b\" is not a valid name"),
        (with("url='mqtt://a'\nhops=true"), "plant.hops: unknown key"),
        (
            with("url='mqtt://a'\nclient_id=''"),
            "plant.client_id: is empty: the remote could not know the session again",
        ),
        (
            with("url='mqtt://a'\nclient_id='x-{podName}'"),
            "client_id: `{podName}` is the environment variable POD_NAME",
        ),
        (with("url='mqtt://a'\nclient_id='x-{pod}'"), "client_id: `{pod}` stands for nothing"),
        (with("url='mqtt://a'\nkeep_alive='1500ms'"), "plant.keep_alive: must be in whole seconds"),
        (with("url='mqtt://a'\nsession_expiry='1500ms'"), "plant.session_expiry: must be in whole seconds"),
        (with("url='mqtt://a'\nkeep_alive='1d'"), "plant.keep_alive: \"1d\" is out of range"),
        (
            with("url='mqtt://a'\nreconnect_backoff='1m'"),
            "plant.reconnect_backoff: reconnect_backoff is longer than reconnect_backoff_max",
        ),
        (
            with("url='mqtt://a'\nreconnect_backoff_max='10ms'"),
            "plant.reconnect_backoff_max: reconnect_backoff is longer",
        ),
        (
            with("url='mqtt://a'\nclient_id='x'\n[bridge.other]\nurl='mqtt://a:1883'\nclient_id='x'")
                .replace("bridge.plant.out", "bridge.other.out"),
            "client_id: bridge \"plant\" has the same at the same remote",
        ),
        ("[bridge.plant]\nurl='mqtt://a'".to_owned(), "plant: has no effect: nothing goes in or out by it"),
    ] {
        let said = said(&text);
        assert!(said.contains(want) && !said.contains('\n'), "{text}\n{said}");
    }
    assert_eq!(said(&with("url='mqtt://a'\nclient_id='a-client-id-of-more-than-23-bytes'\nversion='3.1.1'")), "");
    assert_eq!(
        said(&with("url='mqtt://a'\n[bridge.other]\nurl='mqtt://a'\nout=[{ filters='a' }]")),
        "",
        "two sessions"
    );
    let many: String =
        (0..=BRIDGES_MAX).map(|n| format!("[bridge.b{n}]\nurl='mqtt://a'\nout=[{{ filters='a' }}]\n")).collect();
    assert!(said(&many).contains("at most 256 bridges"));
}

#[test]
fn what_cannot_go_in_or_out_is_said() {
    let part = |part: &str, keys: &str| format!("[bridge.plant]\nurl='mqtt://a'\n[[bridge.plant.{part}]]\n{keys}");
    for (of, keys, want) in [
        ("in", "qos=1", "in[0].filters: is required"),
        ("in", "filters=[]", "in[0].filters: is an empty list"),
        ("in", "filters='a/#/b'", "in[0].filters: \"a/#/b\" is not a valid topic filter"),
        (
            "in",
            "filters='$share/g/a'",
            "in[0].filters: \"$share/g/a\" is a shared subscription; leave out $share and the group, and set `share`",
        ),
        ("in", "filters=['a','a']", "in[0].filters[1]: \"a\" is a filter of this bridge already, on line 4"),
        ("in", "filters='a'\nqos=3", "in[0].qos: 3 is out of range"),
        ("in", "filters='a'\nshare='a/b'", "in[0].share: \"a/b\" is no name of a share"),
        ("in", "filters='a'\nshare=''", "in[0].share: must not be empty"),
        ("in", "filters='a'\ntopic='a/#'", "in[0].topic: \"a/#\" is not a valid MQTT topic"),
        ("in", "filters='a'\ntopic='$SYS/${topic}'", "in[0].topic: topics below `$SYS/`"),
        ("in", "filters='a'\ntopic='${topik}'", "in[0].topic: unknown variable `${topik}`"),
        ("in", "filters='$SYS/#'", "in[0].filters: all messages of \"$SYS/#\" are dropped"),
        ("in", "filters='a'\nretained='some'", "in[0].retained: \"some\" is not a valid value"),
        (
            "in",
            "filters='a'\nfeeds='subscriber'",
            "in[0].feeds: \"subscriber\" is not a valid value; did you mean \"subscribers\"?",
        ),
        (
            "in",
            "filters='a'\nname='1'\n[[bridge.plant.in]]\nfilters='b'",
            "in[1].name: \"1\" is already the name of another one, on line 5",
        ),
        ("in", "filters='a'\nsinks='s'", "in[0].sinks: unknown key"),
        ("out", "topic='a'", "out[0].filters: is required"),
        (
            "out",
            "filters='$share/g/a'",
            "out[0].filters: \"$share/g/a\" is a shared subscription; a bridge gets each message once",
        ),
        ("out", "filters='a'\nqos=3", "out[0].qos: \"3\" is not 0, 1, 2 or a template"),
        ("out", "filters='a'\nretain='yes'", "out[0].retain: \"yes\" is not true, false or a template"),
        ("out", "filters='a'\ntopic='+'", "out[0].topic: \"+\" is not a valid MQTT topic"),
        (
            "out",
            "filters='a'\ntopic='x/${clientid}'",
            "out[0].topic: `${clientid}` is not known of a message that has waited",
        ),
        ("out", "filters='a'\npayload='${username}'", "out[0].payload: `${username}` is not known"),
        ("out", "filters='a'\npayload='${dup}'", "out[0].payload: `${dup}` is not known"),
        ("out", "filters='a'\nqos='${packet_id}'", "out[0].qos: `${packet_id}` is not known"),
        ("out", "filters='a'\nretain='${timestamp}'", "out[0].retain: `${timestamp}` is not known"),
    ] {
        let said = said(&part(of, keys));
        assert!(said.contains(want) && !said.contains('\n'), "{keys}\n{said}");
    }
    for quiet in [
        part("in", "filters='a'\ntopic='${clientid}/${username}/${packet_id}'"),
        part("in", "filters='$SYS/#'\ntopic='remote/${topic}'"),
        part("in", "filters='a'\n[[bridge.plant.in]]\nfilters='a'\nshare='g'"),
        part("in", "filters='a/#'\n[[bridge.plant.out]]\nfilters='a/#'"),
    ] {
        assert_eq!(said(&quiet), "", "{quiet}");
    }
    let filters = |n: usize| format!("filters=[{}]", (0..n).map(|n| format!("'{n}'")).collect::<Vec<_>>().join(","));
    for of in ["in", "out"] {
        assert_eq!(said(&part(of, &filters(512))), "");
        let one_more =
            format!("{}\n[[bridge.plant.{of}]]\nfilters='x'\n[[bridge.plant.{of}]]\nfilters='y'", filters(512));
        let said = said(&part(of, &one_more));
        assert!(said.contains(&format!("{of}[1].filters: at most 512 filters")) && !said.contains('\n'), "{said}");
    }
}

#[test]
fn keys_come_from_the_environment() {
    let text = with("url='mqtt://a'").replace("plant", "eu-west");
    let bridge = |name: &str, value: &str| from_env(&text, name, value).expect(name).bridges.remove(0);
    assert_eq!(bridge("FOREBAY_BRIDGE_EU_WEST_KEEP_ALIVE", "5s").keep_alive, Duration::from_secs(5));
    assert!(bridge("FOREBAY_BRIDGE_EU_WEST_PAUSED", "true").paused);
    let tls = from_env(&text.replace("mqtt:", "mqtts:"), "FOREBAY_BRIDGE_EU_WEST_TLS_CA_FILE", "/ca").expect("good");
    assert_eq!(tls.bridges[0].tls.as_ref().map(|tls| &tls.ca), Some(&Authorities::File("/ca".into())));
    for (name, want) in [
        ("FOREBAY_BRIDGE_EU_WEST_KEEP_ALIV", "did you mean FOREBAY_BRIDGE_EU_WEST_KEEP_ALIVE?"),
        ("FOREBAY_BRIDGE_NAME_URL", "write FOREBAY_BRIDGE_PLANT_URL"),
    ] {
        let said = from_env(&text, name, "x").expect_err(name).to_string();
        assert!(said.contains(want), "{said}");
    }
    let overrides = |pod: &str| {
        let identity = Identity { seed: 1, variables: [Some(pod.to_owned()), None, None] };
        let overrides = Overrides { identity, ..Overrides::default() };
        parse_with(&with("url='mqtt://a'\nclient_id='f-{podName}'"), "t", &overrides, 2)
            .expect("good")
            .bridges
            .remove(0)
    };
    assert_eq!(overrides("pod-7").client_id, "f-pod-7");
}

#[test]
fn a_change_of_a_bridge_holds_at_once() {
    let bridge = |name: &str, keys: &str| format!("[bridge.{name}]\nurl='mqtt://a'\n{keys}\nout=[{{ filters='a' }}]\n");
    let (a, b, c) = (bridge("a", ""), bridge("b", ""), bridge("c", ""));
    let old = good(&format!("{a}{b}"));
    let changed = bridge("b", "keep_alive='5s'\nin=[{ filters='x' }]");
    let new = good(&format!("{c}{changed}"));
    let change = Change::between(&old, &new);
    assert_eq!(change.applied, ["bridge a (removed)", "bridge c (added)", "bridge b (changed: keep_alive, in)"]);
    assert_eq!(change.waiting, Vec::<String>::new());
    let places = |config: &Config| -> Vec<(String, bool)> {
        config.bridges.iter().map(|bridge| (bridge.name.clone(), bridge.is_removed)).collect()
    };
    let expected = [("a".to_owned(), true), ("b".to_owned(), false), ("c".to_owned(), false)];
    assert_eq!(places(&change.config), expected);
    let running = change.in_process(&old);
    assert_eq!(places(&running), expected);
    assert!(
        running.bridges.iter().all(|bridge| !bridge.client_id.contains("instance")),
        "the process's own has its number"
    );
    // The bridge returns to its index.
    let back = Change::between(&change.config, &good(&format!("{a}{b}")));
    assert_eq!(back.applied, ["bridge c (removed)", "bridge a (added)", "bridge b (changed: keep_alive, in)"]);
    assert_eq!(back.config.bridges[..2], old.bridges[..]);
    assert!(Change::between(&old, &good(&format!("{b}{a}"))).is_empty(), "their order means nothing");
}

#[test]
fn another_password_in_the_same_file_is_a_change() {
    let file = file(0o600);
    let config = || good(&with(&format!("url='mqtts://e@a'\npassword_file='{}'", file.path().display())));
    let old = config();
    assert!(Change::between(&old, &config()).is_empty());
    fs::write(&file, "another").expect("written");
    assert_eq!(Change::between(&old, &config()).applied, ["bridge plant (changed: password)"]);
}

/// G8.
#[test]
fn an_in_that_nothing_can_get_is_warned_of() {
    let sink = |filter: &str| format!("[[sink]]\nname='s'\nfilters='{filter}'\ntopic='t'\n");
    let of = |keys: &str, filter: &str| {
        said(&format!("[bridge.b]\nurl='mqtt://a'\n[[bridge.b.in]]\nfilters='plant/+/temp'\n{keys}\n{}", sink(filter)))
    };
    let is_warned = |keys: &str, filter: &str| of(keys, filter).contains("no sink or rule can get a message");
    for (keys, filter) in [
        ("feeds='sinks'", "alarm/#"),
        ("feeds=['sinks','rules']\ntopic='in/${topic}'", "plant/#"),
        ("feeds='rules'", "plant/#"),
        ("feeds='sinks'\ntopic='x/${topic[1]}'", "x/y/z"),
    ] {
        assert!(is_warned(keys, filter), "{keys} {filter}: {}", of(keys, filter));
    }
    for (keys, filter) in [
        ("", "alarm/#"),
        ("feeds='sinks'", "plant/7/#"),
        ("feeds='sinks'\ntopic='in/${topic}'", "in/plant/+/temp"),
        ("feeds='sinks'\ntopic='x/${topic[1]}'", "x/y"),
        ("feeds='sinks'\ntopic='${user_properties.to}'", "alarm/#"),
    ] {
        assert!(!is_warned(keys, filter), "{keys} {filter}: {}", of(keys, filter));
    }
}

#[test]
fn dead_letters_of_a_bridge() {
    let of = |keys: &str| {
        format!(
            "[kafka.k]\nbootstrap='k:1'\n[kafka.l]\nbootstrap='l:1'\n[[sink]]\nname='s'\nkafka='k'\nfilters='s'\ntopic='t'\n[bridge.b]\nurl='mqtt://a'\n{keys}[[bridge.b.out]]\nfilters='a'\n"
        )
    };
    let config = good(&of("kafka='l'\ndead_letters_topic='dead'\n"));
    let dead = config.bridges[0].dead_letters.as_ref().expect("dead letters");
    assert_eq!((config.bridges[0].cluster, dead.topic.as_deref(), &dead.file), (1, Some("dead"), &None));
    assert_eq!(good(&of("")).bridges[0].dead_letters, None, "there is no file that bridges share");
    assert!(said(&of("dead_letters_topic='dead'\n")).contains("is required because there are several clusters"));
    assert!(said(&of("kafka='k'\n")).contains("has no effect without dead_letters_topic"));
    let two =
        format!("{}[bridge.c]\nurl='mqtt://a'\nclient_id='c'\ndead_letters_file='f'\n", of("dead_letters_file='f'\n"));
    assert!(said(&two).contains("is already the file of a sink or of another bridge"), "{}", said(&two));
}
