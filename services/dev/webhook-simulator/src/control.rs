//! `/_stand-in/`: what a test in another process, or a person at a prompt, does that on
//! GitHub is done by hand. From this machine only.

mod apps;

use std::net::SocketAddr;

use axum::{
    Json, Router,
    extract::{ConnectInfo, Path, Query, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use domain::names::RepositoryName;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Seed, Simulator, fault, gate, payload::issue as payload, refusal::Refusal};

pub(crate) fn routes() -> Router<Simulator> {
    Router::new()
        .route("/seed", post(seed))
        .route("/hooks", post(add_hook))
        .route("/issues", get(show_issue).post(open_issue))
        .route("/labels", post(add_label))
        .route("/comments", get(comments).post(add_comment))
        .route("/pulls", get(pulls))
        .route("/reviews", get(reviews).post(review))
        .route("/merges", post(merge))
        .route("/diff", get(diff))
        .route("/deliveries", get(deliveries))
        .route("/deliveries/{id}/attempts", post(redeliver))
        .route("/log", get(log))
        .merge(apps::routes())
        .merge(fault::routes())
        .layer(axum::middleware::from_fn(local_only))
}

/// It takes no token, so it takes nobody from elsewhere; and no browser page, which cannot
/// send JSON across origins.
async fn local_only(ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request, next: Next) -> Response {
    if peer.ip().to_canonical().is_loopback() {
        next.run(request).await
    } else {
        (StatusCode::FORBIDDEN, "/_stand-in/ is for this machine only").into_response()
    }
}

/// Says what went wrong; callers are people and tests.
struct Failure(anyhow::Error);

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = Json(json!({ "message": format!("{:#}", self.0) }));
        (StatusCode::UNPROCESSABLE_ENTITY, body).into_response()
    }
}

type Answer = Result<Json<Value>, Failure>;

#[derive(Debug, Deserialize)]
struct NewHook {
    repository: String,
    url: String,
    secret: String,
}

#[derive(Debug, Deserialize)]
struct NewIssue {
    repository: String,
    author: String,
    title: String,
    #[serde(default)]
    body: String,
}

#[derive(Debug, Deserialize)]
struct NewLabel {
    repository: String,
    number: u64,
    label: String,
    actor: String,
}

#[derive(Debug, Deserialize)]
struct NewComment {
    repository: String,
    number: u64,
    author: String,
    body: String,
}

#[derive(Debug, Deserialize)]
struct NewReview {
    repository: String,
    number: u64,
    author: String,
    verdict: String,
    body: String,
    /// Path, line of the new version, text.
    #[serde(default)]
    remarks: Vec<(String, u64, String)>,
}

#[derive(Debug, Deserialize)]
struct NewMerge {
    repository: String,
    number: u64,
    actor: String,
}

#[derive(Debug, Deserialize)]
struct InRepository {
    repository: String,
}

#[derive(Debug, Deserialize)]
struct Numbered {
    repository: String,
    number: u64,
}

async fn seed(State(simulator): State<Simulator>, Json(seed): Json<Seed>) -> Answer {
    simulator.seed(&seed).await?;
    let repositories: Vec<String> = seed.repositories.into_iter().map(|r| r.name).collect();
    let users: Vec<String> = seed.users.into_iter().map(|u| u.login).collect();
    Ok(Json(json!({
        "api_url": simulator.api_url(),
        "git_url": simulator.git_url(),
        "repositories": repositories,
        "users": users,
    })))
}

async fn add_hook(State(simulator): State<Simulator>, Json(new): Json<NewHook>) -> Answer {
    let id = simulator.ensure_hook(&new.repository, &new.url, &new.secret)?;
    Ok(Json(json!({ "id": id })))
}

/// The issue as the REST API shows it.
fn issue(simulator: &Simulator, repository: &str, number: u64) -> Answer {
    let key = repository.parse::<RepositoryName>()?.key();
    let value = simulator.read(|world| {
        world.issue(&key, number).map(|(repository, issue)| payload::issue(world, repository, issue))
    })?;
    Ok(Json(value))
}

