//! ApiVersions (18): the requests that this log answers. Unsupported ones are not listed, so that clients do not send
//! them.

use kafka_protocol::messages::{ApiKey, ApiVersionsResponse, api_versions_response::ApiVersion};

use super::{APIS, Close, Reply, encode};
use crate::code;
use crate::guard::Head;

fn listed() -> Vec<ApiVersion> {
    let entry = |key: ApiKey, first: i16, last: i16| {
        // Apache Kafka 4 lists it so (KAFKA-18659): librdkafka takes a missing Produce v0 for an old broker without
        // compression. A connection that really sends v0 to v2 is closed.
        let first = if key == ApiKey::Produce { 0 } else { first };
        ApiVersion::default().with_api_key(key as i16).with_min_version(first).with_max_version(last)
    };
    APIS.iter().map(|(key, first, last, _)| entry(*key, *first, *last)).collect()
}

pub(super) fn answer(head: Head) -> Result<Reply, Close> {
    // No tagged fields: librdkafka 2.0.2 (Debian 12) misreads them here.
    encode(head, &ApiVersionsResponse::default().with_api_keys(listed()))
}

/// An unknown version is answered in version 0, with the list, so that the client can try again.
pub(super) fn unsupported(head: Head) -> Result<Reply, Close> {
    let body = ApiVersionsResponse::default().with_error_code(code::UNSUPPORTED_VERSION).with_api_keys(listed());
    encode(Head { version: 0, ..head }, &body)
}
