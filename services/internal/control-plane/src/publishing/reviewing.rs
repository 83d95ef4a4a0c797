//! What a review found becomes one review on the pull request; it approves nothing.

use domain::{
    censor::Censor,
    neutralise::visible,
    review::Findings,
    run::{RunKind, RunState},
};
use sqlx::PgConnection;

use super::{
    about::about,
    comments,
    effects::{Effect, insert_for_run},
    say_status,
};
use crate::{
    App,
    runs::{self, Attempt, Run, RunError},
};

/// What an attempt at a review returned.
#[derive(Debug)]
pub(crate) struct Reviewed {
    pub(crate) findings: Findings,
    /// What was wrong with it, in a sentence.
    problem: Option<String>,
}

impl Reviewed {
    /// Reads the agent's findings. What does not read is kept as text; without any, its summary
    /// is what there is. `summary` is limited and censored already.
    pub(crate) fn read(json: &str, summary: &str, secrets: &Censor) -> Self {
        let text = |summary: String| Findings { summary, findings: Vec::new() };
        if json.trim().is_empty() {
            let problem = "The agent wrote no findings; its summary is posted.".to_owned();
            return Self { findings: text(summary.to_owned()), problem: Some(problem) };
        }
        match Findings::parse(json, secrets) {
            Ok(mut findings) => {
                if findings.summary.trim().is_empty() {
                    summary.clone_into(&mut findings.summary);
                }
                Self { findings, problem: None }
            }
            Err(why) => {
                let kept = secrets.censor(&visible(json)).replace('\0', "");
                let kept = kept.get(..kept.floor_char_boundary(UNREAD_BYTES)).unwrap_or_default();
                let problem = format!("The agent's findings do not read ({why}); they are posted as text.");
                Self { findings: text(format!("{summary}\n\n{kept}")), problem: Some(problem) }
            }
        }
    }
}

/// Bytes of findings that do not read that are kept.
const UNREAD_BYTES: usize = 16 * 1024;

/// Has the review posted; the run is locked and active, and is done once the review is there.
pub(crate) async fn post_review(
    tx: &mut PgConnection,
    app: &App,
    run: &Run,
    reviewed: &Reviewed,
    ignored: usize,
) -> Result<(), RunError> {
    note_ignored(tx, app, run, ignored).await?;
    if let Some(problem) = &reviewed.problem {
        runs::event(tx, app, run.id, "findings_unread", problem).await?;
    }
    let (Some(number), Some(head)) = (run.pull_request, run.base_sha.clone()) else {
        return Err(RunError::Damaged {
            table: "runs",
            id: domain::ids::Id::uuid(run.id),
            problem: "a review without a pinned pull request".to_owned(),
        });
    };
    let Findings { summary, findings } = reviewed.findings.clone();
    let said = match &reviewed.problem {
        Some(problem) => format!("_{problem}_\n\n{summary}"),
        None => summary,
    };
    let mark = comments::mark_of_review(run.id);
    let effect = Effect::Review { number, head, said, findings, mark };
    Ok(insert_for_run(tx, app, run, [effect]).await?)
}

/// Posts the agent's answer; the run is locked and active, and done with it.
pub(crate) async fn post_answer(
    tx: &mut PgConnection,
    app: &App,
    run: &Run,
    attempt: &Attempt,
    ignored: usize,
) -> Result<(), RunError> {
    note_ignored(tx, app, run, ignored).await?;
    let answer = attempt.summary.as_deref().map(str::trim).unwrap_or_default();
    if answer.is_empty() {
        let failed = RunState::Failed(domain::run::FailureClass::Agent);
        let run = runs::move_run(tx, app, run, failed, "platform", "The agent left no answer.").await?;
        return say_status(tx, app, &run).await;
    }
    let run = runs::move_run(tx, app, run, RunState::Succeeded, "platform", "Answered.").await?;
    let about = about(&mut *tx, app, &run).await?;
    let effect = Effect::Comment {
        number: run.issue_number,
        body: comments::discussion_answer(&run, &about, answer),
        mark: comments::mark_of_answer(run.id),
    };
    Ok(insert_for_run(tx, app, &run, [effect]).await?)
}

async fn note_ignored(tx: &mut PgConnection, app: &App, run: &Run, files: usize) -> sqlx::Result<()> {
    let what = match run.kind {
        RunKind::Review => "a review",
        RunKind::Discussion => "an answer",
        RunKind::Work | RunKind::Revise => return Ok(()),
    };
    let changed = match files {
        0 => return Ok(()),
        1 => "1 file".to_owned(),
        n => format!("{n} files"),
    };
    let text = format!("The agent changed {changed}; {what} changes nothing, so they are left out.");
    runs::event(tx, app, run.id, "changes_left_out", &text).await
}
