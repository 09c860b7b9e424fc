//! Schemas of the requests of administrators and of consumer groups, for `guard`; from Kafka's `common/message/*Request.json`.

use super::guard::Kind::{Blob, Fixed, Scalars, Structs, Text, Texts};
use super::guard::{Shape, between, field, since, until};

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

/// OffsetCommit (8), up to version 6.
pub(crate) const OFFSET_COMMIT: Shape = Shape::untagged(
    8,
    &[
        field(Text),             // group_id
        since(1, Fixed(4)),      // generation_id
        since(1, Text),          // member_id
        between(2, 4, Fixed(8)), // retention_time_ms
        field(Structs(&[
            field(Text), // name
            // partition_index, committed_offset, committed_leader_epoch, committed_metadata
            field(Structs(&[field(Fixed(4)), field(Fixed(8)), since(6, Fixed(4)), field(Text)])),
        ])),
    ],
);

/// OffsetFetch (9), up to version 9.
pub(crate) const OFFSET_FETCH: Shape = Shape::untagged(
    6,
    &[
        until(7, Text),                                       // group_id
        until(7, Structs(&[field(Text), field(Scalars(4))])), // topics: name, partition_indexes
        since(
            8,
            Structs(&[
                field(Text),                                       // group_id
                since(9, Text),                                    // member_id
                since(9, Fixed(4)),                                // member_epoch
                field(Structs(&[field(Text), field(Scalars(4))])), // topics: name, partition_indexes
            ]),
        ),
        since(7, Fixed(1)), // require_stable
    ],
);

/// JoinGroup (11), up to version 4.
pub(crate) const JOIN_GROUP: Shape = Shape::untagged(
    6,
    &[
        field(Text),                                 // group_id
        field(Fixed(4)),                             // session_timeout_ms
        since(1, Fixed(4)),                          // rebalance_timeout_ms
        field(Text),                                 // member_id
        field(Text),                                 // protocol_type
        field(Structs(&[field(Text), field(Blob)])), // protocols: name, metadata
    ],
);

/// Heartbeat (12), up to version 2: group_id, generation_id, member_id.
pub(crate) const HEARTBEAT: Shape = Shape::untagged(4, &[field(Text), field(Fixed(4)), field(Text)]);

/// LeaveGroup (13), up to version 2: group_id, member_id.
pub(crate) const LEAVE_GROUP: Shape = Shape::untagged(4, &[field(Text), field(Text)]);

/// SyncGroup (14), up to version 2.
pub(crate) const SYNC_GROUP: Shape = Shape::untagged(
    4,
    &[
        field(Text),                                 // group_id
        field(Fixed(4)),                             // generation_id
        field(Text),                                 // member_id
        field(Structs(&[field(Text), field(Blob)])), // assignments: member_id, assignment
    ],
);

/// DescribeGroups (15): groups, include_authorized_operations.
pub(crate) const DESCRIBE_GROUPS: Shape = Shape::untagged(5, &[field(Texts), since(3, Fixed(1))]);

/// ListGroups (16): states_filter, types_filter.
pub(crate) const LIST_GROUPS: Shape = Shape::untagged(3, &[since(4, Texts), since(5, Texts)]);

/// DeleteGroups (42): groups_names.
pub(crate) const DELETE_GROUPS: Shape = Shape::untagged(2, &[field(Texts)]);
