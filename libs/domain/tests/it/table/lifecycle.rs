//! What happens to pull requests, issues, branches and repositories.

use domain::{
    decision::{InstallationChange, Reason, RepositoryChange, RepositoryStanding},
    rights::Permission,
    run::RunKind,
};

use super::{
    Section,
    situation::{
        Row, commit, installation, issue_closed, issue_deleted, issue_transferred, other, pull_closed,
        pull_reopened, pushed, repository, synchronized,
    },
};

pub(super) fn sections() -> Vec<Section> {
    vec![
        Section { heading: "Pull requests", rows: pull_requests() },
        Section { heading: "Issues that end", rows: issues() },
        Section { heading: "Pushes", rows: pushes() },
        Section { heading: "Repositories", rows: repositories() },
        Section { heading: "Installations of the App", rows: installations() },
    ]
}

fn pull_requests() -> Vec<Row> {
    let back = "takes the approval of #12 back";
    vec![
        synchronized().approved('1', 3).then("another head was approved", back, Reason::NewHead),
        synchronized().approved('1', 3).own_effect().then(
            "another head was approved, and a run of ours made the new one",
            back,
            Reason::NewHead,
        ),
        synchronized().approved('1', 3).by_nobody().then(
            "another head was approved, and nobody is named",
            back,
            Reason::NewHead,
        ),
        synchronized().approved('2', 3).then("the same head was approved", "nothing", Reason::EventNotUsed),
        synchronized().then("nothing was approved", "nothing", Reason::EventNotUsed),
        synchronized().not_ours().then("a person opened it", "nothing", Reason::EventNotUsed),
        pull_closed(true).result("dev", 12).then(
            "it is one of ours",
            "records #12 as merged",
            Reason::Merged,
        ),
        pull_reopened().result("dev", 12).then(
            "it is a result of ours",
            "records #12 as open again",
            Reason::PullRequestReopened,
        ),
        pull_reopened().not_ours().then("it is none of ours", "nothing", Reason::NotOurs),
        pull_closed(false).result("dev", 12).then(
            "it is one of ours",
            "records #12 as closed",
            Reason::PullRequestClosed,
        ),
        pull_closed(true).result("dev", 12).under_way(RunKind::Revise, "dev").then(
            "it is one of ours, and a run goes on with it",
            "records #12 as merged",
            Reason::Merged,
        ),
        pull_closed(true).not_ours().then("a person opened it", "nothing", Reason::NotOurs),
        pull_closed(true).not_ours().under_way(RunKind::Review, "review").then(
            "a person opened it, and a review of it is under way",
            "cancels `r1`",
            Reason::Merged,
        ),
        pull_closed(false).not_ours().under_way(RunKind::Review, "review").then(
            "a person opened it, and a review of it is under way",
            "cancels `r1`",
            Reason::PullRequestClosed,
        ),
    ]
}

fn issues() -> Vec<Row> {
    let (work, discussion) = (RunKind::Work, RunKind::Discussion);
    vec![
        issue_closed().under_way(work, "dev").then("a run is under way", "cancels `r1`", Reason::IssueEnded),
        issue_closed().under_way(work, "dev").has(Permission::Read).then(
            "a run is under way, and the issue's author closes it",
            "cancels `r1`",
            Reason::IssueEnded,
        ),
        issue_closed().under_way(work, "dev").waiting(RunKind::Review, "review").then(
            "a run is under way and one waits",
            "cancels `r1`",
            Reason::IssueEnded,
        ),
        issue_closed().discussing().under_way(discussion, "discussion").then(
            "a discussion's answer is under way",
            "cancels `r1`",
            Reason::IssueEnded,
        ),
        issue_closed().discussing().then("a discussion is open", "ends the discussion", Reason::IssueEnded),
        issue_closed().then("nothing is under way", "nothing", Reason::IssueEnded),
        issue_closed().result("dev", 12).then("a pull request of it is open", "nothing", Reason::IssueEnded),
        issue_deleted().under_way(work, "dev").then("a run is under way", "cancels `r1`", Reason::IssueEnded),
        issue_deleted().then("nothing is under way", "nothing", Reason::IssueEnded),
        issue_transferred().under_way(work, "dev").then(
            "a run is under way",
            "cancels `r1`",
            Reason::IssueEnded,
        ),
        issue_transferred().discussing().then(
            "a discussion is open",
            "ends the discussion",
            Reason::IssueEnded,
        ),
    ]
}

fn pushes() -> Vec<Row> {
    let anew = "reads the project's files anew";
    vec![
        pushed(Some("main"), Some(commit('3'))).then("it is the default branch", anew, Reason::PolicyChanged),
        pushed(Some("main"), Some(commit('3'))).own_effect().then(
            "it is the default branch, and the platform did it",
            anew,
            Reason::PolicyChanged,
        ),
        pushed(Some("feature"), Some(commit('3'))).then(
            "it is another branch",
            "nothing",
            Reason::EventNotUsed,
        ),
        pushed(Some("main"), None).then("the branch was deleted", "nothing", Reason::EventNotUsed),
        pushed(None, Some(commit('3'))).then("always", "nothing", Reason::EventNotUsed),
        pushed(Some("main"), Some(commit('3'))).default_branch_unknown().then(
            "the default branch is not known yet",
            "nothing",
            Reason::EventNotUsed,
        ),
        pushed(Some("main"), Some(commit('3'))).standing(RepositoryStanding::Disabled).then(
            "the repository left the configuration",
            "nothing",
            Reason::RepositoryDisabled,
        ),
    ]
}

fn installations() -> Vec<Row> {
    let asks = "takes note, and asks what the App reaches now";
    [
        ("the App is installed", InstallationChange::Created),
        ("the App is removed", InstallationChange::Deleted),
        ("the App is suspended", InstallationChange::Suspended),
        ("the App is unsuspended", InstallationChange::Unsuspended),
        ("the App's permissions are changed", InstallationChange::PermissionsAccepted),
        ("the App is given more repositories", InstallationChange::RepositoriesAdded),
        ("the App is left fewer repositories", InstallationChange::RepositoriesRemoved),
    ]
    .map(|(when, change)| installation(when, "octocat", change).then("always", asks, Reason::RepositoryNoted))
    .into()
}

fn repositories() -> Vec<Row> {
    let renamed = RepositoryChange::Renamed { from: "old-name".to_owned() };
    let transferred = RepositoryChange::Transferred { from: Some("old-owner".to_owned()) };
    vec![
        repository("the repository is renamed", renamed).then(
            "always",
            "takes note",
            Reason::RepositoryNoted,
        ),
        repository("the repository is transferred", transferred).then(
            "always",
            "takes note",
            Reason::RepositoryNoted,
        ),
        repository("the repository is archived", RepositoryChange::Archived).then(
            "always",
            "takes note",
            Reason::RepositoryNoted,
        ),
        repository("the repository is unarchived", RepositoryChange::Unarchived)
            .standing(RepositoryStanding::Archived)
            .then("it was archived", "takes note", Reason::RepositoryNoted),
        repository("the repository is deleted", RepositoryChange::Deleted).then(
            "always",
            "takes note",
            Reason::RepositoryNoted,
        ),
        repository("the repository is made private", RepositoryChange::MadePrivate).then(
            "always",
            "takes note",
            Reason::RepositoryNoted,
        ),
        repository("the repository is made public", RepositoryChange::MadePublic).then(
            "always",
            "takes note",
            Reason::RepositoryNoted,
        ),
        other().then("always", "nothing", Reason::EventNotUsed),
    ]
}
