//! The bridges, each with its entries for incoming and outgoing messages.

use std::collections::{BTreeMap, HashMap};

use toml::de::DeValue;

use super::circles::{self, Destinations};
use super::clusters::Target;
use super::identity::INSTANCE;
use super::keys::{Key, Section};
use super::password;
use super::problem::Fault;
use super::reader::{Spot, Table};
use super::resolve::Document;
use super::resolved::{Bridge, BridgeIn, BridgeOut, Feed};
use super::setting::{Setting as _, Settings as _};
use super::sources::{check_mqtt_topic, feeds};
use super::{BRIDGES_MAX, Overrides, dead_letters, outgoing_tls, sinks, values};
use forebay_bridge::{In, Out, Retained, Url, Versions};
use forebay_mqtt::STRING_MAX;
use forebay_mqtt::packet::QoS;
use forebay_rule::template::{Fixed, Template, Variable};

/// The most filters of all `in` of a bridge, and of all `out`.
const FILTERS_MAX: usize = 512;

/// Reads the bridges.
pub(super) fn resolve(
    document: &Document<'_>,
    overrides: &Overrides,
    targets: &[Target],
    to: Destinations<'_>,
) -> Vec<Bridge> {
    let tables = document.named_tables(Section::Bridge, values::check_name);
    document.bound(Section::Bridge, &tables);
    let mut sessions = HashMap::new();
    let mut read = |table: &Table<'_>| {
        let bridge = bridge(table, overrides, (targets, to));
        let is_known = !bridge.url.host.is_empty() && !bridge.client_id.is_empty();
        let session = (bridge.url.host.clone(), bridge.url.port, bridge.client_id.clone());
        if let Some(other) = sessions.insert(session, bridge.name.clone()).filter(|_| is_known) {
            let what = format!(
                "bridge \"{other}\" has the same at the same remote, where one would end the other's connection"
            );
            report(table, "client_id", Fault::new(what).hint("give each bridge a client ID of its own"));
        }
        bridge
    };
    let bridges: Vec<Bridge> = tables.iter().take(BRIDGES_MAX).map(&mut read).collect();
    dead_letters::check_files_of_bridges(&tables, to.sinks);
    bridges
}

/// Warns of an `in` with messages that nothing can get.
fn check_taken(part: &Table<'_>, of: &BridgeIn, to: Destinations<'_>) {
    // Anybody may subscribe.
    if !of.feeds(Feed::Subscribers) && !of.takes.filters.is_empty() && !circles::is_taken(of, to) {
        let fault = Fault::new("no sink or rule can get a message of these: each is acknowledged and dropped");
        let hint = "add a [[sink]] or [[rule]] with a filter that matches `topic`, or feed subscribers, too";
        part.source.warn(&part.spot("filters"), fault.hint(hint));
    }
}

fn report(table: &Table<'_>, key: &str, fault: Fault) {
    table.source.report(&table.spot(key), fault);
}

fn bridge(table: &Table<'_>, overrides: &Overrides, (targets, to): (&[Target], Destinations<'_>)) -> Bridge {
    let mut bridge = Bridge::read(table);
    bridge.name = table.spot.path.strip_prefix("bridge.").unwrap_or_default().to_owned();
    bridge.description = table.find("description", values::text);
    let url = table.find("url", |key, value| Url::parse(&values::text(key, value)?).map_err(Fault::new));
    bridge.url = url.clone().unwrap_or_default();
    bridge.client_id = client_id(table, &bridge, overrides);
    login(table, &mut bridge);
    times(table, &bridge);
    bridge.dead_letters = dead_letters::read(table, None);
    bridge.cluster = cluster(table, &bridge, targets);
    bridge.tls = url.and_then(|url| tls(table, &url));
    let environment = &overrides.environment;
    (bridge.ins, bridge.outs) = (ins(table, environment, to), outs(table, environment));
    if bridge.ins.is_empty() && bridge.outs.is_empty() && !table.has("in") && !table.has("out") {
        let fault = Fault::new("has no effect: nothing goes in or out by it");
        table.source.warn(&table.spot, fault.hint("add a [[bridge.NAME.in]] or a [[bridge.NAME.out]]"));
    }
    bridge
}

