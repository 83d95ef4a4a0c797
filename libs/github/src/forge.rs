//! GitHub as a [`Forge`].

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::{
    names::{CommitSha, RepositoryName},
    rights::Permission,
};
use forge::{
    Comment, Commit, Forge, ForgeError, Issue, NewCommit, NewPullRequest, PullRequest, Reaction, Repository,
    Result,
};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::OnceCell;

use crate::{
    client::{Client, GithubSettings, SetupError},
    commit,
};

const PER_PAGE: usize = 100;
/// An issue with more comments than ten pages gives its newest ten pages.
const MAX_PAGES: u32 = 10;
/// Files GitHub names in a comparison; one that has more looks like one that has as many.
const MAX_COMPARED_FILES: usize = 300;

/// One identity on GitHub or a server that speaks its API.
#[derive(Debug)]
pub struct GithubForge {
    client: Client,
    list_lag: Duration,
    identity: OnceCell<String>,
}

impl GithubForge {
    /// Sets the client up; nothing is called yet. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`SetupError`] when the settings cannot work.
    pub fn new(settings: GithubSettings) -> std::result::Result<Self, SetupError> {
        let list_lag = settings.list_lag;
        Ok(Self { client: Client::new(settings)?, list_lag, identity: OnceCell::new() })
    }
}

#[derive(Deserialize)]
struct User {
    login: String,
}

/// What is shown for an account that was deleted.
fn login(user: Option<User>) -> String {
    user.map_or_else(|| "ghost".to_owned(), |user| user.login)
}

#[derive(Deserialize)]
struct RepositoryBody {
    full_name: RepositoryName,
    default_branch: String,
    #[serde(default)]
    private: bool,
    #[serde(default)]
    archived: bool,
    permissions: Option<PermissionsBody>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct PermissionsBody {
    admin: bool,
    maintain: bool,
    push: bool,
    triage: bool,
    pull: bool,
}

impl From<PermissionsBody> for Permission {
    fn from(body: PermissionsBody) -> Self {
        let held = [
            (body.admin, Self::Admin),
            (body.maintain, Self::Maintain),
            (body.push, Self::Write),
            (body.triage, Self::Triage),
            (body.pull, Self::Read),
        ];
        held.into_iter().find_map(|(holds, permission)| holds.then_some(permission)).unwrap_or(Self::None)
    }
}

#[derive(Deserialize)]
struct CollaboratorBody {
    permission: String,
    role_name: Option<String>,
}

/// GitHub's names for permissions; a custom role has a name of its own.
fn standard_permission(name: &str) -> Option<Permission> {
    match name {
        "admin" => Some(Permission::Admin),
        "maintain" => Some(Permission::Maintain),
        "write" => Some(Permission::Write),
        "triage" => Some(Permission::Triage),
        "read" => Some(Permission::Read),
        "none" => Some(Permission::None),
        _ => None,
    }
}

#[derive(Deserialize)]
struct IssueBody {
    number: u64,
    title: String,
    body: Option<String>,
    user: Option<User>,
    state: String,
    #[serde(default)]
    labels: Vec<LabelBody>,
    html_url: String,
    pull_request: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum LabelBody {
    Name(String),
    Label { name: String },
}

impl From<IssueBody> for Issue {
    fn from(body: IssueBody) -> Self {
        let names = body.labels.into_iter().map(|label| match label {
            LabelBody::Name(name) | LabelBody::Label { name } => name,
        });
        Self {
            number: body.number,
            title: body.title,
            body: body.body.unwrap_or_default(),
            author: login(body.user),
            open: body.state == "open",
            labels: names.collect(),
            html_url: body.html_url,
            is_pull_request: body.pull_request.is_some(),
        }
    }
}

#[derive(Deserialize)]
struct CommentBody {
    id: u64,
    user: Option<User>,
    author_association: Option<String>,
    body: Option<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    html_url: String,
}

impl From<CommentBody> for Comment {
    fn from(body: CommentBody) -> Self {
        Self {
            id: body.id,
            author: login(body.user),
            author_association: body.author_association.unwrap_or_else(|| "NONE".to_owned()),
            body: body.body.unwrap_or_default(),
            created_at: body.created_at,
            updated_at: body.updated_at,
            html_url: body.html_url,
        }
    }
}

#[derive(Deserialize)]
struct RefBody {
    object: ObjectBody,
}

#[derive(Deserialize)]
struct ObjectBody {
    sha: CommitSha,
}

#[derive(Deserialize)]
struct ComparisonBody {
    status: String,
    files: Option<Vec<ComparedFileBody>>,
}

#[derive(Deserialize)]
struct ComparedFileBody {
    filename: String,
    previous_filename: Option<String>,
}

#[derive(Deserialize)]
struct PullRequestBody {
    number: u64,
    html_url: String,
    state: String,
    head: HeadBody,
}

#[derive(Deserialize)]
struct HeadBody {
    #[serde(rename = "ref")]
    branch: String,
    sha: CommitSha,
    repo: Option<HeadRepositoryBody>,
}

#[derive(Deserialize)]
struct HeadRepositoryBody {
    full_name: String,
}

impl From<PullRequestBody> for PullRequest {
    fn from(body: PullRequestBody) -> Self {
        Self {
            number: body.number,
            html_url: body.html_url,
            head_sha: body.head.sha,
            open: body.state == "open",
        }
    }
}

#[async_trait::async_trait]
impl Forge for GithubForge {
    fn list_lag(&self) -> Duration {
        self.list_lag
    }

