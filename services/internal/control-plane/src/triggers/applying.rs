//! What a decision changes, in its own transaction.

use domain::{
    decision::{Decided, Decision, Event, Happening, Question, Reason, Record, RepositoryChange, Start},
    ids::{DecisionId, RunId},
    names::APP_SOURCE,
    run::RunKind,
};
use forge::Reaction;
use sqlx::PgConnection;

use super::{
    asked::{Asked, is_parameter},
    records,
    simulating::PREVIEW_MARK,
    starting, store,
};
use crate::{
    App,
    approvals::{self, About},
    deliveries::store::Undecided,
    discussions,
    installations::{self, Reach},
    projects::{
        self,
        store::{GONE, Repository, Standing},
    },
    publishing::{self, Explained, Place},
    runs::{self, IssueSnapshot, RunError},
};

/// A decision that is to be applied.
pub(super) struct Case<'a> {
    pub(super) app: &'a App,
    pub(super) repository: &'a Repository,
    pub(super) delivery: &'a Undecided,
    pub(super) event: &'a Event,
    pub(super) asked: &'a Asked,
    pub(super) record: &'a Record,
    pub(super) decided: &'a Decided,
    pub(super) decision: DecisionId,
    pub(super) actor: &'a str,
    /// The issue a run is about, where the event does not tell its text.
    pub(super) issue: Option<&'a IssueSnapshot>,
    /// What a preview shows, rendered before the transaction.
    pub(super) preview: Option<&'a str>,
    /// How the code host lets us at the repository now, where it was asked.
    pub(super) reach: Option<&'a Reach>,
    /// The repository as it is now, where it was read.
    pub(super) now: Option<&'a forge::Repository>,
}

pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Case<'_> {
    pub(super) fn place(&self, number: u64) -> Place<'_> {
        Place {
            repository: self.repository.id,
            number: signed(number),
            run: None,
            trace_id: &self.delivery.trace_id,
        }
    }

    fn about(&self, pull: u64) -> About<'_> {
        About {
            repository: self.repository,
            pull: signed(pull),
            decision: self.decision,
            actor: self.actor,
            trace_id: &self.delivery.trace_id,
        }
    }

    pub(super) fn run_id(&self, text: &str) -> Result<RunId, RunError> {
        text.parse().map_err(|error: domain::ids::InvalidId| RunError::Damaged {
            table: "runs",
            id: domain::ids::Id::uuid(self.decision),
            problem: error.to_string(),
        })
    }
}

/// Applies a decision, and has the labels the platform keeps follow.
pub(super) async fn apply(tx: &mut PgConnection, case: &Case<'_>) -> Result<(), RunError> {
    let (app, labels) = (case.app, &case.asked.policy.labels);
    let mut before = Vec::new();
    for number in records::threads(case.event, case.record, &case.decided.decision) {
        // The decision is written down already; what it says about itself is part of the change.
        let kept = if case.event.happening.number() == Some(number) {
            case.record.kept_labels.clone()
        } else {
            approvals::kept(tx, case.repository.id, signed(number), labels).await?
        };
        before.push((number, kept));
    }
    note_pull(tx, case).await?;
    carry_out(tx, case).await?;
    if let Happening::Commented { on, comment } = &case.event.happening {
        let place = case.place(on.number);
        match (case.decided.reason, &case.decided.decision) {
            (Reason::CommentCommand, Decision::Reject { .. } | Decision::Ignore) => {}
            (Reason::CommentCommand, _) => {
                publishing::react_to_comment(tx, app, place, comment.id, Reaction::ThumbsUp).await?;
            }
            (Reason::DiscussionComment, Decision::Start(_)) => {
                publishing::react_to_comment(tx, app, place, comment.id, Reaction::Eyes).await?;
            }
            (Reason::AlreadyWaiting, Decision::Ignore) => {
                let waits = case.record.behind.as_ref().or(case.record.under_way.as_ref());
                if let Some(waits) = waits
                    && records::heard_by(tx, case.run_id(&waits.id)?, case.delivery.received_at).await?
                {
                    publishing::react_to_comment(tx, app, place, comment.id, Reaction::Eyes).await?;
                }
            }
            (_, _) => {}
        }
    }
    for (number, before) in before {
        approvals::follow(tx, app, case.place(number), labels, &before).await?;
    }
    Ok(())
}

