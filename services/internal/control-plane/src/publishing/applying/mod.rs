//! Applying one effect at the code host, one module per kind. Each knows how it finds itself
//! again when an earlier call may have gone through; `docs/architecture/effects.md` has the
//! whole table.

mod code;
mod comment;
mod progress;
mod pull;

use forge::{Comment, ForgeError, PullRequest, PullRequestDetails, Review};

pub(super) use self::{code::read_changeset, comment::sole_comment};
use super::{effects::Effect, head, queue::Pending};
use crate::{App, projects::store::Repository, runs::RunError};

/// What applying an effect led to, to be recorded with its end.
pub(super) enum Applied {
    /// It is as it should be.
    Done,
    /// A comment of ours has a new text.
    Edited(Comment),
    /// A comment is written, now or by an earlier call.
    Written {
        comment: Comment,
        /// An earlier call may have written a second one.
        doubtful: bool,
    },
    Commit(domain::names::CommitSha),
    /// A branch of ours, and the commit it is at.
    Branch {
        name: String,
        head: domain::names::CommitSha,
    },
    PullRequest(PullRequest),
    /// The branch of a pull request is at our commit.
    BranchMoved {
        name: String,
        head: domain::names::CommitSha,
        pull: PullRequestDetails,
    },
    /// The pull request was closed or merged, and nothing was made.
    PullRequestEnded(PullRequestDetails),
    /// A review is posted, now or by an earlier call.
    Reviewed(Review),
    /// The branch moved in files of the changeset, and nothing was made.
    HeadMoved(head::Moved),
    /// Progress is shown, by the code host's object of that id where it has one.
    Shown(Option<u64>),
    /// It makes no sense any more; why.
    Pointless(&'static str),
}

/// Why an effect was not applied.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Forge(#[from] ForgeError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("the stored changeset cannot be read: {0}")]
    Changeset(String),
}

/// Numbers of issues and pull requests, as the code host counts.
fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or_default()
}

/// Makes it so, or sees that it is so already.
pub(super) async fn apply(app: &App, pending: &Pending, repository: &Repository) -> Result<Applied, Failure> {
    let forge = &*app.forge;
    let name = &repository.name;
    match &pending.effect {
        Effect::StatusComment { issue, body } => {
            comment::status(app, pending, repository, unsigned(*issue), body).await
        }
        Effect::Comment { number, body, mark } => {
            let doubtful = pending.tried_at.is_some();
            comment::once(app, repository, unsigned(*number), body, mark, pending.created_at, doubtful).await
        }
        Effect::SoleComment { number, mark, since, keep } => {
            comment::delete_others(app, repository, unsigned(*number), mark, *since, unsigned(*keep)).await
        }
        // Labels and reactions are states: setting one again changes nothing.
        Effect::RemoveLabel { number, label } => {
            forge.remove_label(name, unsigned(*number), label).await?;
            Ok(Applied::Done)
        }
        Effect::AddLabels { number, labels } => {
            forge.add_labels(name, unsigned(*number), labels).await?;
            Ok(Applied::Done)
        }
        Effect::React { number, reaction } => {
            forge.react(name, unsigned(*number), *reaction).await?;
            Ok(Applied::Done)
        }
        Effect::ReactToComment { number: _, comment, reaction } => {
            forge.react_to_comment(name, unsigned(*comment), *reaction).await?;
            Ok(Applied::Done)
        }
        Effect::Commit { message } => code::commit(app, pending, repository, message).await,
        Effect::Branch { name } => code::branch(app, pending, repository, name).await,
        Effect::PullRequest { title, body } => {
            code::pull_request(app, pending, repository, title, body).await
        }
        Effect::MoveBranch { name, number } => {
            pull::move_branch(app, pending, repository, name, *number).await
        }
        Effect::UpdatePullRequest { number, block } => {
            pull::add_to_text(app, repository, *number, block).await
        }
        Effect::Review { number, head, said, findings, mark } => {
            let wanted = pull::Wanted { number: *number, head, said, findings, mark };
            pull::review(app, pending, repository, &wanted).await
        }
        Effect::Progress { head, name, progress, title, summary } => {
            let wanted = progress::Wanted { head, name, progress: *progress, title, summary };
            progress::report(app, pending, repository, &wanted).await
        }
    }
}
