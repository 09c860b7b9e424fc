//! Calls of the application: one for each message of a remote, those of one topic one after the other, and again until it takes the message
//! or the retries are over.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderValue, Method, Request, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Semaphore, oneshot};

use super::numbers::Of;
use super::serve::TOKEN;
use super::{Ask, Bound, Call, OnFailure, Outcome, Shared, Takes, Told, lock};
use crate::metrics::event::{Event, Field, Kind};
use crate::metrics::time::rfc3339;
use crate::service::dead_letters::{self, Letter};

/// Between two attempts with one message.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Between two attempts to reach the application.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
/// An answer that takes longer is none.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// The body of an answer, which nobody reads.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Why a call has no answer.
enum Failed {
    /// The application was not reached: it knows nothing of the message.
    Away,
    /// The connection broke before the answer.
    Broken(String),
    /// The answer took too long.
    Late,
}

/// `Calls` holds the messages that wait for the application.
struct Calls {
    shared: Arc<Shared>,
    /// Messages of each topic of a bridge. A topic that is here has a task.
    topics: Mutex<HashMap<(usize, String), VecDeque<Call>>>,
    /// Room for calls, of each bridge.
    places: Mutex<HashMap<usize, Arc<Semaphore>>>,
    letters: Mutex<Letters>,
    /// Why the application cannot be reached, if it cannot.
    is_away: Mutex<bool>,
}

/// The file of dead letters, which begins with the first of them, and those that are not on the disk.
#[derive(Default)]
struct Letters {
    to: Option<std::sync::mpsc::Sender<Letter>>,
    waiting: Arc<Mutex<VecDeque<oneshot::Sender<()>>>>,
}

/// Calls for as long as it is polled, and the service runs.
pub(super) async fn run(mut told: UnboundedReceiver<Told>, shared: Arc<Shared>) {
    let calls = Arc::new(Calls {
        shared,
        topics: Mutex::default(),
        places: Mutex::default(),
        letters: Mutex::default(),
        is_away: Mutex::default(),
    });
    while let Some(told) = told.recv().await {
        match told {
            Told::Call(call) => calls.take(call),
            Told::Bindings(bindings) => calls.bindings(bindings),
        }
    }
}

impl Calls {
    /// Queues a message after the others of its topic.
    fn take(self: &Arc<Self>, call: Call) {
        let of = (call.bridge, call.topic.clone());
        let mut topics = lock(&self.topics);
        if let Some(queue) = topics.get_mut(&of) {
            return queue.push_back(call);
        }
        topics.insert(of.clone(), VecDeque::from([call]));
        drop(topics);
        let calls = Arc::clone(self);
        tokio::spawn(async move {
            while let Some(call) = calls.next(&of) {
                calls.deliver(call).await;
            }
        });
    }

    fn next(&self, of: &(usize, String)) -> Option<Call> {
        let mut topics = lock(&self.topics);
        let call = topics.get_mut(of).and_then(VecDeque::pop_front);
        if call.is_none() {
            topics.remove(of);
        }
        call
    }

    /// Takes other bindings. The application is asked whether it wants those that are new.
    fn bindings(self: &Arc<Self>, bindings: Vec<Bound>) {
        self.shared.numbers.show(bindings.iter().map(|(_, _, binding)| &*binding.component));
        let before = std::mem::replace(&mut *lock(&self.shared.bindings), Arc::new(bindings.clone()));
        for (bridge, name, binding) in bindings {
            let same = before.iter().find(|(at, ..)| *at == bridge).map(|(_, _, before)| before);
            let Some(takes) = binding.takes.clone() else { continue };
            if same == Some(&binding) {
                continue;
            }
            lock(&self.places).insert(bridge, Arc::new(Semaphore::new(takes.concurrency.get())));
            let calls = Arc::clone(self);
            tokio::spawn(async move { calls.offer(bridge, &name, &takes).await });
        }
    }

    /// Asks the application whether it wants the messages of a binding.
    async fn offer(&self, bridge: usize, name: &str, takes: &Takes) {
        let event = |kind| Event::now(kind).with(Field::Bridge, name);
        if takes.is_asked {
            loop {
                match self.send(Method::OPTIONS, &takes.route, None).await {
                    Ok(200..=299 | 405) => break,
                    Ok(status) => {
                        let reason = format!("OPTIONS /{}: {status}", takes.route);
                        return self.shared.journal.say(event(Kind::BindingUnwanted).with(Field::Reason, reason));
                    }
                    Err(_) => tokio::time::sleep(AGAIN_AFTER).await,
                }
            }
        }
        self.shared.journal.say(event(Kind::BindingWanted));
        self.shared.ask(Ask::Wanted { bridge }).await;
    }