/// Whatever is decided, the head a pull request of ours has is taken note of.
async fn note_pull(tx: &mut PgConnection, case: &Case<'_>) -> sqlx::Result<()> {
    if let Happening::Synchronized { on } = &case.event.happening
        && let Some(head) = on.pull.as_ref().and_then(|pull| pull.head.as_ref())
    {
        approvals::note_head(tx, case.repository.id, signed(on.number), head).await?;
    }
    Ok(())
}

async fn carry_out(tx: &mut PgConnection, case: &Case<'_>) -> Result<(), RunError> {
    let Case { app, repository, decided, .. } = *case;
    match &decided.decision {
        Decision::Start(start) => starting::start(tx, case, start).await,
        Decision::Preview { start } => preview(tx, case, start).await,
        Decision::Approve { pull, run, head, review, right } => {
            let what = (case.run_id(run)?, head, *review, right.as_str());
            Ok(approvals::approve(tx, app, case.about(*pull), what).await?)
        }
        Decision::WithdrawApproval { pull, head } => {
            if let Some(head) = head {
                approvals::note_head(tx, repository.id, signed(*pull), head).await?;
            }
            Ok(approvals::withdraw(tx, app, case.about(*pull), &decided.rule).await?)
        }
        Decision::RecordReopened { pull } => Ok(approvals::reopen(tx, app, case.about(*pull)).await?),
        Decision::RecordEnd { pull, merged } => {
            Ok(approvals::end(tx, app, case.about(*pull), *merged).await?)
        }
        Decision::Cancel { run } => cancel(tx, case, run.as_deref()).await,
        Decision::EndDiscussion { issue } => {
            // Its label is off already where that is what happened.
            if decided.reason == Reason::IssueEnded {
                starting::end_discussion(tx, case, *issue).await?;
            } else {
                discussions::end(tx, app, repository, signed(*issue), case.actor).await?;
            }
            end_of_discussion(tx, case).await
        }
        Decision::KeepLabels { number, add, remove } => {
            let place = case.place(*number);
            publishing::change_labels(tx, app, place, add, remove).await?;
            let text = |mark: &str| publishing::put_back(decided, mark);
            Ok(publishing::say(tx, app, place, case.decision, text).await?)
        }
        Decision::NoteParameter { number, label, set } => {
            let setter = set.then_some((case.actor, app.clock.now()));
            Ok(records::note_parameter(tx, repository.id, (*number, label), setter).await?)
        }
        Decision::Answer { number, question } => answer(tx, case, *number, *question).await,
        Decision::NoteRepository { change } => note_repository(tx, case, change).await,
        Decision::Reject { on, label, need } => reject(tx, case, *on, label.as_deref(), need).await,
        // The files were read before this transaction; a release has no event.
        Decision::RefreshPolicy | Decision::Release | Decision::Ignore => Ok(()),
        // It belongs to no repository; see `installed`.
        Decision::NoteInstallation { .. } => Ok(()),
    }
}

async fn preview(tx: &mut PgConnection, case: &Case<'_>, start: &Start) -> Result<(), RunError> {
    let Some(number) = case.event.happening.number() else { return Ok(()) };
    let place = case.place(number);
    if let Some(text) = case.preview {
        let text = |mark: &str| text.replacen(PREVIEW_MARK, mark, 1);
        publishing::say(tx, case.app, place, case.decision, text).await?;
    }
    if let Some((number, label)) = &start.label {
        let remove = std::slice::from_ref(label);
        publishing::change_labels(tx, case.app, case.place(*number), &[], remove).await?;
    }
    Ok(())
}

/// Cancels a run; when its issue ended, what waits behind it and the issue's discussion end too.
async fn cancel(tx: &mut PgConnection, case: &Case<'_>, run: Option<&str>) -> Result<(), RunError> {
    let Case { decided, record, .. } = *case;
    let named = run.or_else(|| record.under_way.as_ref().map(|run| run.id.as_str()));
    let ended = decided.reason == Reason::IssueEnded;
    let mut wanted: Vec<&str> = Vec::new();
    if ended {
        // First what waits, so that nothing comes forward.
        wanted.extend(record.behind.as_ref().map(|run| run.id.as_str()));
    }
    wanted.extend(named.filter(|named| !wanted.contains(named)));
    let reason = if ended { decided.rule.trim_end_matches('.').to_lowercase() } else { String::new() };
    for id in wanted {
        starting::cancel(tx, case, id, &reason).await?;
    }
    if let (true, Some(issue)) = (ended, case.event.happening.number()) {
        starting::end_discussion(tx, case, issue).await?;
    }
    Ok(())
}

