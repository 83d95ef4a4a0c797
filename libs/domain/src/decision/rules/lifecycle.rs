//! Issues that end, pushes, and what happens to repositories.

use super::{Case, Verdict, ask, for_people};
use crate::{
    decision::{Decided, Decision, Installation, InstallationChange, Reason, RepositoryChange, Thread},
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

/// What the App reaches is asked of the code host then; the event says only that it changed.
pub(super) fn installation(case: &mut Case<'_>, installation: &Installation) -> Verdict<Decided> {
    let account = installation.account.as_deref().map(for_people);
    let account = account.map_or_else(|| "an account".to_owned(), |account| format!("`{account}`"));
    let number = case.event.installation;
    let found = number.map_or_else(|| "it is not told which".to_owned(), |number| format!("{number}"));
    case.trace.rule("It is told which installation", found, number.is_some(), || {
        Decided::ignore(Reason::NoRepository, "The delivery names no installation.")
    })?;
    let change = installation.change;
    let (rule, remedy) = match change {
        InstallationChange::Created => (format!("The App was installed in {account}."), String::new()),
        InstallationChange::Deleted => (
            format!(
                "The App was removed from {account}: nothing starts in its repositories, and what is under way waits."
            ),
            format!("Install the App in {account} again; what waits goes on then."),
        ),
        InstallationChange::Suspended => (
            format!(
                "The App was suspended in {account}: nothing starts in its repositories, and what is under way waits."
            ),
            format!("Unsuspend it on the page of the installation in {account}; what waits goes on then."),
        ),
        InstallationChange::Unsuspended => {
            (format!("The App may work in {account} again: what waited goes on."), String::new())
        }
        InstallationChange::PermissionsAccepted => {
            (format!("The App's permissions in {account} were changed."), String::new())
        }
        InstallationChange::RepositoriesAdded => {
            (format!("The App reaches more repositories of {account}."), String::new())
        }
        InstallationChange::RepositoriesRemoved => (
            format!(
                "The App reaches fewer repositories of {account}: in those that are left out nothing starts, and what is under way waits."
            ),
            "Where that was not meant, add them on the page of the installation; what waits goes on then."
                .to_owned(),
        ),
    };
    case.trace.note("What happens to installations is taken note of", rule.as_str());
    Ok(Decided::new(Decision::NoteInstallation { change }, Reason::RepositoryNoted, rule, remedy))
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
            "The repository was archived: nothing starts until it is taken out again, and what is under way waits."
                .to_owned()
        }
        RepositoryChange::Unarchived => "The repository was taken out of the archive.".to_owned(),
        RepositoryChange::MadePrivate => "The repository was made private.".to_owned(),
        RepositoryChange::MadePublic => "The repository was made public.".to_owned(),
        RepositoryChange::Deleted => "The repository was deleted: its runs are over.".to_owned(),
    };
    case.trace.note("What happens to the repository is taken note of", rule.as_str());
    let decision = Decision::NoteRepository { change: change.clone() };
    Ok(Decided::new(decision, Reason::RepositoryNoted, rule, ""))
}
