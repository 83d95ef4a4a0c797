//! The code host refused a call: was that because the repository is out of reach, archived, or
//! has another name by now? Its event may be late, or lost.

use domain::ids::RepositoryId;

use super::reach::{Reach, ask, note, tell};
use crate::{
    App,
    projects::store::{self, ARCHIVED, Repository, Standing, by_id},
    steps::{self, Step},
};

/// What was learnt.
#[derive(Debug)]
pub(crate) enum Learnt {
    /// Nothing goes on there until that changes; why, for people.
    Closed(String),
    /// It has another name; the call may be made again.
    Moved,
    /// Nothing that explains it.
    Nothing,
}

/// Asks the code host how a repository stands that it refused a call about.
pub(crate) async fn learn(app: &App, id: RepositoryId) -> sqlx::Result<Learnt> {
    let repository = by_id(&app.db, id).await?;
    let reach = match ask(app, &repository).await {
        Ok(reach) => reach,
        Err(error) => {
            tracing::debug!(repository = %repository.name, %error, "the code host does not say how we stand");
            return Ok(Learnt::Nothing);
        }
    };
    match &reach {
        Reach::Closed(why) => {
            let mut tx = app.db.begin().await?;
            note(&mut tx, app, &repository, &reach).await?;
            steps::commit(tx, Step::AccessNoted).await?;
            Ok(Learnt::Closed(why.clone()))
        }
        Reach::Open(_) => Ok(as_it_is(app, &repository).await?.unwrap_or(Learnt::Nothing)),
    }
}

/// Whether it is archived or has another name, where that was not known.
async fn as_it_is(app: &App, repository: &Repository) -> sqlx::Result<Option<Learnt>> {
    let Ok(now) = app.forge.repository(&repository.name).await else { return Ok(None) };
    if now.name == repository.name && now.archived == repository.archived {
        return Ok(None);
    }
    let mut tx = app.db.begin().await?;
    let standing = Standing { name: Some(&now.name), archived: Some(now.archived), ..Standing::default() };
    store::note(&mut tx, repository.id, &standing, app.clock.now()).await?;
    if now.archived && !repository.archived {
        tell(&mut tx, app, repository, "access_lost", ARCHIVED).await?;
    }
    let noted = by_id(&mut *tx, repository.id).await?;
    steps::commit(tx, Step::AccessNoted).await?;
    // Another repository of ours may have that name.
    let moved = (noted.name != repository.name).then_some(Learnt::Moved);
    Ok(if noted.archived { Some(Learnt::Closed(ARCHIVED.to_owned())) } else { moved })
}
