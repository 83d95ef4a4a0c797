//! Commands, and words in a discussion.

use domain::{
    decision::{Reason, RepositoryStanding},
    rights::{Permission, ProjectRole},
    run::RunKind,
};

use super::{
    Section,
    situation::{Row, commented, commented_pull},
};

pub(super) fn sections() -> Vec<Section> {
    vec![
        Section { heading: "What is a command, and whose", rows: reading() },
        Section { heading: "`/callboard run`", rows: starting() },
        Section { heading: "`/callboard cancel`, `retry`, `status`, `explain`", rows: asking() },
        Section { heading: "A comment in an open discussion", rows: talking() },
    ]
}

fn reading() -> Vec<Row> {
    let dev = || commented("/callboard run dev");
    vec![
        commented("Thanks!").then("no discussion is open", "nothing", Reason::NoCommand),
        commented("> /callboard run dev").then("it is a quote", "nothing", Reason::NoCommand),
        commented("Write `/callboard run dev` for that.").then("it is code", "nothing", Reason::NoCommand),
        commented("```\n/callboard run dev\n```").then("it is a block of code", "nothing", Reason::NoCommand),
        commented("- /callboard run dev").then("it is a list", "nothing", Reason::NoCommand),
        commented("Hi <!--\n/callboard run dev\n-->").then("it is hidden", "nothing", Reason::NoCommand),
        commented("please /callboard run dev").then(
            "it does not begin its line",
            "nothing",
            Reason::NoCommand,
        ),
        commented("Nice.\n/callboard run dev").then(
            "it is a line of its own",
            "starts `dev` for #7",
            Reason::CommentCommand,
        ),
        commented("/callboard rnu dev").then("it does not read", "says no", Reason::UnknownCommand),
        commented("/callboard make coffee").then(
            "it does not read and resembles nothing",
            "says no",
            Reason::UnknownCommand,
        ),
        commented("/callboard run dev\n/callboard cancel").then(
            "there are two",
            "says no",
            Reason::UnknownCommand,
        ),
        commented("/callboard rnu dev").has(Permission::Read).then(
            "it does not read, and is written by somebody with read permission",
            "nothing",
            Reason::NoWritePermission,
        ),
        dev().by("eve").then("somebody else sent the event", "nothing", Reason::NoCommand),
        dev().by_nobody().then("the event does not say by whom", "nothing", Reason::NoCommand),
        dev().own_effect().then("by the platform itself", "nothing", Reason::OwnEffect),
        dev().by_bot().then("by a bot", "nothing", Reason::BotActor),
        dev().by_bot().listed().then(
            "by a bot that the configuration lists",
            "starts `dev` for #7",
            Reason::CommentCommand,
        ),
        dev().standing(RepositoryStanding::Disabled).then(
            "the repository left the configuration",
            "nothing",
            Reason::RepositoryDisabled,
        ),
    ]
}

