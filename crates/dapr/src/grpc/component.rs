//! Components for a sidecar of Dapr: it sends their metadata by Init, calls Invoke for publishes of its application, and reads
//! messages for its application from a stream.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming, async_trait};
use tonic_reflection::server::Builder;

use super::super::proto::COMPONENTS;
use super::super::proto::components::input_binding_server::{InputBinding, InputBindingServer};
use super::super::proto::components::output_binding_server::{OutputBinding, OutputBindingServer};
use super::super::proto::components::{
    InputBindingInitRequest, InputBindingInitResponse, InvokeRequest, InvokeResponse, ListOperationsRequest,
    ListOperationsResponse, MetadataRequest, OutputBindingInitRequest, OutputBindingInitResponse, PingRequest,
    PingResponse, ReadRequest, ReadResponse,
};
use super::super::{Brought, NotBrought, Shared, lock, output};
use super::message_bytes_max;
use super::streams::Stream;
use forebay_guard::secure::Secret;
use forebay_metrics::event::{Event, Field, Kind};

/// The header with the name of the component that a sidecar addresses.
const INSTANCE: &str = "x-component-instance";
/// The longest wait for another change of the configuration.
const BUSY_MAX: Duration = Duration::from_secs(30);
/// The wait before a busy service is asked again.
const BUSY_AGAIN: Duration = Duration::from_millis(50);
/// Messages that wait until the stream takes them; each call waits for its answer.
const QUEUED: usize = 1;

/// The services of a socket. `kind`: the type of its components.
pub(super) fn routes(kind: &'static str, shared: &Arc<Shared>) -> Option<Routes> {
    let components = Components { kind, shared: Arc::clone(shared), known: Arc::default(), init: Arc::default() };
    let bytes_max = message_bytes_max(shared);
    let input = InputBindingServer::new(components.clone()).max_decoding_message_size(bytes_max);
    let output = OutputBindingServer::new(components).max_decoding_message_size(bytes_max);
    let routes = Routes::new(input).add_service(output);
    // A sidecar asks v1alpha for the names of services; tools ask v1.
    let reflection = || Builder::configure().register_encoded_file_descriptor_set(COMPONENTS);
    match (reflection().build_v1alpha(), reflection().build_v1()) {
        (Ok(alpha), Ok(one)) => Some(routes.add_service(alpha).add_service(one)),
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "definitions of components cannot be read");
            None
        }
    }
}

/// The ways of a component that Init was called for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Input,
    Output,
}

/// A component that is in the configuration.
struct Known {
    brought: Brought,
    ways: Vec<Way>,
}

/// The components of one type.
#[derive(Clone)]
struct Components {
    kind: &'static str,
    shared: Arc<Shared>,
    /// The components that Init has brought to this process, and `None` for unknown ones that were reported.
    known: Arc<Mutex<HashMap<String, Option<Known>>>>,
    /// The lock of Init: one is done before the next begins.
    init: Arc<tokio::sync::Mutex<()>>,
}

impl Components {
    /// Takes a component into the configuration, and waits until it is in force.
    async fn init(&self, way: Way, instance: String, metadata: Option<MetadataRequest>) -> Result<(), Status> {
        let properties = metadata.unwrap_or_default().properties;
        let properties = properties.into_iter().map(|(name, value)| (name, Secret::new(value.into_bytes())));
        let brought = Brought { component: instance, kind: self.kind, properties: properties.collect() };
        let _turn = self.init.lock().await;
        if let Some(Some(known)) = lock(&self.known).get_mut(&brought.component) {
            // A sidecar calls Init for each direction: if the other direction has brought the component, it is there for both.
            // After a restart of the sidecar the component is new.
            if !known.ways.contains(&way) && is_same(&known.brought, &brought) {
                known.ways.push(way);
                return Ok(());
            }
        }
        self.bring(&brought).await?;
        let in_force = |bindings: &Arc<Vec<super::super::Bound>>| {
            bindings.iter().any(|(_, _, of)| of.is_brought && of.component == brought.component)
        };
        // The thread that puts it in force ends with this one.
        let _ = self.shared.bindings.subscribe().wait_for(in_force).await;
        lock(&self.known).insert(brought.component.clone(), Some(Known { brought, ways: vec![way] }));
        Ok(())
    }