/// The cluster of the dead-letter topic, if there is one.
fn cluster(table: &Table<'_>, bridge: &Bridge, targets: &[Target]) -> usize {
    if bridge.dead_letters.as_ref().is_some_and(|dead| dead.topic.is_some()) {
        return sinks::target(table, targets).unwrap_or_default();
    }
    if table.has("kafka") {
        let fault = Fault::new("has no effect without dead_letters_topic").hint("remove it");
        table.source.warn(&table.spot("kafka"), fault);
    }
    0
}

fn client_id(table: &Table<'_>, bridge: &Bridge, overrides: &Overrides) -> String {
    const KEY: &str = "client_id";
    let given = table.find(KEY, |key, value| {
        let text = values::text(key, value)?;
        let filled = overrides.identity.fill(&text, &bridge.name)?;
        if filled.len() > STRING_MAX || filled.contains('\0') {
            return Err(Fault::new("is no client ID: at most 65535 bytes, without NUL"));
        }
        Ok(filled)
    });
    if given.as_deref() == Some("") && !bridge.clean_start {
        let fault = Fault::new("is empty: the remote could not know the session again");
        report(table, KEY, fault.hint("name one, or set clean_start = true"));
    }
    let default = || format!("forebay-{}-{INSTANCE}", bridge.name);
    given.unwrap_or_else(default)
}

/// Puts together the login of the URL and the keys.
fn login(table: &Table<'_>, bridge: &mut Bridge) {
    let of_url = (bridge.url.username.take(), bridge.url.password.take());
    let username = table.find("username", values::text);
    let given = password::read(table);
    let twice = |key: &str| report(table, key, Fault::new("is in the URL, too").hint("leave one out"));
    if of_url.0.is_some() && table.has("username") {
        twice("username");
    }
    if of_url.1.is_some() {
        ["password", "password_file"].into_iter().filter(|key| table.has(key)).for_each(twice);
        bridge.is_password_written = !table.source.is_of_environment(&table.spot("url"));
        if bridge.is_password_written {
            let fault = Fault::new("has a password, and this file is shown, copied and kept in repositories");
            let hint = password::elsewhere(table);
            table.source.warn(&table.spot("url"), fault.hint(hint));
        }
    }
    bridge.username = of_url.0.or(username);
    if bridge.username.as_ref().is_some_and(|name| name.len() > STRING_MAX || name.contains('\0')) {
        report(table, "username", Fault::new("is no user name: at most 65535 bytes, without NUL"));
    }
    let (password, file) = match given {
        Ok(Some(given)) => (Some(given.password), given.file),
        _ => (None, None),
    };
    (bridge.password, bridge.password_file) = (of_url.1.or(password), file);
    let Some(password) = &bridge.password else { return };
    if password.expose().len() > STRING_MAX {
        report(table, "password_file", Fault::new("the password is longer than 65535 bytes"));
    }
    if bridge.username.is_none() && bridge.version != Versions::V5 {
        let fault = Fault::new("is missing: before 5.0 there is no password without a user name");
        report(table, "username", fault.hint("set it, or version = \"5.0\""));
    }
    let host = bridge.url.host.trim_matches(['[', ']']);
    let is_local = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|host| host.is_loopback());
    if !bridge.url.transport.is_tls && !is_local && !host.is_empty() {
        let fault = Fault::new("the password goes to the remote as it is, without TLS");
        table.source.warn(&table.spot("url"), fault.hint("use mqtts:// or wss://"));
    }
}