fn starting() -> Vec<Row> {
    let dev = || commented("/callboard run dev");
    let revise = "/callboard run dev revise";
    vec![
        dev().then("by somebody with write permission", "starts `dev` for #7", Reason::CommentCommand),
        dev().beside(&["run:plan"]).then("`run:plan` stands", "starts `dev` for #7", Reason::CommentCommand),
        dev().has(Permission::Triage).then(
            "by somebody with triage permission",
            "says no",
            Reason::NoWritePermission,
        ),
        dev().has(Permission::Read).then(
            "by somebody with read permission",
            "nothing",
            Reason::NoWritePermission,
        ),
        dev().has(Permission::Read).role(ProjectRole::Operator).then(
            "by an operator of the project with read permission",
            "says no",
            Reason::NoWritePermission,
        ),
        dev().has_unknown().then(
            "the code host does not tell the permission",
            "nothing",
            Reason::PermissionUnknown,
        ),
        dev().closed().then("the issue is closed", "says no", Reason::IssueClosed),
        dev().under_way(RunKind::Work, "plan").then("a run is under way", "says no", Reason::RunUnderWay),
        dev().discussing().under_way(RunKind::Discussion, "discussion").then(
            "a discussion's answer is under way",
            "starts `dev` for #7, in place of `r1`",
            Reason::CommentCommand,
        ),
        dev().parameter("ai-model:large", Some("maia"), Some(Permission::Write)).then(
            "`ai-model:large` stands, set with write permission",
            "starts `dev` for #7, with `large`",
            Reason::CommentCommand,
        ),
        dev().parameter("ai-model:large", Some("tom"), Some(Permission::Triage)).then(
            "`ai-model:large` stands, set with triage permission",
            "says no",
            Reason::ParameterNotAllowed,
        ),
        commented("/callboard run deb").then("there is no such stage", "says no", Reason::UnknownStage),
        commented("/callboard run qa").then("`dev` has no result here", "says no", Reason::NotYet),
        commented("/callboard run review").then(
            "reviews start in another way",
            "says no",
            Reason::LabelNotATrigger,
        ),
        commented_pull("/callboard run dev").then("it is one of ours", "says no", Reason::NotOnPullRequests),
        commented_pull("/callboard run dev").in_a_fork().then(
            "its head lives in a fork",
            "says no",
            Reason::ForkHead,
        ),
        commented(revise).result("dev", 12).then(
            "a pull request of `dev` is open",
            "revises #12 as `dev` for #7",
            Reason::CommentCommand,
        ),
        commented(revise).then("no pull request is open", "says no", Reason::NoPullRequest),
        commented_pull(revise).then(
            "it is one of ours",
            "revises #12 as `dev` for #7",
            Reason::CommentCommand,
        ),
        commented_pull(revise).not_ours().then("a person opened it", "says no", Reason::NotOurs),
    ]
}

fn asking() -> Vec<Row> {
    let cancel = || commented("/callboard cancel");
    let retry = || commented("/callboard retry");
    let work = RunKind::Work;
    vec![
        cancel().under_way(work, "dev").then("a run is under way", "cancels `r1`", Reason::CommentCommand),
        cancel().under_way(work, "dev").waiting(RunKind::Review, "review").then(
            "a run is under way and one waits",
            "cancels `r1`",
            Reason::CommentCommand,
        ),
        cancel().under_way(work, "dev").has(Permission::Triage).then(
            "a run is under way, and somebody with triage permission writes it",
            "cancels `r1`",
            Reason::CommentCommand,
        ),
        cancel().under_way(work, "dev").has(Permission::Read).role(ProjectRole::Operator).then(
            "a run is under way, and an operator of the project writes it",
            "cancels `r1`",
            Reason::CommentCommand,
        ),
        cancel().under_way(work, "dev").has(Permission::Read).role(ProjectRole::Viewer).then(
            "a run is under way, and a viewer of the project writes it",
            "says no",
            Reason::NoWritePermission,
        ),
        cancel().under_way(work, "dev").has(Permission::Read).then(
            "a run is under way, and somebody with read permission writes it",
            "nothing",
            Reason::NoWritePermission,
        ),
        cancel().then("nothing is under way", "says no", Reason::NoRun),
        commented_pull("/callboard cancel").under_way(RunKind::Revise, "dev").then(
            "a run goes on with it",
            "cancels `r1`",
            Reason::CommentCommand,
        ),
        retry().last_final(work, "dev").then(
            "a run of `dev` is over",
            "starts `dev` for #7, as `r0` again",
            Reason::CommentCommand,
        ),
        retry().last_final(RunKind::Revise, "dev").then(
            "a revision is over",
            "revises #12 as `dev` for #7, as `r0` again",
            Reason::CommentCommand,
        ),
        commented_pull("/callboard retry").last_final(RunKind::Review, "review").then(
            "a review of it is over",
            "reviews #12 for #7, as `r0` again",
            Reason::CommentCommand,
        ),
        retry().last_final(work, "dev").has(Permission::Triage).then(
            "a run is over, and somebody with triage permission writes it",
            "says no",
            Reason::NoWritePermission,
        ),
        retry().last_final(work, "dev").under_way(work, "plan").then(
            "another run is under way",
            "says no",
            Reason::RunUnderWay,
        ),
        retry().last_final(work, "gone").then("its stage is gone", "says no", Reason::UnknownStage),
        retry().last_final(RunKind::Revise, "dev").stages("dev: {revise: false}").then(
            "its stage can no longer be revised",
            "says no",
            Reason::NotRevisable,
        ),
        retry().last_final(RunKind::Discussion, "discussion").then(
            "an answer in a discussion is over, and the discussion, too",
            "says no",
            Reason::NoRun,
        ),
        retry().last_final(RunKind::Discussion, "discussion").discussing().then(
            "an answer in an open discussion is over",
            "answers in the discussion for #7, as `r0` again",
            Reason::CommentCommand,
        ),
        commented_pull("/callboard retry").last_final(work, "dev").then(
            "the run that opened it is over",
            "says no",
            Reason::NotOnPullRequests,
        ),
        retry().then("no run is over", "says no", Reason::NoRun),
        commented("/callboard status").has(Permission::Triage).then(
            "by somebody with triage permission",
            "answers with the status",
            Reason::CommentCommand,
        ),
        commented("/callboard status").has(Permission::Read).then(
            "by somebody with read permission",
            "nothing",
            Reason::NoWritePermission,
        ),
        commented("/callboard status").has(Permission::Read).role(ProjectRole::Viewer).then(
            "by a viewer of the project",
            "answers with the status",
            Reason::CommentCommand,
        ),
        commented("/callboard status").closed().then(
            "the issue is closed",
            "answers with the status",
            Reason::CommentCommand,
        ),
        commented("/callboard explain").then(
            "by somebody with write permission",
            "answers with what was decided",
            Reason::CommentCommand,
        ),
        commented_pull("/callboard explain").not_ours().then(
            "a person opened it",
            "answers with what was decided",
            Reason::CommentCommand,
        ),
    ]
}

