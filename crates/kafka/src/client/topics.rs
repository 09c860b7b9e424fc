//! Wanted topics, and the times at which metadata of each is requested (again). Topics that are due together share a request; the topics of
//! one answer become due together again.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use super::settings::Settings;
use crate::types::TopicMetadata;
use forebay_guard::outward::{Backoff, jittered};
use forebay_runtime::seam::Monotonic;

/// Topics in one request: bounds the answer (1,000 topics of 100 partitions take about 5 MB).
const TOPICS_PER_REQUEST: usize = 1000;

/// The minimum time between two requests; the later one has all topics that became due meanwhile. Topics that are requested repeatedly
/// (they do not exist, or have no leader) become due separately, and share their requests.
const APART: Duration = Duration::from_millis(100);
/// Number of requests for news (a topic requested for the first time, a leader that has moved) that need no minimum distance from those
/// before them, if there were none for a while.
const AT_ONCE: u32 = 32;

/// INVALID_TOPIC_EXCEPTION: asking again does not help.
pub(super) const INVALID_TOPIC: i16 = 17;

#[derive(Debug)]
struct Topic {
    /// Time of the next request; the topic is in `Topics::due` under this time, unless it is being requested.
    due: Monotonic,
    /// The time before which the topic is not requested again, even if it is wanted.
    not_before: Monotonic,
    /// Whether the topic is in an unanswered request.
    asking: bool,
    /// Whether the topic was wanted since it was last complete: the request may create it.
    create: bool,
    /// The users of the topic.
    by: By,
    backoff: Backoff,
}

/// The users of a topic: sinks that write it, sources that read it, or both.
#[derive(Clone, Copy, Debug, Default)]
struct By {
    sinks: bool,
    sources: bool,
}

/// The topics.
#[derive(Debug)]
pub(super) struct Topics {
    known: BTreeMap<Rc<str>, Topic>,
    due: BTreeSet<(Monotonic, Rc<str>)>,
    /// The time to request the brokers even if no topic is due.
    cluster_due: Monotonic,
    cluster_not_before: Monotonic,
    /// The earliest time for another request, [`APART`] from the last one; `news_apart_at`: the same, counted over the requests with news.
    apart_at: Monotonic,
    news_apart_at: Monotonic,
    /// Whether some of the due topics are news.
    has_news: bool,
}

impl Topics {
    /// Creates a state in which nothing is wanted; the brokers are due at once.
    pub(super) fn new() -> Self {
        Self {
            known: BTreeMap::new(),
            due: BTreeSet::new(),
            cluster_due: Monotonic(0),
            cluster_not_before: Monotonic(0),
            apart_at: Monotonic(0),
            news_apart_at: Monotonic(0),
            has_news: false,
        }
    }

    /// Wants a topic for a sink: it is requested as soon as its backoff allows, and created if it does not exist.
    pub(super) fn want(&mut self, name: &Rc<str>, now: Monotonic) {
        let topic = self.ask(name, now);
        (topic.create, topic.by.sinks) = (true, true);
    }

    /// Wants a topic for a source: the request does not create it.
    pub(super) fn watch(&mut self, name: &Rc<str>, now: Monotonic) {
        self.ask(name, now).by.sources = true;
    }

    fn ask(&mut self, name: &Rc<str>, now: Monotonic) -> &mut Topic {
        if let Some(topic) = self.known.get_mut(name) {
            ask_at(&mut self.due, name, topic, now);
        } else {
            self.due.insert((now, Rc::clone(name)));
            self.has_news = true;
        }
        self.known.entry(Rc::clone(name)).or_insert_with(|| Topic {
            due: now,
            not_before: now,
            asking: false,
            create: false,
            by: By::default(),
            backoff: Backoff::default(),
        })
    }

    /// Forgets a topic that no sink writes any more.
    pub(super) fn forget(&mut self, name: &str) {
        if let Some(topic) = self.known.get_mut(name) {
            (topic.by.sinks, topic.create) = (false, false);
        }
        self.drop_unused(name);
    }

    /// Forgets a topic that no source reads any more.
    pub(super) fn unwatch(&mut self, name: &str) {
        if let Some(topic) = self.known.get_mut(name) {
            topic.by.sources = false;
        }
        self.drop_unused(name);
    }

    fn drop_unused(&mut self, name: &str) {
        if self.known.get(name).is_some_and(|topic| !topic.by.sinks && !topic.by.sources)
            && let Some((name, topic)) = self.known.remove_entry(name)
        {
            self.due.remove(&(topic.due, name));
        }
    }

    /// Makes all topics due again, as soon as each topic's backoff allows: all known metadata may be wrong.
    pub(super) fn refresh(&mut self, now: Monotonic) {
        for (name, topic) in &mut self.known {
            ask_at(&mut self.due, name, topic, now);
        }
        self.cluster_due = self.cluster_due.min(now.max(self.cluster_not_before));
        self.has_news = true;
    }

