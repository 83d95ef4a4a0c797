//! An agent gateway on a Unix socket: gRPC, and git of one repository by `git http-backend`.

use std::{
    collections::VecDeque,
    fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::{Arc, Mutex},
};

use axum::{
    body::Bytes,
    extract::{Request as HttpRequest, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response as HttpResponse},
};
use proto::v1::{
    AfreshRequest, AfreshResponse, AgentSpec, Assignment, CheckpointPart, CheckpointResponse, FileChange,
    HelloRequest, RestorePoint, RestoreRequest, ReturnOutcome, ReturnPart, ReturnResponse, TranscriptChunk,
    TranscriptLine, TranscriptResponse,
    agent_spec::Kind,
    return_part::Part,
    runner_service_server::{RunnerService, RunnerServiceServer},
    transcript_line::Stream,
};
use tokio::io::AsyncWriteExt;
use tonic::{Request, Response, Status, Streaming};

const TOKEN: &str = "run-token-of-the-test";

/// What the runner returned.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) outcome: ReturnOutcome,
    pub(crate) files: Vec<FileChange>,
    pub(crate) session: Vec<u8>,
}

#[derive(Default)]
struct Shared {
    assignment: Assignment,
    lines: Mutex<Vec<TranscriptLine>>,
    sequences: Mutex<Vec<u64>>,
    /// Answers to the next transcripts; then "go on".
    stop_at: Mutex<Option<String>>,
    /// Codes the next returns fail with.
    return_failures: Mutex<VecDeque<tonic::Code>>,
    received: Mutex<Option<Received>>,
    /// What was sent as a checkpoint, last one last.
    checkpoints: Mutex<Vec<Vec<CheckpointPart>>>,
    /// What is given back of an earlier one.
    restore: Vec<CheckpointPart>,
    /// Why checkpoints could not be restored.
    afresh: Mutex<Vec<String>>,
    repositories: PathBuf,
    /// How often a runner said hello.
    greeted: Mutex<u32>,
}

/// A gateway, a repository with one commit, and a place for a runner.
pub(crate) struct Gateway {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) router: axum::Router,
    shared: Arc<Shared>,
    token: String,
}

impl Gateway {
    /// The agent is a shell script that runs in the clone. `adapt` may change the assignment.
    pub(crate) async fn with_agent(script: &str, adapt: impl FnOnce(&mut Assignment)) -> Self {
        Self::restoring(script, adapt, |_| Vec::new()).await
    }

    /// The attempt goes on from a checkpoint, given the base.
    pub(crate) async fn restoring(
        script: &str,
        adapt: impl FnOnce(&mut Assignment),
        restore: impl FnOnce(&str) -> Vec<CheckpointPart>,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let source = folder.path().join("source");
        fs::create_dir(&source).expect("made");
        git(&source, &["init", "-q", "-b", "main"]);
        fs::write(source.join("README.md"), "# Hello\n").expect("written");
        // Would be converted and filtered by a git that listens to it.
        fs::write(source.join(".gitattributes"), "*.crlf text eol=crlf\n*.bin filter=lfs\n")
            .expect("written");
        fs::write(source.join("a.crlf"), "one\ntwo\n").expect("written");
        fs::write(source.join("b.bin"), "version https://git-lfs.github.com/spec/v1\n").expect("written");
        git(&source, &["add", "-A"]);
        git(&source, &["-c", "user.name=A", "-c", "user.email=a@b.c", "commit", "-q", "-m", "base"]);
        let sha =
            String::from_utf8(git(&source, &["rev-parse", "HEAD"]).stdout).expect("text").trim().to_owned();
        let repositories = folder.path().join("repositories");
        fs::create_dir_all(repositories.join("octo")).expect("made");
        git(&source, &["clone", "-q", "--bare", ".", &repositories.join("octo/hello.git").to_string_lossy()]);

        let mut assignment = Assignment {
            run_id: "run-1".into(),
            attempt_id: "attempt-1".into(),
            repository: "octo/hello".into(),
            base_sha: sha,
            base_branch: "main".into(),
            prompt: "Do the thing.\n".into(),
            agent: Some(AgentSpec {
                kind: Kind::Command.into(),
                argv: vec!["/bin/sh".into(), "-c".into(), script.to_owned()],
                ..AgentSpec::default()
            }),
            max_changeset_bytes: 1 << 20,
            max_processes: 200,
            max_file_bytes: 1 << 24,
            ..Default::default()
        };
        adapt(&mut assignment);
        let restore = restore(&assignment.base_sha);
        if !restore.is_empty() {
            assignment.restore = Some(RestorePoint::default());
        }
        let shared = Arc::new(Shared { assignment, repositories, restore, ..Default::default() });
        let socket = tokio::net::UnixListener::bind(folder.path().join("gw.sock")).expect("bound");
        let grpc =
            RunnerServiceServer::with_interceptor(Service(Arc::clone(&shared)), |request: Request<()>| {
                let bearer = format!("Bearer {TOKEN}");
                let given = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
                if given == Some(&bearer) {
                    Ok(request)
                } else {
                    Err(Status::unauthenticated("no run token"))
                }
            });
        let router = tonic::service::Routes::new(grpc).prepare().into_axum_router();
        let git = axum::Router::new()
            .route("/git/{*path}", axum::routing::any(git_backend))
            .with_state(Arc::clone(&shared));
        let router = router.merge(git);
        tokio::spawn(axum::serve(socket, router.clone()).into_future());
        Self { folder, router, shared, token: TOKEN.to_owned() }
    }

