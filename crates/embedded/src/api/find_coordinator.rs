//! FindCoordinator (10): this node for every consumer group; for transactions there is none.

use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Close, Context, NODE_ID, Reply, encode, text};
use crate::code;
use crate::counters::{add, first};
use crate::guard::Head;

/// The key type of groups.
const GROUP: i8 = 0;

pub(super) fn answer(context: &Context<'_>, head: Head, request: FindCoordinatorRequest) -> Result<Reply, Close> {
    let is_group = head.version == 0 || request.key_type == GROUP;
    let one = |key: StrBytes| coordinator(context, is_group, key);
    if head.version >= 4 {
        let coordinators = request.coordinator_keys.into_iter().map(one).collect();
        return encode(head, &FindCoordinatorResponse::default().with_coordinators(coordinators));
    }
    let found = one(request.key);
    let response = FindCoordinatorResponse::default()
        .with_error_code(found.error_code)
        .with_node_id(found.node_id)
        .with_host(found.host)
        .with_port(found.port);
    encode(head, &if head.version >= 1 { response.with_error_message(found.error_message) } else { response })
}

fn coordinator(context: &Context<'_>, is_group: bool, key: StrBytes) -> Coordinator {
    let counters = &context.store.counters;
    let found = Coordinator::default().with_key(key);
    if is_group {
        add(&counters.coordinator_requests, 1);
        let (host, port) = context.advertised();
        return found
            .with_node_id(NODE_ID.into())
            .with_host(text(&host))
            .with_port(port.into())
            .with_error_message(None);
    }
    if first(&counters.transaction_requests) {
        tracing::warn!(
            key = found.key.as_str(),
            "embedded log: a client requested a transaction coordinator; transactions are not supported"
        );
    }
    let message = Some(text("transactions are not supported"));
    let found = found.with_error_code(code::COORDINATOR_NOT_AVAILABLE).with_node_id((-1).into());
    found.with_port(-1).with_error_message(message)
}
