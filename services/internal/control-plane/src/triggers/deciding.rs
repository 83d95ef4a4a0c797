//! One event decided: facts in, decision out, in a transaction of the caller's.

use chrono::{DateTime, TimeDelta, Utc};
use domain::decision::{
    Decided, Decision, Event, Facts, Happening, Reason, Record, RepositoryStanding, decide,
};
use sqlx::PgConnection;

use super::{Unsettled, asked::Asked, records, store, told::Came};
use crate::{
    App,
    pauses::hold_off_pauses,
    projects::store::Repository,
    publishing::{self, LabelChange},
};

/// How often labels of a thread are put back within an hour: two programs that disagree must not
/// go on for ever.
const PUT_BACK_PER_HOUR: i64 = 3;

/// What the event leads to, and what our records said. The issue it counts to stays locked.
pub(super) async fn decided(
    tx: &mut PgConnection,
    app: &App,
    repository: &Repository,
    event: &Event,
    asked: &Asked,
    came: Came,
) -> Result<(Decided, Record), Unsettled> {
    if let Some(on) = event.happening.on() {
        // Pauses first, then the issue, then its runs: the order of locks everywhere.
        hold_off_pauses(tx).await?;
        let linked = match &on.pull {
            Some(_) => records::linked_issue(tx, repository.id, on.number).await?,
            None => None,
        };
        // One decision at a time about an issue: the second sees what the first one started.
        store::lock_issue(tx, repository.id, linked.unwrap_or(on.number)).await?;
    }
    let (mut record, admission) = records::of(tx, app, repository, event, &asked.policy).await?;
    // After the runs are locked: the publisher, too, locks a run before its effects.
    let own_effect = own_effect(tx, repository, event, asked, came.at()).await?;
    let told = came.told(tx, repository.id, event).await?;
    record.parameters.clone_from(&asked.parameters);
    record.issue_labels.clone_from(&asked.issue_stages);
    let facts = Facts {
        policy: &asked.policy,
        permission: asked.permission,
        role: asked.role,
        bots: &asked.bots,
        own_effect,
        told,
        repository: standing(repository),
        default_branch: asked.default_branch.as_deref(),
        record,
        admission,
    };
    let mut decided = decide(event, &facts);
    if decided.reason == Reason::PermissionUnknown
        && let Some(unread) = &asked.unread
    {
        decided.rule = format!("Nothing starts on a guess: {unread}");
    }
    if let (Decision::KeepLabels { number, .. }, Reason::LabelPutBack) = (&decided.decision, decided.reason) {
        let since = app.clock.now() - TimeDelta::hours(1);
        let times = records::put_back_since(tx, repository.id, *number, since).await?;
        if times >= PUT_BACK_PER_HOUR {
            decided.decision = Decision::Ignore;
            decided.rule.push_str(&format!(
                " Labels were put back here {times} times within the hour, so it is left alone for now."
            ));
        }
    }
    Ok((decided, facts.record))
}

/// How a repository stands.
pub(crate) fn standing(repository: &Repository) -> RepositoryStanding {
    if repository.gone {
        RepositoryStanding::Gone
    } else if repository.archived {
        RepositoryStanding::Archived
    } else if !repository.enabled {
        RepositoryStanding::Disabled
    } else if repository.no_access.is_some() {
        RepositoryStanding::NoAccess
    } else {
        RepositoryStanding::Enabled
    }
}

/// Is the event what an effect of ours caused?
async fn own_effect(
    tx: &mut PgConnection,
    repository: &Repository,
    event: &Event,
    asked: &Asked,
    at: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let (Some(actor), Some(identity)) = (&event.actor, &asked.identity) else { return Ok(false) };
    if !actor.login.eq_ignore_ascii_case(identity) {
        return Ok(false);
    }
    let label = |number, label, put_on| LabelChange { repository: repository.id, number, label, put_on, at };
    match &event.happening {
        Happening::Labeled { on, label: name } => {
            publishing::note_own_label(tx, label(on.number, name, true)).await
        }
        Happening::Unlabeled { on, label: name } => {
            publishing::note_own_label(tx, label(on.number, name, false)).await
        }
        Happening::Commented { comment, .. } => {
            publishing::is_own_comment(tx, repository.id, comment.id, &comment.body).await
        }
        Happening::Closed { .. }
        | Happening::Deleted { .. }
        | Happening::TransferredAway { .. }
        | Happening::Synchronized { .. }
        | Happening::Reopened { .. }
        | Happening::Reviewed { .. }
        | Happening::ReviewDismissed { .. }
        | Happening::Pushed { .. }
        | Happening::Installation { .. }
        | Happening::Repository { .. }
        | Happening::Other => Ok(false),
    }
}