    async fn identity(&self) -> Result<String> {
        let ask =
            || async { Ok(self.client.for_ourselves().get(&["user"], &[]).await?.json::<User>()?.login) };
        self.identity.get_or_try_init(ask).await.cloned()
    }

    async fn repository(&self, repository: &RepositoryName) -> Result<Repository> {
        let body: RepositoryBody = self.client.for_repository(repository).get(&[], &[]).await?.json()?;
        Ok(Repository {
            name: body.full_name,
            default_branch: body.default_branch,
            private: body.private,
            archived: body.archived,
            our_permission: body.permissions.map(Permission::from),
        })
    }

    async fn permission(&self, repository: &RepositoryName, login: &str) -> Result<Permission> {
        let path = ["collaborators", login, "permission"];
        let body: CollaboratorBody = self.client.for_repository(repository).get(&path, &[]).await?.json()?;
        body.role_name
            .as_deref()
            .and_then(standard_permission)
            .or_else(|| standard_permission(&body.permission))
            .ok_or_else(|| ForgeError::Outage {
                message: "a permission with a name we do not know".to_owned(),
            })
    }

    async fn issue(&self, repository: &RepositoryName, number: u64) -> Result<Issue> {
        let path = ["issues", &number.to_string()];
        let body: IssueBody = self.client.for_repository(repository).get(&path, &[]).await?.json()?;
        Ok(body.into())
    }

    async fn comments(&self, repository: &RepositoryName, number: u64) -> Result<Vec<Comment>> {
        let scope = self.client.for_repository(repository);
        let number = number.to_string();
        let mut comments = Vec::new();
        let (mut page, mut end) = (1_u32, MAX_PAGES);
        while page <= end {
            let query = [("per_page", PER_PAGE.to_string()), ("page", page.to_string())];
            let query = query.each_ref().map(|(name, value)| (*name, value.as_str()));
            let answer = scope.get(&["issues", &number, "comments"], &query).await?;
            let read: Vec<CommentBody> = answer.json()?;
            let full = read.len() >= PER_PAGE;
            comments.extend(read.into_iter().map(Comment::from));
            // The newest matter most: ours is looked for among them.
            if page == 1
                && let Some(Some(last)) = answer.linked_page("last")
                && last > MAX_PAGES
            {
                tracing::warn!(%repository, issue = number, pages = last, "very many comments; only the newest thousand are read");
                comments.clear();
                (page, end) = (last - MAX_PAGES + 1, last);
                continue;
            }
            let more = answer.linked_page("next").map_or(full, |next| next.is_some());
            if !more {
                break;
            }
            page += 1;
        }
        Ok(comments)
    }

    async fn create_comment(&self, repository: &RepositoryName, number: u64, body: &str) -> Result<Comment> {
        let path = ["issues", &number.to_string(), "comments"];
        let answer = self.client.for_repository(repository).post(&path, &json!({ "body": body })).await?;
        Ok(answer.json::<CommentBody>()?.into())
    }

    async fn delete_comment(&self, repository: &RepositoryName, comment: u64) -> Result<()> {
        let path = ["issues", "comments", &comment.to_string()];
        match self.client.for_repository(repository).delete(&path).await {
            Ok(_) => Ok(()),
            // It may be the comment that is not there, or the repository.
            Err(ForgeError::Missing { .. }) => self.repository(repository).await.map(drop),
            Err(error) => Err(error),
        }
    }

    async fn update_comment(&self, repository: &RepositoryName, comment: u64, body: &str) -> Result<Comment> {
        let path = ["issues", "comments", &comment.to_string()];
        let answer = self.client.for_repository(repository).patch(&path, &json!({ "body": body })).await?;
        Ok(answer.json::<CommentBody>()?.into())
    }

    async fn add_labels(&self, repository: &RepositoryName, number: u64, labels: &[String]) -> Result<()> {
        let path = ["issues", &number.to_string(), "labels"];
        self.client.for_repository(repository).post(&path, &json!({ "labels": labels })).await.map(drop)
    }

