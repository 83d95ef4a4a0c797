//! A run is prepared before anything starts: commits, issue and prompt are fixed.

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::{
    decision::{Reason, Start},
    ids::{Id, RunId},
    names::{CommitSha, RepositoryName},
    run::RunKind,
    stage::{Policy, Stage},
};
use forge::{ForgeError, PullRequestDetails};
use prompts::{
    AskedBy, EarlierWork, IssueText, Limits, PromptContext, PullRequestText, RenderedPrompt, Request,
};
use sqlx::types::Json;

use super::{
    head_moved::input_changeset,
    pinning::{Pin, pin},
    reading,
    store::{self, IssueSnapshot, Run, RunError},
    templates,
};
use crate::{
    App, checkpoints,
    objects::Kind,
    projects::store::{Repository, by_id},
    steps::{self, Step},
};

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

pub(super) fn of_forge(what: &str, error: &ForgeError) -> NotPrepared {
    let why = format!("{what}: {error}");
    match error {
        ForgeError::Limited { .. } | ForgeError::BadCredential { .. } | ForgeError::Outage { .. } => {
            NotPrepared::Later { why, at_least: error.no_try() }
        }
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
    let earlier = input_changeset(app, run)
        .await
        .map_err(|e| NotPrepared::later(format!("what the earlier attempt changed cannot be read: {e}")))?
        .map(|changeset| {
            let path = |f: domain::changeset::FileChange| String::from_utf8_lossy(&f.path).into_owned();
            EarlierWork::new(changeset.base.to_string(), changeset.files.into_iter().map(path).collect())
        });
    let session = match run.continues {
        Some(continues) => checkpoints::has_session(&app.db, continues).await?,
        None => false,
    };
    let wanted = Wanted {
        run: run.id.to_string(),
        repository: &repository,
        kind: run.kind,
        stage: &run.stage,
        definition: &run.definition,
        language: &run.language,
        issue: u64::try_from(run.issue_number).unwrap_or_default(),
        pull: run.pull_request.and_then(|number| u64::try_from(number).ok()),
        snapshot: run.issue.clone(),
        received_at: run.received_at,
        asked_by: AskedBy { login: run.actor.clone(), channel: channel(app, run.id).await?.to_owned() },
        base: checkpoints::base_to_go_on_from(app, run).await?,
        earlier,
        session,
    };
    let Made { pin, issue, prompt: rendered } = make(app, &wanted).await?;
    let Pin { base: head, branch, steering, review_base, pull: _ } = pin;
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

/// What a prompt is made for.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    /// The run's id, or words in its place.
    pub(crate) run: String,
    pub(crate) repository: &'a Repository,
    pub(crate) kind: RunKind,
    pub(crate) stage: &'a str,
    pub(crate) definition: &'a Stage,
    /// `en` or `ru`.
    pub(crate) language: &'a str,
    pub(crate) issue: u64,
    /// The pull request it goes on with or reviews.
    pub(crate) pull: Option<u64>,
    /// The issue as it was when the run was asked for; `None`: as it is now.
    pub(crate) snapshot: Option<IssueSnapshot>,
    /// What came later is left out.
    pub(crate) received_at: DateTime<Utc>,
    pub(crate) asked_by: AskedBy,
    /// The commit to work on, while it can be fetched; `None`: the branch's head.
    pub(crate) base: Option<CommitSha>,
    pub(crate) earlier: Option<EarlierWork>,
    /// The agent's session of an earlier run is there.
    pub(crate) session: bool,
}

/// A prompt and what it was made from.
#[derive(Debug)]
struct Made {
    pin: Pin,
    issue: IssueSnapshot,
    prompt: RenderedPrompt,
}

/// The prompt a run would get now; nothing is written.
pub(crate) async fn preview(
    app: &App,
    repository: &Repository,
    start: &Start,
    policy: &Policy,
    asked_by: AskedBy,
) -> Result<String, NotPrepared> {
    let stage = policy.get(&start.stage);
    let definition =
        stage.ok_or_else(|| NotPrepared::Never(format!("There is no stage `{}`.", start.stage)))?;
    let wanted = Wanted {
        run: "(not started)".to_owned(),
        repository,
        kind: start.kind,
        stage: &start.stage,
        definition,
        language: &policy.language,
        issue: start.issue,
        pull: start.pull,
        snapshot: None,
        received_at: app.clock.now(),
        asked_by,
        base: None,
        earlier: None,
        session: false,
    };
    Ok(make(app, &wanted).await?.prompt.text)
}

/// Gathers what a run may read, and renders its prompt.
async fn make(app: &App, wanted: &Wanted<'_>) -> Result<Made, NotPrepared> {
    let (name, stage) = (&wanted.repository.name, wanted.definition);
    let issue = async {
        match &wanted.snapshot {
            Some(issue) => Ok(issue.clone()),
            None => app.forge.issue(name, wanted.issue).await.map(|i| IssueSnapshot::of(app, i)),
        }
    };
    let (pin, issue) = futures::join!(pin(app, wanted), issue);
    let (pin, issue) = (pin?, issue.map_err(|e| of_forge("The issue cannot be read", &e))?);
    let heard = reading::read(app, wanted, &issue.author, pin.pull.as_ref()).await?;
    let pull_request = match &pin.pull {
        Some(pull) => Some(pull_request(app, name, pull, &pin).await?),
        None => None,
    };
    let delimiter: [u8; 8] = app.ids.bytes();
    let request = Request {
        template: &stage.template,
        role: &stage.role,
        kind: match wanted.kind {
            RunKind::Work => prompts::Kind::Work,
            RunKind::Revise => prompts::Kind::Revise,
            RunKind::Review => prompts::Kind::Review,
            RunKind::Discussion => prompts::Kind::Discussion,
        },
        language: match wanted.language {
            "ru" => prompts::Language::Ru,
            _ => prompts::Language::En,
        },
    };
    let context = PromptContext {
        repository: name.to_string(),
        base_branch: pin.branch.clone(),
        base_sha: pin.base.to_string(),
        stage: wanted.stage.to_owned(),
        role: stage.role.clone(),
        kind: request.kind,
        language: request.language,
        issue: IssueText {
            number: wanted.issue,
            title: issue.title.clone(),
            body: issue.body.clone(),
            author: issue.author.clone(),
            author_permission: heard.author_permission,
            labels: Vec::new(),
        },
        comments: heard.comments,
        left_out: heard.left_out,
        earlier: wanted.earlier.clone(),
        write_scope: stage.write_scope.clone(),
        limits: Limits {
            minutes: stage.time_limit_minutes,
            files: stage.max_changeset_files,
            lines: stage.max_changeset_lines,
            bytes: stage.max_changeset_bytes,
        },
        pull_request,
        reviews: heard.reviews,
        documents: heard.documents,
        session: wanted.session,
        asked_by: wanted.asked_by.clone(),
        delimiter: hex::encode(delimiter),
        run_id: wanted.run.clone(),
    };
    let library = templates::of_project(app, name, &pin.steering).await?;
    let prompt = library
        .render(&request, &context)
        .map_err(|e| NotPrepared::Never(format!("The prompt cannot be rendered: {e}")))?;
    // Somebody may have pasted a secret of ours; an agent holds one only, its run token.
    let prompt = RenderedPrompt::of(app.censor.without_known(prompt.text));
    Ok(Made { pin, issue, prompt })
}

async fn pull_request(
    app: &App,
    name: &RepositoryName,
    pull: &PullRequestDetails,
    pin: &Pin,
) -> Result<PullRequestText, NotPrepared> {
    let files = app.forge.files_of_pull_request(name, pull.number).await;
    Ok(PullRequestText {
        number: pull.number,
        title: pull.title.clone(),
        body: pull.body.clone(),
        author: pull.author.clone(),
        branch: pull.branch.clone(),
        base_sha: pin.review_base.as_ref().map(ToString::to_string).unwrap_or_default(),
        head_sha: pin.base.to_string(),
        changed_files: files.map_err(|e| of_forge("The pull request cannot be read", &e))?,
        more_files: 0,
    })
}

/// Through what a run was asked for, in a word.
async fn channel(app: &App, run: RunId) -> sqlx::Result<&'static str> {
    let reason = sqlx::query_scalar!(
        "select d.reason from decisions d join runs r using (decision_id) where r.run_id = $1",
        run.uuid()
    )
    .fetch_one(&app.db)
    .await?;
    let is = |known: Reason| known.code() == reason;
    Ok(if is(Reason::ChangesRequested) {
        "review"
    } else if is(Reason::DiscussionComment) {
        "comment"
    } else if is(Reason::CommentCommand) {
        "command"
    } else if is(Reason::CommandLine) {
        "command line"
    } else {
        "label"
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
