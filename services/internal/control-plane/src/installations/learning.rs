//! How a repository stands by now: is it out of reach, archived, or has it another name? Events
//! that tell so come late and in any order, or are lost; so the code host is asked.

use domain::ids::RepositoryId;
use forge::ForgeError;
use sqlx::PgConnection;

use super::reach::{Reach, ask, note, tell};
use crate::{
    App,
    projects::store::{self, ARCHIVED, Repository, Standing, TAKEN_OUT, by_id},
    steps::{self, Step},
};

/// What was learnt.
#[derive(Debug)]
pub(crate) enum Learnt {
    /// Nothing goes on there until that changes; why, for people.
    Closed(String),
    /// It has another name; a call that was refused may be made again.
    Moved,
    /// The code host does not say now: it is away, or has us wait.
    Unknown(ForgeError),
    /// Nothing that explains why a call was refused.
    Nothing,
}

/// Asks the code host how a repository stands, and takes note of it.
pub(crate) async fn learn(app: &App, id: RepositoryId) -> sqlx::Result<Learnt> {
    let repository = by_id(&app.db, id).await?;
    let reach = match ask(app, &repository).await {
        Ok(reach) => reach,
        Err(error) => return Ok(unanswered(&repository, error)),
    };
    let mut tx = app.db.begin().await?;
    note(&mut tx, app, &repository, &reach).await?;
    steps::commit(tx, Step::AccessNoted).await?;
    match reach {
        Reach::Closed(why) => Ok(Learnt::Closed(why)),
        Reach::Open(_) => as_it_is(app, &repository).await,
    }
}

fn unanswered(repository: &Repository, error: ForgeError) -> Learnt {
    tracing::debug!(repository = %repository.name, %error, "the code host does not say how we stand");
    match error {
        ForgeError::Limited { .. } | ForgeError::BadCredential { .. } | ForgeError::Outage { .. } => {
            Learnt::Unknown(error)
        }
        ForgeError::Denied { .. }
        | ForgeError::Missing { .. }
        | ForgeError::Conflict { .. }
        | ForgeError::Invalid { .. }
        | ForgeError::Unsupported { .. } => Learnt::Nothing,
    }
}

/// Whether it is archived or has another name, where that was not known.
async fn as_it_is(app: &App, repository: &Repository) -> sqlx::Result<Learnt> {
    let now = match app.forge.repository(&repository.name).await {
        Ok(now) => now,
        Err(error) => return Ok(unanswered(repository, error)),
    };
    let number = i64::try_from(now.id).ok();
    if repository.forge_id.is_some() && number != repository.forge_id {
        // Another one has its name: nothing of that is ours.
        return Ok(Learnt::Nothing);
    }
    if now.name == repository.name && now.archived == repository.archived && repository.forge_id.is_some() {
        return Ok(Learnt::Nothing);
    }
    let mut tx = app.db.begin().await?;
    let noted = note_standing(&mut tx, app, repository.id, &now, None).await?;
    steps::commit(tx, Step::AccessNoted).await?;
    Ok(if noted.archived {
        Learnt::Closed(ARCHIVED.to_owned())
    } else if noted.name != repository.name {
        Learnt::Moved
    } else {
        // Another repository of ours may have that name.
        Learnt::Nothing
    })
}

/// Takes note of what the code host says about a repository now, and tells its runs when it went
/// into the archive or came out. `gone`: whether it was transferred or deleted, where that is
/// known. How we know it then.
pub(crate) async fn note_standing(
    tx: &mut PgConnection,
    app: &App,
    id: RepositoryId,
    now: &forge::Repository,
    gone: Option<bool>,
) -> sqlx::Result<Repository> {
    let was = by_id(&mut *tx, id).await?;
    let standing = Standing {
        name: Some(&now.name),
        forge_id: i64::try_from(now.id).ok(),
        archived: Some(now.archived),
        gone,
    };
    store::note(tx, id, &standing, app.clock.now()).await?;
    match (was.archived, now.archived) {
        (false, true) => tell(tx, app, &was, "access_lost", ARCHIVED).await?,
        (true, false) => tell(tx, app, &was, "access_back", TAKEN_OUT).await?,
        (false, false) | (true, true) => {}
    }
    by_id(tx, id).await
}
