//! A real Apache Kafka for tests, through `scripts/kafka`.

use std::path::PathBuf;
use std::process::Command;

/// Bootstrap address of the Kafka that scripts/test has started for all tests. Topics in it are shared too: take a name of your own.
pub fn shared() -> String {
    std::env::var("FOREBAY_TEST_KAFKA").unwrap_or_else(|_| {
        panic!("this test needs a real Kafka: run scripts/test integration, or FOREBAY_TEST_KAFKA=$(scripts/kafka start) cargo test")
    })
}

/// A cluster of the test's own, which it may stop, freeze and kill. Dropping it stops it and removes its data.
pub struct Kafka {
    dir: tempfile::TempDir,
    bootstrap: String,
}

impl Kafka {
    /// Starts it; `options` are those of `scripts/kafka start`, such as `["--brokers", "3"]`.
    pub fn start(options: &[&str]) -> Self {
        let dir = super::temp_dir();
        let bootstrap = super::run(script("start").args(options).arg("--dir").arg(dir.path().join("kafka")));
        Self { dir, bootstrap: bootstrap.trim().to_owned() }
    }

    /// `host:port` of all brokers, with commas between.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Any other command of `scripts/kafka` on this cluster, such as `["stop"]`, `["start"]`, `["freeze", "1"]`; returns what it printed.
    pub fn command(&self, arguments: &[&str]) -> String {
        let (name, rest) = arguments.split_first().expect("a command");
        super::run(script(name).args(rest).arg("--dir").arg(self.dir.path().join("kafka")))
    }

    /// Makes a topic, on this cluster.
    pub fn create_topic(&self, name: &str, partitions: u32) {
        self.command(&["topics", "create", name, "--partitions", &partitions.to_string()]);
    }

    /// Adds an ACL on a topic for everyone who comes in plain text: `how` is `"--deny-principal"` or `"--allow-principal"`.
    pub fn add_acl(&self, how: &str, operation: &str, topic: &str) {
        self.add(&[how, "User:ANONYMOUS", "--operation", operation, "--topic", topic]);
    }

    /// The same on a group.
    pub fn add_group_acl(&self, how: &str, operation: &str, group: &str) {
        self.add(&[how, "User:ANONYMOUS", "--operation", operation, "--group", group]);
    }

    /// The same on all groups with this prefix.
    pub fn add_groups_acl(&self, how: &str, operation: &str, prefix: &str) {
        let of = ["--group", prefix, "--resource-pattern-type", "prefixed"];
        self.add(&[&[how, "User:ANONYMOUS", "--operation", operation][..], &of].concat());
    }

    /// The same on all transactional ids with this prefix.
    pub fn add_transactions_acl(&self, how: &str, operation: &str, prefix: &str) {
        let of = ["--transactional-id", prefix, "--resource-pattern-type", "prefixed"];
        self.add(&[&[how, "User:ANONYMOUS", "--operation", operation][..], &of].concat());
    }

    fn add(&self, acl: &[&str]) {
        let tool = ["tool", "org.apache.kafka.tools.AclCommand", "--bootstrap-server", self.bootstrap(), "--add"];
        self.command(&[&tool[..], acl].concat());
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        let done = script("stop").arg("--delete").arg("--dir").arg(self.dir.path().join("kafka")).status();
        if !done.is_ok_and(|status| status.success()) {
            eprintln!("a Kafka in {} could not be stopped", self.dir.path().display());
        }
    }
}

fn script(command: &str) -> Command {
    let script =
        std::env::var_os("FOREBAY_KAFKA_SCRIPT").map_or_else(|| super::root().join("scripts/kafka"), PathBuf::from);
    let mut process = super::command(script);
    process.arg(command);
    process
}
