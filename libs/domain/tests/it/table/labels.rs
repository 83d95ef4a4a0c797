//! Every label but `run:<stage>` and the parameters.

use domain::{
    decision::{Reason, RepositoryStanding, Told},
    rights::Permission,
    run::RunKind,
};

use super::{
    Section,
    situation::{Row, labeled, labeled_pull, unlabeled},
};

pub(super) fn sections() -> Vec<Section> {
    vec![
        Section { heading: "`run:<stage>:revise`", rows: revise() },
        Section { heading: "`need:reviewer`", rows: reviewer() },
        Section { heading: "`mode:discussion`", rows: discussion() },
        Section { heading: "`state:*` and `need:*`", rows: kept() },
        Section { heading: "Labels that start nothing", rows: nothing() },
        Section { heading: "Labels that a delivery told of late, or none", rows: missed() },
    ]
}

fn revise() -> Vec<Row> {
    let pull = || labeled_pull("run:dev:revise");
    let issue = || labeled("run:dev:revise");
    let no = "says no; takes `run:dev:revise` off";
    let yes = "revises #12 as `dev` for #7; takes `run:dev:revise` off";
    vec![
        pull().then("it is one of ours", yes, Reason::TriggerLabel),
        pull().linked_to_none().then(
            "it is one of ours and linked to no issue",
            "revises #12 as `dev` for #12; takes `run:dev:revise` off",
            Reason::TriggerLabel,
        ),
        pull().beside(&["run:plan"]).then("its labels mark another stage", yes, Reason::TriggerLabel),
        pull().not_ours().then("a person opened it", no, Reason::NotOurs),
        pull().in_a_fork().then("its head lives in a fork", no, Reason::ForkHead),
        pull().closed().then("it is closed", no, Reason::IssueClosed),
        pull().has(Permission::Triage).then(
            "set by somebody with triage permission",
            no,
            Reason::NoWritePermission,
        ),
        pull().by_bot().then("set by a bot", "nothing; takes `run:dev:revise` off", Reason::BotActor),
        pull().under_way(RunKind::Review, "review").then(
            "a review of it is under way",
            no,
            Reason::RunUnderWay,
        ),
        pull().standing(RepositoryStanding::Archived).then(
            "the repository is archived",
            "nothing",
            Reason::RepositoryArchived,
        ),
        labeled_pull("run:ai-repair:revise").has(Permission::Admin).then(
            "the stage cannot be revised",
            "says no; takes `run:ai-repair:revise` off",
            Reason::NotRevisable,
        ),
        labeled_pull("run:review:revise").then(
            "it is a stage of reviews",
            "says no; takes `run:review:revise` off",
            Reason::LabelNotATrigger,
        ),
        labeled_pull("run:deb:revise").then(
            "there is no such stage",
            "says no; takes `run:deb:revise` off",
            Reason::UnknownStage,
        ),
        issue().result("dev", 12).then("one pull request of `dev` is open", yes, Reason::TriggerLabel),
        issue().result("dev", 12).result("dev", 13).then(
            "two pull requests of `dev` are open",
            "revises #13 as `dev` for #7; takes `run:dev:revise` off",
            Reason::TriggerLabel,
        ),
        issue().result("dev", 12).result("dev", 13).ended(true).then(
            "the newer of two is merged",
            yes,
            Reason::TriggerLabel,
        ),
        issue().then("no pull request of the issue is open", no, Reason::NoPullRequest),
        issue().result("dev", 12).ended(false).then("its pull request is closed", no, Reason::NoPullRequest),
        issue().result("plan", 12).then("a pull request of another stage is open", no, Reason::NoPullRequest),
        issue().result("dev", 12).closed().then("the issue is closed", no, Reason::IssueClosed),
        issue().result("dev", 12).beside(&["run:plan"]).then(
            "`run:plan` stands, too",
            no,
            Reason::TriggerConflict,
        ),
        labeled("run:qa:revise").result("qa", 14).then(
            "what `qa` requires was there when it started",
            "revises #14 as `qa` for #7; takes `run:qa:revise` off",
            Reason::TriggerLabel,
        ),
        labeled("run:rethink:revise").result("rethink", 14).then(
            "the stage cannot be revised",
            "says no; takes `run:rethink:revise` off",
            Reason::NotRevisable,
        ),
    ]
}

