//! The publisher: applies effects, one process at a time, in order within a run.

use std::{collections::HashSet, sync::Arc, time::Duration};

use chrono::TimeDelta;
use domain::{
    changeset::{Change, Changeset, Mode},
    ids::Id,
    run::{FailureClass, PublicationState, RunState},
};
use forge::{Comment, FileMode, ForgeError, NewCommit, NewPullRequest, PullRequest, TreeChange};
use futures::{StreamExt, stream::FuturesUnordered};
use sqlx::PgConnection;
use telemetry::shutdown::Shutdown;
use tokio_util::sync::CancellationToken;

use super::{
    changesets::stored_changeset,
    comments,
    effects::{self, Effect, End, Pending},
    head, move_publication, say_status,
};
use crate::{
    App,
    projects::store::{Repository, by_id},
    runs::{self, RunError},
    singleton::{self, Leads, Singleton},
    steps::{self, Step, around},
    wake::{Topic, news},
};

/// How often effects are looked for without a wake-up.
const SWEEP: Duration = Duration::from_secs(1);
/// Runs whose effects are applied at the same time.
const AT_ONCE: usize = 4;

/// Applies effects until the process ends.
pub(crate) fn spawn(app: &Arc<App>, shutdown: &Shutdown) {
    // Its patterns are compiled at first use, which nobody should wait for.
    domain::neutralise::neutralise("", 1);
    domain::neutralise::neutralise_line("", 1);
    singleton::spawn(app, shutdown, Singleton::Publisher, |app, leads, ended| {
        Box::pin(work(app, leads, ended))
    });
}

/// Applies effects as long as this process leads.
async fn work(app: &App, leads: &mut Leads, ended: &CancellationToken) -> anyhow::Result<()> {
    let mut wake = app.wake.subscribe(Topic::Effects);
    let mut busy = HashSet::new();
    let mut under_way = FuturesUnordered::new();
    loop {
        wake.mark_unchanged();
        if ended.is_cancelled() {
            // What is out gets to its end; nothing new is begun.
            while under_way.next().await.is_some() {}
            return Ok(());
        }
        leads.still().await?;
        for effect in effects::due(&app.db, app.clock.now()).await? {
            let lane = effect.run.map_or_else(|| effect.id.uuid(), Id::uuid);
            if under_way.len() < AT_ONCE && busy.insert(lane) {
                under_way.push(async move {
                    attempt(app, effect).await;
                    lane
                });
            }
        }
        tokio::select! {
            Some(lane) = under_way.next() => { busy.remove(&lane); }
            () = news(&mut wake, SWEEP) => {}
            () = ended.cancelled() => {}
        }
    }
}

/// What applying an effect led to, to be recorded with its end.
enum Applied {
    Nothing {
        url: Option<String>,
    },
    StatusComment(Comment),
    Commit(domain::names::CommitSha),
    Branch(String),
    PullRequest(PullRequest),
    /// The branch moved in files of the changeset, and nothing was made.
    HeadMoved(head::Moved),
    /// It makes no sense any more; why.
    Pointless(&'static str),
}

/// Why an effect was not applied.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Forge(#[from] ForgeError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("the stored changeset cannot be read: {0}")]
    Changeset(String),
}

