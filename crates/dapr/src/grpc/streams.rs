//! Messages for sidecars: each component has the stream that its sidecar has opened last, with messages one way and answers the other way.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, mpsc, oneshot};
use tonic::Status;

use super::super::app::Failed;
use super::super::proto::components::{ReadRequest, ReadResponse};
use super::super::{Call, lock};

/// The longest message that a sidecar reads, in bytes: gRPC's default, which Dapr does not change. The sidecar ends its stream
/// over a longer one, and opens no other.
const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// The most bytes of a message beside topic and payload.
const FRAME_BYTES: usize = 256;

/// The application's answer to a message: nothing, or why it has not taken it.
type Told = oneshot::Sender<Option<String>>;

/// The streams of all components.
#[derive(Default)]
pub(crate) struct Streams {
    all: Mutex<HashMap<String, Arc<Stream>>>,
    /// Tells that another one was opened.
    opened: Notify,
    next: AtomicU64,
}

/// A stream that a sidecar has opened.
pub(super) struct Stream {
    out: mpsc::Sender<Result<ReadResponse, Status>>,
    /// Messages that wait for their answers, by number; `None`: the stream has ended.
    waiting: Mutex<Option<HashMap<u64, Told>>>,
}

impl Stream {
    pub(super) fn new(out: mpsc::Sender<Result<ReadResponse, Status>>) -> Arc<Self> {
        Arc::new(Self { out, waiting: Mutex::new(Some(HashMap::new())) })
    }

    /// Takes an answer. An answer to a message that is not pending is ignored.
    pub(super) fn answered(&self, answer: ReadRequest) {
        let mut waiting = lock(&self.waiting);
        let number = answer.message_id.parse().ok();
        let told = number.and_then(|number: u64| waiting.as_mut()?.remove(&number));
        // The waiting task is gone while the service stops.
        told.into_iter()
            .for_each(|told| drop(told.send(answer.response_error.as_ref().map(|error| error.message.clone()))));
    }

    /// Ends the stream. Pending messages go over the next one.
    pub(super) fn end(&self) {
        drop(lock(&self.waiting).take());
    }

    fn has_ended(&self) -> bool {
        lock(&self.waiting).is_none()
    }
}

impl Streams {
    /// Sends messages of a component over this stream from now on.
    pub(super) fn open(&self, component: &str, stream: &Arc<Stream>) {
        lock(&self.all).insert(component.to_owned(), Arc::clone(stream));
        self.opened.notify_waiters();
    }

    /// Waits until a component has a stream.
    pub(crate) async fn opened(&self, component: &str) {
        self.of(component).await;
    }

    /// The stream of a component, once there is one.
    async fn of(&self, component: &str) -> Arc<Stream> {
        loop {
            let opened = self.opened.notified();
            tokio::pin!(opened);
            // A stream that is opened from here on wakes this task.
            opened.as_mut().enable();
            let known = lock(&self.all).get(component).cloned();
            if let Some(stream) = known.filter(|stream| !stream.has_ended()) {
                return stream;
            }
            opened.await;
        }
    }

    /// Sends the application a message through its sidecar, and waits for the answer without a bound: the sidecar has its own
    /// timeouts and retries.
    pub(crate) async fn take(&self, call: &Call) -> Result<(), Failed> {
        let bytes = call.topic.len() + call.payload.len() + FRAME_BYTES;
        if bytes > MESSAGE_BYTES_MAX {
            return Err(Failed::Refused(format!("a sidecar of Dapr reads messages up to {MESSAGE_BYTES_MAX} bytes")));
        }
        let stream = self.of(&call.binding.component).await;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (tell, told) = oneshot::channel();
        match lock(&stream.waiting).as_mut() {
            Some(waiting) => drop(waiting.insert(number, tell)),
            None => return Err(Failed::Away),
        }
        let message = ReadResponse {
            data: call.payload.clone(),
            metadata: [("topic".to_owned(), call.topic.clone())].into(),
            content_type: String::new(),
            message_id: number.to_string(),
        };
        if stream.out.send(Ok(message)).await.is_err() {
            stream.end();
        }
        match told.await {
            Ok(None) => Ok(()),
            Ok(Some(why)) => Err(Failed::Refused(why)),
            Err(_) => Err(Failed::Away),
        }
    }
}