    async fn remove_label(&self, repository: &RepositoryName, number: u64, label: &str) -> Result<()> {
        let path = ["issues", &number.to_string(), "labels", label];
        match self.client.for_repository(repository).delete(&path).await {
            Ok(_) => Ok(()),
            // It may be the label that is not there, or the issue.
            Err(ForgeError::Missing { message }) => {
                let issue = self.issue(repository, number).await?;
                let stands = issue.labels.iter().any(|name| name.to_lowercase() == label.to_lowercase());
                if stands { Err(ForgeError::Missing { message }) } else { Ok(()) }
            }
            Err(error) => Err(error),
        }
    }

    async fn react(&self, repository: &RepositoryName, number: u64, reaction: Reaction) -> Result<()> {
        let content = match reaction {
            Reaction::Eyes => "eyes",
            Reaction::ThumbsUp => "+1",
        };
        let path = ["issues", &number.to_string(), "reactions"];
        match self.client.for_repository(repository).post(&path, &json!({ "content": content })).await {
            Ok(_) => Ok(()),
            // A server without reactions does not know the path; the issue tells the two apart.
            Err(ForgeError::Missing { message }) => {
                self.issue(repository, number).await?;
                Err(ForgeError::Unsupported { message })
            }
            Err(error) => Err(error),
        }
    }

    async fn branch_head(&self, repository: &RepositoryName, branch: &str) -> Result<Option<CommitSha>> {
        let path: Vec<&str> = ["git", "ref", "heads"].into_iter().chain(branch.split('/')).collect();
        match self.client.for_repository(repository).get(&path, &[]).await {
            Ok(answer) => Ok(Some(answer.json::<RefBody>()?.object.sha)),
            Err(ForgeError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn changed_paths(
        &self,
        repository: &RepositoryName,
        base: &CommitSha,
        head: &CommitSha,
    ) -> Result<Option<Vec<String>>> {
        let range = format!("{base}...{head}");
        // The files come with the first page of commits, whatever its size.
        let query = [("per_page", "1"), ("page", "1")];
        let answer = match self.client.for_repository(repository).get(&["compare", &range], &query).await {
            Ok(answer) => answer,
            // One of them is gone, or they have no history in common.
            Err(ForgeError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let body: ComparisonBody = answer.json()?;
        let goes_on = matches!(body.status.as_str(), "ahead" | "identical");
        let Some(files) = body.files.filter(|files| goes_on && files.len() < MAX_COMPARED_FILES) else {
            return Ok(None);
        };
        Ok(Some(files.into_iter().flat_map(|f| [Some(f.filename), f.previous_filename]).flatten().collect()))
    }

    async fn create_commit(&self, repository: &RepositoryName, commit: &NewCommit) -> Result<CommitSha> {
        commit::create(&self.client.for_repository(repository), commit).await
    }

    async fn commit(&self, repository: &RepositoryName, sha: &CommitSha) -> Result<Commit> {
        commit::read(&self.client.for_repository(repository), sha).await
    }

    async fn create_branch(&self, repository: &RepositoryName, branch: &str, at: &CommitSha) -> Result<()> {
        let body = json!({ "ref": format!("refs/heads/{branch}"), "sha": at });
        self.client.for_repository(repository).post(&["git", "refs"], &body).await.map(drop)
    }

    async fn create_pull_request(
        &self,
        repository: &RepositoryName,
        new: &NewPullRequest,
    ) -> Result<PullRequest> {
        let body = json!({ "title": new.title, "body": new.body, "head": new.head, "base": new.base });
        let answer = self.client.for_repository(repository).post(&["pulls"], &body).await?;
        Ok(answer.json::<PullRequestBody>()?.into())
    }

    async fn pull_requests_of(&self, repository: &RepositoryName, head: &str) -> Result<Vec<PullRequest>> {
        let owned = format!("{}:{head}", repository.owner());
        let query = [("head", owned.as_str()), ("state", "all"), ("per_page", "100")];
        let answer = self.client.for_repository(repository).get(&["pulls"], &query).await?;
        let found: Vec<PullRequestBody> = answer.json()?;
        // A server that does not filter by head gives all of them.
        let ours = |pull: &PullRequestBody| {
            let same_repository = |head: &HeadRepositoryBody| {
                head.full_name.parse().is_ok_and(|name: RepositoryName| name == *repository)
            };
            pull.head.branch == head && pull.head.repo.as_ref().is_some_and(same_repository)
        };
        Ok(found.into_iter().filter(ours).map(PullRequest::from).collect())
    }
}

#[cfg(test)]
pub(crate) mod tests;
