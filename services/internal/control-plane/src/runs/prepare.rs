//! What a run may read is fixed before anything starts: commit, issue, comments, prompt.

use std::{collections::HashMap, time::Duration};

use domain::{ids::Id, names::CommitSha, rights::Permission};
use forge::ForgeError;
use prompts::{
    AskedBy, CommentText, EarlierWork, IssueText, LeftOut, Library, Limits, PromptContext, Request,
};
use sqlx::types::Json;

use super::{
    head_moved::input_changeset,
    pinning::{Pin, pin},
    store::{self, IssueSnapshot, Run, RunError},
};
use crate::{
    App,
    objects::Kind,
    projects::store::by_id,
    steps::{self, Step},
};

/// People whose permission is asked for, at most.
const ASKED_AUTHORS: usize = 20;

/// Why a run cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotPrepared {
    /// May pass: try again, not before what the code host asked for.
    #[error("{why}")]
    Later { why: String, at_least: Option<Duration> },
    /// Will not pass by waiting; a sentence for people.
    #[error("{0}")]
    Never(String),
    #[error(transparent)]
    Run(#[from] RunError),
}

impl From<sqlx::Error> for NotPrepared {
    fn from(error: sqlx::Error) -> Self {
        Self::Run(error.into())
    }
}

impl NotPrepared {
    /// To be tried again after the usual wait.
    pub(super) fn later(why: impl Into<String>) -> Self {
        Self::Later { why: why.into(), at_least: None }
    }
}

pub(super) fn of_forge(what: &str, error: &ForgeError) -> NotPrepared {
    let why = format!("{what}: {error}");
    match error {
        ForgeError::Limited { retry_after } => NotPrepared::Later { why, at_least: Some(*retry_after) },
        ForgeError::Outage { .. } => NotPrepared::later(why),
        ForgeError::Denied { .. }
        | ForgeError::Missing { .. }
        | ForgeError::Conflict { .. }
        | ForgeError::Invalid { .. }
        | ForgeError::Unsupported { .. } => NotPrepared::Never(why),
    }
}

