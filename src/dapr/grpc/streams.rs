//! Messages for sidecars: each component has the stream that its sidecar has opened last, over which messages go and answers come back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, mpsc, oneshot};
use tonic::Status;

use super::super::app::Failed;
use super::super::proto::components::{ReadRequest, ReadResponse};
use super::super::{Call, lock};

/// The longest message that a sidecar reads, in bytes; Dapr does not set what is gRPC's default. It ends its stream over a longer one, and opens
/// no other.
const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// What a message may have beside topic and payload.
const FRAME_BYTES: usize = 256;

/// What the application says of a message: nothing, or why it does not have it.
type Told = oneshot::Sender<Option<String>>;

/// `Streams` holds the streams of all components.
#[derive(Default)]
pub(in crate::dapr) struct Streams {
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

    /// Takes an answer. One to no message that waits is passed over.
    pub(super) fn answered(&self, answer: ReadRequest) {
        let mut waiting = lock(&self.waiting);
        let number = answer.message_id.parse().ok();
        let told = number.and_then(|number: u64| waiting.as_mut()?.remove(&number));
        // Nobody waits while the service stops.
        told.into_iter()
            .for_each(|told| drop(told.send(answer.response_error.as_ref().map(|error| error.message.clone()))));
    }

    /// Ends it. What has no answer goes over the next one.
    pub(super) fn end(&self) {
        drop(lock(&self.waiting).take());
    }

    fn has_ended(&self) -> bool {
        lock(&self.waiting).is_none()
    }
}

impl Streams {
    /// Has messages of a component go over this stream from now on.
    pub(super) fn open(&self, component: &str, stream: &Arc<Stream>) {
        lock(&self.all).insert(component.to_owned(), Arc::clone(stream));
        self.opened.notify_waiters();
    }

    /// Waits until a component has a stream.
    pub(in crate::dapr) async fn opened(&self, component: &str) {
        self.of(component).await;
    }

    /// The stream of a component, once there is one.
    async fn of(&self, component: &str) -> Arc<Stream> {
        loop {
            let opened = self.opened.notified();
            tokio::pin!(opened);
            // One that is opened from here on is heard of.
            opened.as_mut().enable();
            let known = lock(&self.all).get(component).cloned();
            if let Some(stream) = known.filter(|stream| !stream.has_ended()) {
                return stream;
            }
            opened.await;
        }
    }

    /// Hands the application a message by way of its sidecar, and waits for as long as that takes: the sidecar knows how long a call may take, and
    /// how often it is tried.
    pub(in crate::dapr) async fn take(&self, call: &Call) -> Result<(), Failed> {
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