/// Checks times that MQTT has in whole seconds, and the order of the backoffs.
fn times(table: &Table<'_>, bridge: &Bridge) {
    for (key, time) in [("keep_alive", bridge.keep_alive), ("session_expiry", bridge.session_expiry)] {
        if time.subsec_nanos() != 0 {
            report(table, key, Fault::new("must be in whole seconds").hint("write it in s, m, h or d"));
        }
    }
    if bridge.reconnect_backoff > bridge.reconnect_backoff_max {
        let key = if table.has("reconnect_backoff") { "reconnect_backoff" } else { "reconnect_backoff_max" };
        let fault = Fault::new("reconnect_backoff is longer than reconnect_backoff_max");
        report(table, key, fault.hint("make max at least that"));
    }
}

/// Reads TLS, if the URL's scheme has it.
fn tls(table: &Table<'_>, url: &Url) -> Option<forebay_guard::secure::OutgoingSettings> {
    if url.transport.is_tls {
        return if table.has("tls") {
            outgoing_tls::resolve(table, Section::BridgeTls)
        } else {
            Some(outgoing_tls::DEFAULT)
        };
    }
    if table.has("tls") {
        let scheme = if url.transport.is_web_socket { "wss" } else { "mqtts" };
        let fault = Fault::new("does not go with `url`, which is one without TLS");
        report(table, "tls", fault.hint(format!("write {scheme}:// in `url`, or leave this section out")));
    }
    None
}

/// Reads a name; the default is the index.
fn name(table: &Table<'_>, place: usize, names: &mut HashMap<String, Spot>) -> String {
    let name = table.find("name", values::name).unwrap_or_else(|| place.to_string());
    let spot = table.spot("name");
    if let Some(earlier) = names.insert(name.clone(), spot.clone()) {
        let what = format!("\"{name}\" is already the name of another one, on {}", table.source.where_is(&earlier));
        table.source.report(&spot, Fault::new(what).hint("each needs a unique name"));
    }
    name
}

/// Counts the filters of a bridge, and reports the first that is too many.
fn count(table: &Table<'_>, filters: &[(String, Spot)], total: &mut usize) {
    let before = *total;
    *total += filters.len();
    if let Some((_, spot)) = filters.get(FILTERS_MAX.saturating_sub(before)).filter(|_| before <= FILTERS_MAX) {
        table.source.report(spot, Fault::new(format!("at most {FILTERS_MAX} filters of a bridge")));
    }
}

fn ins(table: &Table<'_>, environment: &BTreeMap<String, String>, to: Destinations<'_>) -> Vec<BridgeIn> {
    let (mut names, mut asked, mut total) = (HashMap::new(), HashMap::new(), 0);
    let mut read = |(place, part): (usize, &Table<'_>)| {
        let name = name(part, place, &mut names);
        let filters = sinks::filters(part, "filters", "leave out $share and the group, and set `share`");
        count(part, &filters, &mut total);
        let share = share(part);
        for (filter, spot) in &filters {
            let whole = share.as_ref().map_or_else(|| filter.clone(), |share| format!("$share/{share}/{filter}"));
            if whole.len() > STRING_MAX {
                part.source.report(spot, Fault::new("is too long with its share: at most 65535 bytes"));
            }
            if let Some(earlier) = asked.insert(whole, spot.clone()) {
                let what =
                    format!("\"{filter}\" is a filter of this bridge already, on {}", part.source.where_is(&earlier));
                part.source.report(spot, Fault::new(what).hint("remove one of the two"));
            }
        }
        let topic = template(part, "topic", environment);
        check_topic_here(part, &topic, &filters);
        let filters = filters.into_iter().map(|(filter, _)| filter.into()).collect();
        let (retained, keeps_retain) = (part.read("retained", Retained::of), part.read("keep_retain", values::flag));
        let qos = u8::try_from(part.read("qos", u16::of)).ok().and_then(QoS::from_bits).unwrap_or(QoS::AtLeastOnce);
        let feeds = feeds(part, &[Feed::Subscribers, Feed::Rules, Feed::Sinks]);
        let of = BridgeIn { name, qos, share, takes: In { filters, topic, retained, keeps_retain }, feeds };
        check_taken(part, &of, to);
        of
    };
    table.list_parts(Section::BridgeIn).iter().enumerate().map(&mut read).collect()
}

