//! The past that a subscription asks for: where its messages begin, and which topics of `[broker]` may have some; and the topics of messages to come.

use forebay_config::{Broker, Config, OffsetReset, place_in_log};
use forebay_kafka::consumer::{Place, Start};
use forebay_mqtt::route::filter;
use forebay_mqtt::topic;
use forebay_runtime::seam::WallMs;
use forebay_session::SubscriptionRefused;

use super::delivery::gates::Topics;

/// A part of the past.
#[derive(Debug)]
pub(crate) struct Past {
    /// The offset or time from which each partition is read.
    pub(crate) start: Start,
    /// Topics of `[broker]`, by their indexes among those of its source.
    pub(crate) topics: Topics,
}

/// The past that a client asks for with a filter and these words.
///
/// # Errors
/// The reason why there is none.
pub(crate) fn past(config: &Config, filter: &str, from: &str, now: WallMs) -> Result<Past, SubscriptionRefused> {
    let Some(broker) = &config.broker else { return Err(SubscriptionRefused::REPLAY_WITHOUT_KAFKA) };
    if topic::is_shared(filter) {
        return Err(SubscriptionRefused::REPLAY_SHARED);
    }
    // A filter with two places is refused.
    let start = start(from, now).filter(|_| topic::split_replay(filter).is_none());
    // A record of the past is in the topic that its message went to by the routes of that time.
    let topics = (0..).zip(broker.topics()).map(|(at, _)| at).collect();
    Ok(Past { start: start.ok_or(SubscriptionRefused::REPLAY_FROM)?, topics })
}

/// The place that the words of a client mean: a time, an age, `earliest` or `offset:N`.
fn start(from: &str, now: WallMs) -> Option<Start> {
    if let Some(offset) = from.strip_prefix("offset:") {
        let offset = offset.parse().ok().filter(|offset| *offset >= 0)?;
        return Some(Start::Offset { offset, leader_epoch: -1 });
    }
    Some(Start::At(match place_in_log(from).ok()? {
        OffsetReset::Earliest => Place::Earliest,
        OffsetReset::At(ms) => Place::Time(ms),
        OffsetReset::Ago(age) => {
            Place::Time(now.0.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)).max(0))
        }
        // `latest` is a subscription without a past.
        OffsetReset::Latest => return None,
    }))
}

/// The topics that messages go to, by the routes of today, that a filter matches. A route that makes its own MQTT topics may have any.
pub fn topics(broker: &Broker, wanted: &str) -> Topics {
    let may_have = |filters: &[String]| filters.iter().any(|filter| filter::overlap(filter, wanted));
    let is_taken =
        || broker.routes.iter().flat_map(|route| &route.filters).any(|filter| filter::covers(filter, wanted));
    let is_meant = |(_, (_, route)): &(u16, (&str, Option<&forebay_config::BrokerRoute>))| match route {
        Some(route) => route.mqtt_topic.to_string() != "${key}" || may_have(&route.filters),
        None => !is_taken() && filter::overlap("#", wanted),
    };
    (0..).zip(broker.topics()).filter(is_meant).map(|(at, _)| at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallMs = WallMs(1_800_000_000_000);

    fn config(more: &str) -> Config {
        let text = format!("[kafka.main]\nbootstrap = 'k:1'\n{more}");
        forebay_config::parse(&text, "test").unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn broker() -> Config {
        config(
            "[broker]\n[[broker.route]]\nfilters = ['place/+/device/#']\ntopic = 'devices'\n[[broker.route]]\nfilters = 'raw/#'\ntopic = 'raw'\n\
             mqtt_topic = 'from/${key}'\n",
        )
    }

    fn asked(config: &Config, filter: &str, from: &str) -> Result<Start, SubscriptionRefused> {
        past(config, filter, from, NOW).map(|past| past.start)
    }

    #[test]
    fn a_past_begins_at_a_time_an_age_an_offset_or_the_first_record() {
        let config = broker();
        let at = |place| Ok(Start::At(place));
        for (from, start) in [
            ("earliest", at(Place::Earliest)),
            ("2026-11-26T10:00:00Z", at(Place::Time(1_795_687_200_000))),
            ("2026-11-26T12:00:00.5+02:00", at(Place::Time(1_795_687_200_500))),
            ("-1h", at(Place::Time(NOW.0 - 3_600_000))),
            ("-90m", at(Place::Time(NOW.0 - 5_400_000))),
            ("offset:0", Ok(Start::Offset { offset: 0, leader_epoch: -1 })),
            ("offset:1234", Ok(Start::Offset { offset: 1234, leader_epoch: -1 })),
        ] {
            assert_eq!(asked(&config, "a/#", from), start, "{from}");
        }
        for from in
            ["", "latest", "1h", "-1 hour", "yesterday", "2026-11-26", "offset:", "offset:-1", "offset:x", "#", "+"]
        {
            assert_eq!(asked(&config, "a/#", from), Err(SubscriptionRefused::REPLAY_FROM), "{from}");
        }
        assert_eq!(asked(&config, "$replay/-1h/a", "-1h"), Err(SubscriptionRefused::REPLAY_FROM));
        assert_eq!(asked(&config, "$share/g/a", "-1h"), Err(SubscriptionRefused::REPLAY_SHARED));
        let without = self::config("[[sink]]\nname = 's'\nfilters = '#'\ntopic = 't'\n");
        assert_eq!(asked(&without, "a", "-1h"), Err(SubscriptionRefused::REPLAY_WITHOUT_KAFKA));
    }

    #[test]
    fn finding_q7_topics_of_other_routes_may_have_some_of_it() {
        let config = broker();
        assert_eq!(past(&config, "raw/7", "-1h", NOW).expect("a past").topics[..], [0, 1, 2]);
        let broker = config.broker.as_ref().expect("[broker]");
        // The second topic may have any message, as its messages get topics of their own.
        for (filter, topics) in [
            ("#", &[0, 1, 2][..]),
            ("place/#", &[0, 1, 2]),
            ("place/+/device/lamp", &[0, 1]),
            ("place/7/device/#", &[0, 1]),
            ("place/7", &[1, 2]),
            ("other/+", &[1, 2]),
            ("$SYS/#", &[1]),
        ] {
            assert_eq!(super::topics(broker, filter)[..], *topics, "{filter}");
        }
    }
}