    /// Has the application take a message, whatever that takes.
    async fn deliver(&self, call: Call) {
        let Some(takes) = call.binding.takes.clone() else { return self.over(call, true).await };
        let places = lock(&self.places).get(&call.bridge).cloned();
        let (mut retries, mut has_broken) = (0, false);
        let why = loop {
            let place = match &places {
                Some(places) => places.acquire().await.ok(),
                None => None,
            };
            let said = self.send(Method::POST, &takes.route, Some((&call.topic, &call.payload))).await;
            drop(place);
            let (count, why) = match said {
                Ok(200..=299) => {
                    self.shared.numbers.count(&call.binding.component, Of::CallDone);
                    return self.over(call, true).await;
                }
                // An application that has died, or is not there yet, has refused nothing. A message that kills it is one that it refuses.
                Err(Failed::Away) => {
                    self.shared.numbers.count(&call.binding.component, Of::CallUnreachable);
                    tokio::time::sleep(AGAIN_AFTER).await;
                    continue;
                }
                Err(Failed::Broken(_)) if !has_broken => {
                    self.shared.numbers.count(&call.binding.component, Of::CallUnreachable);
                    has_broken = true;
                    // One that is just dying still takes connections.
                    tokio::time::sleep(AGAIN_AFTER).await;
                    continue;
                }
                Err(Failed::Broken(why)) => (Of::CallUnreachable, why),
                Err(Failed::Late) => (Of::CallRefused, format!("no answer within {} s", ANSWER_WITHIN.as_secs())),
                Ok(status) => (Of::CallRefused, format!("HTTP status {status}")),
            };
            self.shared.numbers.count(&call.binding.component, count);
            if takes.retries.is_some_and(|most| retries >= most) {
                break why;
            }
            retries += 1;
            tokio::time::sleep(RETRY_AFTER).await;
        };
        self.failed(call, &takes, &why).await;
    }

    /// The application has refused a message for good.
    async fn failed(&self, call: Call, takes: &Takes, why: &str) {
        let (fate, count) = match takes.on_failure {
            OnFailure::File | OnFailure::Topic(_) => ("dead_letter", Of::Letter),
            OnFailure::Drop => ("dropped", Of::Dropped),
            OnFailure::Keep => ("kept", Of::Kept),
        };
        let event = Event::now(Kind::BindingFailed).with(Field::Bridge, &*call.name);
        let event = event.with(Field::MqttTopic, &*call.topic).with(Field::Reason, why).with(Field::Fate, fate);
        self.shared.journal.say(event);
        match &takes.on_failure {
            OnFailure::File => self.write(&call, why).await,
            OnFailure::Topic(topic) => loop {
                let created = self.shared.create(call.bridge, topic.clone(), call.payload.clone(), (1, false)).await;
                if created == Outcome::Done {
                    break;
                }
                tokio::time::sleep(RETRY_AFTER).await;
            },
            OnFailure::Drop | OnFailure::Keep => {}
        }
        self.shared.numbers.count(&call.binding.component, count);
        let is_over = takes.on_failure != OnFailure::Keep;
        self.over(call, is_over).await;
    }

    async fn over(&self, call: Call, is_over: bool) {
        let Call { bridge, ticket, bytes, .. } = call;
        self.shared.ask(Ask::Called { bridge, ticket, bytes, is_over }).await;
    }

