//! A control plane that is played: it knows one attempt and remembers what it was asked.

use std::{
    path::{Path, PathBuf},
    pin::Pin,
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard},
};

use futures::Stream;
use proto::v1::{
    AfreshResponse, Assignment, AttemptAfresh, AttemptCheckpointPart, AttemptRef, AttemptReturnPart,
    AttemptTranscript, AttemptTranscriptResponse, AuthorizeRequest, AuthorizeResponse, CheckpointPart,
    CheckpointResponse, GitFetchPart, GitFetchRequest, KeysRequest, KeysResponse, ReturnResponse,
    attempt_service_server::{AttemptService, AttemptServiceServer},
};
use telemetry::{
    identity::{Subject, verify_service},
    signing::VerifyingKey,
};
use tokio::{
    net::UnixListener,
    sync::{oneshot, watch},
};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, Streaming};

use crate::world::{ATTEMPT, RUN, noon};

/// How the parts an attempt returned came to an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReturnEnd {
    Open,
    Complete,
    Broken,
}

/// What it knows and what it saw.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) keys: Vec<VerifyingKey>,
    pub(crate) live: bool,
    pub(crate) keys_asked: u32,
    pub(crate) authorize_asked: u32,
    pub(crate) references: Vec<AttemptRef>,
    pub(crate) transcripts: Vec<AttemptTranscript>,
    pub(crate) parts: Vec<AttemptReturnPart>,
    pub(crate) checkpoint: Vec<AttemptCheckpointPart>,
    pub(crate) afresh: Vec<AttemptAfresh>,
    pub(crate) git: Vec<GitFetchRequest>,
    /// A bare repository; its git answers for GitHub.
    pub(crate) repository: Option<PathBuf>,
}

/// Held by the test and by the server.
#[derive(Clone)]
pub(crate) struct ControlPlane {
    seen: Arc<Mutex<Seen>>,
    gateway: VerifyingKey,
    pub(crate) returned: watch::Sender<ReturnEnd>,
}

impl ControlPlane {
    pub(crate) fn new(key: VerifyingKey, gateway: VerifyingKey) -> Self {
        let seen = Seen { keys: vec![key], live: true, ..Seen::default() };
        Self { seen: Arc::new(Mutex::new(seen)), gateway, returned: watch::Sender::new(ReturnEnd::Open) }
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no test thread panicked holding it")
    }

    /// Serves on a Unix socket until the returned sender is dropped.
    pub(crate) fn start(&self, socket: &Path) -> oneshot::Sender<()> {
        let incoming = UnixListenerStream::new(UnixListener::bind(socket).expect("a socket"));
        let (stop, stopped) = oneshot::channel::<()>();
        let service =
            AttemptServiceServer::new(self.clone()).max_decoding_message_size(proto::MAX_MESSAGE_BYTES);
        let served = tonic::transport::Server::builder().add_service(service).serve_with_incoming_shutdown(
            incoming,
            async {
                // Resolves when the sender is dropped, too.
                stopped.await.ok();
            },
        );
        tokio::spawn(served);
        stop
    }

    /// Every call must prove that it is the agent gateway.
    fn check<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let header = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let token = header
            .and_then(|value| value.strip_prefix("Bearer "))
            .ok_or_else(|| Status::unauthenticated("no token"))?;
        verify_service(token, Subject::AgentGateway, &self.gateway, noon())
            .map_err(|e| Status::unauthenticated(e.to_string()))
    }
}

#[tonic::async_trait]
impl AttemptService for ControlPlane {
    async fn keys(&self, request: Request<KeysRequest>) -> Result<Response<KeysResponse>, Status> {
        self.check(&request)?;
        let mut seen = self.seen();
        seen.keys_asked += 1;
        Ok(Response::new(KeysResponse {
            ed25519: seen.keys.iter().map(|key| key.as_bytes().to_vec()).collect(),
        }))
    }

    async fn authorize(
        &self,
        request: Request<AuthorizeRequest>,
    ) -> Result<Response<AuthorizeResponse>, Status> {
        self.check(&request)?;
        let mut seen = self.seen();
        seen.authorize_asked += 1;
        let known = AttemptRef { attempt_id: ATTEMPT.to_owned(), run_id: RUN.to_owned() };
        let live = seen.live && request.into_inner().attempt == Some(known);
        Ok(Response::new(AuthorizeResponse {
            live,
            repository: "Octocat/Hello-World".to_owned(),
            trace_id: "trace".to_owned(),
            model: "scripted".to_owned(),
        }))
    }