    pub(crate) fn token(mut self, token: &str) -> Self {
        token.clone_into(&mut self.token);
        self
    }

    /// Answers "stop" to the transcript with this line.
    pub(crate) fn stop_at(self, line: &str) -> Self {
        *self.shared.stop_at.lock().expect("not poisoned") = Some(line.to_owned());
        self
    }

    pub(crate) fn fail_returns(self, codes: &[tonic::Code]) -> Self {
        self.shared.return_failures.lock().expect("not poisoned").extend(codes);
        self
    }

    /// Runs the runner to its end.
    pub(crate) async fn run(&self) -> Output {
        let socket = format!("unix:{}", self.folder.path().join("gw.sock").display());
        self.run_at(&["--gateway", &socket]).await
    }

    /// Runs the runner, which is told where the gateway is, to its end.
    pub(crate) async fn run_at(&self, gateway: &[&str]) -> Output {
        let workspace = self.folder.path().join("work");
        fs::create_dir(&workspace).expect("made");
        let mut command = subprocess::command(env!("CARGO_BIN_EXE_agent-runner"), &workspace);
        command
            .args(gateway)
            .arg("--token-file")
            .arg(self.token_file(self.folder.path()))
            .arg("--workspace")
            .arg(&workspace)
            // Whoever runs the tests has other processes.
            .arg("--no-process-limit");
        let run = tokio::process::Command::from(command).kill_on_drop(true).output();
        tokio::time::timeout(std::time::Duration::from_secs(60), run)
            .await
            .expect("it ends within 60 s")
            .expect("it runs")
    }

    /// The run token, as a file in `folder`.
    pub(crate) fn token_file(&self, folder: &Path) -> PathBuf {
        let file = folder.join("token");
        fs::write(&file, &self.token).expect("written");
        file
    }

    pub(crate) fn greeted(&self) -> u32 {
        *self.shared.greeted.lock().expect("not poisoned")
    }

    pub(crate) fn received(&self) -> Received {
        self.shared.received.lock().expect("not poisoned").take().expect("something was returned")
    }

    pub(crate) fn checkpoints(&self) -> Vec<Vec<CheckpointPart>> {
        self.shared.checkpoints.lock().expect("not poisoned").clone()
    }

    pub(crate) fn afresh(&self) -> Vec<String> {
        self.shared.afresh.lock().expect("not poisoned").clone()
    }

    pub(crate) fn returned_nothing(&self) -> bool {
        self.shared.received.lock().expect("not poisoned").is_none()
    }

    /// The transcript, after a check that its numbers have no gap.
    pub(crate) fn lines(&self, stream: Stream) -> Vec<String> {
        let sequences = self.shared.sequences.lock().expect("not poisoned").clone();
        assert_eq!(sequences, (0..sequences.len() as u64).collect::<Vec<_>>());
        let lines = self.shared.lines.lock().expect("not poisoned");
        lines.iter().filter(|line| line.stream() == stream).map(|line| line.text.clone()).collect()
    }
}

