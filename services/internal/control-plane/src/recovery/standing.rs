//! Trigger labels that stand without a decision: the issue's history tells who set them and when,
//! and they are decided like any other.

use chrono::TimeDelta;
use domain::{
    recovery::{Labeling, Stands, stands},
    stage::{Meaning, Policy},
};
use forge::Issue;
use github::payload::StandingLabel;

use super::{BrokenOff, Looked, SOON, hooks, store};
use crate::{
    App,
    deliveries::{Provenance, store::Recovered},
    discussions, policies,
    projects::store::Repository,
};

/// Labels that are a minute old are looked at once more, and lists may lag.
const OVERLAP: TimeDelta = TimeDelta::minutes(2);

/// Does a label of this name ask for something by standing there?
fn is_trigger(policy: &Policy, label: &str, is_discussing: bool) -> bool {
    match policy.labels.meaning(label) {
        Some(Meaning::Run(_) | Meaning::Revise(_) | Meaning::Preview(_) | Meaning::Reviewer) => true,
        // It stands as long as the discussion is open.
        Some(Meaning::Discussion) => !is_discussing,
        Some(Meaning::Model(_) | Meaning::Reasoning(_) | Meaning::State(_) | Meaning::Need(_)) | None => {
            false
        }
    }
}

/// Looks through the open issues that changed since the last look.
pub(super) async fn look(app: &App, repository: &Repository) -> Result<Looked, BrokenOff> {
    if repository.archived {
        return Ok(Looked::Done);
    }
    let now = app.clock.now();
    if store::is_undecided(&app.db, hooks::source(repository), now).await? {
        // What waits for its decision may be about a label that stands.
        return Ok(Looked::Again(now + SOON));
    }
    let added = store::added_at(&app.db, repository.id).await?;
    let looked_to = store::labels_looked_to(&app.db, repository.id).await?;
    // The same as long as nothing changes, so that the code host may answer that nothing did.
    let since = looked_to.map_or(added, |looked_to| (looked_to - OVERLAP).max(added));
    let policy = policies::known(&mut *app.db.acquire().await?, app, repository).await?.policy;
    let mut looked = Looked::Done;
    let changed = app.forge.changed_since(&repository.name, since).await?;
    for issue in changed.iter().filter(|issue| issue.open) {
        if let Looked::Again(at) = issue_of(app, repository, &policy, issue).await? {
            looked = match looked {
                Looked::Again(sooner) => Looked::Again(sooner.min(at)),
                Looked::Done => Looked::Again(at),
            };
        }
    }
    let to = changed.iter().map(|issue| issue.updated_at).max().max(looked_to);
    if let Some(to) = to.filter(|to| Some(*to) != looked_to) {
        store::note_labels_looked(app, repository.id, to).await?;
    }
    Ok(looked)
}

/// Looks at the labels of one issue or pull request.
async fn issue_of(
    app: &App,
    repository: &Repository,
    policy: &Policy,
    issue: &Issue,
) -> Result<Looked, BrokenOff> {
    let number = i64::try_from(issue.number).unwrap_or(i64::MAX);
    let is_discussing = discussions::open_on(&app.db, repository.id, number).await?.is_some();
    let standing: Vec<&String> =
        issue.labels.iter().filter(|label| is_trigger(policy, label, is_discussing)).collect();
    if standing.is_empty() {
        return Ok(Looked::Done);
    }
    let history = app.forge.label_events(&repository.name, issue.number).await?;
    let added = store::added_at(&app.db, repository.id).await?;
    let lag = TimeDelta::from_std(app.forge.list_lag()).unwrap_or_default();
    // From here on the history tells of the last change.
    let told_at = issue.updated_at + lag;
    let mut looked = Looked::Done;
    for label in standing {
        let same = history.iter().filter(|event| event.label.eq_ignore_ascii_case(label));
        let labelings: Vec<Labeling> = same
            .map(|event| Labeling {
                id: event.id,
                at: event.at,
                by: event.actor.clone().map(|actor| (actor, event.actor_is_bot)),
            })
            .collect();
        let decided = store::decided(&app.db, repository.id, issue.number, label).await?;
        match stands(&labelings, &decided, added, told_at, app.clock.now()) {
            Stands::Decided => {}
            Stands::TooYoung => looked = Looked::Again(app.clock.now() + TimeDelta::minutes(1)),
            Stands::Missed(labeling) => {
                make_up_for(app, repository, issue, label, Some(&labeling)).await?;
                looked = Looked::Again(app.clock.now() + SOON);
            }
            Stands::Unexplained => make_up_for(app, repository, issue, label, None).await?,
        }
    }
    Ok(looked)
}

/// Makes the event that was never delivered; it is decided like any other.
async fn make_up_for(
    app: &App,
    repository: &Repository,
    issue: &Issue,
    label: &str,
    labeling: Option<&Labeling>,
) -> Result<(), BrokenOff> {
    let pull = if issue.is_pull_request {
        Some(app.forge.pull_request(&repository.name, issue.number).await?)
    } else {
        None
    };
    let made = StandingLabel {
        repository: &repository.name,
        repository_id: repository.forge_id.and_then(|id| u64::try_from(id).ok()),
        on: issue,
        pull: pull.as_ref(),
        label,
        by: labeling
            .and_then(|labeling| labeling.by.as_ref())
            .map(|(login, is_bot)| (login.as_str(), *is_bot)),
    };
    // Made of what it is about, so that it is made once.
    let (guid, received_at) = match labeling {
        Some(labeling) => (format!("label-event-{}", labeling.id), labeling.at),
        None => {
            let at = issue.updated_at;
            (format!("label-standing-{}-{}-{label}-{}", repository.id, issue.number, at.timestamp()), at)
        }
    };
    let body = made.body();
    let new = Recovered {
        source: hooks::source(repository),
        guid: &guid,
        event: made.event(),
        body: &body,
        provenance: Provenance::Reconciled,
        received_at,
    };
    if store::reconcile(app, repository, &new, labeling.is_some()).await? {
        tracing::warn!(repository = %repository.name, issue = issue.number, label, guid, "a label stood without a decision; it is decided now");
    }
    Ok(())
}
