//! SQL of policies.

use domain::ids::{Id, RepositoryId};
use sqlx::PgExecutor;

use crate::{
    App,
    steps::{Step, around},
};

/// A project's file as it was read last.
#[derive(Clone, Debug, Default)]
pub(super) struct Stored {
    /// Head of the default branch it was read at.
    pub(super) commit: String,
    /// The newest version that reads.
    pub(super) stages: Option<String>,
    /// What a newer version is spoilt by.
    pub(super) problem: Option<String>,
}

pub(super) async fn get(db: impl PgExecutor<'_>, repository: RepositoryId) -> sqlx::Result<Option<Stored>> {
    sqlx::query_as!(
        Stored,
        "select commit_sha as commit, stages, problem from policies where repository_id = $1",
        repository.uuid()
    )
    .fetch_optional(db)
    .await
}

pub(super) async fn put(app: &App, repository: RepositoryId, new: &Stored) -> sqlx::Result<()> {
    let put = sqlx::query!(
        "insert into policies (repository_id, commit_sha, stages, problem, read_at) values ($1, $2, $3, $4, $5)
         on conflict (repository_id) do update set commit_sha = excluded.commit_sha, stages = excluded.stages,
             problem = excluded.problem, read_at = excluded.read_at",
        repository.uuid(),
        new.commit,
        new.stages,
        new.problem,
        app.clock.now(),
    );
    around(Step::PolicyRead, put.execute(&app.db)).await?;
    Ok(())
}
