//! Lines about the group of instances for `forebay check`, with `[broker.link]`: whether this client may join it, and whether the
//! brokers allow `session_timeout`; and about the groups of shared subscriptions: whether this client may join and delete them.

use std::collections::HashMap;
use std::time::Duration;

use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::{DeleteGroupsRequest, DescribeGroupsRequest, GroupId, HeartbeatRequest};
use kafka_protocol::protocol::StrBytes;

use super::admin::Admin;
use super::broker::{Coordinates, coordinator};
use super::check::{Line, NOT_TOLD, Verdict, address};
use super::source_trial::{GROUP_FORBIDDEN, GROUP_OPERATIONS_SINCE, GROUP_UNKNOWN, READ};
use crate::config::{Broker, Cluster, Config};

/// The protocol type of instances in their group.
const PROTOCOL_TYPE: &str = "forebay";

/// The prefix of the groups of shared subscriptions.
const SHARES: &str = "forebay-share-";

/// Settings of a broker that bound the sessions of members.
const MIN: &str = "group.min.session.timeout.ms";
const MAX: &str = "group.max.session.timeout.ms";

/// Examines the group of instances, if this cluster has it.
pub(super) fn of_instances(config: &Config, cluster: usize, lines: &mut Vec<Line>) {
    let Some(broker) = config.broker.as_ref().filter(|broker| broker.cluster == cluster && broker.link.is_some())
    else {
        return;
    };
    let (verdict, text) = look(&config.clusters[cluster], broker)
        .unwrap_or_else(|why| (Verdict::Problem, format!("cannot be checked: {why}")));
    lines.push(Line { verdict, about: "broker.link".to_owned(), text });
    let (verdict, text) = look_at_shares(&config.clusters[cluster], broker)
        .unwrap_or_else(|why| (Verdict::Warning, format!("groups of shared subscriptions cannot be checked: {why}")));
    lines.push(Line { verdict, about: "broker.link".to_owned(), text });
}

/// Sends requests that change nothing: a heartbeat of an unknown member, and the deletion of a group that does not exist.
///
/// # Errors
/// A broker cannot be asked, in words.
fn look_at_shares(cluster: &Cluster, broker: &Broker) -> Result<(Verdict, String), String> {
    // No shared subscription has this text.
    let group = GroupId(StrBytes::from(broker.group_of_share("forebay check")));
    let mut admin = Admin::reach(cluster)?;
    let mut coordinator = match coordinator(cluster, group.as_str(), Coordinates::Group, &mut admin) {
        Ok(coordinator) => coordinator,
        Err(why) if why.ends_with(&format!("error {GROUP_FORBIDDEN}")) => {
            return Ok(of_shares(GROUP_FORBIDDEN, GROUP_FORBIDDEN));
        }
        Err(why) => return Err(why),
    };
    let version = coordinator.needs::<HeartbeatRequest>((0, 3), "Heartbeat")?;
    let beat = HeartbeatRequest::default().with_group_id(group.clone());
    let reads = coordinator.ask_at(&beat, version)?.error_code;
    let version = coordinator.needs::<DeleteGroupsRequest>((0, 1), "DeleteGroups")?;
    let end = coordinator.ask_at(&DeleteGroupsRequest::default().with_groups_names(vec![group]), version)?;
    Ok(of_shares(reads, end.results.first().map_or(0, |result| result.error_code)))
}

/// The line for the answers to these two requests.
fn of_shares(reads: i16, deletes: i16) -> (Verdict, String) {
    let named = format!("groups of shared subscriptions ({SHARES}…)");
    let grant = |operations: &str| {
        format!(
            "grant it {operations} --group {SHARES} --resource-pattern-type prefixed, as in kafka-acls.sh --add --allow-principal User:…"
        )
    };
    match (reads == GROUP_FORBIDDEN, deletes == GROUP_FORBIDDEN) {
        (true, _) => {
            let grant = grant("--operation Read --operation Delete");
            (
                Verdict::Problem,
                format!("{named}: this client is not authorized to read them, and refuses SUBSCRIBE; {grant}"),
            )
        }
        (false, true) => {
            let grant = grant("--operation Delete");
            let text = format!(
                "{named}: this client is not authorized to delete them: a share that has ended goes on when somebody subscribes again, until Kafka forgets its group; {grant}"
            );
            (Verdict::Warning, text)
        }
        (false, false) => (Verdict::Ok, format!("{named}: this client may read and delete them")),
    }
}

