//! The agent gateway's gRPC, as an attempt may use it.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use proto::v1::{
    AfreshRequest, Assignment, CheckpointPart, CheckpointResponse, HelloRequest, RestoreRequest,
    TranscriptChunk, runner_service_client::RunnerServiceClient,
};
use secrecy::{ExposeSecret, SecretString};
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};
use tower::service_fn;

use crate::{connect::Connector, returned::Returned};

/// Pauses before a call is repeated; the gateway may be restarting.
const PAUSES: [Duration; 6] = [
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// How often the gateway is asked whether it is still there, and how long it may take to say so:
/// over a network a connection can end without a word.
const STILL_THERE_EVERY: Duration = Duration::from_secs(20);
const STILL_THERE_WITHIN: Duration = Duration::from_secs(20);

/// Puts the run token on each request.
#[derive(Clone)]
struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// The agent gateway.
#[derive(Clone)]
pub(crate) struct Gateway {
    client: RunnerServiceClient<InterceptedService<Channel, Bearer>>,
}

impl Gateway {
    /// Connects when it is first used and again after a break.
    pub(crate) fn connect(gateway: &Connector, token: &SecretString) -> anyhow::Result<Self> {
        let mut bearer: MetadataValue<Ascii> = format!("Bearer {}", token.expose_secret())
            .parse()
            .map_err(|_| anyhow::anyhow!("the run token is not a header value"))?;
        bearer.set_sensitive(true);
        let connector = gateway.clone();
        // tonic would do TLS itself for https here, and again above ours.
        let channel = Endpoint::from_static("http://agent-gateway")
            .origin(gateway.origin())
            .http2_keep_alive_interval(STILL_THERE_EVERY)
            .keep_alive_timeout(STILL_THERE_WITHIN)
            .connect_with_connector_lazy(service_fn(move |_| {
                let connector = connector.clone();
                async move { connector.http2().await.map(TokioIo::new) }
            }));
        let client = RunnerServiceClient::with_interceptor(channel, Bearer(bearer))
            .max_decoding_message_size(proto::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(proto::MAX_MESSAGE_BYTES);
        Ok(Self { client })
    }

    /// What to do.
    pub(crate) async fn hello(&self) -> Result<Assignment, Status> {
        let request = HelloRequest { runner_version: env!("CARGO_PKG_VERSION").to_owned() };
        repeated(|| {
            let (mut client, request) = (self.client.clone(), request.clone());
            async move { client.hello(request).await }
        })
        .await
    }

    /// Sends a piece of the transcript. True when the agent must be stopped.
    pub(crate) async fn transcript(&self, chunk: &TranscriptChunk) -> Result<bool, Status> {
        let answer = repeated(|| {
            let (mut client, chunk) = (self.client.clone(), chunk.clone());
            async move { client.transcript(chunk).await }
        });
        answer.await.map(|answer| answer.stop)
    }

    /// Returns the result; gives back what the platform will do with it.
    pub(crate) async fn give_back(&self, returned: &Returned, base_sha: &str) -> Result<String, Status> {
        let answer = repeated(|| {
            let (mut client, parts) = (self.client.clone(), returned.parts(base_sha));
            async move { client.r#return(futures::stream::iter(parts)).await }
        });
        answer.await.map(|answer| answer.message)
    }

    /// Sends a checkpoint.
    pub(crate) async fn checkpoint(&self, parts: &[CheckpointPart]) -> Result<CheckpointResponse, Status> {
        repeated(|| {
            let (mut client, parts) = (self.client.clone(), parts.to_vec());
            async move { client.checkpoint(futures::stream::iter(parts)).await }
        })
        .await
    }

    /// The parts of the checkpoint to go on from, as far as they come.
    pub(crate) async fn restore(&self) -> Result<Vec<CheckpointPart>, Status> {
        let mut parts = repeated(|| {
            let mut client = self.client.clone();
            async move { client.restore(RestoreRequest {}).await }
        })
        .await?;
        let mut all = Vec::new();
        while let Some(part) = parts.message().await? {
            all.push(part);
        }
        Ok(all)
    }

    /// Says that the checkpoint could not be restored.
    pub(crate) async fn afresh(&self, reason: &str) -> Result<(), Status> {
        let request = AfreshRequest { reason: reason.to_owned() };
        let answer = repeated(|| {
            let (mut client, request) = (self.client.clone(), request.clone());
            async move { client.afresh(request).await }
        });
        answer.await.map(drop)
    }
}

/// Repeats a call while the gateway is away.
async fn repeated<T, F>(mut call: impl FnMut() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<tonic::Response<T>, Status>>,
{
    for pause in PAUSES {
        match call().await {
            Err(status) if passes(&status) => tokio::time::sleep(pause).await,
            answer => return answer.map(tonic::Response::into_inner),
        }
    }
    call().await.map(tonic::Response::into_inner)
}

/// True when the same call may succeed a moment later.
fn passes(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded | Code::Aborted
    )
}
