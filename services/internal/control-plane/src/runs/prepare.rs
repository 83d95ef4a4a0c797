//! What a run may read is fixed before anything starts: commit, issue, comments, prompt.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, Utc};
use domain::{
    ids::Id,
    names::{CommitSha, RepositoryName},
    rights::Permission,
    stage::Stage,
};
use forge::ForgeError;
use prompts::{CommentText, EarlierWork, IssueText, PromptContext, RenderedPrompt};
use sqlx::types::Json;

use super::{
    head_moved::input_changeset,
    store::{self, IssueSnapshot, Run, RunError},
};
use crate::{
    App, checkpoints,
    objects::Kind,
    projects::store::{Repository, by_id},
    steps::{self, Step},
};

/// People whose permission is asked for, at most.
const ASKED_AUTHORS: usize = 20;

/// Why a run cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotPrepared {
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

fn of_forge(what: &str, error: &ForgeError) -> NotPrepared {
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
            prompt: String::from_utf8_lossy(&text).into_owned(),
        });
    }
    let repository = by_id(&app.db, run.repository_id).await?;
    let earlier = input_changeset(app, run)
        .await
        .map_err(|e| NotPrepared::later(format!("what the earlier attempt changed cannot be read: {e}")))?
        .map(|changeset| {
            let path = |f: domain::changeset::FileChange| String::from_utf8_lossy(&f.path).into_owned();
            EarlierWork::new(changeset.base.to_string(), changeset.files.into_iter().map(path).collect())
        });
    let wanted = Wanted {
        run: run.id.to_string(),
        repository: &repository,
        issue: u64::try_from(run.issue_number).unwrap_or_default(),
        snapshot: run.issue.clone(),
        definition: &run.definition,
        received_at: run.received_at,
        pin: base_to_go_on_from(app, run, &repository.name).await?,
        earlier,
    };
    let Made { branch, head, issue, prompt: rendered } = make(app, wanted).await?;
    let key = app
        .objects
        .put(run.project, Kind::Prompt, rendered.text.clone().into_bytes())
        .await
        .map_err(|e| NotPrepared::later(format!("the prompt cannot be stored: {e}")))?;
    let mut tx = app.db.begin().await?;
    let stored = sqlx::query!(
        "update runs set base_branch = $2, base_sha = $3, issue = $4, prompt_key = $5
         where run_id = $1 and state = 'active' and prompt_key is null",
        run.id.uuid(),
        branch,
        head.as_str(),
        Json(&issue) as _,
        key,
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
    Ok(Prepared { base_sha: head, base_branch: branch, prompt: rendered.text })
}

/// What a prompt is made for.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    /// The run's id, or words in its place.
    pub(crate) run: String,
    pub(crate) repository: &'a Repository,
    pub(crate) issue: u64,
    /// The issue as it was when the run was asked for; `None`: as it is now.
    pub(crate) snapshot: Option<IssueSnapshot>,
    pub(crate) definition: &'a Stage,
    /// What came later is left out.
    pub(crate) received_at: DateTime<Utc>,
    /// The commit to work on; `None`: the branch's head.
    pub(crate) pin: Option<CommitSha>,
    pub(crate) earlier: Option<EarlierWork>,
}

/// A prompt and what it was made from.
#[derive(Debug)]
struct Made {
    branch: String,
    head: CommitSha,
    issue: IssueSnapshot,
    prompt: RenderedPrompt,
}

/// The prompt a run would get now; nothing is written.
pub(crate) async fn preview(app: &App, wanted: Wanted<'_>) -> Result<String, NotPrepared> {
    Ok(make(app, wanted).await?.prompt.text)
}

/// Gathers what a run may read, and renders its prompt.
async fn make(app: &App, wanted: Wanted<'_>) -> Result<Made, NotPrepared> {
    let Wanted { run, repository, issue: number, snapshot, definition: stage, received_at, pin, earlier } =
        wanted;
    let name = &repository.name;
    let branch = async {
        match &repository.default_branch {
            Some(branch) => Ok(branch.clone()),
            None => app.forge.repository(name).await.map(|r| r.default_branch),
        }
    };
    let issue = async {
        match snapshot {
            Some(issue) => Ok(issue),
            None => app.forge.issue(name, number).await.map(|i| IssueSnapshot {
                title: i.title,
                body: i.body,
                author: i.author,
                url: i.html_url,
            }),
        }
    };
    let (branch, issue, comments) = futures::join!(branch, issue, app.forge.comments(name, number));
    let branch = branch.map_err(|e| of_forge("The repository cannot be read", &e))?;
    let issue = issue.map_err(|e| of_forge("The issue cannot be read", &e))?;
    let comments = comments.map_err(|e| of_forge("The comments cannot be read", &e))?;
    let head = match pin {
        Some(base) => base,
        None => app
            .forge
            .branch_head(name, &branch)
            .await
            .map_err(|e| of_forge("The branch cannot be read", &e))?
            .ok_or_else(|| NotPrepared::Never(format!("There is no branch `{branch}` in {name}.")))?,
    };

    let identity = app.forge.identity().await.unwrap_or_default();
    let mut permissions: HashMap<String, Option<Permission>> = HashMap::new();
    let mut texts = Vec::new();
    for comment in comments {
        // Only what stood there when the run was asked for, and not what we wrote ourselves.
        let ours =
            comment.author.eq_ignore_ascii_case(&identity) && comment.body.starts_with("<!-- callboard:");
        if ours || comment.created_at > received_at || comment.updated_at > received_at {
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
        }
    }
    let author_permission =
        permissions.get(&issue.author.to_lowercase()).copied().flatten().map(|p| p.to_string());
    let delimiter: [u8; 8] = app.ids.bytes();
    let context = PromptContext {
        repository: name.to_string(),
        base_branch: branch.clone(),
        base_sha: head.to_string(),
        issue: IssueText {
            number,
            title: issue.title.clone(),
            body: issue.body.clone(),
            author: issue.author.clone(),
            author_permission,
        },
        comments: texts,
        stage_role: stage.role.clone(),
        earlier,
        write_scope: stage.write_scope.clone(),
        delimiter: hex::encode(delimiter),
        run_id: run,
    };
    let rendered = prompts::render(&stage.template, &context)
        .map_err(|e| NotPrepared::Never(format!("The prompt cannot be rendered: {e}")))?;
    Ok(Made { branch, head, issue, prompt: rendered })
}

/// The commit of the checkpoint a retry goes on from, while it can be fetched.
async fn base_to_go_on_from(
    app: &App,
    run: &Run,
    repository: &RepositoryName,
) -> Result<Option<CommitSha>, NotPrepared> {
    let Some(base) = checkpoints::base_to_go_on_from(app, run).await? else { return Ok(None) };
    match app.forge.commit(repository, &base).await {
        Ok(_) => Ok(Some(base)),
        Err(ForgeError::Missing { .. }) => Ok(None),
        Err(error) => Err(of_forge("The checkpoint's commit cannot be read", &error)),
    }
}

/// What an attempt starts from.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) base_sha: CommitSha,
    pub(super) base_branch: String,
    pub(super) prompt: String,
}
