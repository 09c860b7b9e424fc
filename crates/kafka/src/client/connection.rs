//! One established connection: requests out with correlation ids, answers in, in order. It owns no socket; it knows the unanswered requests
//! and their deadlines.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::answer::{self, Metadata, ProducerIdAnswer};
use super::api::{self, Call, Negotiated, Versions};
use super::ask::Search;
use super::fetch_request;
use super::fetched;
use super::frame::Frames;
use super::log::{self, LogAnswer};
use super::login::{self, Authenticated, Standing};
use super::produce;
use super::request::{self, Head};
use super::settings::Settings;
use super::wire::{Malformed, Read, Reader};
use super::{Effect, Owner, Shared, coordinator_answer, coordinator_request};
use crate::coordination::Request;
use crate::fetch::{FetchAnswer, FetchAsk, FetchCall};
use crate::types::{ClientEvent, ProduceBatch, ProduceRequest, ProduceResult};
use forebay_guard::outward::{Connected, LinkId};
use forebay_guard::secure::Outgoing;
use forebay_runtime::seam::{Chunk, Monotonic};

/// Maximum throttle time honored. Apache Kafka's own are seconds.
const THROTTLE_MAX: Duration = Duration::from_secs(300);

/// Round trips that an answer may take beyond the minimum silence: one for the answer, and some that TCP may lose.
const ROUND_TRIPS: u32 = 4;

/// The result of sending a request, with the reason if it cannot be sent.
type Sent = Result<(), String>;

/// The reason for a broker that does not support the calls of a login.
const NO_SASL: &str = "it does not support SASL as Kafka 1.0 and later do";

/// The data of a request that is needed to read its answer, or to report that there is none.
#[derive(Debug)]
pub(super) enum Asked {
    /// ApiVersions.
    ApiVersions,
    /// Metadata of these topics, sorted.
    Metadata(Vec<Rc<str>>),
    /// InitProducerId for this token.
    ProducerId(u64),
    /// Produce: the request's id and its batches.
    Produce(u64, Vec<ProduceBatch>),
    /// The next step of a search in a log.
    Log(Box<Search>),
    /// A request of the consumer.
    Fetch(Box<FetchCall>),
    /// SaslHandshake.
    SaslHandshake,
    /// SaslAuthenticate.
    SaslAuthenticate,
    /// A request of a member of a group.
    Member(Box<Request>),
}

/// An answer that was read.
#[derive(Debug)]
pub(super) enum Answer {
    /// The answer to ApiVersions.
    ApiVersions(Negotiated),
    /// The answer to Metadata.
    Metadata(Metadata),
    /// The answer to InitProducerId.
    ProducerId(ProducerIdAnswer),
    /// The answer to Produce.
    Produced(Vec<ProduceResult>, i32),
    /// The answer to a step of a search.
    Log(LogAnswer, i32),
    /// The answer to a request of the consumer.
    Fetch(FetchAnswer, i32),
    /// The answer to SaslHandshake: an error code, and the mechanisms that the broker supports.
    SaslHandshake(i16, String),
    /// The answer to SaslAuthenticate.
    SaslAuthenticate(Authenticated),
    /// The answer to a request of a member of a group.
    Member(coordinator_answer::Told),
}

impl Answer {
    /// How long the broker asks for a pause, in ms.
    pub(super) fn throttle_ms(&self) -> i32 {
        match self {
            Self::ApiVersions(Negotiated::Settled(_, throttle_ms))
            | Self::Produced(_, throttle_ms)
            | Self::Log(_, throttle_ms)
            | Self::Fetch(_, throttle_ms) => *throttle_ms,
            Self::ApiVersions(_) | Self::SaslHandshake(..) | Self::SaslAuthenticate(_) => 0,
            Self::Metadata(metadata) => metadata.throttle_ms,
            Self::ProducerId(answer) => answer.throttle_ms,
            Self::Member(told) => told.throttle_ms,
        }
    }
}

