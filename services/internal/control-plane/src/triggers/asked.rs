//! What is learnt before a decision's transaction, so that nothing in it waits for the code
//! host: the rules as they are now, and who may do what.

use std::{collections::BTreeSet, sync::Arc};

use domain::{
    command,
    decision::{Event, Happening, Parameter, Pull, ReviewVerdict, needs_permission},
    ids::DeliveryId,
    rights::{Permission, ProjectRole},
    stage::{Meaning, Policy},
};
use forge::ForgeError;

use super::{
    Unsettled,
    permissions::{Fresh, Permissions},
    records,
};
use crate::{
    App,
    deliveries::store::others_undecided,
    discussions,
    policies::{self, Known, Unread},
    projects::{self, store::Repository},
};

/// How often the code host is asked before what it would say counts as unknown.
const TRIES: i32 = 5;
/// How often a decision waits for the event that tells who set a parameter label: a moment for
/// one that is on its way, longer for those that are here.
const WAITS_FOR_SETTER: (i32, i32) = (2, 15);

/// What was learnt.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) policy: Arc<Policy>,
    /// Why the rules as they are now could not be read; nothing starts then.
    pub(super) unread: Option<String>,
    pub(super) permission: Option<Permission>,
    pub(super) role: Option<ProjectRole>,
    pub(super) bots: BTreeSet<String>,
    /// Login we act as, where it could matter.
    pub(super) identity: Option<String>,
    pub(super) parameters: Vec<Parameter>,
    /// Stages that labels of the issue name a pull request is for, where they could matter.
    pub(super) issue_stages: Vec<String>,
    pub(super) default_branch: Option<String>,
}

/// An event of a repository, and how often it was looked at before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    pub(super) repository: &'a Repository,
    pub(super) event: &'a Event,
    pub(super) tries: i32,
    /// Where it came from.
    pub(super) delivery: Option<DeliveryId>,
}

/// The answer, or that it could not be had: then it counts as unknown once it was asked for often
/// enough, and before that the decision is put off.
pub(super) fn answer<T>(
    result: Result<T, ForgeError>,
    tries: i32,
) -> Result<Result<T, ForgeError>, Unsettled> {
    match result {
        Ok(answer) => Ok(Ok(answer)),
        Err(error @ (ForgeError::Limited { .. } | ForgeError::BadCredential { .. })) => {
            Err(Unsettled::Forge(error))
        }
        Err(error @ ForgeError::Outage { .. }) if tries < TRIES => Err(Unsettled::Forge(error)),
        Err(
            error @ (ForgeError::Outage { .. }
            | ForgeError::Denied { .. }
            | ForgeError::Missing { .. }
            | ForgeError::Conflict { .. }
            | ForgeError::Invalid { .. }
            | ForgeError::Unsupported { .. }),
        ) => {
            tracing::warn!(%error, "the code host did not tell");
            Ok(Err(error))
        }
    }
}

