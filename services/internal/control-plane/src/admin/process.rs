//! `callboard repo sync-labels`, `policy simulate` and `prompts render`.

use domain::{decision::Start, rights::Principal, run::RunKind, stage::StageKind};
use prompts::AskedBy;
use proto::admin::{Explanation, RenderPromptRequest, SimulateRequest, SyncLabelsRequest, SyncedLabel};
use tonic::Status;

use super::views::{looked, text};
use crate::{
    App,
    policies::{self, NotSynced, Unread},
    projects::store::{Repository, by_name, enabled},
    runs::{self, NotPrepared},
    serving::internal,
    triggers::{self, NotSimulated},
};

fn invalid(error: &dyn std::fmt::Display) -> Status {
    Status::invalid_argument(error.to_string())
}

/// The repository of that name; without a name the only one there is.
async fn repository(app: &App, name: &str) -> Result<Repository, Status> {
    let failed = |error: sqlx::Error| internal("admin.repository", &error);
    if name.is_empty() {
        let mut all = enabled(&app.db).await.map_err(failed)?;
        return match (all.pop(), all.is_empty()) {
            (Some(only), true) => Ok(only),
            (Some(_), false) => {
                Err(Status::invalid_argument("there are several repositories; name one, owner/name"))
            }
            (None, _) => Err(Status::not_found("the configuration has no repository")),
        };
    }
    let name = name.parse().map_err(|e| invalid(&e))?;
    let found = by_name(&app.db, &name).await.map_err(failed)?;
    found.ok_or_else(|| Status::not_found(format!("there is no repository {name} in the configuration")))
}

impl From<Unread> for Status {
    fn from(error: Unread) -> Self {
        match &error {
            Unread::Forge(_) => Self::failed_precondition(error.to_string()),
            Unread::Database(inner) => internal("admin.policy", inner),
        }
    }
}

impl From<NotSynced> for Status {
    fn from(error: NotSynced) -> Self {
        match error {
            NotSynced::Rules(inner) => inner.into(),
            NotSynced::Forge { .. } => Self::failed_precondition(error.to_string()),
            NotSynced::Database(inner) => internal("admin.labels", &inner),
        }
    }
}

pub(super) async fn sync_labels(
    app: &App,
    principal: &Principal,
    asked: &SyncLabelsRequest,
) -> Result<Vec<SyncedLabel>, Status> {
    let repositories = if asked.repository.is_empty() {
        enabled(&app.db).await.map_err(|e| internal("admin.labels", &e))?
    } else {
        vec![repository(app, &asked.repository).await?]
    };
    let mut synced = Vec::new();
    for repository in repositories {
        let labels = policies::sync_labels(app, &repository, &principal.name(), asked.dry_run).await?;
        synced.extend(labels.into_iter().map(|(label, outcome)| SyncedLabel {
            repository: repository.name.to_string(),
            name: label.name,
            outcome: outcome.name().to_owned(),
            color: label.color,
            description: label.description,
        }));
    }
    Ok(synced)
}

pub(super) async fn simulate(app: &App, asked: &SimulateRequest) -> Result<Explanation, Status> {
    let repository = repository(app, &asked.repository).await?;
    let simulated =
        triggers::simulate(app, repository.clone(), &asked.event, &asked.body).await.map_err(|error| {
            match &error {
                NotSimulated::Forge(_) => Status::failed_precondition(error.to_string()),
                NotSimulated::Run(inner) => internal("admin.simulate", inner),
                NotSimulated::Database(inner) => internal("admin.simulate", inner),
            }
        })?;
    let decided = simulated.decided;
    Ok(Explanation {
        at: text(Some(app.clock.now())),
        kind: "simulation".to_owned(),
        subject: match simulated.number {
            Some(number) => format!("{} on {}#{number}", asked.event, repository.name),
            None => format!("{} on {}", asked.event, repository.name),
        },
        outcome: decided.kind().to_owned(),
        reason: decided.reason.code().to_owned(),
        rule: decided.rule,
        remedy: decided.remedy,
        trace: decided.trace.into_iter().map(looked).collect(),
        ..Explanation::default()
    })
}

pub(super) async fn render_prompt(app: &App, asked: &RenderPromptRequest) -> Result<String, Status> {
    let repository = repository(app, &asked.repository).await?;
    let policy = policies::current(app, &repository).await?;
    let Some(stage) = policy.get(&asked.stage) else {
        return Err(Status::not_found(format!(
            "there is no stage `{}`; stages: {}",
            asked.stage,
            policy.names().join(", ")
        )));
    };
    let (kind, pull) = match stage.kind {
        StageKind::Work => (RunKind::Work, None),
        StageKind::Discussion => (RunKind::Discussion, None),
        // What is asked about is the pull request itself.
        StageKind::Review => (RunKind::Review, Some(asked.issue)),
    };
    let start = Start {
        kind,
        stage: asked.stage.clone(),
        issue: asked.issue,
        pull,
        label: None,
        behind: None,
        supersedes: None,
        retry_of: None,
        model: None,
        reasoning: None,
    };
    let asked_by = AskedBy { login: "(nobody)".to_owned(), channel: "command line".to_owned() };
    runs::preview(app, &repository, &start, &policy, asked_by).await.map_err(|error| match &error {
        NotPrepared::Later { .. } | NotPrepared::Never(_) => Status::failed_precondition(error.to_string()),
        NotPrepared::Run(inner) => internal("admin.prompt", inner),
    })
}
