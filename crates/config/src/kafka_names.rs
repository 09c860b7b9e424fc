//! Settings of Kafka's own clients, EMQX and TBMQ under their names there: written here by habit, each gets a hint.

/// A property by its name in Kafka's Java producer, librdkafka, EMQX or TBMQ, in the form of [`plain`]; the hint.
const NAMES: &[(&str, &str)] = &[
    ("retries", "it is retries in [[sink]]"),
    ("message_send_max_retries", "it is retries in [[sink]]"),
    (
        "delivery_timeout_ms",
        "set expire_after in [[sink]] to drop records that are not part of a batch by then, or answer_timeout in \
         [[listener]] to make the device reconnect and send again",
    ),
    ("message_timeout_ms", "set expire_after in [[sink]]"),
    ("max_block_ms", "leave it out: when memory is full, publishers are not read until there is room"),
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
    ("compression_gzip_level", "it is compression_level in [[sink]]"),
    ("compression_zstd_level", "it is compression_level in [[sink]]"),
    ("compression_lz4_level", "leave it out: lz4 has a single level here"),
    ("partitioner_class", "it is partitioner in [[sink]]: \"key\", \"client\", \"sticky\" or \"random\""),
    ("partitioner_ignore_keys", "it is partitioner = \"sticky\" in [[sink]]"),
    ("partitioner_adaptive_partitioning_enable", "leave it out: see partitioner in [[sink]]"),
    ("partitioner_availability_timeout_ms", "leave it out: see partitioner in [[sink]]"),
    ("key_serializer", "it is key in [[sink]], a template"),
    ("value_serializer", "it is value in [[sink]], a template; or value_format"),
    ("interceptor_classes", "leave it out: there are no interceptors"),
    ("enable_idempotence", "leave it out: the producer is always idempotent, except with acks = \"0\""),
    ("max_in_flight_requests_per_connection", "it is max_inflight in [[sink]], for each partition"),
    ("max_in_flight", "it is max_inflight in [[sink]], for each partition"),
    ("required_acks", "it is acknowledge in [[sink]]; with acknowledge = \"received\", acks"),
    ("request_timeout_ms", "it is request_timeout in [kafka.NAME]"),
    ("metadata_max_age_ms", "it is metadata_max_age in [kafka.NAME]"),
    ("min_metadata_refresh_interval", "it is metadata_min_age in [kafka.NAME]"),
    ("partition_count_refresh_interval", "it is metadata_max_age in [kafka.NAME]"),
    ("metadata_request_timeout", "it is request_timeout in [kafka.NAME]"),
    ("socket_connection_setup_timeout_ms", "it is connect_timeout in [kafka.NAME]"),
    ("socket_connection_setup_timeout_max_ms", "leave it out: connect_timeout in [kafka.NAME] does not grow"),
    ("reconnect_backoff_ms", "it is reconnect_backoff_min in [kafka.NAME]"),
    ("reconnect_backoff_max_ms", "it is reconnect_backoff_max in [kafka.NAME]"),
    ("retry_backoff_ms", "leave it out: it is fixed, 50 ms to 1 s"),
    ("retry_backoff_max_ms", "leave it out: it is fixed, 50 ms to 1 s"),
    (
        "connections_max_idle_ms",
        "leave it out: brokers close idle connections, and Forebay opens them again when needed",
    ),
    ("send_buffer_bytes", "it is socket_send_buffer in [kafka.NAME]"),
    ("receive_buffer_bytes", "it is socket_receive_buffer in [kafka.NAME]"),
    ("sndbuf", "it is socket_send_buffer in [kafka.NAME]"),
    ("recbuf", "it is socket_receive_buffer in [kafka.NAME]"),
    ("tcp_keepalive", "it is tcp_keepalive in [kafka.NAME]"),
    ("health_check_interval", "it is health_check_interval in [kafka.NAME]"),
    ("buffer_mode", "it is buffer in [[sink]]: \"memory\", \"disk\", \"hybrid\" or \"hybrid-saved\""),
    ("per_partition_limit", "it is bytes_max in [spool], for all partitions together; see spool_share there"),
    ("segment_file_bytes", "it is segment_bytes in [spool]"),
    ("memory_overload_protection", "it is memory_overload_protection in [[sink]]"),
    ("bootstrap_hosts", "it is bootstrap in [kafka.NAME]"),
    ("client_id", "it is client_id in [kafka.NAME]"),
    ("client_id_prefix", "it is client_id in [kafka.NAME]"),
    ("topic_filters", "it is filters in [[sink]]"),
    ("topics", "it is filters in [[sink]] for MQTT topics, and topic in [[sink]] for the Kafka topic"),
    ("max_batch_bytes", "it is batch_bytes in [[sink]]"),
    ("max_linger_bytes", "it is batch_bytes in [[sink]]"),
    ("max_linger_time", "it is linger in [[sink]], as in linger = \"5ms\""),
    ("partition_strategy", "it is partitioner in [[sink]]: \"key\", \"client\", \"sticky\" or \"random\""),
    ("query_mode", "it is acknowledge in [[sink]]: \"replicated\" waits for Kafka, \"received\" does not"),
    ("sync_query_timeout", "it is answer_timeout in [[listener]]"),
    ("kafka_headers", "it is headers_from in [[sink]]"),
    ("kafka_ext_headers", "it is headers in [[sink]]"),
    ("kafka_header_value_encode_mode", "it is headers_encode in [[sink]]"),
    ("kafka_headers_charset", "leave it out: headers are UTF-8, user properties are copied as they are"),
    ("send_only_msg_payload", "it is value_format in [[sink]]: \"raw\" or \"json\""),
    ("other_properties", "it is other_properties in [kafka.NAME]"),
    ("partitions_limit", "leave it out: every partition of the topic is used"),
    ("resource_opts", "leave it out: see buffer in [[sink]] and [spool]"),
    ("socket_opts", "see socket_send_buffer, socket_receive_buffer and tcp_keepalive in [kafka.NAME]"),
    ("nodelay", "leave it out: TCP_NODELAY is always set"),
    ("allow_auto_topic_creation", "leave it out: the cluster's auto.create.topics.enable decides"),
    ("max_retries", "it is retries in [[sink]]"),
    ("group_id", "it is group in [[source]]"),
    ("group_instance_id", "it is group_instance in [[source]]"),
    ("auto_offset_reset", "it is offset_reset in [[source]]: \"latest\", \"earliest\", a time or an age"),
    ("offset_reset_policy", "it is offset_reset in [[source]]: \"latest\", \"earliest\", a time or an age"),
    ("isolation_level", "it is isolation in [[source]]: \"committed\" or \"all\""),
    (
        "enable_auto_commit",
        "leave it out: a group moves on when subscribers have the messages; see commit_interval in [[source]]",
    ),
    ("auto_commit_interval_ms", "it is commit_interval in [[source]], as in commit_interval = \"5s\""),
    ("offset_commit_interval_seconds", "it is commit_interval in [[source]], as in commit_interval = \"5s\""),
    ("offset_commit_interval", "it is commit_interval in [[source]], as in commit_interval = \"5s\""),
    ("fetch_bytes", "it is fetch_bytes in [[source]]"),
    ("max_partition_fetch_bytes", "it is fetch_bytes in [[source]]"),
    ("fetch_max_bytes", "leave it out: see fetch_memory in [delivery] and fetch_bytes in [[source]]"),
    ("max_poll_records", "it is window_messages in [[source]]"),
    ("partition_assignment_strategy", "leave it out: it is range, as Java's consumers have it, too"),
    ("key_encoding_mode", "it is key_encoding in [[source]]: \"none\" or \"base64\""),
    ("value_encoding_mode", "it is value_encoding in [[source]]: \"none\" or \"base64\""),
    ("payload_template", "it is payload in [[source]], a template"),
    ("mqtt_payload_template", "it is payload in [[source]], a template"),
    ("mqtt_qos", "it is qos in [[source]]"),
    ("topic_mapping", "it is topic in [[source]], as in topic = { testtopic-out = \"t/1\" }"),
    ("kafka_topic", "it is topic in [[source]] and in [[sink]]"),
    ("transactional_id", "leave it out: Forebay does not use transactions"),
];