    /// Makes a topic due again: its known metadata may be wrong.
    pub(super) fn recheck(&mut self, name: &Rc<str>, now: Monotonic) {
        if let Some(topic) = self.known.get_mut(name) {
            ask_at(&mut self.due, name, topic, now);
        }
    }

    /// The time at which something is due, and may be requested.
    pub(super) fn next_due(&self) -> Monotonic {
        let due = self.due.first().map_or(self.cluster_due, |(due, _)| self.cluster_due.min(*due));
        let at_once = u64::try_from(((AT_ONCE - 1) * APART).as_nanos()).unwrap_or(u64::MAX);
        let news_at = Monotonic(self.news_apart_at.0.saturating_sub(at_once));
        due.max(if self.has_news { self.apart_at.min(news_at) } else { self.apart_at })
    }

    /// The topics of the next request, sorted, and whether it may create them. Empty topics: the brokers alone.
    pub(super) fn take_due(&mut self, now: Monotonic) -> Option<(Vec<Rc<str>>, bool)> {
        if self.next_due() > now {
            return None;
        }
        self.apart_at = now.after(APART);
        if std::mem::take(&mut self.has_news) {
            self.news_apart_at = self.news_apart_at.max(now).after(APART);
        }
        let mut create = None;
        let mut names = Vec::new();
        for (_, name) in self.due.iter().take_while(|(due, _)| *due <= now) {
            // One flag applies to a whole request: topics with another flag than the first wait for the next one.
            let Some(topic) = self.known.get_mut(name) else { continue };
            if *create.get_or_insert(topic.create) == topic.create {
                topic.asking = true;
                names.push(Rc::clone(name));
                if names.len() == TOPICS_PER_REQUEST {
                    break;
                }
            }
        }
        for name in &names {
            if let Some(topic) = self.known.get(name) {
                self.due.remove(&(topic.due, Rc::clone(name)));
            }
        }
        names.sort_unstable();
        // Every answer has the brokers.
        self.cluster_due = Monotonic::NEVER;
        Some((names, create.unwrap_or(false)))
    }

    /// Takes an answer. Incomplete topics (an error, a partition without leader, missing) are requested again automatically,
    /// with backoff; the rest at `metadata_max_age`.
    pub(super) fn answered(
        &mut self,
        asked: &[Rc<str>],
        answers: &[Option<TopicMetadata>],
        by: &Settings,
        rng: &mut fastrand::Rng,
        now: Monotonic,
    ) {
        let old = jittered(by.metadata_max_age, rng);
        let pause = jittered(by.metadata_min_age, rng).max(by.metadata_min_age);
        // A broker is probed, if nothing else is requested before.
        self.cluster_due = now.after(old.min(by.health_check_interval));
        self.cluster_not_before = now.after(pause);
        for (name, answer) in asked.iter().zip(answers) {
            let Some(topic) = self.known.get_mut(name).filter(|topic| topic.asking) else { continue };
            topic.asking = false;
            let (due, not_before) = match answer {
                Some(answer) if answer.error == 0 && answer.leaders.iter().all(Option::is_some) => {
                    topic.create = false;
                    topic.backoff.reset();
                    (old, pause)
                }
                Some(answer) if answer.error == INVALID_TOPIC => (old, by.retry_backoff_max),
                _ => {
                    let wait = topic.backoff.next(by.metadata(), rng).max(by.metadata_min_age);
                    (wait, wait)
                }
            };
            self.schedule(name, due, not_before, now);
        }
    }

    /// Makes the topics of an unanswered request due again, and the brokers, on the next connection as soon as it is established.
    pub(super) fn unanswered(&mut self, asked: &[Rc<str>], now: Monotonic) {
        (self.cluster_due, self.apart_at) = (now, now);
        for name in asked {
            if let Some(topic) = self.known.get_mut(name).filter(|topic| topic.asking) {
                topic.asking = false;
                self.schedule(name, Duration::ZERO, Duration::ZERO, now);
            }
        }
    }

    fn schedule(&mut self, name: &Rc<str>, due: Duration, not_before: Duration, now: Monotonic) {
        if let Some(topic) = self.known.get_mut(name) {
            topic.due = now.after(due);
            topic.not_before = now.after(not_before);
            self.due.insert((topic.due, Rc::clone(name)));
        }
    }
}

/// Moves a topic's request forward to `now`, or to the end of its backoff. A topic that is being requested is left alone.
fn ask_at(due: &mut BTreeSet<(Monotonic, Rc<str>)>, name: &Rc<str>, topic: &mut Topic, now: Monotonic) {
    let at = now.max(topic.not_before);
    if !topic.asking && at < topic.due {
        due.remove(&(topic.due, Rc::clone(name)));
        topic.due = at;
        due.insert((at, Rc::clone(name)));
    }
}
