//! Calls of the application: one for each message of a remote, the messages of one topic one after the other, each repeated until
//! the application takes it or the retries are over.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Semaphore, oneshot};

use super::app::{Application, Failed};
use super::numbers::Of;
use super::{Ask, Bound, Call, OnFailure, Outcome, Shared, Takes, Told, lock};
use forebay_metrics::event::{Event, Field, Kind};
use forebay_metrics::time::rfc3339;
use forebay_service::service::dead_letters::{self, Letter};

/// The wait between two attempts with one message.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// The wait between two attempts to reach the application.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// The messages that wait for the application.
struct Calls {
    shared: Arc<Shared>,
    /// Messages of each topic of a bridge. A topic in the map has a task.
    topics: Mutex<HashMap<(usize, String), VecDeque<Call>>>,
    /// Room for calls, of each bridge.
    places: Mutex<HashMap<usize, Arc<Semaphore>>>,
    letters: Mutex<Letters>,
    app: Application,
}

/// The file of dead letters, which is opened with the first letter, and the letters that are not on disk.
#[derive(Default)]
struct Letters {
    to: Option<std::sync::mpsc::Sender<Letter>>,
    waiting: Arc<Mutex<VecDeque<oneshot::Sender<()>>>>,
}

/// Calls the application while it is polled, and the service runs.
pub(super) async fn run(mut told: UnboundedReceiver<Told>, shared: Arc<Shared>) {
    let app = Application::new(Arc::clone(&shared));
    let calls = Calls { shared, topics: Mutex::default(), places: Mutex::default(), letters: Mutex::default(), app };
    let calls = Arc::new(calls);
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

    /// Takes other bindings. The application is asked whether it wants the messages of new ones.
    fn bindings(self: &Arc<Self>, bindings: Vec<Bound>) {
        self.shared.numbers.show(bindings.iter().map(|(_, _, binding)| &*binding.component));
        let before = self.shared.bindings.send_replace(Arc::new(bindings.clone()));
        for (bridge, name, binding) in bindings {
            let same = before.iter().find(|(at, ..)| *at == bridge).map(|(_, _, before)| before);
            let Some(takes) = &binding.takes else { continue };
            if same == Some(&binding) {
                continue;
            }
            lock(&self.places).insert(bridge, Arc::new(Semaphore::new(takes.concurrency.get())));
            let calls = Arc::clone(self);
            tokio::spawn(async move { calls.offer((bridge, name, binding)).await });
        }
    }

    /// Asks the application whether it wants the messages of a binding. A sidecar has done so when it opens a stream.
    async fn offer(&self, (bridge, name, binding): Bound) {
        let event = |kind| Event::now(kind).with(Field::Bridge, &*name);
        #[cfg(feature = "grpc")]
        if binding.is_brought {
            self.shared.streams.opened(&binding.component).await;
        }
        if let Some(takes) = binding.takes.as_ref().filter(|takes| takes.is_asked) {
            loop {
                match self.app.wants(&binding.component, takes).await {
                    Ok(()) => break,
                    Err(Failed::Refused(why)) => {
                        return self.shared.journal.say(event(Kind::BindingUnwanted).with(Field::Reason, why));
                    }
                    Err(_) => tokio::time::sleep(AGAIN_AFTER).await,
                }
            }
        }
        self.shared.journal.say(event(Kind::BindingWanted));
        self.shared.ask(Ask::Wanted { bridge }).await;
    }

    /// Gives the application a message, with retries.
    async fn deliver(&self, call: Call) {
        let Some(takes) = call.binding.takes.clone() else { return self.over(call, true).await };
        if let Some(bytes) = call.too_long {
            let why =
                format!("a packet of {bytes} bytes, more than packet_bytes_max of [mqtt]: its payload was not read");
            return self.failed(call, &takes, &why).await;
        }
        let places = lock(&self.places).get(&call.bridge).cloned();
        let (mut retries, mut has_broken) = (0, false);
        let why = loop {
            let place = match &places {
                Some(places) => places.acquire().await.ok(),
                None => None,
            };
            let said = self.app.take(&call, &takes).await;
            drop(place);
            let failed = match said {
                Ok(()) => {
                    self.shared.numbers.count(&call.binding.component, Of::CallDone);
                    return self.over(call, true).await;
                }
                Err(failed) => failed,
            };
            let count = match &failed {
                Failed::Away | Failed::Broken(_) => Of::CallUnreachable,
                Failed::Late | Failed::Refused(_) => Of::CallRefused,
            };
            self.shared.numbers.count(&call.binding.component, count);
            // An application that has died, or is not there yet, has refused nothing. A message that kills it repeatedly counts as refused.
            let is_first_break = matches!(failed, Failed::Broken(_)) && !has_broken;
            if is_first_break || matches!(failed, Failed::Away) {
                has_broken |= is_first_break;
                // A dying application still accepts connections.
                tokio::time::sleep(AGAIN_AFTER).await;
                continue;
            }
            let why = failed.why();
            if takes.retries.is_some_and(|most| retries >= most) {
                break why;
            }
            retries += 1;
            tokio::time::sleep(RETRY_AFTER).await;
        };
        self.failed(call, &takes, &why).await;
    }

    /// Handles a message that the application has refused for good.
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
            // A message without its payload would be another one.
            OnFailure::Topic(_) if call.too_long.is_some() => self.write(&call, why).await,
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

    /// Writes a message to the file of dead letters, and waits until it is on disk.
    async fn write(&self, call: &Call, why: &str) {
        let line = letter(call, why);
        loop {
            let (tell, told) = oneshot::channel();
            match self.post(line.clone(), tell) {
                // The file's thread tries again until the disk takes the letter.
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
            // The file's thread lives as long as this sender.
            let _ = to.send(Letter { shard: 0, sink: 0, line });
        }
        Ok(())
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
    if let Some(bytes) = call.too_long {
        (line["value"], line["packet_bytes"]) = (serde_json::Value::Null, bytes.into());
    }
    format!("{line}\n").into_bytes()
}
