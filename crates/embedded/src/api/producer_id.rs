//! InitProducerId (22): a producer id that was never assigned before, epoch 0.

use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

use super::{Close, Context, Reply, encode};
use crate::code;
use crate::guard::Head;

pub(super) async fn answer(context: &Context<'_>, head: Head, request: InitProducerIdRequest) -> Result<Reply, Close> {
    // A transactional producer asks for its coordinator first, and learns then that this log has none.
    let id = match request.transactional_id {
        Some(_) => Err(code::INVALID_REQUEST),
        None => context.store.producer_id().await,
    };
    let body = InitProducerIdResponse::default();
    let body = match id {
        Ok(id) => body.with_producer_id(id.into()).with_producer_epoch(0),
        Err(code) => body.with_error_code(code).with_producer_id((-1).into()).with_producer_epoch(-1),
    };
    encode(head, &body)
}