/// The runs of a discussion end with it.
async fn end_of_discussion(tx: &mut PgConnection, case: &Case<'_>) -> Result<(), RunError> {
    let runs = [&case.record.behind, &case.record.under_way];
    for run in runs.into_iter().flatten().filter(|run| run.kind == RunKind::Discussion) {
        starting::cancel(tx, case, &run.id, "the discussion was ended").await?;
    }
    Ok(())
}

async fn answer(
    tx: &mut PgConnection,
    case: &Case<'_>,
    number: u64,
    question: Question,
) -> Result<(), RunError> {
    let place = case.place(number);
    match question {
        Question::Status => {
            let issue = case.record.linked_issue.unwrap_or(number);
            let runs = runs::of_issue(tx, case.repository.id, signed(issue)).await?;
            let text = |mark: &str| publishing::answer_status(&runs, case.record, mark);
            Ok(publishing::say(tx, case.app, place, case.decision, text).await?)
        }
        Question::Explain => {
            let last = store::last_about(tx, case.repository.id, signed(number), case.decision).await?;
            let last = last.as_ref().map(|decision| Explained {
                subject: &decision.subject,
                actor: decision.actor.as_deref(),
                decided_at: decision.decided_at,
                decision: &decision.decision,
                reason: &decision.reason,
                rule: &decision.rule,
                remedy: &decision.remedy,
                trace: &decision.trace,
            });
            let text = |mark: &str| publishing::answer_explain(last.as_ref(), mark);
            Ok(publishing::say(tx, case.app, place, case.decision, text).await?)
        }
    }
}

async fn note_repository(
    tx: &mut PgConnection,
    case: &Case<'_>,
    change: &RepositoryChange,
) -> Result<(), RunError> {
    let Case { app, repository, .. } = *case;
    let named = case.event.repository.as_ref();
    let gone = |gone| Standing { gone: Some(gone), ..Standing::default() };
    let standing = match change {
        RepositoryChange::Renamed { .. } | RepositoryChange::Archived | RepositoryChange::Unarchived => {
            let Some(now) = case.now else { return Ok(()) };
            // It may have come back.
            let back = matches!(change, RepositoryChange::Renamed { .. }) && named == Some(&now.name);
            if back || !repository.gone {
                installations::note_standing(tx, app, repository.id, now, back.then_some(false)).await?;
            }
            return Ok(());
        }
        // It may have come back.
        RepositoryChange::Transferred { .. } => {
            let here = named == Some(&repository.name);
            // The App is installed where it went.
            let with_us = matches!(case.reach, Some(Reach::Open(_))) && case.delivery.source == APP_SOURCE;
            if with_us { Standing { name: named, ..gone(false) } } else { gone(!here) }
        }
        RepositoryChange::MadePrivate | RepositoryChange::MadePublic => return Ok(()),
        RepositoryChange::Deleted => gone(true),
    };
    // Runs are locked before their repository, as everywhere.
    if standing.gone == Some(true) {
        installations::end_all(tx, app, repository, GONE).await?;
    }
    Ok(projects::store::note(tx, repository.id, &standing, app.clock.now()).await?)
}

async fn reject(
    tx: &mut PgConnection,
    case: &Case<'_>,
    on: Option<u64>,
    label: Option<&str>,
    need: &[String],
) -> Result<(), RunError> {
    let Case { app, repository, decided, .. } = *case;
    let number = case.event.happening.number();
    if let (Reason::ParameterNotAllowed, Happening::Labeled { on, label }) =
        (decided.reason, &case.event.happening)
        && is_parameter(case.event, &case.asked.policy)
    {
        // It comes off; until then it is known whose it is.
        let setter = Some((case.actor, app.clock.now()));
        records::note_parameter(tx, repository.id, (on.number, label), setter).await?;
    }
    let labels = number.zip(label);
    let trace_id = &case.delivery.trace_id;
    publishing::say_rejection(tx, app, repository, case.decision, decided, on, labels, trace_id).await?;
    // What the platform keeps by its records follows by itself.
    let kept = case.asked.policy.labels.kept();
    let need: Vec<String> = need.iter().filter(|need| !kept.contains(need)).cloned().collect();
    match number {
        Some(number) => Ok(publishing::change_labels(tx, app, case.place(number), &need, &[]).await?),
        None => Ok(()),
    }
}