    /// Writes a message to the file of dead letters, and waits until it is on the disk.
    async fn write(&self, call: &Call, why: &str) {
        let line = letter(call, why);
        loop {
            let (tell, told) = oneshot::channel();
            match self.post(line.clone(), tell) {
                // The file's thread tries again until the disk takes it.
                Ok(()) => return drop(told.await),
                Err(error) => {
                    tracing::error!(%error, file = %self.shared.settings.letters.path.display(), "dead letters of bindings cannot be written; trying again");
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        }
    }

    fn post(&self, line: Vec<u8>, tell: oneshot::Sender<()>) -> std::io::Result<()> {
        let mut letters = lock(&self.letters);
        let waiting = Arc::clone(&letters.waiting);
        if letters.to.is_none() {
            let waiting = Arc::clone(&waiting);
            let written = move |_, _, count: u32| {
                let mut waiting = lock(&waiting);
                let count = (count as usize).min(waiting.len());
                for tell in waiting.drain(..count) {
                    let _ = tell.send(());
                }
                true
            };
            letters.to = Some(dead_letters::start(self.shared.settings.letters.clone(), Arc::new(written))?);
        }
        lock(&waiting).push_back(tell);
        if let Some(to) = &letters.to {
            // Its thread lives as long as this sender.
            let _ = to.send(Letter { shard: 0, sink: 0, line });
        }
        Ok(())
    }

    /// Sends a request, on a connection of its own. Returns the status of the answer.
    async fn send(&self, method: Method, route: &str, message: Option<(&str, &[u8])>) -> Result<u16, Failed> {
        let Some((host, port)) = &self.shared.settings.app else { return Err(Failed::Away) };
        let connected = tokio::time::timeout(ANSWER_WITHIN, TcpStream::connect((host.trim_matches(['[', ']']), *port)));
        let stream = match connected.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(self.away(&error.to_string())),
            Err(_) => return Err(self.away("no connection in time")),
        };
        self.is_there();
        // It is small, and waits for its answer.
        let _ = stream.set_nodelay(true);
        let broken = |error: hyper::Error| Failed::Broken(error.to_string());
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let mut request = Request::new(message.map_or_else(Body::empty, |(_, payload)| Body::from(payload.to_vec())));
        *request.method_mut() = method;
        *request.uri_mut() = format!("/{route}").parse().unwrap_or_default();
        let headers = request.headers_mut();
        let mut put = |name: &'static str, value: &[u8]| {
            // What HTTP cannot say of a topic is left out.
            HeaderValue::from_bytes(value).into_iter().for_each(|value| drop(headers.insert(name, value)));
        };
        put(header::HOST.as_str(), format!("{host}:{port}").as_bytes());
        put(header::CONNECTION.as_str(), b"close");
        put(header::USER_AGENT.as_str(), concat!("forebay/", env!("CARGO_PKG_VERSION")).as_bytes());
        if let Some((topic, _)) = message {
            put(header::CONTENT_TYPE.as_str(), b"application/json");
            put("topic", topic.as_bytes());
            let trace = format!("00-{:032x}-{:016x}-00", fastrand::u128(1..), fastrand::u64(1..));
            put("traceparent", trace.as_bytes());
        }
        self.shared.settings.app_token.iter().for_each(|token| put(TOKEN, token.expose()));
        let exchange = async {
            let answer = sender.send_request(request).await?;
            let status = answer.status().as_u16();
            // The application may still be writing: its answer is heard to its end.
            let _ = to_bytes(Body::new(answer.into_body()), ANSWER_BYTES_MAX).await;
            Ok(status)
        };
        let exchange = async {
            tokio::pin!(exchange, connection);
            tokio::select! {
                answer = &mut exchange => answer,
                ended = &mut connection => match ended {
                    Ok(()) => exchange.await,
                    Err(error) => Err(error),
                },
            }
        };
        match tokio::time::timeout(ANSWER_WITHIN, exchange).await {
            Ok(answer) => answer.map_err(broken),
            Err(_) => Err(Failed::Late),
        }
    }

    fn away(&self, why: &str) -> Failed {
        if !std::mem::replace(&mut *lock(&self.is_away), true) {
            let (host, port) = self.shared.settings.app.as_ref().map_or(("", 0), |(host, port)| (host.as_str(), *port));
            let reason = format!("{host}:{port}: {why}");
            self.shared.journal.say(Event::now(Kind::BindingAppUnreachable).with(Field::Reason, reason));
        }
        Failed::Away
    }

    fn is_there(&self) {
        *lock(&self.is_away) = false;
    }
}

/// A line of the file of dead letters.
fn letter(call: &Call, why: &str) -> Vec<u8> {
    use base64::Engine as _;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let time = rfc3339(i64::try_from(now.as_millis()).unwrap_or(i64::MAX));
    let (value, encoding) = match std::str::from_utf8(&call.payload) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => (base64::prelude::BASE64_STANDARD.encode(&call.payload), Some("base64")),
    };
    let mut line = serde_json::json!({
        "time": time,
        "binding": call.binding.component,
        "reason": why,
        "mqtt_topic": call.topic,
        "value": value,
    });
    if let Some(encoding) = encoding {
        line["value_encoding"] = encoding.into();
    }
    format!("{line}\n").into_bytes()
}
