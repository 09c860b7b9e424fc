//! Settings of Kafka's own clients, EMQX and TBMQ under their names there: written here by habit, each gets a hint.

/// A property as Kafka's Java producer and librdkafka call it, with `_` for `.`; the cure.
const NAMES: &[(&str, &str)] = &[
    (
        "retries",
        "no record is given up by a count of attempts: leave it out; expire_after of [[sink]] bounds how long one waits, \
         answer_timeout of [[listener]] how long its device does",
    ),
    (
        "message_send_max_retries",
        "no record is given up by a count of attempts: leave it out; see expire_after of [[sink]]",
    ),
    (
        "delivery_timeout_ms",
        "set expire_after in [[sink]]: what is not on its way by then is dropped; or answer_timeout in [[listener]]: its \
         device is sent away to come again",
    ),
    ("message_timeout_ms", "set expire_after in [[sink]]"),
    ("max_block_ms", "leave it out: where memory is full, publishing clients are not read until there is room"),
    ("linger_ms", "it is linger in [[sink]], as in linger = \"5ms\""),
    ("queue_buffering_max_ms", "it is linger in [[sink]], as in linger = \"5ms\""),
    ("batch_size", "it is batch_bytes in [[sink]]"),
    ("max_request_size", "it is record_bytes_max and batch_bytes in [[sink]]"),
    ("message_max_bytes", "it is record_bytes_max and batch_bytes in [[sink]]"),
    ("buffer_memory", "it is buffer_bytes in [kafka.NAME]"),
    ("queue_buffering_max_kbytes", "it is buffer_bytes in [kafka.NAME]"),
    ("bootstrap_servers", "it is bootstrap in [kafka.NAME]"),
    ("brokers", "it is bootstrap in [kafka.NAME]"),
    ("compression_type", "it is compression in [[sink]]"),
    ("compression_codec", "it is compression in [[sink]]"),
    ("partitioner_class", "it is partitioner in [[sink]]: \"key\", \"client\", \"sticky\" or \"random\""),
    ("enable_idempotence", "batches are always numbered, but with acks = \"0\": leave it out"),
    ("max_in_flight_requests_per_connection", "it is max_inflight in [[sink]], for each partition"),
    ("max_in_flight", "it is max_inflight in [[sink]], for each partition"),
    ("required_acks", "it is acknowledge in [[sink]]; acks, where acknowledge is \"received\""),
    ("request_timeout_ms", "it is request_timeout in [kafka.NAME]"),
    ("metadata_max_age_ms", "it is metadata_max_age in [kafka.NAME]"),
    (
        "min_metadata_refresh_interval",
        "it is fixed, 100 ms to 1 s after an error: leave it out; metadata_max_age in [kafka.NAME] is the longest age",
    ),
    ("partition_count_refresh_interval", "it is metadata_max_age in [kafka.NAME]"),
    ("metadata_request_timeout", "it is request_timeout in [kafka.NAME]"),
    ("socket_connection_setup_timeout_ms", "it is connect_timeout in [kafka.NAME]"),
    ("reconnect_backoff_ms", "it is reconnect_backoff_min in [kafka.NAME]"),
    ("retry_backoff_ms", "it is fixed, 50 ms to 1 s: leave it out"),
    ("send_buffer_bytes", "the kernel sizes the buffers of sockets: leave it out"),
    ("receive_buffer_bytes", "the kernel sizes the buffers of sockets: leave it out"),
    ("sndbuf", "the kernel sizes the buffers of sockets: leave it out"),
    ("recbuf", "the kernel sizes the buffers of sockets: leave it out"),
    ("tcp_keepalive", "a broker that is silent on a request is found by request_timeout of [kafka.NAME]: leave it out"),
    ("health_check_interval", "every connection in use says so itself: leave it out; see forebay_kafka_reachable"),
    ("buffer_mode", "it is buffer in [[sink]]: \"memory\", \"disk\", \"hybrid\" or \"hybrid-saved\""),
    ("per_partition_limit", "it is bytes_max in [spool], for all partitions together; see spool_share there"),
    ("segment_file_bytes", "it is segment_bytes in [spool]"),
    ("memory_overload_protection", "memory has a bound, buffer_bytes of [kafka.NAME]: leave it out"),
    ("bootstrap_hosts", "it is bootstrap in [kafka.NAME]"),
    ("client_id_prefix", "it is client_id in [kafka.NAME]"),
    ("topic_filters", "it is filters in [[sink]]"),
    ("max_batch_bytes", "it is batch_bytes in [[sink]]"),
    ("max_linger_bytes", "it is batch_bytes in [[sink]]"),
    ("max_linger_time", "it is linger in [[sink]], as in linger = \"5ms\""),
    ("partition_strategy", "it is partitioner in [[sink]]: \"key\", \"client\", \"sticky\" or \"random\""),
    ("query_mode", "it is acknowledge in [[sink]]: \"replicated\" waits for Kafka, \"received\" does not"),
    ("sync_query_timeout", "it is answer_timeout in [[listener]]"),
    ("kafka_headers", "it is headers in [[sink]]"),
    ("kafka_ext_headers", "it is headers in [[sink]]"),
    ("allow_auto_topic_creation", "the cluster decides, by auto.create.topics.enable: leave it out"),
    ("max_retries", "no record is given up by a count of attempts: leave it out; see expire_after of [[sink]]"),
    ("fetch_bytes", "it is for sources, which this version does not have: leave it out"),
    ("offset_commit_interval_seconds", "it is for sources, which this version does not have: leave it out"),
    ("transactional_id", "there are no transactions here: leave it out"),
];

