//! Read-only smart HTTP of git, for the one repository of the attempt. The control plane
//! fetches; no credential for the code host comes here.

use std::collections::HashMap;

use axum::{
    body::Body,
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
};
use domain::names::RepositoryName;
use futures::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use proto::v1::{GitFetchPart, GitFetchRequest};
use serde::Deserialize;
use tonic::{Code, Status, Streaming};

use crate::{attempts::LiveAttempt, problem::Problem, relay, router::Gateway};

/// Most bytes of a request: what a clone wants and has.
const MAX_REQUEST_BYTES: usize = 8 * 1024 * 1024;
/// What goes on from git's request, spelled as the control plane looks for it.
const FORWARDED: [&str; 4] = ["Git-Protocol", "Content-Type", "Content-Encoding", "Accept"];
/// What comes back.
const RETURNED: [HeaderName; 2] = [header::CONTENT_TYPE, header::CACHE_CONTROL];

const READ_ONLY: &str =
    "git is read only here; what the agent changed is published by the platform when it is done";

#[derive(Deserialize)]
pub(crate) struct Service {
    service: Option<String>,
}

/// `GET info/refs?service=git-upload-pack`
pub(crate) async fn info_refs(
    State(gateway): State<Gateway>,
    attempt: LiveAttempt,
    Path(path): Path<(String, String)>,
    Query(query): Query<Service>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    own_repository(&attempt, &path)?;
    match query.service.as_deref() {
        Some("git-upload-pack") if method == Method::GET => {}
        Some("git-receive-pack") => return Err(Problem::new(StatusCode::FORBIDDEN, READ_ONLY)),
        _ => {
            return Err(Problem::new(
                StatusCode::NOT_FOUND,
                "only git's smart protocol is served: GET info/refs?service=git-upload-pack",
            ));
        }
    }
    fetch(&gateway, &attempt, "info/refs", &headers, Vec::new()).await
}

/// `POST git-upload-pack`
pub(crate) async fn upload_pack(
    State(gateway): State<Gateway>,
    attempt: LiveAttempt,
    Path(path): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    own_repository(&attempt, &path)?;
    if method != Method::POST {
        return Err(Problem::new(StatusCode::NOT_FOUND, "git-upload-pack takes POST only"));
    }
    let body = axum::body::to_bytes(body, MAX_REQUEST_BYTES).await.map_err(|_| {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "the request broke off or is larger than 8 MiB")
    })?;
    fetch(&gateway, &attempt, "git-upload-pack", &headers, body.into()).await
}

/// Pushing is refused, whatever the repository.
pub(crate) async fn receive_pack() -> Problem {
    Problem::new(StatusCode::FORBIDDEN, READ_ONLY)
}

fn own_repository(attempt: &LiveAttempt, (owner, repository): &(String, String)) -> Result<(), Problem> {
    let asked = repository
        .strip_suffix(".git")
        .and_then(|name| format!("{owner}/{name}").parse::<RepositoryName>().ok());
    match asked {
        Some(asked) if asked == *attempt.repository() => Ok(()),
        Some(_) => Err(Problem::new(
            StatusCode::FORBIDDEN,
            format!("this run may read {} only", attempt.repository()),
        )),
        None => Err(Problem::new(StatusCode::NOT_FOUND, "a repository is at /git/{owner}/{name}.git")),
    }
}

async fn fetch(
    gateway: &Gateway,
    attempt: &LiveAttempt,
    path: &'static str,
    headers: &HeaderMap,
    body: Vec<u8>,
) -> Result<Response, Problem> {
    let line = relay::LogLine::start("git", attempt);
    let mut cut = gateway.cut(attempt);
    let answer = tokio::select! {
        answer = ask(gateway, attempt, path, headers, body) => answer,
        refusal = &mut cut => Err(refusal.into()),
    };
    match answer {
        Ok(answer) => Ok(answer.into_response(cut, line)),
        Err(problem) => {
            line.refused(problem.status);
            Err(problem)
        }
    }
}

/// The beginning of an answer and where the rest comes from.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    first: Vec<u8>,
    rest: Streaming<GitFetchPart>,
}

impl Answer {
    fn into_response(
        self,
        cut: futures::future::BoxFuture<'static, crate::problem::Refusal>,
        mut line: relay::LogLine,
    ) -> Response {
        line.status = Some(self.status);
        let chunks = stream::try_unfold((Some(self.first), self.rest), |(first, mut rest)| async move {
            let chunk = match first {
                Some(first) => Some(first),
                None => rest.message().await?.map(|part| part.data),
            };
            Ok::<_, Status>(chunk.map(|chunk| (chunk.into(), (None, rest))))
        });
        (self.status, self.headers, relay::body(chunks, cut, line)).into_response()
    }
}

async fn ask(
    gateway: &Gateway,
    attempt: &LiveAttempt,
    path: &'static str,
    headers: &HeaderMap,
    body: Vec<u8>,
) -> Result<Answer, Problem> {
    let headers: HashMap<String, String> = FORWARDED
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), headers.get(*name)?.to_str().ok()?.to_owned())))
        .collect();
    let request =
        GitFetchRequest { attempt: Some(attempt.reference()), path: path.to_owned(), headers, body };
    let refused = |status: Status| refused(&status, attempt);
    let mut parts = gateway.control_plane.clone().git_fetch(request).await.map_err(refused)?.into_inner();
    let no_answer = || Problem::new(StatusCode::BAD_GATEWAY, "the code host gave no answer; try again");
    let first = parts.message().await.map_err(refused)?.ok_or_else(no_answer)?;
    let status = u16::try_from(first.status)
        .ok()
        .and_then(|status| StatusCode::from_u16(status).ok())
        .ok_or_else(no_answer)?;
    let mut headers = HeaderMap::new();
    for (name, value) in &first.headers {
        if let Some(name) = RETURNED.iter().find(|kept| kept.as_str().eq_ignore_ascii_case(name))
            && let Ok(value) = HeaderValue::from_str(value)
        {
            headers.insert(name, value);
        }
    }
    Ok(Answer { status, headers, first: first.data, rest: parts })
}

fn refused(status: &Status, attempt: &LiveAttempt) -> Problem {
    tracing::warn!(
        run_id = %attempt.run(), attempt_id = %attempt.attempt(), trace_id = attempt.trace_id(),
        code = ?status.code(), reason = status.message(), "the control plane did not fetch for git",
    );
    match status.code() {
        Code::NotFound => {
            Problem::new(StatusCode::NOT_FOUND, "the code host does not show this repository to the platform")
        }
        Code::Unavailable | Code::DeadlineExceeded => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the repository cannot be fetched right now; try again",
        ),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss
        | Code::Unauthenticated => Problem::new(
            StatusCode::BAD_GATEWAY,
            "the repository could not be fetched; the control plane's log says why",
        ),
    }
}