/// A request that waits for its answer.
#[derive(Debug)]
struct Waiting {
    correlation: i32,
    api: Call,
    version: i16,
    patience: Duration,
    /// The part of the patience that is not for the bytes of the request.
    grace: Duration,
    asked: Asked,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    /// The connection's name.
    pub(super) link: LinkId,
    /// Bytes of an incomplete answer.
    pub(super) frames: Frames,
    /// The settled versions; `None` while they are being settled.
    pub(super) versions: Option<Versions>,
    /// The state of the login.
    pub(super) standing: Standing,
    next_correlation: i32,
    waiting: VecDeque<Waiting>,
    /// Time at which the broker began to handle the oldest request.
    head_since: Monotonic,
    /// End of the pause that the broker asks for (KIP-219).
    pub(super) throttled_until: Monotonic,
    /// Consecutive connections of this channel that were closed for silence: each doubles the time that a peer may be silent.
    silences: u32,
    /// The time that the first answer took: at least one round trip.
    round_trip: Duration,
    /// Bytes of all requests sent so far.
    handed: u64,
    /// How many of these bytes the peer's kernel had when the oldest request was overdue.
    taken: Option<u64>,
    /// Time at which `taken` last grew.
    moved_at: Monotonic,
}

impl Connected for Connection {
    type Settings = Settings;
    type Owner = Owner;
    type Event = ClientEvent;

    fn begin(link: LinkId, tls: Option<Arc<Outgoing>>, silences: u32) -> Self {
        Self {
            link,
            frames: Frames::default(),
            versions: None,
            standing: Standing::over(tls),
            next_correlation: 0,
            waiting: VecDeque::new(),
            head_since: Monotonic(0),
            throttled_until: Monotonic(0),
            silences,
            round_trip: Duration::ZERO,
            handed: 0,
            taken: None,
            moved_at: Monotonic(0),
        }
    }

    /// The time at which the oldest request, or the task of a login, has waited too long.
    fn deadline(&self) -> Monotonic {
        match self.waiting.front() {
            Some(head) => self.head_since.after(head.patience).max(self.moved_at.after(head.grace)),
            None => self.standing.deadline(),
        }
    }

