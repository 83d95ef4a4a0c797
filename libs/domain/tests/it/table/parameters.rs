//! `ai-model:<name>` and `ai-reasoning:<level>`.

use domain::{
    decision::Reason,
    rights::{Permission, ProjectRole},
    stage::Reasoning,
};

use super::{
    Section,
    situation::{Row, labeled, labeled_pull, unlabeled},
};

pub(super) fn sections() -> Vec<Section> {
    vec![
        Section { heading: "`ai-model:*` and `ai-reasoning:*` as they are set", rows: noted() },
        Section { heading: "`ai-model:*` and `ai-reasoning:*` when a run starts", rows: counted() },
    ]
}

fn noted() -> Vec<Row> {
    let model = || labeled("ai-model:large");
    let no = "says no; takes `ai-model:large` off";
    let noted = "remembers who set `ai-model:large`";
    vec![
        model().then("set by somebody with write permission", noted, Reason::ParameterNoted),
        model().closed().then("the issue is closed", noted, Reason::ParameterNoted),
        labeled_pull("ai-model:large").then(
            "set by somebody with write permission",
            noted,
            Reason::ParameterNoted,
        ),
        model().has(Permission::Triage).then(
            "set by somebody with triage permission",
            no,
            Reason::ParameterNotAllowed,
        ),
        model().has(Permission::Triage).role(ProjectRole::Admin).then(
            "set by an admin of the project who has triage permission",
            no,
            Reason::ParameterNotAllowed,
        ),
        model().has_unknown().then(
            "the code host does not tell the permission",
            no,
            Reason::PermissionUnknown,
        ),
        model().ceilings(|c| c.models = Some(["small".to_owned()].into())).then(
            "the operator allows `small` only",
            no,
            Reason::ModelNotAllowed,
        ),
        model().ceilings(|c| c.models = Some(["Large".to_owned()].into())).then(
            "the operator allows it",
            noted,
            Reason::ParameterNoted,
        ),
        model().by_bot().then("set by a bot", "nothing; takes `ai-model:large` off", Reason::BotActor),
        model().own_effect().then("set by the platform itself", "nothing", Reason::OwnEffect),
        labeled("ai-reasoning:high").then(
            "set by somebody with write permission",
            "remembers who set `ai-reasoning:high`",
            Reason::ParameterNoted,
        ),
        labeled("ai-reasoning:much").then(
            "there is no such level",
            "says no; takes `ai-reasoning:much` off",
            Reason::ModelNotAllowed,
        ),
        labeled("ai-reasoning:high").ceilings(|c| c.reasoning = Some(Reasoning::Medium)).then(
            "the operator allows less",
            "says no; takes `ai-reasoning:high` off",
            Reason::ModelNotAllowed,
        ),
        unlabeled("ai-model:large").then("by anybody", "forgets `ai-model:large`", Reason::ParameterNoted),
        unlabeled("ai-model:large").own_effect().then("by the platform itself", "nothing", Reason::OwnEffect),
    ]
}

fn counted() -> Vec<Row> {
    let dev = || labeled("run:dev");
    let no = "says no; takes `run:dev` off";
    let (maia, write, triage) = (Some("maia"), Some(Permission::Write), Some(Permission::Triage));
    vec![
        dev().parameter("ai-model:large", maia, write).then(
            "`ai-model:large` stands, set with write permission",
            "starts `dev` for #7, with `large`; takes `run:dev` off",
            Reason::TriggerLabel,
        ),
        dev()
            .parameter("ai-model:large", maia, write)
            .parameter("ai-reasoning:extra-high", maia, write)
            .then(
                "a model and a level stand, set with write permission",
                "starts `dev` for #7, with `large`, thinking `extra-high`; takes `run:dev` off",
                Reason::TriggerLabel,
            ),
        dev().parameter("ai-model:large", Some("tom"), triage).then(
            "`ai-model:large` stands, set with triage permission",
            no,
            Reason::ParameterNotAllowed,
        ),
        dev().parameter("ai-model:large", None, None).then(
            "`ai-model:large` stands, and nobody knows who set it",
            no,
            Reason::ParameterNotAllowed,
        ),
        dev().parameter("ai-model:large", maia, None).then(
            "`ai-model:large` stands, and its setter's permission is not told",
            no,
            Reason::ParameterNotAllowed,
        ),
        dev().beside(&["ai-model:large"]).then(
            "`ai-model:large` stands, and was never seen being set",
            no,
            Reason::ParameterNotAllowed,
        ),
        dev().parameter("ai-model:large", maia, write).parameter("ai-model:small", maia, write).then(
            "two models stand",
            no,
            Reason::ParameterConflict,
        ),
        dev().parameter("ai-reasoning:low", maia, write).parameter("ai-reasoning:high", maia, write).then(
            "two levels stand",
            no,
            Reason::ParameterConflict,
        ),
        dev()
            .ceilings(|c| c.models = Some(["small".to_owned()].into()))
            .parameter("ai-model:large", maia, write)
            .then(
                "`ai-model:large` stands, and the operator allows `small` only",
                no,
                Reason::ModelNotAllowed,
            ),
        dev()
            .ceilings(|c| c.reasoning = Some(Reasoning::Low))
            .parameter("ai-reasoning:high", maia, write)
            .then("`ai-reasoning:high` stands, and the operator allows less", no, Reason::ModelNotAllowed),
        dev().parameter("ai-reasoning:much", maia, write).then(
            "a level stands that does not exist",
            no,
            Reason::ModelNotAllowed,
        ),
        labeled("run:dev:revise").result("dev", 12).parameter("ai-model:large", maia, write).then(
            "`ai-model:large` stands, set with write permission",
            "revises #12 as `dev` for #7, with `large`; takes `run:dev:revise` off",
            Reason::TriggerLabel,
        ),
    ]
}
