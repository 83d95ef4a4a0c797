//! gRPC of the runner, passed on to the control plane in the attempt's name.
//!
//! Which attempt it is comes from the token, never from a message.

use std::time::Duration;

use futures::{StreamExt, stream::BoxStream};
use prost::Message;
use proto::v1::{
    AfreshRequest, AfreshResponse, Assignment, AttemptAfresh, AttemptTranscript, CheckpointPart,
    CheckpointResponse, HelloRequest, RestoreRequest, ReturnPart, ReturnResponse, TranscriptChunk,
    TranscriptResponse, attempt_service_client::AttemptServiceClient, runner_service_server::RunnerService,
};
use telemetry::identity::AuthenticatedChannel;
use tonic::{Request, Response, Status, Streaming};

use crate::{attempts::LiveAttempt, limits::Limit, problem::from_control_plane, router::Gateway, upload};

/// How long the control plane may take over one message.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most lines of one piece of the transcript.
const MAX_LINES: usize = 1024;
/// Most bytes of one piece of the transcript.
const MAX_CHUNK_BYTES: usize = 2 * 1024 * 1024;

/// The service.
pub(crate) struct Runner {
    channel: AuthenticatedChannel,
    gateway: Gateway,
    /// One result of an attempt at a time.
    results: Limit,
    /// One checkpoint of an attempt at a time, on its way in or out.
    checkpoints: Limit,
}

impl Runner {
    pub(crate) fn new(gateway: Gateway, channel: AuthenticatedChannel) -> Self {
        Self { channel, gateway, results: Limit::new(1), checkpoints: Limit::new(1) }
    }

    fn control_plane(&self) -> AttemptServiceClient<AuthenticatedChannel> {
        self.gateway.control_plane.clone()
    }
}

#[tonic::async_trait]
impl RunnerService for Runner {
    async fn hello(&self, request: Request<HelloRequest>) -> Result<Response<Assignment>, Status> {
        let attempt = attempt_of(&request)?;
        let version: String = request.get_ref().runner_version.chars().take(40).collect();
        tracing::info!(run_id = %attempt.run(), attempt_id = %attempt.attempt(), trace_id = attempt.trace_id(), ?version, "runner says hello");
        let answer = self.control_plane().assignment(unary(attempt.reference())).await;
        Ok(Response::new(answer.map_err(|status| from_control_plane(&status))?.into_inner()))
    }

    async fn transcript(
        &self,
        request: Request<TranscriptChunk>,
    ) -> Result<Response<TranscriptResponse>, Status> {
        let attempt = Some(attempt_of(&request)?.reference());
        let (lines, bytes) = (request.get_ref().lines.len(), request.get_ref().encoded_len());
        if !(1..=MAX_LINES).contains(&lines) || bytes > MAX_CHUNK_BYTES {
            return Err(Status::invalid_argument(
                "a piece of the transcript holds 1 to 1024 lines and at most 2 MiB; send it in smaller ones",
            ));
        }
        let message = AttemptTranscript { attempt, chunk: Some(request.into_inner()) };
        let answer = self.control_plane().transcript(unary(message)).await;
        let stop = answer.map_err(|status| from_control_plane(&status))?.get_ref().over_limit;
        Ok(Response::new(TranscriptResponse { stop }))
    }

    async fn r#return(
        &self,
        request: Request<Streaming<ReturnPart>>,
    ) -> Result<Response<ReturnResponse>, Status> {
        let attempt = attempt_of(&request)?.clone();
        let Some(_place) = self.results.take(attempt.attempt()) else {
            // Aborted: a runner that lost its connection may try again, and the first one ends soon.
            return Err(Status::aborted("a result of this attempt is being returned; wait for its answer"));
        };
        let cut = upload::cut_late(self.gateway.cut(&attempt));
        let answer = upload::pass_on(self.channel.clone(), attempt.reference(), request.into_inner(), cut);
        answer.await.map(Response::new)
    }

    async fn checkpoint(
        &self,
        request: Request<Streaming<CheckpointPart>>,
    ) -> Result<Response<CheckpointResponse>, Status> {
        let attempt = attempt_of(&request)?.clone();
        let _place = self.checkpoints.take(attempt.attempt()).ok_or_else(one_checkpoint)?;
        let cut = self.gateway.cut(&attempt);
        let answer = upload::pass_on(self.channel.clone(), attempt.reference(), request.into_inner(), cut);
        answer.await.map(Response::new)
    }

    type RestoreStream = BoxStream<'static, Result<CheckpointPart, Status>>;

    async fn restore(
        &self,
        request: Request<RestoreRequest>,
    ) -> Result<Response<Self::RestoreStream>, Status> {
        let attempt = attempt_of(&request)?.clone();
        let place = self.checkpoints.take(attempt.attempt()).ok_or_else(one_checkpoint)?;
        let answer = self.control_plane().restore(attempt.reference()).await;
        let parts = answer.map_err(|status| from_control_plane(&status))?.into_inner();
        let cut = self.gateway.cut(&attempt);
        let parts = parts.map(move |part| {
            let _held = &place;
            part.map_err(|status| from_control_plane(&status))
        });
        // Cut, it ends without its last part, which nobody takes for a whole checkpoint.
        Ok(Response::new(parts.take_until(cut).boxed()))
    }

    async fn afresh(&self, request: Request<AfreshRequest>) -> Result<Response<AfreshResponse>, Status> {
        let attempt = Some(attempt_of(&request)?.reference());
        let message = AttemptAfresh { attempt, request: Some(request.into_inner()) };
        let answer = self.control_plane().afresh(unary(message)).await;
        Ok(Response::new(answer.map_err(|status| from_control_plane(&status))?.into_inner()))
    }
}

fn one_checkpoint() -> Status {
    Status::aborted("a checkpoint of this attempt is on its way; wait for its end")
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
