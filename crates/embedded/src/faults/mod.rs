//! Faults for tests: a log can behave on purpose as a distant Kafka can towards a client.
//!
//! A [`Script`] is a list of [`Step`]s. Every request is compared with them in order; the first step that matches and
//! is not used up decides its fate, and a request that no step matches is served as usual. Faults are for the tests of
//! this repository: no configuration enables them, and a log without a script pays one look at an `Option` per request.

mod apply;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, MetadataRequest, ProduceRequest, RequestHeader};
use kafka_protocol::protocol::Decodable;
use uuid::Uuid;

use crate::store::Store;

pub(crate) use apply::{Scripted, answer};

/// The fault applied to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request is not carried out, and is answered with this Kafka error code (Produce: the partitions that the
    /// step matches; the others are served. Metadata: the topics. InitProducerId: the answer). Produce, Metadata and
    /// InitProducerId only.
    Error(i16),
    /// The request is carried out, and still answered with this code (as 7 and 20 are).
    ErrorAfter(i16),
    /// The request is carried out after this delay: perhaps after its connection was closed.
    Late(Duration),
    /// The request is carried out, and answered after this delay.
    AnswerLate(Duration),
    /// The request is carried out and never answered; the connection stays.
    Silence,
    /// The request is read but not carried out, and the connection is closed.
    Close,
    /// The request is carried out; this number of bytes of the answer is sent (its length field is the first four),
    /// then the connection is closed. 0: no byte is sent.
    CutAnswer(usize),
    /// The answer has a wrong correlation id: the correct one plus this value.
    Correlation(i32),
    /// The answer states this length.
    Length(i32),
    /// The answer has these bytes as its body, correctly framed.
    Garbage(Vec<u8>),
    /// The answer has this `throttle_time_ms`. Produce, Metadata and InitProducerId only.
    Throttle(i32),
    /// The Metadata answer has this address of its broker.
    Broker(String, i32),
    /// The Metadata answer has no leader for any partition of its topics.
    NoLeader,
}

/// A fault, and the requests that it applies to.
#[derive(Clone, Debug)]
pub struct Step {
    api: ApiKey,
    topic: Option<String>,
    partition: Option<i32>,
    spared: u32,
    times: u32,
    fault: Fault,
}

impl Step {
    /// A step for the next request of this kind.
    pub fn new(api: ApiKey, fault: Fault) -> Step {
        Step { api, topic: None, partition: None, spared: 0, times: 1, fault }
    }

    /// Limits the step to requests that name this topic (Produce, Metadata).
    #[must_use]
    pub fn of_topic(mut self, topic: &str) -> Step {
        self.topic = Some(topic.to_owned());
        self
    }

    /// Limits the step to requests that name this partition (Produce).
    #[must_use]
    pub fn of_partition(mut self, partition: i32) -> Step {
        self.partition = Some(partition);
        self
    }

    /// Lets this number of requests pass before the first fault.
    #[must_use]
    pub fn spare(mut self, spared: u32) -> Step {
        self.spared = spared;
        self
    }

    /// Applies the step to this number of requests.
    #[must_use]
    pub fn times(mut self, times: u32) -> Step {
        self.times = times;
        self
    }

    /// Applies the step to all requests, until [`Script::clear`].
    #[must_use]
    pub fn always(self) -> Step {
        self.times(u32::MAX)
    }

    /// Whether the step matches this topic and partition (`None`: the request names none).
    fn is_about(&self, topic: &str, partition: Option<i32>) -> bool {
        self.topic.as_deref().is_none_or(|wanted| wanted == topic)
            && (partition.is_none() || self.partition.is_none() || self.partition == partition)
    }
}

/// The script; clones share it. A test keeps one and gives one to [`super::Settings::faults`].
#[derive(Clone, Debug, Default)]
pub struct Script(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    steps: Vec<Step>,
    seen: HashMap<i16, u64>,
    answer_bytes: HashMap<i16, usize>,
    done: u64,
}