async fn attempt(app: &App, pending: Pending) {
    let kind = pending.effect.kind();
    let result = match effects::mark_tried(&app.db, pending.id, pending.tries, app.clock.now()).await {
        Ok(true) => match by_id(&app.db, pending.repository).await {
            Ok(repository) => match around(pending.effect.step(), apply(app, &pending, &repository)).await {
                Ok(applied) => record(app, &pending, applied).await.map_err(Failure::from),
                Err(failure) => Err(failure),
            },
            Err(error) => Err(error.into()),
        },
        Ok(false) => Ok(()),
        Err(error) => Err(error.into()),
    };
    let Err(failure) = result else { return };
    if let Err(error) = give_up_or_retry(app, &pending, &failure).await {
        tracing::warn!(effect_id = %pending.id, kind, error = %telemetry::logging::chain(&error), "cannot record how an effect ended; it is tried again");
        // Postgres is away: do not spin.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn apply(app: &App, pending: &Pending, repository: &Repository) -> Result<Applied, Failure> {
    let forge = &*app.forge;
    let name = &repository.name;
    let number = |n: i64| u64::try_from(n).unwrap_or_default();
    match &pending.effect {
        Effect::StatusComment { issue, body } => {
            let Some(run) = pending.run else {
                return Ok(Applied::Pointless("a status comment without a run"));
            };
            let stored =
                sqlx::query_scalar!("select comment_id from status_comments where run_id = $1", run.uuid())
                    .fetch_optional(&app.db)
                    .await?;
            if let Some(id) = stored {
                return match forge.update_comment(name, number(id), body).await {
                    Ok(comment) => Ok(Applied::Nothing { url: Some(comment.html_url) }),
                    Err(ForgeError::Missing { .. }) => {
                        Ok(Applied::Pointless("the status comment was deleted by a person"))
                    }
                    Err(error) => Err(error.into()),
                };
            }
            let mark = comments::mark_of_run(run);
            Ok(Applied::StatusComment(
                comment_once(app, pending, repository, number(*issue), body, &mark).await?,
            ))
        }
        Effect::Comment { number: n, body, mark } => {
            let comment = comment_once(app, pending, repository, number(*n), body, mark).await?;
            Ok(Applied::Nothing { url: Some(comment.html_url) })
        }
        Effect::RemoveLabel { number: n, label } => {
            forge.remove_label(name, number(*n), label).await?;
            Ok(Applied::Nothing { url: None })
        }
        Effect::AddLabels { number: n, labels } => {
            forge.add_labels(name, number(*n), labels).await?;
            Ok(Applied::Nothing { url: None })
        }
        Effect::React { number: n, reaction } => {
            forge.react(name, number(*n), *reaction).await?;
            Ok(Applied::Nothing { url: None })
        }
        Effect::Commit { message } => {
            let Some((run, publication)) = publishing(app, pending).await? else {
                return Ok(Applied::Pointless("the run ended first"));
            };
            let key = publication
                .changeset_key
                .as_deref()
                .ok_or_else(|| Failure::Changeset("no key".to_owned()))?;
            let changeset = read_changeset(app, key).await?;
            if let Some(moved) = head::moved(app, name, &run, &publication, &changeset).await? {
                return Ok(Applied::HeadMoved(moved));
            }
            let parent = changeset.base.clone();
            let commit = NewCommit {
                parent,
                message: message.clone(),
                changes: tree_changes(changeset)?,
                date: pending.created_at,
            };
            let sha = forge.create_commit(name, &commit).await?;
            tracing::debug!(run_id = %run.id, %sha, "commit made");
            Ok(Applied::Commit(sha))
        }
        Effect::Branch { name: wanted } => {
            let Some((_, publication)) = publishing(app, pending).await? else {
                return Ok(Applied::Pointless("the run ended first"));
            };
            let sha = publication.commit.ok_or_else(|| Failure::Changeset("no commit".to_owned()))?;
            for n in 1..=100 {
                let branch = if n == 1 { wanted.clone() } else { format!("{wanted}-{n}") };
                match forge.create_branch(name, &branch, &sha).await {
                    Ok(()) => return Ok(Applied::Branch(branch)),
                    // Ours from a try whose answer got lost, or somebody else's: then the next number.
                    Err(ForgeError::Conflict { .. })
                        if forge.branch_head(name, &branch).await? == Some(sha.clone()) =>
                    {
                        return Ok(Applied::Branch(branch));
                    }
                    Err(ForgeError::Conflict { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(ForgeError::Conflict { message: format!("`{wanted}` and 99 numbered ones exist") }.into())
        }
        Effect::PullRequest { title, body } => {
            // After a try whose answer got lost it may be there, whatever became of the run.
            if let (Some(run), true) = (pending.run, pending.tried_at.is_some())
                && let Some(head) = effects::publication(&app.db, run).await?.and_then(|p| p.branch)
                && let Some(found) = forge.pull_request_of(name, &head).await?
            {
                return Ok(Applied::PullRequest(found));
            }
            let Some((run, publication)) = publishing(app, pending).await? else {
                return Ok(Applied::Pointless("the run ended first"));
            };
            let head = publication.branch.ok_or_else(|| Failure::Changeset("no branch".to_owned()))?;
            let base = run.base_branch.unwrap_or_default();
            let new = NewPullRequest { title: title.clone(), body: body.clone(), head: head.clone(), base };
            match forge.create_pull_request(name, &new).await {
                Ok(made) => Ok(Applied::PullRequest(made)),
                Err(error @ ForgeError::Conflict { .. }) => {
                    Ok(Applied::PullRequest(forge.pull_request_of(name, &head).await?.ok_or(error)?))
                }
                Err(error) => Err(error.into()),
            }
        }
    }
}

/// Writes a comment; after a try whose outcome is unknown it looks before it repeats.
async fn comment_once(
    app: &App,
    pending: &Pending,
    repository: &Repository,
    number: u64,
    body: &str,
    mark: &str,
) -> Result<Comment, Failure> {
    if pending.tried_at.is_some() {
        let identity = app.forge.identity().await?;
        let ours = app.forge.comments(&repository.name, number).await?.into_iter().find(|c| {
            // Mark, author and time together: anybody can copy a mark. Clocks may differ.
            c.author.eq_ignore_ascii_case(&identity)
                && c.body.contains(mark)
                && c.created_at >= pending.created_at - TimeDelta::hours(1)
        });
        if let Some(comment) = ours {
            return Ok(comment);
        }
    }
    Ok(app.forge.create_comment(&repository.name, number, body).await?)
}

/// The run and its publication while it is being published.
async fn publishing(
    app: &App,
    pending: &Pending,
) -> Result<Option<(runs::Run, effects::Publication)>, Failure> {
    let Some(id) = pending.run else { return Ok(None) };
    let run = runs::get(&app.db, id).await?;
    let publication = effects::publication(&app.db, id).await?;
    Ok(run
        .zip(publication)
        .filter(|(run, p)| run.state == RunState::Active && p.state == PublicationState::Publishing))
}

async fn read_changeset(app: &App, key: &str) -> Result<Changeset, Failure> {
    stored_changeset(app, key).await.map_err(|e| Failure::Changeset(e.to_string()))
}

fn tree_changes(changeset: Changeset) -> Result<Vec<TreeChange>, Failure> {
    changeset
        .files
        .into_iter()
        .map(|file| {
            let path = String::from_utf8(file.path)
                .map_err(|_| Failure::Changeset("a path that is not UTF-8".to_owned()))?;
            let content = match file.change {
                Change::Delete => None,
                Change::Put { mode: Mode::Regular, content } => Some((FileMode::Regular, content)),
                Change::Put { mode: Mode::Executable, content } => Some((FileMode::Executable, content)),
                Change::Put { mode: Mode::Symlink, content } => Some((FileMode::Symlink, content)),
                Change::Submodule => {
                    return Err(Failure::Changeset("a submodule, which the checks refuse".to_owned()));
                }
            };
            Ok(TreeChange { path, content })
        })
        .collect()
}

/// One transaction: the effect ends, and what it made is known.
async fn record(app: &App, pending: &Pending, applied: Applied) -> Result<(), RunError> {
    let mut tx = app.db.begin().await?;
    let run = match pending.run {
        Some(id) => runs::lock(&mut tx, id).await?,
        None => None,
    };
    let (end, url, why) = match &applied {
        Applied::Nothing { url } => (End::Done, url.clone(), None),
        Applied::StatusComment(comment) => (End::Done, Some(comment.html_url.clone()), None),
        Applied::Commit(_) | Applied::Branch(_) => (End::Done, None, None),
        Applied::PullRequest(pull) => (End::Done, Some(pull.html_url.clone()), None),
        Applied::HeadMoved(_) => (End::Skipped, None, Some("the branch moved")),
        Applied::Pointless(why) => (End::Skipped, None, Some(*why)),
    };
    if !effects::end(&mut tx, pending.id, end, app.clock.now(), url.as_deref(), why).await? {
        return Ok(());
    }
    match (applied, &run) {
        (Applied::StatusComment(comment), Some(run)) => {
            let id = i64::try_from(comment.id).unwrap_or(i64::MAX);
            sqlx::query!(
                "insert into status_comments (run_id, comment_id, url, author, created_at) values ($1, $2, $3, $4, $5) on conflict (run_id) do nothing",
                run.id.uuid(),
                id,
                comment.html_url,
                comment.author,
                app.clock.now(),
            )
            .execute(&mut *tx)
            .await?;
            runs::event(&mut tx, app, run.id, "commented", &comment.html_url).await?;
        }
        (Applied::Commit(sha), Some(run)) => {
            update_one(
                &sqlx::query!(
                    "update publications set commit_sha = $2
                     where publication_id = (select publication_id from publications where run_id = $1 order by created_at desc limit 1)",
                    run.id.uuid(),
                    sha.as_str()
                )
                .execute(&mut *tx)
                .await?,
                run,
            )?;
            runs::event(&mut tx, app, run.id, "committed", sha.as_str()).await?;
        }
        (Applied::Branch(branch), Some(run)) => {
            update_one(
                &sqlx::query!(
                    "update publications set branch = $2
                     where publication_id = (select publication_id from publications where run_id = $1 order by created_at desc limit 1)",
                    run.id.uuid(),
                    branch
                )
                .execute(&mut *tx)
                .await?,
                run,
            )?;
            runs::event(&mut tx, app, run.id, "branch", &branch).await?;
        }
        (Applied::PullRequest(pull), Some(run)) => published(&mut tx, app, run, &pull).await?,
        (Applied::HeadMoved(moved), Some(run)) => head::give_way(&mut tx, app, run, &moved).await?,
        (Applied::Nothing { .. } | Applied::Pointless(_), _)
        | (
            Applied::StatusComment(_)
            | Applied::Commit(_)
            | Applied::Branch(_)
            | Applied::PullRequest(_)
            | Applied::HeadMoved(_),
            None,
        ) => {}
    }
    steps::commit(tx, Step::EffectRecorded).await?;
    metrics::counter!("callboard_effects_total", "kind" => pending.effect.kind(), "result" => end.name())
        .increment(1);
    tracing::info!(
        effect_id = %pending.id, run_id = pending.run.map(|r| r.to_string()), trace_id = pending.trace_id,
        kind = pending.effect.kind(), result = end.name(), url, "effect applied"
    );
    Ok(())
}

fn update_one(result: &sqlx::postgres::PgQueryResult, run: &runs::Run) -> Result<(), RunError> {
    if result.rows_affected() == 1 {
        Ok(())
    } else {
        Err(RunError::Damaged { table: "publications", id: run.id.uuid(), problem: "is gone".to_owned() })
    }
}

/// The pull request is there: the run is done, and people are told.
async fn published(
    tx: &mut PgConnection,
    app: &App,
    run: &runs::Run,
    pull: &PullRequest,
) -> Result<(), RunError> {
    let number = i64::try_from(pull.number).unwrap_or(i64::MAX);
    let updated = sqlx::query!(
        "update publications set pull_request_number = $2, pull_request_url = $3
         where publication_id = (select publication_id from publications where run_id = $1 order by created_at desc limit 1)",
        run.id.uuid(),
        number,
        pull.html_url,
    )
    .execute(&mut *tx)
    .await?;
    update_one(&updated, run)?;
    if run.state != RunState::Active {
        // Cancelled while the call was out: the pull request stands, and it is said.
        let text = format!("A pull request had been opened by then: {}", pull.html_url);
        runs::event(tx, app, run.id, "pull_request", &text).await?;
        return say_status(tx, app, run).await;
    }
    move_publication(tx, app, run, PublicationState::Publishing, PublicationState::Published).await?;
    let message = format!("Pull request: {}", pull.html_url);
    let run = runs::move_run(tx, app, run, RunState::Succeeded, "platform", &message).await?;
    let mut effects = Vec::new();
    let publication = effects::publication(&mut *tx, run.id).await?;
    if let Some(attempt) = runs::attempts(&mut *tx, run.id).await?.pop()
        && let Some(key) = publication.and_then(|p| p.changeset_key)
    {
        runs::phase("publish", attempt.returned_at.unwrap_or(run.created_at), app.clock.now());
        match read_changeset(app, &key).await {
            Ok(changeset) => effects.push(Effect::Comment {
                number,
                body: comments::report(&run, &attempt, &changeset),
                mark: comments::mark_of_report(run.id),
            }),
            Err(error) => {
                tracing::warn!(run_id = %run.id, error = %telemetry::logging::chain(&error), "no report");
            }
        }
    }
    effects.push(Effect::AddLabels { number: run.issue_number, labels: vec!["state:in-review".to_owned()] });
    effects::insert_for_run(tx, app, &run, effects).await?;
    say_status(tx, app, &run).await
}

/// Tries again, skips what is nice to have, or gives up with a sentence.
async fn give_up_or_retry(app: &App, pending: &Pending, failure: &Failure) -> Result<(), RunError> {
    let text = app.censor.censor(&failure.to_string()).into_owned();
    let now = app.clock.now();
    let tries = u32::try_from(pending.tries).unwrap_or_default() + 1;
    let wait = match failure {
        Failure::Forge(ForgeError::Limited { retry_after }) => {
            let until = now + TimeDelta::from_std(*retry_after).unwrap_or(TimeDelta::minutes(1));
            tracing::warn!(effect_id = %pending.id, kind = pending.effect.kind(), retry_after_s = retry_after.as_secs(), "rate limit; the effect waits");
            return Ok(effects::put_off(&app.db, pending.id, until, &text, false).await?);
        }
        Failure::Forge(ForgeError::Outage { .. }) | Failure::Database(_) | Failure::Run(_) => {
            pending.effect.retry_policy().wait(tries, app.ids.fraction())
        }
        Failure::Forge(
            ForgeError::Denied { .. }
            | ForgeError::Missing { .. }
            | ForgeError::Conflict { .. }
            | ForgeError::Invalid { .. }
            | ForgeError::Unsupported { .. },
        )
        | Failure::Changeset(_) => None,
    };
    if let Some(wait) = wait {
        tracing::warn!(effect_id = %pending.id, kind = pending.effect.kind(), tries, wait_ms = wait.as_millis(), error = text, "effect not applied; trying again");
        let until = now + TimeDelta::from_std(wait).unwrap_or(TimeDelta::minutes(1));
        return Ok(effects::put_off(&app.db, pending.id, until, &text, true).await?);
    }
    let end = if pending.effect.is_nicety() { End::Skipped } else { End::Dead };
    let mut tx = app.db.begin().await?;
    let run = match pending.run {
        Some(id) => runs::lock(&mut tx, id).await?,
        None => None,
    };
    if !effects::end(&mut tx, pending.id, end, now, None, Some(&text)).await? {
        return Ok(());
    }
    if let Some(run) = &run {
        runs::event(
            &mut tx,
            app,
            run.id,
            &format!("effect_{}", end.name()),
            &format!("{}: {text}", pending.effect.kind()),
        )
        .await?;
        if pending.effect.is_publication() && run.state == RunState::Active {
            super::drop_pending(&mut tx, app, run.id).await?;
            move_publication(&mut tx, app, run, PublicationState::Publishing, PublicationState::Refused)
                .await?;
            let message = format!(
                "The result could not be published ({}): {text}",
                pending.effect.kind().replace('_', " ")
            );
            let run = runs::move_run(
                &mut tx,
                app,
                run,
                RunState::Failed(FailureClass::Infrastructure),
                "platform",
                &message,
            )
            .await?;
            say_status(&mut tx, app, &run).await?;
        }
    }
    steps::commit(tx, Step::EffectGivenUp).await?;
    metrics::counter!("callboard_effects_total", "kind" => pending.effect.kind(), "result" => end.name())
        .increment(1);
    tracing::warn!(effect_id = %pending.id, trace_id = pending.trace_id, kind = pending.effect.kind(), result = end.name(), error = text, "effect given up");
    Ok(())
}
