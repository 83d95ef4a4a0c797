//! Issues, and what hangs on issues and pull requests alike: comments, labels, reactions.

use chrono::{DateTime, Utc};
use forge::{Comment, ForgeError, Issue, Reaction, Result};
use serde::Deserialize;
use serde_json::json;

use super::{User, login, repositories};
use crate::client::{Endpoint, PER_PAGE, Scope};

/// An issue with more comments than ten pages gives its newest ten pages.
const COMMENT_PAGES: u32 = 10;

/// An issue, or the issue side of a pull request.
#[derive(Deserialize)]
pub(super) struct IssueBody {
    number: u64,
    title: String,
    body: Option<String>,
    user: Option<User>,
    state: String,
    #[serde(default)]
    labels: Vec<LabelBody>,
    html_url: String,
    pull_request: Option<serde::de::IgnoredAny>,
    updated_at: DateTime<Utc>,
}

/// A label on an issue or pull request.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum LabelBody {
    Name(String),
    Label { name: String },
}

impl LabelBody {
    pub(super) fn names(labels: Vec<Self>) -> Vec<String> {
        let name = |label| match label {
            Self::Name(name) | Self::Label { name } => name,
        };
        labels.into_iter().map(name).collect()
    }
}

impl From<IssueBody> for Issue {
    fn from(body: IssueBody) -> Self {
        Self {
            number: body.number,
            title: body.title,
            body: body.body.unwrap_or_default(),
            author: login(body.user),
            open: body.state == "open",
            labels: LabelBody::names(body.labels),
            html_url: body.html_url,
            is_pull_request: body.pull_request.is_some(),
            updated_at: body.updated_at,
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

pub(super) async fn read(repository: Scope<'_>, number: u64) -> Result<Issue> {
    let body: IssueBody = repository.get(Endpoint::Issue, &[&number.to_string()], &[]).await?.json()?;
    Ok(body.into())
}

pub(super) async fn comments(repository: Scope<'_>, number: u64) -> Result<Vec<Comment>> {
    let number = number.to_string();
    let mut comments = Vec::new();
    let (mut page, mut end) = (1_u32, COMMENT_PAGES);
    while page <= end {
        let answer = repository.page(Endpoint::Comments, &[&number], page).await?;
        let read: Vec<CommentBody> = answer.json()?;
        let full = read.len() >= PER_PAGE;
        comments.extend(read.into_iter().map(Comment::from));
        // The newest matter most: ours is looked for among them.
        if page == 1
            && let Some(Some(last)) = answer.linked_page("last")
            && last > COMMENT_PAGES
        {
            tracing::warn!(
                issue = number,
                pages = last,
                "very many comments; only the newest thousand are read"
            );
            comments.clear();
            (page, end) = (last - COMMENT_PAGES + 1, last);
            continue;
        }
        if !answer.has_next_page(full) {
            break;
        }
        page += 1;
    }
    Ok(comments)
}

pub(super) async fn create_comment(repository: Scope<'_>, number: u64, body: &str) -> Result<Comment> {
    let body = json!({ "body": body });
    Ok(repository
        .write(Endpoint::CreateComment, &[&number.to_string()], &body)
        .await?
        .json::<CommentBody>()?
        .into())
}

pub(super) async fn delete_comment(repository: Scope<'_>, comment: u64) -> Result<()> {
    match repository.act(Endpoint::DeleteComment, &[&comment.to_string()]).await {
        Ok(_) => Ok(()),
        // It may be the comment that is not there, or the repository.
        Err(ForgeError::Missing { .. }) => repositories::read(repository).await.map(drop),
        Err(error) => Err(error),
    }
}

pub(super) async fn update_comment(repository: Scope<'_>, comment: u64, body: &str) -> Result<Comment> {
    let body = json!({ "body": body });
    Ok(repository
        .write(Endpoint::UpdateComment, &[&comment.to_string()], &body)
        .await?
        .json::<CommentBody>()?
        .into())
}

pub(super) async fn add_labels(repository: Scope<'_>, number: u64, labels: &[String]) -> Result<()> {
    let body = json!({ "labels": labels });
    repository.write(Endpoint::AddLabels, &[&number.to_string()], &body).await.map(drop)
}

pub(super) async fn remove_label(repository: Scope<'_>, number: u64, label: &str) -> Result<()> {
    match repository.act(Endpoint::RemoveLabel, &[&number.to_string(), label]).await {
        Ok(_) => Ok(()),
        // It may be the label that is not there, or the issue.
        Err(ForgeError::Missing { message }) => {
            let issue = read(repository, number).await?;
            let stands = issue.labels.iter().any(|name| name.to_lowercase() == label.to_lowercase());
            if stands { Err(ForgeError::Missing { message }) } else { Ok(()) }
        }
        Err(error) => Err(error),
    }
}

fn content(reaction: Reaction) -> &'static str {
    match reaction {
        Reaction::Eyes => "eyes",
        Reaction::ThumbsUp => "+1",
    }
}

pub(super) async fn react(repository: Scope<'_>, number: u64, reaction: Reaction) -> Result<()> {
    react_at(repository, Endpoint::React, Endpoint::Issue, number, reaction).await
}

pub(super) async fn react_to_comment(repository: Scope<'_>, comment: u64, reaction: Reaction) -> Result<()> {
    react_at(repository, Endpoint::ReactToComment, Endpoint::Comment, comment, reaction).await
}

async fn react_at(
    repository: Scope<'_>,
    react: Endpoint,
    to: Endpoint,
    id: u64,
    reaction: Reaction,
) -> Result<()> {
    let id = id.to_string();
    match repository.write(react, &[&id], &json!({ "content": content(reaction) })).await {
        Ok(_) => Ok(()),
        // A server without reactions does not know the path; what was reacted to tells the two
        // apart.
        Err(ForgeError::Missing { message }) => {
            repository.get(to, &[&id], &[]).await?;
            Err(ForgeError::Unsupported { message })
        }
        Err(error) => Err(error),
    }
}
