//! `run:<stage>` and `run:<stage>:preview`.

use domain::{
    decision::{Reason, RepositoryStanding},
    rights::{Permission, ProjectRole},
    run::RunKind,
};

use super::{
    Section,
    situation::{Row, labeled, labeled_pull},
};

const DEV: &str = "starts `dev` for #7; takes `run:dev` off";
const NO: &str = "says no; takes `run:dev` off";

pub(super) fn sections() -> Vec<Section> {
    vec![
        Section { heading: "`run:<stage>`: who, where, and which stage", rows: who_and_where() },
        Section { heading: "`run:<stage>`: what else stands or is under way", rows: beside() },
        Section { heading: "`run:<stage>`: what must be true first, and how much is enough", rows: entry() },
        Section { heading: "`run:<stage>:preview`", rows: previews() },
    ]
}

fn who_and_where() -> Vec<Row> {
    let dev = || labeled("run:dev");
    let translate =
        "translate: {description: Translates, role: km, write_scope: [\"docs/**\"], time_limit_minutes: 30}";
    vec![
        dev().then("set by somebody with write permission", DEV, Reason::TriggerLabel),
        dev().has(Permission::Maintain).then("set by a maintainer", DEV, Reason::TriggerLabel),
        dev().has(Permission::Admin).then("set by an admin", DEV, Reason::TriggerLabel),
        dev().has(Permission::Triage).then(
            "set by somebody with triage permission",
            NO,
            Reason::NoWritePermission,
        ),
        dev().has(Permission::Read).then(
            "set by somebody with read permission",
            NO,
            Reason::NoWritePermission,
        ),
        dev().has(Permission::None).then("set by somebody with no permission", NO, Reason::NoWritePermission),
        dev().has(Permission::Triage).role(ProjectRole::Admin).then(
            "set by an admin of the project who has triage permission",
            NO,
            Reason::NoWritePermission,
        ),
        dev().has_unknown().then("the code host does not tell the permission", NO, Reason::PermissionUnknown),
        labeled("Run:Dev").then(
            "written otherwise",
            "starts `dev` for #7; takes `Run:Dev` off",
            Reason::TriggerLabel,
        ),
        dev().own_effect().then("set by the platform itself", "nothing", Reason::OwnEffect),
        dev().by_nobody().then("the event does not say by whom", "nothing", Reason::NoActor),
        dev().by_bot().then("set by a bot", "nothing; takes `run:dev` off", Reason::BotActor),
        dev().by_bot().listed().then("set by a bot that the configuration lists", DEV, Reason::TriggerLabel),
        dev().by_bot().listed().has(Permission::Read).then(
            "set by a listed bot with read permission",
            "nothing; takes `run:dev` off",
            Reason::NoWritePermission,
        ),
        dev().standing(RepositoryStanding::Disabled).then(
            "the repository left the configuration",
            "nothing",
            Reason::RepositoryDisabled,
        ),
        dev().standing(RepositoryStanding::Archived).then(
            "the repository is archived",
            "nothing",
            Reason::RepositoryArchived,
        ),
        dev().standing(RepositoryStanding::NoAccess).then(
            "the code host does not let the platform at the repository",
            "nothing",
            Reason::RepositoryNoAccess,
        ),
        dev().standing(RepositoryStanding::Gone).then(
            "the repository was transferred or deleted",
            "nothing",
            Reason::RepositoryGone,
        ),
        dev().closed().then("the issue is closed", NO, Reason::IssueClosed),
        labeled_pull("run:dev").then("it is one of ours", NO, Reason::NotOnPullRequests),
        labeled_pull("run:dev").not_ours().then("a person opened it", NO, Reason::NotOnPullRequests),
        labeled_pull("run:dev").in_a_fork().then("its head lives in a fork", NO, Reason::ForkHead),
        labeled("run:deb").then(
            "there is no such stage, but one that is written alike",
            "says no; takes `run:deb` off",
            Reason::UnknownStage,
        ),
        labeled("run:deploy-all").then(
            "there is no such stage",
            "says no; takes `run:deploy-all` off",
            Reason::UnknownStage,
        ),
        labeled("run:dev plan").then(
            "there is no such stage, and it could not have that name",
            "says no; takes `run:dev plan` off",
            Reason::UnknownStage,
        ),
        labeled("run:translate").stages(translate).then(
            "it is a stage of the project's own",
            "starts `translate` for #7; takes `run:translate` off",
            Reason::TriggerLabel,
        ),
        labeled("run:translate")
            .stages(
                "translate: {description: Translates, role: km, write_scope: [], time_limit_minutes: long}",
            )
            .then(
                "the project's file spoils the stage",
                "says no; takes `run:translate` off",
                Reason::BrokenStage,
            ),
        dev().stages("translate: {time_limit_minutes: long}").then(
            "the project's file spoils another stage",
            DEV,
            Reason::TriggerLabel,
        ),
        labeled("run:translate").file("version: 1\nstages: [\n").then(
            "the project's file does not read",
            "says no; takes `run:translate` off",
            Reason::UnknownStage,
        ),
        dev().file("version: 1\nstages: [\n").then(
            "the project's file does not read, and `dev` comes with the product",
            DEV,
            Reason::TriggerLabel,
        ),
        dev().stages("dev: {enabled: false}").then(
            "the project switched the stage off",
            NO,
            Reason::UnknownStage,
        ),
        dev().ceilings(|c| c.stages = Some(["plan".to_owned(), "qa".to_owned()].into())).then(
            "the operator allows other stages only",
            NO,
            Reason::StageNotAllowed,
        ),
        labeled("run:review").then(
            "reviews start in another way",
            "says no; takes `run:review` off",
            Reason::LabelNotATrigger,
        ),
        labeled("run:discussion").then(
            "discussions start in another way",
            "says no; takes `run:discussion` off",
            Reason::LabelNotATrigger,
        ),
        labeled("go-dev").file("version: 1\nlabels: {run: go-}\n").then(
            "the project calls its labels otherwise",
            "starts `dev` for #7; takes `go-dev` off",
            Reason::TriggerLabel,
        ),
        dev().file("version: 1\nlabels: {run: go-}\n").then(
            "the project calls its labels otherwise, and this is the product's name",
            "nothing",
            Reason::LabelNotATrigger,
        ),
        labeled("run:ai-repair").then(
            "set by somebody with write permission",
            "says no; takes `run:ai-repair` off",
            Reason::NoWritePermission,
        ),
        labeled("run:ai-repair").has(Permission::Maintain).then(
            "set by a maintainer",
            "starts `ai-repair` for #7; takes `run:ai-repair` off",
            Reason::TriggerLabel,
        ),
        dev().ceilings(|c| c.start = Some(Permission::Admin)).has(Permission::Maintain).then(
            "the operator asks for admin permission, and a maintainer sets it",
            NO,
            Reason::NoWritePermission,
        ),
    ]
}

