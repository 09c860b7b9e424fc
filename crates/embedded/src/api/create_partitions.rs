//! CreatePartitions (37).

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{BrokerId, CreatePartitionsRequest, CreatePartitionsResponse};

use super::{Close, Context, NODE_ID, Reply, encode, text};
use crate::batch::Refusal;
use crate::code;
use crate::guard::Head;

pub(super) async fn answer(
    context: &Context<'_>,
    head: Head,
    request: CreatePartitionsRequest,
) -> Result<Reply, Close> {
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let result = match add(context, &topic, request.validate_only).await {
            Ok(()) => CreatePartitionsTopicResult::default().with_error_message(None),
            Err(refusal) => CreatePartitionsTopicResult::default()
                .with_error_code(refusal.code)
                .with_error_message(Some(text(refusal.reason))),
        };
        results.push(result.with_name(topic.name));
    }
    encode(head, &CreatePartitionsResponse::default().with_results(results))
}

async fn add(context: &Context<'_>, asked: &CreatePartitionsTopic, validate_only: bool) -> Result<(), Refusal> {
    let topic = context.store.check_new_count(&asked.name, asked.count)?;
    if let Some(assignments) = &asked.assignments {
        let added = usize::try_from(asked.count).unwrap_or(0).saturating_sub(topic.partitions.len());
        let is_here = assignments.iter().all(|assigned| assigned.broker_ids.as_slice() == [BrokerId(NODE_ID)]);
        if assignments.len() != added || !is_here {
            return Err(Refusal { code: code::INVALID_REPLICA_ASSIGNMENT, reason: "there is one node, 1" });
        }
    }
    if validate_only { Ok(()) } else { context.store.add_partitions(&asked.name, asked.count).await }
}
