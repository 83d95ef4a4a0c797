//! gRPC of the runner, passed on to the control plane in the attempt's name.
//!
//! Which attempt it is comes from the token, never from a message.

use std::time::Duration;

use proto::v1::{
    Assignment, AttemptTranscript, HelloRequest, ReturnPart, ReturnResponse, TranscriptChunk,
    TranscriptResponse, attempt_service_client::AttemptServiceClient, runner_service_server::RunnerService,
};
use telemetry::identity::AuthenticatedChannel;
use tonic::{Request, Response, Status, Streaming};

use crate::{attempts::LiveAttempt, problem::from_control_plane, upload};

/// How long the control plane may take over one message.
const PATIENCE: Duration = Duration::from_secs(30);

/// The service.
pub(crate) struct Runner {
    channel: AuthenticatedChannel,
    control_plane: AttemptServiceClient<AuthenticatedChannel>,
}

impl Runner {
    pub(crate) fn new(channel: AuthenticatedChannel) -> Self {
        Self { control_plane: crate::control_plane(channel.clone()), channel }
    }
}

#[tonic::async_trait]
impl RunnerService for Runner {
    async fn hello(&self, request: Request<HelloRequest>) -> Result<Response<Assignment>, Status> {
        let attempt = attempt_of(&request)?;
        let version: String = request.get_ref().runner_version.chars().take(40).collect();
        tracing::info!(run_id = %attempt.run(), attempt_id = %attempt.attempt(), trace_id = attempt.trace_id(), ?version, "runner says hello");
        let answer = self.control_plane.clone().assignment(unary(attempt.reference())).await;
        Ok(Response::new(answer.map_err(|status| from_control_plane(&status))?.into_inner()))
    }

    async fn transcript(
        &self,
        request: Request<TranscriptChunk>,
    ) -> Result<Response<TranscriptResponse>, Status> {
        let attempt = Some(attempt_of(&request)?.reference());
        let message = AttemptTranscript { attempt, chunk: Some(request.into_inner()) };
        let answer = self.control_plane.clone().transcript(unary(message)).await;
        let stop = answer.map_err(|status| from_control_plane(&status))?.get_ref().over_limit;
        Ok(Response::new(TranscriptResponse { stop }))
    }

    async fn r#return(
        &self,
        request: Request<Streaming<ReturnPart>>,
    ) -> Result<Response<ReturnResponse>, Status> {
        let attempt = attempt_of(&request)?.reference();
        upload::pass_on(self.channel.clone(), attempt, request.into_inner()).await.map(Response::new)
    }
}

fn attempt_of<T>(request: &Request<T>) -> Result<&LiveAttempt, Status> {
    // The door puts it there; without it this would be served past the door.
    request.extensions().get().ok_or_else(|| Status::unauthenticated("no run token"))
}

fn unary<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(PATIENCE);
    request
}
