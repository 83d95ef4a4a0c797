//! What a run may read is fixed when it is asked for: what stood there by then, and was not
//! changed since, from people who may be heard.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use domain::{
    ids::{Id, RepositoryId},
    names::RepositoryName,
    rights::Permission,
    run::RunKind,
};
use forge::{Comment, PullRequestDetails, ReviewState};
use prompts::{CommentText, DocumentText, LeftOut, RemarkText, ReviewText};

use super::prepare::{NotPrepared, Wanted, of_forge};
use crate::App;

/// People whose permission is asked for, at most.
const ASKED_AUTHORS: usize = 20;
/// How our comments and reviews begin.
const OUR_MARK: &str = "<!-- callboard:";

/// What may be read besides the issue itself.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) author_permission: Option<String>,
    pub(super) comments: Vec<CommentText>,
    pub(super) reviews: Vec<ReviewText>,
    pub(super) documents: Vec<DocumentText>,
    pub(super) left_out: LeftOut,
}

/// Reads comments, and for a revision the reviews it has to deal with.
pub(super) async fn read(
    app: &App,
    wanted: &Wanted<'_>,
    author: &str,
    pull: Option<&PullRequestDetails>,
) -> Result<Heard, NotPrepared> {
    let name = &wanted.repository.name;
    let failed = |e| of_forge("The comments cannot be read", &e);
    let mut comments = app.forge.comments(name, wanted.issue).await.map_err(failed)?;
    if let Some(pull) = pull.filter(|pull| pull.number != wanted.issue) {
        comments.extend(app.forge.comments(name, pull.number).await.map_err(failed)?);
        comments.sort_by_key(|comment| comment.created_at);
    }
    let mut reader = Reader {
        app,
        name,
        by: wanted.received_at,
        identity: app.forge.identity().await.unwrap_or_default(),
        permissions: HashMap::new(),
        heard: Heard::default(),
    };
    let answers = match wanted.kind {
        RunKind::Discussion => answers(app, wanted.repository.id, wanted.issue).await?,
        RunKind::Work | RunKind::Revise | RunKind::Review => HashSet::new(),
    };
    for comment in comments {
        reader.comment(comment, author, &answers).await;
    }
    if let (RunKind::Revise, Some(pull)) = (wanted.kind, pull) {
        let reviews = app.forge.reviews(name, pull.number).await;
        for review in reviews.map_err(|e| of_forge("The reviews cannot be read", &e))? {
            reader.review(review).await;
        }
    }
    let mut heard = reader.heard;
    heard.author_permission =
        reader.permissions.get(&author.to_lowercase()).copied().flatten().map(|p| p.to_string());
    heard.documents = documents(app, wanted).await?;
    Ok(heard)
}

struct Reader<'a> {
    app: &'a App,
    name: &'a RepositoryName,
    /// What is younger is left out.
    by: DateTime<Utc>,
    /// Who we are there.
    identity: String,
    permissions: HashMap<String, Option<Permission>>,
    heard: Heard,
}

/// Why somebody is heard.
enum Standing {
    /// With this right, where it is known.
    Heard(Option<Permission>),
    NotHeard,
}