/// What to do instead of writing this, if Kafka has it: `linger.ms`, `linger_ms` and `linger-ms` are one name.
pub(super) fn cure(name: &str) -> Option<&'static str> {
    let given = name.to_lowercase().replace(['.', '-'], "_");
    if given.starts_with("sasl_") || given == "security_protocol" {
        return Some("this version connects to Kafka without SASL and TLS: leave it out");
    }
    if given.starts_with("ssl_") || given.starts_with("tls_") {
        return Some("this version connects to Kafka without TLS: leave it out");
    }
    let same = |known: &str| {
        let plain = |c: char| if matches!(c, '.' | '-') { '_' } else { c.to_ascii_lowercase() };
        name.chars().map(plain).eq(known.chars())
    };
    NAMES.iter().find(|(known, _)| same(known)).map(|(_, cure)| *cure)
}

#[cfg(test)]
mod tests {
    use super::super::keys::KEYS;
    use super::*;

    #[test]
    fn none_is_a_key_of_ours_and_each_cure_names_only_what_is_there() {
        for (name, cure) in NAMES {
            assert!(KEYS.iter().all(|key| key.name != *name), "{name}");
            assert!(!cure.is_empty());
            for (key, section) in
                [("expire_after", "sink"), ("answer_timeout", "listener"), ("max_inflight", "sink"), ("linger", "sink")]
            {
                let there = KEYS.iter().any(|known| known.name == key && known.section.name() == section);
                assert!(there || !cure.contains(key), "{name}: {cure}");
            }
        }
    }

    #[test]
    fn however_it_is_written() {
        for name in ["delivery.timeout.ms", "delivery_timeout_ms", "Delivery-Timeout-Ms"] {
            assert!(cure(name).is_some_and(|cure| cure.contains("expire_after")), "{name}");
        }
        assert_eq!(cure("retriess"), None);
    }

    #[test]
    fn the_documents_name_every_property_of_kafkas_producer_that_is_here() {
        let documents = include_str!("../../docs/CONFIGURATION.md");
        for name in
            ["retries", "delivery.timeout.ms", "max.block.ms", "linger.ms", "send.buffer.bytes", "transactional.id"]
        {
            assert!(cure(name).is_some() && documents.contains(&format!("`{name}`")), "{name}");
        }
    }
}