fn talking() -> Vec<Row> {
    let talk = || commented("And what about errors?").discussing().beside(&["mode:discussion"]);
    let answer = RunKind::Discussion;
    vec![
        talk().then(
            "by somebody with write permission",
            "answers in the discussion for #7",
            Reason::DiscussionComment,
        ),
        talk().under_way(answer, "discussion").then(
            "an answer is under way",
            "answers in the discussion for #7, behind `r1`",
            Reason::DiscussionComment,
        ),
        talk().under_way(answer, "discussion").waiting(answer, "discussion").then(
            "an answer is under way and one waits",
            "nothing",
            Reason::AlreadyWaiting,
        ),
        talk().has(Permission::Read).then(
            "by somebody with read permission",
            "nothing",
            Reason::NoWritePermission,
        ),
        talk().has_unknown().then(
            "the code host does not tell the permission",
            "nothing",
            Reason::PermissionUnknown,
        ),
        talk().closed().then("the issue is closed", "nothing", Reason::IssueClosed),
        talk().by_bot().then("by a bot", "nothing", Reason::BotActor),
        talk().own_effect().then("it is the platform's answer", "nothing", Reason::OwnEffect),
        talk().by("eve").then("somebody else sent the event", "nothing", Reason::NoCommand),
        talk().admission(|a| a.actor_today = (100, 100)).then(
            "the actor had enough today",
            "says no",
            Reason::TooMany,
        ),
        talk().stages("discussion: {enabled: false}").then(
            "the project switched discussions off meanwhile",
            "says no",
            Reason::UnknownStage,
        ),
        commented("/callboard run dev").discussing().beside(&["mode:discussion"]).then(
            "a discussion is open",
            "starts `dev` for #7",
            Reason::CommentCommand,
        ),
        commented_pull("And what about errors?").discussing().then(
            "a discussion is open on its issue",
            "nothing",
            Reason::NoCommand,
        ),
    ]
}
