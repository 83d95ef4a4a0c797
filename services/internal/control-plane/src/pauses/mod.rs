//! The stop button: nothing starts while a pause stands. Deliveries are taken and decided,
//! runs are queued, attempts under way go on, and what is finished is published.

mod store;

use domain::{ids::ProjectId, neutralise::neutralise_line, run::RunState};
use serde_json::json;
use sqlx::PgConnection;

pub(crate) use self::store::{Pause, hold_off_pauses, standing};
use crate::{
    App, audit, policies, publishing,
    runs::{self, Run, RunError},
    steps::{self, Step},
    wake::Topic,
};

/// Characters of a reason that are kept.
const REASON_CHARS: usize = 300;

/// What a pause is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// Everything.
    Platform,
    /// One tenant.
    Project { id: ProjectId, name: String },
    /// One stage, in every project.
    Stage(String),
}

impl Subject {
    /// As commands and the audit log name it.
    fn name(&self) -> String {
        match self {
            Self::Platform => "platform".to_owned(),
            Self::Project { name, .. } => format!("project:{name}"),
            Self::Stage(name) => format!("stage:{name}"),
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Platform => "The platform".to_owned(),
            Self::Project { name, .. } => format!("Project `{name}`"),
            Self::Stage(name) => format!("Stage `{name}`"),
        }
    }

    /// Its two columns: project and stage.
    fn columns(&self) -> (Option<ProjectId>, Option<&str>) {
        match self {
            Self::Platform => (None, None),
            Self::Project { id, .. } => (Some(*id), None),
            Self::Stage(name) => (None, Some(name)),
        }
    }

    /// The command that ends it.
    pub(crate) fn remedy(&self) -> String {
        match self {
            Self::Platform => "callboard resume".to_owned(),
            Self::Project { .. } | Self::Stage(_) => format!("callboard resume {}", self.name()),
        }
    }
}

impl Pause {
    /// Does it keep this run from starting?
    pub(crate) fn covers(&self, run: &Run) -> bool {
        match &self.subject {
            Subject::Platform => true,
            Subject::Project { id, .. } => *id == run.project,
            Subject::Stage(name) => *name == run.stage,
        }
    }

    /// Who, since when, and why; without the end of the sentence.
    pub(crate) fn words(&self) -> String {
        let since = self.paused_at.format("%Y-%m-%d %H:%M UTC");
        let by = format!("by `{}` since {since}", neutralise_line(&self.paused_by, 60));
        let mut words = match &self.subject {
            Subject::Platform => format!("Paused {by}"),
            Subject::Project { .. } | Subject::Stage(_) => format!("{} is paused {by}", self.subject.words()),
        };
        if !self.reason.is_empty() {
            words.push_str(&format!(": {}", neutralise_line(&self.reason, REASON_CHARS)));
        }
        words
    }

    /// For a run that waits because of it.
    pub(crate) fn sentence(&self) -> String {
        let words = self.words();
        let stop = if words.ends_with(['.', '!', '?', '…']) { "" } else { "." };
        format!("{words}{stop} It starts after `{}`.", self.subject.remedy())
    }
}

/// The pause a queued run waits for, when there is one; no pause begins or ends before the
/// transaction does.
pub(crate) async fn of(tx: &mut PgConnection, run: &Run) -> Result<Option<Pause>, RunError> {
    hold_off_pauses(&mut *tx).await?;
    Ok(standing(tx).await?.into_iter().find(|p| p.covers(run)))
}

/// Why a subject is not one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoSubject {
    #[error("`{0}` is a project and a stage; write project:{0} or stage:{0}")]
    Ambiguous(String),
    #[error("there is no project and no stage `{name}`; stages: {stages}")]
    Unknown { name: String, stages: String },
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// What a name means: a project, a stage, or with no name everything.
pub(crate) async fn subject(app: &App, text: &str) -> Result<Subject, NoSubject> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(Subject::Platform);
    }
    let (wants_project, wants_stage, name) = match text.split_once(':') {
        Some(("project", name)) => (true, false, name),
        Some(("stage", name)) => (false, true, name),
        Some(_) | None => (true, true, text),
    };
    let project = if wants_project { store::project(&app.db, name).await? } else { None };
    let stages = policies::stages(app).await?;
    let stage = wants_stage && stages.contains(name);
    match (project, stage) {
        (Some(_), true) => Err(NoSubject::Ambiguous(name.to_owned())),
        (Some(id), false) => Ok(Subject::Project { id, name: name.to_owned() }),
        (None, true) => Ok(Subject::Stage(name.to_owned())),
        (None, false) => {
            let stages = stages.into_iter().collect::<Vec<_>>().join(", ");
            Err(NoSubject::Unknown { name: name.chars().take(60).collect(), stages })
        }
    }
}

