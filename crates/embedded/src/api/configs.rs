//! DescribeConfigs (32), AlterConfigs (33), IncrementalAlterConfigs (44), for topics and for the node.

use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse as IncrementalResponse;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};

use super::{Close, Context, NODE_ID, Reply, encode, text};
use crate::batch::Refusal;
use crate::code;
use crate::guard::Head;
use crate::settings::Settings;
use crate::topic_config::{Entry, TopicConfig, node_entries};

/// Resource types.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// The source of a value.
const OF_TOPIC: i8 = 1;
const OF_NODE: i8 = 4;
const DEFAULT: i8 = 5;
/// Operations of an incremental change.
const SET: i8 = 0;
const DELETE: i8 = 1;

const NOT_A_TOPIC: Refusal =
    Refusal { code: code::INVALID_REQUEST, reason: "only settings of topics can be changed here" };

pub(super) fn describe(context: &Context<'_>, head: Head, request: DescribeConfigsRequest) -> Result<Reply, Close> {
    let one = |asked: DescribeConfigsResource| {
        let result = DescribeConfigsResult::default();
        let result = match found(context, &asked) {
            Err(refusal) => result.with_error_code(refusal.code).with_error_message(Some(text(refusal.reason))),
            Ok(entries) => {
                let wanted = |entry: &Entry| {
                    let keys = asked.configuration_keys.as_ref();
                    keys.is_none_or(|keys| keys.iter().any(|key| key.as_str() == entry.name))
                };
                let entry = |entry| described(head, asked.resource_type, entry, request.include_synonyms);
                let configs = entries.into_iter().filter(wanted).map(entry).collect();
                result.with_error_message(None).with_configs(configs)
            }
        };
        result.with_resource_type(asked.resource_type).with_resource_name(asked.resource_name)
    };
    let results = request.resources.into_iter().map(one).collect();
    encode(head, &DescribeConfigsResponse::default().with_results(results))
}

fn found(context: &Context<'_>, asked: &DescribeConfigsResource) -> Result<Vec<Entry>, Refusal> {
    let settings = &context.store.settings;
    let refuse = |code, reason| Err(Refusal { code, reason });
    match (asked.resource_type, asked.resource_name.as_str()) {
        (TOPIC, name) => match context.store.topic(name) {
            Some(topic) => Ok(topic.config.entries(settings)),
            None => refuse(code::UNKNOWN_TOPIC_OR_PARTITION, "no such topic"),
        },
        // The empty name asks for the dynamic settings of all brokers: there are none.
        (BROKER, "") => Ok(Vec::new()),
        (BROKER, node) if node.parse() == Ok(NODE_ID) => Ok(node_entries(settings, NODE_ID)),
        (BROKER, _) => refuse(code::INVALID_REQUEST, "there is one node, 1"),
        _ => refuse(code::INVALID_REQUEST, "topics and the node have settings here"),
    }
}

fn described(head: Head, resource: i8, entry: Entry, synonyms: bool) -> DescribeConfigsResourceResult {
    let default = if resource == BROKER { OF_NODE } else { DEFAULT };
    let source = if entry.is_own { OF_TOPIC } else { default };
    let synonym = |value: &str, source| {
        DescribeConfigsSynonym::default().with_name(text(entry.name)).with_value(Some(text(value))).with_source(source)
    };
    let mut known = Vec::new();
    if synonyms {
        known.extend(entry.is_own.then(|| synonym(&entry.value, OF_TOPIC)));
        known.push(synonym(&entry.default, default));
    }
    let result = DescribeConfigsResourceResult::default()
        .with_name(text(entry.name))
        .with_value(Some(text(&entry.value)))
        .with_read_only(entry.is_fixed)
        .with_config_source(source)
        .with_synonyms(known);
    if head.version >= 3 { result.with_config_type(entry.kind as i8).with_documentation(None) } else { result }
}

pub(super) async fn alter(context: &Context<'_>, head: Head, request: AlterConfigsRequest) -> Result<Reply, Close> {
    let settings = &context.store.settings;
    let mut responses = Vec::with_capacity(request.resources.len());
    for asked in request.resources {
        // Settings that are not named go back to their defaults.
        let change = |_| {
            let mut config = TopicConfig::default();
            for entry in &asked.configs {
                config.set(&entry.name, entry.value.as_deref(), settings)?;
            }
            Ok(config)
        };
        let changed = match asked.resource_type {
            TOPIC => context.store.configure(&asked.resource_name, change, request.validate_only).await,
            _ => Err(NOT_A_TOPIC),
        };
        let (code, message) = outcome(changed);
        responses.push(
            AlterConfigsResourceResponse::default()
                .with_error_code(code)
                .with_error_message(message)
                .with_resource_type(asked.resource_type)
                .with_resource_name(asked.resource_name),
        );
    }
    encode(head, &AlterConfigsResponse::default().with_responses(responses))
}

pub(super) async fn alter_incrementally(
    context: &Context<'_>,
    head: Head,
    request: IncrementalAlterConfigsRequest,
) -> Result<Reply, Close> {
    let settings = &context.store.settings;
    let mut responses = Vec::with_capacity(request.resources.len());
    for asked in request.resources {
        let change = |mut config: TopicConfig| {
            asked.configs.iter().try_for_each(|entry| change_one(&mut config, entry, settings))?;
            Ok(config)
        };
        let changed = match asked.resource_type {
            TOPIC => context.store.configure(&asked.resource_name, change, request.validate_only).await,
            _ => Err(NOT_A_TOPIC),
        };
        let (code, message) = outcome(changed);
        responses.push(
            IncrementalResponse::default()
                .with_error_code(code)
                .with_error_message(message)
                .with_resource_type(asked.resource_type)
                .with_resource_name(asked.resource_name),
        );
    }
    encode(head, &IncrementalAlterConfigsResponse::default().with_responses(responses))
}

fn change_one(config: &mut TopicConfig, entry: &AlterableConfig, settings: &Settings) -> Result<(), Refusal> {
    match (entry.config_operation, entry.value.as_deref()) {
        (SET, Some(value)) => config.set(&entry.name, Some(value), settings),
        (DELETE, _) => config.set(&entry.name, None, settings),
        _ => Err(Refusal { code: code::INVALID_REQUEST, reason: "a setting is set to a value or deleted" }),
    }
}

fn outcome(changed: Result<(), Refusal>) -> (i16, Option<kafka_protocol::protocol::StrBytes>) {
    changed.map_or_else(|refusal| (refusal.code, Some(text(refusal.reason))), |()| (0, None))
}
