//! Schemas of the requests of administrators, for `guard`; from Kafka's `common/message/*Request.json`.

use super::guard::Kind::{Fixed, Scalars, Structs, Text, Texts};
use super::guard::{Shape, field, since, until};

/// DeleteTopics (20).
pub(crate) const DELETE_TOPICS: Shape = Shape::untagged(
    4,
    &[
        since(6, Structs(&[field(Text), field(Fixed(16))])), // name, topic_id
        until(5, Texts),                                     // topic_names
        field(Fixed(4)),                                     // timeout_ms
    ],
);

/// DescribeConfigs (32).
pub(crate) const DESCRIBE_CONFIGS: Shape = Shape::untagged(
    4,
    &[
        field(Structs(&[field(Fixed(1)), field(Text), field(Texts)])), // type, name, keys
        since(1, Fixed(1)),                                            // include_synonyms
        since(3, Fixed(1)),                                            // include_documentation
    ],
);

/// AlterConfigs (33).
pub(crate) const ALTER_CONFIGS: Shape = Shape::untagged(
    2,
    &[
        // type, name, configs: name, value
        field(Structs(&[field(Fixed(1)), field(Text), field(Structs(&[field(Text), field(Text)]))])),
        field(Fixed(1)), // validate_only
    ],
);

/// CreatePartitions (37).
pub(crate) const CREATE_PARTITIONS: Shape = Shape::untagged(
    2,
    &[
        // name, count, assignments: broker ids
        field(Structs(&[field(Text), field(Fixed(4)), field(Structs(&[field(Scalars(4))]))])),
        field(Fixed(4)), // timeout_ms
        field(Fixed(1)), // validate_only
    ],
);

/// IncrementalAlterConfigs (44).
pub(crate) const INCREMENTAL_ALTER_CONFIGS: Shape = Shape::untagged(
    1,
    &[
        // type, name, configs: name, operation, value
        field(Structs(&[field(Fixed(1)), field(Text), field(Structs(&[field(Text), field(Fixed(1)), field(Text)]))])),
        field(Fixed(1)), // validate_only
    ],
);

/// DescribeCluster (60).
pub(crate) const DESCRIBE_CLUSTER: Shape = Shape::untagged(
    0,
    &[
        field(Fixed(1)),    // include_cluster_authorized_operations
        since(1, Fixed(1)), // endpoint_type
        since(2, Fixed(1)), // include_fenced_brokers
    ],
);

/// DescribeProducers (61).
pub(crate) const DESCRIBE_PRODUCERS: Shape = Shape::untagged(0, &[field(Structs(&[field(Text), field(Scalars(4))]))]); // name, partition_indexes