    async fn bring(&self, brought: &Brought) -> Result<(), Status> {
        let begun = tokio::time::Instant::now();
        loop {
            let (tell, told) = oneshot::channel();
            (self.shared.bring)(brought.clone(), Box::new(move |outcome| drop(tell.send(outcome))));
            match told.await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(NotBrought::Wrong(why))) => return Err(Status::invalid_argument(why)),
                Ok(Err(NotBrought::Busy(_))) if begun.elapsed() < BUSY_MAX => tokio::time::sleep(BUSY_AGAIN).await,
                Ok(Err(NotBrought::Busy(why))) => return Err(Status::unavailable(why)),
                Err(_) => return Err(Status::unavailable("the service is stopping")),
            }
        }
    }

    /// Checks that Init was called for a component in this process: a sidecar that was there before calls it only once.
    fn check(&self, instance: &str) -> Result<(), Status> {
        let mut known = lock(&self.known);
        match known.get(instance) {
            Some(Some(_)) => return Ok(()),
            Some(None) => {}
            None => {
                if known.len() < UNKNOWN_MAX {
                    known.insert(instance.to_owned(), None);
                }
                let reason = format!("Init of the component {instance} is missing");
                self.shared.journal.say(Event::now(Kind::BindingInitMissing).with(Field::Reason, reason));
            }
        }
        Err(Status::unavailable("Init needed, restart daprd: Forebay has been started since Init was called"))
    }
}

/// Instances that are noted at most.
const UNKNOWN_MAX: usize = 1_024;

/// Whether two components are the same but for their client ID: `{uuid}` in it is another one for each direction.
fn is_same(one: &Brought, other: &Brought) -> bool {
    let rest = |of: &Brought| -> BTreeMap<String, Secret> {
        let is_rest = |name: &str| !name.eq_ignore_ascii_case("consumerID");
        of.properties
            .iter()
            .filter(|(name, _)| is_rest(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    };
    rest(one) == rest(other)
}

/// The component that a request addresses.
fn instance<T>(request: &Request<T>) -> Result<String, Status> {
    let header = request.metadata().get(INSTANCE).and_then(|of| of.to_str().ok());
    header.map(str::to_owned).ok_or_else(|| Status::invalid_argument(format!("{INSTANCE} is missing")))
}

#[async_trait]
impl InputBinding for Components {
    async fn init(
        &self,
        request: Request<InputBindingInitRequest>,
    ) -> Result<Response<InputBindingInitResponse>, Status> {
        let instance = instance(&request)?;
        self.init(Way::Input, instance, request.into_inner().metadata).await?;
        Ok(Response::new(InputBindingInitResponse {}))
    }

    type ReadStream = ReceiverStream<Result<ReadResponse, Status>>;

    async fn read(&self, request: Request<Streaming<ReadRequest>>) -> Result<Response<Self::ReadStream>, Status> {
        let instance = instance(&request)?;
        self.check(&instance)?;
        let (out, messages) = mpsc::channel(QUEUED);
        let stream = Stream::new(out);
        self.shared.streams.open(&instance, &stream);
        let journal = Arc::clone(&self.shared.journal);
        let mut answers = request.into_inner();
        tokio::spawn(async move {
            let ended = loop {
                match answers.message().await {
                    Ok(Some(answer)) => stream.answered(answer),
                    Ok(None) => break "it has ended".to_owned(),
                    Err(status) => break status.message().to_owned(),
                }
            };
            stream.end();
            let reason = format!("the stream of the sidecar for {instance}: {ended}");
            journal.say(Event::now(Kind::BindingAppUnreachable).with(Field::Reason, reason));
        });
        Ok(Response::new(ReceiverStream::new(messages)))
    }

    async fn ping(&self, _: Request<PingRequest>) -> Result<Response<PingResponse>, Status> {
        Ok(Response::new(PingResponse {}))
    }
}

#[async_trait]
impl OutputBinding for Components {
    async fn init(
        &self,
        request: Request<OutputBindingInitRequest>,
    ) -> Result<Response<OutputBindingInitResponse>, Status> {
        let instance = instance(&request)?;
        self.init(Way::Output, instance, request.into_inner().metadata).await?;
        Ok(Response::new(OutputBindingInitResponse {}))
    }

    async fn invoke(&self, request: Request<InvokeRequest>) -> Result<Response<InvokeResponse>, Status> {
        let instance = instance(&request)?;
        self.check(&instance)?;
        let InvokeRequest { data, metadata, operation } = request.into_inner();
        let topic = metadata.get("topic").map(String::as_str);
        match output::publish(&self.shared, &instance, &operation, topic, data).await {
            Ok(()) => Ok(Response::new(InvokeResponse::default())),
            Err(why) => Err(Status::internal(why)),
        }
    }

    async fn list_operations(
        &self,
        _: Request<ListOperationsRequest>,
    ) -> Result<Response<ListOperationsResponse>, Status> {
        Ok(Response::new(ListOperationsResponse { operations: vec![output::CREATE.to_owned()] }))
    }

    async fn ping(&self, _: Request<PingRequest>) -> Result<Response<PingResponse>, Status> {
        Ok(Response::new(PingResponse {}))
    }
}