/// # Errors
/// A broker cannot be asked, in words.
fn look(cluster: &Cluster, broker: &Broker) -> Result<(Verdict, String), String> {
    let group = broker.group_of_instances();
    let mut admin = Admin::reach(cluster)?;
    let mut coordinator = match coordinator(cluster, &group, Coordinates::Group, &mut admin) {
        Ok(coordinator) => coordinator,
        Err(why) if why.ends_with(&format!("error {GROUP_FORBIDDEN}")) => return Ok(forbidden(&group)),
        Err(why) => return Ok((Verdict::Warning, why)),
    };
    let version = coordinator.needs::<DescribeGroupsRequest>((0, i16::MAX), "DescribeGroups")?;
    let request = DescribeGroupsRequest::default()
        .with_groups(vec![GroupId(StrBytes::from(group.clone()))])
        .with_include_authorized_operations(version >= GROUP_OPERATIONS_SINCE);
    let answer = coordinator.ask_at(&request, version)?;
    let (verdict, text) = of_group(&group, answer.groups.first());
    if verdict > Verdict::Ok {
        return Ok((verdict, text));
    }
    let brokers = coordinator.metadata(&[])?.brokers;
    let node = brokers.iter().find(|broker| address(broker) == coordinator.broker).map(|broker| broker.node_id.0);
    let told = node.and_then(|node| coordinator.broker_settings(node, &[MIN, MAX])).unwrap_or_default();
    let (verdict, bounds) = of_bounds(broker.session_timeout, &told);
    Ok((verdict, format!("{text}; {bounds}")))
}

fn forbidden(group: &str) -> (Verdict, String) {
    let text = format!(
        "group {group}: this client is not authorized to read it, and so cannot be one of the instances; grant it READ, as in kafka-acls.sh --add --allow-principal User:… --operation Read --group {group}"
    );
    (Verdict::Problem, text)
}

/// The line for Kafka's description of the group.
fn of_group(group: &str, described: Option<&DescribedGroup>) -> (Verdict, String) {
    let Some(described) = described else {
        return (Verdict::Warning, format!("group {group}: the cluster did not report it"));
    };
    let operations = described.authorized_operations;
    match described.error_code {
        GROUP_FORBIDDEN => return forbidden(group),
        // The group does not exist yet: newer versions of Kafka do not return its operations.
        0 | GROUP_UNKNOWN => {}
        error => return (Verdict::Warning, format!("group {group}: the cluster answered with error {error}")),
    }
    if operations != NOT_TOLD && described.error_code == 0 && operations & READ == 0 {
        return forbidden(group);
    }
    let kind = described.protocol_type.as_str();
    if !kind.is_empty() && kind != PROTOCOL_TYPE {
        let text = format!(
            "group {group} is used by members of another kind ({kind:?}), and cannot be joined; another name in sessions of [broker] makes another group"
        );
        return (Verdict::Problem, text);
    }
    let text = match described.members.len() {
        0 => "no instances".to_owned(),
        1 => "1 instance".to_owned(),
        count => format!("{count} instances"),
    };
    (Verdict::Ok, format!("group {group}: {text}"))
}

