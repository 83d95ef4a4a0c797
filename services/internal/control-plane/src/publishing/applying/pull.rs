//! What is done to a pull request that is there: its branch moves on, its text grows, and it is
//! reviewed.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use domain::{names::CommitSha, review::ReviewFinding};
use forge::{ForgeError, NewReview, Review};

use super::{
    Applied, Failure,
    code::{ENDED, is_same_work, publishing},
    unsigned,
};
use crate::{
    App,
    projects::store::Repository,
    publishing::{about::about, comments, head, publication, queue::Pending},
    runs::{self, Run},
};

/// Our clock and the code host's may differ by this much.
const SKEW: TimeDelta = TimeDelta::hours(1);

/// The branch of an open pull request goes on to the run's commit: forward, or not at all.
pub(super) async fn move_branch(
    app: &App,
    pending: &Pending,
    repository: &Repository,
    branch: &str,
    number: i64,
) -> Result<Applied, Failure> {
    let Some(id) = pending.run else { return Ok(ENDED) };
    let under_way = publishing(app, pending).await?;
    if under_way.is_none() && pending.tried_at.is_none() {
        return Ok(ENDED);
    }
    let (run, publication) = match under_way {
        Some(both) => both,
        // It ended while a call was out: what that made is known and said.
        None => match runs::get(&app.db, id).await?.zip(publication(&app.db, id).await?) {
            Some((run, publication)) if publication.commit.is_some() => (run, publication),
            Some(_) | None => return Ok(ENDED),
        },
    };
    let sha = publication.commit.ok_or_else(|| Failure::Changeset("no commit".to_owned()))?;
    let pull = app.forge.pull_request(&repository.name, unsigned(number)).await?;
    if let Some(head) = ours_at(app, repository, &run, branch, &sha).await? {
        return Ok(Applied::BranchMoved { name: branch.to_owned(), head, pull });
    }
    if run.state.is_final() {
        return Ok(ENDED);
    }
    if !pull.open {
        return Ok(Applied::PullRequestEnded(pull));
    }
    match app.forge.move_branch(&repository.name, branch, &sha).await {
        Ok(()) => Ok(Applied::BranchMoved { name: branch.to_owned(), head: sha, pull }),
        Err(error @ ForgeError::Conflict { .. }) => {
            if let Some(head) = ours_at(app, repository, &run, branch, &sha).await? {
                return Ok(Applied::BranchMoved { name: branch.to_owned(), head, pull });
            }
            // Somebody pushed between commit and branch. Where the branch has not moved, it is
            // the code host that will not have it.
            let parents = app.forge.commit(&repository.name, &sha).await?.parents;
            match app.forge.branch_head(&repository.name, branch).await? {
                Some(to) if !parents.contains(&to) => Ok(Applied::HeadMoved(head::Moved::pushed(to))),
                Some(_) | None => Err(error.into()),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// Where the branch is, if it is at our commit or at one with the same content on the same
/// parent, made by an earlier call for the same run.
async fn ours_at(
    app: &App,
    repository: &Repository,
    run: &Run,
    branch: &str,
    ours: &CommitSha,
) -> Result<Option<CommitSha>, Failure> {
    let Some(head) = app.forge.branch_head(&repository.name, branch).await? else {
        let message = format!("branch `{branch}` is gone");
        return Err(ForgeError::Missing { message }.into());
    };
    if head == *ours {
        return Ok(Some(head));
    }
    let (found, made) =
        (app.forge.commit(&repository.name, &head).await?, app.forge.commit(&repository.name, ours).await?);
    Ok(is_same_work(&found, &made, run.id).then_some(head))
}

/// Puts a block into the text of a pull request; one that is there, or has no room, is left out.
pub(super) async fn add_to_text(
    app: &App,
    repository: &Repository,
    number: i64,
    block: &str,
) -> Result<Applied, Failure> {
    let pull = app.forge.pull_request(&repository.name, unsigned(number)).await?;
    let text = comments::with_block(&pull.body, block);
    if text != pull.body {
        app.forge.update_pull_request(&repository.name, unsigned(number), &text).await?;
    }
    Ok(Applied::Done)
}

/// A review to be posted.
pub(super) struct Wanted<'a> {
    pub(super) number: i64,
    /// What was reviewed.
    pub(super) head: &'a CommitSha,
    pub(super) said: &'a str,
    pub(super) findings: &'a [ReviewFinding],
    pub(super) mark: &'a str,
}

/// Posts the review with its remarks, or finds it.
pub(super) async fn review(
    app: &App,
    pending: &Pending,
    repository: &Repository,
    wanted: &Wanted<'_>,
) -> Result<Applied, Failure> {
    let number = unsigned(wanted.number);
    // After a call of unknown outcome it may be there, whatever became of the run.
    if pending.tried_at.is_some()
        && let Some(found) = ours(app, repository, number, wanted.mark, pending.created_at).await?
    {
        return Ok(Applied::Reviewed(found));
    }
    let Some(run) = (match pending.run {
        Some(id) => runs::get(&app.db, id).await?.filter(|run| !run.state.is_final()),
        None => None,
    }) else {
        return Ok(ENDED);
    };
    let pull = app.forge.pull_request(&repository.name, number).await?;
    let mut said = wanted.said.to_owned();
    let lines = if pull.head_sha == *wanted.head {
        app.forge.reviewable_lines(&repository.name, number).await?
    } else {
        // The lines of another head are not those that were reviewed.
        said.push_str(&format!(
            "\n\nThe branch has moved on since: this is about `{}`.",
            wanted.head.short()
        ));
        BTreeMap::new()
    };
    let about = about(&mut *app.db.acquire().await?, app, &run).await?;
    let with = |on_lines: &[&ReviewFinding], elsewhere: &[&ReviewFinding]| NewReview {
        head: wanted.head.clone(),
        body: comments::review_body(&run, &about, &said, wanted.findings, elsewhere),
        remarks: on_lines.iter().map(|finding| comments::remark(finding)).collect(),
    };
    let (on_lines, elsewhere) = divided(wanted.findings, &lines);
    match app.forge.create_review(&repository.name, number, &with(&on_lines, &elsewhere)).await {
        Ok(review) => Ok(Applied::Reviewed(review)),
        // One line the code host does not take refuses all of it.
        Err(ForgeError::Invalid { message }) if !on_lines.is_empty() => {
            tracing::warn!(repository = %repository.name, number, message, "a review with remarks on lines is refused; all of it goes into its text");
            let all: Vec<&ReviewFinding> = wanted.findings.iter().collect();
            Ok(Applied::Reviewed(app.forge.create_review(&repository.name, number, &with(&[], &all)).await?))
        }
        Err(error) => Err(error.into()),
    }
}

/// Our review with this mark: by author, mark and time together.
async fn ours(
    app: &App,
    repository: &Repository,
    number: u64,
    mark: &str,
    since: DateTime<Utc>,
) -> Result<Option<Review>, ForgeError> {
    let identity = app.forge.identity().await?;
    let reviews = app.forge.reviews(&repository.name, number).await?;
    Ok(reviews.into_iter().find(|review| {
        review.author.eq_ignore_ascii_case(&identity)
            && review.body.starts_with(mark)
            && review.submitted_at >= since - SKEW
    }))
}

/// Findings that stand on a line or file of the difference, and those that do not.
fn divided<'f>(
    findings: &'f [ReviewFinding],
    lines: &BTreeMap<String, Vec<(u64, u64)>>,
) -> (Vec<&'f ReviewFinding>, Vec<&'f ReviewFinding>) {
    let stands = |finding: &ReviewFinding| {
        lines.get(&finding.path).is_some_and(|ranges| {
            finding.line.is_none_or(|line| ranges.iter().any(|(from, to)| (*from..=*to).contains(&line)))
        })
    };
    let (mut on, off): (Vec<_>, Vec<_>) = findings.iter().partition(|finding| stands(finding));
    let mut elsewhere = on.split_off(on.len().min(MOST_REMARKS));
    elsewhere.extend(off);
    (on, elsewhere)
}

/// Remarks on lines in one review; the rest goes into its text.
const MOST_REMARKS: usize = 50;

#[cfg(test)]
mod tests {
    use domain::review::Severity;

    use super::*;

    #[test]
    fn remarks_stand_on_lines_of_the_difference_only() {
        let finding = |path: &str, line| ReviewFinding {
            path: path.to_owned(),
            line,
            severity: Severity::Minor,
            body: String::new(),
        };
        let findings = [
            finding("a", Some(3)),
            finding("a", Some(9)),
            finding("a", None),
            finding("b", Some(3)),
            finding("b", None),
        ];
        let lines = BTreeMap::from([("a".to_owned(), vec![(1, 4), (20, 22)])]);
        let (on, off) = divided(&findings, &lines);
        assert_eq!(on, [&findings[0], &findings[2]]);
        assert_eq!(off, [&findings[1], &findings[3], &findings[4]]);
        assert_eq!(divided(&vec![finding("a", Some(1)); 60], &lines).0.len(), MOST_REMARKS);
    }
}