impl Script {
    /// An empty script.
    pub fn new() -> Script {
        Script::default()
    }

    /// Adds a step after the existing ones.
    pub fn add(&self, step: Step) {
        self.state().steps.push(step);
    }

    /// Removes all steps: no further faults occur.
    pub fn clear(&self) {
        self.state().steps.clear();
    }

    /// Number of steps that are not used up.
    pub fn left(&self) -> usize {
        self.state().steps.len()
    }

    /// Number of faults that have happened.
    pub fn done(&self) -> u64 {
        self.state().done
    }

    /// Number of requests of a kind that have arrived.
    pub fn seen(&self, api: ApiKey) -> u64 {
        self.state().seen.get(&(api as i16)).copied().unwrap_or(0)
    }

    /// Length of the last answer to a request of this kind, before any fault was applied. 0: none yet.
    pub fn answer_bytes(&self, api: ApiKey) -> usize {
        self.state().answer_bytes.get(&(api as i16)).copied().unwrap_or(0)
    }

    fn answered(&self, api_key: i16, len: usize) {
        self.state().answer_bytes.insert(api_key, len);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The step for a request, if there is one.
    fn next(&self, asked: &Asked) -> Option<Step> {
        let mut state = self.state();
        *state.seen.entry(asked.api as i16).or_default() += 1;
        let at = state.steps.iter_mut().position(|step| {
            let is_for_it = step.api == asked.api && asked.names_what(step);
            let is_due = is_for_it && step.spared == 0;
            step.spared -= u32::from(is_for_it && !is_due);
            is_due
        })?;
        let step = state.steps[at].clone();
        state.done += 1;
        match step.times {
            u32::MAX => {}
            0 | 1 => drop(state.steps.remove(at)),
            _ => state.steps[at].times -= 1,
        }
        Some(step)
    }
}

/// The topic's name, if a request names it only by id (Produce 13, KIP-516); empty for an unknown id.
fn name_of(store: &Store, name: &str, id: Uuid) -> String {
    if id.is_nil() {
        return name.to_owned();
    }
    store.topic_by_id(id).map(|topic| topic.name.clone()).unwrap_or_default().to_string()
}

/// The attributes of a request that steps can match.
struct Asked {
    api: ApiKey,
    /// Topics, and partitions if the request names them.
    places: Vec<(String, Option<i32>)>,
}

impl Asked {
    /// Reads a request; `None`: this log does not know it.
    fn read(frame: &Bytes, store: &Store) -> Option<Asked> {
        let (api, version) = (frame.get(..2)?, frame.get(2..4)?);
        let api = ApiKey::try_from(i16::from_be_bytes([api[0], api[1]])).ok()?;
        let version = i16::from_be_bytes([version[0], version[1]]);
        let mut body = frame.clone();
        if !matches!(api, ApiKey::Produce | ApiKey::Metadata) {
            return Some(Asked { api, places: Vec::new() });
        }
        RequestHeader::decode(&mut body, api.request_header_version(version)).ok()?;
        let places = if api == ApiKey::Produce {
            let topics = ProduceRequest::decode(&mut body, version).ok()?.topic_data.into_iter();
            let places = topics.map(|topic| {
                let name = name_of(store, &topic.name, topic.topic_id);
                topic.partition_data.into_iter().map(move |data| (name.clone(), Some(data.index)))
            });
            places.flatten().collect()
        } else {
            let topics = MetadataRequest::decode(&mut body, version).ok()?.topics.unwrap_or_default().into_iter();
            topics.filter_map(|topic| Some((topic.name?.to_string(), None))).collect()
        };
        Some(Asked { api, places })
    }

    fn names_what(&self, step: &Step) -> bool {
        (step.topic.is_none() && step.partition.is_none())
            || self.places.iter().any(|(topic, partition)| step.is_about(topic, *partition))
    }
}