fn reviewer() -> Vec<Row> {
    let need = || labeled_pull("need:reviewer");
    let no = "says no; takes `need:reviewer` off";
    vec![
        need().then(
            "it is one of ours",
            "reviews #12 for #7; takes `need:reviewer` off",
            Reason::TriggerLabel,
        ),
        need().not_ours().then(
            "a person opened it",
            "reviews #12 for #12; takes `need:reviewer` off",
            Reason::TriggerLabel,
        ),
        need().beside(&["run:dev"]).then(
            "a label marks its stage",
            "reviews #12 for #7; takes `need:reviewer` off",
            Reason::TriggerLabel,
        ),
        need().in_a_fork().then("its head lives in a fork", no, Reason::ForkHead),
        need().closed().then("it is closed", no, Reason::IssueClosed),
        need().has(Permission::Triage).then(
            "set by somebody with triage permission",
            no,
            Reason::NoWritePermission,
        ),
        need().has_unknown().then(
            "the code host does not tell the permission",
            no,
            Reason::PermissionUnknown,
        ),
        need().by_bot().then("set by a bot", "nothing; takes `need:reviewer` off", Reason::BotActor),
        need().own_effect().then("set by the platform itself", "nothing", Reason::OwnEffect),
        need().under_way(RunKind::Work, "dev").then(
            "a run is under way",
            "reviews #12 for #7, behind `r1`; takes `need:reviewer` off",
            Reason::TriggerLabel,
        ),
        need().under_way(RunKind::Work, "dev").waiting(RunKind::Review, "review").then(
            "a run is under way and one waits",
            no,
            Reason::AlreadyWaiting,
        ),
        need().stages("review: {enabled: false}").then(
            "the project switched reviews off",
            no,
            Reason::UnknownStage,
        ),
        need().stages("review: {time_limit_minutes: 0}").then(
            "the project's file spoils reviews",
            no,
            Reason::BrokenStage,
        ),
        need().ceilings(|c| c.stages = Some(["dev".to_owned()].into())).then(
            "the operator allows no reviews",
            no,
            Reason::StageNotAllowed,
        ),
        labeled("need:reviewer").then(
            "set by somebody with write permission",
            no,
            Reason::OnlyOnPullRequests,
        ),
    ]
}

fn discussion() -> Vec<Row> {
    let discuss = || labeled("mode:discussion");
    let no = "says no; takes `mode:discussion` off";
    let yes = "answers in the discussion for #7";
    vec![
        discuss().then("set by somebody with write permission", yes, Reason::TriggerLabel),
        discuss().has(Permission::Triage).then(
            "set by somebody with triage permission",
            no,
            Reason::NoWritePermission,
        ),
        discuss().closed().then("the issue is closed", no, Reason::IssueClosed),
        discuss().discussing().then("a discussion is open", "nothing", Reason::AlreadyOpen),
        discuss().under_way(RunKind::Work, "dev").then(
            "a run is under way",
            "answers in the discussion for #7, behind `r1`",
            Reason::TriggerLabel,
        ),
        discuss().under_way(RunKind::Work, "dev").waiting(RunKind::Review, "review").then(
            "a run is under way and one waits",
            no,
            Reason::AlreadyWaiting,
        ),
        discuss().by_bot().then("set by a bot", "nothing; takes `mode:discussion` off", Reason::BotActor),
        discuss().own_effect().then("set by the platform itself", "nothing", Reason::OwnEffect),
        discuss().stages("discussion: {enabled: false}").then(
            "the project switched discussions off",
            no,
            Reason::UnknownStage,
        ),
        labeled_pull("mode:discussion").then(
            "set by somebody with write permission",
            no,
            Reason::NotOnPullRequests,
        ),
        unlabeled("mode:discussion").discussing().then(
            "a discussion is open",
            "ends the discussion",
            Reason::DiscussionEnded,
        ),
        unlabeled("mode:discussion").discussing().has(Permission::Triage).then(
            "a discussion is open, and somebody with triage permission does it",
            "ends the discussion",
            Reason::DiscussionEnded,
        ),
        unlabeled("mode:discussion").then("no discussion is open", "nothing", Reason::LabelNotATrigger),
        unlabeled("mode:discussion").discussing().own_effect().then(
            "by the platform itself",
            "nothing",
            Reason::OwnEffect,
        ),
    ]
}

