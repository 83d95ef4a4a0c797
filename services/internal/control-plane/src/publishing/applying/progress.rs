//! Progress on a commit: one object at the code host for each commit and run.

use domain::{ids::Id, names::CommitSha};
use forge::{Progress, ProgressState, Reported};

use super::{Applied, Failure, code::ENDED, unsigned};
use crate::{App, projects::store::Repository, publishing::queue::Pending};

/// What is to be shown.
pub(super) struct Wanted<'a> {
    pub(super) head: &'a CommitSha,
    pub(super) name: &'a str,
    pub(super) progress: ProgressState,
    pub(super) title: &'a str,
    pub(super) summary: &'a str,
}

/// Shows it, in the place of what the run showed on the commit before.
pub(super) async fn report(
    app: &App,
    pending: &Pending,
    repository: &Repository,
    wanted: &Wanted<'_>,
) -> Result<Applied, Failure> {
    let Some(run) = pending.run else { return Ok(ENDED) };
    let known = sqlx::query!(
        r#"select (select (result ->> 'check_run')::bigint from effects
             where run_id = $1 and kind = 'progress' and payload ->> 'head' = $2 and result ->> 'check_run' is not null
             order by ordinal desc limit 1) as id,
           exists (select from effects where run_id = $1 and kind = 'progress' and payload ->> 'head' = $2
             and effect_id <> $3 and tried_at is not null and state <> 'done') as "doubtful!",
           (select url from status_comments where run_id = $1) as url"#,
        run.uuid(),
        wanted.head.as_str(),
        pending.id.uuid(),
    )
    .fetch_one(&app.db)
    .await?;
    let progress = Progress {
        head: wanted.head.clone(),
        name: wanted.name.to_owned(),
        run: run.to_string(),
        state: wanted.progress,
        title: wanted.title.to_owned(),
        summary: wanted.summary.to_owned(),
        url: known.url,
        earlier: match known.id {
            Some(id) => Reported::As(unsigned(id)),
            None if known.doubtful || pending.tried_at.is_some() => Reported::Perhaps,
            None => Reported::Never,
        },
    };
    Ok(Applied::Shown(app.forge.report_progress(&repository.name, &progress).await?))
}