/// Names of login settings in Kafka's clients, each with its hint: logins have a table of their own.
const SASL: &[(&str, &str)] = &[
    ("sasl_mechanism", "it is mechanism in [kafka.NAME.sasl]; [kafka.NAME] understands this name as well"),
    ("sasl_mechanisms", "it is mechanism in [kafka.NAME.sasl], a single one"),
    ("sasl_username", "it is username in [kafka.NAME.sasl]"),
    ("sasl_password", "write the password into a file and name it as password_file in [kafka.NAME.sasl]"),
    (
        "sasl_jaas_config",
        "its username is username in [kafka.NAME.sasl], which [kafka.NAME] understands as well; write its password into a file and name that as password_file there",
    ),
    (
        "sasl_oauthbearer_token_endpoint_url",
        "it is token_url in [kafka.NAME.sasl]; [kafka.NAME] understands this name as well",
    ),
    ("sasl_oauthbearer_scope", "it is scope in [kafka.NAME.sasl]; [kafka.NAME] understands this name as well"),
    (
        "sasl_oauthbearer_client_credentials_client_id",
        "it is client_id in [kafka.NAME.sasl]; [kafka.NAME] understands this name as well",
    ),
    (
        "sasl_oauthbearer_client_credentials_client_secret",
        "write the secret into a file and name it as client_secret_file in [kafka.NAME.sasl]",
    ),
    ("sasl_oauthbearer_config", "it is token_url or token_file, and extensions, in [kafka.NAME.sasl]"),
    (
        "sasl_login_callback_handler_class",
        "leave it out: OAUTHBEARER takes token_url or token_file in [kafka.NAME.sasl]",
    ),
    ("sasl_kerberos_service_name", "Kerberos is not supported; see mechanism in [kafka.NAME.sasl]"),
];

