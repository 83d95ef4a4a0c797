//! Reviews by people.

use domain::{
    decision::{
        Reason,
        ReviewVerdict::{Approved, ChangesRequested, Commented},
    },
    rights::{Permission, ProjectRole},
    run::RunKind,
};

use super::{
    Section,
    situation::{Row, commit, dismissed, reviewed},
};

pub(super) fn sections() -> Vec<Section> {
    vec![
        Section { heading: "A review requests changes", rows: changes() },
        Section { heading: "A review approves", rows: approvals() },
        Section { heading: "A review is dismissed, or only comments", rows: others() },
    ]
}

fn changes() -> Vec<Row> {
    let review = || reviewed(ChangesRequested);
    let dev = || review().last_of_pull(RunKind::Work, "dev");
    let yes = "revises #12 as `dev` for #7";
    let unclear = "says no; sets `need:input`";
    vec![
        review().beside(&["run:dev"]).then("its labels mark the stage", yes, Reason::ChangesRequested),
        review().beside(&["run:dev:revise", "run:dev"]).then(
            "its labels mark the stage twice",
            yes,
            Reason::ChangesRequested,
        ),
        review().issue_stages(&["dev"]).then(
            "the issue's labels mark the stage",
            yes,
            Reason::ChangesRequested,
        ),
        dev().then("the last run on it tells the stage", yes, Reason::ChangesRequested),
        review().last_of_pull(RunKind::Revise, "dev").then(
            "the last revision of it tells the stage",
            yes,
            Reason::ChangesRequested,
        ),
        review().last_of_issue(RunKind::Work, "dev").then(
            "the last work on the issue tells the stage",
            yes,
            Reason::ChangesRequested,
        ),
        review().beside(&["run:dev"]).issue_stages(&["plan"]).last_of_pull(RunKind::Work, "qa").then(
            "its labels say `dev`, the issue's `plan`, the last run `qa`",
            yes,
            Reason::ChangesRequested,
        ),
        review().issue_stages(&["dev"]).last_of_pull(RunKind::Work, "qa").then(
            "the issue's labels say `dev`, the last run `qa`",
            yes,
            Reason::ChangesRequested,
        ),
        review().last_of_pull(RunKind::Review, "review").last_of_issue(RunKind::Work, "dev").then(
            "the last run on it was a review of ours",
            yes,
            Reason::ChangesRequested,
        ),
        review().beside(&["run:dev", "run:plan"]).then(
            "its labels mark two stages",
            unclear,
            Reason::StageAmbiguous,
        ),
        review().issue_stages(&["dev", "plan"]).then(
            "the issue's labels mark two stages",
            unclear,
            Reason::StageAmbiguous,
        ),
        review().then("neither labels nor runs tell the stage", unclear, Reason::StageAmbiguous),
        dev().linked_to_none().then(
            "it is linked to no issue",
            "revises #12 as `dev` for #12",
            Reason::ChangesRequested,
        ),
        dev().has(Permission::Read).then(
            "by somebody with read permission",
            "nothing",
            Reason::NoWritePermission,
        ),
        dev().has(Permission::Triage).role(ProjectRole::Approver).then(
            "by an approver of the project with triage permission",
            "nothing",
            Reason::NoWritePermission,
        ),
        dev().has_unknown().then(
            "the code host does not tell the permission",
            "says no",
            Reason::PermissionUnknown,
        ),
        dev().not_ours().then("a person opened the pull request", "nothing", Reason::NotOurs),
        dev().closed().then("the pull request is closed", "nothing", Reason::IssueClosed),
        dev().under_way(RunKind::Revise, "dev").then("a run is under way", "says no", Reason::RunUnderWay),
        dev().stages("dev: {second_trigger: queue}").under_way(RunKind::Revise, "dev").then(
            "a run is under way, and the stage waits",
            "revises #12 as `dev` for #7, behind `r1`",
            Reason::ChangesRequested,
        ),
        review().has(Permission::Admin).last_of_pull(RunKind::Work, "ai-repair").then(
            "the stage cannot be revised",
            "says no",
            Reason::NotRevisable,
        ),
        dev().stages("dev: {time_limit_minutes: 0}").then(
            "the project's file spoils the stage",
            "says no",
            Reason::BrokenStage,
        ),
        dev().stages("dev: {start: maintain}").then(
            "the stage takes a maintainer, and the reviewer has write permission",
            "says no",
            Reason::NoWritePermission,
        ),
        dev().admission(|a| a.chain = (20, 20)).then(
            "too many runs led one to the other",
            "says no",
            Reason::ChainTooLong,
        ),
        dev().by_bot().then("by a bot", "nothing", Reason::BotActor),
        dev().by_bot().listed().then("by a bot that the configuration lists", yes, Reason::ChangesRequested),
        dev().own_effect().then("by the platform itself", "nothing", Reason::OwnEffect),
    ]
}

