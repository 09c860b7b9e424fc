//! Parts of events that several rooms report: the second in which they are bounded, their client, and texts cut for a line.

use forebay_config::Config;
use forebay_guard::auth::acl::Client;
use forebay_metrics::event::{Event, Field, Kind};
use forebay_metrics::journal::Teller;
use forebay_metrics::spec::{REFUSALS, RefusalReason};
use forebay_runtime::seam::Monotonic;
use forebay_session::ClientKey;

/// The second of the shard's clock, for the bound of events in one.
pub const fn second(now: Monotonic) -> u64 {
    now.0 / 1_000_000_000
}

/// `fate` of a message that all destinations go without.
pub const REJECTED: &str = "rejected";
/// `fate` of a message that its sink goes without.
pub const DROPPED: &str = "dropped";

/// Records a publish that a sink will never take, and its fate. Many of them in a second are counted, not reported.
pub fn publish_refused(
    teller: &mut Teller,
    config: &Config,
    second: u64,
    sink: u16,
    (client, topic): (ClientKey<'_>, &str),
    (reason, fate): (RefusalReason, &'static str),
) {
    teller.tell_of(Kind::PublishRefused, second, client, |event| {
        let sink = config.sinks.get(usize::from(sink));
        let event = of_client(event, Some(client)).maybe(Field::Sink, sink.map(|sink| sink.name.as_str()));
        let event = event.with(Field::MqttTopic, clipped(topic)).with(Field::Reason, REFUSALS[reason as usize].help);
        event.with(Field::Fate, fate)
    });
}

/// Records that a client may not touch a topic, and `rule` as the reason. Many of them are counted, not reported.
pub fn denied(
    teller: &mut Teller,
    second: u64,
    what: &'static str,
    client: ClientKey<'_>,
    identity: Option<&str>,
    topic: &str,
    rule: impl FnOnce() -> Option<String>,
) {
    teller.tell_of(Kind::AclDenied, second, client, |event| {
        let event = of_client(event, Some(client)).maybe(Field::User, identity.map(clipped));
        let event = event.with(Field::MqttTopic, clipped(topic));
        let event = match (Client { identity, client_id: client.client_id }).is_in_no_pattern() {
            Some(why) => event.with(Field::Reason, format!("{what}: {why}")),
            None => event.with(Field::Reason, what),
        };
        event.maybe(Field::Rule, rule().as_deref().map(clipped))
    });
}

/// Adds the client that an event is about, if that is known.
pub fn of_client<'a>(event: Event, client: impl Into<Option<ClientKey<'a>>>) -> Event {
    let Some(client) = client.into() else { return event };
    event.with(Field::Client, clipped(client.client_id)).maybe(Field::Auth, client.auth)
}

/// A client's text of any length, cut for a line.
pub fn clipped(text: &str) -> &str {
    const BYTES_MAX: usize = 256;
    &text[..text.floor_char_boundary(BYTES_MAX)]
}
