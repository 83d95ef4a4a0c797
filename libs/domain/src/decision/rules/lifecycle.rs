//! Issues that end, pushes, and what happens to repositories.

use super::{Case, Verdict, ask, for_people};
use crate::{
    decision::{Decided, Decision, Reason, RepositoryChange, Thread},
    names::CommitSha,
};

/// An issue that is closed or gone has no runs and no discussion. Whoever may close it may end
/// them.
pub(super) fn issue_ended(case: &mut Case<'_>, on: &Thread, how: &str) -> Verdict<Decided> {
    let record = &case.facts.record;
    let rule = format!("The issue was {how}.");
    let run = record.under_way.as_ref().or(record.behind.as_ref());
    let found = match (run, &record.discussion) {
        (Some(run), _) => format!("run `{}` is", run.id),
        (None, Some(_)) => "a discussion is".to_owned(),
        (None, None) => "nothing is".to_owned(),
    };
    case.trace.rule(
        "Something of the issue is under way",
        found,
        run.is_some() || record.discussion.is_some(),
        || Decided::ignore(Reason::IssueEnded, format!("{rule} Nothing of it was under way.")),
    )?;
    let decision = match run {
        Some(run) => Decision::Cancel { run: Some(run.id.clone()) },
        None => Decision::EndDiscussion { issue: on.number },
    };
    Ok(Decided::new(decision, Reason::IssueEnded, rule, ""))
}

/// The project's files are those of the default branch.
pub(super) fn pushed(
    case: &mut Case<'_>,
    branch: Option<&str>,
    head: Option<&CommitSha>,
) -> Verdict<Decided> {
    ask::standing(case.facts.repository, &mut case.trace)?;
    let default = case.facts.default_branch;
    let it_is = branch.is_some() && branch == default && head.is_some();
    let found = branch.map_or_else(|| "a tag".to_owned(), |branch| format!("`{}`", for_people(branch)));
    case.trace.rule("The default branch has a new head", found, it_is, || {
        Decided::ignore(
            Reason::EventNotUsed,
            "Only a push to the default branch changes the project's rules.",
        )
    })?;
    let rule = "The default branch changed, so the project's files are read anew.";
    Ok(Decided::new(Decision::RefreshPolicy, Reason::PolicyChanged, rule, ""))
}

pub(super) fn installation(case: &mut Case<'_>, action: &str) -> Verdict<Decided> {
    case.trace.note("Installations are taken note of", format!("`{}`", for_people(action)));
    Ok(Decided::ignore(Reason::RepositoryNoted, format!("The App's installation: `{}`.", for_people(action))))
}

pub(super) fn repository(case: &mut Case<'_>, change: &RepositoryChange) -> Verdict<Decided> {
    let rule = match change {
        RepositoryChange::Renamed { from } => {
            format!("The repository was renamed; it was `{}`.", for_people(from))
        }
        RepositoryChange::Transferred { from: Some(from) } => {
            format!("The repository was transferred from `{}`.", for_people(from))
        }
        RepositoryChange::Transferred { from: None } => "The repository was transferred.".to_owned(),
        RepositoryChange::Archived => {
            "The repository was archived: nothing starts until it is taken out again.".to_owned()
        }
        RepositoryChange::Unarchived => "The repository was taken out of the archive.".to_owned(),
        RepositoryChange::Deleted => "The repository was deleted.".to_owned(),
    };
    case.trace.note("What happens to the repository is taken note of", rule.as_str());
    let decision = Decision::NoteRepository { change: change.clone() };
    Ok(Decided::new(decision, Reason::RepositoryNoted, rule, ""))
}