fn kept() -> Vec<Row> {
    let (approved, review, input) = ("state:approved", "state:in-review", "need:input");
    vec![
        labeled(approved).has(Permission::Triage).then(
            "nothing is approved, and somebody with triage permission sets it",
            "takes `state:approved` off",
            Reason::LabelPutBack,
        ),
        labeled(approved).has(Permission::Admin).then(
            "nothing is approved, and an admin sets it",
            "takes `state:approved` off",
            Reason::LabelPutBack,
        ),
        labeled("State:Approved").then(
            "nothing is approved, and it is written otherwise",
            "takes `State:Approved` off",
            Reason::LabelPutBack,
        ),
        labeled_pull(approved).then(
            "nothing is approved",
            "takes `state:approved` off",
            Reason::LabelPutBack,
        ),
        labeled(approved).kept(&[approved]).then("a result is approved", "nothing", Reason::LabelNotATrigger),
        labeled(approved).own_effect().then("set by the platform itself", "nothing", Reason::OwnEffect),
        labeled(approved).by_bot().then(
            "nothing is approved, and a bot sets it",
            "takes `state:approved` off",
            Reason::LabelPutBack,
        ),
        unlabeled(approved).kept(&[approved]).then(
            "a result is approved",
            "puts `state:approved` back",
            Reason::LabelPutBack,
        ),
        unlabeled(approved).then("nothing is approved", "nothing", Reason::LabelNotATrigger),
        unlabeled(approved).kept(&[approved]).own_effect().then(
            "by the platform itself",
            "nothing",
            Reason::OwnEffect,
        ),
        labeled(review).then(
            "no pull request is in review",
            "takes `state:in-review` off",
            Reason::LabelPutBack,
        ),
        unlabeled(review).kept(&[review]).then(
            "a pull request is in review",
            "puts `state:in-review` back",
            Reason::LabelPutBack,
        ),
        labeled(input).then("the platform waits for nothing", "takes `need:input` off", Reason::LabelPutBack),
        unlabeled(input).kept(&[input]).then(
            "the platform waits for an answer",
            "puts `need:input` back",
            Reason::LabelPutBack,
        ),
        labeled("state:blocked").then("it belongs to people", "nothing", Reason::LabelNotATrigger),
        labeled("state:superseded").then("it belongs to people", "nothing", Reason::LabelNotATrigger),
        unlabeled("state:abandoned").then("it belongs to people", "nothing", Reason::LabelNotATrigger),
        labeled("need:pm").then("it belongs to people", "nothing", Reason::LabelNotATrigger),
        unlabeled("need:qa").then("it belongs to people", "nothing", Reason::LabelNotATrigger),
    ]
}

fn nothing() -> Vec<Row> {
    vec![
        labeled("bug").then("always", "nothing", Reason::LabelNotATrigger),
        labeled("run:").then("no stage follows", "nothing", Reason::LabelNotATrigger),
        labeled("running:dev").then("it only begins alike", "nothing", Reason::LabelNotATrigger),
        unlabeled("bug").then("always", "nothing", Reason::LabelNotATrigger),
        unlabeled("run:dev").then("nothing is under way", "nothing", Reason::LabelNotATrigger),
        unlabeled("run:dev").under_way(RunKind::Work, "dev").then(
            "its run is under way",
            "nothing",
            Reason::LabelNotATrigger,
        ),
        unlabeled("run:dev:revise").then("always", "nothing", Reason::LabelNotATrigger),
        unlabeled("need:reviewer").then("always", "nothing", Reason::LabelNotATrigger),
    ]
}

fn missed() -> Vec<Row> {
    let dev = |told| labeled("run:dev").told(told);
    let no = "says no; takes `run:dev` off";
    vec![
        dev(Told::History).then(
            "the issue's history tells who set it",
            "starts `dev` for #7; takes `run:dev` off",
            Reason::TriggerLabel,
        ),
        dev(Told::History).has(Permission::Read).then(
            "the history tells that somebody with read permission set it",
            no,
            Reason::NoWritePermission,
        ),
        dev(Told::History).by_bot().then(
            "the history tells that a bot set it",
            "nothing; takes `run:dev` off",
            Reason::BotActor,
        ),
        dev(Told::History).own_effect().then(
            "the history tells of a change of the platform's own",
            "nothing",
            Reason::OwnEffect,
        ),
        dev(Told::HistoryEdited).then(
            "the history tells who set it, and the text may have been changed since",
            no,
            Reason::EditedSince,
        ),
        dev(Told::HistoryEdited).has(Permission::Read).then(
            "the history tells that somebody with read permission set it, and the text may have been changed since",
            no,
            Reason::NoWritePermission,
        ),
        labeled_pull("need:reviewer").told(Told::HistoryEdited).then(
            "the history tells who set it, and the text may have been changed since",
            "says no; takes `need:reviewer` off",
            Reason::EditedSince,
        ),
        labeled_pull("run:dev:revise").told(Told::LateEdited).then(
            "its delivery came late, and the text of its issue may have been changed since",
            "says no; takes `run:dev:revise` off",
            Reason::EditedSince,
        ),
        dev(Told::Nobody).then("the history does not tell who set it", no, Reason::SetterUnknown),
        dev(Told::Twice).then("it was decided on before", "nothing", Reason::DecidedBefore),
    ]
}