fn git(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = subprocess::command("git", folder);
    command.env("HOME", folder).env("GIT_CONFIG_NOSYSTEM", "1").args(arguments);
    let output = command.output().expect("git runs");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// `git http-backend` as CGI; only with the run token.
async fn git_backend(State(shared): State<Arc<Shared>>, request: HttpRequest) -> HttpResponse {
    let (parts, body) = request.into_parts();
    let header = |name: &str| {
        parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    if header("authorization") != format!("Bearer {TOKEN}") {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let mut command = subprocess::command("git", &shared.repositories);
    command
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", &shared.repositories)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_PROTOCOL", header("git-protocol"))
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("CONTENT_TYPE", header("content-type"))
        .env("REQUEST_METHOD", parts.method.as_str())
        .env("QUERY_STRING", parts.uri.query().unwrap_or_default())
        .env("PATH_INFO", parts.uri.path().trim_start_matches("/git"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let body: Bytes = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
    let mut child = tokio::process::Command::from(command).spawn().expect("git runs");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(&body).await.expect("written");
    drop(stdin);
    let output = child.wait_with_output().await.expect("it ends").stdout;
    let end = output.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("headers");
    let head = String::from_utf8_lossy(&output[..end]).into_owned();
    let value =
        |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).map(str::to_owned);
    let status = value("Status:").and_then(|status| status[..3].parse::<u16>().ok()).unwrap_or(200);
    let kind = value("Content-Type:").unwrap_or_default();
    (
        StatusCode::from_u16(status).expect("a status"),
        [(header::CONTENT_TYPE, kind)],
        output[end + 4..].to_vec(),
    )
        .into_response()
}

struct Service(Arc<Shared>);

#[tonic::async_trait]
impl RunnerService for Service {
    async fn hello(&self, _: Request<HelloRequest>) -> Result<Response<Assignment>, Status> {
        *self.0.greeted.lock().expect("not poisoned") += 1;
        Ok(Response::new(self.0.assignment.clone()))
    }

    async fn transcript(
        &self,
        request: Request<TranscriptChunk>,
    ) -> Result<Response<TranscriptResponse>, Status> {
        let chunk = request.into_inner();
        self.0.sequences.lock().expect("not poisoned").push(chunk.sequence);
        let stop_at = self.0.stop_at.lock().expect("not poisoned").clone();
        let stop = stop_at.is_some_and(|stop| chunk.lines.iter().any(|line| line.text == stop));
        self.0.lines.lock().expect("not poisoned").extend(chunk.lines);
        Ok(Response::new(TranscriptResponse { stop }))
    }

    async fn r#return(
        &self,
        request: Request<Streaming<ReturnPart>>,
    ) -> Result<Response<ReturnResponse>, Status> {
        let mut parts = request.into_inner();
        let mut received = Received::default();
        let mut first = true;
        while let Some(part) = parts.message().await? {
            match part.part.ok_or_else(|| Status::invalid_argument("an empty part"))? {
                Part::Outcome(outcome) => {
                    assert!(std::mem::take(&mut first), "the outcome comes first");
                    received.outcome = outcome;
                }
                Part::File(file) => received.files.push(file),
                Part::MoreContent(bytes) => received.files.last_mut().expect("a file").content.extend(bytes),
                Part::Session(bytes) => received.session.extend(bytes),
            }
        }
        if let Some(code) = self.0.return_failures.lock().expect("not poisoned").pop_front() {
            return Err(Status::new(code, "restarting"));
        }
        *self.0.received.lock().expect("not poisoned") = Some(received);
        Ok(Response::new(ReturnResponse { message: "thank you".into() }))
    }

    async fn checkpoint(
        &self,
        request: Request<Streaming<CheckpointPart>>,
    ) -> Result<Response<CheckpointResponse>, Status> {
        let mut parts = request.into_inner();
        let mut all = Vec::new();
        while let Some(part) = parts.message().await? {
            all.push(part);
        }
        self.0.checkpoints.lock().expect("not poisoned").push(all);
        Ok(Response::new(CheckpointResponse { stored: true, message: String::new() }))
    }

    type RestoreStream = futures::stream::BoxStream<'static, Result<CheckpointPart, Status>>;

    async fn restore(&self, _: Request<RestoreRequest>) -> Result<Response<Self::RestoreStream>, Status> {
        Ok(Response::new(Box::pin(futures::stream::iter(self.0.restore.clone().into_iter().map(Ok)))))
    }

    async fn afresh(&self, request: Request<AfreshRequest>) -> Result<Response<AfreshResponse>, Status> {
        self.0.afresh.lock().expect("not poisoned").push(request.into_inner().reason);
        Ok(Response::new(AfreshResponse {}))
    }
}
