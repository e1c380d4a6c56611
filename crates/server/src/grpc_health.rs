//! Service `grpc.health.v1.Health`: the whole member, under the empty name.

use eyrie_api::health::health_check_response::ServingStatus;
use eyrie_api::health::health_server::Health;
use eyrie_api::health::{HealthCheckRequest, HealthCheckResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// See the module. A member that answers at all is serving.
#[derive(Debug, Clone, Default)]
pub(crate) struct HealthService;

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        if !request.get_ref().service.is_empty() {
            return Err(Status::not_found("unknown service"));
        }
        Ok(Response::new(says(ServingStatus::Serving)))
    }

    type WatchStream = ReceiverStream<Result<HealthCheckResponse, Status>>;

    /// Tells the status once and stays open: it does not change while the member lives.
    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let known = request.get_ref().service.is_empty();
        let status = if known { ServingStatus::Serving } else { ServingStatus::ServiceUnknown };
        let (tell, told) = mpsc::channel(1);
        let _ = tell.try_send(Ok(says(status)));
        // Whoever holds the sender keeps the stream open; it ends with the connection.
        tokio::spawn(async move { tell.closed().await });
        Ok(Response::new(ReceiverStream::new(told)))
    }
}

fn says(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}
