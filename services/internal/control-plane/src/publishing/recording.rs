//! What an effect made becomes known, in one transaction with what follows from it.

use domain::{
    ids::Id,
    names::CommitSha,
    run::{FailureClass, PublicationState, RunKind, RunState},
};
use forge::{Comment, PullRequestDetails, Review};
use sqlx::PgConnection;

use super::{
    Place,
    about::about,
    applying::{Applied, read_changeset, sole_comment},
    comments::{self, Released},
    drop_pending,
    effects::{self, Effect, End, Made},
    head, move_publication, progress,
    publication::{self, note_made},
    queue::Pending,
    say_status,
};
use crate::{
    App, approvals, policies,
    projects::store::by_id,
    runs::{self, RunError},
    steps::{self, Step},
};

fn signed(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}

fn made(applied: &Applied) -> Made {
    match applied {
        Applied::Edited(comment) | Applied::Written { comment, .. } => {
            Made { url: Some(comment.html_url.clone()), comment: Some(signed(comment.id)), check_run: None }
        }
        Applied::PullRequest(pull) => Made { url: Some(pull.html_url.clone()), ..Made::default() },
        Applied::BranchMoved { pull, .. } => Made { url: Some(pull.html_url.clone()), ..Made::default() },
        Applied::Reviewed(review) => Made { url: Some(review.html_url.clone()), ..Made::default() },
        Applied::Shown(id) => Made { check_run: id.map(signed), ..Made::default() },
        Applied::Done
        | Applied::Commit(_)
        | Applied::Branch { .. }
        | Applied::HeadMoved(_)
        | Applied::PullRequestEnded(_)
        | Applied::Pointless(_) => Made::default(),
    }
}

/// One transaction: the effect ends, and what it made is known.
pub(super) async fn record(app: &App, pending: &Pending, applied: Applied) -> Result<(), RunError> {
    let mut tx = app.db.begin().await?;
    let run = match pending.run {
        Some(id) => runs::lock(&mut tx, id).await?,
        None => None,
    };
    let made = made(&applied);
    let (end, why) = match applied {
        Applied::Pointless(why) => (End::Skipped, Some(why)),
        Applied::HeadMoved(_) => (End::Skipped, Some("the branch moved")),
        Applied::PullRequestEnded(_) => (End::Skipped, Some("the pull request is not open any more")),
        Applied::Done
        | Applied::Edited(_)
        | Applied::Written { .. }
        | Applied::Commit(_)
        | Applied::Branch { .. }
        | Applied::PullRequest(_)
        | Applied::BranchMoved { .. }
        | Applied::Reviewed(_)
        | Applied::Shown(_) => (End::Done, None),
    };
    if !effects::end(&mut tx, pending.id, end, app.clock.now(), &made, why).await? {
        // This process was paused, and another one has done it meanwhile.
        if let Applied::Written { comment, .. } = &applied
            && let Some(recorded) = effects::recorded_comment(&mut tx, pending.id).await?
            && recorded != signed(comment.id)
        {
            sole_comment(&mut tx, app, pending, recorded).await?;
            steps::commit(tx, Step::EffectRecorded).await?;
        }
        return Ok(());
    }
    if let Applied::Written { comment, doubtful: true } = &applied {
        sole_comment(&mut tx, app, pending, signed(comment.id)).await?;
    }
    if let Some(run) = &run {
        known(&mut tx, app, pending, run, &applied).await?;
    }
    steps::commit(tx, Step::EffectRecorded).await?;
    metrics::counter!("callboard_effects_total", "kind" => pending.effect.kind(), "result" => end.name())
        .increment(1);
    tracing::info!(
        effect_id = %pending.id, run_id = pending.run.map(|r| r.to_string()), trace_id = pending.trace_id,
        kind = pending.effect.kind(), result = end.name(), url = made.url, "effect applied"
    );
    Ok(())
}

/// What a run knows from now on.
async fn known(
    tx: &mut PgConnection,
    app: &App,
    pending: &Pending,
    run: &runs::Run,
    applied: &Applied,
) -> Result<(), RunError> {
    match applied {
        Applied::Written { comment, .. } if matches!(pending.effect, Effect::StatusComment { .. }) => {
            status_comment(tx, app, run, comment).await
        }
        Applied::Commit(sha) => {
            note_made(tx, run.id, &publication::Made { commit: Some(sha), ..Default::default() }).await?;
            Ok(runs::event(tx, app, run.id, "committed", sha.as_str()).await?)
        }
        Applied::Branch { name, head } => {
            let made = publication::Made { commit: Some(head), branch: Some(name), ..Default::default() };
            note_made(tx, run.id, &made).await?;
            runs::event(tx, app, run.id, "branch", name).await?;
            let about = about(&mut *tx, app, run).await?;
            progress::say(tx, app, run, &about).await
        }
        Applied::PullRequest(pull) => {
            published(tx, app, run, &Published::of(pull.number, &pull.html_url, &pull.head_sha)).await
        }
        Applied::BranchMoved { name, head, pull } => {
            let made = publication::Made { commit: Some(head), branch: Some(name), ..Default::default() };
            note_made(tx, run.id, &made).await?;
            runs::event(tx, app, run.id, "branch", name).await?;
            published(tx, app, run, &Published::of(pull.number, &pull.html_url, head)).await
        }
        Applied::PullRequestEnded(pull) => pull_request_ended(tx, app, run, pull).await,
        Applied::Reviewed(review) => reviewed(tx, app, run, review).await,
        Applied::HeadMoved(moved) => head::give_way(tx, app, run, moved).await,
        Applied::Done
        | Applied::Edited(_)
        | Applied::Written { .. }
        | Applied::Shown(_)
        | Applied::Pointless(_) => Ok(()),
    }
}