/// Properties that only consumers or admin clients of Java have, or that choose how its own code works.
const WITHOUT_MEANING: &[(&str, &str)] = &[
    ("client_dns_lookup", "every address of a name is tried"),
    ("session_timeout_ms", CONSUMERS),
    ("heartbeat_interval_ms", CONSUMERS),
    ("max_poll_interval_ms", CONSUMERS),
    ("max_poll_records", CONSUMERS),
    ("auto_offset_reset", CONSUMERS),
    ("enable_auto_commit", CONSUMERS),
    ("auto_commit_interval_ms", CONSUMERS),
    ("group_id", CONSUMERS),
    ("group_instance_id", CONSUMERS),
    ("group_protocol", CONSUMERS),
    ("group_remote_assignor", CONSUMERS),
    ("partition_assignment_strategy", CONSUMERS),
    ("fetch_min_bytes", CONSUMERS),
    ("fetch_max_bytes", CONSUMERS),
    ("fetch_max_wait_ms", CONSUMERS),
    ("max_partition_fetch_bytes", CONSUMERS),
    ("isolation_level", CONSUMERS),
    ("check_crcs", CONSUMERS),
    ("exclude_internal_topics", CONSUMERS),
    ("key_deserializer", CONSUMERS),
    ("value_deserializer", CONSUMERS),
    ("client_rack", CONSUMERS),
    ("allow_auto_create_topics", CONSUMERS),
    ("default_api_timeout_ms", "request_timeout limits each request"),
    ("security_providers", "TLS is built in"),
    ("metric_reporters", METRICS),
    ("metrics_num_samples", METRICS),
    ("metrics_recording_level", METRICS),
    ("metrics_sample_window_ms", METRICS),
    ("enable_metrics_push", METRICS),
    ("auto_include_jmx_reporter", METRICS),
];
const CONSUMERS: &str = "it is for consumers";
const METRICS: &str = "metrics are served on control.bind";

/// The beginning of a cure that is: nothing.
const LEAVE_OUT: &str = "leave it out: ";

/// Properties of a Java client, in the form of [`plain`], that need nothing here, and why.
pub(super) fn without_meaning() -> impl Iterator<Item = (&'static str, &'static str)> {
    let left_out = NAMES.iter().filter_map(|(name, cure)| Some((*name, cure.strip_prefix(LEAVE_OUT)?)));
    left_out.chain(WITHOUT_MEANING.iter().copied())
}

/// A name in lower case with `_` for `.`, `-` and the humps of `camelCase`.
pub(super) fn plain(name: &str) -> String {
    let mut plain = String::with_capacity(name.len() + 4);
    let mut after_lower = false;
    for c in name.chars() {
        if c.is_ascii_uppercase() && after_lower {
            plain.push('_');
        }
        plain.push(if matches!(c, '.' | '-') { '_' } else { c.to_ascii_lowercase() });
        after_lower = c.is_ascii_lowercase();
    }
    plain
}

/// The cure for a key of this name, if Kafka has it: `linger.ms`, `linger_ms`, `linger-ms` and `lingerMs` are one name.
pub(super) fn cure(name: &str) -> Option<&'static str> {
    let given = plain(name);
    if let Some(cure) = find(SASL, &given) {
        return Some(cure);
    }
    if given.starts_with("sasl_") || given == "authentication" {
        return Some(
            "see [kafka.NAME.sasl]: mechanism, username, password_file, token_file; leave out what is not there",
        );
    }
    if super::java::NAMES.contains(&given.as_str()) {
        return Some("it belongs to [kafka.NAME], as a string; or see [kafka.NAME.tls]");
    }
    if given.starts_with("security_") || given.starts_with("ssl_") || given.starts_with("tls_") || given == "ssl" {
        return Some(
            "see [kafka.NAME.tls]: ca_file, cert_file, key_file, server_name, verify; leave out what is not there",
        );
    }
    if given.starts_with("metrics_") || given == "metric_reporters" {
        return Some("metrics are served on control.bind: leave it out");
    }
    find(NAMES, &given)
}

