//! Dapr's gRPC API.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};

use super::super::proto::runtime::dapr_server::Dapr;
use super::super::proto::runtime::{
    Empty, GetMetadataResponse, InvokeBindingRequest, InvokeBindingResponse, RegisteredComponents,
};
use super::super::{Shared, output};

/// Dapr's API.
pub(super) struct Api(pub(super) Arc<Shared>);

#[async_trait]
impl Dapr for Api {
    async fn invoke_binding(
        &self,
        request: Request<InvokeBindingRequest>,
    ) -> Result<Response<InvokeBindingResponse>, Status> {
        let InvokeBindingRequest { name, data, metadata, operation } = request.into_inner();
        let topic = metadata.get("topic").map(String::as_str);
        match output::publish(&self.0, &name, &operation, topic, data).await {
            Ok(()) => Ok(Response::new(InvokeBindingResponse::default())),
            Err(why) => Err(Status::internal(output::failed(&name, &why))),
        }
    }

    async fn get_metadata(&self, _: Request<Empty>) -> Result<Response<GetMetadataResponse>, Status> {
        let component = |of: output::Registered| RegisteredComponents {
            name: of.name,
            r#type: of.kind.to_owned(),
            version: "v1".to_owned(),
            capabilities: of.capabilities.into_iter().map(str::to_owned).collect(),
        };
        Ok(Response::new(GetMetadataResponse {
            id: self.0.settings.app_id.clone().unwrap_or_default(),
            registered_components: output::registered(&self.0).into_iter().map(component).collect(),
            extended_metadata: [].into(),
            runtime_version: output::VERSION.to_owned(),
        }))
    }
}
