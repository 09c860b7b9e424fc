//! Faults that a test asks for: what a Kafka far away can do to a client, done by the log on purpose.
//!
//! A [`Script`] is a list of [`Step`]s. Every request is held against it in order; the first step that is about it and
//! is not used up decides its fate, and a request that no step is about is served as ever. It is for the tests of this
//! repository: no configuration leads here, and a log without a script pays one look at an `Option` a request.

mod apply;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, MetadataRequest, ProduceRequest, RequestHeader};
use kafka_protocol::protocol::Decodable;
use uuid::Uuid;

use crate::embedded::store::Store;

pub(crate) use apply::{Scripted, answer};

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not carried out, and answered with this Kafka error code (Produce: the partitions that the step is about; the
    /// others are served. Metadata: the topics. InitProducerId: the answer). Produce, Metadata and InitProducerId only.
    Error(i16),
    /// Carried out, and answered with this code all the same (as 7 and 20 are).
    ErrorAfter(i16),
    /// Carried out this much later: perhaps after its connection has been given up.
    Late(Duration),
    /// Carried out, and answered this much later.
    AnswerLate(Duration),
    /// Carried out and never answered; the connection stays.
    Silence,
    /// Read, not carried out, and the connection closed.
    Close,
    /// Carried out; this many bytes of the answer go out (its length field is the first four), then the connection is
    /// closed. 0: the answer is dropped.
    CutAnswer(usize),
    /// The answer carries another correlation id: the right one and this much.
    Correlation(i32),
    /// The answer announces this length.
    Length(i32),
    /// These bytes stand where the answer's body should, framed as they must be.
    Garbage(Vec<u8>),
    /// The answer asks for this much patience (`throttle_time_ms`). Produce, Metadata and InitProducerId only.
    Throttle(i32),
    /// Metadata that says this of where its broker is.
    Broker(String, i32),
    /// Metadata in which no partition of its topics has a leader.
    NoLeader,
}

/// A fault, and the requests that it is for.
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
    /// For one request of this kind: the next one.
    pub fn new(api: ApiKey, fault: Fault) -> Step {
        Step { api, topic: None, partition: None, spared: 0, times: 1, fault }
    }

    /// Only for requests that name this topic (Produce, Metadata).
    #[must_use]
    pub fn of_topic(mut self, topic: &str) -> Step {
        self.topic = Some(topic.to_owned());
        self
    }

    /// Only for requests that name this partition (Produce).
    #[must_use]
    pub fn of_partition(mut self, partition: i32) -> Step {
        self.partition = Some(partition);
        self
    }

    /// Lets that many requests by before the first.
    #[must_use]
    pub fn spare(mut self, spared: u32) -> Step {
        self.spared = spared;
        self
    }

    /// For that many requests.
    #[must_use]
    pub fn times(mut self, times: u32) -> Step {
        self.times = times;
        self
    }

    /// For all requests, until [`Script::clear`].
    #[must_use]
    pub fn always(self) -> Step {
        self.times(u32::MAX)
    }

    /// Whether it is about this topic and partition (`None`: the request names none).
    fn is_about(&self, topic: &str, partition: Option<i32>) -> bool {
        self.topic.as_deref().is_none_or(|wanted| wanted == topic)
            && (partition.is_none() || self.partition.is_none() || self.partition == partition)
    }
}

/// The script; its copies are one and the same. A test keeps one and gives one to [`super::Settings::faults`].
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

    /// Adds a step after those that are there.
    pub fn add(&self, step: Step) {
        self.state().steps.push(step);
    }

    /// Forgets all steps: from now on all is well.
    pub fn clear(&self) {
        self.state().steps.clear();
    }

    /// Steps that are not used up.
    pub fn left(&self) -> usize {
        self.state().steps.len()
    }

    /// Faults that have happened.
    pub fn done(&self) -> u64 {
        self.state().done
    }

    /// Requests of a kind that have come.
    pub fn seen(&self, api: ApiKey) -> u64 {
        self.state().seen.get(&(api as i16)).copied().unwrap_or(0)
    }

    /// Length of the last answer to a request of this kind, before anything was done to it. 0: none yet.
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

/// The topic's name, where a request names it by id only (Produce 13, KIP-516); empty for an id that nobody has.
fn name_of(store: &Store, name: &str, id: Uuid) -> String {
    if id.is_nil() {
        return name.to_owned();
    }
    store.topic_by_id(id).map(|topic| topic.name.clone()).unwrap_or_default().to_string()
}

/// What a request is about, as far as steps can tell requests apart.
struct Asked {
    api: ApiKey,
    /// Topics, and partitions where the request names them.
    places: Vec<(String, Option<i32>)>,
}

impl Asked {
    /// Reads it; `None`: not a request that this log knows.
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