/// The cure for a name in the form of [`plain`].
pub(super) fn find(names: &[(&str, &'static str)], given: &str) -> Option<&'static str> {
    names.iter().find(|(known, _)| given == *known).map(|(_, cure)| *cure)
}

#[cfg(test)]
mod tests {
    use super::super::keys;
    use super::*;

    #[test]
    fn none_is_a_key_of_ours_and_each_cure_names_only_what_is_there() {
        for (name, cure) in NAMES {
            assert!(keys::all().all(|key| key.name != *name || cure.contains(name)), "{name}");
            assert!(!cure.is_empty());
            for (key, section) in
                [("expire_after", "sink"), ("answer_timeout", "listener"), ("max_inflight", "sink"), ("linger", "sink")]
            {
                let there = keys::all().any(|known| known.name == key && known.section.name() == section);
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

    /// Names between backticks in the first column of the table below a heading.
    fn in_table(document: &str, heading: &str) -> Vec<String> {
        let (_, after) = document.split_once(heading).expect("the heading");
        let rows = after.lines().take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with("| "));
        let names = rows.filter_map(|row| row.split('|').nth(1)).flat_map(|first| first.split('`').skip(1).step_by(2));
        names.filter(|name| !name.contains('…')).map(|name| name.replace(".*", ".mechanism")).collect()
    }

    /// Names between backticks from these words to the end of their paragraph.
    fn in_paragraph(document: &str, words: &str) -> Vec<String> {
        let (_, after) = document.split_once(words).expect("the paragraph");
        let paragraph = after.split("\n\n").next().unwrap_or_default();
        paragraph.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn every_name_in_the_documents_is_an_error_that_says_what_to_write() {
        let producer = in_table(include_str!("../../../docs/CONFIGURATION.md"), "\n## Kafka's producer properties\n");
        let migrating = include_str!("../../../docs/MIGRATING.md");
        let tbmq = in_paragraph(migrating, "TBMQ's names are reported");
        let emqx = in_paragraph(migrating, "EMQX's names are reported");
        assert!(producer.len() > 35 && tbmq.len() > 6 && emqx.len() > 20, "{producer:?} {tbmq:?} {emqx:?}");
        let sections = [
            "[[sink]]\nname = \"s\"\nfilters = \"#\"\ntopic = \"t\"\n",
            "[[sink]]\nname = \"s\"\nfilters = \"#\"\ntopic = \"t\"\n[kafka.main]\nbootstrap = \"k:1\"\n",
        ];
        for (name, section) in
            [producer, tbmq, emqx].concat().iter().flat_map(|name| sections.map(|section| (name, section)))
        {
            let parsed = super::super::parse(&format!("{section}\"{name}\" = 1\n"), "f");
            // A copied `producer.properties` may have these, which mean nothing here.
            if let (Ok(config), true) = (&parsed, name.contains('.') && section.contains("[kafka")) {
                let warning = config.warnings.0.iter().find(|warning| warning.key == format!("kafka.main.{name}"));
                let hint = warning.and_then(|warning| warning.hint.clone()).unwrap_or_default();
                assert!(
                    without_meaning().any(|(known, why)| known == plain(name) && hint.ends_with(why)),
                    "{name}: {hint}"
                );
                continue;
            }
            let problems = match parsed {
                Err(problems) => problems,
                // The name is a key of ours, and this is one of its values.
                Ok(_) => {
                    assert!(keys::all().any(|key| key.name == name), "{name} in {section}");
                    continue;
                }
            };
            let problem = problems.0.iter().find(|problem| problem.key.ends_with(&format!(".{name}")));
            let hint = problem.and_then(|problem| problem.hint.clone()).unwrap_or_default();
            let ours = keys::all().find(|key| key.name == plain(name));
            let is_said = match ours {
                Some(key) => key.name == name || hint.contains(key.name),
                None => cure(name).is_some_and(|cure| hint == cure),
            };
            assert!(is_said, "{name} in {section}: {problem:?}");
        }
    }
}
