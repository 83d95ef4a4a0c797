//! Repositories over smart HTTP, by git's own `git http-backend`.

use std::{path::Path as FilePath, process::Stdio};

use anyhow::Context;
use axum::{
    Extension, Router,
    body::Body,
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use domain::{names::RepositoryName, rights::Permission};
use futures::TryStreamExt;
use http::{HeaderName, HeaderValue, StatusCode, header};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader},
    process::{Child, ChildStdout},
};
use tokio_util::io::{ReaderStream, StreamReader};

use crate::{
    Simulator,
    apps::Level,
    caller::Caller,
    git::{Bare, Ref, ZERO},
    world::{Repository, World},
};

pub(crate) fn routes() -> Router<Simulator> {
    Router::new()
        .route("/{owner}/{repo}/info/refs", get(advertise))
        .route("/{owner}/{repo}/git-upload-pack", post(upload_pack))
        .route("/{owner}/{repo}/git-receive-pack", post(receive_pack))
}

/// Where `git http-backend` is.
pub(crate) async fn backend(folder: &FilePath) -> anyhow::Result<std::path::PathBuf> {
    let mut command = tokio::process::Command::from(subprocess::command("git", folder));
    let output = command
        .arg("--exec-path")
        .output()
        .await
        .context("cannot start git; install it, for example with `apt-get install git`")?;
    let path = FilePath::new(String::from_utf8_lossy(&output.stdout).trim()).join("git-http-backend");
    anyhow::ensure!(path.is_file(), "{} is missing; install the whole git package", path.display());
    Ok(path)
}

/// A service of git, and what it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    UploadPack,
    ReceivePack,
}

/// A repository the caller may use for the service.
struct Admitted {
    key: String,
    bare: Bare,
    refs: std::sync::Arc<tokio::sync::Mutex<()>>,
    login: Option<String>,
}

type Parts = Path<(String, String)>;

async fn advertise(
    State(simulator): State<Simulator>,
    Extension(caller): Extension<Caller>,
    Path((owner, name)): Parts,
    request: Request,
) -> Response {
    let service = match request.uri().query() {
        Some("service=git-upload-pack") => Service::UploadPack,
        Some("service=git-receive-pack") => Service::ReceivePack,
        _ => return refuse(StatusCode::FORBIDDEN, "Please upgrade your git client."),
    };
    match admit(&simulator, &caller, &owner, &name, service) {
        Ok(admitted) => answer(stream(&simulator, &admitted, "info/refs", request).await),
        Err(refusal) => *refusal,
    }
}

async fn upload_pack(
    State(simulator): State<Simulator>,
    Extension(caller): Extension<Caller>,
    Path((owner, name)): Parts,
    request: Request,
) -> Response {
    match admit(&simulator, &caller, &owner, &name, Service::UploadPack) {
        Ok(admitted) => answer(stream(&simulator, &admitted, "git-upload-pack", request).await),
        Err(refusal) => *refusal,
    }
}

async fn receive_pack(
    State(simulator): State<Simulator>,
    Extension(caller): Extension<Caller>,
    Path((owner, name)): Parts,
    request: Request,
) -> Response {
    match admit(&simulator, &caller, &owner, &name, Service::ReceivePack) {
        Ok(admitted) => answer(receive(&simulator, &admitted, request).await),
        Err(refusal) => *refusal,
    }
}

