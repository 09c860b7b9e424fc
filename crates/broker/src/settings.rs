//! Settings of sessions and their queues, made of the configuration of the whole process.

use forebay_config::Config;
use forebay_session as session;

/// `QUEUES` sessions with as much as may wait for one fill the log of their slot, which others are in, too.
const QUEUES: u64 = 4;

/// A queue with these bounds: with `[broker]` it has a part of the log of its slot.
pub fn queue(config: &Config, of: session::QueueBounds) -> session::QueueBounds {
    let Some(broker) = &config.broker else { return of };
    let of_slot = broker.session_log(broker.slots().into()).room() / QUEUES;
    let bytes = of.bytes.min(usize::try_from(of_slot).unwrap_or(usize::MAX));
    session::QueueBounds { bytes, counts_sent: true, ..of }
}

/// The sessions of one shard, with their share of the number.
pub fn sessions(config: &Config) -> session::Settings {
    let mqtt = &config.mqtt;
    let bounds = session::QueueBounds {
        messages: config.delivery.queue_messages_max,
        bytes: config.delivery.queue_bytes_max,
        drops_newest: config.delivery.drops_newest,
        counts_sent: false,
    };
    session::Settings {
        sessions_max: mqtt.sessions_max.div_ceil(config.service.shards.max(1)),
        evict: mqtt.evict_sessions,
        takeovers_max: mqtt.takeovers_max,
        adopts: config.listeners.iter().all(|listener| listener.is_removed || listener.auth.is_some()),
        session_expiry_max_s: mqtt.session_expiry_max_s,
        session_expiry_3x_s: mqtt.session_expiry_3x_s,
        keep_alive_max_s: mqtt.keep_alive_max_s,
        receive_maximum: mqtt.receive_maximum,
        qos2_inflight_3x: mqtt.qos2_inflight_3x,
        topic_alias_maximum: mqtt.topic_alias_maximum,
        packet_size_max: Some(mqtt.packet_bytes_max),
        instance: config.service.instance.as_str().into(),
        queue: queue(config, bounds),
        ..session::Settings::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_config as config;

    /// The queue of one client that is away takes a part of its slot's log: beyond it the client's oldest messages go, and others keep theirs.
    #[test]
    fn a_queue_has_a_part_of_the_log_of_its_slot() {
        let parsed = |text: &str| {
            let sink = "[[sink]]\nname = \"all\"\nkafka = \"main\"\nfilters = [\"#\"]\ntopic = \"t\"\n";
            let text = format!(
                "[kafka.main]\nbootstrap = \"127.0.0.1:9092\"\n[delivery]\nqueue_bytes_max = \"1GiB\"\n{sink}{text}"
            );
            config::parse(&text, "test").expect("a valid configuration")
        };
        let bytes = |text: &str| sessions(&parsed(text)).queue.bytes as u64;
        let part = |text: &str| parsed(text).broker.expect("[broker]").sessions_bytes_max / 64;
        assert_eq!(bytes(""), 1 << 30);
        for text in ["[broker]\n", "[broker]\nsessions_bytes_max = \"8GiB\"\n"] {
            assert!((part(text) / 16..=part(text) / 4).contains(&bytes(text)), "{text}: {}", bytes(text));
        }
    }
}
