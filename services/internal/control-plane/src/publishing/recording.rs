//! What an effect made becomes known, in one transaction with what follows from it.

use domain::{
    ids::Id,
    run::{PublicationState, RunState},
};
use forge::{Comment, PullRequest};
use sqlx::PgConnection;

use super::{
    Place,
    applying::{Applied, read_changeset, sole_comment},
    comments,
    effects::{self, Effect, End, Made, Pending},
    head, move_publication,
    publication::{self, note_made},
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
            Made { url: Some(comment.html_url.clone()), comment: Some(signed(comment.id)) }
        }
        Applied::PullRequest(pull) => Made { url: Some(pull.html_url.clone()), comment: None },
        Applied::Done
        | Applied::Commit(_)
        | Applied::Branch { .. }
        | Applied::HeadMoved(_)
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
        Applied::Done
        | Applied::Edited(_)
        | Applied::Written { .. }
        | Applied::Commit(_)
        | Applied::Branch { .. }
        | Applied::PullRequest(_) => (End::Done, None),
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
            Ok(runs::event(tx, app, run.id, "branch", name).await?)
        }
        Applied::PullRequest(pull) => published(tx, app, run, pull).await,
        Applied::HeadMoved(moved) => head::give_way(tx, app, run, moved).await,
        Applied::Done | Applied::Edited(_) | Applied::Written { .. } | Applied::Pointless(_) => Ok(()),
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

/// The pull request is there: the run is done, and people are told.
async fn published(
    tx: &mut PgConnection,
    app: &App,
    run: &runs::Run,
    pull: &PullRequest,
) -> Result<(), RunError> {
    let number = signed(pull.number);
    let made = publication::Made { pull_request: Some((number, &pull.html_url)), ..Default::default() };
    note_made(tx, run.id, &made).await?;
    if run.state != RunState::Active {
        // Cancelled while the call was out: the pull request stands, and it is said.
        let text = format!("A pull request had been opened by then: {}", pull.html_url);
        runs::event(tx, app, run.id, "pull_request", &text).await?;
        return say_status(tx, app, run).await;
    }
    let repository = by_id(&mut *tx, run.repository_id).await?;
    let labels = policies::known(tx, app, &repository).await?.policy.labels.clone();
    let before = approvals::kept(tx, repository.id, run.issue_number, &labels).await?;
    move_publication(tx, app, run, PublicationState::Publishing, PublicationState::Published).await?;
    let message = format!("Pull request: {}", pull.html_url);
    let run = runs::move_run(tx, app, run, RunState::Succeeded, "platform", &message).await?;
    let mut effects = Vec::new();
    let publication = publication::publication(&mut *tx, run.id).await?;
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
