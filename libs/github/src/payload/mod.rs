//! What a webhook's body says, as far as decisions care.

mod bodies;
mod made;
#[cfg(test)]
mod tests;

use domain::decision::{Account, Event, Happening, InstallationChange, RepositoryChange};
use serde::{Deserialize, de::DeserializeOwned};

use self::bodies::{
    AboutInstallation, CommentBody, IssueBody, LabelBody, PullRequestBody, PushBody, Renamed, RepositoryBody,
    ReviewBody, Transferred,
};
pub use self::made::{StandingLabel, changed_at};

/// A body that is not what its event has.
#[derive(Debug, thiserror::Error)]
#[error("the body of this `{event}` event does not read: {source}")]
pub struct UnreadablePayload {
    event: String,
    source: serde_json::Error,
}

/// What every event may say.
#[derive(Deserialize)]
struct Envelope {
    action: Option<String>,
    repository: Option<RepositoryBody>,
    installation: Option<InstallationBody>,
    sender: Option<SenderBody>,
}

#[derive(Deserialize)]
struct InstallationBody {
    id: Option<u64>,
}

#[derive(Deserialize)]
struct SenderBody {
    login: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

impl SenderBody {
    fn account(self) -> Option<Account> {
        let login = self.login?;
        let is_bot = self.kind.as_deref() == Some("Bot") || login.ends_with("[bot]");
        Some(Account { login, is_bot })
    }
}

/// An event about an issue.
#[derive(Deserialize)]
struct AboutIssue {
    issue: IssueBody,
    label: Option<LabelBody>,
}

/// An event about a comment on an issue or pull request.
#[derive(Deserialize)]
struct AboutComment {
    issue: IssueBody,
    comment: CommentBody,
}

/// An event about a pull request.
#[derive(Deserialize)]
struct AboutPull {
    pull_request: PullRequestBody,
    label: Option<LabelBody>,
}

/// An event about a review of a pull request.
#[derive(Deserialize)]
struct AboutReview {
    pull_request: PullRequestBody,
    review: ReviewBody,
}

/// An event that says what was there before.
#[derive(Deserialize)]
struct Changed<T> {
    changes: T,
}

/// Reads the body of a delivery. Events and actions we do not know are [`Happening::Other`].
///
/// # Errors
/// [`UnreadablePayload`] when the body is not JSON, or what we read of it is not of the kind
/// GitHub documents.
pub fn parse(event_name: &str, body: &[u8]) -> Result<Event, UnreadablePayload> {
    let unreadable = |source| UnreadablePayload { event: event_name.chars().take(60).collect(), source };
    let envelope: Envelope = read(body).map_err(unreadable)?;
    let happening =
        happening(event_name, envelope.action.as_deref().unwrap_or_default(), body).map_err(unreadable)?;
    let repository = envelope.repository.unwrap_or_default();
    Ok(Event {
        name: event_name.to_owned(),
        action: envelope.action,
        repository: repository.full_name,
        repository_id: repository.id,
        default_branch: repository.default_branch,
        installation: envelope.installation.and_then(|installation| installation.id),
        actor: envelope.sender.and_then(SenderBody::account),
        happening,
    })
}

fn read<T: DeserializeOwned>(body: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(body)
}

fn happening(event: &str, action: &str, body: &[u8]) -> serde_json::Result<Happening> {
    match event {
        "issues" => about_issue(action, body),
        "issue_comment" if action == "created" => {
            let AboutComment { issue, comment } = read(body)?;
            Ok(Happening::Commented { on: issue.thread(), comment: comment.into() })
        }
        "pull_request" => about_pull(action, body),
        "pull_request_review" => about_review(action, body),
        "push" => read(body).map(PushBody::happening),
        "installation" | "installation_repositories" => about_installation(event, action, body),
        "repository" => about_repository(action, body),
        // An edited comment is no command: it was read when it was written. A remark of a review
        // comes with the review.
        _ => Ok(Happening::Other),
    }
}

fn about_issue(action: &str, body: &[u8]) -> serde_json::Result<Happening> {
    if !matches!(action, "labeled" | "unlabeled" | "closed" | "deleted" | "transferred") {
        return Ok(Happening::Other);
    }
    let AboutIssue { issue, label } = read(body)?;
    let on = issue.thread();
    Ok(match (action, label) {
        ("labeled", Some(LabelBody { name: label })) => Happening::Labeled { on, label },
        ("unlabeled", Some(LabelBody { name: label })) => Happening::Unlabeled { on, label },
        ("closed", _) => Happening::Closed { on },
        ("deleted", _) => Happening::Deleted { on },
        ("transferred", _) => Happening::TransferredAway { on },
        // The label is missing when it was deleted before the event was sent.
        _ => Happening::Other,
    })
}

fn about_pull(action: &str, body: &[u8]) -> serde_json::Result<Happening> {
    if !matches!(action, "labeled" | "unlabeled" | "closed" | "synchronize" | "reopened") {
        return Ok(Happening::Other);
    }
    let AboutPull { pull_request, label } = read(body)?;
    let on = pull_request.thread();
    Ok(match (action, label) {
        ("labeled", Some(LabelBody { name: label })) => Happening::Labeled { on, label },
        ("unlabeled", Some(LabelBody { name: label })) => Happening::Unlabeled { on, label },
        ("closed", _) => Happening::Closed { on },
        ("synchronize", _) => Happening::Synchronized { on },
        ("reopened", _) => Happening::Reopened { on },
        _ => Happening::Other,
    })
}

fn about_review(action: &str, body: &[u8]) -> serde_json::Result<Happening> {
    if !matches!(action, "submitted" | "dismissed") {
        return Ok(Happening::Other);
    }
    let AboutReview { pull_request, review } = read(body)?;
    let on = pull_request.thread();
    Ok(match (action, review.read()) {
        ("submitted", (review, Some(verdict))) => {
            Happening::Reviewed { on, review: domain::decision::Review { verdict, ..review } }
        }
        ("dismissed", (review, _)) => Happening::ReviewDismissed { on, review },
        // A kind of review GitHub did not have when this was written.
        _ => Happening::Other,
    })
}

fn about_installation(event: &str, action: &str, body: &[u8]) -> serde_json::Result<Happening> {
    let change = match (event, action) {
        ("installation", "created") => InstallationChange::Created,
        ("installation", "deleted") => InstallationChange::Deleted,
        ("installation", "suspend") => InstallationChange::Suspended,
        ("installation", "unsuspend") => InstallationChange::Unsuspended,
        ("installation", "new_permissions_accepted") => InstallationChange::PermissionsAccepted,
        ("installation_repositories", "added") => InstallationChange::RepositoriesAdded,
        ("installation_repositories", "removed") => InstallationChange::RepositoriesRemoved,
        _ => return Ok(Happening::Other),
    };
    Ok(Happening::Installation { installation: read::<AboutInstallation>(body)?.of(change) })
}

fn about_repository(action: &str, body: &[u8]) -> serde_json::Result<Happening> {
    let change = match action {
        "renamed" => RepositoryChange::Renamed { from: read::<Changed<Renamed>>(body)?.changes.from() },
        "transferred" => {
            RepositoryChange::Transferred { from: read::<Changed<Transferred>>(body)?.changes.from() }
        }
        "archived" => RepositoryChange::Archived,
        "unarchived" => RepositoryChange::Unarchived,
        "privatized" => RepositoryChange::MadePrivate,
        "publicized" => RepositoryChange::MadePublic,
        "deleted" => RepositoryChange::Deleted,
        _ => return Ok(Happening::Other),
    };
    Ok(Happening::Repository { change })
}
