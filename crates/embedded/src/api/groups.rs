//! JoinGroup (11), SyncGroup (14), Heartbeat (12), LeaveGroup (13): consumer groups, the classic protocol. Listed up to
//! the last version before static membership (KIP-345), so that a client that wants it learns that it is not supported.

use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    SyncGroupRequest, SyncGroupResponse,
};
use tokio::sync::oneshot;

use super::{Close, Context, Reply, encode, text};
use crate::code;
use crate::groups::group::{Answer, Join, Joined};
use crate::guard::Head;
use crate::meta::random_id;

/// Longest session and rebalance: half an hour, as Kafka's `group.max.session.timeout.ms`.
const SESSION_MS_MAX: i32 = 1_800_000;

/// Waits for an answer, or for the end of the log.
async fn wait(context: &Context<'_>, answer: oneshot::Receiver<Answer>) -> Option<Answer> {
    let mut stopping = context.stopping.clone();
    tokio::select! {
        answer = answer => answer.ok(),
        _ = stopping.wait_for(|stopping| *stopping) => None,
    }
}

pub(super) async fn join(
    context: &Context<'_>,
    head: Head,
    client_id: &str,
    request: JoinGroupRequest,
) -> Result<Reply, Close> {
    let groups = &context.store.groups;
    let refused = |code, id: &str| {
        let response = JoinGroupResponse::default().with_error_code(code).with_generation_id(-1);
        encode(head, &response.with_protocol_name(Some(text(""))).with_member_id(text(id)))
    };
    if request.group_id.is_empty() {
        return refused(code::INVALID_GROUP_ID, &request.member_id);
    }
    if !(1..=SESSION_MS_MAX).contains(&request.session_timeout_ms) {
        return refused(code::INVALID_SESSION_TIMEOUT, &request.member_id);
    }
    let rebalance_ms = if head.version >= 1 { request.rebalance_timeout_ms } else { request.session_timeout_ms };
    let join = Join {
        member_id: request.member_id.to_string(),
        fresh_id: format!("{client_id}-{}", random_id()),
        comes_again: head.version >= 4,
        client_id: client_id.to_owned(),
        client_host: format!("/{}", context.peer.ip().to_canonical()),
        session_ms: request.session_timeout_ms.into(),
        rebalance_ms: i64::from(rebalance_ms.max(0)),
        protocol_type: request.protocol_type.to_string(),
        protocols: request.protocols.into_iter().map(|entry| (entry.name.to_string(), entry.metadata)).collect(),
    };
    let (ticket, answer) = groups.ticket();
    if groups.with_new(&request.group_id, |group, now_ms| group.join(join, ticket, now_ms)).is_none() {
        return refused(code::GROUP_MAX_SIZE_REACHED, &request.member_id);
    }
    match wait(context, answer).await {
        Some(Answer::Join(Ok(joined))) => encode(head, &joined_response(joined)),
        Some(Answer::Join(Err((code, id)))) => refused(code, &id),
        _ => refused(code::COORDINATOR_NOT_AVAILABLE, &request.member_id),
    }
}

fn joined_response(joined: Joined) -> JoinGroupResponse {
    let member = |(id, metadata): (String, bytes::Bytes)| {
        JoinGroupResponseMember::default().with_member_id(text(&id)).with_metadata(metadata)
    };
    JoinGroupResponse::default()
        .with_generation_id(joined.generation)
        .with_protocol_name(Some(text(&joined.protocol)))
        .with_leader(text(&joined.leader))
        .with_member_id(text(&joined.member_id))
        .with_members(joined.members.into_iter().map(member).collect())
}

pub(super) async fn sync(context: &Context<'_>, head: Head, request: SyncGroupRequest) -> Result<Reply, Close> {
    let groups = &context.store.groups;
    let (ticket, answer) = groups.ticket();
    let assignments = request.assignments.into_iter().map(|entry| (entry.member_id.to_string(), entry.assignment));
    let known = groups.with(&request.group_id, |group, now_ms| {
        group.sync(&request.member_id, request.generation_id, assignments.collect(), ticket, now_ms);
    });
    let result = match known {
        None => Err(code::UNKNOWN_MEMBER_ID),
        Some(()) => match wait(context, answer).await {
            Some(Answer::Sync(result)) => result,
            _ => Err(code::COORDINATOR_NOT_AVAILABLE),
        },
    };
    let response = match result {
        Ok(assignment) => SyncGroupResponse::default().with_assignment(assignment),
        Err(code) => SyncGroupResponse::default().with_error_code(code),
    };
    encode(head, &response)
}

pub(super) fn heartbeat(context: &Context<'_>, head: Head, request: HeartbeatRequest) -> Result<Reply, Close> {
    let code = context
        .store
        .groups
        .with(&request.group_id, |group, now_ms| group.heartbeat(&request.member_id, request.generation_id, now_ms));
    encode(head, &HeartbeatResponse::default().with_error_code(code.unwrap_or(code::UNKNOWN_MEMBER_ID)))
}

pub(super) fn leave(context: &Context<'_>, head: Head, request: LeaveGroupRequest) -> Result<Reply, Close> {
    let code = context.store.groups.with(&request.group_id, |group, now_ms| group.leave(&request.member_id, now_ms));
    encode(head, &LeaveGroupResponse::default().with_error_code(code.unwrap_or(code::UNKNOWN_MEMBER_ID)))
}