impl Reader<'_> {
    fn is_ours(&self, author: &str, body: &str) -> bool {
        author.eq_ignore_ascii_case(&self.identity) && body.starts_with(OUR_MARK)
    }

    /// True, and counted, when it was not there yet or has changed since.
    fn is_too_late(&mut self, written: DateTime<Utc>, changed: DateTime<Utc>) -> bool {
        if written > self.by {
            self.heard.left_out.written_later += 1;
        } else if changed > self.by {
            self.heard.left_out.edited_later += 1;
        }
        written > self.by || changed > self.by
    }

    /// People with write access are heard, and who opened the issue.
    async fn standing(&mut self, login: &str, opened: bool) -> Standing {
        let key = login.to_lowercase();
        if !self.permissions.contains_key(&key) && self.permissions.len() < ASKED_AUTHORS {
            // Not knowing leaves a text out; it does not stop the run.
            let permission = self.app.forge.permission(self.name, login).await.ok();
            self.permissions.insert(key.clone(), permission);
        }
        let permission = self.permissions.get(&key).copied().flatten();
        if opened || permission.is_some_and(|p| p >= Permission::Write) {
            return Standing::Heard(permission);
        }
        self.heard.left_out.people_without_right += 1;
        Standing::NotHeard
    }

    async fn comment(&mut self, comment: Comment, opener: &str, answers: &HashSet<u64>) {
        // Of ours, only what an agent answered is part of a discussion.
        let ours = self.is_ours(&comment.author, &comment.body);
        if ours && !answers.contains(&comment.id) || self.is_too_late(comment.created_at, comment.updated_at)
        {
            return;
        }
        let (author, permission) = if ours {
            (YOU.to_owned(), None)
        } else {
            let opened = comment.author.eq_ignore_ascii_case(opener);
            match self.standing(&comment.author, opened).await {
                Standing::Heard(permission) => (comment.author, permission),
                Standing::NotHeard => return,
            }
        };
        self.heard.comments.push(CommentText {
            author,
            permission: permission.map(|p| p.to_string()),
            created_at: shown(comment.created_at),
            body: comment.body,
        });
    }

    async fn review(&mut self, review: forge::Review) {
        // Findings of a review run are to be dealt with too.
        let ours = self.is_ours(&review.author, &review.body);
        if self.is_too_late(review.submitted_at, review.submitted_at) {
            return;
        }
        let permission = match ours {
            true => None,
            false => match self.standing(&review.author, false).await {
                Standing::Heard(permission) => permission.map(|p| p.to_string()),
                Standing::NotHeard => return,
            },
        };
        let mut remarks = Vec::with_capacity(review.remarks.len());
        for remark in review.remarks {
            if !self.is_too_late(remark.created_at, remark.updated_at) {
                remarks.push(RemarkText {
                    path: remark.path,
                    line: remark.line,
                    author: remark.author,
                    permission: permission.clone(),
                    body: remark.body,
                });
            }
        }
        if review.body.trim().is_empty() && remarks.is_empty() {
            return;
        }
        self.heard.reviews.push(ReviewText {
            author: review.author,
            permission,
            state: match review.state {
                ReviewState::Approved => "approved",
                ReviewState::ChangesRequested => "changes requested",
                ReviewState::Commented if ours => "findings of an agent's review",
                ReviewState::Commented => "commented",
                ReviewState::Dismissed => "taken back",
            }
            .to_owned(),
            submitted_at: shown(review.submitted_at),
            body: review.body,
            remarks,
        });
    }
}

/// Whose answers an agent finds in a discussion.
const YOU: &str = "you, in an earlier turn";

fn shown(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M UTC").to_string()
}

/// Comments with which agents answered on an issue, by our rows.
async fn answers(app: &App, repository: RepositoryId, issue: u64) -> sqlx::Result<HashSet<u64>> {
    let ids = sqlx::query_scalar!(
        r#"select (e.result ->> 'comment')::bigint as "comment!" from effects e join runs r using (run_id)
           where r.repository_id = $1 and r.issue_number = $2 and r.kind = 'discussion' and e.kind = 'comment'
             and e.result ->> 'comment' is not null"#,
        repository.uuid(),
        i64::try_from(issue).unwrap_or(i64::MAX),
    )
    .fetch_all(&app.db)
    .await?;
    Ok(ids.into_iter().filter_map(|id| u64::try_from(id).ok()).collect())
}

/// What other stages of the issue made, in the order they made it.
async fn documents(app: &App, wanted: &Wanted<'_>) -> sqlx::Result<Vec<DocumentText>> {
    let rows = sqlx::query!(
        r#"select r.stage, p.pull_request_number as "number!", p.pull_request_url as "url!"
           from publications p join runs r using (run_id)
           where r.repository_id = $1 and r.issue_number = $2 and r.kind = 'work' and r.stage <> $3
             and p.state = 'published' and p.pull_request_number is not null and p.pull_request_url is not null
           order by p.published_at"#,
        wanted.repository.id.uuid(),
        i64::try_from(wanted.issue).unwrap_or(i64::MAX),
        wanted.stage,
    )
    .fetch_all(&app.db)
    .await?;
    let text = |number: i64| format!("pull request #{number}");
    Ok(rows.into_iter().map(|r| DocumentText { stage: r.stage, title: text(r.number), url: r.url }).collect())
}
