//! Publishing: everything that reaches the code host. A changeset is judged, then published;
//! every change in the outside world is an effect row, committed together with the state
//! that wants it and applied by the publisher.

mod about;
mod applying;
mod changesets;
mod comments;
mod echoes;
mod effects;
mod head;
mod judging;
mod limits;
mod outbox;
mod progress;
mod publication;
mod publisher;
mod queue;
mod recording;
mod release;
mod reviewing;
mod tick;

use domain::{
    decision::Decided,
    ids::{DecisionId, Id, RepositoryId, RunId},
    run::{PublicationState, RunKind, RunState},
};
use forge::Reaction;
use serde_json::json;
use sqlx::PgConnection;

pub(crate) use self::comments::{Explained, Preview, answer_explain, answer_status, preview, put_back};
use self::effects::{Effect, NewEffect, insert, insert_for_run};
pub(crate) use self::{
    changesets::{Unreadable, digest, stored_changeset},
    echoes::{LabelChange, is_own_comment, note_own_label},
    effects::of_run,
    judging::publish,
    limits::minute_of,
    outbox::{Listed, OutboxError, Wanted, list as list_outbox, obey},
    publication::{Publication, publication},
    publisher::spawn,
    release::release,
    reviewing::{Reviewed, post_answer, post_review},
};
use crate::{
    App, audit,
    projects::store::Repository,
    runs::{Run, RunError},
};

/// Brings a run's status comment up to date with the run as it is in this transaction.
pub(crate) async fn say_status(tx: &mut PgConnection, app: &App, run: &Run) -> Result<(), RunError> {
    if !is_told(run) {
        return Ok(());
    }
    let about = about::about(&mut *tx, app, run).await?;
    let body = comments::status(run, &about, &app.notes, app.clock.now());
    let effect = Effect::StatusComment { issue: run.thread(), body };
    insert_for_run(tx, app, run, [effect]).await?;
    progress::say(tx, app, run, &about).await
}

/// Has the run a status comment? A turn of a discussion has its answer, and a word only where
/// there is none.
fn is_told(run: &Run) -> bool {
    match (run.kind, run.state) {
        (RunKind::Work | RunKind::Revise | RunKind::Review, _) => true,
        (RunKind::Discussion, RunState::Failed(_) | RunState::Cancelled) => true,
        (
            RunKind::Discussion,
            RunState::Queued | RunState::Active | RunState::Waiting(_) | RunState::Succeeded,
        ) => false,
    }
}

/// 👀, and the trigger label comes off.
pub(crate) async fn acknowledge(
    tx: &mut PgConnection,
    app: &App,
    run: &Run,
    label: Option<&(u64, String)>,
) -> sqlx::Result<()> {
    let mut effects = Vec::new();
    if let Some((number, label)) = label {
        let number = i64::try_from(*number).unwrap_or(i64::MAX);
        effects.push(Effect::RemoveLabel { number, label: label.clone() });
        effects.push(Effect::React { number, reaction: Reaction::Eyes });
    }
    insert_for_run(tx, app, run, effects).await
}

/// Tells the person who asked why nothing happened, and takes the label off.
#[expect(
    clippy::too_many_arguments,
    reason = "each is one fact of the decision; a struct would be used once"
)]
pub(crate) async fn say_rejection(
    tx: &mut PgConnection,
    app: &App,
    repository: &Repository,
    decision: DecisionId,
    decided: &Decided,
    tell_on: Option<u64>,
    label: Option<(u64, &str)>,
    trace_id: &str,
) -> sqlx::Result<()> {
    let mut effects = Vec::new();
    if let Some(number) = tell_on.and_then(|n| i64::try_from(n).ok()) {
        let mark = comments::mark_of_decision(decision);
        effects.push(Effect::Comment { number, body: comments::rejection(decided, &mark), mark });
    }
    if let Some((number, label)) = label.and_then(|(n, l)| Some((i64::try_from(n).ok()?, l))) {
        effects.push(Effect::RemoveLabel { number, label: label.to_owned() });
    }
    for effect in &effects {
        insert(tx, app, &NewEffect { run: None, repository: repository.id, trace_id, effect }).await?;
    }
    Ok(())
}

/// Where on the code host something is said or changed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) repository: RepositoryId,
    /// Issue or pull request.
    pub(crate) number: i64,
    /// The run whose effects come in their order.
    pub(crate) run: Option<RunId>,
    pub(crate) trace_id: &'a str,
}