fn beside() -> Vec<Row> {
    let dev = || labeled("run:dev");
    let queue = "dev: {second_trigger: queue}";
    let supersede = "dev: {second_trigger: supersede}";
    let (work, review, discussion) = (RunKind::Work, RunKind::Review, RunKind::Discussion);
    vec![
        dev().beside(&["run:plan"]).then("`run:plan` stands, too", NO, Reason::TriggerConflict),
        dev().beside(&["run:plan", "bug", "run:qa"]).then(
            "`run:plan` and `run:qa` stand, too",
            NO,
            Reason::TriggerConflict,
        ),
        dev().beside(&["run:dev:revise"]).then("`run:dev:revise` stands, too", NO, Reason::TriggerConflict),
        dev().beside(&["run:nonsense"]).then(
            "a `run:` label of no stage stands, too",
            NO,
            Reason::TriggerConflict,
        ),
        dev().beside(&["run:plan:preview", "need:pm", "state:blocked", "bug"]).then(
            "a preview and labels that start nothing stand, too",
            DEV,
            Reason::TriggerLabel,
        ),
        dev().beside(&["run:plan"]).under_way(work, "plan").then(
            "`run:plan` stands only because it is not taken off yet",
            NO,
            Reason::RunUnderWay,
        ),
        dev().under_way(work, "plan").then("a run is under way", NO, Reason::RunUnderWay),
        dev().under_way(work, "dev").then("a run of the same stage is under way", NO, Reason::RunUnderWay),
        dev().under_way(review, "review").then(
            "a review of its pull request is under way",
            NO,
            Reason::RunUnderWay,
        ),
        dev().stages(queue).under_way(work, "plan").then(
            "a run is under way, and the stage waits",
            "starts `dev` for #7, behind `r1`; takes `run:dev` off",
            Reason::TriggerLabel,
        ),
        dev().stages(queue).under_way(work, "plan").waiting(work, "qa").then(
            "a run is under way, one waits, and the stage would wait",
            NO,
            Reason::AlreadyWaiting,
        ),
        dev().stages(supersede).under_way(work, "plan").then(
            "a run is under way, and the stage supersedes",
            "starts `dev` for #7, in place of `r1`; takes `run:dev` off",
            Reason::TriggerLabel,
        ),
        dev().stages(supersede).under_way(work, "plan").waiting(work, "qa").then(
            "a run is under way, one waits, and the stage would supersede",
            NO,
            Reason::AlreadyWaiting,
        ),
        dev().discussing().then(
            "a discussion is open and nothing of it under way",
            DEV,
            Reason::TriggerLabel,
        ),
        dev().discussing().under_way(discussion, "discussion").then(
            "a discussion's answer is under way",
            "starts `dev` for #7, in place of `r1`; takes `run:dev` off",
            Reason::TriggerLabel,
        ),
        dev().discussing().under_way(discussion, "discussion").waiting(discussion, "discussion").then(
            "a discussion's answer is under way and another waits",
            "starts `dev` for #7, in place of `r1`; takes `run:dev` off",
            Reason::TriggerLabel,
        ),
        dev().discussing().under_way(discussion, "discussion").waiting(review, "review").then(
            "a discussion's answer is under way and a review waits",
            NO,
            Reason::RunUnderWay,
        ),
        dev().beside(&["mode:discussion"]).discussing().under_way(discussion, "discussion").then(
            "set to end the discussion",
            "starts `dev` for #7, in place of `r1`; takes `run:dev` off",
            Reason::TriggerLabel,
        ),
    ]
}

