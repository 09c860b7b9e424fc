//! The service as devices, operators and Kafka clients meet it: the built program, driven over sockets and signals,
//! its records read back by a Kafka client that shares no code with it.
//!
//! Waiting is always for a thing to happen, with a deadline that only a failure reaches.

mod admin;
mod answers;
mod api;
mod api_access;
mod auth;
mod auth_gone;
mod auth_mosquitto;
mod away;
mod change;
mod check;
mod comings;
mod command_line;
mod connect;
mod control_bounds;
mod control_tls;
mod crash;
mod crowd;
mod dashboard;
mod dead_letters;
mod delivery;
mod device;
mod drain;
mod faults;
mod faults_cut;
mod full;
mod hand_over;
#[path = "../support/hello.rs"]
mod hello;
mod idle;
mod import;
#[path = "../../src/embedded/tests/client.rs"]
mod kafka_client;
mod kafka_mocks;
mod kafka_tls;
mod kafka_tokens;
mod kept;
mod limits;
mod listeners;
#[path = "../malformed/mod.rs"]
mod malformed;
mod migrating;
mod modes;
mod oldest;
mod operators;
mod overrides;
mod paho;
mod passwords;
mod process;
mod proxy_protocol;
mod queues;
mod rebuilt;
mod receipts;
mod records;
mod refusals;
mod reload;
mod republish;
mod retained;
mod roles;
mod rule_events;
mod rule_past;
mod rules;
mod rules_admin;
mod rules_sources;
mod sandbox;
mod sasl;
mod scram;
mod settings_kafka;
mod settings_sink;
mod settings_source;
mod shares;
mod sources;
mod sources_admin;
mod sources_dead_letters;
mod sources_found;
mod sources_mapping;
mod sources_rows;
mod sources_slow;
mod spool_start;
mod subscribe;
#[path = "../support/mod.rs"]
mod support;
mod surface;
mod takeover;
mod telemetry;
mod tls;
mod tokens;
mod told;
mod troubleshooting;
mod unix_socket;
mod verdicts;
mod websocket;
mod wills;
mod wire;