fn answer(outcome: anyhow::Result<Response>) -> Response {
    outcome.unwrap_or_else(|error| {
        tracing::error!(error = format!("{error:#}"), "git http-backend failed");
        refuse(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
    })
}

fn refuse(status: StatusCode, words: &str) -> Response {
    let mut response = (status, format!("{words}\n")).into_response();
    if status == StatusCode::UNAUTHORIZED {
        let ask = HeaderValue::from_static("Basic realm=\"GitHub\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, ask);
    }
    response
}

fn admit(
    simulator: &Simulator,
    caller: &Caller,
    owner: &str,
    name: &str,
    service: Service,
) -> Result<Admitted, Box<Response>> {
    let refuse = |status, words: &str| Err(Box::new(refuse(status, words)));
    let ask_for_token = || {
        refuse(
            StatusCode::UNAUTHORIZED,
            "Invalid username or token. Password authentication is not supported for Git operations.",
        )
    };
    if matches!(caller, Caller::Refused(_) | Caller::App(_)) {
        return ask_for_token();
    }
    let name = name.strip_suffix(".git").unwrap_or(name);
    let key = format!("{owner}/{name}").parse::<RepositoryName>().map(|n| n.key()).unwrap_or_default();
    simulator.read(|world| {
        let permission = |r: &Repository| world.permission_with_git(r, caller);
        // Git is led to the new name without a word.
        let key = match world.moved_to(&key) {
            Some(now) if !world.repositories.contains_key(&key) => now.key(),
            Some(_) | None => key,
        };
        let found = world.repositories.get(&key).filter(|r| permission(r) >= Permission::Read);
        let Some(repository) = found else {
            // Nobody learns without a token what is there and what is not.
            return match caller.login() {
                Some(_) => refuse(StatusCode::NOT_FOUND, "Repository not found."),
                None => ask_for_token(),
            };
        };
        if service == Service::ReceivePack {
            let Some(login) = caller.login() else { return ask_for_token() };
            if permission(repository) < Permission::Write {
                let words = format!("Permission to {}.git denied to {login}.", repository.name);
                return refuse(StatusCode::FORBIDDEN, &words);
            }
            if repository.archived {
                let words = "This repository was archived so it is read-only.";
                return refuse(StatusCode::FORBIDDEN, words);
            }
        }
        Ok(Admitted {
            key: key.clone(),
            bare: repository.bare.clone(),
            refs: repository.refs.clone(),
            login: caller.login().map(str::to_owned),
        })
    })
}

impl World {
    /// What git may do for this caller.
    fn permission_with_git(&self, repository: &Repository, caller: &Caller) -> Permission {
        let open = self.permission(repository, None);
        match caller {
            Caller::Installation(grant) if grant.covers(repository) => {
                let may = |level| grant.permissions.allow("contents", level);
                match () {
                    () if may(Level::Write) => Permission::Write,
                    () if may(Level::Read) => Permission::Read,
                    () => open,
                }
            }
            Caller::Installation(_) => open,
            Caller::User(token) if !token.has("repo") => open,
            Caller::User(token) => self.permission(repository, Some(&token.login)),
            Caller::Anonymous | Caller::App(_) | Caller::Refused(_) => open,
        }
    }
}

/// Starts the backend and feeds it the request's body, which it may read as slowly as it
/// likes.
fn start(
    simulator: &Simulator,
    admitted: &Admitted,
    action: &str,
    request: Request,
) -> anyhow::Result<(Child, BufReader<ChildStdout>)> {
    let (parts, body) = request.into_parts();
    let path = admitted.bare.path();
    let mut command = admitted.bare.command(simulator.git_http_backend());
    command
        .env("GIT_PROJECT_ROOT", path)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", format!("/{action}"))
        .env("REQUEST_METHOD", parts.method.as_str())
        .env("QUERY_STRING", parts.uri.query().unwrap_or_default())
        .env("REMOTE_ADDR", "127.0.0.1")
        .env("SERVER_PROTOCOL", "HTTP/1.1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if let Some(login) = &admitted.login {
        command.env("REMOTE_USER", login);
    }
    for (name, variable) in [
        ("content-type", "CONTENT_TYPE"),
        ("content-length", "CONTENT_LENGTH"),
        ("content-encoding", "HTTP_CONTENT_ENCODING"),
        ("git-protocol", "GIT_PROTOCOL"),
    ] {
        if let Some(value) = parts.headers.get(name).and_then(|v| v.to_str().ok()) {
            command.env(variable, value);
        }
    }
    let mut child = command.spawn().context("cannot start git http-backend")?;
    let mut stdin = child.stdin.take().context("stdin is piped")?;
    let stdout = child.stdout.take().context("stdout is piped")?;
    let mut stderr = child.stderr.take().context("stderr is piped")?;
    simulator.spawn(async move {
        let stream = body.into_data_stream().map_err(std::io::Error::other);
        // A backend that has read enough closes the pipe.
        tokio::io::copy(&mut StreamReader::new(stream), &mut stdin).await.ok();
    });
    simulator.spawn(async move {
        let mut words = String::new();
        if stderr.read_to_string(&mut words).await.is_ok() && !words.is_empty() {
            tracing::debug!(words = words.trim(), "git http-backend");
        }
    });
    Ok((child, BufReader::new(stdout)))
}

/// The status and headers the backend starts its answer with.
async fn head(
    output: &mut (impl AsyncRead + AsyncBufReadExt + Unpin),
) -> anyhow::Result<http::response::Builder> {
    let mut response = Response::builder();
    loop {
        let mut line = String::new();
        anyhow::ensure!(output.read_line(&mut line).await? > 0, "it ended before its headers did");
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(response);
        }
        let (name, value) = line.split_once(':').context("it wrote a line that is no header")?;
        let value = value.trim();
        response = if name.eq_ignore_ascii_case("status") {
            response.status(value.split(' ').next().unwrap_or_default())
        } else {
            response.header(HeaderName::try_from(name)?, HeaderValue::try_from(value)?)
        };
    }
}

/// Passes the answer on while the backend writes it.
async fn stream(
    simulator: &Simulator,
    admitted: &Admitted,
    action: &str,
    request: Request,
) -> anyhow::Result<Response> {
    let (mut child, mut output) = start(simulator, admitted, action, request)?;
    let response = head(&mut output).await?;
    simulator.spawn(async move {
        child.wait().await.ok();
    });
    Ok(response.body(Body::from_stream(ReaderStream::new(output)))?)
}

/// A push: the answer is small and held back until everybody has been told what moved.
async fn receive(simulator: &Simulator, admitted: &Admitted, request: Request) -> anyhow::Result<Response> {
    let _guard = admitted.refs.lock().await;
    let before = admitted.bare.refs().await?;
    let (mut child, mut output) = start(simulator, admitted, "git-receive-pack", request)?;
    let response = head(&mut output).await?;
    let mut body = Vec::new();
    output.read_to_end(&mut body).await?;
    child.wait().await?;
    let after = admitted.bare.refs().await?;
    let actor = admitted.login.as_deref().unwrap_or_default();
    simulator.refs_moved(&admitted.key, moves(&before, &after), actor).await?;
    Ok(response.body(Body::from(body))?)
}

/// Branches and tags that differ, as name, old and new.
fn moves(before: &[Ref], after: &[Ref]) -> Vec<(String, String, String)> {
    let sha = |refs: &[Ref], name: &str| {
        refs.iter().find(|r| r.name == name).map_or_else(|| ZERO.to_owned(), |r| r.sha.clone())
    };
    let mut names: Vec<&String> = before.iter().chain(after).map(|r| &r.name).collect();
    names.sort();
    names.dedup();
    names
        .into_iter()
        .filter(|name| name.starts_with("refs/heads/") || name.starts_with("refs/tags/"))
        .map(|name| (name.clone(), sha(before, name), sha(after, name)))
        .filter(|(_, old, new)| old != new)
        .collect()
}