/// Asks everything a decision about this event may need.
pub(super) async fn ask(app: &App, question: Question<'_>) -> Result<Asked, Unsettled> {
    let Question { repository, event, tries, delivery } = question;
    let default_branch = repository.default_branch.clone().or_else(|| event.default_branch.clone());
    let mut db = app.db.acquire().await?;
    let known = policies::known(&mut db, app, repository).await?;
    let rules = projects::store::rules(&mut *db, repository.project).await?;
    let role = match &event.actor {
        Some(actor) => projects::store::role(&mut *db, repository.project, &actor.login).await?,
        None => None,
    };
    // While the code host does not let us at the repository nothing follows, and nothing is asked.
    let matters = repository.no_access.is_none()
        && matters(&mut db, repository, event, &known, default_branch.as_deref()).await?;
    let setters = match event.happening.on() {
        // The event of such a label itself is what tells who set it.
        Some(on) if matters && !is_parameter(event, &known.policy) => {
            records::setters(&mut db, repository.id, on, &known.policy.labels).await?
        }
        Some(_) | None => Vec::new(),
    };
    let linked = if let Happening::Reviewed { on, .. } = &event.happening
        && matters
    {
        records::linked_issue(&mut db, repository.id, on.number).await?
    } else {
        None
    };
    drop(db);
    let mut asked = Asked {
        policy: known.policy,
        unread: None,
        permission: None,
        role,
        bots: rules.bots,
        identity: None,
        parameters: Vec::new(),
        issue_stages: Vec::new(),
        default_branch,
    };
    if !matters {
        asked.identity = identity(app, event, tries).await?;
        return Ok(asked);
    }
    match policies::current(app, repository).await {
        Ok(policy) => asked.policy = policy,
        Err(Unread::Forge(error)) => match answer::<()>(Err(error), tries)? {
            Ok(()) => {}
            Err(error) => asked.unread = Some(Unread::Forge(error).to_string()),
        },
        Err(Unread::Database(error)) => return Err(error.into()),
    }
    // Reading the rules may have told already who we are.
    asked.identity = identity(app, event, tries).await?;
    // Without the rules as they are now nothing starts, whoever asks.
    if let (None, Some(actor), true) = (&asked.unread, &event.actor, needs_permission(event, &asked.policy)) {
        // A review may open a gate.
        let opens = matches!(event.happening, Happening::Reviewed { .. } | Happening::ReviewDismissed { .. });
        let fresh = if opens { Fresh::Now } else { Fresh::Minute };
        asked.permission = permission(app, question, &asked.bots, &actor.login, fresh).await?;
    }
    for (label, setter) in setters {
        let permission = match &setter {
            Some(login) => permission(app, question, &asked.bots, login, Fresh::Minute).await?,
            // Labels set together come as events at the same time: the one that tells may be next.
            None => {
                let here = match delivery {
                    Some(id) => others_undecided(&app.db, id).await?,
                    None => false,
                };
                let (on_its_way, others) = WAITS_FOR_SETTER;
                if delivery.is_some() && tries < if here { others } else { on_its_way } {
                    return Err(Unsettled::UnknownSetter);
                }
                None
            }
        };
        asked.parameters.push(Parameter { label, setter, permission });
    }
    if let Some(issue) = linked {
        let labels = answer(app.forge.issue(&repository.name, issue).await, tries)?.map(|issue| issue.labels);
        asked.issue_stages = asked.policy.labels.stages(&labels.unwrap_or_default());
    }
    Ok(asked)
}

/// Login we act as, where the event could be the echo of an effect of ours.
async fn identity(app: &App, event: &Event, tries: i32) -> Result<Option<String>, Unsettled> {
    if may_be_ours(event) { Ok(answer(app.forge.identity().await, tries)?.ok()) } else { Ok(None) }
}

/// What an account may do; `None` when it cannot be learnt. GitHub does not tell it of Apps:
/// one that the configuration lists may write, because the operator says so.
async fn permission(
    app: &App,
    question: Question<'_>,
    bots: &BTreeSet<String>,
    login: &str,
    fresh: Fresh,
) -> Result<Option<Permission>, Unsettled> {
    let asked = Permissions::ask(app, question.repository, login, fresh).await;
    Ok(match answer(asked, question.tries)? {
        Ok(permission) => Some(permission),
        Err(ForgeError::Missing { .. }) if bots.contains(&login.to_lowercase()) => Some(Permission::Write),
        Err(_) => None,
    })
}

/// A comment on a pull request does not tell where its head lives. A command is decided on what
/// the code host says now.
pub(super) async fn completed(
    app: &App,
    repository: &Repository,
    mut event: Event,
    tries: i32,
    fresh: bool,
) -> Result<Event, Unsettled> {
    let name = &repository.name;
    if repository.no_access.is_some() {
        return Ok(event);
    }
    if !fresh
        && may_start(app, repository, &event).await?
        && let Happening::Labeled { on, .. }
        | Happening::Commented { on, .. }
        | Happening::Reviewed { on, .. } = &mut event.happening
        && on.open
        && let Ok(now) = answer(app.forge.issue(name, on.number).await, tries)?
    {
        // It came late or was put off, and may have been closed since: that event went first.
        on.open = now.open;
    }
    event = approval_as_it_stands(app, repository, event, tries).await?;
    if let Happening::Commented { on, comment } = &mut event.happening
        && let Some(pull) = &mut on.pull
        && pull.head.is_none()
        && command::parse(&comment.body).is_some()
        && let Ok(now) = answer(app.forge.pull_request(name, on.number).await, tries)?
    {
        *pull = Pull {
            head: Some(now.head_sha),
            branch: Some(now.branch),
            base: Some(now.base),
            from_fork: now.from_fork,
            merged: now.merged,
        };
    }
    Ok(event)
}

