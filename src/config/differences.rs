//! What differs between two configurations, in the words of the file.

use super::resolved::Config;

/// The settings that differ: `service.shards`, `sink telemetry (changed)`, `kafka.main (removed)`. In what order lists are
/// written makes no difference, except for the first match of names.
#[must_use]
pub fn differences(old: &Config, new: &Config) -> Vec<String> {
    let mut found = Vec::new();
    macro_rules! keys {
        ($($section:ident . $key:ident),* $(,)?) => {
            $(if old.$section.$key != new.$section.$key {
                found.push(format!("{}.{}", stringify!($section), stringify!($key)));
            })*
        };
    }
    keys!(service.shards, service.data_dir, service.data_dir_id, service.drain_grace, service.pin);
    keys!(control.bind, control.access, log.format, log.level);
    keys!(
        mqtt.packet_bytes_max,
        mqtt.receive_maximum,
        mqtt.qos2_inflight_3x,
        mqtt.topic_alias_maximum,
        mqtt.connect_timeout,
        mqtt.keep_alive_max_s,
        mqtt.session_expiry_max_s,
        mqtt.session_expiry_3x_s,
        mqtt.sessions_max,
        mqtt.evict_sessions,
    );
    list(&mut found, "listener", &old.listeners, &new.listeners, |listener| listener.bind.to_string());
    list(&mut found, "kafka", &old.clusters, &new.clusters, |cluster| cluster.name.clone());
    // A sink knows its cluster by number, which other clusters may shift.
    let with_name = |config: &Config| {
        let sinks = config.sinks.iter().map(|sink| {
            let cluster = config.clusters[sink.cluster].name.clone();
            let mut sink = sink.clone();
            sink.cluster = 0;
            (sink, cluster)
        });
        sinks.collect::<Vec<_>>()
    };
    list(&mut found, "sink", &with_name(old), &with_name(new), |(sink, _)| sink.name.clone());
    if old.embedded != new.embedded {
        found.push("embedded".to_owned());
    }
    if old.spool != new.spool {
        found.push("spool".to_owned());
    }
    found
}

fn list<T: PartialEq>(found: &mut Vec<String>, what: &str, old: &[T], new: &[T], name: impl Fn(&T) -> String) {
    for item in old {
        match new.iter().find(|other| name(other) == name(item)) {
            None => found.push(format!("{what} {} (removed)", name(item))),
            Some(other) if other != item => found.push(format!("{what} {} (changed)", name(item))),
            Some(_) => {}
        }
    }
    let added = new.iter().filter(|item| !old.iter().any(|other| name(other) == name(item)));
    found.extend(added.map(|item| format!("{what} {} (added)", name(item))));
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn config(text: &str) -> Config {
        parse(text, "test").unwrap_or_else(|problems| panic!("{problems}"))
    }

    #[test]
    fn what_differs_is_named_once() {
        let sink =
            |name: &str, more: &str| format!("[[sink]]\nname='{name}'\nfilters='#'\ntopic='t'\nkafka='b'\n{more}\n");
        let base = "[service]\nshards=1\npin=false\n";
        let b = "[kafka.b]\nbootstrap='b:1'\n";
        let old = config(&format!("{base}{b}{}{}", sink("one", ""), sink("two", "")));
        assert_eq!(differences(&old, &old), Vec::<String>::new());
        // A cluster in front of the others shifts their numbers, and changes no sink.
        let new = config(&format!(
            "{base}drain_grace='1s'\n[log]\nlevel='debug'\n[kafka.a]\nbootstrap='a:1'\n{b}{}{}[spool]\n",
            sink("two", "linger='9ms'\nbuffer='memory'\nacknowledge='replicated'"),
            sink("three", "buffer='memory'\nacknowledge='replicated'"),
        ));
        assert_eq!(
            differences(&old, &new),
            [
                "service.drain_grace",
                "log.level",
                "kafka a (added)",
                "sink one (removed)",
                "sink two (changed)",
                "sink three (added)",
                "spool"
            ]
        );
    }
}