impl Place<'_> {
    async fn insert(&self, tx: &mut PgConnection, app: &App, effect: &Effect) -> sqlx::Result<()> {
        let new = NewEffect { run: self.run, repository: self.repository, trace_id: self.trace_id, effect };
        insert(tx, app, &new).await
    }
}

/// Has labels taken off and put on, each by an effect of its own: each comes back as an event of
/// its own.
pub(crate) async fn change_labels(
    tx: &mut PgConnection,
    app: &App,
    place: Place<'_>,
    add: &[String],
    remove: &[String],
) -> sqlx::Result<()> {
    let number = place.number;
    let add = add.iter().map(|label| Effect::AddLabels { number, labels: vec![label.clone()] });
    let remove = remove.iter().map(|label| Effect::RemoveLabel { number, label: label.clone() });
    for effect in remove.chain(add) {
        place.insert(tx, app, &effect).await?;
    }
    Ok(())
}

/// The trigger label of a start that no label asked for: on and off again, so that the thread
/// shows it.
pub(crate) async fn show_label(
    tx: &mut PgConnection,
    app: &App,
    place: Place<'_>,
    label: &str,
) -> sqlx::Result<()> {
    let (number, label) = (place.number, label.to_owned());
    place.insert(tx, app, &Effect::AddLabels { number, labels: vec![label.clone()] }).await?;
    place.insert(tx, app, &Effect::RemoveLabel { number, label }).await
}

/// A comment about a decision; its mark comes first.
pub(crate) async fn say(
    tx: &mut PgConnection,
    app: &App,
    place: Place<'_>,
    decision: DecisionId,
    text: impl FnOnce(&str) -> String,
) -> sqlx::Result<()> {
    let mark = comments::mark_of_decision(decision);
    let body = text(&mark);
    place.insert(tx, app, &Effect::Comment { number: place.number, body, mark }).await
}

/// A small sign on a comment.
pub(crate) async fn react_to_comment(
    tx: &mut PgConnection,
    app: &App,
    place: Place<'_>,
    comment: u64,
    reaction: Reaction,
) -> sqlx::Result<()> {
    let comment = i64::try_from(comment).unwrap_or(i64::MAX);
    place.insert(tx, app, &Effect::ReactToComment { number: place.number, comment, reaction }).await
}

/// Moves a publication; the only way it changes state.
pub(crate) async fn move_publication(
    tx: &mut PgConnection,
    app: &App,
    run: &Run,
    from: PublicationState,
    next: PublicationState,
) -> Result<(), RunError> {
    let state = from.to(next)?;
    let published_at = (state == PublicationState::Published).then(|| app.clock.now());
    let moved = sqlx::query!(
        "update publications set state = $2, published_at = $3 where run_id = $1 and state = $4",
        run.id.uuid(),
        state.as_str(),
        published_at,
        from.as_str(),
    )
    .execute(&mut *tx)
    .await?;
    if moved.rows_affected() != 1 {
        return Err(RunError::Damaged {
            table: "publications",
            id: run.id.uuid(),
            problem: format!("is not {from} any more"),
        });
    }
    audit::record_of_run(
        tx,
        &*app.clock,
        &app.ids,
        run.id,
        "",
        audit::Entry {
            project: Some(run.project),
            actor: "platform",
            action: &format!("publication.{state}"),
            subject: format!("run:{}", run.id),
            detail: json!({ "from": from.as_str() }),
            trace_id: Some(&run.trace_id),
        },
    )
    .await?;
    Ok(())
}

/// What would publish a run's result is dropped: the run is over for another reason, or goes
/// on with another changeset. One whose call may be out stays, so that what it made is found
/// and said; one that was given up needs nobody any more.
pub(crate) async fn drop_pending(tx: &mut PgConnection, app: &App, run: RunId) -> sqlx::Result<()> {
    sqlx::query!(
        "update effects set state = 'skipped', last_error = 'nothing of it is published any more', finished_at = $2
         where run_id = $1 and kind = any($3)
           and (state = 'dead' or state = 'pending' and tried_at is null)",
        run.uuid(),
        app.clock.now(),
        &Effect::OF_RESULTS.map(str::to_owned),
    )
    .execute(tx)
    .await?;
    Ok(())
}