    fn overdue(&self) -> &'static str {
        match self.versions {
            None => "no answer to ApiVersions in time",
            Some(_) if self.standing.login.is_some() => "the SASL login was not finished in time",
            Some(_) => "timed out",
        }
    }

    fn is_moving(&mut self, unacked: usize, now: Monotonic) -> bool {
        let taken = self.handed.saturating_sub(unacked as u64);
        let moving = self.taken.map_or(unacked > 0, |before| taken > before);
        if moving {
            (self.taken, self.moved_at) = (Some(taken), now);
        }
        moving
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl Connection {
    /// The number of unanswered requests.
    pub(super) fn in_flight(&self) -> usize {
        self.waiting.len()
    }

    /// The id of the oldest unanswered request if it is a Produce.
    pub(super) fn produce_before_it(&self) -> Option<u64> {
        match self.waiting.front()?.asked {
            Asked::Produce(id, _) => Some(id),
            _ => None,
        }
    }

    /// The earliest time for another request, with `in_flight_max` in flight at most; `NEVER`: an answer has to arrive first.
    pub(super) fn send_at(&self, in_flight_max: usize) -> Monotonic {
        if self.standing.holds_requests() || self.in_flight() >= in_flight_max {
            return Monotonic::NEVER;
        }
        self.throttled_until
    }

    /// The time at which the login needs renewal, or the connection replacement.
    pub(super) fn renew_at(&self) -> Monotonic {
        self.standing.renew_at(self.in_flight(), self.throttled_until)
    }

    /// How long the peer may be silent on a request, beyond the time that the request itself needs: short at first, and longer each time
    /// that proved too short, so that a frozen broker costs little and a slow one is waited for.
    fn grace(&self, shared: &Shared, most: Duration) -> Duration {
        let first = shared.settings.silence_min + ROUND_TRIPS * self.round_trip;
        first.saturating_mul(1 << self.silences.min(16)).min(most)
    }

    /// The unanswered requests, oldest first, to report that no answer will arrive.
    pub(super) fn into_unanswered(self) -> impl Iterator<Item = Asked> {
        self.waiting.into_iter().map(|waiting| waiting.asked)
    }

    /// Asks for the broker's versions.
    pub(super) fn ask_versions(&mut self, version: i16, shared: &mut Shared, now: Monotonic) -> Sent {
        let frame = request::api_versions(self.head(shared), version);
        let grace = self.grace(shared, shared.settings.outward.connect_timeout);
        self.send_small(frame, (Call::ApiVersions, version), Asked::ApiVersions, grace, shared, now)
    }

    /// Asks the broker for a login by this mechanism.
    pub(super) fn ask_handshake(&mut self, mechanism: &'static str, shared: &mut Shared, now: Monotonic) -> Sent {
        let version = self.versions.and_then(|versions| versions.sasl_handshake).ok_or(NO_SASL)?;
        let frame = request::sasl_handshake(self.head(shared), version, mechanism);
        let grace = shared.settings.outward.connect_timeout;
        self.send_small(frame, (Call::SaslHandshake, version), Asked::SaslHandshake, grace, shared, now)
    }

    /// Sends the next message of a login.
    pub(super) fn ask_authenticate(&mut self, message: Vec<u8>, shared: &mut Shared, now: Monotonic) -> Sent {
        let version = self.versions.and_then(|versions| versions.sasl_authenticate).ok_or(NO_SASL)?;
        let frame = request::sasl_authenticate(self.head(shared), version, message);
        let grace = shared.settings.outward.connect_timeout;
        self.send_small(frame, (Call::SaslAuthenticate, version), Asked::SaslAuthenticate, grace, shared, now)
    }

    /// Asks for metadata; `topics` are sorted.
    pub(super) fn ask_metadata(
        &mut self,
        topics: Vec<Rc<str>>,
        create: bool,
        shared: &mut Shared,
        now: Monotonic,
    ) -> Sent {
        let version = self.versions.ok_or("its versions are not known")?.metadata;
        let frame = request::metadata(self.head(shared), version, &topics, create);
        let grace = self.grace(shared, shared.settings.request_timeout);
        self.send_small(frame, (Call::Metadata, version), Asked::Metadata(topics), grace, shared, now)
    }

    /// Asks for a producer id.
    pub(super) fn ask_producer_id(&mut self, token: u64, shared: &mut Shared, now: Monotonic) -> Sent {
        let version = self.versions.ok_or("its versions are not known")?.init_producer_id;
        let frame = request::init_producer_id(self.head(shared), version);
        let grace = self.grace(shared, shared.settings.request_timeout);
        self.send_small(frame, (Call::InitProducerId, version), Asked::ProducerId(token), grace, shared, now)
    }

    /// Sends a Produce request. `false`: it is larger than the protocol allows.
    #[must_use = "false: the request could not be encoded"]
    pub(super) fn produce(&mut self, request: ProduceRequest, shared: &mut Shared, now: Monotonic) -> bool {
        let Some(versions) = self.versions else { return false };
        let version = produce::version_for(versions.produce, &request.batches);
        let Some((chunks, bytes)) = produce::request(self.head(shared), version, &request) else { return false };
        let by = &shared.settings;
        let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
        let on_the_wire = Duration::from_millis(bytes as u64 * 1000 / u64::from(by.link_bytes_s_min.max(1)));
        let grace = self.grace(shared, by.request_timeout).saturating_add(timeout);
        if request.acks == 0 {
            // A request with acks=0 has no answer, so nothing waits; it uses a correlation id all the same.
            self.next_correlation = following(self.next_correlation);
        } else {
            let patience = (grace, on_the_wire);
            self.wait((Call::Produce, version), Asked::Produce(request.id, request.batches), patience, now);
        }
        self.handed += bytes as u64;
        shared.effects.push(Effect::Send { link: self.link, chunks });
        true
    }

    /// Sends the next step of a search, which the connection keeps until the answer.
    ///
    /// # Errors
    /// The search, if the broker does not support the call, or it cannot be encoded.
    pub(super) fn ask_log(
        &mut self,
        search: Box<Search>,
        shared: &mut Shared,
        now: Monotonic,
    ) -> Result<(), Box<Search>> {
        let asked = self.versions.and_then(|versions| search.request(self.head(shared), versions));
        let Some((api, version, frame)) = asked else { return Err(search) };
        let grace = self.grace(shared, shared.settings.request_timeout);
        self.send_small(Some(frame), (api, version), Asked::Log(search), grace, shared, now).or(Ok(()))
    }

    /// Sends a request of a member of a group, which the connection keeps until the answer.
    ///
    /// # Errors
    /// The request with the name of the call, if the broker does not support it, or it cannot be encoded.
    pub(super) fn ask_member(
        &mut self,
        request: Box<Request>,
        shared: &mut Shared,
        now: Monotonic,
    ) -> Result<(), (Box<Request>, &'static str)> {
        let call = coordinator_request::call(&request.ask);
        let version = self.versions.and_then(|versions| versions.of_member(call));
        let encoded = version
            .and_then(|version| Some((version, coordinator_request::encode(self.head(shared), version, &request)?)));
        let Some((version, frame)) = encoded else { return Err((request, coordinator_request::name(call))) };
        let held = coordinator_request::held(&request.ask);
        let grace = self.grace(shared, shared.settings.request_timeout).saturating_add(held);
        self.send_small(Some(frame), (call, version), Asked::Member(request), grace, shared, now).or(Ok(()))
    }

    /// Whether a request is in flight that the broker answers only when other members have joined.
    pub(super) fn is_held(&self) -> bool {
        let held = |asked: &Asked| matches!(asked, Asked::Member(request) if !coordinator_request::held(&request.ask).is_zero());
        self.waiting.iter().any(|waiting| held(&waiting.asked))
    }

    /// Sends a request of the consumer.
    ///
    /// # Errors
    /// The request, if the broker does not support the call.
    pub(super) fn ask_fetch(
        &mut self,
        call: FetchCall,
        shared: &mut Shared,
        now: Monotonic,
    ) -> Result<(), Box<FetchCall>> {
        let asked = self.versions.and_then(|versions| fetch_request::encode(self.head(shared), &call, versions));
        let Some((api, version, frame)) = asked else { return Err(Box::new(call)) };
        let grace = self.grace(shared, shared.settings.request_timeout).saturating_add(call.ask.wait());
        let asked = Asked::Fetch(Box::new(call));
        self.send_small(Some(frame), (api, version), asked, grace, shared, now).or(Ok(()))
    }

    /// The maximum length of the answer to the oldest request, if that is a Fetch; `None`: it is not.
    pub(super) fn fetch_bytes_max(&self) -> Option<usize> {
        match &self.waiting.front()?.asked {
            Asked::Fetch(call) => match &call.ask {
                FetchAsk::Fetch(fetch) => Some(fetch.answer_bytes_max),
                FetchAsk::Offsets(..) | FetchAsk::EpochEnds(_) => None,
            },
            _ => None,
        }
    }

    /// Whether the oldest request is one of the consumer.
    pub(super) fn is_asked_to_fetch(&self) -> bool {
        matches!(self.waiting.front().map(|waiting| &waiting.asked), Some(Asked::Fetch(_)))
    }

    /// Notes that a part of an answer to a Fetch has arrived: while a link carries at least its expected rate, a broker that sends is
    /// not silent.
    pub(super) fn heard(&mut self, link_bytes_s_min: u32, now: Monotonic) {
        let Some(bytes_max) = self.fetch_bytes_max() else { return };
        let on_the_wire = Duration::from_millis(bytes_max as u64 * 1000 / u64::from(link_bytes_s_min.max(1)));
        let patience = self.waiting.front().map_or(Duration::ZERO, |waiting| waiting.patience);
        if now < self.head_since.after(patience).after(on_the_wire) {
            self.moved_at = now;
        }
    }

    /// Removes the oldest request, after an answer that makes no sense.
    pub(super) fn give_up(&mut self) -> Option<Asked> {
        self.waiting.pop_front().map(|waiting| waiting.asked)
    }

    /// Reads the answer to the oldest request, and returns the number of bytes after its end. Changes nothing until
    /// [`Connection::answered`].
    ///
    /// # Errors
    /// [`Malformed`]: also if no request is unanswered, or the answer is to another one.
    pub(super) fn read(&self, frame: &[u8]) -> Read<(Answer, usize)> {
        let head = self.waiting.front().ok_or(Malformed("answer without a question"))?;
        let (correlation, rest) = frame.split_first_chunk().ok_or(Malformed("frame shorter than its header"))?;
        if i32::from_be_bytes(*correlation) != head.correlation {
            return Err(Malformed("correlation id of another request"));
        }
        let body = if head.api.has_flexible_answer_header(head.version) { past_tags(rest)? } else { rest };
        let reader = &mut Reader::new(body, head.api.is_flexible(head.version));
        let answer = match &head.asked {
            Asked::ApiVersions => Answer::ApiVersions(api::read_api_versions(reader, head.version)?),
            Asked::Metadata(topics) => Answer::Metadata(answer::read_metadata(reader, head.version, topics)?),
            Asked::ProducerId(_) => Answer::ProducerId(answer::read_producer_id(reader)?),
            Asked::Produce(_, batches) => {
                let (results, throttle_ms) = produce::read_answer(reader, head.version, batches)?;
                Answer::Produced(results, throttle_ms)
            }
            Asked::Log(search) => {
                let (answer, throttle_ms) = log::read(head.api, reader, head.version, search)?;
                Answer::Log(answer, throttle_ms)
            }
            Asked::Fetch(call) => {
                let (answer, throttle_ms) = match &call.ask {
                    FetchAsk::Fetch(_) => {
                        let (fetched, throttle_ms) = fetched::read_fetch(reader, head.version, frame.len())?;
                        (FetchAnswer::Fetched(fetched), throttle_ms)
                    }
                    FetchAsk::Offsets(asks, _) | FetchAsk::EpochEnds(asks) => {
                        let is_epoch = head.api == Call::OffsetForLeaderEpoch;
                        let (found, throttle_ms) = fetched::read_offsets(reader, head.version, asks, is_epoch)?;
                        (FetchAnswer::Offsets(found), throttle_ms)
                    }
                };
                Answer::Fetch(answer, throttle_ms)
            }
            Asked::SaslHandshake => {
                let (error, mechanisms) = login::read_handshake(reader)?;
                Answer::SaslHandshake(error, mechanisms)
            }
            Asked::SaslAuthenticate => Answer::SaslAuthenticate(login::read_authenticate(reader, head.version)?),
            Asked::Member(request) => Answer::Member(coordinator_answer::read(reader, head.version, request)?),
        };
        Ok((answer, reader.extra()))
    }

    /// Removes the oldest request, which has its answer.
    pub(super) fn answered(&mut self, answer: &Answer, now: Monotonic) -> Option<Asked> {
        let throttle = Duration::from_millis(u64::try_from(answer.throttle_ms()).unwrap_or(0)).min(THROTTLE_MAX);
        self.throttled_until = self.throttled_until.max(now.after(throttle));
        if matches!(answer, Answer::ApiVersions(_)) {
            self.round_trip = now.since(self.head_since);
        }
        self.taken = None;
        // The broker takes up the next request now, or when it unmutes a throttled connection.
        self.head_since = self.throttled_until;
        self.waiting.pop_front().map(|waiting| waiting.asked)
    }

    fn head<'a>(&self, shared: &'a Shared) -> Head<'a> {
        Head { correlation: self.next_correlation, client_id: &shared.settings.client_id }
    }

    fn send_small(
        &mut self,
        frame: Option<Vec<u8>>,
        call: (Call, i16),
        asked: Asked,
        grace: Duration,
        shared: &mut Shared,
        now: Monotonic,
    ) -> Sent {
        let frame = frame.ok_or_else(|| format!("{:?} cannot be asked", call.0))?;
        self.wait(call, asked, (grace, Duration::ZERO), now);
        self.handed += frame.len() as u64;
        shared.effects.push(Effect::Send { link: self.link, chunks: vec![Chunk::Owned(frame)] });
        Ok(())
    }

    /// Notes an unanswered request. `on_the_wire`: how long the request's bytes may need.
    fn wait(
        &mut self,
        (api, version): (Call, i16),
        asked: Asked,
        (grace, on_the_wire): (Duration, Duration),
        now: Monotonic,
    ) {
        let patience = grace.saturating_add(on_the_wire);
        if self.waiting.is_empty() {
            self.head_since = now;
        }
        let correlation = self.next_correlation;
        self.next_correlation = following(correlation);
        self.waiting.push_back(Waiting { correlation, api, version, patience, grace, asked });
    }
}

/// The next correlation id. Ids wrap below 2^31: some brokers log them, and a negative one looks like a fault.
fn following(correlation: i32) -> i32 {
    correlation.checked_add(1).unwrap_or(0)
}

/// The body after the tagged fields of a flexible answer header.
fn past_tags(rest: &[u8]) -> Read<&[u8]> {
    let mut reader = Reader::new(rest, true);
    reader.tags()?;
    Ok(reader.rest())
}
