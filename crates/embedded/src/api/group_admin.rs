//! ListGroups (16), DescribeGroups (15), DeleteGroups (42).

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, GroupId,
    ListGroupsRequest, ListGroupsResponse,
};

use super::{Close, Context, Reply, encode, text};
use crate::code;
use crate::groups::group::{Group, State};
use crate::guard::Head;

const TYPE: &str = "classic";

pub(super) fn list(context: &Context<'_>, head: Head, request: ListGroupsRequest) -> Result<Reply, Close> {
    let states = &request.states_filter;
    let types = &request.types_filter;
    let is_wanted = |state: State| {
        (states.is_empty() || states.iter().any(|wanted| wanted.eq_ignore_ascii_case(state.name())))
            && (types.is_empty() || types.iter().any(|wanted| wanted.eq_ignore_ascii_case(TYPE)))
    };
    let mut listed = Vec::new();
    for (name, protocol_type, state) in context.store.groups.list() {
        if is_wanted(state) {
            let group =
                ListedGroup::default().with_group_id(text(&name).into()).with_protocol_type(text(&protocol_type));
            let group = if head.version >= 4 { group.with_group_state(text(state.name())) } else { group };
            listed.push(if head.version >= 5 { group.with_group_type(text(TYPE)) } else { group });
        }
    }
    encode(head, &ListGroupsResponse::default().with_groups(listed))
}

pub(super) fn describe(context: &Context<'_>, head: Head, request: DescribeGroupsRequest) -> Result<Reply, Close> {
    let groups = &context.store.groups;
    let one = |name: GroupId| {
        let described = groups.with(&name, |group, _| (!group.is_idle()).then(|| described(group))).flatten();
        let described = described.unwrap_or_else(|| {
            let state = if groups.has_offsets(&name) { State::Empty.name() } else { "Dead" };
            let kind = if groups.has_offsets(&name) { "consumer" } else { "" };
            DescribedGroup::default().with_group_state(text(state)).with_protocol_type(text(kind))
        });
        described.with_group_id(name)
    };
    let groups = request.groups.into_iter().map(one).collect();
    encode(head, &DescribeGroupsResponse::default().with_groups(groups))
}

fn described(group: &Group) -> DescribedGroup {
    let member = |(id, member, data): (&str, &crate::groups::group::Member, bytes::Bytes)| {
        DescribedGroupMember::default()
            .with_member_id(text(id))
            .with_client_id(text(&member.client_id))
            .with_client_host(text(&member.client_host))
            .with_member_metadata(data)
            .with_member_assignment(member.assignment.clone())
    };
    DescribedGroup::default()
        .with_group_state(text(group.state().name()))
        .with_protocol_type(text(group.protocol_type()))
        .with_protocol_data(text(group.protocol()))
        .with_members(group.members().map(member).collect())
}

pub(super) async fn delete(context: &Context<'_>, head: Head, request: DeleteGroupsRequest) -> Result<Reply, Close> {
    let mut results = Vec::with_capacity(request.groups_names.len());
    for name in request.groups_names {
        let deleted =
            if name.is_empty() { Err(code::INVALID_GROUP_ID) } else { context.store.groups.delete(&name).await };
        results.push(DeletableGroupResult::default().with_error_code(deleted.err().unwrap_or(0)).with_group_id(name));
    }
    encode(head, &DeleteGroupsResponse::default().with_results(results))
}