fn entry() -> Vec<Row> {
    let dev = || labeled("run:dev");
    let qa = || labeled("run:qa");
    let release = || labeled("run:release");
    let starts_qa = "starts `qa` for #7; takes `run:qa` off";
    let no_qa = "says no; takes `run:qa` off";
    let no_release = "says no; takes `run:release` off";
    let starts_release = "starts `release` for #7; takes `run:release` off";
    let merged = "release: {requires: [{stage: dev, is: merged}]}";
    vec![
        qa().then("`dev` has no result here", no_qa, Reason::NotYet),
        qa().result("dev", 12).then("`dev` is published", starts_qa, Reason::TriggerLabel),
        qa().result("dev", 12).ended(true).then("`dev` is merged", starts_qa, Reason::TriggerLabel),
        qa().result("dev", 12).ended(false).then(
            "the pull request of `dev` was closed",
            no_qa,
            Reason::NotYet,
        ),
        qa().result("plan", 12).then("another stage is published", no_qa, Reason::NotYet),
        qa().result("dev", 12).ended(false).result("dev", 13).then(
            "one pull request of `dev` was closed and another is open",
            starts_qa,
            Reason::TriggerLabel,
        ),
        release().result("dev", 12).then("`dev` is published and not approved", no_release, Reason::NotYet),
        release().result("dev", 12).approved('2', 3).then(
            "`dev` is approved",
            starts_release,
            Reason::TriggerLabel,
        ),
        release().result("dev", 12).approved('1', 3).then(
            "`dev` was approved at an older head",
            no_release,
            Reason::NotYet,
        ),
        release().result("dev", 12).ended(true).then(
            "`dev` is merged and was never approved",
            no_release,
            Reason::NotYet,
        ),
        release().result("dev", 12).approved('2', 3).ended(true).then(
            "`dev` is approved and merged",
            starts_release,
            Reason::TriggerLabel,
        ),
        release().result("dev", 12).beside(&["state:approved"]).then(
            "somebody put `state:approved` on by hand",
            no_release,
            Reason::NotYet,
        ),
        release().stages(merged).result("dev", 12).approved('2', 3).then(
            "the project asks for a merged result, and it is approved only",
            no_release,
            Reason::NotYet,
        ),
        release().stages(merged).result("dev", 12).ended(true).then(
            "the project asks for a merged result, and it is",
            starts_release,
            Reason::TriggerLabel,
        ),
        dev().admission(|a| a.actor_today = (99, 100)).then(
            "the actor has one run left today",
            DEV,
            Reason::TriggerLabel,
        ),
        dev().admission(|a| a.actor_today = (100, 100)).then(
            "the actor had enough today",
            NO,
            Reason::TooMany,
        ),
        dev().admission(|a| a.repository_today = (500, 500)).then(
            "the repository had enough today",
            NO,
            Reason::TooMany,
        ),
        dev().admission(|a| a.of_issue = (100, 100)).then("the issue had enough", NO, Reason::TooMany),
        dev().admission(|a| a.chain = (20, 20)).then(
            "too many runs led one to the other",
            NO,
            Reason::ChainTooLong,
        ),
    ]
}

fn previews() -> Vec<Row> {
    let preview = || labeled("run:dev:preview");
    let shows = "shows what starting `dev` would do; takes `run:dev:preview` off";
    let no = "says no; takes `run:dev:preview` off";
    vec![
        preview().then("`dev` would start", shows, Reason::PreviewLabel),
        preview().has(Permission::Triage).then(
            "set by somebody with triage permission",
            no,
            Reason::NoWritePermission,
        ),
        preview().has_unknown().then(
            "the code host does not tell the permission",
            no,
            Reason::PermissionUnknown,
        ),
        preview().closed().then("the issue is closed", no, Reason::IssueClosed),
        preview().under_way(RunKind::Work, "plan").then("a run is under way", no, Reason::RunUnderWay),
        preview().beside(&["run:plan"]).then("`run:plan` stands, too", no, Reason::TriggerConflict),
        preview().by_bot().then("set by a bot", "nothing; takes `run:dev:preview` off", Reason::BotActor),
        labeled("run:qa:preview").then(
            "`dev` has no result here",
            "says no; takes `run:qa:preview` off",
            Reason::NotYet,
        ),
        labeled("run:none:preview").then(
            "there is no such stage",
            "says no; takes `run:none:preview` off",
            Reason::UnknownStage,
        ),
        labeled_pull("run:dev:preview").then("it is one of ours", no, Reason::NotOnPullRequests),
        preview().own_effect().then("set by the platform itself", "nothing", Reason::OwnEffect),
    ]
}