/// The prompt of a run, prepared once for each pin and stored by digest; later attempts get
/// the same.
pub(super) async fn prepare(app: &App, run: &Run) -> Result<Prepared, NotPrepared> {
    if let (Some(key), Some(sha), Some(branch)) = (&run.prompt_key, &run.base_sha, &run.base_branch) {
        let text = app
            .objects
            .get(key)
            .await
            .map_err(|e| NotPrepared::later(format!("the stored prompt cannot be read: {e}")))?;
        return Ok(Prepared {
            base_sha: sha.clone(),
            base_branch: branch.clone(),
            steering_sha: run.steering_sha.clone(),
            review_base_sha: run.review_base_sha.clone(),
            prompt: String::from_utf8_lossy(&text).into_owned(),
        });
    }
    let repository = by_id(&app.db, run.repository_id).await?;
    let name = &repository.name;
    let number = u64::try_from(run.issue_number).unwrap_or_default();
    let stage = &run.definition;
    let issue = async {
        match &run.issue {
            Some(issue) => Ok(issue.clone()),
            None => app.forge.issue(name, number).await.map(|i| IssueSnapshot {
                title: i.title,
                body: i.body,
                author: i.author,
                url: i.html_url,
            }),
        }
    };
    let (pin, issue, comments) =
        futures::join!(pin(app, run, &repository), issue, app.forge.comments(name, number));
    let pin = pin?;
    let review_base = pin.review_base().cloned();
    let Pin { base: head, branch, steering, pull: _ } = pin;
    let issue = issue.map_err(|e| of_forge("The issue cannot be read", &e))?;
    let comments = comments.map_err(|e| of_forge("The comments cannot be read", &e))?;

    let identity = app.forge.identity().await.unwrap_or_default();
    let mut permissions: HashMap<String, Option<Permission>> = HashMap::new();
    let mut texts = Vec::new();
    let mut left_out = LeftOut::default();
    for comment in comments {
        // Only what stood there when the run was asked for, and not what we wrote ourselves.
        let ours =
            comment.author.eq_ignore_ascii_case(&identity) && comment.body.starts_with("<!-- callboard:");
        if ours {
            continue;
        }
        if comment.created_at > run.received_at {
            left_out.written_later += 1;
            continue;
        }
        if comment.updated_at > run.received_at {
            left_out.edited_later += 1;
            continue;
        }
        let author = comment.author.to_lowercase();
        if !permissions.contains_key(&author) && permissions.len() < ASKED_AUTHORS {
            // Not knowing leaves the comment out; it does not stop the run.
            permissions.insert(author.clone(), app.forge.permission(name, &comment.author).await.ok());
        }
        let permission = permissions.get(&author).copied().flatten();
        let by_author_of_issue = comment.author.eq_ignore_ascii_case(&issue.author);
        if by_author_of_issue || permission.is_some_and(|p| p >= Permission::Write) {
            texts.push(CommentText {
                author: comment.author,
                permission: permission.map(|p| p.to_string()),
                created_at: comment.created_at.format("%Y-%m-%d %H:%M UTC").to_string(),
                body: comment.body,
            });
        } else {
            left_out.people_without_right += 1;
        }
    }
    let author_permission =
        permissions.get(&issue.author.to_lowercase()).copied().flatten().map(|p| p.to_string());
    let earlier = input_changeset(app, run)
        .await
        .map_err(|e| NotPrepared::later(format!("what the earlier attempt changed cannot be read: {e}")))?
        .map(|changeset| {
            let path = |f: domain::changeset::FileChange| String::from_utf8_lossy(&f.path).into_owned();
            EarlierWork::new(changeset.base.to_string(), changeset.files.into_iter().map(path).collect())
        });
    let delimiter: [u8; 8] = app.ids.bytes();
    let request = Request {
        template: &stage.template,
        role: &stage.role,
        kind: prompts::Kind::Work,
        language: prompts::Language::En,
    };
    let context = PromptContext {
        repository: name.to_string(),
        base_branch: branch.clone(),
        base_sha: head.to_string(),
        stage: run.stage.clone(),
        role: stage.role.clone(),
        kind: request.kind,
        language: request.language,
        issue: IssueText {
            number,
            title: issue.title.clone(),
            body: issue.body.clone(),
            author: issue.author.clone(),
            author_permission,
            labels: Vec::new(),
        },
        comments: texts,
        left_out,
        earlier,
        write_scope: stage.write_scope.clone(),
        limits: Limits {
            minutes: stage.time_limit_minutes,
            files: stage.max_changeset_files,
            lines: 0,
            bytes: stage.max_changeset_bytes,
        },
        pull_request: None,
        reviews: Vec::new(),
        documents: Vec::new(),
        session: false,
        asked_by: AskedBy { login: run.actor.clone(), channel: "label".to_owned() },
        delimiter: hex::encode(delimiter),
        run_id: run.id.to_string(),
    };
    let rendered = Library::built_in()
        .render(&request, &context)
        .map_err(|e| NotPrepared::Never(format!("The prompt cannot be rendered: {e}")))?;
    let key = app
        .objects
        .put(run.project, Kind::Prompt, rendered.text.clone().into_bytes())
        .await
        .map_err(|e| NotPrepared::later(format!("the prompt cannot be stored: {e}")))?;
    let mut tx = app.db.begin().await?;
    let stored = sqlx::query!(
        "update runs set base_branch = $2, base_sha = $3, issue = $4, prompt_key = $5, steering_sha = $6, review_base_sha = $7
         where run_id = $1 and state = 'active' and prompt_key is null",
        run.id.uuid(),
        branch,
        head.as_str(),
        Json(&issue) as _,
        key,
        steering.as_str(),
        review_base.as_ref().map(CommitSha::as_str),
    )
    .execute(&mut *tx)
    .await?;
    if stored.rows_affected() == 1 {
        let text = format!(
            "Pinned to {} on `{branch}`; prompt sha256 {}.",
            head.short(),
            rendered.digest.get(..16).unwrap_or_default()
        );
        store::event(&mut tx, app, run.id, "prepared", &text).await?;
    }
    steps::commit(tx, Step::RunPrepared).await?;
    Ok(Prepared {
        base_sha: head,
        base_branch: branch,
        steering_sha: Some(steering),
        review_base_sha: review_base,
        prompt: rendered.text,
    })
}

/// What an attempt starts from.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) base_sha: CommitSha,
    pub(super) base_branch: String,
    pub(super) steering_sha: Option<CommitSha>,
    pub(super) review_base_sha: Option<CommitSha>,
    pub(super) prompt: String,
}