fn share(table: &Table<'_>) -> Option<String> {
    table.find("share", |key, value| {
        let share = values::non_empty(key, value)?;
        if share.contains(['/', '+', '#', '\0']) {
            return Err(
                Fault::new(format!("\"{share}\" is no name of a share")).hint("it has neither `/`, `+` nor `#`")
            );
        }
        Ok(share)
    })
}

fn template(table: &Table<'_>, key: &str, environment: &BTreeMap<String, String>) -> Template {
    let fixed = Fixed { metadata: &[], environment };
    table.read(key, |_: &Key, value: &DeValue<'_>| values::template(value, &fixed))
}

/// Reports a topic that no message may have here, and filters of which no message could have its topic.
fn check_topic_here(table: &Table<'_>, topic: &Template, filters: &[(String, Spot)]) {
    let spot = table.spot("topic");
    check_mqtt_topic(table, topic, &spot);
    if topic.begins_with("$SYS/") || topic.begins_with("$share/") {
        let fault = Fault::new("topics below `$SYS/` and `$share/` are no topics to publish to");
        table.source.report(&spot, fault.hint("choose another topic"));
    }
    // The rendered topic then begins like the topic of the message.
    let is_same = topic.shape().next().is_some_and(|first| first == Err(&Variable::Topic));
    for (filter, spot) in filters.iter().filter(|(filter, _)| is_same && filter.starts_with('$')) {
        let what = format!("all messages of \"{filter}\" are dropped: their topics here would begin with `$`");
        table.source.warn(spot, Fault::new(what).hint("set `topic`, as in topic = \"remote/${topic}\""));
    }
}

fn outs(table: &Table<'_>, environment: &BTreeMap<String, String>) -> Vec<BridgeOut> {
    let (mut names, mut total) = (HashMap::new(), 0);
    let fixed = Fixed { metadata: &[], environment };
    let mut read = |(place, part): (usize, &Table<'_>)| {
        let name = name(part, place, &mut names);
        let filters =
            sinks::filters(part, "filters", "a bridge gets each message once: leave out $share and the group");
        count(part, &filters, &mut total);
        let of = |value: &DeValue<'_>| values::template(value, &fixed);
        let gives = Out {
            topic: template(part, "topic", environment),
            qos: part.read("qos", |key, value| values::template_or(key, value, &["0", "1", "2"], of)),
            retain: part.read("retain", |key, value| values::template_or(key, value, &["true", "false"], of)),
            payload: template(part, "payload", environment),
        };
        check_mqtt_topic(part, &gives.topic, &part.spot("topic"));
        let Out { topic, qos, retain, payload } = &gives;
        for (key, template) in [("topic", topic), ("qos", qos), ("retain", retain), ("payload", payload)] {
            check_known(part, key, template);
        }
        BridgeOut { name, filters: filters.into_iter().map(|(filter, _)| filter).collect(), gives }
    };
    table.list_parts(Section::BridgeOut).iter().enumerate().map(&mut read).collect()
}

/// Reports variables that are unknown for a message that has waited for the remote.
fn check_known(table: &Table<'_>, key: &str, template: &Template) {
    use Variable::{ClientId, Dup, PacketId, Timestamp, Username};
    let is_lost = |of: &&Variable| matches!(of, ClientId | Username | Dup | PacketId | Timestamp);
    if let Some(variable) = template.variables().find(is_lost) {
        let what = format!("`${{{variable}}}` is not known of a message that has waited for the remote");
        let hint = "there are topic, qos, retain, payload and user_properties; a [[rule.republish]] can write it into one of them, to a \
                    topic of this `out`";
        report(table, key, Fault::new(what).hint(hint));
    }
}
