//! `callboard repo add`, `rotate-secret`, `remove`, `check` and `list`.

use std::{pin::Pin, sync::Arc};

use chrono::{DateTime, SecondsFormat, Utc};
use domain::names::RepositoryName;
use futures::Stream;
use proto::admin::{AddRepositoryRequest, Finding, RepositoryView, SetupStep, WebhookSecretResponse};
use secrecy::ExposeSecret;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::{
    App,
    serving::internal,
    setup::{self, Asked, Halt, Progress},
};

/// Steps as they come to their end.
pub(super) type Steps = Pin<Box<dyn Stream<Item = Result<SetupStep, Status>> + Send>>;

pub(super) fn name(text: &str) -> Result<RepositoryName, Status> {
    text.parse().map_err(|e: domain::names::InvalidName| Status::invalid_argument(e.to_string()))
}

/// Does the work in a task of its own: whoever asked may go away.
fn stream<F>(work: impl FnOnce(Progress) -> F) -> Steps
where
    F: Future<Output = Result<(), Halt>> + Send + 'static,
{
    let (sender, steps) = mpsc::channel(16);
    let progress = Progress(sender);
    let working = work(progress.clone());
    tokio::spawn(async move {
        if let Err(halt) = working.await {
            progress.end(halt).await;
        }
    });
    Box::pin(ReceiverStream::new(steps))
}

pub(super) fn add(app: &Arc<App>, actor: String, asked: AddRepositoryRequest) -> Result<Steps, Status> {
    let some = |text: String| (!text.is_empty()).then_some(text);
    let asked = Asked {
        name: name(&asked.repository)?,
        project: some(asked.project),
        source: some(asked.source),
        dry_run: asked.dry_run,
        reset_secret: asked.reset_secret,
    };
    let app = Arc::clone(app);
    Ok(stream(|progress| async move { setup::add(&app, &actor, &asked, &progress).await }))
}

pub(super) fn rotate(app: &Arc<App>, actor: String, repository: &str, finish: bool) -> Result<Steps, Status> {
    let (app, name) = (Arc::clone(app), name(repository)?);
    Ok(stream(|progress| async move { setup::rotate(&app, &actor, &name, finish, &progress).await }))
}

pub(super) fn remove(app: &Arc<App>, actor: String, repository: &str) -> Result<Steps, Status> {
    let (app, name) = (Arc::clone(app), name(repository)?);
    Ok(stream(|progress| async move { setup::remove(&app, &actor, &name, &progress).await }))
}

impl From<Halt> for Status {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::Refused(step) => {
                Self::failed_precondition(format!("{}\n\nhint: {}", step.found, step.next_step))
            }
            Halt::Database(error) => internal("admin.repository", &error),
            Halt::Secret(error) => internal("admin.repository", &error),
        }
    }
}

pub(super) async fn check(app: &App, repository: &str) -> Result<Vec<Finding>, Status> {
    Ok(setup::check(app, &name(repository)?).await?)
}

pub(super) async fn list(app: &App) -> Result<Vec<RepositoryView>, Status> {
    let time = |at: Option<DateTime<Utc>>| {
        at.map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true)).unwrap_or_default()
    };
    let rows = setup::list(&app.db).await.map_err(|e| internal("admin.repository", &e))?;
    let view = |row: setup::Listed| RepositoryView {
        webhook_url: if row.own_hook {
            format!("{}/webhooks/github/{}", app.public_url, row.source)
        } else {
            format!("{}/webhooks/github", app.public_url)
        },
        name: row.name,
        project: row.project,
        managed: row.managed,
        enabled: row.enabled,
        rotating_since: time(row.rotated_at),
        last_delivery_at: time(row.last_delivery_at),
    };
    Ok(rows.into_iter().map(view).collect())
}

pub(super) async fn secret(
    app: &App,
    actor: &str,
    repository: &str,
) -> Result<WebhookSecretResponse, Status> {
    let (url, secret) = setup::secret_for_a_person(app, actor, &name(repository)?).await?;
    Ok(WebhookSecretResponse { url, secret: secret.expose_secret().to_owned() })
}