/// Whether the brokers allow a session of this length, as far as they return their bounds.
fn of_bounds(session: Duration, told: &HashMap<String, String>) -> (Verdict, String) {
    let bound = |name: &str| told.get(name).and_then(|text| text.parse().ok()).map(Duration::from_millis);
    let said = |name: &str, bound: Duration, instead: &str| {
        let text = format!(
            "session_timeout {session:?} is {instead} {name} of the brokers, {bound:?}: no instance can join; change the one or the other"
        );
        (Verdict::Problem, text)
    };
    match (bound(MIN), bound(MAX)) {
        (Some(min), _) if session < min => said(MIN, min, "less than"),
        (_, Some(max)) if session > max => said(MAX, max, "more than"),
        (Some(min), Some(max)) => {
            (Verdict::Ok, format!("session_timeout {session:?} is what the brokers allow ({min:?} to {max:?})"))
        }
        _ => (
            Verdict::Ok,
            format!(
                "whether the brokers allow session_timeout {session:?} is unknown (DESCRIBE_CONFIGS on the cluster)"
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::describe_groups_response::DescribedGroupMember;

    use super::*;

    #[test]
    fn who_may_join_the_group() {
        let group = |kind: &'static str, members: usize| {
            DescribedGroup::default()
                .with_protocol_type(StrBytes::from_static_str(kind))
                .with_members(vec![DescribedGroupMember::default(); members])
                .with_authorized_operations(NOT_TOLD)
        };
        let said = |of: DescribedGroup| of_group("g", Some(&of));
        assert_eq!(said(group("", 0)), (Verdict::Ok, "group g: no instances".to_owned()));
        assert_eq!(
            said(group("forebay", 2).with_authorized_operations(READ)),
            (Verdict::Ok, "group g: 2 instances".to_owned())
        );
        assert_eq!(said(group("", 0).with_error_code(GROUP_UNKNOWN).with_authorized_operations(0)).0, Verdict::Ok);
        for of in
            [group("forebay", 1).with_authorized_operations(1 << 8), group("", 0).with_error_code(GROUP_FORBIDDEN)]
        {
            let (verdict, text) = said(of);
            assert!(verdict == Verdict::Problem && text.contains("--operation Read --group g"), "{text}");
        }
        let (verdict, text) = said(group("consumer", 1));
        assert!(
            verdict == Verdict::Problem && text.contains("\"consumer\"") && text.contains("sessions of [broker]"),
            "{text}"
        );
        assert_eq!(said(group("", 0).with_error_code(15)).0, Verdict::Warning);
    }

    #[test]
    fn who_may_have_groups_of_shared_subscriptions() {
        // UNKNOWN_MEMBER_ID and GROUP_ID_NOT_FOUND: both were allowed.
        assert_eq!(of_shares(25, GROUP_UNKNOWN).0, Verdict::Ok);
        let (verdict, text) = of_shares(GROUP_FORBIDDEN, GROUP_UNKNOWN);
        assert!(verdict == Verdict::Problem && text.contains("--operation Read --operation Delete"), "{text}");
        let (verdict, text) = of_shares(25, GROUP_FORBIDDEN);
        assert!(verdict == Verdict::Warning && text.contains("grant it --operation Delete --group forebay-share-"));
    }

    #[test]
    fn a_session_lies_in_what_the_brokers_allow() {
        let told =
            |min: &str, max: &str| HashMap::from([(MIN.to_owned(), min.to_owned()), (MAX.to_owned(), max.to_owned())]);
        let session = Duration::from_secs(12);
        assert_eq!(of_bounds(session, &told("6000", "1800000")).0, Verdict::Ok);
        assert_eq!(of_bounds(session, &told("12000", "12000")).0, Verdict::Ok);
        let (verdict, text) = of_bounds(session, &told("12001", "1800000"));
        assert!(
            verdict == Verdict::Problem
                && text.contains("12s is less than group.min.session.timeout.ms of the brokers, 12.001s"),
            "{text}"
        );
        assert_eq!(of_bounds(session, &told("1000", "11999")).0, Verdict::Problem);
        let (verdict, text) = of_bounds(session, &HashMap::new());
        assert!(verdict == Verdict::Ok && text.contains("unknown"), "{text}");
    }
}
