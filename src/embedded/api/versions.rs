//! ApiVersions (18): what this log answers. What it does not serve is not listed, so that a client does not ask for it.

use kafka_protocol::messages::{ApiKey, ApiVersionsResponse, api_versions_response::ApiVersion};

use super::{APIS, Close, Reply, encode};
use crate::embedded::code;
use crate::embedded::guard::Head;

fn listed() -> Vec<ApiVersion> {
    let entry = |key: ApiKey, first: i16, last: i16| {
        // As Apache Kafka 4 lists it (KAFKA-18659): librdkafka takes a missing Produce v0 for an old broker without
        // compression. Whoever really sends v0 to v2 is closed.
        let first = if key == ApiKey::Produce { 0 } else { first };
        ApiVersion::default().with_api_key(key as i16).with_min_version(first).with_max_version(last)
    };
    APIS.iter().map(|(key, first, last, _)| entry(*key, *first, *last)).collect()
}

pub(super) fn answer(head: Head) -> Result<Reply, Close> {
    // No tagged fields: librdkafka 2.0.2 (Debian 12) misreads them here.
    encode(head, &ApiVersionsResponse::default().with_api_keys(listed()))
}

/// A version that we do not know is answered in version 0, with the list, so that the client can try again.
pub(super) fn unsupported(head: Head) -> Result<Reply, Close> {
    let body = ApiVersionsResponse::default().with_error_code(code::UNSUPPORTED_VERSION).with_api_keys(listed());
    encode(Head { version: 0, ..head }, &body)
}
