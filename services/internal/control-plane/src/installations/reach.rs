//! Is a repository within reach, and what follows when that changes.

use domain::{
    ids::{Id, RunId},
    run::RunState,
};
use forge::{Access, ForgeError};
use serde_json::json;
use sqlx::PgConnection;

use super::store;
use crate::{
    App, audit,
    pauses::hold_off_pauses,
    projects::store::Repository,
    runs::{self, RunError},
    wake::Topic,
};

/// What the code host says about our access to a repository.
#[derive(Clone, Debug)]
pub(crate) enum Reach {
    /// It lets us at it.
    Open(Access),
    /// It does not; why, and what to do, for people.
    Closed(String),
}

impl Reach {
    /// The App's installation that covers the repository.
    pub(crate) fn installation(&self) -> Option<i64> {
        match self {
            Self::Open(access) => access.installation.and_then(|number| i64::try_from(number).ok()),
            Self::Closed(_) => None,
        }
    }

    /// Why not.
    pub(crate) fn closed(&self) -> Option<&str> {
        match self {
            Self::Open(_) => None,
            Self::Closed(why) => Some(why),
        }
    }
}

/// Asks the code host now.
///
/// # Errors
/// When it does not say: it is away, or has us wait.
pub(crate) async fn ask(app: &App, repository: &Repository) -> forge::Result<Reach> {
    let name = &repository.name;
    let is_app = app.app_hook.is_some();
    let why = match app.forge.access(name).await {
        Ok(access) => return Ok(Reach::Open(access)),
        Err(ForgeError::Denied { message }) if message.to_lowercase().contains("suspended") => {
            let owner = name.owner();
            format!("The App is suspended in `{owner}`. Unsuspend it there, and what waits goes on.")
        }
        Err(ForgeError::Denied { message }) if is_app => {
            format!("The code host refuses the App ({message}). `callboard check` says what to look at.")
        }
        Err(ForgeError::Denied { message }) => {
            format!("The code host refuses the token ({message}). Put a good one into github.token_file.")
        }
        Err(ForgeError::Missing { .. }) if is_app => format!(
            "The App does not reach {name}. Install it there, or add the repository to its installation, and what waits goes on."
        ),
        Err(ForgeError::Missing { .. }) => {
            format!("The token does not see {name}. Give its account access, and what waits goes on.")
        }
        Err(
            error @ (ForgeError::Limited { .. }
            | ForgeError::BadCredential { .. }
            | ForgeError::Conflict { .. }
            | ForgeError::Invalid { .. }
            | ForgeError::Unsupported { .. }
            | ForgeError::Outage { .. }),
        ) => return Err(error),
    };
    Ok(Reach::Closed(app.censor.censor(&why).into_owned()))
}

/// Takes note of it, and tells the runs when it changed.
pub(crate) async fn note(
    tx: &mut PgConnection,
    app: &App,
    repository: &Repository,
    reach: &Reach,
) -> sqlx::Result<()> {
    let was_closed = store::note_reach(tx, repository.id, reach, app.clock.now()).await?;
    let (kind, action, text) = match (was_closed, reach) {
        (false, Reach::Open(_)) | (true, Reach::Closed(_)) => return Ok(()),
        (false, Reach::Closed(why)) => ("access_lost", "repository.access_lost", why.as_str()),
        (true, Reach::Open(_)) => {
            ("access_back", "repository.access_back", "The code host lets the platform at it again.")
        }
    };
    let entry = audit::Entry {
        project: Some(repository.project),
        actor: "platform",
        action,
        subject: format!("repository:{}", repository.id),
        detail: json!({ "name": repository.name, "text": text }),
        trace_id: None,
    };
    audit::record(tx, &*app.clock, &app.ids, entry).await?;
    tracing::info!(repository = %repository.name, action, text, "access changed");
    tell(tx, app, repository, kind, text).await
}

/// Writes a sentence down for every run of the repository that is not over, and lets go what may
/// go on.
pub(super) async fn tell(
    tx: &mut PgConnection,
    app: &App,
    repository: &Repository,
    kind: &str,
    text: &str,
) -> sqlx::Result<()> {
    for run in store::runs_under_way(tx, repository.id).await? {
        runs::event(tx, app, RunId::from_uuid(run), kind, text).await?;
    }
    Topic::Queue.notify(tx).await?;
    Topic::Effects.notify(tx).await
}

/// The repository is gone: its runs are over, and nothing of them is to be made any more.
pub(crate) async fn end_all(
    tx: &mut PgConnection,
    app: &App,
    repository: &Repository,
    why: &str,
) -> Result<(), RunError> {
    hold_off_pauses(tx).await?;
    // The run in front is locked before the one behind it, as everywhere.
    let mut under_way = Vec::new();
    for id in store::runs_under_way(tx, repository.id).await?.into_iter().rev() {
        under_way.extend(runs::lock(tx, RunId::from_uuid(id)).await?.filter(|run| !run.state.is_final()));
    }
    // What waits is ended first, so that nothing comes forward.
    for run in under_way.iter().rev() {
        runs::end(tx, app, run, RunState::Cancelled, "platform", why).await?;
    }
    Ok(store::drop_effects(tx, repository.id, why, app.clock.now()).await?)
}