async fn open_issue(State(simulator): State<Simulator>, Json(new): Json<NewIssue>) -> Answer {
    simulator.add_user(&new.author, false);
    let number = simulator.open_issue(&new.repository, &new.author, &new.title, &new.body)?;
    issue(&simulator, &new.repository, number)
}

async fn show_issue(State(simulator): State<Simulator>, Query(wanted): Query<Numbered>) -> Answer {
    issue(&simulator, &wanted.repository, wanted.number)
}

async fn add_label(State(simulator): State<Simulator>, Json(new): Json<NewLabel>) -> Answer {
    simulator.add_user(&new.actor, false);
    simulator.add_label(&new.repository, new.number, &new.label, &new.actor)?;
    issue(&simulator, &new.repository, new.number)
}

async fn add_comment(State(simulator): State<Simulator>, Json(new): Json<NewComment>) -> Answer {
    simulator.add_user(&new.author, false);
    let id = simulator.add_comment(&new.repository, new.number, &new.author, &new.body)?;
    Ok(Json(json!({ "id": id })))
}

fn list<T: Serialize>(items: Vec<T>) -> Answer {
    Ok(Json(serde_json::to_value(items)?))
}

async fn comments(State(simulator): State<Simulator>, Query(wanted): Query<Numbered>) -> Answer {
    // An issue that is not there is an error, not an empty list.
    drop(issue(&simulator, &wanted.repository, wanted.number)?);
    list(simulator.comments(&wanted.repository, wanted.number))
}

async fn pulls(State(simulator): State<Simulator>, Query(wanted): Query<InRepository>) -> Answer {
    list(simulator.pull_requests(&wanted.repository))
}

async fn review(State(simulator): State<Simulator>, Json(new): Json<NewReview>) -> Answer {
    simulator.add_user(&new.author, false);
    let NewReview { repository, number, author, verdict, body, remarks } = &new;
    let remarks: Vec<(&str, u64, &str)> =
        remarks.iter().map(|(path, line, text)| (path.as_str(), *line, text.as_str())).collect();
    let id = simulator.review(repository, *number, author, verdict, body, &remarks).await?;
    Ok(Json(json!({ "id": id })))
}

async fn reviews(State(simulator): State<Simulator>, Query(wanted): Query<Numbered>) -> Answer {
    drop(issue(&simulator, &wanted.repository, wanted.number)?);
    list(simulator.reviews(&wanted.repository, wanted.number))
}

async fn merge(State(simulator): State<Simulator>, Json(new): Json<NewMerge>) -> Answer {
    simulator.add_user(&new.actor, false);
    let sha = simulator.merge(&new.repository, new.number, &new.actor).await?;
    Ok(Json(json!({ "sha": sha })))
}

async fn diff(State(simulator): State<Simulator>, Query(wanted): Query<Numbered>) -> Result<String, Failure> {
    Ok(simulator.pull_request_diff(&wanted.repository, wanted.number).await?)
}

async fn deliveries(State(simulator): State<Simulator>, Query(wanted): Query<InRepository>) -> Answer {
    let key = wanted.repository.parse::<RepositoryName>()?.key();
    let of_it = |w: &crate::world::World| {
        w.deliveries.values().filter(|d| d.repository.as_ref() == Some(&key)).cloned().collect::<Vec<_>>()
    };
    list(simulator.read(of_it))
}

async fn redeliver(State(simulator): State<Simulator>, Path(id): Path<u64>) -> Answer {
    let id = simulator.change(|world| world.redeliver(id)).map_err(|_: Refusal| {
        anyhow::anyhow!("there is no delivery {id}; `webhook-simulator show deliveries` lists them")
    })?;
    Ok(Json(json!({ "id": id })))
}

async fn log(State(simulator): State<Simulator>) -> Answer {
    let log = simulator.request_log();
    Ok(Json(json!({ "counts": gate::counts(&log), "requests": log })))
}
