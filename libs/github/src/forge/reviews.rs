//! Reviews of pull requests, with their remarks.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use domain::names::CommitSha;
use forge::{NewReview, Remark, Result, Review, ReviewState};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{User, login};
use crate::client::{Endpoint, Scope};

/// Pages of a hundred reviews, and of a hundred remarks, that are read.
const MOST_PAGES: u32 = 30;

#[derive(Deserialize)]
struct ReviewBody {
    id: u64,
    user: Option<User>,
    body: Option<String>,
    state: String,
    html_url: String,
    /// Missing while it is being written.
    submitted_at: Option<DateTime<Utc>>,
    commit_id: Option<CommitSha>,
}

#[derive(Deserialize)]
struct RemarkBody {
    pull_request_review_id: Option<u64>,
    user: Option<User>,
    path: String,
    /// Missing on a remark about a file, and on one whose line is no longer part of the change.
    line: Option<u64>,
    side: Option<String>,
    body: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<RemarkBody> for Remark {
    fn from(body: RemarkBody) -> Self {
        // The left side shows the old version.
        let line = body.line.filter(|_| body.side.as_deref() != Some("LEFT"));
        Self {
            author: login(body.user),
            path: body.path,
            line,
            body: body.body,
            created_at: body.created_at,
            updated_at: body.updated_at,
        }
    }
}

/// The review; `None` for one that is not submitted, or of a kind we do not know.
fn review(body: ReviewBody, remarks: Vec<Remark>) -> Option<Review> {
    let state = match body.state.to_ascii_uppercase().as_str() {
        "APPROVED" => ReviewState::Approved,
        "CHANGES_REQUESTED" => ReviewState::ChangesRequested,
        "COMMENTED" => ReviewState::Commented,
        "DISMISSED" => ReviewState::Dismissed,
        _ => return None,
    };
    Some(Review {
        id: body.id,
        author: login(body.user),
        state,
        body: body.body.unwrap_or_default(),
        commit: body.commit_id,
        submitted_at: body.submitted_at?,
        html_url: body.html_url,
        remarks,
    })
}

pub(super) async fn list(repository: Scope<'_>, number: u64) -> Result<Vec<Review>> {
    let number = number.to_string();
    let reviews: Vec<ReviewBody> = repository.pages(Endpoint::Reviews, &[&number], MOST_PAGES).await?;
    if reviews.is_empty() {
        return Ok(Vec::new());
    }
    let remarks: Vec<RemarkBody> =
        repository.pages(Endpoint::PullRequestRemarks, &[&number], MOST_PAGES).await?;
    let mut by_review: HashMap<u64, Vec<Remark>> = HashMap::new();
    for remark in remarks {
        if let Some(review) = remark.pull_request_review_id {
            by_review.entry(review).or_default().push(remark.into());
        }
    }
    let joined = reviews.into_iter().filter_map(|body| {
        let remarks = by_review.remove(&body.id).unwrap_or_default();
        review(body, remarks)
    });
    Ok(joined.collect())
}

/// One call, so that all of it is there or nothing. This call takes no remark about a whole file;
/// such remarks go into the text, under the file's name.
pub(super) async fn create(repository: Scope<'_>, number: u64, new: &NewReview) -> Result<Review> {
    let mut text = new.body.clone();
    let mut comments: Vec<Value> = Vec::new();
    for remark in &new.remarks {
        if let Some(line) = remark.line {
            let comment = json!({ "path": remark.path, "line": line, "side": "RIGHT", "body": remark.body });
            comments.push(comment);
        } else {
            text = format!("{text}\n\n**`{}`**\n\n{}", remark.path.replace('`', "'"), remark.body);
        }
    }
    let body = json!({
        "commit_id": new.head,
        "event": "COMMENT",
        "body": text.trim_start(),
        "comments": comments,
    });
    let answer = repository.write(Endpoint::CreateReview, &[&number.to_string()], &body).await?;
    let written: ReviewBody = answer.json()?;
    let at = written.submitted_at;
    let author = login(written.user.clone());
    let remarks = new.remarks.iter().filter(|remark| remark.line.is_some()).filter_map(|remark| {
        Some(Remark {
            author: author.clone(),
            path: remark.path.clone(),
            line: remark.line,
            body: remark.body.clone(),
            created_at: at?,
            updated_at: at?,
        })
    });
    let remarks = remarks.collect();
    review(written, remarks).ok_or_else(|| forge::ForgeError::Outage {
        message: "a review was written, and the answer does not say that it is submitted".to_owned(),
    })
}