/// Lets nothing of the subject start; twice is once. What it says is for people.
pub(crate) async fn pause(
    app: &App,
    subject: Subject,
    actor: &str,
    reason: &str,
) -> Result<String, RunError> {
    let reason: String = app.censor.censor(reason.trim()).chars().take(REASON_CHARS).collect();
    let pause = Pause { subject, paused_by: actor.to_owned(), reason, paused_at: app.clock.now() };
    let mut tx = app.db.begin().await?;
    store::lock(&mut tx).await?;
    if !store::insert(&mut tx, app, &pause).await? {
        let stands = standing(&mut *tx).await?.into_iter().find(|p| p.subject == pause.subject);
        return Ok(stands.map_or_else(String::new, |p| format!("It was so already. {}.", p.words())));
    }
    record(&mut tx, app, &pause.subject, actor, "work.paused", &pause.reason).await?;
    let waiting = tell(&mut tx, app, &pause).await?;
    steps::commit(tx, Step::WorkPaused).await?;
    tracing::warn!(subject = pause.subject.name(), actor, reason = pause.reason, waiting, "paused");
    Ok(format!(
        "{} is paused: nothing starts, {waiting} queued. Attempts under way go on. `{}` ends it.",
        pause.subject.words(),
        pause.subject.remedy()
    ))
}

/// Lets the subject start again; twice is once. What it says is for people.
pub(crate) async fn resume(
    app: &App,
    subject: Subject,
    actor: &str,
    reason: &str,
) -> Result<String, RunError> {
    let mut tx = app.db.begin().await?;
    store::lock(&mut tx).await?;
    let before = standing(&mut *tx).await?;
    let (ended, left): (Vec<_>, Vec<_>) = before.into_iter().partition(|p| p.subject == subject);
    let still = if left.is_empty() {
        String::new()
    } else {
        let words: Vec<_> = left.iter().map(|p| format!("`{}`", p.subject.remedy())).collect();
        format!(" Other pauses stand; {} ends them.", words.join(", "))
    };
    let Some(pause) = ended.into_iter().next() else {
        return Ok(format!("{} is not paused.{still}", subject.words()));
    };
    store::delete(&mut tx, &subject).await?;
    record(&mut tx, app, &subject, actor, "work.resumed", &app.censor.censor(reason.trim())).await?;
    let waiting = tell(&mut tx, app, &pause).await?;
    Topic::Queue.notify(&mut tx).await?;
    steps::commit(tx, Step::WorkResumed).await?;
    tracing::info!(subject = subject.name(), actor, waiting, "resumed");
    Ok(format!("{} is resumed, {waiting} queued.{still}", subject.words()))
}

/// Brings the comments of the queued runs up to date; says how many there are.
async fn tell(tx: &mut PgConnection, app: &App, pause: &Pause) -> Result<usize, RunError> {
    let queued = runs::list(&mut *tx, None, Some("queued"), i64::MAX).await?;
    let mut told = 0;
    for run in queued.iter().filter(|run| pause.covers(run)) {
        // It may be cancelled meanwhile, and then that is what its comment says.
        let Some(run) = runs::lock(tx, run.id).await?.filter(|run| run.state == RunState::Queued) else {
            continue;
        };
        publishing::say_status(tx, app, &run).await?;
        told += 1;
    }
    Ok(told)
}

async fn record(
    tx: &mut PgConnection,
    app: &App,
    subject: &Subject,
    actor: &str,
    action: &str,
    reason: &str,
) -> sqlx::Result<()> {
    let entry = audit::Entry {
        project: subject.columns().0,
        actor,
        action,
        subject: subject.name(),
        detail: json!({ "reason": reason }),
        trace_id: None,
    };
    audit::record(tx, &*app.clock, &app.ids, entry).await
}