    async fn assignment(&self, request: Request<AttemptRef>) -> Result<Response<Assignment>, Status> {
        self.check(&request)?;
        let reference = request.into_inner();
        self.seen().references.push(reference.clone());
        let AttemptRef { attempt_id, run_id } = reference;
        Ok(Response::new(Assignment {
            attempt_id,
            run_id,
            prompt: "do it".to_owned(),
            ..Assignment::default()
        }))
    }

    async fn transcript(
        &self,
        request: Request<AttemptTranscript>,
    ) -> Result<Response<AttemptTranscriptResponse>, Status> {
        self.check(&request)?;
        let transcript = request.into_inner();
        let over_limit = transcript.chunk.as_ref().is_some_and(|chunk| chunk.sequence == 9);
        self.seen().transcripts.push(transcript);
        Ok(Response::new(AttemptTranscriptResponse { over_limit }))
    }

    async fn r#return(
        &self,
        request: Request<Streaming<AttemptReturnPart>>,
    ) -> Result<Response<ReturnResponse>, Status> {
        self.check(&request)?;
        let mut parts = request.into_inner();
        loop {
            match parts.message().await {
                Ok(Some(part)) => self.seen().parts.push(part),
                Ok(None) => break,
                Err(status) => {
                    self.returned.send_replace(ReturnEnd::Broken);
                    return Err(status);
                }
            }
        }
        self.returned.send_replace(ReturnEnd::Complete);
        Ok(Response::new(ReturnResponse { message: "thank you".to_owned() }))
    }

    async fn checkpoint(
        &self,
        request: Request<Streaming<AttemptCheckpointPart>>,
    ) -> Result<Response<CheckpointResponse>, Status> {
        self.check(&request)?;
        let mut parts = request.into_inner();
        while let Some(part) = parts.message().await? {
            self.seen().checkpoint.push(part);
        }
        Ok(Response::new(CheckpointResponse { stored: true, message: String::new() }))
    }

    type RestoreStream = Pin<Box<dyn Stream<Item = Result<CheckpointPart, Status>> + Send>>;

    async fn restore(&self, request: Request<AttemptRef>) -> Result<Response<Self::RestoreStream>, Status> {
        self.check(&request)?;
        let sent = self.seen().checkpoint.clone();
        let parts: Vec<_> = sent.into_iter().filter_map(|part| part.part).map(Ok).collect();
        Ok(Response::new(Box::pin(futures::stream::iter(parts))))
    }

    async fn afresh(&self, request: Request<AttemptAfresh>) -> Result<Response<AfreshResponse>, Status> {
        self.check(&request)?;
        self.seen().afresh.push(request.into_inner());
        Ok(Response::new(AfreshResponse {}))
    }

    type GitFetchStream = Pin<Box<dyn Stream<Item = Result<GitFetchPart, Status>> + Send>>;

    async fn git_fetch(
        &self,
        request: Request<GitFetchRequest>,
    ) -> Result<Response<Self::GitFetchStream>, Status> {
        self.check(&request)?;
        let request = request.into_inner();
        let repository = {
            let mut seen = self.seen();
            seen.git.push(request.clone());
            seen.repository.clone()
        };
        let Some(repository) = repository else {
            return Err(Status::unavailable("GitHub is away at https://internal.example"));
        };
        let content_type = match request.path.as_str() {
            "info/refs" => "application/x-git-upload-pack-advertisement",
            _ => "application/x-git-upload-pack-result",
        };
        let headers =
            [("Content-Type", content_type), ("Cache-Control", "no-cache"), ("X-Internal", "secret")];
        let first = GitFetchPart {
            status: 200,
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            data: Vec::new(),
        };
        let output =
            tokio::task::spawn_blocking(move || upload_pack(&repository, &request)).await.expect("no panic");
        let parts: Vec<_> = std::iter::once(first)
            .chain(
                output
                    .chunks(1000)
                    .map(|data| GitFetchPart { data: data.to_vec(), ..GitFetchPart::default() }),
            )
            .map(Ok)
            .collect();
        Ok(Response::new(Box::pin(futures::stream::iter(parts))))
    }
}

/// What `git http-backend` would answer.
fn upload_pack(repository: &Path, request: &GitFetchRequest) -> Vec<u8> {
    let mut command = subprocess::command("git", repository);
    command
        .args(["-c", "safe.directory=*", "upload-pack", "--stateless-rpc"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    if request.path == "info/refs" {
        let refs = command.args(["--http-backend-info-refs", "."]).output().expect("git runs").stdout;
        return [b"001e# service=git-upload-pack\n0000".as_slice(), &refs].concat();
    }
    let mut child = command.arg(".").stdin(Stdio::piped()).spawn().expect("git runs");
    std::io::Write::write_all(&mut child.stdin.take().expect("piped"), &request.body).expect("git reads");
    child.wait_with_output().expect("git ends").stdout
}