/// Could something start because of this event?
async fn may_start(app: &App, repository: &Repository, event: &Event) -> sqlx::Result<bool> {
    let default_branch = repository.default_branch.as_deref();
    let mut db = app.db.acquire().await?;
    let known = policies::known(&mut db, app, repository).await?;
    matters(&mut db, repository, event, &known, default_branch).await
}

/// An approving review opens gates, so head and review are read as they are now: what came after
/// it may have been decided before it.
async fn approval_as_it_stands(
    app: &App,
    repository: &Repository,
    mut event: Event,
    tries: i32,
) -> Result<Event, Unsettled> {
    let Happening::Reviewed { on, review } = &mut event.happening else { return Ok(event) };
    // Most reviews are of pull requests that are none of ours.
    let mut db = app.db.acquire().await?;
    if review.verdict != ReviewVerdict::Approved
        || !records::is_ours(&mut db, repository.id, on.number).await?
    {
        return Ok(event);
    }
    drop(db);
    let name = &repository.name;
    if let Ok(now) = answer(app.forge.pull_request(name, on.number).await, tries)? {
        on.open = now.open;
        if let Some(pull) = &mut on.pull {
            pull.head = Some(now.head_sha);
        }
    }
    let reviews = answer(app.forge.reviews(name, on.number).await, tries)?.unwrap_or_default();
    let dismissed = reviews.iter().any(|r| r.id == review.id && r.state == forge::ReviewState::Dismissed);
    if dismissed {
        event.happening = Happening::ReviewDismissed { on: on.clone(), review: review.clone() };
    }
    Ok(event)
}

/// Is it about a label that asks for a model or a level?
pub(super) fn is_parameter(event: &Event, policy: &Policy) -> bool {
    let meaning = event.happening.label().and_then(|label| policy.labels.meaning(label));
    matches!(meaning, Some(Meaning::Model(_) | Meaning::Reasoning(_)))
}

/// Could this event be the echo of an effect of ours?
fn may_be_ours(event: &Event) -> bool {
    let of_a_kind = matches!(
        event.happening,
        Happening::Labeled { .. } | Happening::Unlabeled { .. } | Happening::Commented { .. }
    );
    of_a_kind && event.actor.is_some()
}

/// Could something start because of this event? Judged by what is known here, so that the code
/// host is asked for few events.
async fn matters(
    db: &mut sqlx::PgConnection,
    repository: &Repository,
    event: &Event,
    known: &Known,
    default_branch: Option<&str>,
) -> sqlx::Result<bool> {
    match &event.happening {
        // A repository whose files were never read may call its labels anything.
        Happening::Labeled { label, .. } => Ok(match known.policy.labels.meaning(label) {
            Some(
                Meaning::Run(_)
                | Meaning::Revise(_)
                | Meaning::Preview(_)
                | Meaning::Reviewer
                | Meaning::Discussion
                | Meaning::Model(_)
                | Meaning::Reasoning(_),
            ) => true,
            Some(Meaning::State(_) | Meaning::Need(_)) => false,
            None => !known.was_read,
        }),
        Happening::Commented { on, comment } => {
            if command::parse(&comment.body).is_some() {
                return Ok(true);
            }
            let issue = i64::try_from(on.number).unwrap_or(i64::MAX);
            Ok(discussions::open_on(db, repository.id, issue).await?.is_some())
        }
        Happening::Reviewed { on, review } => match review.verdict {
            ReviewVerdict::Approved | ReviewVerdict::ChangesRequested => {
                records::is_ours(db, repository.id, on.number).await
            }
            ReviewVerdict::Commented => Ok(false),
        },
        Happening::Pushed { branch, .. } => Ok(branch.is_some() && branch.as_deref() == default_branch),
        Happening::Unlabeled { .. }
        | Happening::Closed { .. }
        | Happening::Deleted { .. }
        | Happening::TransferredAway { .. }
        | Happening::Synchronized { .. }
        | Happening::Reopened { .. }
        | Happening::ReviewDismissed { .. }
        | Happening::Installation { .. }
        | Happening::Repository { .. }
        | Happening::Other => Ok(false),
    }
}