fn approvals() -> Vec<Row> {
    let review = || reviewed(Approved).has(Permission::Maintain);
    let yes = "records #12 as approved at 2222222, by maintain";
    let four_eyes = "dev: {four_eyes: true}";
    vec![
        review().then("by a maintainer", yes, Reason::ReviewApproved),
        review().has(Permission::Admin).then(
            "by an admin",
            "records #12 as approved at 2222222, by admin",
            Reason::ReviewApproved,
        ),
        review().has(Permission::Read).role(ProjectRole::Approver).then(
            "by an approver of the project with read permission",
            "records #12 as approved at 2222222, by approver",
            Reason::ReviewApproved,
        ),
        review().has_unknown().role(ProjectRole::Approver).then(
            "by an approver of the project, and the permission is not told",
            "records #12 as approved at 2222222, by approver",
            Reason::ReviewApproved,
        ),
        review().has(Permission::Write).then(
            "by somebody with write permission",
            "nothing",
            Reason::NoApproveRight,
        ),
        review().has(Permission::Write).role(ProjectRole::Operator).then(
            "by an operator of the project with write permission",
            "nothing",
            Reason::NoApproveRight,
        ),
        review().has(Permission::Read).then(
            "by somebody with read permission",
            "nothing",
            Reason::NoApproveRight,
        ),
        review().has_unknown().then(
            "the code host does not tell the permission",
            "nothing",
            Reason::PermissionUnknown,
        ),
        review().asked_by("mona").then("by who asked for the result", yes, Reason::ReviewApproved),
        review().stages(four_eyes).asked_by("Mona").then(
            "by who asked for the result, and the stage takes a second person",
            "says no",
            Reason::OwnResult,
        ),
        review().stages(four_eyes).asked_by("mona").result("dev", 12).then(
            "by who asked for the work that somebody else had revised, and the stage takes a second person",
            "says no",
            Reason::OwnResult,
        ),
        review().stages(four_eyes).then(
            "the stage takes a second person, and it is one",
            yes,
            Reason::ReviewApproved,
        ),
        review().about(Some(commit('1'))).then("it is about an older head", "says no", Reason::StaleReview),
        review().about(None).then("it does not say about which head", "says no", Reason::StaleReview),
        review().approved('2', 9).then("another approval stands already", yes, Reason::ReviewApproved),
        review().result("dev", 12).then(
            "a revision's result stands behind it, too",
            yes,
            Reason::ReviewApproved,
        ),
        review().stages("dev: {enabled: false}").then(
            "the stage was switched off meanwhile",
            yes,
            Reason::ReviewApproved,
        ),
        review().under_way(RunKind::Revise, "dev").then("a run is under way", yes, Reason::ReviewApproved),
        review().not_ours().then("a person opened the pull request", "nothing", Reason::NotOurs),
        review().closed().then("the pull request is closed", "nothing", Reason::IssueClosed),
        review().by_bot().then("by a bot", "nothing", Reason::BotActor),
        review().own_effect().then("by the platform itself", "nothing", Reason::OwnEffect),
    ]
}

fn others() -> Vec<Row> {
    vec![
        dismissed().approved('2', 3).then(
            "its approval stands",
            "takes the approval of #12 back",
            Reason::ReviewDismissed,
        ),
        dismissed().approved('2', 4).then(
            "another review's approval stands",
            "nothing",
            Reason::EventNotUsed,
        ),
        dismissed().then("no approval stands", "nothing", Reason::EventNotUsed),
        dismissed().not_ours().then("a person opened the pull request", "nothing", Reason::EventNotUsed),
        reviewed(Commented).then("always", "nothing", Reason::EventNotUsed),
        reviewed(Commented).not_ours().then(
            "a person opened the pull request",
            "nothing",
            Reason::EventNotUsed,
        ),
    ]
}