async fn status_comment(
    tx: &mut PgConnection,
    app: &App,
    run: &runs::Run,
    comment: &Comment,
) -> Result<(), RunError> {
    sqlx::query!(
        "insert into status_comments (run_id, comment_id, url, author, created_at) values ($1, $2, $3, $4, $5) on conflict (run_id) do nothing",
        run.id.uuid(),
        signed(comment.id),
        comment.html_url,
        comment.author,
        app.clock.now(),
    )
    .execute(&mut *tx)
    .await?;
    Ok(runs::event(tx, app, run.id, "commented", &comment.html_url).await?)
}

/// Where a result is to be seen.
struct Published<'a> {
    number: i64,
    url: &'a str,
    head: &'a CommitSha,
}

impl<'a> Published<'a> {
    fn of(number: u64, url: &'a str, head: &'a CommitSha) -> Self {
        Self { number: signed(number), url, head }
    }
}

/// The result is on its pull request: the run is done, and people are told.
async fn published(
    tx: &mut PgConnection,
    app: &App,
    run: &runs::Run,
    result: &Published<'_>,
) -> Result<(), RunError> {
    let &Published { number, url, head } = result;
    let made =
        publication::Made { pull_request: Some((number, url)), head: Some(head), ..Default::default() };
    note_made(tx, run.id, &made).await?;
    if run.state != RunState::Active {
        // Cancelled while the call was out: what it made stands, and it is said.
        let text = match run.kind {
            RunKind::Revise => format!("The branch of its pull request had been moved by then: {url}"),
            RunKind::Work | RunKind::Review | RunKind::Discussion => {
                format!("A pull request had been opened by then: {url}")
            }
        };
        runs::event(tx, app, run.id, "pull_request", &text).await?;
        return say_status(tx, app, run).await;
    }
    let repository = by_id(&mut *tx, run.repository_id).await?;
    let labels = policies::known(tx, app, &repository).await?.policy.labels.clone();
    let before = approvals::kept(tx, repository.id, run.issue_number, &labels).await?;
    move_publication(tx, app, run, PublicationState::Publishing, PublicationState::Published).await?;
    let message = match run.kind {
        RunKind::Revise => format!("Pull request: {url}, revised with `{}`.", head.short()),
        RunKind::Work | RunKind::Review | RunKind::Discussion => format!("Pull request: {url}"),
    };
    let run = runs::move_run(tx, app, run, RunState::Succeeded, "platform", &message).await?;
    let mut effects = Vec::new();
    let about = about(&mut *tx, app, &run).await?;
    if let Some(attempt) = about.attempts.last()
        && let Some(publication) = &about.publication
        && let Some(key) = publication.changeset_key.as_deref()
    {
        runs::attempts::phase("publish", attempt.returned_at.unwrap_or(run.created_at), app.clock.now());
        match read_changeset(app, key).await {
            Ok(changeset) => {
                if run.kind == RunKind::Revise {
                    let by = publication.released_by.as_deref();
                    let released = by.map(|by| Released { by, reason: "", publication });
                    let said = attempt.summary.as_deref().unwrap_or_default();
                    let block = comments::revised_block(&run, &about, said, &changeset, released.as_ref());
                    effects.push(Effect::UpdatePullRequest { number, block });
                }
                effects.push(Effect::Comment {
                    number,
                    body: comments::report(&run, &about, attempt, &changeset),
                    mark: comments::mark_of_report(run.id),
                });
            }
            Err(error) => {
                tracing::warn!(run_id = %run.id, error = %telemetry::logging::chain(&error), "no report");
            }
        }
    }
    effects::insert_for_run(tx, app, &run, effects).await?;
    let at = Place {
        repository: repository.id,
        number: run.issue_number,
        run: Some(run.id),
        trace_id: &run.trace_id,
    };
    approvals::follow(tx, app, at, &labels, &before).await?;
    say_status(tx, app, &run).await
}

/// The pull request was closed or merged under a finished result: nothing is published any more.
async fn pull_request_ended(
    tx: &mut PgConnection,
    app: &App,
    run: &runs::Run,
    pull: &PullRequestDetails,
) -> Result<(), RunError> {
    let publication = publication::publication(&mut *tx, run.id).await?;
    if run.state != RunState::Active
        || publication.is_none_or(|publication| publication.state != PublicationState::Publishing)
    {
        return Ok(());
    }
    drop_pending(tx, app, run.id).await?;
    move_publication(tx, app, run, PublicationState::Publishing, PublicationState::Refused).await?;
    let how = if pull.merged { "merged" } else { "closed" };
    let message = format!(
        "Pull request #{} was {how} while the agent worked, so nothing was published. The changeset is kept: `callboard run changeset {}` shows it.",
        pull.number, run.id
    );
    let failed = RunState::Failed(FailureClass::User);
    let run = runs::move_run(tx, app, run, failed, "platform", &message).await?;
    say_status(tx, app, &run).await
}

/// The review is there: the run is done.
async fn reviewed(
    tx: &mut PgConnection,
    app: &App,
    run: &runs::Run,
    review: &Review,
) -> Result<(), RunError> {
    if run.state != RunState::Active {
        let text = format!("The review had been posted by then: {}", review.html_url);
        runs::event(tx, app, run.id, "reviewed", &text).await?;
        return Ok(());
    }
    let message = format!("Review: {}", review.html_url);
    let run = runs::move_run(tx, app, run, RunState::Succeeded, "platform", &message).await?;
    say_status(tx, app, &run).await
}
