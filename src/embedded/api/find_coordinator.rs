//! FindCoordinator (10): there is none, and the log says so once.
//!
//! Listed all the same: librdkafka (seen with 2.0.2) takes a broker that does not list it for one from before lz4, and
//! then sends uncompressed without a word. Of all refusals it is 15 because an *assigned* consumer asks too, and hands
//! others (42, seen with 2.16) to its application as an error.

use kafka_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};

use super::{Close, Context, Reply, encode, text};
use crate::embedded::code;
use crate::embedded::counters::first;
use crate::embedded::guard::Head;

pub(super) fn answer(context: &Context<'_>, head: Head, request: FindCoordinatorRequest) -> Result<Reply, Close> {
    if first(&context.store.counters.coordinator_requests) {
        tracing::warn!(
            key = request.key.as_str(),
            "embedded log: a client asks for a group or transaction coordinator, and there is none here. Consumers \
             read by assigning partitions; a consumer that subscribes with a group waits for ever"
        );
    }
    let body = FindCoordinatorResponse::default().with_error_code(code::COORDINATOR_NOT_AVAILABLE);
    let message = (head.version >= 1).then(|| text("this log has no consumer groups and no transactions"));
    encode(head, &body.with_node_id((-1).into()).with_port(-1).with_error_message(message))
}
