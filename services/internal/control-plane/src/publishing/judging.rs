//! A returned changeset is judged, and what follows from it is committed.

use domain::{
    changeset::{Changeset, Finding, HeldFor, Rules, Searched, Verdict, judge},
    ids::{Id, PublicationId},
    run::{FailureClass, PublicationState, RunKind, RunState, Waiting},
    stage::PublicationRule,
};
use sqlx::PgConnection;

use super::{
    about::about,
    comments::{self, Released},
    effects::{Effect, insert_for_run},
    move_publication,
    publication::{insert_publication, set_findings},
    say_status,
};
use crate::{
    App,
    runs::{self, Attempt, Run, RunError},
};

/// Judges what an attempt returned; the run is locked and active, the attempt has returned.
pub(crate) async fn publish(
    tx: &mut PgConnection,
    app: &App,
    run: &Run,
    attempt: &Attempt,
    searched: &Searched,
    secrets: &domain::censor::Censor,
) -> Result<(), RunError> {
    let stage = &run.definition;
    // Without a pin nothing was handed out, so nothing can have been returned.
    let pin = run.base_sha.as_ref().ok_or_else(|| RunError::Damaged {
        table: "runs",
        id: run.id.uuid(),
        problem: "a result without a pinned commit".to_owned(),
    })?;
    let rules = Rules {
        pin,
        write_scope: &stage.write_scope,
        max_bytes: stage.max_changeset_bytes,
        max_files: stage.max_changeset_files,
        max_lines: stage.max_changeset_lines,
        needs_approver: stage.publication == PublicationRule::Approver,
        secrets,
    };
    let verdict = judge(searched, &rules);
    if let Verdict::Empty = verdict {
        let message = match attempt.summary.as_deref().map(str::trim) {
            Some(summary) if !summary.is_empty() => {
                format!("Finished without changes. The agent says:\n\n{summary}")
            }
            Some(_) | None => "Finished without changes.".to_owned(),
        };
        let run = runs::move_run(tx, app, run, RunState::Succeeded, "platform", &message).await?;
        return say_status(tx, app, &run).await;
    }
    let id: PublicationId = app.ids.next();
    insert_publication(tx, id, run.id, attempt.id.uuid(), app.clock.now()).await?;
    match verdict {
        Verdict::Empty => Ok(()),
        Verdict::Publish => {
            move_publication(tx, app, run, PublicationState::Checking, PublicationState::Publishing).await?;
            runs::event(tx, app, run.id, "checked", "The changeset passed the checks.").await?;
            send(tx, app, run, attempt, searched.changeset(), None).await
        }
        Verdict::Hold(findings) => {
            keep_findings(tx, id, &findings).await?;
            move_publication(tx, app, run, PublicationState::Checking, PublicationState::Held).await?;
            let message = held_because(&findings);
            let run =
                runs::move_run(tx, app, run, RunState::Waiting(Waiting::Held), "platform", &message).await?;
            say_status(tx, app, &run).await
        }
        Verdict::Refuse(findings) => {
            keep_findings(tx, id, &findings).await?;
            move_publication(tx, app, run, PublicationState::Checking, PublicationState::Refused).await?;
            let message = "The changeset was refused, and nothing was published.";
            let run =
                runs::move_run(tx, app, run, RunState::Failed(FailureClass::Policy), "platform", message)
                    .await?;
            say_status(tx, app, &run).await
        }
    }
}

/// Why a person is asked, most serious first.
fn held_because(findings: &[Finding]) -> String {
    let mut asked: Vec<HeldFor> = findings.iter().filter_map(|finding| finding.code.held_for()).collect();
    asked.sort_unstable();
    asked.dedup();
    let why = asked.into_iter().map(|asked| match asked {
        HeldFor::Secrets => "There may be a secret in the changeset. ",
        HeldFor::ProtectedFiles => "The agent changed protected files. ",
        HeldFor::OtherFiles => "The agent changed files this stage does not write by itself. ",
        HeldFor::Size => "The changeset is larger than this stage writes by itself. ",
        HeldFor::Approver => "Every result of this stage needs an approver. ",
    });
    let why: String = why.collect();
    format!("{why}Nothing was published; the changeset is kept for a person to look at.")
}

/// The effects that publish a changeset.
pub(super) async fn send(
    tx: &mut PgConnection,
    app: &App,
    run: &Run,
    attempt: &Attempt,
    changeset: &Changeset,
    released: Option<&Released<'_>>,
) -> Result<(), RunError> {
    let summary = attempt.summary.as_deref().unwrap_or_default();
    let about = about(&mut *tx, app, run).await?;
    let commit = Effect::Commit { message: comments::commit_message(run) };
    let effects = match (run.kind, run.pull_request, &run.base_branch) {
        // What it says on the pull request follows when the branch is there.
        (RunKind::Revise, Some(number), Some(branch)) => {
            vec![commit, Effect::MoveBranch { name: branch.clone(), number }]
        }
        (RunKind::Work | RunKind::Revise | RunKind::Review | RunKind::Discussion, _, _) => vec![
            commit,
            Effect::Branch { name: comments::branch(run) },
            Effect::PullRequest {
                title: comments::title(run),
                body: comments::pull_request(run, &about, summary, changeset, released),
            },
        ],
    };
    Ok(insert_for_run(tx, app, run, effects).await?)
}

async fn keep_findings(
    tx: &mut PgConnection,
    id: PublicationId,
    findings: &[Finding],
) -> Result<(), RunError> {
    let json = serde_json::to_value(findings).map_err(|e| sqlx::Error::Encode(Box::new(e)))?;
    Ok(set_findings(tx, id, &json).await?)
}

#[cfg(test)]
mod tests {
    use domain::changeset::FindingCode;

    use super::*;

    #[test]
    fn why_it_is_held_is_said_once_and_the_most_serious_first() {
        let found = |code| Finding { code, path: None, sentence: String::new() };
        let said = held_because(&[
            found(FindingCode::NeedsApprover),
            found(FindingCode::OutsideWriteScope),
            found(FindingCode::OutsideWriteScope),
            found(FindingCode::LinkToProtectedPath),
            found(FindingCode::ProtectedPath),
            found(FindingCode::SecretPattern),
        ]);
        insta::assert_snapshot!(said, @"There may be a secret in the changeset. The agent changed protected files. The agent changed files this stage does not write by itself. Every result of this stage needs an approver. Nothing was published; the changeset is kept for a person to look at.");
    }
}
